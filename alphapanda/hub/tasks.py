"""Tasks with an owner: none is lost, none is forgotten, and their faults are told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from alphapanda import logs


class Tasks:
    """Tasks with an owner: none is lost, none is forgotten, and their faults are told."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self.log = logs.channel("application")

    def add(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do it beside."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def rounds(self, work: Callable[[], Awaitable[None]], pause: float) -> None:
        """Do it again and again."""
        while True:
            try:
                await work()
            except Exception as error:  # the hub outlives a fault of its own in one of its rounds
                self.log.exception("hub.fault", error=error)
            await asyncio.sleep(pause)

    async def close(self) -> None:
        """End them all."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.log.error("hub.fault", error=error)

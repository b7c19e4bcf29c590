"""From the tape log to the bus: frames that are kept leave in order, and nobody waits for a server that is away.

While the server does not answer the log goes on growing and frames are let go of here; readers that find a number
missing take it from the log. So a frame is tried once: what a lost answer hides can neither come twice nor too late.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from random import Random

from alphapanda import logs
from alphapanda.buses.frames import Frame
from alphapanda.buses.ticks import TickWriter
from alphapanda.errors import RedisError, RetryPolicy

HELD = 64  # frames that wait to be published, at most
BATCH = 16  # frames of one round trip
RETRY = RetryPolicy(delay_first=0.1, delay_max=2.0)


class Outbox:
    """Frames on their way. ``failures`` counts attempts that failed, ``unsent`` frames left to the log."""

    def __init__(self, writer: TickWriter, topics: Sequence[str]) -> None:
        self.failures = self.unsent = self.sent = 0
        self.fault = ""  # why the last attempt failed; "" when it did not
        self._writer, self._topics = writer, topics
        self._frames: deque[Frame] = deque()
        self._filled, self._drained = asyncio.Event(), asyncio.Event()
        self._drained.set()
        self._draws = Random()  # spreads the pauses; nothing is decided on it
        self._log = logs.channel("error")

    def put(self, frames: Sequence[Frame]) -> None:
        """Send these when possible; the oldest are let go of where too many wait."""
        self._frames.extend(frames)
        while len(self._frames) > HELD:
            self._frames.popleft()
            self.unsent += 1
        self._filled.set()
        if len(self._frames) > HELD // 2:
            self._drained.clear()

    async def room(self, seconds: float) -> bool:
        """Wait until a few frames more can be put and none be let go of; False when that took too long."""
        if not self._drained.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), seconds)
        return self._drained.is_set()

    async def run(self) -> None:
        """Send for ever."""
        attempt = 0
        while True:
            await self._filled.wait()
            batch = [self._frames.popleft() for _ in range(min(BATCH, len(self._frames)))]
            if not self._frames:
                self._filled.clear()
            if len(self._frames) <= HELD // 2:
                self._drained.set()
            if not batch:
                continue
            try:
                await self._writer.publish(batch, self._topics)
            except RedisError as error:
                attempt += 1
                self.failures += 1
                self.unsent += len(batch)
                self.fault = error.message
                if attempt == 1:
                    self._log.error("feed.publish_failed", error=error.message, frame=batch[0].number)
                await asyncio.sleep(RETRY.delay(attempt, self._draws.random()))
            else:
                self.sent += len(batch)
                if attempt:
                    self._log.warning("feed.publish_resumed", failures=attempt, frame=batch[0].number)
                attempt, self.fault = 0, ""

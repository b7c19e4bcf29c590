"""What every process under the hub has in common: it ends with its parent, says when it is ready, shows it lives."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from alphapanda import logs
from alphapanda.buses.redis import RedisBus
from alphapanda.clock import monotonic, wall_ns
from alphapanda.errors import AlphaPandaException, PermanentError, RedisError
from alphapanda.events import Topics
from alphapanda.processes import CONFIGURATION, HEALTH_SECONDS, rss_mb
from alphapanda.server import address
from alphapanda.settings import Settings
from alphapanda.workspace import Workspace

FAULT = 1  # exit code of what may go better with the next try


def lived(role: str, life: Callable[[], object]) -> int:
    """Live a child's life and return its exit code; what ended it goes to the log, and as one line to the hub."""
    try:
        life()
    except AlphaPandaException as error:
        logs.channel("error").error(f"{role}.failed", error=error.message, fix=error.fix, code=error.code)
        sys.stderr.write(f"{error.message} [{error.code}]{error.fix and '; '}{error.fix}\n")
        return CONFIGURATION if isinstance(error, PermanentError) else FAULT
    except Exception as error:  # noqa: BLE001 - the process's last stop: the hub reads the line and starts another
        logs.channel("error").exception(f"{role}.failed")
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return FAULT
    return 0


def own_workspace(role: str, arguments: Sequence[str] | None = None) -> Workspace:
    """The one argument of ``python -m alphapanda.ROLE WORKSPACE``."""
    parser = argparse.ArgumentParser(prog=f"python -m alphapanda.{role}")
    parser.add_argument("workspace", type=Path)
    return Workspace(parser.parse_args(arguments).workspace)


class Child:
    """One process under the hub.

    ``ended`` is set when it has to go: its standard input has closed (the hub is gone), or it was told so by a signal.
    Lines on standard input before that are handed to ``hear``.
    """

    def __init__(self, workspace: Workspace, role: str, namespace: str = "") -> None:
        self.workspace = workspace
        self.role = role
        os.chdir(workspace.root)
        self.settings = Settings.load()
        logs.configure(workspace, self.settings, role.partition(":")[0], namespace)
        self.ended = asyncio.Event()
        self.started = wall_ns()
        self.hear: Callable[[str], None] = lambda line: None
        self._loop = asyncio.get_running_loop()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._loop.add_signal_handler(signal.SIGTERM, self.ended.set)
        threading.Thread(target=self._listen, daemon=True, name="stdin").start()

    def _listen(self) -> None:
        for line in sys.stdin:
            self._loop.call_soon_threadsafe(self._heard, line.strip())
        self._loop.call_soon_threadsafe(self.ended.set)

    def _heard(self, line: str) -> None:
        self.hear(line)

    def bus(self) -> RedisBus:
        """The bus, which connects when first used."""
        return RedisBus.of(address(self.workspace, self.settings), self.settings.redis)

    async def connect(self) -> RedisBus:
        """The bus, once the server answers; it is waited for as long as the process is wanted."""
        while True:
            bus = self.bus()
            try:
                await bus.last(Topics.CLOCK)
            except RedisError:
                await bus.close()
                await self.rest(0.2)
                if self.ended.is_set():
                    raise
            else:
                return bus

    def ready(self) -> None:
        """Tell the hub that we serve."""
        sys.stdout.write("ready\n")
        sys.stdout.flush()

    async def rest(self, seconds: float) -> None:
        """Sleep, but no longer than until we have to go."""
        try:
            async with asyncio.timeout(seconds):
                await self.ended.wait()
        except TimeoutError:
            pass

    async def beat(self, bus: RedisBus, state: Callable[[], dict[str, Any]], every: float = 1.0) -> None:
        """Show every second that we live; ``state`` adds what is to be known of the role."""
        missed = False
        while not self.ended.is_set():
            began = monotonic()
            facts = {
                "role": self.role, "pid": os.getpid(), "at": wall_ns(), "started": self.started,
                "rss_mb": rss_mb(), **state(),
            }  # fmt: skip
            try:
                await bus.client.set(f"health:{self.role}", msgspec.json.encode(facts), ex=HEALTH_SECONDS)
            except Exception as error:  # noqa: BLE001 - whatever the client raises, a heartbeat is only missed
                if not missed:
                    logs.channel("application").warning("heartbeat.missed", error=str(error))
                missed = True
            else:
                missed = False
            await self.rest(max(0.0, began + every - monotonic()))

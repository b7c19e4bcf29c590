"""Writing frames to the bus, and reading them back: all of them, in order, each once.

What the bus no longer has, the tape log does: a reader that was away for an hour, or whose server forgot everything,
goes on without a gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from alphapanda.buses.frames import Assembler, Frame, split
from alphapanda.buses.tapelog import TapeLog
from alphapanda.events import Topics

if TYPE_CHECKING:
    from alphapanda.buses.base import Bus

KEPT = 4_096  # messages of each tick topic that the server holds; the log has the rest
REFILL = 256  # frames read from the log at a time


class TickWriter:
    """Puts frames on the topics of their instruments."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def publish(self, frames: Sequence[Frame], topics: Sequence[str]) -> None:
        """``topics`` names the topic of every instrument of the feed's table. Raises RedisError as the bus does."""
        items = [item for frame in frames for item in split(frame, topics, Topics.CLOCK)]
        await self._bus.publish_all(items, bound=KEPT)


class TickReader:
    """Everything after frame ``after``; from the log until the bus has what comes next."""

    def __init__(self, bus: Bus, log: TapeLog, after: int = 0) -> None:
        self._bus = bus
        self._log = log
        self._assembler = Assembler(after)
        self._offsets: dict[str, str] = {}
        self.refilled = 0  # frames that came from the log

    @property
    def after(self) -> int:
        """The number of the last frame handed out."""
        return self._assembler.expected - 1

    async def read(self, timeout: float = 0.2) -> list[Frame]:
        """The next frames, [] when none came within ``timeout`` seconds. The log is asked first at the start, and
        whenever the bus has something later than what is expected."""
        assembler = self._assembler
        if not self._offsets:
            offsets = {topic: await self._bus.last(topic) for topic in (*Topics.market(), Topics.CLOCK)}
            if found := self._refill():
                return found
            self._offsets = offsets
        messages = await self._bus.read(self._offsets, timeout=timeout)
        for message in messages:
            self._offsets[message.topic] = message.offset
            assembler.add(message.body)
        frames = assembler.take()
        if not frames and assembler.missing:
            return self._refill()
        return frames

    def reset(self) -> None:
        """The bus may have forgotten everything: look at the log again, then at what the bus has now."""
        self._offsets = {}

    def _refill(self) -> list[Frame]:
        assembler = self._assembler
        for frame in self._log.read(assembler.expected - 1, REFILL):
            assembler.put(frame)
            self.refilled += 1
        return assembler.take()

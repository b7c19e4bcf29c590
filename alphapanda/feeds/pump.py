"""The feed at work: sources → sequencer → tape log → outbox, every fiftieth of a second or as fast as readers follow.

Rules. A frame is in the log before it is in the outbox; where the disk refuses it, nothing more is read from any source
until it does not. Tape time moves only while frames are made: it stands still while the process is stopped, and after a
restart goes on where the log ends. Silence is broken by a heartbeat every half second.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from alphapanda import logs
from alphapanda.buses.tapelog import TapeLog, Writer
from alphapanda.clock import monotonic, wall_ns
from alphapanda.errors import ConfigurationError, RedisError
from alphapanda.events import MINUTE, SECOND, Ints, ist, ist_day
from alphapanda.feeds.base import Day, Playback, Universe
from alphapanda.feeds.outbox import Outbox
from alphapanda.feeds.sequencer import ROWS_MAX, Sequencer
from alphapanda.feeds.services import Services
from alphapanda.feeds.views import Views
from alphapanda.workspace import replace_file

FLUSH = 0.05  # seconds between two frames while ticks come
SILENCE = 0.5  # seconds without a frame before a heartbeat
STALL = 1.0  # seconds that tape time may catch up after the process was held up
LEAD = 200_000  # rows ahead of the slowest reader, where readers set the pace
ASK = 0.02  # seconds between two looks at how far readers are
DISK = 0.5  # seconds before another try to write to a full disk


class Place(msgspec.Struct, frozen=True):
    """Where in the log the playback's newest day begins: ``key`` names it, ``frame`` and ``row`` what was before."""

    key: str = ""
    frame: int = 0
    row: int = 0

    @classmethod
    def read(cls, path: Path) -> Place:
        """The place that was kept; an empty one where none was, or it cannot be read."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except (OSError, msgspec.DecodeError):
            return cls()


class Pace:
    """Tape time as a multiple of real time."""

    def __init__(self, speed: float, tape: int, now: float) -> None:
        self._speed, self._tape, self._now = speed, tape, now

    def at(self, now: float) -> int:
        """Tape time at the monotonic time ``now``."""
        self._tape += round(min(now - self._now, STALL) * self._speed * SECOND)
        self._now = now
        return self._tape


class Pump:
    """Plays a playback and whatever the venues hear. ``state`` is waiting, running or ended.

    Without a playback tape time is ``wall`` (ns UTC): what venues hear is all there is.
    """

    def __init__(
        self,
        folder: Path,
        playback: Playback | None,
        services: Services,
        universe: Universe,
        outbox: Outbox,
        views: Views,
        *,
        speed: float,
        wait_for_runs: int = 0,
        finished: Callable[[], None] = lambda: None,
        wall: Callable[[], int] = wall_ns,
    ) -> None:
        self.writer = Writer(folder)
        universe.add(self.writer.instruments)
        self.sequencer = Sequencer(self.writer.number, self.writer.rows, self.writer.clock)
        self.state = "waiting"
        self.faults: dict[str, str] = {}  # what is wrong now, by what it is wrong with
        self.day: Day | None = None
        self.played: frozenset[str] = frozenset()
        self.heard = 0.0  # monotonic time of the playback's newest row
        self._folder, self._playback, self._services, self._universe = folder, playback, services, universe
        self._outbox, self._views = outbox, views
        self._speed, self._wait, self._finished, self._wall = speed, wait_for_runs, finished, wall
        self._place = Place.read(folder / "place.json")
        self._flushed = monotonic()
        self._free_rows, self._asked = 0, 0.0
        self._log = logs.channel("application")

    async def run(self) -> None:
        """Play to the end of the playback, then only what venues hear."""
        if self._playback is None:
            await self._live()
            return
        for day in self._playback.days(self.writer.clock, self._place.key):
            if self.state == "waiting":
                await self._runs(day)
            try:
                await self._play(day)
            finally:
                day.close()
            self._finished()
        self.state = "ended"
        self._log.info("feed.ended", rows=self.sequencer.rows, clock=self.sequencer.clock)
        pace = Pace(1.0, self.sequencer.clock, monotonic())
        while True:
            now = pace.at(monotonic())
            self._listen(now)
            if self.sequencer.pending:
                await self._flush(now)
            await self._flush(self.sequencer.clock)
            await asyncio.sleep(FLUSH)

    async def _live(self) -> None:
        """What venues hear in the time of ``wall``. Where that goes back, tape time stands until it is caught up with.

        Raises ConfigurationError when the log holds a later time: it was written by another source.
        """
        if self.sequencer.clock > self._wall() + MINUTE:
            raise ConfigurationError(
                f"this workspace has seen {ist(self.sequencer.clock):%Y-%m-%d %H:%M} and the venue's time is "
                f"{ist(self._wall()):%Y-%m-%d %H:%M}: tape time does not go back",
                fix="use an empty folder: set ALPHAPANDA_HOME; or let the venue begin later than that: "
                "alphapanda sandbox --start",
                code="E_TAPE_ORDER",
            )
        self.state = "running"
        while True:
            now = max(self.sequencer.clock, self._wall())
            if self.sequencer.clock and ist_day(now) != ist_day(self.sequencer.clock):
                self._finished()
            self._listen(now)
            await self._flush(now)
            await asyncio.sleep(FLUSH)

    async def _runs(self, day: Day) -> None:
        """Publish nothing before so many runs have subscribed; a day that was begun needs no second start."""
        while day.key != self._place.key:
            try:
                if len(await self._views.readers(wall_ns())) >= self._wait:
                    return
            except RedisError:
                if not self._wait:
                    return
            await asyncio.sleep(FLUSH)

    async def _play(self, day: Day) -> None:
        lookup = self._universe.add(day.instruments)
        day.place(lookup)
        if day.key == self._place.key:
            day.skip(self._published(lookup))
        else:
            self._place = Place(day.key, self.writer.number, self.writer.rows)
            await self._durably(
                lambda: replace_file(self._folder / "place.json", msgspec.json.encode(self._place))
            )
        self.day, self.state, self.heard = day, "running", monotonic()
        self.played = frozenset(one.symbol for one in day.instruments)
        self._log.info("feed.day", key=day.key, row=self.sequencer.rows, frame=self.sequencer.number)
        if self._speed:
            await self._timed(day)
        else:
            await self._free(day)
        await self._flush(day.closes, force=True)
        self.day = None

    async def _timed(self, day: Day) -> None:
        begin = monotonic()
        pace = Pace(self._speed, max(self.sequencer.clock, day.opens), begin)
        while True:
            now = pace.at(monotonic())
            for block in day.until(now):
                self.sequencer.add(block)
                self.heard = monotonic()
            if day.exhausted:
                return
            self._listen(now)
            await self._flush(now)
            begin = max(begin + FLUSH, monotonic())
            await asyncio.sleep(begin - monotonic())

    async def _free(self, day: Day) -> None:
        while not day.exhausted:
            if not (await self._outbox.room(SILENCE) and await self._followed()):
                await self._flush(self.sequencer.clock)
                await asyncio.sleep(ASK)
                continue
            clock = self.sequencer.clock
            for _ in range(8):
                if (block := day.take(ROWS_MAX)) is None:
                    break
                self.sequencer.add(block)
                clock = int(block.ts[-1])
            self.heard = monotonic()
            self._listen(clock)
            await self._flush(clock)

    def _listen(self, clock: int) -> None:
        for rows, wall in self._services.drain():
            self.sequencer.add_live(rows, wall=wall, clock=clock)

    async def _followed(self) -> bool:
        """Readers are close enough behind, or there are none."""
        now = monotonic()
        if now - self._asked >= ASK:
            self._asked = now
            try:
                slowest = min(await self._views.readers(wall_ns()), default=None)
            except RedisError as error:
                self.faults["readers"], self._free_rows = error.message, 0
                return False
            self.faults.pop("readers", None)
            self._free_rows = 2**62 if slowest is None else slowest + LEAD
        return self.sequencer.rows + 8 * ROWS_MAX <= self._free_rows

    async def _flush(self, clock: int, *, force: bool = False) -> None:
        now = monotonic()
        if not (self.sequencer.pending or force or now - self._flushed >= SILENCE):
            return
        self._flushed = now
        frames = self.sequencer.flush(clock, len(self._universe))
        if len(self._universe) > len(self.writer.instruments):
            await self._durably(lambda: self.writer.widen(self._universe.instruments))
        for frame in frames:
            await self._durably(lambda: self.writer.append(frame))  # noqa: B023 - called before the next round
        self._outbox.put(frames)
        self._services.count([frame.block for frame in frames], now)
        await asyncio.sleep(0)

    async def _durably(self, write: Callable[[], None]) -> None:
        """Write, however long the disk takes to have room again: what is not kept is not published."""
        while True:
            try:
                write()
            except OSError as error:
                if "disk" not in self.faults:
                    logs.channel("error").error("feed.disk", error=str(error))
                self.faults["disk"] = f"the tape log cannot be written: {error.strerror}"
                await asyncio.sleep(DISK)
            else:
                self.faults.pop("disk", None)
                return

    def _published(self, lookup: Ints) -> int:
        """How many of the day's rows the log holds: venues' rows lie among them."""
        mine = np.zeros(len(self._universe), bool)
        mine[lookup] = True
        if all(mine[n] or topic != "market.crypto.ticks" for n, topic in enumerate(self._universe.topics)):
            return self.writer.rows - self._place.row
        with contextlib.closing(TapeLog(self._folder)) as log:
            frames = log.read(self._place.frame)
            return sum(int(mine[frame.block.instrument].sum()) for frame in frames)

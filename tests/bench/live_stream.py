"""Ticks a second from a recorded tape through feed, server and runners' ``on_tick``, and what each process does for it.

``python -m tests.bench.live_stream parts --ticks N --frame ROWS`` takes the way apart: the same frames, stage after
stage, in one process beside one server.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from alphapanda.account import Account
from alphapanda.buses.frames import Assembler, Frame, split
from alphapanda.buses.redis import RedisBus
from alphapanda.buses.tapelog import TapeLog, Writer
from alphapanda.buses.ticks import TickWriter
from alphapanda.clock import monotonic, pause
from alphapanda.day import LAST
from alphapanda.engine import Engine
from alphapanda.events import Topics
from alphapanda.feeds import sequencer
from alphapanda.feeds.outbox import BATCH
from alphapanda.gateway import limits_of
from alphapanda.lane import Lane
from alphapanda.playing import joined
from alphapanda.requests import Place
from alphapanda.rulebook import Rulebook
from alphapanda.server import Server
from alphapanda.settings import Settings
from alphapanda.tapes.readers import tape as read_tape
from alphapanda.traders.paper import PaperTrader
from alphapanda.workspace import Workspace
from tests.bench.child import ChildFailed, Result, tell
from tests.bench.live_rig import FULL_FRAME, LiveRig, Watch, folder, per_tick, pressure, tape, use, wait
from tests.bench.live_strategies import Count

LOOK = 0.05  # seconds between two looks
MARGIN = 0.08  # of the rows at either end are not counted: engines start, the last frames trickle
AT_ONCE = 8_192  # rows that a runner plays at once when it is behind
STAGES = ("tape", "append", "publish", "server", "read", "unpack", "engine", "lane")


def stream(path: Path, rows: int, runners: int, frame: int = FULL_FRAME) -> Result:
    """Play a tape to so many runs at once.

    ``rate`` is the slowest run's, ``of_cores`` what two cores would do if nobody else wanted them: two seconds of
    processor time over what all processes together need for a tick. ``cpu`` by role in ns a tick of the tape.
    """
    settings = {"FEED__SOURCE": "tape", "FEED__TAPE": path, "FEED__SPEED": 0, "FEED__WAIT_FOR_RUNS": runners}
    with folder() as root, LiveRig(root, frame=frame, **settings) as rig:
        runs = [rig.run(Count(), name=f"Count{n}") for n in range(runners)]
        wait(lambda: len(rig.readers()) == runners, 60, "every run reads")
        watch = Watch(rig)
        strain, began = pressure(), monotonic()

        def over() -> bool:
            far = watch.look()
            return len(far) == runners and min(far.values()) >= rows - 1

        low, high = int(rows * MARGIN), int(rows * (1 - MARGIN))
        wait(over, 60 + rows / 10_000, f"{runs} have played {rows:,} rows: {rig.readers()}", LOOK)
        strain = (pressure() - strain) / 1e6 / (monotonic() - began)
        for _ in range(20):
            pause(LOOK)
            watch.look()
        rates, begin, end = watch.span(low, high)
        uses, played = watch.used(begin, end), watch.rows_between(begin, end)
        seen = [rig.document(f"paper:runner:{run}").get("ticks") for run in runs]
        if seen != [rows] * runners:
            raise ChildFailed(f"runs saw {seen} ticks of {rows:,}")
        cpu = per_tick(uses, played)
        seconds = (end - begin) / 1e9
        return {
            "rate": min(rates.values()),
            "together": sum(rates.values()),
            "of_cores": 2e9 / sum(cpu.values()),
            "of_runner": runners * 1e9 / cpu["runner"],
            "cpu": cpu,
            "waited": {role: one.waited / seconds for role, one in uses.items()},
            "busy": {role: one.cpu / seconds for role, one in uses.items()},
            "strain_share": strain,
        }


# ── the way, taken apart ─────────────────────────────────────────────────────────────────────────────────────────


class Stage:
    """Processor time of this process and of the server, by stage."""

    def __init__(self, rows: int, server: int) -> None:
        self.spent: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        self._rows, self._server = rows, server

    async def timed(self, name: str, work: Callable[[], Awaitable[Any]]) -> None:
        """Add what this takes; the server's part stands under ``server``."""
        before, server = time.process_time(), use(self._server).cpu
        await work()
        self.spent[name] += (time.process_time() - before) / self._rows * 1e9
        self.spent["server"] += (use(self._server).cpu - server) / self._rows * 1e9


async def parts(rows: int, frame: int) -> Result:
    """Nanoseconds of processor time a tick in each stage, frames of ``frame`` rows."""
    sequencer.ROWS_MAX = frame
    settings = Settings()
    with folder() as root:
        workspace = Workspace(root)
        played = read_tape(tape(root / "tape.parquet", rows))
        instruments = played.instruments
        topics = [one.topic for one in instruments]
        server = Server(workspace)
        await asyncio.to_thread(server.start)
        assert server.pid is not None
        bus = RedisBus.connect(workspace.server_socket, timeout=30.0)
        stage, frames, heard = Stage(rows, server.pid), [], []
        writer = Writer(workspace.tapes)
        writer.widen(instruments)
        numbered = sequencer.Sequencer()

        async def number() -> None:
            for block in played.blocks(8 * frame):
                numbered.add(block)
                frames.extend(numbered.flush(int(block.ts[-1]), len(instruments)))

        async def append() -> None:
            for one in frames:
                writer.append(one)

        async def publish() -> None:
            sender = TickWriter(bus)
            for batch in range(0, len(frames), BATCH):
                await sender.publish(frames[batch : batch + BATCH], topics)

        async def read() -> None:
            offsets = dict.fromkeys((*Topics.market(), Topics.CLOCK), "0-0")
            while messages := await bus.read(offsets, count=64, timeout=0.0):
                offsets[messages[-1].topic] = messages[-1].offset
                heard.append(messages)

        async def unpack() -> None:
            assembler = Assembler(0)
            for body in (body for one in frames for _, body in packed[one.number]):
                assembler.add(body)
                assembler.take()

        async def engine() -> None:
            strategy = Count()
            play = Engine([strategy], instruments, capital=10**12, rulebook=rules)
            for blocks in _pieces(frames):
                play.step(joined([one.block for one in blocks]))  # pyright: ignore[reportArgumentType]
            assert strategy.state.seen == rows

        async def lane() -> None:
            log = TapeLog(workspace.tapes)
            account = Account(len(instruments), limits_of(settings))
            half = Lane(
                "Count", list(played.symbols), instruments, capital=10**12, rulebook=rules, account=account,
                venue=PaperTrader(settings).venue, frames=log.read, table=log.instruments, after=0, trade_from=0,
            )  # fmt: skip
            for blocks in _pieces(frames):
                last = blocks[-1]
                half.advance(Place(last.end - 1, last.clock, LAST))

        rules = Rulebook.load()
        await stage.timed("tape", number)
        await stage.timed("append", append)
        packed = {one.number: split(one, topics, Topics.CLOCK) for one in frames}
        await stage.timed("publish", publish)
        await stage.timed("read", read)
        await stage.timed("unpack", unpack)
        await stage.timed("engine", engine)
        await stage.timed("lane", lane)
        await bus.close()
        writer.close()
        await asyncio.to_thread(server.stop)
    return {"ticks": rows, "frame": frame, "spent": stage.spent, "messages": sum(map(len, heard))}


def _pieces(frames: list[Frame]) -> Iterator[list[Frame]]:
    """As a runner that is behind takes them."""
    taken: list[Frame] = []
    for frame in frames:
        if taken and sum(len(one.block) for one in taken) + len(frame.block) > AT_ONCE:
            yield taken
            taken = []
        taken.append(frame)
    if taken:
        yield taken


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["parts"])
    parser.add_argument("--ticks", type=int)
    parser.add_argument("--frame", type=int)
    given = parser.parse_args()
    tell(asyncio.run(parts(given.ticks, given.frame)))

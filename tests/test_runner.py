"""What the runner asks when the gateway did something on its own: each time a question of its own, and booked once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import alphapanda as ap
from alphapanda.buses.frames import heartbeat
from alphapanda.buses.redis import RedisBus
from alphapanda.buses.tapelog import TapeLog, Writer
from alphapanda.events import Tick
from alphapanda.playing import Run
from alphapanda.requests import FillTold, FillUpdate, OrderUpdate, Reply, Request, encode
from alphapanda.runner import Link
from alphapanda.seal import Seal
from alphapanda.workspace import RunSpec
from tests.build import CRORE, equity


class One(ap.Strategy):
    """Does nothing by itself."""

    symbols = ("NSE:INFY",)

    def on_tick(self, tick: Tick) -> None:
        pass


class Answers(Link):
    """A link whose gateway says that there is nothing new, or what it is given."""

    def __init__(self, spec: RunSpec, known: dict[str, tuple[bytes, bytes]]) -> None:
        super().__init__(cast("RedisBus", None), spec, asyncio.Event(), known, Seal.fresh())
        self.asked_for: list[str] = []
        self.next = Reply("")

    async def _ask(self, request: Request) -> Reply:
        self.asked_for.append(request.id)
        return self.next

    def report(self) -> None:
        """The gateway tells that it did something."""
        self._look.set()


def run_of(folder: Path, known: dict[str, tuple[bytes, bytes]]) -> tuple[Run, Answers]:
    """A runner's engine on an empty log, and its link."""
    writer = Writer(folder)
    writer.widen((equity("INFY"),))
    writer.append(heartbeat(1, 0, 1, 0))
    writer.close()
    spec = RunSpec(
        run="one-1", namespace="paper", name="one", class_name="One", digest="", symbols=["NSE:INFY"], capital=CRORE
    )  # fmt: skip
    link = Answers(spec, known)
    return Run(spec, One(name="one"), TapeLog(folder), link, folder), link


def test_two_looks_at_one_place_are_two_questions(tmp_path: Path) -> None:
    async def main() -> None:
        run, link = run_of(tmp_path, {})
        for _ in range(3):
            link.report()
            await asyncio.to_thread(run.step, [])
        await asyncio.to_thread(run.step, [])
        assert len(link.asked_for) == len(set(link.asked_for)) == 3

    asyncio.run(main())


def test_a_second_life_goes_on_counting(tmp_path: Path) -> None:
    async def main() -> None:
        before, _ = run_of(tmp_path, {})
        place = before.place
        old = Request("one-1", f"look:{place.through}:{place.ts}:1", place)
        run, link = run_of(tmp_path, {old.id: (encode(old), encode(Reply(old.id)))})
        link.report()
        await asyncio.to_thread(run.step, [])
        assert link.asked_for == [], "first what was asked in the life before"
        await asyncio.to_thread(run._mirror.look, place, old.id)
        await asyncio.to_thread(run.step, [])
        assert link.asked_for == [f"look:{place.through}:{place.ts}:2"]
        assert not run.halted

    asyncio.run(main())


def test_a_fill_that_is_told_twice_is_booked_once(tmp_path: Path) -> None:
    async def main() -> None:
        run, link = run_of(tmp_path, {})
        filled = Reply("", (_order(run), FillUpdate("one:0:0", 1, 0, 1, 5, 10_000, (0,) * 6, 0, 5),
                            FillTold("one:0:0", 1)))  # fmt: skip
        link.next = filled
        for _ in range(2):
            link.report()
            await asyncio.to_thread(run.step, [])
        assert run.engine.desk.net[0] == 5
        assert len(run.engine.desk.fills) == 1

    asyncio.run(main())


def _order(run: Run) -> OrderUpdate:
    signal = ap.Signal("one", 0, 0, 1, "NSE:INFY", 5, 10_000)
    values: dict[str, Any] = {
        "id": "one:0:0", "status": "filled", "reason": "", "filled": 5, "target": 5, "turnover": 50_000, "fills": 1,
        "end_ts": 1, "triggered": False, "resting": False, "closing": False, "told": False, "signal": signal,
    }  # fmt: skip
    return OrderUpdate(**values)

"""What a day on the pages needs beside its platform: a sandbox at the feed's prices, and notebooks that have run."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from alphapanda.clock import wall_ns
from alphapanda.overview import Price, Reader
from alphapanda.sandbox.broker import Broker
from alphapanda.sandbox.serve import Running
from alphapanda.schedules import Run, Schedules
from alphapanda.schedules.when import When
from alphapanda.settings import ScheduleSettings, Settings
from tests.pages import Platform
from tests.schedule_rig import notebook


@contextlib.contextmanager
def followed(desk: Platform, sandbox: Running) -> Iterator[None]:
    """The sandbox trades at the prices of the feed."""
    reader, ended = Reader(desk.rig.workspace, Settings.load(None)).start(), threading.Event()

    def follow() -> None:
        number = 0
        while not ended.is_set():
            newest = reader.wait(number, 0.5)
            number = newest.number
            sandbox.do(functools.partial(moved, prices=dict(newest.prices)))

    thread = threading.Thread(target=follow)
    thread.start()
    yield
    ended.set()
    thread.join()
    reader.close()


def moved(of: Broker, prices: dict[str, Price]) -> None:
    """The sandbox's market stands where these prices do."""
    for symbol in prices.keys() & of.market.symbols.keys():
        of.tick(symbol, prices[symbol].last)


def executed(desk: Platform, source: str, outputs: Sequence[dict[str, Any]] = ()) -> tuple[int, Path]:
    """A run of the schedule ``morning`` on record, with the notebook that came out: its number, and where."""
    known = Schedules(desk.rig.workspace, ScheduleSettings())
    known.place.folder.mkdir(exist_ok=True)
    if not known.list():
        notebook(known.place.folder / "morning.ipynb", source)
        known.add("morning", "morning.ipynb", When(at="09:10"))
    kept = known.place.home / f"morning-{len(known.history())}.ipynb"
    notebook(kept, source, outputs=outputs)
    begun = wall_ns() // 10**9 * 10**9
    run = known.place.store.begin(
        Run(schedule="morning", notebook="morning.ipynb", due=begun, state="ok", started=begun,
            ended=begun + 12 * 10**9, path=str(kept.relative_to(desk.rig.root.resolve())))
    )  # fmt: skip
    return run.id, kept

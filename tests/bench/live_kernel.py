"""The kernel's side of the latency figures: what a person's cells do, and a note of when the run's handle knew what."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec

from alphapanda import connect_sync
from alphapanda.clock import monotonic, wall_ns
from alphapanda.notebook.handle import Run
from alphapanda.overview.view import View
from tests.bench.live_strategies import Pairs

SORTED = 6_000_000
_kept: dict[str, Any] = {}
_seen: list[tuple[int, int, int]] = []  # when, when the gateway had written it, fills by then


def begin(root: str) -> None:
    """Connect and run; from here on every change of the handle is noted."""
    session = _kept["session"] = connect_sync(workspace=root, quiet=True)
    run: Run = session.sync.run(Pairs())
    take = run.take

    def noted(view: View) -> None:
        take(view)
        _seen.append((wall_ns(), view.books.updated, run.view.books.counts.get("fills", 0)))

    run.take = noted
    _kept["run"] = run
    draws = random.Random(7)
    _kept["numbers"] = [draws.random() for _ in range(SORTED)]
    print(run.id)


def loop(seconds: float) -> None:
    """A cell that computes in plain Python."""
    until, count = monotonic() + seconds, 0
    while monotonic() < until:
        count += 1


def call(seconds: float) -> None:
    """A cell in one long call into C that lets nobody else in; once more until the time is up."""
    until = monotonic() + seconds
    while monotonic() < until:
        sorted(_kept["numbers"])


def tell(path: str) -> None:
    """Hand over what was noted."""
    noted, _seen[:] = list(_seen), []
    Path(path).write_bytes(msgspec.json.encode(noted))

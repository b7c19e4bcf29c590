"""A paper run once more in research: the same module, the ticks it saw, one plain loop.

Equal digests mean that the live machinery (bus, gateway, restarts and all) changed nothing about what was decided.
"""

from __future__ import annotations

from collections.abc import Iterator

from alphapanda.buses.tapelog import TapeLog
from alphapanda.capsule import load
from alphapanda.engine import Engine
from alphapanda.errors import ConfigurationError
from alphapanda.events import Block, Clock
from alphapanda.gateway import limits_of
from alphapanda.result import Result
from alphapanda.rulebook import Rulebook
from alphapanda.settings import Settings
from alphapanda.traders.paper import fills_of
from alphapanda.workspace import RunSpec, Workspace


def rerun(workspace: Workspace, run: str, paper: Result, settings: Settings) -> Result:
    """Play the run's ticks up to where ``paper`` (its result) stands; returns what research makes of them.

    Uses the limits and fill rules of ``settings``, which are the gateway's. What other runs of the namespace held is
    not there, so a limit that they shared with this one may answer otherwise. Raises ConfigurationError for a run whose
    folder is gone.
    """
    folder = workspace.runs / run
    try:
        spec = RunSpec.read(folder)
        source = (folder / "strategy.py").read_text("utf-8")
    except OSError:
        raise ConfigurationError(
            f"the folder of run {run} is gone", fix="a run can be replayed while .alphapanda/runs keeps it"
        ) from None
    kind = load(source, spec.class_name, folder / "strategy.py")
    strategy = kind(name=spec.name, **spec.parameters)
    strategy.symbols = spec.symbols or strategy.symbols
    log = TapeLog(workspace.tapes)
    engine = Engine(
        [strategy],
        log.instruments(),
        capital=spec.capital,
        rulebook=Rulebook.load(),
        limits=limits_of(settings),
        fills=fills_of(settings),
        seed=spec.seed,
        trade_from=spec.trade_from,
    )
    for block in _rows(log, spec.warm_from, paper.counts["ticks"]):
        engine.step(block)
    engine.step(Clock(paper.last_ts))
    log.close()
    return engine.outcome()


def _rows(log: TapeLog, after: int, count: int) -> Iterator[Block]:
    """The first ``count`` ticks after a frame."""
    for frame in log.read(max(after, 0)):
        if count <= 0:
            return
        if size := len(frame.block):
            yield frame.block if size <= count else frame.block.rows(0, count)
            count -= size

"""The research lane of a proof: the case in a plain loop, whole, in part, or parked at a row."""

from __future__ import annotations

from collections.abc import Iterator

from alphapanda.clock import monotonic
from alphapanda.engine import Engine
from alphapanda.events import Block, Clock
from alphapanda.proofs.case import Case
from alphapanda.proofs.trace import Trace
from alphapanda.replay import ROWS
from alphapanda.rulebook import Rulebook
from alphapanda.strategy import Strategy
from alphapanda.tapes.tape import Tape


def engine_of(
    case: Case, tape: Tape, strategy: Strategy | None = None, trade_from: int | None = None
) -> Engine:
    """A fresh engine for the case over a tape's instruments."""
    return Engine(
        [strategy or case.strategy()],
        tape.instruments,
        capital=case.capital,
        rulebook=Rulebook.load(),
        limits=case.limits,
        fills=case.fills,
        seed=case.seed,
        trade_from=case.trade_from if trade_from is None else trade_from,
    )


def research(
    case: Case, tape: Tape, *, size: int = ROWS, strategy: Strategy | None = None, lane: str = "research"
) -> Trace:
    """The whole tape, to the end of its last day."""
    begun = monotonic()
    engine = engine_of(case, tape, strategy)
    for block in tape.blocks(size):
        engine.step(block)
    return Trace.of(lane, engine.finish(), engine.strategies[0], monotonic() - begun)


def prefix(case: Case, tape: Tape, rows: int, size: int = ROWS) -> Trace:
    """The first ``rows`` ticks and nothing after them, in blocks of ``size``."""
    engine = engine_of(case, tape)
    for block in cut(tape, 0, rows, size):
        engine.step(block)
    return Trace.of(f"{rows} rows", engine.outcome(), engine.strategies[0])


def late(case: Case, tape: Tape, first: int, trade_from: int, stop: int = -1) -> Trace:
    """The tape from row ``first`` on, trading from a time, as a run would that began then. Rows keep their number."""
    engine = engine_of(case, tape, trade_from=trade_from)
    for block in cut(tape, first, tape.rows if stop < 0 else stop):
        engine.step(block)
    result = engine.finish() if stop < 0 else engine.outcome()
    return Trace.of(f"from row {first}", result, engine.strategies[0])


def parked(case: Case, tape: Tape, row: int) -> Engine:
    """An engine that has played everything before a row and its callbacks, and that row: for looking around."""
    engine = engine_of(case, tape)
    for block in cut(tape, 0, min(row + 1, tape.rows)):
        engine.step(block)
    if row >= tape.rows:
        engine.step(Clock(engine.day.end))
    return engine


def cut(tape: Tape, start: int, stop: int, size: int = ROWS) -> Iterator[Block]:
    """Rows [start, stop) of a tape, with the numbers they have in the whole of it."""
    for block in tape.blocks(size):
        low, high = max(0, start - block.first), min(len(block), stop - block.first)
        if low < high:
            yield block if (low, high) == (0, len(block)) else block.rows(low, high)
        if block.first + len(block) >= stop:
            return

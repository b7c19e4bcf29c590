"""``prove --live``: a run that was, derived once more from its tape and what its gateway said then.

The strategy's module plays the recorded ticks; each question it asks must be the one on record, and gets the answer on
record: real fills are inputs. That every recorded decision comes again, and none between them that was not made, says
that what happened at the broker is what this class decides on these ticks. Beside it stands how well it was filled:
against the price at the decision, and against what paper would have given.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import msgspec

from alphapanda.buses.tapelog import TapeLog
from alphapanda.capsule import digest_of, load
from alphapanda.certificate import Outcome
from alphapanda.clock import monotonic
from alphapanda.errors import ConfigurationError
from alphapanda.hearsay import Noted
from alphapanda.hindsight.rerun import rerun
from alphapanda.orders import Order
from alphapanda.playing import Answers, Ended, Run
from alphapanda.proofs.trace import Difference, Trace, first_difference
from alphapanda.report import page as html
from alphapanda.report import text
from alphapanda.report.page import Column
from alphapanda.requests import Reply, Request
from alphapanda.result import Result, canonical_lines, chain_digest
from alphapanda.settings import Settings
from alphapanda.state.journal import replies
from alphapanda.workspace import RunSpec, Workspace


class Filled(msgspec.Struct, frozen=True, kw_only=True):
    """One order that filled. Prices are rupees, ``decided`` the last price at the decision, of
    an exit the price it stood at; slippage is rupees for the
    whole order, positive where it cost us. ``seconds`` is from the decision's record to the last fill's, None on paper.
    ``paper`` is the average price that paper gives the same order, None if it does not fill there."""

    order: str
    symbol: str
    quantity: int
    decided: float
    real: float
    paper: float | None
    slippage: float
    paper_slippage: float | None
    seconds: float | None


class Recorded:
    """A gateway that says what it said then, and nothing else."""

    look = False  # looks are on record like everything else

    def __init__(self, answers: Answers) -> None:
        self.answers = answers

    def looked(self) -> None:
        """There are none that are not on record."""

    def ask(self, request: Request) -> Reply:
        """The answer on record; after the last one the run is over."""
        recorded = self.answers.answer(request)
        if recorded is None:
            raise Ended
        return recorded

    def order(self, kind: str, reason: str) -> None:
        """Nobody operates a day that was."""


class Incident:
    """A past run derived again: ``passed``, the two ``lanes``, the ``difference`` if any, and ``fills``."""

    def __init__(
        self, spec: RunSpec, recorded: Trace, derived: Trace, checks: list[Outcome], fills: list[Filled]
    ) -> None:
        self.spec, self.lanes, self.checks, self.fills = (
            spec,
            (recorded, derived),
            tuple(checks),
            tuple(fills),
        )

    @property
    def passed(self) -> bool:
        """Every recorded decision came again, and no other."""
        return all(check.passed for check in self.checks)

    @property
    def difference(self) -> Difference | None:
        """The first decision that differs."""
        return first_difference(*self.lanes)

    def __repr__(self) -> str:
        verdict = "derived again" if self.passed else "NOT derived again"
        head = f"{self.spec.run} of {self.spec.namespace} {verdict} · {len(self.lanes[0].lines)} decisions on record"
        lines = [head, *(f"  {'ok  ' if c.passed else 'FAIL'} {c.name:<10} {c.detail}" for c in self.checks)]
        if self.difference is not None:
            lines += [f"  {line}" for line in str(self.difference).splitlines()]
        if self.fills:
            lines += ["", *_table(self.fills)]
            lines.append(f"  {self._total()}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        checks = [Column("", lambda c: "✓" if c.passed else "✗"), Column("check", lambda c: c.name)]
        checks.append(Column("what was found", lambda c: c.detail, "w"))
        found = f"<pre>{html.esc(self.difference)}</pre>" if self.difference is not None else ""
        return (
            f'<style>{html.CSS}</style><div class="ap"><h3>{html.esc(repr(self).splitlines()[0])}</h3>'
            f"{html.table(self.checks, checks)}{found}{html.table(self.fills, COLUMNS)}"
            f"<p>{html.esc(self._total())}</p></div>"
        )

    def _total(self) -> str:
        known = [f.paper_slippage for f in self.fills if f.paper_slippage is not None]
        real, paper = _money(sum(f.slippage for f in self.fills)), _money(sum(known))
        count = f"{len(known)} of {len(self.fills)} orders"
        return f"slippage ₹{real}, on paper ₹{paper} ({count} fill there); what is positive cost us"


COLUMNS = [
    Column("order", lambda f: f.order),
    Column("symbol", lambda f: f.symbol),
    Column("quantity", lambda f: text.whole(f.quantity), "n"),
    Column("decided at", lambda f: text.decimal(f.decided, 2), "n"),
    Column("filled at", lambda f: text.decimal(f.real, 2), "n"),
    Column("paper", lambda f: "" if f.paper is None else text.decimal(f.paper, 2), "n"),
    Column("slippage ₹", lambda f: _money(f.slippage), "n"),
    Column("on paper ₹", lambda f: "" if f.paper_slippage is None else _money(f.paper_slippage), "n"),
    Column("seconds", lambda f: "" if f.seconds is None else text.decimal(f.seconds, 2), "n"),
]


def _table(fills: tuple[Filled, ...]) -> list[str]:
    rows = [[c.head for c in COLUMNS], *([c.read(f) for c in COLUMNS] for f in fills)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = [">" if column.form else "<" for column in COLUMNS]
    places = list(zip(sides, widths, strict=True))
    return [
        "  " + "  ".join(f"{c:{side}{w}}" for c, (side, w) in zip(row, places, strict=True)) for row in rows
    ]


def _money(rupees: float) -> str:
    return text.decimal(rupees, 2)


def incident(workspace: Workspace, run: str, settings: Settings) -> Incident:
    """Derive a run of this workspace once more; it need not be over. Nothing is written, asked or ordered.

    Raises ConfigurationError for a run whose folder or ticks are gone.
    """
    begun = monotonic()
    spec, source = _of(workspace, run)
    known = replies(workspace.journal(spec.namespace), run)
    recorded = _trace("record", [msgspec.msgpack.decode(body, type=Request) for body, _ in known.values()])
    played = played_again(workspace, run)
    result = played.engine.outcome()
    derived = Trace.of("derived", result)
    checks = [_module(spec, source), _decisions(recorded, derived, played, monotonic() - begun)]
    return Incident(spec, recorded, derived, checks, _fills(workspace, spec, result, settings))


def _of(workspace: Workspace, run: str) -> tuple[RunSpec, str]:
    """A run's spec and module."""
    folder = workspace.runs / run
    try:
        return RunSpec.read(folder), (folder / "strategy.py").read_text("utf-8")
    except OSError:
        raise ConfigurationError(
            f"there is no run {run} in {workspace.root}", fix="`alphapanda status` lists them"
        ) from None


def _trace(lane: str, requests: list[Request]) -> Trace:
    signals = (r.signal for r in requests if r.signal is not None)
    lines = tuple(canonical_lines(signals, (r.cancel for r in requests if r.cancel is not None)))
    return Trace(lane=lane, lines=lines, digest=chain_digest(lines))


def played_again(workspace: Workspace, run: str, row: int | None = None) -> Run:
    """Play a run's frames with the answers on record, through a row of the tape, or until the last of them has been
    given."""
    spec, source = _of(workspace, run)
    folder, answers = workspace.runs / run, Answers(replies(workspace.journal(spec.namespace), run))
    strategy = load(source, spec.class_name, folder / "strategy.py")(name=spec.name, **spec.parameters)
    strategy.symbols = spec.symbols or strategy.symbols
    with contextlib.closing(TapeLog(workspace.tapes)) as log:
        again = Run(spec, strategy, log, Recorded(answers), folder, keeps=False)
        with contextlib.suppress(Ended):
            for frame in log.read(max(spec.warm_from, 0)):
                if row is None and not answers.left():
                    break
                if row is not None and frame.end > row:
                    again.engine.step(frame.block.rows(0, max(0, row + 1 - frame.block.first)))
                    break
                again.step([frame])
    return again


def _module(spec: RunSpec, source: str) -> Outcome:
    found = digest_of(source)
    if found == spec.digest:
        return Outcome(name="module", passed=True, detail=f"the class that ran: {found[:16]}")
    return Outcome(
        name="module",
        passed=False,
        detail=f"strategy.py is not the class that ran: {found[:16]}, not {spec.digest[:16]}",
    )


def _decisions(recorded: Trace, derived: Trace, played: Run, seconds: float) -> Outcome:
    found, left = first_difference(recorded, derived), played.link.answers.left()
    if found is None and not left:
        detail = f"{len(recorded.lines)} decisions come again from the tape: {recorded.digest}"
    elif found is None:
        detail = f"the ticks end before the last question: {played.halted or 'the tape log is not whole'}"
    else:
        detail = f"row {found.seq:,} is decided otherwise"
    return Outcome(
        name="decisions", passed=found is None and not left, detail=detail, seconds=round(seconds, 2)
    )


# ── how well it was filled ───────────────────────────────────────────────────────────────────────────────────────


def _fills(workspace: Workspace, spec: RunSpec, result: Result, settings: Settings) -> list[Filled]:
    paper = {order.id: order for order in rerun(workspace, spec.run, result, settings).orders if order.filled}
    decided, done = _wall_times(workspace.journal(spec.namespace), spec.run)
    return [_filled(order, paper.get(order.id), decided, done) for order in result.orders if order.filled]


def _filled(order: Order, paper: Order | None, decided: dict[str, int], done: dict[str, int]) -> Filled:
    scale, way = order.instrument.price_scale, 1 if order.filled > 0 else -1
    signal = order.signal
    wanted = (signal.stop or signal.limit) if order.leg else None  # of an exit: the price it stood at
    reference, real = (wanted or signal.reference) / scale, _average(order)
    other = None if paper is None else _average(paper)
    size = abs(order.filled)
    seconds = (done[order.id] - decided[order.id]) / 1e9 if order.id in done and order.id in decided else None
    return Filled(
        order=order.id, symbol=order.symbol, quantity=order.filled, decided=reference, real=real, paper=other,
        slippage=(real - reference) * way * size,
        paper_slippage=None if other is None else (other - reference) * way * size, seconds=seconds,
    )  # fmt: skip


def _average(order: Order) -> float:
    return order.turnover / abs(order.filled) / order.instrument.price_scale


def _wall_times(path: Path, run: str) -> tuple[dict[str, int], dict[str, int]]:
    """When each order was decided and when its last fill was heard of, wall ns; the second for real venues only."""
    decided: dict[str, int] = {}
    done: dict[str, int] = {}
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as file:
        rows: list[Any] = file.execute(
            "SELECT kind, id, body, at FROM entry WHERE run = ? AND kind IN ('request', 'report') ORDER BY number",
            (run,),
        ).fetchall()
    for kind, identity, body, at in rows:
        if kind == "request":
            decided.setdefault(identity, at)
        else:
            report = msgspec.msgpack.decode(body, type=Noted).report
            if report.kind == "filled":
                done[report.order] = report.at or at
    return decided, done

"""Small tapes by hand, and strategies that are a script: what every test of the core starts from.

A row is ``("09:15:01", "INFY", 100.05)``, then as far as it goes: traded volume, bid, ask, bid quantity, ask quantity.
A column exists when some row has it. ``"2026-11-23 09:15:01"`` names a day of its own.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from hypothesis import Phase, settings

import alphapanda as ap
from alphapanda.engine import Engine
from alphapanda.events import IST, SECOND, Block, Fill, Tick, ist
from alphapanda.instruments import Instrument
from alphapanda.result import Result, decision_digest
from alphapanda.risk import Limits
from alphapanda.rulebook import Rulebook
from alphapanda.tapes.tape import Tape

DAY = "2026-11-20"  # a Friday; Monday the 23rd is open, Tuesday the 24th is a holiday
RULES = Rulebook.load()
WIDE = Limits(
    leverage=None, price_band=None, orders_per_second=None, orders_per_minute=None, orders_per_day=None,
    duplicate_seconds=None, self_cross=False,
)  # fmt: skip
CRORE = 10_000_000_00  # paise
Row = Sequence[Any]
Script = Callable[[Any], Any]


def runs(examples: int) -> settings:
    """For properties of whole runs: drawn from seeds, so there is nothing to shrink and a failure stays quick."""
    phases = (Phase.explicit, Phase.reuse, Phase.generate)
    return settings(max_examples=examples, deadline=None, phases=phases, report_multiple_bugs=False)


def equity(name: str, **fields: Any) -> Instrument:
    """An NSE share: tick 0.05, lot 1, band 20 %."""
    return Instrument(symbol=f"NSE:{name}", exchange="NSE", name=name, **fields)


NIFTY_FUT = Instrument(
    symbol="NFO:NIFTY26NOVFUT", exchange="NFO", kind="FUT", name="NIFTY", lot_size=65, tick_size=10,
    expiry=dt.date(2026, 11, 26),
)  # fmt: skip


def ns(clock: str, day: str = DAY) -> int:
    """``"09:15:01.250"`` of a day, in nanoseconds UTC."""
    text = clock if " " in clock else f"{day} {clock}"
    moment = dt.datetime.fromisoformat(text).replace(tzinfo=IST)
    return int(moment.replace(microsecond=0).timestamp()) * SECOND + moment.microsecond * 1000


def clock(ts: int) -> str:
    """The exchange time of an instant, as rows write it."""
    text = f"{ist(ts):%H:%M:%S.%f}"
    return text[:8] if text.endswith("000000") else text[:12]


def tape_of(
    rows: Iterable[Row], *instruments: Instrument, day: str = DAY, inside: Sequence[bool] | None = None
) -> Tape:
    """A tape of rows in any order; equal times keep the order given. Unknown names become NSE shares."""
    listed: list[Any] = [(ns(row[0], day), *row[1:]) for row in rows]
    order = sorted(range(len(listed)), key=lambda n: listed[n][0])
    listed = [listed[n] for n in order]
    known = {i.symbol: i for i in instruments} | {i.tradingsymbol: i for i in instruments}
    chosen = list(instruments)
    for row in listed:
        if row[1] not in known:
            known[row[1]] = known[f"NSE:{row[1]}"] = equity(row[1])
            chosen.append(known[row[1]])
    index = {i.symbol: n for n, i in enumerate(chosen)}
    number = np.array([index[known[row[1]].symbol] for row in listed], np.int64)
    scale = [known[row[1]].price_scale for row in listed]
    columns: dict[str, Any] = {}
    for place, name in enumerate(("price", "volume", "bid", "ask", "bid_quantity", "ask_quantity"), 2):
        if any(len(row) > place for row in listed):
            cells = [row[place] if len(row) > place and row[place] is not None else 0 for row in listed]
            priced = name in ("price", "bid", "ask")
            columns[name] = np.array(
                [round(c * s) if priced else c for c, s in zip(cells, scale, strict=True)], np.int64
            )
    if inside is not None:
        columns["inside"] = np.array([inside[n] for n in order], np.bool_)
    return Tape(chosen, ts=np.array([row[0] for row in listed], np.int64), instrument=number, **columns)


def play(
    strategy: ap.Strategy | Sequence[ap.Strategy],
    tape: Tape,
    *,
    size: int = 65_536,
    blocks: Iterable[Block] | None = None,
    capital: int = CRORE,
    limits: Limits = WIDE,
    trade_from: int = 0,
    **options: Any,
) -> Result:
    """The tape through an engine of its own, in blocks of ``size`` rows or as given."""
    strategies = [strategy] if isinstance(strategy, ap.Strategy) else list(strategy)
    engine = Engine(
        strategies,
        tape.instruments,
        capital=capital,
        rulebook=RULES,
        limits=limits,
        trade_from=trade_from,
        **options,
    )
    for block in tape.blocks(size) if blocks is None else blocks:
        engine.step(block)
    return engine.finish()


class Scripted(ap.Strategy):
    """Does what its script says at the tick of that time; keeps what it was told."""

    script: Mapping[str, Script] = {}

    def __init__(self, script: Mapping[str, Script] | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self.script = script or {}
        self.did: list[Any] = []
        self.told: list[tuple[str, str]] = []

    def on_tick(self, tick: Tick) -> None:
        """Run the script's entry for this time, once a symbol's tick carries it."""
        action = self.script.get(clock(tick.ts))
        if action is not None:
            self.did.append(action(self))

    def on_order(self, order: ap.Order) -> None:
        """Keep each status."""
        self.told.append((order.id, order.status))

    def on_fill(self, fill: Fill) -> None:
        """Keep each fill."""
        self.told.append((fill.id, "fill"))


def trades(result: Result) -> list[tuple[str, int, float]]:
    """(time, signed quantity, price) of each fill."""
    return [(clock(f.ts), f.quantity, f.price) for f in result.fills]


def denials(result: Result) -> list[str]:
    """The reasons our own rules gave."""
    return [o.reason for o in result.orders if o.status == "denied"]


def only_order(result: Result) -> ap.Order:
    """The run's one order."""
    (order,) = result.orders
    return order


def footprint(result: Result) -> dict[str, Any]:
    """Everything a run decided and booked, as plain values to compare."""
    return {
        "digest": decision_digest(result),
        "orders": [
            (
                o.id,
                o.owner,
                o.status,
                o.reason,
                o.target,
                o.filled,
                o.turnover,
                o.fills,
                o.active_ts,
                o.end_ts,
                o.kind,
            )
            for o in result.orders
        ],
        "cancels": [(c.strategy, c.seq, c.ordinal, c.ts, c.order_id) for c in result.cancels],
        "fills": [
            (f.id, f.seq, f.ts, f.quantity, f.price_units, f.charges, f.realized, f.position)
            for f in result.fills
        ],
        "marks": [(m.ts, m.equity, m.gross, m.by_strategy) for m in result.marks],
        "positions": result.positions,
        "errors": [(e.strategy, e.callback, e.symbol, e.ts, e.seq, e.line, e.message) for e in result.errors],
        "logs": [(x.ts, x.seq, x.strategy, x.message, x.fields) for x in result.logs],
        "notes": result.notes,
        "halted": result.halted,
        "counts": result.counts,
        "span": (result.first_ts, result.last_ts),
    }


def same(left: Result, right: Result) -> None:
    """Two runs left the same footprint; the message names the first part that differs."""
    ours, theirs = footprint(left), footprint(right)
    for part, value in ours.items():
        assert value == theirs[part], part

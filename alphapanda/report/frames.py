"""The columns of a report's frames, and how each is read from a run's values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from alphapanda.charges import KINDS
from alphapanda.events import Fill
from alphapanda.orders import DENIED, Order
from alphapanda.report.stats import side, slippage, value, wanted

if TYPE_CHECKING:
    import polars as pl


class Column(msgspec.Struct, frozen=True):
    """A column: its name, what it holds, and how to read it from a row. Money is read as paise, shown as rupees."""

    name: str
    holds: Literal["time", "duration", "text", "int", "float", "money", "bool"]
    read: Callable[[Any], Any]


def to_frame(rows: Sequence[Any], columns: Sequence[Column]) -> pl.DataFrame:
    import polars as pl

    types: dict[str, Any] = {
        "time": pl.Datetime("ns", "Asia/Kolkata"),
        "duration": pl.Duration("ns"),
        "text": pl.String(),
        "int": pl.Int64(),
        "float": pl.Float64(),
        "money": pl.Float64(),
        "bool": pl.Boolean(),
    }
    made: list[pl.Series] = []
    for column in columns:
        read = column.read
        values: list[Any] = [read(row) for row in rows]
        if column.holds == "money":
            values = [None if v is None else v / 100 for v in values]
        if column.holds in ("time", "duration"):
            made.append(pl.Series(column.name, values, pl.Int64).cast(types[column.holds]))
        else:
            made.append(pl.Series(column.name, values, types[column.holds]))
    return pl.DataFrame(made)


def as_seconds() -> pl.Expr:
    """Durations as seconds, for a file format that has none."""
    import polars.selectors as cs

    return cs.duration().dt.total_microseconds() / 1e6


def item_of(index: int) -> Callable[[Any], Any]:
    return lambda row: row[index]


def _rupees(order: Order, units: int | None) -> float | None:
    return None if units is None else units / order.instrument.price_scale


C = Column
_ORDER_HEAD = [
    C("ts", "time", lambda o: o.signal.ts),
    C("strategy", "text", lambda o: o.strategy),
    C("symbol", "text", lambda o: o.symbol),
    C("side", "text", lambda o: side(wanted(o))),
    C("quantity", "int", lambda o: abs(wanted(o))),
    C("kind", "text", lambda o: o.kind),
    C("limit", "float", lambda o: o.limit),
    C("stop", "float", lambda o: o.stop),
]
ORDER_IDS = [
    C("id", "text", lambda o: o.id),
    C("seq", "int", lambda o: o.signal.seq),
]
SIGNALS = [
    *_ORDER_HEAD,
    C("sl", "float", lambda o: _rupees(o, o.signal.sl)),
    C("tp", "float", lambda o: _rupees(o, o.signal.tp)),
    C("product", "text", lambda o: o.signal.product),
    C("validity", "text", lambda o: o.signal.validity),
    C("ttl", "duration", lambda o: o.signal.ttl or None),
    C("reference", "float", lambda o: _rupees(o, o.signal.reference)),
    C("tag", "text", lambda o: o.signal.tag),
    C("denied", "bool", lambda o: o.status == DENIED),
    *ORDER_IDS,
]
DENIALS = [
    *_ORDER_HEAD,
    C("product", "text", lambda o: o.signal.product),
    C("reason", "text", lambda o: o.reason),
    C("tag", "text", lambda o: o.signal.tag),
    *ORDER_IDS,
]
ORDERS = [
    *_ORDER_HEAD,
    C("status", "text", lambda o: o.status),
    C("filled", "int", lambda o: abs(o.filled)),
    C("average_price", "float", lambda o: o.average_price if o.filled else None),
    C("reason", "text", lambda o: o.reason),
    C("product", "text", lambda o: o.signal.product),
    C("validity", "text", lambda o: o.signal.validity),
    C("leg", "text", lambda o: o.leg),
    C("parent_id", "text", lambda o: o.parent_id),
    C("ended", "time", lambda o: o.end_ts or None),
    C("tag", "text", lambda o: o.signal.tag),
]
CANCELS = [
    C("ts", "time", lambda c: c.ts),
    C("strategy", "text", lambda c: c.strategy),
    C("order_id", "text", lambda c: c.order_id),
    C("seq", "int", lambda c: c.seq),
]


def _kind(index: int) -> Callable[[Fill], int]:
    return lambda fill: fill.charges[index]


FILLS = [
    C("ts", "time", lambda f: f.ts),
    C("strategy", "text", lambda f: f.strategy),
    C("symbol", "text", lambda f: f.symbol),
    C("side", "text", lambda f: f.side),
    C("quantity", "int", lambda f: abs(f.quantity)),
    C("price", "float", lambda f: f.price),
    C("charges", "money", lambda f: sum(f.charges)),
    C("realized", "money", lambda f: f.realized),
    C("notional", "money", value),
    C("slippage", "money", slippage),
    C("position", "int", lambda f: f.position),
    C("product", "text", lambda f: f.product),
    C("tag", "text", lambda f: f.tag),
    C("order_id", "text", lambda f: f.order_id),
    C("id", "text", lambda f: f.id),
    C("seq", "int", lambda f: f.seq),
    *(C(kind, "money", _kind(i)) for i, kind in enumerate(KINDS)),
]
TRADES = [
    C("strategy", "text", lambda t: t.strategy),
    C("symbol", "text", lambda t: t.symbol),
    C("direction", "text", lambda t: "long" if t.direction > 0 else "short"),
    C("opened", "time", lambda t: t.opened_ts),
    C("closed", "time", lambda t: t.closed_ts or None),
    C("duration", "duration", lambda t: t.closed_ts - t.opened_ts if t.closed_ts else None),
    C("quantity", "int", lambda t: t.entered),
    C("entry_price", "float", lambda t: t.entry_price),
    C("exit_price", "float", lambda t: t.exit_price),
    C("realized", "money", lambda t: t.realized),
    C("charges", "money", lambda t: t.charges),
    C("net_pnl", "money", lambda t: t.net),
    C(
        "return_percent",
        "float",
        lambda t: 100 * t.net / t.entry_paise if t.closed_ts and t.entry_paise else None,
    ),
    C("fills", "int", lambda t: t.fills),
    C("product", "text", lambda t: t.product),
]
POSITIONS = [
    *(C(name, "text", item_of(i)) for i, name in enumerate(("strategy", "symbol", "product"))),
    C("quantity", "int", item_of(3)),
    *(C(name, "float", item_of(i)) for i, name in enumerate(("average_price", "last"), 4)),
    *(C(name, "money", item_of(i)) for i, name in enumerate(("cost", "value", "unrealized"), 6)),
]
CHARGES = [
    *(C(name, "text", item_of(i)) for i, name in enumerate(("strategy", "symbol", "product"))),
    C("fills", "int", item_of(3)),
    *(C(name, "money", item_of(i)) for i, name in enumerate(("turnover", *KINDS, "total"), 4)),
]
ERRORS = [
    *(C("ts", "time", lambda e: e.ts), C("strategy", "text", lambda e: e.strategy)),
    *(C("callback", "text", lambda e: e.callback), C("symbol", "text", lambda e: e.symbol)),
    *(C("message", "text", lambda e: e.message), C("file", "text", lambda e: e.file)),
    *(C("line", "int", lambda e: e.line), C("seq", "int", lambda e: e.seq)),
    C("traceback", "text", lambda e: e.traceback),
]
LOGS = [
    *(C("ts", "time", lambda line: line.ts), C("strategy", "text", lambda line: line.strategy)),
    C("message", "text", lambda line: line.message),
    C("fields", "text", lambda line: msgspec.json.encode(line.fields, enc_hook=str).decode()),
    C("seq", "int", lambda line: line.seq),
]

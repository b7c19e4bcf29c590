"""What the portfolio page shows of a namespace: money, positions, orders, runs, and one strategy in two namespaces.

Each function makes plain rows of an ``Overview``; columns stand beside the function whose rows they name.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from alphapanda.overview import Lane, Overview, Reader, View
from alphapanda.panes.head import MILLISECOND
from alphapanda.panes.parts import Column
from alphapanda.report.text import parameters_text, signed

SECOND = 1000 * MILLISECOND
RUNS_MAX = 100

POSITIONS = (
    Column("symbol", width=16), Column("quantity", "int", 8), Column("unrealised", "money", 12),
    Column("last", "price", 10), Column("average", "price", 10), Column("strategy", narrow=False),
    Column("product", width=7, narrow=False),
)  # fmt: skip
ORDERS = (
    Column("time", "time", 9), Column("symbol", width=16), Column("side", "side", 5), Column("quantity", "int", 8),
    Column("state", "state", 9), Column("filled", "int", 7, False), Column("price", "price", 10),
    Column("reason", narrow=False), Column("strategy", width=18, narrow=False), Column("kind", width=9, narrow=False),
    Column("run", "code", 18, False),
)  # fmt: skip
RUNS = (
    Column("strategy", width=16), Column("namespace", "lane", 9), Column("net", "money", 11),
    Column("do", "acts", 16), Column("state", "state", 9), Column("unrealised", "money", 12, False),
    Column("charges", "cost", 10, False), Column("orders", "int", 7, False), Column("denied", "int", 7, False),
    Column("parameters", narrow=False), Column("why", narrow=False), Column("run", "code", 18, False),
)  # fmt: skip
PAIRS = (
    Column("strategy", width=16), Column("difference", "money", 12), Column("do", "acts", 8),
    Column("first", "lane", 10), Column("net", "money", 12), Column("orders", "int", 9, False),
    Column("second", "lane", 10), Column("net_there", "money", 12), Column("orders_there", "int", 12, False),
    Column("parameters", narrow=False),
)  # fmt: skip


def lane_of(overview: Overview, namespace: str) -> Lane:
    """The namespace; an empty one where nothing is known of it."""
    return overview.lanes.get(namespace) or Lane(namespace, namespace != "paper")


def figures(overview: Overview, namespace: str) -> list[dict[str, Any]]:
    """Today's money first."""
    lane = lane_of(overview, namespace)
    held = sum(1 for one in lane.positions if one.quantity)

    def figure(
        label: str, value: Any, kind: str = "money", tone: str | None = None, note: str = ""
    ) -> dict[str, Any]:
        return {"label": label, "value": value, "kind": kind, "tone": tone, "note": note}

    return [
        figure("P&L today, charges paid", lane.today.net, note=_since(lane)),
        figure("realised", lane.today.realized),
        figure("unrealised", lane.unrealized, note=f"{held} open" if held else "nothing open"),
        figure("charges", lane.today.charges, tone=""),
        figure("equity", lane.equity, tone=""),
        figure("exposure", lane.gross, tone=""),
        figure("orders today", lane.orders_today, "int"),
        figure("signals", lane.signals, "int", note=f"{lane.denied} denied" if lane.denied else ""),
    ]  # fmt: skip


def _since(lane: Lane) -> str:
    """What its runs have earned in all, where that is not today's alone."""
    return "" if lane.net == lane.today.net else f"{signed(lane.net)} with the days before"


def curve(overview: Overview, namespace: str) -> list[tuple[int, int]]:
    """What the newest day earned over tape time, as points of ms and paise."""
    return [(ts // MILLISECOND, net) for ts, net in lane_of(overview, namespace).curve]


def positions(overview: Overview, namespace: str) -> dict[str, list[Any]]:
    """Rows of ``POSITIONS``."""
    return {
        f"{one.run} {one.symbol} {one.product}": [
            one.symbol, one.quantity, one.unrealized, one.last, one.average, one.strategy, one.product,
        ]
        for one in lane_of(overview, namespace).positions
        if one.quantity
    }  # fmt: skip


def orders(overview: Overview, namespace: str) -> dict[str, list[Any]]:
    """Rows of ``ORDERS``."""
    return {
        f"{one.run} {one.id}": [
            one.ts // MILLISECOND, one.symbol, one.side, one.quantity, one.status, one.filled,
            one.average or one.limit or 0.0, one.reason, one.strategy, one.leg or one.kind, one.run,
        ]
        for one in lane_of(overview, namespace).orders
    }  # fmt: skip


def order(overview: Overview, namespace: str, key: str) -> dict[str, Any] | None:
    """All that is known of one order, with its fills: the content of a ``Detail``."""
    lane = lane_of(overview, namespace)
    found = next((one for one in lane.orders if f"{one.run} {one.id}" == key), None)
    if found is None:
        return None
    fills = [
        f"{one.side} {one.quantity:,} at {one.price:,.2f}, charges {one.charges / 100:,.2f}"
        for one in lane.fills
        if one.run == found.run and one.order == found.id
    ]
    facts = [
        ["order", found.id], ["run", found.run], ["state", f"{found.status} {found.reason}".strip()],
        ["fills", "\n".join(fills) or "none"], ["tag", found.tag], ["correlation", found.correlation_id],
        ["why it is so", f"alphapanda why {found.run} {found.id}"],
    ]  # fmt: skip
    return {
        "title": f"{found.side} {found.quantity:,} {found.symbol}",
        "facts": [one for one in facts if one[1]],
    }


def limits(overview: Overview, namespace: str) -> list[dict[str, Any]]:
    """What is used of each limit, for ``Meters``."""
    kinds = {"rupees": "rupees", "orders": "int", "percent": "percent"}
    return [
        {"label": one.name, "used": one.used, "limit": one.limit, "kind": kinds.get(one.unit, "rupees")}
        for one in lane_of(overview, namespace).limits
    ]


def buttons(view: View) -> list[str]:
    """What can be done about a run."""
    if view.ended:
        return []
    return ["resume" if view.state == "paused" else "pause", "stop"]


def runs(overview: Overview) -> dict[str, list[Any]]:
    """Rows of ``RUNS``: those that trade first, then the newest that ended."""
    rows: dict[str, list[Any]] = {}
    for view in overview.runs[:RUNS_MAX]:
        fault = view.fault
        why = fault.message if fault is not None else view.reason
        rows[view.run] = [
            view.name, view.namespace, view.books.net, buttons(view), view.label, view.books.unrealized,
            view.books.charges, view.count.get("orders", 0), view.count.get("denials", view.count.get("denied", 0)),
            parameters_text(view.parameters), why[:300], view.run,
        ]  # fmt: skip
    return rows


def active(overview: Overview) -> dict[str, list[Any]]:
    """``runs`` without what has ended, unless nothing else is there."""
    rows = runs(overview)
    ended = {view.run for view in overview.runs if view.ended}
    return {key: row for key, row in rows.items() if key not in ended}


def pairs(overview: Overview) -> dict[str, list[Any]]:
    """Rows of ``PAIRS``: the same module and parameters in two namespaces, the newest run of each."""
    newest: dict[tuple[str, str], dict[str, View]] = {}
    for view in overview.runs:
        same = view.digest, repr(sorted(view.parameters.items()))
        newest.setdefault(same, {}).setdefault(view.namespace, view)
    rows: dict[str, list[Any]] = {}
    for found in newest.values():
        sides = sorted(found.values(), key=lambda view: (view.live, view.namespace))
        for other in sides[1:]:
            first = sides[0]
            rows[f"{first.run}|{other.run}"] = [
                first.name, other.books.net - first.books.net, ["drift"], first.namespace, first.books.net,
                first.count.get("orders", 0), other.namespace, other.books.net, other.count.get("orders", 0),
                parameters_text(first.parameters),
            ]  # fmt: skip
    return rows


def candles(overview: Overview, namespace: str, symbol: str, reader: Reader) -> dict[str, Any]:
    """Today's minutes of an instrument and the namespace's fills in it; of the busiest one where none is named."""
    lane = lane_of(overview, namespace)
    traded = Counter(one.symbol for one in lane.fills)
    symbols = sorted(overview.prices, key=lambda name: (name not in traded, name))
    if symbol not in symbols:
        symbol = max(symbols, key=lambda name: traded[name], default="")
    bars = reader.bars(symbol) if symbol else None
    columns = (bars.ts, bars.open, bars.high, bars.low, bars.close) if bars else ((), (), (), (), ())
    done = Counter[tuple[int, str]]()
    for one in lane.fills:
        if one.symbol == symbol:
            done[one.ts // SECOND // 60 * 60, one.side] += one.quantity
    return {
        "symbols": symbols,
        "symbol": symbol,
        "bars": [(ts // SECOND, *prices) for ts, *prices in zip(*columns, strict=True)],
        "marks": [(minute, side, f"{quantity:,}") for (minute, side), quantity in sorted(done.items())],
    }

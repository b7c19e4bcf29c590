"""Two runs of one strategy laid side by side as values: each decision with what either run made of it.

A decision is named by its place on the tape and its number there, in whatever namespace it was taken, so a pair needs
no guess. Exits that the platform placed go with the decision whose position they close.
"""

from __future__ import annotations

from typing import Any

import msgspec

from alphapanda.events import CancelSignal, Fill
from alphapanda.instruments import Instrument
from alphapanda.orders import Order
from alphapanda.result import Result

BOTH, DIFFERS = "both", "differs"
FAR = 1 << 62

Key = tuple[int, str, int, str]
"""A decision: row of the tape, strategy, number of the decision there, leg of an exit that followed from it."""


class Side(msgspec.Struct, frozen=True):
    """What one run made of a decision: ``average`` in price units, ``ts`` the tape time of the last fill (0: none),
    ``realized`` before charges; both in paise."""

    status: str
    reason: str = ""
    filled: int = 0
    average: float = 0.0
    ts: int = 0
    charges: int = 0
    realized: int = 0

    @property
    def net(self) -> int:
        """Realized profit less charges, paise."""
        return self.realized - self.charges


class Pair(msgspec.Struct, frozen=True):
    """One decision in both runs, or in the one that took it.

    ``decided`` is "both", "differs" (the same place, other terms) or "only" with the run's name. ``slip`` is what the
    second run paid more, or got less, for a unit, in price units; ``cost`` the same in paise for what both filled; None
    where they did not trade the same side of the same instrument.
    ``gap`` is what the second has realized after charges more than the first, up to and with this row.
    """

    key: Key
    ts: int
    what: str  # BUY, SELL, CANCEL; both with a stroke between where they differ
    quantity: int
    instrument: Instrument | None
    decided: str
    first: Side | None
    second: Side | None
    slip: float | None
    cost: int | None
    gap: int

    @property
    def slip_ticks(self) -> float | None:
        """``slip`` in ticks of the instrument."""
        return None if self.slip is None or self.instrument is None else self.slip / self.instrument.tick_size

    @property
    def symbol(self) -> str:
        """``EXCHANGE:TRADINGSYMBOL``; "" for a cancel."""
        return self.instrument.symbol if self.instrument else ""

    @property
    def scale(self) -> int:
        """Price units a rupee."""
        return self.instrument.price_scale if self.instrument else 100

    def price(self, side: Side | None) -> float | None:
        """The average price of one side in rupees; None before a fill."""
        return side.average / self.scale if side is not None and side.filled else None


def pair_up(
    first: Result, second: Result, names: tuple[str, str], until: int = FAR, since: int = 0
) -> list[Pair]:
    """The decisions of two results from one time of the tape through another, in its order.

    Where each has one strategy, the two are one, whatever they are called.
    """
    alone = len(first.strategies) == len(second.strategies) == 1
    left, right = (_decisions(one, alone, since, until) for one in (first, second))
    pairs: list[Pair] = []
    gap = 0
    for key in sorted({*left, *right}):
        pairs.append(_pair(key, left.get(key), right.get(key), names, gap))
        gap = pairs[-1].gap
    return pairs


class _Taken(msgspec.Struct, frozen=True):
    """A decision of one run: what was decided, and what came of it."""

    terms: tuple[Any, ...]
    ts: int
    what: str
    quantity: int
    instrument: Instrument | None
    side: Side


def _decisions(result: Result, alone: bool, since: int, until: int) -> dict[Key, _Taken]:
    """Everything that a run decided, and the exits that followed."""
    fills: dict[str, list[Fill]] = {}
    for fill in result.fills:
        fills.setdefault(fill.order_id, []).append(fill)
    found: dict[Key, _Taken] = {}
    for order in result.orders:
        signal = order.signal
        if since <= signal.ts <= until:
            key = signal.seq, "" if alone else order.strategy, signal.ordinal, order.leg
            found[key] = _order(order, fills.get(order.id, []))
    for cancel in result.cancels:
        if since <= cancel.ts <= until:
            found[cancel.seq, "" if alone else cancel.strategy, cancel.ordinal, ""] = _cancel(cancel)
    return found


def _order(order: Order, fills: list[Fill]) -> _Taken:
    signal = order.signal
    terms = (
        signal.symbol, signal.quantity, signal.product, signal.limit, signal.stop, signal.sl, signal.tp,
        signal.validity, signal.ttl, signal.tag,
    )  # fmt: skip
    side = Side(
        order.status,
        order.reason,
        abs(order.filled),
        order.turnover / abs(order.filled) if order.filled else 0.0,
        fills[-1].ts if fills else 0,
        charges_of(fills),
        sum(fill.realized for fill in fills),
    )
    return _Taken(terms, signal.ts, order.side, abs(signal.quantity), order.instrument, side)


def _cancel(cancel: CancelSignal) -> _Taken:
    order = cancel.order_id.partition(":")[2]  # without the strategy's name
    return _Taken((order,), cancel.ts, "CANCEL", 0, None, Side("asked"))


def _pair(key: Key, one: _Taken | None, two: _Taken | None, names: tuple[str, str], gap: int) -> Pair:
    taken = one or two
    assert taken is not None  # noqa: S101 - a key comes from one of them
    if one is None or two is None:
        decided = f"only {names[0] if two is None else names[1]}"
    else:
        decided = BOTH if one.terms == two.terms or key[3] else DIFFERS
    first, second = one and one.side, two and two.side
    what, slip, cost = taken.what, None, None
    if one and two and one.what != two.what:
        what = f"{one.what}/{two.what}"
    elif one and two and one.instrument == two.instrument and one.side.filled and two.side.filled:
        slip, cost = _slipped(one, two)
    gap += (second.net if second else 0) - (first.net if first else 0)
    return Pair(
        key, taken.ts, what, taken.quantity, taken.instrument, decided, first, second, slip, cost, gap
    )


def _slipped(one: _Taken, two: _Taken) -> tuple[float, int]:
    """What the second paid more, or got less: for a unit in price units, and for what both filled in paise."""
    assert one.instrument is not None  # noqa: S101 - a cancel does not fill
    slip = (two.side.average - one.side.average) * (1 if one.what == "BUY" else -1)
    n, d = one.instrument.paise_ratio
    return slip, round(slip * min(one.side.filled, two.side.filled) * n / d)


def charges_of(fills: list[Fill]) -> int:
    """What the fills were charged, paise."""
    return sum(sum(fill.charges) for fill in fills)

"""The simulated venue: when, how much and at what price a working order fills.

Rules, each the careful side of what a real book would do:

- An order never fills on the event that caused it: the venue sees it ``latency`` later and it fills at the earliest on
  the next event of its instrument.
- A market order takes the opposite quote where the data has one, else the traded price, plus slippage.
- A limit order that is marketable when it arrives takes the quote, which is no worse than its limit; once it rests it
  fills at its limit when the opposite quote (or, without quotes, a trade) reaches it, or a trade goes through it.
- A stop triggers on a traded price at or beyond it and fills on that event at the worse of stop and quote; inside a
  bar (a tape made from bars) the price moved through the stop, so it fills at the stop.
- One event gives an arriving order at most the shown depth, else, and to resting orders always, the traded volume x
  participation, shared by our orders of one side, in whole lots; the rest waits. No trade and no depth gives nothing.
- Outside a known circuit band nothing fills. IOC ends after its first event, TTL and DAY when the desk says so.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

import msgspec

from alphapanda.errors import ConfigurationError
from alphapanda.events import Block
from alphapanda.orders import ACCEPT, CANCEL, SENT, WORKING, Order

UNLIMITED = 1 << 62


class Fills(msgspec.Struct, frozen=True, kw_only=True):
    """How the simulated venue treats orders; all in event time, drawn from ``seed`` per order id.

    ``slippage_ticks`` worsens each market or stop fill by whole ticks, ``slippage_bps`` by a share of the price (basis
    points; rounded up to the grid). ``latency_ms`` delays an order's arrival, plus up to ``latency_jitter_ms`` drawn
    uniformly. ``participation`` is the share of an event's traded volume that we may take.
    """

    slippage_ticks: int = 0
    slippage_bps: float = 0.0
    latency_ms: float = 0.0
    latency_jitter_ms: float = 0.0
    participation: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            whole = name in ("slippage_ticks", "seed")
            number = not isinstance(value, bool) and isinstance(value, int if whole else (int, float))
            if (
                not number
                or not (name == "seed" or 0 <= value < 1e9)
                or (name == "participation" and not 0 < value <= 1)
            ):
                wanted = "from 0 (not included) to 1" if name == "participation" else "0 or above"
                raise ConfigurationError(
                    f"fills {name} = {value!r} is not a{' whole' if whole else ''} number {wanted}",
                    fix=f"give {name} such a number",
                    code="E_LIMIT",
                    field=name,
                )


class Owner(Protocol):
    """Who is told what the venue did."""

    bands: list[tuple[int, int] | None]

    def filled(self, order: Order, quantity: int, price: int, seq: int, ts: int) -> None:
        """``quantity`` (signed) of ``order`` traded at ``price`` units."""
        ...

    def changed(self, order: Order, event: str, reason: str, ts: int) -> None:
        """``order`` was accepted, cancelled or expired."""
        ...


class Venue(Protocol):
    """Where a desk's accepted orders go: the simulated exchange below, or a way to a broker."""

    working: dict[str, list[Order]]
    """Orders that can still fill, by symbol; a symbol without any is not in it."""

    @property
    def real(self) -> bool:
        """Whether only the venue knows what fills and ends."""
        ...

    def add(self, order: Order, ts: int) -> None:
        """Take an order sent at ``ts``."""
        ...

    def withdraw(self, order: Order, reason: str, ts: int) -> None:
        """Try to cancel a working order; the owner is told what became of it."""
        ...

    def remove(self, order: Order) -> None:
        """Forget an order that has ended."""
        ...

    def hold(self, order: Order) -> None:
        """An order that had ended can fill again."""
        ...

    def match(self, symbol: str, block: Block, row: int, ts: int) -> None:
        """An event of an instrument that has working orders: tell the owner what filled."""
        ...


class Exchange:
    """The book of our working orders by instrument, matched against each event of the tape."""

    real = False

    def __init__(self, fills: Fills, owner: Owner) -> None:
        self.working: dict[str, list[Order]] = {}  # by symbol
        self._quiet: dict[str, tuple[int, int] | None] = {}  # by symbol: prices between which nothing happens
        self._owner = owner
        self._fills = fills
        self._latency = round(fills.latency_ms * 1e6)
        self._jitter = round(fills.latency_jitter_ms * 1e6)
        self._exact = not fills.slippage_ticks and not fills.slippage_bps
        self._partial = fills.participation != 1.0

    def add(self, order: Order, ts: int) -> None:
        """Take an order sent at ``ts``."""
        delay = self._latency
        if self._jitter:
            delay += random.Random(f"{self._fills.seed}:{order.id}").randrange(self._jitter + 1)
        order.active_ts = ts + delay
        symbol = order.signal.symbol
        self._quiet[symbol] = None
        queue = self.working.get(symbol)
        if queue is None:
            self.working[symbol] = [order]
        else:
            queue.append(order)

    def withdraw(self, order: Order, reason: str, ts: int) -> None:
        """Cancelled at once: the simulated venue knows no race but that of the tape's events."""
        self._owner.changed(order, CANCEL, reason, ts)

    def hold(self, order: Order) -> None:
        """Never asked of a simulated venue: what has ended here has ended."""
        raise AssertionError(order.id)

    def remove(self, order: Order) -> None:
        """Forget an order that has ended."""
        symbol = order.signal.symbol
        queue = self.working[symbol]
        if len(queue) == 1:
            del self.working[symbol]
        else:
            queue.remove(order)

    def match(self, symbol: str, block: Block, row: int, ts: int) -> None:
        """Let one event of an instrument meet our working orders, oldest first."""
        price = block.price.item(row)
        if is_quiet(self._quiet.get(symbol), price, block, row):
            return
        queue = self.working[symbol]
        band = self._owner.bands[queue[0].index]
        if band is not None and not band[0] <= price <= band[1]:
            return
        bid, ask, traded, depth = self._counterpart(block, row)
        inside = block.inside is not None and block.inside.item(row)
        for order in tuple(queue):  # what a fill makes a strategy send waits for the next event
            if order.active_ts > ts or order.status not in WORKING:
                continue
            buying = order.target > 0
            touch = (ask if buying else bid) or price
            if order.signal.limit is None and order.signal.stop is None:
                at = touch if self._exact else self._slipped(order, buying, touch)
            else:
                at = self._price(order, buying, price, touch, inside)
            if at is not None:
                pool = traded if depth is None or order.resting else depth
                left = order.target - order.filled
                if abs(left) > pool[buying]:
                    lot = order.instrument.lot_size
                    left = pool[buying] // lot * (lot if buying else -lot)
                if left:
                    pool[buying] -= abs(left)
                    self._owner.filled(order, left, at, block.first + row, ts)
            if order.status in WORKING:
                self._rest(order, ts)
        left = self.working.get(symbol)
        if left is not None:
            self._quiet[symbol] = self._band_of_quiet(left)

    def quiet(self, symbol: str) -> tuple[int, int] | None:
        """Prices in units strictly between which no working order of the symbol can do anything; None: none such."""
        return self._quiet.get(symbol)

    def _band_of_quiet(self, queue: Sequence[Order]) -> tuple[int, int] | None:
        """Prices strictly between which none of these orders can do anything; None if one acts on any event."""
        low, high = 0, UNLIMITED
        for order in queue:
            signal = order.signal
            waits_for = signal.limit if order.triggered or signal.stop is None else signal.stop
            if order.status == SENT or waits_for is None or not (order.resting or waits_for is signal.stop):
                return None
            falling = (order.target > 0) == (
                signal.stop is None or order.triggered
            )  # buys low, or stops a long
            if falling:
                low = max(low, waits_for)
            else:
                high = min(high, waits_for)
        return low, high

    def _counterpart(self, block: Block, row: int) -> tuple[int, int, list[int], list[int] | None]:
        """Bid, ask (0: none), and what this event gives to [sells, buys]: by trade, and by depth where it is shown."""
        volume = UNLIMITED
        if block.volume is not None:
            volume = block.volume.item(row)
            if self._partial:
                volume = int(volume * self._fills.participation)
        traded = [volume, volume]
        if block.bid is None or block.ask is None:
            return 0, 0, traded, None
        bid, ask = block.bid.item(row), block.ask.item(row)
        if not bid and not ask:
            return 0, 0, traded, None
        if block.bid_quantity is None or block.ask_quantity is None:
            return bid, ask, traded, [UNLIMITED, UNLIMITED]
        return bid, ask, traded, [block.bid_quantity.item(row), block.ask_quantity.item(row)]

    def _rest(self, order: Order, ts: int) -> None:
        """What is left after the order met an event: IOC ends, the rest waits in the book."""
        if order.signal.validity == "IOC":
            self._owner.changed(order, CANCEL, "IOC: the rest found no counterpart", ts)
        elif order.status == SENT:
            self._owner.changed(order, ACCEPT, "", ts)

    def _price(self, order: Order, buying: bool, price: int, touch: int, inside: bool) -> int | None:
        """Where an order that names a price would trade on this event; None: not at all."""
        signal = order.signal
        stop, limit = signal.stop, signal.limit
        if stop is not None and not order.triggered:
            if (price < stop) if buying else (price > stop):
                return None
            order.triggered = True
            touch = stop if inside else (max(stop, touch) if buying else min(stop, touch))
        if limit is None:
            return touch if self._exact else self._slipped(order, buying, touch)
        if order.resting:
            reached = (touch <= limit or price < limit) if buying else (touch >= limit or price > limit)
            return limit if reached else None
        if (touch > limit) if buying else (touch < limit):
            order.resting = True
            return None
        came_through = (
            inside and stop is None and ((signal.reference > limit) if buying else (signal.reference < limit))
        )
        return limit if came_through else touch

    def _slipped(self, order: Order, buying: bool, touch: int) -> int:
        fills = self._fills
        tick = order.instrument.tick_size
        ticks = fills.slippage_ticks - int(-touch * fills.slippage_bps / 10_000 // tick)
        return touch + ticks * tick if buying else max(touch - ticks * tick, tick)


def is_quiet(band: tuple[int, int] | None, price: int, block: Block, row: int) -> bool:
    """Whether one event's price and quotes lie inside a band in which nothing can happen."""
    if band is None or not band[0] < price < band[1]:
        return False
    if block.bid is None or block.ask is None:
        return True
    return block.bid.item(row) < band[1] and band[0] < (block.ask.item(row) or price)

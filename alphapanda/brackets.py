"""Orders that protect or only close a position, and never turn it over.

A bracket's exits grow with the fills of their entry and shrink with each other: one cancels the other, part by part.
A strategy's own order that only closes what it holds is marked so when it is sent. After every fill that makes a
position smaller, whatever would close more than is left gives way; so a stop, a target and a ``close_all`` that race
end flat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from alphapanda.events import Signal
from alphapanda.orders import CANCEL, WORKING, Order

if TYPE_CHECKING:
    from alphapanda.desk import Desk


class Exits(msgspec.Struct, gc=False):
    """The two protective orders of one bracket entry; None where the entry has no such leg or it has ended."""

    sl: Order | None = None
    tp: Order | None = None
    made: int = 0


class Brackets:
    """The closing orders of one desk."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._exits: dict[str, Exits] = {}  # by entry, for the day

    def forget(self) -> None:
        """A new day: yesterday's orders have all ended."""
        self._exits.clear()

    def mark_closing(self, order: Order) -> None:
        """Note whether a strategy's order only closes what the strategy holds; one that turns the position over at
        market takes its protective exits with it."""
        signal = order.signal
        held = self._desk.books[order.owner].held(order.index, signal.product)
        if not held or (held > 0) == (order.target > 0):
            return
        queue = self._desk.exchange.working.get(signal.symbol)
        own = (
            ()
            if queue is None
            else tuple(o for o in queue if o.owner == order.owner and o.signal.product == signal.product)
        )
        promised = sum(o.remaining for o in own if o.closing and not o.leg)
        order.closing = order.quantity <= abs(held) - promised
        if not order.closing and order.kind == "MARKET":
            for exit_order in own:
                if exit_order.leg:
                    self._desk.cancel(exit_order, "the strategy turns the position over", signal.ts)

    def protect(self, order: Order, quantity: int, price: int, ts: int) -> None:
        """After a fill: exits grow with their entry and shrink with each other."""
        if order.leg in ("", "square-off"):
            self._grow_exits(order, -quantity, price, ts)
        elif (exits := self._exits.get(order.parent_id)) is not None:
            sibling = exits.tp if order is exits.sl else exits.sl
            if sibling is not None and sibling.status in WORKING:
                self._resize(sibling, sibling.target - quantity, ts)

    def _grow_exits(self, entry: Order, quantity: int, price: int, ts: int) -> None:
        signal = entry.signal
        exits = self._exits.get(entry.id)
        if exits is None:
            exits = self._exits[entry.id] = Exits()
        exits.made += 1
        number = "" if exits.made == 1 else str(exits.made)
        if exits.sl is not None and exits.sl.status in WORKING:
            exits.sl.target += quantity
        elif signal.sl is not None:
            exits.sl = self._make_exit(entry, f"sl{number}", quantity, None, signal.sl, price, ts)
        if exits.tp is not None and exits.tp.status in WORKING:
            exits.tp.target += quantity
        elif signal.tp is not None:
            exits.tp = self._make_exit(entry, f"tp{number}", quantity, signal.tp, None, price, ts)

    def _make_exit(
        self, entry: Order, leg: str, quantity: int, limit: int | None, stop: int | None, price: int, ts: int
    ) -> Order:
        parent = entry.signal
        signal = Signal(
            parent.strategy, parent.seq, parent.ordinal, ts, parent.symbol, quantity, price,
            product=parent.product, limit=limit, stop=stop, tag=parent.tag,
        )  # fmt: skip
        order = Order(
            signal,
            entry.instrument,
            entry.index,
            entry.owner,
            target=quantity,
            parent_id=entry.id,
            leg=leg,
            closing=True,
        )
        self._desk.orders.append(order)
        self._desk.account.orders_today += 1
        self._desk.exchange.add(order, ts)
        self._desk.listener.order_changed(order)
        return order

    def _resize(self, order: Order, target: int, ts: int) -> None:
        """Change a working order's wanted quantity; what is already filled stays; nothing left ends it."""
        if not order.leg:
            (self._desk.account.buying if order.target > 0 else self._desk.account.selling)[order.index] += (
                target - order.target
            )
        done = order.filled
        if done == target or (done > target) == (order.target > 0):
            order.target = done or order.target
            if not order.leg:  # what ``changed`` takes off the working quantity was taken off above
                (self._desk.account.buying if order.target > 0 else self._desk.account.selling)[
                    order.index
                ] += order.target - target
            self._desk.changed(order, CANCEL, "the position it would close is closed", ts)
        else:
            order.target = target

    def trim(self, order: Order, held: int, ts: int) -> None:
        """After a fill: no order that only closes may be larger than what is held now; the oldest exits give way."""
        room = {"sl": abs(held), "tp": abs(held)}
        for other in reversed(tuple(self._desk.exchange.working.get(order.signal.symbol, ()))):
            if (
                not other.closing
                or other.owner != order.owner
                or other.signal.product != order.signal.product
                or other.status not in WORKING
            ):
                continue
            kind = other.leg[:2]
            most = room.get(kind, abs(held)) if held and (other.target > 0) != (held > 0) else 0
            keep = min(other.remaining, most)
            if kind in room:
                room[kind] -= keep
            if keep != other.remaining:
                self._resize(other, other.filled + (keep if other.target > 0 else -keep), ts)

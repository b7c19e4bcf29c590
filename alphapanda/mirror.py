"""The desk as a runner sees it: what it wants goes to the gateway, what the gateway did comes back.

A ``Mirror`` stands where research has its desk, so engine and strategy cannot tell the two apart: ``buy`` returns an
order whose verdict is known, a fill is in the books before ``on_fill``, and a tick is shown only when it is certain
what the orders working at that tick did. For that the runner waits for the gateway's answer, about a millisecond, at a
signal and at a tick that may concern a working order; all other ticks pass at full speed.

One difference from research is left. What one tick, or one instant of the day, does to several orders has all happened
at the gateway before the strategy hears the first of it. It hears all in research's order and sees the same books at
each; but what it does about the first meets what the gateway holds after the last: a cancel comes too late for an order
that filled at the same tick.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from alphapanda.account import Account
from alphapanda.desk import Desk
from alphapanda.events import Block, CancelSignal, Fill
from alphapanda.exchange import is_quiet
from alphapanda.instruments import Instrument
from alphapanda.money import divide
from alphapanda.orders import WORKING, Order
from alphapanda.requests import FillTold, FillUpdate, OrderUpdate, Place, Reply, Request
from alphapanda.risk import Limits
from alphapanda.rulebook import Rulebook

if TYPE_CHECKING:
    from alphapanda.engine import Engine

Ask = Callable[[Request], Reply]
"""Waits for the gateway's answer. A strategy's callback may stand between it and the runner, and what that raises halts
the strategy: where no answer can come, raise what is not an ``Exception``."""


class Shelf:
    """The run's working orders, as far as the runner has heard."""

    real = False  # what to do at a moment of the day is asked of the gateway, whatever stands behind it

    def __init__(self, mirror: Mirror) -> None:
        self.working: dict[str, list[Order]] = {}
        self.quiet: dict[str, tuple[int, int] | None] = {}
        self._mirror = mirror

    def add(self, order: Order, ts: int) -> None:
        """The order works at the gateway."""
        queue = self.working.setdefault(order.signal.symbol, [])
        if order not in queue:
            queue.append(order)

    def withdraw(self, order: Order, reason: str, ts: int) -> None:
        """Only the gateway cancels."""

    def hold(self, order: Order) -> None:
        """It works at the gateway again."""
        self.add(order, 0)

    def remove(self, order: Order) -> None:
        """The order has ended."""
        queue = self.working.get(order.signal.symbol, [])
        if order in queue:
            queue.remove(order)
            if not queue:
                del self.working[order.signal.symbol]

    def match(self, symbol: str, block: Block, row: int, ts: int) -> None:
        """A tick that may concern a working order: hear what it did before anybody sees the tick."""
        if not is_quiet(self.quiet.get(symbol), block.price.item(row), block, row):
            self._mirror.catch_up()


class Mirror(Desk):
    """Sends what one strategy decides, and keeps orders and books as the gateway reports them."""

    def __init__(
        self,
        run: str,
        name: str,
        instruments: tuple[Instrument, ...],
        capital: int,
        rulebook: Rulebook,
        ask: Ask,
        engine: Engine,
    ) -> None:
        self._shelf = Shelf(self)
        account = Account(len(instruments), Limits())
        super().__init__(instruments, (name,), capital, rulebook, account, lambda _: self._shelf, engine)
        self._run, self._ask, self._engine = run, ask, engine
        self._by_id: dict[str, Order] = {}
        self._untold: dict[tuple[str, int], Fill] = {}
        self._booked: dict[str, int] = {}  # by order: the number of its newest fill in the books
        self._replies = 0
        self._heard: dict[str, int] = {}  # by order: the newest reply that told how it stands
        self._asked_at = (-2, 0)
        self._asked = 0  # questions at that row and time
        self.signals = 0

    # ── out ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def submit(self, order: Order) -> None:
        """Send a signal; when this returns the gateway's verdict is known."""
        self.orders.append(order)
        self._by_id[order.id] = order
        self.signals += 1
        self._apply(self._ask(Request(self._run, order.signal.id, self._place(), signal=order.signal)))

    def withdraw(self, order: Order, signal: CancelSignal) -> None:
        """Ask to cancel an order; it may have filled at the tick being handled."""
        identity = f"{signal.strategy}:{signal.seq}:{signal.ordinal}"
        self._apply(self._ask(Request(self._run, identity, self._place(), cancel=signal)))

    def withdraw_entries(self, owner: int, reason: str, ts: int) -> None:
        """The strategy is halted: the gateway withdraws its entries and takes no more."""
        why = self._engine.callbacks.halted[owner] or reason
        place = self._place()
        self._apply(self._ask(Request(self._run, self._question(place, "halt"), place, halt=why)))

    def catch_up(self, passed: bool = False) -> None:
        """Hear what the orders did up to here; ``passed`` when what is due now counts as handled."""
        place = self._place()
        if passed:
            place = Place(place.through, place.ts, place.rank + 1, place.day_end)
        self._apply(self._ask(Request(self._run, self._question(place, "sync"), place)))

    def look(self, place: Place, identity: str) -> None:
        """Hear what the gateway did on its own: an operator's cancel, halt or exit."""
        self._apply(self._ask(Request(self._run, identity, place)))

    def _place(self) -> Place:
        return Place(*self._engine.place_of(), self._engine.day.end)

    def _question(self, place: Place, kind: str) -> str:
        """An id that the same run asks with again when it is played again."""
        at = place.through, place.ts
        self._asked = self._asked + 1 if at == self._asked_at else 0
        self._asked_at = at
        return f"{kind}:{place.through}:{place.ts}:{place.rank}:{self._asked}"

    # ── in ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _apply(self, reply: Reply) -> None:
        """Take in a reply. What the strategy is told of it may make it ask, so replies come within replies."""
        self._replies += 1
        number = self._replies
        self._shelf.quiet = reply.quiet
        if reply.halt:
            self._engine.callbacks.halt(0, reply.halt)
        for update in reply.updates:
            if isinstance(update, OrderUpdate):
                self._changed(update, number)
            elif isinstance(update, FillUpdate):
                self._filled(update)
            else:
                self._told(update)

    def _changed(self, update: OrderUpdate, number: int) -> None:
        order = self._by_id.get(update.id)
        if order is None:
            order = self._platforms_own(update)
        if self._heard.get(update.id, 0) <= number:  # else a reply within this one knew better
            self._heard[update.id] = number
            self._stands(order, update)
        if update.told:
            self.listener.order_changed(order)

    def _stands(self, order: Order, update: OrderUpdate) -> None:
        order.status, order.reason = update.status, update.reason
        order.filled, order.target, order.turnover = update.filled, update.target, update.turnover
        order.fills, order.end_ts = update.fills, update.end_ts
        order.triggered, order.resting, order.closing = update.triggered, update.resting, update.closing
        if order.status in WORKING:
            self._shelf.add(order, 0)
        else:
            self._shelf.remove(order)

    def _platforms_own(self, update: OrderUpdate) -> Order:
        signal = update.signal
        assert signal is not None  # noqa: S101 - the gateway sends it with every order that we did not make
        index = self._engine.host.find(signal.symbol)
        order = Order(
            signal,
            self.instruments[index],
            index,
            0,
            parent_id=update.parent_id,
            leg=update.leg,
            closing=True,
        )
        self._by_id[update.id] = order
        self.orders.append(order)
        return order

    def _filled(self, update: FillUpdate) -> None:
        if update.number <= self._booked.get(update.order_id, 0):
            return  # an answer that comes twice is one
        self._booked[update.order_id] = update.number
        order = self._by_id[update.order_id]
        index, signal, quantity = order.index, order.signal, update.quantity
        n, d = self._ratios[index]
        value = divide(quantity * update.price_units * n, d)
        cost = sum(update.charges)
        self.books[0].book(index, order.instrument, signal.product, quantity, value, cost)
        self.net[index] += quantity
        self.account.net[index] += quantity
        fill = Fill(
            order.instrument, signal, order.leg, update.number, update.seq, update.ts, quantity, update.price_units,
            update.charges, update.realized, update.position,
        )  # fmt: skip
        self.fills.append(fill)
        self._untold[update.order_id, update.number] = fill

    def _told(self, update: FillTold) -> None:
        fill = self._untold.pop((update.order_id, update.number), None)
        if fill is not None and self.listener.hears[0]:
            self.listener.order_filled(fill, 0)

    # ── the day: what the gateway does at these moments may concern us ───────────────────────────────────────────

    def expire(self, order: Order, reason: str, ts: int) -> None:
        """A time to live is over."""
        if order.status in WORKING:
            self.catch_up(passed=True)

    def square_off(self, index: int, product: str, ts: int, leg: str = "square-off", why: str = "") -> None:
        """The broker's own exit is due."""
        held = self.books[0].positions.get(index, ())
        if any(p.quantity for p in held) or self.instruments[index].symbol in self._shelf.working:
            self.catch_up(passed=True)

    def settle_unsold(self, index: int, product: str, ts: int) -> list[Order]:
        """The session closes: square-off orders that found no trade are settled."""
        working = self._shelf.working.get(self.instruments[index].symbol, ())
        late = [order for order in working if order.leg == "square-off"]
        if late:
            self.catch_up(passed=True)
        return late

    def close_session(self, indexes: list[int], ts: int) -> None:
        """The session has closed: what still worked has expired."""
        if any(self.instruments[index].symbol in self._shelf.working for index in indexes):
            self.catch_up(passed=True)

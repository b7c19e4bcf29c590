"""The order book: the life of every order of the day, its matching, and the updates the ticker sends.

An order passes through the interim states that Kite shows, each for a seeded while, and rests at the exchange until it
fills, is cancelled, or its day ends. It meets the quote it finds when it arrives and, resting, every later tick:

- against the five levels it takes what is offered at its limit or better, and what it takes is gone from the level;
- a resting order fills at its limit when the other side's best price reaches it, or a trade goes through it;
- in an auction it rests until the auction's trade, and fills at that price if its limit is not worse;
- in the post-close session it fills at the closing price.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator

from alphapanda.events import MINUTE, SECOND
from alphapanda.sandbox import orders as o
from alphapanda.sandbox.agenda import Agenda, Step
from alphapanda.sandbox.documents import Document, order_document, trade_document
from alphapanda.sandbox.faults import Faults
from alphapanda.sandbox.market import Market, Quote, protected_price
from alphapanda.sandbox.matching import arriving, auction, resting
from alphapanda.sandbox.orders import Change, Latency, Ledger, Order, Trade
from alphapanda.sandbox.updates import Updates

PROTECTED = "{} price {} is outside the current allowed limit price protection range."


class Book:
    """The day's orders and trades.

    ``approve(order, now)`` is risk management: the reason an order is rejected, or "". ``filled(trade)`` books a trade,
    ``rejected(order)`` hears of a rejection. ``arrive(order, now)`` is the exchange's reason to refuse it, or "";
    ``matching(quote, now)`` how orders are matched, and ``closing(quote, now)`` the price of the post-close session.
    """

    def __init__(
        self,
        market: Market,
        faults: Faults,
        ledger: Ledger,
        agenda: Agenda,
        *,
        seed: int,
        user_id: str,
        latency: Latency,
        approve: Callable[[Order, int], str],
        filled: Callable[[Trade], None],
        rejected: Callable[[Order], None],
        arrive: Callable[[Order, int], str],
        matching: Callable[[Quote, int], str],
        closing: Callable[[Quote, int], int],
    ) -> None:
        self._market, self._faults, self._ledger, self._agenda = market, faults, ledger, agenda
        self._random, self._latency = random.Random(seed), latency
        self._approve, self._filled, self._rejected = approve, filled, rejected
        self._arrive, self._matching, self._closing = arrive, matching, closing
        self.orders: dict[str, Order] = {}
        self.history: dict[str, list[tuple[int, Document]]] = {}  # each row with its time
        self.trades: list[Trade] = []
        self._updates = Updates(faults, user_id, agenda)
        self._resting: dict[int, list[Order]] = {}
        self._then: dict[str, Step] = {}

    @property
    def updates(self) -> deque[Document]:
        """Order updates that no socket has taken yet."""
        return self._updates.waiting

    def order_id(self, now: int) -> str:
        """19 digits, as Kite's are since 2025; never to be parsed."""
        return str((now // 1_000_000 << 20) | (self._agenda.number() & 0xFFFFF))

    def _after(self, now: int, delay: int, step: Step) -> None:
        self._agenda.at(now + round(delay * (0.5 + self._random.random())), step)

    # ── the life of an order ─────────────────────────────────────────────────────────────────────

    def receive(self, order: Order, now: int) -> None:
        """A new order; its life begins."""
        order.placed_ts = order.update_ts = now
        order.sequence = self._agenda.number()
        order.guid = f"{order.sequence}X{order.order_id[-6:]}"
        order.shown_tag = order.tag
        if self._faults.hit("order-tag-missing", order.subject):
            order.shown_tag, order.tags = "", ()
        elif self._faults.hit("order-tag-in-tags", order.subject):
            order.shown_tag = ""
        self.orders[order.order_id] = order
        if order.variety == "amo":
            self.show(order, o.AMO, now)
            return
        self.show(order, o.RECEIVED, now)
        self.history[order.order_id][0][1]["instrument_token"] = 1  # as in the vendor's sample
        stuck = self._faults.hit("order-stuck", order.subject)
        if stuck:
            self._agenda.at(now + round(stuck.seconds * SECOND), lambda ts: self._validate(order, ts))
        else:
            self._after(now, self._latency.received, lambda ts: self._validate(order, ts))

    def release(self, order: Order, now: int) -> None:
        """An after-market order goes out; from now on it is a regular one (kite.trade forum 40302)."""
        order.variety = "regular"
        self._validate(order, now)

    def show(self, order: Order, status: str, now: int) -> None:
        """A new status, and a row of the order's history."""
        order.status, order.update_ts = status, now
        self.history.setdefault(order.order_id, []).append((now, order_document(order)))

    def _validate(self, order: Order, now: int) -> None:
        if order.done:
            return
        self.show(order, o.VALIDATING, now)
        self._after(now, self._latency.validation, lambda ts: self._check(order, ts))

    def _check(self, order: Order, now: int) -> None:
        if order.done:
            return
        if self._faults.hit("order-rejected", order.subject):
            reason = "RMS:Blocked for the symbol by risk management. Contact your broker."
        else:
            reason = self._approve(order, now)
        if reason:
            self.reject(order, reason, now)
            return
        self.show(order, o.OPENING, now)
        self._after(now, self._latency.exchange, lambda ts: self._open(order, ts))

    def reject(self, order: Order, reason: str, now: int) -> None:
        """Risk management or the exchange says no after the order id was given out."""
        order.status_message, order.status_message_raw = reason, reason
        self._end(order, o.REJECTED, now)

    def _open(self, order: Order, now: int) -> None:
        if order.done:
            return
        if reason := self._arrive(order, now):
            self.reject(order, reason, now)
            return
        order.exchange_ts = now
        order.exchange_order_id = f"13{order.sequence:014d}"
        order.resting = True
        self._resting.setdefault(order.instrument.token, []).append(order)
        if order.trigger_price and order.order_type in ("SL", "SL-M"):
            order.waiting = True
            self.show(order, o.WAITING, now)
            self._trigger(order, self._market.quotes[order.instrument.token], now)
        else:
            self._live(order, now)
        if order.validity == "TTL" and not order.done:
            self._agenda.at(now + order.validity_ttl * MINUTE, lambda ts: self.cancelled(order, ts))

    def _live(self, order: Order, now: int) -> None:
        """At the exchange and not waiting: show it, and let it meet the quote."""
        self.show(order, o.OPEN, now)
        quote = self._market.quotes[order.instrument.token]
        if self._faults.hit("order-partial-cancel", order.subject):
            self._fill(order, max(1, order.remaining // 2), order.price or quote.last, now)
            if not order.done:
                order.status_message = order.status_message_raw = PROTECTED.format("Limit", _price(order))
                self.cancelled(order, now)
            return
        matching = self._matching(quote, now)
        if matching == "continuous":
            while not order.done and (fill := arriving(order, quote))[0]:
                self._fill(order, *fill, now)
        elif matching == "close":
            self._fill(order, order.remaining, self._closing(quote, now), now)
        if order.validity == "IOC" and not order.done:
            self.cancelled(order, now)

    # ── changes ──────────────────────────────────────────────────────────────────────────────────

    def modify(self, order: Order, change: Change, now: int) -> None:
        """Ask the exchange for other terms; until it answers the old ones stand."""
        order.modifications += 1
        if order.status == o.AMO:
            self._apply(order, change)
            self.show(order, o.AMO, now)
            return
        self.show(order, o.CHECKING_CHANGE, now)
        self._after(now, self._latency.validation, lambda ts: self._changing(order, change, ts))

    def _changing(self, order: Order, change: Change, now: int) -> None:
        if order.status != o.CHECKING_CHANGE:
            return
        self.show(order, o.CHANGING, now)
        self._after(now, self._latency.exchange, lambda ts: self._changed(order, change, ts))

    def _changed(self, order: Order, change: Change, now: int) -> None:
        if order.status != o.CHANGING:  # filled, or cancelled, before the change arrived
            return
        self._apply(order, change)
        order.exchange_ts = now
        if order.remaining <= 0:
            self._end(order, o.COMPLETE, now)
            return
        self.show(order, o.MODIFIED, now)
        order.waiting = order.waiting and order.order_type in ("SL", "SL-M")
        if order.waiting:
            self.show(order, o.WAITING, now)
            self._updates.send(order, "UPDATE", now)
            return
        self._updates.send(order, "UPDATE", now)
        self._live(order, now)

    def _apply(self, order: Order, change: Change) -> None:
        for name in change.__struct_fields__:
            value = getattr(change, name)
            if value is not None:
                setattr(order, name, value)
        order.quantity = max(order.quantity, order.filled)
        order.modified = True

    def cancel(self, order: Order, now: int) -> None:
        """Ask the exchange to cancel; fills may come first."""
        if order.status == o.AMO:
            self._end(order, "CANCELLED AMO", now)
            return
        self.show(order, o.CANCELLING, now)
        late = self._faults.hit("cancel-late", order.subject)
        if late:
            self._agenda.at(now + round(late.seconds * SECOND), lambda ts: self.cancelled(order, ts))
        else:
            self._after(now, self._latency.exchange, lambda ts: self.cancelled(order, ts))

    def cancelled(self, order: Order, now: int) -> None:
        """The exchange cancels what is left of it."""
        if not order.done:
            order.exchange_ts = now
            self._end(order, o.CANCELLED, now)

    def _end(self, order: Order, status: str, now: int) -> None:
        order.resting = order.waiting = False
        queue = self._resting.get(order.instrument.token)
        if queue and order in queue:
            queue.remove(order)
        self.show(order, status, now)
        self._updates.send(order, status, now)
        then = self._then.pop(order.order_id, None)
        if then is not None and status == o.COMPLETE:
            self._agenda.at(now, then)
        if status == o.REJECTED:
            self._rejected(order)

    def then(self, order: Order, step: Step) -> None:
        """What to do when an order completes: its next leg, or its stop."""
        self._then[order.order_id] = step

    def leave(self, order: Order, now: int) -> None:
        """Turn a waiting stop into a marketable order: how a cover order is left."""
        quote = self._market.quotes[order.instrument.token]
        order.waiting, order.order_type, order.price = False, "LIMIT", protected_price(quote, order.side, -1)
        self._live(order, now)

    # ── matching ─────────────────────────────────────────────────────────────────────────────────

    def moved(self, quote: Quote, now: int) -> None:
        """A tick: resting orders of the instrument meet it, the better price first, then the older."""
        queue = self._resting.get(quote.token)
        matching = self._matching(quote, now) if queue else ""
        if not queue or matching not in ("continuous", "auction"):
            return
        for order in sorted(queue, key=lambda one: (-one.side * one.price, one.sequence)):
            if matching == "auction":
                self._fill(order, *auction(order, quote, now), now)
            elif order.waiting:
                self._trigger(order, quote, now)
            elif order.resting:
                self._fill(order, *resting(order, quote, now), now)

    def live(self) -> Iterator[Order]:
        """Orders that are not done."""
        return (order for order in self.orders.values() if not order.done)

    def _trigger(self, order: Order, quote: Quote, now: int) -> None:
        if self._matching(quote, now) != "continuous" or order.side * (quote.last - order.trigger_price) < 0:
            return
        order.waiting = False
        if self._faults.hit("stop-vanishes", order.subject):
            order.status_message = order.status_message_raw = PROTECTED.format("Trigger", _price(order))
            self.cancelled(order, now)
            return
        if order.order_type == "SL-M":
            order.price = protected_price(quote, order.side, order.market_protection)
        self._updates.send(order, o.OPEN, now)
        self._live(order, now)

    def _fill(self, order: Order, quantity: int, price: int, now: int) -> None:
        if quantity <= 0:
            return
        trade = Trade(
            trade_id=f"{10_000_000 + self._agenda.number()}", order=order, product=order.product, price=price,
            quantity=quantity, ts=now,
        )  # fmt: skip
        order.filled += quantity
        order.value += quantity * price
        order.exchange_ts = now
        self.trades.append(trade)
        self._ledger.trades.append(trade)
        self._filled(trade)
        if order.remaining == 0:
            self._end(order, o.COMPLETE, now)
        else:
            order.update_ts = now
            self.history[order.order_id].append((now, order_document(order)))
            self._updates.send(order, "UPDATE", now)

    # ── what is asked of it ──────────────────────────────────────────────────────────────────────

    def documents(self, until: int | None = None) -> list[Document]:
        """Today's orders, the oldest first; with ``until`` as they were then."""
        if until is None:
            return [order_document(order) for order in self.orders.values()]
        known = ([row for ts, row in rows if ts <= until] for rows in self.history.values())
        return [rows[-1] for rows in known if rows]

    def trade_documents(self, order_id: str = "", until: int | None = None) -> list[Document]:
        """Today's trades, or those of one order; with ``until`` those up to then."""
        return [
            trade_document(trade)
            for trade in self.trades
            if order_id in ("", trade.order.order_id) and (until is None or trade.ts <= until)
        ]

    def clear(self, now: int) -> None:
        """The day is over: what is live is cancelled and everything forgotten, but for after-market orders."""
        kept: dict[str, Order] = {}
        for order in list(self.live()):
            if order.status == o.AMO:
                kept[order.order_id] = order
            else:
                self.cancelled(order, now)
        self.history = {order_id: self.history[order_id] for order_id in kept}
        self.orders = kept
        self.trades.clear()
        self._resting.clear()


def _price(order: Order) -> str:
    return f"{order.instrument.rupees(order.price):g}"

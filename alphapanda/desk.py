"""The desk of one namespace: signal → risk → order → venue → fill → books.

One writer of orders, positions and money, synchronous and deterministic: everything it must know arrives as a call
with the tape time in it, everything it decides leaves through ``Listener``. Research calls it inline; a gateway wraps
the same class. Ids are derived from signals, so replaying the same calls makes the same books.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from operator import mul, sub
from typing import Any, Protocol, cast

from alphapanda.account import Account
from alphapanda.brackets import Brackets
from alphapanda.charges import KINDS, ChargeRates
from alphapanda.events import SECOND, CancelSignal, Fill, Signal
from alphapanda.exchange import UNLIMITED, Venue
from alphapanda.instruments import Instrument
from alphapanda.money import divide
from alphapanda.orders import (
    DENIED,
    EXPIRE,
    FULL_FILL,
    OPEN,
    PART_FILL,
    WORKING,
    Order,
    advance,
)
from alphapanda.portfolio import Portfolio, worth
from alphapanda.risk import Check
from alphapanda.rulebook import Rulebook

GST, DP, SQUARE_OFF = (KINDS.index(kind) for kind in ("gst", "dp", "square_off"))
PRODUCTS = ("MIS", "NRML", "CNC")
MARK_AGE = 5 * SECOND  # of tape time for which one valuation serves the loss and exposure rules


class Listener(Protocol):
    """Who drives the desk: it knows the last prices and tells the strategies."""

    hears: list[bool]  # by owner: whether its strategy wants to know of orders or fills

    def last_prices(self) -> list[int]:
        """Last traded price of every instrument, in units, at this point of the tape."""
        ...

    def sequence(self) -> int:
        """Tape sequence number of the event being handled."""
        ...

    def newest_tick(self) -> int:
        """Time of the last tick of any instrument at this point of the tape; 0 before the first."""
        ...

    def order_changed(self, order: Order) -> None:
        """The order has a new status."""
        ...

    def order_filled(self, fill: Fill, owner: int) -> None:
        """The books already hold this fill of one strategy."""
        ...


class Desk:
    """Risk, orders, venue and books of strategies (owners, by number) that trade together on one account."""

    def __init__(
        self,
        instruments: tuple[Instrument, ...],
        names: tuple[str, ...],
        capital: int,
        rulebook: Rulebook,
        account: Account,
        venue: Callable[[Desk], Venue],
        listener: Listener,
    ) -> None:
        count, owners = len(instruments), len(names)
        self.instruments = instruments
        self.names = names
        self.rulebook = rulebook
        self.listener = listener
        self.account = account
        self.exchange = venue(self)
        self.brackets = Brackets(self)
        self._rules = account.rules
        shares = [capital // owners + (1 if i < capital % owners else 0) for i in range(owners)]
        self.books = [Portfolio(share) for share in shares]
        self._ratios = [instrument.paise_ratio for instrument in instruments]
        # cash equity only: price units x quantity is paise
        self._simple = all(ratio == (1, 1) for ratio in self._ratios)
        self.orders: list[Order] = []
        self.fills: list[Fill] = []
        # the day's rules, by instrument
        self.day = dt.date.min
        self.open = [False] * count
        self.bands: list[tuple[int, int] | None] = [None] * count
        self.freeze: list[int | None] = [None] * count
        self._rates: dict[str, dict[int, ChargeRates]] = {product: {} for product in PRODUCTS}
        self._delivered: set[tuple[int, int]] = set()  # (owner, instrument) that paid today's DP charge
        # delivery shares bought today: selling them does not touch the demat account
        self._bought_today: dict[tuple[int, int], int] = {}
        self.products: list[tuple[str, ...]] = [()] * count
        self.long_only: list[tuple[str, ...]] = [()] * count  # products that sell only what is held
        self.no_entry: dict[tuple[int, str], str] = {}  # (instrument, product) → why it takes no new position
        # by product and instrument: why no order can pass now
        self.standing: dict[str, list[str | None]] = {product: [None] * count for product in PRODUCTS}
        # lot and most of one order: within them no rule on either can refuse
        self._units = [(1, UNLIMITED)] * count
        # what it holds itself
        self.net = [0] * count
        self.equity = self.equity_at_open = capital  # at the last mark
        self.realized_at_open = self.charges_at_open = 0
        self._valued_at = -MARK_AGE  # for the rules
        account.join(self, capital)
        self.trusted = (
            False  # what is submitted was accepted in an earlier life: the rules are not asked again
        )
        # about the order being checked
        self.position_after = 0
        self.notional = 0
        self.reducing = False

    # ── signals in ───────────────────────────────────────────────────────────────────────────────────────────────

    def submit(self, order: Order) -> None:
        """Check a signal's order and send it to the venue, or deny it with the first rule's reason."""
        signal, index, quantity = order.signal, order.index, order.target
        self.orders.append(order)
        account = self.account
        named = self.weigh(order)
        if self.trusted:
            for check in self._rules.rates:  # they count what passes
                check(order, self)
        else:
            reason = self.standing[signal.product][index] or self._refusal(order, signal, named)
            if reason is not None:
                self.deny(order, reason)
                return
        account.orders_today += 1
        (account.buying if quantity > 0 else account.selling)[index] += quantity
        account.latest[signal.strategy, index, quantity > 0] = signal
        if index in self.books[order.owner].positions:
            self.brackets.mark_closing(order)
        self.exchange.add(order, signal.ts)

    def weigh(self, order: Order) -> bool:
        """What the rules ask about the order: its value, the position after it, whether that only shrinks, and the
        account at prices that are not too old. True if the order names a price."""
        signal, index, quantity = order.signal, order.index, order.target
        account = self.account
        held = account.net[index]
        working = account.buying if quantity > 0 else account.selling
        self.position_after = after = held + working[index] + quantity
        self.reducing = 0 <= after < held if quantity < 0 else held < after <= 0
        n, d = self._ratios[index]
        named = signal.stop if signal.limit is None else signal.limit
        self.notional = abs(quantity) * (signal.reference if named is None else named) * n // d
        if signal.ts - self._valued_at >= MARK_AGE:
            self._valued_at = signal.ts
            self.mark(self.listener.last_prices())
        return named is not None

    def off_step(self, order: Order) -> bool:
        """Whether the quantity is off the lot, or more than one order may hold."""
        lot, most = self._units[order.index]
        return bool(order.target % lot) or not -most <= order.target <= most

    def _refusal(self, order: Order, signal: Signal, named: bool) -> str | None:
        """The reason of the first rule that says no."""
        asked = self._rules
        if not signal.reference:
            return f"price: {signal.symbol} has not traded yet"
        if (named or signal.sl is not None or signal.tp is not None) and (
            reason := self._first(asked.priced, order)
        ):
            return reason
        if self.off_step(order) and (reason := self._first(asked.stepped, order)):
            return reason
        for check in asked.sized:
            if reason := check(order, self):
                return reason
        crowded = self.account.shared or signal.symbol in self.exchange.working
        if crowded and (reason := self._first(asked.crossing, order)):
            return reason
        if signal.product in self.long_only[order.index] and (reason := self._first(asked.delivery, order)):
            return reason
        if not self.reducing:
            for check in asked.growing:
                if reason := check(order, self):
                    return reason
        for check in asked.rates:
            if reason := check(order, self):
                return reason
        return None

    def _first(self, checks: Sequence[Check], order: Order) -> str | None:
        for check in checks:
            if reason := check(order, self):
                return reason
        return None

    def deny(self, order: Order, reason: str) -> None:
        """Our own no: nothing leaves the house."""
        order.status, order.reason, order.end_ts = DENIED, reason, order.signal.ts
        self.listener.order_changed(order)

    def refuse(self, order: Order, reason: str) -> None:
        """Deny an order without asking the rules."""
        self.orders.append(order)
        self.deny(order, reason)

    def cancel(self, order: Order, reason: str, ts: int) -> None:
        """Withdraw a working order; one that has ended is left as it is."""
        if order.status in WORKING:
            self.exchange.withdraw(order, reason, ts)

    def withdraw(self, order: Order, signal: CancelSignal) -> None:
        """A strategy withdraws its own order."""
        self.cancel(order, "cancelled by the strategy", signal.ts)

    def withdraw_entries(self, owner: int, reason: str, ts: int) -> None:
        """Cancel what a strategy has working, but for its protective exits."""
        for queue in tuple(self.exchange.working.values()):
            for order in tuple(queue):
                if order.owner == owner and not order.leg:
                    self.cancel(order, reason, ts)

    # ── the venue's answers ──────────────────────────────────────────────────────────────────────────────────────

    def changed(self, order: Order, event: str, reason: str, ts: int) -> None:
        """Accepted, cancelled, rejected or expired."""
        order.status = advance(order.status, event)
        if reason:
            order.reason = reason
        if order.status not in WORKING:
            order.end_ts = ts
            if not order.leg:
                account = self.account
                working = account.buying if order.target > 0 else account.selling
                working[order.index] += order.filled - order.target
            self.exchange.remove(order)
        self.listener.order_changed(order)

    def filled(self, order: Order, quantity: int, price: int, seq: int, ts: int) -> None:
        """Book a fill: order, charges, position, cash; then tell the strategy; then size its protective orders."""
        index, owner, signal = order.index, order.owner, order.signal
        order.filled = done = order.filled + quantity
        order.turnover += price * abs(quantity)
        order.fills += 1
        if done == order.target:
            order.status = advance(order.status, FULL_FILL)
            order.end_ts = ts
            self.exchange.remove(order)
        else:
            order.status = advance(order.status, PART_FILL)
        if not order.leg:
            (self.account.buying if quantity > 0 else self.account.selling)[index] -= quantity

        charges = self._charge(order, quantity)
        cost = sum(charges)
        n, d = self._ratios[index]
        value = quantity * price if n == d else divide(quantity * price * n, d)
        position, realized = self.books[owner].book(
            index, order.instrument, signal.product, quantity, value, cost
        )
        self.net[index] += quantity
        account = self.account
        held = account.net[index]
        account.net[index] = now = held + quantity
        account.gross += (abs(now) - abs(held)) * price * n // d
        self.fills.append(
            fill := Fill(
                order.instrument,
                signal,
                order.leg,
                order.fills,
                seq,
                ts,
                quantity,
                price,
                charges,
                realized,
                position.quantity,
            )
        )
        if order.leg or signal.sl is not None or signal.tp is not None:
            self.brackets.protect(order, quantity, price, ts)
        if signal.symbol in self.exchange.working and (position.quantity - quantity) * quantity < 0:
            self.brackets.trim(order, position.quantity, ts)
        if self.listener.hears[owner]:
            self.listener.order_filled(fill, owner)
            self.listener.order_changed(order)

    def _charge(self, order: Order, quantity: int) -> tuple[int, ...]:
        """This fill's charges: those of the order so far less those already booked, so no split changes the sum."""
        index, product = order.index, order.signal.product
        rates = self._rates[product].get(index) or self._rates_of(index, product)
        n, d = self._ratios[index]
        charges = total = rates.order(quantity > 0, order.turnover * n // d)
        if order.charged is not None:
            charges = tuple(map(sub, total, order.charged))
        order.charged = total
        if order.leg == "square-off" and order.fills == 1:
            charges = self._add_square_off_fee(order, charges)
        elif product == "CNC" and rates.dp_paise:
            charges = self._deliver(order, quantity, charges, rates.dp_paise)
        return charges

    def _rates_of(self, index: int, product: str) -> ChargeRates:
        rates = self._rates[product][index] = self.rulebook.charges(
            self.instruments[index], product, self.day
        )
        return rates

    def _deliver(self, order: Order, quantity: int, charges: tuple[int, ...], fee: int) -> tuple[int, ...]:
        """The depository's charge: once a scrip and day, when shares held from before today are sold."""
        key = (order.owner, order.index)
        bought = self._bought_today.get(key, 0)
        if quantity > 0:
            self._bought_today[key] = bought + quantity
            return charges
        from_today = min(bought, -quantity)
        self._bought_today[key] = bought - from_today
        if from_today == -quantity or key in self._delivered:
            return charges
        self._delivered.add(key)
        return _with(charges, DP, fee)

    # ── the day ──────────────────────────────────────────────────────────────────────────────────────────────────

    def open_day(self, day: dt.date, last: list[int]) -> None:
        """A new trading day's rules: charges, freeze quantities, circuit bands; counters start again."""
        self.day = day
        self.account.open_day(day)
        for rates in self._rates.values():
            rates.clear()
        self._delivered.clear()
        self._bought_today.clear()
        self.no_entry.clear()
        self.brackets.forget()
        for index, instrument in enumerate(self.instruments):
            self.products[index] = offered = self.rulebook.products(instrument)
            self.long_only[index] = tuple(
                p for p in offered if not self.rulebook.short_allowed(instrument, p)
            )
            freeze = self.rulebook.freeze_quantity(instrument, day)
            self.freeze[index] = freeze and freeze * self.account.limits.order_slices
            self._units[index] = instrument.lot_size, self.freeze[index] or UNLIMITED
            self.bands[index] = _band(instrument, last[index])
        self.begin_day(self.mark(last))
        self.ask_standing()

    def begin_day(self, equity: int) -> None:
        """What is earned from here on, from ``equity`` (paise), is the day's."""
        self.account.equity_at_open += equity - self.equity_at_open
        self.equity_at_open = equity
        self.realized_at_open, self.charges_at_open = self.booked()

    def booked(self) -> tuple[int, int]:
        """Profit that was realized so far, before charges, and the charges; paise."""
        held = [one for book in self.books for kept in book.positions.values() for one in kept]
        return sum(one.realized for one in held), sum(one.charges for one in held)

    def set_open(self, indexes: list[int], state: bool) -> None:
        """Continuous trading in these instruments begins or ends."""
        for index in indexes:
            self.open[index] = state
        self.ask_standing()

    def ask_standing(self) -> None:
        """Ask the standing rules again: the day, a session or the halt has moved."""
        for product, answers in self.standing.items():
            for index in range(len(self.instruments)):
                found = (check(index, product, self) for check in self._rules.standing)
                answers[index] = next((reason for reason in found if reason), None)

    def widen(self) -> None:
        """There are more instruments now; they take part from the next day on."""
        count, before = len(self.instruments), len(self.net)
        more = self.instruments[before:]
        self._ratios += [instrument.paise_ratio for instrument in more]
        self._simple = all(ratio == (1, 1) for ratio in self._ratios)
        for column, blank in (
            (self.net, 0), (self.open, False), (self.bands, None), (self.freeze, None), (self.products, ()),
            (self.long_only, ()), (self._units, (1, UNLIMITED)),
        ):  # fmt: skip
            cast("list[Any]", column).extend([blank] * (count - before))
        for answers in self.standing.values():
            answers.extend(["segment: not known when the day began"] * (count - before))
        self.account.widen(count)

    def close_session(self, indexes: list[int], ts: int) -> None:
        """Continuous trading in these instruments has ended: their working orders expire."""
        for index in indexes:
            for order in tuple(self.exchange.working.get(self.instruments[index].symbol, ())):
                self.expire(order, "the session closed", ts)

    def expire(self, order: Order, reason: str, ts: int) -> None:
        """End a working order whose time is over; at a real venue its cancel is asked for."""
        if order.status in WORKING:
            if self.exchange.real:
                self.exchange.withdraw(order, reason, ts)
            else:
                self.changed(order, EXPIRE, reason, ts)

    def reopen(self, order: Order) -> None:
        """A real venue shows a fill of an order that had ended: it is open again, to take the fill."""
        order.status = OPEN
        if not order.leg:
            working = self.account.buying if order.target > 0 else self.account.selling
            working[order.index] += order.target - order.filled
        self.exchange.hold(order)

    def stop_entries(self, index: int, product: str, reason: str) -> None:
        """From now until the day ends this product takes no new position in the instrument."""
        self.no_entry[index, product] = f"product: {reason}"

    def square_off(self, index: int, product: str, ts: int, leg: str = "square-off", why: str = "") -> None:
        """The broker's own exit: cancel what works under the product, then close each book's position at market.

        Another ``leg`` is an exit of ours, which costs no fee of the broker's for it.
        """
        why = why or f"{product} {leg}"
        instrument = self.instruments[index]
        for order in tuple(self.exchange.working.get(self.instruments[index].symbol, ())):
            if order.signal.product == product:
                self.cancel(order, why, ts)
        seq = self.listener.sequence()
        for owner, book in enumerate(self.books):
            quantity = -book.held(index, product)
            if quantity:
                reference = self.listener.last_prices()[index]
                signal = Signal(
                    self.names[owner], seq, index, ts, instrument.symbol, quantity, reference, product=product
                )
                order = Order(signal, instrument, index, owner, target=quantity, leg=leg, closing=True)
                self.orders.append(order)
                self.exchange.add(order, ts)
                self.listener.order_changed(order)

    def settle_unsold(self, index: int, product: str, ts: int) -> list[Order]:
        """Square-off orders that found no event before the close fill at the last price; returns them. At a real venue
        nothing fills for that."""
        if self.exchange.real:
            return []
        price = self.listener.last_prices()[index]
        late = [
            o for o in self.exchange.working.get(self.instruments[index].symbol, ()) if o.leg == "square-off"
        ]
        for order in late:
            self.filled(order, order.target - order.filled, price, self.listener.sequence(), ts)
        return late

    def _add_square_off_fee(self, order: Order, charges: tuple[int, ...]) -> tuple[int, ...]:
        rule = self.rulebook.square_off(order.instrument, order.signal.product, self.day)
        if rule is None:
            return charges
        return _with(_with(charges, SQUARE_OFF, rule.fee_paise), GST, rule.gst_paise)

    # ── what the rules ask ───────────────────────────────────────────────────────────────────────────────────────

    def free_delivery(self, order: Order) -> int:
        """What the strategy holds under the order's product and has not already offered for sale."""
        book, product = self.books[order.owner], order.signal.product
        held = book.held(order.index, product)
        offered = sum(
            o.remaining
            for o in self.exchange.working.get(order.signal.symbol, ())
            if o.owner == order.owner and o.target < 0 and o.signal.product == product and not o.leg
        )
        return held - offered

    def mark(self, last: list[int]) -> int:
        """Value every position at ``last`` prices (units, by index); returns equity in paise."""
        account = self.account
        cash = sum([book.cash for book in self.books])
        if self._simple:
            equity = cash + sum(map(mul, self.net, last))
            account.gross = sum(map(abs, map(mul, account.net, last)))
        else:
            instruments = self.instruments
            equity = cash + sum(worth(instruments[i], q, last[i]) for i, q in enumerate(self.net) if q)
            account.gross = sum(
                abs(worth(instruments[i], q, last[i])) for i, q in enumerate(account.net) if q
            )
        moved, self.equity = equity - self.equity, equity
        account.equity += moved
        if self.day < account.day:  # what a run that lags behind plays of an earlier day is not earned today
            self.equity_at_open += moved
            account.equity_at_open += moved
        if account.equity > account.equity_peak:
            account.equity_peak = account.equity
        return equity

    def cash_free(self) -> int:
        """Cash of the account in paise, less what working delivery buys will need."""
        free = 0
        for desk in self.account.desks:
            free += sum(book.cash for book in desk.books)
            for queue in desk.exchange.working.values():
                for order in queue:
                    if order.target > 0 and order.signal.product in desk.long_only[order.index]:
                        price = order.signal.limit or order.signal.reference
                        free -= worth(order.instrument, order.remaining, price)
        return free


def _with(charges: tuple[int, ...], kind: int, amount: int) -> tuple[int, ...]:
    return (*charges[:kind], charges[kind] + amount, *charges[kind + 1 :])


def _band(instrument: Instrument, close: int) -> tuple[int, int] | None:
    """The day's fixed circuit band around the previous close; stocks with derivatives and all derivatives have none."""
    if not close or instrument.kind != "EQ" or instrument.in_fo or not instrument.circuit:
        return None
    reach = int(close * instrument.circuit / 100)
    tick = instrument.tick_size
    return -((reach - close) // tick) * tick, (close + reach) // tick * tick

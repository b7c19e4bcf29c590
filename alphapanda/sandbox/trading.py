"""Placing, changing and cancelling orders of all varieties: what the order endpoints of the sandbox do.

A method here has passed authentication, IP and rate; it raises Refused for what Kite answers with an error.
"""

from __future__ import annotations

import datetime as dt

from alphapanda.errors import RulebookError
from alphapanda.events import ist_day
from alphapanda.instruments import Instrument
from alphapanda.money import divide
from alphapanda.sandbox import orders as o
from alphapanda.sandbox import sessions
from alphapanda.sandbox.agenda import Agenda
from alphapanda.sandbox.book import Book
from alphapanda.sandbox.documents import Document, Refused
from alphapanda.sandbox.faults import Faults
from alphapanda.sandbox.margins import Money
from alphapanda.sandbox.market import Market, Quote, protected_price
from alphapanda.sandbox.orders import Arrival, Change, Ledger, Order
from alphapanda.sandbox.positions import Positions
from alphapanda.sandbox.rules import EPOCH, Rules, Wanted

PROCESSING = (
    "Order cannot be {} as it is being processed. Try later."  # also said of orders that are done: forum 8106
)
TOO_MANY_CHANGES = "Maximum allowed order modifications exceeded."
NOT_FOUND = "Couldn't find that `order_id`."
SHORT = (
    "Insufficient funds. Required margin is {:.2f} but available margin is {:.2f}. "
    "Check the orderbook for open orders."
)
NO_STOCK = "Insufficient stock holding. You have {} shares of {} to sell."
UNAUTHORISED = (
    "Holdings of {} are not authorised for sale. Authorise the transaction at the depository (CDSL TPIN)."
)
MAX_SLICES = 10


class Trading:
    """The order desk of the broker."""

    def __init__(
        self,
        market: Market,
        rules: Rules,
        book: Book,
        positions: Positions,
        money: Money,
        faults: Faults,
        ledger: Ledger,
        agenda: Agenda,
        *,
        user_id: str,
        changes_most: int,
    ) -> None:
        self._market, self._rules, self._book = market, rules, book
        self._positions, self._money, self._faults, self._ledger = positions, money, faults, ledger
        self._agenda, self._user_id, self._changes_most = agenda, user_id, changes_most
        self._squared: set[tuple[str, int]] = set()

    # ── place ────────────────────────────────────────────────────────────────────────────────────

    def place(self, variety: str, params: dict[str, str], now: int, path: str) -> Document:
        """A new order: its id, and with autoslice its children. Raises Refused."""
        if params.get("autoslice") == "true":
            return self._slices(variety, params, now, path)
        wanted = self._rules.place(variety, params, now)
        self._intraday(wanted, now)
        if variety == "iceberg":
            return {"order_id": self._leg(wanted, 1, wanted.quantity, "", now, path)}
        order = self._order(wanted, wanted.quantity, now)
        self._enter(order, now, path)
        if variety == "co":
            stop = wanted.trigger_price
            self._book.then(order, lambda ts: self._second_leg(order, stop, ts))
        return {"order_id": order.order_id}

    def _order(self, wanted: Wanted, quantity: int, now: int) -> Order:
        """The order as the broker keeps it: a market order is a limit at the protected price (forum 52371)."""
        protection, tags = wanted.market_protection, [wanted.tag] if wanted.tag else []
        price, kind = wanted.price, wanted.order_type
        if kind == "MARKET":
            price, kind = protected_price(wanted.quote, wanted.side, protection), "LIMIT"
            tags += ["mktp", f"mktp:{2 if protection == -1 else protection:.2f}"]
        return Order(
            order_id=self._book.order_id(now), instrument=wanted.quote.instrument, side=wanted.side,
            quantity=quantity, product=wanted.product, variety=wanted.variety, order_type=kind,
            account_id=self._user_id, price=price, validity=wanted.validity, validity_ttl=wanted.validity_ttl,
            trigger_price=0 if wanted.variety == "co" else wanted.trigger_price, tag=wanted.tag, tags=tuple(tags),
            disclosed_quantity=wanted.disclosed_quantity, market_protection=protection,
        )  # fmt: skip

    def _enter(self, order: Order, now: int, path: str) -> None:
        """Into the book and the ledger, with the moments its day ends at."""
        of = order.instrument
        self._ledger.arrivals.append(
            Arrival(
                ts=now, order_id=order.order_id, tag=order.tag, symbol=of.symbol, side=order.side,
                quantity=order.quantity, price=order.price, path=path,
            )
        )  # fmt: skip
        self._book.receive(order, now)
        if order.variety == "amo":
            opens = self._rules.next_open(of, now)
            if opens is not None:
                self._agenda.at(opens, lambda ts: self._release(order, ts))
            return
        self._until_close(order, now)

    def _release(self, order: Order, now: int) -> None:
        if not order.done:
            self._book.release(order, now)
            self._until_close(order, now)

    def _until_close(self, order: Order, now: int) -> None:
        session = self._rules.session(order.instrument, now)
        if session is not None:
            auction, closes = sessions.ends(session, now)
            self._agenda.at(closes, lambda ts: self._book.cancelled(order, ts))
            if auction is not None:
                self._agenda.at(auction, lambda ts: self._into_auction(order, ts))
        if order.product == "MIS":
            self._plan_square_off(order.instrument, now)

    def _into_auction(self, order: Order, now: int) -> None:
        """A closing auction begins: it knows no stop-loss and no iceberg orders."""
        if order.waiting or order.variety == "iceberg":
            self._book.cancelled(order, now)

    def _leg(self, wanted: Wanted, leg: int, left: int, first: str, now: int, path: str) -> str:
        """One leg of an iceberg; the next follows when it is complete. Gives the leg's order id."""
        size = min(left, wanted.iceberg_quantity)
        order = self._order(wanted, size, now)
        order.parent_order_id = first
        order.meta = {
            "iceberg": {
                "leg": leg, "legs": wanted.iceberg_legs, "leg_quantity": wanted.iceberg_quantity,
                "total_quantity": wanted.quantity, "remaining_quantity": left - size,
            }
        }  # fmt: skip
        self._enter(order, now, path)
        if left > size:
            parent = first or order.order_id
            self._book.then(order, lambda ts: self._next_leg(wanted, leg + 1, left - size, parent, ts))
        return order.order_id

    def _next_leg(self, wanted: Wanted, leg: int, left: int, first: str, now: int) -> None:
        self._leg(wanted, leg, left, first, now, "iceberg")

    def _second_leg(self, first: Order, stop: int, now: int) -> None:
        """A cover order's stop, as large as what its first leg filled."""
        order = Order(
            order_id=self._book.order_id(now), instrument=first.instrument, side=-first.side, quantity=first.filled,
            product="CO", variety="co", order_type="SL-M", account_id=self._user_id, trigger_price=stop,
            market_protection=-1, parent_order_id=first.order_id, tag=first.tag, tags=first.tags,
        )  # fmt: skip
        self._enter(order, now, "co")

    def _slices(self, variety: str, params: dict[str, str], now: int, path: str) -> Document:
        """An order above the freeze quantity, cut up: children succeed and fail on their own (forum 53057)."""
        wanted = self._rules.place(variety, params, now, sliced=True)
        self._intraday(wanted, now)
        most = self._rules.freeze(wanted.quote.instrument, now)
        if variety != "regular" or not most or wanted.quantity < 2 * most:
            least = 2 * (most or wanted.quantity)
            raise Refused(
                "InputException", f"Quantity should be greater than or equal to {least} for order slicing."
            )
        if -(-wanted.quantity // most) > MAX_SLICES:
            raise Refused("InputException", f"Orders can be sliced into {MAX_SLICES} at most.")
        parent = self._book.order_id(now)
        children: list[Document] = []
        left = wanted.quantity
        while left:
            size = min(left, most)
            left -= size
            order = self._order(wanted, size, now)
            order.tags = (*order.tags, "autoslice", f"autoslice:{parent}")
            if len(children) % 2 and self._faults.hit("autoslice-mixed", order.subject):
                error = Refused("MarginException", SHORT.format(100_000, 10))
                children.append({"error": {"code": error.status, **error.document}})
                continue
            self._enter(order, now, path)
            children.append({"order_id": order.order_id})
        return {"order_id": parent, "children": children}

    # ── change and cancel ────────────────────────────────────────────────────────────────────────

    def _find(self, variety: str, order_id: str) -> Order:
        order = self._book.orders.get(order_id)
        if order is None:
            raise Refused("GeneralException", NOT_FOUND, 404)
        if order.variety != variety:  # an after-market order that went out is a regular one: forum 40302
            raise Refused("InputException", "Invalid `variety` for the order.")
        return order

    def _frozen(self, order: Order, now: int) -> bool:
        """Whether its auction takes no orders, and so no changes, at the moment."""
        stage = self._rules.stage(order.instrument, now)
        return stage.takes == "" and stage != sessions.CLOSED

    def modify(self, variety: str, order_id: str, params: dict[str, str], now: int) -> Document:
        """New terms for an open order. Raises Refused."""
        order = self._find(variety, order_id)
        if order.done or order.status in o.PROCESSING or self._frozen(order, now):
            raise Refused("OrderException", PROCESSING.format("modified"), 400)
        if order.modifications >= self._changes_most:
            raise Refused("InputException", TOO_MANY_CHANGES)
        quote = self._market.quotes[order.instrument.token]
        change, protection = self._rules.change(order, quote, params, now)
        if change.order_type == "MARKET":
            price = protected_price(quote, order.side, protection)
            change = Change(
                quantity=change.quantity, price=price, order_type="LIMIT", validity=change.validity
            )
        order.market_protection = protection
        self._book.modify(order, change, now)
        return {"order_id": order_id}

    def cancel(self, variety: str, order_id: str, now: int) -> Document:
        """Cancel an open order, or leave a cover order by its second leg. Raises Refused."""
        order = self._find(variety, order_id)
        if order.done or order.status in o.PROCESSING or self._frozen(order, now):
            raise Refused("OrderException", PROCESSING.format("cancelled"), 400)
        if order.variety == "co" and order.parent_order_id and order.waiting:
            self._book.leave(order, now)
        else:
            self._book.cancel(order, now)
        return {"order_id": order_id}

    # ── risk management ──────────────────────────────────────────────────────────────────────────

    def approve(self, order: Order, now: int) -> str:
        """Risk management, after the order id is given: why the order is rejected, or ""."""
        of, quote = order.instrument, self._market.quotes[order.instrument.token]
        if order.price and quote.upper and not quote.lower <= order.price <= quote.upper:
            word, limit = ("lower", quote.lower) if order.price < quote.lower else ("higher", quote.upper)
            band = "lower" if word == "lower" else "upper"
            return (
                f"Your order price is {word} than the current {band} circuit limit of {of.rupees(limit):g}. "
                "Place an order within the daily range."
            )
        earlier = [one for one in self._book.live() if one.sequence < order.sequence]
        if order.product == "CNC" and order.side < 0:
            holding = self._positions.holdings.get(of.symbol)
            if holding is not None and not holding.authorised:
                return UNAUTHORISED.format(of.tradingsymbol)
            selling = sum(one.remaining for one in earlier if _delivery_sell(one, of))
            free = self._positions.sellable(of.symbol) - selling
            return "" if order.remaining <= free else NO_STOCK.format(free, of.tradingsymbol)
        required = self._money.required(order)
        available = self._money.available(earlier)
        return SHORT.format(required, available) if required > max(0.0, available) else ""

    # ── intraday ─────────────────────────────────────────────────────────────────────────────────

    def _intraday(self, wanted: Wanted, now: int) -> None:
        """No new intraday orders after the broker's own cut-off, except those that close. Raises Refused."""
        cut_off = self._cut_off(wanted.quote.instrument, now) if wanted.product == "MIS" else None
        closing = -wanted.side * self._positions.net(wanted.quote.instrument.symbol, "MIS") >= wanted.quantity
        if cut_off is not None and now >= cut_off[0] and not closing:
            raise Refused("InputException", "Intraday (MIS) orders are not allowed at this time of the day.")

    def _cut_off(self, of: Instrument, now: int) -> tuple[int, int] | None:
        if self._rules.session(of, now) is None:
            return None
        try:
            times = self._rules.rulebook.square_off(of, "MIS", EPOCH + dt.timedelta(ist_day(now)))
        except RulebookError:
            return None
        return (times.entry_cutoff_ns, times.square_off_ns) if times else None

    def _plan_square_off(self, of: Instrument, now: int) -> None:
        key = of.symbol, ist_day(now)
        cut_off = self._cut_off(of, now)
        if cut_off is not None and key not in self._squared and now < cut_off[1]:
            self._squared.add(key)
            quote = self._market.quotes[of.token]
            self._agenda.at(cut_off[1], lambda ts: self._square_off(quote, ts))

    def _square_off(self, quote: Quote, now: int) -> None:
        """The broker closes what is left of an intraday position."""
        of = quote.instrument
        for order in list(self._book.live()):
            if order.product == "MIS" and order.instrument.symbol == of.symbol:
                self._book.cancelled(order, now)
        net = self._positions.net(of.symbol, "MIS")
        if net:
            side = -1 if net > 0 else 1
            order = Order(
                order_id=self._book.order_id(now), instrument=of, side=side, quantity=abs(net), product="MIS",
                variety="regular", order_type="LIMIT", account_id=self._user_id, tags=("autosquareoff",),
                price=protected_price(quote, side, -1),
            )  # fmt: skip
            self._enter(order, now, "square-off")

    def day_charges(self, now: int) -> float:
        """Rupees that the day's executed orders cost."""
        total = 0
        for order in self._book.orders.values():
            if order.filled:
                of = order.instrument
                price = order.value / order.filled / of.price_scale
                note = self._money.charges(of, order.product, order.side, order.filled, price, now)
                total += divide(round(note["total"] * 10_000), 100)
        return total / 100


def _delivery_sell(order: Order, of: Instrument) -> bool:
    return order.product == "CNC" and order.side < 0 and order.instrument.symbol == of.symbol

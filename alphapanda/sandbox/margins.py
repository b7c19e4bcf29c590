"""What the account can spend, what an order would block, and what it would cost.

The documents are Kite's (Kite docs, margins and virtual contract note); the shares blocked are simple ones of ours,
because SPAN files are the exchange's: full value for delivery, a fifth for intraday shares, 12 + 3 percent of the
contract value for futures and short options (those on the strike), the premium for long options.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

import msgspec

from alphapanda.errors import AlphaPandaException
from alphapanda.events import ist_day
from alphapanda.instruments import Instrument
from alphapanda.rulebook import Rulebook
from alphapanda.sandbox.documents import Document
from alphapanda.sandbox.orders import Order
from alphapanda.sandbox.positions import Position, Positions

INTRADAY, SPAN, EXPOSURE = 0.20, 0.12, 0.03
EPOCH_DAY = dt.date(1970, 1, 1)


class Blocked(msgspec.Struct, frozen=True):
    """Rupees that something blocks, by kind; a negative premium or delivery is money that came in."""

    span: float = 0.0
    exposure: float = 0.0
    premium: float = 0.0
    cash: float = 0.0  # intraday shares
    delivery: float = 0.0

    @property
    def total(self) -> float:
        """All of it."""
        return self.span + self.exposure + self.premium + self.cash + self.delivery

    def __add__(self, other: Blocked) -> Blocked:
        return Blocked(*(getattr(self, n) + getattr(other, n) for n in self.__struct_fields__))


def blocked(of: Instrument, product: str, side: int, quantity: int, price: float) -> Blocked:
    """What a position of ``quantity`` opened at ``price`` rupees blocks."""
    value = price * quantity * of.multiplier
    if of.kind in ("CE", "PE") and side > 0:
        return Blocked(premium=value)
    if of.kind == "FUT" or of.kind in ("CE", "PE"):
        base = value if of.kind == "FUT" else of.rupees(of.strike) * quantity * of.multiplier
        return Blocked(
            span=base * SPAN, exposure=base * EXPOSURE, premium=0.0 if of.kind == "FUT" else -value
        )
    if product == "CNC":
        return Blocked(delivery=side * value)
    return Blocked(cash=value * INTRADAY)


class Money:
    """The account's cash in rupees at the start of the day, and what positions and orders block of it."""

    def __init__(self, positions: Positions, rules: Rulebook, cash: float) -> None:
        self._positions, self._rules, self.cash = positions, rules, cash

    def available(self, orders: Iterable[Order]) -> float:
        """Rupees a new order may block, with these orders live."""
        return self.cash - self._debits(orders)

    def required(self, order: Order) -> float:
        """Rupees an order blocks for what it opens; what only closes a position blocks nothing."""
        return self._order(order).total

    def _order(self, order: Order) -> Blocked:
        of, side = order.instrument, order.side
        net = self._positions.net(of.symbol, order.product)
        closes = min(order.remaining, max(0, -side * net))
        if order.product == "CNC" and side < 0:
            return Blocked()
        return blocked(
            of, order.product, side, order.remaining - closes, of.rupees(order.price or order.trigger_price)
        )

    def _held(self, position: Position) -> Blocked:
        of, product, quantity = position.instrument, position.product, position.quantity
        scale = of.price_scale
        if of.kind in ("CE", "PE"):
            paid = (position.buy_value - position.sell_value) * of.multiplier / scale
            short = blocked(of, product, -1, max(0, -quantity), 0.0)
            return Blocked(span=short.span, exposure=short.exposure, premium=paid)
        if product == "CNC":
            return Blocked(delivery=(position.buy_value - position.sell_value) / scale)
        side = 1 if quantity > 0 else -1
        return blocked(of, product, side, abs(quantity), position.average / scale)

    def _realised(self) -> float:
        return sum(
            position.realised * position.instrument.multiplier / position.instrument.price_scale
            for position in self._positions.positions.values()
            if position.product != "CNC" and position.instrument.kind not in ("CE", "PE")
        )

    def _kinds(self, orders: Iterable[Order]) -> Blocked:
        total = Blocked()
        for position in self._positions.positions.values():
            total += self._held(position)
        for order in orders:
            total += self._order(order)
        return total

    def _debits(self, orders: Iterable[Order]) -> float:
        return self._kinds(orders).total - self._realised()

    def settle(self, day_charges: float) -> None:
        """The day is over: what was earned and spent becomes cash, and the day's charges are taken."""
        total = Blocked()
        for position in self._positions.positions.values():
            held = self._held(position)
            total += Blocked(premium=held.premium, delivery=held.delivery)
        self.cash += self._realised() - total.total - day_charges

    def document(self, orders: Iterable[Order]) -> Document:
        """``GET /user/margins/equity``: net and live balance are the cash less the debits."""
        kinds, realised = self._kinds(orders), self._realised()
        debits = kinds.total - realised
        net = self.cash - debits
        return {
            "enabled": True, "net": net,
            "available": {
                "adhoc_margin": 0, "cash": self.cash, "opening_balance": self.cash, "live_balance": net,
                "collateral": 0, "intraday_payin": 0,
            },
            "utilised": {
                "debits": debits, "exposure": kinds.exposure + kinds.cash, "m2m_realised": realised,
                "m2m_unrealised": 0, "option_premium": kinds.premium, "payout": 0, "span": kinds.span,
                "holding_sales": max(0.0, -kinds.delivery), "turnover": 0, "liquid_collateral": 0,
                "stock_collateral": 0, "delivery": max(0.0, kinds.delivery),
            },
        }  # fmt: skip

    # ── before an order ──────────────────────────────────────────────────────────────────────────

    def charges(
        self, of: Instrument, product: str, side: int, quantity: int, price: float, now: int
    ) -> Document:
        """What an executed order would cost, unrounded, as the virtual contract note shows it."""
        day = EPOCH_DAY + dt.timedelta(ist_day(now))
        product = product if product in ("CNC", "MIS", "NRML") else "MIS" if product == "CO" else "CNC"
        try:
            rates = self._rules.charges(of, product, day)
        except AlphaPandaException:
            return empty_charges()
        exact = rates.exact(side > 0, round(price * quantity * of.multiplier * 100))
        rupees = {name: float(value) / 100 for name, value in exact.items()}
        gst = rupees["gst"]
        return {
            "transaction_tax": rupees["transaction_tax"], "transaction_tax_type": rates.tax_name,
            "exchange_turnover_charge": rupees["exchange"], "sebi_turnover_charge": rupees["sebi"],
            "brokerage": rupees["brokerage"], "stamp_duty": rupees["stamp"],
            "gst": {"igst": gst, "cgst": 0, "sgst": 0, "total": gst}, "total": sum(rupees.values()),
        }  # fmt: skip

    def order_document(
        self, of: Instrument, product: str, side: int, quantity: int, price: float, now: int
    ) -> Document:
        """One item of ``POST /margins/orders``."""
        held = blocked(of, product, side, quantity, price)
        if product == "CNC" and side < 0:
            held = Blocked()
        leverage = 1 / INTRADAY if held.cash else 1
        return {
            "type": "commodity" if of.asset_class == "commodity" else "equity", "tradingsymbol": of.tradingsymbol,
            "exchange": of.exchange, "span": held.span, "exposure": held.exposure,
            "option_premium": max(0.0, held.premium), "additional": 0, "bo": 0, "cash": held.cash,
            "var": held.delivery, "pnl": {"realised": 0, "unrealised": 0}, "leverage": leverage,
            "charges": self.charges(of, product, side, quantity, price, now),
            "total": held.total - min(0.0, held.premium),
        }  # fmt: skip

    def basket_document(self, items: list[Document], *, held: bool, orders: Iterable[Order]) -> Document:
        """``POST /margins/basket``: before and after; with ``held`` the blocked margin of the account is in both."""
        base = self._kinds(orders).total if held else 0.0
        total = sum_documents(items)
        initial = dict(total)
        initial["total"] += base
        return {"initial": initial, "final": dict(initial), "orders": items, "charges": total["charges"]}


def empty_charges() -> Document:
    """No charges."""
    return {
        "transaction_tax": 0, "transaction_tax_type": "", "exchange_turnover_charge": 0, "sebi_turnover_charge": 0,
        "brokerage": 0, "stamp_duty": 0, "gst": {"igst": 0, "cgst": 0, "sgst": 0, "total": 0}, "total": 0,
    }  # fmt: skip


def sum_documents(items: list[Document]) -> Document:
    """The margins of a basket as one item."""
    charges = empty_charges()
    for item in items:
        for name in (
            "transaction_tax",
            "exchange_turnover_charge",
            "sebi_turnover_charge",
            "brokerage",
            "stamp_duty",
        ):
            charges[name] += item["charges"][name]
        for name in ("igst", "total"):
            charges["gst"][name] += item["charges"]["gst"][name]
        charges["total"] += item["charges"]["total"]
    summed = {
        name: sum(item[name] for item in items)
        for name in ("span", "exposure", "option_premium", "additional", "bo", "cash", "var")
    }
    return {
        "type": "", "tradingsymbol": "", "exchange": "", **summed, "pnl": {"realised": 0, "unrealised": 0},
        "leverage": 0, "charges": charges, "total": sum(item["total"] for item in items),
    }  # fmt: skip

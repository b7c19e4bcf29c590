"""What an order must be before Kite gives it an id: every check that answers with an HTTP error and leaves no order.

The sequence is required fields, instrument, market protection, freeze quantity, lot, tick, product, time. It was
inferred from the messages users report; the vendor does not publish it. Messages known from
the forum are kept word for word.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation

import msgspec

from alphapanda.errors import RulebookError
from alphapanda.events import MINUTE, ist_day
from alphapanda.instruments import Instrument
from alphapanda.rulebook import Rulebook, SessionTimes
from alphapanda.sandbox import sessions
from alphapanda.sandbox.documents import Refused
from alphapanda.sandbox.market import Market, Quote
from alphapanda.sandbox.orders import Change, Order

PROTECTION = (
    "Market orders without market protection are not allowed via API. "
    "Please set market protection or use a Limit order."
)
EXPIRED = "The instrument you are placing an order for has either expired or does not exist."
CLOSED = "Markets are closed right now. Use GTT for placing long standing orders instead."
AUCTION_ONLY = "Only limit and market orders of the day are allowed in an auction session."
NOT_NOW = "The exchange does not take orders at this stage of the session."
NOT_CLOSING = "In the post-close session orders are taken at the closing price only."
OUTSIDE_AUCTION = "The order price is outside the price range of the closing auction."
AUCTION_BAND = 3.0  # percent around the reference price
AUCTION_CLOSED = "Auction orders are not allowed at the moment. There is no open auction session."
VARIETIES = ("regular", "co", "amo", "iceberg", "auction")
EPOCH = dt.date(1970, 1, 1)
MAX_TAG = 20


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """The terms of an order that passed the checks; prices in units."""

    quote: Quote
    variety: str
    side: int
    quantity: int
    product: str
    order_type: str
    price: int
    trigger_price: int
    validity: str
    validity_ttl: int
    disclosed_quantity: int
    market_protection: float
    tag: str
    iceberg_legs: int = 0
    iceberg_quantity: int = 0


class Rules:
    """The checks, by the rulebook of the day. With ``hours`` False every market is always open."""

    def __init__(self, market: Market, rules: Rulebook, *, hours: bool) -> None:
        self._market, self.rulebook, self._hours = market, rules, hours

    # ── time ─────────────────────────────────────────────────────────────────────────────────────

    def session(self, of: Instrument, now: int) -> SessionTimes | None:
        """The session of the day of ``now``; None where there is none, where no rule says, and where hours are off."""
        try:
            return self.rulebook.session(of, EPOCH + dt.timedelta(ist_day(now))) if self._hours else None
        except RulebookError:
            return None

    def stage(self, of: Instrument, now: int) -> sessions.Stage:
        """The stage of the instrument's day."""
        if not self._hours:
            return sessions.CONTINUOUS
        session = self.session(of, now)
        return sessions.stage(session, now) if session else sessions.CLOSED

    def trading_day(self, instruments: Iterable[Instrument], now: int) -> bool:
        """Whether any of them has a session on the day of ``now``."""
        return not self._hours or any(self.session(of, now) is not None for of in instruments)

    def next_open(self, of: Instrument, now: int) -> int | None:
        """When continuous trading begins next; None when no rule says."""
        if not self._hours:
            return now
        day = EPOCH + dt.timedelta(ist_day(now))
        for ahead in range(31):
            try:
                session = self.rulebook.session(of, day + dt.timedelta(ahead))
            except RulebookError:
                return None
            if session and session.open_ns > now:
                return session.open_ns
        return None

    def closing_price(self, quote: Quote, now: int) -> int:
        """What the post-close session trades at: the auction's price, or the average of the last half hour."""
        session = self.session(quote.instrument, now)
        if session is None or any(name == "closing_auction" for name, _, _ in session.phases):
            return quote.last
        return quote.average_of(session.close_ns - 30 * MINUTE, session.close_ns) or quote.last

    def auction_band(self, quote: Quote, now: int) -> tuple[int, int]:
        """The prices a closing auction takes, around the average of the last quarter of an hour before it."""
        session = self.session(quote.instrument, now)
        assert session is not None  # noqa: S101 - an auction is part of one
        opens = next(opens for name, opens, _ in session.phases if name == "closing_auction")
        reference = quote.average_of(opens - 15 * MINUTE, opens) or quote.last
        part = round(reference * AUCTION_BAND / 100)
        return reference - part, reference + part

    def _time(self, wanted: Wanted, now: int) -> None:
        """Whether Kite takes it now; what the exchange takes at a stage of an auction is asked there."""
        stage = self.stage(wanted.quote.instrument, now)
        if wanted.variety == "amo":
            if stage not in (sessions.CLOSED, sessions.POST_CLOSE) and self._hours:
                raise Refused(
                    "InputException", "After market orders (AMO) are accepted only after market hours."
                )
        elif stage == sessions.CLOSED:
            raise Refused("InputException", CLOSED)
        elif stage == sessions.POST_CLOSE:
            closing = wanted.variety == "regular" and wanted.order_type in ("MARKET", "LIMIT")
            if not closing or wanted.product != "CNC":
                raise Refused("InputException", CLOSED)
        elif stage != sessions.CONTINUOUS and (
            wanted.variety != "regular"
            or wanted.order_type not in ("LIMIT", "MARKET")
            or wanted.validity != "DAY"
        ):
            raise Refused("InputException", AUCTION_ONLY)

    def at_exchange(self, order: Order, quote: Quote, now: int) -> str:
        """Why the exchange refuses an order that arrives now; "" if it takes it."""
        stage = self.stage(order.instrument, now)
        if stage.takes == "all":
            return ""
        market = order.market_protection != 0
        if stage.takes == "" or (market and stage.takes == "limit"):
            return NOT_NOW
        if stage.takes == "close":
            price = self.closing_price(quote, now)
            return "" if market or order.price == price else NOT_CLOSING
        if stage in (sessions.AUCTION_ENTRY, sessions.AUCTION_LIMIT):
            low, high = self.auction_band(quote, now)
            if not low <= order.price <= high:
                return OUTSIDE_AUCTION
        return ""

    # ── one order ────────────────────────────────────────────────────────────────────────────────

    def place(self, variety: str, params: dict[str, str], now: int, *, sliced: bool = False) -> Wanted:
        """Check the form of a new order; ``sliced`` leaves out the freeze quantity. Raises Refused."""
        if variety not in VARIETIES:
            raise Refused("InputException", "Invalid `variety`.")
        for name in ("exchange", "tradingsymbol", "transaction_type", "quantity", "product", "order_type"):
            if not params.get(name):
                raise Refused("InputException", f"Missing or empty field `{name}`")
        side = {"BUY": 1, "SELL": -1}.get(params["transaction_type"])
        if side is None:
            raise Refused("InputException", "Invalid `transaction_type`.")
        if len(params.get("tag", "")) > MAX_TAG:
            raise Refused("InputException", f"Invalid `tag`. It should be at most {MAX_TAG} characters long.")
        if variety == "auction":
            raise Refused("InputException", AUCTION_CLOSED)
        quote = self._market.symbols.get(f"{params['exchange']}:{params['tradingsymbol']}")
        if quote is None or not quote.instrument.tradable or self._gone(quote.instrument, now):
            raise Refused("InputException", EXPIRED)
        wanted = Wanted(
            quote=quote,
            variety=variety,
            side=side,
            quantity=_whole(params, "quantity"),
            product=params["product"] if variety != "co" else "CO",
            order_type=params["order_type"],
            price=_units(params, "price", quote.instrument),
            trigger_price=_units(params, "trigger_price", quote.instrument),
            validity=params.get("validity") or "DAY",
            validity_ttl=_whole(params, "validity_ttl"),
            disclosed_quantity=_whole(params, "disclosed_quantity"),
            market_protection=_number(params, "market_protection"),
            tag=params.get("tag", ""),
            iceberg_legs=_whole(params, "iceberg_legs"),
            iceberg_quantity=_whole(params, "iceberg_quantity"),
        )
        self._terms(wanted, now, sliced=sliced)
        self._product(wanted)
        self._time(wanted, now)
        if variety == "iceberg":
            self._iceberg(wanted)
        return wanted

    def _gone(self, of: Instrument, now: int) -> bool:
        return of.expiry is not None and of.expiry < EPOCH + dt.timedelta(ist_day(now))

    def _terms(self, wanted: Wanted, now: int, *, sliced: bool) -> None:
        """Types, protection, quantities and prices, for new orders and for changes."""
        of, kind = wanted.quote.instrument, wanted.order_type
        if kind not in ("MARKET", "LIMIT", "SL", "SL-M"):
            raise Refused("InputException", "Invalid `order_type`.")
        if wanted.validity not in ("DAY", "IOC", "TTL"):
            raise Refused("InputException", "Invalid `validity`.")
        if wanted.validity == "TTL" and wanted.validity_ttl < 1:
            raise Refused("InputException", "Invalid `validity_ttl`.")
        if kind in ("MARKET", "SL-M") and not (
            wanted.market_protection == -1 or 0 < wanted.market_protection <= 100
        ):
            raise Refused("InputException", PROTECTION)
        if kind == "SL-M" and (of.exchange in ("BSE", "BFO") or of.kind in ("CE", "PE")):
            raise Refused("InputException", "16052 : Function not available")
        if wanted.quantity <= 0:
            raise Refused("InputException", "Invalid `quantity`.")
        most = self.freeze(of, now)
        if most and wanted.quantity > most and not sliced and wanted.variety != "iceberg":
            lots = f"({wanted.quantity // of.lot_size} lots)", f"({most // of.lot_size} lots)"
            raise Refused(
                "InputException",
                f"The order quantity {wanted.quantity} {lots[0]} is higher than the maximum quantity of {most} "
                f"{lots[1]} allowed by the exchanges. Please reduce the order quantity or use iceberg orders.",
            )
        if wanted.quantity % of.lot_size:
            raise Refused("InputException", f"The quantity should be in multiples of {of.lot_size}.")
        for price in (wanted.price, wanted.trigger_price):
            if price % of.tick_size or price < 0:
                tick = f"{of.rupees(of.tick_size):.{len(str(of.price_scale)) - 1}f}"
                raise Refused(
                    "InputException",
                    f"Tick size for this script is {tick}. "
                    "Kindly enter price in the multiple of tick size for this script",
                )
        if kind in ("LIMIT", "SL") and wanted.price <= 0:
            raise Refused("InputException", "Invalid `price`. Limit orders need a price.")
        if kind in ("SL", "SL-M") or wanted.variety == "co":
            self._stop(wanted)
        if wanted.disclosed_quantity > wanted.quantity:
            raise Refused("InputException", "Disclosed quantity cannot be higher than the quantity.")

    def _stop(self, wanted: Wanted) -> None:
        """A buy is triggered above the last price and limited at or above its trigger; a sell mirrored."""
        if wanted.trigger_price <= 0:
            raise Refused("InputException", "Invalid `trigger_price`.")
        if wanted.order_type == "SL" and wanted.side * (wanted.price - wanted.trigger_price) < 0:
            word = "higher" if wanted.side > 0 else "lower"
            raise Refused(
                "InputException", f"Trigger price for stoploss orders cannot be {word} than the limit price."
            )
        if (
            wanted.order_type in ("SL", "SL-M")
            and wanted.side * (wanted.trigger_price - wanted.quote.last) <= 0
        ):
            word, act = ("higher", "buy") if wanted.side > 0 else ("lower", "sell")
            raise Refused(
                "InputException",
                f"Trigger price for stoploss {act} orders should be {word} than the last traded price.",
            )

    def _product(self, wanted: Wanted) -> None:
        of = wanted.quote.instrument
        known = (*self.rulebook.products(of), "MTF") if of.kind == "EQ" else self.rulebook.products(of)
        if wanted.variety == "co":
            return
        if wanted.product not in known:
            raise Refused("InputException", f"Invalid `product` {wanted.product} for {of.exchange}.")

    def _iceberg(self, wanted: Wanted) -> None:
        if wanted.order_type not in ("LIMIT", "MARKET"):
            raise Refused("InputException", "Iceberg orders are allowed only as limit or market orders.")
        if not 2 <= wanted.iceberg_legs <= 50:
            raise Refused("InputException", "Iceberg legs should be between 2 and 50.")
        legs, size = wanted.iceberg_legs, wanted.iceberg_quantity
        if size <= 0 or size % wanted.quote.instrument.lot_size or -(-wanted.quantity // size) != legs:
            raise Refused("InputException", "Invalid iceberg quantity.")

    def freeze(self, of: Instrument, now: int) -> int | None:
        """The highest whole-lot quantity of one order, None where the rulebook has none."""
        most = self.rulebook.freeze_quantity(of, EPOCH + dt.timedelta(ist_day(now)))
        return most // of.lot_size * of.lot_size if most else None

    def change(self, order: Order, quote: Quote, params: dict[str, str], now: int) -> tuple[Change, float]:
        """Check the form of a modification: the terms, and the market protection. Raises Refused."""
        of = order.instrument
        protection = _number(params, "market_protection")
        kind = params.get("order_type") or order.order_type
        change = Change(
            quantity=_whole(params, "quantity") if "quantity" in params else None,
            price=_units(params, "price", of) if "price" in params else None,
            trigger_price=_units(params, "trigger_price", of) if "trigger_price" in params else None,
            order_type=params.get("order_type"),
            validity=params.get("validity"),
            disclosed_quantity=_whole(params, "disclosed_quantity")
            if "disclosed_quantity" in params
            else None,
        )
        keeps = order.market_protection if kind == order.order_type else 0.0
        wanted = Wanted(
            quote=quote, variety="regular", side=order.side, product=order.product, tag="", order_type=kind,
            quantity=change.quantity or order.quantity, market_protection=protection or keeps,
            price=order.price if change.price is None else change.price,
            trigger_price=order.trigger_price if change.trigger_price is None else change.trigger_price,
            validity=change.validity or order.validity, validity_ttl=order.validity_ttl,
            disclosed_quantity=change.disclosed_quantity or 0,
        )  # fmt: skip
        self._terms(wanted, now, sliced=False)
        if wanted.quantity <= order.filled:
            raise Refused("InputException", "Quantity cannot be lower than the filled quantity.")
        stage = self.stage(of, now)
        if stage == sessions.CLOSED and order.variety != "amo":
            raise Refused("InputException", CLOSED)
        if stage not in (sessions.CONTINUOUS, sessions.CLOSED) and kind not in ("LIMIT", "MARKET"):
            raise Refused("InputException", AUCTION_ONLY)
        return change, wanted.market_protection


def _number(params: dict[str, str], name: str) -> float:
    text = params.get(name) or "0"
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise Refused("InputException", f"Invalid `{name}`.") from None
    if not value.is_finite():
        raise Refused("InputException", f"Invalid `{name}`.")
    return float(value)


def _whole(params: dict[str, str], name: str) -> int:
    value = _number(params, name)
    if value != int(value) or value < 0 or value > 1e12:
        raise Refused("InputException", f"Invalid `{name}`.")
    return int(value)


def _units(params: dict[str, str], name: str, of: Instrument) -> int:
    """A price of the form in units. One that is finer than the price scale is off the tick grid as well."""
    value = Decimal(str(_number(params, name))) * of.price_scale
    if abs(value) > 10**12:
        raise Refused("InputException", f"Invalid `{name}`.")
    units = round(value)
    return units if abs(value - units) < Decimal("0.0001") else -1  # -1 is refused as off the tick grid

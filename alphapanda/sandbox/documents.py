"""Kite's documents: envelope, errors, and the JSON of orders, trades and quotes (Kite docs, response structure).

Floats begin here: inside the sandbox prices are integers. Stamps are IST without a zone, as Kite sends them.
"""

from __future__ import annotations

import functools
from typing import Any, Literal

import msgspec

from alphapanda.events import ist
from alphapanda.instruments import Instrument
from alphapanda.sandbox.market import Level, Quote
from alphapanda.sandbox.orders import Order, Trade

JSON = "application/json"
Document = dict[str, Any]
Delivery = Literal["sent", "silence", "drop", "reset", "truncated"]

STATUS = {
    "TokenException": 403, "PermissionException": 403, "InputException": 400, "OrderException": 500,
    "DataException": 502, "NetworkException": 503, "GeneralException": 500, "MarginException": 400,
    "HoldingException": 400, "UserException": 403, "TwoFAException": 403,
}  # fmt: skip


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One REST answer as the client will meet it.

    ``delivery`` says what becomes of it on the way: sent; silence (the connection stays open and nothing comes);
    drop (closed without an answer); reset (a TCP reset); truncated (headers and half the body, then closed). It leaves
    ``delay`` seconds late.
    """

    status: int = 200
    body: bytes = b""
    content_type: str | None = JSON
    headers: tuple[tuple[str, str], ...] = ()
    delivery: Delivery = "sent"
    delay: float = 0.0

    @classmethod
    def of(cls, data: object) -> Answer:
        """A success."""
        return cls(body=msgspec.json.encode({"status": "success", "data": data}))

    @property
    def data(self) -> Any:
        """What a successful answer carries, for callers that are no HTTP client."""
        return msgspec.json.decode(self.body)["data"]


class Refused(Exception):
    """Kite says no: an error of its own, with the class the client raises and the HTTP code."""

    def __init__(self, error_type: str, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.error_type, self.message = error_type, message
        self.status = status or STATUS[error_type]

    @property
    def answer(self) -> Answer:
        """The error envelope (Kite docs, exceptions)."""
        return Answer(status=self.status, body=msgspec.json.encode({"status": "error", **self.document}))

    @property
    def document(self) -> Document:
        """The envelope without its status."""
        return {"message": self.message, "data": None, "error_type": self.error_type}


@functools.lru_cache(1 << 12)  # every look at a book asks for those of all its orders again
def stamp(ts: int) -> str | None:
    """``2026-11-20 10:41:05`` in IST, or None for no time."""
    return f"{ist(ts):%Y-%m-%d %H:%M:%S}" if ts else None


def order_document(order: Order) -> Document:
    """An order as ``GET /orders`` shows it (Kite docs, orders; keys of the vendor's samples)."""
    of = order.instrument
    document: Document = {
        "account_id": order.account_id, "placed_by": order.account_id, "order_id": order.order_id,
        "exchange_order_id": order.exchange_order_id or None, "parent_order_id": order.parent_order_id or None,
        "status": order.status, "status_message": order.status_message or None,
        "status_message_raw": order.status_message_raw or None, "order_timestamp": stamp(order.placed_ts),
        "exchange_update_timestamp": stamp(order.update_ts), "exchange_timestamp": stamp(order.exchange_ts),
        "variety": order.variety, "modified": order.modified, "exchange": of.exchange,
        "tradingsymbol": of.tradingsymbol, "instrument_token": of.token, "order_type": order.order_type,
        "transaction_type": "BUY" if order.side > 0 else "SELL", "validity": order.validity,
        "validity_ttl": order.validity_ttl, "product": order.product, "quantity": order.quantity,
        "disclosed_quantity": order.disclosed_quantity, "price": of.rupees(order.price),
        "trigger_price": of.rupees(order.trigger_price), "auction_number": None,
        "average_price": of.rupees(order.value) / order.filled if order.filled else 0,
        "filled_quantity": order.filled, "pending_quantity": 0 if order.done else order.quantity - order.filled,
        "cancelled_quantity": order.quantity - order.filled if order.status.startswith("CANCELLED") else 0,
        "market_protection": 0,  # never echoed: kite.trade forum 52371
        "meta": dict(order.meta), "tag": order.shown_tag or None, "guid": order.guid,
    }  # fmt: skip
    if order.tags:
        document["tags"] = list(order.tags)
    return document


def trade_document(trade: Trade) -> Document:
    """A trade as ``GET /trades`` shows it; ``order_timestamp`` is a time of day, as in the vendor's samples."""
    order, of = trade.order, trade.order.instrument
    moment = stamp(trade.ts)
    return {
        "trade_id": trade.trade_id, "order_id": order.order_id, "exchange": of.exchange,
        "tradingsymbol": of.tradingsymbol, "instrument_token": of.token, "product": trade.product,
        "average_price": of.rupees(trade.price), "quantity": trade.quantity,
        "exchange_order_id": order.exchange_order_id, "transaction_type": "BUY" if order.side > 0 else "SELL",
        "fill_timestamp": moment, "order_timestamp": f"{ist(order.placed_ts):%H:%M:%S}", "exchange_timestamp": moment,
    }  # fmt: skip


def update_document(order: Order, status: str, user_id: str) -> Document:
    """What the ticker's ``order`` frame and a postback carry of an order (Kite docs, postbacks)."""
    document = order_document(order)
    document["status"] = status
    return document | {"user_id": user_id, "app_id": 0, "unfilled_quantity": 0, "checksum": ""}


def ohlc(quote: Quote) -> Document:
    """Open, high, low and the previous day's close."""
    rupees = quote.instrument.rupees
    return {
        "open": rupees(quote.open),
        "high": rupees(quote.high),
        "low": rupees(quote.low),
        "close": rupees(quote.close),
    }


def quote_document(quote: Quote) -> Document:
    """``GET /quote`` of one instrument (Kite docs, market quotes)."""
    rupees = quote.instrument.rupees
    document: Document = {
        "instrument_token": quote.token, "timestamp": stamp(quote.ts), "last_trade_time": stamp(quote.last_trade_ts),
        "last_price": rupees(quote.last), "last_quantity": quote.last_quantity, "buy_quantity": quote.buy_quantity,
        "sell_quantity": quote.sell_quantity, "volume": quote.volume, "average_price": rupees(quote.average),
        "oi": quote.oi, "oi_day_high": quote.oi_high, "oi_day_low": quote.oi_low, "net_change": 0,
        "lower_circuit_limit": rupees(quote.lower), "upper_circuit_limit": rupees(quote.upper), "ohlc": ohlc(quote),
        "depth": {"buy": _depth(quote.instrument, quote.bids), "sell": _depth(quote.instrument, quote.asks)},
    }  # fmt: skip
    if not quote.instrument.tradable:  # an index has no trades and no book
        return {
            key: document[key]
            for key in ("instrument_token", "timestamp", "last_price", "net_change", "ohlc")
        }
    return document


def _depth(instrument: Instrument, levels: list[Level]) -> list[Document]:
    return [
        {"price": instrument.rupees(price), "quantity": quantity, "orders": orders}
        for price, quantity, orders in levels
    ]

"""The broker's order book and trades as the order path reads them, and when a look at them proves anything.

An empty or old book is no proof that there are no orders: Kite has shown such books for minutes (6 Nov 2023) and shows
none to a dead token. So only a good look counts against an order: complete, not older than the one before.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import msgspec

from alphapanda.events import IST, ist_day
from alphapanda.zerodha.intents import Intent

DEAD = ("COMPLETE", "CANCELLED", "CANCELLED AMO", "REJECTED")
SECOND = 10**9
NEAR = (
    2 * SECOND,
    300 * SECOND,
)  # an untagged order is looked for from so long before its sending to so long after


class Row(msgspec.Struct, frozen=True):
    """One order of the book. ``tag`` is ours or empty; ``quantity`` and ``filled`` are unsigned; ``at`` wall ns."""

    order_id: str
    tag: str
    status: str
    symbol: str
    product: str
    side: str
    quantity: int
    filled: int
    price: float
    trigger: float
    at: int
    message: str = ""

    @property
    def live(self) -> bool:
        """It may still fill. A status nobody knows is a live one."""
        return self.status not in DEAD


class Trade(msgspec.Struct, frozen=True):
    """One execution: signed quantity, price in units."""

    trade_id: str
    order_id: str
    quantity: int
    price: int


class Look:
    """What the looks at the book have shown so far."""

    def __init__(self) -> None:
        self.settled = False  # a good look since the start, or since the token was dead
        self.at = 0  # when the last good one came in
        self.asked = 0  # and when it had been asked for
        self.external: set[str] = set()  # orders that are not ours: never touched
        self.trades: set[tuple[str, str]] = set()  # order and trade ids that were counted
        self._day = self._rows = self._newest = 0

    def take(self, rows: list[Row], known: set[str], asked: int, now: int) -> bool:
        """Whether this one proves anything about orders it does not show: it shows all of the day's that are known,
        and is not shorter or older than the one before. Rows of another day count for nothing: Kite forgets them at
        some time of the night."""
        day = ist_day(now)
        if day != self._day:
            self._day, self._rows, self._newest = day, 0, 0
        stamps = [row.at for row in rows if ist_day(row.at) == day]
        newest = max(stamps, default=0)
        complete = known <= {row.order_id for row in rows}
        if not complete or len(stamps) < self._rows or newest < self._newest:
            return False
        self._rows, self._newest = len(stamps), newest
        self.settled, self.at, self.asked = True, now, max(self.asked, asked)
        return True


def row_of(order: Mapping[str, Any]) -> Row:
    """An order as Kite tells it. Unknown or missing fields are read as empty."""
    quantity, filled = _whole(order.get("quantity")), _whole(order.get("filled_quantity"))
    stamp = order.get("order_timestamp")
    return Row(
        order_id=str(order.get("order_id") or ""),
        tag=own_tag(order),
        status=str(order.get("status") or "").upper(),
        symbol=f"{order.get('exchange')}:{order.get('tradingsymbol')}",
        product=str(order.get("product") or ""),
        side=str(order.get("transaction_type") or ""),
        quantity=quantity,
        filled=filled,
        price=float(order.get("price") or 0),
        trigger=float(order.get("trigger_price") or 0),
        at=_ns(stamp),
        message=str(order.get("status_message") or order.get("status_message_raw") or ""),
    )


def trade_of(trade: Mapping[str, Any], scale: int) -> Trade:
    """A trade as Kite tells it; ``scale`` is the instrument's price scale."""
    quantity = _whole(trade.get("quantity"))
    signed = quantity if trade.get("transaction_type") == "BUY" else -quantity
    price = round(float(trade.get("average_price") or 0) * scale)
    return Trade(str(trade["trade_id"]), str(trade["order_id"]), signed, price)


def own_tag(order: Mapping[str, Any]) -> str:
    """The tag that looks like ours, from ``tag`` or among ``tags``, where the system adds its own."""
    for tag in (order.get("tag"), *(order.get("tags") or ())):
        if isinstance(tag, str) and len(tag) == 20 and tag.startswith("P") and tag.isalnum():
            return tag
    return ""


def own_row(intent: Intent, row: Row) -> bool:
    """Whether an untagged row fits an intent: instrument, side, quantity, product, price and time."""
    early, late = NEAR
    return (
        row.symbol == intent.symbol
        and row.side == intent.side
        and row.product == intent.product
        and row.quantity == abs(intent.quantity)
        and round(row.price * intent.price_scale) == intent.limit
        and intent.sent - early <= row.at <= intent.sent + late
    )


def same_way(other: Intent, intent: Intent) -> bool:
    """Whether another intent moves the same run's position in the same direction."""
    return (
        other is not intent
        and other.run == intent.run
        and other.symbol == intent.symbol
        and other.product == intent.product
        and other.quantity * intent.quantity > 0
    )


def _whole(value: Any) -> int:
    return int(value or 0)


def _ns(stamp: Any) -> int:
    """Kite's clock says India's time and no zone."""
    if isinstance(stamp, str):
        try:
            stamp = dt.datetime.fromisoformat(stamp)
        except ValueError:
            return 0
    if not isinstance(stamp, dt.datetime):
        return 0
    return int((stamp if stamp.tzinfo else stamp.replace(tzinfo=IST)).timestamp()) * SECOND

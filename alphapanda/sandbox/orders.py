"""An order and its trades as the sandbox's broker keeps them (Kite docs, orders)."""

from __future__ import annotations

import msgspec

from alphapanda.instruments import Instrument

RECEIVED = "PUT ORDER REQ RECEIVED"
VALIDATING = "VALIDATION PENDING"
OPENING = "OPEN PENDING"
OPEN = "OPEN"
WAITING = "TRIGGER PENDING"
AMO = "AMO REQ RECEIVED"
CHECKING_CHANGE = "MODIFY VALIDATION PENDING"
CHANGING = "MODIFY PENDING"
MODIFIED = "MODIFIED"
CANCELLING = "CANCEL PENDING"
COMPLETE, CANCELLED, REJECTED = "COMPLETE", "CANCELLED", "REJECTED"
DONE = frozenset({COMPLETE, CANCELLED, REJECTED, "CANCELLED AMO"})
PROCESSING = frozenset({RECEIVED, VALIDATING, OPENING, CHECKING_CHANGE, CHANGING, CANCELLING})


class Order(msgspec.Struct, kw_only=True):
    """One order. Prices in the instrument's units, times ns UTC, ``side`` +1 or -1.

    ``resting`` is True while the exchange has it: interim states of a change or a cancel do not take it out of the
    market. ``waiting`` marks a stop whose trigger has not been reached. ``value`` is the sum of price x quantity
    filled. ``tag`` is what was sent; ``shown_tag`` and ``tags`` are what the book shows of it.
    """

    order_id: str
    instrument: Instrument
    side: int
    quantity: int
    product: str
    variety: str
    order_type: str
    account_id: str
    price: int = 0
    trigger_price: int = 0
    validity: str = "DAY"
    validity_ttl: int = 0
    disclosed_quantity: int = 0
    market_protection: float = 0.0
    tag: str = ""
    shown_tag: str = ""
    tags: tuple[str, ...] = ()
    meta: dict[str, object] = {}
    guid: str = ""
    parent_order_id: str = ""
    status: str = RECEIVED
    status_message: str = ""
    status_message_raw: str = ""
    exchange_order_id: str = ""
    placed_ts: int = 0
    exchange_ts: int = 0
    update_ts: int = 0
    filled: int = 0
    value: int = 0
    modified: bool = False
    modifications: int = 0
    resting: bool = False
    waiting: bool = False
    sequence: int = 0

    @property
    def done(self) -> bool:
        """No more will happen to it."""
        return self.status in DONE

    @property
    def remaining(self) -> int:
        """What is not filled."""
        return self.quantity - self.filled

    @property
    def subject(self) -> str:
        """What a fault's ``match`` is looked for in: order id, symbol, tag."""
        return f"{self.order_id} {self.instrument.symbol} {self.tag}"


class Trade(msgspec.Struct, frozen=True, kw_only=True):
    """One execution; ``product`` is the order's at the time, ``price`` in the instrument's units."""

    trade_id: str
    order: Order
    product: str
    price: int
    quantity: int
    ts: int


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """The terms a modification asks for; None leaves a term as it is."""

    quantity: int | None = None
    price: int | None = None
    trigger_price: int | None = None
    order_type: str | None = None
    validity: str | None = None
    disclosed_quantity: int | None = None


class Latency(msgspec.Struct, frozen=True):
    """How long an order spends in each interim state, ns on average; each stay is drawn from half to one and a half."""

    received: int = 5_000_000
    validation: int = 10_000_000
    exchange: int = 25_000_000


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """The ledger's record of one order that reached the broker: what was asked, when, and by which path."""

    ts: int
    order_id: str
    tag: str
    symbol: str
    side: int
    quantity: int
    price: int
    path: str


class Ledger(msgspec.Struct):
    """What truly happened, kept apart from the documents: the oracle of tests. No fault ever touches it."""

    arrivals: list[Arrival] = []
    trades: list[Trade] = []
    requests: int = 0
    throttled: int = 0

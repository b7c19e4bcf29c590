"""What happens, as values: ticks, bars, orders, fills; the envelope that carries them; and the topic names.

What a strategy sees is in rupees and floats (``tick.price``); what the books hold is in integers (``price_units``).
Times are int nanoseconds since the Unix epoch, UTC.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias
from zoneinfo import ZoneInfo

import msgspec

from alphapanda.instruments import Instrument

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

IST = ZoneInfo("Asia/Kolkata")
IST_OFFSET_NS = 19_800 * 10**9  # +05:30, no daylight saving
SECOND = 10**9
MINUTE = 60 * SECOND
DAY = 86_400 * SECOND

Ints: TypeAlias = "npt.NDArray[np.int64]"  # in quotes: the hub has no use for numpy
Flags: TypeAlias = "npt.NDArray[np.bool_]"


def ist(ts: int) -> dt.datetime:
    """A time in nanoseconds as an aware datetime in exchange time (microseconds; the rest is cut)."""
    return dt.datetime.fromtimestamp(ts // SECOND, IST).replace(microsecond=ts % SECOND // 1000)


def ist_day(ts: int) -> int:
    """Days since the epoch of the exchange calendar day that holds ``ts``."""
    return (ts + IST_OFFSET_NS) // DAY


# ── market data ──────────────────────────────────────────────────────────────────────────────────────────────────


class Tick(msgspec.Struct, frozen=True, gc=False):
    """The last trade of one instrument, as a strategy sees it; prices in rupees.

    ``volume`` is what traded since the instrument's previous tick (0 when the data has none). ``bid`` and ``ask`` are
    0.0 when the data has none.
    """

    symbol: str
    ts: int
    price: float
    volume: int = 0
    bid: float = 0.0
    ask: float = 0.0
    bid_quantity: int = 0
    ask_quantity: int = 0


class Bar(msgspec.Struct, frozen=True, gc=False):
    """Open, high, low, close of ``[start, ts)`` in rupees; delivered at ``ts``, when tape time has passed its end.

    ``minute`` counts whole minutes from the session's open to the bar's end: the first 1m bar has minute 1.
    """

    symbol: str
    interval: str
    start: int
    ts: int
    open: float
    high: float
    low: float
    close: float
    volume: int
    minute: int


class Block(msgspec.Struct, frozen=True):
    """Consecutive ticks of a tape as columns of one length, sorted by ``ts``.

    ``first`` is the sequence number of row 0 in the tape. ``instrument`` holds dense indexes into the tape's
    instruments; prices are in each instrument's price units; a column the data does not have is None. ``inside`` is
    set on tapes made from bars only: True where the price was reached by a continuous move inside a bar.
    """

    first: int
    ts: Ints
    instrument: Ints
    price: Ints
    volume: Ints | None = None
    bid: Ints | None = None
    ask: Ints | None = None
    bid_quantity: Ints | None = None
    ask_quantity: Ints | None = None
    inside: Flags | None = None

    def __len__(self) -> int:
        return len(self.ts)

    def rows(self, start: int, stop: int) -> Block:
        """Some of its rows, as views."""
        columns = [getattr(self, name) for name in self.__struct_fields__[1:]]
        return Block(self.first + start, *[None if c is None else c[start:stop] for c in columns])  # pyright: ignore[reportArgumentType]  # ts, instrument and price always exist


class Clock(msgspec.Struct, frozen=True, tag=True):
    """Tape time has reached ``ts`` though no tick came: a heartbeat, or the end of the tape."""

    ts: int


class Halt(msgspec.Struct, frozen=True, tag=True):
    """An operator's command: no new orders from ``strategy`` (all of them when empty)."""

    ts: int
    reason: str
    strategy: str = ""


# ── orders ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Signal(msgspec.Struct, frozen=True, gc=False):
    """What a strategy wants, before risk. Identity is derived: doing it twice is doing it once.

    ``seq`` is the tape position that caused it, ``ordinal`` counts this strategy's decisions at that position.
    ``quantity`` is signed (+ buys). ``limit``, ``stop``, ``sl``, ``tp`` are price units or None. ``ttl`` is in
    nanoseconds (0 unless validity is TTL). ``reference`` is the last price at the decision.
    """

    strategy: str
    seq: int
    ordinal: int
    ts: int
    symbol: str
    quantity: int
    reference: int
    product: str = "MIS"
    limit: int | None = None
    stop: int | None = None
    sl: int | None = None
    tp: int | None = None
    validity: str = "DAY"
    ttl: int = 0
    tag: str = ""

    @property
    def id(self) -> str:
        """Derived from strategy, source event and ordinal; no clock, no randomness, no namespace."""
        return f"{self.strategy}:{self.seq}:{self.ordinal}"


class CancelSignal(msgspec.Struct, frozen=True, gc=False):
    """A strategy withdraws one of its own orders."""

    strategy: str
    seq: int
    ordinal: int
    ts: int
    order_id: str


class Fill(msgspec.Struct, frozen=True, gc=False):
    """Part or all of an order, executed; the order is named by its ``signal`` and ``leg``.

    ``quantity`` is signed; ``price_units`` is the integer price; ``charges`` are paise by kind in the order of
    ``charges.KINDS``; ``realized`` is the profit it booked in paise, before charges; ``position`` is the strategy's
    signed quantity of the product after it.
    """

    instrument: Instrument
    signal: Signal
    leg: str
    number: int
    seq: int
    ts: int
    quantity: int
    price_units: int
    charges: tuple[int, ...]
    realized: int
    position: int

    @property
    def order_id(self) -> str:
        """The order's id."""
        return f"{self.signal.id}/{self.leg}" if self.leg else self.signal.id

    @property
    def id(self) -> str:
        """The order's id and the number of this fill within it."""
        return f"{self.order_id}.{self.number}"

    @property
    def strategy(self) -> str:
        """The name of the strategy that owns it."""
        return self.signal.strategy

    @property
    def symbol(self) -> str:
        """``EXCHANGE:TRADINGSYMBOL``."""
        return self.signal.symbol

    @property
    def product(self) -> str:
        """CNC, MIS or NRML."""
        return self.signal.product

    @property
    def tag(self) -> str:
        """The strategy's own label."""
        return self.signal.tag

    @property
    def reference(self) -> int:
        """Last price in units when the strategy decided: price less reference is slippage."""
        return self.signal.reference

    @property
    def side(self) -> str:
        """BUY or SELL."""
        return "BUY" if self.quantity > 0 else "SELL"

    @property
    def price(self) -> float:
        """Rupees."""
        return self.price_units / self.instrument.price_scale


# ── the envelope and the topics ──────────────────────────────────────────────────────────────────────────────────


class EventEnvelope(msgspec.Struct, frozen=True, kw_only=True):
    """What travels on a topic: the event with its lineage.

    A child inherits ``correlation_id`` and ``trace_id``; its ``causation_id`` is the parent's ``id``: from any fill
    the chain leads back to the tick. ``data`` is a msgspec-encodable value. Ids are given, never drawn here.
    """

    id: str
    type: str
    ts: int
    source: str
    namespace: str
    key: str
    correlation_id: str
    trace_id: str
    data: Any
    causation_id: str = ""
    parent_trace_id: str = ""
    version: int = 1

    def child(self, *, id: str, type: str, ts: int, source: str, data: Any, key: str = "") -> EventEnvelope:
        """An event this one caused."""
        return EventEnvelope(
            id=id,
            type=type,
            ts=ts,
            source=source,
            namespace=self.namespace,
            key=key or self.key,
            correlation_id=self.correlation_id,
            trace_id=self.trace_id,
            parent_trace_id=self.parent_trace_id,
            causation_id=self.id,
            data=data,
        )


class Topics:
    """Every topic name. Ticks are shared by all namespaces; everything else carries its namespace in front."""

    EQUITY_TICKS: ClassVar = "market.equity.ticks"
    OPTIONS_TICKS: ClassVar = "market.options.ticks"
    FOREX_TICKS: ClassVar = "market.forex.ticks"
    COMMODITY_TICKS: ClassVar = "market.commodity.ticks"
    CRYPTO_TICKS: ClassVar = "market.crypto.ticks"
    CLOCK: ClassVar = "market.clock"  # heartbeats: frames without ticks

    NAMESPACED: ClassVar = (
        "signals.raw",
        "signals.validated",
        "signals.rejected",
        "orders.submitted",
        "orders.acknowledged",
        "orders.filled",
        "orders.cancelled",
        "orders.rejected",
        "orders.failed",
        "pnl.snapshots",
    )

    @classmethod
    def market(cls) -> tuple[str, ...]:
        """The shared tick topics."""
        return cls.EQUITY_TICKS, cls.OPTIONS_TICKS, cls.FOREX_TICKS, cls.COMMODITY_TICKS, cls.CRYPTO_TICKS

    @classmethod
    def of(cls, namespace: str, name: str) -> str:
        """The topic ``name`` of one namespace; an unlisted name is a KeyError."""
        if name not in cls.NAMESPACED:
            raise KeyError(name)
        return f"{namespace}.{name}"

    @staticmethod
    def dead_letters(topic: str) -> str:
        """Where a message of ``topic`` goes that cannot be handled."""
        return f"{topic}.dlq"

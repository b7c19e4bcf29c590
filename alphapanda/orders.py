"""The life of an order, as one table.

    DENIED     our risk rules refused it; nothing left the house
    SENT       accepted by us, on its way to the venue
    OPEN       resting at the venue (a stop waits here for its trigger)
    PART       some of it filled, the rest resting
    FILLED, CANCELLED, REJECTED, EXPIRED   the ends; a cancelled or expired order may have filled in part

Every transition is a row of ``NEXT``; anything else raises. ``REJECTED`` is the venue's no, ``DENIED`` is ours.
"""

from __future__ import annotations

import msgspec

from alphapanda.errors import AlphaPandaException
from alphapanda.events import Signal
from alphapanda.instruments import Instrument

DENIED, SENT, OPEN, PART = "denied", "sent", "open", "part-filled"
FILLED, CANCELLED, REJECTED, EXPIRED = "filled", "cancelled", "rejected", "expired"

WORKING = frozenset({SENT, OPEN, PART})
ENDED = frozenset({DENIED, FILLED, CANCELLED, REJECTED, EXPIRED})

ACCEPT, PART_FILL, FULL_FILL, CANCEL, REJECT, EXPIRE = (
    "accept",
    "part-fill",
    "full-fill",
    "cancel",
    "reject",
    "expire",
)

NEXT: dict[tuple[str, str], str] = {
    (SENT, ACCEPT): OPEN,
    (SENT, REJECT): REJECTED,
    (SENT, PART_FILL): PART,
    (SENT, FULL_FILL): FILLED,
    (SENT, CANCEL): CANCELLED,
    (SENT, EXPIRE): EXPIRED,
    (OPEN, REJECT): REJECTED,
    (OPEN, PART_FILL): PART,
    (OPEN, FULL_FILL): FILLED,
    (OPEN, CANCEL): CANCELLED,
    (OPEN, EXPIRE): EXPIRED,
    (PART, PART_FILL): PART,
    (PART, FULL_FILL): FILLED,
    (PART, CANCEL): CANCELLED,
    (PART, EXPIRE): EXPIRED,
}


class InvalidTransition(AlphaPandaException):
    """The event cannot happen to an order in this status: a defect of ours or of the venue."""

    default_code = "E_TRANSITION"


def advance(status: str, event: str) -> str:
    """The status after ``event``."""
    try:
        return NEXT[status, event]
    except KeyError:
        raise InvalidTransition(
            f"an order that is {status} cannot {event}", status=status, event=event
        ) from None


class Order(msgspec.Struct, gc=False, eq=False):
    """One signal that became an order, and what happened to it so far.

    The owner of the namespace (the desk) is the only writer; a strategy reads. ``filled`` is signed like the
    quantity, ``turnover`` is the sum of price units x filled quantity (positive). ``parent_id`` names the entry whose
    fills this exit protects.
    """

    signal: Signal
    instrument: Instrument
    index: int  # of the instrument in the run
    owner: int  # of the strategy in the run
    status: str = SENT
    reason: str = ""
    filled: int = 0
    turnover: int = 0
    fills: int = 0
    target: int = 0  # signed quantity now wanted; a closing order's shrinks with the position it closes
    active_ts: int = 0  # the venue sees it from this tape time on
    charged: tuple[int, ...] | None = None
    triggered: bool = False
    resting: bool = False  # it has met an event at which its limit was not marketable
    closing: bool = False  # it only closes its strategy's position, and shrinks with it
    end_ts: int = 0
    parent_id: str = ""
    leg: str = ""  # "sl" or "tp" on a bracket's exits, "square-off" on the broker's own exit

    @property
    def id(self) -> str:
        """The signal's id; a bracket's exits add their leg."""
        return f"{self.signal.id}/{self.leg}" if self.leg else self.signal.id

    @property
    def strategy(self) -> str:
        """The name of the strategy that owns it."""
        return self.signal.strategy

    @property
    def symbol(self) -> str:
        """``EXCHANGE:TRADINGSYMBOL``."""
        return self.instrument.symbol

    @property
    def side(self) -> str:
        """BUY or SELL."""
        return "BUY" if self.target > 0 else "SELL"

    @property
    def quantity(self) -> int:
        """Quantity steps wanted, unsigned."""
        return abs(self.target)

    @property
    def remaining(self) -> int:
        """Quantity steps not yet filled, unsigned: quantity less filled, never the venue's own figure."""
        return abs(self.target - self.filled)

    @property
    def kind(self) -> str:
        """MARKET, LIMIT, SL-M or SL, in Kite's words."""
        if self.signal.stop is not None:
            return "SL" if self.signal.limit is not None else "SL-M"
        return "LIMIT" if self.signal.limit is not None else "MARKET"

    @property
    def limit(self) -> float | None:
        """Limit price in rupees."""
        return None if self.signal.limit is None else self.signal.limit / self.instrument.price_scale

    @property
    def stop(self) -> float | None:
        """Trigger price in rupees."""
        return None if self.signal.stop is None else self.signal.stop / self.instrument.price_scale

    @property
    def average_price(self) -> float:
        """Rupees; 0.0 until a fill."""
        return self.turnover / abs(self.filled) / self.instrument.price_scale if self.filled else 0.0

    @property
    def working(self) -> bool:
        """True while it can still fill."""
        return self.status in WORKING

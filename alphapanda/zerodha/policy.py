"""How patient the order path is, and the calls that it hands to its shell."""

from __future__ import annotations

from typing import Literal

import msgspec


class Policy(msgspec.Struct, frozen=True):
    """Patience, in seconds, and how many calls may be on their way at once."""

    answer: float = 8.0  # a POST without an answer is in doubt
    gate: float = 2.0  # from claim to the socket; later it is asked for again
    lost_after: float = 90.0
    lost_reads: int = 3
    book_busy: float = 2.0  # between looks while anything is open
    book_idle: float = 20.0
    book_apart: float = 0.25  # a look is two calls, of the ten a second that Kite allows
    look: float = (
        15.0  # a look that has not come back is given up: a time-out counts silence, not drops that trickle
    )
    blind: float = 60.0  # without a good look nothing new is opened
    cancel_again: float = 3.0
    cancels: int = (
        3  # so many at that distance; then a person is told, and the distances double up to 16 times
    )
    modifications: int = 20  # of Kite's 25 an order
    chase: float = 3.0  # a market exit that has rested so long is priced again
    senders: int = 4


class Call(msgspec.Struct, frozen=True):
    """One call to the broker. For ``place`` the intent is SENDING on disk; ``asked`` is when it was handed out."""

    number: int
    kind: Literal["place", "cancel", "modify", "book"]
    asked: int
    key: str = ""
    quantity: int = 0
    limit: int = 0

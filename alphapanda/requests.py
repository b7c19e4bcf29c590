"""What runner and gateway say to each other: a request at a place of the tape, and what it changed.

Every request has an id that follows from the tape, so asking twice is asking once: a runner that starts again asks the
same questions and gets the recorded answers. The same id with other content is a conflict: see ``recall``.
"""

from __future__ import annotations

import msgspec

from alphapanda.errors import ValidationError
from alphapanda.events import CancelSignal, Signal


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where a run stands: ``through`` is the number of the last row its orders met, ``ts`` the tape time, and ``rank``
    what of the things due at ``ts`` has not been handled yet (``day.LAST``: all has been).

    A day begins with its first tick, before what is due earlier that day, whatever clocks came before: ``day_end`` is
    when the day that has begun ends; -1 before the first, or where it is not said.
    """

    through: int
    ts: int
    rank: int
    day_end: int = -1


class Request(msgspec.Struct, frozen=True):
    """A strategy's signal or cancel, that it is halted, or (none of them) the question what its orders did so far."""

    run: str
    id: str
    place: Place
    signal: Signal | None = None
    cancel: CancelSignal | None = None
    halt: str = ""
    urgent: bool = True  # the runner waits for the reply; else it only says where it stands


class OrderUpdate(msgspec.Struct, frozen=True, tag="order"):
    """An order as it is now. ``signal`` is set for an order that the platform made; the runner knows all others."""

    id: str
    status: str
    reason: str
    filled: int
    target: int
    turnover: int
    fills: int
    end_ts: int
    triggered: bool
    resting: bool
    closing: bool
    told: bool  # its strategy hears of it now
    signal: Signal | None = None
    parent_id: str = ""
    leg: str = ""


class FillUpdate(msgspec.Struct, frozen=True, tag="fill"):
    """A fill for the books; its strategy hears of it with the ``FillTold`` that follows."""

    order_id: str
    number: int
    seq: int
    ts: int
    quantity: int
    price_units: int
    charges: tuple[int, ...]
    realized: int
    position: int


class FillTold(msgspec.Struct, frozen=True, tag="told"):
    """The strategy hears of the fill ``number`` of an order now."""

    order_id: str
    number: int


Update = OrderUpdate | FillUpdate | FillTold


class Reply(msgspec.Struct, frozen=True):
    """What a request changed, in order.

    ``quiet`` holds for every symbol with working orders the prices between which nothing can happen to them (None:
    every tick may matter), so that the runner asks again only when it has to. ``halt`` ends the strategy: why.
    ``place`` is where the lane stood: the request's own place, or a later one if nobody led the lane for a while.
    """

    id: str
    updates: tuple[Update, ...] = ()
    quiet: dict[str, tuple[int, int] | None] = {}
    halt: str = ""
    place: Place = Place(-1, 0, 0)


def encode(message: Request | Reply) -> bytes:
    """As bytes, the same for the same content."""
    return msgspec.msgpack.encode(message)


def recall(request: Request, asked: bytes, answered: bytes) -> Reply:
    """The recorded answer to a request that was asked before.

    ValidationError (E_CONFLICT) if it was asked with other content: the strategy decided otherwise than before, so its
    source, its parameters, its data or the platform is not what it was.
    """
    if encode(request) != asked:
        raise ValidationError(
            f"{request.id} of run {request.run} was decided otherwise before",
            fix="decide from the tape alone (self.now and self.random; no clock, file or global), and start a strategy "
            "that was changed as a new run",
            code="E_CONFLICT",
            run=request.run,
            request=request.id,
        )
    return msgspec.msgpack.decode(answered, type=Reply)

"""One run as it stands now, read from what the gateway, the runner and the hub write down about it.

A ``View`` is a value: the poller makes a new one when something changed, and whoever holds an old one can go on reading
it from any thread. Money is integer paise; ``*ts`` is tape time, the other times are wall clock, all in nanoseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from alphapanda.orders import WORKING
from alphapanda.result import RunError
from alphapanda.workspace import RunSpec

ENDS = ("failed", "halted", "stopped")
SHARED = "paper"  # the namespace without money

LABELS = {
    "starting": "starting",
    "warming": "warming up",
    "waiting": "waiting for ticks",
    "replaying": "catching up",
}


class Held(msgspec.Struct, frozen=True):
    """An open position."""

    symbol: str
    quantity: int
    product: str = ""
    average: float = 0.0
    last: float = 0.0
    unrealized: int = 0


class Placed(msgspec.Struct, frozen=True):
    """One of the last orders."""

    id: str
    symbol: str
    side: str
    quantity: int
    filled: int = 0
    kind: str = "MARKET"
    limit: float | None = None
    status: str = ""
    reason: str = ""
    ts: int = 0


class Books(msgspec.Struct, frozen=True):
    """What the gateway knows of a run: orders, positions, money. ``updated`` is 0 until it has written."""

    state: str = ""
    reason: str = ""
    tape_ts: int = 0
    updated: int = 0
    capital: int = 0
    equity: int = 0
    net: int = 0
    realized: int = 0
    unrealized: int = 0
    charges: int = 0
    positions: list[Held] = []
    orders: list[Placed] = []
    counts: dict[str, int] = {}
    curve: list[tuple[int, int]] = []


class Vitals(msgspec.Struct, frozen=True):
    """What the runner says of itself twice a second. ``at`` is 0 until it has."""

    state: str = ""
    at: int = 0
    tape_ts: int = 0
    data_age_ms: float = 0.0
    ticks: int = 0
    errors: list[RunError] = []
    logs: list[tuple[int, str, dict[str, str]]] = []  # tape time, message, fields


class View(msgspec.Struct, frozen=True):
    """A run now. ``lost``: wall time since when the server has not answered; ``halt``: why the namespace takes none."""

    run: str
    namespace: str
    name: str
    digest: str
    parameters: dict[str, Any]
    symbols: list[str]
    detached: bool = False
    state: str = "starting"
    hub_says: str = "starting"
    reason: str = ""
    books: Books = Books()
    pulse: Vitals = Vitals()
    lost: int = 0
    halt: str = ""

    @property
    def ended(self) -> bool:
        """Whether its process is gone for good. A halted run may have one yet: exits fill, and it can be stopped."""
        return self.hub_says in ENDS

    @property
    def settled(self) -> bool:
        """Whether it has ended and the gateway has shown its last figures, if it ever knew of it."""
        return self.ended and self.books.state in ("", *ENDS)

    @property
    def over(self) -> bool:
        """Whether nothing can change any more: it is settled, holds nothing, and no order of it is open."""
        held = any(one.quantity for one in self.books.positions)
        return self.settled and not held and not any(one.status in WORKING for one in self.books.orders)

    @property
    def live(self) -> bool:
        """Whether money may be behind it."""
        return self.namespace != SHARED

    @property
    def heard(self) -> int:
        """Wall time of the newest market data the run has met; 0 before the first."""
        return self.pulse.at - int(self.pulse.data_age_ms * 1e6) if self.pulse.ticks else 0

    @property
    def count(self) -> dict[str, int]:
        """Ticks, signals, orders, fills, denials, cancels so far; the runner's own count of ticks if it is ahead."""
        counts = self.books.counts
        return {**counts, "ticks": max(counts.get("ticks", 0), self.pulse.ticks)}

    @property
    def fault(self) -> RunError | None:
        """The newest error of the strategy."""
        return self.pulse.errors[-1] if self.pulse.errors else None

    @property
    def label(self) -> str:
        """The state as a person reads it."""
        return LABELS.get(self.state, self.state)


D = TypeVar("D", Books, Vitals)


def state_of(wanted: str, books: Books, pulse: Vitals) -> str:
    """The hub, the gateway and the runner each say how a run does; the worst that any of them knows is true."""
    if books.state == "halted" and pulse.state != "halted" and wanted not in ENDS:
        return "stopping"  # the runner tells of it in a moment, and of the error that did it
    said = (wanted, books.state, pulse.state)
    for end in ENDS:
        if end in said:
            return end
    if "stopping" in said:
        return "stopping"
    return books.state or pulse.state or wanted or "starting"


def renewed(
    view: View, raw: Sequence[bytes | None] | None, spec: RunSpec | None, halt: str, lost: int
) -> View:
    """The view after one more look. ``raw``: the gateway's and the runner's document, None if neither has changed;
    ``spec``: what the run's folder says, None if that cannot be read."""
    books, pulse = view.books, view.pulse
    if raw is not None:
        books, pulse = _decoded(raw[0], Books, books), _decoded(raw[1], Vitals, pulse)
    hub_says = spec.state if spec is not None else view.hub_says
    reason = view.reason if spec is None else spec.reason or books.reason
    return msgspec.structs.replace(
        view,
        state=state_of(hub_says, books, pulse),
        hub_says=hub_says,
        reason=reason,
        detached=spec.detached if spec is not None else view.detached,
        books=books,
        pulse=pulse,
        lost=0 if hub_says in ENDS else lost,
        halt="" if hub_says in ENDS else halt,
    )


def _decoded(raw: bytes | None, kind: type[D], before: D) -> D:
    """A document; what was read before where it is gone (a server that lost its data) or cannot be read."""
    if raw is None:
        return before
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.MsgspecError:
        return before

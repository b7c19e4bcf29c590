"""What the reader makes: values, whole and consistent as of one look.

Money is integer paise; ``ts`` and ``tape_ts`` are tape time, every other time is wall clock, all in nanoseconds; prices
are rupees.
"""

from __future__ import annotations

from typing import Any

import msgspec

from alphapanda.overview.view import View


class Halt(msgspec.Struct, frozen=True):
    """The kill switch of a namespace: how far it was pulled (1 only reduces ... 5 logged out), why, by whom, when."""

    level: int
    reason: str = ""
    by: str = ""
    at: int = 0


class Process(msgspec.Struct, frozen=True):
    """Hub, server, or a child: its state, what it uses, and what its last heartbeat said."""

    role: str
    state: str
    pid: int = 0
    cpu: float = 0.0  # percent of a core
    rss_mb: float = 0.0
    restarts: int = 0
    since: int = 0
    at: int = 0  # of its last heartbeat; 0: none
    detail: str = ""
    error: str = ""
    health: dict[str, Any] = {}


class LanePosition(msgspec.Struct, frozen=True):
    """An open position of a run."""

    run: str
    strategy: str
    symbol: str
    product: str
    quantity: int
    average: float
    last: float
    unrealized: int


class LaneOrder(msgspec.Struct, frozen=True):
    """An order and what became of it; ``reason`` says why where it was not filled."""

    id: str
    run: str
    strategy: str
    symbol: str
    side: str
    quantity: int
    filled: int = 0
    kind: str = "MARKET"
    limit: float | None = None
    stop: float | None = None
    average: float = 0.0
    status: str = ""
    reason: str = ""
    leg: str = ""
    tag: str = ""
    ts: int = 0
    correlation_id: str = ""


class LaneFill(msgspec.Struct, frozen=True):
    """A part of an order that was executed."""

    order: str
    run: str
    strategy: str
    symbol: str
    side: str
    quantity: int
    price: float
    ts: int
    charges: int = 0
    realized: int = 0


class LimitUse(msgspec.Struct, frozen=True):
    """How much of a limit is used; both in ``unit``."""

    name: str
    used: float
    limit: float
    unit: str  # rupees, orders or percent


class Today(msgspec.Struct, frozen=True):
    """What was earned on the newest day of the tape: ``net`` from the day's first equity on, with what is open and
    after charges; ``realized`` before charges; ``charges``. Paise."""

    net: int = 0
    realized: int = 0
    charges: int = 0


class Lane(msgspec.Struct, frozen=True):
    """One namespace: its money, who holds what, its orders, and whether it may place any. ``net`` to ``charges`` are
    sums over its runs from their first day on; ``today`` is what the daily loss is measured on."""

    name: str
    live: bool
    halt: Halt | None = None
    gateway: dict[str, Any] = {}  # its heartbeat
    updated: int = 0
    tape_ts: int = 0
    capital: int = 0
    equity: int = 0
    net: int = 0
    realized: int = 0
    unrealized: int = 0
    charges: int = 0
    gross: int = 0
    today: Today = Today()
    orders_today: int = 0
    signals: int = 0  # that were accepted or denied, since the server's topics begin
    denied: int = 0
    positions: tuple[LanePosition, ...] = ()
    orders: tuple[LaneOrder, ...] = ()  # newest first
    fills: tuple[LaneFill, ...] = ()  # newest first
    curve: tuple[tuple[int, int], ...] = ()  # tape time and net of the newest day
    limits: tuple[LimitUse, ...] = ()


class Price(msgspec.Struct, frozen=True):
    """An instrument now, on its last day with ticks: ``opened`` is that day's first price, ``volume`` what was traded;
    ``at`` is when we saw the newest tick."""

    last: float
    opened: float
    bid: float = 0.0
    ask: float = 0.0
    volume: int = 0
    ts: int = 0
    at: int = 0
    ticks: int = 0


class ErrorLine(msgspec.Struct, frozen=True):
    """A line of the error channel."""

    at: str  # UTC, ISO 8601
    level: str
    event: str
    role: str = ""
    namespace: str = ""
    run: str = ""
    strategy: str = ""
    correlation_id: str = ""
    message: str = ""
    facts: dict[str, Any] = {}
    exception: str = ""


class Overview(msgspec.Struct, frozen=True):
    """A workspace at one look. ``hub`` is empty where none answers; ``lost`` is since when the server has not."""

    number: int = 0
    at: int = 0
    lost: int = 0
    hub: str = ""
    troubles: tuple[str, ...] = ()
    processes: tuple[Process, ...] = ()
    lanes: dict[str, Lane] = {}
    runs: tuple[View, ...] = ()
    prices: dict[str, Price] = {}
    errors: tuple[ErrorLine, ...] = ()  # newest first
    error_counts: tuple[tuple[int, str, str, str, int], ...] = ()  # minute, class, topic, namespace, count
    letters: dict[str, int] = {}  # open dead letters by topic

    def process(self, role: str) -> Process | None:
        """The process of this role."""
        return next((one for one in self.processes if one.role == role), None)

    def run(self, name: str) -> View | None:
        """The run of this id."""
        return next((one for one in self.runs if one.run == name), None)

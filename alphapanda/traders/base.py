"""The contract of a trader: who takes the accepted orders of one namespace to a venue."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from alphapanda.events import Block
from alphapanda.orders import ACCEPT, CANCEL, REJECT, SENT, WORKING, Order
from alphapanda.traders.reports import Report

if TYPE_CHECKING:
    from alphapanda.checks import Check
    from alphapanda.desk import Desk
    from alphapanda.lane import LaneVenue
    from alphapanda.settings import Settings
    from alphapanda.workspace import Workspace

Mode = Literal["paper", "shadow", "live"]


class Position(NamedTuple):
    """What the venue shows of a symbol and product, what our own trades make of it, and what was others' before; signed
    quantities."""

    symbol: str
    product: str
    shown: int
    ours: int
    theirs: int

    @property
    def explained(self) -> bool:
        """Both agree."""
        return self.shown == self.ours + self.theirs


class Trader(ABC):
    """One broker's account, or a simulation of one.

    The gateway calls ``initialize`` once, then ``execute_order`` for each order that passed risk and is on record, and
    ``shutdown`` at the end. What becomes of an order during that call may be told to ``shelf(order)``: ``accepted``,
    ``filled``, ``rejected``, ``cancelled``. What comes later is kept as numbered ``reports``, and ``news`` is set: the
    gateway puts them on record and tells the runs. A trader never sends an order twice: ``execute_order`` comes again
    for the same order after a restart and must then do nothing.

    A new broker is a subclass named by an entry point of the group ``alphapanda.traders``; it is made with the
    settings, and may have a section there.
    """

    execution_mode: ClassVar[Mode]

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings
        self.news = asyncio.Event()
        self.trouble = ""  # why nothing leaves just now, and what to do; the gateway's heartbeat tells it
        self.fault: BaseException | None = (
            None  # what ended its own work: the gateway ends with it and starts again
        )
        self._shelves: list[Shelf] = []

    @classmethod
    def made_for(cls, settings: Settings) -> type[Trader]:
        """The class to make: another one where the settings ask for a trader that sends nothing."""
        return cls

    @classmethod
    def account(cls, settings: Settings) -> str:
        """The account's id as its owner knows it; "" where there is none. A person types it before money moves."""
        return ""

    @classmethod
    def is_practice(cls, settings: Settings) -> bool:
        """Whether the settings lead to a sandbox, whose day need not be today's."""
        return False

    @classmethod
    async def preflight(cls, settings: Settings, workspace: Workspace) -> list[Check]:
        """Everything a day with money needs, looked at with no gateway at hand."""
        return []

    @abstractmethod
    async def initialize(self) -> None:
        """Connect and log in. Raises what a person has to mend."""

    @abstractmethod
    async def execute_order(self, order: Order) -> None:
        """Take an order to the venue. Raises OrderRejectionError when the venue says no at once."""

    @abstractmethod
    async def cancel_order(self, order: Order) -> None:
        """Ask the venue to cancel; its answer is reported like any other."""

    @abstractmethod
    async def shutdown(self) -> None:
        """Let go of everything; working orders stay where they are."""

    def reports(self, after: int) -> list[tuple[int, Report]]:
        """What became of orders, with numbers above ``after``, from the oldest on."""
        return []

    def refused(self, order: Order, reason: str) -> None:
        """``execute_order`` said no."""
        self.shelf(order).rejected(order, reason)

    async def resize_order(self, order: Order) -> None:  # noqa: B027 - not every venue has such
        """An order at the venue is to shrink to ``order.target``, because the position that it closes has."""

    async def halt(self, level: int, reason: str) -> None:  # noqa: B027 - a simulation has nothing to tell anyone
        """The kill switch is set (1: only what reduces; from 2 on: nothing new; from 3 on: entries are cancelled), or
        lifted (0)."""

    async def settle(self, order: str, reason: str) -> None:  # noqa: B027 - a simulation loses nothing
        """A person has looked at the broker: an order whose fate nobody knew is over. "" for all of them; then the
        positions that differ are known to be others', too."""

    @classmethod
    def stop_orders(cls, settings: Settings, say: Callable[..., None], *, sever: bool = False) -> bool:
        """Cancel the namespace's working entries at the venue with no gateway at hand, telling a person by ``say``;
        ``sever`` ends the session as well. True if nothing of ours works there any more."""
        return True

    @classmethod
    def lost(cls, settings: Settings) -> dict[str, str]:
        """Orders whose fate nobody knows, each with what it was; read with no gateway at hand."""
        return {}

    @classmethod
    def positions(cls, settings: Settings) -> list[Position]:
        """The venue's positions beside ours, asked with no gateway at hand. Raises what a person has to mend first."""
        return []

    def venue(self, desk: Desk) -> LaneVenue:
        """Where one run's desk puts its orders: a shelf that the trader reports to."""
        shelf = Shelf(desk)
        self._shelves.append(shelf)
        return shelf

    def shelf(self, order: Order) -> Shelf:
        """The shelf an order lies on; KeyError for one that has ended or is not ours."""
        for shelf in self._shelves:
            if any(one is order for one in shelf.working.get(order.signal.symbol, ())):
                return shelf
        raise KeyError(order.id)


class Shelf:
    """A desk's orders that are at a real venue, or on their way: the trader says what happens to them.

    A target that is to be reached after a stop was placed waits here until the market touches it: two resting exits
    for one position could both fill.
    """

    real = True

    def __init__(self, desk: Desk) -> None:
        self.working: dict[str, list[Order]] = {}
        self.pending: list[Order] = []
        self.withdrawn: list[Order] = []  # cancels on their way to the trader
        self.run = ""
        self.decided = 0  # wall ns of the request being answered
        self.times: dict[str, int] = {}  # when each order was decided
        self._unwanted: set[str] = set()  # whose cancel was asked for
        self._sent: dict[str, int] = {}  # order at the venue → the target it has there
        self._targets: dict[str, list[Order]] = {}  # by symbol
        self._desk = desk
        self._ts = 0

    def add(self, order: Order, ts: int) -> None:
        """The desk has accepted it; it goes out when it is on record."""
        self.working.setdefault(order.signal.symbol, []).append(order)
        self.times[order.id] = self.decided
        self._ts = ts
        if order.leg.startswith("tp"):
            self._targets.setdefault(order.signal.symbol, []).append(order)
        else:
            self._send(order)

    def _send(self, order: Order) -> None:
        self.pending.append(order)
        self._sent[order.id] = order.target

    def withdraw(self, order: Order, reason: str, ts: int) -> None:
        """Still working until the venue confirms, unless it never left."""
        waiting = self._targets.get(order.signal.symbol, [])
        if order in waiting:
            waiting.remove(order)
            self._desk.changed(order, CANCEL, reason, ts)
        else:
            self._unwanted.add(order.id)
            self.withdrawn.append(order)

    def remove(self, order: Order) -> None:
        """It has ended."""
        queue = self.working[order.signal.symbol]
        queue.remove(order)
        if not queue:
            del self.working[order.signal.symbol]
        waiting = self._targets.get(order.signal.symbol, [])
        if order in waiting:
            waiting.remove(order)

    def match(self, symbol: str, block: Block, row: int, ts: int) -> None:
        """Real fills come from the venue, never from the tape; a target that is touched goes out."""
        self._ts = ts
        waiting = self._targets.get(symbol)
        if waiting:
            price = block.price.item(row)
            for order in tuple(waiting):
                limit = order.signal.limit or 0
                if price >= limit if order.target < 0 else price <= limit:
                    waiting.remove(order)
                    self._send(order)

    def quiet(self, symbol: str) -> tuple[int, int] | None:
        """Nothing follows from prices here: every tick is a good time to hear of fills."""
        return None

    def resized(self) -> list[Order]:
        """Orders at the venue whose wanted quantity has changed since they were sent, each told once."""
        found = [
            order
            for queue in self.working.values()
            for order in queue
            if self._sent.get(order.id, order.target) != order.target
        ]
        for order in found:
            self._sent[order.id] = order.target
        return found

    def protects(self, order: Order) -> bool:
        """Whether it is a stop that still stands, and that nobody here withdrew."""
        return order.leg.startswith("sl") and order.status in WORKING and order.id not in self._unwanted

    # ── what the trader reports ──────────────────────────────────────────────────────────────────────────────────

    def accepted(self, order: Order) -> None:
        """The venue has it."""
        if order.status == SENT:
            self._desk.changed(order, ACCEPT, "", self._ts)

    def filled(self, order: Order, quantity: int, price_units: int) -> None:
        """Some of it traded: ``quantity`` signed like the order's. One that had ended is open again for it."""
        desk = self._desk
        if order.status not in WORKING:
            order.target = (
                order.filled + quantity if abs(order.filled + quantity) > order.quantity else order.target
            )
            desk.reopen(order)
        desk.filled(order, quantity, price_units, desk.listener.sequence(), self._ts)

    def rejected(self, order: Order, reason: str) -> None:
        """The venue refused it."""
        if order.status in WORKING:
            self._desk.changed(order, REJECT if not order.filled else CANCEL, reason, self._ts)

    def cancelled(self, order: Order, reason: str) -> None:
        """The venue confirms a cancel."""
        if order.status in WORKING:
            self._desk.changed(order, CANCEL, reason, self._ts)

    def hold(self, order: Order) -> None:
        """An order is open again: not to be sent once more."""
        self.working.setdefault(order.signal.symbol, []).append(order)

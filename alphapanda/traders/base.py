"""The contract of a trader: who takes the accepted orders of one namespace to a venue."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

from alphapanda.events import Block
from alphapanda.orders import ACCEPT, CANCEL, REJECT, WORKING, Order

if TYPE_CHECKING:
    from alphapanda.desk import Desk
    from alphapanda.lane import LaneVenue
    from alphapanda.settings import Settings

Mode = Literal["paper", "shadow", "live"]


class Trader(ABC):
    """One broker's account, or a simulation of one.

    The gateway calls ``initialize`` once, then ``execute_order`` for each order that passed risk and is on record, and
    ``shutdown`` at the end. What becomes of an order is told to ``shelf(order)``: ``accepted``, ``filled``,
    ``rejected``, ``cancelled``. A trader never sends an order twice; when it does not know what became of one it
    raises OrderTimeoutError and finds out.

    A new broker is a subclass named by an entry point of the group ``alphapanda.traders``; it is made with the
    settings, and may have a section there.
    """

    execution_mode: ClassVar[Mode]

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings
        self._shelves: list[Shelf] = []

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
    """A desk's orders that are at a real venue, or on their way: the trader says what happens to them."""

    def __init__(self, desk: Desk) -> None:
        self.working: dict[str, list[Order]] = {}
        self.pending: list[Order] = []
        self.withdrawn: list[Order] = []  # cancels on their way to the trader
        self._desk = desk
        self._ts = 0

    def add(self, order: Order, ts: int) -> None:
        """The desk has accepted it; it goes out when it is on record."""
        self.working.setdefault(order.signal.symbol, []).append(order)
        self.pending.append(order)
        self._ts = ts

    def withdraw(self, order: Order, reason: str, ts: int) -> None:
        """Still working until the venue confirms."""
        self.withdrawn.append(order)

    def remove(self, order: Order) -> None:
        """It has ended."""
        queue = self.working[order.signal.symbol]
        queue.remove(order)
        if not queue:
            del self.working[order.signal.symbol]

    def match(self, symbol: str, block: Block, row: int, ts: int) -> None:
        """Real fills come from the venue, never from the tape."""
        self._ts = ts

    def quiet(self, symbol: str) -> tuple[int, int] | None:
        """Nothing follows from prices here: every tick is a good time to hear of fills."""
        return None

    # ── what the trader reports ──────────────────────────────────────────────────────────────────────────────────

    def accepted(self, order: Order) -> None:
        """The venue has it."""
        self._desk.changed(order, ACCEPT, "", self._ts)

    def filled(self, order: Order, quantity: int, price_units: int) -> None:
        """Some of it traded: ``quantity`` signed like the order's."""
        desk = self._desk
        desk.filled(order, quantity, price_units, desk.listener.sequence(), self._ts)

    def rejected(self, order: Order, reason: str) -> None:
        """The venue refused it."""
        if order.status in WORKING:
            self._desk.changed(order, REJECT, reason, self._ts)

    def cancelled(self, order: Order, reason: str) -> None:
        """The venue confirms a cancel."""
        if order.status in WORKING:
            self._desk.changed(order, CANCEL, reason, self._ts)

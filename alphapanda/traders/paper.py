"""The paper trader: the simulated exchange of research behind the contract of a broker."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from alphapanda.exchange import UNLIMITED, Exchange, Fills
from alphapanda.orders import REJECT, Order
from alphapanda.traders.base import Mode, Trader

if TYPE_CHECKING:
    from alphapanda.desk import Desk
    from alphapanda.settings import Settings


class PaperVenue(Exchange):
    """The simulated exchange of one paper desk.

    A strategy's order is in the book at once, where rules and cancels find it, and waits there until it is on record
    and the trader executes it; the platform's own exits are made while the tape is being played and meet the very next
    tick.
    """

    def __init__(self, fills: Fills, desk: Desk) -> None:
        super().__init__(fills, desk)
        self.pending: list[Order] = []
        self._arrival: dict[str, int] = {}  # when the venue will see them
        self.withdrawn: list[Order] = []  # nothing ever waits here: a simulated cancel is done at once

    def add(self, order: Order, ts: int) -> None:
        """See the class."""
        super().add(order, ts)
        if not order.leg:
            self.pending.append(order)
            self._arrival[order.id], order.active_ts = order.active_ts, UNLIMITED

    def execute(self, order: Order) -> None:
        """It is on record: from here on it meets the market."""
        order.active_ts = self._arrival.pop(order.id)

    def refuse(self, order: Order, reason: str) -> None:
        """It is on record and no exchange would take it."""
        order.active_ts = self._arrival.pop(order.id)
        self._owner.changed(order, REJECT, reason, order.signal.ts)


class PaperTrader(Trader):
    """Fills orders against the market of the tape, in the event time of each run; nothing leaves the machine."""

    execution_mode: ClassVar[Mode] = "paper"

    def __init__(self, settings: Settings | None = None, fills: Fills | None = None) -> None:
        super().__init__(settings)
        self.fills = fills or (fills_of(settings) if settings else Fills())
        self._venues: list[PaperVenue] = []

    async def initialize(self) -> None:
        """Nothing to connect to."""

    def venue(self, desk: Desk) -> PaperVenue:
        """An exchange for one run, whose orders meet the run's own place of the tape."""
        self._venues.append(made := PaperVenue(self.fills, desk))
        return made

    async def execute_order(self, order: Order) -> None:
        """From here on the order meets the market."""
        self._venue_of(order).execute(order)

    def refused(self, order: Order, reason: str) -> None:
        """See ``Trader.refused``."""
        self._venue_of(order).refuse(order, reason)

    def _venue_of(self, order: Order) -> PaperVenue:
        for venue in self._venues:
            if order in venue.pending:
                return venue
        raise KeyError(order.id)

    async def cancel_order(self, order: Order) -> None:
        """Nothing to ask anyone: the desk has cancelled it in the book."""

    async def shutdown(self) -> None:
        """Nothing is held outside."""
        self._venues.clear()


def fills_of(settings: Settings) -> Fills:
    """How orders fill on paper, from the settings."""
    paper = settings.paper_trading
    return Fills(
        slippage_ticks=paper.slippage_ticks,
        slippage_bps=paper.slippage_bps,
        latency_ms=paper.latency_ms,
        participation=paper.participation,
        seed=paper.seed,
    )

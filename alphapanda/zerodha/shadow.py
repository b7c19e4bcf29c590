"""Zerodha's order path without its last step: every order is put in Kite's terms, checked, kept, and not sent.

A shadow run trades on the live stream as a real one would, and its fills are paper's. What would have gone to the
broker is on record in a file of its own, which no sender reads: an order that was kept in shadow can never leave later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from alphapanda import logs
from alphapanda.clock import wall_ns
from alphapanda.errors import OrderRejectionError, ValidationError
from alphapanda.events import ist
from alphapanda.orders import Order
from alphapanda.rulebook import Rulebook
from alphapanda.traders.base import Mode
from alphapanda.traders.paper import PaperTrader
from alphapanda.workspace import Workspace
from alphapanda.zerodha.client import terms_of
from alphapanda.zerodha.outcomes import NeverSent
from alphapanda.zerodha.slices import intents_of
from alphapanda.zerodha.standing import orders_file
from alphapanda.zerodha.store import Store

if TYPE_CHECKING:
    from alphapanda.settings import Settings

NAMESPACE = "zerodha"
SHADOW = "shadow"  # whose file: not the real orders'


class ShadowTrader(PaperTrader):
    """Fills on paper what Zerodha's order path would have sent, and refuses what it would have refused."""

    execution_mode: ClassVar[Mode] = "shadow"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._band = settings.zerodha.market_band_percent / 100
        self._rulebook = Rulebook.load()
        self._store: Store

    async def initialize(self) -> None:
        """Open the record; no login is needed."""
        path = orders_file(Workspace.find(), SHADOW)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        self._store = Store(path)
        self._store.take_over()

    async def execute_order(self, order: Order) -> None:
        """On record in Kite's terms, then onto the paper market. OrderRejectionError for terms no exchange takes."""
        freeze = self._rulebook.freeze_quantity(order.instrument, ist(order.signal.ts).date())
        intents = intents_of(order, NAMESPACE, SHADOW, wall_ns(), freeze, self._band)
        try:
            terms = [terms_of(intent) for intent in intents]
            fresh = self._store.create(intents)
        except (NeverSent, ValidationError) as error:
            raise OrderRejectionError(str(error), fix="see the order's prices and quantity") from error
        for one in terms if fresh else ():
            logs.channel("trading").info("order.shadowed", order=order.id, **one)
        await super().execute_order(order)

    async def shutdown(self) -> None:
        """Close the record."""
        await super().shutdown()
        self._store.close()

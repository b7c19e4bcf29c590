"""A broker of somebody else's, whole: one class, one entry point. It fills all at once, at the price named."""

from __future__ import annotations

from typing import ClassVar

from alphapanda.errors import OrderRejectionError
from alphapanda.orders import Order
from alphapanda.traders.base import Mode, Trader


class GenerousBroker(Trader):
    """Fills whatever it gets at the limit, else at the last price; knows no stocks above 2,000 rupees."""

    execution_mode: ClassVar[Mode] = "paper"
    session = ""

    async def initialize(self) -> None:
        self.session = "open"

    async def execute_order(self, order: Order) -> None:
        signal = order.signal
        price = signal.limit or signal.reference
        if order.instrument.rupees(price) > 2_000:
            raise OrderRejectionError("too dear for us", fix="trade something cheaper")
        shelf = self.shelf(order)
        shelf.accepted(order)
        if signal.stop is None:
            shelf.filled(order, order.target, price)

    async def cancel_order(self, order: Order) -> None:
        self.shelf(order).cancelled(order, "cancelled by the broker")

    async def shutdown(self) -> None:
        self.session = "closed"

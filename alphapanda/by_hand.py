"""One order by hand, on the same way as any other: a strategy that wants it once."""

from __future__ import annotations

from alphapanda.events import Tick
from alphapanda.strategy import Param, Strategy


class ByHand(Strategy):
    """Orders ``quantity`` (negative: sells) at the first tick, at ``limit`` or at the market where it is 0."""

    quantity: int = Param(1, doc="signed")
    limit: float = Param(0.0, low=0.0, doc="rupees; 0: at the market")

    def on_start(self) -> None:
        self.state.sent = False

    def on_tick(self, tick: Tick) -> None:
        if not self.state.sent:
            self.state.sent = True
            send = self.buy if self.quantity > 0 else self.sell
            send(tick.symbol, abs(self.quantity), limit=self.limit or None)

"""The strategies the live figures are taken with: as little of their own as there can be, so that what is measured is
the way of a tick to them and of an order from them."""

from __future__ import annotations

import alphapanda as ap
from alphapanda.clock import wall_ns

SYMBOLS = [f"NSE:BENCH{n:02d}" for n in range(50)]
MARKET = ["NSE:RELIANCE", "NSE:INFY", "NSE:SBIN", "NSE:HDFCBANK", "NSE:ICICIBANK", "NSE:TCS"]


class Count(ap.Strategy):
    """Counts ticks in what survives a restart."""

    symbols = tuple(SYMBOLS)

    def on_start(self) -> None:
        """None so far."""
        self.state.seen = 0

    def on_tick(self, tick: ap.Tick) -> None:
        """One more."""
        self.state.seen += 1


class Pairs(ap.Strategy):
    """An order for one share every ``gap`` milliseconds of market, on the first tick of a pair of one symbol: its
    second one fills it, from the same frame as a rule."""

    symbols = tuple(SYMBOLS)
    gap: int = ap.Param(203)

    def on_start(self) -> None:
        """Flat."""
        self.before, self.due = "", 0

    def on_tick(self, tick: ap.Tick) -> None:
        """Turn the position of this symbol."""
        if tick.symbol != self.before and tick.ts >= self.due:
            self.due = tick.ts + self.gap * 1_000_000
            if self.position(tick.symbol).quantity > 0:
                self.sell(tick.symbol, 1)
            else:
                self.buy(tick.symbol, 1)
        self.before = tick.symbol


class First(ap.Strategy):
    """Says when it met its first tick."""

    symbols = tuple(MARKET)

    def on_start(self) -> None:
        """None so far."""
        self.met = False

    def on_tick(self, tick: ap.Tick) -> None:
        """The wall clock at the first."""
        if not self.met:
            self.met = True
            self.log("first tick", at=wall_ns())


class Hold(ap.Strategy):
    """Counts ticks of the synthetic market and never trades."""

    symbols = tuple(MARKET)

    def on_start(self) -> None:
        """None so far."""
        self.state.seen = 0

    def on_tick(self, tick: ap.Tick) -> None:
        """One more."""
        self.state.seen += 1


class Turn(ap.Strategy):
    """The same market, and an order for one share every ``gap`` seconds of it."""

    symbols = tuple(MARKET)
    gap: int = ap.Param(2)

    def on_start(self) -> None:
        """Flat."""
        self.state.seen = self.state.due = 0

    def on_tick(self, tick: ap.Tick) -> None:
        """Turn the position when it is time."""
        self.state.seen += 1
        if tick.ts >= self.state.due:
            self.state.due = tick.ts + self.gap * 1_000_000_000
            if self.position(tick.symbol).quantity > 0:
                self.sell(tick.symbol, 1)
            else:
                self.buy(tick.symbol, 1)

"""Strategies for the fault tests: plain, deterministic, and busy enough that a lost or doubled order shows."""

from __future__ import annotations

import time

import alphapanda as ap

SYMBOLS = ["NSE:RELIANCE", "NSE:INFY", "NSE:SBIN"]


class Busy(ap.Strategy):
    """Orders of every kind, drawn from the seeded generator, every few seconds of market."""

    symbols = SYMBOLS

    def on_start(self) -> None:
        self.state.seen = 0
        self.state.booked = []

    def on_tick(self, tick: ap.Tick) -> None:
        self.state.seen += 1
        draw = self.random.random()
        if draw > 0.02:
            return
        held = self.position(tick.symbol).quantity
        if held:
            self.cancel_all(tick.symbol)
            self.order_target(tick.symbol, 0)
        elif self.open_orders(tick.symbol):
            self.cancel_all(tick.symbol)
        elif draw < 0.008:
            near = self.round_price(tick.symbol, tick.price * 0.9995)
            self.buy(tick.symbol, 7, limit=near, validity="TTL", ttl="30s")
        elif draw < 0.014:
            below, above = (self.round_price(tick.symbol, tick.price * x) for x in (0.998, 1.003))
            self.buy(tick.symbol, 5, sl=below, tp=above)
        else:
            self.sell(tick.symbol, 3)

    def on_fill(self, fill: ap.Fill) -> None:
        self.state.booked.append([fill.order_id, fill.number, fill.position])


class Punctual(ap.Strategy):
    """Buys one share every second for more than a minute, whether or not there is a market."""

    symbols = ["NSE:INFY"]

    def on_start(self) -> None:
        self.state.left = 75
        self.every("1s", self.enter)

    def enter(self) -> None:
        self.state.left -= 1
        if self.state.left >= 0:
            self.buy("NSE:INFY", 1)


class Metronome(ap.Strategy):
    """In and out of one share, a limit order left behind each time: there is always something to halt."""

    symbols = ["NSE:RELIANCE"]

    def on_start(self) -> None:
        self.every("3s", self.turn)

    def turn(self) -> None:
        symbol = "NSE:RELIANCE"
        if not self.last_price(symbol) > 0:
            return
        if self.position(symbol).quantity:
            self.cancel_all()
            self.order_target(symbol, 0)
        else:
            self.buy(symbol, 1)
            self.buy(symbol, 2, limit=self.round_price(symbol, self.last_price(symbol) * 0.97))


class Storm(ap.Strategy):
    """Out of hand: three orders a tick."""

    symbols = ["NSE:TCS", "NSE:HDFCBANK", "NSE:ICICIBANK"]

    def on_tick(self, tick: ap.Tick) -> None:
        for quantity in (1, 2, 3):
            self.buy(tick.symbol, quantity)


class Slow(ap.Strategy):
    """Sleeps in its callback, as a badly written one does."""

    symbols = ["NSE:TCS"]

    def on_bar(self, bar: ap.Bar) -> None:
        time.sleep(2.0)


class Broken(ap.Strategy):
    """Buys, then meets what its writer did not think of."""

    symbols = ["NSE:TCS"]

    def on_start(self) -> None:
        self.state.seen = 0

    def on_tick(self, tick: ap.Tick) -> None:
        self.state.seen += 1
        if self.state.seen == 3:
            self.buy(tick.symbol, 1)
        if self.state.seen == 20:
            raise ZeroDivisionError("nobody thought of this")

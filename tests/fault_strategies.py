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


class Storm(ap.Strategy):
    """Out of hand: an order a tick."""

    symbols = ["NSE:TCS"]

    def on_tick(self, tick: ap.Tick) -> None:
        self.buy(tick.symbol, 1)


class Slow(ap.Strategy):
    """Sleeps in its callback, as a badly written one does."""

    symbols = ["NSE:TCS"]

    def on_bar(self, bar: ap.Bar) -> None:
        time.sleep(2.0)

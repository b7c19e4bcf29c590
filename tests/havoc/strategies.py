"""Strategies for the chaos tests. What they order does not depend on how prices move, so each can be counted."""

from __future__ import annotations

import alphapanda as ap


class Patient(ap.Strategy):
    """In and out of one share, one order after another, ``most`` orders all in all."""

    symbols = ("NSE:INFY",)
    most: int = ap.Param(4)

    def on_start(self) -> None:
        self.state.sent = 0

    def on_tick(self, tick: ap.Tick) -> None:
        if self.open_orders(tick.symbol) or self.state.sent >= self.most:
            return
        self.state.sent += 1
        if self.position(tick.symbol).quantity:
            self.order_target(tick.symbol, 0)
        else:
            self.buy(tick.symbol, 5)


class Resting(ap.Strategy):
    """One entry far below the market; it is cancelled at the first tick after ``leave`` is over, then another."""

    symbols = ("NSE:INFY",)
    most: int = ap.Param(1)
    leave: str = ap.Param("")

    def on_start(self) -> None:
        self.state.sent = 0
        if self.leave:
            self.every(self.leave, self.over)

    def over(self) -> None:
        self.cancel_all()

    def on_tick(self, tick: ap.Tick) -> None:
        if self.state.sent < self.most and not self.open_orders(tick.symbol):
            self.state.sent += 1
            self.buy(tick.symbol, 5, limit=self.round_price(tick.symbol, tick.price * 0.97))


class Wild(ap.Strategy):
    """Out of hand: three orders a tick."""

    symbols = ("NSE:TCS", "NSE:HDFCBANK")

    def on_tick(self, tick: ap.Tick) -> None:
        for quantity in (1, 2, 3):
            self.buy(tick.symbol, quantity)


class Guarded(ap.Strategy):
    """One entry with a stop at the broker, closed after ``leave``: its stop makes way for the exit."""

    symbols = ("NSE:INFY",)
    leave: str = ap.Param("3s")

    def on_start(self) -> None:
        self.state.sent = False
        self.every(self.leave, self.over)

    def over(self) -> None:
        self.close_all()

    def on_tick(self, tick: ap.Tick) -> None:
        if not self.state.sent:
            self.state.sent = True
            self.buy(tick.symbol, 5, sl=self.round_price(tick.symbol, tick.price * 0.97))

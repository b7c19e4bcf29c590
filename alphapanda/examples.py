"""Two strategies to read, run and change: ``alphapanda demo`` plays both over the bundled day.

``OpeningBreakout`` trades with a move out of the first minutes' range, protected by brackets. ``VwapReversion`` trades
against a stretch away from the day's average price, with limit orders that expire. They show how the pieces fit, not
how to make money: what they earn on a synthetic day says nothing about any market.
"""

from __future__ import annotations

import alphapanda as ap

BREAKOUT = ["NSE:RELIANCE", "NSE:HDFCBANK", "NSE:ICICIBANK", "NSE:SBIN", "NSE:TATASTEEL", "NSE:MARUTI"]
REVERSION = ["NSE:INFY", "NSE:TCS", "NSE:ITC", "NSE:VGUARD"]


class OpeningBreakout(ap.Strategy):
    """Buy a close above the opening range, sell short one below it; one entry a symbol and direction a day.

    The stop stands at ``stop`` of the range's width from the entry, the target ``reward`` times as far; the quantity is
    what loses ``risk`` rupees at the stop, ``stake`` rupees at most. A breakout counts only on the far side of the
    session's average price.
    """

    symbols = BREAKOUT
    minutes: int = ap.Param(15, low=5, high=60, doc="length of the opening range")
    risk: float = ap.Param(1_500.0, low=100.0, high=100_000.0, doc="rupees lost at the stop")
    stake: float = ap.Param(300_000.0, low=1_000.0, high=10_000_000.0, doc="rupees in one position at most")
    stop: float = ap.Param(1.0, low=0.1, high=1.0, doc="stop distance over the range's width")
    reward: float = ap.Param(2.0, low=0.5, high=10.0, doc="target over stop distance")

    def on_start(self) -> None:
        for symbol in self.symbols:
            self.indicator(symbol, ap.OpeningRange(self.minutes), name="range")
            self.indicator(symbol, ap.VWAP(), name="vwap")
        self.at("open", self.new_day)
        self.new_day()  # for a run that begins in the middle of a session
        self.at("14:30", self.no_more)
        self.at("15:00", self.flat)

    def new_day(self) -> None:
        self.state.entered = []  # what is in state survives a restart: plain values only
        self.state.late = False

    def no_more(self) -> None:
        self.state.late = True

    def flat(self) -> None:
        self.cancel_all()
        self.close_all()

    def on_bar(self, bar: ap.Bar) -> None:
        box, vwap = self.ind(bar.symbol, "range"), self.ind(bar.symbol, "vwap")
        if self.state.late or not (box.ready and vwap.ready):
            return
        if self.position(bar.symbol).quantity or self.open_orders(bar.symbol):
            return
        if bar.close > max(box.high, vwap.value):
            self.enter(bar, "up", box.high - box.low)
        elif bar.close < min(box.low, vwap.value):
            self.enter(bar, "down", box.high - box.low)

    def enter(self, bar: ap.Bar, direction: str, width: float) -> None:
        distance = self.stop * width
        key = f"{bar.symbol} {direction}"
        if key in self.state.entered or not distance:
            return
        quantity = int(min(self.risk / distance, self.stake / bar.close))
        if quantity:
            self.state.entered.append(key)
            sign = 1 if direction == "up" else -1
            (self.buy if sign > 0 else self.sell)(
                bar.symbol,
                quantity,
                sl=self.round_price(bar.symbol, bar.close - sign * distance),
                tp=self.round_price(bar.symbol, bar.close + sign * distance * self.reward),
                tag=f"breakout {direction}",
            )

    def on_fill(self, fill: ap.Fill) -> None:
        if not fill.position:
            self.log("flat again", symbol=fill.symbol, rupees=fill.realized / 100)


class VwapReversion(ap.Strategy):
    """Buy a stretch below the session's average price, sell one above it, and leave when the price is back.

    A stretch is ``width`` standard deviations of the last ``period`` closes; it is traded once, and the symbol waits
    for the average before the next. The entry is a limit order at the bar's close that expires after ``patience``
    minutes; the exit is at the average price, or after ``hold`` minutes.
    """

    symbols = REVERSION
    period: int = ap.Param(20, low=10, high=120, doc="closes in the standard deviation")
    width: float = ap.Param(2.5, low=0.5, high=5.0, doc="stretch in standard deviations")
    stake: float = ap.Param(150_000.0, low=1_000.0, high=10_000_000.0, doc="rupees in one position")
    patience: int = ap.Param(3, low=1, high=30, doc="minutes an entry waits")
    hold: int = ap.Param(45, low=1, high=360, doc="minutes a position is kept at most")

    def on_start(self) -> None:
        for symbol in self.symbols:
            self.indicator(symbol, ap.VWAP(), name="vwap")
            self.indicator(symbol, ap.RollingStd(self.period), name="spread")
        self.at("open", self.new_day)
        self.new_day()  # for a run that begins in the middle of a session
        self.at("15:00", self.flat)

    def new_day(self) -> None:
        self.state.traded = {}  # symbol: minute of the session in which its stretch was traded
        self.state.late = False

    def flat(self) -> None:
        self.state.late = True
        self.cancel_all()
        self.close_all()

    def on_bar(self, bar: ap.Bar) -> None:
        vwap, spread = self.ind(bar.symbol, "vwap"), self.ind(bar.symbol, "spread")
        if self.state.late or not (vwap.ready and spread.ready):
            return
        held, entered = self.position(bar.symbol).quantity, self.state.traded.get(bar.symbol)
        away = bar.close - vwap.value
        if held:
            back = away >= 0 if held > 0 else away <= 0
            if (back or bar.minute - (entered or 0) >= self.hold) and not self.open_orders(bar.symbol):
                self.order_target(bar.symbol, 0, tag="back at average" if back else "held long enough")
        elif entered is None:
            self.enter(bar, away / spread.value if spread.value else 0.0)
        elif abs(away) < spread.value / 2 and not self.open_orders(bar.symbol):
            del self.state.traded[bar.symbol]

    def enter(self, bar: ap.Bar, stretch: float) -> None:
        quantity = int(self.stake / bar.close)
        if abs(stretch) > self.width and quantity:
            self.state.traded[bar.symbol] = bar.minute
            (self.sell if stretch > 0 else self.buy)(
                bar.symbol,
                quantity,
                limit=bar.close,
                validity="TTL",
                ttl=f"{self.patience}m",
                tag=f"{stretch:+.1f} deviations",
            )

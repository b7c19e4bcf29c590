"""Three strategies to read, run and change: ``alphapanda demo`` plays the first two over the bundled day.

``OpeningBreakout`` trades with a move out of the first minutes' range, protected by brackets. ``VwapReversion`` trades
against a stretch away from the day's average price, with limit orders that expire. ``TrendRide`` follows two averages
and watches every tick for its stop. They show how the pieces fit, not how to make money: what they earn on a synthetic
day says nothing about any market.
"""

from __future__ import annotations

import alphapanda as ap

BREAKOUT = ["NSE:RELIANCE", "NSE:HDFCBANK", "NSE:ICICIBANK", "NSE:SBIN", "NSE:TATASTEEL", "NSE:MARUTI"]
REVERSION = ["NSE:INFY", "NSE:TCS", "NSE:ITC", "NSE:VGUARD"]
TRENDS = ["NSE:RELIANCE", "NSE:TATASTEEL", "NSE:INFY"]


class DayMean:
    """The plain average of the day's closes: in place of the VWAP where the data has no volume, as of an index."""

    def __init__(self) -> None:
        self.count, self.value = 0, 0.0

    def on_bar(self, bar: ap.Bar) -> None:
        self.count = 1 if bar.minute == 1 else self.count + 1
        self.value += (bar.close - self.value) / self.count


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
            self.indicator(symbol, DayMean(), name="mean")
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
        if self.state.late or not box.ready:
            return
        average = vwap if vwap.ready else self.ind(bar.symbol, "mean")
        if self.position(bar.symbol).quantity or self.open_orders(bar.symbol):
            return
        if bar.close > max(box.high, average.value):
            self.enter(bar, "up", box.high - box.low)
        elif bar.close < min(box.low, average.value):
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
            self.indicator(symbol, DayMean(), name="mean")
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
        if self.state.late or not spread.ready:
            return
        average = vwap if vwap.ready else self.ind(bar.symbol, "mean")
        held, entered = self.position(bar.symbol).quantity, self.state.traded.get(bar.symbol)
        away = bar.close - average.value
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


class TrendRide(ap.Strategy):
    """Hold long while a fast average of closes is above a slow one, short while it is below, one position a symbol.

    A trailing stop ``room`` average ranges away, watched tick by tick, ends a trade early; then the symbol waits for
    the averages to cross again. Flat before the close.
    """

    symbols = TRENDS
    fast: int = ap.Param(8, low=2, high=60, doc="closes in the fast average")
    slow: int = ap.Param(30, low=5, high=240, doc="closes in the slow average")
    room: float = ap.Param(3.0, low=0.5, high=20.0, doc="stop distance in average ranges")
    stake: float = ap.Param(200_000.0, low=1_000.0, high=10_000_000.0, doc="rupees in one position")

    def on_start(self) -> None:
        for symbol in self.symbols:
            self.indicator(symbol, ap.EMA(self.fast), name="fast")
            self.indicator(symbol, ap.EMA(self.slow), name="slow")
            self.indicator(symbol, ap.ATR(self.slow), name="range")
        self.at("open", self.new_day)
        self.new_day()  # for a run that begins in the middle of a session
        self.at("15:00", self.flat)

    def new_day(self) -> None:
        self.state.side = {}  # symbol: 1 above, -1 below, as last traded
        self.state.best = {}  # symbol: the best price since the entry
        self.state.late = False

    def flat(self) -> None:
        self.state.late = True
        self.cancel_all()
        self.close_all()

    def on_bar(self, bar: ap.Bar) -> None:
        fast, slow, spread = (self.ind(bar.symbol, name) for name in ("fast", "slow", "range"))
        if self.state.late or not (slow.ready and spread.ready) or self.open_orders(bar.symbol):
            return
        side = 1 if fast.value > slow.value else -1
        if side != self.state.side.get(bar.symbol):
            self.state.side[bar.symbol] = side
            self.state.best[bar.symbol] = bar.close
            self.order_target(bar.symbol, side * int(self.stake / bar.close), tag="crossed")

    def on_tick(self, tick: ap.Tick) -> None:
        held = self.position(tick.symbol).quantity
        if not held or self.state.late:
            return
        best = self.state.best
        best[tick.symbol] = (max if held > 0 else min)(best[tick.symbol], tick.price)
        away = abs(best[tick.symbol] - tick.price)
        if away > self.room * self.ind(tick.symbol, "range").value and not self.open_orders(tick.symbol):
            self.order_target(tick.symbol, 0, tag="trailed")

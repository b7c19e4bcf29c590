"""Alpha Panda on the same job: every risk rule on (wide enough to deny nothing), next-tick fills,
portfolio, charges.

The forms a user may write: ``tick`` (on_tick), ``block`` (on_ticks), ``bars``, ``timers``, ``brackets``;
and, to take a run apart, ``empty`` (on_tick that does nothing), ``silent`` (all but the orders), and
``beat0``, ``beat1``, ``beat10`` (no order, an order every 50 ticks, one every 5).
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np

import alphapanda as ap
import alphapanda.report.report
import alphapanda.tapes.readers  # a run imports these two when it needs them; imports are not what is measured here
from alphapanda.blocks import TickBlock
from alphapanda.events import Bar, Tick
from tests.bench import job as sma
from tests.bench.child import OUT, arguments, forget_peak, resident_mb, tell, timed
from tests.bench.sma_python import Cross

FAST, SLOW, TIE = sma.FAST, sma.SLOW, sma.TIE
SYMBOLS = ("INFY", "TCS", "RELIANCE", "HDFCBANK", "ICICIBANK", "SBIN", "AXISBANK", "ITC", "LT", "WIPRO")
LAST = (sma.DAY + dt.timedelta(microseconds=sma.SPAN_NS // 1000)).time()
NAMES = ("ts", "instrument", "price", "volume")


class Window:
    """One instrument's running sums."""

    __slots__ = ("fast", "missing", "sign", "slow", "window")

    def __init__(self) -> None:
        self.window = deque([0.0] * SLOW, SLOW)
        self.fast = self.slow = 0.0
        self.sign = 0
        self.missing = SLOW


class SmaCross(ap.Strategy):
    """The job, tick by tick."""

    def on_start(self) -> None:
        """State a symbol."""
        self.windows = {symbol: Window() for symbol in self.symbols}

    def on_tick(self, tick: Tick) -> None:
        """Buy one on a cross up, sell one on a cross down."""
        own, price = self.windows[tick.symbol], tick.price
        window = own.window
        own.fast = fast = own.fast + price - window[SLOW - FAST]
        own.slow = slow = own.slow + price - window[0]
        window.append(price)
        if own.missing > 1:
            own.missing -= 1
            return
        apart = fast * (SLOW / FAST) - slow
        if apart > TIE:
            if own.sign != 1:
                if own.sign:
                    self.trade(tick.symbol, 1)
                own.sign = 1
        elif apart < -TIE and own.sign != -1:
            if own.sign:
                self.trade(tick.symbol, -1)
            own.sign = -1

    def trade(self, symbol: str, sign: int) -> None:
        """One order at market."""
        if sign > 0:
            self.buy(symbol, 1)
        else:
            self.sell(symbol, 1)


class Silent(SmaCross):
    """The same without its orders."""

    def trade(self, symbol: str, sign: int) -> None:
        """Nothing."""


class Bracket(SmaCross):
    """The same crosses; flat, it enters with a stop and a target half a percent away."""

    def trade(self, symbol: str, sign: int) -> None:
        """Enter with a bracket unless something is still on."""
        if self.position(symbol).quantity or self.open_orders(symbol):
            return
        price = self.last_price(symbol)
        below, above = self.round_price(symbol, price * 0.995), self.round_price(symbol, price * 1.005)
        if sign > 0:
            self.buy(symbol, 1, sl=below, tp=above)
        else:
            self.sell(symbol, 1, sl=above, tp=below)


class Empty(ap.Strategy):
    """Listens and does nothing."""

    def on_tick(self, tick: Tick) -> None:
        """Nothing."""


class BlockCross(ap.Strategy):
    """The job on whole blocks."""

    def on_start(self) -> None:
        """The last prices and the last sign of each symbol, carried from block to block."""
        self.tails = {symbol: np.zeros(0) for symbol in self.symbols}
        self.signs = dict.fromkeys(self.symbols, 0)

    def on_ticks(self, block: TickBlock) -> None:
        """Find each symbol's crosses at once."""
        for symbol in self.symbols:
            rows = block.rows(symbol)
            prices = np.concatenate((self.tails[symbol], block.price[rows]))
            self.tails[symbol] = prices[1 - SLOW :]
            if len(prices) < SLOW:
                continue
            total = np.cumsum(prices)
            total = np.concatenate(([0.0], total))
            recent = total[SLOW:]
            apart = (recent - total[SLOW - FAST : -FAST]) * (SLOW / FAST) - (recent - total[:-SLOW])
            decided = np.flatnonzero(np.abs(apart) > TIE)
            up = apart[decided] > 0
            before = self.signs[symbol]
            turned = np.flatnonzero(up[1:] != up[:-1]) + 1
            if len(up):
                self.signs[symbol] = 1 if up[-1] else -1
                if before and up[0] != (before > 0):
                    turned = np.concatenate(([0], turned))
            at = rows[decided[turned] + (SLOW - 1 - (len(prices) - len(rows)))].tolist()
            for row, buys in zip(at, up[turned].tolist(), strict=True):
                if buys:
                    self.buy(symbol, 1, at=row)
                else:
                    self.sell(symbol, 1, at=row)


class BarCross(ap.Strategy):
    """The crosses of one-minute closes."""

    bar = "1m"

    def on_start(self) -> None:
        """State a symbol."""
        self.crosses = {symbol: Cross() for symbol in self.symbols}

    def on_bar(self, bar: Bar) -> None:
        """Buy one on a cross up, sell one on a cross down."""
        crossed = self.crosses[bar.symbol].update(bar.close)
        if crossed > 0:
            self.buy(bar.symbol, 1)
        elif crossed < 0:
            self.sell(bar.symbol, 1)


class TimerCross(ap.Strategy):
    """The crosses of the last prices once a second."""

    def on_start(self) -> None:
        """State a symbol."""
        self.crosses = {symbol: Cross() for symbol in self.symbols}
        self.every("1s", "look")

    def on_timer(self, name: str) -> None:
        """Look at every symbol's last price, as long as there are ticks."""
        if self.now.time() >= LAST:
            return
        for symbol, cross in self.crosses.items():
            price = self.last_price(symbol)
            crossed = cross.update(price) if price else 0
            if crossed > 0:
                self.buy(symbol, 1)
            elif crossed < 0:
                self.sell(symbol, 1)


class Beat(ap.Strategy):
    """An order every ``each`` ticks, buying and selling in turn; none when 0."""

    each: int = ap.Param(0)

    def on_start(self) -> None:
        """The counter and the next side."""
        self.left = self.period = self.each or 50
        self.side = 1

    def on_tick(self, tick: Tick) -> None:
        """Count, and order when the count is up."""
        self.left -= 1
        if self.left:
            return
        self.left = self.period
        if self.each:
            self.side = -self.side
            if self.side > 0:
                self.buy(tick.symbol, 1)
            else:
                self.sell(tick.symbol, 1)


FORMS: dict[str, Callable[..., ap.Strategy]] = {
    "tick": SmaCross,
    "silent": Silent,
    "empty": Empty,
    "block": BlockCross,
    "bars": BarCross,
    "timers": TimerCross,
    "brackets": Bracket,
    "beat0": Beat,
    "beat1": lambda **settings: Beat(each=50, **settings),
    "beat10": lambda **settings: Beat(each=5, **settings),
}


def tape(ticks: int, count: int) -> ap.Tape:
    """The job as a tape; its columns come from files, so that making them leaves no garbage in memory."""
    made_by = hashlib.blake2b(Path(sma.__file__).read_bytes(), digest_size=4).hexdigest()
    folder = OUT / f"job-{made_by}-{ticks}-{count}"
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        job = sma.make(ticks, count)
        for name in NAMES:
            np.save(folder / f"{name}.npy", getattr(job, name))
        (folder / "complete").touch()
    columns = {}
    for name in NAMES:
        columns[name] = np.load(folder / f"{name}.npy")
        columns[name].setflags(write=False)
    instruments = [ap.Instrument(symbol=f"NSE:{name}", exchange="NSE") for name in SYMBOLS[:count]]
    return ap.Tape(instruments, **columns)


def wide() -> ap.Limits:
    """Every rule on, none in the way."""
    return ap.Limits(
        order_quantity=1_000,
        order_notional=1e9,
        position_quantity=1_000_000,
        position_notional=1e12,
        gross_exposure=1e12,
        leverage=1_000.0,
        price_band=0.20,
        orders_per_second=100_000,
        orders_per_minute=10_000_000,
        orders_per_day=100_000_000,
        daily_loss=1e12,
        drawdown=1e12,
        duplicate_seconds=1e-9,
        self_cross=True,
        instruments=tuple(f"NSE:{name}" for name in SYMBOLS),
    )


def main() -> None:
    """Measure one form."""
    options = arguments(*FORMS)
    data = tape(options.ticks, options.instruments)
    backtest, limits = ap.backtest, wide()
    form = FORMS[options.variant]
    symbols = [i.symbol for i in data.instruments]
    strategies = [form(symbols=symbols, name=f"sma{n}") for n in range(options.strategies)]
    loaded = resident_mb()
    forget_peak()
    report, cost = timed(lambda: backtest(strategies, data, capital=1e9, limits=limits))
    if report.halted:
        raise AssertionError(f"halted: {report.halted}")
    if report.denied:
        raise AssertionError(f"denied: {report.denied[:3]}")
    if options.variant in ("tick", "block") and options.strategies == 1:
        won, wanted = report.stats["gross_pnl"], sma.profit(sma.make(options.ticks, options.instruments))
        if abs(won - wanted) > 0.005:
            raise AssertionError(f"won {won} rupees before charges, the reference {wanted}")
    orders = len(report.orders) - report.orders["id"].str.ends_with("square-off").sum()
    cost["above_mb"] = cost["peak_mb"] - loaded
    tell(cost | {"ticks": options.ticks, "orders": orders, "prep": 0.0})


if __name__ == "__main__":
    main()

"""backtrader: one feed an instrument, preloaded and run in its vectorised mode (its defaults), observers
off.

Market orders fill at the next bar of their feed. The strategy keeps its own sums, which is faster here
than the package's indicators.
"""

# pyright: reportMissingImports=false, reportMissingTypeStubs=false
from __future__ import annotations

import datetime as dt

import backtrader as bt

from tests.bench import job as sma
from tests.bench.child import arguments, tell, timed
from tests.bench.sma_python import Cross


class Columns(bt.feed.DataBase):
    """A feed over Python lists: the cheapest there is."""

    def __init__(self, times: list[float], prices: list[float]) -> None:
        super().__init__()
        self.rows = zip(times, prices, strict=True)

    def _load(self) -> bool:
        row = next(self.rows, None)
        if row is None:
            return False
        lines = self.lines
        lines.datetime[0], price = row
        lines.open[0] = lines.high[0] = lines.low[0] = lines.close[0] = price
        lines.volume[0] = lines.openinterest[0] = 0.0
        return True


class SmaCross(bt.Strategy):
    """The job."""

    def __init__(self) -> None:
        self.sent = self.filled = 0
        self.state = [[data, Cross(), 0] for data in self.datas]

    def prenext(self) -> None:
        """Before every feed has had a tick the job is the same."""
        self.next()

    def next(self) -> None:
        """Find the feed that moved; buy one on a cross up, sell one on a cross down."""
        for item in self.state:
            data, cross, seen = item
            length = len(data)
            if length == seen:
                continue
            item[2] = length
            crossed = cross.update(data.close[0])
            if crossed:
                self.sent += 1
                if crossed > 0:
                    self.buy(data=data, size=1)
                else:
                    self.sell(data=data, size=1)

    def notify_order(self, order: bt.Order) -> None:
        """Count what filled."""
        self.filled += order.status == order.Completed


def main() -> None:
    """Measure it."""
    options = arguments("next")
    job = sma.make(options.ticks, options.instruments)
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker.setcash(1e9)
    cerebro.addstrategy(SmaCross)

    def prepare() -> None:
        epoch = bt.date2num(dt.datetime(1970, 1, 1))  # noqa: DTZ001  its own clock is naive
        days = (epoch + job.ts / 86_400e9).tolist()
        prices = job.rupees.tolist()
        for j in range(job.instruments):
            cerebro.adddata(Columns(days[j :: job.instruments], prices[j :: job.instruments]))

    _, prep = timed(prepare)
    strategies, cost = timed(cerebro.run)
    strategy = strategies[0]
    if not strategy.sent - job.instruments <= strategy.filled <= strategy.sent:
        raise AssertionError(f"sent {strategy.sent} orders, {strategy.filled} filled")
    tell(cost | {"ticks": len(job), "orders": strategy.sent, "prep": prep["cpu"]})


if __name__ == "__main__":
    main()

"""backtesting.py: one run an instrument (it knows one at a time), summed; market orders fill at the next
bar's open.

The crosses come from an indicator computed in numpy before the run, its recommended and fastest way.
"""

# pyright: reportMissingImports=false, reportMissingTypeStubs=false
from __future__ import annotations

import warnings

import backtesting.backtesting as engine
import numpy as np
import pandas as pd
from backtesting import Backtest, Strategy

from tests.bench import job as sma
from tests.bench.child import arguments, peak_mb, tell, timed


def crossed(price: np.ndarray) -> np.ndarray:
    """+1, -1 at crosses, else 0."""
    at, sign = sma.crosses(np.asarray(price))
    out = np.zeros(len(price))
    out[at] = sign
    return out


class SmaCross(Strategy):
    """The job."""

    sent = 0

    def init(self) -> None:
        """Compute all crosses."""
        self.cross = self.I(crossed, self.data.Close)

    def next(self) -> None:
        """Buy one on a cross up, sell one on a cross down."""
        now = self.cross[-1]
        if now:
            SmaCross.sent += 1
            if now > 0:
                self.buy(size=1)
            else:
                self.sell(size=1)


def main() -> None:
    """Measure it."""
    warnings.simplefilter("ignore")
    engine._tqdm = lambda bars, **_: bars  # no progress bar
    options = arguments("vector")
    job = sma.make(options.ticks, options.instruments)
    runs = []
    prepared = 0.0
    for j in range(job.instruments):
        own = job.instrument == j
        price, at = job.rupees[own], pd.to_datetime(job.ts[own])

        def prepare(price: np.ndarray = price, at: pd.DatetimeIndex = at) -> Backtest:
            frame = pd.DataFrame({"Open": price, "High": price, "Low": price, "Close": price}, index=at)
            return Backtest(frame, SmaCross, cash=1e9, commission=0, trade_on_close=False)

        run, cost = timed(prepare)
        prepared += cost["cpu"]
        runs.append(run)
    total = {"cpu": 0.0, "wall": 0.0}
    for run in runs:
        _, cost = timed(run.run)
        total = {name: total[name] + cost[name] for name in total}
    tell(total | {"peak_mb": peak_mb(), "ticks": len(job), "orders": SmaCross.sent, "prep": prepared})


if __name__ == "__main__":
    main()

"""vectorbt: whole columns at once, no callback. Its moving averages and its order simulation, compiled by
numba.

The sign of the difference is carried over ties by a small compiled loop (its own crossing helper has
another rule for ties). An order fills at the next row of its column. Compilation is left out: everything
runs once on a small tape.
"""

# pyright: reportMissingImports=false, reportMissingTypeStubs=false
from __future__ import annotations

import numpy as np
import vectorbt as vbt
from numba import njit

from tests.bench import job as sma
from tests.bench.child import arguments, tell, timed


@njit
def orders_of(apart, tie):
    """+1 or -1 one row after each cross, NaN elsewhere; and how many crosses there were."""
    rows, columns = apart.shape
    out = np.full((rows, columns), np.nan)
    found = 0
    for c in range(columns):
        sign = 0
        for r in range(rows):
            d = apart[r, c]
            now = 1 if d > tie else -1 if d < -tie else sign
            if now != sign:
                if sign != 0:
                    found += 1
                    if r + 1 < rows:
                        out[r + 1, c] = now
                sign = now
    return out, found


def backtest(close: np.ndarray) -> tuple[int, int]:
    """Crosses found and orders filled; ``close`` has a column an instrument."""
    fast = vbt.generic.nb.rolling_mean_nb(close, sma.FAST, minp=sma.FAST)
    slow = vbt.generic.nb.rolling_mean_nb(close, sma.SLOW, minp=sma.SLOW)
    size, found = orders_of(fast - slow, sma.TIE)
    portfolio = vbt.Portfolio.from_orders(
        close, size=size, price=close, fees=0.0, init_cash=1e9, freq="1s", max_orders=found + 1
    )
    portfolio.final_value()
    return found, int(portfolio.orders.count().sum())


def main() -> None:
    """Measure it."""
    options = arguments("block")
    small = sma.make(400 * options.instruments, options.instruments)
    backtest(np.ascontiguousarray(small.rupees.reshape(-1, options.instruments)))
    job = sma.make(options.ticks, options.instruments)
    close, prep = timed(lambda: np.ascontiguousarray(job.rupees.reshape(-1, options.instruments)))
    (found, filled), cost = timed(lambda: backtest(close))
    rows, _ = sma.expected(job)
    if filled != np.count_nonzero(rows < len(job) - options.instruments):
        raise AssertionError(f"{found} crosses, {filled} orders filled")
    tell(cost | {"ticks": len(job), "orders": found, "prep": prep["cpu"]})


if __name__ == "__main__":
    main()

"""bt: rows of all instruments' prices (it knows no single ticks); fills at the signal's own row."""

# pyright: reportMissingImports=false, reportMissingTypeStubs=false
from __future__ import annotations

import bt
import pandas as pd

from tests.bench import job as sma
from tests.bench.child import arguments, tell, timed
from tests.bench.sma_python import Cross


class SmaCross(bt.Algo):
    """The job, as the one algo of a strategy; counted on the class, because every run copies its algos."""

    sent = 0

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.crosses = [(name, Cross()) for name in names]

    def __call__(self, target: bt.Strategy) -> bool:
        """Buy one on a cross up, sell one on a cross down."""
        prices = target.universe.loc[target.now].to_list()
        for price, (name, cross) in zip(prices, self.crosses, strict=True):
            crossed = cross.update(price)
            if crossed:
                SmaCross.sent += 1
                target.transact(crossed, child=name)
        return True


def main() -> None:
    """Measure it."""
    options = arguments("rows")
    job = sma.make(options.ticks, options.instruments)
    algo = SmaCross(job.names)

    def prepare() -> bt.Backtest:
        rows = job.rupees.reshape(-1, job.instruments)
        frame = pd.DataFrame(rows, columns=job.names, index=pd.to_datetime(job.ts[:: job.instruments]))
        strategy = bt.Strategy("sma", [algo], children=[bt.Security(name) for name in job.names])
        return bt.Backtest(strategy, frame, initial_capital=1e9, progress_bar=False)

    run, prep = timed(prepare)
    _, cost = timed(run.run)
    held = sum(run.strategy.children[name].position for name in job.names)
    _, sides = sma.expected(job)
    if held != sides.sum():
        raise AssertionError(f"holds {held} in the end instead of {sides.sum()}")
    tell(cost | {"ticks": len(job), "orders": SmaCross.sent, "prep": prep["cpu"]})


if __name__ == "__main__":
    main()

"""zipline-reloaded: minute bars of a round-the-clock calendar, every instrument in every minute, no
slippage or costs.

Orders fill at the next minute. The bundle it reads is written first, below this repository's ``.bench``
folder.
"""

# pyright: reportMissingImports=false, reportMissingTypeStubs=false
from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from tests.bench import job as sma
from tests.bench.child import OUT, arguments, tell, timed
from tests.bench.sma_python import Cross

START = pd.Timestamp("2026-01-05")
MINUTES = 1440


def main() -> None:
    """Measure it."""
    warnings.simplefilter("ignore")
    options = arguments("minutes")
    OUT.mkdir(exist_ok=True)
    root = tempfile.mkdtemp(prefix="zipline-", dir=OUT)
    os.environ["ZIPLINE_ROOT"] = root
    try:
        measure(sma.make(options.ticks, options.instruments), Path(root))
    finally:
        shutil.rmtree(root)


def measure(job: sma.Job, root: Path) -> None:
    """Write the bundle, run, tell."""
    from zipline import run_algorithm
    from zipline.api import order, set_commission, set_slippage, symbols
    from zipline.data.bundles import ingest, register
    from zipline.finance.commission import NoCommission
    from zipline.finance.slippage import NoSlippage
    from zipline.utils.calendar_utils import get_calendar

    rows = job.rupees.reshape(-1, job.instruments)
    calendar = get_calendar("24/7")
    last = START + pd.Timedelta(days=-(-len(rows) // MINUTES) - 1)
    minutes = pd.date_range(
        START + pd.Timedelta(minutes=1), periods=len(rows), freq="min", tz="UTC"
    )  # named by their end

    def write(
        _environ,
        assets,
        minute_bars,
        daily_bars,
        adjustments,
        _calendar,
        _start,
        _end,
        _cache,
        _progress,
        _dir,
    ):
        assets.write(
            equities=pd.DataFrame(
                {
                    "symbol": job.names,
                    "start_date": START,
                    "end_date": last,
                    "exchange": "BENCH",
                    "asset_name": job.names,
                }
            ),
            exchanges=pd.DataFrame(
                {"exchange": ["BENCH"], "canonical_name": ["BENCH"], "country_code": ["IN"]}
            ),
        )
        frames = [
            (
                j,
                pd.DataFrame(
                    dict.fromkeys(("open", "high", "low", "close"), rows[:, j]) | {"volume": 1e6},
                    index=minutes,
                ),
            )
            for j in range(job.instruments)
        ]
        minute_bars.write(frames, show_progress=False)
        days = pd.date_range(START, last, freq="D")
        daily = [
            (j, frame.resample("D", closed="right", label="left").last().tz_localize(None).reindex(days))
            for j, frame in frames
        ]
        daily_bars.write(daily, show_progress=False)
        adjustments.write()

    register(
        "bench", write, calendar_name="24/7", start_session=START, end_session=last, minutes_per_day=MINUTES
    )
    _, prep = timed(lambda: ingest("bench", show_progress=False))

    state: dict = {"sent": 0, "minute": 0}

    def initialize(_context) -> None:
        set_commission(NoCommission())
        set_slippage(NoSlippage())
        state["assets"] = symbols(*job.names)
        state["crosses"] = [(asset, Cross()) for asset in state["assets"]]

    def handle_data(_context, data) -> None:
        state["minute"] += 1
        if state["minute"] > len(rows):
            return  # the rest of the last day, with the last prices repeated
        prices = data.current(state["assets"], "price").to_list()
        for price, (asset, cross) in zip(prices, state["crosses"], strict=True):
            crossed = cross.update(price)
            if crossed:
                state["sent"] += 1
                order(asset, crossed)

    _, cost = timed(
        lambda: run_algorithm(
            start=START,
            end=last,
            initialize=initialize,
            handle_data=handle_data,
            capital_base=1e9,
            data_frequency="minute",
            bundle="bench",
            trading_calendar=calendar,
            benchmark_returns=pd.Series(0.0, index=pd.date_range(START, last, freq="D", tz="UTC")),
        )
    )
    tell(
        cost
        | {"ticks": len(job), "orders": state["sent"], "prep": prep["cpu"], "minutes": int(np.size(minutes))}
    )


if __name__ == "__main__":
    main()

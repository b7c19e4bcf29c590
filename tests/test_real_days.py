"""Real second-by-second NIFTY 50 days through the whole pipeline; the project itself ships only data it made."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import alphapanda as ap
from alphapanda.events import Bar, ist

ROOT = Path(__file__).parents[1]


class Breakout(ap.Strategy):
    """With a break of the first quarter hour's range, once a day, protected; flat at 15:10."""

    bar = "1m"
    minutes: int = ap.Param(15, low=5, high=60)

    def on_start(self) -> None:
        self.at("open", self.new_day)
        self.at("15:10", self.go_home)

    def new_day(self) -> None:
        self.state.box = None
        self.state.done = False

    def go_home(self) -> None:
        self.cancel_all()
        self.close_all()
        self.state.done = True

    def on_bar(self, bar: Bar) -> None:
        low, high = self.state.box or (bar.low, bar.high)
        if bar.minute <= self.minutes:
            self.state.box = min(low, bar.low), max(high, bar.high)
        elif not self.state.done and (bar.close > high or bar.close < low):
            order, stop, way = (self.buy, low, 1) if bar.close > high else (self.sell, high, -1)
            target = self.round_price(bar.symbol, bar.close + way * 2 * (high - low))
            order(bar.symbol, 50, sl=stop, tp=target, tag="break")
            self.state.done = True


def run(shared_data: Path, pattern: str) -> ap.Report:
    files = sorted((shared_data / "nifty50-seconds").glob(pattern))
    return ap.backtest(Breakout(), files, symbol="NSE:NIFTY 50", timezone="Asia/Kolkata", tradable=True)


def test_all_days_in_one_run_keep_their_sessions_and_end_flat(shared_data: Path) -> None:
    report = run(shared_data, "*.csv")
    days = sorted({ist(o.signal.ts).date() for o in report.result.orders})
    assert len(days) == len(report.tape.days)  # type: ignore[union-attr]
    assert all("09:30" < f"{ist(f.ts):%H:%M}" < "15:30" for f in report.result.fills)
    assert report.result.counts["ticks outside session"] > 900 * len(days)  # 09:00 to 09:15 and after 15:30
    assert report.result.counts["bars"] == 375 * len(days)
    assert report.result.positions == []
    assert not report.halted
    worth = report.result.capital + sum(f.realized - sum(f.charges) for f in report.result.fills)
    assert report.result.marks[-1].equity == worth


def test_a_day_alone_is_traded_as_within_all_of_them(shared_data: Path) -> None:
    """A day's fills do not depend on the days around it (nothing is carried over, and no warm-up is asked for)."""
    together = [(f.ts, f.quantity, f.price_units, f.charges) for f in run(shared_data, "*.csv").result.fills]
    alone = [
        (f.ts, f.quantity, f.price_units, f.charges) for f in run(shared_data, "2022-09-30.csv").result.fills
    ]
    assert alone
    assert [fill for fill in together if f"{ist(fill[0]):%Y-%m-%d}" == "2022-09-30"] == alone


@pytest.mark.timeout(180)
def test_digests_do_not_depend_on_zone_hash_seed_or_repetition(shared_data: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.test_real_days import run; "
        "r = run(Path(sys.argv[1]), '*.csv'); print(r.digest, len(r.result.fills), r.result.marks[-1].equity)"
    )
    zones = ["UTC", "Asia/Kolkata", "America/New_York"]
    printed = {
        subprocess.run(
            [sys.executable, "-c", code, str(shared_data)],
            env={**os.environ, "TZ": zone, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for zone, seed in zip(zones, ["0", "1", "4242"], strict=True)
        for _ in range(2)
    }
    assert len(printed) == 1, printed

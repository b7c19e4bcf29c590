"""A sweep's rows equal backtests one by one, whatever the workers do."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import alphapanda as ap
from alphapanda.errors import UnknownNameError, ValidationError
from alphapanda.sweeps import sweep
from alphapanda.tapes.readers import tape

SYMBOL = "NSE:INFY"
pytestmark = pytest.mark.timeout(180)  # worker processes start slowly on a busy machine


class Cross(ap.Strategy):
    """Long above, short below."""

    symbols = [SYMBOL]  # noqa: RUF012 - as a user writes it
    fast: int = ap.Param(5, low=2, high=20)
    slow: int = ap.Param(20, low=5, high=60)
    mood: str = ap.Param("well")

    def on_start(self) -> None:
        self.quick = self.indicator(SYMBOL, ap.EMA(self.fast), bar="5m", name="fast")
        self.calm = self.indicator(SYMBOL, ap.EMA(self.slow), bar="5m", name="slow")

    def on_bar(self, bar: ap.Bar) -> None:
        if self.mood == "raises":
            raise RuntimeError("no good day")
        if self.mood == "dies":
            os._exit(3)
        if self.quick.value is not None and self.calm.value is not None:
            self.order_target(SYMBOL, 100 if self.quick.value > self.calm.value else -100)


@pytest.fixture(scope="module")
def day() -> Any:
    return tape("2026-11-20").select([SYMBOL])


@pytest.fixture(scope="module")
def day_in_memory(day: Any) -> Any:
    frame = day.frame().select("symbol", "ts", "price", "volume")
    return ap.read_ticks(frame.with_columns(pl.col("symbol").cast(pl.String)), duplicates="keep")


def quiet(data: Any, **more: Any) -> pl.DataFrame:
    return sweep(Cross, data, **{"progress": False, "workers": 1, **more})


def test_rows_are_those_of_backtests_in_grid_order(day: Any) -> None:
    found = quiet(day, fast=range(3, 6), slow=[10, 20], capital=500_000, workers=2)
    expected: list[dict[str, Any]] = []
    for fast in range(3, 6):
        for slow in (10, 20):
            report = ap.backtest(Cross(fast=fast, slow=slow), day, capital=500_000)
            keys = ("net_pnl", "return_percent", "sharpe", "max_drawdown_percent", "trades")
            figures = {k: report.stats[k] for k in (*keys, "hit_rate_percent", "charges", "denials")}
            expected.append({"fast": fast, "slow": slow, **figures, "digest": report.digest, "error": None})
    assert found.to_dicts() == expected
    assert len(set(found["digest"])) > 3
    assert min(found["trades"].to_list()) > 0


def test_inline_equals_workers_and_a_tape_in_memory_equals_one_on_disk(
    day_in_memory: Any, tmp_path: Path
) -> None:
    on_disk = day_in_memory.save(tmp_path / "day.parquet")
    inline = quiet(day_in_memory, fast=[3, 4])
    assert inline["error"].to_list() == [None, None]
    assert quiet(day_in_memory, fast=[3, 4], workers=2).equals(inline)
    assert quiet(on_disk, fast=[3, 4]).equals(inline)


def test_a_failing_point_says_so_and_the_others_finish(day: Any) -> None:
    moods = ["well", "raises", "well"]
    found = quiet(day, fast=[3, 1], mood=moods)
    errors = found["error"].to_list()
    assert [e is None for e in errors] == [True, False, True, False, False, False]
    assert "on_bar raised RuntimeError: no good day (test_sweep.py:" in errors[1]
    assert (
        errors[3] == "parameter fast of Cross is 1, below its lowest value 2; give fast a value from 2 to 20"
    )
    assert found["net_pnl"].null_count() == found["digest"].null_count() == 4


def test_a_worker_that_dies_costs_only_its_own_point(day: Any) -> None:
    found = quiet(day, fast=3, mood=["well", "dies", "well"], workers=2)
    alive = quiet(day, fast=3, mood="well")
    assert [e is None for e in found["error"]] == [True, False, True]
    assert "worker process died" in found["error"][1]
    assert found["digest"].to_list()[0::2] == alive["digest"].to_list() * 2


def test_axes_take_arrays_and_single_values_and_metrics_add_columns(day: Any) -> None:
    def orders(report: Any) -> int:
        return report.orders.height

    found = quiet(day, fast=np.array([3, 4]), slow=20, metric=["turnover", orders])
    assert found.columns[:2] == ["fast", "slow"]
    assert found["fast"].to_list() == [3, 4]
    assert min(found["orders"].to_list()) > 0
    assert min(found["turnover"].to_list()) > 0
    mixed = quiet(day, fast=[3, "x"])
    assert mixed["fast"].to_list() == ["3", "x"]
    assert mixed["error"][1].startswith("parameter fast of Cross is 'x' (str)")


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ({"fsat": [1]}, "'fast'"),
        ({"capitl": 1}, "'capital'"),
        ({"options": {"limitss": None}}, "'limits'"),
        ({"metric": "sharp"}, "'sharpe'"),
        ({"produckt": "MIS"}, "'product'"),
    ],
)
def test_an_unknown_name_stops_before_anything_runs(given: dict[str, Any], nearest: str) -> None:
    with pytest.raises(UnknownNameError, match=f"did you mean {nearest}"):
        quiet("no such data", **given)


def test_what_makes_no_sense_is_refused() -> None:
    for wrong in ({"workers": 0}, {"workers": True}, {"fast": []}, {"fast": {1, 2}}):
        with pytest.raises(ValidationError):
            quiet("no such data", **wrong)
    with pytest.raises(ValidationError, match="pass the class"):
        sweep(Cross(), "no such data")  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="twice"):
        quiet("no such data", capital=1, options={"capital": 2})


def test_settings_of_the_strategy_are_options(day: Any) -> None:
    assert quiet(day, fast=3, bar="5m")["digest"][0] != quiet(day, fast=3, bar="1m")["digest"][0]


SCRIPT = """
import signal, sys, time
import alphapanda as ap

signal.signal(signal.SIGINT, signal.default_int_handler)  # a test runner's worker starts us with it ignored

class Cell(ap.Strategy):
    symbols = ["NSE:INFY"]
    size: int = ap.Param(1, low=1, high=1000)
    def on_bar(self, bar):
        {slow}
        self.order_target("NSE:INFY", self.size if bar.minute % 2 else 0)

print("ready", flush=True)
try:
    print(ap.sweep(Cell, "2026-11-20", size=range(1, {points}), workers=2, progress=False)["error"].to_list())
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_a_class_defined_in_the_running_program_reaches_the_workers() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(slow="", points=4)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split("\n")[1] == "[None, None, None]"


def test_a_class_from_a_file_workers_cannot_import_reaches_them(tmp_path: Path, day: Any) -> None:
    import importlib.util

    file = tmp_path / "elsewhere_only_here.py"
    file.write_text(textwrap.dedent(SCRIPT.format(slow="", points=2)).partition("print(")[0], "utf-8")
    spec = importlib.util.spec_from_file_location("elsewhere_only_here", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    try:
        found = sweep(module.Cell, day, size=[1, 2], workers=2, progress=False)
    finally:
        del sys.modules[spec.name]
    assert found["error"].to_list() == [None, None]


def test_an_interrupt_stops_the_workers_promptly() -> None:
    text = SCRIPT.format(slow="time.sleep(0.2)", points=9)
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            time.sleep(4)  # noqa: TID251 - until the workers are at it; the whole sweep would take minutes
            begun = time.perf_counter()
            child.send_signal(signal.SIGINT)
            assert child.stdout.readline() == "interrupted\n"
            assert child.wait(10) == 0
            assert time.perf_counter() - begun < 8
        finally:
            child.kill()

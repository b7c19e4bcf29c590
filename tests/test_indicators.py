"""Every indicator against its own contract, a naive definition, and TA-Lib."""

from __future__ import annotations

import copy
import math
import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from alphapanda.errors import DataError, ValidationError
from alphapanda.indicators import (
    ATR,
    DAY_NS,
    EMA,
    IST_OFFSET_NS,
    MACD,
    RSI,
    SMA,
    VWAP,
    WMA,
    BarIndicator,
    Bollinger,
    Donchian,
    Indicator,
    OpeningRange,
    PriceIndicator,
    RollingMax,
    RollingMin,
    RollingStd,
    Stochastic,
    SuperTrend,
)

# How to make each, and how many bars of `session_bars` it needs.
CASES: list[tuple[Callable[[], Indicator], int]] = [
    (lambda: SMA(5), 5),
    (lambda: EMA(5), 5),
    (lambda: WMA(5), 5),
    (lambda: RSI(5), 6),
    (lambda: MACD(3, 7, 4), 10),
    (lambda: RollingStd(5), 5),
    (lambda: RollingStd(5, ddof=1), 5),
    (lambda: RollingMax(5), 5),
    (lambda: RollingMin(5), 5),
    (lambda: Bollinger(5), 5),
    (lambda: ATR(5), 6),
    (lambda: SuperTrend(5, 2.0), 6),
    (lambda: Donchian(5), 5),
    (lambda: Stochastic(5, 3, 2), 8),
    (lambda: VWAP(), 1),
    (lambda: OpeningRange(5), 5),
]
MAKERS = [make for make, _ in CASES]
NAMES = [repr(make()) for make in MAKERS]
every = pytest.mark.parametrize("make", MAKERS, ids=NAMES)

PRICE_CASES = [make for make in MAKERS if isinstance(make(), PriceIndicator)]
BAR_CASES = [make for make in MAKERS if isinstance(make(), BarIndicator)]
OPEN_NS = 20_000 * DAY_NS + 9 * 3_600_000_000_000 + 15 * 60_000_000_000 - IST_OFFSET_NS  # 09:15 IST
MINUTE_NS = 60_000_000_000
SESSION = 37  # bars in each of the test's days


def session_bars(count: int, seed: int = 1, step: float = 0.05) -> pl.DataFrame:
    """Minute bars of a random walk on a grid, several days of SESSION bars each."""
    draw = random.Random(seed)
    close, rows = 1000.0, []
    for i in range(count):
        day, minute = divmod(i, SESSION)
        open_ = close
        close = round(close + step * draw.randint(-20, 20), 2)
        high = max(open_, close) + step * draw.randint(0, 9)
        low = min(open_, close) - step * draw.randint(0, 9)
        ts = OPEN_NS + day * DAY_NS + minute * MINUTE_NS
        rows.append((ts, minute + 1, open_, high, low, close, draw.randint(0, 500)))
    return pl.DataFrame(rows, schema=["ts", "minute", "open", "high", "low", "close", "volume"], orient="row")


def values(**fields: Any) -> Any:
    """A bar or a tick with just these fields."""
    return SimpleNamespace(**fields)


def bars_of(frame: pl.DataFrame) -> list[Any]:
    return [values(**row) for row in frame.iter_rows(named=True)]


def outputs(indicator: Indicator) -> tuple[Any, ...]:
    return tuple(getattr(indicator, name) for name in indicator.outputs)


def streamed(indicator: Indicator, frame: pl.DataFrame) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for bar in bars_of(frame):
        indicator.on_bar(bar)
        rows.append(outputs(indicator))
    return rows


def over(indicator: Indicator, frame: Any) -> list[tuple[Any, ...]]:
    out = indicator.over(frame)
    return out.rows() if isinstance(out, pl.DataFrame) else [(x,) for x in out.to_list()]


def column(indicator: Indicator, frame: Any, name: str = "value") -> np.ndarray:
    """One output as floats, NaN while not ready: how TA-Lib answers."""
    out = indicator.over(frame)
    series = out[name] if isinstance(out, pl.DataFrame) else out
    return series.cast(pl.Float64).fill_null(math.nan).to_numpy()


def agree(ours: np.ndarray, theirs: np.ndarray, tolerance: float = 1e-9) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance, equal_nan=True)


prices = st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), max_size=60)
ticks_up = st.lists(st.integers(1, 400_000).map(lambda units: units * 0.05), max_size=60)
periods = st.integers(1, 12)


@st.composite
def bar_frames(draw: st.DrawFn) -> pl.DataFrame:
    """Bars that can be, with silences, several sessions, flat bars and bars without volume."""
    rows: list[tuple[Any, ...]] = []
    day = minute = 0
    for _ in range(draw(st.integers(0, 50))):
        jump = draw(st.integers(1, 40))
        if minute + jump > 375:
            day, minute = day + draw(st.integers(1, 4)), jump - 1
        else:
            minute += jump
        low, close, high = sorted(draw(st.integers(1, 4000)) * 0.05 for _ in range(3))
        volume = draw(st.integers(0, 1000))
        rows.append((OPEN_NS + day * DAY_NS + minute * MINUTE_NS, minute, high, low, close, volume))
    schema = {"ts": pl.Int64, "minute": pl.Int64, "high": pl.Float64, "low": pl.Float64, "close": pl.Float64}
    return pl.DataFrame(rows, schema={**schema, "volume": pl.Int64}, orient="row")


# ── The contract every indicator keeps ────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("make", "need"), CASES, ids=NAMES)
def test_outputs_appear_together_when_they_should(make: Callable[[], Indicator], need: int) -> None:
    indicator = make()
    for count, bar in enumerate(bars_of(session_bars(SESSION)), 1):
        answer = indicator.on_bar(bar)
        assert answer == indicator.value
        assert indicator.ready == (count >= need)
        known = [output is not None for output in (indicator.value, *outputs(indicator))]
        assert known == [indicator.ready] * len(known)


@every
def test_reset_forgets_everything(make: Callable[[], Indicator]) -> None:
    used, frame = make(), session_bars(90)
    streamed(used, session_bars(61, seed=9))
    used.reset()
    assert not used.ready
    assert set(outputs(used)) == {None}
    assert streamed(used, frame) == streamed(make(), frame)


@every
def test_over_ignores_and_keeps_the_state_of_the_object(make: Callable[[], Indicator]) -> None:
    used, frame = make(), session_bars(90)
    streamed(used, session_bars(21, seed=9))
    twin = copy.deepcopy(used)
    assert over(used, frame) == over(make(), frame)
    assert streamed(used, frame) == streamed(twin, frame)


@every
def test_over_takes_polars_pandas_and_lazy_frames_alike(make: Callable[[], Indicator]) -> None:
    frame = session_bars(80)
    expected = over(make(), frame)
    assert over(make(), frame.to_pandas()) == expected
    assert over(make(), frame.lazy()) == expected
    out = make().over(frame)
    assert len(out) == len(frame)
    if isinstance(out, pl.Series):
        assert out.name == repr(make())
        assert out.dtype == pl.Float64
    else:
        assert out.columns == list(make().outputs)


@every
def test_over_an_empty_frame_is_empty(make: Callable[[], Indicator]) -> None:
    assert len(make().over(session_bars(80).head(0))) == 0


@every
def test_state_survives_copy_and_pickle_mid_window(make: Callable[[], Indicator]) -> None:
    used, frame = make(), session_bars(40, seed=3)
    streamed(used, session_bars(23))
    thawed = pickle.loads(pickle.dumps(used))  # noqa: TID251 - our own bytes, a moment old
    assert streamed(thawed, frame) == streamed(copy.deepcopy(used), frame) == streamed(used, frame)


FIELDS = [
    pytest.param(make, field, id=f"{make()!r}-{field}")
    for make in MAKERS
    for field in getattr(make(), "reads", ("close",))
    if field not in ("ts", "minute")
]


@pytest.mark.parametrize(("make", "field"), FIELDS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e200])
def test_a_number_that_is_none_is_refused_and_leaves_no_mark(
    make: Callable[[], Indicator], field: str, bad: float
) -> None:
    indicator, frame = make(), session_bars(60)
    bars = bars_of(frame)
    for bar in bars[:20]:
        indicator.on_bar(bar)
    before = outputs(indicator)
    with pytest.raises(ValidationError, match="was given") as caught:
        indicator.on_bar(values(**{**vars(bars[20]), field: bad}))
    assert repr(indicator) in str(caught.value)
    assert "fix:" in str(caught.value)
    assert outputs(indicator) == before
    for bar in bars[20:]:
        indicator.on_bar(bar)
    assert outputs(indicator) == over(make(), frame)[-1]


@pytest.mark.parametrize("make", BAR_CASES, ids=lambda make: repr(make()))
def test_a_bar_that_cannot_be_is_refused(make: Callable[[], BarIndicator]) -> None:
    bar = values(ts=OPEN_NS, minute=0, high=10.0, low=11.0, close=10.5, volume=1)
    with pytest.raises(ValidationError, match=r"was given high=10\.0, low=11\.0"):
        make().on_bar(bar)


@every
def test_a_missing_column_is_named_with_those_that_exist(make: Callable[[], Indicator]) -> None:
    with pytest.raises(DataError, match=r"no column '(close|high)'; the frame has ltp, oi") as caught:
        make().over(pl.DataFrame({"ltp": [1.0], "oi": [2]}))
    assert repr(make()) in str(caught.value)


@pytest.mark.parametrize("make", BAR_CASES, ids=lambda make: repr(make()))
def test_a_bar_indicator_says_that_a_list_is_no_frame(make: Callable[[], BarIndicator]) -> None:
    with pytest.raises(DataError, match="follows bars and was given a list"):
        make().over([1.0, 2.0])


@pytest.mark.parametrize("make", PRICE_CASES, ids=lambda make: repr(make()))
@pytest.mark.parametrize("kind", [list, np.array, pl.Series, pd.Series])
def test_price_indicators_take_bare_series(make: Callable[[], Indicator], kind: Callable[..., Any]) -> None:
    frame = session_bars(50)
    closes = frame["close"].to_list()
    assert over(make(), kind(closes)) == over(make(), frame) == over(make(), pl.DataFrame({"price": closes}))
    assert over(make(), []) == []


@pytest.mark.parametrize("bad", [None, math.nan, math.inf])
def test_over_names_the_row_of_a_bad_number(bad: float | None) -> None:
    with pytest.raises(DataError, match=r"SMA\(2\): column 'price' holds \S+ at row 2") as caught:
        SMA(2).over(pl.DataFrame({"price": [1.0, 2.0, bad]}))
    assert caught.value.context["row"] == 2


def test_over_refuses_text_and_naive_times() -> None:
    with pytest.raises(DataError, match="holds String, not numbers"):
        SMA(2).over(pl.DataFrame({"close": ["1"]}))
    frame = session_bars(3)
    naive = frame.with_columns(pl.from_epoch("ts", "ns"))
    with pytest.raises(DataError, match="replace_time_zone"):
        VWAP().over(naive)
    aware = frame.with_columns(pl.from_epoch("ts", "ns").dt.replace_time_zone("UTC"))
    local = aware.with_columns(pl.col("ts").dt.convert_time_zone("Asia/Kolkata").dt.cast_time_unit("ms"))
    for good in (aware, local, local.to_pandas()):
        assert over(VWAP(), good) == over(VWAP(), frame)


BAD_PERIODS = [0, -3, 2.0, "5", None, True, math.nan]


@pytest.mark.parametrize("kind", [SMA, EMA, WMA, RSI, RollingStd, RollingMax, RollingMin, Bollinger])
@pytest.mark.parametrize("bad", BAD_PERIODS)
def test_bad_periods_of_price_indicators_say_what_to_write(kind: type[Any], bad: Any) -> None:
    with pytest.raises(ValidationError, match=f"{kind.__name__} period is .* at least 1") as caught:
        kind(bad)
    assert "write period=" in str(caught.value)


@pytest.mark.parametrize("bad", BAD_PERIODS)
def test_other_bad_parameters_are_named(bad: Any) -> None:
    for make, name in [
        (lambda: ATR(bad), "ATR period"),
        (lambda: SuperTrend(bad), "SuperTrend period"),
        (lambda: Donchian(bad), "Donchian period"),
        (lambda: Stochastic(slow_k=bad), "Stochastic slow_k"),
        (lambda: Stochastic(slow_d=bad), "Stochastic slow_d"),
        (lambda: OpeningRange(bad), "OpeningRange minutes"),
        (lambda: MACD(signal=bad), "MACD signal"),
    ]:
        with pytest.raises(ValidationError, match=f"{name} is "):
            make()


@pytest.mark.parametrize("bad", [0, -1.0, math.nan, math.inf, "2", True])
def test_bad_multipliers_are_named(bad: Any) -> None:
    with pytest.raises(ValidationError, match=r"Bollinger deviations is .* finite number above 0"):
        Bollinger(20, bad)
    with pytest.raises(ValidationError, match=r"SuperTrend multiplier is .* finite number above 0"):
        SuperTrend(10, bad)


def test_parameters_that_contradict_each_other() -> None:
    with pytest.raises(ValidationError, match="fast must be the shorter"):
        MACD(26, 12)
    with pytest.raises(ValidationError, match="at least 2"):
        RollingStd(1, ddof=1)


def test_numpy_integers_are_periods_and_become_plain() -> None:
    assert type(SMA(np.int64(5)).period) is int  # pyright: ignore[reportArgumentType]


def test_importing_indicators_loads_no_frame_library() -> None:
    code = "import sys, alphapanda.indicators; print([m for m in ('polars', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# ── Streaming equals research; windows equal their definition ─────────────────────────────────────


@every
@given(frame=bar_frames())
@settings(max_examples=25, deadline=None)
def test_over_equals_streaming(make: Callable[[], Indicator], frame: pl.DataFrame) -> None:
    assert over(make(), frame) == streamed(make(), frame)


def naive(xs: list[float], period: int, of: Callable[[list[float]], float]) -> np.ndarray:
    return np.array([of(xs[i + 1 - period : i + 1]) if i + 1 >= period else math.nan for i in range(len(xs))])


def weighted(window: list[float]) -> float:
    weights = range(1, len(window) + 1)
    return math.fsum(w * x for w, x in zip(weights, window, strict=True)) / sum(weights)


@given(xs=prices, period=periods)
@settings(max_examples=150, deadline=None)
def test_windows_match_the_naive_definition(xs: list[float], period: int) -> None:
    scale = max(map(abs, xs), default=1.0) or 1.0  # errors are relative to what was summed

    def close_to(indicator: Indicator, expected: np.ndarray) -> None:
        np.testing.assert_allclose(column(indicator, xs), expected, rtol=1e-12, atol=1e-13 * scale)

    close_to(SMA(period), naive(xs, period, lambda window: math.fsum(window) / period))
    close_to(WMA(period), naive(xs, period, weighted))
    np.testing.assert_array_equal(column(RollingMax(period), xs), naive(xs, period, max))
    np.testing.assert_array_equal(column(RollingMin(period), xs), naive(xs, period, min))


@given(xs=ticks_up, period=st.integers(2, 12), ddof=st.integers(0, 1))
@settings(max_examples=150, deadline=None)
def test_rolling_std_matches_numpy(xs: list[float], period: int, ddof: int) -> None:
    expected = naive(xs, period, lambda window: float(np.std(window, ddof=ddof)))
    np.testing.assert_allclose(column(RollingStd(period, ddof), xs), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("count", [1, 4, 5, 6, 9, 10, 11, 400])
def test_windows_match_polars(count: int) -> None:
    closes = session_bars(count)["close"]
    agree(column(SMA(5), closes), closes.rolling_mean(5).fill_null(math.nan).to_numpy())
    agree(column(RollingMax(5), closes), closes.rolling_max(5).fill_null(math.nan).to_numpy())
    agree(column(RollingMin(5), closes), closes.rolling_min(5).fill_null(math.nan).to_numpy())
    agree(column(RollingStd(5, ddof=1), closes), closes.rolling_std(5).fill_null(math.nan).to_numpy())


def test_sma_does_not_drift_over_two_million_updates_of_mixed_magnitude() -> None:
    draw, period = random.Random(7), 50
    sma, window = SMA(period), [0.0] * period
    for i in range(2_000_000):
        price = draw.random() * (1e12 if (i // 5_000) % 2 else 1e-6)
        window[i % period] = price
        value = sma.update(price)
        if i % 997 == 0 and value is not None:
            exact = math.fsum(window) / period
            assert abs(value - exact) <= 1e-13 * exact


def test_rolling_std_keeps_its_digits_after_a_huge_price_and_on_a_large_one() -> None:
    std, sma, wma = RollingStd(4), SMA(4), WMA(4)
    for price in [1e15, 1e-3, 2e-3, 3e-3, 4e-3]:
        for indicator in (std, sma, wma):
            indicator.update(price)
    assert std.value == pytest.approx(math.sqrt(1.25) * 1e-3, rel=1e-12)
    assert sma.value == pytest.approx(2.5e-3, rel=1e-12)
    assert wma.value == pytest.approx(3e-3, rel=1e-12)
    ticks = [100_000.0 + 0.05 * (i % 2) for i in range(101)]
    assert column(RollingStd(10), ticks)[-1] == pytest.approx(0.025, rel=1e-9)


# ── Against TA-Lib ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def long() -> pl.DataFrame:
    return session_bars(3_000, seed=11)


def hlc(frame: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return frame["high"].to_numpy(), frame["low"].to_numpy(), frame["close"].to_numpy()


@pytest.mark.parametrize("period", [2, 3, 14, 50])
def test_one_period_indicators_equal_talib(long: pl.DataFrame, period: int) -> None:
    high, low, close = hlc(long)
    agree(column(SMA(period), long), talib.SMA(close, period))
    agree(column(EMA(period), long), talib.EMA(close, period))
    agree(column(WMA(period), long), talib.WMA(close, period))
    agree(column(RSI(period), long), talib.RSI(close, period))
    agree(column(ATR(period), long), talib.ATR(high, low, close, period))
    agree(column(RollingMax(period), long), talib.MAX(close, period))
    agree(column(RollingMin(period), long), talib.MIN(close, period))
    agree(column(Donchian(period), long, "upper"), talib.MAX(high, period))
    agree(column(Donchian(period), long, "lower"), talib.MIN(low, period))


@pytest.mark.parametrize("period", [2, 3, 14, 50])
def test_deviations_equal_talib(long: pl.DataFrame, period: int) -> None:
    # TA-Lib takes the mean of squares less the squared mean, which near 1000 costs it 1e-9: compare near 0
    moves = np.diff(long["close"].to_numpy())
    agree(column(RollingStd(period), moves), talib.STDDEV(moves, period))
    upper, middle, lower = talib.BBANDS(moves, period, 2.5, 2.5)
    agree(column(Bollinger(period, 2.5), moves, "upper"), upper)
    agree(column(Bollinger(period, 2.5), moves, "middle"), middle)
    agree(column(Bollinger(period, 2.5), moves, "lower"), lower)


@pytest.mark.parametrize(("fast", "slow", "signal"), [(12, 26, 9), (3, 10, 16), (2, 3, 1), (5, 35, 5)])
def test_macd_equals_talib(long: pl.DataFrame, fast: int, slow: int, signal: int) -> None:
    theirs = talib.MACD(long["close"].to_numpy(), fast, slow, signal)
    for name, expected in zip(MACD.outputs, theirs, strict=True):
        agree(column(MACD(fast, slow, signal), long, name), expected)


@pytest.mark.parametrize(("period", "slow_k", "slow_d"), [(14, 3, 3), (5, 1, 1), (9, 4, 2)])
def test_stochastic_equals_talib(long: pl.DataFrame, period: int, slow_k: int, slow_d: int) -> None:
    high, low, close = hlc(long)
    k, d = talib.STOCH(high, low, close, period, slow_k, talib.MA_Type.SMA, slow_d, talib.MA_Type.SMA)
    agree(column(Stochastic(period, slow_k, slow_d), long, "k"), k)
    agree(column(Stochastic(period, slow_k, slow_d), long, "d"), d)


# ── Against a reference written another way ───────────────────────────────────────────────────────


def supertrend_reference(
    frame: pl.DataFrame, period: int, multiplier: float
) -> tuple[list[float], list[float]]:
    """Final bands and trend, array style, on TA-Lib's ATR."""
    high, low, close = hlc(frame)
    atr = talib.ATR(high, low, close, period)
    upper, lower = (high + low) / 2 + multiplier * atr, (high + low) / 2 - multiplier * atr
    line, trend = [math.nan] * len(close), [math.nan] * len(close)
    for i in range(period, len(close)):
        if i == period:
            trend[i] = -1
        else:
            keep_upper = upper[i] >= upper[i - 1] and close[i - 1] <= upper[i - 1]
            keep_lower = lower[i] <= lower[i - 1] and close[i - 1] >= lower[i - 1]
            upper[i] = upper[i - 1] if keep_upper else upper[i]
            lower[i] = lower[i - 1] if keep_lower else lower[i]
            passed = close[i] > upper[i] if trend[i - 1] < 0 else close[i] < lower[i]
            trend[i] = -trend[i - 1] if passed else trend[i - 1]
        line[i] = lower[i] if trend[i] > 0 else upper[i]
    return line, trend


@pytest.mark.parametrize(("period", "multiplier"), [(10, 3.0), (2, 0.5), (7, 1.0), (1, 1.5)])
def test_supertrend_equals_the_array_form(long: pl.DataFrame, period: int, multiplier: float) -> None:
    line, trend = supertrend_reference(long, period, multiplier)
    indicator = SuperTrend(period, multiplier)
    agree(column(indicator, long), np.array(line))
    agree(column(indicator, long, "direction"), np.array(trend))
    assert {-1.0, 1.0} <= set(trend)


@pytest.mark.parametrize("period", [1, 2, 20])
def test_donchian_equals_polars(long: pl.DataFrame, period: int) -> None:
    expected = long.select(upper=pl.col("high").rolling_max(period), lower=pl.col("low").rolling_min(period))
    ours = Donchian(period).over(long)
    assert isinstance(ours, pl.DataFrame)
    assert ours.select("upper", "lower").equals(expected)
    middle = (ours["upper"] + ours["lower"]) / 2
    agree(column(Donchian(period), long, "middle"), middle.fill_null(math.nan).to_numpy())


def test_vwap_equals_cumulative_sums_by_day(long: pl.DataFrame) -> None:
    day = pl.from_epoch("ts", "ns").dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Kolkata").dt.date()
    typical = (pl.col("high") + pl.col("low") + pl.col("close")) / 3
    turnover, volume = (typical * pl.col("volume")).cum_sum().over(day), pl.col("volume").cum_sum().over(day)
    expected = long.select(pl.when(volume > 0).then(turnover / volume)).to_series()
    agree(column(VWAP(), long), expected.fill_null(math.nan).to_numpy())


def test_vwap_takes_ticks_and_restarts_at_midnight_ist() -> None:
    midnight = 20_001 * DAY_NS - IST_OFFSET_NS
    trades = [(midnight - 2, 10.0, 1), (midnight - 1, 20.0, 3), (midnight, 50.0, 0), (midnight + 1, 40.0, 2)]
    vwap = VWAP()
    answers = [vwap.on_tick(values(ts=ts, price=price, volume=volume)) for ts, price, volume in trades]
    assert answers == [10.0, 17.5, None, 40.0]
    frame = pl.DataFrame(trades, schema=["ts", "price", "volume"], orient="row")
    assert over(VWAP(), frame) == [(answer,) for answer in answers]
    with pytest.raises(ValidationError, match="volume=-1"):
        vwap.on_tick(values(ts=midnight, price=1.0, volume=-1))


@pytest.mark.parametrize("minutes", [1, 5, 15])
def test_opening_range_equals_a_group_by_day(long: pl.DataFrame, minutes: int) -> None:
    days = long.with_columns(day=(pl.col("ts") + IST_OFFSET_NS) // DAY_NS)
    inside, after = pl.col("minute") <= minutes, pl.col("minute") >= minutes
    ranges = days.filter(inside).group_by("day").agg(top=pl.max("high"), bottom=pl.min("low"))
    expected = days.join(ranges, on="day", how="left", maintain_order="left").select(
        high=pl.when(after).then("top"), low=pl.when(after).then("bottom")
    )
    ours = OpeningRange(minutes).over(long)
    assert isinstance(ours, pl.DataFrame)
    assert ours.equals(expected)


def test_opening_range_with_long_bars_a_late_start_and_two_sessions_in_a_day() -> None:
    def play(*bars: tuple[int, int, float, float]) -> list[tuple[Any, ...]]:
        rows = [(OPEN_NS + day * DAY_NS, minute, high, low) for day, minute, high, low in bars]
        return over(
            OpeningRange(15), pl.DataFrame(rows, schema=["ts", "minute", "high", "low"], orient="row")
        )

    wait = (None, None)
    assert play((0, 5, 9, 5), (0, 10, 11, 6), (0, 15, 10, 4)) == [wait, wait, (11, 4)]  # five-minute bars
    assert play((0, 10, 11, 6), (0, 20, 99, 1)) == [wait, (11, 6)]  # the second bar reaches beyond the range
    assert play((0, 20, 9, 5), (0, 30, 9, 5)) == [wait, wait]  # joined after the opening
    assert play((0, 1, 9, 5), (0, 16, 8, 6), (1, 16, 9, 7)) == [wait, (9, 5), wait]  # day two began silent
    assert play((0, 1, 9, 5), (0, 16, 8, 6), (0, 3, 4, 2), (0, 16, 9, 1)) == [wait, (9, 5), wait, (4, 2)]


# ── Plain cases ───────────────────────────────────────────────────────────────────────────────────


def test_a_constant_series() -> None:
    flat = pl.DataFrame(
        {"high": [7.1] * 60, "low": [7.1] * 60, "close": [7.1] * 60, "volume": [2] * 60}
    ).with_columns(ts=pl.lit(OPEN_NS), minute=pl.int_range(60))
    expected: list[tuple[Indicator, tuple[float, ...]]] = [
        (SMA(20), (7.1,)),
        (EMA(20), (7.1,)),
        (WMA(20), (7.1,)),
        (RSI(14), (50.0,)),
        (MACD(), (0.0, 0.0, 0.0)),
        (RollingStd(20), (0.0,)),
        (RollingMax(20), (7.1,)),
        (RollingMin(20), (7.1,)),
        (Bollinger(20), (7.1, 7.1, 7.1)),
        (ATR(14), (0.0,)),
        (SuperTrend(10), (7.1, -1)),
        (Donchian(20), (7.1, 7.1, 7.1)),
        (Stochastic(14), (50.0, 50.0)),
        (VWAP(), (7.1,)),
        (OpeningRange(15), (7.1, 7.1)),
    ]
    for indicator, last in expected:
        assert over(indicator, flat)[-1] == pytest.approx(last, abs=1e-12), indicator


def test_period_one_follows_the_price() -> None:
    closes = session_bars(30)["close"]
    for indicator in (SMA(1), EMA(1), WMA(1), RollingMax(1), RollingMin(1)):
        assert column(indicator, closes) == pytest.approx(closes.to_numpy(), rel=1e-15)
    assert set(column(RollingStd(1), closes)) == {0.0}
    assert set(column(RSI(1), closes)[1:]) <= {0.0, 50.0, 100.0}


def test_rsi_at_its_ends() -> None:
    assert column(RSI(3), [1.0, 2.0, 3.0, 4.0])[-1] == 100.0
    assert column(RSI(3), [4.0, 3.0, 2.0, 1.0])[-1] == 0.0


def test_reprs_can_be_typed_back() -> None:
    assert repr(MACD()) == "MACD(12, 26, 9)"
    assert repr(Bollinger(20)) == "Bollinger(20, 2.0)"
    assert repr(VWAP()) == "VWAP()"
    assert all(repr(eval(repr(make()))) == repr(make()) for make in MAKERS)  # noqa: S307 - our own text

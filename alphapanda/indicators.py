"""Streaming indicators: one object a series, one update a price or bar, the same code live and in research.

Rules every indicator here keeps:

1. Outputs (``value``, or where there are several the names in ``outputs``) are None until it is ``ready``,
   and become known together. None, not NaN: comparing with it fails loudly.
2. ``update(x)`` takes a price (price indicators) or a bar (bar indicators) and returns ``value``.
   ``on_bar(bar)`` is the same call for both kinds: a caller with bars need not know which kind it holds.
3. An input that is no finite number is refused before any state changes: one bad tick poisons nothing.
4. ``over(frame)`` runs a fresh copy down the rows, so it equals streaming by construction.
5. State is plain floats, ints, lists and other indicators: ``copy.deepcopy`` and ``pickle`` snapshot it.

Outputs are in the unit of the input price unless a docstring says otherwise. "Wilder 1978" is J. W. Wilder,
*New Concepts in Technical Trading Systems*. Where TA-Lib has the function, its definition and seeding are
used; departures are stated.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from copy import copy
from itertools import accumulate
from math import sqrt
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from alphapanda.errors import DataError, ValidationError

if TYPE_CHECKING:
    import polars as pl

# An input outside these bounds is refused. One comparison catches NaN, both infinities, and numbers so large
# that their squares and sums over a window could overflow.
LOWEST, HIGHEST = -1e100, 1e100

IST_OFFSET_NS = 19_800_000_000_000  # UTC+05:30, no daylight saving
DAY_NS = 86_400_000_000_000


class TickLike(Protocol):
    """What ``VWAP.on_tick`` reads; ``volume`` is what traded in this tick, not the day's running total."""

    @property
    def ts(self) -> int: ...  # ns since 1970 UTC
    @property
    def price(self) -> float: ...
    @property
    def volume(self) -> float: ...


class BarLike(Protocol):
    """What a bar shows. Each indicator reads only the fields in its ``reads``."""

    @property
    def ts(self) -> int: ...  # ns since 1970 UTC
    @property
    def minute(self) -> int: ...  # minutes from the session's open to the bar's end
    @property
    def high(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def close(self) -> float: ...
    @property
    def volume(self) -> float: ...


class Indicator(ABC):
    """A value that follows a series. ``__init__`` checks parameters, then calls ``reset`` to make the state.

    ``reset`` must build new lists and new inner indicators, never empty the old ones: ``over`` relies on it.
    """

    __slots__ = ("period", "value")
    parameters: ClassVar[tuple[str, ...]] = ("period",)
    outputs: ClassVar[tuple[str, ...]] = ("value",)
    period: int
    value: float | None

    def __init__(self, period: int) -> None:
        self.period = self._whole("period", period)
        self.reset()

    @property
    def ready(self) -> bool:
        return self.value is not None

    @abstractmethod
    def reset(self) -> None:
        """Forget everything but the parameters."""

    @abstractmethod
    def on_bar(self, bar: Any) -> float | None:
        """Take a finished bar, whatever the kind of indicator."""

    @abstractmethod
    def _feed(self, frame: Any) -> Iterable[Any]:
        """Update with one row of ``frame`` at each step of the returned iterable."""

    def over(self, frame: Any) -> pl.Series | pl.DataFrame:
        """The outputs at every row of ``frame``, null while not ready; this object's own state plays no part.

        One output gives a Series named like ``SMA(20)``; several give a DataFrame with a column for each name
        in ``outputs``. ``frame`` is a polars or pandas DataFrame of bars, or of ticks, whose ``price`` then
        stands for high, low and close alike. ``ts`` is int nanoseconds UTC or an aware datetime. Price
        indicators also take a Series, list or array.
        """
        import polars as pl

        fresh = copy(self)
        fresh.reset()
        read = operator.attrgetter(*self.outputs)
        rows = [read(fresh) for _ in fresh._feed(frame)]
        if len(self.outputs) == 1:
            return pl.Series(repr(self), rows, dtype=pl.Float64)
        schema = {name: pl.Int8() if name == "direction" else pl.Float64() for name in self.outputs}
        return pl.DataFrame(rows, schema=schema, orient="row")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(str(getattr(self, name)) for name in self.parameters)})"

    def _whole(self, name: str, number: Any, least: int = 1) -> int:
        """A parameter that counts something; numpy integers pass, True does not."""
        if not isinstance(number, bool) and hasattr(number, "__index__") and number >= least:
            return operator.index(number)
        raise self._misset(name, number, f"a whole number of at least {least}", max(least, 14))

    def _positive(self, name: str, number: Any) -> float:
        """A parameter that scales something."""
        if isinstance(number, int | float) and not isinstance(number, bool) and 0 < number < HIGHEST:
            return float(number)
        raise self._misset(name, number, "a finite number above 0", 2.0)

    def _misset(self, name: str, number: Any, wanted: str, example: float) -> ValidationError:
        kind = type(self).__name__
        message = f"{kind} {name} is {number!r}; it must be {wanted}"
        return ValidationError(message, fix=f"write {name}={example}, say", indicator=kind, parameter=name)

    def _refused(self, **given: Any) -> ValidationError:
        listed = ", ".join(f"{name}={number!r}" for name, number in given.items())
        return ValidationError(
            f"{self!r} was given {listed}",
            fix="inputs are finite numbers, low <= close <= high, volume >= 0: drop or repair this one first",
            indicator=repr(self),
            **given,
        )


class PriceIndicator(Indicator):
    """Follows one number: a price, or a bar's close."""

    __slots__ = ()

    @abstractmethod
    def update(self, price: float) -> float | None: ...

    def on_bar(self, bar: BarLike) -> float | None:
        return self.update(bar.close)

    def _feed(self, frame: Any) -> Iterable[Any]:
        return map(self.update, _column(self, frame, "close"))


class BarIndicator(Indicator):
    """Follows bars."""

    __slots__ = ()
    reads: ClassVar[tuple[str, ...]] = ("high", "low", "close")

    @abstractmethod
    def update(self, bar: BarLike) -> float | None: ...

    def on_bar(self, bar: BarLike) -> float | None:
        return self.update(bar)

    def _prices(self, bar: BarLike) -> tuple[float, float, float]:
        high, low, close = bar.high, bar.low, bar.close
        if not LOWEST < low <= close <= high < HIGHEST:
            raise self._refused(high=high, low=low, close=close)
        return high, low, close

    def _feed(self, frame: Any) -> Iterable[Any]:
        columns = [_column(self, frame, name) for name in self.reads]
        for row in zip(*columns, strict=True):
            bar: Any = SimpleNamespace(**dict(zip(self.reads, row, strict=True)))
            yield self.update(bar)


def _column(indicator: Indicator, frame: Any, name: str) -> list[Any]:
    """One column as plain Python numbers, each present and finite; or an error that names column and row."""
    import polars as pl

    def wrong(what: str, fix: str, **context: Any) -> DataError:
        return DataError(f"{indicator!r}: {what}", fix=fix, column=name, **context)

    if isinstance(frame, pl.LazyFrame):
        frame = frame.collect()
    if hasattr(frame, "columns"):
        known = [str(column) for column in frame.columns]
        source = "price" if name in ("high", "low", "close") and name not in known else name
        if source not in known:
            there = ", ".join(known) or "no columns"
            raise wrong(f"no column {name!r}; the frame has {there}", "rename or add it", known=known)
        series = pl.Series(source, frame[source])
    elif isinstance(indicator, PriceIndicator):
        source, series = name, pl.Series(name, frame)
    else:
        what = f"it follows bars and was given a {type(frame).__name__}"
        raise wrong(what, "give a polars or pandas DataFrame")
    if series.is_empty():
        return []
    dtype = series.dtype
    if name == "ts" and isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        series = series.dt.epoch("ns")
    elif name == "ts" and not dtype.is_integer():
        what = f"column 'ts' holds {dtype}, not int nanoseconds UTC or aware datetimes"
        raise wrong(what, "name its time zone: dt.replace_time_zone('Asia/Kolkata')")
    elif not dtype.is_numeric():
        raise wrong(f"column {source!r} holds {dtype}, not numbers", "cast it to numbers")
    series = series.cast(pl.Int64 if name in ("ts", "minute") else pl.Float64, strict=False)
    bad = (~series.is_finite()).fill_null(True).arg_true()
    if len(bad):
        row = bad[0]
        raise wrong(f"column {source!r} holds {series[row]} at row {row}", "drop or fill such rows", row=row)
    return series.to_list()


# ── Rolling windows ───────────────────────────────────────────────────────────────────────────────


class _Window(PriceIndicator):
    """The last ``period`` prices, folded as two halves so that an update is O(1) amortised and never drifts.

    The stream is cut every ``period`` prices. ``_block`` holds the prices since the last cut, and a subclass
    keeps their fold (sum, maximum ...) as it goes. ``_tail`` is a stack made at the cut: folds of the last
    1, 2 ... period - 1 prices before it. The window is the top of the stack joined with the running fold,
    and each new price pops one. A running sum that adds the new price and subtracts the old one collects
    rounding errors as large as the largest price it ever saw makes them; here nothing is subtracted, so a
    result is as good as summing the window afresh, after any number of updates.
    """

    __slots__ = ("_block", "_tail")
    _tail: list[Any]

    def reset(self) -> None:
        self.value = None
        self._block: list[float] = []
        self._tail = []


class SMA(_Window):
    """Simple moving average: the mean of the last ``period`` prices."""

    __slots__ = ("_head",)

    def reset(self) -> None:
        super().reset()
        self._head = 0.0

    def update(self, price: float) -> float | None:
        if not LOWEST < price < HIGHEST:
            raise self._refused(price=price)
        self._block.append(price)
        self._head = head = self._head + price
        tail = self._tail
        if tail:
            self.value = value = (head + tail.pop()) / self.period
            return value
        if len(self._block) == self.period:
            self.value = head / self.period
            self._tail = list(accumulate(self._block[:0:-1]))
            self._block = []
            self._head = 0.0
        return self.value


class WMA(_Window):
    """Linearly weighted moving average: weights 1 (oldest) to ``period`` (newest), over their sum."""

    __slots__ = ("_head", "_ramp")

    def reset(self) -> None:
        super().reset()
        self._head = 0.0  # sum of the block
        self._ramp = 0.0  # the same with weights 1, 2 ... from its first price on

    def update(self, price: float) -> float | None:
        if not LOWEST < price < HIGHEST:
            raise self._refused(price=price)
        self._block.append(price)
        period, count = self.period, len(self._block)
        self._head += price
        self._ramp += count * price
        if self._tail:
            weighted = self._tail.pop() + (period - count) * self._head + self._ramp
        elif count == period:
            weighted = self._ramp
            # summing the sums gives a price one more unit of weight for each newer one: 1 for the oldest kept
            self._tail = list(accumulate(accumulate(self._block[:0:-1])))
            self._block = []
            self._head = self._ramp = 0.0
        else:
            return None
        self.value = 2.0 * weighted / (period * (period + 1))
        return self.value


class RollingStd(_Window):
    """Standard deviation of the last ``period`` prices, with their ``mean``; divisor ``period - ddof``.

    ``ddof`` is 0 (population, as TA-Lib's STDDEV) unless told; pandas and polars use 1. Welford's update
    within a half and Chan's merge of the two (1979): mean-of-squares would lose all digits on a large price.
    """

    __slots__ = ("_head", "_squares", "ddof", "mean")
    parameters = ("period", "ddof")

    def __init__(self, period: int, ddof: int = 0) -> None:
        self.ddof = self._whole("ddof", ddof, least=0)
        self.period = self._whole("period", period, least=self.ddof + 1)
        self.reset()

    def reset(self) -> None:
        super().reset()
        self.mean: float | None = None
        self._head = 0.0  # mean of the block
        self._squares = 0.0  # sum of its squared deviations

    def update(self, price: float) -> float | None:
        if not LOWEST < price < HIGHEST:
            raise self._refused(price=price)
        self._block.append(price)
        period, count = self.period, len(self._block)
        step = price - self._head
        self._head = mean = self._head + step / count
        self._squares = squares = self._squares + step * (price - mean)
        if self._tail:
            older_mean, older_squares = self._tail.pop()
            gap = mean - older_mean
            mean = older_mean + gap * count / period
            squares += older_squares + gap * gap * count * (period - count) / period
        elif count == period:
            self._tail = _welford(self._block[:0:-1])
            self._block = []
            self._head = self._squares = 0.0
        else:
            return None
        self.mean = mean
        self.value = sqrt(squares / (period - self.ddof))
        return self.value


def _welford(prices: list[float]) -> list[tuple[float, float]]:
    """Mean and sum of squared deviations of the first 1, 2 ... prices."""
    folds: list[tuple[float, float]] = []
    mean = squares = 0.0
    for count, price in enumerate(prices, 1):
        step = price - mean
        mean += step / count
        squares += step * (price - mean)
        folds.append((mean, squares))
    return folds


class _Extreme(_Window):
    """The last of the window's prices by one order: see the two subclasses."""

    __slots__ = ("_head",)
    _pick: ClassVar[Callable[..., float]]

    def reset(self) -> None:
        super().reset()
        self._head: float | None = None

    def update(self, price: float) -> float | None:
        if not LOWEST < price < HIGHEST:
            raise self._refused(price=price)
        pick = self._pick
        self._block.append(price)
        self._head = head = price if self._head is None else pick(self._head, price)
        if self._tail:
            self.value = pick(head, self._tail.pop())
        elif len(self._block) == self.period:
            self.value = head
            self._tail = list(accumulate(self._block[:0:-1], pick))
            self._block = []
            self._head = None
        return self.value


class RollingMax(_Extreme):
    """Highest of the last ``period`` prices."""

    __slots__ = ()
    _pick = max


class RollingMin(_Extreme):
    """Lowest of the last ``period`` prices."""

    __slots__ = ()
    _pick = min


class Bollinger(PriceIndicator):
    """Bollinger bands: ``middle`` (also ``value``) is the mean; ``upper`` and ``lower`` ``deviations`` away.

    Population standard deviation (ddof 0): J. Bollinger, *Bollinger on Bollinger Bands* (2001), and TA-Lib.
    """

    __slots__ = ("_std", "deviations", "lower", "middle", "upper")
    parameters = ("period", "deviations")
    outputs = ("upper", "middle", "lower")

    def __init__(self, period: int = 20, deviations: float = 2.0) -> None:
        self.period = self._whole("period", period)
        self.deviations = self._positive("deviations", deviations)
        self.reset()

    def reset(self) -> None:
        self._std = RollingStd(self.period)
        self.value = None
        self.upper: float | None = None
        self.middle: float | None = None
        self.lower: float | None = None

    def update(self, price: float) -> float | None:
        if not LOWEST < price < HIGHEST:
            raise self._refused(price=price)
        std = self._std.update(price)
        mean = self._std.mean
        if std is None or mean is None:
            return None
        self.value = self.middle = mean
        self.upper = mean + self.deviations * std
        self.lower = mean - self.deviations * std
        return mean


# ── Exponential smoothing ─────────────────────────────────────────────────────────────────────────


class EMA(PriceIndicator):
    """Exponential moving average: ``value += (price - value) * 2 / (period + 1)``.

    Seeded, as in TA-Lib, with the mean of the first ``period`` prices.
    """

    __slots__ = ("_alpha", "_count", "_sum")

    def __init__(self, period: int) -> None:
        self.period = self._whole("period", period)
        self._alpha = 2.0 / (self.period + 1)
        self.reset()

    def reset(self) -> None:
        self.value = None
        self._count = 0
        self._sum = 0.0

    def update(self, price: float) -> float | None:
        if not LOWEST < price < HIGHEST:
            raise self._refused(price=price)
        value = self.value
        if value is not None:
            self.value = value = value + self._alpha * (price - value)
            return value
        self._count += 1
        self._sum += price
        if self._count == self.period:
            self.value = self._sum / self.period
        return self.value


class _Wilder(EMA):
    """Wilder's smoothing (1978): an EMA that moves by 1 / period; seeded with a mean likewise."""

    __slots__ = ()

    def __init__(self, period: int) -> None:
        super().__init__(period)
        self._alpha = 1.0 / self.period


class RSI(PriceIndicator):
    """Relative strength index, 0 to 100: average gain over average gain plus average loss (Wilder 1978).

    Ready after ``period`` changes, so ``period + 1`` prices. With no gain and no loss at all it is 50, the
    neutral reading; TA-Lib says 0 there, which would read as oversold.
    """

    __slots__ = ("_before", "_gain", "_loss")

    def __init__(self, period: int = 14) -> None:
        super().__init__(period)

    def reset(self) -> None:
        self.value = None
        self._before: float | None = None
        self._gain = _Wilder(self.period)
        self._loss = _Wilder(self.period)

    def update(self, price: float) -> float | None:
        if not LOWEST < price < HIGHEST:
            raise self._refused(price=price)
        before, self._before = self._before, price
        if before is None:
            return None
        change = price - before
        up, down = (change, 0.0) if change > 0.0 else (0.0, -change)
        gain, loss = self._gain.update(up), self._loss.update(down)
        if gain is None or loss is None:
            return None
        moved = gain + loss
        self.value = 100.0 * gain / moved if moved else 50.0
        return self.value


class MACD(PriceIndicator):
    """``value``: fast EMA less slow EMA; ``signal``: its EMA; ``histogram``: value less signal (Appel 1979).

    As in TA-Lib both averages start at the same price: the fast one is seeded with the last ``fast`` of the
    first ``slow`` prices. Ready when the signal is, after ``slow + signal - 1`` prices.
    """

    __slots__ = ("_fast", "_signal", "_skip", "_slow", "fast", "histogram", "signal", "slow", "smooth")
    parameters = ("fast", "slow", "smooth")
    outputs = ("value", "signal", "histogram")

    def __init__(self, fast: int = 12, slow: int = 26, signal: int = 9) -> None:
        self.fast = self._whole("fast", fast)
        self.slow = self._whole("slow", slow)
        self.smooth = self._whole("signal", signal)
        if self.fast >= self.slow:
            raise ValidationError(
                f"MACD fast is {fast} and slow is {slow}; fast must be the shorter one",
                fix="write MACD(fast=12, slow=26, signal=9), say",
                indicator="MACD",
                parameter="fast",
            )
        self.reset()

    def reset(self) -> None:
        self._fast = EMA(self.fast)
        self._slow = EMA(self.slow)
        self._signal = EMA(self.smooth)
        self._skip = self.slow - self.fast
        self.value = None
        self.signal: float | None = None
        self.histogram: float | None = None

    def update(self, price: float) -> float | None:
        if not LOWEST < price < HIGHEST:
            raise self._refused(price=price)
        slow = self._slow.update(price)
        if self._skip:
            self._skip -= 1
            return None
        fast = self._fast.update(price)
        if fast is None or slow is None:
            return None
        signal = self._signal.update(fast - slow)
        if signal is not None:
            self.value = fast - slow
            self.signal = signal
            self.histogram = self.value - signal
        return self.value


# ── Bars ──────────────────────────────────────────────────────────────────────────────────────────


class ATR(BarIndicator):
    """Average true range: Wilder's smoothing of each bar's range, stretched to the last close (Wilder 1978).

    As in TA-Lib the first bar only gives that close, so it is ready after ``period + 1`` bars.
    """

    __slots__ = ("_close", "_mean")

    def __init__(self, period: int = 14) -> None:
        super().__init__(period)

    def reset(self) -> None:
        self.value = None
        self._close: float | None = None
        self._mean = _Wilder(self.period)

    def update(self, bar: BarLike) -> float | None:
        high, low, close = self._prices(bar)
        before, self._close = self._close, close
        if before is not None:
            self.value = self._mean.update(max(high, before) - min(low, before))
        return self.value


class SuperTrend(BarIndicator):
    """SuperTrend (Seban): ``value`` is the trailing line, ``direction`` +1 above it and -1 below.

    Bands lie ``multiplier`` ATRs from (high + low) / 2, and move only towards the price until a close passes
    them. The rules are TradingView's ta.supertrend with its sign turned (there -1 is up), and start, as
    there, on the upper band (-1); the ATR is the one above, so it is ready after ``period + 1`` bars.
    """

    __slots__ = ("_atr", "_close", "_lower", "_upper", "direction", "multiplier")
    parameters = ("period", "multiplier")
    outputs = ("value", "direction")

    def __init__(self, period: int = 10, multiplier: float = 3.0) -> None:
        self.period = self._whole("period", period)
        self.multiplier = self._positive("multiplier", multiplier)
        self.reset()

    def reset(self) -> None:
        self._atr = ATR(self.period)
        self._close = 0.0
        self._upper = self._lower = 0.0
        self.value = None
        self.direction: int | None = None

    def update(self, bar: BarLike) -> float | None:
        high, low, close = self._prices(bar)
        atr = self._atr.update(bar)
        before, self._close = self._close, close
        if atr is None:
            return None
        middle = (high + low) / 2.0
        upper = middle + self.multiplier * atr
        lower = middle - self.multiplier * atr
        if self.direction is None:
            self.direction = -1
        else:
            if upper > self._upper >= before:
                upper = self._upper
            if lower < self._lower <= before:
                lower = self._lower
            if self.direction < 0:
                self.direction = 1 if close > upper else -1
            else:
                self.direction = -1 if close < lower else 1
        self._upper, self._lower = upper, lower
        self.value = lower if self.direction > 0 else upper
        return self.value


class Donchian(BarIndicator):
    """Donchian channel: highest high and lowest low of the last ``period`` bars, this one included.

    ``value`` is ``middle``, halfway between ``upper`` and ``lower``. For a breakout compare a close with the
    bands as they were before its bar: a close cannot pass a band that its own bar is part of.
    """

    __slots__ = ("_max", "_min", "lower", "middle", "upper")
    reads = ("high", "low")
    outputs = ("upper", "middle", "lower")

    def __init__(self, period: int = 20) -> None:
        super().__init__(period)

    def reset(self) -> None:
        self._max = RollingMax(self.period)
        self._min = RollingMin(self.period)
        self.value = None
        self.upper: float | None = None
        self.middle: float | None = None
        self.lower: float | None = None

    def update(self, bar: BarLike) -> float | None:
        high, low = bar.high, bar.low
        if not LOWEST < low <= high < HIGHEST:
            raise self._refused(high=high, low=low)
        upper = self.upper = self._max.update(high)
        lower = self.lower = self._min.update(low)
        if upper is not None and lower is not None:
            self.value = self.middle = (upper + lower) / 2.0
        return self.value


class Stochastic(BarIndicator):
    """Slow stochastic (Lane), 0 to 100: where the close lies in the range of the last ``period`` bars.

    ``k`` (also ``value``) is the mean of the last ``slow_k`` such readings, ``d`` that of ``slow_d`` ``k``:
    TA-Lib's STOCH with simple averages. Bars without any range read 50, where TA-Lib says 0. Ready after
    ``period + slow_k + slow_d - 2`` bars.
    """

    __slots__ = ("_channel", "_d", "_k", "d", "k", "slow_d", "slow_k")
    parameters = ("period", "slow_k", "slow_d")
    outputs = ("k", "d")

    def __init__(self, period: int = 14, slow_k: int = 3, slow_d: int = 3) -> None:
        self.period = self._whole("period", period)
        self.slow_k = self._whole("slow_k", slow_k)
        self.slow_d = self._whole("slow_d", slow_d)
        self.reset()

    def reset(self) -> None:
        self._channel = Donchian(self.period)
        self._k = SMA(self.slow_k)
        self._d = SMA(self.slow_d)
        self.value = None
        self.k: float | None = None
        self.d: float | None = None

    def update(self, bar: BarLike) -> float | None:
        _, _, close = self._prices(bar)
        self._channel.update(bar)
        top, bottom = self._channel.upper, self._channel.lower
        if top is None or bottom is None:
            return None
        k = self._k.update(100.0 * (close - bottom) / (top - bottom) if top > bottom else 50.0)
        d = None if k is None else self._d.update(k)
        if d is not None:
            self.value = self.k = k
            self.d = d
        return self.value


# ── Sessions ──────────────────────────────────────────────────────────────────────────────────────


class VWAP(BarIndicator):
    """Volume-weighted average of the session's typical prices, (high + low + close) / 3.

    Starts anew when ``ts`` passes midnight IST. None until something trades in the session; so on an index,
    which has no volume, it is never ready. ``on_tick`` takes trades instead of bars; do not mix the two.
    """

    __slots__ = ("_day", "_turnover", "_volume")
    parameters = ()
    reads = ("high", "low", "close", "volume", "ts")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.value = None
        self._day: int | None = None
        self._turnover = 0.0
        self._volume = 0.0

    def update(self, bar: BarLike) -> float | None:
        return self._add(bar.high, bar.low, bar.close, bar.volume, bar.ts)

    def on_tick(self, tick: TickLike) -> float | None:
        return self._add(tick.price, tick.price, tick.price, tick.volume, tick.ts)

    def _add(self, high: float, low: float, close: float, volume: float, ts: int) -> float | None:
        if not (LOWEST < low <= close <= high < HIGHEST and 0 <= volume < HIGHEST):
            raise self._refused(high=high, low=low, close=close, volume=volume)
        day = (ts + IST_OFFSET_NS) // DAY_NS
        if day != self._day:
            self.reset()
            self._day = day
        if volume:
            self._turnover += (high + low + close) / 3.0 * volume
            self._volume += volume
            self.value = self._turnover / self._volume
        return self.value


class OpeningRange(BarIndicator):
    """``high`` and ``low`` of the bars that end within a session's first ``minutes``; ``value`` is halfway.

    Ready with the first bar that ends at or after that minute, until the session ends: with one-minute bars the
    fifteenth bar completes a range of 15. A session is new when ``ts`` passes midnight IST or ``minute`` runs
    back (two sessions in a day). A session first seen after its opening has no range and is never ready.
    """

    __slots__ = ("_day", "_high", "_low", "_minute", "high", "low", "minutes")
    parameters = ("minutes",)
    reads = ("high", "low", "ts", "minute")
    outputs = ("high", "low")

    def __init__(self, minutes: int = 15) -> None:
        self.minutes = self._whole("minutes", minutes)
        self.reset()

    def reset(self) -> None:
        self._day: int | None = None
        self._minute = 0
        self._high, self._low = LOWEST, HIGHEST  # so far; high and low are them once complete
        self.value = None
        self.high: float | None = None
        self.low: float | None = None

    def update(self, bar: BarLike) -> float | None:
        high, low, minute = bar.high, bar.low, bar.minute
        if not LOWEST < low <= high < HIGHEST:
            raise self._refused(high=high, low=low)
        day = (bar.ts + IST_OFFSET_NS) // DAY_NS
        if day != self._day or minute < self._minute:
            self.reset()
            self._day = day
        self._minute = minute
        if minute <= self.minutes:
            self._high = max(self._high, high)
            self._low = min(self._low, low)
        if minute >= self.minutes and self.value is None and self._high > LOWEST:
            self.high, self.low = self._high, self._low
            self.value = (self.high + self.low) / 2.0
        return self.value

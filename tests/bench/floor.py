"""What plain Python can do at best on the SMA job: the yardstick, with no engine around it.

``tight`` is floor (a): the strategy alone, all state in lists and locals, one loop. It remembers the
windows in bounded deques, keeps both sums incrementally, and a first loop takes the warm-up so that the
second needs no check for it. Seven other ways of keeping the state (rings in lists, growing histories, one
accumulator for both sums, one record or one generator an instrument) were measured within noise of it or
slower.

``books`` is the same job as a person would write it by hand: prices in a list an instrument, next-tick
fills, position and cash. The other variants show what a call, an object a tick, or numpy make of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from tests.bench import job as sma
from tests.bench.child import arguments, tell, timed

FAST, SLOW, TIE = sma.FAST, sma.SLOW, sma.TIE
Signals = list[tuple[int, int, int]]
Columns = tuple[list[int], list[int], list[float], list[int]]


def tight(ts: list[int], instrument: list[int], price: list[float], count: int) -> Signals:
    """Floor (a): time, instrument and sign of each cross."""
    windows = [deque([0.0] * SLOW, SLOW) for _ in range(count)]
    fast, slow, sign, missing = [0.0] * count, [0.0] * count, [0] * count, [SLOW] * count
    signals: Signals = []
    send = signals.append
    cold = count
    middle, scale = SLOW - FAST, SLOW / FAST
    ticks = zip(ts, instrument, price)  # noqa: B905  equal by construction, and strict costs time in the yardstick

    for t, j, p in ticks:  # until every instrument has its fifty prices
        window = windows[j]
        f = fast[j] = fast[j] + p - window[middle]
        s = slow[j] = slow[j] + p - window[0]
        window.append(p)
        n = missing[j] = missing[j] - 1
        if n > 0:
            continue
        apart = f * scale - s
        now = 1 if apart > TIE else -1 if apart < -TIE else 0
        if now and now != sign[j]:
            if sign[j]:
                send((t, j, now))
            sign[j] = now
        if n == 0:
            cold -= 1
            if cold == 0:
                break

    for t, j, p in ticks:
        window = windows[j]
        fast[j] = f = fast[j] + p - window[middle]
        slow[j] = s = slow[j] + p - window[0]
        window.append(p)
        apart = f * scale - s
        if apart > TIE:
            if sign[j] != 1:
                if sign[j]:
                    send((t, j, 1))
                sign[j] = 1
        elif apart < -TIE and sign[j] != -1:
            if sign[j]:
                send((t, j, -1))
            sign[j] = -1
    return signals


def books(ts: list[int], instrument: list[int], price: list[float], count: int) -> Signals:
    """The plain hand-written backtest: growing histories, next-tick fills, position and cash."""
    history: list[list[float]] = [[] for _ in range(count)]
    fast, slow, sign = [0.0] * count, [0.0] * count, [0] * count
    pending, position, cash = [0] * count, [0] * count, 0.0
    signals: Signals = []
    for t, j, p in zip(ts, instrument, price):  # noqa: B905
        side = pending[j]
        if side:
            position[j] += side
            cash -= side * p
            pending[j] = 0
        prices = history[j]
        prices.append(p)
        n = len(prices)
        fast[j] += p
        slow[j] += p
        if n > FAST:
            fast[j] -= prices[-1 - FAST]
        if n > SLOW:
            slow[j] -= prices[-1 - SLOW]
        if n >= SLOW:
            apart = fast[j] / FAST - slow[j] / SLOW
            now = 1 if apart > TIE else -1 if apart < -TIE else sign[j]
            if now != sign[j]:
                if sign[j]:
                    signals.append((t, j, now))
                    pending[j] = now
                sign[j] = now
    return signals


class Tick(msgspec.Struct, frozen=True, gc=False):
    """The fastest safe object."""

    ts: int
    instrument: int
    price: float
    volume: int


class Sma:
    """The strategy as an object that is called a tick."""

    def __init__(self, count: int) -> None:
        self.windows = [deque([0.0] * SLOW, SLOW) for _ in range(count)]
        self.fast, self.slow = [0.0] * count, [0.0] * count
        self.sign, self.missing = [0] * count, [SLOW] * count
        self.signals: Signals = []

    def on_scalars(self, t: int, j: int, p: float, _volume: int) -> None:
        """A callback on plain values."""
        window = self.windows[j]
        f = self.fast[j] = self.fast[j] + p - window[SLOW - FAST]
        s = self.slow[j] = self.slow[j] + p - window[0]
        window.append(p)
        if self.missing[j] > 1:
            self.missing[j] -= 1
            return
        apart = f * (SLOW / FAST) - s
        if apart > TIE:
            if self.sign[j] != 1:
                if self.sign[j]:
                    self.signals.append((t, j, 1))
                self.sign[j] = 1
        elif apart < -TIE and self.sign[j] != -1:
            if self.sign[j]:
                self.signals.append((t, j, -1))
            self.sign[j] = -1

    def on_tick(self, tick: Tick) -> None:
        """The same on an object a tick, with no call in between."""
        j, p = tick.instrument, tick.price
        window = self.windows[j]
        f = self.fast[j] = self.fast[j] + p - window[SLOW - FAST]
        s = self.slow[j] = self.slow[j] + p - window[0]
        window.append(p)
        if self.missing[j] > 1:
            self.missing[j] -= 1
            return
        apart = f * (SLOW / FAST) - s
        if apart > TIE:
            if self.sign[j] != 1:
                if self.sign[j]:
                    self.signals.append((tick.ts, j, 1))
                self.sign[j] = 1
        elif apart < -TIE and self.sign[j] != -1:
            if self.sign[j]:
                self.signals.append((tick.ts, j, -1))
            self.sign[j] = -1


def called(columns: Columns, count: int) -> Signals:
    """``on_tick(ts, instrument, price, volume)``."""
    strategy = Sma(count)
    on_tick = strategy.on_scalars
    for t, j, p, v in zip(*columns):  # noqa: B905
        on_tick(t, j, p, v)
    return strategy.signals


def struct(columns: Columns, count: int) -> Signals:
    """``on_tick(tick)`` with a struct made a tick."""
    strategy = Sma(count)
    on_tick = strategy.on_tick
    for tick in map(Tick, *columns):
        on_tick(tick)
    return strategy.signals


def run(variant: str, job: sma.Job) -> tuple[int, dict[str, Any]]:
    """Number of signals, and what it took; lists are made before the clock starts."""
    if variant == "numpy":
        found, cost = timed(lambda: sma.expected(job)[0])
        return len(found), cost
    columns: Columns = (job.ts.tolist(), job.instrument.tolist(), job.rupees.tolist(), job.volume.tolist())
    loops: dict[str, Callable[[], Signals]] = {
        "tight": lambda: tight(*columns[:3], job.instruments),
        "books": lambda: books(*columns[:3], job.instruments),
        "called": lambda: called(columns, job.instruments),
        "struct": lambda: struct(columns, job.instruments),
    }
    signals, cost = timed(loops[variant])
    rows, sides = sma.expected(job)
    if [(job.ts[r], job.instrument[r], s) for r, s in zip(rows, sides, strict=True)] != signals:
        raise AssertionError(f"floor {variant} crosses elsewhere than the reference")
    return len(signals), cost


def main() -> None:
    """Measure one variant."""
    options = arguments("tight", "books", "called", "struct", "numpy")
    job = sma.make(options.ticks, options.instruments)
    orders, cost = run(options.variant, job)
    tell(cost | {"ticks": len(job), "orders": orders})


if __name__ == "__main__":
    main()

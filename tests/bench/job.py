"""The SMA job: the ticks every engine replays, and the orders every engine must send.

Needs numpy only, so the peers' environments can import it.

A cross is a change of sign of SMA20 - SMA50 of one instrument, counted from its fiftieth tick on. A tie
(difference exactly zero) keeps the last sign, and the first sign is not a cross. Prices lie on a grid of
0.05, so the true difference of the averages is a multiple of 0.0005: float engines treat anything within
``TIE`` of zero as a tie and agree with the integers to the last order. One market order for quantity 1
goes out at each cross, a buy when the sign turns positive, a sell when it turns negative; it fills at the
next tick of that instrument.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

FAST, SLOW = 20, 50
TIE = 1e-6
DAY = dt.datetime(2026, 7, 15, 9, 15, tzinfo=ZoneInfo("Asia/Kolkata"))
SPAN_NS = (
    6 * 3600 * 10**9
)  # to 15:15: inside the continuous session and before intraday positions are squared off
GRID = 5  # paise

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Job:
    """Trade ticks as columns; ``price`` in units of 0.01, ``instrument`` a dense index, ``ts`` in ns UTC."""

    ts: Ints
    instrument: Ints
    price: Ints
    volume: Ints
    instruments: int

    def __len__(self) -> int:
        return len(self.ts)

    @property
    def rupees(self) -> Floats:
        """Prices as the nearest floats, the way a feed would parse them."""
        return self.price / 100.0

    @property
    def names(self) -> list[str]:
        """One plain symbol an instrument."""
        return [f"BENCH{j}" for j in range(self.instruments)]


def make(ticks: int = 1_000_000, instruments: int = 10, seed: int = 20260715) -> Job:
    """A seeded random walk an instrument (a step of -1, 0 or +1 grid points), interleaved round robin."""
    rng = np.random.default_rng(seed)
    rows = -(-ticks // instruments)
    start = rng.integers(1500 * 20, 3000 * 20, size=instruments)
    walk = start + np.cumsum(rng.integers(-1, 2, size=(rows, instruments)), axis=0)
    price = walk.ravel()[:ticks] * GRID
    if price.min() <= 0:
        raise ValueError(f"seed {seed} walks below zero over {ticks:,} ticks; choose another")
    opened = int(DAY.timestamp()) * 10**9
    return Job(
        ts=opened + np.arange(ticks, dtype=np.int64) * (SPAN_NS // max(ticks, 1)),
        instrument=np.arange(ticks, dtype=np.int64) % instruments,
        price=price.astype(np.int64),
        volume=rng.integers(100, 1_000, size=ticks, dtype=np.int64),  # enough for twenty strategies at once
        instruments=instruments,
    )


def crosses(price: npt.NDArray[np.int64] | Floats) -> tuple[Ints, Ints]:
    """Positions and signs (+1 up, -1 down) of the crosses in one instrument's prices."""
    total = np.concatenate(([0], np.cumsum(price)))
    fast = total[SLOW:] - total[SLOW - FAST : -FAST]
    slow = total[SLOW:] - total[:-SLOW]
    apart = SLOW * fast - FAST * slow
    sign = np.sign(apart) if np.issubdtype(price.dtype, np.integer) else np.sign(np.round(apart, 3))
    decided = np.flatnonzero(sign)
    signs = sign[decided]
    changed = 1 + np.flatnonzero(signs[1:] != signs[:-1])
    return decided[changed] + SLOW - 1, signs[changed].astype(np.int64)


def expected(job: Job) -> tuple[Ints, Ints]:
    """The reference: rows of the tape at which an order goes out, in order, and its sign."""
    rows: list[Ints] = []
    sides: list[Ints] = []
    for j in range(job.instruments):
        own = np.flatnonzero(job.instrument == j)
        at, sign = crosses(job.price[own])
        rows.append(own[at])
        sides.append(sign)
    row, side = np.concatenate(rows), np.concatenate(sides)
    order = np.argsort(row, kind="stable")
    return row[order], side[order]


def profit(job: Job, *, delay: int = 1) -> float:
    """Rupees won before charges when orders fill ``delay`` ticks of their instrument later."""
    rows, sides = expected(job)
    units = 0
    for j in range(job.instruments):
        own = np.flatnonzero(job.instrument == j)
        price = job.price[own]
        mine = job.instrument[rows] == j
        at, side = np.searchsorted(own, rows[mine]) + delay, sides[mine]
        filled = at < len(own)
        units += int(np.sum(side[filled] * (price[-1] - price[at[filled]])))
    return units / 100.0

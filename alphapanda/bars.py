"""One bar builder for every lane: ticks in, bars out, closed by tape time.

A bar of interval n covers [open + k n, open + (k + 1) n), counted from the session's open and cut at its close. It is
closed when tape time reaches its end, whoever ticked: an instrument that went silent still closes on time. An
instrument without a tick in the interval has no bar. Longer bars are folded from the shortest one in use.
"""

from __future__ import annotations

from collections import deque
from math import gcd

import numpy as np

from alphapanda.events import MINUTE, Bar, Ints
from alphapanda.instruments import Instrument

HISTORY = 5_000  # closed bars kept per instrument and interval


class Bars:
    """The bars of all instruments of a run, for every interval in use."""

    def __init__(self, instruments: tuple[Instrument, ...], intervals: dict[str, int]) -> None:
        count = len(instruments)
        self.intervals = intervals
        self.base = gcd(*intervals.values()) if intervals else 0
        self.closed: dict[tuple[int, str], deque[Bar]] = {}
        self._instruments = instruments
        self._open = np.zeros(count, np.int64)
        self._high = np.zeros(count, np.int64)
        self._low = np.zeros(count, np.int64)
        self._close = np.zeros(count, np.int64)
        self._volume = np.zeros(count, np.int64)
        self._fresh = np.ones(count, np.bool_)
        self._folding: dict[tuple[int, str], list[float]] = {}  # start, open, high, low, close, volume

    def widen(self, instruments: tuple[Instrument, ...]) -> None:
        """There are more instruments now."""
        more = len(instruments) - len(self._instruments)
        self._instruments = instruments
        self._open, self._high, self._low, self._close, self._volume = (
            np.append(column, np.zeros(more, np.int64))
            for column in (self._open, self._high, self._low, self._close, self._volume)
        )
        self._fresh = np.append(self._fresh, np.ones(more, np.bool_))

    def add(self, index: Ints, price: Ints, volume: Ints | None) -> None:
        """Take in-session ticks, oldest first: columns of dense index, price units and traded volume."""
        first_of = np.full(len(self._fresh), -1, np.int64)
        first_of[index[::-1]] = np.arange(
            len(index) - 1, -1, -1
        )  # the last write wins: each instrument's first row
        new = np.flatnonzero(self._fresh & (first_of >= 0))
        if len(new):
            opening = price[first_of[new]]
            self._open[new] = self._high[new] = self._low[new] = opening
            self._volume[new] = 0
            self._fresh[new] = False
        np.maximum.at(self._high, index, price)
        np.minimum.at(self._low, index, price)
        self._close[index] = price
        if volume is not None:
            np.add.at(self._volume, index, volume)

    def close(
        self, indexes: list[int], start: int, end: int, opened: int, ends: set[str]
    ) -> dict[str, list[Bar]]:
        """Close the base bar [start, end) of these instruments, and the longer bars named in ``ends``.

        ``opened`` is the session's open. Returns the closed bars by interval name, in instrument order.
        """
        out: dict[str, list[Bar]] = {name: [] for name in ends}
        minute = (end - opened + MINUTE - 1) // MINUTE
        for i in indexes:
            instrument = self._instruments[i]
            if not self._fresh[i]:
                self._fresh[i] = True
                scale = instrument.price_scale
                o, h, low, c = (
                    self._open.item(i) / scale, self._high.item(i) / scale,
                    self._low.item(i) / scale, self._close.item(i) / scale,
                )  # fmt: skip
                self._fold(i, start, o, h, low, c, self._volume.item(i))
            for name in ends:
                part = self._folding.pop((i, name), None)
                if part is not None:
                    begun, o, h, low, c, v = part
                    bar = Bar(instrument.symbol, name, int(begun), end, o, h, low, c, int(v), minute)
                    self.closed.setdefault((i, name), deque(maxlen=HISTORY)).append(bar)
                    out[name].append(bar)
        return out

    def _fold(self, i: int, start: int, o: float, h: float, low: float, c: float, v: int) -> None:
        for name in self.intervals:
            part = self._folding.get((i, name))
            if part is None:
                self._folding[i, name] = [start, o, h, low, c, v]
            else:
                part[2] = max(part[2], h)
                part[3] = min(part[3], low)
                part[4] = c
                part[5] += v

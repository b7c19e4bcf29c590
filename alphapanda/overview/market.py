"""Newest prices and today's bars, read from the tape log: every tick is there before anybody acts on it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from alphapanda import logs
from alphapanda.buses.tapelog import TapeLog, has_table
from alphapanda.clock import monotonic, pause
from alphapanda.errors import AlphaPandaException
from alphapanda.events import MINUTE, SECOND, Block, ist_day
from alphapanda.overview.snapshot import Price

FRAMES = 4_000  # of one look, so that a long day is caught up with in steps and nobody waits for it
STEP = 0.005  # seconds between two looks at whether it grows
REST = 30 * SECOND  # after a log that cannot be read
BARS_MAX = 1_500  # minutes kept of an instrument: a day of any market, and of a coin's too


class Bars(NamedTuple):
    """Columns of one length, oldest first; ``ts`` is the minute's begin."""

    ts: list[int]
    open: list[float]
    high: list[float]
    low: list[float]
    close: list[float]
    volume: list[int]


class _Line:
    """One instrument: its newest tick and its minutes, in price units."""

    def __init__(self) -> None:
        self.first = self.last = self.bid = self.ask = self.volume = 0
        self.ts = self.at = self.ticks = self.day = 0
        self.minutes: list[list[int]] = []  # begin, open, high, low, close, volume


class Market:
    """Follows the log; ``look`` takes what is new."""

    def __init__(self, folder: Path) -> None:
        self._log = TapeLog(folder)
        self._after = -1
        self._rests = 0  # wall ns until which it does not try
        self._lines: dict[int, _Line] = {}
        self._prices: dict[str, Price] = {}

    def look(self, now: int) -> bool:
        """Take what was written since; ``now`` is wall ns. Whether that was anything."""
        if now < self._rests:
            return False
        try:
            return self._read(now)
        except (AlphaPandaException, OSError, ValueError) as error:
            logs.channel("error").error("overview.tape", error=error)
            self._begin_anew()
            self._rests = now + REST
            return False

    def wait(self, seconds: float) -> None:
        """Until something is written from now on, ``seconds`` at most."""
        size, until = self._log.size, monotonic() + seconds
        while self._log.size == size and monotonic() < until:
            pause(STEP)

    def _read(self, now: int) -> bool:
        if self._after < 0:
            files = self._log.files()
            if not files or not has_table(files[-1]):
                return False
            self._after = self._log.before(files[-1])
        before = self._after
        for frame in self._log.read(self._after, FRAMES):
            self._after = frame.number
            if len(frame.block):
                self._take(frame.block, now)
        return self._after != before

    def _begin_anew(self) -> None:
        """The newest day from its begin: what was there cannot be followed any more."""
        self._log.close()
        self._after = -1
        self._lines.clear()
        self._prices.clear()

    def prices(self) -> dict[str, Price]:
        """The newest of each instrument by symbol."""
        for index, line in self._lines.items():
            one = self._log.table[index]
            known = self._prices.get(one.symbol)
            if known is None or (known.at, known.ticks) != (line.at, line.ticks):
                self._prices[one.symbol] = Price(
                    one.rupees(line.last), one.rupees(line.first), one.rupees(line.bid), one.rupees(line.ask),
                    line.volume, line.ts, line.at, line.ticks,
                )  # fmt: skip
        return dict(self._prices)

    def bars(self, symbol: str, minutes: int = 1) -> Bars:
        """Today's bars of so many minutes; empty columns for a symbol without ticks."""
        found = Bars([], [], [], [], [], [])
        for index, line in list(self._lines.items()):
            one = self._log.table[index]
            if one.symbol != symbol:
                continue
            for begin, opened, high, low, close, volume in [tuple(row) for row in line.minutes]:
                start = begin - begin % (minutes * MINUTE)
                if found.ts and found.ts[-1] == start:
                    found.high[-1] = max(found.high[-1], one.rupees(high))
                    found.low[-1] = min(found.low[-1], one.rupees(low))
                    found.close[-1] = one.rupees(close)
                    found.volume[-1] += volume
                else:
                    found.ts.append(start)
                    found.volume.append(volume)
                    for column, units in zip(found[1:5], (opened, high, low, close), strict=True):
                        column.append(one.rupees(units))
        return found

    def close(self) -> None:
        """Let go of the log."""
        self._log.close()

    def _take(self, block: Block, now: int) -> None:
        """The rows of a block, instrument by instrument and minute by minute."""
        minutes = block.ts // MINUTE
        order = np.lexsort((np.arange(len(block)), minutes, block.instrument))
        instrument, minute = block.instrument[order], minutes[order]
        edges = np.flatnonzero((np.diff(instrument) != 0) | (np.diff(minute) != 0)) + 1
        starts = np.concatenate(([0], edges))
        ends = np.concatenate((edges, [len(order)]))
        price = block.price[order]
        highs, lows = np.maximum.reduceat(price, starts), np.minimum.reduceat(price, starts)
        for begin, end, high, low in zip(starts, ends, highs, lows, strict=True):
            line = self._lines.setdefault(int(instrument[begin]), _Line())
            newest = int(order[end - 1])
            if (day := ist_day(int(block.ts[newest]))) != line.day:
                line.day, line.first, line.ticks, line.volume = day, int(price[begin]), 0, 0
                line.minutes.clear()
            traded = int(block.volume[order[begin:end]].sum()) if block.volume is not None else 0
            line.last, line.ts, line.at = int(price[end - 1]), int(block.ts[newest]), now
            line.volume += traded
            line.bid = int(block.bid[newest]) if block.bid is not None else 0
            line.ask = int(block.ask[newest]) if block.ask is not None else 0
            line.ticks += int(end - begin)
            start = int(minute[begin]) * MINUTE
            if line.minutes and line.minutes[-1][0] == start:
                row = line.minutes[-1]
                row[2], row[3], row[4] = max(row[2], int(high)), min(row[3], int(low)), line.last
                row[5] += traded
            else:
                line.minutes.append([start, int(price[begin]), int(high), int(low), line.last, traded])
                del line.minutes[:-BARS_MAX]

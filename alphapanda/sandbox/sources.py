"""Where the sandbox's ticks come from: the platform's seeded market, or a tape."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from alphapanda.errors import RulebookError, ValidationError
from alphapanda.events import MINUTE, Block
from alphapanda.instruments import Instrument
from alphapanda.rulebook import Rulebook
from alphapanda.synthetic import TICKS_PER_SECOND
from alphapanda.synthetic import Market as SyntheticMarket
from alphapanda.tapes.tape import Tape

Minutes = dict[int, tuple[int, int, int, int, int]]  # minute since the epoch: open, high, low, close, volume
LOOK_BACK_DAYS = 7  # calendar days of history before the first day


class Source(Protocol):
    """Where ticks come from. ``rows(until)`` hands out blocks up to and including ``until``, each tick once.

    ``instruments`` and ``closes`` (previous closes by symbol, in price units) are those of the day last begun.
    """

    instruments: tuple[Instrument, ...]
    closes: dict[str, int]

    def rows(self, until: int) -> Iterator[Block]: ...
    def begin(self, day: dt.date) -> bool:
        """Begin a day; whether there is one."""
        ...

    def past(self, symbol: str) -> Minutes:
        """What was traded on days before the first one."""
        ...


class Synthetic:
    """The platform's seeded market, a trading day at a time; the same seed, rate and day give the same ticks."""

    def __init__(self, seed: int, day: dt.date, rate: float = TICKS_PER_SECOND) -> None:
        self._seed, self._rate, self._rules = seed, rate, Rulebook.load()
        self.instruments: tuple[Instrument, ...] = ()
        self.closes: dict[str, int] = {}
        self._market: SyntheticMarket | None = None
        self._first = day
        self._past: dict[str, Minutes] = {}
        self.begin(day)

    def begin(self, day: dt.date) -> bool:
        """See ``Source``; a day on which the model does not trade leaves the market as it stands."""
        try:
            self._market = SyntheticMarket(self._seed, day, ticks_per_second=self._rate, rulebook=self._rules)
        except ValidationError:  # a weekend, a holiday, or a special session
            self._market = None
            return False
        self.instruments, self.closes = self._market.instruments, self._market.previous_close
        return True

    def past(self, symbol: str) -> Minutes:
        """See ``Source``: the trading days of the week before the first one, made when somebody asks."""
        if symbol not in self._past:
            self._past[symbol] = found = dict[int, tuple[int, int, int, int, int]]()
            only = [one for one in self.instruments if one.symbol == symbol]
            for back in range(LOOK_BACK_DAYS, 0, -1):
                found |= self._traded(self._first - dt.timedelta(back), only)
        return self._past[symbol]

    def _traded(self, day: dt.date, only: list[Instrument]) -> Minutes:
        """One instrument's day: its ticks do not depend on which others there are."""
        try:
            market = SyntheticMarket(self._seed, day, only, self._rate, self._rules)
        except (RulebookError, ValidationError):
            return {}
        return _minutes(market.advance(market.end), 0, only[0])

    def rows(self, until: int) -> Iterator[Block]:
        """See ``Source``."""
        if self._market is not None and until > self._market.now:
            yield self._market.advance(until)


class Recorded:
    """A tape; the previous close of each instrument is its first price, and later the last one of the day before."""

    def __init__(self, tape: Tape) -> None:
        self.instruments = tape.instruments
        self._blocks = tape.blocks()
        self._rest: Block | None = next(self._blocks, None)
        self.closes: dict[str, int] = {}
        first: dict[int, int] = {}
        for block in tape.blocks():
            for number, price in zip(block.instrument.tolist(), block.price.tolist(), strict=True):
                first.setdefault(number, price)
            if len(first) == len(self.instruments):
                break
        self.closes = {self.instruments[number].symbol: price for number, price in first.items()}

    def begin(self, day: dt.date) -> bool:
        """See ``Source``."""
        self.closes = {}
        return True

    def past(self, symbol: str) -> Minutes:
        """See ``Source``: a tape knows nothing from before it began."""
        return {}

    def rows(self, until: int) -> Iterator[Block]:
        """See ``Source``."""
        while self._rest is not None:
            due = int(self._rest.ts.searchsorted(until, "right"))
            if due:
                yield self._rest.rows(0, due)
            if due < len(self._rest):
                self._rest = self._rest.rows(due, len(self._rest))
                return
            self._rest = next(self._blocks, None)


def _minutes(block: Block, number: int, instrument: Instrument) -> Minutes:
    """The minute candles of one instrument; indicative prices without volume are none of a share."""
    assert block.volume is not None  # noqa: S101  - the model always has it
    mine = block.instrument == number
    if instrument.tradable:
        mine &= block.volume > 0
    price, volume = block.price[mine], block.volume[mine]
    minutes, first = np.unique(block.ts[mine] // MINUTE, return_index=True)
    if not len(minutes):
        return {}
    last = np.append(first[1:], len(price)) - 1
    columns = (
        price[first],
        np.maximum.reduceat(price, first),
        np.minimum.reduceat(price, first),
        price[last],
        np.add.reduceat(volume, first),
    )
    bars = zip(*(column.tolist() for column in columns), strict=True)
    return dict(zip(minutes.tolist(), bars, strict=True))

"""The synthetic market in real time: a seeded trading day after the other, so that there is always something to trade.

Tape time runs through virtual days. The first is the next trading day after the newest recorded one; each begins at
the open of continuous trading (its pre-open is left out) and is followed at once by the next trading day's open. Seed,
rate and day decide every tick, so a feed that was killed goes on with the ticks it would have published.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from alphapanda.errors import RulebookError, ValidationError
from alphapanda.events import Block, ist_day
from alphapanda.feeds.base import Day, Playback
from alphapanda.rulebook import Rulebook
from alphapanda.synthetic import BLOCK, SECOND, Market
from alphapanda.tapes.tape import EPOCH_DAY

BUNDLED = dt.date(2026, 11, 20)  # the day that comes with the package: research has it, live goes on after it
AHEAD_DAYS = 30  # no market is closed for longer


class SyntheticMarket(Playback):
    """Days of ``alphapanda.synthetic.Market`` until the rulebook's last one; ``after`` is the newest recorded day."""

    def __init__(self, seed: int, ticks_per_second: float, after: dt.date = BUNDLED) -> None:
        self._seed, self._rate, self._after = seed, ticks_per_second, after
        self._rules = Rulebook.load()

    def key(self, day: dt.date) -> str:
        """The name of a day's rows."""
        return f"synthetic/{self._seed}/{self._rate:g}/{day}"

    def days(self, clock: int, key: str) -> Iterator[Day]:
        """See ``Playback``; a day begun with another seed or rate is left where it stands."""
        last = max(self._after, EPOCH_DAY + dt.timedelta(ist_day(clock))) if clock else self._after
        if clock and key == self.key(EPOCH_DAY + dt.timedelta(ist_day(clock))):
            last = EPOCH_DAY + dt.timedelta(ist_day(clock) - 1)
        while (market := self._next(last)) is not None:
            last = market.day
            yield self._day(market)

    def _next(self, last: dt.date) -> Market | None:
        """The first trading day after ``last`` that the model knows; None where the rulebook ends."""
        for ahead in range(1, AHEAD_DAYS + 1):
            day = last + dt.timedelta(ahead)
            try:
                return Market(self._seed, day, ticks_per_second=self._rate, rulebook=self._rules)
            except RulebookError:
                return None
            except ValidationError:  # a holiday, or a special session
                continue
        return None

    def _day(self, market: Market) -> Day:
        sessions = [self._rules.session(one, market.day) for one in market.instruments]
        opens = min(session.open_ns for session in sessions if session is not None)
        return Day(self.key(market.day), market.instruments, opens, market.end, _blocks(market, opens))


def _blocks(market: Market, opens: int) -> Iterator[Block]:
    market.advance(opens - 1)
    edge = opens
    while market.now < market.end:
        edge = min(edge + BLOCK * SECOND, market.end)
        yield market.advance(edge)

"""A recorded tape, played as if it happened now: in its own time, N times as fast, or as fast as readers follow."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

from alphapanda.errors import AlphaPandaException, ConfigurationError
from alphapanda.events import DAY, IST_OFFSET_NS, ist
from alphapanda.feeds.base import Day, Playback
from alphapanda.instruments import Instrument
from alphapanda.rulebook import Rulebook
from alphapanda.tapes.columns import CHUNK
from alphapanda.tapes.readers import tape as read
from alphapanda.tapes.tape import EPOCH_DAY, Tape


class RecordedTape(Playback):
    """The days of one tape."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._rules = Rulebook.load()

    @classmethod
    def open(cls, path: Path | None) -> RecordedTape:
        """A saved tape or a file of ticks. ConfigurationError for one that is missing or cannot be read."""
        if path is None:
            raise ConfigurationError("the feed is to play a tape and is not told which", fix="set FEED__TAPE")
        try:
            return cls(read(path))
        except AlphaPandaException as error:
            raise ConfigurationError(
                f"FEED__TAPE: {error.message}", fix=error.fix or "name a saved tape", file=str(path)
            ) from error

    def key(self, day: dt.date) -> str:
        """The name of a day's rows."""
        return f"tape/{self._tape.digest}/{day}"

    def days(self, clock: int, key: str) -> Iterator[Day]:
        """See ``Playback``."""
        days = self._tape.days
        keys = [self.key(day) for day in days]
        if key in keys:
            days = days[keys.index(key) :]
        elif self._tape.first_ts < clock:
            raise ConfigurationError(
                f"the tape begins {ist(self._tape.first_ts):%Y-%m-%d %H:%M} and this workspace has seen "
                f"{ist(clock):%Y-%m-%d %H:%M}: tape time does not go back",
                fix="play it in a workspace of its own: set ALPHAPANDA_HOME to an empty folder",
                code="E_TAPE_ORDER",
            )
        for day in days:
            part = self._tape if len(self._tape.days) == 1 else self._tape.between(day, day)
            yield Day(self.key(day), part.instruments, 0, self._close(day), part.blocks(CHUNK))

    def _close(self, day: dt.date) -> int:
        """The end of the day's last session, inside that day; 0 where no table covers it."""
        closes = [self._session_end(one, day) for one in self._tape.instruments]
        number = (day - EPOCH_DAY).days
        return min(max(closes), (number + 1) * DAY - IST_OFFSET_NS - 1)

    def _session_end(self, instrument: Instrument, day: dt.date) -> int:
        try:
            session = self._rules.session(instrument, day)
        except AlphaPandaException:
            return 0
        if session is None:
            return 0
        return max(ends for name, _, ends in session.phases if name in ("continuous", "closing_auction"))

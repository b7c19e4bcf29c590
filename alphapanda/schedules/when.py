"""When a schedule is due: exchange time on trading days, by the rulebook's timetable of that very day.

    When(at="09:10")                                  # also "open-5m", "close+10m"
    When(every="30m", start="09:15", end="15:30")     # from the open to the close unless said otherwise
    When(cron="*/5 9-15 * * mon-fri")

All of it is IST, whatever the machine's own zone is. Days without a session are left out unless ``any_day``; a day
that no table covers is an error (RulebookError), never a guess.
"""

from __future__ import annotations

import datetime as dt
import importlib
from functools import cache
from typing import Any

import msgspec

from alphapanda.errors import RulebookError, ValidationError
from alphapanda.events import DAY, IST, IST_OFFSET_NS, SECOND, ist
from alphapanda.instruments import Instrument, Kind
from alphapanda.rulebook import EPOCH, Rulebook
from alphapanda.times import parse_interval, parse_moment

EXCHANGES: dict[str, Kind] = {"NSE": "EQ", "BSE": "EQ", "NFO": "FUT", "CDS": "FUT", "MCX": "FUT"}
DAYS_AHEAD = 400  # a schedule that is not due within so many days never is
EVERY_MIN = 60 * SECOND  # a notebook takes seconds to start


class When(msgspec.Struct, frozen=True, kw_only=True):
    """One of ``at``, ``every`` and ``cron``. ``exchange`` is whose days and sessions count."""

    at: str = ""
    every: str = ""
    start: str = ""
    end: str = ""
    cron: str = ""
    exchange: str = "NSE"
    any_day: bool = False

    def __str__(self) -> str:
        said = f"at {self.at}" if self.at else f"cron {self.cron}"
        if self.every:
            said = f"every {self.every} from {self.start or 'open'} to {self.end or 'close'}"
        days = "any day" if self.any_day else f"{self.exchange} days"
        return f"{said}, {days}"

    def check(self) -> None:
        """ValidationError for what no moment can be made of."""
        if sum(map(bool, (self.at, self.every, self.cron))) != 1:
            raise ValidationError(
                "a schedule has one of --at, --every and --cron", fix="such as --at 09:10", code="E_TIME"
            )
        if (self.start or self.end) and not self.every:
            raise ValidationError("--from and --to belong to --every", fix="such as --every 30m --from 09:15")
        if self.exchange not in EXCHANGES:
            raise ValidationError(
                f"no sessions of {self.exchange!r} are known", fix=f"one of {', '.join(EXCHANGES)}"
            )
        for moment in (self.at, self.start, self.end):
            if moment:
                parse_moment(moment)
        if self.every and parse_interval(self.every) < EVERY_MIN:
            raise ValidationError(
                f"every {self.every} is too often", fix="a minute or more", code="E_INTERVAL"
            )
        if self.cron:
            _trigger(self.cron)

    def after(self, ts: int, rules: Rulebook) -> int:
        """The first moment after ``ts``, wall ns; 0 if there is none. RulebookError if that cannot be known."""
        if self.cron:
            return self._after_by_cron(ts, rules)
        day = ist(ts).date()
        for _ in range(DAYS_AHEAD):
            for moment in self.moments(day, rules):
                if moment > ts:
                    return moment
            day += dt.timedelta(1)
        return 0

    def moments(self, day: dt.date, rules: Rulebook) -> list[int]:
        """All of one day, wall ns, in order; for ``at`` and ``every``."""
        session = self._session(day, rules)
        if session is None and not self.any_day:
            return []
        if self.at:
            moment = _moment(self.at, day, session)
            return [] if moment is None else [moment]
        first, last = (_moment(said, day, session) for said in (self.start or "open", self.end or "close"))
        if first is None or last is None:
            return []
        return list(range(first, last + 1, parse_interval(self.every)))

    def _session(self, day: dt.date, rules: Rulebook) -> tuple[int, int] | None:
        """When continuous trading opens and closes; None on a day without."""
        try:
            found = rules.session(_share_of(self.exchange), day)
        except RulebookError:
            named = (self.at, *((self.start or "open", self.end or "close") if self.every else ()))
            if self.any_day and not any(said.startswith(("open", "close")) for said in named):
                return None  # nothing is asked of the tables
            raise
        return None if found is None else (found.open_ns, found.close_ns)

    def _after_by_cron(self, ts: int, rules: Rulebook) -> int:
        trigger, at = _trigger(self.cron), ist(ts // SECOND * SECOND) + dt.timedelta(seconds=1)
        until = at + dt.timedelta(DAYS_AHEAD)
        while (fire := trigger.get_next_fire_time(None, at)) is not None and fire < until:
            local: dt.datetime = fire.astimezone(IST)
            if self.any_day or self._session(local.date(), rules) is not None:
                return int(local.timestamp()) * SECOND
            at = dt.datetime.combine(local.date() + dt.timedelta(1), dt.time(), IST)
        return 0


def _moment(said: str, day: dt.date, session: tuple[int, int] | None) -> int | None:
    anchor, offset = parse_moment(said)
    if anchor == "day":
        return (day - EPOCH).days * DAY - IST_OFFSET_NS + offset
    return None if session is None else session[anchor == "close"] + offset


@cache
def _share_of(exchange: str) -> Instrument:
    """An instrument whose timetable is the exchange's usual one."""
    return Instrument(symbol=f"{exchange}:ANY", exchange=exchange, kind=EXCHANGES[exchange])


@cache
def _trigger(text: str) -> Any:
    """A cron line as apscheduler reads it. It counts weekdays from Monday, cron from Sunday: only names will do."""
    if len(fields := text.split()) == 5 and any(letter.isdigit() for letter in fields[4]):
        raise ValidationError(
            f"cron line {text!r}: weekdays by name", fix="mon-fri, sat,sun or *", code="E_TIME"
        )
    cron: Any = importlib.import_module("apscheduler.triggers.cron")
    try:
        return cron.CronTrigger.from_crontab(text, timezone=IST)
    except ValueError as error:
        raise ValidationError(
            f"cron line {text!r}: {error}",
            fix='minute hour day month weekday, such as "*/5 9-15 * * mon-fri"',
            code="E_TIME",
        ) from None

"""When schedules are due: exchange time, trading days, sessions of the very day, whatever zone the machine is in."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphapanda.errors import RulebookError, ValidationError
from alphapanda.events import ist
from alphapanda.schedules import When
from tests.schedule_rig import RULES, at


@pytest.fixture(params=["America/New_York", "Pacific/Auckland", "UTC"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The machine's own zone; two of them change their clocks in 2026."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


DUE = [
    (When(at="09:10"), "2026-11-23 08:00", "2026-11-23 09:10"),
    (When(at="09:10"), "2026-11-23 09:10", "2026-11-25 09:10"),  # the 24th is a holiday
    (When(at="09:10"), "2026-11-20 10:00", "2026-11-23 09:10"),  # over a weekend
    (When(at="09:10", any_day=True), "2026-11-20 10:00", "2026-11-21 09:10"),
    (When(at="open-5m"), "2026-11-23 08:00", "2026-11-23 09:10"),
    (When(at="close+10m"), "2026-11-23 08:00", "2026-11-23 15:40"),
    (When(at="open-5m"), "2026-11-07 12:00", "2026-11-08 18:10"),  # Muhurat trading, on a Sunday evening
    (When(at="close+10m"), "2026-11-07 12:00", "2026-11-08 19:25"),
    (When(at="09:10"), "2026-01-31 12:00", "2026-02-01 09:10"),  # budget day, on a Sunday
    (When(at="open-5m", exchange="MCX"), "2026-11-24 08:00", "2026-11-24 16:55"),  # evening session only
    (When(at="close", exchange="MCX"), "2026-10-30 08:00", "2026-10-30 23:30"),  # US summer time
    (When(at="close", exchange="MCX"), "2026-11-02 08:00", "2026-11-02 23:55"),  # and after it
    (When(every="30m", start="09:15", end="15:30"), "2026-11-23 09:20", "2026-11-23 09:45"),
    (When(every="30m", start="09:15", end="15:30"), "2026-11-23 15:15", "2026-11-25 09:15"),
    (When(every="15m"), "2026-11-23 15:29", "2026-11-23 15:30"),  # the end is part of it
    (When(every="1h", start="open+15m"), "2026-11-08 08:00", "2026-11-08 18:30"),
    (When(cron="*/5 9-15 * * mon-fri"), "2026-11-23 15:55", "2026-11-25 09:00"),
    (When(cron="*/5 9-15 * * mon-fri", any_day=True), "2026-11-23 15:55", "2026-11-24 09:00"),
    (When(cron="0 18 * * sun"), "2026-11-02 00:00", "2026-11-08 18:00"),
    (When(cron="30 2 * * *"), "2026-03-06 12:00", "2026-03-09 02:30"),  # no such time that day in New York
    (When(cron="30 1 1 11 *", any_day=True), "2026-10-31 12:00", "2026-11-01 01:30"),  # twice there
]


@pytest.mark.usefixtures("zone")
@pytest.mark.parametrize(("when", "now", "due"), DUE, ids=lambda value: str(value))
def test_due_by_the_exchanges_clock(when: When, now: str, due: str) -> None:
    when.check()
    assert ist(when.after(at(now), RULES)) == ist(at(due))


@pytest.mark.parametrize(
    "when",
    [When(at="09:10"), When(every="30m"), When(cron="0 9 * * *"), When(at="open", any_day=True)],
    ids=str,
)
def test_a_day_that_no_table_covers_is_not_guessed(when: When) -> None:
    with pytest.raises(RulebookError, match="outside the rulebook") as caught:
        when.after(at("2027-01-01 00:00"), RULES)
    assert "calendars.csv" in caught.value.fix


def test_what_asks_nothing_of_the_tables_goes_on_without_them() -> None:
    when = When(at="09:10", any_day=True)
    assert when.after(at("2031-05-03 12:00"), RULES) == at("2031-05-04 09:10")


WRONG = [
    When(),
    When(at="9"),
    When(at="25:00"),
    When(at="noon"),
    When(at="09:10", every="5m"),
    When(at="09:10", cron="* * * * *"),
    When(at="09:10", start="09:00"),
    When(every="5s"),
    When(every="0m"),
    When(every="often"),
    When(every="5m", start="soon"),
    When(cron="* * *"),
    When(cron="61 * * * *"),
    When(cron="* * * * fri-mon"),
    When(cron="0 9 * * 1-5"),  # Sunday is 0 to cron and 6 to apscheduler
    When(at="09:10", exchange="NYSE"),
]


@pytest.mark.parametrize("when", WRONG, ids=str)
def test_what_is_no_time_is_refused(when: When) -> None:
    with pytest.raises(ValidationError) as caught:
        when.check()
    assert caught.value.fix


def test_what_never_comes_is_told() -> None:
    assert When(cron="0 9 31 2 *", any_day=True).after(at("2026-11-23 08:00"), RULES) == 0


@given(
    st.sampled_from([when for when, _, _ in DUE]),
    st.datetimes(dt.datetime(2026, 1, 1), dt.datetime(2026, 10, 30)),  # noqa: DTZ001 - made aware below
)
def test_the_next_moment_is_later_and_none_is_left_out(when: When, now: dt.datetime) -> None:
    ts = at(now.replace(microsecond=0).isoformat(" "))
    due = when.after(ts, RULES)
    assert due > ts
    assert when.after(due - 1, RULES) == due
    assert when.after(ts + (due - ts) // 2, RULES) == due

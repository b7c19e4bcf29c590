"""Alerts as they are raised, told, acknowledged and over: whatever rules find, no flood and nothing lost."""

from __future__ import annotations

import itertools
import sqlite3
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphapanda.alerts import Alert, Alerts, Finding
from alphapanda.alerts.book import (
    ALL_A_MINUTE,
    LEVELS,
    OPEN_OF_A_RULE,
    RULE_A_MINUTE,
    Telling,
    acknowledged,
    step,
)
from alphapanda.clock import wall_ns
from alphapanda.errors import DatabaseError, UnknownNameError, ValidationError
from alphapanda.events import MINUTE, SECOND
from alphapanda.workspace import Workspace

REPEAT = 900.0
START = 1_795_000_000 * SECOND


def finding(subject: str = "paper", rule: str = "daily_loss", **more: object) -> Finding:
    return Finding(**{"rule": rule, "subject": subject, "level": "warning", "title": "t", **more})  # type: ignore[arg-type]


class Book:
    """A record in memory, with a clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = START
        self.known: dict[str, Alert] = {}
        self.tellings: list[tuple[int, Telling]] = []
        self.held_back = self.beyond = 0

    def look(self, *findings: Finding, after: float = 1.0) -> list[str]:
        """A look so many seconds after the last; the words that were told."""
        self.now += int(after * SECOND)
        told = [(one.alert.rule, at) for at, one in self.tellings if one.word != "cleared"]
        made = step(self.known, findings, self.now, REPEAT, told)
        self.known |= {one.id: one for one in made.changed}
        self.tellings += [(self.now, one) for one in made.tellings]
        self.held_back += made.held_back
        self.beyond = made.beyond
        return [one.word for one in made.tellings]

    def seen(self, name: str = "daily_loss:paper") -> None:
        self.known[name] = acknowledged(self.known[name], "meera", "looked", self.now)

    def one(self) -> Alert:
        (alert,) = self.known.values()
        return alert


def test_told_once_then_again_with_the_level_raised_until_seen() -> None:
    book = Book()
    assert book.look(finding()) == ["raised"]
    assert [book.look(finding()) for _ in range(100)] == [[]] * 100
    levels = [book.one().level]
    for _ in range(3):
        assert book.look(finding(), after=REPEAT) == ["again"]
        levels.append(book.one().level)
    assert levels == ["warning", "error", "critical", "critical"]
    book.seen()
    assert [book.look(finding(), after=REPEAT) for _ in range(3)] == [[], [], []]
    assert book.one().open


def test_it_is_over_when_its_cause_is() -> None:
    book = Book()
    book.look(finding())
    assert book.look() == ["cleared"]
    assert not book.one().open
    assert book.look() == []
    assert book.look(finding(), after=2 * REPEAT) == ["raised"]
    assert (book.one().level, book.one().times) == ("warning", 1)


def test_seen_does_not_outlive_the_cause() -> None:
    book = Book()
    book.look(finding())
    book.seen()
    book.look()
    assert book.look(finding(), after=REPEAT) == ["raised"]
    assert book.one().by == ""


def test_another_cause_is_news_even_when_the_first_was_seen() -> None:
    book = Book()
    book.look(finding(cause="near"))
    book.seen()
    assert book.look(finding(cause="near")) == []
    assert book.look(finding(cause="over"), after=MINUTE / SECOND) == ["raised"]
    assert book.one().acknowledged == 0


def test_what_gets_worse_by_itself_is_told_at_once() -> None:
    book = Book()
    book.look(finding())
    book.seen()
    assert book.look(finding(level="critical")) == ["raised"]
    assert book.look(finding()) == []  # and does not get better by itself
    assert book.one().level == "critical"


def test_an_event_waits_for_a_person() -> None:
    """A rejected order does not become unrejected because it has left the newest 500."""
    book = Book()
    book.look(finding(cause="o1", event=True))
    assert book.look() == []
    assert book.look(after=REPEAT) == ["again"]
    book.seen()
    assert book.look() == ["cleared"]
    assert book.look(finding(cause="o1", event=True), after=9 * REPEAT) == []  # the same one is dealt with
    assert book.look(finding(cause="o2", event=True)) == ["raised"]


def test_what_comes_and_goes_is_told_ever_more_rarely() -> None:
    book = Book()
    for _ in range(1800):  # an hour of it, on and off every second
        book.look(finding())
        book.look()
    raised = [at for at, one in book.tellings if one.word == "raised"]
    assert 4 <= len(raised) <= 9
    gaps = [after - before for before, after in itertools.pairwise(raised)]
    assert gaps == sorted(gaps)
    assert len(book.tellings) <= 2 * len(raised)


def test_a_hundred_of_a_rule_are_told_a_few_a_minute_and_counted() -> None:
    book = Book()
    many = [finding(f"s{number}") for number in range(100)]
    assert len(book.look(*many)) == RULE_A_MINUTE
    assert (len(book.known), book.beyond) == (OPEN_OF_A_RULE, 100 - OPEN_OF_A_RULE)
    assert book.held_back == OPEN_OF_A_RULE - RULE_A_MINUTE
    for _ in range(59):
        assert book.look(*many) == []
    assert len(book.look(*many)) == RULE_A_MINUTE


def test_the_worst_are_told_first() -> None:
    book = Book()
    many = [finding(f"s{n}", f"r{n}") for n in range(40)] + [finding("worst", "last", level="critical")]
    book.look(*many)
    assert book.tellings[0][1].alert.subject == "worst"
    assert len(book.tellings) == ALL_A_MINUTE


LOOKS = st.lists(
    st.tuples(
        st.sets(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.sampled_from("12")), max_size=9),
        st.sampled_from([0.5, 1.0, 30.0, 61.0, REPEAT]),
        st.booleans(),
    ),
    max_size=40,
)


@given(LOOKS)
@settings(max_examples=150, deadline=None)
def test_whatever_rules_find(looks: list[tuple[set[tuple[str, str, str]], float, bool]]) -> None:
    book = Book()
    for found, after, act in looks:
        findings = [
            finding(subject, rule, cause=cause, event=rule == "c", level=LEVELS["12".index(cause)])
            for rule, subject, cause in sorted(found)
        ]
        book.look(*findings, after=after)
        now = {one.id for one in findings}
        for name, alert in book.known.items():
            if alert.open and not alert.event:
                assert name in now  # what is open has a cause
            if name in now and not alert.event:
                assert alert.open  # and what has a cause is open
        if act:
            for name in [name for name, alert in book.known.items() if alert.open][:1]:
                book.seen(name)
    told = [(at, one) for at, one in book.tellings if one.word != "cleared"]
    for at, _ in told:  # no flood, in any minute
        within = [one.alert.rule for other, one in told if at <= other < at + MINUTE]
        assert len(within) <= ALL_A_MINUTE
        assert max(Counter(within).values()) <= RULE_A_MINUTE
    words = Counter((one.alert.id, one.word) for _, one in book.tellings)
    for (name, word), count in words.items():
        if word == "cleared":  # only what was told is told to be over
            assert count <= words[name, "raised"]
    for _, one in told:
        assert not one.alert.acknowledged


def test_nothing_is_left_untold_for_ever() -> None:
    book = Book()
    many = [finding(f"s{number}") for number in range(OPEN_OF_A_RULE)]
    for _ in range(11 * 60):
        book.look(*many)
    assert all(alert.times for alert in book.known.values())


# ── on record ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_everybody_sees_one_state_and_it_survives(tmp_path: Path) -> None:
    alerts, others = Alerts(Workspace(tmp_path)), Alerts(Workspace(tmp_path))
    assert others.open() == []
    assert not alerts.path.exists()
    now = wall_ns()
    made = alerts.look([finding(), finding("x", "r", level="critical")], now, REPEAT)
    assert [one.word for one in made.tellings] == ["raised", "raised"]
    assert [one.id for one in others.open()] == ["r:x", "daily_loss:paper"]
    others.acknowledge("r:x", "meera", "on it\n\x1b[31m")
    assert [one.id for one in alerts.open()] == ["daily_loss:paper", "r:x"]
    seen = alerts.open()[1]
    assert (seen.by, "\x1b" in seen.note) == ("meera", False)
    again = Alerts(Workspace(tmp_path)).look(
        [finding(), finding("x", "r", level="critical")], now + SECOND, REPEAT
    )
    assert again.tellings == []
    done = alerts.look([], now + 2 * SECOND, REPEAT)
    assert {one.word for one in done.tellings} == {"cleared"}
    assert (others.open(), len(others.history())) == ([], 2)
    assert alerts.path.stat().st_mode & 0o777 == 0o600


def test_what_is_told_a_minute_survives_a_restart(tmp_path: Path) -> None:
    now, total = wall_ns(), 0
    for second in range(10):
        alerts = Alerts(Workspace(tmp_path))
        made = alerts.look([finding(f"s{n}") for n in range(30)], now + second * SECOND, REPEAT)
        total += len(made.tellings)
    assert total == RULE_A_MINUTE


@pytest.mark.parametrize(("name", "by", "note"), [("none", "a", "b"), ("r:x", "", "b"), ("r:x", "a", "  ")])
def test_seeing_takes_an_alert_a_name_and_a_note(tmp_path: Path, name: str, by: str, note: str) -> None:
    alerts = Alerts(Workspace(tmp_path))
    alerts.look([finding("x", "r")], wall_ns(), REPEAT)
    with pytest.raises((UnknownNameError, ValidationError)):
        alerts.acknowledge(name, by, note)
    assert not alerts.open()[0].acknowledged


def test_a_damaged_record_is_an_error_with_a_fix(tmp_path: Path) -> None:
    alerts = Alerts(Workspace(tmp_path))
    alerts.path.write_bytes(b"no database" * 999)
    with pytest.raises(DatabaseError) as caught:
        alerts.open()
    assert "alerts.sqlite" in caught.value.fix


def test_texts_are_bounded(tmp_path: Path) -> None:
    alerts = Alerts(Workspace(tmp_path))
    alerts.look([finding("x" * 10_000, title="t" * 10_000, message="m" * 10_000)], wall_ns(), REPEAT)
    with sqlite3.connect(alerts.path) as base:
        assert base.execute("SELECT length(body) FROM alert").fetchone()[0] < 3_000
    base.close()

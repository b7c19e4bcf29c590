"""What is open, who has seen it, and when it is told again: a pure step from one look to the next.

Rules. An alert is known by its id, ``rule:subject``: what goes on is not raised twice. It is told when it is raised and
again every ``repeat`` seconds, one level higher each time, until somebody acknowledges it or its cause goes away; what
is *about an event* (an order was rejected) does not go away, so it waits for a person. A new cause takes the
acknowledgement back. What comes and goes is told at growing intervals. No more than ``RULE_A_MINUTE`` of a rule, and
``ALL_A_MINUTE`` in all, are told in a minute; the others wait their turn and are counted. Times are wall ns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec

from alphapanda.events import MINUTE, SECOND

Level = Literal["warning", "error", "critical"]
Word = Literal["raised", "again", "cleared"]
LEVELS: tuple[Level, ...] = ("warning", "error", "critical")
RULE_A_MINUTE, ALL_A_MINUTE = 5, 20
OPEN_OF_A_RULE, OPEN_MAX = 50, 200  # beyond that a rule's alerts are only counted
QUIET = 60 * SECOND  # what comes back sooner than this after it was told is not told at once
SUBJECT_MAX, TEXT_MAX = 120, 500


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule sees now. ``subject`` is what it is about, ``cause`` which occasion: another cause is news."""

    rule: str
    subject: str
    level: Level
    title: str
    message: str = ""
    fix: str = ""
    namespace: str = ""
    cause: str = ""
    event: bool = False

    @property
    def id(self) -> str:
        """The same for as long as it is about the same thing."""
        return f"{self.rule}:{self.subject[:SUBJECT_MAX]}"


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """Something that needs a person. ``level`` is where it stands now; ``times`` how often it was told since it was
    raised; ``cleared`` is 0 while it is open."""

    id: str
    rule: str
    subject: str
    level: Level
    title: str
    message: str = ""
    fix: str = ""
    namespace: str = ""
    cause: str = ""
    event: bool = False
    raised: int = 0
    told: int = 0  # when it was told last, also before it was raised anew
    times: int = 0
    returns: int = 0  # how often it came back before it had been quiet for long
    acknowledged: int = 0
    by: str = ""
    note: str = ""
    cleared: int = 0

    @property
    def open(self) -> bool:
        """Whether its cause is still there, or nobody has looked."""
        return not self.cleared


class Telling(NamedTuple):
    """What people are to be told of an alert."""

    alert: Alert
    word: Word


class Step(NamedTuple):
    """What one look changed. ``held_back`` were due to be told and wait; ``beyond`` are only counted."""

    changed: list[Alert]
    tellings: list[Telling]
    held_back: int = 0
    beyond: int = 0


def step(
    known: dict[str, Alert],
    findings: Iterable[Finding],
    now: int,
    repeat: float,
    told: Iterable[tuple[str, int]] = (),
) -> Step:
    """One look. ``known`` are all alerts on record by id; ``told`` the (rule, time) of what was told lately."""
    found: dict[str, Finding] = {}
    counts = Counter[str]()
    beyond = 0
    for one in findings:
        fresh = one.id not in found
        if fresh and (counts[one.rule] >= OPEN_OF_A_RULE or len(found) >= OPEN_MAX):
            beyond += 1
            continue
        counts[one.rule] += fresh
        found[one.id] = one
    after = {**known, **{name: _seen(known.get(name), one, now, repeat) for name, one in found.items()}}
    tellings: list[Telling] = []
    for name, alert in after.items():
        if alert.open and name not in found and (not alert.event or alert.acknowledged):
            after[name] = msgspec.structs.replace(alert, cleared=now)
            if alert.times:
                tellings.append(Telling(after[name], "cleared"))
    budget = _Budget(told, now)
    held_back = 0
    due = [alert for alert in after.values() if alert.open and now >= _next(alert, repeat)]
    for alert in sorted(due, key=lambda one: (-LEVELS.index(one.level), one.raised, one.id)):
        if not budget.take(alert.rule):
            held_back += 1
            continue
        level = LEVELS[min(LEVELS.index(alert.level) + bool(alert.times), len(LEVELS) - 1)]
        after[alert.id] = msgspec.structs.replace(alert, level=level, told=now, times=alert.times + 1)
        tellings.append(Telling(after[alert.id], "again" if alert.times else "raised"))
    changed = [alert for name, alert in after.items() if known.get(name) != alert]
    return Step(changed, tellings, held_back, beyond)


def acknowledged(alert: Alert, by: str, note: str, now: int) -> Alert:
    """Somebody has seen it: it is not told again unless its cause is another."""
    return msgspec.structs.replace(alert, acknowledged=now, by=by[:SUBJECT_MAX], note=note[:TEXT_MAX])


def _seen(alert: Alert | None, one: Finding, now: int, repeat: float) -> Alert:
    """An alert as a finding leaves it."""
    shown = {
        "title": one.title[:TEXT_MAX], "message": one.message[:TEXT_MAX], "fix": one.fix[:TEXT_MAX],
        "namespace": one.namespace, "cause": one.cause, "event": one.event,
    }  # fmt: skip
    if alert is None:
        fresh = Alert(id=one.id, rule=one.rule, subject=one.subject[:SUBJECT_MAX], level=one.level, title="")
        return msgspec.structs.replace(fresh, raised=now, **shown)
    if one.event and alert.cleared and alert.cause == one.cause:
        return alert  # somebody has dealt with this very one
    if alert.cleared or (alert.cause != one.cause and alert.acknowledged):
        returns = alert.returns + 1 if now - alert.told < repeat * SECOND else 0
        return msgspec.structs.replace(
            alert, **shown, level=one.level, raised=now, times=0, returns=returns, acknowledged=0, by="", note="",
            cleared=0,
        )  # fmt: skip
    if LEVELS.index(one.level) > LEVELS.index(alert.level):  # it got worse by itself: that is news
        return msgspec.structs.replace(
            alert, **shown, level=one.level, times=0, acknowledged=0, by="", note=""
        )
    return msgspec.structs.replace(alert, **shown)


def _next(alert: Alert, repeat: float) -> int:
    """When it is to be told next."""
    if alert.acknowledged:
        return 2**63
    if alert.times:
        return alert.told + int(repeat * SECOND)
    if not alert.returns:
        return alert.raised
    return alert.told + min(int(repeat * SECOND), QUIET * 2 ** min(alert.returns - 1, 20))


class _Budget:
    """How much may be told this minute."""

    def __init__(self, told: Iterable[tuple[str, int]], now: int) -> None:
        self._rules = Counter(rule for rule, at in told if now - at < MINUTE)

    def take(self, rule: str) -> bool:
        if self._rules[rule] >= RULE_A_MINUTE or self._rules.total() >= ALL_A_MINUTE:
            return False
        self._rules[rule] += 1
        return True

"""When a person is needed: each rule is a function of one ``Overview`` (of the schedules for the last), and no more.

A rule that reads something that is not there finds nothing: what cannot be seen is the business of the rules about
processes and the server. What is about real money starts one level higher.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from alphapanda.alerts.book import LEVELS, Finding, Level
from alphapanda.events import DAY, SECOND
from alphapanda.overview import ErrorLine, Lane, Overview, Process, View
from alphapanda.schedules import Run, Schedule

NEAR = 0.8  # share of the daily loss limit at which somebody should look
AWAY_SECONDS = 15.0  # what is down so long does not come back by itself
EVENTS_NS = DAY  # a line of the error channel is news for so long
MONEY = {  # events of the error channel that put our books in doubt, and what is to be done
    "broker.alarm": ("the broker's book differs from ours", "alphapanda reconcile"),
    "broker.unknown_order": ("the broker knows an order that we do not", "alphapanda reconcile"),
    "stop.lost": ("a stop has gone that nobody withdrew", "alphapanda status"),
}
# begin alarms of the order path that have rules of their own
OTHERS = "kill level ", "the access token is dead"
LOGIN_WORDS = ("log in", "logged in", "login", "token")

Rule = Callable[[Overview], Iterator[Finding]]


def daily_loss(seen: Overview) -> Iterator[Finding]:
    """A namespace has lost its limit of the day, or most of it."""
    for lane in seen.lanes.values():
        for use in lane.limits:
            if use.name == "daily loss" and use.limit > 0 and use.used >= NEAR * use.limit:
                over = use.used >= use.limit
                yield Finding(
                    rule="daily_loss",
                    subject=lane.name,
                    namespace=lane.name,
                    level=_level("error" if over else "warning", lane),
                    title=f"{lane.name} has lost {'its limit of the day' if over else 'most of its limit of the day'}",
                    message=f"{use.used:,.0f} of {use.limit:,.0f} rupees",
                    fix=f"alphapanda kill {lane.name} --reduce"
                    if not over
                    else "nothing opens until tomorrow",
                    cause="over" if over else "near",
                )


def kill_switch(seen: Overview) -> Iterator[Finding]:
    """A namespace takes no orders, by a person or by the dead man's switch."""
    for lane in seen.lanes.values():
        if (halt := lane.halt) is not None:
            yield Finding(
                rule="kill_switch",
                subject=lane.name,
                namespace=lane.name,
                level=_level("warning", lane),
                title=f"the kill switch of {lane.name} is pulled, level {halt.level}",
                message=f"{halt.reason or 'no reason given'} ({halt.by or 'nobody named'})",
                fix=f'alphapanda kill {lane.name} --lift "why"',
                cause=f"{halt.level} {halt.at}",
            )


def rejected(seen: Overview) -> Iterator[Finding]:
    """The broker refused orders of a run. Our own rules deny; that is their work and needs nobody."""
    for lane in seen.lanes.values():
        newest: dict[str, list[Any]] = {}
        for order in lane.orders:  # newest first
            if order.status == "rejected":
                newest.setdefault(order.run, []).append(order)
        for run, orders in newest.items():
            last = orders[0]
            yield Finding(
                rule="order_rejected",
                subject=f"{lane.name}/{run}",
                namespace=lane.name,
                level=_level("warning", lane),
                title=f"{_count(len(orders), 'order')} of {last.strategy or run} rejected",
                message=f"{last.side} {last.quantity:,} {last.symbol}: {last.reason or 'no reason given'}",
                fix=f"alphapanda why {last.id}",
                cause=last.id,
                event=True,
            )


def halted(seen: Overview) -> Iterator[Finding]:
    """A run ended by an error of its strategy, or failed."""
    for run in seen.runs:
        if run.state in ("halted", "failed"):
            yield Finding(
                rule="strategy_halted",
                subject=f"{run.namespace}/{run.run}",
                namespace=run.namespace,
                level=_level("error", run),
                title=f"{run.name} is {run.state}",
                message=_why(run),
                fix=f"alphapanda logs error --run {run.run}",
                cause=run.state,
            )


def stale(seen: Overview) -> Iterator[Finding]:
    """The market is open and no ticks come."""
    feed = seen.process("feed")
    if feed is None or not feed.health.get("stale") or feed.health.get("state") == "logged_out":
        return
    live = any(lane.live for lane in seen.lanes.values())
    yield Finding(
        rule="feed_stale",
        subject="feed",
        level="critical" if live else "error",
        title="no ticks in an open market",
        message=str(feed.health.get("detail") or feed.detail),
        fix="alphapanda status; alphapanda logs application",
    )


def logged_out(seen: Overview) -> Iterator[Finding]:
    """The broker's session is dead: a person has to log in."""
    said: dict[str, str] = {}
    for one in seen.processes:
        if one.health.get("state") == "logged_out":
            said[one.role] = str(one.health.get("detail") or one.detail)
        elif _about_login(told := _trouble(one)):
            said[one.role] = told
        elif (
            one.state in ("waiting", "failed") and _about_login(one.error) and one.role.startswith("gateway:")
        ):
            said[one.role] = one.error
    for role, detail in said.items():
        yield Finding(
            rule="token_dead",
            subject=role,
            namespace=role.partition(":")[2],
            level="critical",
            title=f"{role} is not logged in at the broker",
            message=detail,
            fix="alphapanda login",
        )


def blocked(seen: Overview) -> Iterator[Finding]:
    """A gateway runs and no order of it can leave: its journal cannot be written, its keyring is locked."""
    for one in seen.processes:
        if (told := _trouble(one)) and not _about_login(told):
            yield Finding(
                rule="orders_blocked", subject=one.role, namespace=one.role.partition(":")[2], level="critical",
                title=f"{one.role} lets no order leave", message=told, fix="alphapanda status; alphapanda logs error",
            )  # fmt: skip


def mismatch(seen: Overview) -> Iterator[Finding]:
    """What the broker shows does not fit our books."""
    for event, (title, fix) in MONEY.items():
        newest: dict[str, ErrorLine] = {}
        for line in _lines(seen, event):  # newest first
            if not str(line.facts.get("detail") or line.message).startswith(OTHERS):
                newest.setdefault(line.namespace, line)
        for namespace, line in newest.items():
            lane = seen.lanes.get(namespace)
            detail = line.facts.get("detail") or line.facts.get("reason") or line.message
            yield Finding(
                rule="mismatch",
                subject=f"{namespace or 'broker'}/{event}",
                namespace=namespace,
                level="critical" if lane is None or lane.live else "error",
                title=title,
                message=str(detail or "see the error log"),
                fix=fix,
                cause=line.at,
                event=True,
            )


def process_failed(seen: Overview) -> Iterator[Finding]:
    """Something the hub keeps running does not run; runs are ``strategy_halted``'s."""
    if seen.lost and seen.at - seen.lost > AWAY_SECONDS * SECOND:
        yield Finding(
            rule="process_failed", subject="server", level="critical", title="the server does not answer",
            fix="alphapanda status",
        )  # fmt: skip
    for one in seen.processes:
        away = one.state == "waiting" and seen.at - one.since > AWAY_SECONDS * SECOND
        if one.role.startswith("runner:") or (one.state != "failed" and not away):
            continue
        if _about_login(one.error) and one.role.startswith("gateway:"):
            continue  # a person has to log in, and is told so
        money = one.role == "feed" or one.role.startswith("gateway:")
        yield Finding(
            rule="process_failed",
            subject=one.role,
            namespace=one.role.partition(":")[2],
            level="critical" if money else "error",
            title=f"{one.role} {'has failed' if one.state == 'failed' else 'does not come back'}",
            message=one.error or one.detail,
            fix="alphapanda status; alphapanda logs error",
        )


RULES: tuple[Rule, ...] = (
    daily_loss, kill_switch, rejected, halted, stale, logged_out, blocked, mismatch, process_failed,
)  # fmt: skip


def schedule_failed(schedules: list[Schedule], failing: Mapping[str, Run]) -> Iterator[Finding]:
    """A scheduled notebook went wrong for good, was missed, or is due on days that no table covers."""
    for one in schedules:
        if (run := failing.get(one.name)) is not None:
            where = f"cell {run.cell}: " if run.cell else ""
            yield Finding(
                rule="schedule_failed",
                subject=one.name,
                level="error",
                title=f"{one.name}: {run.notebook} {run.state}",
                message=f"{where}{run.error} {run.message}".strip(),
                fix=f"alphapanda schedule history {one.name}",
                cause=str(run.id),
            )
        if one.trouble:
            yield Finding(
                rule="schedule_not_due",
                subject=one.name,
                level="error",
                title=f"{one.name} is not due any more",
                message=one.trouble,
                fix="extend the rulebook's calendar",
            )


def _why(run: View) -> str:
    """Where it ended, and what the strategy's error said."""
    said = run.fault.message if run.fault is not None else ""
    known = [text for text in (run.reason, said if said not in run.reason else "") if text]
    return ": ".join(known) or "no reason given"


def _level(level: Level, what: Lane | View) -> Level:
    return LEVELS[min(LEVELS.index(level) + what.live, len(LEVELS) - 1)]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _trouble(one: Process) -> str:
    """Why a gateway lets nothing leave; empty if it does."""
    return str(one.health.get("trouble") or "") if one.role.startswith("gateway:") else ""


def _about_login(text: str) -> bool:
    return any(word in text.lower() for word in LOGIN_WORDS)


def _lines(seen: Overview, event: str) -> Iterator[ErrorLine]:
    """Lines of the last day about an event, newest first."""
    for line in seen.errors:
        if line.event == event and _wall_ns(line.at) > seen.at - EVENTS_NS:
            yield line


def _wall_ns(text: str) -> int:
    try:
        return int(dt.datetime.fromisoformat(text).timestamp() * 1e9)
    except ValueError:
        return 0

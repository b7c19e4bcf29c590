"""What the health page shows: alerts, errors, dead letters, processes, and how old each instrument's data is."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import Counter
from typing import Any, cast

import msgspec

from alphapanda.alerts import Alerts
from alphapanda.buses.redis import RedisBus
from alphapanda.clock import wall_ns
from alphapanda.events import MINUTE, ist
from alphapanda.letters import by_person
from alphapanda.letters.dead_letters import inspect, letters
from alphapanda.logs.redaction import safe_text
from alphapanda.overview import ErrorLine, Overview
from alphapanda.panes.desk import Desk
from alphapanda.panes.head import MILLISECOND
from alphapanda.panes.parts import Column
from alphapanda.server import address

ALERTS = (
    Column("what", width=32), Column("do", "acts", 7), Column("level", "state", 10), Column("raised", "time", 13),
    Column("about", narrow=False), Column("what_to_do", narrow=False), Column("seen_by", width=18, narrow=False),
)  # fmt: skip
ERRORS = (
    Column("time", "time", 13), Column("level", "state", 10), Column("event", "code", 24), Column("message"),
    Column("namespace", width=10, narrow=False), Column("role", "code", 16, False), Column("run", "code", 16, False),
)  # fmt: skip
RATES = (
    Column("class", "code"), Column("topic", "code", 18, False), Column("namespace", width=9),
    Column("5_min", "int", 6), Column("1_h", "int", 5), Column("day", "int", 6),
)  # fmt: skip
LETTERS = (
    Column("last", "time", 13), Column("topic", "code", 20), Column("error", "code", 14),
    Column("message", narrow=False), Column("type", "code", 14, False),
)  # fmt: skip
PROCESSES = (
    Column("role", "code", 20), Column("state", "state", 8), Column("says", "state", 9), Column("heartbeat", "ago", 8),
    Column("cpu", "share", 7, False), Column("MB", "int", 5, False), Column("restarts", "int", 7, False),
    Column("detail", narrow=False),
)  # fmt: skip
AGES = (
    Column("symbol", width=22), Column("last", "price", 11), Column("today", "percent", 10), Column("age", "ago", 7),
    Column("bid", "price", 9, False), Column("ask", "price", 9, False), Column("ticks", "int", 7, False),
)  # fmt: skip
TEXT_MAX, LETTERS_MAX = 8_000, 300


def processes(overview: Overview) -> dict[str, list[Any]]:
    """Rows of ``PROCESSES``: what the hub knows of each, and what it says of itself."""
    return {
        one.role: [
            one.role, one.state, str(one.health.get("state", "")), one.at // MILLISECOND, round(one.cpu, 1),
            round(one.rss_mb), one.restarts, (one.error or one.detail)[:300],
        ]
        for one in overview.processes
    }  # fmt: skip


def ages(overview: Overview) -> dict[str, list[Any]]:
    """Rows of ``AGES``: ``age`` counts from when the newest tick was seen."""
    return {
        symbol: [
            symbol, one.last, round(100 * (one.last / one.opened - 1), 2) if one.opened else 0.0, one.at // MILLISECOND,
            one.bid, one.ask, one.ticks,
        ]
        for symbol, one in overview.prices.items()
    }  # fmt: skip


def errors(overview: Overview) -> dict[str, list[Any]]:
    """Rows of ``ERRORS``, by a key that ``error`` knows."""
    return {
        key: [_at(one.at), one.level.upper(), one.event, one.message[:300], one.namespace, one.role, one.run]
        for key, one in keyed(overview).items()
    }


def keyed(overview: Overview) -> dict[str, ErrorLine]:
    """The newest lines of the error channel; of those of one moment the oldest is number 0."""
    seen = Counter[str]()
    found: dict[str, ErrorLine] = {}
    for one in reversed(overview.errors):
        found[f"{one.at} {seen[one.at]}"] = one
        seen[one.at] += 1
    return found


def error(overview: Overview, key: str) -> dict[str, Any] | None:
    """All of one line, and what it belongs to: the content of a ``Detail``."""
    one = keyed(overview).get(key)
    if one is None:
        return None
    lineage = [
        f"run {one.run}" if one.run else "", f"strategy {one.strategy}" if one.strategy else "",
        f"correlation {one.correlation_id}" if one.correlation_id else "",
    ]  # fmt: skip
    facts = [
        ["message", one.message], ["from", f"{one.role} {one.namespace}".strip()],
        ["belongs to", ", ".join(part for part in lineage if part)],
        ["context", "\n".join(f"{name}: {safe_text(str(value))[:500]}" for name, value in one.facts.items())],
        ["stack", one.exception[-TEXT_MAX:]],
    ]  # fmt: skip
    return {"title": f"{one.level} {one.event}", "facts": [fact for fact in facts if fact[1]]}


def rates(overview: Overview) -> dict[str, list[Any]]:
    """Rows of ``RATES``: errors of the last five minutes, hour and day."""
    now = overview.at
    counts: dict[tuple[str, str, str], list[int]] = {}
    for minute, kind, topic, namespace, count in overview.error_counts:
        row = counts.setdefault((kind, topic, namespace), [0, 0, 0])
        for place, minutes in enumerate((5, 60, 24 * 60)):
            row[place] += count if minute > now - minutes * MINUTE else 0
    return {" ".join(key): [*key, *row] for key, row in counts.items()}


def summary(overview: Overview) -> list[dict[str, Any]]:
    """Whether feed, bus, gateways and their logins are well, as figures."""
    feed, server = overview.process("feed"), overview.process("server")
    health = feed.health if feed else {}
    open_letters = sum(overview.letters.values())
    recent = sum(count for minute, *_, count in overview.error_counts if minute > overview.at - 5 * MINUTE)
    told = [
        _word("feed", str(health.get("state") or (feed.state if feed else "none")), _feed_note(health)),
        _word("bus", "lost" if overview.lost else server.state if server else "none"),
        _word("hub", overview.hub or "none"),
    ]
    for lane in overview.lanes.values():
        gateway = lane.gateway
        state = str(gateway.get("state") or "none")
        login = str(gateway.get("login") or gateway.get("token") or "")
        told.append(_word(f"gateway {lane.name}", state, (login or str(gateway.get("detail") or ""))[:60]))
    return [
        *told,
        _count("errors in 5 min", recent),
        _count("dead letters", open_letters),
    ]


def _word(label: str, value: str, note: str = "") -> dict[str, Any]:
    good = value in ("ready", "serving", "running", "ended", "alive")
    return {"label": label, "value": value, "kind": "text", "tone": "gain" if good else "loss", "note": note}


def _count(label: str, value: int) -> dict[str, Any]:
    return {"label": label, "value": value, "kind": "int", "tone": "loss" if value else "", "note": ""}


def _feed_note(health: dict[str, Any]) -> str:
    rates: dict[str, int] = health.get("rates") or {}
    return f"{sum(rates.values()):,} ticks a second"


def _at(text: str) -> int:
    try:
        return int(dt.datetime.fromisoformat(text).timestamp() * 1000)
    except ValueError:
        return 0


# ── what takes a moment to read: asked in a thread, at most every two seconds


def alerts(desk: Desk) -> dict[str, list[Any]]:
    """Rows of ``ALERTS``: those that stand. Blocks."""
    return {
        one.id: [
            one.title, [] if one.acknowledged else ["seen"], one.level.upper(), one.raised // MILLISECOND, one.message,
            one.fix, one.by,
        ]
        for one in Alerts(desk.workspace).open()
    }  # fmt: skip


def open_letters(desk: Desk) -> dict[str, list[Any]]:
    """Rows of ``LETTERS``: those nobody has dealt with, of topics that have some. Blocks."""
    return asyncio.run(_open_letters(desk, list(desk.overview.letters)))


async def _open_letters(desk: Desk, topics: list[str]) -> dict[str, list[Any]]:
    rows: dict[str, list[Any]] = {}
    async with RedisBus.of(address(desk.workspace, desk.settings), desk.settings.redis) as bus:
        for topic in topics:
            found, done = await letters(bus, topic)
            for one in list(found.values())[-LETTERS_MAX:]:
                if one.id not in done:
                    kind = one.envelope.type if one.envelope else "unknown"
                    message = safe_text(one.message)[:300]
                    rows[one.id] = [
                        one.last // MILLISECOND, one.topic, one.error, message, kind,
                    ]  # fmt: skip
    return rows


async def letter(desk: Desk, key: str) -> dict[str, Any]:
    """All of one letter, with what can be done about it. UnknownNameError for one that is not there."""
    async with RedisBus.of(address(desk.workspace, desk.settings), desk.settings.redis) as bus:
        one, done = await inspect(bus, key)
    known = by_person.facts(one, done)
    body = known["body"]
    shown = body if isinstance(body, str) else msgspec.json.format(msgspec.json.encode(body)).decode()
    facts = [
        ["state", known["state"]], ["reason", one.reason],
        ["error", f"{one.error} [{one.code}]: {safe_text(one.message)}"],
        ["attempts", f"{one.attempts}, from {ist(one.first):%d %b %H:%M:%S} to {ist(one.last):%H:%M:%S}"],
        ["belongs to", f"{one.namespace} {one.correlation_id}".strip()], ["message's body", shown[:TEXT_MAX]],
        ["stack", one.stack[-TEXT_MAX:]],
    ]  # fmt: skip
    acts = [["dry", "what would a replay do?"], ["discard", "discard"]] if done is None else []
    return {
        "title": f"dead letter {key}",
        "key": key,
        "acts": acts,
        "facts": [one for one in facts if one[1]],
    }


async def replay(desk: Desk, key: str, by: str = "") -> dict[str, Any]:
    """What putting one letter back would do, or, where somebody wants it, has done: the content of a ``Detail``."""
    dry_run = not by
    async with RedisBus.of(address(desk.workspace, desk.settings), desk.settings.redis) as bus:
        did = await by_person.replayed(desk.workspace, bus, by_person.by_topic([key]), by=by, dry_run=dry_run)
    told = did.decisions[0]
    if told.refusal:
        facts, acts = [["refused", f"{told.refusal} [{told.code}]"]], [["discard", "discard"]]
    elif dry_run:
        facts = [
            ["a replay would", f"put {told.type} back on {key.rpartition('@')[0]}, once, marked as replayed"]
        ]
        acts = [["replay", "put it back"], ["discard", "discard"]]
    else:
        facts, acts = [["done", f"{told.type} is back on {key.rpartition('@')[0]}, marked as replayed"]], []
    return {"title": f"dead letter {key}", "key": key, "facts": facts, "acts": cast("Any", acts)}


def broker(overview: Overview, namespace: str) -> dict[str, Any] | None:
    """How a namespace with money behind it stands with its broker, as its gateway says it: the content of a
    ``Detail``; None for one without."""
    lane = overview.lanes.get(namespace)
    if lane is None or not lane.live:
        return None
    gateway = lane.gateway
    said = f"{gateway.get('state') or 'no gateway'} {gateway.get('detail') or ''}".strip()
    return {
        "title": f"{namespace} and its broker",
        "key": namespace,
        "stays": True,
        "facts": [["the gateway says", said]],
        "acts": [["preflight", "preflight: is everything in place?"]],
    }


async def preflight(desk: Desk, namespace: str) -> list[list[str]]:
    """Every row of a preflight as facts, what stands in the way first. Takes seconds: the broker is asked."""
    from alphapanda.zerodha.preflight import preflight as rows

    found = await rows(desk.settings, desk.workspace, namespace)
    order = ("failed", "warning", "ok")
    return [
        [one.what, f"{one.state}: {safe_text(one.shown)}{f'; {one.fix}' if one.fix else ''}"]
        for one in sorted(found, key=lambda one: order.index(one.state))
    ]


def acknowledge(desk: Desk, key: str, by: str) -> None:
    """Somebody has seen an alert. Blocks."""
    Alerts(desk.workspace).acknowledge(key, by, f"seen on the page at {ist(wall_ns()):%H:%M:%S}")

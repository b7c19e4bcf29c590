"""Is anything wrong, and is the data fresh: alerts, errors, dead letters, processes, instruments. One Panel app."""

from __future__ import annotations

import asyncio
from typing import Any

from alphapanda.buses.redis import RedisBus
from alphapanda.errors import ValidationError
from alphapanda.letters import by_person
from alphapanda.overview import Overview
from alphapanda.panes import Detail, Figures, Table, health, visit
from alphapanda.panes.acts import text
from alphapanda.panes.visit import Visit
from alphapanda.server import address

page = visit("errors")
shown: dict[str, Any] = {}  # the letter that is looked at
asked: dict[str, Any] = {}  # by namespace: what its preflight said


def picked(message: dict[str, Any]) -> None:
    """A letter was picked: read it."""
    if message.get("do") == "pick":
        message = {**message, "do": "letter"}
    elif message.get("do") == "drop":
        shown.clear()
    page.pick("letter")(message)


state = Figures()
raised = Table(
    "Alerts", health.ALERTS, sort="-raised", hear=page.pick("alert"), height=180,
    empty="Nothing needs you.",
)  # fmt: skip
newest = Table(
    "Newest errors", health.ERRORS, sort="-time", hear=page.pick("error"), pick=True, height=300,
    empty="No error was logged.",
)  # fmt: skip
rate = Table("Errors by kind", health.RATES, sort="-1_h", height=220, empty="None today.", wide="half left")
context = Detail(hear=page.pick("error"))
dead = Table(
    "Dead letters", health.LETTERS, sort="-last", hear=picked, pick=True, height=220,
    empty="No message was given up on.", wide="half right",
)  # fmt: skip
letter = Detail(hear=picked)
living = Table(
    "Processes",
    health.PROCESSES,
    sort="role",
    height=330,
    empty="No hub answers: alphapanda up",
    wide="half left",
)
broker = Detail(hear=page.pick("broker"))
fresh = Table(
    "Data by instrument", health.AGES, sort="symbol", height=330, empty="No tick yet.", wide="half right"
)


async def show_letter(message: dict[str, Any]) -> None:
    """All of the letter that was picked."""
    shown.update(await health.letter(page.desk, text(message, "key")))


def may(act: str, message: dict[str, Any]) -> tuple[str, str]:
    """The letter that is meant, and who means it, once it is sure that this person may act on it."""
    key = text(message, "key")
    return key, page.acts.allow(act, key.partition(".")[0], letter=key)


async def dry(message: dict[str, Any]) -> None:
    """Say what putting a letter back would do."""
    found = await health.replay(page.desk, text(message, "key"))
    shown.update(found, dry=found["key"])


async def replay(message: dict[str, Any]) -> None:
    """Put it back, after somebody has seen what that does."""
    key, by = may("replay", message)
    if shown.get("dry") != key:
        raise ValidationError("ask first what a replay would do")
    shown.clear()
    shown.update(await health.replay(page.desk, key, by))
    page.desk.again("letters")


async def put_away(message: dict[str, Any]) -> None:
    """A person has decided that nothing is to be done."""
    (key, by), reason = may("discard", message), text(message, "reason")
    if not reason:
        raise ValidationError("discarding a letter needs a reason")
    desk = page.desk
    async with RedisBus.of(address(desk.workspace, desk.settings), desk.settings.redis) as bus:
        await by_person.discarded(desk.workspace, bus, key, reason=reason, by=by)
    shown.clear()
    desk.again("letters")
    page.tell({"text": f"{key} is discarded: {reason}", "bad": False})


async def preflight(message: dict[str, Any]) -> None:
    """Look whether everything is in place for a namespace with money behind it."""
    namespace = text(message, "key")
    page.acts.allow("preflight", "", asked=namespace)
    lane = page.desk.overview.lanes.get(namespace)
    if lane is not None and lane.live:
        page.tell({"text": f"asking the broker of {namespace}", "bad": False})
        asked[namespace] = await health.preflight(page.desk, namespace)


def standing(now: Overview, it: Visit) -> dict[str, Any] | None:
    """The broker of the namespace that is shown, with the preflight's rows once they were asked for."""
    told = health.broker(now, it.namespace)
    return told and {**told, "facts": [*told["facts"], *asked.get(it.namespace, ())]}


async def seen(message: dict[str, Any]) -> None:
    """Acknowledge an alert."""
    by = page.acts.allow("acknowledge", "", alert=text(message, "key"))
    await asyncio.to_thread(health.acknowledge, page.desk, text(message, "key"), by)
    page.desk.again("alerts")


for name, act in (
    ("letter", show_letter), ("dry", dry), ("replay", replay), ("discard", put_away), ("seen", seen),
    ("preflight", preflight),
):  # fmt: skip
    page.acts.add(name, act)
page.add(state, lambda now, it: it.made(health.summary, now))
page.add(raised, lambda now, it: it.desk.slowly("alerts", health.alerts, {}))
page.add(newest, lambda now, it: it.made(health.errors, now))
page.add(rate, lambda now, it: it.made(health.rates, now))
page.add(context, lambda now, it: health.error(now, it.picked.get("error", "")))
page.add(dead, lambda now, it: it.desk.slowly("letters", health.open_letters, {}) if now.letters else {})
page.add(letter, lambda now, it: {**shown} if shown else None)
page.add(broker, standing)
page.add(living, lambda now, it: it.made(health.processes, now))
page.add(fresh, lambda now, it: it.made(health.ages, now))
page.serve("Health", state, raised, broker, newest, context, rate, dead, letter, living, fresh)

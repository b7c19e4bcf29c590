"""``alphapanda dlq``: letters listed, shown, replayed or discarded by a person."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from alphapanda.console import as_json, listing, open_console
from alphapanda.events import ist
from alphapanda.letters.by_person import by_topic, discarded, facts, replayed, topics
from alphapanda.letters.dead_letters import DeadLetter, Settlement, inspect, letters
from alphapanda.letters.replay import Replay
from alphapanda.logs.redaction import register_settings
from alphapanda.processes import person
from alphapanda.report.text import clean
from alphapanda.settings import Settings
from alphapanda.workspace import Workspace

if TYPE_CHECKING:
    from rich.console import RenderableType

    from alphapanda.buses.redis import RedisBus

REFUSED = 3  # exit code


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``alphapanda dlq``."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    one = actions.add_parser("list", help="letters nobody has dealt with", allow_abbrev=False)
    one.add_argument("--topic", metavar="TOPIC", help="only of this topic: paper.signals.raw")
    one.add_argument("--settled", action="store_true", help="also those that were replayed or discarded")
    two = actions.add_parser("show", help="all that is known of one letter", allow_abbrev=False)
    two.add_argument("id", metavar="ID")
    three = actions.add_parser("replay", help="what would be put back; --yes does it", allow_abbrev=False)
    what = three.add_mutually_exclusive_group(required=True)
    what.add_argument("--topic", metavar="TOPIC", help="all letters of this topic")
    what.add_argument("--id", metavar="ID", action="append", help="this letter; may be repeated")
    what.add_argument("--all", action="store_true", help="all letters of all topics")
    three.add_argument("--yes", action="store_true", help="do it")
    four = actions.add_parser("discard", help="nothing is to be done about a letter", allow_abbrev=False)
    four.add_argument("id", metavar="ID")
    four.add_argument("--reason", required=True, help="why")
    for action in (one, two, three, four):
        action.add_argument("--json", action="store_true", help="print JSON")


class Answer(NamedTuple):
    """What a person is shown, what a program is told, and the exit code."""

    shown: RenderableType
    told: Any
    code: int = 0


def command(options: argparse.Namespace) -> int:
    """Run ``alphapanda dlq``; returns the exit code: REFUSED if a letter was refused its replay."""
    workspace, settings = Workspace.find(), Settings.load()
    register_settings(settings)
    answer = asyncio.run(_command(options, workspace, settings))
    if options.json:
        sys.stdout.write(as_json(answer.told))
    else:
        open_console().print(answer.shown, soft_wrap=True, highlight=False, markup=False)
    return answer.code


async def _command(options: argparse.Namespace, workspace: Workspace, settings: Settings) -> Answer:
    from alphapanda.buses.redis import RedisBus
    from alphapanda.server import address

    async with RedisBus.of(address(workspace, settings), settings.redis) as bus:
        if options.action == "list":
            return await _list(bus, [options.topic] if options.topic else await topics(bus), options.settled)
        if options.action == "show":
            return _letter(*await inspect(bus, options.id))
        if options.action == "discard":
            done = await discarded(workspace, bus, options.id, reason=options.reason, by=person())
            return Answer(f"{done.id}: {done.done}", done)
        wanted = by_topic(options.id or ())
        for topic in () if wanted else await topics(bus) if options.all else [options.topic]:
            wanted[topic] = None
        return _outcome(await replayed(workspace, bus, wanted, by=person(), dry_run=not options.yes))


def _when(at: int) -> str:
    return f"{ist(at):%Y-%m-%d %H:%M:%S}"


async def _list(bus: RedisBus, names_of: Iterable[str], settled: bool) -> Answer:
    names = "id", "type", "error", "message", "attempts", "last", "state"
    rows: list[tuple[str, ...]] = []
    for topic in names_of:
        found, done = await letters(bus, topic)
        for letter in found.values():
            state = done[letter.id].done if letter.id in done else "open"
            kind = letter.envelope.type if letter.envelope else "unknown"
            if settled or state == "open":
                at = _when(letter.last)
                rows.append((letter.id, kind, letter.error, letter.message, str(letter.attempts), at, state))
    told = [dict(zip(names, row, strict=True)) for row in rows]
    return Answer(listing(names, rows) if rows else "no dead letters", told)


def _letter(letter: DeadLetter, done: Settlement | None) -> Answer:
    known = facts(letter, done)
    told = known | {"first": _when(letter.first), "last": _when(letter.last)}
    told["body"] = msgspec.json.encode(known["body"]).decode()
    lines = [f"{name:<16}{value}" for name, value in told.items() if name != "stack"]
    return Answer(clean("\n".join([*lines, "", letter.stack])), known)


def _outcome(done: Replay) -> Answer:
    good, bad = len(done.decisions) - done.refused, done.refused
    lines = [f"{d.id}  {d.type}  {f'refused: {d.refusal}' if d.refusal else 'ok'}" for d in done.decisions]
    lines.append(f"{good} would be replayed; add --yes to do it" if done.dry else f"{good} replayed")
    if bad:
        reasons = Counter(f"{one.refusal} [{one.code}]" for one in done.decisions if one.refusal)
        lines.append(f"{bad} refused: " + ", ".join(f"{count} {reason}" for reason, count in reasons.items()))
        lines.append(
            "fix: see why with `alphapanda dlq show ID`; let the strategy decide again on a new tick"
        )
    told = {"dry": done.dry, "counts": done.counts, "decisions": done.decisions}
    return Answer(clean("\n".join(lines)), told, REFUSED if bad else 0)

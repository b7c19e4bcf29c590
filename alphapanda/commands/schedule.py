"""``alphapanda schedule``: notebooks that run by themselves."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from alphapanda.commands.kill_switch import who
from alphapanda.console import as_json, listing, open_console, say, show
from alphapanda.errors import InfrastructureError, ValidationError
from alphapanda.events import ist
from alphapanda.logs import audited
from alphapanda.logs.redaction import register_settings
from alphapanda.schedules import NAME, Run, Schedule, Schedules, When
from alphapanda.schedules import source as sources
from alphapanda.schedules.units import cron_line, systemd_unit
from alphapanda.settings import Settings
from alphapanda.times import parse_interval
from alphapanda.watch import offer
from alphapanda.workspace import Workspace

OK, FAILED = 0, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See ``alphapanda schedule --help``."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_arguments(actions.add_parser("add", help="run a notebook at exchange time", allow_abbrev=False))
    two = actions.add_parser("list", help="what is scheduled, and when it is due", allow_abbrev=False)
    three = actions.add_parser("history", help="what became of each run", allow_abbrev=False)
    three.add_argument("name", nargs="?", metavar="NAME", help="of one schedule; none: of all")
    three.add_argument("-n", type=int, default=20, metavar="N", help="so many of the newest (20)")
    for action in (two, three):
        action.add_argument("--json", action="store_true", help="print JSON")
    for verb, what in (
        ("run", "run it now, and wait"),
        ("pause", "not due until it is resumed"),
        ("resume", "due again"),
        ("remove", "forget it; its history stays"),
    ):
        actions.add_parser(verb, help=what, allow_abbrev=False).add_argument("name", metavar="NAME")
    actions.add_parser("unit", help="print a systemd unit and cron lines that keep this running")


def _add_arguments(one: argparse.ArgumentParser) -> None:
    one.add_argument("notebook", help="a notebook in the settings' folder (SCHEDULE__FOLDER)")
    one.add_argument("--name", help="how the schedule is called; else as the notebook")
    when = one.add_mutually_exclusive_group(required=True)
    when.add_argument("--at", default="", metavar="TIME", help="09:10, open-5m or close+10m, in IST")
    when.add_argument("--every", default="", metavar="SPAN", help="30m; see --from and --to")
    when.add_argument("--cron", default="", metavar="LINE", help='"*/5 9-15 * * mon-fri", in IST')
    one.add_argument("--from", dest="start", default="", metavar="TIME", help="with --every: 09:15 (open)")
    one.add_argument("--to", dest="end", default="", metavar="TIME", help="with --every: 15:30 (close)")
    one.add_argument("--exchange", default="NSE", help="whose trading days and sessions: NSE, MCX, ... (NSE)")
    one.add_argument("--any-day", action="store_true", help="also on days without a session")
    one.add_argument("--once", action="store_true", help="the next time only")
    one.add_argument(
        "-p", "--param", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the notebook"
    )
    one.add_argument("--timeout", type=_seconds, metavar="SPAN", help="one run may take so long: 10m")
    one.add_argument(
        "--retries", type=int, default=0, metavar="N", help="a failed run is repeated so often (0)"
    )
    one.add_argument(
        "--backoff", type=_seconds, default=60.0, metavar="SPAN", help="before the first retry (1m)"
    )
    one.add_argument(
        "--grace", type=_seconds, default=300.0, metavar="SPAN", help="a run may begin so late (5m)"
    )


def run(options: argparse.Namespace) -> int:
    """Run one action; returns the exit code: 1 if a run did not end well."""
    workspace, settings = Workspace.find(), Settings.load()
    register_settings(settings)
    schedules = Schedules(workspace, settings.schedule)
    match options.action:
        case "add":
            return _add(options, workspace, schedules)
        case "list":
            return _list(options, schedules)
        case "history":
            return _history(options, schedules)
        case "run":
            ran = schedules.run(options.name)
            _note(workspace, options, outcome=ran.state)
            return _ran(ran)
        case "unit":
            sys.stdout.write(f"{systemd_unit(workspace)}\n{cron_line(workspace)}")
        case "resume":
            due = schedules.resume(options.name).due
            _note(workspace, options)
            _say(f"{options.name} is due {_when(due)}")
        case "pause":
            schedules.pause(options.name)
            _note(workspace, options)
            _say(f"{options.name} is paused; `alphapanda schedule resume {options.name}`")
        case _:
            schedules.remove(options.name)
            _note(workspace, options)
            _say(f"{options.name} is removed; what it left stays under .alphapanda/schedules/{options.name}")
    return OK


def _note(workspace: Workspace, options: argparse.Namespace, **facts: str) -> None:
    """What a person did, on the audit channel; what was given to a notebook is in the schedule's own record."""
    audited(workspace, f"schedule.{options.action}", name=options.name, by=who(), **facts)


def _add(options: argparse.Namespace, workspace: Workspace, schedules: Schedules) -> int:
    when = When(
        at=options.at, every=options.every, start=options.start, end=options.end, cron=options.cron,
        exchange=options.exchange, any_day=options.any_day,
    )  # fmt: skip
    read = schedules.source(options.notebook)
    made = schedules.add(
        options.name or _name(read.path),
        options.notebook,
        when,
        sources.typed(read, options.param),
        timeout=options.timeout,
        retries=options.retries,
        backoff=options.backoff,
        grace=options.grace,
        once=options.once,
    )
    options.name = made.name
    _note(workspace, options, notebook=made.notebook, when=str(made.when))
    _say(f"{made.name}: {made.notebook}, {made.when}{', once' if made.once else ''}; due {_when(made.due)}")
    try:
        kept = offer(workspace)
    except InfrastructureError as error:
        _say(f"  the hub cannot be told ({error.message}): `alphapanda stop`, then `alphapanda up`")
        return FAILED
    if not kept:
        _say("  no hub runs here, so nothing is started yet: alphapanda up --detach")
    return OK


def _list(options: argparse.Namespace, schedules: Schedules) -> int:
    found, newest = schedules.list(), schedules.newest()
    if options.json:
        sys.stdout.write(as_json(found))
        return OK
    rows = [
        (one.name, one.notebook, str(one.when), _due(one), _outcome(newest.get(one.name))) for one in found
    ]
    if not rows:
        _say("nothing is scheduled; such as: alphapanda schedule add 50_schedule.ipynb --at open-5m")
        return OK
    show(open_console(), listing(("name", "notebook", "when", "due", "last"), rows))
    for one in found:
        if one.trouble:
            _say(f"{one.name} is not due any more: {one.trouble}")
    return OK


def _history(options: argparse.Namespace, schedules: Schedules) -> int:
    found = schedules.history(options.name, max(options.n, 1))
    if options.json:
        sys.stdout.write(as_json(found))
        return OK
    names = "run", "schedule", "due", "try", "outcome", "took", "by", "why", "notebook"
    rows = [
        (
            *(str(one.id), one.schedule, _when(one.due), str(one.attempt), one.state),
            *(f"{one.seconds:.1f} s" if one.seconds else "", one.by, _why(one), one.path),
        )
        for one in found
    ]
    if rows:
        show(open_console(), listing(names, rows))
    else:
        _say("nothing ran yet")
    return OK


def _ran(done: Run) -> int:
    why = _why(done)
    _say(f"{done.schedule}: {done.state} after {done.seconds:.1f} s{why and ': '}{why}")
    if done.path:
        _say(f"  {done.path}")
    return OK if done.state == "ok" else FAILED


def _why(run: Run) -> str:
    where = f"cell {run.cell}, " if run.cell else ""
    said = f"{where}{run.error}: {run.message}" if run.error else run.message
    more = f" (and {run.late} earlier)" if run.late else ""
    return f"{said[:120]}{more}"


def _outcome(run: Run | None) -> str:
    return "" if run is None else f"{run.state} {_when(run.ended or run.due)}"


def _due(schedule: Schedule) -> str:
    if schedule.paused:
        return "paused"
    return _when(schedule.due) if schedule.due else "not known" if schedule.trouble else "done"


def _when(at: int) -> str:
    return f"{ist(at):%a %d %b %H:%M:%S}" if at else ""


def _name(path: Path) -> str:
    name = path.stem.lower().replace(" ", "-")[:40]
    if not NAME.fullmatch(name):
        raise ValidationError(f"{path.stem!r:.60} is no name of a schedule", fix="give one with --name")
    return name


def _seconds(text: str) -> float:
    try:
        return parse_interval(text) / 1e9
    except ValidationError as error:
        raise argparse.ArgumentTypeError(error.message) from None


def _say(text: str) -> None:
    say(open_console(), text)

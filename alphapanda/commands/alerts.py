"""``alphapanda alerts``: what needs a person, and saying that one has seen it."""

from __future__ import annotations

import argparse
import sys

from alphapanda import logs
from alphapanda.alerts import Alert, Alerts
from alphapanda.commands.kill_switch import who
from alphapanda.console import as_json, listing, open_console, say, show
from alphapanda.events import ist
from alphapanda.processes import children
from alphapanda.settings import Settings
from alphapanda.watch import ROLE
from alphapanda.workspace import Workspace

OK, STANDING = 0, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See ``alphapanda alerts --help``."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    one = actions.add_parser("list", help="those that stand (also without a word)", allow_abbrev=False)
    one.add_argument("--all", action="store_true", help="also those that are over")
    one.add_argument("--json", action="store_true", help="print JSON")
    two = actions.add_parser("ack", help="somebody has seen it: it is not told again", allow_abbrev=False)
    two.add_argument("id", metavar="ID")
    two.add_argument("--note", required=True, metavar="TEXT", help="what you make of it")
    parser.set_defaults(all=False, json=False)


def run(options: argparse.Namespace) -> int:
    """Returns the exit code: 1 while something stands that nobody has seen."""
    workspace, settings = Workspace.find(), Settings.load()
    alerts, console = Alerts(workspace), open_console()
    if options.action == "ack":
        logs.configure(workspace, settings, "operator")
        try:
            seen = alerts.acknowledge(options.id, who(), options.note)
        finally:
            logs.close()
        say(console, f"{seen.id} is acknowledged by {seen.by}")
        return OK
    found = alerts.history(200) if options.all else alerts.open()
    if options.json:
        sys.stdout.write(as_json(found))
    elif found:
        names = "id", "level", "what", "why", "since", "told", "state", "fix"
        show(console, listing(names, [_row(one) for one in found]))
    else:
        say(console, "nothing needs anybody")
    if not options.json and not any(one.role == ROLE for one in children(workspace)):
        say(
            console,
            "nobody keeps watch here: `alphapanda schedule add`, or `alphapanda up`, begins it",
        )
    return STANDING if any(one.open and not one.acknowledged for one in found) else OK


def _row(one: Alert) -> tuple[str, ...]:
    state = f"seen by {one.by}: {one.note}" if one.acknowledged else "open"
    state = f"over {_when(one.cleared)}" if one.cleared else state
    return one.id, one.level, one.title, one.message, _when(one.raised), str(one.times), state, one.fix


def _when(at: int) -> str:
    return f"{ist(at):%a %d %b %H:%M:%S}"

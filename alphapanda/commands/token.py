"""``alphapanda token``: who may use the API and the pages, and as what. A token is shown once."""

from __future__ import annotations

import argparse
import sys

from alphapanda import logs
from alphapanda.access import ROLES, Access
from alphapanda.clock import wall_ns
from alphapanda.commands.kill_switch import who
from alphapanda.console import as_json, listing, open_console, say, show
from alphapanda.events import ist
from alphapanda.settings import Settings
from alphapanda.workspace import Workspace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``alphapanda token``."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    one = actions.add_parser("add", help="make one; it is shown now and never again", allow_abbrev=False)
    one.add_argument("name", metavar="NAME", help="whose it is: asha-laptop")
    one.add_argument(
        "--role",
        choices=ROLES,
        default="view",
        help="view: look (the default); operate: act on paper; live: act where money is",
    )
    one.add_argument("--days", type=float, metavar="N", help="it ends after so many days; else never")
    two = actions.add_parser("list", help="who has one", allow_abbrev=False)
    two.add_argument("--json", action="store_true", help="print JSON")
    three = actions.add_parser("revoke", help="it opens nothing any more", allow_abbrev=False)
    three.add_argument("name", metavar="NAME")


def run(options: argparse.Namespace) -> int:
    """Make, list or revoke; returns the exit code."""
    workspace = Workspace.find()
    access = Access(workspace)
    if options.action == "list":
        return _list(access, json=options.json)
    logs.configure(workspace, Settings.load(), "operator")
    audit, console = logs.channel("audit"), open_console(stderr=True)
    if options.action == "add":
        token = access.add(options.name, options.role, options.days)
        audit.warning("token.added", name=options.name, role=options.role, days=options.days, by=who())
        say(console, "send it as `Authorization: Bearer TOKEN`; it cannot be shown again:", "yellow")
        sys.stdout.write(f"{token}\n")  # alone on standard output, for a program that keeps it
    else:
        person = access.revoke(options.name)
        audit.warning("token.revoked", name=person.name, role=person.role, by=who())
        say(console, f"the token of {person.name} opens nothing any more")
    logs.close()
    return 0


def _list(access: Access, *, json: bool) -> int:
    people, now = access.people(), wall_ns()
    if json:
        sys.stdout.write(as_json(people))
        return 0
    rows = [
        (
            one.name,
            one.role,
            f"{ist(one.at):%Y-%m-%d %H:%M}",
            "never" if not one.until else f"{ist(one.until):%Y-%m-%d %H:%M}",
            "ended" if one.until and one.until <= now else "good",
        )
        for one in people
    ]
    if rows:
        show(open_console(), listing(("name", "role", "made", "ends", "state"), rows))
    else:
        say(open_console(), "nobody has a token; make one: alphapanda token add NAME")
    return 0

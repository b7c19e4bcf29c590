"""``alphapanda audit``: who approved what for money, and whether that record is as it was written."""

from __future__ import annotations

import argparse
import datetime as dt
import sys
from typing import TYPE_CHECKING

import msgspec

from alphapanda.console import as_json, listing, open_console, say, show
from alphapanda.events import IST
from alphapanda.money import rupees
from alphapanda.promotions.ledger import Ledger
from alphapanda.settings import Settings
from alphapanda.workspace import Workspace

if TYPE_CHECKING:
    from rich.table import Table

    from alphapanda.promotions.records import Record

OK, FAILED = 0, 1
DIGITS = 10  # of a digest or key, where people read it
NAMES = ("no", "when", "state", "strategy", "where", "module", "run", "who", "capital", "until", "why")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``alphapanda audit``."""
    parser.add_argument("strategy", nargs="?", help="only this one's records")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--verify", action="store_true", help="only say whether anything was changed")
    what.add_argument(
        "--adopt",
        action="store_true",
        help="take the record as it stands: a new workspace, or a backup put back",
    )
    what.add_argument("--json", action="store_true", help="print every field as JSON")


def run(options: argparse.Namespace) -> int:
    """Show the records and verify all of them: 0 if nothing was changed, else 1."""
    console = open_console()
    with Ledger.open(Workspace.find(), Settings.load()) as ledger:
        problems = ledger.verify(adopt=options.adopt)
        readable = not any(one.unreadable for one in problems)
        if options.json:
            records = [msgspec.structs.asdict(one) for one in ledger.history(options.strategy) if readable]
            found = {"records": records, "problems": [one._asdict() for one in problems], "key": ledger.key}
            sys.stdout.write(as_json(found))
            return FAILED if problems else OK
        if readable and not (options.verify or options.adopt):
            show(console, table(ledger.history(options.strategy)))
        for problem in problems:
            say(console, f"{problem.message}\n  fix: {problem.fix}", "bold red")
        if not problems:
            count = len(ledger.history())
            say(
                console, f"{count} records: every hash, signature, module and certificate as written", "green"
            )
        say(console, f"this workspace signs with {ledger.key}", "bright_black")
    return FAILED if problems else OK


def table(records: list[Record]) -> Table:
    """The records in the order they were written; times are Indian."""
    return listing(NAMES, [_row(one) for one in records])


def _row(one: Record) -> tuple[str, ...]:
    state = "asked for" if one.act == "request" else one.state
    return (
        str(one.number),
        moment(one.at),
        f"{state} ({one.refers})" if one.refers else state,
        one.strategy,
        one.namespace or "all",
        one.digest[:DIGITS],
        one.run,
        one.actor,
        rupees(one.capital) if one.capital else "",
        moment(one.expires_at)[5:] if one.expires_at else "",
        one.reason,
    )


def moment(at: int) -> str:
    """A wall time in ns as people here read it."""
    return dt.datetime.fromtimestamp(at // 10**9, IST).strftime("%Y-%m-%d %H:%M")

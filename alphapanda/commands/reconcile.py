"""``alphapanda reconcile``: our books beside the broker's; and a person's word that what is lost has been looked at.

An order that was sent and is nowhere keeps its exposure reserved and its symbol closed to its strategy, for only a
person can find out what became of it: in the broker's app, or on the contract note.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING

from alphapanda.clock import wait_until
from alphapanda.commands.kill_switch import who
from alphapanda.console import open_console, say, show
from alphapanda.errors import ValidationError
from alphapanda.hub.pulse import send_command
from alphapanda.seal import Seal
from alphapanda.server import address
from alphapanda.settings import Settings
from alphapanda.state.client import open_client
from alphapanda.traders.factory import trader_class
from alphapanda.workspace import Workspace, checked

if TYPE_CHECKING:
    from rich.table import Table

    from alphapanda.traders.base import Position

OK, FAILED = 0, 1
SECONDS = 5.0  # the gateway has so long to do it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``alphapanda reconcile``."""
    parser.add_argument("namespace", nargs="?", default="zerodha", help="whose account (zerodha)")
    parser.add_argument(
        "--settled", metavar="REASON", help="all that is shown was looked at and is over, because"
    )
    parser.add_argument("--order", default="", help="only this one was")


def run(options: argparse.Namespace) -> int:
    """Show where the books part: 0 if nothing needs a person, else 1; or settle it."""
    name, settings, console = checked(options.namespace), Settings.load(), open_console()
    kind = trader_class(name)
    lost = kind.lost(settings)
    if options.settled is not None:
        return _settle(name, settings, lost, options)
    for order, what in lost.items():
        say(console, f"nobody knows what became of order {order}: {what}", "bold red")
    rows = kind.positions(settings)
    if rows:
        show(console, table(rows))
    if not lost and all(row.explained for row in rows):
        say(console, "our books and the broker's agree", "green")
        return OK
    say(
        console,
        f'look in the broker\'s app, then: alphapanda reconcile {name} --settled "what you found"',
        "yellow",
    )
    return FAILED


def _settle(name: str, settings: Settings, lost: dict[str, str], options: argparse.Namespace) -> int:
    kind, console = trader_class(name), open_console()
    if not options.settled.strip():
        raise ValidationError(
            "settling needs a reason", fix='--settled "contract note of 20 Nov: not traded"'
        )
    if options.order and options.order not in lost:
        raise ValidationError(
            f"order {options.order} is not lost", fix="leave --order out, or name one that is shown"
        )
    wanted = {options.order} if options.order else set(lost)
    asyncio.run(_tell(name, settings, options.settled, options.order))
    if not wait_until(lambda: not wanted & set(kind.lost(settings)), SECONDS):
        say(console, "the gateway has not done it: see `alphapanda status`, then try again", "bold red")
        return FAILED
    said = f"settled: {', '.join(sorted(wanted))}" if wanted else "told: what differs in positions is others'"
    say(console, said, "green")
    return OK


async def _tell(namespace: str, settings: Settings, reason: str, order: str) -> None:
    workspace = Workspace.find()
    client = open_client(address(workspace, settings), settings.redis)
    try:
        await send_command(client, Seal.of(workspace), namespace, "operator.settle", "", reason, who(), order)
    finally:
        await client.aclose()


def table(rows: list[Position]) -> Table:
    """Positions, those that differ in red."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, padding=(0, 2))
    made.add_column("position")
    for name in ("broker", "our trades", "others'"):
        made.add_column(name, justify="right")
    for row in rows:
        style = "" if row.explained else "bold red"
        cells = (f"{row.symbol} {row.product}", str(row.shown), str(row.ours), str(row.theirs))
        made.add_row(*(Text(cell, style) for cell in cells))
    return made

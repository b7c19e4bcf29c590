"""``alphapanda why``: from an order back to the tick that caused it and on to what it cost, with no process running."""

from __future__ import annotations

import argparse
from pathlib import Path

from alphapanda.console import open_console, say, show
from alphapanda.hindsight.past import run_of_order, spec_of
from alphapanda.hindsight.recount import of_run
from alphapanda.logs.redaction import register_settings
from alphapanda.settings import Settings
from alphapanda.workspace import Workspace

OK = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``alphapanda why``."""
    parser.add_argument("order", metavar="ORDER", help="its id, or the broker's, or the tag it was sent with")
    parser.add_argument(
        "--run", default="", help="whose order: needed where several runs took the same decision"
    )
    parser.add_argument(
        "--png", type=Path, metavar="FILE", help="also write the picture of the price around it"
    )


def run(options: argparse.Namespace) -> int:
    """Show the chain of one order."""
    workspace, settings, console = Workspace.find(), Settings.load(), open_console()
    register_settings(settings)
    if options.run:
        spec, order = spec_of(workspace, options.run), options.order
    else:
        spec, order = run_of_order(workspace, options.order)
    found = of_run(workspace, settings, spec, order)
    say(console, f"{spec.run} of {spec.namespace}: {spec.name}", "bold")
    show(console, found)
    if options.png is not None:
        from alphapanda.report.moments import write_png

        write_png(found.plot(), options.png)
        say(console, f"the picture is {options.png}")
    return OK

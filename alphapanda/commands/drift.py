"""``alphapanda drift``: two runs of one strategy beside each other, decision by decision, with no process running."""

from __future__ import annotations

import argparse
from pathlib import Path

from alphapanda.console import open_console, say, show
from alphapanda.hindsight.beside import drift
from alphapanda.logs.redaction import register_settings
from alphapanda.settings import Settings
from alphapanda.workspace import Workspace

OK, FAILED = 0, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``alphapanda drift``."""
    parser.add_argument("first", metavar="RUN", help="such as the one on paper")
    parser.add_argument("second", metavar="RUN", help="such as the one at the broker")
    parser.add_argument(
        "--png", type=Path, metavar="FILE", help="also write the picture of the two profit curves"
    )


def run(options: argparse.Namespace) -> int:
    """Show the table: 0 if both took the same decisions as far as both were on the tape, else 1."""
    settings, console = Settings.load(), open_console()
    register_settings(settings)
    found = drift(options.first, options.second, workspace=Workspace.find(), settings=settings)
    show(console, found)
    if options.png is not None:
        from alphapanda.report.moments import write_png

        write_png(found.plot(), options.png)
        say(console, f"the picture is {options.png}")
    return OK if found.totals.alike == found.totals.decisions else FAILED

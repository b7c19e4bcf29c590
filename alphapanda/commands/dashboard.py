"""``alphapanda dashboard``: open a page in the browser, logged in."""

from __future__ import annotations

import argparse
import sys
import webbrowser

from alphapanda.console import open_console, say
from alphapanda.entry import PAGES, door, entry
from alphapanda.workspace import Workspace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``alphapanda dashboard``."""
    parser.add_argument(
        "page", nargs="?", choices=PAGES, default=PAGES[0], help="which one; the portfolio if none is named"
    )
    parser.add_argument(
        "--role", choices=("view", "operate", "live"), default="live", help="what it lets you do"
    )
    parser.add_argument("--no-browser", action="store_true", help="only print the address")


def run(options: argparse.Namespace) -> int:
    """Open it; returns the exit code."""
    workspace = Workspace.find()
    way = entry(workspace, options.page, options.role)
    sys.stdout.write(f"{way.address}\n")
    file = door(workspace, way)
    if options.no_browser or not webbrowser.open(file):
        console = open_console(stderr=True)
        say(console, "that page asks for a token: alphapanda token add NAME --role operate", "bright_black")
        say(console, f"within a minute, this file opens it without one: {file}", "bright_black")
    return 0

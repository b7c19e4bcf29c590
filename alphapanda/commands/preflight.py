"""``alphapanda preflight``: everything a day with money needs, row by row, with how to mend what is missing."""

from __future__ import annotations

import argparse
import asyncio
import sys

from alphapanda.checks import table, worse
from alphapanda.commands.login import NAMESPACES
from alphapanda.console import as_json, open_console, say, show
from alphapanda.logs.redaction import register_settings
from alphapanda.settings import Settings
from alphapanda.workspace import Workspace
from alphapanda.zerodha.preflight import preflight

OK, FAILED = 0, 1
LAST = {
    "ok": ("ready", "green"),
    "warning": ("ready, if the warnings are as you want them", "yellow"),
    "failed": ("not ready: mend what failed first", "bold red"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``alphapanda preflight``."""
    parser.add_argument("--namespace", choices=NAMESPACES, default="zerodha", help="whose account (zerodha)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Look at everything: 0 if nothing failed, else 1."""
    settings = Settings.load()
    register_settings(settings)
    checks = asyncio.run(preflight(settings, Workspace.find(), options.namespace))
    if options.json:
        sys.stdout.write(as_json(checks))
    else:
        console = open_console()
        show(console, table(checks))
        say(console, *LAST[worse(checks)])
    return FAILED if worse(checks) == "failed" else OK

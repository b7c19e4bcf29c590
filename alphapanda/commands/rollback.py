"""``alphapanda rollback STRATEGY``: the version that was live before, in one step."""

from __future__ import annotations

import argparse

from alphapanda.console import open_console, say
from alphapanda.hub.client import ensure_hub
from alphapanda.promotions.begin import begin, roll_back, said
from alphapanda.settings import Settings
from alphapanda.workspace import Workspace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``alphapanda rollback``."""
    parser.add_argument("strategy", help="its name, as `alphapanda audit` shows it")
    parser.add_argument("--to", default="zerodha", metavar="NAMESPACE", help="where it is live (zerodha)")
    parser.add_argument("--why", required=True, help="kept with the approval")


def run(options: argparse.Namespace) -> int:
    """Arm the version before, and start it in the place of the one that is live."""
    workspace, settings = Workspace.find(), Settings.load()
    hub = ensure_hub(workspace)
    record, certificate = roll_back(hub, settings, options.strategy, options.to, options.why)
    answer = begin(hub, settings, record, certificate)
    say(open_console(), f"{said(answer, record)}: class {certificate.digest[:16]}", "green")
    return 0

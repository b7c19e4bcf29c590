"""``alphapanda rollback STRATEGY``: the version that was live before, in one step."""

from __future__ import annotations

import argparse

from alphapanda.console import open_console, say
from alphapanda.hub.client import ensure_hub
from alphapanda.promotions.promote import question, refuse_waiting, roll_back
from alphapanda.settings import Settings
from alphapanda.workspace import Workspace

START_SECONDS = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``alphapanda rollback``."""
    parser.add_argument("strategy", help="its name, as `alphapanda audit` shows it")
    parser.add_argument("--to", default="zerodha", metavar="NAMESPACE", help="where it is live (zerodha)")
    parser.add_argument("--why", required=True, help="kept with the approval")


def run(options: argparse.Namespace) -> int:
    """Arm the version before, and start it in the place of the one that is live."""
    workspace, settings = Workspace.find(), Settings.load()
    record, certificate = roll_back(workspace, settings, options.strategy, options.to, options.why)
    refuse_waiting(record)
    answer = ensure_hub(workspace).ask(question(certificate, options.to, record.capital), START_SECONDS)
    text = f"{answer['run']} of class {certificate.digest[:16]} is live by record {record.number}"
    say(open_console(), f"{text}; positions of the run before stay with that one", "green")
    return 0

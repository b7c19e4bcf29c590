"""The command line, with a hub of fake children: ``cli.py ARGUMENTS``; a first "real" gives it a real server."""

import sys
from pathlib import Path

from alphapanda.commands.cli import main
from alphapanda.hub import client as hub_client
from alphapanda.workspace import Workspace

given = sys.argv[1:]
more = given[:1] if given[:1] == ["real"] else []


def fake(workspace: Workspace) -> list[str]:
    return [sys.executable, str(Path(__file__).with_name("hub.py")), str(workspace.root), *more]


hub_client._command = fake
sys.exit(main(given[len(more) :]))

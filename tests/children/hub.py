"""A hub with fake children, as a process to kill: ``hub.py ROOT [real]``. "real": with a real server."""

import asyncio
import os
import sys
from pathlib import Path

import msgspec

from alphapanda import logs
from alphapanda.errors import AlphaPandaException, RetryPolicy
from alphapanda.hub.crew import FOLDER, NAMESPACE, OFFERED, POLICIES, WORKSPACE
from alphapanda.hub.hub import Hub
from alphapanda.server import Server
from alphapanda.settings import Settings
from alphapanda.workspace import Workspace

CHILD = (sys.executable, "-S", "-E", str(Path(__file__).with_name("child.py")))
LINES = {
    "feed": (*CHILD, "feed", WORKSPACE),
    "gateway": (*CHILD, "gateway", WORKSPACE, NAMESPACE),
    "runner": (*CHILD, "runner", FOLDER),
    **{role: (*CHILD, role, WORKSPACE) for role in OFFERED},
}
QUICK = RetryPolicy(delay_first=0.02, delay_max=0.2)
IMPATIENT = {**POLICIES, "runner": msgspec.structs.replace(POLICIES["runner"], retry=QUICK)}


class NoServer:
    """Nobody answers; nothing here asks."""

    pid = None
    alive = True

    def __init__(self, workspace: Workspace) -> None:
        pass

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass


def fake_hub(workspace: Workspace, *, real: bool = False) -> Hub:
    """A hub whose children are fakes."""
    return Hub(workspace, Settings(), lines=LINES, policies=IMPATIENT, server=Server if real else NoServer)


if __name__ == "__main__":
    workspace = Workspace.find(sys.argv[1])
    logs.configure(workspace, Settings(), "hub")
    try:
        asyncio.run(fake_hub(workspace, real="real" in sys.argv).run())
    except AlphaPandaException as error:
        sys.stderr.write(f"{error}\n")
        os._exit(75 if error.code == "E_HUB_RUNS" else 1)
    os._exit(0)

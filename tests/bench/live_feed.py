"""The feed with frames as small as a live one's, though it plays as fast as readers follow: ``feed WORKSPACE``; and the
hub that starts it in the place of the real one: ``hub WORKSPACE``. All but the number of rows is the product's."""

from __future__ import annotations

import asyncio
import os
import sys

from alphapanda import logs
from alphapanda.feeds import __main__ as feeds
from alphapanda.feeds import pump, sequencer
from alphapanda.hub.crew import LINES, WORKSPACE
from alphapanda.hub.hub import Hub
from alphapanda.settings import Settings
from alphapanda.workspace import Workspace

FRAME_ROWS = "BENCH_FRAME_ROWS"


def feed(root: str) -> int:
    """The feed, its frames cut smaller."""
    pump.ROWS_MAX = sequencer.ROWS_MAX = int(os.environ[FRAME_ROWS])
    return feeds.main([root])


def hub(root: str) -> int:
    """The hub with this feed."""
    workspace = Workspace.find(root)
    os.chdir(workspace.root)
    settings = Settings.load()
    logs.configure(workspace, settings, "hub")
    lines = {**LINES, "feed": (sys.executable, "-m", "tests.bench.live_feed", "feed", WORKSPACE)}
    asyncio.run(Hub(workspace, settings, lines=lines).run())
    return 0


if __name__ == "__main__":
    code = {"feed": feed, "hub": hub}[sys.argv[1]](sys.argv[2])
    logs.close()
    os._exit(code)  # as the hub does: a thread that waits for a process must not keep us

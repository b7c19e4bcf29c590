"""``python -m alphapanda.feeds WORKSPACE``: the feed process. With ``--seal DAY ...``: seal days of its log and end."""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from alphapanda.child import Child, lived
from alphapanda.workspace import Workspace


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m alphapanda.feeds")
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--seal", nargs="+", type=dt.date.fromisoformat, metavar="DAY")
    parser.add_argument("--drop", action="store_true", help="then remove the sealed days' logs")
    given = parser.parse_args(arguments)
    workspace = Workspace(given.workspace)
    if given.seal:
        return lived("feed", lambda: _seal(workspace, given.seal, given.drop))
    return lived("feed", lambda: asyncio.run(_serve(workspace)))


def _seal(workspace: Workspace, days: Sequence[dt.date], drop: bool) -> None:
    from alphapanda.feeds import recorder
    from alphapanda.tapes import dayevents

    os.nice(10)  # ticks come first
    for day in days:
        path = recorder.seal(workspace.tapes, day)
        dayevents.keep(workspace.tapes, day)
        if drop:
            recorder.drop(workspace.tapes, day)
        sys.stdout.write(f"{path or f'{day}: no ticks'}\n")


async def _serve(workspace: Workspace) -> None:
    from alphapanda.feeds.process import Feed

    child = Child(workspace, "feed")
    async with child.bus() as bus:  # one that waits for nobody: ticks are kept while the server is away
        feed = Feed(workspace, child.settings, bus, bus.client)
        running = asyncio.create_task(feed.run())
        beating = asyncio.create_task(child.beat(bus, feed.health))
        waiting = asyncio.create_task(child.ended.wait())
        child.ready()
        await asyncio.wait((running, beating, waiting), return_when=asyncio.FIRST_COMPLETED)
        child.ended.set()  # a client that connects may swallow the cancel: the heartbeat looks at this, too
        for task in (running, beating, waiting):
            task.cancel()
        await asyncio.wait((running, beating, waiting))
        for task in (running, beating):
            if not task.cancelled():
                task.result()


if __name__ == "__main__":
    sys.exit(main())

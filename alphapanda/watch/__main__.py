"""``python -m alphapanda.watch WORKSPACE``: the process that starts scheduled notebooks and raises alerts."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from alphapanda.child import Child, lived, own_workspace
from alphapanda.watch import ROLE
from alphapanda.workspace import Workspace


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    workspace = own_workspace("watch", arguments)
    return lived("watch", lambda: asyncio.run(_serve(workspace)))


async def _serve(workspace: Workspace) -> None:
    from alphapanda.watch.rounds import Rounds

    child = Child(workspace, ROLE)
    rounds = Rounds(workspace, child.settings)
    async with child.bus() as bus:  # which waits for nobody: schedules need no server
        tasks = [
            asyncio.create_task(one)
            for one in (rounds.run(), child.beat(bus, rounds.health), child.ended.wait())
        ]
        child.ready()
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            child.ended.set()
            await asyncio.to_thread(rounds.close)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()


if __name__ == "__main__":
    sys.exit(main())

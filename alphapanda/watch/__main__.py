"""``python -m alphapanda.watch WORKSPACE``: the process that starts scheduled notebooks and raises alerts."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from alphapanda import logs
from alphapanda.errors import AlphaPandaException, PermanentError
from alphapanda.processes import CONFIGURATION
from alphapanda.watch import ROLE
from alphapanda.workspace import Workspace

FAULT = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m alphapanda.watch")
    parser.add_argument("workspace", type=Path)
    given = parser.parse_args(arguments)
    try:
        asyncio.run(_serve(Workspace(given.workspace)))
    except AlphaPandaException as error:
        logs.channel("error").error("watch.failed", error=error.message, fix=error.fix, code=error.code)
        sys.stderr.write(
            f"{error.message} [{error.code}]{error.fix and '; '}{error.fix}\n"
        )  # the hub shows a line
        return CONFIGURATION if isinstance(error, PermanentError) else FAULT
    except Exception as error:  # noqa: BLE001 - the process's last stop: the hub reads the line and starts another
        logs.channel("error").exception("watch.failed")
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return FAULT
    return 0


async def _serve(workspace: Workspace) -> None:
    from alphapanda.child import Child
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

"""``python -m alphapanda.panes WORKSPACE``: the pages, as a child of the hub."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from alphapanda import logs
from alphapanda.errors import AlphaPandaException, PermanentError
from alphapanda.processes import CONFIGURATION
from alphapanda.workspace import Workspace

FAULT = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m alphapanda.panes")
    parser.add_argument("workspace", type=Path)
    workspace = Workspace(parser.parse_args(arguments).workspace)
    os.environ["BOKEH_RESOURCES"] = "server"  # nothing from a network; read when bokeh is imported
    try:
        asyncio.run(_serve(workspace))
    except AlphaPandaException as error:
        logs.channel("error").error("dashboards.failed", error=error.message, fix=error.fix, code=error.code)
        sys.stderr.write(f"{error.message} [{error.code}]{error.fix and '; '}{error.fix}\n")
        return CONFIGURATION if isinstance(error, PermanentError) else FAULT
    except Exception as error:  # noqa: BLE001 - the process's last stop: the hub reads the line and starts another
        logs.channel("error").exception("dashboards.failed")
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return FAULT
    return 0


async def _serve(workspace: Workspace) -> None:
    from alphapanda.child import Child

    child = Child(workspace, "dashboards")
    from alphapanda.panes.server import Pages

    pages = Pages(workspace, child.settings)
    try:
        async with child.bus() as bus:
            child.ready()
            beating = asyncio.create_task(child.beat(bus, pages.health))
            await child.ended.wait()
            beating.cancel()
            await asyncio.wait((beating,))
    finally:
        await pages.close()


if __name__ == "__main__":
    sys.exit(main())

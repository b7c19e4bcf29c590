"""``python -m alphapanda.panes WORKSPACE``: the pages, as a child of the hub."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence

from alphapanda.child import Child, lived, own_workspace
from alphapanda.workspace import Workspace


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    workspace = own_workspace("panes", arguments)
    os.environ["BOKEH_RESOURCES"] = "server"  # nothing from a network; read when bokeh is imported
    return lived("dashboards", lambda: asyncio.run(_serve(workspace)))


async def _serve(workspace: Workspace) -> None:
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

"""``python -m alphapanda.api WORKSPACE``: the API's process, a child of the hub."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from alphapanda.access import Access
from alphapanda.child import Child, lived, own_workspace
from alphapanda.reach import check_reach
from alphapanda.workspace import Workspace


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    workspace = own_workspace("api", arguments)
    return lived("api", lambda: asyncio.run(_serve(workspace)))


async def _serve(workspace: Workspace) -> None:
    from alphapanda.api.app import make_service
    from alphapanda.api.platform import Platform
    from alphapanda.api.serving import address_of, listening, serve
    from alphapanda.overview import Reader

    child, access = Child(workspace, "api"), Access(workspace)
    api = child.settings.api
    check_reach("API", api, access)
    async with (
        child.bus() as bus
    ):  # one that waits for nobody: what was read last is told while the server is away
        reader = Reader(workspace, child.settings)
        platform = Platform(workspace, child.settings, reader, access, bus)
        service = make_service(platform)
        line = listening(api.host, api.port)
        url = address_of(line)
        reader.start()
        beating = asyncio.create_task(child.beat(bus, lambda: {"state": "serving", "url": url}))
        try:
            await serve(service, line, child.ready, child.ended)
        finally:
            child.ended.set()
            beating.cancel()
            await asyncio.wait((beating,))
            platform.close()
            reader.close()


if __name__ == "__main__":
    sys.exit(main())

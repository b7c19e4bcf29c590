"""What must happen though nobody looks: scheduled notebooks start, and what needs a person becomes an alert."""

from __future__ import annotations

import contextlib

import msgspec

from alphapanda.errors import InfrastructureError
from alphapanda.hub.client import HubClient
from alphapanda.workspace import Workspace, replace_file

ROLE = "watch"


def offer(workspace: Workspace) -> bool:
    """Have the hub keep watch from now on; False if none runs, then the next one will."""
    try:
        HubClient(workspace).ask({"do": "offer", "roles": [ROLE]})
    except InfrastructureError as error:
        if error.code != "E_NO_HUB":
            raise
    else:
        return True
    kept: list[str] = []
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        kept = msgspec.json.decode(workspace.offered.read_bytes(), type=list[str])
    if ROLE not in kept:
        replace_file(workspace.offered, msgspec.json.encode([*kept, ROLE]))
    return False

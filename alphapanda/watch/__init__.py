"""What must happen though nobody looks: scheduled notebooks start, and what needs a person becomes an alert."""

from __future__ import annotations

from alphapanda.errors import InfrastructureError
from alphapanda.hub.client import HubClient
from alphapanda.workspace import Workspace

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
    workspace.offer([*(role for role in workspace.offered() if role != ROLE), ROLE])
    return False

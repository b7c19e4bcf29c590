"""``ap.connect()``: starts the hub if there is none, and opens a session with it.

The hub takes seconds to start; what a session needs is imported meanwhile. So this module imports next to nothing.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import threading
from typing import TYPE_CHECKING

from alphapanda.hub.client import ensure_hub
from alphapanda.notebook import shown
from alphapanda.notebook.waits import blocking, in_thread
from alphapanda.workspace import Workspace, checked

if TYPE_CHECKING:
    from alphapanda.notebook.session import Session

_sessions: dict[tuple[str, str], Session] = {}
_lock = threading.Lock()


async def connect(
    namespace: str = "paper", *, workspace: str | os.PathLike[str] | None = None, quiet: bool = False
) -> Session:
    """The session of this kernel in ``namespace``; the hub is started if none runs, with a line that says so.

    ``workspace`` is a folder: else that of ALPHAPANDA_HOME, else the current one. Connecting again gives the same
    session. Raises ConfigurationError for settings that are wrong, InfrastructureError if the hub does not start.
    """
    place, namespace = Workspace.find(workspace), checked(namespace)
    line, said = shown.Line(quiet), ["connecting"]
    starting = asyncio.create_task(in_thread(ensure_hub, place, said.append))
    importing = asyncio.create_task(in_thread(_import))
    try:
        while not (starting.done() and importing.done()):
            line.tell(said[-1])
            await asyncio.wait({starting, importing}, timeout=0.1)
        hub = starting.result()
        importing.result()
    finally:
        starting.cancel()
        importing.cancel()
    line.tell(f"connected to {namespace}", last=True)
    with _lock:
        known = _sessions.get((str(place.root), namespace))
        if known is None or known.closed:
            from alphapanda.notebook.session import Session

            known = _sessions[str(place.root), namespace] = Session(place, namespace, hub, quiet)
    return known


def connect_sync(
    namespace: str = "paper", *, workspace: str | os.PathLike[str] | None = None, quiet: bool = False
) -> Session:
    """``connect`` for people who dislike await."""
    return blocking(connect, namespace, workspace=workspace, quiet=quiet)


def latest() -> Session | None:
    """The session that was opened last and is open still."""
    with _lock:
        return next((one for one in reversed(_sessions.values()) if not one.closed), None)


def _import() -> None:
    """What will be needed next."""
    importlib.import_module("alphapanda.notebook.session")
    if shown.kernel() is not None:
        try:
            importlib.import_module("alphapanda.notebook.card")
        except ImportError:
            return  # no widgets here: runs show their static card

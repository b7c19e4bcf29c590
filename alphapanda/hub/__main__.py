"""``python -m alphapanda.hub ROOT``."""

from __future__ import annotations

import asyncio
import os
import resource
import sys

from alphapanda import logs
from alphapanda.errors import AlphaPandaException, ConfigurationError
from alphapanda.hub.client import ALREADY_RUNS
from alphapanda.hub.hub import Hub
from alphapanda.processes import CONFIGURATION
from alphapanda.settings import Settings
from alphapanda.workspace import Workspace


def main() -> int:
    """``python -m alphapanda.hub ROOT``: exit code 75 if another hub runs there, 78 if the settings are wrong."""
    workspace = Workspace.find(sys.argv[1] if len(sys.argv) > 1 else None)
    os.chdir(workspace.root)
    os.umask(0o077)
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(
        resource.RLIMIT_AS, (most, most)
    )  # a scheduled notebook that starts a hub has a lower one
    try:
        settings = Settings.load()
        logs.configure(workspace, settings, "hub")
        asyncio.run(Hub(workspace, settings).run())
    except AlphaPandaException as error:
        sys.stderr.write(f"{error}\n")
        if error.code == "E_HUB_RUNS":
            return ALREADY_RUNS
        return CONFIGURATION if isinstance(error, ConfigurationError) else 1
    return 0


if __name__ == "__main__":
    code = main()
    logs.close()
    sys.stderr.flush()
    os._exit(code)  # nothing is left to do; a thread that waits for a process must not keep us

"""``python -m alphapanda.feeds WORKSPACE``: the feed process. With ``--seal DAY ...``: seal days of its log and end."""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from alphapanda import logs
from alphapanda.errors import AlphaPandaException, PermanentError
from alphapanda.workspace import Workspace

CONFIGURATION = 78  # exit code: starting it again would change nothing
FAULT = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m alphapanda.feeds")
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--seal", nargs="+", type=dt.date.fromisoformat, metavar="DAY")
    parser.add_argument("--drop", action="store_true", help="then remove the sealed days' logs")
    given = parser.parse_args(arguments)
    workspace = Workspace(given.workspace)
    try:
        if given.seal:
            _seal(workspace, given.seal, given.drop)
        else:
            asyncio.run(_serve(workspace))
    except AlphaPandaException as error:
        logs.channel("error").error("feed.failed", error=error.message, fix=error.fix, code=error.code)
        sys.stderr.write(f"{error}\n")
        return CONFIGURATION if isinstance(error, PermanentError) else FAULT
    except Exception as error:  # noqa: BLE001 - the process's last stop: the hub reads the line and starts another
        logs.channel("error").exception("feed.failed")
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return FAULT
    return 0


def _seal(workspace: Workspace, days: Sequence[dt.date], drop: bool) -> None:
    from alphapanda.feeds import recorder

    os.nice(10)  # ticks come first
    for day in days:
        path = recorder.seal(workspace.tapes, day)
        if drop:
            recorder.drop(workspace.tapes, day)
        sys.stdout.write(f"{path or f'{day}: no ticks'}\n")


async def _serve(workspace: Workspace) -> None:
    from alphapanda.buses.redis import RedisBus
    from alphapanda.feeds.process import Feed
    from alphapanda.server import address
    from alphapanda.settings import Settings

    os.chdir(workspace.root)  # as the settings' relative paths are meant
    settings = Settings.load()
    logs.configure(workspace, settings, role="feed")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    threading.Thread(target=_orphaned, args=(loop, stop), daemon=True).start()
    server = settings.redis
    bus = RedisBus.connect(
        address(workspace, settings),
        username=server.username,
        password=server.password.get_secret_value() if server.password else None,
        database=server.database,
        timeout=server.timeout_seconds,
    )
    async with bus:
        feed = asyncio.create_task(Feed(workspace, settings, bus, bus.client).run())
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        waiting = asyncio.create_task(stop.wait())
        await asyncio.wait((feed, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        feed.cancel()
        await asyncio.wait((feed,))
        if not feed.cancelled():
            feed.result()


def _orphaned(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """stdin ends when the parent has died, however it did."""
    while os.read(0, 4096):
        pass
    loop.call_soon_threadsafe(stop.set)


if __name__ == "__main__":
    sys.exit(main())

"""What ``alphapanda doctor`` looks at for live trading: the clock, the disk, the server, the hub, the kernel."""

from __future__ import annotations

import asyncio
import ctypes
import shutil
import stat
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from alphapanda.checks import Check, State
from alphapanda.errors import ConfigurationError, InfrastructureError
from alphapanda.hub.client import HubClient
from alphapanda.processes import children, end_processes
from alphapanda.workspace import NAME, Workspace

if TYPE_CHECKING:
    from alphapanda.settings import Settings

# GB: a day of ticks takes a few hundred MB; without a journal nothing is traded
DISK_LOW, DISK_FULL = 2.0, 0.2
CLOCK_OFF = 0.5  # seconds the system's clock may err by its own account
KERNELS = ("6.31", "7.3", "7.4")  # ipykernel versions that Stop and interrupt are tested with


def installed(name: str) -> str | None:
    """The version of a package here; None: it is not here."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def clock() -> Iterator[Check]:
    """The system's own account of its clock: orders carry its stamps, and Kite refuses those that are far off."""
    if sys.platform != "linux":
        yield Check("clock", "warning", "not checked here", "let the system keep its time by NTP")
        return

    class Timex(ctypes.Structure):  # struct timex: only what is read is named
        _fields_ = (
            ("modes", ctypes.c_uint),
            ("offset", ctypes.c_long),
            ("freq", ctypes.c_long),
            ("maxerror", ctypes.c_long),
            ("esterror", ctypes.c_long),
            ("status", ctypes.c_int),
            ("rest", ctypes.c_char * 256),
        )

    seen = Timex()
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(seen))
    error = seen.maxerror / 1e6
    if state in (-1, 5) or error > CLOCK_OFF:
        shown = "not kept by NTP" if state != -1 else "the system does not say how good it is"
        yield Check("clock", "warning", shown, "start chrony, ntpd or systemd-timesyncd before trading live")
    else:
        yield Check("clock", "ok", f"kept by NTP, at most {error * 1000:.0f} ms off")


def disk(workspace: Workspace) -> Iterator[Check]:
    """How much is free."""
    free = shutil.disk_usage(workspace.root).free / 1e9
    state: State = "failed" if free < DISK_FULL else "warning" if free < DISK_LOW else "ok"
    fix = "" if state == "ok" else f"free some: tapes and logs lie in {workspace.root / NAME}"
    yield Check("disk", state, f"{free:,.1f} GB free", fix)


def server(workspace: Workspace) -> Iterator[Check]:
    """Where it is, and whether what it acknowledges is kept."""
    try:
        from alphapanda.server import address, embedded, find_binary
        from alphapanda.settings import Settings
    except ImportError as error:
        yield Check("server", "warning", f"not installed: {error.name}", "pip install 'alphapanda[live]'")
        return
    try:
        settings = Settings.load()
    except ConfigurationError:
        return  # said above
    where = address(workspace, settings)
    if embedded(settings):
        try:
            binary = find_binary()
        except InfrastructureError as error:
            yield Check("server", "warning", error.message, error.fix)
            return
        yield Check("server", "ok", f"valkey or redis {binary.version}: {binary.path}")
    else:
        yield Check("server", "ok", f"by the settings: {where}")
    if not embedded(settings) or Path(where).exists():
        yield asyncio.run(_durability(where, settings))


async def _durability(where: str | Path, settings: Settings) -> Check:
    """Whether the server that runs keeps what it acknowledged."""
    from alphapanda.server import inspect
    from alphapanda.state.client import open_client

    client = open_client(where, settings.redis)
    try:
        found = await inspect(client)
    except InfrastructureError as error:
        return Check("server keeps data", "warning", error.message, error.fix)
    finally:
        await client.aclose()
    shown = f"{found.version}: appendonly {found.appendonly}, {found.appendfsync}, {found.maxmemory_policy}"
    fix = f"{'; '.join(found.faults)}: fine for paper, refused for money" if found.faults else ""
    return Check("server keeps data", "warning" if fix else "ok", shown, fix)


def sockets(workspace: Workspace) -> Iterator[Check]:
    """Whoever can open them can trade: they are their owner's alone."""
    if not (workspace.root / NAME).exists():
        return
    paths = (workspace.home, workspace.runtime, workspace.hub_socket, workspace.server_socket)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in paths if path.exists()}
    open_ones = {path: mode for path, mode in modes.items() if mode & 0o077}
    if open_ones:
        shown = ", ".join(f"{path} is {mode:04o}" for path, mode in open_ones.items())
        yield Check(
            "sockets",
            "failed",
            f"others may use them: {shown}",
            f"chmod go-rwx {' '.join(map(str, open_ones))}",
        )
    else:
        yield Check("sockets", "ok", f"only yours, in {workspace.runtime}")


def hub(workspace: Workspace, *, reap: bool) -> Iterator[Check]:
    """Whether it answers, and what a killed one left behind, which ``reap`` ends."""
    if not (workspace.root / NAME).exists():
        yield Check("hub", "ok", f"none has run in {workspace.root} yet")
        return
    try:
        pong = HubClient(workspace).ask({"do": "ping"}, 2.0)
    except InfrastructureError as error:
        if error.code != "E_NO_HUB":
            yield Check("hub", "failed", error.message, error.fix)
            return
    else:
        state: State = "warning" if pong["troubles"] else "ok"
        troubles = "; ".join(pong["troubles"])
        shown = f"{pong['state']}, process {pong['pid']}{troubles and ': '}{troubles}"
        yield Check("hub", state, shown, "alphapanda status" if troubles else "")
        return
    yield Check("hub", "ok", f"none runs in {workspace.root}")
    left = children(workspace)
    names = ", ".join(f"{one.role} {one.pid}" for one in left)
    if left and reap:
        end_processes(left, 3.0)
        yield Check("orphans", "ok", f"ended: {names}")
    elif left:
        yield Check("orphans", "failed", f"left behind by a hub: {names}", "alphapanda doctor --reap")


def kernel() -> Iterator[Check]:
    """Whether this version of the notebook's kernel is one that Stop is tested with."""
    found, lab = installed("ipykernel"), installed("jupyterlab")
    if found is None:
        yield Check("notebook kernel", "warning", "no ipykernel", "pip install 'alphapanda[notebook]'")
        return
    tested = found.startswith(tuple(f"{version}." for version in KERNELS))
    shown = f"ipykernel {found}, jupyterlab {lab or 'none'}; tested with {', '.join(KERNELS)}"
    fix = "" if tested else "if Stop waits for a busy cell, use `alphapanda stop` or a tested version"
    yield Check("notebook kernel", "ok" if tested else "warning", shown, fix)

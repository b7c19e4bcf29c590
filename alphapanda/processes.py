"""Processes: which one a pid means, what it uses, and those of the last hub, written down so that anybody can end them.

A process is known by its pid *and* its mark (boot and start time): a pid alone may be another's by now.
"""

from __future__ import annotations

import getpass
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from alphapanda.clock import monotonic, wait_until
from alphapanda.workspace import Workspace, replace_file

PROC = Path("/proc")
# -P: a user's queue.py in the folder must not stand in for Python's own
PYTHON = sys.executable, "-P", "-m"
CONFIGURATION = 78  # exit code of a process that need not be started again
HEALTH_SECONDS = 10  # a heartbeat on the server is forgotten after so long


class Facts(NamedTuple):
    """A live process: what no other of its pid shares, processor seconds since its start, bytes of memory now."""

    mark: str
    cpu: float
    rss: int


class Record(msgspec.Struct, frozen=True):
    """A process as it is written down, for whoever has to find it without the hub. ``at``: started, wall ns."""

    role: str
    pid: int
    mark: str
    at: int = 0

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return bool(self.mark) and mark(self.pid) == self.mark

    def signal(self, number: int) -> bool:
        """Signal this process and nobody else; False if it is gone."""
        if self.pid <= 1 or not self.mark:
            return False
        try:
            handle = os.pidfd_open(self.pid) if hasattr(os, "pidfd_open") else -1
        except OSError:
            return False
        try:
            if not self.alive:
                return False
            if handle < 0:
                os.kill(self.pid, number)
            else:
                signal.pidfd_send_signal(handle, number)  # the handle cannot come to mean another process
        except ProcessLookupError:
            return False
        finally:
            if handle >= 0:
                os.close(handle)
        return True


def facts(pid: int) -> Facts | None:
    """What the system says of a process; None if there is no such one (a zombie is none)."""
    if not PROC.is_dir():
        command = ["ps", "-p", str(pid), "-o", "stat=", "-o", "rss=", "-o", "time=", "-o", "lstart="]
        found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split(None, 3)  # noqa: S603
        if len(found) < 4 or found[0].startswith("Z"):
            return None
        seconds = 0.0
        for part in found[2].replace("-", ":").split(":"):
            seconds = seconds * 60 + float(part)
        return Facts(found[3].strip(), seconds, int(found[1]) * 1024)
    try:
        line = (PROC / str(pid) / "stat").read_text("utf-8", "replace")
        boot = (PROC / "sys/kernel/random/boot_id").read_text()[:8]
    except OSError:
        return None
    fields = line.rpartition(")")[2].split()  # the name before them may hold anything
    if fields[0] in "ZX":
        return None
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return Facts(f"{boot}-{fields[19]}", cpu, int(fields[21]) * os.sysconf("SC_PAGE_SIZE"))


def mark(pid: int) -> str:
    """What no later process of the same pid shares; empty if there is no such process."""
    found = facts(pid)
    return found.mark if found else ""


def hub_process(workspace: Workspace) -> Record | None:
    """The hub that last started here, dead or alive."""
    try:
        return msgspec.json.decode(workspace.hub_file.read_bytes(), type=Record)
    except (OSError, msgspec.MsgspecError):
        return None


def children(workspace: Workspace) -> list[Record]:
    """Those children that the last hub wrote down and that live: orphans, if it does not."""
    try:
        found = msgspec.json.decode((workspace.home / "children.json").read_bytes(), type=list[Record])
    except (OSError, msgspec.MsgspecError):
        return []
    return [one for one in found if one.alive]


def write_children(workspace: Workspace, records: Iterable[Record]) -> None:
    """Write the children down."""
    replace_file(workspace.home / "children.json", msgspec.json.encode(list(records)))


def end_processes(records: Iterable[Record], patience: float) -> list[Record]:
    """Ask recorded processes to end, wait, kill those that stay; returns those that were still alive."""
    alive = [one for one in records if one.signal(signal.SIGTERM)]
    for _ in range(2):
        wait_until(lambda: not any(one.alive for one in alive), patience)
        for one in alive:
            one.signal(signal.SIGKILL)
    return alive


# ── what they use ────────────────────────────────────────────────────────────────────────────────────────────────


class Meter:
    """Shares of a core and megabytes that processes use; shares over the last five to ten seconds."""

    def __init__(self) -> None:
        self.read: dict[int, tuple[float, float]] = {}  # pid: percent of a core, MB
        self._before: dict[int, tuple[float, float]] = {}
        self._since: dict[int, tuple[float, float]] = {}

    def look(self, pids: Iterable[int]) -> None:
        """Measure these processes; the others are forgotten."""
        now, found = monotonic(), {pid: seen for pid in pids if (seen := facts(pid))}
        self._since = {pid: self._since.get(pid, (seen.cpu, now)) for pid, seen in found.items()}
        self.read = {}
        for pid, seen in found.items():
            cpu, at = self._before.get(pid, self._since[pid])
            share = 100 * (seen.cpu - cpu) / max(now - at, 1.0)
            self.read[pid] = (round(share, 1), round(seen.rss / 1e6, 1))
            if now - self._since[pid][1] >= 5.0:
                self._before[pid], self._since[pid] = self._since[pid], (seen.cpu, now)
        self._before = {pid: seen for pid, seen in self._before.items() if pid in found}


def rss_mb() -> float:
    """Memory of this process now in MB; the most it ever was where the system has no /proc."""
    if PROC.is_dir() and (seen := facts(os.getpid())):
        return round(seen.rss / 1e6, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 1)


def person() -> str:
    """Who is at this machine, as records name them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())

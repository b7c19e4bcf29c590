"""The files log lines go to: one a channel, appended to by all processes, set aside by day, deleted when old."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import logging
import os
import re
import stat
import threading
from itertools import count
from pathlib import Path
from typing import Literal, get_args

from alphapanda.clock import pause
from alphapanda.events import DAY, IST_OFFSET_NS, SECOND, ist, ist_day
from alphapanda.logs.lines import line
from alphapanda.settings import ChannelSettings

ChannelName = Literal["audit", "performance", "trading", "error", "application"]

SIZE = 20_000_000  # bytes at which a file is set aside
LOOK = SECOND // 5  # how long another process's new file may go unnoticed
OFF = 99  # above every level


class Sink:
    """The file of one channel. ``level`` is OFF until the process is configured, so that nothing is worked on."""

    def __init__(self, name: str) -> None:
        self.name, self.level, self.dropped = name, OFF, 0
        self._told = 0  # how many of the dropped the file knows of
        self._file: int | None = None
        self._day = self._looked = self._patience = 0

    def start(self, folder: Path, settings: ChannelSettings, size: int, ts: int) -> None:
        """Write to ``folder`` from now on, first setting aside what an earlier day left there."""
        with _LOCK:
            self._folder, self._days, self._size = folder, settings.retention_days, size
            self._path = folder / f"{self.name}.jsonl"
            self.level, self.dropped, self._told, self._patience = getattr(logging, settings.level), 0, 0, 0
            with contextlib.suppress(OSError):
                self._prune(ts)
                if self._path.exists():
                    self._ready(ts)

    def stop(self) -> None:
        """Write no more."""
        with _LOCK:
            self.level = OFF
            self._shut()

    def debug(self, text: bytes, ts: int) -> None:
        """Append a line, or drop and count it. Where somebody met a full disk, the torn line is ended first."""
        with _LOCK:
            try:
                file = self._ready(ts)
                if _torn(file, looks=1 if self.dropped > self._told else 5):
                    os.write(file, b"\n")
                if self.dropped > self._told:
                    lost = {"event": "log.lines_lost", "lost": self.dropped - self._told}
                    _write(file, line(self.name, "warning", ts, lost))
                    self._told = self.dropped
                _write(file, text)
            except OSError:
                self.dropped += 1
                self._shut()

    info = warning = debug

    def error(self, text: bytes, ts: int) -> None:
        """Append a line here and to the error channel."""
        self.debug(text, ts)
        if self.name != "error" and SINKS["error"].level < OFF:
            SINKS["error"].debug(text, ts)

    def _ready(self, ts: int) -> int:
        """The file, opened again where another process may have set it aside, or set aside where it is due."""
        if self._file is None or abs(ts - self._looked) > LOOK:
            self._open(ts)
        if self._due(ts) and ts >= self._patience:
            self._set_aside(ts)
        assert self._file is not None  # noqa: S101 - opened above, under the same lock
        return self._file

    def _open(self, ts: int) -> None:
        self._shut()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(self._path, _FLAGS, 0o600)
        self._looked = ts
        first = re.match(rb'\{"ts":"([^"]{19})', os.pread(self._file, 64, 0))
        self._day = ist_day(ts)
        with contextlib.suppress(ValueError):
            if first:
                stamp = dt.datetime.fromisoformat(first[1].decode()).replace(tzinfo=dt.UTC)
                self._day = ist_day(int(stamp.timestamp()) * SECOND)

    def _shut(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.close(self._file)
        self._file = None

    def _due(self, ts: int) -> bool:
        assert self._file is not None  # noqa: S101 - opened by the caller, under the same lock
        return os.fstat(self._file).st_size >= self._size or ist_day(ts) > self._day

    def _set_aside(self, ts: int) -> None:
        """Rename the file after its day and open a new one; one process does it, the others go on meanwhile."""
        lock = os.open(self._folder / ".rotate", _FLAGS, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._open(ts)  # as it is now: another process may have been faster
            if self._due(ts):
                stem = f"{self.name}.{ist(self._day * DAY - IST_OFFSET_NS):%Y-%m-%d}"
                names = (self._folder / f"{stem}{f'.{n}' if n else ''}.jsonl" for n in count())
                self._path.rename(next(name for name in names if not name.exists()))
                self._prune(ts)
                self._open(ts)
        except BlockingIOError:  # who holds it may be stopped: a bigger file is better than waiting
            self._open(ts)
            self._patience = ts + LOOK
        finally:
            os.close(lock)

    def _prune(self, ts: int) -> None:
        """Delete our own files of days that are past their retention."""
        for path in self._folder.glob(f"{self.name}.*.jsonl"):
            match = re.fullmatch(r"\w+\.(\d{4}-\d\d-\d\d)(\.\d+)?\.jsonl", path.name)
            with contextlib.suppress(OSError, ValueError):  # gone already, or no date
                found = path.lstat()
                ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid()
                if (
                    match
                    and ours
                    and dt.date.fromisoformat(match[1]) < ist(ts).date() - dt.timedelta(self._days)
                ):
                    path.unlink()


# One for all channels: a finaliser may log to another while its own thread is in here.
_LOCK = threading.RLock()
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
SINKS = {name: Sink(name) for name in get_args(ChannelName)}


def _torn(file: int, looks: int) -> bool:
    """Whether the last line has no end. One that is being written at this moment looks so too, but soon grows."""
    size = os.fstat(file).st_size
    for look in range(looks):
        if look:
            pause(0.001)
        now = os.fstat(file).st_size
        if not size or now != size or os.pread(file, 1, size - 1) == b"\n":
            return False
    return True


def _write(file: int, text: bytes) -> None:
    if os.write(file, text) < len(text):
        raise OSError("no room for the whole line")

"""``alphapanda logs``: the last lines of the channels in the order they were written, and what comes."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from alphapanda.clock import pause
from alphapanda.console import open_console, say
from alphapanda.workspace import Workspace

if TYPE_CHECKING:
    from rich.console import Console

CHANNELS = ("audit", "performance", "trading", "error", "application")
Facts = Mapping[str, Any]


def logs(options: argparse.Namespace) -> int:
    """Lines of one channel, or of all but the performance channel, in the order they were written."""
    from alphapanda.settings import Settings

    workspace, console = Workspace.find(), open_console()
    folder = Settings.load().logging.directory
    folder = workspace.logs if folder is None else workspace.root / folder
    names = [options.channel] if options.channel else [name for name in CHANNELS if name != "performance"]
    tails = [Tail(folder / f"{name}.jsonl", options.run) for name in names]
    lines = sorted(line for tail in tails for line in tail.last(options.n))
    for line in lines[-options.n :] if options.n > 0 else []:
        _print_line(console, line[1])
    if not lines and not options.follow:
        say(console, f"no lines in {folder}", "bright_black")
    with contextlib.suppress(KeyboardInterrupt):
        while options.follow:
            for line in sorted(line for tail in tails for line in tail.new()):
                _print_line(console, line[1])
            pause(0.2)
    return 0


class Tail:
    """The end of one channel's file, also when it is set aside for a new one."""

    def __init__(self, path: Path, run: str | None) -> None:
        self.path, self.run = path, run
        self._at, self._file = 0, 0

    def last(self, count: int) -> list[tuple[str, Facts]]:
        """So many lines of now and of the file before."""
        older = sorted(self.path.parent.glob(f"{self.path.stem}.*.jsonl"))[-1:]
        found = [line for path in older for line in self._parsed(_end_of(path, 2_000_000)[0])]
        text, self._at, self._file = _end_of(self.path, 4_000_000)
        return (found + self._parsed(text))[-count:] if count > 0 else []

    def new(self) -> list[tuple[str, Facts]]:
        """What was added since."""
        try:
            with self.path.open("rb") as file:
                facts = os.fstat(file.fileno())
                if facts.st_ino != self._file or facts.st_size < self._at:
                    self._at, self._file = 0, facts.st_ino
                file.seek(self._at)
                data = file.read(4_000_000)
        except OSError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._at += len(whole)
        return self._parsed(whole)

    def _parsed(self, data: bytes) -> list[tuple[str, Facts]]:
        found: list[tuple[str, Facts]] = []
        for line in data.splitlines():
            with contextlib.suppress(msgspec.MsgspecError):
                facts = msgspec.json.decode(line, type=dict[str, Any])
                if self.run is None or self.run in (
                    facts.get("run"),
                    str(facts.get("role")).partition(":")[2],
                ):
                    found.append((str(facts.get("ts", "")), facts))
        return found


def _end_of(path: Path, size: int) -> tuple[bytes, int, int]:
    """The end of a file from a line's begin on, its length and which file it is."""
    try:
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            file.seek(max(0, facts.st_size - size))
            data = file.read()
    except OSError:
        return b"", 0, 0
    whole = data[: data.rfind(b"\n") + 1]
    cut = whole.find(b"\n") + 1 if facts.st_size > size else 0
    return whole[cut:], facts.st_size - (len(data) - len(whole)), facts.st_ino


SHOWN_BEFORE = ("ts", "level", "event", "role", "namespace", "run", "strategy", "exception")
LEFT_OUT = (
    "pid",
    "channel",
    "logger",
    "event_id",
    "correlation_id",
    "causation_id",
    "trace_id",
    "parent_trace_id",
)


def _print_line(console: Console, line: Facts) -> None:
    """Exchange time, level, who, what, the facts; an exception below. Ids of lineage are for programs."""
    import datetime as dt

    from rich.text import Text

    from alphapanda.report.text import clean

    with contextlib.suppress(ValueError):
        at = dt.datetime.fromisoformat(str(line.get("ts", "")))
        line = {
            **line,
            "ts": at.astimezone(dt.timezone(dt.timedelta(hours=5, minutes=30))).strftime("%d %b %H:%M:%S"),
        }
    level = str(line.get("level", ""))
    colour = {"error": "bold red", "warning": "yellow", "debug": "bright_black"}.get(level, "green")
    who = " ".join(str(line[key]) for key in ("role", "namespace", "run", "strategy") if line.get(key))
    rest = {key: line[key] for key in line if key not in (*SHOWN_BEFORE, *LEFT_OUT) and line[key] != ""}
    facts = "  ".join(f"{key}={value}" for key, value in rest.items())
    shown = Text.assemble(
        (f"{line.get('ts', '')} ", "bright_black"),
        (f"{level:<8}", colour),
        (f"{who}  ", "cyan"),
        (clean(line.get("event", "")), "bold"),
        f"  {clean(facts)}",
    )
    if line.get("exception"):
        shown.append(f"\n{clean(line['exception'])}", "bright_black")
    console.print(shown, soft_wrap=True, highlight=False)

"""``alphapanda logs``: the last lines of the channels in the order they were written, and what comes."""

from __future__ import annotations

import argparse
import contextlib
from typing import TYPE_CHECKING

from alphapanda.clock import pause
from alphapanda.console import open_console, say
from alphapanda.logs.tail import Facts, Tail
from alphapanda.workspace import Workspace

if TYPE_CHECKING:
    from rich.console import Console

CHANNELS = ("audit", "performance", "trading", "error", "application")


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

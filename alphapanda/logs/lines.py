"""What a log line says: the event, who said it and when, the facts, an exception; one page at most."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

import msgspec

from alphapanda.clock import wall_ns
from alphapanda.events import SECOND, ist
from alphapanda.logs.redaction import TEXT, plain, safe_text, safe_trace, table

LINE = 4096  # bytes of a line with its end: one page, one write
BOUND = ("namespace", "strategy", "correlation_id", "causation_id", "trace_id")
COLOURS = {"audit": 35, "performance": 36, "trading": 32, "error": 31, "application": 34}


class Process:
    """What every line of this process says of it, and whether lines are shown as well."""

    def __init__(
        self, role: str = "", namespace: str = "", console: bool = False, clock: Callable[[], int] = wall_ns
    ):
        self.role, self.namespace, self.console, self.clock = role, namespace, console, clock


process = Process()  # replaced when logging is configured


@lru_cache(8)
def _second(second: int) -> str:
    return dt.datetime.fromtimestamp(second, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")


def line(channel: str, level: str, ts: int, facts: dict[str, Any]) -> bytes:
    """The line, with less of each fact the longer it would be; what identifies it is never cut away."""
    head: dict[str, Any] = {"ts": f"{_second(ts // SECOND)}.{ts % SECOND // 1000:06}Z", "level": level}
    head |= {"channel": channel, "event": safe_text(str(facts.pop("event", "")), 200)}
    head |= {"role": process.role, "pid": os.getpid(), "namespace": process.namespace}
    head |= {name: safe_text(str(facts.pop(name)), 120) for name in BOUND if name in facts}
    error = facts.pop("exc_info", None)
    error = (
        sys.exc_info()[1] if error is True else cast("Any", error)[1] if isinstance(error, tuple) else error
    )
    trace = safe_trace(error) if isinstance(error, BaseException) else ""
    facts = {
        f"{name}_" if name in head or name == "exception" else name: value for name, value in facts.items()
    }
    for cap in (TEXT, 200, 40):
        tail = {"exception": trace[-cap * 3 :]} if trace else {}
        made = msgspec.json.encode(head | table(facts, cap, 0) | tail) + b"\n"
        if len(made) <= LINE:
            return made
    return msgspec.json.encode(head | {"cut": f"{len(facts)} facts"}) + b"\n"


def show(channel: str, level: str, ts: int, facts: dict[str, Any]) -> None:
    """One short line for the person at the terminal; what leads back to the tick is in the file."""
    keys = [name for name in facts if name not in (*BOUND, "event", "exc_info")][:6]
    words = [" ".join(safe_text(f"{name}={plain(facts[name], 40)}", 60).split()) for name in keys]
    name, event = f"{channel:<11}", " ".join(safe_text(str(facts["event"]), 80).split())
    if sys.stderr.isatty() and "NO_COLOR" not in os.environ:
        name = f"\x1b[{COLOURS[channel]}m{name}\x1b[0m"
        event = f"\x1b[1;31m{event}\x1b[0m" if level in ("error", "critical") else event
    with contextlib.suppress(OSError, ValueError):  # nobody looks any more
        sys.stderr.write(f"{ist(ts):%H:%M:%S} {name} {event}  {' '.join(words)}".rstrip() + "\n")

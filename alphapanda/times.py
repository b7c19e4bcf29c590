"""Intervals ("5m") and moments ("15:10", "close-20m") as people write them, in nanoseconds."""

from __future__ import annotations

import re

from alphapanda.errors import ValidationError
from alphapanda.events import DAY, MINUTE, SECOND

UNITS = {"ms": SECOND // 1000, "s": SECOND, "m": MINUTE, "h": 60 * MINUTE, "d": DAY}


def parse_interval(text: str, what: str = "interval") -> int:
    """ "90s", "5m", "1h", "1d" in nanoseconds; the number is a positive whole one."""
    found = re.fullmatch(r"\s*(\d{1,9})\s*(ms|s|m|h|d)\s*", str(text))
    if found is None or not int(found[1]):
        raise ValidationError(
            f"{what} {text!r} is not understood",
            fix='write a number and a unit: "30s", "5m", "1h", "1d"',
            code="E_INTERVAL",
        )
    return int(found[1]) * UNITS[found[2]]


def parse_moment(text: str) -> tuple[str, int]:
    """("day" | "open" | "close", offset in ns): "15:10[:30]" counts from midnight IST, "close-20m" from the close."""
    clock = re.fullmatch(r"\s*(\d{1,2}):(\d{2})(?::(\d{2}))?\s*", str(text))
    if clock is not None:
        hours, minutes, seconds = int(clock[1]), int(clock[2]), int(clock[3] or 0)
        if hours < 24 and minutes < 60 and seconds < 60:
            return "day", (hours * 3600 + minutes * 60 + seconds) * SECOND
    anchored = re.fullmatch(r"\s*(open|close)\s*(?:([+-])\s*(\S+))?\s*", str(text))
    if anchored is not None:
        offset = parse_interval(anchored[3]) if anchored[3] else 0
        return anchored[1], -offset if anchored[2] == "-" else offset
    raise ValidationError(
        f"time {text!r} is not understood",
        fix='write exchange time as "15:10" or "15:10:30", or "open+5m", "close-20m"',
        code="E_TIME",
    )

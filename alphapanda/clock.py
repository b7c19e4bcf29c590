"""The wall clock, for shells only: the core takes time as an input. One place, so that a search finds every reader."""

from __future__ import annotations

import time
from collections.abc import Callable


def wall_ns() -> int:
    """Nanoseconds since the Unix epoch, UTC: for stamps that people and other processes read."""
    return time.time_ns()  # noqa: TID251 - this is the place


def monotonic() -> float:
    """Seconds from an arbitrary start that never go back: for waits and ages inside one process."""
    return time.monotonic()


def awake_ns() -> int:
    """Nanoseconds from an arbitrary start that nobody sets, and that go on while the machine sleeps: beside ``wall_ns``
    they tell a clock that was set from one that was slept through."""
    return time.clock_gettime_ns(
        getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    )  # macOS counts sleep there


def pause(seconds: float) -> None:
    """Wait in a thread that has nothing else to do; coroutines await ``asyncio.sleep``."""
    time.sleep(seconds)  # noqa: TID251 - this is the place


def wait_until(true: Callable[[], bool], seconds: float) -> bool:
    """Block this thread until it is true, or the time is up; whether it is."""
    until = monotonic() + seconds
    while not (found := true()) and monotonic() < until:
        pause(0.02)
    return found

"""How fast calls may leave: below the broker's caps, with room kept for cancels.

Kite counts orders on its own calendar second (10), minute (400) and day (5,000), rejected ones included. Windows here
are a little longer than a second or minute and the counts lower, so that no phase between the clocks can go over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

SECOND = 10**9
WINDOWS = ((1.1, 8), (61.0, 300))  # seconds, calls
PER_DAY = 3_000
FOR_CANCELS = 0.2  # share of each window that new orders leave free


class Limiter:
    """Counts calls to the order endpoints. Times are monotonic ns."""

    def __init__(self, windows: tuple[tuple[float, int], ...] = WINDOWS, per_day: int = PER_DAY) -> None:
        self._windows = [(int(seconds * SECOND), most) for seconds, most in windows]
        self._per_day = per_day
        self._calls: deque[int] = deque()
        self._day, self._today = 0, 0

    def recall(self, ages: Iterable[int], now: int, day: int) -> None:
        """Calls of this day that processes before this one made, the oldest first: how many ns ago each of them was.

        Without it an account that starts again and again would go over the broker's caps.
        """
        for age in ages:
            self.count(now - max(0, age), day)

    def wait(self, now: int, day: int, cancel: bool = False) -> int:
        """Nanoseconds until another call may leave; 0: now; -1: not today."""
        share = 1.0 if cancel else 1.0 - FOR_CANCELS
        if day == self._day and self._today >= int(self._per_day * share):
            return -1
        longest = max(window for window, _ in self._windows)
        while self._calls and now - self._calls[0] >= longest:
            self._calls.popleft()
        wait = 0
        for window, most in self._windows:
            room = int(most * share)
            inside = [at for at in self._calls if now - at < window]
            if len(inside) >= room:
                wait = max(wait, inside[-room] + window - now)
        return wait

    def count(self, now: int, day: int) -> None:
        """A call leaves."""
        if day != self._day:
            self._day, self._today = day, 0
        self._today += 1
        self._calls.append(now)

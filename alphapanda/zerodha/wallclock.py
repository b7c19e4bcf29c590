"""Notices that somebody set the wall clock.

Expiry, patience and the day are read off the wall; a clock that was set makes all of them wrong at once, and only a
person can say which of the two times was the true one.
"""

from __future__ import annotations

SECOND = 10**9
STEP = 2 * SECOND  # less is a correction that does no harm
SAME = SECOND // 2  # two looks agree


class WallClock:
    """The distance of the wall clock from one that nobody sets and that counts sleep, too."""

    def __init__(self) -> None:
        self._distance: int | None = None
        self._doubt: int | None = None

    def moved(self, now: int, tick: int) -> float:
        """Seconds by which it was set since the last look, 0.0 for none; ``now`` wall ns, ``tick`` monotonic ns.

        Believed when two looks in a row agree: a process may be stopped between its readings of the two clocks.
        """
        distance = now - tick
        known = self._distance
        if known is None or abs(distance - known) <= STEP:
            self._distance, self._doubt = distance, None
            return 0.0
        if self._doubt is None or abs(distance - self._doubt) > SAME:
            self._doubt = distance
            return 0.0
        self._distance, self._doubt = distance, None
        return (distance - known) / SECOND

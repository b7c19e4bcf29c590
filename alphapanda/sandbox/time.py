"""The sandbox's time: the machine's clock from a start of its own, faster or slower, or standing still."""

from __future__ import annotations

from collections.abc import Callable

from alphapanda.clock import wall_ns


class Time:
    """``now`` starts at ``start`` and runs ``speed`` times as fast as the machine's clock; at speed 0 it stands."""

    def __init__(self, start: int, speed: float = 1.0, wall: Callable[[], int] = wall_ns) -> None:
        self._wall, self.speed = wall, speed
        self._from, self._since = start, wall()

    def now(self) -> int:
        """ns UTC at the sandbox."""
        return self._from + round((self._wall() - self._since) * self.speed)

    def set(self, now: int) -> None:
        """Go to a moment; one that lies behind is ignored, because what happened cannot be undone."""
        self._from, self._since = max(now, self.now()), self._wall()

    def run(self, speed: float) -> None:
        """Go on from here at another speed."""
        self._from, self._since = self.now(), self._wall()
        self.speed = max(0.0, speed)

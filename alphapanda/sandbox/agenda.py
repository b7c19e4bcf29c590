"""What is to happen later, in order of time; and the numbers that break ties and end ids."""

from __future__ import annotations

import heapq
from collections.abc import Callable

Step = Callable[[int], None]  # called with the moment it was due


class Agenda:
    """Steps and their moments. Steps of one moment are taken in the order they were entered."""

    def __init__(self) -> None:
        self._steps: list[tuple[int, int, Step]] = []
        self._number = 0

    def number(self) -> int:
        """The next number."""
        self._number += 1
        return self._number

    def at(self, ts: int, step: Step) -> None:
        """Do something at a moment, ns UTC."""
        heapq.heappush(self._steps, (ts, self.number(), step))

    def next_due(self) -> int | None:
        """When the next step is due; None when there is none."""
        return self._steps[0][0] if self._steps else None

    def run(self, now: int) -> None:
        """Take the steps that are due, in order of time; those they enter for then, too."""
        while self._steps and self._steps[0][0] <= now:
            ts, _, step = heapq.heappop(self._steps)
            step(ts)

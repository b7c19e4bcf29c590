"""The SMA strategy's arithmetic for peers that call Python a tick: one object an instrument, floats, no
engine.

It is the fastest form found for them: each peer hands over a float and gets +1, -1 or 0 back.
"""

from __future__ import annotations

from collections import deque

from tests.bench.job import FAST, SLOW, TIE


class Cross:
    """Two running sums over one bounded window of prices."""

    __slots__ = ("fast", "missing", "sign", "slow", "window")

    def __init__(self) -> None:
        self.window = deque([0.0] * SLOW, SLOW)
        self.fast = self.slow = 0.0
        self.sign = 0
        self.missing = SLOW

    def update(self, price: float) -> int:
        """+1 on a cross up, -1 on a cross down, else 0."""
        window = self.window
        self.fast = fast = self.fast + price - window[SLOW - FAST]
        self.slow = slow = self.slow + price - window[0]
        window.append(price)
        if self.missing > 1:
            self.missing -= 1
            return 0
        apart = fast * (SLOW / FAST) - slow
        now = 1 if apart > TIE else -1 if apart < -TIE else self.sign
        if now == self.sign:
            return 0
        crossed = now if self.sign else 0
        self.sign = now
        return crossed

"""The time at the venue: the machine's, or that of a sandbox, which may play another day and faster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from alphapanda.clock import monotonic, wall_ns
from alphapanda.errors import MarketDataError
from alphapanda.events import SECOND
from alphapanda.feeds.kite_rest import SandboxTime

ASK_SECONDS = 1.0  # between two looks: somebody may set a sandbox's clock, or start it again at its beginning


class VenueClock:
    """``ask`` gives a sandbox's time and blocks; None: the venue lives in the machine's time.

    Between two answers the sandbox's time goes on at its speed, also while it is away. ``fault`` says that it does not
    answer.
    """

    def __init__(self, ask: Callable[[], SandboxTime | None] | None) -> None:
        self._ask = ask
        self._told: SandboxTime | None = None
        self._at = 0.0
        self.known = asyncio.Event()
        self.fault = ""
        if ask is None:
            self.known.set()

    def now(self) -> int:
        """ns UTC at the venue; the machine's before the sandbox has answered."""
        if self._told is None:
            return wall_ns()
        return self._told.now + round((monotonic() - self._at) * self._told.speed * SECOND)

    async def run(self) -> None:
        """Follow the sandbox until cancelled; a venue in the machine's time needs no following."""
        while self._ask is not None:
            asked = monotonic()
            try:
                told = await asyncio.to_thread(self._ask)
            except MarketDataError as error:
                self.fault = error.message
            else:
                self._told, self._at, self.fault = told, (asked + monotonic()) / 2, ""
                self.known.set()
            await asyncio.sleep(ASK_SECONDS)

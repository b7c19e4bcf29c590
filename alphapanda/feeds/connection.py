"""What every connection to a venue has in common: how long it is believed, what its loss leaves, how it comes back.

A connection is made whenever there is a reason to and made again whenever it is lost, after pauses that grow while
attempts fail. Nobody's pings count: silence does, and while new connections bring no more than the last, patience with
them doubles.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from random import Random
from typing import ClassVar

import msgspec
import websockets

from alphapanda import logs
from alphapanda.clock import monotonic
from alphapanda.errors import RetryPolicy

STEADY = 10.0  # seconds a connection lasts before the ones that failed are forgotten
REASON_MAX = 200  # characters


class Timing(msgspec.Struct, frozen=True):
    """Seconds; tests shorten them."""

    quiet: float = (
        5.0  # without a byte before a connection is dead, without news before an instrument is stale
    )
    quiet_max: float = 60.0  # to which patience with new connections doubles
    open: float = 10.0  # for the handshake
    refused: float = 60.0  # before a venue that said no is asked again
    probe: float = 10.0  # for finding out why it did
    lifetime: float = 23 * 3600.0  # of a connection, where the venue ends it after a day
    overlap: float = 5.0  # at most, in which its successor must speak before it is closed
    retry: RetryPolicy = RetryPolicy(delay_first=0.5, delay_max=30.0)


class Gap(msgspec.Struct, frozen=True):
    """Nothing was heard of these symbols between two wall times (ns); order updates may be missing too.

    No symbols: all that the connection brought, or one that was open for order updates alone.
    """

    start: int
    end: int
    reason: str
    symbols: tuple[str, ...] = ()


class Reconnecting(ABC):
    """One connection, number ``number`` of a venue. ``state`` is idle, connecting, connected, waiting or refused."""

    PROOF: ClassVar[int] = 3  # messages after which a connection counts as a good one

    def __init__(self, venue: str, timing: Timing, number: int = 0) -> None:
        self.number, self.timing, self.state = number, timing, "idle"
        self.reconnects = 0
        self._venue = venue
        self._attempt = 0  # since a connection last lasted
        self._fruitless = 0  # connections in a row that went silent before they had said much
        self._draws = Random()  # spreads the pauses; nothing is decided on it
        self._log = logs.channel("application")

    async def run(self) -> None:
        """Be connected whenever there is a reason to, until cancelled."""
        while True:
            await self._reason_to_connect()
            self.state, started, refused = "connecting", monotonic(), 0.0
            try:
                reason = await self._connected()
            except websockets.InvalidStatus as error:
                status = error.response.status_code
                reason, refused = f"refused with {status}", await self._denied(status)
            except (OSError, ImportError, websockets.WebSocketException) as error:  # ImportError: a proxy's
                reason = self._told(error)
            if not reason:
                continue
            self._attempt = 1 if monotonic() - started > STEADY else self._attempt + 1
            self.reconnects += 1
            self.state = "refused" if refused else "waiting"
            self._lost(reason)
            self._log.warning(
                "feed.venue_lost", venue=self._venue, socket=self.number, reason=reason, attempt=self._attempt
            )
            await self._rest(max(refused, self.timing.retry.delay(self._attempt, self._draws.random())))

    def _patience(self, messages: int) -> float:
        """Seconds of silence after which a connection that brought so many messages is dead."""
        if messages >= self.PROOF:
            self._fruitless = 0
        return min(self.timing.quiet_max, self.timing.quiet * 2.0**self._fruitless)

    def _told(self, error: Exception) -> str:
        """What happened, without secrets."""
        return f"{type(error).__name__}: {error}"[:REASON_MAX]

    async def _rest(self, seconds: float) -> None:
        """Wait before the next attempt."""
        await asyncio.sleep(seconds)

    @abstractmethod
    async def _reason_to_connect(self) -> None:
        """Wait for one, with ``state`` saying for what."""

    @abstractmethod
    async def _connected(self) -> str:
        """Connect, hear and ask until there is a reason to connect anew; "" when nothing is wanted any more."""

    @abstractmethod
    async def _denied(self, status: int) -> float:
        """The handshake was answered with this status; seconds to wait, 0 for the usual."""

    @abstractmethod
    def _lost(self, reason: str) -> None:
        """The connection is gone."""

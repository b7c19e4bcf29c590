"""Binance's public streams: trades and best quotes of coins, without an account.

One connection carries all coins that somebody holds. A trade makes a row; a book ticker only changes the bid and ask
that the coin's next trade carries. Rules:

- What was heard twice or out of order is dropped by id, so two connections may overlap: the one that nears the venue's
  limit of 24 hours is replaced while it still speaks.
- Silence is judged by what is usual here: five seconds, or five times the mean distance of messages if that is longer.
  Then the connection is taken for dead, whatever the pings say. While new ones bring no more, patience doubles.
- Every loss of a connection leaves a gap marker: from the last message heard to the first one after.
- Nothing that comes in can raise: what is malformed is counted and dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from urllib.parse import urlsplit

import websockets  # which loads its parts when they are first named: a feed without coins does without

from alphapanda.clock import monotonic, wall_ns
from alphapanda.feeds.base import Venue
from alphapanda.feeds.binance_coins import Coins
from alphapanda.feeds.binance_messages import coin, request, streams
from alphapanda.feeds.connection import Reconnecting, Timing
from alphapanda.feeds.sequencer import LiveRow
from alphapanda.instruments import Instrument

COINS_MAX = 512  # on one connection: the venue allows 1024 streams
REQUEST_MAX = 200  # streams asked for in one message
LOOK = 0.1  # seconds between two looks at the connection
BANNED = (418, 429)  # answers of a venue that wants to be left alone


class BinanceStreams(Reconnecting, Venue):
    """``url`` is the base address, such as wss://data-stream.binance.vision."""

    PROOF = 20

    def __init__(self, url: str, timing: Timing | None = None) -> None:
        super().__init__("binance", timing or Timing())
        self.url = url.rstrip("/")
        self.coins = Coins()
        self._task: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        self._requests = 0

    # ── what the feed asks ───────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        self._task = asyncio.create_task(self.run(), name="binance")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    def takes(self, symbol: str) -> bool:
        return bool(coin(symbol))

    def watch(self, instrument: Instrument, index: int) -> None:
        if len(self.coins.held) >= COINS_MAX:
            self.coins.refused = f"{instrument.symbol}: more than {COINS_MAX} coins"
            return
        self.coins.add(instrument, index, monotonic())
        self._wanted.set()

    def unwatch(self, instrument: Instrument) -> None:
        self.coins.remove(instrument)
        if not self.coins.held:
            self._wanted.clear()

    def drain(self) -> list[LiveRow]:
        if self._task is not None and self._task.done() and not self._task.cancelled():
            self._task.result()  # a fault of ours ends the process, and the hub starts another
        return self.coins.drain()

    def health(self) -> dict[str, Any]:
        now, coins = monotonic(), self.coins
        return {
            "state": self.state,
            "stale": coins.stale(now, self.timing.quiet),
            "counts": {**coins.counts, "reconnects": self.reconnects},
            "gaps": [[gap.start, gap.end, gap.reason] for gap in coins.gaps],
            "refused": coins.refused,
            "silent": round(now - coins.heard, 1) if coins.heard else None,
        }

    # ── connections ──────────────────────────────────────────────────────────────────────────────

    async def _reason_to_connect(self) -> None:
        if not self.coins.held:
            self.state = "idle"
            await self._wanted.wait()

    async def _connected(self) -> str:
        return await self._serve(await self._open())

    async def _denied(self, status: int) -> float:
        return self.timing.refused if status in BANNED else 0.0

    def _lost(self, reason: str) -> None:
        self.coins.lost(reason, wall_ns())

    async def _open(self) -> Socket:
        names = [name for one in list(self.coins.held)[: REQUEST_MAX // 2] for name in streams(one)]
        local = urlsplit(self.url).scheme == "ws"
        connection = await websockets.connect(
            f"{self.url}/stream?streams={'/'.join(names)}",
            open_timeout=self.timing.open,
            close_timeout=0.5,
            max_size=2**20,
            compression=None,
            user_agent_header=None,
            proxy=None if local else True,
        )
        self.coins.counts["connections"] += 1
        return Socket(connection, set(names), monotonic())

    async def _serve(self, socket: Socket) -> str:
        """Hear and ask until there is a reason to connect anew; "" when nothing is wanted any more."""
        self.state, self.coins.heard, self.coins.leave = "connected", monotonic(), False
        reader = asyncio.create_task(self._read(socket))
        spare: tuple[Socket, asyncio.Task[str]] | None = None
        try:
            while True:
                await asyncio.wait((reader,), timeout=LOOK)
                now = monotonic()
                if not self.coins.held:
                    return ""
                if spare is not None and (
                    spare[0].messages or reader.done() or now > spare[0].born + self.timing.overlap
                ):
                    await _end(socket, reader)
                    (socket, reader), spare = spare, None
                    continue
                if reader.done():
                    return reader.result()
                if now - self.coins.heard > max(self._patience(socket.messages), 5 * self.coins.distance):
                    self._fruitless += 1
                    return f"no message for {now - self.coins.heard:.1f} s"
                if spare is None and (self.coins.leave or now > socket.born + self.timing.lifetime):
                    self.coins.leave = False
                    spare = await self._spare()
                await self._ask(socket, now)
        finally:
            for one in (spare, (socket, reader)):
                if one is not None:
                    await _end(*one)

    async def _spare(self) -> tuple[Socket, asyncio.Task[str]] | None:
        """A second connection, to take over from one that nears its end."""
        try:
            socket = await self._open()
        except (OSError, websockets.WebSocketException) as error:
            self._log.warning("feed.venue_renewal_failed", venue="binance", reason=str(error)[:200])
            return None
        self.coins.counts["renewals"] += 1
        return socket, asyncio.create_task(self._read(socket))

    async def _read(self, socket: Socket) -> str:
        """Take in messages until the connection ends; why it did."""
        try:
            async for message in socket.connection:
                socket.messages += 1
                self.coins.take(message, monotonic(), wall_ns())
        except (OSError, websockets.WebSocketException) as error:
            return self._told(error)
        return "closed by the venue"

    async def _ask(self, socket: Socket, now: float) -> None:
        """Bring what this connection sends in line with what is wanted, in a message or two; the venue takes five a
        second."""
        if now < socket.asked + 0.5:
            return
        wanted = {name for one in self.coins.held for name in streams(one)}
        for method, names in (("SUBSCRIBE", wanted - socket.names), ("UNSUBSCRIBE", socket.names - wanted)):
            part = sorted(names)[:REQUEST_MAX]
            if part:
                self._requests += 1
                socket.asked = now
                with contextlib.suppress(
                    websockets.WebSocketException, OSError
                ):  # the reader is told too, and says why
                    await socket.connection.send(request(method, part, self._requests))
                socket.names ^= set(part)


class Socket:
    """One connection: which streams it sends, since when, and how many messages came."""

    def __init__(self, connection: websockets.ClientConnection, names: set[str], born: float) -> None:
        self.connection, self.names, self.born = connection, names, born
        self.asked, self.messages = 0.0, 0


async def _end(socket: Socket, reader: asyncio.Task[str]) -> None:
    reader.cancel()
    await asyncio.wait((reader,))
    with contextlib.suppress(OSError, websockets.WebSocketException):
        await socket.connection.close()

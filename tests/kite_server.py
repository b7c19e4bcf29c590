"""A server that speaks Kite's ticker protocol: a small market, and the sandbox's sessions over real sockets.

In a test: ``async with KiteServer() as server: ...``; ``with running() as server`` keeps one in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import json
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from alphapanda.instruments import Instrument
from alphapanda.sandbox.ticker import Scripted, TickerSession

if TYPE_CHECKING:
    from websockets.http11 import Request, Response

LOOK = 0.02  # seconds between two looks at what is due
SOCKETS_MAX = 3


def now_ns() -> int:
    return time.time_ns()  # noqa: TID251 - it is the venue's clock


class Shown:
    """What the exchange shows of one instrument."""

    def __init__(self, token: int, last: int) -> None:
        self.token, self.last, self.close = token, last, last
        self.open = self.high = self.low = self.average = last
        self.last_quantity = self.volume = self.buy_quantity = self.sell_quantity = 0
        self.last_trade_ts = self.ts = self.oi = self.oi_high = self.oi_low = 0
        self.bids: list[tuple[int, int, int]] = []
        self.asks: list[tuple[int, int, int]] = []


class Market:
    """Instruments by token, as sandbox.market.Market shows them."""

    def __init__(self, *instruments: Instrument, price: int = 150_000) -> None:
        self.version = 0
        self.quotes = {one.token: Shown(one.token, price) for one in instruments}
        self._changed: dict[int, int] = {}

    def changed_since(self, version: int) -> list[int]:
        return [token for token, at in self._changed.items() if at > version]

    def trade(self, token: int, price: int, quantity: int = 1, *, ts: int | None = None) -> None:
        """A trade now, a tick of 5 paise each side of it."""
        quote = self.quotes[token]
        quote.last, quote.last_quantity = price, quantity
        quote.volume += quantity
        quote.ts = quote.last_trade_ts = now_ns() if ts is None else ts
        quote.high, quote.low = max(quote.high, price), min(quote.low, price)
        quote.bids = [(price - 5 * n, 10 * n, n) for n in range(1, 6)]
        quote.asks = [(price + 5 * n, 20 * n, n) for n in range(1, 6)]
        self.version += 1
        self._changed[token] = self.version


class KiteServer:
    """``refuse`` handshakes to come with ``status``; an access token other than ``token`` is refused with 403."""

    def __init__(self, market: Market) -> None:
        self.market, self.token = market, "today"
        self.faults = Scripted()
        self.sessions: list[TickerSession] = []
        self.connections: list[ServerConnection] = []
        self.texts: list[str] = []
        self.handshakes: list[str] = []  # paths
        self.versions: list[str] = []  # X-Kite-Version headers
        self.refuse, self.status = 0, 503
        self._server: Server | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"ws://127.0.0.1:{next(iter(self._server.sockets)).getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await serve(self._serve, "127.0.0.1", 0, process_request=self._admit, compression=None)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self.connections):
            connection.transport.abort()
        await self._server.wait_closed()

    async def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        self.handshakes.append(request.path)
        self.versions.append(request.headers.get("X-Kite-Version", ""))
        asked = parse_qs(urlsplit(request.path).query)
        if self.refuse > 0:
            self.refuse -= 1
            return connection.respond(http.HTTPStatus(self.status), "not now\n")
        if asked.get("access_token") != [self.token]:
            said = json.dumps({"status": "error", "message": "Authentication failed."})
            return connection.respond(http.HTTPStatus.FORBIDDEN, said)
        if len(self.connections) >= SOCKETS_MAX:
            return connection.respond(http.HTTPStatus.TOO_MANY_REQUESTS, "too many\n")
        return None

    async def _serve(self, connection: ServerConnection) -> None:
        session = TickerSession(self.market, self.faults)
        self.sessions.append(session)
        self.connections.append(connection)
        sender = asyncio.create_task(self._send(connection, session))
        try:
            async for message in connection:
                text = message if isinstance(message, str) else message.decode()
                self.texts.append(text)
                for answer in session.text(text):
                    await connection.send(answer)
        except ConnectionClosed:
            pass
        finally:
            sender.cancel()
            await asyncio.wait((sender,))
            self.sessions.remove(session)
            self.connections.remove(connection)

    async def _send(self, connection: ServerConnection, session: TickerSession) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                for message in session.due(now_ns()):
                    await connection.send(message)
                if session.ending == "abort":
                    connection.transport.abort()
                    return
                if session.ending == "close":
                    await connection.close(1001)
                    return
                await asyncio.sleep(LOOK)

    async def say(self, message: bytes | str) -> None:
        """Anything, to everybody."""
        for connection in list(self.connections):
            with contextlib.suppress(ConnectionClosed):
                await connection.send(message)

    async def order(self, document: dict[str, Any]) -> None:
        """An order update, on every socket that is not silent."""
        for connection, session in zip(list(self.connections), list(self.sessions), strict=True):
            if text := session.order(document):
                with contextlib.suppress(ConnectionClosed):
                    await connection.send(text)


@contextlib.contextmanager
def running(market: Market) -> Iterator[tuple[KiteServer, asyncio.AbstractEventLoop]]:
    """A server in a thread of its own, for clients that block; and the loop to call it on."""
    loop, server, ready = asyncio.new_event_loop(), KiteServer(market), threading.Event()
    stop = asyncio.Event()

    async def main() -> None:
        async with server:
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield server, loop
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()

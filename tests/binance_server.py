"""A server that speaks the protocol of Binance's public spot streams, with the faults of a bad day.

In a test: ``async with BinanceServer() as server: ...``. As a process of its own, to be stopped and killed:
``python tests/binance_server.py`` prints its port and trades every asked-for coin a hundred times a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import json
import sys
import time
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

if TYPE_CHECKING:
    from websockets.http11 import Request, Response


class Client:
    """One connection: which streams it asked for, in its address and since."""

    def __init__(self, connection: ServerConnection, streams: set[str]) -> None:
        self.connection, self.streams = connection, streams


class BinanceServer:
    """``refuse`` handshakes to come with ``status``; ``slow`` seconds before each; while ``silent`` nothing is sent."""

    def __init__(self) -> None:
        self.clients: list[Client] = []
        self.paths: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.refuse, self.status, self.slow, self.silent = 0, 503, 0.0, False
        self.say_no = ""  # the answer to requests, if it is to be no
        self.ids: dict[str, int] = {}
        self.update = 0
        self._server: Server | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"ws://127.0.0.1:{next(iter(self._server.sockets)).getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await serve(self._serve, "127.0.0.1", 0, process_request=self._admit)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        await asyncio.sleep(self.slow)
        if self.refuse > 0:
            self.refuse -= 1
            return connection.respond(http.HTTPStatus(self.status), "not now\n")
        return None

    async def _serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.paths.append(connection.request.path)
        parts = urlsplit(connection.request.path)
        assert parts.path == "/stream", parts
        client = Client(connection, set(parse_qs(parts.query)["streams"][0].split("/")))
        self.clients.append(client)
        try:
            async for text in connection:
                request = json.loads(text)
                self.requests.append(request)
                if self.say_no:
                    await connection.send(
                        json.dumps({"error": {"code": 2, "msg": self.say_no}, "id": request["id"]})
                    )
                    continue
                change = (
                    client.streams.update
                    if request["method"] == "SUBSCRIBE"
                    else client.streams.difference_update
                )
                change(request["params"])
                await connection.send(json.dumps({"result": None, "id": request["id"]}))
        except ConnectionClosed:
            pass
        finally:
            self.clients.remove(client)

    async def trade(
        self,
        name: str,
        price: str,
        quantity: str = "0.50000000",
        *,
        number: int | None = None,
        ts: int | None = None,
    ) -> int:
        """One trade, to whoever asked; its id is the next one unless told."""
        number = self.ids.get(name, 0) + 1 if number is None else number
        self.ids[name] = max(self.ids.get(name, 0), number)
        ms = time.time_ns() // 10**6 if ts is None else ts  # noqa: TID251 - it is the venue's clock
        data = {"e": "trade", "E": ms, "s": name.upper(), "t": number, "p": price, "q": quantity, "T": ms,
                "m": True, "M": True}  # fmt: skip
        await self.send(f"{name}@trade", data)
        return number

    async def quote(self, name: str, bid: str, ask: str, *, update: int | None = None) -> None:
        """Best bid and ask, one coin on each side."""
        self.update = self.update + 1 if update is None else update
        data = {"u": self.update, "s": name.upper(), "b": bid, "B": "1.00000000", "a": ask, "A": "2.00000000"}
        await self.send(f"{name}@bookTicker", data)

    async def send(self, stream: str, data: Any) -> None:
        """An event of a stream, as its data say."""
        text = json.dumps({"stream": stream, "data": data})
        for client in list(self.clients):
            if stream in client.streams:
                await self._say(client, text)

    async def raw(self, message: str | bytes) -> None:
        """Anything, to everybody."""
        for client in list(self.clients):
            await self._say(client, message)

    async def _say(self, client: Client, message: str | bytes) -> None:
        if not self.silent:
            with contextlib.suppress(ConnectionClosed):
                await client.connection.send(message)

    async def drop(self) -> None:
        """Close every connection."""
        for client in list(self.clients):
            await client.connection.close(1001)


async def main() -> None:
    """Trade until killed."""
    async with BinanceServer() as server:
        sys.stdout.write(f"{server.url.rpartition(':')[2]}\n")
        sys.stdout.flush()
        number = 0
        while True:
            number += 1
            names = {stream.partition("@")[0] for client in server.clients for stream in client.streams}
            for name in names:
                await server.quote(
                    name, f"{99_999 + number % 7}.00000000", f"{100_001 + number % 7}.00000000"
                )
                await server.trade(name, f"{100_000 + number % 7}.12000000")
            await asyncio.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(main())

"""The sandbox's ticker sockets: the upgrade and its refusals, and what each is owed (Kite docs, websocket).

The protocol is ``websockets``' own, without its I/O; what is said over it is ``ticker.TickerSession``.
"""

from __future__ import annotations

import asyncio
import contextlib

from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from alphapanda.sandbox.access import Access
from alphapanda.sandbox.documents import Document
from alphapanda.sandbox.faults import Faults
from alphapanda.sandbox.market import Market
from alphapanda.sandbox.ticker import TickerSession
from alphapanda.sandbox.wire import CHUNK, Line, Upgrade

MOST = 3  # sockets of one api key
REFUSED = (
    '{"status":"error","message":"Authentication failed."}'  # a dead token and the free plan look the same
)
BACKLOG = 8 << 20  # bytes a client may leave unread before it is cut off


class Socket:
    """One ticker socket from its upgrade to its end."""

    def __init__(self, line: Line, session: TickerSession) -> None:
        self._line, self.session = line, session
        self._protocol = ServerProtocol()

    async def run(self, upgrade: Upgrade, refusal: int) -> None:
        """Shake hands, or refuse with a status, and hear the client until one side ends it."""
        self._protocol.receive_data(upgrade.data)
        request = next((one for one in self._protocol.events_received() if isinstance(one, Request)), None)
        if request is None:  # not a handshake that can be answered
            return
        response: Response
        if refusal:
            response = self._protocol.reject(refusal, REFUSED)
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = "application/json"
        else:
            response = self._protocol.accept(request)
        self._protocol.send_response(response)
        self._flush()
        with contextlib.suppress(ConnectionError):
            while self._protocol.state is State.OPEN and (data := await self._line.reader.read(CHUNK)):
                self._protocol.receive_data(data)
                self._hear()

    def _hear(self) -> None:
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                self.say(*self.session.text(bytes(memoryview(event.data)).decode("utf-8", "replace")))
        self._flush()

    @property
    def open(self) -> bool:
        """Whether the handshake is done and nobody has closed it."""
        return self._protocol.state is State.OPEN

    def say(self, *messages: bytes | str) -> None:
        """Send messages; a client that does not read is cut off."""
        if not self.open:
            return
        for message in messages:
            if isinstance(message, str):
                if message:
                    self._protocol.send_text(message.encode())
            else:
                self._protocol.send_binary(message)
        self._flush()
        if self._line.writer.transport.get_write_buffer_size() > BACKLOG:
            self._line.reset()

    def pump(self, wall: int, orders: list[Document]) -> None:
        """What the socket is owed at ``wall``: order updates, quotes, a heartbeat; or its end."""
        self.say(*(self.session.order(document) for document in orders), *self.session.due(wall))
        if self.open and self.session.ending == "abort":
            self._line.reset()
        elif self.open and self.session.ending == "close":
            self._protocol.send_close(1001)
            self._flush()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._line.writer.write(data)
            elif self._line.writer.can_write_eof():
                with contextlib.suppress(OSError):  # the other side was faster
                    self._line.writer.write_eof()


class Sockets:
    """All sockets of the account."""

    def __init__(self, market: Market, access: Access, faults: Faults) -> None:
        self._market, self._access, self._faults = market, access, faults
        self.open: set[Socket] = set()

    async def take(self, line: Line, upgrade: Upgrade, now: int) -> None:
        """A connection that wants to be a ticker, until it ends."""
        socket = Socket(line, TickerSession(self._market, self._faults))
        refusal = self._refusal(upgrade, now)
        if not refusal:
            self.open.add(socket)
        try:
            await socket.run(upgrade, refusal)
        finally:
            self.open.discard(socket)

    def _refusal(self, upgrade: Upgrade, now: int) -> int:
        """The HTTP status an upgrade is refused with, 0 for none."""
        query = upgrade.call.query
        key, token = query.get("api_key", [""])[0], query.get("access_token", [""])[0]
        if not key or not token:
            return 400
        free = self._access.account.plan == "personal" or self._faults.hit("plan-personal")
        if free or self._faults.hit("ticker-403") or not self._access.valid(f"{key}:{token}", now):
            return 403
        return 429 if len(self.open) >= MOST or self._faults.hit("ticker-429") else 0

    def pump(self, wall: int, orders: list[Document]) -> None:
        """Serve every open socket."""
        for socket in list(self.open):
            socket.pump(wall, orders)

    def cut(self) -> None:
        """End all of them, as a server that goes down does."""
        for socket in list(self.open):
            socket.session.ending = "abort"
            socket.pump(0, [])


async def closed(writer: asyncio.StreamWriter) -> None:
    """Close a connection and wait until it is."""
    with contextlib.suppress(ConnectionError, OSError):
        writer.close()
        await writer.wait_closed()

"""HTTP/1.1 for the sandbox, thin enough that every fault of the wire can be played: h11 on asyncio streams.

A connection is read request by request; what the broker answers is sent as the answer says (cut, reset, late, never).
A request to upgrade is handed on with all the bytes that were read, for the socket's own protocol.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from email.utils import formatdate
from urllib.parse import parse_qs, urlsplit

import h11
import msgspec

from alphapanda.sandbox.documents import Answer

MAX_BODY = 1 << 20
CHUNK = 1 << 16


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request as it came: ``query`` and ``form`` with every value of a name, headers by lower-case name."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    ip: str

    @property
    def form(self) -> dict[str, list[str]]:
        """The form of the body."""
        return parse_qs(self.body.decode("utf-8", "replace"), keep_blank_values=True)

    @property
    def token(self) -> str | None:
        """``api_key:access_token`` of the Authorization header."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token if scheme == "token" else None


class Upgrade(msgspec.Struct, frozen=True, kw_only=True):
    """A request to become a socket, and the bytes it came in."""

    call: Call
    data: bytes


class Line:
    """One TCP connection; ``date`` gives the seconds since the epoch that the Date header shows."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, date: Callable[[], float]
    ) -> None:
        self.reader, self.writer, self._date = reader, writer, date
        peer = writer.get_extra_info("peername")
        self.ip: str = peer[0] if peer else ""
        self._conn = h11.Connection(h11.SERVER, max_incomplete_event_size=CHUNK)
        self._data = b""

    async def serve(self, answer: Callable[[Call], Answer]) -> Upgrade | None:
        """Answer requests until the connection ends; an upgrade is given back. Raises nothing a client can cause."""
        with contextlib.suppress(ConnectionError, h11.ProtocolError):
            while True:
                call = await self._next()
                if call is None:
                    return None
                if call.headers.get("upgrade", "").lower() == "websocket":
                    return Upgrade(call=call, data=self._data)
                if not await self._send(answer(call)):
                    return None
                self._conn.start_next_cycle()
        return None

    async def _next(self) -> Call | None:
        """The next request, None when the client has gone. Raises h11.ProtocolError for what is no HTTP."""
        self._data = self._conn.trailing_data[0]
        request: h11.Request | None = None
        body = b""
        while True:
            event = self._conn.next_event()
            if event is h11.NEED_DATA:
                data = await self.reader.read(CHUNK)
                self._data += data
                self._conn.receive_data(data)
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > MAX_BODY:
                    raise h11.RemoteProtocolError("the body is too large", error_status_hint=413)
            elif isinstance(event, h11.EndOfMessage) and request is not None:
                return self._call(request, body)
            else:
                return None

    def _call(self, request: h11.Request, body: bytes) -> Call:
        address = urlsplit(request.target.decode("latin-1"))
        return Call(
            method=request.method.decode("latin-1"),
            path=address.path,
            query=parse_qs(address.query, keep_blank_values=True),
            headers={name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers},
            body=body,
            ip=self.ip,
        )

    async def _send(self, answer: Answer) -> bool:
        """Send an answer as it says; whether the connection goes on."""
        if answer.delay:
            await asyncio.sleep(answer.delay)
        if answer.delivery == "silence":
            await self.reader.read()  # until the client gives up
            return False
        if answer.delivery == "reset":
            self.reset()
            return False
        if answer.delivery == "drop":
            return False
        headers = [("Date", formatdate(self._date(), usegmt=True)), ("Content-Length", str(len(answer.body)))]
        headers += answer.headers
        if answer.content_type is not None:
            headers.append(("Content-Type", answer.content_type))
        parts = [self._conn.send(h11.Response(status_code=answer.status, headers=headers))]
        if answer.delivery == "truncated":
            self.writer.write(
                b"".join([part for part in parts if part] + [answer.body[: len(answer.body) // 2]])
            )
            await self.writer.drain()
            return False
        parts.append(self._conn.send(h11.Data(data=answer.body)))
        parts.append(self._conn.send(h11.EndOfMessage()))
        self.writer.write(b"".join(part for part in parts if part))
        await self.writer.drain()
        return self._conn.our_state is h11.DONE and self._conn.their_state is h11.DONE

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        plug = self.writer.get_extra_info("socket")
        if plug is not None:
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

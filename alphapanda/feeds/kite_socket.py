"""One socket to Kite's ticker: connected while something is wanted, rebuilt when it is lost or goes silent.

A new connection asks for everything anew, in batches, each with its mode: a venue that has forgotten us sends mode
quote. Alive means bytes: Kite says one a second when it has nothing to say (Kite docs, websocket), so five silent
seconds mean a dead socket, whatever the operating system believes. The address holds the access token: it is never
logged, and neither is what the websocket library would log of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Literal, Protocol
from urllib.parse import quote

import msgspec
import websockets
from pydantic import SecretStr

from alphapanda.clock import monotonic, wall_ns
from alphapanda.feeds.connection import REASON_MAX, Reconnecting, Timing

Mode = Literal["ltp", "quote", "full"]

TOKENS_MAX = 3000  # of a socket; Kite docs, websocket
ASK_MAX = 500  # tokens in one message
LOOK = 0.1  # seconds between two looks at the connection
AWAKE = 1.0  # a look that took longer says that we slept, not that the venue was silent
FRAME_MAX = 2**22  # bytes; 3,000 full packets are 0.6 million

_wire = logging.getLogger("alphapanda.feeds.kite_wire")  # at level DEBUG the library logs the whole address
_wire.setLevel(logging.CRITICAL)


class Login(msgspec.Struct, frozen=True):
    """What the address is made of; prints as asterisks."""

    api_key: SecretStr
    token: SecretStr

    def address(self, url: str) -> str:
        """The address to connect to: it holds the secrets."""
        key, token = self.api_key.get_secret_value(), self.token.get_secret_value()
        return f"{url}?api_key={quote(key, safe='')}&access_token={quote(token, safe='')}"

    def hidden(self, text: str) -> str:
        """The text without the secrets."""
        for secret in (self.api_key.get_secret_value(), self.token.get_secret_value()):
            for form in (secret, quote(secret, safe="")):
                text = text.replace(form, "***") if form else text
        return text


class Listener(Protocol):
    """Who is told. None of these may raise."""

    def heard(self, number: int, frame: bytes) -> None:
        """A binary message that is no heartbeat."""

    def text(self, message: str) -> None:
        """A text."""

    def back(self, number: int) -> None:
        """The socket is connected."""

    def lost(self, number: int, reason: str, since: int) -> None:
        """The socket is gone; nothing was heard after ``since`` (ns)."""

    async def denied(self, number: int, status: int) -> float:
        """The handshake was answered with this status; seconds to wait, 0 for the usual."""
        ...


class KiteSocket(Reconnecting):
    """The socket with this ``number``. ``wanted`` is what it should bring, token to mode; whoever owns it changes it.

    ``always`` keeps it connected without instruments, for order updates.
    """

    def __init__(
        self,
        number: int,
        url: str,
        timing: Timing,
        listener: Listener,
        wall: Callable[[], int] = wall_ns,
        *,
        always: bool = False,
    ) -> None:
        super().__init__("kite", timing, number)
        self.wanted: dict[int, Mode] = {}
        self.heartbeats = self.messages = 0
        self._url, self._listener, self._wall, self._always = url, listener, wall, always
        self._login: Login | None = None
        self._used: Login | None = None  # by the connection, which a newer one may be about to replace
        self._changed = asyncio.Event()  # there is a new login, or something to connect for
        self._renewed = False
        self._asked: dict[int, Mode] = {}
        self._heard, self._heard_wall = 0.0, 0

    # ── what the venue asks ──────────────────────────────────────────────────────────────────────

    def login(self, login: Login | None) -> None:
        """From now on with this; a connection with another one ends, what was refused is tried at once, and what failed
        before is forgotten."""
        again = self.state in ("refused", "waiting")
        self._renewed = self._login is not None and (again or login != self._login)
        self._login, self._attempt = login, 0
        self._changed.set()

    def want(self, token: int, mode: Mode) -> None:
        """One more instrument, or another mode."""
        self.wanted[token] = mode
        self._changed.set()

    def unwant(self, token: int) -> None:
        """One less."""
        self.wanted.pop(token, None)

    def ask_again(self, token: int) -> None:
        """The venue has forgotten the mode of this one."""
        self._asked.pop(token, None)

    def silence(self) -> float | None:
        """Seconds since the last byte; None before the first."""
        return round(monotonic() - self._heard, 1) if self._heard_wall else None

    async def _denied(self, status: int) -> float:
        return await self._listener.denied(self.number, status)

    def _lost(self, reason: str) -> None:
        self._listener.lost(self.number, reason, self._heard_wall or self._wall())

    # ── a connection ─────────────────────────────────────────────────────────────────────────────

    async def _reason_to_connect(self) -> None:
        while self._login is None or not (self.wanted or self._always):
            self.state = "logged_out" if self._login is None else "idle"
            self._changed.clear()
            await self._changed.wait()
        self._renewed = False

    async def _rest(self, seconds: float) -> None:
        """Wait, but not for longer than until there is another login."""
        until = monotonic() + seconds
        while not self._renewed and monotonic() < until:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(until - monotonic()):
                    await self._changed.wait()

    async def _connected(self) -> str:
        login = self._used = self._login
        if login is None:
            return ""
        connection = await websockets.connect(
            login.address(self._url),
            additional_headers={"X-Kite-Version": "3"},
            open_timeout=self.timing.open,
            close_timeout=0.5,
            ping_interval=None,  # bytes are what counts
            max_size=FRAME_MAX,
            compression=None,
            logger=_wire,
            proxy=None if self._url.startswith("ws://") else True,
        )
        self.state, self._asked, self.messages = "connected", {}, 0
        self._heard, self._heard_wall = monotonic(), self._heard_wall or self._wall()
        self._listener.back(self.number)
        reader = asyncio.create_task(self._read(connection))
        try:
            while True:
                looked = monotonic()
                await self._ask(connection)
                await asyncio.wait((reader,), timeout=LOOK)
                if reader.done():
                    return reader.result()
                if self._renewed:
                    return "a new login"
                if not self.wanted and not self._always:
                    return ""
                now = monotonic()
                silent, awake = now - self._heard, now - looked < AWAKE
                if silent > self._patience(self.messages) and awake:
                    self._fruitless += self.messages < self.PROOF
                    return f"not a byte for {silent:.1f} s"
        finally:
            reader.cancel()
            await asyncio.wait((reader,))
            with contextlib.suppress(OSError, websockets.WebSocketException):
                await connection.close()

    def _told(self, error: Exception) -> str:
        said = f"{type(error).__name__}: {error}"
        return (said if self._used is None else self._used.hidden(said))[:REASON_MAX]

    async def _read(self, connection: websockets.ClientConnection) -> str:
        """Take in messages until the connection ends; why it did."""
        try:
            async for message in connection:
                self._heard, self._heard_wall = monotonic(), self._wall()
                self.messages += 1
                if isinstance(message, str):
                    self._listener.text(message)
                elif len(message) > 1:
                    self._listener.heard(self.number, message)
                else:
                    self.heartbeats += 1
        except (OSError, websockets.WebSocketException) as error:
            return self._told(error)
        return "closed by the venue"

    async def _ask(self, connection: websockets.ClientConnection) -> None:
        """Bring what this connection sends in line with what is wanted. Raises TimeoutError."""
        if self._asked == self.wanted:
            return
        messages: list[tuple[str, object]] = []
        gone = [token for token in self._asked if token not in self.wanted]
        messages += [("unsubscribe", part) for part in _parts(gone)]
        for mode in dict.fromkeys(self.wanted.values()):
            new = [
                token for token, one in self.wanted.items() if one == mode and self._asked.get(token) != mode
            ]
            for part in _parts(new):
                messages += [("subscribe", part), ("mode", [mode, part])]
        self._asked = dict(self.wanted)
        with contextlib.suppress(websockets.ConnectionClosed):  # the reader is told too, and says why
            async with asyncio.timeout(self.timing.quiet):  # a peer that takes nothing in is dead
                for action, value in messages:
                    await connection.send(msgspec.json.encode({"a": action, "v": value}).decode())


def _parts(tokens: list[int]) -> list[list[int]]:
    return [tokens[low : low + ASK_MAX] for low in range(0, len(tokens), ASK_MAX)]

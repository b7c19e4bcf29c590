"""uvicorn, with a deadline for everything a client may take its time with.

uvicorn waits for a request's head for as long as somebody sends a byte now and then. Here a head has ``HEAD_SECONDS``,
a whole exchange ``WHOLE_SECONDS``, and of too many connections that have said nothing yet the oldest is closed: who
holds connections open without asking holds up nobody but others who do the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from alphapanda.errors import InfrastructureError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

HEAD_SECONDS, WHOLE_SECONDS, KEEP_SECONDS = 5.0, 90.0, 20  # the last: a connection between two calls
HEAD_BYTES = 16_384
SILENT_MAX = 300  # connections that wait for the rest of a head
BUSY_MAX = 200  # calls at once; the next is answered 503


class Deadlines(H11Protocol):
    """One connection of a client, closed where it takes too long."""

    silent: dict[Deadlines, None]  # of the whole server: those whose head is awaited, oldest first

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._deadline: asyncio.TimerHandle | None = None
        self._begun: object = None  # the exchange that the deadline is for

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Its first head is awaited."""
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """A byte now and then is no sign of life: only a whole head is."""
        if self._deadline is None:
            self._await_head()
        super().data_received(data)
        cycle: Any = self.cycle
        if cycle is not None and cycle is not self._begun:
            self._begun = cycle
            self.silent.pop(self, None)
            if not cycle.response_complete:
                self._until(WHOLE_SECONDS)

    def on_response_complete(self) -> None:
        """Nothing is awaited until the next byte; uvicorn closes what stays idle."""
        self._until(None)
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._until(None)
        self.silent.pop(self, None)
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self.silent[self] = None
        if len(self.silent) > SILENT_MAX:
            next(iter(self.silent))._too_late()
        self._until(HEAD_SECONDS)

    def _until(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(seconds, self._too_late) if seconds is not None else None

    def _too_late(self) -> None:
        self._until(None)
        self.silent.pop(self, None)
        self.transport.abort()


class Quiet(Server):
    """uvicorn's server in a process that has its own signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """None: the process ends when its hub does."""
        yield


def server_of(app: ASGIApp) -> Quiet:
    """A server of this app; it says neither its name nor its version."""
    kind = type("Connection", (Deadlines,), {"silent": {}})
    return Quiet(
        Config(
            app, http=kind, ws="none", lifespan="off", log_config=None, log_level="error", access_log=False,
            server_header=False,
            proxy_headers=False, timeout_keep_alive=KEEP_SECONDS, timeout_graceful_shutdown=1, backlog=512,
            limit_concurrency=SILENT_MAX + BUSY_MAX, h11_max_incomplete_event_size=HEAD_BYTES,
        )
    )  # fmt: skip


def listening(host: str, port: int) -> socket.socket:
    """A socket there; port 0: any that is free. InfrastructureError if it cannot be had."""
    kind = socket.AF_INET6 if ":" in host else socket.AF_INET
    # the protocol by name: asyncio turns Nagle off for no other, and an answer would wait 40 ms for its second half
    made = socket.socket(kind, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except OSError as error:
        made.close()
        raise InfrastructureError(
            f"nothing can be served at {host}:{port}: {error.strerror or error}",
            fix="end what is there, or set API__PORT",
            code="E_PORT",
        ) from None
    made.setblocking(False)
    return made


def address_of(line: socket.socket) -> str:
    """The URL of a socket that listens."""
    host, port = line.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def serve(app: ASGIApp, line: socket.socket, ready: Callable[[], None], ended: asyncio.Event) -> None:
    """Serve until ``ended``; ``ready`` is told once calls are taken."""
    server = server_of(app)
    running = asyncio.create_task(server.serve(sockets=[line]))
    waiting = asyncio.create_task(ended.wait())
    while not server.started and not running.done():  # noqa: ASYNC110 - uvicorn tells nobody
        await asyncio.sleep(0.01)
    if server.started:
        ready()
    await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    waiting.cancel()
    await running

"""The sandbox on a port: REST, ticker, login page and control door on one listener."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

import msgspec

from alphapanda.clock import wall_ns
from alphapanda.errors import InfrastructureError, ValidationError
from alphapanda.events import SECOND
from alphapanda.sandbox.broker import Broker
from alphapanda.sandbox.control import Control
from alphapanda.sandbox.documents import Answer, Refused
from alphapanda.sandbox.routes import Params
from alphapanda.sandbox.sockets import Sockets, closed
from alphapanda.sandbox.time import Time
from alphapanda.sandbox.wire import Call, Line

PULSE = 0.05  # seconds between two looks at what is due
START_SECONDS = 10
T = TypeVar("T")


class Sandbox:
    """A broker on a port of this machine. Its time starts at the broker's and runs at ``speed``.

    ``redirect_url`` is where the login page sends people; "" shows them their request token. Rate limits are counted on
    the machine's clock (``wall``, ns), whatever the sandbox's speed. A failure of the sandbox itself sets ``failed``
    and is raised by ``stop``: a simulator that goes on with a fault nobody ordered would prove nothing.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        speed: float = 1.0,
        host: str = "127.0.0.1",
        redirect_url: str = "",
        wall: Callable[[], int] = wall_ns,
    ) -> None:
        if not (speed >= 0.0):
            raise ValidationError(
                f"speed {speed!r} of the sandbox's clock", fix="give 0 or more, such as speed=1"
            )
        self.broker = broker
        self.time = Time(broker.now, speed)
        self.url = ""
        self._host, self._redirect_url = host, redirect_url
        self._sockets = Sockets(broker.market, broker.access, broker.faults)
        self._control = Control(broker, self.time, redirect_url)
        self._server: asyncio.Server | None = None
        self._failure: BaseException | None = None
        self.failed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._wall = wall

    @property
    def ticker_url(self) -> str:
        """``root`` for KiteTicker."""
        return self.url.replace("http", "ws", 1)

    async def start(self, port: int = 0) -> str:
        """Listen; the address. Port 0 takes a free one. Raises InfrastructureError when the port is taken."""
        try:
            self._server = await asyncio.start_server(self._connected, self._host, port)
        except OSError as error:
            raise InfrastructureError(
                f"the sandbox cannot listen on {self._host}:{port}: "
                f"{os.strerror(error.errno) if error.errno else error}",
                fix="stop what listens there, or choose another port; --port 0 takes a free one",
            ) from error
        host, bound = self._server.sockets[0].getsockname()[:2]
        self.url = f"http://{host}:{bound}"
        self._control = Control(self.broker, self.time, self._redirect_url or f"{self.url}/connect/done")
        self._keep(self._beat())
        return self.url

    async def stop(self) -> None:
        """Cut every connection and free the port; does nothing when it is not running."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        self._sockets.cut()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
        if self._failure is not None:
            raise self._failure

    @classmethod
    @contextlib.contextmanager
    def thread(cls, broker: Broker, port: int = 0, **options: Any) -> Generator[Running]:
        """A sandbox in a thread of its own: ``with Sandbox.thread(broker) as sandbox: ...``."""
        running = Running(cls(broker, **options))
        running.start(port)
        try:
            yield running
        finally:
            running.stop()

    # ── connections ──────────────────────────────────────────────────────────────────────────────

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._keep(self._serve(reader, writer))

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._failure = self._failure or error
            self.failed.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line(reader, writer, self._date)
        try:
            upgrade = await line.serve(self._answer)
            if upgrade is not None:
                await self._sockets.take(line, upgrade, self.time.now())
        finally:
            await closed(writer)

    def _date(self) -> float:
        """The machine's clock, as a real server shows its own; ahead while the fault is on."""
        skew = self.broker.faults.hit("clock-skew")
        return self._wall() / SECOND + (skew.seconds if skew else 0.0)

    def _answer(self, call: Call) -> Answer:
        ours = self._control.answer(call)
        if ours is not None:
            return ours
        params: Params = call.query if call.method in ("GET", "DELETE") else call.form
        query: dict[str, str] = {}
        if "json" in call.headers.get("content-type", ""):
            try:
                params = msgspec.json.decode(call.body, type=list[dict[str, Any]])
            except msgspec.DecodeError:
                return Refused("InputException", "Invalid JSON in the body.").answer
            query = {name: values[-1] for name, values in call.query.items()}
        return self.broker.call(
            call.method,
            call.path,
            params,
            now=self.time.now(),
            token=call.token,
            ip=call.ip,
            query=query,
            wall=self._wall(),
        )

    async def _beat(self) -> None:
        """The broker's time goes on, and the sockets get what they are owed."""
        while True:
            self.broker.advance(self.time.now())
            orders = [self.broker.updates.popleft() for _ in range(len(self.broker.updates))]
            self._sockets.pump(self._wall(), orders)
            await asyncio.sleep(PULSE)


class Running:
    """A sandbox that runs in a thread. ``do`` runs a function where nothing else touches the broker."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox, self.broker = sandbox, sandbox.broker
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sandbox", daemon=True)

    @property
    def url(self) -> str:
        """``root`` for KiteConnect."""
        return self.sandbox.url

    @property
    def ticker_url(self) -> str:
        """``root`` for KiteTicker."""
        return self.sandbox.ticker_url

    def start(self, port: int = 0) -> None:
        """See ``Sandbox.start``."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.sandbox.start(port), self._loop).result(START_SECONDS)

    def stop(self) -> None:
        """See ``Sandbox.stop``."""
        try:
            asyncio.run_coroutine_threadsafe(self.sandbox.stop(), self._loop).result(START_SECONDS)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(START_SECONDS)
            self._loop.close()

    def do(self, function: Callable[[Broker], T]) -> T:
        """Call a function with the broker on the sandbox's thread; what it gives."""

        async def run() -> T:
            return function(self.broker)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(START_SECONDS)

    def open_session(self) -> str:
        """A fresh access token."""
        return self.do(lambda broker: broker.access.open(broker.now))

    def tick(self, symbol: str, price: float, **how: Any) -> None:
        """Move a price. See ``Broker.tick``."""
        self.do(lambda broker: broker.tick(symbol, price, **how))

    def switch(self, fault: str, **how: Any) -> None:
        """Switch a fault on. See ``Faults.switch``."""
        self.do(lambda broker: broker.faults.switch(fault, **how))

"""A loopback TCP proxy whose line can be cut, frozen, slowed, or made to lose an answer.

It knows of HTTP only how a request begins: that is enough to count requests by method and path, to lose the answer to
one of them, and to call somebody the moment one passes.
"""

from __future__ import annotations

import asyncio
import re
import struct
import threading
from collections.abc import Callable
from typing import Any

from alphapanda.clock import monotonic

LINGER_NONE = struct.pack("ii", 1, 0)  # a close is a reset
FIRST = re.compile(rb"(GET|POST|PUT|DELETE) (/[^ ?]*)")
CHUNK = 65_536


class Line:
    """One connection through the proxy."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self.near, self.far = near, far
        self.losing = False  # the answer to the request that passed last never arrives

    def reset(self) -> None:
        """Both ends see a reset."""
        for writer in (self.near, self.far):
            if (found := writer.get_extra_info("socket")) is not None:
                found.setsockopt(1, 13, LINGER_NONE)  # SOL_SOCKET, SO_LINGER
            writer.transport.abort()


class Proxy:
    """Forwards a port of this machine to another. Use it in ``with``; ``url`` is where clients go.

    ``latency`` is added to what each direction carries, in seconds. ``mode``: ``open``; ``cut``, every connection is
    reset, new ones too; ``frozen``, connections stand and carry nothing, ever (half-open). ``seen`` lists what passed:
    monotonic seconds, method, path.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self.url = ""
        self.latency, self.mode = 0.0, "open"
        self.seen: list[tuple[float, str, str]] = []
        self._lose: list[bytes] = []
        self._call: list[tuple[bytes, Callable[[], object]]] = []
        self._lines: set[Line] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="proxy")
        self._server: asyncio.Server | None = None

    def __enter__(self) -> Proxy:
        self._thread.start()
        server: asyncio.Server = self._do(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.url, self._server = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", server
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    # ── faults ───────────────────────────────────────────────────────────────────────────────────────────────────

    def turn(self, mode: str) -> None:
        """``cut``, ``frozen`` or ``open``. What was frozen is reset when the line opens: nothing late comes through."""
        self.mode = mode
        if mode != "frozen":
            self._do(self._reset_all())

    def lose(self, begins: bytes, times: int = 1) -> None:
        """The next requests that begin so reach the broker, and their answers never come: a reset instead."""
        self._lose += [begins] * times

    def when(self, begins: bytes, call: Callable[[], object]) -> None:
        """Call once, in the proxy's thread, when a request that begins so has come and before it is passed on."""
        self._call.append((begins, call))

    def heal(self) -> None:
        """No fault is on any more."""
        self._lose.clear()
        self._call.clear()
        self.latency = 0.0
        if self.mode != "open":
            self.turn("open")

    def posts(self, since: float = 0.0) -> list[float]:
        """When orders passed, monotonic seconds."""
        return [
            at
            for at, method, path in list(self.seen)
            if at >= since and method == "POST" and "/orders" in path
        ]

    # ── the line ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode == "cut":
            writer.get_extra_info("socket").setsockopt(1, 13, LINGER_NONE)
            writer.transport.abort()
            return
        try:
            back, far = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        line = Line(writer, far)
        self._lines.add(line)
        try:
            await asyncio.gather(self._out(line, reader), self._back(line, back))
        except OSError:
            pass
        finally:
            self._lines.discard(line)
            writer.close()
            far.close()

    async def _out(self, line: Line, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(CHUNK):
            found = FIRST.match(data)
            if found is not None:
                self.seen.append((monotonic(), found[1].decode(), found[2].decode()))
                self._meet(line, data)
            await self._carry(data, line.far)
        line.far.close()

    async def _back(self, line: Line, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(CHUNK):
            if line.losing:
                line.reset()
                return
            await self._carry(data, line.near)
        line.near.close()

    def _meet(self, line: Line, data: bytes) -> None:
        for begins in self._lose:
            if data.startswith(begins):
                self._lose.remove(begins)
                line.losing = True
                break
        for one in self._call:
            if data.startswith(one[0]):
                self._call.remove(one)
                one[1]()
                break

    async def _carry(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        if self.latency:
            await asyncio.sleep(self.latency)
        if self.mode == "open":
            writer.write(data)
            await writer.drain()

    async def _reset_all(self) -> None:
        for line in list(self._lines):
            line.reset()

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._reset_all()
        await self._server.wait_closed()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

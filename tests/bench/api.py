"""The API beside a bare FastAPI app that sends the same bytes, on the same server, in the same run.

``python -m tests.bench.api`` prints both; ``... serve ours|bare FOLDER`` is one of the servers. The bare app has one
route and nothing else: no names, no tokens, no limits, no ids, no log.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alphapanda.processes import facts
from tests.bench.child import MARK, ROOT, Result, resident_mb, tell
from tests.bench.live_rig import folder

ROUNDS, CALLS, LINES = 5, 2_000, 8  # rounds of both; calls of one; connections at once
PATH = "/v1/portfolios"
PEERS = 1_000_000


def serve(kind: str, root: str) -> None:
    """One of the two, until standard input closes; tells where."""
    from starlette.responses import Response

    from alphapanda.access import Access
    from alphapanda.api import serving
    from alphapanda.api.app import make_service
    from alphapanda.api.platform import Platform
    from alphapanda.buses.redis import RedisBus
    from alphapanda.overview import Lane, Overview
    from alphapanda.settings import APISettings, Settings
    from alphapanda.workspace import Workspace

    class Seen:
        newest = Overview(1, 5, hub="ready", lanes={"paper": Lane("paper", False, equity=100_184_500)})

    workspace = Workspace(Path(root))
    settings = Settings.load(None).model_copy(update={"api": APISettings(rate_limit_calls=10**9)})
    access = Access(workspace)
    token = access.add(kind, "view")
    platform = Platform(workspace, settings, Seen(), access, RedisBus.connect(workspace.server_socket))
    app: Any = make_service(platform)
    if kind == "bare":
        from fastapi import FastAPI

        body, app = _answer(app, token), FastAPI()

        @app.get(PATH)
        async def portfolios() -> Response:
            return Response(body, media_type="application/json")

    async def run() -> None:
        ended, line = asyncio.Event(), serving.listening("127.0.0.1", 0)
        loop = asyncio.get_running_loop()
        loop.run_in_executor(None, lambda: (sys.stdin.read(), loop.call_soon_threadsafe(ended.set)))
        told = {"port": line.getsockname()[1], "token": token}
        await serving.serve(app, line, lambda: tell(told), ended)

    asyncio.run(run())


def _answer(app: Any, token: str) -> bytes:
    """What ours answers, so that the bare one sends as much."""
    import httpx

    async def ask() -> bytes:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return (await client.get(PATH, headers={"Authorization": f"Bearer {token}"})).content

    return asyncio.run(ask())


@contextlib.contextmanager
def serving_process(kind: str) -> Iterator[dict[str, Any]]:
    """One of the servers in a process of its own."""
    with folder() as root:
        command = [sys.executable, "-m", "tests.bench.api", "serve", kind, str(root)]
        with subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            try:
                yield json.loads(process.stdout.readline().removeprefix(MARK)) | {"pid": process.pid}
            finally:
                process.communicate(timeout=20)


async def load(port: int, token: str, calls: int) -> tuple[float, list[float]]:
    """Calls a second, and what each took in seconds: keep-alive connections that ask one after another."""
    head = f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    took: list[float] = []

    async def line() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(calls // LINES):
            began = time.perf_counter()
            writer.write(head)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200"), answer
            length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            took.append(time.perf_counter() - began)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(line() for _ in range(LINES)))
    return len(took) / (time.perf_counter() - began), took


def limiter() -> float:
    """MB that a million addresses leave in the limiter."""
    from alphapanda.api.limiter import Window

    window = Window(100, 60.0)
    before = resident_mb()
    for n in range(PEERS):
        window.take(f"{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}.9", n / 1e5)
    return resident_mb() - before


def _cpu(pid: int) -> float:
    """Processor seconds of a process."""
    seen = facts(pid)
    assert seen is not None
    return seen.cpu


def measure() -> Result:
    """Both in turn, round by round; the ratio is of each round's own pair."""
    found: dict[str, list[tuple[float, list[float], float]]] = {"ours": [], "bare": []}
    with serving_process("ours") as ours, serving_process("bare") as bare:
        for at in range(ROUNDS + 1):
            for kind, place in (
                (("ours", ours), ("bare", bare)) if at % 2 else (("bare", bare), ("ours", ours))
            ):
                before = _cpu(place["pid"])
                seen = asyncio.run(load(place["port"], place["token"], CALLS))
                if at:  # the first warms both up
                    found[kind].append((*seen, CALLS / (_cpu(place["pid"]) - before)))
    pairs = list(zip(found["ours"], found["bare"], strict=True))
    made: Result = {
        "ratio": statistics.median(one[0] / other[0] for one, other in pairs),
        "cpu_ratio": statistics.median(
            one[2] / other[2] for one, other in pairs
        ),  # what neighbours do not change
    }
    for kind, rounds in found.items():
        took = sorted(one for _, all_of, _ in rounds for one in all_of)
        made[kind] = {
            "calls_s": statistics.median(rate for rate, _, _ in rounds),
            "calls_cpu_s": statistics.median(rate for _, _, rate in rounds),
            "p50_ms": took[len(took) // 2] * 1e3,
            "p99_ms": took[len(took) * 99 // 100] * 1e3,
        }
    return made | {"limiter_mb": limiter()}


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(*sys.argv[2:])
    else:
        tell(measure())

"""Too many calls, too many addresses, clients that take their time."""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from alphapanda.api import serving
from alphapanda.api.limiter import Window, client_of, networks
from alphapanda.clock import monotonic
from alphapanda.errors import ConfigurationError
from tests.api_rig import Desk, opened


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with opened(tmp_path_factory.mktemp("desk")) as made:
        yield made


# ── T15, T16: too many calls


def test_a_forged_forwarded_for_changes_nothing(tmp_path: Path) -> None:
    desk = Desk(tmp_path, rate_limit_calls=20, trusted_proxies="10.0.0.0/24")

    async def flood(peer: str, head: Callable[[int], str]) -> list[int]:
        return [
            (
                await desk.send("GET", "/v1/halts", "bad", peer=peer, headers={"X-Forwarded-For": head(n)})
            ).status_code
            for n in range(200)
        ]

    for peer in ("203.0.113.9", "2001:db8::1"):
        got = asyncio.run(flood(peer, lambda n: f"198.51.{n % 250}.{n // 250}, {n}.1.1.1"))
        assert got.count(401) == 20, peer
        assert set(got) == {401, 429}
    through = asyncio.run(flood("10.0.0.7", lambda n: f"6.6.6.{n % 250}, 198.51.100.7, 10.0.0.9"))
    assert through.count(401) == 20, "the rightmost that is no proxy of ours counts, not what it wrote before"
    assert (
        desk.call(
            "GET", "/v1/halts", "bad", peer="10.0.0.7", headers={"X-Forwarded-For": "8.8.8.8"}
        ).status_code
        == 401
    )
    assert desk.call("GET", "/v1/halts", "bad", peer="2001:db8::2").status_code == 429, "the same /64"
    assert desk.call("GET", "/v1/halts", "bad", peer="2001:db8:0:1::2").status_code == 401


def test_a_refusal_says_when_to_come_back_and_health_is_always_served(tmp_path: Path) -> None:
    desk = Desk(tmp_path, rate_limit_calls=3, rate_limit_seconds=30)
    for left in (2, 1, 0):
        answer = desk.call("GET", "/v1/halts", "view", peer="203.0.113.1")
        assert answer.status_code == 200
        assert answer.headers["ratelimit"].startswith(f'"calls";r={left};t=')
    answer = desk.call("GET", "/v1/halts", "view", peer="203.0.113.2")  # the person counts, not the address
    assert (answer.status_code, answer.json()["code"]) == (429, "E_RATE")
    assert answer.headers["content-type"] == "application/problem+json"
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert answer.headers["ratelimit-policy"] == '"calls";q=3;w=30'
    assert desk.call("GET", "/v1/halts", "operate").status_code == 200
    for _ in range(10):
        assert desk.call("GET", "/health").status_code == 200


def test_the_window_slides() -> None:
    window = Window(calls=10, seconds=10.0)
    assert [window.take("a", 5.0)[0] for _ in range(11)] == [*range(9, -1, -1), -1]
    assert window.take("a", 9.9)[0] == -1
    left, wait = window.take("a", 12.0)
    assert left == 1  # 80 % of ten count still
    assert window.take("a", 12.0)[0] == 0
    refused, wait = window.take("a", 12.0)
    assert refused == -1
    assert window.take("a", 12.0 + wait + 1e-6)[0] >= 0, "when it said"
    assert window.take("a", 40.0)[0] == 9


@pytest.mark.parametrize("seed", range(20))
def test_no_span_of_a_period_has_many_more_calls_than_allowed(seed: int) -> None:
    draw, window, now = random.Random(seed), Window(20, 10.0), 0.0
    taken: list[float] = []
    for _ in range(3000):
        now += draw.expovariate(draw.choice([1, 5, 50]))
        left, wait = window.take("a", now)
        if left >= 0:
            taken.append(now)
        else:
            assert 0 < wait <= 20.0
    for n, begin in enumerate(taken):  # a two-bucket window is off by less than one bucket's unevenness
        assert sum(begin <= one < begin + 10.0 for one in taken[n : n + 60]) <= 39
    assert len(taken) <= 20 * (now / 10.0 + 2)


def test_refused_calls_are_not_counted() -> None:
    window = Window(5, 10.0)
    for _ in range(5):
        window.take("a", 0.0)
    for n in range(1000):
        assert window.take("a", 1.0 + n / 1000)[0] == -1
    assert window.take("a", 14.5)[0] >= 0


def test_memory_is_bounded_and_the_old_are_forgotten() -> None:
    window = Window(5, 10.0, keys=100)
    for n in range(1000):
        window.take(str(n), 0.0)
    assert len(window) == 100
    for n in range(100):
        window.take(f"new {n}", 100.0)
    assert len(window) == 100
    for n in range(40):
        window.take("one", 1000.0 + n)
    assert len(window) == 1, "those that no window covers any more"


MILLION = """
import asyncio, sys
from alphapanda.api.limiter import RateLimitingMiddleware
from alphapanda.processes import facts
import os
async def app(scope, receive, send): pass
async def main():
    limited = RateLimitingMiddleware(app, 100, 60.0)
    scope = {"type": "http", "path": "/v1/orders", "headers": []}
    async def send(message): pass
    async def flood(first, count):
        for n in range(first, first + count):
            await limited({**scope, "client": (f"{n >> 24}.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}", 1)}, None, send)
    await flood(1 << 24, 1000)
    before = facts(os.getpid()).rss
    await flood(2 << 24, 1_000_000)
    print((facts(os.getpid()).rss - before) / 1e6, len(limited.addresses))
asyncio.run(main())
"""


def test_a_million_addresses_cost_less_than_20_mb() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", MILLION], capture_output=True, text=True, timeout=55, check=True
    )
    grown, kept = done.stdout.split()
    assert float(grown) < 20
    assert int(kept) == 10_000


def test_addresses_are_counted_as_what_one_household_has() -> None:
    assert client_of("2001:db8::1") == client_of("2001:db8::ffff:1") != client_of("2001:db8:0:1::1")
    assert client_of("::ffff:1.2.3.4") == client_of("1.2.3.4") != client_of("1.2.3.5")
    assert client_of("fe80::1%eth0") == client_of("fe80::2")
    assert client_of("") == client_of("x" * 10_000) == client_of(":::")
    for name in ("0.0.0.0/0", "::/0", "proxy.example", "10.0.0.0/33"):
        with pytest.raises(ConfigurationError, match="API__TRUSTED_PROXIES"):
            networks([name])


# ── T16: slow clients, on a real socket


@contextlib.contextmanager
def served(app: Any) -> Iterator[tuple[str, int]]:
    """A real server in a thread."""
    line = serving.listening("127.0.0.1", 0)
    address = line.getsockname()[:2]
    ready, hold = threading.Event(), dict[str, Any]()

    async def serve() -> None:
        hold["loop"], hold["ended"] = asyncio.get_running_loop(), asyncio.Event()
        await serving.serve(app, line, ready.set, hold["ended"])

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(20)
    try:
        yield address
    finally:
        hold["loop"].call_soon_threadsafe(hold["ended"].set)
        thread.join(20)


def test_two_hundred_slow_clients_hold_up_nobody(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "HEAD_SECONDS", 1.0)

    async def slow(address: tuple[str, int]) -> float:
        """Byte by byte until the door closes; how long that took."""
        began = monotonic()
        reader, writer = await asyncio.open_connection(*address)
        with contextlib.suppress(OSError):
            for byte in b"GET /v1/orders HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200:
                writer.write(bytes((byte,)))
                await writer.drain()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.2):
                        if not await reader.read(1):
                            break
        writer.close()
        return monotonic() - began

    async def play(address: tuple[str, int]) -> tuple[list[float], list[float]]:
        many = [asyncio.create_task(slow(address)) for _ in range(200)]
        await asyncio.sleep(0.2)
        took: list[float] = []
        head = {"Authorization": f"Bearer {desk.tokens['view']}"}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{address[1]}", headers=head) as client:
            for _ in range(60):
                began = monotonic()
                assert (await client.get("/v1/orders")).status_code == 200
                took.append(monotonic() - began)
        return took, await asyncio.gather(*many)

    with served(desk.app) as address:
        took, closed = asyncio.run(play(address))
    # the median alone: of sixty calls the slowest took 23 to 87 ms beside busy neighbours, but that is the machine's to
    # say (server, the two hundred and who measures share one process here); who is held up is so at every call
    assert sorted(took)[len(took) // 2] < 0.2
    assert max(closed) < 20


def test_of_too_many_silent_connections_the_oldest_goes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "SILENT_MAX", 5)

    async def play(address: tuple[str, int]) -> None:
        lines = [await asyncio.open_connection(*address) for _ in range(8)]
        await asyncio.sleep(0.2)
        for reader, _ in lines[:3]:
            with contextlib.suppress(ConnectionError):
                assert await reader.read(1) == b""
        reader, writer = lines[-1]
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        for _, writer in lines:
            writer.close()

    with served(desk.app) as address:
        asyncio.run(play(address))


def test_a_head_that_is_none_or_too_big_is_answered_bare(desk: Desk) -> None:
    async def play(address: tuple[str, int], sent: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(*address)
        try:
            writer.write(sent)
            return await asyncio.wait_for(reader.read(), 10)
        except ConnectionError:
            return b""
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    with served(desk.app) as address:
        for sent in (
            b"\x16\x03\x01 not http\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 200_000,
            b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ):
            got = asyncio.run(play(address, sent))
            assert not got or got.startswith(b"HTTP/1.1 400"), sent[:20]
            assert b"uvicorn" not in got.lower()

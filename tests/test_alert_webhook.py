"""Alerts posted to a web address: real servers, some of which hang, refuse or dribble."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from alphapanda import logs
from alphapanda.alerts.book import Alert, Telling
from alphapanda.alerts.webhook import QUEUE_MAX, Webhook
from alphapanda.errors import ConfigurationError, RetryPolicy
from alphapanda.settings import Secret, Settings
from alphapanda.workspace import Workspace

KEY = "hook-key-4f1c9e"
QUICK = RetryPolicy(attempts=3, delay_first=0.01, delay_max=0.02)
ALERT = Alert(
    id="daily_loss:paper", rule="daily_loss", subject="paper", level="error", title="paper has lost", message="m",
    raised=1_795_000_000 * 10**9, told=1_795_000_000 * 10**9, times=1,
)  # fmt: skip


class Server:
    """Takes POSTs and answers each as the next of ``answers`` says; the last one stands. ``None``: never."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = list(answers)
        self.heads: list[bytes] = []
        self.bodies: list[dict[str, Any]] = []

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self._writers: list[asyncio.StreamWriter] = []
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1]) for line in head.splitlines() if line.startswith(b"Content-Length")
        )
        self.bodies.append(json.loads(await reader.readexactly(length)))
        self.heads.append(head)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is not None:
            writer.write(answer)
            await writer.drain()
            writer.close()

    @property
    def url(self) -> Secret:
        return Secret(f"http://127.0.0.1:{self.port}/{KEY}?to=desk")


FINE, BUSY, GONE = (
    f"HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n".encode() for status in (204, 503, 410)
)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.005)


def post(*answers: bytes | None, seconds: float = 5.0, number: int = 1) -> tuple[Server, Webhook]:
    """Offer so many alerts, and wait until each was sent or given up."""

    async def all_of_it() -> tuple[Server, Webhook]:
        async with Server(*answers) as server:
            hook = Webhook(server.url, seconds, QUICK)
            running = asyncio.create_task(hook.run())
            for _ in range(number):
                hook.offer(Telling(ALERT, "raised"))
            await until(lambda: hook.sent + hook.failed == number)
            running.cancel()
            await asyncio.wait([running])
            return server, hook

    return asyncio.run(all_of_it())


def test_what_is_posted() -> None:
    server, hook = post(FINE)
    (body,) = server.bodies
    assert body["text"] == "error: paper has lost. m"
    assert (body["id"], body["state"], body["level"], body["times"]) == (
        "daily_loss:paper",
        "raised",
        "error",
        1,
    )
    assert body["at"] == "2026-11-18T16:36:40+05:30"
    assert server.heads[0].startswith(f"POST /{KEY}?to=desk HTTP/1.1\r\n".encode())
    assert hook.health() == {"sent": 1, "failed": 0, "dropped": 0, "waiting": 0}


@pytest.mark.parametrize("answer", [BUSY, b"", b"\x00\xff nonsense\r\n", b"HTTP/1.1 \r\n"])
def test_what_may_pass_is_tried_again(answer: bytes) -> None:
    server, hook = post(answer, FINE)
    assert (len(server.bodies), hook.sent, hook.failed) == (2, 1, 0)


@pytest.mark.parametrize("answer", [None, b"HTTP/1.1 20", b"x" * 100_000], ids=["silent", "half", "endless"])
def test_a_server_that_hangs_has_a_deadline(answer: bytes | None) -> None:
    server, hook = post(answer, answer, FINE, seconds=0.3)
    assert (len(server.bodies), hook.sent) == (3, 1)


def test_what_is_refused_is_not_tried_again_and_the_next_says_so() -> None:
    server, hook = post(GONE, FINE, number=2)
    assert (hook.sent, hook.failed) == (1, 1)
    assert [body["missed"] for body in server.bodies] == [0, 1]


def test_a_redirect_is_not_followed() -> None:
    server, hook = post(b"HTTP/1.1 302 x\r\nLocation: http://127.0.0.1:1/\r\n\r\n")
    assert (len(server.bodies), hook.failed) == (1, 1)


def test_the_queue_is_bounded_and_counts_what_it_drops() -> None:
    async def flood() -> None:
        async with Server(None) as server:
            hook = Webhook(server.url, 30.0)
            running = asyncio.create_task(hook.run())
            for _ in range(1_000):
                hook.offer(Telling(ALERT, "raised"))
            await until(lambda: bool(server.bodies))
            assert hook.health() == {
                "sent": 0,
                "failed": 0,
                "dropped": 1_000 - QUEUE_MAX,
                "waiting": QUEUE_MAX,
            }
            running.cancel()
            await asyncio.wait([running])

    asyncio.run(flood())


def test_nobody_there_is_given_up_and_the_address_is_told_to_nobody(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    logs.configure(workspace, Settings(), "watch")
    url = Secret(f"http://127.0.0.1:1/{KEY}")
    hook = Webhook(url, 1.0, QUICK)

    async def try_it() -> None:
        running = asyncio.create_task(hook.run())
        hook.offer(Telling(ALERT, "raised"))
        await until(lambda: hook.failed == 1)
        running.cancel()
        await asyncio.wait([running])

    try:
        asyncio.run(try_it())
    finally:
        logs.close()
    told = "".join(path.read_text() for path in workspace.logs.iterdir())
    assert "webhook.failed" in told
    assert KEY not in told
    assert KEY not in repr(vars(hook)["_waiting"])
    assert KEY not in repr(hook)


REFUSED = [
    f"http://example.com/{KEY}", f"ftp://127.0.0.1/{KEY}", KEY, "https://",
    f"https://user:{KEY}@example.com/",  # pragma: allowlist secret
    f"https://example.com:99999/{KEY}", f"https://example.com/\r\nX: {KEY}", f"http://127.0.0.1.example.com/{KEY}",
    f"https://[::1/{KEY}", f"http://localhost@example.com/{KEY}",
]  # fmt: skip


@pytest.mark.parametrize("url", REFUSED)
def test_only_https_or_this_machine(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Webhook(Secret(url), 1.0)
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or KEY not in str(caught.value.__context__)


@pytest.mark.parametrize(
    "url", ["https://example.com/x", "https://example.com:8443/x?y", "http://localhost:1/", "http://[::1]:1/"]
)
def test_these_will_do(url: str) -> None:
    assert Webhook(Secret(url), 1.0).health()["sent"] == 0


def test_an_alert_cannot_forge_the_message() -> None:
    hostile = msgspec.structs.replace(ALERT, title='x"},{"level":"none\n\x1b[31m<script>', message="\u202e")

    async def send() -> dict[str, Any]:
        async with Server(FINE) as server:
            hook = Webhook(server.url, 5.0)
            running = asyncio.create_task(hook.run())
            hook.offer(Telling(hostile, "raised"))
            await until(lambda: hook.sent == 1)
            running.cancel()
            await asyncio.wait([running])
            return server.bodies[0]

    body = asyncio.run(send())
    assert body["level"] == "error"
    assert "\x1b" not in body["text"]

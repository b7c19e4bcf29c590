"""Tells a web address of alerts: one JSON POST each, never in anybody's way.

The address is a secret (many hold a key), so it stands in no log, error or repr. What cannot be told is tried again for
a while; what does not fit into the queue is dropped and counted, and the next message that gets through says so. A
redirect is not followed. Only https, or this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from random import Random
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

import msgspec

from alphapanda import logs
from alphapanda.alerts.book import Telling
from alphapanda.errors import ConfigurationError, RetryPolicy
from alphapanda.events import ist
from alphapanda.logs.redaction import safe_text
from alphapanda.settings import LOOPBACK

if TYPE_CHECKING:
    from pydantic import SecretStr

QUEUE_MAX = 100
ANSWER_BYTES_MAX = 4_096
RETRY = RetryPolicy(attempts=5, delay_first=1.0, delay_max=60.0)


class Webhook:
    """Takes messages at once and posts them from ``run``. ``seconds`` is the deadline of one POST, all told."""

    def __init__(self, url: SecretStr, seconds: float, retry: RetryPolicy = RETRY) -> None:
        self._url, self._seconds, self._retry = _checked(url), seconds, retry
        self._waiting: deque[Telling] = deque()
        self._more = asyncio.Event()
        self._draws = Random(0)  # spreads the pauses; nothing is decided on it
        self.sent = self.failed = self.dropped = 0
        self._missed = 0  # dropped or given up since the last that got through

    def offer(self, telling: Telling) -> None:
        """Post it when its turn comes; the oldest that waits goes first, the newest that does not fit is dropped."""
        if len(self._waiting) >= QUEUE_MAX:
            self.dropped += 1
            self._missed += 1
            return
        self._waiting.append(telling)
        self._more.set()

    def health(self) -> dict[str, int]:
        """Counts for a heartbeat."""
        return {
            "sent": self.sent,
            "failed": self.failed,
            "dropped": self.dropped,
            "waiting": len(self._waiting),
        }

    async def run(self) -> None:
        """Post until cancelled."""
        while True:
            self._more.clear()
            while self._waiting:
                await self._deliver(self._waiting[0])
                self._waiting.popleft()
            await self._more.wait()

    async def _deliver(self, telling: Telling) -> None:
        why = ""
        for attempt in range(1, self._retry.attempts + 1):
            body = msgspec.json.encode(message(telling, self._missed))
            try:
                async with asyncio.timeout(self._seconds):
                    status = await _post(self._url, body)
            except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
                why = type(error).__name__  # not its text: that may hold the address
            else:
                if 200 <= status < 300:
                    self.sent += 1
                    self._missed = 0
                    return
                why = f"status {status}"
                if 300 <= status < 500 and status not in (408, 425, 429):
                    break  # the same again would be answered the same
            if attempt < self._retry.attempts:
                await asyncio.sleep(self._retry.delay(attempt, self._draws.random()))
        self.failed += 1
        self._missed += 1
        logs.channel("application").warning("webhook.failed", alert=telling.alert.id, reason=why)


def message(telling: Telling, missed: int) -> dict[str, Any]:
    """What is posted. ``text`` is what chat programs show; ``missed`` how many before it did not get through."""
    alert, word = telling
    now = alert.cleared if word == "cleared" else alert.told
    text = f"{'over' if word == 'cleared' else alert.level}: {alert.title}"
    told: dict[str, Any] = {
        "text": safe_text(f"{text}. {alert.message}".strip()), "state": word, "id": alert.id, "rule": alert.rule,
        "level": alert.level, "title": safe_text(alert.title), "message": safe_text(alert.message),
        "fix": alert.fix, "namespace": alert.namespace, "times": alert.times, "raised": _when(alert.raised),
        "at": _when(now), "missed": missed,
    }  # fmt: skip
    return told


def _when(at: int) -> str:
    return ist(at).isoformat(timespec="seconds")


def _checked(url: SecretStr) -> SplitResult:
    text = url.get_secret_value()
    try:
        parts = urlsplit(text)
        host, named = parts.hostname, parts.port != 0  # a port that is none raises
    except ValueError:
        parts, host, named = urlsplit(""), None, False
    local = parts.scheme == "http" and host in LOOPBACK
    printable = all(32 < ord(letter) < 127 for letter in text)  # nothing that ends a line of HTTP
    if not (host and named and printable and (parts.scheme == "https" or local)) or parts.username:
        raise ConfigurationError(
            "ALERTS__WEBHOOK_URL is not an https:// address",
            fix="https://..., or http:// on this machine; a key goes into its path, not before an @",
        )
    return parts


async def _post(url: SplitResult, body: bytes) -> int:
    """The status of one POST. Raises OSError (a deadline, too), ValueError, or what asyncio says of half an answer."""
    secure = url.scheme == "https"
    reader, writer = await asyncio.open_connection(
        url.hostname, url.port or (443 if secure else 80), limit=ANSWER_BYTES_MAX,
        ssl=ssl.create_default_context() if secure else None,
    )  # fmt: skip
    try:
        target = f"{url.path or '/'}{'?' if url.query else ''}{url.query}"
        head = (
            f"POST {target} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nUser-Agent: alphapanda\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await writer.drain()
        line = await reader.readuntil(b"\r\n")
        version, status, *_ = line.split(None, 2)
        if not version.startswith(b"HTTP/1."):
            raise ValueError("not HTTP")
        return int(status)
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            await writer.wait_closed()

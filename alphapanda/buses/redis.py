"""The bus between processes: Redis streams, one entry a message with one field, consumer groups for work.

One operation is one round trip. What must look before it acts (trimming, taking over from the dead) is a script on the
server, so nothing comes between; scripts travel whole with each call, so a restarted server needs no preparing.
Nothing is tried again here: an error tells the caller within ``timeout`` seconds, and the next call connects anew.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import redis.asyncio
import redis.exceptions as faults
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from alphapanda.buses.base import Bus, Message, Share, Tail
from alphapanda.buses.scripts import AGAIN, TAILS, TRIM
from alphapanda.clock import monotonic
from alphapanda.errors import ConfigurationError, RedisError

if TYPE_CHECKING:
    from alphapanda.settings import RedisSettings


Entries = list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]]  # by topic: offset, fields

# Our sentence, fix and code for what redis-py raises; the first that fits.
FAULTS: list[tuple[type[Exception] | tuple[type[Exception], ...], str, str, str]] = [
    (faults.OutOfMemoryError, "the server's memory limit is reached; it refuses writes and has dropped nothing",
     "trim topics, or raise the server's maxmemory", "E_REDIS_MEMORY"),
    ((faults.AuthenticationError, faults.AuthorizationError, faults.NoPermissionError), "the server refuses this user",
     "correct REDIS__USERNAME and REDIS__PASSWORD, or the user's rights on the server", "E_REDIS_LOGIN"),
    (faults.BusyLoadingError, "the server is still reading its data", "wait: it will answer soon", "E_REDIS"),
    ((TimeoutError, faults.TimeoutError), "the server does not answer in time",
     "look at its log, or raise REDIS__TIMEOUT_SECONDS", "E_REDIS_TIMEOUT"),
    ((OSError, faults.ConnectionError), "the server cannot be reached",
     "start it (`alphapanda up`), or correct its address", "E_REDIS_DOWN"),
]  # fmt: skip


class RedisBus(Bus):
    """``client`` is the connection pool, for those who keep views on the same server. ``address`` holds no secret."""

    def __init__(self, client: redis.asyncio.Redis, address: str, timeout: float) -> None:
        self.client = client
        self.address = address
        self.timeout = timeout
        self._closed = False
        self._until_trim: dict[str, int] = {}  # messages a bounded topic takes before its next trim

    @classmethod
    def connect(
        cls,
        address: str | Path,
        *,
        username: str | None = None,
        password: str | None = None,
        database: int = 0,
        timeout: float = 2.0,
    ) -> RedisBus:
        """A bus at a socket's path, ``host:port`` or a ``redis://``, ``rediss://`` or ``unix://`` URL. Connects when
        first used; ``timeout`` is the seconds after which an operation fails."""
        options: dict[str, Any] = {
            "username": username,
            "password": password,
            "db": database,
            "socket_timeout": timeout,
            "retry": Retry(NoBackoff(), 0),
        }
        if isinstance(address, Path) or address.startswith("/"):
            return cls(redis.asyncio.Redis(unix_socket_path=str(address), **options), str(address), timeout)
        url = address if "://" in address else f"redis://{address}"
        try:
            split = urlsplit(url)
            shown = f"{split.scheme}://{split.netloc.rpartition('@')[2]}{split.path}"
            if split.scheme != "unix":
                options["socket_connect_timeout"] = timeout
            from_url: Callable[..., redis.asyncio.Redis] = cast("Any", redis.asyncio.Redis).from_url
            return cls(from_url(url, **options), shown, timeout)
        except ValueError:
            raise ConfigurationError("unreadable server address", fix="write redis://host:port/0") from None

    @classmethod
    def of(cls, address: str | Path, settings: RedisSettings) -> RedisBus:
        """A bus there, as the settings say who we are and how long to wait."""
        return cls.connect(
            address,
            username=settings.username,
            password=settings.password.get_secret_value() if settings.password else None,
            database=settings.database,
            timeout=settings.timeout_seconds,
        )

    def __repr__(self) -> str:
        return f"RedisBus({self.address!r})"

    async def ask(
        self, doing: str, topics: Iterable[str], *commands: Sequence[Any], wait: float = 0.0
    ) -> Any:
        """Replies to the commands, sent together; to a single one as it is. ``wait``: how long it may block. Every
        fault becomes a RedisError but NOGROUP (a ResponseError), which the caller mends."""
        client: Any = self.client
        try:
            if self._closed:
                raise faults.ConnectionError
            async with asyncio.timeout(self.timeout + wait):
                if len(commands) == 1:
                    return await client.execute_command(*commands[0])
                pipe = client.pipeline(transaction=False)
                for command in commands:
                    pipe.execute_command(*command)
                replies: list[Any] = await pipe.execute(raise_on_error=False)
                if type(replies[-1]) is list:
                    replies += replies.pop()  # of a transaction, EXEC's reply holds the others
                for reply in replies:
                    if isinstance(reply, Exception):
                        raise reply
                return replies
        except (faults.RedisError, OSError) as error:  # a TimeoutError is an OSError
            # What the server says while we connect comes wrapped as a connection that failed.
            fault = error.__cause__ if isinstance(error.__cause__, faults.RedisError) else error
            if str(fault).startswith(("NOGROUP", "UNBLOCKED")):
                raise
            known = (rest for kinds, *rest in FAULTS if isinstance(fault, kinds))
            other = f"the server says: {str(fault)[:200]}", "", "E_REDIS"
            raise self._failure(doing, topics, *next(known, other)) from None

    def _failure(self, operation: str, topics: Iterable[str], what: str, fix: str, code: str) -> RedisError:
        if self._closed:
            what, fix = "the bus is closed", "open a new one"
        topic = ", ".join(topics)
        message = f"{operation} {topic}: {what}"
        return RedisError(message, fix=fix, code=code, operation=operation, topic=topic, address=self.address)

    async def blocking(
        self, topics: Sequence[str], count: int, timeout: float, before: Sequence[Any], after: Sequence[Any]
    ) -> list[Message]:
        """One XREAD or XREADGROUP; may return [] early: a wait ends before the time in which a live server answers."""
        wait = max(0.0, min(timeout, self.timeout / 2))
        block = ("BLOCK", max(1, round(wait * 1000))) if wait > 0 else ()
        command = (*before, "COUNT", count, *block, "STREAMS", *topics, *after)
        reply: Entries = await self.ask("read", topics, command, wait=wait)
        return [
            Message(topic.decode(), offset.decode(), fields.get(b"b", b""))
            for topic, entries in reply
            for offset, fields in entries
        ]

    def _trims(self, topics: Iterable[str], bound: int) -> list[Sequence[Any]]:
        """The trimming that is due before these messages: first, so that a full server gets room."""
        due: list[Sequence[Any]] = []
        for topic, count in Counter(topics).items():
            left = self._until_trim.get(topic, 0) - count
            if left < 0:
                due.append(("EVAL", TRIM, 1, topic, bound))
                left = bound // 10
            self._until_trim[topic] = left
        return due

    async def publish_all(self, items: Sequence[tuple[str, bytes]], *, bound: int | None = None) -> list[str]:
        if not items:
            return []
        topics = [topic for topic, _ in items]
        trims = [] if bound is None else self._trims(topics, bound)
        adds = [("XADD", topic, "*", "b", body) for topic, body in items]
        whole = adds if len(adds) == 1 else [("MULTI",), *adds, ("EXEC",)]
        try:
            reply = await self.ask("publish", dict.fromkeys(topics), *trims, *whole)
        except RedisError:
            self._until_trim.clear()
            raise
        return [
            offset.decode() for offset in (reply[-len(adds) :] if len(trims) + len(whole) > 1 else [reply])
        ]

    async def after(self, after: dict[str, str], count: int, timeout: float) -> list[Message]:
        if not after:
            await asyncio.sleep(timeout)
            return []
        topics, deadline = list(after), monotonic() + timeout
        while True:
            left = deadline - monotonic()
            found = await self.blocking(topics, count, left, ["XREAD"], list(after.values()))
            if found or left <= self.timeout / 2:
                return found

    async def tails(self, topics: Iterable[str]) -> dict[str, Tail]:
        topics = list(topics)
        replies = await self.ask("tails", topics, ("EVAL", TAILS, len(topics), *topics))
        return {
            topic: Tail(last.decode(), added, length, {group.decode(): lag for group, lag in lags})
            for topic, (last, added, length, lags) in zip(topics, replies, strict=True)
        }

    async def trim(self, topic: str, bound: int) -> int:
        return await self.ask("trim", [topic], ("EVAL", TRIM, 1, topic, bound))

    def share(self, topics: Sequence[str], group: str, consumer: str) -> Share:
        return RedisShare(self, topics, group, consumer)

    async def close(self) -> None:
        self._closed = True
        await self.client.aclose()


class RedisShare(Share):
    """See ``Share``."""

    def __init__(self, bus: RedisBus, topics: Sequence[str], group: str, consumer: str) -> None:
        self._bus = bus
        self._topics = list(topics)
        self._group = group
        self._me = consumer

    async def new(self, count: int, timeout: float) -> list[Message]:
        asked = "XREADGROUP", "GROUP", self._group, self._me
        try:
            return await self._bus.blocking(self._topics, count, timeout, asked, [">"] * len(self._topics))
        except faults.ResponseError:  # the server forgot the group: everything it has now is new to us
            return await self.again((), 0.0, 0)

    async def again(self, held: Iterable[tuple[str, str]], idle: float, count: int) -> list[Message]:
        known = [f"{topic} {offset}" for topic, offset in held]
        keys = len(self._topics), *self._topics
        ask = "EVAL", AGAIN, *keys, self._group, self._me, round(idle * 1000), count, *known
        return [
            Message(topic.decode(), offset.decode(), body or b"", attempts, lost=body is None)
            for topic, offset, body, attempts in await self._bus.ask("read", self._topics, ask)
        ]

    async def ack(self, offsets: dict[str, list[str]], alive: bool) -> None:
        acks: list[Sequence[Any]] = [("XACK", topic, self._group, *ids) for topic, ids in offsets.items()]
        if alive:
            acks += [("XCLAIM", topic, self._group, self._me, 0, "0-0", "JUSTID") for topic in self._topics]
        if acks:
            with suppress(faults.ResponseError):  # the server forgot the group: nothing to acknowledge
                await self._bus.ask("ack", offsets, *acks)

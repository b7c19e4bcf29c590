"""Connections to the server, and what goes wrong with them told in our own words."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import redis
import redis.retry
from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from alphapanda.errors import RedisError
from alphapanda.settings import RedisSettings

CONNECTIONS = 8  # of one client; opening one costs more than many operations


class Cause(NamedTuple):
    """Why an operation failed, as one word for programs and one sentence of advice."""

    name: str
    fix: str


FULL = Cause("full", "give the server more memory, or trim what fills it; it evicted nothing")
DISK = Cause("disk", "free the disk of the server: it takes no write that it cannot keep")
READ_ONLY = Cause("read-only", "connect to the server that takes writes, not to its replica")
FORBIDDEN = Cause("forbidden", "use the account of this namespace, or let its ACL reach these keys")
LOGIN = Cause("login", "check REDIS__USERNAME and REDIS__PASSWORD")
LOADING = Cause("loading", "wait: the server reads its data")
TIMEOUT = Cause("timeout", "see whether the server is overloaded or stopped; it may have done the work")
CROWDED = Cause("crowded", "do fewer things at once with one client")
UNREACHABLE = Cause("unreachable", "see whether the server runs: `alphapanda status`")
OTHER = Cause("refused", "see whether another program writes this key")


def _cause(error: exceptions.RedisError) -> Cause:
    known: list[tuple[type[Exception], Cause]] = [
        (exceptions.OutOfMemoryError, FULL),
        (exceptions.ReadOnlyError, READ_ONLY),
        (exceptions.NoPermissionError, FORBIDDEN),
        (exceptions.AuthenticationError, LOGIN),
        (exceptions.BusyLoadingError, LOADING),
        (exceptions.MaxConnectionsError, CROWDED),
        (exceptions.TimeoutError, TIMEOUT),
        (exceptions.ConnectionError, UNREACHABLE),
    ]
    text = str(error)
    for word, cause in (("MISCONF", DISK), ("-OOM", FULL), ("-READONLY", READ_ONLY)):
        if word in text:  # the last two as old servers report them from inside a script
            return cause
    if "No connection available" in text:  # as its pool says it
        return CROWDED
    return next((cause for kind, cause in known if isinstance(error, kind)), OTHER)


@contextmanager
def told(operation: str, key: str = "", namespace: str = "") -> Generator[None]:
    """Raise what the server or the connection to it does wrong as RedisError.

    Its ``context`` holds operation, key, namespace and the ``cause`` in one word. After a failure a write may have
    happened or not: an answer can get lost.
    """
    try:
        yield
    except exceptions.RedisError as error:
        cause = _cause(error)
        raise RedisError(
            f"{operation}{f' of {key}' if key else ''} failed: {error}",
            fix=cause.fix,
            operation=operation,
            key=key,
            namespace=namespace,
            cause=cause.name,
        ) from error


def open_client(address: str | Path, settings: RedisSettings | None = None) -> Redis:
    """A client for a unix socket's path or a redis:// address; it connects when first used.

    It never repeats a command by itself, as clients do from the box: an increment whose answer got lost would count
    twice. More operations at once than it has connections wait for their turn.
    """
    settings = settings or RedisSettings()
    options: dict[str, Any] = {
        **_options(settings),
        "retry": Retry(NoBackoff(), 0),
        "max_connections": CONNECTIONS,
        "timeout": settings.timeout_seconds,
    }
    if isinstance(address, Path):
        options |= {
            "connection_class": UnixDomainSocketConnection,
            "path": str(address),
            "db": settings.database,
        }
        return Redis.from_pool(BlockingConnectionPool(**options))
    return Redis.from_pool(BlockingConnectionPool.from_url(address, **options))  # pyright: ignore[reportUnknownMemberType] - it takes anything


def open_blocking(address: str | Path, settings: RedisSettings) -> redis.Redis:
    """The same for a thread; one command at a time."""
    options: dict[str, Any] = {**_options(settings), "retry": redis.retry.Retry(NoBackoff(), 0)}
    if isinstance(address, Path):
        return redis.Redis(unix_socket_path=str(address), db=settings.database, **options)
    return redis.Redis.from_url(address, **options)  # pyright: ignore[reportUnknownMemberType] - it takes anything


def _options(settings: RedisSettings) -> dict[str, Any]:
    return {
        "username": settings.username,
        "password": settings.password.get_secret_value() if settings.password else None,
        "socket_timeout": settings.timeout_seconds,
        "socket_connect_timeout": settings.timeout_seconds,
    }


def text(value: str | bytes) -> str:
    """What a client returned, whether it decodes or not."""
    return value.decode() if isinstance(value, bytes) else value

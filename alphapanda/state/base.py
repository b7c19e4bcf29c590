"""What the state managers have in common: keys that stay in their namespace, JSON that is read as a declared type.

Every key is ``{namespace}:{kind}:{identifier}``. Namespace and kind hold no colon, so no identifier leads out of them.
"""

from __future__ import annotations

import math
import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, Self, TypeVar, cast

import msgspec
from redis.asyncio import Redis

from alphapanda.clock import monotonic
from alphapanda.errors import DataError, RedisError, ValidationError
from alphapanda.settings import RedisSettings
from alphapanda.state.client import open_client, text, told
from alphapanda.workspace import checked

if TYPE_CHECKING:
    from redis.commands.core import AsyncScript

T = TypeVar("T")
DAY = 86_400.0
EXACT = 2**53  # scripts count in doubles
LONGEST = 512  # characters of an identifier
ENCODER = msgspec.json.Encoder(order="deterministic")  # equal values are equal bytes


class Health(NamedTuple):
    """A server that took a write and gave it back."""

    latency_ms: float
    run_id: str  # another one: the server was started anew, and may lack its last second


class Within(NamedTuple):
    """Whether an amount fitted under its limit, and the counter after that."""

    allowed: bool
    value: int


class Versioned(NamedTuple, Generic[T]):
    """A document and its version, which grows with each change."""

    value: T
    version: int


class BaseStateManager(ABC):
    """Keys of one kind in one namespace, on a client that is given, or on one of its own if given an address.

    ``close`` (or ``async with``) closes only a client of its own.
    """

    default_kind: ClassVar[str]

    def __init__(
        self,
        server: Redis | str | Path,
        namespace: str,
        kind: str | None = None,
        *,
        settings: RedisSettings | None = None,
    ) -> None:
        self.namespace = checked(namespace)
        self.kind = part(kind or self.default_kind)
        self._owned = not isinstance(server, Redis)
        self.client = server if isinstance(server, Redis) else open_client(server, settings)
        self._scripts: dict[str, AsyncScript] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections, if they are ours."""
        if self._owned:
            with self._told("close"):
                await self.client.aclose()

    @abstractmethod
    async def delete(self, *names: str) -> int:
        """Forget these for good; returns how many there were."""

    def key(self, identifier: str) -> str:
        """The key of an identifier, which may be any printable text, colons included; else ValidationError E_KEY."""
        return f"{self.namespace}:{self.kind}:{readable(identifier)}"

    async def names(self, pattern: str = "*") -> list[str]:
        """The identifiers that fit a glob pattern, sorted. It walks the server's keys in small steps."""
        prefix = self.key(pattern).removesuffix(pattern)
        with self._told("scan", prefix + pattern):
            keys = cast(
                "AsyncIterator[bytes | str]",
                self.client.scan_iter(match=prefix + pattern, count=1000),  # pyright: ignore[reportUnknownMemberType]
            )
            found = {text(key).removeprefix(prefix) async for key in keys}
        return sorted(found)

    async def health_check(self) -> Health:
        """Write a key and read it back: a server that is full, read-only or out of disk still answers pings."""
        key, token, started = f"{self.namespace}:health", secrets.token_hex(8), monotonic()
        with self._told("health_check", key):
            await self.client.set(key, token, px=10_000)
            if (back := await self.client.get(key)) is None or text(back) != token:
                raise RedisError(
                    "health_check: what was written is gone",
                    fix="see who else flushes or fills this server",
                    operation="health_check",
                    key=key,
                    namespace=self.namespace,
                    cause="lost",
                )
            latency = (monotonic() - started) * 1e3
            facts: dict[str, Any] = await self.client.info("server")  # pyright: ignore[reportUnknownMemberType]
        return Health(latency, str(facts.get("run_id", "")))

    def _told(self, operation: str, key: str = "") -> AbstractContextManager[None]:
        return told(operation, key, self.namespace)

    async def _run(self, operation: str, source: str, key: str, *arguments: str | bytes | int) -> Any:
        """Run a script on one key."""
        script = self._scripts.get(source)
        if script is None:
            script = self._scripts[source] = self.client.register_script(source)
        with self._told(operation, key):
            return await script([key], arguments)

    async def _forget(self, keys: list[str]) -> int:
        with self._told("delete", " ".join(keys[:3])):
            return await self.client.unlink(*keys) if keys else 0

    def _decode(self, raw: bytes | str, shape: type[T], key: str) -> T:
        try:
            return msgspec.json.decode(raw, type=shape)
        except msgspec.DecodeError as error:  # ValidationError of msgspec is one
            raise DataError(
                f"{key} holds no {getattr(shape, '__name__', shape)}: {error}",
                fix="delete the key: what it held is written anew from the journal",
                key=key,
                namespace=self.namespace,
            ) from error


def readable(name: str) -> str:
    """A name as it may stand in a key or field: 1 to 512 printable characters, else ValidationError E_KEY."""
    if not name or len(name) > LONGEST or not name.isprintable():
        raise ValidationError(
            f"{name[:60]!r} cannot be part of a key",
            fix=f"use 1 to {LONGEST} printable characters",
            code="E_KEY",
        )
    return name


def part(name: str) -> str:
    """A fixed part of a key: small letters, digits, ``_`` and ``-``."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", name):
        raise ValidationError(
            f"{name[:60]!r} cannot be part of a key",
            fix="use small letters, digits, _ and -, such as position",
            code="E_KEY",
        )
    return name


def encode(value: Any) -> bytes:
    """JSON, the same for equal values; not-a-number becomes null. ValidationError if there is no JSON form."""
    try:
        return ENCODER.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValidationError(
            f"a {type(value).__name__} cannot be kept: {error}",
            fix="keep numbers, texts, lists, dicts with text keys, and msgspec structs",
        ) from error


def milliseconds(ttl: float | None) -> int | str:
    """A time to live as the server takes it; empty for good."""
    if ttl is None:
        return ""
    if not (math.isfinite(ttl) and 0.001 <= ttl <= 1e9):
        raise ValidationError(
            f"a time to live of {ttl!r} s", fix="use 0.001 to 1e9 seconds, or None for good"
        )
    return int(ttl * 1000)


def whole(amount: int, least: int = -EXACT) -> int:
    """An amount that the server counts exactly."""
    if isinstance(amount, bool) or not isinstance(amount, int) or not least <= amount <= EXACT:  # pyright: ignore[reportUnnecessaryIsInstance] - notebooks pass floats
        raise ValidationError(f"amount {amount!r}", fix=f"use a whole number from {least} to 2**53")
    return amount


def merged(old: Any, patch: Any) -> Any:
    """A document after a merge patch (RFC 7396); neither argument is changed."""
    if not isinstance(patch, dict):
        return patch
    new = dict(cast("dict[str, Any]", old)) if isinstance(old, dict) else dict[str, Any]()
    for name, value in cast("dict[str, Any]", patch).items():
        if value is None:
            new.pop(name, None)
        else:
            new[name] = merged(new.get(name), value)
    return new


def joined(row: Mapping[bytes | str, bytes | str]) -> str:
    """The JSON object that a hash of JSON fields stands for."""
    return "{" + ",".join(f"{encode(text(name)).decode()}:{text(value)}" for name, value in row.items()) + "}"

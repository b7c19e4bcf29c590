"""Three ways to keep state that several processes share; every change is one atomic step on the server.

    values = KeyValueStateManager(client, "paper", "limit")
    await values.increment_within("orders", 1, limit=3000, ttl=2 * DAY)     # Within(allowed=True, value=17)

Values are JSON, read as the type that is asked for (``shape``). A failure is a RedisError with operation, key,
namespace and cause; after one a write may have happened or not. Times to live are seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, cast

import msgspec

from alphapanda.errors import RedisError, ValidationError
from alphapanda.state import scripts
from alphapanda.state.base import (
    DAY,
    BaseStateManager,
    Health,
    Versioned,
    Within,
    encode,
    joined,
    merged,
    milliseconds,
    part,
    readable,
    whole,
)

__all__ = [
    "DAY",
    "BaseStateManager",
    "CollectionStateManager",
    "DocumentStateManager",
    "Health",
    "KeyValueStateManager",
    "Versioned",
    "Within",
]

T = TypeVar("T")
FIELDS = 1000  # of one item
TRIES = 1000  # of a merge that others keep overtaking


class KeyValueStateManager(BaseStateManager):
    """Single values and counters."""

    default_kind = "value"

    async def get(self, identifier: str, shape: type[T]) -> T | None:
        """The value, or None if there is none; DataError if it is not of that type."""
        return (await self.mget([identifier], shape)).get(identifier)

    async def mget(self, identifiers: Iterable[str], shape: type[T]) -> dict[str, T]:
        """Those values that exist, in one round trip, as they stood at one moment."""
        keys = {identifier: self.key(identifier) for identifier in identifiers}
        if not keys:
            return {}
        with self._told("mget", next(iter(keys.values()))):
            raws = await self.client.mget(list(keys.values()))
        pairs = zip(keys.items(), raws, strict=True)
        return {name: self._decode(raw, shape, key) for (name, key), raw in pairs if raw is not None}

    async def set(self, identifier: str, value: Any, ttl: float | None = None) -> None:
        """Keep a value, for ``ttl`` seconds or for good."""
        await self.set_all({identifier: value}, ttl)

    async def set_all(self, values: Mapping[str, Any], ttl: float | None = None) -> None:
        """Keep several values in one round trip, all or none."""
        life = None if ttl is None else int(milliseconds(ttl))
        encoded = {self.key(name): encode(value) for name, value in values.items()}
        if not encoded:
            return
        with self._told("set", next(iter(encoded))):
            async with self.client.pipeline(transaction=len(encoded) > 1) as pipe:
                for key, raw in encoded.items():
                    pipe.set(key, raw, px=life)
                await pipe.execute()

    async def delete(self, *names: str) -> int:
        """Forget these for good; returns how many there were."""
        return await self._forget([self.key(name) for name in names])

    async def increment(self, identifier: str, by: int = 1, ttl: float | None = None) -> int:
        """Add to a counter and return it. ``ttl`` runs from the first increment on."""
        return int(
            await self._run(
                "increment", scripts.INCREMENT, self.key(identifier), whole(by), milliseconds(ttl)
            )
        )

    async def increment_within(
        self, identifier: str, amount: int, limit: int, ttl: float | None = None
    ) -> Within:
        """Add ``amount`` (not negative) if the counter then is at most ``limit``; else change nothing."""
        arguments = whole(amount, least=0), whole(limit, least=0), milliseconds(ttl)
        allowed, value = await self._run(
            "increment_within", scripts.INCREMENT_WITHIN, self.key(identifier), *arguments
        )
        return Within(bool(allowed), int(value))

    async def decrease(self, identifier: str, amount: int) -> int:
        """Take ``amount`` (not negative) from a counter, never below zero; returns the counter."""
        return int(
            await self._run("decrease", scripts.DECREASE, self.key(identifier), whole(amount, least=0))
        )

    async def compare_and_set(
        self, identifier: str, expected: Any, value: Any, ttl: float | None = None
    ) -> bool:
        """Set the value if it is ``expected`` now (None: if there is none); returns whether it was set."""
        arguments = int(expected is not None), encode(expected), encode(value), milliseconds(ttl)
        return bool(
            await self._run("compare_and_set", scripts.COMPARE_AND_SET, self.key(identifier), *arguments)
        )


class DocumentStateManager(BaseStateManager):
    """JSON documents, each with a version; kept as a hash of ``document`` and ``version``."""

    default_kind = "document"

    async def get(self, identifier: str, shape: type[T]) -> T | None:
        """The document, or None if there is none."""
        found = await self.read(identifier, shape)
        return found and found.value

    async def read(self, identifier: str, shape: type[T]) -> Versioned[T] | None:
        """The document with its version, to hand back to ``put``."""
        return (await self.mget([identifier], shape)).get(identifier)

    async def mget(self, identifiers: Iterable[str], shape: type[T]) -> dict[str, Versioned[T]]:
        """Those documents that exist, in one round trip, as they stood at one moment."""
        keys = {identifier: self.key(identifier) for identifier in identifiers}
        if not keys:
            return {}
        with self._told("mget", next(iter(keys.values()))):
            async with self.client.pipeline(transaction=len(keys) > 1) as pipe:
                for key in keys.values():
                    pipe.hmget(key, ["document", "version"])
                rows = cast("list[list[bytes | str | None]]", await pipe.execute())
        found: dict[str, Versioned[T]] = {}
        for (name, key), (raw, version) in zip(keys.items(), rows, strict=True):
            if raw is not None and version is not None:
                found[name] = Versioned(self._decode(raw, shape, key), int(version))
        return found

    async def put(
        self, identifier: str, document: Any, *, version: int | None = None, ttl: float | None = None
    ) -> int:
        """Keep the whole document; returns its new version.

        With ``version`` only if that is still the newest (0: only if there is none), else ValidationError E_CONFLICT.
        """
        stored, now, _ = await self._store(
            identifier, "" if version is None else version, encode(document), ttl
        )
        if stored:
            return now
        raise ValidationError(
            f"{self.key(identifier)} is at version {now}, not {version}",
            fix="read it again and repeat the change",
            code="E_CONFLICT",
            key=self.key(identifier),
            namespace=self.namespace,
            version=now,
        )

    async def merge(
        self, identifier: str, patch: Mapping[str, Any], *, ttl: float | None = None
    ) -> Versioned[dict[str, Any]]:
        """Change some fields (RFC 7396: null removes, objects merge) and return the whole; no one's change is lost.

        The merge is done here and stored only on the version it was made from, since the server's own JSON would
        round 64-bit times. A writer that was overtaken is handed the newer document and repeats.
        """
        wanted = msgspec.json.decode(encode(patch), type=dict[str, Any])
        found = await self.read(identifier, dict[str, Any])
        old, version = found or ({}, 0)
        for _ in range(TRIES):
            new = merged(old, wanted)
            stored, version, raw = await self._store(identifier, version, encode(new), ttl)
            if stored:
                return Versioned(new, version)
            old = {} if raw is None else self._decode(raw, dict[str, Any], self.key(identifier))
        raise RedisError(
            f"merge of {self.key(identifier)}: others changed it {TRIES} times in between",
            fix="let fewer processes write one document",
            operation="merge",
            key=self.key(identifier),
            namespace=self.namespace,
            cause="contended",
        )

    async def delete(self, *names: str) -> int:
        """Forget these for good; returns how many there were."""
        return await self._forget([self.key(name) for name in names])

    async def _store(
        self, identifier: str, version: int | str, raw: bytes, ttl: float | None
    ) -> tuple[bool, int, bytes | str | None]:
        arguments = version, raw, milliseconds(ttl)
        stored, now, held = await self._run("put", scripts.PUT_DOCUMENT, self.key(identifier), *arguments)
        return bool(stored), int(now), held


class CollectionStateManager(BaseStateManager):
    """Related items: ``{namespace}:{kind}:{collection}:{item}``, each a flat set of named fields."""

    default_kind = "collection"

    def item(self, collection: str, name: str) -> str:
        """The key of an item."""
        return self.key(f"{part(collection)}:{name}") if name else self.key("")

    async def put(self, collection: str, name: str, fields: Any, ttl: float | None = None) -> None:
        """Keep an item (a mapping or a struct) as a whole: fields it had before and has no more are gone."""
        key, raw = self.item(collection, name), encode(fields)
        values = msgspec.json.decode(raw, type=dict[str, msgspec.Raw]) if raw.startswith(b"{") else {}
        if not 0 < len(values) <= FIELDS:
            fix = f"use a mapping or a struct of 1 to {FIELDS} fields"
            raise ValidationError(f"{key} cannot be kept: {type(fields).__name__}", fix=fix, key=key)
        pairs = [half for field, value in values.items() for half in (field, bytes(value))]
        await self._run("put", scripts.PUT_ITEM, key, milliseconds(ttl), *pairs)

    async def get(self, collection: str, name: str, shape: type[T]) -> T | None:
        """The item, or None if there is none."""
        return (await self.mget(collection, [name], shape)).get(name)

    async def mget(self, collection: str, names: Iterable[str], shape: type[T]) -> dict[str, T]:
        """Those items that exist, in one round trip, as they stood at one moment."""
        keys = {name: self.item(collection, name) for name in names}
        if not keys:
            return {}
        with self._told("mget", next(iter(keys.values()))):
            async with self.client.pipeline(transaction=len(keys) > 1) as pipe:
                for key in keys.values():
                    pipe.hgetall(key)
                rows = cast("list[dict[bytes | str, bytes | str]]", await pipe.execute())
        pairs = zip(keys.items(), rows, strict=True)
        return {name: self._decode(joined(row), shape, key) for (name, key), row in pairs if row}

    async def scan(self, collection: str, pattern: str = "*") -> list[str]:
        """The names of the items that fit a glob pattern, sorted."""
        prefix = f"{part(collection)}:"
        return [name.removeprefix(prefix) for name in await self.names(prefix + pattern)]

    async def all(self, collection: str, shape: type[T], pattern: str = "*") -> dict[str, T]:
        """The items that fit a glob pattern."""
        return await self.mget(collection, await self.scan(collection, pattern), shape)

    async def add(self, collection: str, name: str, amounts: Mapping[str, float]) -> dict[str, int | float]:
        """Add to numeric fields, all or none, and return them; an item or field that is not there starts at 0.

        Whole numbers stay whole and exact, below 2**53: keep money in paise.
        """
        key, arguments = self.item(collection, name), list[str]()
        for field, amount in amounts.items():
            if not math.isfinite(amount) or isinstance(amount, bool):
                raise ValidationError(f"{key}: {field} + {amount!r}", fix="add a finite number", key=key)
            arguments += [readable(field), repr(amount)]
        if not 0 < len(amounts) <= FIELDS:
            raise ValidationError(f"{key}: nothing to add", fix=f"name 1 to {FIELDS} fields", key=key)
        sums = await self._run("add", scripts.ADD_TO_ITEM, key, *arguments)
        return {field: msgspec.json.decode(value) for field, value in zip(amounts, sums, strict=True)}

    async def remove(self, collection: str, *names: str) -> int:
        """Forget these items; returns how many there were."""
        return await self._forget([self.item(collection, name) for name in names])

    async def delete(self, *names: str) -> int:
        """Forget whole collections; returns how many items they had. Items put meanwhile may stay."""
        gone = 0
        for collection in names:
            gone += await self.remove(collection, *await self.scan(collection))
        return gone

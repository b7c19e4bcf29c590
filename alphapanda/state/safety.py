"""Whether a server that somebody else runs keeps what it acknowledged.

Measured: as shipped (snapshots only) a killed server lost every acknowledged write; with the append-only file none. An
evicting policy silently dropped positions and orders once memory was full. So money never meets either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from redis import exceptions

from alphapanda.errors import ConfigurationError
from alphapanda.state.client import text, told

if TYPE_CHECKING:
    from redis.asyncio import Redis

PAPER = "paper"  # the one namespace without money
UNKNOWN = "unknown"  # the server may not be asked
NEEDED = {
    "appendonly": ("yes",),
    "appendfsync": ("everysec", "always"),
    "maxmemory-policy": ("noeviction",),
}


class Safety(msgspec.Struct, frozen=True):
    """How a server keeps its data; ``unknown`` where it may not be asked."""

    version: str
    appendonly: str
    appendfsync: str
    maxmemory_policy: str

    @property
    def faults(self) -> list[str]:
        """A half sentence for each setting that is not as money needs it: what was found and what is needed."""
        found = zip(NEEDED, (self.appendonly, self.appendfsync, self.maxmemory_policy), strict=True)
        return [
            f"{name} is {value}, needed: {' or '.join(NEEDED[name])}"
            for name, value in found
            if value not in NEEDED[name]
        ]


async def inspect(client: Redis) -> Safety:
    """Ask a server. One that forbids CONFIG, as managed ones do, is unknown. RedisError if it does not answer."""
    found = dict.fromkeys(NEEDED, UNKNOWN)
    with told("inspect"):
        facts: dict[str, Any] = await client.info("server")  # pyright: ignore[reportUnknownMemberType]
        for name in NEEDED:
            try:
                pairs: dict[Any, Any] = await client.config_get(name)  # pyright: ignore[reportUnknownMemberType]
            except exceptions.ResponseError:
                continue
            found |= {text(key): text(value) for key, value in pairs.items()}
    version = facts.get("valkey_version") or facts.get("redis_version") or UNKNOWN
    return Safety(str(version), *(found[name] for name in NEEDED))


def refuse_unsafe(safety: Safety, namespace: str) -> str | None:
    """Before a namespace uses a server. Money on a server that may lose it is refused: ConfigurationError E_DURABILITY.

    For paper returns a warning to show, or None if all is well.
    """
    if not safety.faults:
        return None
    found = "; ".join(safety.faults)
    fix = "set them on the server, or name none (unset REDIS__HOST and REDIS__UNIX_SOCKET) and the hub starts its own"
    if namespace == PAPER:
        return f"the server may lose state: {found}. For paper that is allowed; live is refused. {fix}"
    raise ConfigurationError(
        f"{namespace} may not use this server, it may lose orders: {found}",
        fix=fix,
        code="E_DURABILITY",
        namespace=namespace,
        faults=safety.faults,
    )

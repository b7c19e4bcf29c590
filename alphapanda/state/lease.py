"""One holder of a name at a time, so that one process trades an account.

    lease = Lease(client, "paper", "gateway", owner="gateway of this workspace")
    epoch = await lease.acquire()           # AuthorizationError E_LEASE, with who holds it
    keeper = asyncio.create_task(lease.keep())   # ends only by raising E_LEASE: stop deciding
    ...
    await lease.release()

The epoch is a fencing token: it grows with each acquire and never comes back, even when the holder's key expired. Who
keeps decisions (a journal) refuses those of an older epoch. A server that was emptied forgets its epochs: hand
``acquire`` the journal's last. The key is ``{namespace}:lease:{name}``.
"""

from __future__ import annotations

import asyncio
import datetime
import os
import socket
import time
from typing import TYPE_CHECKING, NoReturn

import msgspec

from alphapanda.clock import wall_ns
from alphapanda.errors import AuthorizationError, RedisError
from alphapanda.state import scripts
from alphapanda.state.base import readable
from alphapanda.state.client import text, told
from alphapanda.state.managers import KeyValueStateManager

if TYPE_CHECKING:
    from redis.asyncio import Redis

TTL_SECONDS = 10.0
RENEW_SECONDS = 3.0


class Holder(msgspec.Struct, frozen=True):
    """Who holds a lease: ``since`` is wall time in ns, ``left`` the seconds until it ends if not renewed."""

    epoch: int
    owner: str
    host: str
    pid: int
    since: int
    left: float = 0.0


class Lease:
    """The lease of one name in one namespace, wanted or held by ``owner``."""

    def __init__(
        self,
        client: Redis,
        namespace: str,
        name: str,
        owner: str,
        *,
        ttl: float = TTL_SECONDS,
        renew: float = RENEW_SECONDS,
    ) -> None:
        keys = KeyValueStateManager(client, namespace, "lease")
        self.namespace, self.key = keys.namespace, keys.key(name)
        self.epoch_key = KeyValueStateManager(client, namespace, "lease-epoch").key(name)
        self.owner = readable(owner)
        self.epoch: int | None = None  # None: not held
        self._ttl, self._renew_every = ttl, renew
        self._client = client
        self._until = 0.0
        self._acquire = client.register_script(scripts.ACQUIRE)
        self._renew = client.register_script(scripts.RENEW)
        self._release = client.register_script(scripts.RELEASE)

    @property
    def held(self) -> bool:
        """Whether we may still decide: the server cannot have given it to another yet.

        Counted from before the last request was sent, on a clock that runs while a laptop sleeps.
        """
        return self.epoch is not None and _boot_seconds() < self._until

    async def acquire(self, *, beyond: int = 0, replacing: Holder | None = None) -> int:
        """Hold the lease; returns its epoch, which is greater than ``beyond`` and than any before.

        AuthorizationError E_LEASE if another holds it (this very object included), with ``holder`` in its context.
        ``replacing`` is a holder that the caller knows to be dead, having seen its process end: no need to wait.
        """
        facts = self.owner, socket.gethostname(), os.getpid(), wall_ns(), int(self._ttl * 1000)
        dead = "" if replacing is None else replacing.epoch
        asked = _boot_seconds()
        with told("acquire", self.key, self.namespace):
            got, epoch = await self._acquire([self.key, self.epoch_key], [*facts, beyond, dead])
        if not got:
            raise self._refused("is held", await self.holder())
        self.epoch, self._until = int(epoch), asked + self._ttl
        return self.epoch

    async def renew(self) -> None:
        """Hold it for another term. AuthorizationError E_LEASE if it is not ours any more."""
        if self.epoch is None:
            raise self._refused("was not acquired", None)
        asked = _boot_seconds()
        with told("renew", self.key, self.namespace):
            renewed = await self._renew([self.key], [self.epoch, int(self._ttl * 1000)])
        if not renewed:
            self.epoch = None
            raise self._refused("was lost", await self.holder())
        self._until = asked + self._ttl

    async def keep(self) -> NoReturn:
        """Renew until it is lost. A server that is away for a moment does not end it, a term that ran out does."""
        while True:
            await asyncio.sleep(self._renew_every)
            try:
                await self.renew()
            except RedisError:
                if not self.held:
                    self.epoch = None
                    raise self._refused("could not be renewed in time", None) from None

    async def release(self) -> bool:
        """Let another have it at once; False if it was not ours any more."""
        if self.epoch is None:
            return False
        epoch, self.epoch = self.epoch, None
        with told("release", self.key, self.namespace):
            return bool(await self._release([self.key], [epoch]))

    async def holder(self) -> Holder | None:
        """Who holds it now; None if nobody does."""
        with told("holder", self.key, self.namespace):
            async with self._client.pipeline(transaction=True) as pipe:
                pipe.hgetall(self.key)
                pipe.pttl(self.key)
                found, left = await pipe.execute()
        fields = {text(name): text(value) for name, value in found.items()}
        if not fields:
            return None
        return msgspec.convert({**fields, "left": left / 1000}, Holder, strict=False)

    def _refused(self, what: str, holder: Holder | None) -> AuthorizationError:
        by = ""
        if holder is not None:
            since = datetime.datetime.fromtimestamp(holder.since // 10**9, datetime.UTC)
            by = f" by {holder.owner} on {holder.host}, pid {holder.pid}, since {since:%Y-%m-%d %H:%M:%S} UTC"
        return AuthorizationError(
            f"the lease {self.key} {what}{by}",
            fix="stop that one first, or wait until its lease ends" if holder else "acquire it again",
            code="E_LEASE",
            namespace=self.namespace,
            key=self.key,
            holder=holder,
        )


def _boot_seconds() -> float:
    """Seconds since the machine started, sleep included where the system counts it."""
    number = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(number)

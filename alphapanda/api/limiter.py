"""How many calls a client may make: a sliding window that costs each client two numbers.

The calls of the last period are those of this bucket and so much of the one before as the period still covers, so
nothing is kept per call. A call that is refused is not counted: who stops for a moment is served again. Whoever is
known is counted by name, everybody else by the address at the other end of the connection (IPv6 by /64, which is what
one household has). ``X-Forwarded-For`` is believed from listed proxies alone, read from its right end.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Any

from alphapanda.api.call import call_of
from alphapanda.api.problems import problem
from alphapanda.clock import monotonic
from alphapanda.errors import ConfigurationError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

KEYS_MAX = 10_000
EXEMPT = ("/health", "/ready")
Network = IPv4Network | IPv6Network
_SWEPT = 4  # stale clients that a new one drives out at most, so that no call pays for all


class Window:
    """Calls of each client in the last ``seconds``; remembers ``keys`` clients, those that called last."""

    def __init__(self, calls: int, seconds: float, keys: int = KEYS_MAX) -> None:
        self.calls, self.seconds, self._keys = calls, seconds, keys
        self._seen: OrderedDict[str, tuple[int, int, int]] = (
            OrderedDict()
        )  # bucket, calls before it, calls in it

    def __len__(self) -> int:
        return len(self._seen)

    def take(self, key: str, now: float) -> tuple[int, float]:
        """One more call at ``now`` (seconds of any clock that never goes back): how many are left after it, or -1 if
        there was none left; and in how many seconds there is room again, or all calls are forgotten."""
        bucket, inside = divmod(now, self.seconds)
        bucket, share = int(bucket), 1.0 - inside / self.seconds
        known, before, here = self._seen.pop(key, (bucket, 0, 0))
        if known != bucket:
            before, here = (here if known == bucket - 1 else 0), 0
        used = before * share + here
        if refused := used + 1.0 > self.calls:
            wait = self._until_room(before, here, inside)
        else:
            here, used, wait = here + 1, used + 1.0, self.seconds - inside
        self._seen[key] = bucket, before, here
        self._forget(bucket)
        return (-1 if refused else int(self.calls - used)), wait

    def _until_room(self, before: int, here: int, inside: float) -> float:
        """Seconds until one more call fits, if nothing else comes."""
        room = self.calls - 1 - here
        if before and room >= 0:
            return max(0.0, self.seconds * (1.0 - room / before) - inside)
        return self.seconds - inside + self.seconds * max(0.0, 1.0 - (self.calls - 1) / here)

    def _forget(self, bucket: int) -> None:
        """The oldest of too many, and a few whose calls lie out of the window."""
        if len(self._seen) > self._keys:
            self._seen.popitem(last=False)
        for _ in range(_SWEPT):
            oldest = next(iter(self._seen))
            if self._seen[oldest][0] >= bucket - 1:
                return
            del self._seen[oldest]


class RateLimitingMiddleware:
    """Refuses, with 429, what is beyond ``calls`` in ``seconds`` of one client; ``exempt`` paths are never counted.

    People and addresses are remembered apart, so that no flood of addresses makes a person's calls forgotten.
    """

    def __init__(
        self,
        app: ASGIApp,
        calls: int = 100,
        seconds: float = 60.0,
        *,
        trusted: Iterable[str] = (),
        exempt: Collection[str] = EXEMPT,
        keys: int = KEYS_MAX,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.app, self._exempt, self._clock = app, frozenset(exempt), clock
        self._trusted = networks(trusted)
        self._policy = f'"calls";q={calls};w={math.ceil(seconds)}'
        self.people, self.addresses = Window(calls, seconds, keys), Window(calls, seconds, keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One call, counted."""
        if scope["type"] != "http" or scope["path"] in self._exempt:
            await self.app(scope, receive, send)
            return
        call, window = call_of(scope), self.addresses
        if call.person is not None:
            key, window = call.person.name, self.people
        else:
            key = self._address(scope)
        left, wait = window.take(key, self._clock())
        call.told.append((b"ratelimit", b'"calls";r=%d;t=%d' % (max(left, 0), math.ceil(wait))))
        if left >= 0:
            await self.app(scope, receive, send)
            return
        seconds = max(1, math.ceil(wait))
        refusal = problem(
            scope, 429, "E_RATE", f"more than {window.calls} calls in {window.seconds:g} s",
            f"wait {seconds} s; API__RATE_LIMIT_CALLS allows more",
            headers={"retry-after": str(seconds), "ratelimit-policy": self._policy},
        )  # fmt: skip
        await refusal(scope, receive, send)

    def _address(self, scope: Scope) -> str:
        """Whose call it is: the peer, or behind a trusted proxy the last address that is none."""
        client: Sequence[Any] | None = scope.get("client")
        peer = str(client[0]) if client else ""
        if self._trusted and trusts(self._trusted, peer):
            given = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
            for one in reversed(b",".join(given).decode("latin-1")[-2000:].split(",")):
                peer = one.strip() or peer
                if not trusts(self._trusted, peer):
                    break
        return client_of(peer)


def networks(names: Iterable[str]) -> tuple[Network, ...]:
    """Addresses and networks as settings name them. ConfigurationError for one that is none, or is everybody."""
    found: list[Network] = []
    for name in names:
        try:
            network = ip_network(name, strict=False)
        except ValueError:
            network = None
        if network is None or network.prefixlen == 0:
            raise ConfigurationError(
                f"API__TRUSTED_PROXIES: {name!r:.60} is no address or network that can be trusted",
                fix="list each proxy: 10.0.0.2, 10.1.0.0/24",
            )
        found.append(network)
    return tuple(found)


def trusts(trusted: Iterable[Network], address: str) -> bool:
    """Whether an address is one of those."""
    try:
        given = ip_address(address)
    except ValueError:
        return False
    if isinstance(given, IPv6Address) and given.ipv4_mapped is not None:
        given = given.ipv4_mapped
    return any(given in network for network in trusted)


def client_of(address: str) -> str:
    """By what an address is counted: IPv6 by its /64, all that is no address as one."""
    if ":" not in address:
        return address if address.count(".") == 3 and len(address) <= 15 else "no address"
    try:
        given = IPv6Address(address.partition("%")[0])
    except ValueError:
        return "no address"
    if given.ipv4_mapped is not None:
        return str(given.ipv4_mapped)
    return given.packed[:8].hex()

"""From where a service of ours can be reached, and under which names: the same for the API and the pages.

Rules. This machine alone, unless a proxy with TLS stands in front and somebody has a token. A service answers to the
names it was told and to no other, so that a name somebody else made point here (DNS rebinding) opens nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Protocol

from alphapanda.access import Access
from alphapanda.errors import ConfigurationError
from alphapanda.settings import LOOPBACK

ANYWHERE = ("0.0.0.0", "::", "")  # noqa: S104 - not bound here: no name anybody is called by


class Reach(Protocol):
    """What the sections of the settings have in common."""

    @property
    def host(self) -> str:
        """The address it listens at."""
        ...

    @property
    def behind_tls(self) -> bool:
        """Whether a proxy in front speaks TLS."""
        ...


def check_reach(section: str, settings: Reach, access: Access) -> None:
    """ConfigurationError (E_EXPOSED) for a service that others than this machine could reach without TLS, or without
    a token. ``section`` is how its settings begin: API, DASHBOARDS."""
    try:
        here = settings.host == "localhost" or ipaddress.ip_address(settings.host).is_loopback
    except ValueError:
        here = False  # a name: it may be anybody's
    if here:
        return
    if not settings.behind_tls:
        raise ConfigurationError(
            f"{section}__HOST {settings.host} is reached from elsewhere, and tokens would travel in the clear",
            fix=f"put a proxy that speaks TLS in front and set {section}__BEHIND_TLS=true, or set "
            f"{section}__HOST=127.0.0.1",
            code="E_EXPOSED",
        )
    if not access.people():
        raise ConfigurationError(
            f"{section}__HOST {settings.host} is reached from elsewhere, and nobody has a token",
            fix="alphapanda token add NAME --role view",
            code="E_EXPOSED",
        )


def names(section: str, host: str, given: Iterable[str]) -> frozenset[str]:
    """The names a service answers to: this machine's, the one it listens at, those it was told. ConfigurationError
    for a pattern."""
    told = tuple(given)
    for name in told:
        if "*" in name or not host_name(name):
            raise ConfigurationError(
                f"{section}__ALLOWED_HOSTS has {name!r:.80}", fix="name each host exactly: desk.example"
            )
    own = () if host in ANYWHERE else (host.lower(),)
    return frozenset({*LOOPBACK, *own, *(host_name(name) for name in told)})


def host_name(host: str) -> str:
    """The name in a Host header: in small letters, without the port and the brackets of an address."""
    name, divided, port = host.rpartition(":")
    name = name if divided and port.isdigit() else host
    return (name[1:-1] if name[:1] == "[" and name[-1:] == "]" else name).lower()

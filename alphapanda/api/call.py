"""What is known of one call: who makes it and by which ids it is found again."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, MutableMapping
from typing import Any

from alphapanda.access import Person, Role
from alphapanda.errors import AuthorizationError

Scope = Mapping[str, Any]

SEND = "send it in the Authorization header, as a bearer"
_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_KEY = "alphapanda.call"  # in an ASGI scope


class Call:
    """One HTTP call. ``person`` is None where nobody is known to make it; ``told`` are headers of its answer."""

    __slots__ = ("correlation_id", "id", "person", "told")

    def __init__(
        self, given_id: bytes | None, given_correlation: bytes | None, person: Person | None
    ) -> None:
        self.id = _text(given_id) or os.urandom(8).hex()
        self.correlation_id = _text(given_correlation) or self.id
        self.person = person
        self.told: list[tuple[bytes, bytes]] = [
            (b"x-request-id", self.id.encode()),
            (b"x-correlation-id", self.correlation_id.encode()),
        ]

    @property
    def by(self) -> str:
        """Who, as records name them."""
        return f"{self.person.name} over HTTP" if self.person is not None else "nobody"

    def known(self) -> Person:
        """Who makes it. Unknown if nobody is known to."""
        if self.person is None:
            raise Unknown("this takes a token", fix=SEND, code="E_TOKEN")
        return self.person

    def check(self, role: Role) -> Person:
        """Unknown without a good token, AuthorizationError if its role does not cover this."""
        person = self.known()
        if not person.may(role):
            raise AuthorizationError(
                f"this takes the role {role}; yours is {person.role}",
                fix=f"ask for a token: alphapanda token add NAME --role {role}",
                code="E_ROLE",
            )
        return person


class Unknown(AuthorizationError):
    """Nobody is known to make this call."""


def call_of(scope: Scope) -> Call:
    """The call an ASGI scope belongs to; one of nobody's where the guard is not in front."""
    found = scope.get(_KEY)
    return found if isinstance(found, Call) else Call(None, None, None)


def keep(scope: MutableMapping[str, Any], call: Call) -> None:
    """From now on ``call_of`` finds it."""
    scope[_KEY] = call


def _text(given: bytes | None) -> str:
    """An id as somebody sent it, if it may stand in a log and a header."""
    return given.decode() if given is not None and _ID.fullmatch(given) else ""

"""Every refusal as problem+json (RFC 9457): what is wrong, what to do, a stable code, and the id to ask about.

Nothing that was sent comes back in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.responses import Response

from alphapanda.api.call import Unknown, call_of
from alphapanda.errors import (
    AlphaPandaException,
    AuthorizationError,
    ConfigurationError,
    OrderTimeoutError,
    PermanentError,
    RiskValidationError,
    TransientError,
    UnknownNameError,
    ValidationError,
)
from alphapanda.logs.redaction import safe_text

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 2  # when what is away may be back
CHALLENGE = {"www-authenticate": 'Bearer realm="alphapanda"'}
STATUS: Sequence[tuple[type[AlphaPandaException], int]] = (  # the first that fits
    (Unknown, 401),
    (AuthorizationError, 403),
    (UnknownNameError, 404),
    (ValidationError, 422),
    (ConfigurationError, 503),
    (OrderTimeoutError, 504),
    (TransientError, 503),
    (RiskValidationError, 409),
    (PermanentError, 409),
)
CODES = {"E_IDEMPOTENCY": 409, "E_IDEMPOTENCY_KEY": 400, "E_LEASE": 409, "E_NAME_TAKEN": 409, "E_LIMIT": 409}


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong with what was sent, and where."""

    where: str
    message: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """A refusal. ``correlation_id`` also stands in the logs; ``errors`` say what is wrong with a body or query, and
    ``lines`` what was done of what could not be done whole."""

    title: str
    status: int
    code: str
    detail: str = ""
    fix: str = ""
    correlation_id: str = ""
    errors: tuple[Fault, ...] = ()
    lines: tuple[str, ...] = ()


def problem(
    scope: Mapping[str, Any],
    status: int,
    code: str,
    detail: str = "",
    fix: str = "",
    *,
    headers: Mapping[str, str] | None = None,
    errors: tuple[Fault, ...] = (),
    lines: tuple[str, ...] = (),
) -> Response:
    """The answer that says no, and why."""
    told = Problem(
        HTTPStatus(status).phrase, status, code, safe_text(detail, 600), safe_text(fix, 300),
        call_of(scope).correlation_id, errors, lines,
    )  # fmt: skip
    more = dict(headers or {}) | (CHALLENGE if status == 401 else {})
    if status == 503:
        more.setdefault("retry-after", str(RETRY_SECONDS))
    return Response(msgspec.json.encode(told), status, more, MEDIA_TYPE)


def status_of(error: AlphaPandaException) -> int:
    """The status an error of ours is answered with."""
    if error.code in CODES:
        return CODES[error.code]
    return next((status for kind, status in STATUS if isinstance(error, kind)), 500)


def refused(scope: Mapping[str, Any], error: AlphaPandaException, told: Callable[[str], str]) -> Response:
    """An error of ours; ``told`` is what a text of it is for others."""
    return problem(scope, status_of(error), error.code, told(error.message), told(error.fix))


def faults(errors: Sequence[Any]) -> tuple[Fault, ...]:
    """What pydantic found wrong, without what it found there."""
    return tuple(_fault(one) for one in errors[:20])


def _fault(one: Mapping[str, Any]) -> Fault:
    where = [str(part) for part in one["loc"]]
    if one["type"] == "extra_forbidden":  # its name is the caller's own
        return Fault(".".join(where[:-1]), "holds a field that is not known here")
    return Fault(safe_text(".".join(where), 100), safe_text(str(one["msg"]), 200))

"""The body of a call, read with limits before anybody believes it: how big, how slow, how deep, and whether it is JSON
that says each thing once."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from alphapanda.errors import ValidationError

if TYPE_CHECKING:
    from starlette.types import Message

BYTES_MAX, DEPTH_MAX = 65_536, 16
SECONDS = 10.0  # for all of it

_TEXTS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


class Unfit(Exception):
    """A body that is not looked into. ``status`` is the answer's."""

    def __init__(self, status: int, code: str, detail: str, fix: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.fix = status, code, detail, fix


async def read(request: Request) -> tuple[Request, bytes, dict[str, Any]]:
    """The request once more with its body at hand, the body, and its table. Unfit if it is not one JSON table."""
    declared = request.headers.get("content-length", "0")
    if not declared.isdigit() or int(declared) > BYTES_MAX:
        raise _too_big()
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "application/json":
        raise Unfit(
            415, "E_MEDIA_TYPE", "a body is application/json here", "send Content-Type: application/json"
        )
    body = bytearray()
    try:
        async with asyncio.timeout(SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > BYTES_MAX:
                    raise _too_big()
    except TimeoutError:
        raise Unfit(408, "E_SLOW", f"the body did not come within {SECONDS:g} s", "send it at once") from None
    except ClientDisconnect:
        raise Unfit(400, "E_BODY", "the body ended early", "send all of it") from None
    whole = bytes(body)

    async def again() -> Message:
        return {"type": "http.request", "body": whole, "more_body": False}

    return Request(request.scope, again), whole, table(whole)


def table(body: bytes) -> dict[str, Any]:
    """A JSON table that is not too deep and says each thing once; Unfit if it is none."""
    if _depth(body) > DEPTH_MAX:
        raise Unfit(400, "E_DEPTH", f"more than {DEPTH_MAX} levels deep", "send a flatter table")
    try:
        found = json.loads(body.decode("utf-8"), object_pairs_hook=_once, parse_constant=_not_json)
    except Unfit:
        raise
    except (ValueError, RecursionError):  # also bytes that are not UTF-8
        raise Unfit(400, "E_JSON", "the body is not JSON", "send one JSON table") from None
    if not isinstance(found, dict):
        raise Unfit(400, "E_JSON", "the body is not a JSON table", 'send {"reason": "..."}, for one')
    return found  # pyright: ignore[reportUnknownVariableType] - JSON: its keys are texts


def _depth(body: bytes) -> int:
    """How deep its brackets go, those in texts apart; of what is no JSON, at least as deep."""
    deepest = depth = 0
    for byte in _TEXTS.sub(b"", body):
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def _once(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Unfit(400, "E_DUPLICATE", "a name stands twice in one table", "say each thing once")
    return found


def _not_json(name: str) -> NoReturn:
    raise Unfit(400, "E_JSON", f"{name} is no JSON", "send a number")


def _too_big() -> Unfit:
    return Unfit(413, "E_SIZE", f"a body has at most {BYTES_MAX:,} bytes", "send less")


def idempotency_key(request: Request) -> str | None:
    """What names this attempt, if anything does. ValidationError for one that cannot."""
    given = request.headers.getlist("idempotency-key")
    if not given:
        return None
    if len(given) > 1 or not re.fullmatch(r"[\x21-\x7e]{1,200}", given[0]):
        raise ValidationError(
            "Idempotency-Key has 1 to 200 printable characters",
            fix="send a fresh UUID",
            code="E_IDEMPOTENCY_KEY",
        )
    return given[0]

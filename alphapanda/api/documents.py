"""The OpenAPI document: what each route answers is described from the very structs that are encoded into answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from fastapi.openapi.utils import get_openapi
from starlette.responses import Response

from alphapanda.access import Role
from alphapanda.api import problems
from alphapanda.api.guarded import NOBODY
from alphapanda.api.problems import MEDIA_TYPE, Problem

if TYPE_CHECKING:
    from fastapi import FastAPI

ABOUT = """What Alpha Panda trades and how it does. Money is integer paise; `ts` and `tape_ts` are tape time, every
other time is wall clock, all in nanoseconds since 1970 UTC; prices are rupees. `stale` says that the server could not
be asked and the answer is what was read last. Every refusal is problem+json with a stable `code` and a
`correlation_id`."""
TAGS = {
    "health": "Is it there?",
    "trading": "Money, positions, orders, signals.",
    "runs": "Strategies that run, and scheduled notebooks.",
    "errors": "What went wrong, what needs a person, and messages that could not be handled.",
    "operations": "Processes, the kill switch, figures for Prometheus.",
}
REFUSALS = {
    400: "It cannot be read",
    401: "No token, or one that opens nothing",
    403: "Another role is needed, the account was not typed, or host or origin are not ours",
    404: "There is none of that name",
    408: "The body did not come in time",
    409: "It contradicts what stands, or the key was used for something else",
    413: "The body is too big",
    415: "The body is not JSON",
    422: "A value is wrong",
    429: "Too many calls",
    503: "The server or the hub does not answer, or the work could not be done whole",
    504: "The fate of what was asked is not known",
}
ACTS = (400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 503, 504)
KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key with the same body has one effect, and gets the first answer again, for a day.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"},
}
TEMPLATE = "#/components/schemas/{name}"
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


class Routes:
    """Declares an app's routes; ``kinds`` are the structs that they answer with."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self.kinds: list[Any] = [Problem]
        self._examples: dict[tuple[str, str], Any] = {}

    def get(
        self, path: str, *, role: Role | None, tag: str, answers: Any, example: Any, missing: bool = False,
        lost: bool = False,
    ) -> Callable[[Endpoint], Endpoint]:  # fmt: skip
        """A read: ``role`` None for everybody; ``missing`` and ``lost``: it may answer 404, 503."""
        refusals = (
            *((401, 403, 429, 422) if role else ()),
            *((404,) if missing else ()),
            *((503,) if lost else ()),
        )
        return self._route("GET", path, role, tag, answers, example, refusals, {})

    def post(
        self, path: str, *, role: Role, tag: str, answers: Any, example: Any
    ) -> Callable[[Endpoint], Endpoint]:
        """Something done; takes an Idempotency-Key. In a namespace with money it takes the role live as well."""
        extra = {"parameters": [KEY], "x-role-with-money": "live"}
        return self._route("POST", path, role, tag, answers, example, ACTS, extra)

    def _route(
        self, method: str, path: str, role: Role | None, tag: str, answers: Any, example: Any,
        refusals: tuple[int, ...], extra: dict[str, Any],
    ) -> Callable[[Endpoint], Endpoint]:  # fmt: skip
        """FastAPI's decorator for it, fully described."""
        if isinstance(answers, str):  # text
            content: dict[str, Any] = {answers: {"schema": {"type": "string"}, "example": example}}
        else:
            self.kinds.append(answers)
            (schema,), _ = msgspec.json.schema_components([answers], ref_template=TEMPLATE)
            content = {"application/json": {"schema": schema}}
            self._examples[path, method.lower()] = msgspec.to_builtins(example)
        responses: dict[int | str, dict[str, Any]] = {
            200: {"description": "It is so, or was done", "content": content},
            **{status: _refusal(status) for status in sorted(refusals)},
        }
        secured: list[dict[str, list[str]]] = [{"bearer": []}] if role else []
        extra = {"x-role": role or NOBODY, "security": secured, **extra}

        def declare(endpoint: Endpoint) -> Endpoint:
            summary = (endpoint.__doc__ or "").strip().partition("\n")[0]
            self._app.add_api_route(
                path, endpoint, methods=[method], tags=[tag], operation_id=endpoint.__name__, summary=summary,
                response_class=Response, response_model=None, responses=responses, openapi_extra=extra,
            )  # fmt: skip
            return endpoint

        return declare

    @cached_property
    def document(self) -> bytes:
        """The whole document as JSON, made when it is first asked for: by then every route is declared."""
        made = get_openapi(
            title="Alpha Panda", version="1", description=ABOUT, routes=self._app.routes,
            tags=[{"name": name, "description": text} for name, text in TAGS.items()],
        )  # fmt: skip
        for (path, method), example in self._examples.items():  # FastAPI would drop what is null in them
            content = made["paths"][path][method]["responses"]["200"]["content"]
            content["application/json"]["example"] = example
        _, schemas = msgspec.json.schema_components(self.kinds, ref_template=TEMPLATE)
        parts = made.setdefault("components", {})
        parts.setdefault("schemas", {}).update(schemas)
        parts["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
        return msgspec.json.encode(made)


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A struct as a JSON answer."""
    return Response(msgspec.json.encode(value), status, headers, "application/json")


def _refusal(status: int) -> dict[str, Any]:
    known = next((kind for kind, found in problems.STATUS if found == status), None)
    code = known.default_code if known is not None else "E_REQUEST"
    told = Problem("Refused", status, code, REFUSALS[status], "what to do about it", "3f9c2a7d10b4e855")
    content = {"schema": {"$ref": TEMPLATE.format(name="Problem")}, "example": msgspec.to_builtins(told)}
    return {"description": REFUSALS[status], "content": {MEDIA_TYPE: content}}

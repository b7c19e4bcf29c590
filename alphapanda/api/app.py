"""The FastAPI app of one workspace: guard, limiter, routes and refusals put together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from alphapanda.api.call import SEND, call_of
from alphapanda.api.documents import Routes
from alphapanda.api.guard import Guard
from alphapanda.api.guarded import GuardedRoute
from alphapanda.api.limiter import RateLimitingMiddleware
from alphapanda.api.once import Once
from alphapanda.api.platform import Platform
from alphapanda.api.problems import faults, problem, refused
from alphapanda.api.routes import (
    alerts,
    errors,
    halts,
    health,
    letters,
    metrics,
    processes,
    runs,
    schedules,
    trading,
)
from alphapanda.errors import AlphaPandaException

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig
    from starlette.types import ASGIApp

NOUNS = (health, trading, runs, schedules, errors, alerts, letters, halts, processes, metrics)
SILENT: TelemetryConfig = {  # whatever the environment says: nothing leaves this machine
    "tracing": False, "metrics": False, "logs": False, "auto_configure": False,
}  # fmt: skip
Answer = Callable[[Request, Exception], Awaitable[Response]]


def make_app(platform: Platform) -> FastAPI:
    """The routes alone, with our refusals; ``make_service`` puts the guard in front."""
    app = FastAPI(
        title="Alpha Panda", version="1", openapi_url=None, docs_url=None, redoc_url=None, telemetry=SILENT
    )
    app.router.route_class = GuardedRoute
    app.router.redirect_slashes = False
    app.state.once = Once()
    routes = Routes(app)
    for noun in NOUNS:
        noun.add(routes, platform)

    async def ours(request: Request, error: Exception) -> Response:
        return refused(request.scope, cast("AlphaPandaException", error), platform.elsewhere)

    answers: dict[Any, Answer] = {
        AlphaPandaException: ours,
        RequestValidationError: _invalid,
        HTTPException: _http,
        Exception: _broken,
    }
    for kind, told in answers.items():
        app.add_exception_handler(kind, cast("Any", told))
    return app


def make_service(platform: Platform) -> ASGIApp:
    """What a server serves. ConfigurationError for settings that would let everybody in."""
    api = platform.settings.api
    limited = RateLimitingMiddleware(
        make_app(platform), api.rate_limit_calls, api.rate_limit_seconds, trusted=api.trusted_proxies
    )
    return Guard(limited, api, platform.access)


async def _invalid(request: Request, error: Exception) -> Response:
    found = faults(cast("RequestValidationError", error).errors())
    return problem(request.scope, 422, "E_VALIDATION", "a value is wrong", "see errors", errors=found)


async def _broken(request: Request, error: Exception) -> Response:
    """A fault of ours, which the guard writes down."""
    return problem(request.scope, 500, "E_UNEXPECTED", "something of ours broke", "alphapanda logs error")


async def _http(request: Request, error: Exception) -> Response:
    """What the framework refuses: mostly an address that is none, which nobody unknown learns."""
    fault = cast("HTTPException", error)
    if call_of(request.scope).person is None:
        return problem(request.scope, 401, "E_TOKEN", "this takes a token", SEND)
    codes = {404: "E_UNKNOWN_PATH", 405: "E_METHOD"}
    return problem(
        request.scope, fault.status_code, codes.get(fault.status_code, "E_REQUEST"), headers=fault.headers
    )

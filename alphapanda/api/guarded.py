"""What every route goes through: who may call it, its body, one effect a key, and a line on the audit channel.

A route cannot be declared without a role, and one that has none in spite of that stops the process at its start.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, MutableMapping
from functools import cached_property
from typing import Any, Literal

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from alphapanda import logs
from alphapanda.access import ROLES, Role
from alphapanda.api.body import Unfit, idempotency_key, read
from alphapanda.api.call import call_of
from alphapanda.api.once import Once
from alphapanda.api.problems import problem, status_of
from alphapanda.errors import AlphaPandaException, ConfigurationError

NOBODY = "nobody"  # the role of what anybody may ask
TOLD = ("reason", "level", "flatten", "ids", "topic", "dry_run", "id", "note")  # of a body, on the audit line
Handle = Callable[[Request], Coroutine[Any, Any, Response]]
Scope = MutableMapping[str, Any]


class GuardedRoute(APIRoute):
    """A route with a role, which stands in its description as ``x-role``."""

    @property
    def role(self) -> Role | Literal["nobody"]:
        """Who may call it."""
        found = (self.openapi_extra or {}).get("x-role")
        if found not in (NOBODY, *ROLES):
            raise ConfigurationError(
                f"{self.path} has no role", fix="declare it with Routes.get or Routes.post"
            )
        return found

    @cached_property
    def _fixed(self) -> tuple[str, bool]:
        """The letters that its path begins with, and whether names follow."""
        fixed, more, _ = self.path.partition("{")
        return fixed, bool(more)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As FastAPI finds it; of the many routes that a call is not for, most are passed by their first letters."""
        fixed, more = self._fixed
        given = scope["path"]
        if not given.startswith(fixed) or not (more or given == fixed):
            return Match.NONE, {}
        return super().matches(scope)

    def get_route_handler(self) -> Handle:
        """FastAPI's, behind ours. A read that takes nothing is asked without it: there is nothing to find and check."""
        handle, role = super().get_route_handler(), self.role
        if self.methods == {"GET"} and not inspect.signature(self.endpoint).parameters:
            endpoint: Callable[[], Coroutine[Any, Any, Response]] = self.endpoint

            async def plainly(_: Request) -> Response:
                return await endpoint()

            handle = plainly
        if role == NOBODY:
            return handle

        async def look(request: Request) -> Response:
            call_of(request.scope).check(role)
            return await handle(request)

        async def act(request: Request) -> Response:
            facts, status = dict[str, Any](request.path_params), 500
            try:
                made = await _once(request, handle, role, facts)
            except AlphaPandaException as error:
                status = status_of(error)
                raise
            except RequestValidationError:
                status = 422
                raise
            else:
                status = made.status_code
                return made
            finally:
                by, namespace = call_of(request.scope).by, str(facts.get("namespace", ""))
                line: dict[str, Any] = {"by": by, "status": status, "asked": facts, "namespace": namespace}
                logs.channel("audit").warning(f"api.{self.operation_id}", **line)

        return look if self.methods == {"GET"} else act


async def _once(request: Request, handle: Handle, role: Role, facts: dict[str, Any]) -> Response:
    """One thing done by somebody who may; ``facts`` becomes what was asked for."""
    person = call_of(request.scope).check(role)
    key = idempotency_key(request)
    try:
        request, body, table = await read(request)
    except Unfit as fault:
        return problem(request.scope, fault.status, fault.code, fault.detail, fault.fix)
    for name in TOLD:
        if isinstance(value := table.get(name), str | int | list):
            facts[name] = value
    if key is None:
        return await handle(request)
    once: Once = request.app.state.once
    return await once.answer((person.name, request.url.path, key), body, lambda: handle(request))

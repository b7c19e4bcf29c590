"""What every call meets first: is it for us, where does it come from, who makes it; and what every answer carries.

Rules. A name that is not ours (DNS rebinding) and a page that is not ours (another site's script) are refused before
anything is looked up. There are no cookies and no tokens in addresses, so no browser sends a person's rights by
itself. Whatever breaks behind this is one line in the error log and a bare 500 for the caller.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from starlette.responses import Response

from alphapanda import logs
from alphapanda.access import Access, Person
from alphapanda.api.call import Call, keep
from alphapanda.api.problems import problem
from alphapanda.errors import ConfigurationError
from alphapanda.reach import host_name, names
from alphapanda.settings import APISettings

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
TLS_HEADERS = ((b"strict-transport-security", b"max-age=31536000"),)
METHODS = "GET, POST"
ASKED = "authorization, content-type, idempotency-key, x-request-id, x-correlation-id"
SHOWN = b"x-request-id, x-correlation-id, retry-after, ratelimit, ratelimit-policy, idempotency-replayed"
PREFLIGHT_SECONDS = 600


class Guard:
    """The outermost layer. ``origins`` are pages of other sites that may call us."""

    def __init__(self, app: ASGIApp, settings: APISettings, access: Access) -> None:
        self.app, self._access = app, access
        self._hosts = names("API", settings.host, settings.allowed_hosts)
        self._origins = frozenset(origin.encode() for origin in checked_origins(settings.cors_origins))
        self._headers = HEADERS + (TLS_HEADERS if settings.behind_tls else ())
        self._log = logs.channel("error")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One call, from its first byte to its last."""
        if scope["type"] != "http":
            return  # a WebSocket or a lifespan: nothing here speaks either
        head: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            head[name] = b"" if name in (b"host", b"authorization", b"origin") and name in head else value
        origin = head.get(b"origin")
        person = self._who(head.get(b"authorization"))
        call = Call(head.get(b"x-request-id"), head.get(b"x-correlation-id"), person)
        keep(scope, call)
        if origin is not None and origin in self._origins:
            call.told += [
                (b"access-control-allow-origin", origin),
                (b"access-control-expose-headers", SHOWN),
                (b"vary", b"origin"),
            ]
        begun = False

        async def answer(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [*message["headers"], *self._headers, *call.told]
            await send(message)

        refusal = self._refusal(scope, head.get(b"host", b""), origin, head)
        if refusal is not None:
            await refusal(scope, receive, answer)
            return
        # what is done writes lines; what is only read writes none but its own fault
        acts = scope["method"] != "GET"
        with logs.bind(correlation_id=call.correlation_id) if acts else contextlib.nullcontext():
            try:
                await self.app(scope, receive, answer)
            except Exception:  # noqa: BLE001 - the last stop: the caller learns nothing of what broke
                facts = {"method": scope["method"], "path": scope["path"][:200]}
                self._log.exception("api.fault", correlation_id=call.correlation_id, **facts)
                if not begun:
                    told = problem(
                        scope, 500, "E_UNEXPECTED", "something of ours broke", "alphapanda logs error"
                    )
                    await told(scope, receive, answer)

    def _who(self, given: bytes | None) -> Person | None:
        """Whose token this is."""
        if given is None or given[:7].lower() != b"bearer ":
            return None
        return self._access.person(given[7:].strip().decode("latin-1"))

    def _refusal(
        self, scope: Scope, host: bytes, origin: bytes | None, head: dict[bytes, bytes]
    ) -> Response | None:
        """Why this call goes no further; or the answer to a browser that asks whether it may."""
        name = host.lower()
        if host_name(host.decode("latin-1")) not in self._hosts:
            return problem(
                scope,
                403,
                "E_HOST",
                "not a name of this service",
                "call it by its own, or list it in API__ALLOWED_HOSTS",
            )
        if b"content-length" in head and b"transfer-encoding" in head:  # where does the next call begin?
            return problem(
                scope, 400, "E_FRAMING", "two ways to tell its length", headers={"connection": "close"}
            )
        if origin is None:
            return None
        if origin not in self._origins and origin not in (b"http://" + name, b"https://" + name):
            return problem(
                scope,
                403,
                "E_ORIGIN",
                "a page of another site may not call this",
                "list it in API__CORS_ORIGINS",
            )
        if scope["method"] == "OPTIONS" and b"access-control-request-method" in head:
            allowed = {
                "access-control-allow-methods": METHODS,
                "access-control-allow-headers": ASKED,
                "access-control-max-age": str(PREFLIGHT_SECONDS),
            }
            return Response(status_code=204, headers=allowed)
        return None


def checked_origins(origins: Iterable[str]) -> list[str]:
    """Origins as a browser sends them. ConfigurationError for ``*`` and for what no browser sends."""
    found: list[str] = []
    for origin in origins:
        scheme, divided, rest = origin.partition("://")
        good = scheme in ("http", "https") and divided and rest and not set(rest) & set("/*?#@ \\")
        if not good or origin != origin.lower():
            raise ConfigurationError(
                f"API__CORS_ORIGINS: {origin!r:.80} is no single page's origin",
                fix="list each in full, in small letters, without a path: https://desk.example",
            )
        found.append(origin)
    return found

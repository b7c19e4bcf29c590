"""Who may look at the pages, from where, and as whom: asked of every request, pages and websockets alike.

Rules. A request is for one of the names this machine goes by, or it is refused (DNS rebinding); it comes from a page
of ours or from no page at all, or it is refused (another site's form or websocket). But for the login page, the
libraries and ``/health`` nothing is served to anybody who has not logged in. A login is a signed cookie: a token's
holds only a name and ends when the token is revoked; a ticket's holds the role it was given, for half a day.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import msgspec
from bokeh.application.handlers import Handler
from bokeh.server.auth_provider import AuthProvider
from bokeh.util.token import check_token_signature
from tornado import web
from tornado.web import create_signed_value, decode_signed_value

from alphapanda.access import Access, Person
from alphapanda.clock import wall_ns
from alphapanda.errors import ConfigurationError
from alphapanda.events import SECOND
from alphapanda.places import own_secret
from alphapanda.reach import check_reach, host_name, names
from alphapanda.settings import DashboardSettings
from alphapanda.workspace import Workspace

if TYPE_CHECKING:
    from tornado.httputil import HTTPServerRequest
    from tornado.routing import Rule

LOGIN, LOGOUT, HEALTH = "/login", "/logout", "/health"
OPEN = (LOGIN, HEALTH, "/favicon.ico", "/static/")  # served to everybody; the last is the libraries
COMPONENTS = "/components/"  # Panel serves files of modules there, and imports whatever module is named
OURS = f"{COMPONENTS}alphapanda.panes."
STAY_SECONDS, PASS_MAX = 12 * 3600, 2000  # of a login; characters of its cookie
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with none, our own forms would come without an origin
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    # Bokeh writes scripts into its page and compiles; nothing is fetched, framed or sent anywhere but here. A notebook
    # on this machine may frame the pages.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' blob:; worker-src blob:; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'self' http://127.0.0.1:* http://localhost:*"
    ),
}


class Pass(msgspec.Struct, frozen=True):
    """What a login's cookie holds. ``role`` is empty where the name's token says it."""

    name: str
    role: str
    until: int


class Gate(AuthProvider):
    """The rules above, as Bokeh's server asks them."""

    def __init__(self, workspace: Workspace, settings: DashboardSettings, access: Access) -> None:
        self.access = access
        self.tls = settings.behind_tls
        check_reach("DASHBOARDS", settings, access)
        self.hosts = names("DASHBOARDS", settings.host, settings.allowed_hosts)
        # what logins are signed with: kept, so that they outlive the server
        self.secret = own_secret(workspace.home / "dashboards.key", "remove it: everybody logs in again")
        mark = hashlib.sha256(str(workspace.root).encode()).hexdigest()[:8]
        self.cookie = f"alphapanda_{mark}"  # ports share cookies: two workspaces must not
        super().__init__()

    @property
    def get_user(self) -> Any:
        """The name of who asks."""

        def named(handler: web.RequestHandler) -> str | None:
            found = self.person(handler.request)
            return found.name if found is not None else None

        return named

    @property
    def login_url(self) -> str:
        """Where those go who have not logged in."""
        return LOGIN

    def person(self, request: HTTPServerRequest) -> Person | None:
        """Who sent this request; None for somebody who has not logged in, or whose login is over."""
        held = self.held(request)
        return None if held is None else self._standing(held)

    def held(self, request: HTTPServerRequest) -> Pass | None:
        """What the request's cookie says, if it was signed here."""
        given = request.cookies.get(self.cookie)
        if given is None or len(given.value) > PASS_MAX:
            return None
        body = decode_signed_value(self.secret, self.cookie, given.value, max_age_days=1)
        with contextlib.suppress(msgspec.MsgspecError):
            return None if body is None else msgspec.json.decode(body, type=Pass)
        return None

    def stands(self, person: Person, by_ticket: bool) -> bool:
        """Whether somebody who logged in before may still be here."""
        return self._standing(Pass(person.name, person.role if by_ticket else "", person.until)) is not None

    def _standing(self, held: Pass) -> Person | None:
        now = wall_ns()
        if now >= held.until:
            return None
        if held.role:
            return msgspec.convert({"name": held.name, "role": held.role, "until": held.until}, Person)
        try:
            found = next((one for one in self.access.people() if one.name == held.name), None)
        except ConfigurationError:
            return None
        if (
            found is None
            or (found.until and now >= found.until)
            or found.at > held.until - STAY_SECONDS * SECOND
        ):
            return None  # revoked, over, or a newer token of the same name
        return msgspec.structs.replace(found, until=held.until)

    def admit(self, handler: web.RequestHandler, person: Person, by_ticket: bool) -> None:
        """Give this browser the cookie of a login."""
        held = Pass(person.name, person.role if by_ticket else "", wall_ns() + STAY_SECONDS * SECOND)
        value = create_signed_value(self.secret, self.cookie, msgspec.json.encode(held))
        handler.set_cookie(
            self.cookie, value.decode(), httponly=True, samesite="Strict", secure=self.tls, path="/"
        )

    def refusal(self, request: HTTPServerRequest) -> str:
        """Why a request is not even looked at; empty if it is."""
        if host_name(request.host) not in self.hosts:
            return "this name is not one the pages are served under: add it to DASHBOARDS__ALLOWED_HOSTS"
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc.lower() != request.host.lower():
            by_ticket = request.path == LOGIN and request.method == "POST" and b"ticket=" in request.body
            if not by_ticket:  # a ticket is what no other site can know
                return "this came from a page of another site"
        if request.path.startswith(COMPONENTS) and not request.path.startswith(OURS):
            return "not one of our components"
        return ""

    def signed(self, request: HTTPServerRequest) -> bool:
        """Whether a websocket brings the token of a page that was served here."""
        token = request.headers.get("Sec-WebSocket-Protocol", "").partition(",")[2].strip()
        try:
            return check_token_signature(token, secret_key=self.secret.encode(), signed=True)
        except Exception:  # noqa: BLE001 - whatever it is, it is none of ours
            return False

    def guard(self, rules: Iterable[Rule]) -> None:
        """Put every handler of a server behind these rules."""
        for rule in rules:
            if isinstance(rule.target, type) and issubclass(rule.target, web.RequestHandler):
                rule.target = _guarded(rule.target, self)


def _guarded(kind: type[web.RequestHandler], gate: Gate) -> type[web.RequestHandler]:
    """The same handler, which asks the gate first."""
    base = cast("Any", kind)

    class Guarded(base):
        def set_default_headers(self) -> None:
            super().set_default_headers()
            for name, value in HEADERS.items():
                self.set_header(name, value)
            self.clear_header("Server")

        async def prepare(self) -> None:
            request: HTTPServerRequest = self.request
            if why := gate.refusal(request):
                self.set_status(403)
                await self.finish(f"{why}\n")
                return
            path = request.path
            if not any(path == one or (one.endswith("/") and path.startswith(one)) for one in OPEN):
                if gate.person(request) is None:
                    await self._send_away(path)
                    return
                self.set_header("Cache-Control", "no-store")
            if "Upgrade" in request.headers and not gate.signed(request):
                self.set_status(403)
                await self.finish("no page of this server was opened for this\n")
                return
            above = super().prepare()
            if above is not None:
                await above

        async def _send_away(self, path: str) -> None:
            page = self.request.method in ("GET", "HEAD") and path.count("/") == 1
            if page and "Upgrade" not in self.request.headers:
                self.redirect(f"{LOGIN}?to={path.strip('/')[:40]}" if path != "/" else LOGIN)
                return
            self.set_status(403)
            await self.finish("log in first\n")

        def open(self, *given: str) -> None:
            """Of a websocket. Bokeh sends a message in several parts; without this the later ones wait for the
            browser's receipt of the first, 40 ms on Linux."""
            self.set_nodelay(True)
            super().open(*given)

        def check_origin(self, origin: str) -> bool:
            """Of a websocket; Bokeh's own list knows no ports chosen late and no proxy."""
            return gate.refusal(self.request) == ""

    Guarded.__name__ = Guarded.__qualname__ = kind.__name__
    return cast("type[web.RequestHandler]", Guarded)


class Visitor(Handler):
    """Writes into a session's signed token who opened it. The cookie itself stays out of the page (see ``PRIVATE``)."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self._gate = gate

    def modify_document(self, doc: Any) -> None:
        """Adds nothing to the page."""

    def process_request(self, request: HTTPServerRequest) -> dict[str, Any]:
        """What the token says beside the request's arguments."""
        held = self._gate.held(request)
        person = self._gate.person(request)
        return {"person": msgspec.to_builtins(person), "ticket": held is not None and bool(held.role)}


PRIVATE: dict[str, Any] = {
    "include_headers": [],
    "include_cookies": [],
}  # what of a request a page is told: nothing

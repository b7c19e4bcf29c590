"""Logging in: the page in a browser, the redirect caught on this machine or pasted by hand, the session kept.

The app's redirect URL at developers.kite.trade is to be the settings' (ZERODHA__REDIRECT_URL); then the browser hands
the request token to a ``Listener`` that takes one and closes. Where the browser is on another machine the page it is
sent to does not open; its address, pasted, does as well. A redirect is believed only with the state that this login
began with, so that no other page of the browser can log somebody else in here.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets as random_bytes
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import parse_qs, urlsplit

from alphapanda.clock import wall_ns
from alphapanda.errors import ConfigurationError, InfrastructureError, ValidationError
from alphapanda.logs.redaction import register_secret
from alphapanda.settings import LOOPBACK, Settings
from alphapanda.zerodha import secrets, session
from alphapanda.zerodha.secrets import NAMESPACE, Login

if TYPE_CHECKING:
    from pydantic import SecretStr

SILENT_SECONDS = 5.0  # a browser that connects and says nothing
PLACES = {"keyring": "in the system's keyring", "file": "in a file only you can read"}
DONE = "Alpha Panda has the login. Go back to where you started it; this page can be closed."
FAILED = "The login was not completed. Go back to where you started it, and begin again."
FOREIGN = "This login was not started here, or is over. Begin again where you work."
NOT_HERE = "Nothing is here."
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Alpha Panda</title>
<script>history.replaceState(null, "", "/")</script>
<body style="font-family:sans-serif;max-width:32em;margin:4em auto"><h1>Alpha Panda</h1><p>{}</p></body></html>"""


class LoggedIn(NamedTuple):
    """A login that was kept: who, until when, and where it lies; ``note`` is a warning, "" if there is none."""

    login: Login
    source: secrets.Source
    until: str
    note: str

    def __str__(self) -> str:
        lines = [
            f"{self.login.user_id} is logged in {self.until}",
            f"the login is kept {PLACES[self.source]}",
        ]
        return "\n".join([*lines, *([self.note] if self.note else [])])


def new_state() -> str:
    """What a login's redirect has to bring back: 128 bits nobody can guess."""
    return random_bytes.token_urlsafe(16)


def accepted(found: session.Redirected, state: str, *, pasted: bool) -> SecretStr:
    """The request token of a redirect that is of this login. A person may paste a token alone, or the address of a
    login begun by hand: those bring no state. Raises ValidationError (E_LOGIN_STATE) for a wrong one."""
    if (pasted and not found.state) or hmac.compare_digest(found.state.encode(), state.encode()):
        register_secret(found.token.get_secret_value())
        return found.token
    raise ValidationError(
        "that address belongs to another login than the one begun here",
        fix="open the address shown here, log in, and paste the address of the page you are sent to",
        code="E_LOGIN_STATE",
    )


def api_secret(settings: Settings, namespace: str = NAMESPACE) -> SecretStr:
    """The app's secret from the settings or where it is kept. Raises ConfigurationError if it is in neither."""
    found = secrets.load_api_secret(settings, namespace)
    if found is None:
        raise ConfigurationError(
            "the app's api secret is not known here",
            fix="run `alphapanda login` in a terminal: it asks for it, and keeps it with --keep-secret; or set "
            "ZERODHA__API_SECRET",
            code="E_API_SECRET",
        )
    return found


def finish(
    settings: Settings, request_token: SecretStr, secret: SecretStr, namespace: str = NAMESPACE
) -> LoggedIn:
    """Exchange the token and keep the session. Blocking. Raises as ``session.open_session``, and
    InfrastructureError if it cannot be kept: then it is ended again, for nobody could use it."""
    login = session.open_session(settings, request_token, secret, wall_ns())
    try:
        source = secrets.keep_login(settings, login, namespace)
    except InfrastructureError:
        session.end(settings, login)
        raise
    note = ""
    if settings.zerodha.access_token is not None:
        note = "ZERODHA__ACCESS_TOKEN is set and comes before this login: remove it"
    return LoggedIn(login, source, session.lives_until(login, settings), note)


class Listener:
    """Takes the browser's redirect at ``address``, once. Use it with ``with``; it ends with the block.

    ``wake`` is a descriptor that becomes readable when there is something to take. Raises ConfigurationError for an
    address that is not this machine's, InfrastructureError if somebody listens there already.
    """

    def __init__(self, address: str, state: str) -> None:
        parts = urlsplit(address)
        if parts.scheme != "http" or parts.hostname not in LOOPBACK or parts.username or parts.query:
            raise ConfigurationError(
                f"a login is caught on this machine only, not at {parts.scheme}://{parts.hostname}",
                fix="register http://127.0.0.1:PORT/ as the app's redirect URL, and set ZERODHA__REDIRECT_URL to it",
            )
        self._path, self._state = parts.path or "/", state
        self._found: SecretStr | None = None
        self._failure: ValidationError | None = None
        self._over, self._lock = threading.Event(), threading.Lock()
        host = "127.0.0.1" if parts.hostname == "localhost" else str(parts.hostname)
        try:
            self._server = _server(host, 80 if parts.port is None else parts.port)
        except OSError as error:
            raise InfrastructureError(
                f"the redirect cannot be caught at {address}: {error.strerror or error}",
                fix="end the other login, or paste the address you are sent to",
                code="E_REDIRECT",
            ) from None
        self._server.RequestHandlerClass = self._handler()
        bound = f"[{host}]" if ":" in host else host
        self.address = f"http://{bound}:{self._server.server_address[1]}{self._path}"
        self.wake, self._signal = os.pipe()
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        with self._lock:
            self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        os.close(self.wake)
        os.close(self._signal)

    def wait(self, seconds: float) -> SecretStr | None:
        """The request token once it came; None after so long. Raises ValidationError if the broker's page said that
        the login failed."""
        self._over.wait(seconds)
        if self._failure is not None:
            raise self._failure
        return self._found

    def cancel(self) -> None:
        """Take nothing more: whoever waits gets None."""
        with self._lock:
            self._over.set()

    def answer(self, path: str) -> tuple[int, str]:
        """The status and the sentence for what a browser asked. Takes the first redirect that is of this login."""
        asked = urlsplit(path)
        query = parse_qs(asked.query)
        if asked.path != self._path or not {"request_token", "status"} & query.keys():
            return 404, NOT_HERE
        if not hmac.compare_digest(query.get("state", [""])[-1].encode(), self._state.encode()):
            return 400, FOREIGN
        try:
            return self._take(accepted(session.request_token_of(path), self._state, pasted=False), None)
        except ValidationError as error:
            return self._take(None, error)

    def _take(self, found: SecretStr | None, failure: ValidationError | None) -> tuple[int, str]:
        with self._lock:
            if self._over.is_set():
                return 400, FOREIGN
            self._found, self._failure = found, failure
            with contextlib.suppress(OSError):
                os.write(self._signal, b".")
            self._over.set()
        return (200, DONE) if failure is None else (400, FAILED)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answer = self.answer

        class Handler(BaseHTTPRequestHandler):
            timeout = SILENT_SECONDS
            server_version, sys_version = "alphapanda", ""

            def do_GET(self) -> None:
                status, text = answer(self.path)
                body = PAGE.format(text).encode()
                self.send_response(status)
                for name, value in (
                    ("Content-Type", "text/html; charset=utf-8"),
                    ("Content-Length", str(len(body))),
                    ("Cache-Control", "no-store"),
                    ("Referrer-Policy", "no-referrer"),
                    ("Connection", "close"),
                ):
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
                """Nothing: the request line holds the token."""

        return Handler


class _Server(ThreadingHTTPServer):
    """Says nothing of connections that break: a browser closes as it likes."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing to tell anybody."""


def _server(host: str, port: int) -> _Server:
    import socket

    kind = type("_Server6", (_Server,), {"address_family": socket.AF_INET6}) if ":" in host else _Server
    return kind((host, port), BaseHTTPRequestHandler)

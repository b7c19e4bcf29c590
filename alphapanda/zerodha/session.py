"""One session with Kite: the page to log in at, the request token exchanged for a session, and its end.

    login = open_session(settings, request_token, api_secret, now)     # POST /session/token by the official client

A token dies at 06:00 IST of the next day, or earlier at a logout (Kite docs, user); dying takes from about 05:20 to
07:45. Whether it lives is told by ``alive``.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import parse_qs, urlencode, urlsplit

import requests
from kiteconnect import KiteConnect, exceptions  # pyright: ignore[reportMissingTypeStubs]

from alphapanda.clock import wall_ns
from alphapanda.errors import (
    AlphaPandaException,
    AuthenticationError,
    BrokerError,
    ConfigurationError,
    ValidationError,
)
from alphapanda.events import SECOND, ist
from alphapanda.logs.redaction import register_secret, safe_text
from alphapanda.settings import Secret, Settings
from alphapanda.zerodha import secrets
from alphapanda.zerodha.secrets import NAMESPACE, Login, dies_after, is_practice

if TYPE_CHECKING:
    from pydantic import SecretStr

KITE_LOGIN = "https://kite.zerodha.com/connect/login"
DYING, DEAD_ALL = dt.time(5, 20), dt.time(7, 45)  # IST, observed
LOG_IN = "run `alphapanda login`"
SKEW_SECONDS = 2.0  # more and the day's limits, expiries and stamps are counted wrongly


class Clock(NamedTuple):
    """The broker's Date header and our clock around the question, seconds since the epoch."""

    sent: float
    date: float
    received: float

    @property
    def skew(self) -> float:
        """Seconds our clock is surely ahead of the broker's (negative: behind), 0 within what can be told: the header
        has whole seconds, and the answer took its time."""
        ahead, behind = self.sent - (self.date + 1), self.received - self.date
        return ahead if ahead > 0 else min(behind, 0.0)


# ── logging in ───────────────────────────────────────────────────────────────────────────────────────────────────


def login_address(settings: Settings, state: str = "") -> str:
    """The page where a person logs in. ``state`` comes back in the redirect (Kite docs, user: redirect_params)."""
    key, root = _key(settings).get_secret_value(), settings.zerodha.root_url
    page = f"{root.rstrip('/')}/connect/login" if is_practice(root) else KITE_LOGIN
    more = {"redirect_params": urlencode({"state": state})} if state else {}
    return f"{page}?{urlencode({'v': '3', 'api_key': key} | more)}"


def open_session(settings: Settings, request_token: SecretStr, api_secret: SecretStr, now: int) -> Login:
    """Exchange a request token for a session: not kept yet. Raises AuthenticationError when Kite refuses it,
    ConfigurationError for a wrong app or account, BrokerError if the broker cannot be asked or answers nonsense."""
    given, secret = request_token.get_secret_value(), api_secret.get_secret_value()
    register_secret(given)
    register_secret(secret)
    answer = asked(lambda: client_of(settings).generate_session(given, secret))
    if isinstance(answer, Exception):
        raise _refusal(answer, settings)
    document = cast("dict[str, Any]", answer)
    token, user = document.get("access_token"), document.get("user_id")
    if not isinstance(token, str) or not token or not isinstance(user, str):
        raise BrokerError("the broker's answer held no access token", fix=f"{LOG_IN} again")
    register_secret(token)
    for name in ("enctoken", "public_token", "refresh_token"):  # never kept, and never shown
        if isinstance(value := document.get(name), str) and value:
            register_secret(value)
    if settings.zerodha.user_id not in (None, user):
        raise ConfigurationError(
            f"{user} has logged in, the settings name {settings.zerodha.user_id}: the login is not kept",
            fix="log out of Kite in the browser and log in as the other, or correct ZERODHA__USER_ID",
            code="E_OTHER_ACCOUNT",
        )
    return Login(
        token=Secret(token),
        app=secrets.app_of(settings.zerodha),
        root=settings.zerodha.root_url,
        user_id=user,
        at=now,
    )


def practice_token(settings: Settings) -> Secret:
    """The request token that a sandbox's login page gives to whoever presses its button. Raises ValidationError for
    any other address: at the broker a person logs in."""
    if not is_practice(settings.zerodha.root_url):
        raise ValidationError(
            "only a sandbox on this machine logs people in by itself",
            fix=f"log in yourself: leave --auto out; or practise: ZERODHA__ROOT_URL is "
            f"{settings.zerodha.root_url} now",
            code="E_USAGE",
        )
    address, session = login_address(settings), web_session()
    session.max_redirects = 1  # where it leads is looked at, and not followed

    def press() -> str:
        answer = session.post(address, allow_redirects=False, timeout=settings.zerodha.timeout_seconds)
        return answer.headers.get("Location", "")

    found = asked(press)
    token = request_token_of(found).token if isinstance(found, str) and found else None
    if token is None:
        raise AuthenticationError(
            f"the sandbox at {settings.zerodha.root_url} lets nobody in",
            fix="start it: `alphapanda sandbox`; and check ZERODHA__ROOT_URL and ZERODHA__API_KEY",
        )
    return token


class Redirected(NamedTuple):
    """What a redirect says: the token, and the state it brings back ("" if none)."""

    token: Secret
    state: str


def request_token_of(text: str) -> Redirected:
    """The request token in what a person pasted: the token alone, or the whole address they were sent to.

    Raises ValidationError for anything else, and for an address that says the login failed; never with the text.
    """
    text = text.strip().strip("'\"<>")
    if "request_token=" not in text and "status=" not in text:
        if text.isalnum() and 16 <= len(text) <= 128:
            return Redirected(Secret(text), "")
        raise ValidationError(
            "that is neither a request token nor an address with one",
            fix="paste the whole address of the page you were sent to after the login; it holds request_token=...",
            code="E_REQUEST_TOKEN",
        )
    query = parse_qs(urlsplit(text).query if "?" in text else text)
    token, status = (query.get(name, [""])[-1] for name in ("request_token", "status"))
    if status not in ("", "success") or not (token.isalnum() and 16 <= len(token) <= 128):
        raise ValidationError(
            "the login was not completed: the address holds no request token",
            fix=f"{LOG_IN} again and finish it in the browser",
            code="E_REQUEST_TOKEN",
        )
    return Redirected(Secret(token), query.get("state", [""])[-1])


def close_session(settings: Settings, namespace: str = NAMESPACE) -> bool:
    """Log out: the token dies at the broker, if it can be asked, and what is kept here goes; whether any was."""
    with contextlib.suppress(AlphaPandaException):  # what cannot be read can be removed all the same
        login = secrets.kept_login(settings, namespace)
        if login is not None and secrets.of_this_app(login, settings):
            end(settings, login)
    return secrets.forget(settings, namespace)


def end(settings: Settings, login: Login) -> None:
    """Ask the broker to end a session; one that is dead already, or cannot be ended, is no error."""
    asked(client_of(settings, login.token).invalidate_access_token)


# ── the client ───────────────────────────────────────────────────────────────────────────────────────────────────


def _key(settings: Settings) -> SecretStr:
    if settings.zerodha.api_key is None:
        raise ConfigurationError(
            "no app to log in to",
            fix="set ZERODHA__API_KEY to the key of your app at developers.kite.trade; for the sandbox see what "
            "`alphapanda sandbox` prints",
        )
    return settings.zerodha.api_key


def client_of(settings: Settings, token: SecretStr | None = None, clocks: list[Clock] | None = None) -> Any:
    """The official client: no redirects, and no proxy of the environment, which would see the token."""
    made = KiteConnect(
        _key(settings).get_secret_value(),
        token.get_secret_value() if token else None,
        root=settings.zerodha.root_url,
        timeout=settings.zerodha.timeout_seconds,
    )
    made.reqsession = web_session(clocks)
    return made


def clock_of(answer: requests.Response) -> Clock | None:
    """The clocks around an answer that has just come; None if it has no date that can be read."""
    try:
        date = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (KeyError, ValueError):
        return None
    received = wall_ns() / SECOND
    return Clock(received - answer.elapsed.total_seconds(), date, received)


def web_session(clocks: list[Clock] | None = None) -> requests.Session:
    session = requests.Session()
    session.max_redirects = 0
    session.trust_env = False

    def heard(answer: requests.Response, *_: object, **__: object) -> None:
        if clocks is not None and (clock := clock_of(answer)) is not None:
            clocks.append(clock)

    session.hooks["response"].append(heard)
    return session


def asked(call: Any) -> Any:
    """What a call to the broker gives, or the error it raised: returned, so that ours do not carry its frames, which
    hold tokens."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - on odd answers the client raises KeyError, TypeError and more
        return error


def said(error: Exception) -> str:
    """An error in a line, without secrets; how a connection failed without the address it was to."""
    if isinstance(error, requests.exceptions.Timeout):
        return "it did not answer in time"
    if isinstance(error, requests.exceptions.RequestException):
        return f"no connection ({type(error).__name__})"
    if isinstance(error, exceptions.KiteException):
        return safe_text(" ".join(str(error).split()), 200)
    return f"its answer cannot be read ({type(error).__name__})"


def _refusal(error: Exception, settings: Settings) -> AlphaPandaException:
    """Why no session was opened."""
    reason = said(error)
    if isinstance(error, exceptions.TokenException):
        if "checksum" in reason.lower():
            return ConfigurationError(
                f"the api secret is not this app's: {reason}",
                fix="correct ZERODHA__API_SECRET",
                code="E_API_SECRET",
            )
        return AuthenticationError(
            f"the request token was refused: {reason}",
            fix=f"{LOG_IN} again: it is good once and for a few minutes; if it stays so, check ZERODHA__API_SECRET",
        )
    if isinstance(error, exceptions.InputException) and "api_key" in reason:
        return ConfigurationError(f"the api key was refused: {reason}", fix="correct ZERODHA__API_KEY")
    where = settings.zerodha.root_url
    return BrokerError(f"{where} gave no session: {reason}", fix="check the connection, then try again")


def lives_until(login: Login, settings: Settings) -> str:
    """When a login ends, for people; with a warning if it began while logins are being ended."""
    if is_practice(settings.zerodha.root_url):
        return "until the sandbox's 06:00 IST"
    begun = ist(login.at).time()
    doubt = "; it began while logins are ended and may end before 07:45" if DYING <= begun < DEAD_ALL else ""
    return f"until {ist(dies_after(login.at)):%H:%M on %a %d %b} IST at the latest{doubt}"

"""Whether the login lives, and if not, why and what to do next.

    state = token_state(settings, now)     # alive, dead, never, other app, no data, unknown

No endpoint tells when a token dies: GET /user/profile is the probe, since the plan has no say in it, while a ticker
refuses a dead token and a plan without data with the same words. When logins are ended, in the morning, the first sign
is that permissions are refused.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Literal, cast
from urllib.parse import urlencode

import msgspec
from kiteconnect import exceptions  # pyright: ignore[reportMissingTypeStubs]
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from alphapanda.clock import wall_ns
from alphapanda.errors import MarketDataError
from alphapanda.events import ist
from alphapanda.settings import Settings
from alphapanda.zerodha import secrets
from alphapanda.zerodha.secrets import NAMESPACE, Login, is_practice
from alphapanda.zerodha.session import DEAD_ALL, DYING, LOG_IN, Clock, asked, client_of, said

_wire = logging.getLogger("alphapanda.zerodha.wire")  # at level DEBUG the library logs the whole address
_wire.setLevel(logging.CRITICAL)
PROBE = "NSE:INFY"  # an instrument that every plan with data may ask for

State = Literal["alive", "dead", "never", "other app", "no data", "unknown"]


class TokenState(msgspec.Struct, frozen=True, kw_only=True):
    """How the login stands: ``cause`` is why, ``fix`` what to do next ("" if nothing).

    ``no data`` is alive, on a plan without quotes and ticks. ``unknown``: the broker could not be asked. ``since`` is
    when it died as far as that is known, ``dies`` when it will at the latest; wall ns, 0 for not known.
    """

    state: State
    cause: str
    fix: str = ""
    user_id: str = ""
    source: str = ""
    since: int = 0
    dies: int = 0


def token_state(
    settings: Settings,
    now: int,
    namespace: str = NAMESPACE,
    *,
    data: bool = False,
    clocks: list[Clock] | None = None,
) -> TokenState:
    """Ask the broker whether the login lives; with ``data`` also whether its plan has quotes. Blocking: one or two
    calls, each at most the settings' timeout. ``clocks`` gets the broker's clock. Raises as ``secrets.load_login``."""
    login = secrets.load_login(settings, namespace)
    if settings.zerodha.api_key is None:
        return TokenState(
            state="never",
            cause="no app is named",
            fix="set ZERODHA__API_KEY, of your app at developers.kite.trade",
        )
    if login is None:
        return TokenState(state="never", cause="nobody has logged in here", fix=LOG_IN)
    facts: dict[str, Any] = {"user_id": login.user_id, "source": login.source, "dies": login.dies}
    if not secrets.of_this_app(login, settings):
        what = "at another address" if login.app == secrets.app_of(settings.zerodha) else "of another app"
        return TokenState(
            state="other app", cause=f"the kept login is {what} than the settings name", fix=LOG_IN, **facts
        )
    client = client_of(settings, login.token, clocks)
    found = asked(client.profile)
    if isinstance(found, Exception):
        return _not_alive(found, login, settings, now, facts)
    user = str(cast("dict[str, Any]", found).get("user_id", "")) if isinstance(found, dict) else ""
    wanted, facts["user_id"] = settings.zerodha.user_id, user
    if wanted not in (None, user):
        return TokenState(
            state="other app",
            cause=f"the token is {user or 'nobody'}'s, the settings name {wanted}",
            fix=f"{LOG_IN} as {wanted}, or correct ZERODHA__USER_ID",
            **facts,
        )
    quote = asked(lambda: client.ltp(PROBE)) if data else None
    if isinstance(quote, exceptions.PermissionException):
        return TokenState(
            state="no data",
            cause="the app's plan has no market data: no quotes, no ticks, no candles",
            fix="choose the Connect plan for this app at developers.kite.trade",
            **facts,
        )
    if isinstance(quote, Exception):
        return TokenState(
            state="unknown", cause=f"{user} is logged in, quotes could not be asked: {said(quote)}",
            fix="try again in a minute", **facts,
        )  # fmt: skip
    return TokenState(state="alive", cause=f"{user} is logged in", **facts)


def _not_alive(
    error: Exception, login: Login, settings: Settings, now: int, facts: dict[str, Any]
) -> TokenState:
    """Dead and why, or not to be told."""
    moment, practice = ist(now), is_practice(settings.zerodha.root_url)
    dying = DYING <= moment.time() < DEAD_ALL and not practice
    refused = isinstance(error, exceptions.TokenException)
    if not refused and not (dying and isinstance(error, exceptions.PermissionException)):
        return TokenState(
            state="unknown",
            cause=f"the broker could not be asked: {said(error)}",
            fix="check the connection and ZERODHA__ROOT_URL, then try again",
            **facts,
        )
    since, fix = 0, LOG_IN
    if login.dies and login.dies <= now and not practice:
        since = login.dies
        cause = f"it ended at {ist(since):%H:%M on %d %b} IST, as every login does at 06:00"
    elif dying:
        cause = "logins are ended between about 05:20 and 07:45 IST, also those that are new"
        fix = f"after 07:45 IST {LOG_IN}"
    elif login.at:
        cause = "it was ended early: by a logout, or by another login to this app"
        fix = f"{LOG_IN}, and let one program alone log in to this app"
    else:
        cause = "it is of an earlier day, was ended by a logout or another login, or is not this app's"
    if login.source == "settings":
        fix = f"remove ZERODHA__ACCESS_TOKEN, it comes before every login; then {fix}"
    return TokenState(state="dead", cause=cause, fix=fix, since=since, **facts)


def ticker_refusal(settings: Settings, namespace: str = NAMESPACE) -> int | None:
    """Open the ticker's socket and close it: the HTTP status it was refused with, None if it was not. Blocking.

    Counts as one of the app's three sockets for a moment. Raises MarketDataError if nobody answers there.
    """
    token, key = secrets.load_token(settings, namespace), settings.zerodha.api_key
    if token is None or key is None:
        return 403
    query = urlencode({"api_key": key.get_secret_value(), "access_token": token.get_secret_value()})
    address, fault = f"{settings.zerodha.ticker_url.rstrip('/')}?{query}", ""
    try:
        with connect(
            address,
            additional_headers={"X-Kite-Version": "3"},
            open_timeout=settings.zerodha.timeout_seconds,
            close_timeout=1.0,
            compression=None,
            proxy=None if address.startswith("ws://") else True,
            logger=_wire,
        ):
            return None
    except InvalidStatus as refused:
        return refused.response.status_code
    except Exception as error:  # noqa: BLE001 - by whatever it fails: the address it was to holds the token
        fault = type(error).__name__
    raise MarketDataError(
        f"the ticker does not answer ({fault})", fix="check the connection and ZERODHA__TICKER_URL"
    )


async def refusal_cause(settings: Settings, namespace: str = NAMESPACE) -> str:
    """Why the ticker refused us with a 403, in the feed's words (``feeds.kite.CAUSES``): token, plan or unknown."""
    state = await asyncio.to_thread(token_state, settings, wall_ns(), namespace, data=True)
    return {"dead": "token", "never": "token", "other app": "token", "no data": "plan"}.get(
        state.state, "unknown"
    )

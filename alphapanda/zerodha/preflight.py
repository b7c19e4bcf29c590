"""Before a day with money: is everything in place? Each answer is a row, and what is missing says how to mend it.

    for check in await preflight(settings, workspace): ...

Nothing is ordered, and nothing is changed but the day's list of instruments, which is fetched if it is not there. One
check that breaks is a row of its own. What is on this machine is looked at in ``standing``.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import socket
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from alphapanda.checks import Check, worse
from alphapanda.clock import wall_ns
from alphapanda.errors import AlphaPandaException, RulebookError
from alphapanda.events import ist
from alphapanda.instruments import Instrument
from alphapanda.registry import Registry
from alphapanda.rulebook import Rulebook
from alphapanda.settings import Settings
from alphapanda.workspace import Workspace
from alphapanda.zerodha import alive as logins
from alphapanda.zerodha import instruments, secrets, session, standing
from alphapanda.zerodha.secrets import NAMESPACE, is_practice

__all__ = ["Check", "preflight", "worse"]

EXAMPLES = (
    Instrument(symbol="NSE:INFY", exchange="NSE", in_fo=True),
    Instrument(symbol="NFO:NIFTY", exchange="NFO", kind="FUT", name="NIFTY"),
)


async def preflight(
    settings: Settings, workspace: Workspace, namespace: str = NAMESPACE, *, now: int | None = None
) -> list[Check]:
    """Every row, in order. ``now`` is wall ns. Takes as long as the broker's answers, at most some seconds each."""
    moment = wall_ns() if now is None else now
    day = ist(moment).date()
    clocks: list[session.Clock] = []
    rows = await asyncio.to_thread(_rows, lambda: _login(settings, moment, namespace, clocks), "login")
    alive = all(row.state != "failed" for row in rows if row.what == "login")
    checks: tuple[tuple[str, Callable[[], Iterator[Check]]], ...] = (
        ("clock", lambda: _clock(clocks)),
        ("ticker", lambda: _ticker(settings, namespace, alive=alive)),
        ("registered IP", lambda: _address(settings, workspace, namespace)),
        ("instruments", lambda: _instruments(settings, workspace, moment, namespace, alive=alive)),
        ("rulebook", lambda: _rulebook(day)),
        ("journal", lambda: standing.journal(workspace, namespace)),
        ("disk", lambda: standing.disk(workspace)),
        ("limits", lambda: standing.limits(settings)),
        ("kill switch", lambda: standing.kill_level(workspace, namespace)),
        ("open orders", lambda: standing.unsettled(workspace, namespace, day)),
    )
    for what, check in checks:
        rows += await asyncio.to_thread(_rows, check, what)
    return rows + await standing.server(settings, workspace, namespace)


def _rows(check: Callable[[], Iterator[Check]], what: str) -> list[Check]:
    try:
        return list(check())
    except AlphaPandaException as error:
        return [Check(what, "failed", error.message, error.fix)]
    except Exception as error:  # noqa: BLE001 - a check reports what is broken instead of breaking with it
        return [
            Check(
                what, "failed", f"could not be looked at ({type(error).__name__})", "see `alphapanda doctor`"
            )
        ]


# ── the broker ───────────────────────────────────────────────────────────────────────────────────────────────────


def _login(settings: Settings, now: int, namespace: str, clocks: list[session.Clock]) -> Iterator[Check]:
    state = logins.token_state(settings, now, namespace, data=True, clocks=clocks)
    practice = is_practice(settings.zerodha.root_url)
    if practice:
        yield Check(
            "broker", "warning", f"the sandbox at {settings.zerodha.root_url}: practice, no money", ""
        )
    if state.state not in ("alive", "no data"):
        yield Check("login", "failed", f"{state.state}: {state.cause}", state.fix)
        yield Check("plan", "failed", "not known without a login", state.fix)
        return
    until = f", until {ist(state.dies):%H:%M on %d %b} IST" if state.dies and not practice else ""
    yield Check("login", "ok", f"{state.user_id} is logged in{until} (from the {state.source})")
    if settings.zerodha.user_id is None:
        fix = f"set ZERODHA__USER_ID={state.user_id}: then no other account is taken by mistake"
        yield Check("account", "warning", "the settings do not say whose account it is to be", fix)
    if state.state == "no data":
        yield Check("plan", "failed", state.cause, state.fix)
    else:
        yield Check("plan", "ok", "has market data: a quote was answered")


def _clock(clocks: list[session.Clock]) -> Iterator[Check]:
    if not clocks:
        yield Check("clock", "failed", "the broker gave no time to compare with", "see the rows above")
        return
    skew = min((one.skew for one in clocks), key=abs)
    if abs(skew) > session.SKEW_SECONDS:
        which = "ahead of" if skew > 0 else "behind"
        yield Check(
            "clock",
            "failed",
            f"this machine is at least {abs(skew):.1f} s {which} the broker",
            "start chrony, ntpd or systemd-timesyncd, and look again",
        )
    else:
        yield Check("clock", "ok", f"agrees with the broker's Date header within {session.SKEW_SECONDS:g} s")


def _ticker(settings: Settings, namespace: str, *, alive: bool) -> Iterator[Check]:
    """Whether ticks would come; a 403 there says no more than no, so the rows above are asked for the cause."""
    if not alive:
        yield Check("ticker", "failed", "not asked without a login", session.LOG_IN)
        return
    status = logins.ticker_refusal(settings, namespace)
    if status is None:
        yield Check("ticker", "ok", "opens")
    elif status == 429:
        fix = "end the other programs that use the app's key, unless they are our own feed"
        yield Check("ticker", "warning", "three sockets of this app are open already", fix)
    else:
        fix = "see the rows login and plan; if both are well, log in anew: `alphapanda login`"
        yield Check("ticker", "failed", f"refuses us with {status}", fix)


def _address(settings: Settings, workspace: Workspace, namespace: str) -> Iterator[Check]:
    """Kite takes orders from the app's registered addresses alone (since April 2026), and says so at an order alone."""
    from_here = _egress(urlsplit(settings.zerodha.root_url).hostname or "")
    seen = (
        f"; this machine sends from {from_here}, behind a router the broker sees another"
        if from_here and not is_practice(settings.zerodha.root_url)
        else ""
    )
    register = "register this connection's public address at developers.kite.trade (one change a week)"
    last = standing.last_word_on_address(workspace, namespace)
    if last is not None and last.refused:
        yield Check("registered IP", "failed", f"refused at {last.when}: {last.said}{seen}", register)
    elif last is not None:
        yield Check(
            "registered IP",
            "ok",
            f"the broker took an order at {last.when}; not known for a new address{seen}",
        )
    else:
        yield Check("registered IP", "warning", f"cannot be known before the first order{seen}", register)


def _egress(host: str) -> str:
    """The local address that packets to the broker leave from; "" if there is no way. Nothing is sent to it."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 443))
        return str(probe.getsockname()[0])
    return ""


# ── the day ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _instruments(
    settings: Settings, workspace: Workspace, now: int, namespace: str, *, alive: bool
) -> Iterator[Check]:
    folder = workspace.home / standing.INSTRUMENTS
    if is_practice(settings.zerodha.root_url):
        folder /= "practice"
    path = instruments.kept(folder, ist(now).date())
    if not path.exists() and not alive:
        yield Check("instruments", "failed", "today's list is not here", session.LOG_IN)
        return
    found = instruments.registry_of_day(folder, now, lambda: _download(settings, namespace))
    if not len(found):
        yield Check("instruments", "failed", "today's list is empty", f"remove {path} and look again")
    elif not path.exists():
        text = (
            f"{len(found):,}, fetched before {instruments.READY:%H:%M} IST: the list may still be yesterday's"
        )
        yield Check("instruments", "warning", text, f"look again after {instruments.READY:%H:%M} IST")
    else:
        yield Check("instruments", "ok", f"{len(found):,} of today{_expiring(found, ist(now).date())}")


def _expiring(found: Registry, day: dt.date) -> str:
    ending = sum(one.expiry == day for one in found)
    return f", {ending:,} expire today" if ending else ""


def _download(settings: Settings, namespace: str) -> bytes:
    token, key = secrets.load_token(settings, namespace), settings.zerodha.api_key
    signed = (
        {"Authorization": f"token {key.get_secret_value()}:{token.get_secret_value()}"}
        if token and key
        else {}
    )
    headers = {"X-Kite-Version": "3", "Accept-Encoding": "gzip"} | signed
    return instruments.fetch(settings.zerodha.root_url, headers, settings.zerodha.timeout_seconds)


def _rulebook(day: dt.date) -> Iterator[Check]:
    rules = Rulebook.load()
    try:
        closed = rules.why_closed(EXAMPLES[0], day)
        for one in EXAMPLES:
            if rules.session(one, day) is not None:
                rules.charges(one, "MIS", day)
    except RulebookError as error:
        yield Check("rulebook", "failed", error.message, error.fix)
        return
    doubts = len(rules.unconfirmed(day, list(EXAMPLES)))
    extra = f"; {doubts} of its rules are unconfirmed" if doubts else ""
    yield Check("rulebook", "ok", f"{rules.version} covers {day}{extra}")
    if closed:
        yield Check(
            "market", "warning", f"the NSE is closed today: {closed}", "orders wait for a trading day"
        )

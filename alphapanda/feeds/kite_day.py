"""What the Kite ticker needs day after day: a login, the instruments of today, the venue's time.

Rules. Nothing here ends the feed: what is missing is said in ``health`` with the next step, and looked for again. A
login is looked for every two seconds, so one that a person makes in another process is used at once. A login that the
broker calls dead is put behind all others until somebody logs in again; the settings' own token comes first, for
whoever set it meant it. The list of instruments is fetched when the day begins and again once it is settled (08:30
IST); between midnight and then yesterday's stays, for nothing trades. A sandbox's lists lie in a folder of their own:
its days are not real ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from alphapanda import logs
from alphapanda.errors import AlphaPandaException, AuthenticationError, ConfigurationError, MarketDataError
from alphapanda.events import ist
from alphapanda.feeds.connection import Timing
from alphapanda.feeds.kite import CAUSES, KiteTicks
from alphapanda.feeds.kite_clock import VenueClock
from alphapanda.feeds.kite_refill import Refills
from alphapanda.feeds.kite_rest import Candle, KiteRest
from alphapanda.feeds.kite_rows import trading_hours
from alphapanda.instruments import Instrument
from alphapanda.registry import Registry
from alphapanda.rulebook import Rulebook
from alphapanda.settings import Settings
from alphapanda.workspace import Workspace
from alphapanda.zerodha.instruments import READY, registry_of_day
from alphapanda.zerodha.secrets import kept_login

if TYPE_CHECKING:
    from pydantic import SecretStr

LOOK_SECONDS = 2.0  # between two looks for a login
LIST_SECONDS = 10.0  # between two tries for a list
SHOWN = 5  # symbols named in a sentence


class KiteDay:
    """The ticker (``venue``) with what it needs. ``quiet`` are the seconds of silence that are a fault.

    Raises ConfigurationError without an api key.
    """

    def __init__(self, settings: Settings, workspace: Workspace, quiet: float) -> None:
        given = settings.zerodha
        if given.api_key is None:
            raise ConfigurationError(
                "FEED__SOURCE is kite and no api key is set",
                fix="set ZERODHA__API_KEY, then `alphapanda login`",
            )
        self._settings = settings
        self._rest = KiteRest(given.root_url, given.api_key, given.timeout_seconds)
        self.folder = listing_folder(workspace.home, self._rest.local)
        self.clock = VenueClock(self._rest.clock if self._rest.local else None)
        rulebook = Rulebook.load()
        self._refills = Refills(workspace.tapes, self._candles, self._instrument, rulebook, self.clock.now)
        self.venue = KiteTicks(
            given.ticker_url,
            given.api_key,
            registry=Registry(),  # nothing can be asked for before today's list is there
            timing=Timing(quiet=quiet),
            probe=self._probe,
            refill=self._refills.take,
            opened=trading_hours(rulebook),
            wall=self.clock.now,
        )
        self._login: Known | None = None
        self._dead: set[Known] = set()
        self._look = asyncio.Event()  # a login may be found, or a list fetched, sooner than planned
        self._listed: dt.date | None = None  # the day whose list is in use
        self._any_list = asyncio.Event()
        self._settled = False  # it was fetched when it is final
        self._login_fault = self._list_fault = ""
        self._log = logs.channel("application")

    async def run(self) -> None:
        """Follow time, logins and lists until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.clock.run())
            await self.clock.known.wait()
            group.create_task(self._logins())
            group.create_task(self._lists())
            group.create_task(self._refilled())

    def health(self) -> dict[str, Any]:
        """Plain values, those of the venue among them; ``troubles`` are sentences for people."""
        said = self.venue.health()
        if self._login is None:
            said["state"], said["cause"] = "logged_out", "login"
            said["detail"] = self._login_fault or "nobody is logged in at Zerodha: run `alphapanda login`"
        elif self._login in self._dead and said["state"] != "connected":
            said["state"], said["cause"], said["detail"] = "logged_out", "token", ": ".join(CAUSES["token"])
        troubles = [said["detail"]] if said["detail"] else []
        if said["state"] == "waiting":
            troubles.append("the ticker is not connected")
        if self._list_fault and self._login is not None:
            troubles.append(self._list_fault)
        if self.clock.fault:
            troubles.append(f"the sandbox's time is not known: {self.clock.fault}")
        if stale := said["stale"]:
            named = ", ".join(stale[:SHOWN]) + (" and others" if len(stale) > SHOWN else "")
            troubles.append(f"no news of {len(stale)} instruments: {named}")
        refill = self._refills.health()
        return said | {"listed": str(self._listed or ""), "refill": refill, "troubles": troubles}

    # ── logins ───────────────────────────────────────────────────────────────────────────────────────────

    async def _logins(self) -> None:
        while True:
            try:
                found = await asyncio.to_thread(logins, self._settings)
            except AlphaPandaException as error:  # such as a file that others may read
                self._login_fault, found = f"{error.message}: {error.fix}", []
            else:
                self._login_fault = ""
            alive = [one for one in found if one not in self._dead] or found
            if alive and alive[0] != self._login:
                self._login = alive[0]
                self.venue.login(self._login.token)
                self._look.set()
                self._log.info("feed.login", venue="kite")
            await asyncio.sleep(LOOK_SECONDS)

    async def _probe(self) -> str:
        login = self._login
        if login is None:
            return "token"
        cause = await asyncio.to_thread(self._rest.cause, login.token)
        if cause == "token":
            self._dead.add(login)
        return cause

    # ── instruments ──────────────────────────────────────────────────────────────────────────────────────

    async def _lists(self) -> None:
        while True:
            self._look.clear()
            now = self.clock.now()
            moment = ist(now)
            settled = moment.time() >= READY
            current = self._listed == moment.date() and self._settled
            if not current and (self._listed is None or settled):
                try:
                    found = await asyncio.to_thread(registry_of_day, self.folder, now, self._download)
                except AlphaPandaException as error:
                    if error.message not in self._list_fault:
                        self._log.warning("feed.no_list", venue="kite", error=error.message)
                    self._list_fault = f"{error.message}: {error.fix}"
                    with contextlib.suppress(MarketDataError):  # no ticker is asked yet that could tell
                        await self._probe()
                else:
                    self._listed, self._settled, self._list_fault = moment.date(), settled, ""
                    self.venue.relist(found)
                    self._any_list.set()
                    self._log.info("feed.listed", venue="kite", instruments=len(found), day=str(self._listed))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LIST_SECONDS):
                    await self._look.wait()

    def _download(self) -> bytes:
        if self._login is None:
            raise AuthenticationError(
                "nobody is logged in, so today's instruments are not known", fix="alphapanda login"
            )
        return self._rest.instruments(self._login.token)

    # ── gaps ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _refilled(self) -> None:
        await self._any_list.wait()  # tokens are today's
        await self._refills.run()

    def _instrument(self, symbol: str) -> Instrument | None:
        return self.venue.instrument(symbol)

    def _candles(self, instrument: int, start: int, end: int) -> list[Candle]:
        if self._login is None:
            raise AuthenticationError("nobody is logged in", fix="alphapanda login")
        return self._rest.candles(self._login.token, instrument, start, end)


def listing_folder(home: Path, practice: bool) -> Path:
    """Where the instruments of each day are kept: a sandbox's (``practice``) never beside the real ones."""
    return home / "instruments" / "sandbox" if practice else home / "instruments"


class Known(NamedTuple):
    """An access token and when somebody logged in with it (wall ns; 0 for the settings' own).

    A later login may bring the same token again: whether Kite gives out a new one is not documented.
    """

    token: SecretStr
    at: int


def logins(settings: Settings) -> list[Known]:
    """The logins at hand, best first: the settings', then the kept one. Blocks while a keyring is asked.

    Raises AlphaPandaException for a store that may not be used.
    """
    kept, own = kept_login(settings), settings.zerodha.access_token
    found = [] if own is None else [Known(own, 0)]
    return found if kept is None else [*found, Known(kept.token, kept.at)]

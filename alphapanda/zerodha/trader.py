"""Zerodha behind a gateway: the shell around the order path. It alone holds the token.

``execute_order`` puts an order's intents on record and returns. A loop asks the path for the next call and makes it on
a thread that nobody cancels, which also writes down what came of it. The ticker's order updates (a socket without
instruments, one of the three an api key may have) make it look at the book at once. What became of orders waits in the
store as reports; the gateway takes them from there.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar

from alphapanda import logs
from alphapanda.clock import awake_ns, wall_ns
from alphapanda.errors import (
    AlphaPandaException,
    AuthenticationError,
    ConfigurationError,
    DatabaseError,
    OrderRejectionError,
    ValidationError,
)
from alphapanda.events import SECOND, ist
from alphapanda.feeds.connection import Gap
from alphapanda.feeds.kite import KiteTicks
from alphapanda.instruments import PRICE_SCALE
from alphapanda.orders import Order
from alphapanda.rulebook import Rulebook
from alphapanda.traders.base import Mode, Position, Trader
from alphapanda.traders.reports import Report
from alphapanda.workspace import Workspace
from alphapanda.zerodha.alive import refusal_cause
from alphapanda.zerodha.client import Kite
from alphapanda.zerodha.drift import net_of
from alphapanda.zerodha.limits import Limiter
from alphapanda.zerodha.orderpath import OrderPath
from alphapanda.zerodha.outcomes import NeverSent, of_error
from alphapanda.zerodha.policy import Call, Policy
from alphapanda.zerodha.reading import row_of
from alphapanda.zerodha.secrets import Login, is_practice, load_login, of_this_app
from alphapanda.zerodha.session import SKEW_SECONDS
from alphapanda.zerodha.slices import intents_of
from alphapanda.zerodha.standing import orders_file
from alphapanda.zerodha.store import Store

if TYPE_CHECKING:
    from alphapanda.checks import Check
    from alphapanda.settings import Settings

NAMESPACE = "zerodha"
TOKEN_SECONDS = 5.0  # between looks whether a person has logged in again
POSITIONS_SECONDS = 20.0  # between two looks at the account's positions
AGAIN_SECONDS = 0.25  # after a journal that could not be written
FENCED = "E_LEASE"
LOGGED_OUT = "Zerodha takes the access token no more: nothing leaves before `alphapanda login`"
HALT = 2  # the kill level at which nothing new leaves


class ZerodhaTrader(Trader):
    """One account at Zerodha, or at the sandbox if the settings say so."""

    execution_mode: ClassVar[Mode] = "live"

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__(settings)
        if settings is None or settings.zerodha.api_key is None:
            raise ConfigurationError(
                "there is no api key for Zerodha", fix="set ZERODHA__API_KEY, then `alphapanda login`"
            )
        self._settings, self._given = settings, settings.zerodha
        self._path: OrderPath
        self._kite: Kite
        self._lock = threading.RLock()  # the path is one thread's at a time
        self._wake = asyncio.Event()
        self._closing = False
        self._loop: asyncio.AbstractEventLoop
        self._task: asyncio.Task[None] | None = None
        self._ears: KiteTicks
        self._pool = ThreadPoolExecutor(Policy().senders + 1, thread_name_prefix="kite")
        self._rulebook = Rulebook.load()
        self._scales: dict[str, int] = {}
        self._skewed = 0  # looks in a row whose answers had another time than we

    @classmethod
    def made_for(cls, settings: Settings) -> type[Trader]:
        """The shadow, where the settings say so."""
        if settings.zerodha.shadow:
            from alphapanda.zerodha.shadow import ShadowTrader

            return ShadowTrader
        return cls

    # ── the contract ─────────────────────────────────────────────────────────────────────────────────────────────

    async def initialize(self) -> None:
        """Open the store, see whether the token lives, begin to look at the book. AuthenticationError without a login:
        the gateway is started again until a person has logged in."""
        given, self._loop = self._given, asyncio.get_running_loop()
        assert given.api_key is not None  # noqa: S101 - asked when it was made
        login = self._login = self._known_login()
        if login is None:
            raise AuthenticationError("nobody is logged in at Zerodha", fix="alphapanda login")
        self._kite = Kite(
            given.api_key,
            login.token,
            root=given.root_url,
            timeout=given.timeout_seconds,
            scale_of=self._scale,
        )
        path = orders_file(Workspace.find(), NAMESPACE)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        self._path = OrderPath(Store(path), Policy(), Limiter(), wall_ns())
        self._scales = {one.symbol: one.price_scale for one in self._path.intents.values()}
        self._task = asyncio.create_task(self._serve())
        self._task.add_done_callback(self._served)
        self._ears = KiteTicks(
            given.ticker_url, given.api_key, login.token, orders=self._heard, refill=self._missed,
            probe=lambda: refusal_cause(self._settings),
        )  # fmt: skip
        await self._ears.start()

    async def execute_order(self, order: Order) -> None:
        """Put it on record; it leaves as soon as everything allows. Does nothing for one that is on record."""
        shelf = self.shelf(order)
        freeze = self._rulebook.freeze_quantity(order.instrument, ist(shelf.times[order.id]).date())
        intents = intents_of(
            order, NAMESPACE, shelf.run, shelf.times[order.id], freeze, self._given.market_band_percent / 100
        )
        self._scales[order.symbol] = order.instrument.price_scale
        try:
            with self._lock:
                self._path.submit(intents, wall_ns())
        except ValidationError as error:
            raise OrderRejectionError(error.message, fix=error.fix, code=error.code) from error
        except DatabaseError as error:
            if error.code == FENCED:
                self.fault = error
                self.news.set()
            raise
        self._wake.set()

    async def cancel_order(self, order: Order) -> None:
        """Ask for its cancel until the book shows its end."""
        with self._lock:
            self._path.cancel(order.id, "cancelled by the platform", wall_ns())
        self._wake.set()

    async def resize_order(self, order: Order) -> None:
        """Ask for the quantity that it now wants."""
        with self._lock:
            self._path.resize(order.id, order.target, wall_ns())
        self._wake.set()

    async def halt(self, level: int, reason: str) -> None:
        """The kill switch."""
        with self._lock:
            if level:
                self._path.raise_level(level, reason, wall_ns())
            else:
                self._path.lower_level(0, reason, wall_ns())
        self._wake.set()

    async def settle(self, order: str, reason: str) -> None:
        """See ``OrderPath.settle``."""
        with self._lock:
            settled = self._path.settle(order, reason, wall_ns())
        logs.channel("audit").warning("orders.settled", orders=settled, reason=reason)
        self._wake.set()

    def reports(self, after: int) -> list[tuple[int, Report]]:
        """What became of orders."""
        with self._lock:
            return self._path.store.reports(after)

    async def shutdown(self) -> None:
        """Calls on their way are waited for: their answers belong on record. Orders stay at the broker."""
        self._closing = True
        self._wake.set()
        await self._ears.stop()
        if self._task is not None:
            await asyncio.wait((self._task,))
        await asyncio.to_thread(self._pool.shutdown, wait=True)
        self._path.store.close()

    @classmethod
    def account(cls, settings: Settings) -> str:
        """The client id of the login, else of the settings."""
        login = load_login(settings)
        return (login.user_id if login is not None else "") or settings.zerodha.user_id or ""

    @classmethod
    def is_practice(cls, settings: Settings) -> bool:
        """See ``secrets``."""
        return is_practice(settings.zerodha.root_url)

    @classmethod
    async def preflight(cls, settings: Settings, workspace: Workspace) -> list[Check]:
        """See ``preflight``."""
        from alphapanda.zerodha.preflight import preflight

        return await preflight(settings, workspace)

    @classmethod
    def stop_orders(cls, settings: Settings, say: Callable[..., None], *, sever: bool = False) -> bool:
        """See ``kill``."""
        from alphapanda.zerodha.kill import stop_orders

        return stop_orders(settings, say, sever=sever)

    @classmethod
    def lost(cls, settings: Settings) -> dict[str, str]:
        """See ``reconcile``."""
        from alphapanda.zerodha.reconcile import lost_orders

        return lost_orders()

    @classmethod
    def positions(cls, settings: Settings) -> list[Position]:
        """See ``reconcile``."""
        from alphapanda.zerodha.reconcile import positions

        return positions(settings)

    def _served(self, task: asyncio.Task[None]) -> None:
        """The loop has ended: by us, or by a defect, with which the whole gateway has to end."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fault = error
            self.news.set()

    # ── the loop ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _serve(self) -> None:
        looked, compared = 0.0, 0.0
        while not self._closing:
            self._wake.clear()
            now = wall_ns()
            if time.monotonic() - looked >= TOKEN_SECONDS:
                looked = time.monotonic()
                self._look_for_login(now)
            if time.monotonic() - compared >= POSITIONS_SECONDS:
                compared = time.monotonic()
                self._pool.submit(self._compare, ist(now).toordinal())
            try:
                with self._lock:
                    self._path.store.stand()
                    while (call := self._next_call()) is not None:
                        self._pool.submit(self._make, call)
                    wait = (self._path.wakes_at(now) - now) / SECOND
                self._said(LOGGED_OUT if self._path.token_dead else "")
            except DatabaseError as error:
                if error.code == FENCED:
                    raise  # another is in charge: whatever we still learn it finds in the book
                self._said(error.message)
                wait = AGAIN_SECONDS
            self.news.set()
            try:
                async with asyncio.timeout(max(0.01, wait)):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def _next_call(self) -> Call | None:
        now, tick = wall_ns(), awake_ns()
        return self._path.next_call(now, tick, ist(now).toordinal())

    def _make(self, call: Call) -> None:
        """One call, from its last check to its outcome on record, on a thread of its own."""
        try:
            if call.kind == "book":
                self._look(call)
            else:
                intent = self._path.intents[call.key]
                if call.kind == "place":
                    outcome = self._kite.place(intent, lambda: self._gate(call))
                elif call.kind == "cancel":
                    outcome = self._kite.cancel(intent)
                else:
                    outcome = self._kite.modify(intent, call.quantity, call.limit)
                with self._lock:
                    self._path.answered(call, outcome, wall_ns())
        except DatabaseError as error:  # the book tells it again when the disk has room
            self._said(error.message)
            if error.code == FENCED:
                self.fault = error
        except BaseException as error:  # noqa: BLE001 - a thread's last stop: a defect must not pass in silence
            self.fault = error
        finally:
            self._loop.call_soon_threadsafe(self._wake.set)
            self._loop.call_soon_threadsafe(self.news.set)

    def _gate(self, call: Call) -> bool:
        with self._lock:
            return self._path.gate(call, wall_ns())

    def _look(self, call: Call) -> None:
        try:
            rows, trades = self._kite.book()
        except NeverSent as error:
            outcome = of_error(error)
        except Exception as error:  # noqa: BLE001 - whatever the client raises, this look has shown nothing
            outcome = of_error(error)
        else:
            with self._lock:
                self._path.book(call, rows, trades, wall_ns())
                self._compare_clocks(self._kite.skew)
            return
        with self._lock:
            self._path.answered(call, outcome, wall_ns())

    def _heard(self, update: dict[str, Any]) -> None:
        """The ticker tells of an order, long before the next look would. It is a hint: the book decides."""
        try:
            with self._lock:
                self._path.heard(row_of(update), wall_ns())
        except DatabaseError as error:  # the book tells it again when the disk has room
            self._said(error.message)
        self._wake.set()

    async def _missed(self, gap: Gap) -> None:
        """The ticker was away: what it would have told is in the book."""
        with self._lock:
            self._path.hurry(wall_ns())
        self._wake.set()

    def _compare_clocks(self, skew: float) -> None:
        """Orders expire and limits are counted by our clock: one that is wrong halts, until a person has mended it. Two
        answers in a row must say so."""
        self._skewed = self._skewed + 1 if abs(skew) > SKEW_SECONDS else 0
        if self._skewed >= 2 and self._path.level < HALT:
            where = "ahead of" if skew > 0 else "behind"
            self._path.raise_level(
                HALT, f"this machine's clock is {abs(skew):.1f} s {where} the broker's", wall_ns()
            )

    def _compare(self, day: int) -> None:
        """The broker's positions beside ours; a look that fails is made again later."""
        try:
            rows = self._kite.positions()
        except Exception as error:  # noqa: BLE001 - whatever the client raises, this look has shown nothing
            logs.channel("application").warning("positions.unread", error=of_error(error).reason)
            return
        try:
            with self._lock:
                self._path.positions(net_of(rows), day, wall_ns())
        except DatabaseError as error:
            self._said(error.message)
        self._loop.call_soon_threadsafe(self.news.set)

    def _known_login(self) -> Login | None:
        login = load_login(self._settings)
        return login if login is not None and of_this_app(login, self._settings) else None

    def _look_for_login(self, now: int) -> None:
        """Take up a new login, also one that brought the same token: whether Kite gives out another is not known."""
        try:
            login = self._known_login()
        except AlphaPandaException as error:  # a keyring that is locked, a file that others can read
            self._said(error.message)
            return
        if login is not None and login != self._login:
            self._login = login
            self._kite.use(login.token)
            self._ears.login(login.token)
            with self._lock:
                self._path.new_token(now)
            logs.channel("audit").info("zerodha.login")

    def _said(self, trouble: str) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            if trouble:
                logs.channel("error").error("orders.blocked", detail=trouble)
            else:
                logs.channel("error").info("orders.unblocked")

    def _scale(self, symbol: str) -> int:
        return self._scales.get(symbol) or PRICE_SCALE.get(symbol.partition(":")[0], 100)

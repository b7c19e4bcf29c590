"""Zerodha's market data: one venue over up to three sockets, for shares, options, currencies and commodities alike.

Instruments fill the first socket before the second is opened: Kite allows three sockets an api key, and other programs
of the user may need one. All are asked for in mode full, the only one whose packets say when. ``login`` may come late
and again: the access token dies each morning at about 06:00 IST, and the sockets are rebuilt with the new one.

A refused handshake looks the same whatever its reason (Kite answers a dead token and a plan without market data alike),
so the cause is asked of ``probe``, which can call the broker. What a callback raises is logged and counted and never
reaches a socket.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import msgspec

from alphapanda import logs
from alphapanda.clock import monotonic, wall_ns
from alphapanda.errors import ConfigurationError
from alphapanda.feeds.base import Venue
from alphapanda.feeds.connection import Gap, Timing
from alphapanda.feeds.kite_rows import QUARANTINED, KiteRows, Opened, always
from alphapanda.feeds.kite_socket import TOKENS_MAX, KiteSocket, Login
from alphapanda.feeds.sequencer import LiveRow
from alphapanda.instruments import PRICE_SCALE, Instrument
from alphapanda.registry import EXCHANGES, Registry

if TYPE_CHECKING:
    from pydantic import SecretStr

SOCKETS = 3  # an api key; Kite docs, websocket
NOTED = 10  # malformed texts that are logged; all are counted
GAPS = 20  # that are shown
# prices a rupee on the wire, by a token's lowest byte; others 100
SEGMENT_SCALE = {3: PRICE_SCALE["CDS"], 6: PRICE_SCALE["BCD"], 12: PRICE_SCALE["NCO"]}

# why a handshake was refused: what it means, and what to do
CAUSES: Mapping[str, tuple[str, str]] = {
    "token": ("the access token is dead: it ends each morning at about 06:00 IST", "run `alphapanda login`"),
    "plan": ("this app's plan has no market data", "choose the Connect plan at developers.kite.trade"),
    "ip": ("this address may not use the app", "register this machine's address at developers.kite.trade"),
    "secret": ("the api key or secret is not the app's", "check ZERODHA__API_KEY and ZERODHA__API_SECRET"),
    "sockets": ("three sockets of this api key are open already", "end the other programs that use the key"),
    "request": ("the address was not understood", "check ZERODHA__TICKER_URL and ZERODHA__API_KEY"),
    "unknown": (
        "refused, and no call to the broker says why",
        "run `alphapanda login`, then `alphapanda doctor`",
    ),
}
_STATUS = {400: "request", 429: "sockets"}
_ORDER = (
    "refused",
    "waiting",
    "connecting",
    "connected",
    "logged_out",
    "idle",
)  # the first of them speaks for all


Probe = Callable[[], Awaitable[str]]  # the cause of a 403, a name in CAUSES
OrderUpdate = Callable[[dict[str, Any]], None]  # a hint that may be late, repeated or out of order
Refill = Callable[[Gap], Awaitable[None]]


class _Text(msgspec.Struct):
    type: str
    data: Any = None


_text = msgspec.json.Decoder(_Text)


class KiteTicks(Venue):
    """``url`` is the ticker's base address, such as wss://ws.kite.trade; ``registry`` the instruments of today.

    ``orders`` gets each order update, ``refill`` each gap when it has ended; with ``orders`` the first socket stays
    open without instruments. ``opened`` tells trading hours; without it every silence counts. ``wall`` is the venue's
    clock (ns): a sandbox may play another day. Raises ConfigurationError for an address that is none.
    """

    def __init__(
        self,
        url: str,
        api_key: SecretStr,
        token: SecretStr | None = None,
        registry: Registry | None = None,
        *,
        timing: Timing | None = None,
        probe: Probe | None = None,
        orders: OrderUpdate | None = None,
        refill: Refill | None = None,
        opened: Opened | None = None,
        wall: Callable[[], int] = wall_ns,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname or parts.query or parts.username:
            raise ConfigurationError(
                "ZERODHA__TICKER_URL is no ws:// or wss:// address", fix="leave it out: wss://ws.kite.trade"
            )
        self.rows = KiteRows()
        self.gaps: deque[Gap] = deque(maxlen=GAPS)
        self.counts: Counter[str] = (
            Counter()
        )  # texts and what they were, malformed, gaps, downgraded, callbacks
        self.cause = ""  # why the last handshake was refused, a name in CAUSES
        self.said = ""  # the newest error or notice of the venue
        self.refused = ""  # what we could not ask for
        self._api_key, self._registry = api_key, registry
        self._timing = timing or Timing()
        self._probe, self._orders, self._refill = probe, orders, refill
        self._opened, self._wall = opened or always, wall
        address = url.rstrip("/")
        self._sockets = [
            KiteSocket(number, address, self._timing, self, wall, always=number == 0 and orders is not None)
            for number in range(SOCKETS)
        ]
        self._tokens: dict[str, int] = {}  # of the symbols that are asked for
        self._unlisted: dict[str, tuple[Instrument, int]] = {}  # wanted, and not among today's instruments
        self._lost: dict[int, tuple[int, str]] = {}  # by socket: since when, and why, nothing is heard
        self._tasks: list[asyncio.Task[None]] = []
        self._refills: set[asyncio.Task[None]] = set()
        self._probing: asyncio.Task[str] | None = None
        self._log, self._error = logs.channel("application"), logs.channel("error")
        if token is not None:
            self.login(token)

    # ── what the feed asks ───────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """See ``Venue``. Several services share one venue: only the first call starts it."""
        if not self._tasks:
            self._tasks = [asyncio.create_task(one.run(), name=f"kite-{one.number}") for one in self._sockets]

    async def stop(self) -> None:
        """See ``Venue``; the first call of several ends it."""
        tasks: list[asyncio.Task[Any]] = [*self._tasks, *self._refills]
        tasks += [self._probing] if self._probing is not None else []
        self._tasks, self._probing = [], None
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def login(self, token: SecretStr | None) -> None:
        """A new access token: all sockets are rebuilt with it. None: logged out."""
        self.cause = ""
        for one in self._sockets:
            one.login(None if token is None else Login(self._api_key, token))

    def relist(self, registry: Registry) -> None:
        """The instruments of a new day; tokens are reused after expiry, so what is held is looked up anew."""
        self._registry = registry
        held = {one.instrument.symbol: (one.instrument, one.index) for one in self.rows.held.values()}
        moved = [
            one
            for symbol, one in (held | self._unlisted).items()
            if (registry[symbol].token if symbol in registry else 0) != self._tokens.get(symbol, 0)
        ]
        for instrument, _ in moved:  # all of them first: one may get the token of another
            self.unwatch(instrument)
        for instrument, index in moved:
            self.watch(instrument, index)

    def instrument(self, symbol: str) -> Instrument | None:
        """As today's list describes it; None when it is not listed, or there is no list."""
        return self._registry[symbol] if self._registry is not None and symbol in self._registry else None

    def takes(self, symbol: str) -> bool:
        if self._registry is not None:
            return symbol in self._registry
        return symbol.partition(":")[0] in EXCHANGES

    def watch(self, instrument: Instrument, index: int) -> None:
        symbol = instrument.symbol
        listed = self.instrument(symbol)
        token = listed.token if listed is not None else instrument.token if self._registry is None else 0
        room = next((one for one in self._sockets if len(one.wanted) < TOKENS_MAX), None)
        if symbol in self._tokens:
            return
        if not token:
            self._unlisted[symbol] = instrument, index
            self.refused = f"{symbol}: not among today's instruments"
        elif SEGMENT_SCALE.get(token & 0xFF, 100) != instrument.price_scale:
            self.refused = f"{symbol}: its prices are counted in units the venue does not send"
        elif room is None:
            self.refused = f"{symbol}: more than {SOCKETS * TOKENS_MAX} instruments"
        else:
            self._tokens[symbol] = token
            self.rows.add(instrument, token, index, monotonic())
            if room.state == "idle":
                self._lost.pop(room.number, None)  # nothing was wanted, so nothing was missed
            room.want(token, "full")

    def unwatch(self, instrument: Instrument) -> None:
        self._unlisted.pop(instrument.symbol, None)
        token = self._tokens.pop(instrument.symbol, None)
        if token is not None:
            self.rows.remove(token)
            for one in self._sockets:
                one.unwant(token)

    def drain(self) -> list[LiveRow]:
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()  # a fault of ours ends the process, and the hub starts another
        return self.rows.drain()

    def wall(self) -> int:
        return self._wall()

    def health(self) -> dict[str, Any]:
        wall = self._wall()
        states = [one.state for one in self._sockets]
        counts = self.counts + self.rows.counts
        counts["heartbeats"] = sum(one.heartbeats for one in self._sockets)
        counts["reconnects"] = sum(one.reconnects for one in self._sockets)
        counts["quarantined"] = sum(counts[name] for name in QUARANTINED)
        counts["malformed"] += counts["short"] + counts["odd"]
        what, fix = CAUSES.get(self.cause, ("", ""))
        return {
            "state": "logged_out" if self.cause == "token" else next(s for s in _ORDER if s in states),
            "stale": self.rows.stale(monotonic(), wall, self._timing.quiet, self._opened),
            "waiting": self.rows.waiting(wall),
            "counts": dict(counts),
            "gaps": [[gap.start, gap.end, gap.reason] for gap in self.gaps],
            "refused": self.refused,
            "cause": self.cause,
            "detail": f"{what}: {fix}" if what else "",
            "said": self.said,
            "sockets": [
                {"state": one.state, "instruments": len(one.wanted), "silent": one.silence()}
                for one in self._sockets
            ],
        }

    # ── what the sockets tell ────────────────────────────────────────────────────────────────────

    def heard(self, number: int, frame: bytes) -> None:
        """See ``kite_socket.Listener``."""
        wall = self._wall()
        if self.rows.take(frame, monotonic(), wall) and number in self._lost:
            self._found(number, wall)
        if self.rows.downgraded:
            for token in self.rows.downgraded:
                for one in self._sockets:
                    one.ask_again(token)
            self.rows.downgraded.clear()
            self.counts["downgraded"] += 1

    def text(self, message: str) -> None:
        """See ``kite_socket.Listener``."""
        self.counts["texts"] += 1
        try:
            found = _text.decode(message)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            self.counts["malformed"] += 1
            if self.counts["malformed"] <= NOTED:
                self._log.warning("feed.malformed", venue="kite", error=str(error)[:200])
            return
        document = isinstance(found.data, dict)
        if found.type == "order" and document:
            self.counts["orders"] += 1
            if self._orders is not None:
                try:
                    self._orders(cast("dict[str, Any]", found.data))
                except Exception as error:  # noqa: BLE001 - a callback may raise anything; the socket goes on
                    self._failed("orders", error)
        elif found.type in ("error", "message"):
            self.counts[f"{found.type}s"] += 1
            self.said = str(found.data)[:200]
            self._log.warning("feed.venue_said", venue="kite", kind=found.type, text=self.said)
        else:
            self.counts["malformed"] += 1

    def lost(self, number: int, reason: str, since: int) -> None:
        """See ``kite_socket.Listener``: a gap begins with the last byte that was heard."""
        self._lost.setdefault(number, (since, reason))
        self.rows.interrupted(self._sockets[number].wanted)

    def back(self, number: int) -> None:
        """See ``kite_socket.Listener``. Where instruments are wanted the gap ends with the first of their packets."""
        self.cause = ""
        if number in self._lost and not self._sockets[number].wanted:
            self._found(number, self._wall())

    async def denied(self, number: int, status: int) -> float:
        """See ``kite_socket.Listener``."""
        if status not in (400, 403, 429):
            return 0.0
        cause = _STATUS.get(status, "unknown")
        if status == 403 and self._probe is not None:
            if (
                self._probing is None or self._probing.done()
            ):  # sockets are refused together: one question will do
                self._probing = asyncio.create_task(self._asked(self._probe))
            cause = await asyncio.shield(self._probing)
        if cause != self.cause:
            what, fix = CAUSES[cause]
            self._error.error(
                "feed.venue_refused", venue="kite", status=status, cause=cause, what=what, fix=fix
            )
        self.cause = cause
        return self._timing.refused

    async def _asked(self, probe: Probe) -> str:
        try:
            async with asyncio.timeout(self._timing.probe):
                cause = await probe()
        except Exception as error:  # noqa: BLE001 - a callback may raise anything; not knowing the cause is an answer
            self._failed("probe", error)
            return "unknown"
        return cause if cause in CAUSES else "unknown"

    def _found(self, number: int, wall: int) -> None:
        """The first packets after a loss: the gap ends here."""
        since, reason = self._lost.pop(number)
        held = (self.rows.held.get(token) for token in self._sockets[number].wanted)
        gap = Gap(since, wall, reason, tuple(one.instrument.symbol for one in held if one is not None))
        self.cause = ""
        self.gaps.append(gap)
        self.counts["gaps"] += 1
        self._log.warning("feed.gap", venue="kite", start=gap.start, end=gap.end, reason=gap.reason)
        if self._refill is not None:
            task = asyncio.create_task(self._refilled(self._refill, gap))
            self._refills.add(task)
            task.add_done_callback(self._refills.discard)

    async def _refilled(self, refill: Refill, gap: Gap) -> None:
        try:
            await refill(gap)
        except Exception as error:  # noqa: BLE001 - a callback may raise anything; the socket goes on
            self._failed("refill", error)

    def _failed(self, callback: str, error: Exception) -> None:
        self.counts["callbacks"] += 1
        self._log.warning("feed.callback_failed", venue="kite", callback=callback, error=type(error).__name__)

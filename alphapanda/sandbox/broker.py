"""The whole broker as a pure model: REST calls in, answers out, time handed in. No clock, no I/O, no threads.

``call`` is one REST call as it arrives; ``advance`` does everything that is due by a moment: orders move on, ticks
match them, triggers fire, days end. The same calls at the same times with the same seed give the same bytes. The
wire in ``serve`` and the deterministic simulation of the order path both run this class.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec

from alphapanda.events import DAY, IST_OFFSET_NS
from alphapanda.rulebook import Rulebook
from alphapanda.sandbox.access import Access, Account, Limits
from alphapanda.sandbox.agenda import Agenda
from alphapanda.sandbox.book import Book
from alphapanda.sandbox.documents import Answer, Document, Refused
from alphapanda.sandbox.faults import Faults
from alphapanda.sandbox.gtt import Triggers
from alphapanda.sandbox.margins import Money
from alphapanda.sandbox.market import Market, Quote
from alphapanda.sandbox.orders import Latency, Ledger, Order, Trade
from alphapanda.sandbox.positions import Positions
from alphapanda.sandbox.routes import Params, Routes, taken_apart
from alphapanda.sandbox.rules import Rules
from alphapanda.sandbox.trading import Trading

CAPITAL_PAISE = 1_000_000_00  # ten lakh rupees


class Broker:
    """An account at the sandbox. ``hours`` False keeps every market open at all times, for tests and for practice.

    ``updates`` holds order-update documents that no socket has taken yet. ``ledger`` records what truly happened,
    whatever the documents say.
    """

    def __init__(
        self,
        market: Market,
        *,
        now: int,
        seed: int = 0,
        capital_paise: int = CAPITAL_PAISE,
        account: Account | None = None,
        limits: Limits | None = None,
        latency: Latency | None = None,
        faults: Faults | None = None,
        rulebook: Rulebook | None = None,
        hours: bool = True,
    ) -> None:
        self.market, self.now = market, now
        self.faults = faults or Faults(seed)
        self.account, limits = account or Account(), limits or Limits()
        self.access = Access(self.account, limits, self.faults, seed)
        self.ledger, self.agenda = Ledger(), Agenda()
        self.positions = Positions(market)
        user_id = self.account.user_id
        rulebook = rulebook or Rulebook.load()
        self.rules = Rules(market, rulebook, hours=hours)
        self.money = Money(self.positions, rulebook, capital_paise / 100)
        self.book = Book(
            market, self.faults, self.ledger, self.agenda, seed=seed, user_id=user_id, latency=latency or Latency(),
            approve=self._approve, filled=self._filled, rejected=self._rejected, arrive=self._arrive,
            matching=self._matching, closing=self.rules.closing_price,
        )  # fmt: skip
        self.trading = Trading(
            market, self.rules, self.book, self.positions, self.money, self.faults, self.ledger, self.agenda,
            user_id=user_id, changes_most=limits.modifications,
        )  # fmt: skip
        self.triggers = Triggers(market, user_id, self._place_for_trigger)
        self._routes = Routes(self)
        self._charges = 0.0  # rupees of executed orders that are not settled yet
        if market.source is not None:
            market.advance(now, lambda quote, ts: None)  # what was traded before the account existed

    @property
    def updates(self) -> deque[Document]:
        """Order-update documents for the sockets, the oldest first; whoever sends one takes it off."""
        return self.book.updates

    # ── time ─────────────────────────────────────────────────────────────────────────────────────

    def advance(self, now: int) -> None:
        """Everything that is due by ``now`` happens, in order of time. A time that was is ignored."""
        while self.now < now:
            due = self.agenda.next_due()
            until = min(now, self._midnight(), now if due is None else max(due, self.now))
            self.market.advance(until, self._moved)
            self.agenda.run(until)
            if until >= self._midnight():
                self._new_day(until)
            self.now = until
        self.agenda.run(self.now)

    def tick(self, symbol: str, price: float, **how: Any) -> Quote:
        """A test moves a price now; orders meet it. See ``Market.set``."""
        quote = self.market.set(symbol, price, now=self.now, **how)
        self._moved(quote, self.now)
        return quote

    def next_due(self) -> int | None:
        """When the next thing happens by itself, for a scheduler with virtual time; ticks of a source not counted."""
        due = self.agenda.next_due()
        return min(due, self._midnight()) if due is not None else self._midnight()

    def _midnight(self) -> int:
        return (self.now + IST_OFFSET_NS) // DAY * DAY + DAY - IST_OFFSET_NS

    def _moved(self, quote: Quote, ts: int) -> None:
        self.book.moved(quote, ts)
        if self._matching(quote, ts) == "continuous":
            self.triggers.moved(quote, ts)

    def _new_day(self, now: int) -> None:
        """Midnight: orders are forgotten; before a trading day positions settle and the market begins a new day."""
        self._charges += self.trading.day_charges(now - 1)
        self.book.clear(now)
        self.triggers.expire(now)
        if self.rules.trading_day((quote.instrument for quote in self.market.quotes.values()), now):
            self.money.settle(self._charges)
            self._charges = 0.0
            self.positions.new_day()
            self.market.new_day(now)

    # ── what the parts ask of each other ─────────────────────────────────────────────────────────

    def _matching(self, quote: Quote, now: int) -> str:
        return self.rules.stage(quote.instrument, now).matching

    def _arrive(self, order: Order, now: int) -> str:
        return self.rules.at_exchange(order, self.market.quotes[order.instrument.token], now)

    def _approve(self, order: Order, now: int) -> str:
        return self.trading.approve(order, now)

    def _filled(self, trade: Trade) -> None:
        self.positions.filled(trade)

    def _rejected(self, order: Order) -> None:
        self.triggers.settled(order.order_id, order.status_message)

    def _place_for_trigger(self, item: Document, now: int) -> str:
        params = {name: str(value) for name, value in item.items() if name != "result"}
        return self.trading.place("regular", params, now, "gtt")["order_id"]

    # ── calls ────────────────────────────────────────────────────────────────────────────────────

    def call(
        self,
        method: str,
        path: str,
        params: Params,
        *,
        now: int,
        token: str | None,
        ip: str = "127.0.0.1",
        query: Mapping[str, str] | None = None,
        wall: int | None = None,
    ) -> Answer:
        """One REST call that arrives at ``now``: status, body and content type as Kite would send them.

        ``params`` is the query or the form (a list for a name that is repeated), or the JSON list of a body with its
        own ``query``. ``token`` is ``api_key:access_token``. ``wall`` is the clock rate limits are counted on, where
        the sandbox's time does not run with the machine's.
        """
        self.advance(now)
        self.ledger.requests += 1
        path = path.removeprefix("/oms").rstrip("/")
        request = taken_apart(path, params, query or {}, self.now, ip)
        fault = _fault_kind(method, path)
        subject = f"{path} {request.params.get('tag', '')} {request.params.get('tradingsymbol', '')}"
        wrong = self.faults.answer(fault, subject, acted=False)
        if wrong is not None:
            return wrong
        try:
            answer = self._routes.answer(method, request, token, self.now if wall is None else wall)
        except Refused as refused:
            self.ledger.throttled += refused.status == 429
            return refused.answer
        wrong = self.faults.answer(fault, subject, acted=True)
        if wrong is not None and wrong.status == 307:
            return msgspec.structs.replace(wrong, headers=(("Location", path),))
        if wrong is not None and wrong.delivery == "truncated":
            return msgspec.structs.replace(answer, delivery=wrong.delivery)
        slow = self.faults.hit("place-slow", subject) if fault == "place" else None
        return wrong or (msgspec.structs.replace(answer, delay=slow.seconds) if slow else answer)


def _fault_kind(method: str, path: str) -> str:
    if method == "GET" or not path.startswith("/orders"):
        return "read" if method == "GET" else "other"
    return {"POST": "place", "PUT": "modify", "DELETE": "cancel"}.get(method, "other")

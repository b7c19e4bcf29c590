"""One run's orders at the gateway: risk, venue and books, played at the run's own place of the tape.

A lane is the engine of research with a stand-in for the strategy: the real one thinks in another process, and what it
decides arrives as requests, each with the place of the tape it was decided at. The lane plays the tape up to there,
then lets the desk answer. So an order meets the market from the tick after the one that caused it, however late its
message was, and paper fills are those of research on the same ticks. Played again from the same requests a lane comes
out the same: that is how a gateway recovers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from alphapanda.account import Account
from alphapanda.buses.frames import Frame
from alphapanda.day import LAST
from alphapanda.desk import Desk
from alphapanda.engine import Engine
from alphapanda.errors import StreamingError
from alphapanda.events import SECOND, Block, Clock, Fill, Signal
from alphapanda.exchange import Venue
from alphapanda.instruments import Instrument
from alphapanda.orders import DENIED, SENT, WORKING, Order
from alphapanda.requests import FillTold, FillUpdate, OrderUpdate, Place, Reply, Request, Update
from alphapanda.risk import Limits
from alphapanda.rulebook import Rulebook
from alphapanda.run_desk import RunDesk
from alphapanda.strategy import Strategy

STORM = 3  # denials for rate
STORM_WINDOW = 10 * SECOND  # of tape time: so many of them within it pause a strategy


class StandIn(Strategy):
    """Names the run's symbols to the engine and decides nothing: what the desk tells goes to the lane."""

    def on_stop(self) -> None:
        """A strategy has to override something."""


class LaneVenue(Venue, Protocol):
    """A venue whose orders go out when the gateway has made them durable."""

    pending: list[Order]
    """Those of the working orders that were not yet handed to the trader."""

    def quiet(self, symbol: str) -> tuple[int, int] | None:
        """Prices strictly between which no working order of the symbol can do anything; None: none such."""
        ...


class Lane:
    """The gateway's half of one run. ``frames`` gives the frames after a number, as the tape log does. ``limits`` are
    the run's own, beside the account's."""

    def __init__(
        self,
        name: str,
        symbols: list[str],
        instruments: tuple[Instrument, ...],
        *,
        capital: int,
        rulebook: Rulebook,
        account: Account,
        venue: Callable[[Desk], LaneVenue],
        frames: Callable[[int], Iterator[Frame]],
        table: Callable[[], tuple[Instrument, ...]],
        after: int,
        trade_from: int,
        limits: Limits | None = None,
    ) -> None:
        self._frames, self._table = frames, table
        self._after = after  # number of the last frame taken up
        self._rest: Block | None = None  # of that frame: what lies beyond the lane's place
        self._clock = 0
        self.place = Place(-1, 0, 0)
        self.updates: list[Update] = []  # not handed out yet
        self._orders: dict[str, Order] = {}
        self._shown: dict[str, tuple[int, bool, bool]] = {}  # working order → what changes in silence
        self._fills = 0  # of the desk's, already among the updates
        self._flattened = 0  # orders of ours that close a position
        self._denied: deque[int] = deque(maxlen=STORM)
        self.halt = ""
        self.hears = [True]  # a halted strategy's orders too: its runner keeps the books
        self.venue: LaneVenue
        self.desk: RunDesk

        def desk(engine: Engine, account: Account) -> Desk:
            self.desk = RunDesk(
                instruments, name, capital, rulebook, account, self._keep(venue), self, limits
            )
            return self.desk

        self.engine = Engine(
            [StandIn(name=name, symbols=symbols)],
            instruments,
            capital=capital,
            rulebook=rulebook,
            trade_from=trade_from,
            account=account,
            desk=desk,
        )

    def _keep(self, venue: Callable[[Desk], LaneVenue]) -> Callable[[Desk], Venue]:
        def make(desk: Desk) -> Venue:
            self.venue = venue(desk)
            return self.venue

        return make

    # ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────

    def answer(self, request: Request, recorded: Reply | None = None) -> Reply:
        """Play the tape up to the request's place and do what it asks.

        A lane that stands further on, because nobody led it for a while, stays where it is: what is asked then is
        asked late, and an order meets the market from the lane's place on.

        ``recorded`` is the answer given in an earlier life: its verdict and its place stand, whatever the rules would
        say today. The same requests with their recorded answers make the same lane and the same answers.
        """
        self.advance(request.place if recorded is None else recorded.place)
        if request.signal is not None:
            self._submit(request.signal, recorded)
        elif request.cancel is not None:
            order = self._orders.get(request.cancel.order_id)
            self.engine.result.cancels.append(request.cancel)
            if order is not None:
                self.desk.withdraw(order, request.cancel)
        elif request.halt:
            self.stop(request.halt)
        return self._reply(request.id)

    def _submit(self, signal: Signal, recorded: Reply | None) -> None:
        index = self.engine.host.find(signal.symbol)
        order = Order(signal, self.engine.instruments[index], index, 0, SENT, target=signal.quantity)
        self._orders[order.id] = order
        if recorded is not None and (denial := _denial(recorded, order.id)):
            self.desk.refuse(order, denial)
        elif self.halt:
            self.desk.refuse(order, f"halted: {self.halt}")
        else:
            self.desk.trusted = recorded is not None
            self.engine.host.submit(order)
            self.desk.trusted = False
        if order.status == "denied" and order.reason.startswith("rate"):
            self._storm(signal.ts)
        elif order.status in WORKING:
            self._note(order, told=False)

    def _storm(self, ts: int) -> None:
        """A strategy that runs into the rate limits again and again is out of hand."""
        self._denied.append(ts)
        if len(self._denied) == STORM and ts - self._denied[0] <= STORM_WINDOW:
            self.stop(
                f"order storm: {STORM} orders within {STORM_WINDOW // SECOND} s were over the rate limits"
            )

    def stop(self, reason: str) -> None:
        """No more orders of this run; its entries are withdrawn, its protective exits stay."""
        if not self.halt:
            self.halt = reason
            self.engine.callbacks.halt(0, reason)

    @property
    def paused(self) -> str:
        """Why no order may grow the run's own position; "" while they may."""
        return self.desk.paused

    def pause(self, reason: str) -> None:
        """From here on only what shrinks the run's position passes. Working entries are withdrawn; what protects a
        position or only closes it stays. "" lifts it."""
        self.desk.paused = reason
        for queue in tuple(self.venue.working.values()) if reason else ():
            for order in tuple(queue):
                if not order.leg and not order.closing:
                    self.desk.cancel(order, f"paused: {reason}", self.place.ts)

    def flatten(self, reason: str) -> None:
        """Close every position at the market, at the next tick of each."""
        for index, held in sorted(self.desk.books[0].positions.items()):
            for position in held:
                if position.quantity:
                    self._flattened += 1
                    leg = f"flatten{self._flattened}"
                    self.desk.square_off(index, position.product, self.place.ts, leg, reason)

    def order(self, identity: str) -> Order | None:
        """One of the run's orders, ended or not."""
        return self._orders.get(identity)

    def _reply(self, request_id: str) -> Reply:
        quiet: dict[str, tuple[int, int] | None] = {}
        for symbol in self.venue.working:
            quiet[symbol] = self.venue.quiet(symbol)
            self._note_silent(symbol)
        updates, self.updates = tuple(self.updates), []
        return Reply(request_id, updates, quiet, self.halt, self.place)

    # ── the tape ─────────────────────────────────────────────────────────────────────────────────────────────────

    def advance(self, place: Place) -> None:
        """Play to a place; one that lies behind is where the lane has been already."""
        through = place.through
        while self.engine_row < through:
            block = self._rest if self._rest is not None else self._next_block()
            if block is None:
                raise StreamingError(
                    f"row {through} was asked for and the tape log ends at row {self.engine_row}",
                    fix="the feed writes the log before anyone sees a tick: look at its folder",
                )
            cut = through + 1 - block.first
            if cut < len(block):
                self._rest = block.rows(cut, len(block))
                block = block.rows(0, cut)
            else:
                self._rest = None
            self.engine.step(block)
        day = self.engine.day
        if place.day_end > day.end:
            day.begin(place.day_end - 1)
        here = self.place
        of_day = place.day_end if place.day_end >= 0 else here.day_end
        if (of_day, place.ts, place.rank) > (here.day_end, here.ts, here.rank):
            day.pass_until(place.ts, place.rank)
            here = place
        self.place = Place(self.engine_row, here.ts, here.rank, day.end)

    def follow(self) -> None:
        """Play everything there is: nobody leads this lane any more, and its orders have to meet the market.

        What they do is told with the next answer, should the runner come back.
        """
        while (block := self._rest if self._rest is not None else self._next_block()) is not None:
            self._rest = None
            self.engine.step(block)
        ts = max(self.place.ts, self._clock)
        self.engine.step(Clock(ts))
        self.place = Place(self.engine_row, ts, LAST, self.engine.day.end)

    @property
    def engine_row(self) -> int:
        """The number of the last row played; -1 before the first."""
        return self.engine.block.first + self.engine.played - 1

    def _next_block(self) -> Block | None:
        for frame in self._frames(self._after):
            self._after = frame.number
            self._clock = frame.clock
            if frame.universe > len(self.engine.instruments):
                self.engine.widen(self._table())
            if len(frame.block):
                return frame.block
        return None

    # ── what the desk asks and tells (its Listener) ──────────────────────────────────────────────────────────────

    def last_prices(self) -> list[int]:
        """Last traded price of every instrument, in units, at the lane's place."""
        return self.engine.last_prices()

    def sequence(self) -> int:
        """Tape sequence number of the event being handled."""
        return self.engine.sequence()

    def newest_tick(self) -> int:
        """Time of the last tick of any instrument at the lane's place; 0 before the first."""
        return self.engine.newest_tick()

    def order_changed(self, order: Order) -> None:
        """One of the run's orders has a new status; its strategy hears of it."""
        self._note(order, told=True)

    def order_filled(self, fill: Fill, owner: int) -> None:
        """The strategy hears of a fill now."""
        self._note_fills()
        self._note_silent(fill.signal.symbol)
        self.updates.append(FillTold(fill.order_id, fill.number))

    def _note_fills(self) -> None:
        """Fills go into the runner's books before anything that followed from them."""
        fills = self.desk.fills
        for fill in fills[self._fills :]:
            order = self._orders.get(fill.order_id)
            if order is not None:
                self._note_order(order, told=False)
            self.updates.append(
                FillUpdate(
                    fill.order_id, fill.number, fill.seq, fill.ts, fill.quantity, fill.price_units, fill.charges,
                    fill.realized, fill.position,
                )
            )  # fmt: skip
        self._fills = len(fills)

    def _note(self, order: Order, told: bool) -> None:
        self._orders.setdefault(order.id, order)
        self._note_fills()
        self._note_silent(order.signal.symbol)
        self._note_order(order, told)

    def _note_silent(self, symbol: str) -> None:
        """Working orders of whose change nobody is told: closing orders grow and shrink with their position."""
        shown = self._shown
        for order in self.venue.working.get(symbol, ()):
            known = shown.get(order.id)
            if known is not None and known != (order.target, order.triggered, order.resting):
                self._note_order(order, told=False)

    def _note_order(self, order: Order, told: bool) -> None:
        if order.status in WORKING:
            self._shown[order.id] = order.target, order.triggered, order.resting
        else:
            self._shown.pop(order.id, None)
        signal = order.signal if order.leg else None
        self.updates.append(
            OrderUpdate(
                order.id, order.status, order.reason, order.filled, order.target, order.turnover, order.fills,
                order.end_ts, order.triggered, order.resting, order.closing, told, signal, order.parent_id, order.leg,
            )
        )  # fmt: skip


def _denial(reply: Reply, identity: str) -> str:
    """Why the reply denied an order; "" if it did not."""
    for update in reply.updates:
        if isinstance(update, OrderUpdate) and update.id == identity and update.status == DENIED:
            return update.reason
    return ""

"""The engine: a tape's ticks against strategies. ``step(event)`` takes a block of ticks, a clock or an operator's halt.

Order of things at one instant t: the equity mark, session opens, bars that end at t, timers at t, square-offs, session
closes (all in ``day``); then the ticks with time >= t, in tape order. For each tick: working orders of its instrument
are matched first, then callbacks see it; so an order never fills on the event that caused it.

Nothing is kept per tick. Where the tape stands is asked of the iterator over the current rows (its length hint), so
time, sequence number and last prices cost only when somebody needs them. Two lanes play rows:

- dense: some strategy wants every tick; rows become ``Tick`` objects in one C-level ``map``;
- sparse: only ``on_ticks``, bars or timers are wanted; rows nobody waits for are skipped.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt

from alphapanda.account import Account
from alphapanda.blocks import TickBlock
from alphapanda.callbacks import Callbacks, check
from alphapanda.day import LAST, Day
from alphapanda.desk import Desk
from alphapanda.events import Block, CancelSignal, Clock, Fill, Halt, Ints, Tick
from alphapanda.exchange import Exchange, Fills
from alphapanda.host import Host
from alphapanda.instruments import Instrument
from alphapanda.orders import Order
from alphapanda.result import Result, RunError
from alphapanda.risk import Limits
from alphapanda.rulebook import Rulebook
from alphapanda.strategy import Strategy, overrides

LOGS_DROPPED = "log lines beyond the first 10,000 were not kept"
PIECE = 8_192  # rows that are turned into Python objects at a time


class Engine:
    """Strategies over one tape's instruments, with the desk that serves them."""

    def __init__(
        self,
        strategies: Sequence[Strategy],
        instruments: tuple[Instrument, ...],
        *,
        capital: int,
        rulebook: Rulebook,
        limits: Limits | None = None,
        fills: Fills | None = None,
        seed: int = 0,
        trade_from: int = 0,
        account: Account | None = None,
        desk: Callable[[Engine, Account], Desk] | None = None,
    ) -> None:
        """``account`` and ``desk`` are for shells that share an account or keep the desk elsewhere."""
        check(strategies, instruments)
        self.strategies = tuple(strategies)
        self.instruments = instruments
        self.rulebook = rulebook
        self.seed = seed
        names = tuple(s.name for s in strategies)
        self.callbacks = Callbacks(self, self.strategies)
        self.order_changed, self.order_filled = self.callbacks.order_changed, self.callbacks.order_filled
        self.hears = self.callbacks.hears
        account = account or Account(len(instruments), limits or Limits())
        if desk is None:
            venue = partial(Exchange, fills or Fills(seed=seed))
            self.desk = Desk(instruments, names, capital, rulebook, account, venue, self)
        else:
            self.desk = desk(self, account)
        parameters = tuple(s.params for s in strategies)
        self.result = Result(names, parameters, ("",) * len(names), instruments, capital, self.desk.orders)
        self.result.fills = self.desk.fills
        # columns by dense index
        size = len(instruments)
        self._names = np.array([i.symbol for i in instruments], dtype=object)
        self._scales = np.array([i.price_scale for i in instruments], dtype=np.float64)
        self._one_scale = float(self._scales[0]) if (self._scales == self._scales[0]).all() else 0.0
        self._index = {i.symbol: n for n, i in enumerate(instruments)}
        self._last = np.zeros(size, np.int64)
        self._wanted = np.zeros(size, np.bool_)  # a strategy follows it
        self.is_open = np.zeros(size, np.bool_)
        self.all_open = self._all_wanted = False
        # where the tape stands
        self.boundary = 0  # the instant being handled between ticks
        self.matching = False  # the desk is at work: what raises now is our defect, not a strategy's
        self._iterator: Any = None  # over the times of the rows being played in the dense lane, else None
        self._times: list[int] = []  # what it iterates
        self._rows: Ints | None = None  # those rows' numbers; None when they simply start at _start
        self._start = 0
        self._row = -1  # the row being visited outside the dense lane, else -1
        self._until = 0  # the row where playing stops for what is due next
        self.played: int  # rows of the block already played
        self._decided: int  # rows the block strategies have seen
        self._synced: int  # rows already in the last prices
        self._first_rows: dict[int, int]  # instant → first row at or after it
        self._next_rows: Ints | None  # row → next row of the same instrument
        self._waiting: dict[str, int]  # sparse lane: symbol with working orders → its next row
        nothing = np.zeros(0, np.int64)
        self._origin = -1  # number of the first row played
        self._before = 0  # time of the last row of the block before
        self._take(Block(0, nothing, nothing, nothing))
        # who wants what
        self._routes: dict[str, list[Callable[[Tick], None]]] = {}
        self._only: Callable[[Tick], None] | None = None
        self._block_owners: list[int] = []
        self.bar_owners: list[int] = []
        self._outside = 0
        self.day = Day(self, trade_from)
        self.host = Host(self)
        self._begin()

    # ── the contract ─────────────────────────────────────────────────────────────────────────────────────────────

    def step(self, event: Block | Clock | Halt) -> tuple[Order | CancelSignal | Fill | RunError, ...]:
        """Advance by one event and return what it caused: orders (those denied too), cancels, fills, errors.

        A day's blocks may be cut anywhere: the decisions are the same.
        """
        result = self.result
        orders, cancels, fills, errors = (
            len(x) for x in (result.orders, result.cancels, result.fills, result.errors)
        )
        self._handle(event)
        return (
            *result.orders[orders:],
            *result.cancels[cancels:],
            *result.fills[fills:],
            *result.errors[errors:],
        )

    def _handle(self, event: Block | Clock | Halt) -> None:
        if isinstance(event, Block):
            self._play(event)
        elif isinstance(event, Clock):
            self.day.pass_until(event.ts)
        elif event.strategy:
            for owner, strategy in enumerate(self.strategies):
                if strategy.name == event.strategy:
                    self.callbacks.halt(owner, event.reason)
        else:
            self.desk.account.halt(event.reason)

    def finish(self) -> Result:
        """The tape has ended: let the day end too (bars, timers, square-off, session close), then ``stop``."""
        self.day.finish()
        return self.stop()

    def stop(self) -> Result:
        """The run ends where the tape stands, whatever is still open: ``on_stop``, and what the run leaves behind."""
        for owner, strategy in enumerate(self.strategies):
            if overrides(strategy, "on_stop"):
                self.callbacks.run(owner, "on_stop", strategy.on_stop)
        self.day.mark(self.boundary)
        return self.outcome()

    def outcome(self) -> Result:
        """What the run has left behind so far."""
        result = self.result
        result.halted = tuple(self.callbacks.halted)
        result.last_ts = max(result.last_ts, self.boundary)
        if self.callbacks.logs_dropped:
            result.notes = [note for note in result.notes if not note.endswith(LOGS_DROPPED)]
            result.notes.append(f"{self.callbacks.logs_dropped} {LOGS_DROPPED}")
        last = self.last_prices()
        result.positions = [
            (strategy.name, p.instrument.symbol, p.product, p.quantity, p.cost, last[index])
            for strategy, book in zip(self.strategies, self.desk.books, strict=True)
            for index, held in sorted(book.positions.items())
            for p in held
            if p.quantity
        ]
        denials = sum(1 for o in result.orders if o.status == "denied")
        result.counts = {
            "ticks": self.ticks_seen,
            "ticks outside session": self._outside,
            "bars": self.day.bar_count,
            "orders": len(result.orders) - denials,
            "denials": denials,
            "fills": len(result.fills),
        }
        return result

    @property
    def ticks_seen(self) -> int:
        """Rows of the tape played so far."""
        return 0 if self._origin < 0 else self.block.first + self.played - self._origin

    def widen(self, instruments: tuple[Instrument, ...]) -> None:
        """The feed knows more instruments than before; what this run follows stays as it is."""
        more = instruments[len(self.instruments) :]
        self.instruments = self.desk.instruments = instruments
        self._names = np.append(self._names, np.array([i.symbol for i in more], dtype=object))
        self._scales = np.append(self._scales, [float(i.price_scale) for i in more])
        self._one_scale = float(self._scales[0]) if (self._scales == self._scales[0]).all() else 0.0
        self._index.update({i.symbol: n for n, i in enumerate(instruments)})
        self._last = np.append(self._last, np.zeros(len(more), np.int64))
        self._wanted = np.append(self._wanted, np.zeros(len(more), np.bool_))
        self.is_open = np.append(self.is_open, np.zeros(len(more), np.bool_))
        self.all_open = self._all_wanted = False
        self.day.bars.widen(instruments)
        self.desk.widen()

    # ── where the tape stands (the desk's Listener, and the host's source) ───────────────────────────────────────

    def position_of(self) -> tuple[int, int]:
        """Sequence number and time of the event being handled."""
        if self._iterator is None and self._row < 0:
            return self.block.first + self.played, self.boundary
        row = self._row_now()
        return self.block.first + row, self._ts_at(row)

    def place_of(self) -> tuple[int, int, int]:
        """Number of the last row whose orders were matched, time, and rank of what is being handled at that time.

        While a block strategy looks at its rows, none of them has been matched.
        """
        if self.host.collecting is not None or (self._iterator is None and self._row < 0):
            return self.block.first + self.played - 1, self.boundary, self.day.rank
        row = self._row_now()
        return self.block.first + row, self._ts_at(row), LAST

    def event_of(self, index: int) -> tuple[int, int, int]:
        """Sequence number and time of the event being handled, and the last price of one instrument by then."""
        if self._iterator is None and self._row < 0:
            return self.block.first + self.played, self.boundary, self.last_price(index)
        row = self._row_now()
        price = self._price_at(row) if self._index_at(row) == index else self.last_price(index)
        return self.block.first + row, self._ts_at(row), price

    def row_of(self, index: int, row: int) -> tuple[int, int, int]:
        """Sequence number and time of a row of the block, and the last price of one instrument by then."""
        price = self._price_at(row) if self._index_at(row) == index else self._prices_to(row + 1).item(index)
        return self.block.first + row, self._ts_at(row), price

    def sequence(self) -> int:
        """Sequence number of the event being handled."""
        return self.position_of()[0]

    def newest_tick(self) -> int:
        """Time of the last tick of any instrument; 0 before the first."""
        row = self._row_now()
        return self._ts_at(row) if row >= 0 else self._before

    def last_prices(self) -> list[int]:
        """Last traded prices in units by dense index; 0 where nothing traded yet."""
        return self._newest().tolist()

    def last_price(self, index: int) -> int:
        """The last traded price of one instrument in units."""
        return self._newest().item(index)

    def prices_before(self, ts: int) -> list[int]:
        """Last traded prices as they were before the ticks at ``ts``."""
        self._copy(self._first_row(ts))
        return self._last.tolist()

    def _row_now(self) -> int:
        """The row of the block being handled, or the last one played when between ticks."""
        iterator = self._iterator
        if iterator is None:
            return self._row if self._row >= 0 else self.played - 1
        row = len(self._times) - iterator.__length_hint__() - 1
        return self._start + row if self._rows is None else self._rows.item(row)

    def _newest(self) -> Ints:
        end = self._row_now() + 1
        if (
            self.host.collecting is not None
        ):  # a block strategy looks at its whole block; the books are not there yet
            return self._prices_to(end)
        if end > self._synced:
            self.day.mark_to(self._ts_at(end - 1))  # marks due among these rows, before their prices are lost
            self._copy(end)
        return self._last

    def _copy(self, end: int) -> None:
        if end > self._synced:
            rows = slice(self._synced, end)
            # of equal indexes the last write stays
            self._last[self.block.instrument[rows]] = self.block.price[rows]
            self._synced = end

    def _prices_to(self, end: int) -> Ints:
        """Last prices before row ``end``, without moving the engine's own."""
        last, rows = self._last.copy(), slice(self._synced, end)
        last[self.block.instrument[rows]] = self.block.price[rows]
        return last

    def scale_of(self, index: Ints) -> Any:
        """Price units per rupee of each of these instruments: one number if they agree, else an array."""
        return self._one_scale or self._scales[index]

    def seen_by(self, owner: int) -> npt.NDArray[np.bool_] | None:
        """By instrument: whether a strategy's ticks of it count now (its own, in session); None if all do."""
        universe = self.host.universe[owner]
        if self.all_open and len(universe) == len(self.instruments):
            return None
        mask = np.zeros(len(self.instruments), np.bool_)
        mask[list(universe)] = True
        return mask & self.is_open

    def set_open(self, indexes: list[int], state: bool) -> None:
        """Continuous trading in these instruments begins or ends."""
        self.desk.set_open(indexes, state)
        self.is_open[indexes] = state
        self.all_open = bool(self.is_open.all())

    # ── who wants what ───────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self) -> None:
        for owner, strategy in enumerate(self.strategies):
            self.host.bind(owner, strategy, self._index)
        self.route()
        for owner, strategy in enumerate(self.strategies):
            if overrides(strategy, "on_start"):
                self.callbacks.run(owner, "on_start", strategy.on_start)
        self.day.build_bars(self.host.intervals, bool(self.bar_owners or self.host.has_indicators))

    def route(self) -> None:
        """Work out anew who gets ticks, whole blocks and bars; at start, and from the next row when one halts.

        A halted strategy's symbols stay wanted: its protective orders still have to meet the market.
        """
        self._routes, self._block_owners, self.bar_owners = {}, [], []
        tick_owners: list[int] = []
        for owner, strategy in enumerate(self.strategies):
            running = not self.callbacks.halted[owner]
            if running and overrides(strategy, "on_ticks"):
                self._block_owners.append(owner)
            if running and (overrides(strategy, "on_bar") or overrides(strategy, "on_bars")):
                self.bar_owners.append(owner)
            listens = running and overrides(strategy, "on_tick")
            if listens:
                tick_owners.append(owner)
            for index in self.host.universe[owner]:
                self._wanted[index] = True
                handlers = self._routes.setdefault(self.instruments[index].symbol, [])
                if listens:
                    handlers.append(strategy.on_tick)
        if not tick_owners:
            self._routes = {}
        self._all_wanted = bool(self._wanted.all())
        alone = len(tick_owners) == 1 and all(len(handlers) == 1 for handlers in self._routes.values())
        self._only = self.strategies[tick_owners[0]].on_tick if alone else None
        self.cut(0)

    def cut(self, due: int) -> None:
        """Rows being played now end before the first one at or after ``due``, and after the one being handled."""
        if self._iterator is None and self._row < 0:
            return
        row = max(self._first_row(due), self._row_now() + 1)
        if row < self._until:
            self._until = row
            if self._iterator is not None:  # an iterator over a list ends where the list ends
                drawn = len(self._times) - self._iterator.__length_hint__()
                del self._times[bisect_left(self._times, due, lo=drawn) :]

    # ── playing a block ──────────────────────────────────────────────────────────────────────────────────────────

    def _play(self, block: Block) -> None:
        size, day = len(block), self.day
        if not size:
            return
        if self._origin < 0:
            self._origin = block.first
        self._take(block)
        self.result.first_ts = self.result.first_ts or block.ts.item(0)
        while self.played < size:
            ts = block.ts.item(self.played)
            if ts >= day.end:
                day.begin(ts)
            day.pass_until(ts)
            self._walk(self._first_row(day.end))
        self._newest()
        day.flush_bars()
        self.result.last_ts = self._before = block.ts.item(size - 1)

    def _take(self, block: Block) -> None:
        self.block = block
        self._ts_at, self._index_at, self._price_at = block.ts.item, block.instrument.item, block.price.item
        self.played = self._decided = self._synced = 0
        self._first_rows = {}
        self._next_rows = None
        self._waiting = {}

    def _walk(self, day_end: int) -> None:
        """Play rows up to the next instant that strategies can see, or to the row where the day ends."""
        day, decisions = self.day, self.host.decisions
        while True:
            end = min(day_end, self._first_row(day.next_seen))
            if self.played >= end:
                return
            ts = self._ts_at(self.played)
            if day.next_unseen <= ts:
                day.pass_until(ts)
                continue
            if self._block_owners and self._decided < end and day.warm:
                self._decide(end)
                continue
            self._until = min(end, self._first_row(day.next_unseen))
            if decisions and self._routes:
                self._until = min(self._until, decisions[-1][0] + 1)
            start = self.played
            self._advance()
            if not self.all_open:
                live = np.count_nonzero(self.is_open[self.block.instrument[start : self.played]])
                self._outside += self.played - start - int(live)
            while decisions and decisions[-1][0] < self.played:
                self._carry_out()

    def _advance(self) -> None:
        """Play rows up to ``_until``, or fewer: ``played`` tells."""
        if not self.day.warm:
            self.played = self._until
        elif self._routes:
            self._dense()
        else:
            self._sparse()

    def _first_row(self, ts: int) -> int:
        """The first row of the block at or after ``ts``."""
        row = self._first_rows.get(ts)
        if row is None:
            row = self._first_rows[ts] = int(self.block.ts.searchsorted(ts))
        return row

    # ── the sparse lane ──────────────────────────────────────────────────────────────────────────────────────────

    def _decide(self, end: int) -> None:
        """Give the rows up to ``end`` to the block strategies; what they order waits for its row."""
        start = max(self._decided, self.played)
        self._decided = end
        for owner in tuple(self._block_owners):
            view = TickBlock.cut(self, owner, start, end)
            if len(view):
                self._row = end - 1
                self.host.collecting = view
                self.callbacks.run(owner, "on_ticks", self.strategies[owner].on_ticks, view)
                self.host.collecting = None
                self._row = -1
        self.host.decisions.sort(reverse=True)  # by row, then in the order given; the next one stands last

    def _carry_out(self) -> None:
        """Hand over the next decision of a block strategy: the tape has reached its row."""
        decision = self.host.decisions.pop()
        self._row = decision[0]
        self.host.carry_out(decision)
        self._row = -1

    def _sparse(self) -> None:
        """Visit only rows where a working order may fill or a block strategy decided something."""
        working, waiting, decisions = self.desk.exchange.working, self._waiting, self.host.decisions
        while True:
            if not working.keys() <= waiting.keys():
                for symbol in working:
                    if symbol not in waiting:
                        waiting[symbol] = self._next_row(self._index[symbol], self.played)
            symbol, row = "", self._until
            for name, due in waiting.items():
                if due < row:
                    symbol, row = name, due
            if decisions and decisions[-1][0] < row:
                self.played = decisions[-1][0] + 1
                self._carry_out()
            elif symbol:
                del waiting[symbol]
                if symbol in working:
                    self._row = row
                    self.played = row + 1
                    self._meet(symbol, row)
                    self._row = -1
            else:
                break
        self.played = self._until

    def _next_row(self, index: int, start: int) -> int:
        """The first row at or after ``start`` that is a tick of the instrument; beyond the block if there is none."""
        if self._next_rows is None:
            self._next_rows = self._link()
        if start and self._index_at(start - 1) == index:
            return self._next_rows.item(start - 1)
        instrument = self.block.instrument
        for low in range(start, len(instrument), 1024):
            found = np.flatnonzero(instrument[low : low + 1024] == index)
            if len(found):
                return low + int(found[0])
        return len(instrument)

    def _link(self) -> Ints:
        """For every row of the block the next row of the same instrument, or the block's length."""
        instrument, size = self.block.instrument, len(self.block)
        few = len(self.instruments) < 32_768
        order = np.argsort(
            instrument.astype(np.int16) if few else instrument, kind="stable"
        )  # 16 bits: by radix
        grouped = instrument[order]
        following = np.full(size, size)
        same = grouped[1:] == grouped[:-1]
        following[order[:-1][same]] = order[1:][same]
        return following

    # ── the dense lane ───────────────────────────────────────────────────────────────────────────────────────────

    def _dense(self) -> None:
        """Turn rows into ticks and hand each to its strategies, after its instrument's working orders were matched."""
        self._until = min(self._until, self.played + PIECE)
        ticks = self._ticks(self.played, self._until)
        working, only, routes = self.desk.exchange.working, self._only, self._routes
        handler, tick = only, None
        try:
            if only is not None:
                for tick in ticks:
                    if working and tick.symbol in working:
                        self._meet(tick.symbol, self._row_now())
                        if self._only is None:  # what a fill made it do has halted it
                            break
                    only(tick)
            else:
                for tick in ticks:
                    symbol = tick.symbol
                    if working and symbol in working:
                        self._meet(symbol, self._row_now())
                        routes = self._routes or {symbol: []}
                    for handler in routes[symbol]:
                        handler(tick)
            self.played = self._until
        except Exception as error:
            if self.matching or handler is None or tick is None:
                raise
            self.played = self._row_now() + 1
            self._tick_failed(handler, tick, error)
        finally:
            self._iterator = None

    def _ticks(self, start: int, stop: int) -> Any:
        block = self.block
        index = block.instrument[start:stop]
        self._rows, self._start = None, start
        part: Any = slice(start, stop)
        if not (self.all_open and self._all_wanted):
            live = self.is_open[index] & self._wanted[index]
            if not live.all():
                self._rows = part = np.flatnonzero(live) + start
                index = block.instrument[part]
        scale = self.scale_of(index)
        self._times = times = block.ts[part].tolist()
        self._iterator = iterator = iter(times)
        columns: list[Any] = [self._names[index].tolist(), iterator, (block.price[part] / scale).tolist()]
        if block.volume is not None:
            columns.append(block.volume[part].tolist())
        elif block.bid is not None:
            columns.append(repeat(0))
        if block.bid is not None and block.ask is not None:
            columns += [(block.bid[part] / scale).tolist(), (block.ask[part] / scale).tolist()]
            if block.bid_quantity is not None and block.ask_quantity is not None:
                columns += [block.bid_quantity[part].tolist(), block.ask_quantity[part].tolist()]
        return map(Tick, *columns)

    def _meet(self, symbol: str, row: int) -> None:
        """Match one instrument's working orders against the row being handled."""
        ts = self._ts_at(row)
        if self.day.next_mark <= ts:
            self.day.mark_to(ts)
        self.matching = True
        self.desk.exchange.match(symbol, self.block, row, ts)
        self.matching = False

    def _tick_failed(self, handler: Callable[[Tick], None], tick: Tick, error: Exception) -> None:
        """Halt the strategy whose ``on_tick`` raised; those after it still see the tick."""
        everyone = self._routes[tick.symbol]
        rest = everyone[everyone.index(handler) + 1 :]
        self._iterator, self._row = None, self.played - 1
        self.callbacks.failed(_owner(handler), "on_tick", tick.symbol, error)
        for other in rest:
            self.callbacks.run(_owner(other), "on_tick", other, tick)
        self._row = -1


def _owner(handler: Callable[[Tick], None]) -> int:
    return handler.__self__._owner  # pyright: ignore[reportFunctionMemberAccess] - handlers are bound methods

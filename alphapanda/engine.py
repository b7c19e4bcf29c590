"""The engine: tape time, callbacks and lanes. ``step(event)`` takes a block of ticks, a clock or an operator's halt.

Order of things at one instant t: the equity mark, session opens, bars that end at t, timers at t, square-offs, session
closes; then the ticks with time >= t, in tape order. For each tick: working orders of its instrument are matched
first, then callbacks see it; so an order never fills on the event that caused it.

Nothing is kept per tick. Where the tape stands is asked of the iterator over the current rows (its length hint), so
time, sequence number and last prices cost only when somebody needs them. Three lanes share this one engine:

- dense: some strategy wants every tick; rows become ``Tick`` objects in one C-level ``map``;
- sparse: only ``on_ticks``, bars or timers are wanted; rows nobody waits for are skipped;
- boundaries: everything with a time of its own waits in two agendas, one for what strategies can see (it cuts the
  blocks they get) and one for what they cannot (square-offs, expiries).
"""

from __future__ import annotations

import datetime as dt
import inspect
import traceback
from bisect import bisect_left
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from itertools import count, repeat
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from alphapanda.bars import Bars
from alphapanda.desk import Desk
from alphapanda.errors import ValidationError
from alphapanda.events import (
    DAY,
    IST_OFFSET_NS,
    MINUTE,
    Bar,
    Block,
    Clock,
    Fill,
    Halt,
    Ints,
    Tick,
    ist,
    ist_day,
)
from alphapanda.exchange import Fills
from alphapanda.host import Host, TickBlock, Timer
from alphapanda.instruments import Instrument
from alphapanda.orders import Order
from alphapanda.result import LogLine, Mark, Result, RunError
from alphapanda.risk import Limits
from alphapanda.rulebook import Rulebook
from alphapanda.strategy import CALLBACKS, Strategy, overrides

OPEN, BAR, TIMER, SQUARE_OFF, CLOSE = range(5)  # what comes first at one instant
PIECE = 8_192  # rows that are turned into Python objects at a time
FAR = 1 << 62
LOG_LINES = 10_000  # kept; more are counted
EPOCH = dt.date(1970, 1, 1)
PACKAGE = str(Path(__file__).parent)

Item = tuple[int, int, int, Callable[[int], None]]  # due, rank, tie-breaker, what to do


class Group(msgspec.Struct):
    """Instruments that share today's continuous session."""

    indexes: list[int]
    open_ns: int
    close_ns: int


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
    ) -> None:
        _check(strategies, instruments)
        self.strategies = tuple(strategies)
        self.instruments = instruments
        self.rulebook = rulebook
        self.seed = seed
        self.desk = Desk(
            instruments,
            tuple(s.name for s in strategies),
            capital,
            rulebook,
            limits or Limits(),
            fills or Fills(seed=seed),
            self,
        )
        self.result = Result(
            tuple(s.name for s in strategies),
            tuple(s.params for s in strategies),
            ("",) * len(self.strategies),
            instruments,
            capital,
            self.desk.orders,
            fills=self.desk.fills,
        )
        self.halted = [""] * len(self.strategies)
        # columns by dense index
        size = len(instruments)
        self._names = np.array([i.symbol for i in instruments], dtype=object)
        self._scales = np.array([i.price_scale for i in instruments], dtype=np.float64)
        self._one_scale = float(self._scales[0]) if size and (self._scales == self._scales[0]).all() else 0.0
        self._index = {i.symbol: n for n, i in enumerate(instruments)}
        self._last = np.zeros(size, np.int64)
        self._is_open = np.zeros(size, np.bool_)
        self._wanted = np.zeros(size, np.bool_)  # some tick strategy subscribed
        self._all_open = self._all_wanted = self._bars_are_seen = False
        # where the tape stands
        nothing = np.zeros(0, np.int64)
        self._take(Block(0, nothing, nothing, nothing))
        self._iterator: Any = None  # over the times of the rows being played in the dense lane, else None
        self._times: list[int] = []  # what it iterates
        self._rows: Ints | None = (
            None  # the rows' numbers when some are skipped, else None: they start at _start
        )
        self._start = 0
        self._row = -1  # the row being visited outside the dense lane, else -1
        self._cursor: int  # rows of the block already played
        self._until = 0  # the row where playing stops for what is due next
        self._decided: int  # rows the block strategies have seen
        self._synced: int  # rows already in the last prices
        self._barred: int  # rows already in the bars
        self._first_rows: dict[int, int]  # instant → first row at or after it
        self._next_rows: Ints | None  # row → next row of the same instrument
        self._waiting: dict[str, int]  # sparse lane: symbol with working orders → its next row
        self._matching = False  # the desk is at work: what raises now is our defect, not a strategy's
        self._seq = 0  # sequence number of the next tick
        self._boundary = 0  # the instant being handled between ticks
        self._next_mark = self._last_mark = FAR  # equity is marked once a minute of tape time
        # what is due
        self._agenda: list[Item] = []
        self._quiet: list[Item] = []
        self._ties = count()
        self._day_end = -1
        self._groups: list[Group] = []
        # who wants what
        self.host = Host(self)
        self.indicators: dict[tuple[int, str], list[tuple[int, Callable[[Bar], Any]]]] = {}
        self._routes: dict[str, list[Callable[[Tick], None]]] = {}
        self._only: Callable[[Tick], None] | None = None
        self._block_owners: list[int] = []
        self._bar_owners: list[int] = []
        self._on_order: list[Callable[[Order], None] | None] = []
        self._on_fill: list[Callable[[Fill], None] | None] = []
        self._outside = self._bar_count = self._logs_dropped = 0
        self.warm = not trade_from
        self.started = False
        self._begin(trade_from)

    # ── the contract ─────────────────────────────────────────────────────────────────────────────────────────────

    def step(self, event: Block | Clock | Halt) -> None:
        """Advance by one event; what it caused stands in ``result`` afterwards. Blocks may be cut anywhere."""
        if isinstance(event, Block):
            self._play(event)
        elif isinstance(event, Clock):
            self._fire_until(event.ts)
        elif event.strategy:
            for owner, strategy in enumerate(self.strategies):
                if strategy.name == event.strategy:
                    self._halt(owner, event.reason)
        else:
            self.desk.halt(event.reason)

    def finish(self) -> Result:
        """The tape has ended: let the day end too (bars, timers, square-off, session close), then ``on_stop``."""
        self._fire_until(max((group.close_ns for group in self._groups), default=self._boundary))
        for owner, strategy in enumerate(self.strategies):
            if not self.halted[owner] and overrides(strategy, "on_stop"):
                self._guard(owner, "on_stop", strategy.on_stop)
        self._sync(self._cursor)
        self._mark(self._boundary)
        result = self.result
        result.halted = tuple(self.halted)
        result.last_ts = max(result.last_ts, self._boundary)
        last = self.last_prices()
        result.positions = [
            (strategy.name, p.instrument.symbol, p.product, p.quantity, p.cost, last[index])
            for strategy, book in zip(self.strategies, self.desk.books, strict=True)
            for index, held in sorted(book.positions.items())
            for p in held
            if p.quantity
        ]
        result.counts = {
            "ticks": self._seq,
            "ticks outside session": self._outside,
            "bars": self._bar_count,
            "orders": sum(1 for o in result.orders if o.status != "denied"),
            "denials": sum(1 for o in result.orders if o.status == "denied"),
            "fills": len(result.fills),
        }
        return result

    # ── where the tape stands (the desk's Listener, and the host's source) ───────────────────────────────────────

    def position_of(self) -> tuple[int, int]:
        """Sequence number and time of the event being handled."""
        iterator = self._iterator
        if iterator is not None:
            row = len(self._times) - iterator.__length_hint__() - 1
            row = self._start + row if self._rows is None else self._rows.item(row)
        elif self._row >= 0:
            row = self._row
        else:
            return self._seq, self._boundary
        return self.block.first + row, self._ts_at(row)

    def event_of(self, index: int) -> tuple[int, int, int]:
        """Sequence number and time of the event being handled, and the last price of one instrument by then."""
        iterator = self._iterator
        if iterator is not None:
            row = len(self._times) - iterator.__length_hint__() - 1
            row = self._start + row if self._rows is None else self._rows.item(row)
        elif self._row >= 0:
            row = self._row
        else:
            return self._seq, self._boundary, self.last_price(index)
        if self._index_at(row) == index:
            return self.block.first + row, self._ts_at(row), self._price_at(row)
        return self.block.first + row, self._ts_at(row), self.last_price(index)

    def sequence(self) -> int:
        """Sequence number of the event being handled."""
        return self.position_of()[0]

    def last_prices(self) -> list[int]:
        """Last traded prices in units by dense index; 0 where nothing traded yet."""
        self._sync(self._row_now() + 1)
        return self._last.tolist()

    def last_price(self, index: int) -> int:
        """The last traded price of one instrument in units."""
        row = self._row_now()
        if row >= 0 and self.block.instrument.item(row) == index:
            return self.block.price.item(row)
        self._sync(row + 1)
        return self._last.item(index)

    def row_of(self, index: int, row: int) -> tuple[int, int, int]:
        """Sequence number and time of a row of the block, and the last price of one instrument by then."""
        if self._index_at(row) == index:
            price = self._price_at(row)
        else:
            before = np.flatnonzero(self.block.instrument[: row + 1] == index)
            price = self._price_at(before[-1]) if len(before) else self._last.item(index)
        return self.block.first + row, self._ts_at(row), price

    def _row_now(self) -> int:
        """The row of the block being handled, or the last one played when between ticks."""
        if self._iterator is not None or self._row >= 0:
            return self.position_of()[0] - self.block.first
        return self._cursor - 1

    def _sync(self, end: int) -> None:
        """Take rows before ``end`` into the last prices, and the equity marks that were due among them."""
        if end > self._synced:
            ts = self._ts_at(end - 1)
            if self._next_mark <= ts:
                self._mark_to(ts)
            self._copy(end)

    def _copy(self, end: int) -> None:
        rows = slice(self._synced, end)
        self._last[self.block.instrument[rows]] = self.block.price[
            rows
        ]  # of equal indexes the last write stays
        self._synced = max(end, self._synced)

    def scale_of(self, index: Ints) -> Any:
        """Price units per rupee of each of these instruments: one number if they agree, else an array."""
        return self._one_scale or self._scales[index]

    def seen_by(self, owner: int) -> npt.NDArray[np.bool_] | None:
        """By instrument: whether a strategy's ticks of it count now (its own, in session); None if all do."""
        universe = self.host.universe[owner]
        if self._all_open and len(universe) == len(self.instruments):
            return None
        mask = np.zeros(len(self.instruments), np.bool_)
        mask[list(universe)] = True
        return mask & self._is_open

    # ── setting up ───────────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self, trade_from: int) -> None:
        for owner, strategy in enumerate(self.strategies):
            self.host.bind(owner, strategy, self._index)
            self._on_order.append(strategy.on_order if overrides(strategy, "on_order") else None)
            self._on_fill.append(strategy.on_fill if overrides(strategy, "on_fill") else None)
        self._route()
        for owner, strategy in enumerate(self.strategies):
            if overrides(strategy, "on_start"):
                self._guard(owner, "on_start", strategy.on_start)
        self.started = True
        self.bars = Bars(self.instruments, self.host.intervals())
        self._bars_are_seen = bool(self._bar_owners or self.indicators)
        if trade_from:
            self.schedule(trade_from, OPEN, self._end_warm_up)

    def _end_warm_up(self, ts: int) -> None:
        self.warm = True

    def _route(self) -> None:
        """Work out anew who gets ticks, whole blocks and bars; at start and when a strategy halts."""
        self._routes, self._block_owners, self._bar_owners = {}, [], []
        self._wanted[:] = False
        tick_owners: list[int] = []
        for owner, strategy in enumerate(self.strategies):
            if self.halted[owner]:
                continue
            if overrides(strategy, "on_ticks"):
                self._block_owners.append(owner)
            if overrides(strategy, "on_bar") or overrides(strategy, "on_bars"):
                self._bar_owners.append(owner)
            if overrides(strategy, "on_tick"):
                tick_owners.append(owner)
            for index in self.host.universe[owner]:
                self._wanted[index] = True
                handlers = self._routes.setdefault(self.instruments[index].symbol, [])
                if overrides(strategy, "on_tick"):
                    handlers.append(strategy.on_tick)
        if not tick_owners:
            self._routes = {}
        self._all_wanted = bool(self._wanted.all())
        alone = len(tick_owners) == 1 and all(len(handlers) == 1 for handlers in self._routes.values())
        self._only = self.strategies[tick_owners[0]].on_tick if alone else None

    # ── playing a block ──────────────────────────────────────────────────────────────────────────────────────────

    def _play(self, block: Block) -> None:
        size = len(block)
        if not size:
            return
        self._take(block)
        if not self.result.first_ts:
            self.result.first_ts = block.ts.item(0)
        while self._cursor < size:
            ts = block.ts.item(self._cursor)
            if ts >= self._day_end:
                self._end_day()
                self._begin_day(ts)
            self._fire_until(ts)
            self._walk(self._first_row(self._day_end))
        self._sync(size)
        self._flush_bars()
        self._seq = block.first + size
        self.result.last_ts = block.ts.item(size - 1)

    def _take(self, block: Block) -> None:
        self.block = block
        self._ts_at, self._index_at, self._price_at = block.ts.item, block.instrument.item, block.price.item
        self._cursor = self._synced = self._barred = self._decided = 0
        self._first_rows = {}
        self._waiting = {}
        self._next_rows = None

    def _walk(self, day_end: int) -> None:
        """Play rows up to the next instant that strategies can see, or to the row where the day ends."""
        times, decisions = self.block.ts, self.host.decisions
        while True:
            end = min(day_end, self._first_row(self._agenda[0][0])) if self._agenda else day_end
            if self._cursor >= end:
                return
            if self._quiet and self._quiet[0][0] <= times.item(self._cursor):
                self._fire_until(times.item(self._cursor))
                continue
            if self._block_owners and self._decided < end and self.warm:
                self._decide(end)
            stop = min(end, self._first_row(self._quiet[0][0])) if self._quiet else end
            if decisions and self._routes:
                stop = min(stop, decisions[-1][0] + 1)
            self._advance(stop)
            self._carry_out(self._cursor)

    def _carry_out(self, end: int) -> None:
        """Hand over what block strategies decided at rows before ``end``."""
        decisions = self.host.decisions
        while decisions and decisions[-1][0] < end:
            decision = decisions.pop()
            self._row = decision[0]
            self.host.carry_out(decision)
        self._row = -1

    def _advance(self, stop: int) -> None:
        """Play rows from the cursor to ``stop``, or fewer: the cursor tells."""
        self._until = stop
        if not self._all_open:
            start = self._cursor
            self._outside += (
                stop - start - int(np.count_nonzero(self._is_open[self.block.instrument[start:stop]]))
            )
        if not self.warm:
            self._cursor = stop
        elif self._routes:
            self._dense(stop)
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
        start = max(self._decided, self._cursor)
        self._decided = end
        for owner in tuple(self._block_owners):
            view = TickBlock.cut(self, owner, start, end)
            if len(view):
                self._row = end - 1
                self.host.collecting = view
                self._guard(owner, "on_ticks", self.strategies[owner].on_ticks, view)
                self.host.collecting = None
                self._row = -1
        self.host.decisions.sort(reverse=True)  # by row, then in the order given; the next one stands last

    def _sparse(self) -> None:
        """Visit only rows where a working order may fill or a block strategy decided something."""
        exchange, waiting, decisions, block = (
            self.desk.exchange,
            self._waiting,
            self.host.decisions,
            self.block,
        )
        working, ts_of, carry_out = exchange.working, block.ts.item, self.host.carry_out
        while True:
            if len(waiting) < len(working):
                for symbol in working:
                    if symbol not in waiting:
                        waiting[symbol] = self._next_row(self._index[symbol], self._cursor)
            symbol, row = "", self._until
            for name, due in waiting.items():
                if due < row:
                    symbol, row = name, due
            if decisions and decisions[-1][0] < row:
                self._row = decisions[-1][0]
                self._cursor = self._row + 1
                carry_out(decisions.pop())
                self._row = -1
            elif symbol:
                del waiting[symbol]
                if symbol in working:
                    self._row = row
                    self._cursor = row + 1
                    ts = ts_of(row)
                    if self._next_mark <= ts:
                        self._mark_to(ts)
                    exchange.match(symbol, block, row, ts)
                    self._row = -1
            else:
                break
        self._cursor = self._until

    def _next_row(self, index: int, start: int) -> int:
        """The first row at or after ``start`` that is a tick of the instrument; beyond the block if there is none."""
        instrument = self.block.instrument
        size = len(instrument)
        if self._next_rows is None:
            narrow = (
                instrument.astype(np.int16) if len(self.instruments) < 32_768 else instrument
            )  # sorts by radix
            order = np.argsort(narrow, kind="stable")
            grouped = instrument[order]
            following = np.full(size, size)
            same = grouped[1:] == grouped[:-1]
            following[order[:-1][same]] = order[1:][same]
            self._next_rows = following
        if start and instrument.item(start - 1) == index:
            return self._next_rows.item(start - 1)
        for low in range(start, size, 1024):
            found = np.flatnonzero(instrument[low : low + 1024] == index)
            if len(found):
                return low + int(found[0])
        return size

    # ── the dense lane ───────────────────────────────────────────────────────────────────────────────────────────

    def _dense(self, stop: int) -> None:
        """Turn rows into ticks and hand each to its strategies, after its instrument's working orders were matched."""
        start = self._cursor
        self._until = stop = min(stop, start + PIECE)
        ticks = self._ticks(start, stop)
        working, only, routes = self.desk.exchange.working, self._only, self._routes
        handler, tick = only, None
        try:
            if only is not None:
                for tick in ticks:
                    if working and tick.symbol in working:
                        self._meet(tick.symbol)
                    only(tick)
            else:
                for tick in ticks:
                    symbol = tick.symbol
                    if working and symbol in working:
                        self._meet(symbol)
                    for handler in routes[symbol]:
                        handler(tick)
            self._cursor = self._until
        except Exception as error:
            if self._matching or handler is None or tick is None:
                raise
            self._cursor = self.position_of()[0] - self.block.first + 1
            self._tick_failed(handler, tick, error)
        finally:
            self._iterator = None

    def _ticks(self, start: int, stop: int) -> Any:
        block = self.block
        index = block.instrument[start:stop]
        self._rows, self._start = None, start
        part: Any = slice(start, stop)
        if not (self._all_open and self._all_wanted):
            live = self._is_open[index] & self._wanted[index]
            if not live.all():
                self._rows = part = np.flatnonzero(live) + start
                index = block.instrument[part]
        scale = self.scale_of(index)
        self._times = times = block.ts[part].tolist()
        self._iterator = iterator = iter(times)
        columns: list[Any] = [self._names[index].tolist(), iterator, (block.price[part] / scale).tolist()]
        quotes = block.bid is not None and block.ask is not None
        if block.volume is not None:
            columns.append(block.volume[part].tolist())
        elif quotes:
            columns.append(repeat(0))
        if block.bid is not None and block.ask is not None:
            columns += [(block.bid[part] / scale).tolist(), (block.ask[part] / scale).tolist()]
            if block.bid_quantity is not None and block.ask_quantity is not None:
                columns += [block.bid_quantity[part].tolist(), block.ask_quantity[part].tolist()]
        return map(Tick, *columns)

    def _meet(self, symbol: str) -> None:
        self._matching = True
        seq, ts = self.position_of()
        if self._next_mark <= ts:
            self._mark_to(ts)
        self.desk.exchange.match(symbol, self.block, seq - self.block.first, ts)
        self._matching = False

    def _tick_failed(self, handler: Callable[[Tick], None], tick: Tick, error: Exception) -> None:
        """Halt the strategy whose ``on_tick`` raised; those after it still see the tick."""
        owners = self._routes[tick.symbol]
        rest = owners[owners.index(handler) + 1 :]
        self._row = self._cursor - 1
        self._failed(handler.__self__._owner, "on_tick", tick.symbol, error)  # pyright: ignore[reportFunctionMemberAccess]
        for other in rest:
            self._guard(other.__self__._owner, "on_tick", other, tick)  # pyright: ignore[reportFunctionMemberAccess]
        self._row = -1

    # ── what is due ──────────────────────────────────────────────────────────────────────────────────────────────

    def schedule(self, due: int, rank: int, call: Callable[[int], None], visible: bool = True) -> None:
        """Call ``call(due)`` when tape time reaches ``due``; rows being played now are cut there."""
        heappush(self._agenda if visible else self._quiet, (due, rank, next(self._ties), call))
        if self._iterator is not None or self._row >= 0:
            row = max(self._first_row(due), self._row_now() + 1)
            if row < self._until:
                self._until = row
                if self._iterator is not None:  # the rows' iterator ends where its list ends
                    played = len(self._times) - self._iterator.__length_hint__()
                    del self._times[bisect_left(self._times, due, lo=played) :]

    def _fire_until(self, ts: int) -> None:
        """Handle everything due at or before ``ts``, in order of time and rank."""
        agenda, quiet = self._agenda, self._quiet
        self._seq = self.block.first + self._cursor
        while True:
            first = agenda if agenda and (not quiet or agenda[0] < quiet[0]) else quiet
            if not first or first[0][0] > ts:
                break
            due, _, _, call = heappop(first)
            self._mark_to(due)
            self._boundary = due
            call(due)
        self._mark_to(ts)
        self._boundary = max(self._boundary, ts)

    # ── the day ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin_day(self, ts: int) -> None:
        """Put the day of ``ts`` on the agendas: sessions, bars, timers, square-offs, marks."""
        number = ist_day(ts)
        day = EPOCH + dt.timedelta(days=number)
        midnight = number * DAY - IST_OFFSET_NS
        self._day_end = midnight + DAY
        self._boundary = max(self._boundary, ts)
        self._seq = self.block.first + self._cursor
        groups: dict[tuple[int, int], Group] = {}
        for index, instrument in enumerate(self.instruments):
            times = self.rulebook.session(instrument, day)
            if times is not None:
                key = times.open_ns, times.close_ns
                groups.setdefault(key, Group([], *key)).indexes.append(index)
        self._groups = list(groups.values())
        self.desk.open_day(day, self.last_prices(), ts)
        for group in self._groups:
            self._plan_session(group, day)
        if self._groups:
            self._next_mark = min(g.open_ns for g in self._groups) + MINUTE
            self._last_mark = max(g.close_ns for g in self._groups) - MINUTE
        for timer in self.host.timers:
            self.plan_timer(timer, midnight)

    def _end_day(self) -> None:
        if self._day_end >= 0:
            self._fire_until(self._day_end)
            self._agenda.clear()
            self._quiet.clear()
            self._groups = []

    def _plan_session(self, group: Group, day: dt.date) -> None:
        self.schedule(group.open_ns, OPEN, lambda ts: self._open(group))
        self.schedule(group.close_ns, CLOSE, lambda ts: self._close(group))
        if self.bars.base:
            self._plan_bar(group, group.open_ns)
        cuts: dict[tuple[int, int], list[int]] = {}
        for index in group.indexes:
            if "MIS" in self.desk.products[index]:
                rule = self.rulebook.square_off(self.instruments[index], "MIS", day)
                if rule is not None:
                    cuts.setdefault((rule.entry_cutoff_ns, rule.square_off_ns), []).append(index)
        for (last_entry, leave), indexes in cuts.items():
            self.schedule(
                min(last_entry, group.close_ns), SQUARE_OFF, self._stopping(indexes, "MIS"), visible=False
            )
            self.schedule(
                min(leave, group.close_ns), SQUARE_OFF, self._squaring(indexes, "MIS"), visible=False
            )

    def _stopping(self, indexes: list[int], product: str) -> Callable[[int], None]:
        def stop(ts: int) -> None:
            for index in indexes:
                self.desk.stop_entries(
                    index, product, f"{product} takes no new position after {ist(ts):%H:%M}"
                )

        return stop

    def _squaring(self, indexes: list[int], product: str) -> Callable[[int], None]:
        def square(ts: int) -> None:
            for index in indexes:
                self.desk.square_off(index, product, ts)

        return square

    def _open(self, group: Group) -> None:
        self._flush_bars()
        self.desk.set_open(group.indexes, True)
        self._is_open[group.indexes] = True
        self._all_open = bool(self._is_open.all())

    def _close(self, group: Group) -> None:
        self._flush_bars()
        ts = self._boundary
        for index in group.indexes:
            for order in self.desk.settle_unsold(index, "MIS", ts):
                self.result.notes.append(
                    f"{order.symbol}: no trade came after the square-off of {ist(order.signal.ts):%Y-%m-%d %H:%M}; "
                    "the position was closed at the last price"
                )
        self.desk.close_session(group.indexes, ts)
        self._is_open[group.indexes] = False
        self._all_open = False
        self._sync(self._cursor)
        self._mark(ts)

    def _mark_to(self, ts: int) -> None:
        """Catch up on the minute marks due by ``ts``: nothing is cut for them, so they are taken before what they
        would miss, a fill or newer last prices."""
        while self._next_mark <= ts:
            due = self._next_mark
            self._copy(self._first_row(due))
            self._mark(due)
            self._next_mark = due + MINUTE if due < self._last_mark else FAR

    def _mark(self, ts: int) -> None:
        last = self._last.tolist()
        earned = tuple(book.equity(last) - book.capital for book in self.desk.books)
        equity = self.desk.mark(ts, last)
        self.result.marks.append(Mark(ts, equity, self.desk.gross, earned))

    # ── bars ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _flush_bars(self) -> None:
        start, end = self._barred, self._cursor
        self._barred = end
        if end > start and self.bars.base:
            block = self.block
            rows: Any = slice(start, end)
            if not self._all_open:
                rows = np.flatnonzero(self._is_open[block.instrument[rows]]) + start
            self.bars.add(
                block.instrument[rows],
                block.price[rows],
                None if block.volume is None else block.volume[rows],
            )

    def _plan_bar(self, group: Group, start: int) -> None:
        end = min(start + self.bars.base, group.close_ns)
        self.schedule(end, BAR, lambda ts: self._close_bar(group, start, ts), visible=self._bars_are_seen)

    def _close_bar(self, group: Group, start: int, end: int) -> None:
        self._flush_bars()
        if end < group.close_ns:
            self._plan_bar(group, end)
        ends = {
            name
            for name, length in self.bars.intervals.items()
            if end == group.close_ns or (end - group.open_ns) % length == 0
        }
        closed = self.bars.close(group.indexes, start, end, group.open_ns, ends)
        for name, bars in closed.items():
            self._bar_count += len(bars)
            for bar in bars:
                for feed in self.indicators.get((self._index[bar.symbol], name), ()):
                    self._feed(feed, bar)
        if not self.warm:
            return
        for name, bars in closed.items():
            for owner in tuple(self._bar_owners):
                strategy = self.strategies[owner]
                if strategy.bar != name:
                    continue
                mine = [bar for bar in bars if self._index[bar.symbol] in self.host.universe[owner]]
                if mine and overrides(strategy, "on_bars"):
                    self._guard(owner, "on_bars", strategy.on_bars, mine)
                else:
                    for bar in mine:
                        if not self.halted[owner]:
                            self._guard(owner, "on_bar", strategy.on_bar, bar)

    def _feed(self, feed: tuple[int, Callable[[Bar], Any]], bar: Bar) -> None:
        owner, update = feed
        if not self.halted[owner]:
            self._guard(owner, "indicator", update, bar)

    # ── timers ───────────────────────────────────────────────────────────────────────────────────────────────────

    def add_timer(self, timer: Timer) -> None:
        """A strategy's new timer: it also applies to what is left of today."""
        self.host.timers.append(timer)
        if self._groups:
            self.plan_timer(timer, self._day_end - DAY)

    def plan_timer(self, timer: Timer, midnight: int) -> None:
        """Put a timer's next instant of this day on the agenda, if its symbols trade today."""
        group = next((g for g in self._groups if timer.index in g.indexes), None)
        if group is None:
            return
        _, now = self.position_of()
        if timer.every:
            passed = max(0, now - group.open_ns) // timer.every
            self._plan_repeat(timer, group, group.open_ns + (passed + 1) * timer.every)
            return
        anchor = {"day": midnight, "open": group.open_ns, "close": group.close_ns}[timer.anchor]
        due = anchor + timer.offset
        if due >= now:
            self.schedule(due, TIMER, lambda ts: self._ring(timer))

    def _plan_repeat(self, timer: Timer, group: Group, due: int) -> None:
        if due <= group.close_ns:

            def ring(ts: int) -> None:
                self._plan_repeat(timer, group, due + timer.every)
                self._ring(timer)

            self.schedule(due, TIMER, ring)

    def _ring(self, timer: Timer) -> None:
        owner = timer.owner
        if self.warm and not self.halted[owner]:
            if timer.call is not None:
                self._guard(owner, timer.name, timer.call)
            else:
                self._guard(owner, "on_timer", self.strategies[owner].on_timer, timer.name)

    # ── telling strategies, and what they break ──────────────────────────────────────────────────────────────────

    def order_changed(self, order: Order) -> None:
        """Desk's listener: an order has a new status."""
        call = self._on_order[order.owner]
        if call is not None and not self.halted[order.owner]:
            self._guard(order.owner, "on_order", call, order)

    def order_filled(self, fill: Fill, owner: int) -> None:
        """Desk's listener: the books hold a new fill."""
        call = self._on_fill[owner]
        if call is not None and not self.halted[owner]:
            self._guard(owner, "on_fill", call, fill)

    def _guard(self, owner: int, callback: str, call: Callable[..., Any], *arguments: Any) -> None:
        """Run a callback; if it raises, its strategy is halted and everything else goes on."""
        matching, self._matching = self._matching, False
        try:
            call(*arguments)
        except Exception as error:  # noqa: BLE001 - a strategy may raise anything; it alone is halted
            symbol = getattr(arguments[0], "symbol", "") if arguments else ""
            self._failed(owner, callback, symbol, error)
        self._matching = matching

    def _failed(self, owner: int, callback: str, symbol: str, error: Exception) -> None:
        file, line = _blame(error.__traceback__)
        seq, ts = self.position_of()
        strategy = self.strategies[owner]
        text = "".join(traceback.format_exception(error))
        message = f"{type(error).__name__}: {error}"
        self.result.errors.append(
            RunError(strategy.name, callback, symbol, ts, seq, file, line, message, text)
        )
        self._halt(owner, f"{callback} raised {type(error).__name__} at {Path(file).name}:{line}")

    def _halt(self, owner: int, reason: str) -> None:
        """No more callbacks for this strategy; its entries are withdrawn, its protective exits stay."""
        if self.halted[owner]:
            return
        self.halted[owner] = reason
        _, ts = self.position_of()
        for queue in tuple(self.desk.exchange.working.values()):
            for order in tuple(queue):
                if order.owner == owner and not order.leg:
                    self.desk.cancel(order, "its strategy is halted", ts)
        self._route()

    def write_log(self, owner: int, message: str, fields: dict[str, Any]) -> None:
        """Keep one line of a strategy's log; beyond the bound lines are counted, not kept."""
        if len(self.result.logs) < LOG_LINES:
            seq, ts = self.position_of()
            self.result.logs.append(LogLine(ts, seq, self.strategies[owner].name, message, fields))
        else:
            self._logs_dropped += 1


def _blame(tb: TracebackType | None) -> tuple[str, int]:
    """File and line of the innermost frame that is not the platform's own: the line a quant can mend."""
    found = ("", 0)
    while tb is not None:
        file = tb.tb_frame.f_code.co_filename
        if not file.startswith(PACKAGE) or not found[0]:
            found = file, tb.tb_lineno
        tb = tb.tb_next
    return found


def _check(strategies: Sequence[Strategy], instruments: tuple[Instrument, ...]) -> None:
    if not strategies:
        raise ValidationError(
            "no strategy is given", fix="pass at least one Strategy instance", code="E_STRATEGY"
        )
    if not instruments:
        raise ValidationError("the data holds no instrument", fix="pass a tape with ticks", code="E_DATA")
    names: set[str] = set()
    for strategy in strategies:
        if isinstance(strategy, type):
            raise ValidationError(
                f"{strategy.__name__} is a class",
                fix=f"pass an instance: {strategy.__name__}()",
                code="E_STRATEGY",
            )
        if "_bound" not in vars(strategy):
            raise ValidationError(
                f"{type(strategy).__name__}.__init__ does not call super().__init__()",
                fix="declare parameters with Param and leave __init__ out, or call super().__init__(**values) first",
                code="E_STRATEGY",
            )
        for callback in CALLBACKS:
            if inspect.iscoroutinefunction(getattr(strategy, callback)):
                raise ValidationError(
                    f"{strategy.name}.{callback} is async",
                    fix="write a plain def: nothing awaits a callback",
                    code="E_STRATEGY",
                )
        if not any(overrides(strategy, callback) for callback in CALLBACKS):
            raise ValidationError(
                f"{strategy.name} overrides no callback, so nothing can call it",
                fix="write on_tick, on_bar, on_ticks, or set timers in on_start",
                code="E_STRATEGY",
            )
        if strategy.name in names:
            raise ValidationError(
                f"two strategies are called {strategy.name}",
                fix='give each its own name: name="..."',
                code="E_STRATEGY",
            )
        names.add(strategy.name)

"""The trading day: everything that has a time of its own.

Session opens and closes, bar ends, timers and square-offs wait in two agendas: one for what strategies can see, which
cuts the blocks they get, and one for what they cannot. Equity marks wait in neither: nothing is cut for them, they are
caught up on before a fill or a newer price would change them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from alphapanda.bars import Bars
from alphapanda.events import DAY, IST_OFFSET_NS, MINUTE, Bar, ist, ist_day
from alphapanda.host import Timer
from alphapanda.result import Mark
from alphapanda.strategy import overrides

if TYPE_CHECKING:
    from alphapanda.engine import Engine

OPEN, BAR, SHOW, TIMER, SQUARE_OFF, SETTLE, CLOSE, LAST = range(8)  # what comes first at one instant
FAR = 1 << 62
EPOCH = dt.date(1970, 1, 1)

Item = tuple[int, int, int, Callable[[int], None]]  # due, rank, tie-breaker, what to do


class Group(msgspec.Struct):
    """Instruments that share today's continuous session."""

    indexes: list[int]
    open_ns: int
    close_ns: int


class Day:
    """What is due, in order; and what happens then."""

    def __init__(self, engine: Engine, trade_from: int) -> None:
        self._engine = engine
        self.rank = LAST  # of what is being handled between ticks
        self.end = -1  # of the calendar day being played, ns; -1 before the first
        self.next_mark = FAR
        self.warm = not trade_from  # before ``trade_from`` only bars and indicators move
        self.bars = Bars(engine.instruments, {})
        self.bar_count = 0
        self._visible: list[Item] = []
        self._quiet: list[Item] = []
        self._ties = count()
        self._groups: list[Group] = []
        self._last_mark = FAR
        self._timers: list[Timer] = []
        self._bars_are_seen = False
        self._closed: dict[str, list[Bar]] = {}  # at this instant, by interval, not yet shown
        self._barred = 0  # sequence number of the next row to go into the bars
        if trade_from:
            self.schedule(trade_from, OPEN, self._end_warm_up)

    def build_bars(self, intervals: dict[str, int], seen: bool) -> None:
        """Which bars this run needs, and whether a strategy looks at them as they close."""
        self.bars = Bars(self._engine.instruments, intervals)
        self._bars_are_seen = seen

    def _end_warm_up(self, ts: int) -> None:
        self.warm = True

    # ── the agendas ──────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def next_seen(self) -> int:
        """When the next thing is due that strategies can see."""
        return self._visible[0][0] if self._visible else FAR

    @property
    def next_unseen(self) -> int:
        """When the next thing is due that they cannot see."""
        return self._quiet[0][0] if self._quiet else FAR

    def schedule(self, due: int, rank: int, call: Callable[[int], None], visible: bool = True) -> None:
        """Call ``call(due)`` when tape time reaches ``due``; rows being played now are cut there."""
        heappush(self._visible if visible else self._quiet, (due, rank, next(self._ties), call))
        self._engine.cut(due)

    def pass_until(self, ts: int, rank: int = LAST) -> None:
        """Handle everything due before ``ts``, and at ``ts`` what ranks before ``rank``, in order of time and rank."""
        visible, quiet, engine = self._visible, self._quiet, self._engine
        while True:
            first = visible if visible and (not quiet or visible[0] < quiet[0]) else quiet
            if not first or first[0][:2] >= (ts, rank):
                break
            due, self.rank, _, call = heappop(first)
            self.mark_to(due)
            engine.boundary = due
            call(due)
        self.rank = LAST
        self.mark_to(ts)
        engine.boundary = max(engine.boundary, ts)

    # ── sessions ─────────────────────────────────────────────────────────────────────────────────────────────────

    def begin(self, ts: int) -> None:
        """Put the calendar day of ``ts`` on the agendas; the day before ends first."""
        engine = self._engine
        self.finish(self.end)
        number = ist_day(ts)
        day = EPOCH + dt.timedelta(days=number)
        midnight = number * DAY - IST_OFFSET_NS
        self.end = midnight + DAY
        engine.boundary = midnight  # also when a clock was further: what is due today is still to come
        groups: dict[tuple[int, int], Group] = {}
        for index, instrument in enumerate(engine.instruments):
            times = engine.rulebook.session(instrument, day)
            if times is not None:
                key = times.open_ns, times.close_ns
                groups.setdefault(key, Group([], *key)).indexes.append(index)
        self._groups = list(groups.values())
        engine.desk.open_day(day, engine.last_prices())
        for group in self._groups:
            self._plan_session(group, day)
        if self._groups:
            self.next_mark = min(g.open_ns for g in self._groups) + MINUTE
            self._last_mark = max(g.close_ns for g in self._groups) - MINUTE
        for timer in self._timers:
            self._plan_timer(timer)

    def finish(self, at: int | None = None) -> None:
        """Let the day end: by default with its last session close, as if nobody traded again."""
        if self.end >= 0:
            self.pass_until(max((g.close_ns for g in self._groups), default=0) if at is None else at)
            self._groups = []

    def _plan_session(self, group: Group, day: dt.date) -> None:
        desk = self._engine.desk
        self.schedule(group.open_ns, OPEN, lambda ts: self._open(group))
        self.schedule(group.close_ns, SETTLE, lambda ts: self._settle(group, ts))
        self.schedule(group.close_ns, CLOSE, lambda ts: self._close(group, ts))
        if self.bars.base:
            self._plan_bar(group, group.open_ns)
        cuts: dict[tuple[int, int], list[int]] = {}
        for index in group.indexes:
            if "MIS" in desk.products[index]:
                rule = self._engine.rulebook.square_off(self._engine.instruments[index], "MIS", day)
                if rule is not None:
                    cuts.setdefault((rule.entry_cutoff_ns, rule.square_off_ns), []).append(index)
        for (last_entry, leave), indexes in cuts.items():
            stop, square = self._stopping(indexes, "MIS"), self._squaring(indexes, "MIS")
            self.schedule(min(last_entry, group.close_ns), SQUARE_OFF, stop, visible=False)
            self.schedule(min(leave, group.close_ns), SQUARE_OFF, square, visible=False)

    def _stopping(self, indexes: list[int], product: str) -> Callable[[int], None]:
        def stop(ts: int) -> None:
            for index in indexes:
                reason = f"{product} takes no new position after {ist(ts):%H:%M}"
                self._engine.desk.stop_entries(index, product, reason)

        return stop

    def _squaring(self, indexes: list[int], product: str) -> Callable[[int], None]:
        def square(ts: int) -> None:
            for index in indexes:
                self._engine.desk.square_off(index, product, ts)

        return square

    def _open(self, group: Group) -> None:
        self.flush_bars()
        self._engine.set_open(group.indexes, True)

    def _settle(self, group: Group, ts: int) -> None:
        engine = self._engine
        for index in group.indexes:
            for order in engine.desk.settle_unsold(index, "MIS", ts):
                engine.result.notes.append(
                    f"{order.symbol}: no trade came after the square-off of {ist(order.signal.ts):%Y-%m-%d %H:%M}; "
                    "the position was closed at the last price"
                )

    def _close(self, group: Group, ts: int) -> None:
        engine = self._engine
        self.flush_bars()
        engine.set_open(group.indexes, False)
        engine.desk.close_session(group.indexes, ts)
        self.mark(ts)

    # ── marks ────────────────────────────────────────────────────────────────────────────────────────────────────

    def mark_to(self, ts: int) -> None:
        """Take the minute marks due by ``ts``, each at the prices of its own minute."""
        while self.next_mark <= ts:
            due = self.next_mark
            self.next_mark = due + MINUTE if due < self._last_mark else FAR
            self.mark(due, self._engine.prices_before(due))

    def mark(self, ts: int, last: list[int] | None = None) -> None:
        """Value the account, and each strategy's part of it, at ``last`` prices (by default the newest)."""
        engine = self._engine
        last = engine.last_prices() if last is None else last
        earned = tuple(book.equity(last) - book.capital for book in engine.desk.books)
        equity = engine.desk.mark(last)
        engine.result.marks.append(Mark(ts, equity, engine.desk.account.gross, earned))

    # ── bars ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def flush_bars(self) -> None:
        """Put the rows played since the last call into the open bars."""
        engine = self._engine
        block = engine.block
        start, end = max(0, self._barred - block.first), engine.played
        self._barred = block.first + end
        if end > start and self.bars.base:
            rows: Any = slice(start, end)
            if not engine.all_open:
                rows = np.flatnonzero(engine.is_open[block.instrument[rows]]) + start
            volume = None if block.volume is None else block.volume[rows]
            self.bars.add(block.instrument[rows], block.price[rows], volume)

    def _plan_bar(self, group: Group, start: int) -> None:
        end = min(start + self.bars.base, group.close_ns)
        self.schedule(end, BAR, lambda ts: self._close_bar(group, start, ts), visible=self._bars_are_seen)

    def _close_bar(self, group: Group, start: int, end: int) -> None:
        self.flush_bars()
        if end < group.close_ns:
            self._plan_bar(group, end)
        ends = {
            name
            for name, length in self.bars.intervals.items()
            if end == group.close_ns or (end - group.open_ns) % length == 0
        }
        if ends and not self._closed:
            # other sessions may close bars at this instant too: strategies see them all at once
            self.schedule(end, SHOW, self._show_bars, visible=self._bars_are_seen)
        for name, bars in self.bars.close(group.indexes, start, end, group.open_ns, ends).items():
            self.bar_count += len(bars)
            self._closed.setdefault(name, []).extend(bars)

    def _show_bars(self, ts: int) -> None:
        """Indicators of every interval first, then the strategies."""
        closed, self._closed = self._closed, {}
        engine = self._engine
        for name, bars in closed.items():
            for bar in bars:
                for owner, update in engine.host.feeds(bar.symbol, name):
                    engine.callbacks.run(owner, "indicator", update, bar)
        for owner in tuple(engine.bar_owners) if self.warm else ():
            strategy = engine.strategies[owner]
            mine = engine.host.bars_of(owner, closed.get(strategy.bar, []))
            if mine and overrides(strategy, "on_bars"):
                engine.callbacks.run(owner, "on_bars", strategy.on_bars, mine)
            else:
                for bar in mine:
                    engine.callbacks.run(owner, "on_bar", strategy.on_bar, bar)

    # ── timers ───────────────────────────────────────────────────────────────────────────────────────────────────

    def add_timer(self, timer: Timer) -> None:
        """A strategy's new timer; it also applies to what is left of today."""
        self._timers.append(timer)
        self._plan_timer(timer)

    def _plan_timer(self, timer: Timer) -> None:
        """Put a timer's next instant of this day on the agenda, if its symbol trades today."""
        group = next((g for g in self._groups if timer.index in g.indexes), None)
        if group is None:
            return
        _, now = self._engine.position_of()
        if timer.every:
            passed = max(0, now - group.open_ns) // timer.every
            self._plan_repeat(timer, group, group.open_ns + (passed + 1) * timer.every)
            return
        anchor = {"day": self.end - DAY, "open": group.open_ns, "close": group.close_ns}[timer.anchor]
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
        if self.warm:
            callbacks, strategy = self._engine.callbacks, self._engine.strategies[timer.owner]
            if timer.call is not None:
                callbacks.run(timer.owner, timer.name, timer.call)
            else:
                callbacks.run(timer.owner, "on_timer", strategy.on_timer, timer.name)

"""The engine: tape time, lanes, bars, timers, sessions; and that no way of running the same thing changes the result."""

# ruff: noqa: E501 - a table's row stays on its line

from __future__ import annotations

import asyncio
import inspect
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import alphapanda as ap
from alphapanda.blocks import TickBlock
from alphapanda.callbacks import LOG_LINES
from alphapanda.engine import Engine
from alphapanda.errors import AlphaPandaException, RulebookError, ValidationError
from alphapanda.events import MINUTE, Bar, Block, Clock, Fill, Halt, Tick
from alphapanda.exchange import Fills
from alphapanda.instruments import Instrument
from alphapanda.orders import Order
from alphapanda.result import Result, decision_digest
from alphapanda.tapes.tape import Tape
from alphapanda.times import parse_interval
from tests.build import (
    CRORE,
    NIFTY_FUT,
    RULES,
    WIDE,
    Scripted,
    clock,
    denials,
    equity,
    footprint,
    ns,
    play,
    runs,
    same,
    tape_of,
    trades,
)
from tests.chaos import Chaos, random_tape

SEEDS = st.integers(0, 10**9)


def cut(tape: Tape, points: list[int]) -> list[Block]:
    """The tape's one block, cut at these rows."""
    (block,) = tape.blocks(10**9)
    edges = sorted({0, len(block), *(p % len(block) for p in points)})
    names = Block.__struct_fields__[1:]
    columns = [getattr(block, name) for name in names]
    return [
        Block(block.first + low, *[None if c is None else c[low:high] for c in columns])  # pyright: ignore[reportArgumentType] - the first three always exist
        for low, high in pairwise(edges)
    ]


class Boundaries(Chaos):
    """The same chaos without ``on_tick``: bars, timers, fills and orders drive it through the sparse lane."""

    on_tick = ap.Strategy.on_tick


class Wave(ap.Strategy):
    """A causal strategy on prices alone: trades every third tick of a symbol, in the direction of its last step."""

    kinds: int = ap.Param(3)

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.seen: Counter[str] = Counter()
        self.before: dict[str, float] = {}

    def decide(self, symbol: str, price: float, at: int | None) -> None:
        """Called at every tick, in both lanes."""
        self.seen[symbol] += 1
        up = price >= self.before.get(symbol, price)
        self.before[symbol] = price
        count = self.seen[symbol]
        if count % 3 == 0:
            go = self.buy if up else self.sell
            kind = count // 3 % self.kinds
            near = self.round_price(symbol, price - 0.1 if up else price + 0.1)
            far = self.round_price(symbol, price + 0.3 if up else price - 0.3)
            if kind == 0:
                go(symbol, 1 + count % 7, at=at)
            elif kind == 1:
                go(symbol, 3, limit=near, validity="TTL", ttl="30s", at=at)
            else:
                go(symbol, 2, sl=near, tp=far, at=at)


class TickWave(Wave):
    """Tick lane."""

    def on_tick(self, tick: Tick) -> None:
        self.decide(tick.symbol, tick.price, None)


class BlockWave(Wave):
    """Block lane."""

    def on_ticks(self, block: TickBlock) -> None:
        symbols = [block.symbols[code] for code in block.code]
        for row, (symbol, price) in enumerate(zip(symbols, block.price.tolist(), strict=True)):
            self.decide(symbol, price, row)


# ── cutting the tape changes nothing ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", [Chaos, Boundaries])
@runs(25)
@given(seed=SEEDS, points=st.lists(st.integers(0, 10**6), max_size=12), size=st.integers(1, 60))
def test_blocks_may_be_cut_anywhere(kind: type[Chaos], seed: int, points: list[int], size: int) -> None:
    """Orders, fills, marks, bars, what callbacks saw and the digest are those of one block, for any cut of the tape."""
    draw = random.Random(seed)
    tape = random_tape(seed, draw.randrange(20, 160), quotes=draw.random() < 0.5, days=draw.choice((1, 2)))
    count = draw.choice((1, 2))
    runs: list[tuple[Result, list[Any]]] = []
    for blocks in (None, cut(tape, points), tape.blocks(size)):
        strategies = [kind(name=f"chaos{n}", seed=seed + n) for n in range(count)]
        runs.append((play(strategies, tape, blocks=blocks), [s.lines for s in strategies]))
    for result, lines in runs[1:]:
        same(runs[0][0], result)
        assert runs[0][1] == lines
    assert not runs[0][0].errors, runs[0][0].errors[0].traceback


@runs(25)
@given(seed=SEEDS, points=st.lists(st.integers(0, 10**6), max_size=12))
def test_block_lane_is_tick_lane(seed: int, points: list[int]) -> None:
    """The same causal strategy decides and fills the same as ``on_tick`` and as ``on_ticks``, however blocks are cut."""
    tape = random_tape(seed, 150, quotes=seed % 2 == 0, days=1 + seed % 2)
    tick, block, cut_up = (
        play(kind(name="wave"), tape, blocks=blocks)
        for kind, blocks in ((TickWave, None), (BlockWave, None), (BlockWave, cut(tape, points)))
    )
    same(tick, block)
    same(block, cut_up)


@runs(15)
@given(seed=SEEDS)
def test_a_tick_strategy_beside_it_does_not_change_a_bar_strategy(seed: int) -> None:
    """Sparse lane = dense lane: an idle ``on_tick`` of somebody else decides nothing for anyone."""
    tape = random_tape(seed, 150, quotes=seed % 2 == 0)
    alone = Boundaries(name="bars", seed=seed)
    watched = Boundaries(name="bars", seed=seed)
    one = play(alone, tape, capital=CRORE)
    two = play([watched, Idle(name="idle")], tape, capital=2 * CRORE)
    assert alone.lines == watched.lines
    assert footprint(one)["orders"] == footprint(two)["orders"]
    assert footprint(one)["fills"] == footprint(two)["fills"]
    assert decision_digest(one) == decision_digest(two)


class Idle(ap.Strategy):
    """Wants every tick and does nothing."""

    def on_tick(self, tick: Tick) -> None:
        """Nothing."""


@runs(15)
@given(seed=SEEDS)
def test_strategies_decide_the_same_alone_and_together(seed: int) -> None:
    """With wide limits and unlimited volume no strategy feels another: same orders, same fills."""
    tape = random_tape(seed, 120, volume=False)
    kinds: list[tuple[type[ap.Strategy], dict[str, Any]]] = [
        (Chaos, {"seed": seed}), (Boundaries, {"seed": seed + 1}), (BlockWave, {}), (TickWave, {"kinds": 2}),
    ]  # fmt: skip
    made = [kind(name=f"s{n}", product="CNC", **values) for n, (kind, values) in enumerate(kinds)]
    together = footprint(play(made, tape, capital=4 * CRORE))
    for n, (kind, values) in enumerate(kinds):
        alone = footprint(play(kind(name=f"s{n}", product="CNC", **values), tape))
        assert [(*o[:1], *o[2:]) for o in alone["orders"]] == [
            (*o[:1], *o[2:]) for o in together["orders"] if o[1] == n
        ]
        assert alone["fills"] == [f for f in together["fills"] if f[0].startswith(f"s{n}:")]


def test_reading_equity_inside_on_ticks_changes_nothing_else() -> None:
    """Whoever looks at prices in the middle of a block must not move other people's books, marks or references."""

    class Looks(BlockWave):
        def on_ticks(self, block: TickBlock) -> None:
            super().on_ticks(block)
            _ = self.equity, self.account.equity, self.last_price("TCS")

    tape = random_tape(11, 200)
    plain, looked = play(BlockWave(name="w"), tape), play(Looks(name="w"), tape)
    same(plain, looked)


def test_order_target_in_a_block_counts_what_the_block_already_decided() -> None:
    """Tick lane and block lane agree on targets too: two rows that want 10 hold 10, not 20."""

    class Ticks(ap.Strategy):
        def on_tick(self, tick: Tick) -> None:
            self.order_target("INFY", 10)

    class Blocks(ap.Strategy):
        def on_ticks(self, block: TickBlock) -> None:
            for row in range(len(block)):
                self.order_target("INFY", 10, at=row)

    tape = tape_of([(f"09:15:0{n}", "INFY", 100.0) for n in range(1, 7)])
    results = [play(kind(product="CNC", name="t"), tape) for kind in (Ticks, Blocks)]
    assert [[p[3] for p in r.positions] for r in results] == [[10], [10]]


# ── an order never fills on the event that caused it ─────────────────────────────────────────────────────────────────


class From(ap.Strategy):
    """Buys once, from the callback of this name; every tick of the tape has the same time."""

    origin: str = ap.Param("on_tick")

    def on_start(self) -> None:
        self.sent: list[Order] = []
        self.ticks = 0
        self.at("09:16", "noon")

    def go(self, origin: str) -> None:
        """Buy the one order, when called from where it should come from."""
        if origin == self.origin and not self.sent:
            self.sent.append(self.buy("INFY", 5, tag="late"))

    def on_tick(self, tick: Tick) -> None:
        self.ticks += 1
        if self.ticks == 1 and self.origin in ("on_fill", "on_order"):
            self.buy("INFY", 1, tag="first")
        if self.ticks == 2:
            self.go("on_tick")

    def on_bar(self, bar: Bar) -> None:
        self.go("on_bar")

    def on_timer(self, name: str) -> None:
        self.go("on_timer")

    def on_fill(self, fill: Fill) -> None:
        self.go("on_fill")

    def on_order(self, order: Order) -> None:
        self.go("on_order")


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize("origin", ["on_tick", "on_fill", "on_order", "on_bar", "on_timer"])
def test_an_order_never_fills_on_the_event_that_caused_it(origin: str, size: int) -> None:
    rows: list[Any] = [("09:15:30", "INFY", 100.0 + n) for n in range(6)]
    rows += [("09:16:00", "INFY", 200.0 + n) for n in range(4)]
    result = play(From(origin=origin, product="CNC"), tape_of(rows), size=size)
    late = [f for f in result.fills if f.tag == "late"]
    expected = {"on_tick": 102.0, "on_fill": 102.0, "on_order": 102.0, "on_bar": 200.0, "on_timer": 200.0}[
        origin
    ]
    assert [f.price for f in late] == [expected]
    assert result.errors == []


def test_a_block_strategys_order_fills_after_its_row() -> None:
    class At(ap.Strategy):
        def on_ticks(self, block: TickBlock) -> None:
            self.buy("INFY", 1, at=1)

    result = play(At(product="CNC"), tape_of([("09:15:01", "INFY", 100.0 + n) for n in range(5)]))
    assert trades(result) == [("09:15:01", 1, 102.0)]


@runs(20)
@given(seed=SEEDS)
def test_chaos_never_fills_early(seed: int) -> None:
    """Not an exit, not an order of a fill's own callback: the venue sees an order at its time or later."""
    result = play(Chaos(seed=seed), random_tape(seed, 200), fills=Fills(latency_ms=seed % 3 * 400))
    active = {o.id: o for o in result.orders}
    for fill in result.fills:
        if fill.leg != "square-off":
            assert fill.ts >= active[fill.order_id].active_ts
            assert fill.seq >= fill.signal.seq
            if fill.leg:
                assert fill.ts >= active[active[fill.order_id].parent_id].signal.ts


# ── bars ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Bars(ap.Strategy):
    """Keeps its bars with the time it got them."""

    def on_start(self) -> None:
        self.bars: list[Bar] = []
        self.times: list[str] = []

    def on_bar(self, bar: Bar) -> None:
        self.bars.append(bar)
        self.times.append(f"{self.now:%H:%M:%S}")


@pytest.mark.parametrize("interval", ["30s", "1m", "5m", "7m", "1h", "1d"])
@runs(6)
@given(seed=SEEDS)
def test_bars_are_those_of_a_plain_group_by(interval: str, seed: int) -> None:
    """Open, high, low, close, volume, start and end, for random ticks of random times, cut at the session's close."""
    tape = random_tape(seed, 300, days=2)
    strategy = Bars(bar=interval)
    result = play(strategy, tape, size=1 + seed % 90)
    length = parse_interval(interval)
    rows: list[dict[str, Any]] = []
    for row in tape.frame().with_columns(ns=pl.col("ts").dt.epoch("ns")).iter_rows(named=True):
        day = f"{row['ts']:%Y-%m-%d}"
        opened, closed = ns("09:15:00", day), ns("15:30:00", day)
        if opened <= row["ns"] < closed:
            start = opened + (row["ns"] - opened) // length * length
            end = min(start + length, closed)
            minute = -(-(end - opened) // MINUTE)
            rows.append(row | {"start": start, "end": end, "minute": minute})
    keys = ["symbol", "start", "end", "minute"]
    shape = {"symbol": pl.String, "start": pl.Int64, "end": pl.Int64, "minute": pl.Int64}
    frame = pl.DataFrame([{**r, "symbol": str(r["symbol"])} for r in rows], schema_overrides=shape)
    expected = [] if frame.is_empty() else (
        frame.group_by(keys, maintain_order=True)
        .agg(open=pl.first("price"), high=pl.max("price"), low=pl.min("price"), close=pl.last("price"), volume=pl.sum("volume"))
        .sort("end", "symbol").rows()
    )  # fmt: skip
    got = sorted(
        (
            (b.symbol, b.start, b.ts, b.minute, b.open, b.high, b.low, b.close, b.volume)
            for b in strategy.bars
        ),
        key=lambda b: (b[2], b[0]),
    )
    assert got == expected
    assert [clock(b.ts)[:8] for b in strategy.bars] == strategy.times
    assert result.counts["bars"] == len(expected)


def test_a_bar_closes_on_time_though_its_instrument_went_silent() -> None:
    """Tape time closes bars: another instrument's tick is enough, and the day's end closes the rest."""
    rows = [("09:15:10", "INFY", 100.0, 5), ("09:15:50", "INFY", 101.0, 7), ("09:31:00", "TCS", 50.0, 1)]
    strategy = Bars(bar="5m")
    play(strategy, tape_of(rows))
    assert [(b.symbol, clock(b.ts), b.close, b.volume, b.minute) for b in strategy.bars] == [
        ("NSE:INFY", "09:20:00", 101.0, 12, 5), ("NSE:TCS", "09:35:00", 50.0, 1, 20),
    ]  # fmt: skip
    assert strategy.times == ["09:20:00", "09:35:00"]


def test_the_last_bar_of_the_day_is_cut_at_the_close_and_empty_intervals_have_no_bar() -> None:
    rows = [
        ("09:15:00", "INFY", 100.0, 1),
        ("15:29:59.999", "INFY", 103.0, 2),
        ("15:30:00", "INFY", 999.0, 9),
    ]
    strategy = Bars(bar="1h")
    result = play(strategy, tape_of(rows))
    assert [(clock(b.start), clock(b.ts), b.close, b.minute) for b in strategy.bars] == [
        ("09:15:00", "10:15:00", 100.0, 60), ("15:15:00", "15:30:00", 103.0, 375),
    ]  # fmt: skip
    assert result.counts["ticks outside session"] == 1


def test_on_bars_is_one_call_an_instant_in_the_order_of_symbols() -> None:
    class Cross(ap.Strategy):
        symbols = ("TCS", "INFY")
        bar = "1m"

        def on_start(self) -> None:
            self.calls: list[list[str]] = []

        def on_bars(self, bars: list[Bar]) -> None:
            self.calls.append([b.symbol for b in bars])

    strategy = Cross()
    rows = [("09:15:01", "INFY", 100.0), ("09:15:02", "TCS", 50.0), ("09:16:02", "INFY", 50.0)]
    play(strategy, tape_of(rows, equity("INFY"), equity("TCS")))
    assert strategy.calls == [["NSE:TCS", "NSE:INFY"], ["NSE:INFY"]]


def test_on_bars_is_one_call_an_instant_across_sessions() -> None:
    """On 3 Aug 2026 a stock and its derivative close apart; their bars of one instant still come together."""

    class Cross(ap.Strategy):
        bar = "5m"

        def on_start(self) -> None:
            self.calls: list[tuple[str, int]] = []

        def on_bars(self, bars: list[Bar]) -> None:
            self.calls.append((f"{self.now:%H:%M}", len(bars)))

    strategy = Cross()
    future = Instrument(symbol="NFO:INFY26AUGFUT", exchange="NFO", kind="FUT", name="INFY", lot_size=400)
    rows = [("09:15:01", "INFY", 100.0), ("09:15:02", "INFY26AUGFUT", 100.0)]
    play(strategy, tape_of(rows, equity("INFY", in_fo=True), future, day="2026-08-03"))
    assert strategy.calls == [("09:20", 2)]


def test_several_intervals_are_folded_from_one_builder() -> None:
    """Indicators on 3m beside bars of 2m: each sees its own interval, fed before ``on_bar``."""

    class Both(ap.Strategy):
        bar = "2m"

        def on_start(self) -> None:
            self.fed = self.indicator("INFY", Seen(), bar="3m", name="three")
            self.own = self.indicator("INFY", Seen(), name="own")
            self.lengths: list[tuple[int, int]] = []

        def on_bar(self, bar: Bar) -> None:
            self.lengths.append((len(self.own.values), len(self.ind("INFY", "three").values)))

    strategy = Both()
    play(strategy, tape_of([(f"09:{15 + n}:30", "INFY", 100.0 + n) for n in range(12)]))
    assert strategy.own.values == [101.0, 103.0, 105.0, 107.0, 109.0, 111.0]
    assert strategy.fed.values == [102.0, 105.0, 108.0, 111.0]
    assert strategy.lengths == [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (6, 4)]


class Seen:
    """Any class with ``update(x)`` is an indicator."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def update(self, value: float) -> None:
        """Keep it."""
        self.values.append(value)


# ── timers ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Timers(ap.Strategy):
    """Writes down when each timer rings."""

    wanted: tuple[tuple[str, str], ...] = ()

    def on_start(self) -> None:
        self.rang: list[str] = []
        for how, when in type(self).wanted or self.wanted:
            (self.at if how == "at" else self.every)(when, when)

    def on_timer(self, name: str) -> None:
        self.rang.append(f"{name} {self.now:%d %H:%M:%S}")

    def on_tick(self, tick: Tick) -> None:
        self.rang.append(f"tick {self.now:%d %H:%M:%S}")


def timers(*wanted: tuple[str, str]) -> Timers:
    """A strategy with these timers."""
    strategy = Timers()
    strategy.wanted = wanted
    return strategy


@pytest.mark.parametrize(
    ("when", "due"),
    [
        ("09:15", "09:15:00"), ("10:00", "10:00:00"), ("10:00:30", "10:00:30"), ("open", "09:15:00"),
        ("open+90s", "09:16:30"), ("close-20m", "15:10:00"), ("close", "15:30:00"), ("9:45", "09:45:00"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("first", ["09:00:00", "09:15:00", "09:15:07"])
def test_at_rings_once_a_day_at_its_exchange_time(when: str, due: str, first: str) -> None:
    """Whatever the first tick's time: a day whose first trade comes at 09:15:07 still had a 09:15."""
    rows = [(f"2026-11-20 {first}", "INFY", 1.0), (f"2026-11-23 {first}", "INFY", 1.0)]
    strategy = timers(("at", when))
    play(strategy, tape_of(rows))
    assert [r for r in strategy.rang if not r.startswith("tick")] == [f"{when} 20 {due}", f"{when} 23 {due}"]


def test_every_counts_from_the_open_to_the_close_and_starts_again_each_day() -> None:
    strategy = timers(("every", "2h"))
    play(strategy, tape_of([("2026-11-20 09:15:01", "INFY", 1.0), ("2026-11-23 11:15:00", "INFY", 1.0)]))
    hours = ["11:15:00", "13:15:00", "15:15:00"]
    assert [r for r in strategy.rang if "2h" in r] == [
        f"2h {day} {hour}" for day in (20, 23) for hour in hours
    ]
    assert strategy.rang.index("2h 23 11:15:00") < strategy.rang.index("tick 23 11:15:00")


def test_at_one_instant_bars_then_timers_then_ticks() -> None:
    """And timers of one instant in the order they were set."""

    class All(Timers):
        def on_bar(self, bar: Bar) -> None:
            self.rang.append(f"bar {self.now:%d %H:%M:%S}")

    strategy = All()
    strategy.wanted = (("at", "09:16"), ("at", "open+1m"), ("every", "1m"))
    play(strategy, tape_of([("09:15:01", "INFY", 1.0), ("09:16:00", "INFY", 1.0)]))
    assert [r.split()[0] for r in strategy.rang if r.endswith("09:16:00")] == [
        "bar",
        "09:16",
        "open+1m",
        "1m",
        "tick",
    ]


@pytest.mark.parametrize("size", [1, 2, 100])
@pytest.mark.parametrize("after", ["on_tick", "on_timer", "on_bar", "on_fill"])
def test_a_timer_set_in_a_callback_rings_exactly_on_time(after: str, size: int) -> None:
    """Also when its time falls inside the block that is being played, between two ticks or on one."""

    class Adds(ap.Strategy):
        def on_start(self) -> None:
            self.rang: list[str] = []
            self.added = False
            self.at("09:16", "start")

        def add(self, origin: str) -> None:
            if origin == after and not self.added:
                self.added = True
                self.at("09:17:30", lambda: self.rang.append(f"now {self.now:%H:%M:%S}"))
                self.at("09:18", lambda: self.rang.append(f"now {self.now:%H:%M:%S}"))

        def on_tick(self, tick: Tick) -> None:
            self.rang.append(f"tick {clock(tick.ts)}")
            if not self.added and tick.price == 1.0:
                self.buy("INFY", 1)
            if tick.price == 2.0:
                self.add("on_tick")

        def on_bar(self, bar: Bar) -> None:
            self.add("on_bar")

        def on_fill(self, fill: Fill) -> None:
            self.add("on_fill")

        def on_timer(self, name: str) -> None:
            self.add("on_timer")

    strategy = Adds()
    rows = [
        ("09:15:10", "INFY", 1.0),
        ("09:15:20", "INFY", 2.0),
        ("09:17:20", "INFY", 3.0),
        ("09:17:40", "TCS", 3.0),
    ]
    rows += [("09:18:00", "INFY", 4.0), ("09:18:00", "TCS", 5.0)]
    result = play(strategy, tape_of(rows), size=size)
    assert strategy.rang[2:] == [
        "tick 09:17:20", "now 09:17:30", "tick 09:17:40", "now 09:18:00", "tick 09:18:00", "tick 09:18:00",
    ]  # fmt: skip
    assert result.errors == []


def test_a_timer_for_a_time_that_has_passed_waits_for_the_next_day() -> None:
    class Late(Timers):
        def on_tick(self, tick: Tick) -> None:
            if not self.rang:
                self.rang.append("set")
                self.at("09:20", "late")

    strategy = Late()
    play(strategy, tape_of([("2026-11-20 09:30:00", "INFY", 1.0), ("2026-11-23 10:30:00", "INFY", 1.0)]))
    assert strategy.rang == ["set", "late 23 09:20:00"]


def test_the_order_a_timer_sends_sees_the_price_of_its_time() -> None:
    class Buys(ap.Strategy):
        def on_start(self) -> None:
            self.at("09:16", lambda: self.buy("INFY", 1))

    result = play(Buys(), tape_of([("09:15:01", "INFY", 100.0), ("09:20:00", "INFY", 120.0)]))
    assert result.orders[0].signal.reference == 100_00
    assert clock(result.orders[0].signal.ts) == "09:16:00"
    assert trades(result)[0] == ("09:20:00", 1, 120.0)


def test_a_clock_event_moves_tape_time_without_a_tick() -> None:
    """A heartbeat closes bars and rings timers; the next block goes on from there."""
    strategy = timers(("at", "09:20"))
    (first, second) = tape_of([("09:15:01", "INFY", 1.0), ("09:25:00", "INFY", 1.0)]).blocks(1)
    engine = Engine([strategy], (equity("INFY"),), capital=CRORE, rulebook=RULES)
    engine.step(first)
    engine.step(Clock(ns("09:19:59")))
    assert strategy.rang == ["tick 20 09:15:01"]
    engine.step(Clock(ns("09:21:00")))
    assert strategy.rang[1:] == ["09:20 20 09:20:00"]
    engine.step(second)
    engine.finish()
    assert strategy.rang[2:] == ["tick 20 09:25:00"]


# ── sessions, days, products ─────────────────────────────────────────────────────────────────────────────────────────


def test_only_ticks_of_the_continuous_session_are_delivered_and_the_others_counted() -> None:
    """Pre-open, post-close and holiday ticks reach no callback, no bar and no fill; they are still the last price."""
    times = [
        "2026-11-20 09:08:00",
        "2026-11-20 09:14:59.999",
        "2026-11-20 09:15:00",
        "2026-11-20 15:29:59.999",
    ]
    times += ["2026-11-20 15:30:00", "2026-11-20 15:45:00", "2026-11-24 10:00:00", "2026-11-22 10:00:00"]
    times += ["2026-11-23 10:00:00"]
    strategy = timers(("at", "10:00"))
    result = play(strategy, tape_of([(t, "INFY", 100.0 + n) for n, t in enumerate(times)]))
    assert [r for r in strategy.rang if r.startswith("tick")] == [
        "tick 20 09:15:00",
        "tick 20 15:29:59",
        "tick 23 10:00:00",
    ]
    assert [r for r in strategy.rang if r.startswith("10")] == ["10:00 20 10:00:00", "10:00 23 10:00:00"]
    assert result.counts["ticks outside session"] == 6
    assert result.counts["ticks"] == 9


@pytest.mark.parametrize("size", [100, 8_192, 65_536])
@pytest.mark.parametrize("kind", [Idle, Bars])
def test_ticks_outside_the_session_are_counted_once_however_many(size: int, kind: type[ap.Strategy]) -> None:
    rows = 20_000
    ts = ns("09:05:00") + np.arange(rows, dtype=np.int64) * 1_000_000
    ts[-1] = ns("09:15:01")
    tape = Tape([equity("INFY")], ts=ts, price=np.full(rows, 100_00, np.int64))
    assert play(kind(), tape, size=size).counts["ticks outside session"] == rows - 1


def test_no_order_passes_outside_the_session() -> None:
    class Tries(ap.Strategy):
        def on_start(self) -> None:
            for when in ("09:10", "15:30", "15:40"):
                self.at(when, lambda: self.buy("INFY", 1))

    rows = [(f"{h}:00", "INFY", 100.0) for h in ("09:05", "09:20", "15:29", "15:41", "15:50")]
    result = play(Tries(product="CNC"), tape_of(rows))
    assert [(clock(o.signal.ts), o.status) for o in result.orders] == [
        ("09:10:00", "denied"), ("15:30:00", "expired"), ("15:40:00", "denied"),
    ]  # fmt: skip
    assert denials(result) == ["segment: NSE is not in its continuous session"] * 2


def test_a_stock_with_derivatives_and_its_derivative_keep_their_own_close() -> None:
    """3 Aug 2026: the share stops at 15:15 for its auction, the future trades until 15:40, in one run."""
    future = Instrument(symbol="NFO:INFY26AUGFUT", exchange="NFO", kind="FUT", name="INFY", lot_size=400)
    share = equity("INFY", in_fo=True)
    times = ["15:14:59", "15:15:00", "15:39:59", "15:40:00"]
    rows = [(t, s, 100.0) for t in times for s in ("INFY", "INFY26AUGFUT")]

    class Both(Timers):
        bar = "5m"

        def on_bar(self, bar: Bar) -> None:
            self.rang.append(f"bar {bar.symbol} {clock(bar.ts)}")

        def on_tick(self, tick: Tick) -> None:
            self.rang.append(f"{tick.symbol} {clock(tick.ts)}")

    strategy = Both(symbols=["NSE:INFY", "NFO:INFY26AUGFUT"])
    strategy.wanted = (("at", "close-5m"),)
    result = play(strategy, tape_of(rows, share, future, day="2026-08-03"))
    assert strategy.rang == [
        "close-5m 03 15:10:00",  # a timer follows the strategy's first symbol
        "NSE:INFY 15:14:59", "NFO:INFY26AUGFUT 15:14:59", "bar NSE:INFY 15:15:00", "bar NFO:INFY26AUGFUT 15:15:00",
        "NFO:INFY26AUGFUT 15:15:00", "bar NFO:INFY26AUGFUT 15:20:00", "NFO:INFY26AUGFUT 15:39:59",
        "bar NFO:INFY26AUGFUT 15:40:00",
    ]  # fmt: skip
    assert result.counts["ticks outside session"] == 4  # the share's last three, the future's last


def test_intraday_positions_are_squared_off_by_the_broker_at_its_time_and_fee() -> None:
    """MIS: entries stop and what works is cancelled at 15:20, the position goes at market on the next tick, for a fee."""
    rows = [("09:15:01", "INFY", 100.0), ("09:15:02", "INFY", 100.0), ("15:19:59", "INFY", 105.0)]
    rows += [("15:20:00", "INFY", 106.0), ("15:20:01", "INFY", 107.0), ("15:20:02", "INFY", 108.0)]
    script = {
        "09:15:01": lambda s: s.buy("INFY", 10),
        "15:19:59": lambda s: s.buy("INFY", 1, limit=90.0),
        "15:20:01": lambda s: s.buy("INFY", 1),
    }
    result = play(Scripted(script), tape_of(rows))
    assert trades(result) == [("09:15:02", 10, 100.0), ("15:20:00", -10, 106.0)]
    assert [(o.status, o.reason) for o in result.orders[1:]] == [
        ("cancelled", "MIS square-off"), ("filled", ""), ("denied", "product: MIS takes no new position after 15:20"),
    ]  # fmt: skip
    assert result.fills[1].leg == "square-off"
    assert result.fills[1].charges[-1] == 50_00
    assert result.notes == []
    assert result.positions == []


@pytest.mark.parametrize(("product", "left"), [("MIS", []), ("CNC", [10])])
def test_a_square_off_that_finds_no_trade_settles_at_the_close_and_says_so(
    product: str, left: list[int]
) -> None:
    rows = [("09:15:01", "INFY", 100.0), ("09:15:02", "INFY", 101.0), ("15:25:00", "TCS", 50.0)]
    result = play(Scripted({"09:15:01": lambda s: s.buy("INFY", 10)}, product=product), tape_of(rows))
    assert [p[3] for p in result.positions] == left
    if product == "MIS":
        assert trades(result)[1] == ("15:30:00", -10, 101.0)
        assert "no trade came after the square-off" in result.notes[0]


def test_delivery_and_normal_positions_are_carried_overnight() -> None:
    rows = [
        (f"2026-11-{d} 10:00:0{n}", s, 100.0)
        for d in (20, 23)
        for n in range(3)
        for s in ("INFY", "NIFTY26NOVFUT")
    ]

    class Holds(ap.Strategy):
        def on_start(self) -> None:
            self.held: list[tuple[int, int]] = []

        def on_tick(self, tick: Tick) -> None:
            if tick.ts == ns("2026-11-20 10:00:00"):
                if tick.symbol == "NSE:INFY":
                    self.buy("INFY", 10, product="CNC")
                else:
                    self.sell("NIFTY26NOVFUT", lots=1, product="NRML")
            self.held.append((self.position("INFY").quantity, self.position("NIFTY26NOVFUT").quantity))

    strategy = Holds()
    result = play(strategy, tape_of(rows, equity("INFY"), NIFTY_FUT))
    assert strategy.held[-1] == (10, -65)
    assert sorted(p[1:4] for p in result.positions) == [
        ("NFO:NIFTY26NOVFUT", "NRML", -65),
        ("NSE:INFY", "CNC", 10),
    ]
    assert len(result.fills) == 2


def test_an_exit_of_its_own_at_the_square_off_does_not_turn_the_position_over() -> None:
    """A strategy that answers the broker's cancel with its own exit must not end up short (F24)."""

    class Panics(ap.Strategy):
        def on_tick(self, tick: Tick) -> None:
            if clock(tick.ts) == "09:15:01":
                self.buy("INFY", 10, sl=90.0)

        def on_order(self, order: Order) -> None:
            if order.status == "cancelled" and self.position("INFY").quantity > 0:
                self.sell("INFY", 10)

    rows = [(f"09:15:0{n}", "INFY", 100.0) for n in (1, 2, 3)] + [
        (f"15:2{n}:00", "INFY", 100.0) for n in range(1, 9)
    ]
    result = play(Panics(), tape_of(rows))
    assert min(f.position for f in result.fills) >= 0
    assert result.positions == []


def test_cancelling_everything_when_the_broker_cancels_one_breaks_nothing() -> None:
    """``cancel_all`` from ``on_order``, while square-off or the close walks the same orders."""

    class Sweeps(ap.Strategy):
        def on_tick(self, tick: Tick) -> None:
            if clock(tick.ts) in ("09:15:01", "15:25:00"):
                for n in range(3):
                    self.buy("INFY", 1 + n, limit=90.0, product="MIS" if tick.price == 100.0 else "CNC")

        def on_order(self, order: Order) -> None:
            if order.status in ("cancelled", "expired"):
                self.cancel_all()

    result = play(Sweeps(), tape_of([("09:15:01", "INFY", 100.0), ("15:25:00", "INFY", 101.0)]))
    assert Counter(o.status for o in result.orders) == {"cancelled": 5, "expired": 1}
    assert result.errors == []


def test_a_day_outside_the_rulebook_stops_the_run_with_its_name() -> None:
    with pytest.raises(RulebookError, match="2031-01-06 is outside the rulebook") as caught:
        play(Idle(), tape_of([("2031-01-06 10:00:00", "INFY", 100.0)]))
    assert caught.value.fix


# ── warm-up and history ──────────────────────────────────────────────────────────────────────────────────────────────

WARM_DAYS = ["2026-11-18", "2026-11-19", "2026-11-20", "2026-11-23", "2026-11-25"]


class Warm(ap.Strategy):
    """Everything that could call it, and what it knew at each call; into the log, for a backtest runs a copy."""

    bar = "1m"

    def on_start(self) -> None:
        self.average = self.indicator("INFY", ap.SMA(3), name="sma")
        self.at("09:15", "nine")

    def note(self, what: str) -> None:
        """One line a call."""
        self.log(
            f"{what} {self.now:%m-%d %H:%M}", ready=self.average.ready, bars=len(self.history("INFY", 99))
        )

    def on_tick(self, tick: Tick) -> None:
        self.note("tick")

    def on_bar(self, bar: Bar) -> None:
        self.note("bar")

    def on_timer(self, name: str) -> None:
        self.note("timer")


@pytest.mark.parametrize(
    ("asked", "first", "bars"),
    [
        ({"start": "2026-11-19"}, "11-19", 4), ({"start": "2026-11-20"}, "11-20", 8), ({"start": "2026-11-23"}, "11-23", 12),
        ({"start": "2026-11-21"}, "11-23", 12), ({"warmup": "1d"}, "11-19", 4), ({"warmup": "2d"}, "11-20", 8),
        ({"warmup": "3d"}, "11-23", 12), ({"warmup": "4d"}, "11-25", 16),
    ],
)  # fmt: skip
def test_warm_up_days_feed_indicators_and_history_but_no_callback(
    asked: dict[str, str], first: str, bars: int
) -> None:
    """The strategy's life begins on the first day to trade, however many days and weekends come before."""
    tape = tape_of([(f"{d} 09:{15 + n}:10", "INFY", 100.0 + n) for d in WARM_DAYS for n in range(4)])
    logs = ap.backtest(Warm(warmup=asked.get("warmup", "")), tape, start=asked.get("start")).result.logs
    assert logs, "nothing was ever called"
    assert logs[0].message == f"timer {first} 09:15"
    assert logs[0].fields == {"ready": True, "bars": bars}


def test_warm_up_minutes_end_inside_the_day() -> None:
    tape = tape_of([(f"09:{15 + n}:10", "INFY", 100.0 + n) for n in range(40)])
    logs = ap.backtest(Warm(warmup="30m"), tape).result.logs
    assert logs[0].message in ("bar 11-20 09:45", "tick 11-20 09:45")
    assert logs[0].fields == {"ready": True, "bars": 30}


def test_data_shorter_than_the_warm_up_is_traded_cold_and_noted() -> None:
    report = ap.backtest(Warm(warmup="3d"), tape_of([("09:15:10", "INFY", 100.0)]))
    assert report.result.logs
    assert any("not longer than the warm-up" in note for note in report.result.notes)


@runs(15)
@given(seed=SEEDS)
def test_history_never_passes_the_clock(seed: int) -> None:
    """Every bar of every answer had ended by then, oldest first, at most n, and of the symbol asked for."""

    class Looks(ap.Strategy):
        bar = "1m"

        def on_start(self) -> None:
            self.looked = 0

        def look(self, symbol: str) -> None:
            frame = self.history(symbol, 5)
            assert len(frame) <= 5
            stamps = frame["ts"].to_list()
            assert stamps == sorted(stamps)
            assert all(stamp <= self.now for stamp in stamps)
            assert set(frame["symbol"]) <= {symbol}
            self.looked += 1

        def on_tick(self, tick: Tick) -> None:
            self.look(tick.symbol)

        def on_bar(self, bar: Bar) -> None:
            self.look(bar.symbol)
            assert self.history(bar.symbol, 1)["close"].to_list() == [bar.close]

    strategy = Looks()
    result = play(strategy, random_tape(seed, 60), size=1 + seed % 50)
    assert result.errors == []
    assert strategy.looked or not result.counts["bars"]


# ── start, stop and failure ──────────────────────────────────────────────────────────────────────────────────────────


def test_start_and_stop_are_called_once_around_everything() -> None:
    class Life(Scripted):
        def on_start(self) -> None:
            self.did.append("start")

        def on_stop(self) -> None:
            self.did.append(f"stop {self.now:%H:%M}")

        def on_tick(self, tick: Tick) -> None:
            self.did.append("tick")

    strategy = Life()
    play(
        strategy,
        tape_of([("2026-11-20 09:15:01", "INFY", 1.0), ("2026-11-23 09:15:01", "INFY", 1.0)]),
        size=1,
    )
    assert strategy.did == ["start", "tick", "tick", "stop 15:30"]


class Breaks(ap.Strategy):
    """Raises in the callback of this name, at the third chance; counts every call it gets."""

    where: str = ap.Param("on_tick")
    bar = "1m"

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.calls: list[str] = []

    def called(self, name: str) -> None:
        """One more call; the third of the chosen name fails."""
        self.calls.append(name)
        if name == self.where and self.calls.count(name) == (1 if name in ("on_start", "on_stop") else 3):
            raise ZeroDivisionError("broken on purpose")

    def on_start(self) -> None:
        self.called("on_start")
        self.every("1m", "tock")
        self.every("1m", self.ring)
        self.indicator("INFY", Bad(self), name="bad")

    def on_tick(self, tick: Tick) -> None:
        self.called("on_tick")
        if len(self.calls) < 40:
            self.buy("INFY", 1, limit=200.0)
            self.buy("INFY", 1, limit=50.0)

    def on_bar(self, bar: Bar) -> None:
        self.called("on_bar")

    def on_timer(self, name: str) -> None:
        self.called("on_timer")

    def ring(self) -> None:
        """A timer of its own function."""
        self.called("ring")

    def on_order(self, order: Order) -> None:
        self.called("on_order")

    def on_fill(self, fill: Fill) -> None:
        self.called("on_fill")

    def on_stop(self) -> None:
        self.called("on_stop")


class BreaksBlocks(Breaks):
    """The same, on whole blocks and cross-sections."""

    on_tick = ap.Strategy.on_tick
    on_bar = ap.Strategy.on_bar

    def on_ticks(self, block: TickBlock) -> None:
        self.called("on_ticks")
        self.buy("INFY", 1, at=0)

    def on_bars(self, bars: list[Bar]) -> None:
        self.called("on_bars")


class Bad:
    """An indicator that raises when its strategy should."""

    def __init__(self, owner: Breaks) -> None:
        self.owner = owner

    def update(self, value: float) -> None:
        """Fails with its owner."""
        self.owner.called("indicator")


EVERYWHERE = [
    "on_start",
    "on_tick",
    "on_bar",
    "on_timer",
    "ring",
    "on_order",
    "on_fill",
    "indicator",
    "on_stop",
]
LINE = inspect.getsourcelines(Breaks.called)[1] + 4
CALM = tape_of(
    [
        (f"09:{15 + n // 6}:{n % 6 * 10:02}", "INFY" if n % 3 else "TCS", 100.0 + 0.05 * (n % 4))
        for n in range(60)
    ]
)


@pytest.mark.parametrize("size", [7, 65_536])
@pytest.mark.parametrize(
    ("kind", "where"),
    [*((Breaks, w) for w in EVERYWHERE), (BreaksBlocks, "on_ticks"), (BreaksBlocks, "on_bars")],
)
def test_a_callback_that_raises_halts_its_strategy_and_nobody_else(
    kind: type[Breaks], where: str, size: int
) -> None:
    """B13: named with file, line, event and symbol; not called again, sends nothing more; the other is as if alone."""
    broken, well = kind(where=where, name="broken"), TickWave(name="well")
    result = play([broken, well], CALM, size=size, capital=2 * CRORE)
    alone = play(TickWave(name="well"), CALM, size=size)
    error = result.errors[0]
    callback = {"ring": "ring"}.get(where, where)
    assert (error.strategy, error.callback, error.line) == ("broken", callback, LINE)
    assert Path(error.file) == Path(__file__)
    assert error.message == "ZeroDivisionError: broken on purpose"
    assert "broken on purpose" in error.traceback
    assert len(result.errors) == 1
    if where in ("on_tick", "on_bar", "on_order", "on_fill", "indicator"):
        assert error.symbol in ("NSE:INFY", "NSE:TCS")
    if where != "on_stop":
        assert result.halted == (f"{callback} raised ZeroDivisionError at test_engine.py:{LINE}", "")
        assert broken.calls[-1] == where, "it was called again"
        late = [o for o in result.orders if o.owner == 0 and o.status != "denied" and o.signal.ts > error.ts]
        assert [o for o in late if not o.leg] == []
        entries = [o for o in result.orders if o.owner == 0 and o.working]
        assert entries == []
    ours, theirs = footprint(result), footprint(alone)
    assert [f for f in ours["fills"] if f[0].startswith("well")] == theirs["fills"]


def test_a_halted_strategy_sends_nothing_more_even_from_the_call_it_is_in() -> None:
    """``on_order`` raised inside ``buy``: the ``on_tick`` that called it goes on, its next orders are refused."""

    class Twice(ap.Strategy):
        def on_tick(self, tick: Tick) -> None:
            self.buy("INFY", 10**6)  # denied: freeze quantity
            self.buy("INFY", 1)

        def on_order(self, order: Order) -> None:
            raise RuntimeError("no")

    result = play(Twice(), CALM)
    assert [o.status for o in result.orders] == ["denied", "denied"]
    assert "halted" in denials(result)[1]
    assert result.fills == []


def test_the_other_strategies_still_see_the_tick_that_broke_one() -> None:
    class Counts(ap.Strategy):
        def on_start(self) -> None:
            self.n = 0

        def on_tick(self, tick: Tick) -> None:
            self.n += 1
            if self.name == "b" and self.n == 5:
                raise KeyError("x")

    strategies = [Counts(name=n) for n in "abc"]
    result = play(strategies, CALM)
    assert [s.n for s in strategies] == [60, 5, 60]
    assert result.errors[0].seq == 4
    assert result.errors[0].symbol == "NSE:INFY"


@pytest.mark.parametrize("beside", [False, True])
def test_protective_exits_outlive_a_halted_strategy(beside: bool) -> None:
    """Entries are withdrawn, the stop stays and fires, in every lane: also when only others still want ticks."""

    class Guarded(ap.Strategy):
        symbols = ("INFY",)

        def on_tick(self, tick: Tick) -> None:
            if clock(tick.ts) == "09:15:01":
                self.buy("INFY", 10, sl=95.0)
                self.buy("INFY", 3, limit=91.0)
            if clock(tick.ts) == "09:15:03":
                raise ValueError("halt")

    class Other(ap.Strategy):
        symbols = ("TCS",)

        def on_tick(self, tick: Tick) -> None:
            """Only its own symbol."""

    rows = [("09:15:01", "INFY", 100.0), ("09:15:02", "INFY", 100.0), ("09:15:03", "INFY", 99.0)]
    rows += [
        ("09:15:04", "TCS", 50.0),
        ("09:16:00", "INFY", 94.0),
        ("09:17:00", "INFY", 90.0),
        ("09:18:00", "TCS", 50.0),
    ]
    result = play([Guarded(), Other()] if beside else Guarded(), tape_of(rows), size=3)
    assert trades(result) == [("09:15:02", 10, 100.0), ("09:16:00", -10, 94.0)]
    assert [(o.status, o.reason) for o in result.orders if o.limit] == [
        ("cancelled", "its strategy is halted")
    ]


def test_an_operators_halt_stops_one_strategy_or_all_orders() -> None:
    blocks = list(CALM.blocks(20))
    strategies = [TickWave(name="a"), TickWave(name="b")]
    engine = Engine(strategies, CALM.instruments, capital=CRORE, rulebook=RULES, limits=WIDE)
    engine.step(blocks[0])
    engine.step(Halt(ns("09:18:30"), "lunch", strategy="a"))
    engine.step(blocks[1])
    engine.step(Halt(ns("09:21:50"), "storm"))
    engine.step(blocks[2])
    result = engine.finish()
    assert result.halted == ("lunch", "")
    assert all(o.signal.seq < 20 for o in result.orders if o.owner == 0 and not o.leg)
    assert {o.reason for o in result.orders if o.owner == 1 and o.signal.seq >= 40 and not o.leg} == {
        "halted: storm"
    }


@pytest.mark.parametrize("callback", ["on_tick", "on_bar", "on_fill"])
def test_an_interrupt_is_the_operators_and_stops_everything(callback: str) -> None:
    def stop(self: Any, *_: Any) -> None:
        raise KeyboardInterrupt

    kind = type("Stops", (Scripted,), {callback: stop})
    with pytest.raises(KeyboardInterrupt):
        play(kind({"09:15:10": lambda s: s.buy("INFY", 1)}), CALM)


async def _async(self: Any, *_: Any) -> None:
    await asyncio.sleep(0)


def _generator(self: Any, *_: Any) -> Any:
    yield


@pytest.mark.parametrize("function", [_async, _generator], ids=["async", "generator"])
@pytest.mark.parametrize(
    "callback", ["on_start", "on_tick", "on_ticks", "on_bar", "on_fill", "on_stop", "on_order"]
)
def test_a_callback_that_would_never_run_is_refused_at_the_start(
    callback: str, function: Callable[..., Any]
) -> None:
    """B13: calling an ``async def`` or a generator runs nothing; a strategy that silently does nothing is worse than none."""
    body = {callback: function} if callback == "on_tick" else {callback: function, "on_tick": Idle.on_tick}
    kind = type("Never", (ap.Strategy,), body)
    with pytest.raises(ValidationError, match=callback) as caught:
        play(kind(), CALM)
    assert caught.value.fix


def test_on_start_that_asks_for_history_or_the_time_gets_an_answer_or_a_clear_error() -> None:
    """Nothing has happened yet: history is empty; a crash inside the platform is not an answer."""

    class Asks(ap.Strategy):
        def on_start(self) -> None:
            self.rows = len(self.history("INFY", 3))

        def on_tick(self, tick: Tick) -> None:
            """Nothing."""

    strategy = Asks()
    result = play(strategy, CALM)
    assert [e.message for e in result.errors] == []
    assert strategy.rows == 0


def test_an_order_before_the_first_event_is_denied_because_nothing_trades_yet() -> None:
    class Early(Scripted):
        def on_start(self) -> None:
            self.buy("INFY", 1)

    result = play(Early(), CALM)
    assert result.errors == []
    (reason,) = denials(result)
    assert "segment" in reason or "price" in reason


# ── determinism ──────────────────────────────────────────────────────────────────────────────────────────────────────

TWICE = """
import sys
from alphapanda.exchange import Fills
from tests.build import footprint, play
from tests.chaos import Chaos, random_tape
from tests.test_engine import BlockWave
import hashlib
runs = []
for _ in range(2):
    made = [Chaos(name="a", seed=3), Chaos(name="b", seed=4), BlockWave(name="c")]
    result = play(made, random_tape(5, 250, quotes=True, days=2), fills=Fills(latency_jitter_ms=500, seed=9), seed=9)
    runs.append(hashlib.sha256(repr([footprint(result), [s.lines for s in made[:2]]]).encode()).hexdigest())
assert runs[0] == runs[1]
print(runs[0], len(result.fills))
"""


def test_two_runs_three_time_zones_three_hash_seeds_are_one_run() -> None:
    """F31: byte-equal books, decisions, charges and callbacks; nothing depends on the machine's clock, zone or hashes."""
    places = [("UTC", "0"), ("Asia/Kolkata", "1"), ("America/New_York", "4242")]
    root = str(Path(__file__).parents[1])
    started = [
        subprocess.Popen(
            [sys.executable, "-c", TWICE],
            env=os.environ | {"TZ": zone, "PYTHONHASHSEED": seed, "PYTHONPATH": os.environ.get("PYTHONPATH", root)},
            cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for zone, seed in places
    ]  # fmt: skip
    answers = [process.communicate(timeout=50) for process in started]
    assert [error[-2000:] for _, error in answers] == ["", "", ""]
    assert len({output for output, _ in answers}) == 1
    assert int(answers[0][0].split()[1]) > 50, "too little happened to prove anything"


def test_random_is_the_same_on_every_run_and_nobody_elses() -> None:
    """Seeded by run, strategy and event: a second strategy, other blocks or an extra draw elsewhere change nothing."""

    class Draws(ap.Strategy):
        extra: int = ap.Param(0)

        def on_start(self) -> None:
            self.drawn: list[float] = []

        def on_tick(self, tick: Tick) -> None:
            self.drawn.append(self.random.random())
            for _ in range(self.extra):
                self.random.random()

    def run(*strategies: Draws, seed: int = 0, size: int = 100) -> list[float]:
        play(list(strategies), CALM, seed=seed, size=size)
        return strategies[0].drawn

    first = run(Draws(name="a"))
    assert (
        first
        == run(Draws(name="a"), size=1)
        == run(Draws(name="a"), Draws(name="b"))
        == run(Draws(name="a", extra=3))
    )
    assert len(set(first)) == len(first) == 60
    assert first != run(Draws(name="a"), seed=1)
    assert first != run(Draws(name="z"))


def test_one_instance_run_twice_decides_the_same() -> None:
    """``ap.backtest(s, tape)`` in a notebook cell that is run again: ``state`` starts empty each time."""

    class Counts(ap.Strategy):
        def on_tick(self, tick: Tick) -> None:
            self.state.n = getattr(self.state, "n", 0) + 1
            if self.state.n == 3:
                self.buy("INFY", 1)

    strategy = Counts()
    digests = [ap.backtest(strategy, CALM).digest for _ in range(2)]
    assert digests[0] == digests[1]


def test_the_log_is_bounded_and_says_what_it_dropped() -> None:
    class Chatty(ap.Strategy):
        def on_tick(self, tick: Tick) -> None:
            for n in range(300):
                self.log("hello", n=n)

    result = play(Chatty(), CALM)
    dropped = 60 * 300 - LOG_LINES
    assert len(result.logs) == LOG_LINES
    assert (result.logs[0].message, result.logs[0].fields, result.logs[0].ts) == (
        "hello",
        {"n": 0},
        ns("09:15:00"),
    )
    assert str(dropped) in repr([result.counts, result.notes]).replace(",", "")


def test_marks_are_once_a_minute_and_at_the_close() -> None:
    result = play(Idle(), tape_of([("09:15:01", "INFY", 100.0), ("15:29:00", "INFY", 100.0)]))
    times = [clock(m.ts) for m in result.marks]
    assert times[:2] == ["09:16:00", "09:17:00"]
    assert times[-1] == "15:30:00"
    assert times == sorted(times)
    assert len(set(times)) == 375


def test_an_error_of_the_platform_is_not_blamed_on_the_strategy() -> None:
    """Errors of ours stop the run: nothing of ``AlphaPandaException`` is swallowed outside a callback."""
    future = Instrument(symbol="XXX:A", exchange="XXX", kind="FUT")
    with pytest.raises(AlphaPandaException):
        play(Idle(), tape_of([("09:15:01", "A", 1.0)], future))

"""Research in one process, paper in two: the strategy must not be able to tell, nor anybody who reads its books."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import alphapanda as ap
from alphapanda.account import Account
from alphapanda.blocks import TickBlock
from alphapanda.buses.frames import Frame, heartbeat
from alphapanda.buses.tapelog import TapeLog, Writer
from alphapanda.day import LAST
from alphapanda.desk import Desk
from alphapanda.engine import Engine
from alphapanda.errors import StreamingError, ValidationError
from alphapanda.events import MINUTE, SECOND, Bar, Clock, Fill, Tick
from alphapanda.exchange import Fills
from alphapanda.instruments import Instrument
from alphapanda.lane import Lane
from alphapanda.mirror import Mirror
from alphapanda.orders import WORKING, Order
from alphapanda.requests import FillUpdate, OrderUpdate, Place, Reply, Request, Update, encode, recall
from alphapanda.result import Result
from alphapanda.risk import Limits
from alphapanda.tapes.tape import Tape
from alphapanda.traders.paper import PaperVenue
from tests.build import (
    CRORE,
    NIFTY_FUT,
    RULES,
    WIDE,
    clock,
    denials,
    equity,
    footprint,
    ns,
    play,
    runs,
    tape_of,
)
from tests.chaos import DAYS, Chaos, random_tape

SEEDS = st.integers(0, 10**9)
GOLD = Instrument(
    symbol="MCX:GOLD26DECFUT", exchange="MCX", kind="FUT", name="GOLD", multiplier=10, tick_size=100
)
COIN = Instrument(symbol="BINANCE:BTCUSDT", exchange="BINANCE", kind="SPOT", name="BTC", quantity_scale=100)
# sessions end at 15:30, 15:15, 15:30, 15:40, 23:55 and midnight; square-offs are ten to twenty-five minutes earlier
WORLD = (equity("INFY"), equity("TCS", in_fo=True), equity("RELIANCE"), NIFTY_FUT, GOLD, COIN)
BURSTS = (
    "00:00:00", "08:59:58", "09:14:58", "09:15:30", "11:00:00", "15:04:57", "15:14:57", "15:19:57", "15:24:57",
    "15:29:57", "15:39:57", "23:29:57", "23:54:57", "23:59:57",
)  # fmt: skip


def world_tape(seed: int, *, days: int = 1, quotes: bool = False, volume: bool = True) -> Tape:
    """Shares, a future, gold and a coin, with most ticks where sessions open, close and are squared off."""
    draw = random.Random(f"world {seed}")
    price = {one.symbol: draw.randrange(80, 300) * 100 for one in WORLD}
    rows: list[list[Any]] = []
    for day in DAYS[:days]:
        for start in sorted(draw.sample(BURSTS, 8)):
            at = (ns(start, day) - ns("00:00:00", day)) / 1e9
            for _ in range(draw.randrange(4, 22)):
                at = min(at + draw.choice((0.0, 0.0, 0.001, 0.5, 1.0, 1.0, 3.0, 40.0)), 86_399.9)
                one = draw.choice(WORLD)
                step = max(one.tick_size, 5)
                price[one.symbol] = (
                    max(20 * step, price[one.symbol] + step * draw.randrange(-6, 7)) // step * step
                )
                unit = price[one.symbol] / 100
                minutes, rest = divmod(round(at * 1000), 60_000)
                row: list[Any] = [
                    f"{day} {minutes // 60:02}:{minutes % 60:02}:{rest / 1000:06.3f}",
                    one.symbol,
                    unit,
                ]
                row.append(draw.choice((0, 1, 20, 100, 500)) if volume else None)
                if quotes:
                    wide = step / 100
                    row += [
                        unit - wide,
                        unit + wide * draw.randrange(3),
                        draw.randrange(200),
                        draw.randrange(200),
                    ]
                rows.append(row if volume or quotes else row[:3])
    return tape_of(rows, *WORLD)


class Witness(Chaos):
    """Chaos that keeps, for every callback, what it was told and what it could see then."""

    trouble: float = ap.Param(0.0)  # how likely a decision is to raise
    calm: float = ap.Param(0.0)  # how likely it is to let news of orders pass

    def see(self, callback: str, *told: Any) -> None:
        """One line of the log."""
        held = [
            (p.quantity, p.cost, p.realized, p.charges, self.account.quantity(name))
            for name, p in ((name, self.position(name)) for name in self._index if ":" in name)
        ]
        working = [stands(order) for order in self.open_orders()]
        self.lines.append((callback, *told, str(self.now), self.cash, self.equity, held, working))

    def on_start(self) -> None:
        super().on_start()
        self.see("start")
        for moment in ("09:15", "15:05", "15:15", "15:20", "15:25", "15:30", "close", "close-10m", "23:30"):
            self.at(moment, moment)
        self.every("3m", "three")
        self.act(self.draw.choice(sorted(self._index)))

    def on_stop(self) -> None:
        self.see("stop")
        self.act(self.draw.choice(sorted(self._index)))

    def on_tick(self, tick: Tick) -> None:
        self.see("tick", tick)
        super().on_tick(tick)

    def on_bar(self, bar: Bar) -> None:
        self.see("bar", bar)
        super().on_bar(bar)

    def on_timer(self, name: str) -> None:
        self.see("timer", name)
        super().on_timer(name)

    def on_fill(self, fill: Fill) -> None:
        self.see(
            "fill", fill.id, fill.quantity, fill.price, fill.charges, fill.realized, fill.position, fill.seq
        )
        if self.draw.random() >= self.calm:
            super().on_fill(fill)

    def on_order(self, order: Order) -> None:
        self.see("order", *stands(order))
        if self.draw.random() >= self.calm:
            super().on_order(order)

    def decide(self, symbol: str) -> None:
        if self.draw.random() < self.trouble:
            raise RuntimeError("as drawn")
        super().decide(symbol)

    def send(self, symbol: str, what: int, size: int, last: float, steps: int) -> None:
        lot = next(one.lot_size for one in WORLD if one.symbol.endswith(symbol))
        self.product = self.draw.choice(("MIS", "MIS", "NRML", "CNC"))
        super().send(symbol, what, size * lot, last, steps)
        self.see("sent")


def stands(order: Order) -> tuple[Any, ...]:
    """Everything of an order that a strategy can read and that follows from the tape."""
    return (
        order.id, order.status, order.reason, order.target, order.filled, order.turnover, order.fills, order.end_ts,
        order.triggered, order.resting, order.closing, order.parent_id, order.leg,
    )  # fmt: skip


class Sparse(Witness):
    """Bars all at once, timers, fills and orders; no ticks."""

    bar = "2m"
    on_tick = ap.Strategy.on_tick
    on_bar = ap.Strategy.on_bar

    def on_bars(self, bars: list[Bar]) -> None:
        self.see("bars", *bars)
        for bar in bars:
            if self.draw.random() < 0.5:
                self.act(bar.symbol)


class Blocks(Witness):
    """Decides on whole blocks, each row by itself: so no cut of the blocks may change what it does."""

    on_tick = ap.Strategy.on_tick

    def on_ticks(self, block: TickBlock) -> None:
        columns = block.ts.tolist(), block.code.tolist(), block.price.tolist()
        for row, (ts, code, price) in enumerate(zip(*columns, strict=True)):
            draw = random.Random(f"{self.seed}:{ts}:{code}:{price}")
            if draw.random() < 0.3:
                symbol = block.symbols[code]
                size = draw.randrange(1, 9) * next(one.lot_size for one in WORLD if one.symbol == symbol)
                go = draw.choice((self.buy, self.sell))
                near = self.round_price(symbol, price * draw.choice((0.999, 1.0, 1.001)))
                wide: dict[str, Any] = {
                    "sl": self.round_price(symbol, price * (0.995 if go == self.buy else 1.005))
                }
                kinds: tuple[dict[str, Any], ...] = (
                    {},
                    {"limit": near},
                    wide,
                    {"limit": near, "validity": "IOC"},
                )
                go(symbol, size, at=row, product="MIS", **draw.choice(kinds))


KINDS: tuple[type[Witness], ...] = (Witness, Sparse, Blocks)
TIGHT = Limits(
    order_quantity=80, position_quantity=150, position_notional=60_000.0, gross_exposure=200_000.0, daily_loss=400.0,
    orders_per_second=3, orders_per_minute=25, strategy_orders_per_second=2, duplicate_seconds=2.0, stale_seconds=60.0,
)  # fmt: skip
LIMITS = (WIDE, Limits(), TIGHT)


def drawn_fills(draw: random.Random) -> Fills:
    """Some way for orders to fill."""
    return Fills(
        slippage_ticks=draw.choice((0, 0, 1)), slippage_bps=draw.choice((0.0, 0.0, 1.5)),
        latency_ms=draw.choice((0.0, 0.0, 1.0, 400.0)), latency_jitter_ms=draw.choice((0.0, 0.0, 700.0)),
        participation=draw.choice((1.0, 1.0, 0.1)), seed=draw.randrange(9),
    )  # fmt: skip


def framed(tape: Tape, draw: random.Random, sizes: Sequence[int] = (1, 1, 2, 5, 17, 60)) -> list[Frame]:
    """The tape in frames of any size, with heartbeats between them."""
    (block,) = tape.blocks(10**9)
    frames: list[Frame] = []
    first, universe = 0, len(tape.instruments)
    while first < len(block):
        last = min(first + draw.choice(sizes), len(block))
        part = block.rows(first, last)
        newest, following = part.ts.item(-1), block.ts.item(last) if last < len(block) else part.ts.item(-1)
        clock = draw.choice((newest, newest, draw.randint(newest, following)))
        frames.append(Frame(len(frames) + 1, clock, universe, part))
        while draw.random() < 0.2:
            clock = draw.choice((clock, following, draw.randint(clock, following)))
            frames.append(heartbeat(len(frames) + 1, clock, universe, last))
        first = last
    return frames


class Killed(BaseException):
    """The process is gone."""


class Gate:
    """What a gateway does with requests, without its process: lanes on one account, and the record of every answer."""

    def __init__(
        self,
        tape: Tape,
        frames: list[Frame],
        *,
        limits: Limits = WIDE,
        fills: Fills | None = None,
        trade_from: int = 0,
        instruments: tuple[Instrument, ...] | None = None,
    ) -> None:
        self.tape, self.frames, self.limits, self.fills = tape, frames, limits, fills or Fills()
        self.trade_from = trade_from
        self.instruments = instruments or tape.instruments
        self.account = Account(len(self.instruments), limits)
        self.lanes: dict[str, Lane] = {}
        self.symbols: dict[str, list[str]] = {}
        self.record: list[tuple[Request, bytes, bytes]] = []
        self.asked: dict[tuple[str, str], tuple[bytes, bytes]] = {}
        self.end = len(frames)  # of the tape log

    def read(self, after: int) -> Iterator[Frame]:
        """The frames after a number, as far as the tape log goes now."""
        yield from self.frames[after : self.end]

    def host(self, run: str, symbols: Iterable[str] = ()) -> Lane:
        """A new run."""
        self.symbols[run] = list(symbols)

        def venue(desk: Desk) -> PaperVenue:
            return PaperVenue(self.fills, desk)

        lane = self.lanes[run] = Lane(
            run, self.symbols[run], self.instruments, capital=CRORE, rulebook=RULES, account=self.account, venue=venue,
            frames=self.read, table=lambda: self.tape.instruments, after=0, trade_from=self.trade_from,
        )  # fmt: skip
        return lane

    def ask(self, request: Request) -> Reply:
        """Answer as the gateway does: what was asked before from the record, else the lane, then the trader."""
        request = msgspec.msgpack.decode(encode(request), type=Request)
        known = self.asked.get((request.run, request.id))
        if known is not None:
            return recall(request, *known)
        return self.decide(request)

    def decide(self, request: Request, recorded: Reply | None = None) -> Reply:
        """The lane's answer, on record and carried out."""
        lane = self.lanes[request.run]
        raw = encode(lane.answer(request, recorded))
        self.asked[request.run, request.id] = encode(request), raw
        self.record.append((request, *self.asked[request.run, request.id]))
        venue = lane.venue
        assert isinstance(venue, PaperVenue)
        while venue.pending:
            venue.execute(venue.pending.pop(0))
        return msgspec.msgpack.decode(raw, type=Reply)

    def again(self) -> Gate:
        """The gateway after a crash: it plays its record, and every answer must come out as it was given."""
        new = Gate(
            self.tape, self.frames, limits=self.limits, fills=self.fills, trade_from=self.trade_from,
            instruments=self.instruments,
        )  # fmt: skip
        for run, symbols in self.symbols.items():
            new.host(run, symbols)
        for request, _, answered in self.record:
            new.decide(request, msgspec.msgpack.decode(answered, type=Reply))
            assert new.record[-1][2] == answered, request.id
        return new


class Watched(Mirror):
    """Notes when a strategy decides while more news of the same instant is on its way, which research cannot do."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.coming: list[list[Update]] = []
        self.lines: list[Any] = []  # the strategy's
        self.crossed = -1  # how many lines it had written when it first did so
        self._ask, self.forward = self._noting, self._ask

    def _noting(self, request: Request) -> Reply:
        if self.crossed < 0 and any(self.is_news(update) for updates in self.coming for update in updates):
            self.crossed = len(self.lines)
        return self.forward(request)

    def is_news(self, update: Update) -> bool:
        """Whether an update changes anything, beside telling of it."""
        if isinstance(update, OrderUpdate):
            order = self._by_id.get(update.id)
            names = [n for n in update.__struct_fields__ if n not in ("id", "told", "signal")]
            return (
                order is None
                or any(getattr(order, name) != getattr(update, name) for name in names)
                or (order.status in WORKING and order not in self._shelf.working.get(order.signal.symbol, ()))
            )
        return isinstance(update, FillUpdate)

    def _apply(self, reply: Reply) -> None:
        if reply.halt and not self._engine.callbacks.halted[0] and self.crossed < 0:
            self.crossed = len(self.lines)  # halted by the gateway, which research does not do
        self.coming.append(list(reply.updates))
        try:
            super()._apply(reply)
        finally:
            self.coming.pop()

    def _changed(self, update: OrderUpdate, number: int) -> None:
        self.coming[-1].remove(update)
        super()._changed(update, number)

    def _filled(self, update: FillUpdate) -> None:
        self.coming[-1].remove(update)
        super()._filled(update)


class Half:
    """The runner's half of a run."""

    def __init__(
        self,
        strategy: ap.Strategy,
        instruments: tuple[Instrument, ...],
        ask: Callable[[Request], Reply],
        *,
        trade_from: int = 0,
        table: tuple[Instrument, ...] = (),
    ) -> None:
        self.strategy = strategy
        self.table = table

        def desk(engine: Engine, account: Account) -> Desk:
            made = Watched(strategy.name, strategy.name, instruments, CRORE, RULES, ask, engine)
            made.lines = getattr(strategy, "lines", [])
            return made

        self.engine = Engine(
            [strategy], instruments, capital=CRORE, rulebook=RULES, trade_from=trade_from, desk=desk
        )
        desk_made = self.engine.desk
        assert isinstance(desk_made, Watched)
        self.mirror = desk_made

    def play(self, frames: Iterable[Frame], lane: Lane | None = None) -> None:
        """Frames as a runner plays them; after some it says where it stands, which is on nobody's record."""
        for frame in frames:
            if frame.universe > len(self.engine.instruments):
                self.engine.widen(self.table)
            if len(frame.block):
                self.engine.step(frame.block)
            self.engine.step(Clock(frame.clock))
            if lane is not None and frame.number % 3 == 0:
                lane.advance(Place(frame.end - 1, frame.clock, LAST))


def paper(strategy: ap.Strategy, tape: Tape, frames: list[Frame], gate: Gate) -> tuple[Result, Half]:
    """A run from its first frame to the end of its day."""
    if strategy.name not in gate.lanes:
        gate.host(strategy.name, strategy.symbols)
    half = Half(strategy, gate.instruments, gate.ask, trade_from=gate.trade_from, table=tape.instruments)
    half.play(frames, gate.lanes[strategy.name])
    return half.engine.finish(), half


def print_of(result: Result) -> dict[str, Any]:
    """What a run decided and booked, as far as both halves know it."""
    parts = footprint(result)
    del parts["orders"], parts["notes"]
    return parts | {"orders": [stands(order) for order in result.orders]}


def agree(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Equal part by part; the first difference is shown."""
    for part, value in ours.items():
        other = theirs[part]
        if value == other:
            continue
        if isinstance(value, list):
            pairs = zip(value, other, strict=False)
            at = next((n for n, (one, two) in enumerate(pairs) if one != two), min(len(value), len(other)))
            assert value[at : at + 1] == other[at : at + 1], f"{part} {at}"
        assert value == other, part


def same(ours: Result, theirs: Result, *apart: str) -> None:
    """Two runs decided and booked the same, ``apart`` from some parts."""
    agree({part: value for part, value in print_of(ours).items() if part not in apart}, print_of(theirs))


def consistent(half: Half, lane: Lane) -> None:
    """Both halves hold the same orders, fills, positions and money, whatever crossed."""
    ours = {order.id: stands(order) for order in half.engine.desk.orders}
    theirs = {order.id: stands(order) for order in lane.desk.orders}
    local = {order.id for order in half.engine.desk.orders if order.reason == "its strategy is halted"}
    assert {k: v for k, v in ours.items() if k in theirs or k not in local} == theirs
    assert [f.id for f in half.engine.desk.fills] == [f.id for f in lane.desk.fills]
    assert half.engine.desk.fills == lane.desk.fills
    mine, other = half.engine.desk.books[0], lane.desk.books[0]
    assert mine.cash == other.cash
    flat = lambda book: {  # noqa: E731 - two uses, here
        (i, p.product): (p.quantity, p.cost, p.realized, p.charges)
        for i, held in book.positions.items() for p in held if p.quantity or p.realized
    }  # fmt: skip
    assert flat(mine) == flat(other)
    working = {o.id for queue in half.mirror.exchange.working.values() for o in queue}
    assert working == {o.id for queue in lane.desk.exchange.working.values() for o in queue}


def compared(seed: int, kind: type[Witness], tape: Tape, **options: Any) -> bool:
    """Research and paper on one tape; False where what crossed leaves them free to differ."""
    draw = random.Random(f"run {seed}")
    limits, fills = draw.choice(LIMITS), drawn_fills(draw)
    strategy = kind(
        seed=seed, trouble=draw.choice((0.0, 0.0, 0.02)), calm=draw.choice((0.0, 0.7, 0.95, 1.0)), **options
    )
    report = ap.backtest(strategy, tape, capital=CRORE / 100, limits=limits, fills=fills)
    frames = framed(tape, draw)
    gate = Gate(tape, frames, limits=limits, fills=fills)
    copy = kind(**strategy.params, **options)
    result, half = paper(copy, tape, frames, gate)
    consistent(half, gate.lanes[copy.name])
    (researched,) = report.strategies
    assert isinstance(researched, Witness)
    if half.mirror.crossed >= 0:
        agree({"log": copy.lines[: half.mirror.crossed]}, {"log": researched.lines[: half.mirror.crossed]})
        return False
    agree({"log": copy.lines}, {"log": researched.lines})
    same(result, report.result)
    return True


# ── the strategy cannot tell ─────────────────────────────────────────────────────────────────────────────────────


@runs(30)
@given(SEEDS, st.sampled_from(KINDS), st.booleans(), st.booleans(), st.sampled_from((1, 2)))
def test_paper_is_research_over_all_kinds_of_instruments(
    seed: int, kind: type[Witness], quotes: bool, volume: bool, days: int
) -> None:
    compared(seed, kind, world_tape(seed, quotes=quotes, volume=volume, days=days))


@runs(20)
@given(SEEDS, st.sampled_from(KINDS), st.booleans(), st.sampled_from((1, 2)))
def test_paper_is_research_on_a_few_shares(seed: int, kind: type[Witness], quotes: bool, days: int) -> None:
    compared(seed, kind, random_tape(seed, quotes=quotes, days=days))


def test_most_of_these_runs_can_be_compared_to_their_end() -> None:
    told = [compared(seed, KINDS[seed % 3], world_tape(seed, days=1 + seed % 2)) for seed in range(12)]
    assert sum(told) >= 6


@runs(10)
@given(SEEDS, st.sampled_from(KINDS), st.sampled_from((0.0, 0.3, 0.7, 0.99)))
def test_a_warm_up_is_silent_in_both(seed: int, kind: type[Witness], share: float) -> None:
    tape = world_tape(seed, days=2)
    trade_from = tape.first_ts + int((tape.last_ts - tape.first_ts) * share)
    ours, theirs = (kind(seed=seed, calm=1.0) for _ in range(2))
    frames = framed(tape, random.Random(seed))
    gate = Gate(tape, frames, trade_from=trade_from)
    result, half = paper(ours, tape, frames, gate)
    researched = play(theirs, tape, trade_from=trade_from)
    consistent(half, gate.lanes[ours.name])
    if half.mirror.crossed < 0:
        agree({"log": ours.lines}, {"log": theirs.lines})
        same(result, researched)


class Clumsy(Blocks):
    """Raises at a row of its own choice, with decisions of the same block behind and before it."""

    def on_ticks(self, block: TickBlock) -> None:
        super().on_ticks(block)
        if random.Random(f"{self.seed}:{block.ts[0]}").random() < 0.2:
            raise RuntimeError("as drawn")


@runs(10)
@given(SEEDS)
def test_a_block_strategy_that_raises_leaves_the_same_orders(seed: int) -> None:
    tape = world_tape(seed)
    ours, theirs = (Clumsy(seed=seed, calm=1.0) for _ in range(2))
    frames = [f for f in framed(tape, random.Random(seed), sizes=(3, 20, 50)) if len(f.block)]
    frames = [Frame(n, f.block.ts.item(-1), f.universe, f.block) for n, f in enumerate(frames, 1)]
    gate = Gate(tape, frames)
    result, half = paper(ours, tape, frames, gate)
    researched = play(theirs, tape, blocks=[frame.block for frame in frames])
    consistent(half, gate.lanes[ours.name])
    agree({"log": ours.lines}, {"log": theirs.lines})
    same(result, researched)


class Bold(ap.Strategy):
    """Does its script, keyed by clock, symbol apart; every callback writes a line."""

    def __init__(self, script: dict[str, Callable[[Bold], Any]], **settings: Any) -> None:
        super().__init__(**settings)
        self.script = script
        self.lines: list[Any] = []

    def on_tick(self, tick: Tick) -> None:
        if (action := self.script.get(clock(tick.ts))) is not None:
            action(self)

    def on_order(self, order: Order) -> None:
        self.lines.append(("order", *stands(order), self.position(order.symbol).quantity))
        if (action := self.script.get(f"order {order.status}")) is not None:
            action(self)

    def on_fill(self, fill: Fill) -> None:
        self.lines.append(("fill", fill.id, fill.price, [stands(order) for order in self.open_orders()]))
        if (action := self.script.get("fill")) is not None:
            action(self)


def walk(
    start: str, prices: Sequence[float], symbol: str = "INFY", **columns: Sequence[int]
) -> list[list[Any]]:
    """One tick a second."""
    first = ns(start)
    rows = [[clock(first + n * SECOND), symbol, price] for n, price in enumerate(prices)]
    for values in columns.values():
        for row, value in zip(rows, values, strict=True):
            row.append(value)
    return rows


def both(
    script: dict[str, Callable[[Bold], Any]], tape: Tape, *, limits: Limits = WIDE, fills: Fills | None = None
) -> tuple[Bold, Half, Gate]:
    """The script in research and on paper; they must agree."""
    theirs, ours = Bold(script), Bold(script)
    researched = play(theirs, tape, limits=limits, fills=fills)
    frames = framed(tape, random.Random(0))
    gate = Gate(tape, frames, limits=limits, fills=fills)
    result, half = paper(ours, tape, frames, gate)
    agree({"log": ours.lines}, {"log": theirs.lines})
    same(result, researched)
    consistent(half, gate.lanes["Bold"])
    return ours, half, gate


def test_cancelling_the_rest_of_a_part_fill_from_on_fill() -> None:
    tape = tape_of(walk("09:15:01", [100.0, 100.0, 100.0, 100.0], volume=[50, 10, 10, 500]))
    ours, half, _ = both({"09:15:01": lambda s: s.buy("INFY", 30), "fill": lambda s: s.cancel_all()}, tape)
    order = half.engine.desk.orders[0]
    assert (order.status, order.filled) == ("cancelled", 10)
    assert [line[0] for line in ours.lines[:3]] == ["fill", "order", "order"]


def test_exits_of_an_entry_that_fills_in_parts_grow_before_the_strategy_looks() -> None:
    tape = tape_of(walk("09:15:01", [100.0, 100.0, 100.0, 100.0, 90.0], volume=[50, 10, 10, 500, 500]))
    ours, _, _ = both({"09:15:01": lambda s: s.buy("INFY", 30, sl=95.0, tp=120.0)}, tape)
    seen = [[abs(order[3]) for order in line[3] if order[-1]] for line in ours.lines if line[0] == "fill"]
    assert seen[:3] == [[10, 10], [20, 20], [30, 30]]


def test_a_halted_strategys_stop_still_fills_and_its_runner_books_it() -> None:
    def trip(strategy: Bold) -> None:
        raise RuntimeError("tripped")

    tape = tape_of(walk("09:15:01", [100.0, 100.0, 100.0, 90.0, 90.0]))
    _, half, _ = both({"09:15:01": lambda s: s.buy("INFY", 5, sl=95.0), "09:15:03": trip}, tape)
    assert half.engine.callbacks.halted[0]
    assert [fill.quantity for fill in half.engine.desk.fills] == [5, -5]


def test_positions_of_two_products_that_sum_to_nothing_are_still_squared_off() -> None:
    name = "NIFTY26NOVFUT"
    tape = tape_of(walk("15:19:56", [100.0] * 8, name) + walk("15:24:58", [100.0] * 6, name), NIFTY_FUT)
    _, half, _ = both(
        {
            "15:19:56": lambda s: (
                s.buy("NFO:NIFTY26NOVFUT", 65, product="MIS"),
                s.sell("NFO:NIFTY26NOVFUT", 65, product="NRML"),
            )
        },
        tape,
    )
    assert [fill.leg for fill in half.engine.desk.fills] == ["", "", "square-off"]


def test_rules_on_loss_see_the_same_values_however_ticks_are_cut() -> None:
    rows = [("09:15:01", "INFY", 100.0), ("09:15:02", "INFY", 100.0), ("09:15:40", "TCS", 50.0)]
    rows += [("09:16:01", "INFY", 80.0), ("09:16:02", "TCS", 50.0), ("09:16:03", "TCS", 50.0)]
    tape = tape_of(rows)
    script = {"09:15:01": lambda s: s.buy("INFY", 100), "09:16:02": lambda s: s.buy("TCS", 2)}
    limits = msgspec.structs.replace(WIDE, daily_loss=500.0)
    for size in (1, 3, 4, 100):
        result = play(Bold(script), tape, size=size, limits=limits)
        assert denials(result) == ["daily loss ₹2,004.22 >= ₹500.00"]
    both(script, tape, limits=limits)


def test_a_timer_at_the_open_of_the_second_day_trades_before_its_first_tick() -> None:
    class Early(Witness):
        on_tick = ap.Strategy.on_tick
        on_bar = ap.Strategy.on_bar

        def on_timer(self, name: str) -> None:
            self.see("timer", name)
            if name == "09:15":
                self.buy("INFY", 3)

    rows = [(f"{day} 09:15:0{n}", "INFY", 100.0 + n) for day in DAYS for n in (1, 2, 3)]
    tape = tape_of(rows, *WORLD)
    ours, theirs = Early(calm=1.0), Early(calm=1.0)
    frames = framed(tape, random.Random(1))
    result, _ = paper(ours, tape, frames, Gate(tape, frames))
    same(result, play(theirs, tape))
    agree({"log": ours.lines}, {"log": theirs.lines})
    assert [clock(fill.ts) for fill in result.fills] == ["09:15:01", "15:30:00"]


def test_the_one_difference_is_the_documented_one() -> None:
    """Two orders fill at one tick; the news of the first cancels the second: too late at the gateway."""
    tape = tape_of(walk("09:15:01", [100.0, 100.0, 100.0]))
    script = {
        "09:15:01": lambda s: (s.buy("INFY", 1, tag="one"), s.buy("INFY", 2, tag="two")),
        "fill": lambda s: s.cancel_all(),
    }
    theirs, ours = Bold(script), Bold(script)
    researched = play(theirs, tape)
    frames = framed(tape, random.Random(0))
    gate = Gate(tape, frames)
    result, half = paper(ours, tape, frames, gate)
    assert [order.status for order in researched.orders[:2]] == ["filled", "cancelled"]
    assert [order.status for order in result.orders[:2]] == ["filled", "filled"]
    assert half.mirror.crossed >= 0
    consistent(half, gate.lanes["Bold"])


# ── a process dies ───────────────────────────────────────────────────────────────────────────────────────────────


class Disturbed:
    """A gate whose callers and which itself die at drawn requests."""

    def __init__(self, gate: Gate, draw: random.Random, count: int) -> None:
        self.gate, self.draw = gate, draw
        ends = [draw.randrange(1, max(2, count + 1)) for _ in range(draw.randrange(1, 5))]
        self.plan = sorted(
            (number, draw.choice(("runner", "gateway", "both")), draw.random() < 0.5) for number in ends
        )
        self.count = 0

    def ask(self, request: Request) -> Reply:
        """Answer, unless the plan says that somebody dies before or after it."""
        self.count += 1
        if not self.plan or self.count < self.plan[0][0]:
            return self.gate.ask(request)
        _, who, answered = self.plan.pop(0)
        reply = self.gate.ask(request) if answered else None
        if who != "runner":
            self.gate = self.gate.again()
        if who != "gateway":
            raise Killed
        return reply or self.gate.ask(request)


@runs(10)
@given(SEEDS, st.sampled_from(KINDS), st.sampled_from((1, 2)))
def test_runner_and_gateway_may_die_at_any_request(seed: int, kind: type[Witness], days: int) -> None:
    draw = random.Random(f"deaths {seed}")
    tape = world_tape(seed, days=days)
    limits, fills = draw.choice(LIMITS), drawn_fills(draw)
    values = {"seed": seed, "trouble": draw.choice((0.0, 0.02)), "calm": draw.choice((0.0, 0.7))}
    strategy, frames = kind(**values), framed(tape, draw)
    calm = Gate(tape, frames, limits=limits, fills=fills)
    undisturbed, _ = paper(strategy, tape, frames, calm)

    cut = framed(tape, draw)
    gate = Gate(tape, cut, limits=limits, fills=fills)
    gate.host(strategy.name)
    disturbed = Disturbed(gate, draw, len(calm.record))
    while True:
        again = kind(**values)
        try:
            half = Half(again, tape.instruments, disturbed.ask)
            half.play(framed(tape, draw))
            result = half.engine.finish()
        except Killed:
            continue
        break
    same(result, undisturbed)
    agree({"log": again.lines}, {"log": strategy.lines})
    assert [answered for *_, answered in disturbed.gate.record] == [answered for *_, answered in calm.record]
    consistent(half, disturbed.gate.lanes[strategy.name])


@runs(8)
@given(SEEDS, st.sampled_from(KINDS))
def test_a_runner_may_die_at_any_row(seed: int, kind: type[Witness]) -> None:
    draw = random.Random(f"rows {seed}")
    tape = world_tape(seed)
    strategy, frames = kind(seed=seed), framed(tape, draw)
    calm = Gate(tape, frames)
    undisturbed, _ = paper(strategy, tape, frames, calm)
    gate = Gate(tape, frames)
    gate.host(strategy.name)
    for _ in range(3):
        Half(kind(seed=seed), tape.instruments, gate.ask).play(frames[: draw.randrange(len(frames))])
        gate = draw.choice((gate, gate.again()))
    again = kind(seed=seed)
    half = Half(again, tape.instruments, gate.ask)
    half.play(frames)
    same(half.engine.finish(), undisturbed)
    agree({"log": again.lines}, {"log": strategy.lines})


def test_asking_again_with_other_content_is_a_conflict() -> None:
    tape = tape_of(walk("09:15:01", [100.0, 100.0, 100.0]))
    frames = framed(tape, random.Random(0))
    gate = Gate(tape, frames)
    gate.host("Bold")
    kept: list[Request] = []

    def ask(request: Request) -> Reply:
        kept.append(request)
        return gate.ask(request)

    half = Half(Bold({"09:15:01": lambda s: s.buy("INFY", 3)}), tape.instruments, ask)
    half.play(frames)
    asked = next(request for request in kept if request.signal is not None)
    assert asked.signal is not None
    orders = len(gate.lanes["Bold"].desk.orders)
    assert gate.ask(asked) == gate.ask(asked)
    other = msgspec.structs.replace(asked, signal=msgspec.structs.replace(asked.signal, quantity=4))
    with pytest.raises(ValidationError, match="decided otherwise before") as caught:
        gate.ask(other)
    assert caught.value.code == "E_CONFLICT"
    assert len(gate.lanes["Bold"].desk.orders) == orders


def test_a_place_beyond_the_log_is_an_error_that_says_where_to_look() -> None:
    tape = tape_of(walk("09:15:01", [100.0, 100.0]))
    gate = Gate(tape, framed(tape, random.Random(0)))
    gate.host("Bold")
    with pytest.raises(StreamingError, match="row 7 was asked for and the tape log ends at row 1"):
        gate.ask(Request("Bold", "sync:7", Place(7, tape.last_ts, LAST)))


# ── nobody leads ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_stop_fills_while_its_runner_is_away_and_a_late_order_meets_the_market_of_now() -> None:
    tape = tape_of(walk("09:15:01", [100.0, 100.0, 100.0, 94.0, 94.0, 93.0, 93.0, 93.0, 93.0, 93.0]))
    (block,) = tape.blocks(100)
    frames = [
        Frame(n + 1, block.ts.item(n), len(tape.instruments), block.rows(n, n + 1)) for n in range(len(block))
    ]
    gate = Gate(tape, frames)
    lane = gate.host("Bold")
    ours = Bold(
        {
            "09:15:01": lambda s: s.buy("INFY", 5, sl=95.0),
            "09:15:03": lambda s: s.buy("INFY", 2, limit=94.0, ttl="2s", validity="TTL"),
            "09:15:04": lambda s: s.buy("INFY", 3),
        }
    )
    half = Half(ours, tape.instruments, gate.ask)
    half.play(frames[:2])
    gate.end = 7
    lane.follow()
    assert [(f.quantity, f.seq) for f in lane.desk.fills] == [(5, 1), (-5, 3)]
    gate = gate.again()  # the lane's way alone is not on record: it is found again from the answers' places
    gate.end = 7
    lane = gate.lanes["Bold"]
    lane.follow()
    gate.end = len(frames)
    half.mirror.forward = gate.ask
    half.play(frames[2:])
    assert gate.record[-1][0].place.through >= 7
    late = next(order for order in lane.desk.orders if order.target == 3)
    assert (late.status, lane.desk.fills[-1].seq) == ("filled", 7)
    brief = next(order for order in lane.desk.orders if order.target == 2)
    assert (brief.status, brief.filled) == ("expired", 0)  # its two seconds were over where the market was
    consistent(half, lane)
    assert [answered for *_, answered in gate.again().record] == [answered for *_, answered in gate.record]


@runs(12)
@given(SEEDS, st.sampled_from(KINDS), st.sampled_from((1, 2)))
def test_lanes_that_ran_ahead_stay_of_one_mind_with_their_runner(
    seed: int, kind: type[Witness], days: int
) -> None:
    draw = random.Random(f"away {seed}")
    tape = world_tape(seed, days=days)
    frames = framed(tape, draw)
    gate = Gate(tape, frames, limits=draw.choice(LIMITS), fills=drawn_fills(draw))
    strategy = kind(seed=seed, calm=draw.choice((0.0, 0.9)))
    gate.host(strategy.name)
    half = Half(strategy, tape.instruments, lambda request: gate.ask(request))
    for number, frame in enumerate(frames):
        if draw.random() < 0.05:
            gate.end = min(len(frames), number + draw.choice((1, 3, 30)))
            gate.lanes[strategy.name].follow()
            gate.end = len(frames)
        half.play([frame])
    half.engine.finish()
    half.mirror.catch_up()
    consistent(half, gate.lanes[strategy.name])
    if draw.random() < 0.5:
        recovered = gate.again()
        consistent(half, recovered.lanes[strategy.name])


def test_a_lane_reads_a_tape_log_that_grows_under_it(tmp_path: Path) -> None:
    tape = world_tape(5)
    ours, theirs = Witness(seed=5, calm=1.0), Witness(seed=5, calm=1.0)
    frames = framed(tape, random.Random(5))
    writer, log = Writer(tmp_path), TapeLog(tmp_path)
    writer.widen(tape.instruments)
    gate = Gate(tape, frames)
    gate.read = log.read
    gate.host(ours.name)
    half = Half(ours, tape.instruments, gate.ask)
    for frame in frames:
        writer.append(frame)
        half.play([frame], gate.lanes[ours.name])
    result = half.engine.finish()
    writer.close()
    log.close()
    same(result, play(theirs, tape))
    agree({"log": ours.lines}, {"log": theirs.lines})


# ── many runs, one account ───────────────────────────────────────────────────────────────────────────────────────


class Auditor:
    """Works every limit out anew from the lanes' own orders and fills, at each request."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.accepted: list[int] = []
        self.reasons: set[str] = set()

    def columns(self) -> tuple[list[int], list[int], list[int]]:
        """Net, buying and selling, by instrument, over all runs."""
        net, buying, selling = ([0] * len(self.gate.instruments) for _ in range(3))
        for lane in self.gate.lanes.values():
            index = {one.symbol: n for n, one in enumerate(lane.engine.instruments)}
            for fill in lane.desk.fills:
                net[index[fill.symbol]] += fill.quantity
            for order in lane.desk.orders:
                if order.status in WORKING and not order.leg:
                    (buying if order.target > 0 else selling)[order.index] += order.target - order.filled
        return net, buying, selling

    def crosses(self, order: Order) -> bool:
        """Whether it would trade against a working order of any run."""
        last, buying = order.signal.reference, order.target > 0
        ours = last if order.signal.limit is None else order.signal.limit
        for lane in self.gate.lanes.values():
            for other in lane.desk.orders:
                waits = other.signal.stop is not None and not other.triggered
                if other.status not in WORKING or waits or other.symbol != order.symbol:
                    continue
                theirs = last if other.signal.limit is None else other.signal.limit
                if (other.target > 0) != buying and ((ours >= theirs) if buying else (ours <= theirs)):
                    return True
        return False

    def crowded(self, ts: int, count: int, window: int) -> bool:
        """Whether one more accepted order at ``ts`` makes more than ``count`` in some window."""
        times = sorted([*self.accepted, ts])
        return any(
            times[n + count] - times[n] < window and times[n] <= ts <= times[n + count]
            for n in range(len(times) - count)
        )

    def ask(self, request: Request) -> Reply:
        """Pass a request on, and hold the verdict against the limits."""
        lane, account, limits = self.gate.lanes[request.run], self.gate.account, self.gate.limits
        if request.signal is None:
            reply = self.gate.ask(request)
        else:
            lane.advance(request.place)
            net, buying, selling = self.columns()
            index, quantity = lane.engine.host.find(request.signal.symbol), request.signal.quantity
            probe = Order(request.signal, lane.engine.instruments[index], index, 0, target=quantity)
            crosses = self.crosses(probe)
            reply = self.gate.ask(request)
            order = lane.order(request.signal.id)
            assert order is not None
            held = net[index]
            after = held + (buying if quantity > 0 else selling)[index] + quantity
            shrinks = 0 <= after < held if quantity < 0 else held < after <= 0
            loss = sum(one.desk.equity_at_open - one.desk.equity for one in self.gate.lanes.values())
            self.judge(order, limits, after, shrinks, crosses, loss, account.gross)
        assert (account.net, account.buying, account.selling) == self.columns()
        assert account.equity == sum(one.desk.equity for one in self.gate.lanes.values())
        assert account.equity_at_open == sum(one.desk.equity_at_open for one in self.gate.lanes.values())
        return reply

    def judge(
        self, order: Order, limits: Limits, after: int, shrinks: bool, crosses: bool, loss: int, gross: int
    ) -> None:
        """An accepted order keeps every limit; one denied for a limit would have broken it."""
        signal, ts = order.signal, order.signal.ts
        price = next(p for p in (signal.limit, signal.stop, signal.reference) if p is not None)
        n, d = order.instrument.paise_ratio
        notional = abs(signal.quantity) * price * n // d
        assert limits.position_quantity is not None
        assert limits.gross_exposure is not None
        assert limits.daily_loss is not None
        assert limits.orders_per_second is not None
        assert limits.orders_per_minute is not None
        second, minute = limits.orders_per_second, limits.orders_per_minute
        broken = {
            "position": abs(after) > limits.position_quantity and not shrinks,
            "gross exposure": gross + notional > limits.gross_exposure * 100 and not shrinks,
            "daily loss": loss >= limits.daily_loss * 100 and not shrinks,
            "self-cross": crosses,
            f"rate: more than {second} orders a second": self.crowded(ts, second, SECOND),
            f"rate: more than {minute} orders a minute": self.crowded(ts, minute, MINUTE),
        }
        if order.status in WORKING:
            assert not any(broken.values()), (broken, order)
            self.accepted.append(ts)
            return
        for reason, is_broken in broken.items():
            if order.reason.startswith(reason):
                self.reasons.add(reason)
                assert is_broken, (reason, order)


SHARED = msgspec.structs.replace(
    WIDE, self_cross=True, position_quantity=40, gross_exposure=15_000.0, daily_loss=60.0, orders_per_second=4,
    orders_per_minute=30,
)  # fmt: skip


def interleaved(seed: int) -> tuple[Gate, Auditor]:
    """Four runs on one account, each at its own place of the tape."""
    draw = random.Random(f"many {seed}")
    tape = random_tape(seed, rows=160, quotes=draw.random() < 0.5)
    frames = framed(tape, draw)
    gate = Gate(tape, frames, limits=SHARED, fills=drawn_fills(draw))
    auditor = Auditor(gate)
    halves: list[tuple[Half, list[Frame]]] = []
    for number in range(4):
        strategy = Witness(seed=seed + number, calm=0.9, name=f"run{number}")
        gate.host(strategy.name)
        halves.append((Half(strategy, tape.instruments, auditor.ask), list(frames)))
    while halves:
        half, waiting = draw.choice(halves)
        for _ in range(min(len(waiting), draw.choice((1, 1, 3, 20)))):
            half.play([waiting.pop(0)])
        if not waiting:
            half.engine.finish()
            consistent(half, gate.lanes[half.strategy.name])
            halves = [one for one in halves if one[1]]
    return gate, auditor


@runs(6)
@given(SEEDS)
def test_limits_of_an_account_hold_whatever_the_interleaving(seed: int) -> None:
    gate, _ = interleaved(seed)
    net, _, _ = Auditor(gate).columns()
    for lane in gate.lanes.values():
        last = lane.engine.last_prices()
        lane.desk.mark(last)
        assert gate.account.gross == sum(abs(q) * price for q, price in zip(net, last, strict=True))


@runs(4)
@given(SEEDS)
def test_a_gateway_with_many_runs_plays_its_record_to_the_same_answers(seed: int) -> None:
    gate, _ = interleaved(seed)
    again = gate.again()
    assert again.account.net == gate.account.net
    assert (again.account.buying, again.account.selling) == (gate.account.buying, gate.account.selling)
    assert again.account.orders_today == gate.account.orders_today


def test_every_shared_limit_had_its_say() -> None:
    wanted = {"position", "gross exposure", "daily loss", "self-cross", "rate"}
    seen: set[str] = set()
    for seed in range(12):
        seen |= {reason.partition(":")[0] for reason in interleaved(seed)[1].reasons}
        if seen == wanted:
            return
    assert seen == wanted


@pytest.mark.parametrize("first", ["old", "new"])
def test_what_a_run_lost_on_an_earlier_day_is_not_todays_loss(first: str) -> None:
    rows = [(f"{DAYS[0]} 09:15:0{n}", "INFY", price) for n, price in enumerate((100.0, 100.0, 80.0, 80.0))]
    rows += [(f"{DAYS[0]} 09:16:0{n}", "INFY", 80.0) for n in range(3)]
    rows += [(f"{DAYS[1]} 09:15:0{n}", "INFY", 80.0) for n in range(5, 9)]
    tape = tape_of(rows, *WORLD)
    frames = framed(tape, random.Random(0), (1,))
    ended = sum(frame.clock <= ns("09:16:02", DAYS[0]) for frame in frames)
    gate = Gate(tape, frames, limits=msgspec.structs.replace(WIDE, daily_loss=500.0))
    scripts = {
        "old": {"09:15:00": lambda s: s.buy("INFY", 100), "09:15:03": lambda s: s.sell("INFY", 50)},
        "new": {"09:15:07": lambda s: s.buy("INFY", 1)},
    }
    halves: dict[str, Half] = {}
    for name in (first, "new" if first == "old" else "old"):
        gate.host(name)
        half = halves[name] = Half(Bold(scripts[name], name=name), tape.instruments, gate.ask)
        played = frames[:ended] if name == "old" else frames
        half.play(played)
        gate.lanes[name].advance(Place(played[-1].end - 1, played[-1].clock, LAST))
    desk, account = gate.lanes["old"].desk, gate.account
    assert desk.equity < CRORE - 2_000_00, "it lost"
    assert account.equity_at_open - account.equity < 100_00
    (order,) = gate.lanes["new"].desk.orders
    assert (order.status, order.reason) == ("filled", "")


def test_an_order_storm_pauses_its_run_and_no_other() -> None:
    tape = tape_of(walk("09:15:01", [100.0] * 40))
    frames = framed(tape, random.Random(0))
    limits = msgspec.structs.replace(WIDE, strategy_orders_per_second=2)
    steady = {"09:15:05": lambda s: s.buy("INFY", 1), "09:15:30": lambda s: s.sell("INFY", 1)}
    wild: dict[str, Any] = {clock(ns("09:15:02") + n * SECOND): lambda s: s.buy("INFY", 1) for n in range(30)}
    wild["09:15:02"] = lambda s: s.buy("INFY", 2, sl=90.0)
    wild["09:15:04"] = lambda s: s.buy("INFY", 5, limit=95.0)
    wild["09:15:20"] = lambda s: [s.buy("INFY", 1) for _ in range(6)]
    gate = Gate(tape, frames, limits=limits)
    halves: list[Half] = []
    for name, script in (("wild", wild), ("steady", steady)):
        gate.host(name)
        halves.append(Half(Bold(script, name=name), tape.instruments, gate.ask))
    for frame in frames:
        for half in halves:
            half.play([frame])
    reason = "order storm: 3 orders within 10 s were over the rate limits"
    assert halves[0].engine.callbacks.halted == [reason]
    assert gate.lanes["wild"].halt == reason
    by_status = [(order.leg, order.status, order.reason) for order in gate.lanes["wild"].desk.orders]
    assert sum(why.startswith("rate") for _, _, why in by_status) == 3
    assert ("", "cancelled", "its strategy is halted") in by_status  # its resting entry
    assert ("sl", "open", "") in by_status  # its protective stop
    last = max(order.signal.ts for order in gate.lanes["wild"].desk.orders)
    assert clock(last) == "09:15:20"
    for half in halves:
        half.engine.finish()
        consistent(half, gate.lanes[half.strategy.name])
    researched = play(Bold(steady, name="steady"), tape, limits=limits)
    same(halves[1].engine.result, researched)


# ── more instruments than when the run began ─────────────────────────────────────────────────────────────────────


@runs(10)
@given(SEEDS, st.sampled_from(KINDS))
def test_instruments_that_join_later_disturb_nobody(seed: int, kind: type[Witness]) -> None:
    draw = random.Random(f"wide {seed}")
    names = ("INFY", "TCS", "RELIANCE", "WIPRO", "SBIN")
    whole = random_tape(seed, names=names, days=2)
    (block,) = whole.blocks(10**9)
    order = [n for n, one in enumerate(whole.instruments)]
    late = [n for n in order if whole.instruments[n].tradingsymbol in ("WIPRO", "SBIN")]
    first_late = next(
        (row for row, index in enumerate(block.instrument.tolist()) if index in late), len(block)
    )
    frames = framed(whole, draw, sizes=(1, 2, 5))
    universe = len(whole.instruments) - len(late)
    known = [
        msgspec.structs.replace(f, universe=universe if f.end <= first_late else len(whole.instruments))
        for f in frames
    ]
    ours, theirs = (
        kind(seed=seed, calm=1.0, symbols=[f"NSE:{name}" for name in names[:3]]) for _ in range(2)
    )
    gate = Gate(whole, known, instruments=whole.instruments[:universe])
    result, half = paper(ours, whole, known, gate)
    researched = play(theirs, whole)
    consistent(half, gate.lanes[ours.name])
    if half.mirror.crossed < 0:
        agree({"log": ours.lines}, {"log": theirs.lines})
        same(result, researched, "counts")  # of bars and of ticks outside a session: also the late ones

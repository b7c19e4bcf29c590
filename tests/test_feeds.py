"""The feed: one order of ticks, kept before it is published, whatever is killed, full or silent."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import functools
import json
import os
import random
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from msgspec.structs import replace

from alphapanda.buses.frames import COLUMNS as EVERY
from alphapanda.buses.frames import Frame, heartbeat
from alphapanda.buses.redis import RedisBus
from alphapanda.buses.tapelog import TapeLog, Writer
from alphapanda.buses.ticks import TickReader
from alphapanda.clock import wall_ns
from alphapanda.errors import ConfigurationError, DataError
from alphapanda.events import DAY, SECOND, Block, Topics
from alphapanda.feeds import recorder
from alphapanda.feeds.base import Day, Universe, Venue
from alphapanda.feeds.pump import LEAD, Pace
from alphapanda.feeds.recorded import RecordedTape
from alphapanda.feeds.sequencer import JUMP, ROWS_MAX, WITNESSES, LiveRow, Sequencer
from alphapanda.feeds.services import CryptoMarketFeedService, OptionsMarketFeedService, Services
from alphapanda.feeds.synthetic import SyntheticMarket
from alphapanda.instruments import Instrument
from alphapanda.registry import default_instrument
from alphapanda.synthetic import Market, synthetic_day
from alphapanda.tapes.tape import Tape
from alphapanda.workspace import Workspace
from tests.conftest import OwnValkey

COLUMNS = EVERY[:-1]  # no market has ``inside``
ROOT = Path(__file__).parent.parent
INFY, TCS, BTC = (default_instrument(s) for s in ("NSE:INFY", "NSE:TCS", "BINANCE:BTCUSDT"))
NOON = 1_795_415_400 * SECOND  # 2026-11-23 12:00 IST
OPEN = NOON - 165 * 60 * SECOND
Rows = dict[str, npt.NDArray[np.int64]]


def block(ts: list[int], price: list[int] | None = None, instrument: int = 0) -> Block:
    prices = np.array(price or [100] * len(ts), np.int64)
    return Block(0, np.array(ts, np.int64), np.full(len(ts), instrument, np.int64), prices)


# ── the sequencer ────────────────────────────────────────────────────────────────────────────────

played = st.lists(st.tuples(st.integers(0, 3 * SECOND), st.integers(-2, 10**6)), max_size=40).map(
    lambda rows: ("played", sorted(rows))
)
heard = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 2]),
        st.one_of(st.integers(-5, 10**5), st.sampled_from([0, 2**31 - 1, 2**32 - 1, 2**62, 2**70])),
        st.sampled_from([NOON, 0, NOON - DAY, NOON + DAY, NOON + SECOND, 2**80]),
        st.integers(-1, 3),
    ),
    max_size=20,
).map(lambda rows: ("heard", rows))
flushed = st.integers(0, 4 * SECOND).map(lambda clock: ("flushed", clock))


@hypothesis(deadline=None)
@given(st.lists(st.one_of(played, heard, flushed), max_size=30), st.integers(0, 5), st.integers(0, SECOND))
def test_whatever_comes_numbers_are_gapless_time_never_goes_back_and_nothing_impossible_passes(
    steps: list[tuple[str, Any]], number: int, clock: int
) -> None:
    sequencer = Sequencer(number, 7, clock)
    frames: list[Frame] = []
    given_rows = 0
    for kind, value in [*steps, ("flushed", 0)]:
        if kind == "played":
            given_rows += len(value)
            sequencer.add(block([ts for ts, _ in value], [price for _, price in value]))
        elif kind == "heard":
            given_rows += len(value)
            rows = [LiveRow(i, ts, price, volume) for i, price, ts, volume in value]
            sequencer.add_live(rows, wall=NOON, clock=sequencer.clock)
        else:
            frames += sequencer.flush(value, 3)
    assert [frame.number for frame in frames] == list(range(number + 1, number + 1 + len(frames)))
    row, last = 7, clock
    for frame in frames:
        assert frame.block.first == row
        row = frame.end
        times = [last, *frame.block.ts.tolist(), frame.clock]
        assert times == sorted(times)
        last = frame.clock
        assert (frame.block.price > 0).all()
        assert not np.isin(frame.block.price, [2**31 - 1, 2**32 - 1]).any()
    assert row - 7 + sequencer.quarantined.total() == given_rows


def test_a_frame_holds_a_thousand_rows_at_most_and_its_clock_lets_a_restart_go_on() -> None:
    sequencer = Sequencer()
    sequencer.add(block([5] * 1500 + [6] * 1000))
    frames = sequencer.flush(9, 1)
    assert [len(frame.block) for frame in frames] == [ROWS_MAX, ROWS_MAX, 500]
    assert [frame.clock for frame in frames] == [5, 6, 9]


def test_a_tick_is_stamped_anew_only_when_it_comes_late() -> None:
    sequencer = Sequencer()
    sequencer.add(block([5, 5, 7]))
    assert sequencer.flush(7, 1)[0].block.ts.tolist() == [5, 5, 7]
    sequencer.add(block([6, 8]))
    assert sequencer.flush(7, 1)[0].block.ts.tolist() == [7, 8]  # what comes late


def test_a_column_that_only_some_rows_have_is_zero_in_the_others() -> None:
    sequencer = Sequencer()
    sequencer.add(block([5, 6]))
    sequencer.add_live([LiveRow(1, NOON, 50, 3, 49, 51, 1, 1)], wall=NOON, clock=6)
    (frame,) = sequencer.flush(8, 2)
    assert frame.block.volume is not None
    assert frame.block.volume.tolist() == [0, 0, 3]
    assert frame.block.ts.tolist() == [5, 6, 6]


def live(sequencer: Sequencer, *prices: int, ts: int = NOON) -> list[int]:
    """What is published of these prices of one instrument."""
    sequencer.add_live([LiveRow(0, ts, price) for price in prices], wall=NOON, clock=NOON)
    return [int(p) for frame in sequencer.flush(NOON, 1) for p in frame.block.price]


def test_an_absurd_jump_is_doubted_until_three_agree() -> None:
    sequencer = Sequencer()
    assert live(sequencer, 100, 100 * JUMP * 2, 101, 5, 102) == [100, 101, 102]
    assert sequencer.quarantined["jump"] == 2
    assert live(sequencer, *[9_000] * WITNESSES, 9_001) == [9_000, 9_001]
    assert live(sequencer, 1, 400, 1, 400, 9_002) == [9_002]


def test_an_instrument_is_suspect_until_a_sane_tick() -> None:
    sequencer = Sequencer()
    live(sequencer, 100, 0)
    assert sequencer.suspect == {0}
    live(sequencer, 101)
    assert not sequencer.suspect


@pytest.mark.parametrize("ts", [0, NOON - DAY, NOON + DAY, 10**30, -1])
def test_a_stamp_of_another_day_is_quarantined(ts: int) -> None:
    sequencer = Sequencer()
    assert live(sequencer, 100, ts=ts) == []
    assert sequencer.quarantined["stamp"] == 1


def test_midnight_is_not_another_day() -> None:
    sequencer = Sequencer()
    midnight = NOON + 12 * 3600 * SECOND
    sequencer.add_live([LiveRow(0, midnight - SECOND, 100)], wall=midnight + SECOND, clock=0)
    sequencer.add_live([LiveRow(0, midnight + SECOND, 100)], wall=midnight - SECOND, clock=0)
    assert not sequencer.quarantined


# ── days, playbacks, services ────────────────────────────────────────────────────────────────────


@functools.cache
def market_day() -> Tape:
    """Ten symbols' worth of one synthetic day, some 60,000 rows."""
    return synthetic_day("2026-11-20", seed=3)


@hypothesis(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 3_000)), max_size=12), st.integers(0, 5_000))
def test_a_day_is_the_same_however_it_is_cut(cuts: list[tuple[bool, int]], skipped: int) -> None:
    tape = market_day()
    whole = next(tape.blocks(len(tape)))
    day = Day("k", tape.instruments, 0, 0, tape.blocks(2_000))
    day.place(np.arange(len(tape.instruments)) + 5)
    day.skip(skipped)
    found: list[Block] = []
    at = skipped
    for by_time, size in cuts:
        if by_time:
            found += day.until(int(whole.ts[min(at + size, len(whole) - 1)]))
        elif (part := day.take(size)) is not None:
            found.append(part)
        at = skipped + sum(len(one) for one in found)
    day.close()
    for name in COLUMNS:
        column = np.concatenate([getattr(one, name) for one in found]) if found else np.zeros(0, np.int64)
        expected = getattr(whole, name)[skipped : skipped + len(column)] + (5 if name == "instrument" else 0)
        assert np.array_equal(column, expected), name


def test_the_synthetic_market_begins_after_the_newest_recorded_day_and_skips_holidays() -> None:
    market = SyntheticMarket(7, 5.0)
    days = market.days(0, "")
    first, second = next(days), next(days)
    assert first.key == "synthetic/7/5/2026-11-23"  # a Monday
    assert second.key == "synthetic/7/5/2026-11-25"  # the 24th is a holiday
    assert first.opens == OPEN
    for day in (first, second):
        day.close()


@pytest.mark.parametrize(
    ("clock", "key", "expected"),
    [
        (NOON, "synthetic/7/5/2026-11-23", "2026-11-23"),  # goes on with the day it was in
        (NOON, "synthetic/8/5/2026-11-23", "2026-11-25"),  # another seed: leaves it where it stands
        (NOON, "synthetic/7/5/2026-11-25", "2026-11-25"),  # was killed between two days
        (NOON, "", "2026-11-25"),
    ],
)
def test_the_synthetic_market_goes_on_where_the_log_ends(clock: int, key: str, expected: str) -> None:
    day = next(SyntheticMarket(7, 5.0).days(clock, key))
    day.close()
    assert day.key == f"synthetic/7/5/{expected}"


def test_the_synthetic_market_ends_with_the_rulebook() -> None:
    assert not list(SyntheticMarket(7, 5.0, dt.date(2026, 12, 30)).days(0, ""))


def test_a_tape_does_not_go_back_in_time() -> None:
    playback = RecordedTape(market_day())
    with pytest.raises(ConfigurationError, match="does not go back"):
        next(playback.days(NOON, ""))
    key = playback.key(dt.date(2026, 11, 20))
    day = next(playback.days(NOON, key))  # it is the one that is being played
    day.close()


def test_tape_time_stands_still_while_the_process_does() -> None:
    pace = Pace(10.0, 0, 100.0)
    assert pace.at(100.5) == 5 * SECOND
    assert pace.at(400.5) == 15 * SECOND  # five minutes stopped: one second's worth


def test_a_symbol_keeps_its_index_and_units_may_not_change() -> None:
    universe = Universe([INFY, TCS])
    assert universe.add([TCS, BTC, INFY]).tolist() == [1, 2, 0]
    assert universe.add([replace(TCS, lot_size=5)]).tolist() == [1]
    with pytest.raises(ConfigurationError, match="another workspace"):
        universe.add([replace(TCS, price_scale=10_000)])


class Ear(Venue):
    """A venue that only notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def start(self) -> None:
        self.asked.append("start")

    async def stop(self) -> None:
        self.asked.append("stop")

    def takes(self, symbol: str) -> bool:
        return symbol.startswith("BINANCE:")

    def watch(self, instrument: Instrument, index: int) -> None:
        self.asked.append(f"+{instrument.symbol} {index}")

    def unwatch(self, instrument: Instrument) -> None:
        self.asked.append(f"-{instrument.symbol}")

    def drain(self) -> list[LiveRow]:
        return []

    def health(self) -> dict[str, Any]:
        return {"state": "connected"}


def test_services_count_holders_and_route_by_asset_class() -> None:
    ear, universe = Ear(), Universe([INFY])
    services = Services(universe, lambda symbol: symbol == INFY.symbol, ear)
    services.reconcile(
        {"one": ["NSE:INFY", "BINANCE:BTCUSDT"], "two": ["BINANCE:BTCUSDT", "NSE:NOSUCH", "what"]}
    )
    assert ear.asked == ["+BINANCE:BTCUSDT 1"]
    assert services.unknown == ("NSE:NOSUCH", "what")
    services.reconcile({"one": ["NSE:INFY", "BINANCE:BTCUSDT"], "two": []})
    services.reconcile({"one": ["BINANCE:BTCUSDT"]})
    assert ear.asked == ["+BINANCE:BTCUSDT 1"]
    services.reconcile({})
    assert ear.asked == ["+BINANCE:BTCUSDT 1", "-BINANCE:BTCUSDT"]
    services.reconcile({"three": ["BINANCE:BTCUSDT"]})
    assert ear.asked[-1] == "+BINANCE:BTCUSDT 1"
    assert isinstance(services.of(BTC), CryptoMarketFeedService)
    option = next(one for one in market_day().instruments if one.kind == "CE")
    assert isinstance(services.of(option), OptionsMarketFeedService)
    assert services.of(default_instrument("MCX:GOLD26DECFUT")) is services.equity
    assert services.of(default_instrument("CDS:USDINR26NOVFUT")) is services.forex
    services.count([block([1, 2], instrument=0), block([3], instrument=1)], 1.0)
    assert (services.equity.rows, services.crypto.rows) == (2, 1)
    assert services.rows[Topics.EQUITY_TICKS] == 2


# ── the process ──────────────────────────────────────────────────────────────────────────────────


class FeedProcess:
    """A real feed on a real server, in a workspace of its own."""

    def __init__(self, root: Path, socket: Path, **settings: object) -> None:
        self.root, self.workspace = root, Workspace(root)
        self.environment = {
            **{k: v for k, v in os.environ.items() if "__" not in k},
            "PYTHONPATH": str(ROOT),
            "REDIS__UNIX_SOCKET": str(socket),
            "FEED__CRYPTO_URL": "ws://127.0.0.1:9",
            **{key: str(value) for key, value in settings.items()},
        }
        self.child: subprocess.Popen[bytes] | None = None
        self._tail, self._last = TapeLog(self.workspace.tapes), (0, 0)

    def start(self, ready: bool = True) -> subprocess.Popen[bytes]:
        self.child = subprocess.Popen(
            [sys.executable, "-P", "-m", "alphapanda.feeds", str(self.root)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            cwd=self.root, env=self.environment, start_new_session=True,
        )  # fmt: skip
        assert self.child.stdout is not None
        if ready:
            assert select.select([self.child.stdout], [], [], 50)[0]
            assert self.child.stdout.readline() == b"ready\n", self.said()
        return self.child

    def said(self) -> str:
        assert self.child is not None
        assert self.child.stderr is not None
        self.child.kill()
        return self.child.stderr.read().decode()

    def end(self, how: int = signal.SIGTERM) -> int:
        assert self.child is not None
        with contextlib.suppress(ProcessLookupError):
            self.child.send_signal(how)
        code = self.child.wait(20)
        for pipe in (self.child.stdin, self.child.stdout, self.child.stderr):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        self._tail.close()
        return code

    def frames(self) -> list[Frame]:
        """Everything in the log."""
        with contextlib.closing(TapeLog(self.workspace.tapes)) as log:
            return list(log.read(0))

    def rows(self) -> Rows:
        """Everything in the log, checked for gapless numbers on the way."""
        found: list[Block] = []
        number = row = clock = 0
        for frame in self.frames():
            assert (frame.number, frame.block.first) == (number + 1, row)
            assert frame.clock >= clock
            number, row, clock = frame.number, frame.end, frame.clock
            if len(frame.block):
                found.append(frame.block)
        names = COLUMNS if found and found[0].bid is not None else COLUMNS[:3]
        return (
            {name: np.concatenate([getattr(one, name) for one in found]) for name in names} if found else {}
        )

    def wait(self, true: Callable[[], Any], seconds: float = 40.0) -> None:
        until = time.monotonic() + seconds
        while not true():
            assert self.child is None or self.child.poll() is None, self.said()
            assert time.monotonic() < until, "waited too long"
            pause(0.02)

    def reached(self) -> int:
        """Rows in the log."""
        for frame in self._tail.read(self._last[0]):
            self._last = frame.number, frame.end
        return self._last[1]


def pause(seconds: float) -> None:
    select.select([], [], [], seconds)


@contextmanager
def feeding(root: Path, valkey: OwnValkey, **settings: object) -> Iterator[FeedProcess]:
    feed = FeedProcess(root, valkey.socket, **settings)
    feed.start()
    try:
        yield feed
    finally:
        feed.end(signal.SIGKILL)


@pytest.fixture
def server(valkey: OwnValkey) -> OwnValkey:
    valkey.flush()
    return valkey


def health(server: OwnValkey) -> dict[str, Any]:
    with server.client() as client:
        text = client.get("health:feed")
    assert text is None or isinstance(text, bytes)
    return json.loads(text) if text else {"state": "gone"}


def same(rows: Rows, tape: Tape) -> bool:
    """The rows are the tape's, all and no others."""
    whole = next(tape.blocks(len(tape)))
    return all(np.array_equal(rows[name], getattr(whole, name)) for name in rows)


def saved(root: Path, tape: Tape) -> Path:
    return tape.save(root / "source.parquet")


def test_a_tape_passes_as_it_is_through_log_and_bus_and_is_recorded_equal(
    tmp_path: Path, server: OwnValkey
) -> None:
    tape = market_day()
    settings = {"FEED__SOURCE": "tape", "FEED__TAPE": "source.parquet", "FEED__SPEED": 0}
    saved(tmp_path, tape)

    async def heard(feed: FeedProcess) -> list[Frame]:
        """Everything a reader gets that begins late and reads the bus."""
        found: list[Frame] = []
        async with RedisBus.connect(server.socket) as bus:
            with contextlib.closing(TapeLog(feed.workspace.tapes)) as log:
                reader = TickReader(bus, log)
                async with asyncio.timeout(40):
                    while not found or found[-1].end < len(tape):
                        found += await reader.read()
        return found

    with feeding(tmp_path, server, **settings) as feed:
        frames = asyncio.run(heard(feed))
        feed.wait(lambda: health(server)["state"] == "ended")
        sealed = feed.workspace.tapes / "2026-11-20.parquet"
        feed.wait(sealed.exists)
        assert feed.end() == 0
    assert [frame.number for frame in frames] == list(range(1, len(frames) + 1))
    blocks = [frame.block for frame in frames if len(frame.block)]
    assert same({name: np.concatenate([getattr(b, name) for b in blocks]) for name in COLUMNS}, tape)
    assert same(feed.rows(), tape)
    assert feed.frames()[-1].clock == OPEN - 3 * DAY + 385 * 60 * SECOND  # 15:40, when futures close
    assert Tape.open(sealed).digest == tape.digest
    assert "recorded from the feed; first row 0" in Tape.open(sealed).notes


@pytest.mark.timeout(150)
def test_killed_at_any_moment_a_tape_goes_on_at_the_right_row(tmp_path: Path, server: OwnValkey) -> None:
    tape = market_day()
    saved(tmp_path, tape)
    settings = {"FEED__SOURCE": "tape", "FEED__TAPE": "source.parquet", "FEED__SPEED": 4_000}
    feed = FeedProcess(tmp_path, server.socket, **settings)
    draw = random.Random(5)
    for _ in range(4):
        before = feed.reached()
        feed.start()
        feed.wait(lambda before=before: feed.reached() > before or feed.reached() == len(tape))
        pause(draw.random() * 0.8)
        feed.end(signal.SIGKILL)
    feed.environment["FEED__SPEED"] = "0"
    feed.start()
    feed.wait(lambda: health(server)["state"] == "ended")
    feed.end()
    assert same(feed.rows(), tape)


@pytest.mark.timeout(150)
def test_killed_at_any_moment_the_synthetic_market_is_the_undisturbed_one(
    tmp_path: Path, server: OwnValkey
) -> None:
    settings = {"FEED__SPEED": 600, "FEED__TICKS_PER_SECOND": 20, "FEED__SEED": 11}
    feed = FeedProcess(tmp_path, server.socket, **settings)
    draw = random.Random(6)
    for turn in range(5):
        before = feed.reached()
        feed.start()
        feed.wait(lambda before=before: feed.reached() > before)
        pause(draw.random())
        feed.end(signal.SIGKILL if turn else signal.SIGTERM)
    rows = feed.rows()
    market = Market(11, "2026-11-23", ticks_per_second=20)
    market.advance(OPEN - 1)
    whole = market.advance(int(rows["ts"][-1]))
    assert len(rows["ts"]) > 1_000
    for name in COLUMNS:
        assert np.array_equal(rows[name], getattr(whole, name)[: len(rows["ts"])]), name


@pytest.mark.timeout(150)
def test_virtual_days_follow_each_other_and_each_is_sealed(tmp_path: Path, server: OwnValkey) -> None:
    with (
        feeding(tmp_path, server, FEED__SPEED=0, FEED__TICKS_PER_SECOND=1) as feed,
        server.client() as client,
    ):
        sealed = [feed.workspace.tapes / f"2026-11-{day}.parquet" for day in (23, 25)]

        def recorded() -> bool:
            entry = json.dumps({"row": 0, "at": wall_ns()})  # so that it does not run on to the year's end
            client.hset("market:readers", "one", entry)
            return all(path.exists() for path in sealed)

        feed.wait(recorded)
        assert feed.end() == 0
    first, second = (Tape.open(path) for path in sealed)
    assert len(feed.rows()["ts"]) > len(first) + len(second)
    instruments = TapeLog(feed.workspace.tapes).instruments()
    for path, tape in zip(sealed, (first, second), strict=True):
        assert set(tape.symbols) <= {one.symbol for one in instruments}
        day = dt.date.fromisoformat(path.stem)
        market = Market(7, day, ticks_per_second=1)
        whole = market.advance(market.end)
        rows = next(tape.blocks(len(tape)))
        assert np.array_equal(rows.price, whole.price[len(whole) - len(rows) :])
        recorder.drop(path.parent, day)
        assert not path.with_suffix(".ticks").exists()


def test_nothing_is_published_before_enough_runs_have_subscribed(tmp_path: Path, server: OwnValkey) -> None:
    saved(tmp_path, market_day())
    settings = {"FEED__SOURCE": "tape", "FEED__TAPE": "source.parquet", "FEED__WAIT_FOR_RUNS": 2}
    with feeding(tmp_path, server, **settings) as feed, server.client() as client:
        client.hset("market:subscriptions", mapping={"one": '["NSE:INFY"]', "two": '["NSE:TCS"]'})
        client.hset("market:readers", "one", json.dumps({"row": 0, "at": wall_ns()}))
        feed.wait(lambda: health(server)["state"] == "waiting")
        pause(0.3)
        assert not feed.reached()
        for name in ("one", "two"):
            client.hset("market:readers", name, json.dumps({"row": 0, "at": wall_ns()}))
        feed.wait(feed.reached)
        feed.wait(lambda: health(server)["services"]["equity"]["symbols"] == 2)


def test_the_feed_stays_near_the_slowest_live_reader(tmp_path: Path, server: OwnValkey) -> None:
    rows = LEAD + 150_000
    tape = Tape([INFY], ts=NOON + np.arange(rows) * 10_000, price=np.full(rows, 150_000))
    saved(tmp_path, tape)

    def report(name: str, row: int, age: float = 0.0) -> None:
        entry = json.dumps({"row": row, "at": wall_ns() - round(age * 1e9)})
        client.hset("market:readers", name, entry)

    settings = {"FEED__SOURCE": "tape", "FEED__TAPE": "source.parquet", "FEED__SPEED": 0}
    with server.client() as client:
        report("slow", 0)
        report("fast", 10**9)
        report("dead", 0, age=60.0)
        client.hset("market:readers", "odd", "not json")
        with feeding(tmp_path, server, **settings) as feed:
            feed.wait(lambda: feed.reached() > LEAD - 20_000)
            report("slow", 0)
            pause(1.0)
            assert feed.reached() <= LEAD
            report("slow", 100_000)
            feed.wait(lambda: feed.reached() > LEAD + 50_000)
            assert feed.reached() <= LEAD + 100_000
            client.hdel("market:readers", "slow")
            feed.wait(lambda: feed.reached() == rows)


def test_the_log_goes_on_while_the_server_is_away_and_readers_miss_nothing(
    tmp_path: Path, own_valkey: OwnValkey
) -> None:
    async def read(feed: FeedProcess, log: TapeLog) -> tuple[list[Frame], int]:
        found: list[Frame] = []
        async with RedisBus.connect(own_valkey.socket) as bus:
            reader = TickReader(bus, log)
            async with asyncio.timeout(40):
                while not found or found[-1].end < 200:
                    found += await reader.read()
                own_valkey.kill()
                before = feed.reached()
                while feed.reached() < before + 300:  # noqa: ASYNC110 - another process writes
                    await asyncio.sleep(0.05)
                own_valkey.start()
                goal = feed.reached() + 300
                while found[-1].end < goal:
                    with contextlib.suppress(Exception):
                        found += await reader.read()
        return found, reader.refilled

    root = tmp_path / "feed"
    root.mkdir()
    with feeding(root, own_valkey, FEED__SPEED=3) as feed:
        with contextlib.closing(TapeLog(feed.workspace.tapes)) as log:
            frames, refilled = asyncio.run(read(feed, log))
        feed.wait(lambda: health(own_valkey).get("failures", 0) > 0)
    assert refilled
    assert [frame.number for frame in frames] == list(range(1, len(frames) + 1))


def test_a_full_disk_stops_the_feed_and_it_goes_on_without_loss(tmp_path: Path, server: OwnValkey) -> None:
    with feeding(tmp_path, server, FEED__SPEED=20) as feed:
        assert feed.child is not None
        feed.wait(lambda: feed.reached() > 500)
        size = max(path.stat().st_size for path in feed.workspace.tapes.glob("*.ticks"))
        none = resource.RLIM_INFINITY
        resource.prlimit(feed.child.pid, resource.RLIMIT_FSIZE, (size + 1000, none))
        feed.wait(lambda: "cannot be written" in health(server).get("detail", ""))
        before = feed.reached()
        with server.client() as client:
            stream = client.xlen(Topics.EQUITY_TICKS)
            pause(0.5)
            assert client.xlen(Topics.EQUITY_TICKS) == stream  # what is not kept is not published
        resource.prlimit(feed.child.pid, resource.RLIMIT_FSIZE, (none, none))
        feed.wait(lambda: feed.reached() > before + 500)
        feed.wait(lambda: health(server)["state"] == "running")
    rows = feed.rows()
    market = Market(7, "2026-11-23", ticks_per_second=60)
    market.advance(OPEN - 1)
    whole = market.advance(int(rows["ts"][-1]))
    assert np.array_equal(rows["price"], whole.price[: len(rows["price"])])


def test_an_open_market_without_ticks_is_stale_and_time_goes_on_in_heartbeats(
    tmp_path: Path, server: OwnValkey
) -> None:
    ts = NOON + np.array([0, 1, 2, 3_200, 3_300, 60_000]) * (SECOND // 1000)
    saved(tmp_path, Tape([INFY], ts=ts, price=np.full(6, 150_000)))
    settings = {"FEED__SOURCE": "tape", "FEED__TAPE": "source.parquet", "MONITORING__STALE_TICK_SECONDS": 1}
    with feeding(tmp_path, server, **settings) as feed:
        feed.wait(lambda: health(server).get("stale") is True)
        assert "no ticks" in health(server)["detail"]
        feed.wait(lambda: feed.reached() >= 5)
        feed.wait(lambda: health(server)["stale"] is False, 3)
    beats = [frame.clock for frame in feed.frames() if not len(frame.block)]
    assert len(beats) >= 4
    assert max(np.diff(beats)) < 3 * SECOND


@pytest.mark.timeout(150)
def test_crypto_comes_from_its_venue_while_somebody_holds_it(tmp_path: Path, server: OwnValkey) -> None:
    """A venue process that is stopped and goes on: stale, a new connection, a gap; and the market beside it goes on."""
    venue = subprocess.Popen([sys.executable, "-m", "tests.binance_server"], cwd=ROOT, stdout=subprocess.PIPE)
    assert venue.stdout is not None
    port = int(venue.stdout.readline())
    settings = {"FEED__CRYPTO_URL": f"ws://127.0.0.1:{port}", "MONITORING__STALE_TICK_SECONDS": 1}

    def crypto() -> dict[str, Any]:
        return health(server).get("services", {}).get("crypto", {})

    try:
        with feeding(tmp_path, server, **settings) as feed, server.client() as client:
            feed.wait(lambda: health(server)["state"] == "running")
            assert crypto()["state"] == "idle"
            client.hset("market:subscriptions", "run", '["BINANCE:BTCUSDT", "NSE:INFY"]')
            feed.wait(lambda: client.xlen(Topics.CRYPTO_TICKS) > 20)
            os.kill(venue.pid, signal.SIGSTOP)
            feed.wait(lambda: crypto()["stale"] == ["BINANCE:BTCUSDT"] and "reconnects" in crypto()["counts"])
            os.kill(venue.pid, signal.SIGCONT)
            feed.wait(lambda: crypto()["gaps"] and not crypto()["stale"])
            client.hdel("market:subscriptions", "run")
            feed.wait(lambda: crypto()["state"] == "idle")
            assert health(server)["stale"] is False
            feed.end(signal.SIGKILL)
            rows = feed.rows()
            instruments = TapeLog(feed.workspace.tapes).instruments()
            feed.start()  # its rows lie between the market's: they must not be taken for them
            feed.wait(lambda: feed.reached() > len(rows["ts"]) + 100)
            feed.end()
    finally:
        venue.kill()
        venue.wait()
        venue.stdout.close()
    rows = feed.rows()
    coin = [one.symbol for one in instruments].index("BINANCE:BTCUSDT")
    coins = rows["instrument"] == coin
    assert set(rows["price"][coins].tolist()) <= set(range(10_000_012, 10_000_712, 100))
    assert (rows["volume"][coins] == 50_000_000).all()
    assert rows["bid"][coins][1:].min() > 0
    market = Market(7, "2026-11-23", ticks_per_second=60)
    market.advance(OPEN - 1)
    whole = market.advance(int(rows["ts"][-1]))
    for name in COLUMNS:
        own = rows[name][~coins]
        assert np.array_equal(own, getattr(whole, name)[: len(own)]), name


# ── how it begins and ends ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", ["stdin", "SIGTERM"])
def test_it_ends_when_asked_or_when_its_parent_dies(tmp_path: Path, server: OwnValkey, way: str) -> None:
    with feeding(tmp_path, server) as feed:
        assert feed.child is not None
        assert feed.child.stdin is not None
        feed.child.send_signal(signal.SIGINT)  # an interrupt of the notebook is none of its business
        feed.wait(feed.reached)
        if way == "stdin":
            feed.child.stdin.close()
        else:
            feed.child.terminate()
        assert feed.child.wait(10) == 0


@pytest.mark.timeout(150)
def test_a_wrong_setting_is_not_tried_again(tmp_path: Path, server: OwnValkey) -> None:
    saved(tmp_path, market_day())
    log = Writer(Workspace(tmp_path).tapes)
    log.append(heartbeat(1, NOON, 0, 0))
    log.close()
    for settings, word in (
        ({"FEED__SOURCE": "tape", "FEED__TAPE": "nowhere.parquet"}, "no such file"),
        ({"FEED__SPEED": "-1"}, "FEED__SPEED"),
        ({"FEED__SOURCE": "tape", "FEED__TAPE": "source.parquet"}, "does not go back"),
    ):
        feed = FeedProcess(tmp_path, server.socket, **settings)
        child = feed.start(ready=False)
        assert child.wait(30) == 78
        assert word in feed.said()
        feed.end()


def test_one_feed_writes_a_log(tmp_path: Path, server: OwnValkey) -> None:
    with feeding(tmp_path, server) as first:
        second = FeedProcess(tmp_path, server.socket)
        child = second.start(ready=False)
        assert child.wait(40) == 1
        assert "another feed" in second.said()
        second.end()
        assert first.child is not None
        assert first.child.poll() is None


# ── the recorder ─────────────────────────────────────────────────────────────────────────────────


def test_a_log_is_dropped_only_for_a_tape_that_holds_it(tmp_path: Path, server: OwnValkey) -> None:
    ts = NOON + np.arange(2_000) * 1000
    ts[-10:] += 2 * DAY
    tape = Tape([INFY], ts=ts, price=150_000 + np.arange(2_000) % 7 * 5)
    saved(tmp_path, tape)
    settings = {
        "FEED__SOURCE": "tape",
        "FEED__TAPE": "source.parquet",
        "FEED__SPEED": 0,
        "FEED__RECORD": "false",
    }
    with feeding(tmp_path, server, **settings) as feed:
        feed.wait(lambda: health(server)["state"] == "ended")
        feed.end()
    folder, day = feed.workspace.tapes, dt.date(2026, 11, 23)
    path = folder / f"{day}.parquet"
    assert not path.exists()
    with pytest.raises(DataError, match="seal the day first"):
        recorder.drop(folder, day)
    with pytest.raises(DataError, match="no such log"):
        recorder.seal(folder, dt.date(2026, 11, 19))
    saved(folder, market_day()).rename(path)
    with pytest.raises(DataError, match="no recording"):
        recorder.seal(folder, day)
    with pytest.raises(DataError, match="seal the day first"):
        recorder.drop(folder, day)
    path.unlink()
    assert recorder.seal(folder, day) == path
    before = path.stat().st_mtime_ns
    assert recorder.seal(folder, day) == path
    assert path.stat().st_mtime_ns == before
    assert Tape.open(path).digest == tape.between(day, day).digest
    assert Tape.open(recorder.seal(folder, dt.date(2026, 11, 25)) or path).notes == (f"{recorder.NOTE}1990",)
    with pytest.raises(DataError, match="newest"):
        recorder.drop(folder, dt.date(2026, 11, 25))
    recorder.drop(folder, day)
    assert not (folder / f"{day}.ticks").exists()

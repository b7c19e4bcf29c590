"""Gaps on record, and what is asked for them: closed minutes, few enough, each once, beside the tape."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

import alphapanda as ap
from alphapanda.clock import monotonic
from alphapanda.errors import AuthenticationError, DataError
from alphapanda.events import MINUTE, SECOND
from alphapanda.feeds import kite_refill
from alphapanda.feeds.connection import Gap
from alphapanda.feeds.kite_gaps import GapFile, RecordedGap, Settled
from alphapanda.feeds.kite_refill import Refills
from alphapanda.feeds.kite_rest import Candle, KiteRest
from alphapanda.instruments import Instrument
from alphapanda.rulebook import Rulebook
from alphapanda.sandbox.broker import Broker
from alphapanda.sandbox.market import Market
from alphapanda.sandbox.serve import Running, Sandbox
from alphapanda.sandbox.sources import Synthetic
from alphapanda.workspace import Workspace
from tests.sandbox_rig import FREE, INFY, at

DAY, SYMBOLS = "2026-11-20", (INFY, "NSE:TCS", "NSE:SBIN", "NSE:RELIANCE")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Running]:
    market = Market.of(Synthetic(7, dt.date(2026, 11, 20), 5.0))
    with Sandbox.thread(Broker(market, now=at(10), limits=FREE), speed=1.0) as running:
        yield running


class Case:
    """Refills of one workspace, with the calls they make."""

    def __init__(self, root: Path, sandbox: Running) -> None:
        self.root, self.sandbox, self.now = root, sandbox, at(10)
        self.refills: Refills
        self.asked: dict[int, float] = {}  # the token of an instrument → monotonic time
        self.rest = KiteRest(sandbox.url, SecretStr(sandbox.broker.account.api_key), 5.0)
        self.token = SecretStr(sandbox.open_session())
        self.listed: Callable[[str], Instrument | None] = lambda name: sandbox.do(
            lambda one: one.market.get(name).instrument
        )

    def ask(self, token: int, start: int, end: int) -> list[Candle]:
        self.asked[token] = monotonic()
        return self.rest.candles(self.token, token, start, end)

    def play(
        self, *missed: Gap, until: Callable[[], bool] | None = None, day: str = DAY
    ) -> list[RecordedGap]:
        """A feed's life in which these gaps end; it is over when all are settled."""

        folder = Workspace(self.root).tapes
        self.refills = Refills(folder, self.ask, self.listed, Rulebook.load(), lambda: self.now)

        async def life() -> None:
            running = asyncio.create_task(self.refills.run())
            for gap in missed:
                await self.refills.take(gap)
            async with asyncio.timeout(30):
                while not (until() if until else all(one.settled for one in self.gaps(day))):  # noqa: ASYNC110 - a file rings no bell
                    await asyncio.sleep(0.02)
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

        asyncio.run(life())
        return self.gaps(day)

    def gaps(self, day: str = DAY) -> list[RecordedGap]:
        return ap.gaps(day, workspace=self.root)


@pytest.fixture
def case(tmp_path: Path, sandbox: Running, monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.setattr(kite_refill, "LOOK_SECONDS", 0.02)
    return Case(tmp_path, sandbox)


def minutes(gap: RecordedGap, symbol: str = INFY) -> list[int]:
    return [bar.minute for bar in gap.bars if bar.symbol == symbol]


def test_the_minutes_that_a_gap_touches_are_kept_no_faster_than_the_broker_allows(case: Case) -> None:
    start = at(9, 40) + 30 * SECOND
    (gap,) = case.play(Gap(start, start + 90 * SECOND, "why", SYMBOLS))
    assert (gap.start, gap.end, gap.reason, gap.symbols) == (start, start + 90 * SECOND, "why", SYMBOLS)
    assert [minutes(gap, symbol) for symbol in SYMBOLS] == [[26, 27]] * 4  # 9:40 and 9:41
    assert [(bar.start, bar.ts) for bar in gap.bars[:1]] == [(at(9, 40), at(9, 41))]
    first, *_, last = case.asked.values()
    assert last - first > 2 * kite_refill.CALL_SECONDS
    assert case.refills.health() == {"waiting": 0, "candles": 8, "left_out": 0, "fault": ""}


def test_a_short_gap_is_on_record_and_nothing_is_asked_for(case: Case) -> None:
    (gap,) = case.play(Gap(at(9, 40), at(9, 40) + 59 * SECOND, "why", SYMBOLS))
    assert not gap.bars
    assert not case.asked
    assert gap.left_out == dict.fromkeys(SYMBOLS, "less than a minute of trading")


def test_the_last_minute_is_asked_for_when_it_has_closed_and_settled(case: Case) -> None:
    case.now = at(9, 42) + 5 * SECOND
    gap = Gap(at(9, 40), at(9, 41) + 30 * SECOND, "why", (INFY,))
    case.play(gap, until=lambda: case.refills.health()["waiting"] == 0)
    assert not case.asked
    case.now = at(9, 42) + 10 * SECOND
    assert [minutes(one) for one in case.play()] == [[26, 27]]  # taken up by the next feed


def test_more_symbols_than_may_be_asked_for_are_counted(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kite_refill, "SYMBOLS_MAX", 1)
    (gap,) = case.play(Gap(at(9, 40), at(9, 42), "why", SYMBOLS))
    assert {bar.symbol for bar in gap.bars} == {INFY}
    assert gap.left_out == dict.fromkeys(SYMBOLS[1:], "more than 1 symbols")
    assert case.refills.health()["left_out"] == 3


def test_a_refusal_ends_the_asking_and_is_said(case: Case) -> None:
    case.token = SecretStr("yesterdays")
    (gap,) = case.play(Gap(at(9, 40), at(9, 42), "why", SYMBOLS))
    assert gap.left_out == dict.fromkeys(SYMBOLS, "candles were refused")
    assert len(case.asked) == 1
    assert "candles were refused" in case.refills.health()["fault"]


def test_a_symbol_that_is_not_listed_any_more_is_left_out(case: Case) -> None:
    listed = case.listed
    case.listed = lambda name: None if name == INFY else listed(name)
    (gap,) = case.play(Gap(at(9, 40), at(9, 42), "why", SYMBOLS[:2]))
    assert {bar.symbol for bar in gap.bars} == {"NSE:TCS"}
    assert gap.left_out == {INFY: "not on today's list"}


def test_a_feed_that_was_ended_asks_only_for_what_is_not_on_record(case: Case) -> None:
    missed = Gap(at(9, 40), at(9, 42), "why", SYMBOLS)
    case.play(missed, until=lambda: len(case.gaps()[0].bars) >= 4)
    already = len({bar.symbol for bar in case.gaps()[0].bars})
    path = GapFile(Workspace(case.root).tapes, dt.date(2026, 11, 20)).path
    path.write_bytes(path.read_bytes() + b'{"type":"refilled","num')  # the power failed
    case.asked.clear()
    (gap,) = case.play()
    assert len(case.asked) == 4 - already
    assert [minutes(gap, symbol) for symbol in SYMBOLS] == [[26, 27]] * 4


def test_a_gap_over_night_has_a_part_for_each_day_with_trading(case: Case) -> None:
    gap = Gap(at(15, 13, "2026-11-19"), at(9, 16, DAY) + 30 * SECOND, "why", (INFY, "NSE:TCS"))
    (today,) = case.play(gap)
    (before,) = case.play(day="2026-11-19")
    assert minutes(today) == [1, 2]
    assert minutes(before) == [359, 360]  # to 15:15, when the closing auction begins
    assert before.end < today.start
    weekend = Gap(at(18, 0, "2026-11-20"), at(9, 0, "2026-11-23"), "why", (INFY,))
    assert case.play(weekend) == [today]  # nothing traded, so nothing was missed


def test_a_line_without_instruments_missed_no_tick(case: Case) -> None:
    assert case.play(Gap(at(9, 40), at(9, 45), "why")) == []


def test_a_full_disk_is_said_and_ends_nothing(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: GapFile, line: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(GapFile, "add", full)
    gap = Gap(at(9, 40), at(9, 45), "why", (INFY,))
    assert case.play(gap, until=lambda: bool(case.refills.health()["fault"])) == []
    assert case.refills.health()["fault"] == "a gap is not on record: No space left on device"


def test_what_the_broker_answers_is_judged(case: Case) -> None:
    with pytest.raises(DataError, match="answered 400 and no candles"):
        case.rest.candles(case.token, 1, at(9, 40), at(9, 41))
    with pytest.raises(AuthenticationError, match="refused"):
        case.rest.candles(SecretStr("yesterdays"), 1, at(9, 40), at(9, 41))
    token = case.sandbox.do(lambda one: one.market.get(INFY).instrument.token)
    (candle,) = case.rest.candles(case.token, token, at(9, 40), at(9, 40) + MINUTE - SECOND)
    assert candle.ts == at(9, 40)
    assert candle.low <= candle.open <= candle.high
    assert candle.volume > 0


def test_gaps_of_a_day_that_is_not_on_record_are_none(tmp_path: Path) -> None:
    assert ap.gaps(dt.date(2026, 11, 20), workspace=tmp_path) == []
    file = GapFile(Workspace(tmp_path).tapes, dt.date(2026, 11, 20))
    file.add(Settled(7))  # of a gap that a torn line has lost
    assert ap.gaps(DAY, workspace=tmp_path) == []
    assert file.open_gap(at(9), at(10), "why", (INFY,)).number == 8

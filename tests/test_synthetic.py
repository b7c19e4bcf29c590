"""The synthetic market: the same everywhere, indifferent to slicing, and like a market in its statistics."""

from __future__ import annotations

import datetime as dt
import functools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from alphapanda.errors import RulebookError, UnknownNameError, ValidationError
from alphapanda.events import DAY, IST_OFFSET_NS, MINUTE, SECOND, Block
from alphapanda.rulebook import Rulebook
from alphapanda.synthetic import RATE, STOCKS, WEIGHTS, Market, default_universe, main, synthetic_day
from alphapanda.tapes.tape import Tape

ROOT = Path(__file__).parent.parent
BUNDLED = ROOT / "alphapanda" / "data" / "2026-11-20.parquet"
COLUMNS = ("ts", "instrument", "price", "volume", "bid", "ask", "bid_quantity", "ask_quantity")
OPTIONS = [i.symbol for i in default_universe() if i.kind in ("CE", "PE")]


@functools.cache
def day() -> Tape:
    return synthetic_day()


@functools.cache
def ticks(symbol: str, tape: Tape | None = None) -> dict[str, npt.NDArray[np.int64]]:
    """The columns of one instrument; ``clock`` is ns since midnight IST."""
    tape = tape or day()
    block = next(tape.blocks(len(tape)))
    own = block.instrument == tape.symbols.index(symbol)
    found = {name: getattr(block, name)[own] for name in COLUMNS}
    return found | {"clock": (found["ts"] + IST_OFFSET_NS) % DAY}


def at(hour: int, minute: int) -> int:
    return (hour * 60 + minute) * MINUTE


def minute_returns(symbol: str) -> npt.NDArray[np.float64]:
    """Log returns of the middle of the quote (the index: its value) over the minutes from 09:20 to 15:15."""
    own = ticks(symbol)
    value = np.where(own["bid"] > 0, (own["bid"] + own["ask"]) / 2, own["price"])
    last = np.searchsorted(own["clock"], np.arange(at(9, 20), at(15, 15) + 1, MINUTE), "right") - 1
    return np.diff(np.log(value[last]))


# ── the same everywhere ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("zone", "seed"), [("Asia/Kolkata", "1"), ("America/New_York", "77")])
def test_one_digest_in_every_time_zone_and_hash_seed(zone: str, seed: str) -> None:
    code = "from alphapanda.synthetic import synthetic_day; print(synthetic_day().digest)"
    environment = os.environ | {"TZ": zone, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == day().digest


def test_the_bundled_day_is_what_the_generator_makes() -> None:
    bundled = Tape.open(BUNDLED)
    assert bundled.digest == day().digest
    assert sum(len(block) for block in bundled.blocks()) == len(day())
    assert 140_000 < len(bundled) < 300_000
    assert BUNDLED.stat().st_size < 3_000_000


def test_seed_and_day_matter() -> None:
    few = {synthetic_day(d, s, 0.1).digest for d in ("2026-11-20", "2026-11-19") for s in (7, 8)}
    assert len(few) == 4


# ── slicing ──────────────────────────────────────────────────────────────────────────────────────


def joined(blocks: list[Block]) -> list[npt.NDArray[np.int64]]:
    return [np.concatenate([getattr(b, name) for b in blocks]) for name in COLUMNS]


@functools.cache
def whole_day() -> list[npt.NDArray[np.int64]]:
    market = Market(seed=3, ticks_per_second=0.5)
    return joined([market.advance(market.end)])


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(0, 24_000_000), max_size=12))
def test_how_the_day_is_sliced_changes_nothing(cuts: list[int]) -> None:
    market = Market(seed=3, ticks_per_second=0.5)
    blocks: list[Block] = []
    for moment in [*(market.start + ms * SECOND // 1000 for ms in sorted(cuts)), market.end + SECOND]:
        before = market.now
        blocks.append(market.advance(moment))
        assert blocks[-1].first == sum(map(len, blocks[:-1]))
        if len(blocks[-1]):
            assert before < blocks[-1].ts[0]
            assert blocks[-1].ts[-1] <= moment
    assert all(map(np.array_equal, joined(blocks), whole_day()))


def test_an_instrument_has_the_same_ticks_whoever_else_is_there() -> None:
    wanted = ["NSE:INFY", OPTIONS[0]]
    alone = [i for i in default_universe() if i.symbol in wanted]
    market = Market(instruments=alone)
    block = market.advance(market.end)
    selected = synthetic_day(symbols=wanted)
    assert selected.symbols == tuple(wanted)
    other = next(selected.blocks(len(selected)))
    assert all(np.array_equal(getattr(block, name), getattr(other, name)) for name in COLUMNS)


# ── rows a venue could have printed ──────────────────────────────────────────────────────────────


def test_prices_quotes_and_quantities_are_sound() -> None:
    for instrument in day().instruments:
        own = ticks(instrument.symbol)
        assert np.all(np.diff(own["ts"]) > 0)
        for name in ("price", "bid", "ask"):
            assert np.all(own[name] % instrument.tick_size == 0)
        assert np.all(own["price"] > 0)
        quoted = own["bid"] > 0
        for name in ("bid", "ask", "bid_quantity", "ask_quantity"):
            assert np.array_equal(own[name] > 0, quoted)
        assert np.all(own["bid"][quoted] < own["ask"][quoted])
        assert np.all((own["bid"] <= own["price"])[quoted] & (own["price"] <= own["ask"])[quoted])
        assert np.all(own["volume"][quoted] > 0)
        for name in ("volume", "bid_quantity", "ask_quantity"):
            assert np.all(own[name] % instrument.lot_size == 0)


def test_the_universe_of_the_day() -> None:
    universe = {i.symbol: i for i in default_universe("2026-11-20")}
    future = universe["NFO:NIFTY26NOVFUT"]
    assert future.expiry == dt.date(2026, 11, 23)  # the last Tuesday of the month, the 24th, is a holiday
    assert (future.lot_size, future.tick_size) == (65, 10)
    assert universe["NFO:NIFTY26NOV26000CE"].strike == 26_000_00
    assert not universe["NSE:NIFTY 50"].tradable
    ticks_of = {s: universe[f"NSE:{s}"].tick_size for s in ("TATASTEEL", "ITC", "RELIANCE", "MARUTI")}
    assert ticks_of == {"TATASTEEL": 1, "ITC": 5, "RELIANCE": 10, "MARUTI": 100}
    assert [i.tradingsymbol for i in universe.values() if i.kind == "EQ" and not i.in_fo] == ["VGUARD"]


@pytest.mark.parametrize(
    ("on", "symbol", "expiry"),
    [
        ("2026-11-25", "NFO:NIFTY26D0126000PE", "2026-12-01"),
        ("2026-12-25", None, None),
        ("2026-10-05", "NFO:NIFTY26O0626000PE", "2026-10-06"),
        ("2026-07-28", "NFO:NIFTY26JUL26000PE", "2026-07-28"),
        ("2025-07-08", "NFO:NIFTY2571026000PE", "2025-07-10"),
        ("2025-12-31", "NFO:NIFTY2610626000PE", "2026-01-06"),
    ],
)
def test_weekly_contracts_are_named_and_dated_as_on_kite(on: str, symbol: str, expiry: str) -> None:
    if symbol is None:
        with pytest.raises(ValidationError, match="not a trading day: Christmas"):
            default_universe(on)
        return
    assert {i.symbol: i for i in default_universe(on)}[symbol].expiry == dt.date.fromisoformat(expiry)


# ── sessions ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("on", ["2026-11-20", "2026-07-15", "2025-03-12", "2026-12-08", "2026-11-08"])
def test_quoted_trades_happen_in_continuous_trading_only(on: str) -> None:
    tape = day() if on == "2026-11-20" else synthetic_day(on, ticks_per_second=1.0)
    rules = Rulebook.load()
    for instrument in tape.instruments:
        session = rules.session(instrument, dt.date.fromisoformat(on))
        assert session is not None
        own = ticks(instrument.symbol, tape)
        quoted = own["ts"][own["bid"] > 0]
        if instrument.kind == "INDEX":
            assert not len(quoted)
            continue
        assert session.open_ns <= quoted[0]
        assert quoted[-1] < session.close_ns
        early = own["ts"] < session.open_ns
        assert np.count_nonzero(own["volume"][early]) == any(p == "preopen" for p, _, _ in session.phases)
        late = own["ts"] >= session.close_ns
        auctions = [span for span in session.phases if span[0] == "closing_auction"]
        assert np.count_nonzero(late) == len(auctions)
        for _, opens, closes in auctions:
            assert np.all((own["ts"][late] > opens) & (own["ts"][late] < closes))


def test_the_closing_auction_of_2026() -> None:
    own = ticks("NSE:RELIANCE")
    last = own["clock"][-1]
    assert at(15, 28) <= last <= at(15, 31)
    assert own["volume"][-1] > 50 * np.median(own["volume"])
    assert not np.any((own["clock"] >= at(15, 15)) & (own["clock"] < last))
    assert at(15, 14) < ticks("NFO:NIFTY26NOVFUT")["clock"][-1] - 24 * MINUTE < at(15, 16)
    assert ticks("NSE:VGUARD")["clock"][-1] > at(15, 28)
    index = ticks("NSE:NIFTY 50")
    frozen = (index["clock"] >= at(15, 16)) & (index["clock"] < at(15, 28))
    assert len(set(index["price"][frozen])) == 1


# ── like a market ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", STOCKS)
def test_stock_returns(name: str) -> None:
    returns, index = minute_returns(f"NSE:{name}"), minute_returns("NSE:NIFTY 50")
    assert np.corrcoef(returns, index)[0, 1] > 0.2
    assert 0.10 < np.std(returns) * np.sqrt(375 * 252) < 0.80
    deviation = returns - returns.mean()
    assert np.mean(deviation**4) / np.var(returns) ** 2 > 3.0


def test_index_is_its_stocks() -> None:
    returns = [minute_returns(f"NSE:{name}") for name in STOCKS]
    basket = np.sum([w * r for w, r in zip(WEIGHTS, returns, strict=False)], axis=0)
    assert np.corrcoef(basket, minute_returns("NSE:NIFTY 50"))[0, 1] > 0.8
    own = ticks("NSE:NIFTY 50")
    continuous = own["clock"][(own["clock"] >= at(9, 15)) & (own["clock"] < at(15, 15))]
    assert np.all(continuous % SECOND == 0)
    assert len(continuous) > 0.95 * 6 * 3600


@pytest.mark.parametrize("symbol", ["NSE:RELIANCE", "NSE:SBIN", "NFO:NIFTY26NOVFUT", "NFO:NIFTY26NOV26000CE"])
def test_trading_is_busiest_at_both_ends(symbol: str) -> None:
    own = ticks(symbol)
    close = at(15, 40) if symbol.startswith("NFO") else at(15, 15)

    def volume(start: int) -> int:
        return int(own["volume"][(own["clock"] >= start) & (own["clock"] < start + 30 * MINUTE)].sum())

    middle = np.mean([volume(at(11, 30) + n * 30 * MINUTE) for n in range(4)])
    assert volume(at(9, 15)) > 1.3 * middle
    assert volume(close - 30 * MINUTE) > 1.05 * middle
    assert volume(at(9, 15)) + volume(close - 30 * MINUTE) > 2.5 * middle


def test_spreads() -> None:
    def spread(symbol: str, start: int = at(9, 15), end: int = at(15, 40)) -> float:
        instrument = day().instruments[day().symbols.index(symbol)]
        own = ticks(symbol)
        inside = (own["bid"] > 0) & (own["clock"] >= start) & (own["clock"] < end)
        return float(np.mean((own["ask"] - own["bid"])[inside]) / instrument.tick_size)

    for liquid in ("NSE:RELIANCE", "NSE:HDFCBANK", "NSE:TCS", "NFO:NIFTY26NOVFUT"):
        assert 1.0 <= spread(liquid) < 3.0
        assert spread(liquid, end=at(9, 20)) > 1.2 * spread(liquid, at(11, 0), at(14, 0))
    assert spread("NSE:VGUARD") > 2 * spread("NSE:RELIANCE")
    assert spread("NFO:NIFTY26NOV26400PE") > 1.5 * spread("NFO:NIFTY26NOV26000PE")  # far in the money


def test_prices_bounce_between_bid_and_ask() -> None:
    own = ticks("NSE:TATASTEEL")
    moves = np.diff(own["price"][own["bid"] > 0].astype(np.float64))
    assert -0.5 < np.corrcoef(moves[1:], moves[:-1])[0, 1] < -0.02


def test_put_call_parity() -> None:
    """At a moment with fresh quotes, C - P = D (F - K) within the spreads and a few ticks."""
    wanted = ["NFO:NIFTY26NOVFUT", "NFO:NIFTY26NOV26000CE", "NFO:NIFTY26NOV26000PE"]
    universe = [i for i in default_universe() if i.symbol in wanted]
    market = Market(instruments=universe, ticks_per_second=400.0)
    block = market.advance(market.start + 90 * MINUTE)
    expires = Rulebook.load().session(universe[1], dt.date(2026, 11, 23))
    assert expires is not None
    assert block.bid is not None
    assert block.ask is not None
    moments = np.arange(market.start + 20 * MINUTE, market.start + 90 * MINUTE, SECOND // 2) - 1
    ages, middles, spreads = [], [], []
    for number in range(3):
        own = np.flatnonzero((block.instrument == number) & (block.bid > 0))
        rows = own[np.searchsorted(block.ts[own], moments, "right") - 1]
        ages.append(moments - block.ts[rows])
        middles.append((block.bid[rows] + block.ask[rows]) / 2)
        spreads.append((block.ask[rows] - block.bid[rows]) / 2)
    fresh = np.max(ages, axis=0) < SECOND // 2  # all three from the same half second of the model
    discount = np.exp(-RATE * (expires.close_ns - moments) / (365 * DAY))
    gap = np.abs(middles[1] - middles[2] - discount * (middles[0] - 26_000_00))
    beyond = np.maximum(0.0, gap - spreads[1] - spreads[2] - spreads[0])[fresh] / 5  # ticks of 0.05
    assert len(beyond) > 5000
    assert np.median(beyond) < 1.0
    assert np.percentile(beyond, 99) < 6.0


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"day": "2026-11-22"}, ValidationError, "not a trading day: Sunday"),
        ({"day": "2026-11-24"}, ValidationError, "Guru Nanak"),
        ({"day": "20 November"}, ValidationError, "is not a date"),
        ({"day": dt.datetime(2026, 11, 20)}, ValidationError, "is not a date"),  # noqa: DTZ001
        ({"day": "2021-02-24"}, ValidationError, "several sessions"),
        ({"day": "2031-01-02"}, RulebookError, "outside the rulebook"),
        ({"seed": -1}, ValidationError, "seed -1"),
        ({"seed": True}, ValidationError, "seed True"),
        ({"seed": 1.5}, ValidationError, "seed 1.5"),
        ({"ticks_per_second": 0}, ValidationError, "ticks_per_second 0"),
        ({"ticks_per_second": float("nan")}, ValidationError, "ticks_per_second nan"),
        ({"ticks_per_second": "8"}, ValidationError, "ticks_per_second '8'"),
        ({"ticks_per_second": 1e9}, ValidationError, "0.01 to 10,000"),
        (
            {"symbols": ["NSE:RELIANC"], "ticks_per_second": 0.1},
            UnknownNameError,
            "did you mean 'NSE:RELIANCE'",
        ),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, object], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        synthetic_day(**arguments)  # pyright: ignore[reportArgumentType] - that is the point


def test_wrong_instruments_are_refused() -> None:
    infy = default_universe()[4]
    option = default_universe()[-1]
    for instruments, text in (
        ([], "no instruments"),
        ([infy, infy], "listed twice"),
        ([replace(infy, symbol="NSE:INFI")], "did you mean 'NSE:INFY'"),
        ([replace(option, expiry=dt.date(2026, 11, 17))], "until its expiry"),
        ([replace(option, expiry=dt.date(2026, 11, 24))], "until its expiry"),
        ([replace(option, strike=0)], "no strike"),
    ):
        with pytest.raises(ValidationError, match=text):
            Market(instruments=instruments)


def test_time_goes_forward() -> None:
    market = Market(ticks_per_second=0.1)
    market.advance(market.start + MINUTE)
    with pytest.raises(ValidationError, match="cannot go back"):
        market.advance(market.start)
    with pytest.raises(ValidationError, match="not a time in ns"):
        market.advance(1.5)  # pyright: ignore[reportArgumentType]


def test_the_command_writes_a_tape(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "day.parquet"
    main(["--day", "2026-11-19", "--seed", "1", "--rate", "0.2", "--symbols", "NSE:SBIN", "--out", str(out)])
    assert Tape.open(out).symbols == ("NSE:SBIN",)
    assert "MB" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--day", "2026-11-21", "--out", str(out)])
    assert "Saturday" in capsys.readouterr().err

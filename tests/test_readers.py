"""Files and frames become tapes; every bad cell is named with file, column, row and fix, and nothing goes silently."""

from __future__ import annotations

import datetime as dt
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphapanda.errors import AlphaPandaException, DataError, UnknownNameError, ValidationError
from alphapanda.events import IST, SECOND
from alphapanda.instruments import Instrument
from alphapanda.registry import Registry
from alphapanda.tapes.readers import read_bars, read_ticks, tape
from alphapanda.tapes.tape import Tape, nanoseconds

OPEN = nanoseconds(dt.datetime(2026, 11, 20, 9, 15, tzinfo=IST))
MINUTE = 60 * SECOND
INFY: dict[str, Any] = {"symbol": "NSE:INFY"}
KOLKATA: dict[str, Any] = INFY | {"timezone": "Asia/Kolkata"}
GOOD = """\
timestamp,price,volume,bid,ask
2026-11-20 09:15:00+05:30,1500.05,10,1500,1500.1
2026-11-20 09:15:01+05:30,1500.1,20,1500.05,1500.15
2026-11-20 09:15:02+05:30,1500,5,1499.95,1500.05
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a file and returns its path."""

    def write(content: str | bytes, name: str = "ticks.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def prices(t: Tape) -> list[float]:
    return t.frame()["price"].to_list()


def stamps(t: Tape) -> list[int]:
    return t.frame()["ts"].dt.epoch("ns").to_list()


# ── what is understood ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_csv_becomes_integer_columns(write: Callable[..., Path]) -> None:
    read = read_ticks(write(GOOD), **INFY)
    block = next(read.blocks())
    assert block.ts.tolist() == [OPEN, OPEN + SECOND, OPEN + 2 * SECOND]
    assert block.price.tolist() == [150_005, 150_010, 150_000]
    assert block.volume is not None
    assert block.volume.tolist() == [10, 20, 5]
    assert block.bid is not None
    assert block.ask is not None
    assert (block.bid.tolist(), block.ask.tolist()) == (
        [150_000, 150_005, 149_995],
        [150_010, 150_015, 150_005],
    )
    assert block.inside is None
    assert read.symbols == ("NSE:INFY",)
    assert read.notes == ()


def test_every_way_in_gives_the_same_tape(write: Callable[..., Path], tmp_path: Path) -> None:
    digest = read_ticks(write(GOOD), **INFY).digest
    frame = pl.read_csv(GOOD.encode(), try_parse_dates=True)
    pandas = pd.DataFrame({n: frame[n].to_list() for n in frame.columns})
    frame.write_parquet(tmp_path / "t.parquet")
    ways: list[Any] = [
        write(gzip.compress(GOOD.encode()), "t.csv.gz"),
        str(write("\ufeff" + GOOD.replace("\n", "\r\n"), "bom.csv")),
        write("\n\n" + GOOD.replace("02+05:30", "02+05:30 ") + "\n\n", "blank.csv"),
        write(GOOD.replace(",", ";"), "t2.csv"),
        tmp_path / "t.parquet",
        frame,
        frame.lazy(),
        frame.with_columns(pl.col("price").cast(pl.Float32), pl.col("volume").cast(pl.UInt8)),
        frame.with_columns(pl.col("price").cast(pl.String).cast(pl.Decimal(10, 2))),
        pandas,
        pandas.set_index("timestamp"),
        pandas.set_index("timestamp").rename_axis(None),
        pandas.astype({"volume": "Int64", "price": "object"}),
    ]
    assert [tape(way, **INFY).digest for way in ways] == [digest] * len(ways)


def test_a_series_is_a_price_over_time() -> None:
    times = pd.date_range("2026-11-20 09:15", periods=3, freq="s", tz="Asia/Kolkata")
    for name in (None, "ltp", "my own"):
        read = tape(pd.Series([1.0, 1.05, 1.1], index=times, name=name), **INFY)
        assert prices(read) == [1.0, 1.05, 1.1]
        assert read.first_ts == OPEN


MOMENT = dt.datetime(2026, 11, 20, 9, 15, 0, 250_000, tzinfo=IST)
EXACT = nanoseconds(MOMENT)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-20 09:15:00.25+05:30",
        "2026-11-20T09:15:00.250+0530",
        "2026-11-20T03:45:00.250000Z",
        "2026-11-20 03:45:00.250 UTC",
        "2026-11-19 23:45:00.25-04:00",
        "1795146300.25",
        "1795146300250",
        "1795146300250000",
        "1795146300250000000",
    ],
)
def test_iso_times_and_epochs_are_exact(write: Callable[..., Path], text: str) -> None:
    assert stamps(read_ticks(write(f"ts,price\n{text},1\n"), **INFY)) == [EXACT]


def test_nanoseconds_survive(write: Callable[..., Path]) -> None:
    text = "ts,price\n2026-11-20 09:15:00.123456789+05:30,1\n2026-11-20 09:15:01+05:30,1\n"
    assert stamps(read_ticks(write(text), **INFY)) == [OPEN + 123_456_789, OPEN + SECOND]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_datetime_columns_of_every_unit_and_zone(unit: Any) -> None:
    aware = pl.Series("ts", [MOMENT]).dt.cast_time_unit(unit)
    naive = pl.Series("ts", [MOMENT.replace(tzinfo=None)]).dt.cast_time_unit(unit)
    assert stamps(read_ticks(pl.DataFrame({"ts": aware, "price": [1]}), **INFY)) == [EXACT]
    assert stamps(read_ticks(pl.DataFrame({"ts": naive, "price": [1]}), **KOLKATA)) == [EXACT]
    for number in (EXACT // 10**9, EXACT / 10**9, EXACT // 10**6, EXACT // 1000, EXACT):
        read = read_ticks(pl.DataFrame({"ts": [number], "price": [1]}), **INFY)
        assert abs(stamps(read)[0] - EXACT) <= (0 if number != EXACT // 10**9 else SECOND)


def test_naive_times_need_the_zone_and_mixed_rows_are_each_right(write: Callable[..., Path]) -> None:
    text = "ts,price\n2026-11-20 09:15:00,1\n2026-11-20 03:45:01Z,1\n2026-11-20 09:16,1\n"
    assert stamps(read_ticks(write(text), **KOLKATA)) == [OPEN, OPEN + SECOND, OPEN + MINUTE]
    for zone in (IST, dt.timezone(dt.timedelta(hours=5, minutes=30))):
        assert stamps(read_ticks(write(text), timezone=zone, **INFY))[0] == OPEN
    with pytest.raises(DataError, match=r"row 1 \(line 2\).*no time zone; 2 such rows") as caught:
        read_ticks(write(text), **INFY)
    assert 'timezone="Asia/Kolkata"' in str(caught.value)


def test_a_time_of_day_needs_the_day(write: Callable[..., Path]) -> None:
    path = write("time,price\n09:15:00.5,1\n09:15:01,1\n")
    assert stamps(read_ticks(path, day="2026-11-20", **KOLKATA)) == [OPEN + SECOND // 2, OPEN + SECOND]
    with pytest.raises(DataError, match="without a date") as caught:
        read_ticks(path, **KOLKATA)
    assert 'day="2026-11-20"' in str(caught.value)


def test_date_and_time_columns_are_one_stamp(write: Callable[..., Path]) -> None:
    path = write("Date,Time,LTP\n2026-11-20,09:15:00,1\n")
    assert stamps(read_ticks(path, **KOLKATA)) == [OPEN]


def test_day_refuses_rows_of_another_day(write: Callable[..., Path]) -> None:
    assert read_ticks(write(GOOD), day=dt.date(2026, 11, 20), **INFY).rows == 3
    with pytest.raises(DataError, match=r"column 'timestamp', row 1 .*is not on 2026-11-19; 3 such rows"):
        read_ticks(write(GOOD), day="2026-11-19", **INFY)


def test_two_columns_without_a_header_are_time_and_price(write: Callable[..., Path]) -> None:
    text = "2026-11-20 09:15:00,1500.05\n2026-11-20 09:15:01,1500.1\n"
    assert prices(read_ticks(write(text), **KOLKATA)) == [1500.05, 1500.1]
    three = write(text.replace("\n", ",7\n"))
    with pytest.raises(DataError, match="no header, and 3 columns"):
        read_ticks(three, **KOLKATA)
    named = read_ticks(three, columns=["ts", "price", "volume"], **KOLKATA)
    assert named.frame()["volume"].to_list() == [7, 7]
    with pytest.raises(DataError, match="lists 2 names, the first line has 3"):
        read_ticks(three, columns=["ts", "price"], **KOLKATA)


def test_columns_maps_and_ignores(write: Callable[..., Path]) -> None:
    path = write(GOOD.replace("timestamp,price", "when,Paid"))
    read = read_ticks(path, columns={"when": "ts", "Paid": "price", "bid": None, "ask": None}, **INFY)
    assert read.columns == ("ts", "instrument", "price", "volume")


def test_symbols_of_a_column_are_merged_by_time(write: Callable[..., Path]) -> None:
    rows = ["ts,tradingsymbol,price"]
    rows += [f"{OPEN + n * SECOND},NSE:TCS,{3000 + n}" for n in range(3)]
    rows += [f"{OPEN + n * SECOND},NSE:INFY,{1500 + n}" for n in range(3)]
    read = read_ticks(write("\n".join(rows)))
    assert read.symbols == ("NSE:TCS", "NSE:INFY")
    assert prices(read) == [3000, 1500, 3001, 1501, 3002, 1502]
    bare = write("\n".join(rows).replace("NSE:", ""), "bare.csv")
    mapped = read_ticks(bare, symbol={"TCS": "NSE:TCS", "INFY": "NSE:INFY"})
    assert mapped.digest == read.digest
    infy, tcs = (Instrument(symbol=f"NSE:{n}", exchange="NSE", token=7) for n in ("INFY", "TCS"))
    for known in ([infy, tcs], {"INFY": infy, "TCS": tcs}, Registry([infy, tcs])):
        assert read_ticks(bare, instruments=known).instruments == (tcs, infy)
    with pytest.raises(
        ValidationError, match=r"bare.csv: column 'tradingsymbol', row 1: symbol 'TCS' names no"
    ) as caught:
        read_ticks(bare)
    assert "write NSE:TCS" in str(caught.value)
    with pytest.raises(UnknownNameError, match="did you mean 'NSE:TCS'"):
        read_ticks(write("\n".join(rows).replace("TCS", "TCX"), "x.csv"), instruments=Registry([infy, tcs]))


def test_cumulative_volume_becomes_what_traded_since_the_tick_before(write: Callable[..., Path]) -> None:
    text = "ts,symbol,price,volume_traded\n"
    for day in range(2):
        for n, (a, b) in enumerate(((100, 7), (130, 7), (131, 19))):
            ts = OPEN + (day * 86_400 + n) * SECOND
            text += f"{ts},NSE:A,10,{a}\n{ts},NSE:B,10,{b}\n"
    read = read_ticks(write(text))
    assert read.frame()["volume"].to_list() == [0, 0, 30, 0, 1, 12] * 2
    assert "4 rows begin a day with volume traded before; it is not counted" in read.notes[0]
    same = read_ticks(write(text.replace("volume_traded", "volume")), cumulative=True)
    assert same.digest == read.digest
    with pytest.raises(
        DataError, match=r"column 'volume_traded', row 3 \(line 4\): '99' is less than the tick before"
    ):
        read_ticks(write(text.replace(",130\n", ",99\n", 1)))


def test_quotes_alone_are_priced_at_their_midpoint(write: Callable[..., Path]) -> None:
    read = read_ticks(write("ts,bid,ask\n1795146300,100,100.05\n1795146301,100,100.02\n"), **INFY)
    assert prices(read) == [100.02, 100.01]
    assert "midpoint" in read.notes[0]


def test_a_missing_side_is_no_quote(write: Callable[..., Path]) -> None:
    text = "ts,price,bid,ask,bid_size\n1795146300,100,,100.05,\n1795146301,100,100,0,5\n"
    block = next(read_ticks(write(text), **INFY).blocks())
    assert block.bid is not None
    assert block.ask is not None
    assert (block.bid.tolist(), block.ask.tolist()) == ([0, 10_000], [10_005, 0])


def test_an_index_can_stand_in_as_tradable_and_says_so(write: Callable[..., Path]) -> None:
    path = write("ts,price\n1795146300,26000.05\n")
    assert not read_ticks(path, symbol="NSE:NIFTY 50").instruments[0].tradable
    proxy = read_ticks(path, symbol="NSE:NIFTY 50", tradable=True)
    assert proxy.instruments[0].tradable
    assert (proxy.instruments[0].kind, proxy.instruments[0].exchange) == ("FUT", "NFO")
    assert proxy.notes == (
        "NSE:NIFTY 50: made tradable for research, by the hours, products and charges of NFO futures",
    )


def test_coins_count_in_parts(write: Callable[..., Path]) -> None:
    block = next(
        read_ticks(write("ts,price,qty\n1795146300,39432.48,0.000263\n"), symbol="BINANCE:BTCUSDT").blocks()
    )
    assert block.volume is not None
    assert (block.price.tolist(), block.volume.tolist()) == ([3_943_248], [26_300])


@settings(deadline=None, max_examples=100)
@given(units=st.lists(st.integers(1, 10**10), min_size=1, max_size=40))
def test_prices_survive_text_and_floats_exactly(units: list[int]) -> None:
    times = [OPEN + n for n in range(len(units))]
    text = pl.DataFrame({"ts": times, "price": [f"{u // 100}.{u % 100:02d}" for u in units]})
    floats = pl.DataFrame({"ts": times, "price": [u / 100 for u in units]})
    for frame in (text, floats):
        blocks = list(read_ticks(frame, jumps="keep", **INFY).blocks())
        assert np.concatenate([b.price for b in blocks]).tolist() == units


# ── bad input ────────────────────────────────────────────────────────────────────────────────────────────────────────


def lines(*rows: str, header: str = "ts,price") -> str:
    """A CSV of rows; ``{n}`` in a row is the n-th second of the session."""
    times = {f"t{n}": f"2026-11-20 09:15:{n:02d}+05:30" for n in range(20)}
    return "\n".join([header, *(r.format(**times) for r in rows)]) + "\n"


BAD: dict[str, tuple[str, str, int, str, str]] = {
    # name: content, column, row, what it says, what the fix says
    "price text": (lines("{t0},1", "{t1},abc"), "price", 2, "'abc' is not a number", "bad_prices"),
    "price zero": (lines("{t0},1", "{t1},0"), "price", 2, "is zero", "bad_prices"),
    "price negative": (
        lines("{t0},-1.5", "{t1},1"),
        "price",
        1,
        "'-1.5' is no price: it is negative",
        "bad_prices",
    ),
    "price nan": (lines("{t0},1", "{t1},nan"), "price", 2, "missing or not a number", "bad_prices"),
    "price inf": (lines("{t0},1", "{t1},inf"), "price", 2, "is infinite", "bad_prices"),
    "price missing": (lines("{t0},1", "{t1},", "{t2}"), "price", 2, "missing", "bad_prices"),
    "price off grid": (lines("{t0},1", "{t1},1.005"), "price", 2, "off the grid of 0.01", "use 1 or 1.01"),
    "price too large": (lines("{t0},1", "{t1},1e18"), "price", 2, "too large", "rupees"),
    "jump up": (lines("{t0},100", "{t1},121"), "price", 2, "more than 20% away", 'jumps="keep"'),
    "jump down": (lines("{t0},100", "{t1},79"), "price", 2, "more than 20% away", "max_jump"),
    "stamp text": (lines("{t0},1", "soon,1"), "ts", 2, "'soon' cannot be read as a time", "ISO 8601"),
    "stamp days first": (lines("{t0},1", "20/11/2026 09:15:01,1"), "ts", 2, "cannot be read", "ISO 8601"),
    "stamp missing": (lines("{t0},1", ",1"), "ts", 2, "is missing", "ISO 8601"),
    "stamp naive": (lines("2026-11-20 09:15:00,1"), "ts", 1, "no time zone", 'timezone="Asia/Kolkata"'),
    "stamp a date": (lines("2026-11-20,1"), "ts", 1, "date without a time", "read_bars"),
    "stamp before 1990": (lines("1989-12-31 23:59:59Z,1"), "ts", 1, "outside 1990 to 2100", "epochs"),
    "stamp after 2100": (
        lines("{t0},1", "2100-01-01 00:00:00Z,1"),
        "ts",
        2,
        "outside 1990 to 2100",
        "epochs",
    ),
    "stamp beyond ns": (lines("{t0},1", "2999-01-01 00:00:00Z,1"), "ts", 2, "outside 1990 to 2100", "epochs"),
    "stamp before ns": (lines("{t0},1", "1066-01-01 00:00:00Z,1"), "ts", 2, "outside 1990 to 2100", "epochs"),
    "stamp small number": (lines("20221120,1"), "ts", 1, "outside 1990 to 2100", "epochs"),
    "stamp mixed units": (
        lines("1795146300,1", "1795146300250,1", "1795146301,1"),
        "ts",
        2,
        "outside",
        "epochs",
    ),
    "stamp mixed kinds": (lines("1795146300,1", "{t1},1"), "ts", 2, "cannot be read", "ISO 8601"),
    "order": (lines("{t1},1", "{t0},1", "{t2},1"), "ts", 2, "earlier than the row before", 'order="sort"'),
    "repeat": (lines("{t0},1", "{t1},2", "{t1},2"), "ts", 3, "repeats another row", 'duplicates="first"'),
    "repeat apart": (lines("{t0},2", "{t0},2.05", "{t0},2"), "ts", 3, "repeats another row", '"keep"'),
    "volume fraction": (
        lines("{t0},1,1.5", header="ts,price,qty"),
        "qty",
        1,
        "fraction",
        "columns={'qty': None}",
    ),
    "volume negative": (lines("{t0},1,-5", header="ts,price,volume"), "volume", 1, "negative", "None}"),
    "volume missing": (
        lines("{t0},1,4", "{t1},1,", header="ts,price,volume"),
        "volume",
        2,
        "missing",
        "None}",
    ),
    "volume nan": (lines("{t0},1,nan", header="ts,price,volume"), "volume", 1, "not a number", "None}"),
    "volume text": (
        lines("{t0},1,many", header="ts,price,volume"),
        "volume",
        1,
        "'many' is not a number",
        "None}",
    ),
    "volume infinite": (lines("{t0},1,inf", header="ts,price,volume"), "volume", 1, "infinite", "None}"),
    "volume too large": (lines("{t0},1,1e17", header="ts,price,volume"), "volume", 1, "too large", "None}"),
    "crossed": (
        lines("{t0},1,1,2", "{t1},1,2,1", header="ts,price,bid,ask"),
        "bid",
        2,
        "above the ask",
        "crossed=",
    ),
    "bid negative": (lines("{t0},1,-1,2", header="ts,price,bid,ask"), "bid", 1, "negative", "0 is no quote"),
    "ask off grid": (
        lines("{t0},1,1,1.001", header="ts,price,bid,ask"),
        "ask",
        1,
        "off the grid",
        "off_grid",
    ),
    "ask size": (lines("{t0},1,1.5", header="ts,price,ask_size"), "ask_size", 1, "fraction", "ask_size"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_cell_names_file_column_row_and_fix(write: Callable[..., Path], case: str) -> None:
    content, column, row, says, fix = BAD[case]
    path = write(content)
    with pytest.raises(DataError) as caught:
        tape(path, **INFY)
    message, context = str(caught.value), caught.value.context
    for part in (str(path), repr(column), f"row {row} (line {row + 1})", says):
        assert part in message.partition("\n")[0]
    assert fix in caught.value.fix
    assert (context["file"], context["column"], context["row"], context["line"]) == (
        str(path),
        column,
        row,
        row + 1,
    )
    frame = pl.read_csv(content.encode(), infer_schema=False, truncate_ragged_lines=True)
    with pytest.raises(DataError, match=f"^DataFrame: column '{column}', row {row}:"):
        tape(frame, **INFY)


def test_the_count_of_bad_rows_is_given_and_blank_lines_keep_the_numbers_right(
    write: Callable[..., Path],
) -> None:
    text = lines("{t0},1", "", "{t1},0", "{t2},-1", "{t3},0")
    with pytest.raises(
        DataError, match=r"row 3 \(line 4\): '0' is no price: it is zero; 2 such rows in all"
    ) as caught:
        read_ticks(write(text), **INFY)
    assert caught.value.context["count"] == 2


@pytest.mark.parametrize(
    ("content", "says", "fix"),
    [
        ("", "is an empty file", "header and rows"),
        ("\n \n", "is an empty file", "header and rows"),
        ("ts,price\n", "has a header and no rows", "at least one row"),
        (
            "ts,volume\n1795146300,1\n",
            "no column for 'price'; it has 'ts', 'volume'",
            "columns={'theirs': 'price'}",
        ),
        ("price\n1\n", "no column for 'ts'; it has 'price'", "'ts'"),
        (
            "ts,prise\n1795146300,1\n",
            "unknown column 'prise'; the nearest known name is 'price'",
            "columns={'prise': None}",
        ),
        ("ts,price,zzzz\n1,1,1\n", "unknown column 'zzzz'", "columns={'zzzz': None}"),
        ("ts,price,ltp\n1,1,1\n", "columns 'price' and 'ltp' both mean 'price'", "columns={'ltp': None}"),
        ("ts,price,price\n1,1,1\n", "names column 'price' twice", "rename"),
        ("ts,price\n1795146300,1\n1795146301,1,2,3\n", "line 3 has 4 cells, the first line has 2", "quote"),
        (b"ts,price\n1795146300,1\n1795146301,\xff\n", "line 3 is not UTF-8 text (byte 33: 0xff)", "iconv"),
        ("ts,price\n1,1\n".encode("utf-16"), "line 1 is not UTF-8", "utf-16"),
        (gzip.compress(GOOD.encode())[:-9], "gzip data is damaged", "copy"),
        (b"PAR1" + b"x" * 50 + b"PAR1", "truncated or damaged", "copy"),
        (b"PK\x03\x04rest", "zip or Excel", "unzip"),
    ],
)
def test_a_broken_file_is_named_with_the_fix(
    write: Callable[..., Path], content: str | bytes, says: str, fix: str
) -> None:
    path = write(content)
    with pytest.raises(DataError) as caught:
        tape(path, **INFY)
    assert str(path) in str(caught.value)
    assert says in str(caught.value)
    assert fix in caught.value.fix


def test_a_wrong_place_is_named(write: Callable[..., Path], tmp_path: Path) -> None:
    write(GOOD)
    for what, says in (
        (tmp_path, "is a folder"),
        (tmp_path / "tick.csv", "did you mean .*ticks.csv"),
        (f"{tmp_path}/*.parquet", "no file matches"),
        ([], "empty list"),
        (42, "cannot read a int"),
    ):
        with pytest.raises(DataError, match=says):
            tape(what, **INFY)


def test_the_symbol_must_be_known(write: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="no column that names the instrument") as caught:
        read_ticks(write(GOOD))
    assert 'symbol="NSE:INFY"' in caught.value.fix
    with pytest.raises(ValidationError, match="write NSE:INFY"):
        read_ticks(write(GOOD), symbol="INFY")
    with pytest.raises(UnknownNameError, match="did you mean 'NSE'"):
        read_ticks(write(GOOD), symbol="NES:INFY")
    with pytest.raises(DataError, match="has a symbol column 'ticker', and symbol="):
        read_ticks(write("ts,ticker,price\n1795146300,NSE:A,1\n"), **INFY)
    with pytest.raises(DataError, match=r"column 'ticker', row 1 \(line 2\): is missing"):
        read_ticks(write("ts,ticker,price\n1795146300,,1\n"))
    expired = Registry(
        [Instrument(symbol="NFO:A26JANFUT", exchange="NFO", kind="FUT", expiry=dt.date(2026, 1, 27))]
    )
    with pytest.raises(DataError, match="expired on 2026-01-27"):
        read_ticks(write(GOOD), symbol="NFO:A26JANFUT", instruments=expired)
    assert read_ticks(
        write(GOOD), instruments=Instrument(symbol="NSE:X", exchange="NSE", tick_size=5)
    ).symbols == ("NSE:X",)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"order": "sorted"}, "did you mean 'sort'"),
        ({"duplicates": "frist"}, "did you mean 'first'"),
        ({"bad_prices": "keep"}, "unknown choice for bad_prices="),
        ({"max_jump": 0}, "max_jump 0 is not above 0"),
        ({"max_jump": float("nan")}, "max_jump nan"),
        ({"timezone": "Asia/Kolkatta"}, "did you mean 'Asia/Kolkata'"),
        ({"day": "20-11-2026"}, "no ISO date"),
        ({"columns": {"tiimestamp": "ts"}}, "did you mean 'timestamp'"),
        ({"columns": {"price": "prize"}}, "did you mean 'price'"),
        ({"symbl": "NSE:INFY"}, "did you mean 'symbol'"),
        ({"interval": "1m"}, "unknown option of read_ticks 'interval'"),
    ],
)
def test_a_wrong_option_answers_did_you_mean(
    write: Callable[..., Path], options: dict[str, Any], says: str
) -> None:
    path = write(GOOD.replace("+05:30", ""))
    with pytest.raises(AlphaPandaException, match=says):
        tape(path, **KOLKATA | options)


# ── policies, each row counted ───────────────────────────────────────────────────────────────────────────────────────

POLICIES: dict[str, tuple[str, dict[str, Any], list[float], str]] = {
    "drop bad prices": (
        lines("{t0},1", "{t1},0", "{t2},abc", "{t3},", "{t4},1.05"),
        {"bad_prices": "drop"}, [1.0, 1.05], "3 rows dropped: price missing, not a number, or not above zero",
    ),
    "sort": (
        lines("{t2},1.2", "{t0},1", "{t1},1.05", "{t1},1.1"),
        {"order": "sort"}, [1.0, 1.05, 1.1, 1.2], "1 row earlier than the row before, sorted by time",
    ),
    "keep exact repeats": (lines("{t0},1", "{t0},1"), {"duplicates": "keep"}, [1.0, 1.0], ""),
    "another price at one time": (lines("{t0},1", "{t0},1.05"), {}, [1.0, 1.05], ""),
    "first of an instant": (
        lines("{t0},1", "{t0},1.05", "{t0},1.1", "{t1},1"),
        {"duplicates": "first"}, [1.0, 1.0], "2 rows dropped: another tick of the same time (first kept)",
    ),
    "last of an instant": (
        lines("{t0},1", "{t0},1.05", "{t0},1.1", "{t1},1"),
        {"duplicates": "last"}, [1.1, 1.0], "2 rows dropped: another tick of the same time (last kept)",
    ),
    "round": (lines("{t0},1.004", "{t1},1.006"), {"off_grid": "round"}, [1.0, 1.01], "2 rows with price rounded"),
    "keep jumps": (lines("{t0},1", "{t1},2"), {"jumps": "keep"}, [1.0, 2.0], "1 row kept with a jump of more than 20%"),
    "drop a spike": (
        lines("{t0},100", "{t1},900", "{t2},901", "{t3},101", "{t4},1", "{t5},102"),
        {"jumps": "drop"}, [100, 101, 102], "3 rows dropped: a jump of more than 20%",
    ),
    "a larger jump": (lines("{t0},100", "{t1},145"), {"max_jump": 0.45}, [100, 145], ""),
    "a jump of just the limit": (lines("{t0},100", "{t1},120", "{t2},96"), {}, [100, 120, 96], ""),
    "keep crossed": (
        lines("{t0},1,2,1", header="ts,price,bid,ask"), {"crossed": "keep"}, [1.0], "1 row kept with the bid above",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", POLICIES)
def test_a_policy_does_what_it_says_and_notes_how_often(write: Callable[..., Path], case: str) -> None:
    content, options, expected, note = POLICIES[case]
    path = write(content)
    read = tape(path, **INFY | options)
    assert prices(read) == expected
    assert len(read.notes) == bool(note)
    assert note in "".join(read.notes)
    assert all(str(path) in n for n in read.notes)


def test_a_note_is_saved_with_the_tape(write: Callable[..., Path], tmp_path: Path) -> None:
    read = tape(write(lines("{t0},1", "{t1},0")), bad_prices="drop", **INFY)
    assert Tape.open(read.save(tmp_path / "t.parquet")).notes == read.notes != ()


def test_nothing_left_is_an_error(write: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="no row is left after the policies"):
        tape(write(lines("{t0},0")), bad_prices="drop", **INFY)


def test_an_instrument_brings_its_own_grid(write: Callable[..., Path]) -> None:
    path = write(lines("{t0},100.01"))
    assert prices(tape(path, **INFY)) == [100.01]
    coarse = Instrument(symbol="NSE:INFY", exchange="NSE", tick_size=5)
    with pytest.raises(DataError, match=r"off the grid of 0.05") as caught:
        tape(path, instruments=coarse)
    assert "use 100 or 100.05" in caught.value.fix
    assert prices(tape(path, instruments=coarse, off_grid="round")) == [100.0]


def test_ignored_columns_still_tell_rows_apart(write: Callable[..., Path]) -> None:
    text = lines("{t0},1,a1", "{t0},1,a2", header="ts,price,trade_id")
    assert read_ticks(write(text), columns={"trade_id": None}, **INFY).rows == 2
    with pytest.raises(DataError, match="repeats"):
        read_ticks(write(text.replace("a2", "a1")), columns={"trade_id": None}, **INFY)


def test_jumps_are_looked_for_within_a_symbol_and_a_day_and_not_in_options(
    write: Callable[..., Path],
) -> None:
    later = "2026-11-23 09:15:00+05:30"
    assert tape(write(lines("{t0},100", f"{later},200")), **INFY).rows == 2
    both = lines("{t0},NSE:A,1", "{t1},NSE:B,900", "{t2},NSE:A,1.05", header="ts,symbol,price")
    assert tape(write(both)).rows == 3
    assert tape(write(lines("{t0},0.05", "{t1},5")), symbol="NFO:NIFTY26NOV24000CE").rows == 2


# ── bars ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

BARS = """\
date,open,high,low,close,volume
2026-11-20T09:15:00+0530,100,102,99,101,11
2026-11-20T09:16:00+0530,101,103,98,100,4
2026-11-20T09:18:00+0530,100,100,100,100,0
"""


def test_a_bar_is_four_ticks_on_its_path(write: Callable[..., Path]) -> None:
    read = read_bars(write(BARS), **INFY)
    frame = read.frame()
    assert frame["price"].to_list() == [100, 99, 102, 101, 101, 103, 98, 100, 100, 100, 100, 100]
    assert frame["inside"].to_list() == [False, True, True, True] * 3
    third = MINUTE // 3
    first = [OPEN, OPEN + third, OPEN + 2 * third, OPEN + MINUTE - 1]
    assert stamps(read) == [*first, *(t + MINUTE for t in first), *(t + 3 * MINUTE for t in first)]
    assert frame["volume"].to_list() == [3, 3, 3, 2, 1, 1, 1, 1, 0, 0, 0, 0]
    assert read.notes == (f"{write(BARS)}: interval 1m, read from the times",)
    assert tape(write(BARS), **INFY).digest == read.digest
    assert tape(write(BARS), interval="1m", **INFY).notes == ()


@settings(deadline=None, max_examples=60)
@given(
    bars=st.lists(st.tuples(*[st.integers(900, 1000)] * 4, st.integers(0, 10**9)), min_size=1, max_size=20),
    minutes=st.sampled_from([1, 5, 15]),
)
def test_the_four_ticks_make_the_same_bar_again(
    bars: list[tuple[int, int, int, int, int]], minutes: int
) -> None:
    span = minutes * MINUTE
    rows = [(OPEN + n * span, o, max(o, c, x), min(o, c, y), c, v) for n, (o, x, y, c, v) in enumerate(bars)]
    frame = pl.DataFrame(rows, schema=["ts", "open", "high", "low", "close", "volume"], orient="row")
    read = read_bars(frame, interval=f"{minutes}m", **INFY)
    again = (
        read.frame()
        .group_by((pl.col("ts").dt.epoch("ns") // span * span).alias("ts"), maintain_order=True)
        .agg(
            pl.col("price").first().alias("open"),
            pl.col("price").max().alias("high"),
            pl.col("price").min().alias("low"),
            pl.col("price").last().alias("close"),
            pl.col("volume").sum(),
        )
    )
    assert OPEN % (15 * MINUTE) == 0
    assert again.rows() == [tuple(r) for r in rows]


def test_a_stamp_may_be_the_end_and_a_long_bar_ends_with_the_session(write: Callable[..., Path]) -> None:
    ended = read_bars(write(BARS), stamp="end", **INFY)
    assert ended.first_ts == OPEN - MINUTE
    hour = "date,open,high,low,close\n2026-11-20T14:15:00+0530,1,1,1,1\n2026-11-20T15:15:00+0530,1,1,1,1\n"
    read = read_bars(write(hour), interval="1h", **INFY)
    assert read.last_ts == OPEN + (6 * 60 + 15) * MINUTE - 1


def test_daily_bars_carry_dates_and_span_the_session(write: Callable[..., Path]) -> None:
    text = "date,open,high,low,close\n2026-11-18,100,160,90,150\n2026-11-19,100,101,99,100\n"
    read = tape(write(text), **INFY)
    start = OPEN - 2 * 86_400 * SECOND
    assert stamps(read)[:4] == [start, start + 125 * MINUTE, start + 250 * MINUTE, start + 375 * MINUTE - 1]
    assert "interval 1d" in read.notes[0]
    for way in ("2026-11-18 00:00:00+05:30", "2026-11-18 00:00:00", "2026-11-18T00:00:00+0530"):
        other = text.replace("2026-11-18", way).replace("2026-11-19,", way.replace("-18", "-19") + ",")
        assert read_bars(write(other), interval="1d", **INFY).digest == read.digest
    dates = pl.read_csv(text.encode(), try_parse_dates=True)
    assert tape(dates, **INFY).digest == read.digest
    assert tape(pd.DataFrame(dates.to_dict(as_series=False)).set_index("date"), **INFY).rows == 8
    coin = read_bars(write(text), symbol="BINANCE:BTCUSDT")
    assert stamps(coin)[3] - stamps(coin)[0] == 86_400 * SECOND - 1


def bars(*changes: str) -> str:
    return "\n".join(["date,open,high,low,close,volume", *changes]) + "\n"


FIRST, SECOND_BAR = "2026-11-20T09:15:00+0530,100,102,99,101,11", "2026-11-20T09:16:00+0530,101,103,98,100,4"


@pytest.mark.parametrize(
    ("content", "column", "row", "says"),
    [
        (bars(FIRST, "2026-11-20T09:16:00+0530,101,100,98,100,4"), "high", 2, "below the open or the close"),
        (bars(FIRST, "2026-11-20T09:16:00+0530,101,103,102,101,4"), "low", 2, "above the open or the close"),
        (bars(FIRST, "2026-11-20T09:16:00+0530,101,103,0,100,4"), "low", 2, "is zero"),
        (bars(FIRST, "2026-11-20T09:16:00+0530,101,x,98,100,4"), "high", 2, "'x' is not a number"),
        (bars(FIRST, "2026-11-20T09:16:00+0530,101,103,98,100,-4"), "volume", 2, "negative"),
        (bars(FIRST, "2026-11-20T09:16:00+0530,101,103,98.001,100,4"), "low", 2, "off the grid"),
        (bars(SECOND_BAR, FIRST), "date", 2, "earlier than the row before"),
        (bars(FIRST, FIRST), "date", 2, "has a bar already"),
        (
            bars(FIRST, "2026-11-20T09:15:30+0530,101,103,98,100,4"),
            "date",
            2,
            "starts before the bar before it ends",
        ),
        (bars(FIRST, "2026-11-20T09:16:00+0530,150,150,150,150,4"), "close", 2, "more than 20% away"),
    ],
)
def test_a_bad_bar_names_file_column_row_and_fix(
    write: Callable[..., Path], content: str, column: str, row: int, says: str
) -> None:
    path = write(content)
    with pytest.raises(DataError) as caught:
        tape(path, interval="1m", **INFY)
    for part in (str(path), repr(column), f"row {row} (line {row + 1})", says, "fix:"):
        assert part in str(caught.value)


def test_ticks_and_bars_do_not_pass_for_each_other(write: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="use read_bars"):
        read_ticks(write(BARS), **INFY)
    with pytest.raises(DataError, match="no column for 'open'"):
        read_bars(write(GOOD), **INFY)
    with pytest.raises(DataError, match="no column for 'low'; it has 'date', 'open', 'high', 'close'"):
        read_bars(write("date,open,high,close\n1795146300,1,1,1\n"), **INFY)
    with pytest.raises(DataError, match=r"a bar has no column 'bid'"):
        read_bars(write(BARS.replace("volume", "bid")), **INFY)
    with pytest.raises(DataError, match="unknown column 'oi'"):
        read_bars(write(BARS.replace("volume", "oi")), **INFY)
    assert read_bars(write(bars(FIRST)), interval="1m", **INFY).rows == 4
    with pytest.raises(DataError, match="one bar does not tell its interval"):
        read_bars(write(bars(FIRST)), **INFY)
    with pytest.raises(ValidationError, match="interval '1x'"):
        read_bars(write(BARS), interval="1x", **INFY)


def test_bars_of_several_symbols_run_side_by_side(write: Callable[..., Path]) -> None:
    text = (
        "symbol," + BARS.replace("2026", "NSE:A,2026") + BARS.partition("\n")[2].replace("2026", "NSE:B,2026")
    )
    read = tape(write(text))
    assert read.symbols == ("NSE:A", "NSE:B")
    assert read.frame()["symbol"].to_list()[:4] == ["NSE:A", "NSE:B", "NSE:A", "NSE:B"]
    assert read.frame().group_by("symbol").agg(pl.col("volume").sum())["volume"].to_list() == [15, 15]


# ── one entry ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_tape_takes_tapes_lists_globs_and_mappings(write: Callable[..., Path], tmp_path: Path) -> None:
    later = GOOD.replace("11-20", "11-23")
    first, second = write(GOOD, "a.csv"), write(later, "b.csv")
    whole = tape([first, second], **INFY)
    assert whole.days == [dt.date(2026, 11, 20), dt.date(2026, 11, 23)]
    assert tape(f"{tmp_path}/*.csv", **INFY).digest == whole.digest
    assert tape(whole) is whole
    saved = whole.save(tmp_path / "t.parquet")
    assert tape(saved).digest == tape(str(saved)).digest == whole.digest
    assert tape([tape(second, **INFY), tape(first, **INFY)]).digest == whole.digest
    named = tape({"NSE:INFY": first, "NSE:TCS": first})
    assert named.symbols == ("NSE:INFY", "NSE:TCS")
    assert named.rows == 6
    for what in (saved, whole):
        with pytest.raises(ValidationError, match="timezone= does not apply to a"):
            tape(what, timezone="Asia/Kolkata")
    with pytest.raises(DataError, match="two sources hold NSE:INFY over the same time"):
        tape([first, first], **INFY)


def test_a_day_is_found_among_the_saved_tapes(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALPHAPANDA_HOME", str(tmp_path / "home"))
    (tmp_path / "tapes").mkdir()
    (tmp_path / "home" / "tapes").mkdir(parents=True)
    one = read_ticks(write(GOOD), **INFY)
    both = Tape.concat([one, read_ticks(write(GOOD.replace("11-20", "11-23")), **INFY)])
    both.save(tmp_path / "tapes" / "week.parquet")
    assert tape("2026-11-23").days == [dt.date(2026, 11, 23)]
    assert tape(dt.date(2026, 11, 20)).digest == one.digest
    read_ticks(write(GOOD), symbol="NSE:TCS").save(tmp_path / "home" / "tapes" / "2026-11-23.parquet")
    assert tape("2026-11-23").symbols == ("NSE:TCS",)
    with pytest.raises(DataError, match=r"no saved tape of 2026-11-24.*2026-11-20"):
        tape("2026-11-24")
    with pytest.raises(ValidationError, match="does not apply to a saved day"):
        tape("2026-11-23", **INFY)


# ── the real files ───────────────────────────────────────────────────────────────────────────────────────────────────

SECONDS = {
    "2022-08-10": 23_550,
    "2022-09-20": 23_549,
    "2022-09-30": 23_571,
    "2022-10-14": 23_567,
    "2022-11-11": 23_582,
    "2022-11-30": 23_580,
}


@pytest.mark.parametrize("day", SECONDS)
def test_a_real_nifty_day_is_read_whole(shared_data: Path, day: str) -> None:
    path = shared_data / "nifty50-seconds" / f"{day}.csv"
    read = tape(path, symbol="NSE:NIFTY 50", timezone="Asia/Kolkata")
    text = path.read_text().split()
    assert read.rows == SECONDS[day] == len(text) // 2
    assert read.days == [dt.date.fromisoformat(day)]
    assert read.notes == ()
    assert prices(read)[0] == float(text[1].partition(",")[2])
    assert prices(read)[-1] == float(text[-1].partition(",")[2])
    with pytest.raises(DataError, match=r"column 'ts', row 1 \(line 1\): .* names no time zone"):
        tape(path, symbol="NSE:NIFTY 50")


def test_all_real_nifty_days_are_one_tape(shared_data: Path) -> None:
    pattern = f"{shared_data}/nifty50-seconds/*.csv"
    read = tape(pattern, symbol="NSE:NIFTY 50", timezone="Asia/Kolkata", tradable=True)
    assert read.rows == sum(SECONDS.values())
    assert [d.isoformat() for d in read.days] == list(SECONDS)


def test_currency_quotes_and_coin_trades_are_read(shared_data: Path) -> None:
    folder = shared_data / "fx-crypto"
    dollars = tape(folder / "usdjpy-quotes.csv", symbol="CDS:USDJPY")
    assert (dollars.rows, prices(dollars)[0]) == (1000, 86.6915)
    bids = tape(folder / "usdjpy-quotes.csv", symbol="CDS:USDJPY", columns={"bid": "price", "ask": None})
    assert prices(bids)[0] == 86.655
    trades = tape(
        folder / "btcusdt-trades.parquet",
        symbol="BINANCE:BTCUSDT",
        columns={"trade_id": None, "buyer_maker": None},
    )
    assert (trades.rows, prices(trades)[0]) == (2001, 39432.48)
    assert trades.frame()["volume"][0] == 0.000263
    quotes = tape(folder / "btcusdt-quotes.parquet", symbol={"BTC/USDT": "BINANCE:BTCUSDT"})
    assert (quotes.rows, quotes.frame()["bid"][0], quotes.frame()["ask_quantity"][0]) == (
        451,
        39432.99,
        0.066851,
    )

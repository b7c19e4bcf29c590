"""A tape keeps ticks as they are: sorted, sealed, the same in memory and on disk, and readable in a little memory."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphapanda.errors import DataError, UnknownNameError, ValidationError
from alphapanda.events import IST, SECOND, Block
from alphapanda.instruments import Instrument
from alphapanda.tapes.columns import CHUNK, chunk_digest, rechunk
from alphapanda.tapes.readers import tape as read_any
from alphapanda.tapes.tables import is_saved_tape
from alphapanda.tapes.tape import Tape

INFY = Instrument(symbol="NSE:INFY", exchange="NSE")
TCS = Instrument(symbol="NSE:TCS", exchange="NSE")
COIN = Instrument(symbol="BINANCE:BTCUSDT", exchange="BINANCE", kind="SPOT", quantity_scale=10**8)
OPEN = int(dt.datetime(2026, 11, 19, 9, 15, tzinfo=IST).timestamp()) * SECOND
OPTIONAL = ("volume", "bid", "ask", "bid_quantity", "ask_quantity")


def make(
    rows: int,
    instruments: tuple[Instrument, ...] = (INFY, TCS),
    start: int = OPEN,
    seed: int = 0,
    **more: Any,
) -> Tape:
    draw = np.random.default_rng(seed)
    optional: dict[str, Any] = {"volume": draw.integers(0, 100, rows)} | more
    return Tape(
        instruments,
        ts=start + np.cumsum(draw.integers(0, 2 * SECOND, rows)),
        instrument=draw.integers(0, len(instruments), rows),
        price=draw.integers(1, 10**6, rows),
        **optional,
    )


def columns(tape: Tape, size: int = 8192) -> dict[str, list[Any]]:
    """All rows, by column, through ``blocks``."""
    blocks = list(tape.blocks(size))
    out: dict[str, list[Any]] = {}
    for name in Block.__struct_fields__[1:]:
        parts = [getattr(b, name) for b in blocks]
        if parts[0] is not None:
            out[name] = np.concatenate(parts).tolist()
    return out


@st.composite
def tapes(draw: st.DrawFn) -> Tape:
    rows = draw(st.integers(1, 60))
    whole = st.lists(st.integers(0, 10**9), min_size=rows, max_size=rows)
    gaps = draw(st.lists(st.integers(0, 10**14), min_size=rows, max_size=rows))
    more: dict[str, Any] = {name: np.array(draw(whole)) for name in OPTIONAL if draw(st.booleans())}
    if draw(st.booleans()):
        more["inside"] = np.array(draw(st.lists(st.booleans(), min_size=rows, max_size=rows)))
    return Tape(
        (INFY, TCS),
        ts=OPEN + np.cumsum(gaps),
        instrument=np.array(draw(st.lists(st.integers(0, 1), min_size=rows, max_size=rows))),
        price=np.array(draw(whole)),
        notes=draw(st.lists(st.text(max_size=5), max_size=2)),
        **more,
    )


@settings(deadline=None, max_examples=60)
@given(tape=tapes(), size=st.integers(1, 70))
def test_what_is_saved_is_what_is_opened_for_any_block_size(tape: Tape, size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        opened = Tape.open(tape.save(Path(folder) / "t.parquet"))
        assert columns(opened, size) == columns(tape)
        assert opened.digest == tape.digest
        assert (opened.instruments, opened.notes, opened.days) == (tape.instruments, tape.notes, tape.days)
        assert (len(opened), opened.first_ts, opened.last_ts) == (len(tape), tape.first_ts, tape.last_ts)
        blocks = list(opened.blocks(size))
        assert [len(b) for b in blocks[:-1]] == [size] * (len(blocks) - 1)
        assert [b.first for b in blocks] == [n * size for n in range(len(blocks))]


def test_the_digest_covers_every_tick_column_and_instrument() -> None:
    base = make(100)
    seen = {base.digest, make(99).digest, make(100, seed=1).digest, make(100, (TCS, INFY)).digest}
    seen.add(make(100, start=OPEN + 1).digest)
    seen.add(make(100, bid=np.zeros(100, np.int64)).digest)
    seen.add(make(100, bid_quantity=np.zeros(100, np.int64)).digest)
    assert len(seen) == 7
    assert make(100).digest == base.digest
    assert make(100, notes=("a note is not a tick",)).digest == base.digest


def test_blocks_are_read_only_views() -> None:
    tape = make(20_000)
    blocks = list(tape.blocks())
    assert [len(b) for b in blocks] == [8192, 8192, 20_000 - 2 * 8192]
    whole = next(tape.blocks(10**6))
    for block in blocks:
        assert np.shares_memory(block.price, whole.price)
        with pytest.raises(ValueError, match="read-only"):
            block.price[0] = 1
    assert blocks[0].bid is None


def test_arrays_that_could_be_written_are_copied() -> None:
    ts, price = np.array([OPEN]), np.array([100])
    tape = Tape([INFY], ts=ts, price=price)
    price[0] = 7
    assert columns(tape)["price"] == [100]


def test_blocks_of_a_file_do_not_span_chunks(tmp_path: Path) -> None:
    tape = make(CHUNK + 10)
    opened = Tape.open(tape.save(tmp_path / "t.parquet"))
    assert [len(b) for b in opened.blocks(50_000)] == [50_000, CHUNK - 50_000, 10]
    assert [b.first for b in opened.blocks(50_000)] == [0, 50_000, CHUNK]
    assert columns(opened) == columns(tape)
    with pytest.raises(ValidationError, match="a block of 0 rows"):
        next(tape.blocks(0))


def test_any_parquet_reader_opens_the_file(tmp_path: Path) -> None:
    path = make(CHUNK + 10).save(tmp_path / "t.parquet")
    frame = pl.read_parquet(path)
    assert frame.columns == ["ts", "instrument", "price", "volume"]
    assert frame["ts"].dtype == pl.Datetime("ns", "UTC")
    parquet = pytest.importorskip("pyarrow.parquet")
    layout = parquet.read_metadata(path)
    assert [layout.row_group(n).num_rows for n in range(layout.num_row_groups)] == [CHUNK, 10]
    assert layout.row_group(0).column(0).compression == "ZSTD"
    assert json.loads(layout.metadata[b"alphapanda.tape"])["digest"] == Tape.open(path).digest


def test_saving_leaves_no_half_written_file(tmp_path: Path) -> None:
    path = make(10).save(tmp_path / "t.parquet")
    tape = Tape.open(path)
    assert tape.save(path) == path  # onto itself, while reading it
    assert Tape.open(path).digest == make(10).digest
    assert [p.name for p in tmp_path.iterdir()] == ["t.parquet"]
    with pytest.raises(DataError, match="no such folder"):
        tape.save(tmp_path / "nowhere" / "t.parquet")


# ── damage ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def refused(path: Path, message: str = "truncated or altered") -> None:
    """Opening or iterating raises a DataError that names the file, before a row is handed out."""
    options = {} if is_saved_tape(path) else {"symbol": "NSE:INFY"}
    with pytest.raises(DataError):
        list(read_any(path, **options).blocks())
    rows = 0
    with pytest.raises(DataError, match=message) as caught:  # noqa: PT012 - rows are counted until it raises
        for block in Tape.open(path).blocks():
            rows += len(block)
    assert rows == 0
    assert str(path) in str(caught.value)
    assert "fix:" in str(caught.value)
    assert caught.value.context["file"] == str(path)


def test_an_altered_byte_anywhere_is_refused_before_any_row(tmp_path: Path) -> None:
    path = make(300).save(tmp_path / "t.parquet")
    good = path.read_bytes()
    draw = np.random.default_rng(7)
    places = {0, 4, len(good) - 1, len(good) - 5, *map(int, draw.integers(0, len(good), 400))}
    for place in places:
        bad = bytearray(good)
        bad[place] ^= int(draw.integers(1, 256))
        path.write_bytes(bad)
        refused(path, ".")
    path.write_bytes(good)
    assert Tape.open(path).rows == 300


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    path = make(3000).save(tmp_path / "t.parquet")
    good = path.read_bytes()
    path.write_bytes(good[: int(len(good) * share)])
    refused(path)


def test_a_file_changed_after_opening_is_refused(tmp_path: Path) -> None:
    path = make(CHUNK * 2).save(tmp_path / "t.parquet")
    tape = Tape.open(path)
    make(CHUNK * 2, seed=5).save(path)
    with pytest.raises(DataError, match="truncated or altered"):
        next(tape.blocks())


def test_a_chunk_that_is_not_what_was_saved_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(CHUNK + 10).save(tmp_path / "t.parquet")
    tape = Tape.open(path)
    monkeypatch.setattr(
        "alphapanda.tapes.columns.chunk_digest", lambda c: "0" if len(c["ts"]) == 10 else chunk_digest(c)
    )
    rows = 0
    with pytest.raises(DataError, match=rf"{path}.*chunk 1 \(rows 65,537") as caught:  # noqa: PT012 - the same
        for block in tape.blocks():
            rows += len(block)
    assert rows == CHUNK
    assert caught.value.context["chunk"] == 1
    assert caught.value.code == "E_TAPE_DIGEST"


def test_a_foreign_file_says_what_to_do(tmp_path: Path) -> None:
    parquet, text = tmp_path / "p.parquet", tmp_path / "t.parquet"
    pl.DataFrame({"a": range(1000)}).write_parquet(parquet)
    refused(parquet, "not a saved tape")
    text.write_text("ts,price\n1,2\n" * 100)
    refused(text)
    with pytest.raises(DataError, match="no such file"):
        Tape.open(tmp_path / "none.parquet")


# ── parts and sums ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=["memory", "disk"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Tape], Tape]:
    """Every part and sum is the same for tapes in memory and on disk."""
    count = iter(range(100))

    def store(tape: Tape) -> Tape:
        if request.param == "memory":
            return tape
        return Tape.open(tape.save(tmp_path / f"{next(count)}.parquet"))

    return store


def test_select_renumbers_the_instruments(stored: Callable[[Tape], Tape]) -> None:
    tape = make(CHUNK + 500)
    part = stored(tape).select("NSE:TCS")
    frame = tape.frame().filter(pl.col("symbol") == "NSE:TCS")
    assert part.symbols == ("NSE:TCS",)
    assert part.frame()["price"].to_list() == frame["price"].to_list()
    assert set(columns(part)["instrument"]) == {0}
    assert part.digest == tape.select(["NSE:TCS"]).digest
    assert part.rows == len(frame)
    assert stored(tape).select(["NSE:TCS", "NSE:INFY"]).digest == tape.digest
    with pytest.raises(UnknownNameError, match="did you mean 'NSE:TCS'"):
        tape.select("NSE:TCSS")


def test_between_takes_moments_and_whole_days(stored: Callable[[Tape], Tape]) -> None:
    tape = make(2 * CHUNK)  # about a day and a half
    given = stored(tape)
    frame = tape.frame()
    noon = dt.datetime(2026, 11, 19, 12, tzinfo=IST)
    for start, end in ((noon, None), (None, noon), ("2026-11-19T11:00:00+05:30", "2026-11-19T06:30:00Z")):
        part = given.between(start, end)
        low = noon - dt.timedelta(hours=1) if isinstance(start, str) else start
        high = noon if isinstance(end, str) else end
        kept = frame
        kept = kept if low is None else kept.filter(pl.col("ts") >= low)
        kept = kept if high is None else kept.filter(pl.col("ts") < high)
        assert part.frame().equals(kept)
        assert part.first_ts == kept["ts"].dt.epoch("ns")[0]
        assert part.last_ts == kept["ts"].dt.epoch("ns")[-1]
    second = given.between("2026-11-20", dt.date(2026, 11, 20))
    assert second.days == [dt.date(2026, 11, 20)]
    assert given.between("2026-11-19", "2026-11-20").digest == tape.digest
    assert second.save(Path(tempfile.mkdtemp()) / "d.parquet").stat().st_size > 0


def test_moments_must_name_a_zone_and_hit_the_tape(stored: Callable[[Tape], Tape]) -> None:
    tape = stored(make(10))
    with pytest.raises(ValidationError, match="start 2026-11-19 09:15:00 is naive") as caught:
        tape.between(dt.datetime(2026, 11, 19, 9, 15))  # noqa: DTZ001
    assert "tzinfo" in str(caught.value)
    with pytest.raises(ValidationError, match="is naive"):
        tape.between("2026-11-19T09:15:00")
    with pytest.raises(ValidationError, match="no ISO date"):
        tape.between("19/11/26")
    with pytest.raises(DataError, match=r"leaves no ticks of Tape\(NSE:INFY"):
        tape.between("2026-12-01")


def test_days_are_joined_in_order_with_instruments_unified(stored: Callable[[Tape], Tape]) -> None:
    later = OPEN + 86_400 * SECOND
    first, second = make(500), make(400, (TCS, INFY), later)
    whole = Tape.concat([stored(second), stored(first)])
    assert whole.symbols == ("NSE:INFY", "NSE:TCS")
    assert whole.days == [dt.date(2026, 11, 19), dt.date(2026, 11, 20)]
    prices = [*columns(first)["price"], *columns(second)["price"]]
    assert columns(whole)["price"] == prices
    symbols = [*first.frame()["symbol"].to_list(), *second.frame()["symbol"].to_list()]
    assert whole.frame()["symbol"].to_list() == symbols
    assert whole.digest == Tape.concat([first, second]).digest
    assert next(whole.blocks(10**6)).first == 0


def test_overlapping_tapes_are_merged_by_time_and_ties_keep_their_order(
    stored: Callable[[Tape], Tape],
) -> None:
    ties = Tape([INFY], ts=np.full(5, OPEN), price=np.arange(1, 6))
    other = Tape([TCS], ts=np.array([OPEN, OPEN, OPEN + 1]), price=np.arange(11, 14))
    merged = Tape.concat([stored(ties), stored(other)])
    assert columns(merged)["price"] == [1, 2, 3, 4, 5, 11, 12, 13]
    rng = np.random.default_rng(3)
    parts = [
        Tape([i], ts=OPEN + np.sort(rng.integers(0, 50_000, n)), price=np.arange(n))
        for i, n in (
            (INFY, 70_000),
            (TCS, CHUNK),
            (COIN, 10),
            (Instrument(symbol="NSE:X", exchange="NSE"), 140_000),
        )
    ]
    parts.sort(key=lambda p: p.first_ts)
    merged = Tape.concat([stored(p) for p in parts])
    order = np.argsort(np.concatenate([columns(p)["ts"] for p in parts]), kind="stable")
    expected = np.concatenate([columns(p)["price"] for p in parts])[order]
    assert columns(merged)["price"] == expected.tolist()
    assert merged.digest == Tape.concat(parts).digest
    assert merged.rows == sum(p.rows for p in parts)


def test_a_column_only_some_tapes_have_is_zero_in_the_others(stored: Callable[[Tape], Tape]) -> None:
    quoted = make(3, bid=np.array([1, 2, 3]), inside=np.array([True, False, True]))
    plain = Tape([INFY], ts=np.array([OPEN + 90_000 * SECOND]), price=np.array([5]))
    whole = columns(Tape.concat([stored(quoted), stored(plain)]))
    assert whole["bid"] == [1, 2, 3, 0]
    assert whole["inside"] == [True, False, True, False]
    assert whole["volume"][-1] == 0


def test_descriptions_that_differ_are_noted_and_scales_that_differ_refused() -> None:
    other = Instrument(symbol="NSE:INFY", exchange="NSE", tick_size=10)
    later = OPEN + 86_400 * SECOND
    joined = Tape.concat([make(5, (INFY,)), make(5, (other,), later)])
    assert joined.instruments == (other,)
    assert joined.notes == ("NSE:INFY: tick_size differ between the joined tapes; the latest is used",)
    coarse = Instrument(symbol="NSE:INFY", exchange="NSE", price_scale=10_000)
    with pytest.raises(DataError, match=r"NSE:INFY has two scales: price 100 and 10000"):
        Tape.concat([make(5, (INFY,)), make(5, (coarse,), later)])
    with pytest.raises(DataError, match="no tapes"):
        Tape.concat([])


# ── looks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_frame_is_in_rupees_shares_and_exchange_time() -> None:
    tape = Tape(
        [INFY, COIN],
        ts=np.array([OPEN, OPEN + 1]),
        instrument=np.array([0, 1]),
        price=np.array([150_005, 3_943_248]),
        volume=np.array([7 * 10**8, 26_300]) // np.array([10**8, 1]),
        inside=np.array([False, True]),
    )
    frame = tape.frame()
    assert frame.columns == ["symbol", "ts", "price", "volume", "inside"]
    assert frame["ts"].dtype == pl.Datetime("ns", "Asia/Kolkata")
    assert frame["ts"][0] == dt.datetime(2026, 11, 19, 9, 15, tzinfo=IST)
    assert frame.row(1)[2:] == (39432.48, 0.000263, True)
    assert frame["symbol"].to_list() == ["NSE:INFY", "BINANCE:BTCUSDT"]
    assert make(3).frame()["volume"].dtype == pl.Int64


def test_it_shows_what_it_holds() -> None:
    tape = make(1234, notes=("x.csv: 3 rows <dropped>",))
    assert repr(tape) == f"Tape(NSE:INFY, NSE:TCS; 2026-11-19; 1,234 ticks; {tape.digest[:12]})"
    page = tape._repr_html_()
    for part in ("NSE:INFY, NSE:TCS", "1,234", "2026-11-19", tape.digest[:16], "&lt;dropped&gt;", "MB"):
        assert part in page
    many = make(10, tuple(Instrument(symbol=f"NSE:S{n}", exchange="NSE") for n in range(8)))
    assert repr(many).startswith("Tape(8 symbols; ")
    assert "and 2 more" in many._repr_html_()
    assert len(make(7)) == 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ts": np.array([2, 1])}, r"column 'ts', row 2: 1 is earlier"),
        ({"ts": np.array([1, 2, 3])}, r"column 'instrument' has 2 rows, 'ts' has 3"),
        ({"price": np.array([1.0, 2.0])}, r"column 'price' is float64"),
        ({"price": np.array([[1, 2]])}, r"2 dimensions"),
        ({"instrument": np.array([0, 2])}, r"column 'instrument', row 2: 2 is no index"),
        ({"instrument": np.array([-1, 0])}, r"column 'instrument', row 1: -1 is no index"),
        ({"inside": np.array([1, 0])}, r"column 'inside' is int64"),
        ({"instruments": [INFY, INFY]}, r"two instruments have one symbol"),
        ({"instrument": None}, r"column 'instrument' is missing"),
        ({n: np.zeros(0, np.int64) for n in ("ts", "price", "instrument")}, r"without ticks"),
    ],
)
def test_columns_that_are_no_tape_are_named(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "instruments": [INFY, TCS],
        "ts": np.array([1, 2]),
        "price": np.array([1, 2]),
        "instrument": np.array([0, 1]),
    }
    with pytest.raises(DataError, match=message) as caught:
        Tape(**given | change)
    assert "fix:" in str(caught.value)


def test_rechunking_keeps_every_row() -> None:
    pieces = [{"ts": np.arange(low, high)} for low, high in ((0, 3), (3, 10), (10, 11), (11, 30))]
    cut = list(rechunk(pieces, 4))
    assert [len(p["ts"]) for p in cut] == [4, 4, 4, 4, 4, 4, 4, 2]
    assert np.concatenate([p["ts"] for p in cut]).tolist() == list(range(30))


# ── memory ───────────────────────────────────────────────────────────────────────────────────────────────────────────

WALK = """
import resource, sys
from alphapanda.tapes.readers import tape as read_any
from alphapanda.tapes.tables import is_saved_tape
from alphapanda.tapes.tape import Tape
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
tape = Tape.open(sys.argv[1])
blocks = tape.blocks()
next(blocks)
before, rows = peak(), 0
for block in blocks:
    rows += len(block)
print(rows, peak() - before)
"""


@pytest.mark.parametrize("form", ["file", "joined"])
def test_a_long_tape_is_read_in_a_little_memory(tmp_path: Path, form: str) -> None:
    rows = 2_000_000  # 160 MB as columns
    whole = np.arange(rows)
    tape = Tape(
        [INFY],
        ts=OPEN + whole * 1000,
        price=whole % 1000 + 1,
        **dict.fromkeys(OPTIONAL[:3], whole * 7919 % 100_003),
        bid_quantity=whole,
        ask_quantity=whole[::-1].copy(),
    )
    path = tape.save(tmp_path / "t.parquet")
    if form == "joined":
        opened = Tape.open(path)
        middle = OPEN + rows // 2 * 1000
        cut = dt.datetime.fromtimestamp(middle / 1e9, IST)
        path = Tape.concat([opened.between(None, cut), opened.between(cut, None)]).save(
            tmp_path / "j.parquet"
        )
        assert Tape.open(path).digest == tape.digest
    done = subprocess.run([sys.executable, "-c", WALK, str(path)], capture_output=True, text=True, check=True)
    seen, grown = done.stdout.split()
    assert int(seen) == rows - 8192
    assert float(grown) < 60  # MB


@pytest.mark.soak
def test_four_million_rows_stream_through_save_and_blocks(tmp_path: Path) -> None:
    test_a_long_tape_is_read_in_a_little_memory(tmp_path, "joined")
    big = make(4_000_000)
    path = big.save(tmp_path / "big.parquet")
    done = subprocess.run([sys.executable, "-c", WALK, str(path)], capture_output=True, text=True, check=True)
    assert float(done.stdout.split()[1]) < 60
    assert Tape.open(path).digest == big.digest

"""The registry reads Kite's instruments CSV and names what is wrong in it; a bare symbol is read by Kite's rules."""

from __future__ import annotations

import datetime as dt
import gzip
from pathlib import Path

import pytest

from alphapanda.errors import DataError, UnknownNameError, ValidationError
from alphapanda.instruments import Instrument
from alphapanda.registry import COLUMNS, Registry, default_instrument, monthly_expiry, parse_contract

HEADER = ",".join(COLUMNS)
ROWS = """\
408065,1594,INFY,INFOSYS,0,,0,0.1,1,EQ,NSE,NSE
128053508,500209,INFY,INFOSYS,0,,0,0.05,1,EQ,BSE,BSE
341249,1333,HDFCBANK,HDFC BANK,0,,0,0.05,1,EQ,NSE,NSE
256265,1001,NIFTY 50,NIFTY 50,0,,0,0,0,EQ,INDICES,NSE
11983362,46810,INFY26NOVFUT,INFY,0,2026-11-24,0,0.1,400,FUT,NFO-FUT,NFO
11984000,46812,NIFTY26NOV24000CE,NIFTY,0,2026-11-24,24000,0.05,65,CE,NFO-OPT,NFO
276500,1080,USDINR26NOVFUT,USDINR,0,2026-11-26,0,0.0025,1,FUT,CDS-FUT,CDS
276756,1081,USDINR26NOV85.25CE,USDINR,0,2026-11-26,85.25,0,1,CE,CDS-OPT,CDS
120250631,469729,GOLD26DECFUT,GOLD,0,2026-12-04,0,1,1,FUT,MCX-FUT,MCX
"""
TEXT = f"{HEADER}\n{ROWS}"


@pytest.fixture
def registry() -> Registry:
    return Registry.read(TEXT)


def test_values_become_units_of_the_exchange(registry: Registry) -> None:
    assert registry["NSE:INFY"] == Instrument(
        symbol="NSE:INFY", exchange="NSE", name="INFOSYS", token=408065, tick_size=10, in_fo=True
    )
    option = registry["NFO:NIFTY26NOV24000CE"]
    assert (option.kind, option.strike, option.lot_size, option.tick_size) == ("CE", 2_400_000, 65, 5)
    assert option.expiry == dt.date(2026, 11, 24)
    assert option.asset_class == "options"
    currency = registry["CDS:USDINR26NOVFUT"]
    assert (currency.price_scale, currency.tick_size, currency.multiplier) == (10_000_000, 25_000, 1000)
    assert registry["CDS:USDINR26NOV85.25CE"].strike == 852_500_000
    assert registry["MCX:GOLD26DECFUT"].multiplier == 100


def test_an_index_is_not_tradable_and_a_tick_of_zero_is_the_usual_one(registry: Registry) -> None:
    index = registry["NSE:NIFTY 50"]
    assert (index.kind, index.tradable, index.tick_size, index.lot_size, index.circuit) == (
        "INDEX",
        False,
        5,
        1,
        0.0,
    )
    assert registry["CDS:USDINR26NOV85.25CE"].tick_size == 25_000


def test_stocks_with_derivatives_in_the_dump_are_marked(registry: Registry) -> None:
    marked = [i.symbol for i in registry if i.in_fo]
    assert marked == ["NSE:INFY", "BSE:INFY"]
    assert not registry["NSE:HDFCBANK"].in_fo


def test_a_bare_name_is_looked_up_on_nse_first(registry: Registry) -> None:
    assert registry.find("INFY").symbol == "NSE:INFY"
    assert registry.find("BSE:INFY").symbol == "BSE:INFY"
    assert registry.find("GOLD26DECFUT").symbol == "MCX:GOLD26DECFUT"
    assert "NSE:INFY" in registry
    assert "NSE:INFI" not in registry
    assert len(registry) == 9
    assert registry.symbols[0] == "NSE:INFY"
    assert repr(registry) == "Registry(instruments text; 9 instruments)"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("NSE:INFI", "NSE:INFY"),
        ("NES:INFY", "NSE:INFY"),
        ("HDFCBNK", "NSE:HDFCBANK"),
        ("NFO:NIFTY26NOV2400CE", "NFO:NIFTY26NOV24000CE"),
    ],
)
def test_an_unknown_name_answers_did_you_mean(registry: Registry, name: str, nearest: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown symbol") as caught:
        registry.find(name)
    assert caught.value.nearest == nearest
    assert f"did you mean '{nearest}'?" in str(caught.value)


def test_brackets_need_the_whole_symbol(registry: Registry) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'NSE:INFY'"):
        registry["INFY"]


def test_a_wild_name_says_how_to_write_one(registry: Registry) -> None:
    with pytest.raises(UnknownNameError, match="EXCHANGE:TRADINGSYMBOL"):
        registry.find("QQQQQQQQ")


def test_an_expired_contract_names_its_expiry(registry: Registry) -> None:
    assert registry.find("INFY26NOVFUT", day=dt.date(2026, 11, 24)).kind == "FUT"
    with pytest.raises(DataError, match=r"NFO:INFY26NOVFUT expired on 2026-11-24, before 2026-11-25"):
        registry.find("INFY26NOVFUT", day=dt.date(2026, 11, 25))


def test_reads_plain_and_gzip_files_alike(tmp_path: Path, registry: Registry) -> None:
    plain, packed = tmp_path / "instruments.csv", tmp_path / "instruments.csv.gz"
    plain.write_text(TEXT.replace("\n", "\r\n"))
    packed.write_bytes(gzip.compress(TEXT.encode()))
    assert list(Registry.read(plain)) == list(Registry.read(str(packed))) == list(registry)


GOOD = ("408065", "1594", "INFY", "INFOSYS", "0", "", "0", "0.05", "1", "EQ", "NSE", "NSE")


def _row(**cells: str) -> str:
    row = dict(zip(COLUMNS, GOOD, strict=True)) | cells
    return f"{TEXT.replace('INFY,INFOSYS', 'INFX,INFOSYS')}{','.join(row.values())}\n"


@pytest.mark.parametrize(
    ("text", "column", "value"),
    [
        (_row(instrument_token="1.5"), "instrument_token", "1.5"),
        (_row(lot_size="1.5"), "lot_size", "1.5"),
        (_row(lot_size="0"), "lot_size", "0"),
        (_row(tick_size="abc"), "tick_size", "abc"),
        (_row(tick_size="-0.05"), "tick_size", "-0.05"),
        (_row(tick_size="0.001"), "tick_size", "0.001"),
        (_row(tick_size="nan"), "tick_size", "nan"),
        (_row(strike="inf"), "strike", "inf"),
        (_row(expiry="24-11-2026"), "expiry", "24-11-2026"),
        (_row(instrument_type="FUT"), "expiry", ""),
        (_row(instrument_type="XX"), "instrument_type", "XX"),
        (_row(exchange=""), "exchange", ""),
        (_row(tradingsymbol=""), "tradingsymbol", ""),
        (_row(tradingsymbol="HDFCBANK"), "tradingsymbol", "NSE:HDFCBANK"),
        (_row() + "1,2,3\n", "name", "3 fields"),
    ],
)
def test_a_malformed_row_names_file_row_and_column(
    tmp_path: Path, text: str, column: str, value: str
) -> None:
    path = tmp_path / "instruments.csv"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        Registry.read(path)
    row = text.count("\n") - 1
    if column == "name":
        column = caught.value.context["column"]
    assert caught.value.context | {"file": str(path), "row": row, "line": row + 1} == caught.value.context
    assert (caught.value.context["column"], caught.value.context["value"]) == (column, value)
    for part in (str(path), f"row {row} (line {row + 1})", repr(column), "fix:"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no column 'instrument_token'"),
        (HEADER.replace(",strike", "").encode() + b"\n", "no column 'strike'"),
        (HEADER.encode() + b"\n\n", "no instruments"),
        (b"\xff\xfe" + TEXT.encode(), "UTF-8"),
        (gzip.compress(TEXT.encode())[:-20], "cannot be read"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "i.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        Registry.read(path)
    assert str(path) in str(caught.value)
    with pytest.raises(DataError, match="no such file"):
        Registry.read(tmp_path / "other.csv")


@pytest.mark.parametrize("name", ["instruments_nse.csv", "instruments_all.csv"])
def test_reads_the_samples_of_kite(shared_data: Path, name: str) -> None:
    registry = Registry.read(shared_data / "kite-mocks" / name)
    assert len(registry) == 99
    assert registry["NSE:CENTRALBK-BE"].name == "CENTRAL BANK OF INDIA"
    options = [i for i in registry if i.kind in ("CE", "PE")]
    assert all(i.name and i.expiry and i.strike for i in options)


# ── without a registry ───────────────────────────────────────────────────────────────────────────────────────────────

DAY = dt.date(2026, 11, 20)


@pytest.mark.parametrize(
    ("symbol", "facts"),
    [
        ("NSE:INFY", {"kind": "EQ", "tick_size": 5, "tradable": True, "asset_class": "equity"}),
        ("NSE:NIFTY 50", {"kind": "INDEX", "tick_size": 1, "tradable": False}),
        ("BSE:SENSEX", {"kind": "INDEX", "tradable": False}),
        ("NSE:INDIA VIX", {"kind": "INDEX", "tradable": False}),
        ("NSE:NIFTY FIN SERVICE", {"kind": "INDEX"}),
        (
            "NFO:NIFTY26NOVFUT",
            {"kind": "FUT", "name": "NIFTY", "expiry": dt.date(2026, 11, 24), "lot_size": 65},
        ),
        (
            "NFO:NIFTY26N2424000CE",
            {
                "kind": "CE",
                "name": "NIFTY",
                "expiry": dt.date(2026, 11, 24),
                "strike": 2_400_000,
                "lot_size": 65,
            },
        ),
        ("NFO:NIFTY26NOV24000PE", {"kind": "PE", "strike": 2_400_000, "asset_class": "options"}),
        ("NFO:RELIANCE26NOVFUT", {"kind": "FUT", "name": "RELIANCE", "lot_size": 1}),
        ("NFO:NIFTYNXT5026NOV68000CE", {"name": "NIFTYNXT50", "strike": 6_800_000}),
        ("NFO:M&M26NOV3000CE", {"name": "M&M"}),
        ("NFO:BAJAJ-AUTO26NOV9000PE", {"name": "BAJAJ-AUTO"}),
        ("BFO:SENSEX26N2685000CE", {"name": "SENSEX", "expiry": dt.date(2026, 11, 26), "lot_size": 20}),
        ("CDS:USDINR26NOVFUT", {"multiplier": 1000, "price_scale": 10_000_000, "asset_class": "forex"}),
        ("CDS:USDINR26N2785.25CE", {"strike": 852_500_000, "expiry": dt.date(2026, 11, 27)}),
        ("CDS:USDJPY", {"kind": "SPOT", "asset_class": "forex", "tradable": False}),
        ("MCX:GOLD26DECFUT", {"multiplier": 100, "asset_class": "commodity"}),
        ("BINANCE:BTCUSDT", {"kind": "SPOT", "quantity_scale": 10**8, "asset_class": "crypto"}),
    ],
)
def test_a_symbol_alone_says_what_it_is(symbol: str, facts: dict[str, object]) -> None:
    found = default_instrument(symbol, DAY)
    assert {name: getattr(found, name) for name in facts} == facts
    assert found.symbol == symbol


def test_the_tick_follows_day_and_price() -> None:
    assert default_instrument("NSE:INFY", DAY, 1500.0).tick_size == 10
    assert default_instrument("NSE:INFY", DAY, 240.0).tick_size == 1
    assert default_instrument("NSE:INFY", dt.date(2022, 8, 10), 1500.0).tick_size == 5
    assert default_instrument("NSE:INFY", dt.date(1999, 8, 10), 1500.0).tick_size == 5


@pytest.mark.parametrize(
    ("symbol", "says"),
    [
        ("INFY", "write NSE:INFY"),
        ("SENSEX", "write BSE:SENSEX"),
        ("NSE:", "NSE:INFY"),
        ("NES:INFY", "did you mean 'NSE'"),
        ("NFO:INFY", "NIFTY26NOVFUT"),
        ("NFO:NIFTY26N3124000CE", "weekly"),
    ],
)
def test_a_symbol_that_says_nothing_names_the_fix(symbol: str, says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        default_instrument(symbol)
    assert says in str(caught.value)
    assert symbol.partition(":")[0] in str(caught.value)


@pytest.mark.parametrize(
    ("exchange", "year", "month", "expiry"),
    [
        ("NFO", 2025, 8, "2025-08-28"),
        ("NFO", 2025, 9, "2025-09-30"),
        ("NFO", 2026, 11, "2026-11-24"),
        ("BFO", 2024, 6, "2024-06-28"),
        ("BFO", 2025, 6, "2025-06-24"),
        ("BFO", 2026, 11, "2026-11-26"),
        ("CDS", 2026, 11, "2026-11-26"),
        ("MCX", 2026, 11, "2026-11-30"),
    ],
)
def test_monthly_expiries_follow_the_rule_of_their_time(
    exchange: str, year: int, month: int, expiry: str
) -> None:
    assert monthly_expiry(year, month, exchange) == dt.date.fromisoformat(expiry)


def test_the_weekly_format_is_exact_and_the_monthly_one_is_not() -> None:
    weekly, monthly = parse_contract("NIFTY2691524000CE"), parse_contract("NIFTY26SEP24000CE")
    assert weekly is not None
    assert monthly is not None
    assert (weekly.expiry, weekly.exact, weekly.strike) == (dt.date(2026, 9, 15), True, "24000")
    assert not monthly.exact
    assert parse_contract("INFY") is None
    assert parse_contract("NIFTY26N3124000CE") is None

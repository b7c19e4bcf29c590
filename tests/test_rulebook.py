"""The rulebook: what was true on which day, from which source, and what happens where it does not know."""

import csv
import datetime as dt
import subprocess
import sys
from pathlib import Path

import pytest

from alphapanda import rulebook
from alphapanda.errors import DataError, RulebookError, UnknownNameError
from alphapanda.events import ist
from alphapanda.instruments import Instrument
from alphapanda.rulebook import Rulebook
from alphapanda.rulebook.rows import TABLES

BOOK = Rulebook.load()
FOLDER = Path(rulebook.__file__).parent
D = dt.date

STOCK = Instrument(symbol="NSE:RELIANCE", exchange="NSE", in_fo=True)
SMALL = Instrument(symbol="NSE:SMALLCAP", exchange="NSE")
SMALL_BSE = Instrument(symbol="BSE:SMALLCAP", exchange="BSE")
INDEX = Instrument(symbol="NSE:NIFTY 50", exchange="NSE", kind="INDEX", tradable=False)
FUT = Instrument(symbol="NFO:NIFTY26DECFUT", exchange="NFO", kind="FUT", name="NIFTY", expiry=D(2026, 12, 29))
CALL = Instrument(
    symbol="NFO:NIFTY26D0826000CE", exchange="NFO", kind="CE", name="NIFTY", expiry=D(2026, 12, 8)
)
STOCK_FUT = Instrument(
    symbol="NFO:RELIANCE26DECFUT", exchange="NFO", kind="FUT", name="RELIANCE", expiry=D(2026, 12, 29)
)
USDINR = Instrument(
    symbol="CDS:USDINR26DECFUT",
    exchange="CDS",
    kind="FUT",
    name="USDINR",
    price_scale=10_000_000,
    tick_size=1,
)
GOLD = Instrument(symbol="MCX:GOLD26DECFUT", exchange="MCX", kind="FUT", name="GOLD", tick_size=100)
COTTON = Instrument(symbol="MCX:COTTON26DECFUT", exchange="MCX", kind="FUT", name="COTTON")
MENTHA = Instrument(symbol="MCX:MENTHAOIL26DECFUT", exchange="MCX", kind="FUT", name="MENTHAOIL")
BITCOIN = Instrument(symbol="BINANCE:BTCUSDT", exchange="BINANCE", kind="SPOT")


def clock(ns: int) -> str:
    return ist(ns).strftime("%H:%M")


def hours(instrument: Instrument, day: D) -> str:
    """The day's phases as text: ``continuous 09:15-15:30; ...``, or why there are none."""
    session = BOOK.session(instrument, day)
    if session is None:
        return BOOK.why_closed(instrument, day)
    assert {ist(a).date() for _, a, _ in session.phases} == {day}
    return "; ".join(f"{name} {clock(a)}-{clock(b)}" for name, a, b in session.phases)


# ── sessions ─────────────────────────────────────────────────────────────────────────────────────

CASH = "preopen 09:00-09:15; continuous 09:15-15:30; post_close "
AUCTION = "preopen 09:00-09:15; continuous 09:15-15:15; closing_auction 15:15-15:35; post_close 15:50-16:00"


@pytest.mark.parametrize(
    ("day", "stock", "small", "derivative"),
    [
        (D(2026, 7, 31), CASH + "15:40-16:00", CASH + "15:40-16:00", "continuous 09:15-15:30"),
        (D(2026, 8, 3), AUCTION, CASH + "15:50-16:00", "continuous 09:15-15:40"),
        (D(2026, 11, 22), "Sunday, weekend", "Sunday, weekend", "Sunday, weekend"),
        (D(2026, 11, 23), AUCTION, CASH + "15:50-16:00", "continuous 09:15-15:40"),
        (D(2026, 12, 4), AUCTION, CASH + "15:50-16:00", "continuous 09:15-15:40"),
        (
            D(2026, 12, 7),
            CASH.replace("post_close ", "closing_auction 15:30-15:40; post_close 15:50-16:00"),
            CASH + "15:50-16:00",
            "continuous 09:15-15:45",
        ),
    ],
)
def test_the_three_regimes_of_2026(day, stock, small, derivative):
    assert hours(STOCK, day) == stock
    assert hours(SMALL, day) == hours(SMALL_BSE, day) == hours(INDEX, day) == small
    assert hours(CALL, day) == derivative
    assert hours(FUT, day).removeprefix("preopen 09:00-09:15; ") == derivative


def test_an_expiring_index_contract_stops_at_half_past_three_from_december_2026():
    assert hours(CALL, D(2026, 12, 8)) == "continuous 09:15-15:30"
    assert hours(FUT, D(2026, 12, 8)) == "preopen 09:00-09:15; continuous 09:15-15:45"
    assert hours(STOCK_FUT, D(2026, 12, 29)) == "preopen 09:00-09:15; continuous 09:15-15:45"


def test_phase_at_takes_the_first_instant_and_not_the_last():
    session = BOOK.session(STOCK, D(2026, 11, 23))
    assert session is not None
    assert session.phase_at(session.open_ns) == "continuous"
    assert session.phase_at(session.open_ns - 1) == "preopen"
    assert session.phase_at(session.close_ns) == "closing_auction"
    assert session.phase_at(session.phases[-1][2]) == "closed"
    assert (clock(session.open_ns), clock(session.close_ns), session.segment) == ("09:15", "15:15", "cash_fo")


@pytest.mark.parametrize(
    "text", ["2022-08-10", "2022-09-20", "2022-09-30", "2022-10-14", "2022-11-11", "2022-11-30"]
)
def test_the_index_days_of_2022_are_trading_days(text):
    assert hours(INDEX, D.fromisoformat(text)) == CASH + "15:40-16:00"


@pytest.mark.parametrize(
    ("instrument", "day", "expected"),
    [
        (GOLD, D(2026, 10, 30), "continuous 09:00-23:30"),  # US summer time
        (GOLD, D(2026, 11, 2), "continuous 09:00-23:55"),  # winter
        (GOLD, D(2026, 11, 23), "continuous 09:00-23:55"),
        (GOLD, D(2022, 3, 11), "continuous 09:00-23:55"),
        (GOLD, D(2022, 3, 14), "continuous 09:00-23:30"),
        (GOLD, D(2026, 11, 24), "continuous 17:00-23:55"),  # evening only
        (GOLD, D(2026, 1, 1), "continuous 09:00-17:00"),  # morning only
        (GOLD, D(2026, 12, 25), "Christmas"),
        (COTTON, D(2026, 11, 23), "continuous 09:00-21:00"),
        (COTTON, D(2026, 11, 24), "continuous 17:00-21:00"),
        (MENTHA, D(2026, 11, 23), "continuous 09:00-17:00"),
        (MENTHA, D(2026, 11, 24), "Guru Nanak Jayanti (evening session only)"),
        (GOLD, D(2020, 4, 1), "continuous 09:00-17:00"),  # lockdown
        (GOLD, D(2026, 2, 1), "continuous 09:00-17:00"),  # Budget
        (USDINR, D(2026, 11, 23), "continuous 09:00-17:00"),
        (USDINR, D(2026, 4, 1), "Annual bank closing"),
        (USDINR, D(2026, 11, 24), "Guru Nanak Jayanti"),
        (BITCOIN, D(2026, 11, 22), "continuous 00:00-00:00"),
        (BITCOIN, D(2031, 1, 1), "continuous 00:00-00:00"),
    ],
)
def test_commodities_currency_and_crypto(instrument, day, expected):
    session = BOOK.session(instrument, day)
    if instrument is BITCOIN:
        assert session is not None
        assert session.close_ns - session.open_ns == 86_400 * 10**9
        assert clock(session.open_ns) == "00:00"
    else:
        assert hours(instrument, day) == expected


@pytest.mark.parametrize(
    ("day", "window"),
    [
        (D(2020, 11, 14), "18:15-19:15"),
        (D(2021, 11, 4), "18:15-19:15"),
        (D(2022, 10, 24), "18:15-19:15"),
        (D(2023, 11, 12), "18:15-19:15"),
        (D(2024, 11, 1), "18:00-19:00"),
        (D(2025, 10, 21), "13:45-14:45"),
        (D(2026, 11, 8), "18:15-19:15"),
    ],
)
def test_muhurat(day, window):
    for instrument in (STOCK, CALL, GOLD, USDINR):
        session = BOOK.session(instrument, day)
        assert session is not None
        assert session.name == "Diwali Muhurat trading"
        assert f"{clock(session.open_ns)}-{clock(session.close_ns)}" == window
    cut = BOOK.square_off(STOCK, "MIS", day)
    session = BOOK.session(STOCK, day)
    assert cut is not None
    assert session is not None
    assert cut.square_off_ns == session.close_ns - 600 * 10**9
    unconfirmed = any(line.startswith("special_sessions cash_fo") for line in BOOK.unconfirmed(day, [STOCK]))
    assert unconfirmed == (day.year == 2026)


@pytest.mark.parametrize(
    ("instrument", "day", "expected"),
    [
        (SMALL, D(2020, 2, 1), CASH + "15:40-16:00"),
        (SMALL, D(2024, 1, 20), CASH + "15:40-16:00"),
        (CALL, D(2025, 2, 1), "continuous 09:15-15:30"),
        (SMALL, D(2026, 2, 1), CASH + "15:40-16:00"),
        (CALL, D(2024, 3, 2), "continuous 09:15-10:00; continuous 11:30-12:30"),
        (CALL, D(2024, 5, 18), "continuous 09:15-10:00; continuous 11:45-12:40"),
        (CALL, D(2021, 2, 24), "continuous 09:15-11:43; continuous 15:45-17:00"),
        (SMALL_BSE, D(2021, 2, 24), "preopen 09:00-09:15; continuous 09:15-17:00"),
        (USDINR, D(2024, 1, 20), "Saturday, weekend"),
        (SMALL, D(2024, 1, 22), "Ram temple consecration (Maharashtra holiday)"),
        (SMALL, D(2022, 10, 26), "Diwali Balipratipada"),
        (SMALL, D(2026, 11, 24), "Guru Nanak Jayanti"),
        (SMALL, D(2026, 1, 15), "Municipal corporation election, Maharashtra"),
    ],
)
def test_special_days_and_holidays(instrument, day, expected):
    assert hours(instrument, day) == expected


# Source: exchange_calendars 4.13.2 XBOM, equal to pandas_market_calendars 5.5.0 NSE but for the Muhurat days.
HOLIDAYS = {
    2020: "02-21 03-10 04-02 04-06 04-10 04-14 05-01 05-25 10-02 11-16 11-30 12-25",
    2021: "01-26 03-11 03-29 04-02 04-14 04-21 05-13 07-21 08-19 09-10 10-15 11-05 11-19",
    2022: "01-26 03-01 03-18 04-14 04-15 05-03 08-09 08-15 08-31 10-05 10-26 11-08",
    2023: "01-26 03-07 03-30 04-04 04-07 04-14 05-01 06-29 08-15 09-19 10-02 10-24 11-14 11-27 12-25",
    2024: "01-22 01-26 03-08 03-25 03-29 04-11 04-17 05-01 05-20 06-17 07-17 08-15 10-02 11-15 11-20 12-25",
    2025: "02-26 03-14 03-31 04-10 04-14 04-18 05-01 08-15 08-27 10-02 10-22 11-05 12-25",
    2026: "01-15 01-26 03-03 03-26 03-31 04-03 04-14 05-01 05-28 06-26 09-14 10-02 10-20 11-10 11-24 12-25",
}
WEEKENDS = (
    "2020-02-01 2020-11-14 2023-11-12 2024-01-20 2024-03-02 2024-05-18 2025-02-01 2026-02-01 2026-11-08"
)


def test_every_trading_day_of_2020_to_2026():
    closed = {D.fromisoformat(f"{year}-{day}") for year, days in HOLIDAYS.items() for day in days.split()}
    opened = {D.fromisoformat(day) for day in WEEKENDS.split()}
    start, end = D(2020, 1, 1), D(2026, 12, 31)
    days = (start + dt.timedelta(days=n) for n in range((end - start).days + 1))
    expected = [day for day in days if (day.weekday() < 5 and day not in closed) or day in opened]
    for instrument in (SMALL, STOCK, SMALL_BSE, FUT, CALL, INDEX):
        assert BOOK.trading_days(instrument, start, end) == expected
    assert not BOOK.trading_days(GOLD, D(2026, 12, 25), D(2026, 12, 27))


@pytest.mark.parametrize("day", [D(2027, 1, 4), D(2010, 6, 1)])
@pytest.mark.parametrize("instrument", [SMALL, FUT, USDINR, GOLD])
def test_a_day_outside_the_rulebook_fails_closed_and_says_what_to_do(instrument, day):
    for ask in (
        lambda: BOOK.session(instrument, day),
        lambda: BOOK.trading_days(instrument, day, day),
        lambda: BOOK.charges(instrument, "MIS", day),
        lambda: BOOK.lot_size("NIFTY", instrument.exchange, day),
        lambda: BOOK.freeze_quantity(instrument, day),
        lambda: BOOK.tick_size(instrument, 100, day),
        lambda: BOOK.square_off(instrument, "MIS", day),
    ):
        with pytest.raises(RulebookError) as caught:
            ask()
        assert str(day) in str(caught.value)
        assert "2026-12-31" in str(caught.value)
        assert "holidays.csv" in caught.value.fix
        assert "Rulebook.load" in caught.value.fix


def test_an_unknown_exchange_and_a_day_without_rates_fail_closed():
    with pytest.raises(RulebookError, match="no exchange 'NYSE'"):
        BOOK.session(Instrument(symbol="NYSE:IBM", exchange="NYSE"), D(2026, 11, 23))
    with pytest.raises(RulebookError, match=r"no .* rate for equity_intraday on NSE on 2020-03-02"):
        BOOK.charges(SMALL, "MIS", D(2020, 3, 2))


# ── products and cut-offs ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("instrument", "day", "expected"),
    [
        (STOCK, D(2026, 7, 31), "15:20"),
        (STOCK, D(2026, 11, 23), "15:05"),
        (STOCK, D(2026, 12, 7), "15:05"),
        (SMALL, D(2026, 11, 23), "15:20"),
        (CALL, D(2026, 7, 31), "15:25"),
        (CALL, D(2026, 11, 23), "15:25"),
        (CALL, D(2026, 12, 8), "15:25"),
        (FUT, D(2026, 12, 8), "15:25"),
        (USDINR, D(2026, 11, 23), "16:45"),
        (GOLD, D(2026, 10, 30), "23:05"),
        (GOLD, D(2026, 11, 23), "23:30"),
    ],
)
def test_intraday_square_off(instrument, day, expected):
    cut = BOOK.square_off(instrument, "MIS", day)
    assert cut is not None
    assert clock(cut.square_off_ns) == clock(cut.entry_cutoff_ns) == expected
    assert (cut.fee_paise, cut.gst_paise) == (5000, 900)
    open_question = any(s.startswith("square_off") for s in BOOK.unconfirmed(day, [instrument]))
    assert open_question == (day >= D(2026, 8, 3) and instrument in (STOCK, SMALL, CALL, FUT))


def test_no_square_off_for_other_products_closed_days_and_crypto():
    assert BOOK.square_off(STOCK, "CNC", D(2026, 11, 23)) is None
    assert BOOK.square_off(STOCK, "MIS", D(2026, 11, 24)) is None
    assert BOOK.square_off(BITCOIN, "MIS", D(2026, 11, 23)) is None


def test_products_and_short_selling():
    assert BOOK.products(STOCK) == ("CNC", "MIS")
    assert BOOK.products(FUT) == BOOK.products(GOLD) == BOOK.products(USDINR) == ("NRML", "MIS")
    assert BOOK.products(INDEX) == ()
    assert [BOOK.short_allowed(STOCK, p) for p in ("CNC", "MIS")] == [False, True]
    assert BOOK.short_allowed(CALL, "NRML")
    assert not BOOK.short_allowed(BITCOIN, "MIS")
    with pytest.raises(UnknownNameError) as caught:
        BOOK.charges(STOCK, "MISS", D(2026, 11, 23))
    assert caught.value.nearest == "MIS"
    with pytest.raises(RulebookError, match="NIFTY 50 cannot be traded"):
        BOOK.charges(INDEX, "MIS", D(2026, 11, 23))


# ── sizes and steps ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "exchange", "day", "lot"),
    [
        ("NIFTY", "NFO", D(2021, 6, 24), 75),
        ("NIFTY", "NFO", D(2022, 8, 10), 50),
        ("NIFTY", "NFO", D(2024, 4, 25), 50),
        ("NIFTY", "NFO", D(2024, 4, 26), 25),
        ("NIFTY", "NFO", D(2025, 1, 2), 75),
        ("NIFTY", "NFO", D(2025, 12, 30), 75),
        ("NIFTY", "NFO", D(2026, 1, 1), 65),
        ("BANKNIFTY", "NFO", D(2026, 11, 23), 30),
        ("SENSEX", "BFO", D(2026, 11, 23), 20),
        ("RELIANCE", "NFO", D(2026, 11, 23), None),
    ],
)
def test_lots(name, exchange, day, lot):
    assert BOOK.lot_size(name, exchange, day) == lot


def test_freeze_quantities():
    bank = Instrument(symbol="NFO:BANKNIFTY26DECFUT", exchange="NFO", kind="FUT", name="BANKNIFTY")
    assert BOOK.freeze_quantity(CALL, D(2026, 2, 2)) == 1800
    assert [BOOK.freeze_quantity(bank, D(2025, month, 15)) for month in (7, 9, 11)] == [600, 900, 600]
    assert BOOK.freeze_quantity(CALL, D(2022, 8, 10)) is None
    assert BOOK.freeze_quantity(STOCK_FUT, D(2026, 11, 23)) is None
    assert BOOK.freeze_quantity(STOCK, D(2026, 11, 23)) == 100_000
    assert any("freeze NFO NIFTY" in line for line in BOOK.unconfirmed(D(2026, 11, 23), [CALL]))
    assert not any("freeze" in line for line in BOOK.unconfirmed(D(2026, 2, 2), [CALL]))


@pytest.mark.parametrize(
    ("instrument", "rupees", "day", "tick"),
    [
        (SMALL, 100, D(2024, 6, 7), 5),
        (SMALL, 100, D(2024, 6, 10), 1),
        (SMALL, 2000, D(2025, 4, 11), 5),
        (SMALL, 249.99, D(2026, 11, 23), 1),
        (SMALL, 250, D(2026, 11, 23), 5),
        (SMALL, 1000, D(2026, 11, 23), 5),
        (SMALL, 1000.1, D(2026, 11, 23), 10),
        (SMALL, 6000, D(2026, 11, 23), 50),
        (SMALL, 15000, D(2026, 11, 23), 100),
        (SMALL, 25000, D(2026, 11, 23), 500),
        (FUT, 26000, D(2026, 11, 23), 10),
        (FUT, 26000, D(2025, 4, 11), 5),
        (STOCK_FUT, 1400, D(2026, 11, 23), 10),
        (CALL, 12, D(2026, 11, 23), 5),
        (USDINR, 85, D(2026, 11, 23), 25_000),
        (GOLD, 120_000, D(2026, 11, 23), 100),  # not on record: the instrument's own
    ],
)
def test_ticks(instrument, rupees, day, tick):
    assert BOOK.tick_size(instrument, round(rupees * instrument.price_scale), day) == tick


def test_circuits():
    assert BOOK.circuit(SMALL, D(2026, 11, 23)) == 20.0
    assert BOOK.circuit(STOCK, D(2026, 11, 23)) == 10.0
    assert BOOK.circuit(SMALL, D(2024, 3, 2)) == 5.0
    assert BOOK.circuit(GOLD, D(2026, 11, 23)) == 0.0


# ── files, overrides, version ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("table", TABLES)
def test_every_row_has_a_source_a_status_and_days_in_order(table):
    with (FOLDER / f"{table}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    for row in rows:
        assert row["source"].strip(), row
        assert "http" not in row["source"]
        assert row["status"] in ("confirmed", "unconfirmed")
        assert row["note"] or row["status"] == "confirmed", row
        assert D.fromisoformat(row["from"]) <= D.fromisoformat(row["to"] or "9999-12-31")


def own(folder: Path, table: str, *rows: str) -> Path:
    header = (FOLDER / f"{table}.csv").read_text().splitlines()[0]
    path = folder / f"{table}.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def doubts(instruments, *products, day=D(2026, 11, 23)):  # noqa: B008 - a date does not change
    """The unconfirmed rules by name, without their notes."""
    return {line.partition(":")[0] for line in BOOK.unconfirmed(day, instruments, products)}


def test_only_rules_that_have_a_say_in_what_was_traded_are_named():
    always = {"charges rounding", "freeze NSE"}
    assert doubts([STOCK], "MIS") == always | {"square_off cash_fo"}
    assert doubts([STOCK], "CNC") == always | {"charges dp equity_delivery"}
    assert doubts([STOCK, SMALL], "CNC", "MIS") == always | {
        *("charges dp equity_delivery", "square_off cash", "square_off cash_fo")
    }
    assert doubts([STOCK]) == doubts([STOCK], "CNC", "MIS")
    assert doubts([CALL], "NRML") == {"charges rounding", "freeze NFO NIFTY"}
    assert doubts([STOCK_FUT], "NRML") == {"charges rounding"}  # no freeze quantity, no band on record
    assert doubts([STOCK_FUT, CALL], "MIS") == {
        *("charges rounding", "freeze NFO NIFTY", "square_off equity_futures", "square_off equity_options")
    }
    assert doubts([INDEX]) == set()
    assert {"circuits cash_fo", "freeze BFO SENSEX", "charges dp equity_delivery"} <= doubts([])


def test_a_run_names_the_unconfirmed_rules_of_its_own_fills():
    from alphapanda import Strategy, backtest

    class Once(Strategy):
        symbols = ("NSE:RELIANCE",)
        product = ""

        def on_start(self) -> None:
            self.state.done = False

        def on_bar(self, bar) -> None:
            if self.product and not self.state.done:
                self.state.done = True
                self.buy(bar.symbol, 1, product=self.product)

    def noted(*products: str) -> set[str]:
        strategies = [type(f"Once{p}", (Once,), {"product": p})() for p in products]
        notes = backtest(strategies, "2026-11-20").notes
        assert len(notes) == len(set(notes))
        return {note.partition(":")[0] for note in notes}

    assert noted("") == set()
    assert noted("MIS") == {"charges rounding", "freeze NSE", "square_off cash_fo"}
    assert noted("CNC") == {"charges rounding", "freeze NSE", "charges dp equity_delivery"}
    assert noted("MIS", "CNC") == noted("MIS") | noted("CNC")


def test_a_file_of_ones_own_settles_an_unconfirmed_row(tmp_path):
    day = D(2026, 11, 23)
    path = own(tmp_path, "square_off", "2026-08-03,2026-12-06,cash_fo,12,8,10,60,confirmed,my broker's mail,")
    mine = Rulebook.load(path)
    cut, shipped = mine.square_off(STOCK, "MIS", day), BOOK.square_off(STOCK, "MIS", day)
    assert cut is not None
    assert shipped is not None
    assert (clock(cut.entry_cutoff_ns), clock(cut.square_off_ns), cut.fee_paise) == ("15:03", "15:07", 6000)
    assert clock(shipped.square_off_ns) == "15:05"
    assert any(line.startswith("square_off") for line in BOOK.unconfirmed(day, [STOCK]))
    assert not any(line.startswith("square_off") for line in mine.unconfirmed(day, [STOCK]))


def test_a_folder_of_ones_own_adds_a_year_and_charges(tmp_path):
    own(tmp_path, "calendars", "2027-01-01,2027-12-31,equity,confirmed,NSE circular,")
    own(tmp_path, "holidays", "2027-01-26,2027-01-26,equity,Republic Day,closed,confirmed,NSE circular,")
    own(tmp_path, "charges", "2027-01-01,,brokerage,equity_intraday,,0.05,0.05,25,,confirmed,Zerodha,")
    mine = Rulebook.load(tmp_path)
    assert mine.why_closed(STOCK, D(2027, 1, 26)) == "Republic Day"
    assert len(mine.trading_days(STOCK, D(2027, 1, 25), D(2027, 1, 29))) == 4
    assert mine.charges(STOCK, "MIS", D(2027, 1, 25)).brokerage_cap == 2500
    assert mine.charges(STOCK, "MIS", D(2026, 12, 31)).brokerage_cap == 2000


def test_the_version_is_stable_and_changes_with_any_row(tmp_path):
    assert Rulebook.load().version == BOOK.version
    row = "2026-11-01,,NFO,NIFTY,1800,confirmed,NSE circular,"
    first = Rulebook.load(own(tmp_path, "freeze", row)).version
    second = Rulebook.load(own(tmp_path, "freeze", row.replace("1800", "1700"))).version
    assert len({BOOK.version, first, second}) == 3


@pytest.mark.parametrize(
    ("table", "row", "said"),
    [
        ("lots", "2027-01-01,,NFO,NIFTY,index,many,confirmed,NSE,", "lots.csv:2: lot 'many'"),
        ("lots", "2027-13-01,,NFO,NIFTY,index,65,confirmed,NSE,", "lots.csv:2: from '2027-13-01'"),
        ("lots", "2027-02-01,2027-01-01,NFO,NIFTY,index,65,confirmed,NSE,", "before it begins"),
        ("lots", "2027-01-01,,NFO,NIFTY,index,65,confirmed,,", "lots.csv:2: source ''"),
        ("lots", "2027-01-01,,NFO,NIFTY,index,65,surely,NSE,", "status 'surely'"),
        ("lots", "2027-01-01,,NFO,NIFTY,index,65,unconfirmed,NSE,", "needs a note"),
        ("lots", "2027-01-01,,NFO,NIFTY", "4 cells for 9 columns"),
        ("sessions", "2027-01-01,,cash,open 9-15,confirmed,NSE,", "sessions.csv:2: phases 'open 9-15'"),
        (
            "sessions",
            "2027-01-01,,cahs,continuous 09:15-15:30,confirmed,NSE,",
            "'cahs'\n  fix: did you mean 'cash'",
        ),
    ],
)
def test_a_faulty_row_is_named_by_file_line_and_column(tmp_path, table, row, said):
    with pytest.raises((DataError, UnknownNameError)) as caught:
        Rulebook.load(own(tmp_path, table, row))
    assert said in str(caught.value)
    assert caught.value.fix


def test_phases_that_run_backwards_and_files_of_another_shape(tmp_path):
    path = own(tmp_path, "sessions", "2026-11-01,,cash,continuous 15:30-09:15,confirmed,NSE,")
    with pytest.raises(DataError, match=r"sessions.csv:2: phases overlap or run backwards"):
        Rulebook.load(path).session(SMALL, D(2026, 11, 23))
    path.write_text("from,to,market\n")
    with pytest.raises(DataError, match="the columns are from,to,market"):
        Rulebook.load(path)
    with pytest.raises(UnknownNameError) as caught:
        Rulebook.load(tmp_path / "holiday.csv")
    assert caught.value.nearest == "holidays"


def test_importing_the_rulebook_is_light():
    heavy = "('pandas', 'polars', 'pydantic')"
    code = f"import sys, alphapanda.rulebook; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

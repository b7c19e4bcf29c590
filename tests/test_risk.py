"""Risk rules at their edges: the last order allowed, the first denied, its reason; and exits that no rule can trap."""

# ruff: noqa: E501 - a table's row stays on its line

from __future__ import annotations

import datetime as dt
import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import alphapanda as ap
from alphapanda.errors import ConfigurationError
from alphapanda.instruments import Instrument
from alphapanda.orders import Order
from alphapanda.risk import Limits, self_cross
from tests.build import CRORE, NIFTY_FUT, WIDE, Scripted, clock, denials, equity, play, runs, tape_of, trades
from tests.chaos import Chaos, random_tape

FUT = "NIFTY26NOVFUT"
FLAT = tuple((f"09:15:{n:02}", "INFY", 100.0) for n in range(1, 40))


def asked(
    *orders: Any, limits: Limits | None = None, rows: Any = FLAT, every: int = 3, **more: Any
) -> list[str]:
    """Each order (a call on the strategy) at a tick of its own, 3 s apart; "" for those that passed, else the reason."""
    script = {rows[n * every][0]: order for n, order in enumerate(orders)}
    capital = more.pop("capital", CRORE)
    product = more.pop("product", "MIS")
    instruments = more.pop("instruments", ())
    result = play(
        Scripted(script, product=product),
        tape_of(rows, *instruments),
        limits=limits or Limits(),
        capital=capital,
        **more,
    )
    assert result.errors == [], result.errors[0].traceback
    return [o.reason if o.status == "denied" else "" for o in result.orders if not o.leg]


def _any(values: Any) -> Any:
    """Values a type checker should not look into."""
    return values


def buy(quantity: int, **options: Any) -> Any:
    """A buy of INFY."""
    return lambda s: s.buy("INFY", quantity, **options)


def sell(quantity: int, **options: Any) -> Any:
    """A sale of INFY."""
    return lambda s: s.sell("INFY", quantity, **options)


@pytest.mark.parametrize(
    ("limits", "allowed", "denied", "reason"),
    [
        ({"order_quantity": 10}, buy(10), buy(11), "order quantity 11 > 10"),
        ({"order_quantity": 10}, sell(10), sell(11), "order quantity 11 > 10"),
        ({"order_notional": 1_000.0}, buy(10), buy(11), "order notional ₹1,100.00 > ₹1,000.00"),
        ({"order_notional": 1_000.0}, buy(10, limit=100.0), buy(10, limit=100.05), "order notional ₹1,000.50 > ₹1,000.00"),
        ({"gross_exposure": 1_000.0}, buy(10), buy(11), "gross exposure ₹1,100.00 > ₹1,000.00"),
        ({"position_quantity": 10}, sell(10), sell(11), "position 11 > 10"),
        ({"position_notional": 1_000.0}, buy(10), buy(11), "position notional ₹1,100.00 > ₹1,000.00"),
        ({"price_band": 0.05}, buy(1, limit=105.0), buy(1, limit=105.05), "price band: limit 105.05 is 5% from the last price 100; allowed 95 to 105"),
        ({"price_band": 0.05}, sell(1, limit=95.0), sell(1, limit=94.95), "price band: limit 94.95 is 5% from the last price 100; allowed 95 to 105"),
        ({"price_band": 0.05}, buy(1, stop=105.0), buy(1, stop=105.05), "price band: stop 105.05"),
        ({}, buy(1, limit=80.0), buy(1, limit=60.0), "price band: limit 60 is 40% from the last price 100"),
        ({"instruments": ("NSE:INFY",)}, buy(1), lambda s: s.buy("TCS", 1), "instrument: NSE:TCS is not among the allowed instruments"),
        ({}, buy(100_000), buy(100_001), "freeze: 100001 > 100000"),
        ({}, buy(1), buy(1, product="NRML"), "product: NRML is not offered on NSE:INFY; use CNC or MIS"),
    ],
)  # fmt: skip
def test_a_rule_allows_its_limit_and_denies_the_next(
    limits: dict[str, Any], allowed: Any, denied: Any, reason: str
) -> None:
    limit = Limits(**dict[str, Any]({"leverage": None} | limits))
    rows = tuple(sorted((*FLAT, *((r[0], "TCS", 100.0) for r in FLAT)), key=lambda r: r[0]))
    rows = (("09:15:00", "TCS", 100.0), *FLAT) if "instruments" in limits else FLAT
    if "instruments" in limits:
        result = play(Scripted({"09:15:01": allowed, "09:15:04": denied}), tape_of(rows), limits=limit)
        got = [o.reason if o.status == "denied" else "" for o in result.orders if not o.leg]
    else:
        got = asked(allowed, limits=limit, rows=rows) + asked(denied, limits=limit, rows=rows)
    assert got[0] == ""
    assert got[1].startswith(reason), got[1]


def test_the_freeze_quantity_itself_is_allowed() -> None:
    assert asked(buy(100_000), limits=WIDE) == [""]


def test_lots() -> None:
    rows = tuple((t, FUT, 25000.0) for t, *_ in FLAT)
    got = asked(
        lambda s: s.buy(FUT, 65), lambda s: s.buy(FUT, 66), lambda s: s.buy(FUT, 1), lambda s: s.buy(FUT, lots=27),
        lambda s: s.buy(FUT, lots=28), rows=rows, limits=WIDE, instruments=(NIFTY_FUT,), product="NRML",
    )  # fmt: skip
    assert got == [
        "", "lot: 66 is not a multiple of 65; nearest 65 or 130", "lot: 1 is not a multiple of 65; nearest 65 or 130",
        "", "freeze: 1820 > 1800, the most one order may hold; send several, or let RISK__MAX_ORDER_SLICES "
        "(Limits.order_slices) cut it",
    ]  # fmt: skip


# ── reducing orders pass ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("first", [1, -1])
@pytest.mark.parametrize(
    "limits",
    [
        {"position_quantity": 10}, {"position_notional": 1_050.0}, {"gross_exposure": 1_050.0}, {"leverage": 0.0001},
        {"daily_loss": 5.0}, {"drawdown": 5.0},
    ],
)  # fmt: skip
def test_an_order_that_only_reduces_passes_the_rules_on_size_and_loss(
    limits: dict[str, Any], first: int
) -> None:
    """A limit can never trap a position: after the price moved against it and every limit is broken, it can be left."""
    enter, leave = (buy, sell) if first > 0 else (sell, buy)
    capital = 1_050 * 10_000 * 100 if "leverage" in limits else CRORE
    loss = "daily_loss" in limits or "drawdown" in limits
    moved = 81.0 if loss and first > 0 else 119.0
    rows = [*FLAT[:3], *((t, "INFY", moved) for t, *_ in FLAT[3:])]
    got = asked(
        enter(10),
        enter(2),
        leave(4),
        leave(26),
        leave(6),
        rows=rows,
        every=7,
        limits=Limits(**limits),
        capital=capital,
    )
    assert [bool(r) for r in got] == [False, True, False, True, False], got


def test_a_reduction_counts_what_already_works() -> None:
    """Two exits of the same position: the second would open the other side, so the rules ask it."""
    got = asked(
        buy(10), lambda s: (s.sell("INFY", 10, limit=110.0), s.sell("INFY", 6, limit=111.0)),
        limits=Limits(position_quantity=10, gross_exposure=1_001.0),
    )  # fmt: skip
    assert got[:2] == ["", ""]
    assert got[2]


# ── money ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_daily_loss_counts_open_positions_and_charges_and_starts_again_the_next_day() -> None:
    """100 bought at 100, marked at 99: a loss of 100 plus charges reaches a limit of 100."""
    days = [[f"2026-11-{d} 09:{m}:00" for m in range(15, 25)] for d in (20, 23)]
    rows = [(t, "INFY", 100.0 if n < 3 else 99.0) for day in days for n, t in enumerate(day)]
    script = {"09:15:00": buy(100), "09:19:00": buy(1), "09:24:00": buy(2)}
    result = play(Scripted(script), tape_of(rows), limits=Limits(daily_loss=100.0))
    assert [(clock(o.signal.ts), o.status) for o in result.orders if not o.leg] == [
        ("09:15:00", "filled"), ("09:19:00", "denied"), ("09:24:00", "denied"),
        ("09:15:00", "filled"), ("09:19:00", "denied"), ("09:24:00", "denied"),
    ]  # fmt: skip
    assert denials(result)[0].startswith("daily loss ₹1")
    assert denials(result)[0].endswith(">= ₹100.00")


def test_the_drawdown_is_measured_from_the_highest_equity() -> None:
    prices = [100, 100, 110, 110, 109.1, 109.1, 109.0, 108.9]
    rows = [(f"09:{15 + n}:00", "INFY", float(p)) for n, p in enumerate(prices)]
    script = {f"09:{15 + n}:00": buy(100 if n == 0 else 1) for n in (0, 4, 7)}
    result = play(
        Scripted(script, product="CNC"), tape_of(rows), limits=Limits(drawdown=105.0, leverage=None)
    )
    assert [o.status for o in result.orders] == ["filled", "filled", "denied"]
    assert denials(result)[0].startswith("drawdown ₹1")


@pytest.mark.parametrize(("quantity", "passes"), [(500, True), (501, False)])
def test_leverage_is_gross_exposure_over_equity(quantity: int, passes: bool) -> None:
    (reason,) = asked(buy(quantity), capital=10_000_00)
    assert reason == ("" if passes else "leverage: gross ₹50,100.00 > 5 x equity = ₹50,000.00")


@pytest.mark.parametrize(("quantity", "passes"), [(100, True), (101, False)])
@pytest.mark.parametrize("leverage", [5.0, None])
def test_delivery_is_paid_in_full(quantity: int, passes: bool, leverage: float | None) -> None:
    """CNC has no leverage, also when the leverage rule is off; buys that still work hold their money."""
    (reason,) = asked(buy(quantity), capital=10_000_00, product="CNC", limits=Limits(leverage=leverage))
    assert (reason == "") == passes
    assert passes or reason == "funds: ₹10,100.00 needed, ₹10,000.00 free"


def test_working_delivery_buys_hold_their_money() -> None:
    got = asked(buy(60, limit=90.0), buy(46), buy(45), capital=10_000_00, product="CNC")
    assert got[:2] == ["", ""]
    assert got[2].startswith("funds: ₹4,500.00 needed")


@pytest.mark.parametrize(
    "limit", [{"order_notional": 1e9}, {"gross_exposure": 1e9}, {"leverage": 5.0}, {"price_band": 0.2}]
)
@pytest.mark.parametrize("options", [{}, {"limit": 100.0}, {"stop": 101.0}])
def test_an_instrument_without_a_price_cannot_be_ordered(
    limit: dict[str, Any], options: dict[str, float]
) -> None:
    """B14: what has never traded has no value to check; an order on it must not slip past rules, nor crash one."""
    rows = [("09:15:01", "INFY", 100.0), ("09:15:02", "TCS", 200.0), ("09:15:03", "TCS", 200.0)]
    script = {"09:15:01": lambda s: s.buy("TCS", 100_000, **options)}
    result = play(
        Scripted(script),
        tape_of(rows),
        limits=Limits(**dict[str, Any]({"leverage": None, "price_band": None} | limit)),
    )
    assert result.errors == [], result.errors[0].message
    assert result.fills == []
    assert [o.status for o in result.orders] == ["denied"]


# ── rates, repeats, crosses ──────────────────────────────────────────────────────────────────────────────────────────


def times(*seconds: float) -> list[Any]:
    """Ticks of INFY so many seconds after 09:15, the last one much later."""
    stamps = [divmod(round(s * 1000), 60_000) for s in seconds]
    return [(f"09:{15 + m:02}:{rest / 1000:06.3f}", "INFY", 100.0) for m, rest in stamps]


@pytest.mark.parametrize(
    ("limit", "at", "expected"),
    [
        ({"orders_per_second": 2}, [0, 0.4, 0.9, 1.0, 1.3, 1.4], [1, 1, 0, 1, 0, 1]),
        ({"orders_per_minute": 2}, [0, 30, 59.999, 60, 89, 90], [1, 1, 0, 1, 0, 1]),
        ({"orders_per_day": 3}, [0, 100, 200, 300, 400], [1, 1, 1, 0, 0]),
    ],
)
def test_rates_hold_in_every_window(limit: dict[str, Any], at: list[float], expected: list[int]) -> None:
    """Any window of that length, sliding; what is denied does not count against it."""
    none = {
        "orders_per_second": None,
        "orders_per_minute": None,
        "orders_per_day": None,
        "duplicate_seconds": None,
    }
    rows = times(*at)
    script = {t[:8] if t.endswith("000") else t: buy(1) for t, *_ in rows}
    result = play(Scripted(script), tape_of(rows), limits=Limits(**_any(none | limit)))
    assert [int(o.status != "denied") for o in result.orders if not o.leg] == expected
    assert all(r.startswith("rate: more than") for r in denials(result))


def test_the_days_count_starts_again_each_day() -> None:
    rows = [(f"2026-11-{d} 09:15:0{n}", "INFY", 100.0) for d in (20, 23) for n in range(1, 6)]
    script = {f"09:15:0{n}": buy(n) for n in range(1, 6)}
    result = play(Scripted(script), tape_of(rows), limits=Limits(orders_per_day=2))
    assert [int(o.status != "denied") for o in result.orders if not o.leg] == [1, 1, 0, 0, 0] * 2


@pytest.mark.parametrize(
    ("second", "gap", "passes"),
    [
        (buy(5), 1.999, False), (buy(5), 2.0, True), (buy(6), 1.0, True), (sell(5), 1.0, True), (buy(5, limit=99.0), 1.0, True),
        (buy(5, stop=101.0), 1.0, True), (lambda s: s.buy("TCS", 5), 1.0, True),
    ],
)  # fmt: skip
def test_the_same_order_again_at_once_is_a_repeat(second: Any, gap: float, passes: bool) -> None:
    rows = [("09:15:00", "INFY", 100.0), ("09:15:00", "TCS", 100.0), *times(1, 1 + gap, 9)]
    script = {rows[2][0][:8]: buy(5), rows[3][0][:8] if rows[3][0].endswith("000") else rows[3][0]: second}
    result = play(Scripted(script), tape_of(rows), limits=Limits(self_cross=False))
    assert [o.status != "denied" for o in result.orders if not o.leg] == [True, passes]
    if not passes:
        assert denials(result) == ["duplicate: the same order came 1.999 s ago"]


def test_an_order_that_was_denied_may_be_tried_again() -> None:
    """Nothing left the house, so nothing would be repeated."""
    got = asked(buy(5, limit=70.0), buy(5), buy(5, limit=70.0), every=1)
    assert [r.split(":")[0] for r in got] == ["price band", "", "price band"]
    rows = [("09:15:01", "INFY", 100.0), ("09:15:01.500", "INFY", 100.0), ("09:15:02.001", "INFY", 100.0)]
    script = {"09:15:01": buy(1), "09:15:01.500": buy(2), "09:15:02.001": buy(2)}
    result = play(Scripted(script), tape_of(rows), limits=Limits(orders_per_second=1))
    assert [r.split(":")[0] for r in denials(result)] == ["rate"], denials(result)


@pytest.mark.parametrize(
    ("first", "second", "crosses"),
    [
        (buy(1, limit=99.0), sell(1, limit=99.0), True), (buy(1, limit=99.0), sell(1, limit=99.05), False),
        (sell(1, limit=101.0), buy(1, limit=101.0), True), (sell(1, limit=101.0), buy(1, limit=100.95), False),
        (buy(1, limit=99.0), sell(1), False), (sell(1, limit=101.0), buy(1, limit=102.0), True),
        (buy(1, limit=99.0), buy(1, limit=99.0), False), (buy(1, stop=101.0), sell(1, limit=100.5), False),
    ],
)  # fmt: skip
def test_never_trade_with_oneself(first: Any, second: Any, crosses: bool) -> None:
    got = asked(first, second)
    assert got[0] == ""
    assert got[1].startswith("self-cross: would trade against own working order Scripted:0:0") == crosses, got


def test_strategies_of_one_account_do_not_trade_with_each_other() -> None:
    rows = list(FLAT)
    one = Scripted({"09:15:01": buy(1, limit=99.0)}, name="one")
    two = Scripted({"09:15:04": sell(1, limit=99.0)}, name="two")
    result = play([one, two], tape_of(rows), limits=Limits())
    assert denials(result) == ["self-cross: would trade against own working order one:0:0"]


# ── products and instruments ─────────────────────────────────────────────────────────────────────────────────────────


def test_delivery_sells_only_what_is_held_and_not_yet_offered() -> None:
    got = asked(
        sell(1),
        buy(10),
        lambda s: (s.sell("INFY", 6, limit=110.0), s.sell("INFY", 5, limit=111.0)),
        sell(4),
        product="CNC",
    )
    assert got == [
        "short: CNC sells what is held; 0 free, 1 asked", "", "", "short: CNC sells what is held; 4 free, 5 asked", "",
    ]  # fmt: skip


def test_an_intraday_holding_is_not_delivery() -> None:
    assert asked(buy(10, product="MIS"), sell(10, product="CNC"))[1].startswith(
        "short: CNC sells what is held; 0 free"
    )


def test_no_intraday_entry_after_the_brokers_cut_off_but_exits_and_delivery_pass() -> None:
    rows = [
        ("15:19:58", "INFY", 100.0),
        ("15:19:59", "INFY", 100.0),
        ("15:20:00", "INFY", 100.0),
        ("15:20:05", "INFY", 100.0),
    ]
    got = asked(buy(1), buy(2), buy(3), buy(4, product="CNC"), rows=rows, every=1)
    assert got == ["", "", "product: MIS takes no new position after 15:20", ""]


@pytest.mark.parametrize("when", ["09:10:00", "15:30:00", "15:45:00"])
def test_the_segment_must_be_open(when: str) -> None:
    class Late(ap.Strategy):
        product = "CNC"

        def on_start(self) -> None:
            self.at(when, lambda: self.buy("INFY", 1))

    result = play(
        Late(), tape_of([("09:05:00", "INFY", 1.0), ("09:16:00", "INFY", 1.0), ("15:50:00", "INFY", 1.0)])
    )
    (order,) = result.orders
    assert order.status in ("denied", "expired")
    assert order.status == "expired" or order.reason == "segment: NSE is not in its continuous session"
    assert result.fills == []


def test_an_index_cannot_be_traded_and_the_reason_says_what_can() -> None:
    index = Instrument(symbol="NSE:NIFTY 50", exchange="NSE", kind="INDEX", tradable=False)
    rows = [("09:15:01", "NIFTY 50", 25000.0), ("09:15:02", "NIFTY 50", 25000.0)]
    result = play(Scripted({"09:15:01": lambda s: s.buy("NIFTY 50", 1)}), tape_of(rows, index))
    assert denials(result)[0].startswith(
        "instrument: NSE:NIFTY 50 is an index and cannot be traded; trade its future"
    )


@pytest.mark.parametrize(("day", "passes"), [("2026-11-26", True), ("2026-11-27", False)])
def test_an_expired_contract_names_its_last_day(day: str, passes: bool) -> None:
    """B12."""
    rows = [("09:15:01", FUT, 25000.0), ("09:15:02", FUT, 25000.0)]
    script = {"09:15:01": lambda s: s.buy(FUT, lots=1)}
    result = play(Scripted(script, product="NRML"), tape_of(rows, NIFTY_FUT, day=day))
    assert denials(result) == ([] if passes else [f"instrument: NFO:{FUT} expired on 2026-11-26"])


def test_options_are_exempt_from_the_price_band() -> None:
    call = Instrument(
        symbol="NFO:NIFTY26NOV25000CE",
        exchange="NFO",
        kind="CE",
        name="NIFTY",
        lot_size=65,
        expiry=dt.date(2026, 11, 26),
    )
    rows = [("09:15:01", call.tradingsymbol, 10.0), ("09:15:02", call.tradingsymbol, 10.0)]
    script = {"09:15:01": lambda s: s.buy(call.symbol, lots=1, limit=25.0)}
    assert denials(play(Scripted(script, product="NRML"), tape_of(rows, call), limits=Limits())) == []


# ── the limits themselves ────────────────────────────────────────────────────────────────────────────────────────────

NUMBERS = [f for f in Limits.__struct_fields__ if f not in ("self_cross", "instruments")]


@pytest.mark.parametrize("field", NUMBERS)
@pytest.mark.parametrize(
    "value", [float("nan"), -1, 0, math.inf, -math.inf, True, False, "NaN", "10", [1], 1e400]
)
def test_a_limit_is_a_finite_positive_number(field: str, value: Any) -> None:
    """B03: anything else is refused where it is written, naming the field; it never silently switches a rule off."""
    with pytest.raises(ConfigurationError, match=field) as caught:
        Limits(**{field: value})
    assert caught.value.code == "E_LIMIT"
    assert caught.value.context["field"] == field
    assert caught.value.fix


@pytest.mark.parametrize(
    "field", [f for f in NUMBERS if f.startswith("orders_per") or f.endswith("_quantity")]
)
def test_a_count_is_a_whole_number(field: str) -> None:
    """2.5 orders a second is a mistake, not a limit of two."""
    with pytest.raises(ConfigurationError, match=field):
        Limits(**_any({field: 2.5}))


def test_a_misspelt_limit_is_refused() -> None:
    """B04: a typo must not drop a limit."""
    with pytest.raises((TypeError, ConfigurationError), match="max_order_vaule"):
        Limits(max_order_vaule=1)  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("bad", [{"instruments": "NSE:INFY"}, {"self_cross": "no"}])
def test_an_allow_list_is_a_list_and_a_switch_a_bool(bad: dict[str, Any]) -> None:
    """A bare string would be read letter by letter: ``"NSE:INF" in "NSE:INFY"`` would allow a share nobody listed."""
    with pytest.raises(ConfigurationError, match=next(iter(bad))):
        Limits(**bad)


def test_a_denial_stands_in_the_report_with_its_reason() -> None:
    report = ap.backtest(
        Scripted({"09:15:01": buy(11, tag="big")}), tape_of(FLAT), limits=Limits(order_quantity=10)
    )
    row = report.denials.row(0, named=True)
    assert (row["symbol"], row["quantity"], row["reason"], row["tag"]) == (
        "NSE:INFY",
        11,
        "order quantity 11 > 10",
        "big",
    )
    assert report.denied == [("order quantity 11 > 10", 1)]
    assert report.signals["denied"].to_list() == [True]
    assert report.fills.is_empty()


@runs(30)
@given(st.integers(0, 10**6), st.integers(1, 40))
def test_no_run_of_anything_ever_holds_more_than_the_limits(seed: int, most: int) -> None:
    """F33: whatever is ordered, from wherever, positions stay inside, and lots and freeze quantities hold."""
    result = play(
        Chaos(seed=seed), random_tape(seed, 150), limits=Limits(position_quantity=most, order_quantity=most)
    )
    assert all(abs(f.position) <= most for f in result.fills)
    for order in result.orders:
        if order.status == "denied":
            assert order.reason
            assert order.fills == 0


def test_trades_are_what_is_left() -> None:
    """The helper reads fills as a person would."""
    result = play(Scripted({"09:15:01": buy(1)}), tape_of(FLAT))
    assert trades(result)[0] == ("09:15:02", 1, 100.0)


def test_a_coin_is_never_sold_short_nor_bought_on_credit_under_any_product() -> None:
    """The rulebook says which product may be sold short; spot has none, MIS included."""
    coin = Instrument(
        symbol="BINANCE:BTCUSDT", exchange="BINANCE", kind="SPOT", name="BTC", quantity_scale=100
    )
    rows = [(f"10:00:{n:02}", "BINANCE:BTCUSDT", 100.0) for n in range(1, 30)]
    got = asked(
        lambda s: s.sell("BTCUSDT", 1), lambda s: s.buy("BTCUSDT", 1_100), lambda s: s.buy("BTCUSDT", 900),
        lambda s: s.sell("BTCUSDT", 900), rows=rows, instruments=(coin,), capital=1_000_00,
    )  # fmt: skip
    assert got[0] == "short: MIS sells what is held; 0 free, 1 asked"
    assert got[1].startswith("funds: ₹1,100.00 needed, ₹1,000.00 free")
    assert got[2:] == ["", ""]


@pytest.mark.parametrize(("real", "reducing", "status", "denied"), [
    (True, True, "sent", False), (True, True, "open", True), (True, False, "sent", True), (False, True, "sent", True),
])  # fmt: skip
def test_an_order_nobody_can_find_traps_no_position(
    real: bool, reducing: bool, status: str, denied: bool
) -> None:
    there = Order(ap.Signal("other", 1, 0, 1, "NSE:INFY", 5, 10_000), equity("INFY"), 0, 0, status, target=5)
    exit_order = Order(ap.Signal("ours", 2, 0, 2, "NSE:INFY", -5, 10_000), equity("INFY"), 0, 0, target=-5)
    venue = SimpleNamespace(real=real, working={"NSE:INFY": [there]})
    desk: Any = SimpleNamespace(
        reducing=reducing, account=SimpleNamespace(desks=[SimpleNamespace(exchange=venue)])
    )
    assert bool(self_cross(exit_order, desk)) is denied

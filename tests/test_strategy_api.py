"""What a quant types: helpers mean what they say, and every wrong argument is answered with what would be right."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import numpy as np
import pytest

import alphapanda as ap
from alphapanda.blocks import TickBlock
from alphapanda.errors import AlphaPandaException, UnknownNameError, ValidationError
from alphapanda.events import Bar, Fill, Tick
from alphapanda.orders import Order
from alphapanda.risk import Limits
from alphapanda.strategy import CALLBACKS, Strategy
from tests.build import CRORE, NIFTY_FUT, WIDE, Scripted, clock, denials, equity, play, tape_of, trades

ROWS = [(f"09:15:{n:02}", "INFY", 100.0) for n in range(1, 20)]
NAN, INF = float("nan"), float("inf")
NAIVE = dt.datetime.fromisoformat("2026-11-20T15:10")


def answer(call: Any, *, rows: Any = ROWS, limits: Limits | None = None, **more: Any) -> tuple[Any, Any]:
    """What a call at the first tick raised (or None), and the run; the runner keeps going either way."""
    caught: list[Any] = []

    def attempt(s: Any) -> None:
        try:
            call(s)
        except Exception as error:  # noqa: BLE001 - the test looks at what came
            caught.append(error)

    strategy = Scripted({"09:15:01": attempt, "09:15:05": lambda s: s.buy("INFY", 1, tag="after")}, **more)
    result = play(strategy, tape_of(rows), limits=limits or WIDE)
    assert result.errors == []
    assert [o.signal.tag for o in result.orders if not o.leg][-1] == "after", "the run did not go on"
    return (caught[0] if caught else None), result


# ── B10: quantities ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "quantity",
    [
        0,
        -3,
        0.5,
        2.0,
        True,
        False,
        NAN,
        INF,
        10**12,
        "10",
        None,
        [1],
        decimal.Decimal(3),
        np.float64(2),
        np.bool_(True),
        2**70,
    ],
    ids=repr,
)
@pytest.mark.parametrize("helper", ["buy", "sell", "lots", "qty"])
def test_a_quantity_is_a_positive_whole_number(helper: str, quantity: Any) -> None:
    """B10: raised in research with the value and the fix; nothing is ordered and the run goes on."""

    def call(s: Any) -> None:
        if helper in ("lots", "qty"):
            s.buy("INFY", **{helper: quantity})
        else:
            getattr(s, helper)("INFY", quantity)

    error, result = answer(call)
    assert isinstance(error, ValidationError), error
    assert error.code == "E_QUANTITY"
    assert error.fix
    assert repr(quantity) in str(error)
    assert len([o for o in result.orders if not o.leg]) == 1


@pytest.mark.parametrize("quantity", [1, np.int64(7), np.uint8(3), 10**9])
def test_whole_numbers_of_numpy_are_quantities(quantity: Any) -> None:
    error, result = answer(lambda s: s.buy("INFY", quantity))
    assert error is None
    assert result.orders[0].quantity == int(quantity)
    assert type(result.orders[0].target) is int


@pytest.mark.parametrize("target", [0.5, True, NAN, "5", None, 10**12])
def test_a_target_is_a_whole_number(target: Any) -> None:
    error, result = answer(lambda s: s.order_target("INFY", target))
    assert isinstance(error, ValidationError), error
    assert error.code == "E_QUANTITY"
    assert len([o for o in result.orders if not o.leg]) == 1


@pytest.mark.parametrize("share", [NAN, INF, True, "half", None, 101])
def test_a_share_of_equity_is_a_number(share: Any) -> None:
    error, _ = answer(lambda s: s.order_target_percent("INFY", share))
    assert isinstance(error, ValidationError), error


def test_quantity_and_lots_together_are_refused() -> None:
    error, _ = answer(lambda s: s.buy("INFY", 1, lots=1))
    assert isinstance(error, ValidationError)
    assert "lots" in str(error)


# ── B11: prices ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("field", ["limit", "stop", "sl", "tp"])
@pytest.mark.parametrize(
    ("price", "code"),
    [
        (NAN, "E_PRICE_NUMBER"), (INF, "E_PRICE_NUMBER"), (-INF, "E_PRICE_NUMBER"), (True, "E_PRICE_NUMBER"),
        ("abc", "E_PRICE_NUMBER"), ([1], "E_PRICE_NUMBER"), (100.03, "E_PRICE_TICK"), (100.0501, "E_PRICE_TICK"),
    ],
)  # fmt: skip
def test_a_price_is_a_finite_number_on_the_grid(field: str, price: Any, code: str) -> None:
    """B11: off the grid names the two nearest valid prices; nothing is rounded silently."""
    error, _ = answer(lambda s: s.buy("INFY", 1, **{field: price}))
    assert isinstance(error, ValidationError), error
    assert error.code == code
    assert field in str(error)
    if price == 100.03:
        assert error.context["nearest"] == (100.0, 100.05)
        assert "100 or 100.05" in error.fix


@pytest.mark.parametrize("price", [0, 0.0, -5.0])
@pytest.mark.parametrize("field", ["limit", "stop", "sl", "tp"])
def test_a_price_of_nothing_or_less_never_passes(field: str, price: float) -> None:
    error, result = answer(lambda s: s.buy("INFY", 1, **{field: price}), limits=Limits())
    if error is None:
        assert denials(result), "an order with a price of 0 was sent"
        assert denials(result)[0].startswith((f"tick: {field}", f"price band: {field}"))
    else:
        assert isinstance(error, ValidationError)


def test_a_price_far_away_is_denied_with_the_band() -> None:
    error, result = answer(lambda s: s.buy("INFY", 1, limit=140.0), limits=Limits())
    assert error is None
    assert denials(result) == ["price band: limit 140 is 40% from the last price 100; allowed 80 to 120"]


@pytest.mark.parametrize("price", [100.1, 0.1 + 0.2 + 99.7, decimal.Decimal("100.1"), np.float64(100.1), 100])
def test_ordinary_floats_decimals_and_ints_are_prices(price: Any) -> None:
    error, result = answer(lambda s: s.buy("INFY", 1, limit=price))
    assert error is None
    assert result.orders[0].limit == pytest.approx(float(price))


@pytest.mark.parametrize(
    ("side", "options"),
    [
        ("buy", {"sl": 101.0}),
        ("buy", {"tp": 99.0}),
        ("sell", {"sl": 99.0}),
        ("sell", {"tp": 101.0}),
        ("buy", {"sl": 100.0, "tp": 99.0}),
    ],
)
def test_a_bracket_on_the_wrong_side_is_refused(side: str, options: dict[str, float]) -> None:
    """A stop-loss above a buy would fire at once: a sign error, not a wish."""
    error, result = answer(
        lambda s: getattr(s, side)("INFY", 1, **options), limits=Limits(duplicate_seconds=None)
    )
    assert isinstance(error, ValidationError) or denials(result), trades(result)


def test_round_price_is_what_the_grid_takes() -> None:
    seen: list[float] = []
    answer(lambda s: seen.extend(s.round_price("INFY", p) for p in (100.03, 100.02, 99.99, 0.0)))
    assert seen == [100.05, 100.0, 100.0, 0.0]


# ── B12 and B14: names, times, validity ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("symbol", ["INFI", "NSE:INFI", "nse:infy", "infy"])
def test_a_mistyped_symbol_answers_did_you_mean(symbol: str) -> None:
    error, _ = answer(lambda s: s.buy(symbol, 1))
    assert isinstance(error, UnknownNameError)
    assert "did you mean 'NSE:INFY'?" in str(error)


@pytest.mark.parametrize("symbol", [None, 7, "", ["NSE:INFY"], NAN])
@pytest.mark.parametrize(
    "helper",
    [
        "buy",
        "position",
        "history",
        "last_price",
        "indicator",
        "ind",
        "open_orders",
        "order_target",
        "round_price",
    ],
)
def test_a_symbol_that_is_no_text_is_unknown_not_a_crash(helper: str, symbol: Any) -> None:
    if helper == "open_orders" and symbol is None:
        return
    more = {
        "buy": (1,),
        "history": (1,),
        "indicator": (ap.SMA(2),),
        "ind": ("x",),
        "order_target": (1,),
        "round_price": (1.0,),
    }
    error, _ = answer(lambda s: getattr(s, helper)(symbol, *more.get(helper, ())))
    assert isinstance(error, AlphaPandaException), repr(error)


def test_a_run_with_a_symbol_the_tape_does_not_have_stops_before_it_starts() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'NSE:INFY'"):
        play(Scripted(symbols=["NSE:INFI"]), tape_of(ROWS))


def test_a_bare_symbol_means_the_one_exchange_that_has_it() -> None:
    """Where two exchanges have it, a bare name is ambiguous: it must be refused, never guessed."""
    bse = ap.Instrument(symbol="BSE:INFY", exchange="BSE")
    rows = [(t, s, p) for t, _, p in ROWS[:6] for s in ("NSE:INFY", "BSE:INFY")]
    seen: list[Any] = []

    def attempt(s: Any) -> None:
        try:
            seen.append(s.buy("INFY", 1).symbol)
        except UnknownNameError:
            seen.append("refused")

    play(Scripted({"09:15:02": attempt}, symbols=["BSE:INFY"]), tape_of(rows, equity("INFY"), bse))
    assert set(seen) == {"BSE:INFY"}
    seen.clear()
    play(Scripted({"09:15:02": attempt}), tape_of(rows, equity("INFY"), bse))
    assert set(seen) == {"refused"}
    with pytest.raises(AlphaPandaException):
        play(Scripted(symbols=["INFY"]), tape_of(rows, equity("INFY"), bse))


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"product": "MSI"}, "did you mean 'MIS'"), ({"validity": "GTC"}, "validity"), ({"validity": "TTL"}, "ttl"),
        ({"ttl": "5m"}, "TTL"), ({"validity": "TTL", "ttl": "0s"}, "ttl"), ({"validity": "TTL", "ttl": "-5m"}, "ttl"),
        ({"validity": "TTL", "ttl": 5}, "ttl"), ({"at": 0}, "on_ticks"), ({"validity": None}, "validity"),
        ({"tag": object()}, "tag"), ({"tag": None}, "tag"),
    ],
)  # fmt: skip
def test_an_option_that_makes_no_sense_names_itself(options: dict[str, Any], word: str) -> None:
    """B14: the field is named; nothing is published."""
    error, result = answer(lambda s: s.buy("INFY", 1, **options))
    assert isinstance(error, ValidationError), error
    assert word in str(error)
    assert [o.signal.tag for o in result.orders if not o.leg] == ["after"]


@pytest.mark.parametrize(
    ("helper", "value"),
    [
        ("at", "25:00"), ("at", "15:60"), ("at", "3pm"), ("at", ""), ("at", None),
        ("at", NAIVE), ("at", "close-"), ("at", "noon"), ("every", "5"), ("every", "0m"),
        ("every", "-5m"), ("every", 300), ("every", "5 minutes"), ("every", None),
    ],
)  # fmt: skip
def test_a_time_that_is_not_understood_is_named_with_examples(helper: str, value: Any) -> None:
    """B14: naive datetimes and free text are refused where they are typed."""
    error, _ = answer(lambda s: getattr(s, helper)(value, "x"))
    assert isinstance(error, ValidationError), error
    assert error.code in ("E_TIME", "E_INTERVAL")
    assert '"' in error.fix


@pytest.mark.parametrize("call", [None, 7, object()])
def test_a_timer_needs_a_function_or_a_name(call: Any) -> None:
    error, _ = answer(lambda s: s.at("15:00", call))
    assert isinstance(error, ValidationError), error


@pytest.mark.parametrize("start", ["2026-13-01", "tomorrow", NAIVE, 20261120])
def test_a_start_that_is_no_day_is_refused(start: Any) -> None:
    with pytest.raises(ValidationError):
        ap.backtest(Scripted({}), tape_of(ROWS), start=start)


def test_a_start_after_the_data_is_said_not_silent() -> None:
    """A run in which nothing could ever happen is a mistake."""
    try:
        report = ap.backtest(Scripted({}), tape_of(ROWS), start="2026-11-25")
    except AlphaPandaException:
        return
    assert any("start" in note for note in report.result.notes), report.result.notes


@pytest.mark.parametrize("capital", [0, -1, NAN, INF, True, "100", None])
def test_capital_is_an_amount(capital: Any) -> None:
    with pytest.raises(AlphaPandaException):
        ap.backtest(Scripted({}), tape_of(ROWS), capital=capital)


def test_what_is_no_strategy_is_refused_before_anything_runs() -> None:
    class Empty(ap.Strategy):
        symbols = ("INFY",)

    tape = tape_of(ROWS)
    for wrong, word in [([], "no strategy"), (Scripted, "is a class"), (Empty(), "no callback")]:
        with pytest.raises(ValidationError, match=word):
            ap.backtest(wrong, tape)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValidationError, match="two strategies are called Scripted"):
        ap.backtest([Scripted({}), Scripted({})], tape)
    for wrong in (None, [None], 7, ["x"]):
        with pytest.raises(AlphaPandaException):
            ap.backtest(wrong, tape)  # pyright: ignore[reportArgumentType]


def test_a_strategy_with_its_own_init_that_forgot_super_is_told_so() -> None:
    class Forgot(ap.Strategy):
        def __init__(self) -> None:
            self.n = 0

        def on_tick(self, tick: Tick) -> None:
            self.state.n = 1

    try:
        result = play(Forgot(), tape_of(ROWS))
    except ValidationError as error:
        assert "super().__init__" in str(error)  # noqa: PT017 - either answer is a promise kept
    else:
        assert result.errors == []


def test_helpers_before_the_run_say_that_it_is_not_running() -> None:
    with pytest.raises(ValidationError, match="is not running"):
        Scripted({}).buy("INFY", 1)


# ── parameters and names ─────────────────────────────────────────────────────────────────────────────────────────────


class Tuned(ap.Strategy):
    """Parameters of every kind."""

    minutes: int = ap.Param(15, low=5, high=60)
    risk: float = ap.Param(2_000.0, low=0.0)
    side: str = ap.Param("both", choices=["long", "short", "both"])
    loud: bool = ap.Param(False)

    def on_tick(self, tick: Tick) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    "values",
    [
        {"minutes": 4}, {"minutes": 61}, {"minutes": 10.5}, {"minutes": "10"}, {"minutes": True}, {"minutes": NAN},
        {"minutes": None}, {"risk": -0.1}, {"risk": NAN}, {"risk": INF}, {"risk": "2000"}, {"risk": True},
        {"side": "up"}, {"side": 1}, {"loud": 1}, {"loud": "yes"},
    ],
)  # fmt: skip
def test_a_parameter_out_of_bounds_or_kind_names_itself_and_its_bounds(values: dict[str, Any]) -> None:
    (name,) = values
    with pytest.raises(ValidationError, match=f"parameter {name} of Tuned") as caught:
        Tuned(**values)
    assert caught.value.code == "E_PARAM"
    assert caught.value.fix
    assert repr(values[name]) in str(caught.value)


def test_bounds_are_inclusive_and_values_take_the_declared_kind() -> None:
    tuned = Tuned(minutes=np.int64(5), risk=3, side="long", loud=True)
    assert tuned.params == {"minutes": 5, "risk": 3.0, "side": "long", "loud": True}
    assert [type(v) for v in tuned.params.values()] == [int, float, str, bool]
    assert Tuned(minutes=60.0).minutes == 60  # pyright: ignore[reportArgumentType]
    assert Tuned.minutes == 15
    assert repr(tuned) == "Tuned(minutes=5, risk=3.0, side='long', loud=True)"


def test_a_mistyped_parameter_answers_did_you_mean() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'minutes'"):
        Tuned(minuts=10)


def test_a_default_outside_its_own_bounds_is_refused_at_the_class() -> None:
    with pytest.raises(ValidationError, match="parameter n of Wrong"):

        class Wrong(ap.Strategy):
            n: int = ap.Param(3, low=5)


def test_a_subclass_inherits_parameters_and_may_change_a_default_within_bounds() -> None:
    class Slow(Tuned):
        minutes = 30
        extra: int = ap.Param(1)

    assert Slow().params == {"minutes": 30, "risk": 2_000.0, "side": "both", "loud": False, "extra": 1}
    assert Tuned().minutes == 15
    with pytest.raises(ValidationError, match="parameter minutes of Slow"):
        Slow(minutes=99)
    with pytest.raises(ValidationError, match="parameter minutes of Bad"):

        class Bad(Tuned):
            minutes = 99


HELPERS = sorted(
    name for name in vars(Strategy) if not name.startswith("_") and name not in CALLBACKS
    and name not in ("symbols", "bar", "product", "warmup", "name")
)  # fmt: skip


@pytest.mark.parametrize("name", [*HELPERS, "state"])
@pytest.mark.parametrize("value", [3, lambda self: None], ids=["value", "method"])
def test_a_class_cannot_hide_a_helper(name: str, value: Any) -> None:
    """``position = 0`` on the class would break ``self.position(symbol)`` at the worst moment."""
    with pytest.raises(ValidationError, match=name) as caught:
        type("Hides", (Tuned,), {name: value})
    assert "rename" in caught.value.fix


def test_a_callback_that_does_not_exist_is_not_ignored_silently() -> None:
    """``on_ticket`` would never be called."""
    with pytest.raises(ValidationError, match="did you mean 'on_tick'"):
        type("Typo", (ap.Strategy,), {"on_tcik": lambda self, tick: None, "on_bar": lambda self, bar: None})


# ── what helpers mean ────────────────────────────────────────────────────────────────────────────────────────────────


def test_order_target_trades_the_difference_from_position_and_working_orders() -> None:
    """It counts what is on its way, both sides, and goes through zero."""
    made: list[Any] = []
    script = {
        "09:15:01": lambda s: (
            made.append(s.order_target("INFY", 10)),
            made.append(s.order_target("INFY", 10)),
        ),
        "09:15:03": lambda s: (s.buy("INFY", 5, limit=90.0), made.append(s.order_target("INFY", 10))),
        "09:15:04": lambda s: (s.cancel_all(), made.append(s.order_target("INFY", -3, limit=99.0, tag="t"))),
        "09:15:06": lambda s: made.append(s.order_target("INFY", -3)),
        "09:15:07": lambda s: made.append(s.order_target("INFY", 0)),
    }
    result = play(Scripted(script), tape_of(ROWS))
    wanted = [None if o is None else o.target for o in made]
    assert wanted == [10, None, -5, -8, None, 3]
    assert made[3].signal.tag == "t"
    assert sum(f.quantity for f in result.fills) == 0


def test_order_target_percent_buys_whole_lots_of_equity_rounded_down() -> None:
    made: list[Any] = []
    script = {
        "09:15:01": lambda s: made.append(s.order_target_percent("INFY", 0.1)),
        "09:15:04": lambda s: made.append(s.order_target_percent("INFY", -0.1)),
        "09:15:06": lambda s: made.append(s.order_target_percent("INFY", 0.0)),
    }
    play(Scripted(script), tape_of(ROWS), capital=9_999_00)
    assert [o.target for o in made] == [9, -18, 9]
    future: list[Any] = []
    script = {"09:15:01": lambda s: future.append(s.order_target_percent("NIFTY26NOVFUT", 1.0))}
    rows = [(f"09:15:0{n}", "NIFTY26NOVFUT", 25000.0) for n in range(1, 5)]
    play(Scripted(script, product="NRML"), tape_of(rows, NIFTY_FUT), capital=2 * 65 * 25_000_00 - 1)
    assert future[0].target == 65


def test_order_target_percent_of_a_debt_is_not_a_short() -> None:
    """With negative equity a long share of it is nothing to buy, not an order the other way."""
    rows = [
        ("09:15:01", "INFY", 100.0),
        ("09:15:02", "INFY", 100.0),
        ("09:15:03", "INFY", 10.0),
        ("09:15:04", "INFY", 10.0),
    ]
    script = {
        "09:15:01": lambda s: s.buy("INFY", 100),
        "09:15:03": lambda s: s.order_target_percent("INFY", 0.5),
    }
    result = play(Scripted(script), tape_of(rows), capital=1_000_00)
    assert min(f.position for f in result.fills) >= 0


def test_order_target_percent_needs_a_price() -> None:
    rows = [("09:15:01", "INFY", 100.0), *((t, "TCS", 1.0) for t, *_ in ROWS[4:]), ("09:15:05", "INFY", 1.0)]
    error, _ = answer(lambda s: s.order_target_percent("TCS", 0.1), rows=rows)
    assert isinstance(error, ValidationError)
    assert "no price yet" in str(error)


def test_close_all_flattens_every_product_and_symbol_once() -> None:
    rows = [(t, s, 100.0) for t, *_ in ROWS for s in ("INFY", "TCS")]
    script = {
        "09:15:02": lambda s: (
            None if s.did else (s.buy("INFY", 5), s.buy("INFY", 3, product="CNC"), s.sell("TCS", 2))
        ),
        "09:15:05": lambda s: (s.close_all(), s.close_all()),
    }
    result = play(Scripted(script), tape_of(rows))
    closing = [(o.symbol, o.signal.product, o.target) for o in result.orders if o.signal.tag == "close_all"]
    assert closing == [("NSE:INFY", "MIS", -5), ("NSE:INFY", "CNC", -3), ("NSE:TCS", "MIS", 2)]
    assert result.positions == []


def test_cancel_all_withdraws_own_orders_of_a_symbol_or_all_and_nobody_elses() -> None:
    rows = [(t, s, 100.0) for t, *_ in ROWS for s in ("INFY", "TCS")]

    def three(s: Any) -> None:
        if not s.did:
            s.buy("INFY", 1, limit=90.0)
            s.buy("TCS", 2, limit=90.0)
            s.buy("INFY", 3, limit=91.0)

    seen: list[Any] = []

    def look(s: Any) -> None:
        seen.append([o.quantity for o in s.open_orders()])

    script = {
        "09:15:02": three, "09:15:03": look, "09:15:04": lambda s: (s.cancel_all("INFY"), look(s)),
        "09:15:06": lambda s: (s.cancel_all(), look(s)),
    }  # fmt: skip
    other = Scripted({"09:15:02": lambda s: None if s.did else s.buy("INFY", 7, limit=80.0)}, name="other")
    result = play([Scripted(script), other], tape_of(rows))
    assert seen[:4] == [[1, 2, 3], [1, 2, 3], [2], [2]]
    assert seen[4:] == [[], []]
    assert [(o.quantity, o.status) for o in result.orders] == [
        (1, "cancelled"), (2, "cancelled"), (3, "cancelled"), (7, "cancelled" if other.product == "MIS" else "expired"),
    ]  # fmt: skip
    assert [o.reason for o in result.orders] == ["cancelled by the strategy"] * 3 + ["MIS square-off"]


def test_open_orders_are_oldest_first_over_all_symbols() -> None:
    rows = [(t, s, 100.0) for t, *_ in ROWS for s in ("INFY", "TCS")]
    seen: list[Any] = []
    script = {
        "09:15:02": lambda s: s.buy("INFY" if s.did else "TCS", 1 + len(s.did), limit=90.0),
        "09:15:03": lambda s: s.buy("TCS", 3 + len(s.did), limit=90.0),
        "09:15:04": lambda s: seen.append([o.quantity for o in s.open_orders()]),
    }
    play(Scripted(script), tape_of(rows))
    assert seen[0] == [1, 2, 5, 6]


def test_cancelling_somebody_elses_order_is_an_error() -> None:
    kept: list[Order] = []
    one = Scripted({"09:15:01": lambda s: kept.append(s.buy("INFY", 1, limit=90.0))}, name="one")
    two = Scripted({"09:15:03": lambda s: s.cancel(kept[0])}, name="two")
    result = play([one, two], tape_of(ROWS))
    assert "cancel only your own" in result.errors[0].message
    assert result.halted[0] == ""
    for wrong in (None, "Scripted:0:0", 7):
        error, _ = answer(lambda s, wrong=wrong: s.cancel(wrong))
        assert isinstance(error, ValidationError), repr(error)


def test_a_strategy_reads_its_own_book_and_the_account_the_whole() -> None:
    seen: list[Any] = []

    def look(s: Any) -> None:
        own = s.position("INFY")
        seen.append(
            (
                s.name,
                own.qty,
                own.average_price,
                s.cash,
                s.equity,
                s.account.quantity("INFY"),
                s.account.equity,
            )
        )

    rows = [(t, s, p + (n > 3)) for n, (t, s, p) in enumerate(ROWS)]
    one = Scripted({"09:15:01": lambda s: s.buy("INFY", 10), "09:15:08": look}, name="one", product="CNC")
    two = Scripted({"09:15:01": lambda s: s.sell("INFY", 4), "09:15:08": look}, name="two", product="MIS")
    result = play([one, two], tape_of(rows), capital=2_000_00 * 100)
    paid = [
        sum(sum(f.charges) for f in result.fills if f.strategy == n and f.leg == "") / 100
        for n in ("one", "two")
    ]
    assert seen == [
        (
            "one",
            10,
            100.0,
            99_000.0 - paid[0],
            pytest.approx(100_010.0 - paid[0]),
            6,
            pytest.approx(200_006.0 - sum(paid)),
        ),
        (
            "two",
            -4,
            100.0,
            100_400.0 - paid[1],
            pytest.approx(99_996.0 - paid[1]),
            6,
            pytest.approx(200_006.0 - sum(paid)),
        ),
    ]


def test_now_is_the_time_of_the_event_in_exchange_time() -> None:
    seen: list[dt.datetime] = []
    answer(lambda s: seen.append(s.now))
    assert seen[0] == dt.datetime.fromisoformat("2026-11-20T09:15:01+05:30")
    assert seen[0].utcoffset() == dt.timedelta(hours=5, minutes=30)


@pytest.mark.parametrize(
    ("n", "interval"),
    [(0, None), (-1, None), (True, None), (2.5, None), ("3", None), (3, "7m"), (3, "x"), (3, 5)],
)
def test_history_of_nonsense_says_what_would_work(n: Any, interval: Any) -> None:
    error, _ = answer(lambda s: s.history("INFY", n, interval))
    assert isinstance(error, ValidationError), repr(error)
    assert error.fix


def test_an_indicator_is_known_by_name_and_a_wrong_one_answers_did_you_mean() -> None:
    class Uses(ap.Strategy):
        def on_start(self) -> None:
            self.indicator("INFY", ap.SMA(2), name="trend")
            self.indicator("INFY", ap.EMA(2))

        def on_tick(self, tick: Tick) -> None:
            assert self.ind("NSE:INFY", "trend") is self.ind("INFY", "trend")
            assert isinstance(self.ind("INFY", "ema"), ap.EMA)
            self.ind("INFY", "trand")

    result = play(Uses(), tape_of(ROWS))
    assert "did you mean 'trend'?" in result.errors[0].message

    class Wrong(Scripted):
        def on_start(self) -> None:
            self.indicator("INFY", self.did)

    assert "list is not an indicator" in play(Wrong(), tape_of(ROWS)).errors[0].message


def test_a_block_shows_its_columns_by_symbol_and_takes_no_row_outside_it() -> None:
    class Looks(ap.Strategy):
        symbols = ("TCS", "INFY")

        def on_ticks(self, block: TickBlock) -> None:
            self.seen = (
                block.symbols, block.code.tolist(), block.rows("NSE:TCS").tolist(), block.price.tolist(), len(block),
                [clock(t) for t in block.ts],
            )  # fmt: skip
            for at in (-1, 3, 1.5, "0"):
                try:
                    self.buy("INFY", 1, at=at)  # pyright: ignore[reportArgumentType]
                except ValidationError:
                    continue
                raise AssertionError(at)

    rows = [
        ("09:15:01", "INFY", 100.0),
        ("09:15:02", "TCS", 50.0),
        ("09:15:03", "WIPRO", 7.0),
        ("09:15:04", "INFY", 101.0),
    ]
    strategy = Looks()
    result = play(strategy, tape_of(rows))
    assert strategy.seen == (
        ("NSE:TCS", "NSE:INFY"), [1, 0, 1], [1], [100.0, 50.0, 101.0], 3, ["09:15:01", "09:15:02", "09:15:04"],
    )  # fmt: skip
    assert [e.message for e in result.errors] == []


# ── the example of the design ────────────────────────────────────────────────────────────────────────────────────────

# fmt: off
from alphapanda import EMA, Param  # noqa: E402 - the example is verbatim, imports included


class OpeningRange(Strategy):
    """The example that everything else is measured by, word for word."""

    symbols = ["NSE:RELIANCE", "NSE:INFY"]  # noqa: RUF012
    warmup = "3d"
    minutes: int = Param(15, low=5, high=60)
    risk: float = Param(2_000.0)                       # rupees per trade
    def on_start(self):
        for s in self.symbols:
            self.indicator(s, EMA(50), bar="5m", name="trend")
        self.at("09:15", self.new_day)
        self.at("15:10", self.exit_all)
    def new_day(self):
        self.state.box = {}                            # saved after every event
    def on_bar(self, bar):                             # 1m by default
        lo, hi = self.state.box.get(bar.symbol, (bar.low, bar.high))
        if bar.minute <= self.minutes:                 # minutes since the session opened
            self.state.box[bar.symbol] = min(lo, bar.low), max(hi, bar.high)
            return
        trend, width = self.ind(bar.symbol, "trend"), hi - lo
        busy = self.position(bar.symbol).qty or self.open_orders(bar.symbol)
        if busy or not trend.ready or not (qty := int(self.risk // width) if width else 0):
            return
        if bar.close > hi and bar.close > trend.value:
            self.buy(bar.symbol, qty, sl=lo, tp=hi + 2 * width, product="MIS", tag="orb")
        elif bar.close < lo and bar.close < trend.value:
            self.sell(bar.symbol, qty, sl=hi, tp=lo - 2 * width, product="MIS", tag="orb")
    def exit_all(self):
        self.cancel_all(); self.close_all()  # noqa: E702 - word for word
# fmt: on


def orb_tape(first: str) -> Any:
    """Three flat days to warm up, then a day on which RELIANCE breaks out upwards and INFY down."""
    rows: list[Any] = []
    for day in ("2026-11-17", "2026-11-18", "2026-11-19", "2026-11-20"):
        for n in range(0, 374, 1):
            hour, minute = divmod(555 + n, 60)
            at = f"{day} {hour:02}:{minute:02}:{first}"
            wave = 0.5 * (n % 5)
            rise = 0.05 * max(0, n - 40) if day == "2026-11-20" else 0.0
            rows += [(at, "RELIANCE", 1000.0 + wave + 4 * rise), (at, "INFY", 1500.0 + wave - min(rise, 8))]
    return tape_of(rows)


@pytest.mark.parametrize("first", ["00", "07"])
def test_the_example_of_the_design_trades(first: str) -> None:
    """Word for word, also when the day's first trade comes a few seconds after 09:15."""
    report = ap.backtest(OpeningRange(minutes=10), orb_tape(first))
    assert report.result.errors == [], report.result.errors[0].traceback
    fills = report.result.fills
    assert {f.symbol for f in fills} == {"NSE:RELIANCE", "NSE:INFY"}
    assert {clock(o.signal.ts)[:5] >= "09:25" for o in report.result.orders} == {True}
    assert {f.tag for f in fills if f.leg != "square-off"} == {
        "orb"
    }  # flat before 15:10: both targets were hit
    assert all(
        "wrong side" in o.reason for o in report.result.orders if o.status == "denied"
    )  # beyond its target
    assert {f.leg for f in fills} >= {"", "tp"}
    assert report.result.positions == []
    assert not report.halted
    assert report.stats is not None


def test_news_arrive_after_the_books_hold_them() -> None:
    """``on_fill`` runs after the position is updated."""
    seen: list[int] = []

    class Reads(ap.Strategy):
        def on_tick(self, tick: Tick) -> None:
            if not self.position("INFY").qty:
                self.order_target("INFY", 3)

        def on_fill(self, fill: Fill) -> None:
            seen.append(self.position("INFY").qty)

        def on_bar(self, bar: Bar) -> None:
            """Nothing."""

    play(Reads(product="CNC"), tape_of(ROWS), capital=CRORE)
    assert seen == [3]

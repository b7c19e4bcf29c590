"""Why an order of a backtest is as it is: what was seen, what each rule said, what it cost; a table and a picture."""

from __future__ import annotations

from typing import Any

import pytest

import alphapanda as ap
from alphapanda.errors import UnknownNameError, ValidationError
from alphapanda.examples import OpeningBreakout
from alphapanda.hindsight.verdicts import NOT_ASKED, PASSED, REFUSED
from alphapanda.report.chain import Chain
from alphapanda.report.charts import svg
from alphapanda.report.report import Report
from alphapanda.risk import Limits
from alphapanda.tapes.tape import Tape
from tests.build import DAY, Scripted, tape_of

SYMBOL = "NSE:INFY"


def steps(chain: Chain, what: str) -> list[str]:
    """The details of one kind of step."""
    return [step.detail for step in chain.steps if step.what == what]


def ticks(seconds: int = 400) -> Tape:
    """A share that saws up and down, a tick a second, and another beside it."""
    rows: list[tuple[Any, ...]] = []
    for n in range(seconds):
        clock = f"09:{15 + n // 60:02d}:{n % 60:02d}"
        rows.append((clock, "INFY", round(100 + 0.05 * (n * 7 % 23), 2), 1000))
        if n % 3 == 0:
            rows.append((clock, "TCS", 200.0, 1000))
    return tape_of(rows)


class Watcher(ap.Strategy):
    """Orders at bars and ticks, and writes down what it sees when it does."""

    symbols = (SYMBOL,)
    bar = "1m"

    def on_start(self) -> None:
        self.indicator(SYMBOL, ap.SMA(2), name="slow")
        self.indicator(SYMBOL, ap.Bollinger(2), name="bands")
        self.fast = {SYMBOL: ap.SMA(3)}
        self.state.seen = 0

    def note(self) -> None:
        slow, bands = self.ind(SYMBOL, "slow"), self.ind(SYMBOL, "bands")
        values = {"slow": slow.value, "fast": self.fast[SYMBOL].value}
        self.log("saw", seen=self.state.seen, **values, upper=bands.upper)

    def on_bar(self, bar: ap.Bar) -> None:
        self.note()
        self.order_target(SYMBOL, 0 if self.position(SYMBOL).quantity else 10)

    def on_tick(self, tick: ap.Tick) -> None:
        self.fast[SYMBOL].update(tick.price)
        self.state.seen += 1
        if self.state.seen % 100 == 7:
            self.note()
            self.buy(SYMBOL, 1, tag="on a tick")


class Wild(ap.Strategy):
    """Orders of every kind, most of which some rule does not like."""

    symbols = (SYMBOL, "NSE:TCS")

    def on_tick(self, tick: ap.Tick) -> None:
        draw = self.random
        if draw.random() > 0.3:
            return
        quantity = draw.choice([1, 5, 50, 400])
        place = draw.choice([self.buy, self.sell])
        extra: dict[str, Any] = {}
        if draw.random() < 0.4:
            extra["limit"] = self.round_price(tick.symbol, tick.price * draw.choice([0.7, 0.99, 1.0, 1.01]))
        if draw.random() < 0.3:
            extra["sl"] = self.round_price(tick.symbol, tick.price * draw.choice([0.98, 1.02]))
        place(tick.symbol, quantity, product=draw.choice(["MIS", "CNC"]), **extra)


TIGHT = Limits(
    order_quantity=300, position_notional=40_000, order_notional=30_000, orders_per_second=2, orders_per_minute=20,
    strategy_orders_per_second=1, price_band=0.2, daily_loss=200, leverage=1.0, gross_exposure=50_000,
)  # fmt: skip


@pytest.fixture(scope="module")
def watched() -> Report:
    return ap.backtest(Watcher(), ticks())


def test_every_rule_says_what_the_desk_heard() -> None:
    report = ap.backtest(Wild(), ticks(150), limits=TIGHT, capital=60_000)
    reasons: set[str] = set()
    orders = [order for order in report.result.orders if not order.leg]
    assert len(orders) > 30
    for order in orders:
        verdicts = report.why(order).scene.verdicts
        refused = [one for one in verdicts if one.said == REFUSED]
        assert [one.reason for one in refused] == ([order.reason] if order.status == "denied" else [])
        after = verdicts[verdicts.index(refused[0]) + 1 :] if refused else []
        assert all(one.said == NOT_ASKED for one in after)
        reasons |= {one.rule for one in refused}
    assert {"max order quantity", "orders of one strategy a second", "no short delivery"} <= reasons
    assert len(reasons) >= 6, reasons


def test_indicators_and_state_are_those_the_strategy_saw(watched: Report) -> None:
    notes = [line.fields for line in watched.result.logs]
    orders = [order for order in watched.result.orders if not order.leg]
    assert len(notes) == len(orders) > 6
    for note, order in zip(notes, orders, strict=True):
        scene = watched.why(order).scene
        assert scene.values["slow"] == note["slow"]
        assert scene.values["fast"] == note["fast"]
        assert scene.values["bands.upper"] == note["upper"]
        assert scene.state == f'{{"seen":{note["seen"]}}}'
        assert scene.verdicts
        assert all(line[-1] == (order.signal.ts, scene.values[name]) for name, line in scene.lines.items())


def test_the_tick_is_the_last_that_was_known(watched: Report) -> None:
    by_bar = next(o for o in watched.result.orders if not o.signal.tag)
    by_tick = next(o for o in watched.result.orders if o.signal.tag)
    bar, tick = watched.why(by_bar), watched.why(by_tick)
    assert bar.steps[0].id == f"row {by_bar.signal.seq - 1}", "the row it names is the first after the bar"
    assert bar.steps[0].ts < by_bar.signal.ts
    assert tick.steps[0].id == f"row {by_tick.signal.seq}"
    assert tick.steps[0].ts == by_tick.signal.ts
    assert "in on_bar, test_why.py:" in steps(bar, "signal")[0]
    assert "in on_tick, test_why.py:" in steps(tick, "signal")[0]
    assert steps(bar, "bar")[0].startswith("09:15:00 to 09:16:00: open ")


def test_money_is_the_sum_of_its_steps(watched: Report) -> None:
    order = next(o for o in watched.result.orders if o.filled == 10)
    chain = watched.why(order)
    paid = sum(sum(fill.charges) for fill in chain.fills)
    kinds = [float(detail.replace("₹", "").replace(",", "")) for detail in steps(chain, "charge")]
    assert round(sum(kinds) * 100) == paid > 0
    assert steps(chain, "order") == ["filled, 10 of 10 filled"]


@pytest.fixture(scope="module")
def bracketed() -> Report:
    return ap.backtest(OpeningBreakout(), DAY)


def test_an_exit_leads_to_its_entry_and_an_entry_to_its_exits(bracketed: Report) -> None:
    exit_ = next(o for o in bracketed.result.orders if o.leg == "sl")
    chain = bracketed.why(exit_)
    assert chain.decision is not None
    assert chain.decision.id == exit_.parent_id
    assert steps(chain, "parent")[0].startswith("this order is its sl: ")
    assert not steps(chain, "risk"), "nobody asks the rules about an exit that only closes"
    entry = bracketed.why(exit_.parent_id)
    assert {step.id for step in entry.steps if step.what == "exit"} == {
        o.id for o in bracketed.result.orders if o.parent_id == exit_.parent_id
    }


def test_a_square_off_is_nobodys_decision() -> None:
    moments = ("09:20:00", "09:20:01", *(f"15:2{n}:00" for n in range(10)))
    rows = [(moment, "INFY", 100.0, 100) for moment in moments]
    report = ap.backtest(Scripted({"09:20:00": lambda s: s.buy(SYMBOL, 5)}), tape_of(rows))
    (order,) = [o for o in report.result.orders if o.leg == "square-off"]
    chain = report.why(order)
    assert chain.decision is None
    assert "timetable" in steps(chain, "note")[0]
    assert steps(chain, "fill")


def test_a_decision_over_a_whole_block_is_found_at_its_row() -> None:
    class Blocks(ap.Strategy):
        symbols = (SYMBOL,)

        def on_ticks(self, block: Any) -> None:
            for row in range(0, len(block), 50):
                self.buy(SYMBOL, 1, at=row)

    report = ap.backtest(Blocks(), ticks())
    order = report.result.orders[3]
    chain = report.why(order)
    assert chain.steps[0].id == f"row {order.signal.seq}"
    assert all(one.said != REFUSED for one in chain.scene.verdicts)
    assert any(one.said == PASSED for one in chain.scene.verdicts)


def test_it_is_pointed_at_in_any_way_and_an_unknown_one_is_named(watched: Report) -> None:
    row = watched.orders.row(0, named=True)
    assert (
        repr(watched.why(row)) == repr(watched.why(row["id"])) == repr(watched.why(watched.result.orders[0]))
    )
    fill = watched.fills.row(0, named=True)
    assert watched.why(fill).order.id == fill["order_id"]
    with pytest.raises(UnknownNameError, match="order"):
        watched.why("Watcher:1:9")
    with pytest.raises(ValidationError, match="how its run was made"):
        Report(watched.result).why(row)


def test_looking_changes_nothing(watched: Report) -> None:
    before = watched.digest
    watched.why(watched.result.orders[0])
    assert Report(watched.result).digest == before == ap.backtest(Watcher(), ticks()).digest


def test_the_table_and_the_picture(watched: Report) -> None:
    chain = watched.why([o for o in watched.result.orders if o.filled > 0][-1])
    assert chain.frame.columns == ["what", "ts", "wall", "id", "detail"]
    assert chain.frame.height == len(chain.steps)
    drawn = svg(chain.plot())
    for name in ("slow", "fast", "bands.upper", "decision", "bought"):
        assert f">{name}<" in drawn
    page = chain._repr_html_()
    assert "<svg" in page
    assert "<table>" in page


def test_foreign_words_are_only_words() -> None:
    rows = [("09:20:00", "INFY", 100.0, 100), ("09:20:01", "INFY", 100.0, 100)]
    script = {"09:20:00": lambda s: s.buy(SYMBOL, 5, tag="<script>\x1b[31m")}  # pyright: ignore[reportUnknownLambdaType, reportUnknownVariableType]
    report = ap.backtest(Scripted(script), tape_of(rows))  # pyright: ignore[reportUnknownArgumentType]
    chain = report.why(report.result.orders[0])
    assert "<script>" not in chain._repr_html_()
    assert "\x1b" not in repr(chain)

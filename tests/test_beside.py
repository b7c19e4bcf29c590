"""Two runs beside each other: a run beside itself differs nowhere; others differ by what they decided and paid."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import alphapanda as ap
from alphapanda.errors import ValidationError
from alphapanda.report.charts import svg
from alphapanda.report.drift import Drift, compare
from alphapanda.workspace import Workspace
from tests.build import runs
from tests.test_why import TIGHT, Watcher, Wild, ticks

TAPE = ticks(200)


@runs(12)
@given(st.integers(0, 1000), st.booleans())
def test_a_run_beside_itself_differs_nowhere(seed: int, tight: bool) -> None:
    report = ap.backtest(Wild(), TAPE, limits=TIGHT if tight else None, seed=seed, capital=100_000)
    found = ap.drift(report, report)
    assert (
        found.totals.decisions
        == found.totals.alike
        == len(report.result.orders) - sum(bool(order.leg) for order in report.result.orders)
    )
    assert found.totals.difference == found.totals.cost == 0
    assert all(pair.decided == "both" and pair.gap == 0 and not pair.slip for pair in found.pairs)
    assert len(found.pairs) == len(report.result.orders) + len(report.result.cancels)


@pytest.fixture(scope="module")
def worse() -> Drift:
    """The same decisions; the second one's market orders fill two ticks worse."""
    plain = ap.backtest(Watcher(), ticks())
    slipped = ap.backtest(Watcher(), ticks(), fills=ap.Fills(slippage_ticks=2))
    return ap.drift(plain, slipped)


def test_slippage_is_told_in_ticks_and_rupees(worse: Drift) -> None:
    filled = [pair for pair in worse.pairs if pair.first and pair.first.filled]
    assert len(filled) > 5
    for pair in filled:
        assert pair.slip_ticks == 2
        assert pair.cost == 2 * 5 * pair.quantity
        assert pair.first
        assert pair.second
    assert worse.totals.alike == worse.totals.decisions
    assert worse.totals.cost == sum(pair.cost or 0 for pair in filled) > 0
    more = worse.totals.charges[1] - worse.totals.charges[0]
    assert worse.totals.difference == -worse.totals.cost - more


def test_the_running_difference_is_what_was_booked(worse: Drift) -> None:
    one, two = (sum(f.realized - sum(f.charges) for f in result.fills) for result in worse.results)
    assert worse.pairs[-1].gap == two - one


def test_decisions_that_only_one_run_took() -> None:
    class Other(Watcher):
        def on_bar(self, bar: ap.Bar) -> None:
            if bar.minute != 2:
                super().on_bar(bar)

    one, two = ap.backtest(Watcher(), ticks()), ap.backtest(Other(), ticks())
    found = ap.drift(one, two)
    decided = [pair.decided for pair in found.pairs]
    assert decided[:3] == ["both", "both", "both"]
    assert "only first" in decided
    assert "differs" in decided, "it holds what the other does not: the same bar sells there and buys here"
    assert found.totals.alike == decided.count("both") < found.totals.decisions
    assert next(p for p in found.pairs if p.decided == "only first").second is None
    assert next(p for p in found.pairs if p.decided == "differs").cost is None


def test_what_was_decided_before_both_had_begun_is_left_out() -> None:
    report = ap.backtest(Watcher(), ticks())
    whole = compare(report.result, report.result, ("one", "other"))
    middle = whole.pairs[len(whole.pairs) // 2].ts
    later = compare(report.result, report.result, ("one", "other"), since=middle)
    assert [pair.key for pair in later.pairs] == [pair.key for pair in whole.pairs if pair.ts >= middle]
    assert 0 < later.totals.decisions < whole.totals.decisions
    assert later.totals.net == whole.totals.net


def test_the_table_and_the_picture(worse: Drift) -> None:
    frame = worse.frame
    assert frame.height == len(worse.pairs)
    assert frame["slippage"].sum() == pytest.approx(worse.totals.cost / 100)
    assert {"first_price", "second_price", "first_realized", "second_charges"} <= set(frame.columns)
    assert frame["difference"][-1] == pytest.approx(worse.pairs[-1].gap / 100)
    assert "decisions alike" in repr(worse)
    drawn = svg(worse.plot())
    assert ">first<" in drawn
    assert ">second<" in drawn
    assert "<table>" in worse._repr_html_()


def test_a_run_that_is_none_is_named(tmp_path: Path) -> None:
    report = ap.backtest(Watcher(), TAPE)
    with pytest.raises(ValidationError, match="int is no run"):
        ap.drift(report, 3)
    with pytest.raises(ValidationError, match="unknown run 'nobody'"):
        ap.drift(report, "nobody", workspace=Workspace(tmp_path))

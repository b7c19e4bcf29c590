"""The life of an order is one table: every row holds, and nothing outside it can happen."""

from __future__ import annotations

import itertools

import pytest

from alphapanda import orders
from alphapanda.orders import (
    ACCEPT,
    CANCEL,
    CANCELLED,
    DENIED,
    ENDED,
    EXPIRE,
    EXPIRED,
    FILLED,
    FULL_FILL,
    OPEN,
    PART,
    PART_FILL,
    REJECT,
    REJECTED,
    SENT,
    WORKING,
    InvalidTransition,
    Order,
    advance,
)
from tests.build import NIFTY_FUT, Scripted, equity, only_order, play, tape_of

STATUSES = (DENIED, SENT, OPEN, PART, FILLED, CANCELLED, REJECTED, EXPIRED)
EVENTS = (ACCEPT, PART_FILL, FULL_FILL, CANCEL, REJECT, EXPIRE)
LIFE = {
    SENT: {
        ACCEPT: OPEN,
        PART_FILL: PART,
        FULL_FILL: FILLED,
        CANCEL: CANCELLED,
        REJECT: REJECTED,
        EXPIRE: EXPIRED,
    },
    OPEN: {PART_FILL: PART, FULL_FILL: FILLED, CANCEL: CANCELLED, REJECT: REJECTED, EXPIRE: EXPIRED},
    PART: {PART_FILL: PART, FULL_FILL: FILLED, CANCEL: CANCELLED, EXPIRE: EXPIRED},
}


@pytest.mark.parametrize(("status", "event"), [*itertools.product(STATUSES, EVENTS)])
def test_every_pair_of_status_and_event_is_in_the_table_or_raises(status: str, event: str) -> None:
    allowed = LIFE.get(status, {}).get(event)
    if allowed is not None:
        assert advance(status, event) == allowed
        return
    with pytest.raises(InvalidTransition) as caught:
        advance(status, event)
    assert caught.value.context == {"status": status, "event": event}
    assert status in str(caught.value)
    assert event in str(caught.value)
    assert caught.value.code == "E_TRANSITION"


def test_a_status_works_or_has_ended_and_ended_ones_are_final() -> None:
    assert set(STATUSES) == WORKING | ENDED
    assert not WORKING & ENDED
    assert {status for status, _ in orders.NEXT} == WORKING
    reached = {SENT, DENIED} | set(orders.NEXT.values())
    assert reached == set(STATUSES), "a status nothing leads to"


@pytest.mark.parametrize(("status", "event"), [("lost", ACCEPT), (SENT, "acknowledge"), ("", "")])
def test_an_unknown_status_or_event_raises(status: str, event: str) -> None:
    with pytest.raises(InvalidTransition):
        advance(status, event)


@pytest.mark.parametrize(
    ("prices", "kind"),
    [
        ({}, "MARKET"),
        ({"limit": 99.0}, "LIMIT"),
        ({"stop": 101.0}, "SL-M"),
        ({"stop": 101.0, "limit": 102.0}, "SL"),
    ],
)
def test_an_order_reads_back_what_was_asked(prices: dict[str, float], kind: str) -> None:
    tape = tape_of([("09:15:01", "INFY", 100.0)])
    strategy = Scripted({"09:15:01": lambda s: s.buy("INFY", 7, tag="why", product="CNC", **prices)})
    order = only_order(play(strategy, tape))
    assert (order.kind, order.side, order.quantity, order.remaining) == (kind, "BUY", 7, 7)
    assert (order.limit, order.stop) == (prices.get("limit"), prices.get("stop"))
    assert (order.signal.tag, order.signal.product, order.symbol) == ("why", "CNC", "NSE:INFY")
    assert order.average_price == 0.0
    assert order.status == EXPIRED
    assert not order.working


def test_remaining_is_quantity_less_filled_whatever_the_side() -> None:
    """F18: a part-filled order that is cancelled keeps its fill, and says what is left of it."""
    rows = [("09:15:01", "NIFTY26NOVFUT", 25000.0, 650), ("09:15:02", "NIFTY26NOVFUT", 25000.0, 70)]
    rows.append(("09:15:03", "NIFTY26NOVFUT", 25000.0, 0))
    script = {"09:15:01": lambda s: s.sell("NIFTY26NOVFUT", lots=3), "09:15:03": lambda s: s.cancel_all()}
    strategy = Scripted(script, product="NRML")
    result = play(strategy, tape_of(rows, NIFTY_FUT))
    order = only_order(result)
    assert (order.status, order.side, order.filled, order.remaining) == (CANCELLED, "SELL", -65, 130)
    assert order.average_price == 25000.0
    assert [p[3] for p in result.positions] == [-65]
    assert [status for _, status in strategy.told] == ["fill", PART, CANCELLED]


def test_an_order_that_ended_is_left_alone_by_cancel() -> None:
    rows = [(f"09:15:0{n}", "INFY", 100.0) for n in range(1, 5)]
    kept: list[Order] = []
    script = {"09:15:01": lambda s: kept.append(s.buy("INFY", 1)), "09:15:03": lambda s: s.cancel(kept[0])}
    result = play(Scripted(script, product="CNC"), tape_of(rows, equity("INFY")))
    assert kept[0].status == FILLED
    assert result.cancels == []
    assert result.errors == []

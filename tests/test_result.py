"""The decision digest: what moves it and what must not."""

from typing import Any

import msgspec
import pytest

from alphapanda.events import CancelSignal, Signal
from alphapanda.instruments import Instrument
from alphapanda.orders import DENIED, Order
from alphapanda.result import Result, RunError, decision_digest, decision_lines

INFY = Instrument(symbol="NSE:INFY", exchange="NSE")
SIGNALS = [
    Signal("A", 5, 0, 1_000, "NSE:INFY", 10, 150_000),
    Signal("A", 5, 1, 1_000, "NSE:INFY", -10, 150_000, limit=150_500, sl=149_000, tp=152_000, tag="x"),
    Signal("B", 5, 0, 1_000, "NSE:INFY", 10, 150_000, validity="TTL", ttl=60),
    Signal("B", 9, 0, 2_000, "NSE:INFY", 10, 150_000, "CNC", stop=149_000),
]
CANCELS = [CancelSignal("A", 7, 0, 1_500, "A:5:1")]


def result(
    signals: list[Signal] = SIGNALS,
    cancels: list[CancelSignal] = CANCELS,
    names: tuple[str, ...] = ("A", "B"),
) -> Result:
    orders = [Order(s, INFY, 0, 0) for s in signals]
    return Result(
        names, ({},) * len(names), ("",) * len(names), (INFY,), 100, orders=orders, cancels=list(cancels)
    )


def test_lines_are_ordered_by_tape_position_strategy_and_ordinal():
    lines = [msgspec.json.decode(line) for line in decision_lines(result(SIGNALS[::-1]))]
    assert [tuple(line[:4]) for line in lines] == [
        (5, "A", 0, "signal"),
        (5, "A", 1, "signal"),
        (5, "B", 0, "signal"),
        (7, "A", 0, "cancel"),
        (9, "B", 0, "signal"),
    ]
    assert next(decision_lines(result())) == (
        b'[5,"A",0,"signal",1000,"NSE:INFY",10,150000,"MIS",null,null,null,null,"DAY",0,""]'
    )


def test_the_digest_is_pinned():
    assert decision_digest(result()) == "2eb955abbc1e4faa140afc57c3284ae5"
    assert decision_digest(Result((), (), (), (), 0)) == "d381937d8297f89210b57393d6f74e99"


CHANGED: dict[str, Any] = dict(
    zip(
        Signal.__struct_fields__,
        ("C", 6, 3, 1_001, "NSE:TCS", 11, 150_005, "NRML", 1, 1, 1, 1, "IOC", 61, "y"),
        strict=True,
    )
)


@pytest.mark.parametrize("field", CHANGED)
@pytest.mark.parametrize("index", range(len(SIGNALS)))
def test_any_field_of_a_signal_moves_the_digest(field: str, index: int) -> None:
    signals = list(SIGNALS)
    signals[index] = msgspec.structs.replace(signals[index], **{field: CHANGED[field]})
    assert decision_digest(result(signals)) != decision_digest(result())


@pytest.mark.parametrize(
    ("field", "value"), [("strategy", "B"), ("seq", 8), ("ordinal", 1), ("ts", 1), ("order_id", "A:5:0")]
)
def test_any_field_of_a_cancel_moves_the_digest(field: str, value: Any) -> None:
    cancels = [msgspec.structs.replace(CANCELS[0], **{field: value})]
    assert decision_digest(result(cancels=cancels)) != decision_digest(result())


def test_one_decision_more_or_less_moves_the_digest():
    digests = {decision_digest(result(SIGNALS[:n], CANCELS[:c])) for n in range(5) for c in range(2)}
    assert len(digests) == 10


def test_no_tag_imitates_another_field():
    a = msgspec.structs.replace(SIGNALS[0], strategy='A",0,"signal', tag="")
    b = msgspec.structs.replace(SIGNALS[0], strategy="A", tag='",0,"signal')
    assert decision_digest(result([a])) != decision_digest(result([b]))


def test_what_became_of_a_decision_does_not_enter():
    changed = result(names=("B", "A"))
    changed.orders.reverse()
    for order in changed.orders:
        order.status, order.reason, order.filled, order.end_ts = DENIED, "too late", 3, 99
    changed.orders.append(Order(SIGNALS[0], INFY, 0, 0, leg="sl"))
    changed.orders.append(Order(SIGNALS[0], INFY, 0, 0, leg="square-off"))
    changed.errors.append(RunError("A", "on_tick", "", 1, 1, "f", 1, "m", "t"))
    changed.capital, changed.counts, changed.last_ts = 5, {"ticks": 9}, 77
    assert decision_digest(changed) == decision_digest(result())

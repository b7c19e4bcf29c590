"""Positions at the broker beside our own."""

from __future__ import annotations

from alphapanda.zerodha.drift import Drift

INFY, TCS = ("NSE:INFY", "MIS"), ("NSE:TCS", "CNC")


def test_what_others_hold_at_the_first_look_is_theirs() -> None:
    drift = Drift()
    for _ in range(5):
        assert drift.look({INFY: 15, TCS: 3}, {INFY: 5}, set()) == []
    assert drift.symbols == set()
    again = Drift(drift.save())
    for _ in range(5):
        assert again.look({INFY: 20, TCS: 3}, {INFY: 10}, set()) == []


def test_a_trade_by_hand_is_noticed_at_the_third_look_and_told_once() -> None:
    drift = Drift()
    assert drift.look({INFY: 5}, {INFY: 5}, set()) == []
    told = [drift.look({INFY: 8}, {INFY: 5}, set()) for _ in range(6)]
    assert [len(one) for one in told] == [0, 0, 1, 0, 0, 0]
    assert "shows 8, our trades make 5" in told[2][0]
    assert drift.symbols == {"NSE:INFY"}
    drift.accept()
    assert drift.symbols == set()
    assert all(drift.look({INFY: 8}, {INFY: 5}, set()) == [] for _ in range(5))


def test_while_something_of_ours_is_open_nothing_is_concluded() -> None:
    drift = Drift()
    drift.look({}, {}, set())
    assert all(drift.look({INFY: 5}, {}, {"NSE:INFY"}) == [] for _ in range(9))
    assert drift.look({INFY: 5}, {INFY: 5}, set()) == []
    assert drift.symbols == set()


def test_a_difference_that_moves_is_waited_for() -> None:
    drift = Drift()
    drift.look({}, {}, set())
    assert all(drift.look({INFY: n}, {}, set()) == [] for n in range(1, 9))

"""The sandbox's orders as a pure model: their life, their refusals, matching, and what is left of them."""

from __future__ import annotations

from typing import Any

import pytest

from alphapanda.sandbox.documents import Answer
from tests.sandbox_rig import CALL, FUTURE, INFY, Client, at, broker, order, said


@pytest.fixture
def client() -> Client:
    return Client(broker())


def test_a_limit_order_shows_every_interim_state_and_fills_at_the_other_sides_price(client: Client) -> None:
    placed = client.place(price=1549.0, quantity=10, tag="mine")
    assert client.order(placed)["status"] == "PUT ORDER REQ RECEIVED"
    assert len(placed) == 19
    client.wait()
    assert client.history(placed) == [
        "PUT ORDER REQ RECEIVED", "VALIDATION PENDING", "OPEN PENDING", "OPEN", "COMPLETE",
    ]  # fmt: skip
    row = client.order(placed)
    assert (row["filled_quantity"], row["average_price"], row["tag"], row["tags"]) == (
        10,
        1548.3,
        "mine",
        ["mine"],
    )
    trades = client("GET", f"/orders/{placed}/trades").data
    assert [(t["quantity"], t["average_price"]) for t in trades] == [(10, 1548.3)]


def test_a_resting_order_fills_at_its_own_limit_when_the_market_comes_to_it(client: Client) -> None:
    placed = client.place(price=1540.0)
    client.wait()
    assert client.order(placed)["status"] == "OPEN"
    client.broker.tick(INFY, 1539.0)
    assert client.order(placed)["status"] == "COMPLETE"
    assert client.order(placed)["average_price"] == 1540.0


def test_a_thin_book_fills_in_parts_and_what_was_taken_is_gone(client: Client) -> None:
    client.broker.tick(INFY, 1548.2, depth=4)
    placed = client.place(price=1548.4, quantity=20)
    client.wait()
    row = client.order(placed)
    assert (row["status"], row["filled_quantity"], row["pending_quantity"]) == (
        "OPEN",
        12,
        8,
    )  # 4 and 8 offered
    second = client.place(price=1548.4, quantity=5)
    client.wait()
    assert client.order(second)["filled_quantity"] == 0
    assert [update["status"] for update in client.broker.updates] == ["UPDATE", "UPDATE"]


def test_immediate_or_cancel_keeps_its_fill_and_cancels_the_rest(client: Client) -> None:
    client.broker.tick(INFY, 1548.2, depth=4)
    placed = client.place(price=1548.3, quantity=20, validity="IOC")
    client.wait()
    row = client.order(placed)
    assert (row["status"], row["filled_quantity"], row["cancelled_quantity"]) == ("CANCELLED", 4, 16)


def test_a_market_order_needs_protection_and_is_seen_as_a_limit(client: Client) -> None:
    code, kind, message = client.refused(order_type="MARKET", price=None)
    assert (code, kind) == (400, "InputException")
    assert message.startswith("Market orders without market protection are not allowed via API.")
    placed = client.place(order_type="MARKET", price=None, market_protection=2, quantity=3)
    client.wait()
    row = client.order(placed)
    assert (row["order_type"], row["market_protection"], row["tag"]) == ("LIMIT", 0, None)
    assert (row["tags"], row["status"], row["price"]) == (["mktp", "mktp:2.00"], "COMPLETE", 1579.2)


def test_a_market_order_that_the_band_cannot_fill_rests(client: Client) -> None:
    client.broker.tick(INFY, 1548.2, depth=0)
    placed = client.place(order_type="MARKET", price=None, market_protection=-1)
    client.wait()
    assert client.order(placed)["status"] == "OPEN"


def test_a_stop_waits_for_its_trigger(client: Client) -> None:
    placed = client.place(order_type="SL", trigger_price=1555.0, price=1560.0)
    client.wait()
    assert client.order(placed)["status"] == "TRIGGER PENDING"
    client.broker.tick(INFY, 1555.0)
    assert client.history(placed)[-3:] == ["TRIGGER PENDING", "OPEN", "COMPLETE"]
    assert [update["status"] for update in client.broker.updates] == ["OPEN", "COMPLETE"]


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"price": 1548.23}, "Tick size for this script is 0.10. Kindly enter price in the multiple"),
        ({"price": 1548.23456}, "Tick size for this script is 0.10."),
        ({"price": "nan"}, "Invalid `price`."),
        ({"quantity": 0}, "Invalid `quantity`."),
        ({"quantity": 1.5}, "Invalid `quantity`."),
        ({"quantity": -5}, "Invalid `quantity`."),
        ({"tag": "x" * 21}, "Invalid `tag`."),
        ({"symbol": "NSE:NOSUCH"}, "The instrument you are placing an order for has either expired"),
        ({"symbol": "NSE:NIFTY 50"}, "The instrument you are placing an order for has either expired"),
        ({"product": "NRML"}, "Invalid `product`"),
        ({"order_type": "SL", "trigger_price": 1500, "price": 1501}, "Trigger price for stoploss buy orders should be"),
        ({"order_type": "SL", "trigger_price": 1560, "price": 1555}, "Trigger price for stoploss orders cannot be"),
        ({"symbol": CALL, "product": "NRML", "order_type": "SL-M", "price": None, "trigger_price": 130,
          "market_protection": 2, "quantity": 65}, "16052"),
        ({"symbol": CALL, "product": "NRML", "price": 120, "quantity": 10}, "The quantity should be in multiples of"),
        ({"symbol": CALL, "product": "NRML", "price": 120, "quantity": 1820},
         "The order quantity 1820 (28 lots) is higher than the maximum quantity of 1755 (27 lots) allowed"),
        ({"validity": "TTL"}, "Invalid `validity_ttl`."),
    ],
)  # fmt: skip
def test_what_is_refused_leaves_no_order(client: Client, terms: dict[str, Any], message: str) -> None:
    code, kind, said_message = client.refused(**terms)
    assert (code, kind) == (400, "InputException")
    assert said_message.startswith(message)
    assert client("GET", "/orders").data == []
    assert client.broker.ledger.arrivals == []


def test_risk_management_rejects_after_the_order_id_is_given(client: Client) -> None:
    placed = client.place(quantity=1000, price=1548.2)
    client.wait()
    row = client.order(placed)
    assert row["status"] == "REJECTED"
    assert row["status_message"].startswith("Insufficient funds. Required margin is 1548200.00 but available")
    sold = client.place(side="SELL")
    client.wait()
    assert client.order(sold)["status_message"].startswith("Insufficient stock holding")
    outside = client.place(price=1300.0)
    client.wait()
    assert "lower circuit limit" in client.order(outside)["status_message"]


def test_open_orders_reserve_margin(client: Client) -> None:
    first, second = (client.place(price=1500.0, quantity=400) for _ in range(2))
    client.wait()
    assert [client.order(one)["status"] for one in (first, second)] == ["OPEN", "REJECTED"]


def test_a_change_is_shown_step_by_step_and_counted(client: Client) -> None:
    placed = client.place(price=1500.0)
    client.wait()
    for number in range(25):
        answer = client("PUT", f"/orders/regular/{placed}", {"price": str(1501 + number)})
        assert answer.status == 200, answer.body
        client.wait()
    assert client.history(placed)[-4:] == ["MODIFY VALIDATION PENDING", "MODIFY PENDING", "MODIFIED", "OPEN"]
    assert client.order(placed)["price"] == 1525.0
    refusal = said(client("PUT", f"/orders/regular/{placed}", {"price": "1530"}))
    assert refusal == (400, "InputException", "Maximum allowed order modifications exceeded.")


def test_a_fill_beats_a_change_that_is_still_on_its_way(client: Client) -> None:
    placed = client.place(price=1540.0)
    client.wait()
    client("PUT", f"/orders/regular/{placed}", {"price": "1530"})
    client.broker.tick(INFY, 1539.0)
    client.wait()
    assert (client.order(placed)["status"], client.order(placed)["average_price"]) == ("COMPLETE", 1540.0)


def test_a_cancel_takes_time_and_a_fill_may_come_first(client: Client) -> None:
    placed = client.place(price=1540.0)
    assert said(client("DELETE", f"/orders/regular/{placed}"))[2].startswith(
        "Order cannot be cancelled as it is being"
    )
    client.wait()
    assert client("DELETE", f"/orders/regular/{placed}").data == {"order_id": placed}
    assert client.order(placed)["status"] == "CANCEL PENDING"
    client.broker.tick(INFY, 1539.0)
    client.wait()
    assert client.order(placed)["status"] == "COMPLETE"
    assert said(client("DELETE", f"/orders/regular/{placed}"))[2].startswith(
        "Order cannot be cancelled as it is being"
    )
    other = client.place(price=1500.0)
    client.wait()
    client("DELETE", f"/orders/regular/{other}")
    client.wait()
    assert client.order(other)["status"] == "CANCELLED"


def test_an_after_market_order_goes_out_at_the_open_as_a_regular_one() -> None:
    client = Client(broker(now=at(20)))
    placed = client.place("amo", price=1500.0)
    client.wait()
    assert client.order(placed)["status"] == "AMO REQ RECEIVED"
    assert not client.broker.updates
    client.broker.advance(at(9, 0, "2026-11-23"))
    client.token = f"{client.broker.account.api_key}:{client.broker.access.open(client.broker.now)}"
    assert client.order(placed)["variety"] == "amo"
    client.broker.advance(at(9, 16, "2026-11-23"))
    assert (client.order(placed)["status"], client.order(placed)["variety"]) == ("OPEN", "regular")
    assert said(client("DELETE", f"/orders/amo/{placed}"))[1] == "InputException"
    assert client("DELETE", f"/orders/regular/{placed}").status == 200


def test_hours_are_kept() -> None:
    late = Client(broker(now=at(20)))
    assert late.refused()[2].startswith("Markets are closed right now.")
    early = Client(broker(now=at(9, 5)))
    placed = early.place(price=1548.3)
    early.wait()
    assert early.order(placed)["status"] == "OPEN"  # an auction session is not matched
    assert early.refused(order_type="SL", trigger_price=1555, price=1560)[2].startswith(
        "Only limit and market orders"
    )


def test_a_day_order_ends_with_its_day_and_the_book_is_forgotten_over_night(client: Client) -> None:
    placed = client.place(price=1500.0)
    client.broker.advance(at(18))
    assert client.order(placed)["status"] == "CANCELLED"
    client.broker.advance(at(0, 1, "2026-11-21"))
    assert client("GET", "/orders").data == []


def test_intraday_positions_are_closed_by_the_broker(client: Client) -> None:
    client.place(symbol="NSE:VGUARD", product="MIS", price=363.0, quantity=10)
    client.wait()
    assert client.broker.positions.net("NSE:VGUARD", "MIS") == 10
    client.broker.advance(at(15, 29))
    assert client.broker.positions.net("NSE:VGUARD", "MIS") == 0
    assert client.refused(symbol="NSE:VGUARD", product="MIS", price=363.0)[2].startswith(
        "Intraday (MIS) orders"
    )


def test_a_cover_order_brings_its_stop_and_is_left_by_it(client: Client) -> None:
    first = client.place("co", price=1549.0, trigger_price=1530.0, product="MIS", quantity=5)
    client.wait()
    stop = next(row for row in client("GET", "/orders").data if row["parent_order_id"] == first)
    assert (stop["status"], stop["transaction_type"], stop["trigger_price"]) == (
        "TRIGGER PENDING",
        "SELL",
        1530.0,
    )
    client("DELETE", f"/orders/co/{stop['order_id']}", {"parent_order_id": first})
    client.wait()
    assert client.order(stop["order_id"])["status"] == "COMPLETE"
    assert client.broker.positions.net(INFY, "CO") == 0


def test_an_iceberg_shows_one_leg_after_the_other(client: Client) -> None:
    client.place("iceberg", price=1549.0, quantity=25, iceberg_legs=3, iceberg_quantity=10)
    client.wait(3)
    rows = client("GET", "/orders").data
    assert [row["quantity"] for row in rows] == [10, 10, 5]
    assert rows[0]["meta"]["iceberg"] == {
        "leg": 1, "legs": 3, "leg_quantity": 10, "total_quantity": 25, "remaining_quantity": 15,
    }  # fmt: skip
    assert all(row["status"] == "COMPLETE" for row in rows)


def test_slices_of_a_large_order_carry_their_parent(client: Client) -> None:
    terms = {"symbol": CALL, "product": "NRML", "price": 119.0, "autoslice": "true"}
    assert "3510 for order slicing" in client.refused(**terms, quantity=1820)[2]
    answer = client("POST", "/orders/regular", order(**terms, quantity=3575)).data
    assert [list(child) for child in answer["children"]] == [["order_id"]] * 3
    client.wait()
    rows = client("GET", "/orders").data
    assert [row["quantity"] for row in rows] == [1755, 1755, 65]
    assert all(row["tags"] == ["autoslice", f"autoslice:{answer['order_id']}"] for row in rows)
    client.broker.faults.switch("autoslice-mixed", times=None)
    mixed = client("POST", "/orders/regular", order(**terms, quantity=3575)).data["children"]
    assert [next(iter(child)) for child in mixed] == ["order_id", "error", "order_id"]


def test_a_time_to_live_ends_an_order(client: Client) -> None:
    placed = client.place(price=1500.0, validity="TTL", validity_ttl=2)
    client.wait(100)
    assert client.order(placed)["status"] == "OPEN"
    client.wait(30)
    assert client.order(placed)["status"] == "CANCELLED"


def test_an_auction_order_is_refused(client: Client) -> None:
    assert client.refused("auction", auction_number="20")[0] == 400


def test_the_same_calls_give_the_same_bytes() -> None:
    def run() -> list[Answer]:
        client = Client(broker(seed=3))
        answers: list[Answer] = []
        client.broker.faults.switch("update-duplicated", times=None, rate=0.5)
        for number in range(20):
            answers.append(client("POST", "/orders/regular", order(price=1540 + number, quantity=1)))
            client.wait(0.03)
            client.broker.tick(INFY, 1545.0 + number / 2)
            answers.append(client("GET", "/orders"))
        answers.append(Answer.of(list(client.broker.updates)))
        return answers

    assert run() == run()


def test_futures_block_margin_and_close_without_it(client: Client) -> None:
    placed = client.place(symbol=FUTURE, product="NRML", price=26_101.0, quantity=65)
    client.wait()
    assert client.order(placed)["status"] == "COMPLETE"
    before = client("GET", "/user/margins").data["equity"]
    assert before["utilised"]["span"] > before["utilised"]["exposure"] > 0
    client.place(symbol=FUTURE, product="NRML", side="SELL", price=26_050.0, quantity=65)
    client.wait()
    after = client("GET", "/user/margins").data["equity"]
    assert after["utilised"]["span"] == 0
    assert after["net"] == pytest.approx(1_000_000 + after["utilised"]["m2m_realised"])

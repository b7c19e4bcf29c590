"""Every fault by name, as the unmodified client meets it over a real socket, and what truly happened by the ledger."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from kiteconnect import KiteConnect
from kiteconnect import exceptions as ex

from alphapanda.sandbox.faults import ANSWERS, CALLS, KINDS, REFUSALS
from alphapanda.sandbox.serve import Running, Sandbox
from tests.sandbox_rig import CALL, INFY, Client, broker, kite, order, said

ORDER: dict[str, Any] = {
    "variety": "regular", "exchange": "NSE", "tradingsymbol": "INFY", "transaction_type": "BUY", "quantity": 1,
    "product": "CNC", "order_type": "LIMIT", "price": 1500.0, "tag": "fault",
}  # fmt: skip
BROKEN = requests.exceptions.ConnectionError
RAISED: dict[str, tuple[type[Exception], int | None]] = {  # what the client raises, and the code it shows
    "timeout": (requests.exceptions.ReadTimeout, None),
    "drop": (BROKEN, None),
    "reset": (BROKEN, None),
    "truncated": (requests.exceptions.RequestException, None),
    "timeout-400": (ex.InputException, 400),
    "html-502": (ex.DataException, 502),
    "html-504": (ex.DataException, 502),
    "html-200": (ex.DataException, 502),
    "empty": (ex.DataException, 502),
    "not-json": (ex.DataException, 502),
    "no-data": (KeyError, None),
    "data-null": (TypeError, None),
    "no-order-id": (KeyError, None),
    "null": (AttributeError, None),
    "list": (AttributeError, None),
    "no-error-type": (TypeError, None),
    "no-message": (KeyError, None),
    "no-content-type": (KeyError, None),
    "oms-503": (ex.NetworkException, 503),
    "order-500": (ex.OrderException, 500),
    "general-500": (ex.GeneralException, 500),
    "data-502": (ex.DataException, 502),
    "lost": (requests.exceptions.ReadTimeout, None),
    "refused-connection": (BROKEN, None),
    "429": (ex.NetworkException, 429),
    "html-429": (ex.DataException, 502),
    "margin": (ex.GeneralException, 400),
    "session-403": (ex.TokenException, 403),
}


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    with Sandbox.thread(broker()) as running:
        yield running


@pytest.fixture
def sandbox(shared: Running) -> Running:
    shared.do(lambda one: (one.faults.off(), one.book.clear(one.now), one.ledger.arrivals.clear()))
    return shared


@pytest.fixture
def client() -> Client:
    return Client(broker())


def pass_time(sandbox: Running, seconds: float) -> None:
    """The sandbox's time passes."""
    now = sandbox.sandbox.time.now() + round(seconds * 1e9)
    sandbox.do(lambda one: (sandbox.sandbox.time.set(now), one.advance(now)))


def patient(sandbox: Running, name: str) -> Any:
    """A client that waits only where no answer will come."""
    return kite(sandbox, timeout=0.5 if RAISED[name][0] is requests.exceptions.ReadTimeout else 10)


def test_every_answer_has_an_expectation_here() -> None:
    assert {*ANSWERS, *REFUSALS} == {*RAISED, "redirect"}


@pytest.mark.parametrize("name", RAISED)
def test_a_wrong_answer_to_a_placement(sandbox: Running, name: str) -> None:
    kind, code = RAISED[name]
    client = patient(sandbox, name)
    sandbox.switch(f"place-{name}")
    with pytest.raises(kind) as caught:
        client.place_order(**ORDER)
    assert type(caught.value) is kind or kind in (BROKEN, requests.exceptions.RequestException)
    if code is not None:
        assert getattr(caught.value, "code", None) == code
    arrived = [one.tag for one in sandbox.broker.ledger.arrivals]
    assert arrived == (["fault"] if name in ANSWERS else [])
    assert sandbox.broker.faults.struck[f"place-{name}"] >= 1
    client.place_order(**ORDER)  # once only


def test_a_redirect_makes_requests_send_the_order_again(sandbox: Running) -> None:
    sandbox.switch("place-redirect")
    kite(sandbox).place_order(**ORDER)
    assert len(sandbox.broker.ledger.arrivals) == 2


@pytest.mark.parametrize("call", ["modify", "cancel"])
@pytest.mark.parametrize("name", ["timeout", "no-data", "oms-503", "lost", "429"])
def test_a_wrong_answer_to_a_change(sandbox: Running, call: str, name: str) -> None:
    client = patient(sandbox, name)
    placed = client.place_order(**ORDER)
    pass_time(sandbox, 1)
    sandbox.switch(f"{call}-{name}")
    with pytest.raises(RAISED[name][0]):
        client.modify_order("regular", placed, price=1501.0) if call == "modify" else client.cancel_order(
            "regular", placed
        )
    pass_time(sandbox, 1)
    row = client.orders()[-1]
    changed = row["price"] == 1501.0 if call == "modify" else row["status"] == "CANCELLED"
    assert changed == (name in ANSWERS)


@pytest.mark.parametrize("name", ["timeout", "html-502", "429", "null", "session-403", "data-null"])
def test_a_wrong_answer_to_a_read(sandbox: Running, name: str) -> None:
    client = patient(sandbox, name)
    sandbox.switch(f"read-{name}", match="/orders")
    assert client.profile()
    kind = (
        UnboundLocalError if name == "data-null" else RAISED[name][0]
    )  # the client formats a null and trips
    with pytest.raises(kind):
        client.orders()
    assert client.orders() == []


@pytest.mark.parametrize("name", ["place-late", "place-late-400"])
def test_an_order_that_arrives_after_the_call_ended(sandbox: Running, name: str) -> None:
    client = kite(sandbox, timeout=0.4)
    sandbox.switch(name, seconds=5)
    with pytest.raises((requests.exceptions.ReadTimeout, ex.InputException)):
        client.place_order(**ORDER)
    assert client.orders() == []
    pass_time(sandbox, 6)
    assert [row["tag"] for row in client.orders()] == ["fault"]


def test_a_slow_answer_is_true(sandbox: Running) -> None:
    sandbox.switch("place-slow", seconds=0.3)
    started = time.monotonic()
    assert kite(sandbox).place_order(**ORDER)
    assert time.monotonic() - started >= 0.3


# ── orders, books and updates, on the model ──────────────────────────────────────────────────────────


def test_an_order_that_is_rejected_after_its_id(client: Client) -> None:
    client.broker.faults.switch("order-rejected")
    placed = client.place()
    client.wait()
    assert client.order(placed)["status"] == "REJECTED"
    assert [one["status"] for one in client.broker.updates] == ["REJECTED"]


def test_an_order_that_is_stuck(client: Client) -> None:
    client.broker.faults.switch("order-stuck")
    placed = client.place(price=1549.0)
    client.wait(80)
    assert client.order(placed)["status"] == "PUT ORDER REQ RECEIVED"
    assert not client.broker.updates
    client.wait(12)
    assert client.order(placed)["status"] == "COMPLETE"


def test_a_part_and_then_a_cancel_by_the_exchange(client: Client) -> None:
    client.broker.faults.switch("order-partial-cancel")
    placed = client.place(price=1549.0, quantity=10)
    client.wait()
    row = client.order(placed)
    assert (row["status"], row["filled_quantity"]) == ("CANCELLED", 5)
    assert "limit price protection range" in row["status_message"]
    assert client.broker.positions.net(INFY, "CNC") == 5


def test_a_stop_that_vanishes(client: Client) -> None:
    client.broker.faults.switch("stop-vanishes")
    placed = client.place(order_type="SL", trigger_price=1555.0, price=1560.0)
    client.wait()
    client.broker.tick(INFY, 1556.0)
    assert client.order(placed)["status"] == "CANCELLED"


@pytest.mark.parametrize(
    ("name", "shown"), [("order-tag-missing", (None, None)), ("order-tag-in-tags", (None, ["mine"]))]
)
def test_a_tag_that_the_book_does_not_show(client: Client, name: str, shown: tuple[Any, Any]) -> None:
    client.broker.faults.switch(name)
    placed = client.place(price=1549.0, tag="mine")
    client.wait()
    for row in (client.order(placed), client.broker.updates[-1]):
        assert (row["tag"], row.get("tags")) == shown
    assert client.broker.ledger.arrivals[0].tag == "mine"


def test_books_that_are_empty_old_or_cut(client: Client) -> None:
    first = client.place(price=1500.0)
    client.wait(10)
    client.place(price=1501.0)
    client.wait(1)
    faults = client.broker.faults
    faults.switch("book-empty")
    assert client("GET", "/orders").data == []
    faults.switch("book-stale", seconds=5)
    assert [row["order_id"] for row in client("GET", "/orders").data] == [first]
    faults.switch("book-truncated")
    assert [row["order_id"] for row in client("GET", "/orders").data] == [first]
    assert len(client("GET", "/orders").data) == 2


def test_positions_with_an_old_price(client: Client) -> None:
    client.place(price=1549.0)
    client.wait()
    client.broker.tick(INFY, 1600.0)
    client.broker.faults.switch("positions-stale")
    assert client("GET", "/portfolio/positions").data["net"][0]["last_price"] == 1548.3
    assert client("GET", "/portfolio/positions").data["net"][0]["last_price"] == 1600.0


def test_updates_that_are_lost_doubled_late_or_out_of_order(client: Client) -> None:
    def statuses(fault: str | None, **how: Any) -> list[str]:
        client.broker.updates.clear()
        if fault:
            client.broker.faults.switch(fault, **how)
        client.broker.tick(INFY, 1548.2, depth=4)
        client.place(price=1548.4, quantity=6)
        client.wait()
        return [one["status"] for one in client.broker.updates]

    assert statuses(None) == ["UPDATE", "COMPLETE"]
    assert statuses("update-dropped") == ["COMPLETE"]
    assert statuses("update-duplicated") == ["UPDATE", "UPDATE", "COMPLETE"]
    assert statuses("update-reordered") == ["COMPLETE", "UPDATE"]
    assert statuses("update-late", seconds=3) == ["COMPLETE"]
    client.wait(3)
    assert [one["status"] for one in client.broker.updates] == ["COMPLETE", "UPDATE"]


def test_a_late_cancel(client: Client) -> None:
    placed = client.place(price=1500.0)
    client.wait()
    client.broker.faults.switch("cancel-late", seconds=4)
    client("DELETE", f"/orders/regular/{placed}")
    client.wait(3)
    assert client.order(placed)["status"] == "CANCEL PENDING"
    client.wait(2)
    assert client.order(placed)["status"] == "CANCELLED"


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("ip-missing", "PermissionException", "No IPs configured for this app."),
        ("ip-unknown", "PermissionException", "IP is not allowed to place orders for this app."),
        ("ip-generic", "PermissionException", "Insufficient permission for that call."),
        ("token-dead", "TokenException", "Incorrect `api_key` or `access_token`."),
    ],
)
def test_access_that_is_taken_away(client: Client, name: str, kind: str, message: str) -> None:
    client.broker.faults.switch(name)
    code, error, text = said(client("POST", "/orders/regular", order()))
    assert (code, error) == (403, kind)
    assert text.startswith(message)
    assert (client("GET", "/orders").status == 403) == (name == "token-dead")


def test_the_free_plan(client: Client) -> None:
    client.broker.faults.switch("plan-personal")
    assert said(client("GET", "/quote", {"i": INFY}))[:2] == (403, "PermissionException")


def test_match_rate_and_times(client: Client) -> None:
    faults = client.broker.faults
    faults.switch("order-rejected", match="TCS", times=None)
    placed = client.place()
    client.wait()
    assert client.order(placed)["status"] != "REJECTED"
    faults.switch("place-lost", times=None, rate=0.5)
    lost = sum(client("POST", "/orders/regular", order()).delivery == "silence" for _ in range(200))
    assert 60 < lost < 140
    faults.off()
    assert not faults.active


def test_slices_are_told_apart(client: Client) -> None:
    client.broker.faults.switch("autoslice-mixed", times=1)
    terms = {"symbol": CALL, "product": "NRML", "price": 119.0, "quantity": 3575, "autoslice": "true"}
    children = client("POST", "/orders/regular", order(**terms)).data["children"]
    assert children[1]["error"]["error_type"] == "MarginException"
    assert len(client.broker.ledger.arrivals) == 2


# ── the control door ─────────────────────────────────────────────────────────────────────────────────


def test_the_control_door_steers_everything(sandbox: Running) -> None:
    def ask(method: str, door: str, body: Any = None) -> Any:
        return requests.request(method, f"{sandbox.url}/sandbox/{door}", json=body, timeout=5)

    assert set(ask("GET", "faults").json()["known"]) == set(KINDS)
    assert (
        ask("POST", "faults", {"name": "place-timeout", "times": None, "rate": 0.5}).json()["on"][0]["rate"]
        == 0.5
    )
    assert ask("POST", "faults", {"off": None}).json()["on"] == []
    wrong = ask("POST", "faults", {"name": "place-timeuot"})
    assert wrong.status_code == 400
    assert "place-timeout" in json.dumps(wrong.json())
    client: Any = KiteConnect(sandbox.broker.account.api_key, root=sandbox.url)  # it has no types
    client.set_access_token(ask("POST", "session", {"do": "open"}).json()["access_token"])
    assert ask("POST", "market", {"symbol": INFY, "price": 1560.0}).json() == {"last_price": 1560.0}
    assert client.ltp(INFY)[INFY]["last_price"] == 1560.0
    before = ask("GET", "clock").json()["ns"]
    assert ask("POST", "clock", {"advance": 60, "speed": 0}).json()["ns"] >= before + 60 * 10**9
    client.place_order(**ORDER)
    ledger = ask("GET", "ledger").json()
    assert [one["tag"] for one in ledger["arrivals"]] == ["fault"]
    assert ask("POST", "holdings", {"symbol": INFY, "quantity": 3, "average": 1400}).status_code == 200
    assert ask("POST", "session", {"do": "close"}).status_code == 200
    with pytest.raises(ex.TokenException):
        client.profile()
    assert ask("GET", "nosuch").status_code == 404
    assert ask("POST", "clock", {"speed": 1}).status_code == 200


def test_every_fault_has_a_meaning() -> None:
    assert all(kind.meaning for kind in KINDS.values())
    assert {name.partition("-")[0] for name in KINDS} >= {*CALLS, "order", "update", "ticker", "book"}

"""The official client, unmodified, against the sandbox over a real socket; our documents and the vendor's."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from kiteconnect import KiteConnect
from kiteconnect import exceptions as ex

from alphapanda.sandbox.access import Account, Limits
from alphapanda.sandbox.serve import Running, Sandbox
from tests.sandbox_rig import CALL, FUTURE, INFY, MOCKS, TEN, broker, kite, mock

ORDER = {
    "variety": "regular", "exchange": "NSE", "tradingsymbol": "INFY", "transaction_type": "BUY", "quantity": 10,
    "product": "CNC", "order_type": "LIMIT", "price": 1549.0,
}  # fmt: skip
TERMS = {
    "exchange": "NSE", "tradingsymbol": "INFY", "transaction_type": "BUY", "variety": "regular", "product": "CNC",
    "order_type": "LIMIT", "quantity": 1, "price": 1498,
}  # fmt: skip


@pytest.fixture
def sandbox() -> Iterator[Running]:
    with Sandbox.thread(broker()) as running:
        yield running


def wait(sandbox: Running, seconds: float = 1.0) -> None:
    """The sandbox's time passes; the machine's need not."""
    now = sandbox.sandbox.time.now() + round(seconds * 1e9)
    sandbox.do(lambda one: (sandbox.sandbox.time.set(now), one.advance(now)))


# ── every method ─────────────────────────────────────────────────────────────────────────────────────


def test_login_by_page_and_checksum(sandbox: Running) -> None:
    account = sandbox.broker.account
    client: Any = KiteConnect(account.api_key, root=sandbox.url)  # it has no types
    address = f"{sandbox.url}/connect/login"
    page = requests.get(address, params={"api_key": account.api_key, "v": "3"}, timeout=5)
    assert "<form" in page.text
    answer = requests.post(address, params={"api_key": account.api_key}, allow_redirects=False, timeout=5)
    query = parse_qs(urlsplit(answer.headers["Location"]).query)
    assert (answer.status_code, query["status"], query["action"]) == (302, ["success"], ["login"])
    token = query["request_token"][0]
    with pytest.raises(ex.TokenException):
        client.generate_session(token, "wrong secret")
    session = client.generate_session(token, account.api_secret)
    assert isinstance(session["login_time"], dt.datetime)
    client.set_access_token(session["access_token"])
    assert client.profile()["user_id"] == account.user_id
    with pytest.raises(ex.TokenException):  # a request token is used once
        client.generate_session(token, account.api_secret)
    assert client.invalidate_access_token() is True
    with pytest.raises(ex.TokenException, match="Incorrect `api_key` or `access_token`") as caught:
        client.profile()
    assert caught.value.code == 403


def test_orders_and_trades(sandbox: Running) -> None:
    client = kite(sandbox)
    placed = client.place_order(**ORDER, tag="tag1")
    wait(sandbox)
    row = client.orders()[0]
    assert (row["order_id"], row["status"], row["tag"]) == (placed, "COMPLETE", "tag1")
    assert isinstance(row["order_timestamp"], dt.datetime)
    assert isinstance(row["exchange_update_timestamp"], str)
    assert client.order_history(placed)[0]["status"] == "PUT ORDER REQ RECEIVED"
    trade = client.trades()[0]
    assert client.order_trades(placed) == [trade]
    assert isinstance(trade["fill_timestamp"], dt.datetime)
    assert isinstance(trade["order_timestamp"], str)
    resting = client.place_order(**ORDER | {"price": 1500.0})
    wait(sandbox)
    assert client.modify_order("regular", resting, price=1501.0, quantity=12) == resting
    wait(sandbox)
    assert client.cancel_order("regular", resting) == resting
    wait(sandbox)
    last = client.orders()[-1]
    assert (last["status"], last["price"], last["quantity"], last["modified"]) == (
        "CANCELLED",
        1501.0,
        12,
        True,
    )


def test_autoslice(sandbox: Running) -> None:
    exchange, _, name = CALL.partition(":")
    terms = ORDER | {
        "exchange": exchange,
        "tradingsymbol": name,
        "product": "NRML",
        "price": 119.0,
        "quantity": 3575,
    }
    answer = kite(sandbox).place_autoslice_order(**terms)
    alike(answer, mock("autoslice_response.json"))


def test_portfolio(sandbox: Running) -> None:
    client = kite(sandbox)
    sandbox.do(lambda one: one.positions.hold(INFY, 20, 1400.0))
    client.place_order(**ORDER | {"product": "MIS"})
    client.place_order(**ORDER | {"transaction_type": "SELL", "price": 1540.0, "quantity": 5})
    wait(sandbox)
    net = {row["product"]: row for row in client.positions()["net"]}
    assert (net["MIS"]["quantity"], net["CNC"]["quantity"]) == (10, -5)
    assert client.holdings()[0]["used_quantity"] == 5
    assert client.holdings()[0]["quantity"] == 15
    assert client.convert_position("NSE", "INFY", "BUY", "day", 4, "MIS", "CNC") is True
    net = {row["product"]: row["quantity"] for row in client.positions()["net"]}
    assert net == {"MIS": 6, "CNC": -1}
    with pytest.raises(ex.InputException):
        client.convert_position("NSE", "INFY", "BUY", "day", 400, "MIS", "CNC")
    assert client.get_auction_instruments() == []


def test_market_data(sandbox: Running) -> None:
    client = kite(sandbox)
    quote = client.quote(INFY, "NSE:NIFTY 50", "NSE:NOSUCH")
    assert list(quote) == [INFY, "NSE:NIFTY 50"]
    assert quote[INFY]["ohlc"]["close"] == 1548.2
    assert client.ohlc(INFY)[INFY]["last_price"] == client.ltp([INFY])[INFY]["last_price"]
    with pytest.raises(ex.InputException, match="Too many tokens requested"):
        client.quote([f"NSE:X{n}" for n in range(501)])
    assert client.trigger_range("BUY", INFY)[INFY]["lower"] < 1548
    rows = {row["tradingsymbol"]: row for row in client.instruments()}
    assert rows["INFY"]["instrument_token"] == 408065
    assert rows["NIFTY 50"]["segment"] == "INDICES"
    future = rows[FUTURE.partition(":")[2]]
    assert (future["lot_size"], future["instrument_type"], future["segment"]) == (65, "FUT", "NFO-FUT")
    assert isinstance(future["expiry"], dt.date)
    assert {row["exchange"] for row in client.instruments("NFO")} == {"NFO"}


def test_candles(sandbox: Running) -> None:
    client = kite(sandbox)
    for second, price in ((1, 1550.0), (20, 1553.0), (70, 1551.0), (400, 1540.0)):
        wait(sandbox, second)
        sandbox.tick(INFY, price, quantity=7)
    day = dt.datetime.fromisoformat("2026-11-20")
    rows = client.historical_data(408065, day, day + dt.timedelta(hours=15), "minute")
    assert rows[1]["date"].isoformat() == "2026-11-20T10:00:00+05:30"
    assert (rows[1]["open"], rows[1]["high"], rows[1]["low"], rows[1]["close"]) == (
        1550.0,
        1553.0,
        1550.0,
        1553.0,
    )
    assert rows[1]["volume"] == 14
    five = client.historical_data(408065, "2026-11-20 09:15:00", "2026-11-20 15:30:00", "5minute", oi=True)
    assert [f"{row['date']:%H:%M}" for row in five] == ["09:55", "10:00", "10:05"]
    assert five[0]["oi"] == 0
    assert client.historical_data(408065, day.date(), day.date(), "day")[0]["low"] == 1540.0
    with pytest.raises(ex.InputException, match="interval exceeds max limit: 60 days"):
        client.historical_data(408065, day - dt.timedelta(days=61), day, "minute")


def test_margins_and_charges(sandbox: Running) -> None:
    client = kite(sandbox)
    assert client.margins()["equity"] == client.margins("equity")
    assert client.order_margins([TERMS])[0]["total"] == 1498
    basket = client.basket_order_margins([TERMS, TERMS], consider_positions=True, mode="compact")
    assert basket["final"]["total"] == 2 * 1498
    note = client.get_virtual_contract_note([TERMS | {"order_id": "1", "average_price": 1498}])[0]
    assert note["charges"]["transaction_tax"] == pytest.approx(1.498)
    with pytest.raises(ex.InputException):
        client.get_virtual_contract_note([TERMS | {"average_price": 0}])


def test_triggers(sandbox: Running) -> None:
    client = kite(sandbox)
    leg = {
        "transaction_type": "SELL",
        "quantity": 5,
        "order_type": "LIMIT",
        "product": "CNC",
        "price": 1500.0,
    }
    sandbox.do(lambda one: one.positions.hold(INFY, 5, 1400.0))
    legs = [leg, leg | {"price": 1600.0}]
    made = client.place_gtt("two-leg", "INFY", "NSE", [1510.0, 1600.0], 1548.2, legs)["trigger_id"]
    assert client.modify_gtt(made, "two-leg", "INFY", "NSE", [1505.0, 1600.0], 1548.2, legs) == {
        "trigger_id": made
    }
    alike(client.get_gtt(made)["condition"], mock("gtt_get_order.json")["condition"])
    sandbox.tick(INFY, 1504.0)
    wait(sandbox)
    fired = client.get_gtt(made)
    assert (fired["status"], fired["orders"][1]["result"]) == ("triggered", None)
    assert fired["orders"][0]["result"]["order_result"]["status"] == "success"
    assert client.orders()[0]["status"] == "COMPLETE"
    again = client.place_gtt("single", "INFY", "NSE", [1490.0], 1504.0, [leg])["trigger_id"]
    sandbox.tick(INFY, 1490.0)
    wait(sandbox)
    result = client.get_gtt(again)["orders"][0]["result"]["order_result"]
    assert result["status"] == "failed"  # nothing is held any more
    assert result["rejection_reason"].startswith("Insufficient stock holding")
    last = client.place_gtt("single", "INFY", "NSE", [1400.0], 1490.0, [leg])["trigger_id"]
    assert client.delete_gtt(last) == {"trigger_id": last}
    assert [one["id"] for one in client.get_gtts()] == [made, again]
    with pytest.raises(ex.InputException, match=r"0\.25%"):
        client.place_gtt("single", "INFY", "NSE", [1490.1], 1490.0, [leg])


# ── access ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_token_dies_at_six_in_the_morning_and_with_the_next_login(sandbox: Running) -> None:
    client = kite(sandbox)
    wait(sandbox, 19.9 * 3600)  # 05:54
    assert client.profile()
    wait(sandbox, 600)
    with pytest.raises(ex.TokenException):
        client.profile()
    second = kite(sandbox)
    kite(sandbox)
    with pytest.raises(ex.TokenException):
        second.profile()


def test_the_registered_ip_and_the_plan() -> None:
    account = Account(ips=("203.0.113.7",), plan="personal")
    with Sandbox.thread(broker(account=account)) as sandbox:
        client = kite(sandbox)
        with pytest.raises(ex.PermissionException, match="IP is not allowed to place orders"):
            client.place_order(**ORDER)
        with pytest.raises(ex.PermissionException, match="Insufficient permission for that call"):
            client.quote(INFY)
        assert client.orders() == []


def test_rates_are_counted_on_the_calendar_second() -> None:
    """Ten orders at the end of a second and ten at the start of the next pass; the eleventh of each does not."""
    clock = [TEN + 999_000_000]
    with Sandbox.thread(broker(limits=Limits()), wall=lambda: clock[0]) as sandbox:
        client = kite(sandbox)

        def place() -> int:
            try:
                client.place_order(**ORDER | {"price": 1500.0, "quantity": 1})
            except ex.NetworkException as error:
                return error.code
            return 200

        assert [place() for _ in range(12)] == [200] * 10 + [429] * 2
        clock[0] += 1_000_000
        assert [place() for _ in range(11)] == [200] * 10 + [429]
        client.quote(INFY)
        with pytest.raises(ex.NetworkException, match="Too many requests"):
            client.ltp(INFY)
        assert (len(sandbox.broker.ledger.arrivals), sandbox.broker.ledger.throttled) == (20, 4)


def test_the_prefix_of_the_vendors_own_sandbox_works(sandbox: Running) -> None:
    client = kite(sandbox)
    client._routes = {name: f"/oms{route}" for name, route in client._routes.items()}
    assert client.profile()["broker"] == "ZERODHA"


def test_unknown_routes_and_methods(sandbox: Running) -> None:
    token = f"token {sandbox.broker.account.api_key}:{sandbox.open_session()}"
    for method, path, code in (("GET", "/nosuch", 404), ("POST", "/user/profile", 405)):
        answer = requests.request(method, sandbox.url + path, headers={"Authorization": token}, timeout=5)
        assert (answer.status_code, answer.json()["status"]) == (code, "error")


# ── the vendor's samples ─────────────────────────────────────────────────────────────────────────────


def alike(ours: Any, theirs: Any, where: str = "") -> None:
    """Ours has every key of theirs and values of the same kind; numbers are numbers, and null goes with anything."""
    if isinstance(theirs, dict):
        assert isinstance(ours, dict), where
        missing = theirs.keys() - ours.keys()
        assert not missing, f"{where}: {missing}"
        for key, value in theirs.items():
            alike(ours[key], value, f"{where}.{key}")
    elif isinstance(theirs, list):
        assert isinstance(ours, list), where
        row = bool(theirs) and not isinstance(theirs[0], (dict, list))  # a candle: kinds differ by place
        for number, one in enumerate(ours[:7] if theirs else []):
            alike(one, theirs[number] if row and number < len(theirs) else theirs[0], f"{where}[]")
    elif ours is not None and theirs is not None:
        kinds = [
            float if isinstance(x, (int, float)) and not isinstance(x, bool) else type(x)
            for x in (ours, theirs)
        ]
        assert kinds[0] is kinds[1], f"{where}: {ours!r} beside {theirs!r}"


def documents(sandbox: Running) -> dict[str, Any]:
    """Our raw data beside the name of each sample."""
    headers = {"Authorization": f"token {sandbox.broker.account.api_key}:{sandbox.open_session()}"}

    def ask(method: str, path: str, **options: Any) -> Any:
        answer = requests.request(method, sandbox.url + path, headers=headers, timeout=5, **options)
        assert answer.ok, answer.text
        return answer.json()["data"]

    def place(**terms: Any) -> Any:
        return ask("POST", "/orders/regular", data=ORDER | terms)

    sandbox.do(lambda one: one.positions.hold(INFY, 20, 1400.0))
    first = place()
    resting = place(price=1500.0)["order_id"]
    wait(sandbox)
    wait(sandbox)
    account = sandbox.broker.account
    trigger = {
        "type": "single", "orders": '[{"exchange":"NSE","tradingsymbol":"INFY","transaction_type":"SELL","quantity":1,'
        '"order_type":"LIMIT","product":"CNC","price":1}]',
        "condition": '{"exchange":"NSE","tradingsymbol":"INFY","trigger_values":[1500.0],"last_price":1548.2}',
    }  # fmt: skip
    made = ask("POST", "/gtt/triggers", data=trigger)
    request = sandbox.do(lambda one: one.access.login(one.now))
    checksum = hashlib.sha256((account.api_key + request + account.api_secret).encode()).hexdigest()
    found = {
        "order_response.json": first,
        "order_modify.json": ask("PUT", f"/orders/regular/{resting}", data={"price": "1501"}),
        "order_info.json": ask("GET", f"/orders/{first['order_id']}"),
        "order_trades.json": ask("GET", f"/orders/{first['order_id']}/trades"),
        "positions.json": ask("GET", "/portfolio/positions"),
        "holdings.json": ask("GET", "/portfolio/holdings"),
        "holdings_summary.json": ask("GET", "/portfolio/holdings/summary"),
        "holdings_auth.json": ask("POST", "/portfolio/holdings/authorise"),
        "auctions_list.json": ask("GET", "/portfolio/holdings/auctions"),
        "convert_position.json": True,
        "margins.json": ask("GET", "/user/margins"),
        "margins_equity.json": ask("GET", "/user/margins/equity"),
        "margin_commodity.json": ask("GET", "/user/margins/commodity"),
        "profile.json": ask("GET", "/user/profile"),
        "full_profile.json": ask("GET", "/user/profile/full"),
        "quote.json": ask("GET", "/quote", params={"i": INFY}),
        "ohlc.json": ask("GET", "/quote/ohlc", params={"i": INFY}),
        "ltp.json": ask("GET", "/quote/ltp", params={"i": INFY}),
        "trigger_range.json": ask("GET", "/instruments/trigger_range/buy", params={"i": INFY}),
        "historical_minute.json": ask(
            "GET", "/instruments/historical/408065/minute", params={"from": "2026-11-20", "to": "2026-11-20"}
        ),
        "basket_margins.json": ask("POST", "/margins/basket", json=[TERMS]),
        "virtual_contract_note.json": ask("POST", "/charges/orders", json=[TERMS | {"average_price": 560}]),
        "gtt_place_order.json": made,
        "gtt_get_order.json": ask("GET", f"/gtt/triggers/{made['trigger_id']}"),
        "gtt_modify_order.json": ask("PUT", f"/gtt/triggers/{made['trigger_id']}", data=trigger),
        "gtt_delete_order.json": ask("DELETE", f"/gtt/triggers/{made['trigger_id']}"),
    }
    wait(sandbox)
    found["order_cancel.json"] = ask("DELETE", f"/orders/regular/{resting}")
    found["session_logout.json"] = ask("DELETE", "/session/token")
    session = {"api_key": account.api_key, "request_token": request, "checksum": checksum}
    found["generate_session.json"] = ask("POST", "/session/token", data=session)
    return found


def test_our_documents_have_the_keys_and_kinds_of_the_vendors(sandbox: Running) -> None:
    if not MOCKS.exists():
        pytest.skip("the vendor's samples are not on this machine")
    ours = documents(sandbox)
    for name, data in ours.items():
        theirs = mock(name)
        if name in ("quote.json", "ohlc.json", "ltp.json", "trigger_range.json"):
            data, theirs = data[INFY], theirs[INFY]
        if name == "gtt_get_order.json":
            theirs["orders"] = theirs["orders"][:1]
        alike(data, theirs, name)


def test_a_trigger_that_fired_looks_like_the_vendors(sandbox: Running) -> None:
    theirs = mock("gtt_get_order.json")["orders"][1]["result"]
    client = kite(sandbox)
    leg = {"transaction_type": "BUY", "quantity": 5, "order_type": "LIMIT", "product": "CNC", "price": 1500.0}
    made = client.place_gtt("single", "INFY", "NSE", [1510.0], 1548.2, [leg])["trigger_id"]
    sandbox.tick(INFY, 1504.0)
    alike(client.get_gtt(made)["orders"][0]["result"], theirs)

"""Every one of the vendor's sample files: through the unmodified client into what reads it here, or named why not."""

from __future__ import annotations

import base64
import csv
import datetime as dt
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest
from kiteconnect import KiteConnect
from kiteconnect import exceptions as ex
from pydantic import SecretStr

from alphapanda.events import IST
from alphapanda.feeds.kite_packets import (
    AVERAGE,
    BUY_QUANTITY,
    LAST,
    LAST_QUANTITY,
    SELL_QUANTITY,
    VOLUME,
    Known,
    decode,
)
from alphapanda.rulebook import Rulebook
from alphapanda.sandbox.serve import Running, Sandbox
from alphapanda.settings import Settings
from alphapanda.zerodha import history, notes, session
from alphapanda.zerodha.client import Kite
from alphapanda.zerodha.outcomes import of_answer
from alphapanda.zerodha.reading import row_of, trade_of
from tests.sandbox_rig import INFY, MOCKS, broker, kite, mock, order
from tests.test_sandbox_conformance import alike, wait

pytestmark = pytest.mark.skipif(not MOCKS.exists(), reason="the vendor's samples are not on this machine")

LEG = {"transaction_type": "SELL", "quantity": 1, "order_type": "LIMIT", "product": "CNC", "price": 1.0}
TERMS = {
    "variety": "regular", "exchange": "NSE", "tradingsymbol": "INFY", "transaction_type": "BUY", "quantity": 1,
    "product": "CNC", "order_type": "LIMIT", "price": 1.0,
}  # fmt: skip
DAY = dt.date(2017, 12, 15)
Ask = Callable[[Any], Any]

# file: how it is asked for, by the official client
CALLS: dict[str, tuple[str, str, Ask]] = {
    "auctions_list.json": ("GET", "/portfolio/holdings/auctions", lambda k: k.get_auction_instruments()),
    "autoslice_response.json": ("POST", "/orders/regular", lambda k: k.place_autoslice_order(**TERMS)),
    "basket_margins.json": ("POST", "/margins/basket", lambda k: k.basket_order_margins([TERMS])),
    "convert_position.json": (
        "PUT", "/portfolio/positions",
        lambda k: k.convert_position("NSE", "INFY", "BUY", "day", 1, "MIS", "CNC"),
    ),
    "generate_session.json": ("POST", "/session/token", lambda k: k.generate_session("request", "secret")),
    "gtt_delete_order.json": ("DELETE", "/gtt/triggers/1", lambda k: k.delete_gtt(1)),
    "gtt_get_order.json": ("GET", "/gtt/triggers/1", lambda k: k.get_gtt(1)),
    "gtt_modify_order.json": (
        "PUT", "/gtt/triggers/1", lambda k: k.modify_gtt(1, "single", "INFY", "NSE", [1.0], 2.0, [LEG])
    ),
    "gtt_place_order.json": (
        "POST", "/gtt/triggers", lambda k: k.place_gtt("single", "INFY", "NSE", [1.0], 2.0, [LEG])
    ),
    "historical_minute.json": (
        "GET", "/instruments/historical/408065/minute", lambda k: k.historical_data(408065, DAY, DAY, "minute")
    ),
    "holdings.json": ("GET", "/portfolio/holdings", lambda k: k.holdings()),
    "instruments_all.csv": ("GET", "/instruments", lambda k: k.instruments()),
    "instruments_nse.csv": ("GET", "/instruments/NSE", lambda k: k.instruments("NSE")),
    "ltp.json": ("GET", "/quote/ltp", lambda k: k.ltp(INFY)),
    "margin_commodity.json": ("GET", "/user/margins/commodity", lambda k: k.margins("commodity")),
    "margins.json": ("GET", "/user/margins", lambda k: k.margins()),
    "margins_equity.json": ("GET", "/user/margins/equity", lambda k: k.margins("equity")),
    "mf_holdings.json": ("GET", "/mf/holdings", lambda k: k.mf_holdings()),
    "mf_instruments.csv": ("GET", "/mf/instruments", lambda k: k.mf_instruments()),
    "mf_order_cancel.json": ("DELETE", "/mf/orders/1", lambda k: k.cancel_mf_order("1")),
    "mf_order_response.json": ("POST", "/mf/orders", lambda k: k.place_mf_order("INF1", "BUY", amount=1)),
    "mf_orders.json": ("GET", "/mf/orders", lambda k: k.mf_orders()),
    "mf_orders_info.json": ("GET", "/mf/orders/1", lambda k: k.mf_orders("1")),
    "mf_sip_cancel.json": ("DELETE", "/mf/sips/1", lambda k: k.cancel_mf_sip("1")),
    "mf_sip_info.json": ("GET", "/mf/sips/1", lambda k: k.mf_sips("1")),
    "mf_sip_modify.json": ("PUT", "/mf/sips/1", lambda k: k.modify_mf_sip("1", amount=1)),
    "mf_sip_place.json": ("POST", "/mf/sips", lambda k: k.place_mf_sip("INF1", 1, 1, "monthly")),
    "mf_sips.json": ("GET", "/mf/sips", lambda k: k.mf_sips()),
    "ohlc.json": ("GET", "/quote/ohlc", lambda k: k.ohlc(INFY)),
    "order_cancel.json": ("DELETE", "/orders/regular/2", lambda k: k.cancel_order("regular", "2")),
    "order_info.json": ("GET", "/orders/1", lambda k: k.order_history("1")),
    "order_modify.json": ("PUT", "/orders/regular/2", lambda k: k.modify_order("regular", "2", price=2.0)),
    "order_response.json": ("POST", "/orders/amo", lambda k: k.place_order(**TERMS | {"variety": "amo"})),
    "order_trades.json": ("GET", "/orders/1/trades", lambda k: k.order_trades("1")),
    "positions.json": ("GET", "/portfolio/positions", lambda k: k.positions()),
    "profile.json": ("GET", "/user/profile", lambda k: k.profile()),
    "quote.json": ("GET", "/quote", lambda k: k.quote(INFY)),
    "session_logout.json": ("DELETE", "/session/token", lambda k: k.invalidate_access_token()),
    "trigger_range.json": (
        "GET", "/instruments/trigger_range/buy", lambda k: k.trigger_range("buy", INFY)
    ),
    "virtual_contract_note.json": ("POST", "/charges/orders", lambda k: k.get_virtual_contract_note([TERMS])),
}  # fmt: skip
NO_CALL = {  # no method of the client; what the sandbox has of them is compared in test_sandbox_conformance
    "full_profile.json", "holdings_auth.json", "holdings_summary.json",
    "alerts_create.json", "alerts_create_ato.json", "alerts_delete.json", "alerts_get.json", "alerts_get_one.json",
    "alerts_history.json", "alerts_modify.json",
}  # fmt: skip
PUSHED = {"postback.json", "ticker_ltp.json", "ticker_quote.json", "ticker_quote.packet"}  # tested below
FUNDS = {name for name in CALLS if name.startswith("mf_")}


@pytest.fixture(scope="module")
def vendor() -> Iterator[str]:
    """A server whose answers are the vendor's samples."""
    files = {(method, path): name for name, (method, path, _) in CALLS.items()}
    orders = b'{"status":"success","data":[]}'

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            name = files.get((self.command, urlsplit(self.path).path))
            body = (MOCKS / name).read_bytes() if name else orders
            self.send_response(200)
            self.send_header(
                "Content-Type", "text/csv" if name and name.endswith("csv") else "application/json"
            )
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - their names there

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def client(vendor: str) -> Any:
    return KiteConnect("key", "token", root=vendor)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Running]:
    with Sandbox.thread(broker()) as running:
        yield running


def test_every_sample_is_used() -> None:
    assert {path.name for path in MOCKS.iterdir()} == CALLS.keys() | NO_CALL | PUSHED


@pytest.mark.parametrize("name", CALLS)
def test_the_client_takes_every_sample(name: str, client: Any) -> None:
    found = CALLS[name][2](client)
    if name.endswith("csv"):
        with (MOCKS / name).open() as file:
            assert [row["tradingsymbol"] for row in found] == [
                row["tradingsymbol"] for row in csv.DictReader(file)
            ]
    else:
        assert found is not None


# ── into our own readers ─────────────────────────────────────────────────────────────────────────────


def test_orders_and_trades_are_read(client: Any) -> None:
    rows = [row_of(one) for one in client.order_history("1")]
    assert {row.symbol for row in rows} == {"NSE:SBIN"}
    assert rows[0].status == "PUT ORDER REQ RECEIVED"
    assert rows[-1].status == "OPEN"
    assert all(row.live for row in rows)
    assert all(dt.datetime.fromtimestamp(row.at / 1e9, IST).date() == dt.date(2017, 12, 29) for row in rows)
    (trade,) = (trade_of(one, 100) for one in client.order_trades("1"))
    assert (trade.trade_id, trade.order_id, trade.quantity, trade.price) == (
        "10000000", "200000000000000", 1, 4852_00,
    )  # fmt: skip
    assert of_answer(client.place_order(**TERMS | {"variety": "amo"})).kind == "received"


def test_our_client_reads_positions_and_profile(vendor: str) -> None:
    ours = Kite(SecretStr("key"), SecretStr("token"), root=vendor, timeout=5.0, scale_of=lambda symbol: 100)
    assert [row["tradingsymbol"] for row in ours.positions()] == [
        row["tradingsymbol"] for row in mock("positions.json")["net"]
    ]
    assert ours.profile()["user_id"] == mock("profile.json")["user_id"]
    assert ours.book() == ([], [])


def test_lists_candles_and_sessions_are_read(vendor: str, client: Any) -> None:
    listed = history.instruments(client)
    assert len(listed) > 10
    candles = mock("historical_minute.json")["candles"]
    rows = [history._candle(row) for row in client.historical_data(408065, DAY, DAY, "minute")]
    assert rows[0] == ("2017-12-15T09:15:00+05:30", 1704.5, 1705.0, 1699.25, 1702.8, 2499)
    assert len(rows) == len(candles)
    settings = Settings(zerodha={"api_key": "key", "root_url": vendor})
    login = session.open_session(settings, SecretStr("r" * 32), SecretStr("s" * 32), 1)
    assert login.user_id == mock("generate_session.json")["user_id"]
    note = client.get_virtual_contract_note([])
    asked = [one | {"order_id": "1", "average_price": one["price"]} for one in note]
    assert len(notes.compare(asked, note, listed, Rulebook.load(), DAY).lines) == 6 * len(note)


def test_a_postback_is_read_as_an_order() -> None:
    said = json.loads((MOCKS / "postback.json").read_text())
    row = row_of(said)
    assert (row.symbol, row.status, row.filled, row.live) == ("NSE:SBIN", "COMPLETE", 1, False)


def test_the_tickers_samples_are_one_packet_decoded() -> None:
    packet = base64.b64decode((MOCKS / "ticker_quote.packet").read_text())
    found = decode(b"\x00\x01" + len(packet).to_bytes(2, "big") + packet, Known())
    quote, ltp = (json.loads((MOCKS / f"ticker_{kind}.json").read_text()) for kind in ("quote", "ltp"))
    words = {
        "last_price": LAST, "last_quantity": LAST_QUANTITY, "average_price": AVERAGE, "volume": VOLUME,
        "buy_quantity": BUY_QUANTITY, "sell_quantity": SELL_QUANTITY,
    }  # fmt: skip
    ours = {name: found.columns[word][0] / (100 if "price" in name else 1) for name, word in words.items()}
    assert ours == {name: quote[name] for name in words}
    assert ltp["last_price"] == ours["last_price"]


# ── the sandbox's answers to the same calls ──────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", sorted(FUNDS))
def test_an_account_without_funds_says_so(name: str, sandbox: Running) -> None:
    method, path, ask = CALLS[name]
    client = kite(sandbox)
    if method != "GET":
        with pytest.raises(ex.PermissionException, match="Insufficient permission for that call"):
            ask(client)
    elif path.endswith("/1"):
        with pytest.raises(ex.GeneralException) as caught:
            ask(client)
        assert caught.value.code == 404
    else:
        assert ask(client) == []


def test_lists_have_the_vendors_columns(sandbox: Running) -> None:
    client = kite(sandbox)
    for path, name in (("/instruments", "instruments_all.csv"), ("/mf/instruments", "mf_instruments.csv")):
        token = f"token {client.api_key}:{client.access_token}"
        answer = client.reqsession.get(sandbox.url + path, headers={"Authorization": token})
        assert answer.text.splitlines()[0] == (MOCKS / name).read_text().splitlines()[0].strip()


def test_a_session_is_not_renewed_by_ordinary_apps(sandbox: Running) -> None:
    with pytest.raises(ex.PermissionException):
        kite(sandbox).renew_access_token("refresh", "secret")


def test_an_order_update_has_what_a_postback_has(sandbox: Running) -> None:
    client = kite(sandbox)
    terms = order(price=1549.0)
    client.place_order("regular", **terms)
    wait(sandbox)
    update = sandbox.do(lambda one: one.updates[-1])
    theirs = json.loads((MOCKS / "postback.json").read_text())
    alike(update, {name: value for name, value in theirs.items() if name not in ("checksum", "app_id")})

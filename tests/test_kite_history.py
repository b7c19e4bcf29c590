"""Candles into tapes, instruments into a registry, and our charges beside Kite's, by the unmodified official client."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from kiteconnect.exceptions import NetworkException

import alphapanda as ap
from alphapanda.errors import DataError, MarketDataError, UnknownNameError, ValidationError
from alphapanda.events import IST, ist
from alphapanda.registry import Registry, default_instrument
from alphapanda.rulebook import Rulebook
from alphapanda.sandbox.broker import Broker
from alphapanda.sandbox.market import Market
from alphapanda.sandbox.serve import Running, Sandbox
from alphapanda.sandbox.sources import Synthetic
from alphapanda.zerodha import history, notes
from alphapanda.zerodha.history import candles, instruments
from tests.sandbox_rig import CALL, FUTURE, INFY, at, broker, kite, mock

DAY = dt.date(2026, 11, 20)
MONDAY = dt.datetime.fromisoformat("2026-11-16")  # naive, as the client wants it: digits of IST
NOON = at(12)
RULES = Rulebook.load()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Running]:
    made = Broker(Market.of(Synthetic(7, DAY, 20.0)), now=NOON)
    with Sandbox.thread(made, speed=0.0) as running:
        running.do(lambda one: one.advance(NOON))
        yield running


class Counted:
    """The client, and what was asked of it."""

    def __init__(self, client: Any) -> None:
        self.client, self.calls = client, list[tuple[dt.datetime, dt.datetime]]()

    def historical_data(
        self, instrument_token: int, from_date: dt.datetime, to_date: dt.datetime, interval: str
    ) -> list[dict[str, Any]]:
        self.calls.append((from_date, to_date))
        return self.client.historical_data(instrument_token, from_date, to_date, interval)

    def instruments(self, exchange: str | None = None) -> list[dict[str, Any]]:
        return self.client.instruments(exchange)


def test_the_list_of_instruments_is_a_registry(sandbox: Running) -> None:
    listed = instruments(kite(sandbox))
    assert {INFY, FUTURE, CALL} <= set(listed.symbols)
    for symbol in (INFY, FUTURE, CALL):
        ours = sandbox.do(lambda one, symbol=symbol: one.market.get(symbol).instrument)
        assert (
            listed[symbol].token,
            listed[symbol].lot_size,
            listed[symbol].tick_size,
            listed[symbol].expiry,
        ) == (
            ours.token,
            ours.lot_size,
            ours.tick_size,
            ours.expiry,
        )
    assert all(symbol.startswith("NFO:") for symbol in instruments(kite(sandbox), "NFO").symbols)


@pytest.mark.parametrize("interval", list(history.SPANS))
def test_candles_come_out_as_they_went_in(sandbox: Running, interval: str) -> None:
    client = kite(sandbox)
    tape = candles(client, INFY, "2026-11-16", "2026-11-20", interval, now=NOON)
    token = instruments(client, "NSE")[INFY].token
    given = client.historical_data(token, MONDAY, MONDAY + dt.timedelta(4, hours=23), interval)
    frame = tape.frame()
    assert tape.rows == 4 * len(given)
    assert int(frame["volume"].sum()) == sum(one["volume"] for one in given)
    assert max(frame["price"]) == max(one["high"] for one in given)
    assert min(frame["price"]) == min(one["low"] for one in given)
    first = given[0]["date"]
    assert ist(tape.first_ts).date() == first.date()
    if interval != "day":
        assert ist(tape.first_ts) == first
    assert any("candles of Kite" in note for note in tape.notes)


def test_times_are_those_of_india_whatever_the_zone_of_the_caller(sandbox: Running) -> None:
    client = kite(sandbox)
    ten = dt.datetime(2026, 11, 20, 10, 0, tzinfo=IST)
    tape = candles(client, INFY, ten.astimezone(dt.UTC), ten + dt.timedelta(minutes=30), now=NOON)
    assert ist(tape.first_ts) == ten
    assert ist(tape.last_ts) < ten + dt.timedelta(minutes=30)
    assert tape.rows == 4 * 30
    with pytest.raises(ValidationError, match="no time zone"):
        candles(client, INFY, MONDAY, "2026-11-20", now=NOON)


def test_long_times_are_asked_for_in_spans_that_kite_takes_and_kept(sandbox: Running, tmp_path: Path) -> None:
    client = Counted(kite(sandbox))
    listed = instruments(client, "NSE")
    how: dict[str, Any] = {"registry": listed, "cache": tmp_path, "now": NOON}
    tape = candles(client, INFY, "2026-08-01", "2026-11-20", **how)
    assert all(end - start < dt.timedelta(60) for start, end in client.calls)
    assert all(
        before[1].date() + dt.timedelta(1) == after[0].date() for before, after in pairwise(client.calls)
    )
    assert client.calls[-1][1].date() == DAY
    missing = next(note for note in tape.notes if "no candles on" in note)
    assert "2026-08-03" in missing
    calls = len(client.calls)
    again = candles(client, INFY, "2026-08-15", "2026-11-20", **how)
    assert len(client.calls) == calls + 1  # only the span that holds today
    assert again.digest == tape.digest
    kept = next(iter(tmp_path.glob("NSE_INFY/minute/*.json")))
    kept.write_bytes(b"[[")  # half a file is no file
    candles(client, INFY, "2026-08-01", "2026-11-20", **how)
    assert len(client.calls) == calls + 3


def test_what_kite_refuses_or_does_not_have_is_said(
    sandbox: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = kite(sandbox)
    with pytest.raises(UnknownNameError):
        candles(client, INFY, DAY, DAY, "2minute", now=NOON)
    with pytest.raises(UnknownNameError):
        candles(client, "NSE:NOSUCH", DAY, DAY, now=NOON)
    with pytest.raises(ValidationError, match="from 2026-11-20 to 2026-11-19"):
        candles(client, INFY, DAY, "2026-11-19", now=NOON)
    with pytest.raises(DataError, match="no minute candles of NSE:INFY"):
        candles(client, INFY, "2026-11-15", "2026-11-15", now=NOON)  # a Sunday
    client.set_access_token("yesterday")
    with pytest.raises(MarketDataError, match="TokenException") as caught:
        candles(client, INFY, DAY, DAY, registry=Registry([default_instrument(INFY)]), now=NOON)
    assert "yesterday" not in str(caught.value)


def test_a_call_that_was_one_too_many_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "pause", lambda seconds: None)
    answers: list[Any] = [NetworkException("Too many requests", code=429), [{"a": 1}]]

    def ask() -> list[dict[str, Any]]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert history._called(ask) == [{"a": 1}]
    answers.append(NetworkException("OMS is away", code=503))
    with pytest.raises(MarketDataError, match="OMS is away"):
        history._called(ask)


def test_calls_keep_a_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(history, "monotonic", lambda: clock[0])
    monkeypatch.setattr(history, "pause", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    pace = history._Pace()
    taken: list[float] = []
    for _ in range(7):
        pace.take()
        taken.append(clock[0])
    assert all(after - before >= 1 / 3 for before, after in pairwise(taken))


# ── charges ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_vendors_sample_is_reproduced_with_the_rates_of_its_day() -> None:
    sample = mock("virtual_contract_note.json")
    day = dt.date(2023, 7, 10)
    symbols = [f"{one['exchange']}:{one['tradingsymbol']}" for one in sample]
    listed = Registry([default_instrument(symbol, day) for symbol in symbols])
    asked = [one | {"order_id": str(at), "average_price": one["price"]} for at, one in enumerate(sample)]
    check = notes.compare(asked, sample, listed, RULES, day)
    assert check.differences == ()
    assert {one.kind for one in check.lines if one.verdict == "rounded"} == {"stamp"}


def test_orders_of_the_day_against_the_brokers_note() -> None:
    with Sandbox.thread(broker(), speed=1.0) as running:
        client = kite(running)
        for symbol, quantity, product, price in ((INFY, 10, "CNC", 1600.0), (FUTURE, 65, "NRML", 26_400.0)):
            exchange, _, name = symbol.partition(":")
            client.place_order(
                "regular", exchange=exchange, tradingsymbol=name, transaction_type="BUY", quantity=quantity,
                product=product, order_type="LIMIT", price=price,
            )  # fmt: skip
        for _ in range(200):
            if notes.executed(client.orders()) and len(notes.executed(client.orders())) == 2:
                break
            history.pause(0.05)
        listed = instruments(client)
        check = notes.contract_note(client, listed, RULES, DAY)
    assert len(check.lines) == 12
    assert check.differences == ()
    assert "2 orders, 12 charges, 0 to look at" in str(check)


def test_a_rate_that_changed_is_found_and_a_foreign_answer_refused() -> None:
    order = {
        "order_id": "1", "exchange": "NSE", "tradingsymbol": "INFY", "transaction_type": "BUY", "product": "CNC",
        "variety": "regular", "order_type": "LIMIT", "quantity": 100, "average_price": 1500.0, "filled_quantity": 100,
    }  # fmt: skip
    listed = Registry([default_instrument(INFY, DAY)])
    rates = {"transaction_tax": 150.0, "exchange_turnover_charge": 9.0, "sebi_turnover_charge": 0.15,
             "brokerage": 0, "stamp_duty": 22.5, "gst": {"total": 0.8}}  # fmt: skip
    asked = notes.executed([order, order | {"filled_quantity": 0}])
    check = notes.compare(asked, [order | {"charges": rates}], listed, RULES, DAY)
    assert {one.kind for one in check.differences} == {"exchange", "gst"}
    assert "differs" in str(check)
    unknown = notes.compare(asked, [order | {"charges": rates}], Registry(), RULES, DAY)
    assert {one.verdict for one in unknown.lines} == {"unknown"}
    with pytest.raises(DataError, match="answered about"):
        notes.compare(asked, [order | {"tradingsymbol": "TCS", "charges": rates}], listed, RULES, DAY)
    with pytest.raises(DataError, match="1 orders were asked about and 0 answered"):
        notes.compare(asked, [], listed, RULES, DAY)


def test_candles_with_the_login_that_is_at_hand(
    sandbox: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (
        ("API_KEY", sandbox.broker.account.api_key), ("ROOT_URL", sandbox.url), ("ACCESS_TOKEN", "dead"),
    ):  # fmt: skip
        monkeypatch.setenv(f"ZERODHA__{name}", value)
    with pytest.raises(MarketDataError, match="TokenException"):
        ap.kite_candles(INFY, DAY, DAY)
    monkeypatch.setenv("ZERODHA__ACCESS_TOKEN", sandbox.open_session())
    tape = ap.kite_candles(INFY, DAY, DAY, "5minute", progress=True)
    assert tape.symbols == (INFY,)
    assert len(tape) > 4 * 30
    assert INFY in capsys.readouterr().err

"""The sandbox's ticker: what it says on a socket, and the unmodified official KiteTicker that listens to it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphapanda.events import DAY, SECOND, ist_day
from alphapanda.feeds import kite_packets as kp
from alphapanda.feeds.kite_packets import Known, Packets, decode
from alphapanda.instruments import Instrument
from alphapanda.sandbox.packets import HEARTBEAT
from alphapanda.sandbox.ticker import BURST, CONFLATION, FAULTS, TOKENS_MAX, Scripted, TickerSession
from tests.kite_server import Market, now_ns, running

INFY, TCS, NIFTY = 408065, 2953217, 256265
T0 = 1_795_322_460 * SECOND
CHILD = Path(__file__).parent / "children" / "kite_ticker.py"


def market() -> Market:
    names = {INFY: "NSE:INFY", TCS: "NSE:TCS", NIFTY: "NSE:NIFTY 50"}
    found = Market(
        *[Instrument(symbol=symbol, exchange="NSE", token=token) for token, symbol in names.items()]
    )
    for token in names:
        found.trade(token, 150_000, 10, ts=T0 - DAY)
    return found


def asked(action: str, value: Any) -> str:
    return json.dumps({"a": action, "v": value})


def packets(messages: list[bytes | str]) -> Packets:
    (message,) = messages
    assert isinstance(message, bytes)
    return decode(message, Known())


def listening(mode: str = "full") -> tuple[Market, Scripted, TickerSession]:
    shown, faults = market(), Scripted()
    session = TickerSession(shown, faults)
    session.text(asked("subscribe", [INFY, TCS, NIFTY]))
    session.text(asked("mode", [mode, [INFY, TCS, NIFTY]]))
    assert session.due(T0) == [HEARTBEAT]
    return shown, faults, session


# ── messages ─────────────────────────────────────────────────────────────────────────────────────


def test_a_subscription_brings_the_last_known_quote_in_mode_quote() -> None:
    found = packets(TickerSession(market()).text(asked("subscribe", [INFY, NIFTY, 999])))
    assert found.kind.tolist() == [kp.QUOTE, kp.INDEX_QUOTE]
    assert found.columns[kp.TOKEN].tolist() == [INFY, NIFTY]


@pytest.mark.parametrize(
    ("mode", "kinds"),
    [("ltp", [kp.LTP, kp.LTP]), ("quote", [kp.QUOTE, kp.INDEX_QUOTE]), ("full", [kp.FULL, kp.INDEX_FULL])],
)
def test_modes(mode: str, kinds: list[int]) -> None:
    session = TickerSession(market())
    session.text(asked("subscribe", [INFY, NIFTY]))
    found = packets(session.text(asked("mode", [mode, [INFY, NIFTY, TCS]])))  # TCS is not subscribed
    assert found.kind.tolist() == kinds


def test_what_changed_is_sent_at_most_twice_a_second() -> None:
    shown, _, session = listening()
    sent: list[int] = []
    for step in range(100):  # a trade every 20 ms
        now = T0 + step * SECOND // 50
        shown.trade(INFY, 150_000 + 5 * step, ts=now)
        for message in session.due(now):
            assert isinstance(message, bytes)
            sent += decode(message, Known()).columns[kp.LAST].tolist()
    assert len(sent) == 2 * SECOND // CONFLATION
    last = packets(session.due(T0 + 3 * SECOND))
    assert last.columns[kp.LAST].tolist() == [150_000 + 5 * 99]  # nothing newest is lost
    assert last.columns[kp.VOLUME].tolist() == [110]


def test_a_heartbeat_each_second_without_news() -> None:
    shown, _, session = listening()
    assert [session.due(T0 + n * SECOND // 10) for n in range(1, 10)] == [[]] * 9
    assert session.due(T0 + SECOND) == [HEARTBEAT]
    shown.trade(INFY, 1, ts=T0)
    assert session.due(T0 + 3 * SECOND // 2) != [HEARTBEAT]
    assert session.due(T0 + 2 * SECOND) == []


def test_an_instrument_that_is_unsubscribed_is_silent() -> None:
    shown, _, session = listening()
    shown.trade(INFY, 1, ts=T0)
    assert session.text(asked("unsubscribe", [INFY, 999])) == []
    assert session.due(T0 + SECOND) == [HEARTBEAT]


def test_no_more_than_three_thousand_instruments() -> None:
    many = [n << 8 | 1 for n in range(1, TOKENS_MAX + 2)]
    session = TickerSession(Market(*[Instrument(symbol=f"NSE:S{n}", exchange="NSE", token=n) for n in many]))
    assert len(packets(session.text(asked("subscribe", many[:-1])))) == TOKENS_MAX
    (answer,) = session.text(asked("subscribe", many[-1:]))
    assert json.loads(answer)["type"] == "error"
    assert (
        len(packets(session.text(asked("subscribe", many[:2])))) == 2
    )  # those it has may be asked for again


@pytest.mark.parametrize(
    "message", ["", "{", "[]", asked("dance", [1]), asked("mode", ["best", [INFY]]), asked("mode", [1]),
                asked("mode", ["full"]), asked("mode", [["full"], [INFY]]), asked("subscribe", "x"),
                asked("subscribe", [{}]), asked("subscribe", ["a"]), "[" * 100_000],
)  # fmt: skip
def test_what_it_cannot_serve_is_answered_with_an_error(message: str) -> None:
    (answer,) = TickerSession(market()).text(message)
    assert json.loads(answer)["type"] == "error"


@given(st.one_of(st.text(), st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.integers(),
    lambda part: st.lists(part) | st.dictionaries(st.sampled_from(["a", "v"]), part),
).map(json.dumps)))  # fmt: skip
def test_no_message_raises(message: str) -> None:
    TickerSession(market()).text(message)


def test_order_updates_are_texts() -> None:
    _, faults, session = listening()
    assert json.loads(session.order({"order_id": "1"})) == {"type": "order", "data": {"order_id": "1"}}
    faults.set("ticker_silent")
    session.due(T0)
    assert session.order({}) == ""


# ── faults ───────────────────────────────────────────────────────────────────────────────────────


def wrong(name: str) -> Packets:
    """What one trade looks like under a fault."""
    shown, faults, session = listening()
    shown.trade(INFY, 150_500, 90, ts=T0)
    faults.set(name)
    return packets(session.due(T0 + SECOND))


def test_values_that_cannot_be() -> None:
    assert wrong("ticker_negative_price").columns[kp.LAST].tolist() == [-150_500]
    assert wrong("ticker_price_zero").columns[kp.LAST].tolist() == [0]
    assert wrong("ticker_price_max").columns[kp.LAST].tolist() == [-1]  # 0xFFFFFFFF on the wire
    assert wrong("ticker_stamp_1970").columns[kp.SENT_AT].tolist() == [0]
    assert wrong("ticker_stamp_tomorrow").columns[kp.SENT_AT].tolist() == [(T0 + DAY) // SECOND]
    assert wrong("ticker_volume_backwards").columns[kp.VOLUME].tolist() == [50]


def test_a_value_is_wrong_once() -> None:
    shown, faults, session = listening()
    faults.set("ticker_price_zero")
    for n, price in ((1, 0), (2, 150_002)):
        shown.trade(INFY, 150_000 + n, ts=T0)
        assert packets(session.due(T0 + n * SECOND)).columns[kp.LAST].tolist() == [price]


def test_a_silent_socket_says_nothing_any_more() -> None:
    shown, faults, session = listening()
    faults.set("ticker_silent")
    for n in range(5):
        shown.trade(INFY, 150_000 + n, ts=T0)
        assert session.due(T0 + n * SECOND) == []
        assert session.text(asked("subscribe", [INFY])) == []
    assert session.ending == ""


@pytest.mark.parametrize(("name", "ending"), [("ticker_close", "close"), ("ticker_abort", "abort")])
def test_endings(name: str, ending: str) -> None:
    _, faults, session = listening()
    faults.set(name)
    assert session.due(T0 + SECOND) == []
    assert session.ending == ending


def test_malformed_burst_and_odd_frames() -> None:
    _, faults, session = listening()
    faults.set("ticker_malformed")
    assert packets(session.due(T0 + SECOND)).short == 5
    faults.set("ticker_unknown_length")
    assert packets(session.due(T0 + SECOND)).odd == 1
    faults.set("ticker_burst")
    assert len(packets(session.due(T0 + 2 * SECOND))) == BURST
    faults.set("ticker_error_text")
    assert len(session.due(T0 + 2 * SECOND)) == 2


def test_a_stale_snapshot_is_of_another_day() -> None:
    shown, faults, session = listening()
    shown.trade(INFY, 150_500, ts=T0)
    faults.set("ticker_stale_snapshot")
    found = packets(session.text(asked("mode", ["full", [INFY]])))
    assert ist_day(int(found.columns[kp.SENT_AT][0]) * SECOND) == ist_day(T0) - 3


def test_lost_modes_and_a_frozen_instrument() -> None:
    shown, faults, session = listening()
    faults.set("ticker_quote_mode")
    faults.set("ticker_frozen")
    shown.trade(INFY, 150_500, ts=T0)
    shown.trade(TCS, 150_500, ts=T0)
    found = packets(session.due(T0 + SECOND))
    assert (found.kind.tolist(), found.columns[kp.TOKEN].tolist()) == ([kp.QUOTE], [TCS])


def test_only_faults_that_exist_can_be_asked_for() -> None:
    with pytest.raises(KeyError):
        Scripted().set("ticker_typo")
    assert all(name.startswith("ticker_") and said for name, said in FAULTS.items())


# ── the official client, in a process of its own ─────────────────────────────────────────────────


class Official:
    """The unmodified KiteTicker, subscribed to all three; the third stays in mode quote."""

    def __init__(self, url: str, how: str) -> None:
        pytest.importorskip("kiteconnect")
        command = (sys.executable, str(CHILD), url, f"{INFY},{NIFTY},{TCS}", how, "25")
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"TZ": "UTC"},
        )

    def until(self, enough: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """The lines it printed, up to the one that is enough."""
        assert self.process.stdout is not None
        found: list[dict[str, Any]] = []
        for line in self.process.stdout:
            found.append(json.loads(line))
            if enough(found):
                return found
        raise AssertionError([one["kind"] for one in found])

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def ticks(lines: list[dict[str, Any]]) -> dict[tuple[int, str], dict[str, Any]]:
    """The newest tick of each instrument and mode."""
    return {
        (t["instrument_token"], t["mode"]): t for one in lines if one["kind"] == "ticks" for t in one["value"]
    }


@pytest.mark.parametrize("how", ["blocking", "threaded"])
def test_the_official_client_takes_it_for_kite(how: str) -> None:
    shown = market()
    with running(shown) as (server, loop):
        client = Official(server.url, how)
        try:
            lines = client.until(lambda lines: len(ticks(lines)) >= 5)
            found = ticks(lines)
            assert set(found) == {
                (INFY, "quote"),
                (INFY, "full"),
                (NIFTY, "quote"),
                (NIFTY, "full"),
                (TCS, "quote"),
            }
            assert "depth" in found[INFY, "full"]
            assert found[NIFTY, "full"]["tradable"] is False
            assert server.versions[0] == "3"
            loop.call_soon_threadsafe(shown.trade, INFY, 151_005, 7)
            lines = client.until(
                lambda lines: ticks(lines).get((INFY, "full"), {"last_price": 0})["last_price"] == 1510.05
            )
            tick = ticks(lines)[INFY, "full"]
            assert (tick["last_traded_quantity"], tick["volume_traded"]) == (7, 17)
            assert tick["depth"]["buy"][0] == {"quantity": 10, "price": 1510.0, "orders": 1}
            assert tick["depth"]["sell"][0] == {"quantity": 20, "price": 1510.1, "orders": 1}
            client.until(lambda lines: any(one == {"kind": "message", "value": [1, True]} for one in lines))
            asyncio.run_coroutine_threadsafe(
                server.order({"order_id": "7", "status": "COMPLETE"}), loop
            ).result(10)
            lines = client.until(lambda lines: lines[-1]["kind"] == "order")
            assert lines[-1]["value"] == {"order_id": "7", "status": "COMPLETE"}
            loop.call_soon_threadsafe(server.faults.set, "ticker_error_text")
            client.until(lambda lines: lines[-1] == {"kind": "error", "value": [0, "something went wrong"]})
        finally:
            client.end()
    assert now_ns() > T0


def test_the_official_client_comes_back_after_a_clean_close_and_an_abort() -> None:
    shown = market()
    with running(shown) as (server, loop):
        client = Official(server.url, "blocking")
        try:
            client.until(lambda lines: len(ticks(lines)) >= 5)
            for name in ("ticker_close", "ticker_abort"):
                loop.call_soon_threadsafe(server.faults.set, name)
                client.until(lambda lines: any(one["kind"] == "close" for one in lines))
                client.until(lambda lines: (INFY, "full") in ticks(lines))
            assert len(server.handshakes) == 3
        finally:
            client.end()

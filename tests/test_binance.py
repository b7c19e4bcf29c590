"""Binance's streams, heard from a local server that speaks their protocol: what comes through, and what faults do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphapanda.errors import RetryPolicy
from alphapanda.feeds.binance import BinanceStreams
from alphapanda.feeds.binance_messages import Malformed, Quote, Reply, Shutdown, Trade, coin, parse, units
from alphapanda.feeds.connection import Timing
from alphapanda.feeds.sequencer import LiveRow
from alphapanda.registry import default_instrument
from tests.binance_server import BinanceServer

BTC, ETH = default_instrument("BINANCE:BTCUSDT"), default_instrument("BINANCE:ETHUSDT")
QUICK = Timing(quiet=0.4, quiet_max=1.6, open=1.0, retry=RetryPolicy(delay_first=0.05, delay_max=0.2))


@asynccontextmanager
async def listening(server: BinanceServer, timing: Timing = QUICK) -> AsyncIterator[BinanceStreams]:
    """Streams of one coin, connected."""
    streams = BinanceStreams(server.url, timing)
    await streams.start()
    streams.watch(BTC, 7)
    try:
        await until(lambda: bool(server.clients))
        yield streams
    finally:
        await streams.stop()


async def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - what is waited for is on the other side of a socket
            await asyncio.sleep(0.01)


async def rows(streams: BinanceStreams, count: int) -> list[LiveRow]:
    """The next rows, so many at least."""
    found: list[LiveRow] = []

    def enough() -> bool:
        found.extend(streams.drain())
        return len(found) >= count

    await until(enough)
    return found


def run(test: Callable[[BinanceServer], Awaitable[None]]) -> None:
    async def main() -> None:
        async with BinanceServer() as server:
            await test(server)

    asyncio.run(main())


# ── messages ─────────────────────────────────────────────────────────────────────────────────────


def wrapped(stream: str, **data: Any) -> str:
    return json.dumps({"stream": stream, "data": data})


TRADE = {
    "e": "trade",
    "E": 1,
    "s": "BTCUSDT",
    "t": 5,
    "p": "95000.12",
    "q": "0.001",
    "b": 8,
    "a": 9,
    "T": 3,
    "m": True,
}
QUOTE = {"u": 4, "s": "BTCUSDT", "b": "1.0", "B": "2.0", "a": "3.0", "A": "4.0"}


def test_messages_as_the_venue_documents_them() -> None:
    assert parse(wrapped("btcusdt@trade", **TRADE)) == Trade("BTCUSDT", 5, "95000.12", "0.001", 3)
    assert parse(wrapped("btcusdt@bookTicker", **QUOTE)) == Quote(4, "BTCUSDT", "1.0", "2.0", "3.0", "4.0")
    assert parse('{"result":null,"id":3}') == Reply(3, "")
    assert parse('{"error":{"code":2,"msg":"no"},"id":3}') == Reply(3, '{"code":2,"msg":"no"}')
    assert parse('{"code":3,"msg":"Invalid JSON"}') == Reply(None, "3 Invalid JSON")
    assert parse('{"e":"serverShutdown","E":1}') == Shutdown()
    assert parse('{"stream":"x","data":{"e":"serverShutdown","E":1}}') == Shutdown()


@pytest.mark.parametrize(
    "message",
    ["", "{", "[]", "null", "7", "{}", b"\xff\xfe", '{"stream":"btcusdt@trade"}', '{"stream":5,"data":{}}',
     wrapped("btcusdt@depth"), wrapped("btcusdt@trade", **{**TRADE, "p": 95000.12}),
     wrapped("btcusdt@trade", **{**TRADE, "t": "5"}), wrapped("btcusdt@trade", **{**TRADE, "T": None}),
     wrapped("btcusdt@bookTicker", **{**QUOTE, "b": None}), "[" * 100_000],
)  # fmt: skip
def test_everything_else_is_malformed(message: str | bytes) -> None:
    with pytest.raises(Malformed):
        parse(message)


@given(st.one_of(st.binary(), st.text(), st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.integers(),
    lambda part: st.lists(part) | st.dictionaries(st.sampled_from(["stream", "data", "id", "e", "s"]), part),
).map(json.dumps)))  # fmt: skip
def test_no_message_raises_anything_else(message: str | bytes) -> None:
    with suppress(Malformed):
        parse(message)


@given(
    st.decimals(0, 10**9, places=8, allow_nan=False, allow_infinity=False),
    st.sampled_from([1, 100, 10_000, 10**8]),
)
def test_units_are_exact(value: Decimal, scale: int) -> None:
    expected = int((value * scale).to_integral_value(ROUND_HALF_UP))
    assert units(f"{value:.8f}", scale) == expected


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "1.", ".5", "1e5", "NaN", "Infinity", "1_0", "٣", " 1", "9" * 17, "1,0"]
)
def test_no_number(text: str) -> None:
    with pytest.raises(Malformed):
        units(text, 100)


def test_names_of_coins() -> None:
    assert coin("BINANCE:BTCUSDT") == "btcusdt"
    for other in ("NSE:INFY", "BINANCE:BTC/USDT", "BINANCE:btcusdt", "BINANCE:A?B", "BINANCE:", "BTCUSDT"):
        assert not coin(other)


# ── a connection ─────────────────────────────────────────────────────────────────────────────────


def test_a_trade_carries_the_newest_quote() -> None:
    async def test(server: BinanceServer) -> None:
        async with listening(server) as streams:
            assert server.paths == ["/stream?streams=btcusdt@trade/btcusdt@bookTicker"]
            await server.trade("btcusdt", "95000.10000000", "0.00000001", ts=1_800_000_000_123)
            await server.quote("btcusdt", "95000.00000000", "95000.50000000")
            await server.quote("btcusdt", "1.00000000", "2.00000000", update=1)  # an older book
            await server.trade("btcusdt", "95000.50000000", "1.50000000", ts=1_800_000_000_124)
            first, second = await rows(streams, 2)
            assert first == LiveRow(7, 1_800_000_000_123_000_000, 9_500_010, 1)
            assert second == LiveRow(
                7, 1_800_000_000_124_000_000, 9_500_050, 150_000_000, 9_500_000, 9_500_050, 10**8, 2 * 10**8
            )

    run(test)


def test_nobody_wants_a_coin_nothing_is_connected() -> None:
    async def test(server: BinanceServer) -> None:
        streams = BinanceStreams(server.url, QUICK)
        await streams.start()
        await asyncio.sleep(0.2)
        assert not server.clients
        assert streams.health()["state"] == "idle"
        streams.watch(BTC, 0)
        await until(lambda: bool(server.clients))
        streams.unwatch(BTC)
        await until(lambda: not server.clients)
        await until(lambda: streams.health()["state"] == "idle")
        assert not streams.health()["gaps"]
        streams.watch(BTC, 0)
        await until(lambda: bool(server.clients))
        await streams.stop()

    run(test)


def test_coins_come_and_go_on_the_open_connection() -> None:
    async def test(server: BinanceServer) -> None:
        async with listening(server, Timing(quiet=20.0)) as streams:
            streams.watch(ETH, 8)
            await until(lambda: "ethusdt@trade" in server.clients[0].streams)
            await server.trade("ethusdt", "3000.00000000")
            assert (await rows(streams, 1))[0].instrument == 8
            streams.unwatch(BTC)
            await until(lambda: server.clients[0].streams == {"ethusdt@trade", "ethusdt@bookTicker"})
            assert [one["method"] for one in server.requests] == ["SUBSCRIBE", "UNSUBSCRIBE"]
            assert len(server.paths) == 1

    run(test)


def test_a_refused_subscription_is_told() -> None:
    async def test(server: BinanceServer) -> None:
        server.say_no = "Invalid request"
        async with listening(server, Timing(quiet=20.0)) as streams:
            streams.watch(ETH, 8)
            await until(lambda: "Invalid request" in streams.health()["refused"])
            assert len(server.paths) == 1

    run(test)


# ── faults ───────────────────────────────────────────────────────────────────────────────────────


def test_malformed_and_wrong_messages_are_counted_and_the_connection_stays() -> None:
    async def test(server: BinanceServer) -> None:
        async with listening(server, Timing(quiet=20.0)) as streams:
            for bad in ("nonsense", b"\x00\xff", "[1,2]", '{"stream":"btcusdt@trade","data":{"s":1}}'):
                await server.raw(bad)
            await server.trade("btcusdt", "NaN")
            await server.trade("btcusdt", "95000.00", "-1.0")
            await server.send("btcusdt@trade", {**TRADE, "p": 95000.1})
            await server.send("btcusdt@bookTicker", {**QUOTE, "u": 9, "a": "1e400"})
            await server.send("btcusdt@trade", {**TRADE, "s": "DOGEUSDT"})
            await server.trade("btcusdt", "95000.00")
            (row,) = await rows(streams, 1)
            assert row.price == 9_500_000
            assert streams.health()["counts"]["malformed"] == 8
            assert len(server.paths) == 1

    run(test)


def test_ids_out_of_order_are_dropped_and_missing_ones_counted() -> None:
    async def test(server: BinanceServer) -> None:
        async with listening(server, Timing(quiet=20.0)) as streams:
            for number in (10, 11, 11, 9, 14, 12, 15):
                await server.trade("btcusdt", f"{number}.00", number=number)
            assert [row.price // 100 for row in await rows(streams, 4)] == [10, 11, 14, 15]
            counts = streams.health()["counts"]
            assert (counts["repeated"], counts["missed"]) == (3, 2)
            await server.trade(
                "btcusdt", "1.00", number=10**15
            )  # one wrong id does not silence the coin for good
            for number in range(16, 130):
                await server.trade("btcusdt", "2.00", number=number)
            assert len(await rows(streams, 10)) >= 10

    run(test)


def test_a_closed_connection_is_opened_again_and_leaves_a_gap_marker() -> None:
    async def test(server: BinanceServer) -> None:
        async with listening(server) as streams:
            await server.trade("btcusdt", "95000.00")
            await rows(streams, 1)
            await server.drop()
            await until(lambda: not server.clients)
            await server.trade("btcusdt", "95001.00")  # nobody hears it
            await until(lambda: bool(server.clients))
            await server.trade("btcusdt", "95002.00")
            (row,) = await rows(streams, 1)
            health = streams.health()
            assert row.price == 9_500_200
            assert health["counts"]["missed"] == 1
            assert health["counts"]["reconnects"] == 1
            ((start, end, reason),) = health["gaps"]
            assert 0 < start < end
            assert reason

    run(test)


def test_silence_is_a_dead_connection_even_when_pings_are_answered() -> None:
    async def test(server: BinanceServer) -> None:
        async with listening(server) as streams:
            for _ in range(30):
                await server.trade("btcusdt", "95000.00")
            await rows(streams, 30)
            assert not streams.health()["stale"]
            server.silent = True
            await until(lambda: len(server.paths) >= 3)  # and again, for the new one says nothing either
            assert streams.health()["stale"] == ["BINANCE:BTCUSDT"]
            server.silent = False
            await until(lambda: bool(server.clients))
            while not streams.health()["gaps"]:
                await server.trade("btcusdt", "95000.00")
                await asyncio.sleep(0.02)
            assert "no message" in streams.health()["gaps"][0][2]
            assert not streams.health()["stale"]

    run(test)


def test_a_quiet_coin_does_not_mean_a_new_connection_every_few_seconds() -> None:
    """Patience doubles up to ``quiet_max`` while new connections bring no more."""

    async def test(server: BinanceServer) -> None:
        async with listening(server, Timing(quiet=0.1, quiet_max=30.0, retry=RetryPolicy(delay_first=0.01))):
            await asyncio.sleep(2.5)
            assert 2 <= len(server.paths) <= 6  # 0.1 + 0.2 + 0.4 + 0.8 + 1.6; not 20

    run(test)


def test_refused_and_slow_handshakes_are_tried_again_with_growing_pauses() -> None:
    async def test(server: BinanceServer) -> None:
        server.refuse = 3
        async with listening(server) as streams:
            assert streams.health()["counts"]["reconnects"] >= 3
            server.slow = 5.0  # longer than we wait
            await server.drop()
            before = streams.health()["counts"]["reconnects"]
            await until(lambda: streams.health()["counts"]["reconnects"] >= before + 2)
            server.slow = 0.0
            await until(lambda: bool(server.clients))
            await server.trade("btcusdt", "95000.00")
            await rows(streams, 1)
            assert len(streams.health()["gaps"]) == 1

    run(test)


@pytest.mark.parametrize("asked", [False, True])
def test_a_connection_is_replaced_before_the_venue_ends_it_and_no_trade_is_lost(asked: bool) -> None:
    timing = Timing(quiet=5.0, lifetime=3600.0 if asked else 0.3)

    async def test(server: BinanceServer) -> None:
        async with listening(server, timing) as streams:
            found: list[LiveRow] = []
            if asked:
                await server.raw('{"stream":"x","data":{"e":"serverShutdown","E":1}}')
            while len(server.paths) < 3 - asked or len(server.clients) > 1:
                await server.trade("btcusdt", f"{len(found) + 1}.00")
                await asyncio.sleep(0.005)
                found += streams.drain()
            sent = server.ids["btcusdt"]
            while len(found) < sent:
                found += await rows(streams, 1)
            health = streams.health()
            assert len(found) == sent
            assert health["counts"]["renewals"] >= 1
            assert health["counts"].get("missed", 0) == 0
            assert not health["gaps"]
            assert health["counts"].get("reconnects", 0) == 0

    run(test)

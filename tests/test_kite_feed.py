"""Kite's ticker, heard from a local server that speaks its protocol: what comes through, and what faults do."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from pydantic import SecretStr

from alphapanda.errors import ConfigurationError, DataError, MarketDataError, RetryPolicy
from alphapanda.events import DAY, SECOND
from alphapanda.feeds.base import Universe
from alphapanda.feeds.connection import Gap, Timing
from alphapanda.feeds.kite import CAUSES, KiteTicks
from alphapanda.feeds.kite_rows import KiteRows, always, trading_hours
from alphapanda.feeds.kite_socket import ASK_MAX, TOKENS_MAX
from alphapanda.feeds.sequencer import LiveRow
from alphapanda.feeds.services import Services
from alphapanda.instruments import Instrument
from alphapanda.registry import Registry
from alphapanda.rulebook import Rulebook
from alphapanda.sandbox.packets import Mode, frame, packet
from alphapanda.zerodha.instruments import fetch, registry_of_day
from tests.kite_server import KiteServer, Market, now_ns

INFY = Instrument(symbol="NSE:INFY", exchange="NSE", token=408065)
TCS = Instrument(symbol="NSE:TCS", exchange="NSE", token=2953217)
NIFTY = Instrument(
    symbol="NSE:NIFTY 50", exchange="NSE", kind="INDEX", token=256265, tick_size=1, tradable=False
)
USDINR = Instrument(symbol="CDS:USDINR26NOVFUT", exchange="CDS", kind="FUT", token=1027 << 8 | 3,
                    price_scale=10_000_000, tick_size=25_000)  # fmt: skip
ALL = (INFY, TCS, NIFTY, USDINR)
QUICK = Timing(quiet=1.8, quiet_max=4.0, open=2.0, refused=0.3, probe=0.5,
               retry=RetryPolicy(delay_first=0.05, delay_max=0.2))  # fmt: skip
KEY, TOKEN = SecretStr("the-api-key"), SecretStr("today")


async def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - what is waited for is on the other side of a socket
            await asyncio.sleep(0.01)


async def rows(venue: KiteTicks, count: int) -> list[LiveRow]:
    """The next rows, so many at least."""
    found: list[LiveRow] = []

    def enough() -> bool:
        found.extend(venue.drain())
        return len(found) >= count

    await until(enough)
    return found


def many(count: int) -> list[Instrument]:
    return [Instrument(symbol=f"NSE:S{n}", exchange="NSE", token=n << 8 | 1) for n in range(1, count + 1)]


@asynccontextmanager
async def serving(*instruments: Instrument) -> AsyncIterator[KiteServer]:
    async with KiteServer(Market(*(instruments or ALL))) as server:
        yield server


@asynccontextmanager
async def listening(
    server: KiteServer, *instruments: Instrument, token: SecretStr | None = TOKEN, **more: Any
) -> AsyncIterator[KiteTicks]:
    """A venue that watches these (INFY alone if none are named), asked for in mode full."""
    watched = instruments or (INFY,)
    venue = KiteTicks(
        server.url, KEY, token, more.pop("registry", Registry(watched)), **{"timing": QUICK, **more}
    )
    await venue.start()
    for index, one in enumerate(watched):
        venue.watch(one, index)
    try:
        if token is not None and token.get_secret_value() == server.token and not server.refuse:
            await until(lambda: full(server) == len(watched))
        yield venue
    finally:
        await venue.stop()


def full(server: KiteServer) -> int:
    """How many instruments are sent in mode full."""
    return sum(mode == "full" for session in server.sessions for mode in session.modes.values())


def run(test: Callable[[KiteServer], Awaitable[None]], *instruments: Instrument) -> None:
    async def main() -> None:
        async with serving(*instruments) as server:
            await test(server)

    asyncio.run(main())


def count(venue: KiteTicks, name: str) -> int:
    return venue.health()["counts"].get(name, 0)


# ── what comes through ───────────────────────────────────────────────────────────────────────────


def test_a_trade_is_a_row_with_what_traded_since_the_last_one() -> None:
    async def test(server: KiteServer) -> None:
        async with listening(server) as venue:
            assert server.versions == ["3"]
            begun = now_ns()
            server.market.trade(INFY.token, 150_000, 400)
            (first,) = await rows(venue, 1)
            assert begun // SECOND * SECOND <= first.ts <= now_ns()
            assert first == LiveRow(
                0, first.ts, 150_000, 0, 149_995, 150_005, 10, 20
            )  # the day's volume is no trade
            for quantity in (3, 4):
                server.market.trade(INFY.token, 150_105, quantity)
            (second,) = await rows(venue, 1)
            assert (second.price, second.volume) == (150_105, 7)
            assert venue.health()["state"] == "connected"

    run(test)


def test_indexes_and_currencies() -> None:
    async def test(server: KiteServer) -> None:
        async with listening(server, *ALL) as venue:
            server.market.trade(NIFTY.token, 2_400_055)
            server.market.trade(USDINR.token, 845_025_000, 2)
            found = {row.instrument: row for row in await rows(venue, 2)}
            assert (found[2].price, found[2].bid, found[2].volume) == (2_400_055, 0, 0)
            assert (found[3].price, found[3].bid) == (845_025_000, 845_024_995)

    run(test)


def test_nobody_wants_an_instrument_nothing_is_connected() -> None:
    async def test(server: KiteServer) -> None:
        venue = KiteTicks(server.url, KEY, TOKEN, Registry(ALL), timing=QUICK)
        await venue.start()
        await venue.start()  # another service that shares it
        await asyncio.sleep(0.2)
        assert not server.handshakes
        assert venue.health()["state"] == "idle"
        venue.watch(INFY, 0)
        await until(lambda: full(server) == 1)
        venue.watch(TCS, 1)
        await until(lambda: full(server) == 2)
        venue.unwatch(INFY)
        await until(lambda: [list(one.modes) for one in server.sessions] == [[TCS.token]])
        venue.unwatch(TCS)
        await until(lambda: not server.connections)
        assert len(server.handshakes) == 1
        assert not venue.health()["gaps"]
        await venue.stop()
        await venue.stop()

    run(test)


def test_seven_thousand_instruments_over_three_sockets_and_again_after_a_loss() -> None:
    instruments = many(7000)

    async def test(server: KiteServer) -> None:
        async with listening(server, *instruments) as venue:
            sizes = [len(one.modes) for one in server.sessions]
            assert sorted(sizes) == [1000, TOKENS_MAX, TOKENS_MAX]
            asked = [json.loads(text) for text in server.texts]
            assert max(len(one["v"]) for one in asked if one["a"] == "subscribe") == ASK_MAX
            for connection in list(server.connections):
                connection.transport.abort()
            await until(lambda: len(server.handshakes) == 6 and full(server) == 7000)
            for one in instruments:
                server.market.trade(one.token, 150_000)
            assert {row.instrument for row in await rows(venue, 7000)} == set(range(7000))

    run(test, *instruments)


def test_more_than_three_sockets_carry_is_refused() -> None:
    instruments = many(3 * TOKENS_MAX + 1)
    venue = KiteTicks("ws://127.0.0.1:1", KEY, None, Registry(instruments))
    for index, one in enumerate(instruments):
        venue.watch(one, index)
    assert [one["instruments"] for one in venue.health()["sockets"]] == [TOKENS_MAX] * 3
    assert "more than 9000" in venue.health()["refused"]


def test_one_venue_serves_three_services() -> None:
    option = Instrument(
        symbol="NFO:NIFTY26NOV24000CE",
        exchange="NFO",
        kind="CE",
        token=999 << 8 | 2,
        lot_size=65,
        tick_size=5,
    )
    listed = (INFY, option, USDINR)

    async def test(server: KiteServer) -> None:
        venue = KiteTicks(server.url, KEY, TOKEN, Registry(listed), timing=QUICK)
        universe = Universe()
        services = Services(universe, lambda symbol: False, None, venue, venue.instrument)
        for service in services.all.values():
            await service.start()
        services.reconcile({"run": [*(one.symbol for one in listed), "NSE:NOBODY", "BINANCE:BTCUSDT"]})
        assert services.unknown == ("BINANCE:BTCUSDT", "NSE:NOBODY")
        await until(lambda: full(server) == 3)
        assert set(universe.instruments) == set(listed)  # as the broker lists them, with their lots
        for one in listed:
            server.market.trade(one.token, 150_000)
        found: list[LiveRow] = []

        def enough() -> bool:
            found.extend(row for rows, _ in services.drain() for row in rows)
            return len(found) == 3

        await until(enough)
        assert {universe.instruments[row.instrument] for row in found} == set(listed)
        services.reconcile({"run": [INFY.symbol], "other": [INFY.symbol]})
        await until(lambda: full(server) == 1)
        server.faults.set("ticker_price_zero")
        server.market.trade(INFY.token, 150_005)
        await until(lambda: services.equity.health()["stale"] == ["NSE:INFY"])
        assert services.options.health()["stale"] == []
        for service in services.all.values():
            await service.stop()

    run(test, *listed)


# ── instruments of the day ───────────────────────────────────────────────────────────────────────


def test_tokens_that_change_hands_over_night() -> None:
    async def test(server: KiteServer) -> None:
        async with listening(server, INFY, TCS) as venue:
            swapped = Registry([Instrument(symbol=a.symbol, exchange="NSE", token=b.token)
                                for a, b in ((INFY, TCS), (TCS, INFY))])  # fmt: skip
            venue.relist(swapped)
            server.market.trade(INFY.token, 150_000)
            (row,) = await rows(venue, 1)
            assert row.instrument == 1  # TCS has the token of INFY now
            venue.relist(Registry([INFY]))
            assert "NSE:TCS: not among today's instruments" in venue.health()["refused"]
            venue.relist(Registry([INFY, TCS]))
            await until(lambda: full(server) == 2)
            server.market.trade(TCS.token, 150_000)
            assert (await rows(venue, 1))[0].instrument == 1

    run(test)


def test_symbols_it_takes() -> None:
    venue = KiteTicks("wss://ws.kite.trade", KEY)
    assert venue.takes("NSE:ANY")
    assert not venue.takes("BINANCE:BTCUSDT")
    venue.relist(Registry([INFY]))
    assert (venue.takes("NSE:INFY"), venue.takes("NSE:ANY")) == (True, False)
    assert venue.instrument("NSE:INFY") == INFY
    venue.watch(Instrument(symbol="NSE:INFY", exchange="NSE", price_scale=10_000), 0)
    assert "units the venue does not send" in venue.health()["refused"]


@pytest.mark.parametrize(
    "url", ["", "ws.kite.trade", "https://ws.kite.trade", "wss://", "wss://x?a=b", "wss://user@x"]
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ConfigurationError):
        KiteTicks(url, KEY)


# ── sockets that are lost ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("ticker_silent", "not a byte"),
        ("ticker_close", "closed by the venue"),
        ("ticker_abort", "ConnectionClosed"),
    ],
)
def test_a_lost_socket_is_rebuilt_with_its_modes_and_leaves_a_gap(fault: str, reason: str) -> None:
    async def test(server: KiteServer) -> None:
        refilled: list[Gap] = []

        async def refill(gap: Gap) -> None:
            refilled.append(gap)

        async with listening(server, INFY, TCS, refill=refill) as venue:
            server.market.trade(INFY.token, 150_000, 10)
            await rows(venue, 1)
            server.refuse = 2
            server.faults.set(fault)
            await until(lambda: len(server.handshakes) == 2)
            server.market.trade(INFY.token, 150_500, 1000)  # nobody hears it
            await until(lambda: full(server) == 2)
            (row,) = await rows(venue, 1)
            assert (row.price, row.volume) == (150_500, 0)  # what traded in between is not this tick's
            await until(lambda: bool(refilled))
            (gap,) = refilled
            assert gap.symbols == ("NSE:INFY", "NSE:TCS")
            assert gap.start < gap.end
            assert reason in gap.reason
            server.market.trade(INFY.token, 150_505, 5)
            assert (await rows(venue, 1))[0].volume == 5

    run(test)


def test_heartbeats_keep_a_quiet_socket_alive() -> None:
    async def test(server: KiteServer) -> None:
        async with listening(server) as venue:
            await asyncio.sleep(2 * QUICK.quiet)
            assert len(server.handshakes) == 1
            assert count(venue, "heartbeats") >= 2

    run(test)


def test_a_server_in_trouble_is_asked_again() -> None:
    async def test(server: KiteServer) -> None:
        server.refuse = 3
        async with listening(server) as venue:
            await until(lambda: full(server) == 1)
            assert len(server.handshakes) == 4
            assert count(venue, "reconnects") == 3
            assert venue.health()["cause"] == ""

    run(test)


def test_forgotten_modes_are_asked_for_again() -> None:
    async def test(server: KiteServer) -> None:
        async with listening(server, INFY, TCS) as venue:
            server.faults.set("ticker_quote_mode")
            await until(lambda: full(server) == 0)

            def trading() -> bool:
                server.market.trade(INFY.token, 150_000)
                server.market.trade(TCS.token, 150_000)
                return full(server) == 2

            await until(trading)
            assert count(venue, "downgraded") >= 1
            assert len(server.handshakes) == 1

    run(test)


# ── logins ───────────────────────────────────────────────────────────────────────────────────────


def test_a_new_token_rebuilds_the_sockets() -> None:
    async def test(server: KiteServer) -> None:
        async with listening(server, token=None) as venue:
            await asyncio.sleep(0.2)
            assert venue.health()["state"] == "logged_out"
            assert not server.handshakes
            venue.login(TOKEN)
            await until(lambda: full(server) == 1)
            server.token = "tomorrow"
            venue.login(SecretStr("tomorrow"))
            await until(lambda: "tomorrow" in server.handshakes[-1] and full(server) == 1)
            await until(lambda: len(server.connections) == 1)
            venue.login(SecretStr("tomorrow"))  # the same one again changes nothing
            await asyncio.sleep(0.3)
            assert len(server.handshakes) == 2
            assert count(venue, "gaps") == 1

    run(test)


def test_a_login_after_a_refusal_is_tried_at_once_though_it_brings_the_same_token() -> None:
    async def test(server: KiteServer) -> None:
        server.token = "nobody's"
        patient = replace(QUICK, refused=60.0)
        async with listening(server, timing=patient) as venue:
            await until(lambda: venue.health()["state"] == "refused")
            server.token = TOKEN.get_secret_value()
            venue.login(TOKEN)
            await until(lambda: full(server) == 1)
            assert venue.health()["cause"] == ""

    run(test)


@pytest.mark.parametrize("cause", [*CAUSES, "nonsense"])
def test_a_refusal_names_its_cause(cause: str) -> None:
    async def test(server: KiteServer) -> None:
        asked: list[None] = []

        async def probe() -> str:
            asked.append(None)
            return cause

        async with listening(server, token=SecretStr("yesterday"), probe=probe) as venue:
            known = cause if cause in CAUSES else "unknown"
            await until(lambda: venue.health()["cause"] == known)
            refused = "logged_out" if known == "token" else "refused"
            await until(lambda: venue.health()["state"] == refused)
            assert venue.health()["detail"] == ": ".join(CAUSES[known])
            venue.login(TOKEN)
            await until(lambda: full(server) == 1)
            assert venue.health()["cause"] == ""
            assert asked

    run(test)


def test_a_probe_that_fails_leaves_the_cause_open() -> None:
    async def test(server: KiteServer) -> None:
        async def raises() -> str:
            raise RuntimeError

        async def hangs() -> str:
            await asyncio.sleep(60)
            return "token"

        for probe in (raises, hangs, None):
            async with listening(server, token=SecretStr("yesterday"), probe=probe) as venue:
                await until(lambda venue=venue: venue.health()["cause"] == "unknown")

    run(test)


def test_too_many_sockets() -> None:
    async def test(server: KiteServer) -> None:
        server.refuse, server.status = 2, 429
        async with listening(server) as venue:
            await until(lambda: venue.health()["cause"] == "sockets")
            await until(lambda: full(server) == 1)

    run(test)


def test_no_secret_is_ever_logged(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = "tok!en/with?odd&signs"

    async def test(server: KiteServer) -> None:
        async with listening(server, token=SecretStr(secret)) as venue:
            await until(lambda: venue.health()["cause"] == "unknown")
            server.token = secret
            server.refuse = 1
            await until(lambda: full(server) == 1)
            server.faults.set("ticker_abort")
            await until(lambda: len(server.handshakes) > 2 and full(server) == 1)
            shown = (
                json.dumps(venue.health()) + repr(vars(venue)) + repr([vars(one) for one in venue._sockets])
            )
            assert secret not in shown
            assert "the-api-key" not in shown

    with caplog.at_level(logging.DEBUG):
        run(test)
    client = [one.getMessage() for one in caplog.records if not one.name.startswith("websockets.server")]
    said = capsys.readouterr()
    for text in (*client, said.out, said.err):
        assert secret not in text
        assert "tok%21en" not in text
        assert "the-api-key" not in text


# ── what cannot be true ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("ticker_negative_price", "price"), ("ticker_price_zero", "price"), ("ticker_price_max", "price"),
     ("ticker_stamp_1970", "stamp"), ("ticker_stamp_tomorrow", "stamp"), ("ticker_volume_backwards", "volume")],
)  # fmt: skip
def test_impossible_packets_are_quarantined_and_the_instrument_is_stale_until_a_sane_one(
    fault: str, reason: str
) -> None:
    async def test(server: KiteServer) -> None:
        async with listening(server) as venue:
            server.market.trade(INFY.token, 150_000, 1000)
            await rows(venue, 1)
            server.faults.set(fault)
            server.market.trade(INFY.token, 150_005, 10)
            await until(lambda: count(venue, reason) == 1)
            assert venue.drain() == []
            assert venue.health()["stale"] == ["NSE:INFY"]
            assert count(venue, "quarantined") == 1
            server.market.trade(INFY.token, 150_010, 20)
            (row,) = await rows(venue, 1)
            assert (row.price, row.volume) == (150_010, 30)
            assert venue.health()["stale"] == []
            assert len(server.handshakes) == 1

    run(test)


def test_garbage_is_counted_and_the_socket_stays() -> None:
    async def test(server: KiteServer) -> None:
        async with listening(server) as venue:
            for fault in ("ticker_malformed", "ticker_unknown_length", "ticker_error_text"):
                server.faults.set(fault)
            for bad in (
                b"\x00\x00\x00",
                b"\xff" * 100,
                "[1]",
                "null",
                '{"type":5}',
                '{"type":"order","data":[]}',
                "[" * 9999,
            ):
                await server.say(bad)
            await server.say(json.dumps({"type": "message", "data": "markets are closed"}))
            server.market.trade(INFY.token, 150_000)
            await rows(venue, 1)
            await until(lambda: count(venue, "errors") == 1 and count(venue, "odd") == 1)
            assert count(venue, "short") >= 5
            assert venue.health()["said"] in ("markets are closed", "something went wrong")
            assert count(venue, "malformed") > 5
            assert len(server.handshakes) == 1

    run(test)


def test_a_burst_comes_through() -> None:
    instruments = many(TOKENS_MAX)

    async def test(server: KiteServer) -> None:
        async with listening(server, *instruments) as venue:
            for one in instruments:
                server.market.trade(one.token, 150_000)
            server.faults.set("ticker_burst")
            found = await rows(venue, TOKENS_MAX)
            assert len({row.instrument for row in found}) == TOKENS_MAX
            assert len(server.handshakes) == 1

    run(test, *instruments)


def test_a_snapshot_of_another_day_is_no_tick() -> None:
    async def test(server: KiteServer) -> None:
        server.market.trade(INFY.token, 150_000)
        server.faults.set("ticker_stale_snapshot", 2)  # that of the subscription, and that of the mode
        async with listening(server) as venue:
            await until(lambda: count(venue, "other_day") == 1)
            assert venue.drain() == []
            assert venue.health()["waiting"] == ["NSE:INFY"]
            server.market.trade(INFY.token, 150_005)
            assert (await rows(venue, 1))[0].price == 150_005
            assert venue.health()["waiting"] == []

    run(test)


def test_a_sandbox_may_play_another_day() -> None:
    async def test(server: KiteServer) -> None:
        async with listening(server, wall=lambda: now_ns() - 9 * DAY) as venue:
            server.market.trade(INFY.token, 150_000, ts=now_ns() - 9 * DAY)
            assert (await rows(venue, 1))[0].price == 150_000
            assert venue.health()["waiting"] == []

    run(test)


def test_one_frozen_instrument_of_fifty_is_found() -> None:
    instruments = many(50)

    async def test(server: KiteServer) -> None:
        async with listening(server, *instruments) as venue:
            seen: list[set[str]] = []

            async def trade() -> None:
                price = 150_000
                while True:
                    price += 5
                    for one in instruments:
                        server.market.trade(one.token, price)
                    await asyncio.sleep(0.2)

            trading = asyncio.create_task(trade())
            await rows(venue, 50 * 7)
            assert venue.health()["stale"] == []
            server.faults.set("ticker_frozen")

            def found() -> bool:
                seen.append(set(venue.health()["stale"]))
                return bool(seen[-1])

            await until(found)
            trading.cancel()
            assert seen[-1] == {"NSE:S1"}
            assert len(server.handshakes) == 1

    run(test, *instruments)


# ── rows, without a socket ───────────────────────────────────────────────────────────────────────

NOON = 1_795_156_200 * SECOND  # Friday, 2026-11-20 12:00 IST


class Told:
    """Rows of one instrument, told packet by packet; a second passes at each."""

    def __init__(self) -> None:
        self.rows, self.now, self.wall = KiteRows(), 0.0, NOON
        self.rows.add(INFY, INFY.token, 3, 0.0)
        self.quote = Market(INFY).quotes[INFY.token]

    def __call__(self, mode: Mode = "full", **values: Any) -> list[LiveRow]:
        self.now += 1.0
        self.wall += SECOND
        self.quote.ts = self.wall
        for name, value in values.items():
            setattr(self.quote, name, value)
        self.rows.take(frame([packet(self.quote, mode)]), self.now, self.wall)
        return self.rows.drain()


def test_volume_is_counted_within_a_day_only() -> None:
    told = Told()
    assert [row.volume for volume in (500, 510, 510, 600) for row in told(volume=volume)] == [0, 10, 0, 90]
    told.wall += DAY
    assert [row.volume for volume in (20, 25) for row in told(volume=volume)] == [0, 5]


def test_the_cached_snapshot_of_yesterday_is_waited_out_each_morning() -> None:
    told = Told()
    assert told(volume=500)
    yesterday = told.wall
    told.wall += DAY
    assert told(ts=yesterday) == []
    assert (told.rows.counts["other_day"], told.rows.held[INFY.token].suspect) == (1, "")
    assert told.rows.waiting(told.wall) == ["NSE:INFY"]
    assert told(ts=0) == []
    assert told(volume=5)[0].volume == 0
    assert told(ts=yesterday, last=1) == []  # today it has traded: now it cannot be
    assert told.rows.held[INFY.token].suspect == "stamp"


def test_a_volume_that_stays_lower_is_believed_in_the_end() -> None:
    told = Told()
    told(volume=10**9)
    assert [told(volume=volume) for volume in (500, 505)] == [[], []]
    assert told.rows.counts["volume"] == 2
    assert [row.volume for volume in (510, 530) for row in told(volume=volume)] == [0, 20]


@pytest.mark.parametrize("volume", [2**31 - 1, 2**32 - 1])
def test_a_volume_that_says_there_is_none(volume: int) -> None:
    told = Told()
    told(volume=5)
    assert told(volume=volume) == []
    assert told(volume=9)[0].volume == 4


def test_late_and_repeated_packets_are_dropped() -> None:
    told = Told()
    (row,) = told(volume=5)
    assert told(ts=row.ts) == []
    assert told(ts=row.ts - SECOND, last=1) == []
    assert (told.rows.counts["repeated"], told.rows.counts["late"]) == (1, 1)
    told.rows.interrupted([INFY.token])
    assert told(ts=row.ts, last=row.price) == []  # the cached snapshot says what we know
    assert told(volume=8)[0].volume == 3  # so nothing was missed


def test_a_stamp_a_little_ahead_is_a_clock_that_differs() -> None:
    told = Told()
    assert told(ts=told.wall + 30 * SECOND)
    assert told(ts=told.wall + 120 * SECOND) == []
    assert told.rows.counts["stamp"] == 1


def test_sides_without_a_price_are_empty() -> None:
    told = Told()
    (row,) = told(bids=[(0, 7, 0)], asks=[(-5, 7, 0)])
    assert (row.bid, row.ask, row.bid_quantity, row.ask_quantity) == (0, 0, 0, 0)


def test_rows_nobody_fetches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alphapanda.feeds.kite_rows.ROWS_HELD", 2)
    told = Told()
    told.rows.drain = list  # type: ignore[method-assign]
    for price in (1, 2, 3, 4):
        told(last=price)
    assert [row.price for row in told.rows._rows] == [3, 4]
    assert told.rows.counts["overflowed"] == 2


def test_what_is_stale_depends_on_what_is_usual() -> None:
    told = Told()
    for price in range(100, 120):  # a tick each second
        told(last=price)
    assert told.rows.stale(told.now + 4.9, told.wall, 5.0, always) == []
    assert told.rows.stale(told.now + 5.1, told.wall, 5.0, always) == ["NSE:INFY"]
    new = Told()
    new()
    assert (
        new.rows.stale(new.now + 29.0, new.wall, 5.0, always) == []
    )  # one tick says nothing of what is usual
    assert new.rows.stale(new.now + 31.0, new.wall, 5.0, always) == ["NSE:INFY"]
    slow = Told()
    for price in range(100, 120):  # each ten seconds
        slow.now += 9.0
        slow(last=price)
    assert slow.rows.stale(slow.now + 49.0, slow.wall, 5.0, always) == []
    assert slow.rows.stale(slow.now + 51.0, slow.wall, 5.0, always) == ["NSE:INFY"]


def test_nothing_is_stale_while_its_market_is_closed() -> None:
    opened = trading_hours(Rulebook.load())
    told = Told()
    for price in range(100, 110):
        told(last=price)
    midnight = NOON - 12 * 3600 * SECOND
    at = {
        clock: midnight + (clock // 100 * 60 + clock % 100) * 60 * SECOND for clock in (800, 915, 1200, 2000)
    }
    assert opened(INFY, at[800]) is None
    assert opened(INFY, at[2000]) is None
    assert opened(INFY, at[1200]) == at[915]
    assert opened(INFY, at[1200] + DAY) is None  # a Saturday
    assert opened(INFY, at[1200] + 4000 * DAY) == midnight + 4000 * DAY  # no rule covers it: open all day
    late = told.now + 3600.0
    assert told.rows.stale(late, at[2000], 5.0, opened) == []
    assert told.rows.stale(late, at[915] + 4 * SECOND, 5.0, opened) == []  # the morning's first seconds
    assert told.rows.stale(late, at[915] + 6 * SECOND, 5.0, opened) == ["NSE:INFY"]


@given(
    st.lists(
        st.tuples(st.sampled_from(["ltp", "quote", "full"]), st.binary(min_size=180, max_size=180)),
        max_size=9,
    )
)
@settings(deadline=None)
def test_no_packet_of_a_known_instrument_raises(bodies: list[tuple[str, bytes]]) -> None:
    told = Told()
    sizes = {"ltp": 4, "quote": 40, "full": 180}
    head = INFY.token.to_bytes(4, "big")
    told.rows.take(frame([head + body[: sizes[mode]] for mode, body in bodies]), 1.0, NOON)
    assert all(row.price > 0 and row.volume >= 0 for row in told.rows.drain())


# ── instruments of the day ───────────────────────────────────────────────────────────────────────

HEADER = ("instrument_token,exchange_token,tradingsymbol,name,last_price,expiry,strike,tick_size,lot_size,"
          "instrument_type,segment,exchange\n")  # fmt: skip
MORNING = NOON - 3 * 3600 * SECOND  # 09:00 IST


def listed(count: int) -> bytes:
    lines = [f"{n << 8 | 1},{n},S{n},,0,,0,0.05,1,EQ,NSE,NSE" for n in range(1, count + 1)]
    return (HEADER + "\n".join(lines) + "\n").encode()


def test_the_list_is_fetched_once_a_day_and_kept(tmp_path: Path) -> None:
    asked: list[int] = []

    def download() -> bytes:
        asked.append(1)
        return listed(4) if len(asked) % 2 else gzip.compress(listed(4))

    for now in (MORNING, NOON, MORNING + DAY, NOON + DAY):
        assert len(registry_of_day(tmp_path, now, download)) == 4
    assert len(asked) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "instruments-2026-11-20.csv.gz", "instruments-2026-11-21.csv.gz",
    ]  # fmt: skip


def test_an_early_list_is_used_and_not_kept(tmp_path: Path) -> None:
    assert "NSE:S1" in registry_of_day(tmp_path, MORNING - 3600 * SECOND, lambda: listed(1))
    assert list(tmp_path.iterdir()) == []


def test_a_list_that_was_cut_or_is_none_is_not_kept(tmp_path: Path) -> None:
    registry_of_day(tmp_path, MORNING, lambda: listed(100))
    for bad in (listed(49), b"", b"<html>", gzip.compress(listed(100))[:50], HEADER.encode()):
        with pytest.raises(DataError):
            registry_of_day(tmp_path, MORNING + DAY, lambda bad=bad: bad)
    assert len(list(tmp_path.iterdir())) == 1
    assert len(registry_of_day(tmp_path, MORNING + DAY, lambda: listed(50))) == 50


class Listed(BaseHTTPRequestHandler):
    """Serves a list to whoever is logged in, and sends the curious elsewhere."""

    def do_GET(self) -> None:
        if self.path == "/moved/instruments":
            self.send_response(302)
            self.send_header("Location", "/instruments")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        known = self.headers["Authorization"] == "token key:hidden" and self.path == "/instruments"
        body = gzip.compress(listed(3)) if known else b"{}"
        self.send_response(200 if known else 403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is its base's
        """Nothing."""


def test_a_list_is_fetched_with_the_login() -> None:
    headers = {"X-Kite-Version": "3", "Authorization": "token key:hidden"}
    with ThreadingHTTPServer(("127.0.0.1", 0), Listed) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            assert gzip.decompress(fetch(url + "/", headers, 5.0)) == listed(3)
            with pytest.raises(MarketDataError, match="alphapanda login"):
                fetch(url, {}, 5.0)
            with pytest.raises(MarketDataError, match="refused with 302"):  # the token is not taken elsewhere
                fetch(url + "/moved", headers, 5.0)
        finally:
            server.shutdown()
            thread.join()
    with pytest.raises(MarketDataError) as raised:
        fetch("http://127.0.0.1:1", headers, 2.0)
    assert "hidden" not in str(raised.value)


# ── callbacks ────────────────────────────────────────────────────────────────────────────────────


def test_order_updates_reach_the_callback_also_without_instruments() -> None:
    async def test(server: KiteServer) -> None:
        orders: list[dict[str, Any]] = []

        def told(order: dict[str, Any]) -> None:
            orders.append(order)
            raise RuntimeError(order)

        async with listening(server, orders=told) as venue:
            venue.unwatch(INFY)
            await until(lambda: full(server) == 0)
            for number in range(3):
                await server.order({"order_id": str(number)})
            await until(lambda: len(orders) == 3)
            assert [one["order_id"] for one in orders] == ["0", "1", "2"]
            assert count(venue, "callbacks") == 3
            assert len(server.handshakes) == 1

    run(test)


def test_a_loss_of_order_updates_alone_is_a_gap_too() -> None:
    async def test(server: KiteServer) -> None:
        gaps: list[Gap] = []

        async def refill(gap: Gap) -> None:
            gaps.append(gap)

        async with listening(server, orders=lambda order: None, refill=refill) as venue:
            venue.unwatch(INFY)
            await until(lambda: full(server) == 0)
            server.faults.set("ticker_abort")
            await until(lambda: bool(gaps))
            assert gaps[0].symbols == ()
            assert len(server.handshakes) == 2

    run(test)


def test_a_refill_that_raises_changes_nothing() -> None:
    async def test(server: KiteServer) -> None:
        async def refill(gap: Gap) -> None:
            raise RuntimeError(gap)

        async with listening(server, refill=refill) as venue:
            server.faults.set("ticker_abort")
            await until(lambda: count(venue, "callbacks") == 1)
            server.market.trade(INFY.token, 150_000)
            await rows(venue, 1)
            assert len(server.handshakes) == 2

    run(test)

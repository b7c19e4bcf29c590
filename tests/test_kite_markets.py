"""Shares, options and currency from Kite's ticker to the books of a paper run and of real orders, right to the pip."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import sqlite3
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

import alphapanda as ap
from alphapanda.buses.tapelog import TapeLog
from alphapanda.registry import default_instrument
from alphapanda.sandbox.broker import Broker
from alphapanda.sandbox.market import Market
from alphapanda.sandbox.serve import Running, Sandbox
from alphapanda.zerodha.standing import orders_file
from tests.rig import Rig
from tests.sandbox_rig import CALL, FREE, INFY, TEN, UNIVERSE

pytestmark = pytest.mark.timeout(150)

DOLLAR = "CDS:USDINR26NOVFUT"
LISTED = {
    **{UNIVERSE[symbol]: price for symbol, price in ((INFY, 1548.2), (CALL, 120.0))},
    msgspec.structs.replace(default_instrument(DOLLAR, dt.date(2026, 11, 20)), token=1042 << 8 | 3): 89.1275,
}
# symbol: what it is quoted at in turn (rupees), one tick in units, units a rupee
QUOTED = {
    INFY: ((1548.2, 1548.7, 1547.9), 10, 100),
    CALL: ((120.0, 120.35, 119.95), 5, 100),
    DOLLAR: ((89.1275, 89.1425, 89.1325), 25_000, 10**7),
}


class RoundTrip(ap.Strategy):
    """Buys a lot of each and, once it is held, sells it again."""

    symbols = ("NSE:INFY", "NFO:NIFTY26NOV26000CE", "CDS:USDINR26NOVFUT")  # as text: it has to be frozen

    def on_start(self) -> None:
        self.state.sent = {}

    def on_tick(self, tick: ap.Tick) -> None:
        sent, held = self.state.sent.get(tick.symbol, 0), self.position(tick.symbol).quantity
        if sent == 0 or (sent == 1 and held):
            self.state.sent[tick.symbol] = sent + 1
            if sent:
                self.order_target(tick.symbol, 0)
            else:
                self.buy(tick.symbol, 65 if tick.symbol.endswith("CE") else 1)


class Day(msgspec.Struct):
    """What was recorded, what traded at the broker, and what the two runs were told of; prices in units."""

    ticks: list[tuple[str, int, int, int]]  # symbol, price, bid, ask
    fills: dict[str, list[tuple[str, int, int]]]  # of a namespace: symbol, price, signed quantity
    trades: list[tuple[str, int, int]]  # the same at the broker
    stored: list[tuple[str, int, int]]
    positions: object


def books(document: dict[str, Any]) -> list[tuple[str, int, int]]:
    """The fills in a run's document, as its books have them: each order filled at once."""
    return [
        (
            one["symbol"],
            round(one["average"] * QUOTED[one["symbol"]][2]),
            one["filled"] * (1 if one["side"] == "BUY" else -1),
        )
        for one in document["orders"]
    ]


def move(sandbox: Running, number: int) -> None:
    """The next quote of each instrument."""
    for symbol, (prices, _, _) in QUOTED.items():
        sandbox.tick(symbol, prices[number % len(prices)])


def recorded(rig: Rig) -> list[tuple[str, int, int, int]]:
    """The tape so far: symbol, price, bid, ask."""
    found: list[tuple[str, int, int, int]] = []
    with contextlib.closing(TapeLog(rig.workspace.tapes)) as log:
        table = [one.symbol for one in log.instruments()]
        for frame in log.read(0):
            b: Any = frame.block
            if len(b):
                columns = (b.instrument.tolist(), b.price.tolist(), b.bid.tolist(), b.ask.tolist())
                found += [(table[index], *prices) for index, *prices in zip(*columns, strict=True)]
    return found


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    """One day of a paper and a real run on the three, by way of the feed process."""
    market = Market(LISTED)
    with Sandbox.thread(Broker(market, now=TEN, limits=FREE, hours=False)) as sandbox:
        move(sandbox, 0)
        settings = {
            "FEED__SOURCE": "kite", "FEED__RECORD": 0, "ZERODHA__ACCESS_TOKEN": sandbox.open_session(),
            "ZERODHA__API_KEY": sandbox.broker.account.api_key, "ZERODHA__ROOT_URL": sandbox.url,
            "ZERODHA__TICKER_URL": sandbox.ticker_url, "ZERODHA__TIMEOUT_SECONDS": 2.0,
            "RISK__DUPLICATE_WINDOW_MS": 1, "RISK__STRATEGY_ORDERS_PER_SECOND": 8, "PAPER_TRADING__SLIPPAGE_BPS": 0,
        }  # fmt: skip
        with Rig(tmp_path_factory.mktemp("markets"), **settings) as rig:
            runs = {name: rig.run(RoundTrip(), namespace=name) for name in ("paper", "zerodha")}
            number = 0

            def told() -> bool:
                nonlocal number
                newest = {symbol: price for symbol, price, _, _ in recorded(rig)}
                if (
                    newest
                    == {
                        symbol: round(prices[number % len(prices)] * scale)
                        for symbol, (prices, _, scale) in QUOTED.items()
                    }
                ):  # a quote stands until it is on the tape: the ticker leaves out what changes too soon again
                    number += 1
                    move(sandbox, number)
                return all(
                    rig.document(f"{name}:run:{run}").get("counts", {}).get("fills", 0) >= 6
                    for name, run in runs.items()
                )

            rig.until(told, 60.0, "both runs have bought and sold all three")
            ticks = recorded(rig)
            path = orders_file(rig.workspace, "zerodha")
            with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
                keys = {
                    trade.order.tag: (
                        trade.order.instrument.symbol,
                        trade.price,
                        trade.quantity * trade.order.side,
                    )
                    for trade in sandbox.do(lambda one: list(one.ledger.trades))
                }
                stored = db.execute(
                    "SELECT intent.tag, fill.price, fill.quantity FROM fill JOIN intent ON intent.key = fill.key"
                ).fetchall()
            yield Day(
                ticks=ticks,
                fills={name: books(rig.document(f"{name}:run:{run}")) for name, run in runs.items()},
                trades=sorted(keys.values()),
                stored=sorted((keys[tag][0], price, quantity) for tag, price, quantity in stored),
                positions=rig.document(f"zerodha:run:{runs['zerodha']}")["positions"],
            )


@pytest.mark.parametrize("symbol", QUOTED)
def test_ticks_are_what_was_quoted(symbol: str, day: Day) -> None:
    prices, tick, scale = QUOTED[symbol]
    mine = [row[1:] for row in day.ticks if row[0] == symbol]
    seen = [price for price, _ in itertools.groupby(price for price, _, _ in mine)]
    assert len(seen) > 1
    assert seen == [round(price * scale) for price in itertools.islice(itertools.cycle(prices), len(seen))]
    assert all((bid, ask) == (price - tick, price + tick) for price, bid, ask in mine)


@pytest.mark.parametrize("namespace", ["paper", "zerodha"])
@pytest.mark.parametrize("symbol", QUOTED)
def test_fills_are_at_the_quotes(symbol: str, namespace: str, day: Day) -> None:
    prices, tick, scale = QUOTED[symbol]
    lot = next(one for one in LISTED if one.symbol == symbol).lot_size
    fills = [(price, quantity) for name, price, quantity in day.fills[namespace] if name == symbol]
    assert sorted(quantity for _, quantity in fills) == [-lot, lot]
    for price, quantity in fills:
        side = 1 if quantity > 0 else -1
        assert price - side * tick in {round(price * scale) for price in prices}


def test_the_store_has_the_brokers_trades(day: Day) -> None:
    assert len(day.trades) == 6
    assert day.stored == day.trades
    assert sorted(day.fills["zerodha"]) == day.trades
    assert not day.positions

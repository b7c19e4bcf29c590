"""Traders: one contract over all of them, the factory, and a broker of somebody else's found by its entry point."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

import alphapanda as ap
from alphapanda.account import Account
from alphapanda.buses.frames import Frame
from alphapanda.errors import ConfigurationError, OrderRejectionError, UnknownNameError
from alphapanda.events import Signal
from alphapanda.lane import Lane
from alphapanda.requests import FillUpdate, OrderUpdate, Place, Reply, Request
from alphapanda.risk import Limits
from alphapanda.rulebook import Rulebook
from alphapanda.settings import Settings
from alphapanda.tapes.tape import Tape
from alphapanda.traders.base import Trader
from alphapanda.traders.factory import GROUP, TraderFactory, trader_class
from alphapanda.traders.paper import PaperTrader
from tests.example_trader import GenerousBroker

LAST = 7


@pytest.fixture(scope="module")
def tape() -> Tape:
    day = ap.synthetic_day(ticks_per_second=80, symbols=["NSE:INFY", "NSE:TCS", "NSE:SBIN"])
    return day.between("2026-11-20T09:15:00+05:30", "2026-11-20T09:19:00+05:30")


class Desk:
    """A lane on a tape with a trader behind it, driven as the gateway drives one."""

    def __init__(self, trader: Trader, tape: Tape) -> None:
        self.tape, self.trader = tape, trader
        frames = [
            Frame(n, int(b.ts[-1]), len(tape.instruments), b) for n, b in enumerate(tape.blocks(500), start=1)
        ]
        self.blocks = [frame.block for frame in frames]
        account = Account(len(tape.instruments), Limits())
        self.lane = Lane(
            "Manual", list(tape.symbols), tape.instruments, capital=100_000_000, rulebook=Rulebook.load(),
            account=account, venue=trader.venue, frames=lambda after: iter(frames[after:]),
            table=lambda: tape.instruments, after=0, trade_from=0,
        )  # fmt: skip

    def order(self, row: int, symbol: str, quantity: int, stop: int | None = None) -> Reply:
        block = next(b for b in self.blocks if row < b.first + len(b))
        ts = int(block.ts[row - block.first])
        index = self.tape.symbols.index(symbol)
        before = [i for i in range(row - block.first + 1) if block.instrument[i] == index]
        reference = int(block.price[before[-1]])
        signal = Signal("Manual", row, 0, ts, symbol, quantity, reference, stop=stop)
        return self.ask(Request("run", signal.id, Place(row, ts, LAST), signal=signal))

    def ask(self, request: Request) -> Reply:
        reply = self.lane.answer(request)
        asyncio.run(self._send())
        return reply

    async def _send(self) -> None:
        venue = self.lane.venue
        for order in list(venue.pending):
            try:
                await self.trader.execute_order(order)
            except OrderRejectionError as error:
                self.trader.shelf(order).rejected(order, error.message)
            if order in venue.pending:
                venue.pending.remove(order)

    def later(self, row: int) -> Reply:
        block = next(b for b in self.blocks if row < b.first + len(b))
        return self.lane.answer(
            Request("run", f"sync:{row}", Place(row, int(block.ts[row - block.first]), LAST))
        )


TRADERS = [PaperTrader, GenerousBroker]


@pytest.mark.parametrize("kind", TRADERS)
class TestContract:
    def test_it_says_how_it_executes(self, kind: type[Trader]) -> None:
        assert kind.execution_mode in ("paper", "shadow", "live")

    def test_it_starts_and_ends(self, kind: type[Trader]) -> None:
        async def life() -> None:
            trader = kind(Settings.load(None))
            await trader.initialize()
            await trader.shutdown()

        asyncio.run(life())

    def test_an_order_meets_the_market_only_when_it_is_executed(self, kind: type[Trader], tape: Tape) -> None:
        desk = Desk(kind(), tape)
        row = 900
        block = next(b for b in desk.blocks if row < b.first + len(b))
        place = Place(row, int(block.ts[row - block.first]), LAST)
        desk.later(row)
        signal = Signal("Manual", row, 0, place.ts, "NSE:SBIN", 10, 95_000)
        reply = desk.lane.answer(Request("run", signal.id, place, signal=signal))
        assert [order.id for order in desk.lane.venue.pending] == [signal.id]
        assert reply.quiet == {"NSE:SBIN": None}
        assert not desk.lane.desk.fills

    def test_a_market_order_fills_and_the_books_hold_it(self, kind: type[Trader], tape: Tape) -> None:
        desk = Desk(kind(), tape)
        desk.order(900, "NSE:SBIN", 10)
        updates = desk.later(1_500).updates
        fills = [u for u in updates if isinstance(u, FillUpdate)]
        assert sum(fill.quantity for fill in fills) == 10
        assert fills[-1].position == 10
        assert [u.status for u in updates if isinstance(u, OrderUpdate)][-1] == "filled"
        assert desk.lane.desk.account.net[tape.symbols.index("NSE:SBIN")] == 10


def test_a_no_of_the_broker_ends_the_order(tape: Tape) -> None:
    desk = Desk(GenerousBroker(), tape)
    desk.order(900, "NSE:TCS", 10)
    (update,) = [u for u in desk.later(901).updates if isinstance(u, OrderUpdate) and u.told]
    assert (update.status, update.reason) == ("rejected", "too dear for us")
    assert not desk.lane.venue.working


def test_a_resting_order_is_cancelled_by_the_broker_not_by_us(tape: Tape) -> None:
    desk = Desk(GenerousBroker(), tape)
    reply = desk.order(900, "NSE:SBIN", 10, stop=99_000)
    order = desk.lane.order(reply.id)
    assert order is not None
    desk.lane.desk.cancel(order, "no longer wanted", order.signal.ts)
    assert order.working
    asyncio.run(desk.trader.cancel_order(order))
    assert order.status == "cancelled"


def test_the_factory_makes_one_of_each_and_ends_them() -> None:
    async def life() -> None:
        factory = TraderFactory(Settings.load(None))
        one = await factory.get("paper")
        assert isinstance(one, PaperTrader)
        assert await factory.get("paper") is one
        await factory.close()
        assert await factory.get("paper") is not one

    asyncio.run(life())


def test_an_unknown_namespace_names_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="paper"):
        trader_class("papr")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A distribution as pip would leave it, that names the example."""
    info = tmp_path / "generous-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: generous\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{GROUP}]\ngenerous = tests.example_trader:GenerousBroker\nwrong = tests.example_trader:OrderRejectionError\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


@pytest.mark.usefixtures("installed")
def test_somebody_elses_broker_is_found_by_its_entry_point() -> None:
    async def life() -> None:
        factory = TraderFactory(Settings.load(None))
        trader = await factory.get("generous")
        assert isinstance(trader, GenerousBroker)
        assert trader.session == "open"
        await factory.close()
        assert trader.session == "closed"

    asyncio.run(life())


@pytest.mark.usefixtures("installed")
def test_an_entry_point_that_names_no_trader_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="is not a Trader"):
        trader_class("wrong")

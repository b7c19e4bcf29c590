"""What a broker says of orders after the fact, brought to the runs they belong to: on record, then into the books.

A trader keeps numbered reports. Each becomes an entry of the namespace's journal with the place of the tape at which it
met its run, so that a gateway that plays its journal comes out the same; the trader is asked for those above the last
number on record, so none is lost and none counts twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from alphapanda import logs
from alphapanda.clock import wall_ns
from alphapanda.events import EventEnvelope
from alphapanda.orders import Order
from alphapanda.requests import Place
from alphapanda.state.journal import Entry
from alphapanda.traders.base import Shelf
from alphapanda.traders.reports import Report

if TYPE_CHECKING:
    from alphapanda.gateway import Gateway, Hosted

ALARMS = 50  # kept for people
MAKES_WAY = "makes way"  # how the order path says that it cancelled an exit for another
PATIENCE = 0.5  # seconds between looks where no news came


class Noted(msgspec.Struct, frozen=True):
    """A report as it is on record: where the run's lane stood when it came."""

    report: Report
    place: Place


class Hearsay:
    """Hears one gateway's trader."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.newest = 0  # number of the newest report on record
        self.alarms: deque[Report] = deque(maxlen=ALARMS)

    def replay(self, entry: Entry) -> None:
        """A report from the journal."""
        self.newest = max(self.newest, int(entry.id))
        noted = msgspec.msgpack.decode(entry.body, type=Noted)
        hosted = self._gateway.runs.get(noted.report.run)
        if hosted is not None:
            hosted.lane.advance(noted.place)
            self._apply(hosted, noted.report)

    async def listen(self, ended: asyncio.Event) -> None:
        """Until the process ends."""
        trader = self._gateway.trader
        while not ended.is_set():
            trader.news.clear()
            if trader.fault is not None:
                raise trader.fault
            for number, report in trader.reports(self.newest):
                await self._take(number, report)
            try:
                async with asyncio.timeout(PATIENCE):
                    await trader.news.wait()
            except TimeoutError:
                pass

    async def _take(self, number: int, report: Report) -> None:
        gateway = self._gateway
        async with gateway.turn:
            hosted = gateway.runs.get(report.run)
            place = hosted.lane.place if hosted is not None else Place(-1, 0, 0)
            body = msgspec.msgpack.encode(Noted(report, place))
            await gateway.durably("report", report.run, str(number), body, b"")
            self.newest = number
            if report.kind == "alarm":
                self.alarms.append(report)
                logs.channel("error").error("broker.alarm", order=report.order, detail=report.reason)
            elif hosted is not None:
                self._apply(hosted, report)
                await gateway.execute(hosted)  # exits that follow from a fill
        if hosted is not None:
            await gateway.tell(report.run, "gateway.look", self._cause(number, report), {"run": report.run})

    def _apply(self, hosted: Hosted, report: Report) -> None:
        order, shelf = hosted.lane.order(report.order), hosted.lane.venue
        if order is None or not isinstance(shelf, Shelf):
            logs.channel("error").error(
                "broker.unknown_order", order=report.order, run=report.run, kind=report.kind
            )
            return
        if report.kind == "accepted":
            shelf.accepted(order)
        elif report.kind == "filled":
            shelf.filled(order, report.quantity, report.price)
        else:
            lost = shelf.protects(order) and not report.reason.startswith(MAKES_WAY)
            end = shelf.rejected if report.kind == "rejected" else shelf.cancelled
            end(order, report.reason)
            if lost:
                self._close(hosted, order, report.reason)

    def _close(self, hosted: Hosted, stop: Order, reason: str) -> None:
        """A stop has gone that nobody withdrew (limit price protection, a closing auction): the position it stood for
        is closed at the market rather than left naked."""
        desk, product = hosted.lane.desk, stop.signal.product
        if desk.books[0].held(stop.index, product):
            if self._gateway.news:
                logs.channel("error").error("stop.lost", order=stop.id, symbol=stop.symbol, reason=reason)
            leg = f"stop-lost{stop.leg[2:]}"
            desk.square_off(stop.index, product, hosted.lane.place.ts, leg, f"its stop has gone: {reason}")

    def _cause(self, number: int, report: Report) -> EventEnvelope:
        namespace, identity = self._gateway.namespace, f"report:{number}"
        data: Any = msgspec.to_builtins(report)
        return EventEnvelope(
            id=identity, type="broker.report", ts=report.at or wall_ns(), source="gateway", namespace=namespace,
            key=report.run, correlation_id=report.order or identity, trace_id=identity, data=data,
        )  # fmt: skip

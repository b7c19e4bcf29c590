"""The gateway of one namespace: signals in, risk, the trader, order events and views out.

    python -m alphapanda.gateway WORKSPACE NAMESPACE

It alone decides what is ordered. One coroutine handles requests one after another, so a check and its order cannot
interleave with another run's. For each: the run's lane plays the tape up to the signal's place and asks the rules; the
journal gets question and answer; then the trader gets the order; then the runner hears. Killed at any point, it plays
the journal again and stands where it stood; asked the same again, it gives the recorded answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from alphapanda import logs
from alphapanda.account import Account
from alphapanda.admission import Admission, Approvals
from alphapanda.arrivals import Arrivals
from alphapanda.buses.base import Message, encode
from alphapanda.buses.redis import RedisBus
from alphapanda.buses.tapelog import TapeLog
from alphapanda.child import Child
from alphapanda.clock import monotonic, wall_ns
from alphapanda.errors import (
    AlphaPandaException,
    AuthorizationError,
    DatabaseError,
    InfrastructureError,
    OrderRejectionError,
    RedisError,
    ValidationError,
)
from alphapanda.events import DAY, EventEnvelope, Topics
from alphapanda.hearsay import Hearsay
from alphapanda.lane import Lane
from alphapanda.letters.consumer import handle_all
from alphapanda.letters.replay import is_replayed
from alphapanda.letters.statistics import ErrorStatistics, errors_key
from alphapanda.operators import Command, Operators
from alphapanda.orders import WORKING, Order
from alphapanda.requests import Reply, Request
from alphapanda.risk import Limits
from alphapanda.rulebook import Rulebook
from alphapanda.run_desk import own_limits
from alphapanda.seal import Seal
from alphapanda.server import embedded, inspect, refuse_unsafe
from alphapanda.settings import Settings
from alphapanda.state.journal import Entry, Journal
from alphapanda.traders.base import Shelf, Trader
from alphapanda.traders.factory import TraderFactory
from alphapanda.views import Views, order_events
from alphapanda.workspace import RunSpec, Workspace

SILENT = 10.0  # seconds without a word from a runner after which its lane follows the market by itself
KEPT = 10_000  # messages of each order topic that the server holds; the journal has all
POLL = 0.1  # seconds between looks at the halt flag and at lanes nobody leads


class Hosted:
    """One run at this gateway: its lane, what it asked, and when it was last heard of."""

    def __init__(self, spec: RunSpec, lane: Lane) -> None:
        self.spec = spec
        self.lane = lane
        self.asked: dict[str, tuple[bytes, bytes]] = {}  # id → question and answer
        self.unsent: dict[str, list[tuple[str, bytes]]] = {}  # id → what was to be published of it
        self.heard = monotonic()
        self.released = False  # its runner has ended for good
        self.done = False  # and nothing of it is open any more
        self.lives: set[str] = set()  # by what its runners attached: each process has its own

    def date(self, at: int) -> None:
        """What is decided from here on was decided at this wall time: a real order has to leave soon after."""
        if isinstance(self.lane.venue, Shelf):
            self.lane.venue.decided = at

    @property
    def state(self) -> str:
        """How it does, as people read it."""
        if self.lane.halt:
            return "halted"
        return "stopped" if self.released else "paused" if self.lane.paused else "running"

    @property
    def busy(self) -> bool:
        """Whether something of it still depends on the market."""
        books = self.lane.desk.books[0]
        return bool(self.lane.venue.working) or any(
            p.quantity for held in books.positions.values() for p in held
        )


class Gateway:
    """Holds a namespace's account, journal and trader, and serves its runs."""

    def __init__(
        self,
        workspace: Workspace,
        settings: Settings,
        namespace: str,
        bus: RedisBus,
        trader: Trader,
        journal: Journal,
        admission: Admission | None = None,
        seal: Seal | None = None,
    ) -> None:
        self.workspace, self.settings, self.namespace = workspace, settings, namespace
        self.bus, self.trader, self.journal = bus, trader, journal
        real = trader.execution_mode == "live"
        self.admission = admission or (Approvals(workspace, settings) if real else None)
        self.seal = seal or Seal.fresh()  # with none of the workspace's nobody is heard
        self.rulebook = Rulebook.load()
        self.account = Account(len(TapeLog(workspace.tapes).instruments()), limits_of(settings))
        self.runs: dict[str, Hosted] = {}
        self.over: set[str] = set()  # runs that ended too long ago to be played again
        self.news = (
            True  # whether what happens happens now; a run that is rebuilt to be looked at tells nobody
        )
        self.trouble = ""  # why nothing can be ordered just now, beside a halt
        self.turn = asyncio.Lock()  # held from a decision until it is on record, also while that takes long
        self._tapes: list[TapeLog] = []  # one a run, each at its own place
        self.statistics = ErrorStatistics()
        self.hearsay = Hearsay(self)
        self.operators = Operators(self)
        self.arrivals = Arrivals(self)
        self.views = Views(bus, namespace, settings.portfolio_manager.portfolio_id)
        self._audit, self._trading = logs.channel("audit"), logs.channel("trading")

    def close(self) -> None:
        """Let go of the tape's files."""
        for log in self._tapes:
            log.close()

    # ── start ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def recover(self) -> None:
        """Every run of this namespace stands where it stood; what came back is paused where a person has to look."""
        await self.replay()
        for hosted in self.runs.values():
            if not hosted.released:
                await self.arrivals.came_back(hosted)

    async def replay(self) -> None:
        """Play the journal, and write nothing."""
        count = 0
        self.over = self.journal.done_before(wall_ns() - DAY)
        for entry in self.journal.entries():
            if entry.run in self.over:
                continue
            count += 1
            await self._replay(entry)
            if count % 500 == 0:
                await asyncio.sleep(0)
        if count:
            logs.channel("application").info("gateway.recovered", entries=count, runs=len(self.runs))

    async def _replay(self, entry: Entry) -> None:
        if entry.kind == "attach":
            self.host(msgspec.json.decode(entry.body, type=RunSpec))
        elif entry.kind == "report":
            self.hearsay.replay(entry)
        elif entry.kind in ("end", "done"):
            self.runs[entry.run].released = True
            self.runs[entry.run].done = entry.kind == "done"
        elif entry.kind == "operator":
            self.operators.replay(entry)
        elif (hosted := self.runs.get(entry.run)) is not None:
            recorded = msgspec.msgpack.decode(entry.reply, type=Reply)
            request = msgspec.msgpack.decode(entry.body, type=Request)
            hosted.date(entry.at)
            again = hosted.lane.answer(request, recorded)
            if again != recorded:
                logs.channel("error").error("gateway.replay_differs", run=entry.run, request=entry.id)
            hosted.asked[entry.id] = entry.body, entry.reply
            await self.execute(hosted)

    def host(self, spec: RunSpec) -> Hosted:
        """A run of this gateway from now on. ValidationError if it wants symbols that nobody has ticks of."""
        log = TapeLog(self.workspace.tapes)
        self._tapes.append(log)
        instruments = log.instruments()
        names = {one.symbol for one in instruments} | unique(one.tradingsymbol for one in instruments)
        if unknown := [symbol for symbol in spec.symbols if symbol not in names]:
            raise ValidationError(f"no ticks of {', '.join(unknown)}", fix="see which symbols the feed has")
        self.account.widen(len(instruments))
        lane = Lane(
            spec.name,
            spec.symbols,
            instruments,
            capital=spec.capital,
            rulebook=self.rulebook,
            account=self.account,
            venue=self.trader.venue,
            frames=log.read,
            table=TapeLog(self.workspace.tapes).instruments,
            after=spec.warm_from,
            trade_from=spec.trade_from,
            limits=own_limits(spec.limits),
        )
        hosted = self.runs[spec.run] = Hosted(spec, lane)
        if isinstance(lane.venue, Shelf):
            lane.venue.run = spec.run
        return hosted

    # ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def handle(self, message: Message) -> None:
        """One message of ``signals.raw`` or ``commands``."""
        try:
            envelope = self.seal.opened(message.topic, message.body)
        except AuthorizationError as error:
            self._audit.error("message.refused", topic=message.topic, offset=message.offset, error=error)
            raise
        if envelope.namespace != self.namespace:
            raise ValidationError(
                f"a message of namespace {envelope.namespace!r} on {message.topic}",
                fix="send it to its own namespace",
                code="E_LANE",
            )
        if is_replayed(envelope) and self.trader.execution_mode != "paper":
            raise ValidationError(
                f"{envelope.id} was replayed by a person",
                fix="let the strategy decide again on a new tick",
                code="E_REPLAY",
            )
        if envelope.type == "run.attach":
            await self.arrivals.attach(envelope)
        elif envelope.type.startswith("strategy."):
            await self._request(envelope)
        elif envelope.type == "query.result":
            await self._query(envelope)
        elif envelope.type.startswith(("operator.", "run.")):
            await self.operators.handle(envelope)
        else:
            raise ValidationError(f"unknown message type {envelope.type!r}", fix="see alphapanda.gateway")

    async def _request(self, envelope: EventEnvelope) -> None:
        request = msgspec.convert(envelope.data, Request)
        hosted = self.runs.get(request.run)
        if hosted is None:
            raise ValidationError(f"run {request.run!r} is not known here", fix="let its runner attach first")
        hosted.heard = monotonic()
        if not request.urgent:
            async with self.turn:
                hosted.date(wall_ns())
                hosted.lane.advance(request.place)
                await self.execute(hosted)  # a square-off was due, a target touched
            return
        body = msgspec.msgpack.encode(request)
        known = hosted.asked.get(request.id)
        if known is not None and known[0] != body:
            conflict = f"conflicting decision: {request.id} was asked before with other content"
            self._audit.error("request.conflict", run=request.run, request=request.id)
            raw = msgspec.msgpack.encode(Reply(request.id, halt=conflict))
            await self._send(request.run, request.id, [self._reply_item(envelope, request.run, raw)])
            return
        if known is None:
            await self._decide(envelope, hosted, request, body)
        items = hosted.unsent.get(request.id) or [
            self._reply_item(envelope, request.run, hosted.asked[request.id][1])
        ]
        await self._send(request.run, request.id, items)

    async def _decide(self, envelope: EventEnvelope, hosted: Hosted, request: Request, body: bytes) -> None:
        async with self.turn:
            await self.operators.look_at_flag()
            halted = self.account.halted
            hosted.date(wall_ns())
            reply = hosted.lane.answer(request)
            raw = msgspec.msgpack.encode(reply)
            await self.durably("request", request.run, request.id, body, raw)
            hosted.asked[request.id] = body, raw
            await self.operators.look_at_flag()
            if self.account.halted and not halted:  # while the journal could not be written
                await self.operators.obey(Command("operator.cancel_all", request.run, self.account.halted))
            await self.execute(hosted)
        events = order_events(envelope, self.namespace, hosted.lane, reply, request)
        for topic, event in events:
            self._trading.info(topic.partition(".")[2], run=request.run, event_id=event.id, **_facts(event))
        published = [(topic, encode(event)) for topic, event in events]
        hosted.unsent[request.id] = [self._reply_item(envelope, request.run, raw), *published]

    async def execute(self, hosted: Hosted) -> None:
        """What is on record goes to the trader."""
        venue = hosted.lane.venue
        while venue.pending:
            order = venue.pending[0]
            try:
                if order.status in WORKING:  # else it was withdrawn while it waited
                    await self.trader.execute_order(order)
            except OrderRejectionError as error:
                self.trader.refused(order, error.message)
            with contextlib.suppress(ValueError):
                venue.pending.remove(order)
        withdrawn: list[Order] = getattr(venue, "withdrawn", [])
        while withdrawn:
            await self.trader.cancel_order(withdrawn.pop(0))
        for order in venue.resized() if isinstance(venue, Shelf) else ():
            await self.trader.resize_order(order)

    async def durably(self, kind: Any, run: str, identity: str, body: bytes, reply: bytes) -> None:
        """On record before anything follows. While the journal cannot be written everything waits here."""
        while True:
            try:
                self.journal.append(kind, run, identity, body, reply, wall_ns())
            except DatabaseError as error:
                if not self.trouble:
                    logs.channel("error").error("journal.blocked", error=error)
                self.trouble = error.message
                await asyncio.sleep(0.25)
            else:
                if self.trouble:
                    logs.channel("error").error("journal.writable_again")
                    self.trouble = ""
                return

    def _reply_item(self, envelope: EventEnvelope, run: str, raw: bytes) -> tuple[str, bytes]:
        answer = envelope.child(
            id=f"{envelope.id}/reply", type="gateway.reply", ts=envelope.ts, source="gateway", data=raw
        )
        return (topic := f"{self.namespace}.runs.{run}"), self.seal.sealed(topic, answer)

    async def _send(self, run: str, identity: str, items: list[tuple[str, bytes]]) -> None:
        await self.bus.publish_all(items, bound=KEPT)
        if (hosted := self.runs.get(run)) is not None:
            hosted.unsent.pop(identity, None)

    async def tell(self, run: str, kind: str, cause: EventEnvelope, data: dict[str, Any]) -> None:
        event = cause.child(id=f"{cause.id}/{kind}", type=kind, ts=cause.ts, source="gateway", data=data)
        topic = f"{self.namespace}.runs.{run}"
        await self.bus.publish(topic, self.seal.sealed(topic, event), bound=KEPT)

    async def _query(self, envelope: EventEnvelope) -> None:
        """The whole result of a run so far, for frames and reports."""
        query = msgspec.convert(envelope.data, dict[str, str])
        wanted, reply_to = self.runs.get(query["run"]), query["reply_to"]
        if not re.fullmatch(rf"{self.namespace}\.replies\.[\w.-]{{1,200}}", reply_to, re.ASCII):
            raise ValidationError(
                f"an answer on {reply_to[:60]!r}",
                fix=f"ask for it on {self.namespace}.replies.NAME",
                code="E_LANE",
            )
        body = b"" if wanted is None else msgspec.msgpack.encode(wanted.lane.engine.outcome())
        await self.bus.publish(reply_to, body, bound=4)

    # ── beside the messages ──────────────────────────────────────────────────────────────────────────────────────

    async def watch(self, ended: asyncio.Event) -> None:
        """Look at the halt flag, play lanes that nobody leads, and keep the views fresh."""
        shown, looked = 0.0, monotonic()
        while not ended.is_set():
            deaf, looked = monotonic() - looked, monotonic()
            if self.trouble or deaf > 10 * POLL:  # we did not listen: nobody was silent
                for hosted in self.runs.values():
                    hosted.heard += deaf
            if not self.turn.locked():
                async with self.turn:
                    await self.operators.look_at_flag()
                    await self._follow()
                    await self.note_done()
                await self.arrivals.end_of_approvals()
            if monotonic() - shown >= 0.25:
                shown = monotonic()
                with contextlib.suppress(RedisError):
                    await self.views.show(self)
                    await self._show_errors()
            await asyncio.sleep(POLL)

    async def _follow(self) -> None:
        for hosted in self.runs.values():
            alone = hosted.released or monotonic() - hosted.heard > SILENT
            if alone and hosted.busy:
                hosted.date(wall_ns())
                hosted.lane.follow()
                await self.execute(hosted)

    async def note_done(self) -> None:
        """A run that has ended, with nothing open any more, is over: a day later no start plays it again."""
        for run, hosted in self.runs.items():
            if hosted.released and not hosted.done and not hosted.busy:
                await self.durably("done", run, "", b"", b"")
                hosted.done = True

    async def _show_errors(self) -> None:
        await self.bus.client.set(errors_key(self.namespace), self.statistics.to_json())

    def health(self) -> dict[str, Any]:
        """What the heartbeat says."""
        account, trouble = self.account, self.trouble or self.trader.trouble
        if account.halted:
            state = "halted"
        elif account.reduces:
            state = "reducing"
        else:
            state = "blocked" if trouble else "serving"
        return {
            "state": state, "namespace": self.namespace, "trouble": trouble,
            "detail": account.halted or trouble or account.reduces,
            "runs": sum(not h.released for h in self.runs.values()), "orders_today": self.account.orders_today,
            "mode": self.trader.execution_mode,
        }  # fmt: skip


def unique(names: Iterable[str]) -> set[str]:
    """Those that occur once."""
    return {name for name, count in Counter(names).items() if count == 1}


def _facts(event: EventEnvelope) -> dict[str, Any]:
    data: dict[str, Any] = event.data
    return {k: data[k] for k in ("symbol", "quantity", "price_units", "status", "reason") if k in data}


def limits_of(settings: Settings) -> Limits:
    """The namespace's limits, from the settings."""
    risk = settings.risk
    return Limits(
        order_quantity=risk.max_order_quantity,
        order_slices=risk.max_order_slices,
        order_notional=risk.max_order_notional,
        position_notional=risk.max_position_notional,
        gross_exposure=risk.max_gross_exposure,
        price_band=risk.price_band_percent / 100,
        orders_per_second=risk.orders_per_second,
        orders_per_minute=risk.orders_per_minute,
        orders_per_day=risk.orders_per_day,
        strategy_orders_per_second=risk.strategy_orders_per_second,
        strategy_orders_per_minute=risk.strategy_orders_per_minute,
        daily_loss=risk.max_daily_loss,
        drawdown=risk.max_drawdown / 100 * settings.paper_trading.starting_cash,
        duplicate_seconds=risk.duplicate_window_ms / 1000,
        stale_seconds=settings.monitoring.stale_tick_seconds,
        instruments=risk.allowed_instruments or None,
    )


async def serve(workspace: Workspace, namespace: str) -> int:
    """Run a gateway until its parent goes or it is told to stop."""
    child = Child(workspace, f"gateway:{namespace}", namespace)
    bus = await child.connect()
    factory = TraderFactory(child.settings)
    journal = Journal(workspace.journal(namespace))
    try:
        if not embedded(child.settings) and (warning := refuse_unsafe(await inspect(bus.client), namespace)):
            logs.channel("error").warning("server.unsafe", detail=warning)
        trader = await factory.get(namespace)
        gateway = Gateway(workspace, child.settings, namespace, bus, trader, journal, seal=Seal.of(workspace))
        await gateway.recover()
        topics = [Topics.of(namespace, "signals.raw"), f"{namespace}.commands"]
        work = bus.work(topics, "gateway", "gateway", idle=2.0)
        child.ready()
        async with asyncio.TaskGroup() as group:
            group.create_task(child.beat(bus, gateway.health))
            group.create_task(gateway.watch(child.ended))
            group.create_task(gateway.hearsay.listen(child.ended))
            group.create_task(
                handle_all(bus, work, gateway.handle, statistics=gateway.statistics, until=child.ended)
            )
    finally:
        await factory.close()
        journal.close()
        await bus.close()
        logs.close()
    return 0


def main() -> int:
    """``python -m alphapanda.gateway WORKSPACE NAMESPACE``."""
    if len(sys.argv) != 3:
        sys.stderr.write("usage: python -m alphapanda.gateway WORKSPACE NAMESPACE\n")
        return 2
    try:
        return asyncio.run(serve(Workspace(Path(sys.argv[1])), sys.argv[2]))
    except AlphaPandaException as error:
        logs.channel("error").error("gateway.ended", error=error)
        sys.stderr.write(f"{error.message} [{error.code}]{error.fix and '; '}{error.fix}\n")
        return 1 if isinstance(error, InfrastructureError) else 78


if __name__ == "__main__":
    raise SystemExit(main())

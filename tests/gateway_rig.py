"""A gateway in this process: journal and tape log are real files, the bus is a list, its runners are halves of runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

import alphapanda as ap
from alphapanda.buses.base import Message, decode
from alphapanda.buses.frames import Frame
from alphapanda.buses.tapelog import Writer
from alphapanda.events import EventEnvelope
from alphapanda.gateway import Gateway
from alphapanda.lane import Lane
from alphapanda.orders import Order
from alphapanda.requests import Reply, Request
from alphapanda.settings import Settings
from alphapanda.state.client import open_client
from alphapanda.state.journal import Journal
from alphapanda.tapes.tape import Tape
from alphapanda.traders.base import Trader
from alphapanda.traders.paper import PaperTrader
from alphapanda.workspace import RunSpec, Workspace
from tests.build import CRORE
from tests.test_lane import Half


class Told:
    """A bus that keeps what is published."""

    def __init__(self, server: Path, settings: Settings) -> None:
        self.client = open_client(server, settings.redis)  # nobody answers there
        self.heard: list[tuple[str, EventEnvelope]] = []

    async def publish(self, topic: str, body: bytes, **_: Any) -> None:
        self.heard.append((topic, decode(body)))

    async def publish_all(self, items: Iterable[tuple[str, bytes]], **_: Any) -> None:
        for topic, body in items:
            self.heard.append((topic, decode(body)))


class Desk:
    """One workspace with a tape of one row a frame, and the gateway that serves it now."""

    def __init__(self, root: Path, tape: Tape) -> None:
        self.workspace, self.tape = Workspace(root), tape
        self.settings = Settings.load(None)
        (block,) = tape.blocks(10**9)
        count = len(tape.instruments)
        self.frames = [Frame(n + 1, block.ts.item(n), count, block.rows(n, n + 1)) for n in range(len(block))]
        with contextlib.closing(Writer(self.workspace.tapes)) as log:
            log.widen(tape.instruments)
            for frame in self.frames:
                log.append(frame)
        self.lives = 0
        self.trader: Trader = PaperTrader(self.settings)
        self.gateway: Gateway
        self.bus: Told

    @contextlib.contextmanager
    def up(self, trader: type[Trader] = PaperTrader, **more: Any) -> Iterator[Gateway]:
        """A life of the gateway, from its journal on; the end of the block is a crash."""
        self.bus, self.trader = Told(self.workspace.server_socket, self.settings), trader(self.settings)
        journal = Journal(self.workspace.journal("paper"))
        bus: Any = self.bus
        self.gateway = Gateway(self.workspace, self.settings, "paper", bus, self.trader, journal, **more)
        try:
            asyncio.run(self.gateway.recover())
            yield self.gateway
        finally:
            journal.close()
            for hosted in self.gateway.runs.values():
                hosted.lane._frames.__self__.close()  # pyright: ignore - the end of a process would close it

    def lane(self, run: str = "bold-1") -> Lane:
        """A run's lane now."""
        return self.gateway.runs[run].lane

    def hear(self, kind: str, data: Any, identity: str = "") -> list[EventEnvelope]:
        """Hand the gateway a message; returns what it told runs because of it."""
        self.lives += 1
        identity = identity or f"{kind}:{self.lives}"
        event = EventEnvelope(
            id=identity, type=kind, ts=1, source="test", namespace="paper", key="", correlation_id="c", trace_id="c",
            data=data,
        )  # fmt: skip
        before = len(self.bus.heard)
        topic = "paper.commands"
        asyncio.run(self.gateway.handle(Message(topic, "1", self.gateway.seal.sealed(topic, event))))
        return [event for topic, event in self.bus.heard[before:] if ".runs." in topic]

    def attach(self, identity: str = "", **fields: Any) -> EventEnvelope:
        """A runner attaches; what it is told."""
        spec = RunSpec(
            run="bold-1", namespace="paper", name="bold-1", class_name="Bold", digest="d", symbols=["NSE:INFY"],
            capital=CRORE, warm_from=0,
        )  # fmt: skip
        spec = msgspec.structs.replace(spec, **fields)
        (self.workspace.runs / spec.run).mkdir(exist_ok=True)  # as the hub lays it out
        told = self.hear("run.attach", msgspec.to_builtins(spec), identity)
        return next(event for event in told if event.type in ("run.attached", "run.refused"))

    def command(self, kind: str, run: str = "bold-1", reason: str = "") -> list[EventEnvelope]:
        """A person's command."""
        return self.hear(kind, {"run": run, "reason": reason, "by": "a person"})

    def ask(self, request: Request) -> Reply:
        """A runner's question, answered."""
        told = self.hear("strategy.sync", msgspec.to_builtins(request))
        (reply,) = [event.data for event in told if event.type == "gateway.reply"]
        return msgspec.msgpack.decode(reply, type=Reply)

    def half(self, strategy: ap.Strategy) -> Half:
        """The runner's half of the run."""
        return Half(strategy, self.tape.instruments, lambda request: self.ask(request))

    def orders(self, run: str = "bold-1") -> list[tuple[str, int, str, str]]:
        """Leg, signed quantity, status and reason of every order of a run."""
        return [told(order) for order in self.lane(run).desk.orders]


def told(order: Order) -> tuple[str, int, str, str]:
    """An order, briefly."""
    return order.leg, order.target, order.status, order.reason

"""A run's whole record, asked of its gateway: a ``Result`` for the report, the tape it traded on, and why an order was.

The gateway holds the books of every run of its namespace, ended ones included; it answers on a topic made for the
question, which is removed again.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec
import redis

from alphapanda.buses.base import encode
from alphapanda.buses.tapelog import TapeLog
from alphapanda.clock import monotonic, pause, wall_ns
from alphapanda.errors import InfrastructureError, RedisError, UnknownNameError
from alphapanda.events import Block, EventEnvelope, Fill
from alphapanda.instruments import Instrument
from alphapanda.money import rupees
from alphapanda.orders import DENIED, Order
from alphapanda.report import page, text
from alphapanda.report.page import Column
from alphapanda.result import Result
from alphapanda.workspace import Workspace

if TYPE_CHECKING:
    import polars as pl

QUERY = "query.result"
ANSWER_SECONDS = 8.0
_numbers = itertools.count(1)


def ask_result(
    open_client: Callable[[], redis.Redis], namespace: str, run: str, client: str
) -> Result | None:
    """What the gateway knows of a run; None before the run has reached it.

    Raises RedisError if the server, InfrastructureError if the gateway does not answer.
    """
    reply_to = f"{namespace}.replies.{os.getpid()}-{wall_ns()}-{next(_numbers)}"
    envelope = EventEnvelope(
        id=reply_to,
        type=QUERY,
        ts=wall_ns(),
        source=client,
        namespace=namespace,
        key=run,
        correlation_id=reply_to,
        trace_id=reply_to,
        data={"run": run, "reply_to": reply_to},
    )
    server: Any = open_client()  # redis-py leaves what streams return untyped
    try:
        server.xadd(f"{namespace}.commands", {"b": encode(envelope)})
        until, found = monotonic() + ANSWER_SECONDS, []
        while not (found := server.xrange(reply_to, count=1)) and monotonic() < until:
            pause(0.02)
        server.unlink(reply_to)
    except redis.RedisError as error:
        raise RedisError(
            f"the record of {run} cannot be read: {error}",
            fix="see whether the server runs: `alphapanda status`",
        ) from error
    finally:
        server.close()
    if not found:
        raise InfrastructureError(
            f"the gateway of {namespace} does not answer",
            fix="see `alphapanda status`; it answers again when it has started",
            code="E_GATEWAY_SILENT",
        )
    body: bytes = found[0][1][b"b"]
    return msgspec.msgpack.decode(body, type=Result) if body else None


class LivePrices:
    """The ticks that the feed wrote down since a run began, for a report's price lines."""

    def __init__(self, workspace: Workspace, after: int) -> None:
        self._workspace, self._after = workspace, after
        self._instruments: tuple[Instrument, ...] = ()

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """The feed's table, which a block's instrument indexes point into."""
        if not self._instruments:
            self._instruments = TapeLog(self._workspace.tapes).instruments()
        return self._instruments

    def find(self, row: int) -> tuple[Block, int] | None:
        """The block that holds a row of the tape, and where in it; None if it is not kept."""
        for block in self.blocks():
            if row < block.first + len(block):
                return (block, row - block.first) if row >= block.first else None
        return None

    def blocks(self, size: int = 0) -> Iterator[Block]:
        """The ticks in order, as they were published: ``size`` is not asked about."""
        log = TapeLog(self._workspace.tapes)
        try:
            for frame in log.read(self._after):
                if len(frame.block):
                    yield frame.block
        finally:
            log.close()


# ── why ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Step(msgspec.Struct, frozen=True):
    """One link of the chain: what happened, when, and what it was."""

    what: str
    ts: int
    id: str
    detail: str


class Chain:
    """Why an order is as it is: from the tick that caused it to what became of it, as a table."""

    def __init__(self, order: Order, steps: list[Step]) -> None:
        self.order, self.steps = order, steps

    @cached_property
    def frame(self) -> pl.DataFrame:
        """The chain as a frame."""
        from alphapanda.report import frames

        columns = [
            frames.Column("what", "text", lambda s: s.what),
            frames.Column("ts", "time", lambda s: s.ts or None),
            frames.Column("id", "text", lambda s: s.id),
            frames.Column("detail", "text", lambda s: s.detail),
        ]
        return frames.to_frame(self.steps, columns)

    def __repr__(self) -> str:
        lines = [
            f"{text.moment(s.ts):<16} {s.what:<8} {text.one_line(s.detail)}".rstrip() for s in self.steps
        ]
        return "\n".join([f"why {self.order.id}", *lines])

    def _repr_html_(self) -> str:
        columns = [
            Column("", lambda s: s.what),
            Column("time", lambda s: text.moment(s.ts)),
            Column("what happened", lambda s: text.one_line(s.detail, 400), "w"),
            Column("id", lambda s: s.id),
        ]
        return f'<style>{page.CSS}</style><div class="ap">{page.table(self.steps, columns)}</div>'


def order_id(order: Any) -> str:
    """What a person pointed at: an order, its id, or a row of a frame (a dict)."""
    if isinstance(order, str):
        return order
    if isinstance(order, dict):
        return str(order.get("order_id") or order.get("id") or "")  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    return str(getattr(order, "order_id", None) or getattr(order, "id", order))


def why(result: Result, wanted: str, prices: LivePrices) -> Chain:
    """The chain of one order."""
    orders = {order.id: order for order in result.orders}
    if wanted not in orders:
        raise UnknownNameError("order", wanted, orders)
    order = orders[wanted]
    signal, fills = order.signal, [fill for fill in result.fills if fill.order_id == order.id]
    steps = [_cause(order, prices)]
    if order.parent_id or order.leg:
        steps.append(Step("parent", signal.ts, order.parent_id, f"this order is its {order.leg or 'exit'}"))
    else:
        steps.append(Step("signal", signal.ts, signal.id, _wanted(order)))
    denied = order.status == DENIED
    steps.append(Step("risk", signal.ts, "", f"denied: {order.reason}" if denied else "passed every rule"))
    if not denied:
        steps += [_filled(order, fill) for fill in fills]
        reason = f": {order.reason}" if order.reason else ""
        done = (
            f"{text.whole(abs(order.filled))} of {text.whole(max(order.quantity, abs(order.filled)))} filled"
        )
        steps.append(Step("order", order.end_ts or signal.ts, order.id, f"{order.status}{reason}, {done}"))
        paid = sum(sum(fill.charges) for fill in fills)
        booked = sum(fill.realized for fill in fills)
        if fills:
            made = f", {text.signed(booked)} realized before them" if booked else ""
            steps.append(Step("money", fills[-1].ts, "", f"{rupees(paid)} charges{made}"))
    return Chain(order, steps)


def _cause(order: Order, prices: LivePrices) -> Step:
    """The row of the tape at which the strategy decided."""
    signal = order.signal
    found = prices.find(signal.seq)
    if found is None:
        seen = f"{signal.symbol} last traded at {text.price(signal.reference, order.instrument.price_scale)}"
        return Step("event", signal.ts, f"row {signal.seq}", seen)
    block, row = found
    ticked = prices.instruments[int(block.instrument[row])]
    price = text.price(int(block.price[row]), ticked.price_scale)
    return Step("tick", int(block.ts[row]), f"row {signal.seq}", f"{ticked.symbol} at {price}")


def _wanted(order: Order) -> str:
    signal, scale = order.signal, order.instrument.price_scale
    side = "buy" if signal.quantity > 0 else "sell"
    facts = [f"{side} {text.whole(abs(signal.quantity))} {signal.symbol} {order.kind}"]
    named = (("limit", signal.limit), ("stop", signal.stop), ("sl", signal.sl), ("tp", signal.tp))
    facts += [f"{name} {text.price(units, scale)}" for name, units in named if units is not None]
    facts += [f"last price {text.price(signal.reference, scale)}", signal.product, signal.validity]
    facts += [f"tag {text.one_line(signal.tag, 40)}"] if signal.tag else []
    return ", ".join(facts)


def _filled(order: Order, fill: Fill) -> Step:
    scale = order.instrument.price_scale
    slipped = (fill.price_units - fill.reference) * (1 if fill.quantity > 0 else -1)
    told = (
        f", {text.price(abs(slipped), scale)} {'worse' if slipped > 0 else 'better'} than the last price"
        if slipped
        else ""
    )
    detail = (
        f"{text.whole(abs(fill.quantity))} at {text.price(fill.price_units, scale)}{told}, "
        f"charges {rupees(sum(fill.charges))}, position {text.whole(fill.position)}"
    )
    return Step("fill", fill.ts, fill.id, detail)

"""What strategies wanted lately and what risk said to it, read from the topics when somebody asks."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from alphapanda.buses.base import decode
from alphapanda.errors import AlphaPandaException, RedisError
from alphapanda.events import EventEnvelope, Topics

if TYPE_CHECKING:
    from alphapanda.buses.redis import RedisBus

NEWEST = 500  # of each namespace
KEPT = 20  # namespaces whose last answer is remembered
TOPICS = ("signals.validated", "signals.rejected")


class Signal(msgspec.Struct, frozen=True):
    """What a strategy wanted. ``decision``: validated, or rejected for this ``reason``; ``order``: what it became."""

    id: str
    namespace: str
    run: str
    strategy: str
    symbol: str
    side: str
    quantity: int
    decision: str
    reason: str = ""
    kind: str = "MARKET"
    ts: int = 0
    order: str = ""
    correlation_id: str = ""


class Signals:
    """Asks the server; what it said last where it does not answer."""

    def __init__(self, bus: RedisBus) -> None:
        self._bus = bus
        self._last: OrderedDict[str, list[Signal]] = OrderedDict()

    async def newest(self, namespaces: Iterable[str]) -> tuple[list[Signal], bool]:
        """Signals of these namespaces, newest first, and whether they are what was read before. RedisError if the
        server does not answer and there is nothing of before."""
        found: list[Signal] = []
        stale = False
        for namespace in namespaces:
            try:
                self._last[namespace] = await self._read(namespace)
            except RedisError:
                if namespace not in self._last:
                    raise
                stale = True
            found += self._last[namespace]
            self._last.move_to_end(namespace)
            while len(self._last) > KEPT:
                self._last.popitem(last=False)
        return sorted(found, key=lambda one: one.ts, reverse=True), stale

    async def _read(self, namespace: str) -> list[Signal]:
        topics = [Topics.of(namespace, name) for name in TOPICS]
        asked = (
            self._bus.ask("read", [one], ("XREVRANGE", one, "+", "-", "COUNT", NEWEST)) for one in topics
        )
        replies: Any = await asyncio.gather(*asked)
        found: list[Signal] = []
        for entries in replies:
            for _, fields in entries:
                try:
                    found.append(_signal(decode(_body(fields))))
                except (AlphaPandaException, KeyError, TypeError, ValueError):
                    continue  # its consumer has written a dead letter of it
        return sorted(found, key=lambda one: one.ts, reverse=True)[:NEWEST]


def _body(fields: Any) -> bytes:
    """An entry's one field, however the client hands it over."""
    return fields[b"b"] if hasattr(fields, "keys") else fields[1]


def _signal(event: EventEnvelope) -> Signal:
    data: dict[str, Any] = event.data
    return Signal(
        event.id, event.namespace, event.key, data["strategy"], data["symbol"], data["side"],
        abs(int(data["quantity"])), event.type.rpartition(".")[2], str(data.get("reason") or ""), data["kind"],
        event.ts, str(data.get("order") or ""), event.correlation_id,
    )  # fmt: skip

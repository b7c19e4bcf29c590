"""What the hub says on the server and hears there, and what people tell a gateway: heartbeats, commands, documents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from alphapanda.clock import wall_ns
from alphapanda.events import EventEnvelope
from alphapanda.feeds.views import SUBSCRIPTIONS
from alphapanda.processes import HEALTH_SECONDS
from alphapanda.seal import Seal
from alphapanda.settings import RedisSettings
from alphapanda.state.client import open_client, text, told

if TYPE_CHECKING:
    from redis.asyncio import Redis

Command = Literal[
    "operator.halt", "operator.resume", "operator.pause", "operator.unpause", "operator.cancel_all", "operator.flatten",
    "operator.settle", "run.release",
]  # fmt: skip


class Pulse:
    """What the hub says on the server and hears there: heartbeats, who wants which symbols, commands, documents.

    ``subscriptions`` (holder: symbols) is what the server should hold; it is put right again and again, so that a
    server that lost everything has it a moment later. Every failure is a RedisError.
    """

    def __init__(self, address: str | Path, settings: RedisSettings) -> None:
        self.client = open_client(address, settings)
        self.subscriptions: dict[str, list[str]] = {}
        self.health: dict[str, dict[str, Any]] = {}
        self.trouble = ""  # the server answers, and refuses to write

    async def beat(self, own: dict[str, Any], roles: Iterable[str]) -> None:
        """Leave the hub's heartbeat, read the others'."""
        names = list(roles)
        with told("heartbeat"):
            async with self.client.pipeline(transaction=False) as line:
                line.set("health:hub", msgspec.json.encode(own), ex=HEALTH_SECONDS)
                line.mget([f"health:{name}" for name in names] or ["health:hub"])
                wrote, found = await line.execute(raise_on_error=False)
            if isinstance(found, Exception):
                raise found
            self.trouble = str(wrote) if isinstance(wrote, Exception) else ""
            self.health = {name: document(body) for name, body in zip(names, found, strict=False) if body}

    async def subscribe(self) -> None:
        """Put the subscriptions right."""
        with told("subscriptions", SUBSCRIPTIONS):
            found = await self.client.hgetall(SUBSCRIPTIONS)
        here = {text(holder): body for holder, body in found.items()}
        wanted: dict[Any, Any] = {
            holder: msgspec.json.encode(symbols) for holder, symbols in self.subscriptions.items()
        }
        changed = {holder: body for holder, body in wanted.items() if here.get(holder) != body}
        gone = [holder for holder in here if holder not in wanted]
        if changed or gone:
            with told("subscriptions", SUBSCRIPTIONS):
                line = self.client.pipeline()
                if changed:
                    line.hset(SUBSCRIPTIONS, mapping=changed)
                if gone:
                    line.hdel(SUBSCRIPTIONS, *gone)
                await line.execute()

    async def documents(self, keys: Sequence[str]) -> list[dict[str, Any]]:
        """Views as their writers left them; empty where there is none."""
        with told("documents"):
            found = await self.client.mget(keys) if keys else []
        return [document(body) if body else {} for body in found]


def document(body: bytes | str) -> dict[str, Any]:
    """A view's JSON; empty if it is none."""
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.MsgspecError:
        return {}


async def send_command(
    client: Redis, seal: Seal, namespace: str, kind: Command, run: str, reason: str, by: str, order: str = ""
) -> None:
    """Tell a namespace's gateway what a person or the hub wants of it; ``run`` empty: of all its runs."""
    at, topic = wall_ns(), f"{namespace}.commands"
    told_as = f"{by}:{kind}:{run}:{at}"
    envelope = EventEnvelope(
        id=told_as,
        type=kind,
        ts=at,
        source=by,
        namespace=namespace,
        key=run,
        correlation_id=told_as,
        trace_id=told_as,
        data={"run": run, "reason": reason, "by": by, "order": order},
    )
    with told("command", kind, namespace):
        await client.xadd(topic, {"b": seal.sealed(topic, envelope)})

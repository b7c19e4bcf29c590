"""Ten thousand messages that nobody should send, and what must not have come of them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import msgspec

from alphapanda.events import EventEnvelope, Signal, Topics
from alphapanda.requests import Place, Request

if TYPE_CHECKING:
    import redis

    from alphapanda.seal import Seal

OWN = "paper"
TOPICS = (Topics.of(OWN, "signals.raw"), f"{OWN}.commands")
NAMESPACES = (
    "zerodha", "other", "", "PAPER", "paper ", "paper:run", "../paper", "market", "paper\0", "health", "*",
)  # fmt: skip
RUNS = (
    "", "../../etc/passwd", "x:y", "zerodha:run:1", "run\n1", "\0", "*", "ghost-2", "Ghost-1", "zerodha.commands",
    "\u202egnp", "a" * 5000, "paper.runs.x", " ", "{x}", "health:hub", "ghost run", "%s", "; FLUSHALL",
)  # fmt: skip
TYPES = (
    "strategy.signal", "strategy.cancel", "strategy.halt", "strategy.sync", "strategy.progress", "run.attach",
    "run.release", "operator.halt", "operator.cancel_all", "operator.flatten", "operator.resume", "query.result",
)  # fmt: skip
STRANGE = (
    "", "x", "operator.", "operator.nuke", "run.stop", "run.attach ", "market.tick", "query", "orders.filled",
)  # fmt: skip
ANSWERS = (
    "zerodha.commands", "zerodha.runs.x", "zerodha:run:x", "market.clock", "market.equity.ticks", "paper.commands",
    "paper.signals.raw", "paper:run:busy-1", "health:hub", "", "paper.replies.", "paper.replies.\n", "x" * 1000,
)  # fmt: skip
SENTINELS = ("zerodha:run:x", "zerodha:portfolio:main", "other:run:x", "paper2:run:x", "alpaca:health")


class Hostile:
    """Draws messages, throws them at a gateway's own topics, and counts. ``victim`` is a run that must not notice;
    ``seal`` is the workspace's, so that what is wrong with a message is looked at and not only its seal."""

    def __init__(self, draw: random.Random, victim: str, seal: Seal) -> None:
        self.draw, self.victim, self.seal = draw, victim, seal
        self.thrown = 0
        self.ignored = 0  # by design: to let go of a run that was never there
        self._kept: dict[bytes, Any] = {}

    def prepare(self, server: redis.Redis) -> None:
        """Leave something of other namespaces lying about, and remember it."""
        for name in SENTINELS:
            server.set(name, "not yours")
        for name in ("zerodha.commands", "zerodha.signals.raw", "zerodha.runs.x", "other.signals.raw"):
            server.xadd(name, {"b": b"not yours"})
        self._kept = {key: server.dump(key) for key in self._foreign(server)}

    def throw(self, server: redis.Redis, count: int) -> None:
        """So many messages, in one go."""
        line = server.pipeline(transaction=False)
        for _ in range(count):
            torn, topic = self.draw.random() < 0.01, self.draw.choice(TOPICS)
            line.xadd(topic, {"c": b"x"} if torn else {"b": self._message(topic)})
        line.execute()
        self.thrown += count

    def twice(self, server: redis.Redis) -> None:
        """A good command, as it comes when the gateway dies between doing it and saying so."""
        message = self._sent(TOPICS[1], OWN, "operator.resume", {"run": "", "reason": "twice"})
        for _ in range(2):
            server.xadd(TOPICS[1], {"b": message})

    def taken(self, server: redis.Redis) -> bool:
        """Whether the gateway has come to the end of all of them."""
        groups = [group for topic in TOPICS for group in self._rows(server.xinfo_groups(topic))]
        return bool(groups) and all(group["lag"] == 0 and group["pending"] < 5 for group in groups)

    def letters(self, server: redis.Redis) -> int:
        """How many lie among the dead letters."""
        return sum(int(server.xlen(Topics.dead_letters(topic))) for topic in TOPICS)  # pyright: ignore[reportArgumentType]

    def violations(self, server: redis.Redis) -> list[str]:
        """What should not be on the server."""
        found = [f"{key!r} has changed" for key, was in self._kept.items() if server.dump(key) != was]
        found += [f"{key!r} is new" for key in self._foreign(server) if key not in self._kept]
        made = [run.encode() for run in RUNS if len(run) > 1]
        own = [key for key in self._keys(server) if key.startswith(OWN.encode())]
        return found + [f"{key!r} was made for a stranger" for key in own if any(run in key for run in made)]

    # ── what is thrown ───────────────────────────────────────────────────────────────────────────────────────────

    def _message(self, topic: str) -> bytes:
        draw, kind = self.draw, self.draw.random()
        if kind < 0.15:
            return self._junk(topic)
        if kind < 0.45:  # to somebody else, and sound but for that
            return self._sent(topic, draw.choice(NAMESPACES), draw.choice(TYPES), self._data(self.victim))
        if kind < 0.6:
            return self._sent(topic, OWN, draw.choice(STRANGE), self._data(self.victim))
        if kind < 0.7:
            return self._sent(
                topic, OWN, draw.choice([t for t in TYPES if t != "run.release"]), self._value(0)
            )
        name, run = draw.choice(TYPES), draw.choice(RUNS[1:])
        self.ignored += name == "run.release"
        return self._sent(topic, OWN, name, self._data(run))

    def _sent(self, topic: str, namespace: str, name: str, data: Any) -> bytes:
        text, ts = self._text(), self.draw.randrange(-(2**63), 2**63)
        key = self.draw.choice((text, self.victim))
        event = EventEnvelope(
            id=text, type=name, ts=ts, source="x", namespace=namespace, key=key, correlation_id=text, trace_id="",
            data=data,
        )  # fmt: skip
        return self.seal.sealed(topic, event)

    def _data(self, run: str) -> dict[str, Any]:
        """What each type of event carries, for a run; a bit of everything, so that any type finds its own."""
        place = Place(self.draw.randrange(2**40), self.draw.randrange(2**62), 7)
        signal = Signal(self._text(), 1, 0, place.ts, "NSE:INFY", self.draw.randrange(-(10**6), 10**6), 100)
        request = Request(run, self._text(), place, signal=signal, urgent=self.draw.random() < 0.5)
        return {
            **msgspec.to_builtins(request), "reply_to": self.draw.choice(ANSWERS), "reason": self._text(),
            "namespace": self.draw.choice((OWN, *NAMESPACES)), "name": "Busy", "class_name": "Busy", "digest": "x",
            "symbols": ["NSE:NOSUCHSHARE" if run == "ghost-2" else "NSE:INFY"], "capital": 10**8, "warm_from": 0,
        }  # fmt: skip

    def _junk(self, topic: str) -> bytes:
        draw = self.draw
        whole = self._sent(topic, OWN, "strategy.signal", self._data(self.victim))
        noise, part = draw.randbytes(draw.randrange(1, 200)), whole[: draw.randrange(1, len(whole))]
        other = (
            msgspec.msgpack.encode([1, 2, 3]),
            msgspec.msgpack.encode({"type": 1}),
            b'{"namespace": "paper"}',
        )
        return draw.choice((b"", noise, part, b"\x91" * 3000, *other))

    def _value(self, depth: int) -> Any:
        """Anything but what is asked for."""
        draw = self.draw
        if depth < 3 and draw.random() < 0.5:
            inner = [self._value(depth + 1) for _ in range(draw.randrange(4))]
            keys = draw.sample(("run", "reason", "id", "place", "reply_to", "signal", "do"), len(inner))
            made = dict(zip(keys, inner, strict=True))
            return draw.choice((inner, {"run": [self.victim]} | made if "run" not in made else made))
        return draw.choice((None, True, -1, 2**63, 1e308, float("nan"), b"\xff", [], [[]], self._text()))

    def _text(self) -> str:
        return f"{self.draw.choice(RUNS)[:100]}{self.draw.randrange(10**9)}"

    # ── what there is ────────────────────────────────────────────────────────────────────────────────────────────

    def _foreign(self, server: redis.Redis) -> list[bytes]:
        own = (b"paper:", b"paper.", b"market:", b"market.", b"health:")
        return [key for key in self._keys(server) if not key.startswith(own)]

    @staticmethod
    def _keys(server: redis.Redis) -> list[bytes]:
        return sorted(server.scan_iter(count=1000))

    @staticmethod
    def _rows(found: Any) -> list[dict[str, Any]]:
        return found

"""Every message has exactly one ending: it is handled, or it lies on the dead-letter topic with all that is known."""

import argparse
import asyncio
import contextlib
import io
import json
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from alphapanda.buses.base import Bus, Message, decode, encode
from alphapanda.buses.memory import MemoryBus
from alphapanda.buses.redis import RedisBus
from alphapanda.clock import wall_ns
from alphapanda.commands.dlq import REFUSED, add_arguments, command
from alphapanda.errors import (
    AlphaPandaException,
    AuthenticationError,
    BrokerError,
    OrderTimeoutError,
    RedisError,
    RetryPolicy,
    RiskValidationError,
    StrategyExecutionError,
    TransientError,
    UnknownNameError,
    ValidationError,
)
from alphapanda.events import DAY, IST_OFFSET_NS, MINUTE, SECOND, EventEnvelope, Topics
from alphapanda.letters import consumer, dead_letters
from alphapanda.letters.consumer import Consumer, handle_all
from alphapanda.letters.dead_letters import DeadLetter, discard, inspect, letters
from alphapanda.letters.replay import Replay, is_replayed, replay
from alphapanda.letters.statistics import ErrorStatistics, errors_key
from alphapanda.letters.verdicts import classify
from alphapanda.logs.redaction import register_secret
from alphapanda.seal import Seal
from alphapanda.state.journal import Journal

NOON = 20_000 * DAY - IST_OFFSET_NS + DAY // 2  # in India
RAW = "paper.signals.raw"
CANARY = "kI9-cAnArY/zX8"
SEAL = Seal.fresh()
BUSES = ["memory", "redis"]


class Passing(TransientError):
    """Passes within milliseconds."""

    retry = RetryPolicy(attempts=4, delay_first=0.002, delay_max=0.01)


def event(number: int, key: str = "k", data: Any = None, **fields: Any) -> EventEnvelope:
    given = {"id": f"e{number}", "type": "signal", "ts": NOON, "source": "test", "namespace": "paper"}
    given |= {"correlation_id": f"c{number}", "trace_id": "t", "key": key}
    return EventEnvelope(**(given | fields), data={"number": number} if data is None else data)


def number(message: Message) -> int:
    return decode(message.body).data["number"]


@contextlib.asynccontextmanager
async def opened(kind: str, request: pytest.FixtureRequest) -> AsyncIterator[Bus]:
    if kind == "memory":
        async with MemoryBus() as bus:
            yield bus
    else:
        valkey = request.getfixturevalue("valkey")
        valkey.flush()
        async with RedisBus.connect(valkey.socket) as bus:
            yield bus


async def when(done: Callable[[], object], seconds: float = 40.0) -> None:
    """Wait for something that happens in another task."""
    async with asyncio.timeout(seconds):
        while not done():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


async def until(done: Callable[[], bool], consumer: Consumer) -> None:
    """Run the consumer until ``done``."""
    stop = asyncio.Event()
    running = asyncio.create_task(consumer.run(stop))
    try:
        await when(lambda: running.done() or done())
    finally:
        stop.set()
        await running


def endings(consumer: Consumer) -> int:
    return consumer.counts["done"] + consumer.counts["dead"]


# ── verdicts ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("error", "kind", "attempts"),
    [
        (RedisError("x"), "transient", 5),
        (AuthenticationError("x"), "transient", 2),
        (StrategyExecutionError("x"), "transient", 1),
        (OrderTimeoutError("x"), "transient", 1),
        (RiskValidationError("x"), "permanent", 1),
        (AlphaPandaException("x"), "permanent", 1),
        (msgspec.ValidationError("x"), "permanent", 1),
        (ConnectionResetError("x"), "transient", 5),
        (TimeoutError("x"), "transient", 5),
        (OSError(28, "disk full"), "transient", 5),
        (KeyError("x"), "permanent", 1),
        (ZeroDivisionError("x"), "permanent", 1),
        (ExceptionGroup("x", [RedisError("a"), ConnectionError("b")]), "transient", 5),
        (ExceptionGroup("x", [RedisError("a"), KeyError("b")]), "permanent", 1),
        (
            ExceptionGroup("x", [RedisError("a"), ExceptionGroup("y", [OrderTimeoutError("b")])]),
            "transient",
            1,
        ),
    ],
)
def test_the_error_decides_how_often_is_tried(error: Exception, kind: str, attempts: int) -> None:
    verdict = classify(error)
    assert (verdict.kind, verdict.policy.attempts) == (kind, attempts)
    assert (verdict.reason == "defect") == (
        type(error) in {KeyError, ZeroDivisionError} or "KeyError" in repr(error)
    )


def test_an_order_whose_fate_is_unknown_is_never_tried_again_however_it_is_wrapped() -> None:
    outer = BrokerError("place failed")
    outer.__cause__ = RedisError("and then")
    outer.__cause__.__context__ = OrderTimeoutError("no answer")
    assert BrokerError.retry.attempts > 1
    assert classify(outer).policy.attempts == 1
    outer.__cause__.__context__ = outer  # a ring of causes ends too
    assert classify(outer).policy.attempts == 5


# ── handling ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", BUSES)
@pytest.mark.parametrize("poison", ["bytes", "defect", "refused"])
def test_one_poison_message_in_a_thousand_costs_one_letter(
    kind: str, poison: str, request: pytest.FixtureRequest
) -> None:
    async def main() -> None:
        calls: Counter[int] = Counter()

        async def handle(message: Message) -> None:
            calls[number(message)] += 1
            if number(message) == 437:
                raise KeyError("no such symbol") if poison == "defect" else RiskValidationError("refused")

        async with opened(kind, request) as bus:
            bodies = [encode(event(n, f"k{n % 7}")) for n in range(1000)]
            if poison == "bytes":
                bodies[437] = b"\xc1not an event"
            await bus.publish_all([(RAW, body) for body in bodies])
            consumer = Consumer(bus, bus.work([RAW], "gateway", "g1"), handle)
            await until(lambda: endings(consumer) == 1000, consumer)
            assert consumer.counts == {"done": 999, "dead": 1}
            assert set(calls.values()) == {1}
            assert len(calls) == 1000 - (poison == "bytes")
            assert await bus.lag(RAW, "gateway") == 0
            found, done = await letters(bus, RAW)
            ((place, letter),) = found.items()
            assert (letter.topic, letter.body, letter.attempts, done) == (RAW, bodies[437], 1, {})
            assert place.startswith(f"{RAW}@")
            assert (letter.envelope is None) == (poison == "bytes")
            assert (
                letter.error
                == {"bytes": "DataError", "defect": "KeyError", "refused": "RiskValidationError"}[poison]
            )
            assert (
                letter.reason
                == {"bytes": "not an event", "defect": "defect", "refused": "it would fail again"}[poison]
            )

    asyncio.run(main())


plans = st.lists(
    st.tuples(
        st.integers(0, 3), st.integers(0, 5), st.sampled_from(["transient", "os", "bad bytes", "permanent"])
    ),
    min_size=1,
    max_size=25,
)


@given(plan=plans, seed=st.integers(0, 2**16))
@settings(max_examples=25, deadline=None)
def test_each_message_has_one_ending_in_the_order_of_its_key_whatever_fails(
    plan: list[tuple[int, int, str]], seed: int
) -> None:
    """Key, how often it fails before it would succeed, and how."""

    async def main() -> None:
        tries: Counter[int] = Counter()
        handled: defaultdict[int, list[int]] = defaultdict(list)

        async def handle(message: Message) -> None:
            n = number(message)
            key, failures, how = plan[n]
            tries[n] += 1
            await asyncio.sleep(0)
            if tries[n] <= failures:
                raise RiskValidationError("no") if how == "permanent" else Passing("not yet")
            handled[key].append(n)

        async with MemoryBus() as bus:
            for n, (key, _, how) in enumerate(plan):
                await bus.publish(RAW, b"\x00" if how == "bad bytes" else encode(event(n, f"k{key}")))
            consumer = Consumer(bus, bus.work([RAW], "gateway", "g1"), handle, seed=seed)
            await until(lambda: endings(consumer) == len(plan), consumer)
            found, _ = await letters(bus, RAW)
            done = [n for of in handled.values() for n in of]
            assert len(done) == len(set(done)) == consumer.counts["done"]
            assert len(found) == consumer.counts["dead"] == await bus.length(Topics.dead_letters(RAW))
            dead = {int(place.rpartition("@")[2].partition("-")[0]) - 1 for place in found}
            assert sorted([*done, *dead]) == list(range(len(plan)))
            assert all(of == sorted(of) for of in handled.values())
            for n, (_, failures, how) in enumerate(plan):
                wanted = 0 if how == "bad bytes" else 1 if how == "permanent" else min(failures + 1, 4)
                assert tries[n] == wanted
                assert (n in dead) == (how == "bad bytes" or failures > (0 if how == "permanent" else 3))
            assert (await bus.lag(RAW, "gateway"), consumer.held, consumer.state) == (0, 0, "running")

    asyncio.run(main())


def test_other_keys_go_on_while_one_waits_and_its_own_stay_behind_it() -> None:
    async def main() -> None:
        order: list[int] = []

        async def handle(message: Message) -> None:
            n = number(message)
            order.append(n)
            if n == 0 and order.count(0) < 3:
                raise Passing("later")

        async with MemoryBus() as bus:
            keys = ["slow", "a", "slow", "b", "a", "slow"]
            await bus.publish_all([(RAW, encode(event(n, key))) for n, key in enumerate(keys)])
            consumer = Consumer(bus, bus.work([RAW], "gateway", "g1"), handle)
            await until(lambda: endings(consumer) == 6, consumer)
            assert order[:4] == [0, 1, 3, 4] or order.index(4) < len(order) - 3
            assert [n for n in order if n in {0, 2, 5}] == [0, 0, 0, 2, 5]
            assert consumer.counts == {"done": 6, "retried": 2}

    asyncio.run(main())


def test_no_more_is_taken_in_than_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "WAITING", 50)
    monkeypatch.setattr(consumer, "BATCH", 10)

    async def main() -> None:
        down, most = True, 0

        async def handle(message: Message) -> None:
            nonlocal most
            most = max(most, consumer.held)
            if down:
                raise Outage("server away")

        class Outage(TransientError):
            retry = RetryPolicy(attempts=10_000, delay_first=0.001, delay_max=0.02)

        async with MemoryBus() as bus:
            await bus.publish_all([(RAW, encode(event(n, f"k{n}"))) for n in range(300)])
            consumer = Consumer(bus, bus.work([RAW], "gateway", "g1"), handle)
            await until(lambda: consumer.counts["retried"] > 500, consumer)
            assert 50 <= most < 60
            down = False
            await until(lambda: endings(consumer) == 300, consumer)
            assert consumer.counts["done"] == 300

    asyncio.run(main())


class Jammed(MemoryBus):
    """A bus that takes no letters while ``jammed``."""

    jammed = True

    async def publish_all(self, items: Sequence[tuple[str, bytes]], *, bound: int | None = None) -> list[str]:
        if self.jammed and any(topic.endswith(".dlq") for topic, _ in items):
            raise RedisError("memory limit")
        return await super().publish_all(items, bound=bound)


def test_while_letters_cannot_be_written_the_consumer_stands_still_and_nothing_is_lost() -> None:
    async def main() -> None:
        handled: list[int] = []

        async def handle(message: Message) -> None:
            handled.append(number(message))
            if number(message) == 3:
                raise ValidationError("poison")

        async with Jammed() as bus:
            await bus.publish_all([(RAW, encode(event(n, f"k{n}"))) for n in range(10)])
            consumer = Consumer(bus, bus.work([RAW], "gateway", "g1", idle=0.5), handle)
            rival = bus.work([RAW], "gateway", "g2", idle=0.5)
            stop = asyncio.Event()
            running = asyncio.create_task(consumer.run(stop))
            await when(lambda: consumer.state == "paused")
            await asyncio.sleep(0.8)
            assert (handled, consumer.state) == ([0, 1, 2, 3], "paused")
            assert await bus.lag(RAW, "gateway") >= 7
            bus.jammed = False
            await when(lambda: endings(consumer) == 10)
            stop.set()
            await running
            assert (handled, consumer.state) == (list(range(10)), "running")
            assert len((await letters(bus, RAW))[0]) == 1
            assert await rival.read(timeout=0.0) == []
            assert await bus.lag(RAW, "gateway") == 0

    asyncio.run(main())


def test_a_full_server_pauses_the_consumer_and_a_killed_one_makes_it_wait(own_valkey: Any) -> None:
    async def main() -> None:
        handled: Counter[int] = Counter()

        async def handle(message: Message) -> None:
            handled[number(message)] += 1
            if number(message) == 3 and handled[3] == 1:  # it may come again after a kill
                own_valkey.config("maxmemory", 1)
            if number(message) % 10 == 3:
                raise ValidationError("poison")

        async with RedisBus.connect(own_valkey.socket) as bus:
            await bus.publish_all([(RAW, encode(event(n, f"k{n}"))) for n in range(30)])
            consumer = Consumer(bus, bus.work([RAW], "gateway", "g1"), handle)
            stop = asyncio.Event()
            running = asyncio.create_task(consumer.run(stop))
            await when(lambda: consumer.state == "paused")
            assert max(handled) == 3
            await asyncio.to_thread(own_valkey.kill)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(own_valkey.start)  # as it was configured: with room
            await when(lambda: endings(consumer) == 30)
            await asyncio.to_thread(own_valkey.kill)
            await when(lambda: consumer.state == "waiting")
            await asyncio.to_thread(own_valkey.start)
            await bus.publish(RAW, encode(event(30)))
            await when(lambda: handled[30])
            async with asyncio.timeout(20):
                while await bus.lag(RAW, "gateway"):  # noqa: ASYNC110 - what the killed server lost comes again
                    await asyncio.sleep(0.05)
            stop.set()
            await running
            assert set(handled) == set(range(31))
            found, _ = await letters(bus, RAW)
            assert {decode(letter.body).id for letter in found.values()} == {"e3", "e13", "e23"}

    asyncio.run(main())


def test_an_outage_longer_than_all_tries_makes_no_letter_of_what_works_after_it(own_valkey: Any) -> None:
    async def main() -> None:
        async def handle(message: Message) -> None:
            if number(message) == 5 and down.is_set():
                await asyncio.to_thread(own_valkey.kill)
                down.clear()
            await bus.publish("paper.orders.filled", message.body)

        down = asyncio.Event()
        down.set()
        async with RedisBus.connect(own_valkey.socket) as bus:
            await bus.publish_all([(RAW, encode(event(n, f"k{n % 3}"))) for n in range(20)])
            consumer = Consumer(bus, bus.work([RAW], "gateway", "g1"), handle)
            running = asyncio.create_task(consumer.run())
            await when(lambda: consumer.state == "paused")  # all tries are used up
            await asyncio.sleep(1)
            await asyncio.to_thread(own_valkey.start)
            await when(lambda: endings(consumer) == 20)
            assert (consumer.counts["done"], consumer.counts["dead"]) == (20, 0)
            assert {decode(one.body).id for one in await bus.read({"paper.orders.filled": "0"})} == {
                f"e{n}" for n in range(20)
            }
            assert consumer.state == "running"
            running.cancel()

    asyncio.run(main())


class Killed(BaseException):
    """What no handler survives."""


@pytest.mark.parametrize("kind", BUSES)
def test_a_message_that_kills_its_consumer_is_put_aside_and_those_behind_it_are_not(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async def main() -> None:
        calls: Counter[int] = Counter()

        async def handle(message: Message) -> None:
            calls[number(message)] += 1
            if number(message) == 12:
                raise Killed

        async with opened(kind, request) as bus:
            await bus.publish_all([(RAW, encode(event(n))) for n in range(40)])
            lives = 0
            while True:
                lives += 1
                consumer = Consumer(bus, bus.work([RAW], "gateway", "g1"), handle)
                try:
                    while await bus.lag(RAW, "gateway"):
                        await consumer.step()  # not run: a kill leaves no time for last acknowledgements
                    break
                except Killed:
                    continue
            ((_, letter),) = (await letters(bus, RAW))[0].items()
            assert (letter.code, letter.attempts) == ("E_DELIVERIES", 6)
            assert letter.envelope is not None
            assert letter.envelope.id == "e12"
            assert (lives, calls[12]) == (6, 5)
            assert set(calls) == set(range(40))
            assert all(count <= 2 for n, count in calls.items() if n != 12)

    asyncio.run(main())


@pytest.mark.parametrize("kind", BUSES)
def test_a_crash_between_letter_and_acknowledgement_leaves_one_letter(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async def main() -> None:
        async def handle(message: Message) -> None:
            raise ValidationError("poison")

        async with opened(kind, request) as bus:
            await bus.publish(RAW, encode(event(0)))
            work = bus.work([RAW], "gateway", "g1")

            async def died(*messages: Message) -> None:
                raise Killed

            with contextlib.suppress(Killed), pytest.MonkeyPatch.context() as patch:
                patch.setattr(work, "ack", died)
                await Consumer(bus, work, handle).step()
            second = Consumer(bus, bus.work([RAW], "gateway", "g1"), handle)
            await until(lambda: endings(second) == 1, second)
            assert await bus.length(Topics.dead_letters(RAW)) == 2
            assert len((await letters(bus, RAW))[0]) == 1

    asyncio.run(main())


def test_a_letter_tells_the_whole_story_and_no_secret(tmp_path: Path) -> None:
    register_secret(CANARY)

    async def main() -> None:
        now = iter(range(NOON, NOON + 100 * SECOND, SECOND))

        def fall(depth: int) -> None:
            if not depth:
                raise Passing(f"GET ?access_token={CANARY}\x1b[2J", fix=f"say {CANARY}", code="E_MINE")
            fall(depth - 1)

        async def handle(message: Message) -> None:
            try:
                fall(200)
            except Passing as error:
                raise Passing(f"again {CANARY}" + "x" * 10**6, code="E_MINE") from error

        async with MemoryBus() as bus:
            await bus.publish(RAW, encode(event(7)))
            consumer = Consumer(bus, bus.work([RAW], "gateway", "g1"), handle, clock=lambda: next(now))
            await until(lambda: endings(consumer) == 1, consumer)
            ((_, letter),) = (await letters(bus, RAW))[0].items()
        assert CANARY not in repr(letter)
        assert "\x1b" not in letter.stack + letter.message
        assert (letter.error, letter.code, letter.reason, letter.attempts) == (
            "Passing",
            "E_MINE",
            "it kept failing",
            4,
        )
        assert (letter.first, letter.last) == (NOON, NOON + 3 * SECOND)
        assert (letter.namespace, letter.correlation_id) == ("paper", "c7")
        assert len(letter.message) <= 1000
        assert len(letter.stack) <= dead_letters.STACK + 20
        assert "fall" in letter.stack
        assert letter.envelope == event(7)
        assert consumer.statistics.counts("error") == {"Passing": 4}

    asyncio.run(main())


def test_handle_all_ends_when_told() -> None:
    async def main() -> None:
        stop, statistics = asyncio.Event(), ErrorStatistics()

        async def handle(message: Message) -> None:
            stop.set()
            raise KeyError("x")

        async with MemoryBus() as bus:
            await bus.publish(RAW, encode(event(1)))
            async with asyncio.timeout(10):
                await handle_all(bus, bus.work([RAW], "g", "c"), handle, statistics=statistics, until=stop)
            assert statistics.counts("kind") == {("KeyError", RAW, "paper"): 1}
            assert await bus.lag(RAW, "g") == 0

    asyncio.run(main())


# ── statistics ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_errors_are_counted_by_class_topic_namespace_and_minute() -> None:
    statistics = ErrorStatistics()
    for n in range(90):
        statistics.add("RedisError" if n % 3 else "KeyError", RAW, "paper", NOON + n * MINUTE)
    statistics.add("KeyError", "zerodha.signals.raw", "zerodha", NOON)
    assert statistics.counts("error") == {"RedisError": 60, "KeyError": 31}
    assert statistics.counts("topic") == {RAW: 90, "zerodha.signals.raw": 1}
    assert statistics.counts("namespace", since=NOON + MINUTE) == {"paper": 89}
    assert statistics.counts("minute")[NOON // MINUTE * MINUTE] == 2
    twin = ErrorStatistics.from_json(statistics.to_json())
    assert twin.counts("kind") == statistics.counts("kind")
    assert twin.counts("minute") == statistics.counts("minute")
    assert errors_key("paper") == "paper:errors"
    shown = io.StringIO()
    Console(width=120, file=shown).print(statistics.table(NOON + 89 * MINUTE))
    assert shown.getvalue().splitlines()[3].split() == ["RedisError", RAW, "paper", "4", "40", "60"]


def test_statistics_of_a_storm_stay_small() -> None:
    statistics = ErrorStatistics(hours=1, kinds=8)
    draw = random.Random(1)
    for n in range(20_000):
        statistics.add(f"E{draw.randrange(1000)}", f"t{draw.randrange(1000)}", "paper", NOON + n * SECOND)
    assert len(statistics.counts("minute")) == 60
    assert len(msgspec.json.decode(statistics.to_json())) <= 60 * 9
    assert sum(statistics.counts("error").values()) == 60 * 60 - (20_000 % 60 and 60 - 20_000 % 60)


# ── replay ───────────────────────────────────────────────────────────────────────────────────────────────────────


def signal(n: int, **fields: Any) -> dict[str, Any]:
    return {"strategy": "cross", "seq": n, "ordinal": 0, "ts": NOON, "validity": "DAY", "ttl": 0} | fields


async def bury(bus: Bus, topic: str, *bodies: bytes, at: int = NOON) -> list[str]:
    """Letters as a consumer would have written them; their ids."""
    found: list[str] = []
    for n, body in enumerate(bodies):
        letter = DeadLetter(f"{topic}@{at}-{n}", topic, body, "KeyError", "m", "defect", last=at)
        await bus.publish(Topics.dead_letters(topic), msgspec.msgpack.encode(letter))
        found.append(letter.id)
    return found


def wall() -> int:
    return NOON


@pytest.mark.parametrize("kind", BUSES)
def test_a_replay_is_dry_unless_asked_and_happens_once(kind: str, request: pytest.FixtureRequest) -> None:
    async def main() -> None:
        async with opened(kind, request) as bus:
            envelopes = [event(n, data={"run": "r1", "id": f"q{n}", "signal": signal(n)}) for n in range(3)]
            ids = await bury(bus, RAW, *(SEAL.sealed(RAW, one) for one in envelopes))
            dry = await replay(bus, RAW, now=NOON, seal=SEAL, executed=(), clock=wall)
            assert (dry.dry, dry.counts, dry.refused) == (True, {"ready": 3}, 0)
            assert await bus.length(RAW) == 0
            one = await replay(
                bus, RAW, now=NOON, seal=SEAL, executed=(), ids=[ids[1], ids[1]], dry_run=False, clock=wall
            )
            assert one.counts == {"replayed": 1, "already replayed": 1}
            rest = await replay(bus, RAW, now=NOON, seal=SEAL, executed=(), dry_run=False, clock=wall)
            assert rest.counts == {"replayed": 2}
            again = await replay(bus, RAW, now=NOON, seal=SEAL, executed=(), dry_run=False, clock=wall)
            assert again == Replay(dry=False)
            named = await replay(
                bus, RAW, now=NOON, seal=SEAL, executed=(), ids=ids, dry_run=False, clock=wall
            )
            assert named.counts == {"already replayed": 3}
            back = [decode(message.body) for message in await bus.read({RAW: "0"})]
            assert [one.id for one in back] == ["e1.replayed", "e0.replayed", "e2.replayed"]
            assert all(is_replayed(one) and one.type == "signal.replayed" for one in back)
            assert back[1].causation_id == "e0"
            assert (back[1].correlation_id, back[1].data, back[1].ts) == ("c0", envelopes[0].data, NOON)
            assert not is_replayed(envelopes[0])

    asyncio.run(main())


@pytest.mark.parametrize(
    ("fields", "now", "executed", "refusal"),
    [
        ({}, NOON, {"cross:1:0"}, "already executed"),
        ({}, NOON, {"e1"}, "already executed"),
        ({}, NOON, lambda one: "ORD17" if one == "cross:1:0" else None, "already executed as ORD17"),
        ({}, NOON + DAY, (), "expired"),
        ({"validity": "IOC"}, NOON, (), "expired"),
        ({"validity": "TTL", "ttl": MINUTE}, NOON + MINUTE, (), "expired"),
        ({"validity": "TTL", "ttl": MINUTE}, NOON + MINUTE - 1, (), ""),
        ({"expires_at": NOON + 5}, NOON + 5, (), "expired"),
        ({}, NOON + 2 * 3600 * SECOND, {"cross:2:0", "e2"}, ""),
        ({"ts": "soon"}, NOON, (), "its data cannot be read"),
    ],
)
@pytest.mark.parametrize("nested", [True, False])
def test_a_signal_that_was_executed_or_has_expired_is_refused(
    fields: dict[str, Any], now: int, executed: Any, refusal: str, nested: bool
) -> None:
    async def main() -> None:
        async with MemoryBus() as bus:
            one = signal(1, **fields)
            await bury(
                bus, RAW, SEAL.sealed(RAW, event(1, data={"signal": one, "cancel": None} if nested else one))
            )
            for dry_run in (True, False):
                done = await replay(
                    bus, RAW, now=now, seal=SEAL, executed=executed, dry_run=dry_run, clock=wall
                )
                assert [decision.refusal for decision in done.decisions] == [refusal]
            assert await bus.length(RAW) == (not refusal)

    asyncio.run(main())


def test_a_letter_of_yesterday_is_no_order_today_even_if_tape_time_stood_still() -> None:
    async def main() -> None:
        async with MemoryBus() as bus:
            await bury(bus, RAW, *(SEAL.sealed(RAW, event(n, data=signal(n))) for n in range(5)))
            later = {
                "now": NOON,
                "seal": SEAL,
                "executed": (),
                "dry_run": False,
                "clock": lambda: NOON + DAY + 1,
            }
            assert (await replay(bus, RAW, **later)).counts == {"expired": 5}
            filled = "paper.orders.filled"
            await bury(bus, filled, encode(event(9, type="fill")))
            assert (await replay(bus, filled, **later)).counts == {"replayed": 1}

    asyncio.run(main())


@pytest.mark.parametrize(
    ("topic", "fields", "code"),
    [
        ("zerodha.signals.raw", {}, "E_REPLAY_LIVE"),
        ("zerodha.signals.validated", {}, "E_REPLAY_LIVE"),
        ("zerodha.orders.submitted", {}, "E_REPLAY_LIVE"),
        ("zerodha.something.new", {}, "E_REPLAY_LIVE"),
        ("zerodha.orders.filled", {}, ""),
        ("zerodha.runs.r1", {}, ""),
        ("zerodha.commands", {"type": "operator.halt"}, "E_REPLAY_COMMAND"),
        ("paper.commands", {"type": "x"}, "E_REPLAY_COMMAND"),
        ("paper.signals.raw", {"type": "operator.flatten"}, "E_REPLAY_COMMAND"),
        ("paper.signals.raw", {"namespace": "zerodha"}, "E_REPLAY_DATA"),
        ("paper.pnl.snapshots", {}, "E_REPLAY_VIEW"),
        ("market.equity.ticks", {"namespace": "market"}, "E_REPLAY_TICKS"),
        ("paper-two.signals.raw", {}, ""),
        ("papers.signals.raw", {}, "E_REPLAY_LIVE"),
    ],
)
def test_what_may_move_real_money_or_is_told_anew_is_never_replayed(
    topic: str, fields: dict[str, Any], code: str
) -> None:
    async def main() -> None:
        async with MemoryBus() as bus:
            given = {"namespace": topic.partition(".")[0]} | fields
            await bury(bus, topic, SEAL.sealed(topic, event(1, data=signal(1), **given)))
            done = await replay(bus, topic, now=NOON, seal=SEAL, executed=(), dry_run=False, clock=wall)
            assert [one.code for one in done.decisions] == [code]
            assert await bus.length(topic) == (not code)

    asyncio.run(main())


def test_bytes_that_are_no_event_are_looked_at_and_discarded_never_replayed() -> None:
    async def main() -> None:
        async with MemoryBus() as bus:
            (bad,) = await bury(bus, RAW, b"\xc1junk")
            await bus.publish(Topics.dead_letters(RAW), b"\xc1not even a letter")
            done = await replay(bus, RAW, now=NOON, seal=SEAL, executed=(), dry_run=False, clock=wall)
            assert done.counts == {"not an event": 2}
            letter, settled = await inspect(bus, bad)
            assert (letter.body, settled) == (b"\xc1junk", None)
            first = await discard(bus, bad, reason="made by a test", clock=wall)
            second = await discard(bus, bad, reason="again")
            assert first == second == (await inspect(bus, bad))[1]
            named = await replay(
                bus, RAW, now=NOON, seal=SEAL, executed=(), ids=[bad], dry_run=False, clock=wall
            )
            assert named.counts == {"already discarded": 1}
            with pytest.raises(UnknownNameError):
                await inspect(bus, f"{RAW}@1-1")
            with pytest.raises(UnknownNameError):
                await replay(bus, RAW, now=NOON, seal=SEAL, executed=(), ids=["nonsense"], clock=wall)

    asyncio.run(main())


# ── the command line ─────────────────────────────────────────────────────────────────────────────────────────────

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def dlq(valkey: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """``alphapanda dlq`` in the workspace of the running server: exit code and what it printed."""
    valkey.flush()
    monkeypatch.setenv("ALPHAPANDA_HOME", str(valkey.workspace.root))
    monkeypatch.chdir(valkey.workspace.root)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str) -> tuple[int, str]:
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        code = command(parser.parse_args(words))
        return code, capsys.readouterr().out

    yield run
    for path in valkey.workspace.journal("paper").parent.iterdir():
        path.unlink()


def on_server(valkey: Any, work: Callable[[RedisBus], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with RedisBus.connect(valkey.socket) as bus:
            return await work(bus)

    return asyncio.run(main())


def test_the_command_lists_shows_replays_and_discards(dlq: Run, valkey: Any) -> None:
    assert dlq("list") == (0, "no dead letters\n")
    now, seal = wall_ns(), Seal.of(valkey.workspace, make=True)
    hostile = {"token": "x", "note": "[red]\x1b[31m", "api_key": "abcdefgh", **signal(3, ts=now)}

    async def prepare(bus: RedisBus) -> list[str]:
        good = [seal.sealed(RAW, event(n, data=signal(n, ts=now), ts=now)) for n in range(2)]
        odd, there = event(3, data=hostile, ts=now), "zerodha.signals.raw"
        live = seal.sealed(there, event(2, namespace="zerodha", data=signal(2, ts=now)))
        return [
            *await bury(bus, RAW, *good, seal.sealed(RAW, odd), b"\xc1", at=now),
            *await bury(bus, there, live, at=now),
        ]

    ids = on_server(valkey, prepare)
    with contextlib.closing(Journal(valkey.workspace.journal("paper"))) as journal:
        journal.append("request", "cross-1", "cross:1:0", b"", b"", now)
    code, text = dlq("list")
    assert code == 0
    assert all(one in text for one in ids)
    assert len(json.loads(dlq("list", "--topic", RAW, "--json")[1])) == 4
    code, text = dlq("show", ids[2])
    assert (code, "\x1b" in text, "abcdefgh" in text, "[red]" in text) == (0, False, False, True)
    assert json.loads(dlq("show", ids[2], "--json")[1])["body"]["correlation_id"] == "c3"
    assert "xc1" in dlq("show", ids[3])[1]

    code, text = dlq("replay", "--all")
    assert code == REFUSED == 3
    assert "2 would be replayed; add --yes" in text
    assert "1 a live namespace [E_REPLAY_LIVE]" in text
    assert "1 already executed [E_REPLAY_EXECUTED]" in text
    assert on_server(valkey, lambda bus: bus.length(RAW)) == 0
    assert dlq("replay", "--id", ids[0], "--id", ids[2], "--yes")[0] == 0
    assert on_server(valkey, lambda bus: bus.length(RAW)) == 2
    code, text = dlq("replay", "--topic", RAW, "--yes", "--json")
    assert (code, json.loads(text)["counts"]) == (3, {"already executed": 1, "not an event": 1})
    assert dlq("discard", ids[3], "--reason", "junk") == (0, f"{ids[3]}: discarded\n")
    audit = (valkey.workspace.logs / "audit.jsonl").read_text().splitlines()
    acts = [json.loads(line) for line in audit if '"letters.' in line]
    assert [one["event"] for one in acts] == ["letters.replayed", "letters.replayed", "letters.discarded"]
    assert [one.get("letters") for one in acts[:2]] == [[ids[0], ids[2]], []], "a dry run is no act"
    assert (acts[2]["letter"], acts[2]["reason"]) == (ids[3], "junk")
    assert all(one["by"] for one in acts)
    assert [one["id"] for one in json.loads(dlq("list", "--json")[1])] == [ids[1], ids[4]]
    assert len(json.loads(dlq("list", "--settled", "--json")[1])) == 5
    with pytest.raises(UnknownNameError):
        dlq("show", f"{RAW}@7")


def test_without_a_server_the_command_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPHAPANDA_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    with pytest.raises(RedisError, match="scan"):
        command(parser.parse_args(["list"]))

"""What a bus promises, over each bus; the Redis one runs against the real server, which tests kill, freeze and fill."""

import asyncio
import itertools
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alphapanda.buses.base import Bus, Message, Work, decode, encode, place
from alphapanda.buses.memory import MemoryBus
from alphapanda.buses.newest import Newest
from alphapanda.buses.redis import RedisBus
from alphapanda.clock import monotonic
from alphapanda.errors import ConfigurationError, DataError, RedisError
from alphapanda.events import EventEnvelope

Open = Callable[[], Bus]
IDLE = 0.3  # seconds after which a silent consumer counts as dead, in these tests
NAMES = map("t{}".format, itertools.count(1))


class Valkey(Protocol):
    """The fixtures ``valkey`` and ``own_valkey``."""

    @property
    def socket(self) -> Any: ...
    @property
    def pid(self) -> int: ...
    def start(self) -> None: ...
    def kill(self) -> None: ...
    def stop(self) -> None: ...
    def config(self, name: str, value: object) -> None: ...
    def flush(self) -> None: ...


class SharedMemory(MemoryBus):
    """Outlives the processes of a test, as a server does."""

    async def close(self) -> None: ...


@pytest.fixture(params=["memory", "redis"])
def connect(request: pytest.FixtureRequest) -> Iterator[Open]:
    """Opens a bus as another process would: all of them see the same topics."""
    if request.param == "memory":
        bus = SharedMemory()
        yield lambda: bus
    else:
        valkey = request.getfixturevalue("valkey")
        yield lambda: RedisBus.connect(valkey.socket)


@pytest.fixture
def topic() -> str:
    """A name nobody used before."""
    return next(NAMES)


def bodies(messages: list[Message]) -> list[bytes]:
    return [message.body for message in messages]


def numbers(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % n for n in range(start, start + count)]


async def drain(work: Work, count: int = 100, timeout: float = 0.05) -> list[Message]:
    """Read and acknowledge until nothing comes."""
    out: list[Message] = []
    while found := await work.read(count, timeout):
        out += found
        await work.ack(*found)
    return out


async def grown(seen: list[bytes], count: int) -> None:
    """Wait until a list has so many items more."""
    goal = len(seen) + count
    while len(seen) < goal:  # noqa: ASYNC110 - nobody tells when
        await asyncio.sleep(0.01)


async def crash(bus: Bus) -> None:
    """What the server sees when a process dies; the one-process bus only loses its reader."""
    if isinstance(bus, RedisBus):
        await bus.close()


# ── broadcast ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_reader_sees_everything_in_order_from_the_offset_it_names(connect: Open, topic: str) -> None:
    async def main() -> None:
        async with connect() as writer, connect() as reader:
            assert await reader.last(topic) == "0-0"
            offsets = [await writer.publish(topic, body) for body in numbers(20)]
            assert sorted(offsets, key=place) == offsets
            assert await reader.last(topic) == offsets[-1]
            assert await reader.length(topic) == 20
            for after, expected in (("0", numbers(20)), (offsets[4], numbers(15, 5)), (offsets[-1], [])):
                for bus in (reader, writer):
                    found = await bus.read({topic: after}, timeout=0.01)
                    assert bodies(found) == expected
                    assert [m.offset for m in found] == offsets[20 - len(expected) :]
            assert bodies(await reader.read({topic: "0"}, count=3)) == numbers(3)

    asyncio.run(main())


def test_a_reader_of_only_what_is_new_misses_nothing_between_its_reads(connect: Open, topic: str) -> None:
    async def main() -> None:
        async with connect() as writer, connect() as reader:
            await writer.publish(topic, b"old")
            after = {topic: "$"}
            assert await reader.read(after, timeout=0.01) == []
            await writer.publish(topic, b"while nobody read")
            assert bodies(await reader.read(after)) == [b"while nobody read"]

            waiting = asyncio.create_task(reader.read({topic: "$"}, timeout=5))
            await asyncio.sleep(0.1)
            await writer.publish(topic, b"while waiting")
            assert bodies(await waiting) == [b"while waiting"]

    asyncio.run(main())


def test_one_read_covers_many_topics(connect: Open, topic: str) -> None:
    async def main() -> None:
        async with connect() as bus:
            after = {f"{topic}.{n}": "0" for n in range(50)}
            for name in after:
                await bus.publish_all([(name, b"%s %d" % (name.encode(), n)) for n in range(5)])
            seen: dict[str, list[bytes]] = {name: [] for name in after}
            while found := await bus.read(after, count=2, timeout=0.01):
                assert max(Counter(m.topic for m in found).values()) <= 2
                for message in found:
                    after[message.topic] = message.offset
                    seen[message.topic].append(message.body)
            assert seen == {name: [b"%s %d" % (name.encode(), n) for n in range(5)] for name in after}
            assert await bus.read({}, timeout=0.01) == []

    asyncio.run(main())


def test_a_read_waits_its_time_and_no_longer(connect: Open, topic: str) -> None:
    async def main() -> None:
        async with connect() as bus:
            work = bus.work([topic], "g", "a", idle=IDLE)
            for read in (lambda t: bus.read({topic: "$"}, timeout=t), lambda t: work.read(timeout=t)):
                assert await read(0.0) == []
                begin = monotonic()
                assert await read(1.3) == []  # longer than the bus lets the server wait at a time
                assert 1.2 < monotonic() - begin < 10

    asyncio.run(main())


def test_a_batch_is_whole_and_in_order_among_other_writers(connect: Open, topic: str) -> None:
    async def write(bus: Bus, who: int) -> None:
        for batch in range(20):
            items = [(topic, b"%d %d %d" % (who, batch, n)) for n in range(10)]
            offsets = await bus.publish_all(items)
            assert sorted(offsets, key=place) == offsets

    async def main() -> None:
        async with connect() as one, connect() as two:
            await asyncio.gather(write(one, 1), write(two, 2))
            found = [tuple(map(int, body.split())) for body in bodies(await one.read({topic: "0"}))]
            assert len(found) == 400
            for start in range(0, 400, 10):
                who, batch, _ = found[start]
                assert found[start : start + 10] == [(who, batch, n) for n in range(10)]
            assert [b for w, b, n in found if (w, n) == (1, 0)] == list(range(20))
            assert await one.publish_all([]) == []

    asyncio.run(main())


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=2000), min_size=1, max_size=20))
def test_bodies_are_any_bytes(connect: Open, sent: list[bytes]) -> None:
    async def main() -> None:
        async with connect() as bus:
            topic = next(NAMES)
            await bus.publish_all([(topic, body) for body in sent])
            assert bodies(await bus.read({topic: "0"})) == sent
            assert bodies(await bus.work([topic], "g", "a").read()) == sent

    asyncio.run(main())


# ── work ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_consumer_left_comes_again_to_itself_first(connect: Open, topic: str) -> None:
    async def main() -> None:
        async with connect() as bus:
            await bus.publish_all([(topic, body) for body in numbers(10)])
            first = connect()
            work = first.work([topic], "g", "a")
            found = await work.read(6)
            assert bodies(found) == numbers(6)
            assert {m.attempts for m in found} == {1}
            await work.ack(found[1], found[4])
            assert bodies(await work.read(2)) == numbers(2, 6)  # held messages are not handed out again
            await crash(first)

            work = bus.work([topic], "g", "a")
            found = await work.read(4)
            assert [(m.body, m.attempts) for m in found] == [(b"0", 2), (b"2", 2), (b"3", 2), (b"5", 2)]
            found += await work.read(4)
            found += await work.read(4)
            assert [(m.body, m.attempts) for m in found[4:]] == [(b"6", 2), (b"7", 2), (b"8", 1), (b"9", 1)]
            assert await bus.lag(topic, "g") == 8
            await work.ack(*found)
            assert await bus.lag(topic, "g") == 0
            assert await drain(bus.work([topic], "g", "a")) == []

    asyncio.run(main())


def test_what_a_dead_consumer_held_goes_to_another_with_its_attempts_counted(
    connect: Open, topic: str
) -> None:
    async def main() -> None:
        async with connect() as bus:
            await bus.publish_all([(topic, body) for body in numbers(5)])
            for life in (1, 2):
                dying = connect()
                found = await dying.work([topic], "g", "dying", idle=IDLE).read()
                assert [m.attempts for m in found] == [life] * 5
                await crash(dying)
            assert await bus.work([topic], "g", "patient", idle=60).read(timeout=0.0) == []  # not dead yet
            heir = bus.work([topic], "g", "heir", idle=IDLE)
            found = await heir.read(timeout=10)
            assert [(m.body, m.attempts) for m in found] == [(body, 3) for body in numbers(5)]
            await heir.ack(*found)
            assert await drain(bus.work([topic], "g", "dying")) == []

    asyncio.run(main())


def test_consumers_share_and_a_slow_one_that_acknowledges_is_not_robbed(connect: Open, topic: str) -> None:
    idle = 0.9

    async def slow(bus: Bus, out: list[bytes]) -> None:
        work = bus.work([topic], "g", "slow", idle=idle)
        for message in await work.read(10):
            await asyncio.sleep(idle / 3)  # the ten take three times as long as silence is allowed to
            await work.ack(message)
            out.append(message.body)

    async def quick(bus: Bus, name: str, out: list[bytes]) -> None:
        work = bus.work([topic], "g", name, idle=idle)
        end = monotonic() + 4 * idle
        while monotonic() < end:
            for message in await work.read(7, timeout=0.05):
                await work.ack(message)
                out.append(message.body)

    async def main() -> None:
        async with connect() as one, connect() as two:
            await one.publish_all([(topic, body) for body in numbers(500)])
            out: list[bytes] = []
            await asyncio.gather(slow(one, out), quick(one, "a", out), quick(two, "b", out))
            assert sorted(map(int, out)) == list(range(500))  # none twice, none missing

    asyncio.run(main())


def test_reads_of_one_consumer_at_the_same_time_get_different_messages(connect: Open, topic: str) -> None:
    async def main() -> None:
        async with connect() as bus:
            work = bus.work([topic], "g", "a", idle=IDLE)
            reads = [asyncio.create_task(work.read(3, timeout=0.5)) for _ in range(4)]
            await bus.publish_all([(topic, body) for body in numbers(12)])
            found = await asyncio.gather(*reads)
            assert sorted(m.body for messages in found for m in messages) == sorted(numbers(12))

    asyncio.run(main())


def test_groups_do_not_know_each_other_and_start_at_the_start(connect: Open, topic: str) -> None:
    async def main() -> None:
        async with connect() as bus:
            names = [topic, f"{topic}.more"]
            for n, body in enumerate(numbers(10)):
                await bus.publish(names[n % 2], body)
            assert await bus.lag(topic, "late") == 5
            for group in ("g", "late"):
                found = await drain(bus.work(names, group, "a"), count=2)
                for n, name in enumerate(names):
                    assert bodies([m for m in found if m.topic == name]) == numbers(10)[n::2]
                assert await bus.lag(topic, group) == 0
            assert len(await bus.read({topic: "0"})) == 5  # who reads for all is not touched by it

    asyncio.run(main())


def test_a_read_that_is_cancelled_loses_nothing(connect: Open, topic: str) -> None:
    async def main() -> None:
        async with connect() as bus, connect() as writer:
            work, after = bus.work([topic], "g", "a"), {topic: "0"}
            draws = random.Random(7)
            handled: list[bytes] = []
            seen: list[bytes] = []

            async def publish() -> None:
                for body in numbers(300):
                    await writer.publish(topic, body)
                    await asyncio.sleep(draws.random() * 0.004)

            async def handle() -> None:
                found = await work.read(timeout=0.01)
                handled.extend(bodies(found))  # done before anything else can be cancelled
                await work.ack(*found)

            async def watch() -> None:
                for message in await bus.read(after, timeout=0.01):
                    after[topic] = message.offset
                    seen.append(message.body)

            publishing = asyncio.create_task(publish())
            while not publishing.done():
                tasks = [asyncio.create_task(handle()), asyncio.create_task(watch())]
                await asyncio.sleep(draws.random() * 0.008)
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
            await publishing
            handled += bodies(await drain(work))
            handled += bodies(await drain(bus.work([topic], "g", "a")))  # acknowledging was cancelled
            while len(seen) < 300:
                await watch()
            assert set(handled) == set(seen) == set(numbers(300))
            assert seen == numbers(300)

    asyncio.run(main())


def test_operations_that_are_cancelled_leave_the_bus_in_step(connect: Open, topic: str) -> None:
    async def main() -> None:
        async with connect() as bus:
            draws, work = random.Random(7), bus.work([topic], "g", "a", idle=60)
            for n in range(200):
                body = b"%d" % n
                tasks = [
                    asyncio.create_task(bus.publish(topic, body)),
                    asyncio.create_task(bus.publish_all([(topic, body), (f"{topic}.b", body)], bound=1000)),
                    asyncio.create_task(bus.last(topic)),
                    asyncio.create_task(bus.trim(f"{topic}.b", 5)),
                    asyncio.create_task(work.read(1, timeout=0.0)),
                ]
                await asyncio.sleep(draws.random() * 0.002)
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
                assert all(task.cancelled() or not task.exception() for task in tasks)
                offset = await bus.publish(
                    topic, b"mark %d" % n
                )  # every answer is the answer to its question
                assert await bus.last(topic) == offset
                found = await bus.read({topic: "0"}, count=10_000)
                assert (found[-1].offset, found[-1].body) == (offset, b"mark %d" % n)
            handled = await drain(bus.work([topic], "g", "a", idle=60))
            seen = {m.offset for m in await bus.read({topic: "0"}, count=10_000)}
            assert {m.offset for m in handled} == seen  # none was acknowledged before

    asyncio.run(main())


# ── trimming ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_trimming_keeps_the_newest_and_counts_what_it_removed(connect: Open, topic: str) -> None:
    async def main() -> None:
        async with connect() as bus:
            assert await bus.trim(topic, 5) == 0
            await bus.publish_all([(topic, body) for body in numbers(250)])
            assert await bus.trim(topic, 300) == 0
            assert await bus.trim(topic, 7) == 243
            assert bodies(await bus.read({topic: "0"})) == numbers(7, 243)
            assert await bus.trim(topic, 0) == 7
            assert await bus.length(topic) == 0
            newest = await bus.last(topic)
            assert newest != "0-0"  # it still knows where it was
            assert bodies(await bus.read({topic: newest}, timeout=0.01)) == []
            await bus.publish(topic, b"more")
            assert bodies(await bus.read({topic: newest})) == [b"more"]

    asyncio.run(main())


def test_trimming_leaves_what_any_group_has_not_acknowledged(connect: Open, topic: str) -> None:
    async def main() -> None:
        async with connect() as bus:
            await bus.publish_all([(topic, body) for body in numbers(300)])
            quick, slow = bus.work([topic], "quick", "a"), bus.work([topic], "slow", "a")
            await drain(quick)
            held = await slow.read(200)
            await slow.ack(*held[:120], *held[130:])
            assert await bus.trim(topic, 10) == 120
            await slow.ack(*held[120:130])
            assert await bus.trim(topic, 10) == 80  # what is new to the slow group stays
            assert bodies(await drain(slow)) == numbers(100, 200)
            assert await bus.trim(topic, 10) == 90
            assert bodies(await bus.read({topic: "0"})) == numbers(10, 290)

    asyncio.run(main())


@pytest.mark.parametrize("size", [8, 5_000])
def test_a_bound_holds_roughly_and_never_drops_work(connect: Open, topic: str, size: int) -> None:
    async def main() -> None:
        async with connect() as bus:
            for n in range(100):
                await bus.publish_all(
                    [(topic, b"%d" % (3 * n + k) + b" " * size) for k in range(3)], bound=50
                )
            assert 50 <= await bus.length(topic) <= 65
            kept = [int(body) for body in bodies(await bus.read({topic: "0"}))]
            assert kept == list(range(300 - len(kept), 300))

            work = bus.work([topic], "g", "a")
            held = await work.read()
            for n in range(300, 500):
                await bus.publish(topic, b"%d" % n, bound=50)
            found = [*held, *await drain(work)]
            assert [int(m.body) for m in found] == [*kept, *range(300, 500)]
            await work.ack(*held)
            for n in range(500, 510):
                await bus.publish(topic, b"%d" % n, bound=50)
            assert await bus.length(topic) <= 65
            assert [int(m.body) for m in await drain(work)] == list(range(500, 510))

    asyncio.run(main())


def test_what_was_removed_by_hand_before_it_was_acknowledged_is_reported(valkey: Valkey, topic: str) -> None:
    async def main() -> None:
        async with RedisBus.connect(valkey.socket) as bus:
            offsets = await bus.publish_all([(topic, body) for body in numbers(6)])
            dying = RedisBus.connect(valkey.socket)
            assert len(await dying.work([topic], "g", "dying", idle=IDLE).read(4)) == 4
            await dying.close()
            await bus.client.xdel(topic, offsets[1], offsets[2])
            lost = [Message(topic, offset, b"", 2, lost=True) for offset in offsets[1:3]]

            for name in ("dying", "heir"):  # who does not acknowledge it leaves the report to the next
                work = bus.work([topic], "g", name, idle=IDLE)
                await asyncio.sleep(IDLE)
                found = await work.read(4, timeout=1)
                assert [m for m in found if m.lost] == lost
                assert work.lost == 2
                assert {m.body for m in found if not m.lost} == {b"0", b"3"}
                with pytest.raises(DataError):
                    decode(lost[0].body)
            await work.ack(*lost)
            await asyncio.sleep(IDLE)
            found = await drain(bus.work([topic], "g", "third", idle=IDLE))
            assert (work.lost, {m.body for m in found}) == (2, {b"0", b"3", b"4", b"5"})

    asyncio.run(main())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from("ppprrraatnc"), st.integers(0, 7)), max_size=60))
def test_no_order_of_events_loses_a_message(connect: Open, events: list[tuple[str, int]]) -> None:
    """Two groups, two consumers each, that publish, read, acknowledge, trim and crash in any order."""

    async def main() -> None:
        topic, published = next(NAMES), 0
        owners = [("g", "a"), ("g", "b"), ("h", "a"), ("h", "b")]
        async with connect() as bus:
            works = {owner: bus.work([topic], *owner, idle=60) for owner in owners}
            held: dict[tuple[str, str], list[Message]] = {owner: [] for owner in owners}
            handled: dict[str, Counter[bytes]] = {"g": Counter(), "h": Counter()}
            started: set[str] = set()
            floor = 0  # the first message that had not been removed when a group came to be

            for event, number in events:
                owner = owners[number % 4]
                match event:
                    case "p":
                        await bus.publish_all([(topic, b"%d" % (published + n)) for n in range(number)])
                        published += number
                    case "n":
                        await bus.publish(topic, b"%d" % published, bound=number)
                        published += 1
                    case "r":
                        found = await works[owner].read(number + 1, timeout=0.0)
                        fresh = [int(m.body) for m in found if m.attempts == 1]
                        assert fresh == sorted(fresh)
                        assert not {m.offset for m in found} & {m.offset for m in held[owner]}
                        started.add(owner[0])
                        held[owner] += found
                        handled[owner[0]].update(bodies(found))
                    case "a":
                        done, held[owner] = held[owner][:number], held[owner][number:]
                        await works[owner].ack(*done)
                    case "t":
                        await bus.trim(topic, number)
                    case _:
                        works[owner], held[owner] = bus.work([topic], *owner, idle=60), []
                if len(started) < 2:
                    floor = published - await bus.length(topic)
            for owner in owners:
                found = await drain(bus.work([topic], *owner, idle=60), timeout=0.0)
                handled[owner[0]].update(bodies(found))
            for seen in handled.values():
                assert set(numbers(published - floor, floor)) <= set(seen)
            assert await bus.lag(topic, "g") == await bus.lag(topic, "h") == 0
            await bus.trim(topic, 0)
            assert await bus.length(topic) == 0

    asyncio.run(main())


# ── newest ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_reader_that_keeps_up_gets_everything(connect: Open, topic: str) -> None:
    async def main() -> None:
        async with connect() as bus:
            await bus.publish(topic, b"old")
            newest = Newest(bus, [topic], bound=10)
            assert await newest.read(0.01) == []
            for start in range(0, 50, 10):
                await bus.publish_all([(topic, body) for body in numbers(10, start)])
                assert bodies(await newest.read()) == numbers(10, start)
            assert (newest.skipped.total(), newest.missed.total()) == (0, 0)

    asyncio.run(main())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bursts=st.lists(st.lists(st.integers(0, 9), max_size=40), max_size=6),
    bound=st.integers(1, 30),
    kept=st.integers(1, 60),
    after=st.sampled_from(["0", "$"]),
)
def test_a_slow_reader_gets_the_newest_of_each_key_and_exact_counts(
    connect: Open, bursts: list[list[int]], bound: int, kept: int, after: Any
) -> None:
    async def main() -> None:
        topics = [next(NAMES), next(NAMES)]
        async with connect() as bus:
            newest = Newest(bus, topics, bound=bound, key=lambda m: m.body[:1], after=after)
            await newest.read(0.0)
            total, latest, out = 0, dict[tuple[str, bytes], bytes](), list[Message]()
            for burst in bursts:
                for draw in burst:
                    key = topics[draw % 2], b"%d" % draw
                    latest[key] = b"%s %d" % (key[1], total)
                    await bus.publish(topics[draw % 2], latest[key], bound=kept)
                    total += 1
                found = await newest.read(0.0)
                if len(burst) > bound and kept >= 40:
                    assert len({(m.topic, m.body[:1]) for m in found}) == len(found)
                out += found
            shown = {(m.topic, m.body[:1]): m.body for m in out}
            if not newest.missed.total():
                assert shown == latest
            assert all(
                latest[key] == shown[key] for key in latest if latest[key] == max(latest.values(), key=age)
            )
            assert len(out) + newest.skipped.total() + newest.missed.total() == total
            for topic in topics:
                offsets = [m.offset for m in out if m.topic == topic]
                assert offsets == sorted(offsets, key=place)

    def age(body: bytes) -> int:
        return int(body.split()[1])

    asyncio.run(main())


def test_a_slow_reader_that_is_cancelled_still_counts_exactly(connect: Open, topic: str) -> None:
    async def main() -> None:
        async with connect() as bus, connect() as writer:
            newest, draws = Newest(bus, [topic], bound=20, key=lambda m: int(m.body) % 5), random.Random(7)
            await newest.read(0.0)
            out: list[Message] = []

            async def take() -> None:
                out.extend(await newest.read(0.01))

            for n in range(300):
                await writer.publish(topic, b"%d" % n, bound=100)
                if n % 10 == 9:
                    task = asyncio.create_task(take())
                    await asyncio.sleep(draws.random() * 0.003)
                    task.cancel()
                    await asyncio.wait([task])
            while len(out) + newest.skipped.total() + newest.missed.total() < 300:
                await take()
            assert len(out) + newest.skipped.total() + newest.missed.total() == 300
            assert [int(m.body) for m in out] == sorted(int(m.body) for m in out)
            assert int(out[-1].body) == 299

    asyncio.run(main())


# ── faults ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_full_bus_refuses_drops_nothing_and_works_again(own_valkey: Valkey, topic: str) -> None:
    async def fill(bus: Bus, free: Callable[[], None]) -> None:
        work, sent = bus.work([topic], "g", "a"), 0
        assert await work.read(timeout=0.0) == []
        refused = None
        while not refused:
            try:
                await bus.publish(topic, b"%d" % sent + b" " * 10_000)
                sent += 1
            except RedisError as error:
                refused = error
        assert "memory limit" in refused.message
        assert refused.context["topic"] == topic
        assert sent > 100
        with pytest.raises(RedisError, match="memory limit"):
            await bus.publish_all([(topic, b"x"), (topic, b" " * 10_000)])
        assert await bus.length(topic) == await bus.lag(topic, "g") == sent  # a batch is refused whole
        assert [int(m.body) for m in await drain(work)] == list(range(sent))
        await bus.trim(topic, 10)
        free()
        await bus.publish_all([(topic, b"x"), (topic, b"y")])
        assert bodies(await drain(work)) == [b"x", b"y"]

    async def main() -> None:
        await fill(MemoryBus(limit=5_000_000), lambda: None)
        async with RedisBus.connect(own_valkey.socket) as bus:
            used = (await bus.client.info("memory"))["used_memory"]
            own_valkey.config("maxmemory", used + 5_000_000)
            await fill(bus, lambda: own_valkey.config("maxmemory", 0))

    asyncio.run(main())


def test_a_bounded_topic_makes_its_own_room_on_a_full_server(own_valkey: Valkey, topic: str) -> None:
    async def main() -> None:
        async with RedisBus.connect(own_valkey.socket) as bus:
            for _ in range(200):
                await bus.publish(topic, b" " * 50_000)
            used = (await bus.client.info("memory"))["used_memory"]
            own_valkey.config("maxmemory", used - 1_000_000)
            with pytest.raises(RedisError, match="memory limit"):
                await bus.publish(topic, b"x")
            await bus.publish_all([(topic, b"x"), (topic, b"x")], bound=100)

    asyncio.run(main())


def test_nothing_confirmed_is_lost_when_the_server_is_killed(own_valkey: Valkey, topic: str) -> None:
    async def main() -> None:
        confirmed: list[bytes] = []
        handled: Counter[bytes] = Counter()
        seen: list[bytes] = []
        stop = asyncio.Event()

        async def publish(bus: Bus) -> None:
            for n in itertools.count():
                if stop.is_set():
                    return
                try:
                    await bus.publish(topic, b"%d" % n)
                    confirmed.append(b"%d" % n)
                except RedisError:
                    await asyncio.sleep(0.02)
                await asyncio.sleep(0.001)

        async def handle(bus: Bus) -> None:
            work, unconfirmed = bus.work([topic], "g", "a"), list[Message]()
            quiet = 0
            while not (stop.is_set() and quiet > 2 and not unconfirmed):
                try:
                    await work.ack(*unconfirmed)
                    unconfirmed = []
                    unconfirmed = await work.read(timeout=0.05)
                    handled.update(bodies(unconfirmed))
                    quiet = 0 if unconfirmed else quiet + 1
                except RedisError:
                    await asyncio.sleep(0.02)

        async def watch(bus: Bus) -> None:
            after, quiet = {topic: "0"}, 0
            while not (stop.is_set() and quiet > 2):
                try:
                    found = await bus.read(after, timeout=0.05)
                    quiet = 0 if found else quiet + 1
                    for message in found:
                        after[topic] = message.offset
                        seen.append(message.body)
                except RedisError:
                    await asyncio.sleep(0.02)

        async def harm() -> None:
            for _ in range(3):
                await grown(confirmed, 40)
                await asyncio.to_thread(own_valkey.kill)
                await asyncio.sleep(0.2)
                await asyncio.to_thread(own_valkey.start)
            await grown(confirmed, 40)
            stop.set()

        address = own_valkey.socket
        async with (
            RedisBus.connect(address) as one,
            RedisBus.connect(address) as two,
            RedisBus.connect(address) as three,
        ):
            await asyncio.gather(publish(one), handle(two), watch(three), harm())
            assert set(confirmed) <= set(handled)
            assert set(confirmed) <= set(seen)
            order = [int(body) for body in seen]
            assert order == sorted(set(order))
            assert await one.lag(topic, "g") == 0

    asyncio.run(main())


@pytest.mark.parametrize("how", ["dead", "frozen"])
def test_a_server_that_is_away_is_an_error_in_time(own_valkey: Valkey, topic: str, how: str) -> None:
    async def main() -> None:
        async with RedisBus.connect(own_valkey.socket, timeout=1) as bus:
            work = bus.work([topic], "g", "a")
            newest = Newest(bus, [topic])
            await bus.publish(topic, b"0")
            (held,) = await work.read()
            operations = {
                "publish": lambda: bus.publish(topic, b"1"),
                "publish_all": lambda: bus.publish_all([(topic, b"1"), (topic, b"2")], bound=10),
                "read": lambda: bus.read({topic: "0"}, timeout=5),
                "work": lambda: work.read(timeout=5),
                "ack": lambda: work.ack(held),
                "newest": lambda: newest.read(timeout=5),
                "tails": lambda: bus.last(topic),
                "trim": lambda: bus.trim(topic, 1),
            }
            waiting = [
                asyncio.create_task(bus.read({topic: held.offset}, timeout=30)),
                asyncio.create_task(work.read(timeout=30)),
            ]
            await asyncio.sleep(0.1)
            if how == "dead":
                own_valkey.kill()
            else:
                os.kill(own_valkey.pid, signal.SIGSTOP)
            for task in waiting:
                with pytest.raises(RedisError):
                    await asyncio.wait_for(task, 5)

            async def fails(name: str, operation: Callable[[], Awaitable[Any]]) -> None:
                begin = monotonic()
                with pytest.raises(RedisError, match=f"{topic}: the server") as failed:
                    await operation()
                assert monotonic() - begin < 6, name
                assert failed.value.context["topic"] == topic
                assert failed.value.context["operation"]
                assert failed.value.fix

            await asyncio.gather(*(fails(name, operation) for name, operation in operations.items()))
            if how == "dead":
                own_valkey.start()
            else:
                os.kill(own_valkey.pid, signal.SIGCONT)
            again = [
                held,
                *await bus.read({topic: held.offset}, timeout=0.5),
            ]  # what was on its way may have arrived
            assert again[0].body == b"0"
            await bus.publish(topic, b"after")
            assert bodies(await drain(work))[-1] == b"after"
            assert bodies(await bus.read({topic: "0"}))[-1] == b"after"

    asyncio.run(main())


def test_a_server_that_forgot_everything_is_served_from_the_start(valkey: Valkey, topic: str) -> None:
    async def main() -> None:
        async with RedisBus.connect(valkey.socket) as bus:
            names = [topic, f"{topic}.more"]
            work, after = bus.work(names, "g", "a", idle=IDLE), {topic: "$"}
            await bus.publish_all([(topic, b"forgotten"), (topic, b"forgotten too")])
            held = await work.read()
            assert await bus.read(after, timeout=0.01) == []
            await asyncio.sleep(IDLE)
            valkey.flush()
            await work.ack(held.pop())
            await bus.publish(topic, b"1")  # the topic is there again, its group is not
            assert bodies(await work.read()) == [b"1"]
            assert bodies(await bus.read(after)) == [b"1"]
            await work.ack(*held)
            assert await bus.lag(topic, "g") == 1

            waiting = asyncio.create_task(work.read(timeout=10))
            await asyncio.sleep(0.1)
            valkey.flush()
            await asyncio.sleep(0.1)
            await bus.publish(names[1], b"2")
            assert bodies(await waiting) == [b"2"]
            assert bodies(await drain(work)) == []

    asyncio.run(main())


def test_a_closed_bus_says_so_and_wakes_its_readers(valkey: Valkey, topic: str) -> None:
    async def main() -> None:
        for bus in (MemoryBus(), RedisBus.connect(valkey.socket)):
            readers = [
                asyncio.create_task(bus.read({topic: "0"}, timeout=30)),
                asyncio.create_task(bus.work([topic], "g", "a").read(timeout=30)),
            ]
            await asyncio.sleep(0.1)
            await bus.close()
            for reader in readers:
                with pytest.raises(RedisError, match="the bus is closed"):
                    await asyncio.wait_for(reader, 5)
            with pytest.raises(RedisError, match="the bus is closed"):
                await bus.publish(topic, b"x")
            await bus.close()

    asyncio.run(main())


def test_addresses_and_their_secrets(valkey: Valkey, topic: str) -> None:
    async def main() -> None:
        canary = "hunter2-hunter2"
        for address, shown in (
            ("127.0.0.1:1", "redis://127.0.0.1:1"),
            ("localhost:1", "redis://localhost:1"),
            (f"redis://user:{canary}@127.0.0.1:1/3", "redis://127.0.0.1:1/3"),  # pragma: allowlist secret
            (f"rediss://:{canary}@127.0.0.1:1", "rediss://127.0.0.1:1"),
        ):
            async with RedisBus.connect(address, password=canary, timeout=1) as bus:
                assert bus.address == shown
                with pytest.raises(RedisError, match="cannot be reached") as failed:
                    await bus.publish(topic, b"x")
                assert failed.value.code == "E_REDIS_DOWN"
                assert canary not in f"{failed.value!r} {failed.value} {failed.value.context} {bus!r}"
        for bad in ("ftp://127.0.0.1", "redis://127.0.0.1:port"):
            with pytest.raises(ConfigurationError):
                RedisBus.connect(bad)
        for good in (valkey.socket, str(valkey.socket), f"unix://{valkey.socket}?db=3"):
            async with RedisBus.connect(good) as bus:
                await bus.publish(topic, b"x")
        async with RedisBus.connect(valkey.socket, username="nobody", password=canary) as bus:
            with pytest.raises(RedisError, match="refuses this user") as failed:
                await bus.publish(topic, b"x")
            assert canary not in f"{failed.value!r} {failed.value.context}"

    asyncio.run(main())


def test_a_key_that_is_no_topic_is_named(valkey: Valkey, topic: str) -> None:
    async def main() -> None:
        async with RedisBus.connect(valkey.socket) as bus:
            await bus.client.set(topic, "something else")
            for operation in (
                bus.publish(topic, b"secret body"),
                bus.publish(topic, b"secret body", bound=5),
                bus.publish_all([(f"{topic}.ok", b"secret body"), (topic, b"secret body")]),
                bus.read({topic: "0"}),
                bus.last(topic),
                bus.work([topic], "g", "a").read(),
            ):
                with pytest.raises(RedisError, match=f"{topic}.*WRONGTYPE") as failed:
                    await operation
                assert "secret" not in str(failed.value)

    asyncio.run(main())


def test_one_operation_is_one_round_trip(own_valkey: Valkey, topic: str) -> None:
    async def main() -> None:
        async with RedisBus.connect(own_valkey.socket) as bus:
            work, after = bus.work([topic], "g", "a", idle=60), {topic: "0"}
            await work.read(timeout=0.0)
            await bus.client.config_resetstat()
            for n in range(10):
                await bus.publish(topic, b"%d" % n)
                (message,) = await work.read()
                await work.ack(message)
                (message,) = await bus.read(after)
                after[topic] = message.offset
            stats: dict[str, dict[str, int]] = await bus.client.info("commandstats")
            calls = {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}
            of_streams = {name: count for name, count in calls.items() if name.startswith("x")}
            assert of_streams == {"xadd": 10, "xreadgroup": 10, "xack": 10, "xread": 10}
            assert "eval" not in calls

    asyncio.run(main())


# ── consumers that are processes ─────────────────────────────────────────────────────────────────────────────────

CONSUMER = """
import asyncio, os, sys
from alphapanda.buses.redis import RedisBus

async def main(socket, topic, name, ledger):
    work = RedisBus.connect(socket).work([topic], "g", name, idle=0.5)
    while True:
        for message in await work.read(5, timeout=0.1):
            os.write(ledger, b"%s %s %d\\n" % (name.encode(), message.body, message.attempts))
            await asyncio.sleep(0.002)
            await work.ack(message)

asyncio.run(main(*sys.argv[1:4], os.open(sys.argv[4], os.O_WRONLY | os.O_APPEND | os.O_CREAT)))
"""


class Consumer:
    """A process that writes what it handles to a file before it acknowledges."""

    def __init__(self, *arguments: str) -> None:
        self._command = [sys.executable, "-c", CONSUMER, *arguments]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command)

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def test_consumers_killed_and_frozen_lose_nothing(valkey: Valkey, topic: str, tmp_path: Path) -> None:
    ledger, draws = tmp_path / "ledger", random.Random(7)
    ledger.touch()

    async def handled(count: int) -> None:
        """Wait until so many lines are written."""
        for _ in range(1000):
            if len(ledger.read_text().splitlines()) >= count:
                return
            await asyncio.sleep(0.02)

    async def main() -> None:
        consumers = [Consumer(str(valkey.socket), topic, name, str(ledger)) for name in "ab"]
        try:
            async with RedisBus.connect(valkey.socket) as bus:
                for round_ in range(5):
                    await bus.publish_all(
                        [(topic, b"%d" % n) for n in range(round_ * 100, round_ * 100 + 100)]
                    )
                    await handled(round_ * 100 + draws.randrange(10, 90))
                    victim = consumers[round_ % 2]
                    if round_ < 3:
                        victim.kill()
                        victim.start()
                    else:
                        victim.send(signal.SIGSTOP)
                        await asyncio.sleep(0.8)  # long enough for the other to take over
                        victim.send(signal.SIGCONT)
                consumers[0].kill()  # the other inherits
                for _ in range(600):
                    if not await bus.lag(topic, "g"):
                        break
                    await asyncio.sleep(0.05)
        finally:
            for consumer in consumers:
                consumer.kill()
        rows = [line.split() for line in ledger.read_text().splitlines()]
        times = Counter(int(body) for _, body, _ in rows)
        assert set(times) == set(range(500))
        assert times.total() <= 500 + 6 * 5 * 2  # only what was in hands at a fault comes twice
        for name in "ab":
            fresh = [int(body) for who, body, attempts in rows if who == name and attempts == "1"]
            assert fresh == sorted(fresh)

    asyncio.run(main())


# ── envelopes ────────────────────────────────────────────────────────────────────────────────────────────────────

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@given(data=plain, words=st.lists(st.text(max_size=10), min_size=8, max_size=8), ts=st.integers(0, 2**62))
def test_an_envelope_comes_back_as_it_was(data: Any, words: list[str], ts: int) -> None:
    names = ("id", "type", "source", "namespace", "key", "correlation_id", "trace_id", "causation_id")
    envelope = EventEnvelope(ts=ts, data=data, **dict(zip(names, words, strict=True)))
    assert decode(encode(envelope)) == envelope


@given(st.binary(max_size=200))
def test_anything_else_is_a_data_error(body: bytes) -> None:
    with pytest.raises(DataError):
        decode(body)


def test_what_cannot_travel_says_so() -> None:
    envelope = EventEnvelope(
        id="1",
        type="x",
        ts=0,
        source="s",
        namespace="paper",
        key="",
        correlation_id="",
        trace_id="",
        data=object(),
    )
    with pytest.raises(DataError, match="cannot travel"):
        encode(envelope)

"""A bus inside one process and event loop, for tests and for writers and readers that share a process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from alphapanda.buses.base import Bus, Message, Share, Tail, place
from alphapanda.clock import monotonic
from alphapanda.errors import RedisError


class Pending:
    """A message in a consumer's hands."""

    __slots__ = ("attempts", "consumer")

    def __init__(self, consumer: str) -> None:
        self.consumer = consumer
        self.attempts = 1


class Group:
    """How far a group is: ``given`` numbers the message handed out last, ``seen`` is when a consumer was heard."""

    def __init__(self) -> None:
        self.given = 0
        self.pending: dict[int, Pending] = {}
        self.seen: dict[str, float] = {}

    @property
    def needs(self) -> int:
        """The first message it has not acknowledged."""
        return min(self.pending, default=self.given + 1)


class Topic:
    """Messages ``first`` .. ``added``, numbered from 1 as they were published."""

    def __init__(self) -> None:
        self.first = 1
        self.bodies: list[bytes] = []
        self.groups: dict[str, Group] = {}

    @property
    def added(self) -> int:
        return self.first + len(self.bodies) - 1

    def from_(self, number: int, count: int) -> list[tuple[int, bytes]]:
        """At most ``count`` messages, the first of them ``number`` or the next that is kept."""
        at = max(number, self.first) - self.first
        return list(enumerate(self.bodies[at : at + count], self.first + at))


class MemoryBus(Bus):
    """``limit`` is the most bytes all topics together may hold: past it writes are refused, as a full server does."""

    def __init__(self, limit: int = 256 * 2**20) -> None:
        self._limit = limit
        self._bytes = 0
        self._topics: dict[str, Topic] = {}
        self._waiting: set[asyncio.Future[None]] = set()
        self._closed = False

    def topic(self, name: str, operation: str) -> Topic:
        """The topic, made when first named; RedisError once the bus is closed."""
        if self._closed:
            raise RedisError(
                f"{operation} of {name}: the bus is closed",
                fix="open a new one",
                operation=operation,
                topic=name,
            )
        return self._topics.setdefault(name, Topic())

    async def publish_all(self, items: Sequence[tuple[str, bytes]], *, bound: int | None = None) -> list[str]:
        await asyncio.sleep(0)  # a writer in a loop lets its readers run, as it does where a server is asked
        topics = [self.topic(name, "publish") for name, _ in items]
        size = sum(len(body) for _, body in items)
        if self._bytes + size > self._limit:
            name = items[0][0]
            message = (
                f"publish to {name}: the memory limit of {self._limit} bytes is reached; nothing was dropped"
            )
            raise RedisError(message, fix="read or trim, or raise the limit", operation="publish", topic=name)
        offsets: list[str] = []
        for topic, (_, body) in zip(topics, items, strict=True):
            topic.bodies.append(bytes(body))
            offsets.append(f"{topic.added}-0")
        self._bytes += size
        if bound is not None:
            for topic in set(topics):
                if len(topic.bodies) > bound + bound // 10:
                    self._trim(topic, bound)
        self._wake()
        return offsets

    def _wake(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()

    async def changed(self, deadline: float) -> bool:
        """Wait until something was published; False when the time is up."""
        if (left := deadline - monotonic()) <= 0:
            return False
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            async with asyncio.timeout(left):
                await future
        except TimeoutError:
            return False
        finally:
            self._waiting.discard(future)
        return True

    async def after(self, after: dict[str, str], count: int, timeout: float) -> list[Message]:
        deadline = monotonic() + timeout
        await asyncio.sleep(0)
        while True:
            found = [
                Message(name, f"{number}-0", body)
                for name, offset in after.items()
                for number, body in self.topic(name, "read").from_(place(offset)[0] + 1, count)
            ]
            if found or not await self.changed(deadline):
                return found

    async def tails(self, topics: Iterable[str]) -> dict[str, Tail]:
        found: dict[str, Tail] = {}
        for name in topics:
            topic = self.topic(name, "tails")
            lags = {
                group: len(g.pending) + topic.added - max(g.given, topic.first - 1)
                for group, g in topic.groups.items()
            }
            found[name] = Tail(f"{topic.added}-0", topic.added, len(topic.bodies), lags)
        return found

    async def trim(self, topic: str, bound: int) -> int:
        return self._trim(self.topic(topic, "trim"), bound)

    def _trim(self, topic: Topic, bound: int) -> int:
        free = min((group.needs for group in topic.groups.values()), default=topic.added + 1) - topic.first
        count = max(0, min(free, len(topic.bodies) - bound))
        self._bytes -= sum(map(len, topic.bodies[:count]))
        del topic.bodies[:count]
        topic.first += count
        return count

    def share(self, topics: Sequence[str], group: str, consumer: str) -> Share:
        return MemoryShare(self, topics, group, consumer)

    async def close(self) -> None:
        self._closed = True
        self._wake()


class MemoryShare(Share):
    """See ``Share``."""

    def __init__(self, bus: MemoryBus, topics: Sequence[str], group: str, consumer: str) -> None:
        self._bus = bus
        self._topics = topics
        self._group = group
        self._consumer = consumer

    def _groups(self, operation: str) -> list[tuple[str, Topic, Group]]:
        found: list[tuple[str, Topic, Group]] = []
        for name in self._topics:
            topic = self._bus.topic(name, operation)
            group = topic.groups.setdefault(self._group, Group())
            group.seen[self._consumer] = monotonic()
            found.append((name, topic, group))
        return found

    async def new(self, count: int, timeout: float) -> list[Message]:
        deadline = monotonic() + timeout
        await asyncio.sleep(0)
        while True:
            found: list[Message] = []
            for name, topic, group in self._groups("read"):
                for number, body in topic.from_(group.given + 1, count):
                    group.given = number
                    group.pending[number] = Pending(self._consumer)
                    found.append(Message(name, f"{number}-0", body))
            if found or not await self._bus.changed(deadline):
                return found

    async def again(self, held: Iterable[tuple[str, str]], idle: float, count: int) -> list[Message]:
        held, now, found = set(held), monotonic(), list[Message]()
        for name, topic, group in self._groups("read"):
            dead = {consumer for consumer, at in group.seen.items() if now - at >= idle}
            waiting = [n for n in sorted(group.pending) if (name, f"{n}-0") not in held]
            ours = [n for n in waiting if group.pending[n].consumer == self._consumer]
            theirs = [n for n in waiting if group.pending[n].consumer in dead]
            for number in (ours + theirs)[:count]:
                pending = group.pending[number]
                pending.consumer = self._consumer
                pending.attempts += 1
                body = topic.from_(number, 1)[0][1]
                found.append(Message(name, f"{number}-0", body, pending.attempts))
        return found

    async def ack(self, offsets: dict[str, list[str]], alive: bool) -> None:
        await asyncio.sleep(0)
        for name, numbers in offsets.items():
            if group := self._bus.topic(name, "ack").groups.get(self._group):
                for offset in numbers:
                    group.pending.pop(place(offset)[0], None)
        if alive:
            self._groups("ack")

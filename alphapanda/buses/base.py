"""What a bus promises, whichever carries it.

A *topic* is an ordered log of messages; an *offset* names a place in it. Two ways to read:

- ``Bus.read``: everybody sees everything after the offset they name, and keeps that offset themselves. ``"0"`` is the
  start of what is kept, ``"$"`` the end at the moment of the first read.
- ``Bus.work``: the consumers of one group share a topic's messages. A message is handed to one of them and stays theirs
  until ``ack``; what a dead consumer left unacknowledged is handed to another. So each is handled at least once, and
  whoever acts on it must know what it has done before (a restart hands out again what was done but not acknowledged).

``trim`` and ``bound=`` forget the oldest messages, but never one that some group has yet to acknowledge: a group counts
from its first read on. Every failure of a bus is a RedisError that names the operation and the topic.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Self

import msgspec

from alphapanda.clock import monotonic
from alphapanda.errors import DataError
from alphapanda.events import EventEnvelope

START = "0"
END = "$"


class Message(msgspec.Struct, frozen=True, gc=False):
    """What a reader gets. ``attempts`` counts how often it was handed to a consumer of the group, this time included.

    ``lost``: it left the topic (somebody trimmed it by hand) before the group acknowledged it. Its body is empty, so it
    cannot be decoded and ends as a dead letter like any other that cannot; acknowledge it, or it is reported again.
    """

    topic: str
    offset: str
    body: bytes
    attempts: int = 1
    lost: bool = False


class Tail(msgspec.Struct, frozen=True, gc=False):
    """Where a topic ends: the offset of the message published last ("0-0" if none), how many were ever published
    (-1 if the server does not count), how many of them are kept, and how many each group has yet to acknowledge."""

    offset: str
    added: int
    length: int
    lags: dict[str, int]


class Bus(ABC):
    """Carries bytes by topic. One object a process and event loop; use it in ``async with``, or call ``close``."""

    async def publish(self, topic: str, body: bytes, *, bound: int | None = None) -> str:
        """Append one message; returns its offset. After an error it may be on the topic or not: ids in the body tell.

        ``bound``: keep about so many messages of the topic (up to a tenth more; never less than groups still need).
        """
        return (await self.publish_all([(topic, body)], bound=bound))[0]

    @abstractmethod
    async def publish_all(self, items: Sequence[tuple[str, bytes]], *, bound: int | None = None) -> list[str]:
        """Append messages in this order, all of them or none, with nobody else's between them; returns offsets."""

    async def read(self, after: dict[str, str], *, count: int = 1000, timeout: float = 0.2) -> list[Message]:
        """What was published after each topic's offset, at most ``count`` a topic; waits ``timeout`` seconds for the
        first and returns [] when none comes. The caller moves the offsets on; only ``"$"`` is replaced here, by the
        offset it stands for, so that nothing slips through between two reads."""
        if new := [topic for topic, offset in after.items() if offset == END]:
            after.update((topic, tail.offset) for topic, tail in (await self.tails(new)).items())
        return await self.after(after, count, timeout)

    @abstractmethod
    async def after(self, after: dict[str, str], count: int, timeout: float) -> list[Message]:
        """As ``read``, of offsets other than ``"$"``."""

    @abstractmethod
    async def tails(self, topics: Iterable[str]) -> dict[str, Tail]:
        """Where topics end, in one round trip."""

    async def last(self, topic: str) -> str:
        """The offset of the message published last, ``"0-0"`` if there was none."""
        return (await self.tails([topic]))[topic].offset

    async def length(self, topic: str) -> int:
        """How many messages the topic keeps."""
        return (await self.tails([topic]))[topic].length

    async def lag(self, topic: str, group: str) -> int:
        """How many messages the group has yet to acknowledge, handed out or not; all of them if it never read."""
        tail = (await self.tails([topic]))[topic]
        return tail.lags.get(group, tail.length)

    @abstractmethod
    async def trim(self, topic: str, bound: int) -> int:
        """Forget the oldest messages beyond ``bound``, but none that a group needs; returns how many were removed."""

    def work(self, topics: Sequence[str], group: str, consumer: str, *, idle: float = 5.0) -> Work:
        """One consumer of a group. A consumer that holds messages and neither reads nor acknowledges for ``idle``
        seconds counts as dead: its messages go to the others. Give all of a group the same ``idle``, longer than one
        message can take, and every live consumer a name of its own; one that starts again keeps its name."""
        return Work(self.share(topics, group, consumer), idle)

    @abstractmethod
    def share(self, topics: Sequence[str], group: str, consumer: str) -> Share:
        """What ``Work`` is made of."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of connections; a read under way fails, and so does every later call."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class Share(ABC):
    """A consumer's share of a group, as a bus keeps it. Every call makes the group first if it is not there, from the
    start of the topic, and shows the others that the consumer lives."""

    @abstractmethod
    async def new(self, count: int, timeout: float) -> list[Message]:
        """Messages nobody of the group has had; may return [] before the time is up."""

    @abstractmethod
    async def again(self, held: Iterable[tuple[str, str]], idle: float, count: int) -> list[Message]:
        """Messages handed out before and not acknowledged: our own but those in ``held``, then those of consumers not
        heard of for ``idle`` seconds. They are ours from now on."""

    @abstractmethod
    async def ack(self, offsets: dict[str, list[str]], alive: bool) -> None:
        """These are done. ``alive``: show the others that we live, for what we still hold."""


class Work:
    """Reads a group's messages and acknowledges them: ``for m in await work.read(): handle(m); await work.ack(m)``.

    What is handed out is held until acknowledged and not handed out again while this object lives; a message that fails
    is the caller's to try again or to put on the dead-letter topic, and then to acknowledge.
    """

    def __init__(self, share: Share, idle: float) -> None:
        self._share = share
        self._idle = idle
        self._held: set[tuple[str, str]] = set()
        self._unsure = True  # we may own messages that never came: of an earlier life, of a broken read
        self._look_at = 0.0  # when to ask next what dead consumers left
        self._seen_at = 0.0  # when the others last heard of us
        self._one = asyncio.Lock()
        self.lost = 0  # messages that were gone when it was our turn

    async def read(self, count: int = 100, timeout: float = 0.2) -> list[Message]:
        """The next messages, at most ``count`` a topic: what this consumer left behind in an earlier life, then what
        dead ones did, then new ones; [] when none came within ``timeout`` seconds."""
        deadline = monotonic() + timeout
        async with self._one:
            while True:
                if self._unsure or monotonic() >= self._look_at:
                    self._unsure = True
                    if found := await self._share.again(self._held, self._idle, count):
                        return self._hand(found)
                    self._unsure = False
                    self._seen_at = monotonic()
                    self._look_at = self._seen_at + self._idle / 3
                wait = max(0.0, min(deadline, self._look_at) - monotonic())
                self._unsure = True
                found = await self._share.new(count, wait)
                self._unsure = False
                if found or monotonic() >= deadline:
                    return self._hand(found)

    def _hand(self, messages: list[Message]) -> list[Message]:
        self._held.update((message.topic, message.offset) for message in messages)
        self.lost += sum(message.lost for message in messages)
        return messages

    async def ack(self, *messages: Message) -> None:
        """These are handled for good, wherever they came from; call it after the effect is durable."""
        offsets: dict[str, list[str]] = {}
        for message in messages:
            offsets.setdefault(message.topic, []).append(message.offset)
        rest = len(self._held) > len(messages)
        alive = rest and monotonic() >= self._seen_at + self._idle / 3
        await self._share.ack(offsets, alive)
        self._held.difference_update((message.topic, message.offset) for message in messages)
        if alive:
            self._seen_at = monotonic()


def place(offset: str) -> tuple[int, int]:
    """An offset as numbers that compare."""
    whole, _, part = offset.partition("-")
    return int(whole), int(part or 0)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(EventEnvelope)


def encode(envelope: EventEnvelope) -> bytes:
    """An envelope as msgpack; ``data`` comes back as plain dicts, lists and numbers."""
    try:
        return _encoder.encode(envelope)
    except (TypeError, ValueError, OverflowError) as error:
        fix = "send numbers, text, lists and dicts"
        raise DataError(f"{envelope.type} cannot travel: {error}", fix=fix) from None


def decode(body: bytes) -> EventEnvelope:
    """What ``encode`` made; DataError (never retried) for anything else."""
    try:
        return _decoder.decode(body)
    except msgspec.DecodeError as error:  # its subclass ValidationError included
        fix = "look at it with `alphapanda dlq show`"
        raise DataError(f"not an event: {error}", fix=fix, size=len(body)) from None

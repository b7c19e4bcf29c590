"""Dead letters: messages that had no other ending, kept with all we know, and what a person did with them.

A letter's id is its message's place, so a letter that was written twice is one letter. The topic is never shortened:
what a person did with a letter (a ``Settlement``) stands on a topic beside it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Literal

import msgspec

from alphapanda.buses.base import Bus, Message, decode
from alphapanda.clock import wall_ns
from alphapanda.errors import AlphaPandaException, UnknownNameError
from alphapanda.events import EventEnvelope, Topics
from alphapanda.logs.redaction import safe_text

STACK = 8000  # characters


class DeadLetter(msgspec.Struct, frozen=True):
    """A message that had no other ending, with its bytes as they were and what was tried. Times are wall ns."""

    id: str  # topic@offset
    topic: str
    body: bytes
    error: str  # the class
    message: str
    reason: str
    code: str = "E_UNEXPECTED"
    stack: str = ""
    attempts: int = 1
    first: int = 0
    last: int = 0
    namespace: str = ""
    correlation_id: str = ""

    @property
    def envelope(self) -> EventEnvelope | None:
        """The event, None if the bytes are not one."""
        with contextlib.suppress(AlphaPandaException):
            return decode(self.body)
        return None


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """What was done with a letter, and when (wall ns)."""

    id: str
    done: Literal["replayed", "discarded"]
    reason: str
    at: int


async def _all(bus: Bus, topic: str) -> list[Message]:
    found: list[Message] = []
    while more := await bus.read({topic: found[-1].offset if found else "0"}, timeout=0.0):
        found += more
    return found


async def letters(bus: Bus, topic: str) -> tuple[dict[str, DeadLetter], dict[str, Settlement]]:
    """Every letter of ``topic`` by id, oldest first, and what was done with those that are settled."""
    found: dict[str, DeadLetter] = {}
    for message in await _all(bus, Topics.dead_letters(topic)):
        try:
            letter = msgspec.msgpack.decode(message.body, type=DeadLetter)
        except msgspec.DecodeError as error:  # nothing on this topic is ever out of sight
            place, text = f"{topic}@dlq-{message.offset}", safe_text(str(error))
            letter = DeadLetter(place, topic, message.body, "DecodeError", text, "not a letter")
        found.setdefault(letter.id, letter)
    done: dict[str, Settlement] = {}
    for message in await _all(bus, settled(topic)):
        with contextlib.suppress(msgspec.DecodeError):
            one = msgspec.msgpack.decode(message.body, type=Settlement)
            done.setdefault(one.id, one)
    return found, done


def settled(topic: str) -> str:
    return f"{Topics.dead_letters(topic)}.settled"


async def inspect(bus: Bus, letter_id: str) -> tuple[DeadLetter, Settlement | None]:
    """One letter and what was done with it; UnknownNameError if there is none."""
    found, done = await letters(bus, letter_id.rpartition("@")[0])
    if letter_id not in found:
        raise UnknownNameError("dead letter", letter_id, found, code="E_LETTER")
    return found[letter_id], done.get(letter_id)


async def discard(bus: Bus, letter_id: str, *, reason: str, clock: Callable[[], int] = wall_ns) -> Settlement:
    """A person has decided that nothing is to be done; a letter that is settled stays as it is."""
    letter, done = await inspect(bus, letter_id)
    if done is None:
        done = Settlement(id=letter_id, done="discarded", reason=reason, at=clock())
        await bus.publish(settled(letter.topic), msgspec.msgpack.encode(done))
    return done

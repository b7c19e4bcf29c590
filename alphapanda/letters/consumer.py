"""Messages taken to their ending: handled, tried again, or put aside with all we know.

    await handle_all(bus, bus.work([topic], "gateway", "g1"), handle, statistics=statistics)

Rules. A message has exactly one ending: ``handle`` returned, or its letter lies on the dead-letter topic; only then is
it acknowledged. (In this order on one server: one that loses its last second never loses the letter alone.) A transient
error is tried again after a growing wait while messages of other keys go on; those of the same key wait behind it.
Anything else is put aside at once. While letters cannot be written the consumer stands still; what it was about to put
aside for a transient error is then tried again first, since its cause is likely the same outage.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec

from alphapanda import logs
from alphapanda.buses.base import Bus, Message, Work, decode
from alphapanda.clock import monotonic, wall_ns
from alphapanda.errors import BACK_OFF, AlphaPandaException, TransientError, ValidationError
from alphapanda.events import EventEnvelope, Topics
from alphapanda.letters.dead_letters import STACK, DeadLetter
from alphapanda.letters.statistics import ErrorStatistics
from alphapanda.letters.verdicts import classify
from alphapanda.logs.redaction import safe_text, safe_trace

DELIVERIES = 5  # a message handed out more often than this ended its consumer each time
WAITING = 1000  # messages held for a later try before no more are taken in
BATCH = 100

log = logs.channel("application")


class Attempt:
    """A message on its way to its ending."""

    def __init__(self, message: Message, envelope: EventEnvelope | None) -> None:
        self.message, self.envelope = message, envelope
        self.tries, self.due, self.first = 0, 0.0, 0


class Consumer:
    """Takes messages of ``work`` one at a time to their ending; ``state`` says how it goes, ``counts`` what it did.

    ``paused``: letters cannot be written. ``waiting``: the bus does not answer; neither loses anything.
    """

    def __init__(
        self,
        bus: Bus,
        work: Work,
        handle: Callable[[Message], Awaitable[None]],
        *,
        statistics: ErrorStatistics | None = None,
        clock: Callable[[], int] = wall_ns,
        seed: int | None = None,
    ) -> None:
        self._bus, self._work, self._handle = bus, work, handle
        self._clock, self._random = clock, random.Random(seed)
        self._lanes: dict[tuple[str, str], deque[Attempt]] = {}  # the first of each waits to be tried again
        self._ended: list[Message] = []
        self._batch = (
            1  # what a crash left is read one by one, so that only its cause is handed out again and again
        )
        self._failures = 0
        self.statistics = statistics or ErrorStatistics()
        self.state: Literal["running", "paused", "waiting"] = "running"
        self.counts: Counter[str] = Counter()

    @property
    def held(self) -> int:
        """Messages that wait for another try, or behind one."""
        return sum(map(len, self._lanes.values()))

    async def run(self, until: asyncio.Event | None = None) -> None:
        """Handle messages until the event is set, or for good."""
        try:
            while until is None or not until.is_set():
                await self.step()
        finally:
            with contextlib.suppress(AlphaPandaException):
                await self._work.ack(*self._ended)

    async def step(self, timeout: float = 0.2) -> None:
        """One read, and everything that can be done without waiting for longer than ``timeout`` seconds."""
        try:
            await self._retry()
            await self._acknowledge()
            due = min((lane[0].due for lane in self._lanes.values()), default=monotonic() + timeout)
            wait = max(0.0, min(timeout, due - monotonic()))
            if self.held >= WAITING:
                await self._work.ack()  # the group sees that we live
                await asyncio.sleep(wait)
                return
            messages = await self._work.read(self._batch, wait)
            self._batch = 1 if any(message.attempts > 1 for message in messages) else BATCH
            for message in messages:
                await self._take(message, suspect=message is messages[0] and message.attempts > DELIVERIES)
                await self._retry()
            await self._acknowledge()
            self._say("running")
        except TransientError as error:
            self._failures += 1
            self._say("waiting", error)
            await asyncio.sleep(BACK_OFF.delay(min(self._failures, 4), self._random.random()))

    def _say(self, state: Literal["running", "paused", "waiting"], error: Exception | None = None) -> None:
        if state != self.state:
            if error is None:
                log.info(f"consumer.{state}")
            else:
                log.error(f"consumer.{state}", error=error)
        self._failures = 0 if state == "running" else self._failures
        self.state = state

    async def _acknowledge(self) -> None:
        if self._ended:
            await self._work.ack(*self._ended)
            self._ended.clear()

    async def _take(self, message: Message, *, suspect: bool) -> None:
        try:
            envelope = decode(message.body)
        except AlphaPandaException as error:
            await self._bury(Attempt(message, None), error, "not an event")
            return
        attempt = Attempt(message, envelope)
        if suspect:
            text = f"handed out {message.attempts} times without an ending"
            error = ValidationError(text, code="E_DELIVERIES")
            await self._bury(attempt, error, "it ends its consumer")
        elif lane := self._lanes.get((message.topic, envelope.key)):
            lane.append(attempt)
        elif not await self._try(attempt):
            self._lanes[message.topic, envelope.key] = deque([attempt])

    async def _retry(self) -> None:
        """Try again what is due, and what waited behind it."""
        for key, lane in list(self._lanes.items()):
            while lane and lane[0].due <= monotonic() and await self._try(lane[0]):
                lane.popleft()
            if not lane:
                del self._lanes[key]

    async def _try(self, attempt: Attempt) -> bool:
        """Whether the message has come to its ending."""
        while error := await self._failure(attempt):
            verdict = classify(error)
            if attempt.tries < verdict.policy.attempts:
                self._count(attempt, error)
                attempt.due = monotonic() + verdict.policy.delay(attempt.tries, self._random.random())
                self.counts["retried"] += 1
                with logs.bind(attempt.envelope):
                    place = {"topic": attempt.message.topic, "offset": attempt.message.offset}
                    log.warning("message.retry", **place, tries=attempt.tries, error=error)
                return False
            if await self._bury(attempt, error, verdict.reason, again=verdict.policy.attempts > 1):
                return True
        await self._end(attempt, "done")
        return True

    async def _failure(self, attempt: Attempt) -> Exception | None:
        attempt.tries += 1
        try:
            with logs.bind(attempt.envelope):
                await self._handle(attempt.message)
        except Exception as error:  # noqa: BLE001 - a handler's last stop: whatever it raises becomes a letter
            return error
        return None

    async def _end(self, attempt: Attempt, ending: str) -> None:
        self._say("running")
        self.counts[ending] += 1
        self._ended.append(attempt.message)
        if attempt.message.attempts > 1:  # what follows may end this process again
            with contextlib.suppress(TransientError):
                await self._acknowledge()

    def _count(self, attempt: Attempt, error: Exception) -> int:
        now, envelope = self._clock(), attempt.envelope
        attempt.first = attempt.first or now
        namespace = envelope.namespace if envelope else ""
        self.statistics.add(type(error).__name__, attempt.message.topic, namespace, now)
        return now

    async def _bury(self, attempt: Attempt, error: Exception, reason: str, again: bool = False) -> bool:
        """Write the letter, however long that takes; until then nothing else is done. ``again``: it may be tried again,
        so if the letter cannot be written return False after a pause."""
        now, message, envelope = self._count(attempt, error), attempt.message, attempt.envelope
        letter = DeadLetter(
            id=f"{message.topic}@{message.offset}",
            topic=message.topic,
            body=message.body,
            error=type(error).__name__,
            code=error.code if isinstance(error, AlphaPandaException) else "E_UNEXPECTED",
            message=safe_text(str(error)),
            stack=safe_trace(error, STACK),
            reason=reason,
            attempts=max(1, attempt.tries) + message.attempts - 1,
            first=attempt.first,
            last=now,
            namespace=envelope.namespace if envelope else "",
            correlation_id=envelope.correlation_id if envelope else "",
        )
        while True:
            try:
                await self._bus.publish(Topics.dead_letters(message.topic), msgspec.msgpack.encode(letter))
                break
            except (AlphaPandaException, OSError) as fault:
                self._failures += 1
                self._say("paused", fault)
            with contextlib.suppress(AlphaPandaException):
                await self._work.ack()  # the group sees that we live
            await asyncio.sleep(BACK_OFF.delay(min(self._failures, 4), self._random.random()))
            if again:
                return False
        with logs.bind(envelope):
            log.error("message.dead", letter=letter.id, reason=reason, exc_info=error)
        await self._end(attempt, "dead")
        return True


async def handle_all(
    bus: Bus,
    work: Work,
    handle: Callable[[Message], Awaitable[None]],
    *,
    statistics: ErrorStatistics | None = None,
    until: asyncio.Event | None = None,
) -> None:
    """``handle`` every message of ``work`` until ``until`` is set: see ``Consumer``."""
    await Consumer(bus, work, handle, statistics=statistics).run(until)

"""What becomes of a message that cannot be handled: tried again, put aside with all we know, replayed by a person.

    await handle_all(bus, bus.work([topic], "gateway", "g1"), handle, statistics=statistics)
    done = await replay(bus, topic, now=tape_ts, executed=journal.has)      # dry: says what it would do

Rules. A message has exactly one ending: ``handle`` returned, or its letter lies on the dead-letter topic; only then is
it acknowledged. (In this order on one server: one that loses its last second never loses the letter alone.) A transient
error is tried again after a growing wait while messages of other keys go on; those of the same key wait behind it.
Anything else is put aside at once. While letters cannot be written the consumer stands still; what it was about to put
aside for a transient error is then tried again first, since its cause is likely the same outage. A letter's id is its
message's place, so a letter that was written twice is one letter. The topic is never shortened: what a person did with
a letter (a ``Settlement``) stands on a topic beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import msgspec

from alphapanda import logs
from alphapanda.buses.base import Bus, Message, Work, decode, encode
from alphapanda.clock import monotonic, wall_ns
from alphapanda.errors import (
    BACK_OFF,
    NEVER,
    AlphaPandaException,
    OrderTimeoutError,
    RetryPolicy,
    TransientError,
    UnknownNameError,
    ValidationError,
)
from alphapanda.events import DAY, MINUTE, EventEnvelope, Topics, ist, ist_day
from alphapanda.report.text import clean, one_line
from alphapanda.settings import Settings
from alphapanda.workspace import Workspace

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from alphapanda.buses.redis import RedisBus

DELIVERIES = 5  # a message handed out more often than this ended its consumer each time
WAITING = 1000  # messages held for a later try before no more are taken in
BATCH = 100
STACK = 8000  # characters
REFUSED = 3  # exit code
REPLAYED = ".replayed"  # a consumer that does not know the suffix does not know the type: it refuses
UPDATES = (
    "signals.rejected",
    *(name for name in Topics.NAMESPACED if name.startswith("orders.") and name != "orders.submitted"),
)

log = logs.channel("application")


# ── verdicts and letters ─────────────────────────────────────────────────────────────────────────────────────────


class Verdict(NamedTuple):
    """Whether an error may pass by itself, how patiently to find out, and why we think so."""

    kind: Literal["transient", "permanent"]
    policy: RetryPolicy
    reason: str


def classify(error: BaseException) -> Verdict:
    """What to do about an error. An order whose fate is unknown is never tried again, however deep it is wrapped."""
    if any(isinstance(one, OrderTimeoutError) for one in _lineage(error)):
        return Verdict("transient", NEVER, "the order's fate is unknown")
    if isinstance(error, BaseExceptionGroup):  # as bad as the worst of its parts
        verdicts = map(classify, cast("BaseExceptionGroup[BaseException]", error).exceptions)
        return min(verdicts, key=lambda verdict: (verdict.kind == "transient", verdict.policy.attempts))
    if isinstance(error, TransientError):
        return Verdict("transient", error.retry, "it kept failing")
    if isinstance(error, OSError):  # ConnectionError and TimeoutError among them
        return Verdict("transient", BACK_OFF, "it kept failing")
    known = isinstance(error, AlphaPandaException | msgspec.DecodeError)
    return Verdict("permanent", NEVER, "it would fail again" if known else "defect")


def _lineage(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


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


class ErrorStatistics:
    """Errors by class, topic, namespace and minute, of the last ``hours``. What is new in a minute that has ``kinds``
    kinds already is counted as ``other``, so memory is bounded."""

    def __init__(self, hours: int = 24, kinds: int = 32) -> None:
        self._span, self._kinds = hours * 60, kinds
        self._minutes: dict[int, Counter[tuple[str, str, str]]] = {}

    def add(self, error: str, topic: str, namespace: str, at: int, count: int = 1) -> None:
        """``count`` errors of a class at ``at`` (wall ns)."""
        counts = self._minutes.setdefault(at // MINUTE, Counter())
        key = error, topic, namespace
        counts[key if key in counts or len(counts) < self._kinds else ("other", "other", "other")] += count
        if len(self._minutes) > self._span:
            oldest = max(self._minutes) - self._span
            self._minutes = {minute: found for minute, found in self._minutes.items() if minute > oldest}

    def counts(
        self, by: Literal["error", "topic", "namespace", "minute", "kind"], since: int = 0
    ) -> Counter[Any]:
        """Errors since ``since`` by one of their marks; ``kind`` is class, topic and namespace together."""
        found: Counter[Any] = Counter()
        for minute, counts in self._minutes.items():
            for key, count in counts.items():
                marks: dict[str, Any] = dict(zip(("error", "topic", "namespace"), key, strict=True))
                marks |= {"kind": key, "minute": minute * MINUTE}
                found[marks[by]] += count if minute >= since // MINUTE else 0
        return +found

    def to_json(self) -> bytes:
        """Rows of minute (wall ns), class, topic, namespace, count: the value of ``errors_key``."""
        rows = [(m * MINUTE, *key, n) for m, counts in self._minutes.items() for key, n in counts.items()]
        return msgspec.json.encode(rows)

    @classmethod
    def from_json(cls, data: bytes) -> ErrorStatistics:
        """What ``to_json`` made; a process that starts again counts on from there."""
        statistics = cls()
        rows = msgspec.json.decode(data, type=list[tuple[int, str, str, str, int]])
        for at, error, topic, namespace, count in rows:
            statistics.add(error, topic, namespace, at, count)
        return statistics

    def table(self, now: int) -> Table:
        """For a terminal: the last five minutes, the last hour, and all."""
        recent, hour = self.counts("kind", now - 4 * MINUTE), self.counts("kind", now - 59 * MINUTE)
        rows = [(*k, str(recent[k]), str(hour[k]), str(n)) for k, n in self.counts("kind").most_common()]
        return _table(("error", "topic", "namespace", "5 min", "1 h", "all"), rows)


def errors_key(namespace: str) -> str:
    """The Redis key of a namespace's error statistics."""
    return f"{namespace}:errors"


# ── handling ─────────────────────────────────────────────────────────────────────────────────────────────────────


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
            message=logs.safe_text(str(error)),
            stack=logs.safe_trace(error, STACK),
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


# ── what a person does with letters ──────────────────────────────────────────────────────────────────────────────


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
            place, text = f"{topic}@dlq-{message.offset}", logs.safe_text(str(error))
            letter = DeadLetter(place, topic, message.body, "DecodeError", text, "not a letter")
        found.setdefault(letter.id, letter)
    done: dict[str, Settlement] = {}
    for message in await _all(bus, _settled(topic)):
        with contextlib.suppress(msgspec.DecodeError):
            one = msgspec.msgpack.decode(message.body, type=Settlement)
            done.setdefault(one.id, one)
    return found, done


def _settled(topic: str) -> str:
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
        await bus.publish(_settled(letter.topic), msgspec.msgpack.encode(done))
    return done


class Decision(msgspec.Struct, frozen=True):
    """What a replay did with a letter: ``refusal`` says why not; empty if it was, or would be, replayed."""

    id: str
    type: str
    refusal: str = ""
    code: str = ""


class Replay(msgspec.Struct, frozen=True):
    """What a replay did, or when ``dry`` would do."""

    dry: bool
    decisions: tuple[Decision, ...] = ()

    @property
    def counts(self) -> Counter[str]:
        """Letters by ``replayed`` (``ready`` when dry) or the reason of their refusal."""
        return Counter(one.refusal or ("ready" if self.dry else "replayed") for one in self.decisions)

    @property
    def refused(self) -> int:
        """How many were refused."""
        return sum(bool(one.refusal) for one in self.decisions)


Executed = Collection[str] | Callable[[str], object]


def is_live(namespace: str) -> bool:
    """Whether real money may move there: everywhere but in namespaces named for paper."""
    return namespace.replace("_", "-").partition("-")[0] != "paper"


def is_replayed(envelope: EventEnvelope) -> bool:
    """Whether it comes from ``replay``: a consumer in a live namespace refuses it."""
    return envelope.type.endswith(REPLAYED)


async def replay(
    bus: Bus,
    topic: str,
    *,
    now: int,
    executed: Executed,
    ids: Iterable[str] | None = None,
    dry_run: bool = True,
    live: Callable[[str], bool] = is_live,
    clock: Callable[[], int] = wall_ns,
) -> Replay:
    """Put letters back on ``topic``, all that are open or those named: once each, marked as replayed.

    ``now`` is tape time, by which signals expire. ``executed`` knows, or tells for an id, which signals and requests
    had an effect. Replaying twice is replaying once; two replays of a topic at the same moment are the caller's to
    prevent.
    """
    found, done = await letters(bus, topic)
    decisions: list[Decision] = []
    for wanted in list(ids) if ids is not None else [known for known in found if known not in done]:
        if wanted not in found:
            raise UnknownNameError("dead letter", wanted, found, code="E_LETTER")
        letter, envelope = found[wanted], found[wanted].envelope
        if wanted in done:
            refusal, code = f"already {done[wanted].done}", "E_REPLAY_SETTLED"
        elif envelope is None:
            refusal, code = "not an event", "E_REPLAY_DATA"
        else:
            refusal, code = _refusal(topic, envelope, now, executed, live)
            if not refusal and _decides(topic) and clock() - letter.last > DAY:
                refusal, code = "expired", "E_REPLAY_EXPIRED"
        decisions.append(Decision(wanted, envelope.type if envelope else "unknown", refusal, code))
        if envelope is not None and not refusal:
            done[wanted] = mark = Settlement(id=wanted, done="replayed", reason="", at=clock())
            if not dry_run:
                items = [(topic, encode(_again(envelope))), (_settled(topic), msgspec.msgpack.encode(mark))]
                await bus.publish_all(items)  # both or neither
    return Replay(dry_run, tuple(decisions))


def _again(envelope: EventEnvelope) -> EventEnvelope:
    """The event, marked; its id follows from the old one, so that whoever knows ids knows it twice."""
    kind = envelope.type.removesuffix(REPLAYED) + REPLAYED
    return msgspec.structs.replace(envelope, id=envelope.id + REPLAYED, type=kind, causation_id=envelope.id)


def _table_of(envelope: EventEnvelope) -> dict[str, Any]:
    data: Any = envelope.data
    return cast("dict[str, Any]", data) if isinstance(data, dict) else {}


def _decides(topic: str) -> bool:
    """Whether what travels there can make an order: everything that is not known to only tell of one."""
    name = topic.partition(".")[2]
    return name not in UPDATES and not name.startswith("runs.")


def _refusal(
    topic: str, envelope: EventEnvelope, now: int, executed: Executed, live: Callable[[str], bool]
) -> tuple[str, str]:
    namespace, _, name = topic.partition(".")
    if namespace == "market":
        return "ticks are on the tape", "E_REPLAY_TICKS"
    if name == "pnl.snapshots":
        return "it is computed anew", "E_REPLAY_VIEW"
    if envelope.namespace != namespace:
        return "of another namespace", "E_REPLAY_DATA"
    if name == "commands" or envelope.type.startswith(("operator.", "run.")):
        return "a command is given anew", "E_REPLAY_COMMAND"
    if not _decides(topic):
        return "", ""
    if live(namespace):
        return "a live namespace", "E_REPLAY_LIVE"
    try:
        return _decided(envelope, now, executed if callable(executed) else executed.__contains__)
    except (TypeError, ValueError):
        return "its data cannot be read", "E_REPLAY_DATA"


def _decided(envelope: EventEnvelope, now: int, executed: Callable[[str], object]) -> tuple[str, str]:
    """Why a signal or request may not be replayed: it had its effect, or its time is over."""
    data = _table_of(envelope)
    signal: dict[str, Any] = data.get("signal") or data.get("cancel") or data
    ids = [envelope.id, data.get("id")]
    if "ordinal" in signal:
        ids.append(f"{signal.get('strategy')}:{signal.get('seq')}:{signal['ordinal']}")  # as Signal.id
    for known in filter(None, ids):
        if effect := executed(str(known)):
            return (
                f"already executed{f' as {effect}' if isinstance(effect, str) else ''}",
                "E_REPLAY_EXECUTED",
            )
    ts, ttl = int(signal.get("ts", envelope.ts)), int(signal.get("ttl") or 0)
    ended = signal.get("expires_at") or (ts + ttl if ttl else None)
    over = (
        signal.get("validity") == "IOC"
        or ist_day(ts) < ist_day(now)
        or (ended is not None and int(ended) <= now)
    )
    return ("expired", "E_REPLAY_EXPIRED") if over else ("", "")


# ── the command line ─────────────────────────────────────────────────────────────────────────────────────────────


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``alphapanda dlq``."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    one = actions.add_parser("list", help="letters nobody has dealt with", allow_abbrev=False)
    one.add_argument("--topic", metavar="TOPIC", help="only of this topic: paper.signals.raw")
    one.add_argument("--settled", action="store_true", help="also those that were replayed or discarded")
    two = actions.add_parser("show", help="all that is known of one letter", allow_abbrev=False)
    two.add_argument("id", metavar="ID")
    three = actions.add_parser("replay", help="what would be put back; --yes does it", allow_abbrev=False)
    what = three.add_mutually_exclusive_group(required=True)
    what.add_argument("--topic", metavar="TOPIC", help="all letters of this topic")
    what.add_argument("--id", metavar="ID", action="append", help="this letter; may be repeated")
    what.add_argument("--all", action="store_true", help="all letters of all topics")
    three.add_argument("--yes", action="store_true", help="do it")
    four = actions.add_parser("discard", help="nothing is to be done about a letter", allow_abbrev=False)
    four.add_argument("id", metavar="ID")
    four.add_argument("--reason", required=True, help="why")
    for action in (one, two, three, four):
        action.add_argument("--json", action="store_true", help="print JSON")


class Answer(NamedTuple):
    """What a person is shown, what a program is told, and the exit code."""

    shown: RenderableType
    told: Any
    code: int = 0


def command(options: argparse.Namespace) -> int:
    """Run ``alphapanda dlq``; returns the exit code: REFUSED if a letter was refused its replay."""
    from rich.console import Console

    workspace, settings = Workspace.find(), Settings.load()
    logs.register_settings(settings)
    answer = asyncio.run(_command(options, workspace, settings))
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(answer.told)).decode())  # noqa: T201 - a command line prints
    else:
        Console().print(answer.shown, soft_wrap=True, highlight=False, markup=False)
    return answer.code


async def _command(options: argparse.Namespace, workspace: Workspace, settings: Settings) -> Answer:
    from alphapanda.buses.redis import RedisBus
    from alphapanda.server import address

    to = settings.redis
    password = to.password.get_secret_value() if to.password else None
    login: dict[str, Any] = {"username": to.username, "password": password, "database": to.database}
    async with RedisBus.connect(address(workspace, settings), timeout=to.timeout_seconds, **login) as bus:
        if options.action == "list":
            return await _list(bus, [options.topic] if options.topic else await _topics(bus), options.settled)
        if options.action == "show":
            return _letter(*await inspect(bus, options.id))
        if options.action == "discard":
            done = await discard(bus, options.id, reason=options.reason)
            return Answer(f"{done.id}: {done.done}", done)
        wanted: dict[str, list[str] | None] = {}
        for letter in options.id or ():
            wanted[letter.rpartition("@")[0]] = [*(wanted.get(letter.rpartition("@")[0]) or ()), letter]
        for topic in () if wanted else await _topics(bus) if options.all else [options.topic]:
            wanted[topic] = None
        decisions: list[Decision] = []
        with (workspace.home / "dlq.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # one replay at a time
            for topic, ids in wanted.items():
                executed, now = await _history(workspace, bus, topic.partition(".")[0])
                did = await replay(bus, topic, now=now, executed=executed, ids=ids, dry_run=not options.yes)
                decisions += did.decisions
    return _outcome(Replay(not options.yes, tuple(decisions)))


async def _topics(bus: RedisBus) -> list[str]:
    from alphapanda.state.client import told

    with told("scan", "*.dlq"):
        keys = [key.decode() async for key in cast("Any", bus.client).scan_iter("*.dlq", 1000)]
    return sorted(key.removesuffix(".dlq") for key in keys)


async def _history(workspace: Workspace, bus: RedisBus, namespace: str) -> tuple[set[str], int]:
    """What the namespace's gateway has acted on, by its journal, and the newest tape time of any run."""
    from alphapanda.state.journal import asked
    from alphapanda.state.managers import KeyValueStateManager

    runs = KeyValueStateManager(bus.client, namespace, "run")
    documents = await runs.mget(await runs.names(), dict[str, Any])
    now = max((int(one.get("tape_ts") or 0) for one in documents.values()), default=0)
    return asked(workspace.journal(namespace)), now or wall_ns()


def _table(names: Iterable[str], rows: Iterable[Sequence[str]]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(*names, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    return table


def _when(at: int) -> str:
    return f"{ist(at):%Y-%m-%d %H:%M:%S}"


async def _list(bus: RedisBus, topics: Iterable[str], settled: bool) -> Answer:
    names = "id", "type", "error", "message", "attempts", "last", "state"
    rows: list[tuple[str, ...]] = []
    for topic in topics:
        found, done = await letters(bus, topic)
        for letter in found.values():
            state = done[letter.id].done if letter.id in done else "open"
            kind = letter.envelope.type if letter.envelope else "unknown"
            if settled or state == "open":
                at = _when(letter.last)
                rows.append((letter.id, kind, letter.error, letter.message, str(letter.attempts), at, state))
    told = [dict(zip(names, row, strict=True)) for row in rows]
    return Answer(_table(names, rows) if rows else "no dead letters", told)


def _letter(letter: DeadLetter, done: Settlement | None) -> Answer:
    facts: dict[str, Any] = {
        **msgspec.to_builtins(letter),
        "state": f"{done.done} {done.reason}" if done else "open",
    }
    facts["body"] = logs.safe_text(
        letter.body.decode("utf-8", "backslashreplace")
    )  # of bytes that are no event
    if letter.envelope is not None:
        facts["body"] = logs.plain(msgspec.to_builtins(letter.envelope), STACK)
    told = facts | {"first": _when(letter.first), "last": _when(letter.last)}
    told["body"] = msgspec.json.encode(facts["body"]).decode()
    lines = [f"{name:<16}{value}" for name, value in told.items() if name != "stack"]
    return Answer(clean("\n".join([*lines, "", letter.stack])), facts)


def _outcome(done: Replay) -> Answer:
    good, bad = len(done.decisions) - done.refused, done.refused
    lines = [f"{d.id}  {d.type}  {f'refused: {d.refusal}' if d.refusal else 'ok'}" for d in done.decisions]
    lines.append(f"{good} would be replayed; add --yes to do it" if done.dry else f"{good} replayed")
    if bad:
        reasons = Counter(f"{one.refusal} [{one.code}]" for one in done.decisions if one.refusal)
        lines.append(f"{bad} refused: " + ", ".join(f"{count} {reason}" for reason, count in reasons.items()))
        lines.append(
            "fix: see why with `alphapanda dlq show ID`; let the strategy decide again on a new tick"
        )
    told = {"dry": done.dry, "counts": done.counts, "decisions": done.decisions}
    return Answer(clean("\n".join(lines)), told, REFUSED if bad else 0)

"""Dead letters put back on their topic: once each, marked, and only where that can do no harm.

done = await replay(bus, topic, now=tape_ts, executed=journal.has, seal=seal)      # dry: says what it would do
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Any, cast

import msgspec

from alphapanda.buses.base import Bus, encode
from alphapanda.clock import wall_ns
from alphapanda.errors import AlphaPandaException, UnknownNameError
from alphapanda.events import DAY, EventEnvelope, Topics, ist_day
from alphapanda.letters.dead_letters import Settlement, letters, settled
from alphapanda.seal import Seal, is_sealed

REPLAYED = ".replayed"  # a consumer that does not know the suffix does not know the type: it refuses
UPDATES = (
    "signals.rejected",
    *(name for name in Topics.NAMESPACED if name.startswith("orders.") and name != "orders.submitted"),
)


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
    seal: Seal,
    ids: Iterable[str] | None = None,
    dry_run: bool = True,
    live: Callable[[str], bool] = is_live,
    clock: Callable[[], int] = wall_ns,
) -> Replay:
    """Put letters back on ``topic``, all that are open or those named: once each, marked as replayed.

    ``now`` is tape time, by which signals expire. ``executed`` knows, or tells for an id, which signals and requests
    had an effect. What was not sealed with ``seal``, and had to be, is not sealed now. Replaying twice is replaying
    once; two replays of a topic at the same moment are the caller's to prevent.
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
        elif is_sealed(topic) and not _genuine(seal, topic, letter.body):
            refusal, code = "nobody of this workspace sent it: discard it", "E_SEAL"
        else:
            refusal, code = _refusal(topic, envelope, now, executed, live)
            if not refusal and _decides(topic) and clock() - letter.last > DAY:
                refusal, code = "expired", "E_REPLAY_EXPIRED"
        decisions.append(Decision(wanted, envelope.type if envelope else "unknown", refusal, code))
        if envelope is not None and not refusal:
            done[wanted] = mark = Settlement(id=wanted, done="replayed", reason="", at=clock())
            if not dry_run:
                again = _again(envelope)
                body = seal.sealed(topic, again) if is_sealed(topic) else encode(again)
                items = [(topic, body), (settled(topic), msgspec.msgpack.encode(mark))]
                await bus.publish_all(items)  # both or neither
    return Replay(dry_run, tuple(decisions))


def _genuine(seal: Seal, topic: str, body: bytes) -> bool:
    """Whether the message itself was sealed: its letter lies on the server, where anybody may have written it."""
    try:
        seal.opened(topic, body)
    except AlphaPandaException:
        return False
    return True


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

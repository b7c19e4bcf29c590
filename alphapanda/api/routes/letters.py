"""Dead letters: listed, shown, discarded, and replayed, which only says what it would do unless told otherwise."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from alphapanda.api.call import Call, call_of
from alphapanda.api.documents import Routes, answer
from alphapanda.api.platform import One, Page, Platform
from alphapanda.api.routes.trading import TS
from alphapanda.api.routes.wanted import LetterId, Limit, OfTopic, ReplayLetters, Why
from alphapanda.errors import RedisError, ValidationError
from alphapanda.letters import by_person
from alphapanda.letters.dead_letters import DeadLetter, Settlement, inspect, letters
from alphapanda.letters.replay import Decision

KEPT = 50  # topics whose last answer is remembered


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A message that could not be handled. Times are wall ns; ``state``: open, or what was done with it."""

    id: str
    topic: str
    type: str
    error: str
    code: str
    message: str
    reason: str
    attempts: int
    first: int
    last: int
    namespace: str
    correlation_id: str
    state: str


class WholeLetter(msgspec.Struct, frozen=True):
    """A letter with its event, or its text where it is none, and the stack."""

    letter: Letter
    body: Any
    stack: str


class Replayed(msgspec.Struct, frozen=True):
    """What was put back, or when ``dry_run`` would be; ``refusal`` of each says why not."""

    dry_run: bool
    refused: int
    decisions: tuple[Decision, ...]


ID = "paper.orders.filled@1764000000000-0"
LETTER = Letter(
    id=ID, topic="paper.orders.filled", type="orders.filled", error="ValidationError", code="E_VALIDATION",
    message="quantity 0", reason="permanent", attempts=1, first=TS, last=TS, namespace="paper",
    correlation_id="OpeningBreakout:4711:0", state="open",
)  # fmt: skip


def add(routes: Routes, platform: Platform) -> None:
    """``/v1/letters`` and what can be done with them."""
    last: OrderedDict[str, tuple[Letter, ...]] = OrderedDict()

    @routes.get(
        "/v1/letters",
        role="view",
        tag="errors",
        answers=Page[Letter],
        example=Page(TS, False, (LETTER,)),
        lost=True,
    )
    async def dead_letters(  # pyright: ignore[reportUnusedFunction]
        topic: OfTopic = None, settled: bool = False, limit: Limit = 100
    ) -> Response:
        """Letters nobody has dealt with, newest first; with `settled` the others, too."""
        key, stale = f"{topic} {settled}", platform.stale
        try:
            found = await _listed(platform, topic, settled)
            last[key] = found
        except RedisError:
            if key not in last:
                raise
            found, stale = last[key], True
        last.move_to_end(key)
        while len(last) > KEPT:
            last.popitem(last=False)
        return answer(Page(platform.newest.at, stale, found[:limit]))

    @routes.get(
        "/v1/letters/{letter}", role="view", tag="errors", answers=One[WholeLetter], missing=True, lost=True,
        example=One(TS, False, WholeLetter(LETTER, {"type": "orders.filled"}, "")),
    )  # fmt: skip
    async def dead_letter(letter: LetterId) -> Response:  # pyright: ignore[reportUnusedFunction]
        """All that is known of one letter."""
        one, done = await inspect(platform.bus, letter)
        facts = by_person.facts(one, done)
        return answer(platform.one(WholeLetter(_row(one, done), facts["body"], one.stack)))

    @routes.post(
        "/v1/letters/{letter}/discard", role="operate", tag="errors", answers=Settlement,
        example=Settlement(id=ID, done="discarded", reason="looked at it", at=TS),
    )  # fmt: skip
    async def discard_letter(  # pyright: ignore[reportUnusedFunction]
        letter: LetterId, body: Why, request: Request
    ) -> Response:
        """Nothing is to be done about it."""
        call = call_of(request.scope)
        _may(platform, call, [letter], body.account)
        platform.served()
        done = await by_person.discarded(
            platform.workspace, platform.bus, letter, reason=body.reason, by=call.by
        )
        return answer(done)

    @routes.post(
        "/v1/letters/replay", role="operate", tag="errors", answers=Replayed,
        example=Replayed(True, 1, (Decision(ID, "orders.filled", "already replayed", "E_REPLAY_SETTLED"),)),
    )  # fmt: skip
    async def replay_letters(body: ReplayLetters, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """Put letters back on their topics, once each; what could do harm is refused."""
        if (body.ids is None) == (body.topic is None):
            raise ValidationError("name letters by ids, or a topic", fix='send "ids" or "topic", not both')
        call = call_of(request.scope)
        _may(platform, call, body.ids or [str(body.topic)], body.account)
        platform.served()
        wanted = by_person.by_topic(body.ids) if body.ids else {str(body.topic): None}
        done = await by_person.replayed(
            platform.workspace, platform.bus, wanted, by=call.by, dry_run=body.dry_run
        )
        return answer(Replayed(done.dry, done.refused, done.decisions))


def _may(platform: Platform, call: Call, named: list[str], account: str | None) -> None:
    """Whether this person may deal with letters of these namespaces."""
    for namespace in sorted({one.partition(".")[0] for one in named}):
        if namespace != "market":  # shared by all, and never replayed
            platform.may_act(call, namespace, account)


async def _listed(platform: Platform, topic: str | None, settled: bool) -> tuple[Letter, ...]:
    found: list[Letter] = []
    for one in [topic] if topic else await by_person.topics(platform.bus):
        known, done = await letters(platform.bus, one)
        found += [
            _row(letter, done.get(name)) for name, letter in known.items() if settled or name not in done
        ]
    return tuple(sorted(found, key=lambda letter: letter.last, reverse=True))


def _row(letter: DeadLetter, done: Settlement | None) -> Letter:
    return Letter(
        id=letter.id, topic=letter.topic, type=letter.envelope.type if letter.envelope else "unknown",
        error=letter.error, code=letter.code, message=letter.message, reason=letter.reason, attempts=letter.attempts,
        first=letter.first, last=letter.last, namespace=letter.namespace, correlation_id=letter.correlation_id,
        state=done.done if done else "open",
    )  # fmt: skip

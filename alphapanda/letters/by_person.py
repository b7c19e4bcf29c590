"""What a person does with dead letters, whether at the command line, over HTTP or on a page.

What was done, and by whom, becomes a line on the audit channel here, and nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

import msgspec

from alphapanda import logs
from alphapanda.clock import monotonic, wall_ns
from alphapanda.errors import InfrastructureError
from alphapanda.letters import dead_letters
from alphapanda.letters.dead_letters import STACK, DeadLetter, Settlement
from alphapanda.letters.replay import Decision, Replay, replay
from alphapanda.logs.redaction import plain, safe_text
from alphapanda.seal import Seal
from alphapanda.workspace import Workspace

if TYPE_CHECKING:
    from alphapanda.buses.redis import RedisBus

TURN_SECONDS = 10.0  # another person's replay may take so long


async def topics(bus: RedisBus) -> list[str]:
    """Topics that have, or had, letters."""
    from alphapanda.state.client import told

    with told("scan", "*.dlq"):
        keys = [key.decode() async for key in cast("Any", bus.client).scan_iter("*.dlq", 1000)]
    return sorted(key.removesuffix(".dlq") for key in keys)


def by_topic(ids: Iterable[str]) -> dict[str, list[str] | None]:
    """Letters, named by their ids, as ``replayed`` wants them."""
    found: dict[str, list[str] | None] = {}
    for one in ids:
        topic = one.rpartition("@")[0]
        found[topic] = [*(found.get(topic) or ()), one]
    return found


async def replayed(
    workspace: Workspace, bus: RedisBus, wanted: Mapping[str, list[str] | None], *, by: str, dry_run: bool
) -> Replay:
    """Put letters back, by topic those named, or all open ones (None); one replay at a time in a workspace.

    Raises as ``replay``; InfrastructureError (E_BUSY) while another one goes on for too long.
    """
    decisions: list[Decision] = []
    seal = Seal.of(workspace)
    async with _turn(workspace):
        for topic, ids in wanted.items():
            namespace = topic.partition(".")[0]
            executed, now = await _history(workspace, bus, namespace)
            did = await replay(bus, topic, now=now, executed=executed, seal=seal, ids=ids, dry_run=dry_run)
            decisions += did.decisions
            if not dry_run:
                back = [one.id for one in did.decisions if not one.refusal]
                told = {"letters": back, "count": len(back), "refused": did.refused, "topic": topic}
                logs.audited(workspace, "letters.replayed", by=by, namespace=namespace, **told)
    return Replay(dry_run, tuple(decisions))


async def discarded(
    workspace: Workspace, bus: RedisBus, letter_id: str, *, reason: str, by: str
) -> Settlement:
    """Nothing is to be done about this letter; one that is settled stays as it is. Raises as ``inspect``."""
    done = await dead_letters.discard(bus, letter_id, reason=reason)
    namespace = letter_id.partition(".")[0]
    facts = {"letter": letter_id, "done": done.done, "reason": reason}
    logs.audited(workspace, "letters.discarded", by=by, namespace=namespace, **facts)
    return done


def facts(letter: DeadLetter, done: Settlement | None) -> dict[str, Any]:
    """All that is known of a letter, fit to be shown: its body as an event, else as text."""
    if letter.envelope is not None:
        body = plain(msgspec.to_builtins(letter.envelope), STACK)
    else:
        body = safe_text(letter.body.decode("utf-8", "backslashreplace"))  # of bytes that are no event
    state = f"{done.done} {done.reason}".strip() if done else "open"
    return {**msgspec.to_builtins(letter), "state": state, "body": body}


@contextlib.asynccontextmanager
async def _turn(workspace: Workspace) -> AsyncGenerator[None]:
    with (workspace.home / "dlq.lock").open("w") as lock:
        until = monotonic() + TURN_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if monotonic() > until:
                    raise InfrastructureError(
                        "another replay goes on", fix="wait for it, and try again", code="E_BUSY"
                    ) from None
                await asyncio.sleep(0.05)
        yield


async def _history(workspace: Workspace, bus: RedisBus, namespace: str) -> tuple[set[str], int]:
    """What the namespace's gateway has acted on, by its journal, and the newest tape time of any run."""
    from alphapanda.state.journal import asked
    from alphapanda.state.managers import KeyValueStateManager

    runs = KeyValueStateManager(bus.client, namespace, "run")
    documents = await runs.mget(await runs.names(), dict[str, Any])
    now = max((int(one.get("tape_ts") or 0) for one in documents.values()), default=0)
    return asked(workspace.journal(namespace)), now or wall_ns()

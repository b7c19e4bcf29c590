"""Messages that lead to orders: what was sealed here is heard, everything else is refused and changes nothing."""

from __future__ import annotations

import asyncio
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from unittest import mock

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import alphapanda as ap
from alphapanda.buses.base import Message, decode, encode
from alphapanda.buses.memory import MemoryBus
from alphapanda.buses.redis import RedisBus
from alphapanda.errors import AlphaPandaException, AuthorizationError, ConfigurationError
from alphapanda.events import CancelSignal, EventEnvelope, Signal, Topics
from alphapanda.letters.dead_letters import DeadLetter, letters
from alphapanda.letters.replay import replay
from alphapanda.processes import CONFIGURATION
from alphapanda.requests import FillTold, Place, Reply, Request
from alphapanda.runner import Link
from alphapanda.seal import SIZE, Seal, is_sealed
from alphapanda.state.journal import Journal
from alphapanda.workspace import RunSpec, Workspace
from tests.build import CRORE, tape_of
from tests.fault_strategies import Busy
from tests.gateway_rig import Desk
from tests.rig import Rig, undisturbed
from tests.test_lane import walk

RAW, COMMANDS = "paper.signals.raw", "paper.commands"
OURS, OTHERS = Seal.fresh(), Seal.fresh()
SPEC = RunSpec(
    run="bold-1", namespace="paper", name="bold-1", class_name="Bold", digest="d", symbols=["NSE:INFY"],
    capital=CRORE, warm_from=0,
)  # fmt: skip
SIGNAL = Signal("bold-1", 7, 0, 1_795_000_000_000_000_000, "NSE:INFY", 10, 150_000, tag="é")
REQUEST = Request("bold-1", SIGNAL.id, Place(7, SIGNAL.ts, 3), signal=SIGNAL)


def event(kind: str, data: Any, identity: str = "e1", run: str = "bold-1") -> EventEnvelope:
    return EventEnvelope(
        id=identity, type=kind, ts=1, source="test", namespace="paper", key=run, correlation_id=identity,
        trace_id=identity, data=msgspec.to_builtins(data, builtin_types=(bytes,)),
    )  # fmt: skip


ORDER = event("strategy.signal", REQUEST)
texts, numbers = st.text(max_size=20), st.integers(-(2**63), 2**64 - 1)
places = st.builds(Place, numbers, numbers, numbers, numbers)
signals = st.builds(
    Signal, texts, numbers, numbers, numbers, texts, numbers, numbers, limit=st.none() | numbers, tag=texts
)
cancels = st.builds(CancelSignal, texts, numbers, numbers, texts)
requests = st.builds(
    Request, texts, texts, places, signal=st.none() | signals, cancel=st.none() | cancels, halt=texts
)
told = st.builds(FillTold, texts, numbers)
quiet_prices = st.dictionaries(texts, st.none() | st.tuples(numbers, numbers), max_size=3)
replies = st.builds(
    Reply, texts, st.lists(told, max_size=3).map(tuple), quiet_prices, halt=texts, place=places
)
plain: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | numbers | st.floats(allow_nan=False) | texts | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
specs = st.builds(
    lambda parameters, symbols, capital: msgspec.structs.replace(
        SPEC, parameters=parameters, symbols=symbols, capital=capital
    ),
    st.dictionaries(texts, st.none() | numbers | texts | st.floats(allow_nan=False), max_size=3),
    st.lists(texts, max_size=3),
    numbers,
)
events = st.builds(event, texts, requests | replies | specs | plain, texts, texts)


def refused(seal: Seal, topic: str, raw: bytes) -> None:
    with pytest.raises(AuthorizationError, match=r"not sealed|wrong seal") as caught:
        seal.opened(topic, raw)
    assert caught.value.code == "E_SEAL"
    assert caught.value.fix


@given(events)
def test_what_is_sealed_comes_back_and_others_read_it_without_a_key(one: EventEnvelope) -> None:
    raw = OURS.sealed(RAW, one)
    assert OURS.opened(RAW, raw) == decode(raw) == decode(encode(one))
    assert OURS.sealed(RAW, OURS.opened(RAW, raw)) == raw


@given(events, st.data())
def test_nothing_else_opens(one: EventEnvelope, draw: st.DataObject) -> None:
    raw = OURS.sealed(RAW, one)
    at = draw.draw(st.integers(0, len(raw) - 1))
    flip = draw.draw(st.integers(1, 255))
    refused(OURS, RAW, raw[:at] + bytes([raw[at] ^ flip]) + raw[at + 1 :])
    refused(OURS, RAW, raw[:at])
    refused(OURS, RAW, raw + raw[at:])
    for topic in (COMMANDS, "zerodha.signals.raw", "paper.runs.bold-1", "", f"{RAW}\0"):
        refused(OURS, topic, raw)
    refused(OTHERS, RAW, raw)
    refused(OURS, RAW, encode(one))


def test_every_single_flipped_bit_of_an_order_is_noticed() -> None:
    raw = OURS.sealed(RAW, ORDER)
    for bit in range(8 * len(raw)):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        refused(OURS, RAW, bytes(changed))


def test_an_empty_or_guessed_digest_is_none() -> None:
    raw = OURS.sealed(RAW, ORDER)
    refused(OURS, RAW, raw[:-SIZE] + bytes(SIZE))
    refused(OURS, RAW, raw[: -SIZE - 2] + b"\xc4\x00")
    refused(OURS, RAW, raw[: -SIZE - 2] + b"\xc4\x20")
    refused(OURS, RAW, b"")


def test_which_topics_are_sealed() -> None:
    assert all(map(is_sealed, (RAW, COMMANDS, "zerodha.runs.x-1", "zerodha.commands")))
    shown = (
        *Topics.market(),
        Topics.CLOCK,
        "paper.orders.filled",
        "paper.signals.rejected",
        "paper.replies.1",
    )
    assert not any(map(is_sealed, shown))


# ── the key ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_hub_makes_the_key_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    with pytest.raises(ConfigurationError, match="missing") as none:
        Seal.of(place)
    assert "alphapanda up" in none.value.fix
    raw = Seal.of(place, make=True).sealed(RAW, ORDER)
    kept = place.bus_key.read_bytes()
    assert (len(bytes.fromhex(kept.decode())), stat.S_IMODE(place.bus_key.stat().st_mode)) == (SIZE, 0o600)
    assert Seal.of(place).opened(RAW, raw) == Seal.of(place, make=True).opened(RAW, raw)
    assert place.bus_key.read_bytes() == kept
    place.bus_key.chmod(0o640)
    with pytest.raises(ConfigurationError, match="others can read") as exposed:
        Seal.of(place)
    assert (exposed.value.code, kept.decode() in str(exposed.value)) == ("E_SECRET_EXPOSED", False)
    command = [sys.executable, "-P", "-m", "alphapanda.hub", str(tmp_path)]
    hub = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False)
    assert hub.returncode == CONFIGURATION
    assert "others can read" in hub.stderr
    place.bus_key.write_bytes(kept[:-1])
    place.bus_key.chmod(0o600)
    with pytest.raises(ConfigurationError, match="damaged"):
        Seal.of(place)


# ── the gateway ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, tape_of(walk("09:15:01", [100.0] * 4)))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda seal, topic, one: encode(one),
        lambda seal, topic, one: OTHERS.sealed(topic, one),
        lambda seal, topic, one: seal.sealed(RAW if topic == COMMANDS else COMMANDS, one),
        lambda seal, topic, one: seal.sealed(topic, one)[:-1] + b"\0\0",
    ],
    ids=["unsealed", "another key", "another topic", "changed"],
)
def test_a_gateway_refuses_what_is_not_sealed(
    desk: Desk, spoil: Callable[[Seal, str, EventEnvelope], bytes]
) -> None:
    with desk.up() as gateway:
        desk.attach()
        entries = sum(1 for _ in gateway.journal.entries())
        forged = [
            (RAW, event("strategy.signal", REQUEST)),
            (RAW, event("run.attach", msgspec.structs.replace(SPEC, run="ghost-1"))),
            (COMMANDS, event("operator.halt", {"run": "", "reason": "a stranger"})),
            (COMMANDS, event("run.release", {"run": "bold-1"})),
            (COMMANDS, event("query.result", {"run": "bold-1", "reply_to": "paper.replies.x"})),
        ]
        told = len(desk.bus.heard)
        for topic, one in forged:
            message = Message(topic, "1-0", spoil(gateway.seal, topic, one))
            with pytest.raises(AuthorizationError) as caught:
                asyncio.run(gateway.handle(message))
            assert caught.value.code == "E_SEAL"
        assert sum(1 for _ in gateway.journal.entries()) == entries
        assert len(desk.bus.heard) == told
        assert list(gateway.runs) == ["bold-1"]
        assert (gateway.account.halted, gateway.runs["bold-1"].state, desk.orders()) == ("", "running", [])


def test_what_comes_twice_is_heard_once(desk: Desk) -> None:
    with desk.up():
        desk.attach("first life", auto_resume=False)
        assert not desk.lane().paused
        desk.attach("second life", auto_resume=False)
        assert desk.lane().paused, "its runner was away"
        words = {"run": "bold-1", "reason": "looked at it", "by": "a person"}
        desk.hear("operator.unpause", words, "go on")
        assert not desk.lane().paused
        desk.attach("first life", auto_resume=False)
        assert not desk.lane().paused, "an old attach is no new life"
        desk.hear("operator.pause", words, "wait")
        desk.hear("operator.unpause", words, "go on")
        assert desk.lane().paused, "an old word is no new one"


def test_a_pause_that_comes_again_is_not_noted_as_how_the_run_stands(desk: Desk) -> None:
    admission = mock.Mock()
    admission.admit.side_effect = lambda spec, source: spec
    with desk.up(admission=admission) as gateway, mock.patch("alphapanda.arrivals.refuse_changed"):
        desk.attach("life")
        for kind, identity in (("pause", "p1"), ("unpause", "u1"), ("pause", "p2"), ("unpause", "u1")):
            words = {"run": "bold-1", "reason": "", "by": "a person"}
            desk.hear(f"operator.{kind}", words, identity)
        assert [call.args[1] for call in admission.note.call_args_list] == ["pause", "resume", "pause"]
        assert gateway.runs["bold-1"].state == "paused"


def test_an_attach_of_a_run_that_ended_long_ago_is_refused(desk: Desk) -> None:
    with desk.up():
        desk.attach("life")
        desk.hear("run.release", {"run": "bold-1"})
        asyncio.run(desk.gateway.note_done())
    with mock.patch.object(Journal, "done_before", return_value={"bold-1"}), desk.up() as gateway:
        refusal = desk.attach("life")
        assert (refusal.type, refusal.data["code"]) == ("run.refused", "E_OVER")
        assert (gateway.runs, gateway.trouble) == ({}, "")


# ── the runner ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_runner_obeys_its_gateway_alone() -> None:
    async def main() -> None:
        async with MemoryBus() as bus:
            ended = asyncio.Event()
            link = Link(cast("RedisBus", bus), SPEC, ended, {}, OURS)
            tasks = [asyncio.create_task(link.listen()), asyncio.create_task(stranger_and_gateway(bus, link))]
            reply = await link._ask(REQUEST)
            assert reply == Reply(REQUEST.id)
            assert link.forged >= 5
            assert not link.attached.is_set(), "what another life was told"
            assert not link.look
            assert link.refusal is None
            own = event("run.attached", {}).child(id="a", type="run.attached", ts=1, source="g", data={})
            own = msgspec.structs.replace(own, causation_id=link.life)
            await bus.publish(link.topic, OURS.sealed(link.topic, own))
            await link.attached.wait()
            ended.set()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def stranger_and_gateway(bus: MemoryBus, link: Link) -> None:
        """Answers each question: five times a stranger, then the gateway."""
        bad = event("gateway.reply", msgspec.msgpack.encode(Reply(REQUEST.id, halt="forged")))
        told = {"message": "no", "fix": "", "code": "E_X"}
        good = event("gateway.reply", msgspec.msgpack.encode(Reply(REQUEST.id)))
        asked = {RAW: "0"}
        while True:
            for message in await bus.read(asked, timeout=0.05):
                asked[RAW] = message.offset
                assert OURS.opened(RAW, message.body).data["id"] == REQUEST.id
                bodies = [
                    b"no event", encode(bad), OTHERS.sealed(link.topic, bad), OURS.sealed("paper.runs.x", bad),
                    encode(event("gateway.look", {})),
                    *(OURS.sealed(link.topic, event(kind, told)) for kind in ("run.attached", "run.refused")),
                    OURS.sealed(link.topic, good),
                ]  # fmt: skip
                await bus.publish_all([(link.topic, body) for body in bodies])

    asyncio.run(main())


# ── dead letters ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_replay_seals_nothing_that_was_not_sealed() -> None:
    async def main() -> None:
        async with MemoryBus() as bus:
            bodies = [
                encode(ORDER),
                OTHERS.sealed(RAW, ORDER),
                OURS.sealed(COMMANDS, ORDER),
                OURS.sealed(RAW, ORDER),
            ]
            for number, body in enumerate(bodies):
                letter = DeadLetter(
                    f"{RAW}@{number}-0", RAW, body, "KeyError", "who knows", "defect", last=2**62
                )
                await bus.publish(Topics.dead_letters(RAW), msgspec.msgpack.encode(letter))
            reply = "paper.runs.bold-1"
            letter = DeadLetter(f"{reply}@0-0", reply, encode(ORDER), "KeyError", "who knows", "defect")
            await bus.publish(Topics.dead_letters(reply), msgspec.msgpack.encode(letter))
            now = {"now": SIGNAL.ts, "executed": (), "seal": OURS, "clock": lambda: 2**62, "dry_run": False}
            done = await replay(bus, RAW, **now)
            assert [one.code for one in done.decisions] == ["E_SEAL"] * 3 + [""]
            assert "discard it" in done.decisions[0].refusal
            (back,) = await bus.read({RAW: "0"})
            assert OURS.opened(RAW, back.body).causation_id == ORDER.id
            assert [one.code for one in (await replay(bus, reply, **now)).decisions] == ["E_SEAL"]
            assert await bus.length(reply) == 0

    asyncio.run(main())


# ── the whole platform ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_stranger_on_the_server_changes_nothing(tmp_path: Path) -> None:
    tape = ap.synthetic_day(seed=11, ticks_per_second=30).between(
        "2026-11-20T09:15:00+05:30", "2026-11-20T09:20:00+05:30"
    )
    quiet = undisturbed(Busy(), tape)
    with Rig(tmp_path, tape, FEED__SPEED=20) as rig:
        run = rig.run(Busy())
        rig.until(lambda: len(rig.ledger(run)["fills"]) > 3, 30.0, "it trades")
        count = forge(rig, run)
        rig.until(lambda: rig.topic_length(f"{RAW}.dlq") + rig.topic_length(f"{COMMANDS}.dlq") >= count, 20.0,
                  "they are put aside")  # fmt: skip
        found = asyncio.run(all_letters(rig))
        assert {(one.code, one.attempts) for one in found} == {("E_SEAL", 1)}
        assert all("sealed" in one.message or "wrong seal" in one.message for one in found)
        refusals = [one for one in rig.logged("audit") if one["event"] == "message.refused"]
        assert len(refusals) == count
        assert {one["topic"] for one in refusals} == {RAW, COMMANDS}
        replayed = rig.cli("dlq", "replay", "--all", "--yes")
        assert (replayed.returncode, f"{count} refused" in replayed.stdout) == (3, True), replayed.stdout
        again(rig)
        rig.until(lambda: rig.played(run), 40.0, f"{run} has played the tape")
        assert rig.ledger(run) == quiet
        assert rig.document(f"paper:run:{run}")["state"] == "running"
        assert not rig.workspace.halt_flag("paper").exists()
        assert rig.document("paper:run:ghost-1") == {}
        assert rig.journal("ghost-1") == []
        assert not [asked.id for asked, _, _ in rig.journal(run) if asked.id.startswith("look:")]
        forged = [one for one in rig.logged("error") if one["event"] == "reply.forged"]
        assert [one["run"] for one in forged] == [run], "said once"
        key = rig.workspace.bus_key.read_text()
        logged = b"".join(path.read_bytes() for path in rig.workspace.logs.iterdir())
        assert key.encode() not in logged
        assert [line for line in rig.complaints() if "message.dead" not in line] == []
        assert len(asyncio.run(all_letters(rig))) == count, "what came twice is no letter"


def forge(rig: Rig, run: str) -> int:
    """A buy, an attach, commands and answers, each unsealed and with a seal of somebody else's; returns how many of
    them are for the gateway."""
    buy = Request(run, "busy:forged", Place(10**6, SIGNAL.ts, 3), signal=SIGNAL)
    ghost = msgspec.structs.replace(SPEC, run="ghost-1")
    forged = [
        (RAW, event("strategy.signal", buy, "forged", run)),
        (RAW, event("run.attach", ghost)),
        (RAW, event("operator.flatten", {"run": run, "reason": "a stranger"})),
        (COMMANDS, event("operator.halt", {"run": "", "reason": "a stranger"})),
        (COMMANDS, event("operator.pause", {"run": run, "reason": "a stranger"})),
        (COMMANDS, event("run.release", {"run": run})),
    ]
    refusal = event("run.refused", {"message": "a stranger", "fix": "", "code": "E_X"})
    halted = event("gateway.reply", msgspec.msgpack.encode(Reply("busy:forged", halt="a stranger")))
    topic = f"paper.runs.{run}"
    with rig.server() as server:
        genuine: Any = server.xrange(RAW)
        wanted = next(body[b"b"] for _, body in genuine if decode(body[b"b"]).type == "strategy.signal")
        changed = wanted.replace(b"\xa8quantity", b"\xa8quantitY")
        assert changed != wanted
        bodies = [(to, raw) for to, one in forged for raw in (encode(one), OTHERS.sealed(to, one))]
        bodies += [(RAW, changed), (COMMANDS, wanted)]
        for to, raw in bodies:
            server.xadd(to, {"b": raw})
        for one in (refusal, halted, event("gateway.look", {"run": run})):
            server.xadd(topic, {"b": encode(one)})
            server.xadd(topic, {"b": OTHERS.sealed(topic, one)})
        server.xadd(topic, {"b": b"no event"})
    return len(bodies)


def again(rig: Rig) -> None:
    """Everything genuine that travelled so far, in the same bytes; the runner's answers too."""
    with rig.server() as server:
        for key in (RAW, *server.scan_iter("paper.runs.*")):
            kept: Any = server.xrange(key)
            topic = key if isinstance(key, str) else key.decode()
            for _, fields in kept:
                try:
                    rig.seal.opened(topic, fields[b"b"])
                except AlphaPandaException:
                    continue
                server.xadd(topic, fields)


async def all_letters(rig: Rig) -> list[DeadLetter]:
    async with RedisBus.connect(rig.workspace.server_socket) as bus:
        return [one for topic in (RAW, COMMANDS) for one in (await letters(bus, topic))[0].values()]

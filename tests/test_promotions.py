"""The record of promotions, on SQLite and on a real PostgreSQL: its moves, and what it takes to be let near money."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from alphapanda.certificate import LANES, Outcome, sign
from alphapanda.clock import wall_ns
from alphapanda.errors import AuthorizationError
from alphapanda.promotions import approvals, states
from alphapanda.promotions.records import Record
from alphapanda.promotions.states import GATEWAY, MOVES, PERSON
from alphapanda.settings import Settings
from tests.promoted import HOUR, SOURCE, Desk, certificate, new_signer, two_people


@pytest.fixture
def desk(tmp_path: Path, database: Callable[[], dict[str, Any]]) -> Desk:
    return Desk(tmp_path, database())


@pytest.fixture
def two(tmp_path: Path, database: Callable[[], dict[str, Any]]) -> tuple[Desk, Desk]:
    return two_people(tmp_path, database())


def refusal(act: Callable[..., Any], *given: Any, **named: Any) -> str:
    """What an act is refused with."""
    with pytest.raises(AuthorizationError) as caught:
        act(*given, **named)
    assert caught.value.code == "E_PROMOTION"
    assert caught.value.fix
    return caught.value.message


# ── moves ────────────────────────────────────────────────────────────────────────────────────────────────────────

ALLOWED = {  # said once more than in the code, for the test to be a second opinion
    "draft": {"": "DRAFT"},
    "paper": {"DRAFT": "PAPER"},
    "certify": {"PAPER": "CERTIFIED", "CERTIFIED": "CERTIFIED"},
    "arm": {"CERTIFIED": "ARMED"},
    "live": {"ARMED": "LIVE"},
    "pause": {"LIVE": "PAUSED"},
    "resume": {"PAUSED": "LIVE"},
    "retire": {"ARMED": "RETIRED", "LIVE": "RETIRED", "PAUSED": "RETIRED"},
}
OF_A_VERSION = ("draft", "paper", "certify", "arm")


@given(st.lists(st.tuples(st.sampled_from([*ALLOWED, "arm", "certify"]), st.integers(0, 3)), max_size=14))
@hypothesis(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_only_moves_of_the_table_happen(
    tmp_path_factory: pytest.TempPathFactory,
    database: Callable[[], dict[str, Any]],
    moves: list[tuple[str, int]],
) -> None:
    desk = Desk(tmp_path_factory.mktemp("moves"), database())
    proofs = [certificate(desk.signer, parameters={"minutes": n}) for n in range(2)]
    versions, threads, count = ["", ""], list[tuple[Record, str]](), 0
    for act, n in [("draft", 0), ("paper", 0), ("certify", 0), *moves]:
        which = n % 2 if act in OF_A_VERSION else n % (len(threads) or 1)
        if act not in OF_A_VERSION and not threads:
            continue
        before = versions[which] if act in OF_A_VERSION else threads[which][1]
        after = ALLOWED[act].get(before)
        try:
            if act == "arm":
                record = desk.arm(proofs[which])
            elif act in OF_A_VERSION:
                record = getattr(approvals, act)(desk.ledger, desk.signer, proofs[which])
            elif act == "live":
                record = approvals.live(desk.ledger, desk.signer, threads[which][0], f"run{count}")
            else:
                record = getattr(approvals, act)(desk.ledger, desk.signer, threads[which][0], reason="test")
        except AuthorizationError:
            assert after is None, (act, before)
        else:
            count += 1
            assert (record.state, record.number) == (after, count)
            if act == "arm":
                threads.append((record, record.state))
            elif act in OF_A_VERSION:
                versions[which] = record.state
            else:
                threads[which] = threads[which][0], record.state
        assert desk.ledger.verify() == []
        assert len(desk.ledger.history()) == count


def test_every_state_is_reached_and_every_act_is_somebodys() -> None:
    assert {move.after for move in MOVES.values()} == set(states.STATES)
    assert all(move.by for move in MOVES.values())
    for act, role in (("arm", GATEWAY), ("approve", PERSON), ("live", PERSON), ("draft", "second approver")):
        assert "not for" in refusal(states.moved, act, MOVES[act].before[0], role, int(MOVES[act].refers))


def test_a_changed_character_or_parameter_is_another_version(desk: Desk) -> None:
    desk.certified()
    for other in (
        certificate(desk.signer, source=SOURCE + "#"),
        certificate(desk.signer, parameters={"minutes": 6}),
    ):
        assert approvals.standing(desk.ledger, other) is None
        assert "nowhere on record" in refusal(desk.arm, other)


# ── let near money ───────────────────────────────────────────────────────────────────────────────────────────────


def test_what_was_approved_is_admitted_once_and_a_run_may_come_back(desk: Desk) -> None:
    armed = desk.arm(desk.certified())
    assert desk.admit() == armed
    assert armed.limits == {"max_order_quantity": 10}
    approvals.live(desk.ledger, desk.signer, armed, "run-1")
    assert "used by run run-1" in refusal(desk.admit)
    assert "used by run run-1" in refusal(desk.admit, run="run-2")
    assert desk.admit(run="run-1") == armed
    assert approvals.live(desk.ledger, desk.signer, armed, "run-1").number == armed.number + 1
    refusal(approvals.live, desk.ledger, desk.signer, armed, "run-2")
    assert approvals.approval_of(desk.ledger, "run-1", "zerodha") == armed
    approvals.retire(desk.ledger, desk.signer, armed, reason="the day is over")
    assert "retired" in refusal(desk.admit, run="run-1")
    current = desk.ledger.current("Cross", "zerodha")
    assert current is not None
    assert (current.state, current.run, current.reason) == ("RETIRED", "run-1", "the day is over")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"source": SOURCE.replace("5", "6")}, "module"),
        ({"source": SOURCE + " "}, "module"),
        ({"parameters": {"minutes": 6}}, "parameters"),
        ({"parameters": {"minutes": 5, "more": 1}}, "parameters"),
        ({"symbols": ["NSE:INFY", "NSE:TCS"]}, "symbols"),
        ({"symbols": []}, "symbols"),
        ({"capital": 10**7 + 1}, "capital"),
        ({"seed": 8}, "seed"),
        ({"namespace": "zerodha-b"}, "never approved"),
        ({"name": "Crosz"}, "never approved"),
        ({"now": 2**62}, "expired"),
    ],
)
def test_anything_else_is_refused(changed: dict[str, Any], says: str, armed_desk: Desk) -> None:
    assert says in refusal(armed_desk.admit, **changed)


@pytest.fixture(scope="module")
def armed_desk(tmp_path_factory: pytest.TempPathFactory, database: Callable[[], dict[str, Any]]) -> Desk:
    """Armed, and only asked."""
    desk = Desk(tmp_path_factory.mktemp("armed"), database())
    desk.arm(desk.certified())
    assert desk.admit()
    return desk


def test_a_failed_or_foreign_proof_certifies_nothing(desk: Desk) -> None:
    failed = (Outcome(name="purity", passed=False, detail="reads a file"),)
    lanes = dict.fromkeys(LANES, "d") | {"paper": "e"}
    for made, says in (
        (certificate(desk.signer, checks=failed), "purity"),
        (certificate(desk.signer, lanes=lanes), "lanes decided differently"),
        (certificate(new_signer()), "does not trust"),
    ):
        assert says in refusal(approvals.certify, desk.ledger, desk.signer, made)
        assert says in refusal(desk.arm, made)
    other = sign(msgspec.structs.replace(desk.certified(), proved_at=2), desk.signer)
    assert "not the certificate" in refusal(desk.arm, other)


def test_a_prover_who_is_trusted_no_more(desk: Desk) -> None:
    prover, before = new_signer(), desk.settings
    desk.settings = Settings(database=before.database, promotion={"trusted_keys": [prover.public]})
    desk.ledger = desk.again()
    made = certificate(prover)
    for act in (approvals.draft, approvals.paper, approvals.certify):
        act(desk.ledger, desk.signer, made)
    assert desk.arm(made) == desk.admit()
    desk.settings = before
    desk.ledger = desk.again()
    assert "the certificate is signed by" in refusal(desk.admit)


def test_a_run_of_the_same_name_needs_todays_approval(desk: Desk) -> None:
    made, now = desk.certified(), wall_ns()
    approvals.live(desk.ledger, desk.signer, desk.arm(made, expires_at=now + HOUR), "cross-1")
    tomorrow = now + 24 * HOUR
    assert "expired" in refusal(desk.admit, run="cross-1", now=tomorrow)
    again = desk.arm(made, expires_at=tomorrow + HOUR)
    assert desk.admit(run="cross-1", now=tomorrow) == again


def test_only_a_person_resumes_unless_that_was_approved(desk: Desk) -> None:
    made = desk.certified()
    for allowed in (False, True):
        armed = desk.arm(made, auto_resume=allowed)
        approvals.live(desk.ledger, desk.signer, armed, f"run-{allowed}")
        approvals.pause(desk.ledger, desk.signer, armed, reason="came back after a crash", role=GATEWAY)
        given = (desk.ledger, desk.signer, armed)
        if not allowed:
            assert "wants a person" in refusal(approvals.resume, *given, reason="", role=GATEWAY)
        role = GATEWAY if allowed else PERSON
        assert approvals.resume(*given, reason="looked at", role=role).state == "LIVE"


def test_rollback_goes_to_the_version_that_was_live_before(desk: Desk) -> None:
    assert approvals.rollback_target(desk.ledger, "Cross", "zerodha") is None
    assert desk.ledger.last_promoted("Cross", "zerodha") is None
    first, second = desk.certified(), desk.certified(source=SOURCE + "# better\n")
    for n, made in enumerate((first, second, second)):
        approvals.live(desk.ledger, desk.signer, desk.arm(made), f"run-{n}")
    assert desk.ledger.last_promoted("Cross", "zerodha") == second.source
    target = approvals.rollback_target(desk.ledger, "Cross", "zerodha")
    assert target is not None
    assert desk.ledger.certificate(target) == first
    assert desk.arm(desk.ledger.certificate(target)).state == "ARMED"
    assert desk.admit(source=SOURCE).digest == first.digest


# ── two people ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_armed_only_when_both_have_signed(two: tuple[Desk, Desk]) -> None:
    asks, approves = two
    request = asks.ledger.history()[-1]
    assert "never approved" in refusal(asks.admit)
    assert "another person" in refusal(approvals.approve, asks.ledger, asks.signer, request.number)
    unseen = refusal(approvals.approve, approves.ledger, approves.signer, request.number)
    assert "never seen" in unseen
    assert approves.ledger.verify(adopt=True) == []
    assert "asks for no second" in refusal(approvals.approve, approves.ledger, approves.signer, 3)
    armed = approvals.approve(approves.ledger, approves.signer, request.number)
    assert (armed.state, armed.refers, armed.key) == ("ARMED", request.number, approves.signer.public)
    assert armed.approvers.split() == [asks.signer.public, approves.signer.public]
    assert asks.admit() == armed
    refusal(approvals.approve, approves.ledger, approves.signer, request.number)


def test_an_approval_by_the_first_alone_is_not_enough(two: tuple[Desk, Desk]) -> None:
    asks, _ = two
    request = asks.ledger.history()[-1]
    alone = msgspec.structs.replace(request, act="arm")
    asks.ledger.append(alone, asks.signer)
    assert "lacks the second approver" in refusal(asks.admit)
    asks.ledger.append(
        msgspec.structs.replace(request, act="approve", role="second approver", refers=request.number),
        asks.signer,
    )
    assert "same key" in refusal(asks.admit)


def test_the_second_signature_is_for_just_what_was_asked(two: tuple[Desk, Desk]) -> None:
    asks, approves = two
    approves.ledger.verify(adopt=True)
    request = asks.ledger.history()[-1]
    more = msgspec.structs.replace(
        request, act="approve", role="second approver", refers=request.number, capital=10**9
    )
    approves.ledger.append(more, approves.signer)
    assert "not of what was asked" in refusal(asks.admit, capital=10**9)


def test_a_third_person_is_not_the_second(two: tuple[Desk, Desk]) -> None:
    asks, _ = two
    third, request = new_signer(), asks.ledger.history()[-1]
    asks.settings = Settings(
        database=asks.settings.database,
        promotion={**asks.settings.promotion.model_dump(), "trusted_keys": [third.public]},
    )
    asks.ledger = asks.again()
    assert "another person" in refusal(approvals.approve, asks.ledger, third, request.number)
    asks.ledger.append(
        msgspec.structs.replace(request, act="approve", role="second approver", refers=request.number), third
    )
    assert "lacks the second approver" in refusal(asks.admit)


def test_a_request_expires(two: tuple[Desk, Desk], monkeypatch: pytest.MonkeyPatch) -> None:
    asks, approves = two
    approves.ledger.verify(adopt=True)
    later = wall_ns() + 2 * HOUR
    monkeypatch.setattr(approvals, "wall_ns", lambda: later)
    number = len(asks.ledger.history())
    assert "expired" in refusal(approvals.approve, approves.ledger, approves.signer, number)
    assert "expired" in refusal(asks.arm, asks.ledger.certificate(asks.ledger.record(number)))

"""A run that is paused, that has limits of its own, that comes back: a real gateway with its journal, no processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Any, ClassVar

import pytest

from alphapanda.by_hand import ByHand
from alphapanda.capsule import digest_of, freeze
from alphapanda.errors import AuthorizationError, ConfigurationError, ValidationError
from alphapanda.events import DAY, EventEnvelope
from alphapanda.promotions.ledger import Ledger
from alphapanda.risk import Limits
from alphapanda.run_desk import own_limits, refuse_looser
from alphapanda.settings import Settings
from alphapanda.traders.base import Mode
from alphapanda.traders.paper import PaperTrader
from tests.build import CRORE, tape_of
from tests.gateway_rig import Desk
from tests.havoc.strategies import Patient
from tests.promoting import promote
from tests.test_lane import Bold, Half, consistent, stands, walk

PRICES = [100.0] * 6 + [99.0] * 6


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setenv("RISK__DUPLICATE_WINDOW_MS", "1")
    monkeypatch.setenv("RISK__MAX_ORDER_QUANTITY", "60")
    return Desk(tmp_path, tape_of(walk("09:15:01", PRICES)))


def held(desk: Desk, script: dict[str, Any], frames: int, **fields: Any) -> Half:
    """A run that has played so many ticks of its script."""
    assert desk.attach(**fields).type == "run.attached"
    half = desk.half(Bold(script, name="bold-1"))
    half.play(desk.frames[:frames])
    return half


ENTRIES: dict[str, Any] = {
    "09:15:01": lambda s: s.buy("INFY", 10, sl=90.0),
    "09:15:02": lambda s: s.buy("INFY", 5, limit=95.0),
    "09:15:03": lambda s: s.sell("INFY", 4, limit=104.0),
    "09:15:05": lambda s: s.buy("INFY", 1),
    "09:15:06": lambda s: s.sell("INFY", 3),
    "09:15:07": lambda s: s.sell("INFY", 12),
    "09:15:09": lambda s: s.buy("INFY", 2),
}


def test_a_paused_run_only_shrinks_what_it_holds(desk: Desk) -> None:
    with desk.up():
        half = held(desk, ENTRIES, 4)
        told = desk.command("operator.pause", reason="odd fills")
        assert [event.type for event in told] == ["gateway.look"]
        assert desk.orders() == [
            ("", 10, "filled", ""),
            ("sl", -10, "open", ""),
            ("", 5, "cancelled", "paused: odd fills"),
            ("", -4, "open", ""),  # it only closes
        ]
        half.play(desk.frames[4:8])
        late = [order for order in desk.orders() if order[1] in (1, -3, -12)]
        assert late == [
            ("", 1, "denied", "paused: odd fills"),
            ("", -3, "filled", ""),
            ("", -12, "denied", "paused: odd fills"),  # it would turn the position over
        ]
        assert desk.gateway.runs["bold-1"].state == "paused"
        desk.command("operator.unpause")
        half.play(desk.frames[8:])
        assert desk.orders()[-1] == ("", 2, "filled", "")
        assert desk.gateway.runs["bold-1"].state == "running"
        consistent(half, desk.lane())


def test_a_pause_is_played_again_from_the_journal(desk: Desk) -> None:
    with desk.up():
        half = held(desk, ENTRIES, 4)
        desk.command("operator.pause", reason="odd fills")
        half.play(desk.frames[4:8])
        before = [stands(order) for order in desk.lane().desk.orders]
    with desk.up():
        assert [stands(order) for order in desk.lane().desk.orders] == before
        assert desk.lane().paused == "odd fills"
        half.play(desk.frames[8:10])
        assert desk.orders()[-1] == ("", 2, "denied", "paused: odd fills")
        consistent(half, desk.lane())


def test_a_pause_is_of_one_run(desk: Desk) -> None:
    with desk.up():
        held(desk, {}, 2)
        with pytest.raises(ValidationError, match="all runs"):
            desk.command("operator.pause", run="")
        with pytest.raises(ValidationError, match="no such command or run"):
            desk.command("operator.pause", run="other-1")
        assert not desk.lane().paused


def test_a_command_about_a_run_that_is_over_for_a_day_is_no_obstacle(desk: Desk) -> None:
    with desk.up():
        held(desk, {"09:15:02": lambda s: s.buy("INFY", 5, limit=95.0)}, 3)
        desk.command("operator.cancel_all")
        desk.hear("run.release", {"run": "bold-1", "reason": "", "by": "hub"})
        asyncio.run(desk.gateway.note_done())
    path = desk.workspace.journal("paper")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute("UPDATE entry SET at = at - ?", (2 * DAY,))
    with desk.up() as gateway:
        assert not gateway.runs


# ── limits ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("limits", "script", "reason"),
    [
        ({"order_quantity": 9}, {"09:15:02": lambda s: s.buy("INFY", 10)}, "order quantity 10 > 9"),
        ({"order_notional": 900.0}, {"09:15:02": lambda s: s.buy("INFY", 10)}, "order notional"),
        ({"instruments": ["NSE:TCS"]}, {"09:15:02": lambda s: s.buy("INFY", 1)}, "instrument: NSE:INFY"),
        ({"price_band": 0.01}, {"09:15:02": lambda s: s.buy("INFY", 1, limit=95.0)}, "price band"),
        ({"position_quantity": 9},
         {"09:15:02": lambda s: s.buy("INFY", 5), "09:15:03": lambda s: s.buy("INFY", 5)}, "position 10 > 9"),
        ({"gross_exposure": 900.0},
         {"09:15:02": lambda s: s.buy("INFY", 8), "09:15:04": lambda s: s.buy("INFY", 2)}, "gross exposure"),
        ({"daily_loss": 5.0},
         {"09:15:02": lambda s: s.buy("INFY", 50), "09:15:09": lambda s: s.buy("INFY", 1)}, "daily loss"),
        ({"drawdown": 5.0},
         {"09:15:02": lambda s: s.buy("INFY", 50), "09:15:09": lambda s: s.buy("INFY", 1)}, "drawdown"),
        ({"orders_per_minute": 1},
         {"09:15:02": lambda s: s.buy("INFY", 1), "09:15:04": lambda s: s.buy("INFY", 2)}, "rate: more than 1"),
        ({"orders_per_day": 1},
         {"09:15:02": lambda s: s.buy("INFY", 1), "09:15:04": lambda s: s.buy("INFY", 2)}, "rate: more than 1"),
    ],
)  # fmt: skip
def test_a_limit_of_a_run_denies_and_says_whose_it_is(
    desk: Desk, limits: dict[str, Any], script: dict[str, Any], reason: str
) -> None:
    with desk.up():
        held(desk, script, len(desk.frames), limits=limits)
        *before, last = desk.orders()
        assert all(status == "filled" for _, _, status, _ in before)
        assert (last[2], last[3].startswith(reason)) == ("denied", True), last
        assert last[3].endswith("(limit of this run)")
    with desk.up():
        assert desk.orders() == [*before, last]
        assert desk.lane().desk.own.account.orders_today == len(before)


def test_limits_of_a_run_count_its_own_alone_and_never_trap_a_position(desk: Desk) -> None:
    limits = {"position_quantity": 5, "gross_exposure": 600.0, "orders_per_minute": 3}
    with desk.up():
        assert desk.attach(run="other-1", name="other-1").type == "run.attached"
        other = Half(
            Bold({"09:15:01": lambda s: s.buy("INFY", 50)}, name="other-1"), desk.tape.instruments, desk.ask
        )
        other.play(desk.frames[:3])
        script: dict[str, Any] = {
            "09:15:04": lambda s: s.buy("INFY", 5),
            "09:15:06": lambda s: s.sell("INFY", 5),  # shrinks both
            "09:15:07": lambda s: s.sell("INFY", 6),  # shrinks the account, grows the run
        }
        held(desk, script, len(desk.frames), limits=limits)
        assert desk.orders() == [
            ("", 5, "filled", ""),
            ("", -5, "filled", ""),
            ("", -6, "denied", "position 6 > 5 (limit of this run)"),
        ]


def test_the_tighter_of_both_limits_says_no(desk: Desk) -> None:
    script: dict[str, Any] = {
        "09:15:02": lambda s: s.buy("INFY", 61),
        "09:15:04": lambda s: s.buy("INFY", 60),
    }
    with desk.up():
        held(desk, script, 6, limits={"position_quantity": 59})
        assert [reason for *_, reason in desk.orders()] == [
            "position 61 > 59 (limit of this run)",
            "position 60 > 59 (limit of this run)",
        ]
    with desk.up():
        desk.attach(run="wide-1", name="wide-1", limits={"position_quantity": 100})
        other = Half(Bold(script, name="wide-1"), desk.tape.instruments, desk.ask)
        other.play(desk.frames[:6])
        assert desk.orders("wide-1") == [
            ("", 61, "denied", "order quantity 61 > 60"),
            ("", 60, "filled", ""),
        ]


def test_a_looser_limit_is_refused_by_its_name_and_reaches_the_runner(desk: Desk) -> None:
    with desk.up():
        told = desk.attach(limits={"orders_per_second": 11})
        assert (told.type, told.data["code"]) == ("run.refused", "E_LIMIT")
        assert "orders_per_second = 11" in told.data["message"]
        assert not desk.gateway.runs
    with desk.up():
        assert not desk.gateway.runs, "what is refused is not on record"


ACCOUNT = Limits(order_quantity=10, instruments=("NSE:INFY", "NSE:TCS"), daily_loss=100.0)


@pytest.mark.parametrize(
    ("given", "looser"),
    [
        ({"order_quantity": 10}, ""),
        ({"order_quantity": 11}, "order_quantity"),
        ({"order_quantity": None}, "order_quantity"),
        ({"position_quantity": 10**9}, ""),  # the account has none
        ({"instruments": ["NSE:INFY"]}, ""),
        ({"instruments": ["NSE:SBIN"]}, "instruments"),
        ({"duplicate_seconds": 3.0}, ""),
        ({"duplicate_seconds": 1.0}, "duplicate_seconds"),
        ({"self_cross": False}, "self_cross"),
        ({"self_cross": True, "daily_loss": 99.0}, ""),
        ({"order_slices": 2}, "order_slices"),
        (None, ""),
    ],
)
def test_looser_is_what_allows_more(given: dict[str, Any] | None, looser: str) -> None:
    if not looser:
        refuse_looser(given, ACCOUNT)
        return
    with pytest.raises(ValidationError, match=f"limit {looser} = ") as caught:
        refuse_looser(given, ACCOUNT)
    assert caught.value.code == "E_LIMIT"


def test_a_limit_nobody_knows_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no limit 'order_quantty'"):
        own_limits({"order_quantty": 1})
    with pytest.raises(ConfigurationError, match="order_quantity"):
        own_limits({"order_quantity": -1})


# ── back after a crash ───────────────────────────────────────────────────────────────────────────────────────────

BACK = "came back after a crash: look at it, then `alphapanda resume bold-1`"


def test_a_run_whose_gateway_was_away_comes_back_paused_unless_agreed_otherwise(desk: Desk) -> None:
    script: dict[str, Any] = {
        "09:15:02": lambda s: s.buy("INFY", 5, limit=95.0),
        "09:15:05": lambda s: s.buy("INFY", 1),
    }
    with desk.up():
        half = held(desk, script, 3, auto_resume=False)
        desk.attach(run="easy-1", name="easy-1")
        assert not desk.lane().paused
    with desk.up():
        assert (desk.lane().paused, desk.lane("easy-1").paused) == (BACK, "")
        assert desk.orders() == [("", 5, "cancelled", f"paused: {BACK}")]
        half.play(desk.frames[3:6])
        assert desk.orders()[-1] == ("", 1, "denied", f"paused: {BACK}")
        desk.command("operator.unpause")
        consistent(half, desk.lane())
    with desk.up():
        assert desk.lane().paused == BACK, "each time it was away"


def test_a_run_whose_runner_was_away_comes_back_paused(desk: Desk) -> None:
    with desk.up():
        for _ in range(2):
            assert desk.attach("one life", auto_resume=False).type == "run.attached"
        assert not desk.lane().paused, "the same runner asked twice"
        assert desk.attach("another life", auto_resume=False).type == "run.attached"
        assert desk.lane().paused == BACK
        desk.command("operator.unpause")
        desk.attach("another life")
        assert not desk.lane().paused
    with desk.up():
        desk.command("operator.unpause")
        desk.attach("a third life")
        assert desk.lane().paused == BACK
        journal = [entry.kind for entry in desk.gateway.journal.entries()]
        assert journal.count("operator") == 5, (
            "two pauses of each kind of absence are on record, and what lifted them"
        )


class Forgetful(PaperTrader):
    """Has orders whose fate nobody knows."""

    @classmethod
    def lost(cls, settings: Settings) -> dict[str, str]:
        return {"bold-1:1:0": "sent", "another:1:0": "sent"}


def test_a_run_with_a_lost_order_does_not_go_on_by_itself(desk: Desk) -> None:
    with desk.up():
        desk.attach(run="easy-1", name="easy-1")
        held(desk, {"09:15:02": lambda s: s.buy("INFY", 5)}, 3)
    with desk.up(Forgetful):
        assert "nobody knows what became of bold-1:1:0: `alphapanda reconcile`" in desk.lane().paused
        assert not desk.lane("easy-1").paused


def test_a_run_that_has_ended_is_not_paused(desk: Desk) -> None:
    with desk.up():
        desk.attach("one", auto_resume=False)
        desk.hear("run.release", {"run": "bold-1", "reason": "", "by": "hub"})
    with desk.up():
        assert not desk.lane().paused


# ── real money ───────────────────────────────────────────────────────────────────────────────────────────────────


class Real(PaperTrader):
    """Says that it is."""

    execution_mode: ClassVar[Mode] = "live"


class Office:
    """A desk whose namespace trades with money, and the person who promotes there."""

    def __init__(self, desk: Desk, env: dict[str, str]) -> None:
        self.desk, self.env = desk, env
        self.strategy = Patient(name="bold-1", symbols=["NSE:INFY"])
        self.capsule = freeze(self.strategy)
        self.write(self.capsule.source)

    def write(self, source: str) -> None:
        """The module that the runner would load."""
        folder = self.desk.workspace.runs / "bold-1"
        folder.mkdir(exist_ok=True)
        (folder / "strategy.py").write_text(source, "utf-8")

    def promote(self, **terms: Any) -> None:
        promote(self.desk.workspace, self.env, self.strategy, namespace="paper", **{"capital": CRORE} | terms)

    def attach(self, life: str = "", **fields: Any) -> EventEnvelope:
        spec: dict[str, Any] = {
            "class_name": "Patient",
            "digest": self.capsule.digest,
            "parameters": self.strategy.params,
        }
        return self.desk.attach(life, **spec | fields)

    def acts(self) -> list[tuple[str, str]]:
        """What is on record since it was armed: each act with its reason."""
        with Ledger.open(self.desk.workspace, self.desk.settings) as ledger:
            found = [(one.act, one.reason) for one in ledger.history()]
        return found[1 + [act for act, _ in found].index("arm") :]


@pytest.fixture
def office(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Office:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    return Office(desk, dict(os.environ))


def refused(told: EventEnvelope) -> str:
    """Why."""
    assert (told.type, told.data["code"]) == ("run.refused", "E_PROMOTION")
    assert "session.promote" in told.data["fix"]
    return told.data["message"]


def test_no_run_meets_money_without_an_approval(office: Office) -> None:
    with office.desk.up(Real):
        assert "never approved" in refused(office.attach())
        office.promote()
        office.write(office.capsule.source + "#")
        assert "is not the one" in refused(office.attach())
        office.write(office.capsule.source)
        assert "parameters" in refused(office.attach(parameters={"most": 9}))
        assert "symbols" in refused(office.attach(symbols=["NSE:TCS"]))
        assert "capital" in refused(office.attach(capital=CRORE + 1))
        assert "seed" in refused(office.attach(seed=1))
        assert not office.desk.gateway.runs
        assert office.acts() == [], "what was refused has used nothing up"
        assert office.attach().type == "run.attached"
        assert office.acts() == [("live", "")]
        second = office.desk.workspace.runs / "bold-2"
        second.mkdir()
        (second / "strategy.py").write_text(office.capsule.source, "utf-8")
        assert "was used by run bold-1" in refused(office.attach(run="bold-2"))


def test_the_terms_of_a_run_are_its_approvals_whatever_it_was_started_with(office: Office) -> None:
    office.promote(limits={"order_quantity": 7}, auto_resume=False)
    with office.desk.up(Real):
        office.attach(limits={"order_quantity": 50}, auto_resume=True)
        spec = office.desk.gateway.runs["bold-1"].spec
        assert (spec.limits, spec.auto_resume) == ({"order_quantity": 7}, False)
        assert spec.approved_until > 0
    with office.desk.up(Real):
        assert office.desk.lane().paused == BACK
        assert office.desk.gateway.runs["bold-1"].spec == spec


def test_pause_resume_and_end_are_on_the_record_of_promotions(office: Office) -> None:
    office.promote()
    with office.desk.up(Real):
        office.attach()
        office.desk.command("operator.pause", reason="odd fills")
        office.desk.command("operator.unpause", reason="they are fine")
        office.desk.hear("run.release", {"run": "bold-1", "reason": "stopped by a person", "by": "hub"})
        done = [
            ("live", ""),
            ("pause", "odd fills"),
            ("resume", "they are fine"),
            ("retire", "stopped by a person"),
        ]
        assert office.acts() == done


def test_an_approval_that_ends_or_a_record_that_cannot_be_read_pauses_a_run(office: Office) -> None:
    office.promote()
    with office.desk.up(Real):
        office.attach("one")
        assert office.attach("another").type == "run.attached"
        assert not office.desk.lane().paused, "it may go on by itself"
        office.desk.gateway.runs["bold-1"].spec.approved_until = 1
        asyncio.run(office.desk.gateway.arrivals.end_of_approvals())
        assert office.desk.lane().paused == "its approval has ended; promote it: session.promote(...)"
        with pytest.raises(AuthorizationError, match="has ended"):
            office.desk.command("operator.unpause")
        office.desk.gateway.runs["bold-1"].spec.approved_until = 0
        office.desk.command("operator.unpause")
    database = office.desk.workspace.root / office.desk.settings.database.sqlite_path
    database.write_bytes(b"no database")
    with office.desk.up(Real):
        assert "nobody can tell whether bold-1 is approved" in office.desk.lane().paused
        office.desk.command("operator.unpause")
        assert not office.desk.lane().paused, "a person's word needs no database"
    with office.desk.up(Real):
        office.write(office.capsule.source + "#")
        assert "is not the one" in refused(office.attach("a third"))
        assert office.desk.lane().paused


def test_an_order_by_hand_needs_no_approval_and_nothing_else_passes_for_one(office: Office) -> None:
    capsule = freeze(ByHand)
    spec: dict[str, Any] = {"class_name": "ByHand", "digest": capsule.digest, "parameters": {"quantity": 5}}
    with office.desk.up(Real):
        office.write(capsule.source)
        assert office.attach(**spec).type == "run.attached"
    other = office.capsule.source.replace("class Patient", "class ByHand")
    office.write(other)
    with office.desk.up(Real):
        assert "is not the one" in refused(office.attach("again", **spec))
        second = office.desk.workspace.runs / "bold-2"
        second.mkdir()
        (second / "strategy.py").write_text(other, "utf-8")
        told = office.attach(**spec | {"run": "bold-2", "digest": digest_of(other)})
        assert "never approved" in refused(told)


def test_shadow_sends_nothing_and_needs_none(office: Office) -> None:
    class Shadow(PaperTrader):
        execution_mode: ClassVar[Mode] = "shadow"

    with office.desk.up(Shadow):
        assert office.attach().type == "run.attached"

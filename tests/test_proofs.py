"""What a proof promises: what is pure passes, what is not is named, and lanes that differ are told where."""

from __future__ import annotations

import random
from pathlib import Path

import polars as pl
import pytest

import alphapanda as ap
from alphapanda.errors import DataError, ValidationError
from alphapanda.examples import OpeningBreakout
from alphapanda.proofs import checks
from alphapanda.proofs.case import Case
from alphapanda.proofs.checks import Found
from alphapanda.proofs.incident import incident
from alphapanda.proofs.platform import Platform
from alphapanda.proofs.proof import case_of, impurities
from alphapanda.proofs.research import parked, prefix, research
from alphapanda.proofs.trace import first_difference, seq_of
from alphapanda.proofs.worker import watched
from alphapanda.settings import Settings
from alphapanda.tapes import dayevents
from alphapanda.tapes.tape import Tape
from alphapanda.workspace import RunSpec
from tests import adversaries

FROZEN = [k for k, name in adversaries.CAUGHT.items() if name == "freeze"]
PURE = [k for k, name in adversaries.CAUGHT.items() if name.startswith(("purity", "tick"))]
OTHER = [k for k, name in adversaries.CAUGHT.items() if not name.startswith(("purity", "tick", "freeze"))]


@pytest.fixture(scope="module")
def tape() -> Tape:
    """Two hours of one share."""
    day = ap.synthetic_day("2026-11-20", seed=5, ticks_per_second=20, symbols=[adversaries.SYMBOL])
    return day.between("2026-11-20T09:15:00+05:30", "2026-11-20T11:15:00+05:30")


@pytest.fixture(scope="module")
def week(tape: Tape) -> Tape:
    """Four days of one share."""
    days = ("2026-11-17", "2026-11-18", "2026-11-19", "2026-11-20")
    return Tape.concat(
        ap.synthetic_day(day, seed=5, ticks_per_second=4, symbols=[adversaries.SYMBOL]) for day in days
    )


def found_by(case: Case, tape: Tape, name: str, folder: Path) -> list[Found]:
    """What the check of this name makes of it."""
    whole = research(case, tape)
    if name == "look-ahead":
        return [checks.look_ahead(case, tape, whole, random.Random(3))]
    if name == "warm-up":
        return [checks.warm_up(case, tape)]
    if name == "noise":
        case.keep(folder)
        tape.save(folder / "tape.parquet")
        return [checks.noise(case, tape, folder, whole)]
    if name == "tick unchanged":
        return [checks.runs_through(whole)]
    return impurities(case, watched(case, tape).touches, 0.0)


@pytest.mark.parametrize("kind", PURE, ids=lambda k: k.__name__)
def test_what_a_callback_must_not_touch_is_named_with_its_line(
    kind: type[ap.Strategy], tape: Tape, tmp_path: Path
) -> None:
    name = adversaries.CAUGHT[kind]
    found = found_by(case_of(kind(), tape), tape, name, tmp_path)
    failed = [one.outcome for one in found if not one.outcome.passed]
    assert [one.name for one in failed] == [name]
    assert name == "tick unchanged" or "adversaries.py line " in failed[0].detail


@pytest.mark.parametrize("kind", FROZEN, ids=lambda k: k.__name__)
def test_what_only_a_kernel_has_is_refused_before_any_lane(kind: type[ap.Strategy], tape: Tape) -> None:
    with pytest.raises(ValidationError, match=r"cannot be frozen") as refused:
        case_of(kind(), tape)
    assert refused.value.context["line"]
    assert refused.value.fix


@pytest.mark.parametrize("kind", OTHER, ids=lambda k: k.__name__)
def test_what_depends_on_more_than_the_ticks_is_caught(
    kind: type[ap.Strategy], tape: Tape, week: Tape, tmp_path: Path
) -> None:
    name = adversaries.CAUGHT[kind]
    ticks = week if name == "warm-up" else tape
    (found,) = found_by(case_of(kind(), ticks), ticks, name, tmp_path)
    assert (found.outcome.name, found.outcome.passed) == (name, False)
    assert found.difference is not None
    if kind in (adversaries.Hashes, adversaries.Zone):
        assert "state.seen" in {name for name, _, _ in found.difference.state}


@pytest.mark.parametrize(
    "kind", [adversaries.Honest, adversaries.Every, adversaries.Warm], ids=lambda k: k.__name__
)
def test_what_is_pure_passes(kind: type[ap.Strategy], tape: Tape, week: Tape, tmp_path: Path) -> None:
    ticks = week if kind is adversaries.Warm else tape
    case = case_of(kind(), ticks)
    for name in ("look-ahead", "warm-up", "noise", "purity", "tick unchanged"):
        assert all(one.outcome.passed for one in found_by(case, ticks, name, tmp_path)), name


def test_a_prefix_of_the_tape_gives_a_prefix_of_the_decisions(tape: Tape) -> None:
    case = case_of(adversaries.Every(), tape)
    whole = research(case, tape)
    for rows in (1, 99, 100, 101, 5_000, tape.rows):
        assert prefix(case, tape, rows).lines == tuple(x for x in whole.lines if seq_of(x) < rows)


def test_lanes_that_part_are_told_at_the_first_row(tape: Tape) -> None:
    one = research(case_of(adversaries.Every(), tape), tape)
    case = case_of(adversaries.Honest(name="Every"), tape)
    other = research(case, tape, lane="other")
    found = first_difference(one, other)
    assert found is not None
    before = {line for line in one.lines if seq_of(line) < found.seq}
    assert before == {line for line in other.lines if seq_of(line) < found.seq}
    assert (found.one_line is None) != (found.other_line is None) or found.one_line != found.other_line
    engine = parked(case, tape, found.seq)
    assert engine.block.first + engine.played == found.seq + 1
    assert engine.strategies[0].state.n == (found.seq // 100 + 1) * 100 or engine.strategies[0].state.n > 0


@pytest.mark.timeout(180)
def test_a_shipped_strategy_is_proved_in_every_lane() -> None:
    day = ap.synthetic_day("2026-11-20", seed=7, ticks_per_second=3)
    proof = ap.prove(OpeningBreakout(), day, progress=False)
    assert proof.passed, proof
    lanes = dict.fromkeys(("research", "paper", "shadow"), proof.digest)
    assert {lane.lane: lane.digest for lane in proof.lanes} == lanes
    assert proof.digest == ap.backtest(OpeningBreakout(), day, **as_gateway()).digest  # type: ignore[arg-type]
    assert len(proof.lanes[0].lines) > 0
    assert "each process killed once" in repr(proof)
    assert "<svg" in proof._repr_html_()


@pytest.mark.timeout(180)
def test_a_strategy_that_knows_its_process_is_not_proved_and_the_lanes_are_told_apart(tape: Tape) -> None:
    proof = ap.prove(adversaries.Process(), tape, progress=False)
    assert not proof.passed
    assert not proof.certificate.passed
    outcomes = {check.name: check.passed for check in proof.checks}
    assert not outcomes["same decisions"]
    assert not outcomes["noise"]
    assert not outcomes["crash and resume"]
    found = proof.difference
    assert found is not None
    assert found.one_line != found.other_line
    assert proof.park().strategies[0].state.n > 0
    assert f"first difference at row {found.seq}" in repr(proof)


@pytest.mark.timeout(120)
def test_a_run_that_was_is_derived_again_from_its_tape_and_what_its_gateway_said(tmp_path: Path) -> None:
    day = ap.synthetic_day("2026-11-20", seed=7, ticks_per_second=2)
    case = case_of(OpeningBreakout(), day)
    with Platform(day.save(tmp_path / "tape.parquet"), 1) as platform:
        run, workspace = platform.start(case, "paper"), platform.workspace
        lane = platform.finish(run, "paper", day.rows, 60.0)
        found = incident(workspace, run, Settings.load(None))
        assert found.passed, found
        assert found.lanes[1].lines == lane.lines
        assert found.fills
        assert all(one.real == one.paper for one in found.fills), "on paper it is filled as paper would"

        seen = ap.day_events("2026-11-20", workspace=workspace.root)
        assert seen["seq"].is_sorted()
        signals = seen.filter(pl.col("kind") == "signal")
        assert signals["seq"].to_list() == [seq_of(line) for line in lane.lines if b'"signal"' in line]
        assert {"session.open", "session.close", "heartbeat", "fill"} <= set(seen["kind"])
        kept = dayevents.keep(workspace.tapes, day.days[0])
        assert ap.day_events("2026-11-20", workspace=workspace.root).equals(seen)
        raw = bytearray(kept.read_bytes())
        raw[100] ^= 1
        kept.write_bytes(raw)
        with pytest.raises(DataError, match="was changed"):
            ap.day_events("2026-11-20", workspace=workspace.root)

        spec = RunSpec.read(workspace.runs / run)
        spec.parameters = {**spec.parameters, "minutes": 30}
        spec.write(workspace.runs / run)
        other = incident(workspace, run, Settings.load(None))
        assert not other.passed
        assert other.difference is not None
        module = workspace.runs / run / "strategy.py"
        module.write_text(module.read_text("utf-8") + "\n", "utf-8")
        assert [c.passed for c in incident(workspace, run, Settings.load(None)).checks] == [False, False]


def as_gateway() -> dict[str, object]:
    """Limits and fills as a gateway has them."""
    from alphapanda.gateway import limits_of
    from alphapanda.traders.paper import fills_of

    settings = Settings.load(None)
    return {"limits": limits_of(settings), "fills": fills_of(settings)}

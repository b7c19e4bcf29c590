"""Real processes, real faults: whatever is killed, stopped, filled up or emptied, the fills are a quiet day's."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

import alphapanda as ap
from alphapanda.tapes.tape import Tape
from tests.fault_strategies import Busy
from tests.rig import Ledger, Rig, undisturbed

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def tape() -> Tape:
    """The first minutes of a synthetic day; small, and busy from its first tick."""
    return ap.synthetic_day(seed=11, ticks_per_second=30).between(
        "2026-11-20T09:15:00+05:30", "2026-11-20T09:35:00+05:30"
    )


@pytest.fixture(scope="module")
def quiet(tape: Tape) -> Ledger:
    """What should come out."""
    expected = undisturbed(Busy(), tape)
    assert len(expected["fills"]) > 100
    return expected


def settle(rig: Rig, run: str, quiet: Ledger, seconds: float = 90.0) -> None:
    """Wait for the end of the tape; then everything must be as if nothing had happened."""
    rig.until(lambda: rig.played(run), seconds, f"{run} has played the tape: row {rig.seq(run)}")
    found = rig.ledger(run)
    assert rig.document(f"paper:run:{run}")["state"] == "running", rig.document(f"paper:run:{run}")
    for kind, expected in quiet.items():
        assert found[kind] == expected, kind
    assert len(set(found["signals"])) == len(found["signals"])


def test_an_undisturbed_run_is_the_backtest(tmp_path: Path, tape: Tape, quiet: Ledger) -> None:
    with Rig(tmp_path, tape, FEED__SPEED=0) as rig:
        settle(rig, rig.run(Busy()), quiet)


@pytest.mark.parametrize("role", ["server", "feed", "gateway:paper", "runner"])
def test_killed_five_times(tmp_path: Path, tape: Tape, quiet: Ledger, role: str) -> None:
    draw = random.Random(role)
    with Rig(tmp_path, tape, FEED__SPEED=80) as rig:
        run = rig.run(Busy())
        victim = f"runner:{run}" if role == "runner" else role
        for _ in range(5):
            rig.until(lambda: rig.seq(run) > 0, 30.0, "the run plays")
            time.sleep(draw.uniform(0.3, 1.5))
            before = rig.signal(victim)
            rig.until(lambda old=before: rig.pid(victim) not in (0, old), 30.0, f"{victim} is back")
        settle(rig, run, quiet)


def test_the_hub_killed_five_times(tmp_path: Path, tape: Tape, quiet: Ledger) -> None:
    draw = random.Random(5)
    with Rig(tmp_path, tape, FEED__SPEED=80) as rig:
        run = rig.run(Busy())
        for _ in range(5):
            rig.until(lambda: rig.seq(run) > 0, 30.0, "the run plays")
            time.sleep(draw.uniform(0.3, 1.5))
            rig.signal("hub")
            assert rig.process is not None
            rig.process.wait(5.0)
            rig.up()
        settle(rig, run, quiet)


def test_everything_killed_at_random(tmp_path: Path, tape: Tape, quiet: Ledger) -> None:
    draw = random.Random(17)
    with Rig(tmp_path, tape, FEED__SPEED=60) as rig:
        run = rig.run(Busy())
        rig.until(lambda: rig.seq(run) > 0, 30.0, "the run plays")
        for _ in range(10):
            time.sleep(draw.uniform(0.1, 1.0))
            victim = draw.choice(["server", "feed", "gateway:paper", f"runner:{run}"])
            if draw.random() < 0.25:
                with rig.server() as server:
                    server.flushall()
            else:
                rig.signal(victim)
        settle(rig, run, quiet)


@pytest.mark.parametrize("role", ["gateway:paper", "server"])
def test_stopped_and_continued(tmp_path: Path, tape: Tape, quiet: Ledger, role: str) -> None:
    with Rig(tmp_path, tape, FEED__SPEED=200) as rig:
        run = rig.run(Busy())
        for seconds in (0.5, 3.0):
            rig.until(lambda: rig.seq(run) > 0, 30.0, "the run plays")
            rig.signal(role, signal.SIGSTOP)
            time.sleep(seconds)
            rig.signal(role, signal.SIGCONT)
        settle(rig, run, quiet)


def test_the_server_loses_everything(tmp_path: Path, tape: Tape, quiet: Ledger) -> None:
    with Rig(tmp_path, tape, FEED__SPEED=200) as rig:
        run = rig.run(Busy())
        for _ in range(3):
            rig.until(lambda: rig.seq(run) > 0, 30.0, "the run plays")
            with rig.server() as server:
                server.flushall()
            rig.until(lambda: rig.document(f"paper:run:{run}"), 5.0, "the views are there again")
        settle(rig, run, quiet)

"""What becomes of a scheduled notebook: claims, retries, misfires, crashes, and two who want the same.

The workers here are no kernels and the clock is moved by hand; ``test_schedule_notebooks`` has the real thing.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from alphapanda.clock import wait_until
from alphapanda.errors import DatabaseError, InfrastructureError, UnknownNameError, ValidationError
from alphapanda.processes import mark
from alphapanda.schedules import When
from alphapanda.schedules.scheduler import AT_ONCE, Scheduler
from alphapanda.schedules.source import typed
from tests.schedule_rig import RULES, Rig, at, notebook

MORNING = When(at="09:10")
MINUTES = When(every="1m", start="09:15", end="15:30")


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


# ── what may be scheduled ────────────────────────────────────────────────────────────────────────────────────────

HOSTILE = [
    "../secret.ipynb", "/etc/passwd", "one.ipynb\0.txt", "", ".", "..", "one.txt", "out.ipynb", "folder.ipynb",
    "loop.ipynb", "x" * 600, "none.ipynb", "sub/../../secret.ipynb", "~/one.ipynb", "notebooks/../secret.ipynb",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_no_notebook_outside_the_folder(rig: Rig, name: str) -> None:
    notebook(rig.workspace.root / "secret.ipynb")
    (rig.folder / "out.ipynb").symlink_to(rig.workspace.root / "secret.ipynb")
    (rig.folder / "loop.ipynb").symlink_to(rig.folder / "loop.ipynb")
    (rig.folder / "folder.ipynb").mkdir()
    (rig.folder / "sub").mkdir()
    with pytest.raises(ValidationError) as caught:
        rig.schedules.add("it", name, MORNING)
    assert caught.value.code == "E_NOTEBOOK"
    assert rig.schedules.list() == []


@pytest.mark.parametrize("name", ["one.ipynb", "notebooks/one.ipynb", "in.ipynb"])
def test_a_notebook_in_the_folder_is_found_by_any_of_its_names(rig: Rig, name: str) -> None:
    (rig.folder / "in.ipynb").symlink_to(rig.folder / "one.ipynb")
    assert rig.schedules.add("it", name, MORNING).notebook == "one.ipynb"


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"cells": 3, "nbformat": 4}', "[" * 100_000, '{"nbformat": 4, "cells": [1]}']
)
def test_what_is_no_notebook_is_refused(rig: Rig, text: str) -> None:
    (rig.folder / "odd.ipynb").write_text(text)
    with pytest.raises(ValidationError) as caught:
        rig.schedules.add("it", "odd.ipynb", MORNING)
    assert caught.value.code == "E_NOTEBOOK"


def test_one_that_names_no_kernel_is_pythons(rig: Rig) -> None:
    path = rig.folder / "one.ipynb"
    path.write_text(path.read_text().replace('"kernelspec"', '"other"'))
    assert rig.schedules.add("it", "one.ipynb", MORNING, {"n": 2}).parameters == {"n": 2}


WRONG: list[dict[str, Any]] = [
    {"lane": "zerodha"}, {"namespace": "zerodha"}, {"Limits": 3}, {"RISK__MAX_DAILY_LOSS": 9}, {"nn": 1},
    {"n": "1"}, {"n": 1.5}, {"n": True}, {"n": None}, {"n": 10**30}, {"share": "x"}, {"share": float("nan")},
    {"share": float("inf")}, {"yes": 1}, {"do": 3}, {"do": ["x"]}, {"do": "a\0b"}, {"names": "x"},
    {"names": [object]}, {"names": list(range(10_000))}, {"names": [[[[[[1]]]]]]}, {"do": "x" * 70_000},
    {"": 1}, {"loose": "text"}, {"__class__": 1}, {"do; import os": "x"},
]  # fmt: skip


@pytest.mark.parametrize("values", WRONG, ids=lambda values: str(values)[:40])
def test_what_the_notebook_may_not_be_told(rig: Rig, values: dict[str, Any]) -> None:
    """B20: refused by name before anything runs."""
    with pytest.raises((ValidationError, UnknownNameError)) as caught:
        rig.schedules.add("it", "one.ipynb", MORNING, values)
    assert caught.value.code == "E_PARAM"
    assert caught.value.fix
    assert rig.schedules.list() == []


@pytest.mark.parametrize(
    ("kind", "word", "value"),
    [
        ("list[str]", '["NSE:INFY", "NSE:TCS"]', ["NSE:INFY", "NSE:TCS"]), ("list[str]", '["NSE:INFY", 5]', ...),
        ("dict[str, float]", '{"a": 1, "b": 0.5}', {"a": 1, "b": 0.5}), ("dict[str, float]", '{"a": "x"}', ...),
        ("int | None", "null", None), ("int | None", "7", 7), ("int | None", "7.5", ...),
        ("str | None", "null", None), ("str | None", "5", "5"), ("list[int | None]", "[1, null]", [1, None]),
        ("list[list[int]]", "[[1], [2, 3]]", [[1], [2, 3]]), ("list[list[int]]", "[[1], 2]", ...),
        ("float", "1", 1), ("bool", "1", ...), ("Path", "a", ...), ("list[Path]", "[]", ...), ("list[()]", "[]", ...),
    ],
)  # fmt: skip
def test_a_parameter_is_of_the_type_that_its_notebook_says(
    rig: Rig, kind: str, word: str, value: Any
) -> None:
    notebook(rig.folder / "typed.ipynb", parameters=f"x: {kind} = None")
    read = rig.schedules.source("typed.ipynb")
    if value is ...:
        with pytest.raises(ValidationError) as caught:
            typed(read, [f"x={word}"])
        assert caught.value.code == "E_PARAM"
    else:
        assert typed(read, [f"x={word}"]) == {"x": value}


def test_lane_and_limits_are_refused_even_where_a_notebook_asks(rig: Rig) -> None:
    notebook(rig.folder / "asks.ipynb", parameters='namespace: str = "paper"\nlimits: dict = {}')
    for values in ({"namespace": "paper"}, {"limits": {}}):
        with pytest.raises(ValidationError, match="not a schedule's to set"):
            rig.schedules.add("it", "asks.ipynb", MORNING, values)


def test_a_notebook_that_changes_is_judged_again_when_it_runs(rig: Rig) -> None:
    """By the worker, which reads it: see ``test_schedule_notebooks`` for the same with a kernel."""
    good = {"n": 3, "share": 1, "names": ["a"], "yes": True, "loose": 4, "do": ""}
    made = rig.schedules.add("it", "one.ipynb", MORNING, good)
    assert made.parameters == good


@pytest.mark.parametrize("name", ["", "Upper", "a b", "../x", "a" * 41, "-x", "ä"])
def test_names_are_plain(rig: Rig, name: str) -> None:
    with pytest.raises(ValidationError):
        rig.schedules.add(name, "one.ipynb", MORNING)


def test_a_name_is_used_once(rig: Rig) -> None:
    rig.schedules.add("it", "one.ipynb", MORNING)
    with pytest.raises(ValidationError) as caught:
        rig.schedules.add("it", "two.ipynb", MORNING)
    assert caught.value.code == "E_EXISTS"


# ── due, and done ────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_runs_when_it_is_due_and_not_before(rig: Rig) -> None:
    rig.schedules.add("it", "one.ipynb", MORNING, {"n": 4})
    rig.until("2026-11-23 09:09")
    assert rig.states() == []
    rig.until("2026-11-23 09:10")
    run = rig.newest()
    assert (run.state, run.attempt, run.due, run.parameters, run.by) == (
        "ok", 1, at("2026-11-23 09:10"), {"n": 4}, "schedule",
    )  # fmt: skip
    assert run.source == "5e"
    assert (rig.workspace.root / run.path).stat().st_mode & 0o777 == 0o600
    assert rig.schedules.list()[0].due == at("2026-11-25 09:10")
    rig.settle()
    assert rig.states() == ["ok"]


def test_once_is_once(rig: Rig) -> None:
    rig.schedules.add("it", "one.ipynb", MORNING, once=True)
    rig.until("2026-11-23 09:10")
    rig.until("2026-11-25 09:10")
    assert rig.states() == ["ok"]
    assert rig.schedules.list()[0].due == 0


@pytest.mark.parametrize(
    ("how", "state", "error"),
    [("fail", "failed", "ValueError"), ("die", "killed", "E_KILLED"), ("mute", "failed", "E_WORKER")],
)
def test_how_it_failed_is_told_by_its_process(rig: Rig, how: str, state: str, error: str) -> None:
    rig.schedules.add("it", "one.ipynb", MORNING, {"do": how})
    rig.until("2026-11-23 09:10")
    run = rig.newest()
    assert (run.state, run.error) == (state, error)
    assert (
        run.message
        == {"fail": "it failed", "die": "its process was ended by SIGKILL", "mute": "nothing to tell"}[how]
    )
    assert list(rig.schedules.failing()) == ["it"]


def test_a_failed_run_is_repeated_ever_more_patiently(rig: Rig) -> None:
    rig.schedules.add("it", "one.ipynb", MORNING, {"do": "fail"}, retries=2, backoff=60.0)
    rig.until("2026-11-23 09:10")
    assert rig.states() == ["failed", "due"]
    assert rig.schedules.failing() == {}  # it may yet go well
    rig.until("2026-11-23 09:10:59")
    assert rig.states() == ["failed", "due"]
    rig.until("2026-11-23 09:11")
    rig.until("2026-11-23 09:12:59")
    assert rig.states() == ["failed", "failed", "due"]
    rig.until("2026-11-23 09:13")
    rig.until("2026-11-23 12:00")
    assert rig.states() == ["failed", "failed", "failed"]
    assert [run.attempt for run in rig.schedules.history()] == [3, 2, 1]
    assert list(rig.schedules.failing()) == ["it"]


def test_a_time_out_ends_worker_and_kernel(rig: Rig) -> None:
    rig.schedules.add("it", "one.ipynb", MORNING, {"do": "kernel hang deaf"}, timeout=1.0)
    rig.until("2026-11-23 09:10")
    run = rig.newest()
    assert (run.state, run.error) == ("timed out", "E_TIMEOUT")
    for known in (run.process, run.kernel):
        pid, _, sign = known.partition(" ")
        assert sign
        assert wait_until(lambda pid=pid, sign=sign: mark(int(pid)) != sign, 5.0)


def test_executed_notebooks_beyond_those_kept_are_let_go(rig: Rig) -> None:
    rig.schedules.add("it", "one.ipynb", MINUTES)
    for minute in range(15, 20):
        rig.until(f"2026-11-23 09:{minute}")
    assert rig.states() == ["ok"] * 5
    left = sorted((rig.place.home / "it").glob("*.ipynb"))
    assert [path.stem.rpartition("-")[2] for path in left] == ["3", "4", "5"]


# ── late ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_late_run_stands_for_all_that_passed(rig: Rig) -> None:
    rig.schedules.add("it", "one.ipynb", MINUTES)
    rig.until("2026-11-23 10:15:30")
    run = rig.newest()
    assert (rig.states(), run.due, run.late) == (["ok"], at("2026-11-23 10:15"), 60)
    assert rig.schedules.list()[0].due == at("2026-11-23 10:16")


def test_what_is_too_late_is_missed_and_said_to_be(rig: Rig) -> None:
    rig.schedules.add("it", "one.ipynb", MORNING, grace=300)
    rig.until("2026-11-23 09:15:01")
    run = rig.newest()
    assert (run.state, run.error) == ("missed", "E_MISSED")
    assert "301 s late" in run.message
    assert list(rig.schedules.failing()) == ["it"]
    rig.until("2026-11-25 09:10")
    assert rig.states() == ["missed", "ok"]
    assert rig.schedules.failing() == {}


def test_weeks_without_anybody_are_one_row(rig: Rig) -> None:
    rig.schedules.add("it", "one.ipynb", MINUTES)
    rig.until("2026-12-07 20:00")
    assert rig.states() == ["missed"]
    assert rig.newest().late >= 900
    assert rig.schedules.list()[0].due == at("2026-12-08 09:15")


def test_a_day_no_table_covers_is_said_and_asked_for_again(rig: Rig) -> None:
    rig.schedules.add("it", "one.ipynb", When(at="15:00"))
    rig.schedules.add("other", "two.ipynb", When(at="15:00", any_day=True))
    rig.until("2026-12-31 15:00")
    known = {one.name: one for one in rig.schedules.list()}
    assert known["it"].due == 0
    assert "2027-01-01 is outside the rulebook" in known["it"].trouble
    assert known["other"].due == at("2027-01-01 15:00")
    rig.until("2027-01-01 15:00")
    assert rig.states("it")[-1] == "ok"
    assert rig.states("other")[-1] == "ok"
    assert len(rig.states("other")) == len(rig.states("it")) + 1


def test_it_is_due_again_once_the_tables_reach_further(rig: Rig) -> None:
    rig.schedules.add("it", "one.ipynb", When(at="15:00"))
    rig.until("2026-12-31 15:00")

    class Longer:
        """A rulebook with next year's rows would be one: every day has the session of this year's last."""

        def session(self, share: Any, day: Any) -> Any:
            return RULES.session(share, min(day, day.replace(year=2026, month=12, day=31)))

    rig.scheduler.rules = Longer()  # type: ignore[assignment]
    rig.until("2027-01-01 09:00")
    assert (rig.schedules.list()[0].due, rig.schedules.list()[0].trouble) == (at("2027-01-01 15:00"), "")


def test_a_try_that_nobody_made_in_time_is_missed(rig: Rig) -> None:
    """A notebook that arms a run before the open is not started at night because its first try failed."""
    rig.schedules.add("it", "one.ipynb", MORNING, {"do": "fail"}, retries=1, backoff=60)
    rig.until("2026-11-23 09:10")
    rig.until("2026-11-23 21:00")
    assert rig.states() == ["failed", "missed"]
    assert rig.said().count("began") == 1
    assert list(rig.schedules.failing()) == ["it"]


def test_a_try_that_waits_keeps_no_later_moment_from_its_run(rig: Rig) -> None:
    rig.schedules.add("it", "one.ipynb", MINUTES, {"do": "fail"}, retries=1, backoff=600)
    rig.until("2026-11-23 09:15")
    rig.until("2026-11-23 09:16")
    assert rig.states() == ["failed", "due", "failed", "due"]


# ── pause, remove ────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_falls_into_a_pause_is_not_made_up_for(rig: Rig) -> None:
    rig.schedules.add("it", "one.ipynb", MINUTES)
    rig.schedules.pause("it")
    rig.until("2026-11-23 10:00")
    assert rig.states() == []
    assert rig.schedules.resume("it").due == at("2026-11-23 10:01")
    rig.until("2026-11-23 10:01")
    assert rig.states() == ["ok"]


def test_removed_is_gone_and_its_history_stays(rig: Rig) -> None:
    rig.schedules.add("it", "one.ipynb", MINUTES, {"do": "fail"}, retries=3)
    rig.until("2026-11-23 09:15")
    rig.schedules.remove("it")
    rig.until("2026-11-23 10:00")
    assert (rig.schedules.list(), rig.states("it"), rig.schedules.failing()) == ([], ["failed"], {})
    for act in (rig.schedules.remove, rig.schedules.pause, rig.schedules.resume, rig.schedules.run):
        with pytest.raises(UnknownNameError):
            act("it")


# ── at once ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_two_schedulers_run_everything_once(rig: Rig, tmp_path: Path) -> None:
    other = Scheduler(rig.place, RULES)
    rig.schedules.add("it", "one.ipynb", MINUTES)
    rig.schedules.add("that", "two.ipynb", MINUTES, {"do": "fail"}, retries=1, backoff=1.0)
    for minute in range(15, 21):
        rig.now = at(f"2026-11-23 09:{minute}")
        for second in (0, 1, 2):
            rig.now += second * 10**9
            both = [threading.Thread(target=one.look) for one in (rig.scheduler, other)]
            for one in both:
                one.start()
            for one in both:
                one.join()
            rig.join()
            for thread in list(other._running.values()):
                thread.join()
    assert rig.states("it") == ["ok"] * 6
    assert rig.states("that") == ["failed"] * 12
    assert rig.said().count("began") == 18


def test_a_notebook_runs_once_at_a_time_whoever_wants_it(rig: Rig) -> None:
    rig.schedules.add("it", "one.ipynb", MINUTES, {"do": "wait"}, timeout=30, grace=300)
    rig.schedules.add("same", "one.ipynb", When(at="09:16"), grace=60)
    rig.now = at("2026-11-23 09:15")
    rig.scheduler.look()
    assert wait_until(lambda: "began" in rig.said(), 10)
    with pytest.raises(InfrastructureError) as caught:
        rig.schedules.run("same")
    assert caught.value.code == "E_BUSY"
    for _ in range(3):  # while it runs: one waits, and those after it have no place
        rig.now += 60 * 10**9
        rig.scheduler.look()
        for run, thread in list(rig.scheduler._running.items()):
            if run != 1:
                thread.join()
    assert rig.states("it") == ["started", "due", "skipped", "skipped"]
    assert rig.states("same") == ["skipped"]
    assert rig.said().count("began") == 1
    (rig.workspace.root / "go").touch()
    rig.settle()
    rig.settle()
    assert rig.said().count("ended") == 2  # the one that ran, and the one that waited
    assert rig.states("it") == ["ok", "ok", "skipped", "skipped"]


def test_no_more_than_a_few_at_a_time(rig: Rig) -> None:
    for number in range(AT_ONCE + 2):
        notebook(rig.folder / f"n{number}.ipynb")
        rig.schedules.add(f"n{number}", f"n{number}.ipynb", MORNING, {"do": "wait"})
    rig.now = at("2026-11-23 09:10")
    rig.scheduler.look()
    rig.scheduler.look()
    assert rig.scheduler.running == AT_ONCE
    (rig.workspace.root / "go").touch()
    rig.join()
    rig.settle()
    assert rig.states() == ["ok"] * (AT_ONCE + 2)


# ── crashes ──────────────────────────────────────────────────────────────────────────────────────────────────────

SCHEDULER = """
import sys
from pathlib import Path
from tests.schedule_rig import Rig, at
rig = Rig(Path(sys.argv[1]))
rig.now = at(sys.argv[2])
rig.scheduler.look()
rig.join()
print("done", flush=True)
"""


@pytest.mark.parametrize("retries", [0, 1])
def test_a_scheduler_that_is_killed_leaves_nothing_running_and_nothing_unsaid(rig: Rig, retries: int) -> None:
    rig.schedules.add("it", "one.ipynb", MORNING, {"do": "kernel hang deaf"}, retries=retries, backoff=60)
    with subprocess.Popen(
        [sys.executable, "-c", SCHEDULER, str(rig.workspace.root), "2026-11-23 09:10"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    ) as other:
        assert wait_until(lambda: rig.states() == ["started"] and bool(rig.newest().kernel), 15)
        rig.now = at("2026-11-23 09:10")
        rig.settle()
        assert rig.states() == ["started"]  # whoever runs it lives: it is not ours to end
        other.send_signal(signal.SIGKILL)
    rig.settle()
    left = rig.schedules.history()[-1]
    assert (left.state, left.error, left.message) == ("killed", "E_KILLED", "the scheduler died")
    for known in (left.process, left.kernel):
        pid, _, sign = known.partition(" ")
        assert wait_until(lambda pid=pid, sign=sign: mark(int(pid)) != sign, 5.0)
    assert rig.states() == ["killed", "due"][: 1 + retries]


def test_a_worker_ends_itself_when_its_scheduler_is_killed(rig: Rig) -> None:
    rig.schedules.add("it", "one.ipynb", MORNING, {"do": "hang"})
    with subprocess.Popen(
        [sys.executable, "-c", SCHEDULER, str(rig.workspace.root), "2026-11-23 09:10"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    ) as other:
        assert wait_until(lambda: "began" in rig.said(), 15)
        other.send_signal(signal.SIGKILL)
    assert wait_until(lambda: rig.said() == ["began", "eof"], 5)


def test_what_was_claimed_and_never_begun_is_found(rig: Rig) -> None:
    """Killed between the row and the process."""
    rig.schedules.add("it", "one.ipynb", MORNING)
    rig.now = at("2026-11-23 09:10")
    schedule = rig.schedules.list()[0]
    row = rig.scheduler._row(schedule, schedule.due, 1, rig.now)
    assert rig.place.store.move("it", schedule.due, at("2026-11-25 09:10"), "", [row])
    again = Rig(rig.workspace.root)
    again.until("2026-11-23 09:11")  # killed before the claim: it is run
    assert again.states() == ["ok"]
    run = again.place.store.begin(
        type(row)(schedule="it", notebook="one.ipynb", due=rig.now + 1, state="started", owner="4194303 gone")
    )
    again.settle()  # killed after it
    assert again.newest().id == run.id
    assert again.newest().state == "killed"


def test_a_person_who_interrupts_leaves_nothing(rig: Rig) -> None:
    rig.schedules.add("it", "one.ipynb", MORNING, {"do": "kernel hang deaf"})
    script = SCHEDULER.replace("rig.scheduler.look()", "rig.schedules.run('it')")
    with subprocess.Popen(
        [sys.executable, "-c", script, str(rig.workspace.root), "2026-11-23 09:10"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}, stderr=subprocess.DEVNULL,
    ) as other:  # fmt: skip
        assert wait_until(lambda: rig.states() == ["started"] and bool(rig.newest().kernel), 15)
        other.send_signal(signal.SIGINT)
    run = rig.newest()
    assert (run.state, run.message) == ("killed", "interrupted by hand")
    assert wait_until(lambda: mark(int(run.process.split()[0])) != run.process.split()[1], 5)


def test_closing_puts_what_runs_on_record(rig: Rig) -> None:
    rig.schedules.add("it", "one.ipynb", MORNING, {"do": "kernel hang deaf"}, retries=2)
    rig.now = at("2026-11-23 09:10")
    rig.scheduler.look()
    assert wait_until(lambda: bool(rig.newest().kernel), 10)
    rig.scheduler.close(10)
    assert rig.newest().message == "the scheduler ended"
    assert rig.states() == ["killed"]


def test_the_record_is_refused_when_it_is_damaged(rig: Rig) -> None:
    rig.schedules.add("it", "one.ipynb", MORNING)
    path = rig.place.store.path
    for extra in ("-wal", "-shm"):
        path.with_name(path.name + extra).unlink(missing_ok=True)
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(DatabaseError) as caught:
        rig.schedules.list()
    assert caught.value.code == "E_SCHEDULES"


def test_reading_makes_no_file(tmp_path: Path) -> None:
    schedules = Rig(tmp_path).schedules
    assert (schedules.list(), schedules.history(), schedules.failing()) == ([], [], {})
    assert not schedules.place.store.path.exists()


def test_the_record_is_its_owners_alone(rig: Rig) -> None:
    rig.schedules.add("it", "one.ipynb", MORNING)
    assert rig.place.store.path.stat().st_mode & 0o777 == 0o600

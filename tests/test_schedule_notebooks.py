"""Scheduled notebooks with papermill and real kernels: all of them run beside each other, once."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from alphapanda.clock import wait_until
from alphapanda.processes import mark
from alphapanda.schedules import When
from alphapanda.schedules.store import Run
from tests.schedule_rig import Rig, at, notebook

Ran = tuple[Rig, dict[str, Run]]
MORNING = When(at="09:10")
HOSTILE = (
    "\"); import os; os.system(\"touch pwned\") #\n\\''' {n} %s $(touch pwned) `touch pwned` \u2028 \x1b[31m"
)
TELLS = "import json, pathlib\npathlib.Path('told.json').write_text(json.dumps([do, n, share, names, yes]))"


def all_run(root: Path) -> Ran:
    """Every notebook of this module, run by one look of the scheduler; by name."""
    rig = Rig.real(root)
    sources = {
        "good": [TELLS, "print('fine')"],
        "bad": ["fine = 1", "def f():\n    raise KeyError('no such <b>thing</b>')", "f()", "never = 1"],
        "slow": ["import time", "time.sleep(100)"],
        "loud": ["for _ in range(40):\n    print('x' * 1_000_000)"],
        "greedy": ["much = bytearray(8_000_000_000)"],
        "changed": ["print(n)"],
    }
    for name, cells in sources.items():
        notebook(rig.folder / f"{name}.ipynb", *cells)
        values: dict[str, Any] = {"n": 7}
        if name == "good":
            values = {"do": HOSTILE, "n": -3, "share": 1e-300, "names": ["a", HOSTILE], "yes": True}
        rig.schedules.add(name, f"{name}.ipynb", MORNING, values, timeout=15.0 if name == "slow" else 120.0)
    notebook(rig.folder / "changed.ipynb", "print(n)", parameters='n: str = "text now"')
    rig.now = at("2026-11-23 09:10")
    for _ in range(2):  # four at a time
        rig.settle()
    return rig, {run.schedule: run for run in rig.schedules.history()}


def a_good_one_is_kept_with_what_it_was_told(ran: Ran) -> None:
    rig, runs = ran
    run = runs["good"]
    assert (run.state, run.error, run.message) == ("ok", "", "")
    assert run.source == hashlib.sha256((rig.folder / "good.ipynb").read_bytes()).hexdigest()
    executed = (rig.workspace.root / run.path).read_bytes()
    assert run.executed == hashlib.sha256(executed).hexdigest()
    book = json.loads(executed)
    assert book["cells"][-1]["outputs"][0]["text"] in ("fine\n", ["fine\n"])
    assert run.kernel


def a_text_stays_a_text(ran: Ran) -> None:
    """T21: what would be code anywhere else arrives letter by letter."""
    rig, _ = ran
    told = json.loads((rig.workspace.root / "told.json").read_text())
    assert told == [HOSTILE, -3, 1e-300, ["a", HOSTILE], True]
    assert not list(rig.workspace.root.rglob("pwned"))


def a_failure_names_cell_class_and_message(ran: Ran) -> None:
    rig, runs = ran
    run = runs["bad"]
    assert (run.state, run.error, run.cell) == ("failed", "KeyError", 5)  # the injected parameters are one
    assert "no such <b>thing</b>" in run.message
    cells = json.loads((rig.workspace.root / run.path).read_text())["cells"]
    assert "f()" in "".join(cells[run.cell - 1]["source"])


def a_time_out_ends_the_kernel(ran: Ran) -> None:
    _, runs = ran
    run = runs["slow"]
    assert (run.state, run.message) == ("timed out", "not done after 15 s")
    pid, _, sign = run.kernel.partition(" ")
    # a machine that is very busy may not have started one by then
    assert not sign or wait_until(lambda: mark(int(pid)) != sign, 5.0)


def output_has_an_end(ran: Ran) -> None:
    run = ran[1]["loud"]
    assert (run.state, run.error) == ("failed", "E_OUTPUT")


def memory_has_an_end(ran: Ran) -> None:
    run = ran[1]["greedy"]
    assert (run.state, run.error) == ("failed", "MemoryError")


def parameters_are_judged_again_before_anything_runs(ran: Ran) -> None:
    """B20 for a notebook that changed since it was scheduled."""
    run = ran[1]["changed"]
    assert (run.state, run.error, run.kernel, run.cell) == ("failed", "E_PARAM", "", 0)
    assert "'n' of changed.ipynb is 7, not of type str" in run.message


def no_process_is_left(ran: Ran) -> None:
    for run in ran[1].values():
        for known in (run.process, run.kernel):
            pid, _, sign = known.partition(" ")
            assert not sign or wait_until(lambda pid=pid, sign=sign: mark(int(pid)) != sign, 5.0)


def what_is_left_is_its_owners_alone(ran: Ran) -> None:
    home: Path = ran[0].place.home
    assert all(
        path.stat().st_mode & 0o077 == 0 for path in (home, *home.rglob("*.ipynb"), *home.glob("*.sqlite"))
    )


@pytest.mark.timeout(180)
def test_scheduled_notebooks(tmp_path: Path) -> None:
    root = tmp_path / "it {n}"  # papermill would fill in the braces
    root.mkdir()
    ran = all_run(root)
    for part in (
        a_good_one_is_kept_with_what_it_was_told,
        a_text_stays_a_text,
        a_failure_names_cell_class_and_message,
        a_time_out_ends_the_kernel,
        output_has_an_end,
        memory_has_an_end,
        parameters_are_judged_again_before_anything_runs,
        no_process_is_left,
        what_is_left_is_its_owners_alone,
    ):
        part(ran)

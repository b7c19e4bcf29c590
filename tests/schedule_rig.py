"""A workspace with notebooks to schedule, a clock that is moved by hand, and workers that are no kernels."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alphapanda.events import IST
from alphapanda.rulebook import Rulebook
from alphapanda.schedules import Run, Schedules
from alphapanda.schedules.running import WORKER, Place
from alphapanda.schedules.scheduler import Scheduler
from alphapanda.settings import ScheduleSettings
from alphapanda.workspace import Workspace

RULES = Rulebook.load()
STAND_IN = (sys.executable, str(Path(__file__).parent / "children" / "notebook.py"))
PARAMETERS = (
    'do: str = ""\nn: int = 1\nshare: float = 0.5\nnames: list[str] = []\nyes: bool = False\nloose = 3'
)


def cell(source: str, *tags: str) -> dict[str, Any]:
    return {
        "cell_type": "code", "id": f"c{sum(source.encode())}", "metadata": {"tags": list(tags)}, "source": source,
        "outputs": [], "execution_count": None,
    }  # fmt: skip


def notebook(
    path: Path, *sources: str, parameters: str = PARAMETERS, outputs: Sequence[dict[str, Any]] = ()
) -> None:
    """Write one, with a parameters cell; ``outputs`` are those of its last cell."""
    book = {
        "nbformat": 4, "nbformat_minor": 5,
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        "cells": [cell(parameters, "parameters"), *(cell(source) for source in sources)],
    }  # fmt: skip
    book["cells"][-1]["outputs"] = list(outputs)
    path.write_text(json.dumps(book))


def at(text: str) -> int:
    """Wall ns of a time in IST: ``2026-11-23 09:10``."""
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=IST).timestamp()) * 10**9


class Rig:
    """``now`` is the time; ``schedules`` and ``scheduler`` are what a workspace has."""

    def __init__(self, root: Path, worker: Sequence[str] = STAND_IN, start: str = "2026-11-23 08:00") -> None:
        self.workspace = Workspace(root)
        self.folder = root / "notebooks"
        self.folder.mkdir(exist_ok=True)
        notebook(self.folder / "one.ipynb", "print(do, n)")
        notebook(self.folder / "two.ipynb", "print(do, n)")
        self.now = at(start)
        self.place = Place(
            workspace=self.workspace, folder=self.folder, worker=worker, clock=lambda: self.now, kept=3
        )
        self.schedules = Schedules(self.workspace, ScheduleSettings(), self.place)
        self.scheduler = Scheduler(self.place, RULES)

    @classmethod
    def real(cls, root: Path) -> Rig:
        """With papermill and kernels."""
        return cls(root, WORKER)

    def until(self, text: str) -> None:
        """It is now this time; what is due is done when this returns."""
        self.now = at(text)
        self.settle()

    def settle(self) -> None:
        """Look, and wait for what was started."""
        self.scheduler.look()
        self.join()

    def join(self) -> None:
        for thread in list(self.scheduler._running.values()):
            thread.join(30)

    def newest(self) -> Run:
        return self.schedules.history(limit=1)[0]

    def states(self, name: str | None = None) -> list[str]:
        """Of all rows, oldest first."""
        return [run.state for run in reversed(self.schedules.history(name, 1_000))]

    def said(self) -> list[str]:
        """What the stand-in workers said, without their pids."""
        file = self.workspace.root / "said.txt"
        return [line.partition(" ")[2] for line in file.read_text().splitlines()] if file.exists() else []

"""What is scheduled and what became of each run: one SQLite file of ours, never inferred from a notebook.

WAL with ``synchronous=FULL``: what is committed survives a power cut. Any number of processes may read and write; who
changes a run's state says from which, so that of two schedulers one wins and the other sees that it did not.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import msgspec

from alphapanda.errors import UnknownNameError, ValidationError
from alphapanda.schedules.when import When
from alphapanda.state.kept import transaction

State = Literal["due", "started", "ok", "failed", "timed out", "killed", "missed", "skipped"]
BAD: tuple[State, ...] = ("failed", "timed out", "killed", "missed")  # what a person should hear of
RUNS_KEPT = 5_000  # rows of each schedule

SCHEMA = """
CREATE TABLE IF NOT EXISTS schedule (
    name TEXT PRIMARY KEY, body BLOB NOT NULL, due INTEGER NOT NULL, paused INTEGER NOT NULL, trouble TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS run (
    id INTEGER PRIMARY KEY, schedule TEXT NOT NULL, due INTEGER NOT NULL, attempt INTEGER NOT NULL,
    state TEXT NOT NULL, not_before INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS one_of_each ON run (schedule, due, attempt);
CREATE INDEX IF NOT EXISTS by_state ON run (state);
"""


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A notebook and when it is due. Times are wall ns, spans seconds.

    ``notebook`` is its path under the folder of the settings. ``due`` is 0 when it is never due again; ``trouble`` says
    why the next moment is not known. ``grace`` is how late a run may begin; ``retries`` how often a failed one is
    repeated, ``backoff`` after the first failure and twice that after each more.
    """

    name: str
    notebook: str
    when: When
    parameters: dict[str, Any] = {}
    timeout: float = 3600.0
    retries: int = 0
    backoff: float = 60.0
    grace: float = 300.0
    once: bool = False
    by: str = ""
    added: int = 0
    due: int = 0
    paused: bool = False
    trouble: str = ""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a schedule's notebook, or why there was none. Times are wall ns.

    ``due`` -> ``started`` -> ``ok``, ``failed``, ``timed out`` or ``killed``; ``missed`` when nobody was there to start
    it within the grace, ``skipped`` when another run of the notebook was underway. ``late`` counts earlier moments that
    this row stands for. ``path`` is the executed notebook, from the workspace's root; ``source`` and ``executed`` are
    SHA-256 of the notebook as it was and as it came out. ``cell`` is the number, from 1, of the cell of the executed
    notebook that failed. ``owner``, ``process`` and ``kernel`` are pid and mark of who runs it and what it runs.
    """

    id: int = 0
    schedule: str
    notebook: str
    due: int
    attempt: int = 1
    state: State = "due"
    parameters: dict[str, Any] = {}
    by: str = "schedule"
    late: int = 0
    not_before: int = 0
    started: int = 0
    ended: int = 0
    path: str = ""
    source: str = ""
    executed: str = ""
    error: str = ""
    cell: int = 0
    message: str = ""
    owner: str = ""
    process: str = ""
    kernel: str = ""

    @property
    def seconds(self) -> float:
        """How long it took; 0.0 until it has ended."""
        return (self.ended - self.started) / 1e9 if self.ended and self.started else 0.0

    @property
    def open(self) -> bool:
        """Whether it is yet to end."""
        return self.state in ("due", "started")


class Store:
    """The file. Methods raise DatabaseError when it cannot be read or written, and then nothing was changed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def _open(self, *, write: bool = False) -> AbstractContextManager[sqlite3.Connection]:
        return transaction(self.path, SCHEMA, "schedules", write=write)

    def schedules(self) -> list[Schedule]:
        """All, by name."""
        if not self.path.exists():
            return []
        with self._open() as base:
            rows = base.execute("SELECT body, due, paused, trouble FROM schedule ORDER BY name").fetchall()
        return [_schedule(row) for row in rows]

    def schedule(self, name: str) -> Schedule:
        """The one of this name. UnknownNameError."""
        known = {one.name: one for one in self.schedules()}
        if name not in known:
            raise UnknownNameError("schedule", name[:80], known)
        return known[name]

    def add(self, schedule: Schedule) -> None:
        """Keep a new one. ValidationError E_EXISTS."""
        with self._open(write=True) as base:
            if base.execute("SELECT 1 FROM schedule WHERE name = ?", (schedule.name,)).fetchone():
                raise ValidationError(
                    f"there is a schedule {schedule.name}",
                    fix=f"another --name, or first `alphapanda schedule remove {schedule.name}`",
                    code="E_EXISTS",
                )
            base.execute(
                "INSERT INTO schedule VALUES (?, ?, ?, 0, ?)",
                (schedule.name, msgspec.json.encode(schedule), schedule.due, schedule.trouble),
            )

    def remove(self, name: str) -> None:
        """Forget it and what waits of it; what ran stays in the history. UnknownNameError."""
        self.schedule(name)
        with self._open(write=True) as base:
            base.execute("DELETE FROM schedule WHERE name = ?", (name,))
            base.execute("DELETE FROM run WHERE schedule = ? AND state = 'due'", (name,))

    def set_paused(self, name: str, paused: bool, due: int) -> None:
        """Due at ``due`` from now on, or not at all while paused; what waits of it is dropped. UnknownNameError."""
        self.schedule(name)
        with self._open(write=True) as base:
            base.execute("UPDATE schedule SET paused = ?, due = ? WHERE name = ?", (paused, due, name))
            if paused:
                base.execute("DELETE FROM run WHERE schedule = ? AND state = 'due'", (name,))

    def move(self, name: str, was: int, due: int, trouble: str, runs: Sequence[Run]) -> bool:
        """A schedule goes on to its next moment, leaving these rows; False if somebody else has moved it already."""
        with self._open(write=True) as base:
            changed = base.execute(
                "UPDATE schedule SET due = ?, trouble = ? WHERE name = ? AND due = ? AND paused = 0",
                (due, trouble, name, was),
            ).rowcount
            if changed:
                for run in runs:
                    _insert(base, run)
        return bool(changed)

    def begin(self, run: Run) -> Run:
        """A row that nobody waited for: a person's run, or the next try."""
        with self._open(write=True) as base:
            return msgspec.structs.replace(run, id=_insert(base, run))

    def change(self, run: Run, was: State) -> bool:
        """Write a run down as it is now; False if its state was no longer ``was``."""
        with self._open(write=True) as base:
            return bool(
                base.execute(
                    "UPDATE run SET state = ?, not_before = ?, body = ? WHERE id = ? AND state = ?",
                    (run.state, run.not_before, msgspec.json.encode(run), run.id, was),
                ).rowcount
            )

    def waiting(self, state: State, before: int = 2**62) -> list[Run]:
        """Runs in a state whose time has come, oldest first."""
        if not self.path.exists():
            return []
        with self._open() as base:
            return _runs(base, "WHERE state = ? AND not_before <= ? ORDER BY id", (state, before))

    def history(self, name: str | None = None, limit: int = 50) -> list[Run]:
        """The newest rows first, of one schedule or of all."""
        if not self.path.exists():
            return []
        where, values = ("WHERE schedule = ? ", (name,)) if name is not None else ("", ())
        with self._open() as base:
            return _runs(base, f"{where}ORDER BY id DESC LIMIT ?", (*values, limit))

    def newest(self) -> dict[str, Run]:
        """The newest row of each schedule that says how it did, or that is about to."""
        if not self.path.exists():
            return {}
        with self._open() as base:
            found = _runs(
                base,
                "WHERE id IN (SELECT max(run.id) FROM run JOIN schedule ON name = run.schedule "
                "WHERE state != 'skipped' AND NOT (state = 'due' AND attempt = 1) GROUP BY run.schedule)",
                (),
            )
        return {run.schedule: run for run in found}

    def forget(self, name: str) -> None:
        """Let go of rows beyond those that are kept."""
        with self._open(write=True) as base:
            base.execute(
                "DELETE FROM run WHERE schedule = ?1 AND id < (SELECT id FROM run WHERE schedule = ?1 "
                "ORDER BY id DESC LIMIT 1 OFFSET ?2)",
                (name, RUNS_KEPT),
            )


def _insert(base: sqlite3.Connection, run: Run) -> int:
    """Its id. The id is in the body, too, from its first change on."""
    row = (run.schedule, run.due, run.attempt, run.state, run.not_before, msgspec.json.encode(run))
    made = base.execute(
        "INSERT OR IGNORE INTO run (schedule, due, attempt, state, not_before, body) VALUES (?, ?, ?, ?, ?, ?)",
        row,
    )
    return made.lastrowid or 0


def _runs(base: sqlite3.Connection, rest: str, values: tuple[Any, ...]) -> list[Run]:
    rows = base.execute(f"SELECT id, state, body FROM run {rest}", values)  # noqa: S608 - texts of ours
    return [
        msgspec.structs.replace(msgspec.json.decode(body, type=Run), id=number, state=state)
        for number, state, body in rows
    ]


def _schedule(row: tuple[bytes, int, int, str]) -> Schedule:
    body, due, paused, trouble = row
    kept = msgspec.json.decode(body, type=Schedule)
    return msgspec.structs.replace(kept, due=due, paused=bool(paused), trouble=trouble)

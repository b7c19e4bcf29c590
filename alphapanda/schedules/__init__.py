"""Notebooks that run by themselves: when, with what, and what became of each run.

    schedules = Schedules(Workspace.find())
    schedules.add("opening", "arm.ipynb", When(at="open-5m"), {"symbol": "NSE:INFY"})
    schedules.run("opening")                     # now, here; returns how it ended
    schedules.list(), schedules.history("opening", limit=10)

``alphapanda.watch`` makes them happen; nothing here needs a hub. Times are wall nanoseconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from alphapanda.errors import InfrastructureError, ValidationError
from alphapanda.processes import person
from alphapanda.rulebook import Rulebook
from alphapanda.schedules import source as sources
from alphapanda.schedules.running import Place, owner, perform, turn
from alphapanda.schedules.store import BAD, Run, Schedule, State
from alphapanda.schedules.when import When
from alphapanda.settings import ScheduleSettings, Settings
from alphapanda.workspace import Workspace

__all__ = ["BAD", "Run", "Schedule", "Schedules", "State", "When"]

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
RETRIES_MAX = 20
UNDERWAY: tuple[State, ...] = ("due", "started")


class Schedules:
    """The schedules of one workspace; each method reads or writes their file, so any process may use one."""

    def __init__(
        self, workspace: Workspace, settings: ScheduleSettings | None = None, place: Place | None = None
    ) -> None:
        settings = settings or Settings.load().schedule
        self._timeout = settings.timeout_seconds
        self.place = place or Place(
            workspace=workspace, folder=workspace.root / settings.folder, memory_mb=settings.memory_mb,
            kept=settings.kept,
        )  # fmt: skip

    def list(self) -> list[Schedule]:
        """All, by name."""
        return self.place.store.schedules()

    def history(self, name: str | None = None, limit: int = 50) -> list[Run]:
        """What became of their runs, the newest first; of one schedule (also one that was removed) or of all."""
        return self.place.store.history(name, limit)

    def newest(self) -> dict[str, Run]:
        """By schedule, the newest row that says how it did, or that is about to."""
        return self.place.store.newest()

    def failing(self) -> dict[str, Run]:
        """Schedules whose newest run went wrong for good: no further try of it waits."""
        return {name: run for name, run in self.newest().items() if run.state in BAD}

    def source(self, notebook: str) -> sources.Source:
        """The notebook of this name, read. ValidationError E_NOTEBOOK outside the settings' folder."""
        return sources.read(sources.located(self.place.folder, notebook))

    def add(
        self,
        name: str,
        notebook: str,
        when: When,
        parameters: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        retries: int = 0,
        backoff: float = 60.0,
        grace: float = 300.0,
        once: bool = False,
        by: str = "",
    ) -> Schedule:
        """Keep a new schedule. Raises ValidationError with E_PARAM for a parameter the notebook does not take or a
        value of another type, E_NOTEBOOK, E_TIME, E_EXISTS; RulebookError when no table covers the days ahead."""
        if not NAME.fullmatch(name):
            raise ValidationError(
                f"a schedule's name has small letters, digits, - and _: {name!r:.60}",
                fix="such as morning",
                code="E_NAME",
            )
        timeout = self._timeout if timeout is None else timeout
        for what, value in (("timeout", timeout), ("backoff", backoff), ("grace", grace)):
            if not 0 < value <= 86_400:
                raise ValidationError(
                    f"{what} of {value:g} s", fix="more than 0, at most a day", code="E_LIMIT"
                )
        if not 0 <= retries <= RETRIES_MAX:
            raise ValidationError(f"{retries} retries", fix=f"0 to {RETRIES_MAX}", code="E_LIMIT")
        when.check()
        read = self.source(notebook)
        now = self.place.clock()
        due = when.after(now, Rulebook.load())
        if not due:
            raise ValidationError(f"{when}: never comes", fix="look at the calendar", code="E_TIME")
        made = Schedule(
            name=name,
            notebook=read.path.relative_to(self.place.folder.resolve()).as_posix(),
            when=when,
            parameters=sources.checked(read, dict(parameters or {})),
            timeout=timeout,
            retries=retries,
            backoff=backoff,
            grace=grace,
            once=once,
            by=by or person(),
            added=now,
            due=due,
        )
        self.place.store.add(made)
        return made

    def run(self, name: str, by: str = "") -> Run:
        """Run it now, in a process of its own, and wait; it is on record like any other. InfrastructureError E_BUSY if
        the notebook runs already."""
        schedule = self.place.store.schedule(name)
        with turn(self.place, schedule.notebook) as lock:
            if lock is None:
                raise _busy(schedule)
            now = self.place.clock()
            run = Run(
                schedule=name, notebook=schedule.notebook, due=now, parameters=schedule.parameters,
                state="started", started=now, by=by or person(), owner=owner(),
            )  # fmt: skip
            return perform(self.place, schedule, self.place.store.begin(run), lock)

    def queue(self, name: str, by: str = "") -> Run:
        """Have whoever keeps watch run it at once; returns its row, which waits. InfrastructureError E_BUSY while an
        earlier one of this notebook waits or runs."""
        schedule, store = self.place.store.schedule(name), self.place.store
        if any(one.notebook == schedule.notebook for state in UNDERWAY for one in store.waiting(state)):
            raise _busy(schedule)
        now = self.place.clock()
        run = Run(
            schedule=name,
            notebook=schedule.notebook,
            due=now,
            parameters=schedule.parameters,
            by=by or person(),
        )
        return store.begin(run)

    def pause(self, name: str) -> None:
        """Not due until it is resumed; what runs goes on."""
        self.place.store.set_paused(name, True, 0)

    def resume(self, name: str) -> Schedule:
        """Due again from now on: what fell into the pause is not made up for."""
        when = self.place.store.schedule(name).when
        self.place.store.set_paused(name, False, when.after(self.place.clock(), Rulebook.load()))
        return self.place.store.schedule(name)

    def remove(self, name: str) -> None:
        """Forget it; its history and executed notebooks stay."""
        self.place.store.remove(name)


def _busy(schedule: Schedule) -> InfrastructureError:
    return InfrastructureError(
        f"{schedule.notebook} is being run already", fix="alphapanda schedule history", code="E_BUSY"
    )

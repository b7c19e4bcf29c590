"""What makes schedules happen: every look moves those that are due on, and starts what waits.

    scheduler = Scheduler(place, rules)
    scheduler.look()                 # often, from one thread; never waits for a notebook
    scheduler.close()                # ends what it runs, on record

Two of them may look at one workspace: each moment is one transaction, and one of them makes it.
"""

from __future__ import annotations

import threading
from typing import Any

import msgspec

from alphapanda.clock import monotonic
from alphapanda.errors import DatabaseError, RulebookError, UnknownNameError
from alphapanda.events import SECOND
from alphapanda.logs import channel
from alphapanda.rulebook import Rulebook
from alphapanda.schedules.running import Place, owner, perform, recover, turn
from alphapanda.schedules.store import BAD, Run, Schedule, State

AT_ONCE = 4  # notebooks that run at a time
LATE_MAX = 1_000  # moments of one schedule that are counted when nobody looked for long
AGAIN_SECONDS = 60.0  # until a day that no table covered is asked for again


class Scheduler:
    """Looks, starts, and keeps nothing in memory that matters."""

    def __init__(self, place: Place, rules: Rulebook) -> None:
        self.place, self.rules = place, rules
        self._stop = threading.Event()
        self._running: dict[int, threading.Thread] = {}
        self._asked: dict[str, int] = {}
        self._log = channel("application")

    @property
    def running(self) -> int:
        """Notebooks that run now."""
        return sum(thread.is_alive() for thread in self._running.values())

    def look(self) -> None:
        """What is due becomes a row; what waits is started; what others left behind is ended."""
        now, store = self.place.clock(), self.place.store
        self._running = {number: thread for number, thread in self._running.items() if thread.is_alive()}
        for run in recover(self.place):
            self._log.warning("schedule.recovered", schedule=run.schedule, run_number=run.id)
            self._again(run)
        for schedule in store.schedules():
            if not schedule.paused:
                self._move(schedule, now)
        known = {one.name: one for one in store.schedules()}
        for run in store.waiting("due", now):
            if run.schedule in known:
                self._start(known[run.schedule], run, now)

    def close(self, seconds: float = 1.2) -> None:
        """End what we run; it is on record as killed. What does not end in time is, by whoever looks next."""
        self._stop.set()
        until = monotonic() + seconds
        for thread in list(self._running.values()):
            thread.join(max(0.0, until - monotonic()))

    def _move(self, schedule: Schedule, now: int) -> None:
        """On to the next moment, with a row for the newest of those that have passed."""
        passed, due, trouble = 0, schedule.due, ""
        newest = due
        if schedule.trouble:
            if now < self._asked.get(schedule.name, 0) + int(AGAIN_SECONDS * SECOND):
                return
            self._asked[schedule.name] = now
        elif not due or due > now:
            return
        try:
            while due and due <= now and passed < LATE_MAX:
                newest, passed = due, passed + 1
                due = 0 if schedule.once else schedule.when.after(due, self.rules)
            if schedule.trouble or (due and due <= now):
                due = schedule.when.after(now, self.rules)
        except RulebookError as error:
            due, trouble = 0, error.message
        runs = [self._row(schedule, newest, passed, now)] if passed else []
        if (due, trouble) == (schedule.due, schedule.trouble):
            return
        if self.place.store.move(schedule.name, schedule.due, due, trouble, runs):
            for run in runs:
                if run.state != "due":
                    self._log.warning(f"schedule.{run.state}", schedule=run.schedule, reason=run.message)
            if trouble:
                self._log.error("schedule.no_next", schedule=schedule.name, error=trouble)

    def _row(self, schedule: Schedule, due: int, passed: int, now: int) -> Run:
        run = Run(
            schedule=schedule.name, notebook=schedule.notebook, due=due, parameters=schedule.parameters,
            late=passed - 1,
        )  # fmt: skip
        if now - due > schedule.grace * SECOND:
            late = (now - due) / 1e9
            why = f"nobody was there to start it: {late:,.0f} s late, more than {schedule.grace:g}"
            return msgspec.structs.replace(run, state="missed", ended=now, error="E_MISSED", message=why)
        if any(one.schedule == schedule.name and one.attempt == 1 for one in self.place.store.waiting("due")):
            return msgspec.structs.replace(
                run, state="skipped", ended=now, message="an earlier one waits still"
            )
        return run

    def _start(self, schedule: Schedule, run: Run, now: int) -> None:
        """Begin a run if the notebook is free; one that never was within the grace is skipped."""
        if len(self._running) >= AT_ONCE or run.id in self._running:
            return
        thread = threading.Thread(target=self._perform, args=(schedule, run), daemon=True, name=schedule.name)
        self._running[run.id] = thread
        thread.start()

    def _perform(self, schedule: Schedule, run: Run) -> None:
        with turn(self.place, run.notebook) as lock:
            now = self.place.clock()
            if now - max(run.due, run.not_before) > schedule.grace * SECOND:
                why = (
                    "could not begin within the grace" if lock else "another run of the notebook was underway"
                )
                state: State = "missed" if lock else "skipped"
                late = msgspec.structs.replace(run, state=state, ended=now, error="E_MISSED", message=why)
                self.place.store.change(late, "due")
                return
            if lock is None:
                return  # at the next look
            mine = msgspec.structs.replace(run, state="started", started=now, owner=owner())
            if not self.place.store.change(mine, "due"):
                return  # another scheduler has it, or it was removed
            self._log.info("schedule.started", schedule=run.schedule, run_number=run.id, attempt=run.attempt)
            try:
                done = perform(self.place, schedule, mine, lock, self._stop)
            except Exception as error:
                self._log.exception("schedule.fault", error=error)
                raise
        told: dict[str, Any] = {"schedule": run.schedule, "run_number": run.id, "state": done.state}
        write = self._log.info if done.state == "ok" else self._log.warning
        write("schedule.ended", **told, seconds=round(done.seconds, 1), reason=done.message)
        self._again(done)
        self.place.store.forget(run.schedule)

    def _again(self, run: Run) -> None:
        """Another try of a failed one, if its schedule has any left; a run by hand has none."""
        if run.state not in BAD or run.state == "missed" or run.by != "schedule" or self._stop.is_set():
            return
        try:
            schedule = self.place.store.schedule(run.schedule)
        except (UnknownNameError, DatabaseError):
            return
        if schedule.paused or run.attempt > schedule.retries:
            return
        wait = schedule.backoff * 2 ** (run.attempt - 1)
        self.place.store.begin(
            Run(
                schedule=run.schedule,
                notebook=run.notebook,
                due=run.due,
                attempt=run.attempt + 1,
                parameters=run.parameters,
                not_before=self.place.clock() + int(wait * SECOND),
            )
        )

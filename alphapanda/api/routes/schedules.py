"""Scheduled notebooks: what is due, what became of each run, run now, paused, due again.

Adding one names a file of this machine, which is left to its command line.
"""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from alphapanda.api.call import call_of
from alphapanda.api.documents import Routes, answer
from alphapanda.api.platform import Page, Platform
from alphapanda.api.routes.trading import TS
from alphapanda.api.routes.wanted import Limit, OfSchedule, ScheduleName, Why
from alphapanda.clock import wall_ns
from alphapanda.logs.redaction import TEXT, plain
from alphapanda.schedules import Run, Schedule, Schedules
from alphapanda.watch import ROLE


class Scheduled(msgspec.Struct, frozen=True, kw_only=True):
    """A notebook that runs by itself. ``last``: how its newest run ended.

    ``due``: wall ns, 0 if it never is again; ``trouble`` says why that is not known.
    """

    name: str
    notebook: str
    when: str
    parameters: dict[str, Any]
    due: int
    paused: bool
    trouble: str
    last: str


class NotebookRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a schedule, or why there was none. Times are wall ns.

    ``state``: due, started, ok, failed, timed out, killed, missed or skipped; ``path``: the executed notebook, from the
    workspace's root; ``cell``: which one failed.
    """

    id: int
    schedule: str
    notebook: str
    state: str
    parameters: dict[str, Any]
    by: str
    due: int
    attempt: int
    started: int
    ended: int
    late: int
    path: str
    source: str
    executed: str
    error: str
    cell: int
    message: str


SCHEDULED = Scheduled(
    name="opening", notebook="50_schedule.ipynb", when="at open-5m, NSE days", parameters={"symbol": "NSE:INFY"},
    due=TS, paused=False, trouble="", last="ok",
)  # fmt: skip
RAN = NotebookRun(
    id=7, schedule="opening", notebook="50_schedule.ipynb", state="ok", parameters={"symbol": "NSE:INFY"},
    by="schedule", due=TS, attempt=1, started=TS, ended=TS + 9_000_000_000, late=0,
    path=".alphapanda/schedules/opening/20261120-091000-7.ipynb", source="9c1f", executed="51ab", error="", cell=0,
    message="",
)  # fmt: skip
WAITS = msgspec.structs.replace(
    RAN, state="due", by="asha over HTTP", started=0, ended=0, path="", source="", executed=""
)


def add(routes: Routes, platform: Platform) -> None:
    """The list, the history, and what can be done."""
    schedules_of = Schedules(platform.workspace, platform.settings.schedule)

    def listed() -> tuple[Scheduled, ...]:
        newest = schedules_of.newest()
        return tuple(_scheduled(one, newest.get(one.name)) for one in schedules_of.list())

    @routes.get(
        "/v1/schedules", role="view", tag="runs", answers=Page[Scheduled], lost=True,
        example=Page(TS, False, (SCHEDULED,)),
    )  # fmt: skip
    async def schedules() -> Response:  # pyright: ignore[reportUnusedFunction]
        """Notebooks that run by themselves, and when each is due."""
        return answer(Page(wall_ns(), False, await platform.blocking(listed)))

    @routes.get(
        "/v1/schedules/history", role="view", tag="runs", answers=Page[NotebookRun], lost=True,
        example=Page(TS, False, (RAN,)),
    )  # fmt: skip
    async def schedule_history(  # pyright: ignore[reportUnusedFunction]
        schedule: OfSchedule = None, limit: Limit = 100
    ) -> Response:
        """What became of their runs, the newest first; also of schedules that were removed."""
        found = await platform.blocking(lambda: schedules_of.history(schedule, limit))
        return answer(Page(wall_ns(), False, tuple(_ran(one) for one in found)))

    @routes.post(
        "/v1/schedules/{schedule}/run", role="operate", tag="runs", answers=NotebookRun, example=WAITS
    )
    async def run_schedule(schedule: ScheduleName, body: Why, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """Run its notebook at once, whatever its timetable says. Answers with the run that waits: its history tells how
        it ends."""
        by = call_of(request.scope).by
        await platform.blocking(lambda: schedules_of.place.store.schedule(schedule))
        await platform.ask(do="offer", roles=[ROLE])  # somebody must be there to run it
        return answer(_ran(await platform.blocking(lambda: schedules_of.queue(schedule, by))))

    async def told(name: str, *, pause: bool) -> Response:
        def act() -> Scheduled:
            (schedules_of.pause if pause else schedules_of.resume)(name)
            newest = schedules_of.newest()
            return _scheduled(schedules_of.place.store.schedule(name), newest.get(name))

        return answer(await platform.blocking(act))

    @routes.post(
        "/v1/schedules/{schedule}/pause", role="operate", tag="runs", answers=Scheduled,
        example=msgspec.structs.replace(SCHEDULED, paused=True, due=0),
    )  # fmt: skip
    async def pause_schedule(schedule: ScheduleName, body: Why) -> Response:  # pyright: ignore[reportUnusedFunction]
        """Not due until it is resumed; what runs goes on."""
        return await told(schedule, pause=True)

    @routes.post(
        "/v1/schedules/{schedule}/resume", role="operate", tag="runs", answers=Scheduled, example=SCHEDULED
    )
    async def resume_schedule(schedule: ScheduleName, body: Why) -> Response:  # pyright: ignore[reportUnusedFunction]
        """Due again from now on: what fell into the pause is not made up for."""
        return await told(schedule, pause=False)


def _scheduled(one: Schedule, newest: Run | None) -> Scheduled:
    return Scheduled(
        name=one.name, notebook=one.notebook, when=str(one.when), parameters=plain(one.parameters, TEXT), due=one.due,
        paused=one.paused, trouble=one.trouble, last=newest.state if newest is not None else "",
    )  # fmt: skip


def _ran(run: Run) -> NotebookRun:
    """A run as others may see it: without its processes."""
    shown = {name: getattr(run, name) for name in NotebookRun.__struct_fields__}
    return NotebookRun(**(shown | {"parameters": plain(run.parameters, TEXT)}))

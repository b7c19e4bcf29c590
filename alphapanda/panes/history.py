"""What the runs page shows: every run, what was promoted on whose word, and what is scheduled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alphapanda.notebook.face import title
from alphapanda.overview import Overview
from alphapanda.panes.desk import Desk
from alphapanda.panes.head import MILLISECOND
from alphapanda.panes.parts import Column
from alphapanda.promotions.ledger import Ledger
from alphapanda.schedules import Schedules

RECORDS = (
    Column("number", "int", 6), Column("time", "time", 13), Column("act", "state", 12), Column("strategy", width=20),
    Column("namespace", width=9), Column("state", "state", 11), Column("by", width=16, narrow=False),
    Column("reason", narrow=False), Column("version", "code", 12, False), Column("certificate", "code", 12, False),
    Column("run", "code", 16, False),
)  # fmt: skip
SCHEDULES = (
    Column("schedule", width=18), Column("when", "code", 18), Column("next", "time", 13), Column("state", "state", 8),
    Column("newest", "state", 9), Column("notebook", "code", narrow=False), Column("trouble", narrow=False),
)  # fmt: skip
EXECUTED = (
    Column("due", "time", 13), Column("schedule", width=18), Column("state", "state", 9), Column("seconds", "int", 8),
    Column("try", "int", 4, False), Column("what_went_wrong", narrow=False), Column("executed", "link", 26, False),
)  # fmt: skip
RECORDS_MAX, EXECUTED_MAX = 200, 200
SECOND = 1000 * MILLISECOND


def run(overview: Overview, key: str) -> dict[str, Any] | None:
    """All that is known of one run: the content of a ``Detail``."""
    view = overview.run(key)
    if view is None:
        return None
    fault = view.fault
    facts = [
        ["state", f"{view.label}{f': {view.reason}' if view.reason else ''}"], ["namespace", view.namespace],
        ["version", view.digest], ["parameters", ", ".join(f"{k} = {v!r}" for k, v in view.parameters.items())],
        ["symbols", ", ".join(view.symbols)], ["error", fault.traceback[-4000:] if fault is not None else ""],
        ["beside its backtest", f"alphapanda why {view.run} ORDER"],
    ]  # fmt: skip
    return {"title": f"{title(view)} · {view.run}", "facts": [one for one in facts if one[1]]}


def promotions(desk: Desk) -> dict[str, list[Any]]:
    """Rows of ``RECORDS``, from the signed record; none where nothing was ever proved. Blocks."""
    if desk.settings.database.postgres_url is None:
        path = desk.workspace.root / desk.settings.database.sqlite_path
        if not path.exists():  # opening it would make one
            return {}
    with Ledger.open(desk.workspace, desk.settings) as ledger:
        records = ledger.history()[-RECORDS_MAX:]
    return {
        str(one.number): [
            one.number, one.at // MILLISECOND, one.act, one.strategy, one.namespace, one.state, one.actor, one.reason,
            one.digest[:12], one.certificate[:12], one.run,
        ]
        for one in records
    }  # fmt: skip


def schedules(desk: Desk) -> dict[str, list[Any]]:
    """Rows of ``SCHEDULES``. Blocks."""
    known = Schedules(desk.workspace, desk.settings.schedule)
    newest = known.newest()
    return {
        one.name: [
            one.name, str(one.when), one.due // MILLISECOND, "paused" if one.paused else "on",
            newest[one.name].state if one.name in newest else "", one.notebook, one.trouble,
        ]
        for one in known.list()
    }  # fmt: skip


def executed(desk: Desk) -> dict[str, list[Any]]:
    """Rows of ``EXECUTED``, each with the address of its notebook as it came out. Blocks."""
    runs = Schedules(desk.workspace, desk.settings.schedule).history(limit=EXECUTED_MAX)
    return {
        str(one.id): [
            one.due // MILLISECOND, one.schedule, one.state, (one.ended - one.started) // SECOND if one.ended else None,
            one.attempt, f"{one.error} {one.message}".strip()[:300],
            [Path(one.path).name, f"/executed/{one.id}"] if one.path else None,
        ]
        for one in runs
    }  # fmt: skip


def notebook_of(desk: Desk, number: int) -> Path | None:
    """The executed notebook of a schedule's run, if it is there and lies in the workspace. Blocks."""
    runs = Schedules(desk.workspace, desk.settings.schedule).history(limit=EXECUTED_MAX)
    kept = next((one.path for one in runs if one.id == number), "")
    path = (desk.workspace.root / kept).resolve()
    return path if kept and path.is_file() and path.is_relative_to(desk.workspace.root.resolve()) else None

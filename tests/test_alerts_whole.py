"""A hub that keeps watch: a scheduled notebook fails, and one person is told once, everywhere."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from alphapanda.alerts import Alerts
from alphapanda.clock import wait_until, wall_ns
from alphapanda.processes import mark
from alphapanda.schedules import Schedules, When
from alphapanda.settings import ScheduleSettings
from tests.fault_strategies import Broken
from tests.rig import Rig
from tests.schedule_rig import notebook

pytestmark = pytest.mark.long

KEY = "hook-key-77aa"


class Desk:
    """A running hub, its schedules, and what its webhook was told."""

    def __init__(self, rig: Rig, posted: list[dict[str, Any]]) -> None:
        self.rig, self.posted = rig, posted
        self.schedules = Schedules(rig.workspace, ScheduleSettings())
        self.alerts = Alerts(rig.workspace)

    def due_now(self, name: str) -> None:
        self.schedules.place.store.set_paused(name, False, wall_ns())

    def health(self) -> dict[str, Any]:
        return self.rig.document("health:watch")


@contextmanager
def kept(root: Path) -> Iterator[Desk]:
    """A workspace whose hub tells a local server."""
    posted: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/{KEY}"
    (root / "notebooks").mkdir()
    notebook(root / "notebooks" / "bad.ipynb", "raise KeyError('no such thing')")
    notebook(root / "notebooks" / "slow.ipynb", "import time", "time.sleep(100)")
    try:
        with Rig(root, ALERTS__WEBHOOK_URL=url, FEED__SPEED=60) as rig:
            yield Desk(rig, posted)
    finally:
        server.shutdown()
        server.server_close()


def adding_a_schedule_begins_the_watch(desk: Desk) -> None:
    done = desk.rig.cli("schedule", "add", "bad.ipynb", "--at", "03:00", "--any-day", "-p", "n=3")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("bad: bad.ipynb, at 03:00, any day; due ")
    assert "no hub" not in done.stdout
    assert wait_until(lambda: desk.health().get("schedules") == 1, 20)
    seen = desk.health()
    assert (seen["state"], seen["alerts"]) == ("running", 0)
    assert seen["next_due"] > wall_ns()
    assert "watch" in desk.rig.workspace.offered()


def a_failing_notebook_is_one_alert_everywhere(desk: Desk) -> None:
    desk.due_now("bad")
    assert wait_until(lambda: bool(desk.alerts.open()), 60)
    (alert,) = desk.alerts.open()
    assert (alert.id, alert.level, alert.title) == ("schedule_failed:bad", "error", "bad: bad.ipynb failed")
    assert alert.message == "cell 3: KeyError 'no such thing'"
    assert wait_until(lambda: bool(desk.posted), 10)
    threading.Event().wait(2.0)  # two more looks
    assert [(one["id"], one["state"]) for one in desk.posted] == [(alert.id, "raised")]
    lines = [json.loads(line) for line in (desk.rig.workspace.logs / "error.jsonl").read_text().splitlines()]
    (told,) = [line for line in lines if line["event"].startswith("alert.")]
    assert (told["event"], told["alert"], told["level"]) == ("alert.raised", alert.id, "error")
    listed = desk.rig.cli("alerts", "list", "--json")
    assert (listed.returncode, [one["id"] for one in json.loads(listed.stdout)]) == (1, [alert.id])


def somebody_has_seen_it(desk: Desk) -> None:
    done = desk.rig.cli("alerts", "ack", "schedule_failed:bad", "--note", "the data was late")
    assert done.returncode == 0, done.stderr
    assert desk.alerts.open()[0].note == "the data was late"
    audit = (desk.rig.workspace.logs / "audit.jsonl").read_text()
    assert "alert.acknowledged" in audit
    assert wait_until(lambda: desk.health().get("unseen") == 0, 5)


def a_watch_that_is_killed_leaves_no_kernel_and_tells_of_it(desk: Desk) -> None:
    desk.schedules.add("slow", "slow.ipynb", When(at="03:00", any_day=True))
    desk.due_now("slow")
    assert wait_until(lambda: any(run.kernel for run in desk.schedules.history("slow")), 60)
    (run,) = desk.schedules.history("slow")
    assert run.state == "started"
    desk.rig.signal("watch")
    pid, _, sign = run.kernel.partition(" ")
    assert wait_until(lambda: mark(int(pid)) != sign, 10)
    assert wait_until(lambda: desk.schedules.history("slow")[0].state == "killed", 20)
    assert wait_until(lambda: "schedule_failed:slow" in {one.id for one in desk.alerts.open()}, 20)
    assert wait_until(
        lambda: [one["id"] for one in desk.posted] == ["schedule_failed:bad", "schedule_failed:slow"], 10
    )


def a_strategy_that_raises_and_a_kill_switch_are_told_of(desk: Desk) -> None:
    """Rules over what a real hub, gateway and runner show."""
    run = desk.rig.run(Broken())
    assert wait_until(lambda: f"strategy_halted:paper/{run}" in {one.id for one in desk.alerts.open()}, 40)
    (halted,) = [one for one in desk.alerts.open() if one.rule == "strategy_halted"]
    assert "nobody thought of this" in halted.message
    desk.rig.workspace.raise_halt("paper", 2, "a drill", "meera", wall_ns())
    assert wait_until(lambda: "kill_switch:paper" in {one.id for one in desk.alerts.open()}, 10)
    (pulled,) = [one for one in desk.alerts.open() if one.rule == "kill_switch"]
    assert (pulled.title, "a drill" in pulled.message) == (
        "the kill switch of paper is pulled, level 2",
        True,
    )
    desk.rig.workspace.halt_flag("paper").unlink()
    assert wait_until(lambda: "kill_switch:paper" not in {one.id for one in desk.alerts.open()}, 10)


def removed_is_over(desk: Desk) -> None:
    for name in ("bad", "slow"):
        desk.schedules.remove(name)
    assert wait_until(lambda: {one.rule for one in desk.alerts.open()} == {"strategy_halted"}, 10)
    over = ["kill_switch:paper", "schedule_failed:bad", "schedule_failed:slow"]
    assert wait_until(
        lambda: sorted(one["id"] for one in desk.posted if one["state"] == "cleared") == over, 10
    )


def the_webhooks_address_is_told_to_nobody(desk: Desk) -> None:
    found: list[Path] = []
    for path in desk.rig.workspace.home.rglob("*"):
        with suppress(OSError):  # a folder, a socket, or what SQLite has just let go of
            found += [path] if KEY.encode() in path.read_bytes() else []
    assert found == []
    assert KEY not in json.dumps(desk.health())


@pytest.mark.timeout(180)
def test_a_hub_that_keeps_watch(tmp_path: Path) -> None:
    """One hub for all of it, since each step follows from the one before."""
    with kept(tmp_path) as desk:
        for part in (
            adding_a_schedule_begins_the_watch,
            a_failing_notebook_is_one_alert_everywhere,
            somebody_has_seen_it,
            a_watch_that_is_killed_leaves_no_kernel_and_tells_of_it,
            a_strategy_that_raises_and_a_kill_switch_are_told_of,
            removed_is_over,
            the_webhooks_address_is_told_to_nobody,
        ):
            part(desk)

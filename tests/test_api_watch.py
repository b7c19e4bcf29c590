"""Alerts and schedules over HTTP, as their files hold them: neither needs a server to be read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from alphapanda.alerts import Alerts, Finding
from alphapanda.clock import wall_ns
from alphapanda.schedules import When
from tests.api_rig import CANARY, Desk, lines, opened
from tests.schedule_rig import Rig

WHY = {"reason": "a test"}


@pytest.fixture
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with opened(tmp_path_factory.mktemp("desk")) as made:
        yield made


def raised(desk: Desk, *subjects: str) -> None:
    """Rules have seen these."""
    findings = [
        Finding(rule="order_rejected", subject=one, level="error", title=f"{one} was rejected", event=True)
        for one in subjects
    ]
    Alerts(desk.workspace).look(findings, wall_ns(), 900.0)


def test_an_alert_is_listed_and_acknowledged_with_a_note(desk: Desk) -> None:
    assert desk.call("GET", "/v1/alerts", "view").json()["items"] == []
    raised(desk, "zerodha/run 1", 'x"/../<b>')
    listed = desk.call("GET", "/v1/alerts", "view").json()["items"]
    assert {one["subject"] for one in listed} == {"zerodha/run 1", 'x"/../<b>'}
    body = {"id": listed[0]["id"], "note": f"seen, api_key={CANARY}"}
    assert desk.post("/v1/alerts/acknowledge", "view", json=body).status_code == 403
    done = desk.post("/v1/alerts/acknowledge", json=body)
    assert (done.status_code, done.json()["by"]) == (200, "operate over HTTP"), done.text
    again = {one["id"]: one for one in desk.call("GET", "/v1/alerts", "view").json()["items"]}
    assert again[body["id"]]["acknowledged"] > 0
    assert sum(not one["acknowledged"] for one in again.values()) == 1
    assert [line["event"] for line in lines(desk, "audit")] == [
        "api.acknowledge_alert",  # refused
        "alert.acknowledged",
        "api.acknowledge_alert",
    ]
    assert [line.get("by") for line in lines(desk, "audit")[1:]] == ["operate over HTTP"] * 2
    assert CANARY not in done.text
    assert CANARY not in str(lines(desk, "audit"))


def test_what_is_over_is_shown_to_who_asks_for_it(desk: Desk) -> None:
    raised(desk, "a")
    assert (
        desk.post("/v1/alerts/acknowledge", json={"id": "order_rejected:a", "note": "seen"}).status_code
        == 200
    )
    raised(desk)  # and then it is over
    assert desk.call("GET", "/v1/alerts", "view").json()["items"] == []
    (over,) = desk.call("GET", "/v1/alerts", "view", params={"all": True}).json()["items"]
    assert over["cleared"] > 0
    answer = desk.post("/v1/alerts/acknowledge", json={"id": "order_rejected:a", "note": "once more"})
    assert (answer.status_code, answer.json()["code"]) == (404, "E_UNKNOWN_NAME")
    for body in ({"id": "x"}, {"id": "", "note": "a"}, {"id": "x", "note": " "}, {"id": 5, "note": "a"}):
        assert desk.post("/v1/alerts/acknowledge", json=body).status_code == 422


def test_a_schedule_is_listed_paused_and_resumed(desk: Desk) -> None:
    rig = Rig(desk.workspace.root)
    rig.schedules.add("opening", "one.ipynb", When(at="09:10"), {"n": 3})
    (listed,) = desk.call("GET", "/v1/schedules", "view").json()["items"]
    assert (listed["name"], listed["when"], listed["parameters"]) == (
        "opening",
        "at 09:10, NSE days",
        {"n": 3},
    )
    assert listed["due"] > 0
    assert desk.post("/v1/schedules/opening/pause", "view", json=WHY).status_code == 403
    done = desk.post("/v1/schedules/opening/pause", json=WHY)
    assert (done.status_code, done.json()["paused"], done.json()["due"]) == (200, True, 0), done.text
    done = desk.post("/v1/schedules/opening/resume", json=WHY)
    assert (done.json()["paused"], done.json()["due"] > 0) == (False, True)
    for verb in ("pause", "resume", "run"):
        assert desk.post(f"/v1/schedules/nobody/{verb}", json=WHY).status_code == 404
        assert desk.post(f"/v1/schedules/opening/{verb}", json={}).status_code == 422
    events = [line["event"] for line in lines(desk, "audit") if line["status"] == 200]
    assert events == ["api.pause_schedule", "api.resume_schedule"]


def test_a_notebook_is_not_queued_where_nobody_would_run_it(desk: Desk) -> None:
    rig = Rig(desk.workspace.root)
    rig.schedules.add("opening", "one.ipynb", When(at="09:10"))
    answer = desk.post("/v1/schedules/opening/run", json=WHY)
    assert (answer.status_code, answer.json()["code"]) == (503, "E_NO_HUB"), answer.text
    assert rig.schedules.history() == []


def test_a_queued_notebook_is_run_once_by_whoever_keeps_watch(desk: Desk) -> None:
    rig = Rig(desk.workspace.root)
    rig.schedules.add("opening", "one.ipynb", When(at="09:10"))
    rig.schedules.add("second", "one.ipynb", When(at="09:20"))
    rig.schedules.pause("opening")
    queued = rig.schedules.queue("opening", "asha over HTTP")
    assert queued.state == "due"
    for name in ("opening", "second"):  # they are one notebook
        with pytest.raises(Exception, match="being run already"):
            rig.schedules.queue(name)
    rig.settle()
    shown = desk.call("GET", "/v1/schedules/history", "view", params={"schedule": "opening"}).json()["items"]
    assert [(one["id"], one["state"], one["by"]) for one in shown] == [(queued.id, "ok", "asha over HTTP")]
    assert {"owner", "process", "kernel"}.isdisjoint(shown[0])
    assert desk.call("GET", "/v1/schedules", "view").json()["items"][0]["last"] == "ok"
    rig.now += 1
    assert rig.schedules.queue("opening").id > queued.id, "it may be run again"

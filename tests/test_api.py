"""The API as people use it: a real process under a real hub, over a running market."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

import alphapanda as ap
from alphapanda.access import Access
from alphapanda.buses.base import encode
from alphapanda.buses.redis import RedisBus
from alphapanda.clock import wall_ns
from alphapanda.errors import ConfigurationError
from alphapanda.events import SECOND, EventEnvelope
from alphapanda.letters.dead_letters import DeadLetter
from alphapanda.orders import DENIED
from alphapanda.reach import check_reach
from alphapanda.settings import APISettings
from alphapanda.workspace import Workspace
from tests.fault_strategies import Metronome
from tests.rig import Rig

pytestmark = pytest.mark.timeout(150)
ANYWHERE = "0.0.0.0"  # noqa: S104 - refused, or behind TLS
PAGES = (
    "portfolios", "portfolios/paper", "positions", "orders", "fills", "signals", "runs", "errors", "errors/statistics",
    "letters", "halts", "processes", "prices", "openapi.json",
)  # fmt: skip


class Place:
    """A rig whose hub keeps an API, and people with tokens."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        access = Access(rig.workspace)
        self.tokens = {role: access.add(role, role) for role in ("view", "operate", "live")}
        rig.hub.ask({"do": "offer", "roles": ["api"]})
        rig.until(lambda: self.ready(), 40.0, "the API is ready")
        self.run = self.start()

    @property
    def url(self) -> str:
        return str(self.rig.document("health:api").get("url", ""))

    def ready(self) -> bool:
        try:
            return bool(self.url) and httpx.get(f"{self.url}/ready", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def start(self) -> str:
        run = self.rig.run(Metronome())
        self.rig.until(lambda: self.rig.accepted(run) > 3, 30.0, "it trades")
        self.rig.until(lambda: self.get(f"runs/{run}").status_code == 200, 10.0, "the API knows the run")
        return run

    def get(self, path: str, role: str = "view", **more: Any) -> httpx.Response:
        head = {"Authorization": f"Bearer {self.tokens[role]}"}
        return httpx.get(f"{self.url}/v1/{path}", headers=head, timeout=20, **more)

    def post(self, path: str, role: str = "operate", key: str = "", **body: Any) -> httpx.Response:
        head = {"Authorization": f"Bearer {self.tokens[role]}"} | ({"Idempotency-Key": key} if key else {})
        return httpx.post(f"{self.url}/v1/{path}", headers=head, json=body, timeout=60)

    def state(self, run: str) -> str:
        return str(self.get(f"runs/{run}").json()["item"]["state"])

    def audited(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.rig.logged("audit") if line["event"] == event]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    tape = ap.synthetic_day(seed=11, ticks_per_second=10).between(
        "2026-11-20T09:15:00+05:30", "2026-11-20T10:30:00+05:30"
    )
    root = tmp_path_factory.mktemp("api")
    with Rig(root, tape, FEED__SPEED=15, API__PORT=0, API__RATE_LIMIT_CALLS=100_000) as rig:
        yield Place(rig)


@pytest.fixture
def run(place: Place) -> str:
    """A run that trades; another one where a test has ended it."""
    if place.state(place.run) != "running":
        place.run = place.start()
    return place.run


@contextlib.contextmanager
def halted_after(place: Place) -> Iterator[None]:
    """Whatever happens inside, orders pass again afterwards."""
    try:
        yield
    finally:
        place.rig.cli("kill", "paper", "--lift", "the test is over")


# ── reads


def test_health_tells_nothing_else(place: Place) -> None:
    for path, word in (("health", "ok"), ("ready", "ready")):
        answer = httpx.get(f"{place.url}/{path}")
        assert (answer.status_code, answer.json()) == (200, {"status": word})
        assert "server" not in answer.headers


@pytest.mark.parametrize("path", PAGES)
def test_every_read_answers_what_the_document_says(place: Place, run: str, path: str) -> None:
    document = place.get("openapi.json").json()
    named = path.replace("/paper", "/{namespace}")
    told = document["paths"][f"/v1/{named}"]["get"]["responses"]["200"]["content"]["application/json"]
    answer = place.get(path)
    assert answer.status_code == 200, answer.text
    schema = {**told["schema"], "components": document["components"]}
    jsonschema.validate(answer.json(), schema)
    jsonschema.validate(told["example"], schema)
    assert answer.json().get("stale", False) is False


def test_what_trades_is_shown(place: Place, run: str) -> None:
    place.rig.until(lambda: len(place.get("fills", params={"run": run}).json()["items"]) > 3, 20.0, "fills")
    whole = place.get(f"runs/{run}").json()["item"]
    assert whole["namespace"] == "paper"
    assert whole["name"] == "Metronome"
    assert [one["run"] for one in place.get("runs", params={"status": "running"}).json()["items"]] == [run]
    (paper,) = place.get("portfolios").json()["items"]
    assert paper["charges"] > 0
    assert paper["live"] is False
    curve = place.get("portfolios/paper").json()["item"]["curve"]
    assert curve == sorted(curve)
    fill = place.get("fills", params={"run": run, "limit": 1}).json()["items"][0]
    assert (fill["symbol"], fill["namespace"]) == ("NSE:RELIANCE", "paper")
    signals = place.get("signals", params={"run": run}).json()["items"]
    assert {one["decision"] for one in signals} <= {"validated", "rejected"}
    place.rig.until(lambda: signals[0]["order"] in _orders(place, run), 5.0, "its order is shown, too")
    assert _orders(place, run)[fill["order"]]["status"] == "filled"
    assert _orders(place, run)[fill["order"]]["average"] > 0
    assert place.get("orders", params={"symbol": "NSE:NOBODY"}).json()["items"] == []
    prices = {one["symbol"]: one["price"] for one in place.get("prices").json()["items"]}
    assert prices["NSE:RELIANCE"]["last"] > 0
    roles = {one["role"]: one for one in place.get("processes").json()["processes"]}
    assert roles["api"]["state"] == "ready"
    assert roles["api"]["rss_mb"] > 10


def _orders(place: Place, run: str) -> dict[str, dict[str, Any]]:
    found = place.get("orders", params={"run": run, "limit": 500}).json()["items"]
    return {one["id"]: one for one in found}


def test_pages_follow_each_other_without_gap_or_double(place: Place, run: str) -> None:
    place.rig.until(lambda: len(place.get("orders").json()["items"]) > 8, 20.0, "orders")
    before = [one["id"] for one in place.get("orders", params={"limit": 500}).json()["items"]]
    seen: list[str] = []
    after: str | None = None
    size = len(before) // 4 + 1
    while True:
        page = place.get("orders", params={"limit": size} | ({"after": after} if after else {})).json()
        assert len(page["items"]) <= size
        seen += [one["id"] for one in page["items"]]
        if not (after := page["next"]):
            break
    assert len(seen) == len(set(seen))
    assert [one for one in seen if one in before] == before


def test_metrics_are_what_prometheus_reads(place: Place, run: str) -> None:
    head = {"Authorization": f"Bearer {place.tokens['view']}"}
    answer = httpx.get(f"{place.url}/metrics", headers=head)
    found = {one.name: one for one in text_string_to_metric_families(answer.text)}
    assert found["alphapanda_up"].samples[0].value == 1
    assert found["alphapanda_equity_rupees"].samples[0].labels == {"namespace": "paper"}
    assert found["alphapanda_equity_rupees"].samples[0].value > 0
    assert ("run", run) in [pair for one in found["alphapanda_run"].samples for pair in one.labels.items()]
    assert httpx.get(f"{place.url}/metrics").status_code == 401


def test_ids_lead_from_the_answer_to_the_log(place: Place) -> None:
    head = {
        "Authorization": f"Bearer {place.tokens['operate']}",
        "X-Correlation-ID": "desk-7",
        "X-Request-ID": "call-9",
    }
    body = {"reason": "a test"}
    answer = httpx.post(f"{place.url}/v1/runs/nobody-1/pause", headers=head, json=body)
    assert answer.status_code == 404
    assert answer.json()["correlation_id"] == answer.headers["x-correlation-id"] == "desk-7"
    assert answer.headers["x-request-id"] == "call-9"
    line = next(one for one in place.audited("api.pause_run") if one.get("correlation_id") == "desk-7")
    assert (line["by"], line["status"]) == ("operate over HTTP", 404)
    assert line["asked"] == {"run": "nobody-1", "reason": "a test"}
    forged = httpx.get(f"{place.url}/health", headers={"X-Correlation-ID": 'x"\\u000a{}'})
    assert forged.headers["x-correlation-id"].isalnum()


# ── what is done


def test_a_run_is_paused_and_resumed(place: Place, run: str) -> None:
    done = place.post(f"runs/{run}/pause", reason="odd fills")
    assert (done.status_code, done.json()["state"]) == (200, "paused"), done.text
    place.rig.until(lambda: place.state(run) == "paused", 5.0, "the reader shows it")
    assert place.get(f"runs/{run}").json()["item"]["books"]["reason"] == "odd fills"
    done = place.post(f"runs/{run}/resume", reason="looked at it")
    assert (done.status_code, done.json()["state"]) == (200, "running"), done.text
    place.rig.until(lambda: place.state(run) == "running", 5.0, "the reader shows it")
    assert place.audited("operator.pause")[-1]["by"] == "operate over HTTP"


def test_a_run_is_stopped_flat_and_started_again_once_a_key(place: Place, run: str) -> None:
    done = place.post(f"runs/{run}/stop", reason="enough", flatten=True)
    assert (done.status_code, done.json()["state"]) == (200, "stopped"), done.text
    place.rig.until(lambda: place.state(run) == "stopped", 10.0, "it has ended")
    place.rig.until(
        lambda: not place.get("positions", params={"run": run}).json()["items"], 10.0, "it is flat"
    )
    first = place.post(f"runs/{run}/start", key="again-1", reason="once more")
    assert first.status_code == 200, first.text
    again = place.post(f"runs/{run}/start", key="again-1", reason="once more")
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    other = place.post(f"runs/{run}/start", key="again-1", reason="another")
    assert (other.status_code, other.json()["code"]) == (409, "E_IDEMPOTENCY")
    place.run = first.json()["run"]
    assert place.run != run
    before, after = place.rig.spec(run), place.rig.spec(place.run)
    assert (before.digest, before.parameters, before.capital) == (
        after.digest,
        after.parameters,
        after.capital,
    )
    place.rig.until(lambda: place.rig.accepted(place.run) > 1, 30.0, "it trades")


def test_the_kill_switch_holds_within_two_seconds(place: Place, run: str) -> None:
    with halted_after(place):
        began = wall_ns()
        done = place.post("namespaces/paper/halt", reason="drill")
        assert done.status_code == 200, done.text
        assert done.json()["level"] == 3
        assert any("has halted" in line for line in done.json()["lines"])

        def denied() -> bool:
            orders = list(place.rig.orders(run).values())
            return bool(orders) and orders[-1].status == DENIED and "kill switch: drill" in orders[-1].reason

        place.rig.until(denied, 20.0, "orders are denied")
        assert place.rig.last_accepted(run) - began < 2 * SECOND
        place.rig.until(lambda: place.get("halts").json()["items"], 5.0, "the halt is shown")
        (shown,) = place.get("halts").json()["items"]
        assert (shown["halt"]["by"], shown["halt"]["reason"]) == ("operate over HTTP", "drill")
        lifted = place.post("namespaces/paper/lift", reason="drill is over")
        assert lifted.status_code == 200, lifted.text
        count = place.rig.accepted(run)
        place.rig.until(lambda: place.rig.accepted(run) > count, 30.0, "it trades again")
    for event in ("halt.raised", "halt.lifted", "api.halt_namespace", "api.lift_halt"):
        assert any(line.get("by") == "operate over HTTP" for line in place.audited(event)), event


def test_dead_letters_are_shown_discarded_and_replayed_dry_first(place: Place) -> None:
    asyncio.run(_put_letters(place.rig.workspace))
    place.rig.until(lambda: len(_letters(place)) == 3, 10.0, "they are listed")
    bad, good, third = sorted(_letters(place), key=lambda one: one["id"])
    shown = place.get(f"letters/{bad['id']}").json()["item"]
    assert "\x1b" not in shown["body"]
    done = place.post("letters/replay", ids=[bad["id"], good["id"]])
    assert done.status_code == 200, done.text
    assert (done.json()["dry_run"], done.json()["refused"]) == (True, 1)
    assert len(_letters(place)) == 3, "nothing was done yet"
    done = place.post("letters/replay", ids=[good["id"]], dry_run=False)
    assert (done.json()["dry_run"], done.json()["refused"]) == (False, 0), done.text
    for _ in range(2):  # once is twice
        done = place.post(f"letters/{bad['id']}/discard", reason="not ours")
        assert (done.status_code, done.json()["done"]) == (200, "discarded"), done.text
    assert [one["id"] for one in _letters(place)] == [third["id"]]
    assert place.get("letters/paper.orders.filled@0-999").status_code == 404
    settled = place.get("letters", params={"settled": True}).json()["items"]
    assert {one["state"] for one in settled} == {"open", "replayed", "discarded"}
    assert place.post("letters/replay", reason="both").status_code == 422
    for event in ("letters.replayed", "letters.discarded"):
        assert {one["by"] for one in place.audited(event)} == {"operate over HTTP"}


def _letters(place: Place) -> list[dict[str, Any]]:
    return place.get("letters", params={"topic": "paper.orders.cancelled"}).json()["items"]


async def _put_letters(workspace: Workspace) -> None:
    topic, at = "paper.orders.cancelled", wall_ns()
    event = EventEnvelope(
        id="e1", type="orders.cancelled", ts=at, source="test", namespace="paper", key="x", correlation_id="c",
        trace_id="c", data={},
    )  # fmt: skip
    async with RedisBus.connect(workspace.server_socket) as bus:
        for number, body in enumerate((b"\x1b[31mnot an event", encode(event), encode(event))):
            letter = DeadLetter(
                f"{topic}@1-{number}", topic, body, "DecodeError", "cannot be read", "permanent", first=at, last=at,
                namespace="paper",
            )  # fmt: skip
            await bus.publish(f"{topic}.dlq", msgspec.msgpack.encode(letter))


# ── what is away


def test_without_the_server_reads_are_stale_acts_refused_and_the_kill_switch_works(
    place: Place, run: str
) -> None:
    place.get("signals")
    url = place.url
    head = {role: {"Authorization": f"Bearer {token}"} for role, token in place.tokens.items()}
    with halted_after(place):
        with place.rig.stopped("server"):

            def lost() -> bool:
                return bool(
                    httpx.get(f"{url}/v1/portfolios", headers=head["view"], timeout=20).json()["stale"]
                )

            place.rig.until(lost, 20.0, "the reader has noticed")
            for path in ("portfolios", "orders", "runs", "errors", "signals"):
                answer = httpx.get(f"{url}/v1/{path}", headers=head["view"], timeout=20)
                assert (answer.status_code, answer.json()["stale"]) == (200, True), (path, answer.text)
            assert httpx.get(f"{url}/health").status_code == 200
            assert httpx.get(f"{url}/ready").status_code == 503
            body = {"reason": "a test"}
            for path in (
                f"runs/{run}/pause",
                f"runs/{run}/stop",
                f"runs/{run}/start",
                "namespaces/paper/lift",
            ):
                answer = httpx.post(f"{url}/v1/{path}", headers=head["operate"], json=body, timeout=20)
                assert (answer.status_code, "retry-after" in answer.headers) == (503, True), (
                    path,
                    answer.text,
                )
            answer = httpx.post(
                f"{url}/v1/namespaces/paper/halt", headers=head["operate"], json=body, timeout=20
            )
            assert answer.status_code == 200, answer.text
            assert place.rig.workspace.halt_flag("paper").exists()
            assert "/server.sock" not in answer.text
            assert str(place.rig.root) not in answer.text
        place.rig.until(lambda: place.rig.pid("gateway:paper") and place.ready(), 40.0, "all is back")
        health = lambda: place.rig.document("health:gateway:paper").get("state")  # noqa: E731
        place.rig.until(lambda: health() == "halted", 20.0, "the next gateway knows")


def test_it_ends_with_its_hub_and_comes_back_with_the_next(place: Place) -> None:
    before = place.rig.pid("api")
    place.rig.kill("hub")
    place.rig.until(lambda: place.rig.pid("api") not in (0, before), 40.0, "another process")
    place.rig.until(place.ready, 40.0, "it serves")
    with pytest.raises(ProcessLookupError):
        os.kill(before, 0)


# ── its start


def started(root: Path, **settings: Any) -> subprocess.CompletedProcess[str]:
    """The process alone, until it ends; it is given no more than a moment."""
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "alphapanda.api", str(root)],
        env={**os.environ, "API__PORT": "0", **settings}, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        said = process.stdout.readline()
        if said:
            process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
        return subprocess.CompletedProcess([], process.returncode, said + out, err)


def test_it_refuses_to_start_where_anybody_could_come_in(tmp_path: Path) -> None:
    done = started(tmp_path, API__HOST=ANYWHERE)
    assert done.returncode == 78
    assert "E_EXPOSED" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("host", [ANYWHERE, "::", "192.0.2.1", "desk.example", ""])
def test_only_this_machine_is_served_without_tls_and_a_token(tmp_path: Path, host: str) -> None:
    access = Access(Workspace(tmp_path))
    settings = APISettings.model_construct(host=host, behind_tls=False)
    with pytest.raises(ConfigurationError, match="in the clear"):
        check_reach("API", settings, access)
    settings = APISettings.model_construct(host=host, behind_tls=True)
    with pytest.raises(ConfigurationError, match="nobody has a token"):
        check_reach("API", settings, access)
    access.add("asha", "view")
    check_reach("API", settings, access)
    for here in ("127.0.0.1", "127.9.9.9", "::1", "localhost"):
        check_reach("API", APISettings.model_construct(host=here, behind_tls=False), access)


def test_it_starts_for_others_behind_tls_with_a_token(tmp_path: Path) -> None:
    Access(Workspace(tmp_path)).add("asha", "view")
    done = started(tmp_path, API__HOST=ANYWHERE, API__BEHIND_TLS="true")
    assert (done.returncode, done.stdout) == (0, "ready\n"), done.stderr


def test_a_port_that_is_taken_is_said_plainly(tmp_path: Path, place: Place) -> None:
    done = started(tmp_path, API__PORT=place.url.rpartition(":")[2])
    assert done.returncode == 1
    assert "E_PORT" in done.stderr
    assert (
        json.loads((Workspace(tmp_path).logs / "error.jsonl").read_text().splitlines()[-1])["event"]
        == "api.failed"
    )

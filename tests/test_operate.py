"""The commands that run and stop things, as a person types them, over hubs with fake children."""

import contextlib
import datetime as dt
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from rich.console import Console

from alphapanda.buses.base import decode
from alphapanda.clock import pause, wall_ns
from alphapanda.commands import log_tail
from alphapanda.commands.cli import main
from alphapanda.commands.doctor import findings
from alphapanda.commands.status_screen import picture
from alphapanda.hub.client import HubClient
from alphapanda.processes import Record, children, end_processes, hub_process
from alphapanda.workspace import Workspace

FAKES = Path(__file__).with_name("children")
RUN: dict[str, Any] = {
    "do": "run",
    "namespace": "paper",
    "name": "Cross",
    "class_name": "Cross",
    "module": "",
    "digest": "one",
    "detach": True,
}


class Desk:
    """A workspace, and somebody at its command line."""

    def __init__(self, root: Path, capsys: Any) -> None:
        self.root, self.workspace, self._capsys = root, Workspace(root), capsys
        self.client = HubClient(self.workspace)

    def type(self, *arguments: str) -> tuple[int, str, str]:
        """A command in this process: exit code, output, errors."""
        self._capsys.readouterr()
        code = main(arguments)
        out, err = self._capsys.readouterr()
        return code, out, err

    def command(self, *arguments: str) -> list[str]:
        """The same as a process, with a hub of fake children."""
        return [sys.executable, str(FAKES / "cli.py"), *arguments]

    def up(self, *more: str) -> None:
        done = subprocess.run(
            [*self.command(*more), "up", "--detach", "--bare"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    @property
    def hub(self) -> Record:
        found = hub_process(self.workspace)
        assert found is not None
        return found

    def child(self, role: str) -> Record:
        return next(one for one in children(self.workspace) if one.role == role)

    def until(self, true: Callable[[], object], seconds: float = 10.0) -> None:
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, "it did not come true in time"
            pause(0.01)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Iterator[Desk]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ALPHAPANDA_HOME", raising=False)
    made = Desk(tmp_path, capsys)
    yield made
    found = hub_process(made.workspace)
    for one in [found] if found else []:
        one.signal(signal.SIGCONT)
    end_processes([*([found] if found else []), *children(made.workspace)], 3.0)
    shutil.rmtree(made.workspace.runtime)


# ── up, status, stop ─────────────────────────────────────────────────────────────────────────────────────────────


def test_up_status_stop_from_one_end_to_the_other(desk: Desk) -> None:
    assert desk.type("status")[0] == 1
    desk.up()
    code, out, _ = desk.type("up", "--bare")
    assert code == 0
    assert f"runs already: process {desk.hub.pid}, ready, up " in out
    desk.client.ask(RUN)
    desk.client.ask({**RUN, "name": "other", "symbols": ["NSE:INFY"]})
    code, out, _ = desk.type("status")
    assert code == 0
    for expected in ("hub", "feed", "gateway paper", "runner cross-1", "runner other-1", str(desk.hub.pid)):
        assert expected in out
    code, out, _ = desk.type("status", "--json")
    assert code == 0
    assert {run["run"] for run in json.loads(out)["runs"]} == {"cross-1", "other-1"}
    code, out, _ = desk.type("stop", "other", "--flatten")
    assert (code, out.strip()) == (0, "other-1 stopped: asked")
    code, _, err = desk.type("stop", "othr")
    assert code == 2
    assert "unknown run 'othr'" in err
    hub = desk.hub
    code, out, _ = desk.type("stop")
    assert code == 0
    assert "the hub and all it ran: stopped, after" in out
    assert not hub.alive
    assert children(desk.workspace) == []
    code, out, _ = desk.type("stop")
    assert (code, out) == (0, f"no hub runs in {desk.root}\n")
    code, _, err = desk.type("status")
    assert code == 1
    assert "alphapanda up" in err
    code, out, _ = desk.type("status", "--json")
    assert code == 1
    assert json.loads(out)["hub"] is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_in_the_foreground_ends_cleanly_with_all_it_runs(desk: Desk, number: signal.Signals) -> None:
    with subprocess.Popen(
        desk.command("up", "--bare"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        desk.until(lambda: len(children(desk.workspace)) == 2, 40)
        desk.until(lambda: desk.client.ask({"do": "ping"})["state"] == "ready")
        hub = desk.hub
        pause(0.3)  # it shows, or waits to
        began = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
        assert time.monotonic() - began < 6
    assert process.returncode == 0, err
    assert "is ready, process" in out
    assert "stopped, after" in out
    assert not hub.alive
    assert children(desk.workspace) == []


def test_up_in_the_foreground_tells_when_its_hub_is_gone(desk: Desk) -> None:
    piped = subprocess.PIPE
    with subprocess.Popen(
        desk.command("up", "--quiet", "--bare"), stdout=piped, stderr=piped, text=True
    ) as process:
        desk.until(lambda: len(children(desk.workspace)) == 2, 40)
        desk.hub.signal(signal.SIGKILL)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "the hub " in out + err
    assert "ended" in out + err


def test_stop_ends_a_hub_that_does_not_answer(desk: Desk) -> None:
    (desk.root / "feed.how").write_text("deaf stubborn")
    desk.up()
    hub, feed, gateway = desk.hub, desk.child("feed"), desk.child("gateway:paper")
    hub.signal(signal.SIGSTOP)
    code, out, _ = desk.type("stop")
    assert code == 1
    assert "killed, since it did not answer" in out
    assert f"ended feed, process {feed.pid}, which was left behind" in out
    assert not any(one.alive for one in (hub, feed, gateway))


def test_doctor_finds_and_ends_orphans(desk: Desk) -> None:
    (desk.root / "gateway.how").write_text("deaf stubborn")
    desk.up()
    today = dt.date(2026, 11, 20)
    found = {row.what: row for row in findings(today)}
    assert (found["hub"].state, found["sockets"].state) == ("ok", "ok")
    assert f"ready, process {desk.hub.pid}" in found["hub"].shown
    desk.workspace.hub_socket.chmod(0o666)
    assert next(row for row in findings(today) if row.what == "sockets").state == "failed"
    desk.workspace.hub_socket.chmod(0o600)
    gateway = desk.child("gateway:paper")
    desk.hub.signal(signal.SIGKILL)
    desk.until(lambda: children(desk.workspace) == [gateway])
    row = next(row for row in findings(today) if row.what == "orphans")
    assert row.state == "failed"
    assert str(gateway.pid) in row.shown
    assert "--reap" in row.fix
    rows = {row.what: row for row in findings(today, reap=True)}
    assert rows["orphans"].state == "ok"
    assert not gateway.alive
    assert "orphans" not in {row.what for row in findings(today)}


def test_doctor_asks_a_running_server_whether_it_keeps_its_data(
    own_valkey: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own_valkey.workspace.root)
    today = dt.date(2026, 11, 20)
    row = next(row for row in findings(today) if row.what == "server keeps data")
    assert (row.state, row.fix) == ("ok", "")
    own_valkey.config("maxmemory-policy", "allkeys-lru")
    row = next(row for row in findings(today) if row.what == "server keeps data")
    assert row.state == "warning"
    assert "maxmemory-policy is allkeys-lru" in row.fix


# ── kill ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def flag(desk: Desk, namespace: str = "paper") -> dict[str, Any]:
    return json.loads(desk.workspace.halt_flag(namespace).read_text())


def test_kill_ends_a_gateway_that_does_not_confirm_though_the_hub_is_stopped(desk: Desk) -> None:
    desk.up()
    hub, feed, gateway = desk.hub, desk.child("feed"), desk.child("gateway:paper")
    hub.signal(signal.SIGSTOP)
    before = wall_ns()
    code, out, _ = desk.type("kill", "paper", "--reason", "a bad day")
    assert code == 0
    assert not gateway.alive
    assert hub.alive
    assert feed.alive
    said = flag(desk)
    assert (said["level"], said["reason"]) == (3, "a bad day")
    assert before <= said["at"] <= wall_ns()
    assert "at the command line" in said["by"]
    assert "halt flag written" in out
    assert f"killed gateway:paper, process {gateway.pid}" in out
    assert "alphapanda kill paper --lift REASON" in out
    hub.signal(signal.SIGCONT)
    desk.until(lambda: any(one.role == "gateway:paper" for one in children(desk.workspace)))
    code, out, _ = desk.type("status")
    assert code == 1
    assert "a bad day" in out


def test_kill_works_without_settings_server_or_hub(desk: Desk) -> None:
    desk.up()
    gateway = desk.child("gateway:paper")
    (desk.root / ".env").write_text("RISK__MAX_ORDER_QUANTITY=many\n")
    code, out, _ = desk.type("kill")
    assert code == 0
    assert "the gateway cannot be asked" in out
    assert not gateway.alive
    assert desk.type("stop")[0] == 0
    (desk.workspace.home / "journal").mkdir()
    (desk.workspace.home / "journal" / "zerodha.sqlite").touch()
    code, out, _ = desk.type("kill", "--flatten")
    assert code == 1
    assert "paper: no process of gateway:paper runs" in out
    assert "zerodha: no process of gateway:zerodha runs" in out
    assert "zerodha: positions are NOT closed: --flatten needs --account" in out
    assert "zerodha: orders at the venue" in out  # nobody could look: the settings cannot be read
    assert (flag(desk, "paper")["level"], flag(desk, "zerodha")["level"]) == (4, 3)


def test_kill_without_a_flag_ends_the_hub_too_so_that_no_gateway_comes_back(desk: Desk) -> None:
    desk.up()
    hub, gateway = desk.hub, desk.child("gateway:paper")
    desk.workspace.halt_flag("paper").mkdir()  # where the flag should be
    code, out, _ = desk.type("kill", "paper")
    assert code == 1
    assert "the halt flag could not be written" in out
    assert not hub.alive
    assert not gateway.alive
    assert f"killed hub, process {hub.pid}" in out


class Gateway:
    """Plays a gateway on the real server: it halts while the flag is there, and says so."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.heard, self._done = workspace, [], threading.Event()
        self._thread = threading.Thread(target=self._play, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._done.set()
        self._thread.join(5)

    def _play(self) -> None:
        after = "0"
        with redis.Redis(
            unix_socket_path=str(self.workspace.server_socket), decode_responses=False
        ) as server:
            while not self._done.wait(0.02):
                streams: Any = server.xread({"paper.commands": after}) or []
                for _, entries in streams:
                    self.heard += [decode(fields[b"b"]) for _, fields in entries]
                    after = entries[-1][0]
                halted = self.workspace.halt_flag("paper").exists()
                state = {
                    "state": "halted" if halted else "serving",
                    "detail": "kill switch" if halted else "",
                }
                server.set("health:gateway:paper", json.dumps({**state, "at": wall_ns()}))


def test_kill_is_confirmed_and_lifted_with_a_reason(desk: Desk) -> None:
    desk.up("real")
    record = desk.child("gateway:paper")
    with contextlib.closing(Gateway(desk.workspace)) as gateway:
        code, out, _ = desk.type("kill", "--flatten", "--reason", "too wild")
        assert code == 0
        assert "the gateway has halted, after" in out
        assert record.alive
        desk.until(lambda: len(gateway.heard) == 2)
        assert [envelope.type for envelope in gateway.heard] == ["operator.halt", "operator.flatten"]
        assert gateway.heard[0].data["reason"] == "kill switch: too wild"
        code, _, err = desk.type("kill", "--lift", " ")
        assert code == 2
        assert "needs a reason" in err
        assert desk.workspace.halt_flag("paper").exists()
        code, out, _ = desk.type("kill", "--lift", "checked the book")
        assert code == 0
        assert "it was there for: too wild" in out
        assert "takes orders again" in out
        assert not desk.workspace.halt_flag("paper").exists()
        desk.until(lambda: len(gateway.heard) == 3)
        assert gateway.heard[2].type == "operator.resume"
        code, _, err = desk.type("kill", "--lift", "again")
        assert code == 2
        assert "no namespace is halted" in err
    audit = [json.loads(line) for line in (desk.workspace.logs / "audit.jsonl").read_text().splitlines()]
    (lifted,) = [line for line in audit if line["event"] == "halt.lifted"]
    assert lifted["reason"] == "checked the book"
    assert lifted["was"]["reason"] == "too wild"


def test_kill_refuses_a_name_that_is_no_namespace(desk: Desk) -> None:
    code, _, err = desk.type("kill", "../paper")
    assert code == 2
    assert "E_LANE" in err


# ── logs ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def line(at: int, event: str, **facts: object) -> str:
    stamp = f"2026-11-20T04:00:{at:02d}.000000Z"
    return (
        json.dumps({"ts": stamp, "level": "info", "channel": "x", "event": event, "role": "runner", **facts})
        + "\n"
    )


def test_logs_merge_channels_in_order_and_follow_a_file_that_is_set_aside(desk: Desk) -> None:
    logs = desk.workspace.logs
    assert "no lines in" in desk.type("logs")[1]
    (logs / "trading.2026-11-19.jsonl").write_text(line(1, "oldest", run="a-1"))
    (logs / "trading.jsonl").write_text(
        line(2, "second", run="a-1") + line(5, "last", run="b-1", price=1.5) + "{half"
    )
    (logs / "error.jsonl").write_text("garbage\n" + line(4, "wrong", exception="Trace\n  back\x1b[2J"))
    (logs / "performance.jsonl").write_text(line(3, "rates"))
    code, out, _ = desk.type("logs")
    assert code == 0
    found = [text for text in out.splitlines() if text.startswith("20 Nov")]
    assert ["oldest" in found[0], "second" in found[1], "wrong" in found[2], "last" in found[3]] == [True] * 4
    assert "price=1.5" in found[3]
    assert "20 Nov 09:30:05" in found[3]
    assert "\x1b" not in out
    assert "  back" in out
    assert len(desk.type("logs", "-n", "1")[1].splitlines()) == 1
    assert "rates" in desk.type("logs", "performance")[1]
    out = desk.type("logs", "--run", "a-1")[1]
    assert ("second" in out, "last" in out) == (True, False)
    assert desk.type("logs", "nonsense")[0] == 2

    tail = log_tail.Tail(logs / "trading.jsonl", None)
    tail.last(5)
    assert tail.new() == []
    with (logs / "trading.jsonl").open("a") as file:
        file.write(" line}\n" + line(6, "new"))
    assert [facts["event"] for _, facts in tail.new()] == ["new"]
    (logs / "trading.jsonl").rename(logs / "trading.2026-11-20.jsonl")
    assert tail.new() == []
    (logs / "trading.jsonl").write_text(line(7, "newer"))
    assert [facts["event"] for _, facts in tail.new()] == ["newer"]


def test_logs_follow_until_interrupted(desk: Desk) -> None:
    file = desk.workspace.logs / "trading.jsonl"
    file.write_text(line(1, "first"))
    with subprocess.Popen(
        desk.command("logs", "trading", "-f"), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "first" in process.stdout.readline()
        with file.open("a") as out:
            out.write(line(2, "second"))
        assert "second" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


# ── how it looks ─────────────────────────────────────────────────────────────────────────────────────────────────


def facts(role: str, **more: Any) -> dict[str, Any]:
    base = {"role": role, "pid": 1234567, "state": "ready", "since": 1, "restarts": 0, "error": ""}
    return {**base, "cpu": 12.3, "rss_mb": 123.4, "health": {}, **more}


def full() -> dict[str, Any]:
    """A status with much in it, some of it hostile."""
    view = {
        "state": "running",
        "net": -1_234_567_89,
        "positions": [{"symbol": f"NSE:SHARE{n}", "quantity": 100 - n} for n in range(9)],
        "counts": {"orders": 12_345, "fills": 9_999},
    }
    runs = [
        {
            "run": "opening-breakout-12",
            "namespace": "paper",
            "state": "starting",
            "reason": "",
            "child": facts("runner:opening-breakout-12"),
            "document": view,
            "runner": {"state": "running", "data_age_ms": 130, "errors": []},
        },
        {
            "run": "broken-1",
            "namespace": "paper",
            "state": "failed",
            "reason": "ZeroDivisionError: [bold]\x1b[2Jno\u202e good day" + " more" * 40,
            "child": {},
            "document": {},
            "runner": {},
        },
    ]
    return {
        "hub": {**facts("hub"), "version": "0.1.0", "troubles": ["feed starts again: " + "x" * 300]},
        "workspace": "/srv/notebooks",
        "server": {
            "address": "/run/x/server.sock",
            "embedded": True,
            "pid": 5,
            "alive": True,
            "cpu": 0.1,
            "rss_mb": 8.0,
        },
        "children": [
            facts(
                "feed",
                health={
                    "state": "running",
                    "source": "synthetic",
                    "rates": {"a": 60},
                    "stale": True,
                    "clock": 10**18,
                },
            ),
            facts("gateway:paper", health={"state": "halted"}, restarts=3),
        ],
        "halts": {"paper": {"level": 3, "reason": "[red]a bad day", "by": "me", "at": 5 * 10**9}},
        "runs": runs,
    }


@pytest.mark.parametrize("width", [100, 80, 200])
def test_the_picture_fits_and_shows_what_matters(width: int) -> None:
    console = Console(width=width, record=True, color_system=None)
    with console.capture() as caught:
        console.print(picture(full(), 3_600 * 10**9))
    out = caught.get()
    assert max(len(text) for text in out.splitlines()) <= width
    flat = " ".join(out.split())
    if width >= 100:
        for expected in (
            "opening-breakout-12",
            "-₹12,34,567.89",
            "12,345",
            "STALE",
            "level 3",
            "60 ticks/s",
            "trouble",
            "failed",
        ):
            assert expected in flat, expected
    assert "[red]a bad day" in flat
    assert "\x1b" not in out
    assert "\u202e" not in out


@pytest.mark.parametrize("width", [72, 80])
def test_a_narrow_picture_cuts_no_figure(width: int) -> None:
    console = Console(width=width, color_system=None)
    with console.capture() as caught:
        console.print(picture(full(), 3_600 * 10**9))
    row = next(line for line in caught.get().splitlines() if "-₹12,34,567.89" in line)
    for expected in ("paper", "running", "12,345", "9,999", "0.1 s"):
        assert expected in row, expected
    assert "…" not in row


def test_an_empty_picture_is_no_fault() -> None:
    bare = {**full(), "children": [], "runs": [], "halts": {}}
    bare["server"] = {**bare["server"], "embedded": False, "alive": None, "pid": None}
    console = Console(width=100)
    with console.capture() as caught:
        console.print(picture(bare, 0))
    assert "no runs" in caught.get()
    assert "external" in caught.get()


def test_every_command_has_its_help(desk: Desk) -> None:
    for name in ("up", "status", "stop", "logs", "kill", "doctor", "dlq"):
        code, out, _ = desk.type(name, "--help")
        assert code == 0
        assert f"alphapanda {name}" in out
    assert list(desk.root.iterdir()) == []

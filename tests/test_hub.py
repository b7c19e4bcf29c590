"""The hub and its children, as real processes: started, watched, killed, ended; and what it answers to whom."""

import asyncio
import contextlib
import importlib.util
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import redis

from alphapanda import processes
from alphapanda.buses.base import decode
from alphapanda.clock import pause
from alphapanda.errors import (
    AlphaPandaException,
    AuthorizationError,
    ConfigurationError,
    InfrastructureError,
    RetryPolicy,
    UnknownNameError,
    ValidationError,
)
from alphapanda.hub import runs as hub_runs
from alphapanda.hub.client import Hold, HubClient, ensure_hub
from alphapanda.hub.crew import POLICIES
from alphapanda.hub.hub import CONNECTIONS_MAX, Hub
from alphapanda.hub.supervise import Child, Policy
from alphapanda.processes import Record, children, end_processes, facts, hub_process, mark, write_children
from alphapanda.workspace import RunSpec, Workspace

FAKES = Path(__file__).with_name("children")
CHILD = [sys.executable, "-S", "-E", str(FAKES / "child.py")]
QUICK = RetryPolicy(delay_first=0.02, delay_max=0.2)
STEADY = Policy(retry=QUICK)
RUN: dict[str, Any] = {
    "do": "run",
    "namespace": "paper",
    "name": "Cross",
    "class_name": "Cross",
    "module": "",
    "digest": "one",
    "symbols": ["NSE:INFY"],
    "client": "kernel",
}


def until(true: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for it, or fail."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true in time"
        pause(0.01)


async def soon(true: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true in time"
        await asyncio.sleep(0.01)


def said(file: Path) -> list[str]:
    """What a fake child wrote, without the pids."""
    return [line.partition(" ")[2] for line in file.read_text().splitlines()] if file.exists() else []


def fake_hub_module() -> Any:
    spec = importlib.util.spec_from_file_location("fake_hub", FAKES / "hub.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ── one child ────────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.asynccontextmanager
async def feed(folder: Path, how: str, policy: Policy = STEADY) -> AsyncGenerator[Child]:
    """A child that behaves so, running; killed at the end."""
    (folder / "feed.how").write_text(how)
    child = Child("feed", [*CHILD, "feed", str(folder)], policy, folder=folder, errors=folder / "feed.err")
    child.start()
    try:
        yield child
    finally:
        await child.stop(patience=0.0)
        assert not child.pid


def test_a_child_is_ready_by_its_line_and_ends_when_asked(tmp_path: Path) -> None:
    async def main() -> None:
        async with feed(tmp_path, "slow 0.3") as child:
            await asyncio.sleep(0.15)
            assert child.state == "starting"
            await asyncio.wait_for(child.up.wait(), 10)
            assert child.state == "ready"
            assert os.getsid(child.pid) == child.pid
            assert child.record.alive
            record = child.record
            await child.stop()
            assert (child.state, child.code, child.restarts, child.error) == ("stopped", 0, 0, "")
            assert not record.alive
        assert said(tmp_path / "feed.said") == ["started", "sigterm"]

    asyncio.run(main())


def test_a_child_whose_hub_is_gone_sees_the_end_of_its_stdin(tmp_path: Path) -> None:
    async def main() -> None:
        async with feed(tmp_path, "") as child:
            await asyncio.wait_for(child.up.wait(), 10)
            process = child._process
            assert process is not None
            assert process.stdin is not None
            process.stdin.close()
            await soon(lambda: child.restarts == 1)
            assert "eof" in said(tmp_path / "feed.said")

    asyncio.run(main())


def test_a_child_that_ignores_sigterm_is_killed_in_time(tmp_path: Path) -> None:
    async def main() -> None:
        async with feed(tmp_path, "deaf") as child:
            await asyncio.wait_for(child.up.wait(), 10)
            began = time.monotonic()
            await child.stop(b"stop\n", grace=0.3, patience=0.3)
            assert 0.55 < time.monotonic() - began < 3
            assert child.code == -signal.SIGKILL
        assert said(tmp_path / "feed.said") == ["started", "stop", "ignored sigterm"]

    asyncio.run(main())


def test_a_child_that_stopped_itself_cannot_be_stopped_but_can_be_killed(tmp_path: Path) -> None:
    async def main() -> None:
        async with feed(tmp_path, "") as child:
            await asyncio.wait_for(child.up.wait(), 10)
            child.signal(signal.SIGSTOP)
            await asyncio.wait_for(child.stop(patience=0.2), 3)

    asyncio.run(main())


def test_kill_9_at_random_moments_brings_it_back_each_time(tmp_path: Path) -> None:
    async def main() -> None:
        draws = random.Random(5)
        async with feed(tmp_path, "slow 0.1") as child:
            for n in range(8):
                await soon(lambda: child.pid)
                await asyncio.sleep(draws.random() * 0.3)
                victim = child.pid
                child.signal(signal.SIGKILL)
                await soon(lambda: child.restarts == n + 1 and child.pid not in (0, victim))  # noqa: B023
            await asyncio.wait_for(child.up.wait(), 10)
            assert child.error == "ended with signal SIGKILL"

    asyncio.run(main())


def test_pauses_grow_and_forget(tmp_path: Path) -> None:
    async def main() -> None:
        policy = Policy(retry=RetryPolicy(delay_first=0.1, delay_max=0.8, jitter=0.0))
        starts: list[float] = []
        async with feed(tmp_path, "flaps 0", policy) as child:
            child._changed = lambda: starts.append(time.monotonic()) if child.state == "starting" else None
            await soon(lambda: len(starts) >= 5, 20)
        gaps = [b - a for a, b in itertools.pairwise(starts)]
        assert gaps[1] > 0.2
        assert gaps[2] > 0.4
        assert gaps[3] > 0.8

    asyncio.run(main())


def test_a_runner_that_fails_five_times_in_a_minute_has_failed_and_says_why(tmp_path: Path) -> None:
    async def main() -> None:
        async with feed(tmp_path, "flaps 0.05", Policy(retry=QUICK, failures=5, ends=True)) as child:
            await asyncio.wait_for(child.ended.wait(), 20)
            assert (child.state, child.restarts) == ("failed", 4)
            assert child.error == "ZeroDivisionError: no good day"
        assert said(tmp_path / "feed.said").count("started") == 5

    asyncio.run(main())


def test_exit_code_78_is_final(tmp_path: Path) -> None:
    async def main() -> None:
        async with feed(tmp_path, "wrong") as child:
            await asyncio.wait_for(child.ended.wait(), 10)
            assert (child.state, child.code, child.restarts) == ("failed", 78, 0)
            assert child.error == "E_CONFIG the settings are wrong"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("how", "why"), [("never", "not ready within 0.5 s"), ("noise", "said b'hello' instead of ready")]
)
def test_a_child_that_is_not_ready_in_time_is_killed_and_tried_again(
    tmp_path: Path, how: str, why: str
) -> None:
    async def main() -> None:
        async with feed(tmp_path, how, Policy(ready=0.5, retry=QUICK)) as child:
            await soon(lambda: child.restarts >= 2)
            assert child.error == why

    asyncio.run(main())


def test_a_child_that_cannot_be_started_is_no_fault_of_the_hub(tmp_path: Path) -> None:
    async def main() -> None:
        policy = Policy(retry=QUICK, failures=3)
        child = Child("feed", [str(tmp_path / "none")], policy, folder=tmp_path, errors=tmp_path / "feed.err")
        child.start()
        await asyncio.wait_for(child.ended.wait(), 10)
        assert (child.state, child.error) == ("failed", "cannot be started: No such file or directory")
        await child.stop()

    asyncio.run(main())


def test_what_it_prints_later_cannot_stop_it_and_a_grandchild_cannot_hide_its_end(tmp_path: Path) -> None:
    async def main() -> None:
        async with feed(tmp_path, "flood grandchild") as child:
            await soon(lambda: "flooded" in said(tmp_path / "feed.said"))
            child.signal(signal.SIGKILL)
            await soon(lambda: child.restarts == 1, 2)

    asyncio.run(main())


def test_a_heartbeat_that_stands_still_ends_it_and_one_that_moves_does_not(tmp_path: Path) -> None:
    async def main() -> None:
        async with feed(tmp_path, "", Policy(retry=QUICK, silent=30.0)) as child:
            await asyncio.wait_for(child.up.wait(), 10)
            for beat in range(100):
                child.heard(beat, 1.0)
            assert child.restarts == 0
            for second in range(31):
                child.heard(99 if second < 10 else 0, 1.0)  # after a while it has expired
            await soon(lambda: child.restarts == 1)
            assert child.error == "no heartbeat for 30 s"

    asyncio.run(main())


def test_words_of_a_full_disk_stop_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "feed.how").write_text("")
        nowhere = tmp_path / "none" / "feed.err"
        child = Child("feed", [*CHILD, "feed", str(tmp_path)], Policy(), folder=tmp_path, errors=nowhere)
        child.start()
        await asyncio.wait_for(child.up.wait(), 10)
        await child.stop()

    asyncio.run(main())


# ── which process ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("listed", [True, False], ids=["proc", "ps"])
def test_a_recycled_pid_is_never_signalled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, listed: bool
) -> None:
    if not listed:
        monkeypatch.setattr(processes, "PROC", tmp_path / "none")
    with subprocess.Popen(["sleep", "60"]) as process:
        # one that has just begun uses nothing yet
        until(lambda: (seen := facts(process.pid)) and seen.rss)
        mine, other = mark(process.pid), "b7a1-12345"
        assert mine
        assert not Record("feed", process.pid, other).signal(signal.SIGKILL)
        assert not Record("feed", process.pid, "").signal(signal.SIGKILL)
        assert end_processes([Record("feed", process.pid, other)], 0.2) == []
        assert process.poll() is None
        found = facts(process.pid)
        assert found is not None
        assert 100_000 < found.rss < 100_000_000
        assert found.cpu < 5
        record = Record("feed", process.pid, mine)
        assert end_processes([record], 5.0) == [record]
        assert not record.alive  # a zombie by now
        process.wait()
    assert mark(process.pid) == ""
    assert not record.signal(signal.SIGKILL)
    assert not Record("feed", 1, mark(1)).signal(0)


def test_damaged_records_are_no_records(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    for text in ("", "{", '[{"role": 3}]', "null"):
        (workspace.home / "children.json").write_text(text)
        workspace.hub_file.write_text(text)
        assert children(workspace) == []
        assert hub_process(workspace) is None


# ── a hub in this process ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Runs outlive clients that hold nothing, however slow this machine is; tests of the grace set their own."""
    monkeypatch.setattr(hub_runs, "GRACE_SECONDS", 60.0)
    monkeypatch.setattr(hub_runs, "MODE_SECONDS", 0.1)  # gateways here do not say what they do with orders
    yield
    shutil.rmtree(Workspace(tmp_path).runtime)


class Desk:
    """A hub with fake children, and somebody who asks it."""

    def __init__(self, root: Path, hub: Hub) -> None:
        self.root, self.hub, self.client = root, hub, HubClient(hub.workspace)
        self.holds: list[Hold] = []

    async def ask(self, question: dict[str, Any], **changes: Any) -> dict[str, Any]:
        return await asyncio.to_thread(self.client.ask, {**question, **changes}, 30.0)

    async def hold(self, client: str = "kernel") -> Hold:
        hold = self.client.hold(client)
        self.holds.append(hold)
        assert await asyncio.to_thread(hold.held.wait, 5)
        return hold

    async def ready(self) -> None:
        await soon(lambda: self.hub.state == "ready")

    def spec(self, run: str) -> RunSpec:
        return RunSpec.read(self.hub.workspace.runs / run)

    def said(self, run: str) -> list[str]:
        return said(self.hub.workspace.runs / run / "said.txt")


@contextlib.asynccontextmanager
async def desk(root: Path, *, real: bool = False) -> AsyncGenerator[Desk]:
    hub = fake_hub_module().fake_hub(Workspace(root), real=real)
    task = asyncio.create_task(hub.run())
    at = Desk(root, hub)
    await soon(hub.workspace.hub_socket.exists)
    try:
        yield at
    finally:
        for hold in at.holds:
            await asyncio.to_thread(hold.close)
        hub.closing.set()
        await asyncio.wait_for(task, 10)
        assert children(hub.workspace) == []
        assert not hub.workspace.hub_socket.exists()


def test_a_run_starts_is_attached_to_and_replaced_by_its_own_client_only(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as at:
            hold = await at.hold()
            one = await at.ask(RUN)
            assert (one["run"], one["attached"], one["replaced"]) == ("cross-1", False, None)
            assert (at.hub.workspace.runs / "cross-1" / "strategy.py").read_text() == ""
            spec = at.spec("cross-1")
            assert (spec.capital, spec.symbols, spec.wanted, spec.client) == (
                100_000_000,
                ["NSE:INFY"],
                True,
                "kernel",
            )
            for client in (
                "kernel",
                "other",
            ):  # a cell that is run again, and another notebook with the same class
                again = await at.ask(RUN, client=client)
                assert (again["run"], again["attached"]) == ("cross-1", True)
            with pytest.raises(AuthorizationError) as refused:
                await at.ask(RUN, client="third", digest="two")
            error = refused.value
            assert error.code == "E_LEASE"
            assert (error.context["client"], error.context["pid"], error.context["run"]) == (
                "kernel",
                os.getpid(),
                "cross-1",
            )
            assert error.context["host"] == socket.gethostname()
            assert "kernel" in error.message
            assert "replace=True" in error.fix
            limits = {"limits": {"order_quantity": 5}, "auto_resume": False}
            for number, changes in enumerate(
                ({"digest": "two"}, {"parameters": {"n": 3}}, limits, {"symbols": ["NSE:TCS"]}), 2
            ):
                new = await at.ask(RUN, **changes)
                assert (new["run"], new["replaced"]) == (f"cross-{number}", f"cross-{number - 1}")
                old = at.spec(f"cross-{number - 1}")
                assert (old.state, old.wanted) == ("stopped", False)
            assert (at.spec("cross-4").limits, at.spec("cross-4").auto_resume) == (
                {"order_quantity": 5},
                False,
            )
            taken = await at.ask(RUN, client="third", replace=True)
            assert taken["replaced"] == "cross-5"
            other = await at.ask(RUN, namespace="other", client="third")
            assert not other["attached"]
            status = await at.ask({"do": "status"})
            assert {child["role"] for child in status["children"]} >= {
                "gateway:paper",
                "gateway:other",
                "runner:cross-6",
            }
            hold.close()

    asyncio.run(main())


def test_twenty_who_start_the_same_at_once_get_one_runner(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as at:
            answers = await asyncio.gather(*(at.ask(RUN, client=f"kernel-{n}") for n in range(20)))
            assert {answer["run"] for answer in answers} == {"cross-1"}
            assert sum(not answer["attached"] for answer in answers) == 1
            await soon(lambda: at.said("cross-1") == ["started"])

    asyncio.run(main())


def test_a_stop_is_a_line_and_flatten_is_said_in_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as at:
            await at.ask(RUN)
            await at.ask(RUN, name="Other one!")
            await soon(lambda: at.said("other-one-1") == ["started"])
            answer = await at.ask({"do": "stop", "run": "Other one!", "flatten": True})
            assert (answer["run"], answer["state"], answer["reason"]) == ("other-one-1", "stopped", "asked")
            assert at.said("other-one-1") == ["started", "stop flatten"]
            assert (await at.ask({"do": "stop", "run": "other-one-1"}))["state"] == "stopped"
            assert (await at.ask({"do": "stop_all"}))["stopped"] == ["cross-1"]
            with pytest.raises(UnknownNameError):
                await at.ask({"do": "stop", "run": "../feed"})
            assert not at.spec("cross-1").wanted

    asyncio.run(main())


def test_what_is_offered_is_kept_by_the_next_hub_too_until_it_is_ended(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with desk(tmp_path) as at:
            await at.ready()
            assert set(at.hub.crew.children) == {"feed", "gateway:paper"}
            assert (await at.ask({"do": "offer", "roles": ["watch"]}))["roles"] == ["watch"]
            assert (await at.ask({"do": "offer", "roles": ["api", "watch"]}))["roles"] == ["api", "watch"]
            await soon(lambda: all(at.hub.crew.children[role].up.is_set() for role in ("api", "watch")))
            with pytest.raises(UnknownNameError, match="role"):
                await at.ask({"do": "offer", "roles": ["feed"]})
        async with desk(tmp_path) as at:
            await soon(lambda: {"api", "watch"} <= set(at.hub.crew.children))
            assert (await at.ask({"do": "offer", "roles": ["api"], "end": True}))["roles"] == ["watch"]
            assert set(at.hub.crew.children) == {"feed", "gateway:paper", "watch"}
        async with desk(tmp_path) as at:
            await soon(lambda: "watch" in at.hub.crew.children)
            assert "api" not in at.hub.crew.children

    asyncio.run(scenario())


def test_a_run_that_ends_halts_or_fails_says_so_in_its_folder(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as at:
            for name, module in (("a", "ends"), ("b", "halts"), ("c", "wrong"), ("d", "flaps 0")):
                await at.ask(RUN, name=name, module=module, digest=module)
            await soon(lambda: not at.hub.runs.active, 20)
            found = {name: at.spec(f"{name}-1") for name in "abcd"}
            assert [found[name].state for name in "abcd"] == ["stopped", "halted", "failed", "failed"]
            assert found["a"].reason == "the tape is over"
            assert found["c"].reason == "E_CONFIG the settings are wrong"
            assert found["d"].reason == "ZeroDivisionError: no good day"
            assert at.said("d-1").count("started") == POLICIES["runner"].failures
            assert at.said("a-1").count("started") == 1
            assert not any(spec.wanted for spec in found.values())
            again = await at.ask(RUN, name="d", module="good", digest="mended")
            assert (again["run"], again["replaced"]) == ("d-2", None)

    asyncio.run(main())


def test_runs_end_with_their_notebook_unless_detached_or_held_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_runs, "GRACE_SECONDS", 0.6)

    async def main() -> None:
        async with desk(tmp_path) as at:
            mine, other = await at.hold("mine"), await at.hold("other")
            for name, detach in (("plain", False), ("detached", True), ("shared", False)):
                await at.ask(RUN, name=name, client="mine", detach=detach)
            await at.ask(RUN, name="shared", client="other")
            mine.close()
            await asyncio.sleep(0.2)
            mine = await at.hold("mine")  # back in time
            await asyncio.sleep(0.8)
            assert len(at.hub.runs.active) == 3
            mine.close()
            await soon(lambda: "plain-1" not in at.hub.runs.active, 5)
            assert at.spec("plain-1").wanted is False
            assert set(at.hub.runs.active) == {"detached-1", "shared-1"}
            other.close()
            await soon(lambda: set(at.hub.runs.active) == {"detached-1"}, 5)
            await at.ask(RUN, name="never held", client="nobody")
            await soon(lambda: set(at.hub.runs.active) == {"detached-1"}, 5)

    asyncio.run(main())


def test_a_gateway_that_cannot_run_is_told_to_who_wants_it(tmp_path: Path) -> None:
    (tmp_path / "gateway.how").write_text("wrong")

    async def main() -> None:
        async with desk(tmp_path) as at:
            with pytest.raises(
                InfrastructureError, match="the gateway of paper does not run: E_CONFIG"
            ) as refused:
                await at.ask(RUN)
            assert refused.value.code == "E_GATEWAY"
            await at.ready()
            pong = await at.ask({"do": "ping"})
            assert pong["state"] == "ready"
            assert pong["troubles"] == ["gateway:paper failed: E_CONFIG the settings are wrong"]
            assert not list(at.hub.workspace.runs.iterdir())

    asyncio.run(main())


def test_children_killed_at_random_come_back_and_status_counts_it(tmp_path: Path) -> None:
    async def main() -> None:
        draws = random.Random(11)
        async with desk(tmp_path) as at:
            await at.ask(RUN)
            await at.ready()
            for _ in range(8):
                child = draws.choice([at.hub.crew.children[role] for role in ("feed", "gateway:paper")])
                await soon(lambda child=child: child.pid)
                os.kill(child.pid, signal.SIGKILL)
                await asyncio.sleep(draws.random() * 0.1)
            runner = at.hub.crew.children["runner:cross-1"]
            os.kill(runner.pid, signal.SIGKILL)
            await soon(lambda: all(child.state == "ready" for child in at.hub.crew.children.values()), 20)
            status = await at.ask({"do": "status"})
            restarts = {child["role"]: child["restarts"] for child in status["children"]}
            assert restarts["feed"] + restarts["gateway:paper"] == 8
            assert restarts["runner:cross-1"] == 1
            assert {one.role for one in children(at.hub.workspace)} == {
                "feed",
                "gateway:paper",
                "runner:cross-1",
            }
            await at.ask({"do": "restart", "role": "feed"})
            await soon(lambda: "sigterm" in said(tmp_path / "feed.said"))

    asyncio.run(main())


def test_everything_is_down_within_five_seconds_even_if_nobody_listens_and_all_is_busy(
    tmp_path: Path,
) -> None:
    for kind in ("feed", "gateway"):
        (tmp_path / f"{kind}.how").write_text("deaf stubborn")
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]

    async def main() -> None:
        async with desk(tmp_path) as at:
            for n in range(6):
                await at.ask(RUN, name=f"r{n}", module="deaf stubborn" if n % 2 else "")
            began = time.monotonic()
            await at.ask({"do": "shutdown"})
            await soon(lambda: not at.hub.workspace.hub_file.exists())
            assert time.monotonic() - began < 5.5
            assert not any(at.spec(f"r{n}-1").wanted for n in range(6))

    try:
        asyncio.run(main())
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def test_what_a_machine_stops_comes_back(tmp_path: Path) -> None:
    async def first() -> None:
        async with desk(tmp_path) as at:
            await at.ask(RUN, name="kept", detach=True)
            await at.ask(RUN, name="mine")
            await at.ask(RUN, name="gone", detach=True)
            await at.ask({"do": "stop", "run": "gone"})

    async def second() -> None:
        async with desk(tmp_path) as at:
            await soon(lambda: set(at.hub.runs.active) == {"kept-1"})
            await at.hold("kernel")
            await soon(lambda: set(at.hub.runs.active) == {"kept-1", "mine-1"})
            assert (await at.ask(RUN, name="mine"))["attached"]
            await at.ask({"do": "shutdown"})

    async def third() -> None:
        async with desk(tmp_path) as at:
            await at.ready()
            await asyncio.sleep(0.3)
            assert not at.hub.runs.active

    asyncio.run(first())
    asyncio.run(second())
    asyncio.run(third())


def test_a_notebook_that_does_not_come_back_leaves_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_runs, "GRACE_SECONDS", 0.5)

    async def main() -> None:
        async with desk(tmp_path) as at:
            await at.ask(RUN)
            await soon(lambda: at.said("cross-1") == ["started"])
        async with desk(tmp_path) as at:
            await soon(lambda: not at.spec("cross-1").wanted)
            assert at.spec("cross-1").reason == "its notebook ended"
            assert at.said("cross-1").count("started") == 1

    asyncio.run(main())


# ── the socket ───────────────────────────────────────────────────────────────────────────────────────────────────


def raw(workspace: Workspace, data: bytes, *, close: bool = False) -> bytes:
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(10)
        line.connect(str(workspace.hub_socket))
        with contextlib.suppress(OSError):
            line.sendall(data)
        if close:
            return b""
        with contextlib.suppress(OSError):
            return line.recv(65_536)
        return b""


def half_lines(workspace: Workspace, count: int) -> list[socket.socket]:
    """Clients that never finish what they began to say."""
    made = [socket.socket(socket.AF_UNIX) for _ in range(count)]
    for line in made:
        line.connect(str(workspace.hub_socket))
        line.send(b'{"do":')
    return made


HOSTILE = [
    b"\n",
    b"{}\n",
    b"null\n",
    b"[1, 2]\n",
    b"\xff\xfe\x00\n",
    b'{"do": "run"}\n',
    b'{"do": "status", "more": 1}\n',
    b'{"do": "stop", "run": 7}\n',
    b'{"do": "stop", "run": "\\u0000/../.."}\n',
    b'{"do": "restart", "role": "hub"}\n',
    b'{"do": "' + b"x" * 100_000 + b'"}\n',
    b"[" * 100_000 + b"\n",
    b'{"do": "run", "parameters": ' + b'{"a":' * 50_000 + b"\n",
    json.dumps({**RUN, "namespace": "../x"}).encode() + b"\n",
    json.dumps({**RUN, "namespace": ""}).encode() + b"\n",
    json.dumps({**RUN, "name": ""}).encode() + b"\n",
    json.dumps({**RUN, "class_name": "os.system('x')"}).encode() + b"\n",
    json.dumps({**RUN, "capital": -5}).encode() + b"\n",
    json.dumps({**RUN, "capital": 1e30}).encode() + b"\n",
    json.dumps({**RUN, "module": "x" * 3_000_000}).encode() + b"\n",
    b"x" * 5_000_000,
]


def test_hostile_lines_get_an_answer_and_harm_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as at:
            await at.ready()
            workspace = at.hub.workspace
            assert workspace.hub_socket.stat().st_mode & 0o777 == 0o600
            assert workspace.runtime.stat().st_mode & 0o777 == 0o700
            for data in HOSTILE:
                answer = json.loads(await asyncio.to_thread(raw, workspace, data))
                assert answer["ok"] is False, data[:80]
                assert answer["error"]["message"], data[:80]
                assert answer["error"]["code"].startswith("E_"), data[:80]
                await asyncio.to_thread(raw, workspace, data, close=True)
            open_ones = await asyncio.to_thread(half_lines, workspace, CONNECTIONS_MAX)
            await soon(lambda: len(at.hub._connections) == len(open_ones))
            full = json.loads(await asyncio.to_thread(raw, workspace, b'{"do": "ping"}\n'))
            assert full["error"]["code"] == "E_LIMIT"
            for line in open_ones:
                line.close()
            await soon(lambda: not at.hub._connections)
            status = await at.ask({"do": "status"})
            assert status["hub"]["troubles"] == []
            assert status["runs"] == []

    asyncio.run(main())


def test_two_hubs_at_once_are_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as at:
            with pytest.raises(InfrastructureError) as refused:
                await fake_hub_module().fake_hub(at.hub.workspace).run()
            assert refused.value.code == "E_HUB_RUNS"
            assert (await at.ask({"do": "ping"}))["state"] in ("starting", "ready")

    asyncio.run(main())


# ── hubs as processes ────────────────────────────────────────────────────────────────────────────────────────────


class Place:
    """A workspace whose hubs are processes of their own."""

    def __init__(self, root: Path) -> None:
        self.root, self.workspace = root, Workspace(root)
        self.command = [sys.executable, str(FAKES / "hub.py"), str(root)]
        self.told: list[str] = []

    def up(self, *more: str) -> HubClient:
        return ensure_hub(self.workspace, self.told.append, command=[*self.command, *more])

    def said(self, run: str) -> list[str]:
        return said(self.workspace.runs / run / "said.txt")

    @property
    def hub(self) -> Record:
        found = hub_process(self.workspace)
        assert found is not None
        return found


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    found = hub_process(made.workspace)
    left = children(made.workspace)
    end_processes([*([found] if found else []), *left], 3.0)


def test_a_hub_killed_with_9_leaves_nobody_and_the_next_takes_up_its_runs(place: Place) -> None:
    client = place.up()
    with contextlib.closing(client.hold("kernel")) as hold:
        client.ask(RUN)
        client.ask({**RUN, "name": "kept", "client": "gone", "detach": True})
        for lives in (1, 2):
            until(lambda: place.said("cross-1").count("started") == lives)  # noqa: B023
            hub, family = place.hub, children(place.workspace)
            assert len(family) == 4
            assert hub.signal(signal.SIGKILL)
            until(lambda: not any(one.alive for one in family), 5)  # noqa: B023
            assert place.up().ask({"do": "ping"})["state"] == "ready"
            assert place.hub != hub
            assert hold.held.wait(5)
        until(lambda: place.said("cross-1").count("started") == 3)
        runs: Callable[[], list[dict[str, Any]]] = lambda: client.ask({"do": "status"})["runs"]  # noqa: E731
        until(lambda: {run["run"] for run in runs()} == {"cross-1", "kept-1"})
        assert all(run["wanted"] for run in runs())


def test_a_hub_whose_folder_is_removed_ends_with_all_it_runs(place: Place) -> None:
    place.up()
    until(lambda: len(children(place.workspace)) == 2)
    family = [place.hub, *children(place.workspace)]
    shutil.rmtree(place.workspace.home)
    until(lambda: not any(one.alive for one in family), 15)


def test_orphans_that_do_not_hear_are_reaped_and_strangers_are_not(place: Place) -> None:
    for kind in ("feed", "gateway"):
        (place.root / f"{kind}.how").write_text("deaf stubborn")
    place.up()
    until(lambda: len(children(place.workspace)) == 2)
    orphans = children(place.workspace)
    place.hub.signal(signal.SIGKILL)
    with subprocess.Popen(["sleep", "60"]) as stranger:
        pause(0.3)
        assert all(one.alive for one in orphans)
        recycled = Record("feed", stranger.pid, "00000000-1")
        write_children(place.workspace, [*orphans, recycled])
        place.up()
        assert not any(one.alive for one in orphans)
        assert stranger.poll() is None
        stranger.kill()


def test_many_who_start_a_hub_at_once_get_one(place: Place) -> None:
    code = (
        "import sys; from pathlib import Path; from alphapanda.hub.client import *\n"
        "from alphapanda.workspace import Workspace\n"
        "client = ensure_hub(Workspace(Path(sys.argv[1])), command=sys.argv[2:])\n"
        "print(client.ask({'do': 'ping'})['pid'])"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(place.root), *place.command], stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    pids = {process.communicate(timeout=50)[0].strip() for process in started}
    assert pids == {str(place.hub.pid)}
    assert {said(place.root / f"{kind}.said").count("started") for kind in ("feed", "gateway")} == {1}


def test_a_hub_that_cannot_start_shows_the_end_of_its_log(place: Place) -> None:
    def command(code: str) -> list[str]:
        return [sys.executable, "-c", code]

    with pytest.raises(InfrastructureError, match="ended with code 1") as failed:
        ensure_hub(place.workspace, command=command("raise SystemExit('no room on the disk')"))
    assert "no room on the disk" in failed.value.message
    with pytest.raises(ConfigurationError):
        ensure_hub(place.workspace, command=command("raise SystemExit(78)"))
    with pytest.raises(AlphaPandaException):
        HubClient(place.workspace).ask({"do": "ping"})


def test_a_feed_that_is_slow_is_waited_for_and_that_is_told(place: Place) -> None:
    (place.root / "feed.how").write_text("slow 1.5")
    client = place.up()
    assert place.told[0] == "starting the hub"
    assert any("feed" in told for told in place.told[1:])
    assert client.ask({"do": "ping"})["waits_for"] == ""


def test_a_hub_that_is_stopped_is_told_apart_from_none(place: Place) -> None:
    client = place.up()
    os.kill(place.hub.pid, signal.SIGSTOP)
    try:
        with pytest.raises(InfrastructureError) as silent:
            client.ask({"do": "ping"}, 0.5)
        assert silent.value.code == "E_HUB_SILENT"
    finally:
        os.kill(place.hub.pid, signal.SIGCONT)
    assert client.ask({"do": "ping"})["state"] == "ready"
    client.ask({"do": "shutdown"})
    until(lambda: not place.workspace.hub_file.exists())
    with pytest.raises(InfrastructureError) as none:
        client.ask({"do": "ping"})
    assert none.value.code == "E_NO_HUB"


def test_a_process_that_dies_lets_go_though_its_fork_holds_the_line(place: Place) -> None:
    client = place.up()
    code = (
        "import os, sys, time; from pathlib import Path; from alphapanda.hub.client import *\n"
        "from alphapanda.workspace import Workspace\n"
        "hold = HubClient(Workspace(Path(sys.argv[1]))).hold('forker'); hold.held.wait()\n"
        "if os.fork() == 0: time.sleep(8); os._exit(0)\n"
        "print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(place.root)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert client.ask({"do": "status"})["clients"] == ["forker"]
        process.kill()
        until(lambda: client.ask({"do": "status"})["clients"] == [], 5)


# ── with a real server ───────────────────────────────────────────────────────────────────────────────────────────


def test_subscriptions_follow_the_runs_and_outlive_the_server(place: Place) -> None:
    client = place.up("real")
    holder = {**RUN, "detach": True}
    client.ask(holder)
    client.ask({**holder, "name": "two", "symbols": ["NSE:TCS", "NSE:INFY"]})

    def subscribed() -> dict[bytes, bytes]:
        with contextlib.suppress(redis.RedisError):
            return server.hgetall("market:subscriptions")  # pyright: ignore[reportReturnType]
        return {}

    with redis.Redis(unix_socket_path=str(place.workspace.server_socket)) as server:
        both = {b"cross-1": b'["NSE:INFY"]', b"two-1": b'["NSE:TCS","NSE:INFY"]'}
        until(lambda: subscribed() == both)
        server.hset("market:subscriptions", "stale", "[]")
        until(lambda: subscribed() == both)
        server.flushall()
        until(lambda: subscribed() == both)
        pid = client.ask({"do": "status"})["server"]["pid"]
        os.kill(pid, signal.SIGKILL)
        until(lambda: subscribed() == both)
        status = client.ask({"do": "status"})
        assert status["server"]["pid"] != pid
        assert all(child["restarts"] == 0 for child in status["children"])
        beat = json.loads(server.get("health:hub") or b"{}")  # pyright: ignore[reportArgumentType]
        assert (beat["role"], beat["pid"], beat["state"]) == ("hub", place.hub.pid, "ready")
        assert 0 < server.ttl("health:hub") <= 10
        client.ask({"do": "stop", "run": "two"})
        until(lambda: subscribed() == {b"cross-1": b'["NSE:INFY"]'})


def test_a_run_that_could_not_say_goodbye_is_released_at_its_gateway(place: Place) -> None:
    client = place.up("real")
    client.ask({**RUN, "detach": True, "module": "wrong"})
    with redis.Redis(unix_socket_path=str(place.workspace.server_socket)) as server:
        until(lambda: server.exists("paper.commands"))
        ((_, fields),) = cast("list[Any]", server.xrange("paper.commands"))
        envelope = decode(fields[b"b"])
        assert (envelope.type, envelope.namespace, envelope.data["run"]) == (
            "run.release",
            "paper",
            "cross-1",
        )
        assert envelope.data["reason"] == "E_CONFIG the settings are wrong"


def test_views_of_runs_are_in_the_status(place: Place) -> None:
    client = place.up("real")
    client.ask({**RUN, "detach": True})
    with redis.Redis(unix_socket_path=str(place.workspace.server_socket)) as server:
        server.set("paper:run:cross-1", json.dumps({"net": 12_345, "state": "running"}))
        server.set("health:feed", json.dumps({"at": 1, "state": "ok"}))
        run = client.ask({"do": "status"})["runs"][0]
        assert run["document"] == {"net": 12_345, "state": "running"}
        assert run["runner"] == {}
        until(lambda: client.ask({"do": "status"})["children"][0]["health"])


def test_ask_refuses_what_is_no_question_with_the_class_the_hub_raised(place: Place) -> None:
    client = place.up()
    with pytest.raises(ValidationError):
        client.ask({"do": "nothing"})
    with pytest.raises(UnknownNameError) as unknown:
        client.ask({"do": "stop", "run": "crss"})
    assert unknown.value.code == "E_UNKNOWN_NAME"

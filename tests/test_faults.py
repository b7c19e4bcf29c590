"""Real processes, real faults: whatever is killed, stopped, filled up or emptied, the fills are a quiet day's."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

import alphapanda as ap
from alphapanda.errors import AuthorizationError
from alphapanda.events import SECOND
from alphapanda.lane import STORM_WINDOW
from alphapanda.notebook.records import ask_result
from alphapanda.notebook.session import halt
from alphapanda.orders import CANCELLED, DENIED
from alphapanda.tapes.tape import Tape
from alphapanda.workspace import RunSpec
from tests.conftest import OwnValkey
from tests.fault_hostile import Hostile
from tests.fault_strategies import Broken, Busy, Metronome, Punctual, Slow, Storm
from tests.rig import Kernel, Ledger, Rig, undisturbed

pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def tape() -> Tape:
    """The first minutes of a synthetic day; small, and busy from its first tick."""
    return ap.synthetic_day(seed=11, ticks_per_second=30).between(
        "2026-11-20T09:15:00+05:30", "2026-11-20T09:35:00+05:30"
    )


@pytest.fixture(scope="module")
def quiet(tape: Tape) -> Ledger:
    """What should come out."""
    expected = undisturbed(Busy(), tape)
    assert len(expected["fills"]) > 100
    return expected


def settle(rig: Rig, run: str, quiet: Ledger) -> None:
    """Wait for the end of the tape; then everything must be as if nothing had happened."""
    rig.until(lambda: rig.played(run), 90.0, f"{run} has played the tape")
    found = rig.ledger(run)
    shown = rig.document(f"paper:run:{run}")
    assert shown["state"] == "running", shown
    for kind, expected in quiet.items():
        assert found[kind] == expected, f"{kind}; answers that came late: {rig.ran_ahead(run)}"
    assert shown["counts"]["fills"] == len(quiet["fills"])
    assert rig.complaints() == []


def rows(draw: random.Random, tape: Tape) -> list[int]:
    """Five places of the tape, in order."""
    return sorted(draw.randrange(tape.rows // 50, tape.rows * 4 // 5) for _ in range(5))


# ── processes ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_undisturbed_run_is_the_backtest(tmp_path: Path, tape: Tape, quiet: Ledger) -> None:
    with Rig(tmp_path, tape, FEED__SPEED=0) as rig:
        settle(rig, rig.run(Busy()), quiet)


@pytest.mark.parametrize("role", ["server", "feed", "gateway:paper", "runner", "hub"])
def test_killed_five_times(tmp_path: Path, tape: Tape, quiet: Ledger, role: str) -> None:
    with Rig(tmp_path, tape, FEED__SPEED=100) as rig:
        run = rig.run(Busy())
        for row in rows(random.Random(role), tape):
            rig.plays(run, row)
            rig.kill(f"runner:{run}" if role == "runner" else role)
        settle(rig, run, quiet)


def test_everything_killed_at_random(tmp_path: Path, tape: Tape, quiet: Ledger) -> None:
    draw = random.Random(17)
    with Rig(tmp_path, tape, FEED__SPEED=80) as rig:
        run = rig.run(Busy())
        rig.plays(run)
        for _ in range(8):
            time.sleep(draw.uniform(0.1, 1.0))
            if draw.random() < 0.25:
                with rig.server() as server:
                    server.flushall()
            else:
                rig.signal(draw.choice(["server", "feed", "gateway:paper", f"runner:{run}"]))
        settle(rig, run, quiet)


@pytest.mark.parametrize("role", ["gateway:paper", "server"])
def test_stopped_and_continued(tmp_path: Path, tape: Tape, quiet: Ledger, role: str) -> None:
    with Rig(tmp_path, tape, FEED__SPEED=200) as rig:
        run = rig.run(Busy())
        for row, seconds in ((100, 0.5), (tape.rows // 4, 3.0)):
            rig.plays(run, row)
            with rig.stopped(role):
                time.sleep(seconds)
        settle(rig, run, quiet)


# ── the server ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_server_loses_everything(tmp_path: Path, tape: Tape, quiet: Ledger) -> None:
    with Rig(tmp_path, tape, FEED__SPEED=200) as rig:
        run = rig.run(Busy())
        for part in (1, 2, 3):
            rig.plays(run, tape.rows * part // 5)
            with rig.server() as server:
                server.flushall()
            rig.until(lambda: rig.document(f"paper:run:{run}"), 5.0, "the views are there again")
        settle(rig, run, quiet)


def test_a_server_of_ones_own_is_down_for_five_seconds(
    tmp_path: Path, own_valkey: OwnValkey, tape: Tape, quiet: Ledger
) -> None:
    with Rig(tmp_path / "desk", tape, FEED__SPEED=200, REDIS__UNIX_SOCKET=own_valkey.socket) as rig:
        run = rig.run(Busy())
        rig.plays(run, tape.rows // 4)
        own_valkey.stop()
        asked = len(rig.journal(run))
        time.sleep(5.0)
        assert len(rig.journal(run)) <= asked + 1  # what was on its way
        own_valkey.start()
        settle(rig, run, quiet)


def test_a_full_server_refuses_and_forgets_nothing(tmp_path: Path, tape: Tape, quiet: Ledger) -> None:
    with Rig(tmp_path, tape, FEED__SPEED=200) as rig:
        run = rig.run(Busy())
        rig.plays(run, tape.rows // 4)
        with rig.server() as server:
            server.config_set("maxmemory", server.info("memory")["used_memory"] // 2)
            rig.until(
                lambda: "refuses writes" in str(rig.hub.ask({"do": "status"})["hub"]["troubles"]), 10.0,
                "the hub says what is wrong",
            )  # fmt: skip
            asked = len(rig.journal(run))
            time.sleep(1.5)
            assert len(rig.journal(run)) <= asked + 1
            server.config_set("maxmemory", 0)
            assert server.info("stats")["evicted_keys"] == 0
        settle(rig, run, quiet)


# ── disks ────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def full_folder(folder: Path) -> Iterator[None]:
    """A folder on a disk without room; with room again afterwards. Where nothing can be mounted, log files that refuse
    whatever is written."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    links = [folder / f"{name}.jsonl" for name in ("audit", "performance", "trading", "error", "application")]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if mounted:
        with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
    else:
        for link in links:
            link.symlink_to("/dev/full")
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", "-l", folder], check=True)


def make_room(folder: Path) -> None:
    """In a folder of ``full_folder``."""
    for path in folder.iterdir():
        if path.name == "filler" or path.is_symlink():
            path.unlink()


def test_a_full_disk_for_logs_stops_no_trade(tmp_path: Path, tape: Tape, quiet: Ledger) -> None:
    folder = tmp_path / "logs"
    with full_folder(folder), Rig(tmp_path / "desk", tape, FEED__SPEED=200, LOGGING__DIRECTORY=folder) as rig:
        run = rig.run(Busy())
        rig.plays(run, tape.rows // 2)
        assert rig.ledger(run)["fills"]
        make_room(folder)
        rig.until(lambda: lost(folder / "trading.jsonl"), 30.0, "the log says what it lacks")
        settle(rig, run, quiet)


def lost(path: Path) -> int:
    """How many lines a log says it has lost."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return sum(line["lost"] for line in lines if line["event"] == "log.lines_lost")


def test_a_full_disk_for_the_journal_stops_all_trade(tmp_path: Path, tape: Tape, quiet: Ledger) -> None:
    with Rig(tmp_path, tape, FEED__SPEED=100) as rig:
        run = rig.run(Busy())
        rig.plays(run, tape.rows // 4)
        with rig.disk_full("gateway:paper"):
            rig.until(
                lambda: rig.document("health:gateway:paper").get("state") == "blocked", 20.0, "it says so"
            )
            asked, fills = len(rig.journal(run)), rig.document(f"paper:run:{run}")["counts"]["fills"]
            replies = rig.topic_length(f"paper.runs.{run}")
            time.sleep(11.0)  # longer than a lane waits for its runner, who is not to blame
            assert len(rig.journal(run)) == asked
            assert rig.topic_length(f"paper.runs.{run}") == replies
            assert rig.document(f"paper:run:{run}")["counts"]["fills"] == fills
        settle(rig, run, quiet)
        rig.until(lambda: rig.document("health:gateway:paper").get("state") == "serving", 5.0, "it says so")


# ── people ───────────────────────────────────────────────────────────────────────────────────────────────────────

CONNECT = """
import alphapanda as ap
from tests.fault_strategies import Busy
session = await ap.connect(quiet=True)
"""
OTHERS = ["NSE:TCS", "NSE:HDFCBANK"]
HELD = f"print((await session.run(Busy(name='Held', symbols={OTHERS}))).id)"
CELL = "run = await session.run(Busy(), detach=True); print(run.id)"


def test_kernels_die_and_cells_are_run_again(tmp_path: Path, tape: Tape, quiet: Ledger) -> None:
    draw = random.Random(9)
    with Rig(tmp_path, tape, FEED__SPEED=60, FEED__WAIT_FOR_RUNS=2) as rig:
        kernel = Kernel(rig)
        kernel.cell(CONNECT)
        held = kernel.cell(HELD)
        seen = {kernel.cell(CELL) for _ in range(5)}
        assert seen == {"busy-1"}
        for _ in range(4):
            rig.plays("busy-1", rig.seq("busy-1") + 100)
            time.sleep(draw.uniform(0.0, 0.3))
            kernel.kill()
            kernel = Kernel(rig)
            kernel.cell(CONNECT)
            assert kernel.cell(CELL) == "busy-1"
        kernel.kill()
        settle(rig, "busy-1", quiet)
        spec = RunSpec.read(rig.workspace.runs / held)
        assert (spec.state, spec.reason) == ("stopped", "its notebook ended")
        found, alone = rig.ledger(held), undisturbed(Busy(name="Held", symbols=OTHERS), tape)
        assert found["signals"] == alone["signals"][: len(found["signals"])]
        assert found["cancels"] == alone["cancels"][: len(found["cancels"])]
        assert {run["run"] for run in rig.hub.ask({"do": "status"})["runs"]} == {"busy-1", held}


def test_a_run_ends_soon_after_its_kernel(tmp_path: Path, tape: Tape) -> None:
    with Rig(tmp_path, tape, FEED__SPEED=20) as rig:
        kernel = Kernel(rig)
        kernel.cell(CONNECT)
        run = kernel.cell("run = await session.run(Busy()); print(run.id)")
        rig.plays(run, tape.rows // 20)
        kernel.kill()
        began = time.monotonic()
        rig.until(lambda: not rig.pid(f"runner:{run}"), 30.0, "the run ends")
        assert 4.0 < time.monotonic() - began < 15.0  # five seconds' grace, and time to end
        rig.until(lambda: rig.document(f"paper:run:{run}")["state"] == "stopped", 5.0, "the gateway knows")
        shown = rig.document(f"paper:run:{run}")
        told = rig.orders(run)
        assert all(reply.id == request.id for request, reply, _ in rig.journal(run))
        for order in shown[
            "orders"
        ]:  # what would still have entered is withdrawn, exits stay with the gateway
            assert order["leg"] or order["status"] not in ("sent", "open"), order
        assert len(told) == shown["counts"]["orders"]
        assert rig.complaints() == []


def test_one_strategy_runs_once(tmp_path: Path, tape: Tape) -> None:
    with Rig(tmp_path, tape, FEED__SPEED=1) as rig:
        holds = [rig.hub.hold(name) for name in ("ann", "bob")]
        question = rig.question(Busy(), client="ann", detach=False)
        with ThreadPoolExecutor(5) as five:  # a cell that is run five times, and cannot wait
            asked = [five.submit(rig.hub.ask, question, 60.0) for _ in range(5)]
            answers = [one.result() for one in asked]
        assert {answer["run"] for answer in answers} == {"busy-1"}
        assert sum(answer["attached"] for answer in answers) == 4
        same = rig.hub.ask({**question, "client": "bob"})
        assert (same["run"], same["attached"]) == ("busy-1", True)
        with pytest.raises(AuthorizationError) as refused:
            rig.hub.ask({**question, "client": "eve", "digest": "another"})
        error = refused.value
        assert (error.code, error.context["client"]) == ("E_LEASE", "ann")
        assert error.context["since"] > 0
        assert error.context["host"] == socket.gethostname()
        assert "ann" in error.message

        rig.plays("busy-1")
        pid = rig.pid("runner:busy-1")
        folder = rig.workspace.runs / "busy-1"
        copy = rig.workspace.runs / "busy-99"
        shutil.copytree(folder, copy)
        spec = RunSpec.read(copy)
        spec.run = "busy-99"
        spec.write(copy)
        for place in (copy, folder):  # by hand, past the hub
            second = subprocess.Popen(
                [sys.executable, "-P", "-m", "alphapanda.runner", place],
                env=rig.env, cwd=rig.root, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            assert second.wait(60.0) == 78
            _, said = second.communicate()
            assert "[E_LEASE]" in said
            assert f"pid {pid}" in said
        assert rig.pid("runner:busy-1") == pid

        with rig.stopped("runner:busy-1"):  # it will have to be killed, and cannot give its lease back
            new = rig.hub.ask({**question, "client": "eve", "digest": "another", "replace": True}, 60.0)
        assert (new["run"], new["replaced"]) == ("busy-100", "busy-1")
        rig.plays("busy-100")
        assert RunSpec.read(folder).state == "stopped"
        rig.until(lambda: rig.document("paper:run:busy-1")["state"] == "stopped", 10.0, "it is released")
        assert rig.complaints() == []
        for hold in holds:
            hold.close()


# ── neighbours ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_bad_neighbours_harm_only_themselves(tmp_path: Path, tape: Tape, quiet: Ledger) -> None:
    with Rig(tmp_path, tape, FEED__SPEED=60) as rig:
        run = rig.run(Busy())
        rig.plays(run, tape.rows // 4)
        alone = rig.document(f"paper:runner:{run}")["wait_ms"]["p99"]
        storm, slow, broken = (rig.run(kind()) for kind in (Storm, Slow, Broken))
        nowhere = rig.run(Broken(name="Nowhere", symbols=["NSE:NOSUCHSHARE"]))
        settle(rig, run, quiet)

        after = rig.document(f"paper:runner:{run}")
        assert after["wait_ms"]["p99"] < 10 * alone + 500  # a nap is 2,000 ms
        assert after["state"] == "running"

        orders = rig.orders(storm)
        signals = [request.signal for request, _, _ in rig.journal(storm) if request.signal]
        passed = [one.ts for one in signals if orders[one.id].status != DENIED]
        shown = rig.document(f"paper:run:{storm}")
        assert (shown["state"], shown["reason"][:11]) == ("halted", "order storm")
        assert signals[-1].ts - signals[0].ts <= STORM_WINDOW
        assert passed
        assert max(sum(0 <= ts - first < SECOND for ts in passed) for first in passed) <= 5

        shown = rig.document(f"paper:run:{broken}")
        assert (shown["state"], shown["counts"]["signals"]) == ("halted", 1)
        assert "ZeroDivisionError" in shown["reason"]
        error = rig.document(f"paper:runner:{broken}")["errors"][-1]
        assert (error["callback"], Path(error["file"]).name) == ("on_tick", "strategy.py")
        assert "nobody thought of this" in error["message"]

        rig.until(lambda: RunSpec.read(rig.workspace.runs / nowhere).state == "failed", 30.0, "it is refused")
        assert "NSE:NOSUCHSHARE" in RunSpec.read(rig.workspace.runs / nowhere).reason
        assert rig.document(f"paper:runner:{slow}")["lag_rows"] > 0


# ── silence ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nobody_enters_a_market_that_is_silent(tmp_path: Path, tape: Tape) -> None:
    clock = "2026-11-20T09:{}+05:30".format
    holed = Tape.concat(
        [tape.between(clock("15:00"), clock("15:40")), tape.between(clock("15:50"), clock("16:20"))]
    )
    rates = {"RISK__STRATEGY_ORDERS_PER_MINUTE": 400}
    expected = undisturbed(Punctual(), holed, **rates)
    with Rig(tmp_path, holed, FEED__SPEED=15, **rates) as rig:
        run = rig.run(Punctual())
        rig.until(lambda: len(rig.ledger(run)["fills"]) > 3, 30.0, "it buys")
        with rig.stopped("feed"):
            rig.until(lambda: rig.document(f"paper:runner:{run}")["data_age_ms"] > 1000, 20.0, "it notices")
            count, fills = len(rig.journal(run)), len(rig.ledger(run)["fills"])
            rig.until(lambda: rig.document(f"paper:runner:{run}")["data_age_ms"] > 5500, 20.0, "it is told")
            status = json.loads(rig.cli("status", "--json").stdout)
            assert next(one for one in status["runs"] if one["run"] == run)["runner"]["data_age_ms"] > 5500
            assert (len(rig.journal(run)), len(rig.ledger(run)["fills"])) == (count, fills)
        settle(rig, run, expected)
        assert rig.document(f"paper:runner:{run}")["data_age_ms"] < 5000
        last = tape.between(clock("15:00"), clock("15:40")).last_ts
        orders = rig.orders(run)
        asked = [request.signal for request, _, _ in rig.journal(run) if request.signal]
        refused = {one.ts: orders[one.id] for one in asked if orders[one.id].status == DENIED}
        assert len(refused) >= 4
        for ts, order in refused.items():
            assert order.reason.startswith("stale"), order.reason
            assert 5 * SECOND <= ts - last < 11 * SECOND


# ── hostile events ───────────────────────────────────────────────────────────────────────────────────────────────


def test_ten_thousand_hostile_events_change_nothing(tmp_path: Path, tape: Tape, quiet: Ledger) -> None:
    with Rig(tmp_path, tape, FEED__SPEED=60) as rig:
        hostile = Hostile(
            random.Random(23), "busy-1", rig.seal
        )  # whoever has the key can still not harm by mistake
        run = rig.run(Busy())
        rig.plays(run)
        with rig.server() as server:
            hostile.prepare(server)
            while hostile.thrown < 10_000:
                hostile.throw(server, 250)
                rig.until(lambda: hostile.taken(server), 30.0, "they are taken")
            assert hostile.letters(server) == hostile.thrown - hostile.ignored
            assert hostile.violations(server) == []
            hostile.twice(server)
        rig.kill("gateway:paper")  # none of it may be on record, or it would meet it again
        result = ask_result(rig.server, rig.seal, "paper", run, "a good question")
        assert result is not None
        assert result.strategies == ("Busy",)
        rig.until(lambda: rig.played(run), 90.0, f"{run} has played the tape")
        assert rig.ledger(run) == quiet
        assert rig.document(f"paper:run:{run}")["state"] == "running"
        assert [line for line in rig.complaints() if "message.dead" not in line] == []


# ── the kill switch ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_kill_switch(tmp_path: Path, tape: Tape) -> None:
    with Rig(tmp_path, tape, FEED__SPEED=20) as rig:
        run = rig.run(Metronome())
        rig.until(lambda: rig.accepted(run) > 4, 30.0, "it trades")
        for hub_hangs in (False, True):
            with rig.stopped("hub") if hub_hangs else contextlib.nullcontext():
                done = rig.cli("kill", "paper", "--reason", "drill")
                assert done.returncode == 0, done.stdout + done.stderr
                assert "has halted" in done.stdout
                said = msgspec.json.decode(rig.workspace.halt_flag("paper").read_bytes())["at"]
                denied(rig, run, "kill switch: drill")
                assert rig.last_accepted(run) - said < 2 * SECOND
                assert all(
                    order.leg or order.status not in ("sent", "open") for order in rig.orders(run).values()
                )
                done = rig.cli("kill", "paper", "--lift", "drill is over")
                assert done.returncode == 0, done.stdout + done.stderr
            count = rig.accepted(run)
            rig.until(lambda count=count: rig.accepted(run) > count + 2, 30.0, "it trades again")
        rig.kill("gateway:paper")  # and comes to the same again, with all that the operator did
        count = rig.accepted(run)
        rig.until(lambda: rig.accepted(run) > count + 2, 30.0, "it trades again")
        assert rig.complaints() == []

        with rig.disk_full("gateway:paper"):  # a decision waits for the disk, and the halt comes first
            rig.until(
                lambda: rig.document("health:gateway:paper").get("state") == "blocked", 20.0, "it says so"
            )
            halt(rig.workspace, "paper", "the disk")
            known = set(rig.orders(run))
        denied(rig, run, "kill switch: the disk")
        late = [
            order for name, order in rig.orders(run).items() if name not in known and order.status != DENIED
        ]
        assert all(order.status == CANCELLED and not order.fills for order in late)


def denied(rig: Rig, run: str, why: str) -> None:
    """Three more orders of a run are wanted, and refused for this reason."""
    before = sum(order.status == DENIED for order in rig.orders(run).values())

    def more() -> bool:
        found = [order for order in rig.orders(run).values() if order.status == DENIED]
        return len(found) >= before + 3 and why in found[-1].reason

    rig.until(more, 30.0, f"orders are denied: {why}")

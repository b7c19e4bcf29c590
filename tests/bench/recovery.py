"""How long the platform is away after each fault, and how fast the kill switch is, beside the goals.

    python -m tests.bench.recovery [ROUNDS]

Real processes with their real patience, trading at the local Kite Connect with the unmodified client; two shares, so
an order leaves about every second. Away is from the fault to the first order that passes the line to the broker
once a new process serves. The kill switch counts from the moment its flag is written.
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from alphapanda.clock import monotonic, pause, wall_ns
from tests.bench.child import OUT
from tests.bench.machine import header, ignore_output
from tests.havoc.desk import NAMESPACE, Desk, desk
from tests.havoc.strategies import Patient, Resting
from tests.rig import Kernel

GATEWAY = f"gateway:{NAMESPACE}"
SHARES = ["NSE:SBIN", "NSE:ITC"]
REST = "NSE:MARUTI"
PATIENCE = 40.0
CONNECT = "import alphapanda as ap\nsession = await ap.connect(quiet=True)\nprint(len(session.runs))"


class Goal(NamedTuple):
    """Seconds; None where there is none."""

    p50: float | None
    p99: float | None


GOALS: dict[str, Goal] = {
    "state server killed": Goal(1.0, 2.0),
    "runner killed": Goal(1.0, 3.0),
    "kernel killed": Goal(1.0, 2.0),
    "gateway killed": Goal(15.0, 20.0),
    "gateway hangs": Goal(15.0, 20.0),
    "hub killed": Goal(None, None),
    "prices stall, until told": Goal(None, 6.0),
    "kill switch, to the last order": Goal(None, 0.2),
    "kill switch, to all cancels": Goal(None, 5.0),
    "kill switch with the gateway stopped, to all cancels": Goal(None, 5.0),
}


class Bench:
    """One desk, and the times that were taken of it."""

    def __init__(self, of: Desk) -> None:
        self.desk, self.times = of, {name: list[float]() for name in GOALS}
        self._run = of.run(Patient(most=10**9, name="Busy", symbols=SHARES))
        self._names = 0
        self._trades(monotonic())

    def _trades(self, since: float) -> float:
        """The first order after a moment, monotonic seconds."""
        found = self.desk.until(lambda: self.desk.proxy.posts(since), PATIENCE, "an order leaves")
        return found[0]

    def _again(self, name: str, role: str, number: int = signal.SIGKILL) -> None:
        before, began = self.desk.rig.signal(role, number), monotonic()
        if role == "hub":
            assert self.desk.rig.process is not None
            self.desk.rig.process.wait(5.0)
            self.desk.rig.up()
        self.desk.until(lambda: self.desk.rig.pid(role) not in (0, before), PATIENCE, f"{role} is back")
        self.times[name].append(self._trades(monotonic()) - began)

    def server(self) -> None:
        """The embedded one."""
        self._again("state server killed", "server")

    def runner(self) -> None:
        """Of the run that trades."""
        self._again("runner killed", f"runner:{self._run}")

    def gateway(self) -> None:
        """kill -9."""
        self._again("gateway killed", GATEWAY)

    def hub(self) -> None:
        """And with it everybody; started again at once."""
        self._again("hub killed", "hub")

    def hang(self) -> None:
        """It stands still; the hub has to notice by its heart."""
        self._again("gateway hangs", GATEWAY, signal.SIGSTOP)

    def kernel(self) -> None:
        """Until a new one has connected and sees its runs."""
        kernel = Kernel(self.desk.rig)
        kernel.cell(CONNECT)
        kernel.kill()
        began = monotonic()
        kernel = Kernel(self.desk.rig)
        kernel.cell(CONNECT)
        self.times["kernel killed"].append(monotonic() - began)
        kernel.kill()

    def stall(self) -> None:
        """The ticker falls silent."""
        told: Callable[[], str] = lambda: self.desk.rig.document("health:feed").get("state", "")  # noqa: E731
        self.desk.until(lambda: told() == "running", PATIENCE, "prices come")
        self.desk.sandbox.switch("ticker-silent")
        began = monotonic()
        while told() in ("running", "") and monotonic() - began < PATIENCE:
            pause(0.02)
        self.times["prices stall, until told"].append(monotonic() - began)
        self.desk.until(lambda: told() == "running", PATIENCE, "prices come again")

    def kill(self, stopped: bool = False) -> None:
        """``alphapanda kill`` as a person types it, with an entry at rest and others on their way."""
        rig, self._names = self.desk.rig, self._names + 1
        run = self.desk.run(Resting(most=1, name=f"Rest{self._names}", symbols=[REST]))
        rests: Callable[[], list[str]] = lambda: [  # noqa: E731
            one.tag for one in self.desk.intents() if one.run == run and one.tag in set(self.desk.working())
        ]
        (tag,) = self.desk.until(rests, 30.0, "an entry rests")
        self._trades(monotonic())
        if stopped:
            rig.signal(GATEWAY, signal.SIGSTOP)
        watch = _Watch(self.desk, tag)
        rig.cli("kill", NAMESPACE, "--reason", "drill")
        flag = msgspec.json.decode(rig.workspace.halt_flag(NAMESPACE).read_bytes())["at"]
        began = monotonic() - (wall_ns() - flag) / 1e9
        if not stopped:
            pause(1.0)
            last = max((at for at in self.desk.proxy.posts() if at > began), default=began)
            self.times["kill switch, to the last order"].append(last - began)
        name = (
            "kill switch with the gateway stopped, to all cancels"
            if stopped
            else "kill switch, to all cancels"
        )
        self.times[name].append(watch.gone() - began)
        self.desk.until(lambda: self.desk.health().get("state") == "halted", 60.0, "it is halted")
        done = rig.cli("kill", NAMESPACE, "--lift", "drill is over")
        assert done.returncode == 0, done.stdout + done.stderr
        self.desk.end(run)
        self._trades(monotonic())


class _Watch:
    """Sees in a thread when an order does not work at the broker any more."""

    def __init__(self, of: Desk, tag: str) -> None:
        import threading

        self._desk, self._tag, self._at = of, tag, 0.0
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def gone(self) -> float:
        """When, monotonic seconds; AssertionError if it still works."""
        self._thread.join(PATIENCE)
        assert self._at, "an entry of ours still works at the broker"
        return self._at

    def _look(self) -> None:
        end = monotonic() + PATIENCE
        while self._tag in self._desk.working():
            if monotonic() > end:
                return
            pause(0.02)
        self._at = monotonic()


def measure(rounds: int, console: Console) -> dict[str, Any]:
    """All of them so many times, the slow one a fifth as often."""
    with (
        tempfile.TemporaryDirectory(prefix="apr-") as root,
        desk(Path(root), own_server=False, scaled=False) as made,
    ):
        bench = Bench(made)
        for number in range(rounds):
            for work in (
                bench.server,
                bench.runner,
                bench.gateway,
                bench.hub,
                bench.kernel,
                bench.stall,
                bench.kill,
            ):
                work()
            if number % 5 == 0:
                bench.hang()
                bench.kill(stopped=True)
            console.print(f"round {number + 1} of {rounds}", highlight=False)
        made.end(bench._run)
        made.check(60.0)
        orders = len(made.arrivals())
    figures: dict[str, Any] = {
        name: {
            "rounds": len(times), "p50": statistics.median(times), "p99": float(np.percentile(times, 99)),
            "max": max(times), "goal": GOALS[name]._asdict(),
        }
        for name, times in bench.times.items()
        if times
    }  # fmt: skip
    return {"machine": header(), "orders": orders, "twice": 0, "figures": figures}


def show(found: dict[str, Any], console: Console) -> None:
    """The figures beside their goals."""
    table = Table(
        title=f"{found['machine']}\n{found['orders']} orders reached the broker, none twice; seconds"
    )
    for column in ("", "rounds", "p50", "goal", "p99", "goal", ""):
        table.add_column(column, justify="right" if column else "left")
    for name, one in found["figures"].items():
        goal = Goal(**one["goal"])
        met = all(want is None or one[key] <= want for key, want in goal._asdict().items())
        wanted = ["" if want is None else f"{want:g}" for want in goal]
        table.add_row(
            name, str(one["rounds"]), f"{one['p50']:.2f}", wanted[0], f"{one['p99']:.2f}", wanted[1],
            "" if not any(wanted) else "met" if met else "missed",
        )  # fmt: skip
    console.print(table)


def main() -> None:
    """``python -m tests.bench.recovery [ROUNDS]``; the JSON lies in ``.bench/recovery.json``."""
    os.environ.setdefault("COLUMNS", "120")
    console = Console()
    found = measure(int(sys.argv[1]) if len(sys.argv) > 1 else 5, console)
    show(found, console)
    ignore_output()
    (OUT / "recovery.json").write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
    console.print(f"written to {OUT / 'recovery.json'}")


if __name__ == "__main__":
    main()

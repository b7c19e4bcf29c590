"""How long a person waits, and what the platform costs while nothing happens.

``python -m tests.bench.live_start connect ROOT`` is the person: connect, run, first tick; then it ends, and with it the
run, but not the hub.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from alphapanda.clock import monotonic, pause, wall_ns
from alphapanda.errors import AlphaPandaException
from alphapanda.hub.client import HubClient
from alphapanda.workspace import Workspace
from tests.bench.child import MARK, ROOT, ChildFailed, Result, tell
from tests.bench.live_rig import LiveRig, folder, memory, pressure, use, wait
from tests.bench.live_strategies import First, Hold


def person(root: str) -> None:
    """Tells when it had imported, had connected, had its run and met the first tick, in seconds from the call of
    ``connect`` on; and what every process had used and waited by then."""
    began = wall_ns()
    from alphapanda import connect_sync

    imported = wall_ns()
    session = connect_sync(workspace=root, quiet=True)
    connected = wall_ns()
    run = session.sync.run(First())
    started = wall_ns()
    met = wait(lambda: [fields["at"] for _, _, fields in run.view.pulse.logs], 60, "the first tick", 0.02)[0]
    status = session.hub.ask({"do": "status"}, 10.0)
    pids = {"hub": status["hub"]["pid"]} | {
        one["role"]: one["pid"] for one in status["children"] if one["pid"]
    }
    used = {role.partition(":")[0]: use(pid) for role, pid in pids.items()} | {"person": use(os.getpid())}
    times = {"connected": connected, "started": started, "first": int(met)}
    told = {name: (at - imported) / 1e9 for name, at in times.items()}
    tell(
        told
        | {"import": (imported - began) / 1e9}
        | {name: {role: getattr(one, name) for role, one in used.items()} for name in ("cpu", "waited")}
    )
    run.sync.stop()  # else the next person would attach to it
    session.close()


def connect() -> Result:
    """Seconds from ``ap.connect()`` to the first tick in the strategy: from nothing, and with the hub there."""
    with folder() as root:
        strain, began = pressure(), monotonic()
        try:
            found = {"cold": _person(root), "warm": _person(root)}
        finally:
            try:
                HubClient(Workspace(root)).ask({"do": "shutdown"}, 10.0)
            except AlphaPandaException as error:
                raise ChildFailed(f"the hub: {error.message}") from error
            wait(lambda: not _answers(root), 10, "the hub ends")
        return found | {"strain": (pressure() - strain) / 1e6 / (monotonic() - began)}


def alone(told: Result, cold: bool) -> float:
    """About how long it would have taken on a machine of our own: less what those waited for a core who were waited
    for, one after the other; at least the processor time of these."""

    def chain(of: dict[str, float]) -> float:
        return (of["hub"] + max(of["feed"], of["gateway"]) if cold else 0.0) + of["runner"]

    return max(told["first"] - chain(told["waited"]) - told["waited"]["person"], chain(told["cpu"]))


def _person(root: object) -> Result:
    command = [sys.executable, "-m", "tests.bench.live_start", "connect", str(root)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    for line in done.stdout.splitlines():
        if line.startswith(MARK):
            return json.loads(line.removeprefix(MARK))
    raise ChildFailed((done.stderr.strip() or "no answer").splitlines()[-1])


def _answers(root: object) -> bool:
    try:
        HubClient(Workspace.find(str(root))).ask({"do": "ping"}, 1.0)
    except AlphaPandaException:
        return False
    return True


def idle(seconds: float) -> Result:
    """Shares of a core by process with the synthetic market running and no run, then with one; memory with one."""
    with folder() as root, LiveRig(root, FEED__SOURCE="synthetic") as rig:
        pause(3.0)
        alone = _shares(rig, seconds)
        run = rig.run(Hold())
        wait(lambda: rig.seq(run) > 0, 40, "the run plays")
        pause(3.0)
        with_run = _shares(rig, seconds)
        held = {role.partition(":")[0]: memory(pid)._asdict() for role, pid in rig.pids.items()}
    return {"alone": alone, "with_run": with_run, "memory": held}


def _shares(rig: LiveRig, seconds: float) -> dict[str, float]:
    pids = rig.pids
    before, began = {role: use(pid).cpu for role, pid in pids.items()}, monotonic()
    pause(seconds)
    elapsed = monotonic() - began
    return {role.partition(":")[0]: (use(pid).cpu - before[role]) / elapsed for role, pid in pids.items()}


if __name__ == "__main__":
    person(sys.argv[2])

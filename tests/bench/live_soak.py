"""Hours in small: the synthetic market at a rate, one run that only listens and one that trades; memory of every
process each ten seconds, a straight line through it once what fills has filled, and where that line is in a day.

Filled is the busiest tick stream when it holds as many messages as it ever will; after that memory has no reason left
to grow but orders, which every process that knows them keeps for the life of its run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from alphapanda.buses.ticks import KEPT
from alphapanda.clock import monotonic, pause, wall_ns
from tests.bench.child import OUT, ChildFailed
from tests.bench.live_rig import LiveRig, folder, memory, pressure, use, wait
from tests.bench.live_strategies import Hold, Turn
from tests.bench.machine import header, ignore_output

if TYPE_CHECKING:
    from rich.console import Console

EVERY = 10.0  # seconds
DAY = 86_400


def soak(console: Console, minutes: float, rate: float, settle: float) -> None:
    """Measure for so many minutes; the line begins after ``settle`` of them."""
    console.print(header())
    looks: list[dict[str, Any]] = []
    settings = {"FEED__SOURCE": "synthetic", "FEED__TICKS_PER_SECOND": rate}
    with folder() as root, LiveRig(root, **settings) as rig:
        runs = {rig.run(Hold()): "runner that listens", rig.run(Turn()): "runner that trades"}
        for run in runs:
            wait(lambda run=run: rig.seq(run) > 0, 60, f"{run} plays")
        began, strain = monotonic(), pressure()
        pids = rig.pids
        row = rig.document("health:feed")["row"]
        with console.status("soaking") as status:
            while (now := monotonic() - began) < minutes * 60:
                looks.append(_look(rig, runs, now))
                status.update(f"{now / 60:.1f} of {minutes:g} minutes")
                if rig.pids != pids:
                    raise ChildFailed(f"a process was started again: {pids} became {rig.pids}")
                pause(max(0.0, began + len(looks) * EVERY - monotonic()))
        played = (rig.document("health:feed")["row"] - row) / (monotonic() - began)
        orders = rig.document(f"paper:run:{list(runs)[1]}")["counts"]["orders"]
        strain = (pressure() - strain) / 1e6 / (monotonic() - began)
    _show(console, looks, settle, f"{played:,.0f} ticks/s, {orders:,} orders, a core waited for {strain:.0%}")


def _look(rig: LiveRig, runs: dict[str, str], now: float) -> dict[str, Any]:
    found: dict[str, Any] = {"at": now, "wall": wall_ns(), "processes": {}}
    for role, pid in rig.pids.items():
        name = runs.get(role.removeprefix("runner:"), role.partition(":")[0])
        found["processes"][name] = memory(pid)._asdict() | {"cpu": use(pid).cpu}
    with rig.server() as server:
        told: Any = server.info("memory")
        names: Any = server.execute_command("KEYS", "*.*")
        found["server"] = {
            "dataset": told["used_memory_dataset"] / 1e6,
            "streams": {name.decode(): server.xlen(name) for name in names if server.type(name) == b"stream"},
        }
    found["log_mb"] = sum(path.stat().st_size for path in rig.workspace.tapes.glob("*.ticks")) / 1e6
    found["server_mb"] = (
        sum(p.stat().st_size for p in rig.workspace.server_dir.rglob("*") if p.is_file()) / 1e6
    )
    found["logs_mb"] = sum(path.stat().st_size for path in rig.workspace.logs.glob("*")) / 1e6
    return found


def _line(at: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Growth in a day, and the half width of its 95 % interval (twice the standard error, looks taken as
    independent)."""
    if len(at) < 4:
        return float("nan"), float("nan")
    slope, level = np.polyfit(at, values, 1)
    residuals = values - (slope * at + level)
    spread = np.sqrt(residuals @ residuals / (len(at) - 2) / np.square(at - at.mean()).sum())
    return float(slope) * DAY, 2 * float(spread) * DAY


def _show(console: Console, looks: list[dict[str, Any]], settle: float, caption: str) -> None:
    at = np.array([look["at"] for look in looks])
    full = [look["at"] for look in looks if max(look["server"]["streams"].values(), default=0) >= KEPT]
    if not full:
        console.print(f"[yellow]no tick stream has filled ({KEPT:,} messages): the server still grows")
    begin = max([settle * 60, *full[:1]])
    late = at >= begin
    table = Table(
        title=f"Memory in {at[-1] / 60:.1f} minutes; the line from minute {begin / 60:.1f} on",
        caption=caption,
    )
    for name in ("", "MB then", "MB at the end", "peak", "PSS", "in a day, MB", "± MB", "core"):
        table.add_column(name, justify="right" if name else "left")
    rows: list[dict[str, Any]] = []

    def add(name: str, values: np.ndarray, more: tuple[str, ...]) -> None:
        grows, give = _line(at[late], values[late])
        then = float(values[late][0]) if late.any() else float("nan")
        rows.append({"row": name, "then": then, "end": float(values[-1]), "day": grows, "give": give})
        table.add_row(
            name, f"{then:.1f}", f"{values[-1]:.1f}", *more[:2], f"{grows:+,.0f}", f"{give:,.0f}", more[2]
        )

    for name in looks[0]["processes"]:
        series = [look["processes"][name] for look in looks]
        core = (series[-1]["cpu"] - series[0]["cpu"]) / (at[-1] - at[0])
        last = series[-1]
        more = f"{last['peak']:.1f}", f"{last['pss']:.1f}", f"{core:.1%}"
        add(name, np.array([one["rss"] for one in series]), more)
    add("server's data", np.array([look["server"]["dataset"] for look in looks]), ("", "", ""))
    for name in ("log_mb", "server_mb", "logs_mb"):
        what = {"log_mb": "disk: tape log", "server_mb": "disk: server", "logs_mb": "disk: logs"}[name]
        add(what, np.array([look[name] for look in looks]), ("", "", ""))
    console.print(table)
    console.print(f"streams at the end: {looks[-1]['server']['streams']}")
    ignore_output()
    path = OUT / "soak.json"
    path.write_text(
        json.dumps({"header": header(), "caption": caption, "rows": rows, "looks": looks}, indent=1)
    )
    console.print(f"written to .bench/{path.name}")

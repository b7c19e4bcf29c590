"""`python -m tests.bench.peers`: the same job on the engines people know, beside ours, in the same rounds.

Each peer lives in an environment of its own under ``.bench/peers-<python>`` (made on first use), so that
none holds another back, and one that fails is reported while the others go on. Peers whose cost grows
faster than their ticks get fewer of them. What counts is CPU (user + system, all threads) of the engine's
own run call in a fresh process; making the engine's tick objects is the column "prep". Every order count
is checked against the reference.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.bench import job as sma
from tests.bench.child import OUT, ROOT, ChildFailed, Result, measure
from tests.bench.machine import header, ignore_output

PYTHON_VARIABLE = "BENCH_PYTHON"


@dataclass(frozen=True)
class Peer:
    """One row: which script, in which environment, how many ticks, and what ours must reach against it."""

    label: str
    module: str
    variant: str
    requirement: str
    ticks: int
    goal: float | None = None
    lane: str = "tick"  # which form of ours it is compared with
    python: str = "3.12"

    @property
    def environment(self) -> str:
        """A folder name for its requirement."""
        return "".join(c if c.isalnum() or c in ".-" else "-" for c in self.requirement).strip("-*.")


RUST = "nautilus_trader==1.231.*"
CYTHON = "nautilus_trader==1.221.*"
PEERS = [
    Peer("nautilus Rust, tuned", "peer_nautilus_rust", "tuned", RUST, 500_000, 6.0),
    Peer("nautilus Rust, default", "peer_nautilus_rust", "default", RUST, 200_000),
    Peer("nautilus Rust, empty strategy", "peer_nautilus_rust", "empty", RUST, 500_000, lane="empty"),
    Peer("nautilus Cython, tuned", "peer_nautilus_cython", "tuned", CYTHON, 200_000, 15.0),
    Peer("nautilus Cython, default", "peer_nautilus_cython", "default", CYTHON, 200_000),
    Peer("nautilus Cython, tuned", "peer_nautilus_cython", "tuned", RUST, 200_000),
    Peer("nautilus Cython, default", "peer_nautilus_cython", "default", RUST, 50_000),
    Peer("hftbacktest, numba strategy", "peer_hftbacktest", "asks", "hftbacktest", 1_000_000, 1.0),
    Peer("hftbacktest, hash-map book", "peer_hftbacktest", "default", "hftbacktest", 1_000_000),
    Peer("hftbacktest, told who traded", "peer_hftbacktest", "told", "hftbacktest", 1_000_000),
    Peer("vectorbt", "peer_vectorbt", "block", "vectorbt", 1_000_000, 2.0, lane="block"),
    Peer("backtesting.py", "peer_backtesting", "vector", "backtesting", 500_000),
    Peer("zipline-reloaded", "peer_zipline", "minutes", "zipline-reloaded", 144_000),
    Peer("backtrader", "peer_backtrader", "next", "backtrader", 50_000),
    Peer("bt", "peer_bt", "rows", "bt", 50_000),
]
LANES = ("tick", "empty", "block")


class NoPython(RuntimeError):
    """No interpreter of the wanted version."""


@dataclass
class Row:
    """What the rounds gave for one peer."""

    peer: Peer
    results: list[Result] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    floors: list[float] = field(default_factory=list)
    failure: str = ""
    version: str = ""


# ── environments ──────────────────────────────────────────────────


@functools.cache
def find_python(version: str) -> str:
    """An interpreter of that version: named by the environment, on the path, ours, or pyenv's."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [os.environ.get(PYTHON_VARIABLE), shutil.which(f"python{version}"), sys.executable]
    candidates += [str(p / "bin" / "python") for p in sorted(root.glob(f"{version}*"), reverse=True)]
    for candidate in filter(None, candidates):
        try:
            told = subprocess.run(
                [
                    candidate,
                    "-c",
                    f"import sys; print(sys.version_info[:2] == {_pair(version)}, sys.executable)",
                ],
                capture_output=True,
                text=True,
                timeout=30,
                check=True,
            ).stdout.split()
        except (OSError, subprocess.SubprocessError):
            continue
        if told and told[0] == "True":
            return told[1]
    raise NoPython(f"Python {version} not found: install it, or set {PYTHON_VARIABLE} to such an interpreter")


def _pair(version: str) -> tuple[int, int]:
    major, minor = version.split(".")
    return int(major), int(minor)


@functools.cache
def environment(requirement: str, folder: str, version: str) -> str:
    """The interpreter of an environment that holds ``requirement``; made when missing."""
    home = OUT / f"peers-{version}" / folder
    python, done = home / "bin" / "python", home / ".complete"
    if done.exists():
        return str(python)
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if uv is None:
        raise ChildFailed("uv not found: pip install uv")
    shutil.rmtree(home, ignore_errors=True)
    for command in (
        [uv, "venv", "--quiet", "--python", find_python(version), str(home)],
        [uv, "pip", "install", "--quiet", "--python", str(python), requirement, "numpy", "setuptools<81"],
    ):
        made = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
        if made.returncode:
            shutil.rmtree(home, ignore_errors=True)
            said = [line.strip() for line in made.stderr.splitlines() if line.strip()]
            raise ChildFailed(f"cannot install {requirement}: {' '.join(said[:3])[:300]}")
    done.touch()
    return str(python)


def version_of(python: str, requirement: str) -> str:
    """The installed version of a requirement."""
    name = requirement.split("=")[0]
    code = f"import importlib.metadata as m, platform; print(m.version({name!r}), platform.python_version())"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


# ── rounds ──────────────────────────────────────────────────


@functools.cache
def reference(ticks: int) -> int:
    """How many orders the job sends."""
    return len(sma.expected(sma.make(ticks))[0])


def rate(result: Result) -> float:
    """Ticks a CPU second."""
    return result["ticks"] / result["cpu"]


def check(result: Result, ticks: int, *, silent: bool = False) -> None:
    """Refuse a run that did not do the job."""
    wanted = 0 if silent else reference(ticks)
    if result["orders"] != wanted:
        raise ChildFailed(f"sent {result['orders']:,} orders instead of {wanted:,}")


def ours(lanes: set[str], ticks: int) -> Iterator[tuple[str, Result]]:
    """One run of each form of ours that somebody is compared with, and of the floor."""
    result = measure("floor", "tight", ticks=ticks)
    check(result, ticks)
    yield "floor", result
    for lane in LANES:
        if lane in lanes:
            try:
                result = measure("ours", lane, ticks=ticks)
                check(result, ticks, silent=lane == "empty")
            except ChildFailed as failure:
                yield lane, {"failure": str(failure)}
            else:
                yield lane, result


def one(row: Row, base: dict[str, Result], scale: float) -> None:
    """Measure one peer once and compare it with this round's own figures."""
    peer = row.peer
    ticks = max(2_000, int(peer.ticks * scale) // 2_000 * 2_000)
    try:
        python = environment(peer.requirement, peer.environment, peer.python)
        row.version = row.version or version_of(python, peer.requirement)
        result = measure(peer.module, peer.variant, python=python, ticks=ticks)
        check(result, ticks, silent=peer.variant == "empty")
    except (ChildFailed, NoPython, subprocess.SubprocessError) as failure:
        row.failure = str(failure)
        return
    row.results.append(result)
    row.floors.append(rate(result) / rate(base["floor"]))
    if "cpu" in base[peer.lane]:
        row.ratios.append(rate(base[peer.lane]) / rate(result))


# ── the table ──────────────────────────────────────────────────


def rounded(value: float) -> str:
    """Two figures below ten, whole above."""
    return f"{value:,.2f}" if value < 10 else f"{value:,.0f}"


def median_of(row: Row, value: str) -> float:
    """The median over the rounds."""
    return statistics.median(r[value] for r in row.results)


def show(console: Console, rows: list[Row], base: dict[str, list[Result]], rounds: int) -> None:
    """The table, ours on top."""
    table = Table(title=f"The SMA job, {rounds} rounds, medians (CPU = user + system of the run call)")
    for name in ("engine", "version, Python", "ticks", "ticks / CPU-s", "of the floor", "prep ns", "peak MB"):
        table.add_column(name, justify="left" if name in ("engine", "version, Python") else "right")
    for name in ("ours / it [min-max]", "goal", ""):
        table.add_column(name, justify="right")
    for lane, results in base.items():
        label = "hand-written loop (floor a)" if lane == "floor" else f"alphapanda, {lane}"
        good = [r for r in results if "cpu" in r]
        if not good:
            table.add_row(label, results[-1].get("failure", "")[:60], *[""] * 8, style="red")
            continue
        floors = [rate(r) / rate(f) for r, f in zip(results, base["floor"], strict=True) if "cpu" in r]
        table.add_row(
            label,
            platform.python_version(),
            f"{good[0]['ticks']:,}",
            f"{statistics.median(map(rate, good)):,.0f}",
            rounded(statistics.median(floors)),
            "0" if lane != "floor" else "",
            f"{statistics.median(r['peak_mb'] for r in good):,.0f}",
            "",
            "",
            "",
            style="bold",
        )
    table.add_section()
    for row in rows:
        if not row.results:
            table.add_row(row.peer.label, row.version, "", "failed", *[""] * 6, style="red")
            continue
        ratio = statistics.median(row.ratios) if row.ratios else float("nan")
        spread = (
            f"{rounded(ratio)} [{rounded(min(row.ratios))}-{rounded(max(row.ratios))}]" if row.ratios else "-"
        )
        goal = row.peer.goal
        verdict = (
            "" if goal is None or not row.ratios else "[green]met[/]" if ratio >= goal else "[red]missed[/]"
        )
        table.add_row(
            row.peer.label,
            row.version,
            f"{row.results[0]['ticks']:,}",
            f"{statistics.median(map(rate, row.results)):,.0f}",
            f"{statistics.median(row.floors):.4f}",
            f"{median_of(row, 'prep') / row.results[0]['ticks'] * 1e9:,.0f}",
            f"{median_of(row, 'peak_mb'):,.0f}",
            f"{spread} ({row.peer.lane})",
            "" if goal is None else f"≥ {goal:g}",
            verdict,
        )
    console.print(table)
    for row in rows:
        if row.failure:
            console.print(f"[red]{row.peer.label} ({row.peer.requirement}): {row.failure}")


def main() -> None:
    """Measure all, or those whose label or module contains one of ``names``."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.peers", description=__doc__)
    parser.add_argument(
        "names", nargs="*", help="only peers whose label or requirement contains one of these"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--scale", type=float, default=1.0, help="a share of each peer's ticks, for a quick look"
    )
    options = parser.parse_args()
    chosen = [
        p
        for p in PEERS
        if not options.names or any(n in f"{p.label} {p.requirement}".lower() for n in options.names)
    ]
    ignore_output()
    console = Console()
    console = console if console.is_terminal else Console(width=170)
    console.print(header())
    rows = [Row(peer) for peer in chosen]
    lanes = {peer.lane for peer in chosen}
    base: dict[str, list[Result]] = {"floor": []} | {lane: [] for lane in LANES if lane in lanes}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=options.rounds * (len(rows) + 1))
        for n in range(options.rounds):
            progress.update(task, description=f"round {n + 1}: ours and the floor")
            now: dict[str, Result] = {}
            for lane, result in ours(lanes, max(2_000, int(1_000_000 * options.scale))):
                now[lane] = result
                base[lane].append(result)
            progress.advance(task)
            for row in rows:
                if not (row.failure and not row.results):
                    progress.update(task, description=f"round {n + 1}: {row.peer.label}")
                    one(row, now, options.scale)
                progress.advance(task)
    show(console, rows, base, options.rounds)
    out: dict[str, Any] = {
        "header": header(),
        "ours": base,
        "peers": [
            {
                "label": r.peer.label,
                "requirement": r.peer.requirement,
                "version": r.version,
                "goal": r.peer.goal,
                "lane": r.peer.lane,
                "ratios": r.ratios,
                "of_floor": r.floors,
                "results": r.results,
                "failure": r.failure,
            }
            for r in rows
        ],
    }
    (OUT / "peers.json").write_text(json.dumps(out, indent=1))
    console.print(f"written to {(OUT / 'peers.json').relative_to(ROOT)}")


if __name__ == "__main__":
    main()

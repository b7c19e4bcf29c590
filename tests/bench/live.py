"""`python -m tests.bench.live`: the figures of live paper trading, taken with real processes; `make bench` prints them.

    python -m tests.bench.live                       # all of them: stream, latency, start, idle
    python -m tests.bench.live stream --rounds 1     # one kind
    python -m tests.bench.live soak --minutes 15 --rate 5000

Machines are shared, so a figure stands beside one that was taken in the same round: a rate beside the raw server's, a
busy cell's beside a quiet one's, seconds beside processor seconds. ``waits`` is the share of the time in which
something on the machine waited for a core, ourselves included: where it is much above what it is on an idle machine,
wall-clock figures say more about the neighbours than about us.
Nothing here fails: it prints and writes.
"""

from __future__ import annotations

import argparse
import math
import signal
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from tests.bench.child import OUT, ROOT, ChildFailed, Result, measure
from tests.bench.live_latency import KINDS, figures, latency
from tests.bench.live_raw import measure as raw
from tests.bench.live_rig import FULL_FRAME, Calm, folder, tape
from tests.bench.live_soak import soak
from tests.bench.live_start import alone, connect, idle
from tests.bench.live_stream import STAGES, stream
from tests.bench.machine import header, ignore_output

SMALL_FRAME = 50
WHAT = ("stream", "latency", "start", "idle")
MILLION = 1_000_000
Told = Callable[[str], None]


class Figures:
    """Rows of the table. A row is met where its median is, of ``least`` and ``most`` the one that is given."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.failures: list[str] = []

    def add(
        self,
        label: str,
        values: Sequence[float],
        unit: str,
        *,
        least: float = 0,
        most: float = 0,
        more: str = "",
    ) -> None:
        """One row; nothing where nothing was measured."""
        known = [value for value in values if not math.isnan(value)]
        if not known:
            return
        middle = statistics.median(known)
        met = middle >= least if least else middle <= most if most else None
        goal = f"≥ {least:,g}" if least else f"≤ {most:,g}" if most else ""
        row = {"row": label, "median": middle, "least": min(known), "most": max(known), "unit": unit}
        self.rows.append({**row, "goal": goal, "met": met, "more": more})

    def attempt(self, what: str, work: Callable[[], Any]) -> Any:
        """What ``work`` gives; None where it did not come to an end, and the table says why."""
        try:
            return work()
        except (ChildFailed, AssertionError, OSError) as failure:
            self.failures.append(f"{what}: {failure}")
            return None


# ── stream ───────────────────────────────────────────────────────────────────────────────────────────────────────

LOADS = (
    (1, FULL_FRAME, 1.0),
    (4, FULL_FRAME, 0.4),
    (1, SMALL_FRAME, 0.25),
)  # runs, rows of a frame, share of ticks


def streams(made: Figures, rounds: int, ticks: int, told: Told) -> list[Result]:
    """Ticks a second, beside the raw server's and taken apart by process and by stage."""
    done: list[Result] = []
    with folder() as place:
        tapes = {part: tape(place / f"{part}.parquet", int(ticks * part)) for *_, part in LOADS}
        for number in range(rounds):
            now: Result = {}
            for runs, frame, part in LOADS:
                told(f"round {number + 1}: {runs} runs, frames of {frame}")
                count = int(ticks * part)
                now[f"raw {runs} {frame}"] = made.attempt("raw server", lambda f=frame, c=count: raw(f, c))
                now[f"{runs} {frame}"] = made.attempt(
                    f"stream, {runs} runs, frames of {frame}",
                    lambda p=part, c=count, r=runs, f=frame: stream(tapes[p], c, r, f),
                )
            for frame, count in ((FULL_FRAME, ticks // 4), (SMALL_FRAME, ticks // 20)):
                told(f"round {number + 1}: stages, frames of {frame}")
                now[f"stages {frame}"] = made.attempt(
                    f"stages {frame}", lambda f=frame, c=count: measure_stages(f, c)
                )
            done.append({name: found for name, found in now.items() if found is not None})
    for runs, frame, _ in LOADS:
        _stream_rows(made, done, runs, frame)
    return done


def measure_stages(frame: int, ticks: int) -> Result:
    """See ``live_stream``; in a fresh process."""
    return measure("live_stream", "parts", ticks=ticks, frame=frame)


def _stream_rows(made: Figures, done: list[Result], runs: int, frame: int) -> None:
    key, beside = f"{runs} {frame}", f"raw {runs} {frame}"
    found = [one for one in done if key in one]
    goal = {(1, FULL_FRAME): 600_000, (4, FULL_FRAME): 200_000}.get((runs, frame), 0)
    name = f"{runs} run{'s, each' * (runs > 1)}, frames of {frame:,}"

    def of(figure: str) -> list[float]:
        return [one[key][figure] for one in found]

    if not found:
        return
    strain = statistics.median(of("strain_share"))
    made.add(name, of("rate"), "ticks/s", least=goal, more=f"waits {strain:.0%}; wall clock, slowest run")
    made.add("  two cores of our own", of("of_cores"), "ticks/s", least=goal, more=_by_process(found, key))
    ratios = [one[key]["rate"] / one[beside]["rate"] for one in found if beside in one]
    rates, own = (
        [one[beside][name] for one in found if beside in one] or [math.nan] for name in ("rate", "server")
    )
    told = f"it does {statistics.median(rates) / MILLION:.2f} M ticks/s, {statistics.median(own):.0f} ns CPU a tick"
    made.add("  of the raw server", ratios, "", more=told)
    stages = [one[f"stages {frame}"]["spent"] for one in done if f"stages {frame}" in one]
    if runs == 1 and stages:
        split = {stage: statistics.median(one[stage] for one in stages) for stage in STAGES}
        told = ", ".join(f"{stage} {spent:.0f}" for stage, spent in split.items())
        made.add("  a tick, all stages", [sum(one.values()) for one in stages], "ns CPU", more=told)


def _by_process(found: list[Result], key: str) -> str:
    roles = found[0][key]["cpu"]
    spent = {role: statistics.median(one[key]["cpu"][role] for one in found) for role in roles}
    return "ns CPU a tick: " + ", ".join(f"{role} {value:.0f}" for role, value in spent.items())


# ── latency ──────────────────────────────────────────────────────────────────────────────────────────────────────


def latencies(made: Figures, rounds: int, seconds: float, told: Told, calm: Calm) -> list[Result]:
    """Tick to fill, outside the kernel and in its handle."""
    told(f"latency: {rounds} rounds of three phases of {seconds:g} s")
    done = made.attempt("latency", lambda: latency(rounds, seconds, calm))
    if done is None:
        return []
    found = figures(done)
    names = {"quiet": "no cell busy", "loop": "a Python loop", "call": "one long C call"}
    for kind in KINDS:
        one = found[kind]
        facts = f"{one['count']} orders, waits {one['strain']:.0%}"
        stages = f"signal judged {one['signal_p50']:.1f}, fill judged {one['fill_p50']:.1f}"
        made.add(f"tick to fill on the bus, {names[kind]}: p50", [one["bus_p50"]], "ms", more=stages)
        made.add("  p99", [one["bus_p99"]], "ms", more=facts)
        if kind != "quiet":
            more = f"rounds {one['times_least']:.2f}-{one['times_most']:.2f}; all of it outside the kernel"
            made.add("  p99 against no cell busy", [one["times"]], "times", most=2, more=more)
        handle = f"p99 {one['handle_p99']:.0f}; views are written and read 4 times a second"
        made.add("  from there to the handle: p50", [one["handle_p50"]], "ms", more=handle)
    return done


# ── start and idle ───────────────────────────────────────────────────────────────────────────────────────────────


def starts(made: Figures, rounds: int, told: Told) -> list[Result]:
    """Seconds until something moves."""
    done: list[Result] = []
    for number in range(rounds):
        told(f"round {number + 1}: connect")
        if (found := made.attempt("connect", connect)) is not None:
            done.append(found)
    for kind, label, goal in (("cold", "from nothing", 5.0), ("warm", "the hub runs already", 0.0)):
        own = [one[kind] for one in done]
        if not own:
            continue
        middle = {
            name: statistics.median(one[name] for one in own) for name in ("connected", "started", "import")
        }
        parts = f"connected {middle['connected']:.1f}, run asked for {middle['started']:.1f}"
        strain = statistics.median(one["strain"] for one in done)
        first = [one["first"] for one in own]
        label = f"connect() to first tick, {label}"
        made.add(label, first, "s", most=goal, more=f"{parts}; waits {strain:.0%}")
        made.add(
            "  less the waits for a core, about",
            [alone(one, kind == "cold") for one in own],
            "s",
            most=goal,
            more="of those on the way: hub, then feed or gateway, then runner",
        )
        roles = own[0]["cpu"] if kind == "cold" else ("person", "runner")
        cpu = {role: statistics.median(one["cpu"].get(role, 0.0) for one in own) for role in roles}
        told_cpu = ", ".join(f"{role} {spent:.1f}" for role, spent in cpu.items())
        made.add(
            "  processor time of it",
            [sum(one["cpu"].get(r, 0) for r in roles) for one in own],
            "s",
            more=told_cpu,
        )
    return done


def idles(made: Figures, rounds: int, seconds: float, told: Told) -> list[Result]:
    """What it costs while nothing happens."""
    done: list[Result] = []
    for number in range(rounds):
        told(f"round {number + 1}: idle")
        if (found := made.attempt("idle", lambda: idle(seconds))) is not None:
            done.append(found)
    if not done:
        return done
    for name, label in (("alone", "idle"), ("with_run", "with one run at 60 ticks/s")):
        roles = done[0][name]
        each = {role: statistics.median(one[name].get(role, 0.0) for one in done) for role in roles}
        more = ", ".join(f"{role} {100 * value:.1f}" for role, value in each.items())
        if name == "alone":
            made.add("hub, idle", [100 * one[name]["hub"] for one in done], "% of a core", most=5)
        made.add(
            f"  all processes, {label}",
            [100 * sum(one[name].values()) for one in done],
            "% of a core",
            more=more,
        )
    for role in done[0]["memory"]:
        own = [one["memory"][role] for one in done if role in one["memory"]]
        pss = statistics.median(one["pss"] for one in own)
        made.add(
            f"memory of the {role}", [one["rss"] for one in own], "MB", more=f"its share {pss:.0f} (PSS)"
        )
    return done


# ── shown ────────────────────────────────────────────────────────────────────────────────────────────────────────


def live(
    console: Console, rounds: int, quick: bool, what: Sequence[str] = WHAT, patience: float = 0.0
) -> list[dict[str, Any]]:
    """Measure, print the table, write ``live.json``; returns the rows."""
    made, raws, calm = Figures(), {}, Calm(patience)
    with console.status("live") as status:

        def told(what: str) -> None:
            status.update(what)
            calm.wait()

        for one in what:
            if one == "stream":
                raws[one] = streams(made, rounds, (2 if quick else 4) * MILLION, told)
            elif one == "latency":
                raws[one] = latencies(made, rounds, 8.0 if quick else 15.0, told, calm)
            elif one == "start":
                raws[one] = starts(made, rounds, told)
            else:
                raws[one] = idles(made, 1 if quick else min(rounds, 3), 5.0 if quick else 20.0, told)
    _show(console, made, rounds)
    ignore_output()
    path = OUT / "live.json"
    found = {"header": header(), "rows": made.rows, "failures": made.failures, "rounds": raws}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
    console.print(f"written to {path.relative_to(ROOT)}")
    return made.rows


def _show(console: Console, made: Figures, rounds: int) -> None:
    table = Table(title=f"Live paper trading, real processes, {rounds} rounds")
    for name in ("", "median", "min-max", "unit", "goal", "", ""):
        table.add_column(name, justify="right" if name in ("median", "min-max", "goal") else "left")
    for row in made.rows:
        verdict = {None: "", True: "[green]met[/]", False: "[red]missed[/]"}[row["met"]]
        span = f"{_shown(row['least'])}-{_shown(row['most'])}" if row["least"] != row["most"] else ""
        table.add_row(row["row"], _shown(row["median"]), span, row["unit"], row["goal"], verdict, row["more"])
    console.print(table)
    for failure in made.failures:
        console.print(f"[red]{failure}", soft_wrap=True, highlight=False)


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.0f}" if value >= 100 else f"{value:.2f}"


def _kind(name: str) -> str:
    if name not in (*WHAT, "soak"):
        raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(WHAT)}, soak")
    return name


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.live", description=__doc__)
    parser.add_argument(
        "what", nargs="*", type=_kind, help=f"{', '.join(WHAT)} (these, if none is named), soak"
    )
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--rounds", type=int, help="5, or 1 with --quick")
    parser.add_argument("--minutes", type=float, default=15.0, help="of the soak")
    parser.add_argument("--rate", type=float, default=5000.0, help="ticks a second of the soak")
    parser.add_argument(
        "--settle", type=float, default=3.0, help="minutes of the soak before its line begins"
    )
    parser.add_argument(
        "--calm",
        type=float,
        default=0.0,
        help="seconds to wait, all in all, for a machine that others use to be quiet",
    )
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the processes it started end with it
    console = Console()
    console = console if console.is_terminal else Console(width=170)
    if "soak" in given.what:
        soak(console, given.minutes, given.rate, given.settle)
    what = [one for one in given.what if one != "soak"]
    if what or not given.what:
        console.print(header())
        live(console, given.rounds or (1 if given.quick else 5), given.quick, what or WHAT, given.calm)


if __name__ == "__main__":
    main()

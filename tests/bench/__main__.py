"""`python -m tests.bench`: how fast and how lean we are, as ratios taken within rounds of fresh processes.

The yardstick is floor (a), the tightest hand-written loop (``floor.py``); beside it stands the ratio to
``books``, the same job with fills, position and cash as a person would write it by hand. After it come
the figures of live paper trading (``live.py``). Nothing here fails: it prints and writes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.bench import api
from tests.bench import job as sma
from tests.bench.child import OUT, ROOT, ChildFailed, Result, measure
from tests.bench.live import live
from tests.bench.machine import header, ignore_output
from tests.bench.pages import pages

MILLION = 1_000_000
LIVE_ROUNDS = 3  # a round of the live figures takes two minutes
HEAVY = (
    "panel",
    "redis",
    "kiteconnect",
    "pandas",
    "bokeh",
    "polars",
    "matplotlib",
    "pydantic",
    "rich",
    "tqdm",
    "asyncio",
)
FORBIDDEN = HEAVY[:5]
BARE, OURS = "import msgspec, numpy", "import alphapanda"
USED = "import alphapanda as ap; ap.Strategy, ap.backtest"


@dataclass(frozen=True)
class Case:
    """One process a round."""

    module: str
    variant: str
    ticks: int = MILLION
    strategies: int = 1


def ours(variant: str, ticks: int = MILLION, strategies: int = 1) -> Case:
    """A case of our engine."""
    return Case("ours", variant, ticks, strategies)


TIGHT, BOOKS = Case("floor", "tight"), Case("floor", "books")
FORMS = ("tick", "empty", "block", "bars", "timers", "brackets")
GOALS = {"tick": 0.45, "empty": 1.4, "block": 2.2}
LABELS = {
    "tick": "on_tick",
    "empty": "empty on_tick",
    "block": "on_ticks, whole blocks",
    "bars": "on_bar, 1 minute",
    "timers": "timer, every second",
    "brackets": "on_tick with brackets",
}
SHARE = 200_000  # ticks of the runs with many strategies
CASES = [
    *(ours(form) for form in FORMS),
    BOOKS,
    Case("floor", "called"),
    Case("floor", "struct"),
    Case("floor", "numpy"),
    ours("silent"),
    ours("tick", 100_000),
    ours("tick", 4 * MILLION),
    ours("beat0"),
    ours("beat1"),
    ours("beat10"),
    ours("tick", SHARE),
    ours("tick", SHARE, 5),
    ours("tick", SHARE, 20),
]

BESIDE = {
    case
    for case in CASES
    if case.variant in (*FORMS, "books", "called", "struct", "numpy") and case.ticks == MILLION
}

Round = dict[Case, Result]
Measured = Callable[[Round], float]


def imported(statement: str) -> Result:
    """CPU of one import statement in a fresh interpreter, and which heavy modules it pulled in."""
    code = (
        f"import time; t = time.process_time(); {statement}; t = time.process_time() - t; "
        f"import sys, json; print(json.dumps([t, [m for m in {HEAVY!r} if m in sys.modules]]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ChildFailed(done.stderr.strip().splitlines()[-1])
    cpu, heavy = json.loads(done.stdout)
    return {"cpu": cpu, "ticks": 0, "orders": 0, "heavy": heavy}


def wanted_orders(case: Case) -> int | None:
    """How many orders a case must send; None where the form decides."""
    if case.variant in ("tick", "block", *("tight", "books", "called", "struct", "numpy")):
        return len(sma.expected(sma.make(case.ticks))[0]) * case.strategies
    if case.variant in ("empty", "silent", "beat0"):
        return 0
    return {"beat1": case.ticks // 50, "beat10": case.ticks // 5}.get(case.variant)


def run(case: Case) -> Result:
    """Measure a case and hold its orders against the reference."""
    if case.module == "import":
        return imported(case.variant)
    result = measure(case.module, case.variant, ticks=case.ticks, strategies=case.strategies)
    wanted = wanted_orders(case)
    if wanted is not None and result["orders"] != wanted:
        raise ChildFailed(f"sent {result['orders']:,} orders instead of {wanted:,}")
    return result


def rate(result: Result) -> float:
    """Ticks a CPU second."""
    return result["ticks"] / result["cpu"]


def of_floor(case: Case) -> Measured:
    """Speed as a share of floor (a)'s, which ran just before it."""
    return lambda now: rate(now[case]) / now[case]["floor"]


def of_books(case: Case) -> Measured:
    """Speed as a share of the plain hand-written backtest's."""
    return lambda now: rate(now[case]) / rate(now[BOOKS])


def an_order(now: Round, with_orders: Case, without: Case) -> float:
    """CPU microseconds an order, as the difference of two runs."""
    more = now[with_orders]
    return (more["cpu"] - now[without]["cpu"]) / more["orders"] * 1e6


def a_tick(case: Case) -> Measured:
    """CPU nanoseconds a tick and strategy."""
    return lambda now: now[case]["cpu"] / (case.ticks * case.strategies) * 1e9


def against(case: Case, base: Case) -> Measured:
    """The cost of a tick and strategy, as a multiple of another run's."""
    return lambda now: a_tick(case)(now) / a_tick(base)(now)


class Sheet:
    """The rounds, and the rows made of them."""

    def __init__(self, rounds: list[Round], failures: dict[Case, str]) -> None:
        self.rounds, self.failures = rounds, failures
        self.rows: list[dict[str, Any]] = []

    def values(self, measured: Measured) -> list[float]:
        """A figure from each round that has what it needs."""
        found = []
        for now in self.rounds:
            try:
                found.append(measured(now))
            except KeyError:
                continue
        return found

    def add(
        self, label: str, measured: Measured, unit: str, *, least: float = 0, most: float = 0, more: str = ""
    ) -> None:
        """A row; its verdict where a goal is given."""
        values = self.values(measured)
        row: dict[str, Any] = {"row": label, "unit": unit, "goal": "", "met": None, "more": more}
        if values:
            middle = statistics.median(values)
            row |= {"median": middle, "least": min(values), "most": max(values)}
            row["met"] = middle >= least if least else middle <= most if most else None
        row["goal"] = f"≥ {least:g}" if least else f"≤ {most:g}" if most else ""
        self.rows.append(row)

    def rate_of(self, case: Case) -> str:
        """Median ticks a CPU second, and the share of the plain hand-written backtest."""
        rates = self.values(lambda now: rate(now[case]))
        if not rates:
            return self.failures.get(case, "not run")
        shares = self.values(of_books(case))
        beside = f", {statistics.median(shares):.2f} of plain" if shares and case != BOOKS else ""
        return f"{statistics.median(rates) / 1e6:,.2f} M ticks/CPU-s{beside}"


def fill(sheet: Sheet) -> None:
    """All rows."""
    for form in FORMS:
        case = ours(form)
        sheet.add(
            LABELS[form], of_floor(case), "of floor (a)", least=GOALS.get(form, 0), more=sheet.rate_of(case)
        )
    for label, variant in (
        ("floor: plain hand-written backtest", "books"),
        ("floor: strategy called with scalars", "called"),
        ("floor: strategy called with a struct", "struct"),
        ("floor: numpy, whole columns", "numpy"),
    ):
        case = Case("floor", variant)
        sheet.add(label, of_floor(case), "of floor (a)", more=sheet.rate_of(case))
    tick, silent = ours("tick"), ours("silent")
    sheet.add("one order, all told", lambda now: an_order(now, tick, silent), "µs", most=20)
    sheet.add(
        "memory above the loaded data",
        lambda now: now[tick]["above_mb"],
        "MB",
        most=80,
        more="peak of the run less resident before it",
    )
    sheet.add("4 million ticks: the same", lambda now: now[ours("tick", 4 * MILLION)]["above_mb"], "MB")
    for count in (100_000, 4 * MILLION):
        sheet.add(
            f"a tick of {count / MILLION:g} million",
            against(ours("tick", count), tick),
            "of one of 1 M",
            most=1.3,
        )
    sheet.add(
        "an order of ten times as many",
        lambda now: (
            an_order(now, ours("beat10"), ours("beat0")) / an_order(now, ours("beat1"), ours("beat0"))
        ),
        "of one",
        most=1.3,
        more="200,000 against 20,000 in a million ticks",
    )
    base = ours("tick", SHARE)
    for count in (5, 20):
        sheet.add(
            f"a strategy of {count}",
            against(ours("tick", SHARE, count), base),
            "of one alone",
            most=1.3,
            more="a tick",
        )
    sheet.add(
        "import alphapanda",
        lambda now: now[Case("import", OURS)]["cpu"] / now[Case("import", BARE)]["cpu"],
        "of msgspec, numpy",
        most=1.5,
    )
    sheet.add(
        "import, and touch Strategy and backtest",
        lambda now: now[Case("import", USED)]["cpu"] / now[Case("import", BARE)]["cpu"],
        "of msgspec, numpy",
        more="what any script needs",
    )
    heavy = sorted({m for now in sheet.rounds for m in now.get(Case("import", USED), {}).get("heavy", [])})
    sheet.rows[-1]["more"] = f"what any script needs; pulls in {', '.join(heavy) or 'nothing heavy'}"
    if set(heavy) & set(FORBIDDEN):
        sheet.rows[-2]["met"] = False


def show(console: Console, sheet: Sheet) -> None:
    """The table."""
    floors = [result["floor"] for now in sheet.rounds for result in now.values() if "floor" in result]
    middle, low, high = (value / 1e6 for value in (statistics.median(floors), min(floors), max(floors)))
    floor = f"{middle:.2f} M ticks/CPU-s [{low:.2f}-{high:.2f}]"
    table = Table(title=f"The SMA job, medians of {len(sheet.rounds)} rounds; floor (a): {floor}")
    for name in ("", "median", "min-max", "unit", "goal", "", ""):
        table.add_column(name, justify="right" if name in ("median", "min-max", "goal") else "left")
    for row in sheet.rows:
        if "median" not in row:
            table.add_row(row["row"], "-", "", row["unit"], row["goal"], "[red]failed[/]", row["more"])
            continue
        verdict = {None: "", True: "[green]met[/]", False: "[red]missed[/]"}[row["met"]]
        spread = f"{row['least']:.2f}-{row['most']:.2f}"
        table.add_row(
            row["row"], f"{row['median']:.2f}", spread, row["unit"], row["goal"], verdict, row["more"]
        )
    console.print(table)
    console.print("plain: the hand-written backtest with fills, position and cash, one of the floors listed")
    for case, failure in sheet.failures.items():
        console.print(
            f"[red]{case.module} {case.variant}, {case.ticks:,} ticks, {case.strategies} at once: {failure}"
        )


def main() -> None:
    """Run the rounds."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, about three minutes")
    parser.add_argument("--rounds", type=int, help="6, or 1 with --quick")
    options = parser.parse_args()
    count = options.rounds or (1 if options.quick else 6)
    ignore_output()
    console = Console()
    console = console if console.is_terminal else Console(width=150)
    console.print(header())
    cases = [*CASES, *(Case("import", statement) for statement in (BARE, OURS, USED))]
    rounds: list[Round] = []
    failures: dict[Case, str] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=count * len(cases))
        for n in range(count):
            now: Round = {}
            for case in cases:
                progress.update(task, description=f"round {n + 1}: {case.module} {case.variant}")
                try:
                    floor = {"floor": rate(run(TIGHT))} if case in BESIDE else {}
                    now[case] = run(case) | floor
                except ChildFailed as failure:
                    failures[case] = str(failure)
                progress.advance(task)
            rounds.append(now)
    sheet = Sheet(rounds, failures)
    fill(sheet)
    show(console, sheet)
    raw = [[{"case": vars(case), **result} for case, result in now.items()] for now in rounds]
    (OUT / "bench.json").write_text(
        json.dumps({"header": header(), "rows": sheet.rows, "rounds": raw}, indent=1)
    )
    console.print(f"written to {(OUT / 'bench.json').relative_to(ROOT)}")
    live(console, min(count, LIVE_ROUNDS), options.quick)
    pages(console, 8.0 if options.quick else 16.0)
    found = api.measure()
    console.print(
        f"API: {found['ratio']:.2f} of a bare FastAPI app's calls a second, {found['cpu_ratio']:.2f} by CPU; p99 "
        f"{found['ours']['p99_ms']:.1f} ms, bare {found['bare']['p99_ms']:.1f}; the limiter after 10^6 peers "
        f"{found['limiter_mb']:.1f} MB"
    )


if __name__ == "__main__":
    main()

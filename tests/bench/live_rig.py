"""What the live figures are taken with: the fault tests' rig of real processes, whose processor time, waits for a core
and memory are read from the system; workspaces that leave nothing behind; the tape they play."""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import redis

import alphapanda as ap
from alphapanda.clock import monotonic, pause, wall_ns
from alphapanda.errors import AlphaPandaException
from alphapanda.feeds.views import READERS, Progress
from alphapanda.instruments import Instrument
from tests.bench import job as sma
from tests.bench.child import ROOT, ChildFailed, Result
from tests.bench.live_strategies import SYMBOLS
from tests.rig import Rig

QUIET, QUIET_SECONDS = 0.15, 2.0  # share of the time, of so many seconds
TICK = os.sysconf("SC_CLK_TCK")
FRAME_ROWS = "BENCH_FRAME_ROWS"  # rows of a frame, for live_feed
FULL_FRAME = 1_000  # what the feed cuts frames to at most
WIDE = {  # limits that this load does not meet
    "RISK__ORDERS_PER_SECOND": 10,
    "RISK__ORDERS_PER_MINUTE": 400,
    "RISK__ORDERS_PER_DAY": 5000,
    "RISK__STRATEGY_ORDERS_PER_SECOND": 10,
    "RISK__STRATEGY_ORDERS_PER_MINUTE": 400,
    "RISK__DUPLICATE_WINDOW_MS": 1,
    "RISK__MAX_DAILY_LOSS": 5_000_000,
    "PAPER_TRADING__STARTING_CASH": 100_000_000,
}


class Use(NamedTuple):
    """Seconds of processor time of a process since its start, and seconds its threads waited for a core."""

    cpu: float
    waited: float


def use(pid: int) -> Use:
    """Of a process that may have gone: zeros."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
        fields = line.rpartition(")")[2].split()
        cpu = (int(fields[11]) + int(fields[12])) / TICK
    except OSError:
        return Use(0.0, 0.0)
    waited = 0
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError, IndexError):
                waited += int((task / "schedstat").read_text().split()[1])
    return Use(cpu, waited / 1e9)


class Memory(NamedTuple):
    """MB (10^6 bytes): resident; its proportional share of what processes share (0: not readable); the most it was."""

    rss: float
    pss: float
    peak: float


def memory(pid: int) -> Memory:
    """Of a process that may have gone: zeros."""
    found = dict.fromkeys(("VmRSS:", "Pss:", "VmHWM:"), 0.0)
    for name in ("status", "smaps_rollup"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/{name}").read_text().splitlines():
                word = line.split(None, 1)[0] if line else ""
                if word in found:
                    found[word] = int(line.split()[1]) * 1024 / 1e6
    return Memory(found["VmRSS:"], found["Pss:"], found["VmHWM:"])


def pressure() -> float:
    """Microseconds so far in which something on this machine waited for a core; 0 where the system does not tell."""
    with contextlib.suppress(OSError):
        return float(Path("/proc/pressure/cpu").read_text().split("\n")[0].rpartition("total=")[2])
    return 0.0


class Calm:
    """Waits for the machine's other users to be quiet before something is measured: ``patience`` seconds, all in
    all."""

    def __init__(self, patience: float) -> None:
        self.left = patience

    def wait(self) -> None:
        """Until hardly anything waited for a core for two seconds, or patience is over."""
        began = monotonic()
        while monotonic() - began < self.left:
            strain = pressure()
            pause(QUIET_SECONDS)
            if (pressure() - strain) / 1e6 < QUIET * QUIET_SECONDS:
                break
        self.left -= monotonic() - began


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder that is gone afterwards; its name is short, sockets lie below it."""
    made = Path(tempfile.mkdtemp(prefix="apb-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def tape(path: Path, rows: int) -> Path:
    """A saved tape of fifty instruments with quotes: the SMA job's walk, in random order of instruments."""
    job = sma.make(rows, len(SYMBOLS))
    return _saved(path, job.ts, job.instrument, job.price, job.volume)


def paired_tape(path: Path, rows: int, step_ns: int) -> Path:
    """The same, a tick every ``step_ns``, each instrument's ticks in pairs."""
    job = sma.make(rows, len(SYMBOLS))
    instrument = np.arange(rows, dtype=np.int64) // 2 % len(SYMBOLS)
    level = 150_000 + instrument * 100
    opened = int(job.ts[0])
    return _saved(path, opened + np.arange(rows, dtype=np.int64) * step_ns, instrument, level, job.volume)


def _saved(path: Path, ts: sma.Ints, instrument: sma.Ints, price: sma.Ints, volume: sma.Ints) -> Path:
    known = [Instrument(symbol=symbol, exchange="NSE") for symbol in SYMBOLS]
    quotes: dict[str, Any] = {
        "bid": price - 5,
        "ask": price + 5,
        "bid_quantity": volume,
        "ask_quantity": volume,
    }
    made = ap.Tape(known, ts=ts, instrument=instrument, price=price, volume=volume, **quotes)
    return made.save(path)


class LiveRig(Rig):
    """A rig without a ledger whose processes are measured. ``frame`` rows of a frame, where the feed's own do not do.

    Its children find ``tests``; anything else is as a user has it.
    """

    def __init__(self, root: Path, *, frame: int = FULL_FRAME, **settings: Any) -> None:
        mine = {"FEED__RECORD": 0, "PYTHONPATH": ROOT, **WIDE}
        super().__init__(root, None, **mine | ({FRAME_ROWS: frame} if frame != FULL_FRAME else {}) | settings)
        self._frame = frame

    def __enter__(self) -> LiveRig:
        self.up()
        return self

    def up(self) -> None:
        """See ``Rig``; with frames of another size the feed is ``live_feed``."""
        if self._frame == FULL_FRAME:
            return super().up()
        with (self.root / "hub.err").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.bench.live_feed", "hub", str(self.root)],
                env=self.env, cwd=self.root, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.until(lambda: self.hub.ask({"do": "ping"}, 2.0).get("state") == "ready", 40.0, "the hub serves")
        return None

    @property
    def pids(self) -> dict[str, int]:
        """Every process by role: hub, server, feed, gateway:paper, runner:RUN."""
        status = self.hub.ask({"do": "status"}, 10.0)
        found = {"hub": status["hub"]["pid"], "server": status["server"].get("pid") or 0}
        found |= {child["role"]: child["pid"] or 0 for child in status["children"]}
        return {role: pid for role, pid in found.items() if pid}

    def readers(self) -> dict[str, Progress]:
        """How far each run has read, as it told the feed."""
        found: dict[str, Progress] = {}
        with contextlib.suppress(redis.RedisError), self.server() as server:
            told: Any = server.hgetall(READERS)
            for run, said in told.items():
                with contextlib.suppress(msgspec.DecodeError):
                    found[run.decode()] = msgspec.json.decode(said, type=Progress)
        return found


def role_of(name: str) -> str:
    """``runner`` of ``runner:count-1``."""
    return name.partition(":")[0]


class Watch:
    """Looks at a rig's processes and readers again and again, and tells what they did between two moments."""

    def __init__(self, rig: LiveRig) -> None:
        self._rig = rig
        self._pids = rig.pids
        self._looks: list[tuple[int, dict[str, Use]]] = []
        self._rows: dict[str, list[tuple[int, int]]] = {}  # run: when, how far

    def look(self) -> dict[str, int]:
        """One look; how far each run is."""
        at = wall_ns()
        self._looks.append((at, {role: use(pid) for role, pid in self._pids.items()}))
        readers = self._rig.readers()
        for run, told in readers.items():
            known = self._rows.setdefault(run, [])
            if not known or told.row > known[-1][1]:
                known.append((told.at, told.row))
        return {run: told.row for run, told in readers.items()}

    def span(self, low: int, high: int) -> tuple[dict[str, float], int, int]:
        """Ticks a second of each run from row ``low`` to ``high``, and the moments between which all were there."""
        rates: dict[str, float] = {}
        begins, ends = [], []
        for run, told in self._rows.items():
            inside = [(at, row) for at, row in told if low <= row <= high]
            if len(inside) < 3:
                raise ChildFailed(f"{run} told only {len(inside)} times how far it was: use more ticks")
            (first, row), (last, end) = inside[0], inside[-1]
            rates[run] = (end - row) / (last - first) * 1e9
            begins.append(first)
            ends.append(last)
        return rates, max(begins), min(ends)

    def used(self, begin: int, end: int) -> dict[str, Use]:
        """What each process used between two moments, runners together."""
        total: dict[str, Use] = {}
        for name in self._pids:
            parts = [self._at(name, at) for at in (begin, end)]
            known = total.get(role_of(name), Use(0.0, 0.0))
            total[role_of(name)] = Use(
                known.cpu + parts[1].cpu - parts[0].cpu, known.waited + parts[1].waited - parts[0].waited
            )
        return total

    def _at(self, name: str, at: int) -> Use:
        """Between two looks, in proportion."""
        times = [when for when, _ in self._looks]
        series = [uses[name] for _, uses in self._looks]
        return Use(*(float(np.interp(at, times, column)) for column in np.array(series).T))

    def rows_between(self, begin: int, end: int) -> float:
        """Rows a run played between two moments, the mean of all runs."""
        each: list[float] = []
        for told in self._rows.values():
            at, rows = np.array(told).T
            each.append(float(np.interp(end, at, rows) - np.interp(begin, at, rows)))
        return statistics.mean(each)


def wait(true: Callable[[], Any], seconds: float, what: str, step: float = 0.05) -> Any:
    """Until it holds; ChildFailed names what did not."""
    end = wall_ns() + seconds * 1e9
    while wall_ns() < end:
        with contextlib.suppress(AlphaPandaException):
            if found := true():
                return found
        pause(step)
    raise ChildFailed(f"not within {seconds:g} s: {what}")


def share(values: Sequence[float], at: float) -> float:
    """A percentile, ``at`` 0 to 1; nan of nothing."""
    return float(np.quantile(values, at)) if values else float("nan")


def middle(rounds: Sequence[Result], name: str) -> list[float]:
    """One figure of every round that has it."""
    return [one[name] for one in rounds if one.get(name) is not None]


def per_tick(uses: Mapping[str, Use], rows: float) -> dict[str, float]:
    """Processor nanoseconds a tick by role."""
    return {role: one.cpu / rows * 1e9 for role, one in uses.items()}

"""From a tick at the feed over signal, risk and record to its fill, on the bus and in the notebook's handle; with no
cell busy, a cell in a Python loop, and a cell in one long C call. A thousand ticks a second over fifty instruments.

Both ends of the way are stream offsets: milliseconds of the server's clock at which a frame, and later the event of the
fill, were published. Only orders whose tick and whose filling tick came in one frame count, so no time of the market is
in the figure; two questions to the gateway and two writes of its record are.
"""

from __future__ import annotations

import bisect
import sqlite3
import statistics
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from alphapanda.buses.base import decode
from alphapanda.buses.frames import HEADER
from alphapanda.clock import pause, wall_ns
from alphapanda.requests import FillUpdate, Reply
from tests.bench.child import ROOT, ChildFailed, Result
from tests.bench.live_rig import Calm, LiveRig, folder, paired_tape, pressure, share, wait
from tests.test_notebooks import surroundings

if TYPE_CHECKING:
    import redis

KINDS = ("quiet", "loop", "call")
TICKS, STEP = "market.equity.ticks", 1_000_000  # ns between two ticks
FILLS = "paper.orders.filled"
SETTLE = 0.5  # seconds at the start of a phase that do not count


class Sample(msgspec.Struct):
    """Milliseconds of one order: from its tick until the gateway has judged the signal, has judged the question that
    brings the fill, has published the fill; and from there to the handle (None: it has not come there)."""

    signal: float
    fill: float
    bus: float
    handle: float | None


class Kernel:
    """A real one, spoken to as a front end does."""

    def __init__(self, rig: LiveRig, place: Path) -> None:
        from jupyter_client.manager import KernelManager

        self.manager: Any = KernelManager(kernel_name="python3")
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.manager.start_kernel(env=rig.env | surroundings(place), cwd=str(ROOT), **quiet)
        self.client: Any = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def run(self, code: str, seconds: float = 120.0) -> str:
        """What a cell printed."""
        said: list[str] = []

        def hook(message: dict[str, Any]) -> None:
            said.append(message["content"].get("text", ""))

        reply = self.client.execute_interactive(code, timeout=seconds, output_hook=hook)["content"]
        if reply["status"] != "ok":
            raise ChildFailed(f"the kernel: {reply.get('ename')}: {reply.get('evalue')}")
        return "".join(said).strip()

    def close(self) -> None:
        """End it."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


class Bus:
    """Frames and fills of a run, as the server has them, with the time of their publication."""

    def __init__(self, server: redis.Redis, run: str) -> None:
        self._server, self._run = server, run
        self._after = {TICKS: "0", FILLS: "0"}
        self.firsts: list[int] = []  # of each frame: its first row
        self.at: list[int] = []  # and when it was published, ms
        self.fills: list[
            tuple[int, str, int, int]
        ] = []  # when, signal's id, row of its tick, row that filled it

    def look(self) -> None:
        """Take what is new; to be called before the server forgets it."""
        for offset, body in self._new(TICKS):
            _, _, _, _, first, rows, *_ = HEADER.unpack_from(body)
            if rows:
                self.firsts.append(first)
                self.at.append(offset)
        for offset, body in self._new(FILLS):
            envelope = decode(body)
            if envelope.key == self._run:
                signal = envelope.data["signal"]
                self.fills.append((offset, signal, int(signal.split(":")[1]), envelope.data["seq"]))

    def _new(self, topic: str) -> list[tuple[int, bytes]]:
        found: Any = self._server.xrange(topic, f"({self._after[topic]}")
        if found:
            self._after[topic] = found[-1][0].decode()
        return [(int(offset.split(b"-")[0]), fields[b"b"]) for offset, fields in found]

    def frame_of(self, row: int) -> int:
        """Which of the frames holds a row."""
        return bisect.bisect_right(self.firsts, row) - 1


def latency(rounds: int, seconds: float, calm: Calm) -> list[Result]:
    """So many rounds of the three phases, in turning order; samples and strain by kind."""
    span = rounds * len(KINDS) * (seconds + 12) + 60 + calm.left
    with folder() as root:
        path = paired_tape(root / "tape.parquet", int(span * 1e9 / STEP), STEP)
        settings = {"FEED__SOURCE": "tape", "FEED__TAPE": path, "FEED__SPEED": 1, "FEED__WAIT_FOR_RUNS": 1}
        with LiveRig(root, **settings) as rig:
            kernel = Kernel(rig, root)
            try:
                return _rounds(rig, kernel, rounds, seconds, calm)
            finally:
                kernel.close()


def _rounds(rig: LiveRig, kernel: Kernel, rounds: int, seconds: float, calm: Calm) -> list[Result]:
    kernel.run("from tests.bench import live_kernel as cell")
    run = kernel.run(f"cell.begin({str(rig.root)!r})")
    wait(lambda: rig.document(f"paper:run:{run}").get("counts", {}).get("fills", 0) > 10, 40, "ten fills")
    bus, noted = Bus(rig.server(), run), rig.root / "noted.json"
    phases: list[list[tuple[str, int, int, float]]] = []
    seen: list[tuple[int, int, int]] = []
    for number in range(rounds):
        phases.append([])
        for kind in KINDS[number % 3 :] + KINDS[: number % 3]:
            calm.wait()
            bus.look()
            begin, strain = wall_ns(), pressure()
            if kind == "quiet":
                pause(seconds)
            else:
                kernel.run(f"cell.{kind}({seconds})", seconds * 5 + 60)
            end = wall_ns()
            phases[-1].append((kind, begin, end, (pressure() - strain) / (end - begin) * 1e3))
            pause(1.0)
            kernel.run(f"cell.tell({str(noted)!r})")
            seen += msgspec.json.decode(noted.read_bytes(), type=list[tuple[int, int, int]])
            bus.look()
    if (document := rig.document(f"paper:run:{run}"))["state"] != "running":
        raise ChildFailed(f"the run is {document['state']}: {document['reason']}")
    recorded = _recorded(rig, run)
    return [_round(phase, bus, seen, recorded) for phase in phases]


def _recorded(rig: LiveRig, run: str) -> dict[str, int]:
    """When the gateway put each signal on record, and each fill under its signal's id and ``/fill``; wall ns."""
    journal = sqlite3.connect(f"file:{rig.workspace.journal('paper')}?mode=ro", uri=True)
    found: dict[str, int] = {}
    with journal:
        rows = "SELECT id, at, reply FROM entry WHERE run = ? AND kind = 'request'"
        for identity, at, reply in journal.execute(rows, (run,)):
            found[identity] = at
            for update in msgspec.msgpack.decode(reply, type=Reply).updates:
                if isinstance(update, FillUpdate):
                    found[f"{update.order_id}/fill"] = at
    return found


def _round(
    phases: list[tuple[str, int, int, float]],
    bus: Bus,
    seen: list[tuple[int, int, int]],
    recorded: dict[str, int],
) -> Result:
    found: Result = {}
    counts = [fills for _, _, fills in seen]
    for kind, begin, end, strain in phases:
        samples: list[Sample] = []
        split = 0
        for number, (at, signal, row, filled) in enumerate(bus.fills, 1):
            if not begin / 1e6 + SETTLE * 1e3 <= at <= end / 1e6:
                continue
            frame = bus.frame_of(row)
            if frame != bus.frame_of(filled):
                split += 1
                continue
            told = bisect.bisect_left(counts, number)
            shown = seen[told][0] / 1e6 - at if told < len(seen) else None
            published = bus.at[frame]
            judged, met = (recorded[name] / 1e6 - published for name in (signal, f"{signal}/fill"))
            samples.append(Sample(judged, met, at - published, shown))
        found[kind] = {"samples": samples, "split": split, "strain": strain}
    return found


def figures(rounds: list[Result]) -> Result:
    """Percentiles of all rounds' samples by kind, and the busy kinds' as multiples of the quiet one's."""
    made: Result = {}
    for kind in KINDS:
        samples = [sample for one in rounds for sample in one[kind]["samples"]]
        handle = [sample.handle for sample in samples if sample.handle is not None]
        made[kind] = {
            "count": len(samples),
            "split": sum(one[kind]["split"] for one in rounds),
            "strain": statistics.median(one[kind]["strain"] for one in rounds),
            **_percentiles("signal", [sample.signal for sample in samples]),
            **_percentiles("fill", [sample.fill for sample in samples]),
            **_percentiles("bus", [sample.bus for sample in samples]),
            **_percentiles("handle", handle),
        }
    for kind in KINDS[1:]:
        each = [_p99(one, kind) / _p99(one, "quiet") for one in rounds]
        made[kind] |= {
            "times": made[kind]["bus_p99"] / made["quiet"]["bus_p99"],
            "times_least": min(each),
            "times_most": max(each),
        }
    return made


def _p99(one: Result, kind: str) -> float:
    return share([sample.bus for sample in one[kind]["samples"]], 0.99)


def _percentiles(name: str, values: list[float]) -> Result:
    return {f"{name}_p50": share(values, 0.5), f"{name}_p99": share(values, 0.99)}

"""One measurement in one fresh process: the child prints a line of JSON, the parent reads it."""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / ".bench"
MARK = "BENCH "

Result = dict[str, Any]


class ChildFailed(RuntimeError):
    """A measured process did not deliver; the message is its last words."""


def arguments(*variants: str) -> argparse.Namespace:
    """The options every child takes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("variant", choices=variants)
    parser.add_argument("--ticks", type=int, default=1_000_000)
    parser.add_argument("--instruments", type=int, default=10)
    parser.add_argument("--strategies", type=int, default=1)
    return parser.parse_args()


def peak_mb() -> float:
    """The process' peak resident memory so far, or since ``forget_peak``."""
    status = Path("/proc/self/status")
    if status.exists():
        return (
            next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
            / 1024
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def resident_mb() -> float:
    """Resident memory now; the peak so far where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return peak_mb()
    return (
        next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmRSS"))
        / 1024
    )


def forget_peak() -> None:
    """Let the next ``peak_mb`` speak of what comes from here on (Linux; elsewhere the old peak stays)."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def timed(run: Callable[[], Any]) -> tuple[Any, Result]:
    """Call ``run`` once; CPU is user + system of this process with all its threads."""
    wall, cpu = time.perf_counter(), time.process_time()
    value = run()
    return value, {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall, "peak_mb": peak_mb()}


def tell(result: Result) -> None:
    """The child's answer."""
    print(MARK + json.dumps(result), flush=True)


def measure(
    module: str, variant: str, *, python: str = sys.executable, timeout: float = 600, **options: int
) -> Result:
    """Run ``python -m tests.bench.MODULE VARIANT --option value...`` and return what it told."""
    command = [python, "-m", f"tests.bench.{module}", variant]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    environment = os.environ | {"PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT)}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        raise ChildFailed(f"{module} {variant}: no answer within {timeout:.0f} s") from None
    for line in done.stdout.splitlines():
        if line.startswith(MARK):
            return json.loads(line.removeprefix(MARK))
    said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
    raise ChildFailed(f"{module} {variant}: {said}")

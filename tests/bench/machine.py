"""What was measured on: one line for the tables' heads; and the folder the results go to."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

from tests.bench.child import OUT


def header() -> str:
    """Processor, cores, load, Python and the versions that matter."""
    model = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.partition(":")[2].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        model = names[0] if names else model
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("msgspec", "numpy", "polars")
    )
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return (
        f"{model}, {os.cpu_count()} cores (load {load:.1f}), {platform.system()}, "
        f"{platform.python_implementation()} {platform.python_version()}, {versions}"
    )


def ignore_output() -> None:
    """Make ``.bench`` and let git look away from it."""
    OUT.mkdir(exist_ok=True)
    (OUT / ".gitignore").write_text("*\n")

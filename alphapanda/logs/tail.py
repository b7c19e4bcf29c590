"""The end of a channel's file, and what is added to it, for whoever shows lines to people."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

Facts = Mapping[str, Any]


class Tail:
    """The end of one channel's file, also when it is set aside for a new one."""

    def __init__(self, path: Path, run: str | None) -> None:
        self.path, self.run = path, run
        self._at, self._file = 0, 0

    def last(self, count: int) -> list[tuple[str, Facts]]:
        """So many lines of now and of the file before."""
        older = sorted(self.path.parent.glob(f"{self.path.stem}.*.jsonl"))[-1:]
        found = [line for path in older for line in self._parsed(_end_of(path, 2_000_000)[0])]
        text, self._at, self._file = _end_of(self.path, 4_000_000)
        return (found + self._parsed(text))[-count:] if count > 0 else []

    def new(self) -> list[tuple[str, Facts]]:
        """What was added since."""
        try:
            with self.path.open("rb") as file:
                facts = os.fstat(file.fileno())
                if facts.st_ino != self._file or facts.st_size < self._at:
                    self._at, self._file = 0, facts.st_ino
                file.seek(self._at)
                data = file.read(4_000_000)
        except OSError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._at += len(whole)
        return self._parsed(whole)

    def _parsed(self, data: bytes) -> list[tuple[str, Facts]]:
        found: list[tuple[str, Facts]] = []
        for line in data.splitlines():
            with contextlib.suppress(msgspec.MsgspecError):
                facts = msgspec.json.decode(line, type=dict[str, Any])
                if self.run is None or self.run in (
                    facts.get("run"),
                    str(facts.get("role")).partition(":")[2],
                ):
                    found.append((str(facts.get("ts", "")), facts))
        return found


def _end_of(path: Path, size: int) -> tuple[bytes, int, int]:
    """The end of a file from a line's begin on, its length and which file it is."""
    try:
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            file.seek(max(0, facts.st_size - size))
            data = file.read()
    except OSError:
        return b"", 0, 0
    whole = data[: data.rfind(b"\n") + 1]
    cut = whole.find(b"\n") + 1 if facts.st_size > size else 0
    return whole[cut:], facts.st_size - (len(data) - len(whole)), facts.st_ino

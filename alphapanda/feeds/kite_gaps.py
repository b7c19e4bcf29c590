"""What the ticker missed on a day, and the minutes that Kite's historical candles filled in afterwards.

    for gap in ap.gaps("2026-11-20"):
        gap.start, gap.end, gap.symbols, gap.bars, gap.left_out

One file a day lies beside the day's tape, ``2026-11-20.gaps``: a JSON document a line, only ever added to. It is no
part of the tape and nothing that decides reads it: no strategy saw these minutes, so a rerun must not see them either.
"""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import msgspec

from alphapanda.events import Bar, ist
from alphapanda.workspace import Workspace

SUFFIX = ".gaps"


class Missed(msgspec.Struct, frozen=True, tag="missed"):
    """The ticker was away from ``start`` to ``end`` (ns at the venue) on one day; ``number`` counts within the file."""

    number: int
    start: int
    end: int
    reason: str
    symbols: tuple[str, ...]


class Refilled(msgspec.Struct, frozen=True, tag="refilled"):
    """The closed one-minute candles of one symbol that a gap touches. The first and the last of them hold what was
    heard of their minute as well."""

    number: int
    symbol: str
    bars: tuple[Bar, ...]


class Settled(msgspec.Struct, frozen=True, tag="settled"):
    """Nothing more will be asked for a gap. ``left_out`` says of each symbol without candles why."""

    number: int
    left_out: dict[str, str] = {}


Line = Missed | Refilled | Settled
_line = msgspec.json.Decoder(Line)


class RecordedGap(msgspec.Struct, frozen=True):
    """A gap as its day's file has it. ``bars`` are candles fetched afterwards, by symbol and time, in rupees;
    ``left_out`` says why a symbol has none; ``settled`` is false while some may still come."""

    start: int
    end: int
    reason: str
    symbols: tuple[str, ...]
    bars: tuple[Bar, ...]
    left_out: dict[str, str]
    settled: bool


class GapFile:
    """One day's file; one process writes it."""

    def __init__(self, folder: Path, day: dt.date) -> None:
        self.path = folder / f"{day}{SUFFIX}"

    def lines(self) -> list[Line]:
        """What is on record, but for a line that a power failure tore."""
        found: list[Line] = []
        for raw in self.path.read_bytes().splitlines() if self.path.exists() else ():
            try:
                found.append(_line.decode(raw))
            except (msgspec.MsgspecError, ValueError):
                continue
        return found

    def add(self, line: Line) -> None:
        """On disk when this returns. Raises OSError."""
        with self.path.open("ab+") as file:
            if size := file.seek(0, os.SEEK_END):
                file.seek(size - 1)
                torn = file.read(1) != b"\n"
                file.write(b"\n" if torn else b"")
            file.write(msgspec.json.encode(line) + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def open_gap(self, start: int, end: int, reason: str, symbols: tuple[str, ...]) -> Missed:
        """Put a gap on record under the next number. Raises OSError."""
        number = 1 + max((line.number for line in self.lines()), default=-1)
        missed = Missed(number, start, end, reason, symbols)
        self.add(missed)
        return missed


def gaps(day: dt.date | str, *, workspace: Path | None = None) -> list[RecordedGap]:
    """The gaps of an IST day in Kite's ticks, with the minute candles that were fetched for them, oldest first.

    ``workspace`` is its folder, if not the current one. No gaps for a day that is not on record. Raises ValueError for
    text that is no ISO date.
    """
    wanted = dt.date.fromisoformat(day) if isinstance(day, str) else day
    lines = GapFile(Workspace.find(workspace).tapes, wanted).lines()
    found: list[RecordedGap] = []
    for one in sorted((line for line in lines if isinstance(line, Missed)), key=lambda line: line.start):
        mine = [line for line in lines if line.number == one.number]
        bars = {
            (bar.symbol, bar.start): bar for line in mine if isinstance(line, Refilled) for bar in line.bars
        }
        ends = [line for line in mine if isinstance(line, Settled)]
        found.append(
            RecordedGap(
                one.start, one.end, one.reason, one.symbols,
                bars=tuple(bars[key] for key in sorted(bars)),
                left_out=ends[-1].left_out if ends else {},
                settled=bool(ends),
            )
        )  # fmt: skip
    return found


def day_of(ts: int) -> dt.date:
    """The IST day of a time (ns)."""
    return ist(ts).date()

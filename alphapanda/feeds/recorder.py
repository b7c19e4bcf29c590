"""Each day's frames of the tape log, sealed as one tape: ``tapes/2026-11-20.parquet``.

Run in a process of its own, so that a day's columns never lie in the feed's memory. A tape is read back and compared
by digest before its log may be dropped. The note of its first row's number ties the tape's rows to the log's.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alphapanda.buses.frames import COLUMNS, KINDS, Frame
from alphapanda.buses.tapelog import SUFFIX, Table, TapeLog, frames_of
from alphapanda.errors import DataError
from alphapanda.tapes.tape import Tape

NOTE = "recorded from the feed; first row "


def seal(folder: Path, day: dt.date) -> Path | None:
    """Seal one day of the log in ``folder``; None for a day without ticks. What is sealed already stays.

    Raises DataError for a day that is not in the log, a file in the way that is no recording, and a tape that does not
    read back as it was written.
    """
    log = folder / f"{day}{SUFFIX}"
    if not log.is_file():
        known = ", ".join(path.stem for path in TapeLog(folder).files())
        raise DataError(f"{log}: no such log", fix=f"days that are kept: {known or 'none'}", file=str(log))
    path = folder / f"{day}.parquet"
    first, rows, names = _extent(log)
    if not rows:
        return None
    if path.exists() and _recorded(path, first) == rows:
        return path
    tape = _tape(log, first, rows, names)
    tape.save(path)
    saved = Tape.open(path)
    read = sum(len(block) for block in saved.blocks())  # each chunk is compared with its digest on the way
    if saved.digest != tape.digest or read != rows:
        raise DataError(
            f"{path}: does not read back as it was written",
            fix="check the disk, then seal it again",
            file=str(path),
        )
    return path


def drop(folder: Path, day: dt.date) -> None:
    """Remove a day's log, once its tape is proved to hold every tick of it. DataError otherwise, and for the newest
    log: from that one the feed counts on."""
    log = folder / f"{day}{SUFFIX}"
    if log in TapeLog(folder).files()[-1:]:
        raise DataError(f"{log}: is the newest log", fix="keep it until the next day is begun", file=str(log))
    path = folder / f"{day}.parquet"
    first, rows, names = _extent(log)
    if rows and (not path.exists() or Tape.open(path).digest != _tape(log, first, rows, names).digest):
        raise DataError(f"{path}: is not the tape of {log.name}", fix="seal the day first", file=str(path))
    log.unlink()


def _extent(log: Path) -> tuple[int, int, list[str]]:
    """Number of the first row, how many there are, and which columns any of them has."""
    first = rows = 0
    names: set[str] = set()
    for one in frames_of(log):
        if isinstance(one, Frame) and len(one.block):
            first = first if rows else one.block.first
            rows += len(one.block)
            names.update(name for name in COLUMNS if getattr(one.block, name) is not None)
    return first, rows, [name for name in COLUMNS if name in names]


def _tape(log: Path, first: int, rows: int, names: list[str]) -> Tape:
    columns: dict[str, npt.NDArray[Any]] = {name: np.zeros(rows, KINDS[name]) for name in names}
    table = Table(0, 0, ())
    at = 0
    for one in frames_of(log):
        if isinstance(one, Table):
            table = one
            continue
        end = at + len(one.block)
        for name, column in columns.items():
            part = getattr(one.block, name)
            if part is not None:
                column[at:end] = part
        at = end
    used = np.unique(columns["instrument"])
    columns["instrument"] = np.searchsorted(used, columns["instrument"])
    instruments = [one for n, one in enumerate(table.instruments) if n in used]
    return Tape(instruments, notes=[f"{NOTE}{first}"], **columns)  # pyright: ignore[reportArgumentType]  # names and kinds are Block's


def _recorded(path: Path, first: int) -> int:
    """Rows of the recording in the way; 0 for one of other rows. DataError if it is no recording of ours."""
    tape = Tape.open(path)
    notes = [note for note in tape.notes if note.startswith(NOTE)]
    if not notes:
        raise DataError(f"{path}: is no recording of the feed", fix="move it away", file=str(path))
    return tape.rows if notes == [f"{NOTE}{first}"] else 0

"""The tape log: every frame the feed hands out, on disk before anybody sees it.

The bus carries ticks; this keeps them. Whoever missed some (a reader that was away, a server that lost its memory, a
runner that starts in the afternoon and wants the morning) reads them here. One file for each day of tape time, named
``2026-11-20.ticks``: records of length, CRC-32 and bytes, the first of them the table of instruments. Written through
the page cache: it survives the death of any process, and loses what the system had not written when power goes.
"""

from __future__ import annotations

import datetime as dt
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from alphapanda.buses.frames import HEADER, Frame, pack, unpack
from alphapanda.errors import DataError
from alphapanda.events import ist_day
from alphapanda.instruments import Instrument

RECORD = struct.Struct("<II")  # length and CRC-32 of what follows
SUFFIX = ".ticks"
FRAME, TABLE = b"F", b"I"
EPOCH = dt.date(1970, 1, 1)


class Table(msgspec.Struct, frozen=True):
    """The first record of a file, and one more whenever the feed learns of instruments: the whole table so far."""

    after: int  # number of the frame before this record
    row: int  # number of the next row
    instruments: tuple[Instrument, ...]


class TapeLog:
    """Reads the log of one folder; ``Writer`` writes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.table: tuple[Instrument, ...] = ()  # of the frames that ``read`` gave so far
        self._file: BinaryIO | None = None  # where the last read stopped
        self._path: Path | None = None
        self._after = -1

    def files(self) -> list[Path]:
        """The log's files in order of days."""
        return sorted(self.folder.glob(f"*{SUFFIX}"))

    def before(self, path: Path) -> int:
        """The number of the frame before the first one of a file."""
        return _table(next(_records(path))).after

    def instruments(self) -> tuple[Instrument, ...]:
        """The newest table of instruments; empty before the feed's first frame."""
        found: tuple[Instrument, ...] = ()
        for path in self.files()[-1:]:
            for record in _records(path):
                if record[:1] == TABLE:
                    found = _table(record).instruments
        return found

    def last(self) -> Frame | None:
        """The newest whole frame."""
        for path in reversed(self.files()):
            newest = None
            for record in _records(path):
                if record[:1] == FRAME:
                    newest = record
            if newest is not None:
                return unpack(newest[8:]).frame
        return None

    def read(self, after: int = 0, limit: int | None = None) -> Iterator[Frame]:
        """The frames after number ``after``, oldest first; stops at the end of what is written, or after ``limit``.

        Asked for what follows the last frame it gave, it goes on where it stood. Raises DataError where frames that
        were asked for are no longer kept.
        """
        if self._file is None or after != self._after:
            self._seek(after)
        given = 0
        while self._file is not None and (limit is None or given < limit):
            place = self._file.tell()
            record = _record(self._file)
            if record is None:
                self._file.seek(place)
                later = [
                    path for path in self.files() if self._path is not None and path.name > self._path.name
                ]
                if not later:
                    return
                self._open(later[0])
                continue
            if record[:1] == TABLE:
                self.table = _table(record).instruments
            if record[:1] != FRAME or _number(record) <= after:
                continue
            self._after = after = _number(record)
            given += 1
            yield unpack(record[8:]).frame

    @property
    def size(self) -> int:
        """Bytes of the file that ``read`` stands in, also of what it has not given yet."""
        return 0 if self._file is None else os.fstat(self._file.fileno()).st_size

    def _seek(self, after: int) -> None:
        chosen: Path | None = None
        begins = 0
        for path in self.files():
            head = next(_records(path), None)
            if head is None:
                continue
            table = _table(head)
            if chosen is None or table.after <= after:
                chosen, begins = path, table.after
        if chosen is None:
            self._file = None
            return
        if begins > after:
            raise DataError(
                f"frames {after + 1} to {begins} are no longer in {self.folder}",
                fix="read that day from its sealed tape",
                file=str(self.folder),
            )
        self._open(chosen)
        self._after = after

    def _open(self, path: Path) -> None:
        self.close()
        self._file, self._path = path.open("rb"), path

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


class Writer:
    """The one writer of a log: goes on after the last whole record, whatever killed the writer before it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor = -1
        self._day = -1
        log = TapeLog(folder)
        for path in log.files():
            if not has_table(path):  # made by a writer that was killed before it could say what is in it
                path.unlink()
        last = log.last()
        self.number = last.number if last else 0
        self.rows = last.end if last else 0
        self.clock = last.clock if last else 0
        self.instruments = log.instruments()
        if log.files():
            path = log.files()[-1]
            self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
            os.truncate(path, _sound_length(path))
            self._day = (dt.date.fromisoformat(path.stem) - EPOCH).days

    def widen(self, instruments: Sequence[Instrument]) -> None:
        """The feed's table has grown: it may only grow at its end."""
        if tuple(instruments[: len(self.instruments)]) != self.instruments:
            raise DataError(
                "the feed's table of instruments may only grow",
                fix="start a new workspace for another universe",
            )
        self.instruments = tuple(instruments)
        if self._descriptor >= 0:
            self._write(self._table())

    def append(self, frame: Frame) -> None:
        """Write one frame whole. OSError when the disk refuses: nothing of it stays behind."""
        day = ist_day(frame.clock)
        if day > self._day:
            self._begin(day)
        self._write(FRAME + bytes(7) + pack(frame))
        self.number, self.rows, self.clock = frame.number, frame.end, frame.clock

    def _begin(self, day: int) -> None:
        self.close()
        path = self._folder / f"{EPOCH + dt.timedelta(days=day)}{SUFFIX}"
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._write(self._table())
        except OSError:
            os.close(self._descriptor)
            self._descriptor = -1
            path.unlink()
            raise
        self._day = day

    def _table(self) -> bytes:
        return TABLE + bytes(7) + msgspec.json.encode(Table(self.number, self.rows, self.instruments))

    def _write(self, record: bytes) -> None:
        data = RECORD.pack(len(record), zlib.crc32(record)) + record
        size = os.fstat(self._descriptor).st_size
        written = 0
        try:
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
        except OSError:
            os.ftruncate(self._descriptor, size)
            raise

    def close(self) -> None:
        """Make what was written safe from a power cut too, and let go."""
        if self._descriptor >= 0:
            os.fsync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


def _record(file: BinaryIO) -> bytes | None:
    head = file.read(RECORD.size)
    if len(head) < RECORD.size:
        return None
    length, crc = RECORD.unpack(head)
    record = file.read(length)
    return record if len(record) == length and zlib.crc32(record) == crc else None


def _records(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while (record := _record(file)) is not None:
            yield record


def _sound_length(path: Path) -> int:
    with path.open("rb") as file:
        end = 0
        while _record(file) is not None:
            end = file.tell()
    return end


def has_table(path: Path) -> bool:
    """Whether a file of the log has begun: one that is just being made may not have."""
    first = next(_records(path), b"")
    return first[:1] == TABLE


def _number(record: bytes) -> int:
    return HEADER.unpack_from(record, 8)[1]


def _table(record: bytes) -> Table:
    if record[:1] != TABLE:
        raise DataError("a tape log does not begin with its instruments", fix="move the file away")
    return msgspec.json.decode(record[8:], type=Table)


def frames_of(log: Path) -> Iterator[Frame | Table]:
    """The records of one day's file, in order; what a power cut tore off is left out."""
    with log.open("rb") as file:
        while len(head := file.read(RECORD.size)) == RECORD.size:
            record = file.read(RECORD.unpack(head)[0])
            if record[:1] == TABLE:
                yield msgspec.json.decode(record[8:], type=Table)
            elif record[:1] == FRAME:
                yield unpack(record[8:]).frame

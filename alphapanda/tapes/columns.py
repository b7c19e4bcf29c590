"""Where a tape's columns come from: memory, a sealed file, or other sources filtered, joined or merged while reading.

A source hands out pieces: dicts of equally long numpy columns, sorted by time over all pieces. Only ``FileSource``
touches the disk; it compares every chunk's digest before it hands the chunk out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from alphapanda.errors import DataError
from alphapanda.events import DAY, IST_OFFSET_NS, Ints
from alphapanda.instruments import Instrument

if TYPE_CHECKING:
    import polars as pl

CHUNK = 65_536  # rows a digest covers, and rows in a row group of the file
FORMAT = "alphapanda.tape/1"
HEADER_KEY = "alphapanda.tape"
SEAL_MARK = b"APSEAL1\n"
SEAL_SIZE = (
    len(SEAL_MARK) + 64
)  # the mark, the digest of all bytes before it, the digest of all bytes after it
REQUIRED = ("ts", "instrument", "price")
OPTIONAL = ("volume", "bid", "ask", "bid_quantity", "ask_quantity", "inside")
NAMES = REQUIRED + OPTIONAL

Columns = dict[str, npt.NDArray[Any]]


class Facts(msgspec.Struct, frozen=True):
    """Size and span of some ticks: rows, first and last time in ns, IST days since the epoch."""

    rows: int
    first_ts: int
    last_ts: int
    days: tuple[int, ...]


class Header(msgspec.Struct, frozen=True):
    """What a tape file says about itself; ``starts`` and ``chunks`` hold each chunk's first time and digest."""

    format: str
    columns: tuple[str, ...]
    instruments: str
    facts: Facts
    starts: tuple[int, ...]
    chunks: tuple[str, ...]
    digest: str
    notes: tuple[str, ...]


# ── where the columns come from ──────────────────────────────────────────────────────────────────────────────────────


class Source(Protocol):
    """Sorted columns, piece by piece; every piece has all of ``names``, one length, and at least one row."""

    in_memory: bool

    @property
    def names(self) -> tuple[str, ...]: ...

    def facts(self) -> Facts: ...

    def pieces(self, low: int | None = None) -> Iterator[Columns]:
        """All rows in order; a source may leave out whole pieces before the time ``low``."""
        ...


class MemorySource:
    in_memory = True

    def __init__(self, columns: Columns) -> None:
        for array in columns.values():
            array.setflags(write=False)
        self.columns = columns

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.columns)

    def facts(self) -> Facts:
        ts = self.columns["ts"]
        return Facts(len(ts), int(ts[0]), int(ts[-1]), _days(ts))

    def pieces(self, low: int | None = None) -> Iterator[Columns]:
        yield self.columns


class FileSource:
    """One saved tape: the header is verified here, each chunk when it is read."""

    in_memory = False

    def __init__(self, path: Path) -> None:
        import polars as pl

        self.path = path
        if not path.is_file():
            raise DataError(f"{path}: no such file", fix="pass the path of a saved tape", file=str(path))
        self._proved: tuple[int, int] | None = None
        self._body = _prove_footer(path)
        try:
            text = pl.read_parquet_metadata(path)[HEADER_KEY]
        except (
            pl.exceptions.PolarsError,
            pl.exceptions.PanicException,
            OSError,
            ValueError,
            KeyError,
        ) as error:
            altered(path, f"its header cannot be read ({_first_line(error)})")
        try:
            self.header = msgspec.json.decode(text, type=Header)
        except msgspec.DecodeError as error:
            raise DataError(
                f"{path}: a tape of another format ({error})",
                fix="save it again with this version",
                file=str(path),
            ) from None
        if self.header.format != FORMAT:
            raise DataError(
                f"{path}: tape format {self.header.format!r}, this version reads {FORMAT!r}",
                fix="save it again with this version",
                file=str(path),
            )

    def _prove_body(self) -> None:
        """Compares the digest of the file's bytes, once: a damaged page must not reach the decoder."""
        stat = self.path.stat()
        if self._proved == (stat.st_size, stat.st_mtime_ns):
            return
        seal = hashlib.blake2b(digest_size=32)
        left, expected = self._body
        with self.path.open("rb") as file:
            while left and (data := file.read(min(left, 1 << 20))):
                seal.update(data)
                left -= len(data)
        if left or seal.digest() != expected:
            altered(self.path, f"the bytes of its {len(self.header.chunks)} chunks do not match their seal")
        self._proved = stat.st_size, stat.st_mtime_ns

    @property
    def names(self) -> tuple[str, ...]:
        return self.header.columns

    def facts(self) -> Facts:
        return self.header.facts

    def pieces(self, low: int | None = None) -> Iterator[Columns]:
        import polars as pl

        self._prove_body()
        header = self.header
        begin = 0 if low is None else max(0, int(np.searchsorted(header.starts, low)) - 1)
        for number in range(begin, len(header.chunks)):
            rows = min(CHUNK, header.facts.rows - number * CHUNK)
            try:
                whole = pl.scan_parquet(self.path, glob=False, hive_partitioning=False, use_statistics=False)
                frame = whole.select(header.columns).slice(number * CHUNK, rows).collect()
                columns: Columns = {}
                for name in header.columns:
                    # a writable or converted column would be another dtype: the digest below would not match
                    columns[name] = frame[name].to_physical().to_numpy()
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
                altered(self.path, f"chunk {number} cannot be read ({_first_line(error)})", number)
            if len(frame) != rows or chunk_digest(columns) != header.chunks[number]:
                altered(
                    self.path,
                    f"chunk {number} (rows {number * CHUNK + 1:,} and on) is not what was saved",
                    number,
                )
            yield columns


class PickedSource:
    """Another source's ticks of some instruments and times, renumbered, with columns it lacks filled with zeros."""

    def __init__(
        self,
        base: Source,
        lookup: Ints,
        low: int | None,
        high: int | None,
        names: tuple[str, ...] = (),
    ) -> None:
        self.base, self.lookup, self.low, self.high = base, lookup, low, high
        self._names = names or base.names
        self._everything = low is None and high is None and bool(np.all(lookup >= 0))
        self._same = bool(np.array_equal(lookup, np.arange(len(lookup))))
        self.in_memory = base.in_memory

    @property
    def names(self) -> tuple[str, ...]:
        return self._names

    def facts(self) -> Facts:
        if self._everything:
            return self.base.facts()
        first, last, rows, days = 0, 0, 0, tuple[int, ...]()
        for piece in self.pieces():
            ts = piece["ts"]
            first, last = first if rows else int(ts[0]), int(ts[-1])
            rows += len(ts)
            days = tuple(dict.fromkeys(days + _days(ts)))
        return Facts(rows, first, last, days)

    def pieces(self, low: int | None = None) -> Iterator[Columns]:
        for piece in self.base.pieces(self.low if low is None else low):
            ts = piece["ts"]
            begin = 0 if self.low is None else int(np.searchsorted(ts, self.low))
            end = len(ts) if self.high is None else int(np.searchsorted(ts, self.high))
            if begin < end:
                part = {n: a[begin:end] for n, a in piece.items()}
                index = part["instrument"] if self._same else self.lookup[part["instrument"]]
                part["instrument"] = index
                if not self._everything and not np.all(mask := index >= 0):
                    part = {n: a[mask] for n, a in part.items()}
                if len(part["ts"]):
                    missing = {
                        n: np.zeros(len(part["ts"]), _numpy_dtype(n)) for n in self._names if n not in part
                    }
                    yield {n: missing[n] if n in missing else part[n] for n in self._names}
            if end < len(ts):
                return


class ChainSource:
    """Sources that do not overlap, one after another."""

    in_memory = False

    def __init__(self, parts: Sequence[Source]) -> None:
        self.parts = parts

    @property
    def names(self) -> tuple[str, ...]:
        return self.parts[0].names

    def facts(self) -> Facts:
        return _sum_of(self.parts)

    def pieces(self, low: int | None = None) -> Iterator[Columns]:
        for part in self.parts:
            if low is None or part.facts().last_ts >= low:
                yield from part.pieces(low)


class MergeSource:
    """Sources that overlap, merged by time while reading; one piece of each is held. Ties keep the sources' order."""

    in_memory = False

    def __init__(self, parts: Sequence[Source]) -> None:
        self.parts = parts

    @property
    def names(self) -> tuple[str, ...]:
        return self.parts[0].names

    def facts(self) -> Facts:
        return _sum_of(self.parts)

    def pieces(self, low: int | None = None) -> Iterator[Columns]:
        feeds = [part.pieces(low) for part in self.parts]
        held = [next(feed, None) for feed in feeds]
        live = [h is not None for h in held]
        while any(h is not None for h in held):
            # a source that may go on can still bring rows at its last time: only earlier ones are settled
            bound = min(
                (int(h["ts"][-1]) for h, on in zip(held, live, strict=True) if h is not None and on),
                default=None,
            )
            settled: list[Columns] = []
            for n, columns in enumerate(held):
                if columns is None:
                    continue
                ts = columns["ts"]
                cut = len(ts) if bound is None else int(np.searchsorted(ts, bound))
                if cut:
                    settled.append({k: a[:cut] for k, a in columns.items()})
                rest = {k: a[cut:] for k, a in columns.items()} if cut < len(ts) else None
                if live[n] and rest is not None and int(ts[-1]) == bound:
                    more = next(feeds[n], None)
                    live[n] = more is not None
                    rest = rest if more is None else joined_columns([rest, more])
                held[n] = rest
            if settled:
                yield reordered(joined_columns(settled))


# ── columns ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _numpy_dtype(name: str) -> npt.DTypeLike:
    return np.bool_ if name == "inside" else np.int64


def polars_dtype(name: str) -> pl.DataType:
    import polars as pl

    if name == "ts":
        return pl.Datetime("ns", "UTC")
    return pl.Boolean() if name == "inside" else pl.Int64()


def to_frame(columns: Columns) -> pl.DataFrame:
    import polars as pl

    return pl.DataFrame([pl.Series(n, a).cast(polars_dtype(n)) for n, a in columns.items()])


def frozen_column(name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    want = np.dtype(_numpy_dtype(name))
    given = np.asarray(array)
    if given.dtype != want or given.ndim != 1:
        raise DataError(
            f"column {name!r} is {given.dtype} of {given.ndim} dimensions, a tape holds {want} columns",
            fix="convert it to units, or read it with ap.read_ticks(frame)",
            column=name,
        )
    base = given.base
    writable = given.flags.writeable or (isinstance(base, np.ndarray) and base.flags.writeable)
    return np.array(given) if writable else np.ascontiguousarray(given)


def check_columns(columns: Columns, instruments: tuple[Instrument, ...]) -> None:
    for name in REQUIRED:
        if name not in columns:
            raise DataError(f"column {name!r} is missing", fix=f"pass {name}=", column=name)
    rows = len(columns["ts"])
    for name, array in columns.items():
        if len(array) != rows:
            raise DataError(
                f"column {name!r} has {len(array)} rows, 'ts' has {rows}", fix="pass one length", column=name
            )
    if not rows:
        raise DataError("a tape without ticks", fix="pass at least one tick")
    symbols = [i.symbol for i in instruments]
    if len(set(symbols)) != len(symbols):
        raise DataError("two instruments have one symbol", fix="name each instrument once", symbols=symbols)
    late = np.flatnonzero(np.diff(columns["ts"]) < 0)
    index = columns["instrument"]
    for name, bad, problem, fix in (
        ("ts", late + 1, "is earlier than the row before", "sort by time first, stably"),
        (
            "instrument",
            np.flatnonzero((index < 0) | (index >= len(instruments))),
            f"is no index into {len(instruments)} instruments",
            "count instruments from 0",
        ),
    ):
        if len(bad):
            row = int(bad[0])
            raise DataError(
                f"column {name!r}, row {row + 1}: {columns[name][row]} {problem}",
                fix=fix,
                column=name,
                row=row + 1,
            )


def joined_columns(pieces: list[Columns]) -> Columns:
    if len(pieces) == 1:
        return pieces[0]
    return {name: np.concatenate([p[name] for p in pieces]) for name in pieces[0]}


def reordered(columns: Columns) -> Columns:
    order = np.argsort(columns["ts"], kind="stable")
    return {name: array[order] for name, array in columns.items()}


def rechunk(pieces: Iterable[Columns], size: int = CHUNK) -> Iterator[Columns]:
    """The same rows in pieces of exactly ``size``, the last one shorter; copies only across a seam."""
    held: list[Columns] = []
    count = 0
    for piece in pieces:
        rows, low = len(piece["ts"]), 0
        while low < rows:
            high = min(rows, low + size - count)
            held.append({n: a[low:high] for n, a in piece.items()})
            count += high - low
            low = high
            if count == size:
                yield joined_columns(held)
                held, count = [], 0
    if held:
        yield joined_columns(held)


def _days(ts: Ints) -> tuple[int, ...]:
    day = (ts + IST_OFFSET_NS) // DAY
    changes = np.flatnonzero(np.diff(day)) + 1
    return tuple(int(d) for d in day[np.concatenate([[0], changes])])


def _sum_of(parts: Sequence[Source]) -> Facts:
    facts = [p.facts() for p in parts]
    return Facts(
        sum(f.rows for f in facts),
        min(f.first_ts for f in facts),
        max(f.last_ts for f in facts),
        tuple(sorted({d for f in facts for d in f.days})),
    )


# ── digests ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def seal_file(path: Path) -> None:
    """Puts digests of a Parquet file's bytes between its last page and its footer, where readers do not look.

    Pages and footer are addressed from the file's two ends, so every Parquet reader still opens the file.
    """
    with path.open("r+b") as file:
        size = file.seek(-8, 2) + 8
        start = size - 8 - int.from_bytes(file.read(4), "little")
        file.seek(start)
        footer = file.read()
        file.seek(0)
        seal = hashlib.blake2b(digest_size=32)
        left = start
        while left:
            data = file.read(min(left, 1 << 20))
            seal.update(data)
            left -= len(data)
        file.seek(start)
        file.write(SEAL_MARK + seal.digest() + hashlib.blake2b(footer, digest_size=32).digest() + footer)


def _prove_footer(path: Path) -> tuple[int, bytes]:
    """Compares the digest of a tape file's footer; returns the length of what precedes the seal, and its digest."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 8))
            tail = file.read()
            start = size - 8 - int.from_bytes(tail[:4], "little")
            file.seek(max(0, start - SEAL_SIZE))
            seal, footer = file.read(SEAL_SIZE), file.read()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error})", fix="check its permissions", file=str(path)
        ) from None
    if size < SEAL_SIZE + 12 or tail[4:] != b"PAR1" or start < SEAL_SIZE + 4:
        altered(path, "its end is missing, or it is no tape at all")
    if not seal.startswith(SEAL_MARK) and HEADER_KEY.encode() not in footer:
        raise DataError(
            f"{path}: a Parquet file, but not a saved tape",
            fix="read it with ap.read_ticks(path) or ap.read_bars(path), then tape.save(...)",
            file=str(path),
        )
    digest = hashlib.blake2b(footer, digest_size=32).digest()
    if not seal.startswith(SEAL_MARK) or seal[-32:] != digest:
        altered(path, "its footer does not match its seal")
    return start - SEAL_SIZE, seal[len(SEAL_MARK) : -32]


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def chunk_digest(columns: Columns) -> str:
    seal = hashlib.blake2b(digest_size=32)
    for name, array in columns.items():
        seal.update(f"{name}:{len(array)}:{array.dtype.str};".encode())
        seal.update(np.ascontiguousarray(array).view(np.uint8).data)
    return seal.hexdigest()


def encode_instruments(instruments: tuple[Instrument, ...]) -> str:
    return msgspec.json.encode(instruments).decode()


def root_digest(names: Sequence[str], instruments: str, chunks: Iterable[str]) -> str:
    return _hash("\n".join([FORMAT, ",".join(names), instruments, *chunks]).encode())


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def altered(path: Path, problem: str, chunk: int | None = None) -> NoReturn:
    raise DataError(
        f"{path}: the tape is truncated or altered: {problem}",
        fix="restore the file from its backup, or read it again from its source and save it",
        code="E_TAPE_DIGEST",
        file=str(path),
        chunk=chunk,
    ) from None

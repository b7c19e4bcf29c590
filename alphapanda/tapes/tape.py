"""Recorded ticks as columns: what every run reads, in memory or in one sealed Parquet file.

A tape is immutable: ticks of one or several instruments sorted by time, ties in the order they were recorded. Prices
and quantities are integers in each instrument's units, times are int nanoseconds UTC.

**The seal.** Rows are cut into chunks of 65,536 from row 0. A chunk's digest is BLAKE2b over its columns; the tape's
digest covers the column names, the instruments and the chunk digests, so the same ticks have the same digest in
memory, in a file, or spread over several files. A saved tape keeps the chunk digests in the Parquet file's metadata,
and digests of the file's own bytes beside them: no row leaves a file before the bytes, and its chunk, are proved.

**Memory.** Tapes on disk are read one chunk (one row group) at a time. ``select``, ``between`` and ``concat`` of tapes
on disk stay on disk: they filter, join or merge while reading.
"""

from __future__ import annotations

import datetime as dt
import html
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from alphapanda.errors import DataError, UnknownNameError, ValidationError
from alphapanda.events import DAY, IST, Block, Ints, ist
from alphapanda.instruments import Instrument
from alphapanda.money import rupees
from alphapanda.tapes.columns import (
    CHUNK,
    FORMAT,
    HEADER_KEY,
    NAMES,
    ChainSource,
    Facts,
    FileSource,
    Header,
    MemorySource,
    MergeSource,
    PickedSource,
    Source,
    altered,
    check_columns,
    chunk_digest,
    encode_instruments,
    frozen_column,
    joined_columns,
    polars_dtype,
    rechunk,
    reordered,
    root_digest,
    seal_file,
    to_frame,
)

if TYPE_CHECKING:
    import polars as pl

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
EPOCH_DAY = dt.date(1970, 1, 1)


class Tape:
    """Ticks of some instruments, sorted by time; see the module's page for the seal and the memory promise.

    Built from numpy columns of one length (int64, ``inside`` bool): ``ts`` ns UTC ascending, ``instrument`` indexes
    into ``instruments`` (left out with one instrument), ``price`` and optionally ``bid``, ``ask`` in price units,
    ``volume`` (traded since the instrument's previous tick), ``bid_quantity``, ``ask_quantity`` in quantity steps,
    ``inside`` on tapes made from bars. 0 in a quote column means no quote. Arrays that could still be written are
    copied. ``notes`` says what a reader's policy changed or dropped; it is not part of the digest.

    Raises DataError naming column and row for columns that are not that.
    """

    __slots__ = ("__dict__", "_source", "instruments", "notes")

    instruments: tuple[Instrument, ...]
    notes: tuple[str, ...]

    def __init__(
        self,
        instruments: Iterable[Instrument],
        *,
        ts: Ints,
        price: Ints,
        instrument: Ints | None = None,
        volume: Ints | None = None,
        bid: Ints | None = None,
        ask: Ints | None = None,
        bid_quantity: Ints | None = None,
        ask_quantity: Ints | None = None,
        inside: npt.NDArray[np.bool_] | None = None,
        notes: Iterable[str] = (),
    ) -> None:
        self.instruments = tuple(instruments)
        self.notes = tuple(notes)
        if instrument is None and len(self.instruments) == 1:
            instrument = np.zeros(len(ts), dtype=np.int64)
        given = (ts, instrument, price, volume, bid, ask, bid_quantity, ask_quantity, inside)
        columns = {n: frozen_column(n, a) for n, a in zip(NAMES, given, strict=True) if a is not None}
        check_columns(columns, self.instruments)
        self._source: Source = MemorySource(columns)

    @classmethod
    def _of(cls, instruments: Iterable[Instrument], source: Source, notes: Iterable[str] = ()) -> Tape:
        tape = cls.__new__(cls)
        tape.instruments, tape.notes, tape._source = tuple(instruments), tuple(notes), source
        return tape

    # ── what it holds ────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def symbols(self) -> tuple[str, ...]:
        """``EXCHANGE:TRADINGSYMBOL`` of each instrument, in index order."""
        return tuple(i.symbol for i in self.instruments)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it has, in the order of Block's fields."""
        return self._source.names

    @cached_property
    def _facts(self) -> Facts:
        return self._source.facts()

    @property
    def rows(self) -> int:
        """Number of ticks. On a tape selected from a file the first call reads it through."""
        return self._facts.rows

    def __len__(self) -> int:
        return self.rows

    @property
    def days(self) -> list[dt.date]:
        """The IST calendar days that have ticks, ascending."""
        return [EPOCH_DAY + dt.timedelta(days=d) for d in self._facts.days]

    @property
    def first_ts(self) -> int:
        """Time of the first tick, ns UTC."""
        return self._facts.first_ts

    @property
    def last_ts(self) -> int:
        """Time of the last tick, ns UTC."""
        return self._facts.last_ts

    @cached_property
    def digest(self) -> str:
        """64 hex digits over columns, instruments and every tick; the same in memory and on disk."""
        if isinstance(self._source, FileSource):
            return self._source.header.digest
        chunks = [chunk_digest(c) for c in rechunk(self._source.pieces())]
        return root_digest(self.columns, encode_instruments(self.instruments), chunks)

    def blocks(self, size: int = 8192) -> Iterator[Block]:
        """The ticks in order, in blocks of at most ``size`` rows: read-only views, nothing is copied.

        A block never spans two chunks of a file. Raises DataError, before any row of it is handed out, for a chunk
        that is not what was saved.
        """
        if size < 1:
            raise ValidationError(f"a block of {size} rows", fix="pass size=1 or more")
        first = 0
        for piece in self._source.pieces():
            columns = [piece.get(name) for name in NAMES]
            rows = len(piece["ts"])
            for low in range(0, rows, size):
                yield Block(first + low, *[None if c is None else c[low : low + size] for c in columns])  # pyright: ignore[reportArgumentType]  # ts, instrument and price always exist
            first += rows

    def frame(self) -> pl.DataFrame:
        """All ticks as a polars frame: symbol, ts (Asia/Kolkata, ns), prices in rupees, quantities in whole units.

        Quantities are floats where an instrument counts parts of a unit (coins). The whole tape is held in memory.
        """
        import polars as pl

        data = joined_columns(list(self._source.pieces()))
        index = data["instrument"]
        scale = np.array([i.price_scale for i in self.instruments])[index]
        steps = np.array([i.quantity_scale for i in self.instruments])
        symbols = pl.Series("symbol", self.symbols, dtype=pl.Enum(self.symbols))
        out = [
            symbols.gather(index),
            pl.Series("ts", data["ts"]).cast(pl.Datetime("ns", "UTC")).dt.convert_time_zone("Asia/Kolkata"),
        ]
        for name in self.columns[2:]:
            values = data[name]
            if name in ("price", "bid", "ask"):
                values = values / scale
            elif name != "inside" and int(steps.max()) > 1:
                values = values / steps[index]
            out.append(pl.Series(name, values))
        return pl.DataFrame(out)

    # ── disk ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def save(self, path: str | Path) -> Path:
        """Writes one Parquet file (zstd, a chunk per row group) and returns its path; a file there is replaced whole.

        Any Parquet reader opens it; times are UTC, prices and quantities in units as the instruments in the metadata
        say. A tape on disk is copied chunk by chunk.
        """
        path = Path(path)
        if not path.parent.is_dir():
            raise DataError(
                f"{path}: no such folder", fix=f"create it: mkdir -p {path.parent}", file=str(path)
            )
        chunks: list[str] = []
        starts: list[int] = []
        for chunk in rechunk(self._source.pieces()):
            chunks.append(chunk_digest(chunk))
            starts.append(int(chunk["ts"][0]))
        coded = encode_instruments(self.instruments)
        header = Header(
            FORMAT,
            self.columns,
            coded,
            self._facts,
            tuple(starts),
            tuple(chunks),
            root_digest(self.columns, coded, chunks),
            self.notes,
        )
        text = msgspec.json.encode(header).decode()
        settings: dict[str, Any] = {
            "compression": "zstd",
            "row_group_size": CHUNK,
            "statistics": False,
            "metadata": {HEADER_KEY: text},
        }
        part = path.with_name(f".{path.name}.part")
        try:
            if isinstance(self._source, MemorySource):
                to_frame(self._source.columns).write_parquet(part, **settings)
            else:
                from polars.io.plugins import register_io_source

                source = self._source

                def read(*_: Any) -> Iterator[pl.DataFrame]:
                    return (to_frame(chunk) for chunk in rechunk(source.pieces()))

                schema = {n: polars_dtype(n) for n in self.columns}
                register_io_source(read, schema=schema).sink_parquet(part, maintain_order=True, **settings)
            seal_file(part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return path

    @classmethod
    def open(cls, path: str | Path) -> Tape:
        """A saved tape; only its header is read here, rows come chunk by chunk from ``blocks``.

        Raises DataError for a file that is missing, truncated, altered, or no tape.
        """
        source = FileSource(Path(path))
        try:
            instruments = msgspec.json.decode(source.header.instruments, type=tuple[Instrument, ...])
        except msgspec.DecodeError as error:
            altered(source.path, f"its instruments cannot be read: {error}")
        return cls._of(instruments, source, source.header.notes)

    # ── parts and sums ───────────────────────────────────────────────────────────────────────────────────────────────

    def select(self, symbols: str | Iterable[str]) -> Tape:
        """Only these instruments, numbered anew in this tape's order; an unknown symbol answers "did you mean"."""
        wanted = [symbols] if isinstance(symbols, str) else list(symbols)
        for symbol in wanted:
            if symbol not in self.symbols:
                raise UnknownNameError("symbol", symbol, self.symbols)
        kept = [n for n, symbol in enumerate(self.symbols) if symbol in wanted]
        lookup = np.full(len(self.instruments), -1, dtype=np.int64)
        lookup[kept] = np.arange(len(kept))
        return self._picked([self.instruments[n] for n in kept], lookup, None, None, f"select({wanted!r})")

    def between(self, start: Moment | None = None, end: Moment | None = None) -> Tape:
        """The ticks of ``start`` <= time < ``end``; a date (or "2026-11-20") as ``end`` includes that whole IST day.

        Moments are aware datetimes, dates, or ISO text of either. Raises ValidationError for a naive datetime and
        DataError when nothing is left.
        """
        low = None if start is None else _moment(start, "start")[0]
        high = None if end is None else _moment(end, "end")[1]
        lookup = np.arange(len(self.instruments))
        return self._picked(self.instruments, lookup, low, high, f"between({start!s}, {end!s})")

    def _picked(
        self, instruments: Sequence[Instrument], lookup: Ints, low: int | None, high: int | None, what: str
    ) -> Tape:
        source: Source = PickedSource(self._source, lookup, low, high)
        if self._source.in_memory:
            pieces = list(source.pieces())
            source = MemorySource(joined_columns(pieces)) if pieces else source
        if next(source.pieces(), None) is None:
            raise DataError(
                f"{what} leaves no ticks of {self!r}", fix="pick a symbol and a time inside the tape's span"
            )
        return Tape._of(instruments, source, self.notes)

    @staticmethod
    def concat(tapes: Iterable[Tape]) -> Tape:
        """Several tapes as one: days one after another, and tapes that overlap merged by time.

        The tape that begins first comes first in ties. Instruments are unified by symbol; where their descriptions
        differ from day to day the latest is kept and noted. A column only some tapes have is 0 in the others.
        Raises DataError when one symbol has two price or quantity scales.
        """
        given = list(tapes)
        if not given:
            raise DataError("no tapes to join", fix="pass at least one tape")
        if len(given) == 1:
            return given[0]
        given.sort(key=lambda t: t.first_ts)
        instruments, notes = _unify(given)
        index = {i.symbol: n for n, i in enumerate(instruments)}
        names = tuple(n for n in NAMES if any(n in t.columns for t in given))
        parts: list[Source] = [
            PickedSource(t._source, np.array([index[s] for s in t.symbols]), None, None, names) for t in given
        ]
        if all(t._source.in_memory for t in given):
            joined = joined_columns([p for part in parts for p in part.pieces()])
            if np.any(np.diff(joined["ts"]) < 0):
                joined = reordered(joined)
            return Tape._of(instruments, MemorySource(joined), notes)
        clusters: list[list[Source]] = []
        reach = 0
        for part, tape in zip(parts, given, strict=True):
            if clusters and tape.first_ts < reach:
                clusters[-1].append(part)
            else:
                clusters.append([part])
            reach = max(reach, tape.last_ts)
        return Tape._of(
            instruments, ChainSource([c[0] if len(c) == 1 else MergeSource(c) for c in clusters]), notes
        )

    # ── looks ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _table(self) -> list[tuple[str, str]]:
        days = self.days
        shown = ", ".join(self.symbols[:6]) + (
            f" and {len(self.symbols) - 6} more" if len(self.symbols) > 6 else ""
        )
        span = f"{ist(self.first_ts):%Y-%m-%d %H:%M:%S} to {ist(self.last_ts):%Y-%m-%d %H:%M:%S} IST"
        return [
            ("symbols", shown),
            ("days", f"{days[0]}" if len(days) == 1 else f"{len(days)} ({days[0]} to {days[-1]})"),
            ("rows", f"{self.rows:,}"),
            ("span", span),
            ("size", f"{self.rows * 8 * len(self.columns) / 1e6:,.1f} MB as columns"),
            ("digest", self.digest[:16]),
            *(("note", note) for note in self.notes),
        ]

    def __repr__(self) -> str:
        many = f"{len(self.symbols)} symbols" if len(self.symbols) > 3 else ", ".join(self.symbols)
        days = self.days
        span = f"{days[0]}" if len(days) == 1 else f"{len(days)} days {days[0]} to {days[-1]}"
        ticks = rupees(100 * self.rows)[1:-3]  # grouped as reports group
        return f"Tape({many}; {span}; {ticks} ticks; {self.digest[:12]})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{k}</th><td style='text-align:left'>{html.escape(v)}</td></tr>"
            for k, v in self._table()
        )
        return f"<table><caption>Tape</caption><tbody>{rows}</tbody></table>"


Moment = dt.date | dt.datetime | str


def _unify(tapes: list[Tape]) -> tuple[list[Instrument], list[str]]:
    """One instrument a symbol, the latest description winning, and the notes that say where it mattered."""
    found: dict[str, Instrument] = {}
    notes = list(dict.fromkeys(n for t in tapes for n in t.notes))
    for tape in tapes:
        for new in tape.instruments:
            old = found.get(new.symbol, new)
            if (old.price_scale, old.quantity_scale) != (new.price_scale, new.quantity_scale):
                raise DataError(
                    f"{new.symbol} has two scales: price {old.price_scale} and {new.price_scale}, quantity "
                    f"{old.quantity_scale} and {new.quantity_scale}",
                    fix="read both sources with the same instruments=",
                    symbol=new.symbol,
                )
            if old != new:
                fields = [f for f in new.__struct_fields__ if getattr(old, f) != getattr(new, f)]
                note = (
                    f"{new.symbol}: {', '.join(fields)} differ between the joined tapes; the latest is used"
                )
                notes = [*notes, note] if note not in notes else notes
            found[new.symbol] = new
    return list(found.values()), notes


# ── moments ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def nanoseconds(moment: dt.datetime) -> int:
    """An aware datetime as int ns UTC, exactly."""
    since = moment - EPOCH
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000


def _moment(value: Moment, what: str) -> tuple[int, int]:
    """First ns of what ``value`` names and first ns after it: an instant is its own end, a date lasts a day."""
    given = value
    if isinstance(value, str):
        try:
            value = dt.date.fromisoformat(value) if len(value) <= 10 else dt.datetime.fromisoformat(value)
        except ValueError:
            raise ValidationError(
                f"{what} {given!r} is no ISO date or time",
                fix='write "2026-11-20" or "2026-11-20T09:15:00+05:30"',
            ) from None
    if not isinstance(value, dt.datetime):
        day = dt.datetime(value.year, value.month, value.day, tzinfo=IST)
        return nanoseconds(day), nanoseconds(day) + DAY
    if value.tzinfo is None:
        raise ValidationError(
            f"{what} {given!s} is naive: it names no time zone",
            fix="add one: datetime(..., tzinfo=alphapanda.IST), or an offset such as +05:30",
            code="E_NAIVE",
        )
    return nanoseconds(value), nanoseconds(value)

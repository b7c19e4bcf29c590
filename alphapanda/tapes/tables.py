"""Other people's files and frames as one kind of table: our column names, and where each cell came from.

Text stays text here, so that an error can show the value as it was written. Meaning (times, prices, policies) is the
readers' work.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt

from alphapanda.errors import DataError, UnknownNameError, nearest
from alphapanda.events import Ints
from alphapanda.tapes.columns import HEADER_KEY, SEAL_MARK

if TYPE_CHECKING:
    import polars as pl

TICK_FIELDS = ("ts", "symbol", "price", "volume", "cumulative", "bid", "ask", "bid_quantity", "ask_quantity")
BAR_FIELDS = ("open", "high", "low", "close")
FIELDS = TICK_FIELDS + BAR_FIELDS
ALIASES = {
    "ts": "ts timestamp time datetime date date_time exchange_timestamp exchange_time last_trade_time",
    "symbol": "symbol tradingsymbol trading_symbol instrument ticker",
    "price": "price ltp last_price last last_traded_price trade_price value",
    "volume": "volume vol qty quantity last_quantity last_traded_quantity ltq size trade_quantity",
    "cumulative": "cumulative volume_traded cumulative_volume total_volume day_volume",
    "bid": "bid bid_price best_bid bid1",
    "ask": "ask ask_price best_ask ask1 offer",
    "bid_quantity": "bid_quantity bid_qty bid_size best_bid_quantity",
    "ask_quantity": "ask_quantity ask_qty ask_size best_ask_quantity",
    "open": "open o",
    "high": "high h",
    "low": "low l",
    "close": "close c",
}
ALIAS = {alias: field for field, names in ALIASES.items() for alias in names.split()}


class Table:
    """One source with our column names. ``frame`` holds the cells, ``positions`` each row's place in the source.

    ``ignored`` holds the columns the caller leaves out: they still tell two alike rows apart.
    ``headers`` is the number of lines before the first data row of a text file, None for what has no lines.
    """

    def __init__(
        self, name: str, frame: pl.DataFrame, originals: Mapping[str, str], headers: int | None
    ) -> None:
        self.name = name
        self.frame = frame
        self.originals = dict(originals)
        self.headers = headers
        self.positions: Ints = np.arange(len(frame))
        self.ignored: pl.DataFrame | None = None

    def __contains__(self, field: str) -> bool:
        return field in self.originals

    @property
    def is_bars(self) -> bool:
        """Whether it has all of open, high, low, close."""
        return all(f in self for f in BAR_FIELDS)

    def keep(self, mask: npt.NDArray[np.bool_]) -> None:
        """Drops the rows where ``mask`` is False; the others remember where they came from."""
        self.frame = self.frame.filter(mask)
        self.positions = self.positions[mask]
        self.ignored = None if self.ignored is None else self.ignored.filter(mask)

    def fail(
        self,
        field: str,
        bad: npt.NDArray[Any],
        problem: str,
        fix: str,
        *,
        value: Any = None,
        code: str = "E_DATA",
    ) -> NoReturn:
        """Raises the DataError for the first of the rows ``bad`` (indexes), naming file, column, row and value."""
        row = int(bad[0])
        number = int(self.positions[row]) + 1
        column = self.originals.get(field, field)
        line = None if self.headers is None else number + self.headers
        shown = self.frame[field][row] if value is None and field in self.frame.columns else value
        where = f"row {number}" + (f" (line {line})" if line else "")
        many = f"; {len(bad):,} such rows in all" if len(bad) > 1 else ""
        raise DataError(
            f"{self.name}: column {column!r}, {where}: {'' if shown is None else repr(shown) + ' '}{problem}{many}",
            fix=fix,
            code=code,
            file=self.name,
            column=column,
            row=number,
            line=line,
            value=shown,
            count=len(bad),
        )


def load(source: Any, columns: Mapping[str, str | None] | Sequence[str] | None) -> Table:
    """A CSV or Parquet path, or a pandas or polars frame or series, as a table.

    ``columns`` maps their names to ours, or to None to ignore a column; for a text file without a header it may be the
    list of our names in order. Raises DataError naming the file and what is wrong with it.
    """
    if isinstance(source, (str, Path)):
        path = Path(source)
        data = _bytes(path)
        if data[:4] == b"PAR1":
            name, frame, headers = str(path), _parquet(path, data), None
        else:
            frame, headers = _csv(str(path), data, columns)
            name = str(path)
    else:
        name, frame, headers = type(source).__name__, _frame(source), None
    mapping: dict[str, str | None] = {}
    if isinstance(columns, Mapping):
        mapping.update(columns)
    elif columns is not None:
        mapping.update(zip(frame.columns, columns, strict=False))
    table = _named(name, frame, mapping, headers)
    if not len(frame):
        what = "has a header and no rows" if headers else "has no rows"
        raise DataError(f"{name} {what}", fix="pass a source with at least one row", file=name)
    import polars as pl

    blank = frame.select(pl.all_horizontal(pl.all().is_null())).to_series().to_numpy()
    if headers is not None and blank.any():
        table.keep(~blank)
        if not len(table.frame):
            raise DataError(f"{name} has no rows", fix="pass a source with at least one row", file=name)
    return table


def is_saved_tape(path: Path) -> bool:
    """Whether a file is, or was before it was damaged, a saved tape: its end holds our header's name or our seal."""
    with path.open("rb") as file:
        head = file.read(4)
        size = file.seek(0, 2)
        file.seek(max(0, size - 8))
        tail = file.read()
        if b"PAR1" not in (head, tail[4:]):
            return False
        file.seek(max(0, size - max(1 << 20, int.from_bytes(tail[:4], "little") + 128)))
        end = file.read()
    return HEADER_KEY.encode() in end or SEAL_MARK in end


def _bytes(path: Path) -> bytes:
    if path.is_dir():
        raise DataError(
            f"{path} is a folder", fix=f'pass its files: "{path}/*.csv" or "{path}/*.parquet"', file=str(path)
        )
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        there = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        close = nearest(path.name, there)
        fix = f"did you mean {path.parent / close}?" if close else "check the path"
        raise DataError(f"{path}: no such file", fix=fix, file=str(path)) from None
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error})", fix="check its permissions", file=str(path)
        ) from None
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError) as error:
            raise DataError(
                f"{path}: the gzip data is damaged or cut short ({error})",
                fix="copy the file again",
                file=str(path),
            ) from None
    if data[:4] == b"PK\x03\x04":
        raise DataError(f"{path} is a zip or Excel file", fix="unzip it, or save it as CSV", file=str(path))
    if not data.strip():
        raise DataError(f"{path} is an empty file", fix="pass a file with a header and rows", file=str(path))
    return data


def _parquet(path: Path, data: bytes) -> pl.DataFrame:
    import polars as pl

    try:
        return pl.read_parquet(io.BytesIO(data), glob=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise DataError(
            f"{path}: the Parquet file is truncated or damaged ({str(error)[:160]})",
            fix="copy the file again",
            file=str(path),
        ) from None


def _csv(
    name: str, data: bytes, columns: Mapping[str, str | None] | Sequence[str] | None
) -> tuple[pl.DataFrame, int]:
    import polars as pl

    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{name}: line {line} is not UTF-8 text (byte {error.start}: 0x{data[error.start]:02x})",
            fix="convert it: iconv -f latin1 -t utf-8, or -f utf-16",
            file=name,
            line=line,
        ) from None
    skipped = len(data) - len(data.lstrip(b"\r\n"))
    lines_before = data.count(b"\n", 0, skipped)
    data = data[skipped:]
    first = data[: data.find(b"\n") if b"\n" in data else len(data)].decode().strip()
    separator = max(",;\t|", key=first.count)
    cells = [c.strip() for c in next(csv.reader([first], delimiter=separator))]
    listed = None if columns is None or isinstance(columns, Mapping) else list(columns)
    header = not any(_is_number(c) for c in cells) and listed is None
    if header and len(set(cells)) < len(cells):
        double = next(c for c in cells if cells.count(c) > 1)
        raise DataError(
            f"{name}: the header names column {double!r} twice",
            fix="rename one of them",
            file=name,
            column=double,
        )
    if listed is not None and len(listed) != len(cells):
        raise DataError(
            f"{name}: columns= lists {len(listed)} names, the first line has {len(cells)} cells",
            fix="list one name for each column of a file without a header; else pass a mapping",
            file=name,
        )
    if not header and listed is None and len(cells) != 2:
        raise DataError(
            f"{name}: no header, and {len(cells)} columns ({first[:80]!r})",
            fix='name them in order: columns=["ts", "price", "volume"]; only two columns are taken as ts, price',
            file=name,
        )
    names = cells if header else (listed or ["ts", "price"])
    try:
        frame = pl.read_csv(
            data,
            has_header=header,
            new_columns=names,
            infer_schema=False,
            separator=separator,
            encoding="utf8",
        )
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        _ragged(name, data, separator, len(cells), lines_before, str(error))
    return frame, lines_before + (1 if header else 0)


def _ragged(name: str, data: bytes, separator: str, width: int, before: int, problem: str) -> NoReturn:
    reader = csv.reader(io.StringIO(data.decode(), newline=""), delimiter=separator)
    for cells in reader:
        if len(cells) > width:
            line = reader.line_num + before
            raise DataError(
                f"{name}: line {line} has {len(cells)} cells, the first line has {width}",
                fix="quote cells that hold the separator, or remove the extra ones",
                file=name,
                line=line,
                row=line - 1,
            )
    raise DataError(f"{name}: no readable CSV ({problem.splitlines()[0]})", fix="check its quotes", file=name)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text[:4].isdigit() and text[4:5] in ("-", "/")  # 2022-08-10 09:00:01
    return True


def _frame(source: Any) -> pl.DataFrame:
    """A pandas or polars object as a polars frame; a time index becomes the column ``ts``."""
    import polars as pl

    if isinstance(source, pl.LazyFrame):
        return source.collect()
    if isinstance(source, pl.DataFrame):
        return source
    if type(source).__module__.partition(".")[0] == "pandas":
        return _from_pandas(source)
    raise DataError(
        f"cannot read a {type(source).__name__}",
        fix="pass a path, a list of paths, a pandas or polars frame, a pandas series with a time index, or a Tape",
    )


def _from_pandas(source: Any) -> pl.DataFrame:
    import polars as pl

    frame = source
    if not hasattr(frame, "columns"):  # a series: its values are prices
        named = ALIAS.get(_normal(str(frame.name)))
        frame = frame.to_frame(frame.name if named else "price")
    times = str(frame.index.dtype).startswith("datetime64")
    if times and frame.index.name is None:
        frame = frame.rename_axis("ts")
    if times or any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    if len(set(frame.columns)) < len(frame.columns):
        double = next(c for c in frame.columns if list(frame.columns).count(c) > 1)
        raise DataError(
            f"DataFrame: column {double!r} exists twice", fix="rename one of them", column=str(double)
        )
    out: dict[str, pl.Series] = {}
    for label in frame.columns:
        out[str(label)] = _pandas_column(str(label), frame[label])
    return pl.DataFrame(out)


def _pandas_column(name: str, column: Any) -> pl.Series:
    """One pandas column without pyarrow: times as ns, numbers as they are, anything else as text."""
    import polars as pl

    kind = str(column.dtype)
    if kind.startswith("datetime64"):
        zone = getattr(column.dtype, "tz", None)
        plain = column.dt.tz_convert("UTC").dt.tz_localize(None) if zone is not None else column
        nanos = plain.to_numpy().astype("datetime64[ns]").astype(np.int64)
        series = pl.Series(name, nanos).cast(pl.Datetime("ns", "UTC" if zone is not None else None))
        missing = column.isna().to_numpy()
        return series.set(pl.Series(missing), None) if missing.any() else series
    if kind.lower().startswith(("int", "uint", "float")) and not column.isna().any():
        return pl.Series(name, column.to_numpy(dtype=kind.lower()))
    if kind.lower().startswith(("int", "uint", "float")):
        return pl.Series(name, column.to_numpy(dtype="float64", na_value=np.nan), nan_to_null=True)
    cells = [None if bad else str(v) for v, bad in zip(column, column.isna(), strict=True)]
    return pl.Series(name, cells, dtype=pl.String)


def _normal(name: str) -> str:
    return name.strip().casefold().replace(" ", "_").replace("-", "_").replace(".", "_")


def _named(name: str, frame: pl.DataFrame, mapping: dict[str, str | None], headers: int | None) -> Table:
    """Gives every column our name for it; each one must have one, or be ignored by ``columns``."""
    for theirs, ours in mapping.items():
        if theirs not in frame.columns:
            raise UnknownNameError("column in columns=", theirs, frame.columns, file=name)
        if ours is not None and ours not in FIELDS:
            raise UnknownNameError("field in columns=", ours, FIELDS, file=name)
    import polars as pl

    parts = {_normal(c): c for c in frame.columns if c not in mapping and frame[c].dtype == pl.String}
    if "date" in parts and "time" in parts:  # the two halves of one stamp
        both = pl.concat_str(parts["date"], parts["time"], separator=" ").alias("date")
        frame = frame.with_columns(both.alias(parts["date"])).drop(parts["time"])
    bars = sum(ALIAS.get(_normal(c)) in BAR_FIELDS for c in frame.columns if c not in mapping) > 1
    originals: dict[str, str] = {}
    for column in frame.columns:
        if column in mapping:
            field = mapping[column]
            if field is None:
                continue
        else:
            field = ALIAS.get(_normal(column))
            if field == "close" and not bars:
                field = "price"
        if field is None:
            close = nearest(_normal(column), ALIAS)
            meant = f", or columns={{{column!r}: {ALIAS[close]!r}}} if it is the {close!r}" if close else ""
            raise DataError(
                f"{name}: unknown column {column!r}"
                + (f"; the nearest known name is {close!r}" if close else ""),
                fix=f"ignore it with columns={{{column!r}: None}}{meant}",
                file=name,
                column=column,
                nearest=close,
            )
        if field in originals:
            raise DataError(
                f"{name}: columns {originals[field]!r} and {column!r} both mean {field!r}",
                fix=f"ignore one: columns={{{column!r}: None}}",
                file=name,
                column=column,
            )
        originals[field] = column
    picked = frame.select([pl.col(theirs).alias(field) for field, theirs in originals.items()])
    table = Table(name, picked, originals, headers)
    left = [c for c in frame.columns if c not in originals.values()]
    table.ignored = frame.select(left) if left else None
    return table

"""The time column of a table as int nanoseconds UTC.

Understood: ISO 8601 text with an offset or Z; naive ISO text with ``timezone=``; seconds, milliseconds, microseconds or
nanoseconds since 1970 (told apart by size, which is unambiguous from 1990 to 2100); datetime columns of frames; times
of day alone with ``day=``. Days first (10/08/2022) are not guessed at.
"""

from __future__ import annotations

import datetime as dt
import zoneinfo
from typing import TYPE_CHECKING

import numpy as np

from alphapanda.errors import UnknownNameError, ValidationError
from alphapanda.events import Ints
from alphapanda.tapes.tables import Table

if TYPE_CHECKING:
    import polars as pl

FIRST = 631_152_000 * 10**9  # 1990-01-01 UTC
LAST = 4_102_444_800 * 10**9  # 2100-01-01 UTC
MISSING = np.iinfo(np.int64).min
OFFSET = r"(?i)\s*(Z|UTC|[+-]\d{2}:?\d{2})$"
ISO_FIX = (
    'write ISO 8601: "2026-11-20 09:15:00+05:30", or the same without offset and timezone="Asia/Kolkata"'
)
NAIVE_FIX = 'say which zone they are in: timezone="Asia/Kolkata" for times of Indian exchanges'


def read_stamps(
    table: Table, timezone: str | dt.tzinfo | None, day: dt.date | None, *, dates: bool = False
) -> tuple[Ints, bool]:
    """The column ``ts`` of ``table`` as ns UTC, and whether it holds dates without times (daily bars).

    Dates are taken as midnight IST, and only where ``dates`` allows them. Raises DataError for stamps that are missing,
    unreadable, naive without ``timezone``, or outside 1990 to 2100.
    """
    import polars as pl

    series = table.frame["ts"]
    kind = series.dtype
    if isinstance(kind, pl.Datetime):
        stamps, whole_days = _from_datetimes(table, series, timezone, dates)
    elif kind == pl.Date:
        stamps, whole_days = _from_dates(table, series, dates), True
    elif kind == pl.Time:
        text = series.cast(pl.String)
        stamps, whole_days = _from_text(table, text, timezone, day, dates)
    elif kind == pl.String:
        text = series.str.strip_chars()
        numeric = text.drop_nulls().head(1).str.contains(r"^-?\d+(\.\d*)?$").any()
        if numeric:
            stamps, whole_days = _from_epoch_text(table, text), False
        else:
            stamps, whole_days = _from_text(table, text, timezone, day, dates)
    elif kind.is_integer():
        values = series.cast(pl.Int64, strict=False)
        stamps, whole_days = _from_epoch(values, None), False
    elif kind.is_float():
        whole = series.fill_nan(None).floor().cast(pl.Int64, strict=False)
        # a float of seconds is exact to a fraction of a microsecond only: keep microseconds
        part = ((series - series.floor()) * 1e6).round().cast(pl.Int64, strict=False) * 1000
        stamps, whole_days = _from_epoch(whole, part), False
    else:
        everything = np.arange(len(series))
        table.fail("ts", everything, f"is {kind}, not a time", ISO_FIX)
    bad = np.flatnonzero(stamps == MISSING)
    if len(bad):
        missing = series[int(bad[0])] is None
        table.fail(
            "ts", bad, "is missing" if missing else "cannot be read as a time", ISO_FIX, code="E_TIMESTAMP"
        )
    bad = np.flatnonzero((stamps < FIRST) | (stamps >= LAST))
    if len(bad):
        table.fail(
            "ts", bad, "lies outside 1990 to 2100", "check the column: epochs are seconds, ms, us or ns since 1970",
            code="E_TIMESTAMP",
        )  # fmt: skip
    return stamps, whole_days


def _numpy(series: pl.Series) -> Ints:
    return series.fill_null(MISSING).to_numpy()


def _from_epoch(whole: pl.Series, part: pl.Series | None) -> Ints:
    """Epochs of one unit, told by the size of the middle one; ``part`` is the fraction of a unit in 1e-9."""
    middle = abs(int(np.nan_to_num(np.array([whole.median()], dtype=float))[0]))
    unit = 10**9 if middle < 10**11 else 10**6 if middle < 10**14 else 1000 if middle < 10**17 else 1
    values = _numpy(whole)
    known = values != MISSING
    fits = known & (np.abs(np.where(known, values, 0)) <= LAST // unit * 2)
    stamps = np.where(fits, values, 0) * unit
    if part is not None and unit > 1:
        stamps = stamps + np.where(fits, part.fill_null(0).to_numpy(), 0) * unit // 10**9
    return np.where(fits, stamps, np.where(known, 0, MISSING))


def _from_epoch_text(table: Table, text: pl.Series) -> Ints:
    import polars as pl

    pieces = text.to_frame("t").select(
        pl.col("t").str.extract(r"^(-?\d+)(?:\.\d*)?$").cast(pl.Int64, strict=False).alias("whole"),
        pl.col("t").str.extract(r"\.(\d+)$").str.slice(0, 9).str.pad_end(9, "0").cast(pl.Int64).alias("part"),
    )
    return _from_epoch(pieces["whole"], pieces["part"])


def _from_dates(table: Table, series: pl.Series, dates: bool) -> Ints:
    import polars as pl

    if not dates:
        table.fail(
            "ts",
            np.arange(len(series)),
            "is a date without a time",
            "pass the time too; daily bars: read_bars",
        )
    naive = series.cast(pl.Datetime("us"))
    return _localised(table, naive, "Asia/Kolkata")


def _from_datetimes(
    table: Table, series: pl.Series, timezone: str | dt.tzinfo | None, dates: bool
) -> tuple[Ints, bool]:
    import polars as pl

    if isinstance(series.dtype, pl.Datetime) and series.dtype.time_zone is not None:
        return _checked(series.dt.convert_time_zone("UTC").dt.replace_time_zone(None)), False
    if dates and series.drop_nulls().dt.time().eq(dt.time(0)).all():
        return _localised(table, series, "Asia/Kolkata"), True
    if timezone is None:
        table.fail(
            "ts",
            np.flatnonzero(series.is_not_null().to_numpy()),
            "names no time zone",
            NAIVE_FIX,
            code="E_NAIVE",
        )
    return _localised(table, series, timezone), False


def _from_text(
    table: Table, text: pl.Series, timezone: str | dt.tzinfo | None, day: dt.date | None, dates: bool
) -> tuple[Ints, bool]:
    import polars as pl

    first = text.drop_nulls().head(1)
    if first.str.contains(r"^\d{1,2}:\d{2}").any():
        if day is None:
            fix = 'pass the trading day: day="2026-11-20"'
            table.fail(
                "ts",
                np.flatnonzero(text.is_not_null().to_numpy()),
                "is a time without a date",
                fix,
                code="E_TIMESTAMP",
            )
        text = (pl.Series([f"{day:%Y-%m-%d} "]) + text).rename("ts")
    offset = text.str.extract(OFFSET)
    base = text.str.replace(OFFSET, "").str.replace(r"^(\d{4}-\d{2}-\d{2})T", "${1} ")
    year = base.str.slice(0, 4).cast(pl.Int32, strict=False)
    far = (year.fill_null(2000) < 1970) | (year.fill_null(2000) > 2200)  # beyond what int64 ns hold
    naive = base.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="ns", strict=False)
    if naive.null_count() > base.null_count():
        naive = naive.zip_with(
            naive.is_not_null(), base.str.to_datetime("%Y-%m-%d %H:%M", time_unit="ns", strict=False)
        )
    whole_days = False
    if naive.null_count() > base.null_count():
        plain = base.str.to_datetime("%Y-%m-%d", time_unit="ns", strict=False)
        if plain.null_count() == base.null_count():
            if not dates:
                table.fail(
                    "ts", np.flatnonzero(plain.is_not_null().to_numpy()), "is a date without a time",
                    "pass the time too; for daily bars use read_bars", code="E_TIMESTAMP",
                )  # fmt: skip
            naive, whole_days = plain, True
    naive = naive.zip_with(~far, pl.Series([None], dtype=naive.dtype))
    readable = naive.is_not_null()
    unzoned = (readable & offset.is_null()).to_numpy()
    if dates and not whole_days and unzoned.any() and naive.drop_nulls().dt.time().eq(dt.time(0)).all():
        whole_days = True
    zone: str | dt.tzinfo | None = "Asia/Kolkata" if whole_days else timezone
    if unzoned.any() and zone is None:
        table.fail("ts", np.flatnonzero(unzoned), "names no time zone", NAIVE_FIX, code="E_NAIVE")
    stamps = _checked(naive)
    if not unzoned.all():
        minutes = (
            offset.str.slice(1, 2).cast(pl.Int64, strict=False) * 60
            + offset.str.slice(-2, 2).cast(pl.Int64, strict=False)
        ).fill_null(0)
        ahead = pl.select(pl.when(offset.str.starts_with("-")).then(-minutes).otherwise(minutes)).to_series()
        shift = ahead.fill_null(0).to_numpy() * (60 * 10**9)
        stamps = np.where(stamps == MISSING, MISSING, stamps - np.where(unzoned, 0, shift))
    if unzoned.any() and zone is not None:
        stamps = np.where(unzoned, _localised(table, naive, zone), stamps)
    return np.where(far.to_numpy(), 0, stamps), whole_days


def _checked(naive: pl.Series) -> Ints:
    """A naive datetime column as ns, with times int64 ns cannot hold as 0 (out of range, reported as such)."""
    micros = naive.dt.epoch("us")
    far = ((micros < 0) | (micros > LAST // 1000 * 2)).fill_null(value=False).to_numpy()
    return np.where(far, 0, _numpy(naive.dt.epoch("ns")))


def _localised(table: Table, naive: pl.Series, timezone: str | dt.tzinfo | None) -> Ints:
    """Wall times of a zone as ns UTC; times the zone skipped or had twice are refused."""
    name = getattr(timezone, "key", timezone)
    if isinstance(timezone, dt.timezone):
        shift = timezone.utcoffset(None)
        stamps = _checked(naive)
        return np.where(stamps == MISSING, MISSING, stamps - (shift.days * 86_400 + shift.seconds) * 10**9)
    if not isinstance(name, str):
        raise ValidationError(
            f"timezone {timezone!r} is not understood", fix='pass a name: timezone="Asia/Kolkata"'
        )
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise UnknownNameError("timezone", name, zoneinfo.available_timezones()) from None
    local = naive.dt.replace_time_zone(name, ambiguous="null", non_existent="null")
    lost = (local.is_null() & naive.is_not_null()).to_numpy()
    if lost.any():
        table.fail(
            "ts",
            np.flatnonzero(lost),
            f"does not exist, or exists twice, in {name}",
            "write it with its offset",
        )
    return _checked(local.dt.convert_time_zone("UTC").dt.replace_time_zone(None))

"""Ticks and bars from files and frames as a tape; every doubtful row is refused, or counted in the tape's notes.

``tape(...)`` is the one entry; ``read_ticks`` and ``read_bars`` are what it calls. The policies, and what they do when
nothing is said:

- Rows of one symbol must be in time order (``order="raise"``; "sort" sorts them, stably). Symbols are merged by time.
- ``duplicates="raise"`` refuses a row that repeats another in every column, ignored ones too. Several ticks of one
  symbol at one time that differ in anything are kept: an exchange trades more often than a clock ticks. "keep" keeps
  exact repeats too; "first" and "last" leave one tick of a symbol per instant. A second bar of one start is always
  refused unless "first" or "last" picks one.
- Prices must be finite and positive (``bad_prices="drop"`` leaves such rows out) and lie on the grid
  (``off_grid="round"`` moves them to the nearest, ties to even). The grid is the tick size of an instrument you pass,
  and one price unit, 0.01 rupees on NSE, where the symbol alone is known.
- ``max_jump`` is the largest move between two ticks of one symbol on one day, as a share of the earlier price. Options
  are exempt, a premium may double between two trades; so are daily bars, and the step from one day to the next.
- Volumes are whole quantity steps, not negative, never missing; a missing bid or ask is no quote.
- A crossed quote (bid above ask) is refused (``crossed="keep"``).
"""

from __future__ import annotations

import datetime as dt
import inspect
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from alphapanda.errors import AlphaPandaException, DataError, UnknownNameError, ValidationError
from alphapanda.events import DAY, IST_OFFSET_NS, Ints
from alphapanda.instruments import Instrument
from alphapanda.tapes.rows import (
    Known,
    Rows,
    floats,
    good_prices,
    ignoring,
    in_order,
    instruments_of,
    jumps_of,
    no_repeats,
    of_day,
    quantities_of,
    repeats_of_time,
    symbols_of,
    tape_of,
    units_of,
)
from alphapanda.tapes.stamps import read_stamps
from alphapanda.tapes.tables import BAR_FIELDS, Table, is_saved_tape, load
from alphapanda.tapes.tape import EPOCH_DAY, Tape
from alphapanda.times import parse_interval

Order = Literal["raise", "sort"]
Duplicates = Literal["raise", "keep", "first", "last"]
Names = Mapping[str, str | None] | Sequence[str]
CHOICES = {
    "order": ("raise", "sort"),
    "duplicates": ("raise", "keep", "first", "last"),
    "bad_prices": ("raise", "drop"),
    "off_grid": ("raise", "round"),
    "jumps": ("raise", "keep", "drop"),
    "crossed": ("raise", "keep"),
    "stamp": ("start", "end"),
}
DAY_HOURS = {"CDS": (9 * 60, 17 * 60), "BCD": (9 * 60, 17 * 60), "MCX": (9 * 60, 23 * 60 + 30)}  # minutes IST
MINUTE = 60 * 10**9


def read_ticks(
    source: Any,
    *,
    symbol: str | Mapping[str, str] | None = None,
    instruments: Known | None = None,
    columns: Names | None = None,
    timezone: str | dt.tzinfo | None = None,
    order: Order = "raise",
    duplicates: Duplicates = "raise",
    bad_prices: Literal["raise", "drop"] = "raise",
    off_grid: Literal["raise", "round"] = "raise",
    max_jump: float = 0.20,
    jumps: Literal["raise", "keep", "drop"] = "raise",
    crossed: Literal["raise", "keep"] = "raise",
    cumulative: bool = False,
    day: dt.date | str | None = None,
    tradable: bool | None = None,
) -> Tape:
    """Ticks of one CSV (plain or gzip) or Parquet file, or of a pandas or polars frame or series, as a tape.

    Needed: a time and a price; where there is no price but bid and ask, their midpoint to the nearest price unit is
    the price, and noted. Optional: symbol, volume, bid, ask and their quantities. Common names are recognised;
    ``columns={"theirs": "ours"}`` maps others, ``{"theirs": None}`` ignores one, and a list names the columns of a
    file without a header (two columns without one are taken as ts, price).

    ``symbol`` is the symbol of a source without such a column, or a mapping from names in the column to symbols.
    ``instruments`` describes the symbols (a Registry, one or several Instruments, or a mapping); without it a symbol
    stands for what ``registry.default_instrument`` makes of it. ``timezone`` is the zone of naive times.
    ``cumulative=True`` says that volume is the day's total so far, as Kite's ``volume_traded`` always is: each tick
    gets the difference to the symbol's previous tick, the first of a day gets 0. ``day`` dates times without a date,
    and refuses rows of any other day. ``tradable=True`` lets an index act as a tradable proxy in research.

    The other options are the policies on this module's page. Raises DataError naming file, column, row, line, value
    and fix, for the first row of a kind, with the number of such rows.
    """
    options = {k: v for k, v in locals().items() if k != "source"}
    return _ticks(load(source, columns), **_checked(options))


def read_bars(
    source: Any,
    *,
    symbol: str | Mapping[str, str] | None = None,
    interval: str | None = None,
    stamp: Literal["start", "end"] = "start",
    instruments: Known | None = None,
    columns: Names | None = None,
    timezone: str | dt.tzinfo | None = None,
    order: Order = "raise",
    duplicates: Duplicates = "raise",
    bad_prices: Literal["raise", "drop"] = "raise",
    off_grid: Literal["raise", "round"] = "raise",
    max_jump: float = 0.20,
    jumps: Literal["raise", "keep"] = "raise",
    day: dt.date | str | None = None,
    tradable: bool | None = None,
) -> Tape:
    """Bars (open, high, low, close, perhaps volume) as a tape of four ticks a bar.

    One engine path runs ticks and bars alike, and its bar builder makes the same bar of the four ticks again: open,
    low, high, close where the bar closed at or above its open, else open, high, low, close; at the bar's start, one and
    two thirds in, and 1 ns before its end. A bar's volume is spread over the four, its sum kept. ``inside`` is False
    for the open and True for the others: the price moved there within the bar, a stop between was touched.

    ``interval`` ("1m", "5m", "1d") is taken from the smallest gap of a symbol's bars on a day when left out, and noted.
    ``stamp`` says whether a bar carries the time of its start or its end. Daily bars may carry dates; they span the
    day's continuous session by the rulebook (where it has none: 09:15 to 15:30, CDS 09:00 to 17:00, MCX 09:00 to
    23:30). A bar that would run past the session's close ends there. Everything else as in ``read_ticks``.
    """
    options = {k: v for k, v in locals().items() if k != "source"}
    return _bars(load(source, columns), **_checked(options))


def tape(what: Any, **options: Any) -> Tape:
    """One tape of whatever ``what`` is; ``options`` are those of ``read_ticks`` and ``read_bars``.

    - an ISO date, "2026-11-20": the saved tapes of that day in ``$ALPHAPANDA_HOME/tapes``, ``./tapes``, or shipped
      with the package;
    - a path or glob of CSV, CSV.gz or Parquet files or saved tapes, a list of them, or {symbol: source};
    - a pandas or polars frame or series; ticks and bars are told apart by open, high, low, close;
    - a Tape: returned as it is.

    Several sources are joined by ``Tape.concat``; two that hold one symbol over the same time are refused.
    """
    if isinstance(what, Tape):
        _no_options(options, "a Tape")
        return what
    if isinstance(what, Mapping):
        _no_options({k: v for k, v in options.items() if k == "symbol"}, "a mapping of symbols")
        named = cast("Mapping[str, Any]", what)
        return _joined([tape(source, symbol=symbol, **options) for symbol, source in named.items()])
    if isinstance(what, (list, tuple)):
        if not what:
            raise DataError("an empty list of sources", fix="pass at least one path or frame")
        return _joined([tape(one, **options) for one in cast("list[Any]", what)])
    if isinstance(what, dt.date) or (isinstance(what, str) and _is_date(what)):
        _no_options(options, "a saved day")
        return _saved_day(what if isinstance(what, str) else what.isoformat())
    if isinstance(what, (str, Path)):
        text = str(what)
        if any(c in text for c in "*?[") and not Path(text).exists():
            root = Path(text).anchor or "."
            found = sorted(Path(root).glob(text[len(Path(text).anchor) :]))
            if not found:
                raise DataError(
                    f"no file matches {text!r}", fix="check the folder and the pattern", file=text
                )
            return _joined([tape(path, **options) for path in found])
        if Path(text).is_file() and is_saved_tape(Path(text)):
            _no_options(options, "a saved tape")
            return Tape.open(text)
    table = load(what, options.get("columns"))
    reader = _bars if table.is_bars else _ticks
    public = read_bars if table.is_bars else read_ticks
    allowed = [p for p in inspect.signature(public).parameters if p != "source"]
    for name in options:
        if name not in allowed:
            raise UnknownNameError(f"option of {public.__name__}", name, allowed)
    defaults = {n: inspect.signature(public).parameters[n].default for n in allowed}
    return reader(table, **_checked({**defaults, **options}))


# ── ticks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _ticks(table: Table, *, cumulative: bool, crossed: str, **o: Any) -> Tape:
    if table.is_bars or "open" in table:
        raise DataError(
            f"{table.name} holds bars: open, high, low, close", fix="use read_bars", file=table.name
        )
    quotes = "price" not in table and "bid" in table and "ask" in table
    _need(table, ("ts", "bid", "ask") if quotes else ("ts", "price"))
    if cumulative and "volume" in table:
        _call_cumulative(table)
    ts, _ = read_stamps(table, o["timezone"], o["day"])
    names, index = symbols_of(table, o["symbol"], o["instruments"])
    rows = Rows(table, ts, index)
    _read_ticks(rows, quotes, o["bad_prices"])
    of_day(rows, o["day"])
    good_prices(rows, "bid" if quotes else "price", "price", o["bad_prices"])
    in_order(rows, o["order"])
    no_repeats(rows, o["duplicates"])
    instruments, explicit = instruments_of(rows, names, o)
    if quotes:
        _midpoints(rows, instruments)
    data = _integers(rows, instruments, explicit, o["off_grid"], crossed)
    if (jumped := jumps_of(rows, instruments, o["max_jump"], o["jumps"])) is not None:
        rows.drop(jumped, f"a jump of more than {o['max_jump']:.0%}")
        data = {n: a[~jumped] for n, a in data.items()}
    if "cumulative" in data:
        data["volume"] = _differences(rows, data.pop("cumulative"))
    return tape_of(rows, instruments, rows.ts, rows.index, data)


def _call_cumulative(table: Table) -> None:
    if "cumulative" in table:
        raise DataError(
            f"{table.name} has both {table.originals['volume']!r} and {table.originals['cumulative']!r}",
            fix="leave cumulative=True out, or ignore one column",
            file=table.name,
        )
    table.originals["cumulative"] = table.originals.pop("volume")
    table.frame = table.frame.rename({"volume": "cumulative"})


def _read_ticks(rows: Rows, quotes: bool, bad_prices: str) -> None:
    """Fills ``rows.values`` from the table's cells."""
    table = rows.table
    for field in ("bid", "ask", "bid_quantity", "ask_quantity"):
        if field in table:
            values, missing = floats(rows, field, "a missing cell is no quote; correct the others")
            rows.values[field] = np.where(missing, 0.0, values)
    if quotes:
        rows.values["price"] = (rows.values["bid"] + rows.values["ask"]) / 2
        rows.values["price"][(rows.values["bid"] <= 0) | (rows.values["ask"] <= 0)] = np.nan
    else:
        rows.values["price"], _ = floats(rows, "price", "", unreadable=bad_prices)
    for field in ("volume", "cumulative"):
        if field in table:
            rows.values[field], _ = floats(
                rows, field, f"correct it, or ignore the column: {ignoring(table, field)}"
            )


def _integers(
    rows: Rows, instruments: list[Instrument], explicit: list[bool], off_grid: str, crossed: str
) -> dict[str, Ints]:
    """The float columns as units and steps; the cumulative volume still cumulative."""
    data = {"price": units_of(rows, "price", instruments, explicit, off_grid)}
    for field in ("bid", "ask"):
        if field in rows.values:
            rows.fail(
                field, ~(rows.values[field] >= 0), "is negative or not finite", "correct it; 0 is no quote"
            )
            data[field] = units_of(rows, field, instruments, explicit, off_grid)
    for field in ("volume", "cumulative", "bid_quantity", "ask_quantity"):
        if field in rows.values:
            data[field] = quantities_of(rows, field, instruments)
    if "bid" in data and "ask" in data:
        both = (data["bid"] > data["ask"]) & (data["ask"] > 0)
        if crossed == "raise":
            rows.fail("bid", both, "is above the ask", 'correct it, or pass crossed="keep"')
        rows.note(int(both.sum()), "kept with the bid above the ask")
    return data


def _midpoints(rows: Rows, instruments: list[Instrument]) -> None:
    scale = np.array([float(i.price_scale) for i in instruments])[rows.index]
    rows.values["price"] = np.rint(rows.values["price"] * scale) / scale
    rows.notes.append(f"{rows.table.name}: price is the midpoint of bid and ask, to one price unit")


def _differences(rows: Rows, total: Ints) -> Ints:
    order = rows.groups()
    day = (rows.ts + IST_OFFSET_NS) // DAY
    value, same = total[order], np.zeros(len(order), dtype=bool)
    same[1:] = (np.diff(rows.index[order]) == 0) & (np.diff(day[order]) == 0)
    step = np.diff(value, prepend=value[:1])
    fell = np.zeros(len(order), dtype=bool)
    fell[order] = same & (step < 0)
    fix = 'it is the day\'s total and cannot fall: sort with order="sort", or map the column to "volume"'
    rows.fail("cumulative", fell, "is less than the tick before", fix)
    rows.note(int((~same & (value > 0)).sum()), "begin a day with volume traded before; it is not counted")
    out = np.empty_like(total)
    out[order] = np.where(same, step, 0)
    return out


# ── bars ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _bars(table: Table, *, interval: str | None, stamp: str, **o: Any) -> Tape:
    _need(table, ("ts", *BAR_FIELDS))
    extra = [f for f in table.originals if f not in ("ts", "symbol", "volume", *BAR_FIELDS)]
    if extra:
        column = table.originals[extra[0]]
        raise DataError(
            f"{table.name}: a bar has no column {column!r}", fix=f"ignore it: {ignoring(table, extra[0])}",
            file=table.name, column=column,
        )  # fmt: skip
    ts, whole_days = read_stamps(table, o["timezone"], o["day"], dates=True)
    names, index = symbols_of(table, o["symbol"], o["instruments"])
    rows = Rows(table, ts, index)
    for field in BAR_FIELDS:
        rows.values[field], _ = floats(rows, field, "", unreadable=o["bad_prices"])
    if "volume" in table:
        rows.values["volume"], _ = floats(
            rows, "volume", f"correct it, or ignore it: {ignoring(table, 'volume')}"
        )
    of_day(rows, o["day"])
    for field in BAR_FIELDS:
        good_prices(rows, field, field, o["bad_prices"])
    in_order(rows, o["order"])
    _one_bar_a_start(rows, o["duplicates"])
    span = _span(rows, interval, whole_days)
    instruments, explicit = instruments_of(rows, names, o)
    price = {f: units_of(rows, f, instruments, explicit, o["off_grid"]) for f in BAR_FIELDS}
    top, bottom = np.maximum(price["open"], price["close"]), np.minimum(price["open"], price["close"])
    rows.fail("high", price["high"] < top, "is below the open or the close", "correct the bar")
    rows.fail("low", price["low"] > bottom, "is above the open or the close", "correct the bar")
    start, end = _session_spans(rows, instruments, span, stamp, whole_days)
    rising = price["close"] >= price["open"]
    path = np.column_stack(
        [
            price["open"],
            np.where(rising, price["low"], price["high"]),
            np.where(rising, price["high"], price["low"]),
            price["close"],
        ]
    )
    times = np.column_stack([start, start + (end - start) // 3, start + 2 * (end - start) // 3, end - 1])
    data = {"price": path.ravel(), "inside": np.tile(np.array([False, True, True, True]), len(start))}
    if "volume" in rows.values:
        volume = quantities_of(rows, "volume", instruments)
        data["volume"] = (volume[:, None] // 4 + (volume[:, None] % 4 > np.arange(4))).ravel()
    four = Rows(table, times.ravel(), np.repeat(rows.index, 4))
    four.at, four.notes = np.repeat(rows.at, 4), rows.notes
    scale = np.array([float(i.price_scale) for i in instruments])[four.index]
    four.values["price"] = data["price"] / scale
    if span < DAY:
        jumps_of(four, instruments, o["max_jump"], o["jumps"], "close")
    return tape_of(four, instruments, four.ts, four.index, data)


def _one_bar_a_start(rows: Rows, policy: str) -> None:
    again = repeats_of_time(rows, last=policy == "last")
    if policy in ("first", "last"):
        rows.drop(again, f"another bar of the same time ({policy} kept)")
    else:
        rows.fail("ts", again, "has a bar already", 'pass duplicates="first" or "last", or correct the file')


def _span(rows: Rows, interval: str | None, whole_days: bool) -> int:
    """The bars' interval in ns, checked against the gaps between a symbol's bars on one day."""
    order = rows.groups()
    day = (rows.ts + IST_OFFSET_NS) // DAY
    gap = np.diff(rows.ts[order], prepend=0)
    same = np.zeros(len(order), dtype=bool)
    same[1:] = (np.diff(rows.index[order]) == 0) & (np.diff(day[order]) == 0)
    if interval is None:
        if whole_days or (not same.any() and len(order) > 1):
            span, text = DAY, "1d"
        elif same.any():
            span = int(gap[same].min())
            text = f"{span // MINUTE}m" if span % MINUTE == 0 else f"{span / 10**9:g}s"
        else:
            raise DataError(
                f"{rows.table.name}: one bar does not tell its interval", fix='pass interval="1m"'
            )
        rows.notes.append(f"{rows.table.name}: interval {text}, read from the times")
        return span
    span = parse_interval(interval)
    if span < 10:
        raise ValidationError(f"interval {interval!r} is too short for four ticks", fix='pass interval="1m"')
    close = np.zeros(len(order), dtype=bool)
    close[order] = same & (gap < span)
    rows.fail(
        "ts", close, f"starts before the bar before it ends ({interval})", "pass the bars' own interval"
    )
    return span


def _session_spans(
    rows: Rows, instruments: list[Instrument], span: int, stamp: str, whole_days: bool
) -> tuple[Ints, Ints]:
    """First ns of each bar and first ns after it; daily bars span their session, others end at its close at most."""
    daily = span >= DAY
    start = rows.ts if stamp == "start" or whole_days else rows.ts - span
    keys = np.column_stack([rows.index, (start + IST_OFFSET_NS) // DAY])
    days, which = np.unique(keys, axis=0, return_inverse=True)
    hours = np.array([_hours(instruments[int(n)], int(d)) for n, d in days])[which.reshape(-1)]
    if daily:
        return hours[:, 0], hours[:, 1]
    end = start + span
    return start, np.where((start < hours[:, 1]) & (end > hours[:, 1]), hours[:, 1], end)


def _hours(instrument: Instrument, day: int) -> tuple[int, int]:
    """The continuous session of an IST day (days since 1970) in ns UTC."""
    from alphapanda.rulebook import Rulebook

    midnight = day * DAY - IST_OFFSET_NS
    if instrument.asset_class == "crypto":
        return midnight, midnight + DAY
    try:
        session = Rulebook.load().session(instrument, EPOCH_DAY + dt.timedelta(days=day))
    except AlphaPandaException:
        session = None
    if session is not None:
        return session.open_ns, session.close_ns
    first, last = DAY_HOURS.get(instrument.exchange, (9 * 60 + 15, 15 * 60 + 30))
    return midnight + first * MINUTE, midnight + last * MINUTE


# ── options and places ───────────────────────────────────────────────────────────────────────────────────────────────


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    """The options with their words checked and ``day`` as a date; ``columns`` has been used already."""
    for name, words in CHOICES.items():
        if name in options and options[name] not in words:
            raise UnknownNameError(f"choice for {name}=", str(options[name]), words)
    if not options["max_jump"] > 0:
        raise ValidationError(
            f"max_jump {options['max_jump']!r} is not above 0", fix="0.2 allows moves of 20 %"
        )
    day = options["day"]
    if isinstance(day, str):
        if not _is_date(day):
            raise ValidationError(f"day {day!r} is no ISO date", fix='write day="2026-11-20"')
        day = dt.date.fromisoformat(day)
    return {**{n: v for n, v in options.items() if n != "columns"}, "day": day}


def _need(table: Table, fields: Iterable[str]) -> None:
    for field in fields:
        if field not in table:
            there = ", ".join(repr(c) for c in table.originals.values())
            raise DataError(
                f"{table.name}: no column for {field!r}; it has {there}",
                fix=f"add it, or say which it is: columns={{'theirs': {field!r}}}",
                file=table.name,
                column=field,
            )


def _no_options(options: Mapping[str, Any], what: str) -> None:
    if options:
        raise ValidationError(
            f"{next(iter(options))}= does not apply to {what}",
            fix="leave it out: it is for files and frames not yet read",
        )


def _is_date(text: str) -> bool:
    try:
        return len(text) == 10 and bool(dt.date.fromisoformat(text))
    except ValueError:
        return False


def _joined(tapes: list[Tape]) -> Tape:
    """Several sources as one tape; one symbol twice over the same time is one source read twice."""
    ordered = sorted(tapes, key=lambda t: t.first_ts)
    latest: dict[str, Tape] = {}
    for one in ordered:
        for symbol in one.symbols:
            if symbol in latest and one.first_ts < latest[symbol].last_ts:
                raise DataError(
                    f"two sources hold {symbol} over the same time: {latest[symbol]!r} and {one!r}",
                    fix="leave one out; to merge them anyway: Tape.concat([a, b])",
                    symbol=symbol,
                )
            if symbol not in latest or one.last_ts > latest[symbol].last_ts:
                latest[symbol] = one
    return Tape.concat(tapes)


def _saved_day(day: str) -> Tape:
    """The saved tapes whose file name holds the day, in the first of the places that has any."""
    home = os.environ.get("ALPHAPANDA_HOME")
    places = [Path(home) / "tapes"] if home else []
    places += [Path("tapes"), Path(__file__).parent.with_name("data")]
    seen: set[str] = set()
    for place in places:
        files = sorted(place.glob("*.parquet")) if place.is_dir() else []
        exact = [f for f in files if f.stem == day] or [f for f in files if day in f.stem]
        if exact:
            return _joined([Tape.open(f) for f in exact])
        for file in files:
            days = [d.isoformat() for d in Tape.open(file).days] if is_saved_tape(file) else []
            if day in days:
                return Tape.open(file).between(day, day)
            seen.update(days)
    looked = ", ".join(str(p) for p in places)
    raise DataError(
        f"no saved tape of {day} in {looked}; days there: {', '.join(sorted(seen)) or 'none'}",
        fix=f"save one: ap.read_ticks(...).save('tapes/{day}.parquet')",
        day=day,
    )

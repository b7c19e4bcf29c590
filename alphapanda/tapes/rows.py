"""The rows of a table on their way to a tape: which symbol, which integers, and what each policy refuses or drops.

Every check names the first bad row of the source and counts the rest; every row left out or changed is noted. The
policies and their defaults are on the page of ``alphapanda.tapes.readers``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

import msgspec
import numpy as np
import numpy.typing as npt

from alphapanda.errors import AlphaPandaException, DataError, UnknownNameError
from alphapanda.events import DAY, IST_OFFSET_NS, Ints
from alphapanda.instruments import Instrument
from alphapanda.money import TOLERANCE
from alphapanda.registry import Registry, default_instrument
from alphapanda.tapes.tables import BAR_FIELDS, Table
from alphapanda.tapes.tape import EPOCH_DAY, Tape

if TYPE_CHECKING:
    import polars as pl

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Known = Registry | Instrument | Mapping[str, Instrument] | Iterable[Instrument]


class Rows:
    """The good rows so far: times, instrument indexes and float columns, each row knowing its place in the table."""

    def __init__(self, table: Table, ts: Ints, index: Ints) -> None:
        self.table, self.ts, self.index = table, ts, index
        self.at: Ints = np.arange(len(ts))
        self.values: dict[str, Floats] = {}
        self.notes: list[str] = []

    def keep(self, mask: Mask | Ints) -> None:
        """Leaves the rows of a mask, or reorders them."""
        self.ts, self.index, self.at = self.ts[mask], self.index[mask], self.at[mask]
        self.values = {n: a[mask] for n, a in self.values.items()}

    def drop(self, bad: Mask, why: str) -> None:
        """Leaves out the rows of ``bad`` and notes how many; none left is an error."""
        if not bad.any():
            return
        self.note(int(bad.sum()), f"dropped: {why}")
        self.keep(~bad)
        if not len(self.ts):
            raise DataError(
                f"{self.table.name}: no row is left after the policies", fix="; ".join(self.notes)
            )

    def note(self, count: int, what: str) -> None:
        """Counts what a policy did."""
        if count:
            self.notes.append(f"{self.table.name}: {count:,} row{'s' if count > 1 else ''} {what}")

    def fail(self, field: str, bad: Mask, problem: str, fix: str, **more: Any) -> None:
        """Raises for the first of the rows, in the source's order, where ``bad`` is True; nothing when none is."""
        if bad.any():
            self.table.fail(field, np.sort(self.at[bad]), problem, fix, **more)

    def groups(self) -> Ints:
        """An order in which each symbol's rows stand together, otherwise unchanged."""
        return np.argsort(self.index, kind="stable") if self.index.any() else np.arange(len(self.index))


def ignoring(table: Table, field: str) -> str:
    return f"columns={{{table.originals.get(field, field)!r}: None}}"


# ── symbols ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def symbols_of(
    table: Table, symbol: str | Mapping[str, str] | None, known: Known | None
) -> tuple[list[str], Ints]:
    """The symbols of a table in order of appearance, and each row's index into them."""
    import polars as pl

    if "symbol" not in table:
        if isinstance(symbol, str):
            return [symbol], np.zeros(len(table.frame), dtype=np.int64)
        if isinstance(known, Instrument):
            return [known.symbol], np.zeros(len(table.frame), dtype=np.int64)
        raise DataError(
            f"{table.name} has no column that names the instrument",
            fix='pass symbol="NSE:INFY" (or instruments= one Instrument)',
            file=table.name,
            column="symbol",
        )
    column = table.frame["symbol"].cast(pl.String).str.strip_chars()
    if isinstance(symbol, str):
        raise DataError(
            f"{table.name} has a symbol column {table.originals['symbol']!r}, and symbol={symbol!r} was passed",
            fix=f"leave one out: symbol=, or the column by {ignoring(table, 'symbol')}",
            file=table.name,
            column=table.originals["symbol"],
        )
    empty = np.flatnonzero((column.is_null() | (column == "")).to_numpy())
    if len(empty):
        table.fail("symbol", empty, "is missing", "name the instrument in every row")
    given = [str(name) for name in column.unique(maintain_order=True)]
    mapping = symbol or {}
    names = list(dict.fromkeys(mapping.get(name, name) for name in given))
    lookup = np.array([names.index(mapping.get(name, name)) for name in given])
    codes = column.cast(pl.Enum(given)).to_physical().to_numpy().astype(np.int64)
    return names, lookup[codes]


def instruments_of(rows: Rows, names: list[str], o: Mapping[str, Any]) -> tuple[list[Instrument], list[bool]]:
    """Each symbol's instrument, and whether it was described rather than derived from its name."""
    known: Known | None = o["instruments"]
    day = EPOCH_DAY + dt.timedelta(days=int((rows.ts[0] + IST_OFFSET_NS) // DAY))
    found: list[Instrument] = []
    first = {int(n): int(at) for n, at in zip(*np.unique(rows.index, return_index=True), strict=True)}
    prices = rows.values.get("price", rows.values.get("close"))
    for n, name in enumerate(names):
        price = float(prices[first[n]]) if prices is not None and n in first else None
        try:
            instrument = _describe(name, known, day, price)
        except AlphaPandaException as error:
            if "symbol" in rows.table and n in first:
                column, row = rows.table.originals["symbol"], int(rows.table.positions[rows.at[first[n]]]) + 1
                error.context.update(file=rows.table.name, column=column, row=row)
                error.message = f"{rows.table.name}: column {column!r}, row {row}: {error.message}"
                error.fix += f', or map it: symbol={{{name!r}: "NSE:..."}}' if known is None else ""
            raise
        if o["tradable"] is not None and instrument.tradable != o["tradable"]:
            instrument = msgspec.structs.replace(instrument, tradable=bool(o["tradable"]))
            rows.notes.append(
                f"{instrument.symbol}: made {'' if o['tradable'] else 'not '}tradable for research"
            )
            if (
                instrument.kind == "INDEX"
            ):  # nobody can hold an index: the proxy obeys the rules of its futures
                venue = "BFO" if instrument.exchange == "BSE" else "NFO"
                instrument = msgspec.structs.replace(instrument, kind="FUT", exchange=venue)
                rows.notes[-1] += f", by the hours, products and charges of {venue} futures"
        found.append(instrument)
    symbols = [i.symbol for i in found]
    if len(set(symbols)) < len(symbols):
        double = next(s for s in symbols if symbols.count(s) > 1)
        raise DataError(
            f"{rows.table.name}: two names mean {double}", fix="write one name for each instrument"
        )
    return found, [known is not None] * len(found)


def _describe(name: str, known: Known | None, day: dt.date, price: float | None) -> Instrument:
    if known is None:
        return default_instrument(name, day, price)
    if isinstance(known, Registry):
        return known.find(name, day)
    table: dict[str, Instrument] = {}
    if isinstance(known, Mapping):
        table.update(cast("Mapping[str, Instrument]", known))
    else:
        each = [known] if isinstance(known, Instrument) else list(known)
        table.update({i.tradingsymbol: i for i in reversed(each)})
        table.update({i.symbol: i for i in each})
    if name not in table:
        raise UnknownNameError("symbol", name, table)
    return table[name]


# ── cells ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def floats(rows: Rows, field: str, fix: str, unreadable: str = "raise") -> tuple[Floats, Mask]:
    """A column as floats (NaN where empty or unreadable) and where it is empty.

    Unreadable text raises unless ``unreadable`` is "drop", when it is left as NaN for the price policy to drop.
    """
    import polars as pl

    cells: pl.Series = rows.table.frame[field]
    if cells.dtype == pl.Float32:  # 17525.1 as a 32-bit float means 17525.1, not 17525.099609375
        cells = cells.cast(pl.String)
    if cells.dtype == pl.String:
        cells = cells.str.strip_chars()
        cells = cells.set(cells == "", None)
    elif not cells.dtype.is_numeric() and cells.dtype != pl.Null:
        rows.fail(field, np.ones(len(cells), dtype=bool), f"is {cells.dtype}, not a number", "pass numbers")
    numbers = cells.cast(pl.Float64, strict=False)
    bad = (numbers.is_null() & cells.is_not_null()).to_numpy()
    if unreadable == "raise":
        rows.fail(
            field, bad, "is not a number", fix or 'correct it, or leave such rows out: bad_prices="drop"'
        )
    return numbers.fill_null(float("nan")).to_numpy(), cells.is_null().to_numpy()


def good_prices(rows: Rows, column: str, field: str, policy: str) -> None:
    values = rows.values[field]
    for bad, what in (
        (np.isnan(values), "is missing or not a number"),
        (np.isinf(values), "is infinite"),
        (values == 0, "is zero"),
        (values < 0, "is negative"),
    ):
        if policy == "raise":
            rows.fail(
                column, bad, f"is no price: it {what}", 'correct it, or leave such rows out: bad_prices="drop"',
                code="E_PRICE_NUMBER",
            )  # fmt: skip
    bad = ~(np.isfinite(values) & (values > 0))
    if bad.any():
        rows.drop(bad, f"{rows.table.originals.get(column, column)} missing, not a number, or not above zero")


def in_order(rows: Rows, policy: str) -> None:
    order = rows.groups()
    late = np.zeros(len(order), dtype=bool)
    late[order[1:]] = (np.diff(rows.ts[order]) < 0) & (np.diff(rows.index[order]) == 0)
    if policy == "raise":
        rows.fail(
            "ts", late, "is earlier than the row before of that symbol", 'sort the file, or pass order="sort"',
            code="E_ORDER",
        )  # fmt: skip
    rows.note(int(late.sum()), "earlier than the row before, sorted by time")
    if np.any(np.diff(rows.ts) < 0):
        rows.keep(np.argsort(rows.ts, kind="stable"))


def repeats_of_time(rows: Rows, *, last: bool = False) -> Mask:
    """Where a row has the symbol and time of an earlier row (of a later one with ``last``)."""
    order = rows.groups()
    same = (np.diff(rows.ts[order]) == 0) & (np.diff(rows.index[order]) == 0)
    again = np.zeros(len(order), dtype=bool)
    again[order[:-1] if last else order[1:]] = same
    return again


def no_repeats(rows: Rows, policy: str) -> None:
    if policy == "keep":
        return
    if policy in ("first", "last"):
        rows.drop(
            repeats_of_time(rows, last=policy == "last"), f"another tick of the same time ({policy} kept)"
        )
        return
    shared = repeats_of_time(rows) | repeats_of_time(rows, last=True)
    if not shared.any():
        return
    import polars as pl

    at = np.flatnonzero(shared)
    cells = pl.DataFrame(
        {"ts": rows.ts[at], "index": rows.index[at], **{n: a[at] for n, a in rows.values.items()}}
    )
    if rows.table.ignored is not None:
        cells = pl.concat(
            [cells, rows.table.ignored[rows.at[at]].rename(lambda c: f"ignored {c}")], how="horizontal"
        )
    first = cells.select(pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy()
    again = np.zeros(len(rows.ts), dtype=bool)
    again[at] = ~first
    fix = 'remove it; or duplicates="first" (one tick per instant), or "keep" (real trades may look alike)'
    rows.fail("ts", again, "repeats another row in every column", fix, code="E_DUPLICATE")


def of_day(rows: Rows, day: dt.date | None) -> None:
    if day is not None:
        other = (rows.ts + IST_OFFSET_NS) // DAY != (day - EPOCH_DAY).days
        rows.fail("ts", other, f"is not on {day}", "pass the right day=, or leave it out")


def units_of(
    rows: Rows, field: str, instruments: list[Instrument], explicit: list[bool], policy: str
) -> Ints:
    """Prices as integer units on the grid of each row's instrument."""
    scale = np.array([float(i.price_scale) for i in instruments])[rows.index]
    tick = np.array([i.tick_size if e else 1 for i, e in zip(instruments, explicit, strict=True)])[rows.index]
    exact = rows.values[field] * scale
    if (exact >= 2.0**53).any():
        rows.fail(field, exact >= 2.0**53, "is too large for a price", "check its unit: prices are in rupees")
    units = np.rint(exact).astype(np.int64)
    off = (np.abs(exact - units) > TOLERANCE * np.maximum(1.0, exact * 1e-6)) | (units % tick != 0)
    if off.any():
        if policy == "raise":
            first = int(np.flatnonzero(off)[np.argmin(rows.at[off])])
            grid, price = tick[first] / scale[first], rows.values[field][first]
            low = np.floor(price / grid) * grid
            rows.fail(
                field, off, f"is off the grid of {grid:g}", f'use {low:.10g} or {low + grid:.10g}, or off_grid="round"',
                code="E_PRICE_TICK",
            )  # fmt: skip
        units = np.where(off, (np.rint(exact / tick) * tick).astype(np.int64), units)
        rows.note(int(off.sum()), f"with {field} rounded to the grid")
        if field in ("price", *BAR_FIELDS):
            rows.fail(
                field, units == 0, "rounds to zero", 'leave it out: bad_prices="drop", or pass an Instrument'
            )
    return units


def quantities_of(rows: Rows, field: str, instruments: list[Instrument]) -> Ints:
    """Volumes and sizes as whole quantity steps of each row's instrument."""
    steps = np.array([float(i.quantity_scale) for i in instruments])[rows.index]
    values = rows.values[field]
    fix = f"correct it, or ignore the column: {ignoring(rows.table, field)}"
    rows.fail(field, ~np.isfinite(values), "is missing, not a number or infinite", fix, code="E_QUANTITY")
    rows.fail(field, values < 0, "is negative", fix, code="E_QUANTITY")
    exact = values * steps
    rows.fail(field, exact >= 2.0**53, "is too large", fix, code="E_QUANTITY")
    whole = np.rint(exact)
    off = np.abs(exact - whole) > TOLERANCE * np.maximum(1.0, exact * 1e-6)
    rows.fail(field, off, "is a fraction of a quantity step", fix, code="E_QUANTITY")
    return whole.astype(np.int64)


def jumps_of(
    rows: Rows, instruments: list[Instrument], limit: float, policy: str, field: str = "price"
) -> Mask | None:
    """Refuses or notes absurd moves; with policy "drop" returns where the rows to leave out are."""
    order = rows.groups()
    price, index = rows.values["price"][order], rows.index[order]
    day = ((rows.ts + IST_OFFSET_NS) // DAY)[order]
    option = np.array([i.kind in ("CE", "PE") for i in instruments])
    same = (np.diff(index) == 0) & (np.diff(day) == 0) & ~option[index[1:]]
    moved = same & (np.abs(np.diff(price)) > limit * price[:-1] * (1 + 1e-12))
    if not moved.any():
        return None
    bad = np.zeros(len(order), dtype=bool)
    if policy == "drop":
        at = 0
        while at < len(moved):
            at += int(np.argmax(moved[at:])) if moved[at:].any() else len(moved)
            if at >= len(moved):
                break
            kept = price[at]
            at += 1  # leave out rows until one is near the last good price again
            while at < len(price) and same[at - 1] and abs(price[at] - kept) > limit * kept:
                bad[order[at]] = True
                at += 1
        return bad
    bad[order[1:]] = moved
    if policy == "raise":
        fix = 'correct it, or allow it: jumps="keep", or a larger max_jump; ticks also jumps="drop"'
        rows.fail(field, bad, f"is more than {limit:.0%} away from the price before", fix, code="E_JUMP")
    rows.note(int(bad.sum()), f"kept with a jump of more than {limit:.0%}")
    return None


def tape_of(
    rows: Rows, instruments: list[Instrument], ts: Ints, index: Ints, data: Mapping[str, Any]
) -> Tape:
    """Sorts what is left by time, drops instruments without rows, and seals it."""
    used, index = np.unique(index, return_inverse=True)
    columns: dict[str, Any] = {"ts": ts, "instrument": index.astype(np.int64), **data}
    if np.any(np.diff(ts) < 0):
        order = np.argsort(ts, kind="stable")
        columns = {n: a[order] for n, a in columns.items()}
    for array in columns.values():
        array.setflags(write=False)
    return Tape([instruments[int(n)] for n in used], **columns, notes=rows.notes)

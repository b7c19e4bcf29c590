"""The files of the rulebook: which there are, what may stand in a cell, and how a row is read.

Every error names file, line and column, and what to write instead.
"""

from __future__ import annotations

import csv
import datetime as dt
import functools
import re
from decimal import Decimal
from pathlib import Path

import msgspec

from alphapanda.errors import DataError, UnknownNameError

TABLES: dict[str, tuple[str, ...]] = {  # file: the columns that identify a rule
    "calendars": ("calendar",),
    "holidays": ("calendar",),
    "sessions": ("market",),
    "special_sessions": ("market", "venue"),
    "square_off": ("market",),
    "products": ("market",),
    "circuits": ("market",),
    "commodities": ("name",),
    "charges": ("kind", "class", "exchange"),
    "lots": ("exchange", "name"),
    "freeze": ("exchange", "name"),
    "ticks": ("exchange", "contract"),
}

PERCENT = r"\d+(\.\d{1,7})?"  # to the part per 1e9, exactly
RUPEES = r"(\d+(\.\d{1,2})?)?"
WHOLE = r"\d+"
SPAN = r"[0-2]\d:[0-5]\d-[0-2]\d:[0-5]\d"
PHASE = rf"(preopen|continuous|closing_auction|post_close) {SPAN}"
BAND = r">?\d+(\.\d+)?:\d+(\.\d+)?"
FORMS: dict[str, tuple[str, str]] = {  # column: what a cell must look like, and an example
    "status": ("confirmed|unconfirmed", "confirmed or unconfirmed"),
    "open": ("closed|morning|evening|open", "closed, morning, evening or open"),
    "phases": (rf"(?=.*continuous ){PHASE}(; {PHASE})*", "preopen 09:00-09:15; continuous 09:15-15:30"),
    "bands": (rf"{BAND}( {BAND})*", "0:0.01 250:0.05 >1000:0.10"),
    "buy_percent": (PERCENT, "0.03"),
    "sell_percent": (PERCENT, "0.03"),
    "percent": (r"\d+(\.\d+)?", "20"),
    "cap_rupees": (RUPEES, "20"),
    "flat_rupees": (RUPEES, "15.34"),
    "fee_rupees": (RUPEES, "50"),
    "lot": (r"[1-9]\d*", "65"),
    "quantity": (r"[1-9]\d*", "1800"),
    "entry_minutes": (WHOLE, "10"),
    "exit_minutes": (WHOLE, "10"),
    "special_minutes": (WHOLE, "10"),
    "source": (".+", "where the fact comes from"),
}


class Row(msgspec.Struct, frozen=True):
    """One dated fact of one table, and where it is written."""

    table: str
    key: tuple[str, ...]
    start: dt.date
    end: dt.date
    facts: dict[str, str]
    confirmed: bool
    source: str
    note: str
    where: str

    def ppb(self, column: str) -> int:
        """A percent cell in parts per 1e9."""
        return int(Decimal(self.facts[column]) * 10**7)

    def rate(self) -> int:
        """The rate of a charge that cannot differ by side, in parts per 1e9."""
        if self.facts["buy_percent"] != self.facts["sell_percent"]:
            raise DataError(
                f"{self.where}: this charge is the same on both sides", fix="write one rate twice"
            )
        return self.ppb("sell_percent")

    def whole_percent(self) -> int:
        """A rate that is taken on other charges, in whole percent."""
        percent, rest = divmod(self.rate(), 10**7)
        if rest:
            raise DataError(f"{self.where}: GST is kept in whole percent", fix="write 18")
        return percent

    def paise(self, column: str) -> int:
        """A rupee cell in paise; 0 if empty."""
        return int(Decimal(self.facts[column] or "0") * 100)


@functools.cache
def shipped() -> tuple[Row, ...]:
    """The rows that come with the package."""
    folder = Path(__file__).parent
    return tuple(row for table in TABLES for row in read(folder / f"{table}.csv"))


def laid_over(path: Path) -> list[Row]:
    """The rows of a user's file or folder; one that could never apply (a misspelt market) is an error."""
    files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    if not files:
        raise DataError(f"no .csv file in {path}", fix=f"name files like {', '.join(TABLES)}.csv")
    rows = [row for file in files for row in read(file)]
    known: dict[str, set[str]] = {"venue": {"", "MCX"}}
    for row in shipped():
        for column, value in zip(TABLES[row.table], row.key, strict=True):
            known.setdefault(column, set()).add(value)
    for row in rows:
        for column, value in zip(TABLES[row.table], row.key, strict=True):
            if column != "name" and value not in known[column]:
                raise UnknownNameError(f"{column} in {row.where}", value, known[column])
    return rows


@functools.cache
def _columns(table: str) -> list[str]:
    with (Path(__file__).parent / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        return next(csv.reader(file))


def read(path: Path) -> list[Row]:
    """The rows of one file; an error names file, line and column."""
    table = path.stem
    if table not in TABLES:
        raise UnknownNameError("rulebook table", table, TABLES, file=str(path))
    if not path.is_file():
        raise DataError(f"no such file: {path}", fix="pass a table's file or a folder of them")
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        no_header: list[str] = []
        header, wanted = next(reader, no_header), _columns(table)
        if header != wanted:
            raise DataError(
                f"{path.name}: the columns are {','.join(header)}", fix=f"write {','.join(wanted)}"
            )
        return [
            _row(table, f"{path.name}:{reader.line_num}", wanted, cells) for cells in reader if any(cells)
        ]


def _row(table: str, where: str, columns: list[str], cells: list[str]) -> Row:
    if len(cells) != len(columns):
        raise DataError(
            f"{where}: {len(cells)} cells for {len(columns)} columns", fix="quote cells that hold a comma"
        )
    facts = dict(zip(columns, (cell.strip() for cell in cells), strict=True))
    for column, (form, example) in FORMS.items():
        if column in facts and not re.fullmatch(form, facts[column]):
            raise DataError(f"{where}: {column} {facts[column]!r}", fix=f"write {example}", column=column)
    start = _date(where, "from", facts.pop("from"))
    end = _date(where, "to", facts.pop("to") or str(dt.date.max))
    status, source, note = facts.pop("status"), facts.pop("source"), facts.pop("note")
    if status == "unconfirmed" and not note:
        raise DataError(f"{where}: an unconfirmed row needs a note", fix="say what is open", column="note")
    if end < start:
        raise DataError(
            f"{where}: ends on {end}, before it begins on {start}", fix="swap from and to", column="to"
        )
    key = tuple(facts[column] for column in TABLES[table])
    return Row(table, key, start, end, facts, status == "confirmed", source, note, where)


def _date(where: str, column: str, text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise DataError(
            f"{where}: {column} {text!r} is not a day", fix="write 2026-12-07", column=column
        ) from None

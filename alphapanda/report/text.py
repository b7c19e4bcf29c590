"""Numbers, times and foreign text as a person reads them; the plain-text report.

Every number carries Indian grouping, nothing is ever in scientific notation, and text that came from a strategy loses
its control characters before it reaches a terminal or a page.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alphapanda.events import DAY, SECOND, ist
from alphapanda.money import rupees
from alphapanda.result import RunError

if TYPE_CHECKING:
    from alphapanda.report.report import Report

NOT_AVAILABLE = "n/a"
NOTES = 3  # shown in a terminal
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_BLOCKS = "▁▂▃▄▅▆▇█"
_BRAILLE = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # dot bits by row and column of a cell


def clean(text: object) -> str:
    """Text without terminal escapes, control characters and bidi overrides; tabs and line ends stay."""
    return _CONTROLS.sub("", _ESCAPES.sub("", str(text)))


def one_line(text: object, width: int = 160) -> str:
    """Foreign text for a table cell: cleaned, on one line, cut with an ellipsis."""
    flat = " ".join(clean(text).split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"


def signed(paise: int) -> str:
    """Rupees with the sign shown for a gain too."""
    return f"+{rupees(paise)}" if paise > 0 else rupees(paise)


def whole(number: int) -> str:
    """An integer with Indian grouping: 1234567 is ``12,34,567``."""
    return rupees(number * 100).replace("₹", "")[:-3]


def decimal(number: float | None, digits: int = 2) -> str:
    """A number with decimals and Indian grouping: 1234567.891 is ``12,34,567.89``."""
    if number is None:
        return NOT_AVAILABLE
    integer, point, fraction = f"{abs(number):.{digits}f}".partition(".")
    sign = "-" if number < 0 else ""
    return f"{sign}{whole(int(integer)) if integer.isdigit() else integer}{point}{fraction}"


def price(units: int | None, scale: int) -> str:
    """Price units as rupees without the sign: two decimals, four where the market quotes finer."""
    return "" if units is None else average(units / scale, scale)


def average(rupees: float | None, scale: int = 100) -> str:
    """An average price in rupees without the sign, as fine as prices of that scale."""
    return "" if rupees is None else decimal(rupees, 4 if scale > 100 else 2)


def percent(value: float | None, sign: bool = False) -> str:
    """A percentage with two decimals, four where two would show nothing."""
    if value is None:
        return NOT_AVAILABLE
    plus = "+" if sign and value > 0 else ""
    return f"{plus}{decimal(value, 4 if 0 < abs(value) < 0.005 else 2)}%"


def duration(ns: int | None) -> str:
    """Nanoseconds as ``3 d 02:15:00``."""
    if ns is None:
        return NOT_AVAILABLE
    days, rest = divmod(ns, DAY)
    seconds = rest // SECOND
    clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{days} d {clock}" if days else clock


def moment(ts: int, dated: bool = True) -> str:
    """A time in IST to the second, with its date unless every row has the same one."""
    return ist(ts).strftime("%d %b %H:%M:%S" if dated else "%H:%M:%S") if ts else ""


def span(first: int, last: int) -> str:
    """From when to when, in IST."""
    if not last:
        return "no market data"
    a, b = ist(first), ist(last)
    if a.date() == b.date():
        return f"{a:%d %b %Y, %H:%M} – {b:%H:%M} IST"
    return f"{a:%d %b %Y} – {b:%d %b %Y}"


def settings_lines(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted names and values."""
    lines: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            nested: Mapping[str, Any] = value  # pyright: ignore[reportUnknownVariableType] a mapping of unknown values
            lines += settings_lines(nested, f"{prefix}{name}.")
        else:
            lines.append((one_line(f"{prefix}{name}"), one_line(value)))
    return lines


def parameters_text(parameters: Mapping[str, Any]) -> str:
    """``fast=20, slow=50``."""
    return ", ".join(f"{one_line(name)}={one_line(value, 60)}" for name, value in parameters.items())


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────────

_CELL = re.compile(r"(?:In\[|<ipython-input-)(\d+)")


def source(file: str, line: int) -> str:
    """A line of code by the name its author knows it by: the notebook's cell, or the file without its folders."""
    cell = _CELL.match(_ipython_name(file) or file)
    if cell:
        return f"cell [{cell[1]}], line {line}"
    if Path(file).parent.name.startswith("ipykernel_"):  # a cell of a kernel that is not this process
        return f"notebook cell, line {line}"
    return one_line(f"{Path(file).name or 'unknown file'}:{line}")


def _ipython_name(file: str) -> str:
    """``In[19]`` for the code of a notebook's cell, if IPython runs here and knows it."""
    get_shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = get_shell() if get_shell else None
    label = getattr(getattr(shell, "compile", None), "format_code_name", None)
    known = label(file) if label else None
    return str(known[1]) if known else ""


def code(error: RunError) -> str:
    """The line of source that raised, as it stood then; "" where there is none."""
    at = re.escape(f'File "{error.file}", line {error.line}, in ') + r".*\n {4}(\S.*)"
    found = re.findall(at, error.traceback)
    return one_line(found[-1]) if found else ""


def place(error: RunError) -> str:
    """Where a callback raised: in whose code, at which event."""
    who, at = f"{error.strategy}.{error.callback}", error.symbol or "no symbol"
    return one_line(f"{who}, {source(error.file, error.line)} · {at} · {moment(error.ts)}")


def stopped(report: Report) -> dict[str, str]:
    """Strategy → reason, for those halted by something other than the errors that are shown anyway."""
    told = {(e.strategy, f"{e.callback} raised ") for e in report.result.errors}
    return {
        name: reason
        for name, reason in report.halted.items()
        if not any(name == who and reason.startswith(start) for who, start in told)
    }


# ── curves of characters ─────────────────────────────────────────────────────────────────────────────────────────


def _sampled(values: Sequence[int], count: int) -> list[int]:
    if len(values) <= count:
        return list(values)
    return [values[i * (len(values) - 1) // (count - 1)] for i in range(count)]


def sparkline(values: Sequence[int], width: int = 60) -> str:
    """The curve as a row of block characters; flat is the lowest block."""
    points = _sampled(values, width)
    if not points:
        return ""
    low, high = min(points), max(points)
    scale = len(_BLOCKS) - 1
    return "".join(_BLOCKS[(v - low) * scale // (high - low) if high > low else 0] for v in points)


def braille(values: Sequence[int], width: int = 60, height: int = 5) -> list[str]:
    """The curve as rows of braille characters: two dots across and four up in each."""
    if not values:
        return []
    columns, rows = 2 * width, 4 * height
    count = len(values)
    points = [values[i * (count - 1) // max(columns - 1, 1)] for i in range(columns)]
    low, high = min(points), max(points)
    level = [(v - low) * (rows - 1) // (high - low) if high > low else 0 for v in points]
    cells = [[0] * width for _ in range(height)]
    previous = level[0]
    for x, y in enumerate(level):
        for dot in range(min(previous, y), max(previous, y) + 1):
            row = rows - 1 - dot
            cells[row // 4][x // 2] |= _BRAILLE[row % 4][x % 2]
        previous = y
    return ["".join(chr(0x2800 + cell) for cell in row) for row in cells]


# ── the report in plain text ─────────────────────────────────────────────────────────────────────────────────────

SUMMARY = (
    ("return_percent", "max_drawdown_percent"),
    ("sharpe", "volatility_percent"),
    ("trades", "hit_rate_percent"),
    ("profit_factor", "expectancy"),
    ("orders", "fills"),
    ("charges", "turnover"),
)


def plain(report: Report) -> str:
    """The report for a terminal without colour, a log or a web page that shows text only."""
    r, stats = report.result, report.stats
    lines = [headline(report), ""]
    for error in r.errors:
        lines += [f"ERROR  {one_line(error.message)}", f"       {place(error)}; halted"]
        lines += [f"       {line}" for line in [code(error)] if line]
    other = stopped(report)
    lines += [f"HALTED {one_line(name)}: {one_line(reason)}" for name, reason in other.items()]
    if r.errors or other:
        lines.append("")
    net = stats.paise("net_pnl")
    lines.append(f"net P&L after charges  {signed(net)}  ({percent(stats['return_percent'], sign=True)})")
    lines.append(
        f"equity                 {rupees(stats.paise('final_equity'))} from {rupees(stats.paise('capital'))}"
    )
    curve = sparkline([point.equity for point in report.points])
    lines += [f"                       {curve}", ""] if curve else [""]
    for left, right in SUMMARY:
        line = f"{stats.label(left):<26} {stats.text(left):>16}    "
        lines.append(line + f"{stats.label(right):<30} {stats.text(right):>16}")
    if len(r.strategies) > 1:
        lines += ["", f"{'strategy':<28} {'orders':>8} {'fills':>8} {'denied':>8} {'net P&L':>18}"]
        for row in report.by_strategy:
            counts = " ".join(f"{whole(n):>8}" for n in (row.orders, row.fills, row.denials))
            lines.append(f"{one_line(row.name, 28):<28} {counts} {signed(row.net):>18}")
    if report.denied:
        lines += ["", "denied by our own risk rules"]
        lines += [f"  {whole(count):>6} × {one_line(reason)}" for reason, count in report.denied[:5]]
        if len(report.denied) > 5:
            lines.append(f"  and {whole(len(report.denied) - 5)} more reasons in .denials")
    lines += ["", *noted(report)] if report.notes else []
    lines += ["", f"digest {report.digest}"]
    return "\n".join(line.rstrip() for line in lines)


def noted(report: Report) -> list[str]:
    """The first notes, and where the rest are."""
    lines = [f"note: {one_line(note, 400)}" for note in report.notes[:NOTES]]
    more = len(report.notes) - NOTES
    return [*lines, f"{whole(more)} more: report.notes"] if more > 0 else lines


def headline(report: Report) -> str:
    """Who traded what, when."""
    r = report.result
    names = one_line(
        ", ".join(r.strategies[:4])
        + (f" and {whole(len(r.strategies) - 4)} more" if len(r.strategies) > 4 else "")
    )
    return f"{names or 'no strategy'} · {span(r.first_ts, r.last_ts)} · {symbols_text(report)}"


def symbols_text(report: Report) -> str:
    """The instruments that orders named, else those of the tape; the first few by name."""
    ordered = {order.symbol for order in report.result.orders}
    symbols = [i.symbol for i in report.result.instruments if not ordered or i.symbol in ordered]
    more = f" and {whole(len(symbols) - 3)} more" if len(symbols) > 3 else ""
    return one_line(", ".join(symbols[:3]) + more) or "no instrument"

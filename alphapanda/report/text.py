"""Numbers, times and foreign text as a person reads them; the plain-text report.

Rupees carry Indian grouping, nothing is ever in scientific notation, and text that came from a strategy loses its
control characters before it reaches a terminal or a page.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from alphapanda.events import DAY, SECOND, ist
from alphapanda.money import rupees
from alphapanda.result import RunError

if TYPE_CHECKING:
    from alphapanda.report.report import Report

NOT_AVAILABLE = "n/a"
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


def price(units: int | None, scale: int) -> str:
    """Price units as rupees without the sign: two decimals, four where the market quotes finer."""
    if units is None:
        return ""
    return f"{units / scale:,.4f}" if scale > 100 else rupees(units * 100 // scale).replace("₹", "")


def percent(value: float | None, sign: bool = False) -> str:
    """A percentage with two decimals, four where two would show nothing."""
    if value is None:
        return NOT_AVAILABLE
    digits = 4 if 0 < abs(value) < 0.005 else 2
    return f"{value:+,.{digits}f}%" if sign and value else f"{value:,.{digits}f}%"


def ratio(value: float | None) -> str:
    """A plain number with two decimals."""
    return NOT_AVAILABLE if value is None else f"{value:,.2f}"


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


def place(error: RunError) -> str:
    """Where a callback raised: at which event, on which line."""
    who, at = f"{error.strategy}.{error.callback}", error.symbol or "no symbol"
    return one_line(f"{who} · {at} · {moment(error.ts)} · {error.file}:{error.line}")


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
        lines += [f"ERROR  {one_line(error.message)}", f"       {place(error)}"]
    for name, reason in report.halted.items():
        lines.append(f"HALTED {one_line(name)}: {one_line(reason)}")
    if r.errors or report.halted:
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
            lines.append(
                f"{one_line(row.name, 28):<28} {row.orders:>8} {row.fills:>8} {row.denials:>8} {signed(row.net):>18}"
            )
    if report.denied:
        lines += ["", "denied by our own risk rules"]
        lines += [f"  {count:>6} × {one_line(reason)}" for reason, count in report.denied[:5]]
        if len(report.denied) > 5:
            lines.append(f"  and {len(report.denied) - 5} more reasons in .denials")
    lines += ["", *(f"note: {one_line(note, 400)}" for note in r.notes)] if r.notes else []
    lines += ["", f"digest {report.digest}"]
    return "\n".join(line.rstrip() for line in lines)


def headline(report: Report) -> str:
    """Who traded what, when."""
    r = report.result
    names = one_line(
        ", ".join(r.strategies[:4]) + (f" and {len(r.strategies) - 4} more" if len(r.strategies) > 4 else "")
    )
    return f"{names or 'no strategy'} · {span(r.first_ts, r.last_ts)} · {symbols_text(report)}"


def symbols_text(report: Report) -> str:
    """The instruments that orders named, else those of the tape; the first few by name."""
    ordered = {order.symbol for order in report.result.orders}
    symbols = [i.symbol for i in report.result.instruments if not ordered or i.symbol in ordered]
    more = f" and {len(symbols) - 3} more" if len(symbols) > 3 else ""
    return one_line(", ".join(symbols[:3]) + more) or "no instrument"

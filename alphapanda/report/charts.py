"""The pictures of a report: equity with drawdown, price with fills.

matplotlib by its object interface only: no pyplot, so no state is shared with a notebook or a widget's callback. The
background is transparent and the ink a middle grey, readable on a light page and on a dark one.
"""

# pyright: reportUnknownMemberType=false
# (matplotlib leaves its **kwargs untyped; arguments and results are still checked)

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from alphapanda.events import DAY, IST_OFFSET_NS, MINUTE, SECOND, Block, Fill, Ints, ist
from alphapanda.instruments import Instrument
from alphapanda.money import rupees
from alphapanda.report.stats import drawdowns
from alphapanda.result import Mark

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, LINE, FALL, BUY, SELL = "#7a8089", "#3478c6", "#c8553d", "#16936f", "#d1495b"
POINTS = 2_000  # of a line; a screen shows no more
MARKERS = 400  # fills of one side drawn in one picture
PANELS = 6
_STYLE = {
    "font.family": "sans-serif",
    "svg.fonttype": "none",
    "svg.hashsalt": "alphapanda",
    "text.parse_math": False,
}
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}

Floats = npt.NDArray[np.float64]


class Chart(Figure):
    """A figure that shows itself in a notebook without pyplot."""

    def _repr_svg_(self) -> str:
        return svg(self)


class Timeline:
    """Tape time laid out without the hours the market was shut.

    Each day takes the room between its first and last moment of interest; days follow each other directly.
    """

    def __init__(self, ts: Ints) -> None:
        self.days, first = np.unique((ts + IST_OFFSET_NS) // DAY, return_index=True)
        ends = np.append(first[1:], len(ts)) - 1
        self.first, self.last = ts[first], ts[ends]
        lengths = np.maximum(self.last - self.first, MINUTE)
        self.start = np.concatenate([[0], np.cumsum(lengths)])

    def place(self, ts: Ints) -> Floats:
        """Minutes on the time axis; a moment outside the known days goes to the nearest edge."""
        day = np.clip(np.searchsorted(self.first, ts, side="right") - 1, 0, len(self.days) - 1)
        inside = np.clip(ts, self.first[day], self.last[day]) - self.first[day]
        return (self.start[day] + inside) / MINUTE

    def ticks(self) -> tuple[list[float], list[str]]:
        """Where to write what: clock times on one day, dates over several."""
        if len(self.days) == 1:
            return self._clock()
        step = -(-len(self.days) // 8)
        chosen = range(0, len(self.days), step)
        years = ist(int(self.first[0])).year != ist(int(self.first[-1])).year
        form = "%d %b %y" if years else "%d %b"
        return [self.start[i] / MINUTE for i in chosen], [
            ist(int(self.first[i])).strftime(form) for i in chosen
        ]

    def _clock(self) -> tuple[list[float], list[str]]:
        begin, end = int(self.first[0]), int(self.last[0])
        steps = (2, 5, 10, 15, 30, *(60 * m for m in (1, 2, 5, 10, 15, 30, 60, 120, 180)))
        step = next((s for s in steps if (end - begin) <= 8 * s * SECOND), 240 * 60) * SECOND
        local = -(-(begin + IST_OFFSET_NS) // step) * step - IST_OFFSET_NS
        moments = list(range(local, end + 1, step))
        form = "%H:%M" if step >= MINUTE else "%H:%M:%S"
        return [(t - begin) / MINUTE for t in moments], [ist(t).strftime(form) for t in moments]


def thinned(values: Ints, limit: int = POINTS) -> Ints:
    """Indexes of at most ``limit`` points that keep each stretch's lowest and highest, and both ends."""
    if len(values) <= limit:
        return np.arange(len(values))
    edges = np.linspace(0, len(values), (limit - 2) // 2 + 1).astype(np.int64)
    picked = {0, len(values) - 1}
    for a, b in pairwise(edges.tolist()):
        part = values[a:b]
        picked |= {int(a + part.argmin()), int(a + part.argmax())}
    return np.array(sorted(picked), np.int64)


def blank(rows: int, height: float, ratios: Sequence[float] | None = None) -> tuple[Chart, list[Axes]]:
    """A figure of so many panels below each other; with ``ratios`` of their heights they share the time axis."""
    with mpl.rc_context(cast("Any", _STYLE)):
        figure = Chart(figsize=(9.6, height), layout="constrained", facecolor="none")
        made = figure.subplots(rows, 1, squeeze=False, sharex=ratios is not None, height_ratios=ratios)
    axes = [cast("Axes", row[0]) for row in made]
    for ax in axes:
        ax.set_facecolor("none")
        for side in ("top", "right", "left"):
            ax.spines[side].set_visible(False)
        ax.spines["bottom"].set_color(INK)
        ax.spines["bottom"].set_alpha(0.5)
        ax.tick_params(colors=INK, labelsize=9, length=0, pad=6)
        ax.grid(axis="y", color=INK, alpha=0.18, linewidth=0.7)
        ax.set_axisbelow(True)
        ax.margins(x=0.01, y=0.08)
    return figure, axes


def rupee_axis(ax: Axes, scale: float, count: int, sign: str = "₹") -> None:
    """Label an axis whose values are ``scale`` to the rupee, with Indian grouping and no needless paise."""

    def write(value: float, _: int | None = None) -> str:
        paise = round(value * 100 / scale)
        label = rupees(paise).replace("₹", sign)
        return label if fine else label[:-3]

    ax.yaxis.set_major_locator(MaxNLocator(count, steps=[1, 2, 2.5, 5, 10], min_n_ticks=2))
    low, high = ax.get_ylim()
    fine = (high - low) / scale < count
    ax.yaxis.set_major_formatter(FuncFormatter(write))


def time_axis(ax: Axes, timeline: Timeline) -> None:
    """Write clock times, or dates where there are several, and a line between days."""
    where, labels = timeline.ticks()

    def write(_: float, position: int | None = None) -> str:
        return labels[position or 0]

    ax.xaxis.set_major_locator(FixedLocator(where))
    ax.xaxis.set_major_formatter(FuncFormatter(write))
    if len(timeline.days) > 1:
        for day in timeline.start[1:-1] if len(timeline.days) <= 30 else ():
            ax.axvline(day / MINUTE, color=INK, alpha=0.14, linewidth=0.7)


def nothing(message: str) -> Chart:
    """A small picture that says why there is none."""
    figure, (ax,) = blank(1, 2.2)
    ax.set_axis_off()
    ax.text(0.5, 0.5, message, ha="center", va="center", color=INK, fontsize=11, transform=ax.transAxes)
    return figure


def titled(ax: Axes, title: str) -> None:
    """What a panel shows, above it on the left."""
    ax.set_title(title, loc="left", color=INK, fontsize=10, pad=10)


def equity(points: list[Mark], capital: int, height: float = 4.6) -> Chart:
    """Equity after charges, and below it the fall from its peak."""
    if len(points) < 2:
        return nothing("no equity curve: the run saw no market data")
    ts = np.array([p.ts for p in points], np.int64)
    values = np.array([p.equity for p in points], np.int64)
    fall, _ = drawdowns(points, capital)
    timeline = Timeline(ts)
    keep = np.union1d(thinned(values, POINTS // 2), thinned(fall, POINTS // 2))
    x, y, under = timeline.place(ts[keep]), values[keep], -fall[keep]
    figure, (upper, lower) = blank(2, height, ratios=(3, 1))
    upper.axhline(capital, color=INK, alpha=0.6, linewidth=0.8, linestyle=(0, (4, 3)))
    upper.plot(x, y, color=LINE, linewidth=1.6, solid_joinstyle="round")
    upper.fill_between(x, y, capital, color=LINE, alpha=0.10, linewidth=0)
    lower.fill_between(x, under, 0, color=FALL, alpha=0.22, linewidth=0)
    lower.plot(x, under, color=FALL, linewidth=1.0)
    rupee_axis(upper, 100, 5)
    rupee_axis(lower, 100, 2)
    time_axis(lower, timeline)
    for day in timeline.start[1:-1] if 1 < len(timeline.days) <= 30 else ():
        upper.axvline(day / MINUTE, color=INK, alpha=0.14, linewidth=0.7)
    titled(upper, "equity after charges")
    titled(lower, "drawdown")
    return figure


class Prices:
    """One instrument's price line, thinned already, and the fills to lay over it; without a line the fills make one."""

    def __init__(
        self,
        symbol: str,
        scale: int,
        ts: Sequence[int] | Ints,
        units: Sequence[int] | Ints,
        fills: list[Fill],
    ) -> None:
        self.traced = len(ts) > 0
        if not self.traced:
            ts, units = [f.ts for f in fills], [f.price_units for f in fills]
        self.symbol, self.scale, self.fills = symbol, scale, fills
        keep = thinned(np.asarray(units, np.int64))
        self.ts, self.units = np.asarray(ts, np.int64)[keep], np.asarray(units, np.int64)[keep]


def price_lines(
    instruments: Sequence[Instrument], blocks: Iterable[Block], symbols: Sequence[str]
) -> dict[str, tuple[Ints, Ints]]:
    """Symbol → times and price units of a line of ``POINTS``, from one pass over a tape of any length."""
    found: dict[int, tuple[list[Ints], list[Ints]]] = {
        i: ([], []) for i, instrument in enumerate(instruments) if instrument.symbol in symbols
    }
    for block in blocks:
        for index, (ts, units) in found.items():
            own = block.instrument == index
            price = block.price[own]
            keep = thinned(
                price, min(max(256, len(price) // 4), POINTS // 2)
            )  # bounded a block, even over the day
            ts.append(block.ts[own][keep])
            units.append(price[keep])
    lines: dict[str, tuple[Ints, Ints]] = {}
    for index, (ts, units) in found.items():
        if ts:
            moments, price = np.concatenate(ts), np.concatenate(units)
            keep = thinned(price)
            lines[instruments[index].symbol] = moments[keep], price[keep]
    return lines


def prices(panels: list[Prices], height: float = 3.4) -> Chart:
    """Price over time, one panel an instrument: a triangle up for each buy, a triangle down for each sell."""
    shown = [p for p in panels if len(p.ts)][:PANELS]
    if not shown:
        return nothing("no prices: nothing was traded, or the report has no tape")
    figure, axes = blank(len(shown), height * len(shown) if len(shown) == 1 else 2.7 * len(shown))
    for ax, panel in zip(axes, shown, strict=True):
        _price_panel(ax, panel)
    return figure


def _price_panel(ax: Axes, panel: Prices) -> None:
    filled = np.array([f.ts for f in panel.fills], np.int64)
    timeline = Timeline(np.sort(np.concatenate([panel.ts, filled])))
    ax.plot(
        timeline.place(panel.ts), panel.units, color=INK, linewidth=1.0, alpha=0.9, solid_joinstyle="round"
    )
    title = panel.symbol if panel.traced else f"{panel.symbol}  ·  line drawn through the fills"
    for sign, marker, colour, name in ((1, "^", BUY, "buy"), (-1, "v", SELL, "sell")):
        side = [f for f in panel.fills if f.quantity * sign > 0]
        every = -(-len(side) // MARKERS) or 1
        if every > 1:
            title += f"  ·  1 of {every} {name}s drawn"
        side = side[::every]
        where = timeline.place(np.array([f.ts for f in side], np.int64))
        at = [f.price_units for f in side]
        size = 7 if len(side) <= 60 else 5
        label = name if side else None
        (drawn,) = ax.plot(where, at, marker, color=colour, markersize=size, alpha=0.9, label=label)
        drawn.set(markeredgewidth=0, linestyle="none")
    if panel.fills:
        legend = ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, fontsize=9)
        for text in legend.get_texts():
            text.set_color(INK)
    rupee_axis(ax, panel.scale, 5)
    time_axis(ax, timeline)
    titled(ax, title)


# ── out ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_ENVELOPE = re.compile(r"^.*?(?=<svg )|<metadata>.*?</metadata>|\s*xmlns:xlink=\"[^\"]*\"", re.DOTALL)


def svg(figure: Figure) -> str:
    """A figure as one SVG element with text kept as text; the same figure gives the same bytes."""
    buffer = io.StringIO()
    with mpl.rc_context(cast("Any", _STYLE)):
        save = cast("Callable[..., None]", figure.savefig)
        save(buffer, format="svg", metadata=_NO_METADATA)
    return _ENVELOPE.sub("", buffer.getvalue()).replace("xlink:href", "href")

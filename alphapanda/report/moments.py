"""Small pictures of one moment, and of two runs beside each other; drawn with the panels of ``charts``."""

# pyright: reportUnknownMemberType=false
# (matplotlib leaves its **kwargs untyped; arguments and results are still checked)

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from alphapanda.events import Ints
from alphapanda.report.charts import (
    BUY,
    INK,
    LINE,
    SELL,
    Chart,
    Timeline,
    blank,
    nothing,
    rupee_axis,
    thinned,
    time_axis,
    titled,
)
from alphapanda.report.page import HUES
from alphapanda.report.text import price
from alphapanda.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from alphapanda.report.chain import Chain
    from alphapanda.report.drift import Drift

NEAR = 0.12  # share of the price: an indicator within it is drawn over the price, another below
LINES = 5  # of indicators in one panel
HEIGHT = 3.4
DOTS = 150  # an inch


def decision(chain: Chain) -> Chart:
    """The price around an order's decision, with its indicators, its own prices and its fills."""
    scene, order = chain.scene, chain.order
    signal = chain.decision or order.signal
    if not len(scene.ts):
        return nothing("no prices: the ticks around the decision are not kept")
    scale = order.instrument.price_scale
    over, below = _sorted(chain, signal.reference / scale)
    ends = [signal.ts, order.end_ts, *(fill.ts for fill in chain.fills)]
    moments = np.array([*scene.ts.tolist(), *(ts for ts in ends if ts)], np.int64)
    timeline = Timeline(np.sort(moments))
    figure, axes = blank(2 if below else 1, HEIGHT + (1.1 if below else 0), ratios=(3, 1) if below else None)
    top = axes[0]
    keep = thinned(scene.units)
    top.plot(timeline.place(scene.ts[keep]), scene.units[keep], color=INK, linewidth=1.0, alpha=0.9)
    for hue, (name, line) in zip(HUES, over.items(), strict=False):
        _line(top, timeline, [ts for ts, _ in line], [value * scale for _, value in line], hue, name)
    for hue, (name, line) in zip(HUES[::-1], below.items(), strict=False):
        _line(axes[-1], timeline, [ts for ts, _ in line], [value for _, value in line], hue, name)
    _marks(top, timeline, chain, signal.ts, signal.reference)
    for ax in axes:
        ax.axvline(
            timeline.place(_one(signal.ts))[0], color=INK, alpha=0.55, linewidth=0.9, linestyle=(0, (4, 3))
        )
        if ax.get_legend_handles_labels()[1]:
            _legend(ax)
    rupee_axis(top, scale, 5)
    time_axis(axes[-1], timeline)
    titled(top, f"{order.symbol} around {order.id}")
    return figure


def two_curves(drift: Drift) -> Chart:
    """What two runs have booked over tape time, after charges, and what lies between them."""
    if not all(result.last_ts for result in drift.results):
        return nothing("no profit curves: a run saw no market data")
    curves = [_booked(result) for result in drift.results]
    every = np.unique(np.concatenate([ts for ts, _ in curves]))
    timeline = Timeline(every)
    figure, (ax,) = blank(1, 2.9)
    ax.axhline(0, color=INK, alpha=0.6, linewidth=0.8, linestyle=(0, (4, 3)))
    low, high = (own[np.clip(ts.searchsorted(every, side="right") - 1, 0, None)] for ts, own in curves)
    ax.fill_between(timeline.place(every), low, high, color=INK, alpha=0.12, linewidth=0, step="post")
    for (ts, own), hue, name in zip(curves, (LINE, HUES[1]), drift.names, strict=True):
        keep = thinned(own)
        ax.plot(
            timeline.place(ts[keep]), own[keep], color=hue, linewidth=1.5, label=name, drawstyle="steps-post"
        )
    _legend(ax)
    rupee_axis(ax, 100, 5)
    time_axis(ax, timeline)
    titled(ax, "booked profit after charges")
    return figure


def _booked(result: Result) -> tuple[Ints, Ints]:
    """Times and paise: after each fill, and at both ends."""
    earned = np.cumsum([fill.realized - sum(fill.charges) for fill in result.fills], dtype=np.int64)
    begun, ended = result.first_ts, max([result.last_ts, *(fill.ts for fill in result.fills)])
    ts = np.array([begun, *(fill.ts for fill in result.fills), ended], np.int64)
    return ts, np.array([0, *earned, *(earned[-1:] if len(earned) else [0])], np.int64)


def _legend(ax: Axes) -> None:
    drawn = ax.legend(
        loc="lower right", bbox_to_anchor=(1, 1), ncols=6, frameon=False, fontsize=8.5, handlelength=1.4,
        columnspacing=1.2,
    )  # fmt: skip
    for label in drawn.get_texts():
        label.set_color(INK)


def write_png(figure: Figure, path: Path) -> None:
    """A picture as a file, on white."""
    save = cast("Callable[..., None]", figure.savefig)
    save(path, format="png", dpi=DOTS, facecolor="white")


def _one(ts: int) -> Ints:
    return np.array([ts], np.int64)


def _sorted(
    chain: Chain, last: float
) -> tuple[dict[str, list[tuple[int, float]]], dict[str, list[tuple[int, float]]]]:
    """Indicators that are prices, and those that have a scale of their own."""
    over: dict[str, list[tuple[int, float]]] = {}
    below: dict[str, list[tuple[int, float]]] = {}
    for name, line in chain.scene.lines.items():
        near = abs(line[-1][1] - last) <= NEAR * last
        (over if near else below)[name] = line
    return dict(list(over.items())[:LINES]), dict(list(below.items())[:LINES])


def _line(ax: Axes, timeline: Timeline, ts: list[int], values: list[float], hue: str, name: str) -> None:
    where = timeline.place(np.array(ts, np.int64))
    ax.plot(where, values, color=hue, linewidth=1.2, alpha=0.9, label=name, drawstyle="steps-post")


def _marks(ax: Axes, timeline: Timeline, chain: Chain, ts: int, reference: int) -> None:
    """Where it was decided, the prices the order named while it worked, and where it traded."""
    order, scale = chain.order, chain.order.instrument.price_scale
    begun, ended, last = timeline.place(
        np.array([order.signal.ts, order.end_ts or timeline.last[-1], timeline.last[-1]], np.int64)
    )
    low, high = int(chain.scene.units.min()), int(chain.scene.units.max())
    for name in ("limit", "stop", "sl", "tp"):
        units = getattr(order.signal, name)
        if units is not None and low - (high - low) <= units <= high + (high - low):  # else the table has it
            end = last if name in ("sl", "tp") else max(ended, begun + 0.02)
            colour = BUY if name == "tp" else SELL if name in ("sl", "stop") else LINE
            ax.hlines(units, begun, end, color=colour, linewidth=1.1, linestyle=(0, (1, 1.5)))
            ax.annotate(
                f"{name} {price(units, scale)}", (float(begun), units), color=colour, fontsize=8, xytext=(3, 2),
                textcoords="offset points",
            )  # fmt: skip
    where = timeline.place(_one(ts))
    (made,) = ax.plot(where, [reference], "o", color=LINE, markersize=10, label="decision")
    made.set(fillstyle="none", linestyle="none", markeredgewidth=1.6)
    for sign, marker, colour, name in ((1, "^", BUY, "bought"), (-1, "v", SELL, "sold")):
        side = [fill for fill in chain.fills if fill.quantity * sign > 0]
        if side:
            at = timeline.place(np.array([fill.ts for fill in side], np.int64))
            prices = [fill.price_units for fill in side]
            (drawn,) = ax.plot(at, prices, marker, color=colour, markersize=8, label=name)
            drawn.set(markeredgewidth=0, linestyle="none")

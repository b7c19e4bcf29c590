"""Two runs of one strategy beside each other, as people see them: totals, a table of decisions, two profit curves."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from alphapanda.events import SECOND
from alphapanda.hindsight.pairs import BOTH, FAR, Pair, Side, charges_of, pair_up
from alphapanda.money import rupees
from alphapanda.report import page, text
from alphapanda.report.stats import curve
from alphapanda.result import Result

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure
    from rich.console import RenderableType

SHOWN = 40  # rows of the text; the frame has all


class Totals(msgspec.Struct, frozen=True):
    """Sums over both runs, the first one's first. Money in paise; ``net`` has open positions at their last prices,
    ``cost`` is what the second lost to the first by its fill prices."""

    decisions: int
    alike: int
    fills: tuple[int, int]
    net: tuple[int, int]
    charges: tuple[int, int]
    cost: int

    @property
    def difference(self) -> int:
        """What the second run earned more than the first."""
        return self.net[1] - self.net[0]


def compare(first: Result, second: Result, names: tuple[str, str], until: int = FAR, since: int = 0) -> Drift:
    """Lay two results side by side: their decisions from one time of the tape through another, and all their money."""
    pairs = pair_up(first, second, names, until, since)
    own = [pair for pair in pairs if not pair.key[3]]
    totals = Totals(
        len(own),
        sum(pair.decided == BOTH for pair in own),
        (len(first.fills), len(second.fills)),
        (_net(first), _net(second)),
        (charges_of(first.fills), charges_of(second.fills)),
        sum(pair.cost or 0 for pair in pairs),
    )
    return Drift(pairs, totals, names, (first, second))


def _net(result: Result) -> int:
    points = curve(result)
    return points[-1].equity - result.capital if points else 0


class Drift:
    """Two runs beside each other: ``pairs`` and ``totals`` as values, ``frame`` the table, ``plot()`` the curves."""

    def __init__(
        self, pairs: list[Pair], totals: Totals, names: tuple[str, str], results: tuple[Result, Result]
    ) -> None:
        self.pairs, self.totals, self.names, self.results = pairs, totals, names, results

    @cached_property
    def frame(self) -> pl.DataFrame:
        """One row a decision; the columns of each run begin with its name. Money in rupees."""
        from alphapanda.report import frames

        column = frames.Column
        columns = [
            column("seq", "int", lambda p: p.key[0]),
            column("ts", "time", lambda p: p.ts),
            column("strategy", "text", lambda p: p.key[1]),
            column("symbol", "text", lambda p: p.symbol),
            column("what", "text", lambda p: p.what),
            column("leg", "text", lambda p: p.key[3]),
            column("quantity", "int", lambda p: p.quantity),
            column("decided", "text", lambda p: p.decided),
        ]
        for at, name in enumerate(self.names):
            columns += [
                column(f"{name}_status", "text", _of(at, lambda s, p: s.status)),
                column(f"{name}_reason", "text", _of(at, lambda s, p: s.reason)),
                column(f"{name}_filled", "int", _of(at, lambda s, p: s.filled)),
                column(f"{name}_price", "float", _of(at, lambda s, p: p.price(s))),
                column(f"{name}_filled_at", "time", _of(at, lambda s, p: s.ts or None)),
                column(f"{name}_charges", "money", _of(at, lambda s, p: s.charges)),
                column(f"{name}_realized", "money", _of(at, lambda s, p: s.realized)),
            ]
        columns += [
            column("slippage_ticks", "float", lambda p: p.slip_ticks),
            column("slippage", "money", lambda p: p.cost),
            column("difference", "money", lambda p: p.gap),
        ]
        return frames.to_frame(self.pairs, columns)

    def plot(self) -> Figure:
        """What both runs have booked over tape time, after charges."""
        from alphapanda.report import moments

        return moments.two_curves(self)

    # ── shown ────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def lines(self) -> list[str]:
        """The totals as sentences."""
        (one, two), t = self.names, self.totals
        return [
            f"{one} beside {two}: {text.whole(t.alike)} of {text.whole(t.decisions)} decisions alike",
            f"fills {text.whole(t.fills[0])} and {text.whole(t.fills[1])}, "
            f"charges {rupees(t.charges[0])} and {rupees(t.charges[1])}",
            f"net {text.signed(t.net[0])} and {text.signed(t.net[1])}: difference {text.signed(t.difference)}, "
            f"by fill prices {text.signed(-t.cost)}",
        ]

    def __repr__(self) -> str:
        rows = [" ".join(c.padded(c.name) for c in COLUMNS)]
        rows += [" ".join(c.padded(c.read(pair)) for c in COLUMNS).rstrip() for pair in self.pairs[-SHOWN:]]
        more = len(self.pairs) - SHOWN
        rows += [f"{text.whole(more)} earlier ones: .frame"] if more > 0 else []
        return "\n".join([*self.lines, "", *rows])

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        from alphapanda.report.terminal import Fitted, cell

        heads = (f"{'>' if c.number else ''}{c.name}" for c in COLUMNS)
        table = Fitted("", *heads, spare=("charges", "verdict", "later s", "slippage", "quantity"))
        for pair in self.pairs[-SHOWN:]:
            table.add_row(*(cell(c.read(pair)) for c in COLUMNS))
        return Group(*(Text(line) for line in self.lines), table)

    def _repr_html_(self) -> str:
        tiles = "".join(
            f'<div class="ap-tile"><b>{page.esc(value)}</b><span class="ap-soft">{page.esc(name)}</span></div>'
            for name, value in self._tiles()
        )
        heads = [page.Column(c.name, c.read, "n" if c.number else "") for c in COLUMNS]
        head = f'<div class="ap-name">{page.esc(self.names[0])} beside {page.esc(self.names[1])}</div>'
        picture = page.drawing(self.plot(), "booked profit of both runs, after charges")
        body = f'{head}<div class="ap-tiles">{tiles}</div>{picture}{page.table(self.pairs, heads)}'
        return f'<style>{page.CSS}</style><div class="ap"><div class="ap-card">{body}</div></div>'

    def _tiles(self) -> list[tuple[str, str]]:
        (one, two), t = self.names, self.totals
        return [
            ("decisions alike", f"{text.whole(t.alike)} of {text.whole(t.decisions)}"),
            (f"fills, {one} and {two}", f"{text.whole(t.fills[0])} and {text.whole(t.fills[1])}"),
            (f"net, {one}", text.signed(t.net[0])),
            (f"net, {two}", text.signed(t.net[1])),
            ("difference", text.signed(t.difference)),
            ("by fill prices", text.signed(-t.cost)),
        ]


def _of(at: int, read: Callable[[Side, Pair], Any]) -> Callable[[Pair], Any]:
    """A figure of one of the two sides; None where that run has no such decision."""

    def value(pair: Pair) -> Any:
        side = (pair.first, pair.second)[at]
        return None if side is None else read(side, pair)

    return value


# ── the columns of the text and of the page ──────────────────────────────────────────────────────────────────────


class Shown(msgspec.Struct, frozen=True):
    """A column: its name, width in characters, whether it holds numbers, and its text for a pair."""

    name: str
    width: int
    number: bool
    read: Callable[[Pair], str]

    def padded(self, cell: str) -> str:
        """A cell of the plain text."""
        return f"{cell:>{self.width}}" if self.number else f"{cell:<{self.width}}"


def _two(pair: Pair, read: Callable[[Side], str]) -> str:
    """What both sides say, with a stroke between; one that says nothing, or is not there, is a dash."""
    said = ["-" if side is None else read(side) or "-" for side in (pair.first, pair.second)]
    return "" if said == ["-", "-"] else " / ".join(said)


def _verdict(pair: Pair) -> str:
    one, two = pair.first, pair.second
    return one.status if one and two and one.status == two.status else _two(pair, lambda side: side.status)


def _later(pair: Pair) -> str:
    one, two = pair.first, pair.second
    return "" if pair.slip is None or not one or not two else text.decimal((two.ts - one.ts) / SECOND, 3)


COLUMNS: tuple[Shown, ...] = (
    Shown("time", 15, False, lambda p: text.moment(p.ts)),
    Shown("symbol", 16, False, lambda p: p.symbol),
    Shown("what", 11, False, lambda p: f"{p.what} {p.key[3]}".rstrip()),
    Shown("quantity", 8, True, lambda p: text.whole(p.quantity) if p.quantity else ""),
    Shown("decided", 12, False, lambda p: p.decided),
    Shown("verdict", 18, False, _verdict),
    Shown("prices", 21, True, lambda p: _two(p, lambda s: text.average(p.price(s), p.scale))),
    Shown("later s", 8, True, _later),
    Shown("ticks", 7, True, lambda p: "" if p.slip_ticks is None else text.decimal(p.slip_ticks, 1)),
    Shown("slippage", 10, True, lambda p: "" if p.cost is None else text.signed(p.cost)),
    Shown("charges", 17, True, lambda p: _two(p, lambda s: rupees(s.charges) if s.charges else "")),
    Shown("realized", 21, True, lambda p: _two(p, lambda s: text.signed(s.realized) if s.realized else "")),
    Shown("difference", 11, True, lambda p: text.signed(p.gap)),
)

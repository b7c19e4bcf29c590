"""The report in colour, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.cells import cell_len
from rich.columns import Columns
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from alphapanda.charges import KINDS
from alphapanda.money import rupees
from alphapanda.orders import ENDED
from alphapanda.report import text
from alphapanda.report.stats import STATISTICS, side, wanted

if TYPE_CHECKING:
    from alphapanda.report.report import Report

GAIN, LOSS, DIM = "green", "red", "bright_black"
WRAPS_AT = 14  # characters: narrower than this a text column is left out
LAST = 10  # orders and fills shown
LEFT = (
    *(
        "return_percent",
        "annual_return_percent",
        "sharpe",
        "sortino",
        "volatility_percent",
        "max_drawdown_percent",
    ),
    *("max_drawdown", "drawdown_duration", "exposure_percent", "turnover", "slippage"),
)
RIGHT = (
    *(
        "orders",
        "fills",
        "denials",
        "trades",
        "open_trades",
        "hit_rate_percent",
        "average_win",
        "average_loss",
    ),
    *("profit_factor", "expectancy", "best_trade", "worst_trade"),
)


def tone(amount: float) -> str:
    """Green for a gain, red for a loss, nothing for neither."""
    return GAIN if amount > 0 else LOSS if amount < 0 else ""


def money(paise: int, style: str | None = None) -> Text:
    """A signed amount in its tone."""
    return Text(text.signed(paise), tone(paise) if style is None else style)


def cell(foreign: object, width: int = 48) -> Text:
    """Foreign text: cleaned, and never read as markup."""
    return Text(text.one_line(foreign, width))


class Fitted:
    """A quiet table that keeps its figures whole: where the terminal is narrow it leaves out columns, and says which.

    A column whose name starts with ``>`` holds numbers, with ``~`` text that may wrap; ``spare`` names what goes first.
    """

    def __init__(self, title: str, *columns: str, spare: Sequence[str] = ()) -> None:
        self.title, self.columns, self.spare = title, columns, spare
        self.rows: list[tuple[str | Text, ...] | None] = []

    def add_row(self, *cells: str | Text) -> None:
        """One row, a cell a column."""
        self.rows.append(cells)

    def add_section(self) -> None:
        """A gap before what follows."""
        self.rows.append(None)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = options.update(max_width=10_000)
        made = self._made(())
        for count in range(1, len(self.spare) + 1):
            if console.measure(made, options=wide).minimum <= options.max_width:
                break
            made = self._made(self.spare[:count])
        yield made

    def _made(self, without: Sequence[str]) -> Table:
        made = Table(
            title=self.title,
            caption=f"not shown at this width: {', '.join(without)}" if without else None,
            caption_justify="left",
            caption_style=DIM,
            box=box.SIMPLE_HEAD,
            title_justify="left",
            title_style="bold",
            header_style=DIM,
            pad_edge=False,
        )
        names = [column.lstrip(">~") for column in self.columns]
        kept = [i for i, name in enumerate(names) if name not in without]
        rows = [row for row in self.rows if row]
        for i in kept:
            wraps = self.columns[i][0] == "~"
            widths = [cell_len(names[i]), *(cell_len(str(row[i])) for row in rows)]
            made.add_column(
                names[i],
                justify="right" if self.columns[i][0] == ">" else "left",
                no_wrap=not wraps,
                min_width=min(max(widths), WRAPS_AT) if wraps else max(widths),
            )
        for row in self.rows:
            if row is None:
                made.add_section()
            else:
                made.add_row(*(row[i] for i in kept))
        return made


def render(report: Report, last: int = LAST) -> RenderableType:
    """The whole report, top to bottom as one reads it: what broke, what it made, how, and where it went."""
    parts: list[RenderableType] = [*_errors(report), _head(report), _figures(report), Text()]
    if len(report.result.strategies) > 1:
        parts.append(_strategies(report))
    if report.result.fills:
        parts += [_charges(report), _fills(report, last)]
    if report.result.orders:
        parts.append(_orders(report, last))
    if report.denied:
        denials = Fitted("denied by our own risk rules", ">times", "~reason")
        for reason, count in report.denied[:12]:
            denials.add_row(text.whole(count), cell(reason, 120))
        parts.append(denials)
    parts += [Text(line, "yellow") for line in text.noted(report)]
    took = f" · {text.decimal(report.seconds)} s" if report.seconds is not None else ""
    parts.append(Text(f"decisions {report.digest}{took}", DIM))
    return Group(*parts)


def _errors(report: Report) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for error in report.result.errors:
        said = [Text(text.one_line(error.message, 400))]
        said += [Text(line, DIM) for line in [text.code(error)] if line]
        said.append(Text(f"{text.place(error)}; the strategy was halted", DIM))
        parts.append(Panel(Group(*said), title="error", title_align="left", border_style=LOSS))
    for name, reason in text.stopped(report).items():
        parts.append(Text(f"halted  {text.one_line(name)}: {text.one_line(reason, 300)}", f"bold {LOSS}"))
    return parts


def _head(report: Report) -> RenderableType:
    stats = report.stats
    net = stats.paise("net_pnl")
    line = Text.assemble(
        (text.signed(net), f"bold {tone(net)}"),
        (f"  {text.percent(stats['return_percent'], sign=True)}", tone(net)),
        ("  net P&L after charges\n", DIM),
        f"{rupees(stats.paise('final_equity'))} ",
        (f"equity from {rupees(stats.paise('capital'))}, ", DIM),
        rupees(stats.paise("charges")),
        (" charges", DIM),
    )
    rows = text.braille([p.equity for p in report.points], width=72, height=5)
    graph = Text("\n".join(rows), "bright_blue")
    return Panel(
        Group(line, Text(), graph) if rows else line,
        title=cell(text.headline(report), 110),
        title_align="left",
        border_style=DIM,
        padding=(1, 2),
        expand=False,
    )


def _figures(report: Report) -> RenderableType:
    signed = {"average_win", "average_loss", "expectancy", "best_trade", "worst_trade"}
    sides: list[RenderableType] = []
    for keys in (LEFT, RIGHT):
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style=DIM)
        grid.add_column(justify="right", no_wrap=True)
        for key in keys:
            faint = DIM if report.stats.tentative(key) else ""
            coloured = key in signed and report.stats[key] is not None
            shown = money(report.stats.paise(key)) if coloured else Text(report.stats.text(key), faint)
            grid.add_row(report.stats.label(key), shown)
        sides.append(grid)
    return Columns(sides, padding=(1, 6))


def _strategies(report: Report) -> RenderableType:
    made = Fitted(
        "strategies",
        "strategy",
        "~parameters",
        ">orders",
        ">fills",
        ">denied",
        ">trades",
        ">charges",
        ">net P&L",
        spare=("parameters", "orders"),
    )
    for row in report.by_strategy:
        name = cell(row.name)
        if row.halted:
            name.append("  halted", LOSS)
        counts = (text.whole(n) for n in (row.orders, row.fills, row.denials, row.trades))
        made.add_row(
            name, cell(text.parameters_text(row.parameters), 60), *counts, rupees(row.charges), money(row.net)
        )
    return made


def _charges(report: Report) -> RenderableType:
    made = Fitted("charges", "kind", ">rupees", ">share")
    total = report.stats.paise("charges")
    labels = {s.key: s.label for s in STATISTICS}
    for kind in KINDS:
        amount = report.stats.paise(f"charges_{kind}")
        if amount:
            made.add_row(
                labels[f"charges_{kind}"],
                rupees(amount),
                text.percent(100 * amount / total if total else None),
            )
    made.add_section()
    made.add_row(Text("total", "bold"), Text(rupees(total), "bold"), "")
    return made


def _shown(last: int, total: int) -> str:
    return f"last {last} of {text.whole(total)}" if total > last else text.whole(total)


def _fills(report: Report, last: int) -> RenderableType:
    fills = report.result.fills
    made = Fitted(
        f"fills ({_shown(last, len(fills))})",
        *("time", "strategy", "symbol", "side", ">quantity", ">price", ">charges", ">realized", "~tag"),
        spare=("tag", "strategy", "charges"),
    )
    for f in fills[-last:]:
        made.add_row(
            *(text.moment(f.ts, report.dated), cell(f.strategy, 24), cell(f.symbol, 30)),
            Text(f.side, GAIN if f.quantity > 0 else LOSS),
            *(text.whole(abs(f.quantity)), text.price(f.price_units, f.instrument.price_scale)),
            rupees(sum(f.charges)),
            money(f.realized) if f.realized else "",
            cell(f.tag, 20),
        )
    return made


def _orders(report: Report, last: int) -> RenderableType:
    orders = report.result.orders
    made = Fitted(
        f"orders ({_shown(last, len(orders))})",
        *("time", "strategy", "symbol", "side", ">quantity", "kind", ">filled", "status", "~reason"),
        spare=("strategy", "reason", "kind"),
    )
    for o in orders[-last:]:
        quiet = DIM if o.status in ENDED and not o.filled else ""
        made.add_row(
            *(text.moment(o.signal.ts, report.dated), cell(o.strategy, 24), cell(o.symbol, 30)),
            Text(side(wanted(o)), GAIN if wanted(o) > 0 else LOSS),
            *(text.whole(abs(wanted(o))), f"{o.kind} {o.leg}".strip(), text.whole(abs(o.filled))),
            Text(o.status, quiet),
            cell(o.reason, 60),
        )
    return made

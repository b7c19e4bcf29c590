"""What a run did, to look at: frames, statistics, pictures, a card in a notebook, a page, a table in the terminal.

Everything is made on first use from the ``Result`` and kept. Frames show rupees (a float is the nearest to the exact
paise, so ``round(100 * x)`` gives them back) and exchange time; quantities are quantity steps (shares, lots).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from alphapanda.charges import KINDS
from alphapanda.errors import UnknownNameError, ValidationError
from alphapanda.events import Block, Fill
from alphapanda.instruments import Instrument
from alphapanda.orders import DENIED
from alphapanda.portfolio import worth
from alphapanda.report.frames import (
    CANCELS,
    CHARGES,
    DENIALS,
    ERRORS,
    FILLS,
    LOGS,
    ORDER_IDS,
    ORDERS,
    POSITIONS,
    SIGNALS,
    TRADES,
    Column,
    as_seconds,
    item_of,
    to_frame,
)
from alphapanda.report.stats import Stats, Trade, curve, drawdowns, round_trips, statistics, value
from alphapanda.report.text import plain
from alphapanda.result import Mark, Result, decision_digest

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure
    from rich.console import RenderableType

    from alphapanda.report.chain import Chain
    from alphapanda.report.charts import Prices

FRAMES = (
    *("signals", "cancels", "denials", "orders", "fills", "trades", "positions", "charges"),
    *("equity", "errors", "logs"),
)


_FIGURES = re.compile(r"\d[\d,.:]*")
PIECE = 65_536  # ticks read at a time for a price line


class HasBlocks(Protocol):
    """What a report needs of a tape to draw prices."""

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """What a block's instrument indexes point into."""
        ...

    def blocks(self, size: int = ...) -> Iterator[Block]:
        """The ticks in order."""
        ...


class StrategyLine(msgspec.Struct, frozen=True):
    """One strategy of the run in figures; money in paise."""

    name: str
    parameters: dict[str, Any]
    halted: str
    orders: int
    fills: int
    denials: int
    trades: int
    charges: int
    net: int


class Report:
    """One finished run.

    Frames: ``.signals .cancels .denials .orders .fills .trades .positions .charges .equity .errors .logs``; an empty
    one has its columns and no rows. ``.stats`` holds the statistics, ``.digest`` stands for the decisions, ``.halted``
    tells which strategies were stopped and why, ``.notes`` what to know before trusting the figures.
    """

    def __init__(
        self,
        result: Result,
        tape: HasBlocks | None = None,
        seconds: float | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        self.result = result
        self.strategies: tuple[Any, ...] = ()  # the instances that ran, as the run left them
        self.tape = tape
        self.seconds = seconds
        self.settings = settings or {}
        self.explain: Callable[[Any], Chain] | None = None  # how ``why`` finds out; the run's maker knows

    # ── figures ──────────────────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def points(self) -> list[Mark]:
        """The account over time, both ends included; paise."""
        return curve(self.result)

    @cached_property
    def round_trips(self) -> list[Trade]:
        """The trades as values; ``.trades`` is the same as a frame."""
        return round_trips(self.result.fills)

    @cached_property
    def stats(self) -> Stats:
        """Statistics by key; ``stats.meanings`` defines each."""
        return statistics(self.result, self.points, self.round_trips)

    @cached_property
    def digest(self) -> str:
        """Stands for every decision of the run: equal digests mean equal decisions."""
        return decision_digest(self.result)

    @property
    def halted(self) -> dict[str, str]:
        """Strategy → reason, for those that did not run to the end."""
        return {n: why for n, why in zip(self.result.strategies, self.result.halted, strict=True) if why}

    @property
    def notes(self) -> list[str]:
        """What to know before trusting the figures: how the data was read, which rules are not confirmed."""
        return self.result.notes

    @cached_property
    def denied(self) -> list[tuple[str, int]]:
        """Reasons our own risk rules gave, the most frequent first; those that differ in figures only count as one."""
        alike: dict[str, list[str]] = {}
        for order in self.result.orders:
            if order.status == DENIED:
                alike.setdefault(_FIGURES.sub("#", order.reason), []).append(order.reason)
        found = [
            (reasons[0] if len(set(reasons)) == 1 else f"{reasons[0]} and alike", len(reasons))
            for reasons in alike.values()
        ]
        return sorted(found, key=lambda item: (-item[1], item[0]))

    @cached_property
    def dated(self) -> bool:
        """True when the run covers more than one day, so that a time alone would not tell which."""
        return self.stats["trading_days"] > 1

    @cached_property
    def by_strategy(self) -> list[StrategyLine]:
        """One line a strategy, in the order they were given."""
        r = self.result
        denied = Counter(o.strategy for o in r.orders if o.status == DENIED)
        sent = Counter(o.strategy for o in r.orders if o.status != DENIED)
        fills = Counter(f.strategy for f in r.fills)
        trades = Counter(t.strategy for t in self.round_trips if t.closed_ts)
        charges: Counter[str] = Counter()
        for fill in r.fills:
            charges[fill.strategy] += sum(fill.charges)
        nets = self.points[-1].by_strategy if self.points else (0,) * len(r.strategies)
        return [
            StrategyLine(n, p, h, sent[n], fills[n], denied[n], trades[n], charges[n], net)
            for n, p, h, net in zip(r.strategies, r.parameters, r.halted, nets, strict=True)
        ]

    # ── frames ───────────────────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def signals(self) -> pl.DataFrame:
        """What the strategies wanted, before risk."""
        return to_frame([o for o in self.result.orders if not o.leg], SIGNALS)

    @cached_property
    def orders(self) -> pl.DataFrame:
        """Every order and what became of it; exits of brackets and square-offs carry their ``leg``."""
        charges: Counter[str] = Counter()
        for fill in self.result.fills:
            charges[fill.order_id] += sum(fill.charges)
        columns = [*ORDERS, Column("charges", "money", lambda o: charges[o.id]), *ORDER_IDS]
        return to_frame(self.result.orders, columns)

    @cached_property
    def denials(self) -> pl.DataFrame:
        """Signals our own risk rules refused, with the reason."""
        return to_frame([o for o in self.result.orders if o.status == DENIED], DENIALS)

    @cached_property
    def cancels(self) -> pl.DataFrame:
        """Orders the strategies withdrew."""
        return to_frame(self.result.cancels, CANCELS)

    @cached_property
    def fills(self) -> pl.DataFrame:
        """Executions, with each kind of charge in a column of its own."""
        return to_frame(self.result.fills, FILLS)

    @cached_property
    def trades(self) -> pl.DataFrame:
        """Round trips from flat to flat; one still open has no ``closed``."""
        return to_frame(self.round_trips, TRADES)

    @cached_property
    def positions(self) -> pl.DataFrame:
        """What was still open at the end."""
        instruments = {i.symbol: i for i in self.result.instruments}

        def row(p: tuple[str, str, str, int, int, int]) -> tuple[Any, ...]:
            strategy, symbol, product, quantity, cost, last = p
            instrument = instruments[symbol]
            n, d = instrument.paise_ratio
            stands_at = worth(instrument, quantity, last)
            average = cost * d / (quantity * n * instrument.price_scale) if quantity else 0.0
            return (
                *(strategy, symbol, product, quantity, average, last / instrument.price_scale),
                *(cost, stands_at, stands_at - cost),
            )

        return to_frame([row(p) for p in self.result.positions], POSITIONS)

    @cached_property
    def charges(self) -> pl.DataFrame:
        """What was paid, by strategy, instrument and product: one column a kind, and the total."""
        sums: dict[tuple[str, str, str], list[int]] = {}
        for f in self.result.fills:
            row = sums.setdefault((f.strategy, f.symbol, f.product), [0] * (2 + len(KINDS)))
            row[0] += 1
            row[1] += value(f)
            for i, amount in enumerate(f.charges, 2):
                row[i] += amount
        return to_frame([(*key, *row, sum(row[2:])) for key, row in sums.items()], CHARGES)

    @cached_property
    def equity(self) -> pl.DataFrame:
        """The account over time; with several strategies each one's net P&L as ``net_pnl:NAME``."""
        capital, names = self.result.capital, self.result.strategies
        fall, peak = drawdowns(self.points, capital)
        columns = [
            *(Column("ts", "time", item_of(0)), Column("equity", "money", item_of(1))),
            *(Column("net_pnl", "money", item_of(2)), Column("drawdown", "money", item_of(3))),
            *(Column("drawdown_percent", "float", item_of(4)), Column("gross_exposure", "money", item_of(5))),
        ]
        if len(names) > 1:
            columns += [Column(f"net_pnl:{name}", "money", item_of(6 + i)) for i, name in enumerate(names)]
        rows = [
            (
                p.ts,
                p.equity,
                p.equity - capital,
                int(f),
                100 * int(f) / int(top) if top else 0.0,
                p.gross,
                *p.by_strategy,
            )
            for p, f, top in zip(self.points, fall, peak, strict=True)
        ]
        return to_frame(rows, columns)

    @cached_property
    def errors(self) -> pl.DataFrame:
        """Callbacks that raised."""
        return to_frame(self.result.errors, ERRORS)

    @cached_property
    def logs(self) -> pl.DataFrame:
        """What the strategies logged; ``fields`` is JSON."""
        return to_frame(self.result.logs, LOGS)

    def save(self, folder: str | Path, form: Literal["parquet", "csv"] = "parquet") -> Path:
        """Write every frame as a file of its own into ``folder``, and the statistics as ``stats.json``."""
        if form not in ("parquet", "csv"):
            raise UnknownNameError("format", form, ("parquet", "csv"))
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name in FRAMES:
            frame: pl.DataFrame = getattr(self, name)
            if form == "csv":
                frame.with_columns(as_seconds()).write_csv(folder / f"{name}.csv")
            else:
                frame.write_parquet(folder / f"{name}.parquet")
        stats = msgspec.json.encode({**self.stats, "digest": self.digest})
        (folder / "stats.json").write_bytes(msgspec.json.format(stats) + b"\n")
        return folder

    def why(self, order: Any) -> Chain:
        """Why an order is as it is: tick, bar, indicators, signal, each rule's verdict, fills, charges; a table and a
        picture. ``order``: its id, an Order, a row of ``orders``. The ticks are played again up to the decision.
        """
        if self.explain is None:
            raise ValidationError(
                "this report does not know how its run was made",
                fix="ask the report that ap.backtest returned, or the run: run.why(order)",
            )
        return self.explain(order)

    # ── pictures ─────────────────────────────────────────────────────────────────────────────────────────────

    def plot(self) -> Figure:
        """Equity after charges with the drawdown below; the hours between sessions are left out."""
        from alphapanda.report import charts

        return charts.equity(self.points, self.result.capital)

    def plot_prices(self, symbol: str | None = None) -> Figure:
        """Price with this run's fills as triangles: of one instrument, or of the six most traded."""
        from alphapanda.report import charts

        if symbol is None:
            return charts.prices(self.price_panels)
        known = [i.symbol for i in self.result.instruments]
        if symbol not in known:
            raise UnknownNameError("symbol", symbol, known)
        return charts.prices(self._panels([symbol]))

    @cached_property
    def price_panels(self) -> list[Prices]:
        """Price lines of the six instruments with the largest turnover."""
        turnover: Counter[str] = Counter()
        for fill in self.result.fills:
            turnover[fill.symbol] += value(fill)
        return self._panels([symbol for symbol, _ in turnover.most_common(6)])

    def _panels(self, symbols: Sequence[str]) -> list[Prices]:
        from alphapanda.report.charts import Prices, price_lines

        instruments = {i.symbol: i for i in self.result.instruments}
        lines = (
            price_lines(self.tape.instruments, self.tape.blocks(PIECE), symbols)
            if self.tape and symbols
            else {}
        )
        fills: dict[str, list[Fill]] = {symbol: [] for symbol in symbols}
        for fill in self.result.fills:
            if fill.symbol in fills:
                fills[fill.symbol].append(fill)
        return [Prices(s, instruments[s].price_scale, *lines.get(s, ((), ())), fills[s]) for s in symbols]

    # ── shown ────────────────────────────────────────────────────────────────────────────────────────────────

    def __repr__(self) -> str:
        return plain(self)

    def __rich__(self) -> RenderableType:
        from alphapanda.report.terminal import render

        return render(self)

    def print(self, last: int = 10) -> None:
        """Show it in the terminal, with the ``last`` orders and fills."""
        from rich.console import Console

        from alphapanda.report.terminal import render

        Console().print(render(self, last))

    def _repr_html_(self) -> str:
        from alphapanda.report.page import card

        return card(self)

    def to_html(self, path: str | Path) -> Path:
        """Write everything as one page that needs no network; returns where it is."""
        from alphapanda.report.page import page

        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page(self), encoding="utf-8")
        return path.resolve()

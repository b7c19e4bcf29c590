"""Round trips and the statistics of a run, each defined once, in ``STATISTICS``.

Sums are integers in paise from the fills themselves; a float appears only where something is divided.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from alphapanda.charges import KINDS
from alphapanda.events import MINUTE, Fill, Ints, ist, ist_day
from alphapanda.money import divide, rupees
from alphapanda.orders import DENIED, Order
from alphapanda.portfolio import worth
from alphapanda.report import text
from alphapanda.result import Mark, Result

DAYS_A_YEAR = 252
MINUTES_A_YEAR = DAYS_A_YEAR * 375
DAYS_FOR_DAILY = 5  # fewer closes than this say nothing about a spread of daily returns
DAYS_FOR_ANNUAL = 20
ANNUALISED = ("sharpe", "sortino", "volatility_percent")
DAILY, BY_MINUTE = "daily returns", "1-minute returns"
NO_FORECAST = (
    f"of fewer than {DAYS_FOR_DAILY} trading days from 1-minute returns, and then it describes those days: "
    "from a single day it is no forecast of a year"
)

Floats = npt.NDArray[np.float64]


class Trade(msgspec.Struct, gc=False):
    """A round trip: one strategy's position in one instrument and product, from flat to flat.

    Adding to a position and reducing it are parts of the same trade. A fill that turns a long into a short ends one
    trade and starts the next: the profit it books belongs to the first, its charges are shared by quantity.
    ``realized`` is the sum of what its fills booked, so all trades together equal the run's realized profit to the
    paisa. A trade still open at the end has ``closed_ts`` 0 and carries what it has realized so far.
    """

    strategy: str
    symbol: str
    product: str
    direction: int  # +1 long, -1 short
    price_scale: int
    opened_ts: int
    closed_ts: int = 0
    fills: int = 0
    entered: int = 0  # quantity steps
    exited: int = 0
    entry_units: int = 0  # sum of price units x quantity
    exit_units: int = 0
    entry_paise: int = 0
    realized: int = 0
    charges: int = 0

    @property
    def net(self) -> int:
        """Paise after charges."""
        return self.realized - self.charges

    @property
    def entry_price(self) -> float:
        """Average, in rupees."""
        return self.entry_units / self.entered / self.price_scale if self.entered else 0.0

    @property
    def exit_price(self) -> float | None:
        """Average, in rupees; None until something was closed."""
        return self.exit_units / self.exited / self.price_scale if self.exited else None


def value(fill: Fill) -> int:
    """The notional of a fill in paise."""
    return worth(fill.instrument, abs(fill.quantity), fill.price_units)


def slippage(fill: Fill) -> int:
    """What the fill cost against the price at the decision, in paise; negative is better than seen.

    A bracket's exit was decided at its stop or target price.
    """
    reference = fill.reference
    if fill.leg.startswith(("sl", "tp")):
        level = fill.signal.limit if fill.signal.stop is None else fill.signal.stop
        reference = reference if level is None else level
    return worth(fill.instrument, fill.quantity, fill.price_units - reference)


def wanted(order: Order) -> int:
    """The signed quantity an order is for; a denied one never got a target."""
    return order.target or order.signal.quantity


def side(quantity: int) -> str:
    """BUY or SELL."""
    return "BUY" if quantity > 0 else "SELL"


def round_trips(fills: list[Fill]) -> list[Trade]:
    """The trades in order of opening; see ``Trade`` for what one is."""
    trades: list[Trade] = []
    open_now: dict[tuple[str, str, str], tuple[Trade, int]] = {}
    for fill in fills:
        key = fill.strategy, fill.symbol, fill.product
        charges, rest = sum(fill.charges), fill.quantity
        if key in open_now:
            trade, held = open_now.pop(key)
            trade.fills += 1
            if held * rest > 0:
                _enter(trade, fill, rest, charges)
                open_now[key] = trade, held + rest
                continue
            closing = min(abs(held), abs(rest))
            share = divide(charges * closing, abs(rest))
            trade.exited += closing
            trade.exit_units += closing * fill.price_units
            trade.realized += fill.realized
            trade.charges += share
            held, rest, charges = (
                held - trade.direction * closing,
                rest + trade.direction * closing,
                charges - share,
            )
            if held:
                open_now[key] = trade, held
            else:
                trade.closed_ts = fill.ts
        if rest:
            trade = Trade(*key, 1 if rest > 0 else -1, fill.instrument.price_scale, fill.ts, fills=1)
            _enter(trade, fill, rest, charges)
            trades.append(trade)
            open_now[key] = trade, rest
    return trades


def _enter(trade: Trade, fill: Fill, quantity: int, charges: int) -> None:
    trade.entered += abs(quantity)
    trade.entry_units += abs(quantity) * fill.price_units
    trade.entry_paise += worth(fill.instrument, abs(quantity), fill.price_units)
    trade.charges += charges


# ── the account over time ────────────────────────────────────────────────────────────────────────────────────────


def curve(result: Result) -> list[Mark]:
    """The marks with both ends: the capital before the first event, and the books after the last.

    The last point is realized profit less charges plus what open positions stand at: it holds though the tape ended
    between two marks.
    """
    if not result.last_ts and not result.marks:
        return []
    index = {name: i for i, name in enumerate(result.strategies)}
    net = [0] * len(index)
    for fill in result.fills:
        net[index[fill.strategy]] += fill.realized - sum(fill.charges)
    instruments = {i.symbol: i for i in result.instruments}
    gross = 0
    for strategy, symbol, _, quantity, cost, last in result.positions:
        stands_at = worth(instruments[symbol], quantity, last)
        net[index[strategy]] += stands_at - cost
        gross += abs(stands_at)
    end = Mark(result.last_ts, result.capital + sum(net), gross, tuple(net))
    points = list(result.marks)
    if not points or points[0].ts > result.first_ts:
        points.insert(0, Mark(result.first_ts, result.capital, 0, (0,) * len(index)))
    if points[-1].equity != end.equity or points[-1].ts < end.ts:
        points.append(msgspec.structs.replace(end, ts=max(end.ts, points[-1].ts)))
    return points


def drawdowns(points: list[Mark], capital: int) -> tuple[Ints, Ints]:
    """Fall from the peak in paise, and the peak, at each point; the capital is the first peak."""
    equity = np.array([p.equity for p in points], np.int64)
    peak = np.maximum(np.maximum.accumulate(equity), capital) if len(equity) else equity
    return peak - equity, peak


def longest_drawdown(points: list[Mark], capital: int) -> int:
    """The longest time from a peak until equity is back there, or until the end; nanoseconds."""
    fall, _ = drawdowns(points, capital)
    if not fall.any():
        return 0
    ts = np.array([p.ts for p in points], np.int64)
    at_peak = np.union1d(np.flatnonzero(fall == 0), [0, len(ts) - 1])
    spans = np.diff(ts[at_peak])
    under = [bool(fall[a + 1 : b + 1].any()) for a, b in pairwise(at_peak.tolist())]
    return int(spans[under].max(initial=0))


def returns(points: list[Mark], capital: int) -> tuple[Floats, int, str]:
    """``(returns, periods a year, what a period is)`` from the last equity of each day, or of each minute.

    Days when there are at least five of them. Between minutes an overnight gap counts as one period.
    """
    days = len({ist_day(p.ts) for p in points})
    daily = days >= DAYS_FOR_DAILY
    closes = {(ist_day(p.ts) if daily else p.ts // MINUTE): p.equity for p in points}
    equity = np.array([capital, *closes.values()], np.float64)
    a_year, name = (DAYS_A_YEAR, DAILY) if daily else (MINUTES_A_YEAR, BY_MINUTE)
    if len(equity) < 3 or (equity <= 0).any():
        return np.empty(0), a_year, name
    return equity[1:] / equity[:-1] - 1.0, a_year, name


# ── the statistics ───────────────────────────────────────────────────────────────────────────────────────────────

Form = Literal["money", "percent", "ratio", "count", "time", "duration"]


class Statistic(msgspec.Struct, frozen=True):
    """One figure: its key, what it is called, how it is written, and what it means."""

    key: str
    label: str
    form: Form
    meaning: str


KIND_NAMES = ("brokerage", "STT / CTT", "exchange", "SEBI", "stamp duty", "GST", "DP", "square-off")
S = Statistic
STATISTICS = (
    S("start", "start", "time", "first event of the run"),
    S("end", "end", "time", "last event of the run"),
    S("trading_days", "trading days", "count", "exchange calendar days on which the account was marked"),
    S("capital", "capital", "money", "cash at the start"),
    S("final_equity", "final equity", "money", "capital + net P&L"),
    S("net_pnl", "net P&L", "money", "gross P&L less charges"),
    S("gross_pnl", "gross P&L", "money", "realized + unrealized profit, before charges, slippage included"),
    S("realized", "realized", "money", "profit booked by fills, before charges"),
    S("unrealized", "unrealized", "money", "open positions at their last prices less their cost"),
    S("charges", "charges", "money", "all charges of all fills"),
    S("return_percent", "return", "percent", "net P&L / capital"),
    S(
        "annual_return_percent",
        "annualised return",
        "percent",
        "(1 + return) ^ (252 / trading days) - 1; from 20 days on",
    ),
    S(
        "sharpe",
        "Sharpe",
        "ratio",
        f"mean / standard deviation (n - 1) of returns x sqrt(periods a year); risk-free rate 0; {NO_FORECAST}",
    ),
    S(
        "sortino",
        "Sortino",
        "ratio",
        f"mean / root mean square of the negative returns over all periods, annualised the same; {NO_FORECAST}",
    ),
    S(
        "volatility_percent",
        "volatility",
        "percent",
        f"standard deviation of the same returns, annualised; {NO_FORECAST}",
    ),
    S(
        "max_drawdown_percent",
        "max drawdown",
        "percent",
        "largest fall from a peak of equity, as a share of that peak",
    ),
    S("max_drawdown", "max drawdown, rupees", "money", "largest fall from a peak of equity, in rupees"),
    S(
        "drawdown_duration",
        "longest drawdown",
        "duration",
        "longest time from a peak until equity is back, or to the end",
    ),
    S(
        "exposure_percent",
        "time in market",
        "percent",
        "share of marks (one a minute) at which any position was open",
    ),
    S("turnover", "turnover", "money", "sum of |quantity| x price of all fills"),
    S("turnover_ratio", "turnover / capital", "ratio", "turnover as a multiple of capital"),
    S(
        "slippage",
        "slippage",
        "money",
        "fill prices against the last price at each decision, a bracket's exit against its level; positive is a cost",
    ),
    S("orders", "orders", "count", "orders sent, exits of brackets and square-offs included, denials not"),
    S("fills", "fills", "count", "executions, partial ones counted each"),
    S("denials", "denials", "count", "signals our own risk rules refused"),
    S("trades", "trades", "count", "round trips from flat to flat that have closed"),
    S("open_trades", "open trades", "count", "round trips still open at the end"),
    S("hit_rate_percent", "hit rate", "percent", "closed trades with a profit after charges / closed trades"),
    S("average_win", "average win", "money", "mean profit after charges of the trades that won"),
    S("average_loss", "average loss", "money", "mean result after charges of the trades that did not win"),
    S("profit_factor", "profit factor", "ratio", "sum of wins / sum of losses, after charges"),
    S("expectancy", "expectancy", "money", "mean result of a closed trade after charges"),
    S("best_trade", "best trade", "money", "largest result of a closed trade after charges"),
    S("worst_trade", "worst trade", "money", "smallest result of a closed trade after charges"),
    S(
        "charges_percent_of_gross",
        "charges / gross P&L",
        "percent",
        "charges as a share of gross P&L, where that is positive",
    ),
    *(
        S(f"charges_{kind}", name, "money", f"charges: {name}")
        for kind, name in zip(KINDS, KIND_NAMES, strict=True)
    ),
)


class Stats(Mapping[str, Any]):
    """The statistics of a run by key; money in rupees, times aware, a figure that cannot be told None.

    ``stats.text(key)`` is the figure as a person reads it, ``stats.paise(key)`` the exact amount, ``stats.meanings``
    what each one is.
    """

    def __init__(self, raw: dict[str, Any], basis: str) -> None:
        self._raw = raw
        self.basis = basis  # which returns Sharpe, Sortino and volatility rest on
        self._known = {s.key: s for s in STATISTICS}

    def __getitem__(self, key: str) -> Any:
        raw, form = self._raw[key], self._known[key].form
        if raw is None:
            return None
        if form == "money":
            return raw / 100
        if form == "time":
            return ist(raw)
        return dt.timedelta(microseconds=raw // 1000) if form == "duration" else raw

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)

    @property
    def meanings(self) -> dict[str, str]:
        """Key → definition."""
        return {s.key: s.meaning for s in STATISTICS}

    def label(self, key: str) -> str:
        """The name of a statistic, with its basis where there are two."""
        label = self._known[key].label
        return f"{label} ({self.basis})" if key in ANNUALISED else label

    def tentative(self, key: str) -> bool:
        """Whether a figure scales less than a week up to a year, and so is no forecast."""
        return key in ANNUALISED and self.basis == BY_MINUTE and self._raw[key] is not None

    def paise(self, key: str) -> int:
        """An amount, exactly."""
        if self._known[key].form != "money":
            raise KeyError(key)
        return self._raw[key] or 0

    def text(self, key: str) -> str:
        """A statistic as a person reads it."""
        raw, form = self._raw[key], self._known[key].form
        if raw is None:
            return text.NOT_AVAILABLE
        if form == "time":
            return ist(raw).strftime("%d %b %Y %H:%M:%S")
        if form == "percent":
            return text.percent(raw)
        if form == "ratio":
            return text.decimal(raw)
        if form == "duration":
            return text.duration(raw)
        return rupees(raw) if form == "money" else text.whole(raw)

    def __repr__(self) -> str:
        return "\n".join(f"{key:<26} {self.text(key):>22}  {self.label(key)}" for key in self)


def statistics(result: Result, points: list[Mark], trades: list[Trade]) -> Stats:
    """Every figure of ``STATISTICS``, in its order."""
    raw: dict[str, Any] = dict.fromkeys(s.key for s in STATISTICS)
    kinds = [sum(column) for column in zip(*(f.charges for f in result.fills), strict=True)] or [0] * len(
        KINDS
    )
    charges, realized = sum(kinds), sum(f.realized for f in result.fills)
    equity = points[-1].equity if points else result.capital
    net = equity - result.capital
    turnover = sum(map(value, result.fills))
    days = len({ist_day(p.ts) for p in points})
    raw.update(
        start=result.first_ts or None,
        end=result.last_ts or None,
        trading_days=days,
        capital=result.capital,
        final_equity=equity,
        net_pnl=net,
        gross_pnl=net + charges,
        realized=realized,
        unrealized=net + charges - realized,
        charges=charges,
        return_percent=100 * net / result.capital if result.capital else None,
        exposure_percent=100 * sum(p.gross > 0 for p in points) / len(points) if points else None,
        turnover=turnover,
        turnover_ratio=turnover / result.capital if result.capital else None,
        slippage=sum(map(slippage, result.fills)),
        orders=sum(o.status != DENIED for o in result.orders),
        fills=len(result.fills),
        denials=sum(o.status == DENIED for o in result.orders),
        charges_percent_of_gross=100 * charges / (net + charges) if net + charges > 0 else None,
        **{f"charges_{kind}": amount for kind, amount in zip(KINDS, kinds, strict=True)},
    )
    if days >= DAYS_FOR_ANNUAL and equity > 0 and result.capital > 0:
        raw["annual_return_percent"] = 100 * ((equity / result.capital) ** (DAYS_A_YEAR / days) - 1)
    series, a_year, basis = returns(points, result.capital)
    raw.update(_of_returns(series, a_year))
    raw.update(_of_drawdowns(points, result.capital))
    raw.update(_of_trades(trades))
    return Stats(raw, basis)


def _of_returns(series: Floats, a_year: int) -> dict[str, Any]:
    if len(series) < 2:
        return {}
    mean, spread = float(series.mean()), float(series.std(ddof=1))
    downside = float(np.sqrt(np.mean(np.minimum(series, 0.0) ** 2)))
    scale = a_year**0.5
    return {
        "volatility_percent": 100 * spread * scale,
        "sharpe": mean / spread * scale if spread else None,
        "sortino": mean / downside * scale if downside else None,
    }


def _of_drawdowns(points: list[Mark], capital: int) -> dict[str, Any]:
    fall, peak = drawdowns(points, capital)
    if not len(fall) or capital <= 0:
        return {}
    return {
        "max_drawdown": int(fall.max()),
        "max_drawdown_percent": float((100 * fall / peak).max()),
        "drawdown_duration": longest_drawdown(points, capital),
    }


def _of_trades(trades: list[Trade]) -> dict[str, Any]:
    nets = [t.net for t in trades if t.closed_ts]
    found: dict[str, Any] = {"trades": len(nets), "open_trades": len(trades) - len(nets)}
    if not nets:
        return found
    wins, losses = [n for n in nets if n > 0], [n for n in nets if n <= 0]
    return found | {
        "hit_rate_percent": 100 * len(wins) / len(nets),
        "average_win": divide(sum(wins), len(wins)) if wins else None,
        "average_loss": divide(sum(losses), len(losses)) if losses else None,
        "profit_factor": sum(wins) / -sum(losses) if sum(losses) else None,
        "expectancy": divide(sum(nets), len(nets)),
        "best_trade": max(nets),
        "worst_trade": min(nets),
    }

"""A report's figures against naive formulas, and its pages against hostile text and size."""

import datetime as dt
import math
import random
import re
import time
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphapanda.charges import KINDS
from alphapanda.errors import UnknownNameError
from alphapanda.events import DAY, IST, MINUTE, SECOND, Block, Fill, Signal
from alphapanda.instruments import Instrument
from alphapanda.orders import DENIED, FILLED, Order
from alphapanda.portfolio import Position, worth
from alphapanda.report.charts import POINTS, Timeline, thinned
from alphapanda.report.page import CARD_ROWS, page
from alphapanda.report.report import FRAMES, Report
from alphapanda.report.stats import DAYS_A_YEAR, MINUTES_A_YEAR, STATISTICS, round_trips
from alphapanda.report.text import average, braille, clean, decimal, percent, price, source, sparkline, whole
from alphapanda.result import LogLine, Mark, Result, RunError

INFY = Instrument(symbol="NSE:INFY", exchange="NSE")
RELIANCE = Instrument(symbol="NSE:RELIANCE", exchange="NSE")
USDINR = Instrument(
    symbol="CDS:USDINR26NOVFUT", exchange="CDS", kind="FUT", price_scale=10_000_000, multiplier=1000
)
OPEN = int(dt.datetime(2026, 11, 20, 9, 15, tzinfo=IST).timestamp()) * SECOND
CAPITAL = 10_00_000_00


class Run:
    """A Result in the making: fills move the same portfolio positions the platform books with."""

    def __init__(
        self,
        strategies: tuple[str, ...] = ("Crossover",),
        instruments: tuple[Instrument, ...] = (INFY, RELIANCE),
    ) -> None:
        self.result = Result(
            strategies=strategies,
            parameters=tuple({"fast": 20, "slow": 50} for _ in strategies),
            halted=("",) * len(strategies),
            instruments=instruments,
            capital=CAPITAL,
            first_ts=OPEN,
            last_ts=OPEN,
        )
        self.books: dict[tuple[str, str, str], Position] = {}
        self.last: dict[str, int] = {}
        self.net = dict.fromkeys(strategies, 0)
        self.seq = 0

    def order(
        self,
        ts: int,
        quantity: int,
        units: int,
        instrument: Instrument = INFY,
        strategy: str = "",
        **more: Any,
    ) -> Order:
        self.seq += 1
        signal = Signal(
            strategy or self.result.strategies[0], self.seq, 0, ts, instrument.symbol, quantity, units
        )
        order = Order(signal, instrument, 0, 0, target=quantity, **more)
        self.result.orders.append(order)
        return order

    def deny(self, ts: int, quantity: int, reason: str) -> None:
        self.order(ts, quantity, 150_000, status=DENIED, reason=reason).target = 0

    def fill(
        self,
        ts: int,
        quantity: int,
        units: int,
        instrument: Instrument = INFY,
        strategy: str = "",
        charges: tuple[int, ...] = (2000, 375, 44, 1, 45, 368, 0, 0),
        reference: int | None = None,
        order: Order | None = None,
    ) -> Fill:
        order = order or self.order(ts, quantity, units, instrument, strategy)
        key = order.strategy, instrument.symbol, "MIS"
        book = self.books.setdefault(key, Position(instrument, "MIS"))
        realized = book.apply(quantity, worth(instrument, quantity, units))
        order.filled += quantity
        order.turnover += abs(quantity) * units
        order.fills += 1
        order.status = FILLED if order.filled == order.target else "part-filled"
        signal = msgspec.structs.replace(order.signal, reference=units if reference is None else reference)
        fill = Fill(
            *(instrument, signal, order.leg, order.fills, order.signal.seq, ts, quantity, units),
            *(charges, realized, book.quantity),
        )
        self.result.fills.append(fill)
        self.last[instrument.symbol] = units
        self.net[order.strategy] += realized - sum(charges)
        self.result.last_ts = max(self.result.last_ts, ts)
        return fill

    def mark(self, ts: int, **last: int) -> None:
        for name, units in last.items():
            self.last[f"NSE:{name}"] = units
        nets, gross = dict(self.net), 0
        for (strategy, symbol, _), book in self.books.items():
            if book.quantity:
                stands_at = worth(book.instrument, book.quantity, self.last[symbol])
                nets[strategy] += stands_at - book.cost
                gross += abs(stands_at)
        self.result.marks.append(Mark(ts, CAPITAL + sum(nets.values()), gross, tuple(nets.values())))
        self.result.last_ts = max(self.result.last_ts, ts)

    def done(self) -> Result:
        self.result.positions = [
            (s, y, p, b.quantity, b.cost, self.last[y]) for (s, y, p), b in self.books.items() if b.quantity
        ]
        return self.result


def one_trade() -> Result:
    run = Run()
    run.fill(OPEN + MINUTE, 10, 150_000, reference=149_990)
    run.mark(OPEN + MINUTE, INFY=150_000)
    run.fill(OPEN + 30 * MINUTE, -10, 151_500)
    run.mark(OPEN + 30 * MINUTE)
    return run.done()


def walk(days: int, fills: int, strategies: tuple[str, ...] = ("Crossover",), seed: int = 7) -> Result:
    """A seeded run: prices walk, fills of random signs and sizes, a mark each five minutes."""
    draw, run = random.Random(seed), Run(strategies)
    prices = {INFY: 150_000, RELIANCE: 140_000}
    steps = days * 75
    for step in range(steps):
        ts = OPEN + step // 75 * DAY + step % 75 * 5 * MINUTE
        for instrument in prices:
            prices[instrument] += draw.randint(-60, 61) * 5
        for n in range(fills * (step + 1) // steps - fills * step // steps):
            instrument = draw.choice([INFY, RELIANCE])
            quantity = draw.choice([-20, -10, -5, 5, 10, 20])
            cost = (*(draw.randint(1, 300) for _ in range(6)), 0, 0)
            run.fill(ts + n * SECOND, quantity, prices[instrument], instrument, draw.choice(strategies), cost)
        run.mark(ts + 4 * MINUTE, INFY=prices[INFY], RELIANCE=prices[RELIANCE])
    return run.done()


class Ticks:
    """A tape of one instrument, in blocks."""

    instruments = (INFY,)

    def __init__(self, days: int, a_day: int) -> None:
        moments = [OPEN + d * DAY + i * (375 * MINUTE // a_day) for d in range(days) for i in range(a_day)]
        self.ts = np.array(moments, np.int64)
        self.price = 150_000 + 5 * np.cumsum(np.random.default_rng(3).integers(-3, 4, len(moments)))

    def blocks(self, size: int = 8192):
        for low in range(0, len(self.ts), size):
            part = slice(low, low + size)
            yield Block(low, self.ts[part], np.zeros(len(self.ts[part]), np.int64), self.price[part])


EMPTY = Result((), (), (), (), CAPITAL)
HOSTILE = "<script>alert('x')</script> \x1b[31mred\x1b[0m \x1b]0;title\x07 \u202eback\x00"


def hostile() -> Result:
    run = Run(("Bad<b>", "Good"))
    run.fill(OPEN, 5, 150_000, strategy="Good")
    run.deny(OPEN, 10, f"too large {HOSTILE}")
    result = run.done()
    result.halted = (f"raised {HOSTILE}", "")
    result.notes = [HOSTILE]
    result.parameters = ({"name": HOSTILE}, {})
    result.logs = [LogLine(OPEN, 1, "Good", HOSTILE, {"at": dt.date(2026, 11, 20), "x": HOSTILE})]
    result.errors = [
        RunError(
            "Bad<b>",
            "on_tick",
            "NSE:INFY",
            OPEN,
            1,
            "s.py",
            12,
            f"[bold]ValueError {HOSTILE}",
            f"Traceback {HOSTILE}",
        )
    ]
    return result


# ── frames ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_empty_run_has_every_frame_with_its_columns_and_every_view():
    empty, full = Report(EMPTY), Report(walk(1, 40))
    for name in FRAMES:
        frame = getattr(empty, name)
        assert frame.height == 0, name
        assert frame.schema == getattr(full, name).schema, name
    assert empty.fills.schema["ts"] == pl.Datetime("ns", "Asia/Kolkata")
    assert empty.stats["net_pnl"] == 0
    assert empty.stats["sharpe"] is None
    assert "no market data" in repr(empty)
    assert "no market data" in empty._repr_html_()
    empty.plot()
    empty.plot_prices()


def test_one_trade_is_right_to_the_paisa():
    report = Report(one_trade())
    (trade,) = report.trades.to_dicts()
    assert trade["realized"] == 150.0
    assert trade["charges"] == 56.66
    assert trade["net_pnl"] == 93.34
    assert (trade["entry_price"], trade["exit_price"], trade["direction"]) == (1500.0, 1515.0, "long")
    assert trade["opened"] == dt.datetime(2026, 11, 20, 9, 16, tzinfo=IST)
    assert report.stats["final_equity"] == 1_000_093.34
    assert report.stats.text("final_equity") == "₹10,00,093.34"
    assert report.stats.text("charges") == "₹56.66"
    assert report.stats["slippage"] == 1.0
    assert report.stats["hit_rate_percent"] == 100
    assert report.stats["profit_factor"] is None
    assert report.charges["total"].to_list() == [56.66]
    assert report.fills["slippage"].to_list() == [1.0, 0.0]
    assert report.orders["average_price"].to_list() == [1500.0, 1515.0]


def test_slippage_of_a_brackets_exit_is_told_against_its_level():
    run = Run()
    run.fill(OPEN, 10, 150_000)
    exit_order = run.order(OPEN, -10, 150_000, leg="sl")
    exit_order.signal = msgspec.structs.replace(exit_order.signal, stop=149_000)
    run.fill(OPEN + MINUTE, -10, 148_900, reference=150_000, order=exit_order)
    assert Report(run.done()).fills["slippage"].to_list() == [0.0, 10.0]


def test_a_fill_through_zero_ends_one_trade_and_starts_the_next():
    run = Run()
    run.fill(OPEN, 10, 150_000, charges=(100, 0, 0, 0, 0, 0, 0, 0))
    run.fill(OPEN + 1, -15, 151_000, charges=(301, 0, 0, 0, 0, 0, 0, 0))
    run.fill(OPEN + 2, 5, 150_500, charges=(50, 0, 0, 0, 0, 0, 0, 0))
    long, short = round_trips(run.done().fills)
    assert (long.direction, long.entered, long.exited, long.realized) == (1, 10, 10, 10_000)
    assert (short.direction, short.entered, short.exited, short.realized) == (-1, 5, 5, 2_500)
    assert (long.charges, short.charges) == (301, 150)


def test_partial_fills_and_adding_are_one_trade():
    run = Run()
    order = run.order(OPEN, 10, 150_000)
    run.fill(OPEN, 4, 150_000, order=order)
    assert Report(run.result).orders["status"].to_list() == ["part-filled"]
    run.fill(OPEN + 1, 6, 150_100, order=order)
    run.fill(OPEN + 2, -3, 150_200)
    run.fill(OPEN + 3, -7, 150_200)
    report = Report(run.done())
    (trade,) = report.trades.to_dicts()
    assert (trade["fills"], trade["quantity"], trade["entry_price"]) == (4, 10, 1500.6)
    assert report.orders["filled"].to_list() == [10, 3, 7]
    assert report.fills["id"].to_list()[:2] == ["Crossover:1:0.1", "Crossover:1:0.2"]


def test_a_denied_order_keeps_its_side_and_reason():
    run = Run()
    run.deny(OPEN, 900, "quantity 900 > 500")
    run.deny(OPEN, 900, "quantity 900 > 500")
    report = Report(run.done())
    assert report.denials.select("side", "quantity", "reason").row(0) == ("BUY", 900, "quantity 900 > 500")
    assert report.denied == [("quantity 900 > 500", 2)]
    assert (report.stats["orders"], report.stats["denials"]) == (0, 2)
    assert report.signals["denied"].to_list() == [True, True]


def test_exits_the_platform_placed_are_orders_but_not_signals():
    run = Run()
    run.order(OPEN, 5, 150_000)
    run.order(OPEN, -5, 150_000, leg="square-off")
    report = Report(run.done())
    assert report.signals.height == 1
    assert report.orders["leg"].to_list() == ["", "square-off"]


# ── exactness ────────────────────────────────────────────────────────────────────────────────────────────────────

fill_draws = st.lists(
    st.tuples(
        st.sampled_from(["A", "B"]),
        st.sampled_from([INFY, RELIANCE, USDINR]),
        st.integers(-50, 50).filter(bool),
        st.integers(1, 400_000),
        st.integers(0, 5_000),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(fill_draws)
def test_trades_charges_and_open_profit_make_up_the_equity_exactly(drawn: list[Any]) -> None:
    run = Run(("A", "B"), (INFY, RELIANCE, USDINR))
    for i, (strategy, instrument, quantity, units, charge) in enumerate(drawn):
        units = units * 5 if instrument is not USDINR else units * 2_500
        run.fill(OPEN + i * SECOND, quantity, units, instrument, strategy, (charge, *(0,) * (len(KINDS) - 1)))
    run.mark(OPEN + len(drawn) * SECOND)
    result = run.done()
    report = Report(result)
    trades = report.round_trips
    assert (
        sum(t.realized for t in trades)
        == sum(f.realized for f in result.fills)
        == report.stats.paise("realized")
    )
    assert sum(t.charges for t in trades) == report.stats.paise("charges")
    earned = sum(t.net for t in trades) + report.stats.paise("unrealized")
    assert earned == report.stats.paise("final_equity") - CAPITAL == result.marks[-1].equity - CAPITAL
    assert sum(row.net for row in report.by_strategy) == earned
    for trade in trades:
        assert (trade.entered == trade.exited) == bool(trade.closed_ts)
    total = round(100 * math.fsum(report.trades["net_pnl"].to_list()))
    assert total == sum(t.net for t in trades)


def test_the_last_point_is_the_books_even_when_the_tape_ends_between_marks():
    run = Run()
    run.fill(OPEN + SECOND, 10, 150_000)
    run.mark(OPEN + MINUTE, INFY=150_000)
    run.last["NSE:INFY"] = 149_000
    run.result.last_ts = OPEN + MINUTE + SECOND
    report = Report(run.done())
    assert report.equity["equity"].to_list() == [1_000_000.0, 999_971.67, 999_871.67]
    assert report.stats["unrealized"] == -100.0
    assert report.positions["unrealized"].to_list() == [-100.0]
    assert report.positions["average_price"].to_list() == [1500.0]


# ── statistics by hand ───────────────────────────────────────────────────────────────────────────────────────────


def by_hand(equity: list[int], a_year: int) -> tuple[float, float, float]:
    r = [b / a - 1 for a, b in pairwise(equity)]
    mean = sum(r) / len(r)
    spread = math.sqrt(sum((x - mean) ** 2 for x in r) / (len(r) - 1))
    downside = math.sqrt(sum(min(x, 0) ** 2 for x in r) / len(r))
    return (
        mean / spread * math.sqrt(a_year),
        mean / downside * math.sqrt(a_year),
        spread * math.sqrt(a_year) * 100,
    )


@pytest.mark.parametrize(
    ("days", "a_year", "basis"), [(2, MINUTES_A_YEAR, "1-minute"), (30, DAYS_A_YEAR, "daily")]
)
def test_sharpe_sortino_volatility_and_drawdown_match_naive_formulas(
    days: int, a_year: int, basis: str
) -> None:
    result = walk(days, 20 * days)
    report = Report(result)
    if basis == "daily":
        equity = [CAPITAL] + [result.marks[75 * d + 74].equity for d in range(days)]
    else:
        equity = [CAPITAL, CAPITAL] + [m.equity for m in result.marks]
    sharpe, sortino, volatility = by_hand(equity, a_year)
    assert report.stats["sharpe"] == pytest.approx(sharpe)
    assert report.stats["sortino"] == pytest.approx(sortino)
    assert report.stats["volatility_percent"] == pytest.approx(volatility)
    assert basis in report.stats.label("sharpe")

    peak, deepest, share = CAPITAL, 0, 0.0
    peak_ts, longest = OPEN, 0
    for p in report.points:
        if p.equity >= peak:
            peak, peak_ts = p.equity, p.ts
        else:
            longest = max(longest, p.ts - peak_ts)
        deepest, share = max(deepest, peak - p.equity), max(share, 100 * (peak - p.equity) / peak)
    assert report.stats.paise("max_drawdown") == deepest
    assert report.stats["max_drawdown_percent"] == pytest.approx(share)
    assert report.stats["drawdown_duration"] >= dt.timedelta(microseconds=longest // 1000)
    assert (report.stats["annual_return_percent"] is None) == (days < 20)
    assert report.stats["trading_days"] == days


def test_a_drawdown_lasts_until_the_peak_is_reached_again():
    result = one_trade()
    result.fills, result.positions = [], []
    result.marks = [
        Mark(OPEN + i * MINUTE, CAPITAL + e, 0, (e,)) for i, e in enumerate([0, 10, 5, 8, 12, 11, 12, 0])
    ]
    result.last_ts = result.marks[-1].ts
    assert Report(result).stats["drawdown_duration"] == dt.timedelta(minutes=3)


def test_a_single_day_scaled_to_a_year_is_shown_as_no_forecast():
    short, long = Report(walk(1, 30)), Report(walk(6, 30))
    for key in STATISTICS:
        tentative = key.key in ("sharpe", "sortino", "volatility_percent")
        assert short.stats.tentative(key.key) == tentative
        assert ("no forecast" in short.stats.meanings[key.key]) == tentative
        assert not long.stats.tentative(key.key)
    for html in (page(short), short._repr_html_()):
        (tile,) = re.findall(r'<div class="ap-tile ap-faint" title="([^"]*)">', html)
        assert "from a single day it is no forecast" in tile
    assert 'class="ap-tile ap-faint"' not in long._repr_html_()


def test_statistics_are_a_mapping_of_what_the_table_defines():
    stats = Report(walk(1, 30)).stats
    assert list(stats) == [s.key for s in STATISTICS] == list(stats.meanings)
    assert "Sharpe (1-minute returns)" in repr(stats)
    assert all(stats.meanings[key] for key in stats)
    shown = [line.split()[0] for line in repr(stats).splitlines()]
    assert shown == list(stats)  # each line starts with what stats[...] takes
    assert max(map(len, repr(stats).splitlines())) <= 90
    assert not re.search(r"\de[+-]\d", repr(stats))
    assert sum(stats.paise(f"charges_{k}") for k in KINDS) == stats.paise("charges")
    with pytest.raises(KeyError):
        stats.paise("sharpe")


# ── shown ────────────────────────────────────────────────────────────────────────────────────────────────────────


def rich_text(report: Report) -> str:
    import io

    from rich.console import Console

    console = Console(file=io.StringIO(), width=140, force_terminal=False)
    console.print(report)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_foreign_text_is_escaped_on_pages_and_stripped_in_terminals():
    report = Report(hostile(), settings={"slippage": {"bps": 1.5}, "x": HOSTILE})
    for markup in (page(report), report._repr_html_()):
        assert "<script" not in markup
        assert "&lt;script&gt;" in markup
        assert "Bad&lt;b&gt;" in markup
        assert "Bad<b>" not in markup
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e]", markup)
    for shown in (repr(report), rich_text(report)):
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e]", shown)
        assert "[bold]ValueError" in shown
        assert "title" not in shown
    assert report.halted == {"Bad<b>": f"raised {HOSTILE}"}
    assert report.errors["message"].to_list() == [f"[bold]ValueError {HOSTILE}"]


def broken(file: str, line: int, code: str = "raise ValueError(level)") -> Result:
    """One trade, then the only strategy raised."""
    result = one_trade()
    result.halted = (f"on_tick raised ValueError at {file}:{line}",)
    trace = f'Traceback (most recent call last):\n  File "{file}", line {line}, in on_tick\n    {code}\n'
    message = "ValueError: no such level"
    result.errors = [
        RunError("Crossover", "on_tick", "NSE:INFY", OPEN, 1, file, line, message, f"{trace}{message}\n")
    ]
    return result


@pytest.mark.parametrize(
    ("file", "where"),
    [
        ("/srv/me/deep/folder/levels.py", "levels.py:7"),
        ("/var/ipykernel_71/1634609980.py", "notebook cell, line 7"),
        ("<ipython-input-19-0123456789ab>", "cell [19], line 7"),
        ("", "unknown file:7"),
    ],
)
def test_an_error_is_told_once_with_its_place_and_its_line_of_code(file: str, where: str) -> None:
    report = Report(broken(file, 7))
    card = report._repr_html_()
    for shown in (card, repr(report), rich_text(report)):
        assert shown.count("no such level") == 1
        assert shown.count("halted") == 1
        assert f"Crossover.on_tick, {where} · NSE:INFY" in shown
        assert shown.count("raise ValueError(level)") == 1
        assert "/srv/me" not in shown
        assert "1634609980" not in shown
    assert card.count('class="ap-alert"') == page(report).count('class="ap-alert"') == 1


def test_a_halt_without_an_error_is_told_too():
    result = broken("s.py", 7)
    result.halted = ("daily loss ₹600.00 > ₹500.00",)
    for shown in (Report(result)._repr_html_(), repr(Report(result)), rich_text(Report(result))):
        assert "daily loss ₹600.00" in shown
        assert "no such level" in shown


def test_a_notebook_cell_is_named_by_its_number():
    import subprocess
    import sys

    code = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        "shell.run_cell('1', store_history=True)\n"
        "shell.run_cell('def f():\\n    1 / 0', store_history=True)\n"
        "from alphapanda.report.text import source\n"
        "print(source(shell.user_ns['f'].__code__.co_filename, 2), source('/a/b.py', 3), sep='|')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "cell [2], line 2|b.py:3"


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 1500])
def test_notes_are_few_at_a_glance_and_all_within_reach(count: int) -> None:
    result = one_trade()
    result.notes = [f"note <{n}>" for n in range(count)]
    report = Report(result)
    assert report.notes == result.notes
    for html in (page(report), report._repr_html_()):
        assert html.count('class="ap-note"') == count
        folded = re.findall(r"<summary>([^<]*) notes on these figures</summary>", html)
        assert folded == ([whole(count)] if count > 2 else [])
    for shown in (repr(report), rich_text(report)):
        assert shown.count("note: ") == min(count, 3)
        assert (f"{whole(count - 3)} more: report.notes" in shown) == (count > 3)


@pytest.mark.parametrize(
    ("fills", "summary"), [(9, "9 fills"), (12, "12 fills"), (13, "last 12 of 13 fills")]
)
def test_the_card_shows_a_short_table_whole(fills: int, summary: str) -> None:
    card = Report(walk(1, fills))._repr_html_()
    assert f"<summary>{summary}</summary>" in card
    body = card.split(f"<summary>{summary}</summary>")[1].split("</tbody>")[0].split("<tbody>")[1]
    assert body.count("<tr>") == min(fills, CARD_ROWS)


def test_counts_are_grouped_like_rupees_everywhere():
    run = Run(("A", "B"))
    run.fill(OPEN, 250_000, 150_000)
    run.mark(OPEN + MINUTE)
    result = run.done()
    result.counts = {"ticks": 1_234_567}
    report = Report(result, seconds=1_234.5)
    for shown in (page(report), report._repr_html_(), rich_text(report)):
        assert "2,50,000" in shown
        assert not re.search(
            r"\b\d{3},\d{3}\b", re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", shown, flags=re.DOTALL)
        )
    assert "12,34,567 ticks" in report._repr_html_()


def test_the_page_needs_no_network(tmp_path):
    path = Report(walk(3, 60), Ticks(3, 4000), seconds=0.1).to_html(tmp_path / "deep" / "report.html")
    written = path.read_text(encoding="utf-8")
    found = set(re.findall(r"https?://[^\s\"'<]+", written))
    assert found <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert not re.search(r"<(?:link|script|img|iframe)|@import|url\((?!#)", written)
    assert written.count("<svg ") == 3


def test_twenty_thousand_fills_make_a_page_of_bounded_size(tmp_path):
    report = Report(walk(20, 20_000, ("A", "B")))
    begin = time.perf_counter()
    path = report.to_html(tmp_path / "report.html")
    card = report._repr_html_()
    assert time.perf_counter() - begin < 20  # five on a quiet machine
    assert path.stat().st_size < 3_000_000
    assert len(card) < 300_000
    assert "The last 1,500 of 20,000" in path.read_text(encoding="utf-8")
    assert report.fills.height == 20_000


def test_equal_runs_make_equal_pages(tmp_path):
    a, b = (Report(walk(2, 30)).to_html(tmp_path / f"{n}.html").read_bytes() for n in "ab")
    assert a == b


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_save_writes_every_frame(tmp_path, form):
    report = Report(walk(1, 30))
    report.save(tmp_path / "out", form)
    assert {p.stem for p in (tmp_path / "out").iterdir()} == {*FRAMES, "stats"}
    if form == "parquet":
        assert pl.read_parquet(tmp_path / "out" / "fills.parquet").equals(report.fills)
    stats = msgspec.json.decode((tmp_path / "out" / "stats.json").read_bytes())
    assert stats["digest"] == report.digest
    with pytest.raises(UnknownNameError, match="format"):
        report.save(tmp_path, "xlsx")  # type: ignore[arg-type]


def test_terminal_text_reads_without_colour(capsys):
    report = Report(walk(1, 60, ("A", "B")), seconds=0.5)
    shown = repr(report)
    assert str(report) == shown
    assert "net P&L after charges" in shown
    assert "₹10,00,000.00" in shown
    assert all(len(line) <= 160 for line in shown.splitlines())
    report.print(last=3)
    assert "last 3 of 60" in capsys.readouterr().out


# ── pictures ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_time_axis_leaves_out_the_night():
    ts = np.array([OPEN + d * DAY + m * MINUTE for d in range(3) for m in (0, 100, 375)], np.int64)
    line = Timeline(ts)
    assert line.place(ts).tolist() == [0, 100, 375, 375, 475, 750, 750, 850, 1125]
    assert line.ticks()[1] == ["20 Nov", "21 Nov", "22 Nov"]
    assert line.place(np.array([OPEN - DAY, OPEN + 9 * DAY], np.int64)).tolist() == [0, 1125]
    assert Timeline(ts[:3]).ticks()[1] == ["10:00", "11:00", "12:00", "13:00", "14:00", "15:00"]


def test_a_thinned_line_keeps_its_extremes():
    values = np.random.default_rng(1).integers(0, 10**9, 100_000)
    kept = thinned(values)
    assert len(kept) <= POINTS
    assert (values[kept].min(), values[kept].max()) == (values.min(), values.max())
    assert kept[0] == 0
    assert kept[-1] == len(values) - 1


def test_plots_are_figures_without_pyplot():
    import subprocess
    import sys

    report = Report(one_trade(), Ticks(2, 5000))
    figure = report.plot()
    assert len(figure.axes) == 2
    assert "<svg" in figure._repr_svg_()  # type: ignore[attr-defined]
    (ax,) = report.plot_prices("NSE:INFY").axes
    assert max(len(line.get_xdata()) for line in ax.lines) <= POINTS  # type: ignore[arg-type]
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["buy", "sell"]
    short = Run()
    short.fill(OPEN, -5, 150_000)
    (ax,) = Report(short.done(), Ticks(1, 100)).plot_prices("NSE:INFY").axes
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["sell"]  # type: ignore[union-attr]
    with pytest.raises(UnknownNameError, match="NSE:INFI") as caught:
        report.plot_prices("NSE:INFI")
    assert caught.value.nearest == "NSE:INFY"
    code = (
        "import sys, alphapanda.report.report as r\n"
        "assert not {'pandas', 'polars', 'matplotlib', 'rich'} & set(sys.modules)\n"
        "from alphapanda.result import Result\n"
        "r.Report(Result((), (), (), (), 1)).plot()\n"
        "assert not {'pandas', 'matplotlib.pyplot'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ── text ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_curves_of_characters():
    assert sparkline([]) == ""
    assert sparkline([5, 5]) == "▁▁"
    assert sparkline([0, 7]) == "▁█"
    assert braille([]) == []
    rows = braille(list(range(100)), width=10, height=3)
    assert [len(r) for r in rows] == [10, 10, 10]


def test_text_helpers():
    assert clean("a\x1b[2Jb\x1b]8;;http://x\x07c\x9bd\te\n") == "abcd\te\n"
    assert price(12_345_678, 100) == "1,23,456.78"
    assert price(881_225_000, 10_000_000) == "88.1225"
    assert price(None, 100) == average(None) == ""
    assert average(1_234_567.891) == "12,34,567.89"
    assert average(88.12254, 10_000_000) == "88.1225"
    assert [decimal(x) for x in (-1_234_567.891, 999.999, 0.0, None)] == [
        "-12,34,567.89",
        "1,000.00",
        "0.00",
        "n/a",
    ]
    assert [decimal(x) for x in (math.inf, -math.inf, math.nan)] == ["inf", "-inf", "nan"]
    assert percent(123_456.789, sign=True) == "+1,23,456.79%"
    assert [percent(x, sign=True) for x in (-1.5, 0.0, 0.001)] == ["-1.50%", "0.00%", "+0.0010%"]
    assert source("<stdin>", 1) == "<stdin>:1"

"""The report as HTML: a compact card for notebooks, a whole page that needs no network.

Every foreign word passes ``esc``. Colours derive from the surrounding text colour, so the card sits well in a light
and in a dark notebook; the page follows the reader's system.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from alphapanda.charges import KINDS
from alphapanda.money import rupees
from alphapanda.orders import DENIED, Order
from alphapanda.report import text
from alphapanda.report.stats import STATISTICS, Stats, side, value, wanted
from alphapanda.report.style import CSS, PAGE_CSS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from alphapanda.report.report import Report

ROWS = 1_500  # of a long table on the page; save() writes all
CARD_ROWS = 12
NOTES = 2  # more than this are folded
TRACEBACK = 6_000  # characters
CHARGE_KEYS = {f"charges_{kind}" for kind in KINDS}
HUES = ("#3478c6", "#e0903a", "#16936f", "#8d6cc4", "#c8553d", "#4aa5b8", "#b08c2e", "#8a8f98")


def esc(foreign: object) -> str:
    """Foreign text as HTML text: no control characters, no markup."""
    return html.escape(text.clean(foreign))


def tone(amount: float) -> str:
    """The class of a gain or a loss."""
    return "ap-gain" if amount > 0 else "ap-loss" if amount < 0 else ""


def amount(paise: int) -> str:
    """A signed amount in its tone; a span of its own, so that the cell's lines keep the page's colour."""
    return f'<span class="{tone(paise)}">{text.signed(paise)}</span>'


class Column(msgspec.Struct, frozen=True):
    """A table's column: header, text of a row, and how it stands: ``n`` a number, ``w`` long text, ``s`` paise."""

    head: str
    read: Callable[[Any], Any]
    form: str = ""


def table(rows: Sequence[Any], columns: Sequence[Column], limit: int = ROWS, foot: Sequence[str] = ()) -> str:
    """Rows as a table in a box that scrolls; of more than ``limit`` the last ones, and it says so."""
    if not rows:
        return '<p class="ap-soft">none</p>'
    shown = rows[-limit:]
    css = [{"n": ' class="n"', "s": ' class="n"', "w": ' class="w"'}.get(c.form, "") for c in columns]
    head = "".join(f"<th{k}>{esc(c.head)}</th>" for c, k in zip(columns, css, strict=True))
    body = "".join(
        f"<tr>{''.join(_cell(c, k, c.read(row)) for c, k in zip(columns, css, strict=True))}</tr>\n"
        for row in shown
    )
    cells = "".join(f"<td{k}>{esc(f)}</td>" for f, k in zip(foot, css, strict=False))
    cut = ""
    if len(rows) > limit > CARD_ROWS:
        cut = (
            f'<p class="ap-soft">The last {text.whole(limit)} of {text.whole(len(rows))}; '
            "<code>report.save(folder)</code> writes all.</p>"
        )
    foot_html = f"<tfoot><tr>{cells}</tr></tfoot>" if foot else ""
    return (
        f'<div class="ap-scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody>{foot_html}</table></div>{cut}"
    )


def _cell(column: Column, css: str, content: Any) -> str:
    if column.form == "s":
        return f'<td class="n">{"" if content is None else amount(content)}</td>'
    if content in ("BUY", "SELL"):
        return f'<td><span class="{"ap-gain" if content == "BUY" else "ap-loss"}">{content}</span></td>'
    return f"<td{css}>{esc(content)}</td>"


def drawing(figure: Figure, label: str) -> str:
    """A chart as inline SVG in the colours of the page."""
    from alphapanda.report.charts import INK, svg

    picture = svg(figure).replace(INK, "var(--ink)")
    return f'<div class="ap-chart" role="img" aria-label="{esc(label)}">{picture}</div>'


# ── tables of a run ──────────────────────────────────────────────────────────────────────────────────────────────


def fills_table(report: Report, limit: int) -> str:
    """Executions."""
    dated = report.dated
    columns = [
        Column("time", lambda f: text.moment(f.ts, dated)),
        *_who(report),
        Column("side", lambda f: f.side),
        Column("quantity", lambda f: text.whole(abs(f.quantity)), "n"),
        Column("price", lambda f: text.price(f.price_units, f.instrument.price_scale), "n"),
        Column("charges", lambda f: rupees(sum(f.charges)), "n"),
        Column("realized", lambda f: f.realized or None, "s"),
        Column("position", lambda f: text.whole(f.position), "n"),
        Column("tag", lambda f: text.one_line(f.tag, 60)),
    ]
    return table(report.result.fills, columns, limit)


def orders_table(report: Report, limit: int, orders: list[Order] | None = None) -> str:
    """Orders and what became of them."""
    dated = report.dated
    columns = [
        Column("time", lambda o: text.moment(o.signal.ts, dated)),
        *_who(report),
        Column("side", lambda o: side(wanted(o))),
        Column("quantity", lambda o: text.whole(abs(wanted(o))), "n"),
        Column("kind", lambda o: f"{o.kind} {o.leg}".strip()),
        Column("limit", lambda o: text.price(o.signal.limit, o.instrument.price_scale), "n"),
        Column("stop", lambda o: text.price(o.signal.stop, o.instrument.price_scale), "n"),
        Column("filled", lambda o: text.whole(abs(o.filled)), "n"),
        Column("average", lambda o: _average(o), "n"),
        Column("status", lambda o: o.status),
        Column("reason", lambda o: text.one_line(o.reason, 300), "w"),
    ]
    return table(report.result.orders if orders is None else orders, columns, limit)


def _average(order: Order) -> str:
    return text.average(order.average_price if order.filled else None, order.instrument.price_scale)


def trades_table(report: Report, limit: int) -> str:
    """Round trips."""
    dated = report.dated
    columns = [
        Column("opened", lambda t: text.moment(t.opened_ts, dated)),
        Column("closed", lambda t: text.moment(t.closed_ts, dated) or "open"),
        *_who(report),
        Column("", lambda t: "long" if t.direction > 0 else "short"),
        Column("quantity", lambda t: text.whole(t.entered), "n"),
        Column("entry", lambda t: text.average(t.entry_price, t.price_scale), "n"),
        Column("exit", lambda t: text.average(t.exit_price, t.price_scale), "n"),
        Column("realized", lambda t: t.realized, "s"),
        Column("charges", lambda t: rupees(t.charges), "n"),
        Column("net P&L", lambda t: t.net, "s"),
    ]
    trades = report.round_trips
    total = ["all", *[""] * (len(columns) - 4), text.signed(sum(t.realized for t in trades))]
    total += [rupees(sum(t.charges for t in trades)), text.signed(sum(t.net for t in trades))]
    return table(trades, columns, limit, total)


def _who(report: Report) -> list[Column]:
    symbol = Column("symbol", lambda row: row.symbol)
    if len(report.result.strategies) < 2:
        return [symbol]
    return [Column("strategy", lambda row: text.one_line(row.strategy, 40)), symbol]


def strategies_table(report: Report) -> str:
    """One line a strategy."""
    columns = [
        Column("strategy", lambda s: text.one_line(s.name, 60)),
        Column("parameters", lambda s: text.parameters_text(s.parameters), "w"),
        Column("orders", lambda s: text.whole(s.orders), "n"),
        Column("fills", lambda s: text.whole(s.fills), "n"),
        Column("denied", lambda s: text.whole(s.denials), "n"),
        Column("trades", lambda s: text.whole(s.trades), "n"),
        Column("charges", lambda s: rupees(s.charges), "n"),
        Column("net P&L", lambda s: s.net, "s"),
        Column("state", lambda s: "halted" if s.halted else "ran to the end"),
    ]
    return table(report.by_strategy, columns)


def positions_table(report: Report) -> str:
    """What is still open."""
    scales = {i.symbol: i.price_scale for i in report.result.instruments}
    columns = [
        *(
            Column("strategy", lambda p: text.one_line(p["strategy"], 40)),
            Column("symbol", lambda p: p["symbol"]),
        ),
        Column("product", lambda p: p["product"]),
        Column("quantity", lambda p: text.whole(p["quantity"]), "n"),
        *(
            Column("average", lambda p: text.average(p["average_price"], scales[p["symbol"]]), "n"),
            Column("last", lambda p: text.average(p["last"], scales[p["symbol"]]), "n"),
        ),
        Column("unrealized", lambda p: round(100 * p["unrealized"]), "s"),
    ]
    return table(report.positions.to_dicts(), columns)


def denials_table(report: Report) -> str:
    """How often each reason was given."""
    return table(
        report.denied,
        [Column("reason", lambda d: d[0], "w"), Column("times", lambda d: text.whole(d[1]), "n")],
    )


def charges_bar(report: Report) -> str:
    """Charges by kind: a bar of shares and the amounts to the paisa."""
    stats = report.stats
    total = stats.paise("charges")
    if not total:
        return '<p class="ap-soft">no charges</p>'
    kinds = [(k, hue, stats.paise(f"charges_{k}")) for k, hue in zip(KINDS, HUES, strict=True)]
    bar = "".join(
        f'<i style="width:{100 * a / total:.3f}%;background:{hue}"></i>' for _, hue, a in kinds if a > 0
    )
    legend = "".join(
        f'<div><i style="background:{hue}"></i><span>{stats.label(f"charges_{k}")}</span> {rupees(a)}</div>'
        for k, hue, a in kinds
        if a
    )
    return (
        f'<div class="ap-bar">{bar}</div><div class="ap-legend">{legend}'
        f"<div><span>total</span> <b>{rupees(total)}</b></div></div>"
    )


# ── parts ────────────────────────────────────────────────────────────────────────────────────────────────────────


def alerts(report: Report, full: bool) -> str:
    """What stopped a strategy, each once, first thing in red."""
    parts: list[str] = []
    for error in report.result.errors:
        line = text.code(error)
        code = f'<code class="ap-code">{esc(line)}</code>' if line else ""
        trace = ""
        if full:
            trace = folded("traceback", f"<pre>{esc(error.traceback[-TRACEBACK:])}</pre>")
        parts.append(
            f'<div class="ap-alert"><b>{esc(text.one_line(error.message, 600))}</b>{code}'
            f'<div class="ap-soft">{esc(text.place(error))}; the strategy was halted</div>{trace}</div>'
        )
    for name, reason in text.stopped(report).items():
        who, why = esc(text.one_line(name)), esc(text.one_line(reason, 600))
        parts.append(f'<div class="ap-alert"><b>{who} was halted</b>: {why}</div>')
    return "".join(parts)


def top(report: Report) -> str:
    """The headline and the figures beside it."""
    stats = report.stats
    net = stats.paise("net_pnl")
    hit = f", {stats.text('hit_rate_percent')} won" if stats["trades"] else ""
    tiles = (
        ("final_equity", f"equity, from {rupees(stats.paise('capital'))}"),
        ("max_drawdown_percent", f"max drawdown, {stats.text('max_drawdown')}"),
        ("sharpe", stats.label("sharpe")),
        ("trades", f"trades{hit}"),
        ("profit_factor", "profit factor"),
        ("charges", "charges"),
    )
    boxes = "".join(
        f'<div class="ap-tile{_faint(stats, key)}" title="{esc(stats.meanings[key])}">'
        f"<b>{esc(stats.text(key))}</b><span>{esc(label)}</span></div>"
        for key, label in tiles
    )
    return (
        f'<div class="ap-top"><div><div class="ap-pnl {tone(net)}">{text.signed(net)}</div>'
        f'<div class="ap-soft">net P&amp;L after charges · <span class="{tone(net)}">'
        f"{text.percent(stats['return_percent'], sign=True)}</span> on capital</div></div></div>"
        f'<div class="ap-tiles">{boxes}</div>'
    )


def _faint(stats: Stats, key: str) -> str:
    return " ap-faint" if stats.tentative(key) else ""


def notes(report: Report) -> str:
    """What to know before trusting the figures; more than a few are folded."""
    every = "".join(f'<div class="ap-note">{esc(note)}</div>' for note in report.notes)
    count = len(report.notes)
    return folded(f"{text.whole(count)} notes on these figures", every) if count > NOTES else every


def title(report: Report) -> str:
    """The strategies by name."""
    names = report.result.strategies
    return (
        text.one_line(
            ", ".join(names[:4]) + (f" and {text.whole(len(names) - 4)} more" if len(names) > 4 else "")
        )
        or "no strategy"
    )


def subtitle(report: Report) -> str:
    """Instruments, days, amount of data."""
    r = report.result
    ticks = f" · {text.whole(r.counts['ticks'])} ticks" if "ticks" in r.counts else ""
    return f"{text.symbols_text(report)} · {text.span(r.first_ts, r.last_ts)}{ticks}"


def folded(name: str, content: str) -> str:
    """A part one opens."""
    return f"<details><summary>{esc(name)}</summary>{content}</details>"


def card(report: Report) -> str:
    """The report in one notebook cell."""
    from alphapanda.report import charts

    r = report.result
    parts = [
        f'<div class="ap-name">{esc(title(report))}</div><div class="ap-soft">{esc(subtitle(report))}</div>',
        alerts(report, full=False),
        top(report),
        drawing(charts.equity(report.points, r.capital, height=3.6), "equity after charges, with drawdown"),
        charges_bar(report),
    ]
    if len(r.strategies) > 1:
        parts.append(strategies_table(report))
    if r.fills:
        parts.append(folded(_last("fills", len(r.fills)), fills_table(report, CARD_ROWS)))
    if r.orders:
        parts.append(folded(_last("orders", len(r.orders)), orders_table(report, CARD_ROWS)))
    if report.denied:
        parts.append(
            folded(f"{report.stats.text('denials')} denied by our own risk rules", denials_table(report))
        )
    parts += [
        notes(report),
        f'<div class="ap-soft" style="margin-top:12px">decisions <code>{report.digest}</code></div>',
    ]
    return f'<style>{CSS}</style><div class="ap ap-card">{"".join(parts)}</div>'


def _last(what: str, count: int) -> str:
    return (
        f"last {CARD_ROWS} of {text.whole(count)} {what}"
        if count > CARD_ROWS
        else f"{text.whole(count)} {what}"
    )


def page(report: Report) -> str:
    """The report as a page of its own."""
    body = "".join(_sections(report))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{esc(title(report))} · Alpha Panda</title><style>{CSS}{PAGE_CSS}</style></head>\n"
        f'<body><main class="ap">{body}</main></body></html>\n'
    )


def _sections(report: Report) -> Iterable[str]:
    from alphapanda.report import charts

    r = report.result
    yield '<div class="ap-eyebrow">Alpha Panda · report of a run</div>'
    yield f'<h1>{esc(title(report))}</h1><div class="ap-soft">{esc(subtitle(report))}</div>'
    yield alerts(report, full=True)
    yield top(report)
    yield drawing(charts.equity(report.points, r.capital), "equity after charges, with drawdown")
    yield notes(report)
    if len(r.strategies) > 1:
        yield f"<h2>Strategies</h2>{strategies_table(report)}"
    yield f"<h2>Charges</h2>{charges_bar(report)}"
    if r.fills:
        yield _charges_by_instrument(report)
        yield "<h2>Prices and fills</h2>"
        for panel in report.price_panels:
            yield drawing(charts.prices([panel]), f"price of {panel.symbol} with fills")
    if report.denied:
        yield f"<h2>Denied by our own risk rules</h2>{denials_table(report)}"
    if r.positions:
        yield f"<h2>Open at the end</h2>{positions_table(report)}"
    yield f"<h2>Statistics</h2>{_statistics(report)}"
    yield f"<h2>Trades</h2>{trades_table(report, ROWS)}"
    yield f"<h2>Fills</h2>{fills_table(report, ROWS)}"
    yield f"<h2>Orders</h2>{orders_table(report, ROWS, [o for o in r.orders if o.status != DENIED])}"
    if report.denied:
        yield f"<h2>Denied signals</h2>{orders_table(report, ROWS // 3, [o for o in r.orders if o.status == DENIED])}"
    if r.logs:
        yield f"<h2>Log</h2>{_logs_table(report)}"
    yield f"<h2>The run</h2>{_facts(report)}"
    yield (
        f'<p class="ap-soft">decisions <code>{report.digest}</code>: equal digests mean equal decisions.</p>'
    )


def _charges_by_instrument(report: Report) -> str:
    sums: dict[tuple[str, str], list[int]] = {}
    for fill in report.result.fills:
        row = sums.setdefault((fill.symbol, fill.product), [0, 0, 0])
        row[0] += 1
        row[1] += value(fill)
        row[2] += sum(fill.charges)
    columns = [
        *(Column("symbol", lambda row: row[0][0]), Column("product", lambda row: row[0][1])),
        Column("fills", lambda row: text.whole(row[1][0]), "n"),
        Column("turnover", lambda row: rupees(row[1][1]), "n"),
        Column("charges", lambda row: rupees(row[1][2]), "n"),
        Column(
            "per lakh traded",
            lambda row: rupees(row[1][2] * 10_000_000 // row[1][1]) if row[1][1] else "",
            "n",
        ),
    ]
    return table(sorted(sums.items(), key=lambda item: (-item[1][2], item[0])), columns)


def _statistics(report: Report) -> str:
    stats = report.stats
    shown = [s for s in STATISTICS if s.key not in CHARGE_KEYS]
    figures = "".join(
        f'<div class="{_faint(stats, s.key).strip()}"><dt title="{esc(s.meaning)}">{esc(stats.label(s.key))}</dt>'
        f"<dd>{esc(stats.text(s.key))}</dd></div>"
        for s in shown
    )
    columns = [Column("figure", lambda s: s.label), Column("what it means", lambda s: s.meaning, "w")]
    return f'<dl class="ap-figures">{figures}</dl>{folded("what each figure means", table(shown, columns))}'


def _logs_table(report: Report) -> str:
    columns = [
        Column("time", lambda line: text.moment(line.ts, report.dated)),
        Column("strategy", lambda line: text.one_line(line.strategy, 40)),
        Column("message", lambda line: text.one_line(line.message, 300), "w"),
        Column("fields", lambda line: text.one_line(text.parameters_text(line.fields), 300), "w"),
    ]
    return table(report.result.logs, columns, ROWS // 3)


def _facts(report: Report) -> str:
    r = report.result
    pairs = [
        (f"{name} parameters", text.parameters_text(p) or "none")
        for name, p in zip(r.strategies, r.parameters, strict=True)
    ]
    pairs += [(name.replace("_", " "), text.whole(count)) for name, count in r.counts.items()]
    pairs += text.settings_lines(report.settings)
    if report.seconds is not None:
        pairs.append(("seconds", text.decimal(report.seconds, 3)))
    columns = [Column("", lambda pair: pair[0]), Column("", lambda pair: pair[1], "w")]
    return table(list(islice(pairs, ROWS)), columns)

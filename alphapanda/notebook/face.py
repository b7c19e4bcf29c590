"""How a run looks: the parts of its card as HTML, the whole of it as a static card, and as plain text.

The live card shows the same parts; they are made here once, so a saved notebook looks like the live one. Without its
style sheet (GitHub drops it) the card still reads as headings and tables. Foreign text passes ``esc``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from alphapanda.events import ist
from alphapanda.money import rupees
from alphapanda.orders import DENIED, EXPIRED, FILLED, REJECTED
from alphapanda.overview.view import View
from alphapanda.report import text
from alphapanda.report.page import Column, amount, esc, table, tone
from alphapanda.report.style import CSS

ROWS = 5  # positions and orders shown
WIDTH, HEIGHT = 240, 56  # of the sparkline's own units
STATUS_TONES = {DENIED: "ap-loss", REJECTED: "ap-loss", EXPIRED: "ap-soft", FILLED: "ap-gain"}


@cache
def style() -> str:
    """The report's style sheet with what a live card adds."""
    return CSS + (Path(__file__).parent / "card.css").read_text("utf-8")


def parts(view: View) -> dict[str, str]:
    """The card's parts by name, as HTML."""
    return {
        "head": _head(view),
        "news": _news(view),
        "money": _money(view),
        "positions": _positions(view),
        "orders": _orders(view),
        "foot": _foot(view),
    }


def html(view: View) -> str:
    """The card for places where nothing can change it any more."""
    part = {name: f'<div class="ap-{name}">{content}</div>' for name, content in parts(view).items()}
    books = f'<div class="ap-books">{part.pop("positions")}{part.pop("orders")}</div>'
    foot = part.pop("foot")
    lane = "live" if view.live else "paper"
    opened = f'<div class="ap ap-live" data-lane="{lane}" data-state="{esc(view.state)}">'
    return f"<style>{style()}</style>{opened}{''.join(part.values())}{books}{foot}</div>"


# ── parts ────────────────────────────────────────────────────────────────────────────────────────────────────────


def title(view: View) -> str:
    """``OpeningRange(minutes=10)``."""
    values = text.parameters_text(view.parameters)
    return f"{text.one_line(view.name, 60)}({text.one_line(values, 120)})"


def _head(view: View) -> str:
    lane = "paper" if not view.live else f"live · {view.namespace}"
    values = text.one_line(text.parameters_text(view.parameters), 120)
    soft = f' <span class="ap-soft">{esc(values)}</span>' if values else ""
    return (
        f'<span class="ap-lane">{esc(lane)}</span> <b class="ap-name">{esc(text.one_line(view.name, 60))}</b>{soft} '
        f'<span class="ap-state"><i></i> {esc(view.label)}</span>'
    )


def _news(view: View) -> str:
    """What a person has to know before the figures: the worst first."""
    told: list[str] = []
    fault = view.fault
    if fault is not None:
        line = text.code(fault)
        told.append(
            f'<div class="ap-alert"><b>{esc(text.one_line(fault.message, 300))}</b><br>{esc(text.place(fault))}'
            f"{f'<div><code>{esc(line)}</code></div>' if line else ''}</div>"
        )
    if _unexplained(view):
        reason = text.one_line(view.reason or "no reason was given", 400)
        told.append(f'<div class="ap-alert"><b>{esc(view.state)}</b> {esc(reason)}</div>')
    if view.halt:
        told.append(
            f'<div class="ap-alert"><b>{esc(view.namespace)} is halted</b> {esc(text.one_line(view.halt, 300))}'
            " · no run of it may place an order</div>"
        )
    if view.lost:
        told.append(
            '<div class="ap-note">No connection to the server. The run goes on without this notebook; the card '
            "catches up when the server is back.</div>"
        )
    return "".join(told)


def _unexplained(view: View) -> bool:
    """Whether it was stopped by something other than the error that is shown anyway."""
    fault = view.fault
    told = fault is not None and view.reason.startswith(f"{fault.callback} raised ")
    return view.state in ("halted", "failed", "paused") and not told


def _money(view: View) -> str:
    books = view.books
    if not books.updated:
        waits = "ended before it traded" if view.ended else "no figures yet"
        net, below = '<b class="ap-pnl ap-blank">₹–</b>', waits
    else:
        net = f'<b class="ap-pnl {tone(books.net)}">{text.signed(books.net)}</b>'
        below = f"net P&L after charges{_share(view)}"
    return (
        f'<div class="ap-net">{net}<div class="ap-soft">{esc(below)}</div></div>'
        f'<div class="ap-spark">{spark([value for _, value in books.curve])}</div>'
        f'<div class="ap-figs">{"".join(_figure(name, shown) for name, shown in _figures(view))}</div>'
    )


def _share(view: View) -> str:
    books = view.books
    if not books.capital:
        return ""
    return f" · {text.percent(100 * books.net / books.capital, sign=True)} of {rupees(books.capital)[:-3]}"


def _figures(view: View) -> list[tuple[str, str]]:
    books, count = view.books, view.count
    return [
        ("realized", amount(books.realized)),
        ("unrealized", amount(books.unrealized)),
        ("charges", rupees(books.charges)),
        ("ticks", text.whole(count.get("ticks", 0))),
        ("orders", text.whole(count.get("orders", 0)) + _denied(count.get("denials", 0))),
        ("fills", text.whole(count.get("fills", 0))),
    ]


def _denied(count: int) -> str:
    return (
        f' <span class="ap-denied" title="denied by our own risk rules">{text.whole(count)} denied</span>'
        if count
        else ""
    )


def _figure(name: str, shown: str) -> str:
    return f"<span><small>{name}</small> <b>{shown}</b></span> "


def spark(values: Sequence[int]) -> str:
    """Net P&L as a line, with the level of no gain."""
    if len(values) < 2:
        return ""
    low, high = min(0, *values), max(0, *values)
    reach = high - low

    def y(value: int) -> str:
        return f"{3 + (high - value) * (HEIGHT - 6) / reach if reach else HEIGHT / 2:.1f}"

    line = " ".join(f"{i * WIDTH / (len(values) - 1):.1f},{y(v)}" for i, v in enumerate(values))
    kind = "ap-loss" if values[-1] < 0 else "ap-gain" if reach else "ap-soft"
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" class="{kind}" role="img" '
        f'aria-label="net P&amp;L so far"><path d="M0,{y(0)}H{WIDTH}"/>'
        f'<polygon points="0,{y(0)} {line} {WIDTH},{y(0)}"/><polyline points="{line}"/></svg>'
    )


def _positions(view: View) -> str:
    held = view.books.positions
    if not held:
        return '<p class="ap-soft">flat: no open position</p>'
    columns = [
        Column("position", lambda p: p.symbol if p.product in ("MIS", "") else f"{p.symbol} {p.product}"),
        Column("quantity", lambda p: text.whole(p.quantity), "n"),
        Column("average", lambda p: text.decimal(p.average), "n"),
        Column("last", lambda p: text.decimal(p.last), "n"),
        Column("P&L", lambda p: p.unrealized, "s"),
    ]
    largest = sorted(held, key=lambda p: -abs(p.unrealized))[:ROWS]
    return table([p for p in held if p in largest], columns) + _more(len(held), "positions")


def _orders(view: View) -> str:
    orders = sorted(view.books.orders, key=lambda order: order.ts)
    if not orders:
        return (
            '<p class="ap-soft">no orders yet</p>' if not view.ended else '<p class="ap-soft">no orders</p>'
        )
    rows = "".join(
        f"<tr><td>{text.moment(o.ts, dated=False)}</td>"
        f'<td class="{"ap-gain" if o.side == "BUY" else "ap-loss"}">{esc(o.side)}</td>'
        f'<td class="n">{text.whole(o.quantity)}</td><td>{esc(o.symbol)}</td>'
        f"<td>{esc(o.kind)}{'' if o.limit is None else f' {text.decimal(o.limit)}'}</td>"
        f'<td class="{STATUS_TONES.get(o.status, "")}"{_tip(o.reason)}>{esc(o.status)}{_part(o)}</td></tr>'
        for o in reversed(orders[-ROWS:])
    )
    heads = ("last orders", "", "quantity", "symbol", "kind", "status")
    head = "".join(f"<th{_right(name)}>{name}</th>" for name in heads)
    return f'<div class="ap-scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _right(name: str) -> str:
    return ' class="n"' if name == "quantity" else ""


def _tip(reason: str) -> str:
    return f' title="{esc(text.one_line(reason, 300))}"' if reason else ""


def _part(order: Any) -> str:
    return f" {text.whole(order.filled)}" if order.status == "part-filled" else ""


def _more(count: int, what: str) -> str:
    return f'<p class="ap-soft">and {text.whole(count - ROWS)} more {what}</p>' if count > ROWS else ""


def _foot(view: View) -> str:
    ts = max(view.books.tape_ts, view.pulse.tape_ts)
    facts = [
        f'<span class="ap-age">{f"{ist(ts):%d %b %Y, %H:%M:%S} IST" if ts else "no market data yet"}</span>'
    ]
    facts += [esc(text.one_line(", ".join(view.symbols[:4]), 120))] if view.symbols else []
    facts += [f"run <code>{esc(view.run)}</code>", f"source <code>{esc(view.digest[:8])}</code>"]
    facts += ["detached: goes on without this notebook"] if view.detached and not view.ended else []
    return " · ".join(facts)


# ── plain text ───────────────────────────────────────────────────────────────────────────────────────────────────


def line(view: View) -> str:
    """One line: for lists and logs."""
    lane = view.namespace if view.live else "paper"
    net = f" · net {text.signed(view.books.net)}" if view.books.updated else ""
    return f"{lane} · {title(view)} · {view.label}{net}"


def plain(view: View) -> str:
    """The card for a terminal, a log, or a front end that shows text only."""
    books, count = view.books, view.count
    lane = "paper" if not view.live else f"LIVE {view.namespace}"
    lines = [f"{lane} · {title(view)} · {view.label}"]
    fault = view.fault
    if fault is not None:
        lines += [f"ERROR  {text.one_line(fault.message)}", f"       {text.place(fault)}"]
    if _unexplained(view):
        lines.append(f"{view.state.upper()} {text.one_line(view.reason)}")
    if view.halt:
        lines.append(f"HALTED {view.namespace}: {text.one_line(view.halt)}")
    if view.lost:
        lines.append("NOTE   no connection to the server; the run goes on without this notebook")
    if books.updated:
        curve = text.sparkline([value for _, value in books.curve], 40)
        lines += [
            f"net P&L {text.signed(books.net)}{_share(view)}  {curve}".rstrip(),
            f"realized {text.signed(books.realized)} · unrealized {text.signed(books.unrealized)}"
            f" · charges {rupees(books.charges)}",
        ]
    for p in books.positions[:ROWS]:
        lines.append(
            f"  {p.symbol:<20} {text.whole(p.quantity):>9} at {text.decimal(p.average):>11}"
            f"  last {text.decimal(p.last):>11}  {text.signed(p.unrealized):>14}"
        )
    for o in sorted(books.orders, key=lambda order: -order.ts)[:ROWS]:
        lines.append(
            f"  {text.moment(o.ts, dated=False)} {o.side:<4} {text.whole(o.quantity):>7} {o.symbol:<20} {o.kind:<6} "
            f"{o.status}{f': {text.one_line(o.reason, 60)}' if o.reason and o.status != FILLED else ''}"
        )
    counts = " · ".join(f"{text.whole(count.get(name, 0))} {name}" for name in ("ticks", "orders", "fills"))
    ts = max(books.tape_ts, view.pulse.tape_ts)
    lines.append(f"{counts}{f' · {ist(ts):%d %b %Y, %H:%M:%S} IST' if ts else ''} · run {view.run}")
    return "\n".join(lines)

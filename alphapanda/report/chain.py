"""The chain from an order back to the tick that caused it and on to what it cost: one table, and a small picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from alphapanda.charges import KINDS
from alphapanda.events import Bar, Fill, Signal
from alphapanda.hindsight.scene import Scene
from alphapanda.hindsight.verdicts import NOT_ASKED, REFUSED, Verdict
from alphapanda.instruments import Instrument
from alphapanda.money import rupees
from alphapanda.orders import DENIED, Order
from alphapanda.report import page, text
from alphapanda.report.page import Column
from alphapanda.result import Result

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure
    from rich.console import RenderableType

DETAIL = 400  # characters of one step


class Step(msgspec.Struct, frozen=True):
    """One link of the chain: what happened, and when: ``ts`` on the tape, ``wall`` by the clock of this machine (ns; 0
    where there is none)."""

    what: str
    ts: int
    id: str
    detail: str
    wall: int = 0


class Chain:
    """Why an order is as it is. ``frame`` is the table, ``plot()`` the picture; shown in a notebook it is both.

    ``scene`` holds the values behind it: the indicators, the state and the rules' verdicts at the decision.
    """

    def __init__(
        self, order: Order, steps: list[Step], scene: Scene, decision: Signal | None, result: Result
    ) -> None:
        self.order, self.steps, self.scene, self.decision = order, steps, scene, decision
        self.fills = [fill for fill in result.fills if fill.order_id == order.id]

    @cached_property
    def frame(self) -> pl.DataFrame:
        """The chain as a frame."""
        from alphapanda.report import frames

        columns = [
            frames.Column("what", "text", lambda s: s.what),
            frames.Column("ts", "time", lambda s: s.ts or None),
            frames.Column("wall", "time", lambda s: s.wall or None),
            frames.Column("id", "text", lambda s: s.id),
            frames.Column("detail", "text", lambda s: s.detail),
        ]
        return frames.to_frame(self.steps, columns)

    def plot(self) -> Figure:
        """The price around the decision, the indicators on the way there, the order's prices and its fills."""
        from alphapanda.report import moments

        return moments.decision(self)

    def __repr__(self) -> str:
        lines = [
            f"{_when(s):<24} {s.what:<9} {text.one_line(s.id, 34):<34} {text.one_line(s.detail, DETAIL)}".rstrip()
            for s in self.steps
        ]
        return "\n".join([f"why {self.order.id}", *lines])

    def __rich__(self) -> RenderableType:
        from alphapanda.report.terminal import Fitted, cell

        table = Fitted(f"why {self.order.id}", "time", "what", "id", "~what happened")
        for s in self.steps:
            table.add_row(_when(s), s.what, cell(s.id, 34), cell(s.detail, DETAIL))
        return table

    def _repr_html_(self) -> str:
        columns = [
            Column("time", _when),
            Column("", lambda s: s.what),
            Column("", lambda s: s.id),
            Column("what happened", lambda s: text.one_line(s.detail, DETAIL), "w"),
        ]
        head = f'<div class="ap-name">why {page.esc(self.order.id)}</div>'
        picture = page.drawing(self.plot(), f"price around the decision of order {self.order.id}")
        table = page.table(self.steps, columns)
        return f'<style>{page.CSS}</style><div class="ap"><div class="ap-card">{head}{picture}{table}</div></div>'


def _when(step: Step) -> str:
    """Tape time; for what only a clock knows, that, and it says so."""
    if step.ts or not step.wall:
        return text.moment(step.ts)
    return f"{text.moment(step.wall)}.{step.wall // 10**6 % 1000:03d} wall"


def chain(
    result: Result,
    order: Order,
    decision: Signal | None,
    scene: Scene,
    instruments: Sequence[Instrument],
    told: Sequence[Step] = (),
) -> Chain:
    """Put the links together: ``told`` is what is known of an order's way to the broker and back."""
    steps = [*_cause(order, decision, scene, instruments)]
    steps += [*_risk(order, scene.verdicts), *told] if not order.leg else told
    steps += _outcome(order, result)
    return Chain(order, steps, scene, decision, result)


# ── before the order ─────────────────────────────────────────────────────────────────────────────────────────────


def _cause(
    order: Order, decision: Signal | None, scene: Scene, instruments: Sequence[Instrument]
) -> Iterator[Step]:
    signal, scale = decision or order.signal, order.instrument.price_scale
    tick = scene.tick(signal)
    if tick is not None:
        ticked = instruments[tick.index]
        price = text.price(tick.units, ticked.price_scale)
        last = text.price(signal.reference, scale)
        beside = "" if ticked.symbol == signal.symbol else f"; {signal.symbol} stood at {last}"
        yield Step("tick", tick.ts, f"row {tick.row}", f"{ticked.symbol} at {price}{beside}")
    else:
        last = text.price(signal.reference, scale)
        yield Step("event", signal.ts, f"row {signal.seq}", f"{signal.symbol} last traded at {last}")
    for bar in scene.bars:
        yield Step("bar", bar.ts, bar.interval, _bar(bar, scale))
    for name, value in scene.values.items():
        yield Step("indicator", signal.ts, name, "not ready" if value is None else text.decimal(value, 4))
    if scene.state:
        yield Step("state", signal.ts, "self.state", scene.state)
    if scene.missing:
        yield Step("note", signal.ts, "", scene.missing)
    if decision is not None:
        yield Step("signal", signal.ts, signal.id, _wanted(decision, scale) + _place(scene))
    if order.leg:
        why = f"its {order.leg}" if decision is not None else order.leg
        parent = order.parent_id or order.id
        yield Step("parent", order.signal.ts, parent, f"this order is {why}: {_wanted(order.signal, scale)}")


def _bar(bar: Bar, scale: int) -> str:
    prices = ", ".join(
        f"{name} {text.average(getattr(bar, name), scale)}" for name in ("open", "high", "low", "close")
    )
    begun, ended = (text.moment(ts, dated=False) for ts in (bar.start, bar.ts))
    return f"{begun} to {ended}: {prices}, volume {text.whole(bar.volume)}"


def _wanted(signal: Signal, scale: int) -> str:
    kind = "LIMIT" if signal.limit is not None else "MARKET"
    kind = kind if signal.stop is None else ("SL" if signal.limit is not None else "SL-M")
    facts = [
        f"{'buy' if signal.quantity > 0 else 'sell'} {text.whole(abs(signal.quantity))} {signal.symbol} {kind}"
    ]
    named = (("limit", signal.limit), ("stop", signal.stop), ("sl", signal.sl), ("tp", signal.tp))
    facts += [f"{name} {text.price(units, scale)}" for name, units in named if units is not None]
    facts += [f"last price {text.price(signal.reference, scale)}", signal.product, signal.validity]
    facts += [f"tag {text.one_line(signal.tag, 40)}"] if signal.tag else []
    return ", ".join(facts)


def _place(scene: Scene) -> str:
    if not scene.callback:
        return ""
    return f"; in {scene.callback}, {text.source(scene.file, scene.line)}"


def _risk(order: Order, verdicts: Sequence[Verdict]) -> Iterator[Step]:
    """What each rule said, those that the order did not concern on one line; then what was decided."""
    ts = order.signal.ts
    for one in verdicts:
        if one.said != NOT_ASKED:
            yield Step("risk", ts, one.rule, one.reason if one.said == REFUSED else "passed")
    beside: dict[str, list[str]] = {}
    for one in verdicts:
        if one.said == NOT_ASKED:
            beside.setdefault(one.reason, []).append(one.rule)
    for reason, rules in beside.items():
        yield Step("risk", ts, "not asked", f"{', '.join(rules)}: {reason}")
    denied = order.status == DENIED
    yield Step("verdict", ts, "", f"denied: {order.reason}" if denied else "passed every rule")


# ── after it ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _outcome(order: Order, result: Result) -> Iterator[Step]:
    if order.status == DENIED:
        return
    fills = [fill for fill in result.fills if fill.order_id == order.id]
    scale = order.instrument.price_scale
    for fill in fills:
        yield Step("fill", fill.ts, fill.id, _filled(fill, scale))
    reason = f": {order.reason}" if order.reason else ""
    wanted = max(order.quantity, abs(order.filled))
    done = f"{text.whole(abs(order.filled))} of {text.whole(wanted)} filled"
    at = order.end_ts or (fills[-1].ts if fills else order.signal.ts)
    yield Step("order", at, order.id, f"{order.status}{reason}, {done}")
    for exit_ in result.orders:
        if exit_.parent_id == order.id:
            made = [fill for fill in result.fills if fill.order_id == exit_.id]
            sums = f", realized {text.signed(sum(f.realized for f in made))}" if made else ""
            yield Step("exit", exit_.end_ts or exit_.signal.ts, exit_.id, f"{exit_.leg} {exit_.status}{sums}")
    if fills:
        yield from _money(fills)


def _filled(fill: Fill, scale: int) -> str:
    slipped = (fill.price_units - fill.reference) * (1 if fill.quantity > 0 else -1)
    told = (
        f", {text.price(abs(slipped), scale)} {'worse' if slipped > 0 else 'better'} than the last price"
        if slipped
        else ""
    )
    return (
        f"{text.whole(abs(fill.quantity))} at {text.price(fill.price_units, scale)}{told}, "
        f"row {fill.seq}, position {text.whole(fill.position)}"
    )


def _money(fills: list[Fill]) -> Iterator[Step]:
    """Each kind of charge, and what is left of what was realized."""
    ts = fills[-1].ts
    kinds = [sum(fill.charges[at] for fill in fills) for at in range(len(KINDS))]
    for kind, paise in zip(KINDS, kinds, strict=True):
        if paise:
            yield Step("charge", ts, kind, rupees(paise))
    realized, paid = sum(fill.realized for fill in fills), sum(kinds)
    yield Step(
        "money",
        ts,
        "",
        f"{text.signed(realized)} realized, {rupees(paid)} charges, {text.signed(realized - paid)} net",
    )

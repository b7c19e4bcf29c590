"""Why an order is as it is, found afterwards: nothing of this is kept while a strategy trades.

The ticks are played again up to the decision (``scene``), every risk rule is asked there (``verdicts``), and what
became of the order comes from the run's result. This module does it for research; ``recount`` for runs on paper and at
a broker, from their files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from alphapanda.account import Account
from alphapanda.desk import Desk
from alphapanda.engine import Engine
from alphapanda.errors import UnknownNameError
from alphapanda.events import Block, Signal
from alphapanda.exchange import Exchange, Fills
from alphapanda.hindsight.scene import NO_TICKS, Reached, Scene, Trace, look, span_of
from alphapanda.hindsight.verdicts import REFUSED, Verdict, ask_each
from alphapanda.orders import Order
from alphapanda.report.chain import Chain, chain
from alphapanda.result import Result

Make = Callable[[Callable[[Engine, Account], Desk] | None], Engine]
"""A run's engine as it was before the first tick, with another desk if one is given."""

SQUARE_OFF = (
    "it follows from the day's timetable or an operator's command, not from a decision of the strategy"
)


def order_id(order: Any) -> str:
    """What a person pointed at: an order, its id, or a row of a frame (a dict)."""
    if isinstance(order, str):
        return order
    if isinstance(order, dict):
        return str(order.get("order_id") or order.get("id") or "")  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    return str(getattr(order, "order_id", None) or getattr(order, "id", order))


def order_of(result: Result, wanted: Any) -> Order:
    """The order that a person pointed at; UnknownNameError if the run has none of that id."""
    orders = {order.id: order for order in result.orders}
    identity = order_id(wanted)
    if identity not in orders:
        raise UnknownNameError("order", identity, orders)
    return orders[identity]


def decision_of(result: Result, order: Order) -> Signal | None:
    """The signal by which the strategy decided: of an exit that of its entry, of a square-off none."""
    if not order.leg:
        return order.signal
    entry = next((one for one in result.orders if one.id == order.parent_id), None)
    return entry.signal if entry is not None else None


def of_backtest(
    wanted: Any, *, result: Result, make: Make, blocks: Callable[[], Iterable[Block]], fills: Fills
) -> Chain:
    """The chain of one order of a backtest."""
    order = order_of(result, wanted)
    decision = decision_of(result, order)
    signal = decision or order.signal
    scene = Scene(NO_TICKS, NO_TICKS)

    def desk(engine: Engine, account: Account) -> Desk:
        names = tuple(one.name for one in engine.strategies)
        venue = partial(Exchange, fills)
        watched = _Watched(engine.instruments, names, result.capital, engine.rulebook, account, venue, engine)
        watched.wanted, watched.scene = signal.id if decision else "", scene
        return watched

    engine = make(desk)
    index = engine.host.find(order.symbol)
    trace = Trace(
        blocks(), index, signal.seq, order.end_ts or signal.ts, span_of(engine.host.intervals.values())
    )
    scene.ts, scene.units, scene.seen = trace.ts, trace.units, trace.seen
    if decision is None:
        scene.missing = SQUARE_OFF
    else:
        owner = result.strategies.index(order.strategy)
        look(engine, blocks(), signal, index, owner, trace, scene)
    return chain(result, order, decision, scene, engine.instruments)


class _Watched(Desk):
    """The desk of research, which stops the play when one order comes to it."""

    wanted: str
    scene: Scene

    def submit(self, order: Order) -> None:
        if order.id == self.wanted:
            self.scene.verdicts = ask_each(self, order)
            raise Reached
        super().submit(order)

    def refuse(self, order: Order, reason: str) -> None:
        if order.id == self.wanted:
            self.scene.verdicts = [Verdict("strategy runs", REFUSED, reason)]
            raise Reached
        super().refuse(order, reason)

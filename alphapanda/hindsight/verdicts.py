"""What every risk rule says of one order, asked one by one: for people who want to know why it passed or did not.

The desk stops at the first rule that says no, and leaves out rules that an order does not concern. Here each is named,
with its verdict or with why it was not asked. Asking uses up rates like an order that passes, so ask where nothing
follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Literal

import msgspec

from alphapanda.desk import Desk
from alphapanda.orders import Order
from alphapanda.risk import name_of

PASSED, REFUSED, NOT_ASKED = "passed", "refused", "not asked"


class Verdict(msgspec.Struct, frozen=True):
    """What one rule said: ``reason`` tells why it refused, or why it was not asked."""

    rule: str
    said: Literal["passed", "refused", "not asked"]
    reason: str = ""


Question = tuple[str, str, Callable[[], str | None]]
"""Name of a rule, why it does not concern the order ("" if it does), and how to ask it."""


def ask_each(desk: Desk, order: Order) -> list[Verdict]:
    """Every rule's verdict on an order that was not submitted yet, in the order in which the desk asks."""
    named = desk.weigh(order)
    found: list[Verdict] = []
    refused = ""
    for name, beside, ask in _questions(desk, order, named):
        if refused or beside:
            found.append(Verdict(name, NOT_ASKED, f"{refused} had refused" if refused else beside))
        elif reason := ask():
            found.append(Verdict(name, REFUSED, reason))
            refused = name
        else:
            found.append(Verdict(name, PASSED))
    return found


def _questions(desk: Desk, order: Order, named: bool) -> Iterator[Question]:
    rules, signal = desk.account.rules, order.signal
    priced = named or signal.sl is not None or signal.tp is not None
    crowded = desk.account.shared or signal.symbol in desk.exchange.working
    for check in rules.standing:
        yield name_of(check), "", partial(check, order.index, signal.product, desk)
    yield "price", "", lambda: None if signal.reference else f"price: {signal.symbol} has not traded yet"
    groups: Sequence[tuple[Sequence[Callable[[Order, Desk], str | None]], str]] = (
        (rules.priced, "" if priced else "it names no price"),
        (rules.stepped, "" if desk.off_step(order) else "whole lots, within the freeze quantity"),
        (rules.sized, ""),
        (rules.crossing, "" if crowded else "nothing of ours works in the instrument"),
        (
            rules.delivery,
            "" if signal.product in desk.long_only[order.index] else f"{signal.product} may be sold short",
        ),
        (rules.growing, "it only shrinks the position" if desk.reducing else ""),
        (rules.rates, ""),
    )
    for checks, beside in groups:
        for check in checks:
            yield name_of(check), beside, partial(check, order, desk)

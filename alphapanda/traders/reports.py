"""What a trader tells of its orders after the fact: the venue's answers, in order, each once, kept across restarts."""

from __future__ import annotations

from typing import Literal

import msgspec


class Report(msgspec.Struct, frozen=True):
    """One thing that became of an order. ``quantity`` is signed, ``price`` in the instrument's units, ``at`` wall ns.

    An ``alarm`` is for people; it may name no order.
    """

    kind: Literal["accepted", "filled", "rejected", "cancelled", "alarm"]
    order: str
    run: str
    reason: str = ""
    quantity: int = 0
    price: int = 0
    trade_id: str = ""
    at: int = 0

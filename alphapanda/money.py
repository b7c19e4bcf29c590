"""Integer prices and paise; the only file that rounds.

A price inside the core is an integer in the instrument's price scale (units per rupee: 100 in cash and equity
derivatives, 10,000,000 in currency, as on Kite's wire). A quantity is an integer in the instrument's quantity step.
Money is an integer in paise. Floats exist at two edges only: what a strategy sees, and what a file holds.
Where a result must be rounded it is rounded half to even, here.
"""

from __future__ import annotations

import math
from decimal import Decimal, InvalidOperation

from alphapanda.errors import ValidationError

PAISE = 100  # paise in a rupee
TOLERANCE = 1e-6  # share of one price unit within which a float still means that unit: absorbs 0.1 + 0.2


def divide(numerator: int, denominator: int) -> int:
    """``numerator / denominator`` rounded half to even, exactly, for any integers with denominator > 0."""
    quotient, rest = divmod(numerator, denominator)
    twice = rest + rest
    if twice > denominator or (twice == denominator and quotient & 1):
        return quotient + 1
    return quotient


def price_units(price: float | Decimal | str, scale: int, tick: int, what: str = "price") -> int:
    """A price in rupees as integer units of ``scale``, on the grid of ``tick`` units.

    Raises ValidationError for a price that is not a finite number or lies off the grid; the message names the two
    nearest valid prices. Nothing is rounded silently.
    """
    value = price if type(price) is float and math.isfinite(price) else _finite(price, what)
    exact = value * scale
    units = round(exact)
    if not -TOLERANCE < (exact - units) / (1.0 + abs(exact) * TOLERANCE) < TOLERANCE or units % tick:
        below = math.floor(exact / tick + TOLERANCE) * tick
        low, high = below / scale, (below + tick) / scale
        raise ValidationError(
            f"{what} {price} is off the tick grid of {tick / scale:g}",
            fix=f"use {low:.10g} or {high:.10g}, or self.round_price(symbol, price)",
            code="E_PRICE_TICK",
            nearest=(low, high),
        )
    return units


def nearest_tick(price: float, scale: int, tick: int) -> int:
    """The grid price nearest to ``price`` rupees, in units; a tie goes to the even multiple."""
    return round(_finite(price, "price") * scale / tick) * tick


def _finite(price: float | Decimal | str, what: str) -> float:
    try:
        value = float("nan") if isinstance(price, bool) else float(Decimal(str(price)))
    except (InvalidOperation, ValueError, OverflowError):
        value = float("nan")
    if not math.isfinite(value):
        raise ValidationError(
            f"{what} {price!r} is not a finite number", fix="pass a price in rupees", code="E_PRICE_NUMBER"
        )
    return value


def rupees(paise: int) -> str:
    """Paise as text with Indian grouping: ``-1234567`` is ``-₹12,345.67``."""
    sign = "-" if paise < 0 else ""
    whole, part = divmod(abs(paise), PAISE)
    digits = str(whole)
    head, tail = digits[:-3], digits[-3:]
    groups: list[str] = []
    while head:
        groups.insert(0, head[-2:])
        head = head[:-2]
    return f"{sign}₹{','.join([*groups, tail])}.{part:02d}"

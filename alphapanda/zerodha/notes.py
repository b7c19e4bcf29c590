"""Our charges beside the broker's own: executed orders against Kite's virtual contract note.

    check = contract_note(kite, registry, rulebook, day)
    print(check)                     # a table; check.differences are the lines that differ

Kite answers with unrounded figures (Kite docs, virtual contract note). Two of its habits are allowed for and named:
stamp duty is left out where it is less than half a rupee, and nothing else is. What the real contract note of the
evening says is the truth; this finds a rate that changed before it does.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal, Protocol

import msgspec

from alphapanda.errors import AlphaPandaException, DataError
from alphapanda.registry import Registry
from alphapanda.rulebook import Rulebook

Verdict = Literal["equal", "rounded", "differs", "unknown"]
NOISE = 1e-6  # rupees: what floats of the vendor lose
HALF_RUPEE = 0.5
THEIRS = {  # Kite's names by ours
    "brokerage": "brokerage", "transaction_tax": "transaction_tax", "exchange": "exchange_turnover_charge",
    "sebi": "sebi_turnover_charge", "stamp": "stamp_duty", "gst": "gst",
}  # fmt: skip
ECHOED = ("exchange", "tradingsymbol", "transaction_type", "variety", "product", "order_type")


class NoteClient(Protocol):
    """What is used of the official client."""

    def orders(self) -> list[dict[str, Any]]: ...
    def get_virtual_contract_note(self, params: list[dict[str, Any]]) -> list[dict[str, Any]]: ...


class Line(msgspec.Struct, frozen=True):
    """One kind of charge of one order, in rupees. ``verdict`` unknown: no rates of ours, ``why`` says so."""

    order_id: str
    symbol: str
    kind: str
    ours: float
    theirs: float
    verdict: Verdict
    why: str = ""


class NoteCheck(msgspec.Struct, frozen=True):
    """All lines. Prints as a table of those that are not equal, with the totals."""

    lines: tuple[Line, ...]

    @property
    def differences(self) -> tuple[Line, ...]:
        """The lines that somebody has to look at."""
        return tuple(one for one in self.lines if one.verdict in ("differs", "unknown"))

    def __str__(self) -> str:
        shown = [one for one in self.lines if one.verdict != "equal"]
        head = f"{'order':<20} {'symbol':<24} {'charge':<16} {'ours':>12} {'theirs':>12}"
        rows = [
            f"{one.order_id:<20} {one.symbol:<24} {one.kind:<16} {one.ours:>12.4f} {one.theirs:>12.4f}  "
            f"{one.why or one.verdict}"
            for one in shown
        ]
        ours, theirs = sum(one.ours for one in self.lines), sum(one.theirs for one in self.lines)
        orders = len({one.order_id for one in self.lines})
        last = f"{orders} orders, {len(self.lines)} charges, {len(self.differences)} to look at"
        return "\n".join([head, *rows, f"{last}: ours {ours:,.4f}, theirs {theirs:,.4f} rupees"])


def contract_note(kite: NoteClient, registry: Registry, rulebook: Rulebook, day: dt.date) -> NoteCheck:
    """Ask Kite what the executed orders of today (``day``) cost, and compare. Raises what the client raises."""
    asked = executed(kite.orders())
    return compare(asked, kite.get_virtual_contract_note(asked) if asked else [], registry, rulebook, day)


def executed(orders: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The body for ``POST /charges/orders``: what was filled of each order, also of those that were cancelled then."""
    return [
        {
            "order_id": str(one["order_id"]),
            **{name: one[name] for name in ECHOED},
            "quantity": int(one["filled_quantity"]),
            "average_price": float(one["average_price"]),
        }
        for one in orders
        if one["filled_quantity"] > 0 and one["average_price"] > 0
    ]


def compare(
    asked: Sequence[Mapping[str, Any]],
    answered: Sequence[Mapping[str, Any]],
    registry: Registry,
    rulebook: Rulebook,
    day: dt.date,
) -> NoteCheck:
    """Our rates of ``day`` for what was asked, beside what was answered, item by item.

    Raises DataError when the answer is not about what was asked.
    """
    if len(asked) != len(answered):
        raise DataError(
            f"{len(asked)} orders were asked about and {len(answered)} answered", fix="ask again in a minute"
        )
    lines: list[Line] = []
    for item, note in zip(asked, answered, strict=True):
        if any(item[name] != note.get(name) for name in ("exchange", "tradingsymbol", "transaction_type")):
            raise DataError(
                f"asked about {item['exchange']}:{item['tradingsymbol']}, answered about "
                f"{note.get('exchange')}:{note.get('tradingsymbol')}",
                fix="ask again in a minute",
            )
        lines += _order(item, note["charges"], registry, rulebook, day)
    return NoteCheck(tuple(lines))


def _order(
    item: Mapping[str, Any],
    charges: Mapping[str, Any],
    registry: Registry,
    rulebook: Rulebook,
    day: dt.date,
) -> list[Line]:
    symbol = f"{item['exchange']}:{item['tradingsymbol']}"
    theirs = {
        ours: float(charges[name]["total"] if name == "gst" else charges[name])
        for ours, name in THEIRS.items()
    }
    why = ""
    ours = dict.fromkeys(THEIRS, 0.0)
    try:
        instrument = registry[symbol]
        product = "MIS" if item["product"] == "CO" else item["product"]
        rates = rulebook.charges(instrument, product, day)
    except AlphaPandaException as error:
        why = error.message
    else:
        rupees = (
            Fraction(str(item["average_price"])) * item["quantity"] * Fraction(str(instrument.multiplier))
        )
        exact = rates.exact(item["transaction_type"] == "BUY", round(rupees * 100))
        ours = {kind: float(exact[kind] / 100) for kind in THEIRS}
    order_id = str(item.get("order_id", ""))
    return [
        Line(order_id, symbol, kind, ours[kind], theirs[kind], *_verdict(kind, ours[kind], theirs[kind], why))
        for kind in THEIRS
    ]


def _verdict(kind: str, ours: float, theirs: float, why: str) -> tuple[Verdict, str]:
    if why:
        return "unknown", why
    if abs(ours - theirs) <= NOISE + NOISE * abs(theirs):
        return "equal", ""
    if kind == "stamp" and theirs == 0.0 and ours < HALF_RUPEE:
        return "rounded", "Kite leaves out stamp duty below half a rupee"
    return "differs", ""

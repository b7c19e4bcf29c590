"""Cash, positions and what they earned; exact to the paisa.

For any list of fills, by construction: cash = capital - sum of signed values - charges, and
cash + sum of open costs + charges = capital + realized. Average cost: a reduction books its share of the cost, rounded
half to even once; the rest of the cost stays with the rest of the position, so nothing is lost to rounding.
"""

from __future__ import annotations

import msgspec

from alphapanda.instruments import Instrument
from alphapanda.money import divide


class Position(msgspec.Struct, gc=False):
    """What one strategy holds of one instrument under one product. ``quantity`` is signed; money is in paise."""

    instrument: Instrument
    product: str
    quantity: int = 0
    cost: int = 0  # paid for the open quantity; negative when short
    realized: int = 0  # before charges
    charges: int = 0

    @property
    def qty(self) -> int:
        """The signed quantity."""
        return self.quantity

    @property
    def average_price(self) -> float:
        """Rupees per unit of the open quantity; 0.0 when flat."""
        n, d = self.instrument.paise_ratio
        return self.cost * d / (self.quantity * n) / self.instrument.price_scale if self.quantity else 0.0

    def apply(self, quantity: int, value: int) -> int:
        """Book a signed fill worth ``value`` paise (signed alike); returns the profit it realized, before charges."""
        held = self.quantity
        if held == 0 or (held > 0) == (quantity > 0):
            self.quantity = held + quantity
            self.cost += value
            return 0
        if abs(quantity) <= abs(held):
            part = self.cost if quantity == -held else divide(self.cost * abs(quantity), abs(held))
            self.cost -= part
            profit = -value - part
        else:  # through zero: the closing share of the value books profit, the rest opens the other side
            closing = divide(value * abs(held), abs(quantity))
            profit = -closing - self.cost
            self.cost = value - closing
        self.quantity = held + quantity
        self.realized += profit
        return profit


class Portfolio:
    """One strategy's book: its share of the capital and its positions by instrument and product."""

    def __init__(self, capital: int) -> None:
        self.capital = capital
        self.cash = capital
        self.positions: dict[int, list[Position]] = {}  # dense instrument index → one entry a product

    def position(self, index: int, instrument: Instrument, product: str) -> Position:
        """The book's entry for one product, made flat on first use."""
        held = self.positions.get(index)
        if held is None:
            held = self.positions[index] = []
        for position in held:
            if position.product == product:
                return position
        position = Position(instrument, product)
        held.append(position)
        return position

    def held(self, index: int, product: str) -> int:
        """Signed quantity held of one instrument under one product."""
        for position in self.positions.get(index, ()):
            if position.product == product:
                return position.quantity
        return 0

    def book(
        self, index: int, instrument: Instrument, product: str, quantity: int, value: int, cost: int
    ) -> tuple[Position, int]:
        """Book a signed fill worth ``value`` paise with ``cost`` paise of charges: position and cash move together.

        Returns the position and the profit it realized, before charges.
        """
        position = self.position(index, instrument, product)
        realized = position.apply(quantity, value)
        position.charges += cost
        self.cash -= value + cost
        return position, realized

    def net(self, index: int, instrument: Instrument) -> Position:
        """Everything held of one instrument; over several products a summed copy."""
        held = self.positions.get(index)
        if held is None:
            return Position(instrument, "")
        if len(held) == 1:
            return held[0]
        return Position(
            instrument,
            "",
            sum(p.quantity for p in held),
            sum(p.cost for p in held),
            sum(p.realized for p in held),
            sum(p.charges for p in held),
        )

    def quantity(self, index: int) -> int:
        """Signed quantity held of one instrument over all products."""
        held = self.positions.get(index)
        if held is None:
            return 0
        return held[0].quantity if len(held) == 1 else sum(p.quantity for p in held)

    def equity(self, last: list[int]) -> int:
        """Cash plus positions at ``last`` prices (units by dense index), in paise."""
        total = self.cash
        for index, held in self.positions.items():
            for position in held:
                if position.quantity:
                    total += worth(position.instrument, position.quantity, last[index])
        return total


def worth(instrument: Instrument, quantity: int, price: int) -> int:
    """Signed value in paise of ``quantity`` at ``price`` units."""
    n, d = instrument.paise_ratio
    return quantity * price * n if d == 1 else divide(quantity * price * n, d)

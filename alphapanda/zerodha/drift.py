"""The broker's net positions beside our own, which come from our trades alone.

What somebody else holds or trades in the account is theirs: it is never corrected, only noticed. The difference at the
first look of a day is taken as theirs; where it changes while nothing of ours is open, somebody has traded the symbol
by hand or our books are wrong, and nothing new is opened in it until a person has looked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

Key = tuple[str, str]  # symbol, product
LOOKS = 2  # in a row: one may fall between a trade and its report


class Drift:
    """Positions of one account. ``kept`` is what ``save`` gave on the same day, "" for a new day."""

    def __init__(self, kept: str = "") -> None:
        self._theirs: dict[Key, int] | None = None
        self._seen: dict[Key, int] = {}
        self._last: dict[Key, int] = {}
        self.symbols: set[str] = set()  # that take no new position
        if kept:
            rows = msgspec.json.decode(kept, type=list[tuple[str, str, int]])
            self._theirs = {(symbol, product): quantity for symbol, product, quantity in rows}

    @property
    def theirs(self) -> dict[Key, int]:
        """What is taken for others'."""
        return dict(self._theirs or {})

    def save(self) -> str:
        """What is others', for a process that starts again today."""
        return msgspec.json.encode([(*key, quantity) for key, quantity in self.theirs.items()]).decode()

    def look(self, net: dict[Key, int], own: dict[Key, int], busy: set[str]) -> list[str]:
        """Compare; ``busy`` are symbols with something of ours open. Returns sentences about what is new."""
        now = {key: net.get(key, 0) - own.get(key, 0) for key in {*net, *own}}
        if self._theirs is None:
            self._theirs = {key: quantity for key, quantity in now.items() if quantity and key[0] not in busy}
        told: list[str] = []
        for key in {*now, *self._theirs}:
            symbol, product = key
            quantity, expected = now.get(key, 0), self._theirs.get(key, 0)
            same = symbol in busy or quantity == expected
            self._seen[key] = 0 if same or quantity != self._last.get(key) else self._seen.get(key, 0) + 1
            if self._seen[key] == LOOKS and symbol not in self.symbols:
                self.symbols.add(symbol)
                told.append(
                    f"{symbol} {product}: the broker shows {net.get(key, 0)}, our trades make {own.get(key, 0)} and "
                    f"{expected} were others' before; nothing new is opened in it"
                )
        self._last = now
        return told

    def accept(self) -> None:
        """A person has looked: the differences of now are others'."""
        self._theirs = {key: quantity for key, quantity in self._last.items() if quantity}
        self._seen.clear()
        self.symbols.clear()


def net_of(rows: Iterable[Mapping[str, Any]]) -> dict[Key, int]:
    """Kite's rows of net positions by symbol and product."""
    net: dict[Key, int] = {}
    for row in rows:
        key = f"{row['exchange']}:{row['tradingsymbol']}", str(row["product"])
        net[key] = net.get(key, 0) + int(row["quantity"])
    return net

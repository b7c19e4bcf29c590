"""The risk books that several processes share: daily counters, recent prices, positions.

    books = RiskStateManager(client, "paper")
    allowed, used = await books.reserve("orders", day, 1, limit=3000)
    await books.release("orders", day, 1)                 # it was not sent after all

Keys are ``{namespace}:risk:{key_type}:{identifier}``. The day is an input: the exchange's trading day, not the clock's.
Counters live two days from their first use, prices one hour, positions until they are removed.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import msgspec

from alphapanda.errors import ValidationError
from alphapanda.settings import RedisSettings
from alphapanda.state.base import DAY, Health, Within
from alphapanda.state.managers import CollectionStateManager, KeyValueStateManager

if TYPE_CHECKING:
    from redis.asyncio import Redis

T = TypeVar("T")
KIND = "risk"
COUNTER, PRICE, POSITION = "counter", "price", "position"  # the key types
COUNTER_SECONDS = 2 * DAY
PRICE_SECONDS = 3600.0


class RecentPrice(msgspec.Struct, frozen=True):
    """The last trade of an instrument: rupees, and its tape time in ns."""

    price: float
    ts: int


class RiskStateManager:
    """The risk books of one namespace, the same for every process that asks.

    ``reserve`` and ``release`` are one atomic step each: however many reserve at once, a limit holds. After a
    RedisError a reservation may have been made or not; it is not released blindly, so doubt only tightens the limit.
    """

    def __init__(
        self, server: Redis | str | Path, namespace: str, *, settings: RedisSettings | None = None
    ) -> None:
        self._values = KeyValueStateManager(server, namespace, KIND, settings=settings)
        self._items = CollectionStateManager(self._values.client, namespace, KIND)
        self.namespace = self._values.namespace

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections, if they are ours."""
        await self._values.close()

    async def health_check(self) -> Health:
        """Write a key and read it back; RedisError if that fails."""
        return await self._values.health_check()

    async def reserve(self, counter: str, day: datetime.date, amount: int, limit: int) -> Within:
        """Take ``amount`` of the day's ``limit`` if so much is left; else change nothing."""
        return await self._values.increment_within(_counter(counter, day), amount, limit, COUNTER_SECONDS)

    async def release(self, counter: str, day: datetime.date, amount: int) -> int:
        """Give back what was reserved; returns the counter, which never falls below zero."""
        return await self._values.decrease(_counter(counter, day), amount)

    async def count(self, counter: str, day: datetime.date, amount: int = 1) -> int:
        """Add to a counter that has no limit (a loss, in paise, may be negative); returns it."""
        return await self._values.increment(_counter(counter, day), amount, COUNTER_SECONDS)

    async def counted(self, counter: str, day: datetime.date) -> int:
        """The counter; 0 if nothing was counted that day."""
        return await self._values.get(_counter(counter, day), int) or 0

    async def set_prices(self, prices: Mapping[str, RecentPrice]) -> None:
        """Keep the newest price of each symbol, all in one step. One process writes the prices of a symbol."""
        for symbol, price in prices.items():
            if not 0 < price.price < float("inf"):
                fix = "leave out what has no price"
                raise ValidationError(f"price {price.price!r} of {symbol}", fix=fix, symbol=symbol)
        await self._values.set_all(
            {_named(PRICE, name): price for name, price in prices.items()}, PRICE_SECONDS
        )

    async def prices(self, symbols: Iterable[str]) -> dict[str, RecentPrice]:
        """The prices of those symbols that traded within the hour."""
        names = {_named(PRICE, symbol): symbol for symbol in symbols}
        found = await self._values.mget(names, RecentPrice)
        return {names[name]: price for name, price in found.items()}

    async def put_position(self, identifier: str, position: Mapping[str, object] | msgspec.Struct) -> None:
        """Keep a position as a whole."""
        await self._items.put(POSITION, identifier, position)

    async def add_to_position(self, identifier: str, amounts: Mapping[str, float]) -> dict[str, int | float]:
        """Add a fill to a position's fields (quantity, paise), all or none; returns them."""
        return await self._items.add(POSITION, identifier, amounts)

    async def position(self, identifier: str, shape: type[T]) -> T | None:
        """One position, or None."""
        return await self._items.get(POSITION, identifier, shape)

    async def positions(self, shape: type[T], pattern: str = "*") -> dict[str, T]:
        """Those whose identifier fits a glob pattern."""
        return await self._items.all(POSITION, shape, pattern)

    async def remove_positions(self, *identifiers: str) -> int:
        """Forget these; returns how many there were."""
        return await self._items.remove(POSITION, *identifiers)


def _named(key_type: str, name: str) -> str:
    """An identifier of one key type; a name that is empty stays so, and is refused with the others."""
    return f"{key_type}:{name}" if name else ""


def _counter(name: str, day: datetime.date) -> str:
    return _named(COUNTER, f"{name}:{day:%Y-%m-%d}" if name else "")

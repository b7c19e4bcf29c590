"""What the feed reads on the server: who wants what, and how far readers are.

- ``market:subscriptions``: hash, holder (a run) → JSON list of symbols. Whoever starts a run writes and deletes it.
- ``market:readers``: hash, reader → JSON ``{"row": rows it has taken, "at": wall ns}``. A reader writes it several
  times a second, and deletes it when it ends; one that has not been heard of for ten seconds holds nobody up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from alphapanda.events import SECOND
from alphapanda.state.client import text, told

if TYPE_CHECKING:
    from redis.asyncio import Redis

SUBSCRIPTIONS = "market:subscriptions"
READERS = "market:readers"
LIVE_READER = 10 * SECOND  # a reader that reported longer ago is taken for dead


class Progress(msgspec.Struct, frozen=True):
    """How many rows a reader has taken, and when it said so."""

    row: int
    at: int


class Views:
    """The two keys. Every failure is a RedisError; an entry that is not what it should be is left out."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def subscriptions(self) -> dict[str, tuple[str, ...]]:
        """Symbols by holder."""
        found: dict[str, tuple[str, ...]] = {}
        for holder, symbols in (await self._all(SUBSCRIPTIONS)).items():
            try:
                found[text(holder)] = msgspec.json.decode(symbols, type=tuple[str, ...])
            except msgspec.DecodeError:
                continue
        return found

    async def readers(self, wall: int) -> list[int]:
        """How many rows each live reader has taken."""
        rows: list[int] = []
        for said in (await self._all(READERS)).values():
            try:
                progress = msgspec.json.decode(said, type=Progress)
            except msgspec.DecodeError:
                continue
            if progress.at > wall - LIVE_READER:
                rows.append(progress.row)
        return rows

    async def _all(self, key: str) -> dict[bytes | str, bytes | str]:
        with told("hgetall", key):
            return await self._client.hgetall(key)

"""Which service brings which ticks: an instrument belongs to the service of its asset class, never of a namespace.

A service counts who holds each of its instruments. The first holder of one makes it listen there, the last one to let
go makes it stop. Where the playback (synthetic market or tape) has an instrument, all its ticks are published anyway
and counting is all there is to do; only streams of outside venues are asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from alphapanda.errors import AlphaPandaException
from alphapanda.events import Block, Topics
from alphapanda.feeds.base import Universe, Venue
from alphapanda.feeds.sequencer import LiveRow
from alphapanda.instruments import AssetClass, Instrument
from alphapanda.registry import default_instrument


class MarketFeedService:
    """The ticks of some asset classes. ``venue`` is where those come from that the playback does not have."""

    asset_classes: ClassVar[tuple[AssetClass, ...]] = ()

    def __init__(self, universe: Universe, played: Callable[[str], bool], venue: Venue | None = None) -> None:
        self.venue = venue
        self.rows = 0
        self.heard = 0.0  # monotonic time of the newest row
        self._universe, self._played = universe, played
        self._holders: Counter[str] = Counter()

    async def start(self) -> None:
        """Begin listening; what is wanted is told by ``subscribe``."""
        if self.venue is not None:
            await self.venue.start()

    async def stop(self) -> None:
        """Hear nothing more."""
        if self.venue is not None:
            await self.venue.stop()

    def knows(self, symbol: str) -> bool:
        """Ticks of this symbol can be had."""
        return self._played(symbol) or (self.venue is not None and self.venue.takes(symbol))

    def subscribe(self, instrument: Instrument) -> None:
        """One more holder."""
        self._holders[instrument.symbol] += 1
        if (
            self._holders[instrument.symbol] == 1
            and self.venue is not None
            and not self._played(instrument.symbol)
        ):
            index = int(self._universe.add([instrument])[0])
            self.venue.watch(instrument, index)

    def unsubscribe(self, instrument: Instrument) -> None:
        """One holder less."""
        self._holders[instrument.symbol] -= 1
        if self._holders[instrument.symbol] <= 0:
            del self._holders[instrument.symbol]
            if self.venue is not None and not self._played(instrument.symbol):
                self.venue.unwatch(instrument)

    def count(self, rows: int, now: float) -> None:
        """So many rows of its instruments were published."""
        self.rows += rows
        self.heard = now

    def health(self) -> dict[str, Any]:
        """Plain values for people and programs."""
        found: dict[str, Any] = {"symbols": len(self._holders), "rows": self.rows}
        if self.venue is None:
            return found
        said = self.venue.health()
        for name in ("stale", "waiting"):  # a venue may serve several services: each shows its own
            if name in said:
                said[name] = [symbol for symbol in said[name] if symbol in self._holders]
        return found | said


class EquityMarketFeedService(MarketFeedService):
    """Shares, indexes and their futures; commodities too, which come over the same line."""

    asset_classes = ("equity", "commodity")


class OptionsMarketFeedService(MarketFeedService):
    """Calls and puts of every exchange."""

    asset_classes = ("options",)


class ForexMarketFeedService(MarketFeedService):
    """Currency rates and futures."""

    asset_classes = ("forex",)


class CryptoMarketFeedService(MarketFeedService):
    """Coins, from Binance's public streams."""

    asset_classes = ("crypto",)


def unlisted(symbol: str) -> Instrument | None:
    """No list of today: nothing is on it."""
    return None


class Services:
    """All services, and who holds what.

    ``crypto`` brings coins, ``exchange`` all the others (one venue for three services); ``listed`` is what today's
    instruments say of a symbol, None where they do not know it.
    """

    def __init__(
        self,
        universe: Universe,
        played: Callable[[str], bool],
        crypto: Venue | None = None,
        exchange: Venue | None = None,
        listed: Callable[[str], Instrument | None] = unlisted,
    ) -> None:
        self.equity = EquityMarketFeedService(universe, played, exchange)
        self.options = OptionsMarketFeedService(universe, played, exchange)
        self.forex = ForexMarketFeedService(universe, played, exchange)
        self.crypto = CryptoMarketFeedService(universe, played, crypto)
        self.all: Mapping[str, MarketFeedService] = {
            "equity": self.equity, "options": self.options, "forex": self.forex, "crypto": self.crypto,
        }  # fmt: skip
        self._by_class = {kind: one for one in self.all.values() for kind in one.asset_classes}
        self._by_topic = {f"market.{kind}.ticks": one for kind, one in self._by_class.items()}
        self._universe, self._played, self._listed = universe, played, listed
        self._venues = dict.fromkeys(one.venue for one in self.all.values() if one.venue is not None)
        self._held: dict[str, dict[str, Instrument]] = {}
        self.rows: dict[str, int] = dict.fromkeys(Topics.market(), 0)  # published so far, by topic
        self._lookup = np.zeros(0, np.int64)  # which topic each instrument of the table belongs to
        self.unknown: tuple[str, ...] = ()  # wanted, and nobody can bring them

    def of(self, instrument: Instrument) -> MarketFeedService:
        """The service an instrument belongs to."""
        return self._by_class[instrument.asset_class]

    def reconcile(self, wanted: Mapping[str, Iterable[str]]) -> None:
        """Make what is held equal to what is wanted, by holder."""
        unknown: set[str] = set()
        for holder in dict.fromkeys([*self._held, *wanted]):
            held = self._held.setdefault(holder, {})
            asked = set(wanted.get(holder, ()))
            for symbol in held.keys() - asked:
                instrument = held.pop(symbol)
                self.of(instrument).unsubscribe(instrument)
            for symbol in asked - held.keys():
                instrument = self._instrument(symbol)
                if instrument is None:
                    unknown.add(symbol)
                    continue
                held[symbol] = instrument
                self.of(instrument).subscribe(instrument)
            if not held:
                del self._held[holder]
        self.unknown = tuple(sorted(unknown))

    def drain(self) -> list[tuple[list[LiveRow], int]]:
        """What the venues heard since the last call, each with the time it is there (ns UTC)."""
        return [(rows, venue.wall()) for venue in self._venues if (rows := venue.drain())]

    def count(self, blocks: Sequence[Block], now: float) -> None:
        """These were published."""
        topics = Topics.market()
        if len(self._lookup) < len(self._universe):
            self._lookup = np.array([topics.index(topic) for topic in self._universe.topics])
        for block in blocks:
            counts = np.bincount(self._lookup[block.instrument], minlength=len(topics))
            for topic, rows in zip(topics, counts.tolist(), strict=True):
                if rows:
                    self.rows[topic] += rows
                    self._by_topic[topic].count(rows, now)

    def _instrument(self, symbol: str) -> Instrument | None:
        at = self._universe.index.get(symbol)
        try:
            known = None if at is None else self._universe.instruments[at]
            instrument = known or self._listed(symbol) or default_instrument(symbol)
        except AlphaPandaException:
            return None
        return instrument if self.of(instrument).knows(symbol) else None

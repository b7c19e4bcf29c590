"""What Binance's streams said about the coins that are held: rows for the feed, and counts of what was not right."""

from __future__ import annotations

from collections import Counter, deque

from alphapanda import logs
from alphapanda.feeds.binance_messages import Malformed, Quote, Reply, Trade, coin, parse, units
from alphapanda.feeds.connection import Gap
from alphapanda.feeds.sequencer import LiveRow
from alphapanda.instruments import Instrument

MILLISECOND = 1_000_000
ROWS_HELD = 50_000  # rows nobody fetched
BEHIND = 100  # messages in a row with ids before the newest: then that one was wrong
NOTED = 10  # malformed messages that are logged; all are counted


class Coin:
    """One instrument that is listened to."""

    def __init__(self, instrument: Instrument, index: int, now: float) -> None:
        self.instrument, self.index = instrument, index
        self.heard, self.distance = now, 0.0  # newest trade, mean seconds between trades
        self.trade = self.update = self.behind = 0  # newest ids, messages in a row before them
        self.quote: tuple[int, int, int, int] = 0, 0, 0, 0

    def newer(self, number: int, newest: int) -> bool:
        """Not heard before. An id that all later ones lie before was wrong."""
        self.behind = 0 if number > newest else self.behind + 1
        return number > newest or self.behind > BEHIND

    def stale(self, now: float, quiet: float) -> bool:
        """No trade for longer than is usual here."""
        return now - self.heard > max(quiet, 5 * self.distance)


class Coins:
    """All coins of a venue. ``counts`` has messages, malformed, repeated, missed (trade ids left out), gaps,
    overflowed and refused; ``distance`` is the mean time between messages in seconds."""

    def __init__(self) -> None:
        self.held: dict[str, Coin] = {}
        self.counts: Counter[str] = Counter()
        self.gaps: deque[Gap] = deque(maxlen=20)
        self.refused = ""  # what the venue last said no to
        self.leave = False  # the venue asked to be left
        self.heard, self.heard_wall, self.distance = 0.0, 0, 0.0
        self._lost: tuple[int, str] | None = None  # since when, and why, nothing is heard
        self._rows: deque[LiveRow] = deque()
        self._log = logs.channel("application")

    def add(self, instrument: Instrument, index: int, now: float) -> None:
        """One more."""
        self.held[coin(instrument.symbol)] = Coin(instrument, index, now)

    def remove(self, instrument: Instrument) -> None:
        """One less; without any there is nothing to be lost."""
        self.held.pop(coin(instrument.symbol), None)
        if not self.held:
            self._lost, self.heard_wall = None, 0

    def stale(self, now: float, quiet: float) -> list[str]:
        """Symbols without a trade for longer than is usual for them."""
        return [one.instrument.symbol for one in self.held.values() if one.stale(now, quiet)]

    def drain(self) -> list[LiveRow]:
        """The rows since the last call."""
        rows = list(self._rows)
        self._rows.clear()
        return rows

    def lost(self, reason: str, wall: int) -> None:
        """The connection is gone: a gap begins with the last message that was heard."""
        if self._lost is None:
            self._lost = self.heard_wall or wall, reason

    def take(self, message: str | bytes, now: float, wall: int) -> None:
        """One message; whatever it is, nothing is raised."""
        self.distance += 0.05 * (now - self.heard - self.distance)
        self.heard, self.heard_wall = now, wall
        self.counts["messages"] += 1
        try:
            said = parse(message)
            if isinstance(said, Trade):
                self._trade(said, now, wall)
            elif isinstance(said, Quote):
                self._quote(said)
            elif isinstance(said, Reply):
                self.refused = said.error or self.refused
                self.counts["refused"] += bool(said.error)
            else:
                self.leave = True
        except Malformed as error:
            self.counts["malformed"] += 1
            if self.counts["malformed"] <= NOTED:
                self._log.warning("feed.malformed", venue="binance", error=str(error)[:200])

    def _trade(self, trade: Trade, now: float, wall: int) -> None:
        one = self.held.get(trade.symbol.lower())
        if one is None:
            return
        price = units(trade.price, one.instrument.price_scale)
        volume = units(trade.quantity, one.instrument.quantity_scale)
        if not one.newer(trade.id, one.trade):
            self.counts["repeated"] += 1
            return
        if one.trade and trade.id > one.trade + 1:
            self.counts["missed"] += trade.id - one.trade - 1
        one.distance += 0.1 * (now - one.heard - one.distance) if one.trade else 0.0
        one.trade, one.heard = trade.id, now
        if self._lost is not None:
            gap = Gap(self._lost[0], wall, self._lost[1])
            self._lost = None
            self.gaps.append(gap)
            self.counts["gaps"] += 1
            self._log.warning("feed.gap", venue="binance", start=gap.start, end=gap.end, reason=gap.reason)
        if len(self._rows) >= ROWS_HELD:
            self._rows.popleft()
            self.counts["overflowed"] += 1
        self._rows.append(LiveRow(one.index, trade.ts * MILLISECOND, price, volume, *one.quote))

    def _quote(self, quote: Quote) -> None:
        one = self.held.get(quote.symbol.lower())
        if one is None or not one.newer(quote.id, one.update):
            return
        scale, steps = one.instrument.price_scale, one.instrument.quantity_scale
        one.quote = (
            units(quote.bid, scale),
            units(quote.ask, scale),
            units(quote.bid_quantity, steps),
            units(quote.ask_quantity, steps),
        )
        one.update = quote.id

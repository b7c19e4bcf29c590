"""The market the sandbox trades against: one quote an instrument, moved by ticks, by a tape, or by a test.

Prices are integers in the instrument's price scale, quantities in its steps, times ns UTC. A ``Source`` hands out ticks
in order of time; between them nothing moves. ``version`` counts changes, so that a ticker asks for what changed since
it last looked.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator

from alphapanda.errors import UnknownNameError, ValidationError
from alphapanda.events import MINUTE, Block, ist_day
from alphapanda.instruments import Instrument
from alphapanda.money import divide
from alphapanda.sandbox.sources import Minutes, Source
from alphapanda.tapes.tape import EPOCH_DAY

Level = tuple[int, int, int]  # price, quantity, orders
EMPTY: Level = (0, 0, 0)
LEVELS = 5
DEPTH = 20_000  # quantity at each level of a price that a test sets, in lots of the instrument


class Quote:
    """What the exchange shows of one instrument; ``close`` is the previous day's, ``lower``, ``upper`` the band."""

    __slots__ = (
        "asks", "average", "bids", "buy_quantity", "close", "high", "instrument", "last", "last_quantity",
        "last_trade_ts", "low", "lower", "minutes", "oi", "oi_high", "oi_low", "open", "sell_quantity", "token",
        "traded", "ts", "upper", "volume",
    )  # fmt: skip

    def __init__(self, instrument: Instrument, close: int) -> None:
        self.instrument, self.token = instrument, instrument.token
        self.last_quantity = self.last_trade_ts = self.ts = 0
        self.oi = self.oi_high = self.oi_low = 0
        self.traded = self.volume = self.average = 0  # traded: price units x quantity of the day
        self.buy_quantity = self.sell_quantity = 0
        self.open = self.high = self.low = 0
        self.last = self.close = close
        self.minutes: dict[
            int, tuple[int, int, int, int, int]
        ] = {}  # epoch minute: open, high, low, close, volume
        self.bids: list[Level] = [EMPTY] * LEVELS
        self.asks: list[Level] = [EMPTY] * LEVELS
        self.lower = self.upper = 0
        self.band()

    def band(self) -> None:
        """The price band of the day, from the previous close; 0 and 0 where there is none."""
        share, tick = self.instrument.circuit, self.instrument.tick_size
        part = round(self.close * share / 100)
        self.lower = max(tick, -(-(self.close - part) // tick) * tick) if share else 0
        self.upper = (self.close + part) // tick * tick if share else 0

    def trade(self, ts: int, price: int, quantity: int) -> None:
        """A trade, or with quantity 0 an indicative price or an index value."""
        self.last, self.ts = price, ts
        if not self.instrument.tradable or quantity:
            self.open = self.open or price
            self.high, self.low = max(self.high, price), min(self.low or price, price)
            opened, high, low, _, traded = self.minutes.get(ts // MINUTE, (price, price, price, price, 0))
            bar = opened, max(high, price), min(low, price), price, traded + quantity
            self.minutes[ts // MINUTE] = bar
        if quantity:
            self.last_quantity, self.last_trade_ts = quantity, ts
            self.volume += quantity
            self.traded += price * quantity
            self.average = divide(self.traded, self.volume)

    def average_of(self, start: int, end: int) -> int:
        """The average price from ``start`` to ``end`` (ns), of minutes by volume, on the grid; 0 without a trade."""
        bars = [bar for minute, bar in self.minutes.items() if start <= minute * MINUTE < end and bar[4]]
        traded = sum(close * volume for _, _, _, close, volume in bars)
        tick = self.instrument.tick_size
        return divide(traded, sum(bar[4] for bar in bars) * tick) * tick if bars else 0

    def book(self, bid: int, ask: int, bid_quantity: int, ask_quantity: int) -> None:
        """Five levels a side around the best two; a side whose best price is 0 is empty."""
        tick = self.instrument.tick_size
        self.bids = _levels(bid, -tick, bid_quantity, self.lower, self.upper)
        self.asks = _levels(ask, tick, ask_quantity, self.lower, self.upper)
        self.buy_quantity = sum(quantity for _, quantity, _ in self.bids)
        self.sell_quantity = sum(quantity for _, quantity, _ in self.asks)

    def new_day(self, close: int) -> None:
        """A new trading day: the previous close, and nothing traded yet."""
        self.last_quantity = self.traded = self.volume = self.average = 0
        self.open = self.high = self.low = 0
        self.last = self.close = close
        self.book(0, 0, 0, 0)
        self.band()


def _levels(best: int, step: int, quantity: int, lower: int, upper: int) -> list[Level]:
    levels: list[Level] = []
    for number in range(LEVELS):
        price = best + number * step
        inside = best > 0 and quantity > 0 and price > 0 and (not upper or lower <= price <= upper)
        levels.append((price, quantity * (number + 1), number + 1) if inside else EMPTY)
    return levels


def protected_price(quote: Quote, side: int, protection: float) -> int:
    """The limit at which the exchange sees a market order: the last price and a band around it, on the tick grid.

    -1 is the system's own percentage: 2 % was seen for equity (kite.trade forum 52371), the full table is not public.
    """
    share = 2.0 if protection == -1 else protection
    tick = quote.instrument.tick_size
    price = round(quote.last * (1 + side * share / 100) / tick) * tick
    price = max(price, quote.lower or tick)
    return min(price, quote.upper) if quote.upper else price


class Market:
    """All quotes, by token and by ``EXCHANGE:SYMBOL``.

    Made of instruments with their previous closes in rupees (``Market({instrument: 1500.0})``), or of a source with
    ``Market.of(source)``. Instruments need distinct tokens. Raises ValidationError for two of one token.
    """

    def __init__(self, closes: dict[Instrument, float] | None = None, source: Source | None = None) -> None:
        self.version = 0
        self.source = source
        self.quotes: dict[int, Quote] = {}
        self.symbols: dict[str, Quote] = {}
        self._changed: dict[int, int] = {}  # token to version, the newest last
        for instrument, close in (closes or {}).items():
            self.add(instrument, round(close * instrument.price_scale))
        if source is not None:
            self._relist(source)

    @classmethod
    def of(cls, source: Source) -> Market:
        """A market moved by a source."""
        return cls(source=source)

    def add(self, instrument: Instrument, close: int) -> Quote:
        """Add an instrument with its previous close in price units."""
        if instrument.token in self.quotes:
            raise ValidationError(
                f"{instrument.symbol} has the token {instrument.token} of another instrument",
                fix="give every instrument a token of its own, as Kite's CSV does",
            )
        quote = Quote(instrument, close)
        self.quotes[instrument.token] = self.symbols[instrument.symbol] = quote
        self._touch(quote)
        return quote

    def get(self, symbol: str) -> Quote:
        """The quote of ``EXCHANGE:SYMBOL``. Raises UnknownNameError."""
        found = self.symbols.get(symbol)
        if found is None:
            raise UnknownNameError("symbol in the sandbox", symbol, list(self.symbols))
        return found

    def changed_since(self, version: int) -> list[int]:
        """Tokens whose quote changed after ``version``, the newest change first."""
        tokens: list[int] = []
        for token in reversed(self._changed):
            if self._changed[token] <= version:
                break
            tokens.append(token)
        return tokens

    def set(
        self,
        symbol: str,
        price: float,
        *,
        now: int,
        quantity: int = 0,
        spread: int = 1,
        depth: int | None = None,
    ) -> Quote:
        """A test moves the price: a trade of ``quantity`` (one lot when 0), and the best quotes ``spread`` ticks away.

        ``price`` is in rupees; ``depth`` is the quantity at the best prices (plenty when None, an empty book when 0).
        """
        quote = self.get(symbol)
        instrument = quote.instrument
        units = round(price * instrument.price_scale)
        edge = spread * instrument.tick_size
        standing = DEPTH * instrument.lot_size if depth is None else depth
        quote.trade(now, units, quantity or instrument.lot_size)
        quote.book(units - edge, units + edge, standing, standing)
        self._touch(quote)
        return quote

    def candles(self, quote: Quote) -> Minutes:
        """What was traded in each minute, days before the sandbox began included as far as the source knows."""
        past = self.source.past(quote.instrument.symbol) if self.source is not None else {}
        return past | quote.minutes

    def advance(self, now: int, moved: Callable[[Quote, int], None]) -> None:
        """Apply what the source has up to ``now``; ``moved(quote, ts)`` is called after each tick."""
        if self.source is None:
            return
        instruments = self.source.instruments
        for block in self.source.rows(now):
            for ts, number, price, volume, bid, ask, bids, asks in _rows(block):
                quote = self.symbols[instruments[number].symbol]
                quote.trade(ts, price, volume)
                if bid or ask:
                    quote.book(bid, ask, bids, asks)
                elif (
                    quote.instrument.tradable and volume
                ):  # a tape without quotes: one tick each side, one trade deep
                    tick = quote.instrument.tick_size
                    quote.book(price - tick, price + tick, volume, volume)
                self._touch(quote)
                moved(quote, ts)

    def new_day(self, now: int) -> None:
        """The calendar day has changed: last prices become previous closes, and the source begins a day."""
        day = EPOCH_DAY + dt.timedelta(ist_day(now))
        fresh = self.source.begin(day) if self.source is not None else True
        if not fresh:
            return
        for quote in self.quotes.values():
            quote.new_day(quote.last)
            self._touch(quote)
        if self.source is not None:
            self._relist(self.source)

    def _relist(self, source: Source) -> None:
        """Take over the source's instruments and closes; contracts that are no longer listed stay as they are."""
        for instrument in source.instruments:
            close = source.closes.get(instrument.symbol)
            quote = self.symbols.get(instrument.symbol)
            if quote is None:
                old = self.quotes.pop(instrument.token, None)  # tokens are reused after expiry
                if old is not None:
                    self.symbols.pop(old.instrument.symbol, None)
                self.add(instrument, close or 0)
            elif close is not None:
                quote.instrument = instrument
                quote.new_day(close)
                self._touch(quote)

    def _touch(self, quote: Quote) -> None:
        self.version += 1
        self._changed.pop(quote.token, None)
        self._changed[quote.token] = self.version


def _rows(block: Block) -> Iterator[tuple[int, ...]]:
    """The ticks of a block as numbers; a column that it does not have is zeros."""
    zeros = [0] * len(block)
    columns = (
        block.ts, block.instrument, block.price, block.volume, block.bid, block.ask, block.bid_quantity,
        block.ask_quantity,
    )  # fmt: skip
    return zip(*(zeros if column is None else column.tolist() for column in columns), strict=True)

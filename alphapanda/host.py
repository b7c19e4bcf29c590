"""What stands behind a strategy's helpers: orders placed, books read, indicators and timers kept."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import datetime
from operator import index as as_index
from typing import TYPE_CHECKING, Any

import msgspec

from alphapanda.blocks import TickBlock
from alphapanda.desk import PRODUCTS
from alphapanda.errors import UnknownNameError, ValidationError
from alphapanda.events import Bar, CancelSignal, Signal, ist
from alphapanda.money import nearest_tick, price_units
from alphapanda.orders import SENT, WORKING, Order
from alphapanda.portfolio import Position, worth
from alphapanda.strategy import Strategy, overrides
from alphapanda.times import parse_interval, parse_moment

if TYPE_CHECKING:
    import polars as pl

    from alphapanda.engine import Engine

QUANTITY_MAX = 10**9  # beyond it a quantity is a mistake, whatever the limits say
VALIDITIES = ("DAY", "IOC", "TTL")


class Timer(msgspec.Struct, frozen=True):
    """A moment of each session day, or an interval from its open (``every`` ns > 0), for one strategy."""

    owner: int
    index: int  # of the instrument whose session it follows
    name: str
    call: Callable[[], Any] | None
    anchor: str = "day"
    offset: int = 0
    every: int = 0


Decision = tuple[int, int, Order, CancelSignal | None]
"""What a block strategy decided: row, number of the decision, an order to send or, with a signal, one to cancel."""


class Account:
    """The whole account, over all its strategies."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def cash(self) -> float:
        """Rupees."""
        return sum(book.cash for book in self._engine.desk.books) / 100

    @property
    def equity(self) -> float:
        """Cash plus positions at last prices, rupees."""
        last = self._engine.last_prices()
        return sum(book.equity(last) for book in self._engine.desk.books) / 100

    def quantity(self, symbol: str) -> int:
        """Signed net quantity of one symbol over all strategies."""
        return self._engine.desk.account.net[self._engine.host.find(symbol)]


class Host:
    """Serves the helpers of every strategy of one engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.account = Account(engine)
        self.universe: list[tuple[int, ...]] = []  # by owner: dense indexes of its symbols, in its order
        self.collecting: TickBlock | None = None  # set while on_ticks runs: orders wait for their rows
        self.decisions: list[Decision] = []
        self._index: dict[str, int] = {}
        self._numbers = 0
        self._ordinals: dict[tuple[int, int], int] = {}
        self._ordinal_seq = -1
        self._named: list[dict[tuple[int, str], Any]] = []
        self._feeds: dict[tuple[str, str], list[tuple[int, Callable[[Bar], Any]]]] = {}
        self.intervals: dict[str, int] = {}  # every bar interval in use, by name
        self._randoms: dict[int, tuple[int, random.Random]] = {}

    # ── binding ──────────────────────────────────────────────────────────────────────────────────────────────────

    def bind(self, owner: int, strategy: Strategy, index: dict[str, int]) -> None:
        """Give a strategy its place in the run; raises UnknownNameError for a symbol the tape does not have."""
        self._index = index
        symbols = strategy.symbols or tuple(index)
        if isinstance(symbols, str):
            symbols = (symbols,)
        found = tuple(dict.fromkeys(self.find(symbol) for symbol in symbols))
        self.universe.append(found)
        self._named.append({})
        own = {self.engine.instruments[i].symbol: i for i in found}
        bare = [symbol.partition(":")[2] for symbol in own]
        own |= {
            name: i for name, i in zip(bare, found, strict=True) if bare.count(name) == 1 and name not in own
        }
        strategy._index, strategy._bound, strategy._owner = own, self, owner  # pyright: ignore[reportPrivateUsage] - bound here only
        if (
            overrides(strategy, "on_bar")
            or overrides(strategy, "on_bars")
            or _mentions(type(strategy), "history")
        ):
            self.need_interval(strategy.bar)

    def find(self, symbol: str) -> int:
        """Dense index of "NSE:INFY", or of "INFY" where only one exchange has it."""
        index = self._index.get(symbol)
        if index is not None:
            return index
        bare = [i for name, i in self._index.items() if name.partition(":")[2] == symbol]
        if len(bare) == 1:
            return bare[0]
        raise UnknownNameError("symbol", symbol, self._index, code="E_SYMBOL")

    def of(self, strategy: Strategy, symbol: str) -> int:
        """Dense index of one of the strategy's own symbols."""
        index = strategy._index.get(symbol) if isinstance(symbol, str) else None  # pyright: ignore[reportPrivateUsage, reportUnnecessaryIsInstance] - notebooks pass anything
        if index is None:
            own = [self.engine.instruments[i].symbol for i in self.universe[strategy._owner]]  # pyright: ignore[reportPrivateUsage]
            raise UnknownNameError(f"symbol of {strategy.name}", str(symbol), own, code="E_SYMBOL")
        return index

    def need_interval(self, name: str) -> None:
        """Bars of this interval will be built."""
        self.intervals[name] = parse_interval(name, "bar interval")

    @property
    def has_indicators(self) -> bool:
        """Whether any strategy has an indicator on bars."""
        return bool(self._feeds)

    def feeds(self, symbol: str, interval: str) -> Sequence[tuple[int, Callable[[Bar], Any]]]:
        """Whose indicators a closed bar updates, in the order they were registered."""
        return self._feeds.get((symbol, interval), ())

    def bars_of(self, owner: int, bars: list[Bar]) -> list[Bar]:
        """Those of one strategy's symbols, in its order."""
        by_symbol = {bar.symbol: bar for bar in bars}
        own = (self._symbol(index) for index in self.universe[owner])
        return [by_symbol[symbol] for symbol in own if symbol in by_symbol]

    # ── orders ───────────────────────────────────────────────────────────────────────────────────────────────────

    def place(
        self,
        strategy: Strategy,
        symbol: str,
        side: int,
        quantity: int | None,
        lots: int | None,
        limit: float | None,
        stop: float | None,
        sl: float | None,
        tp: float | None,
        product: str | None,
        validity: str,
        ttl: str | None,
        tag: str,
        at: int | None,
    ) -> Order:
        """Make a signal of a helper call and hand it to the desk, or keep it for its row of the block."""
        engine = self.engine
        owner = strategy._owner  # pyright: ignore[reportPrivateUsage]
        index = strategy._index.get(symbol) if type(symbol) is str else None  # pyright: ignore[reportPrivateUsage]
        if index is None:
            index = self.of(strategy, symbol)
        instrument = engine.instruments[index]
        if lots is not None:
            quantity = _lots(lots, quantity) * instrument.lot_size
        if type(quantity) is not int or not 0 < quantity <= QUANTITY_MAX:
            quantity = _quantity(quantity)
        product = product or strategy.product
        if product not in PRODUCTS:
            raise UnknownNameError("product", str(product), PRODUCTS, code="E_SIGNAL")
        ttl_ns = 0
        if validity != "DAY" or ttl is not None:
            ttl_ns = _ttl(validity, ttl)
        if type(tag) is not str:
            raise ValidationError(f"tag {tag!r} is not text", fix='pass tag="..."', code="E_SIGNAL")
        scale, step = instrument.price_scale, instrument.tick_size
        collecting = self.collecting
        if collecting is None:
            if at is not None:
                raise ValidationError(
                    "at= belongs to on_ticks", fix="leave at= out in other callbacks", code="E_SIGNAL"
                )
            seq, ts, reference = engine.event_of(index)
        else:
            row = collecting.tape_row(at)
            seq, ts, reference = engine.row_of(index, row)
        signal = Signal(
            strategy.name,
            seq,
            self._ordinal(owner, seq),
            ts,
            instrument.symbol,
            side * quantity,
            reference,
            product,
            None if limit is None else price_units(limit, scale, step, "limit"),
            None if stop is None else price_units(stop, scale, step, "stop"),
            None if sl is None else price_units(sl, scale, step, "sl"),
            None if tp is None else price_units(tp, scale, step, "tp"),
            validity,
            ttl_ns,
            tag,
        )
        order = Order(signal, instrument, index, owner, SENT, "", 0, 0, 0, signal.quantity)
        if collecting is None:
            self.submit(order)
        else:
            self._keep(seq - engine.block.first, order, None)
        return order

    def submit(self, order: Order) -> None:
        """Hand an order to the desk, and watch its time to live."""
        if self.engine.callbacks.halted[order.owner]:
            self.engine.desk.refuse(order, "its strategy is halted")
            return
        self.engine.day.mark_to(order.signal.ts)  # what the rules read must not depend on how blocks are cut
        self.engine.desk.submit(order)
        if order.signal.ttl and order.status in WORKING:
            self.engine.day.schedule(
                order.signal.ts + order.signal.ttl, 0, self._expiry(order), visible=False
            )

    def _expiry(self, order: Order) -> Callable[[int], None]:
        return lambda ts: self.engine.desk.expire(order, "its time to live is over", ts)

    def _keep(self, row: int, order: Order, cancel: CancelSignal | None) -> None:
        self._numbers += 1
        self.decisions.append((row, self._numbers, order, cancel))

    def carry_out(self, decision: Decision) -> None:
        """A block strategy's decision, now that the tape has reached its row."""
        _, _, order, cancel = decision
        if cancel is not None:
            self._withdraw(order, cancel)
        else:
            self.submit(order)

    def cancel(self, strategy: Strategy, order: Order) -> None:
        """Withdraw an order of the strategy's own; someone else's is an error, an ended one is left alone."""
        if not isinstance(order, Order):  # pyright: ignore[reportUnnecessaryIsInstance] - notebooks pass anything
            raise ValidationError(
                f"cancel({order!r})", fix="pass the order that buy or sell returned", code="E_SIGNAL"
            )
        owner = strategy._owner  # pyright: ignore[reportPrivateUsage]
        if order.owner != owner:
            raise ValidationError(
                f"order {order.id} belongs to {order.strategy}",
                fix="cancel only your own orders",
                code="E_SIGNAL",
            )
        if order.status not in WORKING:
            return
        seq, ts = self.engine.position_of()
        signal = CancelSignal(strategy.name, seq, self._ordinal(owner, seq), ts, order.id)
        if self.collecting is None:
            self._withdraw(order, signal)
        else:
            self._keep(seq - self.engine.block.first, order, signal)

    def _withdraw(self, order: Order, signal: CancelSignal) -> None:
        self.engine.result.cancels.append(signal)
        self.engine.desk.withdraw(order, signal)

    def _ordinal(self, owner: int, seq: int) -> int:
        """How many decisions this strategy already took at this tape position."""
        if seq > self._ordinal_seq:
            if self.collecting is None:  # rows of a block are decided in any order, before their orders' news
                self._ordinals.clear()
            self._ordinal_seq = seq
        key = (owner, seq)
        ordinal = self._ordinals.get(key, 0)
        self._ordinals[key] = ordinal + 1
        return ordinal

    def order_target(
        self, strategy: Strategy, symbol: str, quantity: int, options: dict[str, Any]
    ) -> Order | None:
        """See Strategy.order_target."""
        index = self.of(strategy, symbol)
        owner = strategy._owner  # pyright: ignore[reportPrivateUsage]
        try:
            target = as_index(_quantity(quantity) if isinstance(quantity, bool) else quantity)
        except TypeError:
            target = _quantity(quantity)
        queued: list[Order] = []
        if self.collecting is not None:  # other callbacks stand before the rows of these decisions
            queued = [o for _, _, o, withdrawn in self.decisions if withdrawn is None and o.index == index]
        working = sum(
            o.target - o.filled for o in (*self.engine.desk.exchange.working.get(self._symbol(index), ()), *queued)
            if o.owner == owner and not o.leg
        )  # fmt: skip
        delta = target - self.engine.desk.books[owner].quantity(index) - working
        if not delta:
            return None
        return (strategy.buy if delta > 0 else strategy.sell)(symbol, abs(delta), **options)

    def order_target_percent(
        self, strategy: Strategy, symbol: str, share: float, options: dict[str, Any]
    ) -> Order | None:
        """See Strategy.order_target_percent."""
        index = self.of(strategy, symbol)
        instrument = self.engine.instruments[index]
        price = self.engine.last_price(index)
        if not price:
            raise ValidationError(
                f"{symbol} has no price yet", fix="wait for its first tick", code="E_SIGNAL"
            )
        if isinstance(share, bool) or not isinstance(share, int | float) or not abs(share) <= 100:  # pyright: ignore[reportUnnecessaryIsInstance] - notebooks pass anything
            raise ValidationError(
                f"share {share!r} is not a share of equity", fix="0.1 means 10 %", code="E_SIGNAL"
            )
        one_lot = worth(instrument, instrument.lot_size, price)
        lots = max(0, int(self.equity(strategy._owner) * abs(share) // one_lot))  # pyright: ignore[reportPrivateUsage]
        return self.order_target(
            strategy, symbol, (1 if share > 0 else -1) * lots * instrument.lot_size, options
        )

    def close_all(self, strategy: Strategy) -> None:
        """Flatten every position at market, product by product, less what closing market orders already work."""
        owner = strategy._owner  # pyright: ignore[reportPrivateUsage]
        for index, held in sorted(self.engine.desk.books[owner].positions.items()):
            symbol = self._symbol(index)
            for position in tuple(held):
                closing = sum(
                    o.target - o.filled for o in self.engine.desk.exchange.working.get(symbol, ())
                    if o.owner == owner and o.signal.product == position.product and o.kind == "MARKET"
                )  # fmt: skip
                left = position.quantity + (closing if closing * position.quantity < 0 else 0)
                if left * position.quantity > 0:
                    order = strategy.sell if left > 0 else strategy.buy
                    order(symbol, abs(left), product=position.product, tag="close_all")

    def round_price(self, strategy: Strategy, symbol: str, price: float) -> float:
        """See Strategy.round_price."""
        instrument = self.engine.instruments[self.of(strategy, symbol)]
        return nearest_tick(price, instrument.price_scale, instrument.tick_size) / instrument.price_scale

    # ── what strategies know ─────────────────────────────────────────────────────────────────────────────────────

    def position(self, strategy: Strategy, symbol: str) -> Position:
        """See Strategy.position."""
        index = self.of(strategy, symbol)
        return self.engine.desk.books[strategy._owner].net(index, self.engine.instruments[index])  # pyright: ignore[reportPrivateUsage]

    def open_orders(self, strategy: Strategy, symbol: str | None) -> list[Order]:
        """See Strategy.open_orders."""
        owner = strategy._owner  # pyright: ignore[reportPrivateUsage]
        working = self.engine.desk.exchange.working
        symbols = working if symbol is None else (self._symbol(self.of(strategy, symbol)),)
        if not working:
            return []
        own = [o for name in symbols for o in working.get(name, ()) if o.owner == owner]
        return sorted(own, key=_age)

    def equity(self, owner: int) -> int:
        """A strategy's equity in paise at last prices."""
        return self.engine.desk.books[owner].equity(self.engine.last_prices())

    def cash(self, owner: int) -> int:
        """A strategy's cash in paise."""
        return self.engine.desk.books[owner].cash

    @property
    def now(self) -> datetime:
        """Tape time in IST."""
        return ist(self.engine.position_of()[1])

    def last_price(self, strategy: Strategy, symbol: str) -> float:
        """See Strategy.last_price."""
        index = self.of(strategy, symbol)
        return self.engine.last_price(index) / self.engine.instruments[index].price_scale

    def random_of(self, strategy: Strategy) -> random.Random:
        """One generator per strategy and event, so a restart in the middle draws the same numbers."""
        owner = strategy._owner  # pyright: ignore[reportPrivateUsage]
        seq, _ = self.engine.position_of()
        made = self._randoms.get(owner)
        if made is None or made[0] != seq:
            made = seq, random.Random(f"{self.engine.seed}:{strategy.name}:{seq}")
            self._randoms[owner] = made
        return made[1]

    def history(self, strategy: Strategy, symbol: str, n: int, interval: str | None) -> pl.DataFrame:
        """See Strategy.history."""
        import polars as pl

        index = self.of(strategy, symbol)
        name = interval or strategy.bar
        if name not in self.intervals:
            raise ValidationError(
                f"no {name} bars are built in this run",
                fix=f'register an indicator with bar="{name}" in on_start, or set bar = "{name}"',
                code="E_HISTORY",
            )
        if isinstance(n, bool) or n < 1:
            raise ValidationError(f"history of {n!r} bars", fix="ask for 1 or more", code="E_HISTORY")
        kept = self.engine.day.bars.closed.get((index, name), ())
        rows = [msgspec.structs.astuple(bar) for bar in list(kept)[-n:]]
        schema = {"symbol": pl.String, "interval": pl.String, "start": pl.Int64, "ts": pl.Int64}
        schema |= dict.fromkeys(("open", "high", "low", "close"), pl.Float64) | {
            "volume": pl.Int64,
            "minute": pl.Int64,
        }
        stamps = pl.from_epoch(pl.col("start", "ts"), time_unit="ns").dt.replace_time_zone("UTC")
        return pl.DataFrame(rows, schema=schema, orient="row").with_columns(
            stamps.dt.convert_time_zone("Asia/Kolkata")
        )

    def indicators_of(self, owner: int, index: int) -> dict[str, Any]:
        """The indicators that a strategy has registered for one instrument, by name."""
        return {name: one for (at, name), one in self._named[owner].items() if at == index}

    # ── indicators, timers, log ──────────────────────────────────────────────────────────────────────────────────

    def add_indicator(
        self, strategy: Strategy, symbol: str, indicator: Any, bar: str | None, name: str | None
    ) -> None:
        """See Strategy.indicator."""
        index, interval = self.of(strategy, symbol), bar or strategy.bar
        owner = strategy._owner  # pyright: ignore[reportPrivateUsage]
        if self.engine.day.bars.base and interval not in self.intervals:
            raise ValidationError(
                f"{interval} bars cannot be added while the run is on",
                fix="register indicators in on_start",
                code="E_STRATEGY",
            )
        self.need_interval(interval)
        feed: Callable[[Bar], Any] | None = getattr(indicator, "on_bar", None)
        if feed is None:
            update = getattr(indicator, "update", None)
            if update is None:
                raise ValidationError(
                    f"{type(indicator).__name__} is not an indicator",
                    fix="give it an update(x) method",
                    code="E_STRATEGY",
                )
            feed = _on_close(update)
        self._feeds.setdefault((self._symbol(index), interval), []).append((owner, feed))
        self._named[owner][index, name or type(indicator).__name__.lower()] = indicator

    def get_indicator(self, strategy: Strategy, symbol: str, name: str) -> Any:
        """See Strategy.ind."""
        index, named = self.of(strategy, symbol), self._named[strategy._owner]  # pyright: ignore[reportPrivateUsage]
        found = named.get((index, name))
        if found is None:
            raise UnknownNameError(
                f"indicator of {symbol}", name, [n for i, n in named if i == index], code="E_STRATEGY"
            )
        return found

    def add_timer(
        self, strategy: Strategy, when: str | None, interval: str | None, call: Callable[[], Any] | str
    ) -> None:
        """See Strategy.at and Strategy.every."""
        owner = strategy._owner  # pyright: ignore[reportPrivateUsage]
        first = self.universe[owner][0]
        if not isinstance(call, str) and not callable(call):
            raise ValidationError(
                f"timer calls {call!r}", fix="pass a method, or a name for on_timer", code="E_TIME"
            )
        name = call if isinstance(call, str) else getattr(call, "__name__", "timer")
        function = None if isinstance(call, str) else call
        if interval is not None:
            timer = Timer(owner, first, name, function, every=parse_interval(interval))
        else:
            anchor, offset = parse_moment(when or "")
            timer = Timer(owner, first, name, function, anchor, offset)
        self.engine.day.add_timer(timer)

    def write_log(self, strategy: Strategy, message: str, fields: dict[str, Any]) -> None:
        """See Strategy.log."""
        self.engine.callbacks.log(strategy._owner, message, fields)  # pyright: ignore[reportPrivateUsage]

    def _symbol(self, index: int) -> str:
        return self.engine.instruments[index].symbol


# ── arguments as people give them ────────────────────────────────────────────────────────────────────────────────


def _quantity(value: Any) -> int:
    """A whole number above 0 (numpy's integers too); anything else raises, and says what would do."""
    try:
        whole = 0 if isinstance(value, bool) else as_index(value)
    except TypeError:
        whole = 0
    if isinstance(value, bool) or not 0 < whole <= QUANTITY_MAX:
        raise ValidationError(
            f"quantity {value!r} is not a whole number from 1 to {QUANTITY_MAX:,}",
            fix="pass a positive int; buy() and sell() give the direction",
            code="E_QUANTITY",
            value=repr(value),
        )
    return whole


def _lots(lots: Any, quantity: Any) -> int:
    if quantity is not None:
        raise ValidationError("both quantity and lots are given", fix="pass one of them", code="E_QUANTITY")
    return _quantity(lots)


def _ttl(validity: str, ttl: str | None) -> int:
    if validity not in VALIDITIES:
        raise UnknownNameError("validity", str(validity), VALIDITIES, code="E_SIGNAL")
    if (validity == "TTL") != (ttl is not None):
        raise ValidationError(
            "validity TTL and ttl= go together", fix='pass validity="TTL", ttl="5m"', code="E_SIGNAL"
        )
    return 0 if ttl is None else parse_interval(ttl, "ttl")


def _age(order: Order) -> tuple[int, int, str]:
    return order.signal.seq, order.signal.ordinal, order.leg


def _on_close(update: Callable[[float], Any]) -> Callable[[Bar], Any]:
    return lambda bar: update(bar.close)


def _mentions(kind: type, name: str) -> bool:
    """Whether a method of the class uses an attribute of this name: bars for ``history`` must exist before it asks."""
    functions = (f for k in kind.__mro__ if k is not Strategy for f in vars(k).values())
    return any(name in f.__code__.co_names for f in functions if hasattr(f, "__code__"))

"""Pre-trade risk: one small function a rule; each returns the reason it says no, or None.

A rule is made from its limit once (``max_position_quantity(limit)``) and then asked about orders with the desk that
holds the books. The same rules stand in front of simulated and live orders. A limit of None switches its rule off.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from alphapanda.errors import ConfigurationError
from alphapanda.events import MINUTE, SECOND, Signal
from alphapanda.money import PAISE, nearest_tick, rupees
from alphapanda.orders import SENT, Order

if TYPE_CHECKING:
    from alphapanda.desk import Desk

TIMES_KEPT = 20_000  # of accepted orders, for the rates: no run lags so many behind another
Check = Callable[[Order, "Desk"], str | None]
Standing = Callable[
    [int, str, "Desk"], str | None
]  # asked about an instrument, by its dense index, and a product


COUNTS = (
    "order_quantity", "order_slices", "position_quantity", "orders_per_second", "orders_per_minute", "orders_per_day",
    "strategy_orders_per_second", "strategy_orders_per_minute",
)  # fmt: skip


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The account's limits. Money is in rupees; None means no limit; defaults are the broker's own caps.

    ``price_band`` is a share of the last price that a limit or stop price may lie away (options are exempt: their
    premium moves by multiples). ``order_slices`` is how many orders of the exchange's freeze quantity one order
    may become at a real venue. ``leverage`` caps gross exposure as a multiple of equity. ``duplicate_seconds`` is how
    long the same order of the same strategy counts as a repeat; ``strategy_orders_per_...`` keep one strategy from
    using up the account's rate. ``stale_seconds`` refuses new risk when no tick of any instrument came for so long.
    Sources: orders per second, minute and day are Kite Connect's published limits per account.
    """

    order_quantity: int | None = None
    order_slices: int = 1
    order_notional: float | None = None
    position_quantity: int | None = None
    position_notional: float | None = None
    gross_exposure: float | None = None
    leverage: float | None = 5.0
    price_band: float | None = 0.20
    orders_per_second: int | None = 10
    orders_per_minute: int | None = 400
    orders_per_day: int | None = 5_000
    strategy_orders_per_second: int | None = None
    strategy_orders_per_minute: int | None = None
    stale_seconds: float | None = None
    daily_loss: float | None = None
    drawdown: float | None = None
    duplicate_seconds: float | None = 2.0
    self_cross: bool = True
    instruments: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if name == "instruments" and isinstance(value, str):
                raise ConfigurationError(
                    f"limit instruments = {value!r} is text",
                    fix=f"write instruments=({value!r},)",
                    code="E_LIMIT",
                )
            if name == "self_cross" and not isinstance(value, bool):
                raise ConfigurationError(
                    f"limit self_cross = {value!r} is no switch", fix="write True or False", code="E_LIMIT"
                )
            if name in ("self_cross", "instruments") or (value is None and name != "order_slices"):
                continue
            kind = " whole" if name in COUNTS else ""
            if kind and not isinstance(value, int):
                value = math.nan
            if (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or not math.isfinite(value)
                or value <= 0
            ):
                raise ConfigurationError(
                    f"limit {name} = {getattr(self, name)!r} is not a finite positive{kind} number",
                    fix=f"give {name} a{kind} number above 0, or None to switch the rule off",
                    code="E_LIMIT",
                    field=name,
                )


class Rules(msgspec.Struct, frozen=True):
    """The rules by what they depend on, in the order they are asked, so that an order is asked only what concerns it.

    ``standing`` give one answer for every order of an instrument and product until the desk's day moves on. Of the
    rest, ``priced`` concern orders that name a price, ``stepped`` quantities off the lot or above the freeze
    quantity, ``sized`` every order, ``crossing`` orders that meet own working ones, ``delivery`` products without
    short sale and leverage, ``growing`` orders that do not just shrink the account's position (a limit on size or
    loss must never trap a position), and ``rates`` come last: what another rule refuses uses up no rate.
    """

    standing: Sequence[Standing]
    priced: Sequence[Check]
    stepped: Sequence[Check]
    sized: Sequence[Check]
    crossing: Sequence[Check]
    delivery: Sequence[Check]
    growing: Sequence[Check]
    rates: Sequence[Check]


def rules(limits: Limits) -> Rules:
    """Make every rule that ``limits`` switches on."""
    return Rules(
        standing=(not_halted, instrument_allowed(limits.instruments), segment_open, product_offered),
        priced=(tick, bracket_sides, circuit, *_on((price_band, limits.price_band))),
        stepped=(lot, freeze),
        sized=limits_on_orders(limits),
        crossing=(self_cross,) if limits.self_cross else (),
        delivery=(no_short_delivery, delivery_cash),
        growing=(may_grow, entry_open, *limits_on_growth(limits)),
        rates=limits_on_rates(limits),
    )


def limits_on_orders(limits: Limits) -> list[Check]:
    """The rules on one order by itself."""
    return _on(
        (max_order_quantity, limits.order_quantity),
        (max_order_notional, _paise(limits.order_notional)),
        (duplicate, limits.duplicate_seconds and int(limits.duplicate_seconds * SECOND)),
    )


def limits_on_growth(limits: Limits) -> list[Check]:
    """The rules that an order which only shrinks a position is not asked."""
    return _on(
        (fresh_data, limits.stale_seconds and int(limits.stale_seconds * SECOND)),
        (max_position_quantity, limits.position_quantity),
        (max_position_notional, _paise(limits.position_notional)),
        (max_daily_loss, _paise(limits.daily_loss)),
        (max_drawdown, _paise(limits.drawdown)),
        (max_gross_exposure, _paise(limits.gross_exposure)),
        (max_leverage, limits.leverage),
    )


def limits_on_rates(limits: Limits) -> list[Check]:
    """The rules that count what passes them."""
    return _on(
        (lambda n: strategy_rate(n, SECOND, "second"), limits.strategy_orders_per_second),
        (lambda n: strategy_rate(n, MINUTE, "minute"), limits.strategy_orders_per_minute),
        (lambda n: max_rate(n, SECOND, "second"), limits.orders_per_second),
        (lambda n: max_rate(n, MINUTE, "minute"), limits.orders_per_minute),
        (max_per_day, limits.orders_per_day),
    )


def _paise(limit: float | None) -> int | None:
    return None if limit is None else round(limit * PAISE)


def name_of(check: Callable[..., str | None]) -> str:
    """What people call a rule: the name of the function that is it, or that made it."""
    made = check.__qualname__.partition(".")[0] if check.__name__ == "check" else check.__name__
    return made.replace("_", " ")


def _on(*makers: tuple[Callable[[Any], Check], Any]) -> list[Check]:
    """The rules whose limit is set."""
    return [make(limit) for make, limit in makers if limit is not None]


# ── certainties ──────────────────────────────────────────────────────────────────────────────────────────────────


def not_halted(index: int, product: str, desk: Desk) -> str | None:
    """No order while the desk is halted."""
    return f"halted: {desk.account.halted}" if desk.account.halted else None


def instrument_allowed(allowed: tuple[str, ...] | None) -> Standing:
    """The instrument can be traded at all, has not expired, and is on the allowed list if there is one."""

    def check(index: int, product: str, desk: Desk) -> str | None:
        instrument = desk.instruments[index]
        if allowed is not None and instrument.symbol not in allowed:
            return f"instrument: {instrument.symbol} is not among the allowed instruments"
        if not instrument.tradable:
            return (
                f"instrument: {instrument.symbol} is an index and cannot be traded; trade its future or an ETF, "
                "or read its data with tradable=True to research on it as a proxy"
            )
        if instrument.expiry is not None and desk.day > instrument.expiry:
            return f"instrument: {instrument.symbol} expired on {instrument.expiry:%Y-%m-%d}"
        return None

    return check


def segment_open(index: int, product: str, desk: Desk) -> str | None:
    """The venue trades this instrument continuously right now."""
    if desk.open[index]:
        return None
    return f"segment: {desk.instruments[index].exchange} is not in its continuous session"


def product_offered(index: int, product: str, desk: Desk) -> str | None:
    """The product exists for the instrument."""
    offered = desk.products[index]
    if product in offered:
        return None
    use = " or ".join(offered) or "another instrument"
    return f"product: {product} is not offered on {desk.instruments[index].symbol}; use {use}"


def may_grow(order: Order, desk: Desk) -> str | None:
    """Positions may become larger: nobody has said that the account only reduces."""
    return f"reduce only: {desk.account.reduces}" if desk.account.reduces else None


def entry_open(order: Order, desk: Desk) -> str | None:
    """The product still takes new positions today: MIS stops before the broker squares it off."""
    return desk.no_entry.get((order.index, order.signal.product)) if desk.no_entry else None


def lot(order: Order, desk: Desk) -> str | None:
    """The quantity is a multiple of the lot."""
    size = order.instrument.lot_size
    if size == 1 or order.target % size == 0:
        return None
    below = order.quantity // size * size
    below = below or size
    near = f"{below} or {below + size}"
    return f"lot: {order.quantity} is not a multiple of {size}; nearest {near}"


def freeze(order: Order, desk: Desk) -> str | None:
    """At most the exchange's freeze quantity in one order, or as many of those as an order may be cut into."""
    most = desk.freeze[order.index]
    if most is None or -most <= order.target <= most:
        return None
    fix = "send several, or let RISK__MAX_ORDER_SLICES (Limits.order_slices) cut it"
    return f"freeze: {order.quantity} > {most}, the most one order may hold; {fix}"


def tick(order: Order, desk: Desk) -> str | None:
    """Every price of the order lies on the instrument's grid."""
    signal = order.signal
    step = order.instrument.tick_size
    for name, price in (("limit", signal.limit), ("stop", signal.stop), ("sl", signal.sl), ("tp", signal.tp)):
        if price is not None and (price <= 0 or price % step):
            scale = order.instrument.price_scale
            near = max(nearest_tick(price / scale, scale, step), step) / scale
            return f"tick: {name} {price / scale:g} is off the grid of {step / scale:g}; nearest {near:g}"
    return None


def bracket_sides(order: Order, desk: Desk) -> str | None:
    """A bracket's stop lies on the losing side of the entry, its target on the winning side."""
    signal = order.signal
    entry = signal.limit or signal.stop or signal.reference
    way = 1 if signal.quantity > 0 else -1
    for name, price, good in (("sl", signal.sl, -way), ("tp", signal.tp, way)):
        if price is not None and (price - entry) * good <= 0:
            scale = order.instrument.price_scale
            return (
                f"bracket: {name} {price / scale:.10g} is on the wrong side of the entry at about "
                f"{entry / scale:.10g}; "
                f"a {'buy' if way > 0 else 'sell'} has it {'below' if good < 0 else 'above'}"
            )
    return None


# ── size and price ───────────────────────────────────────────────────────────────────────────────────────────────


def max_order_quantity(limit: int) -> Check:
    """At most ``limit`` units an order."""

    def check(order: Order, desk: Desk) -> str | None:
        quantity = order.target
        return f"order quantity {abs(quantity)} > {limit}" if not -limit <= quantity <= limit else None

    return check


def price_band(share: float) -> Check:
    """Limit and stop prices within ``share`` of the last price: a fat finger is not a decision."""

    def check(order: Order, desk: Desk) -> str | None:
        signal = order.signal
        if (signal.limit is None and signal.stop is None) or order.instrument.asset_class == "options":
            return None
        reach = signal.reference * share
        low, high = signal.reference - reach, signal.reference + reach
        for name, price in (("limit", signal.limit), ("stop", signal.stop)):
            if price is not None and not low <= price <= high:
                scale = order.instrument.price_scale
                return (
                    f"price band: {name} {price / scale:g} is {abs(price / signal.reference - 1):.0%} from the last "
                    f"price {signal.reference / scale:g}; allowed {low / scale:.10g} to {high / scale:.10g}"
                )
        return None

    return check


def circuit(order: Order, desk: Desk) -> str | None:
    """A limit price inside the day's circuit band, where one is known."""
    limit, band = order.signal.limit, desk.bands[order.index]
    if limit is None or band is None or band[0] <= limit <= band[1]:
        return None
    scale = order.instrument.price_scale
    return (
        f"circuit: limit {limit / scale:g} is outside today's band {band[0] / scale:g} to {band[1] / scale:g}"
    )


def max_order_notional(limit: int) -> Check:
    """At most ``limit`` paise an order."""

    def check(order: Order, desk: Desk) -> str | None:
        if desk.notional > limit:
            return f"order notional {rupees(desk.notional)} > {rupees(limit)}"
        return None

    return check


def max_position_quantity(limit: int) -> Check:
    """At most ``limit`` units held of one instrument if all working orders of this side fill."""

    def check(order: Order, desk: Desk) -> str | None:
        after = desk.position_after
        return None if -limit <= after <= limit else f"position {abs(after)} > {limit}"

    return check


def max_position_notional(limit: int) -> Check:
    """At most ``limit`` paise in one instrument if all working orders of this side fill."""

    def check(order: Order, desk: Desk) -> str | None:
        after = desk.notional * abs(desk.position_after) // order.quantity
        if after > limit:
            return f"position notional {rupees(after)} > {rupees(limit)}"
        return None

    return check


def self_cross(order: Order, desk: Desk) -> str | None:
    """Never trade against one's own working order in the same account; a market order stands at the last price.

    At a real venue an order that was sent and not confirmed may be nowhere: it must not trap a position.
    """
    symbol, last = order.signal.symbol, order.signal.reference
    ours = last if order.signal.limit is None else order.signal.limit
    buying = order.target > 0
    for one in desk.account.desks:
        for other in one.exchange.working.get(symbol, ()):
            if (other.target > 0) == buying or (other.signal.stop is not None and not other.triggered):
                continue
            if desk.reducing and one.exchange.real and other.status == SENT:
                continue
            theirs = last if other.signal.limit is None else other.signal.limit
            if (ours >= theirs) if buying else (ours <= theirs):
                return f"self-cross: would trade against own working order {other.id}"
    return None


def duplicate(window: int) -> Check:
    """The order the same strategy last sent on this side, again within ``window`` nanoseconds, is a repeat."""

    def check(order: Order, desk: Desk) -> str | None:
        signal = order.signal
        before = desk.account.latest.get((signal.strategy, order.index, signal.quantity > 0))
        if before is None or signal.ts - before.ts >= window or not _same(signal, before):
            return None
        return f"duplicate: the same order came {(signal.ts - before.ts) / SECOND:g} s ago"

    return check


def _same(one: Signal, other: Signal) -> bool:
    return one.quantity == other.quantity and one.limit == other.limit and one.stop == other.stop


def no_short_delivery(order: Order, desk: Desk) -> str | None:
    """A product without short sale (CNC; every product of a coin) sells what is held and not already offered."""
    if order.target > 0:
        return None
    free = desk.free_delivery(order)
    if order.quantity <= free:
        return None
    return f"short: {order.signal.product} sells what is held; {free} free, {order.quantity} asked"


def delivery_cash(order: Order, desk: Desk) -> str | None:
    """A buy without leverage needs its full price in cash, beside what other such working buys will need."""
    if order.target < 0:
        return None
    free = desk.cash_free()
    return f"funds: {rupees(desk.notional)} needed, {rupees(free)} free" if desk.notional > free else None


def fresh_data(age: int) -> Check:
    """No new risk when the newest tick of the whole market is ``age`` nanoseconds old or more."""

    def check(order: Order, desk: Desk) -> str | None:
        silent = order.signal.ts - desk.listener.newest_tick()
        return f"stale: no tick for {silent / SECOND:.1f} s" if silent >= age else None

    return check


# ── loss, exposure and rate ──────────────────────────────────────────────────────────────────────────────────────


def max_daily_loss(limit: int) -> Check:
    """No new risk once today's loss, open positions marked and charges included, reaches ``limit`` paise."""

    def check(order: Order, desk: Desk) -> str | None:
        loss = desk.account.equity_at_open - desk.account.equity
        return f"daily loss {rupees(loss)} >= {rupees(limit)}" if loss >= limit else None

    return check


def max_drawdown(limit: int) -> Check:
    """No new risk while equity stands ``limit`` paise or more below its peak."""

    def check(order: Order, desk: Desk) -> str | None:
        fall = desk.account.equity_peak - desk.account.equity
        return f"drawdown {rupees(fall)} >= {rupees(limit)}" if fall >= limit else None

    return check


def max_gross_exposure(limit: int) -> Check:
    """Sum of absolute position values, with this order, at most ``limit`` paise."""

    def check(order: Order, desk: Desk) -> str | None:
        gross = desk.account.gross + desk.notional
        return f"gross exposure {rupees(gross)} > {rupees(limit)}" if gross > limit else None

    return check


def max_leverage(multiple: float) -> Check:
    """Gross exposure at most ``multiple`` times equity."""

    def check(order: Order, desk: Desk) -> str | None:
        gross, most = desk.account.gross + desk.notional, desk.account.equity * multiple
        return (
            f"leverage: gross {rupees(gross)} > {multiple:g} x equity = {rupees(int(most))}"
            if gross > most
            else None
        )

    return check


def max_rate(count: int, window: int, name: str) -> Check:
    """At most ``count`` orders of the account pass this rule in any ``window`` nanoseconds of tape time.

    The runs of one account stand at different places of the tape, so times come in any order.
    """
    times: list[int] = []  # sorted
    most = TIMES_KEPT + 2 * count

    def check(order: Order, desk: Desk) -> str | None:
        ts = order.signal.ts
        if not times or ts >= times[-1]:
            if len(times) >= count and ts - times[-count] < window:
                return f"rate: more than {count} orders a {name}"
            times.append(ts)
            if len(times) >= most:
                del times[: most // 2]
        elif _crowded(times, ts, count, window):
            return f"rate: more than {count} orders a {name}"
        else:
            insort(times, ts)
        return None

    check.__name__ = f"orders a {name}"
    return check


def _crowded(times: list[int], ts: int, count: int, window: int) -> bool:
    """Whether ``count`` of the times lie with ``ts`` in one window."""
    at = bisect_right(times, ts)
    return any(
        max(ts, times[first + count - 1]) - min(ts, times[first]) < window
        for first in range(max(0, at - count), min(at, len(times) - count) + 1)
    )


def strategy_rate(count: int, window: int, name: str) -> Check:
    """At most ``count`` orders of one strategy in any ``window`` nanoseconds: it may not use up the account's rate."""
    times: dict[str, deque[int]] = {}

    def check(order: Order, desk: Desk) -> str | None:
        ts = order.signal.ts
        own = times.get(order.signal.strategy)
        if own is None:
            own = times[order.signal.strategy] = deque(maxlen=count)
        if len(own) == count and ts - own[0] < window:
            return f"rate: more than {count} orders of one strategy a {name}"
        own.append(ts)
        return None

    check.__name__ = f"orders of one strategy a {name}"
    return check


def max_per_day(count: int) -> Check:
    """At most ``count`` accepted orders of the account a day."""

    def check(order: Order, desk: Desk) -> str | None:
        return f"rate: more than {count} orders a day" if desk.account.orders_today >= count else None

    return check

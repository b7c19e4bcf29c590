"""What a quant writes: one ``Strategy`` class; the same class runs in research, on paper and live.

Only overridden callbacks are called. No broker, namespace, clock or event loop is visible here: time, prices, fills
and timers come in as calls; ``buy``, ``sell`` and ``cancel`` go out as signals.
"""

from __future__ import annotations

import difflib
import enum
import math
import random
import typing
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from alphapanda.errors import UnknownNameError, ValidationError
from alphapanda.events import Bar, Fill, Tick
from alphapanda.orders import Order
from alphapanda.portfolio import Position

if TYPE_CHECKING:
    import polars as pl

    from alphapanda.blocks import TickBlock
    from alphapanda.host import Account, Host

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741 - an indicator's type

SETTINGS = ("name", "symbols", "bar", "product", "warmup")
CALLBACKS = (
    "on_start", "on_tick", "on_ticks", "on_bar", "on_bars", "on_timer", "on_order", "on_fill", "on_stop"
)  # fmt: skip


class Parameter:
    """A declared parameter: default, bounds, choices; it validates what a run is given."""

    def __init__(self, default: Any, low: Any, high: Any, choices: tuple[Any, ...] | None, doc: str) -> None:
        self.default, self.low, self.high, self.choices, self.doc = default, low, high, choices, doc
        self.name = ""
        self.kind: type = type(default)

    def check(self, value: Any, owner: str) -> Any:
        """The value in the parameter's type; ValidationError names parameter, value and bounds."""
        where = f"parameter {self.name} of {owner}"
        value = self._typed(value, where)
        if self.choices is not None and value not in self.choices:
            raise ValidationError(
                f"{where} is {value!r}", fix=f"choose one of {list(self.choices)}", code="E_PARAM"
            )
        below = self.low is not None and value < self.low
        if below or (self.high is not None and value > self.high):
            side = (
                f"below its lowest value {self.low!r}" if below else f"above its highest value {self.high!r}"
            )
            raise ValidationError(
                f"{where} is {value!r}, {side}",
                fix=f"give {self.name} a value from {self.low!r} to {self.high!r}",
                code="E_PARAM",
                name=self.name,
            )
        return value

    def _typed(self, value: Any, where: str) -> Any:
        kind = self.kind
        wrong = ValidationError(
            f"{where} is {value!r} ({type(value).__name__})",
            fix=f"pass {kind.__name__}",
            code="E_PARAM",
            name=self.name,
        )
        if kind is bool or isinstance(value, bool):
            if kind is bool and isinstance(value, bool):
                return value
            raise wrong
        if kind is int:
            if hasattr(value, "__index__"):
                return int(value)
            if isinstance(value, float) and value.is_integer():
                return int(value)
            raise wrong
        if kind is float:
            try:
                number = float(value)
            except (TypeError, ValueError):
                raise wrong from None
            if isinstance(value, str) or not math.isfinite(number):
                raise wrong
            return number
        if issubclass(kind, enum.Enum) and isinstance(value, str) and value in kind.__members__:
            return kind[value]
        if not isinstance(value, kind):
            raise wrong
        return value


def Param(  # noqa: N802 - reads as a declaration, like dataclasses.field in capitals
    default: T, low: T | None = None, high: T | None = None, choices: Iterable[T] | None = None, doc: str = ""
) -> T:
    """Declare a parameter on a Strategy class: typed, bounded, sweepable, pinned on promotion.

    ``low`` and ``high`` are inclusive. The class attribute reads as the default; an instance reads as its own value.
    """
    return typing.cast(
        "T", Parameter(default, low, high, tuple(choices) if choices is not None else None, doc)
    )


class State(SimpleNamespace):
    """An attribute bag for what must survive a restart; put plain data here (numbers, text, lists, dicts)."""


class Strategy:
    """Base class. Set ``symbols``, override callbacks, place orders with the helpers.

    ``bar`` is the interval of ``on_bar`` ("1m"); ``product`` the default product; ``warmup`` how much earlier data
    indicators and history see before the first callback ("3d" trading days, or "45m" of session time).
    """

    symbols: list[str] | tuple[str, ...] = ()
    bar: str = "1m"
    product: str = "MIS"
    warmup: str = ""
    name: str = ""

    parameters: ClassVar[Mapping[str, Parameter]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        declared: dict[str, Parameter] = {}
        for base in reversed(cls.__mro__[1:]):
            declared |= getattr(base, "parameters", {})
        hints: dict[str, Any] = {}
        try:
            hints = typing.get_type_hints(cls)
        except (
            NameError,
            TypeError,
        ):  # an annotation that only a type checker can resolve: the default's type rules
            hints = {}
        for attribute, value in list(vars(cls).items()):
            _refuse_misspelt(cls.__name__, attribute)
            if attribute in _OWN and attribute not in CALLBACKS and attribute not in SETTINGS:
                raise ValidationError(
                    f"{cls.__name__}.{attribute} hides the helper of that name",
                    fix=f"rename {attribute}",
                    code="E_STRATEGY",
                )
            if isinstance(value, Parameter):
                value.name = attribute
                hint = hints.get(attribute)
                value.kind = hint if isinstance(hint, type) else type(value.default)
                setattr(cls, attribute, value.check(value.default, cls.__name__))
                declared[attribute] = value
            elif attribute in declared:
                declared[attribute] = _with_default(declared[attribute], value, cls.__name__)
        cls.parameters = declared

    def __init__(self, **values: Any) -> None:
        kind = type(self)
        for name, value in values.items():
            if name in SETTINGS:
                setattr(self, name, value)
            elif name in kind.parameters:
                setattr(self, name, kind.parameters[name].check(value, kind.__name__))
            else:
                raise UnknownNameError(
                    f"parameter of {kind.__name__}", name, [*kind.parameters, *SETTINGS], code="E_PARAM"
                )
        self.name = self.name or kind.__name__
        self.state = State()
        self._bound: Host | None = None
        self._owner = -1
        self._index: dict[str, int] = {}

    def __repr__(self) -> str:
        values = ", ".join(f"{k}={v!r}" for k, v in self.params.items())
        return f"{type(self).__name__}({values})"

    # ── callbacks ────────────────────────────────────────────────────────────────────────────────────────────────

    def on_start(self) -> None:
        """Once, before the first event: register indicators and timers."""

    def on_tick(self, tick: Tick) -> None:
        """Each tick of the strategy's symbols in continuous session."""

    def on_ticks(self, block: TickBlock) -> None:
        """Whole blocks of ticks as columns; order with ``at=row``. Instead of, or beside, ``on_tick``."""

    def on_bar(self, bar: Bar) -> None:
        """Each closed bar of interval ``bar``."""

    def on_bars(self, bars: list[Bar]) -> None:
        """All bars that closed at one instant, in the order of ``symbols``; instead of ``on_bar``."""

    def on_timer(self, name: str) -> None:
        """A timer set with ``at`` or ``every`` and no function of its own has come due."""

    def on_order(self, order: Order) -> None:
        """One of the strategy's orders has a new status."""

    def on_fill(self, fill: Fill) -> None:
        """One of its orders traded; the position already holds it."""

    def on_stop(self) -> None:
        """Once, after the last event."""

    # ── orders ───────────────────────────────────────────────────────────────────────────────────────────────────

    def buy(
        self,
        symbol: str,
        quantity: int | None = None,
        *,
        lots: int | None = None,
        limit: float | None = None,
        stop: float | None = None,
        sl: float | None = None,
        tp: float | None = None,
        product: str | None = None,
        validity: str = "DAY",
        ttl: str | None = None,
        tag: str = "",
        at: int | None = None,
        qty: int | None = None,
    ) -> Order:
        """Buy ``quantity`` units (or ``lots``; ``qty`` is the same as quantity). Prices are rupees, on the tick grid.

        MARKET unless ``limit``; ``stop`` alone is a stop-market (SL-M), with ``limit`` a stop-limit (SL). ``sl`` and
        ``tp`` protect what fills: one cancels the other. ``validity`` is DAY, IOC or TTL with ``ttl`` ("5m"). ``at``
        is the row of an ``on_ticks`` block that decides. A malformed order raises ValidationError; one that the risk
        rules refuse comes back with status "denied" and its reason.
        """
        return self._host().place(
            self,
            symbol,
            1,
            qty if quantity is None else quantity,
            lots,
            limit,
            stop,
            sl,
            tp,
            product,
            validity,
            ttl,
            tag,
            at,
        )

    def sell(
        self,
        symbol: str,
        quantity: int | None = None,
        *,
        lots: int | None = None,
        limit: float | None = None,
        stop: float | None = None,
        sl: float | None = None,
        tp: float | None = None,
        product: str | None = None,
        validity: str = "DAY",
        ttl: str | None = None,
        tag: str = "",
        at: int | None = None,
        qty: int | None = None,
    ) -> Order:
        """Sell, or sell short where the product allows it; arguments as for ``buy``."""
        return self._host().place(
            self,
            symbol,
            -1,
            qty if quantity is None else quantity,
            lots,
            limit,
            stop,
            sl,
            tp,
            product,
            validity,
            ttl,
            tag,
            at,
        )

    def order_target(self, symbol: str, quantity: int, **options: Any) -> Order | None:
        """Trade what ``quantity`` (signed) differs from position plus working orders; None when nothing does."""
        return self._host().order_target(self, symbol, quantity, options)

    def order_target_percent(self, symbol: str, share: float, **options: Any) -> Order | None:
        """Trade towards a position worth ``share`` of own equity (0.1 is 10 %), in whole lots, rounded down."""
        return self._host().order_target_percent(self, symbol, share, options)

    def cancel(self, order: Order) -> None:
        """Withdraw one of the strategy's own working orders."""
        self._host().cancel(self, order)

    def cancel_all(self, symbol: str | None = None) -> None:
        """Withdraw all of the strategy's own working orders, or those of one symbol."""
        for order in self.open_orders(symbol):
            self._host().cancel(self, order)

    def close_all(self) -> None:
        """Flatten every position of the strategy at market, less what working exits of it will close anyway."""
        self._host().close_all(self)

    def round_price(self, symbol: str, price: float) -> float:
        """The valid price nearest to ``price``."""
        return self._host().round_price(self, symbol, price)

    # ── what it knows ────────────────────────────────────────────────────────────────────────────────────────────

    def position(self, symbol: str) -> Position:
        """The strategy's own position: ``.quantity`` signed, ``.average_price``, ``.realized`` (paise)."""
        return self._host().position(self, symbol)

    def open_orders(self, symbol: str | None = None) -> list[Order]:
        """The strategy's own working orders, oldest first."""
        return self._host().open_orders(self, symbol)

    @property
    def cash(self) -> float:
        """The strategy's own cash, rupees."""
        return self._host().cash(self._owner) / 100

    @property
    def equity(self) -> float:
        """Cash plus own positions at the last prices, rupees."""
        return self._host().equity(self._owner) / 100

    @property
    def account(self) -> Account:
        """The whole account: ``.cash``, ``.equity``, ``.position(symbol)``."""
        return self._host().account

    @property
    def now(self) -> datetime:
        """Tape time as an aware datetime in exchange time (IST)."""
        return self._host().now

    @property
    def random(self) -> random.Random:
        """Random numbers seeded by run, strategy and event: the same on every replay and after every restart."""
        return self._host().random_of(self)

    @property
    def params(self) -> dict[str, Any]:
        """Parameter values by name."""
        return {name: getattr(self, name) for name in type(self).parameters}

    def history(self, symbol: str, n: int, interval: str | None = None) -> pl.DataFrame:
        """The last ``n`` closed bars (``bar`` unless ``interval``), oldest first; never past the tape clock."""
        return self._host().history(self, symbol, n, interval)

    def last_price(self, symbol: str) -> float:
        """The last traded price in rupees; 0.0 before the first tick."""
        return self._host().last_price(self, symbol)

    def indicator(self, symbol: str, indicator: I, bar: str | None = None, name: str | None = None) -> I:
        """Keep ``indicator`` up to date with the symbol's closed bars; any class with ``update(x)`` works.

        It is fed before ``on_bar`` sees the bar. ``bar=None`` takes the strategy's own interval. Returns it.
        """
        self._host().add_indicator(self, symbol, indicator, bar, name)
        return indicator

    def ind(self, symbol: str, name: str) -> Any:
        """The indicator registered under ``name`` for ``symbol``."""
        return self._host().get_indicator(self, symbol, name)

    # ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def at(self, when: str, call: Callable[[], Any] | str) -> None:
        """Every session day at exchange time "15:10", or "open+5m", "close-20m": ``call()``, or ``on_timer(name)``."""
        self._host().add_timer(self, when, None, call)

    def every(self, interval: str, call: Callable[[], Any] | str) -> None:
        """Every "5m" from the session's open to its close."""
        self._host().add_timer(self, None, interval, call)

    def log(self, message: str, **fields: Any) -> None:
        """Write a line into the run's log, stamped with the event that caused it."""
        self._host().write_log(self, message, fields)

    def _host(self) -> Host:
        host = self._bound
        if host is None:
            raise ValidationError(
                f"{self.name} is not running",
                fix="call helpers from callbacks, on_start first",
                code="E_STRATEGY",
            )
        return host


_OWN = frozenset(name for name in vars(Strategy) if not name.startswith("__")) | {"state"}


def _with_default(parameter: Parameter, value: Any, owner: str) -> Parameter:
    """A subclass that assigns a plain value to an inherited parameter gives it a new default."""
    changed = Parameter(value, parameter.low, parameter.high, parameter.choices, parameter.doc)
    changed.name, changed.kind = parameter.name, parameter.kind
    changed.default = changed.check(value, owner)
    return changed


def _refuse_misspelt(owner: str, attribute: str) -> None:
    """``on_tik`` would never be called: say so when the class is made."""
    if attribute.startswith("on_") and attribute not in CALLBACKS:
        meant = difflib.get_close_matches(attribute, CALLBACKS, n=1, cutoff=0.85)
        if meant:
            raise ValidationError(
                f"{owner}.{attribute} is not a callback, so nothing would call it",
                fix=f"did you mean {meant[0]!r}? A method of your own needs another name",
                code="E_STRATEGY",
            )


def overrides(strategy: Strategy, callback: str) -> bool:
    """Whether the class has a callback of its own."""
    return getattr(type(strategy), callback) is not getattr(Strategy, callback)

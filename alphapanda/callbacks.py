"""Running what a quant wrote: every callback goes through here, and what it breaks stays with its own strategy."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from alphapanda.errors import ValidationError
from alphapanda.events import Fill
from alphapanda.instruments import Instrument
from alphapanda.orders import Order
from alphapanda.result import LogLine, RunError
from alphapanda.strategy import CALLBACKS, Strategy, overrides

if TYPE_CHECKING:
    from alphapanda.engine import Engine

LOG_LINES = 10_000  # kept; more are counted
KINDS = (
    ("async", inspect.iscoroutinefunction),
    ("an async generator", inspect.isasyncgenfunction),
    ("a generator", inspect.isgeneratorfunction),
)
PACKAGE = str(Path(__file__).parent)


class Callbacks:
    """The strategies of one engine, as something that can be called and halted one by one."""

    def __init__(self, engine: Engine, strategies: tuple[Strategy, ...]) -> None:
        self._engine = engine
        self._strategies = strategies
        self.halted = [""] * len(strategies)  # why, by owner; "" while it runs
        self.logs_dropped = 0
        self._on_order = [s.on_order if overrides(s, "on_order") else None for s in strategies]
        self.hears = [overrides(s, "on_order") or overrides(s, "on_fill") for s in strategies]
        self._on_fill = [s.on_fill if overrides(s, "on_fill") else None for s in strategies]

    def run(self, owner: int, name: str, call: Callable[..., Any], *arguments: Any) -> None:
        """Call a callback unless its strategy is halted; if it raises, it is halted and everything else goes on."""
        if self.halted[owner]:
            return
        engine = self._engine
        matching, engine.matching = engine.matching, False
        try:
            call(*arguments)
        except Exception as error:  # noqa: BLE001 - a strategy may raise anything; it alone is halted
            self.failed(owner, name, getattr(arguments[0], "symbol", "") if arguments else "", error)
        engine.matching = matching

    def order_changed(self, order: Order) -> None:
        """An order has a new status: its strategy hears of it."""
        call = self._on_order[order.owner]
        if call is not None:
            self.run(order.owner, "on_order", call, order)

    def order_filled(self, fill: Fill, owner: int) -> None:
        """The books hold a new fill: its strategy hears of it."""
        call = self._on_fill[owner]
        if call is not None:
            self.run(owner, "on_fill", call, fill)

    def failed(self, owner: int, callback: str, symbol: str, error: Exception) -> None:
        """Keep what was raised, with the line a quant can mend, and halt the strategy."""
        file, line = _blame(error.__traceback__)
        seq, ts = self._engine.position_of()
        text = "".join(traceback.format_exception(error))
        message = f"{type(error).__name__}: {error}"
        name = self._strategies[owner].name
        self._engine.result.errors.append(
            RunError(name, callback, symbol, ts, seq, file, line, message, text)
        )
        self.halt(owner, f"{callback} raised {type(error).__name__} at {Path(file).name}:{line}")

    def halt(self, owner: int, reason: str) -> None:
        """No more callbacks for this strategy; its entries are withdrawn, its protective exits stay."""
        if self.halted[owner]:
            return
        self.halted[owner] = reason
        _, ts, _ = self._engine.place_of()
        self._engine.desk.withdraw_entries(owner, "its strategy is halted", ts)
        self._engine.route()

    def log(self, owner: int, message: str, fields: dict[str, Any]) -> None:
        """Keep one line of a strategy's log; beyond the bound lines are counted, not kept."""
        logs = self._engine.result.logs
        if len(logs) < LOG_LINES:
            seq, ts = self._engine.position_of()
            logs.append(LogLine(ts, seq, self._strategies[owner].name, message, fields))
        else:
            self.logs_dropped += 1


def _blame(tb: TracebackType | None) -> tuple[str, int]:
    """File and line of the innermost frame that is not the platform's own: the line a quant can mend."""
    found = ("", 0)
    while tb is not None:
        file = tb.tb_frame.f_code.co_filename
        if not file.startswith(PACKAGE) or not found[0]:
            found = file, tb.tb_lineno
        tb = tb.tb_next
    return found


def check(strategies: Sequence[Strategy], instruments: tuple[Instrument, ...]) -> None:
    """Refuse what could never run: no strategy, a class, an async callback, two of one name."""
    if not strategies:
        raise ValidationError(
            "no strategy is given", fix="pass at least one Strategy instance", code="E_STRATEGY"
        )
    if not instruments:
        raise ValidationError("the data holds no instrument", fix="pass a tape with ticks", code="E_DATA")
    names: set[str] = set()
    for strategy in strategies:
        if isinstance(strategy, type):
            raise ValidationError(
                f"{strategy.__name__} is a class",
                fix=f"pass an instance: {strategy.__name__}()",
                code="E_STRATEGY",
            )
        if not isinstance(strategy, Strategy):  # pyright: ignore[reportUnnecessaryIsInstance] - notebooks pass anything
            raise ValidationError(
                f"{strategy!r} is not a Strategy", fix="pass instances of Strategy classes", code="E_STRATEGY"
            )
        if "_bound" not in vars(strategy):
            raise ValidationError(
                f"{type(strategy).__name__}.__init__ does not call super().__init__()",
                fix="declare parameters with Param and leave __init__ out, or call super().__init__(**values) first",
                code="E_STRATEGY",
            )
        for callback in CALLBACKS:
            function = getattr(strategy, callback)
            for kind, is_one in KINDS:
                if is_one(function):
                    raise ValidationError(
                        f"{strategy.name}.{callback} is {kind}: calling it runs nothing",
                        fix="write a plain def without await and yield",
                        code="E_STRATEGY",
                    )
        if not any(overrides(strategy, callback) for callback in CALLBACKS):
            raise ValidationError(
                f"{strategy.name} overrides no callback, so nothing can call it",
                fix="write on_tick, on_bar, on_ticks, or set timers in on_start",
                code="E_STRATEGY",
            )
        if strategy.name in names:
            raise ValidationError(
                f"two strategies are called {strategy.name}",
                fix='give each its own name: name="..."',
                code="E_STRATEGY",
            )
        names.add(strategy.name)

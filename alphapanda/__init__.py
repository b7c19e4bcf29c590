"""Alpha Panda: one Strategy class from a notebook to recorded ticks, to paper, to Zerodha.

The public names, loaded when first used: ``import alphapanda as ap`` stays light.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alphapanda.errors import AlphaPandaException as AlphaPandaException
    from alphapanda.events import IST as IST
    from alphapanda.events import Bar as Bar
    from alphapanda.events import Fill as Fill
    from alphapanda.events import Signal as Signal
    from alphapanda.events import Tick as Tick
    from alphapanda.exchange import Fills as Fills
    from alphapanda.feeds.kite_gaps import gaps as gaps
    from alphapanda.hindsight.beside import drift as drift
    from alphapanda.indicators import ATR as ATR
    from alphapanda.indicators import EMA as EMA
    from alphapanda.indicators import MACD as MACD
    from alphapanda.indicators import RSI as RSI
    from alphapanda.indicators import SMA as SMA
    from alphapanda.indicators import VWAP as VWAP
    from alphapanda.indicators import WMA as WMA
    from alphapanda.indicators import Bollinger as Bollinger
    from alphapanda.indicators import Donchian as Donchian
    from alphapanda.indicators import OpeningRange as OpeningRange
    from alphapanda.indicators import RollingMax as RollingMax
    from alphapanda.indicators import RollingMin as RollingMin
    from alphapanda.indicators import RollingStd as RollingStd
    from alphapanda.indicators import Stochastic as Stochastic
    from alphapanda.indicators import SuperTrend as SuperTrend
    from alphapanda.instruments import Instrument as Instrument
    from alphapanda.notebook.handle import Run as Run
    from alphapanda.notebook.login import login as login
    from alphapanda.notebook.session import Session as Session
    from alphapanda.notebook.session import connect as connect
    from alphapanda.notebook.session import connect_sync as connect_sync
    from alphapanda.orders import Order as Order
    from alphapanda.portfolio import Position as Position
    from alphapanda.proofs.proof import Proof as Proof
    from alphapanda.proofs.proof import prove as prove
    from alphapanda.registry import Registry as Registry
    from alphapanda.replay import backtest as backtest
    from alphapanda.report.report import Report as Report
    from alphapanda.risk import Limits as Limits
    from alphapanda.rulebook import Rulebook as Rulebook
    from alphapanda.settings import Settings as Settings
    from alphapanda.strategy import Param as Param
    from alphapanda.strategy import Strategy as Strategy
    from alphapanda.sweeps import sweep as sweep
    from alphapanda.synthetic import synthetic_day as synthetic_day
    from alphapanda.tapes.dayevents import day_events as day_events
    from alphapanda.tapes.readers import read_bars as read_bars
    from alphapanda.tapes.readers import read_ticks as read_ticks
    from alphapanda.tapes.readers import tape as tape
    from alphapanda.tapes.tape import Tape as Tape
    from alphapanda.zerodha.history import kite_candles as kite_candles

_HOME = {
    "errors": ("AlphaPandaException",),
    "events": ("IST", "Bar", "Fill", "Signal", "Tick"),
    "exchange": ("Fills",),
    "feeds.kite_gaps": ("gaps",),
    "hindsight.beside": ("drift",),
    "indicators": (
        "ATR", "EMA", "MACD", "RSI", "SMA", "VWAP", "WMA", "Bollinger", "Donchian", "OpeningRange", "RollingMax",
        "RollingMin", "RollingStd", "Stochastic", "SuperTrend",
    ),
    "instruments": ("Instrument",),
    "notebook.handle": ("Run",),
    "notebook.login": ("login",),
    "notebook.session": ("Session", "connect", "connect_sync"),
    "orders": ("Order",),
    "portfolio": ("Position",),
    "proofs.proof": ("Proof", "prove"),
    "registry": ("Registry",),
    "replay": ("backtest",),
    "report.report": ("Report",),
    "risk": ("Limits",),
    "rulebook": ("Rulebook",),
    "settings": ("Settings",),
    "strategy": ("Param", "Strategy"),
    "sweeps": ("sweep",),
    "synthetic": ("synthetic_day",),
    "tapes.dayevents": ("day_events",),
    "tapes.readers": ("read_bars", "read_ticks", "tape"),
    "tapes.tape": ("Tape",),
    "zerodha.history": ("kite_candles",),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted(_MODULE_OF)  # pyright: ignore[reportUnsupportedDunderAll] - one table; a test holds it to what imports


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("alphapanda")
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(
            f"module 'alphapanda' has no attribute {name!r}", name=name, obj=sys.modules[__name__]
        )
    value = getattr(import_module(f"alphapanda.{module}"), name)
    globals()[name] = value
    return value


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext alphapanda``: the magics, such as ``%ap status``."""
    from alphapanda.notebook import magics

    magics.load_ipython_extension(shell)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""What is proved: a frozen strategy with all that has a say in its decisions, but the ticks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from alphapanda.capsule import Capsule, load
from alphapanda.exchange import Fills
from alphapanda.risk import Limits
from alphapanda.strategy import Strategy

FILE = "strategy.py"


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """``capital`` is paise; ``trade_from`` the tape time (ns) from which callbacks run, 0: from the first tick."""

    capsule: Capsule
    name: str
    parameters: dict[str, Any]
    symbols: list[str]
    capital: int
    seed: int = 0
    limits: Limits
    fills: Fills
    trade_from: int = 0

    def strategy(self, file: str = "") -> Strategy:
        """A fresh instance of the frozen class; ``file`` is the name its lines go by, as ``load`` takes it."""
        kind = load(self.capsule.source, self.capsule.class_name, file or FILE)
        made = kind(name=self.name, **self.parameters)
        made.symbols = list(self.symbols)
        return made

    def keep(self, folder: Path) -> Path:
        """Write it for another process."""
        path = folder / "case.msgpack"
        path.write_bytes(msgspec.msgpack.encode(self))
        return path

    @classmethod
    def read(cls, path: Path) -> Case:
        """What ``keep`` wrote."""
        return msgspec.msgpack.decode(path.read_bytes(), type=cls)

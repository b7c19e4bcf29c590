"""Whole blocks of ticks, as a block strategy sees them."""

from __future__ import annotations

from operator import index as as_index
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from alphapanda.errors import UnknownNameError, ValidationError
from alphapanda.events import Ints

if TYPE_CHECKING:
    from alphapanda.engine import Engine


class TickBlock:
    """Consecutive ticks of one strategy's symbols, as columns of one length; prices in rupees.

    ``ts`` int64 ns, ``price`` float64, ``volume`` int64 or None, ``bid``/``ask`` float64 or None, ``code`` the position
    of each row's symbol in ``symbols``. Decide with ``buy(symbol, n, at=row)``: the order is checked as of that row
    and fills after it. Looking at later rows than ``at`` is looking ahead.
    """

    def __init__(self, engine: Engine, owner: int, rows: Any, start: int) -> None:
        block = engine.block
        scale = engine.scale_of(block.instrument[rows])
        self.symbols = tuple(engine.instruments[i].symbol for i in engine.host.universe[owner])
        self.ts: Ints = block.ts[rows]
        self.price: npt.NDArray[np.float64] = block.price[rows] / scale
        self.volume = None if block.volume is None else block.volume[rows]
        self.bid = None if block.bid is None else block.bid[rows] / scale
        self.ask = None if block.ask is None else block.ask[rows] / scale
        for column in (self.ts, self.price, self.volume, self.bid, self.ask):
            if column is not None:
                column.flags.writeable = False
        self._indexes: Ints = block.instrument[rows]
        self._universe = engine.host.universe[owner]
        self._rows = None if isinstance(rows, slice) else rows
        self._start = start
        self._groups: dict[str, Ints] | None = None

    @classmethod
    def cut(cls, engine: Engine, owner: int, start: int, end: int) -> TickBlock:
        """The rows of [start, end) that this strategy may see."""
        rows: Any = slice(start, end)
        live = engine.seen_by(owner)
        if live is not None:
            mask = live[engine.block.instrument[rows]]
            if not mask.all():
                rows = np.flatnonzero(mask) + start
        return cls(engine, owner, rows, start)

    def __len__(self) -> int:
        return len(self.ts)

    @property
    def code(self) -> Ints:
        """Each row's position in ``symbols``."""
        table = np.zeros(max(self._universe, default=0) + 1, np.int64)
        table[list(self._universe)] = np.arange(len(self._universe))
        return table[self._indexes]

    def rows(self, symbol: str) -> Ints:
        """The rows of one symbol, ascending."""
        if self._groups is None:
            narrow = self._indexes.astype(np.int16) if max(self._universe) < 32_768 else self._indexes
            order = np.argsort(narrow, kind="stable")
            counts = np.bincount(self._indexes, minlength=max(self._universe) + 1)
            ends = np.cumsum(counts)
            self._groups = {
                name: order[ends[i] - counts[i] : ends[i]]
                for name, i in zip(self.symbols, self._universe, strict=True)
            }
        rows = self._groups.get(symbol)
        if rows is None:
            raise UnknownNameError("symbol of this block", str(symbol), self.symbols, code="E_SYMBOL")
        return rows

    def tape_row(self, at: int | None) -> int:
        """The row of the tape's block behind a row of this one; None is the last."""
        last = len(self) - 1
        position = last if at is None else as_index(at) if hasattr(at, "__index__") else -1
        if not 0 <= position <= last:
            raise ValidationError(
                f"at={at} is not a row of this block", fix=f"use 0 to {last}", code="E_SIGNAL"
            )
        return self._start + position if self._rows is None else int(self._rows[position])

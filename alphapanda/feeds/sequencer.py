"""The one order of ticks: every row gets its number here, and time never goes back.

Rules. Rows are numbered without a gap over the feed's life, frames too. A row's ``ts`` is at or after every row and
every clock before it: what comes late is stamped with the clock, never reordered. What cannot be true is quarantined:
counted by reason, never published. Rows of a tape were judged when it was made, so of them only prices of zero or less
are; rows of a live venue are also held against the wall clock and their own past.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np

from alphapanda.buses.frames import COLUMNS, KINDS, Frame, heartbeat
from alphapanda.events import MINUTE, Block, Ints, ist_day

ROWS_MAX = 1_000  # of a frame
LARGEST_PRICE = 2**53  # whole as a float too
LARGEST = 2**62
IMPOSSIBLE = frozenset((2**31 - 1, 2**32 - 1))  # what fields without a value are filled with
JUMP = 20  # a price this many times the last one, or one in this many, is doubted
AGREE = 2  # later ticks within this ratio of the doubted one speak for it
WITNESSES = 3  # so many in a row that agree are believed


class LiveRow(msgspec.Struct, frozen=True, gc=False):
    """One tick as a venue sent it; ``instrument`` indexes the feed's table, ``ts`` is the venue's stamp in ns."""

    instrument: int
    ts: int
    price: int
    volume: int = 0
    bid: int = 0
    ask: int = 0
    bid_quantity: int = 0
    ask_quantity: int = 0


def sound(block: Block) -> Block:
    """The rows of a playback that may be published. Depends on each row alone, so a restart finds its place again."""
    if not len(block) or int(block.price.min()) > 0:
        return block
    return chosen(block, np.flatnonzero(block.price > 0))


def chosen(block: Block, rows: Ints | slice) -> Block:
    """Some rows of a block."""
    columns = (getattr(block, name) for name in COLUMNS)
    return Block(block.first, *[None if c is None else c[rows] for c in columns])  # pyright: ignore[reportArgumentType]  # ts, instrument and price always exist


class Sequencer:
    """Numbers rows and cuts them into frames; starts after the frame, row and clock it is given.

    ``quarantined`` counts by reason; ``suspect`` holds instruments whose newest live row was one of them.
    """

    def __init__(self, number: int = 0, rows: int = 0, clock: int = 0) -> None:
        self.number, self.rows, self.clock = number, rows, clock
        self.quarantined: Counter[str] = Counter()
        self.suspect: set[int] = set()
        self._pending: list[Block] = []
        self._last: dict[int, int] = {}  # newest accepted price of live instruments
        self._doubted: dict[int, tuple[int, int]] = {}  # price that was doubted, and how many agreed

    @property
    def pending(self) -> bool:
        """Rows wait for the next flush."""
        return bool(self._pending)

    def add(self, block: Block) -> None:
        """Rows of a playback, sorted by time."""
        kept = sound(block)
        if len(kept) < len(block):
            self.quarantined["price"] += len(block) - len(kept)
        if len(kept):
            self._pending.append(kept)

    def add_live(self, rows: Sequence[LiveRow], *, wall: int, clock: int) -> None:
        """Rows of a venue in the order they came, heard at ``wall``; they are stamped with the tape's ``clock``."""
        kept: list[LiveRow] = []
        for row in rows:
            reason = self._fault(row, wall)
            if reason:
                self.quarantined[reason] += 1
                self.suspect.add(row.instrument)
            else:
                self.suspect.discard(row.instrument)
                self._last[row.instrument] = row.price
                kept.append(row)
        if kept:
            table = np.array([msgspec.structs.astuple(row) for row in kept], np.int64).T
            instrument, _, *rest = (np.ascontiguousarray(column) for column in table)
            self._pending.append(Block(0, np.full(len(kept), clock, np.int64), instrument, *rest))

    def flush(self, clock: int, universe: int) -> list[Frame]:
        """What was added since, as frames of at most 1,000 rows; a heartbeat if that is nothing.

        The last frame's clock is ``clock``, or the newest row's time if that is later.
        """
        if not self._pending:
            self.clock = max(self.clock, clock)
            self.number += 1
            return [heartbeat(self.number, self.clock, universe, self.rows)]
        block = self._ordered(_joined(self._pending))
        self._pending = []
        frames: list[Frame] = []
        total = len(block)
        for low in range(0, total, ROWS_MAX):
            part = chosen(block, slice(low, low + ROWS_MAX))
            reached = int(part.ts[-1])
            self.clock = max(reached, clock) if low + ROWS_MAX >= total else reached
            self.number += 1
            part = msgspec.structs.replace(part, first=self.rows)
            frames.append(Frame(self.number, self.clock, universe, part))
            self.rows += len(part)
        return frames

    def _ordered(self, block: Block) -> Block:
        ts = block.ts
        if int(ts[0]) >= self.clock and (len(ts) == 1 or int(np.diff(ts).min()) >= 0):
            return block
        return msgspec.structs.replace(block, ts=np.maximum.accumulate(np.maximum(ts, self.clock)))

    def _fault(self, row: LiveRow, wall: int) -> str:
        """Why a live row cannot be true; "" if it can."""
        price = row.price
        if price <= 0 or price in IMPOSSIBLE or price > LARGEST_PRICE:
            return "price"
        others = (row.volume, row.bid, row.ask, row.bid_quantity, row.ask_quantity)
        if min(others) < 0 or max(others) > LARGEST:
            return "quantity"
        if ist_day(row.ts) not in (ist_day(wall - MINUTE), ist_day(wall + MINUTE)):
            return "stamp"
        last = self._last.get(row.instrument)
        if last is None or last < price * JUMP < last * JUMP * JUMP:
            self._doubted.pop(row.instrument, None)
            return ""
        before, agreed = self._doubted.get(row.instrument, (price, 0))
        agreed = agreed + 1 if before < price * AGREE < before * AGREE * AGREE else 1
        if agreed >= WITNESSES:
            del self._doubted[row.instrument]
            return ""
        self._doubted[row.instrument] = price, agreed
        return "jump"


def _joined(blocks: list[Block]) -> Block:
    """Blocks one after another; a column that only some have is 0 in the others."""
    if len(blocks) == 1:
        return blocks[0]
    names = [name for name in COLUMNS if any(getattr(b, name) is not None for b in blocks)]
    columns = {
        name: np.concatenate(
            [np.zeros(len(b), KINDS[name]) if getattr(b, name) is None else getattr(b, name) for b in blocks]
        )
        for name in names
    }
    return Block(0, **columns)  # pyright: ignore[reportArgumentType]  # names and kinds are Block's

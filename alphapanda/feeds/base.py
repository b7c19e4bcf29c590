"""What a source of ticks is: a playback that leads the clock through days, or a venue that is listened to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from alphapanda.clock import wall_ns
from alphapanda.errors import ConfigurationError
from alphapanda.events import Block, Ints
from alphapanda.feeds.sequencer import LiveRow, chosen, sound
from alphapanda.instruments import Instrument


class Universe:
    """The feed's table of instruments: one entry a symbol, in the order they were first met; it only grows."""

    def __init__(self, instruments: Iterable[Instrument] = ()) -> None:
        self.instruments: list[Instrument] = []
        self.topics: list[str] = []
        self.index: dict[str, int] = {}
        self.add(instruments)

    def __len__(self) -> int:
        return len(self.instruments)

    def add(self, instruments: Iterable[Instrument]) -> Ints:
        """The index of each of ``instruments``, new ones appended.

        A symbol keeps the description it came with. Raises ConfigurationError for one whose prices or quantities are
        now counted in other units: rows that lie in the log would change their meaning.
        """
        found: list[int] = []
        for one in instruments:
            at = self.index.get(one.symbol)
            if at is None:
                at = self.index[one.symbol] = len(self.instruments)
                self.instruments.append(one)
                self.topics.append(one.topic)
            known = self.instruments[at]
            if (known.price_scale, known.quantity_scale) != (one.price_scale, one.quantity_scale):
                raise ConfigurationError(
                    f"{one.symbol} was recorded here with price scale {known.price_scale} and quantity scale "
                    f"{known.quantity_scale}; this source has {one.price_scale} and {one.quantity_scale}",
                    fix="use another workspace for this source",
                    symbol=one.symbol,
                )
            found.append(at)
        return np.array(found, np.int64)


class Day:
    """One trading day of a playback: its rows in order, each handed out once.

    ``key`` names the rows: days of equal key have equal rows. ``opens`` is the tape time at which the day begins (0:
    with its first row), ``closes`` at which it ends. ``blocks`` index ``instruments``; what is handed out indexes the
    feed's table. ``quarantined`` counts rows with impossible prices, which are left out.
    """

    def __init__(
        self, key: str, instruments: tuple[Instrument, ...], opens: int, closes: int, blocks: Iterable[Block]
    ) -> None:
        self.key, self.instruments, self.quarantined = key, instruments, 0
        self._opens, self._closes = opens, closes
        self._blocks = Ahead(map(self._judged, blocks))
        self._block: Block | None = None
        self._at = 0
        self._lookup: Ints | None = None

    @property
    def opens(self) -> int:
        """Tape time at which the day begins."""
        head = self._head()
        return self._opens or (self._closes if head is None else int(head.ts[self._at]))

    @property
    def closes(self) -> int:
        """Tape time of its end: never before a row that was handed out."""
        return self._closes

    @property
    def exhausted(self) -> bool:
        """Every row was handed out."""
        return self._head() is None

    def place(self, lookup: Ints) -> None:
        """Hand out ``lookup[i]`` where the blocks say instrument ``i``."""
        self._lookup = None if np.array_equal(lookup, np.arange(len(lookup))) else lookup

    def skip(self, rows: int) -> None:
        """Leave out the first ``rows``: they are published."""
        while rows > 0 and (block := self._head()) is not None:
            step = min(rows, len(block) - self._at)
            self._cut(block, self._at + step)
            rows -= step

    def until(self, ts: int) -> Iterator[Block]:
        """The rows that are due at ``ts``."""
        while (block := self._head()) is not None:
            end = int(np.searchsorted(block.ts, ts, "right"))
            if end <= self._at:
                return
            yield self._cut(block, end)

    def take(self, rows: int) -> Block | None:
        """At most ``rows`` of the next ones; None when there are no more."""
        block = self._head()
        return None if block is None else self._cut(block, min(len(block), self._at + rows))

    def close(self) -> None:
        """No more rows are wanted."""
        self._blocks.close()

    def _judged(self, block: Block) -> Block:
        kept = sound(block)
        self.quarantined += len(block) - len(kept)
        return kept

    def _head(self) -> Block | None:
        """The block that holds the next row."""
        while self._block is None or self._at >= len(self._block):
            self._block, self._at = next(self._blocks, None), 0
            if self._block is None:
                return None
        return self._block

    def _cut(self, block: Block, end: int) -> Block:
        part = chosen(block, slice(self._at, end))
        self._at = end
        self._closes = max(self._closes, int(part.ts[-1]))
        if self._lookup is None:
            return part
        columns = (part.volume, part.bid, part.ask, part.bid_quantity, part.ask_quantity)
        return Block(part.first, part.ts, self._lookup[part.instrument], part.price, *columns)


class Ahead(Iterator[Any]):
    """The same items, the next one made in a thread while the last is used: no stall between two blocks."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items = iter(items)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._next = self._pool.submit(next, self._items, None)

    def __next__(self) -> Any:
        found = self._next.result()
        if found is None:
            self.close()
            raise StopIteration
        self._next = self._pool.submit(next, self._items, None)
        return found

    def close(self) -> None:
        """Make no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Playback(ABC):
    """A source that is played day after day and leads the tape clock."""

    @abstractmethod
    def days(self, clock: int, key: str) -> Iterator[Day]:
        """The days from the one called ``key`` on; where that is none of its days, those after the time ``clock``.

        Raises ConfigurationError when it has rows that lie before ``clock``: time does not go back.
        """


class Venue(ABC):
    """A live source outside: told which instruments are wanted, asked for what it heard."""

    @abstractmethod
    async def start(self) -> None:
        """Begin; connects when the first instrument is watched."""

    @abstractmethod
    async def stop(self) -> None:
        """End; nothing is heard after."""

    @abstractmethod
    def takes(self, symbol: str) -> bool:
        """It can bring this symbol, as far as its name tells."""

    @abstractmethod
    def watch(self, instrument: Instrument, index: int) -> None:
        """Listen to one more; its rows carry ``index``."""

    @abstractmethod
    def unwatch(self, instrument: Instrument) -> None:
        """Listen to one less."""

    @abstractmethod
    def drain(self) -> list[LiveRow]:
        """The rows heard since the last call."""

    def wall(self) -> int:
        """The time at the venue (ns UTC), which its stamps are held against: the machine's, unless it is a sandbox."""
        return wall_ns()

    @abstractmethod
    def health(self) -> dict[str, Any]:
        """Plain values: ``state``, ``stale`` symbols, ``gaps`` and counts."""

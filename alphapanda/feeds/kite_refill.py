"""Fills the ticker's gaps from Kite's historical candles: beside the tape, never into it.

Rules. A gap is put on record as soon as it has ended, a part for each IST day in which something traded meanwhile. Its
minutes are asked for when the last of them has closed and settled (the newest candle may still be revised: Kite forum
6011), one call a symbol, three calls a second at most (Kite docs, exceptions). A symbol of which less than a minute of
trading was missed is not asked for; of a gap, so many symbols are, of the last days so many; what is left out is said
and counted. A feed that was ended meanwhile takes up the day's open gaps at its next start.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from alphapanda import logs
from alphapanda.clock import monotonic
from alphapanda.errors import AlphaPandaException, AuthenticationError, DataError
from alphapanda.events import DAY, IST_OFFSET_NS, MINUTE, SECOND, Bar, ist_day
from alphapanda.feeds.connection import Gap
from alphapanda.feeds.kite_gaps import GapFile, Missed, Refilled, Settled, day_of
from alphapanda.feeds.kite_rest import Candle
from alphapanda.feeds.kite_rows import continuous
from alphapanda.instruments import Instrument
from alphapanda.rulebook import Rulebook

CALL_SECONDS = 0.36  # between two calls: three a second, with a margin for the server's second
SETTLE = 10 * SECOND  # after a minute's end, before its candle is asked for
LOOK_SECONDS = 0.5  # between two looks at the venue's clock, which may play faster than ours
TRIES = 3  # of a call that got no answer
SYMBOLS_MAX = 200  # of a gap: 72 seconds of calls
DAYS_MAX = 5  # of a gap, the last ones: a long week-end
GAPS_MAX = 100  # that wait; more come only from a line that breaks each minute

Ask = Callable[[int, int, int], list[Candle]]  # token, from and to (ns): its minute candles. Blocks.


class Span(NamedTuple):
    """What is to be asked of a symbol: whole minutes (ns), and since when it traded."""

    opens: int
    first: int
    last: int


class Refills:
    """Gaps in, lines in the files of ``folder`` out.

    ``listed`` describes a symbol today, None if it is on no list; ``now`` is the venue's time (ns).
    """

    def __init__(
        self,
        folder: Path,
        ask: Ask,
        listed: Callable[[str], Instrument | None],
        rulebook: Rulebook,
        now: Callable[[], int],
    ) -> None:
        self._folder, self._ask, self._listed = folder, ask, listed
        self._rulebook, self._now = rulebook, now
        self._waiting: asyncio.Queue[Missed] = asyncio.Queue(GAPS_MAX)
        self._taken: set[Missed] = set()
        self._next = 0.0  # monotonic time before which no call is made
        self._counts: Counter[str] = Counter(candles=0, left_out=0)
        self._fault = ""
        self._log = logs.channel("application")

    async def take(self, gap: Gap) -> None:
        """A gap has ended. One without symbols had no ticks to miss."""
        for start, end in _days(gap.start, gap.end) if gap.symbols else ():
            if not any(list(self._spans(symbol, start, end)) for symbol in gap.symbols):
                continue
            try:
                missed = GapFile(self._folder, day_of(start)).open_gap(start, end, gap.reason, gap.symbols)
            except OSError as error:
                self._failed(f"a gap is not on record: {error.strerror}")
                continue
            self._wait(missed)

    async def run(self) -> None:
        """Fetch what is missing until cancelled."""
        self._resume()
        while True:
            missed = await self._waiting.get()
            try:
                await self._fill(missed)
            except OSError as error:
                self._failed(f"candles of a gap are not on record: {error.strerror}")
            finally:
                self._waiting.task_done()

    def health(self) -> dict[str, Any]:
        """Plain values: gaps that wait, candles on record, symbols left out, and what last went wrong."""
        return {"waiting": self._waiting.qsize(), **self._counts, "fault": self._fault}

    def _resume(self) -> None:
        lines = GapFile(self._folder, day_of(self._now())).lines()
        settled = {line.number for line in lines if isinstance(line, Settled)}
        for line in lines:
            if isinstance(line, Missed) and line.number not in settled:
                self._wait(line)

    def _wait(self, missed: Missed) -> None:
        if missed in self._taken:
            return
        try:
            self._waiting.put_nowait(missed)
            self._taken.add(missed)
        except asyncio.QueueFull:  # stays open on record, so the next start takes it up
            self._failed("more gaps than can be filled")

    async def _fill(self, missed: Missed) -> None:
        file = GapFile(self._folder, day_of(missed.start))
        spans = {one: list(self._spans(one, missed.start, missed.end)) for one in missed.symbols}
        wanted = {symbol: found for symbol, found in spans.items() if _lost(found, missed) >= MINUTE}
        left_out = {one: "less than a minute of trading" for one in missed.symbols if one not in wanted}
        left_out |= {one: "not on today's list" for one in missed.symbols if self._listed(one) is None}
        due = max((found[-1].last + SETTLE for found in wanted.values()), default=0)
        while self._now() < due:  # noqa: ASYNC110 - the venue's clock has no alarm, and may be set
            await asyncio.sleep(LOOK_SECONDS)
        lines = await asyncio.to_thread(file.lines)
        on_record = {x.symbol for x in lines if isinstance(x, Refilled) and x.number == missed.number}
        refused = ""
        for number, symbol in enumerate(one for one in wanted if one not in on_record):
            reason = f"more than {SYMBOLS_MAX} symbols" if number >= SYMBOLS_MAX else refused
            if not reason:
                try:
                    bars = await self._bars(symbol, wanted[symbol])
                except AlphaPandaException as error:
                    reason = error.message
                    refused = "" if isinstance(error, DataError) else reason
                    self._failed(f"{symbol}: {reason}")
                else:
                    await asyncio.to_thread(file.add, Refilled(missed.number, symbol, bars))
                    self._counts["candles"] += len(bars)
            if reason:
                left_out[symbol] = reason
                self._counts["left_out"] += 1
        await asyncio.to_thread(file.add, Settled(missed.number, left_out))
        self._log.info("feed.refilled", venue="kite", symbols=len(wanted), left_out=len(left_out))

    async def _bars(self, symbol: str, spans: list[Span]) -> tuple[Bar, ...]:
        """The candles of the spans. Raises what the broker's refusal means."""
        instrument = self._listed(symbol)
        if instrument is None:
            raise DataError(f"{symbol} is not on today's list", fix="ask for its candles by hand")
        rows = await self._called(instrument.token, spans[0].first, spans[-1].last - SECOND)
        return tuple(
            Bar(symbol, "1m", row.ts, row.ts + MINUTE, *row[1:], (row.ts + MINUTE - span.opens) // MINUTE)
            for span in spans
            for row in rows
            if span.first <= row.ts < span.last
        )

    async def _called(self, token: int, start: int, end: int) -> list[Candle]:
        for attempt in range(TRIES):
            await asyncio.sleep(max(0.0, self._next - monotonic()))
            self._next = monotonic() + CALL_SECONDS
            try:
                return await asyncio.to_thread(self._ask, token, start, end)
            except (AuthenticationError, DataError):
                raise
            except AlphaPandaException:
                if attempt + 1 == TRIES:
                    raise
                await asyncio.sleep(1.0 + attempt)
        raise AssertionError  # the last attempt returns or raises

    def _spans(self, symbol: str, start: int, end: int) -> Iterator[Span]:
        """The whole minutes of continuous trading that a part of one day touches."""
        instrument = self._listed(symbol)
        for opens, closes in continuous(self._rulebook, instrument, ist_day(start)) if instrument else ():
            if max(opens, start) < min(closes, end):
                first, last = max(opens, start) // MINUTE * MINUTE, -(-min(closes, end) // MINUTE) * MINUTE
                yield Span(opens, first, last)

    def _failed(self, fault: str) -> None:
        self._fault = fault
        self._log.warning("feed.not_refilled", venue="kite", error=fault)


def _days(start: int, end: int) -> list[tuple[int, int]]:
    """The parts of a gap by IST day, the last of them."""
    parts: list[tuple[int, int]] = []
    for day in range(max(ist_day(start), ist_day(end) - DAYS_MAX + 1), ist_day(end) + 1):
        midnight = day * DAY - IST_OFFSET_NS
        parts.append((max(start, midnight), min(end, midnight + DAY - 1)))
    return parts


def _lost(spans: list[Span], missed: Missed) -> int:
    """Nanoseconds of trading within the gap."""
    return sum(min(span.last, missed.end) - max(span.first, missed.start) for span in spans)

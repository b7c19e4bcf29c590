"""What a strategy saw when it decided: found by playing its ticks again, up to the decision and no further.

The strategy is the real one. In research the real desk stands behind it; of a run that was live its half of the engine
is played as its own restart would, with the gateway's recorded answers. Nothing of this can change the run.
"""

from __future__ import annotations

import inspect
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any

import msgspec
import numpy as np

from alphapanda.bars import Bars
from alphapanda.engine import Engine
from alphapanda.events import Bar, Block, Clock, Ints, Signal
from alphapanda.hindsight.verdicts import Verdict
from alphapanda.indicators import Indicator
from alphapanda.strategy import Strategy

ROWS = 240  # ticks before the decision that are looked at, at least
BARS = 40  # or so many bars, if the strategy uses bars
AFTER = 1 / 3  # of the time shown before the decision: how much is shown after the order's end
SAMPLES = 160  # moments at which the indicators are read on the way
TICKED = ("on_tick", "on_ticks", "on_fill", "on_order")  # callbacks in which the row of the decision is known
STATE = 600  # characters of self.state that still count as small
HELPERS = inspect.getfile(Strategy)  # where buy and sell are

NO_TICKS = np.zeros(0, np.int64)

Event = Block | Clock


class Seen(msgspec.Struct, frozen=True):
    """One row of the tape: ``index`` is the instrument's."""

    row: int
    ts: int
    index: int
    units: int


class Scene(msgspec.Struct):
    """Around one decision: prices in units of the instrument, indicator values as the strategy reads them.

    ``ts`` and ``units`` are the symbol's ticks, before and after; ``seen`` the tape's rows at the decision; ``bars``
    the last closed of each interval in use; ``values`` the indicators at the decision and ``lines`` on the way there,
    as times (ns) and values. ``file`` and ``line`` is where the order was placed ("" for a row of a block),
    ``callback`` what was called. ``missing`` says why indicators and state are not known.
    """

    ts: Ints
    units: Ints
    seen: list[Seen] = []
    bars: list[Bar] = []
    values: dict[str, float | None] = {}
    lines: dict[str, list[tuple[int, float]]] = {}
    state: str = ""
    file: str = ""
    line: int = 0
    callback: str = ""
    verdicts: list[Verdict] = []
    missing: str = ""

    def tick(self, signal: Signal) -> Seen | None:
        """The last tick that the strategy knew: at a bar's end or a timer, the signal's row is yet to come."""
        between = self.callback and self.callback not in TICKED
        rows = [one for one in self.seen if one.row < signal.seq or not (between or one.ts > signal.ts)]
        return rows[-1] if rows else None


class Reached(BaseException):
    """The play has come to the decision; not an error of the strategy, so not an Exception."""


class Parted(BaseException):
    """The strategy asked what it had not asked: it cannot be played again."""


# ── prices ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Trace:
    """The ticks of one instrument around a row of the tape."""

    def __init__(self, blocks: Iterable[Block], index: int, seq: int, until: int, span: int) -> None:
        """``span`` ns before the row's time, or ``ROWS`` ticks if those go back further; until ``until``, or a third as
        long again."""
        parts: list[tuple[Ints, Ints, Ints]] = []  # row number, time, price
        self.seen: list[Seen] = []  # the row before, and the row itself if the tape has it
        moment = begun = 0
        for block in blocks:
            for row in (seq - 1 - block.first, seq - block.first):
                if 0 <= row < len(block):
                    at = block.ts[row], block.instrument[row], block.price[row]
                    self.seen.append(Seen(block.first + row, *map(int, at)))
                    moment = int(block.ts[row])
            own = np.flatnonzero(block.instrument == index)
            parts.append((own + block.first, block.ts[own], block.price[own]))
            if block.first + len(block) <= seq:
                parts = _kept(parts, int(block.ts[-1]) - span if len(block) else 0)
                continue
            if not begun:
                begun, until = self._begin(parts, seq, moment, span, until)
            if len(block) and int(block.ts[-1]) > until:
                break
        if not begun:
            begun, until = self._begin(parts, seq, moment, span, until)
        rows, ts, units = _joined(parts)
        inside = (ts >= begun) & (ts <= until)
        self.rows, self.ts, self.units = rows[inside], ts[inside], units[inside]

    def _begin(
        self, parts: list[tuple[Ints, Ints, Ints]], seq: int, moment: int, span: int, until: int
    ) -> tuple[int, int]:
        """From when to when the ticks are kept."""
        rows, ts, _ = _joined(parts)
        before = ts[rows <= seq]
        if not len(before):
            return moment - span, max(until, moment)
        moment = moment or int(before[-1])
        begun = min(moment - span, int(before[-ROWS:][0]))
        return begun, max(until, moment) + round((moment - begun) * AFTER)

    def cuts(self, seq: int) -> list[int]:
        """Rows after which the indicators are read: spread over those before the decision, its own the last."""
        before = self.rows[self.rows < seq]
        if len(before) > SAMPLES:
            before = before[np.linspace(0, len(before) - 1, SAMPLES).astype(np.int64)]
        return before.tolist()


def _kept(parts: list[tuple[Ints, Ints, Ints]], since: int) -> list[tuple[Ints, Ints, Ints]]:
    """Without blocks so old that neither the time nor the number of ticks needs them."""
    count = sum(len(part[0]) for part in parts)
    while parts and (not len(parts[0][0]) or (count - len(parts[0][0]) >= ROWS and parts[0][1][-1] < since)):
        count -= len(parts.pop(0)[0])
    return parts


def _joined(parts: list[tuple[Ints, Ints, Ints]]) -> tuple[Ints, Ints, Ints]:
    if not parts:
        return NO_TICKS, NO_TICKS, NO_TICKS
    rows, ts, units = (np.concatenate(column) for column in zip(*parts, strict=True))
    return rows, ts, units


# ── the strategy ─────────────────────────────────────────────────────────────────────────────────────────────────


class Camera:
    """Reads one strategy's indicators of one symbol: those it registered, and those it keeps in attributes."""

    def __init__(self, engine: Engine, owner: int, index: int) -> None:
        self._engine, self._owner, self._index = engine, owner, index
        self.strategy: Strategy = engine.strategies[owner]
        self._instrument = engine.instruments[index]
        self.lines: dict[str, list[tuple[int, float]]] = {}

    def values(self) -> dict[str, float | None]:
        """Every output by name: ``sma``, or ``range.high`` where an indicator has several."""
        found: dict[str, float | None] = {}
        for name, one in self._indicators():
            outputs: Sequence[str] = getattr(one, "outputs", ("value",))
            for output in outputs:
                value: Any = getattr(one, output, None)
                if value is None or isinstance(value, int | float):
                    found[name if len(outputs) == 1 else f"{name}.{output}"] = value
        return found

    def sample(self, ts: int) -> None:
        """Put the values of now at the end of the lines."""
        for name, value in self.values().items():
            if value is not None:
                self.lines.setdefault(name, []).append((ts, value))

    def _indicators(self) -> Iterator[tuple[str, Any]]:
        registered = self._engine.host.indicators_of(self._owner, self._index)
        yield from registered.items()
        known = {id(one) for one in registered.values()}
        symbol = self._instrument.symbol
        attributes: dict[str, Any] = vars(self.strategy)
        for name, held in attributes.items():
            if isinstance(held, dict):
                by_symbol: dict[Any, Any] = held  # pyright: ignore[reportUnknownVariableType]
                held = by_symbol.get(symbol) or by_symbol.get(symbol.partition(":")[2])
            if isinstance(held, Indicator) and id(held) not in known:
                yield name, held

    def photograph(self, scene: Scene) -> None:
        """What there is at this moment."""
        scene.values, scene.lines = self.values(), self.lines
        bars: Bars = self._engine.day.bars
        closed = ((name, bars.closed.get((self._index, name))) for name in bars.intervals)
        scene.bars = [kept[-1] for _, kept in closed if kept]
        scene.state = _small(self.strategy)


def _small(strategy: Strategy) -> str:
    """``self.state`` as JSON, or how large it is."""
    held = vars(strategy.state)
    if not held:
        return ""
    try:
        told = msgspec.json.encode(held, enc_hook=repr).decode()
    except (TypeError, ValueError, OverflowError, RecursionError):
        return f"{len(held)} values that have no plain text"
    return told if len(told) <= STATE else f"{len(held)} values, {len(told):,} characters"


def look(
    engine: Engine,
    events: Iterable[Event],
    signal: Signal,
    index: int,
    owner: int,
    trace: Trace,
    scene: Scene,
) -> bool:
    """Play up to the decision and photograph it; False if it was not taken again."""
    camera = Camera(engine, owner, index)
    cuts = trace.cuts(signal.seq)
    try:
        for event in events:
            _step(engine, event, cuts, camera)
        engine.finish()
    except Reached as reached:
        camera.sample(signal.ts)
        camera.photograph(scene)
        scene.file, scene.line, scene.callback = _where(reached.__traceback__, camera.strategy)
        return True
    except Parted as parted:
        scene.missing = str(parted)
    else:
        scene.missing = "played again, the strategy did not take this decision"
    return False


def _step(engine: Engine, event: Event, cuts: list[int], camera: Camera) -> None:
    """Play an event, reading the indicators after the rows of ``cuts`` that are in it."""
    if not isinstance(event, Block):
        engine.step(event)
        return
    done, first = 0, event.first
    last = bisect_right(cuts, first + len(event) - 1)
    for cut in cuts[bisect_right(cuts, first - 1) : last]:
        engine.step(event.rows(done, cut + 1 - first))
        done = cut + 1 - first
        camera.sample(int(event.ts[done - 1]))
    if done < len(event):
        engine.step(event.rows(done, len(event)) if done else event)


def _where(tb: TracebackType | None, strategy: Strategy) -> tuple[str, int, str]:
    """File and line from which the order was placed, and the callback of the strategy that led there."""
    file, line, callback = "", 0, ""
    while tb is not None:
        code = tb.tb_frame.f_code
        if code.co_filename == HELPERS:
            break
        if callback or tb.tb_frame.f_locals.get("self") is strategy:
            file, line, callback = code.co_filename, tb.tb_lineno, callback or code.co_name
        tb = tb.tb_next
    return file, line, callback


def span_of(intervals: Iterable[int]) -> int:
    """How much time before the decision is shown: so many of the shortest bars in use; 0 without bars."""
    shortest = min(intervals, default=0)
    return BARS * shortest

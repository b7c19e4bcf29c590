"""The engine of one run: it plays frames, asks a gateway, and repeats an earlier life where there was one.

``Run`` is played by a runner's thread, with a gateway at the other end, or by a proof of a day that was, with what the
gateway said then. Which of the two it is, it cannot tell: that is what makes the second a proof.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np

from alphapanda.account import Account
from alphapanda.buses.frames import COLUMNS, Frame
from alphapanda.buses.tapelog import TapeLog
from alphapanda.clock import monotonic
from alphapanda.day import LAST
from alphapanda.engine import Engine
from alphapanda.events import Block, Clock, Halt
from alphapanda.mirror import Mirror
from alphapanda.requests import Place, Reply, Request
from alphapanda.rulebook import Rulebook
from alphapanda.strategy import Strategy
from alphapanda.workspace import RunSpec, replace_file

MOST_ROWS = 8_192  # rows given to the engine at once when it is behind
WIND_DOWN = 5.0  # seconds for the last orders of a run that is stopped
UNLIKE = "not reproducible"  # the strategy: it depends on something that is not on the tape


class Ended(BaseException):
    """No answer can come any more, while the engine waits; not an error of the strategy, so not an Exception."""


class Stop(msgspec.Struct, frozen=True):
    """A place between ticks where a replay has to do what an earlier life did there: ask ``look``, or compare
    ``state``."""

    place: Place
    look: str = ""
    state: bytes = b""


class Answers:
    """What an earlier life was answered, by question."""

    def __init__(self, known: dict[str, tuple[bytes, bytes]]) -> None:
        self._known = known  # id → question and answer

    def looks(self) -> list[Stop]:
        """Where it asked because the gateway had told it to, not because of the tape."""
        found = [msgspec.msgpack.decode(body, type=Request) for body, _ in self._known.values()]
        return [Stop(r.place, r.id) for r in found if r.id.startswith("look:")]

    def left(self) -> bool:
        """Whether some are still waiting for their questions."""
        return bool(self._known)

    def answer(self, request: Request) -> Reply | None:
        """What was answered then; a halt where this was decided otherwise, None where it was not asked."""
        known = self._known.pop(request.id, None)
        if known is not None:
            if known[0] != msgspec.msgpack.encode(request):
                return Reply(request.id, halt=f"{UNLIKE}: {request.id} was decided otherwise before")
            return msgspec.msgpack.decode(known[1], type=Reply)
        if self._known:
            missed = next(iter(self._known))
            self._known.clear()
            return Reply(request.id, halt=f"{UNLIKE}: {missed} was decided before and not again")
        return None


class Asked(Protocol):
    """Who answers a run."""

    answers: Answers

    @property
    def look(self) -> bool:
        """Whether the gateway did something on its own that has to be asked for."""
        ...

    def looked(self) -> None:
        """It is being asked for."""
        ...

    def ask(self, request: Request) -> Reply:
        """The answer to a question; ``Ended`` where none can come."""
        ...

    def order(self, kind: str, reason: str) -> None:
        """An operator's command about this run."""
        ...


class Run:
    """The engine of one run and the thread that plays it. ``keeps`` False: it writes nothing into its folder."""

    def __init__(
        self, spec: RunSpec, strategy: Strategy, log: TapeLog, link: Asked, folder: Path, keeps: bool = True
    ) -> None:
        self.spec, self.strategy, self.link, self.folder = spec, strategy, link, folder
        self._keeps = keeps
        self._log = log
        instruments = log.instruments()
        self.engine = Engine(
            [strategy],
            instruments,
            capital=spec.capital,
            rulebook=Rulebook.load(),
            seed=spec.seed,
            trade_from=spec.trade_from,
            desk=self._desk,
        )
        self.frames: deque[Frame] = deque()
        self._more = threading.Condition()
        self._stop = ""  # "", "stop" or "flatten"
        self._dead = False
        self.clock = 0  # tape time of the last frame played
        self.place = Place(-1, 0, LAST)
        self.failure: BaseException | None = None
        self.done = False
        self._kept = 0.0
        self._looked = False  # something an operator did has reached us
        self._looks = len(link.answers.looks())  # so far, in all lives: each is another question
        self._stops = sorted(
            [*link.answers.looks(), *self._snapshot()], key=lambda s: (s.place.through, s.place.ts)
        )

    def _desk(self, engine: Engine, account: Account) -> Mirror:
        spec = self.spec
        return Mirror(
            spec.run,
            self.strategy.name,
            engine.instruments,
            spec.capital,
            engine.rulebook,
            self.link.ask,
            engine,
        )

    # ── the loop's side ──────────────────────────────────────────────────────────────────────────────────────────

    def give(self, frames: list[Frame]) -> None:
        """Frames for the engine, in order."""
        with self._more:
            self.frames.extend(frames)
            self._more.notify()

    def stop(self, how: str) -> None:
        """End after the frame being played: "stop", or "flatten" first; "die" at once, leaving all as it is."""
        with self._more:
            self._stop, self._dead = how, how == "die"
            self._more.notify()

    @property
    def halted(self) -> str:
        """Why the strategy is halted; "" while it runs."""
        return self.engine.callbacks.halted[0]

    # ── the engine's thread ──────────────────────────────────────────────────────────────────────────────────────

    def play(self) -> None:
        """Play frames until told to stop."""
        try:
            while not self._dead:
                with self._more:
                    while not self.frames and not self._stop and not self.link.look:
                        self._more.wait(0.2)
                    frames = [] if self._stop else _some(self.frames)
                if self._stop:
                    break
                self.step(frames)
            if not self._dead:
                self._wind_down()
                self.engine.stop()
                self.done = True
        except Ended:
            pass
        except BaseException as error:  # noqa: BLE001 - the thread's last stop: the loop tells the hub and ends
            self.failure = error

    def step(self, frames: list[Frame]) -> None:
        """Play some frames, or, with none, do what was asked for between two."""
        engine = self.engine
        if frames:
            if frames[-1].universe > len(engine.instruments):
                engine.widen(self._log.instruments())
            block = joined([frame.block for frame in frames])
            self.clock = frames[-1].clock
            while self._stops and self._stops[0].place.ts <= self.clock:
                block = self._make_stop(block, self._stops.pop(0))
            if block is not None:
                engine.step(block)
            engine.step(Clock(self.clock))
        self.place = Place(engine.block.first + engine.played - 1, self.clock, LAST)
        if self.link.look:
            self.link.looked()
            self._looked = True
            self._looks += 1  # two at one place are two: the first one's answer must not be booked again
            self._mirror.look(self.place, f"look:{self.place.through}:{self.place.ts}:{self._looks}")
        if monotonic() - self._kept > 2.0 and not self.link.answers.left():
            self._kept = monotonic()
            self._keep_snapshot()

    @property
    def _mirror(self) -> Mirror:
        desk = self.engine.desk
        assert isinstance(desk, Mirror)  # noqa: S101 - made above
        return desk

    def _wind_down(self) -> None:
        """Have the gateway withdraw what would still enter, or close everything, and play on until it has.

        An operator's act, not a decision of the strategy. A market that does not trade cannot be waited for: after five
        seconds what is left stays with the gateway.
        """
        flatten = self._stop == "flatten"
        self.link.order("operator.flatten" if flatten else "operator.cancel_all", "the run is stopped")
        until = monotonic() + WIND_DOWN
        while (
            monotonic() < until
            and not self._dead
            and (any(self._mirror.net) if flatten else not self._looked)
        ):
            with self._more:
                if not self.frames:
                    self._more.wait(0.2)
                frames = _some(self.frames)
            self.step(frames)

    def _make_stop(self, block: Block | None, stop: Stop) -> Block | None:
        """Play to a place between two ticks, do what was done there, and return what is left of the block."""
        engine, rest = self.engine, block
        if block is not None:
            cut = max(0, min(len(block), stop.place.through + 1 - block.first))
            if cut:
                engine.step(block.rows(0, cut))
            rest = block.rows(cut, len(block)) if cut < len(block) else None
        engine.step(Clock(stop.place.ts))
        if stop.look:
            self._mirror.look(stop.place, stop.look)
        elif stop.state != self._state():
            engine.step(Halt(stop.place.ts, f"{UNLIKE}: self.state is not what it was", self.strategy.name))
        return rest

    # ── snapshots ────────────────────────────────────────────────────────────────────────────────────────────────

    def _keep_snapshot(self) -> None:
        """What the strategy remembers, to compare with after a restart."""
        if not self._keeps or self.halted or not (state := self._state()):
            return
        with contextlib.suppress(OSError):
            replace_file(self.folder / "snapshot", msgspec.msgpack.encode(Stop(self.place, state=state)))

    def _state(self) -> bytes:
        """``self.state`` as bytes; empty if it holds something else than plain data, and then the decisions made on
        the way are the only proof."""
        try:
            return msgspec.msgpack.encode(vars(self.strategy.state), order="deterministic")
        except (TypeError, ValueError, OverflowError):
            return b""

    def _snapshot(self) -> list[Stop]:
        try:
            return [msgspec.msgpack.decode((self.folder / "snapshot").read_bytes(), type=Stop)]
        except (OSError, msgspec.DecodeError):
            return []


def _some(frames: deque[Frame]) -> list[Frame]:
    """What the engine plays at once: as many waiting frames as make a block worth its while."""
    taken: list[Frame] = []
    rows = 0
    while frames and (not taken or rows + len(frames[0].block) <= MOST_ROWS):
        taken.append(frames.popleft())
        rows += len(taken[-1].block)
    return taken


def joined(blocks: list[Block]) -> Block | None:
    """Blocks that follow each other as one; None if none of them holds a tick."""
    full = [block for block in blocks if len(block)]
    if len(full) <= 1:
        return full[0] if full else None
    columns: dict[str, Any] = {}
    for name in COLUMNS:
        parts = [getattr(block, name) for block in full]
        if all(part is not None for part in parts):
            columns[name] = np.concatenate(parts)
    return Block(full[0].first, **columns)

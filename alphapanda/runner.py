"""The runner: one run's strategy in a process of its own.

    python -m alphapanda.runner RUN_DIR

The engine plays in a thread; the event loop beside it reads ticks, carries questions to the gateway and shows that the
process lives, so a strategy that sleeps delays nobody else. A runner that starts again plays the tape from the run's
first tick, with the gateway's recorded answers, and so comes to the very state it died in; what it decides on the way
must be what it decided before, else the strategy is halted: it could not be trusted to be the same strategy.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import threading
from collections import deque
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import redis.exceptions

from alphapanda import logs
from alphapanda.account import Account
from alphapanda.buses.base import decode, encode
from alphapanda.buses.frames import COLUMNS, Frame
from alphapanda.buses.redis import RedisBus
from alphapanda.buses.tapelog import TapeLog
from alphapanda.buses.ticks import TickReader
from alphapanda.capsule import load
from alphapanda.child import Child
from alphapanda.clock import monotonic, wall_ns
from alphapanda.day import LAST
from alphapanda.engine import Engine
from alphapanda.errors import (
    AlphaPandaException,
    AuthorizationError,
    InfrastructureError,
    RedisError,
    UnknownNameError,
)
from alphapanda.events import Block, Clock, EventEnvelope, Halt, Topics
from alphapanda.mirror import Mirror
from alphapanda.processes import mark, rss_mb
from alphapanda.requests import Place, Reply, Request
from alphapanda.result import LogLine, RunError
from alphapanda.rulebook import Rulebook
from alphapanda.state.journal import replies
from alphapanda.state.lease import Holder, Lease
from alphapanda.state.managers import KeyValueStateManager
from alphapanda.strategy import Strategy
from alphapanda.times import parse_interval
from alphapanda.workspace import RunSpec, Workspace, replace_file

WAITING = 64  # frames read ahead of the engine
MOST_ROWS = 8_192  # rows given to the engine at once when it is behind
ASK_AGAIN = 1.0  # seconds without an answer after which a question is sent again
KEPT = 10_000  # messages to the gateway that the server holds beyond those it has not read
SYMBOLS = 5.0  # seconds in which the feed gets a symbol, if anybody has it
PERFORMANCE = 30.0  # seconds between two lines of the performance channel
WIND_DOWN = 5.0  # seconds for the last orders of a run that is stopped
TOLD = 143  # exit code of one that was told to end in the middle: a shutdown of the machine, which comes back
PROGRESS = 0.25  # seconds between two words to the gateway about where we stand
UNLIKE = "not reproducible"  # the strategy: it depends on something that is not on the tape
DAY_NS = parse_interval("1d")


class Ended(BaseException):
    """The process has to go while the engine waits; not an error of the strategy, so not an Exception."""


class Stop(msgspec.Struct, frozen=True):
    """A place between ticks where a replay has to do what an earlier life did there: ask ``look``, or compare
    ``state``."""

    place: Place
    look: str = ""
    state: bytes = b""


class Link:
    """Questions to the gateway, from the engine's thread, and its answers."""

    def __init__(
        self, bus: RedisBus, spec: RunSpec, ended: asyncio.Event, known: dict[str, tuple[bytes, bytes]]
    ) -> None:
        self._bus, self._spec, self._ended = bus, spec, ended
        self._loop = asyncio.get_running_loop()
        self._known = known  # id → question and answer of an earlier life
        self._waiting: dict[str, asyncio.Future[Reply]] = {}
        self._offset: dict[str, str] = {}
        self._look = threading.Event()  # the gateway did something on its own
        self.attached = asyncio.Event()
        self.refusal: AuthorizationError | None = None  # why the gateway does not take the run up
        self.asked = 0
        self.waits: deque[float] = deque(maxlen=500)  # seconds each recent answer took

    @property
    def topic(self) -> str:
        """Where answers come."""
        return f"{self._spec.namespace}.runs.{self._spec.run}"

    def looks(self) -> list[Stop]:
        """Where an earlier life asked because the gateway had told it to, not because of the tape."""
        found = [msgspec.msgpack.decode(body, type=Request) for body, _ in self._known.values()]
        return [Stop(r.place, r.id) for r in found if r.id.startswith("look:")]

    @property
    def look(self) -> bool:
        """Whether the gateway did something on its own that has to be asked for: not before all that was asked in an
        earlier life has been asked again, for what is new comes after it."""
        return self._look.is_set() and not self._known

    def looked(self) -> None:
        """It is being asked for."""
        self._look.clear()

    @property
    def replaying(self) -> bool:
        """Whether answers of an earlier life are still waiting for their questions."""
        return bool(self._known)

    def ask(self, request: Request) -> Reply:
        """The gateway's answer; waits for it as long as the process is wanted. Called in the engine's thread."""
        known = self._known.pop(request.id, None)
        if known is not None:
            if known[0] != msgspec.msgpack.encode(request):
                return Reply(request.id, halt=f"{UNLIKE}: {request.id} was decided otherwise before")
            return msgspec.msgpack.decode(known[1], type=Reply)
        if self._known:
            missed = next(iter(self._known))
            self._known.clear()
            return Reply(request.id, halt=f"{UNLIKE}: {missed} was decided before and not again")
        begun = monotonic()
        answer: Future[Reply] = asyncio.run_coroutine_threadsafe(self._ask(request), self._loop)
        reply = answer.result()
        self.asked += 1
        self.waits.append(monotonic() - begun)
        return reply

    async def _ask(self, request: Request) -> Reply:
        waiting = self._waiting[request.id] = self._loop.create_future()
        raw = encode(self.envelope(request))
        try:
            while not self._ended.is_set():
                with contextlib.suppress(RedisError):
                    await self._bus.publish(Topics.of(self._spec.namespace, "signals.raw"), raw, bound=KEPT)
                    done, _ = await asyncio.wait({waiting}, timeout=ASK_AGAIN)
                    if done:
                        return waiting.result()
                    continue
                await asyncio.sleep(0.1)
        finally:
            self._waiting.pop(request.id, None)
        raise Ended

    def envelope(self, request: Request) -> EventEnvelope:
        """A request as an event whose lineage begins with the tick that caused it."""
        kind = (
            "signal" if request.signal else "cancel" if request.cancel else "halt" if request.halt else "sync"
        )
        tick = f"tick:{request.signal.seq if request.signal else request.place.through + 1}"
        return EventEnvelope(
            id=f"{kind}:{request.id}", type=f"strategy.{kind}", ts=request.place.ts, source=f"runner:{request.run}",
            namespace=self._spec.namespace, key=request.run, correlation_id=tick, trace_id=tick, causation_id=tick,
            data=msgspec.to_builtins(request),
        )  # fmt: skip

    async def say(self, kind: str, data: Any, identity: str = "") -> None:
        """A word to the gateway that needs no answer."""
        run, at = self._spec.run, wall_ns()
        event = EventEnvelope(
            id=identity or f"{kind}:{run}:{at}", type=kind, ts=at, source=f"runner:{run}", data=data,
            namespace=self._spec.namespace, key=run, correlation_id=run, trace_id=run,
        )  # fmt: skip
        await self._bus.publish(Topics.of(self._spec.namespace, "signals.raw"), encode(event), bound=KEPT)

    def order(self, kind: str, reason: str) -> None:
        """An operator's command about this run; waits until it is on its way. Called in the engine's thread."""

        async def send() -> None:
            sent = False
            while not sent and not self._ended.is_set():
                with contextlib.suppress(RedisError):
                    await self.say(kind, {"run": self._spec.run, "reason": reason})
                    sent = True
                await asyncio.sleep(0.0 if sent else 0.2)

        asyncio.run_coroutine_threadsafe(send(), self._loop).result()

    async def listen(self) -> None:
        """Take answers to those who wait for them."""
        self._offset = {self.topic: "$"}
        while not self._ended.is_set():
            try:
                messages = await self._bus.read(self._offset, timeout=0.5)
            except RedisError:
                await asyncio.sleep(0.1)
                continue
            for message in messages:
                self._offset[message.topic] = message.offset
                self._heard(decode(message.body))

    def _heard(self, envelope: EventEnvelope) -> None:
        if envelope.type == "run.attached":
            self.attached.set()
        elif envelope.type == "run.refused":
            self.refusal = AuthorizationError(
                envelope.data["message"], fix=envelope.data["fix"], code=envelope.data["code"]
            )
            self.attached.set()
        elif envelope.type == "gateway.look":
            self._look.set()
        elif envelope.type == "gateway.reply":
            reply = msgspec.msgpack.decode(envelope.data, type=Reply)
            waiting = self._waiting.get(reply.id)
            if waiting is not None and not waiting.done():
                waiting.set_result(reply)


class Run:
    """The engine of one run and the thread that plays it."""

    def __init__(self, spec: RunSpec, strategy: Strategy, log: TapeLog, link: Link, folder: Path) -> None:
        self.spec, self.strategy, self.link, self.folder = spec, strategy, link, folder
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
        self._looks = len(link.looks())  # so far, in all lives: each is another question
        self._stops = sorted([*link.looks(), *self._snapshot()], key=lambda s: (s.place.through, s.place.ts))

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
                self._step(frames)
            if not self._dead:
                self._wind_down()
                self.engine.stop()
                self.done = True
        except Ended:
            pass
        except BaseException as error:  # noqa: BLE001 - the thread's last stop: the loop tells the hub and ends
            self.failure = error

    def _step(self, frames: list[Frame]) -> None:
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
        if monotonic() - self._kept > 2.0 and not self.link.replaying:
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
            self._step(frames)

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
        if self.halted or not (state := self._state()):
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


async def begin(
    spec: RunSpec, strategy: Strategy, log: TapeLog, folder: Path, child: Child, bus: RedisBus
) -> None:
    """On the run's first start: fix where it begins, so that every restart begins there too."""
    if spec.warm_from >= 0:
        return
    last = log.last()
    fresh = last is None
    while last is None and not child.ended.is_set():
        with contextlib.suppress(RedisError):
            await follows(bus, spec, 0)
        await child.rest(0.1)
        last = log.last()
    if last is None:
        raise Ended
    warmup = parse_interval(strategy.warmup, f"warmup of {spec.name}") if strategy.warmup else 0
    days = max(1, -(-warmup // DAY_NS) + 1) if warmup >= DAY_NS else 1
    files = log.files()
    spec.warm_from = log.before(files[-min(days, len(files))])
    spec.trade_from = 0 if fresh else last.clock
    spec.started = spec.started or wall_ns()
    spec.write(folder)


async def listed(spec: RunSpec, log: TapeLog, child: Child) -> None:
    """Wait until the feed has the run's symbols; UnknownNameError if it does not get them."""
    until = monotonic() + SYMBOLS
    while not child.ended.is_set():
        table = log.instruments()
        names = [name for one in table for name in (one.symbol, one.tradingsymbol)]
        missing = [symbol for symbol in spec.symbols if symbol not in names]
        if not missing:
            return
        if monotonic() > until:
            raise UnknownNameError("symbol", missing[0], [one.symbol for one in table], code="E_SYMBOL")
        await child.rest(0.2)


async def follows(bus: RedisBus, spec: RunSpec, rows: int) -> None:
    """Tell the feed that somebody reads, and how far: a tape waits for its first readers, and for slow ones."""
    try:
        await bus.client.hset("market:readers", spec.run, msgspec.json.encode({"row": rows, "at": wall_ns()}))
    except redis.exceptions.RedisError as error:
        raise RedisError("hset of market:readers failed", fix="see whether the server runs") from error


async def serve(folder: Path) -> int:
    """Run one strategy until its parent goes or it is told to stop."""
    spec = RunSpec.read(folder)
    child = Child(Workspace(folder.parent.parent.parent), f"runner:{spec.run}", spec.namespace)
    bus = await child.connect()
    log = TapeLog(child.workspace.tapes)
    kind = load((folder / "strategy.py").read_text("utf-8"), spec.class_name, folder / "strategy.py")
    strategy = kind(name=spec.name, **spec.parameters)
    if spec.symbols:
        strategy.symbols = spec.symbols
    await begin(spec, strategy, log, folder, child, bus)
    await listed(spec, log, child)
    lease = Lease(bus.client, spec.namespace, f"strategy:{spec.name}", spec.run)
    await _acquire(lease, child)
    if lease.epoch is None:
        raise Ended
    known = replies(child.workspace.journal(spec.namespace), spec.run)
    link = Link(bus, spec, child.ended, known)
    report = Report(bus, child, spec)
    listener = asyncio.create_task(link.listen())
    tasks = [listener]
    try:
        attach = f"run.attach:{spec.run}:{os.getpid()}:{wall_ns()}"  # one question, however often it is asked
        while not link.attached.is_set() and not child.ended.is_set():
            with contextlib.suppress(RedisError):
                await link.say("run.attach", msgspec.to_builtins(spec), attach)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await link.attached.wait()
            if link.refusal is not None:
                await lease.release()
                raise link.refusal
        run = await asyncio.to_thread(Run, spec, strategy, log, link, folder)
        child.hear = lambda line: run.stop("flatten" if line.endswith("flatten") else "stop")
        reader = TickReader(bus, TapeLog(child.workspace.tapes), spec.warm_from)
        player = threading.Thread(target=run.play, name="engine", daemon=True)
        player.start()
        tasks += [
            asyncio.create_task(_feed(reader, run, child, report)),
            asyncio.create_task(report.keep(run, link)),
            renewing := asyncio.create_task(_renew(lease, run, child)),
            asyncio.create_task(child.beat(bus, lambda: report.health(run))),
        ]
        child.ready()
        while player.is_alive():
            await child.rest(0.05) if not child.ended.is_set() else await asyncio.sleep(0.02)
            if child.ended.is_set():
                run.stop("die")
                player.join(0.5)
                break
        renewing.cancel()
        await report.show(run, link)
        return await _end(run, spec, link, lease, folder)
    finally:
        for task in tasks:
            task.cancel()
        await bus.close()
        logs.close()


async def _acquire(lease: Lease, child: Child) -> None:
    """The lease of this strategy's name. What a runner that was killed holds, or we hold ourselves, is taken over."""
    dead: Holder | None = None
    while not child.ended.is_set():
        try:
            await lease.acquire(replacing=dead)
        except RedisError:
            await child.rest(0.2)
        except AuthorizationError as error:
            dead = error.context["holder"]
            here = dead is None or dead.host == socket.gethostname()
            if not here or (dead and dead.pid != os.getpid() and mark(dead.pid)):
                raise
        else:
            return


async def _renew(lease: Lease, run: Run, child: Child) -> None:
    """Hold the lease, also beyond a server that was away for long or forgot everything, unless another took it."""
    try:
        while True:
            with contextlib.suppress(AuthorizationError):
                await lease.keep()
            await _acquire(lease, child)
    except AuthorizationError as error:
        logs.channel("error").error("lease.lost", run=run.spec.run, error=error)
        run.stop("die")
        run.failure = error


async def _feed(reader: TickReader, run: Run, child: Child, report: Report) -> None:
    while not child.ended.is_set():
        if len(run.frames) >= WAITING:
            await asyncio.sleep(0.002)
            continue
        try:
            frames = await reader.read(0.2)
        except RedisError:
            reader.reset()
            await asyncio.sleep(0.1)
            continue
        if frames:
            report.received = monotonic()
            report.newest = frames[-1].end
            run.give(frames)


async def _end(run: Run, spec: RunSpec, link: Link, lease: Lease, folder: Path) -> int:
    if run.done:
        with contextlib.suppress(RedisError):
            await link.say("run.release", {"run": spec.run})
            await lease.release()
        spec.wanted, spec.state = False, "halted" if run.halted else "stopped"
        spec.reason = run.halted
        spec.write(folder)
        return 0
    if run.failure is not None:
        logs.channel("error").error("runner.failed", run=spec.run, exc_info=run.failure)
        return 1
    return TOLD


class Report:
    """What the runner shows of itself: a document twice a second, progress to the gateway four times."""

    def __init__(self, bus: RedisBus, child: Child, spec: RunSpec) -> None:
        self._bus, self._child, self._spec = bus, child, spec
        self._documents = KeyValueStateManager(bus.client, spec.namespace, "runner")
        self.received = monotonic()
        self.newest = 0
        self._logged = 0
        self._measured, self._ticks = monotonic(), 0

    def health(self, run: Run) -> dict[str, Any]:
        """What the heartbeat says."""
        state = "halted" if run.halted else "replaying" if run.link.replaying else "running"
        return {"run": self._spec.run, "state": state, "detail": run.halted, "seq": run.place.through}

    async def keep(self, run: Run, link: Link) -> None:
        """Until the process ends."""
        shown = 0.0
        while not self._child.ended.is_set():
            with contextlib.suppress(RedisError):
                if not link.replaying and run.place.through >= 0:
                    request = Request(self._spec.run, "progress", run.place, urgent=False)
                    await link.say("strategy.progress", msgspec.to_builtins(request))
                await follows(self._bus, self._spec, run.place.through + 1)
                if monotonic() - shown >= 0.5:
                    shown = monotonic()
                    await self.show(run, link)
                if monotonic() - self._measured >= PERFORMANCE:
                    self._log_rates(run, link)
            await asyncio.sleep(PROGRESS)

    def _log_rates(self, run: Run, link: Link) -> None:
        seconds, self._measured = monotonic() - self._measured, monotonic()
        ticks, self._ticks = run.engine.ticks_seen - self._ticks, run.engine.ticks_seen
        waits = sorted(link.waits)
        logs.channel("performance").info(
            "runner.rates", run=self._spec.run, ticks_per_second=round(ticks / seconds), asked=link.asked,
            wait_p50_ms=_share(waits, 0.5), wait_p99_ms=_share(waits, 0.99), rss_mb=rss_mb(),
        )  # fmt: skip

    async def show(self, run: Run, link: Link) -> None:
        """The document ``{ns}:runner:{run}``."""
        result = run.engine.result
        self._log(result.errors, result.logs)
        waits = sorted(link.waits)
        document = {
            "run": self._spec.run, **self.health(run), "tape_ts": run.clock, "at": wall_ns(),
            "data_age_ms": round((monotonic() - self.received) * 1000), "ticks": run.engine.ticks_seen,
            "lag_rows": max(0, self.newest - run.place.through - 1), "asked": link.asked,
            "wait_ms": {"p50": _share(waits, 0.5), "p99": _share(waits, 0.99)},
            "errors": result.errors[-20:], "logs": [[x.ts, x.message, _plain(x.fields)] for x in result.logs[-50:]],
        }  # fmt: skip
        with contextlib.suppress(RedisError):
            await self._documents.set(self._spec.run, document)

    def _log(self, errors: list[RunError], lines: list[LogLine]) -> None:
        count = len(errors) + len(lines)
        if count == self._logged:
            return
        new_errors = errors[max(0, self._logged - len(lines)) :] if self._logged else errors
        self._logged = count
        for error in new_errors:
            logs.channel("error").error(
                "strategy.raised", run=self._spec.run, strategy=error.strategy, callback=error.callback,
                symbol=error.symbol, seq=error.seq, file=Path(error.file).name, line=error.line, error=error.message,
            )  # fmt: skip


def _share(values: list[float], share: float) -> float:
    """A percentile in milliseconds; 0.0 of nothing."""
    return round(values[min(len(values) - 1, int(len(values) * share))] * 1000, 2) if values else 0.0


def _plain(fields: dict[str, Any]) -> dict[str, str]:
    return {name: str(value)[:200] for name, value in fields.items()}


def main() -> int:
    """``python -m alphapanda.runner RUN_DIR``."""
    if len(sys.argv) != 2:
        sys.stderr.write("usage: python -m alphapanda.runner RUN_DIR\n")
        return 2
    try:
        return asyncio.run(serve(Path(sys.argv[1]).resolve()))
    except Ended:
        return TOLD
    except AlphaPandaException as error:
        logs.channel("error").error("runner.ended", error=error)
        sys.stderr.write(f"{error.message} [{error.code}]{error.fix and '; '}{error.fix}\n")
        return 1 if isinstance(error, InfrastructureError) else 78


if __name__ == "__main__":
    raise SystemExit(main())

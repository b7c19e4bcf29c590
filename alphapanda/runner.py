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
import redis.exceptions

from alphapanda import logs
from alphapanda.buses.redis import RedisBus
from alphapanda.buses.tapelog import TapeLog
from alphapanda.buses.ticks import TickReader
from alphapanda.capsule import load
from alphapanda.child import Child
from alphapanda.clock import monotonic, wall_ns
from alphapanda.errors import (
    AlphaPandaException,
    AuthorizationError,
    InfrastructureError,
    RedisError,
    UnknownNameError,
)
from alphapanda.events import EventEnvelope, Topics
from alphapanda.logs.redaction import hidden
from alphapanda.playing import Answers, Ended, Run
from alphapanda.processes import mark, rss_mb
from alphapanda.requests import Reply, Request
from alphapanda.result import LogLine, RunError
from alphapanda.seal import Seal
from alphapanda.state.journal import replies
from alphapanda.state.lease import Holder, Lease
from alphapanda.state.managers import KeyValueStateManager
from alphapanda.strategy import Strategy
from alphapanda.times import parse_interval
from alphapanda.workspace import RunSpec, Workspace

WAITING = 64  # frames read ahead of the engine
ASK_AGAIN = 1.0  # seconds without an answer after which a question is sent again
KEPT = 10_000  # messages to the gateway that the server holds beyond those it has not read
SYMBOLS = 5.0  # seconds in which the feed gets a symbol, if anybody has it
PERFORMANCE = 30.0  # seconds between two lines of the performance channel
TOLD = 143  # exit code of one that was told to end in the middle: a shutdown of the machine, which comes back
PROGRESS = 0.25  # seconds between two words to the gateway about where we stand
DAY_NS = parse_interval("1d")


class Link:
    """Questions to the gateway, from the engine's thread, and its answers."""

    def __init__(
        self,
        bus: RedisBus,
        spec: RunSpec,
        ended: asyncio.Event,
        known: dict[str, tuple[bytes, bytes]],
        seal: Seal,
    ) -> None:
        self._bus, self._spec, self._ended, self._seal = bus, spec, ended, seal
        self._loop = asyncio.get_running_loop()
        self.answers = Answers(known)
        self._waiting: dict[str, asyncio.Future[Reply]] = {}
        self._offset: dict[str, str] = {}
        self._look = threading.Event()  # the gateway did something on its own
        self.life = (
            f"run.attach:{spec.run}:{os.getpid()}:{wall_ns()}"  # one question, however often it is asked
        )
        self.attached = asyncio.Event()
        self.refusal: AuthorizationError | None = None  # why the gateway does not take the run up
        self.asked = 0
        self.forged = 0  # messages that no gateway of this workspace sent
        self.waits: deque[float] = deque(maxlen=500)  # seconds each recent answer took

    @property
    def topic(self) -> str:
        """Where answers come."""
        return f"{self._spec.namespace}.runs.{self._spec.run}"

    @property
    def look(self) -> bool:
        """Whether the gateway did something on its own that has to be asked for: not before all that was asked in an
        earlier life has been asked again, for what is new comes after it."""
        return self._look.is_set() and not self.answers.left()

    def looked(self) -> None:
        """It is being asked for."""
        self._look.clear()

    def ask(self, request: Request) -> Reply:
        """The gateway's answer; waits for it as long as the process is wanted. Called in the engine's thread."""
        recorded = self.answers.answer(request)
        if recorded is not None:
            return recorded
        begun = monotonic()
        answer: Future[Reply] = asyncio.run_coroutine_threadsafe(self._ask(request), self._loop)
        reply = answer.result()
        self.asked += 1
        self.waits.append(monotonic() - begun)
        return reply

    async def _ask(self, request: Request) -> Reply:
        waiting = self._waiting[request.id] = self._loop.create_future()
        topic = Topics.of(self._spec.namespace, "signals.raw")
        raw = self._seal.sealed(topic, self.envelope(request))
        try:
            while not self._ended.is_set():
                with contextlib.suppress(RedisError):
                    await self._bus.publish(topic, raw, bound=KEPT)
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
        topic = Topics.of(self._spec.namespace, "signals.raw")
        await self._bus.publish(topic, self._seal.sealed(topic, event), bound=KEPT)

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
                try:
                    self._heard(self._seal.opened(message.topic, message.body))
                except AuthorizationError as error:
                    self.forged += 1
                    if self.forged == 1:
                        logs.channel("error").error("reply.forged", run=self._spec.run, error=error)

    def _heard(self, envelope: EventEnvelope) -> None:
        ours = envelope.causation_id == self.life  # else it is what another life of the run was told
        if envelope.type == "run.attached" and ours:
            self.attached.set()
        elif envelope.type == "run.refused" and ours:
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
    spec.trade_from = spec.trade_from or (0 if fresh else last.clock)
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
    link = Link(bus, spec, child.ended, known, Seal.of(child.workspace))
    report = Report(bus, child, spec)
    listener = asyncio.create_task(link.listen())
    tasks = [listener]
    try:
        while not link.attached.is_set() and not child.ended.is_set():
            with contextlib.suppress(RedisError):
                await link.say("run.attach", msgspec.to_builtins(spec), link.life)
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
        state = "halted" if run.halted else "replaying" if run.link.answers.left() else "running"
        return {"run": self._spec.run, "state": state, "detail": run.halted, "seq": run.place.through}

    async def keep(self, run: Run, link: Link) -> None:
        """Until the process ends."""
        shown = 0.0
        while not self._child.ended.is_set():
            with contextlib.suppress(RedisError):
                if not link.answers.left() and run.place.through >= 0:
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
            wait_p50_ms=_share(waits, 0.5), wait_p99_ms=_share(waits, 0.99), rss_mb=rss_mb(), forged=link.forged,
        )  # fmt: skip

    async def show(self, run: Run, link: Link) -> None:
        """The document ``{ns}:runner:{run}``."""
        result = run.engine.result
        self._log(result.errors, result.logs)
        waits = sorted(link.waits)
        # what a strategy says may be what it found in the settings' file, and this is shown to others
        said = {
            "errors": msgspec.to_builtins(result.errors[-20:]),
            "logs": [[x.ts, x.message, _plain(x.fields)] for x in result.logs[-50:]],
        }
        document = {
            "run": self._spec.run, **self.health(run), "tape_ts": run.clock, "at": wall_ns(),
            "data_age_ms": round((monotonic() - self.received) * 1000), "ticks": run.engine.ticks_seen,
            "lag_rows": max(0, self.newest - run.place.through - 1), "asked": link.asked,
            "wait_ms": {"p50": _share(waits, 0.5), "p99": _share(waits, 0.99)},
            **hidden(said),
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

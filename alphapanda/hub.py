"""The hub, one a workspace: starts what is missing, keeps it running, ends it cleanly.

    python -m alphapanda.hub ROOT         # ``alphapanda up`` and ``ap.connect()`` start it so

Rules. What a person stops stays stopped; what a machine stops (a crash, SIGTERM, a reboot) comes back with the next
hub, except runs whose notebook does not come back too. One runner a (namespace, strategy). The hub decides nothing
about orders: it owns processes, the folders of runs, and who wants which symbols.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import signal
import socket
import struct
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from alphapanda import logs
from alphapanda.clock import monotonic, wall_ns
from alphapanda.errors import (
    AlphaPandaException,
    AuthorizationError,
    ConfigurationError,
    InfrastructureError,
    RedisError,
    RetryPolicy,
    UnknownNameError,
    ValidationError,
)
from alphapanda.events import ist
from alphapanda.hub_client import ALREADY_RUNS, CONFIGURATION, Record, end_processes, mark
from alphapanda.server import Server, embedded
from alphapanda.settings import Settings
from alphapanda.supervise import (
    FOLDER,
    LOOK_SECONDS,
    NAMESPACE,
    START_SECONDS,
    WORKSPACE,
    Child,
    Crew,
    Policy,
    ServerLike,
    document,
    send_command,
)
from alphapanda.workspace import RunSpec, Workspace, checked, replace_file

PYTHON = (
    sys.executable,
    "-P",
    "-m",
)  # -P: a user's queue.py in the folder must not stand in for Python's own
LINES: Mapping[str, tuple[str, ...]] = {
    "feed": (*PYTHON, "alphapanda.feeds", WORKSPACE),
    "gateway": (*PYTHON, "alphapanda.gateway", WORKSPACE, NAMESPACE),
    "runner": (*PYTHON, "alphapanda.runner", FOLDER),
}
POLICIES: Mapping[str, Policy] = {
    "feed": Policy(),
    "gateway": Policy(
        ready=600.0, retry=RetryPolicy(delay_first=0.05, delay_max=5.0)
    ),  # it plays its journal first
    "runner": Policy(ready=120.0, failures=8, window=60.0, ends=True),
}
NEEDED = ("feed", "gateway:paper")  # without these nothing can be traded
GRACE_SECONDS = 5.0  # runs outlive the connection of their notebook by so much
REQUEST_BYTES_MAX, CONNECTIONS_MAX, RUNS_MAX = 2_000_000, 200, 100
IDLE_SECONDS = 30.0  # for a line that does not come, or is not taken
TELL_SECONDS = 0.5  # what goes to the server may hold up the end of a run so long
PERSON = "stopped by a person"

Answer = dict[str, Any]


# ── questions ────────────────────────────────────────────────────────────────────────────────────────────────────


class Asked(msgspec.Struct, tag_field="do", forbid_unknown_fields=True):
    """A question; the classes below are all there are, named as on the wire."""


class Ping(Asked, tag="ping"):
    """Is it there, is it ready?"""


class Status(Asked, tag="status"):
    """Everything, for people."""


class Hold(Asked, tag="hold"):
    """Keep this client's runs for as long as the connection stands."""

    client: str


class Start(Asked, tag="run", kw_only=True):
    """Run this module's class, or attach to what runs already. ``capital`` in paise."""

    namespace: str
    name: str
    class_name: str
    module: str
    digest: str
    parameters: dict[str, Any] = {}
    symbols: list[str] = []
    capital: int | None = None
    client: str = ""
    detach: bool = False
    replace: bool = False
    seed: int = 0

    def check(self) -> None:
        """ValidationError for what no run can be made of."""
        checked(self.namespace)
        for name in ("name", "class_name", "digest"):
            if not 0 < len(getattr(self, name)) <= 200:
                raise ValidationError(f"{name} has 1 to 200 characters", fix=f"send {name}")
        if not self.class_name.isidentifier():
            raise ValidationError(
                f"class_name {self.class_name!r} is no name of a class", fix="send the class's name"
            )
        if self.capital is not None and not 0 < self.capital <= 10**15:
            raise ValidationError(f"capital {self.capital} paise", fix="send an amount above 0, or none")


class Stop(Asked, tag="stop"):
    """End a run, named by its id or its strategy."""

    run: str
    flatten: bool = False


class StopAll(Asked, tag="stop_all"):
    """End all runs."""

    flatten: bool = False


class Shutdown(Asked, tag="shutdown"):
    """End everything, the hub too."""

    flatten: bool = False


class Restart(Asked, tag="restart"):
    """End one child and start it again."""

    role: str


QUESTION = msgspec.json.Decoder(Ping | Status | Hold | Start | Stop | StopAll | Shutdown | Restart)


# ── tasks ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Tasks:
    """Tasks with an owner: none is lost, none is forgotten, and their faults are told."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self.log = logs.channel("application")

    def add(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do it beside."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def rounds(self, work: Callable[[], Awaitable[None]], pause: float) -> None:
        """Do it again and again."""
        while True:
            try:
                await work()
            except Exception as error:  # the hub outlives a fault of its own in one of its rounds
                self.log.exception("hub.fault", error=error)
            await asyncio.sleep(pause)

    async def close(self) -> None:
        """End them all."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.log.error("hub.fault", error=error)


# ── runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Running:
    """A run and its process. ``holders`` are the clients that keep it; ``peer`` is the pid of the one that asked."""

    def __init__(self, spec: RunSpec, child: Child, peer: int) -> None:
        self.spec, self.child, self.peer = spec, child, peer
        self.holders = {spec.client} - {""}
        self.stopping = ""  # why, once a person or the hub ends it
        self.flatten = False
        self.over = asyncio.Event()  # its folder says how it ended

    @property
    def owner(self) -> dict[str, Any]:
        """Who started it, for whoever is refused."""
        host = socket.gethostname()
        return {"client": self.spec.client, "host": host, "pid": self.peer, "since": self.spec.started}


class Runs:
    """Which runs there are, who keeps them, and what becomes of the next one that is asked for."""

    def __init__(self, workspace: Workspace, settings: Settings, crew: Crew, tasks: Tasks) -> None:
        self.workspace, self.crew = workspace, crew
        self.capital = round(settings.paper_trading.starting_cash * 100)  # paise, where none is given
        self.active: dict[str, Running] = {}
        self.ended: deque[RunSpec] = deque(maxlen=10)
        self.held: Counter[str] = Counter()  # client: its connections
        self._pending: dict[str, RunSpec] = {}  # of an earlier hub, until their notebooks are back
        self._unreleased: deque[Running] = deque(maxlen=RUNS_MAX)
        self.closing = False  # runs that end now were not ended by anybody: they come back with the next hub
        self._locks: dict[tuple[str, str], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._tasks, self._log = tasks, tasks.log

    async def start(self, asked: Start, peer: int) -> Answer:
        """Start a run, attach to it, or put it in the place of what its client ran before."""
        asked.check()
        async with self._locks[asked.namespace, asked.name]:
            held = self._current(asked.namespace, asked.name)
            if held is not None and self._same(held.spec, asked):
                return self._attach(held, asked)
            if held is not None:
                if not asked.replace and asked.client not in held.holders and self._kept(held):
                    raise _leased(held)
                await self.stop(held, "replaced by another version of it")
            if len(self.active) >= RUNS_MAX:
                raise ValidationError(f"{RUNS_MAX} runs at once are the most", fix="stop one", code="E_LIMIT")
            await self._gateway(asked.namespace)
            running = self._launch(self._laid_out(asked), peer)
            self.expire_later(asked.client)
            replaced = held.spec.run if held is not None else None
            return {"run": running.spec.run, "attached": False, "replaced": replaced}

    async def stop(
        self, run: Running, why: str, flatten: bool = False, *, grace: float = 10.0, patience: float = 2.0
    ) -> None:
        """End a run for good: it is asked, and after ``grace`` and ``patience`` seconds made to."""
        if not run.stopping:
            run.stopping = why
            self._write(run.spec, wanted=False)
        run.flatten |= flatten
        await run.child.stop(b"stop flatten\n" if flatten else b"stop\n", grace=grace, patience=patience)
        await run.over.wait()

    async def stop_named(self, name: str, flatten: bool) -> RunSpec:
        """End the run of this id, else the only one of this strategy."""
        named = [run for run in self.active.values() if name in (run.spec.run, run.spec.name)]
        found = [run for run in named if run.spec.run == name] or named
        if len(found) == 1:
            await self.stop(found[0], PERSON, flatten)
            return found[0].spec
        for folder in self.workspace.runs.iterdir():
            if not found and folder.name == name:
                self._write(spec := RunSpec.read(folder), wanted=False)
                return spec
        raise UnknownNameError("run", name, self.active)

    async def stop_all(
        self, why: str, flatten: bool, *, grace: float = 10.0, patience: float = 2.0
    ) -> list[str]:
        """End all runs."""
        for spec in self._pending.values():
            self._write(spec, wanted=False, state="stopped", reason=why)
        runs = list(self.active.values())
        stops = (self.stop(run, why, flatten, grace=grace, patience=patience) for run in runs)
        await asyncio.gather(*stops)
        return [run.spec.run for run in runs]

    def revive(self) -> None:
        """Bring back what an earlier hub kept, detached runs at once, the others when their notebook is back."""
        for folder in sorted(self.workspace.runs.iterdir()):
            with contextlib.suppress(OSError, msgspec.MsgspecError):
                spec = RunSpec.read(folder)
                if spec.wanted and spec.run == folder.name:
                    self._tasks.add(self._revive(spec))

    def specs(self) -> list[RunSpec]:
        """Runs of now and the last that ended, as their folders say."""
        return [*self.ended, *(self._read(run.spec) for run in self.active.values())]

    # ── clients that hold their runs

    def hold(self, client: str) -> None:
        """One more connection of this client stands."""
        self.held[client] += 1

    def release(self, client: str) -> None:
        """It stands no more."""
        self.held[client] -= 1
        self.held += Counter()  # without those at zero
        self.expire_later(client)

    def expire_later(self, client: str) -> None:
        """Unless the client comes back in time, what only it keeps ends."""
        if client and client not in self.held and not self.closing:
            asyncio.get_running_loop().call_later(GRACE_SECONDS, self._expire, client)

    def _expire(self, client: str) -> None:
        for run in self.active.values():
            if client in run.holders and not self._kept(run) and not run.stopping and not self.closing:
                self._tasks.add(self.stop(run, "its notebook ended"))

    def _kept(self, run: Running) -> bool:
        """Whether somebody still wants it."""
        return run.spec.detached or not run.holders or any(client in self.held for client in run.holders)

    # ── one run

    def _current(self, namespace: str, name: str) -> Running | None:
        found = (
            run for run in self.active.values() if (run.spec.namespace, run.spec.name) == (namespace, name)
        )
        return next((run for run in found if not run.stopping and not run.child.ended.is_set()), None)

    def _same(self, spec: RunSpec, asked: Start) -> bool:
        mine = (spec.digest, spec.parameters, spec.symbols, spec.capital, spec.seed)
        return mine == (
            asked.digest,
            asked.parameters,
            asked.symbols,
            asked.capital or self.capital,
            asked.seed,
        )

    def _attach(self, run: Running, asked: Start) -> Answer:
        run.holders |= {asked.client} - {""}
        if asked.detach and not run.spec.detached:
            run.spec.detached = True
            self._write(run.spec, detached=True)
        self.expire_later(asked.client)
        return {"run": run.spec.run, "attached": True, "replaced": None}

    async def _gateway(self, namespace: str) -> None:
        """The namespace's gateway is up; an InfrastructureError says why it is not."""
        await self.crew.served.wait()
        child = self.crew.keep(f"gateway:{namespace}")
        events = [asyncio.create_task(event.wait()) for event in (child.up, child.ended)]
        await asyncio.wait(events, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for event in events:
            event.cancel()
        if self.closing:
            raise InfrastructureError("the hub is ending", fix="alphapanda up", code="E_CLOSING")
        if not child.up.is_set():
            why = child.error or "it is not ready"
            raise InfrastructureError(
                f"the gateway of {namespace} does not run: {why}",
                fix="alphapanda logs error",
                code="E_GATEWAY",
            )

    def _laid_out(self, asked: Start) -> RunSpec:
        """A new run's folder, its number the next of its name."""
        stem = re.sub(r"[^a-z0-9]+", "-", asked.name.lower()).strip("-") or "run"
        taken = (re.fullmatch(rf"{stem}-(\d+)", folder.name) for folder in self.workspace.runs.iterdir())
        number = 1 + max((int(hit[1]) for hit in taken if hit), default=0)
        spec = RunSpec(
            run=f"{stem}-{number}",
            namespace=asked.namespace,
            name=asked.name,
            class_name=asked.class_name,
            digest=asked.digest,
            parameters=asked.parameters,
            symbols=asked.symbols,
            capital=asked.capital or self.capital,
            seed=asked.seed,
            client=asked.client,
            detached=asked.detach,
            started=wall_ns(),
        )
        folder = self._folder(spec)
        try:
            folder.mkdir(mode=0o700)
            replace_file(folder / "strategy.py", asked.module.encode())
            spec.write(folder)
        except OSError as error:
            raise InfrastructureError(
                f"{folder} cannot be written: {error.strerror}", fix="free the disk"
            ) from None
        return spec

    def _launch(self, spec: RunSpec, peer: int) -> Running:
        child = self.crew.keep(f"runner:{spec.run}", **{FOLDER: str(self._folder(spec))})
        running = self.active[spec.run] = Running(spec, child, peer)
        self.crew.pulse.subscriptions[spec.run] = spec.symbols
        self._tasks.add(self._tell_at_once())
        self._tasks.add(self._follow(running))
        self._log.info("hub.run_started", run=spec.run, namespace=spec.namespace, strategy=spec.name)
        return running

    async def _tell_at_once(self) -> None:
        with contextlib.suppress(RedisError):
            await self.tell()

    async def _follow(self, run: Running) -> None:
        """See a run to its end, and write down how it ended."""
        spec, child = run.spec, run.child
        await child.ended.wait()
        del self.active[spec.run], self.crew.children[child.role]
        self.crew.pulse.subscriptions.pop(spec.run, None)
        if run.stopping or not self.closing:
            run.spec = spec = self._read(spec)
            if child.state == "failed":
                spec.state, spec.reason = "failed", child.error
            elif spec.state in ("starting", "running", "stopped"):
                spec.state, spec.reason = "stopped", spec.reason or run.stopping
            self._write(spec, wanted=False, state=spec.state, reason=spec.reason)
            self.ended.append(spec)
            self._log.info("hub.run_ended", run=spec.run, state=spec.state, reason=spec.reason)
            if child.code != 0:  # it could not say goodbye: its orders are still there
                self._unreleased.append(run)
            with contextlib.suppress(
                RedisError, TimeoutError
            ):  # the next look does what could not be done now
                async with asyncio.timeout(TELL_SECONDS):
                    await self.tell()
        run.over.set()

    async def tell(self) -> None:
        """Put the subscriptions right, and tell gateways of runs whose runners could not do it themselves."""
        await self.crew.pulse.subscribe()
        client = self.crew.pulse.client
        while self._unreleased:
            run = self._unreleased[0]
            spec, why = run.spec, run.stopping or run.spec.reason
            if run.flatten:
                await send_command(client, spec.namespace, "operator.flatten", spec.run, why, "hub")
            await send_command(client, spec.namespace, "run.release", spec.run, why, "hub")
            self._unreleased.popleft()

    async def _revive(self, spec: RunSpec) -> None:
        self._pending[spec.run] = spec
        try:
            async with self._locks[spec.namespace, spec.name]:
                until = monotonic() + GRACE_SECONDS
                while spec.client and not spec.detached and spec.client not in self.held:
                    if monotonic() > until:
                        self._write(spec, wanted=False, state="stopped", reason="its notebook ended")
                        return
                    await asyncio.sleep(0.05)
                with contextlib.suppress(InfrastructureError):  # runner and gateway find each other later
                    await self._gateway(spec.namespace)
                wanted = not self.closing and self._read(spec).wanted
                if wanted and self._current(spec.namespace, spec.name) is None:
                    self._launch(spec, 0)
        finally:
            del self._pending[spec.run]

    def _folder(self, spec: RunSpec) -> Path:
        return self.workspace.runs / spec.run

    def _read(self, spec: RunSpec) -> RunSpec:
        """The spec as it is on disk: its runner writes there too."""
        try:
            return RunSpec.read(self._folder(spec))
        except (OSError, msgspec.MsgspecError):
            return spec

    def _write(self, spec: RunSpec, **changes: Any) -> None:
        kept = self._read(spec)
        for name, value in changes.items():
            setattr(kept, name, value)
        try:
            kept.write(self._folder(spec))
        except OSError as error:
            self._log.error("hub.run_not_written", run=spec.run, error=error)


def _leased(run: Running) -> AuthorizationError:
    spec, owner = run.spec, run.owner
    return AuthorizationError(
        f"{spec.name} runs in {spec.namespace} already, in another version: {spec.run}, started at "
        f"{ist(spec.started):%H:%M:%S} by {spec.client or 'a client without a name'}, "
        f"process {run.peer} on {owner['host']}",
        fix=f"stop it with `alphapanda stop {spec.run}`, or put yours in its place with replace=True",
        code="E_LEASE",
        run=spec.run,
        **owner,
    )


# ── the hub ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Hub:
    """One workspace's hub; tests hand it other command lines and another server."""

    def __init__(
        self,
        workspace: Workspace,
        settings: Settings | None = None,
        *,
        lines: Mapping[str, tuple[str, ...]] = LINES,
        policies: Mapping[str, Policy] = POLICIES,
        server: Callable[[Workspace], ServerLike] = Server,
    ) -> None:
        settings = settings or Settings.load()
        self.workspace, self.tasks = workspace, Tasks()
        own = server(workspace) if embedded(settings) else None
        self.crew = Crew(workspace, settings, lines, policies, own)
        self.runs = Runs(workspace, settings, self.crew, self.tasks)
        self.closing = asyncio.Event()
        self.person = False  # who asked it to end
        self._started = monotonic()
        self._record = Record("hub", os.getpid(), mark(os.getpid()), wall_ns())
        self._connections: set[asyncio.StreamWriter] = set()

    async def run(self) -> None:
        """Be the hub until told to end. InfrastructureError with code E_HUB_RUNS if another one is."""
        with self._alone():
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.add_signal_handler(number, self.closing.set)
            for one in await asyncio.to_thread(end_processes, self.crew.left_behind(), 1.0):
                self.tasks.log.warning("hub.reaped", child=one.role, child_pid=one.pid)
            path = self.workspace.hub_socket
            path.unlink(missing_ok=True)
            replace_file(self.workspace.hub_file, msgspec.json.encode(self._record))
            listening = await asyncio.start_unix_server(
                self._welcome, path, limit=REQUEST_BYTES_MAX, backlog=CONNECTIONS_MAX
            )
            path.chmod(0o600)
            opening = asyncio.create_task(self._open())
            closing = asyncio.create_task(self.closing.wait())
            try:
                await asyncio.wait((opening, closing), return_when=asyncio.FIRST_COMPLETED)
                if opening.done():
                    opening.result()
                await closing
            finally:
                self.closing.set()
                opening.cancel()
                await self._close()
                listening.close()
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _alone(self) -> Generator[None]:
        with self.workspace.hub_lock.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InfrastructureError(
                    f"another hub runs in {self.workspace.root}", fix="alphapanda status", code="E_HUB_RUNS"
                ) from None
            yield

    async def _open(self) -> None:
        await self.crew.serve()
        self.tasks.add(self.tasks.rounds(self.crew.serve, 0.2))
        for role in NEEDED:
            self.crew.keep(role)
        self.tasks.add(self.tasks.rounds(self._look, LOOK_SECONDS))
        self.runs.revive()

    async def _look(self) -> None:
        pid, detail = os.getpid(), "; ".join(self.troubles)
        told = {"role": "hub", "pid": pid, "state": self.state, "detail": detail, "at": wall_ns()}
        await self.crew.look({**told, "started": self._record.at})
        with contextlib.suppress(RedisError):
            await self.runs.tell()

    async def _close(self) -> None:
        """Runs first, then those they need, the server last; in any case within five seconds."""
        self.runs.closing = True
        if self.person:
            await self.runs.stop_all("everything was stopped", False, grace=1.0, patience=0.8)
        await asyncio.gather(*(run.child.stop(patience=1.8) for run in self.runs.active.values()))
        await self.tasks.close()
        await self.crew.close()
        self.workspace.hub_file.unlink(missing_ok=True)

    # ── what it says

    @property
    def state(self) -> str:
        """``starting``, ``ready`` (perhaps with troubles) or ``closing``."""
        if self.closing.is_set():
            return "closing"
        late = monotonic() - self._started > START_SECONDS and self.crew.served.is_set()
        return "starting" if self.waits_for and not late else "ready"

    @property
    def waits_for(self) -> str:
        """What has not been up yet, and may still come."""
        if not self.crew.served.is_set():
            return "the server"
        missing = [role for role in NEEDED if role not in self.crew.seen]
        return ", ".join(role for role in missing if self.crew.children[role].state != "failed")

    @property
    def troubles(self) -> list[str]:
        """One sentence for each thing that is not as it should be."""
        return self.crew.troubles

    def _facts(self) -> Answer:
        return {
            "pid": os.getpid(),
            "state": self.state,
            "waits_for": self.waits_for,
            "troubles": self.troubles,
            "since": self._record.at,
            "version": version("alphapanda"),
            "python": sys.version.split()[0],
            **self.crew.used(os.getpid()),
        }

    async def _answer(self, asked: Asked, peer: int) -> Answer:
        match asked:
            case Ping():
                return self._facts()
            case Status():
                return await self._status()
            case Start():
                return await self.runs.start(asked, peer)
            case Stop():
                spec = await self.runs.stop_named(asked.run, asked.flatten)
                return {"run": spec.run, "state": spec.state, "reason": spec.reason}
            case StopAll():
                return {"stopped": await self.runs.stop_all(PERSON, asked.flatten)}
            case Shutdown():
                if asked.flatten:
                    await self.runs.stop_all(PERSON, True)
                self.person = True
                self.closing.set()
                return {"pid": os.getpid()}
            case Restart():
                if asked.role not in self.crew.children:
                    raise UnknownNameError("child", asked.role, self.crew.children)
                if self.crew.keep(asked.role).pid:  # one that had failed was started by that
                    self.crew.children[asked.role].restart()
                return {"role": asked.role}
            case _:
                return {}

    async def _status(self) -> Answer:
        """Everything in one answer; what lies on the server is left out if it does not answer at once."""
        specs = self.runs.specs()
        keys = [f"{spec.namespace}:{kind}:{spec.run}" for spec in specs for kind in ("run", "runner")]
        views: list[Answer] = [{}] * len(keys)
        with contextlib.suppress(RedisError, TimeoutError):
            async with asyncio.timeout(0.5):
                views = await self.crew.pulse.documents(keys)
        told: list[Answer] = []
        for spec, view, runner in zip(specs, views[::2], views[1::2], strict=True):
            run = self.runs.active.get(spec.run)
            child, owner = (self.crew.facts(run.child), run.owner) if run else ({}, {})
            told.append(
                {
                    **msgspec.to_builtins(spec),
                    "owner": owner,
                    "child": child,
                    "document": view,
                    "runner": runner,
                }
            )
        return {
            "hub": self._facts(),
            "workspace": str(self.workspace.root),
            "server": self.crew.server_facts(),
            "children": [self.crew.facts(child) for child in self.crew.children.values()],
            "halts": halts(self.workspace),
            "runs": told,
            "clients": sorted(self.runs.held),
        }

    # ── the socket

    def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.add(
            self._serve(reader, writer)
        )  # a task of ours: asyncio complains of its own when they end

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client: a line, its answer, and so on. Whatever it sends, it harms nobody but itself."""
        self._connections.add(writer)
        peer = _peer(writer.get_extra_info("socket"))
        try:
            while len(self._connections) <= CONNECTIONS_MAX:
                async with asyncio.timeout(IDLE_SECONDS):
                    line = await reader.readuntil(b"\n")
                asked, answer = await self._handle(line, peer)
                writer.write(answer)
                async with asyncio.timeout(IDLE_SECONDS):
                    await writer.drain()
                if isinstance(asked, Hold):
                    return await self._hold(asked.client, peer, reader)
            writer.write(_refusal(ValidationError("too many connections", fix="close some", code="E_LIMIT")))
        except asyncio.LimitOverrunError:
            fault = ValidationError(f"a question has at most {REQUEST_BYTES_MAX:,} bytes", code="E_LIMIT")
            writer.write(_refusal(fault))
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            pass  # it left, or never spoke, or does not listen
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _handle(self, line: bytes, peer: int) -> tuple[Asked | None, bytes]:
        try:
            asked = QUESTION.decode(line)
            return asked, msgspec.json.encode({"ok": True, **await self._answer(asked, peer)}) + b"\n"
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            fault = ValidationError(f"not a question: {error!s:.300}", fix='send {"do": "status"}, for one')
        except AlphaPandaException as error:
            fault = error
        except Exception as error:  # a fault of ours must reach the one who asked, and stop nobody else
            self.tasks.log.exception("hub.fault", error=error)
            fault = InfrastructureError(f"{type(error).__name__}: {error}", fix="alphapanda logs error")
        return None, _refusal(fault)

    async def _hold(self, client: str, peer: int, reader: asyncio.StreamReader) -> None:
        """While the connection stands, so do the client's runs. A forked copy of a dead client does not count."""
        self.runs.hold(client)
        known = mark(peer)
        try:
            while not known or mark(peer) == known:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1.0):
                        if not await reader.read(1024):
                            break
        finally:
            self.runs.release(client)


def halts(workspace: Workspace) -> dict[str, Answer]:
    """Namespaces that a kill switch holds: level, reason, by, at."""
    found: dict[str, Answer] = {}
    for flag in sorted(workspace.halt_flag("paper").parent.iterdir()):
        if not flag.name.startswith("."):
            with contextlib.suppress(OSError):
                found[flag.name] = document(flag.read_bytes()) or {
                    "level": 2,
                    "reason": "the flag is damaged",
                }
    return found


def _refusal(error: AlphaPandaException) -> bytes:
    fault = {"message": error.message, "fix": error.fix, "code": error.code, "kind": type(error).__name__}
    context = {key: value for key, value in error.context.items() if isinstance(value, str | int)}
    return msgspec.json.encode({"ok": False, "error": {**fault, "context": context}}) + b"\n"


def _peer(line: socket.socket) -> int:
    """The pid at the other end; 0 if the system does not say."""
    with contextlib.suppress(OSError, struct.error):
        if hasattr(socket, "SO_PEERCRED"):
            return struct.unpack("3i", line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        return struct.unpack("i", line.getsockopt(0, 2, 4))[0]  # SOL_LOCAL, LOCAL_PEERPID
    return 0


def main() -> int:
    """``python -m alphapanda.hub ROOT``: exit code 75 if another hub runs there, 78 if the settings are wrong."""
    workspace = Workspace.find(sys.argv[1] if len(sys.argv) > 1 else None)
    os.chdir(workspace.root)
    os.umask(0o077)
    try:
        settings = Settings.load()
        logs.configure(workspace, settings, "hub")
        asyncio.run(Hub(workspace, settings).run())
    except AlphaPandaException as error:
        sys.stderr.write(f"{error}\n")
        if error.code == "E_HUB_RUNS":
            return ALREADY_RUNS
        return CONFIGURATION if isinstance(error, ConfigurationError) else 1
    return 0


if __name__ == "__main__":
    code = main()
    logs.close()
    sys.stderr.flush()
    os._exit(code)  # nothing is left to do; a thread that waits for a process must not keep us

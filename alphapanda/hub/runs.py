"""The hub's runs: which there are, who keeps them, and what becomes of the next one that is asked for."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections import Counter, defaultdict, deque
from pathlib import Path
from typing import Any

import msgspec

from alphapanda.admission import Approvals
from alphapanda.clock import monotonic, wall_ns
from alphapanda.errors import (
    AuthorizationError,
    InfrastructureError,
    RedisError,
    UnknownNameError,
    ValidationError,
)
from alphapanda.events import ist
from alphapanda.hub.crew import FOLDER, START_SECONDS, Crew
from alphapanda.hub.pulse import send_command
from alphapanda.hub.questions import Answer, Start
from alphapanda.hub.supervise import Child
from alphapanda.hub.tasks import Tasks
from alphapanda.seal import Seal
from alphapanda.settings import Settings
from alphapanda.workspace import RunSpec, Workspace, replace_file

GRACE_SECONDS = 5.0  # runs outlive the connection of their notebook by so much
RUNS_MAX = 100
MODE_SECONDS = 3.0  # a gateway's heartbeat says what it does within one
PRACTICE = "paper"  # where nobody asks for an approval
TELL_SECONDS = 0.5  # what goes to the server may hold up the end of a run so long
PERSON = "stopped by a person"


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
        self._approvals = Approvals(workspace, settings)
        self.capital = round(settings.paper_trading.starting_cash * 100)  # paise, where none is given
        self.active: dict[str, Running] = {}
        self.ended: deque[RunSpec] = deque(maxlen=10)
        self.held: Counter[str] = Counter()  # client: its connections
        self._pending: dict[str, RunSpec] = {}  # of an earlier hub, until their notebooks are back
        self._unreleased: deque[Running] = deque(maxlen=RUNS_MAX)
        self.closing = False  # runs that end now were not ended by anybody: they come back with the next hub
        self._locks: dict[tuple[str, str], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._tasks, self._log = tasks, tasks.log
        self.seal: Seal  # given by the hub once it is the only one

    async def start(self, asked: Start, peer: int) -> Answer:
        """Start a run, attach to it, or put it in the place of what its client ran before."""
        asked.check()
        async with self._locks[asked.namespace, asked.name]:
            held = self._current(asked.namespace, asked.name)
            if held is not None and self._same(held.spec, asked):
                return self._attach(held, asked)
            if (
                held is not None
                and not asked.replace
                and asked.client not in held.holders
                and self._kept(held)
            ):
                raise _leased(held)
            if len(self.active) >= RUNS_MAX + (held is not None):
                raise ValidationError(f"{RUNS_MAX} runs at once are the most", fix="stop one", code="E_LIMIT")
            await self._gateway(asked.namespace)
            spec = self._spec(asked)
            if asked.namespace != PRACTICE and await self._mode(asked.namespace) == "live":
                await asyncio.to_thread(self._approvals.check, spec, asked.module)
            if held is not None:
                await self.stop(held, "replaced by another version of it")
            running = self._launch(self._laid_out(spec, asked.module), peer)
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
        capital = asked.capital or self.capital
        if mine != (asked.digest, asked.parameters, asked.symbols, capital, asked.seed):
            return False
        if asked.namespace != PRACTICE and not asked.limits:
            return True  # who asks without terms takes those that were approved
        terms = (asked.limits or None, asked.auto_resume)
        return (spec.limits or None, spec.auto_resume) == terms

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
            why, end, fix = (child.error or "it is not ready").partition("]; ")
            raise InfrastructureError(
                f"the gateway of {namespace} does not run: {why}{end[:1]}",
                fix=fix or "alphapanda logs error",
                code="E_GATEWAY",
            )

    async def _mode(self, namespace: str) -> str:
        """What its gateway says it does with orders; "" if it does not say in time. Only to refuse sooner what the
        gateway would refuse."""
        until = monotonic() + MODE_SECONDS
        while monotonic() < until:
            if mode := self.crew.pulse.health.get(f"gateway:{namespace}", {}).get("mode"):
                return str(mode)
            await asyncio.sleep(0.05)
        return ""

    def _spec(self, asked: Start) -> RunSpec:
        """A new run, which has no number yet."""
        return RunSpec(
            run="",
            namespace=asked.namespace,
            name=asked.name,
            class_name=asked.class_name,
            digest=asked.digest,
            parameters=asked.parameters,
            symbols=asked.symbols,
            capital=asked.capital or self.capital,
            seed=asked.seed,
            trade_from=asked.trade_from,
            client=asked.client,
            detached=asked.detach,
            limits=asked.limits,
            auto_resume=asked.auto_resume,
            started=wall_ns(),
        )

    def _laid_out(self, spec: RunSpec, module: str) -> RunSpec:
        """Its folder and its number, the next of its name."""
        stem = re.sub(r"[^a-z0-9]+", "-", spec.name.lower()).strip("-") or "run"
        taken = (re.fullmatch(rf"{stem}-(\d+)", folder.name) for folder in self.workspace.runs.iterdir())
        spec.run = f"{stem}-{1 + max((int(hit[1]) for hit in taken if hit), default=0)}"
        folder = self._folder(spec)
        try:
            folder.mkdir(mode=0o700)
            replace_file(folder / "strategy.py", module.encode())
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
        client, seal = self.crew.pulse.client, self.seal
        while self._unreleased:
            run = self._unreleased[0]
            spec, why = run.spec, run.stopping or run.spec.reason
            if run.flatten:
                await send_command(client, seal, spec.namespace, "operator.flatten", spec.run, why, "hub")
            await send_command(client, seal, spec.namespace, "run.release", spec.run, why, "hub")
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

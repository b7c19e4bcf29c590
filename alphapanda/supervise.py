"""The hub's children: started, waited for, watched, tried again with patience, ended, and never left behind.

Rules. A child has a session of its own, so no terminal or kernel can interrupt it; it dies when its stdin ends, so a
hub that is killed leaves nobody. It is up when it prints ``ready``. It is well while its heartbeat moves. Exit code 78
is final.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from alphapanda.buses.base import encode
from alphapanda.clock import monotonic, wall_ns
from alphapanda.errors import InfrastructureError, RedisError, RetryPolicy
from alphapanda.events import SECOND, EventEnvelope
from alphapanda.hub_client import CONFIGURATION, Record, children, facts, mark, write_children
from alphapanda.logs import channel
from alphapanda.server import address
from alphapanda.settings import RedisSettings, Settings
from alphapanda.state.client import open_client, text, told
from alphapanda.workspace import Workspace

if TYPE_CHECKING:
    from redis.asyncio import Redis

ChildState = Literal["starting", "ready", "waiting", "stopping", "stopped", "failed"]
STEADY = 10.0  # seconds up after which earlier failures no longer lengthen the pause
LOG_BYTES_MAX = 1_000_000
WORKSPACE, NAMESPACE, FOLDER = "{workspace}", "{namespace}", "{folder}"
SERVER_AGAIN = RetryPolicy(delay_first=0.05, delay_max=5.0)
DEAF_SECONDS = 30.0  # a server that lives and does not answer so long is ended
LOOK_SECONDS = 1.0
START_SECONDS = 15.0  # who takes longer to be ready is a trouble; nobody waits for it any more


class Policy(msgspec.Struct, frozen=True):
    """How a role is waited for, watched and tried again; all in seconds."""

    ready: float = 30.0  # from the start to the line
    silent: float = 30.0  # a heartbeat may stand still so long
    retry: RetryPolicy = RetryPolicy(delay_first=0.1, delay_max=10.0)
    failures: int = 0  # so many within the window are final; 0: never
    window: float = 60.0
    ends: bool = False  # exit code 0, unasked, is an end and not a failure


# ── one child ────────────────────────────────────────────────────────────────────────────────────────────────────


class Child:
    """One role kept running until it is stopped, ends by itself, or fails for good.

    ``changed`` is called whenever its state or pid changes. ``up`` is set while it serves, ``ended`` when nothing more
    will be done; ``code`` and ``error`` then tell why. Times are wall ns.
    """

    def __init__(
        self,
        role: str,
        command: Sequence[str],
        policy: Policy,
        *,
        folder: Path,
        errors: Path,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.role, self.command, self.policy = role, tuple(command), policy
        self.state: ChildState = "waiting"
        self.pid, self.mark, self.since, self.restarts = 0, "", wall_ns(), 0
        self.code: int | None = None
        self.error = ""
        self.up, self.ended = asyncio.Event(), asyncio.Event()
        self._folder, self._errors, self._changed = folder, errors, changed
        self._process: subprocess.Popen[bytes] | None = None
        self._leaving, self._again = asyncio.Event(), False
        self._failures: deque[float] = deque(maxlen=100)
        self._tries = 0
        self._draws = Random(f"{role}{os.getpid()}")  # spreads the pauses; nothing is decided on it
        self._beat, self._silence = 0, 0.0
        self._fault = ""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to keep it running."""
        self._task = asyncio.create_task(self._keep(), name=self.role)

    async def stop(self, line: bytes = b"", *, grace: float = 0.0, patience: float = 2.0) -> None:
        """End it for good: the line and ``grace`` seconds, SIGTERM and ``patience`` seconds, SIGKILL."""
        self._leaving.set()
        if self._task is None:
            self._settle("stopped")
        elif not self.ended.is_set():
            self._set("stopping")
            if line and self.tell(line):
                await self._gone(grace)
            self.signal(signal.SIGTERM)
            await self._gone(patience)
            self.signal(signal.SIGKILL)
            await self.ended.wait()

    def restart(self) -> None:
        """End it now and start it again at once; not a failure."""
        self._again = True
        self.signal(signal.SIGTERM)
        asyncio.get_running_loop().call_later(2.0, self._kill, self.pid)

    def tell(self, line: bytes) -> bool:
        """Write to its stdin; False if it is not there to read."""
        if self._process is None or self._process.stdin is None:
            return False
        try:
            self._process.stdin.write(line)
        except OSError:
            return False
        return True

    def signal(self, number: int) -> None:
        """Signal the running process, if there is one."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    def heard(self, beat: int, elapsed: float) -> None:
        """What a look at its heartbeat found, ``elapsed`` seconds after the look before: kills it when it hangs."""
        if beat != self._beat or self.state != "ready":
            self._beat, self._silence = beat, 0.0
            return
        self._silence += elapsed
        if self._silence > self.policy.silent:
            self._silence = 0.0
            self._fault = f"no heartbeat for {self.policy.silent:g} s"
            self.signal(signal.SIGKILL)

    @property
    def record(self) -> Record:
        """The process of now, as it is written down."""
        return Record(self.role, self.pid, self.mark, self.since)

    async def _keep(self) -> None:
        try:
            while not self._leaving.is_set():
                code = self.code = await self._live()
                if self._leaving.is_set():
                    break
                if self._again:
                    self._again = False
                    continue
                if code == 0 and self.policy.ends:
                    break
                self.error = self._fault or self._last_words() or f"ended with {_said(code)}"
                self._failures.append(monotonic())
                recent = sum(at > monotonic() - self.policy.window for at in self._failures)
                if code == CONFIGURATION or 0 < self.policy.failures <= recent:
                    self._settle("failed")
                    return
                self._tries += 1
                self.restarts += 1
                self._set("waiting")
                with contextlib.suppress(TimeoutError):
                    delay = self.policy.retry.delay(self._tries, self._draws.random())
                    await asyncio.wait_for(self._leaving.wait(), delay)
            self._settle("stopped")
        finally:
            if not self.ended.is_set():  # cancelled, or a fault of ours: leave no process behind
                self.signal(signal.SIGKILL)
                self._settle("failed")

    async def _live(self) -> int:
        """One life, from start to exit code."""
        self._fault = ""
        try:
            process = self._process = self._spawn()
        except OSError as error:
            self._fault = f"cannot be started: {error.strerror}"
            return 1
        loop = asyncio.get_running_loop()
        exited: asyncio.Future[int] = loop.create_future()
        threading.Thread(target=_wait, args=(process, loop, exited), daemon=True).start()
        said: asyncio.Future[bytes] = loop.create_future()
        assert process.stdout is not None  # noqa: S101 - piped
        loop.add_reader(process.stdout, _listen, process.stdout.fileno(), bytearray(), said)
        born = monotonic()
        self.pid, self.mark = process.pid, mark(process.pid)
        self._set("stopping" if self._leaving.is_set() else "starting")
        try:
            await asyncio.wait((said, exited), timeout=self.policy.ready, return_when=asyncio.FIRST_COMPLETED)
            if said.done() and said.result() == b"ready":
                self.up.set()
                if self.state == "starting":
                    self._set("ready")
            elif not exited.done() and (not said.done() or said.result()):
                wrong = f"said {said.result()[:80]!r} instead of ready" if said.done() else ""
                self._fault = wrong or f"not ready within {self.policy.ready:g} s"
                self.signal(signal.SIGKILL)
            return await exited
        finally:
            if monotonic() - born > STEADY and self.up.is_set():
                self._tries = 0
            self.up.clear()
            self.pid, self.mark = 0, ""
            loop.remove_reader(process.stdout)
            process.stdout.close()
            if process.stdin is not None:
                process.stdin.close()

    def _spawn(self) -> subprocess.Popen[bytes]:
        try:
            full = self._errors.exists() and self._errors.stat().st_size > LOG_BYTES_MAX
            errors = self._errors.open("wb" if full else "ab", buffering=0)
        except OSError:  # a full disk stops the words, not the work
            errors = Path(os.devnull).open("ab", buffering=0)  # noqa: SIM115 - closed two lines below
        with errors:
            self._words_from = errors.tell()
            return subprocess.Popen(  # noqa: S603 - the hub's own table of commands
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=self._folder,
                start_new_session=True,
                bufsize=0,
            )

    def _last_words(self) -> str:
        """The end of what it wrote to stderr in its last life."""
        try:
            with self._errors.open("rb") as file:
                file.seek(max(self._words_from, self._errors.stat().st_size - 4000))
                lines = file.read().decode("utf-8", "replace").split("\n")
        except OSError:
            return ""
        return next((line.strip()[:500] for line in reversed(lines) if line.strip()), "")

    async def _gone(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ended.wait(), seconds)

    def _kill(self, pid: int) -> None:
        if self.pid == pid:
            self.signal(signal.SIGKILL)

    def _set(self, state: ChildState) -> None:
        self.state, self.since = state, wall_ns()
        self._changed()

    def _settle(self, state: ChildState) -> None:
        self.ended.set()
        self._set(state)


def _wait(
    process: subprocess.Popen[bytes], loop: asyncio.AbstractEventLoop, exited: asyncio.Future[int]
) -> None:
    """In a thread of its own: asyncio's own way waits, from Python 3.12 on, for grandchildren that hold the pipe."""
    code = process.wait()
    with contextlib.suppress(RuntimeError):  # the hub's loop has ended before
        loop.call_soon_threadsafe(lambda: exited.done() or exited.set_result(code))


def _listen(descriptor: int, heard: bytearray, said: asyncio.Future[bytes]) -> None:
    """The first line, then nothing but room: a pipe that is full would stop the child."""
    data = os.read(descriptor, 65_536)
    if not data:
        asyncio.get_running_loop().remove_reader(descriptor)
    if not said.done():
        heard += data
        if not data or b"\n" in heard or len(heard) > 1000:
            said.set_result(bytes(heard).split(b"\n", 1)[0].strip())


def _said(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


class Meter:
    """Shares of a core and megabytes that processes use; shares over the last five to ten seconds."""

    def __init__(self) -> None:
        self.read: dict[int, tuple[float, float]] = {}  # pid: percent of a core, MB
        self._before: dict[int, tuple[float, float]] = {}
        self._since: dict[int, tuple[float, float]] = {}

    def look(self, pids: Iterable[int]) -> None:
        """Measure these processes; the others are forgotten."""
        now, found = monotonic(), {pid: seen for pid in pids if (seen := facts(pid))}
        self._since = {pid: self._since.get(pid, (seen.cpu, now)) for pid, seen in found.items()}
        self.read = {}
        for pid, seen in found.items():
            cpu, at = self._before.get(pid, self._since[pid])
            share = 100 * (seen.cpu - cpu) / max(now - at, 1.0)
            self.read[pid] = (round(share, 1), round(seen.rss / 1e6, 1))
            if now - self._since[pid][1] >= 5.0:
                self._before[pid], self._since[pid] = self._since[pid], (seen.cpu, now)
        self._before = {pid: seen for pid, seen in self._before.items() if pid in found}


# ── the line to the server ───────────────────────────────────────────────────────────────────────────────────────

Command = Literal[
    "operator.halt", "operator.resume", "operator.cancel_all", "operator.flatten", "run.release", "run.stop"
]
SUBSCRIPTIONS = "market:subscriptions"
BEAT_MS = 10_000  # a heartbeat is forgotten after so long


class Pulse:
    """What the hub says on the server and hears there: heartbeats, who wants which symbols, commands, documents.

    ``subscriptions`` (holder: symbols) is what the server should hold; it is put right again and again, so that a
    server that lost everything has it a moment later. Every failure is a RedisError.
    """

    def __init__(self, address: str | Path, settings: RedisSettings) -> None:
        self.client = open_client(address, settings)
        self.subscriptions: dict[str, list[str]] = {}
        self.health: dict[str, dict[str, Any]] = {}
        self.trouble = ""  # the server answers, and refuses to write

    async def beat(self, own: dict[str, Any], roles: Iterable[str]) -> None:
        """Leave the hub's heartbeat, read the others'."""
        names = list(roles)
        with told("heartbeat"):
            async with self.client.pipeline(transaction=False) as line:
                line.set("health:hub", msgspec.json.encode(own), px=BEAT_MS)
                line.mget([f"health:{name}" for name in names] or ["health:hub"])
                wrote, found = await line.execute(raise_on_error=False)
            if isinstance(found, Exception):
                raise found
            self.trouble = str(wrote) if isinstance(wrote, Exception) else ""
            self.health = {name: document(body) for name, body in zip(names, found, strict=False) if body}

    async def subscribe(self) -> None:
        """Put the subscriptions right."""
        with told("subscriptions", SUBSCRIPTIONS):
            found = await self.client.hgetall(SUBSCRIPTIONS)
        here = {text(holder): body for holder, body in found.items()}
        wanted: dict[Any, Any] = {
            holder: msgspec.json.encode(symbols) for holder, symbols in self.subscriptions.items()
        }
        changed = {holder: body for holder, body in wanted.items() if here.get(holder) != body}
        gone = [holder for holder in here if holder not in wanted]
        if changed or gone:
            with told("subscriptions", SUBSCRIPTIONS):
                line = self.client.pipeline()
                if changed:
                    line.hset(SUBSCRIPTIONS, mapping=changed)
                if gone:
                    line.hdel(SUBSCRIPTIONS, *gone)
                await line.execute()

    async def documents(self, keys: Sequence[str]) -> list[dict[str, Any]]:
        """Views as their writers left them; empty where there is none."""
        with told("documents"):
            found = await self.client.mget(keys) if keys else []
        return [document(body) if body else {} for body in found]


def document(body: bytes | str) -> dict[str, Any]:
    """A view's JSON; empty if it is none."""
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.MsgspecError:
        return {}


async def send_command(client: Redis, namespace: str, kind: Command, run: str, reason: str, by: str) -> None:
    """Tell a namespace's gateway what a person or the hub wants of it; ``run`` empty: of all its runs."""
    at = wall_ns()
    told_as = f"{by}:{kind}:{run}:{at}"
    envelope = EventEnvelope(
        id=told_as,
        type=kind,
        ts=at,
        source=by,
        namespace=namespace,
        key=run,
        correlation_id=told_as,
        trace_id=told_as,
        data={"run": run, "reason": reason, "by": by},
    )
    with told("command", kind, namespace):
        await client.xadd(f"{namespace}.commands", {"b": encode(envelope)})


# ── all of them ──────────────────────────────────────────────────────────────────────────────────────────────────


class ServerLike(Protocol):
    """What is needed of the server. Its methods block."""

    @property
    def pid(self) -> int | None: ...
    @property
    def alive(self) -> bool: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...


class Crew:
    """Everything the hub keeps running: the server, and a child for each role that was asked for.

    ``lines`` holds a command line for each kind of role (the part before the colon), in which WORKSPACE, NAMESPACE
    (the part after it) and FOLDER stand for what they say.
    """

    def __init__(
        self,
        workspace: Workspace,
        settings: Settings,
        lines: Mapping[str, Sequence[str]],
        policies: Mapping[str, Policy],
        server: ServerLike | None,
    ) -> None:
        self.workspace, self.lines, self.policies, self.server = workspace, lines, policies, server
        self.address = address(workspace, settings)
        self.pulse = Pulse(self.address, settings.redis)
        self.children: dict[str, Child] = {}
        self.served = asyncio.Event()  # the server has answered
        self.seen: set[str] = set()  # roles that have been up
        self._meter = Meter()
        self._fault, self._deaf, self._tries = "", 0.0, 0
        self._log = channel("application")

    @property
    def troubles(self) -> list[str]:
        """One sentence for each thing that is not as it should be."""
        found = [self._fault] if self._fault else []
        found += [f"the server refuses writes: {self.pulse.trouble}"] if self.pulse.trouble else []
        for role, child in self.children.items():
            if child.state in ("waiting", "failed"):
                how = "failed" if child.state == "failed" else "starts again"
                found.append(f"{role} {how}: {child.error}")
            elif child.state == "starting" and wall_ns() - child.since > START_SECONDS * SECOND:
                found.append(f"{role} is not ready yet")
        return found

    def left_behind(self) -> list[Record]:
        """Live children of an earlier hub, but for its server: that one is taken over."""
        return [one for one in children(self.workspace) if one.role != "server"]

    def keep(self, role: str, **words: str) -> Child:
        """The child of this role, started if it is not kept yet."""
        if role in self.children and not self.children[role].ended.is_set():
            return self.children[role]
        kind, _, name = role.partition(":")
        words = {WORKSPACE: str(self.workspace.root), NAMESPACE: name, **words}
        command = [words.get(word, word) for word in self.lines[kind]]
        errors = self.workspace.logs / f"{role.replace(':', '-')}.err"
        if FOLDER in words:
            errors = Path(words[FOLDER]) / "stderr.txt"
        child = Child(
            role, command, self.policies[kind], folder=self.workspace.root, errors=errors, changed=self.note
        )
        self.children[role] = child
        child.start()
        return child

    def note(self) -> None:
        """Write down who runs, for those who look when the hub does not answer."""
        records = [child.record for child in self.children.values() if child.pid]
        if self.server is not None and self.server.pid is not None:
            records.append(Record("server", self.server.pid, mark(self.server.pid)))
        self.seen |= {role for role, child in self.children.items() if child.up.is_set()}
        try:
            write_children(self.workspace, records)
        except OSError as error:
            self._log.error("hub.children_not_written", error=error)

    async def serve(self) -> None:
        """Start the server, or start it again after it died: its clients come back by themselves."""
        if self.server is None or self.server.alive:
            self.served.set()
            return
        if self.served.is_set():
            self._fault = self._fault or "the server died"
            self._log.error("hub.server_died")
            await asyncio.sleep(SERVER_AGAIN.delay(self._tries, 0.0) if self._tries else 0.0)
            self._tries += 1
        try:
            await asyncio.to_thread(self.server.start)
        except InfrastructureError as error:
            if not self.served.is_set():
                raise
            self._fault = error.message
            return
        self._fault, self._deaf, self._tries = "", 0.0, 0
        self.served.set()
        self.note()

    async def look(self, own: dict[str, Any]) -> None:
        """Measure the processes, read heartbeats and leave the hub's own; who hangs is killed."""
        began = monotonic()
        server = self.server.pid if self.server is not None else None
        self._meter.look([os.getpid(), server or 0, *(child.pid for child in self.children.values())])
        try:
            await self.pulse.beat({**own, **self.used(os.getpid())}, list(self.children))
        except RedisError as error:
            if error.context["cause"] != "loading":
                self._deaf += LOOK_SECONDS + monotonic() - began
            if self._deaf > DEAF_SECONDS and server:
                self._log.error("hub.server_deaf", seconds=self._deaf)
                Record("server", server, mark(server)).signal(signal.SIGKILL)
            return
        self._deaf = 0.0
        for role, child in self.children.items():  # silence counts only while the server answers
            child.heard(self.pulse.health.get(role, {}).get("at", 0), LOOK_SECONDS)

    def used(self, pid: int | None) -> dict[str, float]:
        """Percent of a core and megabytes."""
        cpu, rss = self._meter.read.get(pid or 0, (0.0, 0.0))
        return {"cpu": cpu, "rss_mb": rss}

    def facts(self, child: Child) -> dict[str, Any]:
        """A child for people."""
        return {
            "role": child.role,
            "pid": child.pid,
            "state": child.state,
            "since": child.since,
            "restarts": child.restarts,
            "error": child.error,
            **self.used(child.pid),
            "health": self.pulse.health.get(child.role, {}),
        }

    def server_facts(self) -> dict[str, Any]:
        """The server for people."""
        pid = self.server.pid if self.server is not None else None
        alive = self.server.alive if self.server is not None else None
        return {
            "address": str(self.address),
            "embedded": self.server is not None,
            "pid": pid,
            "alive": alive,
            "error": self._fault,
            **self.used(pid),
        }

    async def close(self) -> None:
        """End the children, then the server, in any case within three seconds."""
        await asyncio.gather(*(child.stop(patience=1.5) for child in self.children.values()))
        if self.server is not None and self.server.pid is not None:
            record = Record("server", self.server.pid, mark(self.server.pid))
            asyncio.get_running_loop().call_later(1.0, record.signal, signal.SIGKILL)
            await asyncio.to_thread(self.server.stop)
        await self.pulse.client.aclose()
        self.note()

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
import signal
import socket
import struct
import sys
from collections.abc import Callable, Generator, Mapping
from importlib.metadata import version

import msgspec

from alphapanda.clock import monotonic, wall_ns
from alphapanda.errors import (
    AlphaPandaException,
    InfrastructureError,
    RedisError,
    UnknownNameError,
    ValidationError,
)
from alphapanda.hub.crew import LINES, LOOK_SECONDS, OFFERED, POLICIES, START_SECONDS, Crew, ServerLike
from alphapanda.hub.deadman import DeadMan
from alphapanda.hub.questions import (
    QUESTION,
    Answer,
    Asked,
    Hold,
    Offer,
    Ping,
    Restart,
    Shutdown,
    Start,
    Status,
    Stop,
    StopAll,
    refusal,
)
from alphapanda.hub.runs import PERSON, Runs
from alphapanda.hub.supervise import Policy
from alphapanda.hub.tasks import Tasks
from alphapanda.processes import Record, end_processes, mark
from alphapanda.seal import Seal
from alphapanda.server import Server, embedded
from alphapanda.settings import Settings
from alphapanda.workspace import Workspace, replace_file

NEEDED = ("feed", "gateway:paper")  # without these nothing can be traded
REQUEST_BYTES_MAX, CONNECTIONS_MAX = 2_000_000, 200
IDLE_SECONDS = 30.0  # for a line that does not come, or is not taken


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
        self.dead_man = DeadMan(self.crew, self.tasks, settings.monitoring.dead_man_seconds)
        self.runs = Runs(workspace, settings, self.crew, self.tasks)
        self.closing = asyncio.Event()
        self.person = False  # who asked it to end
        self._started = monotonic()
        self._record = Record("hub", os.getpid(), mark(os.getpid()), wall_ns())
        self._lock: os.stat_result
        self._connections: set[asyncio.StreamWriter] = set()

    async def run(self) -> None:
        """Be the hub until told to end. InfrastructureError with code E_HUB_RUNS if another one is."""
        with self._alone():
            self.runs.seal = Seal.of(self.workspace, make=True)
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
            self._lock = os.fstat(file.fileno())
            yield

    async def _open(self) -> None:
        await self.crew.serve()
        self.tasks.add(self.tasks.rounds(self.crew.serve, 0.2))
        for role in NEEDED:
            self.crew.keep(role)
        for role in self.workspace.offered():
            if role in OFFERED:
                self.crew.keep(role)
        self.tasks.add(self.tasks.rounds(self._look, LOOK_SECONDS))
        self.runs.revive()

    def _has_lost_its_workspace(self) -> bool:
        """Whether the folder was removed under us: nothing that we run has a place any more."""
        try:
            return not os.path.samestat(self.workspace.hub_lock.stat(), self._lock)
        except FileNotFoundError:
            return True
        except OSError:
            return False  # who knows

    async def _look(self) -> None:
        if self._has_lost_its_workspace():
            self.tasks.log.error("hub.workspace_removed")
            self.closing.set()
        pid, detail = os.getpid(), "; ".join(self.troubles)
        told = {"role": "hub", "pid": pid, "state": self.state, "detail": detail, "at": wall_ns()}
        self.dead_man.look(await self.crew.look({**told, "started": self._record.at}))
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
        fired = [f"{role} was gone for too long: {what}" for role, what in self.dead_man.fired.items()]
        return [*self.crew.troubles, *fired]

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
            case Offer():
                return await self._offer(asked)
            case _:
                return {}

    async def _offer(self, asked: Offer) -> Answer:
        """What a person wants kept is written down first: the next hub starts it, too."""
        for role in asked.roles:
            if role not in OFFERED:
                raise UnknownNameError("role", role, OFFERED)
        before = set(self.workspace.offered())
        wanted = before - set(asked.roles) if asked.end else before | set(asked.roles)
        kept = [role for role in OFFERED if role in wanted]
        self.workspace.offer(kept)
        for role in asked.roles:
            if not asked.end:
                self.crew.keep(role)
            elif child := self.crew.children.pop(role, None):
                await child.stop(patience=1.5)
        self.crew.note()
        return {"roles": kept}

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
            "halts": self.workspace.halts(),
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
            writer.write(refusal(ValidationError("too many connections", fix="close some", code="E_LIMIT")))
        except asyncio.LimitOverrunError:
            fault = ValidationError(f"a question has at most {REQUEST_BYTES_MAX:,} bytes", code="E_LIMIT")
            writer.write(refusal(fault))
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
        return None, refusal(fault)

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


def _peer(line: socket.socket) -> int:
    """The pid at the other end; 0 if the system does not say."""
    with contextlib.suppress(OSError, struct.error):
        if hasattr(socket, "SO_PEERCRED"):
            return struct.unpack("3i", line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        return struct.unpack("i", line.getsockopt(0, 2, 4))[0]  # SOL_LOCAL, LOCAL_PEERPID
    return 0

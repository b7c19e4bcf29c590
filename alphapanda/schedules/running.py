"""One run of a scheduled notebook, from its claim to its outcome on record.

The worker is a process group of its own, its kernel another; both end at the time-out, when we are told to stop, and
when we die. A notebook runs once at a time: the worker holds a lock on its name for as long as it lives, whoever
started it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import IO

import msgspec

from alphapanda.clock import monotonic, wall_ns
from alphapanda.environment import without_secrets
from alphapanda.errors import InfrastructureError
from alphapanda.events import ist
from alphapanda.logs.redaction import safe_text
from alphapanda.processes import PYTHON, Record, mark
from alphapanda.schedules.store import Run, Schedule, State, Store
from alphapanda.schedules.worker import Order, Told
from alphapanda.workspace import VARIABLE, Workspace

WORKER = (*PYTHON, "alphapanda.schedules.worker")
LOOK_SECONDS = 0.1  # between two looks at who wants it to end
LEAVE_SECONDS = 5.0  # a worker that has told its outcome leaves by itself
MESSAGE_MAX, SAID_MAX = 500, 4_000  # characters of an error, bytes of what a worker said on stderr
KERNELS_OWN = ("JPY_", "MPLBACKEND", "PYDEVD_")


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where runs of a workspace happen, and what each may use. Tests hand it a ``worker`` of their own."""

    workspace: Workspace
    folder: Path  # of the notebooks
    memory_mb: int = 4096
    kept: int = 200
    worker: Sequence[str] = WORKER
    clock: Callable[[], int] = wall_ns

    @property
    def home(self) -> Path:
        """Where the record and the executed notebooks lie."""
        home = self.workspace.home / "schedules"
        home.mkdir(mode=0o700, exist_ok=True)
        return home

    @property
    def store(self) -> Store:
        """The record."""
        return Store(self.home / "schedules.sqlite")


@contextlib.contextmanager
def turn(place: Place, notebook: str) -> Generator[IO[bytes] | None]:
    """The right to run this notebook, None if somebody else has it. A process that inherits the file keeps it."""
    name = hashlib.sha256(notebook.encode()).hexdigest()[:16]
    with (place.home / f"{name}.lock").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        yield file


def perform(
    place: Place, schedule: Schedule, run: Run, lock: IO[bytes], stop: threading.Event | None = None
) -> Run:
    """Run a notebook whose row says ``started`` by us, and put on record how it ended. Blocks until then."""
    executed = place.home / schedule.name / f"{ist(run.due):%Y%m%d-%H%M%S}-{run.id}.ipynb"
    executed.parent.mkdir(mode=0o700, exist_ok=True)
    order = Order(
        folder=str(place.folder), notebook=run.notebook, executed=str(executed), parameters=run.parameters,
        memory_mb=place.memory_mb,
    )  # fmt: skip
    run = _change(place, run, path=str(executed.relative_to(place.workspace.root)))
    try:
        worker = _Worker(place, order, lock)
    except OSError as error:
        return finished(place, run, "failed", error="E_START", message=f"cannot be started: {error.strerror}")
    with worker:
        run = _change(place, run, process=_known(worker.process.pid))
        try:
            return _followed(place, schedule, run, worker, stop)
        except KeyboardInterrupt:
            _ended(place, run, worker, "killed", "interrupted by hand")
            raise


def _followed(
    place: Place, schedule: Schedule, run: Run, worker: _Worker, stop: threading.Event | None
) -> Run:
    """Wait for its outcome, or end it."""
    until = monotonic() + schedule.timeout
    while (told := worker.heard(LOOK_SECONDS)) is not None and not told.ended:
        if told.kernel:
            worker.kernel = told.kernel
            run = _change(place, run, kernel=_known(told.kernel))
        if stop is not None and stop.is_set():
            return _ended(place, run, worker, "killed", "the scheduler ended")
        if monotonic() > until:
            return _ended(place, run, worker, "timed out", f"not done after {schedule.timeout:g} s")
    if told is None:
        state, why = worker.last_words()
        return _ended(place, run, worker, state, why)
    worker.left(LEAVE_SECONDS)
    return finished(
        place, run, "ok" if told.ok else "failed",
        source=told.source, error=told.error, cell=told.cell, message=told.message,
    )  # fmt: skip


def finished(
    place: Place,
    run: Run,
    state: State,
    *,
    source: str = "",
    error: str = "",
    cell: int = 0,
    message: str = "",
) -> Run:
    """Put on record how a run ended, and let go of executed notebooks beyond those that are kept."""
    digest, path = "", place.workspace.root / run.path
    if run.path:
        with contextlib.suppress(OSError):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            path.chmod(0o600)
    done = msgspec.structs.replace(
        run, state=state, ended=place.clock(), source=source, executed=digest, path=run.path if digest else "",
        error=error, cell=cell, message=safe_text(message)[:MESSAGE_MAX],
    )  # fmt: skip
    place.store.change(done, run.state)
    if run.path:
        for old in sorted(path.parent.glob("*.ipynb"), key=_number)[: -place.kept]:
            old.unlink(missing_ok=True)
    return done


def recover(place: Place) -> list[Run]:
    """Runs that were underway when whoever ran them died: their processes end, and they are on record as killed."""
    found: list[Run] = []
    for run in place.store.waiting("started"):
        if not _record(run.owner).alive:
            for one in (run.process, run.kernel):
                end_group(_record(one))
            found.append(finished(place, run, "killed", error="E_KILLED", message="the scheduler died"))
    return found


def owner() -> str:
    """Us, as a row says who runs it."""
    return _known(os.getpid())


def end_group(record: Record) -> None:
    """Kill a process that is still the one that was written down, with its group."""
    if record.alive:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(record.pid) == record.pid:
                os.killpg(record.pid, signal.SIGKILL)
        record.signal(signal.SIGKILL)


class _Worker:
    """The process that runs one notebook. It never outlives the block."""

    def __init__(self, place: Place, order: Order, lock: IO[bytes]) -> None:
        self.kernel = 0
        self._heard, self._said = bytearray(), bytearray()
        ours, theirs = os.pipe()
        given = without_secrets(os.environ)
        environment = {k: v for k, v in given.items() if not k.startswith(KERNELS_OWN)}
        try:
            self.process = subprocess.Popen(  # noqa: S603 - our own command; what to run is told over stdin
                [*place.worker, str(theirs)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                cwd=place.workspace.root,
                env={**environment, VARIABLE: str(place.workspace.root)},
                pass_fds=(theirs, lock.fileno()),
                start_new_session=True,
            )
        except OSError:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self._pipe = ours
        threading.Thread(target=self._drain, daemon=True).start()
        with contextlib.suppress(BrokenPipeError):
            assert self.process.stdin is not None  # noqa: S101 - piped
            self.process.stdin.write(msgspec.json.encode(order) + b"\n")
            self.process.stdin.flush()  # it stays open: its end means that we are gone

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        os.close(self._pipe)
        for pipe in (self.process.stdin, self.process.stderr):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()

    def heard(self, seconds: float) -> Told | None:
        """The next thing it tells, nothing new after so long, None once it will tell no more."""
        while b"\n" not in self._heard:
            if not select.select([self._pipe], [], [], seconds)[0]:
                return Told()
            part = os.read(self._pipe, 65_536)
            if not part:
                return None
            self._heard += part
        line, _, rest = bytes(self._heard).partition(b"\n")
        self._heard = bytearray(rest)
        return msgspec.json.decode(line, type=Told)

    def left(self, seconds: float) -> None:
        """Let it end by itself."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)

    def end(self) -> None:
        """Kill it and its kernel, each with its group."""
        if self.process.poll() is None:
            for pid in (self.process.pid, self.kernel):
                end_group(Record("", pid, mark(pid)))
        self.process.wait()

    def last_words(self) -> tuple[State, str]:
        """Why it ended without an outcome."""
        self.left(LEAVE_SECONDS)
        code = self.process.poll()
        said = self._said.decode("utf-8", "replace").strip().splitlines()
        if code is not None and code < 0:
            return "killed", f"its process was ended by {signal.Signals(-code).name}"
        return "failed", said[
            -1
        ] if said else f"its process ended with code {code} before it told how it went"

    def _drain(self) -> None:
        """Read what it says, and keep the end of it."""
        pipe = self.process.stderr
        assert pipe is not None  # noqa: S101 - piped
        with contextlib.suppress(OSError, ValueError):
            while part := os.read(pipe.fileno(), 65_536):
                self._said = (self._said + part)[-SAID_MAX:]


def _ended(place: Place, run: Run, worker: _Worker, state: State, why: str) -> Run:
    worker.end()
    code = {"timed out": "E_TIMEOUT", "killed": "E_KILLED"}.get(state, "E_WORKER")
    return finished(place, run, state, error=code, message=why)


def _change(place: Place, run: Run, **facts: str) -> Run:
    changed = msgspec.structs.replace(run, **facts)
    if not place.store.change(changed, run.state):
        raise InfrastructureError(
            f"run {run.id} of {run.schedule} was taken from us", fix="see `alphapanda schedule history`"
        )
    return changed


def _known(pid: int) -> str:
    return f"{pid} {mark(pid)}"


def _record(text: str) -> Record:
    pid, _, sign = text.partition(" ")
    return Record("", int(pid or 0), sign)


def _number(path: Path) -> int:
    last = path.stem.rpartition("-")[2]
    return int(last) if last.isdigit() else 0

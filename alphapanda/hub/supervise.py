"""One of the hub's children: started, waited for, watched, tried again with patience, ended, and never left behind.

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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Literal

import msgspec

from alphapanda.clock import monotonic, wall_ns
from alphapanda.errors import RetryPolicy
from alphapanda.processes import CONFIGURATION, Record, mark

ChildState = Literal["starting", "ready", "waiting", "stopping", "stopped", "failed"]
STEADY = 10.0  # seconds up after which earlier failures no longer lengthen the pause
LOG_BYTES_MAX = 1_000_000


class Policy(msgspec.Struct, frozen=True):
    """How a role is waited for, watched and tried again; all in seconds."""

    ready: float = 30.0  # from the start to the line
    silent: float = 30.0  # a heartbeat may stand still so long
    retry: RetryPolicy = RetryPolicy(delay_first=0.1, delay_max=10.0)
    failures: int = 0  # so many within the window are final; 0: never
    window: float = 60.0
    ends: bool = False  # exit code 0, unasked, is an end and not a failure


class Child:
    """One role kept running until it is stopped, ends by itself, or fails for good.

    ``changed`` is called whenever its state or pid changes. ``up`` is set while it serves, ``ended`` when nothing more
    will be done; ``code`` and ``error`` then tell why. Times are wall ns. ``environment`` is its own, None: the hub's.
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
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.role, self.command, self.policy = role, tuple(command), policy
        self.state: ChildState = "waiting"
        self.pid, self.mark, self.since, self.restarts = 0, "", wall_ns(), 0
        self.code: int | None = None
        self.error = ""
        self.up, self.ended = asyncio.Event(), asyncio.Event()
        self._folder, self._errors, self._changed = folder, errors, changed
        self._environment = environment
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
        if (
            beat and beat != self._beat
        ) or self.state != "ready":  # 0: it has expired, which is no sign of life
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
                env=self._environment,
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

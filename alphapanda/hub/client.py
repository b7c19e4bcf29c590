"""The hub seen from outside: ask it, start it, hold on to it.

    client = ensure_hub(workspace, progress=print)       # starts one if none answers
    client.ask({"do": "status"})                         # a dict, or the error the hub raised
    hold = client.hold("kernel-1")                       # runs of this client live while this does

Blocking and safe to use from any thread; a coroutine calls ``asyncio.to_thread(client.ask, ...)``. Each question has a
connection of its own. ``processes`` finds those of a hub that does not answer.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from alphapanda import errors
from alphapanda.clock import monotonic, pause
from alphapanda.errors import AlphaPandaException, ConfigurationError, InfrastructureError
from alphapanda.processes import CONFIGURATION, PYTHON
from alphapanda.workspace import Workspace

ANSWER_BYTES_MAX = 64_000_000
READY_SECONDS = 30.0  # a second or two as a rule; a machine that is busy starts Python slowly
ALREADY_RUNS = 75  # exit code of a hub that found another
KERNELS_OWN = ("JPY_", "MPLBACKEND", "PYDEVD_")  # a kernel's own variables mean nothing to a hub

Progress = Callable[[str], None]


# ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────────


class HubClient:
    """Asks the hub of one workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.started = False  # whether ``ensure_hub`` started this hub

    def __repr__(self) -> str:
        return f"HubClient({str(self.workspace.root)!r})"

    def ask(self, request: Mapping[str, Any], timeout: float = 15.0) -> dict[str, Any]:
        """The answer to one question, within ``timeout`` seconds.

        Raises what the hub raised; InfrastructureError with code E_NO_HUB if none runs here, E_HUB_SILENT if it does
        not answer.
        """
        with self.connect(min(timeout, 2.0)) as line:
            return _exchange(line, request, timeout)

    def connect(self, timeout: float) -> socket.socket:
        """A connection to the hub."""
        line = socket.socket(socket.AF_UNIX)
        line.settimeout(timeout)
        try:
            line.connect(str(self.workspace.hub_socket))
        except OSError as error:
            line.close()
            if isinstance(error, TimeoutError | BlockingIOError):  # nobody takes the calls that wait
                raise _silent() from None
            raise InfrastructureError(
                f"no hub runs in {self.workspace.root}", fix="alphapanda up", code="E_NO_HUB"
            ) from None
        return line

    def hold(self, client: str) -> Hold:
        """Keep this client's runs alive until the hold is closed or this process dies."""
        return Hold(self, client)


def _exchange(line: socket.socket, request: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """One line each way."""
    until, heard = monotonic() + timeout, bytearray()
    try:
        line.settimeout(timeout)
        with contextlib.suppress(BrokenPipeError):  # it may have answered and hung up before we ended
            line.sendall(msgspec.json.encode(request) + b"\n")
        while not heard.endswith(b"\n"):
            line.settimeout(max(until - monotonic(), 0.001))
            part = line.recv(262_144)
            heard += part
            if not part or len(heard) > ANSWER_BYTES_MAX:
                raise ConnectionResetError
    except TimeoutError:
        raise _silent() from None
    except OSError:
        raise InfrastructureError(
            "the hub ended before it answered", fix="alphapanda status", code="E_NO_HUB"
        ) from None
    answer: dict[str, Any] = msgspec.json.decode(bytes(heard))
    if not answer.get("ok"):
        raise _raised(answer.get("error") or {})
    return answer


def _raised(fault: dict[str, Any]) -> AlphaPandaException:
    """The hub's error, of the class it had there."""
    kind: Any = getattr(errors, str(fault.get("kind")), None)
    if not (isinstance(kind, type) and issubclass(kind, AlphaPandaException)):
        kind = InfrastructureError
    message = str(fault.get("message", "the hub failed"))
    made = kind.__new__(kind, message)  # not by its own arguments: each class asks for others
    AlphaPandaException.__init__(made, message, fix=str(fault.get("fix", "")), code=fault.get("code"))
    made.context.update(fault.get("context") or {})
    return made


def _silent() -> InfrastructureError:
    return InfrastructureError(
        "the hub does not answer",
        fix="end it with `alphapanda stop`; stop all orders with `alphapanda kill`",
        code="E_HUB_SILENT",
    )


class Hold:
    """A connection kept open in a thread: when it has been closed for five seconds the client's runs end.

    It comes back by itself when the hub is started anew, but starts none. ``held`` tells whether it stands now.
    """

    def __init__(self, hub: HubClient, client: str) -> None:
        self.client, self.held = client, threading.Event()
        self._hub, self._closed = hub, threading.Event()
        self._line: socket.socket | None = None
        self._thread = threading.Thread(target=self._keep, name="alphapanda-hold", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let go."""
        self._closed.set()
        line = self._line
        if line is not None:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
        self._thread.join(1.0)

    def _keep(self) -> None:
        while not self._closed.is_set():
            with contextlib.suppress(AlphaPandaException, OSError), self._hub.connect(2.0) as line:
                self._line = line
                _exchange(line, {"do": "hold", "client": self.client}, 5.0)
                line.settimeout(None)
                self.held.set()
                while line.recv(1024):
                    pass
            self._line = None
            self.held.clear()
            self._closed.wait(0.2)


# ── starting ─────────────────────────────────────────────────────────────────────────────────────────────────────


def ensure_hub(
    workspace: Workspace,
    progress: Progress | None = None,
    *,
    command: Sequence[str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> HubClient:
    """The hub of this workspace, started in a session of its own if none runs; returns when it is ready.

    ``progress`` is told what is waited for; ``environment`` is the hub's, else this process's own. Raises
    ConfigurationError if the hub says so, else InfrastructureError;
    both with the end of its log.
    """
    client, log, shown = HubClient(workspace), workspace.logs / "hub.log", ""
    started, process, turn = monotonic(), None, contextlib.ExitStack()
    with turn:
        while True:
            answer = _ping(client)
            if answer and answer["state"] == "ready":
                for trouble in answer["troubles"]:
                    _tell(progress, trouble)
                return client
            if process is not None and (code := process.poll()) is not None:
                if code != ALREADY_RUNS:
                    raise _failed(f"the hub ended with code {code}", log, code)
                process, client.started = None, False  # another one starts, or has not quite ended
                pause(0.1)
            elif not answer and process is None and _our_turn(workspace, turn):
                _tell(progress, "starting the hub")
                process = _spawn(
                    workspace,
                    log,
                    command or _command(workspace),
                    os.environ if environment is None else environment,
                )
                client.started = True
            waited = monotonic() - started
            if waited > READY_SECONDS:
                troubles = "; ".join(answer.get("troubles", ()))
                raise _failed(f"the hub is not ready after {waited:.0f} s{troubles and ': '}{troubles}", log)
            ending = answer.get("state") == "closing"
            if (said := "the hub before it to end" if ending else answer.get("waits_for", "")) not in (
                "",
                shown,
            ):
                shown = said
                _tell(progress, f"waiting for {said}")
            pause(0.03)


def _our_turn(workspace: Workspace, turn: contextlib.ExitStack) -> bool:
    """Of all who want a hub one starts it; the others wait for that one."""
    file = (workspace.home / "hub.start").open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return False
    turn.enter_context(file)
    return True


def _ping(client: HubClient) -> dict[str, Any]:
    """What the hub says of itself; empty if there is none."""
    try:
        return client.ask({"do": "ping"}, 2.0)
    except InfrastructureError as error:
        if error.code != "E_NO_HUB":
            raise
        return {}


def _tell(progress: Progress | None, text: str) -> None:
    if progress is not None:
        progress(text)


def _command(workspace: Workspace) -> list[str]:
    return [*PYTHON, "alphapanda.hub", str(workspace.root)]


def _spawn(
    workspace: Workspace, log: Path, command: Sequence[str], environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    with contextlib.suppress(OSError):
        if log.stat().st_size > 1_000_000:
            log.replace(log.with_suffix(".old.log"))
    with log.open("ab") as file:
        process = subprocess.Popen(  # noqa: S603 - our own command
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=workspace.root,
            env={k: v for k, v in environment.items() if not k.startswith(KERNELS_OWN)},
            start_new_session=True,
        )
    threading.Thread(target=process.wait, daemon=True).start()  # so that it does not stay as a zombie
    return process


def _failed(message: str, log: Path, code: int = 1) -> AlphaPandaException:
    try:
        tail = "\n".join(log.read_text("utf-8", "replace")[-4000:].splitlines()[-12:])
    except OSError:
        tail = ""
    ending = f". The end of {log}:\n{tail}" if tail else ""
    if code == CONFIGURATION:
        return ConfigurationError(message + ending, fix="correct the settings it names")
    return InfrastructureError(message + ending, fix="alphapanda doctor", code="E_HUB_START")

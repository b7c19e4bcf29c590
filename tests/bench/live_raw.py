"""The raw server: one process pipelines entries of packed ticks into a stream, another reads them, over the unix
socket, with sockets and the C parser alone. ``python -m tests.bench.live_raw write|read SOCKET ENTRIES BYTES``."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import hiredis

from alphapanda.buses.frames import HEADER
from alphapanda.clock import wall_ns
from alphapanda.server import Server
from alphapanda.workspace import Workspace
from tests.bench.child import MARK, ROOT, ChildFailed, Result, tell
from tests.bench.live_rig import folder, use

DEPTH = 16  # entries of one round trip, as the feed's
STREAM = "raw"
COLUMNS = 8


def _connected(path: str) -> tuple[socket.socket, Any]:
    line = socket.socket(socket.AF_UNIX)
    line.connect(path)
    return line, hiredis.Reader()


def _packed(*words: str | bytes | int) -> bytes:
    pack: Any = hiredis.pack_command  # its stub knows one word only
    return pack(words)


def _reply(line: socket.socket, reader: Any) -> Any:
    while (found := reader.gets()) is False:
        reader.feed(line.recv(1 << 20))
    return found


def write(path: str, entries: int, size: int) -> None:
    """As fast as the server takes them; tells when it began."""
    line, reader = _connected(path)
    command = _packed("XADD", STREAM, "*", "b", bytes(size))
    tell({"at": wall_ns()})
    for _ in range(0, entries, DEPTH):
        line.sendall(command * DEPTH)
        for _ in range(DEPTH):
            _reply(line, reader)


def read(path: str, entries: int, size: int) -> None:
    """Everything, from the start; tells that it is there, and when it had all."""
    line, reader = _connected(path)
    tell({})
    at, got = b"0", 0
    while got < entries:
        line.sendall(_packed("XREAD", "COUNT", 64, "BLOCK", 1000, "STREAMS", STREAM, at))
        if found := _reply(line, reader):
            got += len(found[0][1])
            at = found[0][1][-1][0]
            if len(found[0][1][-1][1][1]) != size:
                raise ChildFailed("the server gave something else back")
    tell({"at": wall_ns()})


def measure(rows: int, ticks: int) -> Result:
    """Ticks a second through the server in entries of ``rows``, and its processor time a tick."""
    entries = ticks // rows // DEPTH * DEPTH
    size = HEADER.size + rows * 8 * COLUMNS
    with folder() as root:
        server = Server(Workspace(root))
        server.start()
        try:
            assert server.pid is not None
            command = [sys.executable, "-m", "tests.bench.live_raw"]
            arguments = [str(server.socket), str(entries), str(size)]
            with _child(command, "read", arguments) as reader:
                _told(reader)
                before = use(server.pid)
                with _child(command, "write", arguments) as writer:
                    began = _told(writer)["at"]
                    ended = _told(reader)["at"]
                after = use(server.pid)
        finally:
            server.stop()
    done = entries * rows
    return {"rate": done / (ended - began) * 1e9, "server": (after.cpu - before.cpu) / done * 1e9}


@contextlib.contextmanager
def _child(command: list[str], what: str, arguments: list[str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([*command, what, *arguments], cwd=ROOT, text=True, stdout=subprocess.PIPE) as child:
        try:
            yield child
            child.wait(60)
        finally:
            child.kill()


def _told(child: subprocess.Popen[str]) -> Result:
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line.startswith(MARK):
        raise ChildFailed("the raw server's client ended")
    return json.loads(line.removeprefix(MARK))


if __name__ == "__main__":
    what, where, *numbers = sys.argv[1:]
    {"write": write, "read": read}[what](where, *map(int, numbers))

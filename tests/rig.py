"""A whole platform of real processes for one test, faults to throw at it, and an independent ledger.

The hub and everything under it run as a user would have them, over a short recorded tape that plays faster than real
time. What was decided and filled is read from the gateway's journal file with sqlite alone, and compared with what one
plain backtest of the same ticks decides and fills.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self
from unittest import mock

import msgspec
import redis

import alphapanda as ap
from alphapanda.capsule import freeze
from alphapanda.errors import AlphaPandaException
from alphapanda.gateway import limits_of
from alphapanda.hub.client import HubClient
from alphapanda.orders import DENIED
from alphapanda.processes import children
from alphapanda.requests import FillUpdate, OrderUpdate, Reply, Request
from alphapanda.seal import Seal
from alphapanda.settings import Settings
from alphapanda.strategy import Strategy
from alphapanda.tapes.tape import Tape
from alphapanda.traders.paper import fills_of
from alphapanda.workspace import RunSpec, Workspace
from tests.promoting import acts, promote

REPO = Path(__file__).parents[1]
Ledger = dict[str, list[tuple[Any, ...]]]
UNEXPECTED = (  # in the logs: whatever is thrown at the platform, none of these follows
    "gateway.replay_differs",
    "request.conflict",
    "runner.failed",
    "hub.fault",
    "message.dead",
)


class Rig:
    """One workspace with its hub. ``settings`` are environment variables; use it in ``with``."""

    def __init__(self, root: Path, tape: Tape | None = None, **settings: Any) -> None:
        self.root = root
        self.workspace = Workspace(root)
        self.tape = tape
        root.mkdir(parents=True, exist_ok=True)
        if tape is not None:
            path = tape.save(root / "tape.parquet")
            settings = {
                "FEED__SOURCE": "tape",
                "FEED__TAPE": path,
                "FEED__WAIT_FOR_RUNS": 1,
                "FEED__RECORD": 0,
            } | settings
        outer = {name: value for name, value in os.environ.items() if name != "ALPHAPANDA_HOME"}
        settings = {  # neither the machine's keyring nor its owner's keys are touched
            "XDG_CONFIG_HOME": root / "config",
            "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
        } | settings
        self.env = {**outer, **{name: str(value) for name, value in settings.items()}}
        self.hub = HubClient(self.workspace)
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with contextlib.suppress(AlphaPandaException):
            self.hub.ask({"do": "shutdown"}, 10.0)
        if self.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10.0)
            self.process.kill()
            self.process.wait()
        if kind is None:
            self.until(lambda: not children(self.workspace), 5.0, "nobody is left behind")
        shutil.rmtree(self.workspace.runtime, ignore_errors=True)

    def up(self) -> None:
        """Start the hub and wait until it serves."""
        log = (self.root / "hub.err").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "alphapanda.hub", str(self.root)],
            env=self.env, cwd=self.root, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        log.close()
        self.until(lambda: self.hub.ask({"do": "ping"}, 2.0).get("state") == "ready", 40.0, "the hub serves")

    # ── runs ─────────────────────────────────────────────────────────────────────────────────────

    @staticmethod
    def question(strategy: Strategy, **more: Any) -> dict[str, Any]:
        """What a client asks of the hub to have a strategy run."""
        capsule = freeze(strategy)
        return {
            "do": "run", "namespace": "paper", "name": strategy.name, "class_name": capsule.class_name,
            "module": capsule.source, "digest": capsule.digest, "parameters": strategy.params,
            "symbols": list(strategy.symbols), "capital": None, "client": "", "detach": True, **more,
        }  # fmt: skip

    def run(self, strategy: Strategy, *, approved: dict[str, Any] | None = None, **more: Any) -> str:
        """Have the hub run a strategy, which is promoted first where money is (``approved``: on these terms); returns
        the run's id."""
        if (namespace := more.get("namespace", "paper")) != "paper":
            promote(self.workspace, self.env, strategy, namespace=namespace, **(approved or {}))
        return self.hub.ask(self.question(strategy, **more), 60.0)["run"]

    def spec(self, run: str) -> RunSpec:
        """What a run's folder says."""
        return RunSpec.read(self.workspace.runs / run)

    def promotions(self) -> list[str]:
        """Every act on the record of promotions."""
        return acts(self.workspace, self.env)

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``alphapanda ARGUMENTS`` in the workspace."""
        return subprocess.run(
            [sys.executable, "-P", "-m", "alphapanda", *arguments],
            env=self.env, cwd=self.root, capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip

    @property
    def seal(self) -> Seal:
        """What the workspace's own processes seal with."""
        return Seal.of(self.workspace)

    def server(self) -> redis.Redis:
        """A client of the workspace's server."""
        given = self.env.get("REDIS__UNIX_SOCKET", str(self.workspace.server_socket))
        return redis.Redis(unix_socket_path=given, socket_timeout=1.0)

    def document(self, key: str) -> dict[str, Any]:
        """A JSON document; {} if it is not there or nobody answers."""
        with contextlib.suppress(redis.RedisError), self.server() as server:
            raw: Any = server.get(key)
            return json.loads(raw) if raw else {}
        return {}

    def topic_length(self, topic: str) -> int:
        """How many messages a topic holds."""
        with self.server() as server:
            return int(server.xlen(topic))  # pyright: ignore[reportArgumentType] - a client that does not wait

    def seq(self, run: str) -> int:
        """The last row a run has played."""
        return self.document(f"paper:runner:{run}").get("seq", -1)

    def plays(self, run: str, row: int = 0) -> None:
        """Wait until a run has played beyond a row, or there is no more."""

        def there() -> bool:
            return self.seq(run) > row or self.document("health:feed").get("state") == "ended"

        self.until(there, 60.0, f"{run} has played row {row}")

    def played(self, run: str) -> bool:
        """Whether runner and gateway have seen the whole tape, and the end of its day."""
        assert self.tape is not None
        feed, shown = self.document("health:feed"), self.document(f"paper:run:{run}")
        ended = feed.get("state") == "ended" and feed["row"] == self.tape.rows
        return ended and shown.get("seq", -1) >= self.tape.rows - 1 and shown["tape_ts"] >= feed["clock"]

    # ── faults ───────────────────────────────────────────────────────────────────────────────────

    def pid(self, role: str) -> int:
        """The process of a role that serves: hub, server, feed, gateway:paper, runner:RUN; 0 while none does."""
        if role == "hub":
            return self.process.pid if self.process else 0
        status = self.hub.ask({"do": "status"}, 5.0)
        if role == "server":
            return (status["server"].get("pid") or 0) if status["server"]["alive"] else 0
        found = [child for child in status["children"] if child["role"] == role and child["state"] == "ready"]
        return found[0]["pid"] if found else 0

    def signal(self, role: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to a role's process, once there is one; returns its pid."""
        pid = self.until(lambda: self.pid(role), 60.0, f"{role} has a process")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        return pid

    def kill(self, role: str) -> None:
        """kill -9, and wait until another process of the role serves."""
        before = self.signal(role)
        if role == "hub":
            assert self.process is not None
            self.process.wait(5.0)
            self.up()
        self.until(lambda: self.pid(role) not in (0, before), 60.0, f"{role} is back")

    @contextlib.contextmanager
    def stopped(self, role: str) -> Iterator[None]:
        """SIGSTOP now, SIGCONT later."""
        pid = self.signal(role, signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    @contextlib.contextmanager
    def disk_full(self, role: str) -> Iterator[None]:
        """No file of a role's process can grow."""
        pid = self.until(lambda: self.pid(role), 60.0, f"{role} has a process")
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, before[1]))
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, before)

    def until(self, done: Callable[[], Any], seconds: float, what: str) -> Any:
        """Wait until something holds; AssertionError names what did not, with the processes' last words."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(AlphaPandaException):
                if found := done():
                    return found
            time.sleep(0.05)
        raise AssertionError(f"not within {seconds} s: {what}\n{self.last_words()}")

    # ── what was written ─────────────────────────────────────────────────────────────────────────

    def logged(self, channel: str) -> list[dict[str, Any]]:
        """The lines of a log channel, but for those that a full disk has torn."""
        path = self.workspace.logs / f"{channel}.jsonl"
        found: list[dict[str, Any]] = []
        for line in path.read_bytes().splitlines() if path.exists() else ():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def complaints(self) -> list[str]:
        """What the error log says that must not happen."""
        return [str(line)[:1000] for line in self.logged("error") if line["event"] in UNEXPECTED]

    def last_words(self) -> str:
        """The newest lines of the error log and of the hub."""
        lines = [str(line)[:400] for line in self.logged("error")[-8:]]
        path = self.root / "hub.err"
        text = path.read_text("utf-8", "replace") if path.exists() else ""
        return "\n".join([*lines, *text.splitlines()[-5:]])

    # ── the ledger ───────────────────────────────────────────────────────────────────────────────

    def journal(self, run: str) -> list[tuple[Request, Reply, int]]:
        """What a run asked, what it was answered, and when (wall ns)."""
        path = self.workspace.journal("paper")
        if not path.exists():
            return []
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as file:
            rows = file.execute(
                "SELECT body, reply, at FROM entry WHERE run = ? AND kind = 'request' ORDER BY number", (run,)
            ).fetchall()
        unpack = msgspec.msgpack.decode
        return [(unpack(body, type=Request), unpack(reply, type=Reply), at) for body, reply, at in rows]

    def orders(self, run: str) -> dict[str, OrderUpdate]:
        """Every order of a run as it was last told."""
        updates = (update for _, reply, _ in self.journal(run) for update in reply.updates)
        return {update.id: update for update in updates if isinstance(update, OrderUpdate)}

    def accepted(self, run: str) -> int:
        """How many of a run's signals passed the rules."""
        return sum(order.status != DENIED and not order.leg for order in self.orders(run).values())

    def last_accepted(self, run: str) -> int:
        """When a signal passed the rules for the last time: wall ns."""
        asked = [(q.signal.id, at) for q, _, at in self.journal(run) if q.signal is not None]
        orders = self.orders(run)  # read later: it knows all of them
        return max(at for name, at in asked if orders[name].status != DENIED)

    def ledger(self, run: str) -> Ledger:
        """Signals, cancels and fills of a run, from the journal's file."""
        found: Ledger = {"signals": [], "cancels": [], "fills": []}
        for request, reply, _ in self.journal(run):
            if (s := request.signal) is not None:
                found["signals"].append((s.id, s.ts, s.symbol, s.quantity, s.limit, s.stop))
            if request.cancel is not None:
                found["cancels"].append((request.cancel.seq, request.cancel.order_id))
            found["fills"] += [
                (f.order_id, f.number, f.seq, f.ts, f.quantity, f.price_units, f.charges)
                for f in reply.updates
                if isinstance(f, FillUpdate)
            ]
        return found

    def ran_ahead(self, run: str) -> int:
        """How many answers came late: the gateway had gone on alone after ten seconds without a word."""
        return sum(reply.place.through > request.place.through for request, reply, _ in self.journal(run))


def undisturbed(strategy: Strategy, tape: Tape, **settings: Any) -> Ledger:
    """What one plain backtest of the tape decides and fills, under the gateway's rules."""
    with mock.patch.dict(os.environ, {name: str(value) for name, value in settings.items()}):
        loaded = Settings.load(None)
    result = ap.backtest(strategy, tape, limits=limits_of(loaded), fills=fills_of(loaded)).result
    signals = [order.signal for order in result.orders if not order.leg]
    return {
        "signals": [(s.id, s.ts, s.symbol, s.quantity, s.limit, s.stop) for s in signals],
        "cancels": [(cancel.seq, cancel.order_id) for cancel in result.cancels],
        "fills": [
            (f.order_id, f.number, f.seq, f.ts, f.quantity, f.price_units, f.charges) for f in result.fills
        ],
    }


class Kernel:
    """A real IPython kernel whose working directory is the workspace."""

    def __init__(self, rig: Rig) -> None:
        from jupyter_client.manager import KernelManager

        places = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR")
        own = {name: str(rig.root / name.lower()) for name in places} | {"JUPYTER_NO_CONFIG": "1"}
        self.manager: Any = KernelManager(kernel_name="python3")
        self.manager.start_kernel(
            env={**rig.env, **own, "PYTHONPATH": str(REPO), "PYTHONWARNINGS": "ignore"}, cwd=str(rig.root)
        )
        self.client: Any = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def cell(self, code: str) -> str:
        """What a cell printed; an error in it fails the test."""
        heard = io.StringIO()

        def hook(message: dict[str, Any]) -> None:
            if message["msg_type"] == "stream":
                heard.write(message["content"]["text"])

        reply = self.client.execute_interactive(code, timeout=60, output_hook=hook)
        assert reply["content"]["status"] == "ok", reply["content"]
        return heard.getvalue().strip()

    def kill(self) -> None:
        """kill -9."""
        os.kill(self.manager.provisioner.pid, signal.SIGKILL)
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

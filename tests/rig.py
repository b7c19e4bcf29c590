"""A whole platform of real processes for one test, faults to throw at it, and an independent ledger.

The hub and everything under it run as a user would have them, over a short recorded tape that plays faster than real
time. What was decided and filled is read from the gateway's journal file with sqlite alone, and compared with what one
plain backtest of the same ticks decides and fills.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import redis

import alphapanda as ap
from alphapanda.capsule import freeze
from alphapanda.errors import AlphaPandaException
from alphapanda.gateway import limits_of
from alphapanda.hub_client import HubClient
from alphapanda.requests import FillUpdate, Reply, Request
from alphapanda.settings import Settings
from alphapanda.strategy import Strategy
from alphapanda.tapes.tape import Tape
from alphapanda.traders.paper import fills_of
from alphapanda.workspace import Workspace

Ledger = dict[str, list[tuple[Any, ...]]]


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
        self.env = {**os.environ, **{name: str(value) for name, value in settings.items()}}
        self.hub = HubClient(self.workspace)
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Rig:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(AlphaPandaException):
            self.hub.ask({"do": "shutdown"}, 10.0)
        if self.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10.0)
            self.process.kill()
            self.process.wait()

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

    def run(self, strategy: Strategy, **more: Any) -> str:
        """Have the hub run a strategy; returns the run's id."""
        capsule = freeze(strategy)
        answer = self.hub.ask(
            {
                "do": "run", "namespace": "paper", "name": strategy.name, "class_name": capsule.class_name,
                "module": capsule.source, "digest": capsule.digest, "parameters": strategy.params,
                "symbols": list(strategy.symbols), "capital": None, "client": "", "detach": True, **more,
            },
            60.0,
        )  # fmt: skip
        return answer["run"]

    def server(self) -> redis.Redis:
        """A client of the workspace's server."""
        return redis.Redis(unix_socket_path=str(self.workspace.server_socket), socket_timeout=1.0)

    def document(self, key: str) -> dict[str, Any]:
        """A JSON document; {} if it is not there or nobody answers."""
        with contextlib.suppress(redis.RedisError), self.server() as server:
            raw: Any = server.get(key)
            return json.loads(raw) if raw else {}
        return {}

    def seq(self, run: str) -> int:
        """The last row a run has played."""
        return self.document(f"paper:runner:{run}").get("seq", -1)

    def played(self, run: str) -> bool:
        """Whether runner and gateway have seen the whole tape."""
        assert self.tape is not None
        last = self.tape.rows - 1
        ended = self.document("health:feed").get("state") == "ended"
        return ended and self.seq(run) >= last and self.document(f"paper:run:{run}").get("seq", -1) >= last

    # ── faults ───────────────────────────────────────────────────────────────────────────────────

    def pid(self, role: str) -> int:
        """The process of a role now: hub, server, feed, gateway:paper, runner:RUN; 0 while there is none."""
        if role == "hub":
            return self.process.pid if self.process else 0
        with contextlib.suppress(AlphaPandaException):
            status = self.hub.ask({"do": "status"}, 5.0)
            if role == "server":
                return status["server"].get("pid") or 0
            return next((child["pid"] or 0 for child in status["children"] if child["role"] == role), 0)
        return 0

    def signal(self, role: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to a role's process, once there is one; returns its pid."""
        pid = self.until(lambda: self.pid(role), 30.0, f"{role} has a process")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        return pid

    def until(self, done: Any, seconds: float, what: str) -> Any:
        """Wait until something holds; AssertionError names what did not, with the processes' last words."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(AlphaPandaException):
                if found := done():
                    return found
            time.sleep(0.05)
        raise AssertionError(f"not within {seconds} s: {what}\n{self.last_words()}")

    def last_words(self) -> str:
        """The newest lines of the error log and of the hub."""
        lines: list[str] = []
        for path in [*sorted(self.workspace.logs.glob("error*")), self.root / "hub.err"]:
            if path.exists():
                lines += [
                    f"{path.name}: {line[:400]}"
                    for line in path.read_text("utf-8", "replace").splitlines()[-5:]
                ]
        return "\n".join(lines)

    # ── the ledger ───────────────────────────────────────────────────────────────────────────────

    def ledger(self, run: str) -> Ledger:
        """Signals, cancels and fills of a run, from the journal's file."""
        rows = sqlite3.connect(f"file:{self.workspace.journal('paper')}?mode=ro", uri=True).execute(
            "SELECT body, reply FROM entry WHERE run = ? AND kind = 'request' ORDER BY number", (run,)
        )
        found: Ledger = {"signals": [], "cancels": [], "fills": []}
        for body, answer in rows:
            request = msgspec.msgpack.decode(body, type=Request)
            if (signal := request.signal) is not None:
                found["signals"].append(
                    (signal.id, signal.ts, signal.symbol, signal.quantity, signal.limit, signal.stop)
                )
            if request.cancel is not None:
                found["cancels"].append((request.cancel.seq, request.cancel.order_id))
            for update in msgspec.msgpack.decode(answer, type=Reply).updates:
                if isinstance(update, FillUpdate):
                    found["fills"].append(
                        (
                            update.order_id,
                            update.number,
                            update.seq,
                            update.ts,
                            update.quantity,
                            update.price_units,
                            update.charges,
                        )
                    )
        return found


def undisturbed(strategy: Strategy, tape: Tape) -> Ledger:
    """What one plain backtest of the tape decides and fills, under the gateway's rules."""
    settings = Settings.load(None)
    result = ap.backtest(strategy, tape, limits=limits_of(settings), fills=fills_of(settings)).result
    signals = [order.signal for order in result.orders if not order.leg]
    return {
        "signals": [(s.id, s.ts, s.symbol, s.quantity, s.limit, s.stop) for s in signals],
        "cancels": [(cancel.seq, cancel.order_id) for cancel in result.cancels],
        "fills": [
            (f.order_id, f.number, f.seq, f.ts, f.quantity, f.price_units, f.charges) for f in result.fills
        ],
    }

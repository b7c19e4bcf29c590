"""The paper and shadow lanes of a proof: real processes, as a person would have them, in a workspace of their own.

A hub with server, feed and gateways is started in a temporary folder; its feed plays the tape as fast as the runs
follow. Nothing of the person's own workspace is touched, and no key of a broker is in these processes' environment.
What was decided is read from the gateways' journals.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import msgspec
import redis
from dotenv import dotenv_values

from alphapanda.clock import monotonic, pause, wait_until
from alphapanda.errors import AlphaPandaException, InfrastructureError
from alphapanda.hub.client import HubClient, ensure_hub
from alphapanda.processes import children, end_processes, hub_process, mark
from alphapanda.proofs.case import Case
from alphapanda.proofs.trace import Trace, state_of
from alphapanda.requests import Request
from alphapanda.result import canonical_lines, chain_digest
from alphapanda.state.journal import replies
from alphapanda.workspace import RunSpec, Workspace

PAPER, SHADOW = "paper", "zerodha"  # the namespaces of the two lanes
LANE_OF = {PAPER: "paper", SHADOW: "shadow"}
OTHERS = (  # settings of the person's own platform that a proof's has not: addresses, folders, keys
    "ALPACA__", "ALPHAPANDA_", "API__", "BROKER_NAMESPACE", "DATABASE__", "FEED__", "LOGGING__", "MONITORING__",
    "PROMOTION__", "REDIS__", "REDPANDA__", "ZERODHA__",
)  # fmt: skip
KEPT = ("ZERODHA__MARKET_BAND_PERCENT",)
START_SECONDS = 60.0
BACK_SECONDS = 60.0  # for a process that was killed to serve again
STEP = 0.05


class Platform:
    """One temporary workspace with its hub; leave it as a context and nothing of it is left."""

    def __init__(self, tape: Path, runs: int, speed: float = 0.0) -> None:
        self.workspace = Workspace(Path(tempfile.mkdtemp(prefix="alphapanda-proof-")))
        self.hub = HubClient(self.workspace)
        self._environment = {
            **environment(),
            "ALPHAPANDA_HOME": str(self.workspace.root),
            "FEED__SOURCE": "tape",
            "FEED__TAPE": str(tape.resolve()),
            "FEED__SPEED": str(speed),
            "FEED__WAIT_FOR_RUNS": str(runs),
            "FEED__RECORD": "false",
            "ZERODHA__SHADOW": "true",
        }

    def __enter__(self) -> Self:
        self._up()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(AlphaPandaException):
            self.hub.ask({"do": "shutdown"}, 10.0)
        hub = hub_process(self.workspace)
        family = [*([hub] if hub else ()), *children(self.workspace)]
        wait_until(lambda: not any(one.alive for one in family), 10.0)
        end_processes([*family, *children(self.workspace)], 2.0)
        shutil.rmtree(self.workspace.runtime, ignore_errors=True)
        shutil.rmtree(self.workspace.root, ignore_errors=True)

    def _up(self) -> None:
        self.hub = ensure_hub(self.workspace, environment=self._environment)

    def start(self, case: Case, namespace: str) -> str:
        """Have the hub run the case in a namespace; returns the run's id."""
        capsule = case.capsule
        question = {
            "do": "run", "namespace": namespace, "name": case.name, "class_name": capsule.class_name,
            "module": capsule.source, "digest": capsule.digest, "parameters": case.parameters,
            "symbols": case.symbols, "capital": case.capital, "seed": case.seed, "detach": True,
            "trade_from": case.trade_from,
        }  # fmt: skip
        return self.hub.ask(question, START_SECONDS)["run"]

    def finish(self, run: str, namespace: str, rows: int, seconds: float) -> Trace:
        """Wait until a run has played the whole tape, and its gateway too; what it decided.

        InfrastructureError if it does not get there in time.
        """
        begun, spec = monotonic(), self.workspace.runs / run
        while not self._played(run, namespace, rows):
            state = RunSpec.read(spec)
            if state.state == "failed":
                raise InfrastructureError(f"the {LANE_OF[namespace]} lane failed: {state.reason}")
            if monotonic() - begun > seconds:
                raise InfrastructureError(
                    f"the {LANE_OF[namespace]} lane did not play the tape within {seconds:.0f} s",
                    fix="prove on a machine that is less busy, or give patience=",
                )
            pause(STEP)
        return self.trace(run, namespace, rows, monotonic() - begun)

    def trace(self, run: str, namespace: str, rows: int = 0, seconds: float = 0.0) -> Trace:
        """What a run has decided so far, from its gateway's journal."""
        asked = replies(self.workspace.journal(namespace), run).values()
        requests = [msgspec.msgpack.decode(body, type=Request) for body, _ in asked]
        signals = (r.signal for r in requests if r.signal is not None)
        lines = tuple(canonical_lines(signals, (r.cancel for r in requests if r.cancel is not None)))
        halts = [r.halt for r in requests if r.halt]
        halted = halts[0] if halts else self.document(f"{namespace}:run:{run}").get("reason", "")
        return Trace(
            lane=LANE_OF[namespace],
            lines=lines,
            digest=chain_digest(lines),
            halted=halted,
            rows=rows,
            seconds=seconds,
        )

    def state_at(self, run: str, row: int) -> dict[str, str]:
        """What a run's strategy held right after a row: played again with the answers on record."""
        from alphapanda.proofs.incident import played_again

        again = played_again(self.workspace, run, row)
        return state_of(again.strategy) | ({"(played again)": again.halted} if again.halted else {})

    def _played(self, run: str, namespace: str, rows: int) -> bool:
        feed, shown = self.document("health:feed"), self.document(f"{namespace}:run:{run}")
        ended = feed.get("state") == "ended" and feed.get("row") == rows
        return ended and shown.get("seq", -1) >= rows - 1 and shown.get("tape_ts", 0) >= feed["clock"]

    def document(self, key: str) -> dict[str, Any]:
        """A JSON document of the server; {} if it is not there or nobody answers."""
        client = redis.Redis(unix_socket_path=str(self.workspace.server_socket), socket_timeout=1.0)
        with contextlib.suppress(redis.RedisError), client:
            raw: Any = client.get(key)
            return msgspec.json.decode(raw) if raw else {}
        return {}

    # ── crashes

    def row(self) -> int:
        """How far the feed is."""
        return int(self.document("health:feed").get("row", 0))

    def kill(self, role: str) -> None:
        """End a process as a power cut would, and wait until another one serves in its place."""
        before = self._wait(lambda: self._pid(role), f"{role} has a process")
        os.kill(before, signal.SIGKILL)
        if role == "hub":
            self._wait(lambda: not mark(before), "the hub is gone")
            self._up()
        self._wait(lambda: self._pid(role) not in (0, before), f"{role} is back")

    def _pid(self, role: str) -> int:
        if role == "hub":
            record = hub_process(self.workspace)
            return record.pid if record is not None and record.alive else 0
        with contextlib.suppress(AlphaPandaException):
            status = self.hub.ask({"do": "status"}, 5.0)
            if role == "server":
                return (status["server"].get("pid") or 0) if status["server"]["alive"] else 0
            ready = (c["pid"] for c in status["children"] if c["role"] == role and c["state"] == "ready")
            return next(ready, 0)
        return 0

    def _wait(self, done: Callable[[], Any], what: str) -> Any:
        until = monotonic() + BACK_SECONDS
        while not (found := done()):
            if monotonic() > until:
                raise InfrastructureError(f"not within {BACK_SECONDS:.0f} s: {what}", fix="prove it again")
            pause(STEP)
        return found


def environment() -> dict[str, str]:
    """The person's settings that have a say in decisions: limits, fills, capital; from ``.env`` and the environment."""
    kept = {name: value for name, value in dotenv_values(".env").items() if value is not None}
    kept |= os.environ
    return {
        name: value
        for name, value in kept.items()
        if name.upper() in KEPT or not name.upper().startswith(OTHERS)
    }

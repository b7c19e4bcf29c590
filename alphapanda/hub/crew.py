"""All that the hub keeps running: the server, and a child for each role that was asked for."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from alphapanda.clock import monotonic, wall_ns
from alphapanda.environment import without_secrets
from alphapanda.errors import InfrastructureError, RedisError, RetryPolicy
from alphapanda.events import SECOND
from alphapanda.hub.pulse import Pulse
from alphapanda.hub.supervise import Child, Policy
from alphapanda.logs import channel
from alphapanda.processes import PYTHON, Meter, Record, children, mark, write_children
from alphapanda.server import address
from alphapanda.settings import Settings
from alphapanda.workspace import Workspace

WORKSPACE, NAMESPACE, FOLDER = "{workspace}", "{namespace}", "{folder}"
LINES: Mapping[str, tuple[str, ...]] = {
    "feed": (*PYTHON, "alphapanda.feeds", WORKSPACE),
    "gateway": (*PYTHON, "alphapanda.gateway", WORKSPACE, NAMESPACE),
    "runner": (*PYTHON, "alphapanda.runner", FOLDER),
    "api": (*PYTHON, "alphapanda.api", WORKSPACE),
    "dashboards": (*PYTHON, "alphapanda.panes", WORKSPACE),
    "watch": (*PYTHON, "alphapanda.watch", WORKSPACE),
}
OFFERED = ("api", "dashboards", "watch")  # what nobody needs to trade: kept once somebody asks for it
POLICIES: Mapping[str, Policy] = {
    "feed": Policy(),
    # it plays its journal first; while it hangs nobody can be told of orders that fill
    "gateway": Policy(ready=600.0, silent=12.0, retry=RetryPolicy(delay_first=0.05, delay_max=5.0)),
    "runner": Policy(ready=120.0, failures=8, window=60.0, ends=True),
    **{role: Policy(ready=60.0, failures=8) for role in OFFERED},
}
SERVER_AGAIN = RetryPolicy(delay_first=0.05, delay_max=5.0)
DEAF_SECONDS = 30.0  # a server that lives and does not answer so long is ended
LOOK_SECONDS = 1.0
AWAKE_SECONDS = 3.0  # what was longer between two looks was our own sleep, not a child's silence
START_SECONDS = 15.0  # who takes longer to be ready is a trouble; nobody waits for it any more


class ServerLike(Protocol):
    """What is needed of the server. Its methods block."""

    @property
    def pid(self) -> int | None: ...
    @property
    def alive(self) -> bool: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...


class Crew:
    """Everything the hub keeps running: the server, and a child for each role that was asked for.

    ``lines`` holds a command line for each kind of role (the part before the colon), in which WORKSPACE, NAMESPACE
    (the part after it) and FOLDER stand for what they say.
    """

    def __init__(
        self,
        workspace: Workspace,
        settings: Settings,
        lines: Mapping[str, Sequence[str]],
        policies: Mapping[str, Policy],
        server: ServerLike | None,
    ) -> None:
        self.workspace, self.lines, self.policies, self.server = workspace, lines, policies, server
        self.address = address(workspace, settings)
        self.pulse = Pulse(self.address, settings.redis)
        self.children: dict[str, Child] = {}
        self.served = asyncio.Event()  # the server has answered
        self.seen: set[str] = set()  # roles that have been up
        self._meter = Meter()
        self._looked = monotonic()
        self._fault, self._deaf, self._tries = "", 0.0, 0
        self._log = channel("application")

    @property
    def troubles(self) -> list[str]:
        """One sentence for each thing that is not as it should be."""
        found = [self._fault] if self._fault else []
        found += [f"the server refuses writes: {self.pulse.trouble}"] if self.pulse.trouble else []
        for role, child in self.children.items():
            if child.state in ("waiting", "failed"):
                how = "failed" if child.state == "failed" else "starts again"
                found.append(f"{role} {how}: {child.error}")
            elif child.state == "starting" and wall_ns() - child.since > START_SECONDS * SECOND:
                found.append(f"{role} is not ready yet")
        return found

    def left_behind(self) -> list[Record]:
        """Live children of an earlier hub, but for its server: that one is taken over."""
        return [one for one in children(self.workspace) if one.role != "server"]

    def keep(self, role: str, **words: str) -> Child:
        """The child of this role, started if it is not kept yet."""
        if role in self.children and not self.children[role].ended.is_set():
            return self.children[role]
        kind, _, name = role.partition(":")
        words = {WORKSPACE: str(self.workspace.root), NAMESPACE: name, **words}
        command = [words.get(word, word) for word in self.lines[kind]]
        errors = self.workspace.logs / f"{role.replace(':', '-')}.err"
        if FOLDER in words:
            errors = Path(words[FOLDER]) / "stderr.txt"
        child = Child(
            role, command, self.policies[kind], folder=self.workspace.root, errors=errors, changed=self.note,
            environment=without_secrets(os.environ) if kind == "runner" else None,
        )  # fmt: skip
        self.children[role] = child
        child.start()
        return child

    def note(self) -> None:
        """Write down who runs, for those who look when the hub does not answer."""
        records = [child.record for child in self.children.values() if child.pid]
        if self.server is not None and self.server.pid is not None:
            records.append(Record("server", self.server.pid, mark(self.server.pid)))
        self.seen |= {role for role, child in self.children.items() if child.up.is_set()}
        try:
            write_children(self.workspace, records)
        except OSError as error:
            self._log.error("hub.children_not_written", error=error)

    async def serve(self) -> None:
        """Start the server, or start it again after it died: its clients come back by themselves."""
        if self.server is None or self.server.alive:
            self.served.set()
            return
        if self.served.is_set():
            self._fault = self._fault or "the server died"
            self._log.error("hub.server_died")
            await asyncio.sleep(SERVER_AGAIN.delay(self._tries, 0.0) if self._tries else 0.0)
            self._tries += 1
        try:
            await asyncio.to_thread(self.server.start)
        except InfrastructureError as error:
            if not self.served.is_set():
                raise
            self._fault = error.message
            return
        self._fault, self._deaf, self._tries = "", 0.0, 0
        self.served.set()
        self.note()

    async def look(self, own: dict[str, Any]) -> bool:
        """Measure the processes, read heartbeats and leave the hub's own; who hangs is killed. Whether the server
        answered."""
        began = monotonic()
        elapsed = min(began - self._looked, AWAKE_SECONDS)
        self._looked = began
        server = self.server.pid if self.server is not None else None
        self._meter.look([os.getpid(), server or 0, *(child.pid for child in self.children.values())])
        try:
            await self.pulse.beat({**own, **self.used(os.getpid())}, list(self.children))
        except RedisError as error:
            if error.context["cause"] != "loading":
                self._deaf += LOOK_SECONDS + monotonic() - began
            if self._deaf > DEAF_SECONDS and server:
                self._log.error("hub.server_deaf", seconds=self._deaf)
                Record("server", server, mark(server)).signal(signal.SIGKILL)
            return False
        self._deaf = 0.0
        if self.pulse.trouble:  # nobody can leave a heartbeat there
            return False
        for role, child in self.children.items():  # silence counts only while the server answers
            child.heard(self.pulse.health.get(role, {}).get("at", 0), elapsed)
        return True

    def used(self, pid: int | None) -> dict[str, float]:
        """Percent of a core and megabytes."""
        cpu, rss = self._meter.read.get(pid or 0, (0.0, 0.0))
        return {"cpu": cpu, "rss_mb": rss}

    def facts(self, child: Child) -> dict[str, Any]:
        """A child for people."""
        return {
            "role": child.role,
            "pid": child.pid,
            "state": child.state,
            "since": child.since,
            "restarts": child.restarts,
            "error": child.error,
            **self.used(child.pid),
            "health": self.pulse.health.get(child.role, {}),
        }

    def server_facts(self) -> dict[str, Any]:
        """The server for people."""
        pid = self.server.pid if self.server is not None else None
        alive = self.server.alive if self.server is not None else None
        return {
            "address": str(self.address),
            "embedded": self.server is not None,
            "pid": pid,
            "alive": alive,
            "error": self._fault,
            **self.used(pid),
        }

    async def close(self) -> None:
        """End the children, then the server, in any case within three seconds."""
        await asyncio.gather(*(child.stop(patience=1.5) for child in self.children.values()))
        if self.server is not None and self.server.pid is not None:
            record = Record("server", self.server.pid, mark(self.server.pid))
            asyncio.get_running_loop().call_later(1.0, record.signal, signal.SIGKILL)
            await asyncio.to_thread(self.server.stop)
        await self.pulse.client.aclose()
        self.note()

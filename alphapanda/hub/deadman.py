"""The dead man's switch: when the gateway of a live account is gone for too long, what it left working is cancelled.

A position with its stop at the broker can wait for a person; an entry that nobody watches cannot. So after so many
seconds without a sign of life the hub runs ``alphapanda kill``, which needs no gateway: level 3, entries are cancelled
and nothing new is sent until a person lifts it. It never closes positions by itself.
"""

from __future__ import annotations

import asyncio

from alphapanda.hub.crew import LOOK_SECONDS, Crew
from alphapanda.hub.tasks import Tasks
from alphapanda.logs import channel
from alphapanda.processes import PYTHON

KILL_SECONDS = 30.0  # for the command: it gives up by itself well before


class DeadMan:
    """Watches the live gateways of one crew; ``seconds`` is how long one may be silent."""

    def __init__(self, crew: Crew, tasks: Tasks, seconds: float) -> None:
        self._crew, self._tasks, self._seconds = crew, tasks, seconds
        self._beats: dict[str, int] = {}  # gateways with real orders: the last heartbeat
        self._silent: dict[str, float] = {}
        self.fired: dict[str, str] = {}  # gateways that were silent for too long: what was done

    def look(self, answered: bool) -> None:
        """After each look at the heartbeats. ``answered``: the server did, so one that is missing says something."""
        for role, child in self._crew.children.items():
            health = self._crew.pulse.health.get(role, {})
            if health.get("mode") == "live":
                self._beats.setdefault(role, 0)
            if role not in self._beats or child.state in ("stopping", "stopped"):
                self._silent.pop(role, None)
                continue
            if answered and health.get("at", 0) not in (0, self._beats[role]):
                self._beats[role], self._silent[role] = health["at"], 0.0
                self.fired.pop(role, None)
            elif answered or child.state != "ready":
                self._silent[role] = self._silent.get(role, 0.0) + LOOK_SECONDS
            if self._silent.get(role, 0.0) > self._seconds and role not in self.fired:
                self.fired[role] = "cancelling its entries"
                self._tasks.add(self._kill(role))

    async def _kill(self, role: str) -> None:
        namespace, why = role.partition(":")[2], f"dead man: no sign of its gateway for {self._seconds:g} s"
        command = (*PYTHON, "alphapanda", "kill", namespace, "--reason", why)
        channel("error").error("deadman.fired", role=role, seconds=self._seconds)
        child = await asyncio.create_subprocess_exec(
            *command, cwd=self._crew.workspace.root, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            async with asyncio.timeout(KILL_SECONDS):
                said, _ = await child.communicate()
        except TimeoutError:
            child.kill()
            said = b"it did not end in time"
        lines = said.decode("utf-8", "replace").strip().splitlines()
        self.fired[role] = lines[-1][:300] if lines else "done"
        channel("audit").warning("deadman.killed", role=role, code=child.returncode, said=lines[-20:])

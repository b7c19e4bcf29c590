"""The one thread that looks at what the other processes wrote, for all runs of a session, four times a second.

It reads documents and files, makes views of them and hands each to its run when something changed. It prints nothing,
and no server or file that goes missing ends it: what was read last stays, marked as lost.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
import redis

from alphapanda.clock import wall_ns
from alphapanda.overview.view import View, renewed
from alphapanda.workspace import RunSpec, Workspace

PERIOD = 0.25  # seconds
AFTER = 12  # rounds that a run is looked at after its end: the last figures may come late


class Watched(Protocol):
    """A run as the poller sees it."""

    @property
    def view(self) -> View:
        """What it was handed last."""
        ...

    def take(self, view: View) -> None:
        """Something changed."""
        ...

    def beat(self) -> None:
        """Nothing did."""
        ...


class Poller:
    """Keeps the views of a session's runs. ``lost``: wall time since when the server has not answered, else 0."""

    def __init__(self, workspace: Workspace, namespace: str, open_client: Callable[[], redis.Redis]) -> None:
        self.workspace, self.namespace = workspace, namespace
        self.lost = 0
        self._open_client = open_client
        self._client: redis.Redis | None = None
        self._runs: dict[str, Watched] = {}
        self._raw: dict[str, list[bytes | None]] = {}
        self._after: dict[str, int] = {}
        self._wake, self._closed = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def watch(self, run: str, watched: Watched) -> None:
        """Look after this run from now on."""
        with self._lock:
            self._runs[run], self._after[run] = watched, AFTER
            if self._thread is None:
                self._thread = threading.Thread(target=self._keep, name="alphapanda-views", daemon=True)
                self._thread.start()
        self._wake.set()

    def close(self) -> None:
        """Look no more."""
        self._closed.set()
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(1.0)
        if self._client is not None:
            self._client.close()

    def _keep(self) -> None:
        while not self._closed.is_set():
            with contextlib.suppress(Exception):  # a fault in one round must not be the last round
                self.look()
            self._wake.wait(PERIOD if self._runs else None)
            self._wake.clear()

    def look(self) -> None:
        """One round."""
        with self._lock:
            runs = dict(self._runs)
        # before the documents: a runner shows its last, then its end is written
        specs = {run: self._spec(run) for run in runs}
        raws = self._read(list(runs))
        flag = self.workspace.halts().get(self.namespace)
        halt = "" if flag is None else str(flag.get("reason") or "no reason was given")
        for run, watched in runs.items():
            made = renewed(watched.view, raws.get(run), specs[run], halt, self.lost)
            with contextlib.suppress(Exception):  # a card that cannot be sent must not hold up the others
                if made != watched.view:
                    watched.take(made)
                else:
                    watched.beat()
            if made.ended:
                self._after[run] -= 1
                if self._after[run] <= 0:
                    with self._lock:
                        self._runs.pop(run, None)

    def _read(self, runs: list[str]) -> dict[str, list[bytes | None]]:
        """Both documents of every run in one round trip; those that did not change are left out."""
        keys = [f"{self.namespace}:{kind}:{run}" for run in runs for kind in ("run", "runner")]
        if not keys:
            return {}
        if self._client is None:
            self._client = self._open_client()
        try:
            found: list[Any] = self._client.mget(keys)  # pyright: ignore[reportAssignmentType, reportUnknownMemberType]
        except (redis.RedisError, OSError):
            self.lost = self.lost or wall_ns()
            self._client.close()
            self._client = None
            return {}
        self.lost = 0
        pairs = {run: found[2 * i : 2 * i + 2] for i, run in enumerate(runs)}
        changed = {run: pair for run, pair in pairs.items() if pair != self._raw.get(run)}
        self._raw.update(changed)
        return changed

    def _spec(self, run: str) -> RunSpec | None:
        try:
            return RunSpec.read(self.workspace.runs / run)
        except (OSError, msgspec.MsgspecError):
            return None

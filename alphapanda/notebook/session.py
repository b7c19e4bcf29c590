"""A notebook's line to the hub of its workspace, in one namespace: what ``ap.connect()`` gives.

    session = await ap.connect()
    run = await session.run(OpeningRange(minutes=10))
    await session.stop()

The session holds its runs alive: when the kernel ends, its paper runs end, unless they are detached. It keeps two
daemon threads (the hold, the poller) and nothing else, so Python ends when it wants to.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import re
import socket
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec

from alphapanda.by_hand import ByHand
from alphapanda.capsule import Capsule, freeze, parameters_of
from alphapanda.clock import wall_ns
from alphapanda.errors import UnknownNameError, ValidationError
from alphapanda.hub.client import HubClient
from alphapanda.notebook import face
from alphapanda.notebook.connecting import connect, connect_sync
from alphapanda.notebook.handle import Run
from alphapanda.notebook.poller import Poller
from alphapanda.notebook.status import Overview
from alphapanda.notebook.waits import Blocking, blocking, in_thread
from alphapanda.overview.view import View
from alphapanda.processes import mark
from alphapanda.server import address
from alphapanda.settings import Settings
from alphapanda.state.client import open_blocking
from alphapanda.strategy import Strategy
from alphapanda.workspace import HALT, RunSpec, Workspace

if TYPE_CHECKING:
    from pathlib import Path

    import redis

    from alphapanda.certificate import Certificate
    from alphapanda.proofs.proof import Proof
    from alphapanda.report.drift import Drift
    from alphapanda.risk import Limits

__all__ = ["Session", "connect", "connect_sync"]

START_SECONDS = 40.0  # for a gateway and a runner


def client_id() -> str:
    """This process, by a name that no later process shares."""
    return f"{socket.gethostname()}:{os.getpid()}:{mark(os.getpid())}"


class Session:
    """What a notebook does in one namespace; ``.sync`` has the same without await. Left as a context, it stops all."""

    def __init__(self, workspace: Workspace, namespace: str, hub: HubClient, quiet: bool = False) -> None:
        self.workspace, self.namespace, self.hub, self.quiet = workspace, namespace, hub, quiet
        env = workspace.root / ".env"
        self.settings = Settings.load(env if env.exists() else None)
        self.client = client_id()
        self.closed = False
        self.sync = Blocking(self)
        self._runs: dict[str, Run] = {}
        self._hold = hub.hold(self.client)
        self._poller = Poller(workspace, namespace, self.open_server)

    def open_server(self) -> redis.Redis:
        """A blocking client of the server."""
        return open_blocking(address(self.workspace, self.settings), self.settings.redis)

    # ── runs ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(
        self,
        strategy: Strategy | type[Strategy],
        *,
        capital: float | None = None,
        detach: bool = False,
        replace: bool | None = None,
        seed: int = 0,
        name: str | None = None,
    ) -> Run:
        """Run a strategy in a process of its own; returns as soon as the hub has it.

        The class is frozen with all it needs. The same once more gives the run there is; an edited class takes the
        place of the run it came from. ``capital`` is rupees (else the settings'). A strategy that another notebook runs
        in another version is refused (AuthorizationError E_LEASE) unless ``replace``. ``detach``: it outlives this
        kernel.
        """
        self._check_open()
        made = strategy() if isinstance(strategy, type) else strategy
        capsule = freeze(made)
        request = self._request(made, capsule, name, capital, seed)
        before = self._running(request["name"])
        if before is not None and not before.same(request):
            self._say(f"{request['name']} has changed: replacing run {before.id}")
        request |= {"detach": detach, "replace": bool(replace)}
        answer = await in_thread(self.hub.ask, request, START_SECONDS)
        run = self.handle(answer["run"], request, capsule)
        if answer["attached"]:
            self._say(f"{request['name']} is unchanged: this is its run {run.id}")
        elif answer["replaced"] and before is None:
            self._say(f"replaced run {answer['replaced']}")
        return run

    async def promote(
        self,
        strategy: Strategy | type[Strategy],
        proof: Proof | Certificate | str | Path,
        *,
        to: str = "zerodha",
        limits: Limits | dict[str, Any],
        capital: float | None = None,
        auto_resume: bool = False,
        confirm: str | None = None,
        why: str = "",
    ) -> Run:
        """Let the proved class trade with money: one run in namespace ``to``, until the session ends.

        Shows the digest, the difference to what went live last, the limits and the preflight, and asks for a typed
        phrase: the account's id and the strategy's name (``confirm`` gives it where nobody can type). ``proof`` is a
        Proof, a Certificate or its file; one changed character of the class is refused (AuthorizationError
        E_PROMOTION). ``capital`` is rupees. After a crash the run comes back paused unless ``auto_resume``. It belongs
        to no kernel; `alphapanda pause`, `rollback` and `kill` act on it.
        """
        from alphapanda.notebook import promoting

        self._check_open()
        made = strategy() if isinstance(strategy, type) else strategy
        return await promoting.promote(
            self, made, proof, to, limits, capital=capital, auto_resume=auto_resume, typed=confirm, why=why
        )

    async def rollback(self, name: str, *, to: str = "zerodha", why: str) -> Run:
        """In one step put the version of a strategy that was live before in the place of the one that is live now,
        under the limits it had; returns the new run. Positions of the run it replaces stay with that one."""
        from alphapanda.notebook import promoting

        self._check_open()
        return await promoting.rollback(self, name, to, why)

    async def order(self, symbol: str, quantity: int, *, key: str, limit: float | None = None) -> Run:
        """One order by hand; ``quantity`` is signed, ``limit`` in rupees (None: at the market).

        ``key`` names the order for good: the same call again, by a cell that runs twice or a notebook that starts
        again, gives the run of the first and orders nothing. Another order under the same key is refused.
        ``await run.stop()`` cancels what has not filled.
        """
        if isinstance(quantity, bool) or not isinstance(quantity, int) or quantity == 0:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValidationError(
                f"quantity {quantity!r}", fix="a whole number, negative to sell", code="E_PARAM"
            )
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,40}", key):
            raise ValidationError(f"key {key!r}", fix="small letters, digits and hyphens", code="E_PARAM")
        strategy = ByHand(quantity=quantity, limit=limit or 0.0)
        strategy.symbols = [symbol]
        name = f"hand-{key}"
        for folder in sorted(self.workspace.runs.glob(f"{name}-*")):
            with contextlib.suppress(OSError, msgspec.MsgspecError):
                spec = RunSpec.read(folder)
                if (spec.name, spec.namespace) == (name, self.namespace):
                    return self._again(spec, strategy)
        return await self.run(strategy, name=name, detach=True)

    def _again(self, spec: RunSpec, strategy: Strategy) -> Run:
        """The run of an order that was placed under this key before."""
        capsule = freeze(strategy)
        request = self._request(strategy, capsule, spec.name, None, 0) | {"detach": True, "replace": False}
        if spec.parameters != request["parameters"] or spec.symbols != request["symbols"]:
            raise ValidationError(
                f"{spec.name} was another order: {spec.parameters} of {', '.join(spec.symbols)}",
                fix="use another key",
                code="E_CONFLICT",
            )
        self._say(f"{spec.name} was ordered before: this is its run {spec.run}")
        return self.handle(spec.run, request, capsule)

    def handle(self, run: str, request: dict[str, Any], capsule: Capsule) -> Run:
        """The handle of a run that the hub has, by what it was asked for; one for each run."""
        found = self._runs.get(run) or Run(self, _view(run, request), request, capsule)
        self._runs[run] = found
        self._poller.watch(run, found)
        return found

    def _request(
        self, strategy: Strategy, capsule: Capsule, name: str | None, capital: float | None, seed: int
    ) -> dict[str, Any]:
        if not strategy.symbols:
            raise ValidationError(
                f"{strategy.name} names no symbols",
                fix='set symbols = ["NSE:INFY"] in the class',
                code="E_STRATEGY",
            )
        if capital is not None and not 0 < capital < 1e13:
            raise ValidationError(
                f"capital {capital!r}", fix="pass rupees, such as 1_000_000", code="E_PARAM"
            )
        return {
            "do": "run",
            "namespace": self.namespace,
            "name": name or strategy.name,
            "class_name": capsule.class_name,
            "module": capsule.source,
            "digest": capsule.digest,
            "parameters": parameters_of(strategy),
            "symbols": list(strategy.symbols),
            "capital": None if capital is None else round(capital * 100),
            "client": self.client,
            "seed": seed,
        }

    def _running(self, name: str) -> Run | None:
        return next((run for run in reversed(self.runs) if run.name == name and not run.view.ended), None)

    @property
    def runs(self) -> list[Run]:
        """The runs of this notebook, in the order they were started."""
        return list(self._runs.values())

    async def stop(self, flatten: bool = False) -> None:
        """Stop every run of this notebook; ``flatten`` closes their positions too."""
        await asyncio.gather(*(run.stop(flatten) for run in self.runs if not run.view.ended))

    def drift(self, first: Run | str, second: Run | str) -> Drift:
        """Two runs of one strategy beside each other, such as paper and real: see ``ap.drift``. By their handles, ids,
        or strategy names."""
        from alphapanda.hindsight.beside import drift

        return drift(first, second, workspace=self.workspace, settings=self.settings)

    # ── the namespace ────────────────────────────────────────────────────────────────────────────────────────

    def status(self) -> Overview:
        """Processes and runs of the whole workspace, as a table."""
        return Overview(self.hub.ask({"do": "status"}, 5.0), self.client)

    def dashboard(self, page: str = "portfolio", *, role: str = "live", height: int = 640) -> Any:
        """A page of the dashboards in this cell: ``portfolio``, ``errors`` or ``runs``. It goes on while cells run, and
        does what ``role`` may; ``height`` in pixels. Without widgets, what to type instead."""
        from alphapanda.entry import PAGES

        if page not in PAGES:
            raise UnknownNameError("page", page, PAGES)
        try:
            from alphapanda.notebook.dashboard import Dashboard
        except ImportError:
            from alphapanda.notebook.login import Said

            return Said(f"no page can be shown here; in a terminal: alphapanda dashboard {page}")
        return Dashboard(self.workspace, page, role, height)

    def halt(self, reason: str) -> None:
        """No new order in this namespace from now on, whoever asks; working orders can still be cancelled.

        It is a file the gateway looks at before each order, so it works while hub and server do not answer. A person
        lifts it: ``alphapanda kill paper --lift REASON``.
        """
        halt(self.workspace, self.namespace, reason)
        self._say(
            f"{self.namespace} is halted: {reason}; `alphapanda kill {self.namespace} --lift REASON` lifts it"
        )

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────

    def close(self) -> None:
        """Let go: runs that are not detached end five seconds later."""
        self.closed = True
        self._poller.close()
        self._hold.close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValidationError(
                "this session is closed", fix="session = await ap.connect()", code="E_CLOSED"
            )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.stop()
        finally:
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        blocking(self.__aexit__, kind, error, trace)

    # ── shown ────────────────────────────────────────────────────────────────────────────────────────────────

    def __repr__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> list[str]:
        state = "closed" if self.closed else "connected"
        count = len(self._runs)
        return [
            f"{self.namespace} · {state} · {count or 'no'} run{'s' * (count != 1)} of this notebook",
            *(f"  {run.id:<24} {face.line(run.view)}" for run in self.runs),
        ]

    def _say(self, sentence: str) -> None:
        if not self.quiet:
            sys.stdout.write(sentence + "\n")


def halt(workspace: Workspace, namespace: str, reason: str) -> None:
    """Set the kill switch of a namespace; a stricter one stays as it is."""
    if not reason.strip():
        raise ValidationError("a halt without a reason", fix='say why: halt("fat finger")')
    workspace.raise_halt(namespace, HALT, reason, getpass.getuser(), wall_ns())


def _view(run: str, request: dict[str, Any]) -> View:
    return View(
        run=run,
        namespace=request["namespace"],
        name=request["name"],
        digest=request["digest"],
        parameters=request["parameters"],
        symbols=request["symbols"],
        detached=request["detach"],
    )

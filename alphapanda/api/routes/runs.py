"""Runs: looked at, started again, stopped, paused and resumed."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from alphapanda import pausing
from alphapanda.api.call import call_of
from alphapanda.api.documents import Routes, answer
from alphapanda.api.platform import One, Page, Platform
from alphapanda.api.routes.wanted import OfNamespace, OfStatus, RunId, StopRun, Why
from alphapanda.errors import InfrastructureError, UnknownNameError
from alphapanda.overview import View
from alphapanda.workspace import RunSpec

TS = 1_795_146_300_000_000_000


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run in short. Money in paise; ``data_age_ms``: age of the newest tick it has met."""

    run: str
    namespace: str
    strategy: str
    state: str
    reason: str
    detached: bool
    symbols: list[str]
    parameters: dict[str, Any]
    digest: str
    capital: int
    net: int
    positions: int
    orders: int
    ticks: int
    data_age_ms: float
    errors: int


class Changed(msgspec.Struct, frozen=True):
    """A run after something was done to it. ``state`` is empty where it shows a moment later."""

    run: str
    state: str = ""
    reason: str = ""
    attached: bool = False


RUN = Run(
    run="openingbreakout-1", namespace="paper", strategy="OpeningBreakout", state="running", reason="", detached=True,
    symbols=["NSE:INFY"], parameters={"minutes": 15}, digest="9c1f", capital=100_000_000, net=184_500, positions=1,
    orders=4, ticks=18_231, data_age_ms=12.0, errors=0,
)  # fmt: skip
VIEW = View(
    "openingbreakout-1", "paper", "OpeningBreakout", "9c1f", {"minutes": 15}, ["NSE:INFY"], state="running"
)


def add(routes: Routes, platform: Platform) -> None:
    """The list, one of it, and what can be done to one."""

    @routes.get("/v1/runs", role="view", tag="runs", answers=Page[Run], example=Page(TS, False, (RUN,)))
    async def runs(  # pyright: ignore[reportUnusedFunction]
        namespace: OfNamespace = None, status: OfStatus = None
    ) -> Response:
        """Runs of now and those that ended lately; `status` is a state."""
        found = (
            _short(view)
            for view in platform.newest.runs
            if namespace in (None, view.namespace) and status in (None, view.state)
        )
        return answer(platform.page(tuple(found)))

    @routes.get(
        "/v1/runs/{run}",
        role="view",
        tag="runs",
        answers=One[View],
        example=One(TS, False, VIEW),
        missing=True,
    )
    async def run_(run: RunId) -> Response:  # pyright: ignore[reportUnusedFunction]
        """All that is known of one run."""
        view = platform.newest.run(run)
        if view is None:
            raise UnknownNameError("run", run, (one.run for one in platform.newest.runs))
        return answer(platform.one(view))

    @routes.post(
        "/v1/runs/{run}/start",
        role="operate",
        tag="runs",
        answers=Changed,
        example=Changed("openingbreakout-2"),
    )
    async def start_run(run: RunId, body: Why, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """Run once more what this run ran: the same module, parameters, capital and limits, as a new run."""
        spec = await platform.blocking(lambda: _spec(platform, run))
        platform.may_act(call_of(request.scope), spec.namespace, body.account)
        platform.served()
        module = await platform.blocking(lambda: _module(platform, run))
        made = await platform.ask(
            60.0, do="run", namespace=spec.namespace, name=spec.name, class_name=spec.class_name, module=module,
            digest=spec.digest, parameters=spec.parameters, symbols=spec.symbols, capital=spec.capital,
            client="", detach=True, seed=spec.seed, limits=spec.limits, auto_resume=spec.auto_resume,
        )  # fmt: skip
        return answer(Changed(str(made["run"]), attached=bool(made["attached"])))

    @routes.post(
        "/v1/runs/{run}/stop", role="operate", tag="runs", answers=Changed,
        example=Changed("openingbreakout-1", "stopped", "stopped by a person"),
    )  # fmt: skip
    async def stop_run(run: RunId, body: StopRun, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """End a run for good."""
        spec = await platform.blocking(lambda: _spec(platform, run))
        platform.may_act(call_of(request.scope), spec.namespace, body.account)
        platform.served()
        done = await platform.ask(do="stop", run=run, flatten=body.flatten)
        return answer(Changed(run, str(done["state"]), str(done["reason"])))

    async def told(run: str, body: Why, request: Request, *, pause: bool) -> Response:
        """Told to its gateway, and confirmed by what that shows."""
        call = call_of(request.scope)
        spec = await platform.blocking(lambda: _spec(platform, run))
        platform.may_act(call, spec.namespace, body.account)
        platform.served()
        act = pausing.pause if pause else pausing.resume
        await platform.blocking(lambda: act(platform.workspace, run, body.reason, call.by))
        return answer(Changed(run, "paused" if pause else "running", body.reason))

    @routes.post(
        "/v1/runs/{run}/pause", role="operate", tag="runs", answers=Changed,
        example=Changed("openingbreakout-1", "paused", "odd fills"),
    )  # fmt: skip
    async def pause_run(run: RunId, body: Why, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """Let a run open nothing; what closes positions passes."""
        return await told(run, body, request, pause=True)

    @routes.post(
        "/v1/runs/{run}/resume", role="operate", tag="runs", answers=Changed,
        example=Changed("openingbreakout-1", "running", "looked at it"),
    )  # fmt: skip
    async def resume_run(run: RunId, body: Why, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """Let a paused run open positions again."""
        return await told(run, body, request, pause=False)


def _short(view: View) -> Run:
    count = view.count
    return Run(
        run=view.run, namespace=view.namespace, strategy=view.name, state=view.state, reason=view.reason,
        detached=view.detached, symbols=view.symbols, parameters=view.parameters, digest=view.digest,
        capital=view.books.capital, net=view.books.net, positions=len(view.books.positions),
        orders=count.get("orders", 0), ticks=count.get("ticks", 0), data_age_ms=view.pulse.data_age_ms,
        errors=len(view.pulse.errors),
    )  # fmt: skip


def _spec(platform: Platform, run: str) -> RunSpec:
    """What the run's folder says. UnknownNameError if there is none; a strategy's name is none here."""
    names = sorted(folder.name for folder in platform.workspace.runs.iterdir())
    if run not in names:
        raise UnknownNameError("run", run, names)
    try:
        return RunSpec.read(platform.workspace.runs / run)
    except (OSError, msgspec.MsgspecError):
        raise InfrastructureError(
            f"the folder of {run} cannot be read", fix="look at it", code="E_RUN"
        ) from None


def _module(platform: Platform, run: str) -> str:
    try:
        return (platform.workspace.runs / run / "strategy.py").read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        raise InfrastructureError(
            f"the module of {run} cannot be read", fix="look at it", code="E_RUN"
        ) from None

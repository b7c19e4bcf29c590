"""The kill switch. It is the one thing that is done without the server: it needs nobody."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from alphapanda import halting
from alphapanda.api.call import call_of
from alphapanda.api.documents import Routes, answer
from alphapanda.api.platform import Page, Platform
from alphapanda.api.problems import problem
from alphapanda.api.routes.trading import TS
from alphapanda.api.routes.wanted import HaltOrders, Namespace, Why
from alphapanda.overview import Halt


class Halted(msgspec.Struct, frozen=True):
    """A namespace whose kill switch is pulled."""

    namespace: str
    halt: Halt


class Done(msgspec.Struct, frozen=True):
    """What was done; ``level`` is what stands now, 0 for none."""

    namespace: str
    level: int
    lines: tuple[str, ...]


EXAMPLE = Done(
    "paper", 3, ("halt flag written: no gateway takes an order while it is there", "the gateway has halted")
)


def add(routes: Routes, platform: Platform) -> None:
    """Who is halted; halt and lift."""

    @routes.get(
        "/v1/halts", role="view", tag="operations", answers=Page[Halted],
        example=Page(TS, False, (Halted("paper", Halt(3, "odd fills", "asha over HTTP", TS)),)),
    )  # fmt: skip
    async def halts() -> Response:  # pyright: ignore[reportUnusedFunction]
        """Namespaces whose kill switch is pulled, and why."""
        lanes = platform.newest.lanes.values()
        return answer(platform.page(tuple(Halted(lane.name, lane.halt) for lane in lanes if lane.halt)))

    @routes.post(
        "/v1/namespaces/{namespace}/halt", role="operate", tag="operations", answers=Done, example=EXAMPLE
    )
    async def halt_namespace(  # pyright: ignore[reportUnusedFunction]
        namespace: Namespace, body: HaltOrders, request: Request
    ) -> Response:
        """Stop all orders at once, also while the server is lost. 503 if not everything could be seen to be done."""
        call = call_of(request.scope)
        platform.known(namespace)
        platform.may_act(call, namespace, body.account)
        done = await platform.halting(
            lambda: halting.halt(
                platform.workspace, namespace, body.level, body.reason, call.by, account=body.account
            )
        )
        return _told(platform, request, done)

    @routes.post(
        "/v1/namespaces/{namespace}/lift", role="operate", tag="operations", answers=Done,
        example=Done("paper", 0, ("halt flag removed; it was there for: odd fills", "the gateway takes orders again")),
    )  # fmt: skip
    async def lift_halt(namespace: Namespace, body: Why, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """Let orders pass again."""
        call = call_of(request.scope)
        platform.known(namespace)
        platform.may_act(call, namespace, body.account)
        platform.served()
        done = await platform.halting(
            lambda: halting.lift(platform.workspace, namespace, body.reason, call.by)
        )
        return _told(platform, request, done)


def _told(platform: Platform, request: Request, done: halting.Done) -> Response:
    lines = tuple(platform.elsewhere(line.text) for line in done.lines)
    if done.ok:
        return answer(Done(done.namespace, done.level, lines))
    return problem(
        request.scope, 503, "E_NOT_WHOLE", "not everything was seen to be done", "read lines, then look at the account",
        lines=lines,
    )  # fmt: skip

"""What needs a person, and that somebody has seen it. It lies in a file: it is told and taken without the server."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response

from alphapanda.alerts import Alert, Alerts
from alphapanda.api.call import call_of
from alphapanda.api.documents import Routes, answer
from alphapanda.api.platform import Page, Platform
from alphapanda.api.routes.trading import TS
from alphapanda.api.routes.wanted import Limit, Seen
from alphapanda.clock import wall_ns

All = Annotated[bool, Query(alias="all", description="also those that are over, newest first")]
ALERT = Alert(
    id="feed_stale:feed", rule="feed_stale", subject="feed", level="error", title="no tick for 9 s",
    fix="alphapanda status", raised=TS, told=TS, times=1,
)  # fmt: skip
SEEN = Alert(
    id="feed_stale:feed", rule="feed_stale", subject="feed", level="error", title="no tick for 9 s", raised=TS,
    told=TS, times=1, acknowledged=TS, by="asha over HTTP", note="the broker's outage",
)  # fmt: skip


def add(routes: Routes, platform: Platform) -> None:
    """The list, and that one was seen."""
    alerts_of = Alerts(platform.workspace)

    @routes.get(
        "/v1/alerts", role="view", tag="errors", answers=Page[Alert], example=Page(TS, False, (ALERT,)), lost=True
    )  # fmt: skip
    async def alerts(over: All = False, limit: Limit = 100) -> Response:  # pyright: ignore[reportUnusedFunction]
        """Alerts that stand, the worst first and those that somebody has seen last."""
        found = await platform.blocking(lambda: alerts_of.history(limit) if over else alerts_of.open())
        return answer(Page(wall_ns(), False, tuple(found[:limit])))

    @routes.post("/v1/alerts/acknowledge", role="operate", tag="errors", answers=Alert, example=SEEN)
    async def acknowledge_alert(body: Seen, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """Somebody has seen it: it is not told again, unless its cause is another."""
        by = call_of(request.scope).by
        return answer(await platform.blocking(lambda: alerts_of.acknowledge(body.id, by, body.note)))

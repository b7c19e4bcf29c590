"""Processes under the hub, and the prices they see."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from alphapanda.api.documents import Routes, answer
from alphapanda.api.platform import Page, Platform
from alphapanda.api.routes.trading import TS
from alphapanda.overview import Price, Process


class Crew(msgspec.Struct, frozen=True):
    """The hub's state and its processes; ``troubles``: one sentence for each thing that is not as it should be."""

    at: int
    stale: bool
    hub: str
    troubles: tuple[str, ...]
    processes: tuple[Process, ...]


class Priced(msgspec.Struct, frozen=True):
    """An instrument now."""

    symbol: str
    price: Price


def add(routes: Routes, platform: Platform) -> None:
    """Who runs, what it costs; the document itself."""

    @routes.get(
        "/v1/processes", role="view", tag="operations", answers=Crew,
        example=Crew(TS, False, "ready", (), (Process("feed", "ready", 4711, 3.1, 58.2, since=TS, at=TS),)),
    )  # fmt: skip
    async def processes() -> Response:  # pyright: ignore[reportUnusedFunction]
        """Hub, server and every process, with what they use."""
        seen = platform.newest
        return answer(Crew(seen.at, platform.stale or not seen.hub, seen.hub, seen.troubles, seen.processes))

    @routes.get(
        "/v1/prices", role="view", tag="trading", answers=Page[Priced],
        example=Page(TS, False, (Priced("NSE:INFY", Price(1521.75, 1518.0, ts=TS, at=TS, ticks=431)),)),
    )  # fmt: skip
    async def prices() -> Response:  # pyright: ignore[reportUnusedFunction]
        """The last price of every instrument of the day."""
        return platform.told(
            "prices",
            lambda: platform.page(tuple(Priced(*one) for one in platform.newest.prices.items())),
        )

    @routes.get(
        "/v1/openapi.json",
        role="view",
        tag="operations",
        answers=dict[str, Any],
        example={"openapi": "3.1.0"},
    )
    async def openapi() -> Response:  # pyright: ignore[reportUnusedFunction]
        """This document."""
        return Response(routes.document, media_type="application/json")

"""Lines of the error channel, and how many of each kind there were."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

import msgspec
from fastapi import Query
from starlette.responses import Response

from alphapanda.api.documents import Routes, answer
from alphapanda.api.platform import Page, Platform
from alphapanda.api.routes.trading import TS, chosen
from alphapanda.api.routes.wanted import Limit, OfNamespace, OfRun
from alphapanda.clock import wall_ns
from alphapanda.events import MINUTE
from alphapanda.overview import ErrorLine

By = Literal["error", "topic", "namespace", "minute"]
Minutes = Annotated[int, Query(ge=1, le=1440, description="of the last so many minutes")]


class ErrorCount(msgspec.Struct, frozen=True):
    """So many errors with this mark: a class, a topic, a namespace, or a minute's wall ns."""

    mark: str
    count: int


LINE = ErrorLine(
    "2026-11-20T04:15:00.000000Z", "error", "strategy.halted", "runner", "paper", "openingbreakout-1",
    "OpeningBreakout", "OpeningBreakout:4711:0", "ZeroDivisionError: division by zero",
)  # fmt: skip


def add(routes: Routes, platform: Platform) -> None:
    """The newest errors, and statistics."""

    @routes.get(
        "/v1/errors", role="view", tag="errors", answers=Page[ErrorLine], example=Page(TS, False, (LINE,))
    )
    async def errors(  # pyright: ignore[reportUnusedFunction]
        namespace: OfNamespace = None, run: OfRun = None, limit: Limit = 100
    ) -> Response:
        """The newest lines of the error channel."""
        found = chosen(platform.newest.errors, namespace=namespace, run=run)
        return answer(platform.page(tuple(found[:limit])))

    @routes.get(
        "/v1/errors/statistics", role="view", tag="errors", answers=Page[ErrorCount],
        example=Page(TS, False, (ErrorCount("RedisError", 3),)),
    )  # fmt: skip
    async def error_statistics(  # pyright: ignore[reportUnusedFunction]
        by: By = "error", minutes: Minutes = 60
    ) -> Response:
        """Errors counted, most frequent first."""
        since = (wall_ns() // MINUTE - minutes + 1) * MINUTE
        counts: Counter[str] = Counter()
        for minute, error, topic, namespace, count in platform.newest.error_counts:
            if minute >= since:
                counts[
                    {"error": error, "topic": topic, "namespace": namespace, "minute": str(minute)}[by]
                ] += count
        return answer(platform.page(tuple(ErrorCount(*one) for one in counts.most_common())))

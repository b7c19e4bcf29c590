"""Is it there, and can it trade? For machines that ask often: no token, no limit, and nothing that tells anything."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from alphapanda.api.documents import Routes, answer
from alphapanda.api.platform import Platform


class Health(msgspec.Struct, frozen=True):
    """One word."""

    status: str


def add(routes: Routes, platform: Platform) -> None:
    """``/health`` and ``/ready``."""

    @routes.get("/health", role=None, tag="health", answers=Health, example=Health("ok"))
    async def health() -> Response:  # pyright: ignore[reportUnusedFunction]
        """Whether this service answers."""
        return answer(Health("ok"))

    @routes.get("/ready", role=None, tag="health", answers=Health, example=Health("ready"), lost=True)
    async def ready() -> Response:  # pyright: ignore[reportUnusedFunction]
        """Whether hub and server answer, too."""
        good = not platform.stale and platform.newest.hub == "ready"
        return answer(Health("ready")) if good else answer(Health("not ready"), 503, {"retry-after": "2"})

"""The API in this process, with nothing behind it: what is refused needs nobody."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from alphapanda import logs
from alphapanda.access import ROLES, Access
from alphapanda.api.app import make_service
from alphapanda.api.platform import Platform
from alphapanda.buses.redis import RedisBus
from alphapanda.overview import (
    ErrorLine,
    Halt,
    Lane,
    LaneFill,
    LaneOrder,
    LanePosition,
    Overview,
    Price,
    Process,
    View,
)
from alphapanda.settings import APISettings, Settings
from alphapanda.workspace import RunSpec, Workspace

CANARY = "q7Zk2mPx9Lr4Tv8Ws1Yb6Nc3Hd5"
ACCOUNT = "AB1234"
RUN, LIVE_RUN = "cross-1", "cross-2"
OVERVIEW = Overview(
    1, 5, hub="ready", processes=(Process("feed", "ready", 7),),
    lanes={
        name: Lane(
            name, name != "paper", Halt(2, "x"), equity=10**9,
            positions=(LanePosition(RUN, "Cross", "NSE:INFY", "MIS", 1, 1.0, 1.0, 0),),
            orders=tuple(LaneOrder(f"Cross:{n}:0", RUN, "Cross", "NSE:INFY", "BUY", 1, ts=n) for n in range(9)),
            fills=(LaneFill("Cross:1:0", RUN, "Cross", "NSE:INFY", "BUY", 1, 1.0, 1),),
        )
        for name in ("paper", "zerodha")
    },
    runs=(View(RUN, "paper", "Cross", "d", {}, []), View(LIVE_RUN, "zerodha", "Cross", "d", {}, [])),
    prices={"NSE:INFY": Price(1.0, 1.0)}, errors=(ErrorLine("2026-11-20T00:00:00Z", "error", "x"),),
    error_counts=((0, "RedisError", "t", "paper", 1),), letters={"paper.signals.raw": 1},
)  # fmt: skip


class Seen:
    """A reader that has looked once."""

    newest = OVERVIEW


class Desk:
    """One API without processes: nobody answers behind it. ``call`` is one HTTP call."""

    def __init__(self, root: Path, **api: Any) -> None:
        self.workspace = Workspace(root)
        self.access = Access(self.workspace)
        self.tokens = {role: self.access.add(role, role) for role in ROLES}
        made = Settings.load(None)
        own = {"api": APISettings.model_validate({"rate_limit_calls": 10**6, **api})}
        made = made.model_copy(update=own | {"zerodha": made.zerodha.model_copy(update={"user_id": ACCOUNT})})
        for run, namespace in ((RUN, "paper"), (LIVE_RUN, "zerodha")):
            folder = self.workspace.runs / run
            folder.mkdir()
            RunSpec(run=run, namespace=namespace, name="Cross", class_name="Cross", digest="d").write(folder)
            (folder / "strategy.py").write_text("class Cross: ...\n")
        bus = RedisBus.connect(self.workspace.server_socket, timeout=0.2)
        self.platform = Platform(self.workspace, made, Seen(), self.access, bus)
        self.app = make_service(self.platform)

    async def send(
        self, method: str, path: str, role: str = "", *, peer: str = "127.0.0.1", **more: Any
    ) -> httpx.Response:
        head = dict(more.pop("headers", {}))
        if role:
            head.setdefault("Authorization", f"Bearer {self.tokens.get(role, role)}")
        carried = httpx.ASGITransport(self.app, client=(peer, 4711))
        async with httpx.AsyncClient(transport=carried, base_url="http://localhost:8000") as client:
            return await client.request(method, path, headers=head, **more)

    def call(self, method: str, path: str, role: str = "", **more: Any) -> httpx.Response:
        return asyncio.run(self.send(method, path, role, **more))

    def post(self, path: str, role: str = "operate", **more: Any) -> httpx.Response:
        return self.call("POST", path, role, **more)


@contextlib.contextmanager
def opened(root: Path) -> Iterator[Desk]:
    """A desk that writes logs, with one page of another site and one net of proxies that are trusted."""
    made = Desk(root, cors_origins="https://desk.example", trusted_proxies="10.0.0.0/24")
    logs.configure(made.workspace, made.platform.settings, "api")
    try:
        yield made
    finally:
        logs.close()
        made.platform.close()


def lines(desk: Desk, channel: str) -> list[dict[str, Any]]:
    """What a log channel holds."""
    path = desk.workspace.logs / f"{channel}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

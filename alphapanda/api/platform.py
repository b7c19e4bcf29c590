"""What the routes work with: one workspace seen and acted on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import msgspec
from starlette.responses import Response

from alphapanda import halting
from alphapanda.access import Access
from alphapanda.api.call import Call
from alphapanda.errors import AuthorizationError, RedisError, UnknownNameError
from alphapanda.hub.client import HubClient
from alphapanda.overview import Overview
from alphapanda.settings import Settings
from alphapanda.workspace import Workspace

if TYPE_CHECKING:
    from alphapanda.buses.redis import RedisBus

T = TypeVar("T")
THREADS = 16  # that wait for the hub or a gateway at once
TOLD_MAX = 32  # encoded answers that are kept, each for as long as nothing new was read
HALTING_THREADS = 4  # of their own: whatever else hangs, the kill switch does not wait


class Reads(Protocol):
    """Where answers come from; ``overview.Reader`` is one."""

    @property
    def newest(self) -> Overview: ...


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Rows, as of ``at`` (wall ns of the last change that was read). ``next``: what asks for the page after this."""

    at: int
    stale: bool
    items: tuple[T, ...]
    next: str = ""


class One(msgspec.Struct, Generic[T], frozen=True):
    """One thing, as of ``at``."""

    at: int
    stale: bool
    item: T


class Platform:
    """One workspace, its reader and its bus; everything blocking happens in threads."""

    def __init__(
        self, workspace: Workspace, settings: Settings, reader: Reads, access: Access, bus: RedisBus
    ) -> None:
        self.workspace, self.settings, self.access, self.bus = workspace, settings, access, bus
        self.hub = HubClient(workspace)
        self._reader = reader
        self._told_of: Overview | None = None
        self._told: dict[Hashable, bytes] = {}
        self._threads = ThreadPoolExecutor(THREADS, "api")
        self._halting = ThreadPoolExecutor(HALTING_THREADS, "halt")

    def close(self) -> None:
        """Wait for nothing that still runs."""
        for pool in (self._threads, self._halting):
            pool.shutdown(wait=False, cancel_futures=True)

    @property
    def newest(self) -> Overview:
        """What was read last."""
        return self._reader.newest

    @property
    def stale(self) -> bool:
        """Whether the server cannot be asked now, or has not been yet."""
        seen = self.newest
        return bool(seen.lost) or not seen.number

    def elsewhere(self, text: str) -> str:
        """A text of ours as others may read it: without paths of this machine."""
        for place in (self.workspace.runtime, self.workspace.root):
            text = text.replace(str(place), "the workspace")
        return text

    def page(self, items: tuple[T, ...], following: str = "") -> Page[T]:
        """Rows of what was read last."""
        return Page(self.newest.at, self.stale, items, following)

    def one(self, item: T) -> One[T]:
        """One thing of what was read last."""
        return One(self.newest.at, self.stale, item)

    def told(self, question: Hashable, make: Callable[[], Any]) -> Response:
        """What ``make`` answers to a question, encoded once for all who ask it until something new was read."""
        seen = self.newest
        if seen is not self._told_of or len(self._told) >= TOLD_MAX:
            self._told_of, self._told = seen, {}
        body = self._told.get(question)
        if body is None:
            body = self._told[question] = msgspec.json.encode(make())
        return Response(body, media_type="application/json")

    async def blocking(self, work: Callable[[], T]) -> T:
        """Done in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def halting(self, work: Callable[[], T]) -> T:
        """Done in a thread that waits for nothing but halts."""
        return await asyncio.get_running_loop().run_in_executor(self._halting, work)

    async def ask(self, timeout: float = 30.0, **question: Any) -> dict[str, Any]:
        """The hub's answer. Raises what it raises."""
        return await self.blocking(lambda: self.hub.ask(question, timeout))

    def served(self) -> None:
        """RedisError while the server does not answer: nothing is begun that could not be seen to its end."""
        if self.newest.lost:
            raise RedisError("the server does not answer", fix="alphapanda status")

    def known(self, namespace: str) -> str:
        """The namespace, if it ever traded here; UnknownNameError if not."""
        names = {*self.newest.lanes, *halting.namespaces(self.workspace)}
        if namespace not in names:
            raise UnknownNameError("namespace", namespace, names)
        return namespace

    def may_act(self, call: Call, namespace: str, account: str | None) -> None:
        """Where money is: the role live, and the account's id typed (the namespace's name if no setting says it).

        AuthorizationError with code E_ROLE or E_ACCOUNT.
        """
        if halting.practice(namespace):
            return
        call.check("live")
        if account != (self.settings.zerodha.user_id or namespace):
            raise AuthorizationError(
                f"{namespace} trades with money: this takes its account's id, typed",
                fix="send it as `account`",
                code="E_ACCOUNT",
            )

"""What all open pages of a server share: the workspace, the reader, who may act, and what was made of an overview."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from alphapanda import logs
from alphapanda.clock import monotonic
from alphapanda.errors import AlphaPandaException
from alphapanda.overview import Overview, Reader
from alphapanda.panes.gate import Gate
from alphapanda.settings import Settings
from alphapanda.workspace import Workspace

if TYPE_CHECKING:
    from alphapanda.panes.visit import Visit

MANY = 5  # open pages; beyond these each is looked after less often
WAIT_SECONDS, SLOW_SECONDS = 1.0, 2.0


class Desk:
    """One a server process. ``gate`` is None where nobody logs in (``panel serve``): then nobody may act."""

    def __init__(self, workspace: Workspace, settings: Settings, reader: Reader, gate: Gate | None) -> None:
        self.workspace, self.settings, self.reader, self.gate = workspace, settings, reader, gate
        self.visits: set[Visit] = set()
        self.overview: Overview = reader.newest
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._slow: dict[str, list[Any]] = {}  # value, when it was read, who reads it
        self._made: dict[tuple[Any, ...], Any] = {}
        self._open = True
        self._thread = threading.Thread(target=self._listen, name="alphapanda-news", daemon=True)
        self._thread.start()

    @property
    def period(self) -> float:
        """Seconds between two looks of a page; more when many are open."""
        watching = sum(one.visible for one in self.visits)
        return self.settings.dashboards.refresh_seconds * max(1.0, watching / MANY)

    async def news(self, after: int) -> Overview:
        """The overview once it is newer than number ``after``; after a second the newest there is."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WAIT_SECONDS):
                while self.overview.number <= after:
                    await self._news.wait()
        return self.overview

    def made(self, make: Callable[..., Any], overview: Overview, *facts: Any) -> Any:
        """What ``make`` says of an overview; asked once however many pages show it."""
        key = (make, *facts)
        known = self._made.get(key)
        if known is None or known[0] is not overview:
            known = self._made[key] = (overview, make(overview, *facts))
            if len(self._made) > 500:  # symbols and namespaces people looked at
                self._made = {name: one for name, one in self._made.items() if one[0] is overview}
        return known[1]

    def slowly(self, name: str, read: Callable[[Desk], Any], first: Any) -> Any:
        """What ``read`` said last, ``first`` before it has; it is asked in a thread, at most every two seconds, and
        only while somebody looks."""
        known = self._slow.setdefault(name, [first, 0.0, None])
        if known[2] is None and monotonic() - known[1] > SLOW_SECONDS:
            known[2] = self._loop.create_task(self._read(known, name, read))
        return known[0]

    def again(self, name: str) -> None:
        """Read it anew with the next look: somebody has changed it."""
        if name in self._slow:
            self._slow[name][1] = 0.0

    async def _read(self, known: list[Any], name: str, read: Callable[[Desk], Any]) -> None:
        try:
            known[0] = await asyncio.to_thread(read, self)
        except AlphaPandaException as error:  # the server is away, a file is damaged: what stands here stays
            logs.channel("application").warning("page.unread", what=name, error=error.message)
        except Exception:  # noqa: BLE001 - what could not be read is asked again; the page goes on
            logs.channel("error").exception("page.unread", what=name)
        finally:
            known[1:] = [monotonic(), None]

    def _listen(self) -> None:
        """The thread that waits for the reader and wakes the pages."""
        seen = self.overview.number
        while self._open:
            newest = self.reader.wait(seen, WAIT_SECONDS)
            if newest.number > seen and self._open:
                seen = newest.number
                with contextlib.suppress(RuntimeError):  # the loop has ended
                    self._loop.call_soon_threadsafe(self._heard, newest)

    def _heard(self, newest: Overview) -> None:
        self.overview = newest
        self._news.set()
        self._news.clear()

    async def close(self) -> None:
        """Look after no page any more."""
        self._open = False
        for one in list(self.visits):
            one.leave()


_used: list[Desk] = []


def use(desk: Desk) -> Desk:
    """Make this the desk of the process."""
    _used[:] = [desk]
    return desk


def current() -> Desk:
    """The desk of this process; one of its own, for looking only, where no server of ours runs."""
    if not _used:
        workspace, settings = Workspace.find(), Settings.load()
        reader = Reader(workspace, settings, period=settings.dashboards.refresh_seconds)
        use(Desk(workspace, settings, reader.start(), None))
    return _used[0]

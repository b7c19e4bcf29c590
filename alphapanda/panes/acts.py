"""What a person can do on a page: stop, pause, settle. Each act asks who it is first, here and not in the browser.

A role that only looks may do none of it; one that operates, on paper; where money is it takes the role ``live``, and
the words of the kill switch are typed. Whatever was asked, allowed or not, is audited.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from alphapanda import halting, logs, pausing
from alphapanda.errors import AlphaPandaException, AuthorizationError, UnknownNameError, ValidationError
from alphapanda.hub.client import HubClient

if TYPE_CHECKING:
    from alphapanda.panes.visit import Visit

Said = dict[str, Any]  # a line that is shown: text, and whether it is bad
Act = Callable[[dict[str, Any]], Coroutine[Any, Any, None]]
LEVELS = (halting.REDUCE, halting.HALT, halting.CANCEL, halting.FLATTEN)
STOP_SECONDS = 20.0
TEXT_MAX = 300


class Acts:
    """The acts of one page, and who asks for them."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._acts: dict[str, Act] = {
            "halt": self._halt,
            "lift": self._lift,
            "stop": self._stop,
            "pause": self._pause,
            "resume": self._resume,
        }
        self._running: set[asyncio.Task[None]] = set()

    def add(self, name: str, act: Act) -> None:
        """Another act, of a page's own; it asks ``allow`` itself."""
        self._acts[name] = act

    def heard(self, message: dict[str, Any]) -> None:
        """A button was pressed."""
        act = self._acts.get(str(message.get("do")))
        if act is not None and len(self._running) < 8:  # nobody presses more at once
            task = asyncio.get_running_loop().create_task(self._done(act, message))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _done(self, act: Act, message: dict[str, Any]) -> None:
        try:
            await act(message)
        except AlphaPandaException as error:
            fix = f"; {error.fix}" if error.fix else ""
            self._visit.tell({"text": f"{error.message}{fix}", "bad": True})
        except Exception as error:  # noqa: BLE001 - who asked must hear of it, and the page go on
            logs.channel("error").exception("page.act", page=self._visit.page, act=str(message.get("do")))
            self._visit.tell({"text": f"this failed: {type(error).__name__}: {error}", "bad": True})
        self._visit.look()

    def allow(self, act: str, namespace: str, **facts: Any) -> str:
        """Note that a person wants this and raise AuthorizationError if they may not; returns how the audit names
        them. ``namespace`` is empty for what belongs to none."""
        visit = self._visit
        lane = visit.desk.overview.lanes.get(namespace)
        if lane is None and namespace:
            raise UnknownNameError("namespace", namespace, visit.desk.overview.lanes)
        need = "live" if lane is not None and lane.live else "operate"
        person, by = visit.person, f"{visit.person.name} on the page"
        good = person.may(need) and visit.stands()
        log = logs.channel("audit")
        (log.info if good else log.warning)(
            "page.act" if good else "page.refused", act=act, by=by, role=person.role, namespace=namespace, **facts
        )  # fmt: skip
        if not good:
            raise AuthorizationError(
                f"{person.name} may {person.role}; this takes the role {need}",
                fix=f"ask for a token with it: alphapanda token add NAME --role {need}",
                code="E_ROLE",
            )
        return by

    # ── the kill switch

    def _typed(self, namespace: str, message: dict[str, Any]) -> str:
        """What was typed to show that this namespace is meant."""
        typed, account = text(message, "typed"), self._visit.desk.settings.zerodha.user_id
        if self._visit.desk.overview.lanes[namespace].live and typed not in {namespace, account or namespace}:
            raise ValidationError(f"type {namespace}, or its account's id, to say that it is meant")
        return typed

    async def _halt(self, message: dict[str, Any]) -> None:
        namespace, level = text(message, "namespace"), message.get("level")
        if level not in LEVELS:
            raise ValidationError("no such level of the kill switch")
        reason = text(message, "reason") or "by hand"
        by = self.allow("halt", namespace, level=level, reason=reason)
        typed = self._typed(namespace, message)
        done = await asyncio.to_thread(
            halting.halt, self._visit.desk.workspace, namespace, level, reason, by, account=typed or None
        )
        self._visit.tell(*({"text": f"{namespace}: {line.text}", "bad": line.bad} for line in done.lines))

    async def _lift(self, message: dict[str, Any]) -> None:
        namespace, reason = text(message, "namespace"), text(message, "reason")
        by = self.allow("lift", namespace, reason=reason)
        self._typed(namespace, message)
        done = await asyncio.to_thread(halting.lift, self._visit.desk.workspace, namespace, reason, by)
        self._visit.tell(*({"text": f"{namespace}: {line.text}", "bad": line.bad} for line in done.lines))

    # ── a run

    def _run(self, act: str, message: dict[str, Any]) -> tuple[str, str]:
        run = text(message, "key")
        view = self._visit.desk.overview.run(run)
        if view is None:
            raise UnknownNameError("run", run, (one.run for one in self._visit.desk.overview.runs))
        return run, self.allow(act, view.namespace, run=run)

    async def _stop(self, message: dict[str, Any]) -> None:
        run, _ = self._run("stop", message)
        hub = HubClient(self._visit.desk.workspace)
        answer = await asyncio.to_thread(hub.ask, {"do": "stop", "run": run}, STOP_SECONDS)
        self._visit.tell({"text": f"{run} is {answer['state']}", "bad": False})

    async def _pause(self, message: dict[str, Any]) -> None:
        run, by = self._run("pause", message)
        await asyncio.to_thread(pausing.pause, self._visit.desk.workspace, run, "on the page", by)
        self._visit.tell({"text": f"{run} is paused: it opens nothing, what closes goes on", "bad": False})

    async def _resume(self, message: dict[str, Any]) -> None:
        run, by = self._run("resume", message)
        await asyncio.to_thread(pausing.resume, self._visit.desk.workspace, run, "on the page", by)
        self._visit.tell({"text": f"{run} may open positions again", "bad": False})


def text(message: dict[str, Any], name: str) -> str:
    """A word of the browser, cut and without what steers a terminal."""
    given = str(message.get(name) or "")[:TEXT_MAX]
    return "".join(one for one in given if one.isprintable()).strip()

"""The two rounds of the watch: what is due, twice a second; what needs a person, once a second. Neither waits for the
other, nor for a notebook or a web address."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from alphapanda import logs
from alphapanda.alerts import Alerts, Finding
from alphapanda.alerts.book import Telling
from alphapanda.alerts.rules import RULES, schedule_failed
from alphapanda.alerts.webhook import Webhook
from alphapanda.clock import monotonic, wall_ns
from alphapanda.errors import AlphaPandaException
from alphapanda.overview import Overview, Reader
from alphapanda.rulebook import Rulebook
from alphapanda.schedules import Schedules
from alphapanda.schedules.scheduler import Scheduler
from alphapanda.settings import Settings
from alphapanda.workspace import Workspace

SCHEDULE_SECONDS, ALERT_SECONDS = 0.5, 1.0
FIRST_SECONDS = 3.0  # until the first overview is whole: what is still starting is no alarm


class Rounds:
    """What the watch process does. ``run`` until cancelled, then ``close``."""

    def __init__(self, workspace: Workspace, settings: Settings) -> None:
        self._settings = settings.alerts
        self.alerts = Alerts(workspace)
        self.schedules = Schedules(workspace, settings.schedule)
        self.scheduler = Scheduler(self.schedules.place, Rulebook.load())
        self.reader = Reader(workspace, settings, period=ALERT_SECONDS / 2)
        url = self._settings.webhook_url
        self.webhook = Webhook(url, self._settings.webhook_seconds) if url is not None else None
        self._facts: dict[str, Any] = {"schedules": 0, "next_due": 0, "alerts": 0, "unseen": 0}
        self._troubles: dict[str, str] = {}
        self._held_back = self._beyond = 0

    async def run(self) -> None:
        """Both rounds, and the webhook."""
        self.reader.start()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._round("schedules", self._look_at_schedules, SCHEDULE_SECONDS))
            if self.webhook is not None:
                group.create_task(self.webhook.run())
            await asyncio.sleep(FIRST_SECONDS)
            group.create_task(self._round("alerts", self._look_at_alerts, ALERT_SECONDS))

    def close(self) -> None:
        """End what runs, on record."""
        self.scheduler.close()
        self.reader.close()

    def health(self) -> dict[str, Any]:
        """How many schedules, when the next is due (wall ns), what is open; for the heartbeat."""
        return {
            "state": "degraded" if self._troubles else "running", "detail": "; ".join(self._troubles.values()),
            **self._facts, "notebooks": self.scheduler.running, "held_back": self._held_back,
            "beyond": self._beyond, **({"webhook": self.webhook.health()} if self.webhook is not None else {}),
        }  # fmt: skip

    async def _round(self, name: str, look: Callable[[], list[Telling]], every: float) -> None:
        """Look again and again; a look that fails is a trouble, and the next one may go well."""
        while True:
            began = monotonic()
            try:
                for telling in await asyncio.to_thread(look):
                    self._tell(telling)
                self._troubles.pop(name, None)
            except AlphaPandaException as error:
                self._failed(name, error.message)
            except Exception as error:  # noqa: BLE001 - one schedule or rule must not end the watch over the others
                self._failed(name, f"{type(error).__name__}: {error}")
            await asyncio.sleep(max(0.05, began + every - monotonic()))

    def _failed(self, name: str, what: str) -> None:
        if self._troubles.get(name) != what:
            self._troubles[name] = what
            logs.channel("error").exception("watch.look_failed", round=name)

    def _look_at_schedules(self) -> list[Telling]:
        self.scheduler.look()
        known = self.schedules.list()
        self._facts["schedules"] = len(known)
        self._facts["next_due"] = min((one.due for one in known if one.due), default=0)
        return []

    def _look_at_alerts(self) -> list[Telling]:
        """What the rules see now, and what follows from it."""
        now = wall_ns()
        seen = msgspec.structs.replace(self.reader.newest, at=now)  # it may be long since anything changed
        found = [*self._found(seen), *schedule_failed(self.schedules.list(), self.schedules.failing())]
        made = self.alerts.look(found, now, self._settings.repeat_seconds)
        standing = self.alerts.open()
        self._facts["alerts"] = len(standing)
        self._facts["unseen"] = sum(not one.acknowledged for one in standing)
        self._held_back += made.held_back
        self._beyond = made.beyond
        return made.tellings

    def _found(self, seen: Overview) -> Iterator[Finding]:
        for rule in RULES:
            yield from rule(seen)

    def _tell(self, telling: Telling) -> None:
        """To the error log, and to the web address if there is one."""
        alert, word = telling
        log = logs.channel("error")
        write = log.info if word == "cleared" else log.warning if alert.level == "warning" else log.error
        facts = {"namespace": alert.namespace} if alert.namespace else {}
        write(
            f"alert.{word}", alert=alert.id, alert_level=alert.level, title=alert.title, detail=alert.message,
            fix=alert.fix, times=alert.times, **facts,
        )  # fmt: skip
        if self.webhook is not None:
            self.webhook.offer(telling)

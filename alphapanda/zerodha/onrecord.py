"""The intents of one account as the journal has them: by order, by tag, what each run holds, and how orders end.

The lowest layer of the order path. ``hearing`` adds what the broker's answers and book teach, ``orderpath`` what is
wanted and what to do next.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from alphapanda.traders.reports import Report
from alphapanda.zerodha.intents import Intent
from alphapanda.zerodha.policy import Policy
from alphapanda.zerodha.states import CANCEL, CREATED, DENY, ENDED, EXPIRE, FILLED, POSTED, REFUSE
from alphapanda.zerodha.store import Store

TOLD_END = "ended"
LEVELS = ("normal", "reduce only", "halt", "cancel all", "flatten", "sever")


class OnRecord:
    """What is on record, kept in memory as it is on disk. Taking over the journal fences whoever wrote it before."""

    def __init__(self, store: Store, policy: Policy) -> None:
        self.store, self.policy = store, policy
        store.take_over()
        self.level = int(store.fact("level") or 0)
        self.intents: dict[str, Intent] = {}
        self.open: dict[str, Intent] = {}  # everything that has not ended
        self._by_order: dict[str, Intent] = {}
        self._by_tag: dict[str, Intent] = {}
        self._slices: dict[str, list[Intent]] = {}
        self._held: dict[tuple[str, str, str], int] = {}
        for intent in store.intents():
            self._know(intent)

    def held(self, run: str, symbol: str, product: str) -> int:
        """A run's own position, from its trades alone."""
        return self._held.get((run, symbol, product), 0)

    def reserved(self) -> Iterable[Intent]:
        """Everything that may still fill: its remaining quantity is exposure."""
        return [intent for intent in self.open.values() if intent.state in POSTED]

    def _know(self, intent: Intent) -> None:
        self.intents[intent.key] = self._by_tag[intent.tag] = intent
        self._slices.setdefault(intent.order, []).append(intent)
        if intent.order_id:
            self._by_order[intent.order_id] = intent
        if intent.state not in ENDED:
            self.open[intent.key] = intent
        if intent.filled:
            place = intent.run, intent.symbol, intent.product
            self._held[place] = self._held.get(place, 0) + intent.filled

    def _move(self, intent: Intent, event: str, cause: str, now: int) -> None:
        self.store.move(intent, event, cause, now)

    def _end(self, intent: Intent, event: str, reason: str, now: int) -> None:
        """An end, and with it perhaps the order's: told once, when its last slice has ended."""
        slices = self._slices[intent.order]
        if event in (REFUSE, DENY, EXPIRE):
            for later in slices:
                if later.state == CREATED and later.slice > intent.slice:
                    self.store.move(
                        later, DENY, f"slice {intent.slice + 1} came to nothing", now, reason=reason
                    )
                    self.open.pop(later.key, None)
        reports: list[Report] = []
        told = intent.told
        if self._last(intent) and not self._told_end(intent):
            filled = any(one.filled for one in slices)
            ended = "cancelled" if filled or event == CANCEL else "rejected"
            reports, told = [self._report(intent, ended, reason, now)], TOLD_END
        self.store.move(intent, event, reason, now, reports, reason=reason, told=told)
        self.open.pop(intent.key, None)

    def _last(self, intent: Intent) -> bool:
        """Every other slice of its order has ended."""
        return all(one is intent or one.state in ENDED for one in self._slices[intent.order])

    def _told_end(self, intent: Intent) -> bool:
        """Whether the platform has heard of the order's end: once is enough, even if it was opened again since."""
        return any(one.told == TOLD_END for one in self._slices[intent.order])

    def _missed(self, intent: Intent) -> str:
        """Why a slice before did not fill; "" if all did."""
        missed = (one for one in self._slices[intent.order] if one is not intent and one.state != FILLED)
        return next((one.reason or one.state for one in missed), "")

    def _report(
        self, intent: Intent, kind: Literal["accepted", "rejected", "cancelled"], reason: str, now: int
    ) -> Report:
        return Report(kind, intent.order, intent.run, reason, at=now)

    def _alarm(self, text: str, now: int) -> None:
        self.store.tell([Report("alarm", "", "", text, at=now)])

    def raise_level(self, level: int, reason: str, now: int) -> None:
        """A kill level: 1 only reduces, 2 nothing new, from 3 on what opens is cancelled. It never falls by itself."""
        if level > self.level:
            self._set_level(level, reason, now)

    def _set_level(self, level: int, reason: str, now: int) -> None:
        self.store.keep("level", str(level))
        self.level = level
        self._alarm(f"kill level {level} ({LEVELS[level]}): {reason}", now)

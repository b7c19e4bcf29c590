"""A journal that forgets, doubles, or lets anybody write."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import msgspec

from alphapanda.errors import ValidationError
from alphapanda.zerodha.intents import Intent
from alphapanda.zerodha.states import CREATED, ENDED, SENDING
from tests.simulation.machine import WorldStore
from tests.simulation.mutants.register import known


@known("counts twice", 0)
class CountsTwice(WorldStore):
    """Fills are not told apart."""

    numbers = itertools.count()

    def fill(self, intent: Intent, event: str, trade_id: str, *rest: Any, **changes: Any) -> bool:
        return super().fill(intent, event, f"{trade_id}/{next(self.numbers)}", *rest, **changes)


@known("trade ids are unique")
class TradeIdsAreUnique(WorldStore):
    """A trade id is seen once."""

    def fill(self, intent: Intent, event: str, trade_id: str, *rest: Any, **changes: Any) -> bool:
        if any(known == trade_id for known, *_ in self.trades()):
            return False
        return super().fill(intent, event, trade_id, *rest, **changes)


@known("claims in memory")
class ClaimsInMemory(WorldStore):
    """The claim is written when the answer is there."""

    def claim(self, intent: Intent, now: int) -> bool:
        intent.state, intent.sent, intent.epoch = SENDING, now, self.epoch
        return True


@known("tells later", 0)
class TellsLater(WorldStore):
    """What the platform is told is another transaction."""

    def move(
        self, intent: Intent, event: str, cause: str, now: int, reports: Any = (), **changes: Any
    ) -> None:
        super().move(intent, event, cause, now, (), **changes)
        if reports:
            self.tell(reports)

    def fill(
        self, intent: Intent, event: str, trade_id: str, quantity: int, price: int, now: int, reports: Any,
        **changes: Any,
    ) -> bool:  # fmt: skip
        fresh = super().fill(intent, event, trade_id, quantity, price, now, (), **changes)
        if fresh:
            self.tell(reports)
        return fresh


@known("overwrites conflicts", 36)
class OverwritesConflicts(WorldStore):
    """The newer decision is the better one."""

    def create(self, intents: Iterable[Intent]) -> bool:
        given = list(intents)
        try:
            return super().create(given)
        except ValidationError:
            for one in given:
                self._db.execute(
                    "UPDATE intent SET body = ? WHERE key = ? AND state = ?",
                    (msgspec.msgpack.encode(one), one.key, CREATED),
                )
            return True


@known("anyone writes", 13)
class AnyoneWrites(WorldStore):
    """Two processes, one journal, no epoch."""

    @property
    def in_charge(self) -> bool:
        return True


@known("commits do not wait for the disk", 19)
class NotSynced(WorldStore):
    """Every second is enough: until the power goes."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._db.execute("PRAGMA synchronous=NORMAL")


@known("checks, then marks", 13)
class ChecksThenMarks(WorldStore):
    """Whether it may be sent is asked of memory, and written down whoever else has."""

    @property
    def in_charge(self) -> bool:
        return True

    def claim(self, intent: Intent, now: int) -> bool:
        if intent.state != CREATED or now >= intent.expires:
            return False
        self.note(intent, "claim", now, state=SENDING, epoch=self.epoch, sent=now, reads=0)
        return True


class ForgetsOldKeys(WorldStore):
    """What has ended needs no record: keys live for a while. Alone it hides behind the expiry."""

    def create(self, intents: Iterable[Intent]) -> bool:
        marks = ",".join("?" * len(ENDED))
        self._db.execute(f"DELETE FROM intent WHERE state IN ({marks})", sorted(ENDED))  # noqa: S608 - question marks
        return super().create(intents)

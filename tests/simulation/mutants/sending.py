"""What leaves that should not: too late, too much, again, or against the kill switch."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec

from alphapanda.events import SECOND
from alphapanda.zerodha.intents import Intent, tag_of
from alphapanda.zerodha.limits import Limiter
from alphapanda.zerodha.orderpath import OrderPath
from alphapanda.zerodha.policy import Call, Policy
from alphapanda.zerodha.states import CREATED, ENDED, EXPIRED, SENDING, UNKNOWN
from tests.simulation.mutants.register import known


@known("resends when missing", 4)
class ResendsWhenMissing(OrderPath):
    """Not in the book once, so it was never sent."""

    def _missing(self, seen: set[str], asked: int, now: int) -> None:
        for intent in list(self.open.values()):
            if intent.key not in seen and intent.state == UNKNOWN and asked > intent.sent:
                intent.state = CREATED
                self.store.note(intent, "sent again", now, expires=now + 30 * SECOND)


@known("no gate", 9)
class NoGate(OrderPath):
    """What was claimed leaves, however long ago that was."""

    def gate(self, call: Call, now: int) -> bool:
        return True


@known("no expiry", 0)
class NoExpiry(OrderPath):
    """A signal is good for ever."""

    def submit(self, intents: list[Intent], now: int) -> bool:
        self.times = getattr(self, "times", {}) | {one.key: one.expires for one in intents}
        return super().submit([msgspec.structs.replace(one, expires=1 << 62) for one in intents], now)


@known("exits at will", 1)
class ExitsAtWill(OrderPath):
    """An exit is as large as it says."""

    def _has_room(self, intent: Intent, now: int) -> bool:
        return True


@known("exits beside exits", 1)
class ExitsBesideExits(OrderPath):
    """An exit is capped at the position, whatever else is on its way."""

    def _has_room(self, intent: Intent, now: int) -> bool:
        held = self.held(intent.run, intent.symbol, intent.product)
        return intent.purpose == "open" or (held * intent.quantity < 0 and abs(intent.quantity) <= abs(held))


@known("ignores the kill switch")
class IgnoresTheKillSwitch(OrderPath):
    """Levels are for people."""

    def _admitted(self, intent: Intent) -> bool:
        return True


@known("forgets the kill switch")
class ForgetsTheKillSwitch(OrderPath):
    """A restart resets the level."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.level = 0

    def raise_level(self, level: int, reason: str, now: int) -> None:
        self.level = max(self.level, level)


@known("opens in doubt", 2)
class OpensInDoubt(OrderPath):
    """An order whose fate is unknown blocks nothing."""

    def _refusal(self, intent: Intent) -> str:
        return "" if self._admitted(intent) else "halted"


@known("restarts send again", 1)
class NoRestartDoubt(OrderPath):
    """What was being sent when the process died is sent again by the next."""

    def _know(self, intent: Intent) -> None:
        if intent.state == SENDING:
            intent.state = CREATED
            self.store.note(intent, "again", intent.sent)
        super()._know(intent)


@known("new keys each time")
class NewKeysEachTime(OrderPath):
    """An intent's key is drawn, not derived."""

    drawn = itertools.count()

    def submit(self, intents: list[Intent], now: int) -> bool:
        drawn = (f"{next(self.drawn):032x}" for _ in intents)
        fresh = [
            msgspec.structs.replace(one, key=key, tag=tag_of(key))
            for one, key in zip(intents, drawn, strict=True)
        ]
        return super().submit(fresh, now)


@known("slices end alone")
class SlicesAllAtOnce(OrderPath):
    """A slice does not ask what became of the one before."""

    def _end(self, intent: Intent, event: str, reason: str, now: int) -> None:
        kept = self._slices[intent.order]
        self._slices[intent.order] = [intent]
        super()._end(intent, event, reason, now)
        self._slices[intent.order] = kept


class NoLimits(Limiter):
    """As fast as it goes."""

    def wait(self, now: int, day: int, cancel: bool = False) -> int:
        return 0


@known("no limits", 0)
class Unlimited(OrderPath):
    """See ``NoLimits``."""

    def __init__(self, store: Any, policy: Any, limiter: Limiter, now: int) -> None:
        super().__init__(store, policy, NoLimits(), now)


@known("three cancels", 30)
class ThreeCancels(OrderPath):
    """Three are enough."""

    def _may_repeat(self, intent: Intent, now: int) -> bool:
        return intent.cancels < self.policy.cancels and super()._may_repeat(intent, now)


@known("sends what was taken back")
class SendsWhatWasTakenBack(OrderPath):
    """A cancel is for orders at the broker."""

    def cancel(self, order: str, reason: str, now: int) -> None:
        for intent in self._slices.get(order, ()):
            if intent.state not in ENDED and intent.state != CREATED and not intent.cancel:
                self.store.note(intent, "cancel wanted", now, cancel=reason)


@known("sends before looking, opens in doubt", 1)
class SendsBeforeLooking(OrderPath):
    """What is on record as not sent is sent, before the book was seen, and in the book nothing of it is looked for."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.look.settled, self.look.at = True, 1 << 62

    def _refusal(self, intent: Intent) -> str:
        return "" if self._admitted(intent) else "halted"


@known("spins")
class Spins(OrderPath):
    """When in doubt, ask at once."""

    def wakes_at(self, now: int) -> int:
        return min(self._book_at, super().wakes_at(now))


@known("a restart forgets the calls of the day", 202)
class StartsFromZero(OrderPath):
    """The broker counts on; the limiter begins anew."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._recalled = True


@known("level 3 cancels once", 24)
class LevelHalfDone(OrderPath):
    """Who dies between the level and the cancels, or has no room on the disk for them, has cancelled nothing."""

    raising = False

    def raise_level(self, level: int, reason: str, now: int) -> None:
        self.raising = True
        super().raise_level(level, reason, now)
        self.raising = False

    def _clear_openings(self, now: int) -> None:
        if self.raising:
            super()._clear_openings(now)


@known("a replay is a new decision", 151)
class ReplaysAreNew(OrderPath):
    """What came too late gets another life with its next delivery."""

    def submit(self, intents: list[Intent], now: int) -> bool:
        fresh = super().submit(intents, now)
        for one in intents:
            known_one = self.intents[one.key]
            if known_one.state == EXPIRED and now < one.expires:
                known_one.state = CREATED
                self.store.note(known_one, "again", now, expires=one.expires)
                self.store._db.execute("UPDATE intent SET expires = ? WHERE key = ?", (one.expires, one.key))
                self.open[one.key] = known_one
        return fresh


@known("nobody halts when the book is unseen", 141)
class NeverBlind(OrderPath):
    """No news is good news."""

    def _halt_if_blind(self, now: int) -> None:
        pass


@known("sends without having seen the book for long", 345)
class SendsBlind(NeverBlind):
    """What the book showed once holds for ever."""

    def __init__(self, store: Any, policy: Policy, limiter: Limiter, now: int) -> None:
        super().__init__(store, msgspec.structs.replace(policy, blind=1e6), limiter, now)


@known("a clock that was set changes nothing", 20)
class IgnoresTheClock(OrderPath):
    """Ages are what the wall clock says."""

    def _clock_was_set(self, moved: float, now: int) -> None:
        pass

    def _overdue(self, now: int) -> None:
        newest = max((max(one.sent, one.cancelled_at) for one in self.open.values()), default=now)
        super()._overdue(max(now, newest))

"""What to do next about every intent: the part of the order path that decides, with no clock, thread or socket in it.

A shell asks ``next_call``, makes that call to the broker, and hands the answer to ``answered``. What the broker shows
comes in by ``book``. Everything that must not be forgotten is in the store before the call is handed out, so a shell
may die at any point and the next one goes on from the store: start-up, recovery and reconnect are one path.

Promise: at most one POST an intent, ever. What may have left and is not confirmed is looked for and adopted; until it
is found its exposure counts and its strategy opens nothing in that instrument.
"""

from __future__ import annotations

from alphapanda.events import DAY, IST_OFFSET_NS, SECOND
from alphapanda.zerodha.drift import Drift, Key
from alphapanda.zerodha.hearing import Hearing
from alphapanda.zerodha.intents import Intent
from alphapanda.zerodha.limits import Limiter
from alphapanda.zerodha.onrecord import LEVELS
from alphapanda.zerodha.policy import Call, Policy
from alphapanda.zerodha.reading import same_way
from alphapanda.zerodha.states import (
    AT_BROKER,
    CANCEL,
    CREATED,
    DENY,
    DOUBT,
    ENDED,
    EXPIRE,
    LOST,
    POSTED,
    SENDING,
    UNKNOWN,
)
from alphapanda.zerodha.store import CANCEL_SENT, MODIFY_SENT, PRICED_AGAIN, Store
from alphapanda.zerodha.wallclock import WallClock


class OrderPath(Hearing):
    """The intents of one account. Times are wall ns (``now``) and monotonic ns (``tick``); ``day`` counts days."""

    def __init__(self, store: Store, policy: Policy, limiter: Limiter, now: int) -> None:
        super().__init__(store, policy, now)
        self.limiter = limiter
        self.drift = Drift()
        self._positions_of = -1  # the day of ``drift``
        self._recalled = False  # whether the limiter knows of the calls before this life
        self._wall = WallClock()
        self._told_blind = False
        for intent in list(self.open.values()):
            if intent.state == SENDING:
                self._move(intent, DOUBT, "whoever sent it is gone", now)

    # ── what is wanted ───────────────────────────────────────────────────────────────────────────────────────────

    def submit(self, intents: list[Intent], now: int) -> bool:
        """Take an order's slices on record; False if they are there. ValidationError if they say otherwise there."""
        fresh = self.store.create(intents)
        for intent in intents if fresh else ():
            if intent.key not in self.intents:
                self._know(intent)
        return fresh

    def cancel(self, order: str, reason: str, now: int) -> None:
        """Have every slice of an order cancelled that has not ended."""
        for intent in self._slices.get(order, ()):
            self._unwanted(intent, reason, now)

    def _unwanted(self, intent: Intent, reason: str, now: int) -> None:
        if intent.state == CREATED:
            self._end(intent, DENY, reason, now)
        elif intent.state not in ENDED and not intent.cancel:
            self.store.note(intent, f"cancel wanted: {reason}", now, cancel=reason)

    def resize(self, order: str, quantity: int, now: int) -> None:
        """Have an order shrink to a signed quantity, what has filled included: its last slices give way first."""
        left, way = abs(quantity), 1 if quantity > 0 else -1
        for intent in self._slices[order]:
            filled, size = abs(intent.filled), abs(intent.quantity)
            keep = filled if intent.state in ENDED else max(filled, min(size, left))
            left = max(0, left - keep)
            if intent.state in ENDED or keep == abs(intent.resize or intent.quantity):
                continue
            if keep == filled:
                self._unwanted(intent, "its position has shrunk", now)
            elif intent.state == CREATED:
                self.store.note(intent, f"wanted {keep}", now, quantity=way * keep)
            else:
                self.store.note(intent, f"wanted {keep}", now, resize=way * keep)

    def settle(self, order: str, reason: str, now: int) -> list[str]:
        """A person has looked at the broker: what is lost of an order is over, and blocks and reserves no more. "" for
        all orders, and then what differs in positions is others', too. Returns the orders that were settled."""
        lost = [one for one in self.open.values() if one.state == LOST and order in ("", one.order)]
        for intent in lost:
            self._end(intent, CANCEL, reason, now)
        if not order:
            self.drift.accept()
        return [intent.order for intent in lost]

    def raise_level(self, level: int, reason: str, now: int) -> None:
        super().raise_level(level, reason, now)
        self._clear_openings(now)

    def _clear_openings(self, now: int) -> None:
        """From level 3 on what opens is cancelled, also if whoever set the level died over it, or the disk was full."""
        if self.level >= 3:
            for intent in list(self.open.values()):
                if intent.purpose == "open":
                    self.cancel(intent.order, f"kill level {self.level}", now)

    def positions(self, net: dict[Key, int], day: int, now: int) -> None:
        """The broker's net positions, signed; ``day`` as in ``next_call``."""
        kept, _, rest = self.store.fact("others").partition(" ")
        if self._positions_of != day:
            self._positions_of, self.drift = day, Drift(rest if kept == str(day) else "")
        own: dict[Key, int] = {}
        for (_, symbol, product), quantity in self._held.items():
            own[symbol, product] = own.get((symbol, product), 0) + quantity
        for sentence in self.drift.look(net, own, {intent.symbol for intent in self.open.values()}):
            self._alarm(sentence, now)
        if self.store.fact("others") != (saved := f"{day} {self.drift.save()}"):
            self.store.keep("others", saved)

    def lower_level(self, level: int, reason: str, now: int) -> None:
        """A person lowers it and says why: what differed at the broker was looked at, too."""
        self.drift.accept()
        self._set_level(level, reason, now)

    # ── what to do ───────────────────────────────────────────────────────────────────────────────────────────────

    def next_call(self, now: int, tick: int, day: int) -> Call | None:
        """The next call to make, if any. What it needs on record is there when this returns."""
        if not self._recalled:
            midnight = now - (now + IST_OFFSET_NS) % DAY
            self.limiter.recall((now - at for at in self.store.calls(midnight)), tick, day)
            self._recalled = True
        if moved := self._wall.moved(now, tick):
            self._clock_was_set(moved, now)
        self._overdue(now)
        self._halt_if_blind(now)
        self._clear_openings(now)
        if self.token_dead:
            return None
        for call in [one for one in self._calls.values() if one.kind == "book"]:
            if now - call.asked > self.policy.look * SECOND:
                del self._calls[call.number]
        kinds = [call.kind for call in self._calls.values()]
        if now >= self._book_at and "book" not in kinds:
            return self._call("book", now)
        if sum(kind != "book" for kind in kinds) >= self.policy.senders:
            return None
        call = self._next_cancel(now, tick, day) or self._next_place(now, tick, day)
        if call is not None:  # it is on record: what a full disk keeps here uses up nothing
            self.limiter.count(tick, day)
        return call

    def _clock_was_set(self, moved: float, now: int) -> None:
        """Every age is wrong now: what was seen counts for nothing until it is seen again, and a person has to say
        which of the two times is the true one."""
        self.look.settled = False
        self.look.at, self.look.asked = min(self.look.at, now), min(self.look.asked, now)
        self._book_at = self._unseen_since = now
        self.raise_level(2, f"the clock of this machine was set by {moved:+.1f} s", now)

    def _halt_if_blind(self, now: int) -> None:
        """Orders are out and the book has shown nothing for long: a person is told, and nothing new leaves until one
        has looked. A dead token has an alarm of its own and ends with the login."""
        seen = max(self._unseen_since, self.look.at)
        blind = now - seen > self.policy.blind * SECOND and not self.token_dead
        out = blind and any(one.state in POSTED and one.state != LOST for one in self.open.values())
        if out and not self._told_blind:
            self._alarm(
                f"the broker's book has not been seen for {(now - seen) // SECOND} s: orders are out", now
            )
            self.raise_level(2, "the broker's book is not to be seen", now)
            self._told_blind = True  # not before it is on record
        elif not blind:
            self._told_blind = False

    def wakes_at(self, now: int) -> int:
        """When to ask again if nothing happens (wall ns)."""
        quick = any(
            i.state == CREATED or (i.state in AT_BROKER and (i.cancel or i.resize))
            for i in self.open.values()
        )
        soon = now + (SECOND // 20 if quick else SECOND)
        looking = any(call.kind == "book" for call in self._calls.values())
        return soon if looking or self.token_dead else min(self._book_at, soon)

    def gate(self, call: Call, now: int) -> bool:
        """The last question before the socket: whether a claimed intent may still leave."""
        intent = self.intents[call.key]
        fresh = now - call.asked < self.policy.gate * SECOND and now < intent.expires
        wanted = intent.state == SENDING and not intent.cancel
        return fresh and wanted and self._admitted(intent) and self.store.in_charge

    def _next_cancel(self, now: int, tick: int, day: int) -> Call | None:
        flying = {call.key for call in self._calls.values()}
        for intent in self.open.values():
            wanted = (
                intent.state in AT_BROKER
                and intent.key not in flying
                and (intent.cancel or intent.resize or self._rests(intent, now))
            )
            if not wanted or not self._may_repeat(intent, now):
                continue
            if self.limiter.wait(tick, day, cancel=True) != 0:
                return None
            if intent.cancel:
                if intent.cancels == self.policy.cancels:
                    self._alarm(f"order {intent.order} stands after {intent.cancels} cancels", now)
                self.store.note(intent, CANCEL_SENT, now, cancels=intent.cancels + 1, cancelled_at=now)
                return self._call("cancel", now, intent)
            if intent.resize:
                self.store.note(intent, MODIFY_SENT, now, modified=intent.modified + 1, cancelled_at=now)
                return self._call("modify", now, intent, intent.resize)
            return self._price_again(intent, now)
        return None

    def _rests(self, intent: Intent, now: int) -> bool:
        """A market exit that should have filled and has not: the market has moved away from its limit."""
        since = max(intent.sent, intent.cancelled_at)
        return bool(intent.chase) and now - since >= self.policy.chase * SECOND and self.look.asked > since

    def _price_again(self, intent: Intent, now: int) -> Call:
        """Worse for us by one more band: it fills at the market's price all the same."""
        step = max(intent.tick, int(intent.limit * intent.chase) // intent.tick * intent.tick)
        limit = max(intent.tick, intent.limit + (step if intent.quantity > 0 else -step))
        if intent.modified + 1 == self.policy.modifications:
            self._alarm(f"exit {intent.order} still rests at the broker: close it by hand", now)
        self.store.note(
            intent,
            f"{PRICED_AGAIN}, {limit}",
            now,
            modified=intent.modified + 1,
            cancelled_at=now,
            limit=limit,
        )
        return self._call("modify", now, intent, limit=limit)

    def _may_repeat(self, intent: Intent, now: int) -> bool:
        """A cancel is sent again only after the book has shown, since the last one, that the order still stands; later
        and later, but for ever: an order may be stuck for minutes, in which Kite refuses every cancel, and then open
        (kite.trade forum 41029)."""
        if intent.cancelled_at == 0:
            return True
        tries = intent.cancels if intent.cancel else intent.modified
        if not intent.cancel and tries >= self.policy.modifications:
            return False
        pause = self.policy.cancel_again * (1 << min(max(tries - self.policy.cancels, 0), 4))
        waited = now - intent.cancelled_at >= pause * SECOND
        return waited and self.look.asked > intent.cancelled_at

    def _next_place(self, now: int, tick: int, day: int) -> Call | None:
        if not self.look.settled or now - self.look.at > self.policy.blind * SECOND:
            return None  # not before the broker's book was seen, nor when it has not been for long
        for intent in list(self.open.values()):
            if intent.state != CREATED or not self._turn(intent):
                continue
            if reason := self._refusal(intent):
                self._end(intent, DENY, reason, now)
                continue
            if not self._has_room(intent, now):
                continue
            wait = self.limiter.wait(tick, day)
            if wait < 0:
                self._end(intent, DENY, "rate: no more orders today", now)
                continue
            if wait:
                return None
            return self._call("place", now, intent) if self.store.claim(intent, now) else None
        return None

    def _turn(self, intent: Intent) -> bool:
        """A slice waits until the broker has the one before it."""
        before = [one for one in self._slices[intent.order] if one.slice < intent.slice]
        return all(one.state in AT_BROKER or one.state in ENDED for one in before)

    def _refusal(self, intent: Intent) -> str:
        if intent.cancel:  # it was claimed before, and taken back before it left
            return intent.cancel
        if not self._admitted(intent):
            return f"halted: kill level {self.level} ({LEVELS[self.level]})"
        if intent.purpose == "open":
            if intent.symbol in self.drift.symbols:
                return "the position at the broker is not ours alone: `alphapanda status`"
            for other in self.open.values():
                same = other.strategy == intent.strategy and other.symbol == intent.symbol
                if same and other.state in (UNKNOWN, LOST) and other.order != intent.order:
                    return f"the fate of order {other.order} is not known"
        return ""

    def _admitted(self, intent: Intent) -> bool:
        most = {"open": 0, "reduce": 1, "flatten": 4}[intent.purpose]
        return self.level <= most

    def _has_room(self, intent: Intent, now: int) -> bool:
        """An exit is never larger than its run's own position, less everything that is out in its direction; and what
        turns a position round waits until the exits are gone. What is in the way is cancelled first."""
        held = self.held(intent.run, intent.symbol, intent.product)
        exits = intent.purpose != "open"
        if held * intent.quantity >= 0:
            if exits:
                self._end(intent, DENY, "the position is closed already", now)
            return not exits
        out = [other for other in self.open.values() if other.state in POSTED and same_way(other, intent)]
        if exits:
            room = abs(held) - sum(abs(other.remaining) for other in out)
            if abs(intent.quantity) <= room:
                return True
            out = [other for other in out if other.order != intent.order]  # its own slices are no obstacle
            if not out:
                self._end(intent, DENY, f"larger than the position of {abs(held)}", now)
        else:
            out = [other for other in out if other.purpose != "open"]
            if not out:
                return True
        for other in out:
            if not other.cancel:
                self.store.note(
                    other, f"makes way for {intent.order}", now, cancel=f"makes way for {intent.order}"
                )
        return False

    def _overdue(self, now: int) -> None:
        """What time has brought about. After a clock was set back, what was done later than now was done now: else it
        would not be looked for, nor its cancel repeated, before that time comes again."""
        for intent in list(self.open.values()):
            if max(intent.sent, intent.cancelled_at) > now + SECOND:
                sent, cancelled_at = min(intent.sent, now), min(intent.cancelled_at, now)
                self.store.note(intent, "the clock was set back", now, sent=sent, cancelled_at=cancelled_at)
            if intent.state == CREATED and now >= intent.expires:
                self._end(intent, EXPIRE, "its time was over before it could be sent", now)
            elif intent.state == SENDING and now - intent.sent > self.policy.answer * SECOND:
                self._doubt(intent, "no answer", now)

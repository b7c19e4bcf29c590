"""What the broker's answers, its book and its ticker teach about the intents on record.

What is shown is believed; what is not shown counts only if the look was good. Positions move by trades alone.
"""

from __future__ import annotations

from typing import Literal

from alphapanda.events import SECOND, ist_day
from alphapanda.traders.reports import Report
from alphapanda.zerodha.intents import Intent
from alphapanda.zerodha.onrecord import TOLD_END, OnRecord
from alphapanda.zerodha.outcomes import Outcome
from alphapanda.zerodha.policy import Call, Policy
from alphapanda.zerodha.reading import Look, Row, Trade, own_row
from alphapanda.zerodha.states import (
    AT_BROKER,
    CANCEL,
    CANCELLED,
    DOUBT,
    DOUBTFUL,
    ENDED,
    FILL,
    FILLED,
    GIVE_UP,
    PART,
    REFUSE,
    REJECTED,
    SEEN,
    SENDING,
    UNKNOWN,
    UNSENT,
)  # fmt: skip
from alphapanda.zerodha.store import Store


class Hearing(OnRecord):
    """The calls that are on their way and what came of them."""

    def __init__(self, store: Store, policy: Policy, now: int) -> None:
        super().__init__(store, policy)
        self.look = Look()
        self.token_dead = False
        self._old_calls = 0  # number of the last one made with an earlier token
        self._shown: dict[str, int] = {}  # when an order id became known, for those of this life
        self._calls: dict[int, Call] = {}
        self._numbers = 0
        self._book_at = now  # when the next look is due
        self._asked_at = 0  # when one was last handed out
        self._unseen_since = now  # the last good look, or the start

    def _call(
        self, kind: Literal["place", "cancel", "modify", "book"], now: int, intent: Intent | None = None,
        quantity: int = 0, limit: int = 0,
    ) -> Call:  # fmt: skip
        self._numbers += 1
        self._asked_at = now if kind == "book" else self._asked_at
        call = Call(self._numbers, kind, now, intent.key if intent else "", quantity, limit)
        self._calls[call.number] = call
        return call

    def new_token(self, now: int) -> None:
        """A person has logged in again: look at the book before anything else."""
        self.token_dead = False
        self._old_calls, self._unseen_since = self._numbers, now
        self.look.settled = False
        self._book_at = now

    def answered(self, call: Call, outcome: Outcome, now: int) -> None:
        """What a place, cancel or modify came to, or a look at the book that failed."""
        self._calls.pop(call.number, None)
        if outcome.token_dead and not self.token_dead and call.number > self._old_calls:
            self.token_dead = True
            self._alarm(f"the access token is dead: {outcome.reason}", now)
        if call.kind == "book":
            self._book_at = now + int(self.policy.book_busy * SECOND)
            return
        intent = self.intents[call.key]
        if call.kind == "place":
            self._placed(intent, outcome, now)
        self.hurry(now, soon=0.2)  # it may have filled at once

    def _placed(self, intent: Intent, outcome: Outcome, now: int) -> None:
        if outcome.kind == "received":
            if not intent.order_id:
                self._seen(intent, outcome.order_id, "its answer", now)
            elif intent.order_id != outcome.order_id:
                self._alarm(
                    f"order {intent.order} is at the broker as {intent.order_id} and {outcome.order_id}", now
                )
        elif intent.state not in DOUBTFUL:
            return  # the book has told more by now
        elif outcome.kind == "refused":
            self._end(intent, REFUSE, outcome.reason, now)
        elif outcome.kind == "unsent" and intent.state == SENDING and intent.epoch == self.store.epoch:
            wanted = intent.resize or intent.quantity
            self.store.move(intent, UNSENT, outcome.reason, now, quantity=wanted, resize=0)
        elif intent.state == SENDING:
            self._doubt(intent, outcome.reason, now)

    def heard(self, row: Row, now: int) -> None:
        """An order update: a hint, by which an order is recognised. Of fills and ends the book is asked at once."""
        intent = self._by_order.get(row.order_id) or self._by_tag.get(row.tag)
        if intent is None:
            return
        if not intent.order_id:
            self._seen(intent, row.order_id, "an update", now)
        if row.filled != abs(intent.filled) or (not row.live and intent.state not in ENDED):
            self.hurry(now)

    def hurry(self, now: int, soon: float = 0.0) -> None:
        """There is something to see in the book, ``soon`` seconds from now: look when the broker's rate allows."""
        earliest = min(self._asked_at, now) + int(self.policy.book_apart * SECOND)
        self._book_at = min(self._book_at, max(now + int(soon * SECOND), earliest))

    def book(self, call: Call, rows: list[Row], trades: list[Trade], now: int) -> None:
        """A look at the broker's orders, then its trades. What it shows is believed; what it does not show only if the
        look was good: complete, not older than the last."""
        self._calls.pop(call.number, None)
        self._book_at = now + int(self.policy.book_busy * SECOND)  # also if the store fails below
        good = self.look.take(rows, self._of_today(call.asked), call.asked, now)
        seen: list[tuple[Intent, Row]] = []
        for row in sorted(
            rows, key=self._nameless
        ):  # what is surely ours first: what has no tag is matched last
            intent = self._by_order.get(row.order_id) or self._by_tag.get(row.tag) or self._untagged(row)
            if intent is None and any(one.state == SENDING for one in self._fitting(row)):
                continue  # its answer is on the way, and says whose it is
            if intent is None:
                self._external(row.order_id, f"order {row.order_id} is not ours: left alone", now)
            elif intent.order_id not in ("", row.order_id):
                first = intent.order_id
                if self._external(
                    row.order_id, f"{row.order_id} and {first} are both order {intent.order}", now
                ):
                    self.raise_level(2, "one order is at the broker twice", now)
            else:
                seen.append((intent, row))
                if not intent.order_id:
                    self._seen(intent, row.order_id, "the book", now)
        for trade in trades:
            self._trade(trade, now)
        for intent, row in seen:
            self._stands(intent, row, now)
        if good:
            self._missing({intent.key for intent, _ in seen}, call.asked, now)
        self._book_at = now + int(self._patience(now) * SECOND)

    def _patience(self, now: int) -> float:
        """Seconds to the next look: soon after something was sent, seldom when nothing is open."""
        if not self.open:
            return self.policy.book_idle
        newest = max(intent.sent or intent.created for intent in self.open.values())
        return min(self.policy.book_busy, max(self.policy.book_apart, (now - newest) / SECOND / 4))

    def _nameless(self, row: Row) -> bool:
        return row.order_id not in self._by_order and row.tag not in self._by_tag

    def _external(self, order_id: str, text: str, now: int) -> bool:
        """An order that no intent of ours accounts for: told once. False if it was known."""
        if order_id in self.look.external:
            return False
        self._alarm(text, now)
        self.look.external.add(order_id)
        return True

    def _untagged(self, row: Row) -> Intent | None:
        """An order without a tag is ours if just one intent that is in doubt fits it."""
        fits = self._fitting(row)
        return fits[0] if len(fits) == 1 and fits[0].state != SENDING else None

    def _fitting(self, row: Row) -> list[Intent]:
        """The intents that an order without a tag may be, unless it was told to be nobody's."""
        if row.tag or row.order_id in self.look.external:
            return []
        return [one for one in self.open.values() if one.state in DOUBTFUL and own_row(one, row)]

    def _of_today(self, asked: int) -> set[str]:
        """The orders that a look asked for then has to show."""
        day = ist_day(asked)
        return {
            order_id
            for order_id, one in self._by_order.items()
            if self._shown.get(order_id, 0) < asked and ist_day(one.sent) == day
        }

    def _missing(self, seen: set[str], asked: int, now: int) -> None:
        for intent in list(self.open.values()):
            if intent.key in seen or asked <= intent.sent:
                continue
            if intent.state in AT_BROKER and ist_day(asked) > ist_day(intent.sent):
                self._move(intent, GIVE_UP, "its day is over", now)
                self._alarm(f"order {intent.order} was open when its day ended: compare the positions", now)
            if intent.state != UNKNOWN:
                continue
            self.store.note(intent, "not in the book", now, reads=intent.reads + 1)
            waited = now - intent.sent >= self.policy.lost_after * SECOND
            if waited and intent.reads >= self.policy.lost_reads:
                self._move(intent, GIVE_UP, f"not in {intent.reads} looks at the book", now)
                self._alarm(f"order {intent.order} was sent and is nowhere: its exposure stays reserved", now)

    def _seen(self, intent: Intent, order_id: str, where: str, now: int) -> None:
        """It is at the broker, whatever was thought of it. What had been given up is not wanted any more."""
        thought = intent.state
        if late := thought not in (SENDING, UNKNOWN):
            self._alarm(f"order {intent.order}, thought {thought}, is at the broker as {order_id}", now)
        reports = [] if intent.told else [self._report(intent, "accepted", "", now)]
        unwanted = intent.cancel or (
            "it was not expected any more" if late and intent.purpose == "open" else ""
        )
        told = intent.told or "accepted"
        self.store.move(
            intent, SEEN, f"by {where}", now, reports, order_id=order_id, told=told, cancel=unwanted
        )
        self._by_order[order_id] = intent
        self._shown[order_id] = now
        self.open[intent.key] = intent

    def _trade(self, trade: Trade, now: int) -> None:
        intent = self._by_order.get(trade.order_id)
        if intent is None or (trade.order_id, trade.trade_id) in self.look.trades:
            return
        total = intent.filled + trade.quantity
        late = intent.state in ENDED
        event = FILL if abs(total) >= abs(intent.quantity) else PART
        told: dict[str, str] = {}
        reports = [
            Report("filled", intent.order, intent.run, "", trade.quantity, trade.price, trade.trade_id, now)
        ]
        ends = event == FILL and self._last(intent) and not self._told_end(intent)
        if ends and (missed := self._missed(intent)):
            reports.append(self._report(intent, "cancelled", missed, now))
            told["told"] = TOLD_END
        if self.store.fill(intent, event, trade.trade_id, trade.quantity, trade.price, now, reports, **told):
            place = intent.run, intent.symbol, intent.product
            self._held[place] = self._held.get(place, 0) + trade.quantity
            if late:
                self._alarm(f"order {intent.order} filled {trade.quantity} after its end", now)
        self.look.trades.add((trade.order_id, trade.trade_id))
        if intent.state == FILLED:
            self.open.pop(intent.key, None)

    def _stands(self, intent: Intent, row: Row, now: int) -> None:
        """What the book says of an order whose trades are counted."""
        if row.live and intent.state in (CANCELLED, REJECTED):
            self.store.move(intent, SEEN, "it is open again", now)
            self.open[intent.key] = intent
            self._alarm(f"order {intent.order} had ended and is open again", now)
            if intent.purpose == "open":
                self.store.note(intent, "cancel wanted", now, cancel="it had ended")
        elif intent.state in ENDED or row.live or row.filled != abs(intent.filled):
            if row.live and row.quantity == abs(intent.resize) != 0:
                self.store.note(intent, "modified", now, quantity=intent.resize, resize=0)
        elif row.status == "REJECTED":
            self._end(intent, REFUSE if not intent.filled else CANCEL, row.message, now)
        elif row.status.startswith("CANCELLED"):
            self._end(intent, CANCEL, intent.cancel or row.message or "cancelled at the broker", now)
        else:  # complete, and not by its trades: it was modified
            self._end(intent, CANCEL, "complete at the quantity it was modified to", now)

    def _doubt(self, intent: Intent, cause: str, now: int) -> None:
        self._move(intent, DOUBT, cause, now)
        self.hurry(now)

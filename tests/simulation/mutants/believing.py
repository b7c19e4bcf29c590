"""What the broker shows, believed too much or too little."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from alphapanda.zerodha.intents import Intent
from alphapanda.zerodha.limits import Limiter
from alphapanda.zerodha.orderpath import OrderPath
from alphapanda.zerodha.outcomes import Outcome
from alphapanda.zerodha.policy import Call, Policy
from alphapanda.zerodha.reading import Look, Row, Trade
from alphapanda.zerodha.states import AT_BROKER, DOUBTFUL, ENDED, LOST, REFUSE, UNKNOWN
from tests.simulation.mutants.register import known


@known("refusals are believed", 12)
class BelievesRefusals(OrderPath):
    """What was refused is not there, whatever the book shows."""

    def _seen(self, intent: Intent, order_id: str, where: str, now: int) -> None:
        if intent.state in DOUBTFUL:
            super()._seen(intent, order_id, where, now)


@known("ignores late fills", 8)
class IgnoresLateFills(OrderPath):
    """What has ended has ended."""

    def _trade(self, trade: Trade, now: int) -> None:
        intent = self._by_order.get(trade.order_id)
        if intent is None or intent.state not in ENDED:
            super()._trade(trade, now)


class _Nothing(dict[str, Intent]):
    def __setitem__(self, key: str, value: Intent) -> None:
        pass


@known("forgets tags", 1)
class ForgetsTags(OrderPath):
    """Orders are known by their order ids."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._by_tag = _Nothing()

    def _untagged(self, row: Row) -> Intent | None:
        return None


@known("adopts the first that fits", 3)
class AdoptsTheFirstThatFits(OrderPath):
    """An order without a tag is the first of ours that looks like it, whatever its price."""

    def _untagged(self, row: Row) -> Intent | None:
        fits = [
            i
            for i in self.open.values()
            if i.state in DOUBTFUL and i.symbol == row.symbol and i.side == row.side
        ]
        return fits[0] if fits else None


@known("gives up soon", 0)
class GivesUpSoon(OrderPath):
    """Not seen in one look after two seconds: it was never there."""

    def __init__(self, store: Any, policy: Policy, limiter: Limiter, now: int) -> None:
        super().__init__(store, msgspec.structs.replace(policy, lost_after=2.0, lost_reads=1), limiter, now)


class Gullible(Look):
    """Any answer is a good look, an empty one too."""

    def take(self, rows: list[Row], known: set[str], asked: int, now: int) -> bool:
        self.settled, self.at, self.asked = True, now, asked
        return True


@known("trusts any book, gives up soon", 0)
class TrustsAnyBook(GivesUpSoon):
    """And an empty book is as good as any: what it does not show is over."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.look = Gullible()

    def _missing(self, seen: set[str], asked: int, now: int) -> None:
        super()._missing(seen, asked, now)
        for intent in list(self.open.values()):
            if intent.key not in seen and intent.state == LOST:
                self._end(intent, REFUSE, "gone", now)


@known("counts the book's fills")
class CountsTheBooksFills(OrderPath):
    """Fills are what the row says, and what the trades say."""

    def _stands(self, intent: Intent, row: Row, now: int) -> None:
        more = row.filled - abs(intent.filled)
        if more > 0 and intent.state not in ENDED:
            side = 1 if intent.quantity > 0 else -1
            self._trade(Trade(f"row-{row.filled}", row.order_id, side * more, intent.limit), now)
        super()._stands(intent, row, now)

    def book(self, call: Call, rows: list[Row], trades: list[Trade], now: int) -> None:
        super().book(
            call, rows, trades[:-1] if call.number % 2 else trades, now
        )  # the trades lag, as Kite's may


@known("an old token's answer kills the new", 4)
class OldTokenKillsNew(OrderPath):
    """Any word of a dead token means that ours is dead."""

    def answered(self, call: Call, outcome: Outcome, now: int) -> None:
        super().answered(call, outcome, now)
        self.token_dead = self.token_dead or outcome.token_dead


@known("the day never ends", 32)
class EndlessDay(OrderPath):
    """Yesterday's orders may still come to an end."""

    def _missing(self, seen: set[str], asked: int, now: int) -> None:
        super()._missing(seen | {i.key for i in self.open.values() if i.state in AT_BROKER}, asked, now)


@known("ends are told again", 8)
class EndsAgain(OrderPath):
    """An order that was opened again has another end."""

    def _told_end(self, intent: Intent) -> bool:
        return False


@known("fills of cancelled orders do not count", 0)
class FillsByPart(OrderPath):
    """A cancelled order has filled nothing."""

    def _trade(self, trade: Trade, now: int) -> None:
        intent = self._by_order.get(trade.order_id)
        if intent is not None and intent.cancel:
            return
        super()._trade(trade, now)


@known("doubt reserves nothing")
class DoubtIsFree(OrderPath):
    """What may be there is not counted until it is."""

    def reserved(self) -> Iterable[Intent]:
        return [one for one in super().reserved() if one.state not in DOUBTFUL]


@known("missing is rejected", 4)
class MissingIsRejected(OrderPath):
    """An order that is not found after some looks was never there."""

    def _move(self, intent: Intent, event: str, cause: str, now: int) -> None:
        if event == "give up" and intent.state == UNKNOWN:
            self._end(intent, REFUSE, cause, now)
        else:
            super()._move(intent, event, cause, now)


@known("positions of before the restart are forgotten", 25)
class FlatAtStart(OrderPath):
    """A gateway that starts holds nothing."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._held.clear()


@known("updates are fills")
class UpdatesAreFills(OrderPath):
    """An update that says it filled is a fill, and so is its trade."""

    def heard(self, row: Row, now: int) -> None:
        super().heard(row, now)
        intent = self._by_order.get(row.order_id)
        if intent is not None and row.filled > abs(intent.filled) and intent.state not in ENDED:
            side = 1 if intent.quantity > 0 else -1
            more = side * (row.filled - abs(intent.filled))
            self._trade(Trade(f"update-{row.filled}", row.order_id, more, intent.limit), now)

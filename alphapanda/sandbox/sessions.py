"""The stages of a trading day: what the exchange takes and how it matches at each moment (circulars of 2026).

The rulebook has the phases; here are the parts of its two auctions. Orders of an auction rest until its one price is
printed: the first trade of the matching stage. The closing auction carries limit orders over from continuous trading;
stop-loss and iceberg orders do not exist in it. The parts of the auction from 7 Dec 2026 on, half as long, are assumed
to be half of those before: no source has them yet. So are the exchange's words for its refusals.
"""

from __future__ import annotations

import datetime as dt
import random
from typing import Literal, NamedTuple

from alphapanda.events import MINUTE
from alphapanda.rulebook import SessionTimes

Matching = Literal["", "continuous", "auction", "close"]
Takes = Literal["", "all", "limit", "market", "close"]

LATER_PREOPEN = dt.date(2026, 9, 7)  # order entry until 09:10, before until 09:08
PREOPEN_ENTRY, PREOPEN_LATER = 8, 10  # minutes; the last one, later two, end at random
AUCTION_MINUTES = 20  # the closing auction that the parts below are of
REFERENCE, MARKET, LIMIT, LATEST = (
    5,
    10,
    13,
    15,
)  # minutes: no orders, market and limit, limit only, random end


class Stage(NamedTuple):
    """A part of the day: what orders it ``takes``, and how they are matched.

    ``all`` kinds; ``market`` and limit orders; ``limit`` orders alone; at the ``close``'s price; none.
    """

    name: str
    takes: Takes
    matching: Matching


CLOSED = Stage("closed", "", "")
CONTINUOUS = Stage("continuous", "all", "continuous")
POST_CLOSE = Stage("post_close", "close", "close")
PREOPEN = Stage("preopen", "market", "")
PREOPEN_MATCH = Stage("preopen_match", "", "auction")
AUCTION_REFERENCE = Stage("auction_reference", "", "")
AUCTION_ENTRY = Stage("auction_entry", "market", "")
AUCTION_LIMIT = Stage("auction_limit", "limit", "")
AUCTION_MATCH = Stage("auction_match", "", "auction")


def stage(session: SessionTimes, now: int) -> Stage:
    """The stage of a session at ``now`` (ns UTC). The same day and segment end their auctions at the same moment."""
    for name, opens, closes in session.phases:
        if not opens <= now < closes:
            continue
        drawn = random.Random(f"{session.day} {session.segment} {name}").random()
        if name == "preopen":
            return PREOPEN if now < _preopen_ends(session.day, opens, drawn) else PREOPEN_MATCH
        if name == "closing_auction":
            return _closing(opens, closes, now, drawn)
        return POST_CLOSE if name == "post_close" else CONTINUOUS
    return CLOSED


def _preopen_ends(day: dt.date, opens: int, drawn: float) -> int:
    last, spread = (PREOPEN_LATER, 2) if day >= LATER_PREOPEN else (PREOPEN_ENTRY, 1)
    return opens + round((last - spread * drawn) * MINUTE)


def _closing(opens: int, closes: int, now: int, drawn: float) -> Stage:
    gone = (now - opens) / (closes - opens) * AUCTION_MINUTES
    if gone < REFERENCE:
        return AUCTION_REFERENCE
    if gone < MARKET:
        return AUCTION_ENTRY
    return AUCTION_LIMIT if gone < LIMIT + drawn * (LATEST - LIMIT) else AUCTION_MATCH


def ends(session: SessionTimes, now: int) -> tuple[int | None, int]:
    """When an order that arrives at ``now`` is cancelled: a stop-loss or iceberg order, if that is earlier, and any.

    A day order lives through continuous trading and the closing auction; one of the post-close session to its end.
    """
    auction = [(opens, closes) for name, opens, closes in session.phases if name == "closing_auction"]
    day = max([session.close_ns, *(closes for _, closes in auction)])
    if now >= day:
        return None, max(closes for _, _, closes in session.phases)
    return (auction[0][0] if auction else None), day

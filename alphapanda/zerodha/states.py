"""The life of an intent, one order on its way to the broker, as one table.

    CREATED   on record, not sent; every check is asked again before it is
    SENDING   claimed: its one POST may have left
    UNKNOWN   nobody can say whether the broker has it; it is looked for, never sent again
    LOST      looked for and not found; its exposure stays reserved until a person or the day settles it
    WORKING, PARTIAL                   the broker has it
    FILLED, CANCELLED, REJECTED        the broker's ends
    DENIED, EXPIRED                    ours: it never left

Only ``CLAIM`` allows a POST, and it leads out of CREATED alone, so an intent is posted at most once. What the broker
shows is believed in every state: an order that was given up may still turn up, one that was refused may be there after
all, a cancelled one may still fill, and after a journal was restored from a backup even one that never left may have.
"""

from __future__ import annotations

from alphapanda.errors import AlphaPandaException

CREATED, SENDING, UNKNOWN, LOST = "created", "sending", "unknown", "lost"
WORKING, PARTIAL = "working", "partial"
FILLED, CANCELLED, REJECTED, DENIED, EXPIRED = "filled", "cancelled", "rejected", "denied", "expired"

ENDED = frozenset({FILLED, CANCELLED, REJECTED, DENIED, EXPIRED})
AT_BROKER = frozenset({WORKING, PARTIAL})
DOUBTFUL = frozenset({SENDING, UNKNOWN, LOST})
"""The broker may have it and has not shown it."""
POSTED = frozenset({SENDING, UNKNOWN, LOST, WORKING, PARTIAL, FILLED, CANCELLED, REJECTED})

CLAIM, UNSENT, DENY, EXPIRE = "claim", "unsent", "deny", "expire"
REFUSE, DOUBT, GIVE_UP = "refuse", "doubt", "give up"
SEEN, PART, FILL, CANCEL = "seen", "part", "fill", "cancel"

NEXT: dict[tuple[str, str], str] = {
    (CREATED, CLAIM): SENDING,
    (CREATED, DENY): DENIED,
    (CREATED, EXPIRE): EXPIRED,
    (SENDING, UNSENT): CREATED,  # provably: refused by our own gate, or no connection was made
    (SENDING, DOUBT): UNKNOWN,
    **{
        (state, GIVE_UP): LOST for state in (UNKNOWN, WORKING, PARTIAL)
    },  # the last two: its day is over, its end unseen
    **{(state, REFUSE): REJECTED for state in (SENDING, UNKNOWN, LOST, WORKING)},
    **{
        (state, SEEN): WORKING
        for state in (CREATED, SENDING, UNKNOWN, LOST, CANCELLED, REJECTED, DENIED, EXPIRED)
    },
    **{(state, CANCEL): CANCELLED for state in (SENDING, UNKNOWN, LOST, WORKING, PARTIAL)},
    **{(state, PART): PARTIAL for state in (SENDING, UNKNOWN, LOST, WORKING, PARTIAL)},
    # a fill that is shown after the end: the end stands, the fill counts
    (CANCELLED, PART): CANCELLED,
    (REJECTED, PART): CANCELLED,
    (FILLED, FILL): FILLED,  # more than was ordered: counted, and an alarm
    **{(state, FILL): FILLED for state in (SENDING, UNKNOWN, LOST, WORKING, PARTIAL, CANCELLED, REJECTED)},
}


class ImpossibleTransition(AlphaPandaException):
    """The event cannot happen to an intent in this state: a defect of ours."""

    default_code = "E_TRANSITION"


def advance(state: str, event: str) -> str:
    """The state after ``event``."""
    try:
        return NEXT[state, event]
    except KeyError:
        raise ImpossibleTransition(
            f"an intent that is {state} cannot {event}", state=state, event=event
        ) from None

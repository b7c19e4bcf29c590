"""Where a strategy stands on its way to money, and the one table of moves.

    DRAFT → PAPER → CERTIFIED          a version: one module with one set of parameters
                        └─ ARMED → LIVE ⇄ PAUSED → RETIRED          an approval of it, and the run that used it up

A changed character of the module, or another parameter, is another version: it starts at DRAFT. Each approval is a
thread of its own beside the version, so that a certified version can be armed again the next day, or by a rollback.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from alphapanda.errors import AuthorizationError, UnknownNameError

State = Literal["DRAFT", "PAPER", "CERTIFIED", "ARMED", "LIVE", "PAUSED", "RETIRED"]
DRAFT, PAPER, CERTIFIED, ARMED, LIVE, PAUSED, RETIRED = STATES = get_args(State)
NOTHING = ""  # before the first record
PERSON, APPROVER, GATEWAY = "person", "second approver", "gateway"  # who acts
CODE = "E_PROMOTION"


class Move(NamedTuple):
    """What an act needs, what it leads to, who may do it, and whether it goes on with a record it names."""

    before: tuple[str, ...]
    after: State
    by: tuple[str, ...]
    refers: bool = False


MOVES = {
    "draft": Move((NOTHING,), "DRAFT", (PERSON,)),
    "paper": Move((DRAFT,), "PAPER", (PERSON,)),
    "certify": Move((PAPER, CERTIFIED), "CERTIFIED", (PERSON,)),
    "arm": Move((CERTIFIED,), "ARMED", (PERSON,)),
    "request": Move((CERTIFIED,), "CERTIFIED", (PERSON,)),  # to be armed, when a second person approves
    "approve": Move((CERTIFIED,), "ARMED", (APPROVER,), refers=True),
    "live": Move((ARMED,), "LIVE", (GATEWAY,), refers=True),
    "pause": Move((LIVE,), "PAUSED", (PERSON, GATEWAY), refers=True),
    "resume": Move((PAUSED,), "LIVE", (PERSON, GATEWAY), refers=True),
    "retire": Move((ARMED, LIVE, PAUSED), "RETIRED", (PERSON, GATEWAY), refers=True),
}


def moved(act: str, before: str, role: str, refers: int = 0) -> State:
    """The state after an act. AuthorizationError (E_PROMOTION) if it may not happen there, or not by that role."""
    move = MOVES.get(act)
    if move is None:
        raise UnknownNameError("act of a promotion", act, MOVES)
    if before not in move.before or bool(refers) != move.refers:
        needed = " or ".join(state or "nothing yet" for state in move.before)
        raise AuthorizationError(
            f"{act}: it is {before or 'nowhere on record'}, and has to be {needed}",
            fix=_next(before),
            code=CODE,
        )
    if role not in move.by:
        raise AuthorizationError(f"{act}: not for a {role}", fix=f"ask a {' or a '.join(move.by)}", code=CODE)
    return move.after


def _next(before: str) -> str:
    """What may be done from there."""
    found = [act for act, move in MOVES.items() if before in move.before]
    return f"what may follow: {', '.join(found)}" if found else "arm the version again: session.promote(...)"

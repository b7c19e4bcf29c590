"""What may be sent: parameters of addresses, and bodies with examples. Values are strict: "5" is no number."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field

NAMESPACE = r"^[a-z0-9][a-z0-9_-]{0,39}$"
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}$"
LETTER = r"^[a-z0-9_-]+(\.[a-z0-9_-]+)+@[0-9a-z-]+$"
SCHEDULE = r"^[a-z0-9][a-z0-9_-]{0,39}$"
TOPIC = r"^[a-z0-9_-]+(\.[a-z0-9_-]+)+$"

Namespace = Annotated[str, Path(pattern=NAMESPACE, examples=["paper"])]
RunId = Annotated[str, Path(pattern=NAME, examples=["openingbreakout-1"])]
LetterId = Annotated[
    str, Path(pattern=LETTER, max_length=200, examples=["paper.signals.raw@1764000000000-0"])
]
ScheduleName = Annotated[str, Path(pattern=SCHEDULE, examples=["opening"])]
OfSchedule = Annotated[str | None, Query(pattern=SCHEDULE, description="only of this schedule")]
OfNamespace = Annotated[str | None, Query(pattern=NAMESPACE, description="only of this namespace")]
OfRun = Annotated[str | None, Query(pattern=NAME, description="only of this run")]
OfSymbol = Annotated[
    str | None, Query(max_length=60, pattern=r"^[ -~]+$", description="only of this instrument")
]
OfStatus = Annotated[str | None, Query(pattern=r"^[a-z-]{1,20}$", description="only with this status")]
OfTopic = Annotated[str | None, Query(pattern=TOPIC, max_length=100, description="only of this topic")]
Limit = Annotated[int, Query(ge=1, le=500, description="so many at most")]
After = Annotated[
    str | None,
    Query(
        pattern=r"^\d{1,19}~[a-z0-9_-]{1,40}~[!-}]{1,120}$", description="`next` of the page before this one"
    ),
]

Reason = Annotated[str, Field(min_length=1, max_length=500, pattern=r"\S", description="why, for the audit")]
Account = Annotated[
    str | None,
    Field(max_length=60, description="where money is: the account's id, typed by whoever means it"),
]


def _body(**example: Any) -> ConfigDict:
    return ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": [example]})


class Why(BaseModel):
    """Why it is done."""

    model_config = _body(reason="looked at it")

    reason: Reason
    account: Account = None


class StopRun(Why):
    """End a run; ``flatten``: close its positions first."""

    model_config = _body(reason="odd fills", flatten=True)

    flatten: bool = False


class HaltOrders(Why):
    """How far the kill switch is pulled."""

    model_config = _body(reason="odd fills", level=3)

    level: Annotated[
        int,
        Field(
            ge=1,
            le=5,
            description="1 only reduces, 2 nothing new, 3 cancels entries, 4 closes positions, 5 logs out",
        ),
    ] = 3


class ReplayLetters(BaseModel):
    """Which letters are put back: those named, or all open ones of a topic."""

    model_config = _body(ids=["paper.orders.filled@1764000000000-0"], dry_run=True)

    ids: Annotated[
        list[Annotated[str, Field(pattern=LETTER, max_length=200)]] | None,
        Field(min_length=1, max_length=500),
    ] = None
    topic: Annotated[str | None, Field(pattern=TOPIC, max_length=100)] = None
    dry_run: Annotated[bool, Field(description="only say what would be done")] = True
    account: Account = None


class Seen(BaseModel):
    """An alert that somebody has seen, and what they make of it. Its id may hold anything, so it stands here."""

    model_config = _body(id="feed_stale:feed", note="the broker's outage")

    id: Annotated[str, Field(min_length=1, max_length=200, description="as the list names it")]
    note: Annotated[str, Field(min_length=1, max_length=500, pattern=r"\S")]

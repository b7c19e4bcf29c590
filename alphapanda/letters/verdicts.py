"""Whether an error may pass by itself, and how patiently to find out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, cast

import msgspec

from alphapanda.errors import (
    BACK_OFF,
    NEVER,
    AlphaPandaException,
    OrderTimeoutError,
    RetryPolicy,
    TransientError,
)


class Verdict(NamedTuple):
    """Whether an error may pass by itself, how patiently to find out, and why we think so."""

    kind: Literal["transient", "permanent"]
    policy: RetryPolicy
    reason: str


def classify(error: BaseException) -> Verdict:
    """What to do about an error. An order whose fate is unknown is never tried again, however deep it is wrapped."""
    if any(isinstance(one, OrderTimeoutError) for one in _lineage(error)):
        return Verdict("transient", NEVER, "the order's fate is unknown")
    if isinstance(error, BaseExceptionGroup):  # as bad as the worst of its parts
        verdicts = map(classify, cast("BaseExceptionGroup[BaseException]", error).exceptions)
        return min(verdicts, key=lambda verdict: (verdict.kind == "transient", verdict.policy.attempts))
    if isinstance(error, TransientError):
        return Verdict("transient", error.retry, "it kept failing")
    if isinstance(error, OSError):  # ConnectionError and TimeoutError among them
        return Verdict("transient", BACK_OFF, "it kept failing")
    known = isinstance(error, AlphaPandaException | msgspec.DecodeError)
    return Verdict("permanent", NEVER, "it would fail again" if known else "defect")


def _lineage(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__

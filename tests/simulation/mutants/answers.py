"""An answer read wrongly: what went wrong did not happen, or is sent again."""

from __future__ import annotations

from alphapanda.zerodha.outcomes import Outcome, of_error
from tests.simulation.mutants.register import known


@known("retries on doubt", 1)
def retries_on_doubt(error: BaseException) -> Outcome:
    """A time-out is a failure, so it is sent again: the classic."""
    found = of_error(error)
    return found._replace(kind="unsent") if found.kind == "open" else found


@known("doubt is refusal", 1)
def doubt_is_refusal(error: BaseException) -> Outcome:
    """What went wrong did not happen."""
    found = of_error(error)
    return found._replace(kind="refused") if found.kind == "open" else found


@known("python's errors are refusals", 3)
def poison_is_refusal(error: BaseException) -> Outcome:
    """Python's own exceptions are defects of ours, so nothing was sent."""
    if isinstance(error, KeyError | TypeError | AttributeError | ValueError):
        return Outcome("refused", reason=str(error))
    return of_error(error)


@known("server errors are refusals", 1)
def server_errors_are_refusals(error: BaseException) -> Outcome:
    """Any HTTP error is a no."""
    if 400 <= getattr(error, "code", 0) < 600:
        return Outcome("refused", reason=str(error))
    return of_error(error)


@known("every 400 is a refusal", 12)
def every_400_is_a_refusal(error: BaseException) -> Outcome:
    """Also the one that says the request timed out."""
    return Outcome("refused", reason=str(error)) if getattr(error, "code", 0) == 400 else of_error(error)

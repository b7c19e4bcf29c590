"""Two runs of one strategy beside each other: what ``ap.drift`` and ``alphapanda drift`` show.

The same class runs on paper and at the broker on one stream of ticks, and decisions are named by their place on it, so
they can be laid side by side. Runs are read from their files (``past``): neither needs to be running.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from alphapanda.errors import ValidationError
from alphapanda.hindsight.pairs import FAR
from alphapanda.hindsight.past import Past, read, spec_of
from alphapanda.report.drift import Drift, compare
from alphapanda.report.report import Report
from alphapanda.result import Result
from alphapanda.settings import Settings
from alphapanda.workspace import Workspace


def drift(
    first: Any, second: Any, *, workspace: Workspace | None = None, settings: Settings | None = None
) -> Drift:
    """Lay two runs side by side, decision by decision: usually paper first, real second.

    Each is a run's handle, its id (or its strategy's name where only one run has it), or a report. What differs is
    counted from the first to the second: slippage above 0 means that the second paid more or got less.
    Decisions from before one of them began, or that one has not come to yet, are left out; money is all of each run's.
    """
    place = workspace or Workspace.find()
    sides = [_taken(one, place, settings) for one in (first, second)]
    one, two = sides
    names = next((n for n in zip(one.names, two.names, strict=True) if n[0] != n[1]), ("first", "second"))
    return compare(one.result, two.result, names, min(one.seen, two.seen), max(one.begun, two.begun))


class _Taken(NamedTuple):
    """A result, what to call it (its namespace, or else its run), and from and through what tape time it decided."""

    result: Result
    names: tuple[str, str]
    begun: int
    seen: int


def _taken(one: Any, workspace: Workspace, settings: Settings | None) -> _Taken:
    if isinstance(one, Report):
        return _Taken(one.result, ("research", "research"), 0, FAR)
    if isinstance(one, str):
        past = read(workspace, settings or Settings.load(), spec_of(workspace, one))
    elif callable(found := getattr(one, "past", None)):
        past = found()
    else:
        past = one
    if not isinstance(past, Past):
        raise ValidationError(
            f"{type(one).__name__} is no run", fix="pass a run's handle, its id, or a report", code="E_PARAM"
        )
    return _Taken(past.result, (past.spec.namespace, past.spec.run), past.spec.trade_from, past.seen)

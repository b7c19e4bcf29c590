"""Errors counted by class, topic, namespace and minute."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from alphapanda.console import listing
from alphapanda.events import MINUTE

if TYPE_CHECKING:
    from rich.table import Table


Row = tuple[int, str, str, str, int]


class ErrorStatistics:
    """Errors by class, topic, namespace and minute, of the last ``hours``. What is new in a minute that has ``kinds``
    kinds already is counted as ``other``, so memory is bounded."""

    def __init__(self, hours: int = 24, kinds: int = 32) -> None:
        self._span, self._kinds = hours * 60, kinds
        self._minutes: dict[int, Counter[tuple[str, str, str]]] = {}

    def add(self, error: str, topic: str, namespace: str, at: int, count: int = 1) -> None:
        """``count`` errors of a class at ``at`` (wall ns)."""
        counts = self._minutes.setdefault(at // MINUTE, Counter())
        key = error, topic, namespace
        counts[key if key in counts or len(counts) < self._kinds else ("other", "other", "other")] += count
        if len(self._minutes) > self._span:
            oldest = max(self._minutes) - self._span
            self._minutes = {minute: found for minute, found in self._minutes.items() if minute > oldest}

    def counts(
        self, by: Literal["error", "topic", "namespace", "minute", "kind"], since: int = 0
    ) -> Counter[Any]:
        """Errors since ``since`` by one of their marks; ``kind`` is class, topic and namespace together."""
        found: Counter[Any] = Counter()
        for minute, counts in self._minutes.items():
            for key, count in counts.items():
                marks: dict[str, Any] = dict(zip(("error", "topic", "namespace"), key, strict=True))
                marks |= {"kind": key, "minute": minute * MINUTE}
                found[marks[by]] += count if minute >= since // MINUTE else 0
        return +found

    def rows(self) -> list[Row]:
        """Minute (wall ns), class, topic, namespace, count."""
        return [(m * MINUTE, *key, n) for m, counts in self._minutes.items() for key, n in counts.items()]

    def to_json(self) -> bytes:
        """The ``rows``: the value of ``errors_key``."""
        return msgspec.json.encode(self.rows())

    @classmethod
    def from_json(cls, data: bytes) -> ErrorStatistics:
        """What ``to_json`` made; a process that starts again counts on from there."""
        statistics = cls()
        for at, error, topic, namespace, count in msgspec.json.decode(data, type=list[Row]):
            statistics.add(error, topic, namespace, at, count)
        return statistics

    def table(self, now: int) -> Table:
        """For a terminal: the last five minutes, the last hour, and all."""
        recent, hour = self.counts("kind", now - 4 * MINUTE), self.counts("kind", now - 59 * MINUTE)
        rows = [(*k, str(recent[k]), str(hour[k]), str(n)) for k, n in self.counts("kind").most_common()]
        return listing(("error", "topic", "namespace", "5 min", "1 h", "all"), rows)


def errors_key(namespace: str) -> str:
    """The Redis key of a namespace's error statistics."""
    return f"{namespace}:errors"

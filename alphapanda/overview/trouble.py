"""What goes wrong: lines of the error channel, what the gateways count, and dead letters nobody has dealt with.

A gateway counts each failure to take a message, the tries that follow included, so its line about the dead letter is
shown and not counted once more.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec

from alphapanda.clock import monotonic
from alphapanda.events import MINUTE, SECOND, Topics
from alphapanda.letters.dead_letters import settled
from alphapanda.letters.statistics import ErrorStatistics, Row
from alphapanda.logs.tail import Facts, Tail
from alphapanda.overview.snapshot import ErrorLine
from alphapanda.settings import Settings
from alphapanda.workspace import Workspace

NEWEST = 200  # lines that are shown
SEARCH_SECONDS = 2.0  # between two looks for topics that have letters
MINUTES = 24 * 60  # that are counted
COUNTED = ("message.dead",)  # lines about what a gateway has counted
CLASS = re.compile(r"\b[A-Z]\w*(?:Error|Exception)\b")
KNOWN = {
    "ts", "level", "channel", "event", "role", "pid", "namespace", "run", "strategy", "correlation_id", "exception",
    "logger",
}  # fmt: skip


class Trouble:
    """Follows the error channel's file; ``look`` returns what an ``Overview`` holds of it."""

    def __init__(self, workspace: Workspace, settings: Settings) -> None:
        folder = settings.logging.directory
        folder = workspace.logs if folder is None else workspace.root / folder
        self._tail = Tail(folder / "error.jsonl", None)
        self._lines: deque[ErrorLine] = deque(maxlen=NEWEST)
        self._counts = ErrorStatistics()  # of the lines
        self._gateways: dict[str, tuple[bytes, list[Row]]] = {}  # as each counts itself
        self._begun = False
        self._told: tuple[Any, ...] = ((), ())
        self._stale = False  # what is told is older than what is known
        self._letters: dict[str, _Letters] = {}
        self._searched = -SEARCH_SECONDS

    def look(self, now: int) -> dict[str, Any]:
        """``errors``, newest first, and ``error_counts`` of the last day; ``now`` is wall ns."""
        found = self._tail.new() if self._begun else self._tail.last(20_000)
        self._begun = True
        for _, facts in found:
            self._add(facts)
        oldest = (now // MINUTE - MINUTES) * MINUTE
        if found or self._stale or any(row[0] < oldest for row in self._told[1][:1]):
            self._stale = False
            rows = [*self._counts.rows(), *(row for _, told in self._gateways.values() for row in told)]
            counts = sorted(row for row in rows if row[0] >= oldest)
            self._told = tuple(reversed(self._lines)), tuple(counts)
        return {"errors": self._told[0], "error_counts": self._told[1]}

    def counted(self, told: Mapping[str, bytes | None]) -> None:
        """What the gateway of each namespace has counted: the value of ``errors_key``; None keeps what it was."""
        for name, raw in told.items():
            if raw is None or raw == self._gateways.get(name, (b"",))[0]:
                continue
            with contextlib.suppress(msgspec.MsgspecError):
                self._gateways[name] = raw, ErrorStatistics.from_json(raw).rows()
                self._stale = True

    def letters(self, server: Any) -> dict[str, int]:
        """Open dead letters by topic, read from where the last look stopped. Raises what the client raises."""
        if monotonic() - self._searched >= SEARCH_SECONDS:
            self._searched = monotonic()
            for key in server.scan_iter("*.dlq", 1000):
                self._letters.setdefault(key.decode().removesuffix(".dlq"), _Letters())
        if self._letters:
            offsets: dict[str, str] = {}
            for topic, known in self._letters.items():
                offsets |= {Topics.dead_letters(topic): known.offset, settled(topic): known.settled_offset}
            for name, entries in server.xread(offsets, count=NEWEST) or ():
                topic, _, done = name.decode().partition(".dlq")
                self._letters[topic].take(entries, done == ".settled")
        counts = {topic: len(known.ids - known.settled) for topic, known in self._letters.items()}
        return {topic: count for topic, count in counts.items() if count}

    def _add(self, facts: Facts) -> None:
        kind = _class(facts)
        namespace, topic = str(facts.get("namespace") or ""), str(facts.get("topic") or "")
        at = str(facts.get("ts", ""))
        if facts.get("event") not in COUNTED:
            self._counts.add(kind, topic, namespace, _minute(at))
        rest = {name: value for name, value in facts.items() if name not in KNOWN}
        self._lines.append(
            ErrorLine(
                at=at, message=_message(facts), facts=rest,
                **{name: str(facts.get(name) or "") for name in
                   ("level", "event", "role", "namespace", "run", "strategy", "correlation_id", "exception")},
            )
        )  # fmt: skip


class _Letters:
    """The letters of one topic by id, and which of them are settled."""

    def __init__(self) -> None:
        self.offset = self.settled_offset = "0"
        self.ids: set[str] = set()
        self.settled: set[str] = set()

    def take(self, entries: list[Any], done: bool) -> None:
        """Entries of the topic's letters, or of what was done with them."""
        last = entries[-1][0].decode()
        if done:
            self.settled_offset = last
        else:
            self.offset = last
        for offset, fields in entries:
            try:
                (self.settled if done else self.ids).add(_ID.decode(fields[b"b"]).id)
            except (msgspec.DecodeError, KeyError):
                if not done:  # what is no letter is listed as one, by its place
                    self.ids.add(offset.decode())


class _Named(msgspec.Struct):
    id: str


_ID = msgspec.msgpack.Decoder(_Named)


def _class(facts: Facts) -> str:
    """The class of what went wrong; the event of a line that names none."""
    for name in ("error", "exception"):
        if found := CLASS.findall(str(facts.get(name) or "")):
            return found[0 if name == "error" else -1]  # a trace ends with it
    return str(facts.get("event") or "")


def _message(facts: Facts) -> str:
    """The sentence for a person, wherever the line has it."""
    for name in ("message", "error", "reason", "detail"):
        if isinstance(facts.get(name), str) and facts[name]:
            return facts[name]
    return ""


def _minute(text: str) -> int:
    """Wall ns of the minute that an ISO 8601 time lies in; 0 if it is none."""
    try:
        return int(dt.datetime.fromisoformat(text).timestamp()) * SECOND // MINUTE * MINUTE
    except ValueError:
        return 0

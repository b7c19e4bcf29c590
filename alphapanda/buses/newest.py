"""Topics for somebody who wants the present and may be slow: a card, a chart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from typing import Literal

from alphapanda.buses.base import END, Bus, Message, place

CHUNK = 100  # messages of a topic that a slow reader takes in at a time


class Newest:
    """The newest messages of topics, and how many were passed over.

    When more than ``bound`` messages wait, only the newest of each (topic, ``key``) is handed out, whatever their
    number; ``skipped`` counts the others by (topic, key), and ``missed`` by topic what the topic's own bound had
    removed before this reader came. Handed out + skipped + missed = published.
    """

    def __init__(
        self,
        bus: Bus,
        topics: Iterable[str],
        *,
        bound: int = 1000,
        key: Callable[[Message], Hashable] = lambda message: message.topic,
        after: Literal["0", "$"] = "$",
    ) -> None:
        self._bus = bus
        self._bound = bound
        self._key = key
        self._after: dict[str, str] = dict.fromkeys(topics, after)
        self._count: dict[str, int] = {}  # messages ever published up to _after
        self._waiting: list[Message] = []  # outlives a read that is broken off: it is in neither count yet
        self._crowded = False
        self.skipped: Counter[tuple[str, Hashable]] = Counter()
        self.missed: Counter[str] = Counter()

    async def read(self, timeout: float = 0.2) -> list[Message]:
        """What waits, [] when nothing came within ``timeout`` seconds."""
        after, chunk = self._after, min(self._bound, CHUNK)
        if not self._count:
            for topic, tail in (await self._bus.tails(after)).items():
                self._count[topic] = tail.added if after[topic] == END else tail.added - tail.length
                after[topic] = tail.offset if after[topic] == END else after[topic]
        found = await self._bus.read(after, count=chunk, timeout=0.0 if self._waiting else timeout)
        if not found and not self._waiting:
            return []
        self._take(found)
        tails = await self._bus.tails(after)
        beyond: Counter[str] = Counter()  # read though published after we asked where the topics end
        while behind := {t: at for t, at in after.items() if place(at) < place(tails[t].offset)}:
            if not (found := await self._bus.read(behind, count=chunk, timeout=0.0)):
                break
            beyond.update(m.topic for m in found if place(m.offset) > place(tails[m.topic].offset))
            self._take(found)
        for topic, tail in tails.items():
            if tail.added >= 0:
                self.missed[topic] += max(0, tail.added + beyond[topic] - self._count[topic])
                self._count[topic] = tail.added + beyond[topic]
        newest, self._waiting, self._crowded = self._waiting, [], False
        return newest

    def _take(self, found: list[Message]) -> None:
        for message in found:
            self._after[message.topic] = message.offset
            self._count[message.topic] += 1
        self._waiting += found
        self._crowded = self._crowded or len(self._waiting) > self._bound
        if self._crowded:
            newest: dict[tuple[str, Hashable], Message] = {}
            for message in self._waiting:
                key = message.topic, self._key(message)
                if newest.pop(key, None):
                    self.skipped[key] += 1
                newest[key] = message
            self._waiting = list(newest.values())

"""Order updates on their way to the sockets: sent for fills, changes, cancels, triggers and rejections, and for nothing
else (kite.trade forum 3093). What can go wrong with them goes wrong here.
"""

from __future__ import annotations

from collections import deque

from alphapanda.events import SECOND
from alphapanda.sandbox.agenda import Agenda
from alphapanda.sandbox.documents import Document, update_document
from alphapanda.sandbox.faults import Faults
from alphapanda.sandbox.orders import Order

MOST = 10_000  # updates kept for sockets that do not fetch them


class Updates:
    """The updates that wait to be sent."""

    def __init__(self, faults: Faults, user_id: str, agenda: Agenda) -> None:
        self._faults, self._user_id, self._agenda = faults, user_id, agenda
        self.waiting: deque[Document] = deque(maxlen=MOST)
        self._held_back: Document | None = None

    def send(self, order: Order, status: str, now: int) -> None:
        """An update of an order as it stands; ``status`` may be UPDATE, which orders themselves never have."""
        document = update_document(order, status, self._user_id)
        faults = self._faults
        if faults.hit("update-dropped", order.subject):
            return
        late = faults.hit("update-late", order.subject)
        if late:
            self._agenda.at(now + round(late.seconds * SECOND), lambda _: self.waiting.append(document))
            return
        if self._held_back is None and faults.hit("update-reordered", order.subject):
            self._held_back = document
            return
        self.waiting.append(document)
        if faults.hit("update-duplicated", order.subject):
            self.waiting.append(document)
        if self._held_back is not None:
            self.waiting.append(self._held_back)
            self._held_back = None

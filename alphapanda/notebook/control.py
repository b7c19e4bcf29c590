"""How a card's buttons reach us while a cell is busy.

ipykernel serves the shell channel, and with it widget messages, between cells only (6.31), on another thread (7.3), or
between cells again once a card has been written to (7.4). The control channel has had a thread of its own in all of
them. It carries requests that the kernel knows; so the browser puts its word into a ``kernel_info_request``, which
every kernel answers and whose answer no front end mistakes for the end of a cell, and we listen to those.
"""

from __future__ import annotations

import weakref
from typing import Any, Protocol

from alphapanda.notebook.shown import kernel

REQUEST = "kernel_info_request"
WORD = "alphapanda"


class Hearer(Protocol):
    """Whoever is behind a card."""

    def heard(self, content: dict[str, Any]) -> None:
        """A word of the browser."""
        ...


_listeners: weakref.WeakValueDictionary[str, Hearer] = weakref.WeakValueDictionary()


def listen(card: str, listener: Hearer) -> None:
    """Hand what the browser says to this card to ``listener``, for as long as it lives."""
    _listeners[card] = listener
    handlers: Any = getattr(kernel(), "control_handlers", None)
    if handlers and not hasattr(handlers.get(REQUEST), "inner"):
        handlers[REQUEST] = _Tap(handlers[REQUEST])


class _Tap:
    """The kernel's handler, and before it ours: should ours fail, nothing is answered and the browser goes on."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __call__(self, stream: Any, ident: Any, parent: Any) -> Any:
        word: dict[str, Any] = parent["content"].get(WORD) or {}
        listener = _listeners.get(str(word.get("card")))
        if listener is not None:
            listener.heard(word)
        return self.inner(stream, ident, parent)

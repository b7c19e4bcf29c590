"""The live card: an anywidget that shows a run's parts and can stop it.

Any thread may call it. A part is sent when its HTML changed, at most as often as the poller looks, and only while
somebody looks at the card: each view in a browser reports itself and renews that; one that goes silent is forgotten.
"""

# pyright: reportUntypedBaseClass=false, reportUnknownMemberType=false, reportIncompatibleVariableOverride=false

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import traitlets
from anywidget import AnyWidget

from alphapanda.clock import monotonic, wall_ns
from alphapanda.notebook import control, face
from alphapanda.overview.view import View

BEAT = 2.0  # seconds between two signs of life while nothing changes
FIRST = 60.0  # seconds that a card is sent to before a view has reported
FOREVER = float("inf")
VIEWS_MAX = 50


def _text() -> Any:
    return traitlets.Unicode("").tag(sync=True)


class Card(AnyWidget):
    """A run in the browser. ``stop`` is called in a thread of its own when a person presses Stop."""

    _esm = Path(__file__).parent / "card.js"
    _css = face.style()

    head, news, money = _text(), _text(), _text()
    positions, orders, foot = _text(), _text(), _text()
    state, lane, run, label = _text(), _text(), _text(), _text()
    card = _text()  # how the browser names this card to us
    command = _text()  # stops the run without this kernel; a path of this machine, so gone at the run's end
    trouble = _text()  # why a stop did not work
    asked = traitlets.Int(0).tag(sync=True)  # stops heard: the browser's receipt
    held = traitlets.Int(0).tag(sync=True)  # open positions
    data_at = traitlets.Float(0.0).tag(sync=True)  # wall ms of the newest market data; 0: none yet
    over = traitlets.Bool(False).tag(sync=True)  # its process is gone
    beat = traitlets.Float(0.0).tag(sync=True)  # wall ms of the last message

    def __init__(self, view: View, stop: Callable[[bool], None], command: str) -> None:
        self._lock = threading.Lock()
        self._stop = stop
        self._looks = {"": monotonic() + FIRST}  # view: until when it counts
        self._view = view
        self._command = command
        super().__init__(**self._fields(view), beat=wall_ns() / 1e6)
        self.card = str(self.model_id)
        self.on_msg(self._message)
        control.listen(self.card, self)

    @property
    def watched(self) -> bool:
        """Whether a browser shows it now, as far as we know."""
        now = monotonic()
        return any(view and until > now for view, until in list(self._looks.items()))

    def show(self, view: View) -> None:
        """Bring it up to date; between changes a sign of life now and then."""
        self._view = view
        now = monotonic()
        if any(until > now for until in list(self._looks.values())):
            self._push()

    def _push(self, anyway: bool = False) -> None:
        """What changed, in one message."""
        view, at = self._view, wall_ns() / 1e6
        with self._lock:
            changed = {
                name: value for name, value in self._fields(view).items() if getattr(self, name) != value
            }
            if not changed and not anyway and (view.ended or at - self.beat < BEAT * 1e3):
                return
            with self.hold_sync():
                for name, value in changed.items():
                    setattr(self, name, value)
                self.beat = at

    def _message(self, _widget: Any, content: dict[str, Any], _buffers: Any) -> None:
        """The way of front ends without a control channel."""
        self.heard(content)

    def heard(self, content: dict[str, Any]) -> None:
        """A word of the browser: it looks, it looks away, or a person pressed Stop. Never raises."""
        view = str(content.get("view", ""))[:40]
        match content.get("do"):
            case "show":
                seconds = content.get("seconds")
                until = monotonic() + seconds if isinstance(seconds, int | float) and seconds > 0 else FOREVER
                if len(self._looks) < VIEWS_MAX or view in self._looks:
                    self._looks[view] = until
                self._push(anyway=True)
            case "hide":
                self._looks.pop(view, None)
                self._looks.pop("", None)
            case "stop":
                flatten = content.get("flatten") is True
                with self._lock:
                    self.asked += 1
                threading.Thread(
                    target=self._stop, args=(flatten,), name="alphapanda-stop", daemon=True
                ).start()
            case _:
                pass

    def complain(self, why: str) -> None:
        """Show that a stop did not work, and why."""
        with self._lock:
            self.trouble = why

    def _fields(self, view: View) -> dict[str, Any]:
        return {
            **face.parts(view),
            "state": view.state,
            "lane": "live" if view.live else "paper",
            "run": view.run,
            "label": f"{view.namespace} run of {view.name}",
            "over": view.ended,
            "held": len(view.books.positions),
            "data_at": round(view.heard / 1e6),
            "command": "" if view.ended else self._command,
        }

"""What stands in a cell and changes in place: a line of progress, and outputs that are brought up to date.

Nothing here is called from a thread that a person did not start: output of such a thread would land in whatever cell
runs. ``update`` is the exception: it names the output it changes.
"""

from __future__ import annotations

import itertools
import os
import sys
from html import escape
from typing import Any

from alphapanda.clock import monotonic

Bundle = dict[str, Any]
_numbers = itertools.count(1)
EVERY = 0.25  # seconds between two changes of a line
BLOCKS = 24  # of a bar in plain text
BLUE, GREY = "#2f6fd0", "#8a8f98"  # of a bar that moves, and of one that is done


def shell() -> Any:
    """The IPython shell this code runs in, or None."""
    get_shell = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return get_shell() if get_shell else None


def kernel() -> Any:
    """The Jupyter kernel this code runs in, or None: a terminal, a script."""
    return getattr(shell(), "kernel", None)


def show(bundle: Bundle) -> str:
    """Put an output into the cell; its id is for ``update``."""
    display_id = f"alphapanda-{os.getpid()}-{next(_numbers)}"
    _publish(bundle, display_id, False)
    return display_id


def update(display_id: str, bundle: Bundle) -> None:
    """Change an output where it stands, from whichever thread."""
    _publish(bundle, display_id, True)


def _publish(bundle: Bundle, display_id: str, again: bool) -> None:
    from IPython.core import display_functions

    publish = getattr(display_functions, "publish_display_data")  # noqa: B009 - its signature is untyped
    publish(bundle, transient={"display_id": display_id}, update=again)


class Line:
    """One line that changes in place: in a notebook by its id, in a terminal on its line, elsewhere not at all.

    ``share`` of 0 to 1 draws a bar; None draws none.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._where = "notebook" if kernel() is not None else "terminal" if sys.stderr.isatty() else ""
        self._id = ""
        self._next = 0.0

    def tell(self, text: str, share: float | None = None, last: bool = False) -> None:
        """Show this now; of frequent changes some are left out, the ``last`` never is."""
        now = monotonic()
        if self._quiet or not self._where or (now < self._next and not last):
            return
        self._next = now + EVERY
        if self._where == "terminal":
            sys.stderr.write(f"\r\x1b[2K{_plain(text, share)}" + "\n" * last)
            sys.stderr.flush()
            return
        bundle = {"text/plain": _plain(text, share), "text/html": _html(text, share, last)}
        if self._id:
            update(self._id, bundle)
        else:
            self._id = show(bundle)


def _plain(text: str, share: float | None) -> str:
    if share is None:
        return text
    full = round(BLOCKS * min(max(share, 0.0), 1.0))
    return f"[{'#' * full}{'-' * (BLOCKS - full)}] {text}"


def _html(text: str, share: float | None, last: bool) -> str:
    """With its style inside: it is sent four times a second."""
    line = "display:flex;align-items:center;gap:11px;font:13px/1.6 system-ui,sans-serif"
    bar = ""
    if share is not None:
        box = "flex:0 0 190px;height:7px;border-radius:4px;background:rgba(128,134,144,.25);overflow:hidden"
        width = 100 * min(max(share, 0.0), 1.0)
        full = f"display:block;height:100%;width:{width:.1f}%;background:{GREY if last else BLUE}"
        bar = f'<i style="{box}"><b style="{full}"></b></i>'
    return f'<div class="ap-wait" style="{line}">{bar}<span>{escape(text)}</span></div>'

"""structlog without what it takes along where it is installed: rich and twisted, most of a third of a second of imports
that no log line of ours needs.

To structlog's own import the two count as not installed, unless they are loaded already; afterwards everybody finds
them again. All that is lost is structlog's pretty console and its part for twisted, in processes of ours alone.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator
from typing import Any, cast


@contextlib.contextmanager
def _absent(*names: str) -> Generator[None]:
    modules = cast("dict[str, Any]", sys.modules)
    hidden = [name for name in names if name not in modules]
    modules.update(dict.fromkeys(hidden))  # None: the import system's own word for "not to be had"
    try:
        yield
    finally:
        for name in hidden:
            del modules[name]


with _absent("rich", "twisted"):
    from structlog import BoundLoggerBase
    from structlog.contextvars import bound_contextvars, merge_contextvars

__all__ = ["BoundLoggerBase", "bound_contextvars", "merge_contextvars"]

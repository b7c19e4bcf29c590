"""What the chaos tests' child processes import before anything else: exact places to die at, and short patience.

The product has no hooks for tests. In a process that loads the order path, the methods below are wrapped once: if the
file ``CHAOS_POINT`` names the place that is reached, it is removed and the process is gone, as by kill -9. Patience of
minutes becomes seconds; nothing else differs from what users run.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.util
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

SCALED = {"lost_after": 3.0, "blind": 6.0, "book_idle": 2.0, "cancel_again": 1.0}


def reach(place: str) -> None:
    """Die here if this is the place."""
    file = Path(os.environ.get("CHAOS_POINT", "/nonexistent"))
    with suppress(OSError):
        if file.read_text() == place:
            file.unlink()
            os.kill(os.getpid(), signal.SIGKILL)


def around(
    owner: Any, name: str, before: str = "", after: str = "", *, only: Callable[..., bool] | None = None
) -> None:
    """Reach places before and after a method; ``only`` looks at its arguments."""
    inner = getattr(owner, name)

    @functools.wraps(inner)
    def outer(*args: Any, **more: Any) -> Any:
        chosen = only is None or only(*args)
        if before and chosen:
            reach(before)
        found = inner(*args, **more)
        if after and chosen and found is not False:
            reach(after)
        return found

    setattr(owner, name, outer)


def prepare(trader: Any) -> None:
    """Wrap what the trader's module has just imported."""
    around(trader.Store, "create", "decided", "created")
    around(trader.Store, "claim", "", "claimed")
    around(trader.OrderPath, "gate", "", "gated")
    around(trader.Kite, "place", "", "posted")
    around(trader.OrderPath, "answered", "", "answered", only=lambda path, call, *rest: call.kind == "place")
    around(trader.Store, "fill", "seen", "filled")
    around(trader.Kite, "cancel", "cancelling", "cancelled")
    trader.Policy = functools.partial(trader.Policy, **SCALED)
    trader.TOKEN_SECONDS, trader.POSITIONS_SECONDS = 0.5, 3.0


def hurry(crew: Any) -> None:
    """A gateway that died often comes back as fast as one that died once, and a silent one is ended sooner."""
    patience = dict(crew.POLICIES)
    retry = crew.RetryPolicy(delay_first=0.05, delay_max=0.2)
    patience["gateway"] = crew.Policy(ready=60.0, silent=6.0, retry=retry)
    patience["feed"] = crew.Policy(retry=retry)
    patience["runner"] = crew.Policy(ready=60.0, failures=50, window=60.0, ends=True, retry=retry)
    crew.POLICIES = patience


PREPARED: dict[str, Callable[[Any], None]] = {
    "alphapanda.zerodha.trader": prepare,
    "alphapanda.hub.crew": hurry,
}


class Finder(importlib.abc.MetaPathFinder):
    """Waits for the modules above."""

    def find_spec(self, name: str, path: object, target: object = None) -> Any:
        change = PREPARED.pop(name, None)
        if change is None:
            return None
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        load = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            load(module)
            change(module)

        spec.loader.exec_module = exec_module
        return spec


if "CHAOS_POINT" in os.environ:
    sys.meta_path.insert(0, Finder())

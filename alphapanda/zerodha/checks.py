"""What a preflight says: one thing looked at, how it stands, and what to do about it."""

from __future__ import annotations

from typing import Literal

import msgspec

State = Literal["ok", "warning", "failed"]


class Check(msgspec.Struct, frozen=True):
    """One row. ``failed`` means do not trade; ``warning`` is for a person to judge."""

    what: str
    state: State
    shown: str
    fix: str = ""


def worse(checks: list[Check]) -> State:
    """The worst state of them."""
    states = {check.state for check in checks}
    return "failed" if "failed" in states else "warning" if "warning" in states else "ok"

"""What was looked at, how it stands, and what to do about it: rows of a doctor, a preflight, a promotion, a proof."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from rich.table import Table

State = Literal["ok", "warning", "failed"]
Looks = Mapping[State, tuple[str, str]]
"""How a state is shown: its word and its style."""

LOOKS: Looks = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "failed": ("failed", "bold red")}


class Check(msgspec.Struct, frozen=True):
    """One row. ``failed`` means do not go on; ``warning`` is for a person to judge."""

    what: str
    state: State
    shown: str
    fix: str = ""


def worse(checks: list[Check]) -> State:
    """The worst state of them."""
    states = {check.state for check in checks}
    return "failed" if "failed" in states else "warning" if "warning" in states else "ok"


def table(checks: list[Check], looks: Looks = LOOKS) -> Table:
    """The rows in colour, each fix below what it mends."""
    from rich.table import Table
    from rich.text import Text

    from alphapanda.report.text import clean

    made = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2))
    for _ in range(3):
        made.add_column(no_wrap=False)
    for check in checks:
        shown = Text(clean(check.shown))
        if check.fix:
            shown.append(f"\nfix: {clean(check.fix)}", "bright_black")
        made.add_row(Text(*looks[check.state]), Text(check.what, "bold", no_wrap=True), shown)
    return made

"""What a doctor says: one thing looked at, how it stands, what to do about it; and the table of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from rich.table import Table

State = Literal["ok", "optional", "missing"]


class Finding(msgspec.Struct, frozen=True):
    """One row: what was looked at, how it stands, and what to do about it. ``missing`` fails the command."""

    what: str
    state: State
    shown: str
    fix: str = ""


def table(rows: list[Finding]) -> Table:
    """The rows in colour: green in place, yellow not needed for research, red missing."""
    from rich.table import Table
    from rich.text import Text

    from alphapanda.report.text import clean

    looks = {"ok": ("ok", "green"), "optional": ("--", "yellow"), "missing": ("missing", "bold red")}
    made = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2))
    for _ in range(3):
        made.add_column(no_wrap=False)
    for row in rows:
        shown = Text(clean(row.shown))
        if row.fix:
            shown.append(f"\nfix: {clean(row.fix)}", "bright_black")
        made.add_row(Text(*looks[row.state]), Text(row.what, "bold", no_wrap=True), shown)
    return made

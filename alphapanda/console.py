"""Where commands show things: a terminal as wide as it is, a file or pipe in lines that programs can read."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

PLAIN_WIDTH = 140  # columns, where the output is not a terminal


def open_console(*, stderr: bool = False) -> Console:
    """The one to print on."""
    from rich.console import Console

    console = Console(stderr=stderr)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(stderr=stderr, width=PLAIN_WIDTH)
    return console


def say(console: Console, text: str, style: str = "") -> None:
    """A line of words, never broken: it may be read by a program."""
    from rich.text import Text

    console.print(Text(text, style), soft_wrap=True, highlight=False)


def show(console: Console, shown: RenderableType) -> None:
    """As it is in a terminal; without the spaces that fill its lines elsewhere."""
    if console.is_terminal:
        console.print(shown)
        return
    with console.capture() as caught:
        console.print(shown)
    sys.stdout.write("\n".join(line.rstrip() for line in caught.get().splitlines()) + "\n")


def as_json(value: Any) -> str:
    """Text for a program, and for a person who looks at it."""
    return msgspec.json.format(msgspec.json.encode(value, enc_hook=str)).decode() + "\n"


def listing(names: Iterable[str], rows: Iterable[Sequence[str]]) -> Table:
    """Rows below their names, each cell on one line."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from alphapanda.report.text import one_line

    table = Table(*names, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    return table

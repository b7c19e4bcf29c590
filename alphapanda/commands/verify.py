"""``alphapanda verify``: is a certificate what it was, and does it hold for this class and these ticks?"""

from __future__ import annotations

import argparse
from pathlib import Path

from alphapanda.console import open_console

OK, FAILED = 0, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See ``alphapanda verify --help``."""
    parser.add_argument("certificate", type=Path, help="the file that `alphapanda prove` wrote")
    parser.add_argument(
        "--strategy", help="does this class freeze to the module in it? mine.ipynb, mine.py:MyStrategy"
    )
    parser.add_argument(
        "--tape", nargs="+", metavar="DAY", help="do these ticks give the decisions in it, once more?"
    )
    parser.add_argument("--symbol", help="of a file of one instrument")
    parser.add_argument("--timezone", help="of a file's times")
    parser.add_argument(
        "--tradable", action="store_true", default=None, help="trade an index as if it were a share"
    )


def run(options: argparse.Namespace) -> int:
    """Each thing that was looked at is a row; 1 if one fails."""
    from alphapanda.checks import table
    from alphapanda.proofs.verify import verify

    reader = {n: v for n in ("symbol", "timezone", "tradable") if (v := getattr(options, n)) is not None}
    rows = verify(options.certificate, strategy=options.strategy, tape=options.tape, **reader)
    open_console().print(table(rows))
    return FAILED if any(row.state == "failed" for row in rows) else OK

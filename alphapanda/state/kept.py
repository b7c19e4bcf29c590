"""A small SQLite file that several processes read and write, each in one transaction at a time.

    with transaction(path, SCHEMA, "alerts", write=True) as base: base.execute(...)

What was committed survives the power cut; whoever writes waits for whoever writes. No connection is kept open, so no
process can hold up another for longer than its transaction.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Generator
from pathlib import Path

from alphapanda.errors import DatabaseError

BUSY_SECONDS = 5.0


@contextlib.contextmanager
def transaction(path: Path, schema: str, what: str, *, write: bool = False) -> Generator[sqlite3.Connection]:
    """A connection inside one transaction, committed unless the block raises. ``schema`` may be run twice.

    Raises DatabaseError with code E_``WHAT`` if the file cannot be read or written; then nothing was changed.
    """
    try:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=BUSY_SECONDS)) as base:
            path.chmod(0o600)
            base.execute("PRAGMA journal_mode=WAL")
            base.execute("PRAGMA synchronous=FULL")
            if not base.execute("PRAGMA user_version").fetchone()[0]:
                base.executescript(f"{schema}; PRAGMA user_version=1")
            base.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            try:
                yield base
            except BaseException:
                base.execute("ROLLBACK")
                raise
            base.execute("COMMIT")
    except (sqlite3.Error, OSError) as error:
        raise DatabaseError(
            f"{what} cannot be read or written: {error}", fix=f"look at {path}", code=f"E_{what.upper()}"
        ) from None

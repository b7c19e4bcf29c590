"""The journal of one namespace: every input its gateway acted on, in order, on disk before the act.

The truth about orders; what Redis shows is made from it and can be made again. One SQLite file in WAL mode with
``synchronous=FULL``: a committed entry survives a power cut. One writer, held by a lock on a file beside it; any number
of readers.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from alphapanda.errors import DatabaseError

Kind = Literal["attach", "request", "report", "operator", "end", "done"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
    number INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    run TEXT NOT NULL,
    id TEXT NOT NULL,
    body BLOB NOT NULL,
    reply BLOB NOT NULL,
    at INTEGER NOT NULL,
    UNIQUE (run, kind, id)
) STRICT;
"""


class Entry(msgspec.Struct, frozen=True):
    """One input: what was asked (``body``), what it did (``reply``), and when (wall ns, for people)."""

    number: int
    kind: Kind
    run: str
    id: str
    body: bytes
    reply: bytes
    at: int


class Journal:
    """The writer. A second one for the same file is refused: one gateway a namespace."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise DatabaseError(
                f"{path} is in use by another gateway", fix="`alphapanda status` tells which", code="E_LEASE"
            ) from None
        with _told(path):
            self._connection = sqlite3.connect(path, isolation_level=None)
            path.chmod(0o600)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            found = self._connection.execute("PRAGMA quick_check").fetchone()[0]
            if found != "ok":
                raise sqlite3.DatabaseError(found)
            self._connection.execute(SCHEMA)

    def append(self, kind: Kind, run: str, identity: str, body: bytes, reply: bytes, at: int) -> None:
        """Make one entry durable; DatabaseError (disk full, file damaged) means it is not, and nothing may follow."""
        with _told(self.path):
            self._connection.execute(
                "INSERT INTO entry (kind, run, id, body, reply, at) VALUES (?, ?, ?, ?, ?, ?)",
                (kind, run, identity, body, reply, at),
            )

    def entries(self) -> Iterator[Entry]:
        """Everything, in order."""
        with _told(self.path):
            for row in self._connection.execute(
                "SELECT number, kind, run, id, body, reply, at FROM entry ORDER BY number"
            ):
                yield Entry(*row)

    def done_before(self, at: int) -> set[str]:
        """Runs that had ended, with nothing open, before a wall time."""
        with _told(self.path):
            rows = self._connection.execute("SELECT run FROM entry WHERE kind = 'done' AND at < ?", (at,))
            return {run for (run,) in rows}

    def close(self) -> None:
        """Let go of file and lock."""
        self._connection.close()
        os.close(self._lock)


def replies(path: Path, run: str) -> dict[str, tuple[bytes, bytes]]:
    """What a run has asked so far, by id, with what it was answered; read beside the writer."""
    if not path.exists():
        return {}
    with _told(path):
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            rows = connection.execute(
                "SELECT id, body, reply FROM entry WHERE run = ? AND kind = 'request' ORDER BY number", (run,)
            )
            return {identity: (body, reply) for identity, body, reply in rows}
        finally:
            connection.close()


def asked(path: Path) -> set[str]:
    """The id of everything that was ever asked in a namespace; read beside the writer."""
    if not path.exists():
        return set()
    with _told(path):
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            return {
                identity for (identity,) in connection.execute("SELECT id FROM entry WHERE kind = 'request'")
            }
        finally:
            connection.close()


class _told:  # noqa: N801 - reads as a verb where it is used
    """sqlite's errors in our words."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, sqlite3.Error):
            full = "full" in str(error) or "disk I/O" in str(error)
            raise DatabaseError(
                f"the journal {self._path} cannot be used: {error}",
                fix="free the disk: trading goes on by itself when it can be written"
                if full
                else "restore the file from a backup; the gateway does not start without its journal",
                path=str(self._path),
            ) from error

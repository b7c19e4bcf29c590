"""What needs a person: raised by rules over an ``Overview``, told with a rising level until somebody has seen it.

    alerts = Alerts(Workspace.find())
    alerts.open()                                      # those whose cause is there, or that nobody has seen
    alerts.acknowledge("feed_stale:feed", "meera", "broker's outage")

One SQLite file, so that the watch process, API, dashboards and command line see one state, which survives restarts.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import AbstractContextManager

import msgspec

from alphapanda import logs
from alphapanda.alerts.book import MINUTE, Alert, Finding, Level, Step, acknowledged, step
from alphapanda.clock import wall_ns
from alphapanda.errors import UnknownNameError, ValidationError
from alphapanda.logs.redaction import safe_text
from alphapanda.state.kept import transaction
from alphapanda.workspace import Workspace

__all__ = ["Alert", "Alerts", "Finding", "Level", "Step"]

KEPT = 2_000  # alerts that are over
SCHEMA = """
CREATE TABLE IF NOT EXISTS alert (id TEXT PRIMARY KEY, cleared INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS told (rule TEXT NOT NULL, at INTEGER NOT NULL) STRICT;
"""


class Alerts:
    """The alerts of one workspace. Methods raise DatabaseError when their file cannot be read or written."""

    def __init__(self, workspace: Workspace) -> None:
        self.path = workspace.home / "alerts.sqlite"

    def open(self) -> list[Alert]:
        """Those that stand, the worst and then the newest first; what was acknowledged comes last."""
        found = [one for one in self._all().values() if one.open]
        worst = {"critical": 0, "error": 1, "warning": 2}
        return sorted(found, key=lambda one: (bool(one.acknowledged), worst[one.level], -one.raised))

    def history(self, limit: int = 50) -> list[Alert]:
        """The newest first, also those that are over."""
        return sorted(self._all().values(), key=lambda one: -max(one.raised, one.cleared))[:limit]

    def acknowledge(self, name: str, by: str, note: str) -> Alert:
        """Somebody has seen it, and says what they make of it. UnknownNameError for what is not open."""
        if not by.strip() or not note.strip():
            raise ValidationError("who, and what of it?", fix="give a name and a note", code="E_NOTE")
        with self._transaction(write=True) as base:
            known = {one.id: one for one in _read(base).values() if one.open}
            if name not in known:
                raise UnknownNameError("alert", name[:120], known)
            seen = acknowledged(known[name], safe_text(by), safe_text(note), wall_ns())
            _write(base, [seen])
        logs.channel("audit").info("alert.acknowledged", alert=seen.id, by=seen.by, note=seen.note)
        return seen

    def look(self, findings: Iterable[Finding], now: int, repeat: float) -> Step:
        """Take up what the rules see now; what it returns is to be told. ``repeat`` in seconds."""
        with self._transaction(write=True) as base:
            told = base.execute("SELECT rule, at FROM told").fetchall()
            made = step(_read(base), findings, now, repeat, told)
            _write(base, made.changed)
            if made.tellings:
                base.execute("DELETE FROM told WHERE at < ?", (now - MINUTE,))
                lines = [(one.alert.rule, now) for one in made.tellings if one.word != "cleared"]
                base.executemany("INSERT INTO told VALUES (?, ?)", lines)
                base.execute(
                    "DELETE FROM alert WHERE cleared > 0 AND id NOT IN "
                    "(SELECT id FROM alert WHERE cleared > 0 ORDER BY cleared DESC LIMIT ?)",
                    (KEPT,),
                )
        return made

    def _all(self) -> dict[str, Alert]:
        if not self.path.exists():
            return {}
        with self._transaction() as base:
            return _read(base)

    def _transaction(self, *, write: bool = False) -> AbstractContextManager[sqlite3.Connection]:
        return transaction(self.path, SCHEMA, "alerts", write=write)


def _read(base: sqlite3.Connection) -> dict[str, Alert]:
    rows = base.execute("SELECT body FROM alert")
    return {one.id: one for one in (msgspec.json.decode(body, type=Alert) for (body,) in rows)}


def _write(base: sqlite3.Connection, alerts: Iterable[Alert]) -> None:
    base.executemany(
        "INSERT INTO alert VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET cleared = excluded.cleared, "
        "body = excluded.body",
        [(one.id, one.cleared, msgspec.json.encode(one)) for one in alerts],
    )

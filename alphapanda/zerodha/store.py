"""Where intents are kept: one SQLite file an account, on disk before anything follows.

WAL with ``synchronous=FULL``: what is committed survives a power cut. A change of state, the line that says why, and
what the platform is to be told of it are one transaction. Who may write is a number, the epoch: whoever takes over gets
the next one, and every write of an earlier epoch fails inside its own transaction. What such a process still learns
(an order id, a fill) is not lost with it: the one in charge finds it in the broker's book.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from alphapanda.errors import DatabaseError, ValidationError
from alphapanda.traders.reports import Report
from alphapanda.zerodha.intents import Intent
from alphapanda.zerodha.states import CLAIM, CREATED, SENDING, advance

SCHEMA = """
CREATE TABLE IF NOT EXISTS intent (key TEXT PRIMARY KEY, tag TEXT UNIQUE NOT NULL, state TEXT NOT NULL,
    epoch INTEGER NOT NULL, expires INTEGER NOT NULL, order_id TEXT NOT NULL, body BLOB NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS by_order ON intent (order_id);
CREATE TABLE IF NOT EXISTS line (number INTEGER PRIMARY KEY, key TEXT NOT NULL, before TEXT NOT NULL,
    after TEXT NOT NULL, cause TEXT NOT NULL, at INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS fill (trade_id TEXT NOT NULL, key TEXT NOT NULL, quantity INTEGER NOT NULL,
    price INTEGER NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (key, trade_id)) STRICT;
CREATE TABLE IF NOT EXISTS report (number INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""

# Causes by which lines tell that a call left; a claim tells it by its states.
CANCEL_SENT, MODIFY_SENT, PRICED_AGAIN = "cancel sent", "modify sent", "priced again"

_PACK = msgspec.msgpack.Encoder()
_INTENT = msgspec.msgpack.Decoder(Intent)
_REPORT = msgspec.msgpack.Decoder(Report)


class Store:
    """The intents of one account. Every method is one transaction; DatabaseError means it did not happen."""

    def __init__(self, path: Path | str) -> None:
        self.path = path
        with self._told():
            self._db = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, uri=isinstance(path, str)
            )
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            if (found := self._db.execute("PRAGMA quick_check").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(found)
            self._db.executescript(SCHEMA)
        if isinstance(path, Path):
            path.chmod(0o600)
        self.epoch = 0  # ours; 0 before we took over

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    # ── who decides ──────────────────────────────────────────────────────────────────────────────────────────────

    def take_over(self) -> int:
        """Become the one who writes: the epoch. Whoever did before cannot any more."""
        with self._begun():
            self.epoch = int(self.fact("epoch") or 0) + 1
            self._set("epoch", str(self.epoch))
        return self.epoch

    @property
    def in_charge(self) -> bool:
        """Whether nobody has taken over since we did."""
        return int(self.fact("epoch") or 0) == self.epoch

    def stand(self) -> None:
        """DatabaseError (E_LEASE) if somebody has."""
        if not self.in_charge:
            raise DatabaseError(
                f"another gateway is in charge of this account (we were epoch {self.epoch})",
                fix="end this one",
                code="E_LEASE",
            )

    def fact(self, name: str) -> str:
        """A small fact kept across restarts, such as the kill level; "" if there is none."""
        with self._told():
            found = self._db.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return found[0] if found else ""

    def keep(self, name: str, value: str) -> None:
        """Write one down."""
        with self._transaction():
            self._set(name, value)

    # ── intents ──────────────────────────────────────────────────────────────────────────────────────────────────

    def create(self, intents: Iterable[Intent]) -> bool:
        """Write new intents down; False if they are there. ValidationError (E_CONFLICT) if those say otherwise."""
        with self._transaction():
            fresh = False
            for intent in intents:
                known = self._db.execute("SELECT body FROM intent WHERE key = ?", (intent.key,)).fetchone()
                if known is None:
                    self._db.execute(
                        "INSERT INTO intent VALUES (?, ?, ?, ?, ?, ?, ?)",
                        (
                            intent.key,
                            intent.tag,
                            intent.state,
                            self.epoch,
                            intent.expires,
                            "",
                            _PACK.encode(intent),
                        ),
                    )
                    self._line(intent.key, "", intent.state, "created", intent.created)
                    fresh = True
                elif _INTENT.decode(known[0]).terms_hash != intent.terms_hash:
                    raise ValidationError(
                        f"conflicting decision: order {intent.order} was decided otherwise before",
                        fix="start a strategy that was changed as a new run",
                        code="E_CONFLICT",
                        order=intent.order,
                    )
            return fresh

    def claim(self, intent: Intent, now: int) -> bool:
        """CREATED to SENDING, the only way to a POST: False if it is not CREATED on disk, or its time is over."""
        claimed = msgspec.structs.replace(intent, state=SENDING, epoch=self.epoch, sent=now, reads=0)
        with self._transaction():
            done = self._db.execute(
                "UPDATE intent SET state = ?, epoch = ?, body = ? WHERE key = ? AND state = ? AND expires > ?",
                (SENDING, self.epoch, _PACK.encode(claimed), intent.key, CREATED, now),
            ).rowcount
            if done:
                self._line(intent.key, CREATED, SENDING, CLAIM, now)
        if done:
            _copy(claimed, intent)
        return bool(done)

    def move(
        self, intent: Intent, event: str, cause: str, now: int, reports: Iterable[Report] = (), **changes: Any
    ) -> None:
        """An event happened to it: the state's change, other changes, why, and what is told of it."""
        changed = msgspec.structs.replace(intent, state=advance(intent.state, event), **changes)
        with self._transaction():
            self._save(changed, intent.state, f"{event}: {cause}" if cause else event, now, reports)
        _copy(changed, intent)

    def note(
        self, intent: Intent, cause: str, now: int, reports: Iterable[Report] = (), **changes: Any
    ) -> None:
        """Something about it changed and its state did not."""
        changed = msgspec.structs.replace(intent, **changes)
        with self._transaction():
            self._save(changed, intent.state, cause, now, reports)
        _copy(changed, intent)

    def fill(
        self,
        intent: Intent,
        event: str,
        trade_id: str,
        quantity: int,
        price: int,
        now: int,
        reports: Iterable[Report],
        **changes: Any,
    ) -> bool:
        """A trade of it: counted once, whoever tells and however often. False if it is known.

        An exchange's trade id tells the trades of one order apart, not those of two exchanges, days or sides.
        """
        changed = msgspec.structs.replace(
            intent,
            state=advance(intent.state, event),
            filled=intent.filled + quantity,
            turnover=intent.turnover + abs(quantity) * price,
            **changes,
        )
        with self._transaction():
            fresh = self._db.execute(
                "INSERT OR IGNORE INTO fill VALUES (?, ?, ?, ?, ?)",
                (trade_id, intent.key, quantity, price, now),
            ).rowcount
            if not fresh:
                return False
            self._save(changed, intent.state, f"{event}: trade {trade_id}", now, reports)
        _copy(changed, intent)
        return True

    def intents(self) -> Iterator[Intent]:
        """All of them, the oldest first."""
        with self._told():
            rows = self._db.execute("SELECT body FROM intent ORDER BY rowid").fetchall()
        yield from (_INTENT.decode(body) for (body,) in rows)

    def lines(self, key: str = "") -> list[tuple[str, str, str, str, int]]:
        """What happened, in order: key, state before, after, cause, wall ns."""
        with self._told():
            return self._db.execute(
                "SELECT key, before, after, cause, at FROM line WHERE ? IN ('', key) ORDER BY number", (key,)
            ).fetchall()

    def calls(self, since: int) -> list[int]:
        """When calls to the order endpoints left, wall ns, the oldest first: each is on record before it does."""
        with self._told():
            found = self._db.execute(
                "SELECT at FROM line WHERE at >= ? AND (before = ? AND after = ? OR cause IN (?, ?) OR cause LIKE ?)"
                " ORDER BY number",
                (since, CREATED, SENDING, CANCEL_SENT, MODIFY_SENT, f"{PRICED_AGAIN}%"),
            )
            return [at for (at,) in found]

    def trades(self) -> list[tuple[str, str, int, int, int]]:
        """Every fill: trade id, key, signed quantity, price units, wall ns."""
        with self._told():
            return self._db.execute(
                "SELECT trade_id, key, quantity, price, at FROM fill ORDER BY rowid"
            ).fetchall()

    # ── what the platform is told ────────────────────────────────────────────────────────────────────────────────

    def reports(self, after: int) -> list[tuple[int, Report]]:
        """Those with a number above ``after``."""
        with self._told():
            rows = self._db.execute(
                "SELECT number, body FROM report WHERE number > ? ORDER BY number", (after,)
            )
            return [(number, _REPORT.decode(body)) for number, body in rows]

    def tell(self, reports: Iterable[Report]) -> None:
        """Something to tell that changes no intent."""
        with self._transaction():
            self._tell(reports)

    # ── inside a transaction ─────────────────────────────────────────────────────────────────────────────────────

    def _save(self, intent: Intent, before: str, cause: str, now: int, reports: Iterable[Report]) -> None:
        self._db.execute(
            "UPDATE intent SET state = ?, epoch = ?, order_id = ?, body = ? WHERE key = ?",
            (intent.state, intent.epoch, intent.order_id, _PACK.encode(intent), intent.key),
        )
        self._line(intent.key, before, intent.state, cause, now)
        self._tell(reports)

    def _tell(self, reports: Iterable[Report]) -> None:
        self._db.executemany(
            "INSERT INTO report (body) VALUES (?)", [(_PACK.encode(one),) for one in reports]
        )

    def _line(self, key: str, before: str, after: str, cause: str, now: int) -> None:
        self._db.execute(
            "INSERT INTO line (key, before, after, cause, at) VALUES (?, ?, ?, ?, ?)",
            (key, before, after, cause, now),
        )

    def _set(self, name: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, value))

    @contextlib.contextmanager
    def _transaction(self) -> Generator[None]:
        """Ours, or nothing: who is no longer in charge writes nothing."""
        with self._begun():
            self.stand()
            yield

    @contextlib.contextmanager
    def _begun(self) -> Generator[None]:
        """All of it or nothing."""
        with self._told():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _told(self) -> Generator[None]:
        """sqlite's errors in our words."""
        try:
            yield
        except sqlite3.Error as error:
            raise DatabaseError(
                f"the order journal {self.path} cannot be used: {error}",
                fix="free the disk, or restore the file from a backup; no order leaves without it",
                path=str(self.path),
            ) from error


def _copy(source: Intent, target: Intent) -> None:
    """The caller's object follows what is on disk, and never precedes it."""
    for name in Intent.__struct_fields__:
        setattr(target, name, getattr(source, name))

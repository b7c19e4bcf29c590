"""The record of promotions: who approved which module for money, as a chain of signed records in a database.

    with Ledger.open(workspace, settings) as ledger:
        ledger.history("OpeningRange")
        ledger.verify()                      # [] when nothing was changed

The database is SQLite below the workspace's root, or PostgreSQL. A record is added in one exclusive transaction, in
which the table of moves is asked; nothing is ever changed or removed, and the database's triggers say so too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import msgspec
import sqlalchemy as sa

from alphapanda.certificate import Certificate, decode
from alphapanda.clock import wall_ns
from alphapanda.errors import AuthorizationError, ValidationError
from alphapanda.promotions import verify
from alphapanda.promotions.database import Database
from alphapanda.promotions.head import Head, HeadFile
from alphapanda.promotions.records import Record, digest_of_bytes, sealed
from alphapanda.promotions.states import CODE, NOTHING, moved
from alphapanda.promotions.tables import ARTIFACTS, RECORDS
from alphapanda.promotions.verify import Problem
from alphapanda.settings import PromotionSettings, Settings
from alphapanda.signing import Signer
from alphapanda.workspace import Workspace

HEAD = "promotions.json"


class Ledger:
    """One open record of promotions. DatabaseError from any method means that it did not happen."""

    def __init__(
        self, database: Database, head: HeadFile, settings: PromotionSettings, signer: Signer
    ) -> None:
        self._database, self._head, self.settings, self._signer = database, head, settings, signer

    @classmethod
    def open(cls, workspace: Workspace, settings: Settings, signer: Signer | None = None) -> Self:
        """The workspace's; made and migrated as needed. ``signer`` is this person (their kept key if None).
        DatabaseError where the database cannot be used or is of a later version."""
        own = signer or Signer.load()
        head = HeadFile(workspace.home / HEAD)
        return cls(Database(settings.database, workspace.root), head, settings.promotion, own)

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def key(self) -> str:
        """This person's public key."""
        return self._signer.public

    @property
    def trusted(self) -> frozenset[str]:
        """Public keys whose records count here: this person's, the second approver's, those in the settings."""
        return frozenset(
            {self._signer.public, self.settings.second_approver or "", *self.settings.trusted_keys} - {""}
        )

    # ── adding ───────────────────────────────────────────────────────────────────────────────────────────────────

    def append(self, record: Record, signer: Signer, artifacts: Mapping[str, str] | None = None) -> Record:
        """Add one: number, time, state, hashes and signature are filled in. ``artifacts`` are texts by kind, kept
        under their digest. AuthorizationError (E_PROMOTION) for a move that is not in the table, a key that is not
        trusted here, or a chain whose newest records are gone."""
        if signer.public not in self.trusted:
            raise AuthorizationError(
                f"the key {signer.public[:16]}... is not trusted here", fix=verify.TRUST, code=CODE
            )
        with self._database.transaction() as connection:
            number, previous = self._tail(connection)
            record = msgspec.structs.replace(
                record,
                number=number + 1,
                previous=previous,
                at=wall_ns(),
                state=moved(record.act, _standing(connection, record), record.role, record.refers),
            )
            record = sealed(record, signer)
            for kind, body in (artifacts or {}).items():
                _keep(connection, kind, body)
            connection.execute(RECORDS.insert().values(**msgspec.structs.asdict(record)))
        self._head.advance(Head(record.number, record.hash).signed(signer))
        return record

    def _tail(self, connection: sa.Connection) -> tuple[int, str]:
        """Number and hash of the newest record; refused where it is not the newest we have seen."""
        found = connection.execute(
            sa.select(RECORDS.c.number, RECORDS.c.hash).order_by(RECORDS.c.number.desc()).limit(1)
        ).first()
        number, previous = (int(found[0]), str(found[1])) if found else (0, "")
        head = self._head.read()
        if head is None and not number:
            self._head.advance(
                Head(0, "").signed(self._signer)
            )  # so that losing the first record is noticed too
            return number, previous
        there = "" if head is None or not head.number else _hash_of(connection, head.number)
        problem = verify.newest(head, number, there, self.trusted)
        verify.refuse([problem] if problem else [])
        return number, previous

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────

    def history(self, strategy: str | None = None) -> list[Record]:
        """All records, or those of one strategy, the oldest first."""
        return self._records(*([RECORDS.c.strategy == strategy] if strategy is not None else []))

    def current(self, strategy: str, namespace: str) -> Record | None:
        """The newest record of a strategy in a namespace; if there is none, the newest that holds for all."""
        for place in dict.fromkeys((namespace, "")):
            found = self._records(RECORDS.c.strategy == strategy, RECORDS.c.namespace == place)
            if found:
                return found[-1]
        return None

    def last_promoted(self, strategy: str, namespace: str) -> str | None:
        """The module that last went live there, as text; None if none ever did."""
        lives = [one for one in self.history(strategy) if one.act == "live" and one.namespace == namespace]
        return self.artifact(lives[-1].digest) if lives else None

    def record(self, number: int) -> Record:
        """One record. ValidationError if there is none of that number."""
        found = self._records(RECORDS.c.number == number)
        if not found:
            raise ValidationError(f"there is no record {number}", fix="see `alphapanda audit`", code=CODE)
        return found[0]

    def thread(self, number: int) -> list[Record]:
        """A record and those that go on with it, the oldest first."""
        return self._records(sa.or_(RECORDS.c.number == number, RECORDS.c.refers == number))

    def artifact(self, digest: str) -> str:
        """The text kept under a digest. ValidationError if there is none, or it was changed."""
        with self._database.transaction() as connection:
            body = connection.execute(
                sa.select(ARTIFACTS.c.body).where(ARTIFACTS.c.digest == digest)
            ).scalar()
        if body is None or digest_of_bytes(bytes(body)) != digest:
            raise ValidationError(
                f"what is kept as {digest[:16]} is {'missing' if body is None else 'changed'}",
                fix=verify.RESTORE,
                code=CODE,
            )
        return bytes(body).decode()

    def certificate(self, record: Record) -> Certificate:
        """The certificate a record names, checked. ValidationError if there is none or it was changed."""
        return decode(self.artifact(record.certificate).encode())

    def _records(self, *where: Any) -> list[Record]:
        with self._database.transaction() as connection:
            rows = connection.execute(sa.select(RECORDS).where(*where).order_by(RECORDS.c.number)).mappings()
            found = [verify.read_row(row) for row in rows]
        verify.refuse([one for one in found if isinstance(one, Problem)])
        return [one for one in found if isinstance(one, Record)]

    # ── trusting ─────────────────────────────────────────────────────────────────────────────────────────────────

    def verify(self, *, adopt: bool = False) -> list[Problem]:
        """Walk the whole chain: what is wrong with it, nothing if it is sound. A sound chain that is ahead of this
        workspace's note moves the note; ``adopt`` is a person's word that the note counts for nothing."""
        head = self._head.read()  # before the database, which may grow meanwhile
        with self._database.transaction() as connection:
            rows = connection.execute(sa.select(RECORDS).order_by(RECORDS.c.number)).mappings()
            records = [verify.read_row(row) for row in rows]
            kept = {
                row.digest: (str(row.kind), bytes(row.body))
                for row in connection.execute(sa.select(ARTIFACTS))
            }
        problems = [*verify.chain(records, self.trusted), *verify.artifacts(records, kept)]
        hashes = {0: ""} | {one.number: one.hash for one in records if isinstance(one, Record)}
        if not adopt:
            there = hashes.get(head.number) if head else None
            about_head = verify.newest(head, max(hashes), there, self.trusted)
            problems += [about_head] if about_head else []
        if not problems and (adopt or (head and head.number < max(hashes))):
            note = Head(max(hashes), hashes[max(hashes)]).signed(self._signer)
            (self._head.write if adopt else self._head.advance)(note)
        return problems

    def sound(self) -> None:
        """AuthorizationError (E_PROMOTION) unless ``verify`` finds nothing."""
        verify.refuse(self.verify())


def _standing(connection: sa.Connection, record: Record) -> str:
    """The state an act starts from: of the thread it goes on with, or of the version."""
    c = RECORDS.c
    if record.refers:
        mine = sa.or_(c.number == record.refers, c.refers == record.refers)
    else:
        same = (c.strategy == record.strategy, c.digest == record.digest, c.parameters == record.parameters)
        mine = sa.and_(*same, c.act.in_(("draft", "paper", "certify")))
    return (
        connection.execute(sa.select(c.state).where(mine).order_by(c.number.desc()).limit(1)).scalar()
        or NOTHING
    )


def _hash_of(connection: sa.Connection, number: int) -> str | None:
    return connection.execute(sa.select(RECORDS.c.hash).where(RECORDS.c.number == number)).scalar()


def _keep(connection: sa.Connection, kind: str, body: str) -> None:
    digest = digest_of_bytes(body.encode())
    if connection.execute(sa.select(ARTIFACTS.c.kind).where(ARTIFACTS.c.digest == digest)).first() is None:
        connection.execute(ARTIFACTS.insert().values(digest=digest, kind=kind, body=body.encode()))

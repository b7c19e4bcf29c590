"""Somebody who may write what they like into the database, and has no key: each change is found, and nothing trades."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from alphapanda.clock import wall_ns
from alphapanda.errors import AlphaPandaException, AuthorizationError, DatabaseError
from alphapanda.promotions import approvals
from alphapanda.promotions.head import Head, HeadFile
from alphapanda.promotions.ledger import HEAD
from alphapanda.promotions.records import Record, sealed
from alphapanda.promotions.tables import ARTIFACTS, RECORDS
from alphapanda.workspace import Workspace
from tests.promoted import SOURCE, Desk, certificate, new_signer

NEWEST = 6
KINDS = ("module", "parameters", "certificate")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, database: Callable[[], dict[str, Any]]) -> Iterator[Desk]:
    """Two approvals, one of them used; what a test changes it puts back. Its database has no triggers any more."""
    made = Desk(tmp_path_factory.mktemp("tampered"), database())
    proof = made.certified()
    used = made.arm(proof)
    approvals.live(made.ledger, made.signer, used, "run-1")
    made.arm(proof)
    for attack in (
        RECORDS.update().values(reason="x"),
        RECORDS.delete(),
        ARTIFACTS.update().values(kind="x"),
    ):
        with pytest.raises(DatabaseError, match="only added to"):
            made.attack(then=lambda connection, attack=attack: connection.execute(attack) and None)
    made.disarm_triggers()
    yield made
    assert made.ledger.verify() == []
    assert made.admit().number == NEWEST


@pytest.fixture
def put_back(desk: Desk) -> Iterator[None]:
    """All as it was, afterwards."""
    with desk.ledger._database.transaction() as connection:
        before = {
            table: connection.execute(sa.select(table)).mappings().all() for table in (RECORDS, ARTIFACTS)
        }
    note = Workspace(desk.root).home / HEAD
    kept = note.read_bytes()
    yield
    with desk.ledger._database.transaction() as connection:
        for table, rows in before.items():
            connection.execute(table.delete())
            connection.execute(table.insert(), [dict(row) for row in rows])
    note.write_bytes(kept)


pytestmark = pytest.mark.usefixtures("put_back")


def refused(desk: Desk, says: str) -> None:
    """The verification names it, and no run is let near money."""
    assert says in desk.messages()
    with pytest.raises(AuthorizationError) as caught:
        desk.admit()
    assert caught.value.code == "E_PROMOTION"
    assert says in caught.value.message
    assert caught.value.fix


def flipped(value: Any) -> Any:
    """The same with one bit changed."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value ^ 1
    if isinstance(value, bytes):
        return bytes([value[0] ^ 1]) + value[1:]
    return chr(ord(value[0]) ^ 1) + value[1:] if value else "x"


@pytest.mark.parametrize("number", [3, 4, NEWEST])
@pytest.mark.parametrize("column", [name for name in Record.__struct_fields__ if name != "number"])
def test_one_bit_of_any_column(desk: Desk, column: str, number: int) -> None:
    there = RECORDS.c.number == number

    def change(connection: sa.Connection) -> None:
        value = connection.execute(sa.select(RECORDS.c[column]).where(there)).scalar()
        connection.execute(RECORDS.update().where(there).values({column: flipped(value)}))

    desk.attack(then=change)
    refused(desk, f"record {number} ")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", [0, -1])
def test_one_bit_of_what_was_approved(desk: Desk, kind: str, place: int) -> None:
    there = ARTIFACTS.c.kind == kind

    def change(connection: sa.Connection) -> None:
        body = bytearray(connection.execute(sa.select(ARTIFACTS.c.body).where(there)).scalar() or b"")
        body[place] ^= 1
        connection.execute(ARTIFACTS.update().where(there).values(body=bytes(body)))

    desk.attack(then=change)
    refused(desk, f"the {kind} ")


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_approved_is_gone_or_something_else(desk: Desk, kind: str) -> None:
    desk.attack("UPDATE artifacts SET kind = 'x' WHERE kind = :kind", kind=kind)
    refused(desk, f"the {kind} of record")
    desk.attack("DELETE FROM artifacts WHERE kind = 'x'")
    refused(desk, f"the {kind} of record")


@pytest.mark.parametrize(("one", "other"), [(1, 2), (3, 4), (4, NEWEST), (5, NEWEST)])
def test_two_records_in_each_others_place(desk: Desk, one: int, other: int) -> None:
    for before, after in ((one, 99), (other, one), (99, other)):
        desk.attack("UPDATE records SET number = :after WHERE number = :before", before=before, after=after)
    refused(desk, f"record {one} does not follow")


def test_one_in_the_middle_is_gone(desk: Desk) -> None:
    desk.attack("DELETE FROM records WHERE number = 4")
    refused(desk, "record 4 is missing")
    for number in (5, 6):
        desk.attack("UPDATE records SET number = :n - 1 WHERE number = :n", n=number)
    refused(desk, "record 4 does not follow")


@pytest.mark.parametrize("left", [5, 4, 0])
def test_the_newest_are_cut_off(desk: Desk, left: int) -> None:
    desk.attack("DELETE FROM records WHERE number > :left", left=left)
    refused(desk, "cut off")
    with pytest.raises(AuthorizationError, match="cut off"):  # nor is anything built on what is left
        approvals.draft(desk.ledger, desk.signer, certificate(desk.signer, strategy="Other"))


def test_one_of_somebody_elses(desk: Desk) -> None:
    """A whole forged approval: chained, hashed and signed, with a key of the attacker's."""
    newest, forger = desk.ledger.history()[-1], new_signer()
    forged = msgspec.structs.replace(newest, number=NEWEST + 1, previous=newest.hash, capital=10**12)
    rows = [msgspec.structs.asdict(sealed(forged, forger))]
    desk.attack(then=lambda connection: connection.execute(RECORDS.insert(), rows) and None)
    refused(desk, "a key this workspace does not trust")
    note = HeadFile(Workspace(desk.root).home / HEAD)
    note.write(Head(NEWEST + 1, rows[0]["hash"]).signed(forger))
    refused(desk, "note of the newest record was changed")
    with pytest.raises(AuthorizationError, match="not trusted here"):
        desk.ledger.append(forged, forger)


def test_the_whole_chain_written_anew(desk: Desk) -> None:
    """As above, from the first record on, so that every hash fits."""
    forger, previous, rows = new_signer(), "", list[dict[str, Any]]()
    for record in desk.ledger.history():
        anew = sealed(msgspec.structs.replace(record, previous=previous, capital=5), forger)
        previous = anew.hash
        rows.append(msgspec.structs.asdict(anew))
    desk.attack(
        "DELETE FROM records", then=lambda connection: connection.execute(RECORDS.insert(), rows) and None
    )
    refused(desk, "a key this workspace does not trust")


def test_a_used_approval_written_once_more(desk: Desk) -> None:
    """A replay: the same signed row under a later number, or with its use removed."""
    used = msgspec.structs.asdict(desk.ledger.record(4)) | {"number": NEWEST + 1, "previous": "x"}
    desk.attack(then=lambda connection: connection.execute(RECORDS.insert(), [used]) and None)
    refused(desk, f"record {NEWEST + 1} does not follow")


def test_the_note_is_lost_turned_back_or_no_note(desk: Desk) -> None:
    note = Workspace(desk.root).home / HEAD
    kept = note.read_bytes()
    note.unlink()
    refused(desk, "lost its note")
    for changed in (
        kept.replace(b'"number":6', b'"number":5'),
        b"",
        b"{}",
        kept.replace(b'"hash":"', b'"hash":"0'),
    ):
        note.write_bytes(changed)
        refused(desk, "note of the newest record was changed")
    assert desk.ledger.verify(adopt=True) == []


def test_an_old_copy_of_the_database(tmp_path: Path) -> None:
    """Put back to use an approval twice: the file as it was before the run took it."""
    desk = Desk(tmp_path, {})
    armed = desk.arm(desk.certified())
    file, old = Workspace(tmp_path).home / "promotions.sqlite", tmp_path / "old.sqlite"
    shutil.copy(file, old)
    approvals.live(desk.ledger, desk.signer, armed, "run-1")
    approvals.retire(desk.ledger, desk.signer, armed, reason="the day is over")
    shutil.copy(old, file)
    refused(desk, "cut off: the newest were removed, or an old copy of the database was put back")
    assert desk.ledger.verify(adopt=True) == []  # a person's word, after a disk was lost
    assert desk.admit() == armed


def test_another_end_of_the_chain(tmp_path: Path) -> None:
    """Honestly signed, and not what this workspace has seen: an old copy to which another workspace has added."""
    desk = Desk(tmp_path, {"sqlite_path": str(tmp_path / "shared.sqlite")})
    made = desk.certified()
    shutil.copy(tmp_path / "shared.sqlite", tmp_path / "old.sqlite")
    desk.arm(made)
    shutil.copy(tmp_path / "old.sqlite", tmp_path / "shared.sqlite")
    other = Desk(tmp_path / "elsewhere", {"sqlite_path": str(tmp_path / "shared.sqlite")}, desk.signer)
    assert other.ledger.verify(adopt=True) == []
    other.arm(made)
    assert other.admit()
    refused(desk, "record 4 is not the one this workspace has seen")


def test_the_certificate_of_another_module(tmp_path: Path) -> None:
    desk = Desk(tmp_path, {})
    other = desk.certified(source=SOURCE + "#")
    armed = desk.arm(desk.certified())
    desk.ledger.append(msgspec.structs.replace(armed, certificate=other.identity), desk.signer)
    refused(desk, "is about another module")


def test_an_old_approval_of_yesterday(tmp_path: Path) -> None:
    desk = Desk(tmp_path, {})
    made = desk.certified()
    yesterday = desk.arm(made)
    approvals.live(desk.ledger, desk.signer, yesterday, "run-1")
    with pytest.raises(AlphaPandaException, match="has to be ARMED"):
        approvals.live(desk.ledger, desk.signer, yesterday, "run-2")
    with pytest.raises(AuthorizationError, match="expired"):
        desk.admit(run="run-1", now=wall_ns() + 10**14)

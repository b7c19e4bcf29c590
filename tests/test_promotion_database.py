"""The record of promotions between processes, crashes and versions, and as people at a shell meet it."""

from __future__ import annotations

import json
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from alphapanda.commands import cli
from alphapanda.errors import ConfigurationError, DatabaseError, InfrastructureError
from alphapanda.promotions.head import HeadFile
from alphapanda.promotions.ledger import HEAD, Ledger
from alphapanda.promotions.tables import METADATA
from alphapanda.settings import Settings
from alphapanda.signing import Signer
from alphapanda.workspace import Workspace
from tests.promoted import Desk, certificate, new_signer, two_people

CANARY = "cAnArY7passNeverShown8x"
TWICE = """
import sys
from pathlib import Path
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from alphapanda.promotions import approvals
from alphapanda.signing import Signer
from tests.promoted import Desk, certificate
root, address, name = sys.argv[1:]
signer = Signer(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(sys.stdin.readline())))
desk = Desk(Path(root), {"postgres_url": address} if address else {}, signer)
print("ready", flush=True)
sys.stdin.readline()
for n in range(15):
    approvals.draft(desk.ledger, signer, certificate(signer, strategy=f"{name}{n}"))
"""


@pytest.fixture
def desk(tmp_path: Path, database: Callable[[], dict[str, Any]]) -> Desk:
    return Desk(tmp_path, database())


@pytest.fixture
def two(tmp_path: Path, database: Callable[[], dict[str, Any]]) -> tuple[Desk, Desk]:
    return two_people(tmp_path, database())


# ── processes, crashes, versions ─────────────────────────────────────────────────────────────────────────────────


def test_two_processes_append_at_once_and_the_chain_holds(
    tmp_path: Path, database: Callable[[], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    settings, signer = database(), new_signer()
    secret = signer._key.private_bytes_raw().hex()
    given = [sys.executable, "-c", TWICE, str(tmp_path), settings.get("postgres_url", "")]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    both = [subprocess.Popen([*given, name], **pipes) for name in ("one", "two")]
    for child in both:
        _tell(child, secret)
    for child in both:  # both have opened the database when either writes
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in both:
        _tell(child, "go")
    for child in both:
        child.communicate(timeout=50)
        assert child.returncode == 0
    desk = Desk(tmp_path, settings, signer)
    assert desk.ledger.verify() == []
    assert [one.number for one in desk.ledger.history()] == list(range(1, 31))
    assert json.loads((Workspace(tmp_path).home / HEAD).read_bytes())["number"] == 30


def _tell(child: subprocess.Popen[str], line: str) -> None:
    assert child.stdin is not None
    child.stdin.write(f"{line}\n")
    child.stdin.flush()


def test_a_crash_between_the_database_and_the_note_is_no_tampering(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.certified()
    with monkeypatch.context() as patch:
        patch.setattr(HeadFile, "advance", _killed)
        with pytest.raises(InfrastructureError):
            desk.arm(certificate(desk.signer))
    note = Workspace(desk.root).home / HEAD
    assert json.loads(note.read_bytes())["number"] == 3
    assert desk.ledger.verify() == []
    assert json.loads(note.read_bytes())["number"] == 4


def _killed(*_: object) -> None:
    raise InfrastructureError("killed here")


def test_tables_are_those_of_the_migrations(desk: Desk) -> None:
    with desk.ledger._database.transaction() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_a_database_of_a_later_version_is_refused(desk: Desk) -> None:
    desk.attack("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(DatabaseError, match="later version") as caught:
        desk.again()
    assert "upgrade" in caught.value.fix


def test_no_error_shows_the_address() -> None:
    user = f"someone:{CANARY}"
    for scheme, host, kind in (
        ("postgresql", "127.0.0.1:1", DatabaseError),
        ("postgresql", "127.0.0.1:bad", ConfigurationError),
        ("mysql", "127.0.0.1", ConfigurationError),
    ):
        address = f"{scheme}://{user}@{host}/name"
        with pytest.raises(kind) as caught:
            Ledger.open(Workspace(Path()), Settings(database={"postgres_url": address}), new_signer())
        assert CANARY not in "".join(traceback.format_exception(caught.value))
        assert CANARY not in repr(vars(caught.value))


def test_a_file_that_is_no_database_is_an_error_with_a_fix(tmp_path: Path) -> None:
    (tmp_path / "x.sqlite").write_bytes(
        b"not a database, but a text that is long enough to be looked at" * 20
    )
    with pytest.raises(DatabaseError, match="cannot be used"):
        Desk(tmp_path, {"sqlite_path": "x.sqlite"})


def test_the_database_is_the_persons_own(tmp_path: Path) -> None:
    desk = Desk(tmp_path, {})
    desk.certified()
    for name in (HEAD, "promotions.sqlite"):
        assert (Workspace(tmp_path).home / name).stat().st_mode & 0o777 == 0o600


# ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_audit_and_approve_from_a_shell(
    two: tuple[Desk, Desk], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    asks, approves = two
    monkeypatch.setattr(Settings, "load", lambda: approves.settings)
    monkeypatch.setattr(Signer, "load", lambda: approves.signer)
    monkeypatch.setenv("ALPHAPANDA_HOME", str(approves.root))
    monkeypatch.setenv("COLUMNS", "160")
    assert cli.main(["audit"]) == 1
    assert "never seen" in capsys.readouterr().out
    assert cli.main(["audit", "--adopt"]) == 0
    assert cli.main(["approve", "4", "--account", "ZZ9999"]) == 2
    assert "class Cross" in capsys.readouterr().out
    assert cli.main(["approve", "4", "--account", "AB1234", "--reason", "read it"]) == 0
    assert cli.main(["approve", "4", "--account", "AB1234"]) == 1
    capsys.readouterr()
    assert cli.main(["audit", "Cross", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [one["act"] for one in shown["records"]] == ["draft", "paper", "certify", "request", "approve"]
    assert cli.main(["audit"]) == 0
    assert "read it" in capsys.readouterr().out
    asks.disarm_triggers()
    asks.attack("UPDATE records SET reason = 'it was not me' WHERE number = 5")
    assert cli.main(["audit", "--verify"]) == 1
    assert "record 5 was changed" in capsys.readouterr().out

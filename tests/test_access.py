"""Tokens and tickets: who may do what, and that nothing kept on disk opens a door."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from alphapanda.access import ROLES, TICKET_SECONDS, Access, Person
from alphapanda.errors import ConfigurationError, UnknownNameError, ValidationError
from alphapanda.events import DAY, SECOND
from alphapanda.workspace import Workspace


class Clock:
    now = 1_800_000_000 * SECOND

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def test_a_role_may_do_what_those_before_it_may() -> None:
    may = {have: [want for want in ROLES if Person("a", have).may(want)] for have in ROLES}
    assert may == {"view": ["view"], "operate": ["view", "operate"], "live": ["view", "operate", "live"]}
    assert not Person("a", "live").may("root")


def test_a_token_is_its_owners_and_lies_nowhere(workspace: Workspace) -> None:
    access = Access(workspace)
    token = access.add("asha", "operate")
    person = access.person(token)
    assert person is not None
    assert (person.name, person.role) == ("asha", "operate")
    for wrong in ("", token[:-1], token + "x", token.swapcase(), "ap_", "x" * 10_000, "\ud800", "\x00"):
        assert access.person(wrong) is None
    file = workspace.home / "tokens.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert token not in file.read_text()
    assert token[3:] not in file.read_text()
    assert token not in repr(access)


def test_two_tokens_share_nothing(workspace: Workspace) -> None:
    access = Access(workspace)
    tokens = {access.add(f"p{n}", "view") for n in range(20)}
    assert len(tokens) == 20
    assert all(len(token) >= 43 for token in tokens)  # 256 bits in 6 each


def test_a_token_ends_when_it_was_said_to(workspace: Workspace) -> None:
    clock = Clock()
    access = Access(workspace, clock)
    token = access.add("asha", "view", days=1)
    clock.now += DAY - 1
    assert access.person(token)
    clock.now += 1
    assert access.person(token) is None
    assert [one.name for one in access.people()] == ["asha"]


def test_what_another_process_adds_or_revokes_counts_at_once(workspace: Workspace) -> None:
    server, shell = Access(workspace), Access(workspace)
    assert server.person("ap_none") is None
    token = shell.add("asha", "view")
    assert server.person(token)
    shell.revoke("asha")
    assert server.person(token) is None


@pytest.mark.parametrize("harm", ["text", "writable", "folder"])
def test_a_file_that_cannot_be_trusted_lets_nobody_in(workspace: Workspace, harm: str) -> None:
    access, file = Access(workspace), workspace.home / "tokens.json"
    token = access.add("asha", "live")
    assert access.person(token)
    if harm == "writable":
        file.chmod(0o666)
    else:
        file.unlink()
        if harm == "folder":
            file.mkdir()
        else:
            file.write_text('[{"person": {"name": "eve", "role": "root"}, "digest": ""}]')
    assert access.person(token) is None
    with pytest.raises(ConfigurationError):
        access.people()
    with pytest.raises(ConfigurationError):  # nor is it overwritten with one that forgets the others
        access.add("bala", "view")


def test_names_and_roles_are_checked(workspace: Workspace) -> None:
    access = Access(workspace)
    access.add("asha", "view")
    for name in ("", " ", "a\nb", "x" * 61, " asha", "\x1b[31m"):
        with pytest.raises(ValidationError):
            access.add(name, "view")
    with pytest.raises(ValidationError, match="already"):
        access.add("asha", "live")
    with pytest.raises(UnknownNameError):
        access.add("bala", "root")
    for days in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValidationError):
            access.add("bala", "view", days)
    with pytest.raises(UnknownNameError):
        access.revoke("bala")
    assert [(one.name, one.role) for one in access.people()] == [("asha", "view")]


def test_a_ticket_is_good_once_and_for_a_minute(workspace: Workspace) -> None:
    clock = Clock()
    shell, server = Access(workspace, clock), Access(workspace, clock)
    first, second = shell.ticket("asha", "operate"), shell.ticket("asha", "operate")
    person = server.use_ticket(first)
    assert person is not None
    assert (person.name, person.role) == ("asha", "operate")
    assert server.use_ticket(first) is None
    clock.now += TICKET_SECONDS * SECOND
    assert server.use_ticket(second) is None
    assert server.use_ticket("../tokens.json") is None
    assert server.person(first) is None  # a ticket is no token
    assert all(first not in path.name for path in (workspace.home / "tickets").iterdir())


def test_of_many_who_use_one_ticket_one_gets_in(workspace: Workspace) -> None:
    access, found = Access(workspace), []
    for _ in range(10):
        text, start = access.ticket("asha", "view"), threading.Barrier(8)

        def use(text: str = text, start: threading.Barrier = start) -> None:
            start.wait()
            found.append(Access(workspace).use_ticket(text))

        threads = [threading.Thread(target=use) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sum(one is not None for one in found) == 10


def test_old_tickets_are_swept(workspace: Workspace) -> None:
    access = Access(workspace)
    access.ticket("asha", "view")
    (old,) = (workspace.home / "tickets").iterdir()
    os.utime(old, (1, 1))
    access.ticket("asha", "view")
    assert not old.exists()


def test_the_command_shows_a_token_once_and_writes_who_made_it(tmp_path: Path) -> None:
    def typed(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "alphapanda", "token", *words]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "ALPHAPANDA_HOME": str(tmp_path), "PYTHONWARNINGS": "error"},
        )

    made = typed("add", "asha", "--role", "live", "--days", "7")
    assert made.returncode == 0, made.stderr
    person = Access(Workspace(tmp_path)).person(made.stdout.strip())
    assert person is not None
    assert person.role == "live"
    listed = typed("list")
    assert "asha" in listed.stdout
    again = typed("add", "asha")
    assert again.returncode == 2
    assert "already" in again.stderr
    assert typed("revoke", "asha").returncode == 0
    assert Access(Workspace(tmp_path)).person(made.stdout.strip()) is None
    written = "".join(path.read_text() for path in Workspace(tmp_path).logs.glob("*.jsonl"))
    assert "token.added" in written
    assert "token.revoked" in written
    assert made.stdout.strip() not in written + listed.stdout

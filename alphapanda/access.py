"""Who may see and do what over HTTP: tokens and roles, the same for the API and the pages.

    access = Access(workspace)
    token = access.add("asha", "operate")       # shown once; kept as its SHA-256 alone
    person = access.person(token)
    person.may("view")

Rules. A token is 256 random bits, so a plain hash of it cannot be turned back. Whatever cannot be read lets nobody in.
A ticket opens a page for somebody who stands at this machine: it is good once, for a minute, and made by whoever can
write in the workspace.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import os
import secrets
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Literal, get_args

import msgspec

from alphapanda.clock import wall_ns
from alphapanda.errors import ConfigurationError, InfrastructureError, UnknownNameError, ValidationError
from alphapanda.events import DAY, SECOND
from alphapanda.logs.redaction import register_secret
from alphapanda.workspace import Workspace, replace_file

Role = Literal["view", "operate", "live"]
ROLES: tuple[Role, ...] = get_args(Role)  # each may do what those before it may
TICKET_SECONDS = 60
NAME_MAX, DAYS_MAX, TOKEN_MAX = 60, 3650, 200  # characters; days; characters of anything that may be a token
PREFIX = "ap_"  # by which people, and scanners of secrets, know one


class Person(msgspec.Struct, frozen=True):
    """Somebody with a token. ``until``: when it ends, ``at``: when it was made; wall ns, 0: never, or not known."""

    name: str
    role: Role
    until: int = 0
    at: int = 0

    def may(self, role: str) -> bool:
        """Whether this person's role covers ``role``; an unknown one is covered by nobody's."""
        return role in ROLES and ROLES.index(self.role) >= ROLES.index(role)


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token as it lies in the file, or a ticket."""

    person: Person
    digest: str  # SHA-256, hex


class Access:
    """The tokens of one workspace; a change by another process is seen with the next question."""

    def __init__(self, workspace: Workspace, clock: Callable[[], int] = wall_ns) -> None:
        self._workspace, self._clock = workspace, clock
        self._file = workspace.home / "tokens.json"
        self._stamp: tuple[int, int, int] | None = None
        self._kept: tuple[_Kept, ...] = ()

    def __repr__(self) -> str:
        return f"Access({str(self._file)!r})"

    # ── tokens

    def add(self, name: str, role: str, days: float | None = None) -> str:
        """A new token, which nobody can show again; it ends after ``days``, else never. ValidationError for a name
        that is taken or a role that is none."""
        _check(name, role)
        if days is not None and not 0 < days <= DAYS_MAX:
            raise ValidationError(f"{days:g} days", fix=f"name more than 0 and at most {DAYS_MAX} days")
        at, token = self._clock(), PREFIX + secrets.token_urlsafe(32)
        register_secret(token)
        until = at + int(days * DAY) if days is not None else 0
        person = msgspec.convert({"name": name, "role": role, "until": until, "at": at}, Person)
        with self._alone():
            kept = self._read()
            if any(one.person.name == name for one in kept):
                raise ValidationError(
                    f"{name!r} has a token already",
                    fix=f"alphapanda token revoke {name}",
                    code="E_NAME_TAKEN",
                )
            self._write((*kept, _Kept(person, _digest(token))))
        return token

    def revoke(self, name: str) -> Person:
        """This token opens nothing any more. UnknownNameError if there is none of this name."""
        with self._alone():
            kept = self._read()
            found = next((one.person for one in kept if one.person.name == name), None)
            if found is None:
                raise UnknownNameError("token", name, (one.person.name for one in kept))
            self._write(tuple(one for one in kept if one.person.name != name))
        return found

    def people(self) -> list[Person]:
        """Everybody who has a token, also one that has ended. ConfigurationError for a file that cannot be trusted."""
        return [one.person for one in self._read()]

    def person(self, token: str) -> Person | None:
        """Whose token this is; None if it is nobody's, has ended, or the file cannot be trusted.

        Takes as long for a token that is nearly right as for one that is not.
        """
        if not 0 < len(token) <= TOKEN_MAX:
            return None
        try:
            kept = self._newest()
        except ConfigurationError:
            return None
        given, found = _digest(token), None
        for one in kept:
            if hmac.compare_digest(one.digest, given):
                found = one.person
        return found if found is not None and (not found.until or self._clock() < found.until) else None

    # ── tickets

    def ticket(self, name: str, role: str) -> str:
        """What opens a page once, within a minute, for whoever is handed it."""
        _check(name, role)
        folder, now, text = self._tickets(), self._clock(), secrets.token_urlsafe(32)
        for old in folder.iterdir():
            with contextlib.suppress(OSError):  # another process may be sweeping, too
                if old.stat().st_mtime_ns < wall_ns() - 2 * TICKET_SECONDS * SECOND:
                    old.unlink()
        register_secret(text)
        facts = {"name": name, "role": role, "until": now + TICKET_SECONDS * SECOND, "at": now}
        kept = _Kept(msgspec.convert(facts, Person), _digest(text))
        replace_file(folder / kept.digest, msgspec.json.encode(kept))
        return text

    def use_ticket(self, text: str) -> Person | None:
        """Who was handed this ticket; None if it is none, is too old, or has been used."""
        if not 0 < len(text) <= TOKEN_MAX:
            return None
        path = self._tickets() / _digest(text)
        try:
            kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
            path.unlink()  # of two that read it, one can remove it
        except (OSError, msgspec.MsgspecError):
            return None
        return kept.person if self._clock() < kept.person.until else None

    def _tickets(self) -> Path:
        folder = self._workspace.home / "tickets"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise InfrastructureError(
                f"{folder} cannot be made: {error.strerror}", fix="free its name"
            ) from None
        return folder

    # ── the file

    @contextlib.contextmanager
    def _alone(self) -> Generator[None]:
        with (self._workspace.home / "tokens.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _newest(self) -> tuple[_Kept, ...]:
        """What the file says now; it is read again when it has changed."""
        try:
            found = self._file.stat()
        except FileNotFoundError:
            self._stamp, self._kept = None, ()
            return ()
        except OSError:
            return self._read()
        stamp = found.st_ino, found.st_mtime_ns, found.st_ctime_ns  # a chmod changes the last
        if stamp != self._stamp:
            self._stamp = None
            self._kept, self._stamp = self._read(), stamp
        return self._kept

    def _read(self) -> tuple[_Kept, ...]:
        fix = "remove it and make new tokens: alphapanda token add NAME"
        try:
            with self._file.open("rb") as file:
                mode, body = os.fstat(file.fileno()).st_mode, file.read()
            if mode & 0o022:
                raise ConfigurationError(f"others can write {self._file}", fix=fix, code="E_SECRET_EXPOSED")
            return msgspec.json.decode(body, type=tuple[_Kept, ...])
        except FileNotFoundError:
            return ()
        except (OSError, msgspec.MsgspecError):
            raise ConfigurationError(f"{self._file} cannot be read", fix=fix, code="E_TOKENS") from None

    def _write(self, kept: tuple[_Kept, ...]) -> None:
        replace_file(self._file, msgspec.json.format(msgspec.json.encode(kept)))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _check(name: str, role: str) -> None:
    if not 0 < len(name) <= NAME_MAX or not name.isprintable() or name != name.strip():
        raise ValidationError(
            f"the name {name!r:.80}", fix=f"1 to {NAME_MAX} printable characters, such as asha-laptop"
        )
    if role not in ROLES:
        raise UnknownNameError("role", role, ROLES)

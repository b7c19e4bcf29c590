"""Places for secrets: the system's keyring, and a file that only its owner can read.

Each keeps some bytes by name; ``own_secret`` is what a workspace draws for itself. No error names a value, or has one
as its context.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from pathlib import Path
from typing import Any, Literal, Protocol

from alphapanda.errors import ConfigurationError, InfrastructureError
from alphapanda.workspace import replace_file

SERVICE = "alphapanda"  # as the keyring's own window shows it
REAL = 1.0  # priority of a keyring that keeps secrets encrypted; null and failing ones say less

Source = Literal["settings", "keyring", "file"]


class Place(Protocol):
    """Somewhere secrets are kept."""

    source: Source

    def read(self, name: str) -> bytes | None: ...
    def write(self, name: str, data: bytes) -> None: ...
    def remove(self, name: str) -> None: ...


def places() -> list[Place]:
    """The keyring, where the system has one, and the file."""
    found: list[Place] = [_File()]
    try:
        import keyring
        from keyring import errors
    except ImportError:
        return found
    backend = keyring.get_keyring()
    try:
        good = float(backend.priority) >= REAL
    except Exception:  # noqa: BLE001 - what a back end of somebody else raises here is its own
        good = False
    return [_Keyring(backend, errors.PasswordDeleteError), *found] if good else found


class _Keyring:
    """The system's keyring; its faults in our words, without theirs: those may hold what was handed in."""

    source: Source = "keyring"

    def __init__(self, backend: Any, absent: type[Exception]) -> None:
        self._backend, self._absent = backend, absent

    def read(self, name: str) -> bytes | None:
        found = self._asked("get_password", SERVICE, name)
        return None if found is None else str(found).encode()

    def write(self, name: str, data: bytes) -> None:
        self._asked("set_password", SERVICE, name, data.decode())

    def remove(self, name: str) -> None:
        self._asked("delete_password", SERVICE, name)

    def _asked(self, what: str, *given: str) -> object:
        fault = ""
        try:
            return getattr(self._backend, what)(*given)
        except self._absent:
            return None
        except Exception as error:  # noqa: BLE001 - back ends raise what their system raises
            fault = type(error).__name__
        raise InfrastructureError(
            f"the system's keyring cannot be used ({fault})",
            fix="unlock it; or set PYTHON_KEYRING_BACKEND=keyring.backends.null.Keyring to keep the login in a file",
            code="E_KEYRING",
        )


class _File:
    """A file of mode 0600 in a folder that only its owner may write."""

    source: Source = "file"

    def read(self, name: str) -> bytes | None:
        path = path_of(name)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigurationError(
                f"{path} cannot be read: {error.strerror}",
                fix=f"remove it (it must be a file of your own), then `alphapanda login`: rm {path}",
                code="E_SECRET_EXPOSED",
            ) from None
        with os.fdopen(descriptor, "rb") as file:
            _sound(path, os.fstat(descriptor))
            return file.read()

    def write(self, name: str, data: bytes) -> None:
        path = path_of(name)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if path.parent.stat().st_mode & 0o022:
                path.parent.chmod(0o700)
            replace_file(path, data)
        except OSError as error:
            fault = error.strerror or type(error).__name__
        else:
            return
        raise InfrastructureError(
            f"{path} cannot be written: {fault}", fix="set XDG_CONFIG_HOME to a folder of your own"
        )

    def remove(self, name: str) -> None:
        try:
            path_of(name).unlink(missing_ok=True)
        except OSError as error:
            raise InfrastructureError(
                f"{path_of(name)} cannot be removed: {error.strerror}", fix="remove it by hand"
            ) from None


def own_secret(path: Path, fix: str, *, make: bool = True) -> str:
    """The 64 hex digits in a file of the workspace, drawn once where ``make`` and nobody did before.

    ConfigurationError if others can read it (E_SECRET_EXPOSED; ``fix`` says what to do), or if there are none."""
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigurationError(f"others can read {path}", fix=fix, code="E_SECRET_EXPOSED")
        known = path.read_text("ascii", "replace").strip()
    except FileNotFoundError:
        known = ""
    if re.fullmatch("[0-9a-f]{64}", known):
        return known
    if not make:
        raise ConfigurationError(f"{path} is missing or damaged", fix=fix)
    replace_file(path, (known := secrets.token_hex(32)).encode())
    return known


def path_of(name: str) -> Path:
    base = os.environ.get("XDG_CONFIG_HOME", "")
    folder = Path(base) if base.startswith("/") else Path.home() / ".config"
    return folder / "alphapanda" / f"{name}.json"


def _sound(path: Path, found: os.stat_result) -> None:
    """Refuse a file that is not its owner's alone: whoever reads the token can trade."""
    mode, folder = stat.S_IMODE(found.st_mode), path.parent.stat()
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid():
        message, fix = "is not a file of yours", f"rm {path}"
    elif mode & 0o077:
        message, fix = f"has mode {mode:04o}: others can read the login in it", f"chmod 600 {path}"
    elif folder.st_mode & 0o022:
        mode = stat.S_IMODE(folder.st_mode)
        message, fix = (
            f"lies in a folder of mode {mode:04o}: others can replace it",
            f"chmod 700 {path.parent}",
        )
    else:
        return
    raise ConfigurationError(
        f"{path} {message}",
        fix=f"{fix}; if other people use this machine, log in anew: `alphapanda login`",
        code="E_SECRET_EXPOSED",
        path=str(path),
        mode=f"{mode:04o}",
    )

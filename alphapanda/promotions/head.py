"""The newest record, noted outside the database: what notices that the newest records were cut off.

The note is replaced after each transaction, never before. So a crash between the two leaves a note that is behind: the
records after it are chained and signed, and the note follows. A note that is ahead of the database was never written
by us in that order: records were removed, or an old copy was put back. The note is signed, so nobody can turn it back
by hand; who puts back an old note together with the old database is not noticed here, but has only approvals that
were used or have expired since.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from alphapanda.errors import InfrastructureError
from alphapanda.promotions.records import canonical
from alphapanda.signing import Signer, signed_by
from alphapanda.workspace import replace_file

PURPOSE = "alphapanda newest record "


class Head(msgspec.Struct, frozen=True):
    """A record's number and hash (0 and "": none yet), and who noted them."""

    number: int
    hash: str
    key: str = ""
    signature: str = ""

    @property
    def _body(self) -> bytes:
        return (PURPOSE + canonical([self.number, self.hash])).encode()

    @property
    def is_signed(self) -> bool:
        """Whether it is as its key's holder wrote it."""
        return signed_by(self.key, self._body, self.signature)

    def signed(self, signer: Signer) -> Head:
        """The same with key and signature."""
        return Head(self.number, self.hash, signer.public, signer.sign(self._body))


class HeadFile:
    """The note, a file only its owner can read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Head | None:
        """The note; None if there is none. Unreadable, it is one that nobody signed."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Head)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError):
            return Head(0, "unreadable")

    def write(self, head: Head, when: Callable[[Head | None], bool] = lambda _: True) -> None:
        """Replace it if what stands there allows it; one process at a time. InfrastructureError if it cannot."""
        try:
            lock = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if when(self.read()):
                    replace_file(self.path, msgspec.json.encode(head) + b"\n")
            finally:
                os.close(lock)
        except OSError as error:
            raise InfrastructureError(
                f"{self.path} cannot be written: {error.strerror}", fix="free the disk, then do it again"
            ) from None

    def advance(self, head: Head) -> None:
        """Replace it by a later one; another process may have noted a later one still."""
        self.write(head, lambda stands: stands is None or stands.number < head.number)

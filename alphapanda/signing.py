"""Who says so: an ed25519 key of this person, kept where logins are kept, signs certificates and approvals.

    signer = Signer.load()              # made when there is none yet
    signer.public                       # hex: what others know it by
    signed_by(public, body, signer.sign(body))

The key never leaves the keyring (or the file only its owner can read) but as signatures. Source: RFC 8032, by the
``cryptography`` package.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Generator
from typing import TYPE_CHECKING

from alphapanda.errors import ConfigurationError, InfrastructureError
from alphapanda.logs.redaction import register_secret
from alphapanda.places import path_of, places

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

NAME = "signing"
KEY_BYTES = 32


class Signer:
    """One key; its repr shows the public half alone."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = key.public_key().public_bytes_raw().hex()

    @classmethod
    def load(cls, name: str = NAME) -> Signer:
        """The key of this name, from the first place that has it; made and kept if none has.

        InfrastructureError where the keyring is closed or nothing can be written, ConfigurationError for a key that
        others can read or that is none.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        if (found := cls._kept(name)) is not None:
            return found
        with _alone(name):  # two processes that both make one would leave one with a key that nobody keeps
            if (found := cls._kept(name)) is not None:
                return found
            made = Ed25519PrivateKey.generate()
            text = made.private_bytes_raw().hex()
            register_secret(text)
            places()[0].write(name, text.encode())
        return cls(made)

    @classmethod
    def _kept(cls, name: str) -> Signer | None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        for place in places():
            found = place.read(name)
            if found is not None:
                return cls(Ed25519PrivateKey.from_private_bytes(_bytes_of(found)))
        return None

    def sign(self, body: bytes) -> str:
        """The signature, hex."""
        return self._key.sign(body).hex()

    def __repr__(self) -> str:
        return f"Signer({self.public[:16]})"


def signed_by(public: str, body: bytes, signature: str) -> bool:
    """Whether the holder of a public key signed just this."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(bytes.fromhex(signature), body)
    except (InvalidSignature, ValueError):
        return False
    return True


@contextlib.contextmanager
def _alone(name: str) -> Generator[None]:
    """One process of this person at a time."""
    path = path_of(name).with_suffix(".lock")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InfrastructureError(
            f"{path} cannot be written: {error.strerror}", fix="set XDG_CONFIG_HOME to a folder of your own"
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _bytes_of(kept: bytes) -> bytes:
    try:
        text = kept.decode()
        raw = bytes.fromhex(text)
    except ValueError:
        raw, text = b"", ""
    if len(raw) != KEY_BYTES:
        raise ConfigurationError(
            "what is kept as the signing key is no ed25519 key",
            fix="remove the entry `signing` of `alphapanda` from the keyring; approvals have to be given again",
        )
    register_secret(text)
    return raw

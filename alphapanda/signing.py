"""Who says so: an ed25519 key of this person, kept where logins are kept, signs certificates and approvals.

    signer = Signer.load()              # made when there is none yet
    signer.public                       # hex: what others know it by
    signed_by(public, body, signer.sign(body))

The key never leaves the keyring (or the file only its owner can read) but as signatures. Source: RFC 8032, by the
``cryptography`` package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alphapanda.errors import ConfigurationError
from alphapanda.logs.redaction import register_secret
from alphapanda.places import places

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

        kept = places()
        for place in kept:
            found = place.read(name)
            if found is not None:
                return cls(Ed25519PrivateKey.from_private_bytes(_bytes_of(found)))
        made = Ed25519PrivateKey.generate()
        text = made.private_bytes_raw().hex()
        register_secret(text)
        kept[0].write(name, text.encode())
        return cls(made)

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

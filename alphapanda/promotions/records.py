"""One entry of the record of promotions: what was done, by whom, and the hash and signature that hold it in place."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from alphapanda.promotions.states import State
from alphapanda.signing import Signer, signed_by

HASH_BYTES = 32
PURPOSE = (
    "alphapanda record "  # before the hash in what is signed, so that it is no signature of anything else
)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One act. ``digest`` names the module, ``parameters`` the values beside it: both digests of artifacts, as is
    ``certificate``. ``namespace`` is empty where it holds for all, ``refers`` is the number of the record that this
    one goes on with (0: none). Times are wall ns, ``capital`` paise, ``approvers`` public keys in hex.
    """

    number: int = 0  # from 1, without a gap
    at: int = 0
    act: str
    role: str
    actor: str
    strategy: str
    namespace: str = ""
    digest: str
    parameters: str
    state: State = "DRAFT"
    refers: int = 0
    run: str = ""
    account: str = ""
    limits_json: str = "{}"
    capital: int = 0
    expires_at: int = 0
    auto_resume: bool = False
    approvers: str = ""  # with a space between
    certificate: str = ""
    reason: str = ""
    key: str = ""
    signature: str = ""
    previous: str = ""
    hash: str = ""

    @property
    def limits(self) -> dict[str, Any]:
        """The limits approved: fields of ``Limits``."""
        return msgspec.json.decode(self.limits_json, type=dict[str, Any])


def canonical(value: object) -> str:
    """A value as the one JSON text that stands for it."""
    return msgspec.json.encode(value, order="deterministic").decode()


def digest_of_bytes(body: bytes) -> str:
    """What an artifact is known by: ``digest_of`` for bytes that may be no text any more."""
    return hashlib.blake2b(body, digest_size=HASH_BYTES).hexdigest()


def parameters_digest(parameters: dict[str, Any]) -> str:
    """What a set of parameters is known by."""
    return digest_of_bytes(canonical(parameters).encode())


def hash_of(record: Record) -> str:
    """blake2b of the hash before it and all it says, but its own hash and signature; hex."""
    body = canonical(msgspec.structs.replace(record, hash="", signature=""))
    return digest_of_bytes((record.previous + body).encode())


def sealed(record: Record, signer: Signer) -> Record:
    """The same with key, hash and signature."""
    named = msgspec.structs.replace(record, key=signer.public)
    digest = hash_of(named)
    return msgspec.structs.replace(named, hash=digest, signature=signer.sign((PURPOSE + digest).encode()))


def is_signed(record: Record) -> bool:
    """Whether the signature is that of its key, for its hash."""
    return signed_by(record.key, (PURPOSE + record.hash).encode(), record.signature)

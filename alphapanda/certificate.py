"""A certificate: what was proved of which strategy on which tape, signed by whoever proved it.

    certificate = read("opening-range.certificate.json")     # raises when a character of it was changed
    certificate.passed

The file is canonical JSON: the same facts give the same bytes, so one changed byte is one broken signature. It holds
the frozen module itself, so that anybody with the tape can make the proof again elsewhere. The signature says that
nobody changed it since; whose key it is, is asked by whoever trusts it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from alphapanda.capsule import digest_of
from alphapanda.errors import ValidationError
from alphapanda.signing import Signer, signed_by
from alphapanda.workspace import replace_file

VERSION = 1
LANES = ("research", "paper", "shadow")
CODE = "E_CERTIFICATE"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One check: its name, whether it passed, and what it found in one sentence."""

    name: str
    passed: bool
    detail: str
    seconds: float = 0.0


class TapeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Which ticks: the digest of their content, the exchange's days, and how many there are."""

    digest: str
    days: tuple[str, ...]
    rows: int
    first_ts: int
    last_ts: int


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """See the module. ``digest`` is the frozen module's, ``lanes`` the decision digest by lane; ``limits`` and
    ``fills`` are those it was proved with; ``versions`` are Python's and the packages' that had a say. ``capital`` is
    paise, times are ns; earlier ticks than ``trade_from`` only warmed up. ``key`` is the ed25519 public key of
    ``signature``, both hex."""

    version: int = VERSION
    strategy: str
    class_name: str
    digest: str
    source: str
    parameters: dict[str, Any]
    symbols: tuple[str, ...]
    capital: int
    seed: int
    trade_from: int = 0
    tape: TapeFacts
    rulebook: str
    limits: dict[str, Any]
    fills: dict[str, Any]
    versions: dict[str, str]
    lanes: dict[str, str]
    decisions: int
    checks: tuple[Outcome, ...]
    proved_at: int
    key: str = ""
    signature: str = ""

    @property
    def passed(self) -> bool:
        """Every check passed, and the three lanes made the same decisions."""
        lanes = {self.lanes.get(lane, "") for lane in LANES}
        return (
            bool(self.checks) and all(c.passed for c in self.checks) and len(lanes) == 1 and "" not in lanes
        )

    @property
    def identity(self) -> str:
        """The name this certificate is known by: the digest of its bytes, signature and all."""
        return digest_of(encode(self).decode())


def encode(certificate: Certificate) -> bytes:
    """Its canonical bytes."""
    return msgspec.json.encode(certificate, order="deterministic")


def body(certificate: Certificate) -> bytes:
    """What is signed: all but the signature."""
    return encode(msgspec.structs.replace(certificate, signature=""))


def sign(certificate: Certificate, signer: Signer) -> Certificate:
    """The same with key and signature."""
    named = msgspec.structs.replace(certificate, key=signer.public, signature="")
    return msgspec.structs.replace(named, signature=signer.sign(body(named)))


def check(certificate: Certificate) -> None:
    """ValidationError (E_CERTIFICATE) unless module, digest and signature belong together."""
    if certificate.version != VERSION:
        _refuse(f"the certificate has version {certificate.version}, not {VERSION}")
    if digest_of(certificate.source) != certificate.digest:
        _refuse("the module in the certificate is not the one that was proved")
    if not signed_by(certificate.key, body(certificate), certificate.signature):
        _refuse("the certificate's signature does not fit its content: something in it was changed")


def decode(raw: bytes) -> Certificate:
    """A certificate out of its bytes, checked. ValidationError (E_CERTIFICATE) says what is wrong with it."""
    try:
        certificate = msgspec.json.decode(raw, type=Certificate)
    except msgspec.DecodeError as error:
        raise ValidationError(
            f"this is no certificate: {error}", fix="make the proof again: ap.prove(...)", code=CODE
        ) from None
    if encode(certificate) != raw.strip():
        _refuse("the certificate's bytes are not as they were written")
    check(certificate)
    return certificate


def read(path: str | os.PathLike[str]) -> Certificate:
    """A certificate file. Raises as ``decode``, and OSError where it cannot be read."""
    return decode(Path(path).read_bytes())


def write(certificate: Certificate, path: str | os.PathLike[str]) -> Path:
    """Keep it as a file, whole or not at all."""
    target = Path(path)
    replace_file(target, encode(certificate) + b"\n")
    return target


def _refuse(sentence: str) -> None:
    raise ValidationError(sentence, fix="make the proof again: ap.prove(...)", code=CODE)

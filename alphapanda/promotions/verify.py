"""Is the record of promotions as it was written? Every hash, every signature, every artifact, and the newest number."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from alphapanda.certificate import decode
from alphapanda.errors import AuthorizationError, ValidationError
from alphapanda.promotions.head import Head
from alphapanda.promotions.records import Record, digest_of_bytes, hash_of, is_signed
from alphapanda.promotions.states import CODE

RESTORE = "put back the newest backup of the database, then `alphapanda audit --verify`"
TRUST = "add the key to PROMOTION__TRUSTED_KEYS if you know whose it is; else treat this as an intrusion"
ADOPT = "read it with `alphapanda audit`; if it is yours as it stands: `alphapanda audit --adopt`"
ARTIFACTS = {"digest": "module", "parameters": "parameters", "certificate": "certificate"}  # field → kind


class Problem(NamedTuple):
    """What is wrong with which record (0: with the whole), and what to do."""

    number: int
    message: str
    fix: str = RESTORE
    unreadable: bool = False  # the record cannot even be shown


def read_row(row: Mapping[Any, Any]) -> Record | Problem:
    """A row of the table as a record, or what is wrong with it."""
    try:
        return msgspec.convert({str(name): value for name, value in row.items()}, Record)
    except msgspec.ValidationError as error:
        return Problem(int(row["number"]), f"record {row['number']} is no record: {error}", unreadable=True)


def chain(rows: Sequence[Record | Problem], trusted: Collection[str]) -> Iterator[Problem]:
    """What is wrong with the records one by one, and with their order."""
    previous = ""
    for number, record in enumerate(rows, 1):
        if isinstance(record, Problem):
            yield record
            return  # what follows hangs on nothing
        if record.number != number:
            yield Problem(number, f"record {number} is missing: {record.number} comes in its place")
            return
        if record.previous != previous:
            yield Problem(
                number, f"record {number} does not follow the one before it: one of them was changed"
            )
        if hash_of(record) != record.hash:
            yield Problem(number, f"record {number} was changed: its hash does not fit what it says")
        elif not is_signed(record):
            yield Problem(number, f"record {number} is not signed by its key")
        elif record.key not in trusted:
            stranger = (
                f"record {number} is signed by {record.key[:16]}..., a key this workspace does not trust"
            )
            yield Problem(number, stranger, TRUST)
        previous = record.hash


def artifacts(
    records: Sequence[Record | Problem], kept: Mapping[str, tuple[str, bytes]]
) -> Iterator[Problem]:
    """What is wrong with modules, parameters and certificates that records name."""
    bad: set[str] = set()
    for digest, (kind, body) in kept.items():
        if digest_of_bytes(body) != digest:
            bad.add(digest)
            yield Problem(0, f"the {kind} {digest[:16]} was changed: its digest does not fit")
    for record in records:
        if isinstance(record, Problem):
            return
        for field, kind in ARTIFACTS.items():
            digest = getattr(record, field)
            if digest and kept.get(digest, ("",))[0] != kind:
                yield Problem(record.number, f"the {kind} of record {record.number} is missing")
        if record.certificate in kept and record.certificate not in bad:
            yield from _certified(record, kept[record.certificate][1])


def _certified(record: Record, body: bytes) -> Iterator[Problem]:
    try:
        certificate = decode(body)
    except ValidationError as error:
        yield Problem(record.number, f"the certificate of record {record.number}: {error.message}")
        return
    if certificate.digest != record.digest:
        yield Problem(record.number, f"the certificate of record {record.number} is about another module")


def newest(
    head: Head | None, number: int, hash_there: str | None, trusted: Collection[str]
) -> Problem | None:
    """What is wrong with the note of the newest record. ``number`` is the database's newest, ``hash_there`` the hash
    of the record the note names (None: it is not there, and "" for none yet)."""
    if head is None:
        first = "this workspace has never seen this record of promotions, or lost its note of it"
        return Problem(0, first, ADOPT) if number else None
    if not head.is_signed or head.key not in trusted:
        return Problem(0, "this workspace's note of the newest record was changed", ADOPT)
    if head.number > number:
        gone = (
            f"records {number + 1} to {head.number}" if head.number > number + 1 else f"record {head.number}"
        )
        return Problem(
            head.number,
            f"{gone} cut off: the newest were removed, or an old copy of the database was put back",
        )
    if head.hash != hash_there:
        return Problem(head.number, f"record {head.number} is not the one this workspace has seen")
    return None


def refuse(problems: Sequence[Problem]) -> None:
    """AuthorizationError (E_PROMOTION) with all of them, if there are any."""
    if problems:
        raise AuthorizationError(
            "the record of promotions cannot be trusted: " + "; ".join(one.message for one in problems[:5]),
            fix=problems[0].fix,
            code=CODE,
            problems=list(problems),
        )

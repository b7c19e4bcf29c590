"""A certificate looked at again: its signature, its module, and, with the ticks at hand, its decisions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from alphapanda.capsule import Capsule, freeze
from alphapanda.certificate import Certificate, read
from alphapanda.checks import Check
from alphapanda.errors import AlphaPandaException
from alphapanda.exchange import Fills
from alphapanda.proofs.case import Case
from alphapanda.proofs.research import research
from alphapanda.risk import Limits
from alphapanda.rulebook import Rulebook
from alphapanda.signing import Signer


def verify(path: Path, *, strategy: str | None = None, tape: Any = None, **options: Any) -> list[Check]:
    """A row for everything that was looked at; ``failed`` marks what does not hold."""
    try:
        certificate = read(path)
    except OSError as error:
        return [
            Check("file", "failed", f"{path} cannot be read: {error.strerror}", "name the certificate's file")
        ]
    except AlphaPandaException as error:
        return [Check("certificate", "failed", error.message, error.fix)]
    rows = [_signature(certificate), _verdict(certificate)]
    if strategy is not None:
        rows.append(_strategy(certificate, strategy))
    if tape is not None:
        try:
            rows += _decisions(certificate, tape, options)
        except AlphaPandaException as error:
            rows.append(Check("tape", "failed", error.message, error.fix))
    return rows


def _signature(certificate: Certificate) -> Check:
    try:
        mine = Signer.load().public == certificate.key
    except AlphaPandaException:
        mine = False
    whose = "yours" if mine else f"of key {certificate.key[:16]}"
    return Check("signature", "ok" if mine else "warning", f"fits every byte; {whose}")


def _verdict(certificate: Certificate) -> Check:
    facts = (
        f"{certificate.strategy}, class {certificate.digest[:16]}, {certificate.decisions} decisions on "
        f"{certificate.tape.rows:,} ticks of {', '.join(certificate.tape.days)}"
    )
    if certificate.passed:
        return Check("proof", "ok", f"{facts}: {len(certificate.checks)} checks passed")
    failed = ", ".join(check.name for check in certificate.checks if not check.passed)
    return Check(
        "proof", "failed", f"{facts}: {failed or 'the lanes'} failed", "prove it again when it is mended"
    )


def _strategy(certificate: Certificate, named: str) -> Check:
    from alphapanda.commands.strategies import class_of

    found = freeze(class_of(named)).digest
    if found == certificate.digest:
        return Check("class", "ok", f"{named} is the one that was proved")
    shown = f"{named} is not the one that was proved: {found[:16]}, not {certificate.digest[:16]}"
    return Check("class", "failed", shown, "prove it: alphapanda prove")


def _decisions(certificate: Certificate, data: Any, options: dict[str, Any]) -> list[Check]:
    from alphapanda.tapes.readers import tape as read_tape

    tape = read_tape(data[0] if len(data) == 1 else data, **options)
    if tape.digest != certificate.tape.digest:
        shown = f"these are not the ticks it was proved on: {tape.digest[:16]}, not {certificate.tape.digest[:16]}"
        return [Check("tape", "failed", shown, "give the same tape, byte for byte")]
    rows = [Check("tape", "ok", f"the ticks it was proved on, {tape.rows:,}")]
    if Rulebook.load().version != certificate.rulebook:
        shown = f"rulebook {Rulebook.load().version}, it was {certificate.rulebook}"
        rows.append(Check("rulebook", "warning", shown, "another rulebook may deny or fill otherwise"))
    capsule = Capsule(certificate.source, certificate.digest, certificate.class_name)
    case = Case(
        capsule=capsule, name=certificate.strategy, parameters=certificate.parameters,
        symbols=list(certificate.symbols), capital=certificate.capital, seed=certificate.seed,
        limits=msgspec.convert(certificate.limits, Limits), fills=msgspec.convert(certificate.fills, Fills),
        trade_from=certificate.trade_from,
    )  # fmt: skip
    found = research(case, tape).digest
    if found == certificate.lanes["research"]:
        return [*rows, Check("decisions", "ok", f"once more the same: {found}")]
    shown = f"{found}, and {certificate.lanes['research']} was proved"
    return [*rows, Check("decisions", "failed", shown, "compare the package versions in the certificate")]

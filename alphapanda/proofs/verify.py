"""A certificate looked at again: its signature, its module, and, with the ticks at hand, its decisions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from alphapanda.capsule import Capsule, freeze
from alphapanda.certificate import Certificate, read
from alphapanda.commands.finding import Finding
from alphapanda.errors import AlphaPandaException
from alphapanda.exchange import Fills
from alphapanda.proofs.case import Case, rulebook
from alphapanda.proofs.research import research
from alphapanda.risk import Limits
from alphapanda.signing import Signer


def verify(path: Path, *, strategy: str | None = None, tape: Any = None, **options: Any) -> list[Finding]:
    """A row for everything that was looked at; ``missing`` marks what does not hold."""
    try:
        certificate = read(path)
    except OSError as error:
        return [
            Finding(
                "file", "missing", f"{path} cannot be read: {error.strerror}", "name the certificate's file"
            )
        ]
    except AlphaPandaException as error:
        return [Finding("certificate", "missing", error.message, error.fix)]
    rows = [_signature(certificate), _verdict(certificate)]
    if strategy is not None:
        rows.append(_strategy(certificate, strategy))
    if tape is not None:
        rows += _decisions(certificate, tape, options)
    return rows


def _signature(certificate: Certificate) -> Finding:
    try:
        mine = Signer.load().public == certificate.key
    except AlphaPandaException:
        mine = False
    whose = "yours" if mine else f"of key {certificate.key[:16]}"
    return Finding("signature", "ok" if mine else "optional", f"fits every byte; {whose}")


def _verdict(certificate: Certificate) -> Finding:
    facts = (
        f"{certificate.strategy}, class {certificate.digest[:16]}, {certificate.decisions} decisions on "
        f"{certificate.tape.rows:,} ticks of {', '.join(certificate.tape.days)}"
    )
    if certificate.passed:
        return Finding("proof", "ok", f"{facts}: {len(certificate.checks)} checks passed")
    failed = ", ".join(check.name for check in certificate.checks if not check.passed)
    return Finding(
        "proof", "missing", f"{facts}: {failed or 'the lanes'} failed", "prove it again when it is mended"
    )


def _strategy(certificate: Certificate, named: str) -> Finding:
    from alphapanda.commands.strategies import class_of

    found = freeze(class_of(named)).digest
    if found == certificate.digest:
        return Finding("class", "ok", f"{named} is the one that was proved")
    shown = f"{named} is not the one that was proved: {found[:16]}, not {certificate.digest[:16]}"
    return Finding("class", "missing", shown, "prove it: alphapanda prove")


def _decisions(certificate: Certificate, data: Any, options: dict[str, Any]) -> list[Finding]:
    from alphapanda.tapes.readers import tape as read_tape

    tape = read_tape(data[0] if len(data) == 1 else data, **options)
    if tape.digest != certificate.tape.digest:
        shown = f"these are not the ticks it was proved on: {tape.digest[:16]}, not {certificate.tape.digest[:16]}"
        return [Finding("tape", "missing", shown, "give the same tape, byte for byte")]
    rows = [Finding("tape", "ok", f"the ticks it was proved on, {tape.rows:,}")]
    if rulebook().version != certificate.rulebook:
        shown = f"rulebook {rulebook().version}, it was {certificate.rulebook}"
        rows.append(Finding("rulebook", "optional", shown, "another rulebook may deny or fill otherwise"))
    capsule = Capsule(certificate.source, certificate.digest, certificate.class_name)
    case = Case(
        capsule=capsule, name=certificate.strategy, parameters=certificate.parameters,
        symbols=list(certificate.symbols), capital=certificate.capital, seed=certificate.seed,
        limits=msgspec.convert(certificate.limits, Limits), fills=msgspec.convert(certificate.fills, Fills),
        trade_from=certificate.trade_from,
    )  # fmt: skip
    found = research(case, tape).digest
    if found == certificate.lanes["research"]:
        return [*rows, Finding("decisions", "ok", f"once more the same: {found}")]
    shown = f"{found}, and {certificate.lanes['research']} was proved"
    return [*rows, Finding("decisions", "missing", shown, "compare the package versions in the certificate")]

"""From an approval to the run that uses it up, and one step back to the version before.

    answer = begin(hub, settings, approval, certificate)

The hub starts what the certificate holds, so no file and no kernel has a say in what trades.
"""

from __future__ import annotations

from typing import Any, NoReturn

from alphapanda.certificate import Certificate
from alphapanda.clock import monotonic, pause, wall_ns
from alphapanda.errors import AuthorizationError, InfrastructureError
from alphapanda.hub.client import HubClient
from alphapanda.promotions import approvals
from alphapanda.promotions.ledger import Ledger
from alphapanda.promotions.promote import by_the_second, session_end
from alphapanda.promotions.records import Record
from alphapanda.promotions.states import ARMED, CODE
from alphapanda.settings import Settings
from alphapanda.signing import Signer
from alphapanda.traders.factory import trader_class
from alphapanda.workspace import RunSpec, Workspace

START_SECONDS = 60.0  # for a gateway and a runner


def question(certificate: Certificate, approval: Record) -> dict[str, Any]:
    """What the hub is asked, to start the run of an approval; the run belongs to nobody's notebook."""
    return {
        "do": "run", "namespace": approval.namespace, "name": certificate.strategy,
        "class_name": certificate.class_name, "module": certificate.source, "digest": certificate.digest,
        "parameters": certificate.parameters, "symbols": list(certificate.symbols), "capital": approval.capital,
        "seed": certificate.seed, "limits": approval.limits, "auto_resume": approval.auto_resume, "detach": True,
        "replace": True,
    }  # fmt: skip


def begin(hub: HubClient, settings: Settings, approval: Record, certificate: Certificate) -> dict[str, Any]:
    """Start the run of an approval, in the place of the one that is live, and wait until its gateway has taken it up;
    returns the hub's answer: ``run``, ``replaced``, and ``attached`` where just this is live already: then the approval
    is retired unused. AuthorizationError (E_SECOND) while another person has yet to approve; InfrastructureError for a
    run that does not begin."""
    if approval.state != ARMED:
        raise AuthorizationError(
            f"request {approval.number} waits for the second person",
            fix=f"that person: `alphapanda approve {approval.number}`; then the same again",
            code="E_SECOND",
        )
    answer = hub.ask(question(certificate, approval), START_SECONDS)
    signer = Signer.load()
    with Ledger.open(hub.workspace, settings, signer) as ledger:
        if answer["attached"]:
            approvals.retire(ledger, signer, approval, reason=f"{answer['run']} was live already")
        else:
            _taken_up(ledger, approval, hub.workspace, answer["run"])
    return answer


def _taken_up(ledger: Ledger, approval: Record, workspace: Workspace, run: str) -> None:
    """Wait for the record that says LIVE: a rollback that comes at once has to know it."""
    until = monotonic() + START_SECONDS
    while ledger.thread(approval.number)[-1].state == ARMED:
        spec = RunSpec.read(workspace.runs / run)
        if not spec.wanted or monotonic() > until:
            raise InfrastructureError(
                f"{run} did not begin: {spec.reason or f'it is {spec.state}'}",
                fix="see `alphapanda status` and `alphapanda logs error`, then promote again",
                code="E_START",
            )
        pause(0.05)


def said(answer: dict[str, Any], approval: Record) -> str:
    """What became of an approval, for people."""
    run, where = answer["run"], approval.namespace
    if answer["attached"]:
        return f"{run} is live in {where} already, on these very terms: nothing was changed"
    before = f"; {answer['replaced']} was ended and keeps its positions" if answer["replaced"] else ""
    return f"{run} is live in {where} by record {approval.number}{before}"


def roll_back(
    hub: HubClient, settings: Settings, strategy: str, namespace: str, why: str
) -> tuple[Record, Certificate]:
    """Arm the version that was live before the one that is now, under the limits it had then; one step, since it has
    been confirmed before. AuthorizationError if there was none, or if another account is logged in now."""
    signer = Signer.load()
    kind = trader_class(namespace).made_for(settings)
    with Ledger.open(hub.workspace, settings, signer) as ledger:
        before = approvals.rollback_target(ledger, strategy, namespace)
        if before is None:
            _no(f"no other version of {strategy} was live in {namespace} before", "alphapanda audit")
        account = kind.account(settings) or namespace
        if account != before.account:
            _no(
                f"that version was approved for account {before.account}, and {account} is logged in",
                "promote it: session.promote(...)",
            )
        certificate, limits = ledger.certificate(before), before.limits
        approved = by_the_second(ledger, certificate, namespace, capital=before.capital, limits=limits)
        if approved is not None:
            return approved, certificate
        record = approvals.arm(
            ledger, signer, certificate, namespace=namespace, account=account, limits=limits,
            capital=before.capital, expires_at=session_end(certificate.symbols, kind, settings, wall_ns()),
            auto_resume=before.auto_resume, reason=f"rollback: {why}",
        )  # fmt: skip
    return record, certificate


def _no(sentence: str, fix: str) -> NoReturn:
    raise AuthorizationError(sentence, fix=fix, code=CODE)

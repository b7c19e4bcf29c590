"""What people and gateways do with the record of promotions.

    draft(ledger, signer, certificate); paper(...); certify(...)
    record = arm(ledger, signer, certificate, namespace="zerodha", ...)     # a person's word, good for one run
    admit(ledger, namespace="zerodha", ...)                                 # what a gateway asks before it begins
    live(ledger, signer, record, run)                                       # uses it up

With ``PROMOTION__SECOND_APPROVER`` set, ``arm`` writes a request, and the second person's ``approve`` arms.
"""

from __future__ import annotations

from typing import Any, NoReturn, Protocol

import msgspec

from alphapanda.capsule import digest_of
from alphapanda.certificate import Certificate, check, encode
from alphapanda.clock import wall_ns
from alphapanda.errors import AuthorizationError
from alphapanda.processes import person
from alphapanda.promotions.ledger import Ledger
from alphapanda.promotions.records import Record, canonical, parameters_digest
from alphapanda.promotions.states import APPROVER, ARMED, CERTIFIED, CODE, GATEWAY, PERSON, RETIRED
from alphapanda.signing import Signer

PROMOTE = "promote it: session.promote(...), or `alphapanda promote`"
PROVE = "make the proof again: ap.prove(...)"
TERMS = (  # what a request and its approval have to agree on
    *("strategy", "namespace", "digest", "parameters", "account", "limits_json"),
    *("capital", "expires_at", "auto_resume", "certificate"),
)


class Version(Protocol):
    """What makes a version: a certificate is one."""

    @property
    def strategy(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def parameters(self) -> dict[str, Any]: ...


# ── a version ────────────────────────────────────────────────────────────────────────────────────────────────────


def standing(ledger: Ledger, version: Version) -> Record | None:
    """Where a version stands: the newest of its records as DRAFT, PAPER or CERTIFIED; None if it is new."""
    digest, parameters = digest_of(version.source), parameters_digest(version.parameters)
    found = [
        one
        for one in ledger.history(version.strategy)
        if (one.digest, one.parameters) == (digest, parameters) and one.act in ("draft", "paper", "certify")
    ]
    return found[-1] if found else None


def draft(ledger: Ledger, signer: Signer, version: Version) -> Record:
    """A version begins. AuthorizationError if it has begun."""
    return _of_version(ledger, signer, version, "draft")


def paper(ledger: Ledger, signer: Signer, version: Version) -> Record:
    """It trades on paper."""
    return _of_version(ledger, signer, version, "paper")


def certify(ledger: Ledger, signer: Signer, certificate: Certificate) -> Record:
    """It has been proved; a newer proof replaces the one before. AuthorizationError if the proof failed, or is signed
    by a key that is not trusted here."""
    _proved(ledger, certificate)
    return _of_version(ledger, signer, certificate, "certify", certificate)


def _of_version(
    ledger: Ledger, signer: Signer, version: Version, act: str, certificate: Certificate | None = None
) -> Record:
    texts = {"module": version.source, "parameters": canonical(version.parameters)}
    if certificate is not None:
        texts["certificate"] = encode(certificate).decode()
    record = Record(
        act=act,
        role=PERSON,
        actor=person(),
        strategy=version.strategy,
        digest=digest_of(version.source),
        parameters=parameters_digest(version.parameters),
        certificate=certificate.identity if certificate else "",
    )
    return ledger.append(record, signer, texts)


def _proved(ledger: Ledger, certificate: Certificate) -> None:
    check(certificate)
    if not certificate.passed:
        failed = [one.name for one in certificate.checks if not one.passed] or [
            "the lanes decided differently"
        ]
        _no(f"the certificate says that the proof failed: {', '.join(failed)}", PROVE)
    if certificate.key not in ledger.trusted:
        _no(
            f"the certificate is signed by {certificate.key[:16]}..., a key this workspace does not trust",
            f"{PROVE}; or add the key to PROMOTION__TRUSTED_KEYS if you know whose it is",
        )


# ── an approval ──────────────────────────────────────────────────────────────────────────────────────────────────


def arm(
    ledger: Ledger,
    signer: Signer,
    certificate: Certificate,
    *,
    namespace: str,
    account: str,
    limits: dict[str, Any],
    capital: int,
    expires_at: int,
    auto_resume: bool = False,
    second: Signer | None = None,
    reason: str = "",
) -> Record:
    """A person lets one run of a certified version trade in a namespace, until ``expires_at`` (wall ns), with
    ``capital`` (paise) and ``limits`` (fields of ``Limits``). Where a second approver is set and not here as
    ``second`` the record is a request: its state is CERTIFIED until the other person's ``approve``."""
    _proved(ledger, certificate)
    stands = standing(ledger, certificate)
    if stands is not None and stands.state == CERTIFIED and stands.certificate != certificate.identity:
        _no("this is not the certificate that is on record for this version", "certify it first")
    needs = ledger.settings.second_approver is not None or second is not None
    asked = Record(
        act="request" if needs else "arm",
        role=PERSON,
        actor=person(),
        strategy=certificate.strategy,
        namespace=namespace,
        digest=certificate.digest,
        parameters=parameters_digest(certificate.parameters),
        account=account,
        limits_json=canonical(limits),
        capital=capital,
        expires_at=expires_at,
        auto_resume=auto_resume,
        approvers=signer.public,
        certificate=certificate.identity,
        reason=reason,
    )
    if expires_at <= wall_ns():
        _no("the approval would have expired already", "name a later time")
    record = ledger.append(asked, signer)
    return record if second is None else approve(ledger, second, record.number)


def requested(ledger: Ledger, signer: Signer, number: int) -> Record:
    """The request of this number. AuthorizationError if it is none that this person can approve now."""
    ledger.sound()
    request = ledger.record(number)
    second = ledger.settings.second_approver
    if request.act != "request":
        _no(f"record {number} asks for no second approver", "see `alphapanda audit` for its number")
    if signer.public == request.key or second not in (None, signer.public):
        _no(
            "the second approver is another person, whose key is PROMOTION__SECOND_APPROVER",
            "ask that person",
        )
    if request.expires_at <= wall_ns():
        _no("the request has expired", PROMOTE)
    return request


def approve(ledger: Ledger, signer: Signer, number: int, reason: str = "") -> Record:
    """The second person's word on a request: it is armed. AuthorizationError as ``requested``, and if it has been
    approved before."""
    request = requested(ledger, signer, number)
    return ledger.append(
        msgspec.structs.replace(
            request,
            act="approve",
            role=APPROVER,
            actor=person(),
            refers=number,
            approvers=f"{request.key} {signer.public}",
            reason=reason,
        ),
        signer,
    )


def admit(
    ledger: Ledger,
    *,
    namespace: str,
    name: str,
    source: str,
    parameters: dict[str, Any],
    symbols: tuple[str, ...] | list[str],
    capital: int,
    seed: int,
    now: int,
    run: str = "",
) -> Record:
    """The approval under which a run may trade: its newest ARMED record there. ``source`` is the module the run was
    given, ``capital`` paise, ``now`` wall ns. A ``run`` that has used the approval already, and comes back, may go on
    with it. AuthorizationError (E_PROMOTION) says what is in the way."""
    ledger.sound()
    armed = [one for one in ledger.history(name) if one.namespace == namespace and one.state == ARMED]
    if not armed:
        _no(f"{name} was never approved for {namespace}", PROMOTE)
    digest, values = digest_of(source), parameters_digest(parameters)
    same = [one for one in armed if one.digest == digest and one.parameters == values]
    if not same:
        what = "its module was" if armed[-1].digest != digest else "its parameters were"
        _no(f"{name} is not what was approved for {namespace}: {what} changed since", PROMOTE)
    mine = _in_use(ledger, same, run, now) if run else None
    approval = mine or same[-1]
    last = ledger.thread(approval.number)[-1]
    if last.state == RETIRED:
        _no(f"approval {approval.number} of {name} is retired", PROMOTE)
    if approval.expires_at <= now:
        _no(f"approval {approval.number} of {name} has expired", PROMOTE)
    if last.state != ARMED and mine is None:
        _no(
            f"approval {approval.number} of {name} was used by run {last.run}: one is good for one run",
            PROMOTE,
        )
    certificate = ledger.certificate(approval)
    _proved(ledger, certificate)
    _as_approved("the module", certificate.digest, digest)
    _as_approved("the symbols", sorted(certificate.symbols), sorted(symbols))
    _as_approved("the seed", certificate.seed, seed)
    _as_approved("the capital in paise", approval.capital, capital)
    _second(ledger, approval)
    return approval


def _in_use(ledger: Ledger, armed: list[Record], run: str, now: int) -> Record | None:
    """The approval that a run has used and may still go on with."""
    for one in reversed(armed):
        last = ledger.thread(one.number)[-1]
        if last.run == run and last.state != RETIRED and one.expires_at > now:
            return one
    return None


def _as_approved(what: str, approved: object, found: object) -> None:
    if approved != found:
        _no(f"{what} of the run is {found}, and {approved} was approved", PROMOTE)


def _second(ledger: Ledger, approval: Record) -> None:
    """The second approver's signature, where one is asked for, on just what the first has signed."""
    second = ledger.settings.second_approver
    request = ledger.record(approval.refers) if approval.refers else None
    if request is not None:
        if request.act != "request" or any(getattr(request, one) != getattr(approval, one) for one in TERMS):
            _no(f"approval {approval.number} is not of what was asked for", PROMOTE)
        if request.key == approval.key:
            _no(f"approval {approval.number} was asked for and given by the same key", PROMOTE)
    if second is not None and (request is None or approval.key != second):
        _no(f"approval {approval.number} lacks the second approver's signature", PROMOTE)


# ── a run ────────────────────────────────────────────────────────────────────────────────────────────────────────


def live(ledger: Ledger, signer: Signer, approval: Record, run: str) -> Record:
    """A gateway takes up a run: the approval is used up. For a run that has used it before: its newest record."""
    thread = ledger.thread(approval.number)
    if thread[-1].run == run and thread[-1].state != RETIRED:
        return thread[-1]
    return _go_on(ledger, signer, approval, "live", GATEWAY, "", "", run)


def pause(
    ledger: Ledger, signer: Signer, approval: Record, *, reason: str, role: str = PERSON, actor: str = ""
) -> Record:
    """Its run opens nothing more."""
    return _go_on(ledger, signer, approval, "pause", role, actor, reason)


def resume(
    ledger: Ledger, signer: Signer, approval: Record, *, reason: str, role: str = PERSON, actor: str = ""
) -> Record:
    """It goes on. A gateway may say so only where the approval allows it by ``auto_resume``."""
    if role == GATEWAY and not approval.auto_resume:
        _no(
            f"approval {approval.number} wants a person to look first",
            "look at it, then `alphapanda resume RUN`",
        )
    return _go_on(ledger, signer, approval, "resume", role, actor, reason)


def retire(
    ledger: Ledger, signer: Signer, approval: Record, *, reason: str, role: str = PERSON, actor: str = ""
) -> Record:
    """The end of an approval, used or not."""
    return _go_on(ledger, signer, approval, "retire", role, actor, reason)


def _go_on(
    ledger: Ledger,
    signer: Signer,
    approval: Record,
    act: str,
    role: str,
    actor: str,
    reason: str,
    run: str = "",
) -> Record:
    changed = msgspec.structs.replace(
        approval,
        act=act,
        role=role,
        actor=actor or (person() if role == PERSON else role),
        refers=approval.number,
        run=run or ledger.thread(approval.number)[-1].run,
        reason=reason,
    )
    return ledger.append(changed, signer)


def approval_of(ledger: Ledger, run: str, namespace: str) -> Record | None:
    """The approval a run has used, newest first; None if it used none."""
    found = [one for one in ledger.history() if one.run == run and one.namespace == namespace]
    return ledger.record(found[-1].refers) if found else None


def rollback_target(ledger: Ledger, strategy: str, namespace: str) -> Record | None:
    """The approval of the version that was live there before the one that is now; None if there was none.
    ``ledger.certificate`` of it is what ``arm`` takes to go back to it."""
    lives = [one for one in ledger.history(strategy) if one.namespace == namespace and one.act == "live"]
    now = (lives[-1].digest, lives[-1].parameters) if lives else ("", "")
    before = [one for one in lives if (one.digest, one.parameters) != now]
    return ledger.record(before[-1].refers) if before else None


def _no(sentence: str, fix: str) -> NoReturn:
    raise AuthorizationError(sentence, fix=fix, code=CODE)

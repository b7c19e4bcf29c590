"""Who may trade with real money: what a live gateway asks before it takes up a run, and what it notes afterwards.

A run needs an approval on record (``promotions``): of this very module, with these parameters, symbols, capital and
seed, not expired, and used by no other run. Its limits, its end and whether it may go on by itself after a crash are
the approval's, whatever the run was started with. One order by hand needs none: it is a person's own act.
"""

from __future__ import annotations

from functools import cache
from typing import Literal, Protocol

import msgspec

from alphapanda import logs
from alphapanda.clock import wall_ns
from alphapanda.errors import AlphaPandaException, AuthorizationError, InfrastructureError
from alphapanda.settings import Settings
from alphapanda.workspace import RunSpec, Workspace

Act = Literal["pause", "resume", "retire"]
BY_HAND = "ByHand"
PROMOTE = "promote it: session.promote(...)"


class Admission(Protocol):
    """What a gateway asks. A call may read a database: not for an event loop."""

    def admit(self, spec: RunSpec, source: str) -> RunSpec:
        """The run as it may trade, its approval used up; again for a run that comes back. ``source`` is its module.
        AuthorizationError says what is in the way, or that nobody can tell."""
        ...

    def note(self, spec: RunSpec, act: Act, why: str, person: str) -> None:
        """Keep on record what became of a run; ``person`` is empty where the gateway did it. Never raises: what a
        person wants of a run must not wait for a database."""
        ...


class Approvals:
    """Those of a workspace."""

    def __init__(self, workspace: Workspace, settings: Settings) -> None:
        self._workspace, self._settings = workspace, settings

    def check(self, spec: RunSpec, source: str) -> None:
        """Raise what ``admit`` would, and use nothing up."""
        self._asked(spec, source, use=False)

    def admit(self, spec: RunSpec, source: str) -> RunSpec:
        """See ``Admission.admit``."""
        return self._asked(spec, source, use=True)

    def _asked(self, spec: RunSpec, source: str, *, use: bool) -> RunSpec:
        try:
            return self._admitted(spec, source, use=use)
        except InfrastructureError as error:
            raise AuthorizationError(
                f"nobody can tell whether {spec.name} is approved: {error.message}",
                fix=error.fix,
                code=error.code,
            ) from error

    def _admitted(self, spec: RunSpec, source: str, *, use: bool) -> RunSpec:
        from alphapanda.promotions import approvals
        from alphapanda.promotions.ledger import Ledger
        from alphapanda.signing import Signer

        refuse_changed(spec, source)
        if spec.class_name == BY_HAND and spec.digest == by_hand():
            return spec
        signer = Signer.load()
        with Ledger.open(self._workspace, self._settings, signer) as ledger:
            approval = approvals.admit(
                ledger,
                namespace=spec.namespace,
                name=spec.name,
                source=source,
                parameters=spec.parameters,
                symbols=spec.symbols,
                capital=spec.capital,
                seed=spec.seed,
                now=wall_ns(),
                run=spec.run,
            )
            if use:
                approvals.live(ledger, signer, approval, spec.run)
        return msgspec.structs.replace(
            spec,
            limits=approval.limits or None,
            auto_resume=approval.auto_resume,
            approved_until=approval.expires_at,
        )

    def note(self, spec: RunSpec, act: Act, why: str, person: str) -> None:
        """See ``Admission.note``."""
        from alphapanda.promotions import approvals
        from alphapanda.promotions.ledger import Ledger
        from alphapanda.promotions.states import GATEWAY, PERSON
        from alphapanda.signing import Signer

        done = {"pause": approvals.pause, "resume": approvals.resume, "retire": approvals.retire}[act]
        try:
            signer = Signer.load()
            with Ledger.open(self._workspace, self._settings, signer) as ledger:
                approval = approvals.approval_of(ledger, spec.run, spec.namespace)
                if approval is not None:
                    role = PERSON if person else GATEWAY
                    done(ledger, signer, approval, reason=why, role=role, actor=person or "gateway")
        except AlphaPandaException as error:
            logs.channel("error").error("promotion.not_noted", run=spec.run, act=act, error=error)


def refuse_changed(spec: RunSpec, source: str) -> None:
    """AuthorizationError unless the module is the one the run was started from."""
    from alphapanda.capsule import digest_of

    if digest_of(source) != spec.digest:
        raise AuthorizationError(
            f"the module of {spec.name} is not the one that it was started from",
            fix=PROMOTE,
            code="E_PROMOTION",
        )


@cache
def by_hand() -> str:
    """The digest of the one module that needs no approval."""
    from alphapanda.by_hand import ByHand
    from alphapanda.capsule import freeze

    return freeze(ByHand).digest

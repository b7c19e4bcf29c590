"""A strategy brought to ARMED in a test's workspace: on the real record, by a certificate made by hand and signed."""

from __future__ import annotations

import os
from typing import Any
from unittest import mock

from alphapanda.capsule import freeze
from alphapanda.certificate import LANES, Certificate, Outcome, TapeFacts, sign
from alphapanda.clock import wall_ns
from alphapanda.promotions import approvals
from alphapanda.promotions.ledger import Ledger
from alphapanda.promotions.records import Record
from alphapanda.settings import Settings
from alphapanda.signing import Signer
from alphapanda.strategy import Strategy
from alphapanda.workspace import Workspace

HOUR = 3600 * 10**9


def proved(signer: Signer, strategy: Strategy, seed: int = 0) -> Certificate:
    """A certificate that says what this strategy's would."""
    capsule = freeze(strategy)
    return sign(
        Certificate(
            strategy=strategy.name, class_name=capsule.class_name, digest=capsule.digest, source=capsule.source,
            parameters=strategy.params, symbols=tuple(strategy.symbols), capital=10**8, seed=seed,
            tape=TapeFacts(digest="t", days=("2026-11-20",), rows=1, first_ts=0, last_ts=1), rulebook="r", limits={},
            fills={}, versions={}, lanes=dict.fromkeys(LANES, "d"), decisions=1,
            checks=(Outcome(name="by hand", passed=True, detail="in a test"),), proved_at=1,
        ),
        signer,
    )  # fmt: skip


def promote(
    workspace: Workspace, env: dict[str, str], strategy: Strategy, *, namespace: str = "zerodha", **terms: Any
) -> Record:
    """Let one run of a strategy trade in a namespace for an hour; ``env`` is that of the platform's processes, whose
    key and database are used, ``terms`` are those of ``approvals.arm``."""
    with mock.patch.dict(os.environ, env, clear=True):
        settings, signer = Settings.load(None), Signer.load()
        with Ledger.open(workspace, settings, signer) as ledger:
            made = proved(signer, strategy, terms.pop("seed", 0))
            if approvals.standing(ledger, made) is None:
                approvals.draft(ledger, signer, made)
                approvals.paper(ledger, signer, made)
            approvals.certify(ledger, signer, made)
            given: dict[str, Any] = {
                "account": "SB0001", "limits": {}, "expires_at": wall_ns() + HOUR, "auto_resume": True,
                "capital": round(settings.paper_trading.starting_cash * 100),
            }  # fmt: skip
            return approvals.arm(ledger, signer, made, namespace=namespace, **given | terms)


def acts(workspace: Workspace, env: dict[str, str]) -> list[str]:
    """Every act on record, the oldest first."""
    with mock.patch.dict(os.environ, env, clear=True), Ledger.open(workspace, Settings.load(None)) as ledger:
        return [one.act for one in ledger.history()]

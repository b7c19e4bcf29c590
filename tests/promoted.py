"""A record of promotions to test with: certificates made by hand, and an attacker who can write to the database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from alphapanda.capsule import digest_of
from alphapanda.certificate import LANES, Certificate, Outcome, TapeFacts, sign
from alphapanda.clock import wall_ns
from alphapanda.promotions import approvals
from alphapanda.promotions.ledger import Ledger
from alphapanda.promotions.records import Record
from alphapanda.settings import Settings
from alphapanda.signing import Signer
from alphapanda.workspace import Workspace

HOUR = 3600 * 10**9
SOURCE = "import alphapanda as ap\n\n\nclass Cross(ap.Strategy):\n    minutes: int = ap.Param(5)\n"
TRIGGERS = {
    "sqlite": [
        f"DROP TRIGGER {t}_no_{act}" for t in ("records", "artifacts") for act in ("update", "delete")
    ],
    "postgresql": [f"DROP TRIGGER {t}_only_added ON {t}" for t in ("records", "artifacts")],
}


def new_signer() -> Signer:
    """Somebody with a key of their own."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Signer(Ed25519PrivateKey.generate())


def certificate(
    signer: Signer, *, strategy: str = "Cross", source: str = SOURCE, **changes: Any
) -> Certificate:
    """One that passed; ``changes`` are its fields."""
    facts: dict[str, Any] = {
        "strategy": strategy,
        "class_name": "Cross",
        "digest": digest_of(source),
        "source": source,
        "parameters": {"minutes": 5},
        "symbols": ("NSE:INFY",),
        "capital": 10**8,
        "seed": 7,
        "tape": TapeFacts(digest="t", days=("2026-11-20",), rows=3, first_ts=0, last_ts=2),
        "rulebook": "r",
        "limits": {},
        "fills": {},
        "versions": {},
        "lanes": dict.fromkeys(LANES, "d"),
        "decisions": 1,
        "checks": (Outcome(name="look-ahead", passed=True, detail="none"),),
        "proved_at": 1,
    }
    return sign(Certificate(**facts | changes), signer)


class Desk:
    """One person at one workspace with a record of promotions; ``settings`` as for ``Settings``."""

    def __init__(
        self, root: Path, database: dict[str, Any], signer: Signer | None = None, **settings: Any
    ) -> None:
        self.signer, self.root = signer or new_signer(), root
        self.settings = Settings(database=database, **settings)
        self.ledger = self.again()

    def again(self) -> Ledger:
        """As another process of this person opens it."""
        return Ledger.open(Workspace(self.root), self.settings, self.signer)

    def certified(self, **facts: Any) -> Certificate:
        """A version brought to CERTIFIED."""
        made = certificate(self.signer, **facts)
        for act in (approvals.draft, approvals.paper, approvals.certify):
            act(self.ledger, self.signer, made)
        return made

    def arm(self, made: Certificate, **terms: Any) -> Record:
        """Armed for an hour in zerodha."""
        given: dict[str, Any] = {
            "namespace": "zerodha",
            "account": "AB1234",
            "limits": {"max_order_quantity": 10},
            "capital": 10**7,
            "expires_at": wall_ns() + HOUR,
        }
        return approvals.arm(self.ledger, self.signer, made, **given | terms)

    def admit(self, **changes: Any) -> Record:
        """What the gateway asks about the run as it was approved, or as ``changes`` say."""
        asked: dict[str, Any] = {
            "namespace": "zerodha",
            "name": "Cross",
            "source": SOURCE,
            "parameters": {"minutes": 5},
            "symbols": ["NSE:INFY"],
            "capital": 10**7,
            "seed": 7,
            "now": wall_ns(),
        }
        return approvals.admit(self.ledger, **asked | changes)

    def attack(
        self, *statements: str, then: Callable[[sa.Connection], None] | None = None, **values: Any
    ) -> None:
        """SQL by somebody who may do anything in the database, its triggers being gone."""
        with self.ledger._database.transaction() as connection:
            for statement in statements:
                connection.execute(sa.text(statement), values)
            if then is not None:
                then(connection)

    def disarm_triggers(self) -> None:
        """The database refuses changes no more."""
        self.attack(*TRIGGERS[self.ledger._database.engine.dialect.name])

    def messages(self) -> str:
        """What the verification of everything says."""
        return "; ".join(one.message for one in self.ledger.verify())


def two_people(root: Path, database: dict[str, Any]) -> tuple[Desk, Desk]:
    """Two with a workspace each and one database: the second has to approve what the first has just asked for."""
    one, other = new_signer(), new_signer()
    database = database or {"sqlite_path": str(root / "shared.sqlite")}
    promotion: dict[str, Any] = {"second_approver": other.public}
    asks = Desk(root / "one", database, one, promotion=promotion)
    assert asks.arm(asks.certified()).state == "CERTIFIED"
    return asks, Desk(root / "two", database, other, promotion=promotion | {"trusted_keys": [one.public]})

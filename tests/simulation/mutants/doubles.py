"""Two mistakes at once: the guard that one of them removes is what hides the other."""

from __future__ import annotations

from tests.simulation.mutants.answers import (
    doubt_is_refusal,
    every_400_is_a_refusal,
    poison_is_refusal,
    retries_on_doubt,
    server_errors_are_refusals,
)
from tests.simulation.mutants.believing import BelievesRefusals
from tests.simulation.mutants.journal import AnyoneWrites, ClaimsInMemory, ForgetsOldKeys
from tests.simulation.mutants.register import both, known
from tests.simulation.mutants.sending import NoExpiry, NoGate

for reading in (doubt_is_refusal, poison_is_refusal, server_errors_are_refusals, every_400_is_a_refusal):
    both(
        f"{reading.__name__}, refusals are believed".replace("_", " "),
        path=BelievesRefusals,
        error=reading,
        seed=1,
    )
both("keys are forgotten, no expiry", path=NoExpiry, store=ForgetsOldKeys, seed=1)
both("retries on doubt, no gate", path=NoGate, error=retries_on_doubt, seed=1)


@known("anyone writes, claims in memory")
class ForgetfulAndShared(AnyoneWrites, ClaimsInMemory):
    """A claim in memory that nobody else can see."""

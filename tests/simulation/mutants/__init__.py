"""Known mistakes, each of which real platforms have made: the simulation has to catch every one of them.

A mutant is a few lines below ``@known("its name")``: a class that overrides the one method it gets wrong, or a function
that reads an error wrongly. Two mistakes that hide behind each other are in ``doubles``.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

from alphapanda.errors import AlphaPandaException
from tests.simulation.mutants.register import MUTANTS, Mutant
from tests.simulation.world import World

for part in ("answers", "sending", "believing", "journal", "doubles"):
    import_module(f"{__name__}.{part}")

__all__ = ["MUTANTS", "Mutant", "caught"]


def caught(mutant: Mutant, seeds: Iterable[int]) -> tuple[int, str]:
    """The first seed that shows the mistake, and how; -1 if none does."""
    for seed in seeds:
        with World(seed, path=mutant.path, store=mutant.store, error=mutant.error) as world:
            try:
                found = world.run(until_wrong=True).violations()
            except AlphaPandaException as error:
                found = [f"raised {type(error).__name__}: {error.message}"]
        if found:
            return seed, found[0]
    return -1, ""

"""The list of mutants, and how each gets on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from alphapanda.zerodha.orderpath import OrderPath
from alphapanda.zerodha.outcomes import Outcome, of_error
from tests.simulation.machine import WorldStore

Reading = Callable[[BaseException], Outcome]
Wrong = TypeVar("Wrong", bound=Callable[..., Any])


class Mutant(NamedTuple):
    """One mistake, or two that hide behind each other."""

    name: str
    path: type[OrderPath] = OrderPath
    store: type[WorldStore] = WorldStore
    error: Reading = of_error
    seed: int = 0  # the first one that shows it, as far as is known: tried before the others


MUTANTS: list[Mutant] = []


def known(name: str, seed: int = 0) -> Callable[[Wrong], Wrong]:
    """Put a wrong path, store or reading of errors on the list, with the seed that shows it."""

    def on_the_list(wrong: Wrong) -> Wrong:
        given: Any = wrong
        if isinstance(given, type):
            of_path = issubclass(given, OrderPath)
            MUTANTS.append(
                Mutant(name, path=given, seed=seed) if of_path else Mutant(name, store=given, seed=seed)
            )
        else:
            MUTANTS.append(Mutant(name, error=given, seed=seed))
        return wrong

    return on_the_list


def both(name: str, **wrong: Any) -> None:
    """Two mistakes at once: each alone hides behind the other's guard."""
    MUTANTS.append(Mutant(name, **wrong))

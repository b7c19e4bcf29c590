"""Which trader stands behind a namespace."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from alphapanda.errors import ConfigurationError, UnknownNameError
from alphapanda.traders.base import Trader

if TYPE_CHECKING:
    from alphapanda.settings import Settings

GROUP = "alphapanda.traders"


class TraderFactory:
    """Makes, initializes and keeps the trader of each namespace; ``close`` shuts them all down.

    Traders are named by entry points of the group ``alphapanda.traders``: the name is the namespace, the value a
    subclass of ``Trader``. Ours are declared the same way as anybody's.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._traders: dict[str, Trader] = {}

    async def get(self, namespace: str) -> Trader:
        """The namespace's trader, initialized; the same object every time."""
        trader = self._traders.get(namespace)
        if trader is None:
            trader = trader_class(namespace).made_for(self._settings)(self._settings)
            await trader.initialize()
            self._traders[namespace] = trader
        return trader

    async def close(self) -> None:
        """Shut every trader down, the newest first; one that fails does not keep the others from it."""
        failures: list[Exception] = []
        while self._traders:
            _, trader = self._traders.popitem()
            try:
                await trader.shutdown()
            except Exception as error:  # noqa: BLE001 - a broker's client may raise anything; the others must still close
                failures.append(error)
        if failures:
            raise failures[0]


def namespaces() -> dict[str, EntryPoint]:
    """Every namespace that has a trader."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def trader_class(namespace: str) -> type[Trader]:
    """The class behind a namespace; UnknownNameError names those there are."""
    known = namespaces()
    if namespace not in known:
        raise UnknownNameError("namespace", namespace, known, code="E_LANE")
    kind = known[namespace].load()
    if not (isinstance(kind, type) and issubclass(kind, Trader)):
        raise ConfigurationError(
            f"{known[namespace].value} is not a Trader",
            fix=f"let the entry point {namespace} of {GROUP} name a subclass of alphapanda.traders.base.Trader",
        )
    return kind

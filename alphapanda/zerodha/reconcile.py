"""Where our books and Zerodha's part, for a person: orders nobody knows the fate of, and positions.

The files are read beside their writer; the broker is asked with a client of our own. Nothing is changed here.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from alphapanda.clock import wall_ns
from alphapanda.errors import AuthenticationError, InfrastructureError
from alphapanda.events import ist
from alphapanda.traders.base import Position
from alphapanda.workspace import Workspace
from alphapanda.zerodha.client import Kite
from alphapanda.zerodha.drift import Drift, Key, net_of
from alphapanda.zerodha.outcomes import of_error
from alphapanda.zerodha.secrets import load_token
from alphapanda.zerodha.standing import fact_on_file, intents_on_file, orders_file
from alphapanda.zerodha.states import LOST

if TYPE_CHECKING:
    from alphapanda.settings import Settings


def lost_orders() -> dict[str, str]:
    """See ``Trader.lost``."""
    found = [one for one in intents_on_file(orders_file(Workspace.find(), "zerodha")) if one.state == LOST]
    return {
        one.order: f"{one.side} {abs(one.remaining)} {one.symbol} of {ist(one.sent):%d %b %H:%M:%S} IST, tag {one.tag}"
        for one in found
    }


def positions(settings: Settings) -> list[Position]:
    """See ``Trader.positions``. AuthenticationError without a login, InfrastructureError if Kite does not answer."""
    path = orders_file(Workspace.find(), "zerodha")
    own = Counter[Key]()
    for one in intents_on_file(path):
        own[one.symbol, one.product] += one.filled
    net, others = _net(settings), _others(fact_on_file(path, "others"), ist(wall_ns()).toordinal())
    rows = [
        Position(*key, net.get(key, 0), own[key], others.get(key, 0)) for key in sorted({*net, *own, *others})
    ]
    return [row for row in rows if row.shown or row.ours or row.theirs]


def _others(kept: str, day: int) -> dict[Key, int]:
    """What a gateway of today takes for others'."""
    when, _, rest = kept.partition(" ")
    return Drift(rest).theirs if when == str(day) else {}


def _net(settings: Settings) -> dict[Key, int]:
    given, token = settings.zerodha, load_token(settings)
    if given.api_key is None or token is None:
        raise AuthenticationError(
            "nobody is logged in: the positions cannot be compared", fix="alphapanda login"
        )
    kite = Kite(
        given.api_key, token, root=given.root_url, timeout=given.timeout_seconds, scale_of=lambda symbol: 100
    )
    try:
        return net_of(kite.positions())
    except Exception as error:  # noqa: BLE001 - the client raises anything
        raise InfrastructureError(
            f"the positions cannot be read: {of_error(error).reason}", fix="alphapanda preflight"
        ) from None

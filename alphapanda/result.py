"""What a run leaves behind, as values, and the digest of what its strategies decided.

The engine fills a ``Result``; a report, a sweep or a proof reads it. Money is paise, prices are price units, times are
nanoseconds of tape time. Nothing here knows the wall clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Any

import msgspec

from alphapanda.events import CancelSignal, Fill, Signal
from alphapanda.instruments import Instrument
from alphapanda.orders import Order

Position = tuple[str, str, str, int, int, int]
"""An open position: strategy, symbol, product, signed quantity, cost in paise (signed like the quantity: a short's
cost is the negative of its proceeds), last price in units."""


class RunError(msgspec.Struct, frozen=True):
    """A callback raised: where in the strategy's source, and at which event."""

    strategy: str
    callback: str
    symbol: str
    ts: int
    seq: int
    file: str
    line: int
    message: str
    traceback: str


class LogLine(msgspec.Struct, frozen=True, gc=False):
    """One line a strategy wrote with ``self.log``."""

    ts: int
    seq: int
    strategy: str
    message: str
    fields: dict[str, Any]


class Mark(msgspec.Struct, frozen=True, gc=False):
    """The account at last prices, once a minute of tape time and at each session's close; paise.

    ``equity`` is cash and positions after charges, ``gross`` the sum of |notionals| held, ``by_strategy`` each
    strategy's profit after charges since the start (they sum to equity less capital).
    """

    ts: int
    equity: int
    gross: int
    by_strategy: tuple[int, ...]


class Result(msgspec.Struct):
    """Everything that happened in one run.

    ``halted`` holds a reason per strategy ("" while it ran to the end). ``orders`` holds every order, those denied by
    our own risk rules and the exits the platform placed included. ``positions`` are those still open at the end.
    ``notes`` tell a person what to know before trusting the figures, such as rules the rulebook marks unconfirmed.
    """

    strategies: tuple[str, ...]
    parameters: tuple[dict[str, Any], ...]
    halted: tuple[str, ...]
    instruments: tuple[Instrument, ...]
    capital: int
    orders: list[Order] = msgspec.field(default_factory=list[Order])
    cancels: list[CancelSignal] = msgspec.field(default_factory=list[CancelSignal])
    fills: list[Fill] = msgspec.field(default_factory=list[Fill])
    marks: list[Mark] = msgspec.field(default_factory=list[Mark])
    positions: list[Position] = msgspec.field(default_factory=list[Position])
    errors: list[RunError] = msgspec.field(default_factory=list[RunError])
    logs: list[LogLine] = msgspec.field(default_factory=list[LogLine])
    notes: list[str] = msgspec.field(default_factory=list[str])
    counts: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    first_ts: int = 0
    last_ts: int = 0


# ── decisions ────────────────────────────────────────────────────────────────────────────────────────────────────

SEED = b"alphapanda decisions 1"  # raise the number when the canonical text changes
DIGEST_BYTES = 16


def decision_lines(result: Result) -> Iterator[bytes]:
    """One canonical line per decision, in order of (seq, strategy, ordinal).

    A line is a JSON array without spaces, so no tag or name can imitate another field:

        [seq,strategy,ordinal,"signal",ts,symbol,quantity,reference,product,limit,stop,sl,tp,validity,ttl,tag]
        [seq,strategy,ordinal,"cancel",ts,order_id]

    Every signal counts, also one our risk rules denied: what was decided does not depend on what became of it. A
    bracket's exits and the broker's square-off follow from decisions and are left out.
    """
    signals = (order.signal for order in result.orders if not order.leg)
    return canonical_lines(signals, result.cancels)


def canonical_lines(signals: Iterable[Signal], cancels: Iterable[CancelSignal]) -> Iterator[bytes]:
    """The same of decisions alone, such as those in a journal."""
    rows: list[tuple[Any, ...]] = [
        (
            *(s.seq, s.strategy, s.ordinal, "signal", s.ts, s.symbol, s.quantity, s.reference, s.product),
            *(s.limit, s.stop, s.sl, s.tp, s.validity, s.ttl, s.tag),
        )
        for s in signals
    ]
    rows += [(c.seq, c.strategy, c.ordinal, "cancel", c.ts, c.order_id) for c in cancels]
    rows.sort(key=itemgetter(0, 1, 2, 3))
    encode = msgspec.json.Encoder().encode
    for row in rows:
        yield encode(row)


def decision_digest(result: Result) -> str:
    """The decisions as one hex string: equal strings mean the same decisions for the same reasons in the same order.

    Wall time, the namespace and the order in which strategies were listed do not enter.
    """
    return chain_digest(decision_lines(result))


def chain_digest(lines: Iterable[bytes]) -> str:
    """Decision lines as one hex string.

    A chain: ``d0 = blake2b(SEED)``, ``dn = blake2b(dn-1 + line n)``, 16 bytes each. A shorter run of the same tape
    therefore passes through the digest of its prefix.
    """
    digest = hashlib.blake2b(SEED, digest_size=DIGEST_BYTES).digest()
    for line in lines:
        digest = hashlib.blake2b(digest + line, digest_size=DIGEST_BYTES).digest()
    return digest.hex()

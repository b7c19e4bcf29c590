"""What is written down of an order before it is sent, and the names by which it is found again.

The key of an intent follows from what was decided: namespace, strategy, tape position, ordinal. It is the same
whoever asks, so asking twice is asking once. The tag is made from the key and travels with the order: by it, an order
whose answer was lost is recognised in the broker's book. Kite does not look at tags: that no order is sent twice is
this side's business alone (Kite Connect has no idempotency key).
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Literal

import msgspec

from alphapanda.orders import Order

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: no I, L, O, U
TAG_LENGTH = 20  # Kite takes no longer one
Purpose = Literal["open", "reduce", "flatten"]


class Intent(msgspec.Struct):
    """One order for the broker, or one slice of one.

    ``quantity`` and ``filled`` are signed, in the units Kite counts; prices are in the instrument's units (see
    ``Instrument.price_scale``), 0 for none. Times are wall ns. ``order`` is the platform's order it is a slice of.
    """

    key: str
    tag: str
    terms_hash: str
    order: str
    run: str
    strategy: str
    exchange: str
    tradingsymbol: str
    product: str
    quantity: int
    limit: int
    trigger: int
    price_scale: int
    tick: int
    validity: str
    purpose: Purpose
    created: int
    expires: int
    slice: int = 0
    slices: int = 1
    state: str = "created"
    reason: str = ""
    epoch: int = 0
    sent: int = 0
    order_id: str = ""
    filled: int = 0
    turnover: int = 0  # Σ price units x quantity
    cancel: str = ""  # why it is to be cancelled; "" if it is not
    cancels: int = 0  # how often that was asked
    cancelled_at: int = 0  # when last
    resize: int = 0  # signed quantity now wanted; 0: as it is
    modified: int = 0
    reads: int = 0  # good looks at the book without it, since it was in doubt
    told: str = ""  # the last status the platform was told of
    chase: float = (
        0.0  # share of the price by which an exit that rests is priced worse each time; 0: it rests
    )

    @property
    def symbol(self) -> str:
        """``EXCHANGE:TRADINGSYMBOL``."""
        return f"{self.exchange}:{self.tradingsymbol}"

    @property
    def remaining(self) -> int:
        """Signed quantity that may still fill."""
        return self.quantity - self.filled

    @property
    def side(self) -> str:
        """BUY or SELL."""
        return "BUY" if self.quantity > 0 else "SELL"

    @property
    def kind(self) -> str:
        """LIMIT or SL: a market order goes out as a limit that is marketable."""
        return "SL" if self.trigger else "LIMIT"


def intent_key(namespace: str, order: Order, part: int) -> str:
    """Which decision it carries out: not what the decision says, so that two versions of one collide."""
    signal = order.signal
    named = (
        namespace,
        signal.strategy,
        str(signal.seq),
        str(signal.ts),
        str(signal.ordinal),
        order.leg,
        str(part),
    )
    return blake2b("\0".join(named).encode(), digest_size=16).hexdigest()


def tag_of(key: str) -> str:
    """Twenty letters and digits that stand for a key: 95 bits of its hash."""
    number = int.from_bytes(blake2b(key.encode(), digest_size=16).digest())
    letters: list[str] = []
    for _ in range(TAG_LENGTH - 1):
        number, at = divmod(number, 32)
        letters.append(ALPHABET[at])
    return "P" + "".join(letters)


def terms_hash(intent: Intent) -> str:
    """What is to be ordered. The same key with other terms is a conflict, never another order."""
    terms = (
        intent.symbol, intent.product, intent.quantity, intent.limit, intent.trigger, intent.validity, intent.slices
    )  # fmt: skip
    return blake2b(repr(terms).encode(), digest_size=16).hexdigest()

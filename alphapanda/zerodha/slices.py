"""A platform's order as intents: priced so that it can leave, cut where the exchange takes no larger ones.

Kite refuses MARKET and SL-M orders without market protection, and one that is protected rests as a limit order anyway
(kite.trade forum 52991). So a market order leaves as a limit that is marketable: the last price and a band against us,
on the tick. What must not be cut at will is not: a slice holds whole lots.
"""

from __future__ import annotations

from alphapanda.events import SECOND
from alphapanda.orders import Order
from alphapanda.zerodha.intents import Intent, Purpose, intent_key, tag_of, terms_hash

SECONDS = {"open": 3, "reduce": 30, "flatten": 120}  # from the decision to the latest sending
STOP_SECONDS = 300  # a protective stop is late rather than missing


def intents_of(
    order: Order, namespace: str, run: str, decided: int, freeze: int | None, band: float
) -> list[Intent]:
    """The intents of an order, in the order they are to be sent. ``freeze`` is the largest quantity of one order,
    ``band`` the share of the price that a market order may give up. ``decided`` is wall ns."""
    instrument, purpose = order.instrument, purpose_of(order)
    lot = instrument.lot_size
    most = max(lot, freeze // lot * lot) if freeze else order.quantity
    sizes = [most] * (order.quantity // most) + [rest for rest in [order.quantity % most] if rest]
    limit, trigger = prices_of(order, band)
    market_exit = order.kind == "MARKET" and purpose != "open"
    seconds = STOP_SECONDS if order.leg.startswith("sl") else SECONDS[purpose]
    made: list[Intent] = []
    for part, size in enumerate(sizes):
        key = intent_key(namespace, order, part)
        intent = Intent(
            key=key, tag=tag_of(key), terms_hash="", order=order.id, run=run, strategy=order.strategy,
            exchange=instrument.exchange, tradingsymbol=instrument.tradingsymbol, product=order.signal.product,
            quantity=size if order.target > 0 else -size, limit=limit, trigger=trigger,
            price_scale=instrument.price_scale, tick=instrument.tick_size, validity=order.signal.validity,
            purpose=purpose, chase=band if market_exit else 0.0,
            created=decided, expires=decided + seconds * SECOND, slice=part, slices=len(sizes),
        )  # fmt: skip
        intent.terms_hash = terms_hash(intent)
        made.append(intent)
    return made


def purpose_of(order: Order) -> Purpose:
    """What the kill levels make of it."""
    if order.leg.startswith("flatten"):
        return "flatten"
    return "reduce" if order.leg or order.closing else "open"


def prices_of(order: Order, band: float) -> tuple[int, int]:
    """Limit and trigger in units, 0 for none."""
    signal = order.signal
    buying, tick = order.target > 0, order.instrument.tick_size
    trigger = signal.stop or 0
    if signal.limit is not None:
        return signal.limit, trigger
    from_here = trigger or signal.reference
    room = max(tick, round(from_here * band))
    worst = from_here + room if buying else max(tick, from_here - room)
    return (worst // tick * tick if buying else -(-worst // tick) * tick), trigger

"""What an order gets of a quote: each rule gives the quantity and price of the next fill, 0 for none.

What is taken of a level is gone from it.
"""

from __future__ import annotations

from alphapanda.sandbox.market import EMPTY, Level, Quote
from alphapanda.sandbox.orders import Order

NOTHING = 0, 0


def arriving(order: Order, quote: Quote) -> tuple[int, int]:
    """Of the best level on the other side, at its price. An arriving order asks again until there is nothing."""
    levels = quote.asks if order.side > 0 else quote.bids
    best, offered, _ = levels[0]
    if not order.remaining or not best or order.side * (order.price - best) < 0:
        return NOTHING
    quantity = min(order.remaining, offered)
    _consume(levels, quantity)
    return quantity, best


def resting(order: Order, quote: Quote, now: int) -> tuple[int, int]:
    """At its own limit: the other side's best price has reached it, or the trade of this moment went through it."""
    levels = quote.asks if order.side > 0 else quote.bids
    best, offered, _ = levels[0]
    if best and order.side * (order.price - best) >= 0:
        quantity = min(order.remaining, offered)
        _consume(levels, quantity)
        return quantity, order.price
    if quote.last_trade_ts == now and order.side * (order.price - quote.last) > 0:
        return min(order.remaining, quote.last_quantity), order.price
    return NOTHING


def auction(order: Order, quote: Quote, now: int) -> tuple[int, int]:
    """At the auction's price, its trade of this moment: a better limit fills whole, one at it what was traded."""
    better = order.side * (order.price - quote.last)
    if order.waiting or quote.last_trade_ts != now or better < 0:
        return NOTHING
    return order.remaining if better else min(order.remaining, quote.last_quantity), quote.last


def _consume(levels: list[Level], quantity: int) -> None:
    price, offered, count = levels[0]
    if offered > quantity:
        levels[0] = (price, offered - quantity, count)
    else:
        del levels[0]
        levels.append(EMPTY)

"""Triggers that live for a year: GTT single and two-leg (Kite docs, GTT).

A trigger knows prices and nothing else: it places its limit order when the last price reaches it, whatever the account
holds by then, and that order passes risk management like any other. "triggered" with a failed result is no protection.
"""

from __future__ import annotations

import datetime as dt
import json
from typing import Any, Protocol

import msgspec

from alphapanda.events import DAY, ist_day
from alphapanda.sandbox.documents import Document, Refused, stamp
from alphapanda.sandbox.market import Market, Quote

YEAR = 365 * DAY
KEPT = 7 * DAY  # how long one that is over is still listed
NEAREST = 0.0025  # of the last price
MOST = 250  # active ones; sources say 250 or 500
EPOCH = dt.date(1970, 1, 1)


class Place(Protocol):
    """Places the order of a trigger; the order id, or Refused."""

    def __call__(self, item: Document, now: int) -> str: ...


class Trigger(msgspec.Struct, kw_only=True):
    """One GTT. ``values`` are in price units, ascending; ``above`` says for each whether it is reached from below."""

    id: int
    type: str
    quote: Quote
    values: list[int]
    above: list[bool]
    orders: list[Document]
    last: float
    created: int
    updated: int
    expires: int
    status: str = "active"


class Triggers:
    """The account's triggers."""

    def __init__(self, market: Market, user_id: str, place: Place) -> None:
        self._market, self._user_id, self._place = market, user_id, place
        self._triggers: dict[int, Trigger] = {}
        self._last_id = 100_000

    def add(self, params: dict[str, str], now: int) -> int:
        """``POST /gtt/triggers``. Raises Refused."""
        if sum(one.status == "active" for one in self._triggers.values()) >= MOST:
            raise Refused("InputException", f"Maximum allowed triggers ({MOST}) exceeded.")
        self._last_id += 1
        self._triggers[self._last_id] = self._made(self._last_id, params, now)
        return self._last_id

    def change(self, number: int, params: dict[str, str], now: int) -> int:
        """``PUT /gtt/triggers/{id}``: new terms for an active trigger. Raises Refused."""
        old = self._active(number)
        self._triggers[number] = made = self._made(number, params, now)
        made.created = old.created
        return number

    def delete(self, number: int, now: int) -> int:
        """``DELETE /gtt/triggers/{id}``. Raises Refused."""
        trigger = self._active(number)
        trigger.status, trigger.updated = "deleted", now
        return number

    def documents(self, now: int) -> list[Document]:
        """``GET /gtt/triggers``: the active ones and those of the last seven days."""
        return [
            self._document(one)
            for one in self._triggers.values()
            if one.status == "active" or (one.status != "deleted" and one.updated > now - KEPT)
        ]

    def document(self, number: int) -> Document:
        """``GET /gtt/triggers/{id}``. Raises Refused."""
        return self._document(self._known(number))

    def moved(self, quote: Quote, now: int) -> None:
        """A tick: whatever it reaches fires, once."""
        for trigger in self._triggers.values():
            if trigger.status != "active" or trigger.quote is not quote or not quote.last:
                continue
            for leg, (value, above) in enumerate(zip(trigger.values, trigger.above, strict=True)):
                if (quote.last >= value) if above else (quote.last <= value):
                    self._fire(trigger, leg, now)
                    break

    def expire(self, now: int) -> None:
        """Triggers whose time is over."""
        for trigger in self._triggers.values():
            if trigger.status == "active" and trigger.expires <= now:
                trigger.status, trigger.updated = "expired", now

    def settled(self, order_id: str, reason: str) -> None:
        """An order was rejected after it got its id: the trigger that placed it shows so."""
        for trigger in self._triggers.values():
            for item in trigger.orders:
                result: Document | None = item["result"]
                if result is not None and result["order_result"]["order_id"] == order_id:
                    result["order_result"] |= {"status": "failed", "rejection_reason": reason}

    def _fire(self, trigger: Trigger, leg: int, now: int) -> None:
        trigger.status, trigger.updated = "triggered", now
        item = trigger.orders[leg]
        try:
            result = {"status": "success", "order_id": self._place(item, now), "rejection_reason": ""}
        except Refused as refused:
            result = {"status": "failed", "order_id": "", "rejection_reason": refused.message}
        item["result"] = {
            "account_id": self._user_id, "exchange": item["exchange"], "tradingsymbol": item["tradingsymbol"],
            "validity": "DAY", "product": item["product"], "order_type": item["order_type"],
            "transaction_type": item["transaction_type"], "quantity": item["quantity"], "price": item["price"],
            "meta": json.dumps({"app_id": 0, "gtt": trigger.id}), "timestamp": stamp(now),
            "triggered_at": trigger.quote.instrument.rupees(trigger.quote.last), "order_result": result,
        }  # fmt: skip

    def _made(self, number: int, params: dict[str, str], now: int) -> Trigger:
        """A trigger of the three fields of the form. Raises Refused for what Kite would not take."""
        kind = params.get("type", "")
        try:
            condition: Any = json.loads(params["condition"])
            items: Any = json.loads(params["orders"])
            quote = self._market.symbols.get(f"{condition['exchange']}:{condition['tradingsymbol']}")
            scale = quote.instrument.price_scale if quote else 1
            values = [round(float(value) * scale) for value in condition["trigger_values"]]
            orders = [self._item(item) for item in items]
            last = float(condition["last_price"])
        except (KeyError, TypeError, ValueError):
            raise Refused("InputException", "Invalid `condition` or `orders`.") from None
        legs = {"single": 1, "two-leg": 2}.get(kind)
        if quote is None or not quote.instrument.tradable:
            raise Refused("InputException", "Invalid instrument for the trigger.")
        if legs is None or len(values) != legs or len(orders) != legs or values != sorted(values):
            raise Refused("InputException", "Invalid `type`, trigger values or number of orders.")
        if any(abs(value - quote.last) < quote.last * NEAREST for value in values):
            raise Refused(
                "InputException", "Trigger price should differ from the last price by at least 0.25%."
            )
        if legs == 2 and not values[0] < quote.last < values[1]:
            raise Refused("InputException", "The last price has to lie between the two trigger prices.")
        expiry = quote.instrument.expiry
        expires = now + YEAR if expiry is None else (expiry.toordinal() - EPOCH.toordinal() + 1) * DAY
        if expiry is not None and expiry.toordinal() - EPOCH.toordinal() < ist_day(now):
            raise Refused("InputException", "Invalid instrument for the trigger.")
        return Trigger(
            id=number, type=kind, quote=quote, values=values, above=[value > quote.last for value in values],
            orders=orders, last=last, created=now, updated=now, expires=expires,
        )  # fmt: skip

    def _item(self, item: Document) -> Document:
        if item["order_type"] != "LIMIT" or item["product"] not in ("CNC", "NRML"):
            raise Refused("InputException", "GTT takes limit orders of product CNC or NRML.")
        names = ("exchange", "tradingsymbol", "product", "order_type", "transaction_type")
        numbers = {"quantity": int(item["quantity"]), "price": float(item["price"])}
        return {name: str(item[name]) for name in names} | numbers | {"result": None}

    def _known(self, number: int) -> Trigger:
        trigger = self._triggers.get(number)
        if trigger is None:
            raise Refused("GeneralException", "Trigger not found.", 404)
        return trigger

    def _active(self, number: int) -> Trigger:
        trigger = self._known(number)
        if trigger.status != "active":
            raise Refused("InputException", f"Trigger is {trigger.status}.")
        return trigger

    def _document(self, trigger: Trigger) -> Document:
        of = trigger.quote.instrument
        return {
            "id": trigger.id, "user_id": self._user_id, "parent_trigger": None, "type": trigger.type,
            "created_at": stamp(trigger.created), "updated_at": stamp(trigger.updated),
            "expires_at": stamp(trigger.expires), "status": trigger.status,
            "condition": {
                "exchange": of.exchange, "last_price": trigger.last, "tradingsymbol": of.tradingsymbol,
                "trigger_values": [of.rupees(value) for value in trigger.values], "instrument_token": of.token,
            },
            "orders": [dict(item) for item in trigger.orders], "meta": None,
        }  # fmt: skip

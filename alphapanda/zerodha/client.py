"""Kite's HTTP, on the official client, hardened: no retries, no redirects, one session a thread, terms checked before.

The client follows redirects (a 307 makes requests send a POST a second time) and knows no retries of its own; both are
made sure of here. What it raises is read by ``outcomes`` and nowhere else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from kiteconnect import KiteConnect  # pyright: ignore[reportMissingTypeStubs]
from requests.adapters import BaseAdapter, HTTPAdapter

from alphapanda.zerodha.intents import Intent
from alphapanda.zerodha.outcomes import NeverSent, Outcome, of_answer, of_error
from alphapanda.zerodha.reading import Row, Trade, row_of, trade_of
from alphapanda.zerodha.session import clock_of

if TYPE_CHECKING:
    from pydantic import SecretStr
    from requests import Response

VARIETY = "regular"
ALIVE = HTTPAdapter(max_retries=0)


class _Client(KiteConnect):
    """The official client without its reading of dates: a guess by dateutil for every stamp of every row took 95 ms a
    look at a book of 100 orders, twenty times all the rest, and this module reads the two it needs."""

    def _format_response(self, data: Any) -> Any:
        return data


class Kite:
    """One account's calls. The key and the token are never shown; ``token`` may be replaced by a newer one."""

    def __init__(
        self,
        api_key: SecretStr,
        token: SecretStr | None,
        *,
        root: str,
        timeout: float,
        scale_of: Callable[[str], int],
        adapter: BaseAdapter = ALIVE,
    ) -> None:
        self._key, self._token = api_key, token
        self._root, self._timeout, self._scale_of, self._adapter = root, timeout, scale_of, adapter
        self._local = threading.local()
        self.skew = 0.0  # seconds our clock is surely ahead of the broker's, by its newest answer

    def __repr__(self) -> str:
        return f"<Kite at {self._root}>"

    def use(self, token: SecretStr) -> None:
        """A new day's token."""
        self._token = token

    def place(self, intent: Intent, gate: Callable[[], bool] = lambda: True) -> Outcome:
        """Post an intent, once. ``gate`` is asked last, when all that is left is the socket."""
        try:
            terms, client = terms_of(intent), self._client()
            if not gate():
                return Outcome("unsent", reason="its time was over, or it may not leave any more")
            return of_answer(client.place_order(variety=VARIETY, **terms))
        except Exception as error:  # noqa: BLE001 - the client turns accepted orders into any of a dozen exceptions
            return of_error(error)

    def cancel(self, intent: Intent) -> Outcome:
        """Ask for an order's cancel; whether it was is for the book to say."""
        return self.cancel_by_id(intent.order_id)

    def cancel_by_id(self, order_id: str) -> Outcome:
        """The same, for an order that is known by its id only."""
        try:
            return of_answer(self._client().cancel_order(variety=VARIETY, order_id=order_id))
        except Exception as error:  # noqa: BLE001 - as above
            return of_error(error)

    def modify(self, intent: Intent, quantity: int = 0, limit: int = 0) -> Outcome:
        """Ask for another quantity, or another limit in units; 0 leaves it."""
        terms: dict[str, Any] = (
            {"quantity": abs(quantity)} if quantity else {"price": limit / intent.price_scale}
        )
        try:
            return of_answer(self._client().modify_order(variety=VARIETY, order_id=intent.order_id, **terms))
        except Exception as error:  # noqa: BLE001 - as above
            return of_error(error)

    def book(self) -> tuple[list[Row], list[Trade]]:
        """The day's orders, then its trades: a trade is never missing for an order that the first list calls complete.

        Raises what the client raises.
        """
        orders = cast("list[dict[str, Any]]", self._client().orders())
        trades = cast("list[dict[str, Any]]", self._client().trades())
        rows = [row_of(one) for one in orders]
        return rows, [
            trade_of(one, self._scale_of(f"{one['exchange']}:{one['tradingsymbol']}")) for one in trades
        ]

    def profile(self) -> dict[str, Any]:
        """Who the token belongs to: the cheapest question that tells whether it lives."""
        return cast("dict[str, Any]", self._client().profile())

    def end_session(self, token: SecretStr) -> None:
        """Log out: the token is dead for everybody. Raises what the client raises."""
        self._client().invalidate_access_token(token.get_secret_value())

    def positions(self) -> list[dict[str, Any]]:
        """Net positions of the account, ours and others'."""
        return cast("dict[str, list[dict[str, Any]]]", self._client().positions())["net"]

    def _client(self) -> Any:
        if self._token is None:
            raise NeverSent("nobody is logged in")
        made = getattr(self._local, "client", None)
        if made is None or self._local.token is not self._token:
            made = _Client(
                self._key.get_secret_value(),
                self._token.get_secret_value(),
                root=self._root,
                timeout=self._timeout,
            )
            session = made.reqsession
            session.max_redirects = 0
            session.trust_env = False  # a proxy of the environment must not see a token
            session.hooks["response"].append(self._heard)
            session.mount("https://", self._adapter)
            session.mount("http://", self._adapter)
            self._local.client, self._local.token = made, self._token
        return made

    def _heard(self, answer: Response, *_: object, **__: object) -> None:
        if (clock := clock_of(answer)) is not None:
            self.skew = clock.skew


def terms_of(intent: Intent) -> dict[str, Any]:
    """An intent as the client's keyword arguments. Raises NeverSent for terms that no exchange takes: the client sends
    fractions, negative numbers and long tags as they are."""
    if (
        abs(intent.quantity) < 1
        or intent.limit < 0
        or intent.trigger < 0
        or not (intent.limit or intent.trigger)
    ):
        raise NeverSent(
            f"quantity {intent.quantity}, limit {intent.limit}, trigger {intent.trigger}: not an order"
        )
    terms: dict[str, Any] = {
        "exchange": intent.exchange,
        "tradingsymbol": intent.tradingsymbol,
        "transaction_type": intent.side,
        "quantity": abs(intent.quantity),
        "product": intent.product,
        "order_type": intent.kind,
        "price": intent.limit / intent.price_scale,
        "validity": intent.validity,
        "tag": intent.tag,
    }
    if intent.trigger:
        terms["trigger_price"] = intent.trigger / intent.price_scale
    return terms

"""What an answer to a placed order means.

An allow-list. Only what is listed counts as a refusal, or as never having left; everything else, and above all what
nobody thought of, leaves the order's fate open. The official client turns some accepted orders into ReadTimeout,
ConnectionError, DataException, KeyError, TypeError and AttributeError; a retry of any of them is a second order.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import requests
from kiteconnect import exceptions as kite  # pyright: ignore[reportMissingTypeStubs]
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

RATE_LIMITED = 429
TIMED_OUT = "timed out"  # Kite sends it with a 400, and has placed such orders
MARGIN_WORDS = ("margin", "insufficient", "holding")


class NeverSent(Exception):
    """Our own no, before anything was written to a socket."""


class Outcome(NamedTuple):
    """``received``: the broker has it under ``order_id`` (not yet that it accepted it). ``refused``: it does not have
    it. ``unsent``: nothing left. ``open``: nobody knows."""

    kind: Literal["received", "refused", "unsent", "open"]
    order_id: str = ""
    reason: str = ""
    token_dead: bool = False
    rate_limited: bool = False


def of_answer(order_id: object) -> Outcome:
    """The outcome of a call that returned."""
    if isinstance(order_id, str) and order_id:
        return Outcome("received", order_id)
    return Outcome("open", reason="the answer held no order id")


def of_error(error: BaseException) -> Outcome:
    """The outcome of a call that raised."""
    said = _short(error)
    if isinstance(error, NeverSent):
        return Outcome("unsent", reason=said)
    if isinstance(error, kite.TokenException):
        return Outcome("refused", reason=said, token_dead=True)
    if isinstance(error, kite.PermissionException):
        return Outcome("refused", reason=said)
    if isinstance(error, kite.NetworkException) and error.code == RATE_LIMITED:
        return Outcome("refused", reason=f"rate limit of the broker: {said}", rate_limited=True)
    if isinstance(error, kite.InputException) and error.code == 400 and TIMED_OUT not in said.lower():
        return Outcome("refused", reason=said)
    if (
        type(error) is kite.GeneralException
        and error.code == 400
        and any(word in said.lower() for word in MARGIN_WORDS)
        and TIMED_OUT not in said.lower()
    ):
        return Outcome(
            "refused", reason=said
        )  # MarginException and HoldingException: the client has no such classes
    if isinstance(error, requests.exceptions.ConnectTimeout) or _no_connection(error):
        return Outcome("unsent", reason=said)
    return Outcome("open", reason=f"{type(error).__name__}: {said}")


def _no_connection(error: BaseException) -> bool:
    """Whether requests says that no connection could be made: then no byte was sent."""
    if not isinstance(error, requests.exceptions.ConnectionError):
        return False
    seen: list[object] = [error]
    while seen:
        one = seen.pop()
        if isinstance(one, NewConnectionError | ConnectTimeoutError | NameResolutionError):
            return True
        if isinstance(one, BaseException):
            seen += [
                *(a for a in one.args if isinstance(a, BaseException)),
                *filter(None, [getattr(one, "reason", None)]),
            ]
    return False


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]

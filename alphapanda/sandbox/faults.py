"""Everything that can be made to go wrong at the sandbox, by name.

A fault is switched on for a number of times, at a rate, for calls or orders whose subject contains ``match``; the
broker asks ``hit`` at the place the fault belongs to. Faults of answers exist for four kinds of calls: ``place-``,
``modify-`` and ``cancel-`` (the broker has acted when the answer goes wrong, unless the table says otherwise) and
``read-`` (any GET). The lists follow the vendor's forum and what the official client was seen to do.
"""

from __future__ import annotations

import random

import msgspec

from alphapanda.errors import UnknownNameError, ValidationError
from alphapanda.sandbox.documents import Answer, Refused
from alphapanda.sandbox.ticker import FAULTS as TICKER

HTML = "text/html; charset=utf-8"
PAGE = b"<html><head><title>%d</title></head><body><center><h1>%d</h1></center></body></html>"
TIMED_OUT = "Order request timed out. Please check the order book and confirm before placing again."


class Kind(msgspec.Struct, frozen=True):
    """What a fault does, and its ``seconds`` unless told otherwise (0: it has no duration)."""

    meaning: str
    seconds: float = 0.0


def _html(status: int) -> Answer:
    return Answer(status=status, content_type=HTML, body=PAGE % (status, status))


def _error(error_type: str, message: str, status: int | None = None) -> Answer:
    return Refused(error_type, message, status).answer


# What the client gets although the broker has acted. None stands for the true answer.
ANSWERS: dict[str, tuple[str, Answer]] = {
    "timeout": ("no answer ever comes", Answer(delivery="silence")),
    "drop": ("the connection closes without an answer", Answer(delivery="drop")),
    "reset": ("the connection is reset", Answer(delivery="reset")),
    "truncated": ("half the body, then the connection closes", Answer(delivery="truncated")),
    "timeout-400": (
        "400 'Order request timed out', kite.trade forum 35732",
        _error("InputException", TIMED_OUT),
    ),
    "html-502": ("502 with a page of HTML", _html(502)),
    "html-504": ("504 with a page of HTML", _html(504)),
    "html-200": ("200 with a page of HTML", _html(200)),
    "empty": ("200 with an empty body", Answer()),
    "not-json": ("200 that says JSON and is not", Answer(body=b'{"status": "succ')),
    "no-data": ("JSON without data: KeyError in the client", Answer(body=b'{"status":"success"}')),
    "data-null": (
        "JSON with data null: TypeError in the client",
        Answer(body=b'{"status":"success","data":null}'),
    ),
    "no-order-id": (
        "data without order_id: KeyError in the client",
        Answer(body=b'{"status":"success","data":{}}'),
    ),
    "null": ("the body is null: AttributeError in the client", Answer(body=b"null")),
    "list": ("the body is a list: AttributeError in the client", Answer(body=b"[]")),
    "no-error-type": (
        "an error without error_type: TypeError in the client",
        Answer(status=500, body=b'{"status":"error","message":"Something went wrong"}'),
    ),
    "no-message": (
        "an error without message: KeyError in the client",
        Answer(status=500, body=b'{"status":"error","error_type":"GeneralException"}'),
    ),
    "no-content-type": (
        "no content-type header: KeyError in the client",
        Answer(content_type=None, body=b'{"status":"success","data":{"order_id":"0"}}'),
    ),
    "redirect": (
        "307 to the same address: requests sends the call again",
        Answer(status=307, content_type=HTML),
    ),
    "oms-503": (
        "503 NetworkException, forum 21259",
        _error("NetworkException", "Request failed (kitetrade-oms)"),
    ),
    "order-500": (
        "500 OrderException",
        _error("OrderException", "Unknown order error. Check the order book."),
    ),
    "general-500": ("500 GeneralException", _error("GeneralException", "Something unexpected went wrong.")),
    "data-502": (
        "502 DataException as JSON",
        _error("DataException", "Unable to understand the OMS response."),
    ),
}
REFUSALS: dict[str, tuple[str, Answer]] = {
    "lost": ("the request never arrives and no answer comes", Answer(delivery="silence")),
    "refused-connection": ("the connection is reset before the request is read", Answer(delivery="reset")),
    "429": ("too many requests, not acted on", _error("NetworkException", "Too many requests", 429)),
    "html-429": ("429 as a page of HTML, not acted on: the client says DataException 502", _html(429)),
    "margin": (
        "400 MarginException, not acted on: the client says GeneralException",
        _error(
            "MarginException",
            "Insufficient funds. Required margin is 100000.00 but available margin is 10.00.",
        ),
    ),
    "session-403": (
        "403 TokenException, not acted on",
        _error("TokenException", "Incorrect `api_key` or `access_token`."),
    ),
}
CALLS = {
    "place": "POST of an order",
    "modify": "PUT of an order",
    "cancel": "DELETE of an order",
    "read": "any GET",
}

KINDS: dict[str, Kind] = {
    f"{call}-{name}": Kind(f"{what}: {meaning}")
    for call, what in CALLS.items()
    for name, (meaning, _) in (ANSWERS | REFUSALS).items()
    if not (call == "read" and name in ("no-order-id", "timeout-400", "margin"))
} | {
    "place-late": Kind("no answer, and the order reaches the broker only after some seconds", 8),
    "place-late-400": Kind("400 'Order request timed out', and the order appears after some seconds, forum 35732", 8),
    "place-slow": Kind("the true answer, after some seconds", 3),
    "order-rejected": Kind("200 with an order id, then REJECTED by risk management"),
    "order-stuck": Kind("the order stays in PUT ORDER REQ RECEIVED, forum 41029", 90),
    "order-partial-cancel": Kind("half fills, then the exchange cancels the rest (limit price protection)"),
    "order-tag-missing": Kind("the book shows tag null and no tags"),
    "order-tag-in-tags": Kind("the book shows tag null, and the tag among tags"),
    "stop-vanishes": Kind("at its trigger the exchange cancels a stop (limit price protection), forum 13838"),
    "cancel-late": Kind("the exchange takes some seconds to cancel: fills may come first", 3),
    "autoslice-mixed": Kind("every second child of an autoslice order fails"),
    "book-empty": Kind("GET /orders, /trades and /portfolio/positions answer with empty lists"),
    "book-stale": Kind("GET /orders and /trades show the book as it was some seconds ago", 3),
    "book-truncated": Kind("GET /orders and /trades leave out the newer half"),
    "positions-stale": Kind("positions carry the last price of their last fill, forum 51913"),
    "update-dropped": Kind("an order update is never sent"),
    "update-duplicated": Kind("an order update is sent twice"),
    "update-late": Kind("an order update is sent late", 5),
    "update-reordered": Kind("an order update is sent after the next one"),
    "clock-skew": Kind("the Date header of an answer is some seconds ahead", 30),
    "token-dead": Kind("the access token dies at the next REST call; sockets stay open"),
    "ip-missing": Kind("order calls: no IP is registered for the app"),
    "ip-unknown": Kind("order calls: the caller's IP is not the registered one"),
    "ip-generic": Kind("order calls: 'Insufficient permission for that call.'"),
    "plan-personal": Kind("quotes and candles: the app is on the free plan; socket upgrades get 403"),
    "ticker-403": Kind("a socket upgrade is refused like a dead token's"),
    "ticker-429": Kind("a socket upgrade is refused as one too many"),
} | {name.replace("_", "-"): Kind(f"one socket: {meaning}") for name, meaning in TICKER.items()}  # fmt: skip


class Fault(msgspec.Struct):
    """A fault that is switched on. ``times`` is how often it will still strike, None for ever."""

    name: str
    times: int | None = 1
    rate: float = 1.0
    match: str = ""
    seconds: float = 0.0
    hits: int = 0


class Faults:
    """The faults that are switched on. Draws come from ``seed``: the same calls meet the same faults."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self._on: dict[str, Fault] = {}
        self.struck: dict[str, int] = {}

    def switch(
        self,
        name: str,
        *,
        times: int | None = 1,
        rate: float = 1.0,
        match: str = "",
        seconds: float | None = None,
    ) -> Fault:
        """Switch a fault on: ``times`` strikes (None: until switched off), each with probability ``rate``.

        ``match`` must occur in the subject: path for reads, order id, symbol and tag for orders. ``seconds`` is the
        fault's duration; None takes the one of its kind. Raises UnknownNameError and ValidationError.
        """
        kind = KINDS.get(name)
        if kind is None:
            raise UnknownNameError("fault", name, list(KINDS))
        if (
            not 0.0 <= rate <= 1.0
            or (times is not None and times < 1)
            or (seconds is not None and seconds < 0)
        ):
            raise ValidationError(
                f"fault {name} with times={times}, rate={rate}, seconds={seconds}",
                fix="give times from 1 (or null for ever), rate from 0 to 1 and seconds from 0",
            )
        self._on[name] = fault = Fault(name, times, rate, match, kind.seconds if seconds is None else seconds)
        return fault

    def off(self, name: str | None = None) -> None:
        """Switch one fault off, or all."""
        if name is None:
            self._on.clear()
        else:
            self._on.pop(name, None)

    def hit(self, name: str, subject: str = "") -> Fault | None:
        """Whether this fault strikes here and now; counts the strike."""
        fault = self._on.get(name)
        if (
            fault is None
            or fault.match not in subject
            or (fault.rate < 1.0 and self._random.random() >= fault.rate)
        ):
            return None
        fault.hits += 1
        self.struck[name] = self.struck.get(name, 0) + 1
        if fault.times is not None:
            fault.times -= 1
            if fault.times == 0:
                del self._on[name]
        return fault

    def take(self, name: str) -> bool:
        """``hit`` for the ticker, which writes names with underscores."""
        return self.hit(name.replace("_", "-")) is not None

    def answer(self, call: str, subject: str, *, acted: bool) -> Answer | None:
        """The wrong answer to a call, if one strikes: of those sent after the broker acted, or instead of it."""
        for name, (_, answer) in (ANSWERS if acted else REFUSALS).items():
            if f"{call}-{name}" in self._on and self.hit(f"{call}-{name}", subject):
                return answer
        return None

    @property
    def active(self) -> list[Fault]:
        """The faults that are on."""
        return list(self._on.values())

"""The server's half of one ticker socket, without the socket: messages in, messages out.

What Kite does (Kite docs, websocket): an instrument that is subscribed comes in mode quote until told otherwise, its
first packet is the last known quote, however old; after that it is sent when it changed, at most about twice a second.
A byte comes every second or so when there is nothing to say. Texts carry order updates, errors and notices.
What Kite says to requests it cannot serve is not documented: the words of those errors are ours.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Protocol

import msgspec

from alphapanda.events import DAY, SECOND
from alphapanda.sandbox.packets import HEARTBEAT, MODES, Mode, Quote, frame, packet

TOKENS_MAX = 3000  # of a socket
CONFLATION = SECOND // 2  # between two packets of one instrument
HEARTBEATS = SECOND  # between two of them
BURST = 3000  # packets at once

FAULTS: Mapping[str, str] = {
    "ticker_silent": "nothing more is sent, not even heartbeats; the socket stays open",
    "ticker_close": "the socket is closed in good order (1001)",
    "ticker_abort": "the connection is reset",
    "ticker_malformed": "one frame that promises more packets than it has",
    "ticker_burst": f"{BURST} packets at once, of the instruments that are subscribed",
    "ticker_stale_snapshot": "the first packets after a subscription carry the stamps of another day",
    "ticker_negative_price": "one packet with a last price below zero",
    "ticker_unknown_length": "one packet of a length that is not documented",
    "ticker_price_zero": "one packet with a last price of 0",
    "ticker_price_max": "one packet with a last price of 0xFFFFFFFF",
    "ticker_stamp_1970": "one packet stamped 0",
    "ticker_stamp_tomorrow": "one packet stamped a day ahead",
    "ticker_volume_backwards": "one packet with a volume of half the day's",
    "ticker_quote_mode": "all instruments fall back to mode quote without a word",
    "ticker_frozen": "one instrument, the first subscribed, is not sent any more",
    "ticker_error_text": "a text of type error, and one that is no JSON",
}  # fmt: skip
_ENDINGS: Mapping[str, Literal["close", "abort"]] = {"ticker_close": "close", "ticker_abort": "abort"}


class Market(Protocol):
    """Quotes by token; ``version`` grows with each change. ``sandbox.market.Market`` is one."""

    @property
    def version(self) -> int: ...
    @property
    def quotes(self) -> Mapping[int, Quote]: ...
    def changed_since(self, version: int) -> Iterable[int]: ...


class Faults(Protocol):
    """What is to go wrong: ``take`` says whether a fault is due now, and uses it up once."""

    def take(self, name: str) -> bool: ...


class Scripted:
    """Faults as a test asks for them: each name as often as it was set."""

    def __init__(self) -> None:
        self._due: dict[str, int] = {}

    def set(self, name: str, times: int = 1) -> None:
        """Let it happen so many times more. Raises KeyError for a name that is not in ``FAULTS``."""
        self._due[name] = self._due.get(name, 0) + times if FAULTS[name] else 0

    def take(self, name: str) -> bool:
        """See ``Faults``."""
        left = self._due.get(name, 0)
        self._due[name] = max(0, left - 1)
        return left > 0


class _Request(msgspec.Struct):
    a: str
    v: list[Any]


_ALTERED: Mapping[str, Callable[[Quote], dict[str, int]]] = {  # what each fault makes of a quote
    "ticker_negative_price": lambda quote: {"last": -quote.last},
    "ticker_price_zero": lambda _: {"last": 0},
    "ticker_price_max": lambda _: {"last": 0xFFFFFFFF},
    "ticker_stamp_1970": lambda _: {"ts": 0},
    "ticker_stamp_tomorrow": lambda quote: {"ts": quote.ts + DAY},
    "ticker_volume_backwards": lambda quote: {"volume": quote.volume // 2},
}


class TickerSession:
    """One socket. Whoever holds the socket sends what ``text`` and ``due`` return, in order, and calls ``due`` every
    tenth of a second or so; when ``ending`` is set, it closes ("close") or resets ("abort") the connection.
    """

    def __init__(self, market: Market, faults: Faults | None = None) -> None:
        self.ending: Literal["", "close", "abort"] = ""
        self.modes: dict[int, Mode] = {}  # of the tokens that are subscribed
        self.silent = False
        self._market, self._faults = market, faults or Scripted()
        self._seen = market.version
        self._changed: dict[int, None] = {}  # tokens that wait to be sent, the longest waiting first
        self._sent: dict[int, int] = {}  # when each was sent
        self._beat = 0
        self._frozen: int | None = None

    def text(self, message: str) -> list[bytes | str]:
        """What the client said; what is answered at once. Nothing it says can raise."""
        try:
            request = msgspec.json.decode(message, type=_Request)
            mode, tokens = _meaning(request)
        except (ValueError, RecursionError):
            return self._said(_error(f"Invalid message: {message[:60]}"))
        if request.a == "unsubscribe":
            for token in tokens:
                self.modes.pop(token, None)
                self._changed.pop(token, None)
            return []
        if mode is None:
            fresh = dict.fromkeys(token for token in tokens if token in self._market.quotes)
            if len(self.modes.keys() | fresh.keys()) > TOKENS_MAX:
                return self._said(_error(f"Too many tokens subscribed. Max permitted is {TOKENS_MAX}."))
            self.modes |= dict.fromkeys(fresh, "quote")
            tokens = list(fresh)
        else:
            tokens = [token for token in tokens if token in self.modes]
            self.modes |= dict.fromkeys(tokens, mode)
        return self._said(*self._snapshot(tokens))

    def due(self, now: int) -> list[bytes | str]:
        """What is to be sent at ``now`` (ns UTC): the instruments that changed, or a heartbeat."""
        self._begin_faults()
        version, self._seen = self._seen, self._market.version
        if version != self._seen:
            for token in self._market.changed_since(version):
                if token in self.modes:
                    self._changed.setdefault(token)
        ready = [token for token in self._changed if now >= self._sent.get(token, 0) + CONFLATION]
        for token in ready:
            del self._changed[token]
            self._sent[token] = now
        packets = [
            self._packet(token) for token in ready if token != self._frozen and token in self._market.quotes
        ]
        found: list[bytes | str] = [frame(packets)] if packets else []
        found += self._wrong(now)
        if not found and now >= self._beat + HEARTBEATS:
            found = [HEARTBEAT]
        if found:
            self._beat = now
        return self._said(*found)

    def order(self, document: Mapping[str, Any]) -> str:
        """An order update as the text that carries it; "" while the socket is silent."""
        return "" if self.silent else json.dumps({"type": "order", "data": document})

    def _said(self, *messages: bytes | str) -> list[bytes | str]:
        return [] if self.silent or self.ending else list(messages)

    def _snapshot(self, tokens: list[int]) -> list[bytes]:
        if not tokens:
            return []
        shift = -3 * DAY if self._faults.take("ticker_stale_snapshot") else 0
        packets: list[bytes] = []
        for token in tokens:
            quote = self._market.quotes[token]
            if shift and quote.ts:
                quote = _altered(
                    quote, ts=quote.ts + shift, last_trade_ts=max(0, quote.last_trade_ts + shift)
                )
            packets.append(packet(quote, self.modes[token]))
        return [frame(packets)]

    def _packet(self, token: int) -> bytes:
        """One quote, with what a fault does to it."""
        quote: Quote = self._market.quotes[token]
        for name, alter in _ALTERED.items():
            if self._faults.take(name):
                quote = _altered(quote, **alter(quote))
        return packet(quote, self.modes[token])

    def _begin_faults(self) -> None:
        self.silent = self.silent or self._faults.take("ticker_silent")
        for name, ending in _ENDINGS.items():
            if not self.ending and self._faults.take(name):
                self.ending = ending
        if self.modes and self._faults.take("ticker_quote_mode"):
            self.modes = dict.fromkeys(self.modes, "quote")
        if self.modes and self._faults.take("ticker_frozen"):
            self._frozen = next(iter(self.modes))

    def _wrong(self, now: int) -> list[bytes | str]:
        """Whole messages that are faults."""
        found: list[bytes | str] = []
        if self._faults.take("ticker_malformed"):
            found.append(b"\x00\x05\x00\xb8" + b"\xff" * 11)
        if self._faults.take("ticker_unknown_length"):
            found.append(frame([b"\x01" * 17]))
        if self._faults.take("ticker_error_text"):
            found += [_error("something went wrong"), "not JSON"]
        if self.modes and self._faults.take("ticker_burst"):
            tokens = [token for token in self.modes if token in self._market.quotes]
            found.append(frame([self._packet(tokens[n % len(tokens)]) for n in range(BURST)]))
            self._sent |= dict.fromkeys(tokens, now)
        return found


def _meaning(request: _Request) -> tuple[Mode | None, list[int]]:
    """The mode that is asked for (None: none), and for which tokens. Raises ValueError."""
    mode: Mode | None = None
    listed: Any = request.v
    if request.a == "mode":
        name, listed = request.v
        mode = next(one for one in MODES if one == name) if name in MODES else None
        if mode is None:
            raise ValueError(name)
    elif request.a not in ("subscribe", "unsubscribe"):
        raise ValueError(request.a)
    return mode, msgspec.convert(listed, list[int])


def _error(text: str) -> str:
    return json.dumps({"type": "error", "data": text})


def _altered(quote: Quote, **changes: int) -> Quote:
    """A copy that says something else."""
    found: Any = copy.copy(quote)
    for name, value in changes.items():
        setattr(found, name, value)
    return found

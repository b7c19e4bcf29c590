"""What Binance's public streams say, as values. Pure: bytes in, values out, and Malformed for everything else.

Spot streams of 2023-12 and later: combined streams wrap each event as ``{"stream": ..., "data": ...}``; a trade has an
id that grows by one for each symbol; a book ticker has no time. Numbers are decimal texts.
"""

from __future__ import annotations

import re

import msgspec

from alphapanda.feeds.sequencer import LARGEST

DECIMAL = re.compile(r"([0-9]{1,16})(?:\.([0-9]{1,16}))?", re.ASCII)
COIN = re.compile(r"BINANCE:([A-Z0-9]{2,20})", re.ASCII)


class Malformed(ValueError):
    """A message that is not one of theirs."""


class Trade(msgspec.Struct, frozen=True):
    """One trade: ``id`` counts the symbol's trades, ``ts`` is ms."""

    symbol: str = msgspec.field(name="s")
    id: int = msgspec.field(name="t")
    price: str = msgspec.field(name="p")
    quantity: str = msgspec.field(name="q")
    ts: int = msgspec.field(name="T")


class Quote(msgspec.Struct, frozen=True):
    """Best bid and ask after the book's update ``id``."""

    id: int = msgspec.field(name="u")
    symbol: str = msgspec.field(name="s")
    bid: str = msgspec.field(name="b")
    bid_quantity: str = msgspec.field(name="B")
    ask: str = msgspec.field(name="a")
    ask_quantity: str = msgspec.field(name="A")


class Reply(msgspec.Struct, frozen=True):
    """The answer to one of our requests; ``error`` is "" when it was done."""

    id: int | None
    error: str


class Shutdown(msgspec.Struct, frozen=True):
    """The server asks to be left: connect anew."""


class _Outer(msgspec.Struct):
    stream: str = ""
    data: msgspec.Raw = msgspec.Raw()
    id: int | None = None
    e: str = ""
    error: msgspec.Raw = msgspec.Raw()
    code: int | None = None
    msg: str = ""


_outer = msgspec.json.Decoder(_Outer)
_trade = msgspec.json.Decoder(Trade)
_quote = msgspec.json.Decoder(Quote)


def parse(message: str | bytes) -> Trade | Quote | Reply | Shutdown:
    """One message. Raises Malformed."""
    try:
        outer = _outer.decode(message)
        if outer.stream.endswith("@trade"):
            return _trade.decode(outer.data)
        if outer.stream.endswith("@bookTicker"):
            return _quote.decode(outer.data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Malformed(str(error)) from None
    if outer.e == "serverShutdown" or b"serverShutdown" in bytes(outer.data):
        return Shutdown()
    if outer.stream:
        raise Malformed(f"a stream we did not ask for: {outer.stream[:60]}")
    error = bytes(outer.error)
    if error and error != b"null":
        return Reply(outer.id, error.decode("utf-8", "replace")[:200])
    if outer.code is not None:
        return Reply(outer.id, f"{outer.code} {outer.msg}"[:200])
    if outer.id is None:
        raise Malformed("neither an event nor a reply")
    return Reply(outer.id, "")


def units(text: str, scale: int) -> int:
    """A decimal text in integer steps of one in ``scale`` (a power of ten), rounded half up. Raises Malformed."""
    found = DECIMAL.fullmatch(text)
    if found is None:
        raise Malformed(f"no decimal number: {text[:40]!r}")
    whole, part = found[1], found[2] or ""
    digits = len(str(scale)) - 1
    part = part.ljust(digits + 1, "0")
    value = int(whole) * scale + int(part[:digits] or "0") + (part[digits] >= "5")
    if value > LARGEST:
        raise Malformed(f"too large: {text}")
    return value


def coin(symbol: str) -> str:
    """The name Binance's streams have for ``BINANCE:BTCUSDT``; "" for a symbol that cannot be theirs."""
    found = COIN.fullmatch(symbol)
    return found[1].lower() if found else ""


def request(method: str, names: list[str], number: int) -> str:
    """Ask for streams, or for no more of them."""
    return msgspec.json.encode({"method": method, "params": names, "id": number}).decode()


def streams(name: str) -> list[str]:
    """What is asked for each coin."""
    return [f"{name}@trade", f"{name}@bookTicker"]

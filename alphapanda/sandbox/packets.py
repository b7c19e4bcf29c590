"""Quotes as Kite's ticker sends them: the packets of every kind and mode, and the frames they travel in.

Layouts are those of the Kite docs (websocket): big-endian words of four bytes, prices times 100 (currency 10,000,000;
BCD and NCO 10,000, which is how our instruments count them), times in seconds since the epoch.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

from alphapanda.events import SECOND

Mode = Literal["ltp", "quote", "full"]
MODES: tuple[Mode, ...] = ("ltp", "quote", "full")
INDICES = 9  # the segment, the lowest byte of a token: its instruments cannot be traded
HEARTBEAT = b"\x00"
LEVELS = 5
PACKETS_MAX = 0xFFFF  # of a frame: the count has two bytes

_LEVEL = struct.Struct(">IIHxx")


class Quote(Protocol):
    """What the exchange shows of one instrument; a plain object that ``copy.copy`` can copy.

    Prices are in its price scale, times in ns UTC, ``close`` is the day before's; a level is ``(price, quantity,
    orders)``, best first.
    """

    @property
    def token(self) -> int: ...
    @property
    def last(self) -> int: ...
    @property
    def last_quantity(self) -> int: ...
    @property
    def average(self) -> int: ...
    @property
    def volume(self) -> int: ...
    @property
    def buy_quantity(self) -> int: ...
    @property
    def sell_quantity(self) -> int: ...
    @property
    def open(self) -> int: ...
    @property
    def high(self) -> int: ...
    @property
    def low(self) -> int: ...
    @property
    def close(self) -> int: ...
    @property
    def last_trade_ts(self) -> int: ...
    @property
    def oi(self) -> int: ...
    @property
    def oi_high(self) -> int: ...
    @property
    def oi_low(self) -> int: ...
    @property
    def ts(self) -> int: ...
    @property
    def bids(self) -> Sequence[tuple[int, int, int]]: ...
    @property
    def asks(self) -> Sequence[tuple[int, int, int]]: ...


def packet(quote: Quote, mode: Mode) -> bytes:
    """The quote as one packet, without its length: 8 bytes for ltp, 28 or 32 for an index, 44 or 184 otherwise."""
    if mode == "ltp":
        return _words(quote.token, quote.last)
    if quote.token & 0xFF == INDICES:
        head = _words(
            quote.token, quote.last, quote.high, quote.low, quote.open, quote.close, quote.last - quote.close
        )
        return head if mode == "quote" else head + _words(quote.ts // SECOND)
    head = _words(
        quote.token, quote.last, quote.last_quantity, quote.average, quote.volume, quote.buy_quantity,
        quote.sell_quantity, quote.open, quote.high, quote.low, quote.close,
    )  # fmt: skip
    if mode == "quote":
        return head
    tail = _words(quote.last_trade_ts // SECOND, quote.oi, quote.oi_high, quote.oi_low, quote.ts // SECOND)
    return head + tail + _levels(quote.bids) + _levels(quote.asks)


def frame(packets: Sequence[bytes]) -> bytes:
    """Packets as one binary message; at most 65,535 of them."""
    return len(packets).to_bytes(2, "big") + b"".join(len(one).to_bytes(2, "big") + one for one in packets)


def _words(*values: int) -> bytes:
    """Four bytes each; a negative one as its two's complement, one that is too large cut to what the wire can hold."""
    return b"".join((value & 0xFFFFFFFF).to_bytes(4, "big") for value in values)


def _levels(levels: Iterable[tuple[int, int, int]]) -> bytes:
    five = [*levels, *[(0, 0, 0)] * LEVELS][:LEVELS]
    return b"".join(
        _LEVEL.pack(quantity & 0xFFFFFFFF, price & 0xFFFFFFFF, min(orders, 0xFFFF))
        for price, quantity, orders in five
    )

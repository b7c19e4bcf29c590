"""What Kite's ticker says in binary, as columns. Pure: bytes in, integers out; nothing that comes in can raise.

A frame is a big-endian count of packets, then each packet's length and body; the length tells its kind (Kite docs,
websocket). Bodies are words of four bytes, so all packets of one length are one numpy view. Every kind is laid into
the columns of the longest one; what a kind does not have is 0. Prices stay integers: the wire's divisor of each segment
is our price scale (``instruments.PRICE_SCALE``). Times are whole seconds since the epoch, UTC.

Two differences from the official client (5.2.2) are deliberate. It reads prices as unsigned, so that -1 paisa becomes
42949672.95 rupees; here they are signed. It makes times naive in the zone of the host; here they are numbers. And
where it raises (a frame cut short), here what is whole is kept and the rest is counted.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np
import numpy.typing as npt

from alphapanda.events import Ints

LTP, INDEX_QUOTE, INDEX_FULL, QUOTE, FULL = 8, 28, 32, 44, 184  # a packet's length in bytes is its kind
STAMPED = (INDEX_FULL, FULL)  # kinds that say when

# the columns: word n of a full packet of a tradable instrument is column n
TOKEN, LAST, LAST_QUANTITY, AVERAGE, VOLUME, BUY_QUANTITY, SELL_QUANTITY = range(7)
OPEN, HIGH, LOW, CLOSE = range(7, 11)  # CLOSE is the previous day's
TRADED_AT, OI, OI_HIGH, OI_LOW, SENT_AT = range(
    11, 16
)  # times in seconds: of the last trade, of the exchange's message
DEPTH = 16  # quantity, price and orders of five bids, then of five asks, best first
BID_QUANTITY, BID, ASK_QUANTITY, ASK = 16, 17, 31, 32
WIDTH = FULL // 4

# where a kind's words go; an index's order is high, low, open, close, and its change is left out
_PLACES: dict[int, Ints] = {
    LTP: np.arange(2),
    INDEX_QUOTE: np.array((TOKEN, LAST, HIGH, LOW, OPEN, CLOSE)),
    INDEX_FULL: np.array((TOKEN, LAST, HIGH, LOW, OPEN, CLOSE, SENT_AT)),
    QUOTE: np.arange(11),
    FULL: np.arange(WIDTH),
}
_WORDS: dict[int, Ints] = {
    kind: np.arange(kind // 4)
    if kind not in (INDEX_QUOTE, INDEX_FULL)
    else np.array((0, 1, 2, 3, 4, 5, 7))[: len(to)]
    for kind, to in _PLACES.items()
}
_PRICES = {LAST, AVERAGE, OPEN, HIGH, LOW, CLOSE, *range(DEPTH + 1, WIDTH, 3)}
_ORDERS = np.arange(DEPTH + 2, WIDTH, 3)  # two bytes of orders, two of padding
_UNSIGNED = np.array([n for n in range(WIDTH) if n not in _PRICES and n not in _ORDERS])


class Packets(msgspec.Struct, frozen=True):
    """The packets of one frame in the order they came.

    ``columns[LAST]`` is the last price of each, and so on; ``kind`` its length; ``row`` its place among the tokens that
    are known, -1 for a token that is not. ``short`` counts packets the frame promised and did not hold, ``odd`` those
    of a length Kite does not document.
    """

    columns: Ints
    kind: Ints
    row: Ints
    short: int = 0
    odd: int = 0

    def __len__(self) -> int:
        return len(self.kind)


class Known:
    """Tokens that are expected, each with its place in the order given."""

    def __init__(self, tokens: Iterable[int] = ()) -> None:
        listed = np.array(list(tokens), np.int64)
        self._order = np.argsort(listed, kind="stable")
        self._sorted = listed[self._order]

    def find(self, tokens: Ints) -> Ints:
        """The place of each, -1 where it is not known."""
        if not len(self._sorted):
            return np.full(len(tokens), -1, np.int64)
        at = np.minimum(np.searchsorted(self._sorted, tokens), len(self._sorted) - 1)
        return np.where(self._sorted[at] == tokens, self._order[at], -1)


def decode(frame: bytes, known: Known) -> Packets:
    """The packets of a frame. A heartbeat (one byte) has none; whatever the bytes are, nothing is raised."""
    count = int.from_bytes(frame[:2], "big") if len(frame) > 1 else 0
    kind = int.from_bytes(frame[2:4], "big")
    if kind in _PLACES and len(frame) == 2 + count * (2 + kind):
        body = np.frombuffer(frame, np.uint8, offset=2).reshape(count, 2 + kind)
        if bool(((body[:, 0] == kind >> 8) & (body[:, 1] == kind & 0xFF)).all()):
            columns = _laid(body[:, 2:], kind)
            return Packets(columns, np.full(count, kind, np.int64), known.find(columns[TOKEN]))
    return _mixed(frame, count, known)


def _mixed(frame: bytes, count: int, known: Known) -> Packets:
    """A frame of several kinds, or one that is not in order."""
    kinds: list[int] = []
    offsets: list[int] = []
    at, size, odd, taken = 2, len(frame), 0, 0
    while taken < count and at + 2 <= size:
        kind = frame[at] << 8 | frame[at + 1]
        end = at + 2 + kind
        if end > size:
            break
        taken += 1
        if kind in _PLACES:
            kinds.append(kind)
            offsets.append(at + 2)
        else:
            odd += 1
        at = end
    kind, offset = np.array(kinds, np.int64), np.array(offsets, np.int64)
    columns = np.zeros((WIDTH, len(kinds)), np.int64)
    raw = np.frombuffer(frame, np.uint8)
    for one in set(kinds):
        rows = np.flatnonzero(kind == one)
        windows = np.lib.stride_tricks.sliding_window_view(raw, one)
        columns[:, rows] = _laid(windows[offset[rows]], one)
    return Packets(columns, kind, known.find(columns[TOKEN]), count - taken, odd)


def _laid(bodies: npt.NDArray[np.uint8], kind: int) -> Ints:
    """Bodies of one kind, one a row, as columns."""
    words = bodies.view(">i4").T
    if kind == FULL:
        columns = words.astype(np.int64, order="C")
        columns[_ORDERS] = columns[_ORDERS] >> 16 & 0xFFFF
    else:
        columns = np.zeros((WIDTH, len(bodies)), np.int64)
        columns[_PLACES[kind]] = words[_WORDS[kind]]
    columns[_UNSIGNED] &= 0xFFFFFFFF
    return columns

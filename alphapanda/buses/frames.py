"""Ticks on the wire: one feed flush is one frame; a frame travels in one packed part for each topic it touches.

A part is a header of nine int64 and then the columns as they lie in memory, so reading one copies nothing. The tape log
keeps the same bytes (a frame in one part). Row numbers are gapless over the feed's life, frame numbers too: a reader
knows from either that nothing is missing.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec
import numpy as np

from alphapanda.errors import StreamingError
from alphapanda.events import Block, Ints

COLUMNS = ("ts", "instrument", "price", "volume", "bid", "ask", "bid_quantity", "ask_quantity", "inside")
KINDS = dict.fromkeys(COLUMNS, np.int64) | {"inside": np.bool_}  # of numbers, by column
MAGIC = 0x0001_646E_6150_6141  # "AaPand" and the form's number
HEADER = struct.Struct(
    "<9q"
)  # magic, number, clock, universe, first, rows of the frame, rows here, parts, columns
OFFSETS = 1 << len(COLUMNS)  # the part says which of the frame's rows it holds
EMPTY = np.zeros(0, np.int64)


class Frame(msgspec.Struct, frozen=True):
    """What the feed hands out at once: a block of ticks (none of them: a heartbeat).

    ``number`` counts frames from 1; ``clock`` is the tape time at which it was handed out, at or after every tick in
    it and in all before; ``universe`` is how many instruments the feed's table has.
    """

    number: int
    clock: int
    universe: int
    block: Block

    @property
    def end(self) -> int:
        """The number of the row after its last."""
        return self.block.first + len(self.block)


class Part(msgspec.Struct, frozen=True):
    """A frame, or those of its rows that travel on one topic."""

    frame: Frame
    rows: int  # of the whole frame
    parts: int  # the frame comes in
    offsets: Ints | None = None  # of these rows in the frame; None: all of them


def pack(frame: Frame, chosen: Ints | None = None, parts: int = 1) -> bytes:
    """The bytes of a frame, or of the ``chosen`` rows of one that travels in several parts."""
    block = frame.block
    mask = 0
    pieces: list[bytes] = []
    for bit, name in enumerate(COLUMNS):
        column = getattr(block, name)
        if column is not None:
            mask |= 1 << bit
            pieces.append((column if chosen is None else column[chosen]).astype("<i8", copy=False).tobytes())
    if chosen is not None:
        mask |= OFFSETS
        pieces.append(chosen.astype("<i8", copy=False).tobytes())
    here = len(block) if chosen is None else len(chosen)
    head = HEADER.pack(
        MAGIC, frame.number, frame.clock, frame.universe, block.first, len(block), here, parts, mask
    )
    return head + b"".join(pieces)


def unpack(body: bytes) -> Part:
    """What ``pack`` packed, as views of ``body``; StreamingError for anything else."""
    if len(body) < HEADER.size:
        raise StreamingError("a tick message is cut short", fix="read the frame from the tape log")
    magic, number, clock, universe, first, rows, here, parts, mask = HEADER.unpack_from(body)
    count = (mask & (OFFSETS * 2 - 1)).bit_count()
    if magic != MAGIC or len(body) != HEADER.size + 8 * here * count:
        raise StreamingError("a tick message is not one of ours", fix="read the frame from the tape log")
    columns: dict[str, Ints] = {}
    at = HEADER.size
    for bit, name in enumerate((*COLUMNS, "offsets")):
        if mask >> bit & 1:
            columns[name] = np.frombuffer(body, np.int64, here, at)
            at += 8 * here
    offsets = columns.pop("offsets", None)
    if "inside" in columns:
        columns["inside"] = columns["inside"] != 0  # pyright: ignore[reportArgumentType]  # the one column of bools
    block = Block(first, **columns)  # pyright: ignore[reportArgumentType]  # names and kinds of columns are Block's
    return Part(Frame(number, clock, universe, block), rows, parts, offsets)


def split(frame: Frame, topics: Sequence[str], clock_topic: str) -> list[tuple[str, bytes]]:
    """The frame's parts by topic; ``topics`` names each instrument's. A heartbeat travels on ``clock_topic``."""
    if not len(frame.block):
        return [(clock_topic, pack(frame))]
    names = list(dict.fromkeys(topics))
    if len(names) == 1:
        return [(names[0], pack(frame))]
    number_of = {name: n for n, name in enumerate(names)}
    lookup = np.array([number_of[topic] for topic in topics])
    where = lookup[frame.block.instrument]
    present = np.unique(where)
    if len(present) == 1:
        return [(names[int(present[0])], pack(frame))]
    return [(names[int(n)], pack(frame, np.flatnonzero(where == n), len(present))) for n in present]


class Assembler:
    """Puts parts together again and hands frames on in order, each once.

    ``expected`` is the number of the next frame; ``held`` are complete frames that came too early, because one before
    them is missing or not whole yet.
    """

    def __init__(self, after: int) -> None:
        self.expected = after + 1
        self.held: dict[int, Frame] = {}
        self._parts: dict[int, list[Part]] = {}

    def add(self, body: bytes) -> None:
        """Take one message."""
        part = unpack(body)
        number = part.frame.number
        if number < self.expected or number in self.held:
            return
        if part.parts == 1:
            self.held[number] = part.frame
            return
        parts = self._parts.setdefault(number, [])
        if any(
            p.offsets is not None and part.offsets is not None and p.offsets[0] == part.offsets[0]
            for p in parts
        ):
            return  # the same part again
        parts.append(part)
        if len(parts) == part.parts:
            self.held[number] = _joined(self._parts.pop(number))

    def put(self, frame: Frame) -> None:
        """Take a whole frame that was read from elsewhere."""
        if frame.number >= self.expected:
            self._parts.pop(frame.number, None)
            self.held[frame.number] = frame

    def take(self) -> list[Frame]:
        """The frames that are next in order."""
        out: list[Frame] = []
        while (frame := self.held.pop(self.expected, None)) is not None:
            out.append(frame)
            self.expected += 1
        return out

    @property
    def missing(self) -> bool:
        """Something later is here, so the expected frame is late or lost."""
        return bool(self.held or self._parts)


def _joined(parts: list[Part]) -> Frame:
    one = parts[0]
    columns: dict[str, Ints] = {}
    for name in COLUMNS:
        if getattr(one.frame.block, name) is None:
            continue
        whole = np.empty(one.rows, KINDS[name])
        for part in parts:
            whole[part.offsets] = getattr(part.frame.block, name)
        columns[name] = whole  # pyright: ignore[reportArgumentType]  # of its kind
    head = one.frame
    return Frame(head.number, head.clock, head.universe, Block(head.block.first, **columns))  # pyright: ignore[reportArgumentType]


def heartbeat(number: int, clock: int, universe: int, first: int) -> Frame:
    """A frame without ticks: only time has passed."""
    return Frame(number, clock, universe, Block(first, EMPTY, EMPTY, EMPTY))

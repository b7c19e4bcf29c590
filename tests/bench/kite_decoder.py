"""How much faster our decoder of Kite's frames is than the official client's, in one run:
``python -m tests.bench.kite_decoder``.

Frames of 1, 100 and 3,000 instruments in full mode, as large as a socket may ask for. Both decode the same bytes in
turns; the middle of the rounds counts. Ours ends in columns with the whole depth, theirs in dictionaries.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable

from kiteconnect import KiteTicker

from alphapanda.feeds.kite_packets import FULL, Known, decode
from alphapanda.sandbox.packets import frame
from tests.bench.machine import header

ROUNDS = 15
GOAL = 50.0  # times the official client, for 3,000 instruments


def full_frame(instruments: int, seed: int = 1) -> tuple[bytes, list[int]]:
    """A frame of so many full packets with plausible stamps, and their tokens."""
    draw = random.Random(seed)
    tokens = [(n + 1) * 256 + 1 for n in range(instruments)]
    packets: list[bytes] = []
    for token in tokens:
        body = bytearray(draw.randbytes(FULL))
        body[:4] = token.to_bytes(4, "big")
        body[44:48] = body[60:64] = (1_800_000_000 + token % 1000).to_bytes(4, "big")
        packets.append(bytes(body))
    return frame(packets), tokens


def seconds(run: Callable[[], object], repeats: int) -> float:
    """Seconds of one call."""
    begun = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - begun) / repeats


def measure(instruments: int) -> tuple[float, float]:
    """Seconds a frame: the official client's, ours."""
    data, tokens = full_frame(instruments)
    official, known = KiteTicker("key", "token"), Known(tokens)
    repeats = max(1, 300 // instruments)
    theirs: list[float] = []
    ours: list[float] = []
    for _ in range(ROUNDS):
        theirs.append(seconds(lambda: official._parse_binary(data), repeats))
        ours.append(seconds(lambda: decode(data, known), repeats * 10))
    return statistics.median(theirs), statistics.median(ours)


def main() -> None:
    """Print the table."""
    print(header())
    print(f"{'instruments':>11} {'official ms':>12} {'ours ms':>9} {'ratio':>7}")
    for instruments in (1, 100, 3000):
        theirs, ours = measure(instruments)
        print(f"{instruments:>11} {theirs * 1e3:>12.3f} {ours * 1e3:>9.3f} {theirs / ours:>6.0f}x")
    print(f"goal at 3000: {GOAL:.0f}x")


if __name__ == "__main__":
    main()

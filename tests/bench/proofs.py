"""Real days proved: three shipped strategies on each second-by-second NIFTY 50 day, several times over.

    python -m tests.bench.proofs ../shared/data/nifty50-seconds [ROUNDS] [PATTERN]

Prints one line for each strategy and day: decisions, digest, seconds of each round; and what failed. Each round starts
real processes, kills each of them once, and plays the day in three time zones and with three hash seeds; the rounds
must agree on the digest too.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import alphapanda as ap
from alphapanda.examples import OpeningBreakout, TrendRide, VwapReversion

SYMBOL = "NSE:NIFTY 50"


def main() -> int:
    """See the module."""
    folder = Path(sys.argv[1])
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    failed = 0
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}")
    for path in sorted(folder.glob(sys.argv[3] if len(sys.argv) > 3 else "*.csv")):
        day = ap.read_ticks(path, symbol=SYMBOL, timezone="Asia/Kolkata", tradable=True)
        for kind in (OpeningBreakout, VwapReversion, TrendRide):
            digests: set[str] = set()
            spent: list[str] = []
            bad: list[str] = []
            decisions = 0
            for number in range(rounds):
                made = kind()
                made.symbols = [SYMBOL]
                begun = time.perf_counter()
                proof = ap.prove(made, day, seed=0, progress=False, draw=number)
                spent.append(f"{time.perf_counter() - begun:.1f}")
                digests |= {lane.digest for lane in proof.lanes}
                bad += [f"{check.name}: {check.detail}" for check in proof.checks if not check.passed]
                decisions = len(proof.lanes[0].lines)
            failed += bool(bad) or len(digests) != 1
            verdict = "ok  " if not bad and len(digests) == 1 else "FAIL"
            print(
                f"{verdict} {path.stem} {kind.__name__:<16} {day.rows:>6} ticks {decisions:>4} decisions "
                f"{min(digests)} {' '.join(spent)} s",
                *bad,
                sep="\n     " if bad else " ",
                flush=True,
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""``python -m tests.simulation``: ``--seeds 500`` many, ``--seed N`` one again, ``--mutants`` known mistakes."""

from __future__ import annotations

# ruff: noqa: T201 - this one talks to people
import argparse
import multiprocessing
import sys
import time
from collections import Counter

from tests.simulation.mutants import MUTANTS, caught
from tests.simulation.world import World

SHOWN = 12  # violations of one seed


def one(seed: int) -> tuple[int, Counter[str], list[str]]:
    """A seed, how much of what happened in it, and what was wrong."""
    with World(seed) as world:
        try:
            found = world.run().violations()
        except Exception as error:  # noqa: BLE001 - a defect of the path is a finding like the others
            found = [f"raised {type(error).__name__}: {error}"]
        return seed, world.facts(), found


def kill(number: int) -> tuple[int, int, str]:
    """A mutant and the seed that shows it."""
    seed, how = caught(MUTANTS[number], range(1500))
    return number, seed, how


def run(seeds: range, workers: int) -> int:
    """How many seeds went wrong."""
    total, bad, begun = Counter[str](), 0, time.monotonic()
    with multiprocessing.Pool(workers) as pool:
        for done, (seed, facts, found) in enumerate(pool.imap_unordered(one, seeds, chunksize=4), start=1):
            total += facts
            total["violations"] += len(found)
            if found:
                bad += 1
                print(f"\nseed {seed}: " + "\n  ".join(found[:SHOWN]))
                print(f"  again: python -m tests.simulation --seed {seed}")
            if done % 100 == 0 or done == len(seeds):
                print(f"{done} seeds, {total['events']:,} events, {total['orders']:,} orders, "
                      f"{total['violations']} violations, {time.monotonic() - begun:.0f} s", flush=True)  # fmt: skip
    print(", ".join(f"{name} {count:,}" for name, count in total.most_common()))
    return bad


def main() -> int:
    """Exit code 1 if anything was found that should not be, or a mutant was not."""
    reader = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    reader.add_argument("--seeds", type=int, default=500)
    reader.add_argument("--from", dest="first", type=int, default=0)
    reader.add_argument("--workers", type=int, default=2)
    reader.add_argument("--seed", type=int)
    reader.add_argument("--mutants", action="store_true")
    given = reader.parse_args()
    if given.seed is not None:
        _, facts, found = one(given.seed)
        print(dict(facts), *found, sep="\n")
        return bool(found)
    if given.mutants:
        alive = 0
        with multiprocessing.Pool(given.workers) as pool:
            for number, seed, how in pool.imap(kill, range(len(MUTANTS))):
                alive += seed < 0
                print(
                    f"{MUTANTS[number].name:52} {'ALIVE' if seed < 0 else f'seed {seed}':10} {how}",
                    flush=True,
                )
        print(f"{len(MUTANTS) - alive} of {len(MUTANTS)} mutants caught")
        return bool(alive)
    return bool(run(range(given.first, given.first + given.seeds), given.workers))


if __name__ == "__main__":
    sys.exit(main())

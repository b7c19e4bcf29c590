"""Crash and resume: every process of the platform is killed once while the day plays, and nothing changes."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec

from alphapanda.clock import monotonic, pause
from alphapanda.events import SECOND
from alphapanda.proofs.case import Case
from alphapanda.proofs.checks import Found, judged
from alphapanda.proofs.platform import PAPER, Platform
from alphapanda.proofs.research import parked, research
from alphapanda.proofs.trace import first_difference, state_of, told
from alphapanda.tapes.tape import Tape

ROLES = ("runner", "gateway", "feed", "server", "hub")
DAY_SECONDS = 4.0  # in which the day is played, so that there is something to crash


def crash_resume(case: Case, tape: Tape, folder: Path, rng: random.Random, patience: float) -> Found:
    """Play the tape's last day on paper and kill each process once, at random points of the day, in random order."""
    begun = monotonic()
    day = tape.days[-1]
    part = tape if len(tape.days) == 1 else tape.between(day, day)
    if case.trade_from > part.last_ts or case.trade_from < part.first_ts:
        case = msgspec.structs.replace(case, trade_from=0)
    path = part.save(folder / "day.parquet")
    whole = research(case, part)
    order = rng.sample(ROLES, len(ROLES))
    points = sorted(rng.randrange(part.rows * 9 // 10) for _ in ROLES)
    speed = (part.last_ts - part.first_ts) / SECOND / DAY_SECONDS
    with Platform(path, 1, speed) as platform:
        run = platform.start(case, PAPER)
        for role, point in zip(order, points, strict=True):
            until = monotonic() + patience
            while platform.row() <= point and monotonic() < until:
                pause(0.02)
            platform.kill({"runner": f"runner:{run}", "gateway": "gateway:paper"}.get(role, role))
        trace = platform.finish(run, PAPER, part.rows, patience)
        if (found := first_difference(whole, trace)) is not None:
            here = state_of(parked(case, part, found.seq).strategies[0])
            found = told(found, here, platform.state_at(run, found.seq))
    kills = ", ".join(f"{role} at row {point:,}" for role, point in zip(order, points, strict=True))
    if found is not None:
        return judged(
            "crash and resume", False, f"killed {kills}: decides otherwise at row {found.seq:,}", begun, found
        )
    if trace.halted and not whole.halted:
        return judged("crash and resume", False, f"killed {kills}: {trace.halted}", begun)
    return judged(
        "crash and resume", True, f"the same on {day} with each process killed once: {kills}", begun
    )

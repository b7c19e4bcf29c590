"""The case played in other ways that must change nothing: cut short, cut otherwise, begun late, in a strange process.

Each check is one function of the case, the tape and the research lane's trace, and returns an ``Outcome``: its name,
whether it passed, and a sentence that says what was found and where. What it found is kept for a person to look at.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec

from alphapanda.certificate import Outcome
from alphapanda.clock import monotonic
from alphapanda.events import DAY, IST_OFFSET_NS, MINUTE, ist, ist_day
from alphapanda.processes import PYTHON
from alphapanda.proofs.case import Case
from alphapanda.proofs.research import cut, late, parked, prefix
from alphapanda.proofs.trace import Difference, Trace, first_difference, seq_of, state_of, told
from alphapanda.tapes.tape import Tape
from alphapanda.times import parse_interval

PREFIXES = 16  # of the tape: half after decisions, half anywhere
PREFIX_ROWS = 8_000_000  # that all prefixes together may have
SPANS = (0, 5, 15, 30, 60, 120)  # minutes of history that are tried before whole days are
NOISE = (("UTC", "0", 65_536), ("Asia/Kolkata", "1", 997), ("America/New_York", "4242", 8_191))
WORKER_SECONDS = 600.0


class Found(msgspec.Struct, frozen=True):
    """An outcome with what a person may want to see of it."""

    outcome: Outcome
    difference: Difference | None = None


def judged(name: str, passed: bool, detail: str, begun: float, difference: Difference | None = None) -> Found:
    """An outcome that was begun at a monotonic time."""
    return Found(
        Outcome(name=name, passed=passed, detail=detail, seconds=round(monotonic() - begun, 2)), difference
    )


def runs_through(trace: Trace) -> Found:
    """A strategy that raises is halted, and proves nothing."""
    begun = monotonic()
    if not trace.halted and not trace.lines:
        return judged("runs", False, "it decides nothing on these ticks, so there is nothing to prove", begun)
    if not trace.halted:
        return judged("runs", True, f"{len(trace.lines)} decisions on {trace.rows:,} ticks, no error", begun)
    message = trace.errors[0].message if trace.errors else ""
    if "immutable type: 'Tick'" in message or "immutable type: 'Bar'" in message or "read-only" in message:
        return judged("tick unchanged", False, f"it writes into a tick: {trace.halted}", begun)
    return judged("runs", False, f"halted: {trace.halted}{message and f' ({message})'}", begun)


def look_ahead(case: Case, tape: Tape, whole: Trace, rng: random.Random) -> Found:
    """Every prefix of the tape gives a prefix of the decisions: nothing was decided on what came later."""
    begun = monotonic()
    most = max(2, min(PREFIXES, PREFIX_ROWS // max(1, tape.rows)))
    decided = sorted({seq_of(line) + 1 for line in whole.lines if seq_of(line) < tape.rows})
    ends = set(rng.sample(decided, min(len(decided), most // 2)))
    ends |= {rng.randrange(1, tape.rows + 1) for _ in range(most - len(ends))}
    for rows in sorted(ends):
        part = prefix(case, tape, rows)
        due = msgspec.structs.replace(whole, lines=tuple(x for x in whole.lines if seq_of(x) < rows))
        seen = msgspec.structs.replace(part, lines=tuple(x for x in part.lines if seq_of(x) < rows))
        if (found := first_difference(due, seen)) is not None:
            detail = f"with the first {rows:,} ticks alone it decides otherwise at row {found.seq:,}: it looks ahead"
            here = state_of(parked(case, tape, rows - 1).strategies[0])
            return judged("look-ahead", False, detail, begun, told(found, here, part.state))
    return judged("look-ahead", True, f"{len(ends)} prefixes of the tape decide the same", begun)


def warm_up(case: Case, tape: Tape) -> Found:
    """The shortest history that gives the decisions of all of it. What ``warmup`` asks for must be enough; the ticks of
    its own day a run has always."""
    begun = monotonic()
    declared, days = case.strategy().warmup, tape.days
    first, last = tape.first_ts, tape.last_ts
    midnight = ist_day(last) * DAY - IST_OFFSET_NS
    trade_from = case.trade_from or (midnight if len(days) > 1 else first + (last - first) // 2)
    today = ist_day(trade_from) * DAY - IST_OFFSET_NS
    spans = [trade_from - MINUTE * minutes for minutes in SPANS]
    spans += [today - DAY * back for back in range((trade_from - first) // DAY + 2)]
    asked = min(today, trade_from - (parse_interval(declared, "warmup") if declared else 0))
    starts = sorted({max(ts, first) for ts in [*spans, asked] if ts <= trade_from}, reverse=True)
    rows = rows_at(tape, starts)
    whole = late(case, tape, 0, trade_from)
    enough, difference, short = first, None, 0
    for ts, row in zip(starts, rows, strict=True):
        part = late(case, tape, row, trade_from)
        found = first_difference(whole, part)
        if found is None:
            enough = ts
            break
        if ts <= max(asked, first) and difference is None:
            difference, short = found, row
    span = _span(trade_from - enough)
    where = f"for a run that begins {ist(trade_from):%Y-%m-%d %H:%M}"
    if difference is not None and enough < max(asked, first):
        stop = difference.seq + 1
        one, other = (late(case, tape, row, trade_from, stop).state for row in (0, short))
        detail = f"{where}, {span} of history are needed and warmup asks for {declared or 'none'}"
        fix = f'set warmup = "{_warmup(trade_from - enough)}"'
        return judged("warm-up", False, f"{detail}: {fix}", begun, told(difference, one, other))
    return judged("warm-up", True, f"{where}, {span} of history are enough", begun)


def rows_at(tape: Tape, starts: Sequence[int]) -> list[int]:
    """The first row at or after each time."""
    found = [tape.rows] * len(starts)
    for block in cut(tape, 0, tape.rows):
        for number, ts in enumerate(starts):
            row = int(block.ts.searchsorted(ts))
            if row < len(block):
                found[number] = min(found[number], block.first + row)
    return found


def _span(ns: int) -> str:
    if ns <= 0:
        return "no minutes"
    minutes = -(-ns // MINUTE)
    return f"{minutes} minutes" if ns < DAY else f"{-(-ns // DAY)} days"


def _warmup(ns: int) -> str:
    return f"{-(-ns // MINUTE)}m" if ns < 6 * 60 * MINUTE else f"{-(-ns // DAY)}d"


# ── in other processes ───────────────────────────────────────────────────────────────────────────────────────────


def noise(case: Case, tape: Tape, folder: Path, whole: Trace) -> Found:
    """Three processes with other time zones, hash seeds, wall clocks and block sizes decide the same."""
    begun = monotonic()
    started = [
        start_worker(folder, "noise", str(size), TZ=zone, PYTHONHASHSEED=seed) for zone, seed, size in NOISE
    ]
    traces = [msgspec.msgpack.decode(raw, type=Trace) for raw in [finished(process) for process in started]]
    for (zone, seed, size), trace in zip(NOISE, traces, strict=True):
        if (found := first_difference(whole, trace)) is not None:
            detail = (
                f"with TZ={zone}, PYTHONHASHSEED={seed} and blocks of {size:,} ticks it decides otherwise"
            )
            here = state_of(parked(case, tape, found.seq).strategies[0])
            there = finished(
                start_worker(folder, "noise", str(size), str(found.seq + 1), TZ=zone, PYTHONHASHSEED=seed)
            )
            found = told(found, here, msgspec.msgpack.decode(there, type=Trace).state)
            return judged("noise", False, f"{detail} at row {found.seq:,}", begun, found)
    zones = ", ".join(zone for zone, _, _ in NOISE)
    return judged(
        "noise", True, f"the same in three processes: {zones}; three hash seeds, three block sizes", begun
    )


def start_worker(folder: Path, what: str, *more: str, **environment: str) -> subprocess.Popen[bytes]:
    """A process that plays the case kept in ``folder``; see ``worker``."""
    return subprocess.Popen(  # noqa: S603 - our own command
        [*PYTHON, "alphapanda.proofs.worker", str(folder), what, *more],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
    )


def finished(process: subprocess.Popen[bytes]) -> bytes:
    """What a worker wrote; RuntimeError with its last words if it failed."""
    try:
        out, err = process.communicate(timeout=WORKER_SECONDS)
    finally:
        process.kill()
    if process.returncode:
        words = err.decode(errors="replace")[-2000:]
        raise RuntimeError(f"a process of the proof ended with {process.returncode}: {words}")
    return out

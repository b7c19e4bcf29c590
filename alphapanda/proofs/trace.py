"""What one lane made of a case: its decisions line by line, and where two lanes part."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from alphapanda.result import Result, RunError, chain_digest, decision_lines


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """``lines`` are the canonical decision lines, ``digest`` their chain's end. ``rows`` is how many ticks it saw,
    ``state`` the strategy's own attributes at the end, as text by name."""

    lane: str
    lines: tuple[bytes, ...]
    digest: str
    halted: str = ""
    errors: tuple[RunError, ...] = ()
    rows: int = 0
    state: dict[str, str] = {}
    seconds: float = 0.0

    @classmethod
    def of(cls, lane: str, result: Result, strategy: object = None, seconds: float = 0.0) -> Trace:
        """The trace of a finished result."""
        lines = tuple(decision_lines(result))
        return cls(
            lane=lane, lines=lines, digest=chain_digest(lines), halted=result.halted[0],
            errors=tuple(result.errors), rows=result.counts.get("ticks", 0),
            state=state_of(strategy), seconds=seconds,
        )  # fmt: skip


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Where two lanes part: the row of the tape, both lines (None: the lane decided nothing more), and what differs in
    the strategies' own attributes there, as (name, one, other)."""

    seq: int
    one: str
    other: str
    one_line: str | None
    other_line: str | None
    state: tuple[tuple[str, str, str], ...] = ()

    def __str__(self) -> str:
        lines = [
            f"first difference at row {self.seq}:",
            f"  {self.one:<10} {self.one_line or 'decides nothing'}",
            f"  {self.other:<10} {self.other_line or 'decides nothing'}",
        ]
        lines += [f"  self.{name}: {one} here, {other} there" for name, one, other in self.state]
        return "\n".join(lines)


def first_difference(one: Trace, other: Trace) -> Difference | None:
    """The first line in which two traces differ; None for equal decisions."""
    for ours, theirs in zip(one.lines, other.lines, strict=False):
        if ours != theirs:
            return _at(one, other, ours, theirs)
    shared = min(len(one.lines), len(other.lines))
    if len(one.lines) > shared:
        return _at(one, other, one.lines[shared], None)
    if len(other.lines) > shared:
        return _at(one, other, None, other.lines[shared])
    return None


def _at(one: Trace, other: Trace, ours: bytes | None, theirs: bytes | None) -> Difference:
    seq = min(seq_of(line) for line in (ours, theirs) if line is not None)
    return Difference(
        seq=seq, one=one.lane, other=other.lane,
        one_line=None if ours is None else ours.decode(), other_line=None if theirs is None else theirs.decode(),
    )  # fmt: skip


def seq_of(line: bytes) -> int:
    """The row of the tape that caused a decision."""
    return int(line[1 : line.index(b",")])


def state_of(strategy: object) -> dict[str, str]:
    """A strategy's own attributes and what is in ``self.state``, each as short text: to compare, and for people."""
    if strategy is None:
        return {}
    own: dict[str, Any] = {name: value for name, value in vars(strategy).items() if not name.startswith("_")}
    bag = own.pop("state", None)
    kept = cast("dict[str, Any]", getattr(bag, "__dict__", {}))
    own |= {f"state.{name}": value for name, value in kept.items()}
    return {name: _text(value) for name, value in sorted(own.items())}


def _text(value: Any) -> str:
    """Sets in order, and no addresses: the same in every process."""
    if isinstance(value, set | frozenset):
        members = cast("set[object]", value)
        return "{" + ", ".join(sorted(map(repr, members))) + "}"
    shown = repr(value)
    return (f"<{type(value).__name__}>" if " at 0x" in shown else shown)[:400]


def told(difference: Difference, one: dict[str, str], other: dict[str, str]) -> Difference:
    """The difference with what the strategy held in both lanes when they parted."""
    return msgspec.structs.replace(difference, state=state_difference(one, other))


def state_difference(one: dict[str, str], other: dict[str, str]) -> tuple[tuple[str, str, str], ...]:
    """Names whose values differ."""
    names = sorted({*one, *other})
    return tuple(
        (n, one.get(n, "not set"), other.get(n, "not set")) for n in names if one.get(n) != other.get(n)
    )

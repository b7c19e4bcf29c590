"""One module out of the pieces: imports first, then every definition before what needs it to run.

The order does not depend on when cells ran: they come in the order of the first name that is taken from each, the
strategy's own cell last, and inside a cell the author's order stays where it can.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from alphapanda.capsules.lift import Import, Lift, Piece
from alphapanda.capsules.reading import Statement
from alphapanda.capsules.sources import Space

HEADER = re.compile(r"# Frozen by Alpha Panda from (.+): \w+ and what it needs\.$")
WIDTH = 110
FUTURE = "from __future__ import annotations"
DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True, slots=True)
class Text:
    """The module, and for each of its statements the first line and where it came from."""

    source: str
    origins: tuple[tuple[int, Statement], ...]

    def statement(self, line: int) -> tuple[int, Statement] | None:
        """The statement that a line belongs to, after the line it starts on; None for the imports."""
        return next((one for one in reversed(self.origins) if one[0] <= line), None)

    def origin(self, line: int) -> str:
        """Where a line of the module came from, in words."""
        found = self.statement(line)
        if found is None:
            return f"line {line} of the frozen module"
        start, statement = found
        return statement.at(statement.line + line - start)


def module_text(lift: Lift, orders: Iterable[tuple[Statement, Statement]] = ()) -> Text:
    """The frozen module's text; each of ``orders`` is a pair that must stand in its order."""
    parts = [f"# Frozen by Alpha Panda from {_sources(lift)}: {lift.class_name} and what it needs."]
    pieces = _ordered(lift, orders)
    if any(piece.statement.future for piece in pieces):
        parts += ["", FUTURE]
    if lift.imports:
        parts += ["", *_import_lines(lift.imports)]
    origins: list[tuple[int, Statement]] = []
    before: ast.stmt | None = None
    for piece in pieces:
        statement = piece.statement
        apart = isinstance(statement.node, DEFINITIONS) or isinstance(before, DEFINITIONS)
        parts += ["", ""] if apart else [""] if before is None else []
        line = sum(part.count("\n") + 1 for part in parts) + 1
        origins.append((line, statement))
        parts.append(statement.text)
        before = statement.node
    return Text("\n".join(parts) + "\n", tuple(origins))


def _sources(lift: Lift) -> str:
    """Where it was lifted from; what was frozen before keeps what was said then."""
    first = lift.root.header
    known = HEADER.match(first)
    if known:
        return known[1]
    used = {piece.space.label for piece in lift.pieces.values()} - {lift.root.label}
    return ", ".join([lift.root.label, *sorted(used)])


def _import_lines(imports: Iterable[Import]) -> list[str]:
    whole = [f"import {line.clause}" for line in sorted(imports) if not line.attribute]
    lines: list[str] = []
    for module in sorted({line.module for line in imports if line.attribute}):
        clauses = [line.clause for line in sorted(imports) if line.attribute and line.module == module]
        joined = f"from {module} import {', '.join(clauses)}"
        folded = "\n".join([f"from {module} import (", *(f"    {clause}," for clause in clauses), ")"])
        lines.append(joined if len(joined) <= WIDTH else folded)
    return [*whole, *lines]


# ── order ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _ordered(lift: Lift, orders: Iterable[tuple[Statement, Statement]]) -> list[Piece]:
    """Each piece after all that running it may touch; where that goes round in a circle, after what it looks up."""
    pieces = lift.pieces
    keys = _keys(lift)
    direct = {s: set(p.now) for s, p in pieces.items()}
    for earlier, later in (*_rebound(lift), *orders):
        direct[later].add(earlier)
    touched = {s: _touched(pieces, direct, s) for s in pieces}
    done: list[Piece] = []
    left = set(pieces)
    while left:
        ready = [s for s in left if not touched[s] & left] or [s for s in left if not direct[s] & left]
        chosen = min(ready or left, key=keys.__getitem__)
        left.remove(chosen)
        done.append(pieces[chosen])
    return done


def _touched(
    pieces: dict[Statement, Piece], direct: dict[Statement, set[Statement]], statement: Statement
) -> set[Statement]:
    """What running a statement looks up, and all that this in turn may call."""
    found: set[Statement] = set()
    waiting = [*direct[statement]]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += [*direct[one], *pieces[one].later]
    return found - {statement}


def _rebound(lift: Lift) -> list[tuple[Statement, Statement]]:
    """Pairs of taken statements that bind one name: the later one has the last word."""
    by_name: dict[tuple[str, str], list[Statement]] = {}
    for statement, piece in lift.pieces.items():
        for name in statement.binds:
            by_name.setdefault((piece.space.module, name), []).append(statement)
    orders = [sorted(found, key=lambda s: s.position) for found in by_name.values()]
    return [pair for order in orders for pair in pairwise(order)]


def _keys(lift: Lift) -> dict[Statement, tuple[bool, str, bool, str, int]]:
    """A place for each piece that only the texts decide."""
    names: dict[tuple[str, int], set[str]] = {}
    for statement, piece in lift.pieces.items():
        names.setdefault((piece.space.module, statement.chunk), set()).update(statement.binds)
    return {
        s: (
            p.space is lift.root,
            p.space.module,
            p.space is lift.root and s.chunk == lift.target.chunk,
            min(names[p.space.module, s.chunk]),
            s.position,
        )
        for s, p in lift.pieces.items()
    }


# ── what stayed behind ───────────────────────────────────────────────────────────────────────────────────────────


def left_out(lift: Lift) -> tuple[str, ...]:
    """What ran and was not taken, with the reason, cell by cell."""
    return tuple(line for space in lift.spaces.values() for line in _left(lift, space))


def _left(lift: Lift, space: Space) -> list[str]:
    taken = {s.position for s, p in lift.pieces.items() if p.space is space}
    kept = {name for module, name in lift.first if module == space.module}
    lines: dict[str, list[str]] = {}
    last_run = {s.text: s for s in space.statements}
    for statement in space.statements:
        if statement.position in taken:
            continue
        own = [
            n
            for n in statement.binds - kept
            if space.definers(n)[-1] is statement and not _is_star(statement)
        ]
        if own:
            lines.setdefault(f"{statement.label}: {{}}: not needed by {lift.class_name}", []).extend(own)
        for name in sorted(statement.binds & kept):
            last = space.definers(name)[-1]
            if last.text != statement.text and not isinstance(statement.node, ast.Import | ast.ImportFrom):
                lines.setdefault(f"{statement.label}: {{}}: replaced by {last.at()}", []).append(name)
        if not statement.binds and last_run[statement.text] is statement and not _is_text(statement.node):
            lines.setdefault(f"{statement.at()}: defines nothing", [])
    return [*(line.format(", ".join(sorted(names))) for line, names in lines.items()), *space.skipped]


def _is_star(statement: Statement) -> bool:
    return isinstance(statement.node, ast.ImportFrom) and statement.node.names[0].name == "*"


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)

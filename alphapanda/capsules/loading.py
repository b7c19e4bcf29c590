"""What a frozen module computes while it loads must be the same in every process and on every day.

So constants, class attributes and defaults may use plain data, what was lifted, and libraries that only compute; a
file, the clock, the environment or the network may not have a say. What callbacks do later is not judged here.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
from collections.abc import Iterator
from types import BuiltinFunctionType
from typing import Any

import msgspec

from alphapanda.capsules.lift import Asked, Import, Lift, Piece
from alphapanda.capsules.reading import Statement
from alphapanda.capsules.sources import Space
from alphapanda.capsules.values import CODE, SCALARS

PURE = frozenset(
    (
        "abc", "alphapanda", "attr", "attrs", "bisect", "calendar", "cmath", "collections", "contextlib", "copy",
        "dataclasses", "datetime", "decimal", "enum", "fractions", "functools", "heapq", "itertools", "math", "msgspec",
        "numbers", "numpy", "operator", "pydantic", "re", "statistics", "string", "textwrap", "types", "typing",
        "typing_extensions", "warnings", "zoneinfo",
    )
)  # fmt: skip
IMPURE = frozenset(
    (
        "now", "today", "utcnow", "random", "load", "loadtxt", "genfromtxt", "fromfile", "fromregex", "memmap",
        "backtest", "sweep", "tape", "read_ticks", "read_bars", "synthetic_day", "Settings",
    )
)  # fmt: skip
VARYING = {
    "open": "reads a file",
    "hash": "gives another number in every process",
    "id": "gives another number in every process",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Reach:
    """A name with its attributes, ``np.random.normal``, as an expression uses it."""

    root: str
    parts: tuple[str, ...]
    called: bool
    line: int

    @property
    def text(self) -> str:
        """As it is written."""
        return ".".join((self.root, *self.parts))


def check_loading(lift: Lift) -> None:
    """Refuse what loads differently elsewhere; says which name, and where."""
    for piece in lift.pieces.values():
        if not _gives_code(piece):
            _Check(lift, piece.space, piece.statement).expressions(_at_load(piece.statement.node))


class _Check:
    """One statement's expressions, and the lifted functions that they call."""

    def __init__(self, lift: Lift, space: Space, statement: Statement) -> None:
        self.lift, self.space, self.statement = lift, space, statement
        self._seen: set[Statement] = set()

    def expressions(self, nodes: Iterator[ast.AST]) -> None:
        for node in nodes:
            for reach in _reaches(node):
                self._reach(reach)

    def _reach(self, reach: Reach) -> None:
        statements, imports = self.lift.meaning(self.space, reach.root)
        if not statements and not imports:
            if reach.root in VARYING and not self.space.definers(reach.root):
                self._refuse(reach, VARYING[reach.root])
            return
        if any(not self._harmless(line, reach) for line in imports):
            self._refuse(
                reach, "is called" if reach.called else "is read", " and may give something else elsewhere"
            )
        if reach.called:
            for statement in statements:
                self._called(statement)

    def _called(self, statement: Statement) -> None:
        """What a lifted function or constructor does is done at load, too."""
        if statement in self._seen:
            return
        self._seen.add(statement)
        node = statement.node
        space, self.space = self.space, self.lift.pieces[statement].space
        outer, self.statement = self.statement, statement
        if isinstance(node, ast.ClassDef):
            makers = ("__init__", "__new__", "__post_init__")
            bodies = [s for s in node.body if isinstance(s, ast.FunctionDef) and s.name in makers]
            self.expressions(iter([inner for body in bodies for inner in body.body]))
        elif isinstance(node, ast.FunctionDef):
            self.expressions(iter(node.body))
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
            self.expressions(iter([node.value.body]))
        self.space, self.statement = space, outer

    def _harmless(self, line: Import, reach: Reach) -> bool:
        if line.module.partition(".")[0] in PURE and not IMPURE & {line.attribute, *reach.parts}:
            return True
        value: Any = self.space.values.get(reach.root)
        for part in reach.parts:
            value = getattr(value, part, None)
        if reach.called:
            return _is_record(value)
        return isinstance(value, (*SCALARS, *CODE, tuple, enum.Enum, BuiltinFunctionType))

    def _refuse(self, reach: Reach, what: str, more: str = "") -> None:
        self.lift.refuse(
            reach.text,
            f"{what} while the module loads{more}",
            Asked(self.statement.label, reach.line + self.statement.shift),
            "write the value it gives as a constant or a Param, or compute it in on_start",
        )


def _is_record(kind: Any) -> bool:
    """Whether calling it makes a plain value of its arguments."""
    if dataclasses.is_dataclass(kind):
        return True
    return isinstance(kind, type) and issubclass(kind, enum.Enum | msgspec.Struct | tuple)


def _gives_code(piece: Piece) -> bool:
    """Whether an assignment's values are functions and classes: whatever made them, they are compared by their code."""
    if not isinstance(piece.statement.node, ast.Assign):
        return False
    values = [piece.space.values.get(name) for name in piece.statement.binds]
    return all(isinstance(v, CODE) or "__wrapped__" in getattr(v, "__dict__", ()) for v in values)


def _at_load(node: ast.stmt) -> Iterator[ast.AST]:
    """The expressions whose values running a statement keeps: not bases, decorators, annotations or bodies."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        yield from node.args.defaults
        yield from (d for d in node.args.kw_defaults if d is not None)
    elif isinstance(node, ast.AnnAssign):
        yield from [node.value] if node.value is not None else []
    elif isinstance(node, ast.Import | ast.ImportFrom):
        return
    else:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt):
                yield from _at_load(child)
            elif isinstance(child, ast.ExceptHandler):
                for inner in child.body:
                    yield from _at_load(inner)
            elif not isinstance(node, ast.ClassDef):
                yield child


def _reaches(node: ast.AST) -> Iterator[Reach]:
    """Every use of a name in an expression that is evaluated with it; a lambda's body is not."""
    if isinstance(node, ast.Lambda):
        return
    called = isinstance(node, ast.Call)
    chain = node.func if isinstance(node, ast.Call) else node
    parts: list[str] = []
    inner = chain
    while isinstance(inner, ast.Attribute):
        parts.insert(0, inner.attr)
        inner = inner.value
    if isinstance(inner, ast.Name):
        if isinstance(inner.ctx, ast.Load):
            yield Reach(inner.id, tuple(parts), called, inner.lineno)
        rest: list[ast.AST] = [*node.args, *node.keywords] if isinstance(node, ast.Call) else []
    else:
        rest = list(ast.iter_child_nodes(node))
    for child in rest:
        yield from _reaches(child)

"""What a statement takes from the names around it, as the compiler sees it.

The bytecode tells exactly which names are global, through comprehensions, closures, ``match`` and mangling. A name is
needed *now* when running the statement looks it up (bases, decorators, defaults, class attributes, lambdas, which may
be called at once), later when only the body of a function does. An annotation that is kept as text is a *hint*: wanted
where it can be had, never required.
"""

from __future__ import annotations

import ast
import dis
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import CodeType

from alphapanda.capsules.reading import Statement, compiled, refuse

IMMEDIATE = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>", "<lambda>")
LOOKUPS = ("LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")  # in the body around them first
OWN = frozenset(
    ("__name__", "__doc__", "__annotations__", "__module__", "__qualname__", "__debug__")
)  # every module and class body has them


@dataclass(frozen=True, slots=True)
class Use:
    """One place where a statement looks a global name up."""

    name: str
    line: int
    now: bool


@dataclass(slots=True)
class Names:
    """All that a statement takes from outside; ``rebinds`` are the globals its functions assign."""

    uses: list[Use] = field(default_factory=list[Use])
    hints: set[str] = field(default_factory=set[str])
    rebinds: list[Use] = field(default_factory=list[Use])


def names_of(statement: Statement) -> Names:
    """The statement's names; refuses what cannot stand at the top of a module."""
    source = "\n" * (statement.line - 1) + statement.text
    try:
        code = compiled(source, statement.label, future=statement.future)
    except SyntaxError as error:
        bound = ", ".join(sorted(statement.binds))
        refuse(
            f"{bound} cannot be frozen: {statement.at(error.lineno)} cannot stand at the top of a module: {error.msg}",
            "take the await out of what the class needs"
            if "await" in str(error.msg)
            else "write it as plain Python",
            name=bound,
            cell=statement.label,
            line=error.lineno,
        )
    names = Names()
    _walk(code, True, names)
    evaluated = Names()
    if statement.future:
        _walk(compiled(source, statement.label), True, evaluated)
    for text in _quoted(statement.node):
        try:
            _walk(compile(text, statement.label, "eval", dont_inherit=True), False, evaluated)
        except SyntaxError:  # text that is no annotation, as in Literal["5 minutes"]
            continue
    names.hints = {use.name for use in evaluated.uses} - {use.name for use in names.uses}
    return names


def _walk(code: CodeType, now: bool, names: Names) -> None:
    stored: set[str] = set()  # by this module or class body so far: no longer looked up outside
    line = code.co_firstlineno
    for step in dis.get_instructions(code):
        if step.positions is not None and step.positions.lineno is not None:
            line = step.positions.lineno
        name = str(step.argval)
        if name in OWN:
            continue
        if step.opname == "STORE_NAME":
            stored.add(name)
        elif step.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
            if not now:  # a walrus in a comprehension at the top level also stores so
                names.rebinds.append(Use(name, line, now))
        elif step.opname == "LOAD_GLOBAL" or (step.opname in LOOKUPS and name not in stored):
            names.uses.append(Use(name, line, now))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            body = not constant.co_flags & inspect.CO_OPTIMIZED  # of a class
            _walk(constant, now and (body or constant.co_name in IMMEDIATE), names)


def _quoted(statement: ast.stmt) -> Iterator[str]:
    """The texts in annotations that are written as text."""
    for node in ast.walk(statement):
        if isinstance(node, ast.arg | ast.AnnAssign):
            annotation = node.annotation
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            annotation = node.returns
        else:
            continue
        for part in ast.walk(annotation) if annotation is not None else ():
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                yield part.value


def inner_imports(statement: ast.stmt) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports inside a definition or condition, but for those that only a type checker reads."""
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and for_checkers(node):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def for_checkers(node: ast.stmt) -> bool:
    """Whether a statement is ``if TYPE_CHECKING:``."""
    if not isinstance(node, ast.If):
        return False
    test = node.test
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def for_main(node: ast.stmt) -> bool:
    """Whether a statement is ``if __name__ == "__main__":``, which no frozen module runs."""
    return isinstance(node, ast.If) and ast.unparse(node.test).replace('"', "'") == "__name__ == '__main__'"

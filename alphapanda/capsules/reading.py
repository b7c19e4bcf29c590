"""A cell or a file as statements: each with its own text, the line a person sees it on, and the names it binds."""

from __future__ import annotations

import ast
import contextlib
import re
import symtable
import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from types import CodeType
from typing import Any, NoReturn

from alphapanda.errors import ValidationError

FUTURE = annotations.compiler_flag  # of `from __future__ import annotations`
MARKERS = re.compile(r"# ?%%|# Parameters$|#\s*NBVAL_|# In\[")  # comments that tools put above code


def refuse(message: str, fix: str, **context: Any) -> NoReturn:
    """Say what keeps a class from being frozen, where, and what to do."""
    raise ValidationError(message, fix=fix, code="E_CAPSULE", **context)


def compiled(source: str, file: str, *, future: bool = False) -> CodeType:
    """Compile as a module of its own; warnings about the text were given when its cell ran."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return compile(source, file, "exec", flags=FUTURE if future else 0, dont_inherit=True)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A cell as it ran, or a whole file. ``before`` lines of what a person sees stand above ``text``."""

    label: str
    text: str
    before: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """A statement at the top level, as written, with the comments right above it. ``chunk`` counts executions."""

    node: ast.stmt
    text: str
    label: str
    line: int  # of the text's first line
    chunk: int
    position: int  # among all statements of its space
    binds: frozenset[str]
    future: bool = False  # annotations were kept as text when it ran
    shift: int = 0  # from the lines of its node to those a person sees

    def at(self, line: int | None = None) -> str:
        """Place of a line of it, in words."""
        return f"{self.label} line {self.line if line is None else line}"


def parsed(text: str) -> ast.Module | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(text)
        except (SyntaxError, ValueError):  # ValueError: null bytes
            return None


def transformed(text: str) -> str:
    """The cell with its magics as calls, where IPython is there to tell."""
    if "IPython" not in sys.modules:
        return text
    from IPython.core.inputtransformer2 import TransformerManager

    with contextlib.suppress(SyntaxError):
        return TransformerManager().transform_cell(text)
    return text


def _shell_call(node: ast.AST) -> ast.Call | None:
    """The call if it is ``get_ipython().something(...)``."""
    value = node.value if isinstance(node, ast.Expr) else node
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
        inner = value.func.value
        if (
            isinstance(inner, ast.Call)
            and isinstance(inner.func, ast.Name)
            and inner.func.id == "get_ipython"
        ):
            return value
    return None


def _words(call: ast.Call) -> list[str]:
    return [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]


def cell_magic(tree: ast.Module) -> tuple[str, str] | None:
    """Name and body of the cell magic that a chunk is, if it is one."""
    call = _shell_call(tree.body[0]) if len(tree.body) == 1 else None
    if call is None or not isinstance(call.func, ast.Attribute) or call.func.attr != "run_cell_magic":
        return None
    words = _words(call)
    return (words[0], words[2]) if len(words) == 3 else None


def line_magic(node: ast.stmt) -> str:
    """How a person wrote a statement that is a magic or shell line; "" for any other."""
    call = _shell_call(node)
    if call is None or not isinstance(call.func, ast.Attribute):
        return ""
    words = _words(call)
    sign = "%" if call.func.attr == "run_line_magic" else "!"
    return sign + " ".join(words[:1])


def is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def segment(lines: list[str], node: ast.stmt, floor: int) -> tuple[str, int]:
    """The statement's text and first line: comments right above it and at its end included, below line ``floor``."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(d.lineno for d in decorators)])
    last = node.end_lineno or node.lineno
    body = lines[first - 1 : last]
    final = lines[last - 1].encode()
    cut = node.end_col_offset or len(final)
    rest = final[cut:].decode()
    body[-1] = final[:cut].decode() + (rest.rstrip() if rest.lstrip().startswith("#") else "")
    start = 0 if decorators else node.col_offset
    body[0] = body[0].encode()[start:].decode()
    while start == 0 and first - 1 > floor and _is_note(lines[first - 2]):
        first -= 1
        body.insert(0, lines[first - 1].rstrip())
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        body += _closing_comments(lines[last:])
    return "\n".join(body).rstrip(), first


def _is_note(line: str) -> bool:
    return line.startswith("#") and not MARKERS.match(line)


def _closing_comments(after: list[str]) -> list[str]:
    """Comments that end a definition's body: indented, and nothing but blank lines between."""
    kept = 0
    for number, line in enumerate(after, 1):
        if line[:1].isspace() and line.lstrip().startswith("#"):
            kept = number
        elif line.strip():
            break
    return [line.rstrip() for line in after[:kept]]


def binds(node: ast.stmt, text: str) -> frozenset[str]:
    """The module-level names a statement binds."""
    if isinstance(node, ast.Import):
        return frozenset(a.asname or a.name.partition(".")[0] for a in node.names)
    if isinstance(node, ast.ImportFrom):
        if node.names[0].name == "*":
            return frozenset() if node.level else star(node.module or "")
        return frozenset(a.asname or a.name for a in node.names)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return frozenset((node.name,))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = symtable.symtable(text, "cell", "exec")
    except SyntaxError:
        return frozenset()
    names = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported()}
    return frozenset(names | {s.get_name() for s in table.get_symbols() if s.is_namespace()})


def star(module: str) -> frozenset[str]:
    """What ``from module import *`` binds; nothing when the module is not loaded."""
    loaded = sys.modules.get(module)
    if loaded is None:
        return frozenset()
    public: Iterable[str] = getattr(loaded, "__all__", None) or (n for n in vars(loaded) if n[:1] != "_")
    return frozenset(public)


def binds_root(alias: ast.alias, name: str) -> bool:
    """Whether ``import a.b`` (or ``import a``) is what binds ``a``."""
    return alias.asname is None and alias.name.partition(".")[0] == name


def always_binds(node: ast.stmt, name: str) -> bool:
    """Whether running the statement binds ``name`` on every way through it."""
    if isinstance(node, ast.If):
        return _any_binds(node.body, name) and _any_binds(node.orelse, name)
    if isinstance(node, ast.Try):
        tried = _any_binds([*node.body, *node.orelse], name)
        caught = all(_any_binds(h.body, name) or isinstance(h.body[-1], ast.Raise) for h in node.handlers)
        return (tried and caught) or _any_binds(node.finalbody, name)
    return name in binds(node, ast.unparse(node))


def _any_binds(body: list[ast.stmt], name: str) -> bool:
    return any(always_binds(node, name) for node in body)

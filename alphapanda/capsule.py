"""Freeze a strategy: its class and all it needs, out of a notebook and into one plain module with a digest.

1. The module is plain Python to read and to diff: imports, then the definitions as they were written.
2. It holds what the class needs and nothing else; what stayed behind is listed with the reason.
3. What only this kernel has (a DataFrame, an open client, a constant that was changed after its cell ran) is refused
   by name, with cell and line of its use, and what to do about it.
4. Equal text means an equal digest: no date, no path of a machine, no order in which independent cells ran.
5. Before it is handed out the module is loaded in a namespace of its own, every value in it is compared with the
   kernel's, and freezing the loaded class must give the same text again.
"""

from __future__ import annotations

import ast
import enum
import hashlib
import linecache
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import msgspec

from alphapanda.capsules.lift import Lift
from alphapanda.capsules.loading import check_loading
from alphapanda.capsules.reading import Statement, compiled, refuse
from alphapanda.capsules.sources import PREFIX, Space, local, space_of_class
from alphapanda.capsules.text import Text, left_out, module_text
from alphapanda.capsules.values import Comparison
from alphapanda.errors import ValidationError
from alphapanda.strategy import Strategy

DIGEST_BYTES = 32
FILE_DIGEST = "# Its file has the digest "
NAME_DIGITS = 16  # of the digest, in a module's name
OVERRIDES = ("bar", "product", "warmup")  # what an instance may set besides its parameters
CHECK = "<frozen {}>"  # the file name of a module that is loaded only to check it


class Capsule(msgspec.Struct, frozen=True):
    """A strategy as one module: ``source`` is its text, ``digest`` covers every character of it.

    Parameter values are not in it; they travel beside it. ``left_out`` says what was not taken, and why. ``origins``
    holds for each statement its first line here, the cell or file it came from, and its first line there.
    """

    source: str
    digest: str
    class_name: str
    left_out: tuple[str, ...] = ()
    origins: tuple[tuple[int, str, int], ...] = ()

    def origin(self, line: int) -> str:
        """Where a line of the module came from, in words."""
        found = [one for one in self.origins if one[0] <= line]
        if not found:
            return f"line {line} of the frozen module"
        start, where, at = found[-1]
        return f"{where} line {at + line - start}"


def parameters_of(strategy: Strategy) -> dict[str, Any]:
    """What makes an instance of the frozen class equal to this one, as JSON has it: a choice of an enum by its name."""
    values = {n: v.name if isinstance(v, enum.Enum) else v for n, v in strategy.params.items()}
    kind = type(strategy)
    return values | {n: getattr(strategy, n) for n in OVERRIDES if getattr(strategy, n) != getattr(kind, n)}


def digest_of(source: str) -> str:
    """The digest of a module's text: blake2b, 32 bytes, as hex."""
    return hashlib.blake2b(source.encode(), digest_size=DIGEST_BYTES).hexdigest()


def freeze(strategy: Strategy | type[Strategy]) -> Capsule:
    """The class of ``strategy`` as a module that gives the same class in any process.

    Works for classes in notebook cells, scripts and modules. A class of an installed package is imported, not copied.
    Raises ValidationError (code E_CAPSULE) with ``name``, ``cell`` and ``line`` in its context for whatever the text
    cannot carry.
    """
    kind = strategy if isinstance(strategy, type) else type(strategy)
    if not issubclass(kind, Strategy) or kind is Strategy:  # pyright: ignore[reportUnnecessaryIsInstance] - notebooks pass anything
        refuse(
            f"{kind.__name__} is no strategy of yours",
            "pass a class that derives from alphapanda.Strategy, or an instance of one",
            name=kind.__name__,
        )
    if not local(kind.__module__):
        return _imported(kind)
    lift = _lift(kind)
    check_loading(lift)
    text, again = _checked(lift, kind)
    if again != text.source:
        refuse(
            f"{lift.class_name} does not freeze to the same text twice",
            "put the class and what it needs into one cell",
            name=lift.class_name,
        )
    origins = tuple((line, s.label, s.line) for line, s in text.origins)
    return Capsule(text.source, digest_of(text.source), lift.class_name, left_out(lift), origins)


def load(capsule_source: str, class_name: str, path: str | os.PathLike[str]) -> type[Strategy]:
    """The class of a frozen module: runs its text in a new namespace, under a module name made from its digest.

    ``path`` is where the text is kept; tracebacks show its lines even when no such file exists. Raises
    ValidationError (code E_CAPSULE) when the text does not run or holds no such strategy.
    """
    file = os.fspath(path)
    name = module_name(capsule_source)
    module = ModuleType(name, None)
    module.__file__ = file
    before = sys.modules.get(name)
    sys.modules[name] = module
    linecache.cache[file] = len(capsule_source), None, capsule_source.splitlines(keepends=True), file
    try:
        exec(compiled(capsule_source, file), module.__dict__)  # noqa: S102 - running this text is the purpose
    except Exception as error:  # a module's body may raise anything
        _put_back(name, before)
        raise ValidationError(
            f"the frozen module of {class_name} does not load: {type(error).__name__}: {error}",
            fix="freeze the class again, with the packages it imports installed",
            code="E_CAPSULE",
            name=class_name,
            file=file,
            line=_line_of(error, file),
        ) from error
    kind = module.__dict__.get(class_name)
    if not isinstance(kind, type) or not issubclass(kind, Strategy):
        refuse(f"the frozen module holds no strategy {class_name}", "freeze the class again", name=class_name)
    _check_file(capsule_source, kind)
    return kind


def _file_digest(module: str) -> str:
    """Of the text of an installed module: what is imported must be what was frozen."""
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    try:
        return digest_of(Path(file).read_text("utf-8"))[:NAME_DIGITS]
    except (OSError, UnicodeDecodeError):
        return "none"


def _check_file(source: str, kind: type[Strategy]) -> None:
    """A class that is imported is the one that was frozen. ValidationError (E_CAPSULE) otherwise."""
    noted = next((line for line in source.splitlines()[:2] if line.startswith(FILE_DIGEST)), "")
    if noted and noted != f"{FILE_DIGEST}{_file_digest(kind.__module__)}":
        refuse(
            f"{kind.__name__} is not what was frozen: {kind.__module__} has changed since",
            "freeze it again, and prove it again; or install the version that was frozen",
            name=kind.__name__,
        )


def module_name(source: str) -> str:
    """The name a frozen module is registered under."""
    return PREFIX + digest_of(source)[:NAME_DIGITS]


# ── where the class is ───────────────────────────────────────────────────────────────────────────────────────────


def _imported(kind: type[Strategy]) -> Capsule:
    """A class of an installed package, which every process has: its module imports it."""
    module, name = kind.__module__, kind.__name__
    if getattr(sys.modules.get(module), name, None) is not kind:
        refuse(
            f"{kind.__qualname__} is not at the top level of {module}, so it cannot be imported",
            f"define it at the top level of {module}, or in a cell",
            name=kind.__qualname__,
        )
    source = (
        f"# Frozen by Alpha Panda from the package {module.partition('.')[0]}: {name} and what it needs.\n"
        f"{FILE_DIGEST}{_file_digest(module)}\n\n"
        f"from {module} import {name} as {name}\n"
    )
    reason = f"{module}: an installed package is imported, not copied"
    return Capsule(source, digest_of(source), name, (reason,))


def _lift(kind: type[Strategy]) -> Lift:
    space = space_of_class(kind)
    return Lift(space, _top_level_name(kind, space))


def _top_level_name(kind: type[Strategy], space: Space) -> str:
    """The name whose class statement gives the class; refuses classes that only a call or another object holds."""
    held = [name for name, value in list(space.values.items()) if value is kind]
    older = [] if "." in kind.__qualname__ else [kind.__name__]  # its cell ran again since
    names = dict.fromkeys([*(n for n in held if n == kind.__name__), *held, *older])
    made = (name for name in names for s in space.definers(name)[-1:] if isinstance(s.node, ast.ClassDef))
    return next(made, None) or _refuse_place(kind, space)


def _refuse_place(kind: type[Strategy], space: Space) -> NoReturn:
    """Say why no class statement at the top level gives the class."""
    outer, _, inner = kind.__qualname__.rpartition(".")
    if outer.endswith("<locals>"):
        maker = outer.removesuffix(".<locals>")
        made = next(iter(space.definers(maker.partition(".")[0])[-1:]), None)
        where = f" of {made.at()}" if made else ""
        refuse(
            f"{inner} cannot be frozen: it is made inside {maker}(){where}, whose variables no text can carry",
            "write the class at the top level of a cell and turn what differs into a Param",
            name=inner,
            cell=made.label if made else "",
            line=made.line if made else 0,
        )
    if outer:
        refuse(
            f"{inner} cannot be frozen: it stands inside {outer}",
            "write the class at the top level of a cell",
            name=inner,
        )
    if not space.statements:
        refuse(
            f"{kind.__name__} cannot be frozen: {space.label} keeps no text of what ran",
            "write the class in a notebook or a .py file",
            name=kind.__name__,
        )
    refuse(
        f"{kind.__name__} cannot be frozen: no class statement at the top level of {space.label} gives it",
        "write it as a class statement that stands alone, not under `if` or in a call",
        name=kind.__name__,
    )


# ── does the module give what the kernel has ─────────────────────────────────────────────────────────────────────


def _checked(lift: Lift, kind: type[Strategy]) -> tuple[Text, str]:
    """Load the module and compare it with the kernel; returns its text, and the text that the loaded class gives.

    What a function calls cannot be known without running it. Where definitions need each other in a circle, a name that
    is missing while the module loads says which of them comes first, and the next try has them so.
    """
    orders: list[tuple[Statement, Statement]] = []
    file = CHECK.format(lift.class_name)
    while True:
        text = module_text(lift, orders)
        try:
            return text, _round_trip(lift, text, kind, file)
        except ValidationError as error:
            cause = error.__cause__
            if not isinstance(cause, Exception) or error.context.get("file") != file:
                raise
            pair = _missing(lift, text, cause, file)
            if pair is None or pair in orders:
                line = _line_of(cause, file)
                refuse(
                    f"{lift.class_name} cannot be frozen: without the rest of the kernel, {text.origin(line)} raises "
                    f"{type(cause).__name__}: {cause}",
                    "restart the kernel and run all; if that works, put what this line needs above it in its cell",
                    name=lift.class_name,
                    line=line,
                )
            orders.append(pair)


def _round_trip(lift: Lift, text: Text, kind: type[Strategy], file: str) -> str:
    """Load, compare, and freeze what was loaded; leaves nothing behind."""
    name = module_name(text.source)
    before = sys.modules.get(name)
    try:
        fresh = load(text.source, lift.class_name, file)
        _compare(lift, text, kind, vars(sys.modules[name]))
        return module_text(_lift(fresh)).source
    finally:
        _put_back(name, before)
        linecache.cache.pop(file, None)


def _missing(lift: Lift, text: Text, error: Exception, file: str) -> tuple[Statement, Statement] | None:
    """The definition whose name was missing, and the statement that ran too early; None for any other error."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if f.filename == file and f.name == "<module>"]
    early = text.statement(lines[0] or 0) if lines else None
    wanted = [s for s in lift.pieces if isinstance(error, NameError) and error.name in s.binds]
    if early is None or not wanted or early[1] in wanted:
        return None
    return max(wanted, key=lambda s: s.position), early[1]


def _compare(lift: Lift, text: Text, kind: type[Strategy], fresh: dict[str, Any]) -> None:
    """Every name that was taken holds the same in both; the first that does not, causes before effects, is refused."""
    compare = Comparison((*lift.spaces, kind.__module__), fresh["__name__"])
    order = {statement: number for number, (_, statement) in enumerate(text.origins)}

    def place(key: tuple[str, str]) -> tuple[int, bool]:
        space = lift.spaces[key[0]]
        statements, _ = lift.meaning(space, key[1])
        return max((order[s] for s in statements), default=-1), _imports(space, key[1])

    for module, name in sorted(lift.first, key=place):
        space = lift.spaces[module]
        where = compare.difference(space.values[name], fresh.get(name))
        if where is not None:
            _changed(lift, space, name, where)
    where = compare.difference(kind, fresh[lift.class_name])
    if where is not None:
        refuse(
            f"{lift.class_name} cannot be frozen: this class is older than the one that {lift.target.at()} gives",
            f"make the instance again: {lift.class_name}(...)",
            name=lift.class_name,
            cell=lift.target.label,
            line=lift.target.line,
        )


def _changed(lift: Lift, space: Space, name: str, where: str) -> None:
    """Refuse a name that holds something else than its statement gives."""
    last = space.definers(name)[-1]
    cell = last.label
    futures = {piece.statement.future for piece in lift.pieces.values()}
    if len(futures) > 1 and not last.future:
        fix = f"put `from __future__ import annotations` above {last.at()}, too: the frozen module has it"
    elif _imports(space, name):
        fix = f"run {cell} again, or restart the kernel"
    elif not space.notebook:
        fix = f"restart the kernel: {cell} changed after it was imported, or something else assigned to it"
    elif isinstance(last.node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        fix = f"put all of it into {cell} and run that again"
    else:
        fix = (
            f"write the value into {cell} and run it again; what changes while trading belongs in self.state"
        )
    lift.refuse(
        f"{name}{where}",
        f"is not what {last.at()} gives: it was changed after that ran",
        lift.first[space.module, name],
        fix,
    )


def _imports(space: Space, name: str) -> bool:
    return isinstance(space.definers(name)[-1].node, ast.Import | ast.ImportFrom)


def _line_of(error: Exception, file: str) -> int:
    """The innermost line of ``file`` that an error passed through."""
    if isinstance(error, SyntaxError) and error.filename == file:
        return error.lineno or 0
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    return (lines[-1] if lines else 0) or 0


def _put_back(name: str, module: ModuleType | None) -> None:
    """Register ``module`` under ``name`` again, or nothing."""
    if module is None:
        sys.modules.pop(name, None)
    else:
        sys.modules[name] = module

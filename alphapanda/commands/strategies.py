"""A strategy as people name it in a command: a class in a file, a notebook or a package, and its parameters.

Of a notebook only those statements run that its class needs, each where it stands: what downloads, trades or draws in
other cells does not. The class freezes to the same text as in the notebook's own kernel.
"""

from __future__ import annotations

import ast
import builtins
import enum
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from alphapanda.capsules.reading import binds, is_future, parsed, transformed
from alphapanda.errors import AlphaPandaException, ConfigurationError, UnknownNameError, ValidationError
from alphapanda.strategy import Parameter, Strategy


def made_of(text: str, given: Sequence[str] = ()) -> Strategy:
    """The instance that a person means by ``FILE:Class`` and ``name=value`` pairs."""
    kind = class_of(text)
    return kind(**parameters(kind, given))


def class_of(text: str) -> type[Strategy]:
    """The class that ``FILE:Class``, ``NOTEBOOK.ipynb:Class`` or ``package.module:Class`` names; without a class, the
    only one there."""
    place, colon, name = text.rpartition(":")
    if not colon:
        place, name = text, ""
    names, home = _names(place)
    found = {
        key: value
        for key, value in names.items()
        if isinstance(value, type) and issubclass(value, Strategy) and value.__module__ == home
    }
    if name in found:
        return found[name]
    if name:
        raise UnknownNameError(f"strategy in {place}", name, found, code="E_STRATEGY")
    if len(found) != 1:
        listed = ", ".join(found) or "no Strategy class"
        raise ValidationError(
            f"{place} holds {listed}", fix=f"say which: {place}:MyStrategy", code="E_STRATEGY"
        )
    return next(iter(found.values()))


def _module(place: str) -> ModuleType:
    path = Path(place)
    if path.suffix != ".py" and not path.exists():
        sys.path.insert(0, "")
        name, spec = place, None
    else:
        if not path.is_file():
            raise ValidationError(
                f"{place}: no such file",
                fix="name a file: mine.py:MyStrategy, or mine.ipynb:MyStrategy",
                code="E_FILE",
            )
        sys.path.insert(0, str(path.resolve().parent))  # so that the file's own imports work
        name = path.stem
        spec = importlib.util.spec_from_file_location(name, path)
    try:
        if spec is None or spec.loader is None:
            return importlib.import_module(name)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    except AlphaPandaException:
        raise
    except Exception as error:
        frames = reversed(traceback.extract_tb(error.__traceback__))
        line = next((f.lineno for f in frames if Path(f.filename).resolve() == path.resolve()), 0)
        line = (error.lineno or 0) if isinstance(error, SyntaxError) else line
        where = f"{place}:{line}" if line else place
        raise ValidationError(
            f"{where} cannot be imported: {type(error).__name__}: {error}",
            fix="run the file with python",
            code="E_STRATEGY",
        ) from error
    return module


def parameters(kind: type[Strategy], given: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValidationError(
                f"--param {text!r} has no value", fix="write --param name=value", code="E_PARAM"
            )
        if name not in kind.parameters:
            raise UnknownNameError(f"parameter of {kind.__name__}", name, kind.parameters, code="E_PARAM")
        values[name] = _value(kind.parameters[name], value)
    return values


def _value(parameter: Parameter, text: str) -> Any:
    """The text in the parameter's type where it reads as one; else as it is, for the parameter itself to refuse."""
    kind = parameter.kind
    if kind is bool:
        return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(
            text.lower(), text
        )
    if issubclass(kind, enum.Enum) or kind not in (int, float):
        return text
    try:
        return kind(text.replace("_", ""))
    except ValueError:
        return text


# ── notebooks ────────────────────────────────────────────────────────────────────────────────────────────────────


def _names(place: str) -> tuple[dict[str, Any], str]:
    """What a place defines, and the name of its module."""
    if place.endswith(".ipynb"):
        return notebook_names(Path(place)), "__main__"
    module = _module(place)
    return vars(module), module.__name__


def notebook_names(path: Path) -> dict[str, Any]:
    """The names of a notebook's strategy classes and of all that they need, after those statements have run."""
    cells = [transformed(cell) for cell in _code_cells(path)]
    kept = needed([parsed(cell) for cell in cells], cells)
    try:
        from IPython.core.interactiveshell import InteractiveShell
        from traitlets.config import Config
    except ImportError:
        raise ConfigurationError(
            "IPython is not installed, and a notebook needs it",
            fix="pip install 'alphapanda[notebook]'",
            code="E_EXTRA",
        ) from None
    config = Config()
    config.HistoryManager.enabled = False  # no database of what others wrote
    shell: Any = InteractiveShell(config=config)
    sys.path.insert(0, str(path.resolve().parent))  # so that its own imports work
    for number, (text, lines) in enumerate(zip(cells, kept, strict=True), 1):
        shown = [line if at in lines else "" for at, line in enumerate(text.split("\n"), 1)]
        done = shell.run_cell("\n".join(shown), store_history=True, silent=False) if lines else None
        shell.execution_count = number + 1
        if done is not None and not done.success:
            error = done.error_in_exec or done.error_before_exec
            raise ValidationError(
                f"{path.name} cell [{number}] cannot be run by itself: {type(error).__name__}: {error}",
                fix="let the class need nothing but definitions, imports and constants",
                code="E_STRATEGY",
            )
    return shell.user_ns


def _code_cells(path: Path) -> list[str]:
    try:
        book = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        cells: list[dict[str, Any]] = book["cells"]
        return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (OSError, KeyError, TypeError, msgspec.DecodeError) as error:
        raise ValidationError(
            f"{path} is no notebook that can be read ({type(error).__name__})",
            fix="name an .ipynb file",
            code="E_FILE",
        ) from None


def needed(trees: Sequence[ast.Module | None], texts: Sequence[str]) -> list[set[int]]:
    """For each cell the lines of the statements that its strategy classes need: those that bind a name which a needed
    statement reads, from the classes on. What a call might do besides binding a name is not asked for."""
    found = [
        (number, node, binds(node, ast.get_source_segment(texts[number], node) or ""))
        for number, tree in enumerate(trees)
        for node in (tree.body if tree is not None else ())
    ]
    wanted = {n for _, node, bound in found if _is_strategy(node) for n in bound}
    taken: set[int] = {at for at, (_, node, _) in enumerate(found) if is_future(node)}
    while True:
        more = {at for at, (_, _, bound) in enumerate(found) if bound & wanted} - taken
        if not more:
            break
        taken |= more
        wanted |= {n.id for at in more for n in ast.walk(found[at][1]) if isinstance(n, ast.Name)} - set(
            dir(builtins)
        )
    lines: list[set[int]] = [set() for _ in trees]
    for at in taken:
        number, node, _ = found[at]
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        lines[number] |= set(range(first, (node.end_lineno or node.lineno) + 1))
    return [_with_comments(kept, text) for kept, text in zip(lines, texts, strict=True)]


def _with_comments(kept: set[int], text: str) -> set[int]:
    """Comments belong to the definition below them, and what is indented below one to its end."""
    return kept | {
        at for at, line in enumerate(text.split("\n"), 1) if kept and line.lstrip().startswith("#")
    }


def _is_strategy(node: ast.stmt) -> bool:
    """A class that says it is one, or whose base might be."""
    return isinstance(node, ast.ClassDef) and bool(node.bases)

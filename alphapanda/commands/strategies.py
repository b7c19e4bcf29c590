"""A strategy as people name it in a command: a class in a file, a notebook or a package, and its parameters.

Of a notebook only those statements run that its class needs, each where it stands: what downloads, trades or draws in
other cells does not. The class freezes to the same text as in the notebook's own kernel.
"""

from __future__ import annotations

import ast
import enum
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from alphapanda.capsules.names import names_of
from alphapanda.capsules.reading import Chunk, Statement, transformed
from alphapanda.capsules.sources import NOTEBOOK, Space
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
    if place.endswith(".ipynb"):
        return _of_notebook(Path(place), name)
    module = _module(place)
    found = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Strategy) and value.__module__ == module.__name__
    }
    return found[_only(place, name, found)]


def _only(place: str, name: str, found: Mapping[str, Any]) -> str:
    """The name that is meant."""
    if name in found:
        return name
    if name:
        raise UnknownNameError(f"strategy in {place}", name, found, code="E_STRATEGY")
    if len(found) != 1:
        listed = ", ".join(found) or "no Strategy class"
        raise ValidationError(
            f"{place} holds {listed}", fix=f"say which: {place}:MyStrategy", code="E_STRATEGY"
        )
    return next(iter(found))


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


def _of_notebook(path: Path, name: str) -> type[Strategy]:
    """The class of a notebook, made by the statements that it needs, each in its cell and on its line."""
    cells = _code_cells(path)
    space = Space(
        "__main__", NOTEBOOK, {}, [Chunk(f"cell [{n}]", transformed(c)) for n, c in enumerate(cells, 1)]
    )
    found = {
        s.node.name: s
        for s in space.statements
        if isinstance(s.node, ast.ClassDef) and _is_strategy(space, s)
    }
    name = _only(str(path), name, found)
    kept = _needed(space, found[name])
    shell = _shell()
    sys.path.insert(0, str(path.resolve().parent))  # so that its own imports work
    for number, text in enumerate(cells, 1):
        shell.execution_count = number
        if shown := _shown(text, [s for s in kept if s.label == f"cell [{number}]"]):
            done = shell.run_cell(shown, store_history=True)
            if not done.success:
                error = done.error_in_exec or done.error_before_exec
                raise ValidationError(
                    f"{path.name} cell [{number}] cannot be run by itself: {type(error).__name__}: {error}",
                    fix="let the class need nothing but definitions, imports and constants",
                    code="E_STRATEGY",
                )
    return shell.user_ns[name]


def _shell() -> Any:
    """An IPython shell that keeps no database of what others wrote."""
    try:
        from IPython.core.interactiveshell import InteractiveShell
        from traitlets.config import Config
    except ImportError:
        raise ConfigurationError(
            "a notebook needs IPython, which is not installed",
            fix="pip install 'alphapanda[notebook]'",
            code="E_EXTRA",
        ) from None
    config = Config()
    config.HistoryManager.enabled = False
    return InteractiveShell(config=config)


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


def _is_strategy(space: Space, statement: Statement) -> bool:
    """Whether a class statement derives from Strategy, as far as its notebook tells."""
    for base in getattr(statement.node, "bases", ()):
        name = base.attr if isinstance(base, ast.Attribute) else base.id if isinstance(base, ast.Name) else ""
        behind = [s for s in space.definers(name) if s is not statement and isinstance(s.node, ast.ClassDef)]
        if name == "Strategy" or any(_is_strategy(space, one) for one in behind):
            return True
    return False


def _needed(space: Space, statement: Statement) -> set[Statement]:
    """The statement, and those that bind what a needed one looks up."""
    kept, waiting = set[Statement](), [statement]
    while waiting:
        one = waiting.pop()
        if one not in kept:
            kept.add(one)
            names = names_of(one)
            waiting += [
                s for name in {u.name for u in names.uses} | names.hints for s in space.definers(name)
            ]
    return kept


def _shown(text: str, kept: list[Statement]) -> str:
    """A cell with these statements alone, on their lines; what it says of the future stays."""
    if not kept:
        return ""
    lines = [line if line.startswith("from __future__") else "" for line in text.split("\n")]
    for statement in sorted(kept, key=lambda s: s.position):
        for at, line in enumerate(statement.text.split("\n"), statement.line - 1):
            lines[at] = f"{lines[at]}; {line}" if lines[at] else line
    return "\n".join(lines)

"""Where a class can be lifted from: the cells of a notebook in the order they ran, or the file of a module.

A ``Space`` is one such place with its statements and the values its names have now. The last statement that ran and
binds a name is what the name means. Magics and shell lines never define anything; ``%%time``, ``%%capture`` and
``%%prun`` run their cell as it stands, so what they hold counts.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import linecache
import site
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

from alphapanda.capsules.reading import (
    Chunk,
    Statement,
    always_binds,
    binds,
    binds_root,
    cell_magic,
    is_future,
    line_magic,
    parsed,
    refuse,
    segment,
    transformed,
)

PREFIX = "alphapanda_capsule_"  # of the modules that frozen classes live in
NOTEBOOK = "notebook cells"
SESSION = "an interactive session"
TRANSPARENT = ("time", "capture", "prun")  # cell magics that run the cell in the notebook's own namespace


class Space:
    """One namespace of the kernel: its statements in the order they ran, and what its names hold now."""

    def __init__(self, module: str, label: str, values: dict[str, Any], chunks: Iterable[Chunk]) -> None:
        self.module, self.label, self.values = module, label, values
        self.statements: list[Statement] = []
        self.skipped: list[str] = []  # what is no Python, with its place
        self._binding: dict[str, list[Statement]] = {}
        future = False
        chunks = list(chunks)
        self.header = chunks[0].text.partition("\n")[0] if chunks else ""
        for number, chunk in enumerate(chunks):
            for part in self._parts(chunk):
                future = self._add(part, number, future)
        for statement in self.statements:
            for name in statement.binds:
                self._binding.setdefault(name, []).append(statement)

    @property
    def notebook(self) -> bool:
        """Whether its chunks are cells, which a person can run again one by one."""
        return self.label in (NOTEBOOK, SESSION)

    def definers(self, name: str) -> list[Statement]:
        """The statements that make ``name`` what it is, oldest first; empty when none that ran binds it.

        One, but for an ``if`` or ``try`` that may leave what an earlier statement bound, and for ``import a.b`` with
        ``import a.c``, which both make ``a``.
        """
        found = self._binding.get(name, [])
        chosen = found[-1:]
        for earlier in reversed(found[:-1]):
            oldest = chosen[0]
            if isinstance(oldest.node, ast.Import) and isinstance(earlier.node, ast.Import):
                if any(binds_root(a, name) for a in oldest.node.names):
                    chosen.insert(0, earlier)
                    continue
                break
            if always_binds(oldest.node, name):
                break
            if earlier.chunk == oldest.chunk or always_binds(earlier.node, name):
                chosen.insert(0, earlier)
        return chosen

    def _parts(self, chunk: Chunk) -> Iterator[tuple[Chunk, ast.Module]]:
        """The chunk as Python; the body of a transparent cell magic in its magic's place."""
        text = chunk.text.replace("\r\n", "\n").replace("\r", "\n")
        tree = parsed(text)
        if tree is None:
            text = transformed(text)
            tree = parsed(text)
        if tree is None:
            self.skipped.append(f"{chunk.label}: not Python")
            return
        magic = cell_magic(tree)
        if magic is None:
            yield Chunk(chunk.label, text, chunk.before), tree
        elif magic[0] in TRANSPARENT:
            yield from self._parts(Chunk(chunk.label, transformed(magic[1]), chunk.before + 1))
        else:
            self.skipped.append(f"{chunk.label}: %%{magic[0]}: a cell magic defines nothing")

    def _add(self, part: tuple[Chunk, ast.Module], number: int, future: bool) -> bool:
        chunk, tree = part
        lines = chunk.text.split("\n")
        floor = 0
        for node in tree.body:
            magic = line_magic(node)
            if magic:
                self.skipped.append(f"{chunk.label}: {magic}: a magic or shell line defines nothing")
            elif is_future(node):
                future = True
            else:
                text, first = segment(lines, node, floor)
                self.statements.append(
                    Statement(
                        node,
                        text,
                        chunk.label,
                        first + chunk.before,
                        number,
                        len(self.statements),
                        binds(node, text),
                        future,
                        chunk.before,
                    )
                )
            floor = node.end_lineno or floor
        return future


# ── finding the place ────────────────────────────────────────────────────────────────────────────────────────────


def space_of_class(kind: type) -> Space:
    """The space that a class's own functions look names up in."""
    values = next(
        (
            f.__globals__
            for f in vars(kind).values()
            if isinstance(f, FunctionType)
            and (
                f.__globals__.get("__name__") == kind.__module__  # a wrapper's may be another
                or f.__globals__.get(kind.__name__) is kind  # %run takes the name away
            )
        ),
        None,
    )
    if values is None:
        module = sys.modules.get(kind.__module__)
        if module is None:
            refuse(
                f"{kind.__name__}: its module {kind.__module__!r} is gone",
                "run the cell that defines the class again",
                name=kind.__name__,
            )
        values = vars(module)
    return space_of(kind.__module__, values)


def space_of(module: str, values: dict[str, Any]) -> Space:
    """The cells of a notebook or session, or the one file of a module or script."""
    shell: Callable[[], Any] | None = values.get("get_ipython")
    if module == "__main__" and callable(shell):
        return Space(module, NOTEBOOK, values, [*_unrecorded(values, shell()), *_cells(shell())])
    file: str | None = values.get("__file__")
    if file and (file in linecache.cache or file != "<stdin>"):
        linecache.checkcache(file)
        lines = linecache.getlines(file, values)
        label = Path(file).name
        if not lines and not (label.endswith(".py") and Path(file).is_file()):
            refuse(
                f"{module} has no Python source that can be read",
                "install it as a package, which is imported and not copied, or import its .py file",
                name=module,
            )
        return Space(module, label, values, [Chunk(label, "".join(lines))])
    return Space(module, SESSION, values, _unrecorded(values, None))


def _cells(shell: Any) -> Iterator[Chunk]:
    """What IPython ran, as it ran it: magics are calls of ``get_ipython()`` there."""
    history: Any = shell.history_manager
    seen: list[str] = list(history.input_hist_raw)
    for number, text in enumerate(list(history.input_hist_parsed)):
        if text:
            typed = seen[number] if number < len(seen) else ""
            blank = typed[: len(typed) - len(typed.lstrip())].count("\n")
            yield Chunk(f"cell [{number}]", text, blank)


def _unrecorded(values: dict[str, Any], shell: Any) -> list[Chunk]:
    """Cells outside the history (a test of a notebook runs them so) whose text is kept for tracebacks: by the kernel's
    own list, or found by the functions they made."""
    known = {text.strip() for text in shell.history_manager.input_hist_parsed} if shell else set[str]()
    files: dict[str, str] = {}
    listed: dict[str, int] = getattr(getattr(shell, "compile", None), "_filename_map", {})
    for name in listed:
        text = "".join(linecache.getlines(name))
        if text.strip() and text.strip() not in known:
            files[name] = text
    for value in list(values.values()):
        members: list[Any] = list(vars(value).values()) if isinstance(value, type) else [value]
        for member in members:
            if isinstance(member, FunctionType) and member.__globals__ is values:
                name = member.__code__.co_filename
                text = "" if Path(name).is_file() else "".join(linecache.getlines(name))
                if text.strip() and text.strip() not in known:
                    files[name] = text
    return [Chunk(f"cell {Path(name).name}", text) for name, text in files.items()]


@cache
def _roots() -> tuple[Path, ...]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return tuple(
        Path(p).resolve()
        for p in {
            *(sysconfig.get_path(n) for n in names),
            *site.getsitepackages(),
            site.getusersitepackages(),
        }
    )


def local(module: str) -> bool:
    """Whether a module lies beside the notebook, and not among the installed packages that every process has."""
    if module == "__main__" or module.startswith(PREFIX):
        return True
    if module.partition(".")[0] == "alphapanda":
        return False
    loaded = sys.modules.get(module)
    place: str | None = getattr(loaded, "__file__", None) or next(iter(getattr(loaded, "__path__", ())), None)
    if loaded is None:
        with contextlib.suppress(ImportError, ValueError, AttributeError):
            spec = importlib.util.find_spec(module)
            place = spec.origin if spec is not None and spec.has_location else None
    if place is None:
        return False
    path = Path(place).resolve()
    if {"site-packages", "dist-packages"} & {*path.parts}:
        return False
    return not any(path.is_relative_to(root) for root in _roots())

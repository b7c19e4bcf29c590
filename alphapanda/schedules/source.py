"""Which notebooks may be scheduled, and with which parameters: all of it judged before anything runs.

A notebook lies under the folder of the settings, whatever links say. A parameter is one that the notebook's cell
tagged ``parameters`` names, and a value is of the type its annotation (else its default) says. Texts stay texts:
papermill writes them as literals. Which lane and which limits hold is no notebook's to be told (E_PARAM).
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
import stat
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from alphapanda.errors import UnknownNameError, ValidationError

SUFFIX = ".ipynb"
NOTEBOOK_BYTES_MAX = 50_000_000
VALUES_BYTES_MAX, LIST_MAX, DEEP_MAX = 65_536, 1_000, 4
# what decides where orders go, and how large they may be
RESERVED = {
    "lane", "namespace", "broker", "broker_namespace", "limits", "risk", "live", "profile", "approved_until",
}  # fmt: skip
RESERVED_STARTS = ("risk__", "zerodha__", "broker__", "limit_", "max_order_")
TYPES: dict[str, Any] = {
    "bool": bool, "int": int, "float": float, "str": str, "list": list, "dict": dict,
}  # fmt: skip


class Declared(NamedTuple):
    """One line of a parameters cell: its type (None: not known) as it is written there, and its default."""

    kind: Any
    text: str
    default: Any


class Source(NamedTuple):
    """A notebook as it was when it was read."""

    path: Path
    text: bytes
    document: dict[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 of its bytes."""
        return hashlib.sha256(self.text).hexdigest()


def located(folder: Path, name: str) -> Path:
    """The notebook of this name under ``folder``. ValidationError E_NOTEBOOK for anything outside it, by whatever road,
    and for what is no file."""
    root = folder.resolve()
    fix = f"name a notebook under {folder}, such as {folder.name}/50_example.ipynb"
    if not name or "\0" in name or len(name) > 500:
        raise ValidationError("not a notebook's name", fix=fix, code="E_NOTEBOOK")
    given = Path(name)
    tried = [given] if given.is_absolute() else [root / given, root.parent / given]
    for path in tried:
        try:
            found = path.resolve(strict=True)
            if not found.is_relative_to(root) or found.suffix != SUFFIX:
                continue
            if stat.S_ISREG(found.stat().st_mode):
                return found
        except (OSError, RuntimeError):  # none there, or links in a circle
            continue
    raise ValidationError(f"no notebook {name!r:.200} under {folder}", fix=fix, code="E_NOTEBOOK")


def read(path: Path) -> Source:
    """The notebook, read once. ValidationError E_NOTEBOOK if it is none."""
    try:
        if path.stat().st_size > NOTEBOOK_BYTES_MAX:
            raise ValidationError(f"{path.name} is too big", fix="clear its outputs", code="E_NOTEBOOK")
        text = path.read_bytes()
        document = json.loads(text)
        cells = document["cells"]
        if document["nbformat"] != 4 or not all(isinstance(cell["cell_type"], str) for cell in cells):
            raise ValueError("not of format 4")  # noqa: TRY301 - said below, with the other ways to be wrong
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValidationError(
            f"{path.name} is no notebook: {error!s:.200}", fix="open it in JupyterLab", code="E_NOTEBOOK"
        ) from None
    return Source(path, text, document)


def declared(source: Source) -> dict[str, Declared]:
    """What the notebook may be told: the names in its cell tagged ``parameters``; empty if it has none."""
    tagged = [
        cell
        for cell in source.document["cells"]
        if cell["cell_type"] == "code" and "parameters" in cell.get("metadata", {}).get("tags", ())
    ]
    if not tagged:
        return {}
    try:
        lines = ast.parse("".join(tagged[0]["source"])).body
    except SyntaxError as error:
        raise ValidationError(
            f"{source.path.name}: its parameters cell is not Python ({error.msg})",
            fix="one `name: type = value` a line",
            code="E_PARAM",
        ) from None
    found: dict[str, Declared] = {}
    for line in lines:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            default = _literal(line.value)
            kind = _type(line.annotation)
            found[line.target.id] = Declared(
                kind, "" if kind is None else ast.unparse(line.annotation), default
            )
        elif isinstance(line, ast.Assign):
            default = _literal(line.value)
            for target in line.targets:
                if isinstance(target, ast.Name):
                    kind = None if default is None else TYPES.get(type(default).__name__)
                    found[target.id] = Declared(kind, kind.__name__ if kind else "", default)
    return found


def checked(source: Source, values: dict[str, Any]) -> dict[str, Any]:
    """The values, if the notebook may be told them; ValidationError (E_PARAM) that names the first that it may not."""
    known = declared(source)
    for name, value in values.items():
        where = f"parameter {name!r:.80} of {source.path.name}"
        folded = name.casefold()
        if folded in RESERVED or folded.startswith(RESERVED_STARTS):
            raise _wrong(f"{where} is not a schedule's to set", "lane and limits are the settings'")
        if name not in known:
            raise UnknownNameError(f"parameter of {source.path.name}", name[:80], known, code="E_PARAM")
        kind, text, _ = known[name]
        if kind is None:
            told = f"annotate it: {name}: int = 20; made of {', '.join(TYPES)}, as list[str] or int | None"
            raise _wrong(f"{where} says no type", told)
        if not _plain(value, DEEP_MAX):
            raise _wrong(f"{where} is {_shown(value)}, not of type {text}", f"give a finite, plain {text}")
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            raise _wrong(f"{where} is {_shown(value)}, not of type {text}", str(error)) from None
    if len(json.dumps(values)) > VALUES_BYTES_MAX:
        raise _wrong(f"the parameters have more than {VALUES_BYTES_MAX:,} bytes", "name a file instead")
    return values


def typed(source: Source, words: list[str]) -> dict[str, Any]:
    """``NAME=VALUE`` as typed in a shell, each value read as its parameter's type says; then ``checked``."""
    known, values = declared(source), dict[str, Any]()
    for word in words:
        name, divided, text = word.partition("=")
        if not divided:
            raise _wrong(f"{word!r:.80} is no parameter", "write NAME=VALUE")
        if name in values:
            raise _wrong(f"parameter {name!r:.80} is given twice", "give it once")
        kind, written, _ = known.get(name, Declared(str, "str", None))
        try:
            as_it_is = kind in (str, None) or (kind == str | None and text != "null")
            values[name] = text if as_it_is else json.loads(text)
        except (ValueError, RecursionError):
            raise _wrong(
                f"parameter {name} of {source.path.name} is {text!r:.60}, not of type {written}",
                'write 20, 0.5, true, null, ["a", "b"]',
            ) from None
    return checked(source, values)


def _wrong(message: str, fix: str) -> ValidationError:
    return ValidationError(message, fix=fix, code="E_PARAM")


def _shown(value: object) -> str:
    return f"{value!r:.60}" if isinstance(value, bool | int | float | str) else f"a {type(value).__name__}"


def _plain(value: Any, deep: int) -> bool:
    """Made of texts, numbers and truth values alone, and of no more than fit on a page."""
    if isinstance(value, str | bool) or value is None:
        return not isinstance(value, str) or "\0" not in value
    if isinstance(value, int):
        return abs(value) < 2**63
    if isinstance(value, float):
        return math.isfinite(value)
    if deep == 0 or not isinstance(value, list | dict) or len(value) > LIST_MAX:  # type: ignore[arg-type]
        return False
    parts: list[Any] = [*value, *value.values()] if isinstance(value, dict) else value  # type: ignore[misc]
    return all(_plain(part, deep - 1) for part in parts)


def _literal(node: ast.expr | None) -> Any:
    try:
        return None if node is None else ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError):
        return None


def _type(node: ast.expr) -> Any:
    """The type that an annotation made of ``TYPES`` names, such as ``dict[str, float] | None``; None for any other."""
    try:
        match node:
            case ast.Name(name):
                return TYPES.get(name)
            case ast.Subscript(ast.Name("dict"), ast.Tuple([key, value])):
                return dict[_sure(key), _sure(value)]
            case ast.Subscript(ast.Name("list"), item):
                return list[_sure(item)]
            case ast.BinOp(left, ast.BitOr(), right):
                return _sure(left) | (None if _is_none(right) else _sure(right))
            case _:
                return None
    except TypeError:
        return None


def _sure(node: ast.expr) -> Any:
    kind = _type(node)
    if kind is None:
        raise TypeError(ast.unparse(node))
    return kind


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None

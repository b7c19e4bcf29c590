"""Values of the kernel beside those of the frozen module: what may be a constant, and whether both are the same.

Nothing here calls code of the notebook: two values are compared by what they hold, never by an ``==`` somebody wrote.
"""

from __future__ import annotations

import bisect
import collections
import dataclasses
import datetime as dt
import decimal
import dis
import enum
import fractions
import functools
import itertools
import operator
import re
import types
import typing
import uuid
import zoneinfo
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
import numpy as np

from alphapanda.strategy import Parameter

SCALARS = (
    type(None), bool, int, float, complex, str, bytes, range, slice, type(...), type(NotImplemented), dt.date, dt.time,
    dt.timedelta, dt.tzinfo, decimal.Decimal, fractions.Fraction, re.Pattern, zoneinfo.ZoneInfo, uuid.UUID,
    np.generic, np.dtype,
)  # fmt: skip


class _Row(typing.NamedTuple):
    x: int


GETTER: type[Any] = vars(_Row)["x"].__class__  # how named tuples read a field
CODE = (
    type, types.FunctionType, types.ModuleType, types.GenericAlias, types.UnionType, types.MethodDescriptorType,
    types.WrapperDescriptorType, typing.TypeVar, typing.ParamSpec, typing.NewType, np.ufunc,
    operator.itemgetter, operator.attrgetter, operator.methodcaller, types.MemberDescriptorType,
    types.GetSetDescriptorType, GETTER,
)  # fmt: skip
MAPPINGS = (dict, types.MappingProxyType)
SEQUENCES = (tuple, list, collections.deque)
SETS = (set, frozenset)
MADE = ("__module__", "__dict__", "__weakref__", "__doc__", "_abc_impl")
MEMBERS = (types.FunctionType, staticmethod, classmethod, property)
LINE = "__firstlineno__"
UNSEEN = ("PUSH_NULL", "CACHE", "EXTENDED_ARG", "NOP")
FLAGS = 0x2FF  # of a code object: arguments, generators and coroutines; the rest depends on how a cell was compiled


def foreign(value: Any, ours: Callable[[str], bool]) -> str:
    """The type of the first thing in ``value`` that no source text can give back; "" for plain data and code.

    Instances of dataclasses, of structs and of classes from a module that is ``ours`` count by what they hold.
    """
    waiting, seen = [value], set[int]()
    while waiting:
        one = waiting.pop()
        if isinstance(one, SCALARS) or id(one) in seen:
            continue
        seen.add(id(one))
        parts = _contents(one, ours)
        if parts is None:
            return type(one).__qualname__
        waiting += parts
    return ""


def _contents(one: Any, ours: Callable[[str], bool]) -> list[Any] | None:
    """What a value is made of; None when it is a runtime object."""
    home: str = type(one).__module__
    if isinstance(one, MAPPINGS):
        return [part for pair in typing.cast("Mapping[Any, Any]", one).items() for part in pair]
    if isinstance(one, (*SEQUENCES, *SETS)):
        return list(typing.cast("Iterable[Any]", one))
    if isinstance(one, types.FunctionType):
        inner = [cell.cell_contents for cell in one.__closure__ or ()]
        return [*inner, *(one.__defaults__ or ()), *(one.__kwdefaults__ or {}).values()]
    if isinstance(one, types.BuiltinFunctionType | types.MethodType):
        return [] if isinstance(one.__self__, types.ModuleType) else [one.__self__]
    if isinstance(one, CODE) or home == "typing":
        return []
    if isinstance(one, enum.Enum):
        return [one.value]
    if isinstance(one, functools.partial):
        partial = typing.cast("functools.partial[Any]", one)
        return [partial.func, *partial.args, *partial.keywords.values()]
    if isinstance(one, staticmethod | classmethod):
        return [typing.cast("Any", one).__func__]
    if isinstance(one, property):
        return [one.fget, one.fset, one.fdel]
    if isinstance(one, functools.cached_property):
        return [typing.cast("Any", one).func]
    if isinstance(one, np.ndarray):
        array = typing.cast("np.ndarray[Any, Any]", one)
        return list(array.flat) if array.dtype.hasobject else []
    if "__wrapped__" in getattr(one, "__dict__", ()):
        return [one.__wrapped__]  # lru_cache and the like
    if isinstance(one, Parameter | msgspec.Struct) or dataclasses.is_dataclass(one):
        return list(_fields(one).values())
    return list(_fields(one).values()) if ours(home) else None


def _fields(one: Any) -> dict[str, Any]:
    """The attributes an object holds, in its dict and its slots."""
    fields: dict[str, Any] = {}
    slots: list[Any] = [vars(kind).get("__slots__", ()) for kind in type(one).__mro__]
    for names in [one.__struct_fields__] if isinstance(one, msgspec.Struct) else slots:
        for name in (names,) if isinstance(names, str) else tuple(names):
            if hasattr(one, name):
                fields[name] = getattr(one, name)
    return {**fields, **getattr(one, "__dict__", {})}


# ── are two values the same ──────────────────────────────────────────────────────────────────────────────────────


class Comparison:
    """Compares values of the kernel with the frozen module's: ``ours`` are the modules that it was lifted from."""

    def __init__(self, ours: Iterable[str], frozen: str) -> None:
        self.ours, self.frozen = frozenset(ours), frozen
        self._met: set[tuple[int, int]] = set()
        self._kept: list[Any] = []  # what has been met stays alive, or ids would be given again

    def difference(self, live: Any, fresh: Any) -> str | None:
        """Where two values part ("" at the top, ".name" or "[2]" inside); None when they are the same."""
        pair = id(live), id(fresh)
        if live is fresh or pair in self._met:
            return None
        if _kind(live) in (int, float, str) and _kind(live) is _kind(fresh):  # most of a long table
            return None if repr(live) == repr(fresh) else ""
        self._met.add(pair)
        self._kept += (live, fresh)
        if isinstance(live, type) and isinstance(fresh, type):
            return self._classes(live, fresh)
        if not self._alike(_kind(live), _kind(fresh)):
            return ""
        for wanted, compare in self._table():
            if isinstance(live, wanted):
                return compare(live, fresh)
        return self._objects(live, fresh)

    def _table(self) -> Iterable[tuple[Any, Callable[[Any, Any], str | None]]]:
        return (
            (enum.Enum, lambda a, b: self._all((("name", a.name, b.name), ("value", a.value, b.value)))),
            (SCALARS, lambda a, b: None if repr(a) == repr(b) and _equal(a, b) else ""),
            (types.CodeType, lambda a, b: None if _same_code(a, b) else ""),
            (types.FunctionType, self._functions),
            (MAPPINGS, self._mappings),
            (SEQUENCES, self._sequences),
            (SETS, lambda a, b: self._sequences(sorted(a, key=_name_free), sorted(b, key=_name_free))),
            (np.ndarray, self._arrays),
            (types.CellType, lambda a, b: self.difference(_content(a), _content(b))),
            (property, lambda a, b: self._parts(a, b, ("fget", "fset", "fdel"))),
            ((staticmethod, classmethod), lambda a, b: self._parts(a, b, ("__func__",))),
            (functools.cached_property, lambda a, b: self._parts(a, b, ("func",))),
            (functools.partial, lambda a, b: self._parts(a, b, ("func", "args", "keywords"))),
            (types.MethodType, lambda a, b: self._parts(a, b, ("__func__", "__self__"))),
            (types.ModuleType, lambda a, b: None if a.__name__ == b.__name__ else ""),
            (
                (typing.TypeVar, typing.ParamSpec, types.MemberDescriptorType, types.GetSetDescriptorType),
                lambda a, b: None if a.__name__ == b.__name__ else "",
            ),
            (
                (types.GenericAlias, types.UnionType),
                lambda a, b: self._parts(a, b, ("__origin__", "__args__")),
            ),
        )

    def _alike(self, live: type, fresh: type) -> bool:
        """The same type, or a lifted class and its copy."""
        return live is fresh or (
            live.__module__ in self.ours
            and fresh.__module__ == self.frozen
            and live.__qualname__ == fresh.__qualname__
        )

    def _all(self, parts: Iterable[tuple[str, Any, Any]]) -> str | None:
        for name, live, fresh in parts:
            found = self.difference(live, fresh)
            if found is not None:
                return f".{name}{found}"
        return None

    def _parts(self, live: Any, fresh: Any, names: Iterable[str]) -> str | None:
        return self._all((n, getattr(live, n, None), getattr(fresh, n, None)) for n in names)

    def _named(self, live: Mapping[str, Any], fresh: Mapping[str, Any]) -> str | None:
        """Two dicts of attributes; what classes and libraries note there for themselves does not count."""
        for name in dict.fromkeys([*live, *fresh]):
            ours, theirs = live.get(name, self), fresh.get(name, self)
            if name in MADE or (name[:2] == "__" == name[-2:] and not isinstance(ours, MEMBERS)):
                continue
            found = self.difference(ours, theirs)
            if found is not None:
                return f".{name}{found}"
        return None

    def _classes(self, live: type, fresh: type) -> str | None:
        if not self._alike(live, fresh) or not self._alike(type(live), type(fresh)):
            return ""
        if len(live.__bases__) != len(fresh.__bases__):
            return " (its bases)"
        for ours, theirs in zip(live.__bases__, fresh.__bases__, strict=True):
            if self.difference(ours, theirs) is not None:
                return f" (its base {ours.__name__})"
        return self._named(vars(live), vars(fresh))

    def _functions(self, live: types.FunctionType, fresh: types.FunctionType) -> str | None:
        if not _same_code(live.__code__, fresh.__code__):
            return ""
        return self._parts(live, fresh, ("__defaults__", "__kwdefaults__", "__closure__")) or self._named(
            vars(live), vars(fresh)
        )

    def _mappings(self, live: Mapping[Any, Any], fresh: Mapping[Any, Any]) -> str | None:
        if len(live) != len(fresh):
            return f" (has {len(live)} entries, not {len(fresh)})"
        for (ours, value), (theirs, other) in zip(live.items(), fresh.items(), strict=True):
            if self.difference(ours, theirs) is not None:
                return " (its keys)"
            found = self.difference(value, other)
            if found is not None:
                return f"[{ours!r}]{found}" if isinstance(ours, str | int) else f"[...]{found}"
        return self._objects(live, fresh)

    def _sequences(self, live: Any, fresh: Any) -> str | None:
        if len(live) != len(fresh):
            return f" (has {len(live)} entries, not {len(fresh)})"
        for number, (ours, theirs) in enumerate(zip(live, fresh, strict=True)):
            found = self.difference(ours, theirs)
            if found is not None:
                return f"[{number}]{found}"
        return self._objects(live, fresh)

    def _arrays(self, live: Any, fresh: Any) -> str | None:
        if live.dtype != fresh.dtype or live.shape != fresh.shape:
            return ""
        if live.dtype.hasobject:
            return self.difference(live.tolist(), fresh.tolist())
        return None if live.tobytes() == fresh.tobytes() else ""

    def _objects(self, live: object, fresh: object) -> str | None:
        """What two objects of one type hold. Without attributes, only an ``==`` of the type's own can tell."""
        ours, theirs = _fields(live), _fields(fresh)
        if _kind(live) is dataclasses.Field:
            ours.pop("type")  # an annotation
            theirs.pop("type")
        if ours or theirs or isinstance(live, (*MAPPINGS, *SEQUENCES)):
            return self._named(ours, theirs)
        plain = _kind(live).__module__ in self.ours or _kind(live).__eq__ is object.__eq__
        return None if plain or _equal(live, fresh) else ""


def _kind(value: Any) -> type[object]:
    kind: type[object] = value.__class__
    return kind


def _equal(live: Any, fresh: Any) -> bool:
    return type(live) is type(fresh) and ((live == fresh) is True or repr(live) == repr(fresh))


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _name_free(member: Any) -> str:
    """A sort key for the members of two sets that hold copies of the same things."""
    return f"{type(member).__name__} {member.name if isinstance(member, enum.Enum) else member!r}"


def _same_code(live: types.CodeType, fresh: types.CodeType) -> bool:
    """The same instructions on the same names and constants; lines and file names do not count."""
    if (live.co_flags ^ fresh.co_flags) & FLAGS:
        return False
    names = (
        "co_names", "co_varnames", "co_freevars", "co_cellvars", "co_argcount", "co_posonlyargcount",
        "co_kwonlyargcount", "co_name",
    )  # fmt: skip
    if any(getattr(live, n) != getattr(fresh, n) for n in names):
        return False
    one, other = _constants(live), _constants(fresh)
    if len(one) != len(other) or not all(map(_same_constant, one, other)):
        return False
    numbered = LINE in live.co_names  # a class body: which constant is which depends on where it stands
    return (not numbered and live.co_code == fresh.co_code) or _steps(live) == _steps(fresh)


def _constants(code: types.CodeType) -> list[Any]:
    """Its constants; those of a class body in the order of their use, without the line it notes of itself (3.13)."""
    if LINE not in code.co_names:
        return list(code.co_consts)
    steps = list(dis.get_instructions(code))
    lines = {before.offset for before, step in itertools.pairwise(steps) if step.argval == LINE}
    return [step.argval for step in steps if step.opcode in dis.hasconst and step.offset not in lines]


def _steps(code: types.CodeType) -> list[Any]:
    """The instructions, without what depends on the text around them.

    The compiler calls ``np.mean(x)`` in one way where it sees ``import numpy as np`` in the same module, and in another
    in a notebook, where each statement is compiled alone. Jumps and protected ranges are counted in instructions.
    """
    kept = [step for step in dis.get_instructions(code) if step.opname not in UNSEEN]
    offsets = [step.offset for step in kept]

    def place(offset: int) -> int:
        return bisect.bisect_left(offsets, offset)

    steps: list[Any] = []
    for step in kept:
        name = "LOAD_ATTR" if step.opname == "LOAD_METHOD" else step.opname
        if step.opcode in dis.hasjrel or step.opcode in dis.hasjabs:
            steps.append((name, place(step.argval)))
        elif step.opcode in dis.hasconst:
            steps.append((name, 0 if LINE in code.co_names else step.arg))  # constants have been compared
        else:
            steps.append((name, step.argval))
    ranges: Iterable[Any] = getattr(dis.Bytecode(code), "exception_entries", ())
    return steps + [(place(r.start), place(r.end), place(r.target), r.depth, r.lasti) for r in ranges]


def _same_constant(live: Any, fresh: Any) -> bool:
    if isinstance(live, types.CodeType) and isinstance(fresh, types.CodeType):
        return _same_code(live, fresh)
    if isinstance(live, frozenset):
        return live == fresh
    return type(live) is type(fresh) and repr(live) == repr(fresh)

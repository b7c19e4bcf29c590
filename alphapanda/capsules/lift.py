"""The closure of a class: every statement it needs from every space, each name resolved as the kernel would.

Definitions of modules beside the notebook are copied in as they stand, so all names end up in one module: two things
of one name are refused. Names from installed packages become imports.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from alphapanda.capsules.names import Use, for_main, inner_imports, names_of
from alphapanda.capsules.reading import Statement, binds_root, refuse
from alphapanda.capsules.reasons import BUILTINS, FORBIDDEN, INSTEAD, RUNTIME, UNLIFTED
from alphapanda.capsules.sources import Space, local, space_of
from alphapanda.capsules.values import foreign
from alphapanda.errors import nearest


@dataclass(frozen=True, slots=True, order=True)
class Import:
    """One imported name: ``import module``, ``import module as name`` or ``from module import attribute as name``."""

    module: str
    attribute: str
    name: str  # "" where the import binds the package itself

    @property
    def clause(self) -> str:
        """What stands behind ``import``."""
        what = self.attribute or self.module
        return what if self.name in ("", self.attribute) else f"{what} as {self.name}"


@dataclass(slots=True, eq=False)
class Piece:
    """A statement that is taken, and the statements that it needs: now, to run it, or later, in its functions."""

    space: Space
    statement: Statement
    now: set[Statement] = field(default_factory=set[Statement])
    later: set[Statement] = field(default_factory=set[Statement])


@dataclass(frozen=True, slots=True)
class Asked:
    """Who wants a name: the statement and line that use it. A hint may stay unresolved."""

    label: str
    line: int
    hint: bool = False


class Lift:
    """All that one class needs: ``pieces``, ``imports``, and in ``first`` where each name is first used."""

    def __init__(self, root: Space, class_name: str) -> None:
        self.root, self.class_name = root, class_name
        self.spaces = {root.module: root}
        self.pieces: dict[Statement, Piece] = {}
        self.imports: set[Import] = set()
        self.imported: dict[tuple[str, str], frozenset[Import]] = {}  # by module and name in it
        self.first: dict[tuple[str, str], Asked] = {}
        self._found: dict[tuple[str, str], tuple[Statement, ...]] = {}
        self._owners: dict[str, object] = {}
        self._waiting: deque[Piece] = deque()
        self.target = root.definers(class_name)[-1]
        self.resolve(root, class_name, Asked(self.target.label, self.target.line))
        while self._waiting:
            self._expand(self._waiting.popleft())

    def meaning(self, space: Space, name: str) -> tuple[tuple[Statement, ...], frozenset[Import]]:
        """The statements or imports that give a name that has been resolved."""
        key = space.module, name
        return self._found.get(key, ()), self.imported.get(key, frozenset())

    def refuse(self, name: str, what: str, asked: Asked, fix: str) -> NoReturn:
        """``name`` cannot be taken, where it is used."""
        refuse(
            f"{self.class_name} cannot be frozen: {name} {what}; used in {asked.label} line {asked.line}",
            fix,
            name=name,
            cell=asked.label,
            line=asked.line,
        )

    def space(self, module: str) -> Space:
        """The space of a module beside the notebook."""
        if module not in self.spaces:
            self.spaces[module] = space_of(module, vars(importlib.import_module(module)))
        return self.spaces[module]

    def resolve(self, space: Space, name: str, asked: Asked) -> tuple[Statement, ...]:
        """Take what ``name`` means in a space; returns the statements that give it (none for an import)."""
        key = space.module, name
        definers = space.definers(name)
        if not definers:
            self._undefined(space, name, asked)
            return ()
        if name not in space.values and not asked.hint:
            self.refuse(
                name,
                f"has no value now, though {definers[-1].at()} sets it",
                asked,
                "run that cell again, to its end"
                if space.notebook
                else f"define it above the place where {self.class_name} is frozen",
            )
        if not asked.hint:
            self.first.setdefault(key, asked)
        if key not in self._found:
            self._found[key] = ()  # modules that import from each other end here
            last = definers[-1]
            if isinstance(last.node, ast.Import | ast.ImportFrom):
                self._found[key] = self._import(space, name, definers, asked)
            else:
                self._found[key] = tuple(self._take(space, s, name, asked) for s in definers)
        return self._found[key]

    # ── one statement ────────────────────────────────────────────────────────────────────────────────────────────

    def _take(self, space: Space, statement: Statement, name: str, asked: Asked) -> Statement:
        where = statement.at()
        for kinds, what, fix in UNLIFTED:
            if isinstance(statement.node, kinds):
                self.refuse(name, f"{what} in {where}", asked, fix)
        if isinstance(statement.node, ast.Expr | ast.Match):
            self.refuse(name, f"is set in passing in {where}", asked, "give it its value in an assignment")
        if for_main(statement.node):
            self.refuse(
                name,
                f"is set under `if __name__ == '__main__'` in {where}, which only a script runs",
                asked,
                "define it at the top level",
            )
        if statement not in self.pieces:
            for bound in statement.binds:
                self._own(bound, space.module, asked)
            self._check_values(space, statement, name, asked)
            piece = self.pieces[statement] = Piece(space, statement)
            self._waiting.append(piece)
        return statement

    def _check_values(self, space: Space, statement: Statement, name: str, asked: Asked) -> None:
        """What a statement set must be plain data or code: nothing else can be told in text."""
        if isinstance(statement.node, ast.FunctionDef | ast.AsyncFunctionDef):
            return
        held: list[tuple[str, Any]] = [(n, space.values[n]) for n in statement.binds if n in space.values]
        if isinstance(statement.node, ast.ClassDef):
            members = getattr(space.values.get(statement.node.name), "__dict__", {})
            held = [(f"{name}.{n}", members[n]) for n in _assigned(statement.node) if n in members]
        for bound, value in held:
            kind = foreign(value, local)
            if kind:
                self.refuse(
                    bound,
                    f"holds a {kind}, made in {statement.at()}",
                    asked,
                    RUNTIME.get(
                        kind, "make it in on_start, from history() or the ticks, or write its numbers down"
                    ),
                )

    def _expand(self, piece: Piece) -> None:
        """Take what a statement's names mean."""
        space, statement = piece.space, piece.statement
        if piece.now:  # another name for something lifted: it has been resolved
            return
        names = names_of(statement)
        for use in names.rebinds:
            self.refuse(
                use.name,
                "is a global that a function changes",
                Asked(statement.label, use.line),
                "keep it in self.state, which survives a restart, or return it",
            )
        self._check_inner_imports(space, statement)
        for use in names.uses:
            found = self.resolve(space, use.name, Asked(statement.label, use.line))
            if statement in found and use.now and use.name in statement.binds:
                self._check_own_past(space, statement, use)
            (piece.now if use.now else piece.later).update(s for s in found if s is not statement)
        for hint in sorted(names.hints):
            asked = Asked(statement.label, statement.line, hint=True)
            piece.later.update(s for s in self.resolve(space, hint, asked) if s is not statement)
        chains = (self._found.get((space.module, name), ()) for name in statement.binds)
        for chain in chains:  # an `if` that may leave what stood before it comes after that
            piece.now.update(chain[: chain.index(statement)] if statement in chain else ())

    def _check_own_past(self, space: Space, statement: Statement, use: Use) -> None:
        """``N = N + 1`` depends on how often it ran; a condition may ask for what it sets further down."""
        if not isinstance(statement.node, ast.If | ast.Try) and not _calls_itself(statement, use.name):
            self.refuse(
                use.name,
                f"is made from its own earlier value in {statement.at()}",
                Asked(statement.label, use.line),
                "give the two values two names, or write one expression",
            )

    def _check_inner_imports(self, space: Space, statement: Statement) -> None:
        for node in inner_imports(statement.node):
            asked = Asked(statement.label, node.lineno + statement.shift)
            wanted = ast.unparse(node)
            if isinstance(node, ast.ImportFrom) and node.level:
                self._relative(space, node, asked)
            modules = (
                [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            )
            if any(local(module) for module in modules):
                self.refuse(
                    f"`{wanted}`",
                    "reads a module beside the notebook when it runs",
                    asked,
                    "move the import to the top level, so that what it names is copied in",
                )

    # ── imports ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _import(
        self, space: Space, name: str, definers: list[Statement], asked: Asked
    ) -> tuple[Statement, ...]:
        statement = definers[-1]
        node = statement.node
        if isinstance(node, ast.ImportFrom):
            if node.level:
                self._relative(space, node, asked)
            module = node.module or ""
            attribute = next((a.name for a in node.names if (a.asname or a.name) == name), name)
            if local(module):
                return self._vendor(space, statement, module, attribute, name, asked)
            lines = frozenset((Import(module, attribute, name),))
        else:
            aliases = [a for s in definers if isinstance(s.node, ast.Import) for a in s.node.names]
            renamed = [a for a in aliases if a.asname == name]
            lines = (
                frozenset((Import(renamed[-1].name, "", name),))
                if renamed
                else frozenset(Import(a.name, "", "") for a in aliases if binds_root(a, name))
            )
            beside = next((line.module for line in lines if local(line.module)), None)
            if beside is not None:
                self._whole_module(space, name, beside, asked)
        self._own(name, lines, asked)
        self.imports |= lines
        self.imported[space.module, name] = lines
        return ()

    def _vendor(
        self, space: Space, statement: Statement, module: str, attribute: str, name: str, asked: Asked
    ) -> tuple[Statement, ...]:
        """``from module import attribute as name`` of a module beside the notebook: take its definition."""
        target = self.space(module)
        if not target.definers(attribute):
            submodule = f"{module}.{attribute}"
            if local(submodule):
                self._whole_module(space, name, submodule, asked)
            self.refuse(
                name,
                f"is not defined at the top level of {target.label}, where it is imported from",
                asked,
                "define it there by a plain statement",
            )
        inner = Asked(statement.label, statement.line, hint=asked.hint)
        found = self.resolve(target, attribute, inner)
        if name == attribute:
            return found
        text = f"{name} = {attribute}"
        alias = Statement(
            ast.parse(text).body[0], text, statement.label, statement.line, statement.chunk, statement.position,
            frozenset((name,)), statement.future,
        )  # fmt: skip
        self._own(name, space.module, asked)
        self.pieces[alias] = Piece(space, alias, now=set(found))
        return (alias,)

    def _whole_module(self, space: Space, name: str, module: str, asked: Asked) -> None:
        """Only definitions can be copied in, not a module as a thing with attributes."""
        used = {
            node.attr
            for piece in self.pieces.values()
            if piece.space is space
            for node in ast.walk(piece.statement.node)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == name
        }
        wanted = ", ".join(sorted(used)) or "NAME"
        self.refuse(
            name,
            f"is the module {module} beside the notebook, which other processes do not have",
            asked,
            f"write `from {module} import {wanted}` and leave out `{name}.`; or install it as a package",
        )

    def _relative(self, space: Space, node: ast.ImportFrom, asked: Asked) -> None:
        package = space.values.get("__package__") or ""
        dots = "." * node.level + (node.module or "")
        try:
            module = importlib.util.resolve_name(dots, package)
        except ImportError:
            module = node.module or "module"
        names = ", ".join(a.name for a in node.names)
        self.refuse(
            f"`from {dots} import {names}`",
            "is a relative import, and one module has no package around it",
            asked,
            f"write `from {module} import {names}`",
        )

    def _own(self, name: str, owner: object, asked: Asked) -> None:
        """One module has one meaning for a name."""
        if self._owners.setdefault(name, owner) == owner:
            return
        self.refuse(
            name,
            "means two things in what is lifted into one module",
            asked,
            "rename one of them, or import one under another name",
        )

    def _undefined(self, space: Space, name: str, asked: Asked) -> None:
        """A builtin, or a name that no source gives."""
        if asked.hint:
            return
        if name in FORBIDDEN:
            self.refuse(
                name,
                FORBIDDEN[name],
                asked,
                INSTEAD.get(name, f"write what {name} would give as plain code"),
            )
        if name in BUILTINS:
            return
        stars = [
            s
            for s in space.statements
            if isinstance(s.node, ast.ImportFrom) and s.node.names[0].name == "*" and not s.binds
        ]
        if name in space.values and not stars:
            value = space.values[name]
            file = Path(getattr(getattr(value, "__code__", None), "co_filename", ""))
            self.refuse(
                name,
                f"({type(value).__qualname__}) lives only in the kernel: no cell that ran defines it"
                if space.notebook
                else f"is put into {space.label} from outside",
                asked,
                f"write `from {file.stem} import {name}`"
                if file.suffix == ".py" and file.is_file()
                else "define it in a cell; to see what the notebook really gives, restart the kernel and run all",
            )
        if stars:
            self.refuse(
                name,
                f"may come from `{stars[-1].text}` in {stars[-1].at()}, which cannot be resolved",
                asked,
                "import it by its name",
            )
        close = nearest(name, [*(n for s in space.statements for n in s.binds)])
        self.refuse(
            name,
            "is defined nowhere",
            asked,
            f"did you mean {close!r}?" if close else "define it in a cell, or correct the name",
        )


def _assigned(node: ast.ClassDef) -> list[str]:
    """The attributes a class body assigns."""
    targets = [
        t
        for s in node.body
        if isinstance(s, ast.Assign | ast.AnnAssign)
        for t in (s.targets if isinstance(s, ast.Assign) else [s.target])
    ]
    return [t.id for t in targets if isinstance(t, ast.Name)]


def _calls_itself(statement: Statement, name: str) -> bool:
    """A lambda that is assigned to its own name and calls it: recursion, not the past."""
    return isinstance(statement.node, ast.Assign) and all(
        any(isinstance(outer, ast.Lambda) and node in ast.walk(outer) for outer in ast.walk(statement.node))
        for node in ast.walk(statement.node)
        if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)
    )

"""``alphapanda kill``: all orders stopped at once, whatever answers; and let pass again. See ``halting``."""

from __future__ import annotations

import argparse
import sys

from alphapanda.errors import ValidationError
from alphapanda.halting import CANCEL, FLATTEN, HALT, REDUCE, SEVER, Line, Tell, halt, lift, namespaces
from alphapanda.processes import person
from alphapanda.workspace import Workspace, checked

OK, FAILED = 0, 1


def kill(options: argparse.Namespace) -> int:
    """Stop all orders of a namespace, or of all; or let them pass again."""
    workspace = Workspace.find()
    if options.lift is not None:
        name = _held(workspace, options.namespace, options.lift)
        return OK if lift(workspace, name, options.lift, who(), tell=_tells(name)).ok else FAILED
    names = [checked(options.namespace)] if options.namespace else namespaces(workspace)
    level, reason, account = _level(options), options.reason, options.account
    done = [halt(workspace, name, level, reason, who(), account=account, tell=_tells(name)) for name in names]
    return OK if all(one.ok for one in done) else FAILED


def _level(options: argparse.Namespace) -> int:
    asked = {SEVER: options.sever, FLATTEN: options.flatten, HALT: options.halt, REDUCE: options.reduce}
    return next((level for level, wanted in asked.items() if wanted), CANCEL)


def _held(workspace: Workspace, namespace: str | None, reason: str) -> str:
    """The namespace whose halt is meant: the only one, unless one is named."""
    if not reason.strip():
        raise ValidationError(
            "lifting a halt needs a reason", fix='alphapanda kill paper --lift "checked the book"'
        )
    if namespace:
        return checked(namespace)
    held = sorted(flag.name for flag in workspace.halt_flag("paper").parent.iterdir() if flag.name[0] != ".")
    if len(held) != 1:
        what = f"halted: {', '.join(held)}" if held else "no namespace is halted"
        raise ValidationError(what, fix="name one: alphapanda kill paper --lift REASON")
    return held[0]


def _tells(namespace: str) -> Tell:
    """Prints what was done, line by line, behind the namespace."""

    def tell(line: Line) -> None:
        sys.stdout.write(f"{namespace}: {line.text}\n")
        sys.stdout.flush()

    return tell


def who() -> str:
    """The person at this terminal, for the audit."""
    return f"{person()} at the command line"

"""``%load_ext alphapanda``: the few words a person types between cells.

%ap status        processes and runs
%ap runs          the runs of this notebook
%ap stop [RUN]    stop one run, by its name or id, or all of this notebook
%ap halt REASON   no new orders in the namespace
"""

from __future__ import annotations

import sys
from typing import Any

from alphapanda.errors import UnknownNameError, ValidationError
from alphapanda.hub.client import HubClient
from alphapanda.notebook.connecting import latest
from alphapanda.notebook.session import Session, halt
from alphapanda.notebook.status import Overview
from alphapanda.workspace import Workspace

WORDS = ("status", "runs", "stop", "halt")
USAGE = "\n".join((__doc__ or "").strip().splitlines()[2:])


def load_ipython_extension(shell: Any) -> None:
    """Called by ``%load_ext``."""
    shell.register_magic_function(ap, "line", "ap")


def ap(line: str) -> Any:
    """%ap status | runs | stop [RUN] | halt REASON"""
    word, _, rest = line.strip().partition(" ")
    if not word:
        sys.stdout.write(USAGE + "\n")
        return None
    if word not in WORDS:
        raise UnknownNameError("word", word, WORDS)
    session = latest()
    if word == "status":
        return (
            session.status()
            if session is not None
            else Overview(HubClient(Workspace.find()).ask({"do": "status"}, 5.0))
        )
    if word == "halt" and session is None:
        return halt(Workspace.find(), "paper", rest)
    if session is None:
        raise ValidationError("this notebook is not connected", fix="session = await ap.connect()")
    if word == "halt":
        return session.halt(rest)
    if word == "runs":
        return _listed(session)
    return _stop(session, rest.strip())


def _listed(session: Session) -> None:
    sys.stdout.write(f"{session!r}\n")


def _stop(session: Session, name: str) -> None:
    if not name:
        session.sync.stop()
        return
    named = [run for run in session.runs if name in (run.id, run.name) and not run.view.ended]
    if not named:
        raise UnknownNameError("run", name, [run.id for run in session.runs])
    for run in named:
        run.sync.stop()

"""``alphapanda pause RUN`` and ``alphapanda resume RUN``: one run opens nothing, until a person lets it."""

from __future__ import annotations

import argparse

from alphapanda import pausing
from alphapanda.commands.kill_switch import who
from alphapanda.console import open_console, say
from alphapanda.workspace import Workspace


def pause(options: argparse.Namespace) -> int:
    """Nothing of the run opens a position any more; what closes one goes on."""
    run = pausing.pause(Workspace.find(), options.run, options.why or "by hand", who())
    say(open_console(), f"{run} is paused: only what shrinks its positions passes; `alphapanda resume {run}`")
    return 0


def resume(options: argparse.Namespace) -> int:
    """The run may open positions again."""
    run = pausing.resume(Workspace.find(), options.run, options.why or "by hand", who())
    say(open_console(), f"{run} may open positions again")
    return 0

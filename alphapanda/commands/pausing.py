"""``alphapanda pause RUN`` and ``alphapanda resume RUN``: one run opens nothing, until a person lets it.

They speak to the run's gateway, not to the hub, and say what the gateway has done: no answer in time is a failure.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from alphapanda.clock import wall_ns
from alphapanda.commands.kill_switch import who
from alphapanda.console import open_console, say
from alphapanda.errors import InfrastructureError, UnknownNameError, ValidationError
from alphapanda.workspace import RunSpec, Workspace

CONFIRM_SECONDS = 5.0  # the gateway shows four times a second how its runs do


def pause(options: argparse.Namespace) -> int:
    """Nothing of the run opens a position any more; what closes one goes on."""
    run = _told(options, "operator.pause", options.why or "by hand", ("paused", "halted", "stopped"))
    say(open_console(), f"{run} is paused: only what shrinks its positions passes; `alphapanda resume {run}`")
    return 0


def resume(options: argparse.Namespace) -> int:
    """The run may open positions again."""
    run = _told(options, "operator.unpause", options.why or "by hand", ("running",))
    say(open_console(), f"{run} may open positions again")
    return 0


def _told(
    options: argparse.Namespace,
    command: Literal["operator.pause", "operator.unpause"],
    why: str,
    states: tuple[str, ...],
) -> str:
    """Tell the run's gateway and wait until it shows one of the states; returns the run's id."""
    workspace = Workspace.find()
    spec = _named(workspace, options.run)
    shown, reason = asyncio.run(_confirmed(workspace, spec, command, why, states))
    if shown not in states:
        stands = f"{shown or 'not known'}{f' ({reason})' if reason else ''}"
        raise InfrastructureError(
            f"{spec.run} is {stands} at its gateway, {CONFIRM_SECONDS:g} s after it was told",
            fix=f"see `alphapanda status`; at once and without it: `alphapanda kill {spec.namespace}`",
            code="E_UNCONFIRMED",
        )
    return spec.run


def _named(workspace: Workspace, name: str) -> RunSpec:
    """The run of this id, else the only one of this strategy that has not ended."""
    specs = {spec.run: spec for spec in _specs(workspace)}
    if name in specs:
        return specs[name]
    found = [spec for spec in specs.values() if spec.name == name and spec.wanted]
    if len(found) > 1:
        raise ValidationError(
            f"{len(found)} runs of {name}: {', '.join(spec.run for spec in found)}", fix="name one of them"
        )
    if not found:
        raise UnknownNameError("run", name, specs)
    return found[0]


def _specs(workspace: Workspace) -> Iterator[RunSpec]:
    for folder in sorted(workspace.runs.iterdir()):
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            yield RunSpec.read(folder)


async def _confirmed(
    workspace: Workspace, spec: RunSpec, command: Any, why: str, states: tuple[str, ...]
) -> tuple[str, str]:
    """The run's state as its gateway shows it after the command, and why it is so; the last one seen if that is none of
    ``states``."""
    from alphapanda.hub.pulse import document, send_command
    from alphapanda.server import address
    from alphapanda.settings import Settings
    from alphapanda.state.client import open_client, told

    settings, since, state, reason = Settings.load(), wall_ns(), "", ""
    client = open_client(address(workspace, settings), settings.redis)
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CONFIRM_SECONDS):
                await send_command(client, spec.namespace, command, spec.run, why, who())
                while state not in states:
                    await asyncio.sleep(0.05)
                    with told("document", spec.run, spec.namespace):
                        seen = document(await client.get(f"{spec.namespace}:run:{spec.run}") or b"{}")
                    if seen.get("updated", 0) > since:
                        state, reason = str(seen["state"]), str(seen["reason"])
        return state, reason
    finally:
        with contextlib.suppress(Exception):
            await client.aclose()

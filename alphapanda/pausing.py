"""One run opens nothing, until a person lets it: told to its gateway, not to the hub, and confirmed by what that shows.

pause(workspace, "openingrange-3", "odd fills")
resume(workspace, "openingrange-3", "looked at")
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from alphapanda.clock import wall_ns
from alphapanda.errors import InfrastructureError, UnknownNameError, ValidationError
from alphapanda.processes import person
from alphapanda.workspace import RunSpec, Workspace

CONFIRM_SECONDS = 5.0  # the gateway shows four times a second how its runs do


def pause(workspace: Workspace, name: str, why: str, by: str = "") -> str:
    """Nothing of the run opens a position any more; what closes one goes on. Returns the run's id. InfrastructureError
    (E_UNCONFIRMED) if its gateway does not say so in time. ``by`` is who says so, for the audit."""
    return _told(workspace, name, "operator.pause", why, by, ("paused", "halted", "stopped"))


def resume(workspace: Workspace, name: str, why: str, by: str = "") -> str:
    """The run may open positions again. Raises as ``pause``."""
    return _told(workspace, name, "operator.unpause", why, by, ("running",))


def _told(
    workspace: Workspace,
    name: str,
    command: Literal["operator.pause", "operator.unpause"],
    why: str,
    by: str,
    states: tuple[str, ...],
) -> str:
    """Tell the run's gateway and wait until it shows one of the states; returns the run's id."""
    spec = _named(workspace, name)
    shown, reason = asyncio.run(_confirmed(workspace, spec, command, why, by or person(), states))
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
    workspace: Workspace, spec: RunSpec, command: Any, why: str, by: str, states: tuple[str, ...]
) -> tuple[str, str]:
    """The run's state as its gateway shows it after the command, and why it is so; the last one seen if that is none of
    ``states``."""
    from alphapanda.hub.pulse import document, send_command
    from alphapanda.seal import Seal
    from alphapanda.server import address
    from alphapanda.settings import Settings
    from alphapanda.state.client import open_client, told

    settings, since, state, reason = Settings.load(), wall_ns(), "", ""
    client = open_client(address(workspace, settings), settings.redis)
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CONFIRM_SECONDS):
                await send_command(client, Seal.of(workspace), spec.namespace, command, spec.run, why, by)
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

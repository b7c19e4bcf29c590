"""``alphapanda kill``: all orders stopped at once, whatever answers; and let pass again.

It needs nobody: it writes the halt flag before it imports or asks anything, then sees to it that the gateway has taken
notice, or has no process any more. It says what it did, not what it hopes for.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from alphapanda.clock import wait_until, wall_ns
from alphapanda.errors import AlphaPandaException, InfrastructureError, RedisError, ValidationError
from alphapanda.processes import children, hub_process
from alphapanda.workspace import Workspace, checked, replace_file

OK, FAILED = 0, 1
CONFIRM_SECONDS = 2.0  # the gateway has so long to say that it has halted
CANCEL, FLATTEN = 3, 4  # levels of a halt: own entries are cancelled; positions are closed too


def kill(options: argparse.Namespace) -> int:
    """Stop all orders of a namespace, or of all; or let them pass again."""
    workspace = Workspace.find()
    if options.lift is not None:
        return _lift(workspace, options.namespace, options.lift)
    names = [checked(options.namespace)] if options.namespace else _namespaces(workspace)
    reason = options.reason or "by hand"
    return max([_halt(workspace, name, reason, flatten=options.flatten) for name in names])


def _namespaces(workspace: Workspace) -> list[str]:
    """All that ever traded here."""
    known = {one.role.partition(":")[2] for one in children(workspace) if one.role.startswith("gateway:")}
    known |= {path.stem for path in (workspace.home / "journal").glob("*.sqlite")}
    return sorted(known | {"paper"})


def _halt(workspace: Workspace, namespace: str, reason: str, *, flatten: bool) -> int:
    import asyncio

    said = _Said(namespace)
    level = FLATTEN if flatten else CANCEL
    began = wall_ns()
    flag = msgspec.json.encode({"level": level, "reason": reason, "by": _who(), "at": began})
    flagged = True
    try:
        replace_file(workspace.halt_flag(namespace), flag)
        said("halt flag written: no gateway takes an order while it is there")
    except (OSError, InfrastructureError) as error:
        flagged = False
        said(f"the halt flag could not be written ({error})", bad=True)
    commands = ["operator.halt", *(["operator.flatten"] if flatten else [])]
    try:
        confirmed = asyncio.run(
            _confirmed(workspace, namespace, commands, f"kill switch: {reason}", True, began)
        )
        why = f"the gateway did not confirm within {CONFIRM_SECONDS:g} s"
    except AlphaPandaException as error:
        confirmed, why = "", f"the gateway cannot be asked ({error.message})"
    if confirmed:
        said(f"the gateway has halted, after {(wall_ns() - began) / 1e9:.1f} s: {confirmed}")
        return OK if flagged else FAILED
    said(why, bad=True)
    roles = (
        (f"gateway:{namespace}",) if flagged else ("hub", f"gateway:{namespace}")
    )  # a hub would start another
    ended = True
    for role in roles:
        ended &= _end(workspace, role, said)
    if ended:
        said("nothing can be sent now; orders that work at a venue are cancelled when its gateway runs again")
    said(f"let orders pass again: alphapanda kill {namespace} --lift REASON")
    return OK if ended and flagged else FAILED


def _end(workspace: Workspace, role: str, said: _Said) -> bool:
    """Kill the recorded process of a role; whether none is left."""
    hub = hub_process(workspace)
    found = [one for one in [*children(workspace), *([hub] if hub else [])] if one.role == role and one.alive]
    for one in found:
        one.signal(signal.SIGKILL)
        gone = wait_until(lambda one=one: not one.alive, 1.0)
        text = f"killed {role}, process {one.pid}" if gone else f"{role}, process {one.pid}, cannot be killed"
        said(text, bad=not gone)
    if not found:
        said(f"no process of {role} runs")
    return not any(one.alive for one in found)


async def _confirmed(
    workspace: Workspace, namespace: str, commands: list[Any], reason: str, halted: bool, since: int
) -> str:
    """What the gateway's heartbeat says once it has (or has no longer) halted; empty if it does not in time."""
    import asyncio

    from alphapanda.hub.pulse import document, send_command
    from alphapanda.server import address
    from alphapanda.settings import Settings
    from alphapanda.state.client import open_client

    settings = Settings.load()
    client = open_client(address(workspace, settings), settings.redis)
    try:
        async with asyncio.timeout(CONFIRM_SECONDS):
            for command in commands:
                await send_command(client, namespace, command, "", reason, _who())
            while True:
                body = await client.get(f"health:gateway:{namespace}")
                seen = document(body) if body else {}
                if seen.get("at", 0) > since and (seen.get("state") == "halted") is halted:
                    return str(seen.get("detail") or seen.get("state"))
                await asyncio.sleep(0.05)
    except TimeoutError:
        return ""
    except RedisError:
        raise
    except Exception as error:  # whatever a broken server makes the client raise, the gateway is ended
        raise InfrastructureError(f"{type(error).__name__}: {error}") from error
    finally:
        with contextlib.suppress(Exception):
            await client.aclose()


def _lift(workspace: Workspace, namespace: str | None, reason: str) -> int:
    import asyncio

    if not reason.strip():
        raise ValidationError(
            "lifting a halt needs a reason", fix='alphapanda kill paper --lift "checked the book"'
        )
    held = sorted(flag.name for flag in workspace.halt_flag("paper").parent.iterdir() if flag.name[0] != ".")
    if namespace is None and len(held) != 1:
        what = f"halted: {', '.join(held)}" if held else "no namespace is halted"
        raise ValidationError(what, fix="name one: alphapanda kill paper --lift REASON")
    name, began = checked(namespace) if namespace else held[0], wall_ns()
    said = _Said(name)
    was = {}
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        was = msgspec.json.decode(workspace.halt_flag(name).read_bytes(), type=dict[str, Any])
    workspace.halt_flag(name).unlink(missing_ok=True)
    said(f"halt flag removed; it was there for: {was.get('reason', 'no flag was there')}")
    _audit(workspace, name, reason, was)
    try:
        confirmed = asyncio.run(_confirmed(workspace, name, ["operator.resume"], reason, False, began))
    except AlphaPandaException as error:
        said(f"its gateway cannot be asked ({error.message}); it takes orders when it runs", bad=True)
        return OK if not _gateway_runs(workspace, name) else FAILED
    if confirmed:
        said("the gateway takes orders again")
        return OK
    said("its gateway did not confirm: see `alphapanda status`", bad=True)
    return FAILED


def _gateway_runs(workspace: Workspace, namespace: str) -> bool:
    return any(one.role == f"gateway:{namespace}" for one in children(workspace))


def _audit(workspace: Workspace, namespace: str, reason: str, was: Mapping[str, Any]) -> None:
    """Who let orders pass again, and why, for good."""
    from alphapanda import logs as channels
    from alphapanda.settings import Settings

    with contextlib.suppress(AlphaPandaException):
        channels.configure(workspace, Settings.load(), "operator", namespace)
        channels.channel("audit").warning("halt.lifted", reason=reason, by=_who(), was=dict(was))
        channels.close()


class _Said:
    """What was done, line by line, behind the namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def __call__(self, text: str, *, bad: bool = False) -> None:
        sys.stdout.write(f"{self.namespace}: {text}\n")
        sys.stdout.flush()


def _who() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = str(os.getuid())
    return f"{name} at the command line"

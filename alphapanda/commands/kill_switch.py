"""``alphapanda kill``: all orders stopped at once, whatever answers; and let pass again.

It needs nobody: it writes the halt flag before it imports or asks anything, then sees to it that the gateway has taken
notice, or has no process any more. It says what it did, not what it hopes for.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from alphapanda.clock import monotonic, pause, wait_until, wall_ns
from alphapanda.errors import AlphaPandaException, InfrastructureError, RedisError, ValidationError
from alphapanda.processes import children, hub_process, person
from alphapanda.workspace import Workspace, checked

OK, FAILED = 0, 1
CONFIRM_SECONDS = 2.0  # the gateway has so long to say that it has halted
CLOSE_SECONDS, CLOSE_AGAIN = 10.0, 1.0  # and so long to close positions; between two looks at the broker's
# levels: only what reduces; nothing new; own entries are cancelled; positions closed too; logged out too
REDUCE, HALT, CANCEL, FLATTEN, SEVER = 1, 2, 3, 4, 5


def kill(options: argparse.Namespace) -> int:
    """Stop all orders of a namespace, or of all; or let them pass again."""
    workspace = Workspace.find()
    if options.lift is not None:
        return _lift(workspace, options.namespace, options.lift)
    names = [checked(options.namespace)] if options.namespace else _namespaces(workspace)
    reason = options.reason or "by hand"
    return max([_halt(workspace, name, reason, options) for name in names])


def _namespaces(workspace: Workspace) -> list[str]:
    """All that ever traded here."""
    known = {one.role.partition(":")[2] for one in children(workspace) if one.role.startswith("gateway:")}
    known |= {path.stem for path in (workspace.home / "journal").glob("*.sqlite")}
    return sorted(known | {"paper"})


def _halt(workspace: Workspace, namespace: str, reason: str, options: argparse.Namespace) -> int:
    import asyncio

    said = _Said(namespace)
    flatten = options.flatten and _named(namespace, options.account, said)
    level = _level(options, flatten)
    began = wall_ns()
    flagged = True
    try:
        level = workspace.raise_halt(namespace, level, reason, who(), began)
        what = "a new position" if level == REDUCE else "an order"
        said(f"halt flag written: no gateway takes {what} while it is there")
    except (OSError, InfrastructureError) as error:
        flagged = False
        said(f"the halt flag could not be written ({error})", bad=True)
    commands = [*(["operator.halt"] if level > REDUCE else []), *(["operator.flatten"] if flatten else [])]
    states = ("reducing", "halted") if level == REDUCE else ("halted",)
    try:
        confirmed = asyncio.run(
            _confirmed(workspace, namespace, commands, f"kill switch: {reason}", states, began)
        )
        why = f"the gateway did not confirm within {CONFIRM_SECONDS:g} s"
    except AlphaPandaException as error:
        confirmed, why = "", f"the gateway cannot be asked ({error.message})"
    refused = options.flatten and not flatten
    if confirmed:
        what = "only reduces" if level == REDUCE else "has halted"
        said(f"the gateway {what}, after {(wall_ns() - began) / 1e9:.1f} s: {confirmed}")
        stopped = level < CANCEL or _orders_stopped(namespace, said, options.sever)
        stopped &= not flatten or _positions_closed(namespace, said, CLOSE_SECONDS)
        return OK if flagged and stopped and not refused else FAILED
    said(why, bad=True)
    roles = (
        (f"gateway:{namespace}",) if flagged else ("hub", f"gateway:{namespace}")
    )  # a hub would start another
    ended = True
    for role in roles:
        ended &= _end(workspace, role, said)
    if ended:
        said("nothing can be sent now")
    if namespace not in (known := _namespaces(workspace)):
        said(f"nothing of that name ever traded here; what did: {', '.join(known)}", bad=True)
    ended &= _orders_stopped(namespace, said, options.sever)
    ended &= not flatten or _positions_closed(namespace, said, 0.0)
    said(f"let orders pass again: alphapanda kill {namespace} --lift REASON")
    return OK if ended and flagged and not refused else FAILED


def _level(options: argparse.Namespace, flatten: bool) -> int:
    if options.sever or options.flatten:
        return SEVER if options.sever else FLATTEN if flatten else CANCEL
    return REDUCE if options.reduce else HALT if options.halt else CANCEL


def _named(namespace: str, account: str | None, said: _Said) -> bool:
    """Closing positions with real money takes the account's id, typed."""
    if _practice(namespace):
        return True
    from alphapanda.settings import Settings

    try:
        known = Settings.load().zerodha.user_id
    except AlphaPandaException as error:
        said(f"the settings cannot be read ({error.message})", bad=True)
        known = None
    if known and account == known:
        return True
    said(
        "positions are NOT closed: --flatten needs --account with the account's id"
        + ("" if known else ", and ZERODHA__USER_ID must be set")
        + "; everything else of the kill switch is done",
        bad=True,
    )
    return False


def _practice(namespace: str) -> bool:
    return namespace.partition("-")[0] == "paper"


def _orders_stopped(namespace: str, said: _Said, sever: bool) -> bool:
    """Whether nothing of ours works at the venue any more: looked up with a client of our own."""
    if _practice(namespace):
        return True  # its venue is the gateway itself
    from alphapanda.settings import Settings
    from alphapanda.traders.factory import trader_class

    try:
        return trader_class(namespace).stop_orders(Settings.load(), said, sever=sever)
    except AlphaPandaException as error:
        said(f"orders at the venue: {error.message}; {error.fix}", bad=True)
        return False


def _positions_closed(namespace: str, said: _Said, seconds: float) -> bool:
    """Whether none of our positions is left at the venue, looked up with a client of our own. The gateway closes them,
    and has so long; with no gateway nobody does."""
    if _practice(namespace):
        return True
    from alphapanda.settings import Settings
    from alphapanda.traders.factory import trader_class

    settings, kind, until = Settings.load(), trader_class(namespace), monotonic() + seconds
    while True:
        try:
            left = [row for row in kind.positions(settings) if row.ours]
            told = ", ".join(f"{row.symbol} {row.product} {row.ours:+,}" for row in left)
            if not left:
                said("no position of ours is open")
                return True
        except AlphaPandaException as error:
            told = f"not known, for {error.message}"
        if monotonic() >= until:
            break
        pause(CLOSE_AGAIN)
    said(f"positions still open: {told}; close them in the broker's own app", bad=True)
    return False


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
    workspace: Workspace,
    namespace: str,
    commands: list[Any],
    reason: str,
    states: Collection[str],
    since: int,
) -> str:
    """What the gateway's heartbeat says once it is in one of these states; empty if it is not in time."""
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
                await send_command(client, namespace, command, "", reason, who())
            while True:
                body = await client.get(f"health:gateway:{namespace}")
                seen = document(body) if body else {}
                if seen.get("at", 0) > since and seen.get("state") in states:
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
        confirmed = asyncio.run(_confirmed(workspace, name, ["operator.resume"], reason, ("serving",), began))
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
        channels.channel("audit").warning("halt.lifted", reason=reason, by=who(), was=dict(was))
        channels.close()


class _Said:
    """What was done, line by line, behind the namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def __call__(self, text: str, *, bad: bool = False) -> None:
        sys.stdout.write(f"{self.namespace}: {text}\n")
        sys.stdout.flush()


def who() -> str:
    """The person at this terminal, for the audit."""
    return f"{person()} at the command line"

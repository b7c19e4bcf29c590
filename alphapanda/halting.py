"""All orders of a namespace stopped at once, whatever answers; and let pass again.

    done = halt(workspace, "paper", CANCEL, "odd fills", "asha")
    done.ok, done.lines                  # what was done, not what is hoped for

It needs nobody: it writes the halt flag before it imports or asks anything, then sees to it that the gateway has taken
notice, or has no process any more. Blocking: a coroutine calls it in a thread. Whether somebody may do this is the
caller's to know; who did it is written to the audit channel here.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Collection
from typing import Any

import msgspec

from alphapanda.clock import monotonic, pause, wait_until, wall_ns
from alphapanda.errors import AlphaPandaException, InfrastructureError, RedisError, ValidationError
from alphapanda.processes import children, hub_process
from alphapanda.workspace import Workspace, checked

CONFIRM_SECONDS = 2.0  # the gateway has so long to say that it has halted
CLOSE_SECONDS, CLOSE_AGAIN = 10.0, 1.0  # and so long to close positions; between two looks at the broker's
# levels: only what reduces; nothing new; own entries are cancelled; positions closed too; logged out too
REDUCE, HALT, CANCEL, FLATTEN, SEVER = 1, 2, 3, 4, 5
REASON_MAX = 500  # characters


class Line(msgspec.Struct, frozen=True):
    """One thing that was done, or, if ``bad``, could not be."""

    text: str
    bad: bool = False


class Done(msgspec.Struct, frozen=True):
    """What halting or lifting came to. ``ok``: everything asked for was done and seen to be. ``level``: what stands."""

    namespace: str
    ok: bool
    level: int
    lines: tuple[Line, ...]


Tell = Callable[[Line], None]


class _Said:
    """Collects what was done, and tells it at once to whoever waits."""

    def __init__(self, tell: Tell | None) -> None:
        self.lines: list[Line] = []
        self._tell = tell

    def __call__(self, text: str, *, bad: bool = False) -> None:
        self.lines.append(Line(text, bad))
        if self._tell is not None:
            self._tell(self.lines[-1])


# ── halting


def halt(
    workspace: Workspace,
    namespace: str,
    level: int,
    reason: str,
    by: str,
    *,
    account: str | None = None,
    tell: Tell | None = None,
) -> Done:
    """Stop a namespace's orders to ``level`` (REDUCE to SEVER). Where money is, closing positions takes the
    ``account``'s id: without it everything below is done and that is not. ``tell`` hears each line as it is done.

    ValidationError for a namespace or level that cannot be; nothing else is raised.
    """
    checked(namespace)
    if not REDUCE <= level <= SEVER:
        raise ValidationError(
            f"level {level}", fix="1 only reduces, 2 halts, 3 cancels, 4 flattens, 5 severs"
        )
    said, reason = _Said(tell), reason[:REASON_MAX] or "by hand"
    asked, flatten = level, level == FLATTEN and _named(namespace, account, said)
    level = CANCEL if asked == FLATTEN and not flatten else asked
    began, flagged = wall_ns(), True
    try:
        level = workspace.raise_halt(namespace, level, reason, by, began)
        what = "a new position" if level == REDUCE else "an order"
        said(f"halt flag written: no gateway takes {what} while it is there")
    except (OSError, InfrastructureError) as error:
        flagged = False
        said(f"the halt flag could not be written ({error})", bad=True)
    facts = {"level": level, "asked": asked, "reason": reason, "by": by}
    _audit(workspace, "halt.raised", namespace=namespace, **facts)
    work = _Work(workspace, namespace, level, reason, by, began, flagged, flatten, asked == SEVER)
    good = work.carried_out(said)
    return Done(namespace, good and flagged and (asked != FLATTEN or flatten), level, tuple(said.lines))


class _Work(msgspec.Struct, frozen=True):
    """What is left to do once the flag is written, or, unless ``flagged``, could not be."""

    workspace: Workspace
    namespace: str
    level: int
    reason: str
    by: str
    began: int
    flagged: bool
    flatten: bool
    sever: bool

    def carried_out(self, said: _Said) -> bool:
        """See to it that the gateway has halted or has no process, and that the venue has nothing of ours."""
        why = self._heard(said)
        if not why:
            stopped = self.level < CANCEL or _orders_stopped(self.namespace, said, self.sever)
            return stopped & (not self.flatten or _positions_closed(self.namespace, said, CLOSE_SECONDS))
        said(why, bad=True)
        gateway = f"gateway:{self.namespace}"
        ended = True
        for role in (gateway,) if self.flagged else ("hub", gateway):  # a hub would start another
            ended &= _end(self.workspace, role, said)
        if ended:
            said("nothing can be sent now")
        if self.namespace not in (known := namespaces(self.workspace)):
            said(f"nothing of that name ever traded here; what did: {', '.join(known)}", bad=True)
        ended &= _orders_stopped(self.namespace, said, self.sever)
        ended &= not self.flatten or _positions_closed(self.namespace, said, 0.0)
        said(f"let orders pass again: alphapanda kill {self.namespace} --lift REASON")
        return ended

    def _heard(self, said: _Said) -> str:
        """Why the gateway has not confirmed; empty if it has."""
        import asyncio

        reduce = self.level == REDUCE
        commands = [*([] if reduce else ["operator.halt"]), *(["operator.flatten"] if self.flatten else [])]
        states = ("reducing", "halted") if reduce else ("halted",)
        told = f"kill switch: {self.reason}"
        try:
            confirmed = asyncio.run(
                _confirmed(self.workspace, self.namespace, commands, told, self.by, states, self.began)
            )
        except AlphaPandaException as error:
            return f"the gateway cannot be asked ({error.message})"
        if not confirmed:
            return f"the gateway did not confirm within {CONFIRM_SECONDS:g} s"
        what = "only reduces" if reduce else "has halted"
        said(f"the gateway {what}, after {(wall_ns() - self.began) / 1e9:.1f} s: {confirmed}")
        return ""


def namespaces(workspace: Workspace) -> list[str]:
    """All that ever traded here."""
    known = {one.role.partition(":")[2] for one in children(workspace) if one.role.startswith("gateway:")}
    known |= {path.stem for path in (workspace.home / "journal").glob("*.sqlite")}
    return sorted(known | {"paper"})


def practice(namespace: str) -> bool:
    """Whether no money can be behind it."""
    return namespace.partition("-")[0] == "paper"


def account_id() -> str | None:
    """What a person types to show which account is meant; None if no setting says. Raises as ``Settings.load``."""
    from alphapanda.settings import Settings

    return Settings.load().zerodha.user_id


def _named(namespace: str, account: str | None, said: _Said) -> bool:
    """Closing positions with real money takes the account's id, typed."""
    if practice(namespace):
        return True
    try:
        known = account_id()
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


def _orders_stopped(namespace: str, said: _Said, sever: bool) -> bool:
    """Whether nothing of ours works at the venue any more: looked up with a client of our own."""
    if practice(namespace):
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
    if practice(namespace):
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
    by: str,
    states: Collection[str],
    since: int,
) -> str:
    """What the gateway's heartbeat says once it is in one of these states; empty if it is not in time."""
    import asyncio

    from alphapanda.hub.pulse import document, send_command
    from alphapanda.seal import Seal
    from alphapanda.server import address
    from alphapanda.settings import Settings
    from alphapanda.state.client import open_client

    settings = Settings.load()
    client = open_client(address(workspace, settings), settings.redis)
    try:
        async with asyncio.timeout(CONFIRM_SECONDS):
            for command in commands:
                await send_command(client, Seal.of(workspace), namespace, command, "", reason, by)
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


# ── lifting


def lift(workspace: Workspace, namespace: str, reason: str, by: str, *, tell: Tell | None = None) -> Done:
    """Let a namespace's orders pass again. ``ok``: its gateway says so, or none runs. ValidationError without a reason;
    OSError if the flag cannot be removed."""
    import asyncio

    name, reason, began, said = checked(namespace), reason.strip()[:REASON_MAX], wall_ns(), _Said(tell)
    if not reason:
        raise ValidationError(
            "lifting a halt needs a reason", fix='alphapanda kill paper --lift "checked the book"'
        )
    was: dict[str, Any] = {}
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        was = msgspec.json.decode(workspace.halt_flag(name).read_bytes(), type=dict[str, Any])
    workspace.halt_flag(name).unlink(missing_ok=True)
    said(f"halt flag removed; it was there for: {was.get('reason', 'no flag was there')}")
    _audit(workspace, "halt.lifted", namespace=name, reason=reason, by=by, was=was)
    try:
        confirmed = asyncio.run(
            _confirmed(workspace, name, ["operator.resume"], reason, by, ("serving", "blocked"), began)
        )
    except AlphaPandaException as error:
        said(f"its gateway cannot be asked ({error.message}); it takes orders when it runs", bad=True)
        runs = any(one.role == f"gateway:{name}" for one in children(workspace))
        return Done(name, not runs, 0, tuple(said.lines))
    if confirmed:
        said("the gateway takes orders again")
    else:
        said("its gateway did not confirm: see `alphapanda status`", bad=True)
    return Done(name, bool(confirmed), 0, tuple(said.lines))


def _audit(workspace: Workspace, event: str, **facts: Any) -> None:
    """Who stopped orders or let them pass again, and why; imported only once the flag is written."""
    from alphapanda import logs

    logs.audited(workspace, event, **facts)

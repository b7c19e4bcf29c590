"""Commands that run and stop things: ``alphapanda up``, ``status``, ``stop``, ``logs`` and ``kill``.

Rules. ``kill`` needs nobody: it writes the halt flag before it imports or asks anything, then sees to it that the
gateway has taken notice, or has no process any more. Each command says what it did, not what it hopes for.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from alphapanda.clock import monotonic, pause, wall_ns
from alphapanda.errors import AlphaPandaException, InfrastructureError, RedisError, ValidationError
from alphapanda.hub_client import HubClient, children, end_processes, ensure_hub, hub_process
from alphapanda.workspace import Workspace, checked, replace_file

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

OK, FAILED = 0, 1
CHANNELS = ("audit", "performance", "trading", "error", "application")
CONFIRM_SECONDS = 2.0  # the gateway has so long to say that it has halted
DOWN_SECONDS = 6.0  # the hub ends within five
CANCEL, FLATTEN = 3, 4  # levels of a halt: own entries are cancelled; positions are closed too

Facts = Mapping[str, Any]
Add = Callable[..., argparse.ArgumentParser]


def add_commands(add: Add) -> None:
    """Their arguments; ``add`` makes the parser of one command."""
    one = add("up", help="start the hub of this folder, and watch it")
    one.add_argument("--detach", action="store_true", help="leave it running and come back at once")
    one.add_argument("--quiet", action="store_true", help="show nothing while it runs")
    two = add("status", help="what runs here, and how it does")
    two.add_argument("--json", action="store_true", help="print JSON")
    two.add_argument("--watch", action="store_true", help="keep it up to date")
    three = add("stop", help="end a run, or everything")
    three.add_argument(
        "run", nargs="?", metavar="RUN", help="a run's id, or its strategy; none: everything, the hub too"
    )
    three.add_argument("--flatten", action="store_true", help="close positions first")
    four = add("logs", help="what the processes wrote")
    four.add_argument(
        "channel", nargs="?", choices=CHANNELS, metavar="CHANNEL", help=f"one of {', '.join(CHANNELS)}"
    )
    four.add_argument("-f", "--follow", action="store_true", help="go on with what comes")
    four.add_argument("-n", type=int, default=40, metavar="N", help="so many of the last lines (40)")
    four.add_argument("--run", metavar="RUN", help="only lines of this run")
    five = add("kill", help="stop all orders at once, whatever answers")
    five.add_argument("namespace", nargs="?", metavar="NAMESPACE", help="none: all there are")
    five.add_argument("--flatten", action="store_true", help="close positions too")
    five.add_argument("--reason", default="", metavar="TEXT", help="why, for the audit")
    five.add_argument("--lift", metavar="REASON", help="let orders pass again, because")


# ── up, status, stop ─────────────────────────────────────────────────────────────────────────────────────────────


def up(options: argparse.Namespace) -> int:
    """Start the hub; in the foreground Ctrl-C ends it and all it runs."""
    workspace, console = Workspace.find(), _console()
    with contextlib.suppress(InfrastructureError):
        pong = HubClient(workspace).ask({"do": "ping"}, 2.0)
        return _runs_already(console, workspace, pong)

    def show(text: str) -> None:
        if not options.quiet:
            _say(console, f"  {text}", "bright_black")

    began = monotonic()
    client = ensure_hub(workspace, show)
    pong = client.ask({"do": "ping"})
    if not client.started:
        return _runs_already(console, workspace, pong)
    if not options.quiet:
        _say(
            console,
            f"the hub of {workspace.root} is ready, process {pong['pid']}, after {monotonic() - began:.1f} s",
        )
        how = "alphapanda stop" if options.detach else "Ctrl-C"
        _say(console, f"  {how} ends it and all it runs; `alphapanda status` shows it", "bright_black")
    return OK if options.detach else _stay(client, console, options.quiet)


def _runs_already(console: Console, workspace: Workspace, pong: Facts) -> int:
    since = _ago(wall_ns() - pong["since"])
    _say(
        console,
        f"the hub of {workspace.root} runs already: process {pong['pid']}, {pong['state']}, up {since}",
    )
    for trouble in pong["troubles"]:
        _say(console, f"  {trouble}", "yellow")
    return OK if pong["state"] in ("ready", "starting") else FAILED


def _stay(client: HubClient, console: Console, quiet: bool) -> int:
    """Show the hub until somebody ends it."""
    process = hub_process(client.workspace)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        for _ in _shown(client, console, live=not quiet and console.is_terminal):
            if process is None or not process.alive:
                _say(console, f"the hub has ended; why: {client.workspace.logs / 'hub.log'}", "bold red")
                return FAILED
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # we are about to do what is asked
        return _down(client.workspace, console, flatten=False)
    return OK


def _shown(client: HubClient, console: Console, *, live: bool) -> Iterator[None]:
    """Keep the picture up to date, twice a second."""
    from rich.live import Live
    from rich.text import Text

    shown = (
        Live(Text(), console=console, auto_refresh=False, transient=True)
        if live
        else contextlib.nullcontext()
    )
    with shown as at:
        while True:
            if at is not None:
                with contextlib.suppress(InfrastructureError):
                    at.update(picture(client.ask({"do": "status"}, 2.0), wall_ns()), refresh=True)
            yield
            pause(0.5)


def status(options: argparse.Namespace) -> int:
    """One screen; exit code 1 if no hub answers, something failed, or a namespace or run is halted."""
    workspace, console = Workspace.find(), _console()
    client = HubClient(workspace)
    try:
        found = client.ask({"do": "status"}, 5.0)
    except InfrastructureError as error:
        if options.json:
            left = msgspec.to_builtins(children(workspace))
            sys.stdout.write(
                _json(
                    {"hub": None, "error": error.message, "workspace": str(workspace.root), "children": left}
                )
            )
            return FAILED
        for one in children(workspace):
            _say(console, f"{one.role}, process {one.pid}, is still there", "yellow")
        raise
    if options.json:
        sys.stdout.write(_json(found))
    elif options.watch:
        with contextlib.suppress(KeyboardInterrupt):
            for _ in _shown(client, console, live=True):
                found = client.ask({"do": "status"}, 5.0)
    else:
        _print(console, picture(found, wall_ns()))
    ill = any(
        run["state"] in ("failed", "halted") or run["document"].get("state") == "halted"
        for run in found["runs"]
    )
    return FAILED if ill or found["halts"] or found["hub"]["troubles"] else OK


def stop(options: argparse.Namespace) -> int:
    """End one run, or everything."""
    workspace, console = Workspace.find(), _console()
    if options.run is None:
        return _down(workspace, console, flatten=options.flatten)
    question = {"do": "stop", "run": options.run, "flatten": options.flatten}
    done = HubClient(workspace).ask(question, 20.0)
    _say(console, f"{done['run']} {done['state']}{done['reason'] and ': '}{done['reason']}")
    return OK


def _down(workspace: Workspace, console: Console, *, flatten: bool) -> int:
    """End the hub and all it runs, whether it answers or not."""
    began, process, left = monotonic(), hub_process(workspace), children(workspace)
    how = "stopped"
    try:
        pid = HubClient(workspace).ask({"do": "shutdown", "flatten": flatten}, 20.0 if flatten else 3.0)[
            "pid"
        ]
        _wait(lambda: process is None or process.pid != pid or not process.alive, DOWN_SECONDS)
    except InfrastructureError as error:
        how = "killed, since it did not answer" if error.code == "E_HUB_SILENT" else "not there"
    if process is not None and process.signal(signal.SIGKILL):
        how = how if how != "stopped" else "killed, since it did not end in time"
        _wait(lambda: not any(one.alive for one in left), 1.0)  # they see that it is gone, and go
    for one in end_processes(left, 2.0):
        _say(console, f"ended {one.role}, process {one.pid}, which was left behind")
    if how == "not there":
        _say(console, f"no hub runs in {workspace.root}")
    else:
        _say(console, f"the hub and all it ran: {how}, after {monotonic() - began:.1f} s")
    return OK if "killed" not in how else FAILED


def _wait(true: Callable[[], bool], seconds: float) -> bool:
    until = monotonic() + seconds
    while not (found := true()) and monotonic() < until:
        pause(0.02)
    return found


# ── logs ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def logs(options: argparse.Namespace) -> int:
    """Lines of one channel, or of all but the performance channel, in the order they were written."""
    from alphapanda.settings import Settings

    workspace, console = Workspace.find(), _console()
    folder = Settings.load().logging.directory
    folder = workspace.logs if folder is None else workspace.root / folder
    names = [options.channel] if options.channel else [name for name in CHANNELS if name != "performance"]
    tails = [_Tail(folder / f"{name}.jsonl", options.run) for name in names]
    lines = sorted(line for tail in tails for line in tail.last(options.n))
    for line in lines[-options.n :] if options.n > 0 else []:
        _print_line(console, line[1])
    if not lines and not options.follow:
        _say(console, f"no lines in {folder}", "bright_black")
    with contextlib.suppress(KeyboardInterrupt):
        while options.follow:
            for line in sorted(line for tail in tails for line in tail.new()):
                _print_line(console, line[1])
            pause(0.2)
    return OK


class _Tail:
    """The end of one channel's file, also when it is set aside for a new one."""

    def __init__(self, path: Path, run: str | None) -> None:
        self.path, self.run = path, run
        self._at, self._file = 0, 0

    def last(self, count: int) -> list[tuple[str, Facts]]:
        """So many lines of now and of the file before."""
        older = sorted(self.path.parent.glob(f"{self.path.stem}.*.jsonl"))[-1:]
        found = [line for path in older for line in self._parsed(_end_of(path, 2_000_000)[0])]
        text, self._at, self._file = _end_of(self.path, 4_000_000)
        return (found + self._parsed(text))[-count:] if count > 0 else []

    def new(self) -> list[tuple[str, Facts]]:
        """What was added since."""
        try:
            with self.path.open("rb") as file:
                facts = os.fstat(file.fileno())
                if facts.st_ino != self._file or facts.st_size < self._at:
                    self._at, self._file = 0, facts.st_ino
                file.seek(self._at)
                data = file.read(4_000_000)
        except OSError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._at += len(whole)
        return self._parsed(whole)

    def _parsed(self, data: bytes) -> list[tuple[str, Facts]]:
        found: list[tuple[str, Facts]] = []
        for line in data.splitlines():
            with contextlib.suppress(msgspec.MsgspecError):
                facts = msgspec.json.decode(line, type=dict[str, Any])
                if self.run is None or self.run in (
                    facts.get("run"),
                    str(facts.get("role")).partition(":")[2],
                ):
                    found.append((str(facts.get("ts", "")), facts))
        return found


def _end_of(path: Path, size: int) -> tuple[bytes, int, int]:
    """The end of a file from a line's begin on, its length and which file it is."""
    try:
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            file.seek(max(0, facts.st_size - size))
            data = file.read()
    except OSError:
        return b"", 0, 0
    whole = data[: data.rfind(b"\n") + 1]
    cut = whole.find(b"\n") + 1 if facts.st_size > size else 0
    return whole[cut:], facts.st_size - (len(data) - len(whole)), facts.st_ino


SHOWN_BEFORE = ("ts", "level", "event", "role", "namespace", "run", "strategy", "exception")
LEFT_OUT = (
    "pid",
    "channel",
    "logger",
    "event_id",
    "correlation_id",
    "causation_id",
    "trace_id",
    "parent_trace_id",
)


def _print_line(console: Console, line: Facts) -> None:
    """Exchange time, level, who, what, the facts; an exception below. Ids of lineage are for programs."""
    import datetime as dt

    from rich.text import Text

    from alphapanda.report.text import clean

    with contextlib.suppress(ValueError):
        at = dt.datetime.fromisoformat(str(line.get("ts", "")))
        line = {
            **line,
            "ts": at.astimezone(dt.timezone(dt.timedelta(hours=5, minutes=30))).strftime("%d %b %H:%M:%S"),
        }
    level = str(line.get("level", ""))
    colour = {"error": "bold red", "warning": "yellow", "debug": "bright_black"}.get(level, "green")
    who = " ".join(str(line[key]) for key in ("role", "namespace", "run", "strategy") if line.get(key))
    rest = {key: line[key] for key in line if key not in (*SHOWN_BEFORE, *LEFT_OUT) and line[key] != ""}
    facts = "  ".join(f"{key}={value}" for key, value in rest.items())
    shown = Text.assemble(
        (f"{line.get('ts', '')} ", "bright_black"),
        (f"{level:<8}", colour),
        (f"{who}  ", "cyan"),
        (clean(line.get("event", "")), "bold"),
        f"  {clean(facts)}",
    )
    if line.get("exception"):
        shown.append(f"\n{clean(line['exception'])}", "bright_black")
    console.print(shown, soft_wrap=True, highlight=False)


# ── kill ─────────────────────────────────────────────────────────────────────────────────────────────────────────


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
        gone = _wait(lambda one=one: not one.alive, 1.0)
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

    from alphapanda.server import address
    from alphapanda.settings import Settings
    from alphapanda.state.client import open_client
    from alphapanda.supervise import document, send_command

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


def _audit(workspace: Workspace, namespace: str, reason: str, was: Facts) -> None:
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


# ── how it looks ─────────────────────────────────────────────────────────────────────────────────────────────────

GOOD = ("ready", "running", "serving", "ok")
POOR = ("waiting", "starting", "stopping", "stopped", "closing", "degraded", "replaying", "warming")


def picture(found: Facts, now: int) -> RenderableType:
    """The hub's status as one screen, for a hundred columns."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [_overview(found, now)]
    runs = found["runs"]
    parts += [Text(), _runs(runs)] if runs else [Text("\nno runs", "bright_black")]
    parts += [Text(), _processes(found, now)]
    return Group(*parts)


def _overview(found: Facts, now: int) -> RenderableType:
    from rich.text import Text

    hub, server, table = found["hub"], found["server"], _table()
    up = f"up {_ago(now - hub['since'])}, {found['workspace']}"
    table.add_row("hub", _state(hub["state"]), Text(f"alphapanda {hub['version']}, {up}"))
    alive = "ready" if server["alive"] else "external" if server["alive"] is None else "down"
    table.add_row("server", _state(alive), Text(str(server["address"])))
    for child in found["children"]:
        kind, _, namespace = child["role"].partition(":")
        if kind == "runner":
            continue
        health, halt = child["health"], found["halts"].get(namespace) if kind == "gateway" else None
        state = "halted" if halt else health.get("state", child["state"]) if child["pid"] else child["state"]
        detail = [_halted(halt, now)] if halt else _details(kind, health)
        table.add_row(
            child["role"].replace(":", " "), _state(state), Text(", ".join(part for part in detail if part))
        )
    for trouble in hub["troubles"]:
        table.add_row("", Text("trouble", "bold red"), Text(_clean(trouble)))
    return table


def _details(kind: str, health: Facts) -> list[str]:
    """What matters of a heartbeat."""
    if kind == "feed":
        rate = sum(health.get("rates", {}).values())
        told = [
            str(health.get("source", "")),
            f"{rate:,.0f} ticks/s" if health else "",
            "STALE" if health.get("stale") else "",
        ]
        clock = health.get("clock")
        fault = _clean(health["detail"]) if health.get("state") == "degraded" else ""
        return [*told, f"market time {_clock(clock)}" if clock else "", fault]
    count, orders = health.get("runs", 0), health.get("orders_today", 0)
    runs = f"{count} run{'s' * (count != 1)}, {orders:,} orders today" if health else ""
    return [str(health.get("mode", "")), runs, _clean(health.get("detail", ""))]


def _halted(halt: Facts, now: int) -> str:
    since = f" {_ago(now - halt['at'])} ago" if isinstance(halt.get("at"), int) else ""
    return f"level {halt.get('level', '?')}{since} by {_clean(halt.get('by', '?'))}: {_clean(halt.get('reason', ''))}"


def _runs(runs: list[Facts]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from alphapanda.money import rupees

    right = ("net", "orders", "fills", "age")
    table = _table("run", "lane", "state", "net", "positions", "orders", "fills", "age", right=right)
    below: list[RenderableType] = []
    for run in runs:
        view, runner, counts = run["document"], run["runner"], run["document"].get("counts", {})
        over = run["state"] in ("stopped", "halted", "failed") or not run["child"]
        states = (run["state"],) if over else (view.get("state"), run["child"]["state"])
        state = "halted" if runner.get("state") == "halted" else next(filter(None, states))
        net, positions = view.get("net"), view.get("positions", [])
        held = [f"{p['symbol'].partition(':')[2][:14]} {p['quantity']:+,}" for p in positions[:1]]
        held += [f"and {len(positions) - 1} more"] if len(positions) > 1 else []
        table.add_row(
            Text(run["run"]),
            Text(run["namespace"]),
            _state(state),
            Text(rupees(net), "red" if net < 0 else "green") if net is not None else Text("-"),
            Text(" ".join(held) or "-"),
            f"{counts.get('orders', 0):,}",
            f"{counts.get('fills', 0):,}",
            f"{runner['data_age_ms'] / 1000:.1f} s" if runner and not over else "",
        )
        errors = runner.get("errors") or ()
        again = run["child"].get("error", "")
        fault = f"started again after: {again}" if again else errors[-1].get("message", "") if errors else ""
        told = run["reason"] or view.get("reason") or runner.get("detail") or fault
        if told:
            below.append(Text(f"{run['run']}: {_clean(told)}", "yellow"))
    return Group(table, *below)


def _processes(found: Facts, now: int) -> RenderableType:
    from rich.text import Text

    right = ("pid", "cpu", "memory", "restarts")
    table = _table("process", "state", "pid", "for", "restarts", "cpu", "memory", right=right)
    hub, server = found["hub"], found["server"]
    rows: list[Facts] = [{"role": "hub", "restarts": 0, "error": "", **hub}]
    if server["embedded"]:
        rows.append(
            {
                "role": "server",
                "state": "ready" if server["alive"] else "down",
                "since": 0,
                "restarts": 0,
                **server,
            }
        )
    for row in [*rows, *found["children"]]:
        table.add_row(
            Text(row["role"].replace(":", " ")),
            _state(row["state"]),
            str(row["pid"] or "-"),
            _ago(now - row["since"]) if row["since"] else "",
            str(row["restarts"] or "-"),
            f"{row['cpu']:.1f} %",
            f"{row['rss_mb']:,.0f} MB",
        )
    return table


def _table(*names: str, right: tuple[str, ...] = ()) -> Any:
    from rich.table import Table

    table = Table(
        box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=bool(names), header_style="bright_black"
    )
    for name in names or ("", "", ""):
        table.add_column(
            name, justify="right" if name in right else "left", no_wrap=bool(names) and name != ""
        )
    return table


def _state(state: str) -> RenderableType:
    from rich.text import Text

    style = (
        "green"
        if state in GOOD
        else "yellow"
        if state in POOR
        else "cyan"
        if state == "external"
        else "bold red"
    )
    return Text(state, style)


def _ago(ns: int) -> str:
    """A length of time as people say it."""
    seconds = max(0, ns // 10**9)
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _clock(ts: int) -> str:
    from alphapanda.events import ist

    return f"{ist(ts):%d %b %H:%M:%S}"


def _clean(text: object) -> str:
    from alphapanda.report.text import one_line

    return one_line(text, 200)


def _say(console: Console, text: str, style: str = "") -> None:
    """A line of words, never broken: it may be read by a program."""
    from rich.text import Text

    console.print(Text(text, style), soft_wrap=True, highlight=False)


def _print(console: Console, shown: RenderableType) -> None:
    """As it is in a terminal; without the spaces that fill its lines elsewhere."""
    if console.is_terminal:
        console.print(shown)
        return
    with console.capture() as caught:
        console.print(shown)
    sys.stdout.write("\n".join(line.rstrip() for line in caught.get().splitlines()) + "\n")


def _json(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value)).decode() + "\n"


def _console() -> Console:
    from rich.console import Console

    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=140)
    return console


COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "up": up,
    "status": status,
    "stop": stop,
    "logs": logs,
    "kill": kill,
}

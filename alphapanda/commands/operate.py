"""Commands that run and stop things: ``alphapanda up``, ``status`` and ``stop``; beside them ``logs``, ``kill``,
``pause`` and ``resume``.

Each says what it did, not what it hopes for.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from alphapanda.clock import monotonic, pause, wait_until, wall_ns
from alphapanda.commands import pausing
from alphapanda.commands.kill_switch import kill
from alphapanda.commands.log_tail import CHANNELS, logs
from alphapanda.commands.status_screen import ago, picture
from alphapanda.console import as_json, open_console, say, show
from alphapanda.errors import InfrastructureError
from alphapanda.hub.client import HubClient, ensure_hub
from alphapanda.processes import children, end_processes, hub_process
from alphapanda.workspace import Workspace

if TYPE_CHECKING:
    from rich.console import Console

OK, FAILED = 0, 1
NEEDS = {  # what `up` starts beside what trades, and the packages it takes
    "api": ("fastapi", "uvicorn", "prometheus_client"),
    "dashboards": ("panel",),
    "watch": ("apscheduler", "papermill"),
}
DOWN_SECONDS = 6.0  # the hub ends within five

Facts = Mapping[str, Any]
Add = Callable[..., argparse.ArgumentParser]


def add_commands(add: Add) -> None:
    """Their arguments; ``add`` makes the parser of one command."""
    one = add("up", help="start the hub of this folder, and watch it")
    one.add_argument("--detach", action="store_true", help="leave it running and come back at once")
    one.add_argument("--quiet", action="store_true", help="show nothing while it runs")
    one.add_argument(
        "--bare", action="store_true", help="only what trades: no pages, no API, no schedules or alerts"
    )
    two = add("status", help="what runs here, and how it does")
    two.add_argument("--json", action="store_true", help="print JSON")
    two.add_argument("--watch", action="store_true", help="keep it up to date")
    three = add("stop", help="end a run, or everything")
    three.add_argument(
        "run", nargs="?", metavar="RUN", help="a run's id, or its strategy; none: everything, the hub too"
    )
    three.add_argument("--flatten", action="store_true", help="close positions first")
    for verb, what in (
        ("pause", "let a run open nothing; what closes positions passes"),
        ("resume", "lift its pause"),
    ):
        one = add(verb, help=what)
        one.add_argument("run", metavar="RUN", help="a run's id, or its strategy")
        one.add_argument("--why", default="", metavar="TEXT", help="for the audit")
    four = add("logs", help="what the processes wrote")
    four.add_argument(
        "channel", nargs="?", choices=CHANNELS, metavar="CHANNEL", help=f"one of {', '.join(CHANNELS)}"
    )
    four.add_argument("-f", "--follow", action="store_true", help="go on with what comes")
    four.add_argument("-n", type=int, default=40, metavar="N", help="so many of the last lines (40)")
    four.add_argument("--run", metavar="RUN", help="only lines of this run")
    five = add("kill", help="stop all orders and cancel entries at once, whatever answers")
    five.add_argument("namespace", nargs="?", metavar="NAMESPACE", help="none: all there are")
    how = five.add_mutually_exclusive_group()
    how.add_argument(
        "--reduce", action="store_true", help="less: orders that make positions smaller still pass"
    )
    how.add_argument(
        "--halt", action="store_true", help="less: nothing new, and what works at the venue stays"
    )
    how.add_argument("--flatten", action="store_true", help="more: close positions too")
    how.add_argument(
        "--sever", action="store_true", help="more: end the broker's session, a new login is needed"
    )
    five.add_argument("--account", help="the account's id, typed, where --flatten moves real money")
    five.add_argument("--reason", default="", metavar="TEXT", help="why, for the audit")
    five.add_argument("--lift", metavar="REASON", help="let orders pass again, because")


def up(options: argparse.Namespace) -> int:
    """Start the hub; in the foreground Ctrl-C ends it and all it runs."""
    workspace, console = Workspace.find(), open_console()

    def tell(text: str) -> None:
        if not options.quiet:
            say(console, f"  {text}", "bright_black")

    began = monotonic()
    client = _running(workspace) or ensure_hub(workspace, tell)
    pong = client.ask({"do": "ping"})
    if not options.bare:
        _offer(client, tell)
    if not client.started:
        return _runs_already(console, workspace, pong)
    if not options.quiet:
        say(
            console,
            f"the hub of {workspace.root} is ready, process {pong['pid']}, after {monotonic() - began:.1f} s",
        )
        how = "alphapanda stop" if options.detach else "Ctrl-C"
        say(console, f"  {how} ends it and all it runs; `alphapanda status` shows it", "bright_black")
    return OK if options.detach else _stay(client, console, options.quiet)


def _running(workspace: Workspace) -> HubClient | None:
    """The hub that runs here already, whatever state it is in."""
    client = HubClient(workspace)
    with contextlib.suppress(InfrastructureError):
        client.ask({"do": "ping"}, 2.0)
        return client
    return None


def _offer(client: HubClient, tell: Callable[[str], None]) -> None:
    """Pages, API, schedules and alerts, as far as what they need is installed."""
    lacking = {
        role: [name for name in names if importlib.util.find_spec(name) is None]
        for role, names in NEEDS.items()
    }
    client.ask({"do": "offer", "roles": [role for role, names in lacking.items() if not names]})
    for role, names in lacking.items():
        if names:
            tell(f"no {role}: {', '.join(names)} not installed (pip install 'alphapanda[all]')")
    if not lacking["dashboards"]:
        tell("`alphapanda dashboard` opens the pages in a browser")


def _runs_already(console: Console, workspace: Workspace, pong: Facts) -> int:
    since = ago(wall_ns() - pong["since"])
    say(
        console,
        f"the hub of {workspace.root} runs already: process {pong['pid']}, {pong['state']}, up {since}",
    )
    for trouble in pong["troubles"]:
        say(console, f"  {trouble}", "yellow")
    return OK if pong["state"] in ("ready", "starting") else FAILED


def _stay(client: HubClient, console: Console, quiet: bool) -> int:
    """Show the hub until somebody ends it."""
    process = hub_process(client.workspace)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        for _ in _shown(client, console, live=not quiet and console.is_terminal):
            if process is None or not process.alive:
                say(console, f"the hub has ended; why: {client.workspace.logs / 'hub.log'}", "bold red")
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
    workspace, console = Workspace.find(), open_console()
    client = HubClient(workspace)
    try:
        found = client.ask({"do": "status"}, 5.0)
    except InfrastructureError as error:
        if options.json:
            left = msgspec.to_builtins(children(workspace))
            sys.stdout.write(
                as_json(
                    {"hub": None, "error": error.message, "workspace": str(workspace.root), "children": left}
                )
            )
            return FAILED
        for one in children(workspace):
            say(console, f"{one.role}, process {one.pid}, is still there", "yellow")
        raise
    if options.json:
        sys.stdout.write(as_json(found))
    elif options.watch:
        with contextlib.suppress(KeyboardInterrupt):
            for _ in _shown(client, console, live=True):
                found = client.ask({"do": "status"}, 5.0)
    else:
        show(console, picture(found, wall_ns()))
    ill = any(
        run["state"] in ("failed", "halted") or run["document"].get("state") == "halted"
        for run in found["runs"]
    )
    return FAILED if ill or found["halts"] or found["hub"]["troubles"] else OK


def stop(options: argparse.Namespace) -> int:
    """End one run, or everything."""
    workspace, console = Workspace.find(), open_console()
    if options.run is None:
        return _down(workspace, console, flatten=options.flatten)
    question = {"do": "stop", "run": options.run, "flatten": options.flatten}
    done = HubClient(workspace).ask(question, 20.0)
    say(console, f"{done['run']} {done['state']}{done['reason'] and ': '}{done['reason']}")
    return OK


def _down(workspace: Workspace, console: Console, *, flatten: bool) -> int:
    """End the hub and all it runs, whether it answers or not."""
    began, process, left = monotonic(), hub_process(workspace), children(workspace)
    how = "stopped"
    try:
        pid = HubClient(workspace).ask({"do": "shutdown", "flatten": flatten}, 20.0 if flatten else 3.0)[
            "pid"
        ]
        wait_until(lambda: process is None or process.pid != pid or not process.alive, DOWN_SECONDS)
    except InfrastructureError as error:
        how = "killed, since it did not answer" if error.code == "E_HUB_SILENT" else "not there"
    if process is not None and process.signal(signal.SIGKILL):
        how = how if how != "stopped" else "killed, since it did not end in time"
        wait_until(lambda: not any(one.alive for one in left), 1.0)  # they see that it is gone, and go
    for one in end_processes(left, 2.0):
        say(console, f"ended {one.role}, process {one.pid}, which was left behind")
    if how == "not there":
        say(console, f"no hub runs in {workspace.root}")
    else:
        say(console, f"the hub and all it ran: {how}, after {monotonic() - began:.1f} s")
    return OK if "killed" not in how else FAILED


COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "up": up,
    "status": status,
    "stop": stop,
    "pause": pausing.pause,
    "resume": pausing.resume,
    "logs": logs,
    "kill": kill,
}

"""``alphapanda demo``: the synthetic market running, two strategies on paper, and a look at all of it.

It has a workspace of its own under ``.alphapanda/demo`` and leaves every other alone. At the end the same ticks go
through research once more: both must have decided the same.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import redis
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from alphapanda.clock import monotonic, pause, wall_ns
from alphapanda.errors import AlphaPandaException
from alphapanda.examples import OpeningBreakout, VwapReversion
from alphapanda.hindsight.rerun import rerun
from alphapanda.hub.client import HubClient
from alphapanda.notebook.handle import Run
from alphapanda.notebook.session import Session, connect_sync
from alphapanda.processes import hub_process
from alphapanda.report.terminal import Fitted, money
from alphapanda.report.text import moment, sparkline, whole
from alphapanda.result import decision_digest
from alphapanda.workspace import VARIABLE, Workspace

TICKS = 30  # a second of market, all instruments together
FRESH_MS = 2_000
ORDERS, POSITIONS = 8, 8  # lines


def demo(console: Console, root: Path, seconds: float | None, speed: float) -> int:
    """Run until ``seconds`` are over or Ctrl-C; returns the exit code."""
    workspace = _fresh(root)
    known = dict(os.environ)
    os.environ.update(
        {
            VARIABLE: str(root),
            "FEED__SOURCE": "synthetic",
            "FEED__SPEED": f"{speed:g}",
            "FEED__TICKS_PER_SECOND": str(TICKS),
        }
    )
    console.print(_intro(speed, root))
    begun = monotonic()
    try:
        with console.status("starting the hub: server, feed, gateway"):
            session = connect_sync(workspace=root, quiet=True)
            runs = [session.sync.run(OpeningBreakout(minutes=5)), session.sync.run(VwapReversion(width=1.5))]
        with contextlib.suppress(KeyboardInterrupt):
            _show(console, session, runs, speed, begun, seconds)
        return _finish(console, workspace, session, runs)
    finally:
        with contextlib.suppress(KeyboardInterrupt):
            _end_hub(workspace)
        os.environ.clear()
        os.environ.update(known)


def _fresh(root: Path) -> Workspace:
    """An empty workspace; what an earlier demo left is ended and removed."""
    workspace = Workspace(root)
    _end_hub(workspace)
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    return workspace


def _end_hub(workspace: Workspace) -> None:
    """End the workspace's hub, if it has one, and see it gone."""
    process = hub_process(workspace)
    with contextlib.suppress(AlphaPandaException):
        HubClient(workspace).ask({"do": "shutdown"}, 10.0)
    until = monotonic() + 10.0
    while process is not None and process.alive and monotonic() < until:
        pause(0.05)


def _typed(path: Path) -> str:
    """As somebody types it in the folder where the demo was started."""
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def _intro(speed: float, root: Path) -> Text:
    found = shutil.which("alphapanda") or Path(sys.argv[0]).name != "alphapanda"
    program = "alphapanda" if found else _typed(Path(sys.argv[0]).absolute())
    return Text.assemble(
        ("Live paper trading, all on this machine: no account, no network.\n", "bold"),
        ("A seeded market ticks ", "default"), (f"{speed:g}x", "bold"),
        (" as fast as a real one; two strategies, each in a process of its own, trade it on paper.\n", "default"),
        ("Its pages, from another terminal: ", "default"),
        (f"{VARIABLE}={_typed(root)} {program} dashboard\n", "bold"),
        ("Ctrl-C ends it.\n", "bright_black"),
    )  # fmt: skip


# ── the live view ────────────────────────────────────────────────────────────────────────────────────────────────


def _show(
    console: Console, session: Session, runs: list[Run], speed: float, begun: float, seconds: float | None
) -> None:
    until = None if seconds is None else monotonic() + seconds
    server = session.open_server()
    feed: dict[str, Any] = {}
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while until is None or monotonic() < until:
            with contextlib.suppress(redis.RedisError):
                raw: Any = server.get("health:feed")
                feed = msgspec.json.decode(raw, type=dict[str, Any]) if raw else {}
            if console.is_terminal:
                live.update(_screen(runs, feed, speed, monotonic() - begun), refresh=True)
            pause(0.25)
    console.print(_screen(runs, feed, speed, monotonic() - begun))


def _screen(runs: list[Run], feed: dict[str, Any], speed: float, elapsed: float) -> RenderableType:
    return Panel(
        Group(_stream(runs, feed, elapsed), Text(), _runs(runs), *_held(runs), *_placed(runs)),
        title=Text.assemble((" PAPER ", "bold white on blue"), f"  Alpha Panda, {speed:g}x "),
        title_align="left",
        border_style="blue",
        padding=(1, 2),
    )


def _stream(runs: list[Run], feed: dict[str, Any], elapsed: float) -> Text:
    """Market time, ticks a second, age of the newest data."""
    clock = max((run.view.books.tape_ts for run in runs), default=0)
    rate = sum(feed.get("rates", {}).values())
    heard = max((run.view.heard for run in runs), default=0)
    age = (wall_ns() - heard) / 1e6 if heard else None
    fresh = age is not None and age < FRESH_MS
    line = Text()
    line.append("● " if fresh else "○ ", "green" if fresh else "yellow")
    line.append(f"market {moment(clock)} IST" if clock else "waiting for the first tick")
    line.append(f"   {whole(int(rate))} ticks/s   feed {feed.get('state', 'starting')}", "bright_black")
    if age is not None:
        line.append(f"   data {age / 1000:.1f} s old", "bright_black" if fresh else "bold yellow")
    line.append(f"   {elapsed:.0f} s", "bright_black")
    return line


def _runs(runs: list[Run]) -> Fitted:
    table = Fitted(
        "",
        "strategy",
        "state",
        ">ticks",
        ">orders",
        ">fills",
        ">denied",
        ">net P&L",
        "today",
        spare=("today",),
    )
    for run in runs:
        view, count = run.view, run.view.count
        table.add_row(
            Text(view.name, "bold"), _state(view.label, view.ended), whole(count.get("ticks", 0)),
            whole(count.get("orders", 0)), whole(count.get("fills", 0)), whole(count.get("denials", 0)),
            money(view.books.net), sparkline([p for _, p in view.books.curve], 24),
        )  # fmt: skip
    total = sum(run.view.books.net for run in runs)
    table.add_section()
    table.add_row(Text("together", "bold"), "", "", "", "", "", money(total, "bold"), "")
    return table


def _state(label: str, ended: bool) -> Text:
    return Text(label, "green" if label == "running" else "red" if ended else "yellow")


def _held(runs: list[Run]) -> Iterator[RenderableType]:
    rows = [(run.view.name, held) for run in runs for held in run.view.books.positions]
    if rows:
        table = Fitted("positions", "strategy", "symbol", ">quantity", ">average", ">last", ">unrealized")
        for name, held in rows[:POSITIONS]:
            table.add_row(
                name,
                held.symbol,
                f"{held.quantity:+,}",
                f"{held.average:,.2f}",
                f"{held.last:,.2f}",
                money(held.unrealized),
            )
        yield Text()
        yield table


def _placed(runs: list[Run]) -> Iterator[RenderableType]:
    rows = sorted(
        ((o.ts, run.view.name, o) for run in runs for o in run.view.books.orders), key=lambda r: (-r[0], r[1])
    )
    if rows:
        table = Fitted(
            "newest orders",
            "time",
            "strategy",
            "side",
            ">quantity",
            "symbol",
            "kind",
            "status",
            "reason",
            spare=("reason",),
        )
        for ts, name, order in rows[:ORDERS]:
            side = Text(order.side, "green" if order.side == "BUY" else "red")
            table.add_row(
                moment(ts, dated=False),
                name,
                side,
                whole(order.quantity),
                order.symbol,
                order.kind,
                order.status,
                order.reason,
            )
        yield Text()
        yield table


# ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _finish(console: Console, workspace: Workspace, session: Session, runs: list[Run]) -> int:
    """The same ticks in research, the page, and where to go from here."""
    same = True
    lines = Text()
    with console.status("the same ticks once more, in research"):
        for run in runs:
            paper = run.report.result
            research = rerun(workspace, run.id, paper, session.settings)
            ours, theirs = decision_digest(paper), decision_digest(research)
            equal = ours == theirs and [f.id for f in paper.fills] == [f.id for f in research.fills]
            same = same and equal
            lines.append("✓ " if equal else "✗ ", "bold green" if equal else "bold red")
            lines.append(f"{run.name:<16}", "bold")
            lines.append(
                f"paper and research {'decided the same' if equal else 'differ'}: {len(paper.orders)} orders, "
                f"{len(paper.fills)} fills, digest {ours[:12]}{'' if equal else f' and {theirs[:12]}'}\n"
            )
        session.sync.stop()
    console.print(lines)
    for what, how in (
        ("the same in a notebook", "make notebooks, then open 20_paper.ipynb"),
        ("your own hub", "alphapanda up"),
        ("a recorded day instead", "alphapanda backtest mine.py:MyStrategy --data 2026-11-20"),
    ):
        console.print(
            Text.assemble((f"{what:<25}", "bright_black"), (how, "bold")), soft_wrap=True, highlight=False
        )
    return 0 if same else 1

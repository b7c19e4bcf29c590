"""The hub's status as one screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

GOOD = ("ready", "running", "serving", "ok")
POOR = (
    "waiting",
    "starting",
    "stopping",
    "stopped",
    "closing",
    "degraded",
    "replaying",
    "warming",
    "reducing",
    "paused",
)
KILL_LEVELS = {  # what each lets happen
    1: "positions only become smaller",
    2: "no new orders",
    3: "no new orders, entries cancelled",
    4: "no new orders, positions closed",
    5: "no new orders, logged out",
}

Facts = Mapping[str, Any]


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
    up = f"up {ago(now - hub['since'])}, {found['workspace']}"
    table.add_row("hub", _state(hub["state"]), Text(f"alphapanda {hub['version']}, {up}"))
    alive = "ready" if server["alive"] else "external" if server["alive"] is None else "down"
    table.add_row("server", _state(alive), Text(str(server["address"])))
    for child in found["children"]:
        kind, _, namespace = child["role"].partition(":")
        if kind == "runner":
            continue
        health, halt = child["health"], found["halts"].get(namespace) if kind == "gateway" else None
        state = (
            _stopped(halt)
            if halt
            else health.get("state", child["state"])
            if child["pid"]
            else child["state"]
        )
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
        kite = health.get("kite", {})
        if gaps := kite.get("counts", {}).get("gaps", 0):
            told.append(f"{gaps} gap{'s' * (gaps != 1)}")
        if candles := kite.get("refill", {}).get("candles", 0):
            told.append(f"{candles:,} minutes refilled beside the tape")
        clock = health.get("clock")
        fault = _clean(health["detail"]) if health.get("state") in ("degraded", "logged_out") else ""
        return [*told, f"market time {_clock(clock)}" if clock else "", fault]
    if kind in ("api", "dashboards"):
        return [str(health.get("url", ""))]
    if kind == "watch":
        return _watched(health)
    count, orders = health.get("runs", 0), health.get("orders_today", 0)
    runs = f"{count} run{'s' * (count != 1)}, {orders:,} orders today" if health else ""
    return [str(health.get("mode", "")), runs, _clean(health.get("detail", ""))]


def _watched(health: Facts) -> list[str]:
    """Schedules, the next that is due, and alerts that wait for somebody."""
    count, due, alerts = (int(health.get(name) or 0) for name in ("schedules", "next_due", "unseen"))
    told = [f"{count} schedule{'s' * (count != 1)}"] if health else []
    told += [f"next at {_clock(due)}"] if due else []
    return [*told, f"{alerts} alert{'s' * (alerts != 1)} nobody has seen" if alerts else ""]


def _stopped(halt: Facts) -> str:
    return "reducing" if halt.get("level") == 1 else "halted"


def _halted(halt: Facts, now: int) -> str:
    level = halt.get("level", "?")
    what = f"level {level}: {KILL_LEVELS[level]}" if level in KILL_LEVELS else f"level {level}"
    since = f", {ago(now - halt['at'])} ago" if isinstance(halt.get("at"), int) else ""
    return f"{what}{since} by {_clean(halt.get('by', '?'))}: {_clean(halt.get('reason', ''))}"


def _runs(runs: list[Facts]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from alphapanda.money import rupees

    right = ("net", "orders", "fills", "age")
    names = ("run", "lane", "state", "net", "held", "orders", "fills", "age")
    table = _table(*names, right=right, gives=("run", "held"))
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
            ago(now - row["since"]) if row["since"] else "",
            str(row["restarts"] or "-"),
            f"{row['cpu']:.1f} %",
            f"{row['rss_mb']:,.0f} MB",
        )
    return table


def _table(*names: str, right: tuple[str, ...] = (), gives: tuple[str, ...] = ()) -> Any:
    """An empty table; where there is no room, the columns that give way go on in a second line and no figure is cut."""
    from rich.table import Table

    table = Table(
        box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=bool(names), header_style="bright_black"
    )
    for name in names or ("", "", ""):
        table.add_column(
            name,
            justify="right" if name in right else "left",
            no_wrap=bool(name) and name not in gives,
            overflow="fold",
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


def ago(ns: int) -> str:
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

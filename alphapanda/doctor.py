"""What ``alphapanda doctor`` looks at: is everything in place on this machine?"""

from __future__ import annotations

import asyncio
import ctypes
import datetime as dt
import os
import platform
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from alphapanda.errors import AlphaPandaException, ConfigurationError, InfrastructureError, RulebookError
from alphapanda.hub_client import HubClient, children, end_processes
from alphapanda.instruments import Instrument
from alphapanda.workspace import NAME, Workspace

if TYPE_CHECKING:
    from rich.table import Table

    from alphapanda.settings import Settings

State = Literal["ok", "optional", "missing"]
EXAMPLE = Instrument(symbol="NSE:INFY", exchange="NSE", in_fo=True)
MEMORY_LOW = 2.0  # GB
DAYS_AHEAD = 15  # no exchange has closed for longer
DISK_LOW, DISK_FULL = (
    2.0,
    0.2,
)  # GB: a day of ticks takes a few hundred MB; without a journal nothing is traded
CLOCK_OFF = 0.5  # seconds the system's clock may err by its own account
KERNELS = ("6.31", "7.3", "7.4")  # ipykernel versions that Stop and interrupt are tested with


class Finding(msgspec.Struct, frozen=True):
    """One row: what was looked at, how it stands, and what to do about it. ``missing`` fails the command."""

    what: str
    state: State
    shown: str
    fix: str = ""


def findings(today: dt.date, *, workspace: Workspace | None = None, reap: bool = False) -> list[Finding]:
    """Every row, in order; one check that breaks is a row of its own. ``reap`` ends what a killed hub left behind."""
    rows: list[Finding] = []
    at = workspace or Workspace.find()
    live = (lambda: _server(at), lambda: _sockets(at), lambda: _hub(at, reap=reap), _kernel)
    research = (
        _python,
        _packages,
        _tape,
        lambda: _rulebook(today),
        _settings,
        _zone,
        _clock,
        _writing,
        lambda: _disk(at),
    )
    for check in (*research, _machine, *live):
        try:
            rows += check()
        except Exception as error:  # noqa: BLE001 - a doctor reports what is broken instead of breaking with it
            name = getattr(check, "__name__", "check").strip("_<>")
            rows.append(Finding(name, "missing", f"{type(error).__name__}: {error}", "reinstall: make setup"))
    return rows


def table(rows: list[Finding]) -> Table:
    """The rows in colour: green in place, yellow not needed for research, red missing."""
    from rich.table import Table
    from rich.text import Text

    from alphapanda.report.text import clean

    looks = {"ok": ("ok", "green"), "optional": ("--", "yellow"), "missing": ("missing", "bold red")}
    made = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2))
    for _ in range(3):
        made.add_column(no_wrap=False)
    for row in rows:
        shown = Text(clean(row.shown))
        if row.fix:
            shown.append(f"\nfix: {clean(row.fix)}", "bright_black")
        made.add_row(Text(*looks[row.state]), Text(row.what, "bold", no_wrap=True), shown)
    return made


def _python() -> Iterator[Finding]:
    found = platform.python_version()
    good = sys.version_info >= (3, 11)
    fix = "" if good else "make PYTHON=python3.12 setup"
    yield Finding("alphapanda", "ok", version("alphapanda"))
    yield Finding(
        "python", "ok" if good else "missing", f"{found}, {platform.system()} {platform.machine()}", fix
    )


def _packages() -> Iterator[Finding]:
    wanted: dict[str, list[str]] = {}
    for line in requires("alphapanda") or ():
        name = re.split(r"[\s\[<>=!~;]", line, maxsplit=1)[0]
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", line)
        if name != "alphapanda":
            wanted.setdefault(extra[1] if extra else "", []).append(name)
    wanted.pop("all", None)  # the sum of the others
    for extra, names in wanted.items():
        found = {name: _version(name) for name in names}
        lacking = [name for name, number in found.items() if number is None]
        have = ", ".join(f"{name} {number}" for name, number in found.items() if number)
        if not extra:
            shown = f"lacking {', '.join(lacking)}" if lacking else have
            yield Finding("packages", "missing" if lacking else "ok", shown, "make setup" if lacking else "")
        elif lacking:
            fix = f"pip install 'alphapanda[{extra}]', if you want it"
            yield Finding(f"extra {extra}", "optional", f"not installed: {', '.join(lacking)}", fix)
        else:
            yield Finding(f"extra {extra}", "ok", have)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _tape() -> Iterator[Finding]:
    from alphapanda.tapes.tape import Tape

    for path in sorted(Path(__file__).with_name("data").glob("*.parquet")) or [Path("no bundled day")]:
        try:
            tape = Tape.open(path)
            rows = sum(len(block) for block in tape.blocks(65_536))
        except AlphaPandaException as error:
            yield Finding("bundled day", "missing", error.message, "reinstall: make setup")
        else:
            yield Finding(
                "bundled day", "ok", f"{path.stem}, {rows:,} ticks, seal {tape.digest[:12]} verified"
            )


def _rulebook(today: dt.date) -> Iterator[Finding]:
    from alphapanda.rulebook import Rulebook

    rules = Rulebook.load()
    try:
        closed = rules.why_closed(EXAMPLE, today)
        days = [today + dt.timedelta(days=n) for n in range(1, DAYS_AHEAD)]
        following = next((day for day in days if rules.session(EXAMPLE, day) is not None), None)
        for day in (today, following) if not closed else (following,):
            if day is not None:
                rules.charges(EXAMPLE, "MIS", day)
    except RulebookError as error:
        yield Finding("rulebook", "optional", f"{rules.version}: {error.message}", error.fix)
        return
    now = f"{today} closed ({closed})" if closed else f"{today} covered"
    ahead = f"next trading day {following} covered" if following else "no trading day in sight"
    doubts = len(rules.unconfirmed(following or today, [EXAMPLE]))
    extra = f"; {doubts} rules for NSE shares unconfirmed" if doubts else ""
    yield Finding("rulebook", "ok", f"{rules.version}: {now}, {ahead}{extra}")


def _settings() -> Iterator[Finding]:
    from alphapanda.settings import Settings

    try:
        settings = Settings.load()
    except ConfigurationError as error:
        yield Finding("settings", "missing", error.message, error.fix)
    else:
        source = ".env and the environment" if Path(".env").exists() else "the environment"
        yield Finding(
            "settings", "ok", f"{settings.profile}, namespace {settings.broker_namespace}, from {source}"
        )
        if settings.profile != "production":
            yield _for_production()


def _for_production() -> Finding:
    """Whether the same settings would be taken where money is."""
    from alphapanda.settings import Settings

    try:
        Settings(_env_file=".env" if Path(".env").exists() else None, profile="production")
    except ConfigurationError as error:
        names = ", ".join(problem.name for problem in error.context["problems"])
        return Finding(
            "for production",
            "optional",
            f"would be refused: {names}",
            "set ALPHAPANDA_PROFILE=production to see why",
        )
    return Finding("for production", "ok", "the same settings are safe there")


def _zone() -> Iterator[Finding]:
    try:
        ZoneInfo("Asia/Kolkata")
    except ZoneInfoNotFoundError:
        yield Finding("time zone", "missing", "Asia/Kolkata is not known here", "pip install tzdata")
    else:
        yield Finding(
            "time zone",
            "ok",
            f"exchange time is Asia/Kolkata; this machine's {time.tzname[0]} does not matter",
        )


def _writing() -> Iterator[Finding]:
    places: tuple[tuple[str, Callable[[], str], State], ...] = (
        ("this folder", os.getcwd, "optional"),
        ("temporary files", tempfile.gettempdir, "missing"),
    )
    for what, folder, otherwise in places:
        try:
            with tempfile.TemporaryFile(dir=folder()):
                pass
        except OSError as error:
            fix = (
                "work in a folder you may write"
                if otherwise == "optional"
                else "set TMPDIR to a folder you may write"
            )
            yield Finding(what, otherwise, f"not writable: {error.strerror}", fix)
        else:
            yield Finding(what, "ok", "writable")


def _machine() -> Iterator[Finding]:
    import loky  # pyright: ignore[reportMissingTypeStubs]

    cores: int = loky.cpu_count()
    yield Finding("cores", "ok", f"{cores} for sweeps")
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
        low = total < MEMORY_LOW
        fix = "long tapes still run: they are read in chunks; sweep with workers=1" if low else ""
        yield Finding("memory", "optional" if low else "ok", f"{total:,.1f} GB", fix)


def _clock() -> Iterator[Finding]:
    """The system's own account of its clock: orders carry its stamps, and Kite refuses those that are far off."""
    if sys.platform != "linux":
        yield Finding("clock", "optional", "not checked here", "let the system keep its time by NTP")
        return

    class Timex(ctypes.Structure):  # struct timex: only what is read is named
        _fields_ = (
            ("modes", ctypes.c_uint),
            ("offset", ctypes.c_long),
            ("freq", ctypes.c_long),
            ("maxerror", ctypes.c_long),
            ("esterror", ctypes.c_long),
            ("status", ctypes.c_int),
            ("rest", ctypes.c_char * 256),
        )

    seen = Timex()
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(seen))
    error = seen.maxerror / 1e6
    if state in (-1, 5) or error > CLOCK_OFF:
        shown = "not kept by NTP" if state != -1 else "the system does not say how good it is"
        yield Finding(
            "clock", "optional", shown, "start chrony, ntpd or systemd-timesyncd before trading live"
        )
    else:
        yield Finding("clock", "ok", f"kept by NTP, at most {error * 1000:.0f} ms off")


def _disk(workspace: Workspace) -> Iterator[Finding]:
    free = shutil.disk_usage(workspace.root).free / 1e9
    state: State = "missing" if free < DISK_FULL else "optional" if free < DISK_LOW else "ok"
    fix = "" if state == "ok" else f"free some: tapes and logs lie in {workspace.root / NAME}"
    yield Finding("disk", state, f"{free:,.1f} GB free", fix)


def _server(workspace: Workspace) -> Iterator[Finding]:
    try:
        from alphapanda.server import address, embedded, find_binary
        from alphapanda.settings import Settings
    except ImportError as error:
        yield Finding("server", "optional", f"not installed: {error.name}", "pip install 'alphapanda[live]'")
        return
    try:
        settings = Settings.load()
    except ConfigurationError:
        return  # said above
    where = address(workspace, settings)
    if embedded(settings):
        try:
            binary = find_binary()
        except InfrastructureError as error:
            yield Finding("server", "optional", error.message, error.fix)
            return
        yield Finding("server", "ok", f"valkey or redis {binary.version}: {binary.path}")
    else:
        yield Finding("server", "ok", f"by the settings: {where}")
    if not embedded(settings) or Path(where).exists():
        yield asyncio.run(_durability(where, settings))


async def _durability(where: str | Path, settings: Settings) -> Finding:
    """Whether the server that runs keeps what it acknowledged."""
    from alphapanda.server import inspect
    from alphapanda.state.client import open_client

    client = open_client(where, settings.redis)
    try:
        found = await inspect(client)
    except InfrastructureError as error:
        return Finding("server keeps data", "optional", error.message, error.fix)
    finally:
        await client.aclose()
    shown = f"{found.version}: appendonly {found.appendonly}, {found.appendfsync}, {found.maxmemory_policy}"
    fix = f"{'; '.join(found.faults)}: fine for paper, refused for money" if found.faults else ""
    return Finding("server keeps data", "optional" if fix else "ok", shown, fix)


def _sockets(workspace: Workspace) -> Iterator[Finding]:
    """Whoever can open them can trade: they are their owner's alone."""
    if not (workspace.root / NAME).exists():
        return
    paths = (workspace.home, workspace.runtime, workspace.hub_socket, workspace.server_socket)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in paths if path.exists()}
    open_ones = {path: mode for path, mode in modes.items() if mode & 0o077}
    if open_ones:
        shown = ", ".join(f"{path} is {mode:04o}" for path, mode in open_ones.items())
        yield Finding(
            "sockets",
            "missing",
            f"others may use them: {shown}",
            f"chmod go-rwx {' '.join(map(str, open_ones))}",
        )
    else:
        yield Finding("sockets", "ok", f"only yours, in {workspace.runtime}")


def _hub(workspace: Workspace, *, reap: bool) -> Iterator[Finding]:
    if not (workspace.root / NAME).exists():
        yield Finding("hub", "ok", f"none has run in {workspace.root} yet")
        return
    try:
        pong = HubClient(workspace).ask({"do": "ping"}, 2.0)
    except InfrastructureError as error:
        if error.code != "E_NO_HUB":
            yield Finding("hub", "missing", error.message, error.fix)
            return
    else:
        state: State = "optional" if pong["troubles"] else "ok"
        troubles = "; ".join(pong["troubles"])
        shown = f"{pong['state']}, process {pong['pid']}{troubles and ': '}{troubles}"
        yield Finding("hub", state, shown, "alphapanda status" if troubles else "")
        return
    yield Finding("hub", "ok", f"none runs in {workspace.root}")
    left = children(workspace)
    names = ", ".join(f"{one.role} {one.pid}" for one in left)
    if left and reap:
        end_processes(left, 3.0)
        yield Finding("orphans", "ok", f"ended: {names}")
    elif left:
        yield Finding("orphans", "missing", f"left behind by a hub: {names}", "alphapanda doctor --reap")


def _kernel() -> Iterator[Finding]:
    found, lab = _version("ipykernel"), _version("jupyterlab")
    if found is None:
        yield Finding("notebook kernel", "optional", "no ipykernel", "pip install 'alphapanda[notebook]'")
        return
    tested = found.startswith(tuple(f"{version}." for version in KERNELS))
    shown = f"ipykernel {found}, jupyterlab {lab or 'none'}; tested with {', '.join(KERNELS)}"
    fix = "" if tested else "if Stop waits for a busy cell, use `alphapanda stop` or a tested version"
    yield Finding("notebook kernel", "ok" if tested else "optional", shown, fix)

"""What ``alphapanda doctor`` looks at: is everything in place on this machine?"""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import requires, version
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from alphapanda.checks import Check, Looks, State
from alphapanda.commands import doctor_live as live
from alphapanda.commands import doctor_notebook as notebook
from alphapanda.errors import AlphaPandaException, ConfigurationError, RulebookError
from alphapanda.instruments import Instrument
from alphapanda.workspace import Workspace

EXAMPLE = Instrument(symbol="NSE:INFY", exchange="NSE", in_fo=True)
MEMORY_LOW = 2.0  # GB
DAYS_AHEAD = 15  # no exchange has closed for longer
LOOKS: Looks = {"ok": ("ok", "green"), "warning": ("--", "yellow"), "failed": ("missing", "bold red")}
"""Research needs nothing of what is only warned of."""


def findings(today: dt.date, *, workspace: Workspace | None = None, reap: bool = False) -> list[Check]:
    """Every row, in order; one check that breaks is a row of its own. ``reap`` ends what a killed hub left behind."""
    rows: list[Check] = []
    at = workspace or Workspace.find()
    looks: tuple[Callable[[], Iterator[Check]], ...] = (
        _python,
        _packages,
        _tape,
        lambda: _rulebook(today),
        _settings,
        _zone,
        live.clock,
        _writing,
        lambda: live.disk(at),
        _machine,
        lambda: live.server(at),
        lambda: live.sockets(at),
        lambda: live.hub(at, reap=reap),
        live.kernel,
        notebook.jupyter,
        notebook.startup,
    )
    for look in looks:
        try:
            rows += look()
        except Exception as error:  # noqa: BLE001 - a doctor reports what is broken instead of breaking with it
            name = getattr(look, "__name__", "check").strip("_<>")
            rows.append(Check(name, "failed", f"{type(error).__name__}: {error}", "reinstall: make setup"))
    return rows


def _python() -> Iterator[Check]:
    found = platform.python_version()
    good = sys.version_info >= (3, 11)
    fix = "" if good else "make PYTHON=python3.12 setup"
    yield Check("alphapanda", "ok", version("alphapanda"))
    yield Check(
        "python", "ok" if good else "failed", f"{found}, {platform.system()} {platform.machine()}", fix
    )


def _packages() -> Iterator[Check]:
    wanted: dict[str, list[str]] = {}
    for line in requires("alphapanda") or ():
        name = re.split(r"[\s\[<>=!~;]", line, maxsplit=1)[0]
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", line)
        if name != "alphapanda":
            wanted.setdefault(extra[1] if extra else "", []).append(name)
    wanted.pop("all", None)  # the sum of the others
    for extra, names in wanted.items():
        found = {name: live.installed(name) for name in names}
        lacking = [name for name, number in found.items() if number is None]
        have = ", ".join(f"{name} {number}" for name, number in found.items() if number)
        if not extra:
            shown = f"lacking {', '.join(lacking)}" if lacking else have
            yield Check("packages", "failed" if lacking else "ok", shown, "make setup" if lacking else "")
        elif lacking:
            fix = f"pip install 'alphapanda[{extra}]', if you want it"
            yield Check(f"extra {extra}", "warning", f"not installed: {', '.join(lacking)}", fix)
        else:
            yield Check(f"extra {extra}", "ok", have)


def _tape() -> Iterator[Check]:
    from alphapanda.tapes.tape import Tape

    bundled = sorted(Path(__file__).parents[1].glob("data/*.parquet"))
    for path in bundled or [Path("no bundled day")]:
        try:
            tape = Tape.open(path)
            rows = sum(len(block) for block in tape.blocks(65_536))
        except AlphaPandaException as error:
            yield Check("bundled day", "failed", error.message, "reinstall: make setup")
        else:
            yield Check("bundled day", "ok", f"{path.stem}, {rows:,} ticks, seal {tape.digest[:12]} verified")


def _rulebook(today: dt.date) -> Iterator[Check]:
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
        yield Check("rulebook", "warning", f"{rules.version}: {error.message}", error.fix)
        return
    now = f"{today} closed ({closed})" if closed else f"{today} covered"
    ahead = f"next trading day {following} covered" if following else "no trading day in sight"
    doubts = len(rules.unconfirmed(following or today, [EXAMPLE]))
    extra = f"; {doubts} rules for NSE shares unconfirmed" if doubts else ""
    yield Check("rulebook", "ok", f"{rules.version}: {now}, {ahead}{extra}")


def _settings() -> Iterator[Check]:
    from alphapanda.settings import Settings

    try:
        settings = Settings.load()
    except ConfigurationError as error:
        yield Check("settings", "failed", error.message, error.fix)
    else:
        source = ".env and the environment" if Path(".env").exists() else "the environment"
        yield Check(
            "settings", "ok", f"{settings.profile}, namespace {settings.broker_namespace}, from {source}"
        )
        if settings.profile != "production":
            yield _for_production()


def _for_production() -> Check:
    """Whether the same settings would be taken where money is."""
    from alphapanda.settings import Settings

    try:
        Settings(_env_file=".env" if Path(".env").exists() else None, profile="production")
    except ConfigurationError as error:
        names = ", ".join(problem.name for problem in error.context["problems"])
        return Check(
            "for production",
            "warning",
            f"would be refused: {names}",
            "set ALPHAPANDA_PROFILE=production to see why",
        )
    return Check("for production", "ok", "the same settings are safe there")


def _zone() -> Iterator[Check]:
    try:
        ZoneInfo("Asia/Kolkata")
    except ZoneInfoNotFoundError:
        yield Check("time zone", "failed", "Asia/Kolkata is not known here", "pip install tzdata")
    else:
        yield Check(
            "time zone",
            "ok",
            f"exchange time is Asia/Kolkata; this machine's {time.tzname[0]} does not matter",
        )


def _writing() -> Iterator[Check]:
    places: tuple[tuple[str, Callable[[], str], State], ...] = (
        ("this folder", os.getcwd, "warning"),
        ("temporary files", tempfile.gettempdir, "failed"),
    )
    for what, folder, otherwise in places:
        try:
            with tempfile.TemporaryFile(dir=folder()):
                pass
        except OSError as error:
            fix = (
                "work in a folder you may write"
                if otherwise == "warning"
                else "set TMPDIR to a folder you may write"
            )
            yield Check(what, otherwise, f"not writable: {error.strerror}", fix)
        else:
            yield Check(what, "ok", "writable")


def _machine() -> Iterator[Check]:
    import loky  # pyright: ignore[reportMissingTypeStubs]

    cores: int = loky.cpu_count()
    yield Check("cores", "ok", f"{cores} for sweeps")
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
        low = total < MEMORY_LOW
        fix = "long tapes still run: they are read in chunks; sweep with workers=1" if low else ""
        yield Check("memory", "warning" if low else "ok", f"{total:,.1f} GB", fix)

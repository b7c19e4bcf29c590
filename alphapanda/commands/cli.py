"""The command line: ``alphapanda demo``, ``backtest``, ``doctor``, those of ``operate`` that run things, ``dlq``,
``alerts``, ``approve``, ``audit``, ``dashboard``, ``drift``, ``login``, ``preflight``, ``promote``, ``prove``,
``reconcile``, ``rollback``, ``sandbox``, ``schedule``, ``token``, ``verify`` and ``why``.

Exit codes: 0 all well; 1 a strategy was halted, a run or process failed or does not answer, or the doctor found
something required missing; 2 what was typed or given is wrong; 78 the settings are wrong; 130 interrupted. An error is
one block on stderr, a sentence and a fix; ``--debug`` shows where it was raised. Heavy imports wait until a command
needs them.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import os
import sys
import traceback
import webbrowser
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from alphapanda.commands import operate
from alphapanda.console import as_json, open_console
from alphapanda.errors import (
    AlphaPandaException,
    ConfigurationError,
    RulebookError,
    UnknownNameError,
    ValidationError,
)

if TYPE_CHECKING:
    from rich.console import Console

    from alphapanda.report.report import Report

OK, FAILED, USAGE, CONFIGURATION, INTERRUPTED = 0, 1, 2, 78, 130
COMMANDS = (
    "demo",
    "backtest",
    "doctor",
    *operate.COMMANDS,
    "dlq",
    "alerts",
    "approve",
    "audit",
    "dashboard",
    "drift",
    "login",
    "preflight",
    "promote",
    "prove",
    "reconcile",
    "rollback",
    "sandbox",
    "schedule",
    "token",
    "verify",
    "why",
)
LAZY = {  # commands in a module of their own, which has add_arguments and run: imported when one is typed
    "alerts": ("alphapanda.commands.alerts", "what needs a person, and who has seen it"),
    "approve": ("alphapanda.commands.approve", "be the second person who lets a strategy go live"),
    "audit": ("alphapanda.commands.audit", "who approved what for money, and whether that was changed"),
    "dashboard": ("alphapanda.commands.dashboard", "open a page in the browser: portfolio, errors, runs"),
    "drift": ("alphapanda.commands.drift", "two runs of one strategy beside each other"),
    "login": ("alphapanda.commands.login", "log in to the broker"),
    "preflight": ("alphapanda.commands.preflight", "is everything in place for a day with money?"),
    "promote": ("alphapanda.commands.promote", "let what was proved trade with money, once typed"),
    "prove": (
        "alphapanda.commands.prove",
        "the same decisions in every lane, and from nothing but the ticks",
    ),
    "schedule": ("alphapanda.commands.schedule", "notebooks that run by themselves"),
    "verify": ("alphapanda.commands.verify", "is a certificate what it was, and does it hold?"),
    "reconcile": (
        "alphapanda.commands.reconcile",
        "our books beside the broker's, and what a person has settled",
    ),
    "rollback": ("alphapanda.commands.rollback", "one step back to the version that was live before"),
    "sandbox": ("alphapanda.sandbox.command", "a local Kite Connect to practise on"),
    "token": ("alphapanda.commands.token", "who may use the API and the pages"),
    "why": ("alphapanda.commands.why", "why an order is as it is"),
}
DAY = "2026-11-20"  # bundled
HOME = ".alphapanda"  # in the current folder: what commands leave behind, ignored by git


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    try:
        options = _parser(_checked(given)).parse_args(given)
        commands = {
            "demo": demo,
            "backtest": backtest,
            "doctor": _doctor,
            **operate.COMMANDS,
            "dlq": _dead_letters,
            **dict.fromkeys(LAZY, _lazy),
        }
        return commands[options.command](options)
    except SystemExit as stop:  # argparse: help and version
        return stop.code if isinstance(stop.code, int) else USAGE
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `alphapanda demo | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except AlphaPandaException as error:
        if debug:
            traceback.print_exc()
        else:
            _tell(error.message, error.fix, error.code)
        if isinstance(error, ConfigurationError):
            return CONFIGURATION
        return USAGE if isinstance(error, ValidationError | RulebookError) else FAILED
    except Exception as error:  # noqa: BLE001 - the last stop before a person: one block, and --debug for the rest
        if debug:
            traceback.print_exc()
        else:
            _tell(
                f"{type(error).__name__}: {error}", "run it again with --debug to see where", "E_UNEXPECTED"
            )
        return FAILED


# ── what was typed ───────────────────────────────────────────────────────────────────────────────────────────────


class Parser(argparse.ArgumentParser):
    """argparse, with its complaints in the same block as every other error."""

    def error(self, message: str) -> NoReturn:
        raise ValidationError(message, fix=f"see {self.prog} --help", code="E_USAGE")


def _checked(given: list[str]) -> str | None:
    """The command that was typed."""
    command = next((word for word in given if not word.startswith("-")), None)
    if command is not None and command not in COMMANDS:
        raise UnknownNameError("command", command, COMMANDS, code="E_USAGE")
    return command


def _parser(command: str | None) -> Parser:
    """Every command's arguments; those that need heavy imports wait until their command is typed."""
    shared = Parser(add_help=False)
    shared.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show where an error was raised"
    )
    parser = Parser(
        prog="alphapanda",
        description="Trading research to live on Indian markets.",
        parents=[shared],
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"alphapanda {version('alphapanda')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    commands.required = True

    one = commands.add_parser(
        "demo", parents=[shared], help="a market running, two strategies on paper", allow_abbrev=False
    )
    one.add_argument("--seconds", type=_positive, metavar="N", help="end after so long; else with Ctrl-C")
    one.add_argument(
        "--speed", type=_positive, default=60.0, metavar="X", help="times as fast as a real market (60)"
    )
    one.add_argument("--recorded", action="store_true", help="a backtest of the bundled day instead")
    one.add_argument(
        "--out",
        type=Path,
        default=Path(HOME),
        metavar="DIR",
        help=f"with --recorded: folder of the page ({HOME})",
    )
    one.add_argument("--no-open", action="store_true", help="with --recorded: do not open it in a browser")

    two = commands.add_parser(
        "backtest", parents=[shared], help="one strategy over your data", allow_abbrev=False
    )
    two.add_argument(
        "strategy", metavar="FILE:Class", help="a Python file, or module, and the Strategy class in it"
    )
    two.add_argument(
        "--data",
        required=True,
        nargs="+",
        metavar="DATA",
        help="a day such as 2026-11-20, or CSV/Parquet files",
    )
    two.add_argument("--symbol", help="the symbol of files without such a column: NSE:INFY")
    two.add_argument("--timezone", help="the zone of times without one: Asia/Kolkata")
    two.add_argument(
        "--tradable", action="store_true", default=None, help="let an index stand for a future on itself"
    )
    two.add_argument(
        "--param", action="append", default=[], metavar="NAME=VALUE", help="a parameter; may be repeated"
    )
    two.add_argument(
        "--capital", type=_rupees, default=1_000_000.0, metavar="RUPEES", help="1000000 unless given"
    )
    two.add_argument("--html", type=Path, metavar="PATH", help="write the report as a page")
    two.add_argument("--json", action="store_true", help="print the statistics as JSON instead of tables")

    three = commands.add_parser(
        "doctor", parents=[shared], help="is everything in place here?", allow_abbrev=False
    )
    three.add_argument("--reap", action="store_true", help="end processes that a killed hub left behind")

    operate.add_commands(partial(commands.add_parser, parents=[shared], allow_abbrev=False))
    last = commands.add_parser(
        "dlq", parents=[shared], help="messages that could not be handled", allow_abbrev=False
    )
    if command == "dlq":
        from alphapanda.commands import dlq

        dlq.add_arguments(last)
    for name, (module, what) in LAZY.items():
        one = commands.add_parser(name, parents=[shared], help=what, allow_abbrev=False)
        if command == name:
            _module_of(module).add_arguments(one)
    return parser


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 < number < 1e5:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 100,000")
    return number


def _rupees(text: str) -> float:
    try:
        amount = float(text.replace(",", "").replace("_", ""))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount of rupees") from None
    if not 0 < amount < 1e13:
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount above 0")
    return amount


def _tell(message: str, fix: str, code: str) -> None:
    from rich.text import Text

    from alphapanda.report.text import clean

    lines = Text.assemble(("error  ", "bold red"), clean(message), (f"  [{code}]", "bright_black"))
    if fix:
        lines.append("\n  fix  ", "bold green")
        lines.append(clean(fix))
    open_console(stderr=True).print(lines, soft_wrap=True, highlight=False)


# ── demo ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def demo_report() -> Report:
    """The shipped strategies over the bundled day, on one account with limits that bite."""
    import alphapanda as ap
    from alphapanda.examples import OpeningBreakout, VwapReversion
    from alphapanda.tapes.readers import tape

    return ap.backtest(
        [OpeningBreakout(), VwapReversion()],
        tape(Path(__file__).parents[1] / "data" / f"{DAY}.parquet"),
        limits=ap.Limits(position_notional=350_000, gross_exposure=1_000_000, daily_loss=25_000),
        fills=ap.Fills(participation=0.1, latency_ms=50, slippage_bps=1.0),
        progress=sys.stderr.isatty(),
    )


def demo(options: argparse.Namespace) -> int:
    """Two strategies trade a running market on paper; or, with ``--recorded``, what they did on a recorded day."""
    if not options.recorded:
        from alphapanda.commands.demo import demo as live

        return live(open_console(), _folder(Path(HOME)).resolve() / "demo", options.seconds, options.speed)
    return _recorded_demo(options)


def _recorded_demo(options: argparse.Namespace) -> int:
    console = open_console()
    console.print(
        f"Two example strategies over the bundled synthetic day {DAY}: no account, no network.\n",
        style="bold",
    )
    report = demo_report()
    console.print(report)
    page = _folder(options.out) / "demo.html"
    report.to_html(page)
    _next(console, page)
    if not options.no_open and _has_screen():
        webbrowser.open(page.resolve().as_uri())
    return FAILED if report.halted else OK


def _next(console: Console, page: Path) -> None:
    from rich.text import Text

    steps = Text("\n")
    for what, how in (
        ("the same with charts", str(page)),
        ("the strategies", _near(Path(__file__).parents[1] / "examples.py")),
        ("ten minutes, step by step", "make notebooks, then open 00_start.ipynb"),
        (
            "your own",
            "alphapanda backtest mine.py:MyStrategy --data ticks.csv --symbol NSE:INFY --timezone Asia/Kolkata",
        ),
    ):
        steps.append(f"{what:<27}", "bright_black")
        steps.append(f"{how}\n", "bold")
    console.print(steps, soft_wrap=True, highlight=False)


def _near(path: Path) -> str:
    """As seen from here, where it lies below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _folder(folder: Path) -> Path:
    """The folder, made if missing; ours says itself that git need not look."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if folder == Path(HOME):
            (folder / ".gitignore").write_text("*\n", "utf-8")
    except OSError as error:
        raise _unwritable(folder, error) from None
    return folder


def _unwritable(path: Path, error: OSError) -> ValidationError:
    return ValidationError(
        f"{path} cannot be written: {error.strerror}",
        fix="name a folder of your own, such as --out /tmp",
        code="E_FILE",
    )


def _has_screen() -> bool:
    if not sys.stdout.isatty() or "CI" in os.environ:
        return False
    return sys.platform in ("darwin", "win32") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )


# ── backtest ─────────────────────────────────────────────────────────────────────────────────────────────────────


def backtest(options: argparse.Namespace) -> int:
    """One strategy of the user's over the user's data."""
    import alphapanda as ap
    from alphapanda.commands.strategies import made_of

    strategy = made_of(options.strategy, options.param)
    reader = {
        name: getattr(options, name)
        for name in ("symbol", "timezone", "tradable")
        if getattr(options, name) is not None
    }
    data = options.data[0] if len(options.data) == 1 else options.data
    show = sys.stderr.isatty() and not options.json
    report = ap.backtest(strategy, data, capital=options.capital, progress=show, **reader)
    if options.json:
        found: dict[str, Any] = {
            "strategy": strategy.name,
            "parameters": strategy.params,
            "digest": report.digest,
            "halted": report.halted,
            "stats": dict(report.stats),
            "denials": dict(report.denied),
            "notes": report.result.notes,
        }
        sys.stdout.write(as_json(found))
    else:
        open_console().print(report)
    if options.html is not None:
        try:
            page = report.to_html(options.html)
        except OSError as error:
            raise _unwritable(options.html, error) from None
        print(f"report: {page}", file=sys.stderr)
    return FAILED if report.halted else OK


# ── doctor ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _doctor(options: argparse.Namespace) -> int:
    from alphapanda.checks import table, worse
    from alphapanda.commands.doctor import LOOKS, findings
    from alphapanda.events import IST

    today = dt.datetime.now(IST).date()  # noqa: TID251 - a shell asks the clock; nothing decides on it
    found = findings(today, reap=options.reap)
    open_console().print(table(found, LOOKS))
    return FAILED if worse(found) == "failed" else OK


def _dead_letters(options: argparse.Namespace) -> int:
    from alphapanda.commands import dlq

    return dlq.command(options)


def _lazy(options: argparse.Namespace) -> int:
    return _module_of(LAZY[options.command][0]).run(options)


def _module_of(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigurationError(
            f"{error.name} is not installed", fix="pip install 'alphapanda[live,kite]'", code="E_EXTRA"
        ) from None

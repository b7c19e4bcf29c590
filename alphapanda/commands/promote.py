"""``alphapanda promote CERTIFICATE``: let the module in a certificate trade with money, once a person has typed it."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

from alphapanda.certificate import Certificate, read
from alphapanda.console import open_console, say
from alphapanda.errors import ValidationError
from alphapanda.hub.client import ensure_hub
from alphapanda.promotions.begin import begin, said
from alphapanda.promotions.promote import asked, confirm, prepare
from alphapanda.settings import Settings
from alphapanda.workspace import Workspace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``alphapanda promote``."""
    parser.add_argument("certificate", type=Path, help="the file that `alphapanda prove` wrote")
    parser.add_argument("--to", default="zerodha", metavar="NAMESPACE", help="where it goes (zerodha)")
    parser.add_argument(
        "--strategy", help="refuse unless this class is the one that was proved: mine.ipynb:MyStrategy"
    )
    parser.add_argument(
        "--param", action="append", default=[], metavar="NAME=VALUE", help="a parameter of that class"
    )
    parser.add_argument(
        "--limit", action="append", default=[], metavar="NAME=VALUE", help="as daily_loss=2000"
    )
    parser.add_argument("--capital", type=float, help="rupees; else the settings'")
    parser.add_argument(
        "--auto-resume", action="store_true", help="go on by itself after a crash, not paused"
    )
    parser.add_argument("--confirm", help="the phrase, where nobody can type it")
    parser.add_argument("--why", default="", help="kept with the approval")


def run(options: argparse.Namespace) -> int:
    """Show, ask, arm, start."""
    from alphapanda.commands.strategies import made_of

    workspace, settings, console = Workspace.find(), Settings.load(), open_console()
    certificate = _read(options.certificate)
    strategy = made_of(options.strategy, options.param) if options.strategy else certificate
    capital = None if options.capital is None else round(options.capital * 100)
    preparing = prepare(
        workspace, settings, strategy, certificate, options.to, limits=limits_of(options.limit), capital=capital,
        auto_resume=options.auto_resume, reason=options.why,
    )  # fmt: skip
    plan = asyncio.run(preparing)
    console.print(str(plan), markup=False, highlight=False, soft_wrap=True)
    typed = asked(plan) if options.confirm is None else options.confirm
    record = confirm(workspace, settings, plan, typed)
    answer = begin(ensure_hub(workspace), settings, record, certificate)
    say(console, f"{said(answer, record)}; `alphapanda status`", "green")
    return 0


def _read(path: Path) -> Certificate:
    try:
        return read(path)
    except OSError as error:
        raise ValidationError(
            f"{path} cannot be read: {error.strerror}",
            fix="name the file that `alphapanda prove` wrote",
            code="E_FILE",
        ) from None


def limits_of(given: list[str]) -> dict[str, Any]:
    """``name=value`` pairs as limits."""
    found: dict[str, Any] = {}
    for text in given:
        name, _, value = text.partition("=")
        try:
            found[name] = json.loads(value)
        except ValueError:
            raise ValidationError(
                f"--limit {text!r} is no limit", fix="write --limit daily_loss=2000", code="E_LIMIT"
            ) from None
    return found

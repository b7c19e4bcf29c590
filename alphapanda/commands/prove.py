"""``alphapanda prove``: the same decisions in every lane, and from nothing but the ticks."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from alphapanda.console import as_json, open_console

OK, FAILED = 0, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See ``alphapanda prove --help``."""
    parser.add_argument(
        "strategy", help="mine.ipynb, mine.py:MyStrategy, package.module:MyStrategy; or a RUN with --live"
    )
    parser.add_argument(
        "--tape", nargs="+", metavar="DAY", help="a recorded day (2026-11-20), or files of ticks"
    )
    parser.add_argument(
        "--live", action="store_true", help="derive a past run's orders again from its tape and journal"
    )
    parser.add_argument(
        "--param", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the class"
    )
    parser.add_argument("--symbol", help="of a file of one instrument")
    parser.add_argument("--timezone", help="of a file's times")
    parser.add_argument(
        "--tradable", action="store_true", default=None, help="trade an index as if it were a share"
    )
    parser.add_argument("--capital", type=float, help="rupees; else the settings'")
    parser.add_argument("--start", help="first day to trade; earlier ones warm up")
    parser.add_argument("--out", type=Path, help="where the certificate goes (NAME.certificate.json)")
    parser.add_argument("--html", type=Path, help="the proof as a page")
    parser.add_argument("--json", action="store_true", help="for programs")


def run(options: argparse.Namespace) -> int:
    """Prove, show, and write the certificate."""
    import alphapanda as ap
    from alphapanda.commands.strategies import made_of
    from alphapanda.errors import ValidationError
    from alphapanda.proofs.shown import page

    if options.live:
        return _live(options)
    if not options.tape:
        raise ValidationError(
            "a proof needs ticks", fix="say --tape 2026-11-20, or --tape FILE", code="E_USAGE"
        )
    reader = {n: v for n in ("symbol", "timezone", "tradable") if (v := getattr(options, n)) is not None}
    data = options.tape[0] if len(options.tape) == 1 else options.tape
    strategy = made_of(options.strategy, options.param)
    proof = ap.prove(
        strategy, data, capital=options.capital, start=options.start, progress=not options.json, **reader
    )
    path = proof.save(options.out or Path(f"{proof.case.name}.certificate.json"))
    if options.json:
        found = {
            "strategy": proof.case.name, "passed": proof.passed, "digest": proof.digest, "certificate": str(path),
            "class": proof.case.capsule.digest, "checks": [msgspec.to_builtins(check) for check in proof.checks],
            "difference": None if proof.difference is None else msgspec.to_builtins(proof.difference),
        }  # fmt: skip
        sys.stdout.write(as_json(found))
    else:
        open_console().print(repr(proof), markup=False, highlight=False, soft_wrap=True)
        open_console(stderr=True).print(f"certificate: {path}", markup=False, soft_wrap=True)
    if options.html is not None:
        options.html.write_text(page(proof), "utf-8")
    return OK if proof.passed else FAILED


def _live(options: argparse.Namespace) -> int:
    """A run that was, once more."""
    from alphapanda.proofs.incident import incident
    from alphapanda.settings import Settings
    from alphapanda.workspace import Workspace

    found = incident(Workspace.find(), options.strategy, Settings.load())
    open_console().print(repr(found), markup=False, highlight=False, soft_wrap=True)
    return OK if found.passed else FAILED

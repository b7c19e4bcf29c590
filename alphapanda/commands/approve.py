"""``alphapanda approve NUMBER``: the second person's word on a request, given with a key of their own."""

from __future__ import annotations

import argparse
import difflib

from alphapanda.commands.audit import moment
from alphapanda.console import open_console, say
from alphapanda.errors import ValidationError
from alphapanda.money import rupees
from alphapanda.promotions.approvals import approve, requested
from alphapanda.promotions.ledger import Ledger
from alphapanda.promotions.records import Record
from alphapanda.settings import Settings
from alphapanda.signing import Signer
from alphapanda.workspace import Workspace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``alphapanda approve``."""
    parser.add_argument("number", type=int, help="of the request, as `alphapanda audit` shows it")
    parser.add_argument("--account", help="the account's id, typed; asked for if left out")
    parser.add_argument("--reason", default="", help="kept with the approval")


def run(options: argparse.Namespace) -> int:
    """Show what was asked for, ask for the account, and sign."""
    console, signer = open_console(), Signer.load()
    with Ledger.open(Workspace.find(), Settings.load(), signer) as ledger:
        request = requested(ledger, signer, options.number)
        say(console, _shown(ledger, request))
        typed = options.account if options.account is not None else input("the account's id, to approve: ")
        if typed.strip() != request.account:
            raise ValidationError(
                f"{typed!r} is not the account of this request: nothing was approved",
                fix="type it as it is shown",
            )
        done = approve(ledger, signer, options.number, options.reason)
    say(
        console,
        f"record {done.number}: {done.strategy} may go live once, until {moment(done.expires_at)}",
        "green",
    )
    return 0


def _shown(ledger: Ledger, request: Record) -> str:
    """What the second person is asked to sign."""
    new = ledger.artifact(request.digest)
    old = ledger.last_promoted(request.strategy, request.namespace)
    diff = difflib.unified_diff(
        (old or "").splitlines(), new.splitlines(), "went live last", "asked for", lineterm=""
    )
    limits = ", ".join(f"{name} {value}" for name, value in request.limits.items()) or "the namespace's"
    return "\n".join(
        (
            f"{request.actor} asks: {request.strategy} in {request.namespace}, account {request.account}",
            f"module      {request.digest}",
            f"parameters  {ledger.artifact(request.parameters)}",
            f"capital     {rupees(request.capital)}    limits {limits}",
            f"until       {moment(request.expires_at)}    after a crash: "
            + ("goes on" if request.auto_resume else "paused"),
            f"reason      {request.reason}",
            *(diff if old != new else ["the module is the one that went live last"]),
        )
    )

"""``session.promote``: a person sees what goes live, types a phrase, and gets the handle of the live run."""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alphapanda.certificate import Certificate, read
from alphapanda.errors import AuthorizationError
from alphapanda.notebook import shown
from alphapanda.notebook.connecting import connect
from alphapanda.notebook.waits import in_thread
from alphapanda.promotions.promote import Plan, confirm, prepare, refuse_waiting, roll_back
from alphapanda.report import page
from alphapanda.report.page import Column
from alphapanda.strategy import Strategy

if TYPE_CHECKING:
    from alphapanda.notebook.handle import Run
    from alphapanda.notebook.session import Session
    from alphapanda.proofs.proof import Proof
    from alphapanda.risk import Limits


def certificate_of(proof: Proof | Certificate | str | Path) -> Certificate:
    """The certificate of a proof, or of its file."""
    if isinstance(proof, Certificate):
        return proof
    return read(proof) if isinstance(proof, str | Path) else proof.certificate


async def promote(
    session: Session,
    strategy: Strategy,
    proof: Proof | Certificate | str | Path,
    to: str,
    limits: Limits | dict[str, Any],
    *,
    capital: float | None,
    auto_resume: bool,
    typed: str | None,
    why: str,
) -> Run:
    """See ``Session.promote``."""
    workspace, settings = session.workspace, session.settings
    certificate = await in_thread(certificate_of, proof)
    plan = await prepare(
        workspace, settings, strategy, certificate, to, limits=limits,
        capital=None if capital is None else round(capital * 100), auto_resume=auto_resume, reason=why,
    )  # fmt: skip
    _show(plan)
    said = _asked(plan) if typed is None else typed
    record = await in_thread(confirm, workspace, settings, plan, said)
    refuse_waiting(record)
    target = await connect(to, workspace=workspace.root, quiet=session.quiet)
    return await target.run(
        strategy,
        capital=plan.capital / 100,
        detach=True,
        replace=True,
        seed=certificate.seed,
        name=certificate.strategy,
    )


async def rollback(session: Session, name: str, to: str, why: str) -> str:
    """See ``Session.rollback``."""
    from alphapanda.promotions.promote import question

    record, certificate = await in_thread(roll_back, session.workspace, session.settings, name, to, why)
    refuse_waiting(record)
    answer = await in_thread(session.hub.ask, question(certificate, to, record.capital), 60.0)
    return answer["run"]


def _asked(plan: Plan) -> str:
    """What the person types; where nobody can, say how else."""
    try:
        return input(f"type {plan.phrase!r} to let it trade: ")
    except (EOFError, RuntimeError) as error:  # a notebook that runs without a person
        raise AuthorizationError(
            "nobody is there to confirm",
            fix=f"confirm={plan.phrase!r}, if that is what you want",
            code="E_PROMOTION",
        ) from error


def _show(plan: Plan) -> None:
    if shown.kernel() is None:
        sys.stdout.write(f"{plan}\n")
        return
    shown.show({"text/plain": str(plan), "text/html": _html(plan)})


def _html(plan: Plan) -> str:
    facts = "".join(f"<tr><td>{escape(n)}</td><td class='w'>{escape(v)}</td></tr>" for n, v in plan.lines())
    title = f"{plan.certificate.strategy} to {plan.namespace}"
    marks = {"+": "ap-gain", "-": "ap-loss"}
    lines = "\n".join(f'<span class="{marks.get(x[:1], "")}">{escape(x)}</span>' for x in plan.difference)
    looks = {"ok": "✓", "warning": "!", "failed": "✗"}
    checks = [
        Column("", lambda c: looks[c.state]),
        Column("preflight", lambda c: c.what),
        Column("what was found", lambda c: f"{c.shown}{c.fix and '; ' + c.fix}", "w"),
    ]
    return (
        f'<style>{page.CSS}</style><div class="ap"><h3>{escape(title)}</h3>'
        f"<table>{facts}</table><pre>{lines}</pre>{page.table(plan.checks, checks)}</div>"
    )

"""``session.promote``: a person sees what goes live, types a phrase, and gets the handle of the live run."""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alphapanda.capsule import Capsule, freeze
from alphapanda.certificate import Certificate, read
from alphapanda.notebook import shown
from alphapanda.notebook.connecting import connect
from alphapanda.notebook.waits import in_thread
from alphapanda.promotions.begin import begin, question, roll_back, said
from alphapanda.promotions.promote import Plan, asked, confirm, prepare
from alphapanda.promotions.records import Record
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
    words = asked(plan) if typed is None else typed
    record = await in_thread(confirm, workspace, settings, plan, words)
    return await _begun(session, record, certificate, freeze(strategy))


async def rollback(session: Session, name: str, to: str, why: str) -> Run:
    """See ``Session.rollback``."""
    record, certificate = await in_thread(roll_back, session.hub, session.settings, name, to, why)
    capsule = Capsule(certificate.source, certificate.digest, certificate.class_name)
    return await _begun(session, record, certificate, capsule)


async def _begun(session: Session, approval: Record, certificate: Certificate, capsule: Capsule) -> Run:
    """The handle of an approval's run, in its namespace's session."""
    target = await connect(approval.namespace, workspace=session.workspace.root, quiet=session.quiet)
    answer = await in_thread(begin, target.hub, session.settings, approval, certificate)
    if not session.quiet:
        sys.stdout.write(said(answer, approval) + "\n")
    return target.handle(answer["run"], question(certificate, approval), capsule)


def _show(plan: Plan) -> None:
    if shown.kernel() is None:
        sys.stdout.write(f"{plan}\n")
        return
    shown.show({"text/plain": str(plan), "text/html": _html(plan)})


def _html(plan: Plan) -> str:
    title = f"{plan.certificate.strategy} to {plan.namespace}"
    facts = [Column("what goes live", lambda line: line[0]), Column("", lambda line: line[1], "w")]
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
        f"{page.table(plan.lines(), facts)}<pre>{lines}</pre>{page.table(plan.checks, checks)}</div>"
    )

"""From a certificate to money: what a person is shown, what has to be typed, and the approval that comes of it.

    plan = await prepare(workspace, settings, strategy, certificate, "zerodha", limits=..., capital=...)
    print(plan)                             # digest, difference to what went live last, limits, preflight, until when
    approval = confirm(plan, typed)         # the phrase: the account's id and the strategy's name

Nothing is ordered here. The approval is good for one run of just this module, until the session ends; the gateway asks
for it before it takes the run up.
"""

from __future__ import annotations

import datetime as dt
import difflib
from typing import Any

import msgspec

from alphapanda.capsule import freeze, parameters_of
from alphapanda.certificate import Certificate
from alphapanda.checks import Check, worse
from alphapanda.clock import wall_ns
from alphapanda.errors import AlphaPandaException, AuthorizationError, ConfigurationError, ValidationError
from alphapanda.events import SECOND, ist
from alphapanda.gateway import limits_of
from alphapanda.instruments import Instrument
from alphapanda.money import rupees
from alphapanda.promotions import approvals
from alphapanda.promotions.ledger import Ledger
from alphapanda.promotions.records import Record, canonical, parameters_digest
from alphapanda.promotions.states import ARMED, CERTIFIED, CODE
from alphapanda.registry import default_instrument
from alphapanda.risk import Limits
from alphapanda.rulebook import Rulebook
from alphapanda.run_desk import refuse_looser
from alphapanda.settings import Settings
from alphapanda.signing import Signer
from alphapanda.strategy import Strategy
from alphapanda.traders.base import Trader
from alphapanda.traders.factory import trader_class
from alphapanda.workspace import Workspace

DAYS_AHEAD = 10  # in which some session has to be
PRACTICE_HOURS = 8  # an approval for a sandbox, whose day need not be today
ROWS = 60  # of a difference that are shown


class Plan(msgspec.Struct, kw_only=True):
    """All that a person has to see before money. ``capital`` is paise, ``expires_at`` wall ns; ``old`` is the module
    that went live last, "" if none did."""

    certificate: Certificate
    namespace: str
    account: str
    limits: dict[str, Any]
    capital: int
    auto_resume: bool
    expires_at: int
    old: str
    checks: list[Check]
    reason: str = ""

    @property
    def phrase(self) -> str:
        """What has to be typed."""
        return f"{self.account} {self.certificate.strategy}"

    @property
    def difference(self) -> list[str]:
        """The module beside the one that went live last, as a unified diff."""
        new = self.certificate.source.splitlines()
        if not self.old:
            return [f"nothing of {self.certificate.strategy} went live here before: {len(new)} lines are new"]
        found = list(difflib.unified_diff(self.old.splitlines(), new, "went live last", "now", lineterm=""))
        left = len(found) - ROWS
        return [*found[:ROWS], *([f"... and {left} lines more"] if left > 0 else [])] or [
            "the module is the one that went live last, byte for byte"
        ]

    def lines(self) -> list[tuple[str, str]]:
        """The facts, named."""
        one = self.certificate
        limits = ", ".join(
            f"{name} {value:,}" if isinstance(value, int | float) else f"{name} {value}"
            for name, value in self.limits.items()
        )
        return [
            ("strategy", f"{one.strategy} {one.parameters or ''}".strip()),
            ("symbols", ", ".join(one.symbols)),
            ("class", one.digest),
            (
                "proved on",
                f"{', '.join(one.tape.days)}: {one.decisions} decisions, {len(one.checks)} checks passed",
            ),
            ("goes to", f"{self.namespace}, account {self.account}, capital {rupees(self.capital)}"),
            ("limits", limits),
            ("until", f"{ist(self.expires_at):%A %Y-%m-%d %H:%M}"),
            ("after a crash", "goes on by itself" if self.auto_resume else "comes back paused"),
        ]

    def __str__(self) -> str:
        rows = [f"{name:<14} {value}" for name, value in self.lines()]
        rows += ["", *self.difference, ""]
        rows += [f"{check.state:<8} {check.what}: {check.shown}" for check in self.checks]
        return "\n".join(rows)


async def prepare(
    workspace: Workspace,
    settings: Settings,
    strategy: Strategy | Certificate,
    certificate: Certificate,
    namespace: str,
    *,
    limits: Limits | dict[str, Any],
    capital: int | None = None,
    auto_resume: bool = False,
    reason: str = "",
) -> Plan:
    """Everything that can be refused before a person is asked, is refused here: AuthorizationError (E_PROMOTION) names
    what differs from what was proved, ValidationError a limit that the namespace does not have."""
    if isinstance(strategy, Strategy):
        same_as_proved(strategy, certificate)
    _proved(certificate)
    named = named_limits(limits)
    refuse_looser(named, limits_of(settings))
    kind = trader_class(namespace).made_for(settings)
    checks = await kind.preflight(settings, workspace)
    signer = Signer.load()
    with Ledger.open(workspace, settings, signer) as ledger:
        ledger.sound()
        old = ledger.last_promoted(certificate.strategy, namespace) or ""
    return Plan(
        certificate=certificate, namespace=namespace, account=kind.account(settings) or namespace, limits=named,
        capital=capital or round(settings.paper_trading.starting_cash * 100), auto_resume=auto_resume,
        expires_at=session_end(certificate.symbols, kind, settings, wall_ns()), old=old, checks=checks, reason=reason,
    )  # fmt: skip


def asked(plan: Plan) -> str:
    """What the person at the keyboard types. AuthorizationError where there is none."""
    try:
        return input(f"type {plan.phrase!r} to let it trade: ")
    except (EOFError, RuntimeError) as error:  # no terminal, or a notebook that runs by itself
        raise AuthorizationError(
            "nobody is there to confirm",
            fix=f"run it where you can type; or give the phrase itself, if that is what you want: {plan.phrase!r}",
            code=CODE,
        ) from error


def confirm(workspace: Workspace, settings: Settings, plan: Plan, typed: str) -> Record:
    """The person's word: the version is put on record as far as it has come, and armed. Where a second person has to
    approve, the record is a request (state CERTIFIED) unless that has been done. AuthorizationError if a check failed
    or something else than the phrase was typed."""
    if worse(plan.checks) == "failed":
        failed = "; ".join(f"{one.what}: {one.shown}" for one in plan.checks if one.state == "failed")
        raise AuthorizationError(
            f"not ready: {failed}", fix="alphapanda preflight, then promote again", code=CODE
        )
    if typed.strip() != plan.phrase:
        raise AuthorizationError(
            f"{typed.strip()!r} is not {plan.phrase!r}: nothing was promoted",
            fix="type the account's id and the strategy's name as they are shown",
            code=CODE,
        )
    signer = Signer.load()
    with Ledger.open(workspace, settings, signer) as ledger:
        approved = by_the_second(
            ledger, plan.certificate, plan.namespace, capital=plan.capital, limits=plan.limits
        )
        if approved is not None:
            return approved
        _brought_up(ledger, signer, plan.certificate)
        return approvals.arm(
            ledger, signer, plan.certificate, namespace=plan.namespace, account=plan.account, limits=plan.limits,
            capital=plan.capital, expires_at=plan.expires_at, auto_resume=plan.auto_resume, reason=plan.reason,
        )  # fmt: skip


def _brought_up(ledger: Ledger, signer: Signer, certificate: Certificate) -> None:
    """The version through the states before ARMED: what is on record is not repeated."""
    stands = approvals.standing(ledger, certificate)
    if stands is None:
        approvals.draft(ledger, signer, certificate)
        approvals.paper(ledger, signer, certificate)
    elif stands.state not in ("PAPER", CERTIFIED):
        approvals.paper(ledger, signer, certificate)
    if stands is None or stands.certificate != certificate.identity:
        approvals.certify(ledger, signer, certificate)


def by_the_second(
    ledger: Ledger, one: Certificate, namespace: str, *, capital: int, limits: dict[str, Any]
) -> Record | None:
    """An approval on these terms by two people, that no run has used yet."""
    terms = (namespace, one.digest, parameters_digest(one.parameters), capital, canonical(limits))
    for record in reversed(ledger.history(one.strategy)):
        if (
            record.act == "approve"
            and ledger.thread(record.number)[-1].state == ARMED
            and (record.namespace, record.digest, record.parameters, record.capital, record.limits_json)
            == terms
            and record.expires_at > wall_ns()
        ):
            return record
    return None


def same_as_proved(strategy: Strategy, certificate: Certificate) -> None:
    """AuthorizationError (E_PROMOTION) names the first thing in which a strategy is not the one that was proved."""
    capsule = freeze(strategy)
    if capsule.digest != certificate.digest:
        old, new = certificate.source.splitlines(), capsule.source.splitlines()
        marked = difflib.unified_diff(old, new, lineterm="", n=0)
        changed = [line for line in marked if not line.startswith(("---", "+++", "@@"))]
        raise AuthorizationError(
            f"{strategy.name} is not the class that was proved: {len(changed)} lines differ, first {changed[0]!r}",
            fix="prove it as it is now: ap.prove(...); a changed class starts at DRAFT",
            code=CODE,
        )
    for what, proved, found in (
        ("name", certificate.strategy, strategy.name),
        ("parameters", certificate.parameters, parameters_of(strategy)),
        ("symbols", sorted(certificate.symbols), sorted(strategy.symbols or certificate.symbols)),
    ):
        if proved != found:
            raise AuthorizationError(
                f"the {what} of {strategy.name} are {found}, and {proved} were proved",
                fix="prove it with these: ap.prove(...)",
                code=CODE,
            )


def _proved(certificate: Certificate) -> None:
    if not certificate.passed:
        failed = ", ".join(one.name for one in certificate.checks if not one.passed) or "the lanes differ"
        raise AuthorizationError(
            f"the proof of {certificate.strategy} failed: {failed}",
            fix="mend it, and prove it again",
            code=CODE,
        )


def named_limits(limits: Limits | dict[str, Any]) -> dict[str, Any]:
    """Those limits that were set. ConfigurationError if none was: money needs one."""
    given = limits if isinstance(limits, dict) else msgspec.structs.asdict(limits)
    usual = msgspec.structs.asdict(Limits())
    named = {name: value for name, value in given.items() if isinstance(limits, dict) or value != usual[name]}
    if not named:
        raise ConfigurationError(
            "a promotion without limits",
            fix="say what it may do at most: limits=ap.Limits(position_notional=100_000, daily_loss=2_000)",
            code="E_LIMIT",
        )
    return named


def session_end(symbols: tuple[str, ...], kind: type[Trader], settings: Settings, now: int) -> int:
    """When the last of today's sessions of these symbols ends, wall ns; of the next day with one, if they are over."""
    if kind.is_practice(settings):
        return now + PRACTICE_HOURS * 3600 * SECOND
    rules, instruments = Rulebook.load(), [default_instrument(symbol) for symbol in symbols]
    day = ist(now).date()
    for _ in range(DAYS_AHEAD):
        ends = [session.close_ns for one in instruments if (session := _session(rules, one, day)) is not None]
        if ends and max(ends) > now:
            return max(ends)
        day += dt.timedelta(days=1)
    raise ValidationError(
        f"no session of {', '.join(symbols)} within {DAYS_AHEAD} days",
        fix="update the rulebook",
        code="E_RULEBOOK",
    )


def _session(rules: Rulebook, instrument: Instrument, day: dt.date) -> Any:
    try:
        return rules.session(instrument, day)
    except AlphaPandaException:
        return None

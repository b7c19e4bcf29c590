"""Runs that arrive at a gateway, runs that come back to it, and those whose approval ends.

A new run is asked for its approval where money is behind it, and for limits that are stricter than the account's; what
is refused is told to its runner, which ends with the reason. A run whose runner or gateway was away may have missed
what mattered: unless that was agreed to be harmless it comes back paused.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import msgspec

from alphapanda import logs
from alphapanda.admission import PROMOTE, refuse_changed
from alphapanda.clock import monotonic, wall_ns
from alphapanda.errors import AuthorizationError, ConfigurationError, ValidationError
from alphapanda.events import EventEnvelope
from alphapanda.run_desk import refuse_looser
from alphapanda.workspace import RunSpec

if TYPE_CHECKING:
    from alphapanda.gateway import Gateway, Hosted


class Arrivals:
    """Takes up one gateway's runs."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._audit = logs.channel("audit")

    async def attach(self, envelope: EventEnvelope) -> None:
        """A runner wants its run taken up, or is back. It asks until it is answered, in the same words each time."""
        spec = msgspec.convert(envelope.data, RunSpec)
        if spec.namespace != self._gateway.namespace or not re.fullmatch(
            r"[a-z0-9][a-z0-9_-]{0,249}", spec.run
        ):
            raise ValidationError(
                f"run {spec.run[:60]!r} of {spec.namespace[:60]!r} has no place in {self._gateway.namespace}",
                fix="start runs through the hub",
                code="E_LANE",
            )
        try:
            hosted = self._gateway.runs.get(spec.run) or await self._take_up(spec, envelope.id)
            if envelope.id not in hosted.lives:
                self._unchanged(hosted.spec)
                hosted.lives.add(envelope.id)
                await self.came_back(hosted)
        except (AuthorizationError, ConfigurationError, ValidationError) as error:
            if not (self._gateway.workspace.runs / spec.run).is_dir():
                raise  # no run of the hub's: nobody waits for an answer
            self._audit.error(
                "run.refused", run=spec.run, strategy=spec.name, digest=spec.digest, error=error
            )
            told = {"message": error.message, "fix": error.fix, "code": error.code}
            await self._gateway.tell(spec.run, "run.refused", envelope, told)
            return
        hosted.heard = monotonic()
        await self._gateway.tell(spec.run, "run.attached", envelope, {"run": spec.run})

    async def _take_up(self, spec: RunSpec, life: str) -> Hosted:
        """A new run. Raises why it is none of ours."""
        if spec.run in self._gateway.over:
            raise ValidationError(f"run {spec.run} has ended", fix="start it anew", code="E_OVER")
        if self._gateway.admission is not None:
            spec = await asyncio.to_thread(self._gateway.admission.admit, spec, self._source(spec))
        refuse_looser(spec.limits, self._gateway.account.limits)
        async with self._gateway.turn:
            hosted = self._gateway.host(spec)  # first: what cannot be played must not be on record
            hosted.lives.add(life)
            await self._gateway.durably("attach", spec.run, "", msgspec.json.encode(spec), b"")
        self._audit.info("run.attached", run=spec.run, strategy=spec.name, digest=spec.digest)
        return hosted

    def _source(self, spec: RunSpec) -> str:
        """The module that its runner loads."""
        try:
            return (self._gateway.workspace.runs / spec.run / "strategy.py").read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            return ""

    def _unchanged(self, spec: RunSpec) -> None:
        if self._gateway.admission is not None:
            refuse_changed(spec, self._source(spec))

    async def came_back(self, hosted: Hosted) -> None:
        """Its runner or we were away: where a person has to look first it is paused."""
        if not hosted.lane.paused and (why := await self._not_by_itself(hosted)):
            await self._gateway.operators.pause(hosted.spec.run, f"came back after a crash: {why}")

    async def _not_by_itself(self, hosted: Hosted) -> str:
        """Why a run that was away may not go on by itself; "" if it may."""
        spec = hosted.spec
        then = f"then `alphapanda resume {spec.run}`"
        if self._gateway.admission is not None:
            try:
                await asyncio.to_thread(self._gateway.admission.admit, spec, self._source(spec))
            except (AuthorizationError, ConfigurationError, ValidationError) as error:
                return f"{error.message}; {error.fix}"
        if not spec.auto_resume:
            return f"look at it, {then}"
        lost = await asyncio.to_thread(self._gateway.trader.lost, self._gateway.settings)
        own = sorted(order for order in lost if hosted.lane.order(order) is not None)
        return f"nobody knows what became of {', '.join(own)}: `alphapanda reconcile`, {then}" if own else ""

    async def end_of_approvals(self) -> None:
        """A run whose approval has ended opens nothing more."""
        for run, hosted in tuple(self._gateway.runs.items()):
            if _expired(hosted.spec) and not hosted.released and not hosted.lane.paused:
                await self._gateway.operators.pause(run, f"its approval has ended; {PROMOTE}")

    def refuse_expired(self, spec: RunSpec) -> None:
        """AuthorizationError for a run that no person at a command line can let go on."""
        if _expired(spec):
            raise AuthorizationError(f"the approval of {spec.run} has ended", fix=PROMOTE, code="E_PROMOTION")


def _expired(spec: RunSpec) -> bool:
    return 0 < spec.approved_until <= wall_ns()

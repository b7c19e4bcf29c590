"""What people tell a gateway: halt, pause, resume, cancel, flatten, settle; and the kill switch, which is a file.

A command goes on record before it is done, with the place of the tape at which each run stood: a gateway that plays its
journal does it at the same places again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from alphapanda import logs
from alphapanda.admission import Act
from alphapanda.clock import wall_ns
from alphapanda.errors import ValidationError
from alphapanda.events import EventEnvelope
from alphapanda.requests import Place
from alphapanda.state.journal import Entry

if TYPE_CHECKING:
    from alphapanda.gateway import Gateway

COMMANDS = (
    "operator.halt", "operator.resume", "operator.pause", "operator.unpause", "operator.cancel_all", "operator.flatten",
    "operator.settle",
)  # fmt: skip
ON_RECORD: dict[str, Act] = {"operator.pause": "pause", "operator.unpause": "resume", "run.release": "retire"}
OF_ONE_RUN = ("operator.pause", "operator.unpause")
REDUCE, CANCEL = 1, 3  # levels of the kill switch


class Command(msgspec.Struct):
    """What an operator wants; ``run`` empty: of all runs. ``order``: which one ``operator.settle`` is about, "" for all
    that are lost. ``places`` is where each run stood, for the record."""

    do: str
    run: str
    reason: str = ""
    by: str = ""
    order: str = ""
    places: dict[str, Place] = {}


class Operators:
    """Takes one gateway's commands."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._obeyed: set[str] = set()  # commands on record
        self._flag = b""  # the halt file as it was last seen
        self._audit = logs.channel("audit")

    def replay(self, entry: Entry) -> None:
        """A command from the journal."""
        self._obeyed.add(entry.id)
        command = msgspec.json.decode(entry.body, type=Command)
        for run, place in command.places.items():
            if (
                hosted := self._gateway.runs.get(run)
            ) is not None:  # else it is over for a day, and not played again
                hosted.lane.advance(place)
        self._operate(command)

    async def handle(self, envelope: EventEnvelope) -> None:
        """A message of an operator, or of a runner about its own run."""
        gateway = self._gateway
        command = msgspec.convert({**envelope.data, "do": envelope.type, "places": {}}, Command)
        hosted = gateway.runs.get(command.run)
        if command.do == "run.release":
            if hosted is not None and not hosted.released:
                async with gateway.turn:
                    await gateway.durably("end", command.run, "", b"", b"")
                    hosted.released = True
                await self._note(command)
            return
        unnamed = not command.run and command.do in OF_ONE_RUN
        if command.do not in COMMANDS or unnamed or (command.run and hosted is None):
            raise ValidationError(
                f"{command.do} of {command.run or 'all runs'}: there is no such command or run here",
                fix=f"send one of {', '.join(COMMANDS)} about a run of this namespace",
            )
        if command.do == "operator.unpause" and hosted is not None:
            gateway.arrivals.refuse_expired(hosted.spec)
        async with gateway.turn:
            if envelope.id not in self._obeyed:  # a command that comes twice is one
                self._audit.warning(command.do, run=command.run, reason=command.reason, by=command.by)
                await self.obey(command, envelope.id)
                if command.do == "operator.settle":
                    await gateway.trader.settle(command.order, f"{command.reason} ({command.by})")
                elif command.do == "operator.resume" and not command.run:  # no flag may stand for its level
                    await gateway.trader.halt(0, f"{command.reason} ({command.by})")
        await self._note(command)
        for run in [command.run] if command.run else list(gateway.runs):
            await gateway.tell(run, "gateway.look", envelope, {"run": run})

    async def pause(self, run: str, why: str) -> None:
        """The gateway itself pauses a run, and has its runner look."""
        identity = f"operator.pause:{run}:{wall_ns()}"
        command = Command("operator.pause", run, why, "gateway")
        self._audit.warning(command.do, run=run, reason=why, by=command.by)
        async with self._gateway.turn:
            await self.obey(command, identity)
        await self._note(command)
        cause = EventEnvelope(
            id=identity, type=command.do, ts=wall_ns(), source="gateway", namespace=self._gateway.namespace, key=run,
            correlation_id=identity, trace_id=identity, data={"run": run, "reason": why, "by": command.by},
        )  # fmt: skip
        await self._gateway.tell(run, "gateway.look", cause, {"run": run})

    async def _note(self, command: Command) -> None:
        """What it means for a run's approval."""
        admission, act = self._gateway.admission, ON_RECORD.get(command.do)
        if admission is not None and act is not None:
            hosted = self._gateway.runs[command.run]
            if command.do in OF_ONE_RUN and bool(hosted.lane.paused) != (act == "pause"):
                return  # an older word, come again: it is not how the run stands
            person = "" if command.by in ("", "gateway", "hub") else command.by
            await asyncio.to_thread(admission.note, hosted.spec, act, command.reason, person)

    async def obey(self, command: Command, identity: str = "") -> None:
        """Put a command on record, with the places where it meets the runs, and do it. Called with the turn."""
        runs = {run: h for run, h in self._gateway.runs.items() if command.run in ("", run)}
        command.places = {run: h.lane.place for run, h in runs.items() if h.lane.place.ts}
        identity = identity or f"{command.do}:{command.run}:{wall_ns()}"
        await self._gateway.durably("operator", "", identity, msgspec.json.encode(command), b"")
        self._obeyed.add(identity)
        self._operate(command)
        for hosted in runs.values():
            await self._gateway.execute(hosted)  # cancels wait for nobody's next word

    def _operate(self, command: Command) -> None:
        account = self._gateway.account
        chosen = [h for run, h in self._gateway.runs.items() if command.run in ("", run)]
        reason = command.reason or command.do
        if command.do == "operator.resume":
            account.halt("")
            account.reduces = ""
        elif command.do == "operator.halt":
            if not command.run:
                account.halt(reason)
            for hosted in chosen if command.run else ():
                hosted.lane.stop(reason)
        elif command.do in OF_ONE_RUN:
            for hosted in chosen:
                hosted.lane.pause(reason if command.do == "operator.pause" else "")
        for hosted in chosen if command.do in ("operator.cancel_all", "operator.flatten") else ():
            lane = hosted.lane
            lane.desk.withdraw_entries(0, reason, lane.place.ts)
            if command.do == "operator.flatten":
                lane.flatten(reason)

    async def look_at_flag(self) -> None:
        """The kill switch: while its file exists no order passes, whoever else can be reached. Called with the turn."""
        gateway, account = self._gateway, self._gateway.account
        try:
            flag = gateway.workspace.halt_flag(gateway.namespace).read_bytes() or b"{}"
        except FileNotFoundError:
            flag = b""
        except OSError as error:
            flag = str(error).encode()
        if flag == self._flag and (account.halted or account.reduces or not flag):
            return
        self._flag = flag
        if not flag:
            account.reduces = ""
            if account.halted.startswith("kill switch"):
                account.halt("")
            self._audit.warning("halt.lifted")
            await gateway.trader.halt(0, "lifted")
            return
        try:
            found = msgspec.json.decode(flag, type=dict[str, Any])
            level = int(found.get("level", CANCEL))
        except (msgspec.DecodeError, TypeError, ValueError):
            found, level = {"reason": "the halt file cannot be read"}, CANCEL
        reason = f"kill switch: {found.get('reason') or 'no reason given'}"
        if level == REDUCE:
            account.reduces = reason
        else:
            account.halt(reason)
        self._audit.warning("halt", level=level, reason=reason, by=str(found.get("by", "")))
        await gateway.trader.halt(level, reason)
        if level >= CANCEL:
            await self.obey(Command("operator.cancel_all", "", "kill switch"))

"""What a namespace's gateway knew of one run, rebuilt from the files it left: no hub, server or gateway is asked.

The journal is played as the gateway's own recovery plays it, with a trader that sends nothing: what became of real
orders is on record. So paper and real runs, of today and earlier, are read the same way, and whoever looks sees the
books as they stood at any entry.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from alphapanda.buses.redis import RedisBus
from alphapanda.errors import DatabaseError, UnknownNameError, ValidationError
from alphapanda.events import DAY
from alphapanda.gateway import Gateway, Hosted
from alphapanda.hearsay import Noted
from alphapanda.hindsight.pairs import FAR
from alphapanda.lane import Lane
from alphapanda.orders import Order
from alphapanda.playing import Stop
from alphapanda.requests import Reply, Request
from alphapanda.result import Result
from alphapanda.settings import Settings
from alphapanda.state.journal import Entry, Journal, Kind
from alphapanda.traders.base import Mode, Trader
from alphapanda.traders.factory import trader_class
from alphapanda.traders.paper import PaperTrader
from alphapanda.traders.reports import Report
from alphapanda.workspace import RunSpec, Workspace

SNAPSHOT = "snapshot"  # in a run's folder
ORDERS = "orders"  # folder of the workspace, one file a broker's account

Witness = Callable[[Hosted, Request, Reply], None]
"""Sees a request just before the gateway decides on it, with the answer it gave."""


class Past(msgspec.Struct):
    """One run as its namespace's journal tells it.

    ``asked`` holds for each signal and cancel the wall time (ns) at which it was on record, ``answers`` all requests
    with what they were answered, ``reports`` what the broker said of its orders, in order. ``seen`` is the tape time
    through which the run is known to have decided; ``FAR`` if that is not known, or if it decides nothing any more.
    """

    spec: RunSpec
    result: Result
    asked: dict[str, int]
    answers: dict[str, tuple[bytes, bytes]]
    reports: list[Report]
    seen: int = FAR


class Bystander(Trader):
    """Stands where a broker's trader stood and sends nothing."""

    execution_mode: ClassVar[Mode] = "shadow"

    async def initialize(self) -> None:
        """Nothing to connect to."""

    async def execute_order(self, order: Order) -> None:
        """It was sent in its time."""

    async def cancel_order(self, order: Order) -> None:
        """Its cancel, too."""

    async def shutdown(self) -> None:
        """Nothing is held."""


class OnFile(Journal):
    """A journal that is read beside its writer, or without one; ``tell`` hears of each entry before it is played.

    ``run`` is who is looked at; until the entry ``until`` of that run all others are played too, for they share its
    limits; with "" they never are.
    """

    def __init__(self, path: Path, run: str, until: str, tell: Callable[[Entry], None]) -> None:
        self.path, self._run, self._until, self._tell = path, run, until, tell
        if not path.exists():
            raise DatabaseError(f"there is no journal {path.name}", fix="see whether this is the workspace")
        self._connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)

    def append(self, kind: Kind, run: str, identity: str, body: bytes, reply: bytes, at: int) -> None:
        """Nobody writes here."""
        raise DatabaseError(f"{self.path.name} is only read here", fix="let the gateway write it")

    def entries(self) -> Iterator[Entry]:
        """Those that matter to the run, in order."""
        others = bool(self._until)
        for entry in super().entries():
            if others or entry.run in ("", self._run):
                self._tell(entry)
                yield entry
            if (entry.run, entry.id) == (self._run, self._until):
                others = False

    def done_before(self, at: int) -> set[str]:
        """Runs that were over a day before this one began, as its gateway left them out."""
        begun = self._connection.execute(
            "SELECT at FROM entry WHERE kind = 'attach' AND run = ?", (self._run,)
        ).fetchone()
        return super().done_before(begun[0] - DAY) if begun else set()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


class _Reading:
    """Collects what the entries of a run say, and calls the witness where it was asked to look."""

    def __init__(self, run: str, wanted: str, witness: Witness | None) -> None:
        self.run, self._wanted, self._witness = run, wanted, witness
        self.gateway: Gateway
        self.asked: dict[str, int] = {}
        self.answers: dict[str, tuple[bytes, bytes]] = {}
        self.reports: list[Report] = []

    def hear(self, entry: Entry) -> None:
        """An entry is about to be played."""
        if entry.run != self.run:
            return
        if entry.kind == "report":
            self.reports.append(msgspec.msgpack.decode(entry.body, type=Noted).report)
        elif entry.kind == "request":
            self.asked[entry.id] = entry.at
            self.answers[entry.id] = entry.body, entry.reply
            if self._witness is not None and entry.id == self._wanted:
                request = msgspec.msgpack.decode(entry.body, type=Request)
                reply = msgspec.msgpack.decode(entry.reply, type=Reply)
                self._witness(self.gateway.runs[entry.run], request, reply)


def read(
    workspace: Workspace, settings: Settings, spec: RunSpec, wanted: str = "", witness: Witness | None = None
) -> Past:
    """Play the journal of a run's namespace; ``witness`` looks just before the signal ``wanted`` is decided on.

    Raises DatabaseError if there is no such journal, UnknownNameError if it does not know the run, DataError if the
    ticks it traded on are no longer kept.
    """
    heard = _Reading(spec.run, wanted, witness)
    paper = issubclass(trader_class(spec.namespace).made_for(settings), PaperTrader)
    trader = PaperTrader(settings) if paper else Bystander(settings)
    bus = RedisBus.connect(workspace.server_socket)  # never used: it connects when first asked
    with contextlib.ExitStack() as files:
        journal = OnFile(workspace.journal(spec.namespace), spec.run, wanted, heard.hear)
        files.callback(journal.close)
        heard.gateway = gateway = Gateway(workspace, settings, spec.namespace, bus, trader, journal)
        files.callback(gateway.close)
        gateway.news = False
        drive(gateway.replay())
        hosted = gateway.runs.get(spec.run)
        if hosted is None:
            raise UnknownNameError(f"run of {spec.namespace}", spec.run, gateway.runs)
        if paper and hosted.busy:
            hosted.lane.follow()  # what its orders met since it last asked
        seen = _seen(workspace, spec, hosted.lane)
        return Past(spec, hosted.lane.engine.outcome(), heard.asked, heard.answers, heard.reports, seen)


def _seen(workspace: Workspace, spec: RunSpec, lane: Lane) -> int:
    """From the snapshot that a runner keeps of its strategy's state every few seconds."""
    try:
        kept = msgspec.msgpack.decode((workspace.runs / spec.run / SNAPSHOT).read_bytes(), type=Stop)
    except (OSError, msgspec.MsgspecError):
        return FAR
    return FAR if lane.halt else max(kept.place.ts, lane.place.ts)


def drive(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that waits for nothing; also where an event loop runs already, as in a notebook."""
    with contextlib.suppress(StopIteration):
        while True:
            work.send(None)


# ── which run ────────────────────────────────────────────────────────────────────────────────────────────────────


def spec_of(workspace: Workspace, run: str) -> RunSpec:
    """The spec of a run by its id, or by its strategy's name if only one run has it."""
    folder = workspace.runs / run
    if run and (folder / "run.json").exists() and folder.parent == workspace.runs:
        return RunSpec.read(folder)
    known = [_spec(path) for path in sorted(workspace.runs.iterdir())]
    found = [spec for spec in known if spec is not None and spec.name == run]
    if len(found) > 1:
        listed = ", ".join(spec.run for spec in found)
        raise ValidationError(f"{run} has {len(found)} runs: {listed}", fix="name one of them", code="E_RUN")
    if not found:
        raise UnknownNameError("run", run, [spec.run for spec in known if spec is not None])
    return found[0]


def _spec(folder: Path) -> RunSpec | None:
    try:
        return RunSpec.read(folder)
    except (OSError, msgspec.MsgspecError):
        return None


def run_of_order(workspace: Workspace, order: str) -> tuple[RunSpec, str]:
    """The one run that an order belongs to, and its id there; ValidationError names the candidates if there are more.
    ``order`` may also be the broker's id of it, or its tag.

    The same decision has the same id in every namespace, so an order of a strategy that ran twice is in two.
    """
    signal = order.partition("/")[0]
    found: dict[str, RunSpec] = {}
    for path in sorted(workspace.journal("paper").parent.glob("*.sqlite")):
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as file:
            rows = file.execute(
                "SELECT body FROM entry WHERE kind = 'attach' AND run IN"
                " (SELECT run FROM entry WHERE kind = 'request' AND id = ?)",
                (signal,),
            ).fetchall()
        for (body,) in rows:
            spec = msgspec.json.decode(body, type=RunSpec)
            found[spec.run] = spec
    if not found:
        return _run_of_broker(workspace, order)
    if len(found) > 1:
        listed = ", ".join(f"{one.run} ({one.namespace})" for one in found.values())
        raise ValidationError(
            f"order {order} is in {len(found)} runs: {listed}", fix="say which: --run RUN", code="E_RUN"
        )
    return next(iter(found.values())), order


def _run_of_broker(workspace: Workspace, name: str) -> tuple[RunSpec, str]:
    """The same by the broker's id of an order, or by the tag it was sent with."""
    from alphapanda.zerodha.told import orders_named

    for path in sorted((workspace.home / ORDERS).glob("*.sqlite")):
        for run, order in orders_named(workspace, path.stem, name):
            return spec_of(workspace, run), order
    raise ValidationError(
        f"no run of this workspace has an order {name}",
        fix="take its id from run.orders, or say --run RUN; and see whether this is the workspace",
        code="E_UNKNOWN_NAME",
    )

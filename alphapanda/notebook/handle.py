"""A run as a notebook holds it: what it does now, what it did, and how to wait for it or end it.

The run itself is another process. Nothing here can slow it down, and losing this object loses nothing.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Protocol

from alphapanda.clock import monotonic
from alphapanda.errors import AlphaPandaException, UnknownNameError, ValidationError
from alphapanda.hindsight.past import Past, read, spec_of
from alphapanda.hub.client import HubClient
from alphapanda.notebook import face, records, shown
from alphapanda.notebook.waits import STEP, Blocking, in_thread, nap
from alphapanda.overview.view import ENDS, Held, View
from alphapanda.report import text
from alphapanda.report.frames import ERRORS, Column, item_of, to_frame
from alphapanda.report.report import Report
from alphapanda.result import LogLine, Result
from alphapanda.seal import Seal
from alphapanda.settings import Settings
from alphapanda.workspace import RunSpec, Workspace

if TYPE_CHECKING:
    import polars as pl
    import redis

    from alphapanda.capsule import Capsule
    from alphapanda.notebook.card import Card
    from alphapanda.report.chain import Chain

STOP_SECONDS = 20.0  # the hub gives a run twelve to end by itself
SETTLE_SECONDS = 3.0  # from the hub's word to the last figures
STATES = ("starting", "warming", "waiting", "running", "paused", "stopping", *ENDS)
WIDGET = "application/vnd.jupyter.widget-view+json"


class Home(Protocol):
    """The session a run belongs to."""

    workspace: Workspace
    hub: HubClient
    client: str
    quiet: bool
    settings: Settings

    def open_server(self) -> redis.Redis:
        """A blocking client of the server."""
        ...


class Run:
    """One strategy running in its own process. Show it for a live card.

    Now: ``.state .reason .pnl .positions .logs``. So far: ``.fills .orders .signals .equity .errors`` (frames, asked of
    the gateway when read), ``.report`` with everything a backtest's report has, ``.why(order)``. Any thread may use it.
    """

    def __init__(self, owner: Home, view: View, request: dict[str, Any], capsule: Capsule) -> None:
        self._owner, self._view, self._request = owner, view, request
        self.capsule = capsule  # the frozen module it runs
        self._lock = threading.Lock()
        self._card: Card | None = None
        self._shown: list[str] = []  # ids of outputs that show this run
        self._report: tuple[tuple[Any, ...], Report] | None = None
        self.sync = Blocking(self)

    # ── now ──────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def view(self) -> View:
        """Everything known of it at this moment, as one value that does not change."""
        return self._view

    @property
    def id(self) -> str:
        """The name of its folder, log lines and keys."""
        return self._view.run

    @property
    def name(self) -> str:
        """The strategy's name."""
        return self._view.name

    @property
    def state(self) -> str:
        """starting, warming, waiting, running, stopping; at the end stopped, halted or failed."""
        return self._view.state

    @property
    def reason(self) -> str:
        """Why it is halted, failed or stopped."""
        return self._view.reason

    @property
    def pnl(self) -> float:
        """Net profit after charges so far, rupees."""
        return self._view.books.net / 100

    @property
    def positions(self) -> list[Held]:
        """What it holds now."""
        return self._view.books.positions

    @property
    def logs(self) -> pl.DataFrame:
        """The last lines it wrote with ``self.log``."""
        columns = [
            Column("ts", "time", item_of(0)),
            Column("message", "text", item_of(1)),
            Column("fields", "text", lambda line: text.parameters_text(line[2])),
        ]
        return to_frame(self._view.pulse.logs, columns)

    # ── so far ───────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def report(self) -> Report:
        """Everything so far as a report: frames, statistics, pictures. A new one whenever something happened."""
        view = self._view
        books = view.books
        key = (view.state, books.updated, books.counts.get("orders"), books.counts.get("fills"))
        with self._lock:
            kept = self._report
        if kept is not None and kept[0] == key:
            return kept[1]
        seal = Seal.of(self._owner.workspace)
        result = records.ask_result(
            self._owner.open_server, seal, view.namespace, view.run, self._owner.client
        )
        if result is None:
            result = Result((view.name,), (dict(view.parameters),), ("",), (), self._request["capital"] or 0)
        result.errors = view.pulse.errors  # what callbacks raise and log is the runner's to tell
        result.logs = [
            LogLine(ts, 0, view.name, message, dict(fields)) for ts, message, fields in view.pulse.logs
        ]
        report = Report(result, self._prices())
        report.explain = self.why
        with self._lock:
            self._report = key, report
        return report

    def replay(self) -> Report:
        """The ticks this run saw, once more through research, with the run's own module: equal digests prove that live
        changed nothing about what was decided."""
        from alphapanda.hindsight.rerun import rerun

        result = rerun(self._owner.workspace, self.id, self.report.result, self._owner.settings)
        return Report(result, self._prices())

    @property
    def fills(self) -> pl.DataFrame:
        """Executions so far."""
        return self.report.fills

    @property
    def orders(self) -> pl.DataFrame:
        """Every order and what became of it."""
        return self.report.orders

    @property
    def signals(self) -> pl.DataFrame:
        """What the strategy wanted, before risk."""
        return self.report.signals

    @property
    def equity(self) -> pl.DataFrame:
        """The run's own capital over time."""
        return self.report.equity

    @property
    def errors(self) -> pl.DataFrame:
        """Callbacks that raised."""
        return to_frame(self._view.pulse.errors, ERRORS)

    def past(self) -> Past:
        """What its gateway has on record of it, read from the files of the workspace: nobody is asked."""
        workspace = self._owner.workspace
        return read(workspace, self._owner.settings, spec_of(workspace, self.id))

    def why(self, order: Any) -> Chain:
        """Why an order is as it is: tick, bar, indicators, signal, each risk rule's verdict, its way to the broker,
        fills, charges; a table and a picture. ``order``: its id, an Order, a row of ``orders``. Read from the files of
        the workspace, so it also works of a run that ended, with no hub running."""
        from alphapanda.hindsight.recount import of_run

        workspace = self._owner.workspace
        return of_run(workspace, self._owner.settings, spec_of(workspace, self.id), order)

    def _prices(self) -> records.LivePrices:
        """The ticks it has seen."""
        try:
            after = max(RunSpec.read(self._owner.workspace.runs / self.id).warm_from, 0)
        except OSError:
            after = 0
        return records.LivePrices(self._owner.workspace, after)

    def same(self, request: dict[str, Any]) -> bool:
        """Whether another request asks for just this."""
        names = ("digest", "parameters", "symbols", "capital", "seed")
        return all(request[name] == self._request[name] for name in names)

    # ── waiting and ending ───────────────────────────────────────────────────────────────────────────────────

    async def wait(
        self,
        *,
        ticks: int | None = None,
        seconds: float | None = None,
        fills: int | None = None,
        until: str | None = None,
    ) -> None:
        """Wait until the run has seen so many ticks or fills since its start, or for seconds from now, or for a state;
        whichever comes first, with a bar. A run that ends or is halted ends the waiting, too; an interrupt ends nothing
        but the waiting.
        """
        if until is not None and until not in STATES:
            raise UnknownNameError("state", until, STATES)
        if all(goal is None for goal in (ticks, seconds, fills, until)):
            raise ValidationError(
                "nothing to wait for", fix='say ticks=, seconds=, fills= or until="stopped"'
            )
        began, line = monotonic(), shown.Line(self._owner.quiet)
        while True:
            view = self._view
            goals = {"ticks": ticks, "fills": fills}
            reached: list[tuple[float, float, str]] = [
                (view.count.get(name, 0), goal, name) for name, goal in goals.items() if goal is not None
            ]
            if seconds is not None:
                reached.append((monotonic() - began, seconds, "s"))
            done = view.ended or view.state in (until, *ENDS) or any(at >= goal for at, goal, _ in reached)
            share = max((at / goal if goal > 0 else 1.0 for at, goal, _ in reached), default=None)
            line.tell(_told(view, reached, until), 1.0 if done and share is not None else share, last=done)
            if done:
                break
            await nap(STEP / 2)
        self._refresh()

    async def stop(self, flatten: bool = False) -> None:
        """End the run: its working orders are cancelled; ``flatten`` closes its positions at market too."""
        await in_thread(self._ask_stop, flatten)
        until = monotonic() + SETTLE_SECONDS
        while not self._view.settled and monotonic() < until:
            await nap(0.05)
        self._refresh()

    async def pause(self, why: str) -> None:
        """Nothing of it opens a position any more; what closes one goes on."""
        from alphapanda import pausing

        await in_thread(pausing.pause, self._owner.workspace, self.id, why)

    async def resume(self, why: str) -> None:
        """It may open positions again."""
        from alphapanda import pausing

        await in_thread(pausing.resume, self._owner.workspace, self.id, why)

    def detach(self) -> None:
        """Let the run go on when this notebook ends; ``alphapanda stop`` ends it then."""
        if self._view.ended:
            raise ValidationError(f"{self.id} has ended", fix="start it again with detach=True")
        self._owner.hub.ask({**self._request, "detach": True})

    def _ask_stop(self, flatten: bool) -> None:
        self._owner.hub.ask({"do": "stop", "run": self.id, "flatten": flatten}, STOP_SECONDS)

    def _stop_from_card(self, flatten: bool) -> None:
        try:
            self._ask_stop(flatten)
        except AlphaPandaException as error:
            if self._card is not None:
                self._card.complain(f"{error.message}. {error.fix}")

    # ── the poller's side ────────────────────────────────────────────────────────────────────────────────────

    def take(self, view: View) -> None:
        """Something changed."""
        before, self._view = self._view, view
        card = self._card
        if card is not None:
            card.show(view)
        if view.ended > before.ended or (view.state in ENDS) > (before.state in ENDS):
            self._refresh()

    def beat(self) -> None:
        """Nothing did."""
        card = self._card
        if card is not None:
            card.show(self._view)

    # ── shown ────────────────────────────────────────────────────────────────────────────────────────────────

    def __repr__(self) -> str:
        return face.plain(self._view)

    def _repr_html_(self) -> str:
        return face.html(self._view)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundle: dict[str, Any] = {"text/plain": face.plain(self._view), "text/html": face.html(self._view)}
        card = self._live()
        if card is not None:
            bundle[WIDGET] = {"version_major": 2, "version_minor": 0, "model_id": card.card}
        return bundle

    def _ipython_display_(self) -> None:
        """Shown under an id, so that what a saved notebook keeps is the last state and not the first."""
        if shown.kernel() is None:
            sys.stdout.write(face.plain(self._view) + "\n")
            return
        self._shown.append(shown.show(self._repr_mimebundle_()))

    def _refresh(self) -> None:
        """Bring outputs up to date, for those who read the notebook later. A browser that shows the card now needs it
        only at the end."""
        card = self._card
        if self._view.state in ENDS or card is None or not card.watched:
            for display_id in self._shown:
                shown.update(display_id, self._repr_mimebundle_())

    def _live(self) -> Card | None:
        """The card, made when first shown; None where there is no kernel or no anywidget."""
        with self._lock:
            if self._card is None and shown.kernel() is not None:
                try:
                    from alphapanda.notebook.card import Card
                except ImportError:
                    return None
                command = _stop_command(self._owner.workspace, self.id)
                self._card = Card(self._view, self._stop_from_card, command)
            return self._card


def _told(view: View, goals: list[tuple[float, float, str]], until: str | None) -> str:
    """How far a wait is, in one line."""
    facts = [f"{_amount(min(at, goal), unit)} of {_amount(goal, unit)} {unit}" for at, goal, unit in goals]
    facts += [f"until {until}"] if until else []
    facts += [
        f"{view.label}{f': {text.one_line(view.reason, 100)}' if view.state in ENDS and view.reason else ''}"
    ]
    facts += [f"net {text.signed(view.books.net)}"] if view.books.updated else []
    facts += ["no connection to the server"] if view.lost else []
    return " · ".join(facts)


def _amount(number: float, unit: str) -> str:
    return text.decimal(number, 0 if number >= 10 else 1) if unit == "s" else text.whole(int(number))


def _stop_command(workspace: Workspace, run: str) -> str:
    """A shell's line that stops the run by itself."""
    script = Path(__file__).with_name("stop_now.py")
    return " ".join(quote(str(word)) for word in (sys.executable, "-I", script, workspace.hub_socket, run))

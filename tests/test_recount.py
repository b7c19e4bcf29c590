"""Why and side by side from the files of a workspace: paper and real at once, processes alive, killed and gone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from unittest import mock

import pytest

import alphapanda as ap
from alphapanda.buses.redis import RedisBus
from alphapanda.commands.cli import main
from alphapanda.errors import ValidationError
from alphapanda.events import SECOND
from alphapanda.gateway import Gateway
from alphapanda.hindsight.past import Bystander, OnFile, Past, drive, read, run_of_order, spec_of
from alphapanda.hindsight.recount import of_run
from alphapanda.hindsight.verdicts import REFUSED
from alphapanda.notebook.records import ask_result
from alphapanda.report.chain import Chain
from alphapanda.result import Result, decision_digest
from alphapanda.sandbox.serve import Running, Sandbox
from alphapanda.settings import Settings
from tests.rig import Rig
from tests.sandbox_rig import FREE, broker
from tests.test_zerodha import platform

pytestmark = pytest.mark.timeout(150)
TRADES = 6
TURN = SECOND // 4


class Even(ap.Strategy):
    """In and out by the tape's clock alone, so that what it decides does not depend on fills; some orders too large."""

    symbols = ("NSE:INFY",)
    bar = "1m"

    def on_start(self) -> None:
        self.indicator("NSE:INFY", ap.SMA(2), name="sma")
        self.state.turn = 0

    def on_tick(self, tick: ap.Tick) -> None:
        turn = tick.ts // TURN
        if turn == self.state.turn:
            return
        begun, self.state.turn = self.state.turn, turn
        if not begun:  # in the middle of a turn, which another run may have seen whole
            return
        if turn % 5 == 0:
            self.buy(tick.symbol, 900_000, tag="too large")
        elif turn % 2 == 0:
            (self.buy if turn % 4 else self.sell)(tick.symbol, 5)


class Place:
    """A workspace in which one strategy trades on paper and at the sandbox at once."""

    def __init__(self, rig: Rig, paper: str, real: str) -> None:
        self.rig, self.paper, self.real = rig, paper, real
        with mock.patch.dict("os.environ", {"RISK__DUPLICATE_WINDOW_MS": "1"}):
            self.settings = Settings.load(None)

    def past(self, run: str) -> Past:
        return read(self.rig.workspace, self.settings, spec_of(self.rig.workspace, run))

    def why(self, run: str, order: str) -> Chain:
        return of_run(self.rig.workspace, self.settings, spec_of(self.rig.workspace, run), order)

    @cache  # noqa: B019 - one place a module
    def asked(self, run: str) -> Result:
        """The same from the gateway that still runs."""
        namespace = spec_of(self.rig.workspace, run).namespace
        found = ask_result(self.rig.server, self.rig.seal, namespace, run, "test")
        assert found is not None
        return found


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Running]:
    with Sandbox.thread(broker(limits=FREE, hours=False)) as running:
        yield running


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, sandbox: Running) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("recount") / "place"
    with platform(root, sandbox, ZERODHA__USER_ID="SB0001") as rig:
        runs = [rig.run(Even(), namespace=name) for name in ("paper", "zerodha")]
        for name, run in zip(("paper", "zerodha"), runs, strict=True):
            document = f"{name}:run:{run}"
            rig.until(
                lambda key=document: rig.document(key).get("counts", {}).get("fills", 0) >= TRADES,
                60.0,
                f"{document} has {TRADES} fills",
            )
        for run in runs:
            rig.hub.ask({"do": "stop", "run": run, "flatten": False}, 30.0)
        made = Place(rig, *runs)
        for run in runs:  # while there is a gateway to ask
            made.asked(run)
        yield made


def filled(result: Result) -> list[tuple[object, ...]]:
    return [(f.id, f.seq, f.ts, f.quantity, f.price_units, f.charges, f.realized) for f in result.fills]


def test_the_files_say_what_the_gateway_says(place: Place) -> None:
    for run in (place.paper, place.real):
        ours, theirs = place.past(run).result, place.asked(run)
        assert decision_digest(ours) == decision_digest(theirs)
        assert filled(ours) == filled(theirs)
        assert len(ours.fills) >= TRADES
        assert [(o.id, o.status, o.reason) for o in ours.orders] == [
            (o.id, o.status, o.reason) for o in theirs.orders
        ]


def test_an_order_at_the_broker_from_its_tick_to_its_charges(place: Place) -> None:
    result = place.past(place.real).result
    order = [o for o in result.orders if o.filled][2]
    chain = place.why(place.real, order.id)
    what = [step.what for step in chain.steps]
    assert what[:3] == ["tick", "indicator", "state"]
    assert what[what.index("signal") : what.index("signal") + 2] == ["signal", "risk"]
    by_what = {step.what: step for step in chain.steps}
    assert by_what["tick"].id == f"row {order.signal.seq}"
    assert "in on_tick, strategy.py:" in by_what["signal"].detail
    assert chain.scene.state == f'{{"turn":{order.signal.ts // TURN}}}'
    assert not chain.scene.missing
    assert by_what["intent"].id.startswith("tag P")
    assert by_what["broker"].id.isdigit()
    assert all(step.wall for step in chain.steps if step.what in ("record", "intent", "broker", "trade"))
    assert {"record", "intent", "broker", "trade", "fill", "charge", "money"} <= set(what)
    assert "<svg" in chain._repr_html_()


def test_a_paper_order_shows_the_same_sight(place: Place) -> None:
    for run in (place.paper, place.real):
        order = [o for o in place.past(run).result.orders if o.filled][1]
        chain = place.why(run, order.id)
        assert chain.scene.state == f'{{"turn":{order.signal.ts // TURN}}}'
        assert not [one for one in chain.scene.verdicts if one.said == REFUSED]


def test_the_rule_that_denied_is_named(place: Place) -> None:
    for run in (place.paper, place.real):
        denied = next(o for o in place.past(run).result.orders if o.signal.tag)
        assert denied.status == "denied"
        (refused,) = [one for one in place.why(run, denied.id).scene.verdicts if one.said == REFUSED]
        assert refused.reason == denied.reason
        assert refused.rule in ("freeze", "max order quantity")


def test_paper_and_real_side_by_side(place: Place) -> None:
    found = ap.drift(place.paper, place.real, workspace=place.rig.workspace, settings=place.settings)
    assert found.names == ("paper", "zerodha")
    paper, real = (place.past(run).result for run in (place.paper, place.real))
    assert found.totals.fills == (len(paper.fills), len(real.fills))
    both = [pair for pair in found.pairs if pair.decided == "both"]
    assert len(both) == found.totals.alike > TRADES
    began = real.orders[0].signal.ts
    assert {pair.decided for pair in found.pairs if pair.ts >= began} == {"both"}, (
        "on one tape they decide alike"
    )
    assert {pair.decided for pair in found.pairs if pair.ts < began} <= {"only paper"}
    for pair in both:
        assert pair.first
        assert pair.second
        if pair.second.reason.startswith("self-cross"):
            continue  # the broker took its time: the order before was still out, as on paper none can be
        assert (pair.first.status == "denied") == (pair.second.status == "denied")
    assert found.pairs[-1].gap == sum(
        (pair.second.net if pair.second else 0) - (pair.first.net if pair.first else 0)
        for pair in found.pairs
    )
    itself = ap.drift(place.real, place.real, workspace=place.rig.workspace, settings=place.settings)
    assert itself.totals.difference == itself.totals.cost == 0


def test_an_order_of_two_runs_has_to_say_whose(place: Place) -> None:
    workspace = place.rig.workspace
    order = place.past(place.real).result.orders[0].id
    with pytest.raises(ValidationError, match=rf"{place.paper} \(paper\), {place.real} \(zerodha\)"):
        run_of_order(workspace, order)
    with pytest.raises(ValidationError, match="has 2 runs"):
        spec_of(workspace, "Even")
    with pytest.raises(ValidationError, match="no run of this workspace"):
        run_of_order(workspace, "Even:999999:0")


def test_the_commands_need_no_process(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    order = [o for o in place.past(place.real).result.orders if o.filled][1]
    broker_id = next(s.id for s in place.why(place.real, order.id).steps if s.what == "broker")
    place.rig.hub.ask({"do": "shutdown"}, 20.0)
    assert place.rig.process is not None
    place.rig.process.wait(20.0)
    monkeypatch.setenv("ALPHAPANDA_HOME", str(place.rig.root))
    monkeypatch.setenv("RISK__DUPLICATE_WINDOW_MS", "1")
    picture, curves = tmp_path / "why.png", tmp_path / "drift.png"
    assert main(["why", broker_id, "--png", str(picture)]) == 0
    assert f"why {order.id}" in capsys.readouterr().out
    assert main(["drift", place.paper, place.real, "--png", str(curves)]) in (0, 1)
    assert "decisions alike" in capsys.readouterr().out
    assert picture.read_bytes()[:4] == curves.read_bytes()[:4] == b"\x89PNG"
    assert main(["why", "Even:999999:0"]) == 2


def test_an_operators_command_outlives_the_runs_it_named(place: Place) -> None:
    """A gateway that starts a day later leaves out runs that are over; commands on record still name them."""
    journal = OnFile(place.rig.workspace.journal("paper"), place.paper, "", lambda entry: None)
    commands = [entry for entry in journal.entries() if entry.kind == "operator"]
    assert any(place.paper.encode() in entry.body for entry in commands), "its stop was an operator's command"
    with mock.patch.object(OnFile, "done_before", return_value={place.paper}):
        bus = RedisBus.connect(place.rig.workspace.server_socket)
        gateway = Gateway(place.rig.workspace, place.settings, "paper", bus, Bystander(), journal)
        drive(gateway.recover())
    assert place.paper not in gateway.runs
    gateway.close()
    journal.close()

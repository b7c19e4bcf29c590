"""Why an order of a run on paper or at a broker is as it is, from the files of its workspace: no process is asked.

Two halves, as they ran: the strategy is played again with the recorded answers, as its own restart would; the gateway's
journal is played to the order's entry, where the risk rules are asked on the very books they were asked on then.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from alphapanda.account import Account
from alphapanda.buses.tapelog import TapeLog
from alphapanda.capsule import load
from alphapanda.desk import Desk
from alphapanda.engine import Engine
from alphapanda.errors import AlphaPandaException
from alphapanda.events import Block, Clock, Signal
from alphapanda.gateway import Hosted
from alphapanda.hindsight.past import Past, read
from alphapanda.hindsight.scene import NO_TICKS, Event, Parted, Reached, Scene, Trace, look, span_of
from alphapanda.hindsight.verdicts import PASSED, REFUSED, Verdict, ask_each
from alphapanda.hindsight.why import SQUARE_OFF, decision_of, order_id, order_of
from alphapanda.instruments import Instrument
from alphapanda.mirror import Mirror
from alphapanda.orders import DENIED, SENT, Order
from alphapanda.report import text
from alphapanda.report.chain import Chain, Step, chain
from alphapanda.requests import OrderUpdate, Reply, Request
from alphapanda.rulebook import Rulebook
from alphapanda.settings import Settings
from alphapanda.workspace import RunSpec, Workspace


def of_run(workspace: Workspace, settings: Settings, spec: RunSpec, wanted: Any) -> Chain:
    """The chain of one order of a run, running or ended.

    ``settings`` are the gateway's: the rules are asked with their limits. Raises UnknownNameError for an order that the
    run does not have, and what ``past.read`` raises.
    """
    scene = Scene(NO_TICKS, NO_TICKS)
    identity = order_id(wanted)

    def witness(hosted: Hosted, request: Request, reply: Reply) -> None:
        if request.signal is not None:
            scene.verdicts = _verdicts(hosted, request.signal, reply)

    run = read(workspace, settings, spec, identity.partition("/")[0], witness)
    order = order_of(run.result, identity)
    decision = decision_of(run.result, order)
    instruments = TapeLog(workspace.tapes).instruments()
    if decision is None:
        scene.missing = SQUARE_OFF
    try:
        _photograph(workspace, run, order, decision, instruments, scene)
    except (OSError, AlphaPandaException) as error:
        scene.missing = f"its ticks or module are not kept any more: {error}"
    return chain(run.result, order, decision, scene, instruments, _way(workspace, run, order))


# ── the gateway's half ───────────────────────────────────────────────────────────────────────────────────────────


def _verdicts(hosted: Hosted, signal: Signal, reply: Reply) -> list[Verdict]:
    """What each rule says on the books of that moment; and where that is not what was answered then, so."""
    lane = hosted.lane
    lane.advance(reply.place)
    if lane.halt:
        return [Verdict("strategy runs", REFUSED, f"halted: {lane.halt}")]
    engine = lane.engine
    index = engine.host.find(signal.symbol)
    engine.day.mark_to(signal.ts)
    order = Order(signal, engine.instruments[index], index, 0, SENT, target=signal.quantity)
    found = ask_each(lane.desk, order)
    answered = next((u for u in reply.updates if isinstance(u, OrderUpdate) and u.id == order.id), None)
    now = next((one.reason for one in found if one.said == REFUSED), "")
    then = answered.reason if answered is not None and answered.status == DENIED else ""
    if then and then != now:
        found.append(
            Verdict("as recorded", REFUSED, f"{then} (not found again: limits or a halt have changed)")
        )
    elif now and not then:
        found.append(Verdict("as recorded", PASSED))
    return found


# ── the strategy's half ──────────────────────────────────────────────────────────────────────────────────────────


class _Answers:
    """The recorded answers, to a strategy that asks its questions again; the play stops where it asks ``wanted``."""

    def __init__(self, known: dict[str, tuple[bytes, bytes]], wanted: str) -> None:
        self._known, self._wanted = known, wanted

    def ask(self, request: Request) -> Reply:
        """The answer it got then."""
        if request.id == self._wanted and request.signal is not None:
            raise Reached
        found = self._known.get(request.id)
        if found is None or found[0] != msgspec.msgpack.encode(request):
            raise Parted(f"played again, the strategy decides otherwise: {request.id}")
        return msgspec.msgpack.decode(found[1], type=Reply)

    def looks(self) -> list[Request]:
        """What was asked because the gateway had acted on its own, by its place on the tape."""
        asked = [msgspec.msgpack.decode(body, type=Request) for body, _ in self._known.values()]
        return sorted(
            (one for one in asked if one.id.startswith("look:")), key=lambda r: (r.place.through, r.place.ts)
        )


def _photograph(
    workspace: Workspace,
    run: Past,
    order: Order,
    decision: Signal | None,
    instruments: tuple[Instrument, ...],
    scene: Scene,
) -> None:
    """Play the strategy to its decision."""
    spec, signal = run.spec, decision or order.signal
    folder = workspace.runs / spec.run
    kind = load((folder / "strategy.py").read_text("utf-8"), spec.class_name, folder / "strategy.py")
    strategy = kind(name=spec.name, **spec.parameters)
    strategy.symbols = spec.symbols or strategy.symbols
    answers = _Answers(run.answers, signal.id if decision is not None else "")

    def desk(engine: Engine, account: Account) -> Desk:
        return Mirror(
            spec.run, spec.name, engine.instruments, spec.capital, engine.rulebook, answers.ask, engine
        )

    engine = Engine(
        [strategy],
        instruments,
        capital=spec.capital,
        rulebook=Rulebook.load(),
        seed=spec.seed,
        trade_from=spec.trade_from,
        desk=desk,
    )
    after = max(spec.warm_from, 0)
    index = engine.host.find(order.symbol)
    span = span_of(engine.host.intervals.values())
    trace = Trace(_blocks(workspace, after), index, signal.seq, order.end_ts or signal.ts, span)
    scene.ts, scene.units, scene.seen = trace.ts, trace.units, trace.seen
    if decision is not None:
        look(engine, _events(workspace, after, engine, answers), signal, index, 0, trace, scene)


def _blocks(workspace: Workspace, after: int) -> Iterator[Block]:
    log = TapeLog(workspace.tapes)
    try:
        yield from (frame.block for frame in log.read(after) if len(frame.block))
    finally:
        log.close()


def _events(workspace: Workspace, after: int, engine: Engine, answers: _Answers) -> Iterator[Event]:
    """What the runner played, in order; where it asked the gateway on its own it asks again."""
    log, looks = TapeLog(workspace.tapes), answers.looks()
    mirror = engine.desk
    assert isinstance(mirror, Mirror)  # noqa: S101 - made above
    try:
        for frame in log.read(after):
            if frame.universe > len(engine.instruments):
                engine.widen(TapeLog(workspace.tapes).instruments())
            block = frame.block
            while looks and looks[0].place.ts <= frame.clock:
                place, identity = looks[0].place, looks.pop(0).id
                cut = max(0, min(len(block), place.through + 1 - block.first))
                if cut:
                    yield block.rows(0, cut)
                    block = block.rows(cut, len(block))
                yield Clock(place.ts)
                mirror.look(place, identity)
            if len(block):
                yield block
            yield Clock(frame.clock)
    finally:
        log.close()


# ── to the broker and back ───────────────────────────────────────────────────────────────────────────────────────


def _way(workspace: Workspace, run: Past, order: Order) -> list[Step]:
    """When it was on record, and what is known of it at the broker, by wall time."""
    steps: list[Step] = []
    at = run.asked.get(order.id, 0)
    if at:
        late = (at - order.signal.ts) / 1e9
        told = f", {text.decimal(late, 3)} s after its tape time" if 0 <= late < 3600 else ""
        steps.append(Step("record", 0, order.id, f"in the journal of {run.spec.namespace}{told}", at))
    broker = _broker(workspace, run.spec, order)
    if broker:
        return steps + broker
    for one in run.reports:
        if one.order == order.id:
            price = text.price(one.price, order.instrument.price_scale)
            done = f" {text.whole(abs(one.quantity))} at {price}" if one.kind == "filled" else ""
            why = f": {text.one_line(one.reason)}" if one.reason else ""
            steps.append(Step("broker", 0, one.trade_id, f"{one.kind}{done}{why}", one.at))
    return steps


def _broker(workspace: Workspace, spec: RunSpec, order: Order) -> list[Step]:
    """The order's way at Zerodha, from the order journal; empty for other brokers."""
    from alphapanda.zerodha.told import told

    return [
        Step(what, 0, identity, detail, wall)
        for what, identity, detail, wall in told(workspace, spec.namespace, spec.run, order.id)
    ]

"""The order path over real sockets: every way in which the sandbox spoils the answer to an order, one after another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from alphapanda.clock import wall_ns
from alphapanda.sandbox.faults import ANSWERS, KINDS
from alphapanda.sandbox.orders import Arrival
from alphapanda.sandbox.serve import Running, Sandbox
from alphapanda.zerodha.states import CANCELLED, FILLED, LOST, REJECTED, UNKNOWN, WORKING
from tests.order_rig import Shell, made
from tests.sandbox_rig import broker

PLACE = sorted(name for name in KINDS if name.startswith("place-"))
REFUSED = {"place-429", "place-margin", "place-session-403"}
NOWHERE = {"place-lost", "place-refused-connection", "place-html-429"}
FAR = 140_000  # a limit that does not fill


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Running]:
    with Sandbox.thread(broker(wall_ns(), hours=False)) as running:
        yield running


def arrivals(sandbox: Running, tag: str) -> list[Arrival]:
    return sandbox.do(lambda there: [one for one in there.ledger.arrivals if one.tag == tag])


@pytest.mark.parametrize("fault", PLACE)
def test_an_order_arrives_once_whatever_the_answer(sandbox: Running, tmp_path: Path, fault: str) -> None:
    intent = made(fault, limit=FAR)
    late = 2.5 if "late" in fault else None
    sandbox.switch(fault, match=intent.tag, seconds=0.2 if fault == "place-slow" else late)
    with Shell(sandbox, tmp_path / "orders.sqlite") as shell:
        shell.submit(intent)
        if fault in REFUSED:
            assert shell.until(fault, REJECTED).order_id == ""
        elif fault in NOWHERE:
            assert shell.until(fault, LOST).reads >= 3
            states = [after for _, _, after, _, _ in shell.path.store.lines(intent.key)]
            assert states.count("sending") == 1
            assert UNKNOWN in states
        else:
            ended = shell.until(fault, WORKING)
            assert ended.order_id == arrivals(sandbox, intent.tag)[0].order_id
    expected = 0 if fault in REFUSED | NOWHERE else 1
    assert len(arrivals(sandbox, intent.tag)) == expected


@pytest.mark.parametrize("name", ["timeout", "drop", "html-502", "no-data", "429", "lost", "redirect"])
def test_a_cancel_reaches_its_end(sandbox: Running, tmp_path: Path, name: str) -> None:
    intent = made(f"cancel {name}", limit=FAR)
    with Shell(sandbox, tmp_path / "orders.sqlite") as shell:
        shell.submit(intent)
        there = shell.until(intent.order, WORKING).order_id
        sandbox.switch(f"cancel-{name}", match=there)
        shell.cancel(intent.order)
        assert shell.until(intent.order).state == CANCELLED
        told = [report.kind for _, report in shell.path.store.reports(0) if report.order == intent.order]
    assert told == ["accepted", "cancelled"]


@pytest.mark.parametrize("name", ["timeout", "html-502", "429", "no-order-id"])
def test_a_modification_reaches_its_end(sandbox: Running, tmp_path: Path, name: str) -> None:
    intent = made(f"modify {name}", quantity=10, limit=FAR)
    with Shell(sandbox, tmp_path / "orders.sqlite") as shell:
        shell.submit(intent)
        there = shell.until(intent.order, WORKING).order_id
        sandbox.switch(f"modify-{name}", match=there)
        shell.resize(intent.order, 4)
        shell.wait(lambda: shell.path.intents[intent.key].quantity == 4)
        shell.cancel(intent.order)
        assert (shell.until(intent.order).state, intent.quantity) == (CANCELLED, 4)


def test_fills_come_with_their_trades(sandbox: Running, tmp_path: Path) -> None:
    intent = made("fills", quantity=7, limit=170_000)
    with Shell(sandbox, tmp_path / "orders.sqlite") as shell:
        shell.submit(intent)
        assert shell.until(intent.order, FILLED).filled == 7
        assert sum(quantity for _, _, quantity, _, _ in shell.path.store.trades()) == 7


def test_who_comes_after_a_crash_adopts_and_does_not_send(sandbox: Running, tmp_path: Path) -> None:
    intent = made("crash", limit=FAR)
    sandbox.switch("place-timeout", match=intent.tag)
    journal = tmp_path / "orders.sqlite"
    with Shell(sandbox, journal) as shell:
        shell.submit(intent)
        shell.until(intent.order, "sending", UNKNOWN, WORKING)
    with Shell(sandbox, journal) as shell:
        shell.until(intent.order, WORKING)
    assert len(arrivals(sandbox, intent.tag)) == 1


def test_every_answer_the_sandbox_can_spoil_was_tried() -> None:
    assert {f"place-{name}" for name in ANSWERS} <= set(PLACE)
    assert len(PLACE) >= 28

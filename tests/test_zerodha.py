"""The zerodha namespace end to end: real processes, the sandbox for the broker, faults on the way."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import alphapanda as ap
from alphapanda.clock import wall_ns
from alphapanda.errors import AuthorizationError
from alphapanda.sandbox.serve import Running, Sandbox
from alphapanda.zerodha.standing import orders_file
from tests.havoc.strategies import Patient
from tests.rig import Rig
from tests.sandbox_rig import FREE, broker

pytestmark = [pytest.mark.long, pytest.mark.timeout(150)]


@pytest.fixture
def sandbox() -> Iterator[Running]:
    with Sandbox.thread(broker(limits=FREE, hours=False)) as running:
        yield running


@contextlib.contextmanager
def platform(root: Path, sandbox: Running, **more: Any) -> Iterator[Rig]:
    """A hub whose zerodha namespace trades at the sandbox."""
    settings: dict[str, Any] = {
        "ZERODHA__API_KEY": sandbox.broker.account.api_key,
        "ZERODHA__ACCESS_TOKEN": sandbox.open_session(),
        "ZERODHA__ROOT_URL": sandbox.url,
        "ZERODHA__TIMEOUT_SECONDS": 1.0,
        "FEED__TICKS_PER_SECOND": 20,
        "RISK__DUPLICATE_WINDOW_MS": 1,
        **more,
    }
    with Rig(root, **settings) as rig:
        yield rig


def filled(sandbox: Running) -> list[tuple[str, int]]:
    """What truly traded at the broker: tag, signed quantity."""
    trades = sandbox.do(lambda _: list(sandbox.broker.ledger.trades))
    return [(trade.order.tag, trade.quantity * trade.order.side) for trade in trades]


def arrivals(sandbox: Running) -> Counter[str]:
    """Orders that reached the broker, by tag."""
    return Counter(sandbox.do(lambda _: [one.tag for one in sandbox.broker.ledger.arrivals]))


def booked(rig: Rig) -> list[tuple[str, int]]:
    """What our own store counts."""
    path = orders_file(rig.workspace, "zerodha")
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return db.execute(
            "SELECT intent.tag, fill.quantity FROM fill JOIN intent ON intent.key = fill.key ORDER BY fill.rowid"
        ).fetchall()


def test_a_paper_gateway_has_no_client_to_send_with() -> None:
    code = (
        "import sys, alphapanda.gateway; from alphapanda.traders.factory import trader_class; trader_class('paper');"
        "print([name for name in sys.modules if name.startswith(('kiteconnect', 'alphapanda.zerodha', 'requests'))])"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, timeout=50
    )
    assert done.stdout.strip() == "[]"


def test_a_strategy_trades_at_the_broker_and_its_books_are_the_brokers(
    tmp_path: Path, sandbox: Running
) -> None:
    with platform(tmp_path / "place", sandbox) as rig:
        run = rig.run(Patient(most=6), namespace="zerodha")
        shown = rig.until(lambda: rig.document(f"zerodha:run:{run}").get("counts", {}).get("fills", 0) >= 6 and
                          rig.document(f"zerodha:run:{run}"), 60.0, "six fills are in the run's books")  # fmt: skip
        assert shown["counts"]["fills"] == 6
        assert not shown["positions"]
        assert filled(sandbox) == booked(rig)
        assert [quantity for _, quantity in booked(rig)] == [5, -5] * 3
        assert set(arrivals(sandbox).values()) == {1}


class Resting(ap.Strategy):
    """One entry far below the market, which stays."""

    symbols = ("NSE:INFY",)

    def on_start(self) -> None:
        self.state.sent = False

    def on_tick(self, tick: ap.Tick) -> None:
        if not self.state.sent:
            self.state.sent = True
            self.buy(tick.symbol, 5, limit=self.round_price(tick.symbol, tick.price * 0.98))


def live(sandbox: Running) -> list[str]:
    """Tags of the orders that work at the broker."""
    return sandbox.do(lambda of: [order.tag for order in of.book.live()])


def counts(rig: Rig, run: str) -> dict[str, int]:
    """What the run's document counts."""
    return rig.document(f"zerodha:run:{run}").get("counts", {})


@pytest.mark.parametrize("role", ["gateway:zerodha", "runner", "server", "hub"])
def test_killed_while_it_trades_nothing_is_lost_or_sent_twice(
    role: str, tmp_path: Path, sandbox: Running
) -> None:
    with platform(tmp_path / "place", sandbox) as rig:
        run = rig.run(Patient(most=10), namespace="zerodha")
        for share in (2, 4, 6):
            rig.until(lambda share=share: len(filled(sandbox)) >= share, 40.0, f"{share} trades")
            rig.signal(f"runner:{run}" if role == "runner" else role, signal.SIGKILL)
            if role == "hub":
                assert rig.process is not None
                rig.process.wait(10)
                rig.up()
        rig.until(lambda: len(filled(sandbox)) >= 10, 60.0, "ten trades")
        rig.until(lambda: filled(sandbox) == booked(rig), 30.0, "the books are the broker's")
        rig.until(lambda: counts(rig, run).get("fills") == 10, 30.0, "and the run's")
        assert set(arrivals(sandbox).values()) == {1}


@pytest.mark.parametrize(
    "fault", ["place-timeout", "place-reset", "place-html-502", "place-null", "place-late"]
)
def test_an_answer_that_goes_wrong_is_looked_up_and_never_sent_again(
    fault: str, tmp_path: Path, sandbox: Running
) -> None:
    with platform(tmp_path / "place", sandbox) as rig:
        sandbox.switch(fault, times=2, **({"seconds": 2} if fault == "place-late" else {}))
        run = rig.run(Patient(most=4), namespace="zerodha")
        rig.until(lambda: len(filled(sandbox)) >= 4, 60.0, "four trades")
        rig.until(lambda: filled(sandbox) == booked(rig), 30.0, "the books are the broker's")
        assert set(arrivals(sandbox).values()) == {1}
        rig.until(lambda: counts(rig, run).get("orders") == 4, 20.0, "four orders in the run's books")


def test_the_kill_switch_needs_neither_gateway_nor_hub_nor_server(tmp_path: Path, sandbox: Running) -> None:
    with platform(tmp_path / "place", sandbox) as rig:
        rig.run(Resting(), namespace="zerodha")
        rig.until(lambda: live(sandbox), 40.0, "an order rests at the broker")
        for role in ("server", "gateway:zerodha", "hub"):
            rig.signal(role, signal.SIGSTOP)
        done = rig.cli("kill", "zerodha", "--reason", "drill")
        assert "asked to cancel" in done.stdout, done.stdout + done.stderr
        assert live(sandbox) == []
        assert rig.process is not None
        rig.process.send_signal(signal.SIGCONT)


def test_closing_positions_takes_the_accounts_id(tmp_path: Path, sandbox: Running) -> None:
    with platform(tmp_path / "place", sandbox) as rig:
        rig.run(Resting(), namespace="zerodha")
        rig.until(lambda: live(sandbox), 40.0, "an order rests at the broker")
        done = rig.cli("kill", "zerodha", "--flatten")
        assert done.returncode == 1
        assert "positions are NOT closed" in done.stdout
        rig.until(lambda: not live(sandbox), 10.0, "its entries are cancelled all the same")


def test_closing_positions_says_whether_they_are_closed(tmp_path: Path, sandbox: Running) -> None:
    with platform(tmp_path / "place", sandbox, ZERODHA__USER_ID="SB0001") as rig:
        rig.run(Patient(most=1), namespace="zerodha")
        rig.until(lambda: booked(rig), 40.0, "it holds something")
        with rig.stopped("gateway:zerodha"):
            done = rig.cli("kill", "zerodha", "--flatten", "--account", "SB0001")
        assert done.returncode == 1
        assert "positions still open: NSE:INFY" in done.stdout, done.stdout + done.stderr
        since = wall_ns()
        rig.until(lambda: rig.document("health:gateway:zerodha").get("at", 0) > since, 30.0, "a new gateway")
        done = rig.cli("kill", "zerodha", "--flatten", "--account", "SB0001")
        assert (done.returncode, "no position of ours is open" in done.stdout) == (0, True), done.stdout


def test_money_takes_an_approval_and_a_person_after_a_crash(tmp_path: Path, sandbox: Running) -> None:
    with platform(tmp_path / "place", sandbox) as rig:
        with pytest.raises(AuthorizationError, match="never approved") as caught:
            rig.hub.ask(rig.question(Resting(), namespace="zerodha"), 60.0)
        assert (caught.value.code, "session.promote" in caught.value.fix) == ("E_PROMOTION", True)
        assert not list(rig.workspace.runs.iterdir()), "no runner was started in vain"

        run = rig.run(Resting(), namespace="zerodha", approved={"auto_resume": False})
        rig.until(lambda: live(sandbox), 40.0, "an order rests at the broker")
        shown = lambda: rig.document(f"zerodha:run:{run}")  # noqa: E731
        rig.until(lambda: shown().get("state"), 10.0, "the gateway shows the run")
        assert (shown()["state"], shown()["reason"]) == ("running", "")
        done = rig.cli("pause", "Resting", "--why", "odd fills")
        assert done.returncode == 0, done.stdout + done.stderr
        assert (shown()["state"], shown()["reason"]) == ("paused", "odd fills")
        assert f"{run}: odd fills" in rig.cli("status").stdout
        rig.until(lambda: not live(sandbox), 20.0, "its entry is withdrawn")
        assert rig.cli("resume", run).returncode == 0
        assert shown()["state"] == "running"

        rig.kill("gateway:zerodha")
        why = f"came back after a crash: look at it, then `alphapanda resume {run}`"
        rig.until(lambda: shown().get("reason") == why, 30.0, "it came back paused")
        assert rig.cli("resume", run).returncode == 0
        with (rig.workspace.runs / run / "strategy.py").open("a") as module:
            module.write("#")
        rig.signal(f"runner:{run}")
        spec = rig.until(
            lambda: (found := rig.spec(run)).state == "failed" and found, 40.0, "its runner is refused"
        )
        assert "is not the one that it was started from" in spec.reason
        acts = ["draft", "paper", "certify", "arm", "live", "pause", "resume", "pause", "resume", "retire"]
        rig.until(lambda: rig.promotions() == acts, 20.0, "all of it is on record")


class Guarded(ap.Strategy):
    """One entry with a stop and a target."""

    symbols = ("NSE:INFY",)

    def on_start(self) -> None:
        self.state.sent = False

    def on_tick(self, tick: ap.Tick) -> None:
        if not self.state.sent:
            self.state.sent = True
            below, above = (self.round_price(tick.symbol, tick.price * x) for x in (0.97, 1.05))
            self.buy(tick.symbol, 5, sl=below, tp=above)


def test_a_stop_that_the_exchange_cancels_closes_its_position(tmp_path: Path, sandbox: Running) -> None:
    with platform(tmp_path / "place", sandbox) as rig:
        sandbox.switch("stop-vanishes")
        run = rig.run(Guarded(), namespace="zerodha")
        rig.until(lambda: filled(sandbox) and live(sandbox), 40.0, "its stop rests at the broker")
        assert len(live(sandbox)) == 1, "the target waits here: two resting exits could both fill"
        sandbox.tick("NSE:INFY", 1490.0)  # through the stop, which goes instead of filling
        rig.until(
            lambda: sum(quantity for _, quantity in filled(sandbox)) == 0, 20.0, "the position is closed"
        )
        rig.until(lambda: not rig.document(f"zerodha:run:{run}")["positions"], 10.0, "in the run's books too")
        assert not live(sandbox)

"""What people can do about a live account, and what is done for them while they are away: real processes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

import alphapanda as ap
from alphapanda.access import Access
from alphapanda.clock import wait_until, wall_ns
from alphapanda.events import DAY
from alphapanda.sandbox.serve import Running, Sandbox
from alphapanda.settings import Settings
from alphapanda.workspace import Workspace
from alphapanda.zerodha.standing import orders_file
from alphapanda.zerodha.states import DOUBT, FILLED, GIVE_UP, WORKING
from alphapanda.zerodha.store import Store
from alphapanda.zerodha.trader import ZerodhaTrader
from tests.order_rig import made
from tests.rig import Rig
from tests.sandbox_rig import FREE, broker
from tests.test_zerodha import Resting, counts, live, platform

pytestmark = pytest.mark.timeout(150)
ACCOUNT = "SB0001"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Running]:
    with Sandbox.thread(broker(wall_ns(), limits=FREE, hours=False)) as running:
        yield running


def lost(root: Path, name: str, at: int) -> None:
    """An order of that moment on record whose fate nobody knows."""
    intent = made(name, created=at, expires=at + 10**10)
    store = Store(orders_file(Workspace(root), "zerodha"))
    store.take_over()
    store.create([intent])
    assert store.claim(intent, at)
    store.move(intent, DOUBT, "no answer", at)
    store.move(intent, GIVE_UP, "not in 3 looks at the book", at)
    store.close()


async def until(true: Callable[[], bool], what: str) -> None:
    """Wait for it, or fail."""
    assert await asyncio.to_thread(wait_until, true, 20.0), what


class Greedy(ap.Strategy):
    """Wants one share more at every tick, and lets go of all once it is told no."""

    symbols = ("NSE:INFY",)

    def on_start(self) -> None:
        self.state.denied = 0

    def on_tick(self, tick: ap.Tick) -> None:
        if self.open_orders(tick.symbol):
            return
        if not self.state.denied:
            self.buy(tick.symbol, 1)
        elif self.position(tick.symbol).quantity:
            self.order_target(tick.symbol, 0)

    def on_order(self, order: ap.Order) -> None:
        self.state.denied += order.status == "denied"


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, sandbox: Running) -> Iterator[Rig]:
    root = tmp_path_factory.mktemp("people") / "place"
    root.mkdir()
    (root / ".alphapanda" / "orders").mkdir(parents=True)
    lost(root, "of-yesterday", wall_ns() - DAY)
    with platform(root, sandbox, ZERODHA__USER_ID=ACCOUNT, API__PORT=0) as rig:
        yield rig


@pytest.fixture(scope="module")
def resting(rig: Rig, sandbox: Running) -> str:
    """A run whose entry rests at the broker, until a test ends it."""
    run = rig.run(Resting(), namespace="zerodha")
    rig.until(lambda: live(sandbox), 40.0, "an order rests at the broker")
    return run


def test_an_order_nobody_can_find_waits_for_a_person(rig: Rig, resting: str) -> None:
    rig.until(lambda: rig.document("health:gateway:zerodha"), 30.0, "the gateway runs")
    shown = rig.cli("reconcile", "zerodha")
    assert shown.returncode == 1
    assert "nobody knows what became of order of-yesterday: BUY 1 NSE:INFY" in shown.stdout
    assert rig.cli("reconcile", "zerodha", "--settled", " ").returncode == 2
    assert rig.cli("reconcile", "zerodha", "--settled", "x", "--order", "another").returncode == 2
    done = rig.cli("reconcile", "zerodha", "--settled", "contract note: not traded")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "settled: of-yesterday" in done.stdout
    again = rig.cli("reconcile", "zerodha")
    assert (again.returncode, "agree" in again.stdout) == (0, True), again.stdout
    assert any("contract note: not traded" in str(line) for line in rig.logged("audit"))


def test_reducing_only_lets_positions_become_smaller(rig: Rig, sandbox: Running) -> None:
    run = rig.run(Greedy(), namespace="zerodha")
    rig.until(lambda: counts(rig, run).get("fills", 0) >= 2, 40.0, "it holds something")
    done = rig.cli("kill", "zerodha", "--reduce", "--reason", "a quiet hour")
    assert (done.returncode, "the gateway only reduces" in done.stdout) == (0, True), done.stdout
    rig.until(lambda: not rig.document(f"zerodha:run:{run}")["positions"], 30.0, "it has let go")
    rig.cli("kill", "zerodha", "--halt")
    assert rig.cli("kill", "zerodha", "--reduce").stdout.count("has halted"), "a stricter level stays"
    assert rig.cli("kill", "zerodha", "--lift", "the hour is over").returncode == 0


def test_over_http_money_is_halted_and_stopped_by_who_types_its_account(
    rig: Rig, sandbox: Running, resting: str
) -> None:
    access = Access(rig.workspace)
    head = {role: {"Authorization": f"Bearer {access.add(role, role)}"} for role in ("operate", "live")}
    rig.hub.ask({"do": "offer", "roles": ["api"]})
    url = rig.until(lambda: rig.document("health:api").get("url"), 40.0, "the API serves")

    def post(path: str, role: str = "live", **body: str) -> httpx.Response:
        sent = {"reason": "a drill", **body}
        return httpx.post(f"{url}/v1/{path}", headers=head[role], json=sent, timeout=60)

    for path in ("namespaces/zerodha/halt", f"runs/{resting}/stop", f"runs/{resting}/pause"):
        for role, typed, code in (
            ("operate", {"account": ACCOUNT}, "E_ROLE"),
            ("live", {}, "E_ACCOUNT"),
            ("live", {"account": "SB0002"}, "E_ACCOUNT"),
        ):
            answer = post(path, role, **typed)
            assert (answer.status_code, answer.json()["code"]) == (403, code), path
    assert not rig.workspace.halt_flag("zerodha").exists()
    assert live(sandbox), "nothing was done to it"

    done = post("namespaces/zerodha/halt", account=ACCOUNT)
    assert (done.status_code, done.json()["level"]) == (200, 3), done.text
    assert live(sandbox) == [], "its entry is withdrawn at the broker"
    assert rig.workspace.halt_flag("zerodha").exists()
    assert post("namespaces/zerodha/lift").status_code == 403
    done = post("namespaces/zerodha/lift", account=ACCOUNT)
    assert (done.status_code, done.json()["level"]) == (200, 0), done.text
    done = post(f"runs/{resting}/stop", account=ACCOUNT)
    assert (done.status_code, done.json()["state"]) == (200, "stopped"), done.text
    acts = [
        line for line in rig.logged("audit") if line["event"].startswith("api.") and line["status"] == 200
    ]
    assert [(line["event"], line["by"]) for line in acts] == [
        (f"api.{one}", "live over HTTP") for one in ("halt_namespace", "lift_halt", "stop_run")
    ]
    assert ACCOUNT not in str(acts)


def test_entries_of_a_gateway_that_is_gone_are_cancelled(tmp_path: Path) -> None:
    with (
        Sandbox.thread(broker(wall_ns(), limits=FREE, hours=False)) as sandbox,
        platform(tmp_path / "place", sandbox, MONITORING__DEAD_MAN_SECONDS=2) as rig,
    ):
        rig.run(Resting(), namespace="zerodha")
        rig.until(lambda: live(sandbox), 40.0, "an order rests at the broker")
        gateway = rig.pid("gateway:zerodha")
        with rig.stopped("hub"):
            os.kill(gateway, signal.SIGKILL)
            for path in rig.workspace.journal("zerodha").parent.glob("zerodha.sqlite*"):
                path.rename(path.with_name(f"away-{path.name}"))
            rig.workspace.journal("zerodha").mkdir()  # it cannot start again
        rig.until(lambda: not live(sandbox), 30.0, "its entry is cancelled by the hub")
        assert "dead man" in rig.workspace.halt_flag("zerodha").read_text()


def test_the_ticker_tells_of_a_fill_before_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALPHAPANDA_HOME", str(tmp_path))

    async def main(sandbox: Running) -> None:
        settings = Settings(
            zerodha={
                "api_key": sandbox.broker.account.api_key,
                "access_token": sandbox.open_session(),
                "root_url": sandbox.url,
            }
        )
        trader = ZerodhaTrader(settings)
        await trader.initialize()
        await until(lambda: trader._ears.health()["state"] == "connected", "the ticker is connected")
        path, intent = trader._path, made("rests", limit=150_000)
        path.submit([intent], wall_ns())
        await until(lambda: path.intents[intent.key].state == WORKING, "the order rests")
        with trader._lock:
            path._book_at = wall_ns() + DAY  # no look by itself any more
        await asyncio.to_thread(sandbox.tick, "NSE:INFY", 1495.0)
        await until(
            lambda: path.intents[intent.key].state == FILLED, f"its fill is known; {trader._ears.health()}"
        )
        await trader.shutdown()

    with Sandbox.thread(broker(wall_ns(), limits=FREE, hours=False)) as sandbox:
        asyncio.run(main(sandbox))

"""Chaos with real processes, C01 to C24: see ``tests.havoc`` for which test holds which.

One platform for all of them, faults one after the other. After each, everything that was ever ordered is compared with
the broker's own ledger. The tests may come in any order.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from alphapanda.alerts.rules import OTHERS
from alphapanda.clock import monotonic, pause
from alphapanda.errors import InfrastructureError
from alphapanda.events import SECOND
from alphapanda.processes import children
from alphapanda.zerodha.standing import orders_file
from alphapanda.zerodha.states import DOUBTFUL
from tests.conftest import OwnValkey
from tests.havoc.desk import NAMESPACE, ORDER_CAP, Desk, desk
from tests.havoc.load import Nemesis
from tests.havoc.strategies import Patient, Resting, Wild

pytestmark = [pytest.mark.long, pytest.mark.timeout(120)]
GATEWAY = f"gateway:{NAMESPACE}"
GRACE = 0.5  # seconds in which what was on its way may still leave


class Shared:
    """The desk of this module: made when first wanted, and again after a test that left it broken."""

    def __init__(self, root: Path) -> None:
        self._root, self._count = root, 0
        self._stack = contextlib.ExitStack()
        self.desk: Desk | None = None

    def get(self) -> Desk:
        if self.desk is None:
            self._count += 1
            self.desk = self._stack.enter_context(desk(self._root / str(self._count)))
        return self.desk

    def drop(self) -> None:
        self.desk = None
        self._stack.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    made = Shared(tmp_path_factory.mktemp("chaos"))
    yield made
    made.drop()


@pytest.fixture
def place(shared: Shared) -> Iterator[Desk]:
    """The desk, healed and checked when the test is over."""
    found = shared.get()
    yield found
    try:
        found.proxy.heal()
        found.sandbox.do(lambda of: of.faults.off())
        for run in found.rig.hub.ask({"do": "status"}, 10.0)["runs"]:
            found.end(run["run"])
        found.check()
        if len(found.free()) < 6:
            shared.drop()
    except BaseException:
        shared.drop()
        raise


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A strategy's name that no other test has: what is lost of one blocks it for the day."""
    return "".join(letter for letter in request.node.name.title() if letter.isalnum())


def own(found: Desk) -> OwnValkey:
    assert found.server is not None
    return found.server


def fills(found: Desk, run: str) -> int:
    """How many the run's books show; an order may fill in parts."""
    return found.rig.document(f"{NAMESPACE}:run:{run}").get("counts", {}).get("fills", 0)


def filled(found: Desk, run: str, *reasons: str) -> int:
    """How many of the run's newest orders its books show as filled, or as ended for a reason that begins so."""
    orders = found.rig.document(f"{NAMESPACE}:run:{run}").get("orders", ())
    return sum(one["status"] == "filled" or one["reason"].startswith(reasons) for one in orders)


def trade(found: Desk, name: str, most: int, first: int = 2) -> str:
    """Start a run that trades, and wait for its first fills."""
    run = found.run(Patient(most=most, name=name, symbols=[found.symbol()]))
    found.until(lambda: fills(found, run) >= first, 30.0, f"{first} fills")
    return run


def finish(found: Desk, run: str, most: int, *reasons: str) -> None:
    """Wait until it has traded all it wanted, each order once. On a slow machine a fault may last longer than an order
    may wait; ``reasons`` are others for which one may end."""
    reasons = ("its time was over", *reasons)
    found.until(lambda: filled(found, run, *reasons) == most, 40.0, f"{most} orders are in the run's books")


# ── the state server ─────────────────────────────────────────────────────────────────────────────────────────────


def killed(server: OwnValkey) -> Callable[[], None]:
    server.kill()
    return server.start


def stopped(server: OwnValkey) -> Callable[[], None]:
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)
    return lambda: os.kill(pid, signal.SIGCONT)


def full(server: OwnValkey) -> Callable[[], None]:
    with server.client() as client:
        info: Any = client.info("memory")
    server.config("maxmemory", info["used_memory"] // 2)
    return lambda: server.config("maxmemory", 0)


@pytest.mark.parametrize("harm", [killed, stopped, full])
def test_nothing_leaves_without_the_state_server_and_then_it_goes_on(
    harm: Callable[[OwnValkey], Callable[[], None]], place: Desk, name: str
) -> None:
    run = trade(place, name, 8)
    heal = harm(own(place))
    try:
        pause(GRACE)
        since = monotonic()
        pause(2.5)
        assert place.proxy.posts(since) == [], "an order left while nobody could be told of it"
    finally:
        heal()
    finish(place, run, 8)
    with own(place).client() as client:
        found: Any = client.info("stats")
        assert found["evicted_keys"] == 0


def test_what_the_server_forgets_is_made_again_from_the_journal(place: Desk, name: str) -> None:
    run = trade(place, name, 4)
    finish(place, run, 4)
    before = place.rig.document(f"{NAMESPACE}:run:{run}")
    own(place).flush()
    place.until(lambda: filled(place, run) == 4, 10.0, "the run's document is there again")
    after = place.rig.document(f"{NAMESPACE}:run:{run}")
    assert (after["counts"] | {"ticks": 0}) == (before["counts"] | {"ticks": 0})
    assert after["positions"] == before["positions"]
    place.until(lambda: place.rig.document("health:feed").get("state"), 10.0, "the feed tells, too")


# ── the gateway ──────────────────────────────────────────────────────────────────────────────────────────────────

POINTS = {  # where it dies: whether the broker has the order then, or may still get it
    "decided": True, "created": True, "claimed": False, "gated": False,
    "posted": True, "answered": True, "seen": True, "filled": True,
}  # fmt: skip


def both(found: Desk, run: str) -> bool:
    """Two orders have ended: filled, or expired where the gateway was away for too long to send them."""
    ended = [one for one in found.intents() if one.run == run and one.state in ("filled", "expired")]
    return len(ended) == 2 and filled(found, run) == sum(one.state == "filled" for one in ended)


@pytest.mark.parametrize("point", POINTS)
def test_a_gateway_that_dies_there_sends_nothing_twice(point: str, place: Desk, name: str) -> None:
    place.point.write_text(point)
    run = place.run(Patient(most=2, name=name, symbols=[place.symbol()]))
    place.until(lambda: not place.point.exists(), 20.0, f"it has died where it {point}")
    if POINTS[point]:
        place.until(lambda: both(place, run), 40.0, "both orders have ended, and the run's books say so")
        return
    place.until(lambda: place.alarms(f"order {name}:"), 25.0, "what never arrived is given up, and told")
    (intent,) = (one for one in place.intents() if one.run == run)
    assert (intent.state, intent.filled) == ("lost", 0)
    assert intent.tag not in {one.tag for one in place.arrivals()}


def test_one_that_dies_over_a_cancel_finds_it_again(place: Desk, name: str) -> None:
    place.point.write_text("cancelled")
    place.run(Resting(most=1, leave="1s", name=name, symbols=[place.symbol()]))
    place.until(lambda: not place.point.exists(), 20.0, "it has died with the cancel sent")
    ended = lambda: [one.state for one in place.intents() if one.strategy == name]  # noqa: E731
    place.until(lambda: ended() == ["cancelled"], 20.0, "the order is cancelled, and we know")


def test_a_second_gateway_is_refused_while_the_first_is_only_stopped(place: Desk, name: str) -> None:
    run = trade(place, name, 8)
    with place.rig.stopped(GATEWAY):
        second = place.standby()
        said = second.communicate(timeout=20)[1]
        assert second.returncode == 1
        assert "[E_LEASE]" in said
    place.until(lambda: fills(place, run) >= 4, 20.0, "the first goes on")

    finish(place, run, 8)


def test_a_gateway_that_hangs_is_ended_and_followed(place: Desk, name: str) -> None:
    run = trade(place, name, 4)
    hung = place.rig.signal(GATEWAY, signal.SIGSTOP)
    place.until(
        lambda: place.rig.pid(GATEWAY) not in (0, hung), 30.0, "the hub has seen that its heart stands"
    )
    finish(place, run, 4)


# ── the line to the broker ───────────────────────────────────────────────────────────────────────────────────────


def test_an_answer_lost_on_the_way_is_looked_up(place: Desk, name: str) -> None:
    place.proxy.lose(b"POST /orders", 2)
    finish(place, trade(place, name, 4), 4)
    place.proxy.lose(b"DELETE /orders")
    place.run(Resting(most=1, leave="1s", name=f"{name}Rest", symbols=[place.symbol()]))
    place.until(
        lambda: [one.state for one in place.intents() if one.strategy == f"{name}Rest"] == ["cancelled"], 20.0,
        "the cancel took effect",
    )  # fmt: skip


@pytest.mark.parametrize("harm", ["cut", "frozen", "slow"])
def test_a_bad_line_ends_no_process_and_doubles_no_order(harm: str, place: Desk, name: str) -> None:
    run, pid = trade(place, name, 6), place.rig.pid(GATEWAY)
    if harm == "slow":
        place.proxy.latency = 1.0  # there and back: longer than a call is waited for
    else:
        place.proxy.turn(harm)
    pause(3.0)
    place.proxy.heal()
    place.until(place.settled, 20.0, "what was on its way is known")
    sent = [one for one in place.intents() if one.run == run]
    if not any(one.state in ("lost", "expired", "rejected", "denied") for one in sent):
        finish(place, run, 6)
    assert place.rig.pid(GATEWAY) == pid
    second = [at.ts // SECOND for at in place.arrivals()]
    assert max(map(second.count, second)) <= ORDER_CAP
    assert place.sandbox.broker.ledger.throttled == 0


# ── prices ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fault", ["ticker-silent", "ticker-close", "ticker-abort", "ticker-malformed"])
def test_prices_that_fail_are_noticed_and_come_back(fault: str, place: Desk, name: str) -> None:
    run = trade(place, name, 400)

    def counts() -> dict[str, int]:
        return place.rig.document("health:feed").get("kite", {}).get("counts", {})

    place.until(counts, 10.0, "the feed tells")
    kind = "malformed" if fault == "ticker-malformed" else "gaps"
    before = counts().get(kind, 0)
    place.sandbox.switch(
        fault, times=6 if fault == "ticker-malformed" else 2
    )  # the gateway has a socket, too
    place.until(lambda: counts().get(kind, 0) > before, 30.0, f"the feed counts {kind}")
    seen = fills(place, run)
    place.until(lambda: fills(place, run) >= seen + 2, 20.0, "it trades again")


# ── the login ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_dead_token_is_one_alarm_and_a_login_mends_it(place: Desk, name: str) -> None:
    trade(place, name, 6)
    pid = place.rig.pid(GATEWAY)
    told = len(place.alarms("access token is dead"))
    place.sandbox.do(lambda of: of.access.close())
    place.until(lambda: len(place.alarms("access token is dead")) > told, 20.0, "it is told")
    calls = sum("/orders" in path for _, _, path in place.proxy.seen)
    pause(3.0)
    assert sum("/orders" in path for _, _, path in place.proxy.seen) - calls <= 2, (
        "a dead token is not asked again"
    )
    assert len(place.alarms("access token is dead")) == told + 1
    assert place.rig.pid(GATEWAY) == pid
    place.until(lambda: place.health().get("state") == "blocked", 20.0, "its heartbeat says so")
    assert "alphapanda login" in place.health()["detail"]
    assert place.alarms("access token is dead")[-1].startswith(OTHERS), "an alert of its own tells it"
    place.log_in()
    place.until(lambda: place.health().get("state") == "serving", 20.0, "nothing is wrong any more")
    finish(place, trade(place, f"{name}After", 2), 2)
    assert place.secrets() == []


# ── disks and clocks ─────────────────────────────────────────────────────────────────────────────────────────────


def test_no_order_leaves_while_the_journal_cannot_be_written(place: Desk, name: str) -> None:
    run = trade(place, name, 8)
    with place.rig.disk_full(GATEWAY):
        place.until(lambda: place.health().get("state") == "blocked", 20.0, "it says so")
        arrived = len(place.arrivals())
        pause(2.0)
        assert len(place.arrivals()) == arrived
    finish(place, run, 8)


def test_a_damaged_order_journal_is_refused_and_a_backup_is_taken(place: Desk, name: str) -> None:
    finish(place, trade(place, name, 2), 2)
    symbol = place.symbol()
    rig, path = place.rig, orders_file(place.rig.workspace, NAMESPACE)
    rig.hub.ask({"do": "shutdown"}, 10.0)
    assert rig.process is not None
    rig.process.wait(15)
    backup = path.with_suffix(".backup")
    shutil.copy2(path, backup)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))
    rig.up()
    arrived = len(place.arrivals())
    after = Patient(most=2, name=f"{name}After", symbols=[symbol])
    with pytest.raises(InfrastructureError, match=r"(?s)order journal .* restore the file from a backup"):
        place.run(after)
    assert len(place.arrivals()) == arrived
    for rest in ("-wal", "-shm"):
        path.with_name(path.name + rest).unlink(missing_ok=True)
    backup.replace(path)
    run = place.run(after)
    finish(place, run, 2)


def test_a_clock_that_is_wrong_halts_until_a_person_lifts_it(place: Desk, name: str) -> None:
    run = trade(place, name, 100)
    place.sandbox.switch("clock-skew", times=None, seconds=3600.0)
    place.until(lambda: place.alarms("behind the broker's"), 20.0, "it is told by how much")
    pause(GRACE)
    arrived = len(place.arrivals())
    pause(2.0)
    assert len(place.arrivals()) == arrived
    place.sandbox.do(lambda of: of.faults.off("clock-skew"))
    assert fills(place, run) < 100
    done = place.rig.cli("kill", NAMESPACE, "--lift", "the clock is right again")
    assert done.returncode == 0, done.stdout + done.stderr
    finish(place, trade(place, f"{name}After", 2), 2)


# ── what the broker shows ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "fault",
    ["place-late", "order-tag-missing", "order-tag-in-tags", "book-stale", "book-empty", "book-truncated"],
)
def test_what_the_book_hides_is_neither_lost_nor_sent_again(fault: str, place: Desk, name: str) -> None:
    place.sandbox.switch(fault, times=3, **({"seconds": 1.0} if fault == "place-late" else {}))
    finish(place, trade(place, name, 4), 4)
    assert place.alarms("not ours") == []


def test_a_storm_is_stopped_and_its_neighbour_trades(place: Desk, name: str) -> None:
    run = place.run(Wild(name=f"{name}Wild"))
    calm = trade(place, name, 6)
    shown: Callable[[], dict[str, Any]] = lambda: place.rig.document(f"{NAMESPACE}:run:{run}")  # noqa: E731
    place.until(lambda: shown().get("state") == "halted", 30.0, "it is halted")
    assert "order storm" in shown()["reason"]
    shared = "rate: "  # the account's: while the storm lasts, a neighbour's order may be over it
    finish(place, calm, 6, shared)
    assert place.sandbox.broker.ledger.throttled == 0


# ── people ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_all_that_is_told_to_end_ends_in_any_order(place: Desk, name: str) -> None:
    run = trade(place, name, 300)
    rig, draw = place.rig, random.Random(22)
    roles = ["feed", GATEWAY, f"runner:{run}"]
    draw.shuffle(roles)
    for role in [*roles, "hub"]:
        rig.signal(role, signal.SIGTERM)
        pause(draw.uniform(0.0, 0.2))
    assert rig.process is not None
    rig.process.wait(5.0)
    assert not children(rig.workspace)
    assert not [one for one in place.intents() if one.state in DOUBTFUL and one.state != "lost"]
    rig.up()
    place.until(lambda: rig.pid(GATEWAY), 20.0, "the next one takes it up")
    before = fills(place, run)
    place.until(lambda: fills(place, run) > before, 20.0, "and trades on")


def test_the_kill_switch_with_the_gateway_stopped_and_the_server_dead(place: Desk, name: str) -> None:
    place.run(Resting(most=1, name=name, symbols=[place.symbol()]))
    place.until(place.working, 30.0, "an order rests at the broker")
    place.rig.signal(GATEWAY, signal.SIGSTOP)
    own(place).kill()
    done = place.rig.cli("kill", NAMESPACE, "--reason", "drill")
    assert "asked to cancel" in done.stdout, done.stdout + done.stderr
    assert place.working() == []
    own(place).start()
    place.until(lambda: place.health().get("state") == "halted", 30.0, "the next gateway knows")
    done = place.rig.cli("kill", NAMESPACE, "--lift", "drill is over")
    assert done.returncode == 0, done.stdout + done.stderr
    finish(place, trade(place, f"{name}After", 2), 2)


# ── everything ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("seconds", "seed"),
    [
        pytest.param(15, 1),
        *(pytest.param(60, seed, marks=[pytest.mark.soak, pytest.mark.timeout(240)]) for seed in range(2, 7)),
    ],
)
def test_a_nemesis_finds_nothing(seconds: int, seed: int, place: Desk) -> None:
    nemesis = Nemesis(place, seed)
    nemesis.work(seconds)
    assert len(nemesis.done) > 5
    place.check(60.0)

"""The notebook's side without a browser: waiting, views, the session and its runs on a real hub, kernels, papermill."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import io
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

import alphapanda as ap
from alphapanda.clock import pause
from alphapanda.errors import AuthorizationError, InfrastructureError, UnknownNameError, ValidationError
from alphapanda.hub.client import HubClient
from alphapanda.notebook import control, face, magics
from alphapanda.notebook.card import Card
from alphapanda.notebook.handle import Run
from alphapanda.notebook.poller import Poller
from alphapanda.notebook.session import Session, connect, connect_sync
from alphapanda.notebook.waits import Blocking, blocking, in_thread, nap
from alphapanda.overview.view import Books, Held, Placed, View, Vitals, state_of
from alphapanda.result import RunError
from alphapanda.settings import RedisSettings
from alphapanda.state.client import open_blocking
from alphapanda.workspace import RunSpec, Workspace
from tests.conftest import OwnValkey
from tests.test_notebooks import surroundings

ROOT = Path(__file__).parents[1]
TS = 1_795_405_505 * 10**9


def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for it, or fail."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true in time"
        pause(0.02)


@contextlib.contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """SIGINT to this process, as a kernel gets it."""
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


# ── waiting ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Clerk:
    """Something with coroutines."""

    async def add(self, a: int, *, b: int = 1) -> int:
        """Sum."""
        await asyncio.sleep(0.01)
        return a + b

    async def fail(self) -> None:
        raise ValidationError("no")

    async def sleep(self) -> None:
        await nap(60)

    def plain(self) -> None:
        """Not a coroutine."""


def test_in_thread_hands_back_results_and_errors() -> None:
    async def main() -> None:
        assert await in_thread(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await in_thread(divmod, 7, 0)

    asyncio.run(main())


def test_a_cancelled_wait_leaves_the_call_alone_and_says_nothing_later() -> None:
    went_on = threading.Event()
    complaints: list[Any] = []

    def slow() -> None:
        pause(0.3)
        went_on.set()
        raise ValidationError("too late to matter")

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        task = asyncio.create_task(in_thread(slow))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not went_on.is_set()
        await asyncio.sleep(0.6)

    asyncio.run(main())
    assert went_on.is_set()
    assert complaints == []


def test_the_twin_has_the_coroutines_and_nothing_else() -> None:
    twin = Blocking(Clerk())
    assert dir(twin) == ["add", "fail", "sleep"]
    assert twin.add(2, b=3) == 5
    assert inspect.signature(twin.add) == inspect.signature(Clerk().add)
    assert twin.add.__doc__ == "Sum."
    with pytest.raises(ValidationError, match="no"):
        twin.fail()
    with pytest.raises(AttributeError, match="plain"):
        twin.plain  # noqa: B018


def test_the_twin_works_where_a_loop_runs() -> None:
    async def main() -> int:
        return Blocking(Clerk()).add(1)

    assert asyncio.run(main()) == 2


def test_an_interrupt_ends_a_blocking_wait_and_cancels_it() -> None:
    over = threading.Event()

    async def work() -> None:
        try:
            await nap(60)
        finally:
            over.set()

    began = time.monotonic()
    with interrupted_after(0.3), pytest.raises(KeyboardInterrupt):
        blocking(work)
    assert time.monotonic() - began < 5
    assert over.wait(5)


# ── how a run looks ──────────────────────────────────────────────────────────────────────────────────────────────

FAULT = RunError(
    "Cross", "on_tick", "NSE:INFY", TS, 7, "/x/strategy.py", 12, "ValueError: <b>bad</b>\x1b[2J",
    'Traceback\n  File "/x/strategy.py", line 12, in on_tick\n    self.edge = 1 / self.width\nValueError',
)  # fmt: skip
BOOKS = Books(
    state="running", updated=1, tape_ts=TS, capital=100_000_000, equity=100_123_450, net=123_450, realized=100_000,
    unrealized=30_000, charges=6_550,
    positions=[Held("NSE:INFY", 150, "MIS", 1512.3, 1514.3, 30_000)],
    orders=[
        Placed("a", "NSE:INFY", "BUY", 150, 150, "MARKET", None, "filled", "", TS),
        Placed("b", "NSE:<i>", "SELL", 9, 0, "LIMIT", 1500.5, "denied", 'notional "too" large', TS + 10**9),
    ],
    counts={"ticks": 90, "signals": 2, "orders": 2, "fills": 1, "denials": 1},
    curve=[(TS, 0), (TS + 1, -500), (TS + 2, 123_450)],
)  # fmt: skip


def seen(**changes: Any) -> View:
    pulse = Vitals("running", at=2 * 10**18, tape_ts=TS, data_age_ms=250.0, ticks=100)
    plain = View(
        "cross-1",
        "paper",
        "Cross",
        "ab" * 32,
        {"fast": 3},
        ["NSE:INFY"],
        state="running",
        books=BOOKS,
        pulse=pulse,
    )
    return msgspec.structs.replace(plain, **changes)


def bare(html: str) -> str:
    """What is left where style and pictures are dropped, as GitHub does."""
    return re.sub(r"<style>.*?</style>|<svg.*?</svg>|<[^>]+>", " ", html, flags=re.DOTALL)


class TestFace:
    def test_shows_money_positions_and_orders(self) -> None:
        html, text = face.html(seen()), face.plain(seen())
        for shown in (
            "+₹1,234.50",
            "NSE:INFY",
            "1,514.30",
            "denied",
            "filled",
            "cross-1",
            "running",
            "paper",
        ):
            assert shown in bare(html), shown
            assert shown in text, shown
        assert "ticks" in text
        assert re.search(r"ticks\s+100", bare(html))  # the runner is ahead of the gateway
        assert html.count("<svg") == 1
        assert 'data-lane="paper"' in html

    def test_foreign_text_is_escaped(self) -> None:
        view = seen(pulse=Vitals("halted", errors=[FAULT]), state="halted", reason="on_tick raised <script>")
        html, text = face.html(view), face.plain(view)
        for bad in ("<b>bad", "NSE:<i>", "<script", "\x1b"):
            assert bad not in html, bad
        assert "\x1b" not in text
        assert 'title="notional &quot;too&quot; large"' in html
        assert "self.edge = 1 / self.width" in html
        assert "strategy.py:12" in text

    def test_a_live_namespace_cannot_be_taken_for_paper(self) -> None:
        view = seen(namespace="zerodha")
        assert 'data-lane="live"' in face.html(view)
        assert "live · zerodha" in bare(face.html(view))
        assert face.plain(view).startswith("LIVE zerodha")

    def test_a_paused_run_says_why(self) -> None:
        books = Books(state="paused", reason="odd fills", updated=1)
        assert state_of("running", books, Vitals("running")) == "paused"
        view = seen(state="paused", reason="odd fills", books=books)
        assert "odd fills" in bare(face.html(view))
        assert "PAUSED odd fills" in face.plain(view)
        assert not view.ended

    def test_states_without_figures(self) -> None:
        early = seen(state="starting", books=Books(), pulse=Vitals())
        assert "no figures yet" in face.html(early)
        assert "no market data yet" in face.html(early)
        assert "₹" not in face.plain(early)
        failed = msgspec.structs.replace(early, state="failed", reason="no module named talib")
        assert "no module named talib" in bare(face.html(failed))
        assert "FAILED no module named talib" in face.plain(failed)

    def test_says_what_is_wrong_with_the_surroundings(self) -> None:
        assert "No connection to the server" in face.html(seen(lost=1))
        assert "paper is halted" in bare(face.html(seen(halt="daily loss")))
        assert "HALTED paper: daily loss" in face.plain(seen(halt="daily loss"))

    @pytest.mark.parametrize("curve", [[], [5], [0, 0], [1, -1, 3], [-5, -9]])
    def test_a_sparkline_stays_in_its_box(self, curve: list[int]) -> None:
        drawn = face.spark(curve)
        heights = [float(y) for y in re.findall(r",(-?[\d.]+)", drawn)]
        assert (drawn == "") == (len(curve) < 2)
        assert all(0 <= y <= face.HEIGHT for y in heights)

    def test_an_end_that_anybody_knows_of_is_the_end(self) -> None:
        running, halted = Books(state="running"), Vitals(state="halted")
        assert state_of("running", running, Vitals(state="running")) == "running"
        assert state_of("running", running, halted) == "halted"
        assert state_of("failed", running, Vitals()) == "failed"
        assert state_of("stopped", running, Vitals()) == "stopped"
        assert state_of("starting", Books(), Vitals()) == "starting"


# ── the poller ───────────────────────────────────────────────────────────────────────────────────────────────────


class Watch:
    """A run that remembers what it was handed."""

    def __init__(self) -> None:
        self.view = View("cross-1", "paper", "Cross", "ab", {}, ["NSE:INFY"])
        self.taken = 0

    def take(self, view: View) -> None:
        self.view, self.taken = view, self.taken + 1

    def beat(self) -> None:
        pass


@contextlib.contextmanager
def polling(own: OwnValkey) -> Iterator[tuple[Poller, Watch]]:
    poller = Poller(
        own.workspace, "paper", lambda: open_blocking(own.workspace.server_socket, RedisSettings())
    )
    watch = Watch()
    poller.watch("cross-1", watch)
    try:
        yield poller, watch
    finally:
        poller.close()


def test_documents_become_views_and_survive_a_server_that_does_not(own_valkey: OwnValkey) -> None:
    document = msgspec.to_builtins(BOOKS) | {"latency_us": {}, "another": 1}
    with own_valkey.client() as client, polling(own_valkey) as (poller, watch):
        assert watch.view.state == "starting"
        client.set("paper:run:cross-1", json.dumps(document))
        until(lambda: watch.view.books.net == 123_450)
        assert watch.view.state == "running"
        client.set("paper:run:cross-1", "no JSON at all")
        client.set("paper:runner:cross-1", json.dumps({"state": "running", "ticks": 7, "at": 1}))
        until(lambda: watch.view.count["ticks"] == 90 and watch.view.pulse.ticks == 7)
        own_valkey.flush()
        pause(0.6)
        assert watch.view.books.net == 123_450
        own_valkey.kill()
        until(lambda: watch.view.lost > 0)
        own_valkey.start()
        until(lambda: watch.view.lost == 0)
        with own_valkey.client() as again:
            again.set("paper:run:cross-1", json.dumps(document | {"net": 5}))
        until(lambda: watch.view.books.net == 5)
        assert poller.lost == 0


def test_a_run_that_ended_is_looked_at_no_more(own_valkey: OwnValkey) -> None:
    with own_valkey.client() as client, polling(own_valkey) as (poller, watch):
        client.set("paper:run:cross-1", json.dumps(msgspec.to_builtins(BOOKS) | {"state": "halted"}))
        until(lambda: watch.view.state == "stopping")  # the gateway knows; why it was, the runner tells
        client.set("paper:runner:cross-1", json.dumps({"state": "halted", "at": 1}))
        until(lambda: watch.view.state == "halted")
        assert not watch.view.ended  # its exits may fill yet
        folder = own_valkey.workspace.runs / "cross-1"
        folder.mkdir()
        RunSpec(
            run="cross-1", namespace="paper", name="Cross", class_name="Cross", digest="ab", state="stopped"
        ).write(folder)
        until(lambda: watch.view.ended)
        until(lambda: not poller._runs)
        poller.watch("cross-1", watch)
        assert poller._runs


def test_nothing_changed_is_nothing_handed_on(own_valkey: OwnValkey) -> None:
    with own_valkey.client() as client, polling(own_valkey) as (_, watch):
        client.set("paper:run:cross-1", json.dumps(msgspec.to_builtins(BOOKS)))
        until(lambda: watch.view.books.net == 123_450)
        taken = watch.taken
        pause(1.0)
        assert watch.taken == taken


# ── the card and its wire, without a browser ─────────────────────────────────────────────────────────────────────


class Stops:
    """What Stop would have done."""

    def __init__(self) -> None:
        self.asked: list[bool] = []
        self.threads: set[str] = set()

    def __call__(self, flatten: bool) -> None:
        self.threads.add(threading.current_thread().name)
        self.asked.append(flatten)


class TestCard:
    def test_only_what_changed_is_sent(self) -> None:
        card, sent = Card(seen(), Stops(), "stop it"), set[str]()
        card.observe(lambda change: sent.add(change.name))
        card.show(seen(books=msgspec.structs.replace(BOOKS, net=123_451)))
        assert sent == {"money", "beat"}
        sent.clear()
        card.show(seen(books=msgspec.structs.replace(BOOKS, net=123_451, updated=99)))
        assert sent == set()
        assert card.command == "stop it"
        card.show(seen(hub_says="stopped", state="stopped"))
        assert (card.over, card.command) == (True, "")  # no path of this machine in a saved notebook

    def test_who_does_not_look_gets_nothing(self) -> None:
        card = Card(seen(), Stops(), "")
        assert not card.watched
        card.heard({"do": "show", "view": "a", "seconds": 60})
        assert card.watched
        card.heard({"do": "hide", "view": "a"})
        card.show(seen(state="stopping"))
        assert card.state == "running"
        card.heard({"do": "show", "view": "a", "seconds": 0})
        assert card.state == "stopping"

    def test_a_view_that_went_silent_is_forgotten(self) -> None:
        card = Card(seen(), Stops(), "")
        card.heard({"do": "hide", "view": ""})
        card.heard({"do": "show", "view": "a", "seconds": 0.05})
        pause(0.1)
        card.show(seen(state="stopping"))
        assert card.state == "running"

    def test_stop_is_asked_elsewhere_and_says_why_it_failed(self) -> None:
        stops = Stops()
        card = Card(seen(), stops, "")
        for word in ({"do": "stop", "flatten": True}, {"do": "stop"}, {"do": "sell everything"}, {}):
            card.heard(word)
        until(lambda: len(stops.asked) == 2)
        assert sorted(stops.asked) == [False, True]
        assert threading.current_thread().name not in stops.threads
        assert card.asked == 2
        card.complain("no hub runs")
        assert card.trouble == "no hub runs"

    def test_the_control_channel_carries_words_to_their_card(self, monkeypatch: pytest.MonkeyPatch) -> None:
        answered: list[Any] = []
        kernel = SimpleNamespace(control_handlers={control.REQUEST: lambda *given: answered.append(given)})
        monkeypatch.setattr(control, "kernel", lambda: kernel)
        stops = Stops()
        card, other = Card(seen(), stops, ""), Card(seen(), Stops(), "")
        handler = kernel.control_handlers[control.REQUEST]
        assert not isinstance(handler.inner, type(handler))  # two cards, one tap
        handler("stream", "who", {"content": {}})
        handler("stream", "who", {"content": {"alphapanda": {"card": "gone", "do": "stop"}}})
        assert len(answered) == 2
        handler("stream", "who", {"content": {"alphapanda": {"card": card.card, "do": "stop"}}})
        until(lambda: stops.asked == [False])
        assert len(answered) == 3
        assert other.card != card.card


# ── a real hub ───────────────────────────────────────────────────────────────────────────────────────────────────


class Cross(ap.Strategy):
    """Buys and sells in turn, every few seconds."""

    symbols = ["NSE:INFY", "NSE:RELIANCE"]  # noqa: RUF012 - as a quant writes it
    gap: int = ap.Param(4, low=1, high=1000)

    def on_start(self) -> None:
        self.next = 0

    def on_tick(self, tick: ap.Tick) -> None:
        if tick.ts >= self.next:
            self.next = tick.ts + self.gap * 10**9
            self.log("turn", symbol=tick.symbol)
            if self.position(tick.symbol).quantity > 0:
                self.sell(tick.symbol, 10)
            else:
                self.buy(tick.symbol, 10, tag="turn")


class Broken(ap.Strategy):
    """Raises after a few ticks."""

    symbols = ["NSE:INFY"]  # noqa: RUF012 - as a quant writes it

    def on_start(self) -> None:
        self.seen = 0

    def on_tick(self, tick: ap.Tick) -> None:
        self.seen += 1
        if self.seen == 5:
            raise ValueError(f"five ticks of {tick.symbol}")


@contextlib.contextmanager
def hub(folder: Path) -> Iterator[Path]:
    """A workspace with a busy market; its hub ends with the block."""
    before = dict(os.environ)
    os.environ |= {"FEED__TICKS_PER_SECOND": "300", "FEED__SOURCE": "synthetic"}
    try:
        yield folder
    finally:
        os.environ.clear()
        os.environ.update(before)
        workspace = Workspace(folder)
        with contextlib.suppress(InfrastructureError):
            HubClient(workspace).ask({"do": "shutdown"})
        until(lambda: not workspace.hub_socket.exists())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with hub(tmp_path_factory.mktemp("notebook")) as folder:
        yield folder


@pytest.fixture
def session(place: Path) -> Iterator[Session]:
    """Connected; its runs end with the test."""
    opened = connect_sync(workspace=place, quiet=True)
    yield opened
    if not opened.closed:
        opened.sync.stop()
        opened.close()


def started(session: Session, **options: Any) -> Run:
    return session.sync.run(Cross(gap=2), **options)


pytestmark = pytest.mark.timeout(150)


def test_connecting_again_gives_the_same_session(session: Session, place: Path) -> None:
    async def main() -> None:
        assert await connect(workspace=place, quiet=True) is session
        with pytest.raises(ValidationError):
            await connect("Paper!", workspace=place)

    asyncio.run(main())
    assert connect_sync(workspace=place) is session
    assert repr(session).startswith("paper · connected")


def test_a_run_from_start_to_end(session: Session) -> None:
    run = started(session)
    assert run.name == "Cross"
    assert run in session.runs
    assert run.fills.columns[:3] == ["ts", "strategy", "symbol"]  # also before the gateway has heard of it
    run.sync.wait(ticks=100, seconds=60)
    run.sync.wait(fills=2, seconds=60)
    assert run.state == "running"
    assert run.view.count["ticks"] >= 100
    fills, orders = run.fills, run.orders
    assert fills.height >= 2
    assert orders.height >= fills["order_id"].n_unique()
    assert run.signals.height == orders.height
    assert {"ts", "equity", "net_pnl"} <= set(run.equity.columns)
    assert run.errors.is_empty()
    until(lambda: not run.logs.is_empty())
    assert run.logs["message"][0] == "turn"
    assert run.report.stats["fills"] >= 2
    assert run.capsule.class_name == "Cross"
    run.sync.stop(flatten=True)
    assert run.state == "stopped"
    assert run.positions == []
    net = float(run.fills["realized"].sum()) - float(run.fills["charges"].sum())
    assert run.pnl == pytest.approx(net, abs=0.01)
    assert "stopped" in repr(run)
    assert "stopped" in bare(run._repr_html_())


def test_why_leads_from_an_order_to_its_tick(session: Session) -> None:
    run = started(session)
    run.sync.wait(fills=1, seconds=60)
    order = run.orders.row(0, named=True)
    chain = run.why(order)
    steps = [step.what for step in chain.steps]
    assert steps[0] == "tick"
    assert steps.index("signal") < steps.index("risk") < steps.index("verdict") < steps.index("record")
    assert {"fill", "order", "charge", "money"} <= set(steps)
    assert chain.steps[0].detail.startswith(order["symbol"])
    assert chain.steps[0].id == f"row {order['seq']}"
    assert chain.frame["ts"][0] == order["ts"]
    assert "passed every rule" in repr(chain)
    assert "<table>" in chain._repr_html_()
    assert repr(run.report.why(order["id"])) == repr(chain)
    assert session.drift(run, run.id).totals.alike  # it goes on trading between the two looks
    assert repr(run.why(order["id"])) == repr(chain)
    with pytest.raises(UnknownNameError, match="order"):
        run.why("Cross:0:7")


def test_the_same_again_attaches_and_an_edit_replaces(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    session.quiet = False
    run = started(session)
    assert started(session) is run
    assert capsys.readouterr().out == f"Cross is unchanged: this is its run {run.id}\n"
    edited = session.sync.run(Cross(gap=3))
    assert capsys.readouterr().out == f"Cross has changed: replacing run {run.id}\n"
    assert edited is not run
    until(lambda: run.state == "stopped")
    edited.sync.wait(ticks=1, seconds=60)
    session.quiet = True


def test_another_notebooks_version_is_refused_by_name(session: Session, place: Path) -> None:
    script = """
        from alphapanda import connect_sync
        from tests.test_notebook_client import Cross
        session = connect_sync(quiet=True)
        run = session.sync.run(Cross(gap=5))
        print("started", flush=True)
        input()
    """
    with other(place, script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        with pytest.raises(AuthorizationError, match=rf"process {process.pid} on") as caught:
            started(session)
        assert caught.value.code == "E_LEASE"
        assert "replace=True" in caught.value.fix
        run = started(session, replace=True)
        run.sync.wait(ticks=1, seconds=60)


def test_a_strategy_that_raises_is_halted_alone(session: Session) -> None:
    good, bad = started(session), session.sync.run(Broken())
    bad.sync.wait(until="halted", seconds=60)
    assert bad.state == "halted"
    until(lambda: not bad.errors.is_empty())
    assert bad.errors["message"][0] == "ValueError: five ticks of NSE:INFY"
    assert "five ticks" in bare(bad._repr_html_())
    assert "raise ValueError" in bare(bad._repr_html_())
    count = good.view.count["ticks"]
    good.sync.wait(ticks=count + 50, seconds=60)
    assert good.state == "running"


@contextlib.contextmanager
def other(place: Path, script: str) -> Iterator[subprocess.Popen[str]]:
    """Another process of the same person, in the same workspace."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "ALPHAPANDA_HOME": str(place), "PYTHONPATH": str(ROOT)}, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def alive(session: Session) -> set[str]:
    return {row["run"] for row in session.status().runs if row["child"]}


def test_runs_end_with_their_notebook_unless_detached(session: Session, place: Path) -> None:
    script = """
        from alphapanda import connect_sync
        from tests.test_notebook_client import Cross
        session = connect_sync(quiet=True)
        runs = [session.sync.run(Cross(gap=50), name=name) for name in ("Held", "Kept", "Let")]
        runs[1].detach()
        session.sync.run(Cross(gap=50), name="Given", detach=True)
        print(*(run.id for run in session.runs), flush=True)
        input()
    """
    with other(place, script) as process:
        assert process.stdout is not None
        held, kept, let, given = process.stdout.readline().split()
        assert {held, kept, let, given} <= alive(session)
        process.kill()
        until(lambda: not {held, let} & alive(session), 30)
        assert {kept, given} <= alive(session)
    for run in (kept, given):
        session.hub.ask({"do": "stop", "run": run})


def test_a_script_without_loop_or_notebook_ends_by_itself(place: Path) -> None:
    script = """
        import threading
        from alphapanda import connect_sync
        from tests.test_notebook_client import Cross
        with connect_sync() as session:
            run = session.sync.run(Cross(gap=40), name="Script")
            run.sync.wait(ticks=20, seconds=60)
            left = session.sync.run(Cross(gap=40), name="Left")
        print(run.state, left.state, session.closed)
        print([t.name for t in threading.enumerate() if not t.daemon])
    """
    with other(place, script) as process:
        out, _ = process.communicate(timeout=100)
        assert process.returncode == 0
    assert out.splitlines() == ["stopped stopped True", "['MainThread']"]


def test_waiting_refuses_what_never_comes(session: Session) -> None:
    run = started(session)
    with pytest.raises(UnknownNameError, match="state"):
        run.sync.wait(until="stoped")
    with pytest.raises(ValidationError, match="nothing to wait for"):
        run.sync.wait()
    with pytest.raises(ValidationError, match="capital"):
        started(session, capital=-1)


def test_an_interrupted_wait_leaves_the_run_alone(session: Session) -> None:
    run = started(session)
    run.sync.wait(ticks=1, seconds=60)
    with interrupted_after(0.3), pytest.raises(KeyboardInterrupt):
        run.sync.wait(seconds=60)
    count = run.view.count["ticks"]
    run.sync.wait(ticks=count + 20, seconds=60)
    assert run.state == "running"


def test_halt_is_seen_by_every_run(session: Session) -> None:
    run = started(session)
    run.sync.wait(ticks=1, seconds=60)
    with pytest.raises(ValidationError, match="reason"):
        session.halt(" ")
    session.halt("a drill")
    try:
        until(lambda: run.view.halt == "a drill")
        flag = json.loads(session.workspace.halt_flag("paper").read_bytes())
        assert (flag["level"], flag["reason"]) == (2, "a drill")
        assert "a drill" in repr(session.status())
        assert "paper is halted" in bare(session.status()._repr_html_())
        fills = run.view.count["fills"]
        count = run.view.count["ticks"]
        run.sync.wait(ticks=count + 100, seconds=60)
        assert run.view.count["fills"] <= fills + 1  # one was under way
    finally:
        session.workspace.halt_flag("paper").unlink()
    until(lambda: run.view.halt == "")


def test_status_shows_processes_and_whose_runs(session: Session) -> None:
    run = started(session)
    run.sync.wait(ticks=10, seconds=60)
    status = session.status()
    roles = [row["role"] for row in status.processes]
    assert roles[:2] == ["hub", "server"]
    assert {"feed", "gateway:paper", f"runner:{run.id}"} <= set(roles)
    line = next(text for text in repr(status).splitlines() if text.startswith(run.id + " "))
    assert line.endswith("this notebook")
    assert run.id in bare(status._repr_html_())


def test_magics(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    run = started(session)
    run.sync.wait(ticks=1, seconds=60)
    assert "feed" in repr(magics.ap("status"))
    magics.ap("runs")
    assert run.id in capsys.readouterr().out
    magics.ap("")
    assert "%ap status" in capsys.readouterr().out
    with pytest.raises(UnknownNameError, match="stpo"):
        magics.ap("stpo")
    with pytest.raises(UnknownNameError, match="run"):
        magics.ap("stop Nobody")
    magics.ap(f"stop {run.id}")
    assert run.state == "stopped"
    again = started(session)
    magics.ap("stop")
    assert again.state == "stopped"


def test_without_a_hub_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPHAPANDA_HOME", str(tmp_path))
    monkeypatch.setattr(magics, "latest", lambda: None)
    with pytest.raises(InfrastructureError) as caught:
        magics.ap("status")
    assert caught.value.code == "E_NO_HUB"
    with pytest.raises(ValidationError, match="not connected"):
        magics.ap("stop")
    magics.ap("halt no hub is needed for this")
    assert (
        json.loads(Workspace(tmp_path).halt_flag("paper").read_bytes())["reason"]
        == "no hub is needed for this"
    )


# ── kernels ──────────────────────────────────────────────────────────────────────────────────────────────────────

CELL = """
class Turn(ap.Strategy):
    symbols = ["NSE:INFY", "NSE:RELIANCE"]
    gap: int = ap.Param(4)
    def on_start(self):
        self.next = 0
    def on_tick(self, tick):
        if tick.ts >= self.next:
            self.next = tick.ts + self.gap * 10**9
            self.buy(tick.symbol, 10) if self.position(tick.symbol).quantity <= 0 else self.sell(tick.symbol, 10)
"""
CONNECT = "import alphapanda as ap\nsession = await ap.connect(quiet=True)"


class Kernel:
    """A real kernel, spoken to as a front end does."""

    def __init__(self, place: Path, tmp_path: Path) -> None:
        from jupyter_client.manager import KernelManager

        environment = {**surroundings(tmp_path), "ALPHAPANDA_HOME": str(place), "PYTHONWARNINGS": "ignore"}
        self.manager: Any = KernelManager(kernel_name="python3")
        self.manager.start_kernel(env=environment, cwd=str(tmp_path))
        self.client: Any = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def run(self, code: str) -> str:
        """What a cell printed; an error fails the test."""
        heard, out = io.StringIO(), []

        def hook(message: dict[str, Any]) -> None:
            content = message["content"]
            if message["msg_type"] == "stream":
                heard.write(content["text"])
            elif "data" in content and message["msg_type"] != "comm_msg":  # which goes to a card
                out.append(content["data"].get("text/plain", ""))

        reply = self.client.execute_interactive(code, timeout=100, output_hook=hook)
        assert reply["content"]["status"] == "ok", reply["content"]
        return heard.getvalue() + "\n".join(out)

    def interrupted(self, code: str, after: float) -> float:
        """Seconds from the interrupt of a cell to its end."""
        asked = self.client.execute(code)
        pause(after)
        self.manager.interrupt_kernel()
        began = time.monotonic()
        while self.client.get_shell_msg(timeout=60)["parent_header"]["msg_id"] != asked:
            pass
        return time.monotonic() - began

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture
def kernel(place: Path, tmp_path: Path) -> Iterator[Kernel]:
    opened = Kernel(place, tmp_path)
    yield opened
    opened.close()


def test_an_interrupt_returns_at_once_and_harms_nothing(kernel: Kernel) -> None:
    kernel.run(CONNECT)
    kernel.run(CELL)
    kernel.run("run = await session.run(Turn(), name='Interrupted'); await run.wait(ticks=5, seconds=60)")
    seconds = [
        kernel.interrupted("await run.wait(seconds=60)", 1.0),
        kernel.interrupted("run.sync.wait(seconds=60)", 1.0),
        kernel.interrupted(
            "await session.run(Turn(gap=21), name='Interrupted'); await run.wait(until='running')", 0.05
        ),
    ]
    assert max(seconds) < 3, seconds  # 0.2 s on an idle machine
    assert "alive" in kernel.run("await session.runs[-1].wait(ticks=30, seconds=60); print('alive')")
    kernel.run("await session.stop()")


def test_a_kernel_that_dies_takes_its_runs_along(kernel: Kernel, session: Session) -> None:
    kernel.run(CONNECT)
    kernel.run(CELL)
    run = kernel.run("run = await session.run(Turn(), name='Mortal'); print(run.id)").split()[0]
    assert run in alive(session)
    kernel.manager.shutdown_kernel(now=True)
    until(lambda: run not in alive(session), 30)


def test_nothing_is_printed_into_other_cells(kernel: Kernel) -> None:
    kernel.run(CONNECT)
    kernel.run(CELL)
    kernel.run("run = await session.run(Turn(), name='Quiet')")
    kernel.run("run")
    assert kernel.run("import asyncio\nfor _ in range(15): await asyncio.sleep(0.1)") == ""
    kernel.run("await session.stop()")


def test_papermill_finishes_and_keeps_the_last_state(place: Path, tmp_path: Path) -> None:
    """A notebook saved by a scheduler shows how the run ended, in HTML and in text, and the machine is left clean."""
    import nbformat

    cells = [
        CONNECT, CELL, "run = await session.run(Turn(gap=3), name='Scheduled')", "run",
        "await run.wait(fills=2, seconds=60)", "await run.stop(flatten=True)",
    ]  # fmt: skip
    book = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    nbformat.write(book, tmp_path / "in.ipynb")
    ran = subprocess.run(
        [sys.executable, "-m", "papermill", "in.ipynb", "out.ipynb", "--no-progress-bar"], cwd=tmp_path,
        env={**surroundings(tmp_path), "ALPHAPANDA_HOME": str(place)}, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    saved = (tmp_path / "out.ipynb").read_text("utf-8")
    assert sys.executable not in saved
    assert str(place) not in saved
    shown = json.loads(saved)["cells"][3]["outputs"]
    assert len(shown) == 1
    html, text = ("".join(shown[0]["data"][kind]) for kind in ("text/html", "text/plain"))
    assert 'data-state="stopped"' in html
    assert "Scheduled(gap=3) · stopped" in text
    assert "net P&L" in text

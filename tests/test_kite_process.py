"""The feed process on Kite: a real process, a real server, and the sandbox in the broker's place."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from alphapanda.buses.tapelog import TapeLog
from alphapanda.errors import ConfigurationError, MarketDataError
from alphapanda.events import MINUTE, SECOND, ist
from alphapanda.feeds.kite_day import KiteDay, listing_folder
from alphapanda.feeds.kite_gaps import RecordedGap, gaps
from alphapanda.feeds.kite_rest import KiteRest
from alphapanda.processes import CONFIGURATION
from alphapanda.sandbox.broker import Broker
from alphapanda.sandbox.market import Market
from alphapanda.sandbox.serve import Running, Sandbox
from alphapanda.sandbox.sources import Synthetic
from alphapanda.settings import Settings
from alphapanda.workspace import Workspace
from tests.conftest import OwnValkey
from tests.sandbox_rig import CALL, FUTURE, INFY, at
from tests.test_feeds import FeedProcess
from tests.test_feeds import health as heartbeat

SPEED = 20.0
SYMBOLS = [INFY, "NSE:TCS", FUTURE, CALL]


@pytest.fixture
def server(valkey: OwnValkey) -> OwnValkey:
    valkey.flush()
    return valkey


def broker(now: int = at(10)) -> Broker:
    """A broker that plays the synthetic market of a Friday."""
    return Broker(Market.of(Synthetic(7, dt.date(2026, 11, 20), 20.0)), now=now)


class Line:
    """A feed process that listens to a sandbox; the login lies in a file that the test writes."""

    def __init__(self, root: Path, server: OwnValkey, sandbox: Running, **settings: object) -> None:
        self.server, self.sandbox = server, sandbox
        self.feed = FeedProcess(
            root,
            server.socket,
            FEED__SOURCE="kite",
            FEED__RECORD=0,
            ZERODHA__API_KEY=sandbox.broker.account.api_key,
            ZERODHA__ROOT_URL=sandbox.url,
            ZERODHA__TICKER_URL=sandbox.ticker_url,
            **settings,
        )
        self.feed.environment |= {
            "XDG_CONFIG_HOME": str(
                root / "config"
            ),  # neither the machine's keyring nor its owner's logins are touched
            "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
            "ZERODHA__API_SECRET": sandbox.broker.account.api_secret,
        }

    def log_in(self) -> None:
        """What a person does."""
        environment = {**self.feed.environment, "ZERODHA__ROOT_URL": self.sandbox.url}
        environment.pop("ZERODHA__ACCESS_TOKEN", None)
        done = subprocess.run(
            [sys.executable, "-P", "-m", "alphapanda", "login", "--auto"],
            cwd=self.feed.root, env=environment, capture_output=True, text=True, timeout=50, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def token(self) -> str:
        """Where the login is kept, all of it."""
        return "".join(path.read_text() for path in (self.feed.root / "config").rglob("*") if path.is_file())

    def want(self, *symbols: str) -> None:
        """As a run does."""
        with self.server.client() as client:
            client.hset("market:subscriptions", "run", json.dumps(symbols))

    def said(self) -> dict[str, Any]:
        """The heartbeat."""
        return {"state": "", "kite": {"state": "", "counts": {}}, "unknown": [], **heartbeat(self.server)}

    def wait(self, true: Callable[[], Any]) -> None:
        try:
            self.feed.wait(true)
        except AssertionError as error:
            raise AssertionError(f"{error}: {json.dumps(self.said(), indent=1)[:4000]}") from error

    def gaps(self) -> int:
        """How many gaps the heartbeat counts."""
        return self.said()["kite"]["counts"].get("gaps", 0)

    def kill(self) -> None:
        """The feed is over, if a test has not ended it."""
        if self.feed.child is not None and self.feed.child.poll() is None:
            self.feed.end(signal.SIGKILL)

    @contextlib.contextmanager
    def feed_stopped(self) -> Iterator[None]:
        """SIGSTOP, and what it had asked is answered; SIGCONT later."""
        assert self.feed.child is not None
        self.feed.child.send_signal(signal.SIGSTOP)
        for _ in range(5):
            self.sandbox.do(lambda _: None)
        yield
        self.feed.child.send_signal(signal.SIGCONT)

    def goes_on(self) -> None:
        """Wait for more ticks, and for a feed that has nothing to say."""
        reached = self.feed.reached()
        self.wait(lambda: self.feed.reached() > reached + 5 and self.said()["state"] == "running")

    def prices(self) -> dict[str, int]:
        """The newest price of each symbol in the log."""
        found: dict[str, int] = {}
        with contextlib.closing(TapeLog(self.feed.workspace.tapes)) as log:
            table = [one.symbol for one in log.instruments()]
            for frame in log.read(0):
                block = frame.block
                for number, price in zip(block.instrument.tolist(), block.price.tolist(), strict=True):
                    found[table[number]] = price
        return found


@contextlib.contextmanager
def listening(root: Path, server: OwnValkey, sandbox: Running, **settings: object) -> Iterator[Line]:
    line = Line(root, server, sandbox, **settings)
    try:
        yield line
    finally:
        line.kill()


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """One feed for many tests, each of which heals what it breaks.

    It began with a dead token in its settings, which gives way to the login that a person made.
    """
    root = tmp_path_factory.mktemp("line")
    own = OwnValkey(root)
    own.start()
    with contextlib.ExitStack() as stack:
        stack.callback(own.close)
        sandbox = Running(Sandbox(broker(), speed=SPEED))
        sandbox.start()
        more = {"MONITORING__STALE_TICK_SECONDS": 2, "ZERODHA__ACCESS_TOKEN": "yesterdays"}
        line = Line(root / "place", own, sandbox, **more)
        stack.callback(lambda: line.sandbox.stop())
        stack.callback(line.kill)
        line.want(*SYMBOLS, "NSE:NOSUCH")
        line.feed.start()
        line.wait(lambda: line.said()["state"] == "logged_out" and line.said()["kite"]["cause"] == "token")
        line.wait(lambda: set(line.said()["unknown"]) == {*SYMBOLS, "NSE:NOSUCH"})
        line.log_in()
        line.goes_on()
        yield line
        assert line.feed.end() == 0
        rows = line.feed.rows()  # gapless, and time never went back
        assert (np.diff(rows["ts"]) >= 0).all()
        assert (rows["price"] > 0).all()
        assert (rows["volume"] >= 0).all()
        everything = "".join(
            path.read_text() for path in line.feed.workspace.logs.glob("**/*") if path.is_file()
        )
        kept = re.findall(r'"token":\s*"([^"]+)"', line.token())
        assert kept
        assert not any(token in everything for token in kept)


def test_ticks_of_the_broker_become_the_tape(line: Line) -> None:
    sandbox = line.sandbox
    line.wait(lambda: line.prices().keys() == set(SYMBOLS) and line.feed.reached() > 30)
    line.wait(lambda: line.said()["unknown"] == ["NSE:NOSUCH"])
    sandbox.do(lambda _: sandbox.sandbox.time.run(0.0))  # soon what came last is what the broker quotes
    line.wait(
        lambda: line.prices() == sandbox.do(lambda one: {name: one.market.get(name).last for name in SYMBOLS})
    )
    sandbox.do(lambda _: sandbox.sandbox.time.run(SPEED))
    kept = listing_folder(line.feed.workspace.home, practice=True)
    assert [one.name for one in kept.glob("*")] == ["instruments-2026-11-20.csv.gz"]
    line.goes_on()
    said = line.said()
    assert said["kite"]["state"] == "connected"
    assert said["kite"]["listed"] == "2026-11-20"
    assert said["services"]["options"]["rows"] > 0
    assert said["detail"] == ""
    now = sandbox.do(lambda one: one.now)
    assert abs(line.feed.frames()[-1].clock - now) < 3 * SPEED * SECOND  # tape time is the sandbox's
    assert ist(line.feed.frames()[-1].clock).date() == dt.date(2026, 11, 20)


def test_a_broker_that_goes_and_comes_back_leaves_a_gap_that_is_filled_beside_the_tape(line: Line) -> None:
    count, before = line.gaps(), line.feed.reached()
    port, now = int(line.sandbox.url.rpartition(":")[2]), line.sandbox.do(lambda one: one.now)
    another = Running(Sandbox(broker(now + 90 * SECOND), speed=SPEED))
    with line.feed_stopped():  # a connection that a sandbox accepts while it stops is never closed
        line.sandbox.stop()
    line.wait(lambda: line.said()["kite"]["state"] == "waiting")
    assert line.said()["state"] == "degraded"
    assert "the ticker is not connected" in line.said()["detail"]
    line.sandbox = another
    another.start(port)
    line.wait(lambda: line.said()["kite"]["cause"] == "token")  # this one knows nobody yet
    line.log_in()  # and gives out the token that was dead a moment ago
    line.wait(lambda: line.gaps() > count)
    line.goes_on()
    start, end, reason = line.said()["kite"]["gaps"][-1]
    assert end - start > 60 * SECOND
    assert reason

    def filled() -> RecordedGap | None:
        on_record = gaps("2026-11-20", workspace=line.feed.root)
        return next((gap for gap in on_record if gap.start == start and gap.settled), None)

    line.wait(filled)
    gap = filled()
    assert gap is not None
    assert (gap.end, gap.reason, set(gap.symbols), gap.left_out) == (end, reason, set(SYMBOLS), {})
    first, last = start // MINUTE, (end - 1) // MINUTE
    for symbol in SYMBOLS:
        mine = [bar for bar in gap.bars if bar.symbol == symbol]
        assert [bar.start // MINUTE for bar in mine] == list(range(first, last + 1))
        traded = line.sandbox.do(lambda one, symbol=symbol: one.market.candles(one.market.get(symbol)))
        rupees = line.sandbox.do(lambda one, symbol=symbol: one.market.get(symbol).instrument.rupees)
        for bar in mine:
            *prices, volume = traded[bar.start // MINUTE]
            assert [bar.open, bar.high, bar.low, bar.close] == [rupees(price) for price in prices]
            assert bar.volume == volume
            assert bar.minute == (bar.ts - at(9, 15)) // MINUTE
    line.wait(lambda: line.said()["kite"]["refill"]["candles"] >= len(gap.bars))
    rows = line.feed.rows()
    heard = rows["ts"][before:]
    assert not ((heard > start + SPEED * SECOND) & (heard < end - SPEED * SECOND)).any()  # not into the tape


def test_a_dead_token_is_a_state_until_somebody_logs_in(line: Line) -> None:
    count = line.gaps()
    line.sandbox.do(lambda one: one.access.close())
    line.sandbox.switch("ticker-abort")
    line.wait(lambda: line.said()["kite"]["cause"] == "token")
    said = line.said()
    assert said["state"] == said["kite"]["state"] == "logged_out"
    assert "the access token is dead" in said["detail"]
    assert "alphapanda login" in said["detail"]
    line.log_in()
    line.goes_on()
    line.wait(lambda: line.gaps() == count + 1)


def test_a_silent_socket_is_rebuilt(line: Line) -> None:
    count = line.gaps()
    line.sandbox.switch("ticker-silent")
    line.wait(lambda: line.gaps() > count)
    assert "not a byte" in line.said()["kite"]["gaps"][-1][2]
    line.goes_on()


def test_while_nobody_is_logged_in_the_next_step_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZERODHA__API_KEY", "key")
    said = KiteDay(Settings.load(None), Workspace(tmp_path), 5.0).health()
    assert (said["state"], said["cause"]) == ("logged_out", "login")
    assert said["detail"] == "nobody is logged in at Zerodha: run `alphapanda login`"


def test_tape_time_does_not_go_back_to_an_earlier_day(tmp_path: Path, server: OwnValkey) -> None:
    with (
        Sandbox.thread(broker(), speed=SPEED) as sandbox,
        listening(tmp_path, server, sandbox) as line,
    ):
        line.feed.environment["FEED__SOURCE"] = "synthetic"  # it begins after the sandbox's day
        line.feed.start()
        line.feed.wait(line.feed.reached)
        line.feed.end()
        line.feed.environment["FEED__SOURCE"] = "kite"
        child = line.feed.start()
        assert child.wait(30) == CONFIGURATION
        assert "tape time does not go back" in line.feed.said()
        line.feed.end()


def test_without_an_api_key_nothing_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no api key") as caught:
        KiteDay(Settings.load(None), Workspace(tmp_path), 5.0)
    assert "ZERODHA__API_KEY" in caught.value.fix


# ── what is asked by REST ────────────────────────────────────────────────────────────────────────


def test_the_profile_tells_a_dead_token_from_a_poor_plan() -> None:
    with Sandbox.thread(broker()) as sandbox:
        rest = KiteRest(sandbox.url, SecretStr(sandbox.broker.account.api_key), 5.0)
        assert rest.cause(SecretStr("yesterday")) == "token"
        alive = SecretStr(sandbox.open_session())
        assert rest.cause(alive) == "plan"
        assert b"NSE" in rest.instruments(alive) or rest.instruments(alive)[:2] == b"\x1f\x8b"
        told = rest.clock()
        assert told is not None
        assert ist(told.now).date() == dt.date(2026, 11, 20)
    with pytest.raises(MarketDataError, match="does not answer"):
        rest.clock()
    assert "yesterday" not in repr(rest)

"""The whole platform at a broker that keeps its own ledger: real processes, faults between them, and what must hold.

The ledger of the local Kite Connect is the judge: it knows what arrived and what traded, whatever was answered. What we
believe is read from the files with sqlite alone.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from alphapanda.events import SECOND
from alphapanda.sandbox.broker import Broker
from alphapanda.sandbox.market import Market
from alphapanda.sandbox.serve import Running, Sandbox
from alphapanda.sandbox.sources import Synthetic
from alphapanda.strategy import Strategy
from alphapanda.synthetic import STOCKS
from alphapanda.traders.reports import Report
from alphapanda.zerodha.intents import Intent
from alphapanda.zerodha.standing import orders_file
from alphapanda.zerodha.states import CLAIM, DOUBTFUL, ENDED, SENDING
from tests.conftest import OwnValkey
from tests.havoc.proxy import Proxy
from tests.rig import REPO, Rig
from tests.sandbox_rig import at

HOOKS = Path(__file__).parent / "hooks"
ORDER_CAP = 10  # a calendar second, the broker's
NAMESPACE = "zerodha"


class Desk:
    """``rig`` is the platform, ``sandbox`` the broker, ``proxy`` the line between, ``server`` the state server."""

    def __init__(
        self, root: Path, sandbox: Running, proxy: Proxy, server: OwnValkey | None, scaled: bool
    ) -> None:
        self.sandbox, self.proxy, self.server = sandbox, proxy, server
        self.point = root / "point"
        self._turn = 0
        account = sandbox.broker.account
        settings: dict[str, Any] = {
            "FEED__SOURCE": "kite",
            "FEED__RECORD": 0,
            "RISK__DUPLICATE_WINDOW_MS": 1,
            "RISK__STRATEGY_ORDERS_PER_MINUTE": 300,
            "ZERODHA__API_KEY": account.api_key,
            "ZERODHA__API_SECRET": account.api_secret,
            "ZERODHA__ROOT_URL": proxy.url,
            "ZERODHA__TICKER_URL": sandbox.ticker_url,
            "XDG_CONFIG_HOME": root
            / "config",  # neither the machine's keyring nor its owner's logins are touched
            "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
            "PYTHONPATH": str(REPO),
        }
        if scaled:
            settings |= {
                "MONITORING__STALE_TICK_SECONDS": 3,
                "ZERODHA__TIMEOUT_SECONDS": 1.5,
                "PYTHONPATH": os.pathsep.join((str(HOOKS), str(REPO))),
                "CHAOS_POINT": self.point,
            }
        if server is not None:
            settings["REDIS__UNIX_SOCKET"] = server.socket
        self.rig = Rig(root / "desk", **settings)
        self.rig.env.pop("ZERODHA__ACCESS_TOKEN", None)

    def log_in(self) -> None:
        """What a person does each morning."""
        done = self.rig.cli("login", "--auto")
        assert done.returncode == 0, done.stdout + done.stderr

    # ── runs ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def run(self, strategy: Strategy, **more: Any) -> str:
        """A run in the live namespace."""
        return self.rig.run(strategy, namespace=NAMESPACE, **more)

    def end(self, run: str) -> None:
        """Stop a run; what it holds stays."""
        self.rig.hub.ask({"do": "stop", "run": run, "flatten": False}, 30.0)

    def until(self, done: Callable[[], Any], seconds: float, what: str) -> Any:
        """See ``Rig.until``; tells the newest lines of the order journal too."""
        try:
            return self.rig.until(done, seconds, what)
        except AssertionError as error:
            lines = "\n".join(map(str, self.lines()[-12:]))
            opened = [(one.order, one.state, one.cancel) for one in self.intents() if one.state not in ENDED]
            faults, refused = self.sandbox.broker.faults.active, "\n".join(map(str, self.refused()))
            raise AssertionError(f"{error}\nopen: {opened}\nfaults: {faults}\n{lines}\n{refused}") from None

    def refused(self) -> list[Any]:
        """Orders of the runs of now that have neither filled nor work, and why."""
        runs = self.rig.hub.ask({"do": "status"}, 10.0)["runs"]
        shown = [self.rig.document(f"{NAMESPACE}:run:{run['run']}") for run in runs if run["wanted"]]
        return [
            (one["id"], one["status"], one["reason"])
            for document in shown
            for one in document.get("orders", ())
            if one["status"] != "filled"
        ]

    def health(self) -> dict[str, Any]:
        """The gateway's heartbeat."""
        return self.rig.document(f"health:gateway:{NAMESPACE}")

    def symbol(self) -> str:
        """A share in which nothing is lost: what is blocks its strategy there, and exits of others too."""
        self._turn += 1
        free = self.free()
        return free[self._turn % len(free)]

    def free(self) -> list[str]:
        """All such shares."""
        taken = {one.symbol for one in self.intents() if one.state == "lost"}
        return [symbol for symbol in (f"NSE:{name}" for name in STOCKS) if symbol not in taken]

    # ── what the broker knows ────────────────────────────────────────────────────────────────────────────────────

    def arrivals(self, symbol: str = "") -> list[Any]:
        """Orders that reached the broker."""
        found = self.sandbox.do(lambda _: list(self.sandbox.broker.ledger.arrivals))
        return [one for one in found if symbol in ("", one.symbol)]

    def traded(self, symbol: str = "") -> list[int]:
        """Signed quantities that traded there, in order."""
        trades = self.sandbox.do(lambda _: list(self.sandbox.broker.ledger.trades))
        chosen = [one for one in trades if symbol in ("", self.symbol_of(one))]
        return [one.quantity * one.order.side for one in chosen]

    def traded_by(self) -> list[tuple[str, int]]:
        """Tag and signed quantity of every trade there, in order."""
        trades = self.sandbox.do(lambda _: list(self.sandbox.broker.ledger.trades))
        return [(one.order.tag, one.quantity * one.order.side) for one in trades]

    @staticmethod
    def symbol_of(trade: Any) -> str:
        """Of a trade in the broker's ledger."""
        return str(trade.order.instrument.symbol)

    def working(self) -> list[str]:
        """Tags of the orders that work there."""
        return self.sandbox.do(lambda of: [order.tag for order in of.book.live()])

    # ── what we believe ──────────────────────────────────────────────────────────────────────────────────────────

    def _rows(self, question: str) -> list[Any]:
        path = orders_file(self.rig.workspace, NAMESPACE)
        if not path.exists():
            return []
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as db:
            return db.execute(question).fetchall()

    def intents(self) -> list[Intent]:
        """The order journal."""
        rows = self._rows("SELECT body FROM intent ORDER BY rowid")
        return [msgspec.msgpack.decode(body, type=Intent) for (body,) in rows]

    def lines(self) -> list[Any]:
        """Why each of them is where it is: key, state before, after, cause, wall ns."""
        return self._rows("SELECT key, before, after, cause, at FROM line ORDER BY number")

    def reports(self) -> list[Report]:
        """What the platform was told."""
        return [
            msgspec.msgpack.decode(body, type=Report)
            for (body,) in self._rows("SELECT body FROM report ORDER BY number")
        ]

    def alarms(self, words: str = "") -> list[str]:
        """What a person was told."""
        return [one.reason for one in self.reports() if one.kind == "alarm" and words in one.reason]

    # ── what must hold ───────────────────────────────────────────────────────────────────────────────────────────

    def settled(self) -> bool:
        """Nothing is on its way and our trades are the broker's."""
        doubtful = [
            one for one in self.intents() if one.state in (*DOUBTFUL, "created") and one.state != "lost"
        ]
        return not doubtful and self._booked() == self._traded_by_tag()

    def _booked(self) -> Counter[tuple[str, str, int]]:
        return Counter(
            self._rows(
                "SELECT intent.tag, fill.trade_id, fill.quantity FROM fill JOIN intent ON intent.key = fill.key"
            )
        )

    def _traded_by_tag(self) -> Counter[tuple[str, str, int]]:
        trades = self.sandbox.do(lambda _: list(self.sandbox.broker.ledger.trades))
        return Counter((one.order.tag, one.trade_id, one.quantity * one.order.side) for one in trades)

    def check(self, seconds: float = 20.0) -> None:
        """Wait until all is quiet; then every promise, over everything since the beginning."""
        self.until(self.settled, seconds, "everything has come to rest, and the books are the broker's")
        arrived, intents = self.arrivals(), {one.tag: one for one in self.intents()}
        assert set(Counter(one.tag for one in arrived).values()) <= {1}, "an order arrived twice"
        claimed = Counter(
            key for key, before, after, cause, _ in self.lines() if after == SENDING and cause == CLAIM
        )
        for one in arrived:
            intent = intents[one.tag]
            assert claimed[intent.key] >= 1, f"{intent.order} left without a claim on record"
            assert (one.symbol, one.side) == (intent.symbol, 1 if intent.quantity > 0 else -1)
        second = Counter(one.ts // SECOND for one in arrived)
        assert max(second.values(), default=0) <= ORDER_CAP
        held: Counter[tuple[str, str]] = Counter()
        for tag, quantity in self.traded_by():
            intent = intents[tag]
            held[intent.run, intent.symbol] += quantity
            assert held[intent.run, intent.symbol] >= 0, f"{intent.order} sold beyond what its run held"
        ends = Counter(
            one.order for one in self.reports() if one.kind in ("rejected", "cancelled")
        )  # a fill is told by its trades
        assert max(ends.values(), default=0) <= 1, "an order was told to have ended twice"
        assert self.rig.complaints() == []

    def secrets(self) -> list[str]:
        """Log files in which a secret stands."""
        kept = {self.sandbox.broker.account.api_secret, self.sandbox.do(lambda of: of.access.token)}
        files = [path for path in self.rig.workspace.logs.rglob("*") if path.is_file()]
        return [
            str(path) for path in files if any(word in path.read_text("utf-8", "replace") for word in kept)
        ]

    def standby(self) -> subprocess.Popen[str]:
        """A second gateway of the same account, past the hub."""
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "alphapanda.gateway", str(self.rig.root), NAMESPACE],
            env=self.rig.env, cwd=self.rig.root, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip


@contextlib.contextmanager
def desk(root: Path, *, own_server: bool = True, scaled: bool = True) -> Iterator[Desk]:
    """A desk that trades the synthetic Friday at the sandbox, logged in and up.

    ``own_server``: its state server is not the hub's but its own, to kill and to start. ``scaled``: patience is short
    and there are places to die at (see ``hooks``); else everything is as users run it.
    """
    root.mkdir(parents=True, exist_ok=True)
    broker = Broker(Market.of(Synthetic(7, dt.date(2026, 11, 20), 60.0)), now=at(10))
    with contextlib.ExitStack() as stack:
        server: OwnValkey | None = None
        if own_server:
            server = OwnValkey(root / "server")
            stack.callback(server.close)
            server.start()
        sandbox = stack.enter_context(Sandbox.thread(broker))
        proxy = stack.enter_context(Proxy(int(sandbox.url.rpartition(":")[2])))
        made = Desk(root, sandbox, proxy, server, scaled)
        made.log_in()
        yield stack.enter_context(_up(made))


@contextlib.contextmanager
def _up(made: Desk) -> Iterator[Desk]:
    with made.rig:
        yield made

"""The production order path in a small shell of threads, against the sandbox over real sockets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path

from pydantic import SecretStr

from alphapanda.clock import wall_ns
from alphapanda.events import SECOND, ist_day
from alphapanda.sandbox.serve import Running
from alphapanda.zerodha.client import Kite
from alphapanda.zerodha.intents import Intent, tag_of, terms_hash
from alphapanda.zerodha.limits import Limiter
from alphapanda.zerodha.orderpath import OrderPath
from alphapanda.zerodha.outcomes import of_error
from alphapanda.zerodha.policy import Call, Policy
from alphapanda.zerodha.states import ENDED
from alphapanda.zerodha.store import Store
from tests.sandbox_rig import UNIVERSE

QUICK = Policy(
    answer=1.5, gate=1.0, lost_after=1.5, lost_reads=3, book_busy=0.15, book_idle=0.3, cancel_again=0.2
)


def made(
    name: str, symbol: str = "NSE:INFY", quantity: int = 1, limit: int = 154_800, **terms: object
) -> Intent:
    """An intent to open, good for ten seconds of the machine's clock."""
    exchange, tradingsymbol = symbol.split(":")
    instrument, now = UNIVERSE[symbol], wall_ns()
    key = blake2b(name.encode(), digest_size=16).hexdigest()
    given: dict[str, object] = {
        "key": key, "tag": tag_of(key), "terms_hash": "", "order": name, "run": "r", "strategy": "s",
        "exchange": exchange, "tradingsymbol": tradingsymbol, "product": "MIS", "quantity": quantity, "limit": limit,
        "trigger": 0, "price_scale": instrument.price_scale, "tick": instrument.tick_size, "validity": "DAY",
        "purpose": "open", "created": now, "expires": now + 10 * SECOND,
    } | terms  # fmt: skip
    intent = Intent(**given)  # pyright: ignore[reportArgumentType]
    intent.terms_hash = terms_hash(intent)
    return intent


class Shell:
    """The path, its threads and its clock. Use it in a ``with``."""

    def __init__(
        self, sandbox: Running, journal: Path, *, timeout: float = 0.5, policy: Policy = QUICK
    ) -> None:
        self.kite = Kite(
            SecretStr(sandbox.broker.account.api_key), SecretStr(sandbox.open_session()), root=sandbox.url,
            timeout=timeout, scale_of=lambda symbol: UNIVERSE[symbol].price_scale,
        )  # fmt: skip
        self.path = OrderPath(Store(journal), policy, Limiter(), wall_ns())
        self.lock = threading.Lock()
        self.failed: list[BaseException] = []
        self._wake, self._over = threading.Event(), False
        self._pool = ThreadPoolExecutor(policy.senders + 1)
        self._loop = threading.Thread(target=self._serve)

    def __enter__(self) -> Shell:
        self._loop.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._wake.set()
        self._loop.join()
        self._pool.shutdown()
        self.path.store.close()

    def submit(self, *intents: Intent) -> None:
        """On record, and on its way."""
        with self.lock:
            self.path.submit(list(intents), wall_ns())
        self._wake.set()

    def cancel(self, order: str) -> None:
        """Have it cancelled."""
        with self.lock:
            self.path.cancel(order, "not wanted any more", wall_ns())
        self._wake.set()

    def resize(self, order: str, quantity: int) -> None:
        """Have it shrink."""
        with self.lock:
            self.path.resize(order, quantity, wall_ns())
        self._wake.set()

    def until(self, name: str, *states: str, seconds: float = 20.0) -> Intent:
        """Wait until an order of one slice is in one of these states, or has ended if none is named."""
        wanted, give_up = set(states) or ENDED, time.monotonic() + seconds
        while time.monotonic() < give_up:
            with self.lock:
                assert not self.failed, self.failed
                intent = next(one for one in self.path.intents.values() if one.order == name)
                if intent.state in wanted:
                    return intent
            threading.Event().wait(0.01)
        raise AssertionError(f"{name} did not come to {sorted(wanted)}: {self.path.store.lines()}")

    def wait(self, ready: Callable[[], bool], seconds: float = 20.0) -> None:
        """Until something is so."""
        give_up = time.monotonic() + seconds
        while not ready():
            assert time.monotonic() < give_up, "it never came to that"
            threading.Event().wait(0.01)

    def _serve(self) -> None:
        while not self._over:
            self._wake.clear()
            with self.lock:
                now = wall_ns()
                while (call := self.path.next_call(now, time.monotonic_ns(), ist_day(now))) is not None:
                    self._pool.submit(self._make, call)
                wait = (self.path.wakes_at(now) - now) / SECOND
            self._wake.wait(max(0.005, wait))

    def _make(self, call: Call) -> None:
        try:
            if call.kind == "book":
                self._look(call)
                return
            intent = self.path.intents[call.key]
            if call.kind == "place":
                outcome = self.kite.place(intent, lambda: self._gate(call))
            elif call.kind == "cancel":
                outcome = self.kite.cancel(intent)
            else:
                outcome = self.kite.modify(intent, call.quantity)
            with self.lock:
                self.path.answered(call, outcome, wall_ns())
        except BaseException as error:
            self.failed.append(error)
            raise
        finally:
            self._wake.set()

    def _gate(self, call: Call) -> bool:
        with self.lock:
            return self.path.gate(call, wall_ns())

    def _look(self, call: Call) -> None:
        try:
            rows, trades = self.kite.book()
        except Exception as error:  # noqa: BLE001 - as the production shell does
            with self.lock:
                self.path.answered(call, of_error(error), wall_ns())
        else:
            with self.lock:
                self.path.book(call, rows, trades, wall_ns())

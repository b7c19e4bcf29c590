"""Faults that come and go by a seed while several runs trade."""

from __future__ import annotations

import contextlib
import random
import signal
from collections import Counter
from collections.abc import Callable

from alphapanda.clock import monotonic, pause
from tests.havoc.desk import Desk
from tests.havoc.strategies import Patient, Resting

SHARES = ("NSE:SBIN", "NSE:ITC", "NSE:ICICIBANK", "NSE:MARUTI")
ANSWERS = ("timeout", "reset", "drop", "html-502", "null", "truncated", "429", "refused-connection", "lost")
BOOKS = ("book-empty", "book-stale", "book-truncated", "order-tag-missing", "read-html-502", "read-reset")
TICKER = ("ticker-close", "ticker-abort", "ticker-malformed", "ticker-silent", "ticker-price-zero")
POINTS = ("created", "claimed", "gated", "posted", "answered", "seen", "filled", "cancelling", "cancelled")


class Nemesis:
    """Does harm to a desk, drawn from ``seed``: the same seed harms in the same order. ``done`` counts what it did."""

    def __init__(self, desk: Desk, seed: int) -> None:
        self.desk, self.draw, self.done = desk, random.Random(seed), Counter[str]()
        self._runs: list[str] = []
        self._harms: list[Callable[[], None]] = [
            self.kill, self.kill, self.die, self.die, self.stop, self.forget, self.answer, self.answer, self.answer,
            self.book, self.ticker, self.lose, self.cut, self.slow,
        ]  # fmt: skip

    def work(self, seconds: float) -> None:
        """Trade and harm for so long; then all is healed, and it trades once more."""
        desk = self.desk
        name = f"Nemesis{self.draw.randrange(10**6)}"
        for symbol in SHARES[:3]:
            self._runs.append(desk.run(Patient(most=100_000, name=f"{name}-{symbol[4:]}", symbols=[symbol])))
        self._runs.append(
            desk.run(Resting(most=100_000, leave="2s", name=f"{name}-rest", symbols=[SHARES[3]]))
        )
        end = monotonic() + seconds
        while monotonic() < end:
            pause(self.draw.uniform(0.1, 0.9))
            harm = self.draw.choice(self._harms)
            harm()
            self.done[harm.__name__] += 1
        self.heal()
        for run in self._runs:
            desk.end(run)

    def heal(self) -> None:
        """Whatever is on is off again."""
        self.desk.proxy.heal()
        self.desk.sandbox.do(lambda of: of.faults.off())
        self.desk.point.unlink(missing_ok=True)

    def kill(self) -> None:
        """kill -9 of one of the processes."""
        role = self.draw.choice(["gateway:zerodha", "feed", *(f"runner:{run}" for run in self._runs)])
        with contextlib.suppress(AssertionError):
            self.desk.rig.signal(role, signal.SIGKILL)

    def die(self) -> None:
        """The gateway dies at one exact place."""
        self.desk.point.write_text(self.draw.choice(POINTS))

    def stop(self) -> None:
        """A process stands still for a moment."""
        role = self.draw.choice(["gateway:zerodha", "feed", f"runner:{self._runs[0]}"])
        with contextlib.suppress(AssertionError), self.desk.rig.stopped(role):
            pause(self.draw.uniform(0.2, 1.5))

    def forget(self) -> None:
        """The state server loses everything, or dies."""
        server = self.desk.server
        assert server is not None
        if self.draw.random() < 0.5:
            server.flush()
        else:
            server.kill()
            pause(self.draw.uniform(0.0, 1.0))
            server.start()

    def answer(self) -> None:
        """Answers to calls go wrong."""
        call = self.draw.choice(("place", "place", "cancel"))
        self.desk.sandbox.switch(f"{call}-{self.draw.choice(ANSWERS)}", times=self.draw.randrange(1, 4))

    def book(self) -> None:
        """The book lies."""
        self.desk.sandbox.switch(self.draw.choice(BOOKS), times=self.draw.randrange(1, 4))

    def ticker(self) -> None:
        """Prices stop, or are nonsense."""
        self.desk.sandbox.switch(self.draw.choice(TICKER))

    def lose(self) -> None:
        """An answer is lost on the way, in the middle of the line."""
        self.desk.proxy.lose(self.draw.choice((b"POST /orders", b"DELETE /orders", b"GET /orders")))

    def cut(self) -> None:
        """No line, or one that stands and carries nothing."""
        self.desk.proxy.turn(self.draw.choice(("cut", "frozen")))
        pause(self.draw.uniform(0.2, 1.5))
        self.desk.proxy.turn("open")

    def slow(self) -> None:
        """A slow line for a moment."""
        self.desk.proxy.latency = self.draw.uniform(0.05, 0.8)
        pause(0.5)
        self.desk.proxy.latency = 0.0

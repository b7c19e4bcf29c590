"""What goes wrong in a simulated world beyond its network: at the broker, the disk, the power, the clock, the desk."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from alphapanda.events import SECOND
from alphapanda.sandbox.orders import CANCELLED

if TYPE_CHECKING:
    from tests.simulation.world import World

ANSWERS = (
    "timeout", "drop", "reset", "truncated", "timeout-400", "html-502", "html-504", "html-200", "empty", "not-json",
    "no-data", "data-null", "no-order-id", "null", "list", "no-error-type", "no-message", "no-content-type", "redirect",
    "oms-503", "order-500", "general-500", "data-502", "lost", "refused-connection", "429", "html-429", "margin",
    "session-403", "late", "late-400", "slow",
)  # fmt: skip
BROKER = (
    "order-rejected", "order-stuck", "order-partial-cancel", "order-tag-missing", "order-tag-in-tags", "cancel-late",
    "book-empty", "book-stale", "book-truncated", "update-dropped", "update-duplicated", "update-late",
    "update-reordered", "read-timeout", "read-html-502", "read-html-200", "read-no-data", "read-null", "read-redirect",
    "read-429", "cancel-timeout", "cancel-429", "cancel-html-502", "cancel-redirect", "modify-timeout", "modify-429",
    "modify-redirect", "stop-vanishes", "ip-unknown",
)  # fmt: skip
BLINDING = ("read-html-502", "read-timeout", "book-empty", "read-429")
STEPS = (-3600, -5, 5, 3600)  # seconds; a second or less is no step but a correction


class Trouble:
    """Draws what goes wrong, and when; each seed's share of it is its own."""

    def __init__(self, world: World) -> None:
        self.world, self.random = world, world.random
        self.chosen = self.random.sample(ANSWERS, 6)
        self.troubles: tuple[tuple[float, Callable[[], object]], ...] = (
            (60, self._at_the_broker), (8, self._token_dies), (6, self._disk_fills), (4, self.fills_after_all),
            (4, self._pauses), (6, self._dies), (4, self._power), (6, self._operator), (6, self._clock),
        )  # fmt: skip

    def begin(self) -> None:
        """From the first seconds on."""
        self.world.after(self.random.uniform(0, 5), self._next)
        if self.world.blind:
            self.world.after(self.random.uniform(10, 40), self._goes_blind)

    def _next(self) -> None:
        world = self.world
        if world.faulty:
            world.after(self.random.expovariate(world.rates["broker"] * 2 + 0.02), self._next)
            weights = [weight for weight, _ in self.troubles]
            self.random.choices(self.troubles, weights)[0][1]()

    # ── the broker ───────────────────────────────────────────────────────────────────────────────────────────────

    def spoil_answer(self) -> None:
        """The next order's answer is one of this seed's."""
        world, name = self.world, self.random.choice(self.chosen)
        seconds = self.random.choice((3, 8, 40, 110, 200, 300)) if name.startswith("late") else None
        world.broker.faults.switch(f"place-{name}", times=1, seconds=seconds)
        if seconds:
            world.flying += 1
            world.after(seconds + 1, self._late_one_arrived)

    def _late_one_arrived(self) -> None:
        self.world.flying -= 1
        self.world.last_call = self.world.now

    def _at_the_broker(self) -> None:
        self.world.broker.faults.switch(self.random.choice(BROKER), times=self.random.randint(1, 4))

    def _goes_blind(self) -> None:
        """For longer than the path waits the broker shows nothing."""
        faults, name = self.world.broker.faults, self.random.choice(BLINDING)
        faults.switch(name, times=None)
        self.world.after(self.random.uniform(75, 100), lambda: self._sees_again(name))

    def _sees_again(self, name: str) -> None:
        self.world.broker.faults.off(name)
        self.world.after(self.random.uniform(3, 10), lambda: self.world.people.lower(0))

    def _token_dies(self) -> None:
        self.world.broker.access.close()
        self.world.after(self.random.uniform(1, 15), self.world.people.log_in)

    def fills_after_all(self) -> None:
        """An order that the exchange had cancelled fills."""
        world, book = self.world, self.world.broker.book
        dead = [one for one in book.orders.values() if one.status == CANCELLED and one.remaining and one.tag]
        if dead:
            order = self.random.choice(dead)
            world.revived.setdefault(order.tag, world.now)
            world.last_call = world.now  # the book has to be seen once more
            book._fill(order, self.random.choice((1, order.remaining)), order.price, world.now)  # pyright: ignore[reportPrivateUsage]

    # ── the machine ──────────────────────────────────────────────────────────────────────────────────────────────

    def _disk_fills(self) -> None:
        machine = self.world.machine
        machine.full_until = self.world.now + int(self.random.uniform(0.5, 12) * SECOND)

    def _pauses(self) -> None:
        self.world.machine.pause()

    def _dies(self) -> None:
        self.world.machine.crash()

    def _power(self) -> None:
        self.world.machine.power_cut()

    def _clock(self) -> None:
        """Not in a world whose counts of a minute and a day are watched: nobody could keep them. Nor at midnight, when
        no exchange is open: an order of those seconds is of two days, the book is never whole again and all halts."""
        if not self.world.machine.watched and not self.world.midnight:
            self.world.machine.set_clock(self.random.choice((*STEPS, self.random.uniform(-1, 1))))
            self.world.after(self.random.uniform(3, 10), lambda: self.world.people.lower(0))

    # ── the desk ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _operator(self) -> None:
        """Somebody replays dead letters, or runs a day again: decisions on record, some with a new time to live."""
        world, path = self.world, self.world.machine.listening
        old = [parts for parts in world.people.wanted.values() if path and parts[0].key in path.intents]
        world.note("replay")
        for parts in self.random.sample(old, min(3, len(old))):
            longer = self.random.choice((0, 60)) * SECOND
            world.submit([msgspec.structs.replace(one, expires=one.expires + longer) for one in parts])

"""Who asks for what in a simulated world: strategies, the platform that repeats itself, persons."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

from alphapanda.events import SECOND
from alphapanda.zerodha.intents import Intent, Purpose, tag_of, terms_hash
from alphapanda.zerodha.states import LOST
from tests.sandbox_rig import UNIVERSE

if TYPE_CHECKING:
    from tests.simulation.world import World

SYMBOLS = ("NSE:INFY", "NSE:TCS", "NSE:SBIN")
FOREIGN = 61  # shares of an order from the broker's app: no strategy here wants as many


class People:
    """Two strategies, the platform that repeats itself, persons at the kill switch and in the broker's app."""

    def __init__(self, world: World) -> None:
        self.world, self.random = world, world.random
        self.level = 0  # what a person has set, and is on record
        self.lowered = 0  # how often a person has said that it ends
        self.spoke = 0  # when a person last said so, or logged in
        self.wanted: dict[str, list[Intent]] = {}
        self.taken_back: dict[str, int] = {}  # orders that were to be cancelled, and since when
        self.foreign: list[str] = []  # order ids that are not ours
        self.storm = self.random.choice((0.0, 0.2, 0.8))
        self.bold = self.random.choice((-10, 0, 5))  # how far limits go into the market

    def begin(self) -> None:
        """The market moves, the strategies decide, and things begin to go wrong."""
        world = self.world
        for symbol in SYMBOLS:
            self._walk(symbol)
        for strategy in ("A", "B"):
            world.at(world.now, lambda strategy=strategy: self._decide(strategy, 0))
        if world.faulty and not world.blind:
            world.after(self.random.uniform(0, 10), self._person)

    # ── the market and the strategies ────────────────────────────────────────────────────────────────────────────

    def _walk(self, symbol: str) -> None:
        world = self.world
        world.broker.advance(world.now)
        quote = world.broker.market.symbols[symbol]
        step = self.random.choice((-1, 0, 0, 1)) * self.random.randint(1, 20)
        price = quote.last + step * quote.instrument.tick_size
        world.broker.tick(symbol, price / quote.instrument.price_scale)
        if world.now < world.until + 60 * SECOND:
            world.after(self.random.expovariate(2.0), lambda: self._walk(symbol))

    def _decide(self, strategy: str, number: int) -> None:
        """A strategy wants something: to open, close, protect, cancel, shrink; and is heard once or twice."""
        world = self.world
        if world.now >= world.until:
            return
        draw = self.random.random()
        orders = [order for order, parts in self.wanted.items() if parts[0].strategy == strategy]
        if draw < 0.15 and orders:
            self._take_back(self.random.choice(orders[-8:]))
        elif draw < 0.25 and orders:
            self._shrink(self.random.choice(orders[-8:]))
        elif parts := self._wish(strategy, number, self.random.choice(SYMBOLS)):
            self.wanted[parts[0].order] = parts
            for _ in range(1 + (self.random.random() < 0.2)):
                world.submit(parts)
            if self.random.random() < 0.2:
                world.submit([_other(one) for one in parts])
        pause = 0.0 if self.random.random() < self.storm else self.random.expovariate(0.8)
        world.after(pause * (5 if world.blind else 1), lambda: self._decide(strategy, number + 1))

    def _take_back(self, order: str) -> None:
        if self.tell(lambda path: path.cancel(order, "the strategy said so", self.world.machine.wall), order):
            self.taken_back.setdefault(order, self.world.now)

    def _shrink(self, order: str) -> None:
        world, wanted = self.world, sum(one.quantity for one in self.wanted[order])
        if abs(wanted) > 2:
            self.tell(lambda path: path.resize(order, int(wanted / 2), world.machine.wall), order)

    def _wish(self, strategy: str, number: int, symbol: str) -> list[Intent]:
        path, quote, instrument = (
            self.world.machine.path,
            self.world.broker.market.symbols[symbol],
            UNIVERSE[symbol],
        )
        held = path.held(strategy, symbol, "MIS") if path is not None else 0
        quantity, trigger = self.random.choice((-1, 1)) * self.random.randint(1, 50), 0
        purpose: Purpose = "open"
        away = self.random.choice((self.bold, 5, 0, -10)) * instrument.tick_size
        if held and self.random.random() < 0.6:
            quantity, purpose = -held, "reduce"
            if self.random.random() < 0.3:
                far = self.random.randint(3, 30) * instrument.tick_size
                trigger = quote.last - far if quantity < 0 else quote.last + far
                away = 10 * instrument.tick_size
        elif held * quantity < 0:
            quantity = -quantity
        base = trigger or quote.last
        limit = max(instrument.tick_size, base + (away if quantity > 0 else -away))
        sizes = (13, 13, abs(quantity) - 26) if abs(quantity) > 40 and not trigger else (abs(quantity),)
        return self._parts(strategy, f"{strategy}:{number}", symbol, quantity, sizes, limit, trigger, purpose)

    def _parts(
        self, strategy: str, order: str, symbol: str, quantity: int, sizes: tuple[int, ...], limit: int, trigger: int,
        purpose: Purpose,
    ) -> list[Intent]:  # fmt: skip
        instrument, now = UNIVERSE[symbol], self.world.machine.wall
        exchange, name = symbol.split(":")
        expires = now + self.random.choice((3, 3, 3, 30)) * SECOND
        made: list[Intent] = []
        for part, size in enumerate(sizes):
            key = blake2b(f"{order}:{part}".encode(), digest_size=16).hexdigest()
            intent = Intent(
                key, tag_of(key), "", order, strategy, strategy, exchange, name, "MIS",
                size if quantity > 0 else -size, limit - limit % instrument.tick_size, trigger,
                instrument.price_scale, instrument.tick_size, "DAY", purpose, now, expires, part, len(sizes),
                chase=0.01 if purpose == "flatten" or (purpose == "reduce" and not trigger) else 0.0,
            )  # fmt: skip
            intent.terms_hash = terms_hash(intent)
            made.append(intent)
        return made

    def ask_again(self) -> None:
        """The platform's journal asks for everything again when a gateway starts."""
        for parts in list(self.wanted.values()):
            self.world.submit(parts)

    def tell(self, do: Callable[..., object], order: str = "") -> bool:
        """Something is said to the process in charge; False if it cannot hear, or does not know the order."""
        machine = self.world.machine
        if (path := machine.listening) is None:
            return False
        if order and order not in {one.order for one in path.intents.values()}:
            return False
        machine.running = machine.life
        do(path)
        return True

    # ── persons ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _person(self) -> None:
        """The kill switch, or an order from the broker's app."""
        world = self.world
        if not world.faulty:
            return
        if self.random.random() < 0.5:
            self._by_hand()
        else:
            level = self.random.choice((1, 2, 3, 4))
            world.after(self.random.uniform(1, 10), lambda: self.lower(0))
            self._raise(level)
        world.after(self.random.expovariate(world.rates["people"] + 0.02), self._person)

    def _raise(self, level: int) -> None:
        world = self.world
        world.at(world.now + SECOND, lambda: self._flatten(level))
        if self.random.random() < 0.2:
            world.machine.fuse = self.random.randint(1, 4)  # the process dies over it
        if self.tell(lambda path: path.raise_level(level, "a person", world.machine.wall)):
            self.level = max(self.level, level)

    def lower(self, level: int) -> None:
        """A person ends it; by then everything that opens has been marked for its cancel."""
        machine = self.world.machine
        path = machine.listening
        if path is not None and path.level > 2 and self.world.now > machine.full_until + 2 * SECOND:
            left = [
                one.order
                for one in path.open.values()
                if one.purpose == "open" and one.sent and not one.cancel
            ]
            self.world.wrong += [f"I3: {order} stands at kill level {path.level}" for order in left]
        kept, self.level = self.level, level
        self.lowered += 1
        self.spoke = self.world.now
        if not self.tell(lambda path: path.lower_level(level, "a person", self.world.machine.wall)):
            self.level = kept

    def _flatten(self, level: int) -> None:
        """At level 4 the trader sends exits for everything that is held."""
        world = self.world
        path = world.machine.path
        if level != 4 or path is None or path.level != 4:
            return
        for strategy in ("A", "B"):
            for symbol in SYMBOLS:
                if held := path.held(strategy, symbol, "MIS"):
                    limit = world.broker.market.symbols[symbol].last + (50 if held < 0 else -50) * 5
                    order = f"{strategy}:flat:{symbol}:{world.now}"
                    parts = self._parts(strategy, order, symbol, -held, (abs(held),), limit, 0, "flatten")
                    self.wanted[order] = parts
                    world.submit(parts)

    def _by_hand(self) -> None:
        world = self.world
        form = {
            "exchange": "NSE", "tradingsymbol": "INFY", "transaction_type": self.random.choice(("BUY", "SELL")),
            "quantity": str(FOREIGN), "product": "MIS", "order_type": "LIMIT",
            "price": str((world.broker.market.symbols["NSE:INFY"].last + self.random.choice((-50, 0, 50))) / 100),
        }  # fmt: skip
        kept = world.broker.faults.active
        for fault in kept:
            world.broker.faults.off(fault.name)
        token = f"{world.broker.account.api_key}:{world.broker.access.token}"
        answer = world.broker.call("POST", "/orders/regular", form, now=world.now, token=token)
        for fault in kept:
            world.broker.faults.switch(fault.name, times=fault.times)
        if answer.status == 200:
            self.foreign.append(answer.data["order_id"])

    def log_in(self) -> None:
        """A person logs in: a new token, and the old one is dead."""
        world = self.world
        world.token = world.broker.access.open(world.now)
        world.tokens.append(world.token)
        world.phone.use(world.token)
        self.spoke = world.now
        self.tell(lambda path: path.new_token(world.machine.wall))

    # ── the calm ─────────────────────────────────────────────────────────────────────────────────────────────────

    def set_right(self) -> None:
        """A person logs in again and ends the alarm; again until it is heard."""
        if self.world.machine.path is None:
            self.world.after(1, self.set_right)
            return
        self.log_in()
        self.lower(0)

    def cancel_all(self) -> None:
        """Whatever is wanted or working is not any more."""
        if self.world.machine.path is None:
            return
        for order in sorted(
            {one.order for one in self.world.machine.path.open.values() if one.state != LOST}
        ):
            self.tell(
                lambda path, order=order: path.cancel(order, "the day is over", self.world.machine.wall)
            )


def _other(intent: Intent) -> Intent:
    """The same decision with another quantity: a conflict, not an order."""
    changed = msgspec.structs.replace(intent, quantity=intent.quantity * 2)
    changed.terms_hash = terms_hash(changed)
    return changed

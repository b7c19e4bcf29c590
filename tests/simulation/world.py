"""One seed's world: the production order path and the official client, a network, a broker, people, and bad luck.

Time is a heap of events. Everything random is drawn from the seed. What is real: ``OrderPath``, ``Store`` (SQLite),
``Kite`` and the unmodified ``KiteConnect`` above a transport of ours; the broker is the sandbox's model. What is made
up: the network between them, the shell around the path, the computer it runs on (``machine``), and (in ``people``) who
asks for what and what goes wrong.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable
from hashlib import blake2b
from typing import NamedTuple

import msgspec
import requests

from alphapanda.errors import DatabaseError, ValidationError
from alphapanda.events import SECOND, ist_day
from alphapanda.sandbox.access import Limits
from alphapanda.sandbox.documents import Refused
from alphapanda.zerodha.intents import Intent
from alphapanda.zerodha.orderpath import OrderPath
from alphapanda.zerodha.outcomes import Outcome, of_error
from alphapanda.zerodha.policy import Call
from alphapanda.zerodha.reading import Trade, row_of
from alphapanda.zerodha.states import ENDED, LOST
from tests.sandbox_rig import TEN, at, broker
from tests.simulation.machine import Crash, Machine, WorldStore
from tests.simulation.network import NO_CONNECTION, Asked, Given, Phone, as_met

MS = 10**6
TRADING = 30  # virtual seconds in which orders are wanted
LONG = 150  # the same in a world whose broker shows nothing for longer than anybody waits
CALM = 120  # and in which all of them end afterwards, but for what arrives later still
PROMPT = 0.1  # a call that takes no longer from the claim to the broker than this and that
RATES = ("place", "broker", "crash", "pause", "late", "people")
LIES = (
    Refused("NetworkException", "Too many requests", 429).answer,
    Refused("MarginException", "Insufficient funds. Required margin is 10.00 but available margin is 1.00.").answer,
    Refused("PermissionException", "Insufficient permission for that call.").answer,
)  # fmt: skip


class Sent(NamedTuple):
    """A call to the order endpoints at the moment it leaves: true time, the machine's, kind, tag, the kill level and
    whether its process was in charge, ns since it saw the book, and when it arrives; ``prompt`` if nothing held it
    up on the way."""

    at: int
    wall: int
    kind: str
    tag: str
    level: int
    in_charge: bool
    unseen: int
    arrives: int
    prompt: bool


class World:
    """Runs one seed. ``path``, ``store`` and ``error`` are what is under test: mutants, for tests of the tests.

    ``faults`` False is a calm day. Close it, or use it in a ``with``.
    """

    def __init__(
        self, seed: int, *, path: type[OrderPath] = OrderPath, store: type[WorldStore] = WorldStore,
        error: Callable[[BaseException], Outcome] = of_error, faults: bool = True,
    ) -> None:  # fmt: skip
        from tests.simulation.people import People
        from tests.simulation.trouble import Trouble

        self.seed, self.random = seed, random.Random(seed)
        self.midnight = faults and self.random.random() < 0.08
        self.blind = faults and not self.midnight and self.random.random() < 0.07
        self.now = self.start = at(23, 59) + 45 * SECOND if self.midnight else TEN
        self.faulty = faults
        self.broker = broker(self.now, seed=seed, limits=Limits(), hours=False)
        self.token = self.broker.access.open(self.now)
        self.tokens = [self.token]
        self.phone = Phone(self.broker.account.api_key, self.token, error)
        self.events: list[tuple[int, int, Callable[[], None]]] = []
        self.count = self.handled = 0
        self.last_call = 0  # when a call last left or came back
        self.flying = 0  # calls that have left and not arrived
        self.in_air: Counter[str] = Counter()  # the same by tag, of orders
        self.tape: list[str] = []  # what happened, for the hash
        self.wrong: list[str] = []  # what was seen to be wrong while it happened
        self.sent: list[Sent] = []
        self.lied: dict[str, int] = {}  # tags that the broker has and said it has not, and when it said so
        self.revived: dict[str, int] = {}  # tags that filled after they had been cancelled, and when first
        self._polls = (0, 0)
        self.until = self.start + (LONG if self.blind else TRADING) * SECOND
        self.end = self.until + 600 * SECOND
        self.rates = {name: self.random.random() ** 3 * 0.4 for name in RATES}
        self.machine = Machine(self, path, store)
        self.people = People(self)
        self.trouble = Trouble(self)

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self.machine.close()

    # ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def at(self, ts: int, do: Callable[[], None]) -> None:
        """Do something then."""
        self.count += 1
        heapq.heappush(self.events, (max(ts, self.now), self.count, do))

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        """Do something so many seconds from now."""
        self.at(self.now + int(seconds * SECOND), do)

    def run(self, *, until_wrong: bool = False) -> World:
        """The trading, then a calm in which everything must come to an end; or only until something is wrong."""
        from tests.simulation.invariants import Watch

        watch, machine = Watch(self), self.machine
        self.after(0, machine.boot)
        self.people.begin()
        if self.faulty:
            self.trouble.begin()
        self.at(self.until, self._calm)
        while self.events and self.events[0][0] <= self.end:
            self.now, _, do = heapq.heappop(self.events)
            self.handled += 1
            machine.running = 0
            try:
                do()
            except Crash:
                machine.died(machine.running or machine.life)
            except DatabaseError as error:
                machine.blocked(error)
            watch.look()
            if until_wrong and self.wrong:
                break
        return self

    def _calm(self) -> None:
        """Nothing more goes wrong; people set right what is theirs to set right, and have everything cancelled."""
        self.faulty = False
        self.broker.faults.off()
        self.machine.full_until = 0
        self.machine.asleep.clear()
        self.at(self.now + SECOND, self.people.set_right)
        self.after(20, self._wind_down)

    def _wind_down(self) -> None:
        """Every open order is cancelled; the world ends when nothing is open and nothing can arrive any more."""
        self.people.cancel_all()
        path, settled = self.machine.path, (*ENDED, LOST)
        quiet = not self.flying and self.now - self.last_call > 5 * SECOND
        over = path is not None and all(one.state in settled for one in path.open.values())
        spent = quiet and self.machine.calls_left() <= 0  # nobody may cancel anything any more today
        if spent or (
            over and quiet and path is not None and path.look.asked > self.last_call + self.machine.set_by
        ):
            self.end = self.now
            return
        self.after(1 if self.now < self.until + CALM * SECOND else 10, self._wind_down)

    # ── what a gateway's shell does ──────────────────────────────────────────────────────────────────────────────

    def pump(self, life: int, *, once: bool = False) -> None:
        """The shell's loop: make every call there is, then sleep until it has something to do."""
        path = self.machine.awake(life, lambda: self.pump(life, once=once))
        if path is None:
            return
        self._counts_poll(once)
        wall = self.machine.wall
        try:
            while (call := path.next_call(wall, self.now, ist_day(wall))) is not None:
                self._leave(call, life)
            self._hear()
        finally:
            if not once:
                wake = self.now + path.wakes_at(wall) - wall
                self.at(max(wake, self.now + 20 * MS), lambda: self.pump(life))

    def _counts_poll(self, once: bool) -> None:
        """A shell that asks again and again without need burns a core."""
        second = self.now // SECOND
        self._polls = (second, self._polls[1] + 1) if self._polls[0] == second and not once else (second, 0)
        if self._polls[1] > 45:
            self.wrong.append(f"I9: the shell spins at {(self.now - self.start) / SECOND:.1f} s")
            self._polls = (second, -1000)

    def _hear(self) -> None:
        """Order updates, by the ticker."""
        self.broker.advance(self.now)
        path = self.machine.path
        while self.broker.updates and path is not None:
            path.heard(row_of(self.broker.updates.popleft()), self.machine.wall)

    def submit(self, intents: list[Intent]) -> None:
        """The platform asks for an order."""
        machine = self.machine
        if (path := machine.listening) is None:
            return
        machine.running = machine.life
        try:
            path.submit([msgspec.structs.replace(one) for one in intents], machine.wall)
        except ValidationError as error:
            self.note(f"refused {error.code}")

    # ── one call ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _leave(self, call: Call, life: int) -> None:
        """From the claim to the socket there is a moment, now and then a long one."""
        slow = self.unlucky("pause", 0.05)
        pause = self.random.uniform(0, 40) if slow else self.random.uniform(0, 0.01)
        self.after(pause, lambda: self._socket(call, life, not slow))

    def _socket(self, call: Call, life: int, prompt: bool) -> None:
        path = self.machine.awake(life, lambda: self._socket(call, life, False))
        if path is None:
            return
        there = self.random.uniform(0.005, PROMPT)
        if self.unlucky("late", 0.3):
            there, prompt = self.random.choice((0.5, 3, 6.9, 20, 60, 150, 300)), False
        if call.kind == "book":
            asked = self.phone.asks_for_book()
        else:
            intent = path.intents[call.key]
            if call.kind == "place" and not path.gate(call, self.machine.wall):
                path.answered(call, Outcome("unsent", reason="gate"), self.machine.wall)
                return
            asked = self.phone.asks(call, intent)
            if call.kind == "place" and self.unlucky("place", 0.1):
                self.after(0.01, lambda: self._back(call, life, [NO_CONNECTION]))
                return
            self._note_sent(call.kind, intent.tag, path, self.now + int(there * SECOND), prompt)
            self.last_call = self.now
            self.flying += 1
            self.in_air[intent.tag] += call.kind == "place"
        left, token = self.now, f"{self.broker.account.api_key}:{self.token}"
        self.after(there, lambda: self._arrive(call, life, asked, left, token))

    def _note_sent(self, kind: str, tag: str, path: OrderPath, arrives: int, prompt: bool) -> None:
        wall = self.machine.wall
        in_charge = path.store.fact("epoch") == str(path.store.epoch)
        unseen = wall - path.look.at
        self.sent.append(Sent(self.now, wall, kind, tag, path.level, in_charge, unseen, arrives, prompt))

    def _arrive(self, call: Call, life: int, asked: list[Asked], left: int, token: str) -> None:
        tag = asked[0][2].get("tag", "")
        if call.kind != "book":
            self.flying -= 1
            self.in_air[tag] -= call.kind == "place"
            self.last_call = self.now
        if call.kind == "place" and self.unlucky("place", 0.5):
            self.trouble.spoil_answer()
        answers: list[Given] = []
        back = self.random.uniform(0.005, 0.1)
        for method, path, params in asked:
            answer = self.broker.call(method, path, params, now=self.now, token=token)
            if call.kind == "place" and answer.status == 200 and self.unlucky("place", 0.08):
                answer = self.random.choice(LIES)
                self.lied[tag] = self.now
            self.note(f"{method} {answer.status} {answer.delivery}")
            back += answer.delay
            answers.append(as_met(answer))
        gone = (self.now - left) / SECOND
        if gone + back > 7.0 or any(isinstance(one, requests.exceptions.ReadTimeout) for one in answers):
            answers = [requests.exceptions.ReadTimeout("read timed out")] * len(answers)
            back = max(0.0, 7.0 - gone)
        self.after(back, lambda: self._back(call, life, answers))

    def _back(self, call: Call, life: int, answers: list[Given]) -> None:
        path, wall = self.machine.awake(life, lambda: self._back(call, life, answers)), self.machine.wall
        if path is None:
            return
        if call.kind == "book":
            try:
                rows, trades = self.phone.reads(answers)
            except Exception as error:  # noqa: BLE001 - as the shell does
                path.answered(call, of_error(error), wall)
            else:
                path.book(call, rows, _numbered(trades), wall)
        else:
            self.last_call = self.now
            intent = path.intents[call.key]
            outcome = self.phone.hears(call, intent, answers[0])
            self.note(f"{call.kind} {intent.order} {outcome.kind}")
            path.answered(call, outcome, wall)
        self.at(self.now, lambda: self.pump(life, once=True))

    # ── what the parts of this world use ─────────────────────────────────────────────────────────────────────────

    def unlucky(self, name: str, scale: float) -> bool:
        """Whether something of this sort goes wrong now."""
        return self.faulty and self.random.random() < self.rates[name] * scale

    def note(self, what: str) -> None:
        """For the hash."""
        self.tape.append(f"{self.now} {what}")

    # ── what is left ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def digest(self) -> str:
        """Stands for everything that happened."""
        lines = [repr(line) for line in self.machine.store.lines()]
        trades = [f"{t.ts} {t.order.tag} {t.quantity} {t.price}" for t in self.broker.ledger.trades]
        return blake2b("\n".join([*self.tape, *lines, *trades]).encode(), digest_size=16).hexdigest()

    def violations(self) -> list[str]:
        """What must never be, and was."""
        from tests.simulation.invariants import violations

        return violations(self)

    def facts(self) -> Counter[str]:
        """How much of what happened."""
        found = Counter(intent.state for intent in self.machine.store.intents())
        found.update(self.broker.faults.struck)
        found.update(line.partition(" ")[2] for line in self.tape if line.endswith((" power cut", " replay")))
        found.update(
            events=self.handled, orders=len(self.broker.ledger.arrivals), crashes=self.machine.crashes
        )
        return found


def _numbered(trades: list[Trade]) -> list[Trade]:
    """Trade ids as an exchange may give them: told apart within an order, and nowhere else."""
    seen: Counter[str] = Counter()
    made: list[Trade] = []
    for trade in trades:
        seen[trade.order_id] += 1
        made.append(msgspec.structs.replace(trade, trade_id=str(seen[trade.order_id])))
    return made

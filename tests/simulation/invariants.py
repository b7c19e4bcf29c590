"""What must never be: checked against the sandbox's own ledger, which no fault touches.

The numbers are those of the platform's list: I1 one order a decision, I2 on record before it leaves, I3 none out of
its time, against the kill level or by a process that was followed, I4 fills and money agree to the unit and whatever
may still fill is reserved at every moment, I5 each order has one end that the platform hears, I8 the broker's rate, I9
everything ends, I10 no secret on record, I11 the kill level never falls by itself and a gateway that sees nothing
halts, I12 what is not ours is not touched and no exit is larger than its position. I6 (lanes): whatever reaches the
broker is on record in the live account's journal (I2), which nothing but the live trader writes. I7 (the same seed,
the same digest) is a test of its own. Sessions are the desk's to keep: an intent knows only its last moment.

What is excused is what nobody can know, each where it is asked about: an order the broker denies having and shows
without its tag, one that fits two, one that filled after its end until the book has shown that, and what a broker
forgets at midnight before anybody could look.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from alphapanda.events import MINUTE, SECOND, ist_day
from alphapanda.sandbox.orders import Order
from alphapanda.zerodha.states import AT_BROKER, CREATED, DENIED, ENDED, EXPIRED, LOST, SENDING, UNKNOWN
from tests.simulation.machine import CALLS_A_DAY, CAPS

if TYPE_CHECKING:
    from alphapanda.sandbox.orders import Arrival
    from alphapanda.zerodha.intents import Intent
    from alphapanda.zerodha.orderpath import OrderPath
    from tests.simulation.world import World

ADMITS = {"open": 0, "reduce": 1, "flatten": 4}
PER_SECOND = 10
LOST_AFTER = 90 * SECOND
LOST_READS = 3
BLIND = 60 * SECOND
GRACE = 5 * SECOND  # to notice, between two looks
ALIKE = 300 * SECOND  # orders that fit the same row were sent within this


class Watch:
    """Looks after every event, at what can be said while it happens."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._arrivals = self._commits = self._level = self._lowered = 0
        self._look = (0, 0)  # the last good one, as its process says, and when that was truly

    def look(self) -> None:
        """Everything that may have changed with this event."""
        world, machine, arrivals = self.world, self.world.machine, self.world.broker.ledger.arrivals
        if machine.commits == self._commits and len(arrivals) == self._arrivals:
            return
        for arrival in arrivals[self._arrivals :]:
            world.wrong += arrived(world, arrival)
        self._arrivals, self._commits = len(arrivals), machine.commits
        if (path := machine.path) is not None:
            world.wrong += [*reserved(world, path), *self._levels(path), *self._halted(path)]

    def _levels(self, path: OrderPath) -> list[str]:
        """It falls when a person says so, and not otherwise; not by a restart either."""
        before, self._level = self._level, path.level
        said, self._lowered = self.world.people.lowered > self._lowered, self.world.people.lowered
        if path.level < before and not said:
            return [f"I11: the kill level fell from {before} to {path.level}"]
        if path.level < self.world.people.level:
            return [f"I11: the kill level is {path.level}, a person set {self.world.people.level}"]
        return []

    def _halted(self, path: OrderPath) -> list[str]:
        """With orders out and the book unseen for a minute it has halted, unless a person has looked since. A dead
        token has an alarm of its own."""
        world = self.world
        if self._look[0] != path.look.at:
            self._look = path.look.at, world.now
        unseen = world.now - max(self._look[1], world.machine.since, world.people.spoke)
        if unseen <= BLIND + GRACE or path.level >= 2 or path.token_dead:
            return []
        out = [one.order for one in path.open.values() if one.state in (SENDING, UNKNOWN, *AT_BROKER)]
        return [
            f"I11: {one} is out, the book unseen for {unseen / SECOND:.0f} s, and nobody halts"
            for one in out[:1]
        ]


def arrived(world: World, arrival: Arrival) -> list[str]:
    """When an order reaches the broker it is on record as sent, with these terms."""
    if not arrival.tag:
        return []
    intent = next((one for one in world.machine.store.intents() if one.tag == arrival.tag), None)
    if intent is None:
        return [f"I2: an order nobody wrote down: {arrival.tag}"]
    if intent.state in (CREATED, DENIED, EXPIRED):
        return [f"I2: {intent.order} arrived and is {intent.state} on record"]
    if not any(after == SENDING for _, _, after, _, _ in world.machine.store.lines(intent.key)):
        return [f"I2: {intent.order} arrived and was never claimed"]
    sent, asked = arrival.side * arrival.quantity, world.people.wanted[intent.order][intent.slice].quantity
    written = (arrival.symbol, sent, arrival.price) == (intent.symbol, intent.quantity, intent.limit)
    if not written or sent * asked < 0 or abs(sent) > abs(asked):  # it may have shrunk before it left
        return [f"I2: {intent.order} arrived with other terms than were written down"]
    return []


def reserved(world: World, path: OrderPath) -> list[str]:
    """Whatever is at the broker or on its way there may fill, and counts here with all that may still come of it."""
    known = {intent.tag: intent for intent in path.reserved()}
    found = [
        f"I4: {tag} is on its way and not reserved" for tag, n in world.in_air.items() if n > 0 and tag not in known
    ]  # fmt: skip
    for order in world.broker.book.live():
        intent = known.get(order.tag)
        if intent is None:
            if order.tag and not _denied(world, path, order):
                found.append(f"I4: {order.tag} is live at the broker and not reserved")
        elif abs(intent.quantity) < order.quantity:
            found.append(f"I4: {intent.order} may fill {order.quantity}, reserved are {intent.quantity}")
    return found


def _denied(world: World, path: OrderPath, order: Order) -> bool:
    """The broker has said that it does not have it, and since then no good look was long enough in coming to show it;
    or none ever will, because its tag is gone."""
    if order.tag not in world.lied:
        return False
    came = world.broker.book.history[order.order_id][0][0]  # later than the answer that it would not
    return path.look.asked - world.machine.set_by <= max(world.lied[order.tag], came) + GRACE or hidden(
        world, order.tag
    )


def violations(world: World) -> list[str]:
    """Every broken promise, in words."""
    intents = {intent.tag: intent for intent in world.machine.store.intents()}
    return [
        *world.wrong, *_once(world, intents), *_in_time(world, intents), *_blocked(world), *_told(world),
        *_books(world, intents), *_exits(world, intents), *_ends(world, intents), *_rates(world), *_secrets(world),
        *_foreign(world, intents), *_given_up(world),
    ]  # fmt: skip


def _once(world: World, intents: dict[str, Intent]) -> list[str]:
    found = ["I1: the client sent an order twice"] * world.phone.again
    arrivals = Counter(a.tag for a in world.broker.ledger.arrivals if a.tag)
    found += [
        f"I1: {count} orders of {intents[tag].order if tag in intents else tag}"
        for tag, count in arrivals.items()
        if count > 1
    ]
    decided = Counter((one.order, one.slice) for one in intents.values())
    return found + [f"I1: {name} is on record {count} times" for name, count in decided.items() if count > 1]


def _in_time(world: World, intents: dict[str, Intent]) -> list[str]:
    found: list[str] = []
    for sent in world.sent:
        intent = intents.get(sent.tag)
        if sent.kind != "place" or intent is None:
            continue
        if sent.wall >= world.people.wanted[intent.order][intent.slice].expires:
            found.append(f"I3: {intent.order} was sent after its time")
        if sent.at > world.people.taken_back.get(intent.order, sent.at):
            found.append(f"I3: {intent.order} was sent after it had been taken back")
        if sent.level > ADMITS[intent.purpose]:
            found.append(f"I3: {intent.order} was sent at kill level {sent.level}")
        if not sent.in_charge:
            found.append(f"I3: {intent.order} was sent by a process that another had followed")
        if sent.unseen > BLIND + GRACE:
            found.append(f"I3: {intent.order} was sent {sent.unseen / SECOND:.0f} s after the last good look")
    return found


def _blocked(world: World) -> list[str]:
    """While an order's fate is unknown its strategy opens nothing in that instrument."""
    found: list[str] = []
    intents = {intent.key: intent for intent in world.machine.store.intents()}
    doubtful: dict[str, str] = {}
    for key, before, after, _, _ in world.machine.store.lines():
        if (one := intents.get(key)) is None:
            continue  # not on record any more: _once and _books say so
        if after in (UNKNOWN, LOST):
            doubtful[key] = after
        else:
            doubtful.pop(key, None)
        if (before, after) == (CREATED, SENDING) and one.purpose == "open":
            for other in doubtful:
                same = intents[other].strategy == one.strategy and intents[other].symbol == one.symbol
                if same and intents[other].order != one.order:
                    found.append(
                        f"I4: {one.order} was sent while {intents[other].order} was {doubtful[other]}"
                    )
    return found


def _told(world: World) -> list[str]:
    """Every order hears one acceptance at most, one end unless it filled, and each of its fills once."""
    found: list[str] = []
    accepted, ended, filled = Counter[str](), Counter[str](), Counter[str]()
    for number, (given, report) in enumerate(world.machine.store.reports(0), start=1):
        if number != given:
            found.append(f"I5: report {number} has the number {given}")
        accepted[report.order] += report.kind == "accepted"
        ended[report.order] += report.kind in ("rejected", "cancelled")
        filled[report.order] += report.quantity if report.kind == "filled" else 0
    slices: dict[str, list[Intent]] = defaultdict(list)
    for intent in world.machine.store.intents():
        slices[intent.order].append(intent)
    for order, parts in slices.items():
        over = all(part.state in ENDED for part in parts)
        full = all(part.filled == part.quantity for part in parts)
        if over and not full and not ended[order]:
            found.append(f"I5: nobody was told that {order} has ended")
        if ended[order] > 1:
            found.append(f"I5: {order} was told {ended[order]} ends")
        if accepted[order] > len(parts):
            found.append(f"I5: {order} was accepted {accepted[order]} times")
        if filled[order] != sum(part.filled for part in parts):
            found.append(f"I5: the platform was told {filled[order]} fills of {order}")
    return found


def _books(world: World, intents: dict[str, Intent]) -> list[str]:
    """Fills and money are the broker's, to the unit."""
    found: list[str] = []
    truly, money = Counter[str](), Counter[str]()
    for trade in world.broker.ledger.trades:
        truly[trade.order.tag] += trade.quantity * trade.order.side
        money[trade.order.tag] += trade.quantity * trade.price
    for tag, intent in intents.items():
        wanted = world.people.wanted[intent.order][intent.slice].quantity
        if abs(intent.filled) > abs(wanted) or intent.filled * wanted < 0:
            found.append(f"I4: {intent.order} filled {intent.filled} and wanted {wanted}")
        if intent.filled == truly[tag] and intent.turnover != money[tag]:
            found.append(f"I4: {intent.order} cost {money[tag]} at the broker, {intent.turnover} here")
        part = abs(intent.filled) < abs(truly[tag])  # some of it was not seen, and nothing else
        if intent.filled != truly[tag] and not (part and _nobody_knows(world, intent, intents)):
            found.append(f"I4: {intent.order} filled {truly[tag]} at the broker, {intent.filled} here")
    return found


def _nobody_knows(world: World, intent: Intent, intents: dict[str, Intent]) -> bool:
    """Whether no look at the broker could have told what became of it."""
    trades = [trade for trade in world.broker.ledger.trades if trade.order.tag == intent.tag]
    if trades and all(ist_day(trade.ts) < ist_day(world.now) for trade in trades):
        return True  # the broker has forgotten it at midnight
    if intent.filled or not hidden(world, intent.tag):
        return False
    if intent.tag in world.lied or world.machine.was_wrong:
        return True  # by its time it cannot be told, if the clock was not the broker's
    return any(  # without a tag it may be either of two
        (other.symbol, other.quantity, other.product, other.limit)
        == (intent.symbol, intent.quantity, intent.product, intent.limit)
        and abs(other.sent - intent.sent) < ALIKE
        for other in intents.values()
        if other is not intent
    )


def hidden(world: World, tag: str) -> bool:
    """The book does not show its tag: whose it is, is for a person to say if not just one of ours fits."""
    return all(
        order.shown_tag != tag and tag not in order.tags for order in world.broker.book.orders.values()
    )


def _exits(world: World, intents: dict[str, Intent]) -> list[str]:
    """No exit turns its run's position round; it is excused if it was sent before a trade that nobody could know of
    had been shown: of an order that was said to be gone."""
    found: list[str] = []
    position: dict[tuple[str, str], int] = defaultdict(int)
    ends_unknown: dict[
        tuple[str, str], int
    ] = {}  # until when, by the machine's clock, something was not known
    counted: dict[str, int] = {}
    for _, key, _, _, at in world.machine.store.trades():
        counted[key] = max(at, counted.get(key, 0))
    for trade in world.broker.ledger.trades:
        intent = intents.get(trade.order.tag)
        if intent is None:
            continue
        place = intent.run, intent.symbol
        unforeseen = intent.tag in world.lied or trade.ts >= world.revived.get(intent.tag, trade.ts + 1)
        if unforeseen:
            ends_unknown[place] = max(ends_unknown.get(place, 0), counted.get(intent.key, 1 << 62))
        before, position[place] = position[place], position[place] + trade.quantity * trade.order.side
        crossed = before * position[place] <= 0 and position[place] != 0
        exits = intent.purpose != "open" and not unforeseen
        if exits and crossed and intent.sent > ends_unknown.get(place, 0):
            found.append(f"I12: exit {intent.order} took {place} from {before} to {position[place]}")
    return found


def _ends(world: World, intents: dict[str, Intent]) -> list[str]:
    """After the calm nothing is open but what is lost, and nothing is lost that the book shows. An account that has
    spent the day's calls can end nothing any more."""
    found: list[str] = []
    live = {order.tag for order in world.broker.book.live()}
    at_broker = {order.tag for order in world.broker.book.orders.values()}
    for tag, intent in intents.items():
        if intent.state not in ENDED and intent.state != LOST and world.machine.calls_left() > 0:
            found.append(f"I9: {intent.order} is still {intent.state} ({intent.order_id or 'no order id'})")
        standing = (tag in live and intent.state in ENDED) or (tag in at_broker and intent.state == LOST)
        if standing and not _nobody_knows(world, intent, intents):
            found.append(f"I9: {intent.order} is {intent.state} and at the broker")
    return found


def _rates(world: World) -> list[str]:
    """What nothing held up on its way keeps to the broker's calendar second; a day's and a minute's counts hold over
    all processes of the account."""
    seconds = Counter(sent.arrives // SECOND for sent in world.sent if sent.prompt)
    found = ["I8: more than ten calls in a second"] if max(seconds.values(), default=0) > PER_SECOND else []
    if world.machine.watched:
        minutes = Counter(sent.at // MINUTE for sent in world.sent if sent.prompt)
        days = Counter(ist_day(sent.at) for sent in world.sent)
        if max(minutes.values(), default=0) > CAPS[1][1]:
            found.append(f"I8: {max(minutes.values())} calls in a minute")
        if max(days.values(), default=0) > CALLS_A_DAY:
            found.append(f"I8: {max(days.values())} calls in a day")
    return found


def _secrets(world: World) -> list[str]:
    store = world.machine.store
    said = repr([*store.lines(), *store.reports(0), *store.intents()])
    return ["I10: a token is on record" for token in world.tokens if token in said]


def _foreign(world: World, intents: dict[str, Intent]) -> list[str]:
    found = [
        f"I12: {one.order} took {one.order_id}, which is not ours"
        for one in intents.values()
        if one.order_id in world.people.foreign
    ]
    for order_id in world.people.foreign:
        past = world.broker.book.history.get(order_id, [])
        if any(row["status"] in ("CANCEL PENDING", "MODIFY VALIDATION PENDING") for _, row in past):
            found.append(f"I12: order {order_id} is not ours and was changed")
    true = {order.order_id: order.tag for order in world.broker.book.orders.values()}
    for tag, intent in intents.items():
        if intent.order_id in true and true[intent.order_id] != tag:
            found.append(f"I12: {intent.order} took another order's id")
    return found


def _given_up(world: World) -> list[str]:
    """Nothing is given up before 90 s and three good looks; the end of its day apart."""
    found: list[str] = []
    sent: dict[str, int] = {}
    looks = Counter[str]()
    for key, before, after, cause, at in world.machine.store.lines():
        if (before, after) == (CREATED, SENDING):
            sent[key], looks[key] = at, 0
        looks[key] += cause == "not in the book"
        since = sent[key] = min(sent.get(key, at), at)  # a clock that was set back begins to count anew
        early = at - since < LOST_AFTER or looks[key] < LOST_READS
        if before != LOST == after and ist_day(at) == ist_day(since) and early:
            found.append(f"I5: {key} was given up after {(at - since) / SECOND:.0f} s, {looks[key]} looks")
    return found

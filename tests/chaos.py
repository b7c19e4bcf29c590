"""A strategy that does anything at any time, the same way each time, and tapes to let it loose on."""

from __future__ import annotations

import random
from typing import Any

import alphapanda as ap
from alphapanda.events import Bar, Fill, Tick
from alphapanda.orders import Order
from alphapanda.tapes.tape import Tape
from tests.build import equity, tape_of

NAMES = ("INFY", "TCS", "RELIANCE")
DAYS = ("2026-11-20", "2026-11-23")


def random_tape(
    seed: int,
    rows: int = 200,
    *,
    names: tuple[str, ...] = NAMES,
    quotes: bool = False,
    volume: bool = True,
    days: int = 1,
) -> Tape:
    """Random walks of a few shares, bunched in time: equal instants, gaps of minutes, one share that goes silent."""
    draw = random.Random(f"tape {seed}")
    price = {name: draw.randrange(80, 300) * 100 for name in names}
    made: list[Any] = []
    for day in DAYS[:days]:
        at = draw.choice((0.0, 0.0, 3.0, 400.0, -300.0))  # after 09:15
        silent = draw.choice((*names, "")), draw.randrange(rows)
        for n in range(rows // days):
            at += draw.choice((0.0, 0.001, 0.25, 1.0, 1.0, 7.0, 31.0, draw.choice((60.0, 900.0))))
            if at >= 6.6 * 3600:
                break
            name = draw.choice(names)
            if (name, n) > silent and name == silent[0]:
                continue
            price[name] = max(20, price[name] + 5 * draw.randrange(-6, 7))
            unit = price[name] / 100
            minutes, rest = divmod(round((at + 9.25 * 3600) * 1000), 60_000)
            row: list[Any] = [f"{day} {minutes // 60:02}:{minutes % 60:02}:{rest / 1000:06.3f}", name, unit]
            row.append(draw.choice((0, 1, 3, 20, 500)) if volume else None)
            if quotes:
                row += [unit - 0.05, unit + 0.05 * draw.randrange(3), draw.randrange(50), draw.randrange(50)]
            made.append(row)
    if not volume and not quotes:
        made = [row[:3] for row in made]
    return tape_of(made or [("09:15:01", names[0], 100.0)], *(equity(name) for name in names))


class Chaos(ap.Strategy):
    """Orders of every kind from every callback, drawn from its own seed: causal, so any lane must agree."""

    bar = "1m"
    seed: int = ap.Param(0)

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.draw = random.Random(self.seed)
        self.depth = 0
        self.lines: list[tuple[Any, ...]] = []

    def on_start(self) -> None:
        self.every("3m", "three")
        self.at("09:15", "open")
        self.at("close-40m", self.late)

    def on_tick(self, tick: Tick) -> None:
        if self.draw.random() < 0.35:
            self.act(tick.symbol)

    def on_bar(self, bar: Bar) -> None:
        self.lines.append(
            (bar.symbol, bar.start, bar.ts, bar.open, bar.high, bar.low, bar.close, bar.volume, bar.minute)
        )
        if self.draw.random() < 0.3:
            self.act(bar.symbol)

    def on_timer(self, name: str) -> None:
        self.lines.append((name, str(self.now), self.cash, self.equity))
        self.act(self.draw.choice(NAMES))

    def late(self) -> None:
        """A timer with a function."""
        self.close_all()

    def on_fill(self, fill: Fill) -> None:
        self.lines.append((fill.id, str(self.now), self.position(fill.symbol).quantity, self.equity))
        if self.draw.random() < 0.25:
            self.act(fill.symbol)

    def on_order(self, order: Order) -> None:
        self.lines.append((order.id, order.status, order.filled, order.reason))
        if self.draw.random() < 0.1:
            self.act(order.symbol)

    def act(self, symbol: str) -> None:
        """One random decision; at most two deep, an order's own news may cause the next."""
        if self.depth > 1:
            return
        self.depth += 1
        try:
            self.decide(symbol)
        finally:
            self.depth -= 1

    def decide(self, symbol: str) -> None:
        """Draw first, look second: the draws do not depend on what it sees."""
        draw = self.draw
        what, other, steps, size = (
            draw.randrange(16),
            draw.choice(NAMES),
            draw.randrange(-8, 9),
            draw.randrange(1, 30),
        )
        last = self.last_price(symbol)
        if what == 0:
            self.cancel_all(symbol)
        elif what == 1:
            self.close_all()
        elif what == 2 and self.open_orders():
            self.cancel(self.open_orders()[0])
        elif what == 3:
            self.order_target(symbol, draw.choice((-20, 0, 0, 15)))
        elif what == 4 and last:
            self.order_target_percent(symbol, draw.choice((-0.01, 0.0, 0.02)))
        elif what == 5:
            self.cancel_all(other)
            self.close_all()
        elif last:
            self.send(symbol, what, size, last, steps)

    def send(self, symbol: str, what: int, size: int, last: float, steps: int) -> None:
        """An order of some kind; prices on the grid, near the last."""
        draw = self.draw
        buy = draw.random() < 0.5
        go, sign = (self.buy, 1) if buy else (self.sell, -1)
        near = self.round_price(symbol, max(1.0, last + steps * 0.05))
        far = self.round_price(symbol, max(1.0, last + sign * (abs(steps) + 1) * 0.05))
        options: dict[str, Any] = {}
        if what in (6, 7):
            options = {"limit": near}
        elif what == 8:
            options = {"stop": far}
        elif what == 9:
            options = {"stop": far, "limit": self.round_price(symbol, max(1.0, far + sign * 0.1))}
        elif what in (10, 11, 12):
            wide = 0.05 * draw.randrange(2, 12)
            base = near if what == 12 else last
            options = {
                "sl": self.round_price(symbol, max(0.5, base - sign * wide)),
                "tp": self.round_price(symbol, max(0.5, base + sign * wide)),
            }
            if what == 12:
                options["limit"] = near
            if draw.random() < 0.3:
                del options[draw.choice(("sl", "tp"))]
        elif what == 13:
            options = {"validity": "IOC", "limit": near}
        elif what == 14:
            options = {"validity": "TTL", "ttl": draw.choice(("300ms", "20s", "4m")), "limit": near}
        go(symbol, size, tag=f"k{what}", **options)

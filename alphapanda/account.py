"""What every strategy of one account shares: the limits, the net positions they are measured on, and the halt.

Research has one desk on one account. A gateway has a desk for each run, each at its own point of the tape, all on the
account of their namespace; so a limit holds for all notebooks together. Single-threaded: a check and what follows from
it cannot interleave with another run's.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from alphapanda.events import Signal
from alphapanda.risk import Limits, rules

if TYPE_CHECKING:
    from alphapanda.desk import Desk


class Account:
    """Net and working quantities by instrument, the day's counters, and money at the last marks (paise)."""

    def __init__(self, count: int, limits: Limits) -> None:
        self.limits = limits
        self.rules = rules(limits)
        self.desks: list[Desk] = []
        self.shared = False  # more than one desk trades on it
        self.halted = ""
        self.reduces = ""  # why only orders pass that shrink the account's position
        self.net = [0] * count
        self.buying = [0] * count  # working, not yet filled; exits of brackets are not counted
        self.selling = [0] * count
        self.latest: dict[
            tuple[str, int, bool], Signal
        ] = {}  # last accepted, by strategy, instrument and side
        self.day = dt.date.min
        self.orders_today = 0
        self.equity = self.equity_at_open = self.equity_peak = 0  # sums over the desks
        self.gross = 0  # sum of absolute position values at the last mark, and what filled since

    def join(self, desk: Desk, capital: int) -> None:
        """A desk begins to trade on this account with ``capital`` of its own."""
        self.desks.append(desk)
        self.shared = len(self.desks) > 1
        self.equity += capital
        self.equity_at_open += capital
        self.equity_peak += capital

    def open_day(self, day: dt.date) -> None:
        """Some desk has reached ``day``: the counters start again with the first one that does, and what the others
        earned until their last mark is no longer of today."""
        if day > self.day:
            self.day, self.orders_today = day, 0
            for desk in self.desks:
                desk.begin_day(desk.equity)

    def halt(self, reason: str) -> None:
        """No new orders of anyone from now on; "" lifts it."""
        self.halted = reason
        for desk in self.desks:
            desk.ask_standing()

    def widen(self, count: int) -> None:
        """There are ``count`` instruments now."""
        for column in (self.net, self.buying, self.selling):
            column.extend([0] * (count - len(column)))

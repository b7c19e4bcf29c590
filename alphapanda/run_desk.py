"""The desk of one run at a gateway: its pause and its own limits, beside the account's.

The account's rules are measured on everything the namespace holds; those here on what this run holds alone: its own
net, its own working orders, its own loss and rate. Both are asked, so whichever is tighter says no, and a reason that
ends in ``(limit of this run)`` says whose it was. Research has plain desks and pays for none of it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from typing import Any, cast

import msgspec

from alphapanda.account import Account
from alphapanda.desk import Desk, Listener
from alphapanda.errors import ConfigurationError, ValidationError
from alphapanda.exchange import UNLIMITED, Venue
from alphapanda.instruments import Instrument
from alphapanda.orders import DENIED, Order
from alphapanda.portfolio import worth
from alphapanda.risk import (
    Check,
    Limits,
    limits_on_growth,
    limits_on_orders,
    limits_on_rates,
    price_band,
    self_cross,
)
from alphapanda.rulebook import Rulebook

OF_THE_RUN = "(limit of this run)"
STRICTER_WHEN_LARGER = ("duplicate_seconds", "self_cross")  # of all other limits the smaller is the stricter
# what holds where a limit was not set for the run: nothing
ABSENT: dict[str, Any] = dict.fromkeys(Limits.__struct_fields__) | {
    "self_cross": False,
    "order_slices": UNLIMITED,
}


def own_limits(given: dict[str, Any] | None) -> Limits | None:
    """Limits of a run alone, where only the named ones hold; None for none. ConfigurationError (E_LIMIT) for what is no
    limit."""
    if not given:
        return None
    if unknown := sorted(given.keys() - set(Limits.__struct_fields__)):
        known = ", ".join(Limits.__struct_fields__)
        raise ConfigurationError(
            f"there is no limit {unknown[0]!r}", fix=f"use one of {known}", code="E_LIMIT"
        )
    named = ABSENT | given
    if isinstance(listed := named["instruments"], list):
        named["instruments"] = tuple(cast("list[str]", listed))
    return Limits(**named)


def refuse_looser(given: dict[str, Any] | None, account: Limits) -> None:
    """ValidationError (E_LIMIT) names a limit that allows more than the account's: it would never be heard of, and who
    set it believes otherwise."""
    own = own_limits(given)
    for name in given or ():
        mine, theirs = getattr(own, name), getattr(account, name)
        if theirs is None or theirs is False:
            continue
        if mine is None:
            looser = True
        elif name == "instruments":
            looser = not set(mine) <= set(theirs)
        else:
            looser = mine < theirs if name in STRICTER_WHEN_LARGER else mine > theirs
        if looser:
            raise ValidationError(
                f"limit {name} = {mine!r} of the run is looser than {theirs!r}, the account's",
                fix=f"make {name} stricter, or leave it out: the account's holds anyway",
                code="E_LIMIT",
                limit=name,
            )


class RunDesk(Desk):
    """A desk with one owner. ``paused`` is why no order may grow its position, "" while they may."""

    def __init__(
        self,
        instruments: tuple[Instrument, ...],
        name: str,
        capital: int,
        rulebook: Rulebook,
        account: Account,
        venue: Callable[[Desk], Venue],
        listener: Listener,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(instruments, (name,), capital, rulebook, account, venue, listener)
        self.paused = ""
        self.own = Own(self, limits, capital)
        self._rules = msgspec.structs.replace(
            account.rules,
            # asked of every order: what shrinks the account's position may grow the run's
            sized=(self.own.refusal, *account.rules.sized),
            # its own rates first: what they refuse uses up nothing of the account's
            rates=(*self.own.rates, *account.rules.rates),
        )

    def submit(self, order: Order) -> None:
        """See ``Desk.submit``."""
        super().submit(order)
        if order.status != DENIED:
            self.own.account.orders_today += 1

    def open_day(self, day: dt.date, last: list[int]) -> None:
        """See ``Desk.open_day``."""
        super().open_day(day, last)
        self.own.account.open_day(day)

    def mark(self, last: list[int]) -> int:
        """See ``Desk.mark``."""
        equity = super().mark(last)
        self.own.account.equity_peak = max(self.own.account.equity_peak, equity)
        return equity


class Own:
    """What a run alone holds, as the rules see a desk: they ask it for the names below, and no others."""

    def __init__(self, desk: RunDesk, limits: Limits | None, capital: int) -> None:
        self._desk, self._limits = desk, limits
        self.listener = desk.listener
        self.account = Account(0, limits or Limits())
        self.account.join(desk, capital)
        self.account.latest = desk.account.latest  # by strategy, so it is the run's own already
        self.position_after = self.notional = 0
        self.reducing = False
        self._always: list[Check] = []
        self._growing: list[Check] = []
        self.rates: list[Check] = []
        if limits is not None:
            self._always = limits_on_orders(limits)
            self._always += [price_band(limits.price_band)] if limits.price_band is not None else []
            self._always += [self_cross] if limits.self_cross else []
            self._growing = limits_on_growth(limits)
            self.rates = [self._measured(check) for check in limits_on_rates(limits)]

    def refusal(self, order: Order, _: Desk) -> str | None:
        """Why the run's pause or limits refuse an order."""
        desk, limits = self._desk, self._limits
        if limits is None and not desk.paused:
            return None
        self._weigh(order)
        if desk.paused and not self.reducing:
            return f"paused: {desk.paused}"
        if limits is None:
            return None
        found = self._slices(order, limits) or self._first(self._always, order)
        if not found and not self.reducing:
            found = self._listed(order, limits) or self._first(self._growing, order)
        return f"{found} {OF_THE_RUN}" if found else None

    def _weigh(self, order: Order) -> None:
        """Measure an order on what the run holds now."""
        desk, account, index, quantity = self._desk, self.account, order.index, order.target
        held = desk.net[index]
        working = sum(
            one.target - one.filled
            for one in desk.exchange.working.get(order.signal.symbol, ())
            if not one.leg and (one.target > 0) == (quantity > 0)
        )
        self.position_after = after = held + working + quantity
        self.reducing = 0 <= after < held if quantity < 0 else held < after <= 0
        self.notional = desk.notional
        account.equity, account.equity_at_open = desk.equity, desk.equity_at_open
        last = desk.listener.last_prices()
        account.gross = sum(abs(worth(desk.instruments[i], q, last[i])) for i, q in enumerate(desk.net) if q)

    def _first(self, checks: Iterable[Check], order: Order) -> str | None:
        return next((reason for check in checks if (reason := check(order, cast("Desk", self)))), None)

    def _measured(self, check: Check) -> Check:
        def asked(order: Order, _: Desk) -> str | None:
            reason = check(order, cast("Desk", self))
            return f"{reason} {OF_THE_RUN}" if reason else None

        return asked

    def _slices(self, order: Order, limits: Limits) -> str | None:
        most, slices = self._desk.freeze[order.index], self._desk.account.limits.order_slices
        if most is None or order.quantity <= most // slices * limits.order_slices:
            return None
        return (
            f"freeze: {order.quantity} > {most // slices * limits.order_slices}, the most one order may hold"
        )

    def _listed(self, order: Order, limits: Limits) -> str | None:
        if limits.instruments is None or order.signal.symbol in limits.instruments:
            return None
        return f"instrument: {order.signal.symbol} is not among the allowed instruments"

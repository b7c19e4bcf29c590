"""The orders and fills of one namespace, folded from its topics, and the whole of it as a ``Lane``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from alphapanda.events import SECOND, EventEnvelope, ist_day
from alphapanda.letters.replay import is_replayed
from alphapanda.orders import DENIED, FILLED, PART
from alphapanda.overview.snapshot import Halt, Lane, LaneFill, LaneOrder, LanePosition, LimitUse, Today
from alphapanda.overview.view import SHARED, View
from alphapanda.settings import RiskSettings

TOPICS = (
    "signals.validated", "signals.rejected", "orders.submitted", "orders.acknowledged", "orders.filled",
    "orders.cancelled", "orders.rejected", "orders.failed", "pnl.snapshots",
)  # fmt: skip
ORDERS_MAX, FILLS_MAX, POINTS = 500, 500, 1_000  # that are shown
CURVE_NS = 5 * SECOND  # between two points of the curve that we draw ourselves


class LaneBook:
    """What the topics of one namespace have said so far. ``offsets`` is where each was read to."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.offsets: dict[str, str] = {f"{namespace}.{name}": "0" for name in TOPICS}
        self.signals = self.denied = 0
        self._orders: dict[str, LaneOrder] = {}
        self._fills: dict[str, LaneFill] = {}
        self._curve: list[tuple[int, int]] = []
        self._shown: tuple[tuple[LaneOrder, ...], tuple[LaneFill, ...]] | None = None  # newest first

    def take(self, event: EventEnvelope) -> None:
        """One event of a topic; those that were heard before, or that a person put back for others, change nothing."""
        if is_replayed(event):
            return
        if event.type == "pnl.snapshots":
            self._draw(event.ts, int(event.data["today"]["net"]), 1)
            return
        if event.type == "orders.filled":
            self._fill(event)
            return
        if event.type in ("signals.validated", "signals.rejected"):
            self.signals += 1
            self.denied += event.type == "signals.rejected"
        known = self._orders.get(event.data["order"])
        if known is None or known.status not in (FILLED, DENIED):
            filled, average = (known.filled, known.average) if known else (0, 0.0)
            status, reason = str(event.data.get("status", "")), str(event.data.get("reason") or "")
            self._put(_order(event, status, reason, filled, average))

    def _draw(self, ts: int, net: int, apart: int) -> None:
        """One more point of the day's curve if it is ``apart`` from the last; every other one goes when there are
        many."""
        if self._curve and ist_day(ts) > ist_day(self._curve[-1][0]):
            self._curve.clear()
        if ts and (not self._curve or ts >= self._curve[-1][0] + apart):
            self._curve.append((ts, net))
            if len(self._curve) > POINTS:
                self._curve[:-1] = self._curve[:-1:2]

    def _fill(self, event: EventEnvelope) -> None:
        data: dict[str, Any] = event.data
        if event.id in self._fills:
            return
        symbol, quantity = data["symbol"], abs(int(data["quantity"]))
        price = data["price_units"] / data["price_scale"]
        self._fills[event.id] = LaneFill(
            data["order"], event.key, data["strategy"], symbol, data["side"], quantity, price, event.ts,
            sum(data["charges"]), int(data["realized"]),
        )  # fmt: skip
        while len(self._fills) > FILLS_MAX:
            del self._fills[next(iter(self._fills))]
        known = self._orders.get(data["order"])
        before, average = (known.filled, known.average) if known else (0, 0.0)
        filled = before + quantity
        average = (average * before + price * quantity) / filled
        status = FILLED if filled >= abs(int(data["ordered"])) else PART
        self._put(_order(event, status, "", filled, average))

    def _put(self, order: LaneOrder) -> None:
        known = self._orders.pop(order.id, None)  # the newest change is the last
        if known is not None:
            order = msgspec.structs.replace(order, ts=known.ts)
        self._orders[order.id] = order
        self._shown = None
        while len(self._orders) > ORDERS_MAX:
            del self._orders[next(iter(self._orders))]

    def lane(
        self,
        portfolio: Mapping[str, Any],
        gateway: dict[str, Any],
        halt: Halt | None,
        runs: Iterable[View],
        risk: RiskSettings,
    ) -> Lane:
        """The namespace as it stands, with what its gateway showed last."""
        names: dict[str, str] = {view.run: view.name for view in runs}
        money = {
            name: int(portfolio.get(name, 0))
            for name in ("capital", "equity", "net", "realized", "unrealized", "charges", "gross")
        }
        held = tuple(
            LanePosition(
                run=str(one["run"]), strategy=names.get(one["run"], str(one["run"])),
                **{name: one[name] for name in LanePosition.__struct_fields__[2:]},
            )
            for one in portfolio.get("positions", ())
        )  # fmt: skip
        # the gross of the last mark, less what was closed since at other prices
        money["gross"] = max(0, money["gross"])
        today = msgspec.convert(portfolio.get("today", {}), Today)
        now = int(portfolio.get("tape_ts", 0))
        self._draw(now, today.net, CURVE_NS)
        newest = [(now, today.net)] if self._curve and now > self._curve[-1][0] else []
        orders_today = int(portfolio.get("orders_today", 0))
        if self._shown is None:
            self._shown = (
                tuple(sorted(self._orders.values(), key=lambda order: -order.ts)),
                tuple(sorted(self._fills.values(), key=lambda fill: -fill.ts)),
            )
        orders, fills = self._shown
        return Lane(
            self.namespace, self.namespace != SHARED, halt, gateway, int(portfolio.get("updated", 0)), now,
            **money, today=today, orders_today=orders_today, signals=self.signals, denied=self.denied,
            positions=held, orders=orders, fills=fills, curve=(*self._curve, *newest),
            limits=_limits(today, money["gross"], held, orders_today, risk),
        )  # fmt: skip


def _order(event: EventEnvelope, status: str, reason: str, filled: int, average: float) -> LaneOrder:
    data: dict[str, Any] = event.data
    quantity = abs(int(data.get("ordered", data["quantity"])))
    limit, stop = (
        None if data[name] is None else data[name] / data["price_scale"] for name in ("limit", "stop")
    )
    return LaneOrder(
        data["order"], event.key, data["strategy"], data["symbol"], data["side"], quantity, filled, data["kind"],
        limit, stop, average, status, reason, data["leg"] or "", data["tag"] or "", event.ts, event.correlation_id,
    )  # fmt: skip


def _limits(
    today: Today, gross: int, held: Iterable[LanePosition], orders_today: int, risk: RiskSettings
) -> tuple[LimitUse, ...]:
    """How far the namespace is from what its gateway denies."""
    largest = max((abs(one.quantity) * one.last for one in held), default=0.0)
    return (
        LimitUse("daily loss", max(0.0, -today.net / 100), risk.max_daily_loss, "rupees"),
        LimitUse("gross exposure", gross / 100, risk.max_gross_exposure, "rupees"),
        LimitUse("largest position", largest, risk.max_position_notional, "rupees"),
        LimitUse("orders today", orders_today, risk.orders_per_day, "orders"),
    )

"""What people and dashboards see of a namespace: order events on the topics, documents in Redis.

All of it is made from the lanes and can be made again at any time; nothing here is the truth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alphapanda.buses.base import encode
from alphapanda.buses.redis import RedisBus
from alphapanda.clock import wall_ns
from alphapanda.desk import Desk
from alphapanda.events import SECOND, EventEnvelope, Topics
from alphapanda.lane import Lane
from alphapanda.orders import CANCELLED, DENIED, EXPIRED, OPEN, REJECTED, SENT, Order
from alphapanda.portfolio import Position, worth
from alphapanda.requests import FillUpdate, OrderUpdate, Reply, Request
from alphapanda.state.managers import KeyValueStateManager
from alphapanda.state.portfolio_cache import PortfolioCache
from alphapanda.state.risk_state import RecentPrice, RiskStateManager

if TYPE_CHECKING:
    from alphapanda.gateway import Gateway, Hosted

RECENT = 12  # orders in a run's document
SNAPSHOTS = 2_000  # of the portfolio that the topic keeps
POINTS = 120  # of its profit curve
EVENT_OF = {
    SENT: "orders.submitted",
    OPEN: "orders.acknowledged",
    CANCELLED: "orders.cancelled",
    EXPIRED: "orders.cancelled",
    REJECTED: "orders.rejected",
}


def order_events(
    cause: EventEnvelope, namespace: str, lane: Lane, reply: Reply, request: Request
) -> list[tuple[str, EventEnvelope]]:
    """What a reply means to everybody else, as events by topic; each names what caused it, back to the tick."""
    events: list[tuple[str, EventEnvelope]] = []

    def add(name: str, identity: str, ts: int, parent: str, data: dict[str, Any]) -> None:
        event = EventEnvelope(
            id=identity, type=name, ts=ts, source="gateway", namespace=namespace, key=request.run,
            correlation_id=_tick(data["signal"]), trace_id=cause.trace_id, causation_id=parent, data=data,
        )  # fmt: skip
        events.append((Topics.of(namespace, name), event))

    for update in reply.updates:
        if isinstance(update, OrderUpdate):
            order = lane.order(update.id)
            if order is None:
                continue
            signal = f"signal:{order.signal.id}"
            data = order_data(order) | {
                "status": update.status,
                "reason": update.reason,
                "filled": update.filled,
            }
            if update.status == DENIED:
                add("signals.rejected", f"denied:{update.id}", order.signal.ts, signal, data)
            elif update.status == SENT and not update.told and not update.leg:
                add("signals.validated", f"validated:{update.id}", order.signal.ts, signal, data)
                add(
                    "orders.submitted",
                    f"order:{update.id}:sent",
                    order.signal.ts,
                    f"validated:{update.id}",
                    data,
                )
            elif update.told and (name := EVENT_OF.get(update.status)):
                add(
                    name, f"order:{update.id}:{update.status}", update.end_ts or order.signal.ts, signal, data
                )
        elif isinstance(update, FillUpdate) and (order := lane.order(update.order_id)) is not None:
            data = order_data(order) | {
                "quantity": update.quantity, "price_units": update.price_units, "charges": update.charges,
                "realized": update.realized, "position": update.position, "seq": update.seq,
                "ordered": order.target,
            }  # fmt: skip
            identity = f"fill:{update.order_id}.{update.number}"
            add("orders.filled", identity, update.ts, f"order:{update.order_id}:sent", data)
    return events


def _tick(signal: str) -> str:
    """The id of the tick that a signal's lineage begins with."""
    return "tick:" + signal.split(":")[1]


def order_data(order: Order) -> dict[str, Any]:
    """An order as plain values."""
    signal = order.signal
    return {
        "order": order.id, "signal": signal.id, "strategy": signal.strategy, "symbol": signal.symbol,
        "side": order.side, "quantity": order.target, "kind": order.kind, "product": signal.product,
        "limit": signal.limit, "stop": signal.stop, "tag": signal.tag, "leg": order.leg, "parent": order.parent_id,
        "price_scale": order.instrument.price_scale,
    }  # fmt: skip


class Views:
    """Writes a namespace's documents: each run's, the portfolio's, the risk books'."""

    def __init__(self, bus: RedisBus, namespace: str, portfolio_id: str) -> None:
        self._runs = KeyValueStateManager(bus.client, namespace, "run")
        self._portfolio = PortfolioCache(bus.client, namespace)
        self._risk = RiskStateManager(bus.client, namespace)
        self._portfolio_id = portfolio_id
        self._bus = bus
        self._held: set[str] = set()  # positions in the risk books
        self._published = 0  # tape time of the last snapshot
        self._curves: dict[str, list[tuple[int, int]]] = {}

    async def show(self, gateway: Gateway) -> None:
        """Write everything anew: what a flushed server has lost is there again a moment later."""
        documents = {run: self._document(hosted) for run, hosted in gateway.runs.items()}
        if documents:
            await self._runs.set_all(documents)
        whole = portfolio(gateway, documents)
        await self._portfolio.put(self._portfolio_id, whole)
        await self._show_risk(gateway, documents)
        await self._publish(gateway, whole)

    def _document(self, hosted: Hosted) -> dict[str, Any]:
        spec, lane = hosted.spec, hosted.lane
        engine, book = lane.engine, lane.desk.books[0]
        last = engine.last_prices()
        indexed = [(index, p) for index, positions in book.positions.items() for p in positions]
        net = book.equity(last) - book.capital
        realized, charges = lane.desk.booked()
        place, result = lane.place, engine.result
        orders = lane.desk.orders
        return {
            "run": spec.run, "namespace": spec.namespace, "strategy": spec.name, "parameters": spec.parameters,
            "digest": spec.digest, "symbols": spec.symbols, "updated": wall_ns(), "tape_ts": place.ts,
            "state": hosted.state, "reason": lane.halt or lane.paused, "limits": spec.limits,
            "seq": place.through, "capital": book.capital, "equity": net + book.capital, "net": net,
            "realized": realized, "unrealized": net - realized + charges, "charges": charges,
            "today": _today(lane.desk, net + book.capital, realized, charges),
            "positions": [_position(p, last[index]) for index, p in indexed if p.quantity],
            "orders": [_recent(order) for order in orders[-RECENT:][::-1]],
            "counts": {
                "ticks": engine.ticks_seen, "signals": sum(not o.leg for o in orders), "orders": len(orders),
                "fills": len(lane.desk.fills), "denials": sum(o.status == DENIED for o in orders),
                "cancels": len(result.cancels),
            },
            "curve": self._curve(spec.run, place.ts, net),
        }  # fmt: skip

    def _curve(self, run: str, ts: int, net: int) -> list[tuple[int, int]]:
        """Profit over time, thinned to every other point whenever it gets long."""
        curve = self._curves.setdefault(run, [])
        if not curve or ts > curve[-1][0]:
            curve.append((ts, net))
        if len(curve) > POINTS:
            curve[:-1] = curve[:-1:2]
        return curve

    async def _show_risk(self, gateway: Gateway, documents: dict[str, dict[str, Any]]) -> None:
        prices: dict[str, RecentPrice] = {}
        held: set[str] = set()
        for run, document in documents.items():
            for position in document["positions"]:
                if position["last"] > 0:
                    prices[position["symbol"]] = RecentPrice(position["last"], document["tape_ts"])
                held.add(identifier := f"{run}:{position['symbol']}:{position['product']}")
                await self._risk.put_position(identifier, position)
        if gone := self._held - held:
            await self._risk.remove_positions(*gone)
        self._held = held
        if prices:
            await self._risk.set_prices(prices)
        account = gateway.account
        if account.orders_today:
            counted = await self._risk.counted("orders", account.day)
            await self._risk.count("orders", account.day, account.orders_today - counted)

    async def _publish(self, gateway: Gateway, document: dict[str, Any]) -> None:
        """The portfolio as an event, once for each ``snapshot_seconds`` of tape time."""
        ts, every = document["tape_ts"], gateway.settings.portfolio_manager.snapshot_seconds * SECOND
        if ts - self._published < every:
            return
        self._published = ts
        identity = f"pnl:{self._portfolio_id}:{ts}"
        event = EventEnvelope(
            id=identity, type="pnl.snapshots", ts=ts, source="gateway", namespace=gateway.namespace,
            key=self._portfolio_id, correlation_id=identity, trace_id=identity, data=document,
        )  # fmt: skip
        await self._bus.publish(Topics.of(gateway.namespace, "pnl.snapshots"), encode(event), bound=SNAPSHOTS)


def portfolio(gateway: Gateway, documents: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The namespace as one document: money summed over its runs, and who holds what."""
    rows = list(documents.values())
    account = gateway.account
    return {
        "namespace": gateway.namespace, "updated": wall_ns(), "halted": account.halted,
        "tape_ts": max((row["tape_ts"] for row in rows), default=0), "orders_today": account.orders_today,
        "gross": account.gross, "runs": list(documents),
        **{name: sum(row[name] for row in rows) for name in
           ("capital", "equity", "net", "realized", "unrealized", "charges")},
        "today": {name: sum(row["today"][name] for row in rows) for name in ("net", "realized", "charges")},
        "positions": [position | {"run": row["run"]} for row in rows for position in row["positions"]],
    }  # fmt: skip


def _today(desk: Desk, equity: int, realized: int, charges: int) -> dict[str, int]:
    """What a run has earned on its account's day; nothing if it has not traded on it."""
    if desk.day != desk.account.day:
        return {"net": 0, "realized": 0, "charges": 0}
    return {
        "net": equity - desk.equity_at_open,
        "realized": realized - desk.realized_at_open,
        "charges": charges - desk.charges_at_open,
    }


def _position(position: Position, price: int) -> dict[str, Any]:
    instrument = position.instrument
    return {
        "symbol": instrument.symbol, "product": position.product, "quantity": position.quantity,
        "average": position.average_price, "last": instrument.rupees(price),
        "unrealized": worth(instrument, position.quantity, price) - position.cost,
    }  # fmt: skip


def _recent(order: Order) -> dict[str, Any]:
    return {
        "id": order.id, "symbol": order.symbol, "side": order.side, "quantity": order.quantity,
        "filled": abs(order.filled), "kind": order.kind, "limit": order.limit, "average": order.average_price,
        "status": order.status, "reason": order.reason, "leg": order.leg, "ts": order.signal.ts,
    }  # fmt: skip

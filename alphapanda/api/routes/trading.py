"""Money, positions, orders, fills and signals, of all namespaces."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec
from starlette.responses import Response

from alphapanda.api.documents import Routes, answer
from alphapanda.api.platform import One, Page, Platform
from alphapanda.api.routes.wanted import After, Limit, Namespace, OfNamespace, OfRun, OfStatus, OfSymbol
from alphapanda.api.signals import Signal, Signals
from alphapanda.errors import UnknownNameError
from alphapanda.overview import Halt, Lane, LaneFill, LaneOrder, LanePosition, LimitUse, Today

TS = 1_795_146_300_000_000_000


class Portfolio(msgspec.Struct, frozen=True, kw_only=True):
    """One namespace's money in paise. ``live``: real money may be behind it. ``halt``: its kill switch, if pulled.
    ``net`` to ``charges`` are sums over its runs from their first day on, ``today`` is of the newest day alone."""

    namespace: str
    live: bool
    halt: Halt | None
    updated: int
    tape_ts: int
    capital: int
    equity: int
    net: int
    realized: int
    unrealized: int
    charges: int
    gross: int
    today: Today
    orders_today: int
    positions: int


class Account(msgspec.Struct, frozen=True):
    """A portfolio with its limits and today's curve: tape time and net in paise."""

    portfolio: Portfolio
    limits: tuple[LimitUse, ...]
    curve: tuple[tuple[int, int], ...]


class Position(LanePosition, frozen=True, kw_only=True):
    """An open position of a run."""

    namespace: str


class Order(LaneOrder, frozen=True, kw_only=True):
    """An order and what became of it."""

    namespace: str


class Fill(LaneFill, frozen=True, kw_only=True):
    """A part of an order that was executed."""

    namespace: str


Row = TypeVar("Row", Position, Order, Fill)
Stamped = TypeVar("Stamped", Order, Fill, Signal)

PORTFOLIO = Portfolio(
    namespace="paper", live=False, halt=None, updated=TS, tape_ts=TS, capital=100_000_000, equity=100_184_500,
    net=184_500, realized=210_000, unrealized=-12_300, charges=13_200, gross=15_230_000,
    today=Today(net=-120_000, realized=-94_500, charges=13_200), orders_today=4, positions=1,
)  # fmt: skip
ACCOUNT = Account(PORTFOLIO, (LimitUse("daily loss", 1200.0, 50_000.0, "rupees"),), ((TS, -120_000),))
POSITION = Position(
    "openingbreakout-1",
    "OpeningBreakout",
    "NSE:INFY",
    "MIS",
    100,
    1523.0,
    1521.75,
    -12_500,
    namespace="paper",
)
ORDER = Order(
    "OpeningBreakout:4711:0", "openingbreakout-1", "OpeningBreakout", "NSE:INFY", "BUY", 100, 100, average=1523.0,
    status="filled", ts=TS, correlation_id="OpeningBreakout:4711:0", namespace="paper",
)  # fmt: skip
FILL = Fill(
    "OpeningBreakout:4711:0", "openingbreakout-1", "OpeningBreakout", "NSE:INFY", "BUY", 100, 1523.0, TS, 3_300, 0,
    namespace="paper",
)  # fmt: skip
SIGNAL = Signal(
    "validated:OpeningBreakout:4711:0", "paper", "openingbreakout-1", "OpeningBreakout", "NSE:INFY", "BUY", 100,
    "validated", ts=TS, order="OpeningBreakout:4711:0", correlation_id="OpeningBreakout:4711:0",
)  # fmt: skip


class _Rows:
    """Rows of all lanes, made anew when something has changed."""

    def __init__(self, platform: Platform) -> None:
        self._platform, self._kept = platform, dict[str, tuple[int, tuple[Any, ...]]]()

    def of(self, name: str, kind: type[Row]) -> tuple[Row, ...]:
        """``positions``, ``orders`` or ``fills``, each with its namespace."""
        seen = self._platform.newest
        number, rows = self._kept.get(name, (-1, ()))
        if number != seen.number:
            made: list[Any] = [
                kind(namespace=lane.name, **msgspec.structs.asdict(one))
                for lane in seen.lanes.values()
                for one in getattr(lane, name)
            ]
            if kind is not Position:
                made.sort(key=place_of, reverse=True)
            rows = tuple(made)
            self._kept[name] = seen.number, rows
        return rows


def add(routes: Routes, platform: Platform) -> None:
    """Portfolios, positions, orders, fills, signals."""
    rows, signals = _Rows(platform), Signals(platform.bus)

    @routes.get(
        "/v1/portfolios",
        role="view",
        tag="trading",
        answers=Page[Portfolio],
        example=Page(TS, False, (PORTFOLIO,)),
    )
    async def portfolios() -> Response:  # pyright: ignore[reportUnusedFunction]
        """The money of every namespace."""
        return platform.told(
            "portfolios", lambda: platform.page(tuple(map(_portfolio, platform.newest.lanes.values())))
        )

    @routes.get(
        "/v1/portfolios/{namespace}", role="view", tag="trading", answers=One[Account], missing=True,
        example=One(TS, False, ACCOUNT),
    )  # fmt: skip
    async def portfolio(namespace: Namespace) -> Response:  # pyright: ignore[reportUnusedFunction]
        """One namespace's money, limits and curve."""
        lanes = platform.newest.lanes
        if (lane := lanes.get(namespace)) is None:
            raise UnknownNameError("namespace", namespace, lanes)
        return answer(platform.one(Account(_portfolio(lane), lane.limits, lane.curve)))

    @routes.get(
        "/v1/positions",
        role="view",
        tag="trading",
        answers=Page[Position],
        example=Page(TS, False, (POSITION,)),
    )
    async def positions(  # pyright: ignore[reportUnusedFunction]
        namespace: OfNamespace = None, run: OfRun = None, symbol: OfSymbol = None
    ) -> Response:
        """What is held."""

        def found() -> Page[Position]:
            held = rows.of("positions", Position)
            return platform.page(tuple(chosen(held, namespace=namespace, run=run, symbol=symbol)))

        return platform.told(("positions", namespace, run, symbol), found)

    @routes.get(
        "/v1/orders", role="view", tag="trading", answers=Page[Order], example=Page(TS, False, (ORDER,))
    )
    async def orders(  # pyright: ignore[reportUnusedFunction]
        namespace: OfNamespace = None, run: OfRun = None, symbol: OfSymbol = None, status: OfStatus = None,
        limit: Limit = 100, after: After = None,
    ) -> Response:  # fmt: skip
        """The newest orders, at most 500 of each namespace, with what became of them."""

        def found() -> Page[Order]:
            placed = rows.of("orders", Order)
            wanted: list[Order] = chosen(placed, namespace=namespace, run=run, symbol=symbol, status=status)
            return platform.page(*paged(wanted, limit, after))

        return platform.told(("orders", namespace, run, symbol, status, limit, after), found)

    @routes.get("/v1/fills", role="view", tag="trading", answers=Page[Fill], example=Page(TS, False, (FILL,)))
    async def fills(  # pyright: ignore[reportUnusedFunction]
        namespace: OfNamespace = None, run: OfRun = None, symbol: OfSymbol = None, limit: Limit = 100,
        after: After = None,
    ) -> Response:  # fmt: skip
        """The newest fills, at most 500 of each namespace."""

        def found() -> Page[Fill]:
            filled = rows.of("fills", Fill)
            wanted: list[Fill] = chosen(filled, namespace=namespace, run=run, symbol=symbol)
            return platform.page(*paged(wanted, limit, after))

        return platform.told(("fills", namespace, run, symbol, limit, after), found)

    @routes.get(
        "/v1/signals", role="view", tag="trading", answers=Page[Signal], example=Page(TS, False, (SIGNAL,)),
        lost=True,
    )  # fmt: skip
    async def signals_(  # pyright: ignore[reportUnusedFunction]
        namespace: OfNamespace = None, run: OfRun = None, symbol: OfSymbol = None, limit: Limit = 100
    ) -> Response:
        """What strategies wanted lately, and whether risk let it pass."""
        names = [namespace] if namespace else list(platform.newest.lanes)
        found, stale = await signals.newest(names)
        items = tuple(chosen(found, run=run, symbol=symbol))[:limit]
        return answer(Page(platform.newest.at, stale or platform.stale, items))


def _portfolio(lane: Lane) -> Portfolio:
    return Portfolio(
        namespace=lane.name, live=lane.live, halt=lane.halt, updated=lane.updated, tape_ts=lane.tape_ts,
        capital=lane.capital, equity=lane.equity, net=lane.net, realized=lane.realized, unrealized=lane.unrealized,
        charges=lane.charges, gross=lane.gross, today=lane.today, orders_today=lane.orders_today,
        positions=len(lane.positions),
    )  # fmt: skip


def chosen(rows: Iterable[Any], **wanted: str | None) -> list[Any]:
    """The rows that are as wanted in everything that is wanted at all."""
    marks = [(name, value) for name, value in wanted.items() if value is not None]
    return [row for row in rows if all(getattr(row, name) == value for name, value in marks)]


def place_of(row: Order | Fill | Signal) -> tuple[int, str, str]:
    """Where a row stands among others, whatever comes in between; also as `after` says it."""
    return row.ts, row.namespace, row.order if isinstance(row, LaneFill) else row.id


def paged(
    rows: list[Stamped],
    limit: int,
    after: str | None,
    key: Callable[[Stamped], tuple[int, str, str]] = place_of,
) -> tuple[tuple[Stamped, ...], str]:
    """Rows after a place, newest first, and what asks for those that follow; "" if none do."""
    if after is not None:
        ts, namespace, name = after.split("~", 2)
        rows = [row for row in rows if key(row) < (int(ts), namespace, name)]
    page = rows[:limit]
    return tuple(page), "~".join(map(str, key(page[-1]))) if len(rows) > limit else ""

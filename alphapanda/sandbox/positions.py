"""Positions and holdings of the account, by Kite's formulas (Kite docs, portfolio; checked on its samples).

    value   = sell_value - buy_value                     pnl = value + quantity x last x multiplier
    buy_m2m = overnight quantity x close x multiplier + day_buy_value
    m2m     = sell_m2m - buy_m2m + quantity x last x multiplier

Values are kept in price units x quantity; documents show rupees. A position is keyed by exchange, symbol and product.
"""

from __future__ import annotations

import msgspec

from alphapanda.instruments import Instrument
from alphapanda.sandbox.documents import Document, Refused
from alphapanda.sandbox.market import Market
from alphapanda.sandbox.orders import Trade

Key = tuple[str, str]  # EXCHANGE:SYMBOL, product


class Position(msgspec.Struct):
    """One position: what was carried into the day (``overnight``, signed, with its value) and what the day added."""

    instrument: Instrument
    product: str
    overnight: int = 0
    overnight_value: int = 0
    bought: int = 0
    buy_value: int = 0
    sold: int = 0
    sell_value: int = 0
    mark: int = 0  # the price of its last fill

    @property
    def quantity(self) -> int:
        """Net, signed."""
        return self.overnight + self.bought - self.sold

    @property
    def buys(self) -> tuple[int, int]:
        """Quantity and value of all buys, carried ones included."""
        carried = self.overnight > 0
        return self.bought + self.overnight * carried, self.buy_value + self.overnight_value * carried

    @property
    def sells(self) -> tuple[int, int]:
        """Quantity and value of all sells, carried ones included."""
        carried = self.overnight < 0
        return self.sold - self.overnight * carried, self.sell_value - self.overnight_value * carried

    @property
    def average(self) -> float:
        """Price units: of the buys when long, of the sells when short, 0 when flat."""
        count, value = self.buys if self.quantity > 0 else self.sells
        return value / count if self.quantity else 0.0

    @property
    def realised(self) -> float:
        """Price units x quantity earned by what was closed, at the average prices of both sides."""
        (bought, buy_value), (sold, sell_value) = self.buys, self.sells
        closed = min(bought, sold)
        return closed * (sell_value / sold - buy_value / bought) if closed else 0.0

    def trade(self, side: int, quantity: int, price: int) -> None:
        """Book a fill."""
        self.mark = price
        if side > 0:
            self.bought += quantity
            self.buy_value += quantity * price
        else:
            self.sold += quantity
            self.sell_value += quantity * price

    def carry(self) -> None:
        """The day is over: what is held is carried at its average price."""
        average = self.average
        self.overnight = self.quantity
        self.overnight_value = round(average * self.overnight)
        self.bought = self.buy_value = self.sold = self.sell_value = 0


class Holding(msgspec.Struct):
    """Shares in the demat account. ``t1`` were bought yesterday; ``used`` were sold today. Average in price units."""

    instrument: Instrument
    quantity: int
    average: float
    t1: int = 0
    used: int = 0
    authorised: bool = True

    @property
    def sellable(self) -> int:
        """What can still be sold today."""
        return self.quantity + self.t1 - self.used


class Positions:
    """The account's positions and holdings."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self.positions: dict[Key, Position] = {}
        self.holdings: dict[str, Holding] = {}

    def net(self, symbol: str, product: str) -> int:
        """The net quantity of a position, 0 when there is none."""
        held = self.positions.get((symbol, product))
        return held.quantity if held else 0

    def filled(self, trade: Trade) -> None:
        """Book a trade; a delivery sell beyond the day's buys uses the holding."""
        order = trade.order
        position = self._position(order.instrument, trade.product)
        position.trade(order.side, trade.quantity, trade.price)
        holding = self.holdings.get(order.instrument.symbol)
        if trade.product == "CNC" and holding is not None:
            holding.used = max(0, -position.quantity)

    def _position(self, instrument: Instrument, product: str) -> Position:
        return self.positions.setdefault((instrument.symbol, product), Position(instrument, product))

    def sellable(self, symbol: str) -> int:
        """How much of a share can be sold for delivery: held, and bought today."""
        holding = self.holdings.get(symbol)
        return (holding.sellable if holding else 0) + max(0, self.net(symbol, "CNC"))

    def hold(self, symbol: str, quantity: int, average: float, *, authorised: bool = True) -> None:
        """Put shares into the demat account; ``average`` in rupees."""
        instrument = self._market.get(symbol).instrument
        self.holdings[symbol] = Holding(
            instrument, quantity, average * instrument.price_scale, authorised=authorised
        )

    def convert(self, symbol: str, side: int, quantity: int, old: str, new: str, overnight: bool) -> None:
        """Move part of a position to another product. Raises Refused."""
        held = self.positions.get((symbol, old))
        open_quantity = 0 if held is None else held.overnight if overnight else held.bought - held.sold
        if held is None or open_quantity * side <= 0 or quantity <= 0 or quantity > abs(open_quantity):
            raise Refused("InputException", "Invalid quantity for position conversion.")
        if old == new or new not in ("CNC", "MIS", "NRML"):
            raise Refused("InputException", "Invalid product for position conversion.")
        price = round(held.average) or held.mark
        moved = self._position(held.instrument, new)
        if overnight:
            for position, sign in ((held, -1), (moved, 1)):
                position.overnight += sign * side * quantity
                position.overnight_value += sign * side * quantity * price
        elif side > 0:
            held.bought -= quantity
            held.buy_value -= quantity * price
        else:
            held.sold -= quantity
            held.sell_value -= quantity * price
        if not overnight:
            moved.trade(side, quantity, price)

    def new_day(self) -> None:
        """Deliveries settle: yesterday's buys become T1, T1 becomes held; the rest is carried, flat ones vanish."""
        for holding in self.holdings.values():
            holding.quantity, holding.t1, holding.used = holding.quantity + holding.t1 - holding.used, 0, 0
        for (symbol, product), position in list(self.positions.items()):
            quantity = position.quantity
            if product == "CNC" and quantity > 0:
                holding = self.holdings.setdefault(symbol, Holding(position.instrument, 0, 0.0))
                total = holding.quantity + quantity
                holding.average = (holding.average * holding.quantity + position.average * quantity) / total
                holding.t1 = quantity
            if product == "CNC" or quantity == 0:
                del self.positions[symbol, product]
            else:
                position.carry()
        self.holdings = {symbol: one for symbol, one in self.holdings.items() if one.quantity or one.t1}

    # ── documents ────────────────────────────────────────────────────────────────────────────────

    def documents(self, *, stale: bool = False) -> dict[str, list[Document]]:
        """``GET /portfolio/positions``; ``stale`` shows the price of each position's last fill as the last price."""
        net = [self._document(position, stale) for position in self.positions.values()]
        day = [
            self._document(msgspec.structs.replace(position, overnight=0, overnight_value=0), stale)
            for position in self.positions.values()
            if position.bought or position.sold
        ]
        return {"net": net, "day": day}

    def _document(self, position: Position, stale: bool) -> Document:
        of, quote = position.instrument, self._market.quotes[position.instrument.token]
        last_units = position.mark if stale and position.mark else quote.last
        scale, multiplier, quantity = of.price_scale, of.multiplier, position.quantity
        last, close = last_units / scale, quote.close / scale
        (bought, buys), (sold, sells) = position.buys, position.sells

        def money(value: float) -> float:
            return value * multiplier / scale

        value, mark = money(sells - buys), quantity * last * multiplier
        buy_m2m = max(position.overnight, 0) * close * multiplier + money(position.buy_value)
        sell_m2m = max(-position.overnight, 0) * close * multiplier + money(position.sell_value)
        pnl = value + mark
        return {
            "tradingsymbol": of.tradingsymbol, "exchange": of.exchange, "instrument_token": of.token,
            "product": position.product, "quantity": quantity, "overnight_quantity": position.overnight,
            "multiplier": multiplier, "average_price": position.average / scale, "close_price": close,
            "last_price": last, "value": value, "pnl": pnl, "m2m": sell_m2m - buy_m2m + mark, "unrealised": pnl,
            "realised": 0, "buy_quantity": bought, "buy_price": _each(buys, bought, scale), "buy_value": money(buys),
            "buy_m2m": buy_m2m, "sell_quantity": sold, "sell_price": _each(sells, sold, scale),
            "sell_value": money(sells), "sell_m2m": sell_m2m, "day_buy_quantity": position.bought,
            "day_buy_price": _each(position.buy_value, position.bought, scale),
            "day_buy_value": money(position.buy_value), "day_sell_quantity": position.sold,
            "day_sell_price": _each(position.sell_value, position.sold, scale),
            "day_sell_value": money(position.sell_value),
        }  # fmt: skip

    def holding_documents(self) -> list[Document]:
        """``GET /portfolio/holdings``."""
        documents: list[Document] = []
        for holding in self.holdings.values():
            of, quote = holding.instrument, self._market.quotes[holding.instrument.token]
            average, last, close = (
                holding.average / of.price_scale,
                of.rupees(quote.last),
                of.rupees(quote.close),
            )
            quantity = holding.quantity - max(0, holding.used - holding.t1)
            held = quantity + holding.t1 - min(holding.used, holding.t1)
            documents.append({
                "tradingsymbol": of.tradingsymbol, "exchange": of.exchange, "instrument_token": of.token,
                "isin": f"IN9{of.token:09d}", "product": "CNC", "price": 0, "quantity": quantity,
                "used_quantity": holding.used, "t1_quantity": holding.t1, "realised_quantity": holding.quantity,
                "authorised_quantity": holding.quantity if holding.authorised else 0,
                "authorised_date": "1970-01-01 05:30:00", "authorisation": {}, "opening_quantity": holding.quantity,
                "short_quantity": 0, "collateral_quantity": 0, "collateral_type": "", "discrepancy": False,
                "average_price": average, "last_price": last, "close_price": close, "pnl": (last - average) * held,
                "day_change": last - close, "day_change_percentage": (last / close - 1) * 100 if close else 0,
                "mtf": {"quantity": 0, "used_quantity": 0, "average_price": 0, "value": 0, "initial_margin": 0},
            })  # fmt: skip
        return documents


def _each(value: int, quantity: int, scale: int) -> float:
    return value / quantity / scale if quantity else 0

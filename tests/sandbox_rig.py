"""What the sandbox's tests share: a broker at a fixed moment of a trading day, and the official client against it."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from kiteconnect import KiteConnect

from alphapanda.events import SECOND
from alphapanda.sandbox.access import Limits
from alphapanda.sandbox.broker import Broker
from alphapanda.sandbox.documents import Answer
from alphapanda.sandbox.market import Market
from alphapanda.sandbox.serve import Running
from alphapanda.synthetic import STOCKS, default_universe

TEN = int(dt.datetime(2026, 11, 20, 4, 30, tzinfo=dt.UTC).timestamp()) * SECOND  # Friday, 10:00 IST
UNIVERSE = {one.symbol: one for one in default_universe("2026-11-20")}
INFY, FUTURE = "NSE:INFY", next(symbol for symbol in UNIVERSE if symbol.endswith("FUT"))
CALL = next(symbol for symbol in UNIVERSE if symbol.endswith("26000CE"))
PRICES = {FUTURE: 26_100.0, CALL: 120.0, "NSE:NIFTY 50": 26_050.0}
MOCKS = Path(__file__).parents[2] / "shared" / "data" / "kite-mocks"
FREE = Limits(quote=10_000, historical=10_000, order=10_000, other=10_000, orders_minute=10_000)


def at(hour: int, minute: int = 0, day: str = "2026-11-20") -> int:
    """A moment of IST in ns."""
    naive = dt.datetime.fromisoformat(day) + dt.timedelta(hours=hour, minutes=minute)
    return int((naive.replace(tzinfo=dt.UTC) - dt.timedelta(hours=5, minutes=30)).timestamp()) * SECOND


def market() -> Market:
    """Ten shares, a future, an option and the index, with last prices and deep books at ten o'clock."""
    symbols = [f"NSE:{name}" for name in STOCKS] + list(PRICES)
    made = Market(
        {
            UNIVERSE[s]: PRICES.get(s) or STOCKS[UNIVERSE[s].tradingsymbol].close
            for s in symbols
            if s in UNIVERSE
        }
    )
    for symbol, quote in made.symbols.items():
        made.set(symbol, quote.instrument.rupees(quote.close), now=TEN - SECOND)
    return made


def broker(now: int = TEN, **options: Any) -> Broker:
    """A broker without rate limits."""
    settings: dict[str, Any] = {"limits": FREE} | options
    return Broker(market(), now=now, **settings)


class Client:
    """Calls the model without a wire, with a live token."""

    def __init__(self, of: Broker) -> None:
        self.broker = of
        self.token = f"{of.account.api_key}:{of.access.open(of.now)}"

    def __call__(self, method: str, path: str, params: Any = None, **options: Any) -> Answer:
        return self.broker.call(method, path, params or {}, now=self.broker.now, token=self.token, **options)

    def place(self, variety: str = "regular", **terms: Any) -> str:
        """An order's id; an assertion error with Kite's words when it is refused."""
        answer = self("POST", f"/orders/{variety}", order(**terms))
        assert answer.status == 200, answer.body
        return answer.data["order_id"]

    def refused(self, variety: str = "regular", **terms: Any) -> tuple[int, str, str]:
        """Code, class and message of a refusal."""
        return said(self("POST", f"/orders/{variety}", order(**terms)))

    def order(self, order_id: str) -> dict[str, Any]:
        """The order's row in the book."""
        return next(row for row in self("GET", "/orders").data if row["order_id"] == order_id)

    def history(self, order_id: str) -> list[str]:
        """The statuses an order went through."""
        return [row["status"] for row in self("GET", f"/orders/{order_id}").data]

    def wait(self, seconds: float = 1.0) -> None:
        """Let the sandbox's time pass."""
        self.broker.advance(self.broker.now + round(seconds * SECOND))


def order(symbol: str = INFY, side: str = "BUY", quantity: float = 1, **terms: Any) -> dict[str, str]:
    """The form of an order as the client sends it: a limit order for delivery unless told otherwise."""
    exchange, _, name = symbol.partition(":")
    form: dict[str, Any] = {
        "exchange": exchange, "tradingsymbol": name, "transaction_type": side, "quantity": quantity,
        "product": "CNC", "order_type": "LIMIT", "price": 1548.2,
    } | terms  # fmt: skip
    return {key: str(value) for key, value in form.items() if value is not None}


def said(answer: Answer) -> tuple[int, str, str]:
    """Code, class and message of an error envelope."""
    body = json.loads(answer.body)
    assert body["status"] == "error"
    return answer.status, body["error_type"], body["message"]


def kite(sandbox: Running, timeout: float = 5.0) -> Any:
    """The unmodified official client, logged in; it has no types."""
    client = KiteConnect(sandbox.broker.account.api_key, root=sandbox.url, timeout=timeout)
    client.set_access_token(sandbox.open_session())
    return client


def mock(name: str) -> Any:
    """The data of one of the vendor's samples; skips where they are not at hand."""
    path = MOCKS / name
    if not path.exists():
        pytest.skip("the vendor's samples are not on this machine")
    return json.loads(path.read_text())["data"]

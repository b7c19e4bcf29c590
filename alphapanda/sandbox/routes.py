"""Every route of the REST interface: what is asked, how it is limited, and what answers (Kite docs)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from alphapanda.events import SECOND
from alphapanda.sandbox import reads
from alphapanda.sandbox.access import NOT_ALLOWED
from alphapanda.sandbox.documents import Answer, Document, Refused
from alphapanda.sandbox.faults import TIMED_OUT
from alphapanda.sandbox.market import Quote
from alphapanda.sandbox.trading import NOT_FOUND

if TYPE_CHECKING:
    from alphapanda.sandbox.broker import Broker

Params = Mapping[str, str | list[str]] | list[Any]
Kind = Literal["quote", "historical", "order", "other"]
Handler = Callable[["Request"], Any]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One call, taken apart: ``parts`` of the path, the form or query, the ``i`` keys, the JSON list."""

    path: str
    parts: tuple[str, ...]
    params: dict[str, str]
    keys: list[str]
    items: list[Document]
    now: int
    ip: str


class Routes:
    """The routes of one broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._routes = self._table()

    def answer(self, method: str, request: Request, token: str | None, wall: int) -> Answer:
        """Authentication, IP, rate, and then the handler. Raises Refused."""
        access = self._broker.access
        for wanted, pattern, kind, handler in self._routes:
            found = pattern.fullmatch(request.path) if wanted == method else None
            if found is None:
                continue
            request = msgspec.structs.replace(request, parts=found.groups())
            if request.path != "/session/token" or method == "DELETE":
                access.check(token, request.now)
            if kind == "order":
                access.check_ip(request.ip)
            access.count(kind, wall, 1 if method == "POST" and request.path.startswith("/orders/") else 0)
            result = handler(request)
            return result if isinstance(result, Answer) else Answer.of(result)
        if any(pattern.fullmatch(request.path) for _, pattern, _, _ in self._routes):
            raise Refused("GeneralException", "Method not allowed.", 405)
        raise Refused("GeneralException", "Route not found", 404)

    def _table(self) -> list[tuple[str, re.Pattern[str], Kind, Callable[[Request], Any]]]:
        """Every route: method, path, rate limit, handler."""
        routes: list[tuple[str, str, Kind, Callable[[Request], Any]]] = [
            ("POST", "/session/token", "other", lambda r: self._broker.access.exchange(r.params, r.now)),
            ("DELETE", "/session/token", "other", self._logout),
            ("POST", "/session/refresh_token", "other", _not_for_this_app),
            ("GET", "/user/profile", "other", lambda r: self._broker.access.profile()),
            ("GET", "/user/profile/full", "other", self._full_profile),
            ("GET", "/user/margins", "other", self._margins),
            ("GET", "/user/margins/(equity|commodity)", "other", lambda r: self._margins(r)[r.parts[0]]),
            ("GET", "/orders", "other", self._orders),
            ("GET", "/trades", "other", self._trades),
            ("GET", r"/orders/(\d+)", "other", self._history),
            ("GET", r"/orders/(\d+)/trades", "other", lambda r: self._broker.book.trade_documents(r.parts[0])),
            ("POST", "/orders/([a-z]+)", "order", self._place),
            ("PUT", r"/orders/([a-z]+)/(\d+)", "order", self._modify),
            ("DELETE", r"/orders/([a-z]+)/(\d+)", "order", self._cancel),
            ("GET", "/portfolio/positions", "other", self._positions),
            ("PUT", "/portfolio/positions", "other", self._convert),
            ("GET", "/portfolio/holdings", "other", lambda r: self._broker.positions.holding_documents()),
            ("GET", "/portfolio/holdings/auctions", "other", lambda r: []),
            ("GET", "/portfolio/holdings/summary", "other", self._holdings_summary),
            ("POST", "/portfolio/holdings/authorise", "other", self._authorise),
            ("GET", "/quote(?:/(ohlc|ltp))?", "quote", self._quotes),
            ("GET", "/instruments(?:/([A-Z]+))?", "other",
             lambda r: reads.instruments(self._broker.market, r.parts[0] or "")),
            ("GET", r"/instruments/historical/(\d+)/(\w+)", "historical", self._candles),
            ("GET", "/instruments/trigger_range/([A-Za-z]+)", "other",
             lambda r: reads.trigger_range(self._broker.market, r.keys, r.parts[0])),
            ("POST", "/margins/orders", "other", self._order_margins),
            ("POST", "/margins/basket", "other", self._basket_margins),
            ("POST", "/charges/orders", "other", self._contract_note),
            ("GET", "/gtt/triggers", "other", lambda r: self._broker.triggers.documents(r.now)),
            ("POST", "/gtt/triggers", "order", lambda r: {"trigger_id": self._broker.triggers.add(r.params, r.now)}),
            ("GET", r"/gtt/triggers/(\d+)", "other", lambda r: self._broker.triggers.document(int(r.parts[0]))),
            ("PUT", r"/gtt/triggers/(\d+)", "order",
             lambda r: {"trigger_id": self._broker.triggers.change(int(r.parts[0]), r.params, r.now)}),
            ("DELETE", r"/gtt/triggers/(\d+)", "order",
             lambda r: {"trigger_id": self._broker.triggers.delete(int(r.parts[0]), r.now)}),
            *((method, "/mf/(?:orders|sips).*", "other", _not_for_this_app) for method in ("POST", "PUT", "DELETE")),
            ("GET", "/mf/(?:orders|sips|holdings)", "other", lambda r: []),
            ("GET", "/mf/(?:orders|sips)/.+", "other", _no_fund),
            ("GET", "/mf/instruments", "other", lambda r: reads.funds()),
        ]  # fmt: skip
        return [(method, re.compile(path), kind, handler) for method, path, kind, handler in routes]

    # ── handlers ─────────────────────────────────────────────────────────────────────────────────

    def _logout(self, request: Request) -> bool:
        self._broker.access.close()
        return True

    def _full_profile(self, request: Request) -> Document:
        return self._broker.access.profile() | {
            "twofa_type": "totp", "phone": "*0000",
            "bank_accounts": [{"name": "BANK", "branch": "", "account": "*0000"}],
            "dp_ids": ["0000000000000000"], "pan": "*000A", "tags": [], "password_timestamp": "1970-01-01 00:00:00",
            "twofa_timestamp": "1970-01-01 00:00:00", "meta": {"poa": "physical", "silo": "", "account_blocks": []},
        }  # fmt: skip

    def _margins(self, request: Request) -> Document:
        document = self._broker.money.document(list(self._broker.book.live()))
        empty = msgspec.json.decode(re.sub(rb":-?\d[\d.e+-]*", b":0", msgspec.json.encode(document)))
        return {"equity": document, "commodity": empty}

    def _place(self, request: Request) -> Document:
        for name in ("place-late", "place-late-400"):
            subject = (
                f"{request.path} {request.params.get('tag', '')} {request.params.get('tradingsymbol', '')}"
            )
            late = self._broker.faults.hit(name, subject)
            if late:
                self._broker.agenda.at(
                    request.now + round(late.seconds * SECOND), lambda ts: self._arrive_late(request, ts)
                )
                raise _Late(name)
        return self._broker.trading.place(request.parts[0], request.params, request.now, "api")

    def _arrive_late(self, request: Request, now: int) -> None:
        """The order reaches the broker long after the call ended; nobody is told if it is refused."""
        try:
            self._broker.trading.place(request.parts[0], request.params, now, "late")
        except Refused:
            return

    def _modify(self, request: Request) -> Document:
        return self._broker.trading.modify(request.parts[0], request.parts[1], request.params, request.now)

    def _cancel(self, request: Request) -> Document:
        return self._broker.trading.cancel(request.parts[0], request.parts[1], request.now)

    def _seen_until(self) -> int | None:
        stale = self._broker.faults.hit("book-stale")
        return self._broker.now - round(stale.seconds * SECOND) if stale else None

    def _orders(self, request: Request) -> list[Document]:
        return self._shown(self._broker.book.documents(self._seen_until()), request.path)

    def _trades(self, request: Request) -> list[Document]:
        return self._shown(self._broker.book.trade_documents(until=self._seen_until()), request.path)

    def _shown(self, rows: list[Document], path: str) -> list[Document]:
        if self._broker.faults.hit("book-empty", path):
            return []
        return rows[: len(rows) // 2] if self._broker.faults.hit("book-truncated", path) else rows

    def _history(self, request: Request) -> list[Document]:
        rows = self._broker.book.history.get(request.parts[0])
        if rows is None:
            raise Refused("GeneralException", NOT_FOUND, 404)
        return [row for _, row in rows]

    def _positions(self, request: Request) -> dict[str, list[Document]]:
        if self._broker.faults.hit("book-empty", request.path):
            return {"net": [], "day": []}
        return self._broker.positions.documents(stale=self._broker.faults.hit("positions-stale") is not None)

    def _convert(self, request: Request) -> bool:
        get = request.params.get
        quantity = get("quantity", "")
        side = {"BUY": 1, "SELL": -1}.get(get("transaction_type", ""))
        if side is None or not quantity.isdigit():
            raise Refused("InputException", "Invalid `transaction_type` or `quantity`.")
        symbol = f"{get('exchange')}:{get('tradingsymbol')}"
        overnight = get("position_type") == "overnight"
        self._broker.positions.convert(
            symbol, side, int(quantity), get("old_product", ""), get("new_product", ""), overnight
        )
        return True

    def _holdings_summary(self, request: Request) -> Document:
        rows = self._broker.positions.holding_documents()
        invested = sum(row["average_price"] * (row["quantity"] + row["t1_quantity"]) for row in rows)
        pnl = sum(row["pnl"] for row in rows)
        today = sum(row["day_change"] * (row["quantity"] + row["t1_quantity"]) for row in rows)
        before = invested + pnl - today
        return {
            "total_pnl": pnl, "total_pnl_percent": pnl / invested * 100 if invested else 0, "today_pnl": today,
            "today_pnl_percent": today / before * 100 if before else 0, "invested_amount": invested,
            "current_value": invested + pnl,
        }  # fmt: skip

    def _authorise(self, request: Request) -> Document:
        for holding in self._broker.positions.holdings.values():
            holding.authorised = True
        return {"request_id": f"sandbox{self._broker.agenda.number():025d}"}

    def _quotes(self, request: Request) -> Document:
        self._broker.access.check_plan()
        return reads.quotes(self._broker.market, request.keys, request.parts[0] or "quote")

    def _candles(self, request: Request) -> Document:
        self._broker.access.check_plan()
        return reads.candles(self._broker.market, request.parts[0], request.parts[1], request.params)

    def _terms(self, item: Document, price: str) -> tuple[Quote, str, int, int, float]:
        """Instrument, product, side, quantity and price in rupees of one item. Raises Refused."""
        quote = self._broker.market.symbols.get(f"{item.get('exchange')}:{item.get('tradingsymbol')}")
        side = {"BUY": 1, "SELL": -1}.get(str(item.get("transaction_type")))
        if quote is None or side is None:
            raise Refused("InputException", "Invalid `tradingsymbol` or `transaction_type`.")
        try:
            quantity, at = int(item["quantity"]), float(item.get(price) or 0)
        except (KeyError, TypeError, ValueError):
            raise Refused("InputException", "Invalid `quantity` or `price`.") from None
        product = "CO" if item.get("variety") == "co" else str(item.get("product"))
        return quote, product, side, quantity, at

    def _margin_items(self, request: Request) -> list[Document]:
        found: list[Document] = []
        for item in request.items:
            quote, product, side, quantity, price = self._terms(item, "price")
            of = quote.instrument
            price = price or of.rupees(quote.last)
            found.append(self._broker.money.order_document(of, product, side, quantity, price, request.now))
        return found

    def _order_margins(self, request: Request) -> list[Document]:
        return self._margin_items(request)

    def _basket_margins(self, request: Request) -> Document:
        held = request.params.get("consider_positions", "").lower() == "true"
        return self._broker.money.basket_document(
            self._margin_items(request), held=held, orders=list(self._broker.book.live())
        )

    def _contract_note(self, request: Request) -> list[Document]:
        found: list[Document] = []
        for item in request.items:
            quote, product, side, quantity, price = self._terms(item, "average_price")
            if price <= 0:
                raise Refused("InputException", "Invalid `average_price`.")
            echoed = ("transaction_type", "tradingsymbol", "exchange", "variety", "product", "order_type")
            charges = self._broker.money.charges(
                quote.instrument, product, side, quantity, price, request.now
            )
            numbers = {"quantity": quantity, "price": price, "charges": charges}
            found.append({name: item.get(name) for name in echoed} | numbers)
        return found


def _not_for_this_app(request: Request) -> Any:
    """Sessions are renewed for approved platforms only; fund orders are taken in the app only (Kite docs)."""
    raise Refused("PermissionException", NOT_ALLOWED)


def _no_fund(request: Request) -> Any:
    raise Refused("GeneralException", NOT_FOUND, 404)


class _Late(Refused):
    """Not a refusal of Kite's: the order is on its way, and the caller hears a time-out, or nothing at all."""

    def __init__(self, name: str) -> None:
        super().__init__("InputException", TIMED_OUT)
        self.silent = name == "place-late"

    @property
    def answer(self) -> Answer:
        return Answer(delivery="silence") if self.silent else super().answer


def taken_apart(path: str, params: Params, query: Mapping[str, str], now: int, ip: str) -> Request:
    """One call as the handlers want it."""
    if isinstance(params, list):
        form: dict[str, str] = dict(query)
        return Request(path=path, parts=(), params=form, keys=[], items=params, now=now, ip=ip)
    keys = params.get("i", [])
    form = {name: value if isinstance(value, str) else value[-1] for name, value in params.items() if value}
    return Request(
        path=path,
        parts=(),
        params=form,
        keys=[keys] if isinstance(keys, str) else keys,
        items=[],
        now=now,
        ip=ip,
    )

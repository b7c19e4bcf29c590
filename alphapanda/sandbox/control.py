"""The control door and the login page: how a test, the command line and a person steer the sandbox.

``/sandbox/...`` is open to this machine only. Bodies are JSON objects; so are answers.

    GET  /sandbox/faults   what is on, how often each struck, and every name with its meaning
    POST /sandbox/faults   {"name": "place-timeout", "times", "rate", "match", "seconds"} | {"off": name or null}
    POST /sandbox/clock    {"set": "2026-11-20T10:00:00" (IST)} | {"advance": seconds} | {"speed": 10}
    POST /sandbox/market   {"symbol": "NSE:INFY", "price": 1550.0, "quantity", "spread", "depth"}
    POST /sandbox/holdings {"symbol": "NSE:INFY", "quantity": 10, "average": 1500.0, "authorised": true}
    POST /sandbox/session  {"do": "open" | "login" | "close"}: an access token, a request token, or a dead session
    GET  /sandbox/ledger   arrivals and trades as they truly were
"""

from __future__ import annotations

import datetime as dt
import html
import ipaddress
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec

from alphapanda.errors import AlphaPandaException, ValidationError
from alphapanda.events import IST, SECOND
from alphapanda.sandbox.broker import Broker
from alphapanda.sandbox.documents import Answer, stamp
from alphapanda.sandbox.faults import HTML, KINDS
from alphapanda.sandbox.time import Time
from alphapanda.sandbox.wire import Call

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Sandbox login</title>
<body style="font-family:sans-serif;max-width:32em;margin:4em auto">
<h1>Alpha Panda sandbox</h1><p>{text}</p>{form}</body></html>"""
FORM = (
    '<form method="post" action="{action}"><button style="font-size:1.2em">Log in as {user}</button></form>'
)


class Control:
    """Answers what is not Kite's: ``/sandbox`` and ``/connect``."""

    def __init__(self, broker: Broker, time: Time, redirect_url: str) -> None:
        self._broker, self._time, self._redirect_url = broker, time, redirect_url
        self._doors: dict[tuple[str, str], Callable[[dict[str, Any]], Any]] = {
            ("GET", "faults"): self._faults,
            ("POST", "faults"): self._switch,
            ("POST", "clock"): self._clock,
            ("GET", "clock"): self._clock,
            ("POST", "market"): self._market,
            ("POST", "holdings"): self._holdings,
            ("POST", "session"): self._session,
            ("GET", "ledger"): self._ledger,
        }

    def answer(self, call: Call) -> Answer | None:
        """The answer to a call that is ours; None for Kite's."""
        if call.path.startswith("/connect/"):
            return self._login(call)
        if not call.path.startswith("/sandbox/"):
            return None
        if not ipaddress.ip_address(call.ip).is_loopback:
            return _said(403, {"error": "the control door is open to this machine only"})
        door = self._doors.get((call.method, call.path.removeprefix("/sandbox/")))
        if door is None:
            return _said(
                404, {"error": f"no such door; there are {', '.join(sorted({n for _, n in self._doors}))}"}
            )
        try:
            return _said(200, door(msgspec.json.decode(call.body or b"{}", type=dict[str, Any])))
        except AlphaPandaException as error:
            return _said(400, {"error": error.message, "fix": error.fix})
        except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
            return _said(
                400, {"error": f"{type(error).__name__}: {error}", "fix": "see alphapanda.sandbox.control"}
            )

    def _faults(self, asked: dict[str, Any]) -> Any:
        faults = self._broker.faults
        names = {name: kind.meaning for name, kind in KINDS.items()}
        return {"on": faults.active, "struck": faults.struck, "known": names}

    def _switch(self, asked: dict[str, Any]) -> Any:
        if "off" in asked:
            self._broker.faults.off(asked["off"])
        else:
            self._broker.faults.switch(asked.pop("name"), **asked)
        return {"on": self._broker.faults.active}

    def _clock(self, asked: dict[str, Any]) -> Any:
        if "speed" in asked:
            self._time.run(float(asked["speed"]))
        if "set" in asked:
            moment = dt.datetime.fromisoformat(asked["set"])
            zoned = moment if moment.tzinfo else moment.replace(tzinfo=IST)
            self._time.set(round(zoned.timestamp()) * SECOND)
        if "advance" in asked:
            self._time.set(self._time.now() + round(float(asked["advance"]) * SECOND))
        self._broker.advance(self._time.now())
        return {"now": stamp(self._broker.now), "ns": self._broker.now, "speed": self._time.speed}

    def _market(self, asked: dict[str, Any]) -> Any:
        quote = self._broker.tick(asked.pop("symbol"), float(asked.pop("price")), **asked)
        return {"last_price": quote.instrument.rupees(quote.last)}

    def _holdings(self, asked: dict[str, Any]) -> Any:
        self._broker.positions.hold(
            asked["symbol"],
            int(asked["quantity"]),
            float(asked["average"]),
            authorised=asked.get("authorised", True),
        )
        return {"holdings": len(self._broker.positions.holdings)}

    def _session(self, asked: dict[str, Any]) -> Any:
        access, now = self._broker.access, self._broker.now
        if asked["do"] == "login":
            return {"request_token": access.login(now)}
        if asked["do"] == "open":
            return {"api_key": self._broker.account.api_key, "access_token": access.open(now)}
        if asked["do"] != "close":
            raise ValidationError(f"a session cannot {asked['do']!r}", fix='"do" is open, login or close')
        access.close()
        return {}

    def _ledger(self, asked: dict[str, Any]) -> Any:
        ledger = self._broker.ledger
        trades = [
            {
                "trade_id": one.trade_id, "order_id": one.order.order_id, "symbol": one.order.instrument.symbol,
                "side": one.order.side, "quantity": one.quantity, "price": one.price, "ts": one.ts,
                "tag": one.order.tag,
            }
            for one in ledger.trades
        ]  # fmt: skip
        return {
            "arrivals": ledger.arrivals, "trades": trades, "requests": ledger.requests, "throttled": ledger.throttled,
        }  # fmt: skip

    # ── login, for people ────────────────────────────────────────────────────────────────────────

    def _login(self, call: Call) -> Answer:
        """The page with one button, and the redirect with a request token (Kite docs, user)."""
        account = self._broker.account
        if call.path == "/connect/done":
            token = html.escape(call.query.get("request_token", [""])[0])
            return _page(f"Logged in. Your request token is <code>{token}</code>", "")
        if call.path != "/connect/login" or call.query.get("api_key", [""])[0] != account.api_key:
            return _page("Invalid <code>api_key</code>.", "", 400)
        extra = call.query.get("redirect_params", [""])[0]
        if call.method != "POST":
            query = urlencode(
                {"api_key": account.api_key, "v": "3"} | ({"redirect_params": extra} if extra else {})
            )
            form = FORM.format(
                action=html.escape(f"/connect/login?{query}"), user=html.escape(account.user_id)
            )
            return _page("A practice account: no money, no real exchange.", form)
        params = {
            "action": "login",
            "status": "success",
            "request_token": self._broker.access.login(self._broker.now),
        }
        glue = "&" if "?" in self._redirect_url else "?"
        target = f"{self._redirect_url}{glue}{urlencode(params | dict(parse_qsl(extra)))}"
        return Answer(status=302, content_type=HTML, headers=(("Location", target),))


def _said(status: int, document: object) -> Answer:
    return Answer(status=status, body=msgspec.json.encode(document))


def _page(text: str, form: str, status: int = 200) -> Answer:
    return Answer(status=status, content_type=HTML, body=PAGE.format(text=text, form=form).encode())

"""Who may call: sessions and their tokens, the registered IP, the plan, and the rate limits (Kite docs, user).

A token dies at 06:00 IST of the next day, at a logout, or when the next login replaces it. Limits are counted on the
calendar second of the server's clock, so a caller that spreads its requests badly meets them below the cap
(kite.trade forum 16217). Refused requests count (forum 51118).
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Literal

import msgspec

from alphapanda.events import DAY, IST_OFFSET_NS, MINUTE, SECOND, ist_day
from alphapanda.sandbox.documents import Document, Refused, stamp
from alphapanda.sandbox.faults import Faults

DEAD = "Incorrect `api_key` or `access_token`."
DEATH_NS = 6 * 3600 * SECOND  # after midnight IST
REQUEST_TOKEN_NS = 5 * MINUTE
NO_IP = "No IPs configured for this app."
OTHER_IP = (
    "IP is not allowed to place orders for this app. Please update allowed IPs on developers.kite.trade"
)
NOT_ALLOWED = "Insufficient permission for that call."
EXCHANGES = ["NSE", "BSE", "NFO", "BFO", "CDS", "BCD", "MCX"]


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """The sandbox's user and app. The key and the secret are made up, so they may be printed.

    ``ips`` are registered for orders. ``plan`` "personal" has neither quotes nor candles nor ticker.
    """

    user_id: str = "SB0001"
    user_name: str = "Sandbox User"
    email: str = "sandbox@example.com"
    api_key: str = "sandboxkey"
    api_secret: str = "sandboxsecret"  # noqa: S105  - of the local sandbox, known to everybody
    ips: tuple[str, ...] = ("127.0.0.1", "::1")
    plan: Literal["connect", "personal"] = "connect"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Requests a calendar second by kind, orders a minute and a day, changes an order (Kite docs, exceptions)."""

    quote: int = 1
    historical: int = 3
    order: int = 10
    other: int = 10
    orders_minute: int = 400
    orders_day: int = 5000
    modifications: int = 25


class Access:
    """Sessions and limits of one account."""

    def __init__(self, account: Account, limits: Limits, faults: Faults, seed: int) -> None:
        self.account, self.limits = account, limits
        self._faults, self._seed = faults, seed
        self._made = 0
        self._requests: dict[str, int] = {}  # request token to its last moment
        self.token = ""
        self.dies = 0
        self._counts: dict[str, tuple[int, int]] = {}

    # ── sessions ─────────────────────────────────────────────────────────────────────────────────

    def _secret(self, what: str) -> str:
        self._made += 1
        return hashlib.sha256(f"{self._seed}/{what}/{self._made}".encode()).hexdigest()[:32]

    def login(self, now: int) -> str:
        """What the login page does: a request token, to be used once within minutes."""
        token = self._secret("request")
        self._requests[token] = now + REQUEST_TOKEN_NS
        return token

    def open(self, now: int) -> str:
        """A session without the page: its access token. Replaces the one before."""
        self.token = self._secret("access")
        since_midnight = (now + IST_OFFSET_NS) % DAY
        self.dies = now - since_midnight + DEATH_NS + (DAY if since_midnight >= DEATH_NS else 0)
        return self.token

    def exchange(self, params: dict[str, str], now: int) -> Document:
        """``POST /session/token``. Raises Refused for a wrong key, checksum or request token."""
        account = self.account
        request = params.get("request_token", "")
        wanted = hashlib.sha256((account.api_key + request + account.api_secret).encode()).hexdigest()
        if params.get("api_key") != account.api_key:
            raise Refused("InputException", "Invalid `api_key`.")
        if not hmac.compare_digest(params.get("checksum", ""), wanted):
            raise Refused("TokenException", "Invalid `checksum`.")
        if self._requests.pop(request, 0) < now:
            raise Refused("TokenException", "Token is invalid or has expired.")
        profile = self.profile()
        return profile | {
            "api_key": account.api_key, "access_token": self.open(now), "public_token": self._secret("public"),
            "enctoken": self._secret("enc"), "refresh_token": "", "silo": "", "login_time": stamp(now),
        }  # fmt: skip

    def close(self) -> None:
        """Log out: the token is dead."""
        self.token, self.dies = "", 0

    def profile(self) -> Document:
        """``GET /user/profile``."""
        account = self.account
        return {
            "user_id": account.user_id, "user_type": "individual", "email": account.email,
            "user_name": account.user_name, "user_shortname": account.user_name.split()[0], "broker": "ZERODHA",
            "exchanges": EXCHANGES, "products": ["CNC", "NRML", "MIS", "BO", "CO"],
            "order_types": ["MARKET", "LIMIT", "SL", "SL-M"], "avatar_url": None,
            "meta": {"demat_consent": "physical"},
        }  # fmt: skip

    # ── may this call go on ──────────────────────────────────────────────────────────────────────

    def valid(self, token: str | None, now: int) -> bool:
        """Whether ``api_key:access_token`` is alive."""
        alive = f"{self.account.api_key}:{self.token}"
        return bool(token) and bool(self.token) and now < self.dies and hmac.compare_digest(str(token), alive)

    def check(self, token: str | None, now: int) -> None:
        """Raises Refused when the token is dead."""
        if self._faults.hit("token-dead"):
            self.close()
        if not self.valid(token, now):
            raise Refused("TokenException", DEAD)

    def check_ip(self, ip: str) -> None:
        """Orders come from a registered IP only. Raises Refused."""
        if self._faults.hit("ip-missing") or not self.account.ips:
            raise Refused("PermissionException", NO_IP)
        if self._faults.hit("ip-unknown") or ip not in self.account.ips:
            raise Refused("PermissionException", OTHER_IP)
        if self._faults.hit("ip-generic"):
            raise Refused("PermissionException", NOT_ALLOWED)

    def check_plan(self) -> None:
        """Quotes and candles belong to the paid plan. Raises Refused."""
        if self.account.plan == "personal" or self._faults.hit("plan-personal"):
            raise Refused("PermissionException", NOT_ALLOWED)

    def count(
        self, kind: Literal["quote", "historical", "order", "other"], moment: int, weight: int = 0
    ) -> None:
        """Count a request at ``moment``; ``weight`` orders are counted by the minute and the day. Raises Refused."""
        self._count(kind, moment // SECOND, 1, getattr(self.limits, kind), "Too many requests")
        if weight:
            allowed = "Maximum allowed order requests exceeded"
            self._count("orders_minute", moment // MINUTE, weight, self.limits.orders_minute, allowed)
            self._count("orders_day", ist_day(moment), weight, self.limits.orders_day, allowed)

    def _count(self, name: str, window: int, weight: int, most: int, message: str) -> None:
        known, used = self._counts.get(name, (window, 0))
        used = weight + (used if known == window else 0)
        self._counts[name] = (window, used)
        if used > most:
            raise Refused("NetworkException", message, 429)

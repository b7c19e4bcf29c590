"""What the feed asks of Kite by REST: who a token belongs to, instruments, candles, a sandbox's time. It only reads.

No redirect is followed, since the header holds the token, and no proxy is used for this machine. What comes back is
judged here; nothing of a request is ever in an error's text.
"""

from __future__ import annotations

import datetime as dt
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import msgspec

from alphapanda.errors import AuthenticationError, DataError, MarketDataError
from alphapanda.events import SECOND, ist
from alphapanda.settings import LOOPBACK
from alphapanda.zerodha import instruments

if TYPE_CHECKING:
    from pydantic import SecretStr

ANSWER_MAX = 2**20  # bytes


class SandboxTime(NamedTuple):
    """``now`` (ns UTC) at a sandbox, and how many of its seconds one of ours takes."""

    now: int
    speed: float


class Candle(NamedTuple):
    """One minute of trading that begins at ``ts`` (ns UTC), in rupees."""

    ts: int
    open: float
    high: float
    low: float
    close: float
    volume: int


class KiteRest:
    """``root`` is the REST address; every call blocks, at most ``timeout`` seconds for each wait."""

    def __init__(self, root: str, api_key: SecretStr, timeout: float) -> None:
        self._root, self._key, self._timeout = root.rstrip("/"), api_key, timeout
        self.local = urlsplit(root).hostname in LOOPBACK
        self._opener = instruments.opener(root)

    def __repr__(self) -> str:
        return f"<KiteRest at {self._root}>"

    def cause(self, token: SecretStr) -> str:
        """Why the ticker refuses this token, a name in ``kite.CAUSES``; "unknown" if the broker does not say.

        A dead token and a plan without market data are refused alike there; the profile tells them apart (Kite docs,
        user): every plan may read it.
        """
        status, said = self._get("/user/profile", token)
        if status == 200:
            return "plan"
        kind, message = str(said.get("error_type")), str(said.get("message", ""))
        if kind == "TokenException":
            return "token"
        if kind == "PermissionException":
            return "ip" if "IP" in message.split() or "IPs" in message.split() else "plan"
        return "unknown"

    def instruments(self, token: SecretStr) -> bytes:
        """Today's list. Raises MarketDataError when it cannot be had."""
        return instruments.fetch(self._root, self._headers(token), self._timeout)

    def candles(self, token: SecretStr, instrument: int, start: int, end: int) -> list[Candle]:
        """The one-minute candles of an instrument (its token) that begin from ``start`` to ``end`` (ns UTC).

        Raises AuthenticationError when the token or the plan does not allow it, DataError when Kite does not know the
        instrument or answers nonsense, MarketDataError without an answer, or for one call too many.
        """
        digits = {name: f"{ist(at):%Y-%m-%d %H:%M:%S}" for name, at in (("from", start), ("to", end))}
        status, said = self._get(f"/instruments/historical/{instrument}/minute?{urlencode(digits)}", token)
        if status == 403:
            raise AuthenticationError(
                "candles were refused", fix="`alphapanda login`, or choose the Connect plan", status=status
            )
        if status == 429 or status >= 500:
            raise MarketDataError(f"candles were refused with {status}", fix="wait a minute", status=status)
        try:
            return [_candle(row) for row in said["data"]["candles"]]
        except (KeyError, TypeError, ValueError):
            raise DataError(
                f"Kite answered {status} and no candles", fix="look at them by hand: ap.kite_candles"
            ) from None

    def clock(self) -> SandboxTime | None:
        """The time at a sandbox; None where the address is no sandbox's. Raises MarketDataError without an answer."""
        status, said = self._get("/sandbox/clock", None)
        now, speed = said.get("ns"), said.get("speed")
        if status != 200 or not isinstance(now, int) or not isinstance(speed, int | float):
            return None
        return SandboxTime(now, float(speed))

    def _headers(self, token: SecretStr) -> dict[str, str]:
        pair = f"{self._key.get_secret_value()}:{token.get_secret_value()}"
        return {"X-Kite-Version": "3", "Authorization": f"token {pair}"}

    def _get(self, path: str, token: SecretStr | None) -> tuple[int, dict[str, Any]]:
        """Status and document; an empty one where the body is none."""
        headers = {} if token is None else self._headers(token)
        request = urllib.request.Request(self._root + path, headers=headers)  # noqa: S310 - settings allow Kite's https address or this machine only
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                status, body = int(answer.status), answer.read(ANSWER_MAX)
        except urllib.error.HTTPError as error:
            with error:
                status, body = error.code, error.read(ANSWER_MAX)
        except (OSError, ValueError) as error:
            raise MarketDataError(
                f"{self._root} does not answer: {type(error).__name__}",
                fix="check the connection, and ZERODHA__ROOT_URL",
            ) from None
        try:
            return status, msgspec.json.decode(body, type=dict[str, Any])
        except (msgspec.MsgspecError, ValueError):
            return status, {}


def _candle(row: list[Any]) -> Candle:
    """Raises ValueError or TypeError for a row that is none."""
    began = dt.datetime.fromisoformat(row[0])
    opened, high, low, close = (float(price) for price in row[1:5])
    if began.tzinfo is None or not 0 < low <= min(opened, close) <= max(opened, close) <= high:
        raise ValueError(row)
    return Candle(int(began.timestamp()) * SECOND, opened, high, low, close, int(row[5]))

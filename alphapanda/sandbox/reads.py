"""Market data by REST: quotes, the instruments file, candles, trigger ranges (Kite docs, quotes and historical)."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import io
from collections.abc import Callable

from alphapanda.events import DAY, IST_OFFSET_NS, MINUTE, ist
from alphapanda.instruments import Instrument
from alphapanda.sandbox.documents import Answer, Document, Refused, ohlc, quote_document
from alphapanda.sandbox.market import Market, Quote

FUND_COLUMNS = (
    "tradingsymbol", "amc", "name", "purchase_allowed", "redemption_allowed", "minimum_purchase_amount",
    "purchase_amount_multiplier", "minimum_additional_purchase_amount", "minimum_redemption_quantity",
    "redemption_quantity_multiplier", "dividend_type", "scheme_type", "plan", "settlement_type", "last_price",
    "last_price_date",
)  # fmt: skip
COLUMNS = (
    "instrument_token", "exchange_token", "tradingsymbol", "name", "last_price", "expiry", "strike", "tick_size",
    "lot_size", "instrument_type", "segment", "exchange",
)  # fmt: skip
SPANS = {  # minutes of a candle, and the days one call may span (kite.trade forum 3105)
    "minute": (1, 60), "3minute": (3, 100), "5minute": (5, 100), "10minute": (10, 100), "15minute": (15, 200),
    "30minute": (30, 200), "60minute": (60, 400), "day": (0, 2000),
}  # fmt: skip
OPENS = 9 * 60 + 15  # minutes after midnight, from which candles of several minutes are counted
QUOTES, PRICES = 500, 1000  # instruments of one call


def quotes(market: Market, keys: list[str], what: str) -> Document:
    """``GET /quote``, ``/quote/ohlc`` or ``/quote/ltp``; unknown keys are silently absent. Raises Refused."""
    most = QUOTES if what == "quote" else PRICES
    if not keys:
        raise Refused("InputException", "Missing or empty field `i`")
    if len(keys) > most:
        raise Refused("InputException", f"Too many tokens requested. Max permitted is {most}.")
    show: Callable[[Quote], Document] = {"quote": quote_document, "ohlc": _ohlc, "ltp": _ltp}[what]
    found = (
        (key, market.symbols.get(key) or market.quotes.get(int(key) if key.isdigit() else -1)) for key in keys
    )
    return {key: show(quote) for key, quote in found if quote is not None}


def _ltp(quote: Quote) -> Document:
    return {"instrument_token": quote.token, "last_price": quote.instrument.rupees(quote.last)}


def _ohlc(quote: Quote) -> Document:
    return _ltp(quote) | {"ohlc": ohlc(quote)}


def trigger_range(market: Market, keys: list[str], side: str) -> Document:
    """``GET /instruments/trigger_range/{side}``: where the stop of a cover order may lie. Raises Refused."""
    if side.upper() not in ("BUY", "SELL"):
        raise Refused("InputException", "Invalid `transaction_type`.")
    low, high = (0.90, 0.9985) if side.upper() == "BUY" else (1.0015, 1.10)
    found = ((key, market.symbols.get(key)) for key in keys)
    return {
        key: {
            "instrument_token": quote.token,
            "lower": quote.instrument.rupees(round(quote.last * low)),
            "upper": quote.instrument.rupees(round(quote.last * high)),
        }
        for key, quote in found
        if quote is not None
    }


# ── the instruments file ─────────────────────────────────────────────────────────────────────────────


def instruments(market: Market, exchange: str = "") -> Answer:
    """``GET /instruments``: gzipped CSV; whole numbers where the client casts with ``int``."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for quote in market.quotes.values():
        if exchange in ("", quote.instrument.exchange):
            writer.writerow(_row(quote.instrument))
    body = gzip.compress(out.getvalue().encode(), mtime=0)
    return Answer(body=body, content_type="text/csv", headers=(("Content-Encoding", "gzip"),))


def funds() -> Answer:
    """``GET /mf/instruments``: a list without a fund, for the account has none either."""
    return Answer(body=(",".join(FUND_COLUMNS) + "\n").encode(), content_type="text/csv")


def _row(of: Instrument) -> tuple[object, ...]:
    segment = "INDICES" if of.kind == "INDEX" else of.exchange
    if of.kind in ("FUT", "CE", "PE"):
        segment = f"{of.exchange}-{'FUT' if of.kind == 'FUT' else 'OPT'}"
    kind = of.kind if of.kind in ("FUT", "CE", "PE") else "EQ"
    expiry = of.expiry.isoformat() if of.expiry else ""
    strike, tick = f"{of.rupees(of.strike):.10g}", f"{of.rupees(of.tick_size):.10g}"
    return (
        of.token, of.token >> 8, of.tradingsymbol, of.name or of.tradingsymbol, 0, expiry, strike, tick, of.lot_size,
        kind, segment, of.exchange,
    )  # fmt: skip


# ── candles ──────────────────────────────────────────────────────────────────────────────────────────


def candles(market: Market, token: str, interval: str, params: dict[str, str]) -> Document:
    """``GET /instruments/historical/{token}/{interval}`` of what the sandbox's market has traded. Raises Refused."""
    quote = market.quotes.get(int(token) if token.isdigit() else -1)
    if quote is None:
        raise Refused("InputException", "invalid token")
    if interval not in SPANS:
        raise Refused("InputException", "invalid interval")
    minutes, days = SPANS[interval]
    start, end = _moment(params.get("from", "")), _moment(params.get("to", ""), whole_day=True)
    if end < start:
        raise Refused("InputException", "from date cannot be after to date")
    if end - start > days * DAY:
        raise Refused("InputException", f"interval exceeds max limit: {days} days")
    if params.get("continuous") == "1" and (interval != "day" or quote.instrument.kind != "FUT"):
        raise Refused("InputException", "invalid interval for continuous data")
    rows: dict[int, list[float]] = {}
    for minute, (opened, high, low, close, volume) in market.candles(quote).items():
        ts = minute * MINUTE
        if not start <= ts <= end:
            continue
        bar = rows.setdefault(_bucket(ts, minutes), [opened, high, low, close, 0])
        bar[1], bar[2], bar[3], bar[4] = max(bar[1], high), min(bar[2], low), close, bar[4] + volume
    oi = [quote.oi] if params.get("oi") == "1" else []
    rupees = quote.instrument.rupees
    return {
        "candles": [
            [
                f"{ist(ts):%Y-%m-%dT%H:%M:%S}+0530",
                *(rupees(int(price)) for price in bar[:4]),
                int(bar[4]),
                *oi,
            ]
            for ts, bar in sorted(rows.items())
        ]
    }


def _bucket(ts: int, minutes: int) -> int:
    """The start of the candle a minute belongs to: midnight IST, or counted from the open."""
    midnight = (ts + IST_OFFSET_NS) // DAY * DAY - IST_OFFSET_NS
    if not minutes:
        return midnight
    opens = midnight + OPENS % minutes * MINUTE
    return opens + (ts - opens) // (minutes * MINUTE) * minutes * MINUTE


def _moment(text: str, *, whole_day: bool = False) -> int:
    """Clock digits read as IST, whatever zone the sender meant (what the real one does). Raises Refused."""
    try:
        naive = dt.datetime.fromisoformat(text)
    except ValueError:
        raise Refused("InputException", "invalid date") from None
    digits = naive.replace(tzinfo=dt.UTC)
    ns = round(digits.timestamp()) * 10**9 - IST_OFFSET_NS
    return ns + (DAY - 1 if whole_day and len(text) == len("2026-11-20") else 0)

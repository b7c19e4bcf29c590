"""Kite's candles as a tape, and its list of instruments as a registry, through the official client.

    tape = ap.kite_candles("NSE:INFY", "2026-10-01", "2026-11-20")     # with the login of `alphapanda login`
    tape = candles(kite, "NSE:INFY", "2026-10-01", "2026-11-20")       # kite: a KiteConnect that is logged in

What the vendor leaves to the caller is done here: spans a call may have (Kite forum 3105), three calls a second (Kite
docs, exceptions), and times: the client sends the clock digits of whatever it is given and Kite reads them as IST, so
digits of IST are what it is given. The newest minute settles late and may be revised (Kite forum 6011), so what belongs
to the current day is asked for again each time; whole past spans are kept where ``cache`` says. Kite adjusts the past
for splits and bonuses: after one, delete the symbol's folder there.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from alphapanda.clock import monotonic, pause, wall_ns
from alphapanda.errors import (
    AuthenticationError,
    ConfigurationError,
    DataError,
    MarketDataError,
    RulebookError,
    UnknownNameError,
    ValidationError,
)
from alphapanda.events import IST, ist
from alphapanda.instruments import Instrument
from alphapanda.registry import Registry
from alphapanda.rulebook import Rulebook
from alphapanda.tapes.readers import read_bars
from alphapanda.tapes.tape import Tape
from alphapanda.workspace import Workspace, replace_file

SPANS = {  # Kite's intervals: ours, and the days that one call may span (Kite forum 3105)
    "minute": ("1m", 60), "3minute": ("3m", 100), "5minute": ("5m", 100), "10minute": ("10m", 100),
    "15minute": ("15m", 200), "30minute": ("30m", 200), "60minute": ("60m", 400), "day": ("1d", 2000),
}  # fmt: skip
GAP = 0.36  # seconds between two calls: three a second, with a margin for the server's second
TRIES = 3  # of a call that was one too many
EPOCH = dt.date(1970, 1, 1)
CSV = (
    "instrument_token", "exchange_token", "tradingsymbol", "name", "last_price", "expiry", "strike", "tick_size",
    "lot_size", "instrument_type", "segment", "exchange",
)  # fmt: skip
NAMED = 5  # days named in a note

Moment = dt.date | dt.datetime | str
Candle = tuple[str, float, float, float, float, int]


class HistoryClient(Protocol):
    """What is used of the official client."""

    def historical_data(
        self, instrument_token: int, from_date: dt.datetime, to_date: dt.datetime, interval: str
    ) -> list[dict[str, Any]]: ...
    def instruments(self, exchange: str | None = None) -> list[dict[str, Any]]: ...


def kite_candles(
    symbol: str,
    start: Moment,
    end: Moment,
    interval: str = "minute",
    *,
    progress: bool = False,
    jumps: str = "",
) -> Tape:
    """Candles of Zerodha as a tape of four ticks a candle, with the login that the settings or `alphapanda login` left.

    Moments are dates (IST days, the last one whole), aware datetimes, or ISO text of either; ``interval`` is minute,
    3minute, 5minute, 10minute, 15minute, 30minute, 60minute or day. Days that are over are kept in the workspace, but
    those of a sandbox. ``progress`` shows a bar; ``jumps`` is ``read_bars``'s. Raises AuthenticationError while nobody
    is logged in, and as ``candles``.
    """
    try:
        from alphapanda.zerodha import secrets, session
    except ImportError as error:
        raise ConfigurationError(
            f"{error.name} is not installed", fix="pip install 'alphapanda[live,kite]'", code="E_EXTRA"
        ) from None
    from alphapanda.feeds.kite_rest import KiteRest
    from alphapanda.settings import Settings

    settings = Settings.load()
    given, token = settings.zerodha, secrets.load_token(settings)
    if given.api_key is None or token is None:
        raise AuthenticationError("nobody is logged in at Zerodha", fix="alphapanda login, or ap.login()")
    rest = KiteRest(given.root_url, given.api_key, given.timeout_seconds)
    told = rest.clock() if rest.local else None
    return candles(
        session.client_of(settings, token),
        symbol,
        start,
        end,
        interval,
        cache=None if rest.local else Workspace.find().home / "candles",
        jumps=jumps,
        now=None if told is None else told.now,
        progress=progress,
    )


def candles(
    kite: HistoryClient,
    symbol: str,
    start: Moment,
    end: Moment,
    interval: str = "minute",
    *,
    registry: Registry | None = None,
    cache: Path | None = None,
    jumps: str = "",
    now: int | None = None,
    rulebook: Rulebook | None = None,
    progress: bool = False,
) -> Tape:
    """The candles of ``start`` to ``end`` as a tape of four ticks a candle; see ``read_bars``.

    Moments are dates (IST days, the last one whole), aware datetimes, or ISO text of either. ``interval`` is one of
    Kite's. ``registry`` is today's instruments, else the client is asked for those of the exchange. ``cache`` is a
    folder. ``jumps`` is ``read_bars``'s policy on prices that leap; left out, they are an error for shares and
    indexes and kept for what may leap. ``now`` (ns) is the time, if not the machine's: a sandbox plays other days.
    ``progress`` shows a bar of the calls.

    Trading days without a candle are named in ``notes``. Raises ValidationError for a naive datetime or an unknown
    interval, UnknownNameError for a symbol that is not listed today, MarketDataError when Kite refuses, DataError
    where there is no candle at all.
    """
    if interval not in SPANS:
        raise UnknownNameError("interval", interval, list(SPANS))
    low, high = _moment(start, last=False), _moment(end, last=True)
    if high <= low:
        raise ValidationError(f"candles from {start} to {end}", fix="give a start that lies before the end")
    listed = registry if registry is not None else instruments(kite, symbol.partition(":")[0])
    instrument = listed[symbol]
    today = ist(wall_ns() if now is None else now).date()
    found: list[Candle] = []
    spans = list(_spans(low.date(), min(high.date(), today), SPANS[interval][1]))
    for first, last in _shown(spans, symbol) if progress else spans:
        found += _kept(kite, instrument, first, last, interval, cache, today)
    chosen = [one for one in found if low <= dt.datetime.fromisoformat(one[0]) < high]
    if not chosen:
        raise DataError(
            f"Kite has no {interval} candles of {symbol} from {low:%Y-%m-%d %H:%M} to {high:%Y-%m-%d %H:%M} IST",
            fix="ask for a trading day on which it was listed",
            symbol=symbol,
        )
    policy = jumps or ("raise" if instrument.kind in ("EQ", "INDEX") else "keep")
    tape = read_bars(
        _frame(chosen, interval),
        symbol=symbol,
        interval=SPANS[interval][0],
        instruments=[instrument],
        off_grid="round",
        jumps=policy,  # pyright: ignore[reportArgumentType]  # read_bars refuses other words
    )
    missing = _missing(instrument, low, min(high, _midnight(today)), chosen, rulebook or Rulebook.load())
    tape.notes = (*tape.notes, f"candles of Kite, {interval}", *missing)
    return tape


def instruments(kite: HistoryClient, exchange: str | None = None) -> Registry:
    """The instruments of today as the official client hands them out; of all exchanges if none is named.

    Raises MarketDataError when Kite refuses, DataError for a list that cannot be read.
    """
    out = io.StringIO(newline="")
    rows: csv.DictWriter[str] = csv.DictWriter(
        out, list[str](CSV), extrasaction="ignore", lineterminator="\n"
    )
    rows.writeheader()
    rows.writerows(_called(lambda: kite.instruments(exchange)))
    return Registry.read(out.getvalue())


# ── calls ────────────────────────────────────────────────────────────────────────────────────────────────


class _Pace:
    """One call after another, ``GAP`` apart, whichever thread makes it: the limit is the api key's."""

    def __init__(self) -> None:
        self._lock, self._next = threading.Lock(), 0.0

    def take(self) -> None:
        with self._lock:
            pause(max(0.0, self._next - monotonic()))
            self._next = monotonic() + GAP


_pace = _Pace()


def _called(ask: Any) -> list[dict[str, Any]]:
    """What a call gives; one that was too many is made again, for it reads. Raises MarketDataError."""
    for attempt in range(TRIES):
        _pace.take()
        try:
            return ask()
        except Exception as error:  # noqa: BLE001 - the client raises a dozen classes, of its own and of requests
            if getattr(error, "code", 0) == 429 and attempt + 1 < TRIES:
                pause(1.0 + attempt)
                continue
            # the text of an error of the client's own; one of requests may hold the address
            said = str(error) if type(error).__module__.startswith("kiteconnect") else ""
            raise MarketDataError(
                f"Kite did not answer: {type(error).__name__} {said}".rstrip(),
                fix="`alphapanda login` if the token is dead; candles need the Connect plan",
            ) from None
    raise AssertionError  # the last attempt returns or raises


def _kept(
    kite: HistoryClient,
    instrument: Instrument,
    first: dt.date,
    last: dt.date,
    interval: str,
    cache: Path | None,
    today: dt.date,
) -> list[Candle]:
    """The candles of whole days: the kept ones, or Kite's."""
    place = None
    if cache is not None and last < today:
        place = (
            cache / instrument.symbol.replace(":", "_").replace("/", "_") / interval / f"{first}_{last}.json"
        )
        if place.exists():
            try:
                return msgspec.json.decode(place.read_bytes(), type=list[Candle])
            except msgspec.DecodeError:
                place.unlink()  # cut short by a power failure, or edited: asked for again
    start = dt.datetime.combine(first, dt.time())
    end = dt.datetime.combine(last, dt.time(23, 59, 59))
    rows = _called(lambda: kite.historical_data(instrument.token, start, end, interval))
    found = [_candle(row) for row in rows]
    if place is not None:
        place.parent.mkdir(parents=True, exist_ok=True)
        replace_file(place, msgspec.json.encode(found))
    return found


def _candle(row: Mapping[str, Any]) -> Candle:
    moment = row["date"]
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=IST)
    prices = (float(row[name]) for name in ("open", "high", "low", "close"))
    return (zoned.astimezone(IST).isoformat(), *prices, int(row["volume"]))  # pyright: ignore[reportReturnType]  # four prices


def _spans(first: dt.date, last: dt.date, days: int) -> Iterator[tuple[dt.date, dt.date]]:
    """Whole spans of a grid that does not depend on who asks, so that two requests share what is kept; the one that
    holds ``last`` ends there."""
    number = (first - EPOCH).days // days
    while (opens := EPOCH + dt.timedelta(number * days)) <= last:
        yield opens, min(opens + dt.timedelta(days - 1), last)
        number += 1


def _shown(spans: list[tuple[dt.date, dt.date]], symbol: str) -> Iterator[tuple[dt.date, dt.date]]:
    from tqdm.auto import tqdm

    with tqdm(total=len(spans), desc=symbol, unit=" calls", leave=False) as bar:
        for span in spans:
            yield span
            bar.update()


# ── times and gaps ───────────────────────────────────────────────────────────────────────────────────────


def _moment(value: Moment, *, last: bool) -> dt.datetime:
    """IST; a day as the end means the end of it."""
    given = value
    if isinstance(value, str):
        try:
            value = dt.date.fromisoformat(value) if len(value) <= 10 else dt.datetime.fromisoformat(value)
        except ValueError:
            raise ValidationError(f"{given!r} is no ISO date or time", fix='write "2026-11-20"') from None
    if not isinstance(value, dt.datetime):
        return _midnight(value + dt.timedelta(1) if last else value)
    if value.tzinfo is None:
        raise ValidationError(
            f"{given!r} has no time zone", fix='write "2026-11-20T09:15:00+05:30", or a date'
        )
    return value.astimezone(IST)


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), IST)


def _frame(rows: Sequence[Candle], interval: str) -> Any:
    """The candles as read_bars takes them: days by their date, others by their start."""
    import polars as pl

    moments = [dt.datetime.fromisoformat(row[0]) for row in rows]
    times = [one.date() for one in moments] if interval == "day" else moments
    columns = {
        n: [row[at] for row in rows] for at, n in enumerate(("open", "high", "low", "close", "volume"), 1)
    }
    return pl.DataFrame({"ts": times, **columns})


def _missing(
    instrument: Instrument, low: dt.datetime, high: dt.datetime, rows: Sequence[Candle], rulebook: Rulebook
) -> list[str]:
    """A note of the trading days before today without a candle; of what no table covers nothing is known."""
    have = {dt.datetime.fromisoformat(row[0]).date() for row in rows}
    lacking: list[str] = []
    day, unknown = low.date(), 0
    while _midnight(day) < high:
        try:
            open_day = rulebook.session(instrument, day) is not None
        except RulebookError:
            open_day, unknown = False, unknown + 1
        if open_day and day not in have:
            lacking.append(str(day))
        day += dt.timedelta(1)
    notes: list[str] = []
    if lacking:
        more = f" and {len(lacking) - NAMED} more" if len(lacking) > NAMED else ""
        notes.append(f"no candles on {len(lacking)} trading days: {', '.join(lacking[:NAMED])}{more}")
    if unknown:
        notes.append(f"{unknown} days were not checked for gaps: no rules cover them")
    return notes

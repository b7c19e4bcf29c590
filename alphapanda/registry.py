"""Which instruments exist: Kite's daily instruments CSV, and what a symbol alone tells when there is no CSV.

``Registry`` is the authority: it holds what the broker listed on one day. ``default_instrument`` reads a symbol such as
``NFO:NIFTY26N2424000CE`` by Kite's naming rules; what a name cannot tell (lot, tick, holiday-shifted expiry) is taken
from the rulebook where it knows, and is an approximation otherwise. Pass a registry where it matters.
"""

from __future__ import annotations

import calendar
import contextlib
import csv
import datetime as dt
import gzip
import io
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

import msgspec

from alphapanda.errors import AlphaPandaException, DataError, UnknownNameError, ValidationError
from alphapanda.instruments import CURRENCY, PRICE_SCALE, Instrument, Kind

COLUMNS = (
    "instrument_token", "exchange_token", "tradingsymbol", "name", "last_price", "expiry",
    "strike", "tick_size", "lot_size", "instrument_type", "segment", "exchange",
)  # fmt: skip
USED = (
    "instrument_token",
    "tradingsymbol",
    "expiry",
    "strike",
    "tick_size",
    "lot_size",
    "instrument_type",
    "exchange",
)
EXCHANGES = (
    "NSE",
    "BSE",
    "NFO",
    "BFO",
    "CDS",
    "BCD",
    "MCX",
    "NCO",
)  # also the order in which a bare name is looked up
DERIVATIVES = ("NFO", "BFO", "CDS", "BCD", "MCX", "NCO")
CRYPTO = ("BINANCE",)
UNKNOWN_TICK = {
    "CDS": 25_000,
    "BCD": 25,
}  # units, where the CSV says 0 (0.0025 rupees); others 5 (0.05 rupees)

INDEXES = {
    "NSE": (
        "NIFTY 50", "NIFTY BANK", "NIFTY NEXT 50", "NIFTY 100", "NIFTY 200", "NIFTY 500", "NIFTY FIN SERVICE",
        "NIFTY MID SELECT", "NIFTY MIDCAP 50", "NIFTY MIDCAP 100", "NIFTY MIDCAP 150", "NIFTY SMLCAP 50",
        "NIFTY SMLCAP 100", "NIFTY SMLCAP 250", "NIFTY LARGEMID250", "NIFTY AUTO", "NIFTY COMMODITIES",
        "NIFTY CONSUMPTION", "NIFTY CPSE", "NIFTY ENERGY", "NIFTY FMCG", "NIFTY HEALTHCARE", "NIFTY INFRA", "NIFTY IT",
        "NIFTY MEDIA", "NIFTY METAL", "NIFTY MNC", "NIFTY PHARMA", "NIFTY PSE", "NIFTY PSU BANK", "NIFTY PVT BANK",
        "NIFTY REALTY", "NIFTY SERV SECTOR", "NIFTY OIL AND GAS", "NIFTY CONSR DURBL", "NIFTY ALPHA 50",
        "NIFTY DIV OPPS 50", "NIFTY50 VALUE 20", "NIFTY100 QUALTY30", "NIFTY100 LOWVOL30", "HANGSENG BEES-NAV",
        "INDIA VIX",
    ),
    "BSE": ("SENSEX", "SENSEX50", "BANKEX", "BSE100", "BSE200", "BSE500", "SNSX50", "MIDCAP", "SMLCAP", "ALLCAP"),
}  # fmt: skip
# units of the underlying in one lot; neither the CSV nor the symbol says it, an Instrument of your own overrides it
CONTRACT_SIZES = {
    "CDS": {"USDINR": 1000, "EURINR": 1000, "GBPINR": 1000, "JPYINR": 1000, "EURUSD": 1000, "GBPUSD": 1000},
    "BCD": {"USDINR": 1000, "EURINR": 1000, "GBPINR": 1000, "JPYINR": 1000},
    "MCX": {
        "GOLD": 100, "GOLDM": 10, "GOLDTEN": 1, "GOLDGUINEA": 1, "GOLDPETAL": 1, "SILVER": 30, "SILVERM": 5,
        "SILVERMIC": 1, "CRUDEOIL": 100, "CRUDEOILM": 10, "NATURALGAS": 1250, "NATGASMINI": 250, "COPPER": 2500,
        "ZINC": 5000, "ZINCMINI": 1000, "LEAD": 5000, "LEADMINI": 1000, "ALUMINIUM": 5000, "ALUMINI": 1000,
    },
}  # fmt: skip

MONTHS = {name.upper(): number for number, name in enumerate(calendar.month_abbr) if name}
WEEKLY_MONTHS = {**{str(n): n for n in range(1, 10)}, "O": 10, "N": 11, "D": 12}
_TAIL = r"(?:(?P<strike>\d+(?:\.\d+)?)(?P<right>CE|PE)|FUT)"
MONTHLY = re.compile(rf"(?P<name>.+?)(?P<year>\d\d)(?P<month>{'|'.join(MONTHS)}){_TAIL}")
WEEKLY = re.compile(rf"(?P<name>.+?)(?P<year>\d\d)(?P<month>[1-9OND])(?P<day>\d\d){_TAIL}")


class Contract(msgspec.Struct, frozen=True):
    """What Kite's tradingsymbol of a derivative says. ``exact`` is False where ``expiry`` is worked out by rule."""

    name: str
    kind: Kind
    expiry: dt.date
    exact: bool
    strike: str


class Registry:
    """The instruments of one day, by ``EXCHANGE:TRADINGSYMBOL``.

    ``Registry.read`` takes Kite's CSV; ``Registry(instruments)`` takes instruments of your own. Where several rows
    have one symbol the last wins in the second form and raises in the first.
    """

    def __init__(self, instruments: Iterable[Instrument] = (), *, source: str = "registry") -> None:
        self._by_symbol = {i.symbol: i for i in instruments}
        self.source = source

    @classmethod
    def read(cls, source: str | Path) -> Registry:
        """Kite's instruments CSV: a path (plain or .gz) or the text itself.

        Prices become units of the exchange's scale; segment INDICES becomes kind INDEX and not tradable; a tick size of
        0 becomes the exchange's usual one; ``in_fo`` is set on cash stocks with derivatives in the same file. Extra
        columns are ignored: the broker adds some now and then. Raises DataError naming file, row and column.
        """
        text, name = _text(source)
        reader = csv.reader(io.StringIO(text, newline=""))
        header = [h.strip() for h in next(reader, list[str]())]
        missing = [c for c in USED if c not in header]
        if missing:
            raise DataError(
                f"{name}: no column {missing[0]!r} in the header {','.join(header)[:120]!r}",
                fix=f"pass Kite's instruments CSV: {','.join(COLUMNS)}",
                file=name,
                column=missing[0],
            )
        position = {c: header.index(c) for c in COLUMNS if c in header}
        found: dict[str, Instrument] = {}
        underlyings: set[str] = set()
        for row, fields in enumerate(reader, start=1):
            if not any(fields):
                continue
            if len(fields) != len(header):
                _malformed(
                    name,
                    row,
                    header[min(len(fields), len(header) - 1)],
                    f"{len(fields)} fields",
                    f"{len(header)} of them",
                )
            instrument = _instrument({c: fields[n].strip() for c, n in position.items()}, name, row)
            if instrument.symbol in found:
                _malformed(name, row, "tradingsymbol", instrument.symbol, "each symbol once")
            found[instrument.symbol] = instrument
            if instrument.exchange in ("NFO", "BFO"):
                underlyings.add(instrument.name)
        if not found:
            raise DataError(
                f"{name}: no instruments in the file", fix="download it again after 08:30 IST", file=name
            )
        for symbol, instrument in found.items():
            if instrument.kind == "EQ" and instrument.tradingsymbol in underlyings:
                found[symbol] = msgspec.structs.replace(instrument, in_fo=True)
        return cls(found.values(), source=name)

    @property
    def symbols(self) -> tuple[str, ...]:
        """Every symbol, in the order of the file."""
        return tuple(self._by_symbol)

    def __len__(self) -> int:
        return len(self._by_symbol)

    def __iter__(self) -> Iterator[Instrument]:
        return iter(self._by_symbol.values())

    def __contains__(self, symbol: object) -> bool:
        return symbol in self._by_symbol

    def __getitem__(self, symbol: str) -> Instrument:
        return self.find(symbol) if ":" in symbol else self._unknown(symbol)

    def __repr__(self) -> str:
        return f"Registry({self.source}; {len(self):,} instruments)"

    def find(self, name: str, day: dt.date | None = None) -> Instrument:
        """The instrument called ``name``: a full symbol, or a tradingsymbol alone (NSE before BSE before NFO ...).

        With ``day`` a contract that expired before it raises DataError. Raises UnknownNameError ("did you mean").
        """
        if ":" in name:
            found = self._by_symbol.get(name)
        else:
            found = next((i for e in EXCHANGES if (i := self._by_symbol.get(f"{e}:{name}"))), None)
        if found is None:
            self._unknown(name)
        if day is not None and found.expiry is not None and found.expiry < day:
            raise DataError(
                f"{found.symbol} expired on {found.expiry}, before {day}",
                fix="pick a later contract, or an instruments file of that time",
                code="E_EXPIRED",
                symbol=found.symbol,
                expiry=found.expiry,
            )
        return found

    def _unknown(self, name: str) -> NoReturn:
        """Compares with names that start alike only: a full dump has more than a hundred thousand."""
        exchange, colon, rest = name.rpartition(":")
        known = [s for s in self._by_symbol if not colon or s.startswith(f"{exchange}:")] or list(
            self._by_symbol
        )
        if f"NSE:{rest}" in self._by_symbol or f"BSE:{rest}" in self._by_symbol:
            known = [s for s in self._by_symbol if s.endswith(f":{rest}")]
        if len(known) > 5000:
            known = [s for s in known if s.partition(":")[2][:2] == rest[:2]] or known[:5000]
        if not colon:  # a bare name is compared with bare names, but the answer can be typed as it stands
            ranked = sorted(
                known, key=lambda s: -_rank(s)
            )  # the first exchange of EXCHANGES is written last and wins
            bare = {s.partition(":")[2]: s for s in ranked}
            close = UnknownNameError("symbol", name, bare).nearest
            fix = (
                f"did you mean {bare[close]!r}?"
                if close
                else "write EXCHANGE:TRADINGSYMBOL, such as NSE:INFY"
            )
            error = UnknownNameError("symbol", name, bare, registry=self.source, fix=fix)
            error.nearest = bare[close] if close else None
            raise error
        raise UnknownNameError("symbol", name, known, registry=self.source)


def _rank(symbol: str) -> int:
    exchange = symbol.partition(":")[0]
    return EXCHANGES.index(exchange) if exchange in EXCHANGES else len(EXCHANGES)


def _text(source: str | Path) -> tuple[str, str]:
    if isinstance(source, str) and "\n" in source:
        return source, "instruments text"
    path = Path(source)
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        return data.decode("utf-8-sig"), str(path)
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file", fix="pass the path of Kite's instruments CSV", file=str(path)
        ) from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read as UTF-8 text, plain or gzip ({error})",
            fix="download it again",
            file=str(path),
        ) from None


def _malformed(file: str, row: int, column: str, value: str, wanted: str) -> NoReturn:
    raise DataError(
        f"{file}: row {row} (line {row + 1}), column {column!r}: {value!r} where {wanted} belongs",
        fix="download the file again, or correct the row",
        file=file,
        row=row,
        line=row + 1,
        column=column,
        value=value,
    )


def _whole(fields: dict[str, str], column: str, scale: int, file: str, row: int) -> int:
    """A number of the CSV times ``scale`` as a whole number >= 0."""
    text = fields[column]
    try:
        value = float(text or 0) * scale
        units = round(value)
    except (ValueError, OverflowError):
        _malformed(file, row, column, text, "a number")
    if units < 0 or abs(value - units) > 1e-6 * max(1.0, value * 1e-6):
        _malformed(file, row, column, text, f"a multiple of {1 / scale:.10g}, not negative,")
    return units


def _instrument(fields: dict[str, str], file: str, row: int) -> Instrument:
    exchange, symbol, kind = fields["exchange"], fields["tradingsymbol"], fields["instrument_type"]
    for column, text in (("exchange", exchange), ("tradingsymbol", symbol)):
        if not text:
            _malformed(file, row, column, text, "a name")
    if kind != "EQ" and kind != "FUT" and kind != "CE" and kind != "PE":
        _malformed(file, row, "instrument_type", kind, "one of EQ, FUT, CE, PE")
    scale = PRICE_SCALE.get(exchange, 100)
    index = fields.get("segment") == "INDICES"
    expiry = None
    if fields["expiry"]:
        try:
            expiry = dt.date.fromisoformat(fields["expiry"])
        except ValueError:
            _malformed(file, row, "expiry", fields["expiry"], "a date such as 2026-11-24")
    elif kind in ("FUT", "CE", "PE"):
        _malformed(file, row, "expiry", "", "the expiry of a derivative")
    name = fields.get("name", "")
    if kind in ("FUT", "CE", "PE") and not name:
        contract = parse_contract(symbol, exchange)
        name = contract.name if contract else ""
    lot = _whole(fields, "lot_size", 1, file, row)
    if not lot and not index:
        _malformed(file, row, "lot_size", fields["lot_size"], "a lot of at least 1")
    return Instrument(
        symbol=f"{exchange}:{symbol}",
        exchange=exchange,
        kind="INDEX" if index else kind,
        name=name,
        token=_whole(fields, "instrument_token", 1, file, row),
        tick_size=_whole(fields, "tick_size", scale, file, row) or UNKNOWN_TICK.get(exchange, 5),
        lot_size=lot or 1,
        price_scale=scale,
        multiplier=CONTRACT_SIZES.get(exchange, {}).get(name, 1),
        expiry=expiry,
        strike=_whole(fields, "strike", scale, file, row),
        circuit=20.0 if kind == "EQ" and not index else 0.0,
        tradable=not index,
    )


# ── without a registry ───────────────────────────────────────────────────────────────────────────────────────────────


def default_instrument(symbol: str, day: dt.date | None = None, price: float | None = None) -> Instrument:
    """What ``symbol`` stands for when no registry is at hand.

    ``NSE:INFY`` is a share; well-known index names (``NSE:NIFTY 50``, ``BSE:SENSEX``, ``NSE:INDIA VIX``) are indexes,
    not tradable, on a grid of 0.01; NFO, BFO, CDS, BCD and MCX names are read by Kite's rules (``NIFTY26NOVFUT``,
    ``NIFTY26NOV24000CE``, weekly ``NIFTY26N2424000CE``); ``BINANCE:BTCUSDT`` is a coin counted in 1e-8, and any other
    name on CDS or BCD a spot rate, not tradable.

    ``day`` (the trading day) and ``price`` (rupees) choose lot and tick from the rulebook where it knows them;
    otherwise the lot is 1 and the tick 0.05. A monthly expiry is worked out by rule (last Tuesday on NFO since
    September 2025, last Thursday before; BFO: last Thursday since September 2025, last Tuesday in 2025, last Friday
    before; CDS: two working days before the month's last; MCX: the month's end) and ignores holidays.

    Raises ValidationError for a name without an exchange, with an unknown one, or of a contract that cannot be read.
    """
    exchange, colon, name = symbol.partition(":")
    if not colon:
        venue = next((e for e, names in INDEXES.items() if symbol in names), "NSE")
        raise ValidationError(
            f"symbol {symbol!r} names no exchange",
            fix=f"write {venue}:{symbol}",
            code="E_SYMBOL",
            symbol=symbol,
        )
    if not name or name != name.strip():
        raise ValidationError(
            f"symbol {symbol!r} is not EXCHANGE:TRADINGSYMBOL",
            fix="write NSE:INFY",
            code="E_SYMBOL",
            symbol=symbol,
        )
    if exchange in CRYPTO:
        return Instrument(
            symbol=symbol,
            exchange=exchange,
            kind="SPOT",
            name=name,
            tick_size=1,
            quantity_scale=10**8,
            circuit=0.0,
        )
    if exchange not in EXCHANGES:
        raise UnknownNameError("exchange", exchange, (*EXCHANGES, *CRYPTO), symbol=symbol)
    if name in INDEXES.get(exchange, ()):
        return Instrument(
            symbol=symbol,
            exchange=exchange,
            kind="INDEX",
            name=name,
            tick_size=1,
            circuit=0.0,
            tradable=False,
        )
    if exchange in DERIVATIVES:
        return _derivative(symbol, exchange, name, day, price)
    return _by_rulebook(Instrument(symbol=symbol, exchange=exchange, name=name), day, price)


def _derivative(
    symbol: str, exchange: str, name: str, day: dt.date | None, price: float | None
) -> Instrument:
    scale = PRICE_SCALE.get(exchange, 100)
    contract = parse_contract(name, exchange)
    if contract is None:
        if exchange in CURRENCY:
            return Instrument(
                symbol=symbol, exchange=exchange, kind="SPOT", name=name, tick_size=1, price_scale=scale,
                circuit=0.0, tradable=False,
            )  # fmt: skip
        raise ValidationError(
            f"symbol {symbol!r} is no future or option as Kite writes them",
            fix=f"write {exchange}:NIFTY26NOVFUT, {exchange}:NIFTY26NOV24000CE or weekly {exchange}:NIFTY26N2424000CE",
            code="E_SYMBOL",
            symbol=symbol,
        )
    instrument = Instrument(
        symbol=symbol,
        exchange=exchange,
        kind=contract.kind,
        name=contract.name,
        tick_size=UNKNOWN_TICK.get(exchange, 5),
        price_scale=scale,
        multiplier=CONTRACT_SIZES.get(exchange, {}).get(contract.name, 1),
        expiry=contract.expiry,
        strike=round(float(contract.strike or 0) * scale),
        circuit=0.0,
    )
    return _by_rulebook(instrument, day, price)


def _by_rulebook(instrument: Instrument, day: dt.date | None, price: float | None) -> Instrument:
    """The instrument with the lot and tick of that day and price, where the rulebook has them."""
    if day is None:
        return instrument
    from alphapanda.rulebook import Rulebook

    book = Rulebook.load()
    lot, tick = instrument.lot_size, instrument.tick_size
    with contextlib.suppress(AlphaPandaException):  # a day it does not cover stops the run, not the reader
        if instrument.exchange in ("NFO", "BFO"):
            lot = book.lot_size(instrument.name, instrument.exchange, day) or lot
        if price is not None and math.isfinite(price):
            tick = book.tick_size(instrument, round(price * instrument.price_scale), day)
    return msgspec.structs.replace(instrument, lot_size=lot, tick_size=tick)


def parse_contract(tradingsymbol: str, exchange: str = "NFO") -> Contract | None:
    """Kite's tradingsymbol of a derivative taken apart; None when it is none, or names a day that does not exist.

    Weekly: name, yy, month (1-9, O, N, D), dd, then strike and CE/PE or FUT; monthly: name, yy, MON, the same tail.
    """
    for pattern in (MONTHLY, WEEKLY):
        found = pattern.fullmatch(tradingsymbol)
        if found is None:
            continue
        year = 2000 + int(found["year"])
        exact = pattern is WEEKLY
        try:
            if exact:
                expiry = dt.date(year, WEEKLY_MONTHS[found["month"]], int(found["day"]))
            else:
                expiry = monthly_expiry(year, MONTHS[found["month"]], exchange)
        except ValueError:
            continue
        kind: Kind = "FUT" if found["right"] is None else "CE" if found["right"] == "CE" else "PE"
        return Contract(found["name"], kind, expiry, exact, found["strike"] or "")
    return None


def monthly_expiry(year: int, month: int, exchange: str = "NFO") -> dt.date:
    """The monthly expiry by rule, holidays ignored; see ``default_instrument``."""
    last = dt.date(year, month, calendar.monthrange(year, month)[1])
    if exchange in CURRENCY:
        working = [d for n in range(10) if (d := last - dt.timedelta(days=n)).weekday() < 5]
        return working[2]
    if exchange in ("MCX", "NCO"):
        return last
    since_september_2025 = (year, month) >= (2025, 9)
    if exchange == "BFO":
        weekday = (
            calendar.THURSDAY
            if since_september_2025
            else calendar.TUESDAY
            if year == 2025
            else calendar.FRIDAY
        )
    else:
        weekday = calendar.TUESDAY if since_september_2025 else calendar.THURSDAY
    return last - dt.timedelta(days=(last.weekday() - weekday) % 7)

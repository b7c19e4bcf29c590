"""The rules of the Indian markets, as dated data: when they trade, what they charge, what they accept.

The data are the CSV files beside this module, one table a file. Every row says from which day to which day
it holds (both inclusive, an empty ``to`` means until further notice), its ``source``, and its ``status``:
confirmed, or unconfirmed with a ``note`` that says what is open. In each table some columns identify a rule
(``TABLES``); of the rows of one rule that cover a day, **the last one wins**. That is all there is to
overriding: rows of your own, in files of the same names and columns, come after the shipped ones
(``Rulebook.load("my-rules")``).

Nothing is guessed: a day outside ``calendars.csv``, or a charge without a row, raises RulebookError.
Reading the files is the only I/O here; there is no clock. Answers are remembered by segment and day.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

import msgspec

from alphapanda.charges import ChargeRates
from alphapanda.errors import DataError, RulebookError, UnknownNameError
from alphapanda.events import DAY, IST_OFFSET_NS, MINUTE
from alphapanda.instruments import CURRENCY, Instrument
from alphapanda.money import divide
from alphapanda.rulebook.rows import TABLES, Row, laid_over, shipped

CALENDARS = {"NSE": "equity", "BSE": "equity", "NFO": "equity", "BFO": "equity"} | {
    "CDS": "currency", "BCD": "currency", "MCX": "commodity", "NCO": "commodity"
}  # fmt: skip
VENUES = {"NFO": "NSE", "CDS": "NSE", "BFO": "BSE", "BCD": "BSE"}  # the exchange behind a segment
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
EVENING = 17 * 60  # minutes after midnight at which the evening session of MCX begins
EPOCH = dt.date(1970, 1, 1)
EXTEND = (
    "put rows for it into {files} (same columns as the shipped files) in a folder of your own "
    "and load it: Rulebook.load('that folder')"
)

Phase = tuple[str, int, int]  # name, opens, closes; nanoseconds UTC


class SessionTimes(msgspec.Struct, frozen=True):
    """One trading day of one segment: its phases in order, in nanoseconds UTC.

    A phase includes its first instant and not its last. Phases are preopen, continuous, closing_auction,
    post_close; a halt leaves two continuous ones. ``name`` is set on special days ("Diwali Muhurat trading").
    """

    day: dt.date
    segment: str
    phases: tuple[Phase, ...]
    name: str = ""

    @property
    def open_ns(self) -> int:
        """Continuous trading begins."""
        return min(opens for name, opens, _ in self.phases if name == "continuous")

    @property
    def close_ns(self) -> int:
        """Continuous trading ends."""
        return max(closes for name, _, closes in self.phases if name == "continuous")

    def phase_at(self, ts: int) -> str:
        """The phase in force at ``ts``, or "closed"."""
        return next((name for name, opens, closes in self.phases if opens <= ts < closes), "closed")


class SquareOff(msgspec.Struct, frozen=True):
    """When the broker stops taking intraday entries, when it closes the rest, and its fee an order."""

    entry_cutoff_ns: int
    square_off_ns: int
    fee_paise: int
    gst_paise: int


class Rulebook:
    """Answers by instrument and day. Make one with ``Rulebook.load``."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = tuple(rows)
        self._rules: dict[str, dict[tuple[str, ...], list[Row]]] = {table: {} for table in TABLES}
        for row in self._rows:
            self._rules[row.table].setdefault(row.key, []).append(row)
        self._sessions: dict[tuple[str, str, dt.date], SessionTimes | None] = {}
        self._charges: dict[tuple[str, str, dt.date], ChargeRates] = {}
        self._bands: dict[tuple[str, str, dt.date, int], list[tuple[Decimal, bool, int]]] = {}

    @classmethod
    def load(cls, overrides: str | Path | None = None) -> Rulebook:
        """The shipped rulebook, with your own file (named like a table) or folder of files laid over it."""
        own = laid_over(Path(overrides)) if overrides is not None else []
        return cls((*shipped(), *own))

    @functools.cached_property
    def version(self) -> str:
        """Twelve hex digits over every row: runs of equal version had equal rules."""
        rows = [msgspec.structs.replace(row, where="") for row in self._rows]
        return hashlib.sha256(msgspec.json.encode(rows, order="deterministic")).hexdigest()[:12]

    # ── days ─────────────────────────────────────────────────────────────────────────────────────

    def session(self, instrument: Instrument, day: dt.date) -> SessionTimes | None:
        """The day's timetable, or None on a weekend or holiday; special sessions come first."""
        self._covered(instrument, day)
        market = self._market(instrument, day)
        key = market, _venue(instrument), day
        if key not in self._sessions:
            self._sessions[key] = self._timetable(*key)
        return self._sessions[key]

    def why_closed(self, instrument: Instrument, day: dt.date) -> str:
        """The holiday's name or the weekday of the weekend; "" on a trading day."""
        if self.session(instrument, day) is not None:
            return ""
        holiday = self._holiday(self._market(instrument, day), day)
        if holiday is None:
            return f"{WEEKDAYS[day.weekday()]}, weekend"
        suffix = "" if holiday.facts["open"] == "closed" else f" ({holiday.facts['open']} session only)"
        return holiday.facts["name"] + suffix

    def trading_days(self, instrument: Instrument, start: dt.date, end: dt.date) -> list[dt.date]:
        """The days from ``start`` to ``end``, both included, on which the instrument has a session."""
        days = (start + dt.timedelta(days=n) for n in range((end - start).days + 1))
        return [day for day in days if self.session(instrument, day) is not None]

    def _timetable(self, market: str, venue: str, day: dt.date) -> SessionTimes | None:
        special = self._special(market, venue, day)
        if special is not None:
            return SessionTimes(day, market, _phases(special, day), special.facts["name"])
        holiday = self._holiday(market, day)
        state = holiday.facts["open"] if holiday else "open"
        if state == "closed" or (day.weekday() >= 5 and market != "spot" and holiday is None):
            return None
        row = self._find("sessions", day, (market,))
        if row is None:
            raise RulebookError(
                f"no session times for {market} on {day}", fix=EXTEND.format(files="sessions.csv"), day=day
            )
        phases = _phases(row, day)
        split = _ns(day, EVENING)
        if state == "evening":
            phases = tuple((name, max(a, split), b) for name, a, b in phases if b > split)
        elif state == "morning":
            phases = tuple((name, a, min(b, split)) for name, a, b in phases if a < split)
        return SessionTimes(day, market, phases) if phases else None

    def _holiday(self, market: str, day: dt.date) -> Row | None:
        if market == "spot":
            return None
        calendar = market.partition("_")[0]
        calendar = calendar if calendar in ("currency", "commodity") else "equity"
        keys = [(calendar,), ("equity",)] if calendar == "currency" else [(calendar,)]
        return self._find("holidays", day, *keys)

    def _covered(self, instrument: Instrument, day: dt.date) -> None:
        if instrument.kind != "SPOT":
            self._covers(instrument.exchange, day)

    def _covers(self, exchange: str, day: dt.date) -> None:
        calendar = CALENDARS.get(exchange)
        if calendar is None:
            raise RulebookError(
                f"the rulebook has no exchange {exchange!r}",
                fix=f"use one of {', '.join(CALENDARS)}, or kind='SPOT' for a market without sessions",
            )
        if self._find("calendars", day, (calendar,)) is None:
            known = self._rules["calendars"].get((calendar,), [])
            span = f"{min(r.start for r in known)} to {max(r.end for r in known)}" if known else "no day"
            raise RulebookError(
                f"{day} is outside the rulebook: the {calendar} calendar covers {span}",
                fix=EXTEND.format(files="calendars.csv, holidays.csv and special_sessions.csv"),
                day=day,
                calendar=calendar,
            )

    # ── products and charges ─────────────────────────────────────────────────────────────────────

    def products(self, instrument: Instrument) -> tuple[str, ...]:
        """The products an order may name; none for an index."""
        row = self._product_row(instrument)
        return tuple(row.facts["products"].split()) if row else ()

    def short_allowed(self, instrument: Instrument, product: str) -> bool:
        """Whether ``product`` may be sold without holding it."""
        row = self._product_row(instrument)
        return row is not None and product in row.facts["short"].split()

    def square_off(self, instrument: Instrument, product: str, day: dt.date) -> SquareOff | None:
        """The broker's intraday cut-off; None for other products, on closed days and where there is none."""
        session = self.session(instrument, day)
        row = self._find("square_off", day, (self._market(instrument, day),))
        if product != "MIS" or session is None or row is None:
            return None
        special = "special_minutes" if session.name else ""  # a special session may end at any hour
        entry, leave = (int(row.facts[special or column]) for column in ("entry_minutes", "exit_minutes"))
        fee = row.paise("fee_rupees")
        return SquareOff(
            entry_cutoff_ns=session.close_ns - entry * MINUTE,
            square_off_ns=session.close_ns - leave * MINUTE,
            fee_paise=fee,
            gst_paise=divide(fee * self.charges(instrument, product, day).gst, 100),
        )

    def charges(self, instrument: Instrument, product: str, day: dt.date) -> ChargeRates:
        """The rates for orders of ``product`` on ``day``."""
        self._covered(instrument, day)
        known = self.products(instrument)
        if not known:
            raise RulebookError(
                f"{instrument.symbol} cannot be traded, so it has no charges",
                fix="trade a future, an option or a fund on it",
            )
        if product not in known:
            raise UnknownNameError(f"product for {instrument.symbol}", product, known)
        key = self._class(instrument, product, day), _venue(instrument), day
        if key not in self._charges:
            self._charges[key] = self._rates(*key)
        return self._charges[key]

    def _rates(self, klass: str, venue: str, day: dt.date) -> ChargeRates:
        def row(kind: str) -> Row:
            found = self._charge(kind, klass, venue, day)
            if found is None:
                raise RulebookError(
                    f"no {kind} rate for {klass} on {venue} on {day}",
                    fix=EXTEND.format(files="charges.csv"),
                    day=day,
                )
            return found

        brokerage, tax, stamp = row("brokerage"), row("tax"), row("stamp")
        return ChargeRates(
            brokerage=brokerage.rate(),
            brokerage_cap=brokerage.paise("cap_rupees"),
            brokerage_flat=brokerage.paise("flat_rupees"),
            tax_buy=tax.ppb("buy_percent"),
            tax_sell=tax.ppb("sell_percent"),
            exchange=row("exchange").rate(),
            ipft=row("ipft").rate(),
            sebi=row("sebi").rate(),
            stamp_buy=stamp.ppb("buy_percent"),
            stamp_sell=stamp.ppb("sell_percent"),
            gst=row("gst").whole_percent(),
            gst_sebi=row("gst_sebi").whole_percent(),
            dp_paise=row("dp").paise("flat_rupees"),
            tax_name="ctt" if venue in ("MCX", "NCO") else "stt",
        )

    def _product_row(self, instrument: Instrument) -> Row | None:
        if instrument.kind == "INDEX" or not instrument.tradable:
            return None
        return self._find("products", dt.date.max, (self._market(instrument, dt.date.max),))

    def _class(self, instrument: Instrument, product: str, day: dt.date) -> str:
        market = self._market(instrument, day)
        if market == "spot":
            return market
        if instrument.kind == "EQ":
            return "equity_intraday" if product == "MIS" else "equity_delivery"
        if market.startswith("commodity_agri") and instrument.kind == "FUT":
            return "agri_futures"
        side = "futures" if instrument.kind == "FUT" else "options"
        return f"{CALENDARS[instrument.exchange]}_{side}"

    # ── sizes and steps ──────────────────────────────────────────────────────────────────────────

    def lot_size(self, name: str, exchange: str, day: dt.date) -> int | None:
        """The lot of the nearest contracts on an underlying; None if not on record (the CSV knows)."""
        self._covers(exchange, day)
        row = self._find("lots", day, (exchange, name))
        return int(row.facts["lot"]) if row else None

    def freeze_quantity(self, instrument: Instrument, day: dt.date) -> int | None:
        """The largest quantity of one order, itself allowed; None where no limit is on record."""
        self._covered(instrument, day)
        row = self._freeze(instrument, day)
        return int(row.facts["quantity"]) if row else None

    def tick_size(self, instrument: Instrument, price_units: int, day: dt.date) -> int:
        """The price step, in price units, at a price; the instrument's own where no band is on record."""
        self._covered(instrument, day)
        contract = self._contract(instrument)
        key = instrument.exchange, contract, day, instrument.price_scale
        if key not in self._bands:
            row = self._find("ticks", day, key[:2])
            self._bands[key] = _bands(row, instrument.price_scale) if row else []
        tick = instrument.tick_size
        for bound, above, step in self._bands[key]:
            if price_units > bound or (price_units == bound and not above):
                tick = step
        return tick

    def circuit(self, instrument: Instrument, day: dt.date) -> float:
        """The segment's default daily price band in percent; 0.0 if it has none or none is on record."""
        self._covered(instrument, day)
        row = self._find("circuits", day, (self._market(instrument, day),))
        return float(row.facts["percent"]) if row else 0.0

    def _contract(self, instrument: Instrument) -> str:
        kind = instrument.kind
        if instrument.exchange in CURRENCY:
            return "currency"
        if kind == "FUT":
            if not instrument.name:
                return ""
            return "index_future" if self._is_index(instrument) else "stock_future"
        return {"EQ": "equity", "CE": "option", "PE": "option"}.get(kind, "")

    # ── what is not certain ──────────────────────────────────────────────────────────────────────

    def unconfirmed(
        self, day: dt.date, instruments: Iterable[Instrument] = (), products: Iterable[str] = ()
    ) -> list[str]:
        """A sentence for each unconfirmed rule in force on ``day``.

        Of all rules; or only of those that have a say when ``instruments`` are traded in ``products``, in any product
        they can be traded in where none is named.
        """
        chosen, named = tuple(instruments), frozenset(products)
        found: list[str] = []
        for table, rules in self._rules.items():
            for key in rules:
                row = self._find(table, day, key)
                if row is None or row.confirmed:
                    continue
                if not chosen or any(self._concerns(row, i, day, named) for i in chosen):
                    found.append(f"{table} {' '.join(filter(None, key))}: {row.note}")
        return found

    def _concerns(self, row: Row, instrument: Instrument, day: dt.date, named: frozenset[str]) -> bool:
        """Whether ``row`` has a say when the instrument is traded on ``day``."""
        market, venue = self._market(instrument, day), _venue(instrument)
        products = [p for p in self.products(instrument) if p in named or not named]
        match row.table:
            case "charges":
                classes = {self._class(instrument, product, day) for product in products}
                return any(self._charge(row.key[0], c, venue, day) is row for c in classes)
            case "freeze":
                return bool(products) and self._freeze(instrument, day) is row
            case "square_off":
                return "MIS" in products and row.key == (market,)
            case "circuits":  # the desk knows a band of these alone
                return instrument.kind == "EQ" and not instrument.in_fo and row.key == (market,)
            case "special_sessions":
                return self._special(market, venue, day) is row
            case "holidays":
                return self._holiday(market, day) is row
            case _:
                tags = {market, instrument.exchange, instrument.name, self._contract(instrument)}
                tags.add(CALENDARS.get(instrument.exchange, ""))
                return tags.issuperset(filter(None, row.key))

    # ── finding rows ─────────────────────────────────────────────────────────────────────────────

    def _find(self, table: str, day: dt.date, *keys: tuple[str, ...]) -> Row | None:
        rules = self._rules[table]
        for key in keys:
            for row in reversed(rules.get(key, ())):
                if row.start <= day <= row.end:
                    return row
        return None

    def _special(self, market: str, venue: str, day: dt.date) -> Row | None:
        return self._find("special_sessions", day, (market, venue), (market, ""))

    def _charge(self, kind: str, klass: str, venue: str, day: dt.date) -> Row | None:
        return self._find("charges", day, (kind, klass, venue), (kind, klass, ""), (kind, "", ""))

    def _freeze(self, instrument: Instrument, day: dt.date) -> Row | None:
        return self._find("freeze", day, (instrument.exchange, instrument.name), (instrument.exchange, ""))

    def _is_index(self, instrument: Instrument) -> bool:
        rows = self._rules["lots"].get((instrument.exchange, instrument.name), ())
        return any(row.facts["underlying"] == "index" for row in rows)

    def _market(self, instrument: Instrument, day: dt.date) -> str:
        """The segment class whose sessions, cut-offs and bands apply: cash, cash_fo, equity_futures, ..."""
        kind, exchange = instrument.kind, instrument.exchange
        if kind == "SPOT":
            return "spot"
        if exchange in CURRENCY:
            return "currency"
        if CALENDARS.get(exchange) == "commodity":
            row = self._find("commodities", day, (instrument.name,))
            return row.facts["market"] if row else "commodity"
        if kind in ("EQ", "INDEX"):
            return "cash_fo" if instrument.in_fo and kind == "EQ" else "cash"
        if (
            instrument.expiry == day
            and self._is_index(instrument)
            and self._find("sessions", day, ("index_expiry",))
        ):
            return "index_expiry"
        return "equity_futures" if kind == "FUT" else "equity_options"


def _venue(instrument: Instrument) -> str:
    return VENUES.get(instrument.exchange, instrument.exchange)


def _ns(day: dt.date, minutes: int) -> int:
    return (day - EPOCH).days * DAY - IST_OFFSET_NS + minutes * MINUTE


def _phases(row: Row, day: dt.date) -> tuple[Phase, ...]:
    """``preopen 09:00-09:15; continuous 09:15-15:30``, in IST, as nanoseconds of ``day``."""
    phases: list[Phase] = []
    for text in row.facts["phases"].split(";"):
        name, _, span = text.strip().partition(" ")
        opens, closes = (int(clock[:2]) * 60 + int(clock[3:]) for clock in span.split("-"))
        phases.append((name, _ns(day, opens), _ns(day, closes)))
    clocks = [clock for _, opens, closes in phases for clock in (opens, closes)]
    if clocks != sorted(clocks):
        raise DataError(
            f"{row.where}: phases overlap or run backwards", fix="list them in the order of the day"
        )
    return tuple(phases)


def _bands(row: Row, scale: int) -> list[tuple[Decimal, bool, int]]:
    """``0:0.01 >1000:0.10`` as (bound, exclusive, tick) in price units, lowest first."""
    bands: list[tuple[Decimal, bool, int]] = []
    for text in row.facts["bands"].split():
        bound, _, step = text.partition(":")
        tick = Decimal(step) * scale
        if tick < 1 or tick % 1:
            raise DataError(f"{row.where}: a tick of {step} does not fit {scale} price units a rupee")
        bands.append((Decimal(bound.lstrip(">")) * scale, bound[0] == ">", int(tick)))
    return bands

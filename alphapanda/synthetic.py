"""A seeded synthetic market: Indian stocks, their index, a future and options of it, one day at a time.

``synthetic_day`` makes a whole day as a tape. ``Market`` is the same model with state: ``advance(until)``
returns the ticks up to a moment, so a real-time source can run it. How the day is cut into calls changes
nothing: the model works in fixed blocks of five minutes and hands out the rows that are due. A tick is a
conflated snapshot as Kite sends it: last price, volume since the last one, best bid and ask.

**Value**, on a grid of half a second; market factor m, stock i::

    dm   = S(t) exp(h) sigma dW + jump           dx_i = beta_i dm + S(t) exp(g_i) sigma_i dW_i + jump_i
    h    = Ornstein-Uhlenbeck, sd 0.35, memory 30 min, corr(dW, dB) = -0.4 with its noise B; so is each g_i
    S(t) = 0.72 + 1.15 exp(-t / 35 min) + 0.42 exp(-(T - t) / 45 min), scaled to mean square 1
    seen value = previous close x exp(gap_i + x_i + e_i), e_i an error that reverts within 2 s

``h`` gives clusters of volatility and fat tails, jumps the rest. S, sigma and the tails follow six days of
NIFTY 50 seconds of 2022: 1-minute volatility 6-16 % a year, kurtosis 4-8, volatility of half hours 1.6 of
its mean at the open, 0.65 at noon, 1.1 at the close.

**Index**: base x sum w_i S_i / close_i, the constituents not modelled being one more S. **Future**:
unrounded index x exp((r - q) tau) and a basis that reverts. **Options**: Black (1976) on the future, C = D
(F N(d1) - K N(d2)), at volatility sigma_atm exp(0.15 h) (1 - 0.06 k + 0.03 k^2), k = ln(K/F) / (sigma
sqrt(tau)), and an error of about half a tick and 0.06 % that reverts; P = C - D (F - K).

**Ticks** begin as a Poisson process with intensity U(t) exp(h / 2), U the usual U shape; each starts a
burst of followers of geometric length (a self-exciting process in the cluster form of Hawkes and Oakes
1974). Each is a trade at the bid or the ask, now and then between; sides repeat with probability 0.62
(split orders: Lillo and Farmer 2004); volumes and depth are lognormal in lots. Spreads are one tick plus an
exponential part, wider after the open, in wild minutes and away from the money.

**Day**: sessions come from the rulebook. Pre-open: indicative prices without volume or quotes, then one
equilibrium print. Stocks with a closing auction stop when it begins and print once, with large volume, at
its random end; until then the index stands still while derivatives trade on. Values stay within 9.5 % of
the previous close, so circuit limits are out of reach. Every day starts from the same previous closes.

Random numbers come from numpy's PCG64, one stream for the market and one for each symbol, so an
instrument's ticks depend on no other's. Mathematical functions may differ between machines in a double's
last bit; prices are rounded to ticks and times to milliseconds, which hides it. No clock and no time zone
is read.
"""

from __future__ import annotations

import argparse
import datetime as dt
import math
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from alphapanda.errors import AlphaPandaException, UnknownNameError, ValidationError
from alphapanda.events import SECOND, Block, Ints
from alphapanda.instruments import Instrument
from alphapanda.registry import default_instrument, monthly_expiry
from alphapanda.rulebook import Rulebook
from alphapanda.tapes.tape import Tape

Floats = npt.NDArray[np.float64]

YEAR = 252 * 22_500.0  # trading seconds in a year: 252 days of 6 h 15 min, in which volatilities are quoted
STEP = 0.5  # seconds between values
BLOCK = 300  # seconds the model works at a time; 09:15 and every close is a multiple
GRID = round(BLOCK / STEP)
OFFSETS: Floats = np.arange(GRID, dtype=np.float64) * STEP
MILLISECOND = SECOND // 1000

MARKET_VOLATILITY = 0.105  # a year; the calibration days had 6-16 %
MARKET_GAP, STOCK_GAP = 0.0035, 0.005  # sd of the overnight move: about half a day's
MARKET_JUMPS, MARKET_JUMP = 1.5, 0.0010  # a day; sd of the log price
STOCK_JUMPS, STOCK_JUMP = 2.0, 0.0022
VOLATILITY_MEMORY, VOLATILITY_SPREAD = 1800.0, 0.35  # seconds; sd of the log
LEVERAGE = -0.4  # correlation of the market's move and of its log volatility
ERROR_MEMORY, ERROR = 2.0, 0.00008  # seconds; sd of the log: about one tick of a liquid stock
BASIS_MEMORY, BASIS = 120.0, 0.00006
OPTION_MEMORY, OPTION_ERROR, OPTION_SHARE = 20.0, 0.5, 0.0006  # seconds; sd in ticks, and of the price
RATE, DIVIDEND = 0.055, 0.012  # a year: 91-day bill and NIFTY dividend yield, rounded
ATM_VOLATILITY = 0.115  # a year
VOLATILITY_ECHO = 0.15  # how much of h options follow: about 5 %, as India VIX moves in a day
FOLLOWERS = 0.35  # a tick's chance to be followed by another of its burst
FOLLOW_AFTER = 1.0  # seconds, mean
REPEAT = 0.62  # a trade's side is that of the one before
VOLUME_SPREAD = 1.1  # sd of the log of a trade's volume
BAND = 0.095  # of the previous close; F&O stocks start with a band of 10 %
INDEX, INDEX_CLOSE, INDEX_NAME = "NSE:NIFTY 50", 26_050.0, "NIFTY"
TICKS_PER_SECOND = 5.5  # the bundled day stays under 3 MB
STRIKES, STRIKE_STEP = 4, 100  # each side of the money, rupees apart


class Stock(msgspec.Struct, frozen=True):
    """One stock of the model.

    ``close``: the previous close in rupees, of the order of late 2026. ``beta``, ``volatility`` (a year,
    without the market's part): of the order of its last years. ``weight``: its share of NIFTY 50 (NSE
    factsheets, rounded; 0 outside). ``volume``: a usual day in millions of shares. ``spread``: the mean
    beyond one tick, in ticks. ``pace``: relative ticks a second. ``derivatives``: listed in F&O.
    """

    name: str
    token: int
    close: float
    beta: float
    volatility: float
    weight: float
    volume: float
    spread: float
    pace: float
    derivatives: bool = True


STOCKS = {
    stock.name: stock
    for stock in (
        Stock("RELIANCE", 738561, 1512.40, 1.05, 0.145, 0.086, 11.0, 0.5, 1.5),
        Stock("HDFCBANK", 341249, 987.35, 0.95, 0.125, 0.127, 22.0, 0.4, 1.5),
        Stock("ICICIBANK", 1270529, 1405.60, 1.00, 0.130, 0.085, 12.0, 0.5, 1.4),
        Stock("INFY", 408065, 1548.20, 0.90, 0.180, 0.048, 7.0, 0.6, 1.2),
        Stock("TCS", 2953217, 3124.70, 0.75, 0.160, 0.027, 2.6, 0.8, 1.0),
        Stock("SBIN", 779521, 962.15, 1.10, 0.150, 0.031, 9.5, 0.5, 1.2),
        Stock("ITC", 424961, 408.55, 0.60, 0.125, 0.033, 13.0, 0.4, 1.0),
        Stock("TATASTEEL", 895745, 174.62, 1.25, 0.200, 0.012, 28.0, 0.8, 1.1),
        Stock("MARUTI", 2815745, 15_884.0, 0.85, 0.170, 0.018, 0.4, 0.4, 0.8),
        Stock("VGUARD", 3932673, 362.90, 0.80, 0.240, 0.0, 0.5, 2.5, 0.4, derivatives=False),
    )
}
REST = 0.035  # volatility a year of the constituents not listed above, beyond the market's; last column below
BETAS = np.array([*(s.beta for s in STOCKS.values()), 1.0])
OWN = np.array([*(s.volatility for s in STOCKS.values()), REST])
GAPS = np.array([*(STOCK_GAP for _ in STOCKS), 0.0008])
ERRORS = np.array([*(ERROR for _ in STOCKS), 0.0])
JUMPS = np.array([*(STOCK_JUMP for _ in STOCKS), 0.0])
WEIGHTS = np.array([*(s.weight for s in STOCKS.values()), 1.0 - math.fsum(s.weight for s in STOCKS.values())])
COLUMNS = len(BETAS)
_X = np.linspace(-9.0, 9.0, 18_001)
_NORMAL = np.array([0.5 * math.erfc(-x / math.sqrt(2.0)) for x in _X])


class Phases(msgspec.Struct, frozen=True):
    """A day in ns: pre-open (0: none), its match, continuous trading, closing auction (0: none)."""

    preopen: int
    match: int
    open: int
    close: int
    auction: int
    end: int


class _Source:
    """One instrument with its own random stream and what it carries from block to block."""

    def __init__(self, number: int, instrument: Instrument, day: dt.date, rules: Rulebook, seed: int) -> None:
        self.number, self.instrument = number, instrument
        self.phases = phases = _phases(instrument, day, rules)
        last = rules.session(instrument, instrument.expiry) if instrument.expiry else None
        self.expires = last.close_ns if last else 0
        self.random = _generator(seed, day, instrument.symbol)
        self.strike = instrument.rupees(instrument.strike) if instrument.kind in ("CE", "PE") else 0.0
        self.call = instrument.kind == "CE"
        self.stock = list(STOCKS).index(instrument.tradingsymbol) if instrument.kind == "EQ" else -1
        self.error = np.zeros(1)
        self.pending = np.empty(0)
        self.buys = True
        self.lots = 0.0  # a trade's mean volume in lots
        self.depth = 0.0  # mean quantity at the best price, in lots
        self.rate = 0.0  # ticks a second at a profile of 1
        seconds = (phases.close - phases.open) / SECOND
        self.level = float(np.mean(_activity(_span(seconds), seconds)))
        self.pace, self.daily, self.spread = _habits(instrument)

    def paced(self, ticks_per_second: float) -> None:
        """Fix the rate, and with it the mean volume of a tick."""
        phases = self.phases
        seconds = (phases.close - phases.open) / SECOND
        self.rate = ticks_per_second * (1.0 - FOLLOWERS) / self.level
        self.lots = max(1.0, self.daily / self.instrument.lot_size / (ticks_per_second * seconds))
        self.depth = 2.5 * self.lots

    def arrivals(self, start: int, excitement: Floats) -> Floats:
        """Seconds from ``start`` at which ticks fall into this block, ascending; later followers are kept."""
        phases, random = self.phases, self.random
        first, last = (phases.open - start) / SECOND, (phases.close - start) / SECOND
        if first >= BLOCK or last <= 0:
            return np.empty(0)
        hazard = self.rate * STEP * excitement * _activity(OFFSETS - first, last - first)
        hazard[(first > OFFSETS) | (last <= OFFSETS)] = 0.0
        edges: Floats = np.zeros(GRID + 1)
        np.cumsum(hazard, out=edges[1:])
        total = float(edges[-1])
        count = int(random.poisson(total))
        marks = random.random(count)
        marks.sort()
        parents = np.interp(marks * total, edges, np.append(OFFSETS, float(BLOCK)))
        followers = np.floor(np.log1p(-random.random(count)) / math.log(FOLLOWERS)).astype(np.int64)
        delays = np.cumsum(random.standard_exponential(int(followers.sum())) * FOLLOW_AFTER)
        begins = np.concatenate(([0.0], delays))[np.cumsum(followers) - followers]
        children = np.repeat(parents - begins, followers) + delays
        times = np.concatenate((self.pending, parents, children))
        self.pending = times[times >= BLOCK] - BLOCK
        return np.unique(np.floor(times[times < min(BLOCK, last)] * 1000.0)) / 1000.0

    def trades(self, value: Floats, extra: Floats) -> list[Ints]:
        """Price, volume, bid, ask and their quantities for ticks at which the value is ``value`` (rupees).

        ``extra`` is the mean spread beyond one tick, in ticks.
        """
        instrument, count = self.instrument, len(value)
        uniform, normal = self.random.random((4, count)), self.random.standard_normal((3, count))
        wide = 1 + np.rint(-np.log1p(-uniform[0]) * extra)
        exact = value * instrument.price_scale / instrument.tick_size
        bid = np.maximum(1, np.floor(exact - wide / 2 + 0.5))
        turns = np.cumsum(uniform[1] >= REPEAT)
        buys = (turns + int(self.buys)) % 2 == 1
        self.buys = bool(buys[-1])
        inside = (wide >= 3) & (uniform[2] < 0.2)
        step = np.where(inside, 1 + np.floor(uniform[3] * (wide - 1)), np.where(buys, wide, 0))
        sizes = np.exp(VOLUME_SPREAD * normal - VOLUME_SPREAD**2 / 2)
        mean = np.array([[self.lots], [self.depth], [self.depth]])
        volume, bids, asks = np.maximum(1, np.rint(sizes * mean)) * instrument.lot_size
        tick = instrument.tick_size
        columns = ((bid + step) * tick, volume, bid * tick, (bid + wide) * tick, bids, asks)
        return [c.astype(np.int64) for c in columns]

    def wandering(self, memory: float) -> Floats:
        """This instrument's own reverting error on the grid, with unit variance."""
        path = _reverting(self.random.standard_normal((GRID, 1)), self.error, memory)
        self.error = path[-1]
        return path[:, 0]


class Market:
    """One seeded trading day with state: ``advance`` gives the ticks that are due.

    ``ticks_per_second`` is the session's mean, of the tradable instruments of the default universe together;
    the index comes on top, once a second. Other ``instruments`` (fewer, other strikes) leave each one's ticks
    as they are. ``previous_close`` holds price units by symbol.
    """

    def __init__(
        self,
        seed: int = 7,
        day: dt.date | str = "2026-11-20",
        instruments: Sequence[Instrument] | None = None,
        ticks_per_second: float = TICKS_PER_SECOND,
        rulebook: Rulebook | None = None,
    ) -> None:
        self.day, rules = _day(day), rulebook or Rulebook.load()
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**63:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValidationError(
                f"seed {seed!r} is not a whole number from 0 to 2**63 - 1", fix="pass seed=7"
            )
        rate_known = isinstance(ticks_per_second, (int, float)) and not isinstance(ticks_per_second, bool)  # pyright: ignore[reportUnnecessaryIsInstance]
        if not rate_known or not 0.01 <= ticks_per_second <= 10_000:
            raise ValidationError(
                f"ticks_per_second {ticks_per_second!r} is not a number from 0.01 to 10,000",
                fix="pass the mean rate of the whole market, such as ticks_per_second=8",
            )
        whole = default_universe(self.day, rules)
        self.instruments = whole if instruments is None else tuple(instruments)
        _check(self.instruments, self.day, rules)
        self._sources = [_Source(n, i, self.day, rules, seed) for n, i in enumerate(self.instruments)]
        total = math.fsum(_habits(i)[0] for i in whole)
        for source in self._sources:
            if source.pace:
                source.paced(ticks_per_second * source.pace / total)
        self._random = random = _generator(seed, self.day, "market")
        listed = [_stock(s, self.day, rules) for s in STOCKS.values()]
        phases = [_phases(i, self.day, rules) for i in listed]
        self._cash = [*phases, phases[0]]  # the constituents not listed keep the hours of the first
        self._ticks = np.array(
            [i.tick_size / i.price_scale / STOCKS[i.tradingsymbol].close for i in listed] + [1e-9]
        )
        every = [_phases(i, self.day, rules) for i in (*whole, *self.instruments)]
        self.start = min(p.preopen or p.open for p in every) // (BLOCK * SECOND) * BLOCK * SECOND
        self.end = max(max(p.close, p.end) for p in every)
        self.now = self.start - 1
        ordinary = every[: len(whole)]
        self._open, self._close = min(p.open for p in ordinary), max(p.close for p in ordinary)
        length = (self._close - self._open) / SECOND
        self._season = 1.0 / math.sqrt(np.mean(_season(_span(length), length) ** 2))
        draws = random.standard_normal(2 + 3 * COLUMNS)
        gaps, own, imbalance = np.split(draws[2:], 3)
        self._log = BETAS * MARKET_GAP * draws[0] + GAPS * gaps
        self._opening = np.exp(self._log)
        self._mood, self._own = draws[1:2], own  # h and every g, in units of their sd
        self._error, self._basis = np.zeros(COLUMNS), np.zeros(1)
        self._imbalance = np.exp(0.0006 * imbalance)
        ends = random.random(1 + COLUMNS)
        self._prints = [  # the auction's random end (15:28-15:30 of 15:15-15:35), then each match within 20 s
            p.auction + round((p.end - p.auction) * (0.65 + 0.1 * ends[0])) + round(20_000 * u) * MILLISECOND
            if p.auction
            else 0
            for p, u in zip(self._cash, ends[1:], strict=True)
        ]
        self._held = self._opening
        self._made, self._count = self.start, 0
        self._rows = _table([])
        self.previous_close = {
            s.instrument.symbol: _units(s.instrument, self._price(s, None)) for s in self._sources
        }
        self._early = [self._preopen(s) for s in self._sources]

    def advance(self, until: int) -> Block:
        """The ticks after the last call's moment up to and including ``until`` (ns)."""
        if isinstance(until, bool) or not isinstance(until, (int, np.integer)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValidationError(f"until {until!r} is not a time in ns", fix="pass int nanoseconds, UTC")
        if until < self.now:
            raise ValidationError(
                f"the market is at {self.now} and cannot go back to {until}", fix="ask for a later time"
            )
        blocks = [self._rows]
        while self._made <= min(until, self.end):
            blocks.append(self._block())
        self.now = int(until)
        rows = np.concatenate(blocks, axis=1)
        due = int(np.searchsorted(rows[0], until, "right"))
        self._rows = rows[:, due:]
        first, self._count = self._count, self._count + due
        return Block(first, *(np.ascontiguousarray(c) for c in rows[:, :due]))

    # ── one block of five minutes ─────────────────────────────────────────────────────────────────────

    def _block(self) -> Ints:
        start = self._made
        self._made = start + BLOCK * SECOND
        value, basis, mood = self._values(start)
        shown = self._shown(start, value)
        forward = INDEX_CLOSE * (value @ WEIGHTS) * np.exp(basis)
        parts: list[Ints] = []
        for source, early in zip(self._sources, self._early, strict=True):
            rows = early[:, (early[0] >= start) & (early[0] < self._made)]
            if source.instrument.kind == "INDEX":
                parts.append(np.hstack((rows, self._ticking(source, start, INDEX_CLOSE * (shown @ WEIGHTS)))))
                continue
            parts.append(np.hstack((rows, self._trading(source, start, value, forward, mood))))
            if source.stock >= 0 and start <= self._prints[source.stock] < self._made:
                parts.append(self._auction(source))
        return _table(parts)

    def _values(self, start: int) -> tuple[Floats, Floats, Floats]:
        """Seen values relative to the previous close (time x stock), the future's log basis, exp(h / 2)."""
        random = self._random
        normal = random.standard_normal((GRID, 3 + 4 * COLUMNS))
        uniform = random.random((GRID, 1 + COLUMNS))
        at = (start - self._open) / SECOND + OFFSETS
        length = (self._close - self._open) / SECOND
        inside = (at > 0) & (at < length)
        scale = np.where(
            inside, self._season * _season(np.clip(at, 0.0, length), length) * math.sqrt(STEP / YEAR), 0.0
        )
        shock = LEVERAGE * normal[:, :1] + math.sqrt(1 - LEVERAGE**2) * normal[:, 1:2]
        moods = _reverting(shock, self._mood, VOLATILITY_MEMORY)
        basis = _reverting(normal[:, 2:3], self._basis, BASIS_MEMORY)
        moves, sizes, owns, errors = np.split(normal[:, 3:], 4, axis=1)
        own = _reverting(owns, self._own, VOLATILITY_MEMORY)
        error = _reverting(errors, self._error, ERROR_MEMORY)
        self._mood, self._basis, self._own, self._error = moods[-1], basis[-1], own[-1], error[-1]
        chance = np.where(inside, STEP / length, 0.0)[:, None]
        market = MARKET_VOLATILITY * scale * np.exp(VOLATILITY_SPREAD * moods[:, 0]) * normal[:, 0]
        market += (uniform[:, 0] < MARKET_JUMPS * chance[:, 0]) * MARKET_JUMP * sizes[:, -1]
        change = BETAS * market[:, None] + OWN * scale[:, None] * np.exp(VOLATILITY_SPREAD * own) * moves
        change += (uniform[:, 1:] < STOCK_JUMPS * chance) * JUMPS * sizes
        path = self._log + np.cumsum(change, axis=0)
        self._log = path[-1]
        seen = np.exp(np.clip(path + ERRORS * error, -BAND, BAND))
        return seen, BASIS * basis[:, 0], np.exp(0.5 * VOLATILITY_SPREAD * moods[:, 0])

    def _shown(self, start: int, value: Floats) -> Floats:
        """What the index sees: each stock's value, still from its close on until the auction prints."""
        shown, held = value.copy(), self._held.copy()
        for column, (phases, printed) in enumerate(zip(self._cash, self._prints, strict=True)):
            closed = min(GRID, max(0, -(-(phases.close - start) // round(STEP * SECOND))))
            if closed:
                held[column] = value[closed - 1, column]
            shown[closed:, column] = held[column]
            at = int((printed - start) // round(STEP * SECOND))
            if 0 <= at < GRID:
                tick = self._ticks[column]
                held[column] = round(value[at, column] * self._imbalance[column] / tick) * tick
                shown[at:, column] = held[column]
        self._held = held
        return shown

    def _trading(self, source: _Source, start: int, value: Floats, forward: Floats, mood: Floats) -> Ints:
        """Continuous trading of one instrument in this block."""
        wander = source.wandering(OPTION_MEMORY) if source.strike else np.zeros(GRID)
        at = source.arrivals(start, mood)
        if not len(at):
            return _table([])
        k = (at / STEP).astype(np.int64)
        ts = start + np.rint(at * 1000).astype(np.int64) * MILLISECOND
        extra = np.full(len(at), source.spread)
        if source.stock >= 0:
            price = value[k, source.stock] * STOCKS[source.instrument.tradingsymbol].close
        else:
            price = forward[k] * np.exp((RATE - DIVIDEND) * _years(source.expires, ts))
        if source.strike:
            years = _years(source.expires, ts)
            price, money = _black(
                source.call, source.strike, price, ATM_VOLATILITY * mood[k] ** (2 * VOLATILITY_ECHO), years
            )
            tick = source.instrument.tick_size / source.instrument.price_scale
            price = price + (OPTION_ERROR * tick + OPTION_SHARE * price) * wander[k]
            extra = np.minimum(0.8 + 1.2 * money**2, 0.03 * price / tick)
        since = (ts - source.phases.open) / SECOND
        extra = extra * (1.0 + 3.0 * np.exp(-since / 120.0)) * mood[k] ** 1.5
        columns = source.trades(price, extra)
        return np.vstack((ts, np.full(len(ts), source.number), *columns))

    def _ticking(self, source: _Source, start: int, index: Floats) -> Ints:
        """The index once a second; once a minute while it stands still."""
        every = round(1 / STEP)
        ts = start + np.arange(BLOCK) * SECOND
        units = _grid(source.instrument, index[::every])
        keep = (np.diff(units, prepend=-1) != 0) | (np.arange(BLOCK) % 60 == 0)
        keep &= (ts >= source.phases.open) & (ts < max(source.phases.close, self._cash[-1].end))
        return self._quoteless(source, ts[keep], units[keep], np.zeros(int(keep.sum())))

    def _auction(self, source: _Source) -> Ints:
        """The closing auction's one print: about a tenth of the day."""
        units = _units(
            source.instrument, self._held[source.stock] * STOCKS[source.instrument.tradingsymbol].close
        )
        volume = round(source.daily * 0.1 * math.exp(0.3 * source.random.standard_normal()))
        return self._quoteless(source, [self._prints[source.stock]], [units], [volume])

    def _preopen(self, source: _Source) -> Ints:
        """Indicative prices from order entry to its random end, then the equilibrium print."""
        phases, random = source.phases, source.random
        if not phases.preopen:
            return _table([])
        before, opening = self._price(source, None), self._price(source, self._opening)
        count = 24
        last = (
            phases.match - phases.preopen
        ) / SECOND - 120 * random.random()  # the entry's random last two minutes
        at = np.unique(np.floor(1000 * last * np.sort(random.random(count)) ** 0.7))
        share = np.sqrt(at / 1000 / last)
        noise = 0.25 * abs(opening - before) + 0.0008 * before
        price = before + (opening - before) * share + noise * (1 - share) * random.standard_normal(len(at))
        matched = phases.match + (5_000 + round(55_000 * random.random())) * MILLISECOND
        ts = np.append(phases.preopen + at.astype(np.int64) * MILLISECOND, matched)
        volume = np.append(np.zeros(len(at)), round(source.daily * 0.004 / source.instrument.lot_size))
        units = _grid(source.instrument, np.append(price, opening))
        return self._quoteless(source, ts, units, volume * source.instrument.lot_size)

    def _price(self, source: _Source, relative: Floats | None) -> float:
        """Rupees at given values relative to the previous close, or at that close (None)."""
        instrument, whole = source.instrument, np.ones(COLUMNS) if relative is None else relative
        if source.stock >= 0:
            return STOCKS[instrument.tradingsymbol].close * float(whole[source.stock])
        index = INDEX_CLOSE * float(whole @ WEIGHTS)
        if instrument.kind == "INDEX":
            return index
        years = _years(source.expires, np.array([self._open]))
        forward = index * np.exp((RATE - DIVIDEND) * years)
        if instrument.kind == "FUT":
            return float(forward[0])
        return float(_black(source.call, source.strike, forward, np.array([ATM_VOLATILITY]), years)[0][0])

    def _quoteless(
        self, source: _Source, ts: npt.ArrayLike, units: npt.ArrayLike, volume: npt.ArrayLike
    ) -> Ints:
        """Rows with a price and a volume but no quote."""
        out = np.zeros((8, np.size(ts)), dtype=np.int64)
        out[0], out[1], out[2], out[3] = ts, source.number, units, volume
        return out


# ── the formulas ─────────────────────────────────────────────────────────────────────────────────────


def _generator(seed: int, day: dt.date, name: str) -> np.random.Generator:
    """A stream of its own for each seed, day and name."""
    return np.random.Generator(np.random.PCG64([seed, day.toordinal(), zlib.crc32(name.encode())]))


def _habits(instrument: Instrument) -> tuple[float, float, float]:
    """Relative ticks a second, a usual day's volume, mean spread beyond one tick (options: by price)."""
    if instrument.kind == "EQ":
        stock = STOCKS[instrument.tradingsymbol]
        return stock.pace, stock.volume * 1e6, stock.spread
    if instrument.kind in ("INDEX", "FUT"):
        return (3.0, 4e6, 1.0) if instrument.kind == "FUT" else (0.0, 0.0, 0.0)
    away = (instrument.rupees(instrument.strike) - INDEX_CLOSE) / STRIKE_STEP
    return 0.25 + 0.75 * math.exp(-0.12 * away**2), 8e7 * math.exp(-0.1 * away**2), 0.0


def _span(length: float) -> Floats:
    """A thousand moments over ``length`` seconds."""
    return (np.arange(1000, dtype=np.float64) + 0.5) * (length / 1000)


def _season(at: Floats, length: float) -> Floats:
    """S(t): volatility over the session, seconds since the open."""
    return 0.72 + 1.15 * np.exp(-at / 2100.0) + 0.42 * np.exp(-(length - at) / 2700.0)


def _activity(at: Floats, length: float) -> Floats:
    """U(t): ticks over an instrument's session; 2.4 times noon at the open, 2.2 times at the close."""
    at = np.clip(at, 0.0, length)
    return 1.0 + 1.4 * np.exp(-at / 1500.0) + 1.2 * np.exp(-(length - at) / 1200.0)


def _reverting(noise: Floats, last: Floats, memory: float) -> Floats:
    """Ornstein-Uhlenbeck paths of unit variance down the rows of ``noise``, from ``last``; seconds."""
    decay = math.exp(-STEP / memory)
    out = np.empty_like(noise)
    span = max(1, int(100.0 * memory / STEP))  # keeps decay**-span inside a double
    for low in range(0, len(noise), span):
        part = noise[low : low + span]
        powers = decay ** np.arange(1, len(part) + 1)[:, None]
        out[low : low + span] = powers * (last + math.sqrt(1.0 - decay**2) * np.cumsum(part / powers, axis=0))
        last = out[low + len(part) - 1]
    return out


def _black(call: bool, strike: float, forward: Floats, atm: Floats, years: Floats) -> tuple[Floats, Floats]:
    """Black's price in rupees on the smile, and the moneyness k it was read at."""
    spread = atm * np.sqrt(years)
    money = np.clip(np.log(strike / forward) / spread, -4.0, 4.0)
    spread = spread * (1.0 - 0.06 * money + 0.03 * money**2)
    d1 = np.log(forward / strike) / spread + spread / 2
    discount = np.exp(-RATE * years)
    price = discount * (forward * _normal(d1) - strike * _normal(d1 - spread))
    return (price if call else price - discount * (forward - strike)), money


def _normal(x: Floats) -> Floats:
    """The normal distribution function, from a table: within 1e-7, the same everywhere."""
    return np.interp(x, _X, _NORMAL)


def _years(expires: int, ts: Ints) -> Floats:
    """Calendar time to the contract's last close, at least a minute."""
    return np.maximum(expires - ts, 60 * SECOND) / (365 * 86_400 * SECOND)


def _grid(instrument: Instrument, price: Floats) -> Ints:
    """Rupees to price units on the instrument's ticks, at least one tick."""
    ticks = np.maximum(1, np.rint(price * instrument.price_scale / instrument.tick_size))
    return ticks.astype(np.int64) * instrument.tick_size


def _units(instrument: Instrument, price: float) -> int:
    return int(_grid(instrument, np.array([price]))[0])


def _table(parts: list[Ints]) -> Ints:
    """Rows of all instruments as one table of eight columns in order of time, then instrument."""
    out = np.hstack(parts) if parts else np.empty((8, 0), dtype=np.int64)
    return out[:, np.lexsort((out[1], out[0]))]


# ── the universe and the command ─────────────────────────────────────────────────────────────────────


def default_universe(
    day: dt.date | str = "2026-11-20", rulebook: Rulebook | None = None
) -> tuple[Instrument, ...]:
    """The index, the stocks, and the nearest NIFTY future and options (nine strikes), as listed on ``day``.

    Lots, ticks and bands come from the rulebook; tokens of stocks and index are Kite's, of contracts made up.
    """
    day, rules = _day(day), rulebook or Rulebook.load()
    index = replace(default_instrument(INDEX), token=256265, tick_size=5)
    if rules.session(index, day) is None:
        raise ValidationError(
            f"{day} is not a trading day: {rules.why_closed(index, day)}",
            fix="choose a day on which NSE trades",
        )
    expiry_weekday = (
        1 if day >= dt.date(2025, 9, 1) else 3
    )  # NSE index contracts: Tuesday, before that Thursday
    week = day + dt.timedelta(days=(expiry_weekday - day.weekday()) % 7)
    month = monthly_expiry(week.year, week.month)
    if month < week:
        month = monthly_expiry(week.year + week.month // 12, week.month % 12 + 1)
    of_month = f"{month:%y}{'JANFEBMARAPRMAYJUNJULAUGSEPOCTNOVDEC'[3 * month.month - 3 : 3 * month.month]}"
    of_week = of_month if week == month else f"{week:%y}{'123456789OND'[week.month - 1]}{week:%d}"
    stocks = [_stock(s, day, rules) for s in STOCKS.values()]
    expiry = _trading_day(month, index, rules)
    future = default_instrument(f"NFO:{INDEX_NAME}{of_month}FUT", day, INDEX_CLOSE)
    made = [index, *stocks, replace(future, expiry=expiry, token=14_000_002)]
    expiry = _trading_day(week, index, rules)
    for number in range(-STRIKES, STRIKES + 1):
        strike = (round(INDEX_CLOSE / STRIKE_STEP) + number) * STRIKE_STEP
        for side, right in enumerate(("CE", "PE")):
            option = default_instrument(f"NFO:{INDEX_NAME}{of_week}{strike}{right}", day)
            made.append(
                replace(option, expiry=expiry, token=15_000_002 + 512 * (number + STRIKES) + 256 * side)
            )
    return tuple(made)


def _stock(stock: Stock, day: dt.date, rules: Rulebook) -> Instrument:
    listed = default_instrument(f"NSE:{stock.name}", day, stock.close)
    listed = replace(listed, token=stock.token, in_fo=stock.derivatives)
    return replace(listed, circuit=rules.circuit(listed, day))


def _trading_day(day: dt.date, index: Instrument, rules: Rulebook) -> dt.date:
    """``day``, or the last trading day before it: where an expiry on a holiday goes."""
    while rules.session(index, day) is None:
        day -= dt.timedelta(days=1)
    return day


def _phases(instrument: Instrument, day: dt.date, rules: Rulebook) -> Phases:
    """The rulebook's day of one instrument, with the moments it leaves to the exchange."""
    session = rules.session(instrument, day)
    if session is None:
        raise ValidationError(
            f"{day} is not a trading day: {rules.why_closed(instrument, day)}",
            fix="choose a day on which NSE trades",
        )
    spans = {name: (opens, closes) for name, opens, closes in session.phases}
    if [name for name, _, _ in session.phases].count("continuous") != 1:
        raise ValidationError(
            f"{day} ({session.name}) has several sessions and the model knows days of one",
            fix="choose an ordinary trading day",
        )
    opens, closes = spans["continuous"]
    preopen = spans.get("preopen", (0, 0))[0]
    auction, end = spans.get("closing_auction", (0, 0))
    return Phases(preopen, preopen + (opens - preopen) * 2 // 3, opens, closes, auction, end)


def _open(contract: Instrument, rules: Rulebook) -> bool:
    return contract.expiry is not None and rules.session(contract, contract.expiry) is not None


def _check(instruments: Sequence[Instrument], day: dt.date, rules: Rulebook) -> None:
    """Every instrument is one the model can price, and there once."""
    known = [INDEX, *(f"NSE:{name}" for name in STOCKS)]
    for instrument in instruments:
        contract = instrument.name == INDEX_NAME and instrument.kind in ("FUT", "CE", "PE")
        if not contract and instrument.symbol not in known:
            raise UnknownNameError("symbol in the synthetic market", instrument.symbol, known)
        if contract and (
            instrument.expiry is None or instrument.expiry < day or not _open(instrument, rules)
        ):
            raise ValidationError(
                f"{instrument.symbol} does not trade until its expiry, {instrument.expiry}",
                fix=f"take default_universe({str(day)!r}), or give it a trading day from then on",
            )
        if instrument.kind in ("CE", "PE") and instrument.strike <= 0:
            raise ValidationError(f"{instrument.symbol} has no strike", fix="give its strike in price units")
    symbols = [i.symbol for i in instruments]
    double = next((s for s in symbols if symbols.count(s) > 1), None)
    if double or not symbols:
        raise ValidationError(
            f"{double} is listed twice" if double else "no instruments",
            fix="list each instrument once, at least one",
        )


def _day(day: dt.date | str) -> dt.date:
    try:
        parsed = dt.date.fromisoformat(day) if isinstance(day, str) else day
    except ValueError:
        parsed = None
    if not isinstance(parsed, dt.date) or isinstance(parsed, dt.datetime):
        raise ValidationError(
            f"day {day!r} is not a date", fix='write day="2026-11-20", or pass a datetime.date'
        )
    return parsed


def synthetic_day(
    day: dt.date | str = "2026-11-20",
    seed: int = 7,
    ticks_per_second: float = TICKS_PER_SECOND,
    symbols: Sequence[str] | str | None = None,
) -> Tape:
    """A whole day of the default universe as a tape; ``symbols`` keeps only those, with the same ticks."""
    market = Market(seed, day, ticks_per_second=ticks_per_second)
    block = market.advance(market.end)
    columns = {
        name: getattr(block, name) for name in block.__struct_fields__ if name not in ("first", "inside")
    }
    tape = Tape(market.instruments, **columns)
    return tape if symbols is None else tape.select(symbols)


def main(arguments: Sequence[str] | None = None) -> None:
    """``python -m alphapanda.synthetic``: write a day to a file."""
    parser = argparse.ArgumentParser(
        prog="python -m alphapanda.synthetic", description="Write a synthetic day."
    )
    parser.add_argument("--day", default="2026-11-20")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument(
        "--rate", type=float, default=TICKS_PER_SECOND, help="ticks a second, all instruments together"
    )
    parser.add_argument("--symbols", nargs="*", help="only these")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    try:
        tape = synthetic_day(given.day, given.seed, given.rate, given.symbols)
        tape.save(given.out)
    except AlphaPandaException as error:
        parser.error(str(error))
    sys.stdout.write(f"{tape!r}\n{given.out}: {given.out.stat().st_size / 1e6:.2f} MB\n")


if __name__ == "__main__":
    main()

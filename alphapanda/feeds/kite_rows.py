"""What Kite's packets mean for the instruments that are held: rows for the feed, and what is doubted.

Kite sends conflated snapshots: the newest state at most about twice a second, with the volume of the day so far. A
row's volume is therefore the difference to the row before; what traded while we were away is nobody's tick and is left
out.

Rules, each counted by name in ``counts``:

- A snapshot of another day (the venue's cached last one, or none at all) makes no row: the instrument waits for today.
- A packet without a stamp makes no row: it cannot be told whether it is of today.
- An impossible price, a stamp of another day or of the future, and a volume that falls are quarantined, and the
  instrument is stale until a sane packet comes. Three in a row that agree on a lower volume are believed.
- What is older than what was heard, or says the same, is dropped.
- An instrument is stale when nothing new came for longer than is usual for it, in its own trading hours.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter, deque
from collections.abc import Callable, Iterable
from statistics import median

from alphapanda.errors import AlphaPandaException
from alphapanda.events import DAY, IST_OFFSET_NS, MINUTE, SECOND, ist_day
from alphapanda.feeds.kite_packets import (
    ASK,
    ASK_QUANTITY,
    BID,
    BID_QUANTITY,
    LAST,
    SENT_AT,
    STAMPED,
    VOLUME,
    Known,
    decode,
)
from alphapanda.feeds.sequencer import IMPOSSIBLE, LiveRow
from alphapanda.instruments import Instrument
from alphapanda.rulebook import Rulebook
from alphapanda.tapes.tape import EPOCH_DAY

ROWS_HELD = 200_000  # rows nobody fetched
WITNESSES = 3  # packets in a row that agree against what was known before
UNSTAMPED = 3  # packets in a row without a stamp: the venue has forgotten the mode
DISTANCES = 15  # that the usual one is the middle of
FEW = 5  # distances that say nothing yet: until there are more, patience is ``PATIENT`` times longer
PATIENT = 6
QUARANTINED = ("price", "stamp", "volume")  # counts that mean the packet was impossible
_READ = (LAST, SENT_AT, VOLUME, BID, ASK, BID_QUANTITY, ASK_QUANTITY)

Opened = Callable[[Instrument, int], "int | None"]  # since when (ns) it trades at a time; None: it does not


class Held:
    """One instrument that is listened to."""

    __slots__ = (
        "behind", "distances", "fresh", "heard", "index", "instrument", "said", "suspect", "token", "ts", "unstamped",
        "volume",
    )  # fmt: skip

    def __init__(self, instrument: Instrument, token: int, index: int, now: float) -> None:
        self.instrument, self.token, self.index = instrument, token, index
        self.heard = now  # monotonic: of the newest row, before one of the subscription
        self.suspect = ""  # why the newest packet was quarantined
        self.fresh = False  # the newest volume is that of the row before, so their difference is what traded
        self.ts = self.volume = self.behind = self.unstamped = 0
        self.said: tuple[int, ...] = ()
        self.distances: deque[float] = deque(maxlen=DISTANCES)

    def waits(self, wall: int) -> bool:
        """For the first packet of the day that holds ``wall``."""
        return ist_day(self.ts) != ist_day(wall)

    def patience(self, quiet: float) -> float:
        """Seconds without news after which it is stale: five times what is usual, ``quiet`` at least."""
        usual = 5 * median(self.distances) if self.distances else 0.0
        return max(quiet if len(self.distances) >= FEW else PATIENT * quiet, usual)


class KiteRows:
    """All instruments of the venue. ``counts`` has frames, packets, rows, short, odd, unknown, unstamped, other_day,
    late, repeated, overflowed, and price, stamp and volume for what was quarantined."""

    def __init__(self) -> None:
        self.held: dict[int, Held] = {}  # by token
        self.counts: Counter[str] = Counter()
        self.downgraded: set[int] = set()  # tokens that come in a lesser mode than was asked for
        self._listed: list[Held] = []  # in the order that ``_known`` knows
        self._known: Known | None = None
        self._rows: deque[LiveRow] = deque()

    def add(self, instrument: Instrument, token: int, index: int, now: float) -> None:
        """One more."""
        self.held[token] = Held(instrument, token, index, now)
        self._known = None

    def remove(self, token: int) -> None:
        """One less."""
        self.held.pop(token, None)
        self.downgraded.discard(token)
        self._known = None

    def interrupted(self, tokens: Iterable[int]) -> None:
        """These were not heard for a while: the next volume is not that of the row before, nor the next distance."""
        for token in tokens:
            if (held := self.held.get(token)) is not None:
                held.fresh = False

    def drain(self) -> list[LiveRow]:
        """The rows since the last call."""
        rows = list(self._rows)
        self._rows.clear()
        return rows

    def stale(self, now: float, wall: int, quiet: float, opened: Opened) -> list[str]:
        """Symbols whose last price is not to be trusted: impossible packets, or no news for too long while trading."""
        found: list[str] = []
        for held in self.held.values():
            age = now - held.heard
            if not held.suspect and age <= quiet:
                continue
            since = opened(held.instrument, wall)
            if since is not None and (
                held.suspect or min(age, (wall - since) / SECOND) > held.patience(quiet)
            ):
                found.append(held.instrument.symbol)
        return found

    def waiting(self, wall: int) -> list[str]:
        """Symbols that have not had a packet of today: their prices are another day's, or none."""
        return [held.instrument.symbol for held in self.held.values() if held.waits(wall)]

    def take(self, frame: bytes, now: float, wall: int) -> int:
        """One binary message heard at ``now`` (monotonic) and ``wall`` (ns); how many packets it had.

        Whatever it is, nothing is raised.
        """
        if self._known is None:
            self._listed = list(self.held.values())
            self._known = Known(self.held)
        packets = decode(frame, self._known)
        counts = self.counts
        counts["frames"] += 1
        counts["packets"] += len(packets)
        counts["short"] += packets.short
        counts["odd"] += packets.odd
        places: list[int] = packets.row.tolist()
        kinds: list[int] = packets.kind.tolist()
        columns: list[list[int]] = packets.columns[list(_READ)].T.tolist()
        for row, kind, values in zip(places, kinds, columns, strict=True):
            if row < 0:
                counts["unknown"] += 1
            elif kind not in STAMPED:
                self._unstamped(self._listed[row])
            else:
                self._packet(self._listed[row], values, now, wall)
        return len(packets)

    def _unstamped(self, held: Held) -> None:
        self.counts["unstamped"] += 1
        held.unstamped += 1
        if held.unstamped >= UNSTAMPED:
            held.unstamped = 0
            self.downgraded.add(held.token)

    def _packet(self, held: Held, values: list[int], now: float, wall: int) -> None:
        price, seconds, volume, bid, ask, bid_quantity, ask_quantity = values
        held.unstamped = 0
        ts = seconds * SECOND
        today = ist_day(ts) == ist_day(wall)
        if not today and ts <= wall and held.waits(wall):
            self.counts["other_day"] += 1
            return
        said = (price, ts, volume, bid, ask, bid_quantity, ask_quantity)
        if said == held.said:
            self.counts["repeated"] += 1
            held.fresh, held.suspect = True, ""  # nothing was missed, also if we were away
            return
        fault = self._fault(held, price, ts, volume, today, wall)
        if fault:
            self.counts[fault] += 1
            if fault in QUARANTINED:
                held.suspect = fault
            return
        if held.ts and ist_day(held.ts) != ist_day(ts):
            held.fresh = False  # the volume begins anew each day
        traded = max(0, volume - held.volume) if held.fresh else 0
        if held.fresh:
            held.distances.append(now - held.heard)
        held.fresh, held.suspect, held.behind = True, "", 0
        held.ts, held.volume, held.heard, held.said = ts, volume, now, said
        if len(self._rows) >= ROWS_HELD:
            self._rows.popleft()
            self.counts["overflowed"] += 1
        self.counts["rows"] += 1
        bids = (bid, bid_quantity) if _possible(bid) else (0, 0)
        asks = (ask, ask_quantity) if _possible(ask) else (0, 0)
        self._rows.append(LiveRow(held.index, ts, price, traded, bids[0], asks[0], bids[1], asks[1]))

    def _fault(self, held: Held, price: int, ts: int, volume: int, today: bool, wall: int) -> str:
        """Why a packet makes no row; "" if it does."""
        if not _possible(price):
            return "price"
        if not today or ts > wall + MINUTE:
            return "stamp"
        if volume in IMPOSSIBLE:
            return "volume"
        late = ts < held.ts
        falls = volume < held.volume and ist_day(ts) == ist_day(held.ts)
        if late or falls:
            held.behind += 1
            if held.behind < WITNESSES:
                return "late" if late else "volume"
        return ""


def _possible(price: int) -> bool:
    """A price of something that is traded; on the wire 0 and below mean that there is none."""
    return price > 0 and price not in IMPOSSIBLE


def always(instrument: Instrument, wall: int) -> int | None:
    """Trading hours of a market that never closes."""
    return 0


def trading_hours(rulebook: Rulebook) -> Opened:
    """Since when an instrument trades, by the rulebook: None outside its continuous session.

    A day that no rule covers counts as open: a silence that nobody looked at is worse than a false alarm.
    """
    known: dict[
        str, list[tuple[int, int]]
    ] = {}  # of one day: thousands of instruments are asked for each second
    known_day = 0

    def opened(instrument: Instrument, wall: int) -> int | None:
        nonlocal known_day
        day = ist_day(wall)
        if day != known_day:
            known.clear()
            known_day = day
        spans = known.get(instrument.symbol)
        if spans is None:
            spans = known[instrument.symbol] = continuous(rulebook, instrument, day)
        return next((opens for opens, closes in spans if opens <= wall < closes), None)

    return opened


def continuous(rulebook: Rulebook, instrument: Instrument, day: int) -> list[tuple[int, int]]:
    """The continuous phases of an IST day (days since 1970), in ns; all of a day that no rule covers."""
    try:
        session = rulebook.session(instrument, EPOCH_DAY + dt.timedelta(day))
    except AlphaPandaException:
        midnight = day * DAY - IST_OFFSET_NS
        return [(midnight, midnight + DAY)]
    phases = () if session is None else session.phases
    return [(opens, closes) for name, opens, closes in phases if name == "continuous"]

"""The feed: sources as the settings name them, a pump, and how they do, for the heartbeat."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import fcntl
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from alphapanda import logs
from alphapanda.buses.base import Bus
from alphapanda.buses.ticks import TickWriter
from alphapanda.clock import monotonic, pause, wall_ns
from alphapanda.errors import InfrastructureError, RedisError
from alphapanda.events import ist_day
from alphapanda.feeds.base import Playback, Universe
from alphapanda.feeds.binance import BinanceStreams
from alphapanda.feeds.connection import Timing
from alphapanda.feeds.outbox import Outbox
from alphapanda.feeds.pump import Pump
from alphapanda.feeds.services import Services, unlisted
from alphapanda.feeds.views import Views
from alphapanda.settings import Settings
from alphapanda.tapes.tape import EPOCH_DAY
from alphapanda.workspace import Workspace

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from alphapanda.feeds.kite_day import KiteDay

RECONCILE = 0.5  # seconds between two looks at the subscriptions
BAD_ROWS = 10  # quarantined or malformed within a minute: the feed is degraded
LOCK_SECONDS = 5.0  # for the feed before this one to end


class Feed:
    """Everything between the sources and the bus, for one workspace."""

    def __init__(self, workspace: Workspace, settings: Settings, bus: Bus, client: Redis) -> None:
        self._workspace, self._settings = workspace, settings.feed
        self._patience = settings.monitoring.stale_tick_seconds
        self._lock = _locked(workspace.tapes / "feed.lock")
        self._universe = Universe()
        self._outbox = Outbox(TickWriter(bus), self._universe.topics)
        self._views = Views(client)
        streams = BinanceStreams(settings.feed.crypto_url, Timing(quiet=self._patience))
        self._kite = self._kite_day(settings)
        venue = None if self._kite is None else self._kite.venue
        self._services = Services(
            self._universe,
            lambda symbol: symbol in self.pump.played,
            streams,
            venue,
            unlisted if venue is None else venue.instrument,
        )
        self.pump = Pump(
            workspace.tapes,
            None if self._kite is not None else self._playback(),
            self._services,
            self._universe,
            self._outbox,
            self._views,
            speed=settings.feed.speed,
            wait_for_runs=settings.feed.wait_for_runs,
            finished=self._finished,
            wall=wall_ns if self._kite is None else self._kite.clock.now,
        )
        self._rows: dict[str, int] = {}
        self._bad: deque[int] = deque([0], maxlen=60)  # so far, a value a second
        self._sealing: set[asyncio.Task[None]] = set()
        self._one_seal = asyncio.Lock()
        self._log = logs.channel("application")

    def _kite_day(self, settings: Settings) -> KiteDay | None:
        if self._settings.source != "kite":
            return None
        from alphapanda.feeds.kite_day import KiteDay

        return KiteDay(settings, self._workspace, self._patience)

    def _playback(self) -> Playback:
        feed = self._settings
        if feed.source == "tape":
            from alphapanda.feeds.recorded import RecordedTape

            return RecordedTape.open(feed.tape)
        from alphapanda.feeds.synthetic import BUNDLED, SyntheticMarket

        sealed = [day for path in self._workspace.tapes.glob("*.parquet") if (day := _day(path)) is not None]
        return SyntheticMarket(feed.seed, feed.ticks_per_second, max([BUNDLED, *sealed]))

    async def run(self) -> None:
        """Serve until cancelled."""
        for service in self._services.all.values():
            await service.start()
        work = [self._outbox.run(), self._reconcile(), self._pumped()]
        work += [] if self._kite is None else [self._kite.run()]
        tasks = [asyncio.create_task(one) for one in work]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await _ended(tasks)
            for task in self._sealing:
                task.cancel()
            for service in self._services.all.values():
                await service.stop()
            self.pump.writer.close()
            self._lock.close()

    async def _pumped(self) -> None:
        if self._kite is not None:
            await self._kite.clock.known.wait()
        self._catch_up()
        await self.pump.run()

    async def _reconcile(self) -> None:
        while True:
            with contextlib.suppress(
                RedisError
            ):  # who subscribed stays subscribed; the outbox tells of the server
                self._services.reconcile(await self._views.subscriptions())
            await asyncio.sleep(RECONCILE)

    def health(self) -> dict[str, Any]:
        """How the feed is now, for its heartbeat; rates are rows since the last call, a second ago."""
        pump, outbox, now = self.pump, self._outbox, monotonic()
        rates = {topic: rows - self._rows.get(topic, 0) for topic, rows in self._services.rows.items()}
        self._rows = dict(self._services.rows)
        quarantined = dict(pump.sequencer.quarantined)
        if pump.day is not None and pump.day.quarantined:
            quarantined["price"] = quarantined.get("price", 0) + pump.day.quarantined
        crypto: dict[str, Any] = (
            {} if self._services.crypto.venue is None else self._services.crypto.venue.health()
        )
        bad = sum(quarantined.values()) + crypto.get("counts", {}).get("malformed", 0)
        kite: dict[str, Any] = {} if self._kite is None else self._kite.health()
        bad += kite.get("counts", {}).get("malformed", 0) + kite.get("counts", {}).get("quarantined", 0)
        stale = bool(kite["stale"]) if kite else pump.state == "running" and now - pump.heard > self._patience
        troubles = [*pump.faults.values(), *kite.get("troubles", ())]
        troubles += [f"not published: {outbox.fault}"] if outbox.fault else []
        troubles += ["no ticks in an open market"] if stale and not kite else []
        troubles += ["many impossible or malformed ticks"] if bad - self._bad[0] >= BAD_ROWS else []
        self._bad.append(bad)
        troubles += (
            ["the crypto venue is not connected"] if crypto.get("state") in ("waiting", "refused") else []
        )
        logged_out = kite.get("state") == "logged_out"
        return {
            "state": "logged_out" if logged_out else "degraded" if troubles else pump.state,
            "detail": "; ".join(troubles) or self._detail(),
            "source": self._settings.source,
            "clock": pump.sequencer.clock,
            "frame": pump.sequencer.number,
            "row": pump.sequencer.rows,
            "rates": rates,
            "stale": stale,
            "quarantined": quarantined,
            "suspect": sorted(self._universe.instruments[n].symbol for n in pump.sequencer.suspect),
            "failures": outbox.failures,
            "unsent": outbox.unsent,
            "unknown": list(self._services.unknown),
            "services": {name: service.health() for name, service in self._services.all.items()},
            **({"kite": kite} if kite else {}),
        }

    def _detail(self) -> str:
        day = self.pump.day
        return "" if day is None else day.key

    # ── sealing ──────────────────────────────────────────────────────────────────────────────────

    def _finished(self) -> None:
        self._seal(EPOCH_DAY + dt.timedelta(ist_day(self.pump.sequencer.clock)))

    def _catch_up(self) -> None:
        """Days that ended while nobody was there to seal them."""
        today = EPOCH_DAY + dt.timedelta(ist_day(self.pump.writer.clock))
        for path in self._workspace.tapes.glob("*.ticks"):
            day = _day(path)
            if day is not None and day < today and not path.with_suffix(".parquet").exists():
                self._seal(day)

    def _seal(self, day: dt.date) -> None:
        if self._settings.record:
            task = asyncio.create_task(self._sealed(day))
            self._sealing.add(task)
            task.add_done_callback(self._sealing.discard)

    async def _sealed(self, day: dt.date) -> None:
        command = ("-P", "-m", "alphapanda.feeds", str(self._workspace.root), "--seal", str(day))
        async with self._one_seal:
            child = await asyncio.create_subprocess_exec(
                sys.executable, *command, stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            try:
                _, said = await child.communicate()
            except asyncio.CancelledError:
                child.kill()
                await child.wait()
                raise
        if child.returncode:
            logs.channel("error").error(
                "feed.seal_failed", day=str(day), error=said.decode("utf-8", "replace")[-500:]
            )
        else:
            self._log.info("feed.sealed", day=str(day))


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel them until they are done: a client that connects may swallow a cancel."""
    while pending := [one for one in tasks if not one.done()]:
        for one in pending:
            one.cancel()
        await asyncio.wait(pending, timeout=0.5)


def _day(path: Path) -> dt.date | None:
    try:
        return dt.date.fromisoformat(path.stem)
    except ValueError:
        return None


def _locked(path: Path) -> IO[bytes]:
    """The right to write this workspace's log, held until the process ends."""
    file = path.open("ab")
    until = monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if monotonic() > until:
                file.close()
                raise InfrastructureError(
                    "another feed writes this workspace's log", fix="end it: `alphapanda stop`"
                ) from None
            pause(0.05)
        else:
            return file

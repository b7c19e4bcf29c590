"""The one thread of a process that looks at everything, and makes an ``Overview`` whenever something has changed.

It asks the server a few times a second, the hub once a second, and follows the tape log and the error channel on disk.
Nothing that goes missing ends it: what was read last stays, ``lost`` says since when, and it tries again.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from typing import Any, Self

import msgspec
import redis

from alphapanda import logs
from alphapanda.buses.base import decode
from alphapanda.clock import monotonic, wall_ns
from alphapanda.errors import AlphaPandaException
from alphapanda.hub.client import HubClient
from alphapanda.letters.statistics import errors_key
from alphapanda.overview.lanes import LaneBook
from alphapanda.overview.market import Bars, Market
from alphapanda.overview.snapshot import Halt, Lane, Overview, Process
from alphapanda.overview.trouble import Trouble
from alphapanda.overview.view import SHARED, View, renewed
from alphapanda.server import address
from alphapanda.settings import Settings
from alphapanda.state.client import open_blocking
from alphapanda.workspace import HALT, RunSpec, Workspace

HUB_SECONDS = 1.0  # between two questions to the hub
FRESH_SECONDS = 0.06  # a look waits so long for a tick, to show it new: a feed hands them out in parts
EVENTS = 2_000  # of each topic in one look
RUNS_MAX = 200  # newest runs that are looked at

Facts = dict[str, Any]


class Reader:
    """Keeps ``newest``; safe to ask from any thread."""

    def __init__(self, workspace: Workspace, settings: Settings, period: float = 0.25) -> None:
        self.workspace, self.settings, self.period = workspace, settings, period
        self.newest = Overview()
        self._market = Market(workspace.tapes)
        self._trouble = Trouble(workspace, settings)
        self._books: dict[str, LaneBook] = {}
        self._views: dict[str, View] = {}
        self._hub: Facts = {}
        self._asked = -HUB_SECONDS
        self._lost = 0
        self._raw: dict[str, bytes | None] = {}
        self._letters: dict[str, int] = {}
        self._specs: dict[str, tuple[tuple[int, int], RunSpec]] = {}  # by run: which file it was read from
        self._documents: dict[str, Facts] = {}
        self._client: redis.Redis | None = None
        self._closed, self._changed = threading.Event(), threading.Condition()
        self._thread = threading.Thread(target=self._keep, name="alphapanda-overview", daemon=True)

    def start(self) -> Self:
        """Look from now on."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Look no more."""
        self._closed.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(2.0)
        self._market.close()

    def wait(self, after: int, timeout: float) -> Overview:
        """The overview once its number is above ``after``; the newest there is after ``timeout`` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self.newest.number > after or self._closed.is_set(), timeout)
        return self.newest

    def bars(self, symbol: str, minutes: int = 1) -> Bars:
        """The bars of the symbol's newest day; rupees."""
        return self._market.bars(symbol, minutes)

    def _keep(self) -> None:
        while not self._closed.is_set():
            began = monotonic()
            try:
                made = self.look()
            except Exception:  # noqa: BLE001 - a fault in one look must not be the last look
                logs.channel("error").exception("overview.failed")
                self._closed.wait(1.0)
                continue
            if made is not None:
                with self._changed:
                    self.newest = made
                    self._changed.notify_all()
            self._closed.wait(max(0.01, began + self.period - monotonic()))
            self._market.wait(min(FRESH_SECONDS, self.period))
        if self._client is not None:
            self._client.close()

    def look(self) -> Overview | None:
        """One look; None if nothing has changed."""
        now, before = wall_ns(), self.newest
        self._ask_hub()
        self._market.look(now)
        specs = self._read_specs()
        halts = {name: _halt(flag) for name, flag in self.workspace.halts().items()}
        names = self._namespaces(specs)
        self._read_server(names, specs)
        self._look_at_runs(specs, halts)
        lanes = {name: self._lane(name, halts.get(name)) for name in names}
        told: Facts = self._hub.get("hub") or {}
        made = Overview(
            number=before.number, at=before.at, lost=self._lost, hub=str(told.get("state", "")),
            troubles=tuple(told.get("troubles", ())), processes=self._processes(), lanes=lanes,
            runs=tuple(self._views.values()), prices=self._market.prices(),
            letters=self._letters, **self._trouble.look(now),
        )  # fmt: skip
        if made == before:
            return None
        return msgspec.structs.replace(made, number=before.number + 1, at=now)

    # ── who there is

    def _ask_hub(self) -> None:
        if monotonic() - self._asked < HUB_SECONDS:
            return
        self._asked = monotonic()
        try:
            self._hub = HubClient(self.workspace).ask({"do": "status"}, 2.0)
        except AlphaPandaException:
            self._hub = {}

    def _read_specs(self) -> dict[str, RunSpec]:
        """Runs by their folders, the newest that there are; a file is read again once it was written anew."""
        found: dict[str, tuple[tuple[int, int], RunSpec]] = {}
        with contextlib.suppress(OSError):
            folders = sorted(self.workspace.runs.iterdir(), key=lambda one: one.stat().st_mtime)[-RUNS_MAX:]
            for folder in folders:
                with contextlib.suppress(OSError, msgspec.MsgspecError):
                    file = (folder / "run.json").stat()
                    which = file.st_ino, file.st_mtime_ns
                    known = self._specs.get(folder.name)
                    if known is None or known[0] != which:
                        known = which, RunSpec.read(folder)
                    found[folder.name] = known
        self._specs = found
        return {run: spec for run, (_, spec) in found.items()}

    def _namespaces(self, specs: Mapping[str, RunSpec]) -> list[str]:
        """Those that trade, or ever did: paper first."""
        known = {SHARED, *(spec.namespace for spec in specs.values())}
        with contextlib.suppress(OSError):
            known |= {path.stem for path in self.workspace.journal(SHARED).parent.glob("*.sqlite")}
        return sorted(known, key=lambda name: (name != SHARED, name))

    def _processes(self) -> tuple[Process, ...]:
        if not self._hub:
            return ()
        server, hub = self._hub["server"], self._hub["hub"]
        alive = "ready" if server.get("alive") or not server.get("embedded") else "down"
        rows = [{"role": "hub", **hub}, {**server, "role": "server", "state": alive}, *self._hub["children"]]
        return tuple(_process(row) for row in rows)

    # ── what they wrote

    def _read_server(self, names: list[str], specs: Mapping[str, RunSpec]) -> None:
        """Documents in one round trip, topics in another. Of a run that is over nothing new is to be read."""
        books = {name: self._books.setdefault(name, LaneBook(name)) for name in names}
        portfolio = self.settings.portfolio_manager.portfolio_id
        open_ = [run for run in specs if run not in self._views or not self._views[run].over]
        keys = [f"{specs[run].namespace}:{kind}:{run}" for run in open_ for kind in ("run", "runner")]
        keys += [f"health:gateway:{name}" for name in names]
        keys += [errors_key(name) for name in names]
        money = [f"{name}:portfolio:{portfolio}" for name in names]  # hashes: a document beside its version
        try:
            if self._client is None:
                self._client = open_blocking(address(self.workspace, self.settings), self.settings.redis)
            server: Any = self._client
            with server.pipeline(transaction=False) as asked:
                asked.mget(keys)
                for key in money:
                    asked.hget(key, "document")
                found, *portfolios = asked.execute()
            while self._heard(server, books):
                pass
            self._letters = self._trouble.letters(server)
        except (redis.RedisError, OSError):
            self._lost = self._lost or wall_ns()
            if self._client is not None:
                self._client.close()
            self._client = None
            return
        self._lost = 0
        self._raw = dict(zip([*keys, *money], [*found, *portfolios], strict=True))
        self._trouble.counted({name: self._raw[errors_key(name)] for name in names})

    def _heard(self, server: Any, books: Mapping[str, LaneBook]) -> bool:
        """Take what the topics have that is new; whether there may be more."""
        offsets = {topic: at for book in books.values() for topic, at in book.offsets.items()}
        more = False
        for topic, entries in server.xread(offsets, count=EVENTS) or ():
            name = topic.decode()
            book = books[name.partition(".")[0]]
            book.offsets[name] = entries[-1][0].decode()
            more |= len(entries) >= EVENTS
            for _, fields in entries:
                try:
                    book.take(decode(fields[b"b"]))
                except (AlphaPandaException, KeyError, TypeError, ValueError) as error:
                    logs.channel("error").error("overview.unreadable", topic=name, error=error)
        return more

    def _look_at_runs(self, specs: Mapping[str, RunSpec], halts: Mapping[str, Halt]) -> None:
        views: dict[str, View] = {}
        for run, spec in sorted(specs.items(), key=lambda one: -one[1].started):
            halt = halts.get(spec.namespace)
            raw = [self._raw.get(f"{spec.namespace}:{kind}:{run}") for kind in ("run", "runner")]
            view = self._views.get(run) or View(
                run, spec.namespace, spec.name, spec.digest, spec.parameters, spec.symbols
            )
            views[run] = renewed(view, raw, spec, halt.reason if halt else "", self._lost)
        self._views = views

    def _lane(self, name: str, halt: Halt | None) -> Lane:
        portfolio = self.settings.portfolio_manager.portfolio_id
        runs = [view for view in self._views.values() if view.namespace == name]
        money, gateway = (
            self._document(key) for key in (f"{name}:portfolio:{portfolio}", f"health:gateway:{name}")
        )
        return self._books[name].lane(money, gateway, halt, runs, self.settings.risk)

    def _document(self, key: str) -> Facts:
        """A document; as it was read last where the server has none."""
        raw = self._raw.get(key)
        if raw is not None:
            with contextlib.suppress(msgspec.MsgspecError):
                self._documents[key] = msgspec.json.decode(raw, type=Facts)
        return self._documents.get(key, {})


def _halt(flag: Facts) -> Halt:
    by, reason = str(flag.get("by") or ""), str(flag.get("reason") or "no reason was given")
    return Halt(_int(flag.get("level")) or HALT, reason, by, _int(flag.get("at")))


def _process(row: Facts) -> Process:
    health: Facts = row.get("health") or {}
    return Process(
        role=str(row["role"]), state=str(row.get("state", "")), pid=_int(row.get("pid")),
        cpu=float(row.get("cpu") or 0), rss_mb=float(row.get("rss_mb") or 0), restarts=_int(row.get("restarts")),
        since=_int(row.get("since")), at=_int(health.get("at")), detail=str(health.get("detail") or ""),
        error=str(row.get("error") or ""), health=health,
    )  # fmt: skip


def _int(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0

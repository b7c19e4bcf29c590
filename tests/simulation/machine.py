"""The computer of a simulated world: the processes on it, its disk, its wall clock; and how each of them fails."""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from alphapanda.errors import DatabaseError
from alphapanda.events import SECOND
from alphapanda.zerodha.limits import Limiter
from alphapanda.zerodha.orderpath import OrderPath
from alphapanda.zerodha.policy import Policy
from alphapanda.zerodha.reading import NEAR
from alphapanda.zerodha.store import Store

if TYPE_CHECKING:
    from tests.simulation.world import World

NAMES = itertools.count()
SYNCED = 2  # PRAGMA synchronous=FULL: a commit is on the disk
CAPS = ((1.1, 8), (61.0, 60))  # of a world that is watched for what a minute and a day may hold
CALLS_A_DAY = 60


class Crash(BaseException):
    """The process dies here."""


class WorldStore(Store):
    """Its process may die before a commit or after it; the disk may be full; what is not synced may be gone."""

    die: Callable[[str], None] = staticmethod(lambda where: None)
    full: Callable[[], bool] = staticmethod(lambda: False)
    committed: Callable[[WorldStore], None] = staticmethod(lambda store: None)

    @contextlib.contextmanager
    def _begun(self) -> Generator[None]:
        self.die("before")
        if self.full():
            raise DatabaseError(
                "the order journal cannot be used: database or disk is full", fix="free the disk"
            )
        with super()._begun():
            yield
        self.committed(self)
        self.die("after")

    @property
    def synced(self) -> bool:
        """Whether a commit waits for the disk, asked of SQLite itself."""
        return self._db.execute("PRAGMA synchronous").fetchone()[0] == SYNCED


class Machine:
    """Runs gateways of one account: one in charge, and now and then one that was thought dead."""

    def __init__(self, world: World, path: type[OrderPath], store: type[WorldStore]) -> None:
        self.world, self.random = world, world.random
        self.path_class, self.store_class = path, store
        self._place = f"file:sim{os.getpid()}-{next(NAMES)}?mode=memory&cache=shared"
        self.store = Store(self._place)  # the tests' own look at the disk
        self._stores: list[Store] = [self.store]
        self._on_disk: tuple[int, bytes] | None = (
            None  # when the disk last caught up, and what it holds since
        )
        self.path: OrderPath | None = None  # of the process that is in charge
        self.lives: dict[int, OrderPath] = {}  # those that run, among them one that was thought dead
        self.asleep: dict[int, int] = {}  # processes that are stopped, and until when
        self.life = self.running = 0
        self.full_until = 0
        self.fuse = 0  # steps of the disk until the process in charge dies; 0: it is not lit
        self.set_by = 0  # ns by which somebody has set the wall clock
        self.was_wrong = False  # by more than what an order without a tag is looked for in
        self.crashes = 0
        self.commits = 0  # of all processes
        self.since = 0  # when the process in charge began, or woke up
        self.watched = self.random.random() < 0.15

    def close(self) -> None:
        """Let go of the memory that stands for the disk."""
        for store in self._stores:
            store.close()

    @property
    def wall(self) -> int:
        """What its clock says."""
        return self.world.now + self.set_by

    # ── processes ────────────────────────────────────────────────────────────────────────────────────────────────

    def boot(self) -> None:
        """The supervisor starts a gateway. Again, if the disk is full."""
        self.life += 1
        self.running = life = self.life
        try:
            store = self.store_class(self._place)
            self._stores.append(store)
            store.die, store.full = self._maybe_die, lambda: self.world.now < self.full_until
            store.committed = self._written
            limiter = Limiter(CAPS, CALLS_A_DAY) if self.watched else Limiter()
            self.since = self.world.now
            self.path = self.lives[life] = self.path_class(store, Policy(), limiter, self.wall)
        except DatabaseError:
            self.path = None
            self.world.after(2, self.boot)
            return
        self.world.people.ask_again()
        self.world.pump(life)

    def _maybe_die(self, where: str) -> None:
        if self.fuse:
            self.fuse -= 1
            if self.fuse == 0 and self.world.faulty:
                raise Crash(where)
        if self.world.unlucky("crash", 0.02):
            raise Crash(where)

    def died(self, life: int, *, stopped: bool = False) -> None:
        """A process dies; or is only stopped, and wakes up when another is in charge."""
        self.crashes += 1
        self.world.note(f"crash of {life}")
        if stopped:
            self.asleep[life] = self.world.now + int(self.random.uniform(5, 25) * SECOND)
        else:
            self.lives.pop(life, None)
        if life == self.life:
            self.path = None
            self.life += 1
            self.world.after(self.random.uniform(0.2, 10), self.boot)

    def crash(self) -> None:
        """The process in charge dies now."""
        if self.path is not None:
            self.died(self.life, stopped=self.random.random() < 0.5)

    def pause(self) -> None:
        """The process in charge, or the whole machine, is stopped for a while, and goes on as if nothing was."""
        self.asleep[self.life] = self.world.now + int(self.random.uniform(1, 40) * SECOND)

    def blocked(self, error: DatabaseError) -> None:
        """As the shell does: nothing while the journal cannot be written; the end if another is in charge."""
        self.world.note(f"{self.running} {error.code}")
        if error.code == "E_LEASE":
            self.lives.pop(self.running, None)
            if self.running == self.life:
                self.world.wrong.append(f"I3: {self.running} lost its place to nobody")
        elif self.running in self.lives:
            life = self.running
            self.world.after(0.25, lambda: self.world.pump(life, once=True))

    def awake(self, life: int, do: Callable[[], None]) -> OrderPath | None:
        """The path of a process that runs. One that is stopped does it when it wakes."""
        path = self.lives.get(life)
        if path is not None and (wakes := self.asleep.get(life, 0)) > self.world.now:
            self.world.at(wakes, do)
            self.since = wakes if life == self.life else self.since
            return None
        self.running = life
        return path

    @property
    def listening(self) -> OrderPath | None:
        """The path that people can talk to, if there is one."""
        return self.path if self.asleep.get(self.life, 0) <= self.world.now else None

    # ── disk, power, clock ───────────────────────────────────────────────────────────────────────────────────────

    def _written(self, store: WorldStore) -> None:
        """A commit. Where commits do not wait for the disk, it catches up once a second."""
        self.commits += 1
        if store.synced:
            self._on_disk = None
        elif self._on_disk is None or self.world.now - self._on_disk[0] >= SECOND:
            self._on_disk = self.world.now, self.store._db.serialize()  # pyright: ignore[reportPrivateUsage]

    def power_cut(self) -> None:
        """Every process dies, and with them whatever had been written and was not on the disk."""
        self.world.note("power cut")
        if self._on_disk is not None:
            with contextlib.closing(sqlite3.connect(":memory:")) as kept:
                kept.deserialize(self._on_disk[1])
                kept.backup(self.store._db)  # pyright: ignore[reportPrivateUsage]
        self.asleep.clear()
        for life in list(self.lives):
            if life != self.life:
                self.died(life)
        if self.path is not None:
            self.died(self.life)

    def set_clock(self, seconds: float) -> None:
        """Somebody sets the wall clock."""
        self.world.note(f"clock set by {seconds}")
        self.set_by += int(seconds * SECOND)
        self.was_wrong = self.was_wrong or abs(self.set_by) > NEAR[0]

    # ── what is said to it ───────────────────────────────────────────────────────────────────────────────────────

    def calls_left(self) -> int:
        """How many calls its account may still make today, as it has been told."""
        return CALLS_A_DAY - len(self.store.calls(0)) if self.watched else 1 << 30

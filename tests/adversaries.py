"""Strategies that must not pass a proof, each for its own reason; and some that look like them and must."""

from __future__ import annotations

import datetime as dt
import os
import random
import socket
import subprocess
import threading
import time
import uuid
from pathlib import Path
from random import random as draw
from time import time as clock
from typing import Any

import numpy as np
import polars as pl

import alphapanda as ap

SYMBOL = "NSE:INFY"
SEEN: list[float] = []
COUNTS: dict[str, int] = {"ticks": 0}
TOTAL = 0
SHARED = random.Random(7)


class Every(ap.Strategy):
    """Buys one share at every hundredth tick, if ``act`` says so."""

    symbols = [SYMBOL]

    def on_start(self) -> None:
        self.state.n = 0

    def on_tick(self, tick: ap.Tick) -> None:
        self.state.n += 1
        if self.state.n % 100 == 0 and self.act(tick):
            self.buy(tick.symbol, 1)

    def act(self, tick: ap.Tick) -> bool:
        return True


class Honest(Every):
    """Uses what it should: tape time, seeded numbers, state."""

    def act(self, tick: ap.Tick) -> bool:
        self.state.last = str(self.now)
        return self.random.random() < 0.5 and random.Random(int(tick.price * 100)).random() < 2


class Now(Every):
    def act(self, tick: ap.Tick) -> bool:
        return dt.datetime.now(dt.UTC).microsecond % 2 == 0


class Today(Every):
    def act(self, tick: ap.Tick) -> bool:
        return dt.date.today().year > 2000


class Clock(Every):
    def act(self, tick: ap.Tick) -> bool:
        return clock() > 0


class Sleeps(Every):
    def act(self, tick: ap.Tick) -> bool:
        time.sleep(0.0001)
        return True


class Draws(Every):
    def act(self, tick: ap.Tick) -> bool:
        return draw() < 0.5


class Chooses(Every):
    def act(self, tick: ap.Tick) -> bool:
        return random.choice([True, False])


class Unseeded(Every):
    def act(self, tick: ap.Tick) -> bool:
        return random.Random().random() < 0.5


class NumpyDraws(Every):
    def act(self, tick: ap.Tick) -> bool:
        return bool(np.random.rand() < 0.5)


class Uuid(Every):
    def act(self, tick: ap.Tick) -> bool:
        return uuid.uuid4().int % 2 == 0


class Urandom(Every):
    def act(self, tick: ap.Tick) -> bool:
        return os.urandom(1)[0] % 2 == 0


class OpensTape(Every):
    """Reads the file that the ticks come from."""

    def act(self, tick: ap.Tick) -> bool:
        try:
            with Path("tape.parquet").open("rb") as file:
                return file.read(1) == b"P"
        except OSError:
            return True


class ReadsFrame(Every):
    def act(self, tick: ap.Tick) -> bool:
        try:
            return len(pl.read_parquet("tape.parquet")) > 0
        except OSError:
            return True


class Connects(Every):
    def act(self, tick: ap.Tick) -> bool:
        with socket.socket() as line:
            line.settimeout(0.1)
            return line.connect_ex(("127.0.0.1", 9)) != 0


class Shells(Every):
    def act(self, tick: ap.Tick) -> bool:
        if self.state.n == 100:
            subprocess.run(["true"], check=True)
        return True


class Threads(Every):
    def act(self, tick: ap.Tick) -> bool:
        if self.state.n == 100:
            threading.Thread(target=print, args=("",)).start()
        return True


class Environ(Every):
    def act(self, tick: ap.Tick) -> bool:
        return os.environ.get("HOME") != "nowhere"


class Appends(Every):
    def act(self, tick: ap.Tick) -> bool:
        SEEN.append(tick.price)
        return len(SEEN) % 2 == 0


class Counts(Every):
    def act(self, tick: ap.Tick) -> bool:
        COUNTS["ticks"] += 1
        return COUNTS["ticks"] % 2 == 0


class Global(Every):
    def act(self, tick: ap.Tick) -> bool:
        global TOTAL
        TOTAL += 1
        return TOTAL % 2 == 0


class ClassCount(Every):
    seen = 0

    def act(self, tick: ap.Tick) -> bool:
        type(self).seen += 1
        return self.seen % 2 == 0


class SharedGenerator(Every):
    def act(self, tick: ap.Tick) -> bool:
        return SHARED.random() < 0.5


class Default(Every):
    def act(self, tick: ap.Tick, kept: list[float] = []) -> bool:  # noqa: B006
        kept.append(tick.price)
        return len(kept) % 2 == 0


class WritesTick(Every):
    def act(self, tick: ap.Tick) -> bool:
        tick.price = 1.0  # pyright: ignore[reportAttributeAccessIssue]
        return True


class WritesBlock(ap.Strategy):
    symbols = [SYMBOL]

    def on_ticks(self, block: Any) -> None:
        block.price[0] = 1.0


class Tomorrow(ap.Strategy):
    """Buys where the next tick is higher: an index into what has not happened."""

    symbols = [SYMBOL]

    def on_ticks(self, block: Any) -> None:
        for row in range(0, len(block) - 1, 97):
            if block.price[row + 1] > block.price[row]:
                self.buy(SYMBOL, 1, at=row)


class BlockMean(ap.Strategy):
    """Compares with the mean of the whole block, later rows included."""

    symbols = [SYMBOL]

    def on_ticks(self, block: Any) -> None:
        mean = block.price.mean()
        for row in range(0, len(block), 97):
            if block.price[row] < mean:
                self.buy(SYMBOL, 1, at=row)


class Hashes(Every):
    """Depends on the order of a set of texts, which every process has its own of."""

    def act(self, tick: ap.Tick) -> bool:
        self.state.seen = next(iter({"a", "b", "c", "d", str(tick.ts)}))
        return self.state.seen < "c"


class Process(Every):
    """Depends on which process it runs in: no two lanes agree."""

    def act(self, tick: ap.Tick) -> bool:
        self.state.seen = os.getpid()
        return random.Random(os.getpid() + self.state.n).random() < 0.5


class Zone(Every):
    """Depends on the machine's time zone."""

    def act(self, tick: ap.Tick) -> bool:
        self.state.seen = dt.datetime.fromtimestamp(tick.ts / 1e9).hour
        return self.state.seen % 2 == 0


class Cold(ap.Strategy):
    """Needs two days of bars and asks for none."""

    symbols = [SYMBOL]

    def on_start(self) -> None:
        self.indicator(SYMBOL, ap.EMA(500), name="slow")

    def on_bar(self, bar: ap.Bar) -> None:
        slow = self.ind(SYMBOL, "slow")
        if slow.ready and bar.minute % 30 == 0:
            (self.buy if bar.close > slow.value else self.sell)(SYMBOL, 1)


class Warm(Cold):
    """The same, and says so."""

    warmup = "2d"


CAUGHT = {  # by the check of this name
    Now: "purity: clock", Today: "purity: clock", Clock: "purity: clock", Sleeps: "purity: clock",
    Draws: "purity: random", Chooses: "purity: random", Unseeded: "purity: random", NumpyDraws: "purity: random",
    Uuid: "purity: random", Urandom: "purity: random",
    OpensTape: "purity: file", ReadsFrame: "purity: file", Connects: "purity: network", Shells: "purity: process",
    Threads: "purity: process", Environ: "purity: environment",
    Appends: "purity: global", Counts: "purity: global", Global: "freeze", ClassCount: "purity: global",
    SharedGenerator: "freeze", Default: "purity: global",
    WritesTick: "tick unchanged", WritesBlock: "tick unchanged",
    Tomorrow: "look-ahead", BlockMean: "look-ahead", Hashes: "noise", Zone: "noise", Cold: "warm-up",
}  # fmt: skip

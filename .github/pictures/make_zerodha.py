"""Make the README's picture of the zerodha namespace anew: `python .github/pictures/make_zerodha.py`.

A sandbox, a strategy and an order by hand, and what `alphapanda preflight`, `status` and `kill` then print.
"""

from __future__ import annotations

import asyncio
import io
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from make_pictures import HERE, svg_of
from rich.console import Console
from rich.text import Text

import alphapanda as ap
from alphapanda.clock import wait_until

WIDTH = 112
COMMANDS = (
    ("preflight",),
    ("status",),
    ("kill", "zerodha", "--flatten", "--account", "SB0001", "--reason", "a drill"),
)


class Crossover(ap.Strategy):
    """The README's ten lines, on ticks."""

    symbols = ("NSE:INFY",)
    fast: int = ap.Param(9, low=2, high=50)

    def on_start(self) -> None:
        self.quick = self.indicator("NSE:INFY", ap.EMA(self.fast), name="quick")
        self.slow = self.indicator("NSE:INFY", ap.EMA(20), name="slow")

    def on_tick(self, tick: ap.Tick) -> None:
        self.quick.update(tick.price)
        self.slow.update(tick.price)
        if self.slow.ready and not self.open_orders(tick.symbol):
            self.order_target(tick.symbol, 100 if self.quick.value > self.slow.value else 0)


def typed(*words: str) -> str:
    """What a command prints in a terminal of that width."""
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "alphapanda", *words],
        env={**os.environ, "COLUMNS": str(WIDTH), "FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout + done.stderr


async def trade() -> list[str]:
    """What the commands print while a strategy and an order by hand trade."""
    session = await ap.connect("zerodha", quiet=True)
    run = await session.run(Crossover(fast=5))
    order = await session.order("NSE:SBIN", 50, key="first")
    await asyncio.gather(run.wait(fills=5, seconds=90), order.wait(fills=1, seconds=90))
    return [await asyncio.to_thread(typed, *words) for words in COMMANDS]


def main() -> int:
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ |= {"ALPHAPANDA_HOME": folder, "XDG_CONFIG_HOME": f"{folder}/config"}
        os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.null.Keyring"
        command = [sys.executable, "-m", "alphapanda", "sandbox", "--env", "--speed", "4"]
        sandbox = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 - our own command
        try:
            if not wait_until(Path(".env").exists, 30):
                raise SystemExit("the sandbox did not start")
            typed("login", "--auto")
            for words, shown in zip(COMMANDS, asyncio.run(trade()), strict=True):
                console.print(Text(f"$ alphapanda {shlex.join(words)}", "bold"))
                console.print(Text.from_ansi(shown.replace(folder, "~/trading")))
        finally:
            typed("stop")
            sandbox.terminate()
            sandbox.wait(20)
    (HERE / "zerodha-terminal.svg").write_text(svg_of(console, "alphapanda"), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

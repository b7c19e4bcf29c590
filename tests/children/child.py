"""A child as the hub wants it, or not: ``child.py KIND WHERE [NAMESPACE]``. How it behaves is words in a file.

A runner's words are its strategy's module, ``WHERE/strategy.py``; those of feed and gateway lie in ``WHERE/KIND.how``.
What happens to it is written to ``said.txt`` there, one line each, behind its pid.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

kind, where = sys.argv[1], Path(sys.argv[2])
file = where / ("strategy.py" if kind == "runner" else f"{kind}.how")
how = file.read_text().split() if file.exists() else []
said = where / ("said.txt" if kind == "runner" else f"{kind}.said")
spec = where / "run.json"


def wait(seconds: float) -> None:
    threading.Event().wait(seconds)


def tell(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    with said.open("a") as out:
        out.write(f"{os.getpid()} {text}\n")


def end(text: str, code: int) -> None:
    say(text)
    os._exit(code)


def after(word: str) -> float:
    """The number behind a word: ``slow 2``."""
    return float(how[how.index(word) + 1])


def write(**changes: object) -> None:
    spec.write_text(json.dumps({**json.loads(spec.read_text()), **changes}))


def listen() -> None:
    for line in sys.stdin:
        text = line.strip()
        say(text)
        if text.startswith("stop") and "deaf" not in how:
            write(state="stopped", reason="asked")
            os._exit(0)
    if "stubborn" not in how:
        end("eof", 0)


say("started")
signal.signal(signal.SIGINT, signal.SIG_IGN)
if "deaf" in how or "stubborn" in how:
    signal.signal(signal.SIGTERM, lambda *_: say("ignored sigterm"))
else:
    signal.signal(signal.SIGTERM, lambda *_: end("sigterm", 0))
if "slow" in how:
    wait(after("slow"))
if "wrong" in how:
    sys.stderr.write("E_CONFIG the settings are wrong\n")
    end("wrong", 78)
if "noise" in how:
    tell("hello")
if "grandchild" in how:  # it holds our stdout open
    subprocess.Popen(["sleep", "3"], stdin=subprocess.DEVNULL)
if "never" not in how:
    tell("ready")
threading.Thread(target=listen, daemon=True).start()
if "flood" in how:
    tell("x" * 300_000)
    say("flooded")
if "ends" in how:
    write(state="stopped", reason="the tape is over")
    end("ended", 0)
if "halts" in how:
    write(state="halted", reason="ZeroDivisionError")
    end("halted", 0)
if "flaps" in how:
    wait(after("flaps"))
    sys.stderr.write("Traceback (most recent call last):\nZeroDivisionError: no good day\n")
    end("flapped", 1)
while True:
    signal.pause()

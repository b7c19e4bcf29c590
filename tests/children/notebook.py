"""A worker as the scheduler wants it, or not: ``notebook.py FD``. What it does is the parameter ``do`` of its order.

It says what it is at (``began``, ``ended``) in ``said.txt`` of its folder, a line each behind its pid, and has a child
of its own in another session, like a kernel, when it is told ``kernel``.
"""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

order = json.loads(sys.stdin.readline())
how = str(order["parameters"].get("do", "")).split()
said = Path("said.txt")


def say(text: str) -> None:
    with said.open("a") as out:
        out.write(f"{os.getpid()} {text}\n")


def tell(**facts: object) -> None:
    os.write(int(sys.argv[1]), json.dumps(facts).encode() + b"\n")


def listen() -> None:
    sys.stdin.read()
    if "deaf" not in how:
        say("eof")
        os._exit(1)


threading.Thread(target=listen, daemon=True).start()
say("began")
if "kernel" in how:
    sleeper = subprocess.Popen(["sleep", "60"], start_new_session=True)
    say(f"kernel {sleeper.pid}")
    tell(kernel=sleeper.pid)
if "hang" in how:
    threading.Event().wait(60)
if "wait" in how:  # until the test says go
    while not Path("go").exists():
        threading.Event().wait(0.01)
if "die" in how:
    os.kill(os.getpid(), 9)
if "mute" in how:
    sys.exit("nothing to tell")
Path(order["executed"]).write_text("{}")
say("ended")
if "fail" in how:
    tell(ended=True, source="5e", error="ValueError", cell=2, message="it failed")
else:
    tell(ended=True, ok=True, source="5e")

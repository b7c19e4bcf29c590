"""The unmodified official KiteTicker as its users run it: `python kite_ticker.py URL TOKENS blocking|threaded SECONDS`.

Subscribes, asks for mode full, and prints what comes as JSON lines: connect, ticks, order, error, close, message.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from typing import Any

from kiteconnect import KiteTicker


def say(kind: str, value: Any) -> None:
    sys.stdout.write(json.dumps({"kind": kind, "value": value}, default=str) + "\n")
    sys.stdout.flush()


def main() -> None:
    url, listed, how, seconds = sys.argv[1:]
    tokens = [int(part) for part in listed.split(",")]
    logging.disable(logging.CRITICAL)
    ticker: Any = KiteTicker("key", "today", root=url, reconnect_max_delay=5)

    def connected(ws: KiteTicker, _: Any) -> None:
        say("connect", None)
        ws.subscribe(tokens)
        ws.set_mode(ws.MODE_FULL, tokens[:-1])  # the last stays in quote, the mode of a new subscription

    ticker.on_connect = connected
    ticker.on_ticks = lambda _, ticks: say("ticks", ticks)
    ticker.on_order_update = lambda _, order: say("order", order)
    ticker.on_error = lambda _, code, reason: say("error", [code, str(reason)])
    ticker.on_close = lambda _, code, reason: say("close", [code, str(reason)])
    ticker.on_message = lambda _, payload, binary: say("message", [len(payload), binary])
    threading.Timer(float(seconds), os._exit, (0,)).start()
    ticker.connect(threaded=how == "threaded")
    threading.Event().wait()


if __name__ == "__main__":
    main()

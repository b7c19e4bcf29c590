"""What the order journal has of one order, for people: its slices with tag and broker's id, each step with its time.

Read beside the gateway that writes it, or without one.
"""

from __future__ import annotations

import contextlib
import sqlite3

import msgspec

from alphapanda.errors import DatabaseError
from alphapanda.logs.redaction import safe_text
from alphapanda.workspace import Workspace
from alphapanda.zerodha.intents import Intent
from alphapanda.zerodha.standing import orders_file

_INTENT = msgspec.msgpack.Decoder(Intent)

Told = tuple[str, str, str, int]
"""What it is ("intent", "broker", "trade"), its id, what happened, wall ns."""


def told(workspace: Workspace, namespace: str, run: str, order: str) -> list[Told]:
    """Everything on record about an order, slice by slice, in the order it happened; [] if there is nothing."""
    path = orders_file(workspace, namespace)
    if not path.exists():
        return []
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as file:
            bodies = file.execute("SELECT body FROM intent ORDER BY rowid").fetchall()
            mine = [
                one for (body,) in bodies if ((one := _INTENT.decode(body)).run, one.order) == (run, order)
            ]
            return [row for intent in mine for row in _rows(file, intent)]
    except sqlite3.Error as error:
        raise DatabaseError(
            f"the order journal {path.name} cannot be read: {error}", fix="see `alphapanda preflight`"
        ) from error


def orders_named(workspace: Workspace, namespace: str, name: str) -> list[tuple[str, str]]:
    """Run and order of the slices that the broker knows by this order id, or that carry this tag."""
    path = orders_file(workspace, namespace)
    if not path.exists():
        return []
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as file:
        bodies = file.execute("SELECT body FROM intent WHERE ? IN (order_id, tag)", (name,)).fetchall()
    found = (_INTENT.decode(body) for (body,) in bodies)
    return list(dict.fromkeys((one.run, one.order) for one in found))


def _rows(file: sqlite3.Connection, intent: Intent) -> list[Told]:
    scale = intent.price_scale
    prices = ((" at ", intent.limit), (" trigger ", intent.trigger))
    named = "".join(f"{word}{units / scale:.2f}" for word, units in prices if units)
    part = f", slice {intent.slice + 1} of {intent.slices}" if intent.slices > 1 else ""
    head = f"{intent.side} {abs(intent.quantity)} {intent.symbol} {intent.kind}{named}{part}, {intent.state}"
    rows: list[Told] = [("intent", f"tag {intent.tag}", head, intent.created)]
    lines = file.execute(
        "SELECT before, after, cause, at FROM line WHERE key = ? ORDER BY number", (intent.key,)
    ).fetchall()
    for before, after, cause, at in lines:
        moved = after if before in ("", after) else f"{before} to {after}"
        rows.append(("broker", intent.order_id, f"{moved}: {safe_text(cause)}", at))
    trades = file.execute(
        "SELECT trade_id, quantity, price, at FROM fill WHERE key = ? ORDER BY rowid", (intent.key,)
    ).fetchall()
    for trade, quantity, price, at in trades:
        rows.append(("trade", trade, f"{abs(quantity)} at {price / scale:.2f}", at))
    return rows

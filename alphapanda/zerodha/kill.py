"""Our orders at Zerodha cancelled with neither gateway, hub nor server: a client of its own and the broker's book.

Which orders are ours is read from the store, and if that cannot be read, from their tags. Others' orders are left
alone, and so are protective exits: without them a position would stand naked.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec

from alphapanda.clock import monotonic, pause
from alphapanda.errors import AuthenticationError
from alphapanda.workspace import Workspace
from alphapanda.zerodha.client import Kite
from alphapanda.zerodha.intents import Intent
from alphapanda.zerodha.reading import Row
from alphapanda.zerodha.secrets import load_token
from alphapanda.zerodha.standing import orders_file

if TYPE_CHECKING:
    from pathlib import Path

    from alphapanda.settings import Settings

SECONDS = 5.0  # to see every order cancelled
AGAIN = 0.3  # between two looks
Say = Callable[..., None]


def stop_orders(settings: Settings, say: Say, *, sever: bool = False) -> bool:
    """Cancel our working entries and look until none is left; ``sever`` ends the session too. True if all is done."""
    given = settings.zerodha
    token = load_token(settings)
    if given.api_key is None or token is None:
        say("nobody is logged in here: cancel in the broker's own app", bad=True)
        return False
    kite = Kite(
        given.api_key, token, root=given.root_url, timeout=given.timeout_seconds, scale_of=lambda symbol: 100
    )
    path = orders_file(Workspace.find(), "zerodha")
    done = _cancel_all(kite, known_intents(path, say), say)
    if sever:
        try:
            kite.end_session(token)
            say("the access token is dead: nobody can send with it")
        except Exception as error:  # noqa: BLE001 - whatever the client raises, the person must hear of it
            say(f"the session could not be ended: {type(error).__name__}", bad=True)
            done = False
    return done


def known_intents(path: Path, say: Say) -> dict[str, Intent] | None:
    """Our intents by tag; None if the store cannot be read: then anything with a tag like ours counts."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1.0)) as db:
            rows = db.execute("SELECT body FROM intent").fetchall()
        found = [msgspec.msgpack.decode(body, type=Intent) for (body,) in rows]
    except (sqlite3.Error, msgspec.MsgspecError) as error:
        say(f"the order journal cannot be read ({error}): orders are known by their tags", bad=True)
        return None
    return {intent.tag: intent for intent in found}


def _cancel_all(kite: Kite, known: dict[str, Intent] | None, say: Say) -> bool:
    until, asked, left = monotonic() + SECONDS, set[str](), ""
    while monotonic() < until:
        try:
            rows, _ = kite.book()
        except AuthenticationError as error:
            say(f"the book cannot be read: {error.message}", bad=True)
            return False
        except Exception as error:  # noqa: BLE001 - the client raises anything; the next look may succeed
            left = f"the book cannot be read: {type(error).__name__}: {str(error)[:120]}"
            pause(AGAIN)
            continue
        mine = [row for row in rows if row.live and _ours(row, known)]
        if not mine:
            say(f"no entry of ours works at the broker ({len(asked)} cancelled)")
            return True
        for row in mine:
            if row.order_id not in asked:
                asked.add(row.order_id)
                outcome = kite.cancel_by_id(row.order_id)
                what = (
                    "asked to cancel"
                    if outcome.kind == "received"
                    else f"cancel went wrong ({outcome.reason})"
                )
                say(f"{row.side} {row.quantity} {row.symbol}, order {row.order_id}: {what}")
        left = f"{len(mine)} of our entries still work at the broker: cancel them in its own app"
        pause(AGAIN)
    say(left, bad=True)
    return False


def _ours(row: Row, known: dict[str, Intent] | None) -> bool:
    if known is None:
        return bool(row.tag)
    intent = known.get(row.tag) or next((one for one in known.values() if one.order_id == row.order_id), None)
    return intent is not None and intent.purpose == "open"

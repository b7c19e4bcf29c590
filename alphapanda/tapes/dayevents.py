"""What a day's strategies could see besides its ticks, in the order in which they met it: ``2026-11-20.events``.

    ap.day_events("2026-11-20")            # a frame: seq, ts, at, kind, namespace, run, id, detail

Heartbeats and session events from the tape's side; signals, cancels, order events, fills, reports of a broker and
operators' commands from the gateways' journals, each before the row of the tape that ``seq`` numbers. It is written
when the day's tape is sealed, ends with a digest of its lines, and until then is put together from log and journals.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from alphapanda.buses.frames import Frame
from alphapanda.buses.tapelog import SUFFIX as LOG
from alphapanda.buses.tapelog import Table, frames_of
from alphapanda.errors import AlphaPandaException, DataError
from alphapanda.events import Block, ist_day
from alphapanda.hearsay import Noted
from alphapanda.instruments import Instrument
from alphapanda.requests import FillUpdate, OrderUpdate, Reply, Request
from alphapanda.rulebook import Rulebook
from alphapanda.workspace import Workspace, replace_file

if TYPE_CHECKING:
    import polars as pl

SUFFIX = ".events"
EPOCH = dt.date(1970, 1, 1)


class DayEvent(msgspec.Struct, frozen=True, order=True):
    """Before row ``seq`` of the feed, at tape time ``ts`` (ns); ``at`` is when it was put on record (wall ns), 0 where
    that is not known. ``detail`` is JSON."""

    seq: int
    ts: int
    rank: int
    at: int
    kind: str
    namespace: str = ""
    run: str = ""
    id: str = ""
    detail: str = ""


def day_events(day: dt.date | str, *, workspace: Path | None = None) -> pl.DataFrame:
    """The events of an IST day as a frame; times in IST. DataError for a day without log and file, or a file that was
    changed since it was written."""
    import polars as pl

    wanted = dt.date.fromisoformat(day) if isinstance(day, str) else day
    found = list(read(Workspace.find(workspace).tapes, wanted))
    names = [name for name in DayEvent.__struct_fields__ if name != "rank"]
    columns = {name: [getattr(one, name) for one in found] for name in names}
    times = [pl.from_epoch(pl.col(n), time_unit="ns").dt.replace_time_zone("UTC") for n in ("ts", "at")]
    return pl.DataFrame(columns).with_columns(t.dt.convert_time_zone("Asia/Kolkata") for t in times)


def read(tapes: Path, day: dt.date) -> list[DayEvent]:
    """The same as values."""
    path = tapes / f"{day}{SUFFIX}"
    if not path.exists():
        return gathered(tapes, day)
    *lines, last = path.read_bytes().splitlines()
    if _digest(lines) != last.decode():
        raise DataError(
            f"{path}: was changed since it was written", fix="restore it from a backup", file=str(path)
        )
    return [msgspec.json.decode(line, type=DayEvent) for line in lines]


def keep(tapes: Path, day: dt.date) -> Path:
    """Write the day's file, with its digest as the last line."""
    path = tapes / f"{day}{SUFFIX}"
    lines = [msgspec.json.encode(one) for one in gathered(tapes, day)]
    replace_file(path, b"\n".join([*lines, _digest(lines).encode()]) + b"\n")
    return path


def gathered(tapes: Path, day: dt.date) -> list[DayEvent]:
    """From the day's log and every journal beside it, in order. DataError without a log."""
    log = tapes / f"{day}{LOG}"
    if not log.is_file():
        raise DataError(f"{log}: no such log", fix="name a day that the feed has recorded", file=str(log))
    found = list(_heartbeats(log))
    found += _sessions(log, day)
    for path in sorted((tapes.parent / "journal").glob("*.sqlite")):
        found += (one for one in _journaled(path) if ist_day(one.ts) == (day - EPOCH).days)
    return sorted(found)


def _digest(lines: Iterable[bytes]) -> str:
    return hashlib.blake2b(b"\n".join(lines), digest_size=32).hexdigest()


def _heartbeats(log: Path) -> Iterator[DayEvent]:
    for one in frames_of(log):
        if isinstance(one, Frame) and not len(one.block):
            yield DayEvent(one.block.first, one.clock, 0, 0, "heartbeat", id=f"frame:{one.number}")


def _sessions(log: Path, day: dt.date) -> Iterator[DayEvent]:
    """Each session's open and close, once for all instruments that share it, before the first row from there on."""
    table: tuple[Instrument, ...] = ()
    blocks: list[Block] = []
    for one in frames_of(log):
        if isinstance(one, Table):
            table = one.instruments
        elif len(one.block):
            blocks.append(one.block)
    rules, shared = Rulebook.load(), dict[tuple[int, str], list[str]]()
    for instrument in table:
        with contextlib.suppress(AlphaPandaException):
            if (session := rules.session(instrument, day)) is not None:
                shared.setdefault((session.open_ns, "session.open"), []).append(instrument.symbol)
                shared.setdefault((session.close_ns, "session.close"), []).append(instrument.symbol)
    for (ts, kind), symbols in shared.items():
        yield DayEvent(_row_at(blocks, ts), ts, 0, 0, kind, detail=_json({"symbols": symbols}))


def _row_at(blocks: list[Block], ts: int) -> int:
    """The first row at or after a time."""
    for block in blocks:
        if block.ts[-1] >= ts:
            return block.first + int(block.ts.searchsorted(ts))
    return blocks[-1].first + len(blocks[-1]) if blocks else 0


def _journaled(path: Path) -> Iterator[DayEvent]:
    namespace = path.stem
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as file:
        rows: list[Any] = file.execute(
            "SELECT number, kind, run, id, body, reply, at FROM entry ORDER BY number"
        ).fetchall()
    for number, kind, run, identity, body, reply, at in rows:
        if kind == "request":
            request = msgspec.msgpack.decode(body, type=Request)
            answer = msgspec.msgpack.decode(reply, type=Reply)
            yield from _asked(request, answer, number, namespace, at)
        elif kind == "report":
            noted = msgspec.msgpack.decode(body, type=Noted)
            place, detail = noted.place, _json(noted.report)
            yield DayEvent(
                place.through + 1,
                place.ts,
                number,
                at,
                f"broker.{noted.report.kind}",
                namespace,
                run,
                identity,
                detail,
            )
        elif kind == "operator":
            command = msgspec.json.decode(body)
            places: dict[str, list[int]] = command.pop("places", {})
            for told, place in places.items():
                detail = _json(command)
                yield DayEvent(
                    place[0] + 1, place[1], number, at, command["do"], namespace, told, identity, detail
                )


def _asked(request: Request, answer: Reply, number: int, namespace: str, at: int) -> Iterator[DayEvent]:
    """A question, if it decides something, and what the run heard with its answer."""
    place = request.place
    decided = (("signal", request.signal), ("cancel", request.cancel), ("halt", request.halt))
    for kind, what in decided:
        if what:
            seq, ts = place.through + 1, place.ts
            yield DayEvent(seq, ts, number, at, kind, namespace, request.run, request.id, _json(what))
    seq, ts = answer.place.through + 1, answer.place.ts
    for update in answer.updates:
        if isinstance(update, FillUpdate):
            identity = f"{update.order_id}.{update.number}"
            yield DayEvent(seq, ts, number, at, "fill", namespace, request.run, identity, _json(update))
        elif isinstance(update, OrderUpdate) and update.told:
            kind = f"order.{update.status}"
            yield DayEvent(seq, ts, number, at, kind, namespace, request.run, update.id, _json(update))


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()

"""What people look at is made from what the processes wrote, whole, and survives whatever they go through."""

from __future__ import annotations

import datetime as dt
import struct
import zlib
from pathlib import Path

import msgspec
import numpy as np
import pytest

from alphapanda.buses.base import encode
from alphapanda.buses.frames import Frame
from alphapanda.buses.tapelog import Writer
from alphapanda.clock import wait_until
from alphapanda.events import IST_OFFSET_NS, MINUTE, SECOND, Block, EventEnvelope
from alphapanda.instruments import Instrument
from alphapanda.letters.replay import REPLAYED
from alphapanda.letters.statistics import ErrorStatistics
from alphapanda.overview import Overview, Reader, Today
from alphapanda.overview.lanes import LaneBook
from alphapanda.overview.market import Market
from alphapanda.overview.trouble import Trouble
from alphapanda.settings import RiskSettings, Settings
from alphapanda.workspace import RunSpec, Workspace
from tests.conftest import OwnValkey

DAY = dt.date(2026, 11, 20)
OPEN = (DAY - dt.date(1970, 1, 1)).days * 86_400 * SECOND + 9 * 3600 * SECOND + 15 * MINUTE - IST_OFFSET_NS


def event(kind: str, number: int, **data: object) -> EventEnvelope:
    facts = {
        "order": "Cross:7:0", "strategy": "Cross", "symbol": "NSE:INFY", "side": "BUY", "quantity": 10,
        "kind": "LIMIT", "limit": 150_000, "price_scale": 100, "stop": None, "leg": "", "tag": "t",
        "status": "sent", "reason": "",
    }  # fmt: skip
    return EventEnvelope(
        id=f"{kind}:{number}", type=kind, ts=number, source="gateway", namespace="paper", key="cross-1",
        correlation_id="tick:7", trace_id="t", data=facts | data,
    )  # fmt: skip


def filled(number: int, quantity: int, units: int) -> EventEnvelope:
    more = {"quantity": quantity, "ordered": 10, "price_units": units, "charges": [1, 2], "realized": 5}
    return event("orders.filled", number, **more)


def test_an_order_is_one_row_however_often_it_is_told_of() -> None:
    book = LaneBook("paper")
    told = [
        event("signals.validated", 1),
        event("orders.submitted", 2),
        event("orders.acknowledged", 3, status="open"),
        filled(4, 4, 150_000),
        filled(4, 4, 150_000),
        filled(5, 6, 149_900),
        event("orders.acknowledged", 3, status="open"),
        event(f"orders.rejected{REPLAYED}", 6, status="rejected"),
    ]
    for one in told:
        book.take(one)
    lane = book.lane({}, {}, None, [], RiskSettings())
    (order,) = lane.orders
    assert (order.status, order.filled, order.quantity, order.limit) == ("filled", 10, 10, 1500.0)
    assert order.average == pytest.approx((4 * 1500.0 + 6 * 1499.0) / 10)
    assert [fill.quantity for fill in lane.fills] == [6, 4]
    assert lane.fills[0].charges == 3
    assert (lane.signals, lane.denied) == (1, 0)


def test_a_denial_and_a_rejection_say_why() -> None:
    book = LaneBook("paper")
    book.take(event("signals.rejected", 1, status="denied", reason="position 12 > 10"))
    book.take(event("orders.rejected", 2, order="Cross:8:0", status="rejected", reason="no margin"))
    lane = book.lane({}, {}, None, [], RiskSettings())
    assert [(one.status, one.reason) for one in lane.orders] == [
        ("rejected", "no margin"), ("denied", "position 12 > 10"),
    ]  # fmt: skip
    assert lane.denied == 1


def test_books_are_bounded() -> None:
    book = LaneBook("paper")
    for number in range(2_000):
        book.take(event("orders.submitted", number, order=f"Cross:{number}:0"))
        book.take(filled(number, 1, 100))
        snapshot = EventEnvelope(
            id=f"pnl:{number}", type="pnl.snapshots", ts=number, source="gateway", namespace="paper", key="main",
            correlation_id="c", trace_id="t", data={"today": {"net": number}},
        )  # fmt: skip
        book.take(snapshot)
    lane = book.lane({"tape_ts": 5_000, "today": {"net": 7}}, {}, None, [], RiskSettings())
    assert len(lane.orders) == len(lane.fills) == 500
    assert len(lane.curve) <= 1_001
    assert lane.curve[-1] == (5_000, 7)


def test_a_new_day_begins_its_curve_anew_and_its_loss_is_what_counts() -> None:
    book, risk = LaneBook("paper"), RiskSettings()
    day = 86_400 * SECOND
    for ts, net in ((OPEN, -100), (OPEN + MINUTE, -9_000_00), (OPEN + day, -50_00)):
        document = {"tape_ts": ts, "net": net - 1_00, "today": {"net": net, "realized": 5, "charges": 6}}
        lane = book.lane(document, {}, None, [], risk)
    assert lane.curve == ((OPEN + day, -50_00),)
    assert (lane.net, lane.today) == (-51_00, Today(-50_00, 5, 6))
    assert lane.limits[0].used == 50.0


def write(folder: Path, minutes: int) -> None:
    """Two instruments, four ticks a minute each, in frames that part minutes in the middle."""
    writer = Writer(folder)
    writer.widen([Instrument(symbol=symbol, exchange="NSE") for symbol in ("NSE:INFY", "NSE:SBIN")])
    rows = minutes * 8
    ts = OPEN + np.arange(rows) * (MINUTE // 8)
    index = np.arange(rows) % 2
    price = 150_000 + np.arange(rows) % 7 * 5
    volume = np.full(rows, 3)
    for number, first in enumerate(range(0, rows, 11), 1):
        part = slice(first, min(first + 11, rows))
        block = Block(first, ts[part], index[part], price[part], volume[part])
        writer.append(Frame(number, int(ts[part][-1]), 2, block))
    writer.close()


def test_bars_of_the_day_are_those_of_its_ticks(tmp_path: Path) -> None:
    write(tmp_path, 30)
    market = Market(tmp_path)
    assert market.look(1)
    assert not market.look(2)
    rows = np.arange(30 * 8)
    price = (150_000 + rows % 7 * 5) / 100
    for number, symbol in enumerate(("NSE:INFY", "NSE:SBIN")):
        mine = price[number::2].reshape(30, 4)
        bars = market.bars(symbol)
        assert bars.ts == [OPEN + i * MINUTE for i in range(30)]
        assert (bars.open, bars.close) == (mine[:, 0].tolist(), mine[:, -1].tolist())
        assert (bars.high, bars.low) == (mine.max(axis=1).tolist(), mine.min(axis=1).tolist())
        assert bars.volume == [12] * 30
        newest = market.prices()[symbol]
        assert (newest.last, newest.opened, newest.ticks, newest.volume) == (
            mine[-1, -1],
            mine[0, 0],
            120,
            360,
        )
        five = market.bars(symbol, 5)
        assert five.high == mine.reshape(6, 20).max(axis=1).tolist()
        assert five.volume == [60] * 6
    assert market.bars("NSE:NONE").ts == []
    market.close()


def test_a_log_that_is_no_longer_what_it_was_is_read_anew(tmp_path: Path) -> None:
    write(tmp_path, 5)
    market = Market(tmp_path)
    assert market.look(1)
    (path,) = tmp_path.iterdir()
    kept = path.read_bytes()
    market.close()
    path.write_bytes(b"")
    (tmp_path / "2026-11-21.ticks").write_bytes(b"")  # of a day that just begins
    assert not market.look(2)
    (tmp_path / "2026-11-21.ticks").unlink()
    table = msgspec.json.encode({"after": 10_000, "row": 0, "instruments": []})
    record = b"I" + bytes(7) + table
    path.write_bytes(struct.pack("<II", len(record), zlib.crc32(record)) + record)
    market.close()
    assert not market.look(3), "what it asked for is gone"
    assert market.prices() == {}
    path.write_bytes(kept)
    assert not market.look(4), "it rests, so that its lines do not fill the log"
    assert market.look(60 * SECOND)
    assert market.prices()["NSE:INFY"].ticks == 20
    market.close()


def test_of_runs_that_are_over_nothing_is_read_again(own_valkey: OwnValkey) -> None:
    place, workspace = own_valkey, own_valkey.workspace
    client = place.client()
    states = {"over-1": ("stopped", []), "holds-1": ("stopped", [{"symbol": "NSE:INFY", "quantity": 5}])}
    for run, (state, positions) in states.items():
        (workspace.runs / run).mkdir()
        spec = RunSpec(run=run, namespace="paper", name="Cross", class_name="Cross", digest="d", state=state)
        spec.write(workspace.runs / run)
        client.set(
            f"paper:run:{run}", msgspec.json.encode({"state": state, "net": 7, "positions": positions})
        )
    reader = Reader(workspace, Settings())
    first = reader.look()
    assert first is not None
    reader.newest = first
    assert {view.run: view.books.net for view in first.runs} == {"over-1": 7, "holds-1": 7}
    for run in states:
        client.set(f"paper:run:{run}", msgspec.json.encode({"state": "stopped", "net": 8, "positions": []}))
    second = reader.look()
    assert second is not None
    assert {view.run: view.books.net for view in second.runs} == {"over-1": 7, "holds-1": 8}
    spec = RunSpec.read(workspace.runs / "over-1")
    msgspec.structs.replace(spec, reason="told later").write(workspace.runs / "over-1")
    third = reader.look()
    assert third is not None
    assert {view.run: view.reason for view in third.runs} == {"over-1": "told later", "holds-1": ""}
    reader.close()


def test_it_survives_the_server_and_shows_what_was_last(own_valkey: OwnValkey) -> None:
    place, workspace = own_valkey, own_valkey.workspace
    folder = workspace.runs / "cross-1"
    folder.mkdir()
    RunSpec(
        run="cross-1", namespace="paper", name="Cross", class_name="Cross", digest="d", state="running"
    ).write(folder)
    client = place.client()
    document = msgspec.json.encode({"net": 1234, "tape_ts": 9, "positions": []})
    client.hset("paper:portfolio:main", mapping={"document": document, "version": 1})
    client.xadd("paper.orders.submitted", {"b": encode(event("orders.submitted", 1))})
    client.xadd("paper.orders.submitted", {"b": b"garbage"})
    reader = Reader(workspace, Settings(), 0.02).start()
    try:
        newest = reader.wait(0, 10)
        assert (newest.lanes["paper"].net, newest.hub, newest.lost) == (1234, "", 0)
        assert newest.lanes["paper"].orders[0].id == "Cross:7:0"
        assert newest.runs[0].state == "running"
        place.kill()
        assert wait_until(lambda: reader.newest.lost > 0, 10)
        assert reader.newest.lanes["paper"].net == 1234
        workspace.raise_halt("paper", 2, "enough", "me", 5)
        assert wait_until(lambda: reader.newest.lanes["paper"].halt is not None, 10)
        place.start()
        assert wait_until(lambda: reader.newest.lost == 0, 10)
    finally:
        reader.close()


def test_nothing_new_makes_no_new_overview(tmp_path: Path) -> None:
    reader = Reader(Workspace(tmp_path), Settings())
    first = reader.look()
    assert first is not None
    reader.newest = first
    again = reader.look()
    assert again is None or again.lost != first.lost
    assert isinstance(first, Overview)


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        ({"event": "consumer.waiting", "error": "RedisError: read failed"}, "RedisError"),
        (
            {"event": "x.failed", "exception": "KeyError: 1\nalphapanda.errors.DatabaseError: no"},
            "DatabaseError",
        ),
        ({"event": "stop.lost", "reason": "gone"}, "stop.lost"),
    ],
)
def test_errors_are_counted_by_class(tmp_path: Path, facts: dict[str, str], kind: str) -> None:
    workspace = Workspace(tmp_path)
    line = {"ts": "2026-11-20T04:00:30.5Z", "level": "error", "namespace": "paper", "topic": "t", **facts}
    (workspace.logs / "error.jsonl").write_bytes(msgspec.json.encode(line) + b"\n")
    minute = int(dt.datetime(2026, 11, 20, 4, tzinfo=dt.UTC).timestamp()) * SECOND
    found = Trouble(workspace, Settings()).look(minute + SECOND)
    assert found["error_counts"] == ((minute, kind, "t", "paper", 1),)
    assert found["errors"][0].event == facts["event"]


def test_what_a_gateway_counts_is_counted_once(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    now = int(dt.datetime(2026, 11, 20, 4, 0, 30, tzinfo=dt.UTC).timestamp()) * SECOND
    lines = [
        {"event": "message.dead", "error": "ValueError: no", "topic": "paper.signals.generated"},
        {"event": "x.failed", "error": "KeyError: 1", "topic": ""},
    ]
    text = [msgspec.json.encode({"ts": "2026-11-20T04:00:30Z", "namespace": "paper", **one}) for one in lines]
    (workspace.logs / "error.jsonl").write_bytes(b"\n".join(text) + b"\n")
    trouble, counted = Trouble(workspace, Settings()), ErrorStatistics()
    for _ in range(3):  # the first and two tries more
        counted.add("ValueError", "paper.signals.generated", "paper", now)
    trouble.counted({"paper": counted.to_json(), "live": None})
    minute = now // MINUTE * MINUTE
    both = (
        (minute, "KeyError", "", "paper", 1),
        (minute, "ValueError", "paper.signals.generated", "paper", 3),
    )
    assert trouble.look(now)["error_counts"] == both
    trouble.counted({"paper": None})  # a server that lost it
    found = trouble.look(now)
    assert found["error_counts"] == both
    assert [one.event for one in found["errors"]] == ["x.failed", "message.dead"]
    assert trouble.look(now + 25 * 60 * MINUTE)["error_counts"] == ()

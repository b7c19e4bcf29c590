"""Kite's binary frames: our decoder against the official client's, field by field, and against garbage."""

from __future__ import annotations

import base64
import os
import random
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

kiteconnect = pytest.importorskip("kiteconnect")

from alphapanda.events import IST, SECOND, ist  # noqa: E402
from alphapanda.feeds import kite_packets as kp  # noqa: E402
from alphapanda.feeds.kite_packets import Known, Packets, decode  # noqa: E402
from alphapanda.instruments import PRICE_SCALE  # noqa: E402
from alphapanda.sandbox.packets import HEARTBEAT, Mode, frame, packet  # noqa: E402

MOCKS = Path(__file__).parent.parent.parent / "shared" / "data" / "kite-mocks"
KINDS = (kp.LTP, kp.INDEX_QUOTE, kp.INDEX_FULL, kp.QUOTE, kp.FULL)
SEGMENTS = {1: "NSE", 2: "NFO", 3: "CDS", 4: "BSE", 5: "BFO", 6: "BCD", 7: "MCX", 9: "INDICES", 12: "NCO"}
DIVISORS = {number: float(PRICE_SCALE.get(name, 100)) for number, name in SEGMENTS.items()}
NOTHING = Known()


def official(data: bytes) -> list[dict[str, Any]]:
    """What the unmodified official client makes of a frame."""
    return kiteconnect.KiteTicker("key", "token")._parse_binary(data)


def as_official(packets: Packets) -> list[dict[str, Any]]:
    """Our columns in the official client's form; its prices are unsigned, its times we leave as seconds."""
    return [_one(packets.columns[:, n].tolist(), kind) for n, kind in enumerate(packets.kind.tolist())]


def _one(c: list[int], kind: int) -> dict[str, Any]:
    segment = c[kp.TOKEN] & 0xFF

    def price(column: int) -> float:
        return (c[column] & 0xFFFFFFFF) / DIVISORS.get(segment, 100.0)

    mode = {kp.LTP: "ltp", kp.INDEX_QUOTE: "quote", kp.QUOTE: "quote"}.get(kind, "full")
    found: dict[str, Any] = {
        "tradable": segment != 9, "mode": mode, "instrument_token": c[kp.TOKEN], "last_price": price(kp.LAST),
    }  # fmt: skip
    if kind == kp.LTP:
        return found
    names = {"open": kp.OPEN, "high": kp.HIGH, "low": kp.LOW, "close": kp.CLOSE}
    found["ohlc"] = {name: price(column) for name, column in names.items()}
    close = found["ohlc"]["close"]
    found["change"] = (found["last_price"] - close) * 100 / close if close else 0
    if kind in kp.STAMPED:
        found["exchange_timestamp"] = c[kp.SENT_AT]
    if kind in (kp.INDEX_QUOTE, kp.INDEX_FULL):
        return found
    found |= {
        "last_traded_quantity": c[kp.LAST_QUANTITY], "average_traded_price": price(kp.AVERAGE),
        "volume_traded": c[kp.VOLUME], "total_buy_quantity": c[kp.BUY_QUANTITY],
        "total_sell_quantity": c[kp.SELL_QUANTITY],
    }  # fmt: skip
    if kind == kp.FULL:
        levels = [
            {"quantity": c[at], "price": price(at + 1), "orders": c[at + 2]}
            for at in range(kp.DEPTH, kp.WIDTH, 3)
        ]
        found |= {
            "last_trade_time": c[kp.TRADED_AT], "oi": c[kp.OI], "oi_day_high": c[kp.OI_HIGH],
            "oi_day_low": c[kp.OI_LOW], "depth": {"buy": levels[:5], "sell": levels[5:]},
        }  # fmt: skip
    return found


def in_seconds(ticks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The official ticks with their host-local times turned back into seconds."""
    for tick in ticks:
        for name in ("last_trade_time", "exchange_timestamp"):
            if name in tick:
                tick[name] = int(tick[name].timestamp())
    return ticks


def body(kind: int, token: int, draw: random.Random) -> bytes:
    return token.to_bytes(4, "big") + draw.randbytes(kind - 4)


@contextmanager
def host_zone(name: str) -> Iterator[None]:
    """This process believes to be somewhere else."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = name
    time.tzset()
    try:
        yield
    finally:
        os.environ.pop("TZ")
        if before is not None:
            os.environ["TZ"] = before
        time.tzset()


# ── the same as the official client ──────────────────────────────────────────────────────────────


@pytest.mark.skipif(not MOCKS.exists(), reason="Kite's samples are not at hand")
def test_kites_own_samples() -> None:
    paths = sorted(MOCKS.glob("*.packet"))
    assert paths
    for path in paths:
        data = frame([base64.b64decode(path.read_text())])
        assert as_official(decode(data, NOTHING)) == in_seconds(official(data))


@given(
    st.lists(
        st.tuples(st.sampled_from(KINDS), st.sampled_from(list(SEGMENTS)), st.integers(0, 2**24 - 1)),
        max_size=12,
    ),
    st.randoms(use_true_random=False),
)
@settings(deadline=None)
def test_every_field_of_mixed_frames(shape: list[tuple[int, int, int]], draw: random.Random) -> None:
    with host_zone("UTC"):
        data = frame([body(kind, number << 8 | segment, draw) for kind, segment, number in shape])
        assert as_official(decode(data, NOTHING)) == in_seconds(official(data))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("segment", SEGMENTS)
def test_every_field_of_uniform_frames(kind: int, segment: int) -> None:
    draw = random.Random(kind * 100 + segment)
    data = frame([body(kind, n << 8 | segment, draw) for n in range(40)])
    with host_zone("UTC"):
        assert as_official(decode(data, NOTHING)) == in_seconds(official(data))


def test_a_hundred_thousand_fuzzed_packets() -> None:
    """Nothing raises; where the official client survives, both say the same."""
    draw = random.Random(11)
    packets = survived = 0
    with host_zone("UTC"):
        while packets < 100_000:
            shape = draw.choices((*KINDS, draw.randrange(4, 300)), k=draw.randrange(1, 60))
            data = bytearray(frame([body(max(kind, 4), draw.randrange(2**32), draw) for kind in shape]))
            packets += len(shape)
            fault = draw.randrange(6)
            if fault == 0:
                del data[draw.randrange(len(data)) :]
            elif fault == 1:
                for _ in range(draw.randrange(1, 8)):
                    data[draw.randrange(len(data))] = draw.randrange(256)
            elif fault == 2:
                data = bytearray(draw.randbytes(draw.randrange(400)))
            ours = decode(bytes(data), NOTHING)
            assert len(ours) + ours.short + ours.odd == (
                int.from_bytes(data[:2], "big") if len(data) > 1 else 0
            )
            if packets % 3 == 0 and not ours.short:
                try:
                    theirs = in_seconds(official(bytes(data)))
                except struct.error:  # it wants a token of every packet, however short
                    continue
                survived += 1
                assert as_official(ours) == theirs
    assert survived > 100


@given(st.binary(max_size=600))
@settings(deadline=None)
def test_no_bytes_raise(data: bytes) -> None:
    found = decode(data, NOTHING)
    assert found.columns.shape == (kp.WIDTH, len(found))


# ── what garbage is counted as ───────────────────────────────────────────────────────────────────


def test_a_frame_that_is_cut_keeps_what_is_whole() -> None:
    draw = random.Random(1)
    data = frame([body(kp.FULL, 256 * n + 1, draw) for n in range(1, 4)])
    for size in range(len(data)):
        found = decode(data[:size], NOTHING)
        whole = max(0, size - 2) // 186
        assert (len(found), found.short) == ((whole, 3 - whole) if size > 1 else (0, 0))
    with pytest.raises(struct.error):
        official(data[:-200])


def test_unknown_lengths_are_counted_and_stepped_over() -> None:
    draw = random.Random(2)
    data = frame([body(kp.LTP, 257, draw), b"\x07" * 17, b"", body(kp.QUOTE, 513, draw)])
    found = decode(data, Known([513, 257]))
    assert (found.kind.tolist(), found.odd, found.short) == ([kp.LTP, kp.QUOTE], 2, 0)
    assert found.row.tolist() == [1, 0]


def test_heartbeats_and_empty_frames_hold_nothing() -> None:
    for data in (b"", HEARTBEAT, b"\x00\x00", b"\x01"):
        found = decode(data, NOTHING)
        assert (len(found), found.short, found.odd) == (0, 0, 0)


def test_tokens_find_their_place() -> None:
    known = Known([700, 5, 2**32 - 1, 42])
    assert known.find(np.array([42, 5, 6, 700, 2**32 - 1, 0])).tolist() == [3, 1, -1, 0, 2, -1]
    assert NOTHING.find(np.array([1])).tolist() == [-1]


# ── where the official client is wrong ───────────────────────────────────────────────────────────


def test_prices_below_zero_stay_below_zero() -> None:
    data = frame([(7 << 8 | 7).to_bytes(4, "big") + (-500).to_bytes(4, "big", signed=True)])
    assert decode(data, NOTHING).columns[kp.LAST].tolist() == [-500]
    assert official(data)[0]["last_price"] == (2**32 - 500) / 100  # -5.00 rupees as 42,949,667.96


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York", "Australia/Lord_Howe"])
def test_times_are_the_same_in_every_zone(zone: str) -> None:
    moment = 1_795_322_460  # 2026-11-22 10:41 IST, a Sunday nobody trades on
    quote = shown(408065, ts=moment * SECOND, last_trade_ts=(moment - 1) * SECOND)
    data = frame([packet(quote, "full")])
    with host_zone(zone):
        found = decode(data, NOTHING)
        assert found.columns[kp.SENT_AT].tolist() == [moment]
        assert found.columns[kp.TRADED_AT].tolist() == [moment - 1]
        there = official(data)[0]["exchange_timestamp"]
        assert there.timestamp() == moment  # naive, in the host's zone
        assert (there == ist(moment * SECOND).replace(tzinfo=None)) == (zone == "Asia/Kolkata")
    assert ist(moment * SECOND).tzinfo is IST


# ── our encoder ──────────────────────────────────────────────────────────────────────────────────


def shown(token: int, **values: Any) -> Any:
    """A quote with a different number everywhere."""
    names = (
        "last", "last_quantity", "average", "volume", "buy_quantity", "sell_quantity", "open", "high", "low", "close",
        "last_trade_ts", "oi", "oi_high", "oi_low", "ts",
    )  # fmt: skip
    found: dict[str, Any] = {name: 1000 + n for n, name in enumerate(names)}
    found |= {"last_trade_ts": 1_795_322_459 * SECOND, "ts": 1_795_322_460 * SECOND, "token": token}
    found["bids"] = [(2000 + n, 3000 + n, 10 + n) for n in range(5)]
    found["asks"] = [(4000 + n, 5000 + n, 20 + n) for n in range(3)]
    return SimpleNamespace(**found | values)


@pytest.mark.parametrize("mode", ["ltp", "quote", "full"])
@pytest.mark.parametrize("segment", SEGMENTS)
def test_what_we_send_is_what_the_official_client_reads(mode: Mode, segment: int) -> None:
    quote = shown(7 << 8 | segment)
    (tick,) = in_seconds(official(frame([packet(quote, mode)])))
    divisor = DIVISORS[segment]
    assert (tick["mode"], tick["last_price"], tick["tradable"]) == (mode, 1000 / divisor, segment != 9)
    if mode == "ltp":
        return
    assert tick["ohlc"] == {"open": 1006 / divisor, "high": 1007 / divisor, "low": 1008 / divisor,
                            "close": 1009 / divisor}  # fmt: skip
    if mode == "full":
        assert tick["exchange_timestamp"] == 1_795_322_460
    if segment == 9:
        assert "depth" not in tick
        return
    assert (tick["last_traded_quantity"], tick["volume_traded"]) == (1001, 1003)
    assert tick["average_traded_price"] == 1002 / divisor
    assert (tick["total_buy_quantity"], tick["total_sell_quantity"]) == (1004, 1005)
    if mode == "full":
        assert (tick["last_trade_time"], tick["oi"]) == (1_795_322_459, 1011)
        assert (tick["oi_day_high"], tick["oi_day_low"]) == (1012, 1013)
        assert tick["depth"]["buy"][1] == {"price": 2001 / divisor, "quantity": 3001, "orders": 11}
        assert tick["depth"]["sell"][2] == {"price": 4002 / divisor, "quantity": 5002, "orders": 22}
        assert tick["depth"]["sell"][3] == {"price": 0.0, "quantity": 0, "orders": 0}

"""The simulated venue as tables: what fills, when, how much and at what price; and exits that never turn a position over."""

# ruff: noqa: E501 - a table's row stays on its line

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import alphapanda as ap
from alphapanda.errors import ConfigurationError
from alphapanda.events import Fill, Tick
from alphapanda.exchange import Fills
from alphapanda.orders import Order
from tests.build import (
    NIFTY_FUT,
    Scripted,
    clock,
    denials,
    equity,
    ns,
    only_order,
    play,
    runs,
    tape_of,
    trades,
)
from tests.chaos import Chaos, random_tape

SENT_AT = "09:15:01"
QUICK = {"product": "CNC"}


def run(order: dict[str, Any], *rows: Any, side: str = "buy", fills: Fills | None = None, **more: Any) -> Any:
    """One order of 10 sent at 09:15:01 (last price 100), then the rows, a second apart; returns the result."""
    listed: list[Any] = [(SENT_AT, "INFY", 100.0)]
    for n, row in enumerate(rows):
        row = row if isinstance(row, tuple) else (row,)
        listed.append((f"09:15:{2 + n:02}", "INFY", *row))
    quantity = more.pop("quantity", 10)
    script = {SENT_AT: lambda s: getattr(s, side)("INFY", quantity, **order)}
    product = more.pop("product", "MIS")
    return play(
        Scripted(script, product=product), tape_of(listed, **more.pop("tape", {})), fills=fills, **more
    )


def own(result: Any) -> list[tuple[str, int, float]]:
    """Fills of the order itself and its exits, without the broker's square-off."""
    return [(clock(f.ts)[-2:], f.quantity, f.price) for f in result.fills if f.leg != "square-off"]


# price, volume, bid, ask, bid quantity, ask quantity
Q = (100.0, 5, 99.9, 100.2)
DEEP = (100.0, 5, 99.9, 100.2, 7, 4)


@pytest.mark.parametrize(
    ("what", "side", "order", "rows", "expected"),
    [
        # market
        ("market takes the trade", "buy", {}, [101.0], [("02", 10, 101.0)]),
        ("market sells at the trade", "sell", {}, [99.0], [("02", -10, 99.0)]),
        ("market buys the ask", "buy", {}, [Q], [("02", 10, 100.2)]),
        ("market sells the bid", "sell", {}, [Q], [("02", -10, 99.9)]),
        ("a side without a quote falls back to the trade", "buy", {}, [(100.0, 50, 99.9, 0.0)], [("02", 10, 100.0)]),
        ("market takes the shown depth, waits for more", "buy", {}, [DEEP, DEEP, DEEP], [("02", 4, 100.2), ("03", 4, 100.2), ("04", 2, 100.2)]),
        ("market sells into the bid's depth", "sell", {}, [DEEP, DEEP], [("02", -7, 99.9), ("03", -3, 99.9)]),
        ("no volume, no fill", "buy", {}, [(100.0, 0), (101.0, 3), (102.0, 50)], [("03", 3, 101.0), ("04", 7, 102.0)]),
        # limit
        ("marketable limit takes the better ask", "buy", {"limit": 101.0}, [Q], [("02", 10, 100.2)]),
        ("marketable limit takes the better bid", "sell", {"limit": 99.0}, [Q], [("02", -10, 99.9)]),
        ("marketable limit takes the better trade", "buy", {"limit": 101.0}, [99.0], [("02", 10, 99.0)]),
        ("marketable limit that found no volume still takes the better price", "buy", {"limit": 105.0}, [(100.0, 0), (100.0, 50)], [("03", 10, 100.0)]),
        ("limit on the trade is marketable", "buy", {"limit": 99.0}, [99.0], [("02", 10, 99.0)]),
        ("resting limit waits above", "buy", {"limit": 99.0}, [100.0, 99.5, 100.0], []),
        ("resting limit fills at its price when a trade reaches it", "buy", {"limit": 99.0}, [100.0, 99.0], [("03", 10, 99.0)]),
        ("resting limit fills at its price when a trade goes through", "buy", {"limit": 99.0}, [100.0, 95.0], [("03", 10, 99.0)]),
        ("resting sell limit fills at its price", "sell", {"limit": 101.0}, [100.0, 105.0], [("03", -10, 101.0)]),
        ("resting limit, the ask comes down to it", "buy", {"limit": 99.0}, [Q, (99.5, 50, 98.0, 99.0)], [("03", 10, 99.0)]),
        ("a trade at the limit while the ask stays above is somebody else's", "buy", {"limit": 99.0}, [Q, (99.0, 50, 98.9, 99.2)], []),
        ("a trade through the limit fills it", "buy", {"limit": 99.0}, [Q, (98.95, 50, 98.9, 99.2)], [("03", 10, 99.0)]),
        ("resting limit shares the traded volume", "buy", {"limit": 99.0}, [100.0, (98.0, 4), (98.0, 4), (98.0, 4)], [("03", 4, 99.0), ("04", 4, 99.0), ("05", 2, 99.0)]),
        # stop-market
        ("stop waits below", "buy", {"stop": 102.0}, [101.0, 101.95], []),
        ("stop triggers on a trade at it", "buy", {"stop": 102.0}, [101.0, 102.0], [("03", 10, 102.0)]),
        ("stop gaps: the worse of stop and trade", "buy", {"stop": 102.0}, [101.0, 110.0], [("03", 10, 110.0)]),
        ("sell stop gaps down", "sell", {"stop": 98.0}, [99.0, 90.0], [("03", -10, 90.0)]),
        ("stop takes the ask when worse", "buy", {"stop": 102.0}, [Q, (102.0, 50, 101.9, 102.3)], [("03", 10, 102.3)]),
        ("stop never fills better than itself", "buy", {"stop": 102.0}, [Q, (102.0, 50, 101.5, 101.8)], [("03", 10, 102.0)]),
        ("quotes alone do not trigger a stop", "buy", {"stop": 102.0}, [(100.0, 5, 103.0, 103.1)], []),
        # stop-limit
        ("stop-limit inside its limit", "buy", {"stop": 102.0, "limit": 103.0}, [101.0, 102.5], [("03", 10, 102.5)]),
        ("stop-limit gapped through rests at its limit", "buy", {"stop": 102.0, "limit": 103.0}, [101.0, 110.0, 109.0, 103.0], [("05", 10, 103.0)]),
        ("sell stop-limit gapped through rests", "sell", {"stop": 98.0, "limit": 97.0}, [99.0, 90.0, 97.5], [("04", -10, 97.0)]),
        ("stop-limit triggered on its first event", "buy", {"stop": 102.0, "limit": 102.0}, [102.0], [("02", 10, 102.0)]),
        # validity
        ("IOC takes what is there and ends", "buy", {"validity": "IOC"}, [(100.0, 4), (100.0, 50)], [("02", 4, 100.0)]),
        ("IOC limit that is not marketable ends", "buy", {"validity": "IOC", "limit": 99.0}, [100.0, 99.0], []),
        ("TTL lives for its time", "buy", {"validity": "TTL", "ttl": "2s", "limit": 99.0}, [100.0, 100.0, 98.0], []),
        ("TTL fills within its time", "buy", {"validity": "TTL", "ttl": "2s", "limit": 99.0}, [98.0], [("02", 10, 98.0)]),
        ("TTL ends at its instant, before that instant's tick", "buy", {"validity": "TTL", "ttl": "1s", "limit": 99.0}, [98.0], []),
    ],
)  # fmt: skip
def test_what_an_order_does(
    what: str, side: str, order: dict[str, Any], rows: list[Any], expected: list[Any]
) -> None:
    """Rows of (price, volume, bid, ask, bid quantity, ask quantity) after an order of 10 at a last price of 100."""
    rows = [r if isinstance(r, tuple) else (r,) for r in rows]
    width = max(len(r) for r in rows)
    padded = [(*r, *((10**6, 0.0, 0.0, 0, 0)[len(r) - 1 : width - 1])) for r in rows]
    assert own(run(order, *padded, side=side)) == expected, what


@pytest.mark.parametrize(
    ("order", "rows", "status", "reason"),
    [
        ({}, [100.0], "filled", ""),
        ({"limit": 99.0}, [100.0], "expired", "the session closed"),
        ({"stop": 110.0}, [100.0], "expired", "the session closed"),
        ({"validity": "IOC", "limit": 99.0}, [100.0], "cancelled", "IOC: the rest found no counterpart"),
        ({"validity": "IOC", "stop": 110.0}, [100.0], "cancelled", "IOC: the rest found no counterpart"),
        ({"validity": "TTL", "ttl": "5s", "limit": 99.0}, [100.0], "expired", "its time to live is over"),
    ],
)
def test_how_an_order_ends(order: dict[str, Any], rows: list[Any], status: str, reason: str) -> None:
    result = run(order, *rows, product="CNC")
    assert (only_order(result).status, only_order(result).reason) == (status, reason)
    if "ttl" in order:
        assert clock(only_order(result).end_ts) == "09:15:06"


def test_the_working_day_order_is_accepted_once_it_rests() -> None:
    strategy = Scripted({SENT_AT: lambda s: s.buy("INFY", 10, limit=99.0)}, product="CNC")
    rows = [
        (SENT_AT, "INFY", 100.0),
        ("09:15:02", "INFY", 100.0),
        ("09:15:03", "INFY", 100.0),
        ("09:15:04", "INFY", 98.0),
    ]
    play(strategy, tape_of(rows))
    assert [status for _, status in strategy.told] == ["open", "fill", "filled"]


# ── size ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("share", "expected"), [(1.0, [7, 3]), (0.5, [3, 3, 3, 1]), (0.1, [])])
def test_participation_is_the_share_of_volume_we_may_take(share: float, expected: list[int]) -> None:
    result = run({}, *[(100.0, 7)] * 6, fills=Fills(participation=share), product="CNC")
    assert [f.quantity for f in result.fills] == expected


def test_derivatives_fill_in_whole_lots() -> None:
    rows = [(SENT_AT, "NIFTY26NOVFUT", 25000.0, 500)]
    rows += [(f"09:15:{n:02}", "NIFTY26NOVFUT", 25000.0, 100) for n in range(2, 8)]
    result = play(
        Scripted({SENT_AT: lambda s: s.buy("NIFTY26NOVFUT", lots=3)}, product="NRML"),
        tape_of(rows, NIFTY_FUT),
    )
    assert [f.quantity for f in result.fills] == [65, 65, 65]


def test_our_orders_of_one_side_share_an_events_volume_oldest_first() -> None:
    script = {SENT_AT: lambda s: (s.buy("INFY", 6), s.buy("INFY", 7), s.buy("INFY", 1, limit=150.0))}
    rows = [(SENT_AT, "INFY", 100.0, 99), *((f"09:15:0{n}", "INFY", 100.0, 5) for n in (2, 3, 4))]
    result = play(Scripted(script, product="CNC"), tape_of(rows))
    assert [(f.seq, f.signal.ordinal, f.quantity) for f in result.fills] == [
        (1, 0, 5), (2, 0, 1), (2, 1, 4), (3, 1, 3), (3, 2, 1),
    ]  # fmt: skip


def test_a_tick_with_traded_volume_but_no_quote_gives_its_volume() -> None:
    """Depth where it is shown, else the traded volume: a tick without a quote on a quoted tape still traded."""
    rows = [(100.0, 8, 0.0, 0.0, 0, 0), (100.0, 8, 0.0, 0.0, 0, 0)]
    assert own(run({}, *rows)) == [("02", 8, 100.0), ("03", 2, 100.0)]


# ── slippage and latency ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fills", "side", "order", "price"),
    [
        (Fills(slippage_ticks=2), "buy", {}, 100.1),
        (Fills(slippage_ticks=2), "sell", {}, 99.9),
        (Fills(slippage_bps=5.0), "buy", {}, 100.05),  # 5 bps of 100 is exactly one tick
        (Fills(slippage_bps=5.5), "buy", {}, 100.1),  # rounded up to the grid
        (Fills(slippage_bps=5.0, slippage_ticks=1), "sell", {}, 99.9),
        (Fills(slippage_ticks=2), "buy", {"limit": 101.0}, 100.0),  # a limit is a promise
        (Fills(slippage_ticks=2), "buy", {"stop": 100.0}, 100.1),
        (Fills(slippage_ticks=10**6), "sell", {}, 0.05),  # never below one tick
    ],
)
def test_slippage_worsens_market_and_stop_fills_by_whole_ticks(
    fills: Fills, side: str, order: dict[str, Any], price: float
) -> None:
    assert own(run(order, 100.0, side=side, fills=fills)) == [("02", 10 if side == "buy" else -10, price)]


@pytest.mark.parametrize(("latency", "filled"), [(0, "02"), (1000, "02"), (1001, "03"), (2500, "04")])
def test_latency_is_event_time(latency: float, filled: str) -> None:
    """The venue sees the order that much later: at a tick of exactly that time it is there."""
    (fill,) = run({}, 101.0, 102.0, 103.0, 104.0, fills=Fills(latency_ms=latency), product="CNC").fills
    assert clock(fill.ts)[-2:] == filled
    assert fill.price == 99.0 + int(filled)


def test_an_order_cancelled_before_it_arrives_never_trades() -> None:
    script = {SENT_AT: lambda s: s.buy("INFY", 1), "09:15:02": lambda s: s.cancel_all()}
    rows = [(f"09:15:0{n}", "INFY", 100.0) for n in range(1, 9)]
    result = play(Scripted(script), tape_of(rows), fills=Fills(latency_ms=5000))
    assert result.fills == []
    assert only_order(result).status == "cancelled"


def test_jitter_is_drawn_per_order_from_the_seed() -> None:
    """The delay of an order does not depend on which orders came before it, only on its id and the seed."""

    def delays(seed: int, skip: bool) -> dict[str, int]:
        script = {
            f"09:15:{n:02}": lambda s: s.buy("INFY", 1, tag="t")
            for n in range(1, 30)
            if not (skip and n == 1)
        }
        rows = [(f"09:15:{n:02}", "INFY", 100.0) for n in range(1, 40)]
        result = play(
            Scripted(script), tape_of(rows), fills=Fills(latency_ms=5, latency_jitter_ms=50, seed=seed)
        )
        return {o.id: o.active_ts - o.signal.ts for o in result.orders if not o.leg}

    one = delays(1, skip=False)
    assert one == delays(1, skip=False)
    assert one != delays(2, skip=False)
    assert {**one, **delays(1, skip=True)} == one
    assert all(5_000_000 <= d <= 55_000_000 for d in one.values())
    assert len(set(one.values())) > 20


@pytest.mark.parametrize(
    "bad",
    [
        {"slippage_ticks": -1}, {"slippage_bps": float("nan")}, {"slippage_bps": -1.0}, {"latency_ms": -5.0},
        {"latency_ms": float("inf")}, {"latency_jitter_ms": -1.0}, {"participation": 0.0}, {"participation": 1.5},
        {"participation": float("nan")}, {"slippage_ticks": True},
    ],
)  # fmt: skip
def test_a_venue_model_that_makes_no_sense_is_refused_when_it_is_written(bad: dict[str, Any]) -> None:
    """Negative slippage earns money, a negative delay sees the past: an error that names the field, not a crash later."""
    (name,) = bad
    with pytest.raises(ConfigurationError, match=name):
        Fills(**bad)


# ── bands and closed markets ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fo", "expected"), [(False, [("10:00:03", 10, 119.0)]), (True, [("10:00:02", 10, 121.0)])]
)
def test_nothing_fills_outside_a_known_circuit_band(fo: bool, expected: list[Any]) -> None:
    """20 % around yesterday's last price; a stock with derivatives has no fixed band."""
    rows = [("2026-11-20 15:00:00", "INFY", 100.0), ("2026-11-23 10:00:01", "INFY", 119.9)]
    rows += [("2026-11-23 10:00:02", "INFY", 121.0), ("2026-11-23 10:00:03", "INFY", 119.0)]
    strategy = Scripted({"10:00:01": lambda s: s.buy("INFY", 10)}, product="CNC")
    assert trades(play(strategy, tape_of(rows, equity("INFY", in_fo=fo)))) == expected


def test_a_limit_outside_the_band_is_refused_by_our_own_rules() -> None:
    rows = [("2026-11-20 15:00:00", "INFY", 100.0), ("2026-11-23 10:00:01", "INFY", 119.0)]
    strategy = Scripted(
        {"10:00:01": lambda s: (s.buy("INFY", 1, limit=120.0), s.buy("INFY", 1, limit=120.05))}
    )
    result = play(strategy, tape_of(rows))
    assert denials(result) == ["circuit: limit 120.05 is outside today's band 80 to 120"]


# ── bars as ticks ────────────────────────────────────────────────────────────────────────────────────────────────────

INSIDE = [False, True, True, True]


@pytest.mark.parametrize(
    ("what", "side", "order", "bar", "expected"),
    [
        ("a stop inside the bar fills at the stop", "buy", {"stop": 103.0}, (100, 99, 110, 108), 103.0),
        ("a sell stop inside the bar fills at the stop", "sell", {"stop": 97.0}, (100, 104, 90, 95), 97.0),
        (
            "a stop gapped over by the open fills at the open",
            "buy",
            {"stop": 103.0},
            (106, 105, 110, 108),
            106.0,
        ),
        ("a limit inside the bar fills at the limit", "buy", {"limit": 97.0}, (100, 90, 104, 101), 97.0),
        (
            "a sell limit inside the bar fills at the limit",
            "sell",
            {"limit": 103.0},
            (100, 99, 110, 108),
            103.0,
        ),
        ("a limit gapped over by the open takes the open", "buy", {"limit": 97.0}, (95, 90, 104, 101), 95.0),
        ("market takes the open", "buy", {}, (95, 90, 104, 101), 95.0),
    ],
)
def test_orders_of_the_bar_before_fill_inside_a_bar_where_the_price_passed(
    what: str, side: str, order: dict[str, Any], bar: tuple[int, ...], expected: float
) -> None:
    """A tape made from bars: open, then moves through every price to the high or low."""
    rows = [(SENT_AT, "INFY", 100.0), *((f"09:16:{n * 15:02}", "INFY", float(p)) for n, p in enumerate(bar))]
    script = {SENT_AT: lambda s: getattr(s, side)("INFY", 10, **order)}
    result = play(Scripted(script), tape_of(rows, inside=[False, *INSIDE]))
    assert [f.price for f in result.fills if not f.leg] == [expected], what


@pytest.mark.parametrize(
    ("what", "entry", "bar", "expected"),
    [
        ("take-profit", {"tp": 105.0}, (100, 99, 110, 108), 105.0),
        ("stop-loss", {"sl": 97.0}, (100, 90, 104, 101), 97.0),
        ("stop first on a falling path", {"sl": 97.0, "tp": 103.0}, (100, 90, 110, 104), 97.0),
        ("profit first on a rising path", {"sl": 97.0, "tp": 103.0}, (100, 110, 90, 95), 103.0),
    ],
)
def test_a_brackets_exits_fill_inside_the_entrys_own_bar_at_their_prices(
    what: str, entry: dict[str, float], bar: tuple[int, ...], expected: float
) -> None:
    """The entry fills at the open; the price then moved through the exit, so the exit fills there, not at the extreme."""
    rows = [(SENT_AT, "INFY", 100.0), *((f"09:16:{n * 15:02}", "INFY", float(p)) for n, p in enumerate(bar))]
    result = play(
        Scripted({SENT_AT: lambda s: s.buy("INFY", 10, **entry)}), tape_of(rows, inside=[False, *INSIDE])
    )
    assert [f.price for f in result.fills if f.leg in ("sl", "tp")] == [expected], what


def test_a_limit_sent_inside_a_bar_fills_where_the_price_passed_it() -> None:
    """Sent at the open tick, below it: the way down to the low goes through the limit, so it never does better."""
    rows = [(f"09:16:{n * 15:02}", "INFY", p) for n, p in enumerate((100.0, 90.0, 104.0))]
    script = {"09:16:00": lambda s: s.buy("INFY", 10, limit=97.0)}
    result = play(Scripted(script), tape_of(rows, inside=INSIDE[:3]))
    assert trades(result)[0] == ("09:16:15", 10, 97.0)


# ── brackets ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("side", "entry", "prices", "expected"),
    [
        ("buy", {"sl": 98.0, "tp": 103.0}, [100, 101, 97.5, 105], [10, 100.0, -10, 97.5]),
        ("buy", {"sl": 98.0, "tp": 103.0}, [100, 101, 103.5, 90], [10, 100.0, -10, 103.0]),
        ("sell", {"sl": 102.0, "tp": 97.0}, [100, 101, 104, 90], [-10, 100.0, 10, 104.0]),
        ("sell", {"sl": 102.0, "tp": 97.0}, [100, 99, 96, 110], [-10, 100.0, 10, 97.0]),
        ("buy", {"sl": 98.0}, [100, 110, 97], [10, 100.0, -10, 97.0]),
        ("buy", {"tp": 103.0}, [100, 90, 103], [10, 100.0, -10, 103.0]),
        ("buy", {"limit": 99.0, "sl": 98.0}, [100, 99, 97], [10, 99.0, -10, 97.0]),
    ],
)
def test_one_exit_of_a_bracket_cancels_the_other(
    side: str, entry: dict[str, float], prices: list[float], expected: list[float]
) -> None:
    result = run(entry, *map(float, prices), side=side)
    assert [x for f in result.fills for x in (f.quantity, f.price)] == expected
    assert [o.status for o in result.orders if o.leg].count("filled") == 1
    assert {o.status for o in result.orders if o.leg} <= {"filled", "cancelled"}
    assert result.positions == []


def test_exits_are_sized_to_what_the_entry_filled() -> None:
    """Partial parents: exits grow fill by fill; cancelling the rest of the entry leaves exits for what is held."""
    rows = [(SENT_AT, "INFY", 100.0, 1), ("09:15:02", "INFY", 100.0, 3), ("09:15:03", "INFY", 100.0, 4)]
    rows += [("09:15:04", "INFY", 100.0, 0), ("09:15:05", "INFY", 95.0, 5), ("09:15:06", "INFY", 94.0, 50)]
    seen: list[Any] = []

    def look(s: Any) -> None:
        seen.append(sorted((o.leg, o.quantity) for o in s.open_orders()))

    script = {
        SENT_AT: lambda s: s.buy("INFY", 20, sl=96.0, tp=110.0),
        "09:15:02": look, "09:15:03": look,
        "09:15:04": lambda s: (s.cancel(s.open_orders()[0]), look(s)),
        "09:15:05": look, "09:15:06": look,
    }  # fmt: skip
    result = play(Scripted(script), tape_of(rows))
    assert seen == [
        [("", 20), ("sl", 3), ("tp", 3)], [("", 20), ("sl", 7), ("tp", 7)], [("sl", 7), ("tp", 7)],
        [("sl", 7), ("tp", 2)], [],
    ]  # fmt: skip
    assert [f.quantity for f in result.fills] == [3, 4, -5, -2]
    assert result.positions == []


def test_an_exit_that_ran_out_while_its_entry_still_fills_gets_an_id_of_its_own() -> None:
    """Ids are identity: a second exit under a first one's id would be taken for the same order."""
    rows = [(SENT_AT, "INFY", 100.0, 1), ("09:15:02", "INFY", 100.0, 3), ("09:15:03", "INFY", 95.0, 3)]
    rows += [("09:15:04", "INFY", 99.0, 3), ("09:15:05", "INFY", 95.0, 3), ("09:15:06", "INFY", 95.0, 99)]
    result = play(Scripted({SENT_AT: lambda s: s.buy("INFY", 6, limit=100.0, sl=96.0)}), tape_of(rows))
    ids = [o.id for o in result.orders]
    assert len(ids) == len(set(ids)), ids
    assert result.positions == []


def test_exits_shrink_when_the_strategy_closes_part_itself() -> None:
    rows = [(f"09:15:{n:02}", "INFY", 100.0) for n in range(1, 8)] + [("09:15:09", "INFY", 95.0)]
    script = {
        SENT_AT: lambda s: s.buy("INFY", 10, sl=96.0, tp=104.0),
        "09:15:04": lambda s: s.sell("INFY", 4),
    }
    result = play(Scripted(script), tape_of(rows))
    assert [f.quantity for f in result.fills] == [10, -4, -6]


def test_exits_protect_their_own_product_only() -> None:
    """A delivery holding does not keep an intraday stop alive once the intraday position is closed."""
    rows = [(f"09:15:{n:02}", "INFY", 100.0) for n in range(1, 8)] + [("09:15:09", "INFY", 95.0)]
    script = {
        SENT_AT: lambda s: (s.buy("INFY", 10, product="CNC"), s.buy("INFY", 10, product="MIS", sl=96.0)),
        "09:15:04": lambda s: s.sell("INFY", 10, product="MIS"),
    }
    result = play(Scripted(script), tape_of(rows))
    held: dict[str, int] = defaultdict(int)
    for fill in result.fills:
        held[fill.product] += fill.quantity
        assert held[fill.product] >= 0, "an exit turned its product's position over"
    assert [p[2:4] for p in result.positions] == [("CNC", 10)]


@pytest.mark.parametrize("how", ["close_all", "sell", "order_target"])
@pytest.mark.parametrize("latency", [0, 1500])
def test_an_exit_of_the_strategy_racing_its_own_stop_never_turns_the_position_over(
    how: str, latency: int
) -> None:
    """F24: the stop fires on the tick that would fill the strategy's own exit; together they sell what is held."""
    rows = [(f"09:15:{n:02}", "INFY", 100.0) for n in range(1, 8)]
    rows += [(f"09:15:{n:02}", "INFY", 90.0) for n in range(8, 15)]
    leave = {
        "close_all": lambda s: s.close_all(),
        "sell": lambda s: s.sell("INFY", 10),
        "order_target": lambda s: s.order_target("INFY", 0),
    }[how]
    script = {SENT_AT: lambda s: s.buy("INFY", 10, sl=95.0), "09:15:07": leave}
    result = play(Scripted(script), tape_of(rows), fills=Fills(latency_ms=latency))
    assert min(f.position for f in result.fills) == 0
    assert result.positions == []


def test_delivery_shares_are_never_sold_twice() -> None:
    """CNC cannot be short: a stop and a sale of the same shares leave nothing, not a debt of shares."""
    rows = [(f"09:15:{n:02}", "INFY", 100.0) for n in range(1, 8)] + [("09:15:08", "INFY", 90.0)]
    script = {SENT_AT: lambda s: s.buy("INFY", 10, sl=95.0), "09:15:07": lambda s: s.sell("INFY", 10)}
    result = play(Scripted(script, product="CNC"), tape_of(rows))
    assert result.positions == []


class Flips(ap.Strategy):
    """Long or short entries with brackets, and every way out; never an order that means to reverse."""

    def __init__(self, plan: list[tuple[int, int, int]], **values: Any) -> None:
        super().__init__(**values)
        self.plan = plan
        self.step = 0

    def on_tick(self, tick: Tick) -> None:
        if self.step >= len(self.plan):
            return
        what, size, wide = self.plan[self.step]
        self.step += 1
        held = self.position("INFY").quantity
        gap = 0.05 * wide
        if what <= 2 and held >= 0:
            options: dict[str, float] = {"sl": tick.price - gap, "tp": tick.price + gap}
            if what:
                del options["sl" if what == 1 else "tp"]
            self.buy("INFY", size, **{k: self.round_price("INFY", v) for k, v in options.items()})  # pyright: ignore[reportArgumentType]
        elif what == 3:
            self.close_all()
        elif what == 4:
            self.cancel_all()
        elif what == 5:
            for order in [o for o in self.open_orders() if not o.leg]:
                self.cancel(order)
        elif what == 6:
            self.order_target("INFY", max(0, held - size))


@runs(80)
@given(
    plan=st.lists(
        st.tuples(st.integers(0, 6), st.integers(1, 9), st.integers(1, 4)), min_size=3, max_size=25
    ),
    steps=st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 12)), min_size=25, max_size=25),
    volume=st.booleans(),
    latency=st.sampled_from([0, 0, 1000, 2500]),
)
def test_exits_never_take_a_position_through_zero(
    plan: list[tuple[int, int, int]], steps: list[tuple[int, int]], volume: bool, latency: int
) -> None:
    """Whatever bracket exits, ``close_all``, ``order_target`` down and cancels meet on whatever path, long stays long."""
    price, rows = 100.0, []
    for n, (move, size) in enumerate(steps):
        price = max(1.0, round(price + 0.05 * move, 2))
        rows.append((f"09:15:{n:02}", "INFY", price, size if volume else 10**6))
    rows.append(("15:19:00", "INFY", price, 10**6))
    result = play(Flips(plan), tape_of(rows), fills=Fills(latency_ms=latency))
    assert result.errors == []
    low = min((f.position for f in result.fills), default=0)
    assert low >= 0, [(f.seq, f.leg or f.tag, f.quantity, f.price, f.position) for f in result.fills]
    assert result.positions == []


class Watcher(Chaos):
    """Chaos that checks, at each of its fills, that its exits stand for no more than it holds."""

    def on_fill(self, fill: Fill) -> None:
        held = self.position(fill.symbol).quantity
        for leg in ("sl", "tp"):
            left = sum(o.target - o.filled for o in self.open_orders(fill.symbol) if o.leg == leg)
            assert left * held <= 0, "exits on the position's own side"
            assert abs(left) <= abs(held), f"{leg} exits of {left} for {held} held"
        super().on_fill(fill)


@runs(25)
@given(st.integers(0, 10**9))
def test_exits_are_never_more_than_the_position(seed: int) -> None:
    result = play(Watcher(seed=seed), random_tape(seed, 200, names=("INFY", "TCS", "RELIANCE")))
    assert result.errors == [], result.errors[0].traceback


def test_an_exit_is_protected_by_no_limit_and_shows_in_the_orders() -> None:
    """Children are orders of the run with their parent's id and tag; they are not asked to pass the risk rules."""
    rows = [(f"09:15:{n:02}", "INFY", 100.0) for n in range(1, 5)]
    script = {SENT_AT: lambda s: s.buy("INFY", 10, sl=50.0, tp=300.0, tag="orb")}
    result = play(Scripted(script), tape_of(rows), limits=ap.Limits(orders_per_day=1))
    legs = [o for o in result.orders if o.leg in ("sl", "tp")]
    assert [(o.leg, o.parent_id, o.signal.tag, o.id) for o in legs] == [
        (leg, "Scripted:0:0", "orb", f"Scripted:0:0/{leg}") for leg in ("sl", "tp")
    ]
    assert {o.reason for o in legs} == {"MIS square-off"}
    assert ns("15:20:00") == legs[0].end_ts


def test_order_news_come_in_the_order_of_an_orders_life() -> None:
    """``on_fill`` before ``on_order``: the books and the status already hold the fill when either is called."""
    seen: list[Any] = []

    class News(ap.Strategy):
        def on_tick(self, tick: Tick) -> None:
            if clock(tick.ts) == SENT_AT:
                self.buy("INFY", 10)

        def on_fill(self, fill: Fill) -> None:
            seen.append(("fill", fill.position, self.position("INFY").quantity))

        def on_order(self, order: Order) -> None:
            seen.append((order.status, order.filled, order.average_price))

    rows = [(SENT_AT, "INFY", 100.0, 1), ("09:15:02", "INFY", 100.0, 4), ("09:15:03", "INFY", 110.0, 40)]
    play(News(product="CNC"), tape_of(rows))
    assert seen == [("fill", 4, 4), ("part-filled", 4, 100.0), ("fill", 10, 10), ("filled", 10, 106.0)]

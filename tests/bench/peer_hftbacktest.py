"""hftbacktest: its Rust engine under a strategy compiled with numba (no Python callback).

Every tick moves a one-tick-wide order book (two depth events where the price changed, so that market
orders fill: a sell at the traded price, a buy one grid step above it). ``asks``: each tick is also a
trade, and the strategy finds the instrument that traded by asking all of them, which is all the engine's
API offers. ``default``: the same on the general order book, a hash map, where the others use an array of
price levels. ``told``: the strategy knows from outside which instrument each event belongs to and reads
its best bid, so the trades are left away (where the price did not change, the bid is sent again): faster
than any real strategy could be, listed for information. Compilation is left out: the strategy runs once on
a small tape first.
"""

# pyright: reportMissingImports=false, reportMissingTypeStubs=false
from __future__ import annotations

from typing import Any

import numpy as np
from hftbacktest import (
    DEPTH_EVENT,
    EXCH_EVENT,
    GTC,
    LOCAL_EVENT,
    MARKET,
    TRADE_EVENT,
    BacktestAsset,
    HashMapMarketDepthBacktest,
    ROIVectorMarketDepthBacktest,
)
from hftbacktest.binding import event_dtype
from hftbacktest.types import BUY_EVENT, SELL_EVENT
from numba import njit

from tests.bench import job as sma
from tests.bench.child import arguments, tell, timed

FAST, SLOW, TIE = sma.FAST, sma.SLOW, sma.TIE
STEP = sma.GRID / 100
BOTH = EXCH_EVENT | LOCAL_EVENT


def events(ts: np.ndarray, price: np.ndarray, *, told: bool) -> np.ndarray:
    """One instrument's ticks (prices in 0.01) as the engine's events."""
    moved = np.diff(price, prepend=price[0])
    depth = np.where(moved != 0, 2, 1 if told else 0)
    rows = np.repeat(np.arange(len(ts)), depth + (0 if told else 1))
    first = np.concatenate(([True], rows[1:] != rows[:-1]))
    last = np.concatenate((first[1:], [True]))
    trade = np.zeros(len(rows), bool) if told else last
    second = ~first & ~trade
    up, still = moved[rows] > 0, moved[rows] == 0
    out: Any = np.zeros(len(rows), event_dtype)
    # up: the ask at the new price goes, then it is a bid; down: the bid above goes, then that price is an ask
    is_bid = np.where(still, True, np.where(second, up, ~up))
    at = np.where((moved[rows] < 0) & ~trade, price[rows] + sma.GRID, price[rows])
    out["ev"] = np.where(trade, TRADE_EVENT, DEPTH_EVENT) | BOTH | np.where(is_bid, BUY_EVENT, SELL_EVENT)
    out["px"] = at / 100
    out["qty"] = np.where(trade, 1.0, np.where(still | second, 1e6, 0.0))
    out["exch_ts"] = out["local_ts"] = ts[rows]
    return out


def snapshot(price: np.ndarray) -> np.ndarray:
    """The book before the first tick: a level at every price the walk will reach, bids up to the first."""
    levels = np.arange(price.min() - 4 * sma.GRID, price.max() + 5 * sma.GRID, sma.GRID)
    out: Any = np.zeros(len(levels), event_dtype)
    bid = levels <= price[0]
    out["ev"] = DEPTH_EVENT | BOTH | np.where(bid, BUY_EVENT, SELL_EVENT)
    out["px"], out["qty"] = levels / 100, 1e6
    return out


def engine(job: sma.Job, variant: str):
    """One asset an instrument, no latency, no queue; and the arrays, whose addresses the engine keeps."""
    assets, arrays = [], []
    for j in range(job.instruments):
        own = job.instrument == j
        price = job.price[own]
        first, ticks = snapshot(price), events(job.ts[own], price, told=variant == "told")
        ticks = np.concatenate(
            (ticks, ticks[-1:])
        )  # the feed ends while its last event is being handed over,
        ticks["exch_ts"][-1] = ticks["local_ts"][-1] = (
            job.ts[-1] + 10**9
        )  # so that is one after the last tick
        arrays += [first, ticks]
        assets.append(
            BacktestAsset()
            .data([ticks])
            .initial_snapshot(first)
            .linear_asset(1.0)
            .constant_order_latency(0, 0)
            .risk_adverse_queue_model()
            .no_partial_fill_exchange()
            .trading_value_fee_model(0.0, 0.0)
            .tick_size(STEP)
            .lot_size(1.0)
            .roi_lb(price.min() / 100 - 1)
            .roi_ub(price.max() / 100 + 1)
            .last_trades_capacity(0 if variant == "told" else 16)
        )
    build = HashMapMarketDepthBacktest if variant == "default" else ROIVectorMarketDepthBacktest
    return build(assets), arrays


@njit
def trade(hbt, owner, count, told):
    """The strategy; returns orders sent and ticks seen."""
    windows = np.zeros((count, SLOW))
    at, seen = np.zeros(count, np.int64), np.zeros(count, np.int64)
    fast, slow, sign = np.zeros(count), np.zeros(count), np.zeros(count, np.int64)
    sent, ticks = 0, 0
    while ticks < len(owner) and hbt.wait_next_feed(False, 10**18) == 2:
        j, price = owner[ticks], 0.0
        if told:
            price = hbt.depth(j).best_bid
        else:
            for asset in range(count):
                trades = hbt.last_trades(asset)
                if len(trades) > 0:
                    j, price = asset, trades[0].px
                    hbt.clear_last_trades(asset)
                    break
        ticks += 1
        i = at[j]
        fast[j] += price - windows[j, (i - FAST) % SLOW]
        slow[j] += price - windows[j, i]
        windows[j, i] = price
        at[j] = (i + 1) % SLOW
        seen[j] += 1
        if seen[j] < SLOW:
            continue
        apart = fast[j] / FAST - slow[j] / SLOW
        now = 1 if apart > TIE else -1 if apart < -TIE else sign[j]
        if now != sign[j]:
            if sign[j] != 0:
                if now > 0:
                    hbt.submit_buy_order(j, sent, price, 1.0, GTC, MARKET, False)
                else:
                    hbt.submit_sell_order(j, sent, price, 1.0, GTC, MARKET, False)
                sent += 1
                hbt.clear_inactive_orders(j)
            sign[j] = now
    return sent, ticks


def main() -> None:
    """Measure one variant."""
    options = arguments("asks", "default", "told")
    told = options.variant == "told"
    small = sma.make(2_000, options.instruments)
    hbt, _arrays = engine(small, options.variant)
    trade(hbt, small.instrument, small.instruments, told)
    job = sma.make(options.ticks, options.instruments)
    (hbt, _arrays), prep = timed(lambda: engine(job, options.variant))
    (sent, ticks), cost = timed(lambda: trade(hbt, job.instrument, job.instruments, told))
    if ticks != len(job):
        raise AssertionError(f"the strategy saw {ticks:,} of {len(job):,} ticks")
    filled = sum(hbt.state_values(j).num_trades for j in range(job.instruments))
    if filled != sent:
        raise AssertionError(f"sent {sent} orders, {filled} filled")
    tell(cost | {"ticks": ticks, "orders": int(sent), "prep": prep["cpu"]})


if __name__ == "__main__":
    main()

"""Money is conserved: whatever fills, in whatever pieces, every paisa of capital is somewhere on the books."""

from __future__ import annotations

import datetime as dt
import random
from collections import defaultdict
from fractions import Fraction
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from alphapanda.charges import KINDS
from alphapanda.events import Fill, ist
from alphapanda.exchange import Fills
from alphapanda.instruments import Instrument
from alphapanda.orders import Order
from alphapanda.portfolio import Portfolio, Position, worth
from alphapanda.result import Result
from tests.build import CRORE, NIFTY_FUT, RULES, Scripted, equity, play, runs, tape_of, trades
from tests.chaos import Chaos, random_tape

USDINR = Instrument(
    symbol="CDS:USDINR26NOVFUT", exchange="CDS", kind="FUT", price_scale=10_000_000, multiplier=1000
)
FOURTH = Instrument(symbol="BCD:ODD", exchange="BCD", kind="FUT", price_scale=10_000, multiplier=1)
INSTRUMENTS = (equity("INFY"), USDINR, FOURTH)
FILLS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.integers(-(10**6), 10**6).filter(bool),
        st.integers(1, 10**9),
        st.integers(0, 10**6),
    ),
    max_size=40,
)


@settings(max_examples=60)
@given(FILLS, st.integers(1, 10**12))
def test_cash_and_costs_and_charges_are_capital_and_realized(
    fills: list[tuple[int, int, int, int]], capital: int
) -> None:
    """F34, for any fills of any size through zero and back, on price scales from 100 to 10,000,000."""
    book = Portfolio(capital)
    signed = realized = charged = 0
    for which, quantity, price, cost in fills:
        instrument = INSTRUMENTS[which]
        value = worth(instrument, quantity, price)
        position = book.position(which, instrument, "NRML")
        realized += position.apply(quantity, value)
        charged += cost
        book.cash -= value + cost
        signed += value
        held = [p for several in book.positions.values() for p in several]
        assert book.cash + sum(p.cost for p in held) + charged == capital + realized
        assert realized == sum(p.realized for p in held)
    assert book.cash == capital - signed - charged
    for several in book.positions.values():
        for position in several:
            assert position.quantity or not position.cost, "a flat position has a cost"


@given(st.lists(st.tuples(st.integers(-50, 50).filter(bool), st.integers(1, 10**7)), min_size=1, max_size=30))
def test_average_cost_is_that_of_an_exact_reference(fills: list[tuple[int, int]]) -> None:
    """Average cost (not first in, first out): the books stay within a paisa a fill of exact fractions."""
    position = Position(equity("INFY"), "CNC")
    quantity, cost, realized = 0, Fraction(0), Fraction(0)
    for change, price in fills:
        position.apply(change, change * price)
        if quantity * change >= 0:
            cost += change * price
        else:
            closed = min(abs(change), abs(quantity)) * (1 if quantity > 0 else -1)
            part = cost * closed / quantity
            realized += closed * price - part
            cost = cost - part + (change + closed) * price
        quantity += change
    assert position.quantity == quantity
    assert abs(position.cost - cost) <= len(fills)
    assert abs(position.realized - realized) <= len(fills)


@given(
    st.integers(-400, 400).filter(bool),
    st.lists(st.integers(1, 60), min_size=1, max_size=8),
    st.integers(1, 10**7),
    st.integers(1, 10**7),
)
def test_how_an_order_is_split_into_fills_changes_no_paisa(
    held: int, parts: list[int], cost: int, price: int
) -> None:
    """F34: cash, open quantity and the sum of cost and profit are the same for one fill as for many at one price."""
    side = -1 if held > 0 else 1
    whole, split = Position(equity("INFY"), "MIS"), Position(equity("INFY"), "MIS")
    for position in (whole, split):
        position.apply(held, held * cost)
    for part in parts:
        split.apply(side * part, side * part * price)
    whole.apply(side * sum(parts), side * sum(parts) * price)
    assert split.quantity == whole.quantity
    assert split.cost - split.realized == whole.cost - whole.realized
    assert abs(split.realized - whole.realized) <= len(parts)


def test_a_position_that_goes_through_zero_books_profit_only_on_what_it_closed() -> None:
    position = Position(equity("INFY"), "MIS")
    assert position.apply(10, 10 * 100_00) == 0
    assert position.apply(-15, -15 * 110_00) == 10 * 10_00
    assert (position.quantity, position.cost, position.average_price) == (-5, -5 * 110_00, 110.0)
    assert position.apply(5, 5 * 100_00) == 5 * 10_00
    assert (position.quantity, position.cost, position.average_price) == (0, 0, 0.0)


def test_products_are_kept_apart_and_summed_for_the_strategy() -> None:
    book, infy = Portfolio(0), equity("INFY")
    book.position(0, infy, "CNC").apply(10, 10 * 100_00)
    book.position(0, infy, "MIS").apply(-4, -4 * 110_00)
    assert (book.quantity(0), book.net(0, infy).quantity, book.net(0, infy).cost) == (6, 6, 560_00)
    assert [p.product for p in book.positions[0]] == ["CNC", "MIS"]
    assert book.equity([105_00]) == 6 * 105_00
    assert (book.quantity(1), book.net(1, infy).quantity) == (0, 0)


# ── whole runs ───────────────────────────────────────────────────────────────────────────────────────────────────────


def check_the_books(result: Result, capital: int) -> None:
    """Nothing but fills moves money, and the report's last mark holds all of it."""
    realized = sum(f.realized for f in result.fills)
    charges = sum(sum(f.charges) for f in result.fills)
    by_symbol = {i.symbol: i for i in result.instruments}
    unrealized = sum(
        worth(by_symbol[symbol], q, last) - cost for _, symbol, _, q, cost, last in result.positions
    )
    assert result.marks[-1].equity == capital + realized + unrealized - charges
    for mark in result.marks:
        assert sum(mark.by_strategy) == mark.equity - capital
    signed: dict[Any, int] = defaultdict(int)
    for fill in result.fills:
        signed[fill.strategy, fill.symbol, fill.product] += fill.quantity
    assert {k: q for k, q in signed.items() if q} == {p[:3]: p[3] for p in result.positions}
    assert len({o.id for o in result.orders}) == len(result.orders), "two orders share an id"
    by_order: dict[str, list[Fill]] = defaultdict(list)
    for fill in result.fills:
        by_order[fill.order_id].append(fill)
    for order in result.orders:
        check_an_order(order, by_order.pop(order.id, []))
    assert not by_order, "fills of no order"


def check_an_order(order: Order, fills: list[Fill]) -> None:
    """An order's fills add up to the order, and their charges to the charges of the whole."""
    assert sum(f.quantity for f in fills) == order.filled
    assert [f.number for f in fills] == list(range(1, order.fills + 1))
    assert abs(order.filled) <= max(order.quantity, abs(order.signal.quantity)) or order.leg
    if order.status == "denied":
        assert not fills
    if not fills:
        return
    assert order.turnover == sum(abs(f.quantity) * f.price_units for f in fills)
    n, d = order.instrument.paise_ratio
    day = RULES.charges(order.instrument, order.signal.product, dt_of(fills[0]))
    expected = day.order(order.filled > 0, order.turnover * n // d)
    booked = tuple(sum(kind) for kind in zip(*(f.charges for f in fills), strict=True))
    fee = RULES.square_off(order.instrument, order.signal.product, dt_of(fills[0]))
    if order.leg == "square-off" and fee is not None:
        expected = (*expected[:5], expected[5] + fee.gst_paise, 0, fee.fee_paise)
    assert booked[:6] == expected[:6]
    assert booked[KINDS.index("square_off")] == expected[KINDS.index("square_off")]


def dt_of(fill: Fill) -> dt.date:
    """The exchange day of a fill."""
    return ist(fill.ts).date()


@runs(40)
@given(st.integers(0, 10**6))
def test_any_run_keeps_every_paisa(seed: int) -> None:
    """Capital + realized + unrealized - charges is the final equity, exactly; fills' charges are their order's."""
    draw = random.Random(seed)
    tape = random_tape(
        seed, rows=draw.randrange(50, 250), quotes=draw.random() < 0.5, days=draw.choice((1, 1, 2))
    )
    product = draw.choice(("MIS", "CNC"))
    fills = Fills(
        slippage_ticks=draw.choice((0, 1)), slippage_bps=draw.choice((0.0, 2.5)), seed=seed,
        latency_ms=draw.choice((0, 0, 1500)), latency_jitter_ms=draw.choice((0, 900)),
        participation=draw.choice((1.0, 0.3)),
    )  # fmt: skip
    strategies = [
        Chaos(name=f"chaos{n}", seed=seed + n, product=product) for n in range(draw.choice((1, 2, 3)))
    ]
    result = play(strategies, tape, fills=fills, capital=CRORE + 1)
    assert not result.errors, result.errors[0].traceback
    check_the_books(result, CRORE + 1)


def test_the_capital_is_split_to_the_last_paisa() -> None:
    tape = tape_of([("09:15:01", "INFY", 100.0)])
    result = play([Chaos(name=f"c{n}", seed=n) for n in range(3)], tape, capital=100)
    assert result.marks[-1].equity == 100


def test_charges_of_an_order_do_not_depend_on_its_pieces() -> None:
    whole = tape_of([("09:15:01", "INFY", 100.0, 10), ("09:15:02", "INFY", 100.0, 500)])
    rows = [(f"09:15:{n:02}", "INFY", 100.0, 7) for n in range(1, 30)]
    split = tape_of(rows)
    script = {"09:15:01": lambda s: s.buy("INFY", 100, product="CNC", limit=100.0)}
    one, many = play(Scripted(script), whole), play(Scripted(script), split)
    assert len(trades(one)) == 1
    assert len(trades(many)) == 15
    total = [tuple(sum(k) for k in zip(*(f.charges for f in r.fills), strict=True)) for r in (one, many)]
    assert (
        total[0]
        == total[1]
        == RULES.charges(equity("INFY"), "CNC", dt_of(one.fills[0])).order(True, 100 * 100_00)
    )


def test_a_futures_lot_is_worth_quantity_times_price_and_usdinr_a_thousand_times() -> None:
    assert worth(NIFTY_FUT, 65, 25_000_00) == 65 * 25_000_00
    assert worth(USDINR, 2, 83_2500000) == 2 * 1000 * 8325
    assert worth(USDINR, -2, 83_2500000) == -2 * 1000 * 8325

"""The sandbox's positions, holdings, margins and charges: the vendor's formulas on the vendor's own numbers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphapanda.instruments import Instrument
from alphapanda.sandbox.market import Market
from alphapanda.sandbox.positions import Position, Positions
from tests.sandbox_rig import CALL, FUTURE, INFY, TEN, Client, at, broker, mock

GUINEA = Instrument(
    symbol="MCX:GOLDGUINEA17DECFUT", exchange="MCX", kind="FUT", token=53505799, tick_size=100
)
LEAD = Instrument(symbol="MCX:LEADMINI17DECFUT", exchange="MCX", kind="FUT", token=53496327, multiplier=1000)


def test_positions_equal_the_vendors_sample() -> None:
    """Three guineas carried at 23,057 on average, one bought, four sold; one lead future bought."""
    market = Market({GUINEA: 23232.0, LEAD: 161.05})
    market.set(GUINEA.symbol, 23355.0, now=TEN)
    positions = Positions(market)
    guinea = Position(GUINEA, "NRML", overnight=3, overnight_value=92559_00 - 23388_00)
    guinea.trade(1, 1, 23388_00)
    guinea.trade(-1, 4, 23340_00)
    lead = Position(LEAD, "NRML")
    lead.trade(1, 1, 161_05)
    positions.positions = {(LEAD.symbol, "NRML"): lead, (GUINEA.symbol, "NRML"): guinea}
    theirs, ours = mock("positions.json"), positions.documents()
    for kind in ("net", "day"):
        rows = {row["tradingsymbol"]: row for row in ours[kind]}
        for row in theirs[kind]:
            if row["tradingsymbol"] not in rows:
                continue
            mine = rows[row["tradingsymbol"]]
            assert mine.keys() == row.keys()
            differences = {
                name: (mine[name], value)
                for name, value in row.items()
                if (
                    mine[name] != pytest.approx(value)
                    if isinstance(value, (int, float))
                    else mine[name] != value
                )
            }
            differences.pop("close_price", None)  # the sample has 0 where nothing was carried
            assert differences == {}, (kind, row["tradingsymbol"])


@given(
    st.lists(
        st.tuples(st.sampled_from([1, -1]), st.integers(1, 50), st.integers(100_00, 200_00)), max_size=20
    ),
    st.integers(100_00, 200_00),
)
def test_profit_is_cash_and_what_is_held(fills: list[tuple[int, int, int]], last: int) -> None:
    market = Market({LEAD: 150.0})
    market.set(LEAD.symbol, last / 100, now=TEN)
    positions = Positions(market)
    position = Position(LEAD, "NRML")
    positions.positions[LEAD.symbol, "NRML"] = position
    for side, quantity, price in fills:
        position.trade(side, quantity, price)
    row = positions.documents()["net"][0]
    cash = sum(-side * quantity * price for side, quantity, price in fills)
    held = sum(side * quantity for side, quantity, _ in fills) * last
    assert row["pnl"] == pytest.approx((cash + held) * 1000 / 100, abs=1e-4)


def test_delivery_settles_over_two_days_and_what_was_sold_leaves() -> None:
    client = Client(broker())
    client.broker.positions.hold(INFY, 20, 1400.0)
    client.place(symbol="NSE:SBIN", price=963.0, quantity=5)
    client.place(side="SELL", price=1540.0, quantity=8)
    client.wait()

    def holdings(day: str) -> dict[str, Any]:
        client.broker.advance(at(10, 0, day))
        client.token = f"{client.broker.account.api_key}:{client.broker.access.open(client.broker.now)}"
        return {row["tradingsymbol"]: row for row in client("GET", "/portfolio/holdings").data}

    now = holdings("2026-11-20")
    assert (now["INFY"]["quantity"], now["INFY"]["used_quantity"]) == (12, 8)
    saturday = holdings("2026-11-21")
    assert (saturday["INFY"]["quantity"], "SBIN" in saturday) == (12, False)
    monday = holdings("2026-11-23")
    assert (monday["INFY"]["quantity"], monday["SBIN"]["t1_quantity"], monday["SBIN"]["quantity"]) == (
        12,
        5,
        0,
    )
    assert client("GET", "/portfolio/positions").data == {"net": [], "day": []}
    client.broker.tick("NSE:SBIN", 960.0)
    sold = client.place(symbol="NSE:SBIN", side="SELL", price=955.0, quantity=5)
    client.wait()
    assert client.order(sold)["status"] == "COMPLETE"
    later = holdings("2026-11-25")
    assert "SBIN" not in later


def test_cash_after_a_day_is_what_was_earned_less_its_charges() -> None:
    client = Client(broker())
    client.place(product="MIS", price=1549.0, quantity=100)
    client.wait()
    client.broker.tick(INFY, 1560.0)
    client.place(product="MIS", side="SELL", price=1555.0, quantity=100)
    client.wait()
    earned = (1559.9 - 1548.3) * 100
    assert client("GET", "/user/margins").data["equity"]["net"] == pytest.approx(1_000_000 + earned)
    charges = client.broker.trading.day_charges(client.broker.now)
    assert 80 < charges < 130  # brokerage 40, a tax of 39 on the sell side, exchange, stamp and GST
    client.broker.advance(at(10, 0, "2026-11-23"))
    assert client.broker.money.cash == pytest.approx(1_000_000 + earned - charges)


def test_a_carried_future_keeps_its_price_and_is_marked_from_the_close() -> None:
    client = Client(broker())
    client.place(symbol=FUTURE, product="NRML", price=26_101.0, quantity=65)
    client.wait()
    paid = client("GET", "/portfolio/positions").data["net"][0]["average_price"]
    client.broker.tick(FUTURE, 26_200.0)
    client.broker.advance(at(10, 0, "2026-11-23"))
    client.token = f"{client.broker.account.api_key}:{client.broker.access.open(client.broker.now)}"
    client.broker.tick(FUTURE, 26_250.0)
    positions = client("GET", "/portfolio/positions").data
    row = positions["net"][0]
    assert (row["overnight_quantity"], row["average_price"], positions["day"]) == (65, paid, [])
    assert row["pnl"] == pytest.approx((26_250 - paid) * 65)
    assert row["m2m"] == pytest.approx(50 * 65)


def test_what_an_unauthorised_holding_says() -> None:
    client = Client(broker())
    client.broker.positions.hold(INFY, 20, 1400.0, authorised=False)
    sold = client.place(side="SELL", price=1540.0)
    client.wait()
    assert "CDSL TPIN" in client.order(sold)["status_message"]
    assert client("POST", "/portfolio/holdings/authorise").status == 200
    again = client.place(side="SELL", price=1540.0)
    client.wait()
    assert client.order(again)["status"] == "COMPLETE"


def test_an_option_blocks_its_premium_and_a_short_one_margin() -> None:
    client = Client(broker())
    client.place(symbol=CALL, product="NRML", price=120.05, quantity=65)
    client.wait()
    used = client("GET", "/user/margins/equity").data["utilised"]
    assert used["option_premium"] == pytest.approx(120.05 * 65)
    assert used["span"] == 0
    client.place(symbol=CALL, product="NRML", side="SELL", price=119.95, quantity=130)
    client.wait()
    used = client("GET", "/user/margins/equity").data["utilised"]
    assert used["span"] == pytest.approx(26_000 * 65 * 0.12)
    assert used["option_premium"] < 0


def test_charges_are_the_vendors_formula_at_todays_rates() -> None:
    """Worked by hand from the rates of November 2026: one share for delivery at 560, stamp duty in full."""
    client = Client(broker())
    item = {
        "exchange": "NSE", "tradingsymbol": "SBIN", "transaction_type": "BUY", "variety": "regular",
        "product": "CNC", "order_type": "LIMIT", "quantity": 1, "average_price": 560,
    }  # fmt: skip
    charges = client("POST", "/charges/orders", [item]).data[0]["charges"]
    assert charges["brokerage"] == 0
    assert charges["transaction_tax"] == pytest.approx(0.56)
    assert charges["sebi_turnover_charge"] == pytest.approx(0.00056)
    assert charges["exchange_turnover_charge"] == pytest.approx(560 * 0.0000307)
    assert charges["stamp_duty"] == pytest.approx(0.084)
    parts = ("transaction_tax", "exchange_turnover_charge", "sebi_turnover_charge", "brokerage", "stamp_duty")
    assert charges["total"] == pytest.approx(sum(charges[name] for name in parts) + charges["gst"]["total"])

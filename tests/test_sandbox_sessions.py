"""The sandbox's day: what is taken, and how it fills, in the pre-open, the auctions of 2026, and after the close."""

from __future__ import annotations

import datetime as dt

import pytest

from alphapanda.events import MINUTE, SECOND
from alphapanda.rulebook import Rulebook
from alphapanda.sandbox.sessions import stage
from tests.sandbox_rig import FUTURE, INFY, UNIVERSE, Client, at, broker

VGUARD = "NSE:VGUARD"  # without derivatives: no closing auction
RULES = Rulebook.load()


def stages(symbol: str, day: str) -> list[tuple[str, str]]:
    """The stages of a day and when each begins; moments that are drawn to the minute before them."""
    session = RULES.session(UNIVERSE[symbol], dt.date.fromisoformat(day))
    assert session is not None
    found: list[tuple[str, str]] = []
    for minute in range(9 * 60 - 1, 16 * 60 + 1):
        name = stage(session, at(0, minute, day)).name
        if not found or found[-1][1] != name:
            found.append((f"{minute // 60:02}:{minute % 60:02}", name))
    return found


@pytest.mark.parametrize(
    ("symbol", "day", "wanted"),
    [
        (INFY, "2026-07-31", "09:00 preopen, 09:08 match, 09:15 continuous, 15:30 closed, 15:40 post, 16:00 closed"),
        (VGUARD, "2026-11-20", "09:00 preopen, 09:10 match, 09:15 continuous, 15:30 closed, 15:50 post, 16:00 closed"),
        (
            INFY, "2026-11-20",
            "09:00 preopen, 09:10 match, 09:15 continuous, 15:15 reference, 15:20 entry, 15:25 limit, 15:30 match, "
            "15:35 closed, 15:50 post, 16:00 closed",
        ),
        (
            INFY, "2026-12-08",
            "09:00 preopen, 09:10 match, 09:15 continuous, 15:30 reference, 15:33 entry, 15:35 limit, 15:38 match, "
            "15:40 closed, 15:50 post, 16:00 closed",
        ),
        (FUTURE, "2026-11-20", "09:00 preopen, 09:10 match, 09:15 continuous, 15:40 closed"),
        (FUTURE, "2026-12-08", "09:00 preopen, 09:10 match, 09:15 continuous, 15:45 closed"),
    ],
)  # fmt: skip
def test_the_stages_of_each_regime(symbol: str, day: str, wanted: str) -> None:
    """To the minute; the random ends of the auctions' entries lie up to two minutes before."""
    found = [(time, name) for time, name in stages(symbol, day) if time != "08:59"]
    asked = [tuple(one.split()) for one in wanted.split(", ")]
    assert [name.split("_")[-1] for _, name in found] == [n if n != "post" else "close" for _, n in asked]
    for (time, name), (named, _) in zip(found, asked, strict=True):
        early = dt.datetime.fromisoformat(f"{day} {named}") - dt.datetime.fromisoformat(f"{day} {time}")
        assert dt.timedelta(0) <= early <= dt.timedelta(minutes=2 if "match" in name else 0), (name, time)


def test_the_random_end_of_an_auction_differs_from_day_to_day_and_can_be_repeated() -> None:
    ends: set[int] = set()
    for day in range(2, 28):
        session = RULES.session(UNIVERSE[INFY], dt.date(2026, 10, day))
        if session is None:
            continue
        start = at(15, 27, str(session.day))
        last = next(s for s in range(240) if stage(session, start + s * SECOND).name == "auction_match")
        assert 60 <= last <= 180
        assert stage(session, start + last * SECOND) == stage(session, start + last * SECOND)
        ends.add(last)
    assert len(ends) > 10


def test_the_pre_open_fills_at_its_one_price() -> None:
    client = Client(broker(now=at(9, 2)))
    better, at_it, worse = (client.place(price=price, quantity=10) for price in (1560.0, 1550.0, 1540.0))
    market = client.place(order_type="MARKET", price=None, market_protection=-1, quantity=10)
    client.wait()
    client.broker.tick(INFY, 1551.0, quantity=500)  # nothing trades before the match
    assert {client.order(one)["status"] for one in (better, at_it, worse, market)} == {"OPEN"}
    client.broker.advance(at(9, 11))
    assert "being processed" in client("DELETE", f"/orders/regular/{worse}").body.decode()
    late = client.place(price=1550.0)
    client.wait()
    assert client.order(late)["status"] == "REJECTED"
    client.broker.tick(INFY, 1550.0, quantity=4)
    rows = [client.order(one) for one in (better, at_it, worse, market)]
    assert [row["filled_quantity"] for row in rows] == [10, 4, 0, 10]
    assert {row["average_price"] for row in rows if row["filled_quantity"]} == {1550.0}
    client.broker.advance(at(9, 15))
    client.broker.tick(INFY, 1539.0)  # the rest is an order of the continuous session
    assert [client.order(one)["status"] for one in (at_it, worse)] == ["COMPLETE", "COMPLETE"]


def test_the_closing_auction_has_no_stops_and_fills_limits_that_were_left() -> None:
    client = Client(broker(now=at(15, 10)))
    client.broker.positions.hold(INFY, 5, 1400.0)
    client.broker.tick(INFY, 1550.0)
    stop = client.place(side="SELL", order_type="SL", trigger_price=1540.0, price=1538.0, quantity=5)
    left = client.place(price=1545.0, quantity=5)
    client.wait()
    client.broker.advance(at(15, 16))
    assert client.order(stop)["status"] == "CANCELLED"  # and nobody was asked
    assert client.order(left)["status"] == "OPEN"
    client.broker.tick(INFY, 1543.0)  # an indicative price fills nothing
    early = client.place(price=1545.0)
    client.wait()
    assert client.order(early)["status_message"].startswith("The exchange does not take orders")
    client.broker.advance(at(15, 21))
    market = client.place(order_type="MARKET", price=None, market_protection=-1, quantity=5)
    far = client.place(price=1610.0)
    client.wait()
    assert client.order(market)["status"] == "OPEN"
    assert client.order(far)["status_message"].startswith("The order price is outside")
    for kind in ({"order_type": "SL", "trigger_price": 1560.0}, {"validity": "IOC"}):
        assert client.refused(price=1565.0, **kind)[2].startswith("Only limit and market orders")
    client.broker.advance(at(15, 26))
    frozen = client.place(order_type="MARKET", price=None, market_protection=-1)
    limit = client.place(price=1548.0)
    client.wait()
    assert (client.order(frozen)["status"], client.order(limit)["status"]) == ("REJECTED", "OPEN")
    client.broker.advance(at(15, 31))
    client.broker.tick(INFY, 1544.0, quantity=1000)
    filled = [client.order(one) for one in (left, market, limit)]
    assert {row["average_price"] for row in filled} == {1544.0}
    assert {row["status"] for row in filled} == {"COMPLETE"}


def test_what_no_auction_filled_ends_with_it_while_futures_go_on() -> None:
    client = Client(broker(now=at(15, 10)))
    share = client.place(price=1500.0)
    future = client.place(symbol=FUTURE, product="NRML", price=26_000.0, quantity=65)
    client.wait()
    client.broker.advance(at(15, 35))
    assert (client.order(share)["status"], client.order(future)["status"]) == ("CANCELLED", "OPEN")
    client.broker.advance(at(15, 40))
    assert client.order(future)["status"] == "CANCELLED"


def test_an_iceberg_order_does_not_outlive_continuous_trading() -> None:
    client = Client(broker(now=at(15, 10)))
    leg = client.place("iceberg", price=1500.0, quantity=25, iceberg_legs=3, iceberg_quantity=10)
    client.wait()
    client.broker.advance(at(15, 15))
    assert client.order(leg)["status"] == "CANCELLED"


@pytest.mark.parametrize(("symbol", "wanted"), [(INFY, 1551.0), (VGUARD, 362.0)])
def test_the_post_close_session_trades_at_the_closing_price(symbol: str, wanted: float) -> None:
    """The auction's print, or the average of the last half hour where there is no auction."""
    client = Client(broker(now=at(15, 5)))
    for price, quantity in ((361.0, 100), (363.0, 100)):
        client.broker.tick(VGUARD, price, quantity=quantity)
        client.broker.advance(client.broker.now + MINUTE)
    client.broker.advance(at(15, 31))
    client.broker.tick(INFY, 1551.0)
    client.broker.advance(at(15, 40))
    assert client.refused(symbol=symbol, price=wanted)[2].startswith("Markets are closed")
    client.broker.advance(at(15, 52))
    assert client.refused(symbol=symbol, price=wanted, product="MIS")[2].startswith("Markets are closed")
    placed = client.place(symbol=symbol, order_type="MARKET", price=None, market_protection=-1, quantity=3)
    other = client.place(symbol=symbol, price=wanted + 1)
    client.wait()
    assert (client.order(placed)["status"], client.order(placed)["average_price"]) == ("COMPLETE", wanted)
    assert client.order(other)["status"] == "REJECTED"

"""What the pages are made of, without a browser: who may be served, what is sent, what rows say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alphapanda.access import Access
from alphapanda.errors import ConfigurationError
from alphapanda.overview import Lane, LaneFill, LaneOrder, Overview, Price, View
from alphapanda.panes import Candles, Curve, Table, books, health
from alphapanda.panes.parts import Column
from alphapanda.reach import check_reach, host_name, names
from alphapanda.settings import DashboardSettings
from alphapanda.workspace import Workspace

ANY = "0.0.0.0"  # noqa: S104 - what the settings may say
NAMES = (Column("name"), Column("count", "int"))


def served(settings: DashboardSettings, access: Access) -> frozenset[str]:
    """The names of the pages, once it is sure that they may be served."""
    check_reach("DASHBOARDS", settings, access)
    return names("DASHBOARDS", settings.host, settings.allowed_hosts)


@pytest.mark.parametrize(
    ("given", "people", "code"),
    [
        ({}, False, ""),
        ({"host": ANY}, True, "E_EXPOSED"),
        ({"host": ANY, "behind_tls": True}, False, "E_EXPOSED"),
        ({"host": ANY, "behind_tls": True}, True, ""),
        ({"allowed_hosts": ("*",)}, True, "E_CONFIGURATION"),
        ({"allowed_hosts": ("*.example",)}, True, "E_CONFIGURATION"),
    ],
)
def test_a_network_is_served_only_with_tls_and_tokens(
    given: dict[str, Any], people: bool, code: str, tmp_path: Path
) -> None:
    access = Access(Workspace(tmp_path))
    if people:
        access.add("asha", "view")
    if not code:
        assert "127.0.0.1" in served(DashboardSettings(**given), access)
        return
    with pytest.raises(ConfigurationError) as caught:
        served(DashboardSettings(**given), access)
    assert caught.value.fix
    assert code == "E_CONFIGURATION" or caught.value.code == code


def test_a_host_is_its_name_alone() -> None:
    assert host_name("LocalHost:5006") == "localhost"
    assert host_name("[::1]:5006") == "::1"
    assert host_name("127.0.0.1.evil.example") == "127.0.0.1.evil.example"
    assert host_name("[broken") == "[broken"
    assert host_name("asha@127.0.0.1:5006") == "asha@127.0.0.1"


def test_a_table_sends_what_differs() -> None:
    table = Table("T", NAMES)
    assert table.changes({"a": ["x", 1], "b": ["y", 2]}) == {"put": {"a": ["x", 1], "b": ["y", 2]}}
    assert table.changes({"a": ["x", 1], "b": ["y", 2]}) is None
    assert table.changes({"a": ["x", 3], "c": ["z", 0]}) == {
        "put": {"c": ["z", 0]}, "set": {"a": {"1": 3}}, "gone": ["b"],
    }  # fmt: skip
    table.forget()
    assert table.changes({"a": ["x", 3]}) == {"put": {"a": ["x", 3]}}
    table.forget()
    assert table.changes({}) == {}, "that there is nothing is told once"
    assert table.changes({}) is None


def test_a_curve_and_candles_send_their_ends() -> None:
    curve = Curve()
    assert curve.changes([(1, 5), (2, 6)]) == {"from": 0, "points": [(1, 5), (2, 6)]}
    assert curve.changes([(1, 5), (2, 7), (3, 8)]) == {"from": 1, "points": [(2, 7), (3, 8)]}
    candles = Candles()
    first = {"symbol": "A", "symbols": ["A", "B"], "bars": [(60, 1, 2, 1, 2), (120, 2, 3, 2, 3)], "marks": []}
    assert candles.changes(first) == {**first, "from": 0}
    grown = {**first, "bars": [*first["bars"][:1], (120, 2, 4, 2, 4), (180, 4, 4, 4, 4)]}
    assert candles.changes(grown) == {"from": 1, "bars": grown["bars"][1:]}
    other = {**first, "symbol": "B", "bars": [(60, 9, 9, 9, 9)]}
    assert candles.changes(other) == {"symbol": "B", "from": 0, "bars": other["bars"]}


def test_the_same_version_in_two_namespaces_is_a_pair() -> None:
    def view(run: str, namespace: str, digest: str = "d") -> View:
        return View(
            run=run, namespace=namespace, name="Turn", digest=digest, parameters={"gap": 4}, symbols=[]
        )

    runs = (
        view("turn-3", "zerodha"),
        view("turn-2", "paper"),
        view("turn-1", "paper"),
        view("x-1", "zerodha", "e"),
    )
    rows = books.pairs(Overview(runs=runs))
    assert list(rows) == ["turn-2|turn-3"], "the newest of each, paper first"


def test_an_order_lists_its_own_fills() -> None:
    order = LaneOrder("o1", "turn-1", "Turn", "NSE:INFY", "BUY", 10, 10, status="filled", correlation_id="c")
    fills = (
        LaneFill("o1", "turn-1", "Turn", "NSE:INFY", "BUY", 10, 1500.05, 1, charges=123),
        LaneFill(
            "o1", "turn-2", "Turn", "NSE:INFY", "BUY", 10, 9.0, 1
        ),  # another run's order of the same name
    )
    overview = Overview(lanes={"paper": Lane("paper", False, orders=(order,), fills=fills)})
    told = books.order(overview, "paper", "turn-1 o1")
    assert told is not None
    assert ["fills", "BUY 10 at 1,500.05, charges 1.23"] in told["facts"]
    assert books.order(overview, "paper", "turn-9 o1") is None


def test_rates_count_the_last_minutes_alone() -> None:
    minute = 60 * 10**9
    now = 1_000_000 * minute
    counts = ((now - 2 * minute, "E", "t", "paper", 3), (now - 30 * minute, "E", "t", "paper", 4))
    assert health.rates(Overview(at=now, error_counts=counts)) == {"E t paper": ["E", "t", "paper", 3, 7, 7]}


def test_data_is_as_old_as_when_it_was_seen() -> None:
    row = health.ages(Overview(prices={"NSE:INFY": Price(110.0, 100.0, at=5_000_000, ticks=7)}))["NSE:INFY"]
    assert row[:4] == ["NSE:INFY", 110.0, 10.0, 5]

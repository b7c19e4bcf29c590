"""Somebody else's broker in a real gateway: found by its entry point, and all that can become of an order."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

import alphapanda as ap
from alphapanda.traders.factory import GROUP
from alphapanda.traders.reports import Report
from tests.rig import REPO, Rig

pytestmark = pytest.mark.timeout(120)

INFY, TCS, SBIN = "NSE:INFY", "NSE:TCS", "NSE:SBIN"


class Correspondent(ap.Strategy):
    """Buys three shares; gives one up when the first arrives, and sells what it holds when all of it has."""

    symbols = (INFY, TCS, SBIN)

    def on_start(self) -> None:
        self.state.sent = {}

    def on_tick(self, tick: ap.Tick) -> None:
        if tick.symbol not in self.state.sent:
            self.state.sent[tick.symbol] = self.buy(tick.symbol, 10).id
        held = self.position(INFY).quantity
        if held and not self.state.sent.get("withdrawn"):
            self.state.sent["withdrawn"] = True
            for order in self.open_orders(TCS):
                self.cancel(order)
        if held == 10 and not self.state.sent.get("sold"):
            self.state.sent["sold"] = True
            self.order_target(INFY, 0)


class Venue:
    """The broker's side of the book."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self, question: str) -> list[Any]:
        with contextlib.closing(sqlite3.connect(self.path)) as book:
            return book.execute(question).fetchall() if self.path.stat().st_size else []

    def placed(self) -> dict[tuple[str, int], tuple[str, str]]:
        """(symbol, quantity) of each order: its id and run."""
        return {(symbol, n): (name, run) for name, run, symbol, n in self.rows("SELECT * FROM placed")}

    def tell(self, kind: Any, symbol: str, quantity: int, filled: int = 0, reason: str = "") -> None:
        """A letter about the order of so many shares."""
        name, run = self.placed()[symbol, quantity]
        report = Report(kind, name, run, reason, filled, 100_000 if filled else 0)
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as book:
            book.execute("INSERT INTO report (body) VALUES (?)", (msgspec.json.encode(report),))


def test_all_that_can_become_of_an_order_reaches_the_books_of_its_run(tmp_path: Path) -> None:
    info = tmp_path / "site" / "postal-1.0.dist-info"  # as pip would leave it
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: postal\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\npostal = tests.example_broker:PostalBroker\n")
    venue = Venue(tmp_path / "book.sqlite")
    settings = {
        "PYTHONPATH": f"{info.parent}:{REPO}", "POSTAL_BOOK": venue.path, "FEED__TICKS_PER_SECOND": 20,
        "RISK__DUPLICATE_WINDOW_MS": 1,
    }  # fmt: skip
    with Rig(tmp_path / "place", **settings) as rig:
        run = rig.run(Correspondent(), namespace="postal")

        def status(symbol: str) -> list[tuple[str, int]]:
            shown = rig.document(f"postal:run:{run}").get("orders", [])
            return [(one["status"], one["filled"]) for one in shown if one["symbol"] == symbol]

        rig.until(lambda: len(venue.placed()) == 3, 30.0, "three orders are posted")
        for symbol in (INFY, TCS):
            venue.tell("accepted", symbol, 10)
        venue.tell("rejected", SBIN, 10, reason="too dear for us")
        rig.until(lambda: status(SBIN) == [("rejected", 0)], 20.0, "the refusal is in the books")
        rig.until(lambda: status(INFY) == [("open", 0)], 20.0, "the other order is open")
        venue.tell("filled", INFY, 10, 4)
        rig.until(lambda: status(INFY) == [("part-filled", 4)], 20.0, "a part of it has traded")
        rig.until(
            lambda: venue.rows("SELECT * FROM unwanted"), 20.0, "the strategy knows, and gives up another"
        )
        venue.tell("cancelled", TCS, 10, reason="as you wished")
        rig.until(lambda: status(TCS) == [("cancelled", 0)], 20.0, "the cancel is in the books")
        rig.signal("gateway:postal")  # kill -9: nobody is at home when the rest trades
        venue.tell("filled", INFY, 10, 6)
        rig.until(lambda: (INFY, -10) in venue.placed(), 40.0, "the strategy holds all, and sells it")
        venue.tell("accepted", INFY, -10)
        venue.tell("filled", INFY, -10, -10)
        rig.until(lambda: status(INFY) == [("filled", 10)] * 2, 20.0, "both are in the books")
        shown = rig.document(f"postal:run:{run}")
        assert shown["counts"]["fills"] == 3
        assert not shown["positions"]
        assert len(venue.placed()) == 4  # nothing was posted twice
        assert rig.complaints() == []
        logged = [line for line in rig.logged("error") if line["event"] == "broker.unknown_order"]
        assert logged == []


def test_the_readme_says_how_long_it_is() -> None:
    lines = (REPO / "tests" / "example_broker.py").read_text().splitlines()
    assert f"[a whole one](tests/example_broker.py) in {len(lines)} lines" in (REPO / "README.md").read_text()

"""A broker that answers when it likes, whole: its order book is a file that others write into, too.

The part of it that is a broker's wire is four SQL statements. What an order is worth, when it may go out, whose it is
and what becomes of a report are the platform's.
"""

from __future__ import annotations

import os
import sqlite3
from typing import ClassVar

import msgspec

from alphapanda.orders import Order
from alphapanda.traders.base import Mode, Trader
from alphapanda.traders.reports import Report

BOOK = """
CREATE TABLE IF NOT EXISTS placed (id TEXT PRIMARY KEY, run TEXT, symbol TEXT, quantity INTEGER);
CREATE TABLE IF NOT EXISTS unwanted (id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS report (number INTEGER PRIMARY KEY, body BLOB);
"""


class PostalBroker(Trader):
    """Posts orders; answers come by letter, some while nobody is at home."""

    execution_mode: ClassVar[Mode] = "live"

    async def initialize(self) -> None:
        self.book = sqlite3.connect(os.environ["POSTAL_BOOK"], isolation_level=None)
        self.book.executescript(BOOK)

    async def execute_order(self, order: Order) -> None:
        row = (order.id, self.shelf(order).run, order.symbol, order.target)
        self.book.execute("INSERT OR IGNORE INTO placed VALUES (?, ?, ?, ?)", row)  # it may come again

    async def cancel_order(self, order: Order) -> None:
        self.book.execute("INSERT OR IGNORE INTO unwanted VALUES (?)", (order.id,))

    def reports(self, after: int) -> list[tuple[int, Report]]:
        rows = self.book.execute("SELECT * FROM report WHERE number > ? ORDER BY number", (after,))
        return [(number, msgspec.json.decode(body, type=Report)) for number, body in rows]

    async def shutdown(self) -> None:
        self.book.close()

"""A page of the dashboards in a cell of a real JupyterLab: it goes on while the kernel is busy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.pages import box, keys
from tests.test_card import LOOP, show
from tests.test_notebook_client import CELL, CONNECT, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.test_card import Desk

pytestmark = [pytest.mark.long, pytest.mark.browser, pytest.mark.timeout(300)]


def test_a_page_in_a_cell_goes_on_under_a_busy_one(desk: Desk, tmp_path: Path) -> None:
    enough = tmp_path / "enough"
    cells = [f"{CONNECT}\n{CELL}", show("Shown"), 'session.dashboard("portfolio")', LOOP.format(str(enough))]
    with desk.lab(cells) as it:
        it.run(0)
        it.run(1)
        it.run(2)
        page = it.cell(2).frame_locator("iframe")
        page.locator(".age.gain").wait_for(timeout=90_000)
        orders = box(page, "Orders").locator("tbody tr")
        orders.first.wait_for(timeout=90_000)
        it.start(3)
        assert it.busy(3)
        before = keys(orders)
        until(lambda: keys(orders) - before, 60)
        assert it.busy(3), "the kernel had no part in it"
        it.picture("dashboard-in-a-cell", tmp_path)
        enough.touch()
        it.finish(3)
        saved = it.saved()
        assert "portfolio dashboard" in saved
        assert "ticket" not in json.dumps(json.loads(saved)["cells"][2]["outputs"])
        assert it.outside == []

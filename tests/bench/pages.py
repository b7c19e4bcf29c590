"""`python -m tests.bench.pages`: the pages under load, from the stream to what a person sees, and their cost.

Fifty instruments, 200 ticks a second. Each tick's price is its row, so a figure in the page tells which tick it is,
and the stream's own id tells when that was published. Real hub, feed and server, real Chromium, all on this machine:
with more open pages the browser takes cores from what is measured.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

import alphapanda as ap
from alphapanda.buses.frames import unpack
from alphapanda.clock import monotonic, pause
from alphapanda.entry import door, entry
from alphapanda.instruments import Instrument
from tests.bench.live_rig import LiveRig, folder, memory, use
from tests.bench.live_strategies import SYMBOLS
from tests.test_notebooks import CHROMIUM, FLAGS, chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page
    from rich.console import Console

RATE, SECONDS, OPENED = 200, 600, 1_763_955_900  # ticks a second; of tape; 24 Nov 2025 09:15 IST
FIRST, STEP = 100_000, 5  # paise of row 0, and from one row to the next
LOOK = """() => {
  const seen = window.seen = [];
  const walk = (node, out) => { for (const one of node.querySelectorAll("*")) {
    if (one.matches("section.box")) out.push(one);
    if (one.shadowRoot) walk(one.shadowRoot, out); } return out; };
  const box = walk(document, []).find((one) => one.querySelector("h2")?.textContent === "Data by instrument");
  new MutationObserver((changes) => {
    const now = Date.now();
    for (const one of changes) if (one.type === "characterData" && one.target.parentElement?.cellIndex === 1) {
      seen.push([one.target.data, now]);
    }
  }).observe(box.querySelector("tbody"), { subtree: true, characterData: true });
}"""
MEANT = (
    "newest: from the stream to the DOM for the newest tick of each update, the way through; every price: for all "
    "that were shown, which also waited for the next look (DASHBOARDS__REFRESH_SECONDS, 0.25 s)"
)
WATCH = """() => new Promise((done) => { setTimeout(() => done(window.seen.splice(0)), %d); })"""


def tape(path: Path) -> Path:
    """Instruments in turn, a tick each five milliseconds."""
    rows = RATE * SECONDS
    at = np.arange(rows, dtype=np.int64)
    known = [Instrument(symbol=symbol, exchange="NSE") for symbol in SYMBOLS]
    return ap.Tape(
        known, ts=OPENED * 10**9 + at * (10**9 // RATE), instrument=at % len(known), price=FIRST + STEP * at,
        volume=np.ones(rows, dtype=np.int64),
    ).save(path)  # fmt: skip


class Bench:
    """One platform and one browser."""

    def __init__(self, rig: LiveRig, browser: Browser) -> None:
        self.rig = rig
        self.context = browser.new_context(viewport={"width": 1360, "height": 1400}, reduced_motion="reduce")
        self.url = ""

    def open(self, name: str = "errors") -> tuple[Page, float]:
        """A page, and seconds from its request to the first row in it."""
        page = self.context.new_page()
        if not self.url:
            way = entry(self.rig.workspace, name)
            self.url = way.address.rpartition("/")[0]
            page.goto(door(self.rig.workspace, way))
            page.wait_for_selector("tbody tr")
        began = monotonic()
        page.goto(f"{self.url}/{name}")
        page.locator("tbody tr").first.wait_for()
        return page, monotonic() - began

    @property
    def pid(self) -> int:
        return self.rig.pids["dashboards"]

    def cpu(self, seconds: float) -> float:
        """Percent of a core that the server uses."""
        before = use(self.pid).cpu
        began = monotonic()
        pause(seconds)
        return 100 * (use(self.pid).cpu - before) / (monotonic() - began)

    def published(self) -> dict[int, int]:
        """When (wall ms) each row went onto the stream."""
        found: dict[int, int] = {}
        with self.rig.server() as server:
            entries: Any = server.xrange("market.equity.ticks")
            for offset, fields in entries:
                part = unpack(fields[b"b"])
                at = int(offset.decode().partition("-")[0])
                for price in part.frame.block.price.tolist():
                    found[(price - FIRST) // STEP] = at
        return found

    def lags(self, page: Page, seconds: float) -> dict[str, Any]:
        """Milliseconds from the stream to the page: of the newest tick of each update, which is the way through; and of
        every price, which has also waited for the next look."""
        page.evaluate(LOOK)
        found: list[int] = []
        newest: dict[int, int] = {}
        for _ in range(max(1, round(seconds / 2))):  # the stream keeps only its newest parts
            shown = page.evaluate(WATCH % 2_000)
            published = self.published()
            for text, at in shown:
                row = (round(float(text.replace(",", "")) * 100) - FIRST) // STEP
                if row in published:
                    found.append(at - published[row])
                    newest[at] = min(newest.get(at, found[-1]), found[-1])
        return {"newest": _spread(list(newest.values())), "every price": _spread(found)}


class Told(dict[str, Any]):
    """Figures, each told as soon as it is known."""

    def __setitem__(self, name: str, value: Any) -> None:
        print(f"{name}: {value}", file=sys.stderr, flush=True)
        super().__setitem__(name, value)


def run(seconds: float) -> dict[str, Any]:
    """All figures."""
    from playwright.sync_api import sync_playwright

    told = Told()
    with folder() as root, socket.socket() as free, sync_playwright() as playwright:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        given = {
            "FEED__SOURCE": "tape", "FEED__TAPE": tape(root / "tape.parquet"), "DASHBOARDS__PORT": port,
        }  # fmt: skip
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS, headless=True)
        with LiveRig(root, **given) as rig:
            bench = Bench(rig, browser)
            first, load = bench.open()
            told["page load, s"] = [round(load, 2)]
            pause(2.0)
            told["stream to page, ms"] = bench.lags(first, seconds)
            first.close()
            pause(12.0)  # the server lets a closed page's session go
            told["server, MB, no page"] = round(memory(bench.pid).rss, 1)
            told["server, % of a core, no page"] = round(bench.cpu(4.0), 1)
            pages: list[Page] = []
            for count in (1, 5, 20):
                while len(pages) < count:
                    page, load = bench.open()
                    pages.append(page)
                    told["page load, s"].append(round(load, 2))
                pause(3.0)
                told[f"server, % of a core, {count} pages"] = round(bench.cpu(seconds / 2), 1)
                told[f"server, MB, {count} pages"] = round(memory(bench.pid).rss, 1)
            told["MB a page"] = round((told["server, MB, 20 pages"] - told["server, MB, 1 pages"]) / 19, 2)
            told["stream to page with 20 open, ms"] = bench.lags(pages[0], seconds)
        browser.close()
    loads: list[float] = told["page load, s"]
    told["page load, s"] = {
        "first": loads[0],
        "median": statistics.median(loads[:6]),
        "worst of 5": max(loads[1:6]),
    }
    return told


def pages(console: Console, seconds: float) -> None:
    """Measure, and print a table; nothing where there is no Chromium."""
    if not any(shutil.which(name) for name in CHROMIUM):
        console.print("no Chromium here: the pages were not measured")
        return
    told = run(seconds)
    table = Table(title="The pages: 50 instruments, 200 ticks a second, Chromium on this machine")
    for name in ("", "figure", "goal"):
        table.add_column(name, justify="right" if name else "left")
    for label, key, goal in (("1 page", "", "30 / 150"), ("20 pages", " with 20 open", "")):
        for which, spread in told[f"stream to page{key}, ms"].items():
            value = f"{spread['p50']:.0f} / {spread['p99']:.0f}" if spread["shown"] else "nothing was shown"
            wanted = goal if which == "newest" else ""
            table.add_row(f"{label}: stream to DOM, {which}, p50 / p99 ms", value, wanted)
    loads = told["page load, s"]
    table.add_row(
        "page load, median / worst of 5, s", f"{loads['median']:.2f} / {loads['worst of 5']:.2f}", "3"
    )
    table.add_row("server without a page, MB", f"{told['server, MB, no page']:.0f}", "")
    table.add_row("and for each page, MB", f"{told['MB a page']:.1f}", "")
    for count in ("no page", "1 pages", "5 pages", "20 pages"):
        table.add_row(f"server, % of a core, {count}", f"{told[f'server, % of a core, {count}']:.0f}", "")
    console.print(table)
    console.print(MEANT)


def _spread(values: list[int]) -> dict[str, Any]:
    if not values:
        return {"shown": 0}
    return {
        "shown": len(values), "p50": float(np.percentile(values, 50)), "p99": float(np.percentile(values, 99)),
        "worst": max(values),
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.pages")
    parser.add_argument("--seconds", type=float, default=16.0, help="of each measurement")
    print(json.dumps(run(parser.parse_args().seconds), indent=2))

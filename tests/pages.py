"""A platform with its pages and a browser, for tests that look at them as a trader does."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import alphapanda as ap
from alphapanda.access import Access
from alphapanda.entry import door, entry
from tests.rig import Rig
from tests.test_notebooks import FLAGS, chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DESKTOP, PHONE = (1360, 900), (390, 844)


class Turn(ap.Strategy):
    """Buys and sells in turn, and now and then more than it may."""

    symbols = ["NSE:INFY", "NSE:RELIANCE"]  # noqa: RUF012 - as a quant writes it
    gap: int = ap.Param(2)

    def on_start(self) -> None:
        self.next = 0
        self.count = 0

    def on_tick(self, tick: ap.Tick) -> None:
        if tick.ts < self.next:
            return
        self.next = tick.ts + self.gap * 10**9
        self.count += 1
        if self.count % 5 == 0:
            self.buy(tick.symbol, 100_000)
        elif self.position(tick.symbol).quantity <= 0:
            self.buy(tick.symbol, 10)
        else:
            self.sell(tick.symbol, 10)


class Platform:
    """A hub with a synthetic market, a paper run and the pages."""

    def __init__(self, rig: Rig, browser: Browser | None) -> None:
        self.rig, self.browser = rig, browser
        self.access = Access(rig.workspace)
        self.url = ""

    def start(self) -> None:
        """Have the hub serve the pages."""
        self.rig.hub.ask({"do": "offer", "roles": ["dashboards"]})
        self.url = self.rig.until(
            lambda: self.rig.document("health:dashboards").get("url"), 60.0, "the pages are served"
        )

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    @contextmanager
    def page(
        self, name: str = "portfolio", role: str = "operate", *, size: tuple[int, int] = DESKTOP,
        scheme: Any = "dark", quiet: bool = True,
    ) -> Iterator[Page]:  # fmt: skip
        """A page that somebody of this role opened with a ticket. Whatever its console complains of fails the test
        (unless not ``quiet``), and so does any request that leaves the machine."""
        assert self.browser is not None
        width, height = size
        context = self.browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        page, said, outside = context.new_page(), list[str](), list[str]()
        page.on("console", lambda line: said.append(line.text) if line.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda asked: outside.append(asked.url) if not _here(asked.url) else None)
        page.set_default_timeout(20_000)
        try:
            page.goto(door(self.rig.workspace, entry(self.rig.workspace, name, role)))
            page.wait_for_url(f"{self.url}/{name}")
            page.wait_for_selector(".age.gain")
            yield page
        finally:
            context.close()
        assert outside == []
        assert said == [] or not quiet, said

    def picture(self, page: Page, name: str) -> None:
        """Keep what the page looks like, if somebody wants pictures."""
        if place := os.environ.get("ALPHAPANDA_PICTURES"):
            page.screenshot(path=Path(place) / f"{name}.png")


def _here(url: str) -> bool:
    address = urlsplit(url)
    return address.scheme in ("data", "blob", "file") or address.hostname == "127.0.0.1"


@contextmanager
def platform(root: Path, *, browser: bool = True, **settings: Any) -> Iterator[Platform]:
    """One for the tests of a module."""
    from playwright.sync_api import sync_playwright

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]  # the same after a restart: a page comes back to it
    given = {
        "FEED__SOURCE": "synthetic", "FEED__TICKS_PER_SECOND": 200, "FEED__RECORD": 0, "DASHBOARDS__PORT": port,
        "MONITORING__STALE_TICK_SECONDS": 2.0,
    } | settings  # fmt: skip
    with Rig(root, **given) as rig:
        if not browser:
            yield Platform(rig, None)
            return
        with sync_playwright() as playwright:
            opened = playwright.chromium.launch(executable_path=chromium(), args=FLAGS, headless=True)
            try:
                yield Platform(rig, opened)
            finally:
                opened.close()

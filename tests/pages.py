"""A platform with its pages and a browser, for tests that look at them as a trader does."""

from __future__ import annotations

import asyncio
import io
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import msgspec

import alphapanda as ap
from alphapanda.access import Access
from alphapanda.buses.base import encode
from alphapanda.buses.redis import RedisBus
from alphapanda.clock import wall_ns
from alphapanda.entry import door, entry
from alphapanda.events import EventEnvelope
from alphapanda.letters.dead_letters import DeadLetter
from alphapanda.settings import Settings
from tests.rig import Rig
from tests.test_notebooks import FLAGS, chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DESKTOP, PHONE = (1360, 900), (390, 844)
NASTY = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>'


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

    @contextmanager
    def plain_page(self) -> Iterator[Page]:
        """An empty page of somebody who has not logged in."""
        assert self.browser is not None
        context = self.browser.new_context()
        page = context.new_page()
        page.set_default_timeout(30_000)
        try:
            yield page
        finally:
            context.close()

    def get(self, path: str, known: dict[str, str] | None = None) -> httpx.Response:
        """An answer of the server, to somebody with these cookies."""
        return httpx.get(self.url + path, cookies=known)

    @property
    def pictures(self) -> str:
        """The folder where somebody wants pictures; empty if nobody does."""
        return os.environ.get("ALPHAPANDA_PICTURES", "")

    def picture(self, page: Page, name: str, *, full: bool = False) -> None:
        """Keep what the page looks like, all of it if ``full``, where somebody wants pictures: in few colours, so that
        they are small."""
        if not self.pictures:
            return
        from PIL import Image

        body = page.screenshot(full_page=full)
        few = Image.open(io.BytesIO(body)).convert("RGB").quantize(200, dither=Image.Dither.NONE)
        few.save(Path(self.pictures) / f"{name}.png", optimize=True)


def box(page: Page, title: str) -> Any:
    """The part of this title."""
    return page.locator("section.box", has=page.locator("h2", has_text=re.compile(f"^{title}$")))


def column(page: Page, title: str, number: int) -> list[str]:
    """The texts of a table's column."""
    return box(page, title).locator(f"tbody td:nth-child({number})").all_inner_texts()


def halt(page: Page, reason: str, typed: str = "", *, lift: bool = False) -> None:
    """Pull the kill switch as a person does, or ``lift`` the halt."""
    page.locator(f".bar button.{'lift' if lift else 'kill'}").click()
    dialog = page.locator("dialog[open]")
    dialog.locator("#reason").fill(reason)
    if typed:
        dialog.locator("#typed").fill(typed)
    dialog.locator("button.yes").click()


def cookies(desk: Platform, role: str = "view") -> dict[str, str]:
    """The cookie of somebody who has logged in."""
    way = entry(desk.rig.workspace, "portfolio", role)
    answer = httpx.post(way.login, data={"ticket": way.ticket, "to": "portfolio"})
    assert answer.status_code == 200
    return dict(answer.cookies)


def put_letters(rig: Rig, *wanted: tuple[str, EventEnvelope | None], message: str = NASTY) -> list[str]:
    """Dead letters of these topics of paper, of an event or of bytes that are none; returns their ids."""
    letters = [
        DeadLetter(
            f"paper.{topic}@9-{at}", f"paper.{topic}", b"\xff" if event is None else encode(event), "ValueError",
            message, "not an event", first=wall_ns(), last=wall_ns(), namespace="paper",
        )
        for at, (topic, event) in enumerate(wanted)
    ]  # fmt: skip

    async def put() -> None:
        async with RedisBus.of(f"unix://{rig.workspace.server_socket}", Settings().redis) as bus:
            for one in letters:
                await bus.publish(f"{one.topic}.dlq", msgspec.msgpack.encode(one))

    thread = threading.Thread(
        target=lambda: asyncio.run(put())
    )  # playwright keeps a loop running in this one
    thread.start()
    thread.join()
    return [one.id for one in letters]


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

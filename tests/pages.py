"""A platform with its pages and a browser, for tests that look at them as a trader does."""

from __future__ import annotations

import asyncio
import io
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import msgspec
from playwright import sync_api
from playwright.sync_api import expect

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
    from playwright.sync_api import Browser, FrameLocator, Locator, Page

DESKTOP, PHONE = (1360, 900), (390, 844)
WAIT, ARMED = 30_000, 3_000  # ms: for whatever a page is to show; a button that acts asks for a little longer
expect.set_options(timeout=WAIT)
DRAWN = """() => {
  const inner = (one) => [one, ...(one.shadowRoot ? deep(one.shadowRoot) : [])];
  const deep = (root) => [...root.querySelectorAll("*")].flatMap(inner);
  const parts = deep(document).filter((one) => one.classList.contains("ap-part"));
  const waits = ({ shadowRoot: root }) => !root?.querySelector("section.box, .bar")
    || root.querySelector("p.none")?.textContent === "Loading."
    || (root.querySelector(".figs") && !root.querySelector(".figure"))
    || root.querySelector("select:not([hidden]):empty");
  return parts.length > 1 && !parts.some(waits);
}"""
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
        page.set_default_timeout(WAIT)
        try:
            page.goto(door(self.rig.workspace, entry(self.rig.workspace, name, role)))
            page.wait_for_url(f"{self.url}/{name}")
            drawn(page)
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
        page.set_default_timeout(WAIT)
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


def drawn(page: Page, timeout: float = WAIT) -> None:
    """Wait until a page stands: its data is live, and every part has been told by the server what to show, which is
    done one after another. What a part is told later (an order, an alert) needs a wait of its own."""
    page.wait_for_selector(".age.gain", timeout=timeout)
    page.wait_for_function(DRAWN, timeout=timeout)


def box(page: Page | FrameLocator, title: str) -> Locator:
    """The part of this title."""
    return page.locator("section.box").filter(has=page.locator("h2", has_text=re.compile(f"^{title}$")))


def column(page: Page, title: str, number: int) -> Locator:
    """The cells of a table's column."""
    return box(page, title).locator(f"tbody td:nth-child({number})")


def keys(rows: Locator) -> set[str]:
    """Which rows a table shows now."""
    return set(rows.evaluate_all("lines => lines.map(line => line.dataset.key)"))


def press(row: Locator, name: str) -> None:
    """Press a button that acts: it asks once more, for four seconds. Pressed too late it asks again."""
    for _ in range(5):
        row.locator("button", has_text=name).click()
        with suppress(sync_api.TimeoutError):
            row.locator("button.armed").click(timeout=ARMED)
            return
    raise AssertionError(f"{name} cannot be pressed twice")


def halt(page: Page, reason: str, typed: str = "", *, lift: bool = False) -> int:
    """Pull the kill switch as a person does, or ``lift`` the halt; returns when it was confirmed, wall ns."""
    page.locator(f".bar button.{'lift' if lift else 'kill'}").click()
    dialog = page.locator("dialog[open]")
    dialog.locator("#reason").fill(reason)
    if typed:
        dialog.locator("#typed").fill(typed)
    asked = wall_ns()
    dialog.locator("button.yes").click()
    return asked


def halted(desk: Platform, page: Page, namespace: str = "paper") -> None:
    """Wait until the kill switch has done what it promises and the page says so: the gateway has halted, or, where it
    did not say so in time (a loaded machine), it was ended and what came back is halted."""
    told = page.locator(".said p", has_text=re.compile("the gateway has halted|nothing can be sent now"))
    told.first.wait_for()
    gateway_is(desk, namespace, "halted")


def lifted(desk: Platform, page: Page, namespace: str = "paper") -> None:
    """Wait until the page says what lifting came to, and orders pass again."""
    page.locator(".said p", has_text=re.compile("takes orders again|did not confirm")).first.wait_for()
    gateway_is(desk, namespace, "serving")


def gateway_is(desk: Platform, namespace: str, state: str) -> None:
    """Wait until the gateway says so itself, in its next heartbeat."""
    desk.rig.until(
        lambda: desk.rig.document(f"health:gateway:{namespace}").get("state") == state, 60.0,
        f"the gateway of {namespace} is {state}",
    )  # fmt: skip


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

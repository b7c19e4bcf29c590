"""The pages in a real browser, over a real hub: what a trader sees, what a person may do, and who is kept out."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from alphapanda import halting
from alphapanda.clock import wall_ns
from alphapanda.entry import door, entry
from alphapanda.events import SECOND
from tests.pages import (
    NASTY,
    Platform,
    Turn,
    box,
    column,
    cookies,
    drawn,
    expect,
    halt,
    halted,
    keys,
    lifted,
    platform,
    press,
)

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A hub with a paper run, its pages, and a browser."""
    with platform(tmp_path_factory.mktemp("pages")) as made:
        made.rig.run(Turn())
        made.start()
        yield made


# ── what is shown


def test_the_portfolio_follows_its_run(desk: Platform) -> None:
    with desk.page() as page:
        page.wait_for_function("() => document.title.includes('Portfolio')")
        orders = box(page, "Orders").locator("tbody tr")
        orders.first.wait_for()
        before = keys(orders)
        desk.rig.until(lambda: keys(orders) - before, 30.0, "a new order is shown")
        expect(column(page, "Runs, in all namespaces", 1).first).to_contain_text("Turn")
        expect(page.locator(".figure.first b"), "money is shown").not_to_have_text(
            re.compile("^(0.00|\u2013)$")
        )
        page.wait_for_selector(".chart[data-bars]:not([data-bars='0'])")
        page.wait_for_selector(".chart[data-marks]:not([data-marks='0'])")
        desk.picture(page, "portfolio")


def test_a_table_sorts_filters_and_is_reached_by_keys(desk: Platform) -> None:
    with desk.page("errors") as page:
        ages = box(page, "Data by instrument")
        ages.locator("tbody tr").nth(8).wait_for()
        ages.locator("th button", has_text="symbol").click()  # it was sorted upward
        symbols = column(page, "Data by instrument", 1)

        def downward() -> bool:
            names = symbols.all_inner_texts()
            return len(names) > 8 and names == sorted(names, reverse=True)

        desk.rig.until(downward, 20.0, "it is sorted downward")
        ages.locator("input[type=search]").fill("nse: infy")
        expect(symbols).to_have_text(["NSE:INFY"])
        expect(ages.locator(".count")).to_have_text(re.compile("^1 of "))
        ages.locator("input[type=search]").fill("no such thing")
        expect(ages.locator(".none")).to_contain_text("No row")
        ages.locator("input[type=search]").fill("")
        expect(ages.locator(".none")).to_be_hidden()
        ages.locator("tbody tr").first.press("ArrowDown")
        expect(ages.locator("tbody tr").nth(1)).to_be_focused()


def test_one_order_tells_its_story(desk: Platform) -> None:
    with desk.page() as page:
        denied = box(page, "Orders").locator("tbody tr", has_text="denied").first
        denied.press("Enter")
        about = page.locator("section.box", has=page.locator("dl")).first
        expect(about).to_contain_text("correlation")
        expect(about).to_contain_text("alphapanda why turn-1")


def test_a_theme_is_chosen_and_kept(desk: Platform) -> None:
    with desk.page() as page:
        page.get_by_label("light or dark").click()
        expect(page.locator("html")).to_have_attribute("data-theme", "light")
        page.reload()
        drawn(page)
        expect(page.locator("html")).to_have_attribute("data-theme", "light")


def test_a_hidden_page_is_sent_nothing(desk: Platform) -> None:
    with desk.page() as page:
        hide = (
            "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )
        orders = box(page, "Orders").locator("tbody tr")
        orders.first.wait_for()
        page.evaluate(hide % "true")

        def made() -> int:
            return desk.rig.document("paper:run:turn-1")["counts"]["orders"]

        def still() -> bool:
            """Whether two orders are made and none of it is shown, which takes seconds."""
            shown, before = keys(orders), made()
            desk.rig.until(lambda: made() > before + 1, 40.0, "orders go on")
            return keys(orders) == shown

        desk.rig.until(still, 60.0, "what was under way has come, and nothing after it")
        before = keys(orders)
        page.evaluate(hide % "false")
        desk.rig.until(lambda: keys(orders) - before, 30.0, "it catches up")


# ── what is wrong


def test_old_data_is_greyed_with_its_age(desk: Platform) -> None:
    with desk.page() as page:
        with desk.rig.stopped("feed"):
            expect(page.locator(".age.loss")).to_have_text(re.compile(r"^data \d+ s old$"))
            expect(page.locator("html")).to_have_attribute("data-stale", "")
            desk.picture(page, "stale")
        page.wait_for_selector(".age.gain")


def test_the_page_comes_back_after_the_hub(desk: Platform) -> None:
    with desk.page(quiet=False) as page:  # a lost connection is told on the console
        hub = desk.rig.process
        assert hub is not None
        hub.kill()
        hub.wait()
        expect(page.locator("html")).to_have_attribute("data-lost", "")
        expect(page.locator(".news")).to_contain_text("lost its server")
        desk.rig.up()  # not before: the page would come back while nobody looks
        expect(page.locator("html")).not_to_have_attribute("data-lost", "", timeout=60_000)
        drawn(page, 60_000)
        rows = box(page, "Orders").locator("tbody tr")
        rows.first.wait_for()
        before = keys(rows)
        desk.rig.until(lambda: keys(rows) - before, 60.0, "the run goes on and is shown")


# ── the kill switch


def test_the_kill_switch_stops_a_run(desk: Platform) -> None:
    """In order: asked, halted at the gateway and said so; nothing is accepted after that."""
    rig = desk.rig
    with desk.page() as page:
        asked = halt(page, NASTY)
        halted(desk, page)
        said = wall_ns()
        promised = (
            asked + (halting.CONFIRM_SECONDS + 1) * SECOND
        )  # to end a gateway that does not say so in time
        assert rig.last_accepted("turn-1") < promised, "nothing passes two seconds after the click"
        page.locator(".news p", has_text="paper is halted (level 3)").wait_for()
        expect(page.locator(".news")).to_contain_text(NASTY)
        assert page.evaluate("window.hit") is None, "what a person wrote is text"
        desk.picture(page, "halted")
        expect(page.locator(".bar button.kill"), "it can be pulled further").to_be_visible()
        rig.until(
            lambda: sum(at > said for *_, at in rig.journal("turn-1")) > 1, 60.0, "the run goes on asking"
        )
        assert rig.last_accepted("turn-1") < said, "nothing passes once the page has said so"
        halt(page, "a test", lift=True)
        lifted(desk, page)

    def acts() -> list[Any]:
        told = [line for line in rig.logged("audit") if line["event"] == "page.act"]
        return [(line["act"], "at this machine on the page" in line["by"]) for line in told[-2:]]

    rig.until(lambda: acts() == [("halt", True), ("lift", True)], 20.0, "who did it is on record")


def test_who_only_looks_stops_nothing(desk: Platform) -> None:
    with desk.page(role="view") as page:
        halt(page, "no")
        refusal = page.locator(".said p.loss", has_text="takes the role operate")
        refusal.wait_for()
        page.locator(".said").get_by_label("close").click()
        expect(refusal).to_have_count(0)
        press(box(page, "Runs, in all namespaces").locator("tbody tr").first, "stop")
        refusal.wait_for()

    def refused() -> set[str]:
        return {line["act"] for line in desk.rig.logged("audit") if line["event"] == "page.refused"}

    desk.rig.until(lambda: refused() >= {"halt", "stop"}, 20.0, "both are on record")
    assert not desk.rig.workspace.halt_flag("paper").exists()
    assert desk.rig.spec("turn-1").wanted


def test_a_run_is_paused_and_goes_on(desk: Platform) -> None:
    with desk.page() as page:
        row = box(page, "Runs, in all namespaces").locator("tbody tr").first
        for act, state in (("pause", "paused"), ("resume", "running")):
            press(row, act)
            row.locator("td.state", has_text=state).wait_for()


# ── what went wrong


def test_an_error_shows_its_context_and_is_inert(desk: Platform) -> None:
    now = dt.datetime.fromtimestamp(wall_ns() // 10**9, dt.UTC)  # only a day's errors are counted
    line = {
        "ts": f"{now:%Y-%m-%dT%H:%M:%S}.000000Z", "level": "error", "channel": "error", "event": "order.failed",
        "role": "gateway:paper", "namespace": "paper", "run": "turn-1", "correlation_id": "c-77",
        "error": f"the venue said {NASTY}", "topic": "paper.orders.failed",
    }  # fmt: skip
    with (desk.rig.workspace.logs / "error.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    with desk.page("errors") as page:
        row = box(page, "Newest errors").locator("tbody tr", has_text="order.failed").first
        row.click()
        about = page.locator("section.box", has_text="correlation c-77").first
        expect(about).to_contain_text(NASTY)
        expect(about).to_contain_text("run turn-1")
        assert page.evaluate("window.hit") is None
        box(page, "Errors by kind").locator("tbody tr").first.wait_for()


def test_looking_leaves_no_error_behind(desk: Platform) -> None:
    with desk.page():
        pass
    told = [line for line in desk.rig.logged("error") if line.get("role") == "dashboards"]
    assert told == []


# ── who comes in


def test_a_token_opens_the_page_and_a_wrong_one_does_not(desk: Platform) -> None:
    token = desk.access.add("asha", "view")
    with desk.plain_page() as page:
        page.goto(f"{desk.url}/runs")
        expect(page).to_have_url(f"{desk.url}/login?to=runs")
        page.fill("#token", "ap_wrong")
        page.click("button")
        expect(page.locator("[role=alert]")).to_contain_text("opens nothing")
        page.fill("#token", token)
        page.click("button")
        page.wait_for_selector("nav a[aria-current]")
        expect(page).to_have_url(f"{desk.url}/runs")
        drawn(page)
        assert token not in page.content()
        cookie: Any = page.context.cookies()[0]
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert cookie["value"].strip('"') not in page.content(), "scripts must not see it"
        desk.access.revoke("asha")
        page.wait_for_url(re.compile("/login"))


def test_a_ticket_is_good_once(desk: Platform) -> None:
    done = desk.rig.cli("dashboard", "errors", "--no-browser")
    assert done.stdout == f"{desk.url}/errors\n"
    way = entry(desk.rig.workspace)
    file = Path(door(desk.rig.workspace, way).removeprefix("file://"))
    assert file.stat().st_mode & 0o077 == 0
    assert way.ticket not in repr(way)
    form = {"ticket": way.ticket, "to": "https://evil.example"}
    first = httpx.post(way.login, data=form, headers={"Origin": "null"})
    assert first.status_code == 200
    assert "url=/portfolio" in first.text
    assert httpx.post(way.login, data=form).status_code == 401


@pytest.mark.parametrize(
    ("host", "origin", "code"),
    [
        (None, None, 200),
        ("evil.example", None, 403),
        ("127.0.0.1.evil.example", None, 403),
        ("evil.example:{port}", None, 403),
        (None, "http://evil.example", 403),
        (None, "http://127.0.0.1.evil.example:{port}", 403),
        (None, "http://127.0.0.1:1", 403),
        (None, "null", 403),
        (None, "http://127.0.0.1:{port}", 200),
    ],
)
def test_foreign_names_and_sites_are_refused(
    host: str | None, origin: str | None, code: int, desk: Platform
) -> None:
    port = desk.host.rpartition(":")[2]
    headers = {"Host": host or desk.host} | ({"Origin": origin} if origin else {})
    headers = {name: value.format(port=port) for name, value in headers.items()}
    known = cookies(desk)
    served = httpx.get(f"{desk.url}/portfolio", cookies=known).text
    token = re.findall(r'"token":"([^"]+)"', served)[0]
    assert httpx.get(f"{desk.url}/portfolio", headers=headers, cookies=known).status_code == code
    socket = headers | {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "x3JJHMbDL1EzLkh9GBhXDw==", "Sec-WebSocket-Protocol": f"bokeh, {token}",
    }  # fmt: skip
    upgraded = 101 if code == 200 else 403
    with httpx.stream("GET", f"{desk.url}/portfolio/ws", headers=socket, cookies=known) as answer:
        assert answer.status_code == upgraded
    with httpx.stream("GET", f"{desk.url}/portfolio/ws", headers=socket) as answer:
        assert answer.status_code == 403, "nobody has logged in"
    forged = socket | {"Sec-WebSocket-Protocol": f"bokeh, {token[:-3]}abc"}
    with httpx.stream("GET", f"{desk.url}/portfolio/ws", headers=forged, cookies=known) as answer:
        assert answer.status_code == 403, "no page was opened for it"


def test_nothing_is_served_to_strangers(desk: Platform) -> None:
    paths = ["/portfolio/autoload.js", "/portfolio/metadata", "/vendor/lightweight-charts/lightweight-charts.js",
             "/components/alphapanda.panes.parts/Frame/_stylesheets/x.css", "/executed/1"]  # fmt: skip
    assert {httpx.get(desk.url + path).status_code for path in paths} <= {403, 404}
    answer = httpx.get(f"{desk.url}/login")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "Server" not in answer.headers
    assert httpx.get(f"{desk.url}/health").text == "ok"
    module = f"{desk.url}/components/antigravity/x/_css/y"
    assert httpx.get(module, cookies=cookies(desk, "live")).status_code == 403, (
        "no module is imported by name"
    )
    with contextlib.suppress(httpx.TransportError):  # it may hang up on us
        assert httpx.post(f"{desk.url}/login", content=b"token=" + b"x" * 100_000).status_code == 400
    assert httpx.get(f"{desk.url}/health").text == "ok"


def test_a_forged_cookie_opens_nothing(desk: Platform) -> None:
    name, value = next(iter(cookies(desk).items()))
    forged = {name: value.replace("|", "|0", 1)}
    assert httpx.get(f"{desk.url}/portfolio", cookies=forged).status_code == 302
    key = desk.rig.workspace.home / "dashboards.key"
    assert key.stat().st_mode & 0o077 == 0

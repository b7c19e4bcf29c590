"""A day with money behind it, looked at in a real browser: three strategies on paper, one of them also at the sandbox.

The market runs sixty times as fast as a real one, so that a minute of this is an hour on the pages. With
ALPHAPANDA_PICTURES=.github/pictures the pictures of the README are made here.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from alphapanda.alerts import Alerts
from alphapanda.alerts.book import Finding
from alphapanda.buses.base import decode
from alphapanda.clock import wall_ns
from alphapanda.events import EventEnvelope
from alphapanda.examples import OpeningBreakout, TrendRide, VwapReversion
from alphapanda.sandbox.serve import Sandbox
from tests.day_rig import executed, followed
from tests.pages import (
    DESKTOP,
    NASTY,
    PHONE,
    Platform,
    box,
    column,
    cookies,
    drawn,
    expect,
    halt,
    halted,
    lifted,
    platform,
    press,
    put_letters,
)
from tests.rig import REPO
from tests.sandbox_rig import FREE, broker

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.long, pytest.mark.browser, pytest.mark.timeout(180)]
PAPER, LIVE, HOUR = "paper", "zerodha", 3600 * 10**9
RED, PICTURE = "rgb(240, 85, 76)", 60  # minutes of market that a picture of a day shows at least


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    root = tmp_path_factory.mktemp("day")
    with Sandbox.thread(broker(limits=FREE, hours=False)) as sandbox:
        given: dict[str, Any] = {
            "FEED__SPEED": 60, "FEED__TICKS_PER_SECOND": 10, "FEED__SEED": 12, "RISK__DUPLICATE_WINDOW_MS": 1,
            "ZERODHA__API_KEY": sandbox.broker.account.api_key, "ZERODHA__ACCESS_TOKEN": sandbox.open_session(),
            "ZERODHA__ROOT_URL": sandbox.url, "ZERODHA__USER_ID": "SB0001", "ZERODHA__TIMEOUT_SECONDS": 1.0,
        }  # fmt: skip
        with platform(root, **given) as made, followed(made, sandbox):
            for strategy in (OpeningBreakout(minutes=5), VwapReversion(width=1.5), TrendRide()):
                made.rig.run(strategy)
            made.rig.run(OpeningBreakout(minutes=5), namespace=LIVE)
            executed(made, "arm()")
            made.start()
            yield made


def at_live(page: Page) -> None:
    """Look at the namespace with money behind it. The head is first; the other parts follow one by one."""
    page.get_by_role("radio", name=LIVE).click()
    expect(page.locator("html")).to_have_attribute("data-lane", "live")


def clock(page: Page) -> int:
    """Minutes of the market's day that the head shows."""
    told = re.search(r"(\d\d):(\d\d):", page.locator(".age").inner_text())
    return int(told[1]) * 60 + int(told[2]) - 9 * 60 - 15 if told else 0


# ── money


def test_where_money_is_nobody_can_miss_it(desk: Platform) -> None:
    with desk.page(role="view") as page:
        bar = page.locator(".bar").first
        expect(page).not_to_have_title(re.compile("^LIVE"))
        box(page, "Orders").locator("tbody tr", has_text="trendride").first.wait_for()
        at_live(page)
        expect(bar).to_have_css("border-top-color", RED)
        expect(page).to_have_title(re.compile("^LIVE"))
        placed = box(page, "Orders").locator("tbody tr")
        expect(placed.locator("text=trendride"), "each namespace shows its own").to_have_count(0)
        placed.locator("text=openingbreakout").first.wait_for()
        desk.picture(page, "live")
        page.reload()
        expect(page.locator("html")).to_have_attribute("data-lane", "live")
        page.get_by_role("radio", name=PAPER).click()
        expect(page.locator("html")).to_have_attribute("data-lane", "paper")
        expect(bar).not_to_have_css("border-top-color", RED)


def test_paper_stands_beside_real_with_what_differs(desk: Platform) -> None:
    with desk.page() as page:
        row = box(page, "Paper beside real").locator("tbody tr")
        expect(row, "one strategy runs in both").to_have_count(1)
        expect(column(page, "Paper beside real", 4)).to_have_text([PAPER])
        expect(column(page, "Paper beside real", 7)).to_have_text([LIVE])
        row.locator("button", has_text="drift").click()
        about = page.locator("section.box", has=page.locator("dl")).first
        both = re.compile(r"openingbreakout-\d beside openingbreakout-\d")
        expect(about).to_contain_text(both, timeout=60_000)
        errors = [line for line in desk.rig.logged("error") if line.get("role") == "dashboards"]
        assert errors == [], "what is only looked at happens to nobody anew"
        desk.picture(page, "drift")


def test_the_kill_switch_of_money_is_typed_by_who_may(desk: Platform) -> None:
    flag = desk.rig.workspace.halt_flag(LIVE)
    for role, typed, why in (("operate", LIVE, "takes the role live"), ("live", PAPER, "type zerodha")):
        with desk.page(role=role) as page:
            at_live(page)
            page.locator(".bar button.kill").click()
            dialog = page.locator("dialog[open]")
            dialog.locator("button.yes").click()
            expect(dialog, "nothing happens until it is typed").to_be_visible()
            dialog.locator("#typed").fill(typed)
            dialog.locator("button.yes").click()
            page.locator(".said p.loss", has_text=why).wait_for()
            assert not flag.exists()
            if role == "operate":
                continue
            halt(page, "enough", typed="SB0001")
            halted(desk, page, LIVE)
            assert not desk.rig.workspace.halt_flag(PAPER).exists()
            page.locator(".news p", has_text="zerodha is halted (level 3)").wait_for()
            desk.picture(page, "live-halted")
            halt(page, "a test", typed=LIVE, lift=True)
            lifted(desk, page, LIVE)

    def acts() -> set[tuple[str, str]]:
        told = [line for line in desk.rig.logged("audit") if line["event"] == "page.act"]
        return {(line["act"], line["namespace"]) for line in told}

    desk.rig.until(lambda: acts() >= {("halt", LIVE), ("lift", LIVE)}, 20.0, "both are on record")


def test_whether_the_broker_is_there_is_asked_on_demand(desk: Platform) -> None:
    with desk.page("errors") as page:
        expect(page.locator(".figs")).to_contain_text("gateway zerodha")
        at_live(page)
        about = page.locator("section.box", has_text="zerodha and its broker").first
        expect(about).to_contain_text("the gateway says serving", use_inner_text=True)
        about.locator("button", has_text="preflight").click()
        about.locator("dd", has_text="the sandbox at").wait_for(timeout=60_000)
        desk.picture(page, "preflight")


# ── the record


def test_on_whose_word_it_trades_is_shown(desk: Platform) -> None:
    with desk.page("runs") as page:
        acts, way = (
            column(page, "Promotions and certificates", 3),
            ["live", "arm", "certify", "paper", "draft"],
        )
        desk.rig.until(lambda: acts.all_inner_texts()[:5] == way, 30.0, "its whole way is shown")
        expect(column(page, "Promotions and certificates", 5).first).to_have_text(LIVE)
        for digest in (9, 10):  # of the version, and of its certificate
            expect(column(page, "Promotions and certificates", digest).first).to_have_text(
                re.compile(r"^\w{12}$")
            )
        row = box(page, "Runs").locator("tbody tr", has_text=LIVE).first
        row.locator("td").first.click()
        page.locator("section.box dd", has_text="minutes = 5").wait_for()


def test_schedules_lead_to_what_came_of_them(desk: Platform) -> None:
    hostile = {
        "output_type": "display_data",
        "data": {"text/html": NASTY, "text/plain": NASTY},
        "metadata": {},
    }
    number, kept = executed(desk, f"arm()  # {NASTY}", [hostile])
    with desk.page("runs") as page:
        box(page, "Scheduled notebooks").locator("tbody td", has_text=re.compile("^morning$")).wait_for()
        link = box(page, "What became of them").locator(f"a[href='/executed/{number}']")
        link.wait_for()
        with page.expect_popup() as opened:
            link.click()
        paper = opened.value
        paper.wait_for_load_state()
        expect(paper.locator("body"), "it is there to be read").to_contain_text(NASTY)
        expect(paper.locator("img, script")).to_have_count(0)
        assert paper.evaluate("window.hit") is None
        desk.picture(paper, "executed")
    policy = desk.get(f"/executed/{number}", cookies(desk)).headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "sandbox" in policy
    file = desk.get(f"/executed/{number}.ipynb", cookies(desk))
    assert file.headers["Content-Disposition"].startswith("attachment")
    assert file.content == kept.read_bytes()
    assert desk.get("/executed/999", cookies(desk)).status_code == 404
    kept.write_text("no notebook")
    assert desk.get(f"/executed/{number}", cookies(desk)).status_code == 422


# ── what needs a person


def test_an_alert_is_seen_by_a_person(desk: Platform) -> None:
    alerts = Alerts(desk.rig.workspace)
    found = Finding(
        rule="loss", subject=NASTY, level="error", title=f"lost {NASTY}", fix="look at it", event=True
    )
    alerts.look([found], wall_ns(), 900.0)
    with desk.page("errors", role="view") as page:
        row = box(page, "Alerts").locator("tbody tr")
        press(row, "seen")
        page.locator(".said p.loss", has_text="takes the role operate").wait_for()
        assert not alerts.open()[0].acknowledged
    with desk.page("errors") as page:
        row = box(page, "Alerts").locator("tbody tr")
        expect(row).to_contain_text(f"lost {NASTY}")
        press(row, "seen")
        expect(row.locator("button"), "it is shown as seen, or gone").to_have_count(0)
        assert page.evaluate("window.hit") is None
    assert all(one.acknowledged and "at this machine on the page" in one.by for one in alerts.open())


def answers(port: int) -> bool:
    """Whether anybody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def again(desk: Platform, told: EventEnvelope) -> list[EventEnvelope]:
    """What was put back of an event, among what the strategies' own orders come to meanwhile."""
    with desk.rig.server() as server:
        entries: Any = server.xrange(f"{told.namespace}.signals.rejected")
    events = [decode(fields[b"b"]) for _, fields in entries]
    return [one for one in events if one.causation_id == told.id]


def test_letters_are_put_back_or_put_away(desk: Platform) -> None:
    told = EventEnvelope(
        id="e9", type="signal.rejected", ts=wall_ns(), source="test", namespace=PAPER, correlation_id="c9",
        trace_id="t9", key="k", data={
            "order": "o9", "strategy": "tested", "symbol": "NSE:INFY", "side": "BUY", "quantity": 1, "kind": "LIMIT",
            "limit": 150_000, "price_scale": 100, "stop": None, "leg": None, "tag": None,
            "status": "DENIED", "reason": "a test",
        },
    )  # fmt: skip
    bad, good = put_letters(desk.rig, ("signals.raw", None), ("signals.rejected", told))
    with desk.page("errors") as page:
        letters = box(page, "Dead letters")
        about = page.locator("section.box", has_text=f"dead letter {bad}").first
        letters.locator("tbody tr", has_text="signals.raw").click()
        about.locator("button", has_text="what would a replay do?").click()
        about.locator("dd", has_text="not an event [E_REPLAY_DATA]").wait_for()
        about.locator("button", has_text="discard").click()  # without a reason nothing happens
        about.locator("input").fill("a test's own")
        about.locator("button", has_text="discard").click()
        page.locator(".said p", has_text="is discarded: a test's own").wait_for()
        about = page.locator("section.box", has_text=f"dead letter {good}").first
        letters.locator("tbody tr", has_text="signals.rejected").click()
        about.locator("button", has_text="what would a replay do?").click()
        about.locator("dd", has_text="put signal.rejected back on paper.signals.rejected").wait_for()
        assert not again(desk, told), "so far it was only asked"
        about.locator("button", has_text="put it back").click()
        about.locator("dd", has_text="is back on paper.signals.rejected").wait_for()
        assert again(desk, told)
        expect(letters.locator(".none")).to_have_text("No message was given up on.")
        assert page.evaluate("window.hit") is None


# ── how it looks


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_every_page_fits(size: tuple[int, int], scheme: str, desk: Platform) -> None:
    with desk.page(size=size, scheme=scheme) as page:
        for name in ("portfolio", "errors", "runs"):
            page.goto(f"{desk.url}/{name}")
            drawn(page)
            page.locator("tbody tr").first.wait_for()
            page.evaluate("scrollTo(0, 100000)")
            place = page.locator(".bar button.kill").bounding_box()
            assert place is not None
            assert 0 <= place["y"] <= 120, "the kill switch stays in sight"
            assert place["x"] + place["width"] <= size[0]
            assert page.evaluate("document.scrollingElement.scrollWidth") <= size[0], "nothing sticks out"
            back = page.evaluate("getComputedStyle(document.body).backgroundColor")
            shade = sum(int(part) for part in re.findall(r"\d+", back)[:3])
            assert (shade > 600) == (scheme == "light")
            page.evaluate("scrollTo(0, 0)")
            desk.picture(page, f"{name}-{'phone' if size == PHONE else 'desktop'}-{scheme}", full=True)


def test_pictures_of_a_day(desk: Platform) -> None:
    """Of the README: ALPHAPANDA_PICTURES=.github/pictures, and this test alone, for the others leave their traces."""
    if not desk.pictures:
        pytest.skip("nobody wants pictures: ALPHAPANDA_PICTURES")
    with desk.page(role="live") as page:
        desk.rig.hub.ask({"do": "offer", "roles": ["watch"]})
        put_letters(desk.rig, ("signals.raw", None), message="the bytes are no event: ended after 1 of 88")
        desk.rig.kill("feed")
        desk.rig.until(lambda: clock(page) >= PICTURE, 120.0, "an hour of market")
        for name, kept in (("portfolio", "portfolio"), ("errors", "health"), ("runs", "runs")):
            page.goto(f"{desk.url}/{name}")
            drawn(page)
            page.locator("tbody tr").first.wait_for()
            page.wait_for_timeout(1_500)
            desk.picture(page, kept)
    with desk.page(role="live", size=PHONE) as page:
        page.wait_for_selector(".chart[data-marks]:not([data-marks='0'])")
        page.wait_for_timeout(1_000)
        desk.picture(page, "phone")


def test_panels_own_server_shows_the_same_to_look_at(desk: Platform) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serving = subprocess.Popen(
        [sys.executable, "-P", "-m", "panel", "serve", str(REPO / "dashboards" / "portfolio.py"), "--port", str(port)],
        env=desk.rig.env | {"ALPHAPANDA_HOME": str(desk.rig.root), "BOKEH_RESOURCES": "server"},
        cwd=desk.rig.root, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with desk.plain_page() as page:
            desk.rig.until(lambda: answers(port), 60.0, "it serves")
            page.goto(f"http://127.0.0.1:{port}/portfolio")
            box(page, "Orders").locator("tbody tr").first.wait_for()
            expect(page.locator(".out")).to_contain_text("nobody (view)")
            halt(page, "no")
            page.locator(".said p.loss", has_text="takes the role operate").wait_for()
        assert not desk.rig.workspace.halt_flag(PAPER).exists()
    finally:
        serving.terminate()
        serving.wait(60)

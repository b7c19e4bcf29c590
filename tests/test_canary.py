"""Made-up secrets in every setting that holds one, then everything searched that the platform says or leaves behind.

One whole platform as a person starts it, with pages, API and watch. A strategy and a scheduled notebook do the worst
they can by accident: they read the settings' file and the variables of their process, and fail with what they found.
(What a 500 says is in ``test_api_security``: nothing here breaks on demand.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import Page, sync_playwright

import alphapanda as ap
from alphapanda.access import ROLES, Access
from alphapanda.entry import PAGES, Entry, door, entry
from alphapanda.environment import without_secrets
from tests.pages import FLAGS, chromium, drawn
from tests.rig import Rig
from tests.schedule_rig import notebook

pytestmark = [pytest.mark.long, pytest.mark.timeout(170)]

CANARIES = {
    "ZERODHA__API_KEY": "kq7zm2px9lr4tv8w",  # pragma: allowlist secret
    "ZERODHA__API_SECRET": "sW5tq8Zr2Lx7Nv4Kc9Bm1Hd6Fg3Jp0Ya",  # pragma: allowlist secret
    "ZERODHA__ACCESS_TOKEN": "aT9rLw3Xe6Qz1Vn8Kb5Mc2Hf7Gd4Js0U",  # pragma: allowlist secret
    "ALERTS__WEBHOOK_URL": "http://127.0.0.1:9/hW4kYd8Tn2Qs6Lp0",
}
WORDS = {**CANARIES, "the webhook's key": "hW4kYd8Tn2Qs6Lp0"}
ABSENT = "not among the variables"
FAILS = f"""
import os
text = os.environ.get("ZERODHA__API_SECRET", "{ABSENT}") + os.environ.get("ALERTS__WEBHOOK_URL", "")
text += open(".env").read()
print(text)
display({{"text/html": f"<b>{{text}}</b>"}}, raw=True)
raise ValueError(text)
"""


class Leaky(ap.Strategy):
    """Fails at its first tick, with all it could find."""

    symbols = ("NSE:INFY",)

    def on_tick(self, tick: ap.Tick) -> None:
        import os

        with open(".env") as file:  # noqa: PTH123 - as a quant would
            raise ValueError(os.environ.get("ZERODHA__API_SECRET", "not among the variables") + file.read())


class Place:
    """The platform, who may do what there, and everything it said to whoever asked."""

    def __init__(self, rig: Rig) -> None:
        self.rig, self.said = rig, dict[str, bytes]()
        access = Access(rig.workspace)
        self.tokens = {role: access.add(role, role) for role in ROLES}
        self.tickets: list[str] = []

    def url(self, role: str) -> str:
        return str(
            self.rig.until(lambda: self.rig.document(f"health:{role}").get("url"), 60.0, f"{role} serves")
        )

    def api(self, method: str, path: str, role: str = "operate", **more: Any) -> httpx.Response:
        """A call whose answer, head and body, is kept to be searched."""
        head = {"Authorization": f"Bearer {self.tokens.get(role, role)}"}
        answer = httpx.request(method, f"{self.url('api')}{path}", headers=head, timeout=30, **more)
        self.keep(f"{method} {path} {role}", repr(answer.headers.raw).encode() + answer.content)
        return answer

    def keep(self, what: str, said: bytes) -> None:
        self.said[what] = self.said.get(what, b"") + said

    def files(self) -> Iterator[tuple[str, bytes]]:
        """All that lies in the workspace but the settings' file itself, and beside it where the server listens."""
        for root in (self.rig.root, self.rig.workspace.runtime):
            for path in root.rglob("*"):
                if path.is_file() and path != self.rig.root / ".env":
                    yield str(path.relative_to(root)), path.read_bytes()

    def holding(self, word: str) -> list[str]:
        """Where a word stands, as it is or as addresses and texts in texts write it."""
        forms = {form.encode() for form in (word, quote(word, safe=""), word.replace("/", "\\/"))}
        everything = [*self.said.items(), *self.files()]
        return [where for where, body in everything if any(form in body for form in forms)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("canary") / "place"
    (root / "notebooks").mkdir(parents=True)
    notebook(root / "notebooks" / "bad.ipynb", FAILS)
    settings: dict[str, Any] = CANARIES | {
        "ZERODHA__ROOT_URL": "http://127.0.0.1:9",
        "API__PORT": "0",
        "DASHBOARDS__PORT": "0",
    }
    env = root / ".env"
    env.touch(0o600)
    env.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    rig = Rig(root, FEED__TICKS_PER_SECOND=50, API__RATE_LIMIT_CALLS=10_000, **settings)
    try:
        up = rig.cli("up", "--detach")
        assert up.returncode == 0, up.stdout + up.stderr
        made = Place(rig)
        made.keep("alphapanda up", (up.stdout + up.stderr).encode())
        filled(made)
        yield made
    finally:
        rig.__exit__(None)


def filled(place: Place) -> None:
    """Let everything fail that can, and look at everything that can be looked at."""
    rig = place.rig
    for command in (
        ["schedule", "add", "bad.ipynb", "--at", "03:00", "--any-day"],
        ["status"],
        ["logs", "error"],
    ):
        done = rig.cli(*command)
        place.keep(f"alphapanda {command[0]}", (done.stdout + done.stderr).encode())
    run = rig.run(Leaky())
    with rig.server() as server:
        server.xadd("paper.signals.raw", {"b": b"no event"})
    queued = place.api("POST", "/v1/schedules/bad/run", json={"reason": "a test"})
    assert queued.status_code == 200, queued.text
    for number, (name, canary) in enumerate(CANARIES.items()):
        body = {"reason": canary, "level": name, canary: 1}
        calls: list[tuple[str, str, dict[str, Any]]] = [
            ("GET", f"/v1/runs/{quote(canary, safe='')}", {}),
            ("POST", f"/v1/runs/{quote(canary, safe='')}/stop", {"json": {"reason": canary}}),
            ("POST", "/v1/namespaces/paper/halt", {"json": body}),
            ("POST", "/v1/alerts/acknowledge", {"json": {"id": canary, "note": canary}}),
        ]
        for method, path, more in calls:
            assert place.api(method, path, **more).status_code in (404, 422), path
            assert place.api(method, path, f"ap_{number}", **more).status_code == 401
    ended = lambda: place.api("GET", "/v1/schedules/history").json()["items"][0]  # noqa: E731
    rig.until(lambda: ended()["state"] == "failed", 90.0, "the notebook has failed")
    rig.until(lambda: place.api("GET", "/v1/letters").json()["items"], 20.0, "the letter is there")
    rig.until(lambda: any(one["rule"] == "schedule_failed" for one in
              place.api("GET", "/v1/alerts").json()["items"]), 30.0, "the watch has noticed")  # fmt: skip
    asked(place, run)
    looked_at(place)


def asked(place: Place, run: str) -> None:
    """Every read of the API."""
    letter = place.api("GET", "/v1/letters").json()["items"][0]["id"]
    words = {"namespace": "paper", "run": run, "letter": letter}
    for path, methods in place.api("GET", "/v1/openapi.json").json()["paths"].items():
        if "get" in methods:
            assert place.api("GET", path.format(**words), "view").status_code == 200, path
            place.api("GET", path.format(**words), "nobody")


def looked_at(place: Place) -> None:
    """Every page, as it is served, as its socket tells it, and as a browser shows it."""
    url = place.url("dashboards")

    def way_to(page: str) -> Entry:
        way = entry(place.rig.workspace, page)
        place.tickets.append(way.ticket)
        return way

    with httpx.Client(timeout=30) as client:
        way = way_to("portfolio")
        for answer in (
            client.post(way.login, data={"ticket": way.ticket}),
            client.post(way.login, data={"ticket": way.ticket}),
            *(client.get(f"{url}/{path}") for path in (*PAGES, "executed/1", "nowhere", "login")),
        ):
            place.keep(f"page {answer.url.path}", repr(answer.headers.raw).encode() + answer.content)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS, headless=True)
        for page in PAGES:
            _seen(place, browser.new_page(), way_to(page))
        browser.close()


def _seen(place: Place, page: Page, way: Entry) -> None:
    """What a browser is told of one page while it is open, and what it shows."""

    def told(part: str | bytes) -> None:
        place.keep(f"socket {way.page}", part.encode() if isinstance(part, str) else part)

    page.on("websocket", lambda socket: socket.on("framereceived", told))
    page.goto(door(place.rig.workspace, way))
    drawn(page)
    page.wait_for_selector(f"text={'Leaky' if way.page != 'errors' else ABSENT}")
    place.keep(f"shown {way.page}", page.content().encode())


@pytest.mark.parametrize("name", WORDS)
def test_no_secret_stands_anywhere(place: Place, name: str) -> None:
    assert place.holding(WORDS[name]) == []


def test_no_token_and_no_ticket_stands_anywhere(place: Place) -> None:
    for token in place.tokens.values():
        assert place.holding(token) == []
    door_file = (
        ".alphapanda/open-page.html"  # the form that posts it: nobody else's, and it opens nothing twice
    )
    assert (place.rig.root / door_file).stat().st_mode & 0o077 == 0
    access = Access(place.rig.workspace)
    for ticket in place.tickets:
        assert set(place.holding(ticket)) <= {door_file}
        assert access.use_ticket(ticket) is None


def test_strategies_and_notebooks_are_not_handed_the_brokers_secrets(place: Place) -> None:
    said = place.api("GET", "/v1/schedules/history").json()["items"][0]
    assert said["message"].startswith(ABSENT)
    assert any(
        ABSENT in str(line) for line in place.rig.logged("error") if line["event"] == "strategy.raised"
    )


def test_what_a_session_needs_is_left() -> None:
    given = {"REDIS__PASSWORD": "a", "ZERODHA__ROOT_URL": "b", "DATABASE__POSTGRES_URL": "c", "PATH": "d"}
    secret = {"zerodha__Api_Key": "x", "ZERODHA": "{}", "ALPACA__PAPER": "1", "ALPACA__API_KEY": "x"}
    assert without_secrets(given | secret | CANARIES) == given


def test_the_search_finds_what_is_there(place: Place) -> None:
    """Else no hit would mean nothing."""
    found = place.holding("Leaky")
    for where in ("GET /v1/runs view", "socket portfolio", ".alphapanda/logs/error.jsonl"):
        assert where in found, found
    assert any("appendonly" in where for where in found), "what the server keeps"
    assert any(where.endswith((".sqlite", "-wal")) for where in found), "the journal"
    failed = place.holding(ABSENT)
    assert any(where.endswith(".ipynb") and "schedules" in where for where in failed), failed
    assert {"page /executed/1", "socket errors", "GET /v1/alerts operate"} <= set(failed), failed
    assert place.holding("alphapanda_up") == ["GET /metrics view"]
    planted = place.rig.root / ".alphapanda" / "planted"
    planted.write_text(f"?key={quote(WORDS['ALERTS__WEBHOOK_URL'], safe='')}")
    try:
        assert place.holding(WORDS["ALERTS__WEBHOOK_URL"]) == [".alphapanda/planted"]
    finally:
        planted.unlink()

"""Who gets in and who does not, and what is said to whom: roles, other sites' pages, logs, and anything at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, given, settings
from starlette.responses import Response

from alphapanda.access import ROLES, Access
from alphapanda.api.app import make_app
from alphapanda.api.guard import checked_origins
from alphapanda.api.guarded import GuardedRoute
from alphapanda.api.platform import Platform
from alphapanda.buses.redis import RedisBus
from alphapanda.errors import ConfigurationError
from alphapanda.overview import (
    Overview,
)
from alphapanda.settings import Settings
from alphapanda.workspace import Workspace
from tests.api_rig import ACCOUNT, CANARY, LIVE_RUN, RUN, Desk, lines, opened


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with opened(tmp_path_factory.mktemp("desk")) as made:
        yield made


# ── T05: every route and every role


def routes(root: Path) -> list[APIRoute]:
    class Nobody:
        newest = Overview()

    workspace = Workspace(root)
    bus = RedisBus.connect(workspace.server_socket)
    app = make_app(Platform(workspace, Settings.load(None), Nobody(), Access(workspace), bus))
    return [route for route in app.routes if isinstance(route, APIRoute)]


@pytest.mark.parametrize("role", ["none", "bad", *ROLES])
def test_every_route_lets_in_whom_it_declares(desk: Desk, tmp_path: Path, role: str) -> None:
    given = {"none": "", "bad": "ap_" + "x" * 43}.get(role, role)
    for route in routes(tmp_path):
        assert isinstance(route, GuardedRoute), f"{route.path} goes past the guard"
        (method,) = route.methods or {""}
        path = route.path.format(
            namespace="paper", run=RUN, letter="paper.signals.raw@1-0", schedule="opening"
        )
        body = {"json": {"level": 0}} if method == "POST" else {}  # refused as wrong once it is let in
        status = desk.call(method, path, given, **body).status_code
        if route.role == "nobody":
            assert status in (200, 503), path
        elif role in ("none", "bad"):
            assert status == 401, path
        elif ROLES.index(role) < ROLES.index(route.role):
            assert status == 403, path
        else:
            assert status in (200, 404, 422, 503) if method == "GET" else status == 422, path


def test_a_route_without_a_role_stops_the_process_that_has_it() -> None:
    app = FastAPI()
    app.router.route_class = GuardedRoute

    async def open_door() -> Response:
        return Response()

    with pytest.raises(ConfigurationError, match="no role"):
        app.add_api_route("/door", open_door)


ON_MONEY = [
    ("/v1/namespaces/zerodha/halt", {}),
    ("/v1/namespaces/zerodha/lift", {}),
    *((f"/v1/runs/{LIVE_RUN}/{verb}", {}) for verb in ("start", "stop", "pause", "resume")),
    ("/v1/letters/zerodha.orders.filled@1-0/discard", {}),
    ("/v1/letters/replay", {"topic": "zerodha.orders.filled"}),
    ("/v1/letters/replay", {"ids": ["paper.orders.filled@1-0", "zerodha.orders.filled@1-0"]}),
]


@pytest.mark.parametrize(("path", "more"), ON_MONEY)
def test_money_takes_the_role_live_and_the_account_typed(desk: Desk, path: str, more: dict[str, Any]) -> None:
    body = more or {"reason": "a test"}
    flag = desk.workspace.halt_flag("zerodha")
    answer = desk.post(path, json=body | {"account": ACCOUNT})
    assert (answer.status_code, answer.json()["code"]) == (403, "E_ROLE")
    for typed in ({}, {"account": "AB1235"}, {"account": "zerodha"}):
        answer = desk.post(path, "live", json=body | typed)
        assert (answer.status_code, answer.json()["code"]) == (403, "E_ACCOUNT"), typed
        assert ACCOUNT not in answer.text
    assert not flag.exists()
    answer = desk.post(path, "live", json=body | {"account": ACCOUNT})
    assert answer.status_code in (200, 503), answer.text
    flag.unlink(missing_ok=True)
    assert ACCOUNT not in json.dumps(lines(desk, "audit"))


def test_a_login_at_the_broker_is_nobodys_token(desk: Desk) -> None:
    for typed in ("", "Basic YTpi", "Bearer", "Bearer ", f"Token {desk.tokens['live']}", desk.tokens["live"]):
        answer = desk.call("GET", "/v1/portfolios", headers={"Authorization": typed} if typed else {})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert desk.call("GET", f"/v1/portfolios?token={desk.tokens['live']}").status_code == 401
    assert (
        desk.call("GET", "/v1/portfolios", headers={"Cookie": f"token={desk.tokens['live']}"}).status_code
        == 401
    )
    twice = [("Authorization", "Bearer x"), ("Authorization", f"Bearer {desk.tokens['live']}")]

    async def send() -> int:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(desk.app), base_url="http://localhost"
        ) as client:
            return (await client.get("/v1/portfolios", headers=twice)).status_code

    assert asyncio.run(send()) == 401


def test_a_revoked_token_is_out_at_once(desk: Desk) -> None:
    token = desk.access.add("passing", "view")
    assert desk.call("GET", "/v1/halts", token).status_code == 200
    desk.access.revoke("passing")
    assert desk.call("GET", "/v1/halts", token).status_code == 401


# ── T07, T08: other sites' pages


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "",
        "localhost:80:80",
        "[::1",
        "a b",
    ],
)
def test_a_name_that_is_not_ours_is_refused(desk: Desk, host: str) -> None:
    answer = desk.call("GET", "/health", headers={"Host": host})
    assert (answer.status_code, answer.json()["code"]) == (403, "E_HOST")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST:8000", "[::1]:8000"])
def test_this_machines_names_are_ours(desk: Desk, host: str) -> None:
    assert desk.call("GET", "/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example", "https://desk.example.evil.example", "https://xdesk.example", "http://desk.example",
        "null", "https://desk.example:444", "https://desk.example/", "HTTPS://DESK.EXAMPLE", "", "http://localhost:8001",
    ],
)  # fmt: skip
def test_a_page_of_another_site_is_refused(desk: Desk, origin: str) -> None:
    for method, path, more in (
        ("GET", "/v1/halts", {}),
        ("POST", "/v1/namespaces/paper/halt", {"json": {"reason": "x"}}),
    ):
        answer = desk.call(method, path, "live", headers={"Origin": origin}, **more)
        assert (answer.status_code, answer.json()["code"]) == (403, "E_ORIGIN")
        assert "access-control-allow-origin" not in answer.headers
    assert not desk.workspace.halt_flag("paper").exists()


def test_a_form_with_a_cookie_does_nothing(desk: Desk) -> None:
    sent = {"data": {"reason": "x"}, "headers": {"Cookie": f"session={desk.tokens['live']}"}}
    assert desk.post("/v1/namespaces/paper/halt", "", **sent).status_code == 401
    sent["headers"]["Origin"] = "https://evil.example"
    assert desk.post("/v1/namespaces/paper/halt", "", **sent).status_code == 403
    assert not desk.workspace.halt_flag("paper").exists()


def test_a_listed_page_may_ask_and_read(desk: Desk) -> None:
    asked = {
        "Origin": "https://desk.example", "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }  # fmt: skip
    answer = desk.call("OPTIONS", "/v1/namespaces/paper/halt", headers=asked)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "https://desk.example"
    assert "authorization" in answer.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in answer.headers
    answer = desk.call("GET", "/v1/halts", "view", headers={"Origin": "https://desk.example"})
    assert (answer.status_code, answer.headers["vary"]) == (200, "origin")
    assert (
        desk.call("OPTIONS", "/v1/halts", headers=asked | {"Origin": "https://evil.example"}).status_code
        == 403
    )


@pytest.mark.parametrize(
    "origin", ["*", "https://*.example", "desk.example", "https://desk.example/x", "null"]
)
def test_a_loose_origin_is_refused_at_the_start(origin: str) -> None:
    with pytest.raises(ConfigurationError, match="API__CORS_ORIGINS"):
        checked_origins([origin])


# ── T19, T22, T02: what is said


def test_a_log_line_stays_one_line_and_inert(desk: Desk) -> None:
    said = f'x\n{{"level":"critical"}}\x1b[31m<script>alert(1)</script> access_token={CANARY}'
    answer = desk.post("/v1/namespaces/paper/halt", json={"reason": said})
    assert answer.status_code == 200
    desk.workspace.halt_flag("paper").unlink()
    text = (desk.workspace.logs / "audit.jsonl").read_text()
    found = [json.loads(line) for line in text.splitlines()]
    assert found[-1]["event"] == "api.halt_namespace"
    assert "\x1b" not in text
    assert CANARY not in text
    assert "critical" not in {line["level"] for line in found}


def test_nobody_unknown_learns_anything(desk: Desk) -> None:
    paths = ["/", "/health", "/ready", "/metrics", "/docs", "/redoc", "/openapi.json", "/v1/openapi.json", "/v1/orders",
             "/v1/nothing", "/favicon.ico", "/v1/portfolios/paper", "/v1/../v1/orders", "//v1/orders"]  # fmt: skip
    for path in paths:
        for method in ("GET", "HEAD", "OPTIONS", "POST", "DELETE", "TRACE"):
            answer = desk.call(method, path)
            assert answer.status_code in (200, 401, 405), (method, path, answer.status_code)
            assert "server" not in answer.headers
            for secret in (
                "paper",
                "zerodha",
                "INFY",
                "fastapi",
                "uvicorn",
                "alphapanda/",
                str(desk.workspace.root),
            ):
                assert secret not in answer.text, (path, secret)
    assert desk.call("GET", "/nothing", "view").status_code == 404
    assert desk.call("DELETE", "/v1/orders", "view").status_code == 405


def test_every_answer_is_guarded(desk: Desk) -> None:
    for answer in (
        desk.call("GET", "/health"),
        desk.call("GET", "/v1/orders"),
        desk.call("GET", "/v1/orders", "view"),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-request-id"]


def test_a_fault_of_ours_is_a_bare_500_and_a_line_in_the_log(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise RuntimeError(CANARY)

    monkeypatch.setattr(Platform, "page", broken)
    answer = desk.call("GET", "/v1/halts", "view", headers={"X-Correlation-ID": "desk-5"})
    assert (answer.status_code, answer.json()["code"]) == (500, "E_UNEXPECTED")
    assert CANARY not in answer.text
    assert any(
        line["event"] == "api.fault" and line["correlation_id"] == "desk-5" for line in lines(desk, "error")
    )


def test_no_token_is_ever_written(desk: Desk) -> None:
    for role in ROLES:
        desk.call("GET", "/v1/orders", role)
        desk.call("GET", f"/v1/runs/{desk.tokens[role]}", role)
        desk.post(f"/v1/runs/{desk.tokens[role]}/stop", role, json={"reason": desk.tokens[role]})
    written = "".join(path.read_text() for path in desk.workspace.logs.glob("*.jsonl"))
    assert not [role for role, token in desk.tokens.items() if token in written]


# ── anything at all


def test_nothing_that_fits_the_document_is_a_500(desk: Desk) -> None:
    document = desk.call("GET", "/v1/openapi.json", "live").json()
    schema = schemathesis.openapi.from_dict(document)
    head = {"Authorization": f"Bearer {desk.tokens['live']}"}
    seen: dict[str, set[int]] = {}

    def check(case: Any) -> None:
        body = case.body if isinstance(case.body, dict | list | str | int | float | bool) else None
        try:
            answer = desk.call(case.method, case.formatted_path, params=case.query, json=body, headers=head)
        except (UnicodeError, httpx.InvalidURL, ValueError):
            return  # no client can send it
        assert answer.status_code != 500, answer.text
        assert str(answer.status_code) in case.operation.definition.raw["responses"], (case.path, answer.text)
        seen.setdefault(case.operation.label, set()).add(answer.status_code)

    for result in schema.get_all_operations():
        operation: Any = result.ok()  # pyright: ignore[reportAttributeAccessIssue]

        @settings(
            max_examples=12,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=[
                HealthCheck.filter_too_much,
                HealthCheck.too_slow,
                HealthCheck.data_too_large,
            ],
        )
        @given(case=operation.as_strategy())
        def play(case: Any) -> None:
            check(case)

        play()
    for flag in ("paper", "zerodha"):
        desk.workspace.halt_flag(flag).unlink(missing_ok=True)
    assert len(seen) == len(document["paths"])

"""What is sent: bodies that are none, names that are paths, keys that come twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from starlette.responses import Response

from alphapanda.api import body as bodies
from alphapanda.api.body import DEPTH_MAX, Unfit, table
from alphapanda.api.once import Once
from alphapanda.clock import monotonic
from alphapanda.errors import ValidationError
from tests.api_rig import CANARY, Desk, opened


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with opened(tmp_path_factory.mktemp("desk")) as made:
        yield made


# ── B17, B19: bodies and keys


def deep(levels: int) -> bytes:
    return b'{"reason": ' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


@pytest.mark.parametrize(
    ("sent", "kind", "status", "code"),
    [
        (b'{"reason": "' + b"x" * 5_000_000 + b'"}', "application/json", 413, "E_SIZE"),
        (deep(1000), "application/json", 400, "E_DEPTH"),
        (deep(DEPTH_MAX + 1), "application/json", 400, "E_DEPTH"),
        (b'{"reason": "a", "reason": "b"}', "application/json", 400, "E_DUPLICATE"),
        (b'{"reason": "a", "level": NaN}', "application/json", 400, "E_JSON"),
        (b'{"reason": "a", "level": -Infinity}', "application/json", 400, "E_JSON"),
        (b'{"reason": ', "application/json", 400, "E_JSON"),
        (b"", "application/json", 400, "E_JSON"),
        (b"[]", "application/json", 400, "E_JSON"),
        (b"\xff\xfe", "application/json", 400, "E_JSON"),
        (b'{"reason": "a"}', "text/plain", 415, "E_MEDIA_TYPE"),
        (b"reason=a", "application/x-www-form-urlencoded", 415, "E_MEDIA_TYPE"),
        (b'{"reason": "a"}', "", 415, "E_MEDIA_TYPE"),
    ],
)
def test_a_body_that_is_none_is_refused(desk: Desk, sent: bytes, kind: str, status: int, code: str) -> None:
    head = {"Content-Type": kind, "X-Correlation-ID": "desk-1"}
    answer = desk.post("/v1/namespaces/paper/halt", content=sent, headers=head)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["correlation_id"] == "desk-1"
    assert not desk.workspace.halt_flag("paper").exists()


def test_a_body_without_a_length_is_counted_as_it_comes(desk: Desk) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 1000

    answer = desk.post(
        "/v1/namespaces/paper/halt", content=parts(), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 413


def test_a_body_that_does_not_come_is_not_waited_for(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "SECONDS", 0.05)

    async def parts() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(5)

    began = monotonic()
    answer = desk.post(
        "/v1/namespaces/paper/halt", content=parts(), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 408
    assert monotonic() - began < 5


@pytest.mark.parametrize(
    "text", ['{"a": "[[[[[[[[[[[[[[[[[[[[[["}', '{"a": "\\"[[[[[[[[[[[[[[[[[[[[[["}', "{}"]
)
def test_brackets_in_texts_are_no_depth(text: str) -> None:
    assert table(text.encode()) == json.loads(text)


def test_deep_bodies_never_end_the_process() -> None:
    for levels in (17, 100, 5000, 30_000):
        with pytest.raises(Unfit):
            table(b"[" * levels)
        with pytest.raises(Unfit):
            table(b'{"a":' * levels)
        with pytest.raises(Unfit):
            table(b'"' + b"[" * levels)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, "body.reason"),
        ({"reason": ""}, "body.reason"),
        ({"reason": "  "}, "body.reason"),
        ({"reason": 5}, "body.reason"),
        ({"reason": "x" * 501}, "body.reason"),
        ({"reason": "a", "level": 6}, "body.level"),
        ({"reason": "a", "level": "3"}, "body.level"),
        ({"reason": "a", "level": True}, "body.level"),
        ({"reason": "a", "level": 3.5}, "body.level"),
        ({"reason": "a", CANARY: 1}, "body"),
        ({"reason": {"x": CANARY}}, "body.reason"),
    ],
)
def test_what_is_wrong_is_named_and_never_repeated(desk: Desk, body: dict[str, Any], where: str) -> None:
    answer = desk.post("/v1/namespaces/paper/halt", json=body)
    assert answer.status_code == 422
    assert [one["where"] for one in answer.json()["errors"]] == [where]
    assert CANARY not in answer.text


@pytest.mark.parametrize(
    "name", ["../../x", "..%2f..%2fx%0a", "%2e%2e", "a%00b", "x" * 200, "%0a{}", "a b", "-x"]
)
def test_a_name_that_is_a_path_is_none(desk: Desk, name: str) -> None:
    for path in (f"/v1/runs/{name}/stop", f"/v1/namespaces/{name}/halt", f"/v1/letters/{name}/discard"):
        answer = desk.post(path, json={"reason": "a"})
        assert answer.status_code in (404, 422), path
    audit = desk.workspace.logs / "audit.jsonl"  # there once something was done
    for text in audit.read_text().splitlines() if audit.exists() else ():
        json.loads(text)


def test_the_same_key_is_one_effect(desk: Desk) -> None:
    flag = desk.workspace.halt_flag("paper")
    one: dict[str, Any] = {"json": {"reason": "first"}, "headers": {"Idempotency-Key": "k-1"}}
    first = desk.post("/v1/namespaces/paper/halt", **one)
    assert first.status_code == 200, first.text
    flag.unlink()
    again = desk.post("/v1/namespaces/paper/halt", **one)
    assert (again.status_code, again.json()) == (200, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    assert not flag.exists(), "it was not done twice"
    other = desk.post("/v1/namespaces/paper/halt", json={"reason": "second"}, headers=one["headers"])
    assert (other.status_code, other.json()["code"]) == (409, "E_IDEMPOTENCY")
    mine = desk.post("/v1/namespaces/paper/halt", "live", **one)
    assert "idempotency-replayed" not in mine.headers, "a key is its person's"
    flag.unlink()
    for key in ("x" * 201, "x" * 10_000, "a b", ""):
        answer = desk.post(
            "/v1/namespaces/paper/halt", json={"reason": "a"}, headers={"Idempotency-Key": key}
        )
        assert (answer.status_code, answer.json()["code"]) == (400, "E_IDEMPOTENCY_KEY"), key
    assert not flag.exists()


def test_keys_are_bounded_and_what_failed_may_be_tried_again() -> None:
    made: list[str] = []

    def make(status: int = 200) -> Callable[[], Awaitable[Response]]:
        async def answer() -> Response:
            await asyncio.sleep(0)
            made.append("x")
            if status == 0:
                raise ValidationError("no")
            return Response(b"{}", status)

        return answer

    async def play() -> None:
        once = Once(keys=10, seconds=100.0)
        for n in range(50):
            await once.answer(n, b"", make())
        assert len(once) == 10
        made.clear()
        await asyncio.gather(*(once.answer("many", b"", make()) for _ in range(20)))
        assert len(made) == 1
        for status in (503, 422, 503):
            await once.answer("ill", b"", make(status))
        assert len(made) == 4
        with pytest.raises(ValidationError):
            await once.answer("bad", b"", make(0))
        assert (await once.answer("bad", b"other", make())).status_code == 200

    asyncio.run(play())

"""The network of a simulated world: the official client above it, the sandbox's broker below, and what gets lost."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests
from pydantic import SecretStr
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3 import HTTPHeaderDict, HTTPResponse
from urllib3.exceptions import NewConnectionError

import alphapanda.zerodha.client as client_module
from alphapanda.sandbox.documents import Answer
from alphapanda.zerodha.client import Kite
from alphapanda.zerodha.intents import Intent
from alphapanda.zerodha.outcomes import Outcome
from alphapanda.zerodha.policy import Call
from alphapanda.zerodha.reading import Row, Trade
from tests.sandbox_rig import UNIVERSE

Asked = tuple[str, str, dict[str, str]]  # method, path, parameters
Given = Answer | Exception


class Captured(BaseException):
    """The request is known; nothing was sent yet."""


class Wire(BaseAdapter):
    """Where the official client's sockets would be: takes a request down, or gives an answer that was decided."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[Given] = []
        self.sent: list[Asked] = []

    def send(self, request: Any, **how: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        address = urlsplit(request.url)
        body = request.body.decode() if isinstance(request.body, bytes) else request.body or ""
        self.sent.append(
            (request.method, address.path, dict(parse_qsl(address.query)) | dict(parse_qsl(body)))
        )
        if not self.answers:
            raise Captured
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        headers = HTTPHeaderDict(dict(answer.headers))
        if answer.content_type is not None:
            headers["content-type"] = answer.content_type
        raw = HTTPResponse(io.BytesIO(answer.body), headers, answer.status, preload_content=False)
        return ADAPTER.build_response(request, raw)

    def close(self) -> None:
        pass


ADAPTER = HTTPAdapter()


class Phone:
    """The production ``Kite`` on a wire of ours: one call in two halves, what it asks and what it makes of an answer.

    ``again`` counts orders that the client sent a second time by itself. ``of_error`` is how errors are read: a
    mutant's, perhaps.
    """

    def __init__(self, api_key: str, token: str, of_error: Callable[[BaseException], Outcome]) -> None:
        self._wire, self._of_error = Wire(), of_error
        self.again = 0
        self._kite = Kite(
            SecretStr(api_key), SecretStr(token), root="http://kite", timeout=7,
            scale_of=lambda symbol: UNIVERSE[symbol].price_scale, adapter=self._wire,
        )  # fmt: skip
        self._look: list[Asked] | None = None
        self._keep_prepared()

    def use(self, token: str) -> None:
        """A person has logged in again."""
        self._kite.use(SecretStr(token))
        self._keep_prepared()

    def _keep_prepared(self) -> None:
        """Each call runs twice here, down and up again: its request is put together once."""
        session = self._kite._client().reqsession  # pyright: ignore[reportPrivateUsage]
        prepare, kept = session.prepare_request, dict[str, Any]()

        def prepared(request: Any) -> Any:
            what = f"{request.method} {request.url} {request.data} {request.params}"
            if what not in kept:
                kept[what] = prepare(request)
            return kept[what]

        session.prepare_request = prepared

    def asks(self, call: Call, intent: Intent) -> list[Asked]:
        """The request that this call makes; none if it refuses to."""
        self._wire.sent = []
        with contextlib.suppress(Captured):
            self._do(call, intent)
        return self._wire.sent[:1]

    def asks_for_book(self) -> list[Asked]:
        """The two requests of a look: they are always the same."""
        if self._look is None:
            self._wire.sent, self._wire.answers = [], [_NONE, _NONE]
            self._kite.book()
            self._look = self._wire.sent
        return self._look

    def hears(self, call: Call, intent: Intent, answer: Given) -> Outcome:
        """What the call comes to when this is its answer."""
        self._wire.sent, self._wire.answers = [], [answer]
        kept, client_module.of_error = client_module.of_error, self._of_error
        try:
            return self._do(call, intent)
        except Captured:
            self.again += call.kind == "place"
            return Outcome("open", reason="the client sent it twice")
        finally:
            client_module.of_error = kept
            self._wire.answers = []

    def reads(self, answers: list[Given]) -> tuple[list[Row], list[Trade]]:
        """A look at the book from its two answers. Raises what the client raises."""
        self._wire.sent, self._wire.answers = [], list(answers)
        try:
            return self._kite.book()
        except Captured:
            raise requests.exceptions.ReadTimeout("read timed out") from None
        finally:
            self._wire.answers = []

    def _do(self, call: Call, intent: Intent) -> Outcome:
        if call.kind == "place":
            return self._kite.place(intent)
        if call.kind == "cancel":
            return self._kite.cancel(intent)
        return self._kite.modify(intent, call.quantity, call.limit)


_NONE = Answer.of([])
NO_CONNECTION = requests.exceptions.ConnectionError(NewConnectionError(None, "connection refused"))  # pyright: ignore[reportArgumentType]


def as_met(answer: Answer) -> Given:
    """An answer as the client's transport meets it."""
    match answer.delivery:
        case "silence":
            return requests.exceptions.ReadTimeout("read timed out")
        case "drop" | "reset":
            return requests.exceptions.ConnectionError("connection aborted")
        case "truncated":
            return requests.exceptions.ChunkedEncodingError("incomplete read")
        case _:
            return answer

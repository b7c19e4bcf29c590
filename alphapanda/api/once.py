"""One attempt, one effect: the same Idempotency-Key again gets the answer that the first one got."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable

from starlette.responses import Response

from alphapanda.clock import monotonic
from alphapanda.errors import ValidationError

KEYS_MAX, SECONDS = 1_000, 86_400.0  # of answers kept, and for how long
REPLAYED = {"idempotency-replayed": "true"}


class _Attempt:
    """What one key stands for; ``answer`` is None while it is being made."""

    def __init__(self, digest: bytes, at: float) -> None:
        self.digest, self.at, self.done = digest, at, asyncio.Event()
        self.answer: tuple[int, str | None, bytes] | None = None


class Once:
    """Answers by key, those of the last day and not more than so many; lives as long as the process does.

    An attempt that failed on our side (5xx) or was refused is forgotten: it may be made again. Of many at once with the
    same key one is made and the others wait for it.
    """

    def __init__(
        self, keys: int = KEYS_MAX, seconds: float = SECONDS, clock: Callable[[], float] = monotonic
    ) -> None:
        self._keys, self._seconds, self._clock = keys, seconds, clock
        self._kept: OrderedDict[Hashable, _Attempt] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    async def answer(self, key: Hashable, body: bytes, make: Callable[[], Awaitable[Response]]) -> Response:
        """The answer of this attempt, made at most once. ValidationError (E_IDEMPOTENCY) if the key was used for
        something else. Raises what ``make`` raises."""
        digest = hashlib.sha256(body).digest()
        while (known := self._kept.get(key)) is not None and self._clock() - known.at < self._seconds:
            if known.digest != digest:
                raise ValidationError(
                    "this Idempotency-Key was used for another body",
                    fix="send a fresh key with what is new",
                    code="E_IDEMPOTENCY",
                )
            if known.answer is not None:
                status, media, content = known.answer
                return Response(content, status, REPLAYED, media)
            await known.done.wait()  # and look again: it may have failed
        self._kept.pop(key, None)
        attempt = self._kept[key] = _Attempt(digest, self._clock())
        self._forget()
        try:
            made = await make()
            if made.status_code < 400:
                attempt.answer = made.status_code, made.media_type, bytes(made.body)
            return made
        finally:
            if attempt.answer is None:
                self._kept.pop(key, None)
            attempt.done.set()

    def _forget(self) -> None:
        """The oldest of too many; those that are still being made stay."""
        for key in list(self._kept)[: max(0, len(self._kept) - self._keys)]:
            if self._kept[key].answer is not None:
                del self._kept[key]

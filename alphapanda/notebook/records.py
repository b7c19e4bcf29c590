"""A run's whole record, asked of its gateway: a ``Result`` for the report, and the tape it traded on.

The gateway holds the books of every run of its namespace, ended ones included; it answers on a topic made for the
question, which is removed again.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import redis

from alphapanda.buses.tapelog import TapeLog
from alphapanda.clock import monotonic, pause, wall_ns
from alphapanda.errors import InfrastructureError, RedisError
from alphapanda.events import Block, EventEnvelope
from alphapanda.instruments import Instrument
from alphapanda.result import Result
from alphapanda.seal import Seal
from alphapanda.workspace import Workspace

QUERY = "query.result"
ANSWER_SECONDS = 8.0
_numbers = itertools.count(1)


def ask_result(
    open_client: Callable[[], redis.Redis], seal: Seal, namespace: str, run: str, client: str
) -> Result | None:
    """What the gateway knows of a run; None before the run has reached it.

    Raises RedisError if the server, InfrastructureError if the gateway does not answer.
    """
    reply_to = f"{namespace}.replies.{os.getpid()}-{wall_ns()}-{next(_numbers)}"
    envelope = EventEnvelope(
        id=reply_to,
        type=QUERY,
        ts=wall_ns(),
        source=client,
        namespace=namespace,
        key=run,
        correlation_id=reply_to,
        trace_id=reply_to,
        data={"run": run, "reply_to": reply_to},
    )
    topic = f"{namespace}.commands"
    server: Any = open_client()  # redis-py leaves what streams return untyped
    try:
        server.xadd(topic, {"b": seal.sealed(topic, envelope)})
        until, found = monotonic() + ANSWER_SECONDS, []
        while not (found := server.xrange(reply_to, count=1)) and monotonic() < until:
            pause(0.02)
        server.unlink(reply_to)
    except redis.RedisError as error:
        raise RedisError(
            f"the record of {run} cannot be read: {error}",
            fix="see whether the server runs: `alphapanda status`",
        ) from error
    finally:
        server.close()
    if not found:
        raise InfrastructureError(
            f"the gateway of {namespace} does not answer",
            fix="see `alphapanda status`; it answers again when it has started",
            code="E_GATEWAY_SILENT",
        )
    body: bytes = found[0][1][b"b"]
    return msgspec.msgpack.decode(body, type=Result) if body else None


class LivePrices:
    """The ticks that the feed wrote down since a run began, for a report's price lines."""

    def __init__(self, workspace: Workspace, after: int) -> None:
        self._workspace, self._after = workspace, after
        self._instruments: tuple[Instrument, ...] = ()

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """The feed's table, which a block's instrument indexes point into."""
        if not self._instruments:
            self._instruments = TapeLog(self._workspace.tapes).instruments()
        return self._instruments

    def blocks(self, size: int = 0) -> Iterator[Block]:
        """The ticks in order, as they were published: ``size`` is not asked about."""
        log = TapeLog(self._workspace.tapes)
        try:
            for frame in log.read(self._after):
                if len(frame.block):
                    yield frame.block
        finally:
            log.close()

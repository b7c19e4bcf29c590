"""Five log channels, one JSON line an event, for every process of a workspace.

    configure(workspace, settings, role="gateway:paper", namespace="paper")     # once, at a process's start
    log = channel("trading")                    # anywhere, also before: it writes nothing until then
    with bind(envelope, strategy="crossover"):  # lines inside carry the ids that lead back to the tick
        log.info("order.sent", order_id=order.id, symbol=order.symbol)

Rules. All processes share one file a channel, ``<logs>/<channel>.jsonl``: a person follows one file in the order
things happened, and runs that come and go leave no files of their own. That is safe because the file is opened to
append and a line is one write of at most LINE bytes. It is set aside as ``<channel>.<day>.jsonl`` (the exchange's
day) when the day ends or it grows too big; what is older than the channel's retention is deleted. A line of level
ERROR also goes to the error channel. No secret leaves: see ``redaction``. Logging never stops trading: what cannot be
written is dropped and counted, and the first line that can be again says how many were lost. structlog's global
configuration and the root logger's level stay the user's own.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Generator
from typing import Any

from alphapanda.clock import wall_ns
from alphapanda.errors import AlphaPandaException, InfrastructureError
from alphapanda.events import EventEnvelope
from alphapanda.logs import lines as log_lines
from alphapanda.logs.files import OFF, SINKS, SIZE, ChannelName, Sink
from alphapanda.logs.lines import line, show
from alphapanda.logs.redaction import register_settings
from alphapanda.logs.structlog_alone import BoundLoggerBase, bound_contextvars, merge_contextvars
from alphapanda.settings import Settings
from alphapanda.workspace import NAME, Workspace


def _render(sink: Sink, level: str, facts: Any) -> tuple[tuple[bytes, int], dict[str, Any]]:
    """structlog's last step: what the sink's method of that name is called with."""
    ts, event = log_lines.process.clock(), facts["event"]
    try:
        if log_lines.process.console:
            show(sink.name, level, ts, facts)
        text = line(sink.name, level, ts, facts)
    except Exception as error:  # noqa: BLE001 - a value that cannot even be printed may not stop who logged it
        text = line(sink.name, level, ts, {"event": event, "unprintable": type(error).__name__})
    return (text, ts), {}


class Channel(BoundLoggerBase):
    """Writes events to one channel: ``log.info("order.sent", symbol="NSE:INFY")``; ``bind`` makes one with facts."""

    _logger: Sink

    def debug(self, event: str, **facts: Any) -> None:
        """Of use while something is being made or mended."""
        if self._logger.level <= logging.DEBUG:
            self._proxy_to_logger("debug", event, **facts)

    def info(self, event: str, **facts: Any) -> None:
        """It happened, as it should."""
        if self._logger.level <= logging.INFO:
            self._proxy_to_logger("info", event, **facts)

    def warning(self, event: str, **facts: Any) -> None:
        """It went on, though not as it should."""
        if self._logger.level <= logging.WARNING:
            self._proxy_to_logger("warning", event, **facts)

    def error(self, event: str, **facts: Any) -> None:
        """A person should look; ``exc_info=error`` adds its traceback."""
        if self._logger.level <= logging.ERROR:
            self._proxy_to_logger("error", event, **facts)

    def exception(self, event: str, **facts: Any) -> None:
        """An error, with the traceback of the exception being handled."""
        self.error(event, **{"exc_info": True} | facts)


def channel(name: ChannelName) -> Channel:
    """The logger of one channel."""
    return Channel(SINKS[name], (merge_contextvars, _render), {})


@contextlib.contextmanager
def bind(envelope: EventEnvelope | None = None, **facts: Any) -> Generator[None]:
    """Every line inside carries ``facts`` and the lineage of the event being handled, which is its cause."""
    if envelope is not None:
        lineage = {"namespace": envelope.namespace, "correlation_id": envelope.correlation_id}
        facts = lineage | {"causation_id": envelope.id, "trace_id": envelope.trace_id} | facts
    with bound_contextvars(**facts):
        yield


class _Routed(logging.Handler):
    """What libraries log, on its way to the application channel; without a lock of its own, as the sinks have one."""

    def handle(self, record: logging.LogRecord) -> bool:
        try:
            text = record.getMessage()
        except (TypeError, ValueError):  # its arguments do not fit its format
            text = str(record.msg)
        log = channel("application")
        by_level = ((logging.ERROR, log.error), (logging.WARNING, log.warning), (logging.INFO, log.info))
        write = next((method for level, method in by_level if record.levelno >= level), log.debug)
        write(text, logger=record.name, exc_info=record.exc_info)
        return True


_routed = _Routed()


def configure(
    workspace: Workspace,
    settings: Settings,
    role: str,
    namespace: str = "",
    console: bool = False,
    *,
    clock: Callable[[], int] = wall_ns,
    size: int = SIZE,
) -> None:
    """Start logging as ``role`` (hub, feed, gateway:paper, runner:RUN); a folder it cannot write is no error."""
    close()
    register_settings(settings)
    log_lines.process = log_lines.Process(role, namespace, console, clock)
    try:
        folder = workspace.root / settings.logging.directory if settings.logging.directory else workspace.logs
    except InfrastructureError:
        folder = workspace.root / NAME / "logs"  # tried again at each line
    for name, sink in SINKS.items():
        sink.start(folder, getattr(settings.logging, name), size, clock())
    _routed.setLevel(SINKS["application"].level)
    logging.getLogger().addHandler(_routed)


def close() -> None:
    """Stop logging. Registered secrets stay registered."""
    logging.getLogger().removeHandler(_routed)
    for sink in SINKS.values():
        sink.stop()


def dropped() -> int:
    """Lines that could not be written since this process was configured."""
    return sum(sink.dropped for sink in SINKS.values())


def audited(workspace: Workspace, event: str, **facts: Any) -> None:
    """What a person did, on the audit channel for good; also from a shell that logs nothing yet. ``by`` says who.

    A shell whose settings cannot be read writes nothing: what was to be done is done all the same.
    """
    alone = SINKS["audit"].level >= OFF
    with contextlib.suppress(AlphaPandaException):
        if alone:
            configure(workspace, Settings.load(), "operator")
        channel("audit").warning(event, **facts)
    if alone:
        close()

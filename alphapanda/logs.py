"""Five log channels, one JSON line an event, for every process of a workspace.

    configure(workspace, settings, role="gateway:paper", namespace="paper")     # once, at a process's start
    log = channel("trading")                    # anywhere, also before: it writes nothing until then
    with bind(envelope, strategy="crossover"):  # lines inside carry the ids that lead back to the tick
        log.info("order.sent", order_id=order.id, symbol=order.symbol)

Rules. All processes share one file a channel, ``<logs>/<channel>.jsonl``: a person follows one file in the order
things happened, and runs that come and go leave no files of their own. That is safe because the file is opened to
append and a line is one write of at most LINE bytes. It is set aside as ``<channel>.<day>.jsonl`` (the exchange's
day) when the day ends or it grows too big; what is older than the channel's retention is deleted. A line of level
ERROR also goes to the error channel. No secret leaves: registered values, and whatever looks like a key or a password,
are replaced in every text, exceptions included. Logging never stops trading: what cannot be written is dropped and
counted, and the first line that can be again says how many were lost. structlog's global configuration and the root
logger's level stay the user's own.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import logging
import numbers
import os
import re
import stat
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Mapping
from functools import lru_cache
from itertools import count, islice
from pathlib import Path
from typing import Any, Literal, cast, get_args
from urllib.parse import quote, quote_plus, unquote, urlsplit

import msgspec
import structlog
from pydantic import BaseModel, SecretStr
from structlog.contextvars import bound_contextvars, merge_contextvars

from alphapanda.clock import pause, wall_ns
from alphapanda.errors import InfrastructureError
from alphapanda.events import DAY, IST_OFFSET_NS, SECOND, EventEnvelope, ist, ist_day
from alphapanda.settings import ChannelSettings, Settings
from alphapanda.workspace import NAME, Workspace

ChannelName = Literal["audit", "performance", "trading", "error", "application"]

LINE = 4096  # bytes of a line with its end: one page, one write
TEXT = 1000  # characters of one value
TRACE = 2400  # characters of a traceback; its middle goes first
ITEMS = 40  # of one list or table
DEPTH = 5  # of lists within lists
SIZE = 20_000_000  # bytes at which a file is set aside
LOOK = SECOND // 5  # how long another process's new file may go unnoticed
OFF = 99  # above every level
HIDDEN = "***"
BOUND = ("namespace", "strategy", "correlation_id", "causation_id", "trace_id")

# ── secrets ──────────────────────────────────────────────────────────────────────────────────────────────────────

_WORDS = (
    r"(?:api[_-]?(?:key|secret)|(?:access|request|refresh|public|auth|session)[_-]?token|enctoken"
    r"|password|passwd|passphrase|secret|checksum|totp)"
)
# Without one of these none of the patterns matches.
_HINT = re.compile(r"token|secret|passw|passph|api[_-]?key|authoriz|bearer|checksum|totp|://")
_PATTERNS = (
    r"(?i)(authorization[\"']?\s*[:=]\s*[\"']?(?:[a-z]+\s+)?)[^\s\"']+",
    r"(?i)(\bbearer\s+|\btoken\s+(?=\w+:))[^\s\"']{4,}",
    rf"(?i)({_WORDS}\\*[\"']?\s*[=:]\s*)(?:\\*b?\"[^\"]*\"|b?'[^']*'|[\"']?[^\s\"'&,;)}}\]]+)",
    r"(://[^\s/:@]*:)[^\s/]+(?=@)",
)
_NAMED = re.compile(rf"(?i).*(?:{_WORDS}|authorization|cookie)")
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_secrets: set[str] = set()
_values = re.compile(r"(?!)")  # any of them


def register_secret(value: str) -> None:
    """No log line of this process will show ``value`` again, in any form libraries print it in; nor, if it is an
    address, the password in it. A very short one is replaced only where it stands as a word."""
    global _values
    plain = {value}
    with contextlib.suppress(ValueError):
        plain.add((urlsplit(value).password or "") if "://" in value else "")
    for secret in (plain | {unquote(one) for one in plain}) - {""}:
        _secrets.update({secret, repr(secret)[1:-1]})
        with contextlib.suppress(ValueError):  # not Unicode: no library can send it
            written = msgspec.json.encode(secret).decode()[1:-1]
            _secrets.update({quote(secret, safe=""), quote_plus(secret), written})
    ordered = sorted(_secrets, key=len, reverse=True)
    forms = (re.escape(form) if len(form) > 5 else rf"(?<!\w){re.escape(form)}(?!\w)" for form in ordered)
    _values = re.compile("|".join(forms) or r"(?!)")
    _name.cache_clear()


def register_settings(model: BaseModel) -> None:
    """Register every secret the settings hold."""
    for field in type(model).model_fields:
        value = getattr(model, field)
        if isinstance(value, SecretStr):
            register_secret(value.get_secret_value())
        elif isinstance(value, BaseModel):
            register_settings(value)


def redact(text: str) -> str:
    """The text without registered secrets and without whatever looks like a key or a password."""
    text = _values.sub(HIDDEN, text)
    if _HINT.search(text.lower()):
        for pattern in _PATTERNS:
            text = re.sub(pattern, rf"\1{HIDDEN}", text)
    return text


def safe_text(text: str, cap: int = TEXT) -> str:
    """Redacted, with control characters spelt out, at most ``cap`` characters."""
    if len(text) > 4 * cap:  # a secret that this cut goes through is cut away whole
        edge = max(map(len, _secrets), default=0)
        text = redact(text[: 4 * cap + edge])[: -edge or None]
    else:
        text = redact(text)
    if not text.isprintable():
        text = _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    return text if len(text) <= cap else text[: cap - 1] + "…"


def safe_trace(error: BaseException, cap: int = TRACE) -> str:
    """The traceback with its causes, redacted before its middle is left out."""
    text = safe_text("".join(traceback.format_exception(error)).strip(), 100_000)
    return text if len(text) <= cap else f"{text[: cap // 3]}\n… cut …\n{text[-(cap - cap // 3) :]}"


def plain(value: Any, cap: int, depth: int = 0) -> Any:
    """The value as JSON may hold it: short, shallow, redacted."""
    if isinstance(value, str):
        return safe_text(value, cap)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, numbers.Integral):
        number = int(value)
        return (
            HIDDEN if str(number) in _secrets else number if number.bit_length() < 64 else str(number)[:cap]
        )
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, BaseException):
        return safe_text(f"{type(value).__name__}: {value}", cap)
    if isinstance(value, bytes | bytearray):
        return f"<{len(value)} bytes>"
    if depth < DEPTH and isinstance(value, Mapping):
        return _table(cast("Mapping[Any, Any]", value), cap, depth)
    if depth < DEPTH and isinstance(value, list | tuple | set | frozenset):
        items = cast("tuple[Any, ...]", value)
        rest = [f"… {len(items) - ITEMS} more"] if len(items) > ITEMS else []
        return [plain(item, cap, depth + 1) for item in islice(items, ITEMS)] + rest
    return safe_text(str(value), cap)


def _table(table: Mapping[Any, Any], cap: int, depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in islice(table.items(), ITEMS):
        name, hidden = _name(str(key))
        found[name] = HIDDEN if hidden and value else plain(value, cap, depth + 1)
    return found | ({"…": f"{len(table) - ITEMS} more"} if len(table) > ITEMS else {})


@lru_cache(1024)
def _name(key: str) -> tuple[str, bool]:
    return safe_text(key, 80), _NAMED.fullmatch(key) is not None


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Sink:
    """The file of one channel. ``level`` is OFF until the process is configured, so that nothing is worked on."""

    def __init__(self, name: str) -> None:
        self.name, self.level, self.dropped = name, OFF, 0
        self._told = 0  # how many of the dropped the file knows of
        self._file: int | None = None
        self._day = self._looked = self._patience = 0

    def start(self, folder: Path, settings: ChannelSettings, size: int, ts: int) -> None:
        """Write to ``folder`` from now on, first setting aside what an earlier day left there."""
        with _LOCK:
            self._folder, self._days, self._size = folder, settings.retention_days, size
            self._path = folder / f"{self.name}.jsonl"
            self.level, self.dropped, self._told, self._patience = getattr(logging, settings.level), 0, 0, 0
            with contextlib.suppress(OSError):
                self._prune(ts)
                if self._path.exists():
                    self._ready(ts)

    def stop(self) -> None:
        """Write no more."""
        with _LOCK:
            self.level = OFF
            self._shut()

    def debug(self, line: bytes, ts: int) -> None:
        """Append a line, or drop and count it. Where somebody met a full disk, the torn line is ended first."""
        with _LOCK:
            try:
                file = self._ready(ts)
                if _torn(file, looks=1 if self.dropped > self._told else 5):
                    os.write(file, b"\n")
                if self.dropped > self._told:
                    lost = {"event": "log.lines_lost", "lost": self.dropped - self._told}
                    _write(file, _line(self.name, "warning", ts, lost))
                    self._told = self.dropped
                _write(file, line)
            except OSError:
                self.dropped += 1
                self._shut()

    info = warning = debug

    def error(self, line: bytes, ts: int) -> None:
        """Append a line here and to the error channel."""
        self.debug(line, ts)
        if self.name != "error" and SINKS["error"].level < OFF:
            SINKS["error"].debug(line, ts)

    def _ready(self, ts: int) -> int:
        """The file, opened again where another process may have set it aside, or set aside where it is due."""
        if self._file is None or abs(ts - self._looked) > LOOK:
            self._open(ts)
        if self._due(ts) and ts >= self._patience:
            self._set_aside(ts)
        assert self._file is not None  # noqa: S101 - opened above, under the same lock
        return self._file

    def _open(self, ts: int) -> None:
        self._shut()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(self._path, _FLAGS, 0o600)
        self._looked = ts
        first = re.match(rb'\{"ts":"([^"]{19})', os.pread(self._file, 64, 0))
        self._day = ist_day(ts)
        with contextlib.suppress(ValueError):
            if first:
                stamp = dt.datetime.fromisoformat(first[1].decode()).replace(tzinfo=dt.UTC)
                self._day = ist_day(int(stamp.timestamp()) * SECOND)

    def _shut(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.close(self._file)
        self._file = None

    def _due(self, ts: int) -> bool:
        assert self._file is not None  # noqa: S101 - opened by the caller, under the same lock
        return os.fstat(self._file).st_size >= self._size or ist_day(ts) > self._day

    def _set_aside(self, ts: int) -> None:
        """Rename the file after its day and open a new one; one process does it, the others go on meanwhile."""
        lock = os.open(self._folder / ".rotate", _FLAGS, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._open(ts)  # as it is now: another process may have been faster
            if self._due(ts):
                stem = f"{self.name}.{ist(self._day * DAY - IST_OFFSET_NS):%Y-%m-%d}"
                names = (self._folder / f"{stem}{f'.{n}' if n else ''}.jsonl" for n in count())
                self._path.rename(next(name for name in names if not name.exists()))
                self._prune(ts)
                self._open(ts)
        except BlockingIOError:  # who holds it may be stopped: a bigger file is better than waiting
            self._open(ts)
            self._patience = ts + LOOK
        finally:
            os.close(lock)

    def _prune(self, ts: int) -> None:
        """Delete our own files of days that are past their retention."""
        for path in self._folder.glob(f"{self.name}.*.jsonl"):
            match = re.fullmatch(r"\w+\.(\d{4}-\d\d-\d\d)(\.\d+)?\.jsonl", path.name)
            with contextlib.suppress(OSError, ValueError):  # gone already, or no date
                found = path.lstat()
                ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid()
                if (
                    match
                    and ours
                    and dt.date.fromisoformat(match[1]) < ist(ts).date() - dt.timedelta(self._days)
                ):
                    path.unlink()


_LOCK = (
    threading.RLock()
)  # one for all channels: a finaliser may log to another while its own thread is in here
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
SINKS = {name: Sink(name) for name in get_args(ChannelName)}


def _torn(file: int, looks: int) -> bool:
    """Whether the last line has no end. One that is being written at this moment looks so too, but soon grows."""
    size = os.fstat(file).st_size
    for look in range(looks):
        if look:
            pause(0.001)
        now = os.fstat(file).st_size
        if not size or now != size or os.pread(file, 1, size - 1) == b"\n":
            return False
    return True


def _write(file: int, line: bytes) -> None:
    if os.write(file, line) < len(line):
        raise OSError("no room for the whole line")


# ── lines ────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Process:
    """What every line of this process says of it, and where lines are shown."""

    def __init__(
        self, role: str = "", namespace: str = "", console: bool = False, clock: Callable[[], int] = wall_ns
    ):
        self.role, self.namespace, self.console, self.clock = role, namespace, console, clock


_process = _Process()


@lru_cache(8)
def _second(second: int) -> str:
    return dt.datetime.fromtimestamp(second, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _line(channel: str, level: str, ts: int, facts: dict[str, Any]) -> bytes:
    """The line, with less of each fact the longer it would be; what identifies it is never cut away."""
    head: dict[str, Any] = {"ts": f"{_second(ts // SECOND)}.{ts % SECOND // 1000:06}Z", "level": level}
    head |= {"channel": channel, "event": safe_text(str(facts.pop("event", "")), 200)}
    head |= {"role": _process.role, "pid": os.getpid(), "namespace": _process.namespace}
    head |= {name: safe_text(str(facts.pop(name)), 120) for name in BOUND if name in facts}
    error = facts.pop("exc_info", None)
    error = (
        sys.exc_info()[1] if error is True else cast("Any", error)[1] if isinstance(error, tuple) else error
    )
    trace = safe_trace(error) if isinstance(error, BaseException) else ""
    facts = {
        f"{name}_" if name in head or name == "exception" else name: value for name, value in facts.items()
    }
    for cap in (TEXT, 200, 40):
        tail = {"exception": trace[-cap * 3 :]} if trace else {}
        line = msgspec.json.encode(head | _table(facts, cap, 0) | tail) + b"\n"
        if len(line) <= LINE:
            return line
    return msgspec.json.encode(head | {"cut": f"{len(facts)} facts"}) + b"\n"


def _render(sink: Sink, level: str, facts: Any) -> tuple[tuple[bytes, int], dict[str, Any]]:
    """structlog's last step: what the sink's method of that name is called with."""
    ts, event = _process.clock(), facts["event"]
    try:
        if _process.console:
            _show(sink.name, level, ts, facts)
        line = _line(sink.name, level, ts, facts)
    except Exception as error:  # noqa: BLE001 - a value that cannot even be printed may not stop who logged it
        line = _line(sink.name, level, ts, {"event": event, "unprintable": type(error).__name__})
    return (line, ts), {}


COLOURS = {"audit": 35, "performance": 36, "trading": 32, "error": 31, "application": 34}


def _show(channel: str, level: str, ts: int, facts: dict[str, Any]) -> None:
    """One short line for the person at the terminal; what leads back to the tick is in the file."""
    keys = [name for name in facts if name not in (*BOUND, "event", "exc_info")][:6]
    words = [" ".join(safe_text(f"{name}={plain(facts[name], 40)}", 60).split()) for name in keys]
    name, event = f"{channel:<11}", " ".join(safe_text(str(facts["event"]), 80).split())
    if sys.stderr.isatty() and "NO_COLOR" not in os.environ:
        name = f"\x1b[{COLOURS[channel]}m{name}\x1b[0m"
        event = f"\x1b[1;31m{event}\x1b[0m" if level in ("error", "critical") else event
    with contextlib.suppress(OSError, ValueError):  # nobody looks any more
        sys.stderr.write(f"{ist(ts):%H:%M:%S} {name} {event}  {' '.join(words)}".rstrip() + "\n")


class Channel(structlog.BoundLoggerBase):
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
    global _process
    close()
    register_settings(settings)
    _process = _Process(role, namespace, console, clock)
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

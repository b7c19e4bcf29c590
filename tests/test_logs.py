"""Logs say what happened, to whoever reads them later: every line whole, none with a secret, none in trading's way."""

import asyncio
import contextlib
import json
import logging
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphapanda import logs
from alphapanda.errors import BrokerError, RedisError
from alphapanda.events import DAY, IST_OFFSET_NS, SECOND, EventEnvelope, ist
from alphapanda.logs import bind, channel, configure, dropped
from alphapanda.logs import lines as log_lines
from alphapanda.logs.redaction import redact, register_secret, safe_text
from alphapanda.settings import Settings
from alphapanda.workspace import Workspace

NOON = 20_000 * DAY - IST_OFFSET_NS + DAY // 2  # 2024-10-04 12:00 in India
CHANNELS = tuple(logs.SINKS)
CANARY = "kI9-cAnArY/zX8 q"
POSTGRES = "postgresql://me:p%40ss-Word@h/db"  # pragma: allowlist secret
ENVELOPE = EventEnvelope(
    id="sig-1",
    type="signal",
    ts=1,
    source="runner",
    namespace="paper",
    key="NSE:INFY",
    correlation_id="tick-7",
    trace_id="trace-7",
    data=None,
)


class Clock:
    """Time that a test moves."""

    def __init__(self, now: int = NOON) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    yield Workspace(tmp_path)
    logs.close()


def settings(**values: Any) -> Settings:
    return Settings(_env_file=None, **values)  # pyright: ignore[reportCallIssue]


def lines(workspace: Workspace, name: str) -> list[dict[str, Any]]:
    path = workspace.logs / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def everything(folder: Path) -> str:
    return "".join(path.read_text("utf-8") for path in folder.rglob("*.jsonl"))


# ── what a line holds ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_line_says_when_what_who_and_what_led_to_it(workspace: Workspace) -> None:
    configure(workspace, settings(), "gateway:paper", "paper", clock=Clock(NOON + 123_456_789))
    with bind(ENVELOPE, strategy="crossover"):
        channel("trading").bind(lane=1).info("order.sent", symbol="NSE:INFY", quantity=100, limits=(1, 2.5))
    channel("trading").warning("feed.stale")
    first, second = lines(workspace, "trading")
    assert first == {
        "ts": "2024-10-04T06:30:00.123456Z",
        "level": "info",
        "channel": "trading",
        "event": "order.sent",
        "role": "gateway:paper",
        "pid": os.getpid(),
        "namespace": "paper",
        "strategy": "crossover",
        "correlation_id": "tick-7",
        "causation_id": "sig-1",
        "trace_id": "trace-7",
        "lane": 1,
        "symbol": "NSE:INFY",
        "quantity": 100,
        "limits": [1, 2.5],
    }
    assert "correlation_id" not in second


def test_what_is_bound_stays_in_its_own_task(workspace: Workspace) -> None:
    configure(workspace, settings(), "hub")

    async def one(name: str) -> None:
        with bind(strategy=name):
            await asyncio.sleep(0)
            channel("application").info("ran", me=name)

    async def main() -> None:
        await asyncio.gather(*(one(f"s{n}") for n in range(10)))

    asyncio.run(main())
    assert all(line["strategy"] == line["me"] for line in lines(workspace, "application"))


def test_facts_never_hide_what_identifies_a_line(workspace: Workspace) -> None:
    configure(workspace, settings(), "hub")
    channel("audit").info(
        "child.started", pid=1, role="feed", ts=5, level="x", channel="y", namespace="zerodha"
    )
    (line,) = lines(workspace, "audit")
    assert (line["pid"], line["role"], line["level"]) == (os.getpid(), "hub", "info")
    assert (line["pid_"], line["role_"], line["ts_"], line["namespace"]) == (1, "feed", 5, "zerodha")


def test_each_channel_has_its_own_file_and_level(workspace: Workspace) -> None:
    configure(workspace, settings(logging={"trading": {"level": "WARNING"}}), "hub")
    for name in CHANNELS:
        log = channel(name)  # pyright: ignore[reportArgumentType]
        for say, event in (
            (log.debug, "one"),
            (log.info, "two"),
            (log.warning, "three"),
            (log.error, "four"),
        ):
            say(event)
    events = {
        name: [(line["channel"], line["event"]) for line in lines(workspace, name)] for name in CHANNELS
    }
    assert events["audit"] == [("audit", event) for event in ("two", "three", "four")]
    assert events["trading"] == [("trading", event) for event in ("three", "four")]
    copies = [(name, "four") for name in CHANNELS if name != "error"]
    assert sorted(events["error"]) == sorted([*copies, ("error", "three"), ("error", "four")])


def test_below_the_level_and_before_the_start_nothing_is_done(tmp_path: Path) -> None:
    class Touchy:
        def __str__(self) -> str:
            raise AssertionError("a fact was looked at")

    log = channel("performance")
    log.error("nobody listens yet", fact=Touchy())
    configure(Workspace(tmp_path), settings(), "hub")
    log.debug("too fine", fact=Touchy())
    logs.close()
    log.error("nobody listens any more", fact=Touchy())
    assert everything(tmp_path) == ""
    assert dropped() == 0


def test_what_cannot_be_printed_does_not_stop_who_logs_it(workspace: Workspace) -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no")

    knot: list[Any] = []
    knot.append(knot)
    configure(workspace, settings(), "hub", console=True)
    channel("audit").info("odd", what=Broken())
    channel("audit").info("odd", knot=knot, number=10**30, nan=float("nan"), raw=b"abc", kind={1: {2, 3}})
    first, second = lines(workspace, "audit")
    assert (first["event"], first["unprintable"]) == ("odd", "RuntimeError")
    assert (second["number"], second["nan"], second["raw"]) == ("1" + "0" * 30, None, "<3 bytes>")
    assert second["kind"] == {"1": [2, 3]}


def test_libraries_log_to_the_application_channel(workspace: Workspace) -> None:
    root = logging.getLogger()
    before = root.level
    configure(workspace, settings(), "feed")
    configure(workspace, settings(), "feed")  # once more: no second handler
    logging.getLogger("websockets.client").warning("closed by %s", "peer")
    logs._routed.handle(
        logging.LogRecord("redis", logging.WARNING, "", 1, "wrong %s %s", ("arguments",), None)
    )
    logging.getLogger("asyncio").error("lost", exc_info=ConnectionError("gone"))
    assert [(line["level"], line["logger"], line["event"]) for line in lines(workspace, "application")] == [
        ("warning", "websockets.client", "closed by peer"),
        ("warning", "redis", "wrong %s %s"),
        ("error", "asyncio", "lost"),
    ]
    assert "ConnectionError: gone" in lines(workspace, "error")[0]["exception"]
    assert root.level == before
    logs.close()
    assert logs._routed not in root.handlers


def test_the_terminal_gets_a_short_line_only_when_asked(
    workspace: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    configure(workspace, settings(), "hub", clock=Clock())
    channel("trading").error("quiet")
    logging.getLogger("redis").error("quiet")
    configure(workspace, settings(), "hub", console=True, clock=Clock())
    with bind(ENVELOPE):
        channel("trading").info("order.sent", symbol="NSE:INFY", note="a\n\x1b[31mb", password="hunter2xx")
    out, err = capfd.readouterr()
    assert out == ""
    assert err == "12:00:00 trading     order.sent  symbol=NSE:INFY note=a \\u001b[31mb password=***\n"


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────────────────────


def refuse() -> None:
    raise ConnectionError(f"GET /orders?access={CANARY} failed")


def leak() -> None:
    """An exception whose chain and arguments hold the secret."""
    try:
        try:
            refuse()
        except ConnectionError as error:
            raise BrokerError(f"refused {CANARY}", fix=f"log in with {CANARY}", key=CANARY) from error
    except BrokerError:
        raise KeyError({"deep": [CANARY]})  # noqa: B904 - an implicit cause as well


@pytest.mark.parametrize("name", CHANNELS)
def test_a_secret_of_the_settings_reaches_no_channel_in_any_form(workspace: Workspace, name: Any) -> None:
    secret = {"zerodha": {"access_token": CANARY, "api_key": "98765432101"}}
    configure(
        workspace,
        settings(**secret, database={"postgres_url": POSTGRES}),
        "hub",
        console=True,
    )
    log = channel(name)
    log.error(f"event {CANARY}", fact=CANARY, nested={"a": [{CANARY: (CANARY, {"b": f"x{CANARY}y"})}]})
    log.error(
        "forms", url=f"ws://h/?t={CANARY.replace('/', '%2F').replace(' ', '%20')}", shown=repr({"a": CANARY})
    )
    log.error(
        "numbers", key=98765432101, text="98765432101", error=RedisError(f"at {CANARY}"), kind=type(CANARY)
    )
    log.error("parts", one=POSTGRES, two="p@ss-Word", three="p%40ss-Word")
    log.bind(token=CANARY).error("bound")
    with bind(strategy=CANARY):
        log.error("context")
    with contextlib.suppress(KeyError):
        try:
            leak()
        except KeyError:
            log.exception("chain")
            logging.getLogger("redis").exception("chain %s", CANARY)
            raise
    found = everything(workspace.root)
    assert found.count("***") > 15
    for form in (CANARY, "kI9-cAnArY%2FzX8", "98765432101", "ss-Word"):
        assert form not in found
    chain = next(line for line in lines(workspace, name) if line["event"] == "chain")["exception"]
    assert chain.count("***") >= 4
    assert "BrokerError" in chain
    assert "During handling" in chain


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("GET /session?api_key=CANARY&access_token=CANARY&v=3", "v=3"),
        ("{'api_secret': 'CANARY with spaces', 'user': 'AB1234'}", "AB1234"),
        ('{"enctoken":"CANARY==","ok":1}', '"ok":1'),
        (r'body "{\"access_token\": \"CANARY\", \"n\": 1}"', "body"),
        ("Authorization: token CANARY:CANARY", "Authorization: token"),
        ("headers={'Authorization': 'Bearer CANARY'}", "headers="),
        ("using token abcd:CANARY now", "now"),
        ("redis://user:CANARY@10.0.0.1:6379/0", "@10.0.0.1:6379/0"),  # pragma: allowlist secret
        ("redis://:CANARY@localhost", "@localhost"),
        ("ZERODHA__API_SECRET=CANARY", "ZERODHA__API_SECRET"),
        ("request_token: CANARY, next", "next"),
        ("PASSWORD = CANARY", "PASSWORD"),
    ],
)
def test_what_looks_like_a_secret_is_hidden_though_nobody_registered_it(text: str, rest: str) -> None:
    assert "CANARY" not in redact(text)
    assert rest in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "NSE:INFY",
        "crossover:1234:0",
        "instrument_token=408065",
        "https://kite.trade/docs?page=2",
        "token expired",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


def test_facts_are_hidden_by_their_names(workspace: Workspace) -> None:
    configure(workspace, settings(), "hub")
    channel("audit").info(
        "x", api_key="unknown1", inner={"kiteAccessToken": "unknown2"}, instrument_token=408065
    )
    assert "unknown" not in everything(workspace.root)
    assert lines(workspace, "audit")[0]["instrument_token"] == 408065


def test_a_short_secret_is_hidden_only_as_a_word() -> None:
    register_secret("zq7")
    assert redact("say zq7, or xzq7x") == "say ***, or xzq7x"
    register_secret("")
    assert redact("plain") == "plain"


nested = st.recursive(
    st.sampled_from([CANARY, f"..{CANARY}", 5, None]) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.just(CANARY), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(value=nested, before=st.integers(0, 9000), cap=st.sampled_from([40, 200, 1000]))
def test_no_nesting_and_no_cut_shows_a_part_of_a_secret(value: Any, before: int, cap: int) -> None:
    register_secret(CANARY)
    long = "x" * before + CANARY * 3 + "y" * 5000
    line = log_lines.line("audit", "info", NOON, {"event": "e", "value": value, "long": long})
    assert b"cAnArY" not in line
    assert len(line) <= log_lines.LINE
    assert "kI9" not in safe_text(long, cap)
    json.loads(line)


# ── one inert record ─────────────────────────────────────────────────────────────────────────────────────────────


def test_hostile_text_stays_one_harmless_line(workspace: Workspace) -> None:
    hostile = '\n{"level":"info","event":"forged"}\r\x1b[2J\x9b31m\u202eevil\u2028\ud800<script>'
    configure(workspace, settings(), "hub")
    channel("audit").info(hostile, **{hostile: hostile})
    raw = (workspace.logs / "audit.jsonl").read_text("utf-8")
    assert raw.count("\n") == 1
    assert not set(raw) & set("\r\x1b\x9b\u202e\u2028")
    assert lines(workspace, "audit")[0]["event"].startswith('\n{"level"')


def test_a_line_is_never_longer_than_one_write(workspace: Workspace) -> None:
    configure(workspace, settings(), "hub")
    log = channel("application")
    log.info("é" * 10_000_000)
    log.info("wide", **{f"fact{n}": "é" * 5000 for n in range(200)})
    log.info("deep", value=[[[[[[["x" * 500] * 50] * 50] * 50]]]])

    def fall(depth: int) -> None:
        if not depth:
            raise ValueError("bottom " + "z" * 3000)
        fall(depth - 1)

    try:
        fall(50)
    except ValueError:
        log.exception("fell", why="é" * 900)
    assert dropped() == 0
    found = lines(workspace, "application")
    assert len(found) == 4
    assert (
        max(map(len, (workspace.logs / "application.jsonl").read_bytes().splitlines(keepends=True)))
        <= log_lines.LINE
    )
    assert all(line["role"] == "hub" for line in found)


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────

WRITER = """
import sys
from pathlib import Path
from alphapanda import logs
from alphapanda.settings import Settings
from alphapanda.workspace import Workspace

logs.configure(Workspace(Path(sys.argv[1])), Settings(_env_file=None), sys.argv[2], size=int(sys.argv[4]))
log = logs.channel("trading")
for number in range(int(sys.argv[3])):
    log.info("write", number=number, fill="x" * (number % 700))
print(logs.dropped())
"""


def test_processes_share_a_channel_through_many_rotations_and_no_line_is_lost_or_torn(tmp_path: Path) -> None:
    writers, count = 3, 800
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    processes = [
        subprocess.Popen([*command, f"writer{n}", str(count), "100000"], stdout=subprocess.PIPE, text=True)
        for n in range(writers)
    ]
    assert [process.communicate()[0] for process in processes] == ["0\n"] * writers
    files = sorted((tmp_path / ".alphapanda" / "logs").glob("trading*.jsonl"))
    found = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    assert sorted((line["role"], line["number"]) for line in found) == [
        (f"writer{n}", number) for n in range(writers) for number in range(count)
    ]
    assert len(files) > 3


def test_threads_share_a_channel(workspace: Workspace) -> None:
    configure(workspace, settings(), "hub", size=50_000)
    log = channel("trading")
    threads = [threading.Thread(target=lambda: [log.info("x", n=n) for n in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert everything(workspace.root).count('"n":') == 2000


def test_files_are_set_aside_by_day_and_size_and_deleted_after_their_retention(workspace: Workspace) -> None:
    clock, log = Clock(), channel("performance")
    folder = workspace.logs
    foreign = [
        "performance.2000-01-01.jsonl.gz",
        "performance.notes.jsonl",
        "mine.2000-01-01.jsonl",
        "performance.2000-99-99.jsonl",
    ]
    for name in (*foreign, "performance.2000-01-01.3.jsonl", "trading.2024-09-01.jsonl"):
        (folder / name).write_text("x\n")
    (folder / "performance.2001-01-01.jsonl").mkdir()
    (folder / "performance.2002-01-01.jsonl").symlink_to(folder / "mine.2000-01-01.jsonl")
    configure(
        workspace, settings(logging={"performance": {"retention_days": 2}}), "hub", clock=clock, size=1000
    )
    for day in range(5):
        clock.now = NOON + day * DAY
        for number in range(6 if day == 0 else 1):
            log.info("sample", day=day, number=number, text="x" * 200)
    kept = {path.name for path in folder.iterdir()}
    assert {
        *foreign,
        "trading.2024-09-01.jsonl",
        "performance.2001-01-01.jsonl",
        "performance.2002-01-01.jsonl",
    } <= kept
    assert {name for name in kept if name.startswith("performance.20") and name not in foreign} == {
        "performance.2001-01-01.jsonl",
        "performance.2002-01-01.jsonl",
        "performance.2024-10-06.jsonl",
        "performance.2024-10-07.jsonl",
    }
    assert [line["day"] for line in lines(workspace, "performance")] == [4]
    assert dropped() == 0


def test_a_day_ends_at_midnight_in_india_and_survives_a_restart(workspace: Workspace) -> None:
    midnight = 20_001 * DAY - IST_OFFSET_NS
    clock = Clock(midnight - SECOND)
    configure(workspace, settings(), "hub", clock=clock, size=400)
    for number in range(4):
        channel("audit").info("late", number=number, text="x" * 150)
    clock.now = midnight
    configure(workspace, settings(), "hub", clock=clock)
    channel("audit").info("early")
    names = sorted(path.name for path in workspace.logs.glob("audit*.jsonl"))
    assert names == ["audit.2024-10-04.1.jsonl", "audit.2024-10-04.jsonl", "audit.jsonl"]
    assert [line["event"] for line in lines(workspace, "audit")] == ["early"]
    assert ist(clock.now).hour == 0


def test_a_stopped_process_that_holds_the_lock_delays_nobody(workspace: Workspace) -> None:
    import fcntl

    configure(workspace, settings(), "hub", size=300)
    with (workspace.logs / ".rotate").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for number in range(5):
            channel("audit").info("x", number=number)
    assert [line["number"] for line in lines(workspace, "audit")] == [0, 1, 2, 3, 4]
    assert dropped() == 0


def test_a_folder_removed_under_way_is_made_again(workspace: Workspace) -> None:
    clock = Clock()
    configure(workspace, settings(), "hub", clock=clock)
    channel("audit").info("one")
    shutil.rmtree(workspace.logs)
    clock.now += SECOND
    channel("audit").info("two")
    assert [line["event"] for line in lines(workspace, "audit")] == ["two"]


def test_a_folder_that_cannot_be_made_costs_lines_and_nothing_else(tmp_path: Path) -> None:
    in_the_way = tmp_path / "logs"
    in_the_way.write_text("a file")
    workspace = Workspace(tmp_path)
    try:
        configure(workspace, settings(logging={"directory": "logs"}), "hub")
        for number in range(3):
            channel("audit").info("x", number=number)
        assert dropped() == 3
        in_the_way.unlink()
        channel("audit").info("x", number=3)
        channel("audit").info("x", number=4)
    finally:
        logs.close()
    told, *rest = [json.loads(line) for line in (in_the_way / "audit.jsonl").read_text().splitlines()]
    assert (told["event"], told["lost"], told["level"]) == ("log.lines_lost", 3, "warning")
    assert [line["number"] for line in rest] == [3, 4]
    assert (in_the_way.stat().st_mode & 0o777, (in_the_way / "audit.jsonl").stat().st_mode & 0o777) == (
        0o700,
        0o600,
    )


LIMITED = """
import resource, sys
from pathlib import Path
from alphapanda import logs
from alphapanda.settings import Settings
from alphapanda.workspace import Workspace

logs.configure(Workspace(Path(sys.argv[1])), Settings(_env_file=None), "hub")
log = logs.channel("trading")
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
for number in range(200):
    log.info("write", number=number)
lost = logs.dropped()
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
for number in range(200, 210):
    log.info("write", number=number)
print(lost, logs.dropped())
"""


def test_writing_goes_on_when_there_is_room_again_and_says_what_is_missing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=True
    )
    lost, still = map(int, done.stdout.split())
    assert 0 < lost == still < 200
    whole, torn = [], 0
    for line in (tmp_path / ".alphapanda" / "logs" / "trading.jsonl").read_text().splitlines():
        try:
            whole.append(json.loads(line))
        except json.JSONDecodeError:
            torn += 1
    assert torn <= 1
    (told,) = [line for line in whole if line["event"] == "log.lines_lost"]
    assert told["lost"] == lost
    assert [line["number"] for line in whole if "number" in line] == [*range(200 - lost), *range(200, 210)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(place)]
    if os.getuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount; the same is tested with a limit on file size")
    yield place
    logs.close()
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_stops_no_one(small_disk: Path) -> None:
    configure(Workspace(small_disk), settings(), "hub")
    log, ballast = channel("trading"), small_disk / "ballast"
    log.info("before")
    with contextlib.suppress(OSError):
        ballast.write_bytes(b"x" * 300_000)
    for number in range(100):
        log.info("during", number=number, text="x" * random.Random(number).randrange(300))
    lost = dropped()
    assert lost > 50
    ballast.unlink()
    log.info("after")
    found = []
    for line in (small_disk / ".alphapanda" / "logs" / "trading.jsonl").read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            found.append(json.loads(line))
    assert (found[0]["event"], found[-1]["event"]) == ("before", "after")
    assert (found[-2]["event"], found[-2]["lost"]) == ("log.lines_lost", lost)
    assert len(found) == 1 + (100 - lost) + 2


def test_one_process_ends_the_torn_line_of_another(workspace: Workspace) -> None:
    configure(workspace, settings(), "hub")
    (workspace.logs / "audit.jsonl").write_text('{"ts":"2024-10-04T06:30:00.0')
    channel("audit").info("whole")
    last = (workspace.logs / "audit.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["event"] == "whole"


def test_a_line_costs_little(workspace: Workspace, benchmark_lines: Callable[[], float]) -> None:
    configure(workspace, settings(zerodha={"access_token": CANARY}), "hub", "paper")
    assert benchmark_lines() < 1e-3


@pytest.fixture
def benchmark_lines() -> Callable[[], float]:
    def seconds_a_line() -> float:
        from alphapanda.clock import monotonic

        log, start = channel("trading"), monotonic()
        for number in range(500):
            log.info(
                "order.sent", order_id=f"crossover:{number}:0", symbol="NSE:INFY", quantity=100, price=1500.05
            )
        return (monotonic() - start) / 500

    return seconds_a_line

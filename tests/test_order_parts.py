"""The parts of the order path by themselves: the table of states, what errors mean, the limiter, tags, the journal."""

from __future__ import annotations

import inspect
import itertools
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from kiteconnect import exceptions as kite
from urllib3.exceptions import NewConnectionError

from alphapanda.errors import DatabaseError, ValidationError
from alphapanda.zerodha import states
from alphapanda.zerodha.intents import ALPHABET, tag_of
from alphapanda.zerodha.limits import PER_DAY, Limiter
from alphapanda.zerodha.orderpath import OrderPath
from alphapanda.zerodha.outcomes import of_answer, of_error
from alphapanda.zerodha.policy import Call, Policy
from alphapanda.zerodha.reading import Row, Trade
from alphapanda.zerodha.store import Store
from alphapanda.zerodha.wallclock import WallClock
from tests.order_rig import made

SECOND = 10**9
EVENTS = sorted({event for _, event in states.NEXT})
T = 1_795_149_000 * SECOND  # a Friday morning in India


# ── the table ────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.lists(st.sampled_from(EVENTS), max_size=30))
def test_whatever_happens_one_post_at_most_is_allowed_at_a_time(events: list[str]) -> None:
    state, may_be_out = states.CREATED, False
    for event in events:
        try:
            after = states.advance(state, event)
        except states.ImpossibleTransition:
            continue
        if event == states.CLAIM:
            assert state == states.CREATED
            assert not may_be_out, "a second POST"
        may_be_out = after not in (states.CREATED, states.DENIED, states.EXPIRED)
        state = after


def test_what_the_broker_shows_is_believed_in_every_state() -> None:
    known = states.ENDED | states.POSTED | {states.CREATED}
    for state in known - states.AT_BROKER - {states.FILLED}:
        assert states.advance(state, states.SEEN) == states.WORKING
    assert {after for (_, event), after in states.NEXT.items() if after == states.SENDING} == {states.SENDING}
    assert [pair for pair, after in states.NEXT.items() if after == states.SENDING] == [
        (states.CREATED, states.CLAIM)
    ]


# ── what an error means ──────────────────────────────────────────────────────────────────────────────────────────

KITE = [one for _, one in inspect.getmembers(kite, inspect.isclass) if issubclass(one, Exception)]
CODES = (200, 302, 307, 400, 403, 404, 405, 410, 428, 429, 500, 502, 503, 504)
TEXTS = (
    "",
    "Order request timed out. Please check the order book",
    "Insufficient funds. Required margin is 1",
    "x",
)
REQUESTS = [
    one for _, one in inspect.getmembers(requests.exceptions, inspect.isclass) if issubclass(one, Exception)
]
BUILTIN = [
    KeyError,
    TypeError,
    AttributeError,
    ValueError,
    OSError,
    RuntimeError,
    MemoryError,
    TimeoutError,
    Exception,
]


@pytest.mark.parametrize(("kind", "code", "text"), [*itertools.product(KITE, CODES, TEXTS)])
def test_only_what_is_listed_is_a_refusal(kind: type[Exception], code: int, text: str) -> None:
    outcome = of_error(kind(text, code=code))  # pyright: ignore[reportCallIssue]
    listed = (
        kind in (kite.TokenException, kite.PermissionException)
        or (kind is kite.NetworkException and code == 429)
        or (kind is kite.InputException and code == 400 and "timed out" not in text)
        or (kind is kite.GeneralException and code == 400 and "margin" in text)
    )
    assert outcome.kind == ("refused" if listed else "open")


@pytest.mark.parametrize("kind", [*REQUESTS, *BUILTIN])
def test_what_nobody_thought_of_is_open(kind: type[Exception]) -> None:
    try:
        error = kind("said")
    except TypeError:
        error = kind("said", "doc", 0)  # a JSONDecodeError
    expected = "unsent" if isinstance(error, requests.exceptions.ConnectTimeout) else "open"
    assert of_error(error).kind == expected


def test_no_connection_is_unsent_and_a_broken_one_is_open() -> None:
    refused = NewConnectionError(None, "refused")  # pyright: ignore[reportArgumentType]
    assert of_error(requests.exceptions.ConnectionError(refused)).kind == "unsent"
    assert of_error(requests.exceptions.ConnectionError("aborted")).kind == "open"


@pytest.mark.parametrize("given", [None, "", 0, 1, {}, [], True, b"1"])
def test_only_an_order_id_is_an_answer(given: object) -> None:
    assert of_answer(given).kind == "open"
    assert of_answer("1").kind == "received"


# ── the limiter ──────────────────────────────────────────────────────────────────────────────────────────────────


@given(
    st.lists(st.tuples(st.floats(0, 0.4), st.booleans()), min_size=1, max_size=400), st.integers(0, SECOND)
)
def test_no_phase_of_the_brokers_clock_sees_too_many(asks: list[tuple[float, bool]], phase: int) -> None:
    limiter, now, left = Limiter(), 0, list[int]()
    for pause, cancel in asks:
        now += int(pause * SECOND)
        if limiter.wait(now, 0, cancel) == 0:
            limiter.count(now, 0)
            left.append(now)
    for window, most in ((SECOND, 10), (60 * SECOND, 400)):
        counts: dict[int, int] = {}
        for at in left:
            counts[(at + phase) // window] = counts.get((at + phase) // window, 0) + 1
        assert max(counts.values()) <= most


def test_cancels_have_room_that_orders_leave_free() -> None:
    limiter = Limiter()
    while limiter.wait(0, 0) == 0:
        limiter.count(0, 0)
    assert limiter.wait(0, 0, cancel=True) == 0
    day = Limiter(windows=((0.0, 10**9),))
    for _ in range(PER_DAY):
        day.count(0, 1)
    assert (day.wait(0, 1), day.wait(0, 1, cancel=True), day.wait(0, 2)) == (-1, -1, 0)


def test_an_account_that_starts_again_has_made_its_calls(tmp_path: Path) -> None:
    path, call = begun(tmp_path / "j.sqlite")
    path.answered(call, of_answer("1"), T)
    path.cancel("one", "enough", T)
    calls = [path.next_call(T + SECOND, T + SECOND, 1) for _ in range(2)]
    assert [one.kind for one in calls if one is not None] == ["book", "cancel"]
    path.store.close()
    limiter = Limiter(windows=((60.0, 10),), per_day=3)
    after = OrderPath(Store(tmp_path / "j.sqlite"), Policy(), limiter, T + 2 * SECOND)
    after.next_call(T + 2 * SECOND, SECOND, 1)  # another monotonic clock: the machine has started anew
    assert limiter.wait(SECOND, 1) == -1, "two of three are spent, the third is for a cancel"
    assert limiter.wait(SECOND, 1, cancel=True) == 0
    limiter.count(SECOND, 1)
    assert limiter.wait(SECOND, 1, cancel=True) == -1
    after.store.close()


def test_a_clock_that_was_set_is_told_from_sleep_slewing_and_a_pause() -> None:
    clock, tick = WallClock(), 1000 * SECOND
    asleep = [(T, tick), (T + 3600 * SECOND, tick + 3600 * SECOND)]
    slewed = [(T + 3601 * SECOND, tick + 3600 * SECOND), (T + 3602 * SECOND, tick + 3600 * SECOND)]
    assert [clock.moved(*both) for both in asleep + slewed] == [0.0] * 4
    assert clock.moved(T + 3602 * SECOND, tick + 3630 * SECOND) == 0.0, "stopped between two readings"
    assert clock.moved(T + 3632 * SECOND, tick + 3630 * SECOND) == 0.0
    assert clock.moved(T, tick + 3631 * SECOND) == 0.0, "not yet believed"
    assert clock.moved(T + SECOND, tick + 3632 * SECOND) == -3633.0
    assert clock.moved(T + 2 * SECOND, tick + 3633 * SECOND) == 0.0


def test_tags_are_short_plain_and_distinct() -> None:
    tags = {tag_of(f"{number:032x}") for number in range(100_000)}
    assert len(tags) == 100_000
    assert all(len(tag) == 20 and tag[0] == "P" and set(tag[1:]) <= set(ALPHABET) for tag in tags)


# ── one order's history ──────────────────────────────────────────────────────────────────────────────────────────


def row(status: str, filled: int, tag: str, order_id: str = "1") -> Row:
    return Row(order_id, tag, status, "NSE:INFY", "MIS", "BUY", 10, filled, 1548.0, 0.0, T + SECOND)


def begun(path: Path) -> tuple[OrderPath, Call]:
    """A path that has posted one order of ten and waits for its answer."""
    made_path = OrderPath(Store(path), Policy(), Limiter(), T)
    look = made_path.next_call(T, T, 1)
    assert look is not None
    assert look.kind == "book"
    made_path.book(look, [], [], T)
    made_path.submit([made("one", quantity=10, created=T, expires=T + 10 * SECOND)], T)
    call = made_path.next_call(T, T, 1)
    assert call is not None
    assert call.kind == "place"
    return made_path, call


def test_all_orders_of_six_messages_come_to_one_end(tmp_path: Path) -> None:
    ends: set[tuple[str, int, int]] = set()
    for number, turns in enumerate(itertools.permutations(range(6))):
        if number % 6:
            continue  # 120 of the 720: each is a journal on disk
        path, call = begun(tmp_path / f"{number}.sqlite")
        tag = path.intents[call.key].tag
        trades = [Trade("a", "1", 4, 154_800), Trade("b", "1", 6, 154_700)]
        books = ((0, "OPEN", 4, trades[:1]), (1, "OPEN", 4, trades[:1]), (2, "COMPLETE", 10, trades))
        for turn in turns:
            if turn < 3:
                _, status, filled, shown = books[turn]
                path.book(
                    Call(99 + turn, "book", T + SECOND), [row(status, filled, tag)], shown, T + 2 * SECOND
                )
            elif turn == 3:
                path.answered(call, of_answer("1"), T + SECOND)
            else:
                path.heard(
                    row("UPDATE" if turn == 4 else "COMPLETE", 4 if turn == 4 else 10, tag), T + SECOND
                )
        intent = path.intents[call.key]
        ends.add((intent.state, intent.filled, intent.turnover))
        path.store.close()
    assert ends == {("filled", 10, 4 * 154_800 + 6 * 154_700)}


def test_a_refused_order_that_is_there_is_taken_on(tmp_path: Path) -> None:
    path, call = begun(tmp_path / "j.sqlite")
    intent = path.intents[call.key]
    path.answered(call, of_error(kite.NetworkException("Too many requests", code=429)), T)
    assert intent.state == "rejected"
    path.book(
        Call(9, "book", T + 1), [row("COMPLETE", 10, intent.tag)], [Trade("a", "1", 10, 154_800)], T + SECOND
    )
    assert (intent.state, intent.filled, path.held("r", "NSE:INFY", "MIS")) == ("filled", 10, 10)
    path.store.close()


def test_a_journal_from_a_backup_sends_nothing_that_the_book_shows(tmp_path: Path) -> None:
    intent = made("old", quantity=10, created=T, expires=T + 10 * SECOND)
    before = Store(tmp_path / "j.sqlite")
    before.take_over()
    before.create([intent])
    before.close()
    path = OrderPath(Store(tmp_path / "j.sqlite"), Policy(), Limiter(), T)
    look = path.next_call(T, T, 1)
    assert look is not None
    assert look.kind == "book"
    path.book(look, [row("OPEN", 0, intent.tag)], [], T + SECOND)
    assert path.intents[intent.key].state == "working"
    following = path.next_call(T + SECOND, T + SECOND, 1)
    assert following is not None
    assert following.kind == "cancel"
    path.store.close()


# ── the journal ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_same_key_with_other_terms_is_a_conflict(tmp_path: Path) -> None:
    store = Store(tmp_path / "j.sqlite")
    store.take_over()
    assert store.create([made("x")])
    assert not store.create([made("x")])
    with pytest.raises(ValidationError, match="conflicting decision"):
        store.create([made("new"), made("x", quantity=2)])
    assert [one.order for one in store.intents()] == ["x"]
    store.close()


def test_who_was_followed_writes_nothing(tmp_path: Path) -> None:
    first, second = Store(tmp_path / "j.sqlite"), Store(tmp_path / "j.sqlite")
    first.take_over()
    intent = made("x")
    first.create([intent])
    second.take_over()
    with pytest.raises(DatabaseError, match="another gateway"):
        first.claim(intent, T)
    assert (intent.state, first.in_charge) == ("created", False)
    first.close()
    second.close()


def test_a_full_disk_changes_nothing_and_passes(tmp_path: Path) -> None:
    store = Store(tmp_path / "j.sqlite")
    store.take_over()
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]  # pyright: ignore[reportPrivateUsage]
    store._db.execute(f"PRAGMA max_page_count = {pages + 3}")  # pyright: ignore[reportPrivateUsage]
    kept = 0
    with pytest.raises(DatabaseError, match="full"):  # noqa: PT012 - how many fit is not known
        for kept in range(1000):
            store.create([made(f"order {kept}")])
    assert len(list(store.intents())) == kept
    store._db.execute("PRAGMA max_page_count = 100000")  # pyright: ignore[reportPrivateUsage]
    assert store.create([made(f"order {kept}")])
    store.close()


CHILD = """
import sys
from tests.order_rig import made
from alphapanda.traders.reports import Report
from alphapanda.zerodha.store import Store
from alphapanda.zerodha.wallclock import WallClock
store = Store(__import__("pathlib").Path(sys.argv[1]))
store.take_over()
for number in range(100_000):
    intent = made(f"{number}")
    store.create([intent])
    store.claim(intent, intent.created)
    store.move(intent, "seen", "test", 1, [Report("accepted", intent.order, "r")], order_id=str(number))
    print(number, flush=True)
"""


def test_what_was_said_to_be_written_survives_a_kill(tmp_path: Path) -> None:
    journal = tmp_path / "j.sqlite"
    surroundings = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    asked = [sys.executable, "-c", CHILD, str(journal)]
    with subprocess.Popen(asked, stdout=subprocess.PIPE, text=True, env=surroundings) as child:
        assert child.stdout is not None
        said = [int(child.stdout.readline()) for _ in range(40)]
        child.send_signal(signal.SIGKILL)
        said += [int(line) for line in child.stdout if line.endswith("\n")]
    store = Store(journal)
    on_record = {one.order: one for one in store.intents()}
    assert all(on_record[str(number)].state == "working" for number in said)
    assert len(on_record) <= len(said) + 1
    numbers = [number for number, _ in store.reports(0)]
    assert numbers == list(range(1, len(numbers) + 1))
    store.close()
    with sqlite3.connect(journal) as db:
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    db.close()


def test_whatever_of_the_last_commits_is_torn_off_the_rest_is_whole(tmp_path: Path) -> None:
    """A power cut keeps what was synced and any part of what was not: the log is cut here at every sixteenth of a
    page."""
    store = Store(tmp_path / "j.sqlite")
    store.take_over()
    for number in range(6):
        intent = made(f"{number}")
        store.create([intent])
        store.claim(intent, intent.created)
    main, log = (tmp_path / "j.sqlite").read_bytes(), (tmp_path / "j.sqlite-wal").read_bytes()
    claimed: list[int] = []
    for end in (*range(len(log) // 2, len(log), 256), len(log)):
        torn = tmp_path / f"{end}.sqlite"
        torn.write_bytes(main)
        Path(f"{torn}-wal").write_bytes(log[:end])
        kept = Store(torn)
        states_kept = [one.state for one in kept.intents()]
        assert all(state == "sending" for state in states_kept[:-1])
        claims = sum(after == "sending" for _, _, after, _, _ in kept.lines())
        assert claims == states_kept.count("sending"), "a state and its line are one commit"
        claimed.append(claims)
        kept.close()
    store.close()
    assert claimed == sorted(claimed)
    assert claimed[0] < claimed[-1] == 6

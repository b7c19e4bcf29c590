"""Shared state on a real server: typed, atomic, mortal where it says so, and never outside its namespace."""

from __future__ import annotations

import asyncio
import datetime
import os
import random
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from redis.asyncio import Redis

from alphapanda.errors import AuthorizationError, DataError, RedisError, TransientError, ValidationError
from alphapanda.settings import RedisSettings
from alphapanda.state.base import merged
from alphapanda.state.client import open_client
from alphapanda.state.lease import Lease
from alphapanda.state.managers import (
    BaseStateManager,
    CollectionStateManager,
    DocumentStateManager,
    KeyValueStateManager,
)
from alphapanda.state.portfolio_cache import PortfolioCache
from alphapanda.state.risk_state import RecentPrice, RiskStateManager

if TYPE_CHECKING:
    from tests.conftest import OwnValkey

DAY = datetime.date(2026, 11, 23)
PATIENT = RedisSettings(timeout_seconds=20)  # the machine of a test may be busy
IMPATIENT = RedisSettings(timeout_seconds=1)


class Held(msgspec.Struct):
    """A position as the risk books hold it."""

    quantity: int
    realized: int = 0
    average: float = 0.0


@pytest.fixture
def socket(valkey: OwnValkey) -> Path:
    """The shared server, empty."""
    valkey.flush()
    return valkey.socket


def on(socket: Path, main: Callable[[Redis], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine with a client of that server."""

    async def body() -> None:
        async with open_client(socket, PATIENT) as client:
            await main(client)

    asyncio.run(body())


async def clients(socket: Path, number: int, work: Callable[[Redis, int], Awaitable[Any]]) -> list[Any]:
    """The same work on that many connections at once."""

    async def one(index: int) -> Any:
        async with open_client(socket, PATIENT) as client:
            return await work(client, index)

    return await asyncio.gather(*map(one, range(number)))


def processes(socket: Path, number: int, script: str) -> list[str]:
    """What so many processes print that run a script at once; ``client`` is there."""
    lines = "\n".join(f"    {line}" for line in script.strip().splitlines())
    whole = f"""
import asyncio, sys
from pathlib import Path
from alphapanda.settings import RedisSettings
from alphapanda.state.client import open_client
from alphapanda.state.managers import *
async def main(client):
{lines}
async def body():
    async with open_client(Path(sys.argv[1]), RedisSettings(timeout_seconds=20)) as client:
        await main(client)
asyncio.run(body())
"""
    command = [sys.executable, "-c", whole, str(socket)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(number)]
    said = [process.communicate(timeout=30)[0].strip() for process in started]
    assert [process.returncode for process in started] == [0] * number
    return said


# ── keys ────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "namespace", ["", "a:b", "*", "Paper", "pa per", "paper\n", "paper:", "{paper}", "../x"]
)
def test_a_namespace_that_could_leave_itself_is_refused(namespace: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError) as caught:
        KeyValueStateManager(tmp_path / "never-opened", namespace)
    assert caught.value.code == "E_LANE"


@pytest.mark.parametrize("identifier", ["", "a\nb", "a\0", "x" * 513, "\ud800", "\x7f"])
def test_an_identifier_that_cannot_be_read_back_is_refused(identifier: str, tmp_path: Path) -> None:
    values = KeyValueStateManager(tmp_path / "never-opened", "paper")
    with pytest.raises(ValidationError) as caught:
        values.key(identifier)
    assert caught.value.code == "E_KEY"


@pytest.mark.parametrize("kind", ["a:b", "*", "A", "-a", " "])
def test_a_kind_holds_no_separator(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        DocumentStateManager(tmp_path / "never-opened", "paper", kind)


def test_keys_are_namespace_kind_identifier(socket: Path) -> None:
    async def main(client: Redis) -> None:
        await KeyValueStateManager(client, "paper", "limit").set("NSE:INFY", 1)
        await DocumentStateManager(client, "paper", "run").put("a1", {})
        await CollectionStateManager(client, "paper", "book").put("open", "NSE:INFY", {"quantity": 1})
        await PortfolioCache(client, "zerodha").put("main", {})
        books = RiskStateManager(client, "paper")
        await books.count("orders", DAY)
        await books.set_prices({"NSE:INFY": RecentPrice(1500.05, 1)})
        await books.put_position("NSE:INFY:MIS", Held(5))
        assert sorted(await client.keys()) == [
            b"paper:book:open:NSE:INFY",
            b"paper:limit:NSE:INFY",
            b"paper:risk:counter:orders:2026-11-23",
            b"paper:risk:position:NSE:INFY:MIS",
            b"paper:risk:price:NSE:INFY",
            b"paper:run:a1",
            b"zerodha:portfolio:main",
        ]

    on(socket, main)


HOSTILE = [
    "zerodha:risk:counter:orders",
    "../../zerodha",
    "*",
    "?[a-z]*",
    "[",
    "\\*",
    "{zerodha}",
    "zerodha",
    ":",
    "::zerodha::",
    "a b",
    "ключ",
    "'; redis.call('FLUSHALL') --",
    "${IFS}",
    "%s%d",
    "paper:lease:x",
    "x" * 512,
    "x" * 513,
    "",
    "\0",
    "a\r\nFLUSHALL\r\n",
    "\ud800",
]


@pytest.mark.parametrize("seed", [1, 2])
def test_no_operation_touches_a_key_outside_its_namespace(socket: Path, seed: int) -> None:
    """10,000 random operations with hostile names, beside the keys of others."""
    draw = random.Random(seed)

    def name() -> str:
        return draw.choice(HOSTILE) if draw.random() < 0.8 else str(draw.randrange(5))

    def number() -> int:
        return draw.randrange(-3, 100)

    async def main(client: Redis) -> None:
        others = ["zerodha", "zerodha:risk:counter:orders", "paperx:value:1", "pape:value:1", "value:1", "*"]
        for other in others:
            await client.set(other, "theirs")
        values, documents = KeyValueStateManager(client, "paper"), DocumentStateManager(client, "paper")
        items, books = CollectionStateManager(client, "paper"), RiskStateManager(client, "paper")
        cache = PortfolioCache(client, "paper")
        operations: list[Callable[[], Awaitable[Any]]] = [
            lambda: values.set(name(), number(), draw.choice([None, 0.001, 5, -1])),
            lambda: values.get(name(), int),
            lambda: values.mget([name(), name()], int),
            lambda: values.increment(name(), number(), 9),
            lambda: values.increment_within(name(), number(), number()),
            lambda: values.decrease(name(), number()),
            lambda: values.compare_and_set(name(), number(), number()),
            lambda: values.delete(name(), name()),
            lambda: values.names(name()),
            lambda: documents.put(name(), {name(): number()}),
            lambda: documents.merge(name(), {"a": {"b": number()}}),
            lambda: documents.read(name(), dict[str, Any]),
            lambda: documents.delete(name()),
            lambda: items.put(name(), name(), {"a": number()}),
            lambda: items.put("open", name(), {name(): number()}),
            lambda: items.add("open", name(), {draw.choice("ab"): number()}),
            lambda: items.all("open", dict[str, Any], name()),
            lambda: items.scan(name(), name()),
            lambda: items.remove("open", name()),
            lambda: items.delete(name()),
            lambda: cache.put(name(), number()),
            lambda: books.reserve(name(), DAY, number(), 50),
            lambda: books.release(name(), DAY, number()),
            lambda: books.add_to_position(name(), {"quantity": number()}),
            lambda: books.positions(dict[str, Any], name()),
            lambda: books.set_prices({name(): RecentPrice(1.0, 1)}),
            lambda: Lease(client, "paper", name(), name()).acquire(),
        ]

        async def several(count: int) -> int:
            done = 0
            for _ in range(count):
                try:
                    await draw.choice(operations)()
                    done += 1
                except (ValidationError, RedisError, DataError, AuthorizationError):
                    pass  # refused: all that matters here is what it left
            return done

        done = sum(await asyncio.gather(*(several(1000) for _ in range(10))))
        assert done > 4000
        ours = [key async for key in client.scan_iter(count=1000)]
        assert sorted(key for key in ours if not key.startswith(b"paper:")) == sorted(map(str.encode, others))
        assert await client.mget(others) == [b"theirs"] * len(others)
        assert len(ours) > len(others) + 20

    on(socket, main)


# ── errors ──────────────────────────────────────────────────────────────────────────────────────
def test_a_failure_says_operation_key_namespace_and_cause(socket: Path) -> None:
    async def main(client: Redis) -> None:
        await client.hset("paper:value:a", "not", "a string")
        values = KeyValueStateManager(client, "paper")
        with pytest.raises(RedisError) as caught:
            await values.increment("a")
        assert caught.value.context == {
            "operation": "increment",
            "key": "paper:value:a",
            "namespace": "paper",
            "cause": "refused",
        }
        assert caught.value.fix
        assert isinstance(caught.value, TransientError)

    on(socket, main)


def test_nobody_there_is_unreachable_and_hides_the_password(tmp_path: Path) -> None:
    async def main() -> None:
        settings = RedisSettings.model_validate({"password": "made-up-secret"})
        async with KeyValueStateManager(tmp_path / "nobody", "paper", settings=settings) as values:
            with pytest.raises(RedisError) as caught:
                await values.get("a", int)
        assert caught.value.context["cause"] == "unreachable"
        assert "made-up-secret" not in repr((caught.value, caught.value.context, str(caught.value)))

    asyncio.run(main())


def test_another_type_than_asked_for_is_a_data_error(socket: Path) -> None:
    async def main(client: Redis) -> None:
        values = KeyValueStateManager(client, "paper")
        await values.set("a", "text")
        with pytest.raises(DataError, match="paper:value:a holds no int"):
            await values.get("a", int)
        with pytest.raises(ValidationError, match="cannot be kept"):
            await values.set("a", object())

    on(socket, main)


def test_the_base_class_is_abstract(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        BaseStateManager(tmp_path, "paper", "value")  # type: ignore[abstract]


def test_health_is_a_write_that_comes_back(own_valkey: OwnValkey) -> None:
    async def main(client: Redis) -> None:
        values = KeyValueStateManager(client, "paper")
        first = await values.health_check()
        assert 0 < first.latency_ms < 5000
        own_valkey.kill()
        with pytest.raises(RedisError):
            await values.health_check()
        own_valkey.start()
        assert (await values.health_check()).run_id != first.run_id

    on(own_valkey.socket, main)


def test_a_client_that_was_given_is_not_closed(socket: Path) -> None:
    async def main(client: Redis) -> None:
        async with KeyValueStateManager(client, "paper") as values:
            await values.set("a", 1)
        assert client.connection_pool._available_connections  # type: ignore[attr-defined]

    on(socket, main)


def test_a_client_that_decodes_reads_the_same(socket: Path) -> None:
    async def main() -> None:
        async with Redis(unix_socket_path=str(socket), decode_responses=True) as client:
            values, documents = KeyValueStateManager(client, "paper"), DocumentStateManager(client, "paper")
            items, lease = CollectionStateManager(client, "paper"), Lease(client, "paper", "gateway", "me")
            await values.set("a", 1.5)
            await documents.merge("d", {"a": 2**62})
            await items.put("open", "x", Held(5))
            assert await values.get("a", float) == 1.5
            assert await documents.get("d", dict) == {"a": 2**62}
            assert await items.all("open", Held) == {"x": Held(5)}
            assert await items.add("open", "x", {"quantity": 1}) == {"quantity": 6}
            await lease.acquire()
            holder = await lease.holder()
            assert holder is not None
            assert holder.owner == "me"

    asyncio.run(main())


# ── values ──────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("value", [0, -1, 2**63 - 1, 1.5, "text", "", True, [1, "a"], {"b": 1, "a": [None]}])
def test_a_value_is_read_as_it_was_written(socket: Path, value: Any) -> None:
    async def main(client: Redis) -> None:
        values = KeyValueStateManager(client, "paper")
        assert await values.get("a", type(value)) is None
        await values.set("a", value)
        assert await values.get("a", type(value)) == value
        assert await values.delete("a", "b") == 1
        assert await values.get("a", type(value)) is None

    on(socket, main)


def test_many_values_in_one_step(socket: Path) -> None:
    async def main(client: Redis) -> None:
        values = KeyValueStateManager(client, "paper")
        await values.set_all({f"n{i}": i for i in range(100)}, ttl=100)
        assert await values.mget([f"n{i}" for i in range(0, 102, 2)], int) == {
            f"n{i}": i for i in range(0, 100, 2)
        }
        assert await values.names("n1?") == [f"n1{i}" for i in range(10)]
        assert await values.mget([], int) == {}
        await values.set_all({})
        assert await values.delete() == 0

    on(socket, main)


def test_values_end_when_they_were_told_to(socket: Path) -> None:
    async def main(client: Redis) -> None:
        values = KeyValueStateManager(client, "paper")
        await values.set("short", 1, ttl=0.05)
        await values.set("long", 1, ttl=1000)
        assert 990_000 < await client.pttl("paper:value:long") <= 1_000_000
        await values.set("long", 1)
        assert await client.pttl("paper:value:long") == -1
        await asyncio.sleep(0.2)
        assert await values.get("short", int) is None
        for wrong in (0, -1, float("nan"), float("inf")):
            with pytest.raises(ValidationError):
                await values.set("a", 1, ttl=wrong)

    on(socket, main)


def test_a_counters_life_starts_with_its_first_increment(socket: Path) -> None:
    async def main(client: Redis) -> None:
        values = KeyValueStateManager(client, "paper")
        assert await values.increment("a", ttl=100) == 1
        await values.increment("a", 4, ttl=1000)
        assert 0 < await client.pttl("paper:value:a") <= 100_000
        assert await values.get("a", int) == 5
        assert await values.increment("b", -3) == -3
        assert await client.pttl("paper:value:b") == -1
        assert await values.increment("b", 1, ttl=50) == -2
        assert 0 < await client.pttl("paper:value:b") <= 50_000

    on(socket, main)


def test_amounts_that_would_be_rounded_are_refused(socket: Path) -> None:
    async def main(client: Redis) -> None:
        values = KeyValueStateManager(client, "paper")
        for wrong in (2**53 + 1, 1.5, True, -1):
            with pytest.raises(ValidationError):
                await values.increment_within("a", wrong, 10)  # type: ignore[arg-type]
        assert (await values.increment_within("a", 2**53 - 1, 2**53)).value == 2**53 - 1
        assert (await values.increment_within("a", 2, 2**53)) == (False, 2**53 - 1)
        assert (await values.increment_within("a", 1, 2**53)) == (True, 2**53)
        assert await values.decrease("a", 2**53 - 1) == 1

    on(socket, main)


def test_compare_and_set(socket: Path) -> None:
    async def main(client: Redis) -> None:
        values = KeyValueStateManager(client, "paper")
        assert not await values.compare_and_set("a", 1, 2)
        assert await values.compare_and_set("a", None, {"b": 1, "a": 2})
        assert not await values.compare_and_set("a", None, 1)
        assert await values.compare_and_set(
            "a", {"a": 2, "b": 1}, 7, ttl=10
        )  # the order of keys is no difference
        assert 0 < await client.pttl("paper:value:a") <= 10_000
        assert await values.increment("a") == 8
        assert await values.compare_and_set("a", 8, 9)
        assert await client.pttl("paper:value:a") == -1

    on(socket, main)


def test_compare_and_set_has_one_winner(socket: Path) -> None:
    async def claim(client: Redis, index: int) -> bool:
        return await KeyValueStateManager(client, "paper").compare_and_set("a", None, index)

    assert sum(asyncio.run(clients(socket, 20, claim))) == 1


# ── limits under load ───────────────────────────────────────────────────────────────────────────
def test_a_limit_holds_however_many_reserve(socket: Path) -> None:
    async def reserve(client: Redis, index: int) -> list[int]:
        books = RiskStateManager(client, "paper")
        taken = await asyncio.gather(*(books.reserve("orders", DAY, 3, 100) for _ in range(40)))
        return [value for allowed, value in taken if allowed]

    taken = [value for some in asyncio.run(clients(socket, 8, reserve)) for value in some]
    assert sorted(taken) == list(range(3, 100, 3))  # each saw a counter of its own; 99 is the last that fits


def test_a_limit_holds_between_processes(socket: Path) -> None:
    said = processes(
        socket,
        2,
        """
values = KeyValueStateManager(client, "paper")
await values.increment("here")
while (await values.get("here", int) or 0) < 2:
    await asyncio.sleep(0.001)
taken = await asyncio.gather(*(values.increment_within("orders", 1, 300) for _ in range(250)))
print(sum(allowed for allowed, _ in taken))
""",
    )
    assert sum(map(int, said)) == 300


def test_what_is_released_can_be_reserved_again(socket: Path) -> None:
    async def main(client: Redis) -> None:
        books = RiskStateManager(client, "paper")
        assert await books.reserve("orders", DAY, 8, 10) == (True, 8)
        assert await books.reserve("orders", DAY, 3, 10) == (False, 8)
        assert await books.release("orders", DAY, 5) == 3
        assert await books.reserve("orders", DAY, 3, 10) == (True, 6)
        assert await books.release("orders", DAY, 100) == 0
        assert await books.release("never", DAY, 1) == 0
        assert await books.counted("orders", DAY) == 0
        assert await books.counted("never", DAY) == 0
        assert await books.count("loss", DAY, -250) == -250
        assert await books.release("loss", DAY, 5) == -250
        assert await books.reserve("orders", DAY + datetime.timedelta(days=1), 10, 10) == (True, 10)

    on(socket, main)


def test_counters_live_two_days_and_prices_an_hour(socket: Path) -> None:
    async def main(client: Redis) -> None:
        books = RiskStateManager(client, "paper")
        await books.reserve("orders", DAY, 1, 10)
        await books.count("loss", DAY)
        await books.set_prices({"NSE:INFY": RecentPrice(1500.05, 7), "NSE:TCS": RecentPrice(3100.0, 8)})
        await books.put_position("NSE:INFY:MIS", Held(5))
        two_days, hour = 2 * 86_400_000, 3_600_000
        for counter in ("orders", "loss"):
            left = await client.pttl(f"paper:risk:counter:{counter}:2026-11-23")
            assert two_days - 60_000 < left <= two_days
        assert hour - 60_000 < await client.pttl("paper:risk:price:NSE:INFY") <= hour
        assert await client.pttl("paper:risk:position:NSE:INFY:MIS") == -1
        wanted = {"NSE:INFY": RecentPrice(1500.05, 7)}
        assert await books.prices(["NSE:INFY", "NSE:SBIN"]) == wanted
        for wrong in (0.0, -1.0, float("nan"), float("inf")):
            with pytest.raises(ValidationError):
                await books.set_prices({"NSE:INFY": RecentPrice(wrong, 1)})
        assert await books.prices(["NSE:INFY"]) == wanted

    on(socket, main)


def test_fills_from_several_processes_add_up(socket: Path) -> None:
    async def fill(client: Redis, index: int) -> None:
        books = RiskStateManager(client, "paper")
        for _ in range(50):
            await books.add_to_position("NSE:INFY:MIS", {"quantity": 2, "realized": -(10**12) - index})

    async def main(client: Redis) -> None:
        await clients(socket, 8, fill)
        books = RiskStateManager(client, "paper")
        wanted = Held(quantity=800, realized=-50 * sum(10**12 + index for index in range(8)))
        assert await books.position("NSE:INFY:MIS", Held) == wanted
        await books.put_position("NSE:TCS:MIS", Held(1))
        assert await books.positions(Held, "NSE:I*") == {"NSE:INFY:MIS": wanted}
        assert await books.remove_positions("NSE:INFY:MIS", "NSE:SBIN:MIS") == 1
        assert list(await books.positions(Held)) == ["NSE:TCS:MIS"]

    on(socket, main)


# ── documents ───────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("old", "patch", "new"),
    [  # the table of RFC 7396
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_is_the_standards(old: Any, patch: Any, new: Any) -> None:
    before = msgspec.json.encode(old)
    assert merged(old, patch) == new
    assert msgspec.json.encode(old) == before


def test_documents_keep_64_bit_times_and_empty_lists(socket: Path) -> None:
    async def main(client: Redis) -> None:
        documents = DocumentStateManager(client, "paper", "run")
        document = {
            "tape_ts": 1763865300123456789,
            "orders": [],
            "curve": [[1763865300123456789, -5]],
            "m": {},
        }
        await documents.put("a1", document)
        assert await documents.get("a1", dict) == document
        await documents.merge("a1", {"m": {"x": 1763865300123456788}})
        assert await documents.get("a1", dict) == {**document, "m": {"x": 1763865300123456788}}
        assert await documents.get("none", dict) is None
        assert (await documents.mget(["a1", "none"], dict)).keys() == {"a1"}
        assert await documents.names() == ["a1"]

    on(socket, main)


def test_no_change_of_many_is_lost(socket: Path) -> None:
    async def change(client: Redis, index: int) -> None:
        documents = DocumentStateManager(client, "paper")
        for turn in range(5):
            await documents.merge("shared", {"by": {f"{index}": turn}, f"{index}-{turn}": 1})

    async def main(client: Redis) -> None:
        await clients(socket, 12, change)
        found = await DocumentStateManager(client, "paper").get("shared", dict) or {}
        assert found.pop("by") == {f"{index}": 4 for index in range(12)}
        assert found == {f"{index}-{turn}": 1 for index in range(12) for turn in range(5)}

    on(socket, main)


def test_two_processes_change_one_document(socket: Path) -> None:
    processes(
        socket,
        2,
        """
import os
documents = DocumentStateManager(client, "paper")
for turn in range(100):
    await documents.merge("shared", {f"{os.getpid()}-{turn}": 1})
""",
    )

    async def main(client: Redis) -> None:
        found = await DocumentStateManager(client, "paper").get("shared", dict) or {}
        assert len(found) == 200

    on(socket, main)


def test_a_version_that_was_overtaken_is_refused(socket: Path) -> None:
    async def main(client: Redis) -> None:
        cache = PortfolioCache(client, "paper")
        first = await cache.put("main", {"equity": 1}, version=0)
        with pytest.raises(ValidationError) as caught:
            await cache.put("main", {"equity": 2}, version=0)
        assert caught.value.code == "E_CONFLICT"
        assert caught.value.context["version"] == first
        second = await cache.put("main", {"equity": 2}, version=first)
        assert second == first + 1
        assert await cache.read("main", dict) == ({"equity": 2}, second)
        # gone and made anew: what was read before does not fit what is there now
        await client.flushall()
        third = await cache.put("main", {"equity": 3})
        assert third not in (first, second)
        with pytest.raises(ValidationError):
            await cache.put("main", {"equity": 4}, version=second)
        assert await cache.delete("main") == 1

    on(socket, main)


def test_documents_end_when_they_were_told_to(socket: Path) -> None:
    async def main(client: Redis) -> None:
        documents = DocumentStateManager(client, "health")
        await documents.put("hub", {}, ttl=10)
        assert 0 < await client.pttl("health:document:hub") <= 10_000
        await documents.merge("hub", {"a": 1})
        assert await client.pttl("health:document:hub") == -1

    on(socket, main)


# ── collections ─────────────────────────────────────────────────────────────────────────────────
def test_an_item_is_kept_as_a_whole(socket: Path) -> None:
    async def main(client: Redis) -> None:
        items = CollectionStateManager(client, "paper")
        await items.put(
            "open", "NSE:INFY", {"quantity": 5, "note": "Über", "tags": ["a"], 'odd"\\': {"x": None}}
        )
        wanted = {"quantity": 5, "note": "Über", "tags": ["a"], 'odd"\\': {"x": None}}
        assert await items.get("open", "NSE:INFY", dict) == wanted
        await items.put("open", "NSE:INFY", Held(7), ttl=100)
        assert await items.get("open", "NSE:INFY", dict) == {"quantity": 7, "realized": 0, "average": 0.0}
        assert 0 < await client.pttl("paper:collection:open:NSE:INFY") <= 100_000
        await items.put("open", "NSE:TCS", Held(1))
        await items.put("closed", "NSE:TCS", Held(0))
        assert await items.scan("open") == ["NSE:INFY", "NSE:TCS"]
        assert await items.mget("open", ["NSE:TCS", "none"], Held) == {"NSE:TCS": Held(1)}
        assert await items.all("open", Held, "*INFY") == {"NSE:INFY": Held(7)}
        assert await items.remove("open", "NSE:TCS") == 1
        assert await items.delete("open", "closed") == 2
        assert await client.dbsize() == 0
        for wrong in ({}, [1], 5, "text", {f"f{i}": i for i in range(1001)}):
            with pytest.raises(ValidationError):
                await items.put("open", "a", wrong)
        await items.put("open", "a", {f"f{i}": i for i in range(1000)})

    on(socket, main)


def test_fields_are_added_all_or_none(socket: Path) -> None:
    async def main(client: Redis) -> None:
        items = CollectionStateManager(client, "paper")
        await items.put("open", "a", {"whole": 2**53 - 2, "part": 0.5, "text": "x"})
        for amounts in ({"part": 1, "text": 1}, {"part": 1, "whole": 2}):
            with pytest.raises(RedisError):
                await items.add("open", "a", amounts)
        for amounts in ({}, {"part": float("nan")}, {"part": float("inf")}):
            with pytest.raises(ValidationError):
                await items.add("open", "a", amounts)
        assert await items.get("open", "a", dict) == {"whole": 2**53 - 2, "part": 0.5, "text": "x"}
        sums = await items.add("open", "a", {"whole": 1, "part": 2, "new": -3, "float": 0.25})
        assert sums == {"whole": 2**53 - 1, "part": 2.5, "new": -3, "float": 0.25}
        assert {name: type(value) for name, value in sums.items()} == {
            "whole": int,
            "part": float,
            "new": int,
            "float": float,
        }

    on(socket, main)


# ── when the server fails ───────────────────────────────────────────────────────────────────────
def test_what_was_acknowledged_survives_a_kill_and_clients_come_back(own_valkey: OwnValkey) -> None:
    async def main(client: Redis) -> None:
        books, documents = RiskStateManager(client, "paper"), DocumentStateManager(client, "paper")
        for _ in range(200):
            await books.reserve("orders", DAY, 1, 1000)
            await books.add_to_position("NSE:INFY:MIS", {"quantity": 1})
        version = await documents.put("d", {"a": 1})
        own_valkey.kill()
        with pytest.raises(RedisError) as caught:
            await books.reserve("orders", DAY, 1, 1000)
        assert caught.value.context["cause"] == "unreachable"
        assert caught.value.context["operation"] == "increment_within"
        assert caught.value.context["key"] == "paper:risk:counter:orders:2026-11-23"
        own_valkey.start()
        assert await books.counted("orders", DAY) == 200
        assert await books.position("NSE:INFY:MIS", Held) == Held(200)
        assert await documents.read("d", dict) == ({"a": 1}, version)
        assert 0 < await client.ttl("paper:risk:counter:orders:2026-11-23") <= 2 * 86_400
        assert await books.reserve("orders", DAY, 1, 1000) == (True, 201)  # scripts are sent anew

    on(own_valkey.socket, main)


def test_a_full_server_refuses_and_forgets_nothing(own_valkey: OwnValkey) -> None:
    async def main(client: Redis) -> None:
        books, documents = RiskStateManager(client, "paper"), DocumentStateManager(client, "paper")
        await books.put_position("NSE:INFY:MIS", Held(5, realized=7))
        await books.reserve("orders", DAY, 1, 10)
        await documents.put("d", {"a": 1})
        await documents.put("tick", "x" * 100_000)
        own_valkey.config("maxmemory", 100_000)
        prices = {"NSE:INFY": RecentPrice(1.0, 1), "NSE:TCS": RecentPrice(1.0, 1)}
        writes: list[Callable[[], Awaitable[Any]]] = [
            lambda: books.reserve("orders", DAY, 1, 10),
            lambda: books.put_position("NSE:INFY:MIS", {"quantity": 6}),
            lambda: books.add_to_position("NSE:INFY:MIS", {"quantity": 1}),
            lambda: documents.merge("d", {"b": 1}),
            lambda: documents.put("new", 1),
            lambda: books.set_prices(prices),
            lambda: books.health_check(),
            lambda: Lease(client, "paper", "gateway", "me").acquire(),
        ]
        for write in writes:
            with pytest.raises(RedisError) as caught:
                await write()
            assert caught.value.context["cause"] == "full"
        assert (await client.info("stats"))["evicted_keys"] == 0
        assert await client.dbsize() == 4
        assert await books.position("NSE:INFY:MIS", Held) == Held(5, realized=7)
        assert await books.counted("orders", DAY) == 1
        assert await documents.get("d", dict) == {"a": 1}
        own_valkey.config("maxmemory", 0)
        assert await books.reserve("orders", DAY, 1, 10) == (True, 2)

    on(own_valkey.socket, main)


def test_a_replica_is_read_only(own_valkey: OwnValkey) -> None:
    async def main(client: Redis) -> None:
        await client.execute_command("REPLICAOF", "127.0.0.1", "1")
        values = KeyValueStateManager(client, "paper")
        with pytest.raises(RedisError) as caught:
            await values.increment("a")
        assert caught.value.context["cause"] == "read-only"

    on(own_valkey.socket, main)


def test_another_namespaces_account_is_forbidden(own_valkey: OwnValkey) -> None:
    async def main(client: Redis) -> None:
        await client.execute_command("ACL", "SETUSER", "paper", "on", ">made-up", "~paper:*", "+@all")
        settings = RedisSettings.model_validate({"username": "paper", "password": "made-up"})
        async with KeyValueStateManager(own_valkey.socket, "paper", settings=settings) as values:
            assert await values.increment("a") == 1
        async with KeyValueStateManager(own_valkey.socket, "zerodha", settings=settings) as values:
            operations: list[Callable[[], Awaitable[Any]]] = [
                lambda: values.increment("a"),
                lambda: values.get("a", int),
                lambda: values.set("a", 1),
            ]
            for operation in operations:
                with pytest.raises(RedisError) as caught:
                    await operation()
                assert caught.value.context["cause"] == "forbidden"

    on(own_valkey.socket, main)


def test_an_emptied_server_answers_as_an_empty_one(own_valkey: OwnValkey) -> None:
    async def main(client: Redis) -> None:
        books, cache = RiskStateManager(client, "paper"), PortfolioCache(client, "paper")
        lease = Lease(client, "paper", "gateway", "me")
        await books.reserve("orders", DAY, 9, 10)
        await books.put_position("a", Held(1))
        await cache.put("main", {"equity": 1})
        await lease.acquire()
        own_valkey.flush()
        assert await books.counted("orders", DAY) == 0
        assert await books.positions(Held) == {}
        assert await cache.get("main", dict) is None
        assert await books.reserve("orders", DAY, 9, 10) == (True, 9)
        assert (await cache.merge("main", {"equity": 2})).value == {"equity": 2}
        assert lease.epoch is not None
        epoch = lease.epoch
        with pytest.raises(AuthorizationError):
            await lease.renew()
        assert await lease.acquire(beyond=epoch) > epoch

    on(own_valkey.socket, main)


def test_a_lost_answer_is_not_asked_for_again(own_valkey: OwnValkey) -> None:
    async def main() -> None:
        async with KeyValueStateManager(own_valkey.socket, "paper", settings=IMPATIENT) as values:
            await values.increment("a")
            os.kill(own_valkey.pid, signal.SIGSTOP)
            try:
                with pytest.raises(RedisError) as caught:
                    await values.increment("a")
            finally:
                os.kill(own_valkey.pid, signal.SIGCONT)
            assert caught.value.context["cause"] == "timeout"
            await asyncio.sleep(0.3)  # it works off what was sent
            assert await values.get("a", int) == 2  # it was done, once

    asyncio.run(main())


# ── leases ──────────────────────────────────────────────────────────────────────────────────────
def test_a_second_holder_is_told_who_holds_it(socket: Path) -> None:
    async def main(client: Redis) -> None:
        first, second = (Lease(client, "paper", "gateway", owner) for owner in ("first", "second"))
        assert await first.holder() is None
        epoch = await first.acquire()
        assert first.held
        assert 9_000 < await client.pttl(first.key) <= 10_000
        with pytest.raises(AuthorizationError) as caught:
            await second.acquire()
        assert caught.value.code == "E_LEASE"
        assert "first" in str(caught.value)
        assert f"pid {os.getpid()}" in str(caught.value)
        assert "since 20" in str(caught.value)
        holder = caught.value.context["holder"]
        assert (holder.owner, holder.pid, holder.epoch) == ("first", os.getpid(), epoch)
        assert holder.host
        assert holder.since > 0
        assert 0 < holder.left <= 10
        assert not second.held
        assert await first.release()
        assert not first.held
        assert await second.acquire() == epoch + 1
        assert not await first.release()
        assert await second.holder() is not None

    on(socket, main)


def test_other_names_and_namespaces_are_other_leases(socket: Path) -> None:
    async def main(client: Redis) -> None:
        for namespace, name in (("paper", "a"), ("paper", "b"), ("zerodha", "a")):
            assert await Lease(client, namespace, name, "me").acquire() == 1

    on(socket, main)


def test_one_of_many_gets_it(socket: Path) -> None:
    async def acquire(client: Redis, index: int) -> int | None:
        try:
            return await Lease(client, "paper", "gateway", str(index)).acquire()
        except AuthorizationError:
            return None

    got = asyncio.run(clients(socket, 20, acquire))
    assert [epoch for epoch in got if epoch is not None] == [1]


def test_a_stale_holder_cannot_renew_or_release(socket: Path) -> None:
    async def main(client: Redis) -> None:
        stale = Lease(client, "paper", "gateway", "stale", ttl=0.1)
        await stale.acquire()
        await asyncio.sleep(0.15)
        assert not stale.held
        fresh = Lease(client, "paper", "gateway", "fresh")
        assert await fresh.acquire() == 2
        with pytest.raises(AuthorizationError, match="was lost by fresh on"):
            await stale.renew()
        assert stale.epoch is None
        assert not await stale.release()
        with pytest.raises(AuthorizationError, match="not acquired"):
            await stale.renew()
        await fresh.renew()

    on(socket, main)


def test_an_expired_lease_that_nobody_took_is_lost_too(socket: Path) -> None:
    async def main(client: Redis) -> None:
        lease = Lease(client, "paper", "gateway", "me", ttl=0.1)
        await lease.acquire()
        await asyncio.sleep(0.2)
        with pytest.raises(AuthorizationError):
            await lease.renew()
        assert await lease.acquire() == 2

    on(socket, main)


def test_a_keeper_holds_it_beyond_its_term(socket: Path) -> None:
    async def main(client: Redis) -> None:
        lease = Lease(client, "paper", "gateway", "me", ttl=2.0, renew=0.1)
        epoch = await lease.acquire()
        keeper = asyncio.create_task(lease.keep())
        await asyncio.sleep(2.5)
        assert lease.held
        holder = await lease.holder()
        assert holder is not None
        assert holder.epoch == epoch
        await client.delete(lease.key)
        with pytest.raises(AuthorizationError, match="was lost"):
            await keeper
        assert not lease.held

    on(socket, main)


def test_a_keeper_outlasts_a_server_that_comes_back(own_valkey: OwnValkey) -> None:
    async def main(client: Redis) -> None:
        lease = Lease(client, "paper", "gateway", "me", ttl=60, renew=0.05)
        epoch = await lease.acquire()
        keeper = asyncio.create_task(lease.keep())
        own_valkey.kill()
        await asyncio.sleep(0.3)
        assert not keeper.done()
        own_valkey.start()
        await asyncio.sleep(0.3)
        assert not keeper.done()
        assert lease.held
        assert lease.epoch == epoch
        assert await lease.release()
        keeper.cancel()

    on(own_valkey.socket, main)


def test_a_keeper_gives_up_when_its_term_ends_without_a_server(own_valkey: OwnValkey) -> None:
    async def main(client: Redis) -> None:
        lease = Lease(client, "paper", "gateway", "me", ttl=0.5, renew=0.05)
        await lease.acquire()
        own_valkey.kill()
        with pytest.raises(AuthorizationError, match="in time"):
            await asyncio.wait_for(lease.keep(), 20)
        assert not lease.held

    on(own_valkey.socket, main)


def test_a_holder_known_to_be_dead_is_replaced_at_once(socket: Path) -> None:
    async def main(client: Redis) -> None:
        dead = Lease(client, "paper", "gateway", "dead")
        await dead.acquire()
        seen = await dead.holder()
        heir, late = (Lease(client, "paper", "gateway", owner) for owner in ("heir", "late"))
        assert await heir.acquire(replacing=seen) == 2
        with pytest.raises(AuthorizationError):  # it saw the same corpse, and came second
            await late.acquire(replacing=seen)
        with pytest.raises(AuthorizationError):
            await dead.renew()

    on(socket, main)

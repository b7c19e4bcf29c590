"""The ticker on a real socket: the official KiteTicker, refused upgrades, order updates, ends of sockets."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from alphapanda.clock import wait_until
from alphapanda.sandbox.access import Account
from alphapanda.sandbox.serve import Running, Sandbox
from tests.sandbox_rig import INFY, broker, kite

TOKEN = 408065
ORDER: dict[str, Any] = {
    "variety": "regular", "exchange": "NSE", "tradingsymbol": "INFY", "transaction_type": "BUY", "quantity": 1,
    "product": "CNC", "order_type": "LIMIT", "price": 1560.0,
}  # fmt: skip
CHILD = """
    import json, sys
    from kiteconnect import KiteTicker

    ticker = KiteTicker(sys.argv[1], sys.argv[2], root=sys.argv[3])
    seen = {"ticks": [], "orders": []}

    def on_connect(ws, response):
        ws.subscribe([408065, 256265])
        ws.set_mode(ws.MODE_FULL, [408065])
        print("connected", flush=True)

    def on_ticks(ws, ticks):
        for tick in ticks:
            seen["ticks"].append([tick["instrument_token"], tick["mode"], tick["last_price"]])
        done()

    def on_order_update(ws, data):
        seen["orders"].append([data["order_id"], data["status"]])
        done()

    def done():
        if seen["orders"] and any(price == 1560.0 for _, _, price in seen["ticks"]):
            print(json.dumps(seen), flush=True)
            ticker.stop()

    ticker.on_connect, ticker.on_ticks, ticker.on_order_update = on_connect, on_ticks, on_order_update
    ticker.connect()
"""


@pytest.fixture
def sandbox() -> Iterator[Running]:
    with Sandbox.thread(broker()) as running:
        yield running


def address(sandbox: Running, token: str | None = None) -> str:
    """The ticker's address with a live token."""
    token = sandbox.open_session() if token is None else token
    return f"{sandbox.ticker_url}/?api_key={sandbox.broker.account.api_key}&access_token={token}"


async def text(socket: ClientConnection) -> dict[str, Any]:
    """The next text frame."""
    while True:
        message = await asyncio.wait_for(socket.recv(), 10)
        if isinstance(message, str):
            return json.loads(message)


async def first_bytes(socket: ClientConnection) -> bytes:
    """The next binary frame."""
    while True:
        message = await asyncio.wait_for(socket.recv(), 10)
        if isinstance(message, bytes):
            return message


async def everything(socket: ClientConnection, seconds: float = 10) -> None:
    """Read until nothing comes for so long (TimeoutError), or the socket ends (ConnectionClosed)."""
    while True:
        await asyncio.wait_for(socket.recv(), seconds)


def test_the_official_ticker(sandbox: Running) -> None:
    client = kite(sandbox)
    command = [
        sys.executable, "-c", textwrap.dedent(CHILD), sandbox.broker.account.api_key, client.access_token,
        sandbox.ticker_url,
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "connected\n"
            sandbox.tick(INFY, 1560.0)
            placed = client.place_order(**ORDER | {"price": 1561.0})
            seen = json.loads(child.stdout.readline())
        finally:
            child.kill()
    assert [TOKEN, "full", 1560.0] in seen["ticks"]
    assert any(token == 256265 for token, _, _ in seen["ticks"])
    assert seen["orders"][0] == [placed, "COMPLETE"]


def test_order_updates_reach_every_socket(sandbox: Running) -> None:
    client = kite(sandbox)

    async def main() -> None:
        url = address(sandbox, client.access_token)
        async with connect(url) as one, connect(url) as two:
            placed = await asyncio.to_thread(client.place_order, **ORDER)
            for socket in (one, two):
                update = await text(socket)
                assert update["type"] == "order"
                assert (update["data"]["order_id"], update["data"]["status"]) == (placed, "COMPLETE")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("token", "fault", "status"),
    [
        ("wrong", "", 403),
        ("", "", 400),
        (None, "ticker-403", 403),
        (None, "ticker-429", 429),
        (None, "plan-personal", 403),
    ],
)
def test_upgrades_that_are_refused(sandbox: Running, token: str | None, fault: str, status: int) -> None:
    if fault:
        sandbox.switch(fault)

    async def main() -> None:
        with pytest.raises(InvalidStatus) as caught:
            async with connect(address(sandbox, token)):
                pass
        response = caught.value.response
        assert (response.status_code, json.loads(response.body)["status"]) == (status, "error")

    asyncio.run(main())


def test_the_free_plan_looks_like_a_dead_token() -> None:
    async def main(sandbox: Running) -> None:
        with pytest.raises(InvalidStatus):
            async with connect(address(sandbox)):
                pass

    with Sandbox.thread(broker(account=Account(plan="personal"))) as sandbox:
        asyncio.run(main(sandbox))


def test_a_fourth_socket_is_one_too_many(sandbox: Running) -> None:
    async def main() -> None:
        url = address(sandbox)
        async with connect(url), connect(url), connect(url):
            with pytest.raises(InvalidStatus) as caught:
                async with connect(url):
                    pass
            assert caught.value.response.status_code == 429
        async with connect(url):
            pass

    asyncio.run(main())


@pytest.mark.parametrize(("fault", "code"), [("ticker-close", 1001), ("ticker-abort", 1006)])
def test_sockets_that_end(sandbox: Running, fault: str, code: int) -> None:
    async def main() -> None:
        async with connect(address(sandbox)) as socket:
            sandbox.switch(fault)
            with pytest.raises(ConnectionClosed):
                await everything(socket)
            assert socket.close_code == code

    asyncio.run(main())


def test_a_socket_that_goes_silent(sandbox: Running) -> None:
    async def main() -> None:
        async with connect(address(sandbox)) as socket:
            await socket.send(json.dumps({"a": "subscribe", "v": [TOKEN]}))
            assert len(await first_bytes(socket)) == 48
            sandbox.switch("ticker-silent")
            await asyncio.sleep(0.3)
            sandbox.tick(INFY, 1555.0)
            with pytest.raises(TimeoutError):
                await everything(socket, 1.5)

    asyncio.run(main())


def test_a_token_that_dies_leaves_open_sockets_alone(sandbox: Running) -> None:
    client = kite(sandbox)

    async def main() -> None:
        async with connect(address(sandbox, client.access_token)) as socket:
            sandbox.switch("token-dead")
            with pytest.raises(Exception, match="Incorrect"):
                await asyncio.to_thread(client.profile)
            assert await first_bytes(socket) == b"\x00"
        with pytest.raises(InvalidStatus):
            async with connect(address(sandbox, client.access_token)):
                pass

    asyncio.run(main())


def test_stopping_cuts_everything_and_frees_the_port() -> None:
    async def main() -> None:
        sandbox = Sandbox(broker())
        url = await sandbox.start()
        port = int(url.rpartition(":")[2])
        token = sandbox.broker.access.open(sandbox.broker.now)
        ticker = f"{sandbox.ticker_url}/?api_key={sandbox.broker.account.api_key}&access_token={token}"
        socket = await connect(ticker)
        await sandbox.stop()
        with pytest.raises(websockets.exceptions.ConnectionClosed):
            await everything(socket)
        again = Sandbox(broker())
        assert await again.start(port) == url
        await again.stop()

    asyncio.run(main())


def test_a_failure_of_the_sandbox_itself_is_not_hidden() -> None:
    def fail(now: int) -> None:
        raise LookupError("a fault of ours")

    running = Running(Sandbox(broker()))
    running.start()
    running.do(lambda one: one.agenda.at(one.now, fail))
    assert wait_until(running.sandbox.failed.is_set, 10)
    with pytest.raises(LookupError):
        running.stop()

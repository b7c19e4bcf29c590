"""The broker model under seeded chaos: whatever is asked of it and whatever goes wrong, its own accounts stay true."""

from __future__ import annotations

import ast
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import alphapanda.sandbox
from alphapanda.sandbox.documents import Answer
from alphapanda.sandbox.faults import KINDS
from alphapanda.sandbox.orders import DONE
from tests.sandbox_rig import CALL, FUTURE, INFY, TEN, Client, broker, order

NEXT = {  # what may follow a status in an order's history
    "": {"PUT ORDER REQ RECEIVED"},
    "PUT ORDER REQ RECEIVED": {"VALIDATION PENDING", "CANCELLED"},
    "VALIDATION PENDING": {"OPEN PENDING", "REJECTED", "CANCELLED"},
    "OPEN PENDING": {"OPEN", "TRIGGER PENDING", "CANCELLED"},
    "TRIGGER PENDING": {"OPEN", "CANCELLED", "MODIFY VALIDATION PENDING", "CANCEL PENDING"},
    "OPEN": {"OPEN", "COMPLETE", "CANCELLED", "MODIFY VALIDATION PENDING", "CANCEL PENDING"},
    "MODIFY VALIDATION PENDING": {
        "MODIFY VALIDATION PENDING",
        "MODIFY PENDING",
        "COMPLETE",
        "CANCELLED",
        "OPEN",
    },
    "MODIFY PENDING": {"MODIFY PENDING", "MODIFIED", "COMPLETE", "CANCELLED", "OPEN"},
    "MODIFIED": {"OPEN", "TRIGGER PENDING"},
    "CANCEL PENDING": {"CANCEL PENDING", "CANCELLED", "COMPLETE", "OPEN"},
}


def chaos(seed: int, steps: int = 120) -> tuple[Client, list[Answer]]:
    """A random session: orders of several kinds, changes, cancels, moving prices, faults of every sort."""
    draw = random.Random(seed)
    client = Client(broker(seed=seed, capital_paise=10**10))
    answers: list[Answer] = []
    placed: list[str] = []
    for name in draw.sample(
        [n for n in KINDS if n.startswith(("place-", "order-", "cancel-", "update-", "modify-"))], 6
    ):
        client.broker.faults.switch(name, times=None, rate=draw.choice([0.05, 0.3]))
    prices = {INFY: 1548.2, FUTURE: 26_100.0, CALL: 120.0}
    for _ in range(steps):
        client.wait(draw.choice([0.001, 0.01, 0.05, 0.5, 3.0]))
        symbol = draw.choice(list(prices))
        lot = 1 if symbol == INFY else 65
        act = draw.random()
        if act < 0.35:
            price = round(prices[symbol] * draw.uniform(0.998, 1.002) * 10) / 10
            side = draw.choice(["BUY", "SELL"])
            terms = {
                "product": draw.choice(["MIS", "CNC"] if symbol == INFY else ["MIS", "NRML"]),
                "price": price,
            }
            kind = draw.random()
            if kind < 0.2:
                terms |= {"order_type": "MARKET", "price": None, "market_protection": draw.choice([-1, 1, 2])}
            elif kind < 0.4:
                sign = 1 if side == "BUY" else -1
                terms |= {"order_type": "SL", "trigger_price": round(prices[symbol] * (1 + 0.002 * sign), 1)}
                terms["price"] = round(float(terms["trigger_price"]) + sign, 1)
            elif kind < 0.5:
                terms |= {"validity": "IOC"}
            answer = client("POST", "/orders/regular", order(symbol, side, lot * draw.randint(1, 9), **terms))
            answers.append(answer)
            placed = list(client.broker.book.orders)
        elif act < 0.5 and placed:
            price = str(round(prices[INFY] * draw.uniform(0.998, 1.002), 1))
            answers.append(client("PUT", f"/orders/regular/{draw.choice(placed)}", {"price": price}))
        elif act < 0.65 and placed:
            answers.append(client("DELETE", f"/orders/regular/{draw.choice(placed)}"))
        else:
            prices[symbol] = round(prices[symbol] * draw.uniform(0.998, 1.002), 1)
            client.broker.tick(symbol, prices[symbol], depth=draw.choice([0, lot, 5 * lot, None]))
        check(client)
    client.broker.faults.off()
    client.wait(120)
    check(client)
    answers.append(client("GET", "/orders"))
    return client, answers


def check(client: Client) -> None:
    """What must be true at any moment."""
    of = client.broker
    filled: Counter[str] = Counter()
    held: Counter[tuple[str, str]] = Counter()
    for trade in of.ledger.trades:
        assert trade.quantity > 0
        filled[trade.order.order_id] += trade.quantity
        held[trade.order.instrument.symbol, trade.product] += trade.order.side * trade.quantity
    for one in of.book.orders.values():
        assert 0 <= one.filled == filled[one.order_id] <= one.quantity
        assert (one.status == "COMPLETE") == (one.remaining == 0)
        assert not (one.done and one.resting)
    assert {key: of.positions.net(*key) for key in held} == dict(held)
    arrived = [one.order_id for one in of.ledger.arrivals]
    assert sorted(arrived) == sorted(of.book.orders)


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_accounts_stay_true_whatever_happens(first: int) -> None:
    for seed in range(first, first + 10):
        client, _ = chaos(seed)
        for order_id, rows in client.broker.book.history.items():
            before = ""
            for _, row in rows:
                assert row["status"] in NEXT.get(before, set()), (
                    f"seed {seed}, {order_id}: {before} to {row['status']}"
                )
                before = row["status"]
        stuck = [one for one in client.broker.book.live() if one.status not in ("OPEN", "TRIGGER PENDING")]
        assert not stuck, f"seed {seed}: {[one.status for one in stuck]}"
        done = [one for one in client.broker.book.orders.values() if one.status in DONE]
        assert len(done) > 5


def test_the_same_seed_gives_the_same_bytes_in_another_process() -> None:
    script = (
        "import hashlib; from tests.test_sandbox_model import chaos;"
        "print(hashlib.sha256(repr(chaos(5)[1]).encode()).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": number},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for number in ("1", "2")
    }
    assert len(found) == 1


def test_the_model_is_pure() -> None:
    """No clock, no I/O, no threads: by the imports of everything but the wire."""
    wire = {"command", "control", "serve", "sockets", "time", "wire"}
    for path in Path(alphapanda.sandbox.__file__).parent.glob("*.py"):
        found = [
            node
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, (ast.Import, ast.ImportFrom))
        ]
        names = {alias.name for node in found if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in found if isinstance(node, ast.ImportFrom)}
        shells = {f"alphapanda.sandbox.{name}" for name in wire} | {
            "alphapanda.clock",
            "asyncio",
            "socket",
            "threading",
        }
        shells |= {"time", "websockets", "h11", "uuid", "secrets", "subprocess"}
        assert path.stem in wire or not names & shells, path.name


def test_a_scheduler_knows_when_the_next_thing_happens() -> None:
    client = Client(broker())
    midnight = client.broker.next_due()
    client.place(price=1549.0)
    seen: list[str] = []
    while (due := client.broker.next_due()) is not None and due < TEN + 10**9:
        client.broker.advance(due)
        seen.append(next(iter(client.broker.book.orders.values())).status)
    assert seen == ["VALIDATION PENDING", "OPEN PENDING", "COMPLETE"]
    assert midnight is not None
    assert midnight > TEN

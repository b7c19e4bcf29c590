"""Each rule over an overview that a person would, or would not, want to hear of."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from alphapanda.alerts.rules import RULES, schedule_failed
from alphapanda.events import DAY, SECOND
from alphapanda.overview import (
    ErrorLine,
    Halt,
    Lane,
    LaneOrder,
    LimitUse,
    Overview,
    Process,
    View,
)
from alphapanda.schedules import Run, Schedule, When

AT = 1_795_000_000 * SECOND  # 2026-11-18 11:06:40 UTC
NOW = "2026-11-18T11:06:30+00:00"
FINE = Overview(
    number=7, at=AT, hub="ready",
    processes=(
        Process("hub", "ready"), Process("server", "ready"),
        Process("gateway:paper", "ready", health={"state": "serving"}),
        Process("feed", "ready", health={"state": "running", "stale": False}),
    ),
    lanes={"paper": Lane("paper", live=False, limits=(LimitUse("daily loss", 100.0, 50_000.0, "rupees"),))},
)  # fmt: skip


def lane(name: str = "paper", **more: Any) -> Overview:
    made = Lane(name, live=name != "paper", **more)
    return msgspec.structs.replace(FINE, lanes={**FINE.lanes, name: made})


def process(role: str, state: str = "ready", **more: Any) -> Overview:
    others = tuple(one for one in FINE.processes if one.role != role)
    return msgspec.structs.replace(FINE, processes=(*others, Process(role, state, **more)))


def lost(used: float) -> tuple[LimitUse, ...]:
    return (LimitUse("daily loss", used, 50_000.0, "rupees"), LimitUse("orders today", 9e9, 1.0, "orders"))


def line(event: str, at: str = NOW, namespace: str = "zerodha", **facts: Any) -> Overview:
    told = ErrorLine(at=at, level="error", event=event, namespace=namespace, facts=facts)
    return msgspec.structs.replace(FINE, errors=(told,))


def order(status: str, number: int = 1) -> LaneOrder:
    return LaneOrder(
        id=f"o{number}", run="r-1", strategy="crossover", symbol="NSE:INFY", side="BUY", quantity=5,
        status=status, reason="margin",
    )  # fmt: skip


def run(state: str, namespace: str = "paper") -> Overview:
    view = View(
        run="r-1", namespace=namespace, name="crossover", digest="d", parameters={}, symbols=[], state=state,
        reason="KeyError in cell 3",
    )  # fmt: skip
    return msgspec.structs.replace(FINE, runs=(view,))


QUIET = {
    "an empty workspace": Overview(),
    "all is well": FINE,
    "a small loss": lane(limits=lost(39_999.0)),
    "no limit": lane(limits=(LimitUse("daily loss", 5.0, 0.0, "rupees"),)),
    "denied by our own rules": lane(orders=(order("denied"),)),
    "cancelled": lane(orders=(order("cancelled"),)),
    "stopped by a person": run("stopped"),
    "running": run("running"),
    "the market is closed": process("feed", health={"state": "waiting", "stale": False}),
    "a child comes back": process("feed", "waiting", since=AT - 5 * SECOND),
    "a child starts": process("gateway:paper", "starting", since=AT - 60 * SECOND),
    "the server was away for a moment": msgspec.structs.replace(FINE, lost=AT - 3 * SECOND),
    "an old alarm": line("broker.alarm", at="2026-11-17T11:06:30+00:00"),
    "another error": line("hub.fault"),
    "a kill switch that was lifted": line("broker.alarm", detail="kill level 0 (normal): lifted"),
    "a line without a time": line("broker.alarm", at="when?"),
    "a token that was dead": line("broker.alarm", detail="the access token is dead: Kite said so"),
    "orders were blocked": line("orders.blocked", detail="Kite refused the token"),
}

LOUD: dict[str, tuple[Overview, str, str, str]] = {
    "near": (lane(limits=lost(40_000.0)), "daily_loss:paper", "warning", "most"),
    "over": (lane(limits=lost(50_000.0)), "daily_loss:paper", "error", "50,000 of 50,000"),
    "near, live": (lane("zerodha", limits=lost(40_000.0)), "daily_loss:zerodha", "error", "most"),
    "over, live": (lane("zerodha", limits=lost(60_000.0)), "daily_loss:zerodha", "critical", "60,000"),
    "killed": (lane(halt=Halt(3, "odd fills", "meera", AT)), "kill_switch:paper", "warning", "odd fills"),
    "killed, live": (lane("zerodha", halt=Halt(3)), "kill_switch:zerodha", "error", "level 3"),
    "rejected": (
        lane(orders=(order("rejected", 2), order("rejected"))), "order_rejected:paper/r-1", "warning", "2 orders",
    ),
    "rejected, live": (lane("zerodha", orders=(order("rejected"),)), "order_rejected:zerodha/r-1", "error", "margin"),
    "halted": (run("halted"), "strategy_halted:paper/r-1", "error", "KeyError in cell 3"),
    "failed, live": (run("failed", "zerodha"), "strategy_halted:zerodha/r-1", "critical", "crossover is failed"),
    "stale": (process("feed", health={"stale": True, "detail": "no ticks"}), "feed_stale:feed", "error", "no ticks"),
    "logged out": (
        process("feed", health={"state": "logged_out", "detail": "run `alphapanda login`", "stale": True}),
        "token_dead:feed", "critical", "alphapanda login",
    ),
    "no login": (
        process("gateway:zerodha", "waiting", error="nobody is logged in at Zerodha [E_AUTHENTICATION]"),
        "token_dead:gateway:zerodha", "critical", "nobody is logged in",
    ),
    "token refused": (
        process("gateway:zerodha", health={"state": "blocked", "trouble": "takes the access token no more"}),
        "token_dead:gateway:zerodha", "critical", "no more",
    ),
    "a journal on a full disk": (
        process("gateway:zerodha", health={"state": "halted", "trouble": "no space left"}),
        "orders_blocked:gateway:zerodha", "critical", "no space",
    ),
    "mismatch": (
        line("broker.alarm", detail="the broker shows 5, our trades make 0"), "mismatch:zerodha/broker.alarm",
        "critical", "shows 5",
    ),
    "unknown order": (line("broker.unknown_order"), "mismatch:zerodha/broker.unknown_order", "critical", "order"),
    "a stop is gone": (line("stop.lost", reason="LPP"), "mismatch:zerodha/stop.lost", "critical", "LPP"),
    "a gateway failed": (
        process("gateway:paper", "failed", error="boom"), "process_failed:gateway:paper", "critical", "boom",
    ),
    "pages failed": (process("dashboards", "failed", error="boom"), "process_failed:dashboards", "error", "boom"),
    "it does not come back": (
        process("feed", "waiting", since=AT - 20 * SECOND), "process_failed:feed", "critical", "come back",
    ),
    "no server": (
        msgspec.structs.replace(FINE, lost=AT - 20 * SECOND), "process_failed:server", "critical", "not answer",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", QUIET)
def test_nobody_is_called_for(name: str) -> None:
    assert [one for rule in RULES for one in rule(QUIET[name])] == []


@pytest.mark.parametrize("name", LOUD)
def test_somebody_is_called_for(name: str) -> None:
    seen, identity, level, said = LOUD[name]
    (found,) = [one for rule in RULES for one in rule(seen)]
    assert (found.id, found.level) == (identity, level)
    assert said in f"{found.title} {found.message}"
    assert found.fix


@pytest.mark.parametrize("name", LOUD)
def test_the_same_thing_keeps_its_id_and_cause(name: str) -> None:
    """A heartbeat later nothing is news."""
    seen = LOUD[name][0]
    later = msgspec.structs.replace(seen, number=8, at=seen.at + SECOND)
    first, second = ([one for rule in RULES for one in rule(which)] for which in (seen, later))
    assert [(one.id, one.cause) for one in first] == [(one.id, one.cause) for one in second]


def test_alarms_are_old_after_a_day() -> None:
    seen = LOUD["mismatch"][0]
    later = msgspec.structs.replace(seen, at=seen.at + DAY)
    assert [one for rule in RULES for one in rule(later)] == []


def test_a_second_rejection_is_another_cause() -> None:
    one, two = (
        lane(orders=orders) for orders in ((order("rejected"),), (order("rejected", 2), order("rejected")))
    )
    causes = [found.cause for seen in (one, two) for rule in RULES for found in rule(seen)]
    assert causes == ["o1", "o2"]


def test_schedules_that_failed_or_are_not_due_any_more() -> None:
    schedule = Schedule(name="it", notebook="one.ipynb", when=When(at="09:10"))
    blocked = msgspec.structs.replace(schedule, name="b", trouble="2027-01-01 is outside the rulebook")
    failed = Run(
        id=4,
        schedule="it",
        notebook="one.ipynb",
        due=AT,
        state="failed",
        error="KeyError",
        cell=3,
        message="x",
    )
    found = {one.id: one for one in schedule_failed([schedule, blocked], {"it": failed})}
    assert set(found) == {"schedule_failed:it", "schedule_not_due:b"}
    assert found["schedule_failed:it"].message == "cell 3: KeyError x"
    assert found["schedule_failed:it"].cause == "4"

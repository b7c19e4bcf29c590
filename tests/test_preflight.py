"""Before a day with money: each row of the preflight, right and wrong, against the sandbox and real files."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keyring
import pytest
from keyring.backends.fail import Keyring as NoKeyring

from alphapanda.checks import Check, worse
from alphapanda.commands import cli
from alphapanda.events import DAY, SECOND
from alphapanda.feeds.kite import CAUSES
from alphapanda.logs import redaction
from alphapanda.sandbox.serve import Running, Sandbox
from alphapanda.settings import Settings
from alphapanda.state.journal import Journal
from alphapanda.workspace import Workspace
from alphapanda.zerodha import alive, instruments, login, secrets, session, standing
from alphapanda.zerodha.intents import Intent, tag_of
from alphapanda.zerodha.preflight import preflight
from alphapanda.zerodha.store import Store
from tests.conftest import OwnValkey
from tests.sandbox_rig import at, broker

NOON = at(12)  # Friday, 20 Nov 2026
OWN = dict.fromkeys(standing.OWN_LIMITS, 1000)


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No settings, no keyring, no kept login and nothing to hide but the test's own."""
    monkeypatch.setattr(redaction, "_secrets", set(redaction._secrets))
    monkeypatch.setattr(redaction, "_values", redaction._values)
    for name in [name for name in os.environ if name.startswith(("ZERODHA__", "RISK__", "REDIS__"))]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("ALPHAPANDA_HOME", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    before = keyring.get_keyring()
    keyring.set_keyring(NoKeyring())
    yield
    keyring.set_keyring(before)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture
def sandbox() -> Iterator[Running]:
    with Sandbox.thread(broker()) as running:
        yield running


def settings(running: Running, *, zerodha: dict[str, Any] | None = None, **more: Any) -> Settings:
    given = {"api_key": "sandboxkey", "api_secret": "sandboxsecret", "root_url": running.url}
    given["ticker_url"] = running.ticker_url
    return Settings(zerodha=given | (zerodha or {}), **more)


def log_in(chosen: Settings) -> None:
    login.finish(chosen, session.practice_token(chosen), login.api_secret(chosen))


def look(chosen: Settings, workspace: Workspace, now: int = NOON) -> dict[str, Check]:
    return {row.what: row for row in asyncio.run(preflight(chosen, workspace, now=now))}


def intent(key: str, created: int, **changes: Any) -> Intent:
    facts: dict[str, Any] = {
        "key": key, "tag": tag_of(key), "terms_hash": "", "order": key, "run": "r", "strategy": "s", "exchange": "NSE",
        "tradingsymbol": "INFY", "product": "MIS", "quantity": 5, "limit": 154820, "trigger": 0, "price_scale": 100,
        "tick": 5, "validity": "DAY", "purpose": "open", "created": created, "expires": created + DAY,
    }  # fmt: skip
    return Intent(**facts | changes)


def store(workspace: Workspace, *intents: Intent) -> Store:
    path = standing.orders_file(workspace, "zerodha")
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Store(path)
    made.take_over()
    made.create(intents)
    return made


# ── the whole of it ──────────────────────────────────────────────────────────────────────────────────────────────


def test_with_all_in_place_nothing_fails(sandbox: Running, workspace: Workspace) -> None:
    chosen = settings(sandbox, zerodha={"user_id": "SB0001"}, risk=OWN)
    log_in(chosen)
    rows = look(chosen, workspace)
    assert {what for what, row in rows.items() if row.state == "failed"} == set()
    assert {what for what, row in rows.items() if row.state == "warning"} - {"durability", "disk"} == {
        "broker",  # practice
        "registered IP",  # cannot be known yet, and is said to be
    }
    assert "cannot be known before the first order" in rows["registered IP"].shown
    assert rows["instruments"].state == "ok"
    assert instruments.kept(
        workspace.home / "instruments" / "practice",
        dt.date(2026, 11, 20),
    ).exists()


def test_whatever_needs_a_fix_names_one(sandbox: Running, workspace: Workspace) -> None:
    rows = look(settings(sandbox, zerodha={"api_key": None}), workspace)
    bad = [row for row in rows.values() if row.state == "failed"]
    assert {row.what for row in bad} >= {"login", "plan", "clock", "instruments"}
    assert all(row.fix for row in bad)
    assert "ZERODHA__API_KEY" in rows["login"].fix


def test_worse_is_the_worst() -> None:
    assert worse([]) == "ok"
    assert worse([Check("a", "ok", ""), Check("b", "warning", "")]) == "warning"
    assert worse([Check("a", "failed", ""), Check("b", "warning", "")]) == "failed"


def test_a_check_that_breaks_is_a_row(
    sandbox: Running, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Any:
        raise ZeroDivisionError("access_token=canary")

    monkeypatch.setattr(standing, "disk", broken)
    row = look(settings(sandbox), workspace)["disk"]
    assert row.state == "failed"
    assert "ZeroDivisionError" in row.shown
    assert "canary" not in row.shown


# ── the broker ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_dead_login_and_a_plan_without_data_are_told_apart(sandbox: Running, workspace: Workspace) -> None:
    chosen = settings(sandbox)
    log_in(chosen)
    sandbox.switch("plan-personal", times=None)
    rows = look(chosen, workspace)
    assert rows["login"].state == "ok"
    assert rows["plan"].state == "failed"
    assert "no market data" in rows["plan"].shown
    assert "account" in rows  # nobody said whose it is to be
    sandbox.open_session()
    rows = look(chosen, workspace)
    assert rows["login"].state == "failed"
    assert "alphapanda login" in rows["login"].fix
    assert rows["plan"].shown == "not known without a login"


def test_a_ticker_that_refuses_is_told_and_never_its_address(
    sandbox: Running, workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    chosen = settings(sandbox)
    log_in(chosen)
    token = secrets.load_token(chosen)
    assert token is not None
    assert look(chosen, workspace)["ticker"].state == "ok"
    sandbox.switch("ticker-403")
    assert "refuses us with 403" in look(chosen, workspace)["ticker"].shown
    row = look(settings(sandbox, zerodha={"ticker_url": "ws://127.0.0.1:9"}), workspace)["ticker"]
    assert row.state == "failed"
    assert "ZERODHA__TICKER_URL" in row.fix
    ours = [
        one.getMessage() for one in caplog.records if one.name != "websockets.server"
    ]  # that is the sandbox
    assert token.get_secret_value() not in "".join(ours) + repr(row)


def test_the_feed_is_told_why_it_was_refused(sandbox: Running) -> None:
    chosen = settings(sandbox)
    assert asyncio.run(alive.refusal_cause(chosen)) == "token"
    log_in(chosen)
    assert asyncio.run(alive.refusal_cause(chosen)) == "unknown"  # nothing is wrong that the rest could tell
    sandbox.switch("plan-personal", times=None)
    assert asyncio.run(alive.refusal_cause(chosen)) == "plan"
    assert {"token", "plan", "unknown"} <= CAUSES.keys()


def test_a_clock_that_is_off_fails(sandbox: Running, workspace: Workspace) -> None:
    chosen = settings(sandbox)
    log_in(chosen)
    assert look(chosen, workspace)["clock"].state == "ok"
    sandbox.switch("clock-skew", times=None, seconds=30.0)
    row = look(chosen, workspace)["clock"]
    assert row.state == "failed"
    assert "behind the broker" in row.shown


@pytest.mark.parametrize(
    ("sent", "date", "received", "skew"),
    [(100.0, 100, 100.9, 0.0), (100.0, 99, 101.9, 0.0), (110.0, 100, 110.5, 9.0), (100.0, 110, 100.5, -9.5)],
)
def test_the_skew_is_what_is_sure(sent: float, date: float, received: float, skew: float) -> None:
    assert session.Clock(sent, date, received).skew == pytest.approx(skew)


@pytest.mark.parametrize(
    "said", ["No IPs configured for this app.", "IP is not allowed to place orders for this app."]
)
def test_an_address_that_was_refused_is_said_with_the_brokers_words(
    sandbox: Running, workspace: Workspace, said: str
) -> None:
    with_order = store(workspace, intent("a", NOON))
    (one,) = with_order.intents()
    assert with_order.claim(one, NOON)
    with_order.move(one, "refuse", said, NOON, reason=said)
    row = look(settings(sandbox), workspace)["registered IP"]
    assert row.state == "failed"
    assert said in row.shown
    assert "20 Nov 12:00" in row.shown
    two = intent("b", NOON + SECOND)
    with_order.create([two])
    assert with_order.claim(two, NOON + SECOND)
    with_order.move(two, "seen", "in the book", NOON + SECOND, order_id="2611200000001")
    with_order.close()
    assert look(settings(sandbox), workspace)["registered IP"].state == "ok"


# ── the day ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_instruments_of_today_are_fetched_once_and_before_half_past_eight_not_trusted(
    sandbox: Running, workspace: Workspace
) -> None:
    chosen = settings(sandbox)
    log_in(chosen)
    early = look(chosen, workspace, at(8))["instruments"]
    assert early.state == "warning"
    assert "yesterday's" in early.shown
    assert look(chosen, workspace)["instruments"].state == "ok"
    sandbox.open_session()  # the login is dead; the list is here
    assert look(chosen, workspace)["instruments"].state == "ok"
    assert look(chosen, workspace, NOON + DAY)["instruments"].state == "failed"


def test_a_day_without_rules_fails_and_a_holiday_is_told_of(sandbox: Running, workspace: Workspace) -> None:
    rows = look(settings(sandbox), workspace, at(12, 0, "2049-01-04"))
    assert rows["rulebook"].state == "failed"
    assert rows["rulebook"].fix
    rows = look(settings(sandbox), workspace, at(12, 0, "2026-11-21"))
    assert rows["rulebook"].state == "ok"
    assert "weekend" in rows["market"].shown


# ── this machine ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_journal_others_can_read_or_that_is_damaged_fails(sandbox: Running, workspace: Workspace) -> None:
    path = workspace.journal("zerodha")
    Journal(path).close()
    assert look(settings(sandbox), workspace)["journal"].shown.endswith("whole, only yours")
    path.chmod(0o644)
    row = look(settings(sandbox), workspace)["journal"]
    assert (row.state, row.fix) == ("failed", f"chmod 600 {path}")
    path.write_bytes(b"not a database at all" * 500)
    path.chmod(0o600)
    row = look(settings(sandbox), workspace)["journal"]
    assert row.state == "failed"
    assert "backup" in row.fix
    path.unlink()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE entry (number)")
    other.close()
    path.chmod(0o600)
    assert "not in WAL mode" in look(settings(sandbox), workspace)["journal"].shown


def test_the_order_journal_is_looked_at_beside_its_writer(sandbox: Running, workspace: Workspace) -> None:
    writer = store(workspace, intent("a", NOON))
    row = look(settings(sandbox), workspace)["order journal"]
    assert row.state == "ok"
    writer.keep("level", "3")  # it is still the one in charge
    writer.close()


@pytest.mark.parametrize(("kind", "state"), [("nfs4", "failed"), ("tmpfs", "warning"), ("ext4", "ok")])
def test_where_a_commit_is_not_kept_is_said(
    sandbox: Running, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, kind: str, state: str
) -> None:
    monkeypatch.setattr(standing, "filesystem", lambda _: kind)
    row = look(settings(sandbox), workspace)["durability"]
    assert row.state == state
    assert list(workspace.journal("zerodha").parent.iterdir()) == []  # the probe leaves nothing


def test_the_file_system_is_the_one_mounted_deepest(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "1 0 8:1 / / rw - ext4 /dev/a rw\n"
        f"2 1 0:5 / {tmp_path} rw shared:1 - nfs4 host:/x rw\n"
        "3 1 0:6 / /other rw - tmpfs tmpfs rw\n"
    )
    assert standing.filesystem(tmp_path / "below", mounts) == "nfs4"
    assert standing.filesystem(Path("/usr"), mounts) == "ext4"
    assert standing.filesystem(tmp_path, tmp_path / "none") == ""


def test_limits_that_nobody_chose_are_named(sandbox: Running, workspace: Workspace) -> None:
    row = look(settings(sandbox, risk={"max_daily_loss": 5000}), workspace)["limits"]
    assert row.state == "warning"
    assert "RISK__MAX_ORDER_NOTIONAL=1000000" in row.fix
    assert "MAX_DAILY_LOSS" not in row.fix
    assert look(settings(sandbox, risk=OWN), workspace)["limits"].state == "ok"


def test_a_halt_and_a_kill_level_stand_in_the_way(sandbox: Running, workspace: Workspace) -> None:
    assert look(settings(sandbox), workspace)["kill switch"].state == "ok"
    writer = store(workspace)
    writer.keep("level", "2")
    row = look(settings(sandbox), workspace)["kill switch"]
    assert (row.state, row.shown) == ("failed", "zerodha stands at kill level 2")
    writer.keep("level", "0")
    writer.close()
    flag = workspace.halt_flag("zerodha")
    flag.write_text('{"level": 3, "reason": "by hand", "by": "me", "at": 1}')
    row = look(settings(sandbox), workspace)["kill switch"]
    assert row.state == "failed"
    assert "by hand (by me)" in row.shown
    assert "--lift" in row.fix
    flag.write_text("[]")
    assert look(settings(sandbox), workspace)["kill switch"].state == "failed"


def test_orders_of_earlier_days_without_an_end_are_listed(sandbox: Running, workspace: Workspace) -> None:
    yesterday = NOON - DAY
    writer = store(workspace, intent("sent", yesterday), intent("unsent", yesterday), intent("new", NOON))
    sent = next(one for one in writer.intents() if one.key == "sent")
    assert writer.claim(sent, yesterday)
    writer.move(sent, "doubt", "no answer", yesterday)
    writer.close()
    rows = look(settings(sandbox), workspace)
    assert rows["open orders"].state == "failed"
    assert f"BUY 5 NSE:INFY of 19 Nov 12:00 (unknown, tag {tag_of('sent')})" in rows["open orders"].shown
    assert rows["unsent orders"].state == "warning"
    assert tag_of("unsent") in rows["unsent orders"].shown
    assert tag_of("new") not in rows["open orders"].shown + rows["unsent orders"].shown


def test_a_server_that_may_lose_orders_is_refused(
    sandbox: Running, own_valkey: OwnValkey, tmp_path: Path
) -> None:
    chosen = settings(sandbox, redis={"unix_socket": own_valkey.socket})
    assert look(chosen, Workspace(tmp_path))["server"].state == "ok"
    own_valkey.config("appendonly", "no")
    row = look(chosen, Workspace(tmp_path))["server"]
    assert row.state == "failed"
    assert "appendonly is no" in row.shown
    own_valkey.stop()
    assert look(chosen, Workspace(tmp_path))["server"].state == "failed"


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_command_fails_with_the_rows_and_passes_when_all_is_there(
    sandbox: Running, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for name, value in (
        ("ROOT_URL", sandbox.url),
        ("API_KEY", "sandboxkey"),
        ("API_SECRET", "sandboxsecret"),
    ):
        monkeypatch.setenv(f"ZERODHA__{name}", value)
    assert cli.main(["preflight"]) == 1
    out = capsys.readouterr().out
    assert "nobody has logged in here" in out
    assert "not ready" in out
    assert cli.main(["login", "--auto"]) == 0
    capsys.readouterr()
    code = cli.main(["preflight", "--json"])
    rows = {row["what"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["login"]["state"] == "ok"
    assert code == (1 if any(row["state"] == "failed" for row in rows.values()) else 0)
    token = secrets.load_token(Settings.load())
    assert token is not None
    assert token.get_secret_value() not in json.dumps(rows)

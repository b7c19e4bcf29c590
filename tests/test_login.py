"""Logging in to Kite: against the sandbox with the official client, and where the session lies afterwards."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import os
import pickle
import pty
import stat
import subprocess
import sys
import termios
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import keyring
import keyring.backend
import keyring.errors
import pytest
import requests
from keyring.backends.fail import Keyring as NoKeyring
from kiteconnect import KiteConnect
from pydantic import SecretStr

import alphapanda as ap
from alphapanda.clock import wait_until, wall_ns
from alphapanda.commands import cli
from alphapanda.errors import (
    AlphaPandaException,
    AuthenticationError,
    BrokerError,
    ConfigurationError,
    InfrastructureError,
    ValidationError,
)
from alphapanda.logs import redaction
from alphapanda.logs.redaction import plain, redact, safe_trace
from alphapanda.notebook.login import Attempt
from alphapanda.sandbox.serve import Running, Sandbox
from alphapanda.settings import Secret, Settings
from alphapanda.zerodha import alive, login, secrets, session
from tests.sandbox_rig import at, broker

ROOT = Path(__file__).resolve().parent.parent
CANARY = "canary0token0never0shown0anywhere"
PASTED = "a" * 32
DAY = "2026-11-20"


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No settings, no keyring, no kept login and nothing to hide but the test's own."""
    monkeypatch.setattr(redaction, "_secrets", set(redaction._secrets))
    monkeypatch.setattr(redaction, "_values", redaction._values)
    for name in [name for name in os.environ if name.startswith("ZERODHA__")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    before = keyring.get_keyring()
    keyring.set_keyring(NoKeyring())
    yield
    keyring.set_keyring(before)


@pytest.fixture
def sandbox() -> Iterator[Running]:
    with Sandbox.thread(broker()) as running:
        yield running


class Ring(keyring.backend.KeyringBackend):
    """A keyring of the system, open or locked."""

    priority = 5  # pyright: ignore[reportAssignmentType]

    def __init__(self, *, locked: bool = False) -> None:
        super().__init__()
        self.held: dict[tuple[str, str], str] = {}
        self.locked = locked

    def _asked(self, given: str = "") -> None:
        if self.locked:
            raise keyring.errors.KeyringLocked(f"locked, and you said {given}")

    def get_password(self, service: str, username: str) -> str | None:
        self._asked()
        return self.held.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._asked(password)
        self.held[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self._asked()
        if self.held.pop((service, username), None) is None:
            raise keyring.errors.PasswordDeleteError("not there")


def settings(running: Running | None = None, **zerodha: Any) -> Settings:
    given = {"api_key": "sandboxkey", "api_secret": "sandboxsecret"} | zerodha
    if running is not None:
        given["root_url"] = running.url
    return Settings(zerodha=given)


def kept(**changes: Any) -> secrets.Login:
    facts: dict[str, Any] = {
        "token": Secret(CANARY), "app": secrets.app_of(settings().zerodha), "root": "https://api.kite.trade",
        "user_id": "AB1234", "at": at(9),
    }  # fmt: skip
    return secrets.Login(**facts | changes)


def request_token(running: Running) -> SecretStr:
    return SecretStr(running.do(lambda b: b.access.login(b.now)))


def log_in(running: Running, **zerodha: Any) -> tuple[Settings, login.LoggedIn]:
    chosen = settings(running, **zerodha)
    return chosen, login.finish(chosen, request_token(running), login.api_secret(chosen))


def file_of(name: str = "zerodha") -> Path:
    return Path(os.environ["XDG_CONFIG_HOME"]) / "alphapanda" / f"{name}.json"


# ── where a login is kept ────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_keyring_a_login_lies_in_a_file_of_its_owner_alone() -> None:
    assert secrets.load_token(settings()) is None
    assert secrets.keep_login(settings(), kept()) == "file"
    assert stat.S_IMODE(file_of().stat().st_mode) == 0o600
    assert stat.S_IMODE(file_of().parent.stat().st_mode) == 0o700
    found = secrets.load_login(settings())
    assert found is not None
    assert (found.token.get_secret_value(), found.user_id, found.at) == (CANARY, "AB1234", at(9))
    assert found.source == "file"
    assert secrets.forget(settings())
    assert not file_of().exists()
    assert not secrets.forget(settings())


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_that_others_can_read_or_write_is_refused_with_path_mode_and_fix(mode: int) -> None:
    secrets.keep_login(settings(), kept())
    file_of().chmod(mode)
    with pytest.raises(ConfigurationError) as caught:
        secrets.load_token(settings())
    error = caught.value
    assert error.code == "E_SECRET_EXPOSED"
    assert str(file_of()) in error.message
    assert f"{mode:04o}" in error.message
    assert f"chmod 600 {file_of()}" in error.fix
    assert CANARY not in str(error) + repr(error) + str(error.context)


def test_a_link_a_folder_others_write_and_a_pipe_are_refused(tmp_path: Path) -> None:
    secrets.keep_login(settings(), kept())
    file_of().parent.chmod(0o777)
    with pytest.raises(ConfigurationError, match="others can replace it"):
        secrets.load_token(settings())
    file_of().parent.chmod(0o700)
    elsewhere = file_of().rename(tmp_path / "elsewhere.json")
    file_of().symlink_to(elsewhere)
    with pytest.raises(ConfigurationError) as caught:
        secrets.load_token(settings())
    assert caught.value.code == "E_SECRET_EXPOSED"
    file_of().unlink()
    os.mkfifo(file_of(), 0o600)
    with pytest.raises(ConfigurationError, match="not a file of yours"):
        secrets.load_token(settings())


def test_what_cannot_be_read_is_an_error_without_its_text_and_a_login_replaces_it() -> None:
    secrets.keep_login(settings(), kept())
    file_of().write_text(f'{{"login": "{CANARY}"')
    with pytest.raises(ConfigurationError) as caught:
        secrets.load_token(settings())
    assert CANARY not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None
    secrets.keep_login(settings(), kept())
    assert secrets.load_token(settings()) is not None


def test_settings_come_first_then_the_keyring_then_the_file() -> None:
    secrets.keep_login(settings(), kept(at=at(8)))
    ring = Ring()
    keyring.set_keyring(ring)
    assert secrets.keep_login(settings(), kept(token=Secret("fresh" + CANARY), at=at(9))) == "keyring"
    assert not file_of().exists()  # no older copy is left
    token = secrets.load_token(settings())
    assert token is not None
    assert token.get_secret_value() == "fresh" + CANARY
    ours = settings(access_token="fromsettings" + CANARY)
    token = secrets.load_token(ours)
    assert token is not None
    assert token.get_secret_value() == "fromsettings" + CANARY
    assert secrets.forget(settings())
    assert not ring.held


def test_of_two_copies_the_newest_counts() -> None:
    ring = Ring()
    keyring.set_keyring(ring)
    secrets.keep_login(settings(), kept(user_id="OLD", at=at(8)))
    ring.locked = True
    assert secrets.keep_login(settings(), kept(user_id="NEW", at=at(9))) == "file"
    ring.locked = False
    found = secrets.load_login(settings())
    assert found is not None
    assert (found.user_id, found.source) == ("NEW", "file")


def test_a_locked_keyring_is_told_of_without_what_it_was_given() -> None:
    keyring.set_keyring(Ring(locked=True))
    with pytest.raises(InfrastructureError) as caught:
        secrets.load_token(settings())
    assert caught.value.code == "E_KEYRING"
    assert caught.value.__context__ is None
    assert secrets.keep_login(settings(), kept()) == "file"
    assert secrets.load_token(settings()) is not None


def test_a_logout_removes_what_it_can_and_tells_of_the_rest(sandbox: Running) -> None:
    chosen, _ = log_in(sandbox)
    ring = Ring(locked=True)
    keyring.set_keyring(ring)
    with pytest.raises(InfrastructureError):
        session.close_session(chosen)
    ring.locked = False
    assert secrets.load_login(chosen) is None  # the file is gone
    assert sandbox.do(lambda b: b.access.token) == ""
    chosen, _ = log_in(sandbox)
    keyring.set_keyring(NoKeyring())
    secrets.keep_login(chosen, kept(root=sandbox.url))
    file_of("zerodha-practice").chmod(0o644)
    assert session.close_session(chosen)  # refused to be read, and gone
    assert not file_of("zerodha-practice").exists()


def test_the_api_secret_is_kept_with_the_login_and_for_its_app_alone() -> None:
    bare = settings(api_secret=None)
    with pytest.raises(ConfigurationError) as caught:
        login.api_secret(bare)
    assert caught.value.code == "E_API_SECRET"
    secrets.keep_api_secret(bare, SecretStr("kept" + CANARY))
    secrets.keep_login(bare, kept())
    assert login.api_secret(bare).get_secret_value() == "kept" + CANARY
    other = settings(api_key="another", api_secret=None)
    assert secrets.load_api_secret(other) is None
    assert secrets.load_token(other) is None  # its login is of another app
    assert secrets.load_token(bare) is not None


def test_a_practice_login_never_goes_to_the_broker() -> None:
    secrets.keep_login(settings(), kept())
    practice = settings(root_url="http://127.0.0.1:7788")
    secrets.keep_login(practice, kept(root="http://127.0.0.1:7788", token=Secret("p" + CANARY)))
    assert file_of("zerodha-practice").exists()
    real, played = secrets.load_token(settings()), secrets.load_token(practice)
    assert real is not None
    assert played is not None
    assert (real.get_secret_value(), played.get_secret_value()) == (CANARY, "p" + CANARY)
    assert secrets.load_token(settings(root_url="http://127.0.0.1:7799")) is None  # another sandbox


@pytest.mark.parametrize(
    ("hour", "day", "dies"),
    [(5, DAY, DAY), (6, DAY, "2026-11-21"), (9, DAY, "2026-11-21"), (23, DAY, "2026-11-21")],
)
def test_a_token_dies_at_six(hour: int, day: str, dies: str) -> None:
    assert secrets.dies_after(at(hour, 0, day)) == at(6, 0, dies)


def test_a_login_shows_its_token_nowhere(capsys: Any) -> None:
    one = kept()
    secrets.keep_login(settings(), one)
    found = secrets.load_login(settings())
    assert found is not None
    done = login.LoggedIn(found, "file", "until six", "")
    for shown in (
        repr(one),
        str(one),
        f"{found}",
        repr(done),
        str(done),
        repr(found.token),
        repr(vars(settings())),
    ):
        assert CANARY not in shown
    assert CANARY not in repr(copy.deepcopy(found))
    with pytest.raises(AlphaPandaException):
        pickle.dumps(found.token)
    with pytest.raises(RuntimeError) as caught:
        raise RuntimeError(f"sent {CANARY} to somebody")
    assert CANARY not in safe_trace(caught.value)
    assert CANARY not in repr(plain({"note": f"got {CANARY}", "login": found, "error": caught.value}, 1000))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "text",
    [
        "GET /session/token?api_key=k1&access_token={} HTTP/1.1",
        "https://127.0.0.1:7787/?action=login&status=success&request_token={}&state=x",
        "redirect_params=request_token%3D{}",
        "api_key=k&request_token={}&checksum={}",
        '{{"enctoken": "{}"}}',
        "Authorization: enctoken {}",
        "enctoken {}",
        "Authorization: token apikey:{}",
        "wss://ws.kite.trade?api_key=k&access_token={}",
        "{{'access_token': '{}', 'public_token': '{}'}}",
    ],
)
def test_tokens_are_taken_out_of_texts_that_nobody_registered(text: str) -> None:
    unknown = "Zq8nLx2Vb7Kd4Mf1Tg6Hs3Jw9Rc5Yp0A"
    assert unknown not in redact(text.format(unknown, unknown))


# ── the exchange ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_login_works_end_to_end_with_the_official_client(sandbox: Running) -> None:
    chosen, done = log_in(sandbox)
    assert done.login.user_id == "SB0001"
    assert "SB0001 is logged in" in str(done)
    token = secrets.load_token(chosen)
    assert token is not None
    client: Any = KiteConnect("sandboxkey", token.get_secret_value(), root=sandbox.url)
    assert client.profile()["user_id"] == "SB0001"
    state = alive.token_state(chosen, wall_ns(), data=True)
    assert (state.state, state.user_id, state.fix) == ("alive", "SB0001", "")
    assert token.get_secret_value() not in str(done) + repr(done) + repr(state)


def test_a_request_token_is_good_once(sandbox: Running) -> None:
    chosen, once = settings(sandbox), request_token(sandbox)
    login.finish(chosen, once, login.api_secret(chosen))
    with pytest.raises(AuthenticationError) as caught:
        login.finish(chosen, once, login.api_secret(chosen))
    assert "alphapanda login" in caught.value.fix
    assert once.get_secret_value() not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None  # the client's frames hold it
    assert alive.token_state(chosen, wall_ns()).state == "alive"  # what was kept stays


@pytest.mark.parametrize(
    ("wrong", "code"), [({"api_secret": CANARY}, "E_API_SECRET"), ({"api_key": "nosuchkey"}, "E_CONFIG")]
)
def test_a_wrong_key_or_secret_is_named_and_not_shown(
    sandbox: Running, wrong: dict[str, str], code: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ConfigurationError) as caught:
        log_in(sandbox, **wrong)
    assert caught.value.code == code
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert not [value for value in wrong.values() if value in shown]
    assert secrets.load_token(settings(sandbox)) is None


def test_the_wrong_account_is_not_kept(sandbox: Running) -> None:
    with pytest.raises(ConfigurationError, match="SB0001 has logged in, the settings name AB1234") as caught:
        log_in(sandbox, user_id="AB1234")
    assert caught.value.code == "E_OTHER_ACCOUNT"
    assert secrets.load_login(settings(sandbox)) is None


def test_nothing_of_an_exchange_reaches_the_logs(sandbox: Running, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    chosen, once = settings(sandbox), request_token(sandbox)
    done = login.finish(chosen, once, login.api_secret(chosen))
    alive.token_state(chosen, wall_ns(), data=True)
    for value in (once, done.login.token, login.api_secret(chosen)):
        assert value.get_secret_value() not in caplog.text


def test_a_broker_that_is_away_or_talks_nonsense_is_said_so(sandbox: Running) -> None:
    gone = settings(root_url="http://127.0.0.1:9")
    with pytest.raises(BrokerError, match="no connection"):
        session.open_session(gone, SecretStr(PASTED), SecretStr("short"), wall_ns())
    secrets.keep_login(gone, kept(root="http://127.0.0.1:9"))
    state = alive.token_state(gone, wall_ns())
    assert state.state == "unknown"
    assert CANARY not in repr(state)
    chosen, _ = log_in(sandbox)
    for fault in (
        "html-502",
        "html-200",
        "null",
        "list",
        "no-error-type",
        "no-message",
        "redirect",
        "429",
        "drop",
    ):
        sandbox.switch(f"read-{fault}")
        assert alive.token_state(chosen, wall_ns()).state == "unknown", fault
    assert alive.token_state(chosen, wall_ns()).state == "alive"


def test_a_login_that_cannot_be_kept_is_ended(sandbox: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/proc/nowhere")
    with pytest.raises(InfrastructureError):
        log_in(sandbox)
    assert sandbox.do(lambda b: b.access.token) == ""


def test_a_login_during_the_dying_hours_is_doubted_and_a_set_token_is_told_of(sandbox: Running) -> None:
    assert "may end before 07:45" in session.lives_until(kept(at=at(6, 30)), settings())
    assert session.lives_until(kept(at=at(8)), settings()) == "until 06:00 on Sat 21 Nov IST at the latest"
    _, done = log_in(sandbox, access_token="dead" + CANARY)
    assert "ZERODHA__ACCESS_TOKEN" in str(done)


# ── death ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_logout_and_a_second_login_are_a_death_with_a_next_step(sandbox: Running) -> None:
    chosen, _ = log_in(sandbox)
    sandbox.open_session()  # somebody logs in elsewhere
    state = alive.token_state(chosen, wall_ns())
    assert state.state == "dead"
    assert "another login" in state.cause
    assert "alphapanda login" in state.fix


def refused(kind: str = "TokenException") -> Exception:
    from kiteconnect import exceptions

    return getattr(exceptions, kind)("Incorrect `api_key` or `access_token`.", code=403)


@pytest.mark.parametrize(
    ("now", "error", "state", "said"),
    [
        (at(9, 0, "2026-11-21"), refused(), "dead", "it ended at 06:00 on 21 Nov IST"),
        (at(11), refused(), "dead", "by a logout, or by another login"),
        (at(5, 30, "2026-11-21"), refused("PermissionException"), "dead", "between about 05:20 and 07:45"),
        (at(11), refused("PermissionException"), "unknown", "could not be asked"),
        (at(11), requests.exceptions.ReadTimeout("https://x?access_token=" + CANARY), "unknown", "in time"),
        (at(11), KeyError(CANARY), "unknown", "cannot be read"),
    ],
)
def test_the_cause_of_a_death_is_named(
    monkeypatch: pytest.MonkeyPatch, now: int, error: Exception, state: str, said: str
) -> None:
    secrets.keep_login(settings(), kept())

    def profile(_: object) -> Any:
        raise error

    monkeypatch.setattr(KiteConnect, "profile", profile)
    found = alive.token_state(settings(), now)
    assert found.state == state
    assert said in found.cause
    assert found.fix
    assert CANARY not in repr(found)
    assert found.since == (at(6, 0, "2026-11-21") if "ended at" in said else 0)


def test_a_dead_token_in_the_settings_is_named_as_what_stands_in_the_way(sandbox: Running) -> None:
    state = alive.token_state(settings(sandbox, access_token="dead" + CANARY), wall_ns())
    assert state.state == "dead"
    assert "ZERODHA__ACCESS_TOKEN" in state.fix


def test_never_another_app_and_a_plan_without_data_are_told_apart(sandbox: Running) -> None:
    assert alive.token_state(settings(sandbox), wall_ns()).cause == "nobody has logged in here"
    assert "ZERODHA__API_KEY" in alive.token_state(settings(sandbox, api_key=None), wall_ns()).fix
    chosen, _ = log_in(sandbox)
    assert alive.token_state(settings(sandbox, api_key="other"), wall_ns()).state == "other app"
    assert alive.token_state(settings(sandbox, user_id="AB1234"), wall_ns()).state == "other app"
    sandbox.switch("plan-personal", times=None)
    assert alive.token_state(chosen, wall_ns()).state == "alive"
    state = alive.token_state(chosen, wall_ns(), data=True)
    assert state.state == "no data"
    assert "developers.kite.trade" in state.fix


# ── the redirect ─────────────────────────────────────────────────────────────────────────────────────────────────


def fetch(address: str) -> tuple[int, str]:
    answer = requests.get(address, timeout=10)
    return answer.status_code, answer.text


def test_the_listener_takes_one_redirect_of_its_own_login() -> None:
    with login.Listener("http://127.0.0.1:0/kite", "mystate") as listener:
        base = listener.address
        good = f"{base}?action=login&status=success&request_token={PASTED}"
        assert fetch(base)[0] == 404
        assert fetch(f"{base}/favicon.ico")[0] == 404
        assert fetch(good)[0] == 400  # no state
        assert fetch(f"{good}&state=other")[0] == 400
        assert listener.wait(0) is None
        status, page = fetch(f"{good}&state=mystate")
        assert status == 200
        assert PASTED not in page
        found = listener.wait(0)
        assert found is not None
        assert found.get_secret_value() == PASTED
        assert fetch(f"{good}&state=mystate")[0] == 400  # it was one


def test_a_login_that_failed_at_the_broker_ends_the_wait() -> None:
    with login.Listener("http://127.0.0.1:0/", "mystate") as listener:
        assert fetch(f"{listener.address}?status=cancelled&state=mystate")[0] == 400
        with pytest.raises(ValidationError, match="not completed"):
            listener.wait(0)


def test_the_listener_is_on_this_machine_alone_and_says_who_is_there() -> None:
    for address in (
        "http://0.0.0.0:7787/",
        "http://192.168.1.5:7787/",
        "https://127.0.0.1/",
        "http://a@localhost/",
    ):
        with pytest.raises(ConfigurationError):
            login.Listener(address, "s")
    with (
        login.Listener("http://localhost:0/", "s") as first,
        pytest.raises(InfrastructureError) as caught,
    ):
        login.Listener(first.address, "s")
    assert caught.value.code == "E_REDIRECT"


@pytest.mark.parametrize(
    "text",
    [
        PASTED,
        f"  {PASTED}\n",
        f"http://127.0.0.1:7787/?action=login&status=success&request_token={PASTED}&state=s",
        f"http://localhost/?request_token={PASTED}&action=login&status=success",
        f"request_token={PASTED}&status=success",
    ],
)
def test_a_token_or_a_whole_address_may_be_pasted(text: str) -> None:
    found = session.request_token_of(text)
    assert login.accepted(found, "s", pasted=True).get_secret_value() == PASTED


@pytest.mark.parametrize(
    "text", ["", "short", "two words here and more", "https://x/?status=success", "p" * 999]
)
def test_anything_else_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        session.request_token_of(text)
    assert not text or text not in str(caught.value)


def test_a_pasted_address_of_another_login_is_refused() -> None:
    found = session.request_token_of(f"http://127.0.0.1:7787/?request_token={PASTED}&state=theirs")
    with pytest.raises(ValidationError) as caught:
        login.accepted(found, "ours", pasted=True)
    assert caught.value.code == "E_LOGIN_STATE"


def test_the_login_page_is_kites_or_the_sandboxs() -> None:
    assert (
        session.login_address(settings()) == "https://kite.zerodha.com/connect/login?v=3&api_key=sandboxkey"
    )
    there = session.login_address(settings(root_url="http://127.0.0.1:7788"), "s+1")
    assert (
        there == "http://127.0.0.1:7788/connect/login?v=3&api_key=sandboxkey&redirect_params=state%3Ds%252B1"
    )


def test_only_a_sandbox_logs_in_by_itself(sandbox: Running) -> None:
    with pytest.raises(ValidationError, match="only a sandbox"):
        session.practice_token(settings())
    chosen = settings(sandbox)
    assert (
        login.finish(chosen, session.practice_token(chosen), login.api_secret(chosen)).login.user_id
        == "SB0001"
    )


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def desk(sandbox: Running, monkeypatch: pytest.MonkeyPatch) -> Running:
    for name, value in (
        ("ROOT_URL", sandbox.url),
        ("API_KEY", "sandboxkey"),
        ("API_SECRET", "sandboxsecret"),
    ):
        monkeypatch.setenv(f"ZERODHA__{name}", value)
    return sandbox


def test_the_command_logs_in_says_how_it_stands_and_logs_out(desk: Running, capsys: Any) -> None:
    assert cli.main(["login", "--check"]) == 1
    assert "never: nobody has logged in here" in capsys.readouterr().out
    assert cli.main(["login", "--auto"]) == 0
    assert "SB0001 is logged in" in capsys.readouterr().out
    assert cli.main(["login", "--check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "alive"
    assert cli.main(["login", "--logout"]) == 0
    assert desk.do(lambda b: b.access.token) == ""
    assert secrets.load_login(Settings.load()) is None


def test_debug_shows_where_and_not_what(desk: Running, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZERODHA__API_SECRET", CANARY)
    assert cli.main(["--debug", "login", "--auto"]) == 78
    err = capsys.readouterr().err
    assert "open_session" in err
    assert "the api secret is not this app's" in err
    assert CANARY not in err


def test_without_the_secret_and_a_terminal_it_says_what_to_set(
    desk: Running, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZERODHA__API_SECRET")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    assert cli.main(["login", "--auto"]) == 78
    assert "ZERODHA__API_SECRET" in capsys.readouterr().err


def started(*arguments: str) -> subprocess.Popen[str]:
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
        "COLUMNS": "400",
    }
    command = [sys.executable, "-P", "-u", "-m", "alphapanda", "login", "--no-browser", *arguments]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def press(address: str) -> str:
    """What a person does on the sandbox's page: where they are sent."""
    answer = requests.post(address, allow_redirects=False, timeout=10)
    return answer.headers["Location"]


def test_a_person_in_a_browser_is_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with login.Listener("http://127.0.0.1:0/", "free") as probe:
        redirect = probe.address
    with Sandbox.thread(broker(), redirect_url=redirect) as running:
        monkeypatch.setenv("ZERODHA__ROOT_URL", running.url)
        monkeypatch.setenv("ZERODHA__API_KEY", "sandboxkey")
        monkeypatch.setenv("ZERODHA__API_SECRET", "sandboxsecret")
        with started("--redirect", redirect) as process:
            assert process.stdout
            lines = [process.stdout.readline() for _ in range(4)]
            address = lines[1].strip()
            target = press(address)
            assert fetch(target)[0] == 200
            out, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        assert "SB0001 is logged in" in out
        token = secrets.load_token(Settings.load())
        assert token is not None
        assert token.get_secret_value() not in out + err + "".join(lines)


@pytest.fixture
def taken() -> Iterator[str]:
    """A redirect address where somebody listens already, so that pasting is the only way."""
    with login.Listener("http://127.0.0.1:0/", "theirs") as listener:
        yield listener.address


def test_what_a_person_pastes_is_taken(desk: Running, taken: str) -> None:
    with started("--redirect", taken) as process:
        assert process.stdout
        lines: list[str] = []
        while not lines or "paste" not in lines[-1] or "cannot be caught" in lines[-1]:
            lines.append(process.stdout.readline())
        target = press(next(line.strip() for line in lines if "/connect/login" in line))
        out, err = process.communicate(f"{target}\n", timeout=30)
    assert process.returncode == 0, err
    assert "SB0001 is logged in" in out
    assert "request_token=" not in out + err


def test_in_a_terminal_what_is_pasted_does_not_appear(desk: Running, taken: str) -> None:
    ours, theirs = pty.openpty()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "400", "TERM": "dumb"}
    command = [sys.executable, "-P", "-u", "-m", "alphapanda", "login", "--no-browser", "--redirect", taken]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    seen, token = b"", request_token(desk).get_secret_value()
    with contextlib.suppress(OSError):  # a terminal whose other end is closed
        while b"is not shown)" not in seen:
            seen += os.read(ours, 4096)
        assert wait_until(lambda: not termios.tcgetattr(ours)[3] & termios.ECHO, 10)
        os.write(ours, b"not a token\n")
        os.write(ours, f"{token}\n".encode())
        while chunk := os.read(ours, 4096):
            seen += chunk
    os.close(ours)
    assert process.wait(30) == 0, seen
    assert b"neither a request token" in seen
    assert b"SB0001 is logged in" in seen
    assert token.encode() not in seen
    assert b"not a token" not in seen


def test_another_logins_address_and_a_closed_input_end_the_command(desk: Running, taken: str) -> None:
    with started("--redirect", taken) as process:
        _, err = process.communicate(f"{taken}?request_token={PASTED}&state=x\n", timeout=30)
    assert process.returncode == 2
    assert "E_LOGIN_STATE" in err
    assert PASTED not in err
    with started("--redirect", taken) as process:
        _, err = process.communicate("", timeout=30)
    assert process.returncode == 1
    assert "nothing was pasted" in err


# ── the notebook ─────────────────────────────────────────────────────────────────────────────────────────────────


class Told(list[tuple[str, str]]):
    """What a form would show, in order."""

    def __call__(self, state: str, said: str) -> None:
        self.append((state, said))


def test_a_form_takes_the_redirect_or_what_is_pasted(sandbox: Running) -> None:
    chosen, told = settings(sandbox), Told()
    attempt = Attempt(chosen, login.api_secret(chosen), "zerodha", "http://127.0.0.1:0/", told)
    attempt.listen()
    attempt.paste("what is this?")
    assert wait_until(lambda: bool(told), 10)
    assert told[0][0] == "failed"
    attempt.paste(press(attempt.address))
    assert attempt.over.wait(20)
    assert wait_until(lambda: told[-1][0] == "done", 10)
    assert [state for state, _ in told] == ["failed", "busy", "done"]
    assert "SB0001 is logged in" in told[-1][1]
    assert secrets.load_token(chosen) is not None


def test_a_form_that_heard_the_browser_is_done(sandbox: Running) -> None:
    chosen, told = settings(sandbox), Told()
    with login.Listener("http://127.0.0.1:0/", "free") as probe:
        redirect = probe.address
    attempt = Attempt(chosen, login.api_secret(chosen), "zerodha", redirect, told)
    attempt.listen()
    query = urlsplit(press(attempt.address)).query  # the sandbox sends people to its own page

    def heard() -> bool:
        with contextlib.suppress(requests.exceptions.ConnectionError):
            return fetch(f"{redirect}?{query}")[0] == 200
        return False

    assert wait_until(heard, 10)
    assert attempt.over.wait(20)
    assert wait_until(lambda: told[-1][0] == "done", 10)


def test_a_form_that_is_replaced_stops_listening(sandbox: Running) -> None:
    chosen = settings(sandbox)
    attempt = Attempt(chosen, login.api_secret(chosen), "zerodha", "http://127.0.0.1:0/", Told())
    attempt.listen()
    attempt.end()
    assert wait_until(lambda: "alphapanda-login" not in {one.name for one in threading.enumerate()}, 10)


def test_without_a_notebook_it_says_what_to_do(desk: Running) -> None:
    assert "alphapanda login" in repr(ap.login())
    assert "SB0001 is logged in" in repr(ap.login(auto=True))
    assert secrets.load_token(Settings.load()) is not None


CELLS = (
    "import alphapanda as ap\nform = ap.login(redirect='http://127.0.0.1:0/')\nform",
    """import requests
sent = requests.post(form.attempt.address, allow_redirects=False, timeout=10).headers["Location"]
form._message(form, {"do": "show"}, None)
form._message(form, {"do": "paste", "text": sent}, None)
assert form.attempt.over.wait(20)""",
    "form",
    "from alphapanda.zerodha.secrets import load_token\nload_token(ap.Settings.load())",
    "print(In)",
)


def test_a_saved_notebook_holds_no_token_and_no_address(
    desk: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    book: Any = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    NotebookClient(book, timeout=50, store_widget_state=True).execute()
    saved = json.dumps(book)
    token = secrets.load_token(Settings.load())
    assert token is not None
    assert "SB0001 is logged in" in saved  # the form's last word
    assert "application/vnd.jupyter.widget-view+json" in saved
    for hidden in (
        token.get_secret_value(),
        "request_token",
        "sandboxkey",
        "sandboxsecret",
        "connect/login?",
    ):
        assert hidden not in saved, hidden


def test_the_form_in_the_browser_keeps_nothing_that_is_pasted() -> None:
    source = (ROOT / "alphapanda" / "notebook" / "login.js").read_text("utf-8")
    assert 'type = "password"' in source
    assert source.index('field.value = ""') < source.index('model.send({ do: "paste"')
    assert ".set(" not in source  # no trait is ever written from the browser
    assert "innerHTML" not in source


def test_threads_that_ask_at_once_see_one_login(sandbox: Running) -> None:
    chosen, done = log_in(sandbox)
    seen: list[str] = []

    def look() -> None:
        found = secrets.load_token(chosen)
        seen.append(found.get_secret_value() if found else "")

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen) == {done.login.token.get_secret_value()}


def test_the_sandbox_is_a_command(capsys: Any) -> None:
    assert cli.main(["sandbox", "--faults"]) == 0
    assert "token-dead" in capsys.readouterr().out

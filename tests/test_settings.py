"""The settings: one lane, no dropped limit, no shown secret (rows B01, B03, B04, B05 of the failure list)."""

from __future__ import annotations

import copy
import os
import pickle
import traceback
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphapanda.errors import ConfigurationError
from alphapanda.settings import AlpacaSettings, RiskSettings, Settings

if TYPE_CHECKING:
    from pathlib import Path

CANARY = "cAnArY7tokenNeverShown8x"
SECRETS = (
    "ZERODHA__API_KEY",
    "ZERODHA__API_SECRET",
    "ZERODHA__ACCESS_TOKEN",
    "DATABASE__POSTGRES_URL",
    "REDIS__PASSWORD",
    "REDPANDA__PASSWORD",
)
NUMBERS = sorted(n for n, f in RiskSettings.model_fields.items() if f.annotation in (int, float))
SOUND_PRODUCTION = {
    "ALPHAPANDA_PROFILE": "production",
    "REDIS__UNIX_SOCKET": "/run/redis.sock",
    "DATABASE__SQLITE_PATH": "/var/lib/alphapanda/book.sqlite",
}


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty directory and an environment with none of our variables."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if "__" in name or name.startswith(("BROKER_", "ALPHAPANDA_")):
            monkeypatch.delenv(name)


def refusal(**variables: str) -> ConfigurationError:
    """The error that these environment variables lead to."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        with pytest.raises(ConfigurationError) as caught:
            Settings.load()
    return caught.value


def env_file(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def everything(error: BaseException) -> str:
    """All that a log, a notebook or a debugger could show of an error, and of what led to it."""
    shown = ["".join(traceback.format_exception(error)), repr(error), repr(vars(error)), repr(error.args)]
    for led in (error.__cause__, error.__context__):
        shown += [everything(led)] if led else []
    return "\n".join(shown)


def test_with_nothing_set_we_are_on_paper_and_every_limit_is_on() -> None:
    settings = Settings.load()
    assert settings.broker_namespace == "paper"
    assert settings.profile == "development"
    assert settings.alpaca is None
    assert all(getattr(settings.risk, name) > 0 for name in NUMBERS)
    assert settings.api.host == "127.0.0.1"
    assert settings.api.cors_origins == ()


def test_variables_reach_nested_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_NAMESPACE", "zerodha")
    monkeypatch.setenv("RISK__MAX_ORDER_QUANTITY", "500")
    monkeypatch.setenv("LOGGING__AUDIT__LEVEL", "WARNING")
    monkeypatch.setenv("API__CORS_ORIGINS", "https://a.example, https://b.example")
    monkeypatch.setenv("ALPACA__API_KEY", "k")
    monkeypatch.setenv("ALPACA__API_SECRET", "s")
    monkeypatch.setenv("DATABASE__POSTGRES_URL", "postgresql://u@h/db")
    settings = Settings.load()
    assert settings.broker_namespace == "zerodha"
    assert settings.risk.max_order_quantity == 500
    assert (settings.logging.audit.level, settings.logging.audit.retention_days) == ("WARNING", 2922)
    assert settings.api.cors_origins == ("https://a.example", "https://b.example")
    assert isinstance(settings.alpaca, AlpacaSettings)
    assert settings.database.postgres_url is not None
    assert settings.database.postgres_url.get_secret_value() == "postgresql://u@h/db"


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    env_file(tmp_path / ".env", "RISK__MAX_ORDER_QUANTITY=1\nRISK__ORDERS_PER_DAY=2\n")
    monkeypatch.setenv("RISK__MAX_ORDER_QUANTITY", "7")
    risk = Settings.load().risk
    assert (risk.max_order_quantity, risk.orders_per_day) == (7, 2)


def test_settings_do_not_change() -> None:
    settings = Settings.load()
    with pytest.raises(Exception, match="frozen"):
        settings.risk.max_order_quantity = 10**9
    with pytest.raises(Exception, match="frozen"):
        settings.broker_namespace = "zerodha"


# ── B01: the lane ───────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "lane", ["zerodha ", " zerodha", "Zerodha", "ZERODHA", "zerodah", "live", "", "paper,zerodha"]
)
def test_a_lane_is_named_exactly_or_refused(lane: str, tmp_path: Path) -> None:
    error = refusal(BROKER_NAMESPACE=lane)
    assert error.code == "E_LANE"
    assert "paper" in str(error)
    assert "zerodha" in str(error)
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(env_file(tmp_path / "lane.env", f'BROKER_NAMESPACE="{lane}"\n'))
    assert caught.value.code == "E_LANE"


# ── B03: limits ─────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("bad", ["NaN", "-1", "0", "1e400", "True", "inf", "-inf", "", "ten", "1,000"])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_limit_is_a_finite_positive_number(name: str, bad: str) -> None:
    error = refusal(**{f"RISK__{name.upper()}": bad})
    assert error.code == "E_LIMIT"
    assert f"RISK__{name.upper()}" in str(error)
    assert "finite positive number" in str(error)
    assert "fix:" in str(error)


@given(
    name=st.sampled_from(NUMBERS),
    bad=st.sampled_from([True, False, float("nan"), float("inf"), -1, 0, 1e400, None, [1], {}, "ten"])
    | st.floats(max_value=0),
)
def test_nor_does_a_bad_limit_pass_from_python(name: str, bad: object) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings(risk={name: bad})
    assert caught.value.code == "E_LIMIT"


@pytest.mark.parametrize(("name", "above"), [("SECOND", "11"), ("MINUTE", "401"), ("DAY", "5001")])
def test_an_order_rate_stays_within_the_brokers(name: str, above: str) -> None:
    assert refusal(**{f"RISK__ORDERS_PER_{name}": above}).code == "E_LIMIT"


# ── B04: unknown names ──────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("RISK__MAX_ORDER_NOTIONNAL", "RISK__MAX_ORDER_NOTIONAL"),
        ("RISK__MAX_ORDER_QUANTTIY", "RISK__MAX_ORDER_QUANTITY"),
        ("RIKS__MAX_ORDER_QUANTITY", "RISK__MAX_ORDER_QUANTITY"),
        ("ZERODHA__API_SECERT", "ZERODHA__API_SECRET"),
        ("LOGGING__AUDTI", "LOGGING__AUDIT"),
        ("BROKER_NAMESPCE", "BROKER_NAMESPACE"),
        ("ALPHAPANDA_PROFIL", "ALPHAPANDA_PROFILE"),
    ],
)
def test_a_misspelt_name_is_refused_with_the_nearest(wrong: str, right: str, tmp_path: Path) -> None:
    variable = f"{wrong}__LEVEL" if wrong == "LOGGING__AUDTI" else wrong
    file = env_file(tmp_path / "typo.env", f"{variable}={CANARY}\n")
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(file)
    for error in (refusal(**{variable: CANARY}), caught.value):
        assert error.code == "E_UNKNOWN_KEY"
        assert wrong in str(error)
        assert f"did you mean {right}?" in str(error)
        assert CANARY not in everything(error)


def test_a_typo_never_drops_a_limit() -> None:
    error = refusal(RISK__MAX_ORDER_VAULE="5")
    assert error.code == "E_UNKNOWN_KEY"
    assert "did you mean RISK__MAX_ORDER_" in str(error)


def test_a_far_off_name_lists_the_known_ones() -> None:
    assert "RISK__MAX_ORDER_QUANTITY" in str(refusal(RISK__XYZZY="5"))


def test_unknown_names_from_python() -> None:
    for values in ({"risk": {"max_order_vaule": 1}}, {"riskk": {}}, {"redis": {"hots": "x"}}):
        with pytest.raises(ConfigurationError) as caught:
            Settings(**values)
        assert caught.value.code == "E_UNKNOWN_KEY"


def test_other_programs_variables_are_none_of_our_business(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "APP__DEBUG",
        "KUBERNETES_NAMESPACE",
        "AWS_PROFILE",
        "PROFILE",
        "__CFBundleIdentifier",
        "X__Y",
    ):
        monkeypatch.setenv(name, "anything")
    assert Settings.load().profile == "development"


def test_a_line_that_would_be_dropped_is_refused(tmp_path: Path) -> None:
    text = "RISK__ORDERS_PER_DAY 5\n# fine\nRISK__MAX_DAILY_LOSS\nAPI__PORT=1\nexport API__PORT=2\n"
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(env_file(tmp_path / "bad.env", text))
    for line in (1, 3, 5):
        assert f"bad.env:{line}" in str(caught.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfeRISK"])
def test_a_named_file_must_be_there_and_readable(content: bytes | None, tmp_path: Path) -> None:
    if content:
        (tmp_path / "other.env").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"other\.env: cannot be read"):
        Settings.load(tmp_path / "other.env")


def test_all_problems_come_at_once() -> None:
    error = refusal(BROKER_NAMESPACE="live", RISK__MAX_ORDER_QUANTITY="-1", RISK__XYZZY="1", RIKS__A="1")
    assert {p.code for p in error.context["problems"]} == {"E_LANE", "E_LIMIT", "E_UNKNOWN_KEY"}
    assert "4 problems" in str(error)


def test_a_section_is_not_given_as_broken_json() -> None:
    error = refusal(ZERODHA=CANARY)
    assert "ZERODHA" in str(error)
    assert CANARY not in everything(error)


# ── B05 and T01–T03: secrets ────────────────────────────────────────────────────────────────────
@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o666])
@pytest.mark.parametrize("name", SECRETS)
def test_a_file_of_secrets_is_its_owners_alone(name: str, mode: int, tmp_path: Path) -> None:
    file = env_file(tmp_path / ".env", f"{name}={CANARY}\n", mode)
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(file)
    error = caught.value
    assert error.code == "E_SECRET_EXPOSED"
    assert f"{mode:04o}" in str(error)
    assert f"chmod 600 {file}" in str(error)
    assert name in str(error)
    assert CANARY not in everything(error)
    file.chmod(0o600)
    assert CANARY not in repr(Settings.load(file))


def test_a_file_without_secrets_may_be_read_by_all(tmp_path: Path) -> None:
    assert Settings.load(env_file(tmp_path / ".env", "API__PORT=8001\n", 0o644)).api.port == 8001


def test_no_dump_holds_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, CANARY)
    monkeypatch.setenv("ALPACA__API_KEY", CANARY)
    monkeypatch.setenv("ALPACA__API_SECRET", CANARY)
    settings = Settings.load()
    shown = [str(settings), repr(settings), repr(vars(settings)), settings.model_dump_json()]
    shown += [repr(settings.model_dump()), repr(settings.zerodha), f"{settings.zerodha.api_secret}"]
    shown += [repr(copy.deepcopy(settings)), repr(settings.model_copy())]
    assert CANARY not in "\n".join(shown)
    assert settings.zerodha.api_secret is not None
    assert settings.zerodha.api_secret.get_secret_value() == CANARY
    for held in (settings, settings.zerodha, settings.redis, settings.zerodha.access_token):
        with pytest.raises(ConfigurationError, match="cannot be pickled"):
            pickle.dumps(held)


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize(
    "fault",
    [
        {"RISK__MAX_ORDER_QUANTITY": "-1"},
        {"BROKER_NAMESPACE": "live"},
        {"ZERODHA__TIMEOUT_SECONDS": "nan"},
        {"ZERODHA__ROOT_URL": "https://elsewhere.example"},
        {"ZERODHA__BOGUS": CANARY},
        {"REDIS__BOGUS": "1"},
        {"REDIS__PORT": "0"},
        {"DATABASE__BOGUS": "1"},
        {"ALPACA__API_KEY": CANARY},
        {"ALPHAPANDA_PROFILE": "production", "REDIS__HOST": "db.example"},
    ],
)
def test_no_error_shows_a_secret_or_its_sibling(name: str, fault: dict[str, str]) -> None:
    assert CANARY not in everything(refusal(**{name: CANARY}, **fault))


@pytest.mark.parametrize("wrong", [[CANARY], {"a": CANARY}, 12, ""])
def test_nor_does_a_secret_of_the_wrong_kind(wrong: object) -> None:
    for values in ({"api_secret": wrong}, {"api_secret": CANARY, "api_key": wrong}, CANARY):
        with pytest.raises(ConfigurationError) as caught:
            Settings(zerodha=values)
        assert CANARY not in everything(caught.value)


@pytest.mark.parametrize("field", ["root_url", "ticker_url"])
@pytest.mark.parametrize(
    "url",
    [
        "http://api.kite.trade",
        "https://api.kite.trade.evil.example",
        "https://api.kite.trade@evil.example",
        "http://127.0.0.1@evil.example",
        "http://localhost.evil.example",
        "not an address",
        "http://[::1",
    ],
)
def test_tokens_go_to_kite_and_nowhere_else(field: str, url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings(zerodha={field: url})
    assert f"ZERODHA__{field.upper()}" in str(caught.value)


@pytest.mark.parametrize("name", ["SECOND_APPROVER", "TRUSTED_KEYS"])
@pytest.mark.parametrize("key", ["ab" * 31, "AB" * 32, "xy" * 32, "alice"])
def test_a_key_that_is_none_is_refused(name: str, key: str) -> None:
    assert f"PROMOTION__{name}" in str(refusal(**{f"PROMOTION__{name}": key}))


def test_whose_word_counts_is_a_list_of_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.load().promotion.trusted_keys == ()
    monkeypatch.setenv("PROMOTION__TRUSTED_KEYS", f"{'ab' * 32}, {'cd' * 32}")
    assert Settings.load().promotion.trusted_keys == ("ab" * 32, "cd" * 32)


# ── profiles ────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LOGGING__TRADING__LEVEL", "DEBUG"),
        ("API__CORS_ORIGINS", "https://a.example,*"),
        ("DATABASE__SQLITE_PATH", "book.sqlite"),
        ("ZERODHA__ROOT_URL", "http://127.0.0.1:9000"),
        ("REDPANDA__PASSWORD", "p"),
    ],
)
def test_production_refuses_what_a_desk_may_do(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, setting in SOUND_PRODUCTION.items():
        monkeypatch.setenv(key, setting)
    assert Settings.load().profile == "production"
    error = refusal(**{name: value})
    assert error.code == "E_PRODUCTION"
    monkeypatch.setenv("ALPHAPANDA_PROFILE", "development")
    monkeypatch.setenv(name, value)
    assert Settings.load().profile == "development"


def test_production_wants_redis_closed_and_a_database_that_stays() -> None:
    error = refusal(ALPHAPANDA_PROFILE="production", REDIS__HOST="10.0.0.5")
    assert {p.name for p in error.context["problems"]} == {"REDIS__PASSWORD", "DATABASE__SQLITE_PATH"}

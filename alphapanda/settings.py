"""The settings: read once at the edge from the environment and a ``.env`` file, checked whole, never changed.

    settings = Settings.load()                   # environment first, then ./.env, then the defaults below
    settings.risk.max_order_notional             # rupees

Rules. A variable is the field's path in capitals joined by ``__``: ``RISK__MAX_ORDER_QUANTITY=500``. Every limit is on
from the start; a name we do not know is an error, since a typo must not drop a limit. The lane is never guessed:
``BROKER_NAMESPACE`` is exactly ``paper`` or ``zerodha``. All problems come in one ConfigurationError that names each
field, never the value of a secret. Only shells import this module; the core is handed plain values.
"""

from __future__ import annotations

import difflib
import io
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, cast, get_args
from urllib.parse import urlsplit

import pydantic
from dotenv.parser import parse_stream
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from alphapanda.errors import ConfigurationError, nearest

KITE_ADDRESSES = {"https://api.kite.trade", "wss://ws.kite.trade"}
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class Secret(SecretStr):
    """A text that prints as asterisks, and refuses to be pickled: it would leave in the clear."""

    def __reduce_ex__(self, protocol: object) -> Any:
        raise ConfigurationError(
            "a secret cannot be pickled",
            code="E_SECRET_EXPOSED",
            fix="hand a worker the plain values it needs, and let it load its own Settings",
        )

    def __deepcopy__(self, memo: object) -> Self:
        return self


def _secret(value: SecretStr) -> Secret:
    return Secret(value.get_secret_value())


def _number(value: object) -> object:
    """Pydantic would read True as 1."""
    if isinstance(value, bool):
        raise PydanticCustomError("limit", "a finite number is required")
    return value


def _split(value: object) -> object:
    """A list in one variable: ``a, b``."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _kite_or_loopback(url: str) -> str:
    parts = urlsplit(url)
    if url in KITE_ADDRESSES or (parts.scheme in {"http", "ws"} and parts.hostname in LOOPBACK):
        return url
    raise PydanticCustomError("pinned", "only Kite's own address, or a sandbox on this machine")


def _own_page(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "http" and parts.hostname in LOOPBACK and not (parts.query or parts.username):
        return url
    raise PydanticCustomError("page", "an http:// address on this machine, such as http://127.0.0.1:7787/")


def _public_stream(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "wss" or (parts.scheme == "ws" and parts.hostname in LOOPBACK):
        return url
    raise PydanticCustomError("stream", "a wss:// address, or ws:// on this machine")


def _public_key(text: str) -> str:
    if len(text) == 64 and not set(text) - set("0123456789abcdef"):
        return text
    raise PydanticCustomError("key", "a public key: 64 hexadecimal digits in small letters")


PrivateText = Annotated[SecretStr, Field(min_length=1), AfterValidator(_secret)]
Text = Annotated[str, Field(min_length=1, max_length=200)]
Count = Annotated[int, BeforeValidator(_number), Field(gt=0, le=10**12)]
Number = Annotated[float, BeforeValidator(_number), Field(gt=0, le=1e15, allow_inf_nan=False)]
Percent = Annotated[float, BeforeValidator(_number), Field(gt=0, le=100, allow_inf_nan=False)]
Share = Annotated[float, BeforeValidator(_number), Field(gt=0, le=1, allow_inf_nan=False)]
NotNegative = Annotated[float, BeforeValidator(_number), Field(ge=0, le=1e6, allow_inf_nan=False)]
Port = Annotated[int, BeforeValidator(_number), Field(ge=1, le=65535)]
FreePort = Annotated[int, BeforeValidator(_number), Field(ge=0, le=65535)]  # 0: any that is free
Days = Annotated[int, BeforeValidator(_number), Field(gt=0, le=36500)]
Whole = Annotated[int, BeforeValidator(_number), Field(ge=0, le=2**63 - 1)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
PublicKey = Annotated[str, AfterValidator(_public_key)]
PublicKeys = Annotated[tuple[PublicKey, ...], NoDecode, BeforeValidator(_split)]
Profile = Literal["development", "production"]
Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


class Section(BaseModel):
    """One group of settings: closed (no unknown key) and frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, validate_default=True)


class ZerodhaSettings(Section):
    """The Kite Connect app and login. The access token ends each morning at about 06:00 IST."""

    api_key: PrivateText | None = None
    api_secret: PrivateText | None = None
    access_token: PrivateText | None = None
    user_id: Text | None = None  # the account's client id, as on a contract note
    root_url: Annotated[str, AfterValidator(_kite_or_loopback)] = "https://api.kite.trade"
    ticker_url: Annotated[str, AfterValidator(_kite_or_loopback)] = "wss://ws.kite.trade"
    redirect_url: Annotated[str, AfterValidator(_own_page)] = (
        "http://127.0.0.1:7787/"  # the app's, as registered: where a login is caught
    )
    timeout_seconds: Number = 7.0  # deadline of one REST call
    market_band_percent: Number = 1.0  # how far from the last price a market order may fill
    shadow: bool = False  # check and keep every order, send none: fills are paper's

    @model_validator(mode="before")
    @classmethod
    def _one_broker(cls, given: Any) -> Any:
        """A sandbox answers both at one address, so its ticker need not be named."""
        if not isinstance(given, dict):
            return given
        values = cast("dict[str, Any]", given)
        root = values.get("root_url")
        if isinstance(root, str) and root.startswith("http://") and "ticker_url" not in values:
            return {**values, "ticker_url": root.replace("http", "ws", 1)}
        return values

    @model_validator(mode="after")
    def _one_world(self) -> Self:
        if (self.root_url in KITE_ADDRESSES) != (self.ticker_url in KITE_ADDRESSES):
            raise PydanticCustomError(
                "pinned", "one address is Kite's and the other a sandbox's: give both or none"
            )
        return self


class PaperTradingSettings(Section):
    """How the simulated exchange treats our orders."""

    starting_cash: Number = 1_000_000.0  # rupees
    slippage_bps: NotNegative = 1.0  # hundredths of a percent of the price, against us
    slippage_ticks: Annotated[Whole, Field(le=1000)] = 0  # tick sizes, against us
    latency_ms: NotNegative = 0.0  # event time from order to venue
    participation: Share = 0.1  # share of the traded volume one order may take
    seed: Whole = 0  # of every random draw


class AlpacaSettings(Section):
    """A second broker's account; absent unless one of its variables is set."""

    api_key: PrivateText
    api_secret: PrivateText
    paper: bool = True  # its practice account


class PortfolioManagerSettings(Section):
    """How the portfolio is named, marked and kept."""

    portfolio_id: Text = "main"
    mark_price: Literal["last", "mid"] = "last"  # what open positions are valued at
    snapshot_seconds: Number = 60.0  # exchange time between two stored snapshots


class RiskSettings(Section):
    """The limits in front of every order, simulated or live. None can be switched off, only moved."""

    max_order_quantity: Count = 10_000  # units of one order
    max_order_notional: Number = 1_000_000.0  # rupees of one order
    max_position_notional: Number = 2_000_000.0  # rupees in one instrument, long or short
    max_gross_exposure: Number = 5_000_000.0  # rupees over all instruments, longs plus shorts
    price_band_percent: Percent = 5.0  # a limit price may lie this far from the last traded one
    max_order_slices: Annotated[Count, Field(le=20)] = (
        1  # orders the exchange may get of one above its freeze quantity
    )
    orders_per_second: Annotated[Count, Field(le=10)] = 8  # the broker refuses more than 10
    orders_per_minute: Annotated[Count, Field(le=400)] = 300  # the broker refuses more than 400
    orders_per_day: Annotated[Count, Field(le=5000)] = 3000  # the broker refuses more than 5000
    strategy_orders_per_second: Count = 5  # of one strategy, so that it leaves some to the others
    strategy_orders_per_minute: Count = 60
    max_daily_loss: Number = 50_000.0  # rupees below the day's first equity, charges included
    max_drawdown: Percent = 20.0  # percent below the highest equity
    duplicate_window_ms: Number = 500.0  # an equal order within this event time is a duplicate
    allowed_instruments: Names = ()  # NSE:INFY, NSE:TCS; empty: all that the registry holds


class MonitoringSettings(Section):
    """What is measured, and when a person is told."""

    metrics_host: Text = "127.0.0.1"
    metrics_port: Port = 9108
    sample_seconds: Number = 1.0  # how often counters are read
    stale_tick_seconds: Number = 5.0  # silence of an open market that counts as a fault
    lag_warning_ms: Number = 250.0  # from the venue's stamp to our step
    dead_man_seconds: Number = 30.0  # without a sign of a live gateway, until its entries are cancelled


class ChannelSettings(Section):
    """One log channel: what is written and how long it is kept."""

    level: Level = "INFO"
    retention_days: Days = 30


class AuditChannelSettings(ChannelSettings):
    """Orders, fills and who acted: kept for eight years."""

    retention_days: Days = 2922


class PerformanceChannelSettings(ChannelSettings):
    """Rates and lags, of use for a week."""

    retention_days: Days = 7


class TradingChannelSettings(ChannelSettings):
    """Signals and decisions, of use for a year."""

    retention_days: Days = 365


class ErrorChannelSettings(ChannelSettings):
    """Whatever a person should look at."""

    level: Level = "WARNING"
    retention_days: Days = 365


class LoggingSettings(Section):
    """The five channels, one JSON line an event."""

    directory: Path | None = None  # None: .alphapanda/logs of the workspace
    audit: AuditChannelSettings = AuditChannelSettings()
    performance: PerformanceChannelSettings = PerformanceChannelSettings()
    trading: TradingChannelSettings = TradingChannelSettings()
    error: ErrorChannelSettings = ErrorChannelSettings()
    application: ChannelSettings = ChannelSettings()


class APISettings(Section):
    """The HTTP service; on this machine only unless told otherwise."""

    host: Text = "127.0.0.1"
    port: FreePort = 8000
    cors_origins: Names = ()  # https://one.example, https://two.example
    allowed_hosts: Names = ()  # names it may be called by beside this machine's: desk.example
    trusted_proxies: Names = ()  # addresses or networks whose X-Forwarded-For is believed
    behind_tls: bool = False  # a proxy in front speaks TLS: without it only this machine is served
    rate_limit_calls: Count = 100  # calls a client may make in one period
    rate_limit_seconds: Number = 60.0  # the sliding period


class DashboardSettings(Section):
    """The pages; on this machine only, and with the API's tokens."""

    host: Text = "127.0.0.1"
    port: FreePort = 5006
    allowed_hosts: Names = ()  # names they may be called by beside this machine's
    behind_tls: bool = False  # a proxy in front speaks TLS: without it only this machine is served
    refresh_seconds: Annotated[Number, Field(ge=0.1, le=10)] = 0.25  # between two looks of an open page


class AlertSettings(Section):
    """Who is told when something needs a person, beside the error log and the dashboard."""

    webhook_url: PrivateText | None = (
        None  # https://... that takes a JSON POST; a secret, since many hold a key
    )
    repeat_seconds: Number = 900.0  # what nobody has acknowledged is told again after so long
    webhook_seconds: Number = 5.0  # deadline of one POST


class ScheduleSettings(Section):
    """Scheduled notebooks: where they may lie, and what one run of them may use."""

    folder: Path = Path("notebooks")  # from the workspace's root; no notebook outside it is run
    timeout_seconds: Number = 3600.0  # of one run, unless its schedule says otherwise
    kept: Count = 200  # executed notebooks that are kept of each schedule
    memory_mb: Count = 4096  # address space beyond which a notebook's processes get no more


class DatabaseSettings(Section):
    """Where promotions are on record: PostgreSQL if its address is given, else one SQLite file."""

    postgres_url: PrivateText | None = None  # postgresql://host/name, with the user and password in it
    sqlite_path: Path = Path(".alphapanda/promotions.sqlite")  # from the workspace's root


class PromotionSettings(Section):
    """Whose word lets a strategy trade with money. Keys are public ones; `alphapanda audit` shows one's own."""

    trusted_keys: PublicKeys = ()  # of other people, beside this workspace's own
    second_approver: PublicKey | None = None  # without this person's signature nothing goes live


class FeedSettings(Section):
    """Where ticks come from; crypto symbols (BINANCE:BTCUSDT) always from the exchange's public stream.

    With source "kite" they come from Zerodha as they happen, and ``speed`` and what follows it have no say.
    """

    source: Literal["synthetic", "tape", "kite"] = "synthetic"
    tape: Path | None = None  # what source "tape" plays: a saved tape, or a file of ticks
    speed: NotNegative = 1.0  # tape seconds in one second; 0: as fast as readers follow
    wait_for_runs: Whole = 0  # a tape waits until so many runs listen
    seed: Whole = 7  # of the synthetic market
    ticks_per_second: Number = 60.0  # of the synthetic market, all instruments together
    crypto_url: Annotated[str, AfterValidator(_public_stream)] = "wss://data-stream.binance.vision"
    record: bool = True  # seal each day's ticks as a tape


class RedisSettings(Section):
    """State and streams. Without an address the hub starts a server of its own, on a socket only we can open."""

    unix_socket: Path | None = None
    host: Text | None = None
    port: Port = 6379
    database: Annotated[Whole, Field(le=15)] = 0
    username: Text | None = None
    password: PrivateText | None = None
    timeout_seconds: Number = 2.0


class RedpandaSettings(Section):
    """The Kafka-speaking bus, for when one machine is not enough."""

    bootstrap_servers: Names = ("127.0.0.1:9092",)
    tls: bool = False
    username: Text | None = None
    password: PrivateText | None = None


class Problem(NamedTuple):
    """One thing wrong: its code, the variable that holds it, and two half sentences."""

    code: str
    name: str
    message: str
    fix: str


class Settings(BaseSettings):
    """Everything a process may be told from outside, checked before it does anything."""

    model_config = SettingsConfigDict(
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        validate_default=True,
    )

    broker_namespace: Literal["paper", "zerodha"] = "paper"  # a runner's lane when none is named
    profile: Profile = Field("development", validation_alias="alphapanda_profile")  # as ALPHAPANDA_PROFILE
    zerodha: ZerodhaSettings = ZerodhaSettings()
    paper_trading: PaperTradingSettings = PaperTradingSettings()
    alpaca: AlpacaSettings | None = None
    portfolio_manager: PortfolioManagerSettings = PortfolioManagerSettings()
    risk: RiskSettings = RiskSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    logging: LoggingSettings = LoggingSettings()
    api: APISettings = APISettings()
    dashboards: DashboardSettings = DashboardSettings()
    alerts: AlertSettings = AlertSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    database: DatabaseSettings = DatabaseSettings()
    promotion: PromotionSettings = PromotionSettings()
    feed: FeedSettings = FeedSettings()
    redis: RedisSettings = RedisSettings()
    redpanda: RedpandaSettings = RedpandaSettings()

    def __init__(self, **values: Any) -> None:
        if "profile" in values:
            values["alphapanda_profile"] = values.pop("profile")
        problems: list[Problem] = []
        try:
            super().__init__(**values)
        except pydantic.ValidationError as error:
            problems = [_problem(fault) for fault in error.errors(include_url=False, include_context=True)]
        except SettingsError as error:
            field = str(error).partition('"')[2].partition('"')[0].upper()
            problems = [Problem("E_CONFIG", field, "not valid JSON", "set one variable for each field")]
        else:
            problems = list(_production(self)) if self.profile == "production" else []
        _refuse(problems)  # out of the except block, so that no error holds the input as its context

    @classmethod
    def load(cls, env_file: str | os.PathLike[str] | None = ".env") -> Settings:
        """The process's settings. ``env_file`` None reads the environment alone; another file than the default must
        exist. Raises ConfigurationError with every problem; ``context["problems"]`` lists them for programs."""
        path = None if env_file is None else Path(env_file)
        if env_file == ".env" and not Path(".env").exists():
            path = None
        problems = list(_misspelt(os.environ))
        if path:
            problems += _unsound(path)
        if any(problem.code == "E_FILE" for problem in problems):
            _refuse(problems)
        settings = None
        try:
            settings = cls(_env_file=path, _env_file_encoding="utf-8")
        except ConfigurationError as error:
            problems += error.context["problems"]
        _refuse(problems)
        assert settings is not None  # noqa: S101 - no settings means a problem, and problems were refused
        return settings


def _refuse(problems: list[Problem]) -> None:
    if not problems:
        return
    problems = list(dict.fromkeys(problems))
    lines = [f"{p.name}: {p.message} [{p.code}]\n    fix: {p.fix}" for p in problems]
    count = f"{len(lines)} problem{'s' * (len(lines) > 1)} in the settings"
    raise ConfigurationError("\n  ".join([f"{count}:", *lines]), code=problems[0].code, problems=problems)


def _models(annotation: Any) -> Iterator[Any]:
    """The classes an annotation is made of: through Optional, Annotated and aliases."""
    if isinstance(annotation, type):
        yield annotation
    elif isinstance(annotation, str):  # one word of a Literal
        yield str
    for part in get_args(annotation):
        yield from _models(part)


def _field(path: tuple[str, ...]) -> tuple[type[BaseModel], list[type[Any]]]:
    """The section that a path of names ends in, and the classes of the field there (none: no such field)."""
    section: type[BaseModel] = Settings
    kinds: list[type[Any]] = []
    for depth, name in enumerate(path):
        field = section.model_fields.get({"alphapanda_profile": "profile"}.get(name, name))
        kinds = list(_models(field.annotation)) if field else []
        inner = [kind for kind in kinds if issubclass(kind, BaseModel)]
        if not inner or depth == len(path) - 1:
            break
        section = inner[0]
    return section, kinds


def _problem(fault: Any) -> Problem:
    """Pydantic's fault in our words. Its input is shown only where a known, unsecret, single value stands."""
    path = tuple(str(part).lower() for part in fault["loc"])
    path = tuple(part for whole in path for part in whole.split("__"))  # a .env key arrives undivided
    section, kinds = _field(path)
    name, kind, value = "__".join(path).upper(), fault["type"], fault["input"]
    private = not kinds or any(issubclass(k, SecretStr | BaseModel) for k in kinds)
    shown = "" if private or not isinstance(value, str | int | float) else f"{value!r:.60} refused, "
    if kind == "extra_forbidden":
        return Problem("E_UNKNOWN_KEY", name, "unknown setting", _meant(section, path))
    if path == ("broker_namespace",):
        fix = "set exactly paper or zerodha, in small letters, with no space"
        return Problem("E_LANE", name, f"{shown}unknown namespace; allowed: paper, zerodha", fix)
    wanted = fault["msg"].removeprefix("Input should be ")
    if any(k in {int, float} for k in kinds):
        message = f"{shown}a finite positive number is required ({wanted})"
        return Problem("E_LIMIT", name, message, f"correct {name}, or leave it out for the default")
    if kind == "missing":
        return Problem("E_CONFIG", name, "required and not set", f"set {name}, or leave its section out")
    return Problem("E_CONFIG", name, f"{shown}required: {wanted}", f"correct {name}")


def _meant(section: type[BaseModel], path: tuple[str, ...]) -> str:
    """The nearest name that exists, repaired where it went wrong: in the section or in the field."""
    at = 0 if section is Settings else len(path) - 1
    known = ["alphapanda_profile" if name == "profile" else name for name in section.model_fields]
    if close := nearest(path[at], known):
        return f"did you mean {'__'.join([*path[:at], close, *path[at + 1 :]]).upper()}?"
    return f"known: {', '.join('__'.join([*path[:at], name]).upper() for name in known)}"


def _production(settings: Settings) -> Iterator[Problem]:
    """What is a convenience on a desk and a hole with money behind it."""

    def hole(name: str, message: str, fix: str) -> Problem:
        return Problem("E_PRODUCTION", name, f"{message}: refused in production", fix)

    logs, database, redpanda = settings.logging, settings.database, settings.redpanda
    for name in ("audit", "performance", "trading", "error", "application"):
        if getattr(logs, name).level == "DEBUG":
            yield hole(f"LOGGING__{name.upper()}__LEVEL", "debug lines may hold secrets", "set INFO")
    if "*" in settings.api.cors_origins:
        yield hole("API__CORS_ORIGINS", "'*' lets every web page call us", "list the origins in full")
    if settings.redis.host and not settings.redis.password:
        yield hole("REDIS__PASSWORD", "Redis without a password", "set it, or set REDIS__UNIX_SOCKET")
    if not (database.postgres_url or database.sqlite_path.is_absolute()):
        fix = "set DATABASE__POSTGRES_URL, or an absolute path"
        yield hole("DATABASE__SQLITE_PATH", "a database that moves with the workspace", fix)
    for name in ("root_url", "ticker_url"):
        if getattr(settings.zerodha, name) not in KITE_ADDRESSES:
            yield hole(f"ZERODHA__{name.upper()}", "a sandbox's address", "leave it out")
    if redpanda.password and not redpanda.tls:
        yield hole("REDPANDA__TLS", "a password sent in the clear", "set REDPANDA__TLS=true")


def _misspelt(names: Iterable[str]) -> Iterator[Problem]:
    """Variables that are nearly ours. The environment is shared, so only a close likeness is refused there."""
    ours = [*Settings.model_fields, "alphapanda_profile"]
    for name in names:
        head, divided, rest = name.lower().partition("__")
        known = ours if divided else ["broker_namespace", "alphapanda_profile"]
        close = difflib.get_close_matches(head, known, n=1, cutoff=0.75 if divided else 0.85)
        if close and head not in ours:
            meant = f"{close[0]}{divided}{rest}".upper()
            yield Problem("E_UNKNOWN_KEY", name, "unknown setting", f"did you mean {meant}?")


def _unsound(path: Path) -> Iterator[Problem]:
    """A ``.env`` file says each thing once, drops no line, and is its owner's alone if it holds secrets."""
    try:
        mode, text = path.stat().st_mode, path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        cause = f"cannot be read ({type(error).__name__})"
        yield Problem("E_FILE", str(path), cause, "name an existing UTF-8 file of NAME=value lines")
        return
    seen: dict[str, str] = {}
    for line in parse_stream(io.StringIO(text)):
        place, key = f"{path}:{line.original.line}", (line.key or "").lower()
        if line.error or (key and line.value is None):
            yield Problem("E_CONFIG", place, "the line would be dropped", "write NAME=value, or # before it")
        elif key in seen:
            yield Problem("E_CONFIG", place, f"{line.key} is set twice", f"keep this line or {seen[key]}")
        elif key:
            seen[key] = place
    held = [k for k in seen if any(issubclass(kind, SecretStr) for kind in _field(tuple(k.split("__")))[1])]
    if os.name == "posix" and mode & 0o077 and held:
        message = f"mode {stat.S_IMODE(mode):04o} lets others read {', '.join(held).upper()}"
        yield Problem("E_SECRET_EXPOSED", str(path), message, f"chmod 600 {path}")

"""Where the login and the api secret are kept: the system's keyring, or a file only its owner can read.

    load_token(settings)     # the token to use now, or None: the settings' own, else the kept one
    load_login(settings)     # the same with who logged in and when
    keep_login(login)        # after a login

Settings (the environment) come before everything that is kept; a token there is taken as it is. A kept login says
which app it is of (a hash of the api key), who logged in, when, and at which address, so that yesterday's, another
app's or the sandbox's is never taken for today's. Real logins and those of a sandbox lie side by side. Nothing here
imports the broker's client. No error names a value.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import msgspec
from pydantic import SecretStr

from alphapanda.errors import AlphaPandaException, ConfigurationError, InfrastructureError
from alphapanda.events import DAY, IST_OFFSET_NS, SECOND
from alphapanda.logs.redaction import register_secret
from alphapanda.places import Place, Source, path_of, places
from alphapanda.settings import LOOPBACK, Secret, Settings
from alphapanda.workspace import checked

if TYPE_CHECKING:
    from alphapanda.settings import ZerodhaSettings

NAMESPACE = "zerodha"
ROLLOVER_NS = 6 * 3600 * SECOND  # after midnight IST (Kite docs, user)


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """A session with the broker. ``at`` is when it began on our clock (wall ns), 0 where that is not known."""

    token: SecretStr
    app: str = ""  # see ``app_of``
    root: str = ""  # the address that gave it
    user_id: str = ""
    at: int = 0
    source: Source = "settings"

    @property
    def dies(self) -> int:
        """The next 06:00 IST after the login (wall ns): no token lives longer. 0 where that is not known."""
        return dies_after(self.at) if self.at else 0


class _Kept(msgspec.Struct, kw_only=True):
    """What is on record, in one entry of the keyring or one file."""

    login: Login | None = None
    api_secret: SecretStr | None = None
    secret_app: str = ""


def app_of(settings: ZerodhaSettings) -> str:
    """The app as it may be written down: sixteen hex digits of its key's hash; "" without a key."""
    if settings.api_key is None:
        return ""
    return hashlib.sha256(settings.api_key.get_secret_value().encode()).hexdigest()[:16]


def is_practice(root: str) -> bool:
    """Whether the address is a sandbox's on this machine."""
    return urlsplit(root).hostname in LOOPBACK


def dies_after(at: int) -> int:
    """The first 06:00 IST after a moment, both wall ns."""
    since_midnight = (at + IST_OFFSET_NS) % DAY
    return at - since_midnight + ROLLOVER_NS + (DAY if since_midnight >= ROLLOVER_NS else 0)


# ── what callers use ─────────────────────────────────────────────────────────────────────────────────────────────


def load_token(settings: Settings, namespace: str = NAMESPACE) -> SecretStr | None:
    """The token to call the broker with; None while nobody has logged in to this app here. See ``load_login``."""
    login = load_login(settings, namespace)
    return login.token if login and of_this_app(login, settings) else None


def load_login(settings: Settings, namespace: str = NAMESPACE) -> Login | None:
    """The login on record: the settings' token, else the newest kept one, whatever app it is of.

    Raises ConfigurationError (E_SECRET_EXPOSED) for a file that others can read, InfrastructureError (E_KEYRING) if
    only a keyring that cannot be opened could hold it.
    """
    if settings.zerodha.access_token is not None:
        return _known(
            Login(
                token=settings.zerodha.access_token,
                app=app_of(settings.zerodha),
                root=settings.zerodha.root_url,
                user_id=settings.zerodha.user_id or "",
            )
        )
    return kept_login(settings, namespace)


def kept_login(settings: Settings, namespace: str = NAMESPACE) -> Login | None:
    """The same without a look at the settings' token. Raises as ``load_login``."""
    found = [
        msgspec.structs.replace(kept.login, source=place.source)
        for place, kept in _all(_name(settings, namespace))
        if kept.login is not None
    ]
    return _known(max(found, key=lambda login: login.at)) if found else None


def of_this_app(login: Login, settings: Settings) -> bool:
    """Whether a login is of the app and the address that the settings name."""
    mine = app_of(settings.zerodha)
    return bool(mine) and hmac.compare_digest(login.app, mine) and login.root == settings.zerodha.root_url


def load_api_secret(settings: Settings, namespace: str = NAMESPACE) -> SecretStr | None:
    """The app's secret: of the settings, else the kept one of this app. Raises as ``load_login``."""
    if settings.zerodha.api_secret is not None:
        return settings.zerodha.api_secret
    for _, kept in _all(_name(settings, namespace)):
        if kept.api_secret is not None and kept.secret_app == app_of(settings.zerodha):
            register_secret(kept.api_secret.get_secret_value())
            return kept.api_secret
    return None


def keep_login(settings: Settings, login: Login, namespace: str = NAMESPACE) -> Source:
    """Keep a login instead of the one before; where it lies now. InfrastructureError if it cannot be kept."""
    _known(login)
    return _keep(_name(settings, namespace), login=login)


def keep_api_secret(settings: Settings, secret: SecretStr, namespace: str = NAMESPACE) -> Source:
    """Keep the app's secret, so that a login need not ask for it. Raises as ``keep_login``."""
    register_secret(secret.get_secret_value())
    return _keep(_name(settings, namespace), api_secret=secret, secret_app=app_of(settings.zerodha))


def forget(settings: Settings, namespace: str = NAMESPACE) -> bool:
    """Remove the kept login and secret wherever they lie; whether there were any. What can be removed is, before
    InfrastructureError tells of a place that cannot be opened."""
    name, found = _name(settings, namespace), False
    closed: InfrastructureError | None = None
    for place in places():
        try:
            held = place.read(name) is not None
        except ConfigurationError:  # others can read it: all the more
            held = True
        except InfrastructureError as error:
            closed = error
            continue
        if held:
            place.remove(name)
        found |= held
    if closed is not None:
        raise closed
    return found


# ── what is written ──────────────────────────────────────────────────────────────────────────────────────────────


def _name(settings: Settings, namespace: str) -> str:
    return checked(namespace) + ("-practice" if is_practice(settings.zerodha.root_url) else "")


def _known(login: Login) -> Login:
    register_secret(login.token.get_secret_value())
    return login


def _all(name: str) -> list[tuple[Place, _Kept]]:
    """What is kept, by place. A keyring that cannot be opened is an error only if no file holds anything."""
    found: list[tuple[Place, _Kept]] = []
    closed: InfrastructureError | None = None
    for place in places():
        try:
            data = place.read(name)
        except InfrastructureError as error:
            closed = error
            continue
        if data is not None:
            found.append((place, _decoded(data, place, name)))
    if closed is not None and not found:
        raise closed
    return found


def _keep(name: str, **changes: Any) -> Source:
    """Lay changes over what is kept, in the best place that takes it, and leave no older copy in another."""
    before = _Kept()
    with contextlib.suppress(AlphaPandaException):  # unreadable: replaced
        for _, kept in reversed(_all(name)):
            before = kept
    data = msgspec.json.encode(msgspec.structs.replace(before, **changes), enc_hook=_plain)
    kept_in = places()
    for at, place in enumerate(kept_in):
        try:
            place.write(name, data)
        except InfrastructureError:
            if at == len(kept_in) - 1:
                raise
            continue
        for other in kept_in:
            if other is not place:
                with contextlib.suppress(InfrastructureError):
                    other.remove(name)
        return place.source
    raise AssertionError("there is always the file")


def _plain(value: object) -> str:
    return cast("SecretStr", value).get_secret_value()


def _secret(kind: type, value: Any) -> Secret:
    return Secret(value)


def _decoded(data: bytes, place: Place, name: str) -> _Kept:
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.decode(data, type=_Kept, dec_hook=_secret)
    where = "the system's keyring" if place.source == "keyring" else str(path_of(name))
    raise ConfigurationError(
        f"what {where} holds of {name} cannot be read", fix="run `alphapanda login --logout`, then log in"
    )

"""``ap.login()``: log in to the broker from a notebook.

What is shown, saved and remembered of it holds no token: the form gets the address and what is pasted as messages,
which no notebook keeps, and there is no argument a token could be given in. The session goes where ``alphapanda
login`` keeps it, for the processes that trade; this kernel does not need it.
"""

# pyright: reportUntypedBaseClass=false, reportUnknownMemberType=false, reportIncompatibleVariableOverride=false

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alphapanda.clock import wall_ns
from alphapanda.errors import AlphaPandaException, ConfigurationError
from alphapanda.notebook import shown
from alphapanda.workspace import checked

if TYPE_CHECKING:
    from pydantic import SecretStr

    from alphapanda.settings import Settings

PATIENCE = 300.0  # seconds that the redirect is waited for
HOW = (
    "no form can be shown here. In a terminal, in this folder:\n"
    "  alphapanda login\n"
    "It opens the broker's page and keeps the login; what runs here finds it by itself."
)


class Said:
    """A result in words, as a notebook or a terminal shows it."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def login(namespace: str = "zerodha", *, auto: bool = False, redirect: str = "") -> Any:
    """A form to log in with: a link to the broker's page, and a field for the address you are sent to, if the browser
    runs on another machine than this notebook. Without widgets, what to do instead.

    ``redirect`` is the app's redirect URL, if it is not that of the settings. ``auto`` is for practice: a sandbox
    lets us in by itself. Raises ConfigurationError if the settings name no app or its secret is not known, and
    ValidationError for ``auto`` at the broker.
    """
    kite = _kite()
    from alphapanda.settings import Settings

    settings, namespace = Settings.load(), checked(namespace)
    kite.session.login_address(settings)  # or an error now: no app is named
    secret = kite.api_secret(settings, namespace)
    if auto:
        token = kite.session.practice_token(settings)
        return Said(str(kite.finish(settings, token, secret, namespace)))
    if shown.kernel() is None:
        return Said(HOW)
    try:
        form = _form()
    except ImportError:
        return Said(HOW)
    return form(settings, secret, namespace, redirect or settings.zerodha.redirect_url)


def _kite() -> Any:
    try:
        from alphapanda.zerodha import login as kite
    except ImportError as error:
        raise ConfigurationError(
            f"{error.name} is not installed", fix="pip install 'alphapanda[live,kite]'", code="E_EXTRA"
        ) from None
    return kite


def _words(error: AlphaPandaException) -> str:
    return f"{error.message[:1].upper()}{error.message[1:]}.\n{error.fix[:1].upper()}{error.fix[1:]}."


class Attempt:
    """One login under way: it listens for the redirect and takes what is pasted, until one of them has worked."""

    def __init__(
        self,
        settings: Settings,
        secret: SecretStr,
        namespace: str,
        redirect: str,
        tell: Any,
        patience: float = PATIENCE,
    ) -> None:
        self._kite = _kite()
        self._settings, self._secret, self._namespace = settings, secret, namespace
        self._redirect, self._tell, self._patience = redirect, tell, patience
        self._state = self._kite.new_state()
        self._lock = threading.Lock()
        self._listener: Any = None
        self._tried, self._notes = False, list[str]()  # what is known before the first try
        self.over = threading.Event()

    @property
    def address(self) -> str:
        """The broker's page."""
        return str(self._kite.session.login_address(self._settings, self._state))

    def listen(self) -> None:
        """Take redirects in a thread, until a login worked or patience is over."""
        threading.Thread(target=self._listen, name="alphapanda-login", daemon=True).start()

    def look(self) -> None:
        """Say how the login stands that is kept already, in a thread, if nothing else has happened by then."""
        threading.Thread(target=self._look, name="alphapanda-login", daemon=True).start()

    def paste(self, text: str) -> None:
        """Take what a person pasted, in a thread."""
        threading.Thread(target=self._paste, args=(text,), name="alphapanda-login", daemon=True).start()

    def end(self) -> None:
        """Stop listening."""
        self.over.set()
        with self._lock:
            if self._listener is not None:
                self._listener.cancel()

    def _look(self) -> None:
        from alphapanda.zerodha import alive

        try:
            state = alive.token_state(self._settings, wall_ns(), self._namespace)
        except AlphaPandaException as error:
            self._note(_words(error))
            return
        if state.state == "never":
            return
        told = f"{state.cause} already: a new login ends that one" if state.state == "alive" else state.cause
        self._note(f"the login is dead: {told}" if state.state == "dead" else told)

    def _note(self, text: str) -> None:
        """Something to know while nobody has tried to log in."""
        with self._lock:
            if not self._tried:
                self._notes.append(text)
                self._tell("open", "\n".join(self._notes))

    def _listen(self) -> None:
        try:
            while not self.over.is_set():
                with self._kite.Listener(self._redirect, self._state) as listener:
                    with self._lock:
                        self._listener = listener
                    token = None if self.over.is_set() else listener.wait(self._patience)
                    with self._lock:
                        self._listener = None
                if token is None:
                    return
                self._exchange(token)
        except AlphaPandaException as error:
            self._note(_words(error))

    def _paste(self, text: str) -> None:
        self._tried = True
        try:
            found = self._kite.session.request_token_of(text)
            token = self._kite.accepted(found, self._state, pasted=True)
        except AlphaPandaException as error:
            self._tell("failed", _words(error))
            return
        self._exchange(token)

    def _exchange(self, token: SecretStr) -> None:
        with self._lock:
            if self.over.is_set():
                return
            self._tried = True
            self._tell("busy", "logging in")
            try:
                done = self._kite.finish(self._settings, token, self._secret, self._namespace)
            except AlphaPandaException as error:
                self._tell("failed", _words(error))
                return
            self.over.set()
            self._tell("done", str(done))
            if self._listener is not None:
                self._listener.cancel()


_latest: list[Attempt] = []  # of this kernel: one listens at a time


def _form() -> type[Any]:
    """The widget's class, made when widgets are there."""
    import traitlets
    from anywidget import AnyWidget

    class LoginForm(AnyWidget):
        """The form in the browser; ``said`` and ``state`` are all that is saved of it."""

        _esm = Path(__file__).parent / "login.js"
        _css = Path(__file__).parent / "login.css"
        said = traitlets.Unicode("").tag(sync=True)
        state = traitlets.Unicode("open").tag(sync=True)  # open, busy, failed, done

        def __init__(self, settings: Settings, secret: SecretStr, namespace: str, redirect: str) -> None:
            super().__init__()
            for before in _latest:
                before.end()
            self.attempt = Attempt(settings, secret, namespace, redirect, self._told)
            _latest[:] = [self.attempt]
            self.on_msg(self._message)
            self.attempt.listen()
            self.attempt.look()

        def __repr__(self) -> str:
            return f"login form: {self.said or 'waiting for you to log in'}"

        def _told(self, state: str, said: str) -> None:
            with self.hold_sync():
                self.state, self.said = state, said

        def _message(self, _widget: Any, content: dict[str, Any], _buffers: Any) -> None:
            match content.get("do"):
                case "show":
                    self.send({"address": self.attempt.address})
                case "paste":
                    self.attempt.paste(str(content.get("text", ""))[:4000])
                case _:
                    pass

    return LoginForm

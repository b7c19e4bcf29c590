"""``alphapanda login``: log in to the broker in a browser, and keep the session for the processes that trade.

The token never stands in a command's arguments, which a shell remembers and ``ps`` shows: it comes by the browser's
redirect, or is pasted where it is not shown.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import os
import select
import sys
import webbrowser
from collections.abc import Generator
from typing import TYPE_CHECKING

from alphapanda.clock import monotonic, wall_ns
from alphapanda.console import as_json, open_console, say
from alphapanda.errors import AuthenticationError, ConfigurationError, InfrastructureError, ValidationError
from alphapanda.settings import Secret, Settings
from alphapanda.zerodha import alive, login, secrets, session

if TYPE_CHECKING:
    from pydantic import SecretStr
    from rich.console import Console

OK, FAILED = 0, 1
PATIENCE = 300.0  # seconds for a person to log in; a request token is good for a few minutes
NAMESPACES = ("zerodha",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``alphapanda login``."""
    parser.add_argument("--namespace", choices=NAMESPACES, default="zerodha", help="whose broker (zerodha)")
    parser.add_argument("--no-browser", action="store_true", help="only print the address of the login page")
    parser.add_argument(
        "--redirect",
        default="",
        metavar="URL",
        help="the app's redirect URL, on this machine (ZERODHA__REDIRECT_URL)",
    )
    parser.add_argument(
        "--keep-secret", action="store_true", help="keep the api secret, so that it is not asked for again"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="only say how the login stands")
    what.add_argument("--logout", action="store_true", help="end the session, and forget it and the secret")
    what.add_argument("--auto", action="store_true", help="practise: let the sandbox log in by itself")
    parser.add_argument("--json", action="store_true", help="with --check: print JSON")


def run(options: argparse.Namespace) -> int:
    """Log in, log out, or say how the login stands: 0 when it lives, else 1."""
    settings, console = Settings.load(), open_console()
    if options.logout:
        gone = session.close_session(settings, options.namespace)
        say(console, "logged out, and nothing is kept" if gone else "nothing was kept")
        return OK
    if options.check:
        return _check(settings, options, console)
    session.login_address(settings)  # no app named: that is to be mended before anything is asked
    secret = _api_secret(settings, options.namespace, keep=options.keep_secret)
    if options.auto:
        token: SecretStr = session.practice_token(settings)
    else:
        token = _token(settings, options, console)
    done = login.finish(settings, token, secret, options.namespace)
    for line in str(done).splitlines():
        say(console, line)
    return OK


def _check(settings: Settings, options: argparse.Namespace, console: Console) -> int:
    state = alive.token_state(settings, wall_ns(), options.namespace)
    if options.json:
        sys.stdout.write(as_json(state))
    else:
        say(console, f"{state.state}: {state.cause}")
        if state.fix:
            say(console, f"  fix  {state.fix}", "bold green")
    return OK if state.state == "alive" else FAILED


def _api_secret(settings: Settings, namespace: str, *, keep: bool) -> SecretStr:
    """From the settings or where it is kept, else asked for."""
    try:
        found = login.api_secret(settings, namespace)
    except ConfigurationError as error:
        if error.code != "E_API_SECRET" or not sys.stdin.isatty():
            raise
        typed = getpass.getpass("api secret (is not shown): ").strip()
        if not typed:
            raise
        found = Secret(typed)
    if keep:
        secrets.keep_api_secret(settings, found, namespace)
    return found


def _token(settings: Settings, options: argparse.Namespace, console: Console) -> SecretStr:
    """The request token, by redirect or by hand, whichever comes first."""
    state = login.new_state()
    address = session.login_address(settings, state)
    say(console, "log in at")
    say(console, f"  {address}")
    with contextlib.ExitStack() as stack:
        listener = None
        try:
            listener = stack.enter_context(
                login.Listener(options.redirect or settings.zerodha.redirect_url, state)
            )
        except InfrastructureError as error:
            say(console, f"{error.message}: {error.fix}", "yellow")
        else:
            say(console, f"waiting for the browser at {listener.address}, the app's redirect URL")
        if not options.no_browser and _has_browser():
            webbrowser.open(address)
        stack.enter_context(_unseen())  # before anybody is asked to type
        say(
            console,
            "or paste the address you are sent to, or its request_token, and press Enter (it is not shown)",
        )
        return _first(listener, state)


def _has_browser() -> bool:
    return sys.platform in ("darwin", "win32") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )


def _first(listener: login.Listener | None, state: str) -> SecretStr:
    """What comes first: the redirect, or a line that is typed. What is typed wrong may be typed again."""
    until = monotonic() + PATIENCE
    typing = True
    while (left := until - monotonic()) > 0:
        waiting = [*([listener.wake] if listener else []), *([sys.stdin] if typing else [])]
        if not waiting:
            break
        ready, _, _ = select.select(waiting, [], [], left)
        if listener and listener.wake in ready and (token := listener.wait(0)) is not None:
            return token
        if sys.stdin in ready:
            line = sys.stdin.readline()
            typing = bool(line)
            if not line.strip():
                continue
            try:
                return login.accepted(session.request_token_of(line), state, pasted=True)
            except ValidationError as error:
                if not sys.stdin.isatty():
                    raise
                sys.stderr.write(f"{error}\n")
    raise AuthenticationError(
        f"nobody logged in within {PATIENCE / 60:.0f} minutes"
        if typing or listener
        else "nothing was pasted, and no browser can be heard",
        fix="run `alphapanda login` again",
    )


@contextlib.contextmanager
def _unseen() -> Generator[None]:
    """What is typed does not appear in the terminal."""
    if not sys.stdin.isatty():
        yield
        return
    import termios

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    quiet = list(before)
    quiet[3] &= ~termios.ECHO
    termios.tcsetattr(descriptor, termios.TCSAFLUSH, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)

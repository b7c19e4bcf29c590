"""``alphapanda sandbox``: a local Kite Connect to practise on, with its faults to be switched on."""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import os
import signal
import sys
from pathlib import Path

from alphapanda.errors import ConfigurationError, UnknownNameError, ValidationError
from alphapanda.events import IST, SECOND, ist
from alphapanda.sandbox.access import Account
from alphapanda.sandbox.broker import CAPITAL_PAISE, Broker
from alphapanda.sandbox.faults import KINDS
from alphapanda.sandbox.market import Market
from alphapanda.sandbox.serve import Sandbox
from alphapanda.sandbox.sources import Recorded, Synthetic
from alphapanda.settings import ZerodhaSettings
from alphapanda.synthetic import TICKS_PER_SECOND
from alphapanda.tapes.tape import Tape

PORT = 7788
START = "2026-11-20 09:15"  # the day research knows from the package's data
REDIRECT = str(ZerodhaSettings.model_fields["redirect_url"].default)  # where `alphapanda login` listens


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``alphapanda sandbox``."""
    parser.add_argument("--port", type=_port, default=PORT, help="0 takes a free one (default: %(default)s)")
    parser.add_argument(
        "--start", default=START, help="the sandbox's time at the beginning, IST (default: %(default)s)"
    )
    parser.add_argument(
        "--speed", type=float, default=1.0, help="times the machine's clock (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=7, help="of the market and of every draw (default: %(default)s)"
    )
    parser.add_argument(
        "--rate", type=float, default=TICKS_PER_SECOND, help="ticks a second, all instruments together"
    )
    parser.add_argument("--tape", type=Path, help="play this tape instead of the synthetic market")
    parser.add_argument(
        "--capital", type=int, default=CAPITAL_PAISE // 100, help="rupees (default: %(default)s)"
    )
    parser.add_argument(
        "--plan", choices=("connect", "personal"), default="connect", help="personal has no market data"
    )
    parser.add_argument("--always-open", action="store_true", help="match at all hours")
    parser.add_argument(
        "--redirect",
        default=REDIRECT,
        help="where the login page sends people; '' shows them their request token (default: %(default)s)",
    )
    parser.add_argument(
        "--env",
        type=Path,
        nargs="?",
        const=Path(".env"),
        metavar="FILE",
        help="write the settings that trade here to FILE (.env), which must not be there yet",
    )
    parser.add_argument(
        "--fault", action="append", default=[], metavar="NAME[:TIMES[:SECONDS]]",
        help="switch a fault on; TIMES is a number or 'always' (default 1); may be given several times",
    )  # fmt: skip
    parser.add_argument("--faults", action="store_true", help="list the faults and stop")


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal comes. Raises what keeps it from starting: a ConfigurationError, ValidationError, DataError
    or UnknownNameError."""
    if arguments.faults:
        width = max(map(len, KINDS))
        sys.stdout.writelines(
            f"{name:<{width}}  {kind.meaning}" + (f" ({kind.seconds:g} s)" if kind.seconds else "") + "\n"
            for name, kind in KINDS.items()
        )
        return 0
    broker = make_broker(arguments)
    sandbox = Sandbox(broker, speed=arguments.speed, redirect_url=arguments.redirect)
    asyncio.run(_serve(sandbox, arguments.port, arguments.env))
    return 0


def make_broker(arguments: argparse.Namespace) -> Broker:
    """The broker that the options describe. Raises ValidationError, DataError or UnknownNameError."""
    start = _moment(arguments.start)
    if arguments.tape:
        tape = Tape.open(arguments.tape)
        if arguments.start == START:
            start = tape.first_ts
        market = Market.of(Recorded(tape))
    else:
        market = Market.of(Synthetic(arguments.seed, ist(start).date(), arguments.rate))
    if not market.quotes:
        raise ValidationError(
            f"no market on {ist(start):%Y-%m-%d}",
            fix="start on an ordinary trading day, such as --start '" + START + "'",
        )
    broker = Broker(
        market,
        now=start,
        seed=arguments.seed,
        capital_paise=arguments.capital * 100,
        account=Account(plan=arguments.plan),
        hours=not arguments.always_open,
    )
    for text in arguments.fault:
        switch(broker, text)
    return broker


def switch(broker: Broker, text: str) -> None:
    """Switch a fault on from ``NAME[:TIMES[:SECONDS]]``. Raises ValidationError or UnknownNameError."""
    name, _, rest = text.partition(":")
    times, _, seconds = rest.partition(":")
    if name not in KINDS:
        raise UnknownNameError("fault", name, list(KINDS))
    try:
        broker.faults.switch(
            name,
            times=None if times == "always" else int(times or 1),
            seconds=float(seconds) if seconds else None,
        )
    except ValueError:
        raise ValidationError(
            f"--fault {text!r}", fix="write NAME, NAME:3, NAME:always or NAME:1:30"
        ) from None


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 0 to 65535")
    return int(text)


def _moment(text: str) -> int:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ValidationError(f"--start {text!r} is not a moment", fix=f"write --start '{START}'") from None
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=IST)
    return round(zoned.timestamp()) * SECOND


def settings_of(account: Account, url: str) -> str:
    """What a ``.env`` file has to say for the platform to trade at this sandbox, line by line."""
    given = {
        "ZERODHA__API_KEY": account.api_key,
        "ZERODHA__API_SECRET": account.api_secret,
        "ZERODHA__USER_ID": account.user_id,
        "ZERODHA__ROOT_URL": url,
        "FEED__SOURCE": "kite",
    }
    return "".join(f"{name}={value}\n" for name, value in given.items())


def write_settings(path: Path, text: str) -> str:
    """Write them to a file that only its owner can read; what was done. One that says the same already is left as it
    is. Raises ConfigurationError for any other: it may hold the keys to real money."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if path.read_text("utf-8", errors="replace") == text:
            return f"the settings are in {path}"
        raise ConfigurationError(
            f"{path} is there already, and says something else",
            fix="move it away, or leave --env out: the lines are shown then, for you to choose from",
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written: {error.strerror}", fix="choose another with --env FILE"
        ) from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    return f"the settings were written to {path}"


def _next_steps(account: Account, url: str, file: Path | None) -> str:
    """What a person does now, in another terminal."""
    text = settings_of(account, url)
    if file is not None:
        where, first = "in its folder", write_settings(file, text)
    else:
        where = "in an empty folder"
        first = (
            f"write these lines to .env and `chmod 600 .env`, or start with --env, which does both\n\n{text}"
        )
    return (
        f"to trade here, in another terminal, {where}\n"
        f"  1. {first}\n"
        "  2. alphapanda login       and press the button on its page; --auto presses it for you\n"
        "  3. alphapanda preflight   says what is missing\n"
        "started again, it begins its day anew: give it a new folder then, or a later --start\n"
    )


async def _serve(sandbox: Sandbox, port: int, file: Path | None) -> None:
    url = await sandbox.start(port)
    account = sandbox.broker.account
    try:
        steps = _next_steps(account, url, file)
    except ConfigurationError:
        await sandbox.stop()
        raise
    sys.stdout.write(
        f"sandbox at {url}, its time {ist(sandbox.broker.now):%Y-%m-%d %H:%M:%S} IST at {sandbox.time.speed:g}x\n"
        f"  REST root  {url}\n"
        f"  ticker     {sandbox.ticker_url}\n"
        f"  login      {url}/connect/login?api_key={account.api_key}&v=3\n"
        f"  api key    {account.api_key}, secret {account.api_secret} (made up, only good here)\n"
        f"  faults     POST {url}/sandbox/faults, or start with --fault NAME; --faults lists them\n"
        f"{steps}"
    )
    sys.stdout.flush()
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    waiting = [asyncio.create_task(event.wait()) for event in (stopped, sandbox.failed)]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    await sandbox.stop()

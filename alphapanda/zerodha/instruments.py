"""The instruments of the day: Kite's CSV, fetched once and kept, a file a day.

Kite makes the list anew each morning and asks to fetch it once a day after 08:30 IST (Kite docs, market quotes and
instruments). Tokens are reused after expiry, so yesterday's list names the wrong contracts: it is never used for
today. Files are kept, for what expired cannot be asked for later.
"""

from __future__ import annotations

import datetime as dt
import gzip
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from alphapanda.errors import DataError, MarketDataError
from alphapanda.events import ist
from alphapanda.registry import Registry
from alphapanda.settings import LOOPBACK

READY = dt.time(8, 30)  # IST; before, the list may still be yesterday's
LARGEST = 64 * 2**20  # bytes; the list has about a hundred thousand lines of a hundred bytes
SHRUNK = 0.5  # of the instruments of the list before: less is a list that was cut


def registry_of_day(folder: Path, now: int, download: Callable[[], bytes]) -> Registry:
    """The registry for the IST day of ``now`` (ns): the kept file, or what ``download`` returns, plain or gzip.

    A list fetched before 08:30 IST is used and not kept. Raises DataError for a list that cannot be read, or has
    less than half the instruments of the one before; it is not kept.
    """
    moment = ist(now)
    path = kept(folder, moment.date())
    if path.exists():
        return Registry.read(path)
    data = download()
    data = data if data[:2] == b"\x1f\x8b" else gzip.compress(data, mtime=0)
    folder.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(data)
    try:
        found = Registry.read(fresh)
        _compare(found, folder, path)
        if moment.time() >= READY:
            fresh.replace(path)
            found.source = str(path)
    finally:
        fresh.unlink(missing_ok=True)
    return found


def kept(folder: Path, day: dt.date) -> Path:
    """Where the list of a day is kept."""
    return folder / f"instruments-{day}.csv.gz"


def fetch(root: str, headers: Mapping[str, str], timeout: float) -> bytes:
    """Kite's list of all exchanges: ``GET {root}/instruments``, at most ``timeout`` seconds for each wait.

    ``headers`` are those of a login (Kite docs, user): X-Kite-Version, and Authorization with key and token.

    No redirect is followed, since they hold the token, and no proxy is used for this machine. Raises MarketDataError
    when it cannot be had.
    """
    request = urllib.request.Request(f"{root.rstrip('/')}/instruments", headers=dict(headers))  # noqa: S310 - settings allow Kite's https address or this machine only
    try:
        with opener(root).open(request, timeout=timeout) as answer:
            data: bytes = answer.read(LARGEST + 1)
    except urllib.error.HTTPError as error:
        error.close()
        fix = "run `alphapanda login`: the token is dead" if error.code == 403 else "try again in a minute"
        raise MarketDataError(f"the instruments of today were refused with {error.code}", fix=fix) from None
    except OSError as error:  # never the headers: they hold the token
        raise MarketDataError(
            f"the instruments of today could not be fetched: {error}",
            fix="check the connection and try again, or put Kite's CSV in the folder by hand",
        ) from None
    if len(data) > LARGEST:
        raise MarketDataError(
            f"the instruments of today are more than {LARGEST} bytes",
            fix="check ZERODHA__ROOT_URL: is it Kite?",
        )
    return data


def opener(root: str) -> urllib.request.OpenerDirector:
    """What asks the broker at ``root`` without the official client: a redirect is the answer and goes nowhere."""
    local = urlsplit(root).hostname in LOOPBACK
    proxies = urllib.request.ProxyHandler({}) if local else urllib.request.ProxyHandler()
    return urllib.request.build_opener(proxies, _Stay)


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **named: Any) -> None:
        """See ``urllib.request``."""


def _compare(found: Registry, folder: Path, path: Path) -> None:
    earlier = sorted(one for one in folder.glob("instruments-*.csv.gz") if one.name < path.name)
    if not earlier:
        return
    before = len(Registry.read(earlier[-1]))
    if len(found) < SHRUNK * before:
        raise DataError(
            f"the instruments of today are {len(found):,}, on the list before there were {before:,}",
            fix=f"fetch it again later; if that is right, delete {earlier[-1].name}",
            code="E_INSTRUMENTS_CUT",
        )

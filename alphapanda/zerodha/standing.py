"""What a preflight looks at on this machine: the journals, the disk, the server, the limits, the kill switch, and
orders of earlier days whose end is not known.

The files are read beside their writer, never written.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import shutil
import sqlite3
import stat
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from alphapanda.checks import Check, State
from alphapanda.errors import AlphaPandaException
from alphapanda.events import ist
from alphapanda.logs.redaction import safe_text
from alphapanda.settings import Settings
from alphapanda.workspace import Workspace, checked
from alphapanda.zerodha.intents import Intent
from alphapanda.zerodha.states import CREATED, DOUBTFUL, REJECTED

INSTRUMENTS = "instruments"  # folder of the workspace
ORDERS = "orders"  # the same, with the intents of each account
DISK_LOW, DISK_FULL = 2.0, 0.2  # GB
FULL = 2  # of PRAGMA synchronous
VANISHING = {"tmpfs", "ramfs", "overlay"}  # gone with the power, or with the container
REMOTE = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "9p",
    "fuse.sshfs",
    "fuse.gcsfuse",
}  # whose locks and syncs are not to be trusted
OWN_LIMITS = (
    "max_order_quantity", "max_order_notional", "max_position_notional", "max_gross_exposure", "max_daily_loss",
)  # fmt: skip
# of refused orders; the last is also said of a plan, but orders belong to every plan
IP_WORDS = ("no ips configured", "ip is not allowed", "allowed ips", "insufficient permission")
SHOWN = 5  # orders that are listed

_INTENT = msgspec.msgpack.Decoder(Intent)


def orders_file(workspace: Workspace, namespace: str) -> Path:
    """Where the intents of an account are kept (``store.Store``)."""
    return workspace.home / ORDERS / f"{checked(namespace)}.sqlite"


# ── what must not be lost ────────────────────────────────────────────────────────────────────────────────────────


def journal(workspace: Workspace, namespace: str) -> Iterator[Check]:
    """Both journals: whole, and their owner's alone; and whether their folder keeps what it is given."""
    for what, path in (
        ("journal", workspace.journal(namespace)),
        ("order journal", orders_file(workspace, namespace)),
    ):
        yield _whole(what, path)
    yield _keeps(workspace.journal(namespace).parent)


def _whole(what: str, path: Path) -> Check:
    if not path.exists():
        return Check(what, "ok", "is made at the first start")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        return Check(what, "failed", f"{path} has mode {mode:04o}: others can read it", f"chmod 600 {path}")
    try:
        with _read(path) as database:
            found = database.execute("PRAGMA quick_check").fetchone()[0]
            mode_found = database.execute("PRAGMA journal_mode").fetchone()[0]
    except sqlite3.Error as error:
        found, mode_found = str(error), "wal"
    restore = "restore it from a backup; without it nobody knows which orders left"
    if found != "ok":
        return Check(what, "failed", f"{path} is damaged: {safe_text(found, 200)}", restore)
    if mode_found != "wal":
        return Check(what, "failed", f"{path} is not in WAL mode but {mode_found}", "start its gateway once")
    return Check(what, "ok", f"{path.stat().st_size / 1e6:,.1f} MB, whole, only yours")


def _keeps(folder: Path) -> Check:
    """Commit a row as the journals do."""
    kind = filesystem(folder)
    if kind in REMOTE:
        return Check(
            "durability",
            "failed",
            f"{folder} is on {kind}: a commit there may be lost, and two writers may both be let in",
            "keep the workspace on a local disk: set ALPHAPANDA_HOME",
        )
    with tempfile.TemporaryDirectory(dir=folder, prefix=".preflight-") as place:
        database = sqlite3.connect(Path(place) / "probe.sqlite", isolation_level=None)
        try:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=FULL")
            database.execute("CREATE TABLE one (number INTEGER)")
            database.execute("INSERT INTO one VALUES (1)")
            level = database.execute("PRAGMA synchronous").fetchone()[0]
        finally:
            database.close()
    if level != FULL:
        return Check(
            "durability", "failed", f"SQLite's synchronous stays at {level} here", "reinstall Python"
        )
    if kind in VANISHING:
        return Check(
            "durability",
            "warning",
            f"{folder} is on {kind}: what is written there is gone with the machine or its container",
            "keep the workspace on a disk: set ALPHAPANDA_HOME",
        )
    return Check(
        "durability", "ok", "a commit with synchronous=FULL goes through" + (f" ({kind})" if kind else "")
    )


def filesystem(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """The kind of file system a folder is on; "" where that is not known."""
    if sys.platform != "linux":
        return ""
    best, kind = -1, ""
    with contextlib.suppress(OSError, IndexError):
        for line in mounts.read_text("utf-8", "replace").splitlines():
            before, _, after = line.partition(" - ")
            point = Path(before.split()[4].replace("\\040", " "))
            if folder.resolve().is_relative_to(point) and len(point.parts) >= best:
                best, kind = len(point.parts), after.split()[0]
    return kind


def disk(workspace: Workspace) -> Iterator[Check]:
    """Room for the day."""
    free = shutil.disk_usage(workspace.home).free / 1e9
    state: State = "failed" if free < DISK_FULL else "warning" if free < DISK_LOW else "ok"
    fix = "" if state == "ok" else f"free some: tapes and logs lie in {workspace.home}"
    yield Check("disk", state, f"{free:,.1f} GB free", fix)


async def server(settings: Settings, workspace: Workspace, namespace: str) -> list[Check]:
    """Whether the state server keeps what it acknowledges, as money needs it."""
    try:
        from alphapanda.server import address, embedded, find_binary
        from alphapanda.state.client import open_client
        from alphapanda.state.safety import inspect, refuse_unsafe
    except ImportError as error:
        return [Check("server", "failed", f"{error.name} is not installed", "pip install 'alphapanda[live]'")]
    where = address(workspace, settings)
    try:
        if embedded(settings) and not workspace.server_socket.exists():
            binary = find_binary()
            text = f"ours, valkey or redis {binary.version}: starts with the hub, every write on disk in a second"
            return [Check("server", "ok", text)]
        client = open_client(where, settings.redis)
        try:
            found = await inspect(client)
        finally:
            await client.aclose()
        refuse_unsafe(found, namespace)
    except AlphaPandaException as error:
        return [Check("server", "failed", error.message, error.fix)]
    text = f"{found.version}: appendonly {found.appendonly}, {found.appendfsync}, {found.maxmemory_policy}"
    return [Check("server", "ok", text)]


# ── what may be lost ─────────────────────────────────────────────────────────────────────────────────────────────


def limits(settings: Settings) -> Iterator[Check]:
    """Whether a person chose the limits: the defaults know nothing of an account's size."""
    risk = settings.risk
    left = [
        f"RISK__{name.upper()}={getattr(risk, name):.12g}"
        for name in OWN_LIMITS
        if name not in risk.model_fields_set
    ]
    shown = f"{risk.max_daily_loss:,.0f} rupees of loss a day, {risk.max_order_notional:,.0f} an order"
    if left:
        fix = f"set them, if only to what they are: {' '.join(left)}"
        yield Check("limits", "warning", f"{shown}; {len(left)} are defaults that nobody chose", fix)
    else:
        yield Check("limits", "ok", shown)


def kill_level(workspace: Workspace, namespace: str) -> Iterator[Check]:
    """Whether orders may pass: neither the halt flag nor a kill level stands."""
    fix = f"if its reason is gone: alphapanda kill {namespace} --lift REASON"
    flag = workspace.halt_flag(namespace)
    if flag.exists():
        why = "its file cannot be read"
        with contextlib.suppress(OSError, msgspec.DecodeError, AttributeError):
            said = msgspec.json.decode(flag.read_bytes(), type=dict[str, object])
            why = f"{said.get('reason', 'no reason')} (by {said.get('by', 'nobody')})"
        yield Check("kill switch", "failed", f"{namespace} is halted: {safe_text(why, 200)}", fix)
        return
    level = fact_on_file(orders_file(workspace, namespace), "level")
    if level not in ("", "0"):
        yield Check("kill switch", "failed", f"{namespace} stands at kill level {level}", fix)
    else:
        yield Check("kill switch", "ok", "not pulled: kill level 0")


def unsettled(workspace: Workspace, namespace: str, day: dt.date) -> Iterator[Check]:
    """Orders of earlier days that the broker's book, which forgets at night, can no longer settle."""
    earlier = [
        one for one in intents_on_file(orders_file(workspace, namespace)) if ist(one.created).date() < day
    ]  # fmt: skip
    doubtful = [one for one in earlier if one.state in DOUBTFUL]
    unsent = [one for one in earlier if one.state == CREATED]
    if doubtful:
        fix = f"compare with that day's contract note, then `alphapanda reconcile {namespace}`"
        yield Check("open orders", "failed", f"nobody knows what became of {_listed(doubtful)}", fix)
    if unsent:
        yield Check(
            "unsent orders",
            "warning",
            f"never left, and expire: {_listed(unsent)}",
            "nothing: they are not sent",
        )
    if not (doubtful or unsent):
        yield Check("open orders", "ok", "none of earlier days")


def _listed(intents: list[Intent]) -> str:
    named = [
        f"{one.side} {abs(one.quantity)} {one.symbol} of {ist(one.created):%d %b %H:%M} ({one.state}, tag {one.tag})"
        for one in intents[:SHOWN]
    ]
    more = f" and {len(intents) - SHOWN} more" if len(intents) > SHOWN else ""
    return "; ".join(named) + more


class Word(NamedTuple):
    """What the broker's answer to an order said of our address, and when (IST)."""

    refused: bool
    said: str
    when: str


def last_word_on_address(workspace: Workspace, namespace: str) -> Word | None:
    """Of the last order that told: one refused for its address, or one that the broker has. None: no order told."""
    sent = [one for one in intents_on_file(orders_file(workspace, namespace)) if one.sent]
    for one in sorted(sent, key=lambda intent: -intent.sent):
        when = f"{ist(one.sent):%d %b %H:%M} IST"
        if one.order_id:
            return Word(refused=False, said="", when=when)
        if one.state == REJECTED and any(word in one.reason.lower() for word in IP_WORDS):
            return Word(refused=True, said=safe_text(one.reason, 200), when=when)
    return None


# ── reading beside the writer ────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def _read(path: Path) -> Generator[sqlite3.Connection]:
    database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=2.0)
    try:
        yield database
    finally:
        database.close()


def intents_on_file(path: Path) -> list[Intent]:
    """All intents of an account, the oldest first."""
    if not path.exists():
        return []
    with _read(path) as database:
        return [
            _INTENT.decode(body) for (body,) in database.execute("SELECT body FROM intent ORDER BY rowid")
        ]


def fact_on_file(path: Path, name: str) -> str:
    """A fact of the store; "" if there is none."""
    if not path.exists():
        return ""
    with _read(path) as database:
        found = database.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
    return str(found[0]) if found else ""

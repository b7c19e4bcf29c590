"""A workspace: the folder whose notebooks share one hub, and where everything that hub keeps lies.

    .alphapanda/
      tapes/      what the feed published, one log and one sealed tape a day
      journal/    one SQLite file a namespace: signals and what became of them
      runs/       one folder a run: the strategy's module and run.json
      server/     the embedded server's data
      logs/       five channels of JSON lines
      promotions.*  who let what trade with money: the record (unless it is in PostgreSQL), and its newest number
      halt/       one file a halted namespace: the kill switch, which needs no other process to work
      bus.key     what messages that lead to orders are sealed with

Sockets lie in a short folder of their own under the system's temporary folder: their paths may have 107 characters.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec

from alphapanda.errors import InfrastructureError, ValidationError

VARIABLE = "ALPHAPANDA_HOME"
NAME = ".alphapanda"
OFFERED = "offered.json"
HALT = 2  # the level of the kill switch that stops new orders and lets cancels pass


class Workspace:
    """Paths of one workspace; folders are made when first asked for, readable by their owner alone."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    @classmethod
    def find(cls, root: str | os.PathLike[str] | None = None) -> Workspace:
        """The workspace of ``root``, else of the variable ALPHAPANDA_HOME, else of the current folder."""
        return cls(Path(root or os.environ.get(VARIABLE) or Path.cwd()))

    def __repr__(self) -> str:
        return f"Workspace({str(self.root)!r})"

    @cached_property
    def home(self) -> Path:
        """``.alphapanda`` in the root; it tells git itself not to look."""
        home = self._made(self.root / NAME)
        ignore = home / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", "utf-8")
        return home

    @cached_property
    def runtime(self) -> Path:
        """Where this workspace's sockets lie: short, private to the user, the same for every process."""
        digest = hashlib.blake2b(str(self.root).encode(), digest_size=6).hexdigest()
        folder = Path(tempfile.gettempdir()) / f"alphapanda-{os.getuid()}-{digest}"
        self._made(folder)
        if folder.stat().st_uid != os.getuid() or folder.is_symlink():
            raise InfrastructureError(
                f"{folder} belongs to somebody else", fix="remove it, or set TMPDIR to a folder of your own"
            )
        return folder

    @property
    def server_socket(self) -> Path:
        """The embedded server's socket."""
        return self.runtime / "server.sock"

    @property
    def hub_socket(self) -> Path:
        """Where the hub takes commands."""
        return self.runtime / "hub.sock"

    @property
    def hub_lock(self) -> Path:
        """Held by the one hub of this workspace."""
        return self.home / "hub.lock"

    @property
    def hub_file(self) -> Path:
        """Who that hub is: JSON with pid and start."""
        return self.home / "hub.json"

    @property
    def bus_key(self) -> Path:
        """What messages that lead to orders are sealed with: made by the hub, for this workspace's processes alone."""
        return self.home / "bus.key"

    @property
    def server_dir(self) -> Path:
        """The embedded server's data."""
        return self._made(self.home / "server")

    @property
    def tapes(self) -> Path:
        """Logs and sealed tapes of the feed."""
        return self._made(self.home / "tapes")

    @property
    def runs(self) -> Path:
        """One folder a run."""
        return self._made(self.home / "runs")

    @property
    def logs(self) -> Path:
        """The log channels, unless the settings name another folder."""
        return self._made(self.home / "logs")

    def journal(self, namespace: str) -> Path:
        """The journal of one namespace."""
        return self._made(self.home / "journal") / f"{checked(namespace)}.sqlite"

    def halt_flag(self, namespace: str) -> Path:
        """While this file exists the namespace takes no order; its JSON says why, who and when."""
        return self._made(self.home / "halt") / checked(namespace)

    def offered(self) -> list[str]:
        """Roles that the hub keeps beside what trades, now and with every hub to come."""
        try:
            return msgspec.json.decode((self.home / OFFERED).read_bytes(), type=list[str])
        except (OSError, msgspec.MsgspecError):
            return []

    def offer(self, roles: list[str]) -> None:
        """Write down which those are."""
        replace_file(self.home / OFFERED, msgspec.json.encode(roles))

    def halts(self) -> dict[str, dict[str, Any]]:
        """Namespaces that a kill switch holds: level, reason, by, at. A flag nobody can read holds like any other."""
        found: dict[str, dict[str, Any]] = {}
        for flag in sorted(self.halt_flag("paper").parent.iterdir()):
            if flag.name.startswith("."):
                continue
            try:
                found[flag.name] = msgspec.json.decode(flag.read_bytes(), type=dict[str, Any])
            except FileNotFoundError:
                continue
            except (OSError, msgspec.MsgspecError):
                found[flag.name] = {"level": HALT, "reason": "the flag is damaged"}
        return found

    def raise_halt(self, namespace: str, level: int, reason: str, by: str, at: int) -> int:
        """Write the flag: 1 only reduces, 2 nothing new, 3 cancels entries, 4 closes positions, 5 logs out. A stricter
        one keeps its level, an unreadable one counts as 2. ``at`` is wall ns. Returns the level that stands. Raises
        OSError."""
        flag, standing = self.halt_flag(namespace), 0
        try:
            found = msgspec.json.decode(flag.read_bytes(), type=dict[str, Any]).get("level")
            standing = found if isinstance(found, int) else HALT
        except FileNotFoundError:
            pass
        except (OSError, msgspec.MsgspecError):
            standing = HALT
        level = max(level, standing)
        told = {"level": level, "reason": reason, "by": by, "at": at}
        replace_file(flag, msgspec.json.encode(told))
        return level

    @staticmethod
    def _made(folder: Path) -> Path:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise InfrastructureError(
                f"{folder} cannot be made: {error.strerror}",
                fix=f"work in a folder of your own, or set {VARIABLE} to one",
            ) from None
        return folder


def checked(namespace: str) -> str:
    """A namespace as it may stand in keys, topics and file names: small letters, digits, ``_`` and ``-``."""
    if (
        not namespace
        or not namespace.replace("_", "").replace("-", "").isalnum()
        or namespace != namespace.lower()
    ):
        raise ValidationError(
            f"namespace {namespace!r}", fix="use small letters and digits, such as paper", code="E_LANE"
        )
    return namespace


State = Literal["starting", "running", "stopped", "halted", "failed"]


class RunSpec(msgspec.Struct, kw_only=True):
    """What a runner is started from, kept as ``run.json`` beside the strategy's module.

    ``digest`` covers the module's text. ``warm_from`` and ``trade_from`` are set by the run's first start: the number
    of the frame before the first it sees, and the tape time from which its callbacks run; earlier ticks only warm up.
    ``wanted`` is what the person asked for: a hub that starts again runs those that are wanted and lets the others lie.
    ``limits`` are fields of ``risk.Limits`` that hold for this run beside its namespace's. Without ``auto_resume`` it
    comes back paused after its runner or gateway was away; from ``approved_until`` on it opens nothing (0: it needs no
    approval).
    """

    run: str
    namespace: str
    name: str
    class_name: str
    digest: str
    parameters: dict[str, Any] = {}
    symbols: list[str] = []
    capital: int = 0  # paise
    seed: int = 0
    client: str = ""
    detached: bool = False
    limits: dict[str, Any] | None = None
    auto_resume: bool = True
    approved_until: int = 0  # wall ns
    warm_from: int = -1
    trade_from: int = 0
    wanted: bool = True
    state: State = "starting"
    reason: str = ""
    started: int = 0  # wall ns

    @classmethod
    def read(cls, folder: Path) -> RunSpec:
        """The spec in a run's folder."""
        return msgspec.json.decode((folder / "run.json").read_bytes(), type=cls)

    def write(self, folder: Path) -> None:
        """Keep it, whole or not at all."""
        replace_file(folder / "run.json", msgspec.json.format(msgspec.json.encode(self)))


def replace_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, readable by its owner alone."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)

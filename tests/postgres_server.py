"""A real PostgreSQL for tests: on a socket in a short folder, without fsync, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import psycopg

USER = "alphapanda"


def programs() -> Path | None:
    """The folder of ``initdb``, newest version first; None where PostgreSQL is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


class Postgres:
    """One running server; ``database()`` gives the address of something empty in it."""

    def __init__(self, bin_folder: Path) -> None:
        self._bin, self._made = bin_folder, 0
        self._address = f"postgresql://{USER}@/postgres"
        self._account: dict[str, Any] = {}
        self.folder = Path(tempfile.mkdtemp(prefix="ap-pg-", dir="/tmp"))
        if os.getuid() == 0:  # which PostgreSQL refuses
            names = {entry.pw_name: entry for entry in pwd.getpwall()}
            entry = names.get("postgres") or names["nobody"]
            self._account = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
        data = str(self.folder / "data")
        try:
            self._run(
                "initdb", "-D", data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"
            )
            options = f"-k {self.folder} -c listen_addresses= -c fsync=off -c max_connections=30"
            log = str(self.folder / "log")
            self._run("pg_ctl", "-D", data, "-l", log, "-o", options, "-w", "start")
        except BaseException:
            shutil.rmtree(self.folder)
            raise

    def database(self) -> str:
        """The address of a schema of its own, which takes a hundredth of the time that a database takes."""
        self._made += 1
        name = f"ledger{self._made}"
        with psycopg.connect(f"{self._address}?host={self.folder}", autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}".encode())
        return f"{self._address}?host={self.folder}&options=-csearch_path%3D{name}"

    def close(self) -> None:
        """Stop it and remove its folder."""
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "stop")
        shutil.rmtree(self.folder)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._bin / program, *arguments],
            check=True,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            **self._account,
        )

"""The database of the record: SQLite in the workspace, or PostgreSQL; its transactions and its migrations.

Every transaction is exclusive: two writers stand in line, so that both cannot follow the same record. No error names
the address of a PostgreSQL server, whose password is in it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from alphapanda.errors import ConfigurationError, DatabaseError
from alphapanda.settings import DatabaseSettings

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_SECONDS = 30.0  # a writer waits so long for another
LOCK = 0x616C7061  # the number all of us lock in PostgreSQL while we write


class Database:
    """One open database, migrated to what this version knows. Connections live as long as a transaction."""

    def __init__(self, settings: DatabaseSettings, root: Path) -> None:
        """Relative paths are below ``root``. DatabaseError where it cannot be used, or is of a later version;
        ConfigurationError where the address is none."""
        url = settings.postgres_url
        self._name = "the PostgreSQL database" if url else str(root / settings.sqlite_path)
        with self._told():
            self.engine = _postgres(url.get_secret_value()) if url else _sqlite(root / settings.sqlite_path)
        try:
            with self.transaction() as connection:
                _migrate(connection, self._name)
        except BaseException:
            self.close()
            raise

    @contextlib.contextmanager
    def transaction(self) -> Generator[sa.Connection]:
        """All of it or nothing, one at a time. DatabaseError means nothing."""
        with self._told(), self.engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
            yield connection

    def close(self) -> None:
        """Let go of it."""
        self.engine.dispose()

    @contextlib.contextmanager
    def _told(self) -> Generator[None]:
        """SQLAlchemy's errors in our words, without theirs where those may hold an address."""
        try:
            yield
        except SQLAlchemyError as error:
            origin = getattr(error, "orig", None)
            state = getattr(origin, "sqlstate", None) or ""
            fault = f"{type(origin or error).__name__} {state}".strip()
            if "only added to" in str(origin):
                fault = "its rows are only added to"
        else:
            return
        raise DatabaseError(
            f"{self._name} cannot be used: {fault}",
            fix="see that DATABASE__POSTGRES_URL is right and its server answers, or that the file's disk has room",
        )


def _sqlite(path: Path) -> sa.Engine:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise DatabaseError(
            f"{path} cannot be opened: {error.strerror}", fix="set DATABASE__SQLITE_PATH to a file of yours"
        ) from None
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        poolclass=NullPool,
        hide_parameters=True,
        connect_args={"timeout": BUSY_SECONDS},
    )

    def connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        connection.execute("PRAGMA synchronous=FULL")

    def begun(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)
    return engine


def _postgres(address: str) -> sa.Engine:
    fix = "write DATABASE__POSTGRES_URL as postgresql://HOST/NAME, with user and password before an @"
    with contextlib.suppress(ValueError, SQLAlchemyError):
        url = sa.make_url(address)
        if url.get_backend_name() == "postgresql":
            try:
                return sa.create_engine(
                    url.set(drivername="postgresql+psycopg"), poolclass=NullPool, hide_parameters=True
                )
            except ImportError:
                fix = "pip install 'alphapanda[postgres]'"
    raise ConfigurationError("DATABASE__POSTGRES_URL cannot be used", fix=fix)


def _migrate(connection: sa.Connection, name: str) -> None:
    """Bring the tables to what this version knows, inside the transaction."""
    script = ScriptDirectory(str(MIGRATIONS))
    known = {revision.revision for revision in script.walk_revisions()}

    def upgrade(found: Any, _context: Any) -> Any:
        stranger = [
            revision for revision in ([found] if isinstance(found, str) else found) if revision not in known
        ]
        if stranger:
            raise DatabaseError(
                f"{name} was made by a later version of Alpha Panda (revision {stranger[0]})",
                fix="upgrade: pip install --upgrade alphapanda",
            )
        return script._upgrade_revs("head", found)  # pyright: ignore[reportPrivateUsage] - as Alembic's own `upgrade` does

    with EnvironmentContext(Config(), script, fn=upgrade) as environment:
        environment.configure(connection=connection)
        environment.run_migrations()

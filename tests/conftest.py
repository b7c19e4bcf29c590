"""What several test modules share."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keyring
import pytest
import redis
from keyring.backends.fail import Keyring as NoKeyring

from alphapanda.server import Server
from alphapanda.workspace import Workspace
from tests.postgres_server import Postgres, programs

if TYPE_CHECKING:
    from tests.test_card import Desk


keyring.set_keyring(NoKeyring())  # asked first, it would take the best that any test defines, and keep it


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real samples that do not come with the project: used where ``shared/data`` stands beside the repository."""
    beside = (parent / "shared" / "data" for parent in Path(__file__).parents)
    found = next((folder for folder in beside if folder.is_dir()), None)
    if found is None:
        pytest.skip("real samples are not part of the project")
    return found


class OwnValkey:
    """A real server in a workspace of its own. Start it again after ``kill`` or ``stop``: it keeps its data."""

    def __init__(self, root: Path) -> None:
        self.workspace = Workspace(root)
        self.server = Server(self.workspace)

    @property
    def socket(self) -> Path:
        return self.server.socket

    @property
    def pid(self) -> int:
        assert self.server.pid is not None
        return self.server.pid

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.socket))

    def start(self) -> None:
        """Running already: nothing happens."""
        self.server.start()

    def kill(self) -> None:
        """As a power switch for the process: no farewell."""
        os.kill(self.pid, signal.SIGKILL)
        while self.server.alive:
            pass

    def stop(self) -> None:
        self.server.stop()

    def config(self, name: str, value: object) -> None:
        """CONFIG SET."""
        with self.client() as client:
            client.config_set(name, str(value))

    def flush(self) -> None:
        """FLUSHALL."""
        with self.client() as client:
            client.flushall()

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.workspace.runtime)


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnValkey]:
    """One running server for all tests of this worker: ``.socket``, ``.pid``, ``.flush()``. Leave it running."""
    own = OwnValkey(tmp_path_factory.mktemp("valkey"))
    own.start()
    yield own
    own.close()


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[OwnValkey]:
    """A running server for one test, to kill, flood or misconfigure."""
    own = OwnValkey(tmp_path)
    own.start()
    yield own
    own.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One running PostgreSQL for all tests of this worker."""
    found = programs()
    if found is None:
        if "POSTGRES_REQUIRED" in os.environ:
            pytest.fail("PostgreSQL has to be installed here")
        pytest.skip("needs PostgreSQL's initdb")
    server = Postgres(found)
    yield server
    server.close()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Callable[[], dict[str, Any]]:
    """Makes settings of an empty database: every test that asks runs on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        return dict
    server: Postgres = request.getfixturevalue("postgres")
    return lambda: {"postgres_url": server.database()}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Desk]":
    """One JupyterLab, browser and hub for the tests of a module that look at cells. Not for longer: an open
    browser keeps an event loop running in this thread."""
    from tests.test_card import opened

    with opened(tmp_path_factory.mktemp("desk")) as made:
        yield made

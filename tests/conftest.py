"""Fixtures that every test may use. A server is started only where a test asks for it."""

import itertools
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import pytest
from hypothesis import HealthCheck, settings

from tests.harness import replication, roles
from tests.harness.certs import Authority
from tests.harness.loop import GoodbyeLoop
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy

MakeProxy: TypeAlias = Callable[..., Proxy]
Watcher: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


# Neither how long an example takes nor how soon there is one says anything about the code on a machine that others use.
settings.register_profile("curfew", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("curfew")


def pytest_configure() -> None:
    """End a run on SIGTERM (a time limit of CI's, say) as on Ctrl-C: with everything that it started taken down.

    Ctrl-C itself means what it should, for what the tests start too, where a shell's `&` has the run ignore it.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], GoodbyeLoop]]:
    """The event loop of the asynchronous tests (pytest-asyncio's hook)."""
    return {"asyncio": GoodbyeLoop}


_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The tests' certificate authority."""
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def postgres(ca: Authority) -> Iterator[Cluster]:
    """A PostgreSQL with the logins of `tests.harness.roles`, shared by a worker's tests. Leave it as you found it."""
    with Cluster(ca) as cluster:
        roles.install(cluster)
        yield cluster


@pytest.fixture
def own_postgres(ca: Authority) -> Iterator[Cluster]:
    """A PostgreSQL of the test's own, to stop, kill and configure; every statement is in its csvlog."""
    with Cluster(ca, log_statements=True) as cluster:
        roles.install(cluster)
        yield cluster


@pytest.fixture
def database(postgres: Cluster) -> Iterator[str]:
    """The name of an empty database on `postgres`, owned by `roles.APP`, dropped after the test."""
    name = f"test_{next(_numbers)}"
    roles.create_database(postgres, name)
    yield name
    roles.drop_database(postgres, name)


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    """A file of mode 0600 to put a secret into."""
    path = tmp_path / "secret"
    path.touch(mode=0o600)
    return path


@pytest.fixture(scope="session")
def sockets() -> Iterator[Path]:
    """A folder that everybody may enter, with a path short enough for unix(7)."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="session")
def proxy(postgres: Cluster, ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy in front of `postgres`, shared by a worker's tests, as deploy's defaults have it. Leave it running."""
    with Proxy(cluster=postgres, ca=ca, folder=tmp_path_factory.mktemp("proxy")) as started:
        yield started


@pytest.fixture(scope="session")
def replicated(ca: Authority) -> Iterator[Cluster]:
    """A PostgreSQL that may be replicated from and logs each command; `postgres` has no WAL for it. Shared as that."""
    with replication.cluster(ca) as cluster:
        replication.install(cluster)
        yield cluster


@pytest.fixture(scope="session")
def replicator(replicated: Cluster, ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy in front of it, with a profile that may replicate."""
    with replication.proxy(replicated, ca, tmp_path_factory.mktemp("replicator")) as started:
        yield started


@pytest.fixture
def make_proxy(ca: Authority, tmp_path: Path) -> Iterator[MakeProxy]:
    """Makes and starts proxies of the test's own, with changed options; they are ended after it."""
    made: list[Proxy] = []

    def make(cluster: Cluster, **changed: Any) -> Proxy:  # noqa: ANN401 any field of Proxy
        made.append(Proxy(cluster=cluster, ca=ca, folder=tmp_path / f"proxy{len(made)}", **changed))
        return made[-1].start()

    yield make
    for one in made:
        one.close()


@pytest.fixture
async def watcher(postgres: Cluster) -> AsyncIterator[Watcher]:
    """The superuser's own connection to `postgres`, past every proxy."""
    connection = await postgres.connect()
    yield connection
    await connection.close()

"""One stand for the tests of a module: leave it running, with nobody in it."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.conftest import Watcher
from tests.harness import roles
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.integration.whole.stand import Whole


@pytest.fixture(scope="module")
def cluster(ca: Authority) -> Iterator[Cluster]:
    """A PostgreSQL that logs each connection and each statement."""
    with Cluster(ca, log_statements=True, settings={"log_connections": "on"}) as started:
        roles.install(started)
        yield started


@pytest.fixture(scope="module")
def whole(cluster: Cluster, ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    """The stand."""
    with Whole(cluster, ca, tmp_path_factory.mktemp("whole")) as running:
        yield running


@pytest.fixture
async def behind(cluster: Cluster) -> AsyncIterator[Watcher]:
    """The superuser's own connection to PostgreSQL, past the proxy."""
    connection = await cluster.connect()
    yield connection
    await connection.close()

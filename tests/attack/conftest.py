"""A proxy in front of a PostgreSQL that logs who connects and what is run."""

from collections.abc import Iterator

import pytest

from tests.harness import roles
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy


@pytest.fixture(scope="session")
def logging_postgres(ca: Authority) -> Iterator[Cluster]:
    """A PostgreSQL that logs who connects, and every statement."""
    with Cluster(ca, log_statements=True, settings={"log_connections": "on"}) as cluster:
        roles.install(cluster)
        yield cluster


@pytest.fixture(scope="session")
def guarded(logging_postgres: Cluster, ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy in front of it."""
    with Proxy(cluster=logging_postgres, ca=ca, folder=tmp_path_factory.mktemp("guarded")) as proxy:
        yield proxy

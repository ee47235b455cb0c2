"""A stand for each test, on a PostgreSQL that logs every statement."""

import itertools
from collections.abc import Iterator

import pytest

from tests.clients.stand import Stand
from tests.harness import roles
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy, new_grant_id

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def logged_postgres(ca: Authority) -> Iterator[Cluster]:
    """A PostgreSQL whose csvlog has every statement; shared by a worker's client tests."""
    with Cluster(ca, log_statements=True) as cluster:
        roles.install(cluster)
        yield cluster


@pytest.fixture(scope="session")
def logged_proxy(logged_postgres: Cluster, ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy in front of it."""
    with Proxy(cluster=logged_postgres, ca=ca, folder=tmp_path_factory.mktemp("clients")) as proxy:
        yield proxy


@pytest.fixture
def stand(logged_postgres: Cluster, logged_proxy: Proxy) -> Iterator[Stand]:
    """A person's grant and database."""
    database, grant = f"client_{next(_numbers)}", new_grant_id()
    roles.create_database(logged_postgres, database)
    yield Stand(
        cluster=logged_postgres,
        proxy=logged_proxy,
        database=database,
        grant=grant,
        token=logged_proxy.token(id=grant),
    )
    roles.drop_database(logged_postgres, database)

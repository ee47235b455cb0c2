"""A PostgreSQL that takes connections in clear, and a proxy before it on whose legs everything can be heard."""

from collections.abc import Iterator

import pytest

from tests.harness import roles
from tests.harness.certs import Authority
from tests.harness.digest import Tapped, tapped
from tests.harness.postgres import Cluster

DATABASE = "work"


@pytest.fixture(scope="package")
def clear(ca: Authority) -> Iterator[Cluster]:
    """Such a PostgreSQL."""
    with Cluster(ca, hba=["host all all 127.0.0.1/32 scram-sha-256"]) as cluster:
        roles.install(cluster)
        yield cluster


@pytest.fixture(scope="package")
def legs(clear: Cluster, ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tapped]:
    """Such a proxy, both legs in clear, and a database to work in."""
    roles.create_database(clear, DATABASE)
    with tapped(clear, ca, tmp_path_factory.mktemp("tapped"), database=DATABASE) as made:
        yield made

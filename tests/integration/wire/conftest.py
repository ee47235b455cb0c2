"""A PostgreSQL that takes connections in clear, so that both legs of a proxy can be listened to."""

from collections.abc import Iterator

import pytest

from tests.harness import roles
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster


@pytest.fixture(scope="package")
def clear(ca: Authority) -> Iterator[Cluster]:
    """Such a one."""
    with Cluster(ca, hba=["host all all 127.0.0.1/32 scram-sha-256"]) as cluster:
        roles.install(cluster)
        yield cluster

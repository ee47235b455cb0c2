"""Fixtures that every test may use. A server is started only where a test asks for it."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import roles
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster

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

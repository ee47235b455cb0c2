"""A proxy that has on record what COPY takes, a database behind it, and the stand on both."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy
from tests.rerun.stand import ACCESS, Stand


@pytest.fixture(scope="package")
def recording(postgres: Cluster, ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """The proxy, shared by these tests."""
    folder = tmp_path_factory.mktemp("recording")
    with Proxy(cluster=postgres, ca=ca, folder=folder, target={"access": ACCESS}) as started:
        yield started


@pytest.fixture
def stand(recording: Proxy, database: str, tmp_path: Path) -> Iterator[Stand]:
    """An empty database that the profile's login owns."""
    made = Stand(cluster=recording.cluster, proxy=recording, database=database, folder=tmp_path)
    yield made
    made.close()

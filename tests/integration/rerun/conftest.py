"""A database behind a proxy, and the stand on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MakeProxy
from tests.harness.postgres import Cluster
from tests.rerun.stand import ACCESS, Stand


@pytest.fixture
def stand(postgres: Cluster, database: str, make_proxy: MakeProxy, tmp_path: Path) -> Iterator[Stand]:
    """An empty database that the profile's login owns."""
    proxy = make_proxy(postgres, database=database, target={"access": ACCESS})
    made = Stand(cluster=postgres, proxy=proxy, database=database, folder=tmp_path)
    yield made
    made.close()

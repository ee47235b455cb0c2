"""What became of each statement, as the records tell it and as the tables do."""

from collections import Counter

import pytest

from tests.conftest import MakeProxy
from tests.harness import roles
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy
from tests.integration.transactions import workload

SEEDS = range(4)


@pytest.fixture
def proxy(make_proxy: MakeProxy, postgres: Cluster, database: str) -> Proxy:
    """A proxy in front of the tables."""
    postgres.psql(f"SET ROLE {roles.APP.user}; {workload.SCHEMA}", database=database)
    return make_proxy(postgres, database=database)


async def test_random_sessions(proxy: Proxy, postgres: Cluster, database: str) -> None:
    """Never "committed" of what is not there, nor "rolled back" of what is; and each is said of something."""
    total: Counter[str] = Counter()
    for seed in SEEDS:
        wrong, counts = await workload.contradictions(proxy, postgres, database, seed)
        assert not wrong
        total += counts
    assert set(total) == {"committed", "rolled back", "in doubt", "partly committed", "None"}
    assert total["committed"] > total["in doubt"]

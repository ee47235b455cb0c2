"""TPC-B by several clients at once, run again on a clone."""

import pytest

from tests.rerun import workloads
from tests.rerun.stand import Stand


@pytest.mark.parametrize(("mode", "clients", "transactions"), [("simple", 2, 100), ("prepared", 3, 20)])
def test_pgbench(stand: Stand, mode: str, clients: int, transactions: int) -> None:
    """All statements go as they had, and both databases dump the same."""
    said = workloads.pgbench(stand, mode=mode, clients=clients, transactions=transactions)
    assert said["differences"] == []
    assert said["run"] >= clients * 7 * transactions
    one, other = stand.dumps()
    assert one == other

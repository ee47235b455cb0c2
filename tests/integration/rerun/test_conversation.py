"""Whatever a client of the protocol may say, run again on a clone."""

import pytest

from tests.rerun import workloads
from tests.rerun.stand import Stand


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_random_conversation(stand: Stand, seed: int) -> None:
    """All statements go as they had, and both databases dump the same."""
    said = await workloads.conversation(stand, seed=seed, people=3, turns=150)
    assert said["differences"] == []
    assert said["lost"] == []
    one, other = stand.dumps()
    assert one == other
